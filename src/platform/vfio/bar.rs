//! BAR0 in this process.
#![allow(unsafe_code)] // Mappings of device registers are made and taken away here.

use super::access::Bar0;
use hw_regs::mmio::MappedBar;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

/// One mapped run of BAR0.
struct Part {
    /// Where in the BAR.
    offset: u64,
    registers: MappedBar,
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: as for `MappedBar`: the mapping is not tied to a thread; the address is used only to take it away.
unsafe impl Send for Part {}
// SAFETY: a shared part allows what `&MappedBar` allows: single loads and stores of registers, which the device orders.
unsafe impl Sync for Part {}

impl Drop for Part {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made, nobody else has its address, and `registers` is not used again.
        if let Err(error) = unsafe { munmap(self.address.as_ptr().cast(), self.len) } {
            log::error!("BAR0 stays mapped: {error}");
        }
    }
}

/// BAR0: whole, or what is before and behind the MSI-X table where the kernel keeps that to itself.
///
/// Whatever is not mapped is reached through the device's file, where the kernel says what happens: slow, but no register
/// that firmware names can bring the process down.
pub(super) struct Bar {
    /// The largest first: it holds the doorbells.
    parts: Vec<Part>,
    size: u64,
    file: File,
    file_offset: u64,
}

impl Bar {
    pub fn map(region: &Bar0, device: impl AsFd) -> Result<Bar, String> {
        let file = device.as_fd().try_clone_to_owned().map_err(|error| format!("its file: {error}"))?;
        let mut parts = Vec::new();
        for (offset, len) in &region.mappable {
            let what = || format!("BAR0 cannot be mapped ({len:#x} bytes at {offset:#x} of {:#x})", region.size);
            offset.checked_add(*len).filter(|end| *end <= region.size).ok_or_else(what)?;
            let len = usize::try_from(*len).map_err(|error| format!("{}: {error}", what()))?;
            let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
            // SAFETY: a new mapping at an address that the kernel chooses touches no other memory.
            let address =
                unsafe { mmap(std::ptr::null_mut(), len, protection, flags, &file, region.file_offset + offset) };
            let address = address.map_err(|error| format!("{}: {error}", what()))?;
            let address = NonNull::new(address.cast::<u8>()).ok_or_else(what)?;
            // SAFETY: mapped above, page-aligned, and taken away only in `Part::drop`; the address goes nowhere else.
            let registers = unsafe { MappedBar::new(address, len as u64) };
            parts.push(Part { offset: *offset, registers, address, len });
        }
        parts.sort_by_key(|part| std::cmp::Reverse(part.len));
        if parts.is_empty() {
            return Err("the kernel lets no part of BAR0 be mapped".into());
        }
        Ok(Bar { parts, size: region.size, file: File::from(file), file_offset: region.file_offset })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// The mapped part that a register is in, and its place there; `None` in a gap.
    #[inline]
    fn part(&self, offset: u64) -> Option<(&MappedBar, u64)> {
        let inside = |part: &&Part| offset >= part.offset && offset - part.offset < part.len as u64;
        self.parts.iter().find(inside).map(|part| (&part.registers, offset - part.offset))
    }

    #[inline]
    pub fn read32(&self, offset: u64) -> u32 {
        match self.part(offset) {
            Some((registers, at)) => registers.read32(at),
            None => self.read_gap(offset),
        }
    }

    #[inline]
    pub fn write32(&self, offset: u64, value: u32) {
        match self.part(offset) {
            Some((registers, at)) => registers.write32(at, value),
            None => self.write_gap(offset, &value.to_be_bytes()),
        }
    }

    #[inline]
    pub fn write64(&self, offset: u64, value: u64) {
        match self.part(offset) {
            Some((registers, at)) => registers.write64(at, value),
            None => self.write_gap(offset, &value.to_be_bytes()),
        }
    }

    /// Where in the device's file a register is. Panics outside the BAR: offsets are the driver's own.
    fn in_file(&self, offset: u64, size: u64) -> u64 {
        crate::platform::check_register(offset, size, self.size);
        self.file_offset + offset
    }

    #[cold]
    fn read_gap(&self, offset: u64) -> u32 {
        let mut bytes = [0xff; 4];
        if let Err(error) = self.file.read_exact_at(&mut bytes, self.in_file(offset, 4)) {
            log::error!("register {offset:#x} of BAR0 is not mapped, and the kernel does not read it: {error}");
            return u32::MAX;
        }
        u32::from_be_bytes(bytes)
    }

    #[cold]
    fn write_gap(&self, offset: u64, bytes: &[u8]) {
        if let Err(error) = self.file.write_all_at(bytes, self.in_file(offset, bytes.len() as u64)) {
            log::error!("register {offset:#x} of BAR0 is not mapped, and the kernel does not write it: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | a BAR in pieces is one BAR: mapped or not, a register is at its offset, big-endian | `a_bar_in_pieces_is_one` |
    //! | what the kernel does not read is all ones, and what it does not write is not written | `a_gap_that_is_closed_reads_all_ones` |
    //! | an access outside it is a bug | `outside_is_a_bug` |
    //! | a part that is not in the BAR, and a BAR without parts, are refused | `impossible_parts_are_refused` |
    use super::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use std::os::fd::AsRawFd;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    const PAGE: u64 = 4096;

    /// A BAR of eight pages at page 3 of a file, the third and fourth of which hold the MSI-X table.
    fn bar(mappable: &[(u64, u64)], backed: u64) -> (File, Result<Bar, String>) {
        let fd = memfd_create("bar", MemfdFlags::CLOEXEC).expect("a file");
        ftruncate(&fd, (3 + backed) * PAGE).expect("its size");
        let region = Bar0 { size: 8 * PAGE, file_offset: 3 * PAGE, mappable: mappable.to_vec() };
        let bar = Bar::map(&region, &fd);
        (File::from(fd), bar)
    }

    const AROUND_MSIX: [(u64, u64); 2] = [(0, 2 * PAGE), (4 * PAGE, 4 * PAGE)];

    #[test]
    fn a_bar_in_pieces_is_one() {
        let (file, bar) = bar(&AROUND_MSIX, 8);
        let bar = bar.expect("mapped");
        assert_eq!((bar.parts(), bar.size()), (2, 8 * PAGE));
        for offset in [0, 2 * PAGE - 8, 2 * PAGE, 3 * PAGE + 16, 4 * PAGE - 8, 4 * PAGE, 8 * PAGE - 8] {
            bar.write64(offset, 0x0102_0304_0506_0708);
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, 3 * PAGE + offset).expect("in the file");
            assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8], "{offset:#x}");
            assert_eq!((bar.read32(offset), bar.read32(offset + 4)), (0x0102_0304, 0x0506_0708));
            bar.write32(offset + 4, 0xa0b0_c0d0);
            assert_eq!((bar.read32(offset), bar.read32(offset + 4)), (0x0102_0304, 0xa0b0_c0d0));
        }
    }

    #[test]
    fn a_gap_that_is_closed_reads_all_ones() {
        // The file ends in the gap.
        let (file, bar) = bar(&AROUND_MSIX[..1], 2);
        let bar = bar.expect("mapped");
        assert_eq!(bar.read32(2 * PAGE), u32::MAX);
        let rights = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("read-only");
        let closed = Bar { file: rights, ..bar };
        closed.write32(2 * PAGE, 7);
        assert_eq!(file.metadata().expect("its size").len(), 5 * PAGE, "nothing was written");
    }

    #[test]
    fn outside_is_a_bug() {
        let (_file, bar) = bar(&AROUND_MSIX, 8);
        let bar = bar.expect("mapped");
        for offset in [8 * PAGE, 8 * PAGE - 2, 2 * PAGE + 2, 2, u64::MAX, u64::MAX - 3] {
            assert!(catch_unwind(AssertUnwindSafe(|| bar.read32(offset))).is_err(), "{offset:#x}");
            assert!(catch_unwind(AssertUnwindSafe(|| bar.write64(offset, 0))).is_err(), "{offset:#x}");
        }
        assert!(catch_unwind(AssertUnwindSafe(|| bar.write64(2 * PAGE + 4, 0))).is_err(), "not aligned");
    }

    #[test]
    fn impossible_parts_are_refused() {
        for parts in [&[(4 * PAGE, 5 * PAGE)][..], &[(u64::MAX, 2)], &[]] {
            let error = bar(parts, 8).1.err().expect("refused");
            assert!(error.contains("BAR0"), "{error}");
        }
    }
}
