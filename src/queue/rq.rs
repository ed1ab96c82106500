//! The receive queue: buffers in the order in which the device fills them.
//!
//! A work request is one data segment and never changes but for its address. The device takes them in order and names each
//! in the completion (`wqe_counter`); the name is checked against what is posted. There is no doorbell register: the device
//! reads the doorbell record when a packet arrives (`mlx5-bringup.md` §8.3).

use super::cq::{CqeFormat, ErrorCompletion};
use super::pool::RxPool;
use super::ring::DoorbellRecord;
use super::{BadCompletion, CompletionFault, Rejections};
use crate::adapter::Handle;
use crate::dma::DmaBuf;
use crate::frame::RxBuffer;
use hw_regs::cqe::{Cqe64, CqeOpcode};
use hw_regs::layout::{Access, Layout};
use hw_regs::wqe::WqeDataSeg;

/// Bytes of a work request.
pub(super) const WQE_BYTES: usize = 16;
/// Largest queue: with half of the 16-bit counter's range at most, no counter is ambiguous.
pub(super) const MAX_LOG_WQES: u32 = 15;

/// A slot whose buffer was taken.
const EMPTY: u32 = u32::MAX;
/// A slot that the device is done with although its buffer was not taken: it is posted again as it is.
const KEPT: u32 = 1 << 31;

