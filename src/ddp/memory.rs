//! Where the layer-5 protocol finds payload and puts it: receive buffers and destination buffers, by name and never by
//! address ([`PayloadMemory`]).
//!
//! ```text
//! deliver(tag, offset, range)        range in the ring            → copied
//!                                    placed, at tag and offset    → already there
//!                                    placed elsewhere             → copied, and both buffers are suspect
//! ```
//!
//! A run that the device placed elsewhere than its PDU says should not exist. Copying it makes the stream whole, but what
//! the device wrote over is lost, so every buffer it touched is marked and the read that owns it has to fail
//! ([`Released::is_suspect`](super::tags::Released::is_suspect)).

use super::stats::Stats;
use super::tags::TagTable;
use super::why::Why;
use crate::dma::IoBuf;
use crate::frame::{Bypass, Placed, Range};
use crate::nvme::{Cause, Delivery, PayloadError, PayloadMemory};
use crate::queue::RxPool;

/// Bytes that move through the stack at a time where a copy may overlap itself.
const CHUNK: usize = 2048;

/// Receive buffers, by index.
pub trait RingBytes {
    /// Copies `out.len()` bytes at `offset` of a buffer out.
    fn read(&self, buffer: u32, offset: u32, out: &mut [u8]);
    /// Copies `len` bytes at `offset` of a buffer to byte `at` of `to`.
    fn copy_to(&self, buffer: u32, offset: u32, to: &IoBuf, at: usize, len: usize);
}

impl RingBytes for RxPool {
    #[inline]
    fn read(&self, buffer: u32, offset: u32, out: &mut [u8]) {
        RxPool::read(self, buffer, offset, out);
    }
    #[inline]
    fn copy_to(&self, buffer: u32, offset: u32, to: &IoBuf, at: usize, len: usize) {
        RxPool::copy_to(self, buffer, offset, len as u32, to, at);
    }
}

/// The memory of one NVMe queue, offloaded or not.
#[derive(Debug)]
pub struct Memory<'a, R> {
    ring: &'a R,
    tags: &'a mut TagTable,
    stats: &'a mut Stats,
    /// The device checks data digests.
    digests: bool,
}

impl<'a, R: RingBytes> Memory<'a, R> {
    /// The memory that these receive buffers and this tag table are.
    pub fn new(ring: &'a R, tags: &'a mut TagTable, stats: &'a mut Stats) -> Memory<'a, R> {
        Memory { ring, tags, stats, digests: false }
    }

    /// The same for a queue whose data digests the device checks, or not.
    #[must_use]
    pub fn with_digests(self, digests: bool) -> Memory<'a, R> {
        Memory { digests, ..self }
    }

    /// The buffer of a tag, if `[offset, offset + len)` lies in it.
    fn buffer(&self, tag: u16, offset: u32, len: u32) -> Result<&IoBuf, PayloadError> {
        let buffer = self.tags.buffer(tag).ok_or(PayloadError::NoBuffer { tag })?;
        let size = buffer.len() as u32;
        match u64::from(offset) + u64::from(len) <= u64::from(size) {
            true => Ok(buffer),
            false => Err(PayloadError::OutOfRange { tag, offset, len, size }),
        }
    }

    /// The buffer that a placed range lies in.
    fn source(&self, at: Placed, len: u32) -> Result<&IoBuf, PayloadError> {
        let stale = PayloadError::Stale { tag: at.tag, generation: at.generation };
        self.tags.placed_in(at).ok_or(stale)?;
        self.buffer(at.tag, at.offset, len)
    }

    #[cold]
    fn move_misplaced(&mut self, tag: u16, offset: u32, at: Placed, len: u32) -> Result<(), PayloadError> {
        let (from, to) = (self.source(at, len)?, self.buffer(tag, offset, len)?);
        let len = len as usize;
        let mut chunk = [0; CHUNK];
        // Away from where it goes to, so that an overlapping source is read before it is written.
        let backwards = at.tag == tag && at.offset < offset;
        let starts = (0..len).step_by(CHUNK);
        let mut step = |start: usize| {
            let part = &mut chunk[..CHUNK.min(len - start)];
            from.read(at.offset as usize + start, part);
            to.write(offset as usize + start, part);
        };
        if backwards {
            starts.rev().for_each(&mut step);
        } else {
            starts.for_each(&mut step);
        }
        self.tags.suspect(at.tag);
        self.tags.suspect(tag);
        self.stats.misplaced += 1;
        Ok(())
    }
}

