//! Command status: what firmware thought of a command that it could read (`mlx5-bringup.md` §2).

use hw_regs::codes;

codes! {
    /// First byte of every command output.
    pub struct Status(u8, "cmd_status") {
        "MLX5_CMD_STAT_OK" OK = 0x0;
        "MLX5_CMD_STAT_INT_ERR" INT_ERR = 0x1;
        "MLX5_CMD_STAT_BAD_OP_ERR" BAD_OP_ERR = 0x2;
        "MLX5_CMD_STAT_BAD_PARAM_ERR" BAD_PARAM_ERR = 0x3;
        "MLX5_CMD_STAT_BAD_SYS_STATE_ERR" BAD_SYS_STATE_ERR = 0x4;
        "MLX5_CMD_STAT_BAD_RES_ERR" BAD_RES_ERR = 0x5;
        "MLX5_CMD_STAT_RES_BUSY" RES_BUSY = 0x6;
        "MLX5_CMD_STAT_NOT_READY" NOT_READY = 0x7;
        "MLX5_CMD_STAT_LIM_ERR" LIM_ERR = 0x8;
        "MLX5_CMD_STAT_BAD_RES_STATE_ERR" BAD_RES_STATE_ERR = 0x9;
        "MLX5_CMD_STAT_IX_ERR" IX_ERR = 0xa;
        "MLX5_CMD_STAT_NO_RES_ERR" NO_RES_ERR = 0xf;
        "MLX5_CMD_STAT_BAD_INP_LEN_ERR" BAD_INP_LEN_ERR = 0x50;
        "MLX5_CMD_STAT_BAD_OUTP_LEN_ERR" BAD_OUTP_LEN_ERR = 0x51;
        "MLX5_CMD_STAT_BAD_QP_STATE_ERR" BAD_QP_STATE_ERR = 0x10;
        "MLX5_CMD_STAT_BAD_PKT_ERR" BAD_PKT_ERR = 0x30;
        "MLX5_CMD_STAT_BAD_SIZE_OUTS_CQES_ERR" BAD_SIZE_OUTS_CQES_ERR = 0x40;
    }
}

/// Number sets of this module.
pub(crate) const CODES: &[(&str, &[(&str, u64)])] = &[Status::TABLE];
