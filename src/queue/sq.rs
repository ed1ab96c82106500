//! The send ring: work requests of any kind, of whole 64-byte basic blocks, in a ring.
//!
//! ```text
//!          consumer                         producer
//!             v                                v
//!  | free ... | WQE, 2 blocks | WQE, 3 | WQE, 1 | free ... | NOP | NOP |
//!                                                         a WQE of 3 blocks did not fit before the end
//! ```
//!
//! * Counters count blocks (WQEBBs) and run freely; the device knows their low 16 bits.
//! * A WQE never wraps: what is left before the ring's end is filled with NOPs of one block each, and room accounting
//!   includes them, so that [`SendRing::post`] either takes a WQE or says that there is no room.
//! * Nothing is shown to the device until [`SendRing::ring_doorbell`]: the doorbell record, then one 8-byte register write
//!   for everything posted since the last one.
//! * The device completes in order and tells only of WQEs that ask for it: [`SendRing::retire`] hands out the records of
//!   everything up to the one that a completion names.

use super::cq::ErrorCompletion;
use super::ring::{DoorbellRecord, RingKind, RingView};
use super::{BadCompletion, CompletionFault};
use crate::adapter::Handle;
use crate::dma::{BLOCK, DmaBuf, Window};
use crate::platform::Platform;
use hw_regs::barrier;
use hw_regs::cqe::{Cqe64, CqeOpcode};
use hw_regs::layout::{Access, Layout};
use hw_regs::uar;
use hw_regs::wqe::{WqeCtrlSeg, WqeOpcode};

/// Bytes of a basic block.
pub const WQEBB: usize = 64;
/// Bytes of a data segment, the unit of a WQE's size.
pub const DS: usize = 16;
/// Data segments of the largest WQE: the field has 6 bits, and whole blocks leave 60 (`nvme-tcp-offload.md` §4.7).
pub const MAX_DS: u32 = 60;
/// Largest ring: with half of the 16-bit counter's range at most, no counter is ambiguous.
pub(super) const MAX_LOG_WQEBBS: u32 = 15;
/// Smallest ring: the largest WQE and the NOPs before it must fit.
pub(super) const MIN_LOG_WQEBBS: u32 = 5;

/// Basic blocks of a WQE of `ds` data segments.
#[inline(always)]
pub const fn wqebbs(ds: u32) -> u32 {
    ds.div_ceil((WQEBB / DS) as u32)
}

/// The first 16 bytes of every WQE (`mlx5-bringup.md` §8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// What to do.
    pub opcode: WqeOpcode,
    /// Modifier of the opcode.
    pub opmod: u8,
    /// Ask for a completion entry.
    pub completion: bool,
    /// Last word: an immediate, a memory key, or a TIR number shifted left by 8.
    pub general_id: u32,
}

impl Control {
    /// The segment for a WQE of `ds` data segments at block `index` of queue `sqn`.
    #[inline(always)]
    pub fn encode(&self, index: u16, sqn: u32, ds: u32) -> WqeCtrlSeg {
        WqeCtrlSeg::zeroed()
            .with(
                WqeCtrlSeg::OPMOD_IDX_OPCODE,
                u32::from(self.opmod) << 24 | u32::from(index) << 8 | u32::from(self.opcode.0),
            )
            .with(WqeCtrlSeg::QPN_DS, sqn << 8 | ds)
            .with(WqeCtrlSeg::FM_CE_SE, u32::from(self.completion) << 3)
            .with(WqeCtrlSeg::IMM, self.general_id)
    }
}

/// Room for one WQE in the ring, to be filled in whole: the ring holds whatever was there a lap ago.
#[derive(Debug)]
pub struct Wqe<'a> {
    room: Window<'a>,
    ds: u32,
    index: u16,
    sqn: u32,
}

