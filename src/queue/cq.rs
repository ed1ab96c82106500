//! The completion queue: a ring that the device writes and software reads, entry by entry.

use super::ring::{DoorbellRecord, RingKind, RingMemory, RingView};
use crate::adapter::Handle;
use crate::dma::{DmaBuf, DmaError, DmaHeap, DmaRing, Entries, Entry};
use crate::platform::Platform;
use hw_regs::barrier;
use hw_regs::cqe::{Cqe64, CqeOpcode, CqeSyndrome, ErrCqe, OffloadCqe};
use hw_regs::doorbell::CqArmDoorbellMmio;
use hw_regs::layout::{Access, Field, Layout};
use hw_regs::uar;
use std::marker::PhantomData;
use zerocopy::FromBytes;

/// Byte 63 of an entry that was never written: owner 1, so that it is invalid in lap 0, and opcode 0xf.
const NEVER_WRITTEN: u8 = 0xf1;
/// Byte 62 of an entry that was never written.
const NO_SIGNATURE: u8 = 0xff;
/// Bit of the last byte that says whether the sender asked for an event.
const SOLICITED: u8 = 2;
/// Counters are 24 bits wide in doorbells and records.
const COUNTER_MASK: u32 = 0xff_ffff;
/// Largest CQ: the lap parity must not be touched by the 24-bit wrap.
pub(super) const MAX_LOG_ENTRIES: u32 = 22;

mod sealed {
    pub trait Sealed {}
    impl Sealed for hw_regs::cqe::Cqe64 {}
    impl Sealed for hw_regs::cqe::OffloadCqe {}
}

/// The two forms of entries that the driver asks for.
pub trait CqeFormat: Layout + sealed::Sealed {
    /// `cqc.cqe_sz`: 0 for 64 bytes, 2 for 128 bytes of which the second half is the 64-byte entry.
    const CQE_SZ: u32;
    /// Where the 64-byte entry in it begins, in bits.
    const BASE: u32;
    /// The 64-byte entry in it.
    fn base(&self) -> &Cqe64;
}

impl CqeFormat for Cqe64 {
    const CQE_SZ: u32 = 0;
    const BASE: u32 = 0;
    #[inline(always)]
    fn base(&self) -> &Cqe64 {
        self
    }
}

impl CqeFormat for OffloadCqe {
    const CQE_SZ: u32 = 2;
    const BASE: u32 = 64 * 8;
    #[inline(always)]
    fn base(&self) -> &Cqe64 {
        Cqe64::ref_from_bytes(&self.0[64..]).expect("64 bytes of no alignment")
    }
}

/// A completion entry to read fields of: one that was copied out of its ring, or one that is [still there](Polled). Of the
/// latter every call is a load of its own, so whoever checks a value reads it once and keeps it.
pub trait CqeFields<E: CqeFormat> {
    /// The value of a field.
    fn field(&self, field: Field<E>) -> u32;

    /// The value of a field of the 64-byte entry in it.
    #[inline(always)]
    fn base_field(&self, field: Field<Cqe64>) -> u32 {
        self.field(Field::new(E::BASE + field.offset(), 32 - field.max().leading_zeros()))
    }

    /// The last byte: opcode and format. Its owner bit says nothing any more.
    fn op(&self) -> u8;

    /// The 64-byte entry in it, copied out: for errors.
    fn base_copy(&self) -> Cqe64;
}

impl<E: CqeFormat> CqeFields<E> for E {
    #[inline(always)]
    fn field(&self, field: Field<E>) -> u32 {
        self.get(field)
    }
    #[inline(always)]
    fn op(&self) -> u8 {
        self.base().0[63]
    }
    fn base_copy(&self) -> Cqe64 {
        *self.base()
    }
}

/// An entry that was polled and is still in its ring: the device does not use its place again before
/// [`CompletionQueue::update`], which waits for this borrow to end.
#[derive(Debug)]
pub struct Polled<'a, E> {
    entry: Entry<'a, E>,
    /// The last byte, with owner bit 0 in every lap.
    op: u8,
}

