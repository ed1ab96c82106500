//! The receive path: from the wire to receive buffers and tag buffers (`mlx5-bringup.md` §6, §8.2, §8.3,
//! `nvme-tcp-offload.md` §5, §6).
//!
//! ```text
//!  frame as stored   0        hole          hole + placed       len        (VLAN tag cut out if the queue strips it)
//!                    | kept   | not written | kept              |
//!  receive WQE       | segment 0        | segment 1     | ...
//! ```
//!
//! A packet that finds no receive buffer is dropped before the offload sees it: to the context it is lost, as on the wire.

use crate::VirtualNic;
use crate::firmware::device::TERMINATE_MKEY;
use crate::host::Host;
use crate::mkey::Mkeys;
use crate::offload::behaviour::{FirstHalf, VlanHlen};
use crate::offload::{Behaviour, Outcome};
use crate::packet::{ETHERTYPE_CVLAN, Packet};
use crate::queue::cq::{CQE, Completion, Completions};
use crate::queue::rq::{Rq, Target};
use crate::queue::strides::Run;
use crate::queue::{State, WorkError};
use crate::steering::Delivery;
use cxddp_trace::EntryKind;
use hw_regs::cqe::{Cqe64, CqeOpcode, OffloadCqe};
use hw_regs::layout::{Access, Layout};
use hw_regs::wqe::WqeDataSeg;

/// Shortest frame on the wire, without FCS.
pub(crate) const MIN_FRAME: usize = 60;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Largest receive WQE.
const MAX_WQE: usize = 512;
/// Bytes of the two addresses, after which a VLAN tag lies, and of the tag.
const ADDRESSES: usize = 12;
const VLAN_TAG: usize = 4;

/// Buffers that are kept so that a packet allocates nothing.
#[derive(Default)]
pub(crate) struct Scratch {
    deliveries: Vec<Delivery>,
}

