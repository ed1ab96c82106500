//! What every ring has in common: its size, the memory under it, and its doorbell record.

use crate::dma::{DmaBuf, DmaError, DmaHeap};
use hw_regs::barrier;

/// Largest page that a ring is described in: the alignment that the DMA heap can promise.
const MAX_PAGE_SHIFT: u32 = 21;
/// Smallest page that firmware accepts.
const MIN_PAGE_SHIFT: u32 = 12;
/// Bytes of a doorbell record's own cache line, so that two queues never write the same line (`mlx5-numbers.md`).
const RECORD_BYTES: usize = 64;

/// What a ring holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RingKind {
    /// Events.
    Eq,
    /// Completions.
    Cq,
    /// Work requests to receive.
    Rq,
    /// Work requests to send, and whatever else a send queue executes.
    Sq,
}

impl RingKind {
    /// As everybody calls it.
    pub fn name(self) -> &'static str {
        match self {
            RingKind::Eq => "EQ",
            RingKind::Cq => "CQ",
            RingKind::Rq => "RQ",
            RingKind::Sq => "SQ",
        }
    }
}

/// A ring as whoever looks at a running driver sees it: nothing in it is checked.
#[derive(Clone, Copy, Debug)]
pub struct RingView<'a> {
    /// What it holds.
    pub kind: RingKind,
    /// Number by which firmware knows its queue.
    pub number: u32,
    /// The ring.
    pub memory: &'a DmaBuf,
    /// Bytes of an entry; of a basic block for send queues.
    pub stride: usize,
    /// Entries written by software so far, if it is software that writes.
    pub producer: Option<u32>,
    /// Entries that software has read, or knows to be done with.
    pub consumer: u32,
    /// The doorbell record; event queues have none.
    pub record: Option<&'a DmaBuf>,
}

impl RingView<'_> {
    /// Entries of the ring.
    pub fn entries(&self) -> u32 {
        (self.memory.len() / self.stride) as u32
    }
}

/// Memory of a ring, contiguous for the device, and the pages by which firmware is told where it is.
#[derive(Debug)]
pub(crate) struct RingMemory {
    buffer: DmaBuf,
    page_shift: u32,
}

impl RingMemory {
    /// Allocates `bytes` (a power of two), zeroed. The page size is the ring's own size where alignment allows, so that a
    /// create command carries one address and needs no further mailbox.
    pub(crate) fn allocate(heap: &DmaHeap, bytes: usize) -> Result<RingMemory, DmaError> {
        if !bytes.is_power_of_two() {
            return Err(DmaError::BadRequest { bytes, align: 1 << MIN_PAGE_SHIFT });
        }
        let page_shift = bytes.trailing_zeros().clamp(MIN_PAGE_SHIFT, MAX_PAGE_SHIFT);
        Ok(RingMemory { buffer: heap.allocate(bytes, 1 << page_shift)?, page_shift })
    }

    /// Firmware's `log_page_size`: log2 of the page size, less 12.
    pub(crate) fn log_page_size(&self) -> u32 {
        self.page_shift - MIN_PAGE_SHIFT
    }

    /// Addresses of the pages, big-endian, 8 bytes each: the tail of a create command.
    pub(crate) fn page_list(&self) -> Vec<u8> {
        (0..self.buffer.len())
            .step_by(1 << self.page_shift)
            .flat_map(|at| self.buffer.iova_at(at).get().to_be_bytes())
            .collect()
    }

    /// The memory.
    pub(crate) fn buffer(&self) -> &DmaBuf {
        &self.buffer
    }

    /// The memory, for the queue that owns it.
    pub(crate) fn into_buffer(self) -> DmaBuf {
        self.buffer
    }
}

/// The 8 bytes in host memory that the device reads a queue's counters from (`mlx5-bringup.md` §8).
///
/// | queue | word 0 | word 1 |
/// |---|---|---|
/// | CQ | consumer counter, 24 bits | arm word |
/// | RQ, SQ | WQEs posted to the RQ, 16 bits | WQEBBs posted to the SQ, 16 bits |
#[derive(Debug)]
pub(crate) struct DoorbellRecord {
    memory: DmaBuf,
}

impl DoorbellRecord {
    pub(crate) fn allocate(heap: &DmaHeap) -> Result<DoorbellRecord, DmaError> {
        Ok(DoorbellRecord { memory: heap.allocate(RECORD_BYTES, RECORD_BYTES)? })
    }

    /// The memory.
    pub(crate) fn buffer(&self) -> &DmaBuf {
        &self.memory
    }

    /// Stores word 0 after everything written to the ring before.
    #[inline(always)]
    pub(crate) fn store_first(&self, value: u32) {
        barrier::dma_write();
        self.memory.store_be32(0, value);
    }

    /// Stores word 1 after everything written to the ring before.
    #[inline(always)]
    pub(crate) fn store_second(&self, value: u32) {
        barrier::dma_write();
        self.memory.store_be32(4, value);
    }

    /// Both words, as the device would read them.
    #[cfg(test)]
    pub(crate) fn load(&self) -> (u32, u32) {
        (self.memory.load_be32(0), self.memory.load_be32(4))
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the pages named to firmware cover the ring, aligned, in order | `pages_cover_the_ring` |
    use super::*;
    use crate::queue::testing;

    #[test]
    fn pages_cover_the_ring() {
        let heap = testing::heap();
        for log in 6..=23 {
            let ring = RingMemory::allocate(&heap, 1 << log).expect("memory");
            let page = 1u64 << (ring.log_page_size() + 12);
            let list: Vec<u64> =
                ring.page_list().chunks(8).map(|b| u64::from_be_bytes(b.try_into().expect("8 bytes"))).collect();
            assert_eq!(list.len() as u64, (1u64 << log).div_ceil(page));
            for (i, address) in list.iter().enumerate() {
                assert_eq!(*address, ring.buffer.iova().get() + i as u64 * page);
                assert!(address.is_multiple_of(page));
            }
        }
        assert!(RingMemory::allocate(&heap, 4096 + 64).is_err());
    }
}
