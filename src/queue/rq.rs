//! The receive queue: buffers in the order in which the device fills them.
//!
//! A work request is one data segment and never changes but for its address. The device takes them in order and names each
//! in the completion (`wqe_counter`); the name is checked against what is posted. There is no doorbell register: the device
//! reads the doorbell record when a packet arrives (`mlx5-bringup.md` §8.3).

use super::cq::{CompletionQueue, CqeFields, CqeFormat, ErrorCompletion, Polled, name};
use super::pool::RxPool;
use super::ring::{DoorbellRecord, RingKind, RingView};
use super::{BadCompletion, CompletionFault, Rejections};
use crate::adapter::Handle;
use crate::dma::DmaBuf;
use crate::frame::{Arrival, RxBuffer};
use hw_regs::cqe::{Cqe64, CqeOpcode};
use hw_regs::layout::{Access, Layout};
use hw_regs::wqe::WqeDataSeg;

/// Bytes of a work request.
pub(super) const WQE_BYTES: usize = 16;
/// Largest queue: with half of the 16-bit counter's range at most, no counter is ambiguous.
pub(super) const MAX_LOG_WQES: u32 = 15;

/// What a slot awaits that is not posted: no name.
const NOTHING: u32 = u32::MAX;
/// The buffer of a slot that has none.
const NONE: u32 = u32::MAX;

/// A place in the ring.
///
/// | awaits | buffer | |
/// |---|---|---|
/// | a counter | a buffer | posted: the device may write the buffer |
/// | nothing | none | its buffer was taken |
/// | nothing | a buffer | the device is done with it although it was not taken: it is posted again as it is |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    /// How a completion names it ([`name`]).
    awaits: u32,
    buffer: u32,
}

const EMPTY: Slot = Slot { awaits: NOTHING, buffer: NONE };

/// A receive queue.
#[derive(Debug)]
pub struct ReceiveQueue {
    ring: DmaBuf,
    record: DoorbellRecord,
    handle: Option<Handle>,
    rqn: u32,
    slots: Box<[Slot]>,
    buffer_size: u32,
    lkey: u32,
    /// Work requests written; the device knows all of them.
    producer: u32,
    /// Slot of the oldest work request that was not completed, when last looked for: the first of those completed `ahead` of
    /// older ones may be here by now. The ring's end stands for the beginning of the next lap.
    next: u32,
    /// Work requests of the laps before.
    laps: u32,
    /// Work requests from `consumer` on that are complete.
    ahead: u32,
    failed: bool,
    rejected: Rejections,
}

impl ReceiveQueue {
    pub(super) fn new(
        ring: DmaBuf,
        record: DoorbellRecord,
        handle: Handle,
        buffer_size: u32,
        lkey: u32,
    ) -> ReceiveQueue {
        let wqes = ring.len() / WQE_BYTES;
        assert!(wqes.is_power_of_two() && wqes <= 1 << MAX_LOG_WQES);
        record.store_first(0);
        ReceiveQueue {
            ring,
            record,
            rqn: handle.number(),
            handle: Some(handle),
            slots: vec![EMPTY; wqes].into(),
            buffer_size,
            lkey,
            producer: 0,
            next: 0,
            laps: 0,
            ahead: 0,
            failed: false,
            rejected: Rejections::default(),
        }
    }

    pub(super) fn take_handle(&mut self) -> Handle {
        self.handle.take().expect("taken once, by the one who destroys the queue")
    }

    pub(crate) fn into_handle(mut self) -> Handle {
        self.take_handle()
    }

    /// Number by which firmware knows the queue.
    pub fn rqn(&self) -> u32 {
        self.rqn
    }

