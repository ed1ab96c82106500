//! The system's allocator, which also tells how much of the heap is the driver's ([`heap`]).
#![allow(unsafe_code)] // The trait of allocators is unsafe; every call goes to the system's own, with the caller's promises.

use connectx_ddp::demo::heap;
use std::alloc::{GlobalAlloc, Layout, System};

/// Counts, and passes on.
pub struct Counting;

// SAFETY: memory comes from `System` and goes back to it, with the layouts that the caller gave; counting touches no memory
// that was handed out, and does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        heap::charge(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        heap::charge(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        heap::charge(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        heap::charge(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(memory, layout, size) }
    }
}
