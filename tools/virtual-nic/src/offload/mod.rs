//! The NVMe/TCP receive offload: payload goes straight into the reader's buffer, data digests are checked on the way.
//!
//! ```text
//!            ICOSQ WQEs                                 packets of the flow, in order
//!  static params ─┐  progress ─┐  tag fill ─┐                 │
//!                 ▼            ▼            ▼                 ▼
//!  TIR ──► context { options, expected sequence, PDU position, CRC }
//!                                                             │ C2HData payload of command CCCID at DATAO + progress
//!                                   tag buffer table ◄────────┘
//!                                     [CCCID] {bcount, tag mkey, va}
//!                                                  └──► KLM list ──► data mkey ──► memory
//!  the packet itself: unchanged, to the ring; the Outcome says which run of it was also placed (the hole)
//! ```
//!
//! Written from the published behaviour (`nvme-tcp-offload.md` §4 to §6). What a NIC must never do with a packet holds
//! here by construction: [`Offload::receive`] borrows the frame, so nothing is buffered, modified, reordered or dropped,
//! and all it depends on is the flow (its TIR) and the sequence number.
//!
//! **In order today.** A packet before the expected sequence bypasses the context. A gap, or a header that cannot be,
//! makes the context lose the framing: it goes to [`Tracker::Searching`] and everything from then on is delivered plain.
//! TODO: the search for a header, the resync request and its confirmation (§6.3); until then a context that lost the
//! framing stays silent, and software copies.
//!
//! What is not known about the hardware is decided in one place each: [`WhichRun`], and the remarks at [`Outcome`].

mod context;
mod pdu;
mod tables;

use crate::dma::DmaSpace;
use crate::mkey::{Mkeys, Segment};
use crate::packet::{Packet, tcp_flag};
use crate::reject::{Reject, Syndrome};
use crate::wqe::TagFill;
use context::{Context, Placement};
use firmware_iface::command::object::CreateTagBufferTableIn;
use firmware_iface::context::Tirc;
use hw_regs::cqe::CqeSyndrome;
use hw_regs::layout::Access as _;
use hw_regs::wqe::{ProgressParams, StaticParams};
use std::collections::BTreeMap;

pub use context::{Progress, Tracker};
pub use tables::{TagBufferTables, TagLimits};

/// Which run of a packet is placed when several could be. The CQE has room for one (`nvme-tcp-offload.md` §5.1); which
/// one hardware takes is unknown (§12 item 1), so software must be right under every choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhichRun {
    /// The first in the packet.
    #[default]
    First,
    /// The last in the packet.
    Last,
    /// The longest, the first of equals.
    Longest,
}

/// A run of a packet that was placed: the hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where it begins in the frame, from the first byte of the Ethernet header as the packet came from the wire (with
    /// its VLAN tags): `hlen`.
    pub hole: u32,
    /// Bytes: `cclen`.
    pub len: u32,
    /// The command, and so the tag: `ccid`.
    pub ccid: u16,
    /// Where it went, in the tag's buffer: `ccoff`.
    pub ccoff: u32,
}

/// What the offload did with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The run that was placed, at most one per packet.
    pub placed: Option<Run>,
    /// The context checks data digests, processed all of this packet's payload, and met no wrong digest. True also for
    /// a packet that has no digest field, or no data at all (unknown of the hardware, §12 item 1: the rule that all
    /// packets of a good PDU have the bit needs it for packets inside a PDU).
    pub ddgst_ok: bool,
    /// Sequence number of a guessed PDU header that software is to confirm. Nothing searches yet, so always `None`.
    pub resync: Option<u32>,
    /// Why the context did not look at the packet.
    pub bypass: Option<Bypass>,
}

impl Outcome {
    fn bypassed(reason: Bypass) -> Outcome {
        Outcome { placed: None, ddgst_ok: false, resync: None, bypass: Some(reason) }
    }
}

/// Why a packet was delivered without the context having looked at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bypass {
    /// The TIR has no offload context, or its parameters were not written yet.
    Inactive,
    /// Not a TCP segment: another protocol, a fragment, headers that make no sense.
    NotTcp,
    /// An IP or TCP checksum is wrong.
    Checksum,
    /// SYN or RST.
    Control,
    /// No payload.
    Empty,
    /// Begins before the expected sequence number: a retransmission.
    Early,
    /// The framing is lost (also the packet that revealed it by a gap).
    Searching,
    /// Headers are followed, but nothing is placed until software confirms the framing.
    Unconfirmed,
}

