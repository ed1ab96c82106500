//! What the tests of this module share.

use crate::dma::{Arena, DmaError, DmaHeap, DmaMapper, IoBuf, Iova, IovaAllocator};
use std::sync::Arc;

struct NoMapper;

impl DmaMapper for NoMapper {
    fn map(&self, _: Iova, _: &Arena) -> Result<(), DmaError> {
        Ok(())
    }
    fn unmap(&self, _: Iova, _: u64) -> Result<(), DmaError> {
        Ok(())
    }
}

/// DMA memory that no device sees.
pub(super) fn heap() -> DmaHeap {
    DmaHeap::new(Arc::new(NoMapper), IovaAllocator::new(&[0..=u64::MAX >> 16]))
}

/// A buffer of pieces of these lengths, none adjacent to another, each filled with its number.
pub(super) fn io(heap: &DmaHeap, lengths: &[usize]) -> IoBuf {
    let pieces = lengths.iter().enumerate().map(|(n, len)| {
        let piece = heap.allocate(len + 64, 64).expect("memory").split_at(*len).0;
        piece.fill(0, *len, n as u8);
        piece
    });
    IoBuf::new(pieces.collect())
}