/// The parts of a frame that are stored, by their place in the receive buffer.
struct Stored<'a> {
    parts: [(usize, &'a [u8]); 3],
    len: usize,
}

impl<'a> Stored<'a> {
    /// `hole` is where the placed run begins and how long it is, in the frame as it came.
    fn new(frame: &'a [u8], strip: bool, hole: Option<(usize, usize)>) -> Stored<'a> {
        let cut = if strip { VLAN_TAG } else { 0 };
        let len = frame.len() - cut;
        // The tag lies before every hole.
        let (start, end) = hole.map_or((frame.len(), frame.len()), |(at, placed)| (at, at + placed));
        let head_end = if strip { ADDRESSES } else { 0 };
        Stored {
            parts: [(0, &frame[..head_end]), (head_end, &frame[head_end + cut..start]), (end - cut, &frame[end..])],
            len,
        }
    }

    /// Calls `write` with every stored run inside `[from, to)`: its offset from `from`, its bytes.
    fn within<E>(&self, from: usize, to: usize, mut write: impl FnMut(usize, &[u8]) -> Result<(), E>) -> Result<(), E> {
        for (at, bytes) in self.parts {
            let (first, last) = (at.max(from), (at + bytes.len()).min(to));
            if first < last {
                write(first - from, &bytes[first - at..last - at])?;
            }
        }
        Ok(())
    }
}

impl VirtualNic {
    /// Takes a frame from the wire, without FCS. A shorter frame than Ethernet's minimum is padded, as its sender would
    /// have had to.
    pub fn receive(&mut self, frame: &[u8]) {
        if self.host.faults.is_gone() {
            return;
        }
        self.occasion();
        let mut padded = [0; MIN_FRAME];
        let frame = match frame.len() {
            ETHERNET..MIN_FRAME => {
                padded[..frame.len()].copy_from_slice(frame);
                &padded[..]
            }
            _ => frame,
        };
        self.host.counters.rx_frames += 1;
        self.host.counters.rx_bytes += frame.len() as u64;
        let drops = &mut self.host.counters.drops;
        if !self.firmware.link_up() {
            drops.link_down += 1;
            return;
        }
        if frame.len() > self.firmware.port.max_frame() {
            drops.oversize += 1;
            return;
        }
        let Ok(packet) = Packet::parse(frame) else {
            drops.runt += 1;
            return;
        };
        if !self.firmware.vport.accepts(packet.dmac) {
            drops.address += 1;
            return;
        }
        self.firmware.vport.received.count(packet.dmac, frame.len());
        let mut deliveries = std::mem::take(&mut self.scratch.deliveries);
        match self.objects.flows.classify(&packet, &mut deliveries) {
            Err(_) => self.host.counters.drops.steering += 1,
            Ok(()) => deliveries.iter().for_each(|delivery| self.receive_at(*delivery, &packet)),
        }
        self.scratch.deliveries = deliveries;
    }

    /// Delivers a packet to the queue that a TIR leads to.
    fn receive_at(&mut self, delivery: Delivery, packet: &Packet<'_>) {
        let objects = &mut self.objects;
        let counters = &mut self.host.counters;
        let Some(tir) = objects.tirs.get(delivery.tirn) else {
            counters.drops.no_queue += 1;
            return;
        };
        let hash = tir.rss.hash(packet);
        let rqn = match tir.target {
            Target::Queue(rqn) => Some(rqn),
            Target::Table(rqtn) => objects.rqts.get(rqtn).map(|rqt| rqt.queue(hash.value)),
        };
        let offload = tir.offload;
        let Some((rqn, rq)) = rqn.and_then(|rqn| Some((rqn, objects.rqs.get_mut(rqn)?))) else {
            counters.drops.no_queue += 1;
            return;
        };
        if rq.state != State::Ready {
            counters.drops.queue_not_ready += 1;
            return;
        }
        // Only a customer tag that is the outermost is cut out.
        let strip = rq.strip_vlan && packet.vlan.is_some() && packet.frame[12..14] == ETHERTYPE_CVLAN.to_be_bytes();
        let len = packet.frame.len() - if strip { VLAN_TAG } else { 0 };
        let room = match find_room(rq, len, &mut objects.completions, &mut self.host) {
            Ok(Some(room)) => room,
            Ok(None) => {
                self.host.counters.drops.out_of_buffer += 1;
                if let Some(set) = objects.q_counters.get_mut(rq.counter_set) {
                    set.out_of_buffer = set.out_of_buffer.wrapping_add(1);
                }
                return;
            }
            Err(error) => {
                self.host.counters.drops.queue_error += 1;
                let index = rq.end_wqe();
                self.fail_rq(rqn, index, error);
                return;
            }
        };
        let wide = objects.completions.cqs.get(rq.cqn).is_some_and(|cq| cq.stride == 2 * CQE);
        let outcome = match offload && wide {
            true => Some(objects.offload.receive(delivery.tirn, packet, &objects.mkeys, &self.host.dma)),
            false => None,
        };
        let hole = outcome.and_then(|outcome| outcome.placed).map(|run| (run.hole as usize, run.len as usize));
        let stored = Stored::new(packet.frame, strip, hole);
        let written = scatter(rq, rqn, &room, &stored, &objects.mkeys, &self.host);
        if rq.strides.is_none_or(|strides| strides.is_done()) {
            rq.head = rq.head.wrapping_add(1);
        }
        let cqn = rq.cqn;
        let unusable =
            outcome.and_then(|outcome| outcome.error).map_or(Ok(()), |reason| Err(WorkError::of(reason.syndrome())));
        if let Err(error) = written.and(unusable) {
            self.host.counters.drops.queue_error += 1;
            // What is left of its strides is of no use.
            if rq.strides.is_some_and(|strides| !strides.is_done()) {
                rq.end_wqe();
            }
            self.fail_rq(rqn, room.wqe, error);
            return;
        }
        let cqe = room
            .cqe(stored.len)
            .with(Cqe64::RSS_HASH_RESULT, hash.value)
            .with(Cqe64::RSS_HASH_TYPE, u32::from(hash.kind))
            .with(Cqe64::CHECK_SUM, u32::from(packet.sum))
            .with(Cqe64::HDS_IP_EXT, u32::from(packet.ok_bits()))
            .with(Cqe64::L4_L3_HDR_TYPE, u32::from(packet.header_type(strip)))
            .with(Cqe64::VLAN_INFO, packet.vlan.filter(|_| strip).map_or(0, |vlan| u32::from(vlan.tci)))
            .with(Cqe64::USER_INDEX, rq.user_index)
            .with(Cqe64::TIMESTAMP_H, (self.host.timestamp() >> 32) as u32)
            .with(Cqe64::TIMESTAMP_L, self.host.timestamp() as u32)
            .with(Cqe64::SOP_DROP_QPN_QPN_OR_FLOW_TAG, delivery.flow_tag);
        let mut completion = Completion::new(&cqe.0);
        if let Some(outcome) = outcome {
            let cut = if strip { VLAN_TAG } else { 0 };
            describe(&mut completion, &outcome, cut, &self.config.switches.offload, &mut self.host);
        }
        self.host.sessions.received(&self.host.counters);
        self.host.counters.rx_completions += 1;
        self.objects.completions.complete_receive(&mut self.host, cqn, completion, room.run.is_some());
    }

    /// The oldest posted WQE of a queue fails. False if none is posted.
    pub(crate) fn fail_oldest_receive(&mut self, rqn: u32) -> bool {
        let Some(rq) = self.objects.rqs.get_mut(rqn) else { return false };
        if posted(rq, &mut self.host) == 0 {
            return false;
        }
        let index = rq.end_wqe();
        self.fail_rq(rqn, index, WorkError::INJECTED);
        true
    }

    /// Completes a receive WQE with an error, puts the queue in error and completes all others as flushed.
    fn fail_rq(&mut self, rqn: u32, index: u16, error: WorkError) {
        let Some(rq) = self.objects.rqs.get_mut(rqn) else { return };
        rq.state = State::Error;
        let cqn = rq.cqn;
        self.host.counters.error_completions += 1;
        let completion = rq.failed(rqn, index, error);
        self.objects.completions.complete(&mut self.host, cqn, completion);
        self.flush_rq(rqn);
    }

    /// Completes every posted WQE of a queue in error as flushed.
    pub(crate) fn flush_rq(&mut self, rqn: u32) {
        let Some(rq) = self.objects.rqs.get_mut(rqn) else { return };
        if !rq.flush {
            return;
        }
        let (cqn, waiting) = (rq.cqn, posted(rq, &mut self.host));
        for _ in 0..waiting {
            let Some(rq) = self.objects.rqs.get_mut(rqn) else { return };
            let index = rq.end_wqe();
            self.host.counters.error_completions += 1;
            let completion = rq.failed(rqn, index, WorkError::FLUSHED);
            self.objects.completions.complete(&mut self.host, cqn, completion);
        }
    }
}

/// WQEs that are posted and not consumed, by the doorbell record. A record that claims more than the ring holds counts as
/// nothing posted.
fn posted(rq: &Rq, host: &mut Host) -> u32 {
    let record = host.dma.load_be32(rq.record);
    let Some(record) = host.checked(record) else { return 0 };
    let posted = record.wrapping_sub(rq.head) & 0xffff;
    if posted > 1 << rq.log_size {
        host.counters.misuse.doorbell_record += 1;
        return 0;
    }
    posted
}

/// Where a frame goes.
struct Room {
    /// Place of the WQE in the ring.
    wqe: u16,
    /// Bytes in front of the WQE's data segments.
    head: usize,
    /// Bytes of the WQE's buffer before the frame.
    skip: usize,
    /// The strides that it takes, where there are any.
    run: Option<Run>,
}

impl Room {
    /// What a completion says of the place, and of `len` bytes in it.
    fn cqe(&self, len: usize) -> Cqe64 {
        let cqe = Cqe64::zeroed().with(Cqe64::OP_OWN_OPCODE, u32::from(CqeOpcode::RESP_SEND.0));
        match self.run {
            None => cqe.with(Cqe64::BYTE_CNT, len as u32).with(Cqe64::WQE_COUNTER, u32::from(self.wqe)),
            Some(run) => cqe
                .with(Cqe64::WQE_ID, u32::from(self.wqe))
                .with(Cqe64::WQE_COUNTER, run.first)
                .with(Cqe64::BYTE_CNT_MPWRQ_CONSUMED_STRIDES, run.count)
                .with(Cqe64::BYTE_CNT_MPWRQ_BYTE_CNT, len as u32),
        }
    }
}

/// Finds room for a frame of `len` bytes in what is posted. A WQE without enough of it is completed by a filler.
fn find_room(
    rq: &mut Rq,
    len: usize,
    completions: &mut Completions,
    host: &mut Host,
) -> Result<Option<Room>, WorkError> {
    // Room that a filler ends is followed by a whole WQE, which takes every frame.
    for _ in 0..2 {
        if posted(rq, host) == 0 {
            return Ok(None);
        }
        let Some(strides) = &mut rq.strides else {
            return Ok(Some(Room { wqe: rq.head as u16, head: 0, skip: 0, run: None }));
        };
        strides.follow(&rq.ring, rq.log_size, rq.log_stride, &host.dma)?;
        let head = strides.head();
        match strides.take(len) {
            Ok(run) => {
                let skip = strides.offset(run.first);
                return Ok(Some(Room { wqe: run.wqe, head, skip, run: Some(run) }));
            }
            Err(run) => {
                rq.head = rq.head.wrapping_add(1);
                let filler = Room { wqe: run.wqe, head, skip: 0, run: Some(run) };
                let cqe = filler.cqe(0).with(Cqe64::BYTE_CNT_MPWRQ_FILLER, 1).with(Cqe64::USER_INDEX, rq.user_index);
                host.counters.rx_fillers += 1;
                completions.complete(host, rq.cqn, Completion::new(&cqe.0));
            }
        }
    }
    Ok(None)
}

/// Writes a frame to its place in the buffers of a WQE.
fn scatter(rq: &Rq, rqn: u32, room: &Room, stored: &Stored<'_>, mkeys: &Mkeys, host: &Host) -> Result<(), WorkError> {
    let dma = &host.dma;
    let stride = 1usize << rq.log_stride;
    let mut wqe = [0; MAX_WQE];
    let wqe = &mut wqe[..stride.min(MAX_WQE)];
    let at = rq.ring.iova(u64::from(room.wqe) << rq.log_stride);
    dma.read(at, wqe).map_err(|_| WorkError::UNREADABLE)?;
    if room.run.is_none_or(|run| run.first == 0) {
        host.trace_wqe(EntryKind::ReceiveWqe, rqn, u32::from(room.wqe), wqe);
    }
    let (mut filled, mut skip) = (0, room.skip);
    for segment in wqe[room.head..].chunks_exact(WqeDataSeg::SIZE) {
        if filled == stored.len {
            break;
        }
        let segment = WqeDataSeg::from_prefix(segment);
        let key = segment.get(WqeDataSeg::LKEY);
        // The top bit asks for padding at the start, which has no effect on what is stored.
        let len = segment.get(WqeDataSeg::BYTE_COUNT_LENGTH) as usize;
        if key == TERMINATE_MKEY {
            break;
        }
        let inner = skip.min(len);
        skip -= inner;
        let address = segment.get_wide(WqeDataSeg::ADDR).wrapping_add(inner as u64);
        let end = filled.saturating_add(len - inner).min(stored.len);
        stored.within(filled, end, |offset, bytes| {
            let address = address.wrapping_add(offset as u64);
            if rq.reserved_key && key == crate::firmware::objects::RESERVED_LKEY {
                return dma.write(address, bytes).map_err(|_| WorkError::UNMAPPED);
            }
            mkeys.write(key, address, bytes, Some(rq.pd), dma).map_err(|fault| WorkError::of(fault.syndrome()))
        })?;
        filled = end;
    }
    if filled == stored.len { Ok(()) } else { Err(WorkError::RECEIVE_LENGTH) }
}

/// Writes the offload's half of a completion. `cut` bytes in front of the hole were not stored.
fn describe(completion: &mut Completion, outcome: &Outcome, cut: usize, behaviour: &Behaviour, host: &mut Host) {
    let mut cqe = OffloadCqe(completion.bytes);
    if behaviour.first_half == FirstHalf::Noise && outcome.placed.is_none() {
        noise(&mut cqe.0[..CQE], host.counters.rx_completions);
    }
    if let Some(run) = outcome.placed {
        let hidden = if behaviour.vlan_hlen == VlanHlen::AsStored { cut as u32 } else { 0 };
        cqe.set(OffloadCqe::CCLEN, run.len);
        cqe.set(OffloadCqe::HLEN, run.hole - hidden);
        cqe.set(OffloadCqe::CCOFF_OR_RESYNC_TCP_SN, run.ccoff);
        cqe.set(OffloadCqe::CCID, u32::from(run.ccid));
        cqe.set(OffloadCqe::CQE64_B1_NVMEOTCP_ZC, 1);
        host.counters.placed_packets += 1;
        host.counters.placed_bytes += u64::from(run.len);
    }
    if outcome.ddgst_ok {
        cqe.set(OffloadCqe::CQE64_B1_NVMEOTCP_DDGST, 1);
        host.counters.digest_ok_packets += 1;
    }
    if let Some(sequence) = outcome.resync {
        cqe.set(OffloadCqe::CQE64_B1_NVMEOTCP_RESYNC, 1);
        cqe.set(OffloadCqe::CCOFF_OR_RESYNC_TCP_SN, sequence);
        host.counters.resync_requests += 1;
    }
    completion.bytes = cqe.0;
}

/// Fills `bytes` with what looks random and depends on `seed` alone (xorshift64).
fn noise(bytes: &mut [u8], seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for chunk in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
}