/// Why C2HData payload was left in the ring only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unplaced {
    /// Zero copy is off in the TIR or the static parameters.
    Disabled,
    /// Another run of the packet was placed ([`WhichRun`]).
    OtherRun,
    /// CCCID is not below the table's size, or the entry was never filled.
    NoTag,
    /// Beyond the entry's length check.
    TagLength,
    /// The tag's mkey, or one that it leads to, did not translate: free, too short, another protection domain ...
    Key,
    /// The memory is not mapped.
    Unmapped,
}

/// What the offload has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffloadCounters {
    /// Packets that a context processed.
    pub packets: u64,
    /// Packets of which a run was placed.
    pub packets_placed: u64,
    /// Bytes placed.
    pub bytes_placed: u64,
    /// Bytes of C2HData payload in processed packets that were left in the ring only, by reason.
    pub bytes_unplaced: BTreeMap<Unplaced, u64>,
    /// Packets that no context looked at, by reason; only those of TIRs with a context.
    pub bypassed: BTreeMap<Bypass, u64>,
    /// PDUs that ended.
    pub pdus: u64,
    /// Data digests that were right.
    pub digests_good: u64,
    /// Data digests that were wrong.
    pub digests_bad: u64,
    /// Times that a context lost the framing.
    pub lost: u64,
}

/// Why parameters or tag entries could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OffloadFault {
    /// The TIR does not exist or was created without the offload.
    #[error("TIR {tirn:#x} has no NVMe/TCP offload")]
    NoContext {
        /// TIR number.
        tirn: u32,
    },
    /// Entries beyond the tag buffer table.
    #[error("{count} tags at {first} of a tag buffer table of {size}")]
    TagBounds {
        /// First tag.
        first: u64,
        /// Entries.
        count: u32,
        /// Entries of the table.
        size: u32,
    },
    /// A parameter asks for what the device does not do.
    #[error("{field} = {value} is not supported")]
    Unsupported {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
}

impl OffloadFault {
    /// `syndrome` and `vendor_err_synd` of the error CQE. Which syndrome hardware reports is not public
    /// (`nvme-tcp-offload.md` §12 item 11); the vendor syndrome tells the cases apart.
    pub fn syndrome(&self) -> (CqeSyndrome, u8) {
        let vendor = match self {
            OffloadFault::NoContext { .. } => 0x81,
            OffloadFault::TagBounds { .. } => 0x82,
            OffloadFault::Unsupported { .. } => 0x83,
        };
        (CqeSyndrome::LOCAL_QP_OP_ERR, vendor)
    }
}

/// Tag buffer tables and offload contexts of a device.
#[derive(Debug)]
pub struct Offload {
    which: WhichRun,
    tables: TagBufferTables,
    contexts: BTreeMap<u32, Context>,
    counters: OffloadCounters,
    /// Where the chosen run of a packet goes, and a candidate's; kept to allocate nothing per packet.
    chosen: Vec<Segment>,
    candidate: Vec<Segment>,
}

impl Offload {
    /// No tables, no contexts.
    pub fn new(limits: TagLimits, which: WhichRun) -> Offload {
        Offload {
            which,
            tables: TagBufferTables::new(limits),
            contexts: BTreeMap::new(),
            counters: OffloadCounters::default(),
            chosen: Vec::new(),
            candidate: Vec::new(),
        }
    }

    /// CREATE_GENERAL_OBJECT of a tag buffer table. Returns the object id.
    pub fn create_table(&mut self, input: &CreateTagBufferTableIn) -> Result<u32, Reject> {
        self.tables.create(input.get(CreateTagBufferTableIn::OBJ_LOG_TAG_BUFFER_TABLE_SIZE))
    }

    /// DESTROY_GENERAL_OBJECT of a tag buffer table. Refused while a TIR names it.
    pub fn destroy_table(&mut self, id: u32) -> Result<(), Reject> {
        self.tables.destroy(id)
    }

    /// The offload's part of CREATE_TIR: a TIR with `nvmeotcp_zero_copy_en` or `nvmeotcp_crc_en` gets a context, any
    /// other none. Call it before the TIR exists; with an error it must not come to exist.
    pub fn create_tir(&mut self, tirn: u32, tirc: &Tirc) -> Result<(), Reject> {
        let zero_copy = tirc.is_set(Tirc::NVMEOTCP_ZERO_COPY_EN);
        let crc = tirc.is_set(Tirc::NVMEOTCP_CRC_EN);
        if !zero_copy && !crc {
            return Ok(());
        }
        if tirc.get(Tirc::PACKET_MERGE_MASK) != 0 {
            return Err(Syndrome::TIR_OFFLOAD_EXCLUDES_LRO.into());
        }
        if tirc.is_set(Tirc::TLS_EN) {
            return Err(Syndrome::TIR_OFFLOAD_EXCLUDES_TLS.into());
        }
        // Digests alone need no tags.
        let table = zero_copy.then(|| tirc.get(Tirc::NVMEOTCP_TAG_BUFFER_TABLE_ID));
        if let Some(table) = table {
            self.tables.attach(table)?;
        }
        self.contexts.insert(tirn, Context::new(table, crc));
        Ok(())
    }

