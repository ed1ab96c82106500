//! TCP segments: the header as a value, parsed from bytes and written into a caller's buffer (RFC 9293 §3.1).
//!
//! The payload is not here: it may lie in a receive buffer, in a reader's destination buffer or in both. A [`Segment`]
//! pairs a [`Header`] with a payload by reference.

use bitflags::bitflags;

/// Bytes of a header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Bytes of the largest header: the data offset counts to 15 words.
pub const MAX_HEADER_LEN: usize = 60;
/// SACK blocks that fit the 40 bytes of options (RFC 2018 §3).
pub const MAX_SACK_BLOCKS: usize = 4;

bitflags! {
    /// Control bits, RFC 9293 §3.1 (CWR and ECE: RFC 3168).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Flags: u8 {
        /// No more data from the sender.
        const FIN = 1 << 0;
        /// Synchronize sequence numbers.
        const SYN = 1 << 1;
        /// Reset the connection.
        const RST = 1 << 2;
        /// Push: no more data is about to come.
        const PSH = 1 << 3;
        /// The acknowledgment field counts.
        const ACK = 1 << 4;
        /// The urgent pointer counts. Received and ignored: nothing that we carry uses it.
        const URG = 1 << 5;
        /// ECN echo. ECN is not negotiated.
        const ECE = 1 << 6;
        /// Congestion window reduced. ECN is not negotiated.
        const CWR = 1 << 7;
    }
}

/// The timestamps option, RFC 7323 §3.2, in ticks of the clock of whoever made each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub value: u32,
    /// TSecr: the receiver's clock, echoed; 0 without ACK.
    pub echo: u32,
}

/// One block of the SACK option: the sequence numbers of its first byte and one past its last (RFC 2018 §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlock {
    /// Left edge.
    pub start: u32,
    /// Right edge.
    pub end: u32,
}

/// The blocks of a SACK option, at most [`MAX_SACK_BLOCKS`], in the order of the wire.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [SackBlock; MAX_SACK_BLOCKS],
    len: u8,
}