impl Wqe<'_> {
    /// Block index that the control segment carries.
    #[inline(always)]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Queue number that the control segment carries.
    #[inline(always)]
    pub fn sqn(&self) -> u32 {
        self.sqn
    }

    /// Size in data segments of 16 bytes.
    #[inline(always)]
    pub fn ds(&self) -> u32 {
        self.ds
    }

    /// Writes `bytes` at byte `offset` of the WQE.
    ///
    /// # Panics
    /// If they do not fit into the WQE.
    #[inline(always)]
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.room.write(offset, bytes);
    }

    /// Writes block `n` of the WQE, whose size is then one of whole blocks.
    ///
    /// # Panics
    /// If it has no such block.
    #[inline(always)]
    pub fn write_block(&mut self, n: usize, block: &[u8; BLOCK]) {
        self.room.write_block(n, block);
    }

    /// Writes the control segment.
    #[inline(always)]
    pub fn control(&mut self, control: &Control) {
        let segment = control.encode(self.index, self.sqn, self.ds);
        self.write(0, &segment.0);
    }
}

/// Out of line, so that the hot path carries no formatting.
#[cold]
#[inline(never)]
fn not_a_size(ds: u32) -> ! {
    panic!("a WQE of {ds} data segments")
}

/// What software remembers of the WQE that begins at a block.
#[derive(Debug)]
struct Slot<R> {
    /// Blocks; 0 where no WQE begins.
    blocks: u8,
    /// The owner's record; `None` for a NOP that fills the end.
    record: Option<R>,
}

/// A ring of work requests with a record `R` for each.
///
/// Only this type computes positions; what a WQE means is the business of who posts it (frames: [`SendQueue`], the
/// control queue of an offloaded connection: `ddp`).
///
/// [`SendQueue`]: super::SendQueue
#[derive(Debug)]
pub struct SendRing<R> {
    ring: DmaBuf,
    record: DoorbellRecord,
    slots: Box<[Slot<R>]>,
    handle: Handle,
    sqn: u32,
    /// Entries promised by the CQ.
    completions: u32,
    /// Block after the last one posted.
    producer: u32,
    /// Oldest block that was not retired.
    consumer: u32,
    /// What the device was told last.
    rung: u32,
    /// Block of the last WQE, whose first 8 bytes are the doorbell.
    last: u32,
    doorbell_register: u64,
    failed: bool,
    doorbells: u64,
}

impl<R> SendRing<R> {
    /// A ring of `ring.len() / 64` blocks (a power of two) that firmware knows by `handle`, doorbells in UAR `uar_page`.
    pub(super) fn new(
        ring: DmaBuf,
        record: DoorbellRecord,
        handle: Handle,
        uar_page: u32,
        completions: u32,
    ) -> SendRing<R> {
        let blocks = ring.len() / WQEBB;
        assert!(blocks.is_power_of_two() && (1 << MIN_LOG_WQEBBS..=1 << MAX_LOG_WQEBBS).contains(&blocks));
        record.store_second(0);
        SendRing {
            ring,
            record,
            slots: (0..blocks).map(|_| Slot { blocks: 0, record: None }).collect(),
            sqn: handle.number(),
            handle,
            completions,
            producer: 0,
            consumer: 0,
            rung: 0,
            last: 0,
            doorbell_register: uar::offset(uar_page, uar::BLUEFLAME),
            failed: false,
            doorbells: 0,
        }
    }

    /// Number by which firmware knows the queue.
    pub fn sqn(&self) -> u32 {
        self.sqn
    }

