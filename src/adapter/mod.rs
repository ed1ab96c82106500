//! One function brought up: firmware's demands served, its objects logged, its events collected, torn down in order.

mod log;

pub use log::{Handle, ObjectLog, Refused};
