//! The NIC vport context (`mlx5-bringup.md` §5).

use hw_regs::layout::{Layout, LayoutInfo};
use hw_regs::{codes, layout};

layout! {
    /// `mac_address_layout`, 8 bytes.
    pub struct MacAddressLayout("mac_address_layout", 8) {
        "mac_addr_47_32" MAC_ADDR_47_32: bits(16, 16);
        "mac_addr_31_0" MAC_ADDR_31_0: bits(32, 32);
    }

    /// `nic_vport_context`, 256 bytes.
    pub struct NicVportContext("nic_vport_context", 256) {
        "min_wqe_inline_mode" MIN_WQE_INLINE_MODE: bits(5, 3);
        "disable_mc_local_lb" DISABLE_MC_LOCAL_LB: bits(29, 1);
        "disable_uc_local_lb" DISABLE_UC_LOCAL_LB: bits(30, 1);
        "roce_en" ROCE_EN: bits(31, 1);
        "arm_change_event" ARM_CHANGE_EVENT: bits(32, 1);
        "event_on_mtu" EVENT_ON_MTU: bits(59, 1);
        "event_on_promisc_change" EVENT_ON_PROMISC_CHANGE: bits(60, 1);
        "event_on_vlan_change" EVENT_ON_VLAN_CHANGE: bits(61, 1);
        "event_on_mc_address_change" EVENT_ON_MC_ADDRESS_CHANGE: bits(62, 1);
        "event_on_uc_address_change" EVENT_ON_UC_ADDRESS_CHANGE: bits(63, 1);
        "vhca_id_type" VHCA_ID_TYPE: bits(64, 1);
        "affiliation_criteria" AFFILIATION_CRITERIA: bits(76, 4);
        "affiliated_vhca_id" AFFILIATED_VHCA_ID: bits(80, 16);
        "sd_group" SD_GROUP: bits(257, 3);
        "sd_group_size" SD_GROUP_SIZE: bits(264, 8);
        "mtu" MTU: bits(304, 16);
        "system_image_guid" SYSTEM_IMAGE_GUID: wide(320, 64);
        "port_guid" PORT_GUID: wide(384, 64);
        "node_guid" NODE_GUID: wide(448, 64);
        "qkey_violation_counter" QKEY_VIOLATION_COUNTER: bits(832, 16);
        "promisc_uc" PROMISC_UC: bits(1920, 1);
        "promisc_mc" PROMISC_MC: bits(1921, 1);
        "promisc_all" PROMISC_ALL: bits(1922, 1);
        "allowed_list_type" ALLOWED_LIST_TYPE: bits(1925, 3);
        "allowed_list_size" ALLOWED_LIST_SIZE: bits(1936, 16);
        "permanent_address" PERMANENT_ADDRESS: nested(1952, 64, 1, MacAddressLayout, "mac_address_layout");
        "current_uc_mac_address" CURRENT_UC_MAC_ADDRESS: tail(2048, 64, "");
    }

    /// `modify_nic_vport_field_select`, 4 bytes.
    pub struct ModifyNicVportFieldSelect("modify_nic_vport_field_select", 4) {
        "affiliation" AFFILIATION: bits(18, 1);
        "disable_uc_local_lb" DISABLE_UC_LOCAL_LB: bits(20, 1);
        "disable_mc_local_lb" DISABLE_MC_LOCAL_LB: bits(21, 1);
        "node_guid" NODE_GUID: bits(22, 1);
        "port_guid" PORT_GUID: bits(23, 1);
        "min_inline" MIN_INLINE: bits(24, 1);
        "mtu" MTU: bits(25, 1);
        "change_event" CHANGE_EVENT: bits(26, 1);
        "promisc" PROMISC: bits(27, 1);
        "permanent_address" PERMANENT_ADDRESS: bits(28, 1);
        "addresses_list" ADDRESSES_LIST: bits(29, 1);
        "roce_en" ROCE_EN: bits(30, 1);
    }
}

codes! {
    /// `allowed_list_type`: which address list.
    pub struct VportListType(u8, "mlx5_list_type") {
        "MLX5_NVPRT_LIST_TYPE_UC" UC = 0x0;
        "MLX5_NVPRT_LIST_TYPE_MC" MC = 0x1;
        "MLX5_NVPRT_LIST_TYPE_VLAN" VLAN = 0x2;
    }

    /// `QueryVportStateOut::STATE`.
    pub struct VportState(u8, "vport_state") {
        "VPORT_STATE_DOWN" DOWN = 0x0;
        "VPORT_STATE_UP" UP = 0x1;
    }
}

/// Tables of this module.
pub(crate) const LAYOUTS: &[LayoutInfo] =
    &[MacAddressLayout::INFO, NicVportContext::INFO, ModifyNicVportFieldSelect::INFO];

/// Number sets of this module.
pub(crate) const CODES: &[(&str, &[(&str, u64)])] = &[VportListType::TABLE, VportState::TABLE];
