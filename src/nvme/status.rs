//! Status of a completed command.

use std::fmt;

/// Status field of a completion queue entry without the phase tag (Base 3.3.3.2.1): bits 7:0 status code (SC), 10:8
/// status code type (SCT), 12:11 command retry delay, 13 more, 14 do not retry.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(u16);

impl Status {
    /// The command succeeded.
    pub const SUCCESS: Status = Status(0);
    /// Non-fatal transport error: a data digest did not match (NVMe/TCP, digests). Set by the host for reads.
    pub const TRANSIENT_TRANSPORT_ERROR: Status = Status(0x022);
    /// The connection ended before the command did, and the controller may have seen it. Set by the host.
    pub const HOST_PATHING_ERROR: Status = Status(0x370);
    /// The command was cancelled, or its connection ended, before any byte of it was sent. Set by the host.
    pub const ABORTED_BY_HOST: Status = Status(0x371);
    /// Fabrics Connect: a parameter was refused; the result says which.
    pub const CONNECT_INVALID_PARAMETERS: Status = Status(0x182);

    /// From the 16-bit field of a completion queue entry: its lowest bit is the phase tag, unused in Fabrics.
    pub const fn from_cqe(field: u16) -> Status {
        Status(field >> 1)
    }

    /// True if the command succeeded, whatever the retry bits say.
    pub const fn is_success(self) -> bool {
        self.0 & 0x7ff == 0
    }

    /// Status code (SC).
    pub const fn code(self) -> u8 {
        self.0 as u8
    }

    /// Status code type (SCT): 0 generic, 1 command specific, 2 media and data integrity, 3 path, 7 vendor.
    pub const fn code_type(self) -> u8 {
        (self.0 >> 8) as u8 & 7
    }

    /// True if the same command is expected to fail again (DNR).
    pub const fn do_not_retry(self) -> bool {
        self.0 & 1 << 14 != 0
    }

    /// True if this is `other`, the retry bits aside.
    pub const fn is(self, other: Status) -> bool {
        (self.0 ^ other.0) & 0x7ff == 0
    }

    /// The specification's name. Codes that Fabrics and the NVM command set use differently carry both.
    pub fn name(self) -> &'static str {
        let at = NAMES.binary_search_by_key(&(self.0 & 0x7ff), |row| row.0);
        match (at, self.code_type()) {
            (Ok(at), _) => NAMES[at].1,
            (Err(_), 7) => "vendor specific status",
            (Err(_), _) => "status unknown to this driver",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SCT {:#x}, SC {:#04x}", self.name(), self.code_type(), self.code())?;
        f.write_str(if self.do_not_retry() { ", do not retry)" } else { ")" })
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// (SCT << 8 | SC, name), sorted: the status tables of Base, and of Connect in Fabrics.
const NAMES: &[(u16, &str)] = &[
    (0x000, "Successful Completion"),
    (0x001, "Invalid Command Opcode"),
    (0x002, "Invalid Field in Command"),
    (0x003, "Command ID Conflict"),
    (0x004, "Data Transfer Error"),
    (0x005, "Commands Aborted due to Power Loss Notification"),
    (0x006, "Internal Error"),
    (0x007, "Command Abort Requested"),
    (0x008, "Command Aborted due to SQ Deletion"),
    (0x00b, "Invalid Namespace or Format"),
    (0x00c, "Command Sequence Error"),
    (0x00d, "Invalid SGL Segment Descriptor"),
    (0x00e, "Invalid Number of SGL Descriptors"),
    (0x00f, "Data SGL Length Invalid"),
    (0x010, "Metadata SGL Length Invalid"),
    (0x011, "SGL Descriptor Type Invalid"),
    (0x015, "Operation Denied"),
    (0x016, "SGL Offset Invalid"),
    (0x018, "Host Identifier Inconsistent Format"),
    (0x019, "Keep Alive Timer Expired"),
    (0x01a, "Keep Alive Timeout Invalid"),
    (0x01b, "Command Aborted due to Preempt and Abort"),
    (0x01c, "Sanitize Failed"),
    (0x01d, "Sanitize In Progress"),
    (0x01e, "SGL Data Block Granularity Invalid"),
    (0x020, "Namespace is Write Protected"),
    (0x021, "Command Interrupted"),
    (0x022, "Transient Transport Error"),
    (0x080, "LBA Out of Range"),
    (0x081, "Capacity Exceeded"),
    (0x082, "Namespace Not Ready"),
    (0x083, "Reservation Conflict"),
    (0x084, "Format In Progress"),
    (0x101, "Invalid Queue Identifier"),
    (0x102, "Invalid Queue Size"),
    (0x10d, "Feature Identifier Not Saveable"),
    (0x10e, "Feature Not Changeable"),
    (0x10f, "Feature Not Namespace Specific"),
    (0x180, "Connect Incompatible Format / Conflicting Attributes"),
    (0x181, "Connect Controller Busy / Invalid Protection Information"),
    (0x182, "Connect Invalid Parameters / Attempted Write to Read Only Range"),
    (0x183, "Connect Restart Discovery"),
    (0x184, "Connect Invalid Host"),
    (0x185, "Invalid Queue Type"),
    (0x190, "Discover Restart"),
    (0x191, "Authentication Required"),
    (0x280, "Write Fault"),
    (0x281, "Unrecovered Read Error"),
    (0x282, "End-to-end Guard Check Error"),
    (0x283, "End-to-end Application Tag Check Error"),
    (0x284, "End-to-end Reference Tag Check Error"),
    (0x285, "Compare Failure"),
    (0x286, "Access Denied"),
    (0x287, "Deallocated or Unwritten Logical Block"),
    (0x300, "Internal Path Error"),
    (0x301, "Asymmetric Access Persistent Loss"),
    (0x302, "Asymmetric Access Inaccessible"),
    (0x303, "Asymmetric Access Transition"),
    (0x360, "Controller Pathing Error"),
    (0x370, "Host Pathing Error"),
    (0x371, "Command Aborted By Host"),
];

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the table can be searched | `names_are_sorted` |
    //! | the field's parts are where the specification has them | `the_field_is_taken_apart_as_specified` |
    use super::*;

    #[test]
    fn names_are_sorted() {
        assert!(NAMES.windows(2).all(|w| w[0].0 < w[1].0));
    }

    #[test]
    fn the_field_is_taken_apart_as_specified() {
        // DNR, SCT 1, SC 82h, phase tag set.
        let status = Status::from_cqe(0x8000 | 1 << 9 | 0x82 << 1 | 1);
        assert_eq!((status.code_type(), status.code(), status.do_not_retry()), (1, 0x82, true));
        assert!(status.is(Status::CONNECT_INVALID_PARAMETERS) && !status.is_success());
        assert!(status.to_string().contains("Connect Invalid Parameters"), "{status}");
        assert!(Status::from_cqe(0x8001).is_success());
        assert_eq!(Status::from_cqe(7 << 9).name(), "vendor specific status");
    }
}
