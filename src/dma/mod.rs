//! Memory that the device reads and writes, and the addresses by which it does.
//!
//! ```text
//! Arena        memfd + mapping, a few MiB, mapped for the device once at one IOVA
//! Lease        memory of a caller, wherever it is, mapped for the device while it is lent
//!  └ DmaBuf    an exclusive piece of either (rings, mailboxes, receive buffers; a caller's data)
//!     ├ DmaRing  the same as entries of a ring, one check for each
//!     └ IoBuf  a scatter list of pieces: the destination of a read or the source of a write
//! ```
//!
//! No Rust reference ever points into this memory: the device may write at any time, so every access copies or is an
//! atomic ([`DmaBuf`]). An [`Iova`] is a device address and nothing else: it cannot be made from a number outside this
//! module, so an unchecked address never reaches a work request.

mod arena;
mod buffer;
#[cfg(not(miri))]
mod contiguous;
mod heap;
mod io;
mod iova;
mod pin;
mod ring;
mod span;

pub use arena::Arena;
pub use buffer::{DmaBuf, DmaHold};
pub use heap::{DmaHeap, DmaMapper};
pub use io::{IoBuf, LIST_GROUP};
pub use iova::{Iova, IovaAllocator};
pub use pin::{Lease, LeaseError, Pages, PinError};
pub use ring::{BLOCK, DmaRing, Entries, Entry, Window};

/// Why DMA memory could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DmaError {
    /// The operating system refused memory.
    #[error("cannot allocate {bytes} bytes of DMA memory: {cause}")]
    Memory {
        /// Bytes asked for.
        bytes: usize,
        /// What the system said.
        cause: String,
    },
    /// No range of device addresses is left that the IOMMU translates.
    #[error("no free range of {bytes} bytes among the I/O virtual addresses that the IOMMU translates")]
    NoIova {
        /// Bytes asked for.
        bytes: u64,
    },
    /// The platform refused to map memory for the device.
    #[error("cannot map {bytes} bytes at I/O virtual address {iova}: {cause}; {advice}")]
    Map {
        /// Where.
        iova: Iova,
        /// How much.
        bytes: u64,
        /// What the platform said.
        cause: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// The platform cannot let the device use memory where it is.
    #[error("cannot lend memory to the device where it is: {cause}; {advice}")]
    NotLendable {
        /// Why.
        cause: &'static str,
        /// What to do instead.
        advice: &'static str,
    },
    /// A request that no memory could satisfy.
    #[error("a DMA buffer of {bytes} bytes aligned to {align} cannot exist")]
    BadRequest {
        /// Bytes asked for.
        bytes: usize,
        /// Alignment asked for.
        align: usize,
    },
}
