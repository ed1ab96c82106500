//! The seam between the protocol and the memory that payload lies in.

use crate::frame::Range;

/// Where a delivered run of payload was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The device had placed it exactly there: nothing was moved.
    InPlace,
    /// Software copied it.
    Copied,
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

    /// CRC32C of `[offset, offset + len)` of the destination buffer of `tag`.
    fn digest(&self, tag: u16, offset: u32, len: u32) -> Result<u32, PayloadError>;

    /// Copies `out.len()` bytes at `offset` of the buffer of `tag` out: the payload of a write.
    fn fetch(&self, tag: u16, offset: u32, out: &mut [u8]) -> Result<(), PayloadError>;
}
