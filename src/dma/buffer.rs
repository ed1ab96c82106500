//! A piece of DMA memory that one owner holds.

use super::Iova;
use super::span::Span;
use crate::dma::heap::Keeper;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// An exclusive, contiguous piece of DMA memory, contiguous for the device as well.
///
/// It can be split, never aliased; it gives no slices and no references. Offsets are bytes from its start. An access
/// outside it is a bug of the caller and panics; what the device claims must be checked before.
#[derive(Debug)]
pub struct DmaBuf {
    span: Span,
    iova: Iova,
    /// One thread at a time: accesses are not synchronized with each other.
    _not_sync: PhantomData<Cell<u8>>,
}

/// Keeps memory allocated and mapped without giving access to it: what a firmware object still holds while its owner may
/// already be gone.
#[derive(Clone, Debug)]
pub struct DmaHold(#[expect(dead_code, reason = "held, never used")] Arc<Keeper>);

impl DmaBuf {
    /// Keeps the memory that this buffer is a part of from being reused, or given back to who lent it, before the hold is
    /// dropped.
    pub fn hold(&self) -> DmaHold {
        DmaHold(Arc::clone(self.span.keeper()))
    }

    pub(super) fn new(keeper: Arc<Keeper>, offset: usize, len: usize) -> DmaBuf {
        let iova = keeper.iova().offset(offset as u64);
        DmaBuf { span: Span::new(keeper, offset, len), iova, _not_sync: PhantomData }
    }

    /// Address of the first byte as the device sees it.
    #[inline]
    pub fn iova(&self) -> Iova {
        self.iova
    }

    /// Address of byte `offset` as the device sees it.
    #[inline]
    pub fn iova_at(&self, offset: usize) -> Iova {
        assert!(offset <= self.span.len());
        self.iova().offset(offset as u64)
    }

    /// Bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.span.len()
    }

    /// True for a piece of no bytes.
    pub fn is_empty(&self) -> bool {
        self.span.len() == 0
    }

    /// Splits at `at`: the first `at` bytes and the rest.
    pub fn split_at(self, at: usize) -> (DmaBuf, DmaBuf) {
        assert!(at <= self.len(), "split at {at} of {}", self.len());
        let iova = self.iova_at(at);
        let (first, rest) = self.span.split_at(at);
        (DmaBuf { span: first, ..self }, DmaBuf { span: rest, iova, _not_sync: PhantomData })
    }

    /// Copies bytes out.
    #[inline(always)]
    pub fn read(&self, offset: usize, out: &mut [u8]) {
        self.span.read(offset, out);
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
        self.span.write(offset, bytes);
    }

    /// Sets bytes.
    pub fn fill(&self, offset: usize, len: usize, byte: u8) {
        self.span.fill(offset, len, byte);
    }

    /// Copies `len` bytes at `offset` into another piece.
    #[inline]
    pub fn copy_to(&self, offset: usize, to: &DmaBuf, to_offset: usize, len: usize) {
        self.span.copy(offset, &to.span, to_offset, len);
    }

    /// Loads the byte at `offset`, before anything that follows: an ownership byte.
    #[inline(always)]
    pub fn load_acquire(&self, offset: usize) -> u8 {
        self.span.atomic_u8(offset, Ordering::Acquire)
    }

    /// Stores the byte at `offset`, after everything before: an ownership byte.
    #[inline(always)]
    pub fn store_release(&self, offset: usize, value: u8) {
        self.span.atomic_store_u8(offset, value, Ordering::Release);
    }

    /// Loads the big-endian word at `offset` (aligned).
    #[inline(always)]
    pub fn load_be32(&self, offset: usize) -> u32 {
        self.span.atomic_u32(offset, Ordering::Acquire)
    }

    /// Stores a big-endian word at `offset`, after everything before: a doorbell record.
    #[inline(always)]
    pub fn store_be32(&self, offset: usize, value: u32) {
        self.span.atomic_store_u32(offset, value, Ordering::Release);
    }

    /// Where the piece begins, for [`DmaRing`](super::DmaRing), which does its own checks.
    #[inline(always)]
    pub(super) fn base(&self) -> NonNull<u8> {
        self.span.base()
    }

    /// The bytes, copied; for tests and control paths.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = vec![0; self.len()];
        self.read(0, &mut out);
        out
    }
}
