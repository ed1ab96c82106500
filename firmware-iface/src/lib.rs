//! What ConnectX firmware defines: commands, contexts, capabilities, access registers and statuses.
//!
//! Tables in, typed accessors out; no I/O. A structure is its bytes ([`mod@hw_regs::layout`]); offsets are the programmer's
//! reference manual's own (bits from the most significant bit of byte 0), and everything is big-endian.
//!
//! * HCA: host channel adapter, the function. ISSI: interface step sequence id. PD: protection domain.
//! * TIS, TIR: transport interface send, receive. RQT: receive queue table (RSS). FTE: flow table entry.
//! * mkey, MKC: memory key and its context. UAR: user access region. PAOS, PMTU, PTYS: port registers.
#![forbid(unsafe_code)]

pub mod caps;
pub mod command;
pub mod context;
pub mod opcode;
pub mod port_counters;
pub mod register;
pub mod status;
pub mod steering;
pub mod vport;

pub use opcode::Opcode;
pub use status::Status;

/// Every table of this crate, for layout tests and dumps.
pub fn layouts() -> impl Iterator<Item = &'static hw_regs::layout::LayoutInfo> {
    [
        caps::general::LAYOUTS,
        caps::groups::LAYOUTS,
        command::device::LAYOUTS,
        command::flow::LAYOUTS,
        command::object::LAYOUTS,
        command::queue::LAYOUTS,
        command::vport::LAYOUTS,
        context::LAYOUTS,
        port_counters::LAYOUTS,
        register::LAYOUTS,
        steering::LAYOUTS,
        vport::LAYOUTS,
    ]
    .into_iter()
    .flatten()
}

/// Every number set of this crate: (set name, (name, value)...), all as the reference spells them.
pub fn codes() -> impl Iterator<Item = &'static (&'static str, &'static [(&'static str, u64)])> {
    [
        caps::groups::CODES,
        command::device::CODES,
        context::CODES,
        opcode::CODES,
        port_counters::CODES,
        register::CODES,
        status::CODES,
        steering::CODES,
        vport::CODES,
    ]
    .into_iter()
    .flatten()
}
