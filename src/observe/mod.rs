//! What can be seen of a running driver: captures of its frames.

#[cfg(feature = "demo")]
pub use ethernet_wire::{Direction, PcapWriter};
