//! What must happen to a stream, computed from how the stream was made, byte by byte, and not from parsing it.
//!
//! A stream is made PDU by PDU, and every byte remembers what it is. Cut into packets, the bytes of a packet say which
//! runs of payload it has, which of them could be placed, and whether a wrong digest ends in it.

use super::{Run, WhichRun};
use proptest::prelude::*;

/// Tags of the table in these tests.
pub(super) const TAGS: u16 = 6;

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
    },
    /// A PDU without data for a buffer: its type, and bytes beyond its header.
    Other { kind: u8, more: u8 },
}

/// Options of the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digests {
    pub(super) header: bool,
    pub(super) data: bool,
}

/// What one byte of the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Byte {
    /// Headers, digests, padding.
    Plain,
    /// Data of the PDU with this number, for this place in the buffer of a command.
    Data { pdu: usize, cid: u16, offset: u32 },
    /// The last byte of a data digest that is wrong.
    WrongDigest,
    /// The last byte of a data digest that is right.
    RightDigest,
}

/// A stream of PDUs.
#[derive(Default)]
pub(super) struct Stream {
    pub(super) bytes: Vec<u8>,
    what: Vec<Byte>,
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

impl Stream {
    pub(super) fn push(&mut self, pdu: &Pdu, digests: Digests) {
        let number = self.pdus;
        self.pdus += 1;
        let from = self.bytes.len();
        let hdgst: &[u8] = if digests.header { &[0xaa; 4] } else { &[] };
        match *pdu {
            Pdu::Data { cid, offset, len, padding, good_digest } => {
                let pdo = 24 + hdgst.len() as u32 + u32::from(padding);
                let trailer = if digests.data { 4 } else { 0 };
                let plen = pdo + len + trailer;
                let flags = u8::from(digests.header) | u8::from(digests.data) << 1 | 1 << 2;
                self.bytes.extend([0x07, flags, 24, pdo as u8]);
                self.bytes.extend(plen.to_le_bytes());
                self.bytes.extend(cid.to_le_bytes());
                self.bytes.extend([0, 0]);
                self.bytes.extend(offset.to_le_bytes());
                self.bytes.extend(len.to_le_bytes());
                self.bytes.extend([0; 4]);
                self.bytes.extend(hdgst);
                self.bytes.extend(std::iter::repeat_n(0x77, padding.into()));
                self.what.resize(self.bytes.len(), Byte::Plain);
                let data: Vec<u8> = (0..len).map(|i| payload(number, cid, offset + i)).collect();
                self.what.extend((0..len).map(|i| Byte::Data { pdu: number, cid, offset: offset + i }));
                self.bytes.extend(&data);
                if digests.data {
                    let crc = crc32c(&data) ^ if good_digest { 0 } else { 1 << (len % 32) };
                    self.bytes.extend(crc.to_le_bytes());
                    self.what.extend([Byte::Plain; 3]);
                    self.what.push(if good_digest { Byte::RightDigest } else { Byte::WrongDigest });
                }
                assert_eq!(self.bytes.len() - from, plen as usize);
            }
            Pdu::Other { kind, more } => {
                let hlen = if kind == 0x01 { 128 } else { 24 };
                let digest: &[u8] = if matches!(kind, 0x05 | 0x09) { hdgst } else { &[] };
                let plen = hlen as u32 + digest.len() as u32 + u32::from(more);
                self.bytes.extend([kind, 0, hlen, 0]);
                self.bytes.extend(plen.to_le_bytes());
                // What would be a C2HData header if anyone mistook it for one.
                self.bytes.extend(std::iter::repeat_n(0x07, usize::from(hlen) - 8));
                self.bytes.extend(digest);
                self.bytes.extend(std::iter::repeat_n(0x07, more.into()));
            }
        }
        self.what.resize(self.bytes.len(), Byte::Plain);
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

    /// The run that must be placed of the packet that carries `[from, to)` (`hole` counted from `from`), and whether no
    /// wrong digest ends in it. `fits` tells if bytes of a command's buffer can be placed.
    pub(super) fn expect(
        &self,
        from: usize,
        to: usize,
        which: WhichRun,
        fits: impl Fn(u16, u32, u32) -> bool,
    ) -> (Option<Run>, bool) {
        let what = &self.what[from..to];
        let mut runs: Vec<(usize, Run)> = Vec::new();
        for (at, what) in what.iter().enumerate() {
            let Byte::Data { pdu, cid, offset } = *what else { continue };
            match runs.last_mut() {
                Some((last, run)) if *last == pdu => run.len += 1,
                _ => runs.push((pdu, Run { hole: at as u32, len: 1, ccid: cid, ccoff: offset })),
            }
        }
        let mut runs: Vec<Run> = runs.into_iter().map(|(_, run)| run).collect();
        runs.retain(|run| fits(run.ccid, run.ccoff, run.len));
        let chosen = match which {
            WhichRun::First => runs.first(),
            WhichRun::Last => runs.last(),
            WhichRun::Longest => {
                let most = runs.iter().map(|run| run.len).max();
                runs.iter().find(|run| Some(run.len) == most)
            }
        };
        (chosen.copied(), !what.contains(&Byte::WrongDigest))
    }
}

/// Any PDU: mostly data, for commands inside and outside the table.
pub(super) fn pdu(longest: u32) -> impl Strategy<Value = Pdu> {
    let length = prop_oneof![1u32..40, 1u32..longest, Just(longest)];
    let data = (0u16..TAGS + 3, 0u32..4000, length, prop_oneof![Just(0u8), 0u8..100], prop::bool::weighted(0.8));
    let data = data.prop_map(|(cid, offset, len, padding, good_digest)| Pdu::Data {
        // One far outside any table.
        cid: if cid == TAGS + 2 { 0xfff0 } else { cid },
        offset,
        len,
        padding,
        good_digest,
    });
    let other = (prop_oneof![Just(0x05u8), Just(0x09), Just(0x03), Just(0x01)], any::<u8>())
        .prop_map(|(kind, more)| Pdu::Other { kind, more });
    prop_oneof![4 => data, 1 => other]
}
