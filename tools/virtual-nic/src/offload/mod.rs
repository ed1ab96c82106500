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
//! **When packets are missing.** A hole inside a PDU costs the PDU its digest; the framing stays known by length. A hole
//! over a header loses the framing: the context searches for something that looks like a header, asks software whether
//! it is one, follows the headers from there without placing anything, and begins again when software says yes
//! (`context.rs` has the states). Nothing is ever placed on a guess, so a wrong one costs time and never bytes.
//!
//! What is not known about the hardware is in [`behaviour`]: one switch per question.

pub mod behaviour;
mod context;
mod episode;
mod pdu;
mod placement;
mod settle;
mod tables;
mod walk;

use crate::dma::DmaSpace;
use crate::mkey::{Mkeys, Segment};
use crate::packet::{Packet, tcp_flag};
use crate::reject::{Reject, Syndrome};
use crate::wqe::TagFill;
use context::{Context, Look};
use firmware_iface::command::object::CreateTagBufferTableIn;
use firmware_iface::context::Tirc;
use hw_regs::cqe::CqeSyndrome;
use hw_regs::layout::Access as _;
use hw_regs::wqe::{ProgressParams, StaticParams};
use placement::Placement;
use settle::Settling;
use std::collections::BTreeMap;
use std::time::Duration;

pub use behaviour::Behaviour;
pub use context::{Progress, Tracker};
pub use episode::Episode;
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
    /// The context checks data digests, processed all of this packet's payload, and neither met a wrong digest nor data
    /// whose digest it cannot verify ([`behaviour`] has the exceptions).
    pub ddgst_ok: bool,
    /// Sequence number of a guessed PDU header that software is to confirm. Never with a placed run.
    pub resync: Option<u32>,
    /// Why nothing of the packet was to be placed or vouched for.
    pub bypass: Option<Bypass>,
    /// The packet is to be completed with an error: its data is for a tag that cannot be used, for this reason
    /// ([`Reaction::ErrorCqe`](behaviour::Reaction::ErrorCqe)).
    pub error: Option<Unplaced>,
}

impl Outcome {
    fn bypassed(reason: Bypass) -> Outcome {
        Outcome { placed: None, ddgst_ok: false, resync: None, bypass: Some(reason), error: None }
    }
}

/// Why a packet was delivered without anything of it being placed or vouched for.
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
    /// The framing was lost when it came (also the packet that revealed it by a gap).
    Searching,
    /// Headers are followed, but nothing is placed until software confirms the framing.
    Unconfirmed,
    /// An unusable tag stopped the context ([`Reaction::ContextError`](behaviour::Reaction::ContextError)).
    Stopped,
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
    /// The tag's mkey is free.
    Free,
    /// The tag's mkey is bound, but not yet in effect ([`Behaviour::umr_packets`]).
    Settling,
    /// Beyond the length of the tag's mkey.
    KeyLength,
    /// The tag's mkey, or one that it leads to, did not translate: another protection domain, a list that is too short ...
    Key,
    /// The memory is not mapped.
    Unmapped,
    /// Behind a hole in the PDU ([`HoleRule::Stop`](behaviour::HoleRule::Stop)).
    Hole,
    /// In the packet with the first header behind a hole ([`HeaderPacket::Ring`](behaviour::HeaderPacket::Ring)).
    HeaderPacket,
    /// Confirmed, and the next PDU has not begun ([`ResumeRule::NextPdu`](behaviour::ResumeRule::NextPdu)).
    Resuming,
    /// DATAO does not continue the command's data ([`DataOffset::Contiguous`](behaviour::DataOffset::Contiguous)).
    NotContiguous,
    /// The tag could not be used earlier in the PDU ([`Reaction::RestOfPdu`](behaviour::Reaction::RestOfPdu)).
    RestOfPdu,
}

impl Unplaced {
    /// `syndrome` and `vendor_err_synd` of the error CQE that a packet ends in
    /// ([`Reaction::ErrorCqe`](behaviour::Reaction::ErrorCqe)).
    /// Which syndrome hardware would report is not public; the vendor syndrome tells the cases apart.
    pub fn syndrome(self) -> (CqeSyndrome, u8) {
        match self {
            Unplaced::NoTag => (CqeSyndrome::LOCAL_QP_OP_ERR, 0x84),
            Unplaced::Free | Unplaced::Settling => (CqeSyndrome::LOCAL_PROT_ERR, 0x85),
            _ => (CqeSyndrome::LOCAL_LENGTH_ERR, 0x86),
        }
    }
}

