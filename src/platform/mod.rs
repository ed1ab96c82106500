//! The seam to one PCI function: registers of BAR0, DMA mappings, interrupts, reset, clock.
//!
//! Everything above runs unchanged on every platform. Dispatch is static: a doorbell compiles to the platform's own
//! store.

#[cfg(feature = "demo")]
pub mod device;
mod interrupts;
pub mod replay;
pub mod vfio;
pub mod vfio_user;
#[cfg(feature = "demo")]
pub mod virtual_nic;

use crate::dma::{DmaHeap, DmaMapper};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// Who the function is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PCI address, or a name for a function that is not on a bus.
    pub address: String,
    /// PCI vendor id; 0x15b3 for every ConnectX.
    pub vendor: u16,
    /// PCI device id (`mlx5-numbers.md`).
    pub device: u16,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{:04x}:{:04x}]", self.address, self.vendor, self.device)
    }
}

/// One PCI function.
///
/// Registers are 32- or 64-bit values in host order; the platform swaps. Offsets are bytes in BAR0, naturally aligned;
/// they are the driver's own constants and object numbers that it has checked, so an offset outside the BAR is a bug and
/// panics. A function that is gone reads all ones.
pub trait Platform {
    /// Who the function is.
    fn identity(&self) -> &Identity;

    /// Bytes of BAR0.
    fn bar_size(&self) -> u64;

    /// Reads the big-endian register at `offset`.
    fn read32(&self, offset: u64) -> u32;

    /// Writes the big-endian register at `offset`.
    fn write32(&self, offset: u64, value: u32);

    /// Writes the big-endian register at `offset` in one access.
    fn write64(&self, offset: u64, value: u64);

    /// Makes memory visible to the device.
    fn dma_mapper(&self) -> Arc<dyn DmaMapper>;

    /// Device addresses that the IOMMU translates.
    fn iova_ranges(&self) -> Vec<RangeInclusive<u64>>;

    /// Reads PCI configuration space; what the system does not show reads all ones. `Unsupported` of a function without one.
    fn read_config(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let _ = (offset, out);
        Err(std::io::ErrorKind::Unsupported.into())
    }

    /// Function-level reset. Firmware forgets everything; wait for `initializing` afterwards.
    fn reset(&self) -> Result<(), PlatformError>;

    /// Number of interrupt vectors (MSI-X).
    fn vectors(&self) -> u16;

    /// True if `vector` fired since the last call for it. Never blocks.
    fn take_interrupt(&self, vector: u16) -> bool;

    /// Sleeps until an interrupt fires, or `until` has come; not at all if one has fired that was not
    /// [taken](Platform::take_interrupt). It may return earlier: look at what was waited for. A caller that is to miss nothing
    /// takes all interrupts, looks at all queues, arms them, and then sleeps.
    fn sleep(&self, until: Option<Duration>) {
        let _ = until;
        self.pause();
    }

    /// Time since some fixed moment; never goes back. A virtual platform may run on simulated time.
    fn now(&self) -> Duration;

    /// The clock by which the driver measures what its own work costs; never goes back. Not [`Platform::now`] where that
    /// stands still while the driver works.
    fn cost_clock(&self) -> Duration {
        self.now()
    }

    /// Called by every loop that waits, between two looks: a hint to the CPU on hardware; the in-process device works
    /// here.
    fn pause(&self);

    /// A heap of DMA memory on this platform.
    ///
    /// A platform whose function is brought up more than once returns the same heap each time: memory that is quarantined
    /// stays mapped, and a second heap would hand its addresses out again.
    fn dma_heap(&self) -> DmaHeap {
        DmaHeap::new(self.dma_mapper(), crate::dma::IovaAllocator::new(&self.iova_ranges()))
    }
}

/// A register of `size` bytes is inside a BAR and naturally aligned.
///
/// # Panics
/// If it is not: offsets are the driver's own ([`Platform`]).
fn check_register(offset: u64, size: u64, bar_size: u64) {
    assert!(
        offset.is_multiple_of(size) && offset.checked_add(size).is_some_and(|end| end <= bar_size),
        "register {offset:#x} of {size} bytes is outside a BAR of {bar_size:#x} bytes or not aligned"
    );
}

/// Why a platform could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The function could not be had.
    #[error("{address}: {cause}; {advice}")]
    Open {
        /// What was asked for.
        address: String,
        /// What went wrong.
        cause: String,
        /// What to do about it.
        advice: String,
    },
    /// The function could not be reset.
    #[error("{function}: function-level reset failed: {cause}")]
    Reset {
        /// Which function.
        function: Identity,
        /// What the system said.
        cause: String,
    },
}

/// A moment until which something is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Duration);

impl Deadline {
    /// `after` from now, on the platform's clock.
    pub fn after(platform: &impl Platform, after: Duration) -> Deadline {
        Deadline(platform.now() + after)
    }

    /// The moment `by` later.
    pub fn later(self, by: Duration) -> Deadline {
        Deadline(self.0 + by)
    }

    /// True once the moment has passed.
    pub fn passed(self, platform: &impl Platform) -> bool {
        platform.now() >= self.0
    }

    /// Calls `look` until it returns a value or the moment has passed; looks at least once, and once more at the end.
    pub fn wait<T>(self, platform: &impl Platform, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        loop {
            let late = self.passed(platform);
            if let Some(found) = look() {
                return Some(found);
            }
            if late {
                return None;
            }
            platform.pause();
        }
    }
}
