//! What can be seen of a running driver: captures of its frames.

mod pcap;

pub use pcap::{Direction, PcapWriter};