/// What the offload has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffloadCounters {
    /// Packets that a context processed with the framing known.
    pub packets: u64,
    /// Packets of which a run was placed.
    pub packets_placed: u64,
    /// Bytes placed.
    pub bytes_placed: u64,
    /// Bytes of C2HData payload in processed packets that were left in the ring only, by reason.
    pub bytes_unplaced: BTreeMap<Unplaced, u64>,
    /// Packets that were not processed, by reason; only those of TIRs with a context.
    pub bypassed: BTreeMap<Bypass, u64>,
    /// PDUs that ended with the framing known.
    pub pdus: u64,
    /// Data digests that were right.
    pub digests_good: u64,
    /// Data digests that were wrong.
    pub digests_bad: u64,
    /// Data digests that could not be verified because of a hole or a resync.
    pub digests_unverified: u64,
    /// Gaps inside a PDU.
    pub holes: u64,
    /// Times that a context lost a framing that was known.
    pub lost: u64,
    /// Headers that were guessed.
    pub guesses: u64,
    /// Guesses that a header, a gap or time proved wrong or worthless.
    pub guesses_dropped: u64,
    /// Packets that asked for a confirmation.
    pub requests: u64,
    /// Confirmations of what was asked.
    pub confirmations: u64,
    /// Confirmations of something else, or too late; they change nothing.
    pub confirmations_stale: u64,
    /// Times that an unusable tag stopped a context.
    pub stopped: u64,
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
    behaviour: Behaviour,
    settling: Settling,
    tables: TagBufferTables,
    contexts: BTreeMap<u32, Context>,
    counters: OffloadCounters,
    episodes: episode::Log,
    /// Where the chosen run of a packet goes, and a candidate's; kept to allocate nothing per packet.
    chosen: Vec<Segment>,
    candidate: Vec<Segment>,
}

impl Offload {
    /// No tables, no contexts.
    pub fn new(limits: TagLimits, which: WhichRun, behaviour: Behaviour) -> Offload {
        Offload {
            which,
            behaviour,
            settling: Settling::default(),
            tables: TagBufferTables::new(limits),
            contexts: BTreeMap::new(),
            counters: OffloadCounters::default(),
            episodes: episode::Log::default(),
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

    /// The sequence numbers that contexts wait to have confirmed, with the TIRs of the contexts.
    pub fn awaited(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.contexts.iter().filter_map(|(tirn, context)| Some((*tirn, context.progress()?.awaited?)))
    }

    /// The episodes without framing that ended since the last call, oldest first, and how many were forgotten since the
    /// beginning because nobody took them.
    pub fn take_episodes(&mut self) -> (Vec<Episode>, u64) {
        self.episodes.take()
    }

    fn context(&mut self, tirn: u32) -> Result<&mut Context, OffloadFault> {
        self.contexts.get_mut(&tirn).ok_or(OffloadFault::NoContext { tirn })
    }

    /// Static parameters (§4.4). Written again they replace the options and leave the position in the stream alone; if
    /// they confirm the header that was asked for, placing begins again (§6.3).
    pub fn static_params(&mut self, tirn: u32, params: &StaticParams) -> Result<(), OffloadFault> {
        let context = self.contexts.get_mut(&tirn).ok_or(OffloadFault::NoContext { tirn })?;
        context.set_static(params, &self.behaviour, &mut self.counters)
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

    /// Simulated time passed.
    pub fn advance(&mut self, now: Duration) {
        self.settling.advance(now);
    }

    /// A UMR bound `key`, or with `free` took its binding away ([`Behaviour::umr_packets`], [`Behaviour::umr_time`]).
    pub fn key_changed(&mut self, key: u32, free: bool) {
        let Behaviour { umr_packets, umr_time, .. } = self.behaviour;
        if free {
            self.settling.freed(key);
        } else if umr_packets > 0 || !umr_time.is_zero() {
            self.settling.bound(key, umr_packets, umr_time);
        }
    }

    /// Looks at a packet that steering sent to `tirn`: places at most one run of its payload, and says what was done.
    /// Without a context for the TIR the packet is not the offload's ([`Bypass::Inactive`]).
    pub fn receive(&mut self, tirn: u32, packet: &Packet<'_>, mkeys: &Mkeys, dma: &DmaSpace) -> Outcome {
        match segment(packet) {
            Ok((seq, payload)) => {
                let mut outcome = self.segment(tirn, seq, payload, mkeys, dma);
                if let Some(run) = &mut outcome.placed {
                    run.hole += packet.payload.start as u32;
                }
                outcome
            }
            Err(_) if !self.contexts.contains_key(&tirn) => Outcome::bypassed(Bypass::Inactive),
            Err(reason) => self.bypass(reason),
        }
    }

    /// Looks at a TCP segment; the place of a run is counted from the start of `payload`.
    fn segment(&mut self, tirn: u32, seq: u32, payload: &[u8], mkeys: &Mkeys, dma: &DmaSpace) -> Outcome {
        let Some(context) = self.contexts.get_mut(&tirn) else { return Outcome::bypassed(Bypass::Inactive) };
        self.settling.packet();
        let mut placement = Placement {
            which: self.which,
            behaviour: &self.behaviour,
            tables: &mut self.tables,
            settling: &mut self.settling,
            mkeys,
            dma,
            best: None,
            closed: None,
            chosen: &mut self.chosen,
            candidate: &mut self.candidate,
        };
        let look = context.receive(seq, payload, &mut placement, &mut self.counters);
        if let Look { bypass: Some(reason), request, .. } = look {
            return Outcome { resync: request, ..self.bypass(reason) };
        }
        self.counters.packets += 1;
        let placed = placement.finish(payload, &mut self.counters);
        if placed.is_some()
            && let Some(episode) = context.episode.placed()
        {
            self.episodes.push(tirn, episode);
        }
        let ddgst_ok = look.clean && context.checks_digests();
        Outcome { placed, ddgst_ok, resync: None, bypass: None, error: look.error }
    }

    fn bypass(&mut self, reason: Bypass) -> Outcome {
        *self.counters.bypassed.entry(reason).or_default() += 1;
        Outcome::bypassed(reason)
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
pub(crate) mod tests;
