//! The NVMe/TCP receive offload: the NIC writes the payload of reads straight into the reader's buffer and checks the data
//! digest (`nvme-tcp-offload.md`).
//!
//! ```text
//!   contract   what the layer-5 protocol (L5P) calls, and what it is told: sk_add, setup, teardown, resync ...
//!      │
//!   queue      one NVMe I/O queue = one TCP connection = one offload context: its firmware objects, from sk_add to sk_del
//!      ├── tags      where destination buffers live while the driver owns them, by command identifier
//!      ├── icosq     the queue's control ring: WQEs that bind and unbind tags, and their completions
//!      │     └── wqe     the bytes of these WQEs
//!      ├── keys      memory keys of tags, kept for the next queue
//!      ├── rebuild   128-byte CQE + receive buffer + tags ─► Frame, or a rejection
//!      ├── memory    where the L5P finds and puts payload (`nvme::PayloadMemory`)
//!      ├── policy    which reads are bound, by size
//!      ├── stats     counters, under the names that people know
//!      └── why       why something was not offloaded, or not placed
//!   lookup     flow tag ─► queue
//! ```
//!
//! # Life of a destination buffer
//!
//! ```text
//!             pin            KLM UMR posted        invalidate posted           its CQE
//!   IoBuf ──────────► Pinned ───────────────► Bound ──────────────► Draining ──────────► Released ──► IoBuf
//!                       │                       │                      │                    ▲
//!                       └── never bound ────────┼──────────────────────┼────────────────────┤
//!                                               └── queue destroyed or function reset ──────┘
//! ```
//!
//! From `Bound` until the invalidate's completion the device may write the buffer whenever a packet arrives; whether the
//! command was sent in between makes no difference to it. So the only way out of the table is a
//! [`Released`](tags::Released), and the only ways to one are: the device was never told of the buffer, it said that it
//! has forgotten it, or what it would write through no longer exists. Each is a value that only its cause can make
//! ([`icosq::UnbindCompleted`], [`tags::Quiesced`]).
//!
//! # Order of work in an owner loop
//!
//! 1. [`OffloadQueue::poll`](queue::OffloadQueue::poll): reap the control ring. Tags that the device has forgotten are
//!    noted, not yet given out.
//! 2. Drain the receive CQ and pass every flagged entry through `rebuild`: completions of packets that were placed before
//!    a tag was unbound lie in front of the CQE of the unbind, and must be read while the tag still means that buffer.
//! 3. Feed TCP and the L5P.
//! 4. [`OffloadQueue::events`](queue::OffloadQueue::events): give the released buffers to the L5P, which may use
//!    the tags again.
//! 5. New commands, `setup` first; one doorbell for all.

pub mod contract;
pub mod create;
pub mod device;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod fixture;
pub mod icosq;
pub mod keys;
pub mod lookup;
pub mod memory;
pub mod policy;
pub mod queue;
pub mod rebuild;
pub mod stats;
pub mod tags;
pub mod why;
pub mod wqe;

#[cfg(test)]
mod tests;
