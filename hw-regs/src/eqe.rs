//! Event queue entries: 64 bytes, the event's own data in 28 of them (`mlx5-bringup.md` §7).

use crate::layout::{Layout, LayoutInfo};
use crate::{codes, layout};

layout! {
    /// `hw_eqe`, 64 bytes.
    pub struct Eqe("hw_eqe", 64) {
        "type" TYPE: bits(8, 8);
        "sub_type" SUB_TYPE: bits(24, 8);
        "data" DATA: blob(256, 224);
        "signature" SIGNATURE: bits(496, 8);
        "owner" OWNER: bits(504, 8);
        "owner.owner_bit" OWNER_OWNER_BIT: bits(511, 1);
    }

    /// `hw_eqe_cmd`, 28 bytes.
    pub struct EqeCmd("hw_eqe_cmd", 28) {
        "vector" VECTOR: bits(0, 32);
    }

    /// `hw_eqe_comp`, 28 bytes.
    pub struct EqeComp("hw_eqe_comp", 28) {
        "cqn" CQN: bits(192, 32);
        "cqn.cqn_24" CQN_CQN_24: bits(200, 24);
    }

    /// `hw_eqe_qp_srq`, 28 bytes.
    pub struct EqeQpSrq("hw_eqe_qp_srq", 28) {
        "type" TYPE: bits(160, 8);
        "qp_srq_n" QP_SRQ_N: bits(192, 32);
        "qp_srq_n.num_24" QP_SRQ_N_NUM_24: bits(200, 24);
    }

    /// `hw_eqe_cq_err`, 12 bytes.
    pub struct EqeCqErr("hw_eqe_cq_err", 12) {
        "cqn" CQN: bits(0, 32);
        "cqn.cqn_24" CQN_CQN_24: bits(8, 24);
        "syndrome" SYNDROME: bits(88, 8);
    }

    /// `hw_eqe_port_state`, 9 bytes.
    pub struct EqePortState("hw_eqe_port_state", 9) {
        "port" PORT: bits(64, 8);
        "port.port_num" PORT_PORT_NUM: bits(64, 4);
    }

    /// `hw_eqe_page_req`, 28 bytes.
    pub struct EqePageReq("hw_eqe_page_req", 28) {
        "ec_function" EC_FUNCTION: bits(0, 16);
        "ec_function.embedded_cpu" EC_FUNCTION_EMBEDDED_CPU: bits(0, 1);
        "ec_function.release_all_pages" EC_FUNCTION_RELEASE_ALL_PAGES: bits(1, 1);
        "func_id" FUNC_ID: bits(16, 16);
        "num_pages" NUM_PAGES: bits(32, 32);
    }

    /// `hw_eqe_vport_change`, 28 bytes.
    pub struct EqeVportChange("hw_eqe_vport_change", 28) {
        "vport_num" VPORT_NUM: bits(16, 16);
    }

    /// `hw_eqe_port_module`, 7 bytes.
    pub struct EqePortModule("hw_eqe_port_module", 7) {
        "module" MODULE: bits(8, 8);
        "module_status" MODULE_STATUS: bits(24, 8);
        "module_status.status" MODULE_STATUS_STATUS: bits(28, 4);
        "error_type" ERROR_TYPE: bits(48, 8);
        "error_type.error" ERROR_TYPE_ERROR: bits(52, 4);
    }

    /// `hw_eqe_temp_warning`, 16 bytes.
    pub struct EqeTempWarning("hw_eqe_temp_warning", 16) {
        "sensor_warning_msb" SENSOR_WARNING_MSB: wide(0, 64);
        "sensor_warning_lsb" SENSOR_WARNING_LSB: wide(64, 64);
    }

    /// `hw_eqe_obj_change`, 8 bytes.
    pub struct EqeObjChange("hw_eqe_obj_change", 8) {
        "obj_type" OBJ_TYPE: bits(16, 16);
        "obj_id" OBJ_ID: bits(32, 32);
    }
}

