//! The device's view of memory: IOVAs that the driver mapped, each backed by a second mapping of the driver's file.
//!
//! ```text
//! driver process/arena    file (memfd)         virtual ConnectX
//!   DmaRegion  ──mmap──►  [ pages ]  ◄──mmap──  Segment of the DmaSpace at its IOVA
//! ```
//!
//! It stands for the IOMMU and the PCIe root complex together: an access to an address that is not mapped fails as a
//! whole and touches nothing, as a posted write to an unmapped IOVA is dropped by an IOMMU. Accesses may cross from one
//! mapping into the next if they touch. Every refused access is counted, and the last ones can be asked for
//! ([`DmaSpace::faults`]), as an IOMMU records them.
//!
//! A guest's memory is one file that is mapped page by page (`virtual-hil.md` §5): each file is mapped once, as a whole,
//! however many IOVAs lead into it.
//!
//! Ordering is PCIe's for what the driver can observe: a completion entry becomes visible body first, its ownership byte
//! last ([`DmaSpace::publish`]); everything written before it is visible with it. Doorbell records are single atomic
//! words.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

/// Refused accesses that are remembered.
const FAULTS_KEPT: usize = 64;

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
    /// Some byte of the range may only be read.
    #[error("a DMA write of {len} bytes at IOVA {iova:#x}, which may only be read")]
    ReadOnly {
        /// First address.
        iova: u64,
        /// Bytes.
        len: usize,
    },
    /// Bus mastering is off: nothing may leave the function.
    #[error("DMA to {len} bytes at IOVA {iova:#x} while bus mastering is off")]
    Disabled {
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

/// A file in the device's process.
#[derive(Debug)]
struct Memory {
    /// Device and inode: two descriptors of one file are one memory.
    identity: (u64, u64),
    region: Weak<MmapRegion>,
}

/// A run of addresses that leads to a run of a file.
#[derive(Clone, Debug)]
struct Segment {
    iova: u64,
    len: u64,
    memory: Arc<MmapRegion>,
    /// Where in the memory.
    offset: u64,
    writable: bool,
}

impl Segment {
    /// One past the last address; a range that ends at 2^64 is refused when it is mapped.
    fn end(&self) -> u64 {
        self.iova + self.len
    }

    /// The part of it in `[from, to)`, which it overlaps.
    fn cut(&self, from: u64, to: u64) -> Segment {
        let (from, to) = (from.max(self.iova), to.min(self.end()));
        Segment { iova: from, len: to - from, offset: self.offset + (from - self.iova), ..self.clone() }
    }
}

impl Default for DmaSpace {
    fn default() -> DmaSpace {
        DmaSpace::new()
    }
}

/// Memory that the device can reach, by IOVA.
#[derive(Debug)]
pub struct DmaSpace {
    /// Bus mastering is on.
    enabled: bool,
    /// Sorted, disjoint.
    segments: Vec<Segment>,
    memories: Vec<Memory>,
    /// Index of the segment that the last access hit: rings and payload are accessed in runs.
    last: Cell<usize>,
    refused: Cell<u64>,
    blocked: Cell<u64>,
    faults: RefCell<VecDeque<DmaFault>>,
}

/// Which way an access goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Read,
    Write,
}

impl DmaSpace {
    /// An address space with nothing mapped; bus mastering is on.
    pub fn new() -> DmaSpace {
        DmaSpace {
            enabled: true,
            segments: Vec::new(),
            memories: Vec::new(),
            last: Cell::default(),
            refused: Cell::default(),
            blocked: Cell::default(),
            faults: RefCell::default(),
        }
    }

    /// Turns bus mastering on or off.
    pub fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    /// True if bus mastering is on.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Maps the first `len` bytes of `file` at `iova`, shared with whoever else maps the file.
    pub fn map(&mut self, iova: u64, file: &File, len: u64) -> Result<(), DmaError> {
        self.map_at(iova, file, 0, len, true)
    }

