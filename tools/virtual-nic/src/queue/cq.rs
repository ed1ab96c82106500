//! Completion queues: 64-byte entries, alone or as the second half of 128 bytes, and their arming
//! (`mlx5-bringup.md` §8.1, `nvme-tcp-offload.md` §5).

use super::compression::Row;
use super::eq::EventQueues;
use super::ring::Ring;
use super::umem::{Place, Umems};
use crate::host::Host;
use crate::table::Table;
use firmware_iface::context::Cqc;
use hw_regs::cqe::{Cqe64, CqeOpcode};
use hw_regs::doorbell::CqDoorbellRecord;
use hw_regs::eqe::{CqErrorSyndrome, EqeComp, EqeCqErr, EventType};
use hw_regs::layout::{Access, Layout};

/// Counters have 24 bits.
const COUNTER: u32 = 0xff_ffff;
/// Bytes of a completion proper.
pub(crate) const CQE: usize = Cqe64::SIZE;

/// An arm that waits for its completion.
#[derive(Clone, Copy, Debug)]
struct Armed {
    sequence: u32,
    solicited_only: bool,
}

/// A completion queue.
pub(crate) struct Cq {
    pub(crate) context: Cqc,
    pub(crate) ring: Ring,
    pub(crate) log_size: u32,
    /// Bytes of an entry, 64 or 128.
    pub(crate) stride: usize,
    pub(crate) eqn: u32,
    pub(crate) uar: u32,
    /// Address of the doorbell record.
    pub(crate) record: u64,
    pub(crate) umems: Umems,
    pub(crate) ignore_overrun: bool,
    producer: u32,
    /// The consumer counter when the record was last read.
    consumer: u32,
    armed: Option<Armed>,
    /// Sequence number of the last arm that led to an event.
    used_sequence: Option<u32>,
    /// The newest solicited or error completion, as a producer count.
    last_solicited: u32,
    failed: bool,
    /// Where receive completions wait to be compressed.
    row: Option<Row>,
}

impl Cq {
    pub(crate) fn new(context: Cqc, place: Place, stride: usize, row: Option<Row>) -> Cq {
        Cq {
            ring: place.ring,
            log_size: context.get(Cqc::LOG_CQ_SIZE),
            stride,
            eqn: context.get(Cqc::C_EQN_OR_APU_ELEMENT),
            uar: context.get(Cqc::UAR_PAGE),
            record: place.record,
            umems: place.umems,
            ignore_overrun: context.is_set(Cqc::OI),
            context,
            producer: 0,
            consumer: 0,
            armed: None,
            used_sequence: None,
            last_solicited: 0,
            failed: false,
            row,
        }
    }

    /// The context as QUERY_CQ shows it.
    pub(crate) fn query(&self) -> Cqc {
        self.context
            .with(Cqc::STATUS, if self.failed { 0xa } else { 0 })
            .with(Cqc::OI, u32::from(self.ignore_overrun))
            .with(Cqc::C_EQN_OR_APU_ELEMENT, self.eqn)
            .with(Cqc::CONSUMER_COUNTER, self.consumer)
            .with(Cqc::PRODUCER_COUNTER, self.producer)
    }

    /// True if there is room for `slots` more, or nobody asks; reads the consumer's record before it says no.
    fn has_room(&mut self, host: &mut Host, slots: u32) -> bool {
        if self.ignore_overrun {
            return true;
        }
        let Some(most) = (1u32 << self.log_size).checked_sub(slots) else { return false };
        if self.producer.wrapping_sub(self.consumer) & COUNTER <= most {
            return true;
        }
        let record = host.dma.load_be32(self.record);
        self.consumer = host.checked(record).unwrap_or(self.consumer) & COUNTER;
        self.producer.wrapping_sub(self.consumer) & COUNTER <= most
    }
}

/// A completion to be written. The first half of a 128-byte entry is 64 bytes before it.
pub(crate) struct Completion {
    /// Offload half, then the completion proper.
    pub(crate) bytes: [u8; 2 * CQE],
}

