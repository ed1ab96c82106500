//! `--device`: which function a command works on.

pub use connectx_ddp::platform::device::{Device, VfioArgs, Work};
