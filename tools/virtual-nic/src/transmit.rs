//! The transmit path: send queue doorbells, WQEs, frames to the wire, control work (`mlx5-bringup.md` §8.4, §8.5,
//! `nvme-tcp-offload.md` §4).

use crate::VirtualNic;
use crate::dma::DmaSpace;
use crate::firmware::objects::RESERVED_LKEY;
use crate::mkey::Mkeys;
use crate::packet::{ETHERTYPE_CVLAN, ETHERTYPE_SVLAN, fill_checksums};
use crate::queue::cq::Completion;
use crate::queue::sq::{DS, MAX_WQE, Sq, Wqe};
use crate::queue::{State, WorkError, lso};
use crate::receive::MIN_FRAME;
use crate::wqe::{Operation, parse};
use cxddp_trace::EntryKind;
use firmware_iface::caps::groups::PerProtocolNetworkingOffloadCaps as EthernetCaps;
use hw_regs::cqe::{Cqe64, CqeOpcode};
use hw_regs::layout::{Access, Layout};
use hw_regs::wqe::{WqeCtrlSeg, WqeDataSeg, WqeEthSeg, WqeInlineSeg, WqeOpcode};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Where inline header bytes begin in a WQE: they fill the last two bytes of the Ethernet segment first.
const INLINE_START: usize = DS + 14;
/// Bytes that a function with `wqe_inline_mode` L2 needs inline: an Ethernet header with room for a VLAN tag.
const INLINE_L2: usize = 18;
/// Most bytes that one WQE may gather: a large send of `max_lso_cap` 18.
const MAX_GATHER: usize = 1 << 18;

/// A SEND or LSO, gathered.
struct Gathered {
    /// Inline header and data, in one piece.
    bytes: Vec<u8>,
    /// Bytes of inline header.
    header: usize,
    ethernet: WqeEthSeg,
}

impl VirtualNic {
    /// Executes everything posted to a send queue.
    pub(crate) fn run_sq(&mut self, sqn: u32) {
        let mut wqe = Wqe { bytes: [0; MAX_WQE], len: 0, blocks: 0, control: WqeCtrlSeg::zeroed() };
        loop {
            let Some(sq) = self.objects.sqs.get(sqn) else { return };
            match sq.state {
                State::Reset => return,
                State::Error => return self.flush_sq(sqn),
                State::Ready => {}
            }
            let record = self.host.dma.load_be32(sq.record);
            let Some(producer) = self.host.checked(record) else { return };
            let pending = (producer as u16).wrapping_sub(sq.consumer);
            if pending == 0 {
                return;
            }
            if !sq.holds(pending) {
                self.host.counters.misuse.doorbell_record += 1;
                return self.fail_sq(sqn, &wqe, WorkError::OVERFLOW);
            }
            let mut fetched = sq.fetch(&self.host.dma, sqn, pending, &mut wqe);
            if let Some(sq) = self.objects.sqs.get_mut(sqn).filter(|sq| sq.poisoned) {
                sq.poisoned = false;
                fetched = Err(WorkError::INJECTED);
            }
            if let Some(sq) = self.objects.sqs.get(sqn) {
                self.host.trace_wqe(EntryKind::SendWqe, sqn, u32::from(sq.consumer), wqe.bytes());
            }
            if let Err(error) = fetched.and_then(|()| self.run_wqe(sqn, &wqe)) {
                return self.fail_sq(sqn, &wqe, error);
            }
            self.complete_wqe(sqn, &wqe);
        }
    }

    /// Advances past a WQE that was executed, and completes it if it asked for that.
    fn complete_wqe(&mut self, sqn: u32, wqe: &Wqe) {
        let Some(sq) = self.objects.sqs.get_mut(sqn) else { return };
        let (index, cqn) = (sq.consumer, sq.cqn);
        sq.consumer = sq.consumer.wrapping_add(wqe.blocks);
        if !wqe.signalled() {
            return;
        }
        let cqe = Cqe64::zeroed()
            .with(Cqe64::TIMESTAMP_H, (self.host.timestamp() >> 32) as u32)
            .with(Cqe64::TIMESTAMP_L, self.host.timestamp() as u32)
            .with(Cqe64::SOP_DROP_QPN_SEND_WQE_OPCODE, u32::from(wqe.opcode().0))
            .with(Cqe64::SOP_DROP_QPN_QPN_OR_FLOW_TAG, sqn)
            .with(Cqe64::WQE_COUNTER, u32::from(index))
            .with(Cqe64::OP_OWN_OPCODE, u32::from(CqeOpcode::REQ.0))
            .with(Cqe64::OP_OWN_SE, wqe.control.get(WqeCtrlSeg::FM_CE_SE_SOLICITED));
        self.host.counters.tx_completions += 1;
        self.objects.completions.complete(&mut self.host, cqn, Completion::new(&cqe.0));
    }