impl Completion {
    /// `cqe` is the completion proper.
    pub(crate) fn new(cqe: &[u8; CQE]) -> Completion {
        let mut bytes = [0; 2 * CQE];
        bytes[CQE..].copy_from_slice(cqe);
        Completion { bytes }
    }

    /// The completion proper.
    fn cqe(&self) -> Cqe64 {
        Cqe64::from_prefix(&self.bytes[CQE..])
    }

    /// Changes the completion proper.
    pub(crate) fn edit(&mut self, edit: impl FnOnce(&mut Cqe64)) {
        let mut cqe = self.cqe();
        edit(&mut cqe);
        self.bytes[CQE..].copy_from_slice(cqe.bytes());
    }
}

/// All completion queues and the event queues that they report to.
pub(crate) struct Completions {
    pub(crate) cqs: Table<Cq>,
    pub(crate) eqs: EventQueues,
    /// Queues with a row that has not ended.
    rows: Vec<u32>,
}

impl Completions {
    /// No queues.
    pub(crate) fn new(cqs: Table<Cq>, eqs: EventQueues) -> Completions {
        Completions { cqs, eqs, rows: Vec::new() }
    }

    /// Completes a received packet: at once, or in a row with others if the queue compresses. `strided`: its place is a
    /// stride.
    pub(crate) fn complete_receive(&mut self, host: &mut Host, cqn: u32, completion: Completion, strided: bool) {
        let row = self.cqs.get_mut(cqn).and_then(|cq| cq.row.as_mut());
        let Some(row) = row else { return self.complete(host, cqn, completion) };
        let cqe = completion.cqe();
        if !row.fits(&cqe) {
            self.end_row(host, cqn);
        }
        let Some(row) = self.cqs.get_mut(cqn).and_then(|cq| cq.row.as_mut()) else { return };
        row.add(&cqe, strided);
        if row.len() == 1 {
            self.rows.push(cqn);
        }
    }

    /// True if a row has not ended.
    pub(crate) fn has_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    /// Ends all rows: nothing is held back any more.
    pub(crate) fn end_rows(&mut self, host: &mut Host) {
        while let Some(cqn) = self.rows.last().copied() {
            self.end_row(host, cqn);
        }
    }

    /// Forgets all rows.
    pub(crate) fn drop_rows(&mut self) {
        for cqn in std::mem::take(&mut self.rows) {
            self.cqs.get_mut(cqn).and_then(|cq| cq.row.as_mut()).into_iter().for_each(Row::clear);
        }
    }

    /// Writes a row: arrays of mini CQEs, then the title, which makes them valid.
    fn end_row(&mut self, host: &mut Host, cqn: u32) {
        self.rows.retain(|open| *open != cqn);
        let Some(cq) = self.cqs.get_mut(cqn) else { return };
        let Some(row) = &cq.row else { return };
        let (slots, title) = (row.len() as u32, Completion::new(&row.title().0));
        if cq.failed || slots == 0 {
            cq.row.iter_mut().for_each(Row::clear);
            return;
        }
        if slots > 1 {
            host.counters.rx_compressed += u64::from(slots);
        }
        // Without room for all of it nothing is written: the title fails the queue.
        if cq.has_room(host, slots) {
            for (slot, array) in cq.row.iter().flat_map(Row::arrays) {
                let at = cq.ring.iova(u64::from(cq.producer + slot) * CQE as u64);
                let written = host.dma.publish(at, &array);
                host.checked(written);
                host.trace_cqe(cqn, cq.producer.wrapping_add(slot) & COUNTER, &array);
            }
        }
        cq.row.iter_mut().for_each(Row::clear);
        self.write(host, cqn, title, slots);
    }

    /// Writes a completion, its owner bit included, and raises the event if the queue is armed for it.
    pub(crate) fn complete(&mut self, host: &mut Host, cqn: u32, completion: Completion) {
        if self.cqs.get(cqn).is_some_and(|cq| cq.row.as_ref().is_some_and(|row| row.len() > 0)) {
            self.end_row(host, cqn);
        }
        self.write(host, cqn, completion, 1);
    }

