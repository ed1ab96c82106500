//! Ethernet, ARP and IPv4: what lies between a frame and a TCP segment.
//!
//! ```text
//!  received:  first bytes of a frame ─► Interface::receive ─► Tcp { four-tuple, header, where the payload is }
//!                                            │                 or what it was and why it was dropped
//!                                            └► ARP: cache and answers
//!  to send:   four-tuple + header + payload ─► Interface::emit_tcp ─► L2 to L4 headers in the caller's buffer
//!             ARP requests and answers      ◄─ Interface::poll_tx
//! ```
//!
//! Only headers are read: the caller copies the front of a frame out ([`HEADROOM`] bytes are always enough), and the rest
//! may be anywhere. No field of a frame is trusted: every length is checked against what was received, and every frame
//! that goes no further is counted under its reason ([`DropReason`]).
//!
//! Addresses are [`std::net::IpAddr`] wherever a connection is named, and neighbours are kept by such an address. IPv6
//! needs a header codec beside `ipv4`, neighbour discovery beside `arp` and two arms in `interface`; nothing above `net`
//! changes.

pub mod arp;
pub mod checksum;
pub mod ethernet;
mod interface;
pub mod ipv4;
mod neighbor;

pub use ethernet::MacAddr;
pub use interface::{
    Checksum, Counters, DropReason, EmitError, Interface, InterfaceConfig, InterfaceError, Received, Resolution,
    TcpFrame,
};

/// Bytes of the longest chain of headers that is understood: Ethernet 14, IPv4 with all options 60, TCP with all options
/// 60. With IPv6 (40, no extension headers) it is less.
pub const HEADROOM: usize = 14 + 60 + 60;

/// Reads `N` bytes at `at`; `None` beyond the end.
fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..)?.first_chunk().copied()
}
