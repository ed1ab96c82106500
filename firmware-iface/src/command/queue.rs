//! Commands of send and receive queues and of what spreads packets over them: TIS, SQ, RQ, RQT, TIR (`mlx5-bringup.md` §4).

use hw_regs::layout;
use hw_regs::layout::{Layout, LayoutInfo};

layout! {
    /// `create_tis_in`, 192 bytes.
    pub struct CreateTisIn("create_tis_in", 192) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "ctx" CTX: nested(256, 1280, 1, crate::context::Tisc, "tisc");
    }

    /// `create_tis_out`, 16 bytes.
    pub struct CreateTisOut("create_tis_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "tisn" TISN: bits(72, 24);
    }

    /// `destroy_tis_in`, 16 bytes.
    pub struct DestroyTisIn("destroy_tis_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "tisn" TISN: bits(72, 24);
    }

    /// `destroy_tis_out`, 16 bytes.
    pub struct DestroyTisOut("destroy_tis_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `create_sq_in`, 272 bytes.
    pub struct CreateSqIn("create_sq_in", 272) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "ctx" CTX: nested(256, 1920, 1, crate::context::Sqc, "sqc");
    }

    /// `create_sq_out`, 16 bytes.
    pub struct CreateSqOut("create_sq_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "sqn" SQN: bits(72, 24);
    }

    /// `modify_sq_in`, 272 bytes.
    pub struct ModifySqIn("modify_sq_in", 272) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "sq_state" SQ_STATE: bits(64, 4);
        "sqn" SQN: bits(72, 24);
        "modify_bitmask" MODIFY_BITMASK: wide(128, 64);
        "ctx" CTX: nested(256, 1920, 1, crate::context::Sqc, "sqc");
    }

    /// `modify_sq_out`, 16 bytes.
    pub struct ModifySqOut("modify_sq_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `query_sq_in`, 16 bytes.
    pub struct QuerySqIn("query_sq_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "sqn" SQN: bits(72, 24);
    }

    /// `query_sq_out`, 272 bytes.
    pub struct QuerySqOut("query_sq_out", 272) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "sq_context" SQ_CONTEXT: nested(256, 1920, 1, crate::context::Sqc, "sqc");
    }

    /// `destroy_sq_in`, 16 bytes.
    pub struct DestroySqIn("destroy_sq_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "sqn" SQN: bits(72, 24);
    }

    /// `destroy_sq_out`, 16 bytes.
    pub struct DestroySqOut("destroy_sq_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `create_rq_in`, 272 bytes.
    pub struct CreateRqIn("create_rq_in", 272) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "ctx" CTX: nested(256, 1920, 1, crate::context::Rqc, "rqc");
    }

    /// `create_rq_out`, 16 bytes.
    pub struct CreateRqOut("create_rq_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "rqn" RQN: bits(72, 24);
    }

    /// `modify_rq_in`, 272 bytes.
    pub struct ModifyRqIn("modify_rq_in", 272) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "rq_state" RQ_STATE: bits(64, 4);
        "rqn" RQN: bits(72, 24);
        "modify_bitmask" MODIFY_BITMASK: wide(128, 64);
        "ctx" CTX: nested(256, 1920, 1, crate::context::Rqc, "rqc");
    }

    /// `modify_rq_out`, 16 bytes.
    pub struct ModifyRqOut("modify_rq_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `query_rq_in`, 16 bytes.
    pub struct QueryRqIn("query_rq_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "rqn" RQN: bits(72, 24);
    }

    /// `query_rq_out`, 272 bytes.
    pub struct QueryRqOut("query_rq_out", 272) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "rq_context" RQ_CONTEXT: nested(256, 1920, 1, crate::context::Rqc, "rqc");
    }

    /// `destroy_rq_in`, 16 bytes.
    pub struct DestroyRqIn("destroy_rq_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "rqn" RQN: bits(72, 24);
    }

    /// `destroy_rq_out`, 16 bytes.
    pub struct DestroyRqOut("destroy_rq_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `rqt_bitmask`, 8 bytes.
    pub struct RqtBitmask("rqt_bitmask", 8) {
        "rqn_list" RQN_LIST: bits(63, 1);
    }

    /// `create_rqt_in`, 272 bytes.
    pub struct CreateRqtIn("create_rqt_in", 272) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "rqt_context" RQT_CONTEXT: nested(256, 1920, 1, crate::context::Rqtc, "rqtc");
    }

    /// `create_rqt_out`, 16 bytes.
    pub struct CreateRqtOut("create_rqt_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "rqtn" RQTN: bits(72, 24);
    }

    /// `modify_rqt_in`, 272 bytes.
    pub struct ModifyRqtIn("modify_rqt_in", 272) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "rqtn" RQTN: bits(72, 24);
        "bitmask" BITMASK: nested(128, 64, 1, RqtBitmask, "rqt_bitmask");
        "ctx" CTX: nested(256, 1920, 1, crate::context::Rqtc, "rqtc");
    }

    /// `modify_rqt_out`, 16 bytes.
    pub struct ModifyRqtOut("modify_rqt_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `destroy_rqt_in`, 16 bytes.
    pub struct DestroyRqtIn("destroy_rqt_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "rqtn" RQTN: bits(72, 24);
    }

    /// `destroy_rqt_out`, 16 bytes.
    pub struct DestroyRqtOut("destroy_rqt_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `modify_tir_bitmask`, 8 bytes.
    pub struct ModifyTirBitmask("modify_tir_bitmask", 8) {
        "self_lb_en" SELF_LB_EN: bits(59, 1);
        "hash" HASH: bits(61, 1);
        "packet_merge" PACKET_MERGE: bits(63, 1);
    }

    /// `create_tir_in`, 272 bytes.
    pub struct CreateTirIn("create_tir_in", 272) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "ctx" CTX: nested(256, 1920, 1, crate::context::Tirc, "tirc");
    }

    /// `create_tir_out`, 16 bytes.
    pub struct CreateTirOut("create_tir_out", 16) {
        "status" STATUS: bits(0, 8);
        "icm_address_63_40" ICM_ADDRESS_63_40: bits(8, 24);
        "syndrome" SYNDROME: bits(32, 32);
        "icm_address_39_32" ICM_ADDRESS_39_32: bits(64, 8);
        "tirn" TIRN: bits(72, 24);
        "icm_address_31_0" ICM_ADDRESS_31_0: bits(96, 32);
    }

    /// `modify_tir_in`, 272 bytes.
    pub struct ModifyTirIn("modify_tir_in", 272) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "tirn" TIRN: bits(72, 24);
        "bitmask" BITMASK: nested(128, 64, 1, ModifyTirBitmask, "modify_tir_bitmask");
        "ctx" CTX: nested(256, 1920, 1, crate::context::Tirc, "tirc");
    }

    /// `modify_tir_out`, 16 bytes.
    pub struct ModifyTirOut("modify_tir_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `destroy_tir_in`, 16 bytes.
    pub struct DestroyTirIn("destroy_tir_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "tirn" TIRN: bits(72, 24);
    }

    /// `destroy_tir_out`, 16 bytes.
    pub struct DestroyTirOut("destroy_tir_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `query_tis_in`, 16 bytes.
    pub struct QueryTisIn("query_tis_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "tisn" TISN: bits(72, 24);
    }

    /// `query_tis_out`, 176 bytes.
    pub struct QueryTisOut("query_tis_out", 176) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "tis_context" TIS_CONTEXT: nested(128, 1280, 1, crate::context::Tisc, "tisc");
    }

    /// `query_rqt_in`, 16 bytes.
    pub struct QueryRqtIn("query_rqt_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "rqtn" RQTN: bits(72, 24);
    }

    /// `query_rqt_out`, 272 bytes.
    pub struct QueryRqtOut("query_rqt_out", 272) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "rqt_context" RQT_CONTEXT: nested(256, 1920, 1, crate::context::Rqtc, "rqtc");
    }

    /// `query_tir_in`, 16 bytes.
    pub struct QueryTirIn("query_tir_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "tirn" TIRN: bits(72, 24);
    }

    /// `query_tir_out`, 272 bytes.
    pub struct QueryTirOut("query_tir_out", 272) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "tir_context" TIR_CONTEXT: nested(256, 1920, 1, crate::context::Tirc, "tirc");
    }
}

