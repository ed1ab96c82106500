//! A ring buffer in host memory: a list of pages and the arithmetic over them.

use crate::dma::{DmaFault, DmaSpace};
use crate::refusal;
use crate::reject::Reject;

/// Largest page shift that a ring's buffer may have.
const MAX_SHIFT: u32 = 30;

/// The buffer of a queue.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    pages: Box<[u64]>,
    shift: u32,
    mask: u64,
}

impl Ring {
    /// Pages that a ring of `bytes` bytes (a power of two) has with pages of `1 << (12 + log_page_size)` bytes.
    pub(crate) fn page_count(bytes: u64, log_page_size: u32) -> Result<usize, Reject> {
        let shift = 12 + log_page_size;
        if shift > MAX_SHIFT {
            return Err(refusal::RING_PAGE_SIZE);
        }
        Ok(bytes.div_ceil(1 << shift) as usize)
    }

    /// A ring of `bytes` bytes, a power of two, over as many pages as [`Ring::page_count`] says.
    pub(crate) fn new(bytes: u64, log_page_size: u32, pages: Box<[u64]>) -> Result<Ring, Reject> {
        if pages.iter().any(|page| *page == 0 || page % 4096 != 0) {
            return Err(refusal::RING_ADDRESS);
        }
        Ok(Ring { pages, shift: 12 + log_page_size, mask: bytes - 1 })
    }

    /// Device address of the byte at `offset`, which wraps at the ring's end.
    #[inline]
    pub(crate) fn iova(&self, offset: u64) -> u64 {
        let offset = offset & self.mask;
        self.pages[(offset >> self.shift) as usize] + (offset & ((1 << self.shift) - 1))
    }

    /// Copies bytes out that begin at `offset`, a multiple of 64; they may cross pages and wrap.
    pub(crate) fn read(&self, dma: &DmaSpace, offset: u64, out: &mut [u8]) -> Result<(), DmaFault> {
        let page = 1usize << self.shift;
        let (mut at, mut rest) = (offset & self.mask, out);
        while !rest.is_empty() {
            let inside = (page - (at as usize & (page - 1))).min((self.mask + 1 - at) as usize).min(rest.len());
            let (now, later) = rest.split_at_mut(inside);
            dma.read(self.iova(at), now)?;
            at = (at + inside as u64) & self.mask;
            rest = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | offsets walk the pages in order and wrap at the end | `offsets_walk_the_pages_and_wrap` |
    //! | bad page addresses are refused | `pages_at_zero_or_unaligned_are_refused` |
    use super::*;

    #[test]
    fn offsets_walk_the_pages_and_wrap() {
        assert_eq!(Ring::page_count(16384, 1), Ok(2));
        assert_eq!(Ring::page_count(64, 0), Ok(1));
        let ring = Ring::new(16384, 1, Box::new([0x10000, 0x4000])).unwrap();
        assert_eq!(ring.iova(0), 0x10000);
        assert_eq!(ring.iova(8191), 0x11fff);
        assert_eq!(ring.iova(8192), 0x4000);
        assert_eq!(ring.iova(16384 + 64), 0x10040);
    }

    #[test]
    fn pages_at_zero_or_unaligned_are_refused() {
        assert_eq!(Ring::new(4096, 0, Box::new([0])).unwrap_err(), refusal::RING_ADDRESS);
        assert_eq!(Ring::new(4096, 0, Box::new([0x1040])).unwrap_err(), refusal::RING_ADDRESS);
        assert_eq!(Ring::page_count(4096, 19), Err(refusal::RING_PAGE_SIZE));
    }
}