/// A receive queue.
#[derive(Debug)]
pub struct ReceiveQueue {
    ring: DmaBuf,
    record: DoorbellRecord,
    handle: Option<Handle>,
    rqn: u32,
    /// Buffer posted in each slot.
    slots: Box<[u32]>,
    buffer_size: u32,
    lkey: u32,
    /// Work requests written.
    producer: u32,
    /// Oldest work request that was not completed.
    consumer: u32,
    /// Work requests that the device knows.
    told: u32,
    /// Work requests completed before older ones.
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
            consumer: 0,
            told: 0,
            ahead: 0,
            failed: false,
            rejected: Rejections::default(),
        }
    }

    pub(super) fn take_handle(&mut self) -> Handle {
        self.handle.take().expect("taken once, by the one who destroys the queue")
    }

    pub(super) fn into_handle(mut self) -> Handle {
        self.take_handle()
    }

    /// Number by which firmware knows the queue.
    pub fn rqn(&self) -> u32 {
        self.rqn
    }

    /// Work requests that fit.
    pub fn capacity(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Buffers in the queue: the pool's [outstanding](RxPool::outstanding) buffers are these and those in frames.
    pub fn posted(&self) -> u32 {
        self.producer.wrapping_sub(self.consumer) - self.ahead
    }

    /// True once the device reported an error: it fills no buffer until the queue was recovered.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Completions that were not believed, by reason.
    pub fn rejected(&self) -> &Rejections {
        &self.rejected
    }

    #[inline(always)]
    fn slot(&self, counter: u32) -> usize {
        (counter & (self.capacity() - 1)) as usize
    }

    /// Posts buffers until the queue is full or the pool is empty, and tells the device once. Returns how many.
    ///
    /// # Panics
    /// If the pool's buffers have another size than the queue was created for.
    pub fn post(&mut self, pool: &mut RxPool) -> u32 {
        assert_eq!(pool.buffer_size(), self.buffer_size, "the pool of another queue");
        let segment = WqeDataSeg::zeroed()
            .with(WqeDataSeg::BYTE_COUNT_LENGTH, self.buffer_size)
            .with(WqeDataSeg::LKEY, self.lkey);
        while self.producer.wrapping_sub(self.consumer) < self.capacity() {
            let slot = self.slot(self.producer);
            let index = match self.slots[slot] {
                EMPTY => match pool.lend() {
                    Some(RxBuffer(index)) => index,
                    None => break,
                },
                kept => kept & !KEPT,
            };
            let segment = segment.with_wide(WqeDataSeg::ADDR, pool.iova(index).get());
            self.ring.write(slot * WQE_BYTES, &segment.0);
            self.slots[slot] = index;
            self.producer = self.producer.wrapping_add(1);
        }
        let new = self.producer.wrapping_sub(self.told);
        if new != 0 {
            self.told = self.producer;
            self.record.store_first(self.producer & 0xffff);
        }
        new
    }

    /// The buffer that a received packet is in: checks the entry's kind, its counter and its byte count, which is then the
    /// packet's length. What else the entry says is for the caller to check.
    #[inline(always)]
    pub fn accept(&mut self, cqe: &impl CqeFormat) -> Result<RxBuffer, CompletionFault> {
        let cqe = cqe.base();
        // One comparison for opcode RESP_SEND and format 0 (no data in the entry, not compressed).
        if cqe.0[63] & 0xfc != CqeOpcode::RESP_SEND.0 << 4 {
            return Err(self.refuse(cqe));
        }
        Ok(self.take(cqe.get(Cqe64::WQE_COUNTER) as u16, cqe.get(Cqe64::BYTE_CNT))?)
    }

    /// The buffer of work request `counter`, into which the device says it wrote `bytes` bytes. After an error nothing was
    /// taken; a buffer that the device was done with is posted again.
    #[inline(always)]
    pub fn take(&mut self, counter: u16, bytes: u32) -> Result<RxBuffer, BadCompletion> {
        let in_order = counter == self.consumer as u16 && self.consumer != self.told;
        if !in_order || bytes.wrapping_sub(1) >= self.buffer_size {
            return self.take_odd(counter, bytes);
        }
        let slot = self.slot(self.consumer);
        let index = std::mem::replace(&mut self.slots[slot], EMPTY);
        self.advance();
        Ok(RxBuffer(index))
    }

    /// Steps over the oldest work request, and over those behind it that were completed before.
    #[inline(always)]
    fn advance(&mut self) {
        self.consumer = self.consumer.wrapping_add(1);
        if self.ahead != 0 {
            self.skip_completed();
        }
    }

    #[cold]
    fn skip_completed(&mut self) {
        while self.ahead != 0 && self.slots[self.slot(self.consumer)] & KEPT != 0 {
            self.ahead -= 1;
            self.consumer = self.consumer.wrapping_add(1);
        }
    }

    /// The slot of a posted work request.
    fn find(&self, counter: u16) -> Option<u32> {
        let posted = self.told.wrapping_sub(self.consumer);
        let mask = self.capacity() - 1;
        let distance = u32::from(counter.wrapping_sub(self.consumer as u16));
        // Counters run freely or are slot numbers: the reference does not say (`mlx5-bringup.md` §8.2).
        let distance = match distance < posted {
            true => distance,
            false if u32::from(counter) <= mask => u32::from(counter).wrapping_sub(self.consumer) & mask,
            false => return None,
        };
        let found = self.consumer.wrapping_add(distance);
        // EMPTY has the bit of KEPT: both mean that it was completed before.
        (distance < posted && self.slots[self.slot(found)] & KEPT == 0).then_some(found)
    }

    /// Everything but the next work request in order with a byte count that fits.
    #[cold]
    #[inline(never)]
    fn take_odd(&mut self, counter: u16, bytes: u32) -> Result<RxBuffer, BadCompletion> {
        let Some(found) = self.find(counter) else {
            return Err(self.rejected.count(BadCompletion::NotPosted(counter)));
        };
        let fits = (1..=self.buffer_size).contains(&bytes);
        let slot = self.slot(found);
        let index = self.slots[slot];
        self.slots[slot] = if fits { EMPTY } else { index | KEPT };
        self.complete(found);
        match fits {
            true => Ok(RxBuffer(index)),
            false => Err(self.rejected.count(BadCompletion::Length(bytes))),
        }
    }

    fn complete(&mut self, found: u32) {
        match found == self.consumer {
            true => self.advance(),
            false => self.ahead += 1,
        }
    }

    #[cold]
    #[inline(never)]
    fn refuse(&mut self, cqe: &Cqe64) -> CompletionFault {
        match ErrorCompletion::of(cqe) {
            Some(error) if !error.send => {
                self.failed = true;
                if let Some(found) = self.find(error.wqe_counter) {
                    let slot = self.slot(found);
                    self.slots[slot] |= KEPT;
                    self.complete(found);
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
            if *slot != EMPTY {
                pool.give_back(RxBuffer(*slot & !KEPT));
                *slot = EMPTY;
            }
        }
        (self.producer, self.consumer, self.told, self.ahead) = (0, 0, 0, 0);
        self.failed = false;
        self.record.store_first(0);
    }
}
