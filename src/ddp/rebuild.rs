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
use crate::frame::{Frame, Placed, RxBuffer};
use hw_regs::cqe::{Cqe64, OffloadCqe};
use hw_regs::layout::{Access, Layout};
use std::fmt;

/// Bits of byte 1 of the 64-byte entry, byte 65 of the whole (§5).
const ZERO_COPY: u8 = 0x10;
const DIGEST_OK: u8 = 0x20;
const RESYNC: u8 = 0x40;
const FLAGS: u8 = ZERO_COPY | DIGEST_OK | RESYNC;
const FLAGS_BYTE: usize = 65;
/// Bits of `hds_ip_ext`: checksums of the L3 and L4 headers found right.
const CHECKSUMS_OK: u8 = 0x6;
const CHECKSUMS_BYTE: usize = 64 + 28;
/// `l4_l3_hdr_type`, and the bit of its `l3_hdr_type` that is set for IPv6 (1) and clear for IPv4 (2).
const L3_TYPE_BYTE: usize = 64 + 29;
const L3_TYPE_IPV6: u8 = 0x4;
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
            Rejection::NoQueue => "no_queue",
            Rejection::Length => "length",
            Rejection::ResyncAndPlaced => "resync_and_placed",
            Rejection::TagOutOfRange => "tag_out_of_range",
            Rejection::TagNotBound => "tag_not_bound",
            Rejection::EmptyRun => "empty_run",
            Rejection::RunBeyondBuffer => "run_beyond_buffer",
            Rejection::RunInHeaders => "run_in_headers",
            Rejection::RunBeyondPacket => "run_beyond_packet",
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

/// True if the entry says anything about the offload; others are ordinary packets whose first half means nothing.
#[inline(always)]
pub fn is_flagged(entry: &OffloadCqe) -> bool {
    entry.0[FLAGS_BYTE] & FLAGS != 0
}

/// Flow tag that the steering rule put on the packet: the queue's number, 0 for none.
#[inline(always)]
pub fn flow_tag(entry: &OffloadCqe) -> u32 {
    entry.get(OffloadCqe::CQE64_FLOW_TAG)
}

/// Bytes of the whole packet. Receive queues of the driver are cyclic, where all 32 bits count (§5).
#[inline(always)]
fn byte_count(entry: &OffloadCqe) -> u32 {
    const AT: usize = 64 + 44;
    u32::from_be_bytes([entry.0[AT], entry.0[AT + 1], entry.0[AT + 2], entry.0[AT + 3]])
}

#[inline(always)]
fn checksums_ok(entry: &OffloadCqe) -> bool {
    entry.0[CHECKSUMS_BYTE] & CHECKSUMS_OK == CHECKSUMS_OK
}

/// An ordinary packet: all of it is in the receive buffer of `capacity` bytes.
#[inline(always)]
pub fn plain(entry: &OffloadCqe, buffer: RxBuffer, capacity: u32) -> Result<Frame, Rejected> {
    let bytes = byte_count(entry);
    // One comparison for "0" and "too long".
    if bytes.wrapping_sub(1) >= capacity {
        return Err(refuse(buffer, Rejection::Length));
    }
    Ok(Frame::new(buffer, bytes).with_queue(flow_tag(entry)).with_checksum_ok(checksums_ok(entry)))
}

#[cold]
pub(super) fn refuse(buffer: RxBuffer, why: Rejection) -> Rejected {
    Rejected { buffer, why }
}

/// A packet of an offload queue, whose tags are `tags`, in a receive buffer of `capacity` bytes.
///
/// The frame's digest mark is the device's claim; whether it is to be believed (digests negotiated, no resync just before)
/// is the queue's business.
#[inline]
pub fn rebuild(entry: &OffloadCqe, buffer: RxBuffer, capacity: u32, tags: &TagTable) -> Result<Rebuilt, Rejected> {
    let flags = flags(entry);
    let frame = match flags {
        Flags { resync: true, .. } => return resync(entry, buffer, capacity),
        Flags { placed: true, .. } => placed(entry, buffer, capacity, tags)?.0,
        _ => plain(entry, buffer, capacity)?,
    };
    Ok(Rebuilt { frame: frame.with_digest_ok(flags.digest_ok), resync: None })
}

