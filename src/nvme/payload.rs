//! The seam between the protocol and the memory that payload lies in.

use crate::frame::{Bypass, Range};

/// Where a delivered run of payload was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The device had placed it exactly there: nothing was moved.
    InPlace,
    /// Software copied it.
    Copied,
}

/// Why the device had not placed a run of payload, or not checked a digest, as far as the stream tells. Whether it could
/// have placed anything of the command at all the payload memory knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The packet could not be: see [`Bypass`].
    Bypass(Bypass),
    /// A header before it came late, and the device has not found another.
    Searching,
    /// The device has asked whether a PDU begins at a place that the run comes after, and placed nothing since.
    Asked,
    /// Bytes of the same PDU came late.
    Hole,
    /// Another run of the packet was placed.
    SecondRun,
    /// The run was placed, elsewhere.
    Misplaced,
    /// The device vouched for the digest, and is not believed.
    Doubted,
    /// The digest does not match.
    Mismatch,
    /// None of these.
    Unknown {
        /// Nothing of the command had been placed before.
        early: bool,
    },
}

/// Why a run of payload could not be read or delivered. The connection ends: the stream can no longer be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The bytes are said to lie in a destination buffer that is no longer bound to that use of the tag.
    #[error("bytes of tag {tag} generation {generation} are gone: the tag was released")]
    Stale {
        /// The tag.
        tag: u16,
        /// The generation that the range names.
        generation: u32,
    },
    /// No destination buffer is held for the tag.
    #[error("no destination buffer for tag {tag}")]
    NoBuffer {
        /// The tag.
        tag: u16,
    },
    /// The range does not fit the destination buffer.
    #[error("{len} bytes at offset {offset} of tag {tag}, whose buffer has {size}")]
    OutOfRange {
        /// The tag.
        tag: u16,
        /// Offset in the buffer.
        offset: u32,
        /// Bytes.
        len: u32,
        /// Bytes of the buffer.
        size: u32,
    },
}

/// The memory that payload is in and goes to. Implemented over the receive buffers and the tag table by the driver, over
/// plain vectors by tests.
pub trait PayloadMemory {
    /// Copies the first `out.len()` bytes of `range` out: PDU headers, digests. `out` is not longer than the range.
    fn peek(&self, range: Range, out: &mut [u8]) -> Result<(), PayloadError>;

    /// Makes the bytes of `range` be at `offset` of the destination buffer of `tag` (a command identifier), by copying
    /// unless source equals destination.
    fn deliver(&mut self, tag: u16, offset: u32, range: Range) -> Result<Delivery, PayloadError>;

    /// `len` bytes for `tag` were copied, and this is why, as far as the stream tells; for those who count.
    fn copied(&mut self, tag: u16, len: u32, cause: Cause) {
        let _ = (tag, len, cause);
    }

    /// Software computed a data digest for `tag`, and this is why.
    fn digested(&mut self, tag: u16, cause: Cause) {
        let _ = (tag, cause);
    }

    /// CRC32C of `[offset, offset + len)` of the destination buffer of `tag`.
    fn digest(&self, tag: u16, offset: u32, len: u32) -> Result<u32, PayloadError>;

    /// Copies `out.len()` bytes at `offset` of the buffer of `tag` out: the payload of a write.
    fn fetch(&self, tag: u16, offset: u32, out: &mut [u8]) -> Result<(), PayloadError>;
}
