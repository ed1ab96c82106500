//! BAR0 in this process.
#![allow(unsafe_code)] // Mappings of device registers are made and taken away here.

use super::access::Device;
use hw_regs::mmio::MappedBar;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
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
pub(super) struct Bar {
    /// The largest first: it holds the doorbells.
    parts: Vec<Part>,
    size: u64,
}

impl Bar {
    pub fn map(device: &Device) -> Result<Bar, String> {
        let region = device.bar0()?;
        let mut parts = Vec::new();
        for (offset, len) in &region.mappable {
            let what = || format!("BAR0 cannot be mapped ({len:#x} bytes at {offset:#x})");
            let len = usize::try_from(*len).map_err(|error| format!("{}: {error}", what()))?;
            let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
            // SAFETY: a new mapping at an address that the kernel chooses touches no other memory.
            let address =
                unsafe { mmap(std::ptr::null_mut(), len, protection, flags, device, region.file_offset + offset) };
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
        Ok(Bar { parts, size: region.size })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    #[inline]
    fn part(&self, offset: u64) -> (&MappedBar, u64) {
        let inside = |part: &&Part| offset >= part.offset && offset - part.offset < part.len as u64;
        match self.parts.iter().find(inside) {
            Some(part) => (&part.registers, offset - part.offset),
            None => panic!("register {offset:#x} is in no mapped part of a BAR of {:#x} bytes", self.size),
        }
    }

    #[inline]
    pub fn read32(&self, offset: u64) -> u32 {
        let (registers, at) = self.part(offset);
        registers.read32(at)
    }

    #[inline]
    pub fn write32(&self, offset: u64, value: u32) {
        let (registers, at) = self.part(offset);
        registers.write32(at, value);
    }

    #[inline]
    pub fn write64(&self, offset: u64, value: u64) {
        let (registers, at) = self.part(offset);
        registers.write64(at, value);
    }
}
