//! Why a PDU was refused.

use std::fmt;

/// FES of terminate requests (NVMe/TCP 3.6.2.4, 3.6.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum FatalStatus {
    /// A field of the header holds what it must not; FEI is the field's offset.
    InvalidHeaderField = 1,
    /// The PDU is not expected now.
    SequenceError = 2,
    /// The header digest does not match; FEI is the received digest.
    HeaderDigestError = 3,
    /// Data beyond the command's buffer.
    DataOutOfRange = 4,
    /// More R2Ts than allowed (to the controller), more data than asked for (to the host).
    LimitExceeded = 5,
    /// A parameter that is not supported; FEI is the field's offset.
    UnsupportedParameter = 6,
}

impl FatalStatus {
    /// The specification's name of a status in a C2HTermReq.
    pub fn name(fes: u16) -> &'static str {
        match fes {
            1 => "Invalid PDU Header Field",
            2 => "PDU Sequence Error",
            3 => "Header Digest Error",
            4 => "Data Transfer Out of Range",
            5 => "Data Transfer Limit Exceeded",
            6 => "Unsupported Parameter",
            _ => "unknown fatal error status",
        }
    }
}

/// What a field may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// This value.
    Exactly(u64),
    /// This or more.
    AtLeast(u64),
    /// Between these, both included.
    Between(u64, u64),
    /// A multiple of the first that is at least the second.
    MultipleFrom(u64, u64),
    /// Only these bits.
    Mask(u8),
    /// In words.
    Text(&'static str),
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allowed::Exactly(value) => write!(f, "exactly {value:#x}"),
            Allowed::AtLeast(least) => write!(f, "at least {least:#x}"),
            Allowed::Between(least, most) => write!(f, "{least:#x} to {most:#x}"),
            Allowed::MultipleFrom(of, least) => write!(f, "a multiple of {of:#x}, at least {least:#x}"),
            Allowed::Mask(mask) => write!(f, "only bits of {mask:#04x}"),
            Allowed::Text(text) => f.write_str(text),
        }
    }
}

/// A field of a PDU that holds what it must not, by itself or here and now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pdu} PDU: {field} (byte {offset}) is {value:#x}, allowed: {allowed}")]
pub struct FieldError {
    /// Name of the PDU.
    pub pdu: &'static str,
    /// Name of the field.
    pub field: &'static str,
    /// Where the field is, in bytes from the start of the PDU.
    pub offset: u8,
    /// What it holds.
    pub value: u64,
    /// What it may hold.
    pub allowed: Allowed,
    /// How a terminate request calls this.
    pub status: FatalStatus,
}

impl FieldError {
    /// An invalid header field.
    #[cold]
    pub fn new(pdu: &'static str, field: &'static str, offset: u8, value: u64, allowed: Allowed) -> FieldError {
        FieldError { pdu, field, offset, value, allowed, status: FatalStatus::InvalidHeaderField }
    }

    /// The same under another status.
    #[must_use]
    pub fn with_status(self, status: FatalStatus) -> FieldError {
        FieldError { status, ..self }
    }
}
