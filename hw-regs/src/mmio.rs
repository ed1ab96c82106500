//! A BAR that is mapped into this process, and the only memory-mapped I/O of the project.
//!
//! Registers are native 32- or 64-bit accesses, one instruction each, swapped at the edge: a volatile read of a
//! big-endian wrapper type would compile to byte loads, which a device answers wrongly. The `volatile` crate keeps each
//! access single and unmoved; ordering against DMA memory is [`barrier`](crate::barrier)'s.
#![allow(unsafe_code)] // Registers are raw addresses; every access below is bounds-checked first.

use core::ptr::NonNull;
use volatile::VolatilePtr;

/// The registers of one BAR, or of a part of it.
#[derive(Debug)]
pub struct MappedBar {
    base: NonNull<u8>,
    len: u64,
}

// SAFETY: the mapping is not tied to a thread; each access is one load or store of a device register, and the device
// serializes them.
unsafe impl Send for MappedBar {}

impl MappedBar {
    /// Wraps `len` bytes of mapped registers at `base`.
    ///
    /// # Safety
    /// `base..base + len` must stay mapped, readable and writable for as long as the value lives, be aligned to 8 bytes,
    /// and be used through this value only.
    pub unsafe fn new(base: NonNull<u8>, len: u64) -> Self {
        MappedBar { base, len }
    }

    /// Bytes mapped.
    pub fn size(&self) -> u64 {
        self.len
    }

    fn register<T>(&self, offset: u64) -> VolatilePtr<'_, T> {
        let size = size_of::<T>() as u64;
        assert!(
            offset.is_multiple_of(size) && offset.checked_add(size).is_some_and(|end| end <= self.len),
            "register {offset:#x} of {size} bytes is outside a BAR of {:#x} bytes or not aligned",
            self.len
        );
        // SAFETY: in bounds and aligned (checked above; the base is aligned to 8), and mapped for as long as `self`
        // lives by the contract of `new`.
        unsafe { VolatilePtr::new(self.base.add(offset as usize).cast::<T>()) }
    }

    /// Reads the big-endian 32-bit register at `offset`.
    ///
    /// # Panics
    /// If the register is not aligned or outside the BAR; offsets are the driver's own constants.
    #[inline]
    pub fn read32(&self, offset: u64) -> u32 {
        u32::from_be(self.register::<u32>(offset).read())
    }

    /// Writes the big-endian 32-bit register at `offset`. Panics as [`MappedBar::read32`].
    #[inline]
    pub fn write32(&self, offset: u64, value: u32) {
        self.register::<u32>(offset).write(value.to_be());
    }

    /// Writes the big-endian 64-bit register at `offset` in one access. Panics as [`MappedBar::read32`].
    #[inline]
    pub fn write64(&self, offset: u64, value: u64) {
        self.register::<u64>(offset).write(value.to_be());
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | registers are big-endian in memory | `a_register_is_big_endian` |
    //! | an access outside the BAR never happens | `an_access_outside_the_bar_is_refused` |
    use super::*;

    fn bar(words: &mut [u64]) -> MappedBar {
        let len = size_of_val(words) as u64;
        let base = NonNull::new(words.as_mut_ptr().cast::<u8>()).expect("a slice has an address");
        // SAFETY: the slice outlives the value in each test, is aligned to 8, and is used through it alone meanwhile.
        unsafe { MappedBar::new(base, len) }
    }

    #[test]
    fn a_register_is_big_endian() {
        let mut words = [0u64; 4];
        let bar = bar(&mut words);
        bar.write32(4, 0x0102_0304);
        bar.write64(8, 0x0506_0708_090a_0b0c);
        assert_eq!(bar.read32(4), 0x0102_0304);
        assert_eq!(bar.read32(8), 0x0506_0708);
        assert_eq!(words[0].to_ne_bytes()[4..], [1, 2, 3, 4]);
        assert_eq!(words[1].to_ne_bytes(), [5, 6, 7, 8, 9, 10, 11, 12]);
    }

    #[test]
    #[should_panic(expected = "outside a BAR of 0x20 bytes")]
    fn an_access_outside_the_bar_is_refused() {
        let mut words = [0u64; 4];
        bar(&mut words).read32(0x20);
    }
}
