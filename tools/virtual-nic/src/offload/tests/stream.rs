//! A stream that is made PDU by PDU, and every byte of which remembers what it is. What must happen to it follows from
//! that, byte by byte, and not from parsing it: cut into packets, the bytes of a packet say which runs of payload it has,
//! which of them could be placed, and whether a wrong digest ends in it.
//!
//! Data may contain decoys: bytes that look like a header, as a file has them that was captured on a network. Apart from
//! headers and decoys no place in a stream looks like a header whose PLEN is at most [`LONGEST`]: payload is odd, HLEN is
//! even, and what a digest could look like continues with a larger PLEN.

use super::{Pattern, Run, WhichRun};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Tags of the table in these tests.
pub(super) const TAGS: u16 = 6;

/// Largest PLEN that a test lets the search believe.
pub(super) const LONGEST: u32 = 60_000;

/// A PDU to be sent.
#[derive(Clone, Debug)]
pub(super) enum Pdu {
    /// C2HData.
    Data {
        cid: u16,
        offset: u32,
        len: u32,
        /// Bytes between header and data.
        padding: u8,
        good_digest: bool,
        /// What in the data looks like a header, if there is room.
        decoy: Option<Decoy>,
    },
    /// A PDU without data for a buffer: its type, and bytes beyond its header.
    Other { kind: u8, more: u8 },
}

/// Something in the data that looks like the header of C2HData.
#[derive(Clone, Debug)]
pub(super) struct Decoy {
    /// Where in the data.
    at: u32,
    /// Bytes of data of the PDU that it pretends to be; `None`: up to the end of the PDU that it is in, so that a true
    /// header follows.
    len: Option<u32>,
    /// The pattern that it deceives, and those before.
    deceives: Pattern,
}

/// Options of the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digests {
    pub(super) header: bool,
    pub(super) data: bool,
}

/// What one byte of the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Byte {
    /// Header digests, padding, what follows the part of a header that matters.
    Plain,
    /// The part of a header that must be seen to follow the PDU: all of C2HData's, the common header of others.
    Header,
    /// The last byte of that part.
    HeaderEnd,
    /// Data of the PDU with this number, for this place in the buffer of a command.
    Data { pdu: usize, cid: u16, offset: u32 },
    /// A data digest, but for its last byte.
    Digest,
    /// The last byte of a data digest that is wrong.
    WrongDigest,
    /// The last byte of a data digest that is right.
    RightDigest,
}

/// A place that looks like a header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) plen: u32,
    /// Bytes that tell all that the type has to tell, without digest.
    pub(super) header: usize,
    /// The same with the header digest, if there is one.
    with_digest: usize,
    /// A PDU does begin here.
    pub(super) real: bool,
    /// The last pattern that takes it for a header, and after how many bytes the next can tell that it is none.
    deceives: Pattern,
    refused_after: usize,
}

impl Place {
    /// How many bytes it takes to tell whether this is a header, and whether it is, by a pattern.
    pub(super) fn judged(&self, pattern: Pattern) -> (usize, bool) {
        if self.deceives < pattern {
            return (self.refused_after, false);
        }
        (if pattern == Pattern::HeaderDigest { self.with_digest } else { self.header }, true)
    }
}

/// A stream of PDUs.
#[derive(Default)]
pub(super) struct Stream {
    pub(super) bytes: Vec<u8>,
    pub(super) what: Vec<Byte>,
    /// What looks like a header, by position.
    pub(super) places: BTreeMap<usize, Place>,
    pdus: usize,
}

/// CRC32C by the bit, as it is defined (RFC 3720 appendix B.4): reflected polynomial 0x82f63b78.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 != 0 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

/// Byte `offset` of the buffer of command `cid` as PDU number `pdu` sends it: never what lies there before.
fn payload(pdu: usize, cid: u16, offset: u32) -> u8 {
    let mixed = (offset ^ u32::from(cid) << 20 ^ (pdu as u32) << 12).wrapping_mul(0x9e37_79b1);
    (mixed >> 24) as u8 | 1
}

