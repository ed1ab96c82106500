//! Headers of NVMe/TCP PDUs that a controller sends, as far as the offload needs them (NVMe/TCP transport specification,
//! "PDU formats"). Multi-byte fields are little-endian.
//!
//! ```text
//!  0     1      2     3    4        8        10       12      16      20      24        28
//!  | type | flags | HLEN | PDO | PLEN (4) |   common header, every PDU
//!                                 | CCCID  | reserved | DATAO | DATAL | reserved |   C2HData
//!                                                                        | HDGST |   where negotiated
//! ```
//!
//! One judgement serves all: [`examine`]. A header in a stream whose framing is known must only be possible; one that is
//! guessed, or followed from a guess, must match a [`Pattern`].

use super::behaviour::Pattern;
use crc_fast::{CrcAlgorithm, checksum};

/// Bytes of the header that every PDU begins with.
pub(super) const COMMON_HEADER: usize = 8;
/// Bytes of the header of C2HData.
pub(super) const DATA_HEADER: usize = 24;
/// Most bytes that a judgement needs: the header of C2HData with its digest.
pub(super) const LONGEST_HEADER: usize = DATA_HEADER + DIGEST as usize;
/// Bytes of a digest.
pub(super) const DIGEST: u32 = 4;
/// Most bytes of a PDU that terminates a connection: its header and the start of the PDU that was in error.
const LONGEST_TERMINATION: u32 = 24 + 128;

/// A header that makes no sense, or does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What a header is judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Header digests are negotiated.
    pub(super) header_digest: bool,
    /// Data digests are negotiated.
    pub(super) data_digest: bool,
    /// Data whose header contradicts itself is delivered and not understood.
    pub(super) tolerant: bool,
    /// What the header must match, and its largest PLEN; `None` where the framing is known.
    pub(super) pattern: Option<(Pattern, u32)>,
}

/// What the first bytes of a PDU say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// So many bytes are needed to say more.
    Needs(usize),
    /// A header.
    Complete {
        /// Bytes of the PDU, header to digest.
        plen: u32,
        /// What it says about its data; `None` for PDUs without, and for data that makes no sense.
        data: Option<DataHeader>,
    },
}

/// Judges the first bytes of a PDU, all there are or more than needed.
pub(super) fn examine(bytes: &[u8], rules: &Rules) -> Result<Header, Malformed> {
    let Some(common) = bytes.first_chunk() else {
        // What is there must fit already: most of what a search looks at ends here.
        let possible = bytes.first().is_none_or(|kind| fixed_length(*kind).is_some())
            && bytes.get(2).is_none_or(|hlen| fixed_length(bytes[0]) == Some(u32::from(*hlen)));
        return if possible { Ok(Header::Needs(COMMON_HEADER)) } else { Err(Malformed) };
    };
    let CommonHeader { kind, plen } = CommonHeader::parse(common, rules.header_digest)?;
    if let Some((pattern, longest)) = rules.pattern
        && (plen > longest || pattern >= Pattern::Lengths && !kind.may_have(plen, rules.header_digest))
    {
        return Err(Malformed);
    }
    let mut data = None;
    if kind == Kind::Data {
        let Some(header) = bytes.first_chunk() else { return Ok(Header::Needs(DATA_HEADER)) };
        let exact = rules.pattern.is_some_and(|(pattern, _)| pattern >= Pattern::Lengths);
        data = match DataHeader::parse(header, plen, rules.header_digest, rules.data_digest) {
            Err(Malformed) if rules.pattern.is_none() && !rules.tolerant || exact => return Err(Malformed),
            header => header.ok(),
        };
    }
    let verify = matches!(rules.pattern, Some((Pattern::HeaderDigest, _)));
    if verify && rules.header_digest && kind.has_header_digest() {
        let Some(bytes) = bytes.get(..LONGEST_HEADER) else { return Ok(Header::Needs(LONGEST_HEADER)) };
        let (header, digest) = bytes.split_at(DATA_HEADER);
        if digest != (checksum(CrcAlgorithm::Crc32Iscsi, header) as u32).to_le_bytes() {
            return Err(Malformed);
        }
    }
    Ok(Header::Complete { plen, data })
}

/// HLEN of a type that a controller sends.
fn fixed_length(kind: u8) -> Option<u32> {
    match kind {
        0x01 => Some(128),
        0x03 | 0x05 | 0x07 | 0x09 => Some(24),
        _ => None,
    }
}

/// Types of PDUs that a controller sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// ICResp, C2HTermReq: never a digest.
    Initialize,
    Terminate,
    /// CapsuleResp, R2T: a header and nothing else.
    HeaderOnly,
    /// C2HData.
    Data,
}

impl Kind {
    fn has_header_digest(self) -> bool {
        matches!(self, Kind::HeaderOnly | Kind::Data)
    }

    /// True if a PDU of this type can be `plen` bytes long. What its data says is another question.
    fn may_have(self, plen: u32, header_digest: bool) -> bool {
        match self {
            Kind::Initialize => plen == 128,
            Kind::Terminate => plen <= LONGEST_TERMINATION,
            Kind::HeaderOnly => plen == 24 + if header_digest { DIGEST } else { 0 },
            Kind::Data => true,
        }
    }
}

/// The header that every PDU begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CommonHeader {
    kind: Kind,
    /// Bytes of the PDU, header to digest.
    plen: u32,
}

impl CommonHeader {
    /// Parses and checks: a type that a controller sends, the header length that the type has, a length that holds the
    /// header.
    fn parse(bytes: &[u8; COMMON_HEADER], header_digest: bool) -> Result<CommonHeader, Malformed> {
        let kind = match bytes[0] {
            0x01 => Kind::Initialize,
            0x03 => Kind::Terminate,
            0x05 | 0x09 => Kind::HeaderOnly,
            0x07 => Kind::Data,
            _ => return Err(Malformed),
        };
        let hlen = u32::from(bytes[2]);
        let plen = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let least = hlen + if header_digest && kind.has_header_digest() { DIGEST } else { 0 };
        if fixed_length(bytes[0]) != Some(hlen) || plen < least {
            return Err(Malformed);
        }
        Ok(CommonHeader { kind, plen })
    }
}

/// What a C2HData header says about its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DataHeader {
    /// Command identifier.
    pub(super) cccid: u16,
    /// First data byte, from the start of the PDU.
    pub(super) pdo: u32,
    /// Offset of the data in the command's buffer.
    pub(super) datao: u32,
    /// Bytes of data.
    pub(super) datal: u32,
}

impl DataHeader {
    /// Parses the header of a C2HData PDU and checks that data offset, data length, digests and PDU length agree.
    fn parse(
        bytes: &[u8; DATA_HEADER],
        plen: u32,
        header_digest: bool,
        data_digest: bool,
    ) -> Result<DataHeader, Malformed> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let header = DataHeader {
            cccid: u16::from_le_bytes([bytes[8], bytes[9]]),
            pdo: u32::from(bytes[3]),
            datao: word(12),
            datal: word(16),
        };
        let least = DATA_HEADER as u32 + if header_digest { DIGEST } else { 0 };
        let trailer = if data_digest { DIGEST } else { 0 };
        let end = header.pdo.checked_add(header.datal).and_then(|end| end.checked_add(trailer));
        let fits = header.datao.checked_add(header.datal).is_some();
        if header.pdo < least || header.datal == 0 || end != Some(plen) || !fits {
            return Err(Malformed);
        }
        Ok(header)
    }
}
