//! Receive buffers, and how many of them frames hold.

use crate::dma::{DmaError, DmaHeap};
use crate::frame::RxBuffer;
use crate::queue::RxPool;

/// The pool of receive buffers, with the number of those that were taken out of the receive queue and not given back.
pub(super) struct Buffers {
    /// For the receive queue, which lends and gives back on its own, and for reading.
    pub pool: RxPool,
    in_frames: u32,
}

impl Buffers {
    /// `count` buffers of `size` bytes.
    pub fn new(heap: &DmaHeap, count: u32, size: u32) -> Result<Buffers, DmaError> {
        Ok(Buffers { pool: RxPool::new(heap, count, size)?, in_frames: 0 })
    }

    /// The receive queue has handed a buffer out: a packet is in it.
    #[inline(always)]
    pub fn note_taken(&mut self) {
        self.in_frames += 1;
    }

    /// Takes the buffer of a packet back.
    #[inline]
    pub fn give_back(&mut self, buffer: RxBuffer) {
        self.in_frames -= 1;
        self.pool.give_back(buffer);
    }

    /// Buffers of packets that were not given back.
    pub fn in_frames(&self) -> u32 {
        self.in_frames
    }

    /// True if the receive queue could have a buffer more.
    pub fn has_free(&self) -> bool {
        self.pool.outstanding() < self.pool.capacity()
    }
}
