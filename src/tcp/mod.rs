//! A user-space TCP, sans-IO: no clock, no socket, no allocation per segment, and payload it never touches.
//!
//! ```text
//!   frame ─► net: headers ─► Segment { header, payload by reference }
//!                                 │ on_segment(now)                     ┌─► recv(): (position, payload) in order
//!                                 ▼                                     │
//!                        Connection ── receive queue (references) ──────┘
//!                                 │ ── send queue (ring of bytes) ◄──────── send(bytes)
//!              poll_tx(now) ◄─────┘
//!   frame ◄─ net: headers ◄─ TxSegment { header, two slices of the ring }
//! ```
//!
//! What makes it different from a TCP for sockets is the receive side. The NIC may have written a segment's payload
//! straight into a reader's buffer, so a payload is something with a length that can be trimmed (trait [`Payload`]); it is
//! kept, ordered and trimmed by arithmetic, and handed on with the [`Position`] of its first byte, which the offload needs
//! (`nvme-tcp-offload.md` §6.3). Placement is not acceptance: what TCP refuses (duplicate, out of window, too old) goes
//! back to the caller and its bytes count for nothing, wherever the NIC put them.
//!
//! The caller owns time: every call takes `now`, a [`std::time::Duration`] since any epoch, and
//! [`Connection::next_deadline`] says when [`Connection::poll_tx`] must be called next although nothing came in.
//!
//! RFC 9293 is the base; also RFC 7323 (window scale, timestamps, PAWS), 6298 (timeout), 5961 (blind attacks), 6528
//! (initial sequence numbers); for a network that loses and reorders RFC 2018 and 2883 (SACK and D-SACK, both ways), 8985
//! (RACK-TLP), 6675 (what is sent again, and in which order), 9937 (how fast), 3522 and 3708 (undoing what was for nothing),
//! or with a peer without SACK RFC 6582 and 3042; for congestion RFC 9438 (CUBIC), 5681 and 6928. Left out: urgent data
//! (received and ignored), ECN, TCP Fast Open, path MTU discovery, F-RTO (timestamps and D-SACK tell the same), Nagle's
//! algorithm (requests must not wait).

mod config;
mod congestion;
mod connection;
mod counters;
mod isn;
mod receive;
mod recovery;
mod rtt;
pub mod segment;
mod send;
mod seq;

use std::net::IpAddr;

pub use config::{Config, ConfigError, Keepalive};
pub use congestion::CongestionControl;
pub use connection::{Connection, ConnectionError, State, TxSegment, Waited};
pub use counters::Counters;
pub use isn::IsnSecret;
pub use segment::{Flags, Header, Options, SackBlock, Segment, Timestamps};
pub use seq::Position;

/// Payload of a segment: something with a length that can be cut at both ends without being touched.
///
/// [`Frame`](crate::frame::Frame) is the one of the driver; tests use plain bytes. A payload that TCP does not deliver is
/// returned to the caller, never dropped, because it may own a receive buffer.
pub trait Payload {
    /// Bytes.
    fn len(&self) -> u32;
    /// True if no byte is left.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Drops `n` bytes at the front; `n` is at most the length.
    fn trim_front(&mut self, n: u32);
    /// Drops `n` bytes at the back; `n` is at most the length.
    fn trim_back(&mut self, n: u32);
}

impl Payload for crate::frame::Frame {
    #[inline]
    fn len(&self) -> u32 {
        crate::frame::Frame::len(self)
    }
    #[inline]
    fn trim_front(&mut self, n: u32) {
        crate::frame::Frame::trim_front(self, n);
    }
    #[inline]
    fn trim_back(&mut self, n: u32) {
        crate::frame::Frame::trim_back(self, n);
    }
}

/// Names a connection, from our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FourTuple {
    /// Our address.
    pub local: IpAddr,
    /// Our port.
    pub local_port: u16,
    /// The peer's address.
    pub remote: IpAddr,
    /// The peer's port.
    pub remote_port: u16,
}

#[cfg(test)]
pub(crate) mod testing {
    //! A payload of plain bytes.
    use super::Payload;

    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(crate) struct Bytes(std::ops::Range<usize>, Vec<u8>);

    impl Bytes {
        pub(crate) fn new(bytes: &[u8]) -> Bytes {
            Bytes(0..bytes.len(), bytes.to_vec())
        }
        pub(crate) fn to_vec(&self) -> Vec<u8> {
            self.1[self.0.clone()].to_vec()
        }
    }

    impl Payload for Bytes {
        fn len(&self) -> u32 {
            self.0.len() as u32
        }
        fn trim_front(&mut self, n: u32) {
            assert!(n <= self.len());
            self.0.start += n as usize;
        }
        fn trim_back(&mut self, n: u32) {
            assert!(n <= self.len());
            self.0.end -= n as usize;
        }
    }
}