/// Entries that are still to be consumed.
pub(super) struct Ahead<'a, E> {
    entries: Entries<'a, E>,
    op: u8,
    /// What the last 8 bytes of an entry of the kind asked for are, but for its counter.
    last: u64,
}

/// The last 8 bytes of an entry: flow tag, and what [`name`] has.
#[inline(always)]
fn last_8([a, b, c]: [u8; 3], last: [u8; 4]) -> u64 {
    let [high, low, signature, op_own] = last;
    u64::from_ne_bytes([0, a, b, c, high, low, signature, op_own])
}

/// What of them counts: neither what stands before the flow tag, nor the signature, nor whether the entry is solicited.
const LAST_8: u64 = u64::from_ne_bytes([0, 0xff, 0xff, 0xff, 0xff, 0xff, 0, !SOLICITED]);

/// How the last word of an entry names work request `counter`: its counter, and zeros in the place of the signature and of
/// opcode, format and owner.
#[inline(always)]
pub(super) fn name(counter: u16) -> u32 {
    let [high, low] = counter.to_be_bytes();
    u32::from_ne_bytes([high, low, 0, 0])
}

impl<'a, E: CqeFormat> Ahead<'a, E> {
    /// How many places there are, written or not.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Entry `n` from here, if the device has written it, it is of the kind asked for, solicited or not, and names the work
    /// request whose [`name`] is this.
    #[inline(always)]
    pub(super) fn get(&self, n: usize, name: u32) -> Option<Polled<'a, E>> {
        let entry = self.entries.entry(n)?;
        // One comparison for all of it; no entry that was never written has the opcode of one that was.
        if u64::from_ne_bytes(entry.acquire_last_8()) & LAST_8 != self.last | last_8([0; 3], name.to_ne_bytes()) {
            return None;
        }
        barrier::dma_read();
        Some(Polled { entry, op: self.op })
    }
}

impl<E: CqeFormat> Polled<'_, E> {
    /// The word that a field is in, as it stands: to be compared with the same word of another entry.
    #[inline(always)]
    pub(crate) fn word(&self, field: Field<E>) -> [u8; 4] {
        self.entry.word(field)
    }

    /// [`Polled::word`] of a field of the 64-byte entry in it.
    #[inline(always)]
    pub(crate) fn base_word(&self, field: Field<Cqe64>) -> [u8; 4] {
        self.entry.word(Field::new(E::BASE + field.offset(), 32))
    }

    /// Copies the entry out.
    #[inline(always)]
    fn copy_into(&self, to: &mut E) {
        self.entry.copy_into(to);
    }
}

impl<E: CqeFormat> CqeFields<E> for Polled<'_, E> {
    #[inline(always)]
    fn field(&self, field: Field<E>) -> u32 {
        self.entry.get(field)
    }
    #[inline(always)]
    fn op(&self) -> u8 {
        self.op
    }
    fn base_copy(&self) -> Cqe64 {
        let mut copy = E::zeroed();
        self.copy_into(&mut copy);
        *copy.base()
    }
}

/// A work request that the device reports as failed. The queue it names is in the error state from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "work request {wqe_counter} of queue {queue:#x} failed: {syndrome}, vendor syndrome {vendor:#x}, \
     hardware syndrome {hardware:#x}; {}", advice(*syndrome)
)]
pub struct ErrorCompletion {
    /// SQN or, where the device fills it in, RQN.
    pub queue: u32,
    /// WQE index as the device reports it: unchecked.
    pub wqe_counter: u16,
    /// True for a send queue (opcode 13), false for a receive queue (opcode 14).
    pub send: bool,
    /// Why.
    pub syndrome: CqeSyndrome,
    /// Vendor's refinement of the syndrome.
    pub vendor: u8,
    /// Hardware syndrome, type in the high byte.
    pub hardware: u16,
}

fn advice(syndrome: CqeSyndrome) -> &'static str {
    match syndrome {
        CqeSyndrome::LOCAL_LENGTH_ERR => "the frame is longer than the buffer that was posted: check the MTU",
        CqeSyndrome::LOCAL_PROT_ERR => "a data segment names memory that its key does not cover",
        CqeSyndrome::LOCAL_QP_OP_ERR => "the device could not read the work request",
        CqeSyndrome::WR_FLUSH_ERR => "flushed because the queue was already in the error state",
        _ => "the queue must be recovered",
    }
}

