//! From a 128-byte completion entry to a [`Frame`]: the packet's bytes as ranges, header and tail in the receive buffer,
//! the placed run in its tag's buffer (`nvme-tcp-offload.md` §5, §7.6).
//!
//! A pure function of the entry, the receive buffer and the tag table. Nothing that the device says is believed: every
//! number is compared with what software knows, and an entry that cannot be true is refused with the reason. A refused
//! packet is lost (where its payload went is unknown), so its buffer goes back and TCP asks the peer again; the device
//! passes a retransmission through unplaced.
//!
//! ```text
//! checks of an entry that claims a placed run, in one comparison each:
//!
//!   0        min headers        hlen                hlen + cclen         byte_cnt      capacity
//!   |────────────|───────────────|────── hole ───────────|─────── tail ──────|─────────────|
//!                                       │
//!   tag ccid < depth, bound:            └► 0 ≤ ccoff … ccoff + cclen ≤ size of its buffer,  cclen > 0
//! ```

use super::tags::{Hot, TagTable};
use crate::frame::{Arrival, Frame, Placed, RxBuffer};
use crate::queue::{CqeFields, Polled};
use hw_regs::cqe::{Cqe64, OffloadCqe};
use hw_regs::layout::{Field, Layout};
use std::fmt;

/// Byte 1 of the 64-byte entry, byte 65 of the whole, and its bits (§5).
const FLAGS: Field<OffloadCqe> = Field::new(65 * 8, 8);
const ZERO_COPY: u8 = 0x10;
const DIGEST_OK: u8 = 0x20;
const RESYNC: u8 = 0x40;
/// `hds_ip_ext`, `l4_l3_hdr_type` and the VLAN tag, one word: where headers end, and whether their checksums are right.
const MARKS: Field<OffloadCqe> = Field::new(92 * 8, 32);
/// Checksums of the L3 and L4 headers found right.
const CHECKSUMS_OK: u32 = 0x6 << 24;
/// `l3_hdr_type` of IPv6 (1); IPv4 has 2.
const L3_TYPE_IPV6: u32 = 0x4 << 16;
/// `cclen` and `hlen`, one word.
const RUN: Field<OffloadCqe> = Field::new(0, 32);
/// All 32 bits count in receive queues of the driver, which are cyclic (§5).
const BYTE_COUNT: Field<Cqe64> = Cqe64::BYTE_CNT;
/// Bytes of the shortest headers that a placed packet can have: Ethernet, IPv4, TCP. IPv6 has 20 more.
const MIN_HEADERS: u32 = 14 + 20 + 20;
const IPV6_EXTRA: u32 = 20;

/// Why an entry was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// An offload flag, and a flow tag that names no queue.
    NoQueue,
    /// The packet is longer than the receive buffer, or empty.
    Length,
    /// A placed run and a resync request in one entry: they share a field (§5).
    ResyncAndPlaced,
    /// The tag is not below the queue's depth.
    TagOutOfRange,
    /// No buffer is bound to the tag.
    TagNotBound,
    /// A placed run of no bytes.
    EmptyRun,
    /// The run ends beyond its tag's buffer.
    RunBeyondBuffer,
    /// The run begins inside the packet's headers.
    RunInHeaders,
    /// The run ends beyond the packet.
    RunBeyondPacket,
}

impl Rejection {
    /// All of them.
    pub const ALL: [Rejection; 9] = [
        Rejection::NoQueue,
        Rejection::Length,
        Rejection::ResyncAndPlaced,
        Rejection::TagOutOfRange,
        Rejection::TagNotBound,
        Rejection::EmptyRun,
        Rejection::RunBeyondBuffer,
        Rejection::RunInHeaders,
        Rejection::RunBeyondPacket,
    ];

