//! Memory for tests.

use super::DmaSpace;
use std::fs::{File, OpenOptions};
use std::sync::atomic::{AtomicU32, Ordering};

/// A file of `len` zero bytes that nobody can find any more.
pub(crate) fn file(len: u64) -> File {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("virtual-nic-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.set_len(len).unwrap();
    file
}

/// One mapping of `len` zero bytes at `iova`.
pub(crate) fn memory(iova: u64, len: u64) -> DmaSpace {
    let mut space = DmaSpace::new();
    space.map(iova, &file(len), len).unwrap();
    space
}