    /// Maps `len` bytes of `file` from `offset` at `iova`; the device may read them, and write them if `writable`.
    pub fn map_at(&mut self, iova: u64, file: &File, offset: u64, len: u64, writable: bool) -> Result<(), DmaError> {
        let at = self.room(iova, len)?;
        let file_end = offset.checked_add(len).ok_or(DmaError::BadRange { iova, len })?;
        let memory = self.memory(file, file_end).map_err(|cause| DmaError::Map { iova, len, cause })?;
        self.segments.insert(at, Segment { iova, len, memory, offset, writable });
        self.last.set(0);
        Ok(())
    }

    /// Maps memory that is in this process already at `iova`, all of it, for reading and writing.
    pub fn map_region(&mut self, iova: u64, memory: Arc<MmapRegion>) -> Result<(), DmaError> {
        let len = memory.size() as u64;
        let at = self.room(iova, len)?;
        self.segments.insert(at, Segment { iova, len, memory, offset: 0, writable: true });
        self.last.set(0);
        Ok(())
    }

    /// Where among the mappings a new one has its place.
    fn room(&self, iova: u64, len: u64) -> Result<usize, DmaError> {
        let end = iova.checked_add(len).filter(|_| len != 0).ok_or(DmaError::BadRange { iova, len })?;
        let at = self.segments.partition_point(|segment| segment.end() <= iova);
        match self.segments.get(at).is_some_and(|segment| segment.iova < end) {
            true => Err(DmaError::Overlap { iova, len }),
            false => Ok(at),
        }
    }

    /// The memory of a file that has at least `end` bytes.
    fn memory(&mut self, file: &File, end: u64) -> Result<Arc<MmapRegion>, String> {
        let meta = file.metadata().map_err(|e| e.to_string())?;
        // A mapping beyond the end of a file would kill the process at the first access.
        if meta.len() < end {
            return Err(format!("it has {:#x}", meta.len()));
        }
        let identity = (meta.dev(), meta.ino());
        self.memories.retain(|memory| memory.region.strong_count() != 0);
        let known = self.memories.iter().filter(|memory| memory.identity == identity);
        // A file that has grown since is mapped anew; the old mapping serves what was mapped through it.
        let known = known.filter_map(|memory| memory.region.upgrade()).find(|region| region.size() as u64 >= end);
        if let Some(region) = known {
            return Ok(region);
        }
        let size = usize::try_from(meta.len()).map_err(|e| e.to_string())?;
        let file = file.try_clone().map_err(|e| e.to_string())?;
        let region = Arc::new(MmapRegion::from_file(FileOffset::new(file, 0), size).map_err(|e| e.to_string())?);
        self.memories.push(Memory { identity, region: Arc::downgrade(&region) });
        Ok(region)
    }

    /// Removes every mapping inside `[iova, iova + len)`. None may reach beyond it.
    pub fn unmap(&mut self, iova: u64, len: u64) -> Result<(), DmaError> {
        let end = iova.checked_add(len).ok_or(DmaError::BadRange { iova, len })?;
        let hit = self.overlapping(iova, end);
        let (first, last) = match &self.segments[hit.clone()] {
            [] => return Err(DmaError::NotMapped { iova, len }),
            [first, ..] if first.iova < iova => return Err(DmaError::NotMapped { iova, len }),
            all => (hit.start, hit.start + all.len() - 1),
        };
        if self.segments[last].end() > end {
            return Err(DmaError::NotMapped { iova, len });
        }
        self.segments.drain(first..=last);
        self.last.set(0);
        Ok(())
    }

    /// Takes `[iova, iova + len)` away, whatever is mapped there: many mappings, parts of some, or nothing. This is how an
    /// IOMMU's owner invalidates; `len` reaches at most to the last address there is.
    pub fn revoke(&mut self, iova: u64, len: u64) {
        let end = iova.saturating_add(len);
        let hit = self.overlapping(iova, end);
        let cut = &self.segments[hit.clone()];
        let before = cut.first().filter(|first| first.iova < iova).map(|first| first.cut(0, iova));
        let after = cut.last().filter(|last| last.end() > end).map(|last| last.cut(end, u64::MAX));
        self.segments.splice(hit, before.into_iter().chain(after));
        self.last.set(0);
    }

