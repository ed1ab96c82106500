//! A caller's buffer: what a read is placed into and a write is taken from.

use super::{DmaBuf, Iova};
use crc_fast::{CrcAlgorithm, Digest};
use hw_regs::layout::{Access, Layout};
use hw_regs::wqe::Klm;

/// A scatter list of DMA memory, addressed as one run of bytes.
///
/// It is moved into a request and comes back with its completion, never earlier: while the device may write it, the
/// driver owns it (see `ddp`). Moving it moves a pointer.
#[derive(Debug, Default)]
pub struct IoBuf {
    inner: Box<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    segments: Vec<DmaBuf>,
    len: usize,
    /// See [`IoBuf::device_list`].
    list: Vec<[Klm; LIST_GROUP]>,
}

/// Bytes that a digest or a copy takes through the stack at a time.
const CHUNK: usize = 2048;
/// The device takes list entries in groups of this many: 64 bytes.
pub const LIST_GROUP: usize = 4;
/// Most bytes of one list entry: its field has 31 bits.
const MAX_ENTRY: u64 = 1 << 30;

/// The list of device-contiguous runs, in entries of at most `max` bytes, padded.
fn device_list(segments: &[DmaBuf], max: u64) -> Vec<[Klm; LIST_GROUP]> {
    let mut runs: Vec<(u64, u64)> = Vec::with_capacity(segments.len());
    for segment in segments {
        let (start, bytes) = (segment.iova().get(), segment.len() as u64);
        match runs.last_mut() {
            Some((at, len)) if *at + *len == start => *len += bytes,
            _ => runs.push((start, bytes)),
        }
    }
    let mut list = Vec::with_capacity(runs.len().next_multiple_of(LIST_GROUP));
    for (start, bytes) in runs {
        for from in (0..bytes).step_by(max as usize) {
            let len = (bytes - from).min(max) as u32;
            list.push(Klm::zeroed().with(Klm::BCOUNT, len).with(Klm::KEY, u32::MAX).with_wide(Klm::VA, start + from));
        }
    }
    list.resize(list.len().next_multiple_of(LIST_GROUP), Klm::zeroed());
    list.as_chunks().0.to_vec()
}

impl IoBuf {
    /// A buffer of these pieces, in order. Empty pieces are dropped.
    pub fn new(segments: Vec<DmaBuf>) -> IoBuf {
        let segments: Vec<_> = segments.into_iter().filter(|s| !s.is_empty()).collect();
        let len = segments.iter().map(DmaBuf::len).sum();
        let list = device_list(&segments, MAX_ENTRY);
        IoBuf { inner: Box::new(Inner { segments, len, list }) }
    }

    /// The buffer as the device is told of it: KLM entries, neighbours that are adjacent for the device as one entry, padded
    /// with zero entries to whole groups of 4 (`nvme-tcp-offload.md` §4.7). Made once, because a buffer is bound more often
    /// than it is made.
    ///
    /// The memory key is the binder's: an entry has all ones in its place, a pad zeros, so that a bitwise "and" fills it in.
    #[inline(always)]
    pub fn device_list(&self) -> &[[Klm; LIST_GROUP]] {
        &self.inner.list
    }

    /// Bytes.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.inner.len
    }

    /// True for a buffer of no bytes.
    pub fn is_empty(&self) -> bool {
        self.inner.len == 0
    }

    /// The pieces as the device sees them: (address, bytes), in order.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = (Iova, usize)> + '_ {
        self.inner.segments.iter().map(|s| (s.iova(), s.len()))
    }

    /// Calls `each` with (piece, offset in it, bytes, bytes done so far) over `[offset, offset + len)`.
    fn walk(&self, offset: usize, len: usize, mut each: impl FnMut(&DmaBuf, usize, usize, usize)) {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len()),
            "{len} bytes at {offset} of a buffer of {}",
            self.len()
        );
        let (mut skip, mut left, mut done) = (offset, len, 0);
        for segment in &self.inner.segments {
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
        let mut out = vec![0; self.len()];
        self.read(0, &mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the device's list is the buffer, adjacent pieces merged, padded with zeros | `the_device_list_is_the_buffer` |
    //! | no entry is longer than its field can say | `a_long_run_is_cut` |
    use super::*;
    use crate::queue::testing;
    use proptest::prelude::*;

    /// Bytes of a piece at most: every byte's address is compared, which takes Miri long.
    const PIECE: usize = if cfg!(miri) { 50 } else { 5000 };

    proptest! {
        #[test]
        fn the_device_list_is_the_buffer(pieces in prop::collection::vec((1..PIECE, any::<bool>()), 0..40)) {
            let mut rest = testing::heap().allocate(40 * 5100, 64).expect("memory");
            let mut segments = Vec::new();
            let mut apart = 1;
            for (n, (len, gap)) in pieces.iter().enumerate() {
                apart += usize::from(*gap && n != 0);
                let (piece, after) = rest.split_at(if *gap { 7 } else { 0 }).1.split_at(*len);
                segments.push(piece);
                rest = after;
            }
            let buffer = IoBuf::new(segments);
            let list = buffer.device_list().as_flattened();
            let entries = if pieces.is_empty() { 0 } else { apart };
            prop_assert_eq!(list.len(), entries.next_multiple_of(4));
            prop_assert!(list[entries..].iter().all(|pad| *pad == Klm::zeroed()));
            let bytes = |at: u64, len: u64| at..at + len;
            let told = list[..entries].iter().flat_map(|e| bytes(e.get_wide(Klm::VA), e.get(Klm::BCOUNT).into()));
            let is = buffer.segments().flat_map(|(iova, len)| bytes(iova.get(), len as u64));
            prop_assert!(told.eq(is));
            prop_assert!(list[..entries].iter().all(|entry| entry.get(Klm::KEY) == u32::MAX));
        }
    }

    #[test]
    fn a_long_run_is_cut() {
        let run = testing::heap().allocate(2 * 4096 + 10, 64).expect("memory");
        let start = run.iova().get();
        let list = device_list(&[run], 4096).concat();
        let told: Vec<_> = list.iter().map(|e| (e.get_wide(Klm::VA) - start, e.get(Klm::BCOUNT))).take(3).collect();
        assert_eq!(told, [(0, 4096), (4096, 4096), (8192, 10)]);
        assert_eq!(list[3..], [Klm::zeroed()]);
    }
}