    /// What is wrong, in a word for counters.
    pub fn name(self) -> &'static str {
        match self {
            Rejection::NoQueue => "no-queue",
            Rejection::Length => "length",
            Rejection::ResyncAndPlaced => "resync-and-placed",
            Rejection::TagOutOfRange => "tag-out-of-range",
            Rejection::TagNotBound => "tag-not-bound",
            Rejection::EmptyRun => "empty-run",
            Rejection::RunBeyondBuffer => "run-beyond-buffer",
            Rejection::RunInHeaders => "run-in-headers",
            Rejection::RunBeyondPacket => "run-beyond-packet",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rejection::NoQueue => "the entry has an offload flag and names no offload queue",
            Rejection::Length => "the packet is empty or longer than its receive buffer",
            Rejection::ResyncAndPlaced => "the entry claims a placed run and asks for a resync",
            Rejection::TagOutOfRange => "the tag is not one of the queue's",
            Rejection::TagNotBound => "no buffer is bound to the tag",
            Rejection::EmptyRun => "the placed run is empty",
            Rejection::RunBeyondBuffer => "the placed run ends beyond its tag's buffer",
            Rejection::RunInHeaders => "the placed run begins inside the packet's headers",
            Rejection::RunBeyondPacket => "the placed run ends beyond the packet",
        })
    }
}

impl std::error::Error for Rejection {}

/// A packet that was refused: the buffer to give back, and why.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the receive buffer must go back to its pool"]
pub struct Rejected {
    /// The receive buffer.
    pub buffer: RxBuffer,
    /// Why.
    pub why: Rejection,
}

/// A packet, and what else its entry said.
#[derive(Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// The packet.
    pub frame: Frame,
    /// The device lost the PDU framing and guesses that a PDU header begins at this TCP sequence number.
    pub resync: Option<u32>,
}

/// What an entry says about the offload, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// Reads them.
    #[inline(always)]
    pub fn of(entry: &impl CqeFields<OffloadCqe>) -> Flags {
        Flags(entry.field(FLAGS) as u8)
    }

    /// True if the entry says anything about the offload; others are ordinary packets whose first half means nothing.
    #[inline(always)]
    pub fn any(self) -> bool {
        self.0 & (ZERO_COPY | DIGEST_OK | RESYNC) != 0
    }

    /// A run was placed, there is no resync request, and, `with_digest`, the device vouches for the digests: what most
    /// packets of a read say.
    #[inline(always)]
    pub(super) fn is_usual(self, with_digest: bool) -> bool {
        let digest = if with_digest { DIGEST_OK } else { 0 };
        self.0 & (ZERO_COPY | RESYNC | digest) == ZERO_COPY | digest
    }

    /// A run was placed, and nothing is to be looked at more closely.
    #[inline(always)]
    pub(super) fn is_just_placed(self, attention: Attention) -> bool {
        self.0 & attention.0 == ZERO_COPY
    }

    /// A run was placed.
    #[inline(always)]
    pub fn placed(self) -> bool {
        self.0 & ZERO_COPY != 0
    }

    /// The device vouches for the packet's data digests.
    #[inline(always)]
    pub fn digest_ok(self) -> bool {
        self.0 & DIGEST_OK != 0
    }

    /// The device asks for a resync.
    #[inline(always)]
    pub fn resync(self) -> bool {
        self.0 & RESYNC != 0
    }
}

/// Flags that need a closer look than a placed run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attention(u8);

impl Attention {
    /// Only those that always do.
    pub(super) const NONE: Attention = Attention(ZERO_COPY | RESYNC);
    /// The next digest mark as well.
    pub(super) const NEXT_DIGEST: Attention = Attention(ZERO_COPY | RESYNC | DIGEST_OK);

    #[inline(always)]
    pub(super) fn distrusts_digest(self) -> bool {
        self.0 & DIGEST_OK != 0
    }
}

/// Flow tag that the steering rule put on the packet: the queue's number, 0 for none.
#[inline(always)]
pub fn flow_tag(entry: &impl CqeFields<OffloadCqe>) -> u32 {
    entry.field(OffloadCqe::CQE64_FLOW_TAG)
}

/// An ordinary packet: all of it is in its receive buffer.
#[inline(always)]
pub fn plain(entry: &impl CqeFields<OffloadCqe>, arrival: Arrival) -> Frame {
    plain_for(entry, flow_tag(entry), arrival)
}

/// [`plain`] where the flow tag was read before.
#[inline(always)]
fn plain_for(entry: &impl CqeFields<OffloadCqe>, flow_tag: u32, arrival: Arrival) -> Frame {
    arrival.into_frame().with_queue(flow_tag).with_checksum_ok(checksums_ok(entry.field(MARKS)))
}

#[inline(always)]
fn checksums_ok(marks: u32) -> bool {
    marks & CHECKSUMS_OK == CHECKSUMS_OK
}

