//! A received packet as a list of ranges: what a socket buffer is to Linux.
//!
//! ```text
//! packet   0             hole              hole + placed      len
//!          | headers,     | payload that the | rest: digest,   |
//!          | PDU header   | NIC placed       | next PDU ...    |
//! memory   receive buffer  tag's destination  receive buffer (same place: the hole keeps its room)
//! ```
//!
//! The device places at most one run per packet (`nvme-tcp-offload.md` §5.1), so three ranges describe every packet and a
//! [`Frame`] is a few words: no list on the heap, no reference count. A range inside the hole names the tag, its
//! generation and the offset in the tag's buffer, never an address: the layer-5 protocol recognizes data that already lies
//! where it belongs by comparing these, and nobody can follow a stale pointer.

use std::fmt;

/// The receive buffer that a frame owns. It goes back to its pool exactly once (see `queue`), so it cannot be copied.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a receive buffer that is not given back to its pool is lost until the queue is destroyed"]
pub struct RxBuffer(pub u32);

/// A packet in its receive buffer, whose length was checked against the buffer's.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a receive buffer that is not given back to its pool is lost until the queue is destroyed"]
pub struct Arrival {
    buffer: RxBuffer,
    len: u32,
}

impl Arrival {
    /// A packet of `len` bytes in `buffer`: more than none, and not more than the buffer has. The caller has checked.
    #[inline(always)]
    pub(crate) fn new(buffer: RxBuffer, len: u32) -> Arrival {
        Arrival { buffer, len }
    }

    /// A packet of `len` bytes in `buffer`, if it is not empty and fits into `capacity` bytes; else the buffer.
    #[inline(always)]
    pub fn check(buffer: RxBuffer, len: u32, capacity: u32) -> Result<Arrival, RxBuffer> {
        // One comparison for "0" and "too long".
        if len.wrapping_sub(1) < capacity { Ok(Arrival { buffer, len }) } else { Err(buffer) }
    }

    /// Bytes of the packet.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Never: a packet has bytes.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The buffer, to be given back.
    #[inline(always)]
    pub fn into_buffer(self) -> RxBuffer {
        self.buffer
    }

    /// The packet as a frame, all of it in the buffer.
    #[inline(always)]
    pub fn into_frame(self) -> Frame {
        Frame::new(self.buffer, self.len)
    }
}

/// Payload that the device wrote straight into a destination buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// NVMe command identifier (CCID).
    pub tag: u16,
    /// Which use of the tag: the device's claim is about the buffer bound then.
    pub generation: u32,
    /// Bytes from the start of the destination buffer.
    pub offset: u32,
}

/// Why the device cannot have placed anything of a packet, as far as software sees; for telling why, nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bypass {
    /// Nothing is known against it.
    #[default]
    No,
    /// Later bytes of the stream came before it: the device passes it through (`nvme-tcp-offload.md` §6.2).
    Late,
    /// The same, and it came before: it was dropped because what the device said of it could not be true.
    Refused,
    /// The same, and it came before: TCP did not keep it.
    NotKept,
    /// It did not come by the connection's steering rule: the offload context has not seen it.
    Unsteered,
}

/// One contiguous run of a packet's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// In receive buffer `buffer`, at `offset`.
    Ring {
        /// Index of the receive buffer.
        buffer: u32,
        /// Bytes from its start.
        offset: u32,
        /// Bytes.
        len: u32,
    },
    /// In the destination buffer of a tag.
    Placed {
        /// Where its first byte is.
        at: Placed,
        /// Bytes.
        len: u32,
    },
}

impl Range {
    /// Bytes.
    pub fn len(&self) -> u32 {
        match *self {
            Range::Ring { len, .. } | Range::Placed { len, .. } => len,
        }
    }

    /// True for a run of no bytes; frames never yield one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The part from `skip` on, at most `limit` bytes.
    #[must_use]
    pub fn slice(self, skip: u32, limit: u32) -> Range {
        let cut = |len: u32| (len - skip).min(limit);
        match self {
            Range::Ring { buffer, offset, len } => Range::Ring { buffer, offset: offset + skip, len: cut(len) },
            Range::Placed { at, len } => Range::Placed { at: Placed { offset: at.offset + skip, ..at }, len: cut(len) },
        }
    }
}

/// A received packet, or what is left of it after trimming.
#[derive(PartialEq, Eq)]
#[must_use = "dropping a frame loses its receive buffer: give it back with `into_buffer`"]
pub struct Frame {
    buffer: RxBuffer,
    /// First and one-past-last byte still in the frame, in packet coordinates.
    start: u32,
    end: u32,
    /// The hole, in packet coordinates; empty if nothing was placed.
    hole: u32,
    hole_end: u32,
    placed: Placed,
    /// Offload queue that the device named (its flow tag), 0 for none.
    queue: u32,
    digest_ok: bool,
    /// The device vouches for the digests, and is not believed.
    digest_doubted: bool,
    checksum_ok: bool,
    bypass: Bypass,
}