/// What the stream tells, as a reason.
fn why_not_done(cause: Cause) -> Why {
    match cause {
        Cause::Bypass(Bypass::Late) => Why::LatePacket,
        Cause::Bypass(Bypass::Refused) => Why::RefusedCompletion,
        Cause::Bypass(Bypass::NotKept) => Why::NotKept,
        Cause::Bypass(Bypass::Unsteered) => Why::NotSteered,
        Cause::Searching => Why::FramingLost,
        Cause::Asked => Why::ResyncPending,
        Cause::Hole => Why::Hole,
        Cause::SecondRun => Why::SecondRun,
        Cause::Misplaced => Why::Misplaced,
        Cause::Doubted => Why::DigestAfterResync,
        Cause::Mismatch => Why::DigestMismatch,
        Cause::Bypass(Bypass::No) | Cause::Unknown { .. } => Why::NotTold,
    }
}

impl<R: RingBytes> PayloadMemory for Memory<'_, R> {
    fn peek(&self, range: Range, out: &mut [u8]) -> Result<(), PayloadError> {
        match range {
            Range::Ring { buffer, offset, .. } => self.ring.read(buffer, offset, out),
            Range::Placed { at, .. } => self.source(at, out.len() as u32)?.read(at.offset as usize, out),
        }
        Ok(())
    }

    #[inline]
    fn deliver(&mut self, tag: u16, offset: u32, range: Range) -> Result<Delivery, PayloadError> {
        let to = self.buffer(tag, offset, range.len())?;
        match range {
            Range::Ring { buffer, offset: from, len } => {
                self.ring.copy_to(buffer, from, to, offset as usize, len as usize);
                Ok(Delivery::Copied)
            }
            Range::Placed { at, .. } if at.tag == tag && at.offset == offset => match self.tags.placed_in(at) {
                Some(_) => Ok(Delivery::InPlace),
                None => Err(PayloadError::Stale { tag, generation: at.generation }),
            },
            Range::Placed { at, len } => {
                self.move_misplaced(tag, offset, at, len)?;
                Ok(Delivery::Copied)
            }
        }
    }

    #[cold]
    fn copied(&mut self, tag: u16, len: u32, cause: Cause) {
        let unbound = self.tags.why_unbound(tag);
        let Some(reasons) = self.tags.copied_mut(tag) else { return };
        let why = match (unbound, cause) {
            (Some(why), _) => why,
            (None, Cause::Unknown { early: true }) => return reasons.add_early(len),
            (None, cause) => why_not_done(cause),
        };
        let new = reasons.add(why, len);
        self.stats.count_copied(why, u64::from(new), u64::from(len));
    }

    #[cold]
    fn digested(&mut self, tag: u16, cause: Cause) {
        // A device that was told nothing of a read can check its digests all the same.
        let why = match (self.tags.why_unbound(tag), self.digests, cause) {
            (_, _, Cause::Mismatch) => Why::DigestMismatch,
            (Some(Why::QueueNotOffloaded), ..) => Why::QueueNotOffloaded,
            (_, false, _) => Why::DigestNotOffloaded,
            (_, true, cause) => why_not_done(cause),
        };
        self.stats.count_digested(why);
    }

    fn digest(&self, tag: u16, offset: u32, len: u32) -> Result<u32, PayloadError> {
        Ok(self.buffer(tag, offset, len)?.crc32c(offset as usize, len as usize))
    }

    fn fetch(&self, tag: u16, offset: u32, out: &mut [u8]) -> Result<(), PayloadError> {
        self.buffer(tag, offset, out.len() as u32)?.read(offset as usize, out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | a run is in place exactly if tag, use and offset are the destination | `in_place_means_exactly_there` |
    //! | a range of an earlier use of a tag is stale, never another read's bytes | `an_old_use_is_stale` |
    //! | a misplaced run arrives whole, even over itself, and taints what it touched | `a_misplaced_run_arrives_and_taints` |
    //! | nothing is read or written outside a buffer | `nothing_is_touched_outside_a_buffer` |
    //! | payload from the ring, digests and fetches are the bytes | `bytes_are_bytes` |
    use super::super::fixture::{heap, io};
    use super::super::icosq::{BindPosted, UnbindCompleted, UnbindPosted};
    use super::*;
    use proptest::prelude::*;

    /// Receive buffer n holds bytes that say where they are.
    struct Ring;

    fn ring_byte(buffer: u32, offset: u32) -> u8 {
        (buffer * 31 + offset * 7) as u8
    }

    impl RingBytes for Ring {
        fn read(&self, buffer: u32, offset: u32, out: &mut [u8]) {
            for (n, byte) in out.iter_mut().enumerate() {
                *byte = ring_byte(buffer, offset + n as u32);
            }
        }
        fn copy_to(&self, buffer: u32, offset: u32, to: &IoBuf, at: usize, len: usize) {
            let mut bytes = vec![0; len];
            self.read(buffer, offset, &mut bytes);
            to.write(at, &bytes);
        }
    }

    /// Tags 0 and 1 bound to 10,000 bytes that count up, from different starts.
    fn tags() -> TagTable {
        let heap = heap();
        let mut tags = TagTable::new(4);
        for tag in 0..2 {
            let buffer = io(&heap, &[3000, 1, 6999]);
            buffer.write(0, &content(tag));
            tags.pin(tag, buffer).expect("free");
            tags.bind(BindPosted::for_test(tag)).expect("pinned");
        }
        tags
    }

    fn content(tag: u16) -> Vec<u8> {
        (0..10_000u32).map(|n| (n % 251) as u8 ^ (tag as u8 * 0x55)).collect()
    }

    fn rebind(tags: &mut TagTable, tag: u16) {
        tags.unbind(UnbindPosted::for_test(tag)).expect("bound");
        tags.forgotten(UnbindCompleted::for_test(tag)).expect("draining");
        let buffer = tags.release(tag).expect("forgotten").into_buffer();
        tags.pin(tag, buffer).expect("free");
        tags.bind(BindPosted::for_test(tag)).expect("pinned");
    }

    fn placed(tag: u16, generation: u32, offset: u32, len: u32) -> Range {
        Range::Placed { at: Placed { tag, generation, offset }, len }
    }

    #[test]
    fn in_place_means_exactly_there() {
        let (mut tags, mut stats) = (tags(), Stats::default());
        let mut memory = Memory::new(&Ring, &mut tags, &mut stats);
        assert_eq!(memory.deliver(0, 500, placed(0, 0, 500, 1460)), Ok(Delivery::InPlace));
        assert_eq!(memory.deliver(0, 9999, placed(0, 0, 9999, 1)), Ok(Delivery::InPlace));
        assert_eq!(memory.deliver(0, 500, placed(0, 0, 501, 10)), Ok(Delivery::Copied));
        assert_eq!(memory.deliver(0, 500, placed(1, 0, 500, 10)), Ok(Delivery::Copied));
        assert_eq!(stats.misplaced, 2);
    }

    #[test]
    fn an_old_use_is_stale() {
        let (mut tags, mut stats) = (tags(), Stats::default());
        rebind(&mut tags, 0);
        let mut memory = Memory::new(&Ring, &mut tags, &mut stats);
        let stale = PayloadError::Stale { tag: 0, generation: 0 };
        assert_eq!(memory.deliver(0, 500, placed(0, 0, 500, 10)), Err(stale.clone()));
        assert_eq!(memory.deliver(1, 500, placed(0, 0, 500, 10)), Err(stale.clone()), "nor copied");
        assert_eq!(memory.peek(placed(0, 0, 500, 10), &mut [0; 10]), Err(stale));
        assert_eq!(memory.deliver(0, 500, placed(0, 1, 500, 10)), Ok(Delivery::InPlace));
        let stale = PayloadError::Stale { tag: 3, generation: 0 };
        assert_eq!(memory.peek(placed(3, 0, 0, 1), &mut [0; 1]), Err(stale), "free");
        let stale = PayloadError::Stale { tag: 9, generation: 0 };
        assert_eq!(memory.peek(placed(9, 0, 0, 1), &mut [0; 1]), Err(stale));
    }

    #[test]
    fn nothing_is_touched_outside_a_buffer() {
        let (mut tags, mut stats) = (tags(), Stats::default());
        let mut memory = Memory::new(&Ring, &mut tags, &mut stats);
        let ring = |len| Range::Ring { buffer: 0, offset: 0, len };
        let outside = |offset, len| Err(PayloadError::OutOfRange { tag: 0, offset, len, size: 10_000 });
        assert_eq!(memory.deliver(0, 9_999, ring(1)), Ok(Delivery::Copied));
        assert_eq!(memory.deliver(0, 9_999, ring(2)), outside(9_999, 2));
        assert_eq!(memory.deliver(0, u32::MAX, ring(2)), outside(u32::MAX, 2));
        assert_eq!(memory.deliver(0, 9_999, placed(0, 0, 9_999, 2)), outside(9_999, 2));
        assert_eq!(memory.deliver(0, 0, placed(0, 0, 9_999, 2)), outside(9_999, 2));
        assert_eq!(memory.deliver(2, 0, ring(1)), Err(PayloadError::NoBuffer { tag: 2 }));
        assert_eq!(memory.deliver(4, 0, ring(1)), Err(PayloadError::NoBuffer { tag: 4 }));
        assert_eq!(memory.digest(0, 1, 10_000).expect_err("one too many"), outside(1, 10_000).expect_err("-"));
        assert!(memory.fetch(0, 9_990, &mut [0; 11]).is_err());
    }

    #[test]
    fn bytes_are_bytes() {
        let (mut tags, mut stats) = (tags(), Stats::default());
        let mut memory = Memory::new(&Ring, &mut tags, &mut stats);
        memory.deliver(1, 2_990, Range::Ring { buffer: 5, offset: 90, len: 40 }).expect("inside");
        let mut expected = content(1);
        for n in 0..40 {
            expected[2_990 + n as usize] = ring_byte(5, 90 + n);
        }
        let mut bytes = vec![0; 10_000];
        memory.fetch(1, 0, &mut bytes).expect("inside");
        assert_eq!(bytes, expected);
        memory.peek(placed(1, 0, 2_000, 3_000), &mut bytes[..3_000]).expect("bound");
        assert_eq!(bytes[..3_000], expected[2_000..5_000]);
        memory.peek(Range::Ring { buffer: 2, offset: 3, len: 9 }, &mut bytes[..2]).expect("ring");
        assert_eq!(bytes[..2], [ring_byte(2, 3), ring_byte(2, 4)]);
        // CRC-32C check value of "123456789".
        memory.tags.buffer(0).expect("bound").write(2_996, b"123456789");
        assert_eq!(memory.digest(0, 2_996, 9), Ok(0xe306_9283));
    }

    proptest! {
        #[test]
        fn a_misplaced_run_arrives_and_taints(
            same in any::<bool>(), from in 0u32..4000, to in 0u32..4000, len in 1u32..6000,
        ) {
            prop_assume!(!same || from != to);
            let (mut tags, mut stats) = (tags(), Stats::default());
            let source = if same { 0 } else { 1 };
            let expected = content(source)[from as usize..][..len as usize].to_vec();
            let mut memory = Memory::new(&Ring, &mut tags, &mut stats);
            prop_assert_eq!(memory.deliver(0, to, placed(source, 0, from, len)), Ok(Delivery::Copied));
            let mut bytes = vec![0; len as usize];
            memory.fetch(0, to, &mut bytes).expect("inside");
            prop_assert_eq!(bytes, expected);
            for tag in 0..2 {
                tags.unbind(UnbindPosted::for_test(tag)).expect("bound");
                tags.forgotten(UnbindCompleted::for_test(tag)).expect("draining");
                let suspect = tags.release(tag).expect("forgotten").is_suspect();
                prop_assert_eq!(suspect, tag == 0 || tag == source);
            }
        }
    }
}
