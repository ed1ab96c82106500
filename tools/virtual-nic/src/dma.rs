//! The device's view of memory: IOVAs that the driver mapped, each backed by a second mapping of the driver's file.
//!
//! ```text
//! driver process/arena    file (memfd)         virtual ConnectX
//!   DmaRegion  ──mmap──►  [ pages ]  ◄──mmap──  DmaSpace region at its IOVA
//! ```
//!
//! It stands for the IOMMU and the PCIe root complex together: an access to an address that is not mapped fails as a
//! whole and touches nothing, as a posted write to an unmapped IOVA is dropped by an IOMMU. Accesses may cross from one
//! region into the next if they touch.
//!
//! Ordering is PCIe's for what the driver can observe: a completion entry becomes visible body first, its ownership byte
//! last ([`DmaSpace::publish`]); everything written before it is visible with it. Doorbell records are single atomic
//! words.

use std::cell::Cell;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vm_memory::{
    Address, Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    MemoryRegionAddress,
};

/// Why a mapping could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum DmaError {
    /// A mapping of no bytes, or one that ends beyond 2^64.
    #[error("{len:#x} bytes at IOVA {iova:#x} are not a range")]
    BadRange {
        /// First address.
        iova: u64,
        /// Bytes.
        len: u64,
    },
    /// Another mapping covers part of the range.
    #[error("{len:#x} bytes at IOVA {iova:#x} overlap what is mapped: unmap it first")]
    Overlap {
        /// First address.
        iova: u64,
        /// Bytes.
        len: u64,
    },
    /// The file could not be mapped: shorter than the range, or the system refused.
    #[error("cannot map {len:#x} bytes of the file at IOVA {iova:#x}: {cause}")]
    Map {
        /// First address.
        iova: u64,
        /// Bytes.
        len: u64,
        /// What the system said.
        cause: String,
    },
    /// An unmap that finds nothing, or would cut a mapping in two.
    #[error(
        "cannot unmap {len:#x} bytes at IOVA {iova:#x}: mappings are removed as a whole, and there is none like that"
    )]
    NotMapped {
        /// First address.
        iova: u64,
        /// Bytes.
        len: u64,
    },
}

/// A device access that the IOMMU refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DmaFault {
    /// Some byte of the range is not mapped.
    #[error("DMA to {len} bytes at IOVA {iova:#x}, which is not mapped")]
    Unmapped {
        /// First address.
        iova: u64,
        /// Bytes.
        len: usize,
    },
    /// A doorbell record that is not aligned to its size.
    #[error("an atomic DMA access to IOVA {iova:#x}, which is not aligned to {align}")]
    Misaligned {
        /// The address.
        iova: u64,
        /// What it must be a multiple of.
        align: u64,
    },
}

/// Memory that the device can reach, by IOVA.
#[derive(Debug, Default)]
pub struct DmaSpace {
    memory: GuestMemoryMmap,
    /// The same regions in the same order: `GuestMemoryMmap` gives no access by index.
    regions: Vec<Arc<GuestRegionMmap>>,
    /// Index of the region that the last access hit: rings and payload are accessed in runs.
    last: Cell<usize>,
}

impl DmaSpace {
    /// An address space with nothing mapped.
    pub fn new() -> DmaSpace {
        DmaSpace::default()
    }

    /// Maps the first `len` bytes of `file` at `iova`, shared with whoever else maps the file.
    pub fn map(&mut self, iova: u64, file: &File, len: u64) -> Result<(), DmaError> {
        if len == 0 || iova.checked_add(len).is_none() {
            return Err(DmaError::BadRange { iova, len });
        }
        let refused = |cause: String| DmaError::Map { iova, len, cause };
        let size = usize::try_from(len).map_err(|_| DmaError::BadRange { iova, len })?;
        // A mapping beyond the end of a file would kill the process at the first access.
        let there = file.metadata().map_err(|e| refused(e.to_string()))?.len();
        if there < len {
            return Err(refused(format!("it has {there:#x}")));
        }
        let file = file.try_clone().map_err(|e| refused(e.to_string()))?;
        let region = GuestRegionMmap::from_range(GuestAddress(iova), size, Some(FileOffset::new(file, 0)))
            .map_err(|e| refused(e.to_string()))?;
        let mut regions = self.regions.clone();
        let at = regions.partition_point(|r| r.start_addr().raw_value() < iova);
        regions.insert(at, Arc::new(region));
        // The regions are not empty and sorted, so all that can be wrong is an overlap.
        self.memory =
            GuestMemoryMmap::from_arc_regions(regions.clone()).map_err(|_| DmaError::Overlap { iova, len })?;
        self.regions = regions;
        self.last.set(0);
        Ok(())
    }

