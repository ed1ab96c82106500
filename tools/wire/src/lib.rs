//! Where Ethernet frames go when they leave a virtual NIC.
//!
//! | module | |
//! |---|---|
//! | [`lane`] | a wire inside the process that loses, reorders, duplicates, corrupts and delays, repeatable for a seed |
//! | [`port`] | the end of a wire to another process: unix sockets as QEMU speaks them, and TAP |
//! | [`pcap`] | frames into a pcapng file |
//! | [`random`] | numbers for all that happens by chance |
//!
//! A frame is a destination address, a source address, a type and a payload: no preamble, no check sequence.

pub mod lane;
pub mod pcap;
pub mod port;
pub mod random;
mod tap;

pub use lane::{Impairments, Lane, LaneCounters};
pub use pcap::{Direction, PcapWriter};
pub use port::{Port, PortCounters, PortError};
pub use random::Random;
