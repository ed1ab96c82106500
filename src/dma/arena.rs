//! An arena: memory that can be handed to a device, in this process or another.

use super::DmaError;
#[cfg(not(miri))]
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::fs::File;
use std::sync::Arc;
#[cfg(not(miri))]
use vm_memory::FileOffset;
use vm_memory::MmapRegion;

/// Anonymous shared memory (a memfd) mapped into this process.
///
/// The file is what another mapping is made of: the virtual device maps it a second time, as a device in another process
/// would. Who has a piece of it ([`DmaBuf`](super::DmaBuf)) accesses that piece, and nobody the whole.
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
    #[cfg(not(miri))]
    pub fn new(len: usize) -> Result<Arena, DmaError> {
        let error = |cause: String| DmaError::Memory { bytes: len, cause };
        let fd = memfd_create("connectx-ddp", MemfdFlags::CLOEXEC).map_err(|e| error(e.to_string()))?;
        ftruncate(&fd, len as u64).map_err(|e| error(e.to_string()))?;
        let file = Arc::new(File::from(fd));
        let region =
            MmapRegion::from_file(FileOffset::from_arc(Arc::clone(&file), 0), len).map_err(|e| error(e.to_string()))?;
        Ok(Arena { region, file })
    }

    /// Under Miri, which maps no files: memory of the allocator, and a file that has nothing to do with it. What accesses the
    /// memory is checked; what a device writes through the file is not there.
    #[cfg(miri)]
    pub fn new(len: usize) -> Result<Arena, DmaError> {
        let error = |cause: String| DmaError::Memory { bytes: len, cause };
        let region = MmapRegion::new(len).map_err(|e| error(e.to_string()))?;
        let file = File::open("/dev/null").map_err(|e| error(e.to_string()))?;
        Ok(Arena { region, file: Arc::new(file) })
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
}