/// The header of a C2HData PDU with its digest.
fn data_header(cid: u16, offset: u32, len: u32, padding: u8, digests: Digests) -> Vec<u8> {
    let pdo = 24 + if digests.header { 4 } else { 0 } + u32::from(padding);
    let plen = pdo + len + if digests.data { 4 } else { 0 };
    let flags = u8::from(digests.header) | u8::from(digests.data) << 1 | 1 << 2;
    let mut header = vec![0x07, flags, 24, pdo as u8];
    header.extend(plen.to_le_bytes());
    header.extend(cid.to_le_bytes());
    header.extend([0, 0]);
    header.extend(offset.to_le_bytes());
    header.extend(len.to_le_bytes());
    header.extend([0; 4]);
    if digests.header {
        let digest = crc32c(&header);
        header.extend(digest.to_le_bytes());
    }
    header
}

impl Stream {
    pub(super) fn push(&mut self, pdu: &Pdu, digests: Digests) {
        let number = self.pdus;
        self.pdus += 1;
        let from = self.bytes.len();
        let mut place = Place {
            plen: 0,
            header: 8,
            with_digest: if digests.header { 28 } else { 8 },
            real: true,
            deceives: Pattern::HeaderDigest,
            refused_after: 8,
        };
        match *pdu {
            Pdu::Data { cid, offset, len, padding, good_digest, ref decoy } => {
                place.header = 24;
                place.with_digest = place.with_digest.max(24);
                self.bytes.extend(data_header(cid, offset, len, padding, digests));
                self.bytes.extend(std::iter::repeat_n(0x77, padding.into()));
                self.mark(from, 24);
                let start = self.bytes.len();
                let mut data: Vec<u8> = (0..len).map(|i| payload(number, cid, offset + i)).collect();
                if let Some(decoy) = decoy {
                    self.deceive(decoy, start, &mut data, digests);
                }
                self.what.extend((0..len).map(|i| Byte::Data { pdu: number, cid, offset: offset + i }));
                self.bytes.extend(&data);
                if digests.data {
                    let crc = crc32c(&data) ^ if good_digest { 0 } else { 1 << (len % 32) };
                    self.bytes.extend(crc.to_le_bytes());
                    self.what.extend([Byte::Digest; 3]);
                    self.what.push(if good_digest { Byte::RightDigest } else { Byte::WrongDigest });
                }
            }
            Pdu::Other { kind, more } => {
                let hlen: u8 = if kind == 0x01 { 128 } else { 24 };
                let header_only = matches!(kind, 0x05 | 0x09);
                let digest = if header_only && digests.header { 4 } else { 0 };
                let plen = u32::from(hlen) + digest + u32::from(more);
                self.bytes.extend([kind, 0, hlen, 0]);
                self.bytes.extend(plen.to_le_bytes());
                // What would be a C2HData header if anyone mistook it for one.
                self.bytes.extend(std::iter::repeat_n(0x07, usize::from(hlen) - 8));
                if digest > 0 {
                    let crc = crc32c(&self.bytes[from..]);
                    self.bytes.extend(crc.to_le_bytes());
                }
                self.bytes.extend(std::iter::repeat_n(0x07, more.into()));
                self.mark(from, 8);
                if digest == 0 {
                    place.with_digest = 8;
                }
                if more > if kind == 0x03 { 128 } else { 0 } {
                    place.deceives = Pattern::TypeAndLength;
                }
            }
        }
        place.plen = (self.bytes.len() - from) as u32;
        self.places.insert(from, place);
    }

    /// The bytes so far are plain, apart from the part of the header at `from` that matters.
    fn mark(&mut self, from: usize, header: usize) {
        self.what.resize(from + header - 1, Byte::Header);
        self.what.push(Byte::HeaderEnd);
        self.what.resize(self.bytes.len(), Byte::Plain);
    }