    /// Completes a WQE with an error, puts the queue in error and completes all others as flushed.
    fn fail_sq(&mut self, sqn: u32, wqe: &Wqe, error: WorkError) {
        let Some(sq) = self.objects.sqs.get_mut(sqn) else { return };
        log::debug!("SQ {sqn:#x}: WQE {:#x} failed: {error:?}", sq.consumer);
        let (index, cqn) = (sq.consumer, sq.cqn);
        sq.consumer = sq.consumer.wrapping_add(wqe.blocks.max(1));
        sq.state = State::Error;
        self.host.counters.error_completions += 1;
        let completion = error.completion(CqeOpcode::REQ_ERR, sqn, wqe.opcode().0, index);
        self.objects.completions.complete(&mut self.host, cqn, completion);
        if error != WorkError::OVERFLOW {
            self.flush_sq(sqn);
        }
    }

    /// Completes every posted WQE of a queue in error as flushed.
    pub(crate) fn flush_sq(&mut self, sqn: u32) {
        let mut wqe = Wqe { bytes: [0; MAX_WQE], len: 0, blocks: 0, control: WqeCtrlSeg::zeroed() };
        loop {
            let Some(sq) = self.objects.sqs.get_mut(sqn) else { return };
            let record = self.host.dma.load_be32(sq.record);
            let Some(producer) = self.host.checked(record) else { return };
            let pending = (producer as u16).wrapping_sub(sq.consumer);
            if pending == 0 || !sq.holds(pending) || !sq.flush {
                return;
            }
            // A WQE that makes no sense counts as one block.
            let _ = sq.fetch(&self.host.dma, sqn, pending, &mut wqe);
            let (index, cqn) = (sq.consumer, sq.cqn);
            sq.consumer = sq.consumer.wrapping_add(wqe.blocks);
            self.host.counters.error_completions += 1;
            let completion = WorkError::FLUSHED.completion(CqeOpcode::REQ_ERR, sqn, wqe.opcode().0, index);
            self.objects.completions.complete(&mut self.host, cqn, completion);
        }
    }

    fn run_wqe(&mut self, sqn: u32, wqe: &Wqe) -> Result<(), WorkError> {
        let Some(sq) = self.objects.sqs.get(sqn) else { return Ok(()) };
        match wqe.opcode() {
            WqeOpcode::NOP => self.host.counters.work_requests.nop += 1,
            WqeOpcode::SEND | WqeOpcode::LSO if sq.tis.is_some() => self.send(sqn, wqe)?,
            WqeOpcode::UMR | WqeOpcode::SET_PSV if sq.reg_umr => self.control(sqn, wqe)?,
            _ => return Err(WorkError::OPCODE),
        }
        Ok(())
    }

    fn send(&mut self, sqn: u32, wqe: &Wqe) -> Result<(), WorkError> {
        let Some(sq) = self.objects.sqs.get(sqn) else { return Ok(()) };
        let gathered = gather(sq, wqe, &self.objects.mkeys, &self.host.dma)?;
        let max_frame = self.firmware.port.max_frame();
        if wqe.opcode() == WqeOpcode::LSO {
            let (header, payload) = gathered.bytes.split_at(gathered.header);
            let mss = gathered.ethernet.get(WqeEthSeg::MSS_MSS_14) as usize;
            if header.len() + mss > max_frame {
                return Err(WorkError::FRAME_LENGTH);
            }
            let mut frames = Vec::new();
            lso::segment(header, payload, mss, |frame| frames.push(frame))?;
            frames.into_iter().for_each(|frame| self.put_on_wire(frame));
            self.host.counters.work_requests.lso += 1;
            return Ok(());
        }
        if gathered.header < self.inline_bytes() {
            return Err(WorkError::INLINE);
        }
        let ethernet = gathered.ethernet;
        let mut frame = gathered.bytes;
        if frame.len() < ETHERNET {
            return Err(WorkError::FRAME_LENGTH);
        }
        // With no inline header the same word can ask for a VLAN tag.
        if gathered.header == 0 && ethernet.is_set(WqeEthSeg::INSERT_VLAN_VLAN_INSERT_ENABLE) {
            let service = ethernet.is_set(WqeEthSeg::INSERT_VLAN_SVLAN);
            let kind = if service { ETHERTYPE_SVLAN } else { ETHERTYPE_CVLAN };
            let tci = ethernet.get(WqeEthSeg::INSERT_VLAN_TCI) as u16;
            let tag = kind.to_be_bytes().into_iter().chain(tci.to_be_bytes());
            frame.splice(12..12, tag);
        }
        if frame.len() > max_frame {
            return Err(WorkError::FRAME_LENGTH);
        }
        let (l3, l4) = (ethernet.is_set(WqeEthSeg::CS_FLAGS_L3_CSUM), ethernet.is_set(WqeEthSeg::CS_FLAGS_L4_CSUM));
        if l3 || l4 {
            // A frame without such headers goes out as it is.
            fill_checksums(&mut frame, l3, l4);
        }
        self.put_on_wire(frame);
        self.host.counters.work_requests.send += 1;
        Ok(())
    }

