//! The `cxddp` binary: options, and what people see.

pub mod allocator;
pub mod bar;
pub mod ceiling;
pub mod demo;
pub mod device;
pub mod explain;
pub mod help;
mod json;
pub mod options;
pub mod probe;
pub mod read;
pub mod scale;
pub mod simulate;
pub mod stats;
mod text;
mod trace;
mod watch;
