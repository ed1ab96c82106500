//! Capability groups: the answers to QUERY_HCA_CAP, 4096 bytes each, of which a group defines a prefix.

pub mod general;
pub mod groups;

pub use general::CmdHcaCap;
pub use groups::CapGroup;

use hw_regs::layout::{Access, Field, Layout, LayoutInfo};

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

/// A capability group: who says that there is one, and how it is laid out.
#[derive(Clone, Copy)]
pub struct GroupInfo {
    /// Its number.
    pub group: CapGroup,
    /// Any of these bits of the general group says that the function has it; none: every function has it.
    pub advertised: &'static [Field<CmdHcaCap>],
    /// Its table; `None` for a group that nobody has described.
    pub layout: Option<&'static LayoutInfo>,
}

impl GroupInfo {
    /// True if a function with this general group has the group. Firmware refuses to be asked about others.
    pub fn is_advertised(&self, general: &CmdHcaCap) -> bool {
        self.advertised.is_empty() || self.advertised.iter().any(|field| general.is_set(*field))
    }

    /// Its name, short: "GENERAL".
    pub fn name(&self) -> &'static str {
        if self.group == NVMEOTCP_GROUP { "NVMEOTCP" } else { self.group.name().unwrap_or("unknown") }
    }
}

macro_rules! groups {
    ($($group:expr, [$($bit:ident),*], $layout:expr;)*) => {
        /// Every group that a bit of the general one announces, in the order of their numbers (`mlx5-bringup.md` §11,
        /// steps 10 and 13; `nvme-tcp-offload.md` §2.1).
        pub const GROUPS: &[GroupInfo] =
            &[$(GroupInfo { group: $group, advertised: &[$(CmdHcaCap::$bit),*], layout: $layout },)*];
    };
}

groups! {
    CapGroup::GENERAL, [], Some(&CmdHcaCap::INFO);
    CapGroup::ETHERNET_OFFLOADS, [ETH_NET_OFFLOADS], Some(&groups::PerProtocolNetworkingOffloadCaps::INFO);
    CapGroup::ODP, [PG], Some(&groups::OdpCap::INFO);
    CapGroup::ATOMIC, [ATOMIC], Some(&groups::AtomicCaps::INFO);
    CapGroup::ROCE, [ROCE], Some(&groups::RoceCap::INFO);
    CapGroup::IPOIB_OFFLOADS, [IPOIB_BASIC_OFFLOADS], Some(&groups::PerProtocolNetworkingOffloadCaps::INFO);
    CapGroup::IPOIB_ENHANCED_OFFLOADS, [IPOIB_ENHANCED_OFFLOADS],
        Some(&groups::PerProtocolNetworkingOffloadCaps::INFO);
    CapGroup::FLOW_TABLE, [NIC_FLOW_TABLE], Some(&groups::FlowTableNicCap::INFO);
    CapGroup::ESWITCH_FLOW_TABLE, [ESWITCH_MANAGER], Some(&groups::FlowTableEswitchCap::INFO);
    CapGroup::ESWITCH, [ESWITCH_MANAGER], Some(&groups::ESwitchCap::INFO);
    CapGroup::QOS, [QOS], Some(&groups::QosCap::INFO);
    CapGroup::DEBUG, [DEBUG], Some(&groups::DebugCap::INFO);
    CapGroup::DEV_MEM, [DEVICE_MEMORY], Some(&groups::DeviceMemCap::INFO);
    CapGroup::TLS, [TLS_TX, TLS_RX], Some(&groups::TlsCap::INFO);
    CapGroup::DEV_EVENT, [EVENT_CAP], Some(&groups::DeviceEventCap::INFO);
    CapGroup::IPSEC, [IPSEC_OFFLOAD], Some(&groups::IpsecCap::INFO);
    NVMEOTCP_GROUP, [NVMEOTCP], Some(&groups::NvmeotcpCap::INFO);
    CapGroup::CRYPTO, [CRYPTO], Some(&groups::CryptoCap::INFO);
    CapGroup::SHAMPO, [SHAMPO], Some(&groups::ShampoCap::INFO);
    CapGroup::PSP, [PSP], None;
    CapGroup::GENERAL_2, [HCA_CAP_2], Some(&groups::CmdHcaCap2::INFO);
    CapGroup::PORT_SELECTION, [PORT_SELECTION_CAP], Some(&groups::PortSelectionCap::INFO);
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | groups are listed once, in order, and found by what announces them | `groups_are_announced` |
    use super::*;

    #[test]
    fn groups_are_announced() {
        assert!(GROUPS.windows(2).all(|pair| pair[0].group < pair[1].group));
        let of = |general: &CmdHcaCap| {
            GROUPS.iter().filter(|info| info.is_advertised(general)).map(GroupInfo::name).collect::<Vec<_>>()
        };
        assert_eq!(of(&CmdHcaCap::zeroed()), ["GENERAL"]);
        let general = CmdHcaCap::zeroed().with(CmdHcaCap::NVMEOTCP, 1).with(CmdHcaCap::ETH_NET_OFFLOADS, 1);
        assert_eq!(of(&general), ["GENERAL", "ETHERNET_OFFLOADS", "NVMEOTCP"]);
        assert_eq!(of(&CmdHcaCap([0xff; CmdHcaCap::SIZE])).len(), GROUPS.len());
    }
}
