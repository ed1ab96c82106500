//! The `cxddp` binary: options, and what people see.

pub mod ceiling;
pub mod demo;
pub mod options;
pub mod probe;
mod text;
