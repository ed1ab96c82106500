//! Commands of flow tables, flow groups and flow table entries (`mlx5-bringup.md` §6).

use hw_regs::layout;
use hw_regs::layout::{Layout, LayoutInfo};

layout! {
    /// `create_flow_table_in`, 64 bytes.
    pub struct CreateFlowTableIn("create_flow_table_in", 64) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "other_vport" OTHER_VPORT: bits(64, 1);
        "other_eswitch" OTHER_ESWITCH: bits(65, 1);
        "vport_number" VPORT_NUMBER: bits(80, 16);
        "table_type" TABLE_TYPE: bits(128, 8);
        "eswitch_owner_vhca_id" ESWITCH_OWNER_VHCA_ID: bits(144, 16);
        "flow_table_context" FLOW_TABLE_CONTEXT: nested(192, 320, 1, crate::steering::FlowTableContext, "flow_table_context");
    }

    /// `create_flow_table_out`, 16 bytes.
    pub struct CreateFlowTableOut("create_flow_table_out", 16) {
        "status" STATUS: bits(0, 8);
        "icm_address_63_40" ICM_ADDRESS_63_40: bits(8, 24);
        "syndrome" SYNDROME: bits(32, 32);
        "icm_address_39_32" ICM_ADDRESS_39_32: bits(64, 8);
        "table_id" TABLE_ID: bits(72, 24);
        "icm_address_31_0" ICM_ADDRESS_31_0: bits(96, 32);
    }

    /// `modify_flow_table_in`, 64 bytes.
    pub struct ModifyFlowTableIn("modify_flow_table_in", 64) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "other_vport" OTHER_VPORT: bits(64, 1);
        "other_eswitch" OTHER_ESWITCH: bits(65, 1);
        "vport_number" VPORT_NUMBER: bits(80, 16);
        "modify_field_select" MODIFY_FIELD_SELECT: bits(112, 16);
        "table_type" TABLE_TYPE: bits(128, 8);
        "eswitch_owner_vhca_id" ESWITCH_OWNER_VHCA_ID: bits(144, 16);
        "table_id" TABLE_ID: bits(168, 24);
        "flow_table_context" FLOW_TABLE_CONTEXT: nested(192, 320, 1, crate::steering::FlowTableContext, "flow_table_context");
    }

    /// `modify_flow_table_out`, 16 bytes.
    pub struct ModifyFlowTableOut("modify_flow_table_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `destroy_flow_table_in`, 64 bytes.
    pub struct DestroyFlowTableIn("destroy_flow_table_in", 64) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "other_vport" OTHER_VPORT: bits(64, 1);
        "other_eswitch" OTHER_ESWITCH: bits(65, 1);
        "vport_number" VPORT_NUMBER: bits(80, 16);
        "table_type" TABLE_TYPE: bits(128, 8);
        "eswitch_owner_vhca_id" ESWITCH_OWNER_VHCA_ID: bits(144, 16);
        "table_id" TABLE_ID: bits(168, 24);
    }

    /// `destroy_flow_table_out`, 16 bytes.
    pub struct DestroyFlowTableOut("destroy_flow_table_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `create_flow_group_in`, 1024 bytes.
    pub struct CreateFlowGroupIn("create_flow_group_in", 1024) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "other_vport" OTHER_VPORT: bits(64, 1);
        "other_eswitch" OTHER_ESWITCH: bits(65, 1);
        "vport_number" VPORT_NUMBER: bits(80, 16);
        "table_type" TABLE_TYPE: bits(128, 8);
        "group_type" GROUP_TYPE: bits(140, 4);
        "eswitch_owner_vhca_id" ESWITCH_OWNER_VHCA_ID: bits(144, 16);
        "table_id" TABLE_ID: bits(168, 24);
        "source_eswitch_owner_vhca_id_valid" SOURCE_ESWITCH_OWNER_VHCA_ID_VALID: bits(192, 1);
        "start_flow_index" START_FLOW_INDEX: bits(224, 32);
        "end_flow_index" END_FLOW_INDEX: bits(288, 32);
        "match_definer_id" MATCH_DEFINER_ID: bits(336, 16);
        "match_criteria_enable" MATCH_CRITERIA_ENABLE: bits(504, 8);
        "match_criteria" MATCH_CRITERIA: nested(512, 4096, 1, crate::steering::FteMatchParam, "fte_match_param");
    }

    /// `create_flow_group_out`, 16 bytes.
    pub struct CreateFlowGroupOut("create_flow_group_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "group_id" GROUP_ID: bits(72, 24);
    }

    /// `destroy_flow_group_in`, 64 bytes.
    pub struct DestroyFlowGroupIn("destroy_flow_group_in", 64) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "other_vport" OTHER_VPORT: bits(64, 1);
        "other_eswitch" OTHER_ESWITCH: bits(65, 1);
        "vport_number" VPORT_NUMBER: bits(80, 16);
        "table_type" TABLE_TYPE: bits(128, 8);
        "eswitch_owner_vhca_id" ESWITCH_OWNER_VHCA_ID: bits(144, 16);
        "table_id" TABLE_ID: bits(168, 24);
        "group_id" GROUP_ID: bits(192, 32);
    }

    /// `destroy_flow_group_out`, 16 bytes.
    pub struct DestroyFlowGroupOut("destroy_flow_group_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `set_fte_in`, 832 bytes.
    pub struct SetFteIn("set_fte_in", 832) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "other_vport" OTHER_VPORT: bits(64, 1);
        "other_eswitch" OTHER_ESWITCH: bits(65, 1);
        "vport_number" VPORT_NUMBER: bits(80, 16);
        "table_type" TABLE_TYPE: bits(128, 8);
        "eswitch_owner_vhca_id" ESWITCH_OWNER_VHCA_ID: bits(144, 16);
        "table_id" TABLE_ID: bits(168, 24);
        "ignore_flow_level" IGNORE_FLOW_LEVEL: bits(192, 1);
        "modify_enable_mask" MODIFY_ENABLE_MASK: bits(216, 8);
        "flow_index" FLOW_INDEX: bits(256, 32);
        "flow_context" FLOW_CONTEXT: nested(512, 6144, 1, crate::steering::FlowContext, "flow_context");
    }

    /// `set_fte_out`, 16 bytes.
    pub struct SetFteOut("set_fte_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `delete_fte_in`, 64 bytes.
    pub struct DeleteFteIn("delete_fte_in", 64) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "other_vport" OTHER_VPORT: bits(64, 1);
        "other_eswitch" OTHER_ESWITCH: bits(65, 1);
        "vport_number" VPORT_NUMBER: bits(80, 16);
        "table_type" TABLE_TYPE: bits(128, 8);
        "eswitch_owner_vhca_id" ESWITCH_OWNER_VHCA_ID: bits(144, 16);
        "table_id" TABLE_ID: bits(168, 24);
        "flow_index" FLOW_INDEX: bits(256, 32);
    }

    /// `delete_fte_out`, 16 bytes.
    pub struct DeleteFteOut("delete_fte_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `set_flow_table_root_in`, 64 bytes.
    pub struct SetFlowTableRootIn("set_flow_table_root_in", 64) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "other_vport" OTHER_VPORT: bits(64, 1);
        "other_eswitch" OTHER_ESWITCH: bits(65, 1);
        "vport_number" VPORT_NUMBER: bits(80, 16);
        "eswitch_owner_vhca_id" ESWITCH_OWNER_VHCA_ID: bits(112, 16);
        "table_type" TABLE_TYPE: bits(128, 8);
        "table_of_other_vport" TABLE_OF_OTHER_VPORT: bits(143, 1);
        "table_vport_number" TABLE_VPORT_NUMBER: bits(144, 16);
        "table_id" TABLE_ID: bits(168, 24);
        "underlay_qpn" UNDERLAY_QPN: bits(200, 24);
        "table_eswitch_owner_vhca_id_valid" TABLE_ESWITCH_OWNER_VHCA_ID_VALID: bits(224, 1);
        "table_eswitch_owner_vhca_id" TABLE_ESWITCH_OWNER_VHCA_ID: bits(240, 16);
    }

    /// `set_flow_table_root_out`, 16 bytes.
    pub struct SetFlowTableRootOut("set_flow_table_root_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `query_flow_table_in`, 64 bytes.
    pub struct QueryFlowTableIn("query_flow_table_in", 64) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "table_type" TABLE_TYPE: bits(128, 8);
        "table_id" TABLE_ID: bits(168, 24);
    }

    /// `query_flow_table_out`, 64 bytes.
    pub struct QueryFlowTableOut("query_flow_table_out", 64) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "flow_table_context" FLOW_TABLE_CONTEXT: nested(192, 320, 1, crate::steering::FlowTableContext, "flow_table_context");
    }

    /// `query_flow_group_in`, 64 bytes.
    pub struct QueryFlowGroupIn("query_flow_group_in", 64) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "table_type" TABLE_TYPE: bits(128, 8);
        "table_id" TABLE_ID: bits(168, 24);
        "group_id" GROUP_ID: bits(192, 32);
    }

    /// `query_flow_group_out`, 1024 bytes.
    pub struct QueryFlowGroupOut("query_flow_group_out", 1024) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "start_flow_index" START_FLOW_INDEX: bits(224, 32);
        "end_flow_index" END_FLOW_INDEX: bits(288, 32);
        "match_criteria_enable" MATCH_CRITERIA_ENABLE: bits(504, 8);
        "match_criteria" MATCH_CRITERIA: nested(512, 4096, 1, crate::steering::FteMatchParam, "fte_match_param");
    }

    /// `query_fte_in`, 64 bytes.
    pub struct QueryFteIn("query_fte_in", 64) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "table_type" TABLE_TYPE: bits(128, 8);
        "table_id" TABLE_ID: bits(168, 24);
        "flow_index" FLOW_INDEX: bits(256, 32);
    }

    /// `query_fte_out`, 832 bytes.
    pub struct QueryFteOut("query_fte_out", 832) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "flow_context" FLOW_CONTEXT: nested(512, 6144, 1, crate::steering::FlowContext, "flow_context");
    }
}

/// Tables of this module.
pub(crate) const LAYOUTS: &[LayoutInfo] = &[
    CreateFlowTableIn::INFO,
    CreateFlowTableOut::INFO,
    ModifyFlowTableIn::INFO,
    ModifyFlowTableOut::INFO,
    DestroyFlowTableIn::INFO,
    DestroyFlowTableOut::INFO,
    CreateFlowGroupIn::INFO,
    CreateFlowGroupOut::INFO,
    DestroyFlowGroupIn::INFO,
    DestroyFlowGroupOut::INFO,
    SetFteIn::INFO,
    SetFteOut::INFO,
    DeleteFteIn::INFO,
    DeleteFteOut::INFO,
    SetFlowTableRootIn::INFO,
    SetFlowTableRootOut::INFO,
    QueryFlowTableIn::INFO,
    QueryFlowTableOut::INFO,
    QueryFlowGroupIn::INFO,
    QueryFlowGroupOut::INFO,
    QueryFteIn::INFO,
    QueryFteOut::INFO,
];
