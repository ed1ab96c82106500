//! A caller's buffer: what a read is placed into and a write is taken from.

use super::{DmaBuf, Iova};
use crc_fast::{CrcAlgorithm, Digest};

/// A scatter list of DMA memory, addressed as one run of bytes.
///
/// It is moved into a request and comes back with its completion, never earlier: while the device may write it, the
/// driver owns it (see `ddp`).
#[derive(Debug, Default)]
pub struct IoBuf {
    segments: Vec<DmaBuf>,
    len: usize,
}

/// Bytes that a digest or a copy takes through the stack at a time.
const CHUNK: usize = 2048;

impl IoBuf {
    /// A buffer of these pieces, in order. Empty pieces are dropped.
    pub fn new(segments: Vec<DmaBuf>) -> IoBuf {
        let segments: Vec<_> = segments.into_iter().filter(|s| !s.is_empty()).collect();
        let len = segments.iter().map(DmaBuf::len).sum();
        IoBuf { segments, len }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for a buffer of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces as the device sees them: (address, bytes), in order.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = (Iova, usize)> + '_ {
        self.segments.iter().map(|s| (s.iova(), s.len()))
    }

    /// Calls `each` with (piece, offset in it, bytes, bytes done so far) over `[offset, offset + len)`.
    fn walk(&self, offset: usize, len: usize, mut each: impl FnMut(&DmaBuf, usize, usize, usize)) {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len),
            "{len} bytes at {offset} of a buffer of {}",
            self.len
        );
        let (mut skip, mut left, mut done) = (offset, len, 0);
        for segment in &self.segments {
            if left == 0 {
                break;
            }
            if skip >= segment.len() {
                skip -= segment.len();
                continue;
            }
            let n = left.min(segment.len() - skip);
            each(segment, skip, n, done);
            (skip, left, done) = (0, left - n, done + n);
        }
    }

    /// Copies bytes out.
    ///
    /// # Panics
    /// If the range is outside the buffer; callers check what comes from outside.
    pub fn read(&self, offset: usize, out: &mut [u8]) {
        self.walk(offset, out.len(), |segment, at, n, done| segment.read(at, &mut out[done..done + n]));
    }

    /// Copies bytes in. Panics as [`IoBuf::read`].
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        self.walk(offset, bytes.len(), |segment, at, n, done| segment.write(at, &bytes[done..done + n]));
    }

    /// Copies `len` bytes at `from_offset` of a single piece to `offset`. Panics as [`IoBuf::read`].
    pub fn copy_from(&self, offset: usize, from: &DmaBuf, from_offset: usize, len: usize) {
        self.walk(offset, len, |segment, at, n, done| from.copy_to(from_offset + done, segment, at, n));
    }

    /// Copies `len` bytes at `from_offset` of another buffer to `offset`. Panics as [`IoBuf::read`].
    pub fn copy_from_io(&self, offset: usize, from: &IoBuf, from_offset: usize, len: usize) {
        from.walk(from_offset, len, |segment, at, n, done| self.copy_from(offset + done, segment, at, n));
    }

    /// Adds `[offset, offset + len)` to a CRC32C. Panics as [`IoBuf::read`].
    pub fn digest(&self, digest: &mut Digest, offset: usize, len: usize) {
        let mut chunk = [0; CHUNK];
        self.walk(offset, len, |segment, at, n, _| {
            for from in (0..n).step_by(CHUNK) {
                let part = &mut chunk[..CHUNK.min(n - from)];
                segment.read(at + from, part);
                digest.update(part);
            }
        });
    }

    /// CRC32C of `[offset, offset + len)` as NVMe/TCP digests are computed. Panics as [`IoBuf::read`].
    pub fn crc32c(&self, offset: usize, len: usize) -> u32 {
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        self.digest(&mut digest, offset, len);
        digest.finalize() as u32
    }

    /// The bytes, copied; for tests and control paths.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = vec![0; self.len];
        self.read(0, &mut out);
        out
    }
}