impl ErrorCompletion {
    /// What an error entry says; `None` for an entry that is not an error.
    #[inline(always)]
    pub fn of(cqe: &Cqe64) -> Option<ErrorCompletion> {
        let opcode = CqeOpcode(cqe.0[63] >> 4);
        if opcode != CqeOpcode::REQ_ERR && opcode != CqeOpcode::RESP_ERR {
            return None;
        }
        Some(ErrorCompletion::parse(cqe))
    }

    #[cold]
    fn parse(cqe: &Cqe64) -> ErrorCompletion {
        let error = ErrCqe::from_prefix(cqe.bytes());
        ErrorCompletion {
            queue: error.get(ErrCqe::S_WQE_OPCODE_QPN_QPN),
            wqe_counter: error.get(ErrCqe::WQE_COUNTER) as u16,
            send: error.get(ErrCqe::OP_OWN_OPCODE) == u32::from(CqeOpcode::REQ_ERR.0),
            syndrome: CqeSyndrome(error.get(ErrCqe::SYNDROME) as u8),
            vendor: error.get(ErrCqe::VENDOR_ERR_SYND) as u8,
            hardware: (error.get(ErrCqe::HW_SYNDROME_TYPE) << 8 | error.get(ErrCqe::HW_ERROR_SYNDROME)) as u16,
        }
    }

    /// True if the work request was only swept out because an earlier one failed.
    pub fn is_flush(&self) -> bool {
        self.syndrome == CqeSyndrome::WR_FLUSH_ERR
    }
}

/// What the device is asked to tell by an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// The next completion.
    Next,
    /// The next completion that is solicited or an error.
    Solicited,
}

/// A completion queue cannot take one more queue: it might overrun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a completion queue of {entries} entries, {taken} of them promised, cannot take {wanted} more work requests")]
pub struct CqTooSmall {
    /// Entries of the ring.
    pub entries: u32,
    /// Entries promised to queues that were attached.
    pub taken: u32,
    /// Entries asked for.
    pub wanted: u32,
}

/// Memory of a completion queue before firmware knows it.
pub(super) struct CqMemory {
    pub(super) ring: RingMemory,
    pub(super) record: DoorbellRecord,
}

impl CqMemory {
    /// Allocates the ring of `1 << log_entries` entries and marks all of them as never written.
    pub(super) fn allocate<E: CqeFormat>(heap: &DmaHeap, log_entries: u32) -> Result<CqMemory, DmaError> {
        Ok(CqMemory {
            ring: RingMemory::allocate(heap, E::SIZE << log_entries)?,
            record: DoorbellRecord::allocate(heap)?,
        })
    }
}

/// A completion queue of entries `E`: [`Cqe64`], or [`OffloadCqe`] for queues that carry the offload.
///
/// Whether an entry is valid is said by the owner bit in its last byte, whose meaning flips with each lap; an entry is
/// copied out after that byte was loaded with acquire ordering, so what is parsed can no longer change. Entries cannot be
/// overrun as long as every queue that completes here was [attached](CompletionQueue::attach) with the number of its work
/// requests and [`update`](CompletionQueue::update) is called before new ones are posted.
#[derive(Debug)]
pub struct CompletionQueue<E: CqeFormat> {
    ring: DmaRing<E>,
    record: DoorbellRecord,
    handle: Handle,
    /// Entry to be read next; the ring's end stands for the beginning of the next lap.
    next: u32,
    /// Owner bit of the entries of this lap.
    owner: u8,
    /// Entries read in the laps before.
    laps: u32,
    /// Entries promised to attached queues.
    attached: u32,
    /// Completion events seen, modulo 4.
    sequence: u32,
    arm_register: u64,
    error: Option<u8>,
    /// Entries read and dropped in recoveries.
    discarded: u64,
    _entry: PhantomData<fn() -> E>,
}

