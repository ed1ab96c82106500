//! What the driver has on the heap, the model and the target left out.
//!
//! They share a process with the driver, so the process's memory says little about it. A binary that wants to know installs
//! an allocator that reports to [`charge`]; threads that run the driver say so ([`driver_thread`]), and while such a thread is
//! inside the virtual device its allocations are the device's. The demonstration's own books, on the same threads, count as
//! the driver's: an upper bound.

use crate::platform::virtual_nic::in_device;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

thread_local! {
    static DRIVER: Cell<bool> = const { Cell::new(false) };
}

static LIVE: AtomicI64 = AtomicI64::new(0);
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// An allocation of so many bytes, or the end of one if negative. For allocators: does not allocate.
pub fn charge(bytes: isize) {
    // A thread that ends has no flags any more.
    if DRIVER.try_with(Cell::get).unwrap_or(false) && !in_device() {
        LIVE.fetch_add(bytes as i64, Ordering::Relaxed);
    }
}

/// An allocator reports here.
pub fn installed() {
    INSTALLED.store(true, Ordering::Relaxed);
}

/// This thread runs the driver.
pub fn driver_thread() {
    DRIVER.with(|driver| driver.set(true));
}

/// Bytes on the heap of all threads that run the driver; `None` if no allocator reports.
pub fn live() -> Option<i64> {
    INSTALLED.load(Ordering::Relaxed).then(|| LIVE.load(Ordering::Relaxed))
}