    /// Writes a decoy into data that will lie at `start`.
    fn deceive(&mut self, decoy: &Decoy, start: usize, data: &mut [u8], digests: Digests) {
        let room = data.len() - (decoy.at as usize).min(data.len());
        let overhead = 24 + if digests.header { 4 } else { 0 };
        let Some(rest) = room.checked_sub(overhead + 1) else { return };
        let mut header = data_header(0, 0, decoy.len.unwrap_or(rest as u32 + 1), 0, digests);
        let plen = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        match decoy.deceives {
            Pattern::TypeAndLength => header[16] ^= 1,
            Pattern::Lengths if digests.header => header[24] ^= 1,
            _ => {}
        }
        let deceives = match decoy.deceives {
            Pattern::Lengths if !digests.header => Pattern::HeaderDigest,
            pattern => pattern,
        };
        data[decoy.at as usize..][..header.len()].copy_from_slice(&header);
        let refused_after = if deceives == Pattern::TypeAndLength { 24 } else { 28 };
        let with_digest = overhead;
        let place = Place { plen, header: 24, with_digest, real: false, deceives, refused_after };
        self.places.insert(start + decoy.at as usize, place);
    }

    /// PDUs so far.
    pub(super) fn pdus(&self) -> u64 {
        self.pdus as u64
    }

    /// Data digests in all of it: right ones and wrong ones.
    pub(super) fn digests(&self) -> (u64, u64) {
        let count = |kind| self.what.iter().filter(|what| **what == kind).count() as u64;
        (count(Byte::RightDigest), count(Byte::WrongDigest))
    }

    /// The runs of data of the packet that carries `[from, to)` (`hole` counted from `from`), with the PDU of each.
    pub(super) fn runs(&self, from: usize, to: usize) -> Vec<(usize, Run)> {
        let mut runs: Vec<(usize, Run)> = Vec::new();
        for (at, what) in self.what[from..to].iter().enumerate() {
            let Byte::Data { pdu, cid, offset } = *what else { continue };
            match runs.last_mut() {
                Some((last, run)) if *last == pdu => run.len += 1,
                _ => runs.push((pdu, Run { hole: at as u32, len: 1, ccid: cid, ccoff: offset })),
            }
        }
        runs
    }

    /// The run that must be placed of the packet that carries `[from, to)`, in order, and whether no wrong digest ends in
    /// it. `fits` tells if bytes of a command's buffer can be placed.
    pub(super) fn expect(
        &self,
        from: usize,
        to: usize,
        which: WhichRun,
        fits: impl Fn(&Run) -> bool,
    ) -> (Option<Run>, bool) {
        let runs = self.runs(from, to).into_iter().map(|(_, run)| run).filter(|run| fits(run));
        (choose(runs, which), !self.what[from..to].contains(&Byte::WrongDigest))
    }
}

/// The run that the rule takes of those that can be placed.
pub(super) fn choose(runs: impl Iterator<Item = Run>, which: WhichRun) -> Option<Run> {
    let runs: Vec<Run> = runs.collect();
    match which {
        WhichRun::First => runs.first().copied(),
        WhichRun::Last => runs.last().copied(),
        WhichRun::Longest => {
            let most = runs.iter().map(|run| run.len).max();
            runs.iter().find(|run| Some(run.len) == most).copied()
        }
    }
}

fn decoy() -> impl Strategy<Value = Decoy> {
    let deceives = prop_oneof![Just(Pattern::TypeAndLength), Just(Pattern::Lengths), Just(Pattern::HeaderDigest)];
    (0u32..2000, proptest::option::of(1u32..3000), deceives).prop_map(|(at, len, deceives)| Decoy { at, len, deceives })
}

/// Any PDU: mostly data, for commands inside and outside the table.
pub(super) fn pdu(longest: u32) -> impl Strategy<Value = Pdu> {
    let length = prop_oneof![1u32..40, 1u32..longest, Just(longest)];
    let data = (0u16..TAGS + 3, 0u32..4000, length, prop_oneof![Just(0u8), 0u8..100], prop::bool::weighted(0.8));
    let data = (data, proptest::option::weighted(0.3, decoy())).prop_map(
        |((cid, offset, len, padding, good_digest), decoy)| Pdu::Data {
            // One far outside any table.
            cid: if cid == TAGS + 2 { 0xfff0 } else { cid },
            offset,
            len,
            padding,
            good_digest,
            decoy,
        },
    );
    let more = prop_oneof![Just(0u8), any::<u8>()];
    let other = (prop_oneof![Just(0x05u8), Just(0x09), Just(0x03), Just(0x01)], more)
        .prop_map(|(kind, more)| Pdu::Other { kind, more });
    prop_oneof![4 => data, 1 => other]
}