const _: () = assert!(size_of::<Frame>() <= 40, "a frame is a few words");

/// Out of line, so that the hot path carries no formatting.
#[cold]
#[inline(never)]
fn outside(at: u32, len: u32, end: u32) -> ! {
    panic!("a hole of {len} bytes at {at} outside a packet of {end}")
}

impl Frame {
    /// A packet of `len` bytes that lies entirely in `buffer`.
    #[inline(always)]
    pub fn new(buffer: RxBuffer, len: u32) -> Frame {
        Frame {
            buffer,
            start: 0,
            end: len,
            hole: 0,
            hole_end: 0,
            placed: Placed { tag: 0, generation: 0, offset: 0 },
            queue: 0,
            digest_ok: false,
            digest_doubted: false,
            checksum_ok: false,
            bypass: Bypass::No,
        }
    }

    /// Marks `[hole, hole + len)` of the packet as placed.
    ///
    /// # Panics
    /// If the hole is not inside the packet: the caller checks what the device said first.
    #[inline(always)]
    pub fn with_placed(mut self, hole: u32, len: u32, placed: Placed) -> Frame {
        let hole_end = match hole.checked_add(len) {
            Some(end) if end <= self.end => end,
            _ => outside(hole, len, self.end),
        };
        (self.hole, self.hole_end, self.placed) = (hole, hole_end, placed);
        self
    }

    /// [`Frame::with_placed`] of `[hole, hole_end)`, which the caller has found to lie inside the packet.
    #[inline(always)]
    pub(crate) fn with_hole(mut self, hole: u32, hole_end: u32, placed: Placed) -> Frame {
        debug_assert!(hole <= hole_end && hole_end <= self.end);
        (self.hole, self.hole_end, self.placed) = (hole, hole_end, placed);
        self
    }

    /// Names the offload queue (flow tag) that the device reported.
    #[inline(always)]
    pub fn with_queue(mut self, queue: u32) -> Frame {
        self.queue = queue;
        self
    }

    /// Records whether the device vouched for every data digest in this packet.
    #[inline(always)]
    pub fn with_digest_ok(mut self, ok: bool) -> Frame {
        self.digest_ok = ok;
        self
    }

    /// Records that the device vouched for the digests and is not believed: a resync came just before (§6.3).
    #[inline(always)]
    pub fn with_digest_doubted(mut self, doubted: bool) -> Frame {
        self.digest_doubted = doubted;
        self
    }

    /// Records why the device cannot have placed anything.
    #[inline(always)]
    pub fn with_bypass(mut self, bypass: Bypass) -> Frame {
        self.bypass = bypass;
        self
    }

    /// Records whether the device found the L3 and L4 checksums right.
    #[inline(always)]
    pub fn with_checksum_ok(mut self, ok: bool) -> Frame {
        self.checksum_ok = ok;
        self
    }

    /// Bytes left.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.end - self.start
    }

    /// True if no byte is left.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Offload queue that the device named, 0 for none.
    #[inline(always)]
    pub fn queue(&self) -> u32 {
        self.queue
    }

    /// True if the device vouched for every data digest in this packet.
    #[inline(always)]
    pub fn digest_ok(&self) -> bool {
        self.digest_ok
    }

    /// True if the device vouched for the digests and is not believed.
    #[inline(always)]
    pub fn digest_doubted(&self) -> bool {
        self.digest_doubted
    }

    /// Why the device cannot have placed anything, if that is known.
    #[inline(always)]
    pub fn bypass(&self) -> Bypass {
        self.bypass
    }

    /// True if the device found the L3 and L4 checksums right.
    #[inline(always)]
    pub fn checksum_ok(&self) -> bool {
        self.checksum_ok
    }

    /// Bytes of what is left that the device placed.
    #[inline(always)]
    pub fn placed_len(&self) -> u32 {
        let (from, to) = (self.hole.max(self.start), self.hole_end.min(self.end));
        to.saturating_sub(from)
    }

    /// What the device placed, if anything: where in the packet, how many bytes, and where they went.
    #[inline(always)]
    pub fn placed(&self) -> Option<(u32, u32, Placed)> {
        (self.hole_end > self.hole).then_some((self.hole, self.hole_end - self.hole, self.placed))
    }

    /// Index of the receive buffer; for reading headers.
    #[inline(always)]
    pub fn buffer(&self) -> u32 {
        self.buffer.0
    }

    /// First byte left, in packet coordinates.
    #[inline(always)]
    pub fn start(&self) -> u32 {
        self.start
    }

    /// Bytes at the front that are contiguous in the receive buffer.
    #[inline(always)]
    pub fn contiguous_front(&self) -> u32 {
        if self.hole_end > self.hole && self.start < self.hole_end {
            self.hole.min(self.end).saturating_sub(self.start)
        } else {
            self.len()
        }
    }

    /// Drops `n` bytes at the front.
    ///
    /// # Panics
    /// If the frame is shorter.
    #[inline(always)]
    pub fn trim_front(&mut self, n: u32) {
        assert!(n <= self.len());
        self.start += n;
    }

    /// Drops `n` bytes at the back.
    ///
    /// # Panics
    /// If the frame is shorter.
    #[inline(always)]
    pub fn trim_back(&mut self, n: u32) {
        assert!(n <= self.len());
        self.end -= n;
    }

    /// The ranges that are left, at most three, none empty, in order.
    #[inline(always)]
    pub fn ranges(&self) -> Ranges {
        Ranges {
            buffer: self.buffer.0,
            at: self.start,
            end: self.end,
            hole: self.hole,
            hole_end: self.hole_end,
            placed: self.placed,
        }
    }

    /// Ends the frame: the receive buffer, to be given back to its pool.
    #[inline(always)]
    pub fn into_buffer(self) -> RxBuffer {
        self.buffer
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ranges()).finish()
    }
}