impl<E: CqeFormat> CompletionQueue<E> {
    /// A queue over `ring` that firmware knows by `handle`, doorbells in UAR `uar_page`.
    pub(super) fn new(
        ring: DmaBuf,
        record: DoorbellRecord,
        log_entries: u32,
        handle: Handle,
        uar_page: u32,
    ) -> CompletionQueue<E> {
        assert!(log_entries <= MAX_LOG_ENTRIES && ring.len() == E::SIZE << log_entries);
        let cq = CompletionQueue {
            ring: DmaRing::new(ring),
            record,
            handle,
            next: 0,
            owner: 0,
            laps: 0,
            attached: 0,
            sequence: 0,
            arm_register: uar::offset(uar_page, uar::CQ_ARM),
            error: None,
            discarded: 0,
            _entry: PhantomData,
        };
        cq.record.store_first(0);
        cq.record.store_second(2 << 28); // a sequence that no arming uses before two events were seen
        cq
    }

    /// Marks every entry of `ring` as never written; before the device knows it.
    pub(super) fn initialize(ring: &DmaBuf) {
        for entry in 1..=ring.len() / E::SIZE {
            ring.write(entry * E::SIZE - 2, &[NO_SIGNATURE, NEVER_WRITTEN]);
        }
    }

    /// Number by which firmware knows the queue.
    pub fn cqn(&self) -> u32 {
        self.handle.number()
    }

