//! DMA memory as the entries of a ring.
#![allow(unsafe_code)] // Raw access to shared memory: the entry is bounds-checked, fields are constants checked against it.

use super::DmaBuf;
use hw_regs::layout::{Field, Layout};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// A buffer as an array of entries `E`.
///
/// Invariant: the buffer has `entries * E::SIZE` bytes and begins, as does every entry in it, at a multiple of 8.
#[derive(Debug)]
pub struct DmaRing<E> {
    memory: DmaBuf,
    entries: u32,
    _entry: PhantomData<fn() -> E>,
}

/// An entry of a ring: its bounds were checked, and where its fields are is known at compile time.
///
/// Every load is an atomic of its own and happens once: whatever the device writes meanwhile, all uses of a value that was
/// loaded see the same.
#[derive(Debug)]
pub struct Entry<'a, E> {
    base: NonNull<u8>,
    _in: PhantomData<&'a DmaBuf>,
    _entry: PhantomData<fn() -> E>,
}

/// Some entries of a ring, one after the other. The address is kept here, so that a loop need not look it up again whenever
/// something was written that the compiler cannot tell apart from the ring.
#[derive(Debug)]
pub struct Entries<'a, E> {
    base: NonNull<u8>,
    len: usize,
    _in: PhantomData<&'a DmaBuf>,
    _entry: PhantomData<fn() -> E>,
}

impl<'a, E: Layout> Entries<'a, E> {
    /// How many.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entry `n`; `None` behind the last.
    #[inline(always)]
    pub fn entry(&self, n: usize) -> Option<Entry<'a, E>> {
        if n >= self.len {
            return None;
        }
        // SAFETY: inside the buffer, as whoever made this has checked, and as checked here.
        Some(Entry { base: unsafe { self.base.add(n * E::SIZE) }, _in: PhantomData, _entry: PhantomData })
    }
}

/// Bytes of a block of a [`Window`].
pub const BLOCK: usize = 64;

/// Room for a work request: whole blocks of a ring whose bounds were checked.
#[derive(Debug)]
pub struct Window<'a> {
    base: NonNull<u8>,
    blocks: usize,
    _of: PhantomData<&'a DmaBuf>,
}

/// Out of line, so that the hot path carries no formatting.
#[cold]
#[inline(never)]
fn outside(offset: usize, len: usize, size: usize) -> ! {
    panic!("{len} bytes at {offset} of a work request or ring of {size}")
}

impl<'a> Window<'a> {
    /// `blocks` blocks of `memory` from block `first` on.
    ///
    /// # Panics
    /// If they are not inside.
    #[inline(always)]
    pub fn new(memory: &'a DmaBuf, first: usize, blocks: usize) -> Window<'a> {
        let all = memory.len() / BLOCK;
        if first >= all || blocks > all - first {
            outside(first * BLOCK, blocks * BLOCK, memory.len());
        }
        // SAFETY: inside the buffer, as checked.
        Window { base: unsafe { memory.base().add(first * BLOCK) }, blocks, _of: PhantomData }
    }

    /// Writes bytes.
    ///
    /// # Panics
    /// If they do not fit.
    #[inline(always)]
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let len = self.blocks * BLOCK;
        if bytes.len() > len || offset > len - bytes.len() {
            outside(offset, bytes.len(), len);
        }
        // SAFETY: the window is valid for its length, as checked; `bytes` is a Rust slice, which cannot overlap the mapping,
        // into which no reference is ever made.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.as_ptr().add(offset), bytes.len()) };
    }

    /// Writes block `n`.
    ///
    /// # Panics
    /// If it is not inside.
    #[inline(always)]
    pub fn write_block(&mut self, n: usize, block: &[u8; BLOCK]) {
        if n >= self.blocks {
            outside(n * BLOCK, BLOCK, self.blocks * BLOCK);
        }
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(block.as_ptr(), self.base.as_ptr().add(n * BLOCK), BLOCK) };
    }
}

