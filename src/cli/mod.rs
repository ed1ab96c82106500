//! The `cxddp` binary: options, and what people see.

pub mod demo;
pub mod explain;
pub mod options;
pub mod probe;
pub mod simulate;
pub mod stats;
mod text;
mod watch;
