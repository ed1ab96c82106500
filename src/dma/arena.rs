//! An arena: memory that can be handed to a device, in this process or another.
#![allow(unsafe_code)] // Raw access to shared memory: every access below is bounds-checked first and copies.

use super::DmaError;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use vm_memory::{FileOffset, MmapRegion};

/// Anonymous shared memory (a memfd) mapped into this process.
///
/// The file is what another mapping is made of: the virtual device maps it a second time, as a device in another process
/// would. Every access is bounds-checked against the arena; offsets are the driver's own, so a violation is a bug and
/// panics.
pub struct Arena {
    region: MmapRegion,
    file: Arc<File>,
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arena").field("len", &self.len()).finish()
    }
}

impl Arena {
    /// Allocates `len` bytes, all zero, page-aligned.
    pub fn new(len: usize) -> Result<Arena, DmaError> {
        let error = |cause: String| DmaError::Memory { bytes: len, cause };
        let fd = memfd_create("connectx-ddp", MemfdFlags::CLOEXEC).map_err(|e| error(e.to_string()))?;
        ftruncate(&fd, len as u64).map_err(|e| error(e.to_string()))?;
        let file = Arc::new(File::from(fd));
        let region =
            MmapRegion::from_file(FileOffset::from_arc(Arc::clone(&file), 0), len).map_err(|e| error(e.to_string()))?;
        Ok(Arena { region, file })
    }

    /// Bytes.
    #[expect(clippy::len_without_is_empty, reason = "an arena is never empty")]
    pub fn len(&self) -> usize {
        self.region.size()
    }

    /// The file behind the memory, from offset 0, to be mapped elsewhere.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Address in this process, for the kernel's VFIO mapping call.
    pub fn address(&self) -> *mut u8 {
        self.region.as_ptr()
    }

    #[inline(always)]
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len()),
            "{len} bytes at {offset:#x} of an arena of {:#x}",
            self.len()
        );
        // SAFETY: inside the mapping, as checked.
        unsafe { self.region.as_ptr().add(offset) }
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
    pub(super) fn copy(&self, offset: usize, to: &Arena, to_offset: usize, len: usize) {
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
        assert!(offset.is_multiple_of(4), "a word at {offset:#x} is not aligned");
        let at = self.at(offset, 4).cast::<u32>();
        // SAFETY: valid for four bytes and aligned (the mapping is page-aligned, the offset a multiple of 4); an atomic
        // may be shared with a device that writes the word as one access.
        unsafe { AtomicU32::from_ptr(at) }
    }
}