codes! {
    /// `Eqe::TYPE`: what happened.
    pub struct EventType(u8, "mlx5_event") {
        "MLX5_EVENT_TYPE_COMP" COMP = 0x0;
        "MLX5_EVENT_TYPE_PATH_MIG" PATH_MIG = 0x1;
        "MLX5_EVENT_TYPE_COMM_EST" COMM_EST = 0x2;
        "MLX5_EVENT_TYPE_SQ_DRAINED" SQ_DRAINED = 0x3;
        "MLX5_EVENT_TYPE_SRQ_LAST_WQE" SRQ_LAST_WQE = 0x13;
        "MLX5_EVENT_TYPE_SRQ_RQ_LIMIT" SRQ_RQ_LIMIT = 0x14;
        "MLX5_EVENT_TYPE_CQ_ERROR" CQ_ERROR = 0x4;
        "MLX5_EVENT_TYPE_WQ_CATAS_ERROR" WQ_CATAS_ERROR = 0x5;
        "MLX5_EVENT_TYPE_PATH_MIG_FAILED" PATH_MIG_FAILED = 0x7;
        "MLX5_EVENT_TYPE_WQ_INVAL_REQ_ERROR" WQ_INVAL_REQ_ERROR = 0x10;
        "MLX5_EVENT_TYPE_WQ_ACCESS_ERROR" WQ_ACCESS_ERROR = 0x11;
        "MLX5_EVENT_TYPE_SRQ_CATAS_ERROR" SRQ_CATAS_ERROR = 0x12;
        "MLX5_EVENT_TYPE_OBJECT_CHANGE" OBJECT_CHANGE = 0x27;
        "MLX5_EVENT_TYPE_INTERNAL_ERROR" INTERNAL_ERROR = 0x8;
        "MLX5_EVENT_TYPE_PORT_CHANGE" PORT_CHANGE = 0x9;
        "MLX5_EVENT_TYPE_GPIO_EVENT" GPIO_EVENT = 0x15;
        "MLX5_EVENT_TYPE_PORT_MODULE_EVENT" PORT_MODULE_EVENT = 0x16;
        "MLX5_EVENT_TYPE_TEMP_WARN_EVENT" TEMP_WARN_EVENT = 0x17;
        "MLX5_EVENT_TYPE_XRQ_ERROR" XRQ_ERROR = 0x18;
        "MLX5_EVENT_TYPE_REMOTE_CONFIG" REMOTE_CONFIG = 0x19;
        "MLX5_EVENT_TYPE_GENERAL_EVENT" GENERAL_EVENT = 0x22;
        "MLX5_EVENT_TYPE_MONITOR_COUNTER" MONITOR_COUNTER = 0x24;
        "MLX5_EVENT_TYPE_PPS_EVENT" PPS_EVENT = 0x25;
        "MLX5_EVENT_TYPE_DB_BF_CONGESTION" DB_BF_CONGESTION = 0x1a;
        "MLX5_EVENT_TYPE_STALL_EVENT" STALL_EVENT = 0x1b;
        "MLX5_EVENT_TYPE_CMD" CMD = 0xa;
        "MLX5_EVENT_TYPE_PAGE_REQUEST" PAGE_REQUEST = 0xb;
        "MLX5_EVENT_TYPE_PAGE_FAULT" PAGE_FAULT = 0xc;
        "MLX5_EVENT_TYPE_NIC_VPORT_CHANGE" NIC_VPORT_CHANGE = 0xd;
        "MLX5_EVENT_TYPE_ESW_FUNCTIONS_CHANGED" ESW_FUNCTIONS_CHANGED = 0xe;
        "MLX5_EVENT_TYPE_VHCA_STATE_CHANGE" VHCA_STATE_CHANGE = 0xf;
        "MLX5_EVENT_TYPE_DCT_DRAINED" DCT_DRAINED = 0x1c;
        "MLX5_EVENT_TYPE_DCT_KEY_VIOLATION" DCT_KEY_VIOLATION = 0x1d;
        "MLX5_EVENT_TYPE_FPGA_ERROR" FPGA_ERROR = 0x20;
        "MLX5_EVENT_TYPE_FPGA_QP_ERROR" FPGA_QP_ERROR = 0x21;
        "MLX5_EVENT_TYPE_DEVICE_TRACER" DEVICE_TRACER = 0x26;
    }

    /// `Eqe::SUB_TYPE` of a port change.
    pub struct PortChange(u8, "port_change_subtype") {
        "MLX5_PORT_CHANGE_SUBTYPE_DOWN" DOWN = 0x1;
        "MLX5_PORT_CHANGE_SUBTYPE_ACTIVE" ACTIVE = 0x4;
        "MLX5_PORT_CHANGE_SUBTYPE_INITIALIZED" INITIALIZED = 0x5;
        "MLX5_PORT_CHANGE_SUBTYPE_LID" LID = 0x6;
        "MLX5_PORT_CHANGE_SUBTYPE_PKEY" PKEY = 0x7;
        "MLX5_PORT_CHANGE_SUBTYPE_GUID" GUID = 0x8;
        "MLX5_PORT_CHANGE_SUBTYPE_CLIENT_REREG" CLIENT_REREG = 0x9;
    }

    /// `EqeCqErr::SYNDROME`.
    pub struct CqErrorSyndrome(u8, "mlx5_cq_error_syndrome_cq") {
        "MLX5_CQ_ERROR_SYNDROME_CQ_OVERRUN" CQ_OVERRUN = 0x1;
        "MLX5_CQ_ERROR_SYNDROME_CQ_ACCESS_VIOLATION_ERROR" CQ_ACCESS_VIOLATION_ERROR = 0x2;
    }
}

/// Tables of this module.
pub(crate) const LAYOUTS: &[LayoutInfo] = &[
    Eqe::INFO,
    EqeCmd::INFO,
    EqeComp::INFO,
    EqeQpSrq::INFO,
    EqeCqErr::INFO,
    EqePortState::INFO,
    EqePageReq::INFO,
    EqeVportChange::INFO,
    EqePortModule::INFO,
    EqeTempWarning::INFO,
    EqeObjChange::INFO,
];

/// Number sets of this module.
pub(crate) const CODES: &[(&str, &[(&str, u64)])] = &[EventType::TABLE, PortChange::TABLE, CqErrorSyndrome::TABLE];
