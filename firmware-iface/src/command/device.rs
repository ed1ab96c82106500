//! Commands about the function itself: start, interface, pages, capabilities, stop (`mlx5-bringup.md` §3).

use hw_regs::layout::{Layout, LayoutInfo};
use hw_regs::{codes, layout};

layout! {
    /// `enable_hca_in`, 16 bytes.
    pub struct EnableHcaIn("enable_hca_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "embedded_cpu_function" EMBEDDED_CPU_FUNCTION: bits(64, 1);
        "function_id_type" FUNCTION_ID_TYPE: bits(67, 1);
        "function_id" FUNCTION_ID: bits(80, 16);
    }

    /// `enable_hca_out`, 12 bytes.
    pub struct EnableHcaOut("enable_hca_out", 12) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `disable_hca_in`, 16 bytes.
    pub struct DisableHcaIn("disable_hca_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "embedded_cpu_function" EMBEDDED_CPU_FUNCTION: bits(64, 1);
        "function_id_type" FUNCTION_ID_TYPE: bits(67, 1);
        "function_id" FUNCTION_ID: bits(80, 16);
    }

    /// `disable_hca_out`, 12 bytes.
    pub struct DisableHcaOut("disable_hca_out", 12) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `query_issi_in`, 16 bytes.
    pub struct QueryIssiIn("query_issi_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
    }

    /// `query_issi_out`, 112 bytes.
    pub struct QueryIssiOut("query_issi_out", 112) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "current_issi" CURRENT_ISSI: bits(80, 16);
        "supported_issi_dw0" SUPPORTED_ISSI_DW0: bits(864, 32);
    }

    /// `set_issi_in`, 16 bytes.
    pub struct SetIssiIn("set_issi_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "current_issi" CURRENT_ISSI: bits(80, 16);
    }

    /// `set_issi_out`, 16 bytes.
    pub struct SetIssiOut("set_issi_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `query_pages_in`, 16 bytes.
    pub struct QueryPagesIn("query_pages_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "embedded_cpu_function" EMBEDDED_CPU_FUNCTION: bits(64, 1);
        "function_id" FUNCTION_ID: bits(80, 16);
    }

    /// `query_pages_out`, 16 bytes.
    pub struct QueryPagesOut("query_pages_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "embedded_cpu_function" EMBEDDED_CPU_FUNCTION: bits(64, 1);
        "function_id" FUNCTION_ID: bits(80, 16);
        "num_pages" NUM_PAGES: bits(96, 32);
    }

    /// `manage_pages_in`, 16 bytes.
    pub struct ManagePagesIn("manage_pages_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "embedded_cpu_function" EMBEDDED_CPU_FUNCTION: bits(64, 1);
        "function_id" FUNCTION_ID: bits(80, 16);
        "input_num_entries" INPUT_NUM_ENTRIES: bits(96, 32);
        "pas" PAS: tail(128, 64, "");
    }

    /// `manage_pages_out`, 16 bytes.
    pub struct ManagePagesOut("manage_pages_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "output_num_entries" OUTPUT_NUM_ENTRIES: bits(64, 32);
        "pas" PAS: tail(128, 64, "");
    }

    /// `query_hca_cap_in`, 16 bytes.
    pub struct QueryHcaCapIn("query_hca_cap_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "other_function" OTHER_FUNCTION: bits(64, 1);
        "ec_vf_function" EC_VF_FUNCTION: bits(65, 1);
        "function_id_type" FUNCTION_ID_TYPE: bits(67, 1);
        "function_id" FUNCTION_ID: bits(80, 16);
    }

    /// `query_hca_cap_out`, 4112 bytes.
    pub struct QueryHcaCapOut("query_hca_cap_out", 4112) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "capability" CAPABILITY: blob(128, 32768);
    }

    /// `set_hca_cap_in`, 4112 bytes.
    pub struct SetHcaCapIn("set_hca_cap_in", 4112) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "other_function" OTHER_FUNCTION: bits(64, 1);
        "ec_vf_function" EC_VF_FUNCTION: bits(65, 1);
        "function_id_type" FUNCTION_ID_TYPE: bits(67, 1);
        "function_id" FUNCTION_ID: bits(80, 16);
        "capability" CAPABILITY: blob(128, 32768);
    }

    /// `set_hca_cap_out`, 16 bytes.
    pub struct SetHcaCapOut("set_hca_cap_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `init_hca_in`, 32 bytes.
    pub struct InitHcaIn("init_hca_in", 32) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "sw_vhca_id" SW_VHCA_ID: bits(98, 14);
        "sw_owner_id" SW_OWNER_ID: array(128, 32, 4);
    }

    /// `init_hca_out`, 16 bytes.
    pub struct InitHcaOut("init_hca_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `teardown_hca_in`, 16 bytes.
    pub struct TeardownHcaIn("teardown_hca_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "profile" PROFILE: bits(80, 16);
    }

    /// `teardown_hca_out`, 16 bytes.
    pub struct TeardownHcaOut("teardown_hca_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "state" STATE: bits(127, 1);
    }

    /// `query_adapter_in`, 16 bytes.
    pub struct QueryAdapterIn("query_adapter_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
    }

    /// `query_adapter_out`, 272 bytes.
    pub struct QueryAdapterOut("query_adapter_out", 272) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "query_adapter_struct" QUERY_ADAPTER_STRUCT: nested(128, 2048, 1, QueryAdapterParamBlock, "query_adapter_param_block");
    }

    /// `query_adapter_param_block`, 256 bytes.
    pub struct QueryAdapterParamBlock("query_adapter_param_block", 256) {
        "ieee_vendor_id" IEEE_VENDOR_ID: bits(200, 24);
        "vsd_vendor_id" VSD_VENDOR_ID: bits(240, 16);
        "vsd" VSD: array(256, 8, 208);
        "vsd_contd_psid" VSD_CONTD_PSID: array(1920, 8, 16);
    }

    /// `set_driver_version_in`, 80 bytes.
    pub struct SetDriverVersionIn("set_driver_version_in", 80) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "driver_version" DRIVER_VERSION: array(128, 8, 64);
    }

    /// `set_driver_version_out`, 16 bytes.
    pub struct SetDriverVersionOut("set_driver_version_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `query_special_contexts_in`, 16 bytes.
    pub struct QuerySpecialContextsIn("query_special_contexts_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
    }

    /// `query_special_contexts_out`, 32 bytes.
    pub struct QuerySpecialContextsOut("query_special_contexts_out", 32) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "dump_fill_mkey" DUMP_FILL_MKEY: bits(64, 32);
        "resd_lkey" RESD_LKEY: bits(96, 32);
        "null_mkey" NULL_MKEY: bits(128, 32);
        "terminate_scatter_list_mkey" TERMINATE_SCATTER_LIST_MKEY: bits(160, 32);
        "repeated_mkey" REPEATED_MKEY: bits(192, 32);
    }

    /// `nop_in`, 16 bytes.
    pub struct NopIn("nop_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
    }

    /// `nop_out`, 16 bytes.
    pub struct NopOut("nop_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }
}