/// Tables of this module.
pub(crate) const LAYOUTS: &[LayoutInfo] = &[
    CreateTisIn::INFO,
    CreateTisOut::INFO,
    DestroyTisIn::INFO,
    DestroyTisOut::INFO,
    CreateSqIn::INFO,
    CreateSqOut::INFO,
    ModifySqIn::INFO,
    ModifySqOut::INFO,
    QuerySqIn::INFO,
    QuerySqOut::INFO,
    DestroySqIn::INFO,
    DestroySqOut::INFO,
    CreateRqIn::INFO,
    CreateRqOut::INFO,
    ModifyRqIn::INFO,
    ModifyRqOut::INFO,
    QueryRqIn::INFO,
    QueryRqOut::INFO,
    DestroyRqIn::INFO,
    DestroyRqOut::INFO,
    RqtBitmask::INFO,
    CreateRqtIn::INFO,
    CreateRqtOut::INFO,
    ModifyRqtIn::INFO,
    ModifyRqtOut::INFO,
    DestroyRqtIn::INFO,
    DestroyRqtOut::INFO,
    ModifyTirBitmask::INFO,
    CreateTirIn::INFO,
    CreateTirOut::INFO,
    ModifyTirIn::INFO,
    ModifyTirOut::INFO,
    DestroyTirIn::INFO,
    DestroyTirOut::INFO,
    QueryTisIn::INFO,
    QueryTisOut::INFO,
    QueryRqtIn::INFO,
    QueryRqtOut::INFO,
    QueryTirIn::INFO,
    QueryTirOut::INFO,
];