    /// The ring, for whoever looks at it.
    pub fn view(&self) -> RingView<'_> {
        RingView {
            kind: RingKind::Rq,
            number: self.rqn,
            memory: &self.ring,
            stride: WQE_BYTES,
            producer: Some(self.producer),
            consumer: self.consumer(),
            record: Some(self.record.buffer()),
        }
    }

    /// Work requests that fit.
    pub fn capacity(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Buffers in the queue: the pool's [outstanding](RxPool::outstanding) buffers are these and those in frames.
    pub fn posted(&self) -> u32 {
        self.producer.wrapping_sub(self.consumer()) - self.ahead
    }

    /// True once the device reported an error: it fills no buffer until the queue was recovered.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Completions that were not believed, by reason.
    pub fn rejected(&self) -> &Rejections {
        &self.rejected
    }

    /// Oldest work request that was not completed.
    #[inline(always)]
    fn consumer(&self) -> u32 {
        self.laps.wrapping_add(self.next)
    }

    #[inline(always)]
    fn slot(&self, counter: u32) -> usize {
        (counter & (self.capacity() - 1)) as usize
    }

    /// Posts buffers until the queue is full or the pool is empty, and tells the device once. Returns how many: none while
    /// the queue is in the error state.
    ///
    /// # Panics
    /// If the pool's buffers have another size than the queue was created for.
    pub fn post(&mut self, pool: &mut RxPool) -> u32 {
        assert_eq!(pool.buffer_size(), self.buffer_size, "the pool of another queue");
        if self.failed {
            return 0;
        }
        let segment = WqeDataSeg::zeroed()
            .with(WqeDataSeg::BYTE_COUNT_LENGTH, self.buffer_size)
            .with(WqeDataSeg::LKEY, self.lkey);
        self.skip_completed();
        let first = self.producer;
        let free = self.capacity() - self.producer.wrapping_sub(self.consumer());
        for _ in 0..free {
            let slot = self.slot(self.producer);
            let buffer = match self.slots[slot].buffer {
                NONE => match pool.lend() {
                    Some(RxBuffer(index)) => index,
                    None => break,
                },
                kept => kept,
            };
            let segment = segment.with_wide(WqeDataSeg::ADDR, pool.iova(buffer).get());
            self.ring.write(slot * WQE_BYTES, &segment.0);
            self.slots[slot] = Slot { awaits: name(self.producer as u16), buffer };
            self.producer = self.producer.wrapping_add(1);
        }
        let new = self.producer.wrapping_sub(first);
        if new != 0 {
            self.record.store_first(self.producer & 0xffff);
        }
        new
    }

    /// The buffer that a received packet is in, and the packet's length: checks the entry's kind, its counter and its byte
    /// count. What else the entry says is for the caller to check.
    #[inline(always)]
    pub fn accept<E: CqeFormat>(&mut self, cqe: &impl CqeFields<E>) -> Result<Arrival, CompletionFault> {
        // One comparison for opcode RESP_SEND and format 0 (no data in the entry, not compressed).
        if cqe.op() & 0xfc != CqeOpcode::RESP_SEND.0 << 4 {
            return Err(self.refuse(&cqe.base_copy()));
        }
        let bytes = cqe.base_field(Cqe64::BYTE_CNT);
        let buffer = self.take(cqe.base_field(Cqe64::WQE_COUNTER) as u16, bytes)?;
        Ok(Arrival::new(buffer, bytes))
    }

    /// Takes packets in order for as long as they are as they mostly are: at most `limit` entries of `cq` that are written,
    /// report a received packet, have this flow tag, name the next work request, and are taken by `each`. An entry that is not,
    /// and what follows it, stays where it is, for [`CompletionQueue::poll_in_place`] and [`ReceiveQueue::accept`] to say what is wrong with it.
    /// Returns how many were taken.
    ///
    /// `each` sees the entry and the buffer, checks the byte count ([`Arrival::check`] with
    /// [`buffer_size`](ReceiveQueue::buffer_size)), and gives the buffer back if it does not take the packet.
    #[inline(always)]
    pub(crate) fn accept_run<E: CqeFormat>(
        &mut self,
        cq: &mut CompletionQueue<E>,
        flow_tag: u32,
        limit: u32,
        mut each: impl FnMut(&Polled<'_, E>, RxBuffer) -> Result<(), RxBuffer>,
    ) -> u32 {
        let slots = self.slots.get_mut(self.next as usize..).unwrap_or_default();
        let entries = cq.ahead(CqeOpcode::RESP_SEND.0 << 4, flow_tag, slots.len().min(limit as usize));
        let slots = &mut slots[..entries.len()];
        let mut taken = 0;
        while let Some(slot) = slots.get_mut(taken)
            && let Some(entry) = entries.get(taken, slot.awaits)
        {
            if each(&entry, RxBuffer(slot.buffer)).is_err() {
                break;
            }
            *slot = EMPTY;
            taken += 1;
        }
        let taken = taken as u32;
        self.next += taken;
        cq.advance(taken);
        taken
    }

    /// Bytes of each receive buffer.
    #[inline(always)]
    pub fn buffer_size(&self) -> u32 {
        self.buffer_size
    }

    /// The buffer of work request `counter`, into which the device says it wrote `bytes` bytes. After an error nothing was
    /// taken; a buffer that the device was done with is posted again.
    #[inline(always)]
    pub fn take(&mut self, counter: u16, bytes: u32) -> Result<RxBuffer, BadCompletion> {
        // A slot that awaits a counter is posted, and the device knows it: `post` announces what it writes.
        match self.slots.get_mut(self.next as usize) {
            Some(slot) if slot.awaits == name(counter) && bytes.wrapping_sub(1) < self.buffer_size => {
                let buffer = slot.buffer;
                *slot = EMPTY;
                self.next += 1;
                Ok(RxBuffer(buffer))
            }
            _ => self.take_odd(counter, bytes),
        }
    }

    /// Goes on to the next lap at the ring's end.
    fn turn(&mut self) {
        if self.next >= self.capacity() {
            self.laps = self.laps.wrapping_add(self.next);
            self.next = 0;
        }
    }

    /// Steps over work requests that were completed before older ones, now that these are complete too.
    fn skip_completed(&mut self) {
        self.turn();
        while self.ahead != 0 && self.slots[self.next as usize].awaits == NOTHING {
            self.ahead -= 1;
            self.next += 1;
            self.turn();
        }
    }

    /// A posted work request.
    fn find(&self, counter: u16) -> Option<u32> {
        let posted = self.producer.wrapping_sub(self.consumer());
        let mask = self.capacity() - 1;
        let distance = u32::from(counter.wrapping_sub(self.consumer() as u16));
        // Counters run freely or are slot numbers: the reference does not say (`mlx5-bringup.md` §8.2).
        let distance = match distance < posted {
            true => distance,
            false if u32::from(counter) <= mask => u32::from(counter).wrapping_sub(self.consumer()) & mask,
            false => return None,
        };
        let found = self.consumer().wrapping_add(distance);
        (distance < posted && self.slots[self.slot(found)].awaits != NOTHING).then_some(found)
    }

    /// Everything but the next work request in order with a byte count that fits.
    #[cold]
    #[inline(never)]
    fn take_odd(&mut self, counter: u16, bytes: u32) -> Result<RxBuffer, BadCompletion> {
        self.skip_completed();
        let Some(found) = self.find(counter) else {
            return Err(self.rejected.count(BadCompletion::NotPosted(counter)));
        };
        let slot = self.slot(found);
        let buffer = self.slots[slot].buffer;
        if !(1..=self.buffer_size).contains(&bytes) {
            self.complete(found, buffer);
            return Err(self.rejected.count(BadCompletion::Length(bytes)));
        }
        self.complete(found, NONE);
        Ok(RxBuffer(buffer))
    }

    /// The device is done with work request `found`; `buffer` stays in its slot.
    fn complete(&mut self, found: u32, buffer: u32) {
        let slot = self.slot(found);
        self.slots[slot] = Slot { awaits: NOTHING, buffer };
        self.ahead += 1;
        self.skip_completed();
    }

    #[cold]
    #[inline(never)]
    fn refuse(&mut self, cqe: &Cqe64) -> CompletionFault {
        match ErrorCompletion::of(cqe) {
            Some(error) if !error.send => {
                self.failed = true;
                if let Some(found) = self.find(error.wqe_counter) {
                    let buffer = self.slots[self.slot(found)].buffer;
                    self.complete(found, buffer);
                }
                error.into()
            }
            _ => self.rejected.count(BadCompletion::Opcode(cqe.0[63])).into(),
        }
    }

    /// Makes the queue as new and gives its buffers back. Only after the queue went to the reset state or was destroyed:
    /// until then the device may still write them.
    pub(super) fn reset(&mut self, pool: &mut RxPool) {
        for slot in &mut self.slots {
            if slot.buffer != NONE {
                pool.give_back(RxBuffer(slot.buffer));
            }
            *slot = EMPTY;
        }
        (self.producer, self.next, self.laps, self.ahead) = (0, 0, 0, 0);
        self.failed = false;
        self.record.store_first(0);
    }
}

#[cfg(test)]
pub(super) mod tests {
    //! | property | test |
    //! |---|---|
    //! | every buffer is in one place at any time, whatever completes in whatever order, good or bad | `every_buffer_is_in_one_place` |
    //! | the device learns of a batch by one record, after its work requests | `a_batch_is_announced_once` |
    //! | work requests carry address, key and size | `work_requests_name_their_buffer` |
    //! | a counter that names nothing posted changes nothing | `bad_counters_are_refused` |
    //! | free-running counters and slot numbers are both understood | `counters_may_be_slot_numbers` |
    //! | a wrong byte count drops the packet and keeps the buffer | `a_wrong_length_keeps_the_buffer` |
    //! | only a received packet gives a buffer | `foreign_entries_are_refused` |
    //! | flushed work requests come back by a reset | `a_failed_queue_gives_everything_back` |
    use super::*;
    use crate::command::ObjectKind;
    use crate::queue::ring::RingMemory;
    use crate::queue::testing;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const SIZE: u32 = 128;

    /// A queue and a pool that no firmware knows.
    pub(crate) fn queue(log_wqes: u32, buffers: u32) -> (ReceiveQueue, RxPool) {
        queue_of(log_wqes, buffers, SIZE)
    }

    /// The same with buffers of `size` bytes.
    pub(crate) fn queue_of(log_wqes: u32, buffers: u32, size: u32) -> (ReceiveQueue, RxPool) {
        let heap = testing::heap();
        let pool = RxPool::new(&heap, buffers, size).expect("memory");
        let ring = RingMemory::allocate(&heap, WQE_BYTES << log_wqes).expect("memory").into_buffer();
        let record = DoorbellRecord::allocate(&heap).expect("memory");
        (ReceiveQueue::new(ring, record, testing::handle(ObjectKind::Rq, 0x77), size, 0xabcd), pool)
    }

    impl ReceiveQueue {
        /// Counter of the oldest work request that is not complete.
        pub(crate) fn next_counter(&mut self) -> u32 {
            self.skip_completed();
            self.consumer()
        }
    }

    fn packet(counter: u16, bytes: u32) -> Cqe64 {
        Cqe64::zeroed()
            .with(Cqe64::OP_OWN, u32::from(CqeOpcode::RESP_SEND.0) << 4)
            .with(Cqe64::WQE_COUNTER, counter.into())
            .with(Cqe64::BYTE_CNT, bytes)
    }

    fn error(counter: u16) -> Cqe64 {
        let entry = Cqe64::zeroed().with(Cqe64::OP_OWN, 0xe0).with(Cqe64::WQE_COUNTER, counter.into());
        Cqe64::from_prefix(&[&entry.0[..55], &[5], &entry.0[56..]].concat())
    }

    /// Buffer index behind the work request in a slot, as the device sees it.
    fn device_buffer(rq: &ReceiveQueue, pool: &RxPool, counter: u32) -> u32 {
        let segment = WqeDataSeg(rq.ring.read_array(rq.slot(counter) * WQE_BYTES));
        ((segment.get_wide(WqeDataSeg::ADDR) - pool.memory().iova().get()) / u64::from(SIZE)) as u32
    }

    #[derive(Clone, Debug)]
    enum Step {
        Post,
        /// The next packet in order.
        Next,
        /// Any counter, any length: the device is not to be trusted.
        Claim(u16, u32),
        Error(u16),
        GiveBack,
        Reset,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Post),
            8 => Just(Step::Next),
            4 => (0u16..40, 0u32..140).prop_map(|(ahead, bytes)| Step::Claim(ahead, bytes)),
            1 => (any::<u16>(), any::<u32>()).prop_map(|(counter, bytes)| Step::Claim(counter, bytes)),
            1 => (0u16..20).prop_map(Step::Error),
            6 => Just(Step::GiveBack),
            1 => Just(Step::Reset),
        ];
        prop::collection::vec(step, 1..400)
    }

    proptest! {
        #[test]
        fn every_buffer_is_in_one_place(log in 0u32..5, spare in 0u32..20, steps in steps()) {
            let buffers = (1 << log) + spare;
            let (mut rq, mut pool) = queue(log, buffers);
            let mut held: Vec<RxBuffer> = Vec::new();
            for step in steps {
                match step {
                    Step::Post => {
                        rq.post(&mut pool);
                        let full = rq.posted() == rq.capacity() - rq.ahead || pool.outstanding() == buffers;
                        prop_assert!(full || rq.has_failed());
                    }
                    Step::Next => {
                        // The oldest that is not complete: the queue itself looks for it when it has to.
                        rq.skip_completed();
                        let expected = (rq.consumer() != rq.producer).then(|| device_buffer(&rq, &pool, rq.consumer()));
                        let got = rq.accept(&packet(rq.consumer() as u16, SIZE));
                        prop_assert_eq!(got.as_ref().ok().map(Arrival::len), expected.map(|_| SIZE));
                        let got = got.map(Arrival::into_buffer);
                        prop_assert_eq!(got.as_ref().ok().map(|b| b.0), expected);
                        held.extend(got);
                    }
                    Step::Claim(ahead, bytes) => {
                        let counter = (rq.consumer() as u16).wrapping_add(ahead);
                        let before = rq.posted();
                        let got = rq.take(counter, bytes);
                        if let Ok(buffer) = &got {
                            prop_assert!((1..=SIZE).contains(&bytes));
                            prop_assert_eq!(rq.posted(), before - 1);
                            prop_assert!(!held.contains(buffer), "taken twice");
                        }
                        held.extend(got);
                    }
                    Step::Error(ahead) => {
                        let counter = (rq.consumer() as u16).wrapping_add(ahead);
                        prop_assert!(matches!(rq.accept(&error(counter)), Err(CompletionFault::Failed(_))));
                        prop_assert!(rq.has_failed());
                    }
                    Step::GiveBack => {
                        if let Some(buffer) = held.pop() {
                            pool.give_back(buffer);
                        }
                    }
                    Step::Reset => {
                        rq.reset(&mut pool);
                        prop_assert_eq!(pool.outstanding() as usize, held.len());
                        prop_assert_eq!(rq.record.load().0, 0);
                    }
                }
                // Held by frames, in slots (posted, or kept to be posted again): all different, and all that is lent.
                let mut seen: HashSet<u32> = held.iter().map(|b| b.0).collect();
                let in_slots = rq.slots.iter().filter(|slot| **slot != EMPTY).count();
                seen.extend(rq.slots.iter().filter(|slot| **slot != EMPTY).map(|slot| slot.buffer));
                prop_assert_eq!(seen.len(), held.len() + in_slots);
                prop_assert_eq!(seen.len(), pool.outstanding() as usize);
                prop_assert_eq!(rq.slots.iter().filter(|slot| slot.awaits != NOTHING).count(), rq.posted() as usize);
                prop_assert_eq!(rq.record.load().0, rq.producer & 0xffff);
            }
        }
    }

    #[test]
    fn a_batch_is_announced_once() {
        let (mut rq, mut pool) = queue(4, 10);
        assert_eq!((rq.record.load().0, rq.post(&mut pool)), (0, 10));
        assert_eq!(rq.record.load().0, 10);
        assert_eq!(rq.post(&mut pool), 0, "the pool is empty");
        let buffer = rq.take(0, 1).expect("posted");
        assert_eq!(rq.post(&mut pool), 0, "a frame owns the buffer");
        pool.give_back(buffer);
        assert_eq!(rq.post(&mut pool), 1);
        assert_eq!((rq.record.load().0, rq.posted()), (11, 10));
    }

    #[test]
    fn work_requests_name_their_buffer() {
        let (mut rq, mut pool) = queue(2, 9);
        rq.post(&mut pool);
        for n in 0..4 {
            let segment = WqeDataSeg(rq.ring.read_array(n * WQE_BYTES));
            assert_eq!(segment.get(WqeDataSeg::BYTE_COUNT), SIZE);
            assert_eq!(segment.get(WqeDataSeg::LKEY), 0xabcd);
            assert_eq!(device_buffer(&rq, &pool, n as u32), n as u32);
        }
    }

    #[test]
    fn bad_counters_are_refused() {
        let (mut rq, mut pool) = queue(3, 20);
        rq.post(&mut pool);
        let mut held: Vec<_> = (0..5).map(|n| rq.take(n, 10).expect("posted")).collect();
        // Posted are 5, 6 and 7.
        for bad in (0..=u16::MAX).filter(|counter| !(5..8).contains(counter)) {
            assert_eq!(rq.take(bad, 10), Err(BadCompletion::NotPosted(bad)));
        }
        assert_eq!(rq.rejected().not_posted, 65536 - 3);
        held.extend((5..8).rev().map(|n| rq.take(n, 10).expect("out of order is fine")));
        assert_eq!(held.iter().map(|b| b.0).collect::<HashSet<_>>().len(), 8);
        assert_eq!(rq.take(7, 10), Err(BadCompletion::NotPosted(7)), "a second time");
        assert_eq!((rq.posted(), rq.post(&mut pool)), (0, 8));
    }

    #[test]
    fn counters_may_be_slot_numbers() {
        for slot_numbers in [false, true] {
            let (mut rq, mut pool) = queue(2, 4);
            for n in 0..70_000u32 {
                rq.post(&mut pool);
                let expected = device_buffer(&rq, &pool, n);
                let counter = if slot_numbers { n & 3 } else { n & 0xffff };
                let buffer = rq.take(counter as u16, 1).expect("posted");
                assert_eq!(buffer.0, expected);
                pool.give_back(buffer);
            }
        }
    }

    #[test]
    fn a_wrong_length_keeps_the_buffer() {
        let (mut rq, mut pool) = queue(1, 2);
        rq.post(&mut pool);
        for (counter, bytes) in [(0, 0), (1, SIZE + 1), (2, u32::MAX)] {
            assert_eq!(rq.accept(&packet(counter, bytes)), Err(BadCompletion::Length(bytes).into()));
            assert_eq!((rq.posted(), rq.post(&mut pool), rq.posted()), (1, 1, 2));
        }
        assert_eq!((rq.rejected().length, pool.outstanding()), (3, 2));
        assert!(rq.accept(&packet(3, SIZE)).is_ok());
    }

    #[test]
    fn foreign_entries_are_refused() {
        let (mut rq, mut pool) = queue(1, 2);
        rq.post(&mut pool);
        for op_own in (0..=0xefu8).filter(|b| b & 0xfc != 0x20 && b >> 4 != 0xe) {
            let entry = packet(0, 10).with(Cqe64::OP_OWN, op_own.into());
            assert_eq!(rq.accept(&entry), Err(BadCompletion::Opcode(op_own).into()));
        }
        assert!(!rq.has_failed());
        assert_eq!(rq.posted(), 2);
    }

    #[test]
    fn a_failed_queue_gives_everything_back() {
        let (mut rq, mut pool) = queue(2, 6);
        rq.post(&mut pool);
        let buffer = rq.take(0, 7).expect("posted");
        for n in 1..4 {
            assert!(matches!(rq.accept(&error(n)), Err(CompletionFault::Failed(e)) if e.is_flush()));
        }
        assert_eq!((rq.has_failed(), rq.posted()), (true, 0));
        rq.reset(&mut pool);
        assert_eq!((rq.has_failed(), pool.outstanding()), (false, 1));
        pool.give_back(buffer);
        assert_eq!(rq.post(&mut pool), 4);
    }
}
