//! Headers of NVMe/TCP PDUs that a controller sends, as far as the offload needs them (NVMe/TCP transport specification,
//! "PDU formats"). Multi-byte fields are little-endian.
//!
//! ```text
//!  0     1      2     3    4        8        10       12      16      20      24
//!  | type | flags | HLEN | PDO | PLEN (4) |   common header, every PDU
//!                                 | CCCID  | reserved | DATAO | DATAL | reserved |   C2HData
//! ```

/// Bytes of the header that every PDU begins with.
pub(super) const COMMON_HEADER: usize = 8;
/// Bytes of the header of C2HData, the longest that is looked at.
pub(super) const DATA_HEADER: usize = 24;
/// Bytes of a digest.
pub(super) const DIGEST: u32 = 4;

/// A header that makes no sense: the framing is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The header that every PDU begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CommonHeader {
    /// True for C2HData.
    pub(super) is_data: bool,
    /// Bytes of the PDU, header to digest.
    pub(super) plen: u32,
}

impl CommonHeader {
    /// Parses and checks: a type that a controller sends, the header length that the type has, a length that holds the
    /// header. This is also what the published search pattern compares (`nvme-tcp-offload.md` §6.3).
    pub(super) fn parse(bytes: &[u8; COMMON_HEADER], header_digest: bool) -> Result<CommonHeader, Malformed> {
        let (hlen, digest) = match bytes[0] {
            // ICResp: never a digest.
            0x01 => (128, false),
            // C2HTermReq: never a digest.
            0x03 => (24, false),
            // CapsuleResp, C2HData, R2T.
            0x05 | 0x07 | 0x09 => (24, header_digest),
            _ => return Err(Malformed),
        };
        let plen = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let least = hlen + if digest { DIGEST } else { 0 };
        if u32::from(bytes[2]) != hlen || plen < least {
            return Err(Malformed);
        }
        Ok(CommonHeader { is_data: bytes[0] == 0x07, plen })
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
    pub(super) fn parse(
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
