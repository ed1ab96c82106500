//! What the tests of this module share.

use super::create::Capacity;
use crate::adapter::OffloadCaps;
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

/// A function that can do what a ConnectX-7 is known to do, with queues of at most 1024 tags.
pub(super) fn capacity() -> Capacity {
    let caps = OffloadCaps {
        nvmeotcp: true,
        zerocopy: true,
        crc_rx: true,
        log_max_tag_buffer_tables: 12,
        log_max_tag_buffer_size: 10,
        tag_buffer_table_object: true,
        cqe_128_always: true,
        log_max_klm_list_size: 16,
        max_wqe_bytes_sq: 1024,
        log_max_mkey: 24,
        reg_umr_sq: true,
        receive_flow_tables: true,
        five_tuple: true,
        ..OffloadCaps::default()
    };
    Capacity::new(&caps, 15).expect("possible")
}
