//! Commands of the vport and of the multi-physical-function switch (`mlx5-bringup.md` §5).

use hw_regs::layout;
use hw_regs::layout::{Layout, LayoutInfo};

layout! {
    /// `query_nic_vport_context_in`, 16 bytes.
    pub struct QueryNicVportContextIn("query_nic_vport_context_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "other_vport" OTHER_VPORT: bits(64, 1);
        "vport_number" VPORT_NUMBER: bits(80, 16);
        "allowed_list_type" ALLOWED_LIST_TYPE: bits(101, 3);
    }

    /// `query_nic_vport_context_out`, 272 bytes.
    pub struct QueryNicVportContextOut("query_nic_vport_context_out", 272) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "nic_vport_context" NIC_VPORT_CONTEXT: nested(128, 2048, 1, crate::vport::NicVportContext, "nic_vport_context");
    }

    /// `modify_nic_vport_context_in`, 512 bytes.
    pub struct ModifyNicVportContextIn("modify_nic_vport_context_in", 512) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "other_vport" OTHER_VPORT: bits(64, 1);
        "vport_number" VPORT_NUMBER: bits(80, 16);
        "field_select" FIELD_SELECT: nested(96, 32, 1, crate::vport::ModifyNicVportFieldSelect, "modify_nic_vport_field_select");
        "nic_vport_context" NIC_VPORT_CONTEXT: nested(2048, 2048, 1, crate::vport::NicVportContext, "nic_vport_context");
    }

    /// `modify_nic_vport_context_out`, 16 bytes.
    pub struct ModifyNicVportContextOut("modify_nic_vport_context_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `query_vport_state_in`, 16 bytes.
    pub struct QueryVportStateIn("query_vport_state_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "other_vport" OTHER_VPORT: bits(64, 1);
        "vport_number" VPORT_NUMBER: bits(80, 16);
    }

    /// `query_vport_state_out`, 16 bytes.
    pub struct QueryVportStateOut("query_vport_state_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "max_tx_speed" MAX_TX_SPEED: bits(96, 16);
        "admin_state" ADMIN_STATE: bits(120, 4);
        "state" STATE: bits(124, 4);
    }

    /// `modify_vport_state_in`, 16 bytes.
    pub struct ModifyVportStateIn("modify_vport_state_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "other_vport" OTHER_VPORT: bits(64, 1);
        "vport_number" VPORT_NUMBER: bits(80, 16);
        "max_tx_speed" MAX_TX_SPEED: bits(96, 16);
        "ingress_connect" INGRESS_CONNECT: bits(112, 1);
        "egress_connect" EGRESS_CONNECT: bits(113, 1);
        "ingress_connect_valid" INGRESS_CONNECT_VALID: bits(114, 1);
        "egress_connect_valid" EGRESS_CONNECT_VALID: bits(115, 1);
        "admin_state" ADMIN_STATE: bits(120, 4);
    }

    /// `modify_vport_state_out`, 16 bytes.
    pub struct ModifyVportStateOut("modify_vport_state_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `traffic_counter`, 16 bytes.
    pub struct TrafficCounter("traffic_counter", 16) {
        "packets" PACKETS: wide(0, 64);
        "octets" OCTETS: wide(64, 64);
    }

    /// `query_vport_counter_in`, 32 bytes.
    pub struct QueryVportCounterIn("query_vport_counter_in", 32) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "other_vport" OTHER_VPORT: bits(64, 1);
        "port_num" PORT_NUM: bits(76, 4);
        "vport_number" VPORT_NUMBER: bits(80, 16);
        "clear" CLEAR: bits(192, 1);
    }

    /// `query_vport_counter_out`, 528 bytes.
    pub struct QueryVportCounterOut("query_vport_counter_out", 528) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "received_errors" RECEIVED_ERRORS: nested(128, 128, 1, TrafficCounter, "traffic_counter");
        "transmit_errors" TRANSMIT_ERRORS: nested(256, 128, 1, TrafficCounter, "traffic_counter");
        "received_ib_unicast" RECEIVED_IB_UNICAST: nested(384, 128, 1, TrafficCounter, "traffic_counter");
        "transmitted_ib_unicast" TRANSMITTED_IB_UNICAST: nested(512, 128, 1, TrafficCounter, "traffic_counter");
        "received_ib_multicast" RECEIVED_IB_MULTICAST: nested(640, 128, 1, TrafficCounter, "traffic_counter");
        "transmitted_ib_multicast" TRANSMITTED_IB_MULTICAST: nested(768, 128, 1, TrafficCounter, "traffic_counter");
        "received_eth_broadcast" RECEIVED_ETH_BROADCAST: nested(896, 128, 1, TrafficCounter, "traffic_counter");
        "transmitted_eth_broadcast" TRANSMITTED_ETH_BROADCAST: nested(1024, 128, 1, TrafficCounter, "traffic_counter");
        "received_eth_unicast" RECEIVED_ETH_UNICAST: nested(1152, 128, 1, TrafficCounter, "traffic_counter");
        "transmitted_eth_unicast" TRANSMITTED_ETH_UNICAST: nested(1280, 128, 1, TrafficCounter, "traffic_counter");
        "received_eth_multicast" RECEIVED_ETH_MULTICAST: nested(1408, 128, 1, TrafficCounter, "traffic_counter");
        "transmitted_eth_multicast" TRANSMITTED_ETH_MULTICAST: nested(1536, 128, 1, TrafficCounter, "traffic_counter");
        "local_loopback" LOCAL_LOOPBACK: nested(1664, 128, 1, TrafficCounter, "traffic_counter");
    }

    /// `set_l2_table_entry_in`, 64 bytes.
    pub struct SetL2TableEntryIn("set_l2_table_entry_in", 64) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "table_index" TABLE_INDEX: bits(168, 24);
        "silent_mode_valid" SILENT_MODE_VALID: bits(240, 1);
        "silent_mode" SILENT_MODE: bits(241, 1);
        "vlan_valid" VLAN_VALID: bits(243, 1);
        "vlan" VLAN: bits(244, 12);
        "mac_address" MAC_ADDRESS: nested(256, 64, 1, crate::vport::MacAddressLayout, "mac_address_layout");
    }

    /// `set_l2_table_entry_out`, 16 bytes.
    pub struct SetL2TableEntryOut("set_l2_table_entry_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `delete_l2_table_entry_in`, 64 bytes.
    pub struct DeleteL2TableEntryIn("delete_l2_table_entry_in", 64) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "table_index" TABLE_INDEX: bits(168, 24);
    }

    /// `delete_l2_table_entry_out`, 16 bytes.
    pub struct DeleteL2TableEntryOut("delete_l2_table_entry_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }
}

/// Tables of this module.
pub(crate) const LAYOUTS: &[LayoutInfo] = &[
    QueryNicVportContextIn::INFO,
    QueryNicVportContextOut::INFO,
    ModifyNicVportContextIn::INFO,
    ModifyNicVportContextOut::INFO,
    QueryVportStateIn::INFO,
    QueryVportStateOut::INFO,
    ModifyVportStateIn::INFO,
    ModifyVportStateOut::INFO,
    TrafficCounter::INFO,
    QueryVportCounterIn::INFO,
    QueryVportCounterOut::INFO,
    SetL2TableEntryIn::INFO,
    SetL2TableEntryOut::INFO,
    DeleteL2TableEntryIn::INFO,
    DeleteL2TableEntryOut::INFO,
];