    /// Removes every mapping inside `[iova, iova + len)`. None may reach beyond it.
    pub fn unmap(&mut self, iova: u64, len: u64) -> Result<(), DmaError> {
        let end = iova.checked_add(len).ok_or(DmaError::BadRange { iova, len })?;
        let overlaps = |r: &GuestRegionMmap| {
            let (start, last) = (r.start_addr().raw_value(), r.last_addr().raw_value());
            start < end && last >= iova
        };
        let inside = |r: &GuestRegionMmap| r.start_addr().raw_value() >= iova && r.last_addr().raw_value() < end;
        let hit = self.regions.iter().filter(|r| overlaps(r)).count();
        if hit == 0 || self.regions.iter().any(|r| overlaps(r) && !inside(r)) {
            return Err(DmaError::NotMapped { iova, len });
        }
        self.regions.retain(|r| !overlaps(r));
        // An empty set of regions is an error to this constructor; what is left of a valid set is valid.
        self.memory = GuestMemoryMmap::from_arc_regions(self.regions.clone()).unwrap_or_default();
        self.last.set(0);
        Ok(())
    }

    /// Number of mappings.
    pub fn mappings(&self) -> usize {
        self.regions.len()
    }

    /// True if every byte of the range is mapped.
    pub fn contains(&self, iova: u64, len: usize) -> bool {
        self.region(iova, len).is_some()
            || (iova.checked_add(len as u64).is_some() && self.memory.check_range(GuestAddress(iova), len))
    }

    /// The region that holds the whole range, and the offset in it.
    #[inline]
    fn region(&self, iova: u64, len: usize) -> Option<(&GuestRegionMmap, MemoryRegionAddress)> {
        let holds = |r: &GuestRegionMmap| {
            let offset = iova.checked_sub(r.start_addr().raw_value())?;
            (offset.checked_add(len as u64)? <= r.len()).then_some(MemoryRegionAddress(offset))
        };
        let last = self.last.get();
        if let Some(region) = self.regions.get(last)
            && let Some(offset) = holds(region)
        {
            return Some((region, offset));
        }
        let index = self.regions.partition_point(|r| r.start_addr().raw_value() <= iova).checked_sub(1)?;
        let offset = holds(&self.regions[index])?;
        self.last.set(index);
        Some((&self.regions[index], offset))
    }

    /// Copies memory out.
    pub fn read(&self, iova: u64, out: &mut [u8]) -> Result<(), DmaFault> {
        let fault = DmaFault::Unmapped { iova, len: out.len() };
        match self.region(iova, out.len()) {
            Some((region, at)) => region.read_slice(out, at).map_err(|_| fault),
            None if self.contains(iova, out.len()) => {
                self.memory.read_slice(out, GuestAddress(iova)).map_err(|_| fault)
            }
            None => Err(fault),
        }
    }

    /// Copies `bytes` to memory; all of them or none.
    pub fn write(&self, iova: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        let fault = DmaFault::Unmapped { iova, len: bytes.len() };
        match self.region(iova, bytes.len()) {
            Some((region, at)) => region.write_slice(bytes, at).map_err(|_| fault),
            None if self.contains(iova, bytes.len()) => {
                self.memory.write_slice(bytes, GuestAddress(iova)).map_err(|_| fault)
            }
            None => Err(fault),
        }
    }

    /// Region and offset of a word that is accessed atomically.
    fn word(&self, iova: u64) -> Result<(&GuestRegionMmap, MemoryRegionAddress), DmaFault> {
        if !iova.is_multiple_of(4) {
            return Err(DmaFault::Misaligned { iova, align: 4 });
        }
        self.region(iova, 4).ok_or(DmaFault::Unmapped { iova, len: 4 })
    }

    /// Loads a big-endian 32-bit word that the driver may be writing, a doorbell record; later reads of what it
    /// announces see it (acquire).
    pub fn load_be32(&self, iova: u64) -> Result<u32, DmaFault> {
        let (region, at) = self.word(iova)?;
        let word: u32 = region.load(at, Ordering::Acquire).map_err(|_| DmaFault::Misaligned { iova, align: 4 })?;
        Ok(u32::from_be(word))
    }

    /// Stores a big-endian 32-bit word in one access, after everything written before it (release).
    pub fn store_be32(&self, iova: u64, value: u32) -> Result<(), DmaFault> {
        let (region, at) = self.word(iova)?;
        region.store(value.to_be(), at, Ordering::Release).map_err(|_| DmaFault::Misaligned { iova, align: 4 })
    }

    /// Writes an entry whose last byte says who owns it (CQE, EQE, command entry): body first, then that byte, so that
    /// a driver that sees the byte sees the body and everything written before.
    pub fn publish(&self, iova: u64, entry: &[u8]) -> Result<(), DmaFault> {
        let Some((owner, body)) = entry.split_last() else { return Ok(()) };
        if !self.contains(iova, entry.len()) {
            return Err(DmaFault::Unmapped { iova, len: entry.len() });
        }
        self.write(iova, body)?;
        let at = iova + body.len() as u64;
        let (region, offset) = self.region(at, 1).ok_or(DmaFault::Unmapped { iova: at, len: 1 })?;
        region.store(*owner, offset, Ordering::Release).map_err(|_| DmaFault::Unmapped { iova: at, len: 1 })
    }
}

#[cfg(test)]
pub(crate) mod build;
#[cfg(test)]
mod tests;
