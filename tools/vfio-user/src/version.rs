//! The first message: who can do what.

use crate::message::{HEADER, Version};
use serde_json::{Value, json};
use zerocopy::{FromBytes, IntoBytes};

/// What one side accepts in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// File descriptors beside one message.
    pub fds: usize,
    /// Bytes of data in one [`Command::REGION_READ`](crate::message::Command::REGION_READ) or write.
    pub transfer: usize,
}

impl Limits {
    /// What this crate accepts.
    pub const OURS: Limits = Limits { fds: crate::transport::MAX_FDS, transfer: 1 << 20 };
    /// What holds for a peer that says nothing (libvfio-user specification).
    const DEFAULT: Limits = Limits { fds: 1, transfer: 1 << 20 };

    /// What both accept: QEMU refuses a server that announces more than it does itself.
    pub(crate) fn common(self, other: Limits) -> Limits {
        Limits { fds: self.fds.min(other.fds), transfer: self.transfer.min(other.transfer) }
    }

    /// Bytes of the largest message with such data.
    pub(crate) fn message(&self) -> usize {
        HEADER + 64 + self.transfer
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Version { major: 0.into(), minor: 0.into() }.as_bytes().to_vec();
        let capabilities = json!({ "capabilities": {
            "max_msg_fds": self.fds,
            "max_data_xfer_size": self.transfer,
            "pgsizes": 4096,
            "max_dma_maps": 65535,
        }});
        bytes.extend_from_slice(capabilities.to_string().as_bytes());
        bytes.push(0);
        bytes
    }

    /// Reads the other side's. What it does not say has the specification's default.
    pub(crate) fn decode(payload: &[u8]) -> Result<Limits, VersionError> {
        let Ok((version, text)) = Version::read_from_prefix(payload) else {
            return Err(VersionError::Short(payload.len()));
        };
        if version.major.get() != 0 {
            return Err(VersionError::Major { major: version.major.get(), minor: version.minor.get() });
        }
        let text = text.strip_suffix(&[0]).unwrap_or(text);
        if text.is_empty() {
            return Ok(Limits::DEFAULT);
        }
        let value: Value = serde_json::from_slice(text).map_err(|e| VersionError::Json(e.to_string()))?;
        let number = |name: &'static str, default: usize| match value.get("capabilities").and_then(|c| c.get(name)) {
            None => Ok(default),
            Some(value) => value
                .as_u64()
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(|| VersionError::Json(format!("{name} is {value}"))),
        };
        Ok(Limits {
            fds: number("max_msg_fds", Limits::DEFAULT.fds)?,
            transfer: number("max_data_xfer_size", Limits::DEFAULT.transfer)?,
        })
    }
}

/// Why a VERSION message was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Too short.
    #[error("a VERSION message of {0} bytes holds no version")]
    Short(usize),
    /// Another protocol.
    #[error("the peer speaks vfio-user {major}.{minor}, and only 0.x is spoken here")]
    Major {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// The capabilities.
    #[error("the capabilities of a VERSION message are not as they should be: {0}")]
    Json(String),
}
