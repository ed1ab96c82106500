//! Capability groups: the answers to QUERY_HCA_CAP, 4096 bytes each, of which a group defines a prefix.

pub mod general;
pub mod groups;

pub use general::CmdHcaCap;
pub use groups::CapGroup;

/// NVMe/TCP offload group (`nvme-tcp-offload.md` §2.2); query it only if the general capability `nvmeotcp` is set.
pub const NVMEOTCP_GROUP: CapGroup = CapGroup(0x19);
/// General object type of the tag buffer table, also its bit in `general_obj_types` (`nvme-tcp-offload.md` §2.1, §3.1).
pub const TAG_BUFFER_TABLE_OBJECT: u16 = 0x21;

/// Which copy of a group: bit 0 of the `op_mod` of QUERY_HCA_CAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapMode {
    /// What the function could do.
    Maximum,
    /// What it does now; SET_HCA_CAP changes it.
    Current,
}

impl CapGroup {
    /// `op_mod` of QUERY_HCA_CAP for this group.
    pub const fn query_op_mod(self, mode: CapMode) -> u16 {
        self.0 << 1 | matches!(mode, CapMode::Current) as u16
    }
}