/// What an entry claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags {
    pub placed: bool,
    pub digest_ok: bool,
    pub resync: bool,
}

#[inline(always)]
pub(super) fn flags(entry: &OffloadCqe) -> Flags {
    let byte = entry.0[FLAGS_BYTE];
    Flags { placed: byte & ZERO_COPY != 0, digest_ok: byte & DIGEST_OK != 0, resync: byte & RESYNC != 0 }
}

/// A packet with a resync request: it is complete in the receive buffer, and nothing is said about its digests.
#[cold]
pub(super) fn resync(entry: &OffloadCqe, buffer: RxBuffer, capacity: u32) -> Result<Rebuilt, Rejected> {
    if flags(entry).placed {
        return Err(refuse(buffer, Rejection::ResyncAndPlaced));
    }
    let frame = plain(entry, buffer, capacity)?;
    Ok(Rebuilt { frame, resync: Some(entry.get(OffloadCqe::CCOFF_OR_RESYNC_TCP_SN)) })
}

/// A packet of which a run was placed, and the run's length.
#[inline(always)]
pub(super) fn placed(
    entry: &OffloadCqe,
    buffer: RxBuffer,
    capacity: u32,
    tags: &TagTable,
) -> Result<(Frame, u32), Rejected> {
    let tag = entry.get(OffloadCqe::CCID) as u16;
    let (cclen, hlen) = (entry.get(OffloadCqe::CCLEN), entry.get(OffloadCqe::HLEN));
    let ccoff = entry.get(OffloadCqe::CCOFF_OR_RESYNC_TCP_SN);
    let bytes = byte_count(entry);
    let Some(&Hot { size, generation }) = tags.hot().get(usize::from(tag)) else {
        return Err(refuse(buffer, Rejection::TagOutOfRange));
    };
    let ipv6 = u32::from(entry.0[L3_TYPE_BYTE] & L3_TYPE_IPV6 != 0);
    let headers = MIN_HEADERS + IPV6_EXTRA * ipv6;
    // `hlen` and `cclen` have 16 bits, so their sum does not overflow; `ccoff` has 32, hence the wider sum. A run of no
    // bytes wraps to the largest number and so ends beyond every buffer.
    let last = u64::from(ccoff) + u64::from(cclen.wrapping_sub(1));
    if last >= u64::from(size) || hlen < headers || hlen + cclen > bytes || bytes > capacity {
        return Err(refuse(buffer, reason([cclen, hlen, ccoff, bytes], [size, headers, capacity])));
    }
    let placed = Placed { tag, generation, offset: ccoff };
    let frame = Frame::new(buffer, bytes)
        .with_placed(hlen, cclen, placed)
        .with_queue(flow_tag(entry))
        .with_checksum_ok(checksums_ok(entry));
    Ok((frame, cclen))
}

#[cold]
fn reason([cclen, hlen, ccoff, bytes]: [u32; 4], [size, headers, capacity]: [u32; 3]) -> Rejection {
    if bytes > capacity {
        Rejection::Length
    } else if size == 0 {
        Rejection::TagNotBound
    } else if cclen == 0 {
        Rejection::EmptyRun
    } else if u64::from(ccoff) + u64::from(cclen) > u64::from(size) {
        Rejection::RunBeyondBuffer
    } else if hlen < headers {
        Rejection::RunInHeaders
    } else {
        debug_assert!(hlen + cclen > bytes);
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
        assert!(is_flagged(&entry));
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
                entry.0[FLAGS_BYTE] = (flags as u8) << 4;
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