    /// Writes a completion that stands for so many slots.
    fn write(&mut self, host: &mut Host, cqn: u32, mut completion: Completion, slots: u32) {
        let Some(cq) = self.cqs.get_mut(cqn) else { return };
        if cq.failed {
            return;
        }
        if !cq.has_room(host, slots) {
            host.counters.misuse.cq_overrun += 1;
            self.fail(host, cqn, CqErrorSyndrome::CQ_OVERRUN);
            return;
        }
        let bytes = &mut completion.bytes[2 * CQE - cq.stride..];
        host.faults.tamper(bytes);
        let last = bytes.len() - 1;
        bytes[last] = bytes[last] & !1 | (cq.producer >> cq.log_size & 1) as u8;
        let op_own = bytes[last];
        let at = cq.ring.iova(u64::from(cq.producer) * cq.stride as u64);
        let written = host.dma.publish(at, bytes);
        if host.checked(written).is_none() {
            self.fail(host, cqn, CqErrorSyndrome::CQ_ACCESS_VIOLATION_ERROR);
            return;
        }
        host.trace_cqe(cqn, cq.producer, bytes);
        cq.producer = (cq.producer + slots) & COUNTER;
        let opcode = CqeOpcode(op_own >> 4);
        let error = opcode == CqeOpcode::REQ_ERR || opcode == CqeOpcode::RESP_ERR;
        let solicited = error || op_own & 2 != 0;
        if solicited {
            cq.last_solicited = cq.producer;
        }
        if cq.armed.is_some_and(|armed| solicited || !armed.solicited_only) {
            self.fire(host, cqn);
        }
    }

    /// Raises the completion event of an armed queue.
    fn fire(&mut self, host: &mut Host, cqn: u32) {
        let Some(cq) = self.cqs.get_mut(cqn) else { return };
        let Some(armed) = cq.armed.take() else { return };
        cq.used_sequence = Some(armed.sequence);
        let data = EqeComp::zeroed().with(EqeComp::CQN_CQN_24, cqn);
        self.eqs.completion(host, cq.eqn, data.bytes());
    }

    /// An arm doorbell. `word` is the record's second word: sequence number, solicited only, consumer counter.
    pub(crate) fn arm(&mut self, host: &mut Host, cqn: u32, word: u32, strict: bool) {
        let Some(cq) = self.cqs.get_mut(cqn) else { return };
        let mut record = CqDoorbellRecord::zeroed();
        record.set(CqDoorbellRecord::ARM, word);
        let sequence = record.get(CqDoorbellRecord::ARM_SN);
        let ci = record.get(CqDoorbellRecord::ARM_CI);
        let solicited_only = record.is_set(CqDoorbellRecord::ARM_CMD_SOLICITED_ONLY);
        if strict && cq.used_sequence == Some(sequence) {
            host.counters.misuse.stale_arm += 1;
            return;
        }
        cq.consumer = ci;
        cq.armed = Some(Armed { sequence, solicited_only });
        let newest = if solicited_only { cq.last_solicited } else { cq.producer };
        let ahead = newest.wrapping_sub(ci) & COUNTER;
        if ahead != 0 && ahead <= COUNTER / 2 {
            self.fire(host, cqn);
        }
    }

    /// Puts a queue out of service and says so.
    pub(crate) fn fail(&mut self, host: &mut Host, cqn: u32, syndrome: CqErrorSyndrome) {
        if let Some(cq) = self.cqs.get_mut(cqn) {
            cq.failed = true;
        }
        let data = EqeCqErr::zeroed().with(EqeCqErr::CQN_CQN_24, cqn).with(EqeCqErr::SYNDROME, u32::from(syndrome.0));
        self.eqs.notify(host, EventType::CQ_ERROR, 0, data.bytes());
    }
}