/// A packet in `buffer` whose length, too, is only what the entry says.
#[inline(always)]
pub(super) fn arrival(
    entry: &impl CqeFields<OffloadCqe>,
    buffer: RxBuffer,
    capacity: u32,
) -> Result<Arrival, Rejected> {
    Arrival::check(buffer, entry.base_field(BYTE_COUNT), capacity).map_err(|buffer| refuse(buffer, Rejection::Length))
}

#[cold]
#[inline(never)]
pub(super) fn refuse(buffer: RxBuffer, why: Rejection) -> Rejected {
    Rejected { buffer, why }
}

/// A packet of an offload queue, whose tags are `tags`, in a receive buffer of `capacity` bytes.
///
/// The frame's digest mark is the device's claim; whether it is to be believed (digests negotiated, no resync just before)
/// is the queue's business.
#[inline]
pub fn rebuild(
    entry: &impl CqeFields<OffloadCqe>,
    buffer: RxBuffer,
    capacity: u32,
    tags: &TagTable,
) -> Result<Rebuilt, Rejected> {
    let arrival = arrival(entry, buffer, capacity)?;
    let (flags, flow_tag) = (Flags::of(entry), flow_tag(entry));
    match flags.placed() && !flags.resync() {
        true => {
            let (frame, _) = placed(entry, flow_tag, arrival, tags)?;
            Ok(Rebuilt { frame: frame.with_digest_ok(flags.digest_ok()), resync: None })
        }
        false => in_ring(entry, flags, flow_tag, arrival),
    }
}

/// A packet of an offload queue that is complete in the receive buffer: nothing was placed, or there is a resync request,
/// and then nothing is said about its digests.
#[inline(always)]
pub(super) fn in_ring(
    entry: &impl CqeFields<OffloadCqe>,
    flags: Flags,
    flow_tag: u32,
    arrival: Arrival,
) -> Result<Rebuilt, Rejected> {
    if flags.placed() {
        return Err(refuse(arrival.into_buffer(), Rejection::ResyncAndPlaced));
    }
    let frame = plain_for(entry, flow_tag, arrival);
    let resync = flags.resync().then(|| entry.field(OffloadCqe::CCOFF_OR_RESYNC_TCP_SN));
    Ok(Rebuilt { frame: frame.with_digest_ok(flags.digest_ok() && resync.is_none()), resync })
}

/// A packet of which a run was placed, and the run's length.
#[inline(always)]
pub(super) fn placed(
    entry: &impl CqeFields<OffloadCqe>,
    flow_tag: u32,
    arrival: Arrival,
    tags: &TagTable,
) -> Result<(Frame, u32), Rejected> {
    match usual(entry, flow_tag, arrival, tags) {
        Ok(placed) => Ok(placed),
        Err(arrival) => {
            let why = why_not(entry, tags);
            Err(refuse(arrival.into_buffer(), why))
        }
    }
}

/// [`placed`], without a reason why not.
#[inline(always)]
fn usual(
    entry: &impl CqeFields<OffloadCqe>,
    flow_tag: u32,
    arrival: Arrival,
    tags: &TagTable,
) -> Result<(Frame, u32), Arrival> {
    let (tag, run, marks) = (entry.field(OffloadCqe::CCID) as u16, entry.field(RUN), entry.field(MARKS));
    let Some(run) = Run::check(tag, run, marks, arrival.len(), tags) else { return Err(arrival) };
    let Some(placed) = run.at(entry.field(OffloadCqe::CCOFF_OR_RESYNC_TCP_SN)) else { return Err(arrival) };
    Ok((run.frame(arrival, placed, flow_tag), run.len()))
}

/// What an entry says of a placed run, but for where it begins in the tag's buffer: checked.
#[derive(Clone, Copy, Debug)]
struct Run {
    tag: u16,
    generation: u32,
    /// It fits into the tag's buffer at offsets below this.
    below: u64,
    hole: u32,
    hole_end: u32,
    checksum_ok: bool,
}

