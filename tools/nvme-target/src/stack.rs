//! The seam between the target and a TCP.
//!
//! ```text
//!   Target ── Stack: frames and time ──► a TCP/IPv4 stack ──► Wire (frames out, cut as the script says)
//!   Connection ── Socket: one stream ──┘
//! ```
//!
//! The one that comes with this crate is smoltcp ([`SmoltcpStack`](crate::SmoltcpStack)): a reading of the RFCs that shares
//! nothing with the driver's. Another one shows what does not depend on it, or does what smoltcp does not (selective
//! acknowledgments), and is given to [`Target::with_stack`](crate::Target::with_stack).

use crate::wire::Wire;
use std::net::SocketAddrV4;
use std::time::Duration;

/// A TCP/IPv4 stack on an Ethernet link, with a fixed number of sockets that all listen on one port. Like the target it has
/// no clock of its own; time never goes backwards.
///
/// It is built from the target's [`Config`](crate::Config): addresses, MTU, port, buffers and number of sockets.
pub trait Stack: Send {
    /// Takes an Ethernet frame (without FCS) from the wire, to be looked at in the next [`poll`](Stack::poll). False if it
    /// was dropped, because too many wait or it is too long.
    fn receive(&mut self, frame: &[u8]) -> bool;

    /// Does what is due at `now`: received frames, timers, and segments for `wire` until that is congested.
    fn poll(&mut self, now: Duration, wire: &mut Wire);

    /// When [`poll`](Stack::poll) has work although no frame arrives and no socket is touched; `None`: never.
    fn next_deadline(&mut self, now: Duration) -> Option<Duration>;

    /// True while received frames wait.
    fn has_received(&self) -> bool;

    /// Sockets.
    fn sockets(&self) -> usize;

    /// Socket `index`, below [`sockets`](Stack::sockets).
    fn socket(&mut self, index: usize) -> &mut dyn Socket;

    /// The owner of socket `index` is done with what was: a new peer may come, as soon as the stack is done too. Does nothing
    /// while there is a peer, or somebody is in the handshake; called as often as the owner likes.
    fn listen(&mut self, index: usize);
}

/// One TCP socket: it listens, has a connection, and listens again once its owner is done with that.
pub trait Socket {
    /// The peer, from the end of the handshake until the connection is over as far as its owner is concerned (closed by both
    /// sides, reset, or given up).
    fn peer(&self) -> Option<SocketAddrV4>;

    /// Lets `take` look at the next received bytes in order; it returns how many it takes, and so does this. `None` at the
    /// end of the peer's stream.
    fn recv(&mut self, take: &mut dyn FnMut(&[u8]) -> usize) -> Option<usize>;

    /// Lets `fill` write into free room of the send buffer; it returns how many bytes it wrote, and so does this. 0 without
    /// a call if there is no room, or no more to be sent on this connection.
    fn send(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> usize) -> usize;

    /// Bytes of the stream that are queued and not acknowledged.
    fn unacknowledged(&self) -> usize;

    /// Ends this direction after what is queued (FIN).
    fn close(&mut self);

    /// Ends the connection at once (RST).
    fn abort(&mut self);
}