    /// Takes everything away.
    pub fn clear(&mut self) {
        self.segments.clear();
        self.memories.clear();
        self.last.set(0);
    }

    /// Indices of the segments that `[iova, end)` overlaps.
    fn overlapping(&self, iova: u64, end: u64) -> std::ops::Range<usize> {
        let first = self.segments.partition_point(|segment| segment.end() <= iova);
        let beyond = self.segments.partition_point(|segment| segment.iova < end);
        first..beyond.max(first)
    }

    /// Number of mappings.
    pub fn mappings(&self) -> usize {
        self.segments.len()
    }

    /// Accesses that were refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Accesses that were not begun because bus mastering was off: whoever turns it off does not ask the driver, and no IOMMU
    /// sees any of it.
    pub fn blocked(&self) -> u64 {
        self.blocked.get()
    }

    /// The last refused accesses, oldest first; forgets them.
    pub fn faults(&self) -> Vec<DmaFault> {
        self.faults.borrow_mut().drain(..).collect()
    }

    /// Records a refused access.
    #[cold]
    fn fault(&self, fault: DmaFault) -> DmaFault {
        if matches!(fault, DmaFault::Disabled { .. }) {
            self.blocked.set(self.blocked.get() + 1);
            return fault;
        }
        self.refused.set(self.refused.get() + 1);
        let mut faults = self.faults.borrow_mut();
        if faults.len() == FAULTS_KEPT {
            faults.pop_front();
        }
        faults.push_back(fault);
        fault
    }

    /// Checks that the device may write all of the range, as an access would, and touches nothing.
    pub fn check_write(&self, iova: u64, len: usize) -> Result<(), DmaFault> {
        self.check(iova, len, Way::Write)
    }

    /// Checks that the device may read all of the range, as an access would, and touches nothing.
    pub fn check_read(&self, iova: u64, len: usize) -> Result<(), DmaFault> {
        self.check(iova, len, Way::Read)
    }

    fn check(&self, iova: u64, len: usize, way: Way) -> Result<(), DmaFault> {
        self.allows(iova, len, way).map_err(|fault| self.fault(fault))
    }

    /// Whether an access would be allowed; no access, so no fault is recorded.
    fn allows(&self, iova: u64, len: usize, way: Way) -> Result<(), DmaFault> {
        if !self.enabled {
            return Err(DmaFault::Disabled { iova, len });
        }
        let unmapped = DmaFault::Unmapped { iova, len };
        let end = iova.checked_add(len as u64).ok_or(unmapped)?;
        let mut at = iova;
        let mut read_only = false;
        let mut index = self.index(iova).ok_or(unmapped)?;
        while at < end {
            let segment = self.segments.get(index).filter(|segment| segment.iova <= at).ok_or(unmapped)?;
            read_only |= !segment.writable;
            at = segment.end();
            index += 1;
        }
        match read_only && way == Way::Write {
            true => Err(DmaFault::ReadOnly { iova, len }),
            false => Ok(()),
        }
    }

    /// True if every byte of the range is mapped.
    pub fn contains(&self, iova: u64, len: usize) -> bool {
        self.allows(iova, len, Way::Read).is_ok()
    }

    /// The segment that holds the address.
    #[inline]
    fn index(&self, iova: u64) -> Option<usize> {
        let holds = |segment: &Segment| segment.iova <= iova && iova < segment.end();
        let last = self.last.get();
        if self.segments.get(last).is_some_and(holds) {
            return Some(last);
        }
        let index = self.segments.partition_point(|segment| segment.iova <= iova).checked_sub(1)?;
        self.segments.get(index).filter(|segment| holds(segment))?;
        self.last.set(index);
        Some(index)
    }