impl Run {
    /// `run`, `marks`: these words. `len`: bytes of the packet, which fit its receive buffer. `None` for what cannot be.
    #[inline(always)]
    fn check(tag: u16, run: u32, marks: u32, len: u32, tags: &TagTable) -> Option<Run> {
        let &Hot { size, generation } = tags.hot().get(usize::from(tag))?;
        let (cclen, hlen) = (run >> 16, run & 0xffff);
        // Both have 16 bits, so their sum does not overflow. A tag without a buffer has no bytes.
        let hole_end = hlen + cclen;
        if is_in_headers(hlen, marks) || hole_end > len || cclen.wrapping_sub(1) >= size {
            return None;
        }
        let below = u64::from(size - cclen) + 1;
        Some(Run { tag, generation, below, hole: hlen, hole_end, checksum_ok: checksums_ok(marks) })
    }

    /// Bytes.
    #[inline(always)]
    fn len(&self) -> u32 {
        self.hole_end - self.hole
    }

    /// The run at offset `ccoff`, if that is inside of the buffer.
    #[inline(always)]
    fn at(&self, ccoff: u32) -> Option<Placed> {
        let placed = Placed { tag: self.tag, generation: self.generation, offset: ccoff };
        (u64::from(ccoff) < self.below).then_some(placed)
    }

    /// The packet, whose length is that which the run was checked with.
    #[inline(always)]
    fn frame(&self, arrival: Arrival, placed: Placed, flow_tag: u32) -> Frame {
        let frame = arrival.into_frame().with_hole(self.hole, self.hole_end, placed);
        frame.with_queue(flow_tag).with_checksum_ok(self.checksum_ok)
    }
}

/// All that an entry says of its packet but for the run's offset, the flow tag and the work request: words as they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    run: [u8; 4],
    tag: [u8; 4],
    marks: [u8; 4],
    bytes: [u8; 4],
    flags: u8,
}

/// Packets of one queue in a row, each in the middle of a read that goes well. Most of them say what the one before said, and
/// what was true of that need not be looked at again.
#[derive(Debug)]
pub(super) struct Series<'a> {
    flow_tag: u32,
    /// Digests are checked by the device.
    digest: bool,
    /// Bytes of a receive buffer.
    capacity: u32,
    /// As long as this is borrowed no tag changes its meaning.
    tags: &'a TagTable,
    /// The last claim that was checked, and what it came to.
    claim: Claim,
    run: Run,
    /// Bytes of the packet.
    len: u32,
}