impl SackBlocks {
    /// Adds a block; false if there is no room.
    pub fn push(&mut self, block: SackBlock) -> bool {
        match self.blocks.get_mut(usize::from(self.len)) {
            Some(free) => {
                *free = block;
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// The blocks.
    #[inline]
    pub fn as_slice(&self) -> &[SackBlock] {
        &self.blocks[..usize::from(self.len)]
    }

    /// True if there is no block.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl std::fmt::Debug for SackBlocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// The options that we know. Others are skipped by their length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size in bytes, RFC 9293 §3.7.1; SYN only.
    pub mss: Option<u16>,
    /// Window scale as a shift, RFC 7323 §2.2; SYN only. Values above 14 are kept: who uses it clamps.
    pub window_scale: Option<u8>,
    /// SACK permitted, RFC 2018 §2; SYN only.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// Selective acknowledgments.
    pub sack: SackBlocks,
}

/// A TCP header without its ports, which name the connection and are of no use once it is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Sequence number of the first byte (of the SYN if there is one).
    pub seq: u32,
    /// Next sequence number expected; counts if ACK is set.
    pub ack: u32,
    /// Control bits.
    pub flags: Flags,
    /// The window as on the wire, not scaled.
    pub window: u16,
    /// Options.
    pub options: Options,
}

/// A received segment.
#[derive(Debug)]
pub struct Segment<P> {
    /// Its header.
    pub header: Header,
    /// Its payload; for a segment without one an empty payload, which may still own a receive buffer.
    pub payload: P,
}

/// What [`Header::parse`] found in front of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Port of the sender.
    pub source_port: u16,
    /// Port of the receiver.
    pub destination_port: u16,
    /// Everything else.
    pub header: Header,
    /// Bytes of the header with its options: the payload begins after them.
    pub header_len: u32,
}

/// Why bytes are not a TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Fewer bytes than the header says it has.
    #[error("{have} bytes of a TCP header of {need}")]
    Truncated {
        /// Bytes there.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// The data offset is below five words (RFC 9293 §3.1).
    #[error("TCP data offset {words} words, at least 5 are needed")]
    DataOffset {
        /// Words of 4 bytes.
        words: u8,
    },
    /// An option's length is impossible for its kind or runs over the header (RFC 9293 §3.2, MUST-7).
    #[error("TCP option {kind} with length {len}")]
    OptionLength {
        /// Option kind.
        kind: u8,
        /// Its length byte; 0 if it is missing.
        len: u8,
    },
}

/// A caller's buffer is too small for a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a header of {need} bytes does not fit {have}")]
pub struct BufferTooSmall {
    /// Bytes of the buffer.
    pub have: usize,
    /// Bytes needed.
    pub need: usize,
}

// Option kinds: RFC 9293 §3.2, RFC 7323, RFC 2018.
const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Options {
    #[inline]
    fn parse(bytes: &[u8]) -> Result<Options, ParseError> {
        // RFC 7323 appendix A: nearly every segment carries NOP, NOP, timestamps and nothing else.
        match <&[u8; 12]>::try_from(bytes) {
            _ if bytes.is_empty() => Ok(Options::default()),
            Ok(usual) if usual[..4] == [NOP, NOP, TIMESTAMPS, 10] => {
                let timestamps = Timestamps { value: be32(usual, 4), echo: be32(usual, 8) };
                Ok(Options { timestamps: Some(timestamps), ..Options::default() })
            }
            _ => Options::parse_any(bytes),
        }
    }

    #[inline(never)]
    fn parse_any(mut bytes: &[u8]) -> Result<Options, ParseError> {
        let mut options = Options::default();
        while let Some(&kind) = bytes.first() {
            match kind {
                END => break,
                NOP => {
                    bytes = &bytes[1..];
                    continue;
                }
                _ => {}
            }
            let len = bytes.get(1).copied().unwrap_or(0);
            let error = ParseError::OptionLength { kind, len };
            // RFC 9293 §3.2 (MUST-7): a length of 0 or beyond the header must not loop or read further.
            if len < 2 || usize::from(len) > bytes.len() {
                return Err(error);
            }
            let (option, rest) = bytes.split_at(usize::from(len));
            match (kind, len) {
                (MSS, 4) => options.mss = Some(be16(option, 2)),
                (WINDOW_SCALE, 3) => options.window_scale = Some(option[2]),
                (SACK_PERMITTED, 2) => options.sack_permitted = true,
                (TIMESTAMPS, 10) => {
                    options.timestamps = Some(Timestamps { value: be32(option, 2), echo: be32(option, 6) });
                }
                // RFC 2018 §3: two bytes and eight per block.
                (SACK, 10 | 18 | 26 | 34) => {
                    options.sack = SackBlocks::default();
                    for block in option[2..].chunks_exact(8) {
                        options.sack.push(SackBlock { start: be32(block, 0), end: be32(block, 4) });
                    }
                }
                (MSS | WINDOW_SCALE | SACK_PERMITTED | TIMESTAMPS | SACK, _) => return Err(error),
                // RFC 9293 §3.2 (MUST-6): unknown options are ignored.
                _ => {}
            }
            bytes = rest;
        }
        Ok(options)
    }

    /// Bytes on the wire, padded to words.
    fn wire_len(&self) -> usize {
        let blocks = self.sack.as_slice().len();
        let mut len = 0;
        len += if self.mss.is_some() { 4 } else { 0 };
        len += if self.sack_permitted { 4 } else { 0 };
        len += if self.timestamps.is_some() { 12 } else { 0 };
        len += if self.window_scale.is_some() { 4 } else { 0 };
        len += if blocks > 0 { 4 + 8 * blocks } else { 0 };
        len
    }

    /// Each option is padded in front to a word with NOPs, so that the words of timestamps and blocks are aligned
    /// (RFC 7323 appendix A).
    fn emit(&self, out: &mut [u8]) {
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            put(&[MSS, 4, high, low]);
        }
        if self.sack_permitted {
            put(&[NOP, NOP, SACK_PERMITTED, 2]);
        }
        if let Some(timestamps) = self.timestamps {
            put(&[NOP, NOP, TIMESTAMPS, 10]);
            put(&timestamps.value.to_be_bytes());
            put(&timestamps.echo.to_be_bytes());
        }
        if let Some(shift) = self.window_scale {
            put(&[NOP, WINDOW_SCALE, 3, shift]);
        }
        let blocks = self.sack.as_slice();
        if !blocks.is_empty() {
            put(&[NOP, NOP, SACK, 2 + 8 * blocks.len() as u8]);
            for block in blocks {
                put(&block.start.to_be_bytes());
                put(&block.end.to_be_bytes());
            }
        }
    }
}

