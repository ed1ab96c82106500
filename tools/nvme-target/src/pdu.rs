//! NVMe/TCP PDUs (NVM Express TCP Transport Specification, "PDU definitions"). All fields are little-endian.
//!
//! ```text
//! CH: 0 type | 1 flags | 2 HLEN | 3 PDO | 4 PLEN (4)
//! then the type's own header up to HLEN, HDGST (4), padding up to PDO, data, DDGST (4)
//! ```

use std::fmt;

/// Bytes of the common header.
pub(crate) const CH: usize = 8;

/// Bytes of a digest.
pub(crate) const DIGEST: usize = 4;

/// Bytes of ICReq and ICResp.
pub(crate) const IC_LEN: usize = 128;

/// Header bytes of a termination request, and the most bytes of the erring PDU that may follow.
pub(crate) const TERM_HLEN: usize = 24;
pub(crate) const TERM_DATA: usize = 128;

/// Header bytes of a command capsule: CH and a submission queue entry.
pub(crate) const CMD_HLEN: usize = 72;

/// Header bytes of CapsuleResp, H2CData, C2HData and R2T.
pub(crate) const SHORT_HLEN: usize = 24;

/// Bits of the flags byte.
pub(crate) mod flag {
    /// A header digest follows the header.
    pub(crate) const HDGSTF: u8 = 1 << 0;
    /// A data digest follows the data.
    pub(crate) const DDGSTF: u8 = 1 << 1;
    /// Last data PDU (of the command, or of the R2T).
    pub(crate) const LAST: u8 = 1 << 2;
    /// C2HData: the command succeeded, no response capsule follows.
    pub(crate) const SUCCESS: u8 = 1 << 3;
}

/// PDU types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PduType {
    /// Initialize Connection Request.
    IcReq = 0x00,
    /// Initialize Connection Response.
    IcResp = 0x01,
    /// Host to Controller Terminate Connection Request.
    H2cTermReq = 0x02,
    /// Controller to Host Terminate Connection Request.
    C2hTermReq = 0x03,
    /// Command capsule.
    CapsuleCmd = 0x04,
    /// Response capsule.
    CapsuleResp = 0x05,
    /// Host to Controller Data.
    H2cData = 0x06,
    /// Controller to Host Data.
    C2hData = 0x07,
    /// Ready to Transfer.
    R2t = 0x09,
}

impl PduType {
    pub(crate) fn of(value: u8) -> Option<PduType> {
        Some(match value {
            0x00 => PduType::IcReq,
            0x01 => PduType::IcResp,
            0x02 => PduType::H2cTermReq,
            0x03 => PduType::C2hTermReq,
            0x04 => PduType::CapsuleCmd,
            0x05 => PduType::CapsuleResp,
            0x06 => PduType::H2cData,
            0x07 => PduType::C2hData,
            0x09 => PduType::R2t,
            _ => return None,
        })
    }

    /// HLEN that the type must have.
    pub(crate) fn hlen(self) -> usize {
        match self {
            PduType::IcReq | PduType::IcResp => IC_LEN,
            PduType::CapsuleCmd => CMD_HLEN,
            _ => SHORT_HLEN,
        }
    }

    /// False for the types that never carry digests: they come before the digests are agreed on, or end the connection.
    pub(crate) fn digested(self) -> bool {
        !matches!(self, PduType::IcReq | PduType::IcResp | PduType::H2cTermReq | PduType::C2hTermReq)
    }
}

impl fmt::Display for PduType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PduType::IcReq => "ICReq",
            PduType::IcResp => "ICResp",
            PduType::H2cTermReq => "H2CTermReq",
            PduType::C2hTermReq => "C2HTermReq",
            PduType::CapsuleCmd => "CapsuleCmd",
            PduType::CapsuleResp => "CapsuleResp",
            PduType::H2cData => "H2CData",
            PduType::C2hData => "C2HData",
            PduType::R2t => "R2T",
        })
    }
}

/// Fatal Error Status values of C2HTermReq.
pub(crate) mod fes {
    /// Invalid PDU header field; FEI is the field's byte offset.
    pub(crate) const HEADER_FIELD: u16 = 1;
    /// PDU sequence error.
    pub(crate) const SEQUENCE: u16 = 2;
    /// Header digest error; FEI is the digest that was received.
    pub(crate) const HEADER_DIGEST: u16 = 3;
    /// Data transfer out of range.
    pub(crate) const OUT_OF_RANGE: u16 = 4;
    /// Data transfer limit exceeded.
    pub(crate) const LIMIT: u16 = 5;
    /// Unsupported parameter; FEI is the parameter's byte offset.
    pub(crate) const UNSUPPORTED: u16 = 6;
}

/// The common header of a received PDU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Common {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) hlen: u8,
    pub(crate) pdo: u8,
    pub(crate) plen: u32,
}

impl Common {
    /// Reads the first eight bytes of a PDU.
    pub(crate) fn parse(pdu: &[u8]) -> Common {
        Common { kind: pdu[0], flags: pdu[1], hlen: pdu[2], pdo: pdu[3], plen: u32_at(pdu, 4) }
    }
}

/// Appends a common header.
pub(crate) fn push_common(out: &mut Vec<u8>, kind: PduType, flags: u8, pdo: u8, plen: u32) {
    out.extend_from_slice(&[kind as u8, flags, kind.hlen() as u8, pdo]);
    out.extend_from_slice(&plen.to_le_bytes());
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// CRC32C of `bytes`, as digests carry it (little-endian on the wire).
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | digests are CRC32C (RFC 3720 appendix B.4 examples) | `digests_match_the_published_examples` |
    //! | every known type value maps to itself, all others to none | `type_values_round_trip` |
    use super::*;

    #[test]
    fn digests_match_the_published_examples() {
        assert_eq!(crc32c(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c(&[0xff; 32]).to_le_bytes(), [0x43, 0xab, 0xa8, 0x62]);
        let up: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&up).to_le_bytes(), [0x4e, 0x79, 0xdd, 0x46]);
    }

    #[test]
    fn type_values_round_trip() {
        let known: Vec<u8> = (0..=255).filter(|&v| PduType::of(v).is_some_and(|t| t as u8 == v)).collect();
        assert_eq!(known, [0, 1, 2, 3, 4, 5, 6, 7, 9]);
        assert_eq!((0..=255).filter(|&v| PduType::of(v).is_some()).count(), known.len());
    }
}
