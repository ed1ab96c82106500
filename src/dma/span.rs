//! A piece of DMA memory by its address in this process: every access goes through here.
#![allow(unsafe_code)] // Raw access to shared memory: every access below is bounds-checked first and copies.

use super::heap::Keeper;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// A piece of an arena or of memory that a caller lent, and what keeps that memory. The address is kept with the piece, so
/// that an access on the hot path is one comparison and one load or store.
///
/// Invariant: `[base, base + len)` lies inside `keeper`'s memory, which is valid at least as long as `keeper`.
#[derive(Debug)]
pub(super) struct Span {
    base: NonNull<u8>,
    len: usize,
    keeper: Arc<Keeper>,
}

// SAFETY: `base` makes this not `Send` by default. It points into memory that no thread owns (a shared mapping, or what a
// caller gave away) and that `keeper`, which moves along, keeps; so it means the same on every thread. `Span` stays
// without `Sync`: two threads cannot access one piece at the same time, and pieces do not overlap (`DmaBuf` is exclusive).
unsafe impl Send for Span {}

/// Out of line, so that the hot path carries no formatting.
#[cold]
#[inline(never)]
fn outside(offset: usize, len: usize, size: usize) -> ! {
    panic!("{len} bytes at {offset:#x} of a buffer of {size:#x}")
}

#[cold]
#[inline(never)]
fn not_aligned(offset: usize) -> ! {
    panic!("a word at {offset:#x} is not aligned")
}

impl Span {
    /// The piece `[offset, offset + len)` of `keeper`'s memory.
    pub(super) fn new(keeper: Arc<Keeper>, offset: usize, len: usize) -> Span {
        let (start, size) = keeper.memory();
        if len > size || offset > size - len {
            outside(offset, len, size);
        }
        let start = NonNull::new(start).expect("memory has an address");
        // SAFETY: inside the memory, as checked.
        let base = unsafe { start.add(offset) };
        Span { base, len, keeper }
    }

    /// What keeps the memory.
    pub(super) fn keeper(&self) -> &Arc<Keeper> {
        &self.keeper
    }

    /// Bytes.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The first `at` bytes and the rest.
    pub(super) fn split_at(self, at: usize) -> (Span, Span) {
        if at > self.len {
            outside(at, 0, self.len);
        }
        // SAFETY: inside the memory by the invariant, as checked.
        let base = unsafe { self.base.add(at) };
        let rest = Span { base, len: self.len - at, keeper: Arc::clone(&self.keeper) };
        (Span { len: at, ..self }, rest)
    }

    #[inline(always)]
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        if len > self.len || offset > self.len - len {
            outside(offset, len, self.len);
        }
        // SAFETY: inside the memory by the invariant, as checked.
        unsafe { self.base.as_ptr().add(offset) }
    }

    #[inline(always)]
    pub(super) fn read(&self, offset: usize, out: &mut [u8]) {
        let from = self.at(offset, out.len());
        // SAFETY: `from` is valid for `out.len()` bytes; `out` is a Rust slice and cannot overlap the mapping, into which
        // no reference is ever made. A device that writes meanwhile makes the bytes unspecified, which callers treat as
        // unchecked input; the copy goes through a raw pointer, so nothing is assumed about them.
        unsafe { std::ptr::copy_nonoverlapping(from, out.as_mut_ptr(), out.len()) };
    }

    #[inline(always)]
    pub(super) fn write(&self, offset: usize, bytes: &[u8]) {
        let to = self.at(offset, bytes.len());
        // SAFETY: as `read`, in the other direction.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    #[inline(always)]
    pub(super) fn fill(&self, offset: usize, len: usize, byte: u8) {
        let to = self.at(offset, len);
        // SAFETY: `to` is valid for `len` bytes.
        unsafe { std::ptr::write_bytes(to, byte, len) };
    }

    #[inline(always)]
    pub(super) fn copy(&self, offset: usize, to: &Span, to_offset: usize, len: usize) {
        let from = self.at(offset, len);
        let to = to.at(to_offset, len);
        // SAFETY: both are valid for `len` bytes; `copy` allows overlap.
        unsafe { std::ptr::copy(from, to, len) };
    }

    #[inline(always)]
    pub(super) fn atomic_u8(&self, offset: usize, ordering: Ordering) -> u8 {
        let at = self.at(offset, 1);
        // SAFETY: valid for a byte; the other side of the hand-off writes it as one store.
        unsafe { AtomicU8::from_ptr(at) }.load(ordering)
    }

    #[inline(always)]
    pub(super) fn atomic_store_u8(&self, offset: usize, value: u8, ordering: Ordering) {
        let at = self.at(offset, 1);
        // SAFETY: as above.
        unsafe { AtomicU8::from_ptr(at) }.store(value, ordering);
    }

    #[inline(always)]
    pub(super) fn atomic_u32(&self, offset: usize, ordering: Ordering) -> u32 {
        u32::from_be(self.word(offset).load(ordering))
    }

    #[inline(always)]
    pub(super) fn atomic_store_u32(&self, offset: usize, value: u32, ordering: Ordering) {
        self.word(offset).store(value.to_be(), ordering);
    }

    #[inline(always)]
    fn word(&self, offset: usize) -> &AtomicU32 {
        let at = self.at(offset, 4).cast::<u32>();
        if !at.is_aligned() {
            not_aligned(offset);
        }
        // SAFETY: valid for four bytes and aligned, as checked; an atomic may be shared with a device that writes the word
        // as one access.
        unsafe { AtomicU32::from_ptr(at) }
    }

    /// Where the piece begins, for [`DmaRing`](super::DmaRing), which does its own checks.
    #[inline(always)]
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }
}