impl Header {
    /// Reads a header from the front of `bytes`, which may end with the header: the payload is not needed.
    ///
    /// The checksum is not looked at: it covers the payload (see `net`).
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Parsed, ParseError> {
        let have = bytes.len();
        if have < MIN_HEADER_LEN {
            return Err(ParseError::Truncated { have, need: MIN_HEADER_LEN });
        }
        let words = bytes[12] >> 4;
        if words < 5 {
            return Err(ParseError::DataOffset { words });
        }
        let need = usize::from(words) * 4;
        if have < need {
            return Err(ParseError::Truncated { have, need });
        }
        let header = Header {
            seq: be32(bytes, 4),
            ack: be32(bytes, 8),
            flags: Flags::from_bits_retain(bytes[13]),
            window: be16(bytes, 14),
            options: Options::parse(&bytes[MIN_HEADER_LEN..need])?,
        };
        Ok(Parsed { source_port: be16(bytes, 0), destination_port: be16(bytes, 2), header, header_len: need as u32 })
    }

    /// Bytes of the header on the wire: [`MIN_HEADER_LEN`] to [`MAX_HEADER_LEN`] for what a connection makes.
    pub fn wire_len(&self) -> usize {
        MIN_HEADER_LEN + self.options.wire_len()
    }

    /// Writes the header at the front of `out` with a checksum of 0 and returns its length in bytes.
    ///
    /// Options that exceed the 40 bytes of the format are refused like a buffer that is too small.
    pub fn emit(&self, source_port: u16, destination_port: u16, out: &mut [u8]) -> Result<usize, BufferTooSmall> {
        let need = self.wire_len();
        let have = out.len().min(MAX_HEADER_LEN);
        if need > have {
            return Err(BufferTooSmall { have, need });
        }
        out[0..2].copy_from_slice(&source_port.to_be_bytes());
        out[2..4].copy_from_slice(&destination_port.to_be_bytes());
        out[4..8].copy_from_slice(&self.seq.to_be_bytes());
        out[8..12].copy_from_slice(&self.ack.to_be_bytes());
        out[12] = ((need / 4) as u8) << 4;
        out[13] = self.flags.bits();
        out[14..16].copy_from_slice(&self.window.to_be_bytes());
        out[16..MIN_HEADER_LEN].fill(0);
        self.options.emit(&mut out[MIN_HEADER_LEN..need]);
        Ok(need)
    }

    /// Sequence numbers that the segment takes: its payload, SYN and FIN (RFC 9293 §3.4, SEG.LEN).
    pub fn sequence_len(&self, payload_len: u32) -> u32 {
        let flag = |flag| u32::from(self.flags.contains(flag));
        payload_len.saturating_add(flag(Flags::SYN)).saturating_add(flag(Flags::FIN))
    }

    /// The reset that answers this segment when no connection wants it (RFC 9293 §3.10.7.1); none for a reset.
    pub fn reset_reply(&self, payload_len: u32) -> Option<Header> {
        if self.flags.contains(Flags::RST) {
            return None;
        }
        Some(if self.flags.contains(Flags::ACK) {
            Header { seq: self.ack, flags: Flags::RST, ..Header::default() }
        } else {
            let ack = self.seq.wrapping_add(self.sequence_len(payload_len));
            Header { ack, flags: Flags::RST | Flags::ACK, ..Header::default() }
        })
    }
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
