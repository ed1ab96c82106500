//! Memory barriers, named after what they order.
//!
//! On x86-64 stores to ordinary memory become visible in program order and before a later store to uncached memory, and
//! loads are not reordered among themselves; the barriers then cost no instruction and only stop the compiler. On
//! AArch64 device ordering needs the outer-shareable domain, which no Rust fence gives: the builds for it use `dmb osh*`
//! and `dsb st`.
#![allow(unsafe_code)] // AArch64 barriers are instructions that only assembly can name.

use core::sync::atomic::{Ordering, fence};

/// Orders earlier stores to DMA memory (WQEs, command entries) before a later store to DMA memory that makes them
/// visible to the device (a doorbell record, an ownership bit).
#[inline(always)]
pub fn dma_write() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier has no operands and changes no state of the program.
    unsafe {
        core::arch::asm!("dmb oshst", options(nostack, preserves_flags))
    };
    fence(Ordering::Release);
}

/// Orders an earlier load of an ownership bit that the device wrote before later loads of the entry it guards.
#[inline(always)]
pub fn dma_read() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("dmb oshld", options(nostack, preserves_flags))
    };
    fence(Ordering::Acquire);
}

/// Orders earlier stores to DMA memory before a later store to a device register (a doorbell).
#[inline(always)]
pub fn before_doorbell() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("dsb st", options(nostack, preserves_flags))
    };
    fence(Ordering::Release);
}