    /// The ring, for whoever looks at it.
    pub fn view(&self) -> RingView<'_> {
        RingView {
            kind: RingKind::Cq,
            number: self.cqn(),
            memory: self.ring.memory(),
            stride: E::SIZE,
            producer: None,
            consumer: self.consumer(),
            record: Some(self.record.buffer()),
        }
    }

    pub(crate) fn into_handle(self) -> Handle {
        self.handle
    }

    /// Entries of the ring.
    #[inline(always)]
    pub fn entries(&self) -> u32 {
        self.ring.entries()
    }

    /// Entries read since the beginning; its low 24 bits are what the device knows.
    #[inline(always)]
    pub(crate) fn consumer(&self) -> u32 {
        self.laps.wrapping_add(self.next)
    }

    /// Promises room for the completions of a queue of `wqes` work requests.
    pub fn attach(&mut self, wqes: u32) -> Result<(), CqTooSmall> {
        let too_small = CqTooSmall { entries: self.entries(), taken: self.attached, wanted: wqes };
        let taken = self.attached.checked_add(wqes).ok_or(too_small)?;
        if taken > self.entries() {
            return Err(too_small);
        }
        self.attached = taken;
        Ok(())
    }

    /// Takes a promise back when a queue was destroyed and its completions were read.
    pub fn detach(&mut self, wqes: u32) {
        self.attached = self.attached.saturating_sub(wqes);
    }

    /// The next entry, if the device has written one, as it stands in the ring. What it says is unchecked.
    #[inline(always)]
    pub fn poll_in_place(&mut self) -> Option<Polled<'_, E>> {
        if self.next >= self.ring.entries() {
            return self.poll_next_lap();
        }
        let entry = self.ring.entry(self.next)?;
        // Bit 0 of the last byte flips with each lap. An entry that was never written has opcode 0xf and owner 1, as entries
        // of lap 1 have. With the owner bit on top, either makes the byte large.
        let op = entry.acquire_last() ^ self.owner;
        if op.rotate_right(1) >= 0xf0 >> 1 {
            return None;
        }
        barrier::dma_read();
        self.next += 1;
        Some(Polled { entry, op })
    }

    /// The entries to come in this lap, at most `limit`, for a run of completions
    /// ([`ReceiveQueue::accept_run`](super::ReceiveQueue::accept_run)) that all have the opcode and format of `op` and this
    /// flow tag (24 bits). Nothing is consumed.
    #[inline(always)]
    pub(super) fn ahead(&self, op: u8, flow_tag: u32, limit: usize) -> Ahead<'_, E> {
        let [_, flow_tag @ ..] = flow_tag.to_be_bytes();
        let last = last_8(flow_tag, [0, 0, 0, op | self.owner]);
        Ahead { entries: self.ring.entries_from(self.next, limit), op, last }
    }

    /// Consumes `n` entries that were found [ahead](CompletionQueue::ahead).
    #[inline(always)]
    pub(super) fn advance(&mut self, n: u32) {
        debug_assert!(n <= self.entries() - self.next);
        self.next += n;
    }

    /// Goes back to the ring's first entry.
    #[cold]
    #[inline(never)]
    fn poll_next_lap(&mut self) -> Option<Polled<'_, E>> {
        self.laps = self.laps.wrapping_add(self.ring.entries());
        self.owner ^= 1;
        self.next = 0;
        self.poll_in_place()
    }

    /// [`CompletionQueue::poll_in_place`], copied out of the ring.
    #[inline(always)]
    pub fn poll(&mut self) -> Option<E> {
        let mut entry = E::zeroed();
        self.poll_into(&mut entry).then_some(entry)
    }

    /// [`CompletionQueue::poll`] into `entry`, which is only written if there is one.
    #[inline(always)]
    pub fn poll_into(&mut self, entry: &mut E) -> bool {
        self.poll_in_place().map(|polled| polled.copy_into(entry)).is_some()
    }

    /// Tells the device how far the ring was read. Once per batch, before work requests are posted anew.
    #[inline]
    pub fn update(&self) {
        self.record.store_first(self.consumer() & COUNTER_MASK);
    }

    /// Asks for one event when a completion is written that was not read yet, at once if there is one already.
    pub fn arm(&self, platform: &impl Platform, what: Arm) {
        self.update();
        let doorbell = CqArmDoorbellMmio::zeroed()
            .with(CqArmDoorbellMmio::ARM_SN, self.sequence)
            .with(CqArmDoorbellMmio::ARM_CMD_SOLICITED_ONLY, u32::from(what == Arm::Solicited))
            .with(CqArmDoorbellMmio::ARM_CI, self.consumer() & COUNTER_MASK)
            .with(CqArmDoorbellMmio::CQN_CQN_24, self.cqn());
        self.record.store_second(doorbell.get(CqArmDoorbellMmio::ARM));
        barrier::before_doorbell();
        platform.write64(self.arm_register, u64::from_be_bytes(doorbell.0));
    }

    /// A completion event named this queue: the next arming is a new one.
    pub fn on_event(&mut self) {
        self.sequence = (self.sequence + 1) & 3;
    }

    /// A CQ error event named this queue; `syndrome` 1 is an overrun, 2 an access violation (`mlx5-bringup.md` §7). No
    /// entry that follows can be trusted to be complete: the queue, and what completes in it, must be created anew.
    pub fn on_error(&mut self, syndrome: u8) {
        self.error = Some(syndrome);
    }

    /// The syndrome of a CQ error event, if there was one.
    #[inline(always)]
    pub fn error(&self) -> Option<u8> {
        self.error
    }

    /// Entries that recoveries have dropped so far.
    pub fn discarded(&self) -> u64 {
        self.discarded
    }

    /// Reads and drops every entry that is there, at most one lap. Returns how many. For recovery, when the queues that
    /// complete here were reset.
    pub fn discard(&mut self) -> u32 {
        let count = (0..self.entries()).take_while(|_| self.poll().is_some()).count() as u32;
        self.update();
        self.discarded += u64::from(count);
        count
    }
}

#[cfg(test)]
pub(super) mod tests {
    //! | property | test |
    //! |---|---|
    //! | every entry comes out once, in order, over many laps, whatever the timing, in both sizes | `entries_come_out_once_and_in_order` |
    //! | nothing that was never written is valid, in lap 0 or later | `nothing_is_valid_before_it_is_written` |
    //! | an entry is valid only once its last byte is | `an_entry_counts_when_its_owner_byte_does` |
    //! | the 64-byte entry is the second half of a 128-byte one | `the_second_half_is_the_entry` |
    //! | the consumer record has 24 bits, and is written per batch | `the_consumer_record_is_24_bits` |
    //! | arming writes record and register alike, with a new sequence after each event | `arming_counts_events` |
    //! | an error entry is decoded in full and its text names the cause | `an_error_entry_says_why` |
    //! | queues that could overrun the ring together are refused | `overcommitment_is_refused` |
    use super::*;
    use crate::command::ObjectKind;
    use crate::queue::testing::{self, TestPlatform};
    use proptest::prelude::*;