impl<E: Layout> DmaRing<E> {
    /// The whole of `memory` as a ring.
    ///
    /// # Panics
    /// If it is not aligned to 8 bytes, or no whole number of entries.
    pub fn new(memory: DmaBuf) -> DmaRing<E> {
        const { assert!(E::SIZE.is_multiple_of(8)) };
        assert!(memory.base().cast::<u64>().as_ptr().is_aligned(), "a ring that is not aligned");
        assert!(memory.len().is_multiple_of(E::SIZE), "a ring of {} bytes for entries of {}", memory.len(), E::SIZE);
        let entries = u32::try_from(memory.len() / E::SIZE).expect("fewer entries than bytes of an arena");
        DmaRing { memory, entries, _entry: PhantomData }
    }

    /// Entries.
    #[inline(always)]
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// The memory.
    pub fn memory(&self) -> &DmaBuf {
        &self.memory
    }

    /// The entries from `first` on, at most `limit`, for a loop over them.
    #[inline(always)]
    pub fn entries_from(&self, first: u32, limit: usize) -> Entries<'_, E> {
        let first = first.min(self.entries);
        // SAFETY: inside the buffer by the invariant, or its end.
        let base = unsafe { self.memory.base().add(first as usize * E::SIZE) };
        Entries { base, len: limit.min((self.entries - first) as usize), _in: PhantomData, _entry: PhantomData }
    }

    /// Entry `index`; `None` behind the last.
    #[inline(always)]
    pub fn entry(&self, index: u32) -> Option<Entry<'_, E>> {
        if index >= self.entries {
            return None;
        }
        // SAFETY: inside the buffer by the invariant, as checked.
        let base = unsafe { self.memory.base().add(index as usize * E::SIZE) };
        Some(Entry { base, _in: PhantomData, _entry: PhantomData })
    }
}