    /// The ring, for whoever looks at it.
    pub fn view(&self) -> RingView<'_> {
        RingView {
            kind: RingKind::Sq,
            number: self.sqn,
            memory: &self.ring,
            stride: WQEBB,
            producer: Some(self.producer),
            consumer: self.consumer,
            record: Some(self.record.buffer()),
        }
    }

    pub(crate) fn into_handle(self) -> (Handle, u32) {
        (self.handle, self.completions)
    }

    /// Blocks of the ring.
    #[inline(always)]
    pub fn capacity(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Blocks that are free; NOPs at the ring's end may take some of them.
    #[inline]
    pub fn room(&self) -> u32 {
        self.capacity() - self.producer.wrapping_sub(self.consumer)
    }

    /// True if the device was told of everything that was posted and has completed it.
    pub fn is_idle(&self) -> bool {
        self.producer == self.consumer
    }

    /// True once the device reported an error; nothing can be posted until the queue was reset.
    #[inline(always)]
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Takes nothing any more until the queue was reset: its completion queue failed.
    pub fn fail(&mut self) {
        self.failed = true;
    }

    /// Doorbells written since the beginning.
    pub fn doorbells(&self) -> u64 {
        self.doorbells
    }

    #[inline(always)]
    fn slot(&self, block: u32) -> usize {
        (block & (self.capacity() - 1)) as usize
    }

    /// Blocks of NOPs needed in front of a WQE of `blocks` at block `at`.
    #[inline(always)]
    fn padding(&self, at: u32, blocks: u32) -> u32 {
        let left = self.capacity() - (at & (self.capacity() - 1));
        if blocks > left { left } else { 0 }
    }

    /// True if WQEs of these sizes, in data segments, can be posted one after the other.
    pub fn fits(&self, sizes: impl IntoIterator<Item = u32>) -> bool {
        let mut at = self.producer;
        for ds in sizes {
            let blocks = wqebbs(ds);
            at = at.wrapping_add(self.padding(at, blocks)).wrapping_add(blocks);
            if at.wrapping_sub(self.consumer) > self.capacity() {
                return false;
            }
        }
        !self.failed
    }

    /// Posts a WQE of `ds` data segments (1 to [`MAX_DS`]), which `fill` writes. The device sees it with the next doorbell.
    /// Returns its block index, or the record if there is no room or the queue has failed.
    ///
    /// # Panics
    /// If `ds` is 0 or too large.
    #[inline(always)]
    pub fn post(&mut self, ds: u32, record: R, fill: impl FnOnce(&mut Wqe<'_>)) -> Result<u16, R> {
        if ds.wrapping_sub(1) >= MAX_DS {
            not_a_size(ds);
        }
        self.put(wqebbs(ds), ds, record, fill)
    }

    /// [`SendRing::post`] for a WQE of whole blocks (1 to 15).
    #[inline(always)]
    pub fn post_blocks(&mut self, blocks: u32, record: R, fill: impl FnOnce(&mut Wqe<'_>)) -> Result<u16, R> {
        if blocks.wrapping_sub(1) >= MAX_DS / 4 {
            not_a_size(blocks.wrapping_mul(4));
        }
        self.put(blocks, blocks * 4, record, fill)
    }

    #[inline(always)]
    fn put(&mut self, blocks: u32, ds: u32, record: R, fill: impl FnOnce(&mut Wqe<'_>)) -> Result<u16, R> {
        let padding = self.padding(self.producer, blocks);
        if self.failed || padding + blocks > self.room() {
            return Err(record);
        }
        if padding != 0 {
            self.fill_end(padding);
        }
        let slot = self.slot(self.producer);
        let index = self.producer as u16;
        let room = Window::new(&self.ring, slot, blocks as usize);
        fill(&mut Wqe { room, ds, index, sqn: self.sqn });
        self.slots[slot] = Slot { blocks: blocks as u8, record: Some(record) };
        self.last = self.producer;
        self.producer = self.producer.wrapping_add(blocks);
        Ok(index)
    }

    #[cold]
    #[inline(never)]
    fn fill_end(&mut self, blocks: u32) {
        let nop = Control { opcode: WqeOpcode::NOP, opmod: 0, completion: false, general_id: 0 };
        for _ in 0..blocks {
            let slot = self.slot(self.producer);
            let segment = nop.encode(self.producer as u16, self.sqn, 1);
            self.ring.write(slot * WQEBB, &segment.0);
            self.slots[slot] = Slot { blocks: 1, record: None };
            self.producer = self.producer.wrapping_add(1);
        }
    }

    /// Tells the device of everything posted since the last call, with one register write. Returns false if there was
    /// nothing to tell.
    #[inline]
    pub fn ring_doorbell(&mut self, platform: &impl Platform) -> bool {
        if self.rung == self.producer {
            return false;
        }
        self.rung = self.producer;
        self.doorbells += 1;
        self.record.store_second(self.producer & 0xffff);
        let control = self.ring.read_array::<8>(self.slot(self.last) * WQEBB);
        barrier::before_doorbell();
        platform.write64(self.doorbell_register, u64::from_be_bytes(control));
        true
    }

    /// Checks what an entry of the queue's CQ says and returns the block index that it names, for [`SendRing::retire`]. A
    /// failure puts the ring into the failed state.
    #[inline]
    pub fn check(&mut self, cqe: &Cqe64) -> Result<u16, CompletionFault> {
        // One comparison for opcode REQ and format 0 (no data in the entry, not compressed).
        if cqe.0[63] & 0xfc != CqeOpcode::REQ.0 << 4 {
            return Err(self.refuse(cqe));
        }
        if cqe.get(Cqe64::SOP_DROP_QPN_QPN_OR_FLOW_TAG) != self.sqn {
            return Err(BadCompletion::ForeignQueue(cqe.get(Cqe64::SOP_DROP_QPN_QPN_OR_FLOW_TAG)).into());
        }
        Ok(cqe.get(Cqe64::WQE_COUNTER) as u16)
    }

    #[cold]
    fn refuse(&mut self, cqe: &Cqe64) -> CompletionFault {
        match ErrorCompletion::of(cqe) {
            Some(error) if error.queue != self.sqn => BadCompletion::ForeignQueue(error.queue).into(),
            Some(error) if error.send => {
                self.failed = true;
                error.into()
            }
            _ => BadCompletion::Opcode(cqe.0[63]).into(),
        }
    }

    /// Hands out the records of every WQE up to the one at block `index`, oldest first, and frees their blocks.
    ///
    /// `index` comes from the device: one that names no posted WQE is an error and changes nothing.
    #[inline]
    pub fn retire(&mut self, index: u16, mut each: impl FnMut(R)) -> Result<(), BadCompletion> {
        let ahead = u32::from(index.wrapping_sub(self.consumer as u16));
        // Only what the device was told of can be complete.
        let known = ahead < self.rung.wrapping_sub(self.consumer);
        let named = self.consumer.wrapping_add(ahead);
        if !known || self.slots[self.slot(named)].blocks == 0 {
            return Err(BadCompletion::NotPosted(index));
        }
        while self.consumer.wrapping_sub(named) as i32 <= 0 {
            self.pop(&mut each);
        }
        Ok(())
    }

    /// Hands out the oldest WQE; there must be one.
    #[inline(always)]
    fn pop(&mut self, each: &mut impl FnMut(R)) {
        let slot = self.slot(self.consumer);
        let Slot { blocks, record } = &mut self.slots[slot];
        // At least one block, so that a walk over the ring always ends.
        self.consumer = self.consumer.wrapping_add(u32::from((*blocks).max(1)));
        *blocks = 0;
        if let Some(record) = record.take() {
            each(record);
        }
    }

    /// Makes the ring as new and hands out the records of what was still in it, oldest first. Only after the queue went
    /// to the reset state or was destroyed: until then the device may still execute them.
    pub(super) fn reset(&mut self, mut each: impl FnMut(R)) {
        while self.consumer != self.producer {
            self.pop(&mut each);
        }
        (self.producer, self.consumer, self.rung, self.last) = (0, 0, 0, 0);
        self.failed = false;
        self.record.store_second(0);
    }
}

#[cfg(test)]
pub(super) mod tests {
    //! | property | test |
    //! |---|---|
    //! | room is what a model of the free space says; no WQE wraps; NOPs fill the end; records come back once, in order | `the_ring_keeps_its_books` |
    //! | a batch costs one record and one register write, with the last WQE's first 8 bytes | `a_batch_shares_one_doorbell` |
    //! | nothing is visible to the device before the doorbell, so nothing can complete before | `what_was_not_announced_cannot_complete` |
    //! | a counter that names no posted WQE changes nothing | `bad_counters_are_refused` |
    //! | completions of other queues, kinds and formats are refused | `foreign_entries_are_refused` |
    //! | an error stops posting until the ring was reset, and every record comes back | `a_failed_ring_gives_everything_back` |
    //! | a WQE is written where its index says, over the 16-bit wrap | `indices_wrap_at_16_bits` |
    use super::*;
    use crate::command::ObjectKind;
    use crate::queue::ring::RingMemory;
    use crate::queue::testing::{self, TestPlatform};
    use proptest::prelude::*;
    use std::collections::VecDeque;

    pub(crate) const SQN: u32 = 0x4567;

    /// A ring that no firmware knows.
    pub(crate) fn ring<R>(log_blocks: u32) -> SendRing<R> {
        let heap = testing::heap();
        let ring = RingMemory::allocate(&heap, WQEBB << log_blocks).expect("memory").into_buffer();
        let handle = testing::handle(ObjectKind::Sq, SQN);
        SendRing::new(ring, DoorbellRecord::allocate(&heap).expect("memory"), handle, 16, 1 << log_blocks)
    }

    impl<R> SendRing<R> {
        /// What the device reads at a block: (opcode, block index, SQN, data segments).
        pub(crate) fn device_control(&self, block: u32) -> (u8, u16, u32, u32) {
            let seg = WqeCtrlSeg(self.ring.read_array(self.slot(block) * WQEBB));
            let index = seg.get(WqeCtrlSeg::OPMOD_IDX_OPCODE_WQE_INDEX) as u16;
            let opcode = seg.get(WqeCtrlSeg::OPMOD_IDX_OPCODE_OPCODE) as u8;
            (opcode, index, seg.get(WqeCtrlSeg::QPN_DS_QPN), seg.get(WqeCtrlSeg::QPN_DS_DS))
        }

        /// The bytes of the WQE at a block, as the device reads them.
        pub(crate) fn device_wqe(&self, block: u32) -> Vec<u8> {
            let ds = self.device_control(block).3 as usize;
            let mut bytes = vec![0; ds * DS];
            self.ring.read(self.slot(block) * WQEBB, &mut bytes);
            bytes
        }

        /// Leaves something in every block, as a lap of other work does.
        pub(crate) fn soil(&self) {
            self.ring.fill(0, self.ring.len(), 0xee);
        }

        /// Producer counter that the device reads.
        pub(crate) fn device_producer(&self) -> u32 {
            self.record.load().1
        }
    }

    fn send(ring: &mut SendRing<u32>, ds: u32, record: u32) -> Result<u16, u32> {
        ring.post(ds, record, |wqe| {
            wqe.control(&Control { opcode: WqeOpcode::SEND, opmod: 0, completion: true, general_id: record });
            wqe.write(DS, &vec![record as u8; (ds as usize - 1) * DS]);
        })
    }

    pub(crate) fn completion(index: u16) -> Cqe64 {
        Cqe64::zeroed().with(Cqe64::SOP_DROP_QPN_QPN_OR_FLOW_TAG, SQN).with(Cqe64::WQE_COUNTER, u32::from(index))
    }

    #[derive(Clone, Debug)]
    enum Step {
        Post(u32),
        Ring,
        /// Complete the n-th of the WQEs that the device knows.
        Complete(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1..=MAX_DS).prop_map(Step::Post),
            2 => Just(Step::Ring),
            2 => (0usize..64).prop_map(Step::Complete),
        ];
        prop::collection::vec(step, 1..300)
    }

    proptest! {
        #[test]
        fn the_ring_keeps_its_books(log in MIN_LOG_WQEBBS..8, steps in steps()) {
            let platform = TestPlatform::new();
            let mut ring = ring::<u32>(log);
            let capacity = 1u64 << log;
            // The model: every block that is taken, by whom; where the device has been told to look.
            let (mut head, mut tail) = (0u64, 0u64);
            let mut posted: VecDeque<(u64, u32, Option<u32>)> = VecDeque::new();
            let mut announced = 0u64;
            let mut next = 0u32;
            for step in steps {
                match step {
                    Step::Post(ds) => {
                        let blocks = u64::from(ds.div_ceil(4));
                        let left = capacity - head % capacity;
                        let padding = if blocks > left { left } else { 0 };
                        let fits = head + padding + blocks - tail <= capacity;
                        prop_assert_eq!(ring.fits([ds]), fits);
                        let result = send(&mut ring, ds, next);
                        prop_assert_eq!(result.is_ok(), fits);
                        if fits {
                            for _ in 0..padding {
                                posted.push_back((head, 1, None));
                                head += 1;
                            }
                            prop_assert_eq!(result, Ok(head as u16));
                            posted.push_back((head, ds, Some(next)));
                            head += blocks;
                            next += 1;
                        }
                    }
                    Step::Ring => {
                        prop_assert_eq!(ring.ring_doorbell(&platform), announced != head);
                        announced = head;
                        prop_assert_eq!(u64::from(ring.device_producer()), head & 0xffff);
                        // The device walks from the oldest WQE to the producer and finds what was posted.
                        for (at, ds, record) in &posted {
                            let (opcode, index, sqn, size) = ring.device_control(*at as u32);
                            prop_assert_eq!((index, sqn), (*at as u16, SQN));
                            let expected = if record.is_some() { (WqeOpcode::SEND.0, *ds) } else { (WqeOpcode::NOP.0, 1) };
                            prop_assert_eq!((opcode, size), expected);
                            prop_assert!(at % capacity + u64::from(size.div_ceil(4)) <= capacity, "a WQE wraps");
                            if let Some(record) = record {
                                let body = &ring.device_wqe(*at as u32)[DS..];
                                prop_assert!(body.iter().all(|b| *b == *record as u8), "overwritten while posted");
                            }
                        }
                    }
                    Step::Complete(n) => {
                        let known = posted.iter().filter(|(at, ..)| *at < announced).count();
                        if known == 0 {
                            continue;
                        }
                        let (at, ..) = posted[n % known];
                        let mut expected = Vec::new();
                        while posted.front().is_some_and(|front| front.0 <= at) {
                            let (at, ds, record) = posted.pop_front().expect("looked");
                            tail = at + u64::from(ds.div_ceil(4));
                            expected.extend(record);
                        }
                        let mut got = Vec::new();
                        let index = ring.check(&completion(at as u16)).expect("a good entry");
                        prop_assert_eq!(ring.retire(index, |record| got.push(record)), Ok(()));
                        prop_assert_eq!(got, expected);
                    }
                }
                prop_assert_eq!(u64::from(ring.room()), capacity - (head - tail));
                prop_assert_eq!(ring.is_idle(), head == tail);
            }
        }
    }

    #[test]
    fn a_batch_shares_one_doorbell() {
        let platform = TestPlatform::new();
        let mut ring = ring::<u32>(6);
        assert!(!ring.ring_doorbell(&platform), "nothing to tell");
        for n in 0..5 {
            send(&mut ring, 7, n).expect("room");
        }
        assert!(platform.writes.borrow().is_empty());
        assert_eq!(ring.device_producer(), 0);
        assert!(ring.ring_doorbell(&platform));
        assert!(!ring.ring_doorbell(&platform));
        let value = u64::from(WqeOpcode::SEND.0) << 32 | 8 << 40 | u64::from(SQN) << 8 | 7;
        assert_eq!(*platform.writes.borrow(), [(16 * 4096 + 0x800, value)]);
        assert_eq!((ring.device_producer(), ring.doorbells()), (10, 1));
    }

    #[test]
    fn what_was_not_announced_cannot_complete() {
        let platform = TestPlatform::new();
        let mut ring = ring::<u32>(6);
        send(&mut ring, 4, 1).expect("room");
        assert_eq!(ring.retire(0, |_| panic!("never announced")), Err(BadCompletion::NotPosted(0)));
        ring.ring_doorbell(&platform);
        assert_eq!(ring.retire(0, |record| assert_eq!(record, 1)), Ok(()));
        assert!(ring.is_idle());
    }

    #[test]
    fn bad_counters_are_refused() {
        let platform = TestPlatform::new();
        let mut ring = ring::<u32>(6);
        for n in 0..3 {
            send(&mut ring, 8, n).expect("room");
        }
        ring.ring_doorbell(&platform);
        ring.retire(0, |_| ()).expect("the first");
        for bad in (0..=u16::MAX).filter(|index| ![2, 4].contains(index)) {
            assert_eq!(ring.retire(bad, |_| panic!("block {bad}")), Err(BadCompletion::NotPosted(bad)));
        }
        let mut got = Vec::new();
        ring.retire(4, |record| got.push(record)).expect("the last");
        assert_eq!(got, [1, 2]);
    }

    #[test]
    fn foreign_entries_are_refused() {
        let mut ring = ring::<u32>(6);
        let foreign = completion(0).with(Cqe64::SOP_DROP_QPN_QPN_OR_FLOW_TAG, SQN + 1);
        assert_eq!(ring.check(&foreign), Err(BadCompletion::ForeignQueue(SQN + 1).into()));
        for op_own in (0x04..=0xefu8).filter(|b| b & 0xfc != 0 && b >> 4 != 0xd) {
            let entry = completion(0).with(Cqe64::OP_OWN, u32::from(op_own));
            assert_eq!(ring.check(&entry), Err(BadCompletion::Opcode(op_own).into()));
        }
        assert_eq!(ring.check(&completion(9).with(Cqe64::OP_OWN, 3)), Ok(9), "owner and solicited bits are free");
        let error = foreign.with(Cqe64::OP_OWN, 0xd0);
        assert_eq!(ring.check(&error), Err(BadCompletion::ForeignQueue(SQN + 1).into()));
        assert!(!ring.has_failed());
    }

    #[test]
    fn a_failed_ring_gives_everything_back() {
        let platform = TestPlatform::new();
        let mut ring = ring::<u32>(5);
        for n in 0..6 {
            send(&mut ring, 20, n).expect("room");
        }
        ring.ring_doorbell(&platform);
        let entry = completion(0).with(Cqe64::OP_OWN, 0xd0);
        assert!(matches!(ring.check(&entry), Err(CompletionFault::Failed(error)) if error.wqe_counter == 0));
        assert!(ring.has_failed() && !ring.fits([1]));
        assert_eq!(send(&mut ring, 4, 9), Err(9));
        let mut got = Vec::new();
        ring.reset(|record| got.push(record));
        assert_eq!(got, [0, 1, 2, 3, 4, 5]);
        assert_eq!((ring.room(), ring.device_producer(), ring.has_failed()), (32, 0, false));
        assert_eq!(send(&mut ring, 4, 7), Ok(0));
    }

    #[test]
    fn indices_wrap_at_16_bits() {
        let platform = TestPlatform::new();
        let mut ring = ring::<u32>(5);
        for n in 0..70_000u32 {
            let index = send(&mut ring, 3, n).expect("room");
            assert_eq!(index, n as u16);
            ring.ring_doorbell(&platform);
            assert_eq!(ring.device_control(n).1, index);
            ring.retire(index, |record| assert_eq!(record, n)).expect("posted");
        }
        assert_eq!(ring.device_producer(), 70_000 & 0xffff);
    }
}
