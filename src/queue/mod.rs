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

pub mod cq;
mod ring;
pub mod sq;
#[cfg(test)]
pub(crate) mod testing;

pub use cq::{Arm, CompletionQueue, CqTooSmall, CqeFormat, ErrorCompletion};
pub use sq::{Control, SendFault, SendRing, Wqe};

/// A completion that cannot be true. The device is not believed; the work request that it may have meant stays posted.
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
