//! A piece of DMA memory that one owner holds.

use super::{Arena, Iova};
use crate::dma::heap::Allocation;
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// An exclusive, contiguous piece of DMA memory, contiguous for the device as well.
///
/// It can be split, never aliased; it gives no slices and no references. Offsets are bytes from its start. An access
/// outside it is a bug of the caller and panics; what the device claims must be checked before.
#[derive(Debug)]
pub struct DmaBuf {
    allocation: Arc<Allocation>,
    offset: usize,
    len: usize,
    /// One thread at a time: accesses are not synchronized with each other.
    _not_sync: PhantomData<Cell<u8>>,
}

/// Keeps memory allocated and mapped without giving access to it: what a firmware object still holds while its owner may
/// already be gone.
#[derive(Clone, Debug)]
pub struct DmaHold(#[expect(dead_code, reason = "held, never used")] Arc<Allocation>);

impl DmaBuf {
    /// Keeps the allocation that this buffer is a part of from being reused before the hold is dropped.
    pub fn hold(&self) -> DmaHold {
        DmaHold(Arc::clone(&self.allocation))
    }

    pub(super) fn new(allocation: Arc<Allocation>, offset: usize, len: usize) -> DmaBuf {
        DmaBuf { allocation, offset, len, _not_sync: PhantomData }
    }

    #[inline(always)]
    fn arena(&self) -> &Arena {
        self.allocation.arena()
    }

    #[inline(always)]
    fn at(&self, offset: usize, len: usize) -> usize {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len),
            "{len} bytes at {offset:#x} of a buffer of {:#x}",
            self.len
        );
        self.offset + offset
    }

    /// Address of the first byte as the device sees it.
    #[inline]
    pub fn iova(&self) -> Iova {
        self.allocation.iova().offset(self.offset as u64)
    }

    /// Address of byte `offset` as the device sees it.
    #[inline]
    pub fn iova_at(&self, offset: usize) -> Iova {
        assert!(offset <= self.len);
        self.iova().offset(offset as u64)
    }

    /// Bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for a piece of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Splits at `at`: the first `at` bytes and the rest.
    pub fn split_at(self, at: usize) -> (DmaBuf, DmaBuf) {
        assert!(at <= self.len, "split at {at} of {}", self.len);
        let rest = DmaBuf::new(Arc::clone(&self.allocation), self.offset + at, self.len - at);
        (DmaBuf::new(self.allocation, self.offset, at), rest)
    }

    /// Copies bytes out.
    #[inline(always)]
    pub fn read(&self, offset: usize, out: &mut [u8]) {
        self.arena().read(self.at(offset, out.len()), out);
    }

    /// Copies an array out; for entries of rings.
    #[inline(always)]
    pub fn read_array<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut out = [0; N];
        self.read(offset, &mut out);
        out
    }

    /// Copies bytes in.
    #[inline(always)]
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        self.arena().write(self.at(offset, bytes.len()), bytes);
    }

    /// Sets bytes.
    pub fn fill(&self, offset: usize, len: usize, byte: u8) {
        self.arena().fill(self.at(offset, len), len, byte);
    }

    /// Copies `len` bytes at `offset` into another piece.
    #[inline]
    pub fn copy_to(&self, offset: usize, to: &DmaBuf, to_offset: usize, len: usize) {
        self.arena().copy(self.at(offset, len), to.arena(), to.at(to_offset, len), len);
    }

    /// Loads the byte at `offset`, before anything that follows: an ownership byte.
    #[inline(always)]
    pub fn load_acquire(&self, offset: usize) -> u8 {
        self.arena().atomic_u8(self.at(offset, 1), Ordering::Acquire)
    }

    /// Stores the byte at `offset`, after everything before: an ownership byte.
    #[inline(always)]
    pub fn store_release(&self, offset: usize, value: u8) {
        self.arena().atomic_store_u8(self.at(offset, 1), value, Ordering::Release);
    }

    /// Loads the big-endian word at `offset` (a multiple of 4 from the arena's start).
    #[inline(always)]
    pub fn load_be32(&self, offset: usize) -> u32 {
        self.arena().atomic_u32(self.at(offset, 4), Ordering::Acquire)
    }

    /// Stores a big-endian word at `offset`, after everything before: a doorbell record.
    #[inline(always)]
    pub fn store_be32(&self, offset: usize, value: u32) {
        self.arena().atomic_store_u32(self.at(offset, 4), value, Ordering::Release);
    }

    /// The bytes, copied; for tests and control paths.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = vec![0; self.len];
        self.read(0, &mut out);
        out
    }
}