impl<'a> Series<'a> {
    pub(super) fn new(flow_tag: u32, digest: bool, capacity: u32, tags: &'a TagTable) -> Series<'a> {
        let none = [0; 4];
        // Should an entry claim just this, its run fits nowhere.
        let claim = Claim { run: none, tag: none, marks: none, bytes: none, flags: 0 };
        let run = Run { tag: 0, generation: 0, below: 0, hole: 0, hole_end: 0, checksum_ok: false };
        Series { flow_tag, digest, capacity, tags, claim, run, len: 0 }
    }

    /// The packet of an entry with the queue's flow tag, in `buffer`, and its run's length; the buffer if the packet is
    /// anything but the middle of a read that goes well.
    #[inline(always)]
    pub(super) fn next(&mut self, entry: &Polled<'_, OffloadCqe>, buffer: RxBuffer) -> Result<(Frame, u32), RxBuffer> {
        let claim = Claim {
            run: entry.word(RUN),
            tag: entry.word(OffloadCqe::CCID),
            marks: entry.word(MARKS),
            bytes: entry.base_word(BYTE_COUNT),
            flags: entry.field(FLAGS) as u8,
        };
        if claim != self.claim && !self.check(claim) {
            return Err(buffer);
        }
        let run = &self.run;
        let Some(placed) = run.at(entry.field(OffloadCqe::CCOFF_OR_RESYNC_TCP_SN)) else { return Err(buffer) };
        let frame = run.frame(Arrival::new(buffer, self.len), placed, self.flow_tag);
        Ok((frame.with_digest_ok(self.digest), run.len()))
    }

    /// False if a claim cannot be true or is of another kind; otherwise it is the last one from now on.
    // A call, so that what is compared with each entry stays in memory, and registers are for what changes.
    #[inline(never)]
    fn check(&mut self, claim: Claim) -> bool {
        let len = u32::from_be_bytes(claim.bytes);
        if !Flags(claim.flags).is_usual(self.digest) || len.wrapping_sub(1) >= self.capacity {
            return false;
        }
        let ([high, low, ..], run, marks) = (claim.tag, u32::from_be_bytes(claim.run), u32::from_be_bytes(claim.marks));
        match Run::check(u16::from_be_bytes([high, low]), run, marks, len, self.tags) {
            Some(run) => {
                (self.claim, self.run, self.len) = (claim, run, len);
                true
            }
            None => false,
        }
    }
}

/// True if `hlen` bytes are less than the shortest headers of a packet.
#[inline(always)]
fn is_in_headers(hlen: u32, marks: u32) -> bool {
    hlen < MIN_HEADERS || (marks & L3_TYPE_IPV6 != 0 && is_in_headers_ipv6(hlen))
}

/// A call, so that a packet over IPv4 pays one branch for the question.
#[cold]
#[inline(never)]
fn is_in_headers_ipv6(hlen: u32) -> bool {
    hlen < MIN_HEADERS + IPV6_EXTRA
}

/// What is wrong with a placed run in a packet of `bytes`. The entry is looked at again; if the device has changed it
/// meanwhile, one reason is as good as another.
#[cold]
#[inline(never)]
fn why_not<E: CqeFields<OffloadCqe>>(entry: &E, tags: &TagTable) -> Rejection {
    let tag = entry.field(OffloadCqe::CCID) as usize;
    let size = match tags.hot().get(tag) {
        Some(hot) => hot.size,
        None if tag < tags.depth() as usize => 0,
        None => return Rejection::TagOutOfRange,
    };
    let (cclen, hlen) = (entry.field(OffloadCqe::CCLEN), entry.field(OffloadCqe::HLEN));
    let end = u64::from(entry.field(OffloadCqe::CCOFF_OR_RESYNC_TCP_SN)) + u64::from(cclen);
    if size == 0 {
        Rejection::TagNotBound
    } else if cclen == 0 {
        Rejection::EmptyRun
    } else if end > u64::from(size) {
        Rejection::RunBeyondBuffer
    } else if is_in_headers(hlen, entry.field(MARKS)) {
        Rejection::RunInHeaders
    } else {
        Rejection::RunBeyondPacket
    }
}

/// The plain half of an entry.
pub fn base(entry: &OffloadCqe) -> Cqe64 {
    Cqe64::from_prefix(&entry.0[64..])
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | reference vector G means what the reference says | `vector_g` |
    //! | no entry, garbage included, makes a panic, and what is accepted is in bounds | `garbage_is_refused_or_in_bounds` |
    //! | each bound is where it should be, and names its own reason | `each_bound_has_its_reason` |
    //! | a resync request delivers the whole packet without digest credit, whatever the other flags | `a_resync_request_keeps_the_packet_whole` |
    //! | the receive buffer comes out of every path | `garbage_is_refused_or_in_bounds` |
    use super::super::fixture::{heap, io};
    use super::super::icosq::BindPosted;
    use super::*;
    use crate::frame::Range;
    use hw_regs::layout::Access;
    use proptest::prelude::*;

    const CAPACITY: u32 = 2048;

    /// A table of depth 4 whose tag 1 is bound to 8192 bytes, tag 2 pinned to as many.
    fn tags() -> TagTable {
        let heap = heap();
        let mut tags = TagTable::new(4);
        tags.pin(1, io(&heap, &[5000, 3192])).expect("free");
        tags.bind(BindPosted::for_test(1)).expect("pinned");
        tags.pin(2, io(&heap, &[8192])).expect("free");
        tags
    }

    fn vector() -> OffloadCqe {
        let mut entry = [0; 128];
        let words = [
            (0x00, 0x058c005au32),
            (0x04, 0x00000b18),
            (0x08, 0x00010000),
            (0x40, 0x00300000),
            (0x6c, 0x000105ea),
            (0x78, 0x00000005),
            (0x7c, 0x00090021),
        ];
        for (at, word) in words {
            entry[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        OffloadCqe(entry)
    }

    /// Vector G for a cyclic receive queue, whose byte count has all 32 bits; `length` bytes.
    fn claim(tag: u32, ccoff: u32, cclen: u32, hlen: u32, length: u32) -> OffloadCqe {
        vector()
            .with(OffloadCqe::CCID, tag)
            .with(OffloadCqe::CCOFF_OR_RESYNC_TCP_SN, ccoff)
            .with(OffloadCqe::CCLEN, cclen)
            .with(OffloadCqe::HLEN, hlen)
            .with(OffloadCqe::CQE64_BYTE_CNT_FILLER_CONSUMED_STRIDES, length >> 16)
            .with(OffloadCqe::CQE64_BYTE_CNT_BYTES, length & 0xffff)
    }

    fn refused(entry: &OffloadCqe) -> Rejection {
        let rejected = rebuild(entry, RxBuffer(7), CAPACITY, &tags()).expect_err("a false claim");
        assert_eq!(rejected.buffer, RxBuffer(7));
        rejected.why
    }

    #[test]
    fn vector_g() {
        let entry = vector();
        assert!(Flags::of(&entry).any());
        assert_eq!(flow_tag(&entry), 5);
        assert_eq!(base(&entry).get(Cqe64::WQE_COUNTER), 9);
        // The vector is of a striding queue: 1 stride consumed, 1514 bytes.
        assert_eq!(entry.get(OffloadCqe::CQE64_BYTE_CNT_FILLER_CONSUMED_STRIDES), 1);
        assert_eq!(entry.get(OffloadCqe::CQE64_BYTE_CNT_BYTES), 1514);
        assert_eq!(refused(&entry), Rejection::Length, "which a cyclic queue reads as 67,050 bytes");
        let entry = claim(1, 2840, 1420, 90, 1514);
        let rebuilt = rebuild(&entry, RxBuffer(7), CAPACITY, &tags()).expect("a true claim");
        assert_eq!(rebuilt.resync, None);
        let frame = rebuilt.frame;
        assert_eq!((frame.len(), frame.queue(), frame.digest_ok(), frame.checksum_ok()), (1514, 5, true, false));
        let at = Placed { tag: 1, generation: 0, offset: 2840 };
        let ranges: Vec<_> = frame.ranges().collect();
        assert_eq!(
            ranges,
            [
                Range::Ring { buffer: 7, offset: 0, len: 90 },
                Range::Placed { at, len: 1420 },
                Range::Ring { buffer: 7, offset: 1510, len: 4 },
            ]
        );
        let RxBuffer(7) = frame.into_buffer() else { panic!("another buffer") };
    }

    #[test]
    fn each_bound_has_its_reason() {
        let accepted = |entry: &OffloadCqe| {
            let frame = rebuild(entry, RxBuffer(7), CAPACITY, &tags()).expect("at the bound").frame;
            assert_eq!(frame.into_buffer(), RxBuffer(7));
        };
        let ipv6 = |entry: OffloadCqe| entry.with(OffloadCqe::CQE64_L4_L3_HDR_TYPE, 0x44);
        accepted(&claim(1, 0, 1, 54, 55));
        assert_eq!(refused(&claim(1, 0, 1, 53, 55)), Rejection::RunInHeaders);
        accepted(&ipv6(claim(1, 0, 1, 74, 75)));
        assert_eq!(refused(&ipv6(claim(1, 0, 1, 73, 75))), Rejection::RunInHeaders);
        accepted(&claim(1, 8191, 1, 54, 55));
        assert_eq!(refused(&claim(1, 8192, 1, 54, 55)), Rejection::RunBeyondBuffer);
        assert_eq!(refused(&claim(1, 8191, 2, 54, 56)), Rejection::RunBeyondBuffer);
        assert_eq!(refused(&claim(1, u32::MAX, 2, 54, 56)), Rejection::RunBeyondBuffer, "no 32-bit wrap");
        accepted(&claim(1, 0, 1460, 54, 1514));
        assert_eq!(refused(&claim(1, 0, 1461, 54, 1514)), Rejection::RunBeyondPacket);
        assert_eq!(refused(&claim(1, 0, 1400, 1000, 1514)), Rejection::RunBeyondPacket);
        accepted(&claim(1, 0, 100, 54, CAPACITY));
        assert_eq!(refused(&claim(1, 0, 100, 54, CAPACITY + 1)), Rejection::Length);
        assert_eq!(refused(&claim(1, 0, 100, 54, 0x8000_0000 | 1514)), Rejection::Length);
        assert_eq!(refused(&claim(1, 0, 0, 54, 1514)), Rejection::EmptyRun);
        assert_eq!(refused(&claim(4, 0, 1, 54, 55)), Rejection::TagOutOfRange);
        assert_eq!(refused(&claim(0xffff, 0, 1, 54, 55)), Rejection::TagOutOfRange);
        assert_eq!(refused(&claim(0, 0, 1, 54, 55)), Rejection::TagNotBound, "free");
        assert_eq!(refused(&claim(2, 0, 1, 54, 55)), Rejection::TagNotBound, "pinned is not bound");
        let both = claim(1, 0, 1, 54, 55).with(OffloadCqe::CQE64_B1_NVMEOTCP_RESYNC, 1);
        assert_eq!(refused(&both), Rejection::ResyncAndPlaced);
        for (length, good) in [(0, false), (1, true), (CAPACITY, true), (CAPACITY + 1, false), (u32::MAX, false)] {
            let entry = claim(0, 0, 0, 0, length).with(OffloadCqe::CQE64_B1_NVMEOTCP_ZC, 0);
            assert_eq!(rebuild(&entry, RxBuffer(7), CAPACITY, &tags()).is_ok(), good, "{length}");
        }
    }

    #[test]
    fn a_resync_request_keeps_the_packet_whole() {
        let entry = claim(1, 0xfedc_ba98, 1420, 90, 1514)
            .with(OffloadCqe::CQE64_B1_NVMEOTCP_ZC, 0)
            .with(OffloadCqe::CQE64_B1_NVMEOTCP_RESYNC, 1);
        let rebuilt = rebuild(&entry, RxBuffer(7), CAPACITY, &tags()).expect("a request");
        assert_eq!(rebuilt.resync, Some(0xfedc_ba98));
        assert_eq!((rebuilt.frame.len(), rebuilt.frame.placed_len()), (1514, 0));
        assert!(!rebuilt.frame.digest_ok());
        let _ = rebuilt.frame.into_buffer();
    }

    /// Random bytes, with the numbers that matter near their bounds half of the time.
    fn entries() -> impl Strategy<Value = OffloadCqe> {
        let bytes = prop::collection::vec(any::<u8>(), 128);
        let near = (0u32..6, prop_oneof![0u32..9000, any::<u32>()], 0u32..2100, 40u32..120, 0u32..2200);
        (bytes, prop::option::of(near), 0u32..8).prop_map(|(bytes, near, flags)| {
            let mut entry = OffloadCqe::from_prefix(&bytes);
            if let Some((tag, ccoff, cclen, hlen, length)) = near {
                entry.set(OffloadCqe::CCID, tag);
                entry.set(OffloadCqe::CCOFF_OR_RESYNC_TCP_SN, ccoff);
                entry.set(OffloadCqe::CCLEN, cclen);
                entry.set(OffloadCqe::HLEN, hlen);
                entry.set(OffloadCqe::CQE64_BYTE_CNT_FILLER_CONSUMED_STRIDES, 0);
                entry.set(OffloadCqe::CQE64_BYTE_CNT_BYTES, length);
                entry.set(FLAGS, flags << 4);
            }
            entry
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn garbage_is_refused_or_in_bounds(entry in entries()) {
            let tags = tags();
            match rebuild(&entry, RxBuffer(3), CAPACITY, &tags) {
                Err(rejected) => prop_assert_eq!(rejected.buffer, RxBuffer(3)),
                Ok(Rebuilt { frame, resync }) => {
                    let length = frame.len();
                    prop_assert!(length > 0 && length <= CAPACITY);
                    prop_assert_eq!(frame.ranges().map(|r| r.len()).sum::<u32>(), length);
                    prop_assert_eq!(frame.queue(), entry.get(OffloadCqe::CQE64_FLOW_TAG));
                    for range in frame.ranges() {
                        match range {
                            Range::Ring { buffer, offset, len } => {
                                prop_assert_eq!(buffer, 3);
                                prop_assert!(offset + len <= CAPACITY);
                            }
                            Range::Placed { at, len } => {
                                prop_assert!(resync.is_none());
                                let buffer = tags.placed_in(at).expect("bound");
                                prop_assert_eq!(at.tag, 1);
                                prop_assert!(at.offset as usize + len as usize <= buffer.len());
                            }
                        }
                    }
                    prop_assert_eq!(frame.into_buffer(), RxBuffer(3));
                }
            }
        }
    }
}
