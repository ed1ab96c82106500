//! Memory that a device reads and writes while we do.

#![allow(unsafe_code)] // Raw memory: every access is bounds-checked and copies.

use std::alloc::Layout;

/// Alignment of what is allocated, and of what the IOMMU maps.
pub const PAGE: usize = 4096;

/// A run of bytes, zero at first.
pub struct Memory {
    start: *mut u8,
    len: usize,
    owned: bool,
}

impl Memory {
    /// `len` bytes (not none), aligned to a page.
    pub fn new(len: usize) -> Memory {
        let layout = Memory::layout(len);
        // SAFETY: the layout is not empty.
        let start = unsafe { std::alloc::alloc_zeroed(layout) };
        if start.is_null() {
            std::alloc::handle_alloc_error(layout);
        }
        Memory { start, len, owned: true }
    }

    /// Somebody else's.
    ///
    /// # Safety
    /// `len` bytes at `start` stay what they are until the memory is dropped.
    pub unsafe fn borrowed(start: *mut u8, len: usize) -> Memory {
        Memory { start, len, owned: false }
    }

    fn layout(len: usize) -> Layout {
        assert!(len > 0, "no memory was asked for");
        Layout::from_size_align(len, PAGE).expect("a size that memory can have")
    }

    /// Where `len` bytes at `offset` are.
    ///
    /// # Panics
    /// If they are not inside.
    pub fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len), "{len} bytes at {offset} of {}", self.len);
        self.start.wrapping_add(offset)
    }

    /// The address of the byte at `offset`.
    pub fn address(&self, offset: usize) -> u64 {
        self.at(offset, 1) as u64
    }

    /// Copies bytes in.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let at = self.at(offset, bytes.len());
        for (n, byte) in bytes.iter().enumerate() {
            // SAFETY: inside, by `at`.
            unsafe { at.add(n).write_volatile(*byte) }
        }
    }

    /// Stores a word as devices read them, at once; `offset` is a multiple of 4.
    pub fn store32(&self, offset: usize, value: u32) {
        let at = self.at(offset, 4).cast::<u32>();
        assert!(at.is_aligned(), "a word at {offset}");
        // SAFETY: inside, by `at`, and aligned.
        unsafe { at.write_volatile(value.to_be()) }
    }

    /// Copies bytes out.
    pub fn read<const N: usize>(&self, offset: usize) -> [u8; N] {
        let at = self.at(offset, N);
        // SAFETY: inside, by `at`.
        std::array::from_fn(|n| unsafe { at.add(n).read_volatile() })
    }

    /// Copies bytes out, as many as are asked for.
    pub fn read_vec(&self, offset: usize, len: usize) -> Vec<u8> {
        let at = self.at(offset, len);
        // SAFETY: inside, by `at`.
        (0..len).map(|n| unsafe { at.add(n).read_volatile() }).collect()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.owned {
            // SAFETY: allocated with this layout in `new`, and the device has it no more.
            unsafe { std::alloc::dealloc(self.start, Memory::layout(self.len)) }
        }
    }
}
