//! Receive buffers: one block of DMA memory cut into equal pieces, lent to the device and to frames.

use crate::dma::{DmaBuf, DmaError, DmaHeap, IoBuf, Iova};
use crate::frame::RxBuffer;

/// Buffers begin on cache lines.
const ALIGN: u32 = 64;

/// A pool of receive buffers of one size.
///
/// There are more buffers than a receive queue has work requests: a frame keeps its buffer until TCP has delivered it,
/// and the queue is filled from what is left. A buffer is named by the token [`RxBuffer`], which exists once, so it is
/// either free, or posted to a queue, or owned by a frame.
#[derive(Debug)]
pub struct RxPool {
    memory: DmaBuf,
    size: u32,
    free: Vec<u32>,
    lent: Box<[bool]>,
}

impl RxPool {
    /// `count` buffers of `size` bytes each, rounded up to whole cache lines.
    pub fn new(heap: &DmaHeap, count: u32, size: u32) -> Result<RxPool, DmaError> {
        let impossible = DmaError::BadRequest { bytes: count as usize * size as usize, align: ALIGN as usize };
        let size = size.checked_next_multiple_of(ALIGN).filter(|size| *size > 0 && count > 0).ok_or(impossible)?;
        let memory = heap.allocate(size as usize * count as usize, ALIGN as usize)?;
        // Reversed, so that the first buffers are lent first: the few that a quiet connection uses stay in the cache.
        Ok(RxPool { memory, size, free: (0..count).rev().collect(), lent: vec![false; count as usize].into() })
    }

    /// Bytes of each buffer.
    pub fn buffer_size(&self) -> u32 {
        self.size
    }

    /// Number of buffers.
    pub fn capacity(&self) -> u32 {
        self.lent.len() as u32
    }

    /// Buffers that are not free: posted to queues, or owned by frames.
    pub fn outstanding(&self) -> u32 {
        self.capacity() - self.free.len() as u32
    }

    /// Takes a buffer out.
    #[inline]
    pub fn lend(&mut self) -> Option<RxBuffer> {
        let index = self.free.pop()?;
        self.lent[index as usize] = true;
        Some(RxBuffer(index))
    }

    /// Takes a buffer back.
    ///
    /// # Panics
    /// If the pool has not lent it: it belongs to another pool.
    #[inline]
    pub fn give_back(&mut self, buffer: RxBuffer) {
        let lent = self.lent.get_mut(buffer.0 as usize).is_some_and(std::mem::take);
        assert!(lent, "receive buffer {} was not lent by this pool", buffer.0);
        self.free.push(buffer.0);
    }

    /// Address of a buffer as the device sees it.
    #[inline]
    pub(super) fn iova(&self, index: u32) -> Iova {
        self.memory.iova_at(self.at(index, 0, self.size as usize))
    }

    /// The memory of all buffers, for the object log of what may write it.
    pub fn memory(&self) -> &DmaBuf {
        &self.memory
    }

    #[inline(always)]
    fn at(&self, index: u32, offset: u32, len: usize) -> usize {
        assert!(
            (index as usize) < self.lent.len() && offset as usize + len <= self.size as usize,
            "{len} bytes at {offset} of receive buffer {index}; there are {} of {} bytes",
            self.lent.len(),
            self.size
        );
        index as usize * self.size as usize + offset as usize
    }

    /// Copies bytes of buffer `index` out: headers, mostly.
    ///
    /// # Panics
    /// If they are outside the buffer; frames and their ranges were checked when they were made.
    #[inline]
    pub fn read(&self, index: u32, offset: u32, out: &mut [u8]) {
        self.memory.read(self.at(index, offset, out.len()), out);
    }

    /// Copies `len` bytes of buffer `index` to `to_offset` of a destination buffer: payload that the device did not place.
    /// Panics as [`RxPool::read`].
    #[inline]
    pub fn copy_to(&self, index: u32, offset: u32, len: u32, to: &IoBuf, to_offset: usize) {
        to.copy_from(to_offset, &self.memory, self.at(index, offset, len as usize), len as usize);
    }
}

#[cfg(test)]
pub(super) mod tests {
    //! | property | test |
    //! |---|---|
    //! | no buffer is lent twice, all can be lent, their memory does not overlap | `every_buffer_is_lent_once` |
    //! | a token that the pool did not lend is refused | `a_foreign_token_is_refused` |
    //! | copies go where they are said to | `copies_stay_inside_their_buffer` |
    use super::*;
    use crate::queue::testing;
    use std::collections::HashSet;

    impl RxPool {
        /// Writes into a buffer as the device would.
        pub(crate) fn device_write(&self, index: u32, bytes: &[u8]) {
            self.memory.write(self.at(index, 0, bytes.len()), bytes);
        }
    }

    #[test]
    fn every_buffer_is_lent_once() {
        let mut pool = RxPool::new(&testing::heap(), 33, 100).expect("memory");
        assert_eq!(pool.buffer_size(), 128);
        let mut addresses = HashSet::new();
        let all: Vec<_> = std::iter::from_fn(|| pool.lend()).collect();
        assert_eq!((all.len(), pool.outstanding()), (33, 33));
        for buffer in all {
            assert!(addresses.insert(pool.iova(buffer.0).get() / 128));
            pool.give_back(buffer);
        }
        assert_eq!(pool.outstanding(), 0);
        assert!(RxPool::new(&testing::heap(), 0, 100).is_err());
        assert!(RxPool::new(&testing::heap(), 4, u32::MAX).is_err());
    }

    #[test]
    #[should_panic(expected = "was not lent by this pool")]
    fn a_foreign_token_is_refused() {
        let mut pool = RxPool::new(&testing::heap(), 4, 64).expect("memory");
        pool.give_back(RxBuffer(1));
    }

    #[test]
    fn copies_stay_inside_their_buffer() {
        let heap = testing::heap();
        let pool = RxPool::new(&heap, 3, 64).expect("memory");
        for index in 0..3 {
            pool.device_write(index, &[index as u8 + 1; 64]);
        }
        let mut out = [0; 3];
        pool.read(1, 61, &mut out);
        assert_eq!(out, [2; 3]);
        let to = IoBuf::new(vec![heap.allocate(10, 1).expect("memory"), heap.allocate(10, 1).expect("memory")]);
        pool.copy_to(2, 59, 5, &to, 8);
        assert_eq!(to.to_vec(), [0, 0, 0, 0, 0, 0, 0, 0, 3, 3, 3, 3, 3, 0, 0, 0, 0, 0, 0, 0]);
        let beyond = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.read(2, 62, &mut [0; 3])));
        assert!(beyond.is_err());
    }
}