    /// A queue that no firmware knows.
    pub(crate) fn cq<E: CqeFormat>(log_entries: u32) -> CompletionQueue<E> {
        let heap = testing::heap();
        let memory = CqMemory::allocate::<E>(&heap, log_entries).expect("memory");
        CompletionQueue::<E>::initialize(memory.ring.buffer());
        let handle = testing::handle(ObjectKind::Cq, 0x123);
        CompletionQueue::new(memory.ring.into_buffer(), memory.record, log_entries, handle, 16)
    }

    impl<E: CqeFormat> CompletionQueue<E> {
        /// As if this many entries had been read.
        fn read_so_far(&mut self, consumer: u32) {
            self.next = consumer & (self.entries() - 1);
            self.laps = consumer - self.next;
            self.owner = u8::from(consumer & self.entries() != 0);
        }
    }

    /// The device's side: where it writes next.
    pub(crate) struct Producer(pub(crate) u32);

    impl Producer {
        /// Writes an entry; body first, owner byte last, as a device must.
        pub(crate) fn write<E: CqeFormat>(&mut self, cq: &CompletionQueue<E>, entry: &E) {
            self.body(cq, entry);
            self.own(cq, entry);
        }

        fn body<E: CqeFormat>(&self, cq: &CompletionQueue<E>, entry: &E) {
            let at = (self.0 as usize % cq.entries() as usize) * E::SIZE;
            cq.ring.memory().write(at, &entry.bytes()[..E::SIZE - 1]);
        }

        fn own<E: CqeFormat>(&mut self, cq: &CompletionQueue<E>, entry: &E) {
            let at = (self.0 as usize % cq.entries() as usize) * E::SIZE;
            let lap = u8::from(self.0 & cq.entries() != 0);
            cq.ring.memory().store_release(at + E::SIZE - 1, entry.bytes()[E::SIZE - 1] & !1 | lap);
            self.0 += 1;
        }
    }

    fn numbered<E: CqeFormat>(n: u32) -> E {
        let mut entry = E::zeroed();
        entry.bytes_mut()[E::SIZE - 20..E::SIZE - 16].copy_from_slice(&n.to_be_bytes());
        entry.bytes_mut()[E::SIZE - 1] = CqeOpcode::RESP_SEND.0 << 4;
        entry
    }

    fn number<E: CqeFormat>(entry: &E) -> u32 {
        u32::from_be_bytes(entry.bytes()[E::SIZE - 20..E::SIZE - 16].try_into().expect("4 bytes"))
    }