    /// The offload's part of DESTROY_TIR.
    pub fn destroy_tir(&mut self, tirn: u32) {
        if let Some(table) = self.contexts.remove(&tirn).and_then(|context| context.table()) {
            self.tables.detach(table);
        }
    }

    /// Tag buffer tables that exist.
    pub fn tables(&self) -> usize {
        self.tables.len()
    }

    /// Offload contexts that exist.
    pub fn contexts(&self) -> usize {
        self.contexts.len()
    }

    /// What was done so far.
    pub fn counters(&self) -> &OffloadCounters {
        &self.counters
    }

    /// Where the context of a TIR is in its stream; `None` without a context or before its parameters were written.
    pub fn progress(&self, tirn: u32) -> Option<Progress> {
        self.contexts.get(&tirn)?.progress()
    }

    fn context(&mut self, tirn: u32) -> Result<&mut Context, OffloadFault> {
        self.contexts.get_mut(&tirn).ok_or(OffloadFault::NoContext { tirn })
    }

    /// Static parameters (§4.4). Written again they replace the options and leave the position in the stream alone.
    pub fn static_params(&mut self, tirn: u32, params: &StaticParams) -> Result<(), OffloadFault> {
        self.context(tirn)?.set_static(params)
    }

    /// Progress parameters (§4.6): the context begins anew at a PDU header at `next_pdu_tcp_sn`.
    pub fn progress_params(&mut self, tirn: u32, params: &ProgressParams) -> Result<(), OffloadFault> {
        self.context(tirn)?.set_progress(params)
    }

    /// Tag table fill (§4.5).
    pub fn tag_fill(&mut self, fill: &TagFill<'_>) -> Result<(), OffloadFault> {
        let missing = OffloadFault::NoContext { tirn: fill.tirn };
        let table = self.context(fill.tirn)?.table().ok_or(missing)?;
        self.tables.fill(table, fill.first, fill.entries).ok_or(missing)?
    }

    /// Looks at a packet that steering sent to `tirn`: places at most one run of its payload, and says what was done.
    /// Without a context for the TIR the packet is not the offload's ([`Bypass::Inactive`]).
    pub fn receive(&mut self, tirn: u32, packet: &Packet<'_>, mkeys: &Mkeys, dma: &DmaSpace) -> Outcome {
        let Some(context) = self.contexts.get_mut(&tirn) else { return Outcome::bypassed(Bypass::Inactive) };
        let verdict = match segment(packet) {
            Ok((seq, payload)) => context.accept(seq, payload, &mut self.counters),
            Err(reason) => Err(reason),
        };
        let payload = match verdict {
            Ok(payload) => payload,
            Err(reason) => {
                *self.counters.bypassed.entry(reason).or_default() += 1;
                return Outcome::bypassed(reason);
            }
        };
        self.counters.packets += 1;
        let mut placement = Placement {
            which: self.which,
            tables: &mut self.tables,
            mkeys,
            dma,
            best: None,
            chosen: &mut self.chosen,
            candidate: &mut self.candidate,
        };
        let clean = context.process(payload, &mut placement, &mut self.counters);
        let base = packet.payload.start as u32;
        let placed = placement.finish(payload, &mut self.counters).map(|run| Run { hole: base + run.hole, ..run });
        Outcome { placed, ddgst_ok: clean && context.checks_digests(), resync: None, bypass: None }
    }
}

/// What of a packet is part of a TCP byte stream: sequence number and payload.
fn segment<'a>(packet: &Packet<'a>) -> Result<(u32, &'a [u8]), Bypass> {
    let tcp = packet.tcp().ok_or(Bypass::NotTcp)?;
    if !packet.l3_ok() || !packet.l4_ok() {
        return Err(Bypass::Checksum);
    }
    if tcp.flags & (tcp_flag::SYN | tcp_flag::RST) != 0 {
        return Err(Bypass::Control);
    }
    if packet.payload.is_empty() {
        return Err(Bypass::Empty);
    }
    Ok((tcp.seq, packet.payload_bytes()))
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