    /// The bytes of the range if one segment holds them all and allows the access.
    #[inline]
    fn whole(&self, iova: u64, len: usize, way: Way) -> Option<VolatileSlice<'_>> {
        let segment = &self.segments[self.index(iova)?];
        let inner = iova - segment.iova;
        let fits = inner.checked_add(len as u64)? <= segment.len;
        let allowed = self.enabled && (segment.writable || way == Way::Read);
        if !fits || !allowed {
            return None;
        }
        segment.memory.get_slice((segment.offset + inner) as usize, len).ok()
    }

    /// Copies memory out.
    pub fn read(&self, iova: u64, out: &mut [u8]) -> Result<(), DmaFault> {
        if let Some(bytes) = self.whole(iova, out.len(), Way::Read) {
            bytes.copy_to(out);
            return Ok(());
        }
        self.check(iova, out.len(), Way::Read)?;
        self.pieces(iova, out.len(), |at, piece| {
            piece.copy_to(&mut out[at..at + piece.len()]);
        });
        Ok(())
    }

    /// Copies `bytes` to memory; all of them or none.
    pub fn write(&self, iova: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        if let Some(memory) = self.whole(iova, bytes.len(), Way::Write) {
            memory.copy_from(bytes);
            return Ok(());
        }
        self.check(iova, bytes.len(), Way::Write)?;
        self.pieces(iova, bytes.len(), |at, piece| piece.copy_from(&bytes[at..at + piece.len()]));
        Ok(())
    }

    /// Visits the parts of a range that was checked, segment by segment: where in the range, and the memory.
    fn pieces(&self, iova: u64, len: usize, mut visit: impl FnMut(usize, &VolatileSlice<'_>)) {
        let mut done = 0;
        while done < len {
            let at = iova + done as u64;
            let Some(segment) = self.index(at).map(|index| &self.segments[index]) else { return };
            let inner = at - segment.iova;
            let take = (segment.len - inner).min((len - done) as u64) as usize;
            let Ok(piece) = segment.memory.get_slice((segment.offset + inner) as usize, take) else { return };
            visit(done, &piece);
            done += take;
        }
    }

    /// A word that is accessed atomically.
    fn word(&self, iova: u64, way: Way) -> Result<VolatileSlice<'_>, DmaFault> {
        if !iova.is_multiple_of(4) {
            return Err(self.fault(DmaFault::Misaligned { iova, align: 4 }));
        }
        match self.whole(iova, 4, way) {
            Some(word) => Ok(word),
            // A word across two mappings is not one memory access; drivers map pages.
            None => Err(self
                .check(iova, 4, way)
                .err()
                .unwrap_or_else(|| self.fault(DmaFault::Misaligned { iova, align: 4 }))),
        }
    }

    /// Loads a big-endian 32-bit word that the driver may be writing, a doorbell record; later reads of what it
    /// announces see it (acquire).
    pub fn load_be32(&self, iova: u64) -> Result<u32, DmaFault> {
        let loaded = self.word(iova, Way::Read)?.load(0, Ordering::Acquire);
        let word: u32 = loaded.map_err(|_| self.fault(DmaFault::Misaligned { iova, align: 4 }))?;
        Ok(u32::from_be(word))
    }

    /// Stores a big-endian 32-bit word in one access, after everything written before it (release).
    pub fn store_be32(&self, iova: u64, value: u32) -> Result<(), DmaFault> {
        let stored = self.word(iova, Way::Write)?.store(value.to_be(), 0, Ordering::Release);
        stored.map_err(|_| self.fault(DmaFault::Misaligned { iova, align: 4 }))
    }

    /// Writes an entry whose last byte says who owns it (CQE, EQE, command entry): body first, then that byte, so that
    /// a driver that sees the byte sees the body and everything written before.
    pub fn publish(&self, iova: u64, entry: &[u8]) -> Result<(), DmaFault> {
        let Some((owner, body)) = entry.split_last() else { return Ok(()) };
        self.check(iova, entry.len(), Way::Write)?;
        self.write(iova, body)?;
        let at = iova + body.len() as u64;
        let unmapped = DmaFault::Unmapped { iova: at, len: 1 };
        let byte = self.whole(at, 1, Way::Write).ok_or(unmapped)?;
        byte.store(*owner, 0, Ordering::Release).map_err(|_| unmapped)
    }
}

#[cfg(test)]
pub(crate) mod build;
#[cfg(test)]
mod tests;
