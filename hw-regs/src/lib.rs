//! What ConnectX hardware defines: the registers of BAR0, UAR doorbells and doorbell records, work queue, completion
//! queue and event queue entries, the command queue's format, memory barriers named by purpose.
//!
//! * CQ, CQE: completion queue, completion queue entry. EQ, EQE: event queue, event queue entry.
//! * WQ, WQE, WQEBB, DS: work queue, work queue entry, its 64-byte basic block, its 16-byte data segment.
//! * SQ, RQ: send queue, receive queue. UAR: user access region, a 4 KiB page of doorbell registers.
//! * UMR: user-mode memory registration. KLM: an indirect memory key's entry {byte count, key, address}.
//! * TIR: transport interface receive, the object that steering ends in and that carries the offload context.
//!
//! Both sides use it: the driver and the virtual device. Structures are byte arrays with tables ([`mod@layout`]), so no side
//! ever reads a field of the device through a Rust reference with assumptions about alignment or validity. Everything
//! is big-endian unless a field says otherwise.
//!
//! The only memory-mapped I/O of the project is in [`mmio`].

pub mod barrier;
pub mod command_queue;
pub mod cqe;
pub mod decode;
pub mod doorbell;
pub mod eqe;
pub mod init_segment;
pub mod layout;
pub mod mmio;
pub mod uar;
pub mod wqe;

#[doc(hidden)]
pub use zerocopy;

/// Every table of this crate, for layout tests and dumps.
pub fn layouts() -> impl Iterator<Item = &'static layout::LayoutInfo> {
    [command_queue::LAYOUTS, cqe::LAYOUTS, doorbell::LAYOUTS, eqe::LAYOUTS, init_segment::LAYOUTS, wqe::LAYOUTS]
        .into_iter()
        .flatten()
}

/// Every number set of this crate: (set name, (name, value)...), all as the reference spells them.
pub fn codes() -> impl Iterator<Item = &'static (&'static str, &'static [(&'static str, u64)])> {
    [command_queue::CODES, cqe::CODES, eqe::CODES, init_segment::CODES, wqe::CODES].into_iter().flatten()
}