codes! {
    /// `op_mod` of QUERY_PAGES: which demand.
    pub struct QueryPagesOpMod(u16, "mlx5_query_pages_in_op_mod") {
        "MLX5_QUERY_PAGES_IN_OP_MOD_BOOT_PAGES" BOOT_PAGES = 0x1;
        "MLX5_QUERY_PAGES_IN_OP_MOD_INIT_PAGES" INIT_PAGES = 0x2;
        "MLX5_QUERY_PAGES_IN_OP_MOD_REGULAR_PAGES" REGULAR_PAGES = 0x3;
    }

    /// `op_mod` of MANAGE_PAGES.
    pub struct ManagePagesOpMod(u16, "mlx5_manage_pages_in_op_mod") {
        "MLX5_MANAGE_PAGES_IN_OP_MOD_ALLOCATION_FAIL" ALLOCATION_FAIL = 0x0;
        "MLX5_MANAGE_PAGES_IN_OP_MOD_ALLOCATION_SUCCESS" ALLOCATION_SUCCESS = 0x1;
        "MLX5_MANAGE_PAGES_IN_OP_MOD_HCA_RETURN_PAGES" HCA_RETURN_PAGES = 0x2;
    }

    /// `TeardownHcaIn::PROFILE`.
    pub struct TeardownProfile(u16, "mlx5_teardown_hca_in_profile") {
        "MLX5_TEARDOWN_HCA_IN_PROFILE_GRACEFUL_CLOSE" GRACEFUL_CLOSE = 0x0;
        "MLX5_TEARDOWN_HCA_IN_PROFILE_FORCE_CLOSE" FORCE_CLOSE = 0x1;
        "MLX5_TEARDOWN_HCA_IN_PROFILE_PREPARE_FAST_TEARDOWN" PREPARE_FAST_TEARDOWN = 0x2;
    }
}

/// Tables of this module.
pub(crate) const LAYOUTS: &[LayoutInfo] = &[
    EnableHcaIn::INFO,
    EnableHcaOut::INFO,
    DisableHcaIn::INFO,
    DisableHcaOut::INFO,
    QueryIssiIn::INFO,
    QueryIssiOut::INFO,
    SetIssiIn::INFO,
    SetIssiOut::INFO,
    QueryPagesIn::INFO,
    QueryPagesOut::INFO,
    ManagePagesIn::INFO,
    ManagePagesOut::INFO,
    QueryHcaCapIn::INFO,
    QueryHcaCapOut::INFO,
    SetHcaCapIn::INFO,
    SetHcaCapOut::INFO,
    InitHcaIn::INFO,
    InitHcaOut::INFO,
    TeardownHcaIn::INFO,
    TeardownHcaOut::INFO,
    QueryAdapterIn::INFO,
    QueryAdapterOut::INFO,
    QueryAdapterParamBlock::INFO,
    SetDriverVersionIn::INFO,
    SetDriverVersionOut::INFO,
    QuerySpecialContextsIn::INFO,
    QuerySpecialContextsOut::INFO,
    NopIn::INFO,
    NopOut::INFO,
];

/// Number sets of this module.
pub(crate) const CODES: &[(&str, &[(&str, u64)])] =
    &[QueryPagesOpMod::TABLE, ManagePagesOpMod::TABLE, TeardownProfile::TABLE];