/// Iterator over a frame's ranges.
#[derive(Clone, Debug)]
pub struct Ranges {
    buffer: u32,
    at: u32,
    end: u32,
    hole: u32,
    hole_end: u32,
    placed: Placed,
}

impl Iterator for Ranges {
    type Item = Range;

    #[inline]
    fn next(&mut self) -> Option<Range> {
        let at = self.at;
        if at >= self.end {
            return None;
        }
        let in_hole = at >= self.hole && at < self.hole_end;
        let until = match in_hole {
            true => self.hole_end.min(self.end),
            false if at < self.hole && self.hole < self.hole_end => self.hole.min(self.end),
            false => self.end,
        };
        self.at = until;
        let len = until - at;
        Some(if in_hole {
            Range::Placed { at: Placed { offset: self.placed.offset + (at - self.hole), ..self.placed }, len }
        } else {
            Range::Ring { buffer: self.buffer, offset: at, len }
        })
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the ranges of a trimmed frame are the packet's bytes, in order, whatever is trimmed | `trimming_keeps_every_other_byte_in_its_place` |
    //! | a slice of a range names the same bytes | `a_slice_names_the_same_bytes` |
    use super::*;
    use proptest::prelude::*;

    /// Every byte of a frame by where it lies: (is placed, offset there).
    fn bytes(frame: &Frame) -> Vec<(bool, u32)> {
        let mut all = Vec::new();
        for range in frame.ranges() {
            assert!(!range.is_empty());
            match range {
                Range::Ring { buffer, offset, len } => {
                    assert_eq!(buffer, 9);
                    all.extend((offset..offset + len).map(|o| (false, o)));
                }
                Range::Placed { at, len } => all.extend((at.offset..at.offset + len).map(|o| (true, o))),
            }
        }
        all
    }

    proptest! {
        #[test]
        fn trimming_keeps_every_other_byte_in_its_place(
            len in 1u32..200, a in 0u32..200, b in 0u32..200, front in 0u32..200, back in 0u32..200,
        ) {
            let (hole, hole_end) = ((a % len).min(b % len), (a % len).max(b % len));
            let placed = Placed { tag: 1, generation: 2, offset: 1000 };
            let mut frame = Frame::new(RxBuffer(9), len).with_placed(hole, hole_end - hole, placed);
            let whole: Vec<_> = (0..len)
                .map(|i| if i >= hole && i < hole_end { (true, 1000 + i - hole) } else { (false, i) })
                .collect();
            prop_assert_eq!(bytes(&frame), whole.clone());
            let front = front % (len + 1);
            let back = back % (len - front + 1);
            frame.trim_front(front);
            frame.trim_back(back);
            let expected = &whole[front as usize..(len - back) as usize];
            prop_assert_eq!(bytes(&frame), expected);
            prop_assert_eq!(frame.placed_len() as usize, expected.iter().filter(|b| b.0).count());
            let contiguous = expected.iter().take_while(|b| !b.0).count();
            prop_assert!(frame.contiguous_front() as usize <= contiguous);
            let RxBuffer(index) = frame.into_buffer();
            prop_assert_eq!(index, 9);
        }
    }

    #[test]
    fn a_slice_names_the_same_bytes() {
        let ring = Range::Ring { buffer: 1, offset: 10, len: 20 };
        assert_eq!(ring.slice(5, 100), Range::Ring { buffer: 1, offset: 15, len: 15 });
        let at = Placed { tag: 3, generation: 4, offset: 100 };
        let placed = Range::Placed { at, len: 20 }.slice(5, 7);
        assert_eq!(placed, Range::Placed { at: Placed { offset: 105, ..at }, len: 7 });
    }
}