impl<E: Layout> Entry<'_, E> {
    /// Address of a byte inside the entry, as the caller has checked.
    #[inline(always)]
    fn at(&self, offset: usize) -> *mut u8 {
        // SAFETY: the entry is valid for its size, and `offset` is below that.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// Loads the last byte, before anything that follows: the ownership byte of a completion entry.
    #[inline(always)]
    pub fn acquire_last(&self) -> u8 {
        // SAFETY: inside the entry, which is valid; the device writes it as one store.
        unsafe { AtomicU8::from_ptr(self.at(E::SIZE - 1)) }.load(Ordering::Acquire)
    }

    /// Loads the last 8 bytes before anything that follows: ownership and what stands beside it.
    #[inline(always)]
    pub fn acquire_last_8(&self) -> [u8; 8] {
        const { assert!(E::SIZE.is_multiple_of(8)) };
        // SAFETY: inside the entry, which is valid and begins at a multiple of 8; the device writes its last byte last.
        unsafe { AtomicU64::from_ptr(self.at(E::SIZE - 8).cast()) }.load(Ordering::Acquire).to_ne_bytes()
    }

    /// Loads the word that a field is in, as it stands: to be compared with the same word of another entry.
    #[inline(always)]
    pub fn word(&self, field: Field<E>) -> [u8; 4] {
        let at = (field.offset() / 32 * 4) as usize;
        assert!(at + 4 <= E::SIZE);
        // SAFETY: inside the entry, as checked; entries begin at multiples of 8, and `at` is a multiple of 4.
        unsafe { AtomicU32::from_ptr(self.at(at).cast()) }.load(Ordering::Relaxed).to_ne_bytes()
    }

    /// Loads a field: exactly one load.
    #[inline(always)]
    pub fn get(&self, field: Field<E>) -> u32 {
        let width = 32 - field.max().leading_zeros();
        let bit = field.offset();
        // The table's fields lie inside their structure; for a constant this is decided at compile time.
        assert!((bit / 32 * 4 + 4) as usize <= E::SIZE);
        let at = (bit / 8) as usize;
        match width {
            8 if bit.is_multiple_of(8) => {
                // SAFETY: inside the entry, as checked.
                unsafe { AtomicU8::from_ptr(self.at(at)) }.load(Ordering::Relaxed).into()
            }
            16 if bit.is_multiple_of(16) => {
                // SAFETY: inside the entry, as checked; entries begin at multiples of 8, so `at` keeps 2-byte alignment.
                let raw = unsafe { AtomicU16::from_ptr(self.at(at).cast()) }.load(Ordering::Relaxed);
                u16::from_be(raw).into()
            }
            _ => {
                // SAFETY: inside the entry, as checked; entries begin at multiples of 8, and the word is one of 4 bytes.
                let raw = unsafe { AtomicU32::from_ptr(self.at(at & !3).cast()) }.load(Ordering::Relaxed);
                (u32::from_be(raw) >> (32 - bit % 32 - width)) & field.max()
            }
        }
    }

    /// Copies the entry out.
    #[inline(always)]
    pub fn copy_into(&self, to: &mut E) {
        let to = to.bytes_mut();
        assert!(to.len() == E::SIZE);
        // SAFETY: the entry is valid for its size; `to` is a Rust slice of as many bytes outside the mapping, into which no
        // reference is ever made. The copy goes through a raw pointer, so nothing is assumed about bytes that change.
        unsafe { std::ptr::copy_nonoverlapping(self.base.as_ptr(), to.as_mut_ptr(), E::SIZE) };
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | an entry is the bytes of its place, and every field reads as in a copy | `fields_read_as_in_a_copy` |
    //! | there is no entry behind the last | `there_is_no_entry_behind_the_last` |
    //! | memory that is not aligned, or no whole number of entries, is no ring | `what_is_no_ring_is_refused` |
    use super::*;
    use crate::queue::testing;
    use hw_regs::cqe::{Cqe64, OffloadCqe};
    use hw_regs::layout::Access;
    use proptest::prelude::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    proptest! {
        #[test]
        fn fields_read_as_in_a_copy(bytes in prop::collection::vec(any::<u8>(), 4 * 128)) {
            let memory = testing::heap().allocate(bytes.len(), 64).expect("memory");
            memory.write(0, &bytes);
            let ring = DmaRing::<OffloadCqe>::new(memory);
            for index in 0..4 {
                let entry = ring.entry(index).expect("inside");
                let expected = OffloadCqe::from_prefix(&bytes[index as usize * 128..]);
                let mut copy = OffloadCqe::zeroed();
                entry.copy_into(&mut copy);
                prop_assert_eq!(copy.bytes(), expected.bytes());
                prop_assert_eq!(entry.acquire_last(), expected.0[127]);
                prop_assert_eq!(&entry.acquire_last_8(), &expected.0[120..]);
                prop_assert_eq!(&entry.word(OffloadCqe::CCID), &expected.0[8..12]);
                prop_assert_eq!(&entry.word(OffloadCqe::CQE64_B1_NVMEOTCP_DDGST), &expected.0[64..68]);
                // 8, 16, 24 and 32 bits, and a single one.
                for field in [
                    OffloadCqe::CQE64_HDS_IP_EXT,
                    OffloadCqe::CCID,
                    OffloadCqe::HLEN,
                    OffloadCqe::CQE64_FLOW_TAG,
                    OffloadCqe::CCOFF_OR_RESYNC_TCP_SN,
                    OffloadCqe::CQE64_B1_NVMEOTCP_DDGST,
                ] {
                    prop_assert_eq!(entry.get(field), expected.get(field));
                }
            }
        }
    }

    #[test]
    fn there_is_no_entry_behind_the_last() {
        let ring = DmaRing::<Cqe64>::new(testing::heap().allocate(3 * 64, 64).expect("memory"));
        assert_eq!(ring.entries(), 3);
        assert!(ring.entry(2).is_some());
        for index in [3, 4, 1 << 26, u32::MAX] {
            assert!(ring.entry(index).is_none());
        }
    }

    #[test]
    fn what_is_no_ring_is_refused() {
        let heap = testing::heap();
        let part = heap.allocate(65, 64).expect("memory");
        assert!(catch_unwind(AssertUnwindSafe(|| DmaRing::<Cqe64>::new(part))).is_err());
        let odd = heap.allocate(64 + 4, 64).expect("memory").split_at(4).1;
        assert!(catch_unwind(AssertUnwindSafe(|| DmaRing::<Cqe64>::new(odd))).is_err());
    }
}
