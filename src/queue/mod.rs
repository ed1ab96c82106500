//! Queues: the rings in host memory by which software and device hand each other work.
//!
//! ```text
//!             RxPool ──post──► RQ ──► device ──► CQ ──poll──► entry ──take──► RxBuffer ──► Frame ──give_back──┐
//!                ▲                                                                                             │
//!                └─────────────────────────────────────────────────────────────────────────────────────────────┘
//!
//!  headers + payload ──► SendQueue ─┐
//!  UMR, SET_PSV (ddp) ──────────────┴► SendRing ──doorbell──► device ──► CQ ──poll, check, retire──► records
//! ```
//!
//! * A ring's memory belongs to one queue; the device is told its address once, by the create command.
//! * Counters run freely; positions are computed from them in one place per ring.
//! * What the device writes is copied out of the ring before it is looked at, and every number in it is checked against
//!   what software knows to be posted. A completion that cannot be true is a [`BadCompletion`], counted by its owner; it
//!   never becomes an index.
//! * No queue allocates after it was created, takes a lock, or waits. Deadlines belong to who polls.

mod cq;
mod create;
mod pool;
mod ring;
mod rq;
mod send;
mod sq;
#[cfg(test)]
pub(crate) mod testing;

pub use crate::adapter::{Logged, Objects};
use crate::observe::counter::counters;
pub use cq::{Arm, CompletionQueue, CqTooSmall, CqeFields, CqeFormat, ErrorCompletion, Polled};
pub use create::{Base, QueueError, SendParams, create_tis};
pub(crate) use create::{UnknownCq, UnknownSq};
pub use pool::RxPool;
pub use ring::{RingKind, RingView};
pub use rq::ReceiveQueue;
pub use send::{
    Checksums, FrameQueueParams, MAX_HEADER, MAX_PIECES, MIN_HEADER, PayloadSlot, SendError, SendQueue, Sent,
};
pub use sq::{Control, DS, MAX_DS, SendRing, WQEBB, Wqe, wqebbs};

/// A completion that cannot be true. The device is not believed; nothing that it may have meant is touched, except that a
/// receive buffer whose length is wrong is posted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCompletion {
    /// The last byte of the entry: an opcode that this kind of queue does not have, or an entry that carries data or is
    /// compressed.
    #[error("a completion whose opcode byte is {0:#04x}")]
    Opcode(u8),
    /// The counter names no work request that is posted.
    #[error("a completion of work request {0}, which is not posted")]
    NotPosted(u16),
    /// The entry names another queue.
    #[error("a completion of queue {0:#x}, which does not complete here")]
    ForeignQueue(u32),
    /// More bytes than the buffer has, or none.
    #[error("a completion of {0} bytes, which the receive buffer cannot hold")]
    Length(u32),
}

impl BadCompletion {
    /// What is wrong, in a word.
    pub fn name(self) -> &'static str {
        match self {
            BadCompletion::Opcode(_) => "opcode",
            BadCompletion::NotPosted(_) => "not-posted",
            BadCompletion::ForeignQueue(_) => "foreign-queue",
            BadCompletion::Length(_) => "length",
        }
    }
}

/// What is wrong with a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompletionFault {
    /// The device reports a failed work request: the queue is in the error state.
    #[error(transparent)]
    Failed(#[from] ErrorCompletion),
    /// The entry cannot be true; it was counted and ignored.
    #[error(transparent)]
    Bad(#[from] BadCompletion),
}

counters! {
    /// Completions that were not believed, by reason.
    pub struct Rejections {
        /// Completions with an opcode that the queue does not have, or that carry data or are compressed.
        pub opcode: Entries,
        /// Completions that name no work request that is posted.
        pub not_posted: Entries,
        /// Completions that name another queue.
        pub foreign_queue: Entries,
        /// Completions of more bytes than the receive buffer has, or of none.
        pub length: Entries,
    }
}

impl Rejections {
    /// Counts one, and returns it.
    #[cold]
    pub fn count(&mut self, bad: BadCompletion) -> BadCompletion {
        *match bad {
            BadCompletion::Opcode(_) => &mut self.opcode,
            BadCompletion::NotPosted(_) => &mut self.not_posted,
            BadCompletion::ForeignQueue(_) => &mut self.foreign_queue,
            BadCompletion::Length(_) => &mut self.length,
        } += 1;
        bad
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.opcode + self.not_posted + self.foreign_queue + self.length
    }
}