    fn in_order<E: CqeFormat>(log: u32, start: u32, bursts: &[(u32, u32)]) -> Result<(), TestCaseError> {
        let mut cq = cq::<E>(log);
        let mut device = Producer(0);
        // Start anywhere: laps are played through so that owner bits are right.
        for n in 0..start {
            device.write(&cq, &numbered::<E>(n));
            prop_assert_eq!(cq.poll().as_ref().map(number), Some(n));
        }
        for (writes, reads) in bursts {
            for _ in 0..*writes {
                if device.0 - cq.consumer() < cq.entries() {
                    device.write(&cq, &numbered::<E>(device.0));
                }
            }
            for _ in 0..*reads {
                let expected = (cq.consumer() != device.0).then_some(cq.consumer());
                prop_assert_eq!(cq.poll().as_ref().map(number), expected);
            }
            cq.update();
            prop_assert_eq!(cq.record.load().0, cq.consumer());
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn entries_come_out_once_and_in_order(
            log in 0u32..6, start in 0u32..100, bursts in prop::collection::vec((0u32..40, 0u32..40), 1..40),
        ) {
            in_order::<Cqe64>(log, start, &bursts)?;
            in_order::<OffloadCqe>(log, start, &bursts)?;
        }
    }

    #[test]
    fn nothing_is_valid_before_it_is_written() {
        let mut cq = cq::<Cqe64>(2);
        assert!(cq.poll().is_none());
        assert_eq!(cq.ring.memory().read_array::<2>(62), [0xff, 0xf1]);
        // A device that skips a lap: the entries it never wrote must not become valid because the meaning of the bit
        // flipped.
        cq.read_so_far(4);
        assert!(cq.poll().is_none());
    }

    #[test]
    fn an_entry_counts_when_its_owner_byte_does() {
        let mut cq = cq::<OffloadCqe>(1);
        let mut device = Producer(0);
        for n in 0..9 {
            device.body(&cq, &numbered(n));
            assert!(cq.poll().is_none(), "the body of entry {n} is there, its owner byte is not");
            device.own(&cq, &numbered(n));
            assert_eq!(cq.poll().as_ref().map(number), Some(n));
            assert!(cq.poll().is_none());
        }
    }

    #[test]
    fn the_second_half_is_the_entry() {
        let mut entry = OffloadCqe::zeroed().with(OffloadCqe::CCLEN, 5).with(OffloadCqe::CQE64_FLOW_TAG, 0xabcdef);
        entry.set(OffloadCqe::CQE64_WQE_COUNTER, 77);
        let base = entry.base();
        assert_eq!(base.get(Cqe64::SOP_DROP_QPN_QPN_OR_FLOW_TAG), 0xabcdef);
        assert_eq!(base.get(Cqe64::WQE_COUNTER), 77);
    }

    #[test]
    fn the_consumer_record_is_24_bits() {
        let mut cq = cq::<Cqe64>(4);
        cq.read_so_far(0xffff_ffff);
        cq.update();
        assert_eq!(cq.record.load().0, 0x00ff_ffff);
        cq.read_so_far(0x0100_0001);
        cq.update();
        assert_eq!(cq.record.load().0, 1);
    }

    #[test]
    fn arming_counts_events() {
        let platform = TestPlatform::new();
        let mut cq = cq::<Cqe64>(4);
        assert_eq!(cq.record.load(), (0, 2 << 28));
        cq.read_so_far(0x12_3456);
        for n in 0..6u64 {
            cq.arm(&platform, if n == 5 { Arm::Solicited } else { Arm::Next });
            let word = (n & 3) << 28 | u64::from(n == 5) << 24 | 0x12_3456;
            assert_eq!(platform.writes.borrow_mut().pop(), Some((16 * 4096 + 0x20, word << 32 | 0x123)));
            assert_eq!(cq.record.load(), (0x12_3456, word as u32));
            cq.on_event();
        }
    }

    #[test]
    fn an_error_entry_says_why() {
        let mut cqe = Cqe64::zeroed();
        assert_eq!(ErrorCompletion::of(&cqe), None);
        cqe.0[52..64].copy_from_slice(&[0x11, 0x22, 0x33, 0x01, 0x0a, 0x00, 0x01, 0x45, 0x12, 0x34, 0xff, 0xd1]);
        let error = ErrorCompletion::of(&cqe).expect("an error");
        let expected = ErrorCompletion {
            queue: 0x145,
            wqe_counter: 0x1234,
            send: true,
            syndrome: CqeSyndrome::LOCAL_LENGTH_ERR,
            vendor: 0x33,
            hardware: 0x2211,
        };
        assert_eq!(error, expected);
        assert!(!error.is_flush());
        let text = error.to_string();
        assert!(text.contains("LOCAL_LENGTH_ERR") && text.contains("0x145") && text.contains("MTU"), "{text}");
        cqe.0[63] = 0xe0;
        cqe.0[55] = 5;
        assert!(ErrorCompletion::of(&cqe).is_some_and(|e| e.is_flush() && !e.send));
    }

    #[test]
    fn overcommitment_is_refused() {
        let mut cq = cq::<Cqe64>(4);
        assert_eq!(cq.attach(10), Ok(()));
        assert_eq!(cq.attach(7), Err(CqTooSmall { entries: 16, taken: 10, wanted: 7 }));
        assert!(cq.attach(u32::MAX).is_err());
        cq.detach(10);
        assert_eq!(cq.attach(16), Ok(()));
    }
}
