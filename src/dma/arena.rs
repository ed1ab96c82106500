//! An arena: memory that can be handed to a device, in this process or another.

use super::DmaError;
#[cfg(not(miri))]
use super::contiguous;
#[cfg(not(miri))]
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use std::fs::File;
use std::sync::Arc;
#[cfg(not(miri))]
use vm_memory::FileOffset;
use vm_memory::MmapRegion;

/// Bytes of a huge page, and what arenas are multiples of.
pub(super) const HUGE_PAGE: usize = 2 << 20;

/// Anonymous shared memory (a memfd) mapped into this process.
///
/// The file is what another mapping is made of: the virtual device maps it a second time, as a device in another process
/// would. Who has a piece of it ([`DmaBuf`](super::DmaBuf)) accesses that piece, and nobody the whole.
pub struct Arena {
    memory: Memory,
    file: Arc<File>,
    huge: bool,
    physical: Option<u64>,
}

enum Memory {
    Mapped(MmapRegion),
    #[cfg(not(miri))]
    Sorted(contiguous::Sorted),
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arena").field("len", &self.len()).field("huge", &self.huge).finish()
    }
}

/// A file of `len` bytes on huge pages, all of which it has: none is left to be found missing at an access.
#[cfg(not(miri))]
pub(super) fn huge_file(len: usize) -> std::io::Result<File> {
    let fd = memfd_create("connectx-ddp", MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB)?;
    fallocate(&fd, FallocateFlags::empty(), 0, len as u64)?;
    Ok(File::from(fd))
}

#[cfg(not(miri))]
impl Arena {
    /// Allocates `len` bytes, all zero, page-aligned.
    pub fn new(len: usize) -> Result<Arena, DmaError> {
        let error = |cause: String| DmaError::Memory { bytes: len, cause };
        let fd = memfd_create("connectx-ddp", MemfdFlags::CLOEXEC).map_err(|e| error(e.to_string()))?;
        ftruncate(&fd, len as u64).map_err(|e| error(e.to_string()))?;
        Arena::of(File::from(fd), len, false)
    }

    /// The same on huge pages of 2 MiB, of which `len` is a multiple; an error if there are not enough.
    pub fn huge(len: usize) -> Result<Arena, DmaError> {
        let error = |cause: std::io::Error| {
            let cause = format!("{cause}: no {} free huge pages of 2 MiB", len.div_ceil(HUGE_PAGE));
            DmaError::Memory { bytes: len, cause }
        };
        Arena::of(huge_file(len).map_err(error)?, len, true)
    }

    /// The same on huge pages that follow each other in physical memory: what a device without an IOMMU can use. Their
    /// place is [`Arena::physical`].
    pub fn contiguous(len: usize) -> Result<Arena, DmaError> {
        let (sorted, file, physical) = contiguous::allocate(len)?;
        Ok(Arena { memory: Memory::Sorted(sorted), file: Arc::new(file), huge: true, physical: Some(physical) })
    }

    fn of(file: File, len: usize, huge: bool) -> Result<Arena, DmaError> {
        let file = Arc::new(file);
        let region = MmapRegion::from_file(FileOffset::from_arc(Arc::clone(&file), 0), len)
            .map_err(|e| DmaError::Memory { bytes: len, cause: e.to_string() })?;
        Ok(Arena { memory: Memory::Mapped(region), file, huge, physical: None })
    }
}

/// Under Miri, which maps no files: memory of the allocator, and a file that has nothing to do with it. What accesses the
/// memory is checked; what a device writes through the file is not there.
#[cfg(miri)]
impl Arena {
    /// Allocates `len` bytes, all zero, page-aligned.
    pub fn new(len: usize) -> Result<Arena, DmaError> {
        let error = |cause: String| DmaError::Memory { bytes: len, cause };
        let region = MmapRegion::new(len).map_err(|e| error(e.to_string()))?;
        let file = File::open("/dev/null").map_err(|e| error(e.to_string()))?;
        Ok(Arena { memory: Memory::Mapped(region), file: Arc::new(file), huge: false, physical: None })
    }

    /// There are no huge pages.
    pub fn huge(len: usize) -> Result<Arena, DmaError> {
        Err(DmaError::Memory { bytes: len, cause: "no huge pages".into() })
    }

    /// There are no huge pages.
    pub fn contiguous(len: usize) -> Result<Arena, DmaError> {
        Arena::huge(len)
    }
}

impl Arena {
    /// On huge pages if there are enough, and on ordinary ones if not: huge pages are fewer entries for the IOMMU, and are
    /// mapped sooner.
    pub fn huge_if_possible(len: usize) -> Result<Arena, DmaError> {
        either(Arena::huge(len), || Arena::new(len))
    }

    /// Bytes.
    #[expect(clippy::len_without_is_empty, reason = "an arena is never empty")]
    pub fn len(&self) -> usize {
        match &self.memory {
            Memory::Mapped(region) => region.size(),
            #[cfg(not(miri))]
            Memory::Sorted(sorted) => sorted.len(),
        }
    }

    /// The file behind the memory, from offset 0, to be mapped elsewhere. Not so for [contiguous](Arena::contiguous) memory,
    /// whose pages are in another order than in the file.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Address in this process, for the kernel's VFIO mapping call.
    pub fn address(&self) -> *mut u8 {
        match &self.memory {
            Memory::Mapped(region) => region.as_ptr(),
            #[cfg(not(miri))]
            Memory::Sorted(sorted) => sorted.address(),
        }
    }

    /// True if it is on huge pages.
    pub fn is_huge(&self) -> bool {
        self.huge
    }

    /// Address in physical memory, of contiguous memory.
    pub fn physical(&self) -> Option<u64> {
        self.physical
    }
}

/// The preferred memory, or the other, and a word about it.
fn either(
    huge: Result<Arena, DmaError>,
    ordinary: impl FnOnce() -> Result<Arena, DmaError>,
) -> Result<Arena, DmaError> {
    huge.or_else(|why| {
        log::info!("ordinary pages instead of huge ones: {why}");
        ordinary()
    })
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | huge pages are used where there are any, and ordinary ones where not; either is zero, whole, and says what it is | `huge_pages_are_used_and_never_required` |
    //! | a failure of both is the failure of the ordinary ones | `without_either_it_fails` |
    use super::*;

    #[test]
    fn huge_pages_are_used_and_never_required() {
        const LEN: usize = 2 * HUGE_PAGE;
        let huge = Arena::huge(LEN);
        let expected = huge.is_ok();
        if let Err(why) = &huge {
            assert!(why.to_string().contains("huge pages"), "{why}");
        }
        let arena = either(huge, || Arena::new(LEN)).expect("one or the other");
        assert_eq!((arena.is_huge(), arena.len(), arena.physical()), (expected, LEN, None));
        if !cfg!(miri) {
            let mut last = [9; 1];
            std::os::unix::fs::FileExt::read_exact_at(&**arena.file(), &mut last, LEN as u64 - 1).expect("whole");
            assert_eq!(last, [0]);
        }
        let none = DmaError::Memory { bytes: LEN, cause: "none".into() };
        assert!(!either(Err(none), || Arena::new(LEN)).expect("ordinary").is_huge());
        let ordinary = Arena::new(LEN).expect("memory");
        assert!(either(Ok(ordinary), || panic!("not asked for")).is_ok());
    }

    #[test]
    fn without_either_it_fails() {
        let error = |cause: &str| Err(DmaError::Memory { bytes: 1, cause: cause.into() });
        let why = either(error("first"), || error("second")).expect_err("neither").to_string();
        assert!(why.ends_with("second"), "{why}");
    }
}
