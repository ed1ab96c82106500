//! NVMe commands, completions and statuses as far as the target speaks them (NVM Express Base 1.4, NVMe over Fabrics 1.1).

use crate::pdu::{put, u16_at, u32_at, u64_at};

/// A submission queue entry.
#[derive(Clone, Copy)]
pub(crate) struct Sqe<'a>(pub(crate) &'a [u8; 64]);

/// Admin and I/O opcodes.
pub(crate) mod opcode {
    pub(crate) const GET_LOG_PAGE: u8 = 0x02;
    pub(crate) const IDENTIFY: u8 = 0x06;
    pub(crate) const ABORT: u8 = 0x08;
    pub(crate) const SET_FEATURES: u8 = 0x09;
    pub(crate) const GET_FEATURES: u8 = 0x0a;
    pub(crate) const ASYNC_EVENT: u8 = 0x0c;
    pub(crate) const KEEP_ALIVE: u8 = 0x18;
    pub(crate) const FABRICS: u8 = 0x7f;

    pub(crate) const FLUSH: u8 = 0x00;
    pub(crate) const WRITE: u8 = 0x01;
    pub(crate) const READ: u8 = 0x02;
}

/// Fabrics command types.
pub(crate) mod fctype {
    pub(crate) const PROPERTY_SET: u8 = 0x00;
    pub(crate) const CONNECT: u8 = 0x01;
    pub(crate) const PROPERTY_GET: u8 = 0x04;
}

/// SGL descriptor identifiers (type in the high nibble, subtype in the low one).
mod sgl {
    /// Data block at an offset in the capsule.
    pub(crate) const IN_CAPSULE: u8 = 0x01;
    /// Transport SGL data block: the transport moves the data.
    pub(crate) const TRANSPORT: u8 = 0x5a;
}

/// Where the data of a command are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataPointer {
    /// In the capsule's data.
    InCapsule { offset: u64, len: u32 },
    /// Moved by data PDUs.
    Transport { len: u32 },
}

impl Sqe<'_> {
    pub(crate) fn opcode(self) -> u8 {
        self.0[0]
    }

    pub(crate) fn cid(self) -> u16 {
        u16_at(self.0, 2)
    }

    pub(crate) fn nsid(self) -> u32 {
        u32_at(self.0, 4)
    }

    /// Fabrics command type; only for opcode 7Fh.
    pub(crate) fn fctype(self) -> u8 {
        self.0[4]
    }

    /// Command dword 10 to 15.
    pub(crate) fn cdw(self, n: usize) -> u32 {
        u32_at(self.0, n * 4)
    }

    pub(crate) fn u8_at(self, at: usize) -> u8 {
        self.0[at]
    }

    pub(crate) fn u16_at(self, at: usize) -> u16 {
        u16_at(self.0, at)
    }

    pub(crate) fn u64_at(self, at: usize) -> u64 {
        u64_at(self.0, at)
    }

    /// The data pointer: fabrics allow only SGLs (PSDT 01b or 10b), the TCP transport only two kinds of descriptor.
    pub(crate) fn data_pointer(self) -> Result<DataPointer, Status> {
        if !matches!(self.0[1] >> 6, 1 | 2) {
            return Err(Status::INVALID_FIELD);
        }
        let (address, len) = (u64_at(self.0, 24), u32_at(self.0, 32));
        match self.0[39] {
            sgl::IN_CAPSULE => Ok(DataPointer::InCapsule { offset: address, len }),
            sgl::TRANSPORT => Ok(DataPointer::Transport { len }),
            _ => Err(Status::SGL_TYPE),
        }
    }
}

/// Status field of a completion: SC in bits 7:0, SCT in 10:8, DNR in bit 14 (before the shift past the phase tag).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u16);

const DNR: u16 = 1 << 14;

impl Status {
    pub(crate) const SUCCESS: Status = Status(0);
    pub(crate) const INVALID_OPCODE: Status = Status(0x01 | DNR);
    pub(crate) const INVALID_FIELD: Status = Status(0x02 | DNR);
    pub(crate) const CID_CONFLICT: Status = Status(0x03 | DNR);
    pub(crate) const INTERNAL: Status = Status(0x06);
    pub(crate) const INVALID_NAMESPACE: Status = Status(0x0b | DNR);
    pub(crate) const COMMAND_SEQUENCE: Status = Status(0x0c | DNR);
    pub(crate) const SGL_LENGTH: Status = Status(0x0f | DNR);
    pub(crate) const SGL_TYPE: Status = Status(0x11 | DNR);
    pub(crate) const SGL_OFFSET: Status = Status(0x16 | DNR);
    pub(crate) const WRITE_PROTECTED: Status = Status(0x20 | DNR);
    pub(crate) const TRANSIENT_TRANSPORT: Status = Status(0x22);
    pub(crate) const LBA_OUT_OF_RANGE: Status = Status(0x80 | DNR);
    pub(crate) const ASYNC_EVENT_LIMIT: Status = Status(0x105 | DNR);
    pub(crate) const INVALID_LOG_PAGE: Status = Status(0x109 | DNR);
    pub(crate) const FEATURE_NOT_SAVEABLE: Status = Status(0x10d | DNR);
    pub(crate) const CONNECT_FORMAT: Status = Status(0x180 | DNR);
    pub(crate) const CONNECT_BUSY: Status = Status(0x181);
    pub(crate) const CONNECT_PARAMETERS: Status = Status(0x182 | DNR);
    pub(crate) const CONNECT_HOST: Status = Status(0x184 | DNR);
    pub(crate) const WRITE_FAULT: Status = Status(0x280);
    pub(crate) const UNRECOVERED_READ: Status = Status(0x281);
}

/// What a command came to, before the queue adds its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Completion {
    pub(crate) cid: u16,
    /// Dwords 0 and 1.
    pub(crate) result: u64,
    pub(crate) status: Status,
}

impl Completion {
    /// The 16 bytes of the completion queue entry. SQID and phase tag are reserved with fabrics.
    pub(crate) fn entry(self, sqhd: u16) -> [u8; 16] {
        let mut entry = [0; 16];
        put(&mut entry, 0, &self.result.to_le_bytes());
        put(&mut entry, 8, &sqhd.to_le_bytes());
        put(&mut entry, 12, &self.cid.to_le_bytes());
        put(&mut entry, 14, &(self.status.0 << 1).to_le_bytes());
        entry
    }
}
