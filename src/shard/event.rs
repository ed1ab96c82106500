//! What a shard tells its caller.

use super::{ConnectionId, Disconnect};
use crate::ddp::stats::Stats;
use crate::ddp::why::Reasons;
use crate::dma::IoBuf;
use crate::nvme::queue::{Counters as QueueCounters, DigestBy};
use crate::nvme::status::Status;
use std::ops::AddAssign;

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

/// Everything that a shard has counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Packets, and errors of the shard's queues.
    pub shard: Counters,
    /// The offload, and payload that was copied.
    pub offload: Stats,
    /// PDUs and digests of I/O queues.
    pub queues: QueueCounters,
    /// Doorbell registers of send and control queues.
    pub doorbells: u64,
}

impl AddAssign<&Totals> for Totals {
    fn add_assign(&mut self, other: &Totals) {
        self.shard += &other.shard;
        self.offload += &other.offload;
        self.queues += &other.queues;
        self.doorbells += other.doorbells;
    }
}

impl AddAssign<&Counters> for Counters {
    fn add_assign(&mut self, other: &Counters) {
        // Taken apart, so that a new one is not forgotten.
        let Counters {
            packets_rx,
            packets_tx,
            bad_completions,
            bad_checksums,
            no_connection,
            resets,
            foreign_placements,
            queue_errors,
            recoveries,
            fallbacks,
            not_sent,
        } = other;
        self.packets_rx += packets_rx;
        self.packets_tx += packets_tx;
        self.bad_completions += bad_completions;
        self.bad_checksums += bad_checksums;
        self.no_connection += no_connection;
        self.resets += resets;
        self.foreign_placements += foreign_placements;
        self.queue_errors += queue_errors;
        self.recoveries += recoveries;
        self.fallbacks += fallbacks;
        self.not_sent += not_sent;
    }
}

/// What a shard has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets received.
    pub packets_rx: u64,
    /// Packets sent.
    pub packets_tx: u64,
    /// Completions that were not believed; their packets are lost and TCP asks again.
    pub bad_completions: u64,
    /// Packets whose checksum the device found wrong, or did not check.
    pub bad_checksums: u64,
    /// Segments for no connection.
    pub no_connection: u64,
    /// Of these, the ones answered with a reset because their connection was ours.
    pub resets: u64,
    /// Packets whose placed payload belongs to another connection than their headers say.
    pub foreign_placements: u64,
    /// Errors of completion, send and receive queues.
    pub queue_errors: u64,
    /// Send and receive queues that were taken back to work after an error.
    pub recoveries: u64,
    /// Connections that were taken off the offload because the receive queue kept failing.
    pub fallbacks: u64,
    /// Frames that could not be built or posted: lost as on a wire.
    pub not_sent: u64,
}
