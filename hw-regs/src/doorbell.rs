//! Doorbells: registers of a UAR page and the records in host memory (`mlx5-bringup.md` §7, §8).

use crate::layout;
use crate::layout::{Layout, LayoutInfo};

layout! {
    /// `hw_cq_arm_doorbell_mmio`, 8 bytes.
    pub struct CqArmDoorbellMmio("hw_cq_arm_doorbell_mmio", 8) {
        "arm" ARM: bits(0, 32);
        "arm.sn" ARM_SN: bits(2, 2);
        "arm.cmd_solicited_only" ARM_CMD_SOLICITED_ONLY: bits(7, 1);
        "arm.ci" ARM_CI: bits(8, 24);
        "cqn" CQN: bits(32, 32);
        "cqn.cqn_24" CQN_CQN_24: bits(40, 24);
    }

    /// `hw_eq_doorbell_mmio`, 4 bytes.
    pub struct EqDoorbellMmio("hw_eq_doorbell_mmio", 4) {
        "eqn_ci" EQN_CI: bits(0, 32);
        "eqn_ci.eqn" EQN_CI_EQN: bits(0, 8);
        "eqn_ci.ci" EQN_CI_CI: bits(8, 24);
    }

    /// `hw_sq_doorbell_mmio`, 8 bytes.
    pub struct SqDoorbellMmio("hw_sq_doorbell_mmio", 8) {
        "first_8_bytes_of_ctrl_seg" FIRST_8_BYTES_OF_CTRL_SEG: wide(0, 64);
        "first_8_bytes_of_ctrl_seg.opmod" FIRST_8_BYTES_OF_CTRL_SEG_OPMOD: bits(0, 8);
        "first_8_bytes_of_ctrl_seg.wqe_index" FIRST_8_BYTES_OF_CTRL_SEG_WQE_INDEX: bits(8, 16);
        "first_8_bytes_of_ctrl_seg.opcode" FIRST_8_BYTES_OF_CTRL_SEG_OPCODE: bits(24, 8);
        "first_8_bytes_of_ctrl_seg.sqn" FIRST_8_BYTES_OF_CTRL_SEG_SQN: bits(32, 24);
        "first_8_bytes_of_ctrl_seg.ds" FIRST_8_BYTES_OF_CTRL_SEG_DS: bits(58, 6);
    }

    /// `hw_cq_doorbell_record`, 8 bytes.
    pub struct CqDoorbellRecord("hw_cq_doorbell_record", 8) {
        "set_ci" SET_CI: bits(0, 32);
        "set_ci.ci" SET_CI_CI: bits(8, 24);
        "arm" ARM: bits(32, 32);
        "arm.sn" ARM_SN: bits(34, 2);
        "arm.cmd_solicited_only" ARM_CMD_SOLICITED_ONLY: bits(39, 1);
        "arm.ci" ARM_CI: bits(40, 24);
    }

    /// `hw_wq_doorbell_record`, 8 bytes.
    pub struct WqDoorbellRecord("hw_wq_doorbell_record", 8) {
        "rcv_counter" RCV_COUNTER: bits(0, 32);
        "rcv_counter.counter" RCV_COUNTER_COUNTER: bits(16, 16);
        "snd_counter" SND_COUNTER: bits(32, 32);
        "snd_counter.counter" SND_COUNTER_COUNTER: bits(48, 16);
    }
}

/// Tables of this module.
pub(crate) const LAYOUTS: &[LayoutInfo] = &[
    CqArmDoorbellMmio::INFO,
    EqDoorbellMmio::INFO,
    SqDoorbellMmio::INFO,
    CqDoorbellRecord::INFO,
    WqDoorbellRecord::INFO,
];
