//! What a shard tells its caller.

use super::{ConnectionId, Disconnect};
use crate::ddp::why::Reasons;
use crate::dma::IoBuf;
use crate::nvme::queue::DigestBy;
use crate::nvme::status::Status;

/// A request that is done.
#[derive(Debug)]
pub struct Completion {
    /// What the caller gave with the request.
    pub token: u64,
    /// How it went.
    pub status: Status,
    /// Bytes of a read that the device had put in place.
    pub placed: u32,
    /// Bytes of a read that software copied.
    pub copied: u32,
    /// Why software copied them.
    pub why_copied: Reasons,
    /// Who checked the data digests.
    pub digest_by: DigestBy,
    /// The caller's buffer. `None` only if the device may still write it (firmware refused to destroy its memory key, or
    /// does not work any more): it comes back with [`Closed::buffers`](super::Closed::buffers) if a reset makes it safe.
    pub buffer: Option<IoBuf>,
}

/// What happened.
#[derive(Debug)]
#[must_use = "buffers come back with events"]
pub enum Event {
    /// The admin connection is up: limits and namespaces are known, I/O queues may connect.
    ControllerReady(ConnectionId),
    /// The controller was shut down in order.
    ControllerDown(ConnectionId),
    /// An I/O queue takes requests.
    QueueReady(ConnectionId),
    /// A request is done.
    Completed(ConnectionId, Completion),
    /// A connection has ended; all its requests have completed before.
    Disconnected(ConnectionId, Disconnect),
}