    /// Inline header bytes that the function needs (`wqe_inline_mode`).
    fn inline_bytes(&self) -> usize {
        match self.firmware.capabilities.current::<EthernetCaps>().get(EthernetCaps::WQE_INLINE_MODE) {
            0 => INLINE_L2,
            1 => self.firmware.vport.inline_bytes(),
            _ => 0,
        }
    }

    fn put_on_wire(&mut self, mut frame: Vec<u8>) {
        if !self.firmware.link_up() {
            self.host.counters.drops.tx_link_down += 1;
            return;
        }
        if frame.len() < MIN_FRAME {
            frame.resize(MIN_FRAME, 0);
        }
        self.host.sessions.sent(&self.host.counters);
        self.host.counters.tx_frames += 1;
        self.host.counters.tx_bytes += frame.len() as u64;
        if let Some(destination) = frame.first_chunk() {
            self.firmware.vport.sent.count(destination, frame.len());
        }
        self.wire.push_back(frame);
    }

    /// UMR and SET_PSV.
    fn control(&mut self, sqn: u32, wqe: &Wqe) -> Result<(), WorkError> {
        let Some(sq) = self.objects.sqs.get(sqn) else { return Ok(()) };
        let pd = sq.pd;
        let control = parse(wqe.bytes()).map_err(|fault| WorkError::of(fault.syndrome()))?;
        let done = &mut self.host.counters.work_requests;
        match control.operation {
            Operation::Nop => {}
            Operation::Umr(umr) => {
                let changed = self.objects.mkeys.umr(&umr, Some(pd), &self.host.dma);
                changed.map_err(|fault| WorkError::of(fault.syndrome()))?;
                self.objects.offload.key_changed(umr.key, umr.frees());
                done.umr += 1;
            }
            Operation::Static { tirn, params } => {
                let written = self.objects.offload.static_params(tirn, &params);
                written.map_err(|fault| WorkError::of(fault.syndrome()))?;
                done.static_params += 1;
            }
            Operation::TagFill(fill) => {
                self.objects.offload.tag_fill(&fill).map_err(|fault| WorkError::of(fault.syndrome()))?;
                done.tag_fill += 1;
            }
            Operation::Progress { tirn, params } => {
                let written = self.objects.offload.progress_params(tirn, &params);
                written.map_err(|fault| WorkError::of(fault.syndrome()))?;
                done.progress_params += 1;
            }
        }
        Ok(())
    }
}

/// Gathers the inline header and the data segments of a SEND or LSO.
fn gather(sq: &Sq, wqe: &Wqe, mkeys: &Mkeys, dma: &DmaSpace) -> Result<Gathered, WorkError> {
    let wqe = wqe.bytes();
    let ethernet = WqeEthSeg::from_prefix(wqe.get(DS..2 * DS).ok_or(WorkError::SEGMENT)?);
    let insert_vlan = ethernet.is_set(WqeEthSeg::INSERT_VLAN_VLAN_INSERT_ENABLE);
    let header = if insert_vlan { 0 } else { ethernet.get(WqeEthSeg::INLINE_HDR_SZ_SZ_10) as usize };
    let mut bytes = Vec::with_capacity(2048);
    bytes.extend_from_slice(wqe.get(INLINE_START..INLINE_START + header).ok_or(WorkError::SEGMENT)?);
    let mut at = (INLINE_START + header).next_multiple_of(DS).max(2 * DS);
    while at < wqe.len() {
        let segment = WqeDataSeg::from_prefix(&wqe[at..]);
        let filled = bytes.len();
        if segment.is_set(WqeDataSeg::BYTE_COUNT_INLINE_OR_START_PADDING) {
            let len = WqeInlineSeg::from_prefix(&wqe[at..]).get(WqeInlineSeg::BYTE_COUNT_LENGTH) as usize;
            let start = at + WqeInlineSeg::SIZE;
            bytes.extend_from_slice(wqe.get(start..start + len).ok_or(WorkError::SEGMENT)?);
            at = (start + len).next_multiple_of(DS);
            continue;
        }
        at += DS;
        let len = segment.get(WqeDataSeg::BYTE_COUNT_LENGTH) as usize;
        if filled + len > MAX_GATHER {
            return Err(WorkError::FRAME_LENGTH);
        }
        bytes.resize(filled + len, 0);
        let (key, address) = (segment.get(WqeDataSeg::LKEY), segment.get_wide(WqeDataSeg::ADDR));
        if sq.reserved_key && key == RESERVED_LKEY {
            dma.read(address, &mut bytes[filled..]).map_err(|_| WorkError::UNMAPPED)?;
        } else {
            let read = mkeys.read(key, address, &mut bytes[filled..], Some(sq.pd), dma);
            read.map_err(|fault| WorkError::of(fault.syndrome()))?;
        }
    }
    Ok(Gathered { bytes, header, ethernet })
}
