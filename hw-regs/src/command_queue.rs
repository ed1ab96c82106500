//! The command queue as it lies in host memory: 64-byte entries and 576-byte mailbox blocks (`mlx5-bringup.md` §2).

use crate::layout::{Layout, LayoutInfo};
use crate::{codes, layout};

layout! {
    /// `hw_cmd_layout`, 64 bytes.
    pub struct CommandEntry("hw_cmd_layout", 64) {
        "type" TYPE: bits(0, 8);
        "inlen" INLEN: bits(32, 32);
        "in_ptr" IN_PTR: wide(64, 64);
        "in" IN: array(128, 32, 4);
        "out" OUT: array(256, 32, 4);
        "out_ptr" OUT_PTR: wide(384, 64);
        "outlen" OUTLEN: bits(448, 32);
        "token" TOKEN: bits(480, 8);
        "sig" SIG: bits(488, 8);
        "status_own" STATUS_OWN: bits(504, 8);
        "status_own.delivery_status" STATUS_OWN_DELIVERY_STATUS: bits(504, 7);
        "status_own.owner" STATUS_OWN_OWNER: bits(511, 1);
    }

    /// `hw_cmd_mailbox`, 576 bytes.
    pub struct Mailbox("hw_cmd_mailbox", 576) {
        "data" DATA: array(0, 8, 512);
        "next" NEXT: wide(4480, 64);
        "block_num" BLOCK_NUM: bits(4544, 32);
        "token" TOKEN: bits(4584, 8);
        "ctrl_sig" CTRL_SIG: bits(4592, 8);
        "sig" SIG: bits(4600, 8);
    }
}

codes! {
    /// `CommandEntry::STATUS_OWN_DELIVERY_STATUS`: whether the entry itself could be read.
    pub struct DeliveryStatus(u8, "cmd_delivery_status") {
        "MLX5_CMD_DELIVERY_STAT_OK" OK = 0x0;
        "MLX5_CMD_DELIVERY_STAT_SIGNAT_ERR" SIGNAT_ERR = 0x1;
        "MLX5_CMD_DELIVERY_STAT_TOK_ERR" TOK_ERR = 0x2;
        "MLX5_CMD_DELIVERY_STAT_BAD_BLK_NUM_ERR" BAD_BLK_NUM_ERR = 0x3;
        "MLX5_CMD_DELIVERY_STAT_OUT_PTR_ALIGN_ERR" OUT_PTR_ALIGN_ERR = 0x4;
        "MLX5_CMD_DELIVERY_STAT_IN_PTR_ALIGN_ERR" IN_PTR_ALIGN_ERR = 0x5;
        "MLX5_CMD_DELIVERY_STAT_FW_ERR" FW_ERR = 0x6;
        "MLX5_CMD_DELIVERY_STAT_IN_LENGTH_ERR" IN_LENGTH_ERR = 0x7;
        "MLX5_CMD_DELIVERY_STAT_OUT_LENGTH_ERR" OUT_LENGTH_ERR = 0x8;
        "MLX5_CMD_DELIVERY_STAT_RES_FLD_NOT_CLR_ERR" RES_FLD_NOT_CLR_ERR = 0x9;
        "MLX5_CMD_DELIVERY_STAT_CMD_DESCR_ERR" CMD_DESCR_ERR = 0x10;
    }
}

/// Tables of this module.
pub(crate) const LAYOUTS: &[LayoutInfo] = &[CommandEntry::INFO, Mailbox::INFO];

/// Number sets of this module.
pub(crate) const CODES: &[(&str, &[(&str, u64)])] = &[DeliveryStatus::TABLE];
