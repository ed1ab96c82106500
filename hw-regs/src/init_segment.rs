//! The initialization segment at the start of BAR0: firmware version, command queue address and doorbell, state, health.
//!
//! Offsets are bytes from the start of BAR0 and equal the layout's bit offsets / 8 (`mlx5-bringup.md` §1). Registers are
//! read and written as native 32-bit words and swapped at the edge; these layouts name the bits inside them.

use crate::layout::{Layout, LayoutInfo};
use crate::{codes, layout};

layout! {
    /// `hw_init_seg`, 8208 bytes.
    pub struct InitSegment("hw_init_seg", 8208) {
        "fw_rev" FW_REV: bits(0, 32);
        "fw_rev.minor" FW_REV_MINOR: bits(0, 16);
        "fw_rev.major" FW_REV_MAJOR: bits(16, 16);
        "cmdif_rev_fw_sub" CMDIF_REV_FW_SUB: bits(32, 32);
        "cmdif_rev_fw_sub.cmdif_rev" CMDIF_REV_FW_SUB_CMDIF_REV: bits(32, 16);
        "cmdif_rev_fw_sub.fw_rev_subminor" CMDIF_REV_FW_SUB_FW_REV_SUBMINOR: bits(48, 16);
        "cmdq_addr_h" CMDQ_ADDR_H: bits(128, 32);
        "cmdq_addr_l_sz" CMDQ_ADDR_L_SZ: bits(160, 32);
        "cmdq_addr_l_sz.cmdq_addr_31_12" CMDQ_ADDR_L_SZ_CMDQ_ADDR_31_12: bits(160, 20);
        "cmdq_addr_l_sz.nic_interface" CMDQ_ADDR_L_SZ_NIC_INTERFACE: bits(181, 3);
        "cmdq_addr_l_sz.log_cmdq_size" CMDQ_ADDR_L_SZ_LOG_CMDQ_SIZE: bits(184, 4);
        "cmdq_addr_l_sz.log_cmdq_stride" CMDQ_ADDR_L_SZ_LOG_CMDQ_STRIDE: bits(188, 4);
        "cmd_dbell" CMD_DBELL: bits(192, 32);
        "initializing" INITIALIZING: bits(4064, 32);
        "initializing.busy" INITIALIZING_BUSY: bits(4064, 1);
        "initializing.fw_reset_supported" INITIALIZING_FW_RESET_SUPPORTED: bits(4065, 1);
        "initializing.embedded_cpu" INITIALIZING_EMBEDDED_CPU: bits(4072, 1);
        "health" HEALTH: nested(4096, 512, 1, HealthBuffer, "hw_health_buffer");
        "cmd_exec_to" CMD_EXEC_TO: bits(32704, 32);
        "cmd_exec_to.multiplier" CMD_EXEC_TO_MULTIPLIER: bits(32704, 3);
        "cmd_exec_to.value" CMD_EXEC_TO_VALUE: bits(32716, 20);
        "cmd_q_init_to" CMD_Q_INIT_TO: bits(32736, 32);
        "cmd_q_init_to.multiplier" CMD_Q_INIT_TO_MULTIPLIER: bits(32736, 3);
        "cmd_q_init_to.value" CMD_Q_INIT_TO_VALUE: bits(32748, 20);
        "internal_timer_h" INTERNAL_TIMER_H: bits(32768, 32);
        "internal_timer_l" INTERNAL_TIMER_L: bits(32800, 32);
        "health_counter" HEALTH_COUNTER: bits(32896, 32);
        "health_counter.counter_24" HEALTH_COUNTER_COUNTER_24: bits(32904, 24);
        "real_time_h" REAL_TIME_H: bits(33280, 32);
        "real_time_l" REAL_TIME_L: bits(33312, 32);
        "ieee1588_clk" IEEE1588_CLK: wide(65536, 64);
        "ieee1588_clk_type" IEEE1588_CLK_TYPE: bits(65600, 32);
        "clr_intx" CLR_INTX: bits(65632, 32);
    }

    /// `hw_health_buffer`, 64 bytes.
    pub struct HealthBuffer("hw_health_buffer", 64) {
        "assert_var" ASSERT_VAR: array(0, 32, 6);
        "assert_exit_ptr" ASSERT_EXIT_PTR: bits(256, 32);
        "assert_callra" ASSERT_CALLRA: bits(288, 32);
        "time" TIME: bits(352, 32);
        "fw_ver" FW_VER: bits(384, 32);
        "hw_id" HW_ID: bits(416, 32);
        "rfr_severity" RFR_SEVERITY: bits(448, 8);
        "rfr_severity.rfr" RFR_SEVERITY_RFR: bits(448, 1);
        "rfr_severity.crr" RFR_SEVERITY_CRR: bits(449, 1);
        "rfr_severity.severity_valid" RFR_SEVERITY_SEVERITY_VALID: bits(452, 1);
        "rfr_severity.severity" RFR_SEVERITY_SEVERITY: bits(453, 3);
        "irisc_index" IRISC_INDEX: bits(480, 8);
        "synd" SYND: bits(488, 8);
        "ext_synd" EXT_SYND: bits(496, 16);
    }
}

codes! {
    /// `HealthBuffer::SYND`: what firmware reports; 0 is healthy.
    pub struct HealthSyndrome(u8, "mlx5_initial_seg_health_syndrome") {
        "MLX5_INITIAL_SEG_HEALTH_SYNDROME_FW_INTERNAL_ERR" FW_INTERNAL_ERR = 0x1;
        "MLX5_INITIAL_SEG_HEALTH_SYNDROME_DEAD_IRISC" DEAD_IRISC = 0x7;
        "MLX5_INITIAL_SEG_HEALTH_SYNDROME_HW_FATAL_ERR" HW_FATAL_ERR = 0x8;
        "MLX5_INITIAL_SEG_HEALTH_SYNDROME_FW_CRC_ERR" FW_CRC_ERR = 0x9;
        "MLX5_INITIAL_SEG_HEALTH_SYNDROME_ICM_FETCH_PCI_ERR" ICM_FETCH_PCI_ERR = 0xa;
        "MLX5_INITIAL_SEG_HEALTH_SYNDROME_ICM_PAGE_ERR" ICM_PAGE_ERR = 0xb;
        "MLX5_INITIAL_SEG_HEALTH_SYNDROME_ASYNCHRONOUS_EQ_BUF_OVERRUN" ASYNCHRONOUS_EQ_BUF_OVERRUN = 0xc;
        "MLX5_INITIAL_SEG_HEALTH_SYNDROME_EQ_IN_ERR" EQ_IN_ERR = 0xd;
        "MLX5_INITIAL_SEG_HEALTH_SYNDROME_EQ_INV" EQ_INV = 0xe;
        "MLX5_INITIAL_SEG_HEALTH_SYNDROME_FFSER_ERR" FFSER_ERR = 0xf;
        "MLX5_INITIAL_SEG_HEALTH_SYNDROME_HIGH_TEMP_ERR" HIGH_TEMP_ERR = 0x10;
        "MLX5_INITIAL_SEG_HEALTH_SYNDROME_ICM_PCI_POISONED_ERR" ICM_PCI_POISONED_ERR = 0x12;
        "MLX5_INITIAL_SEG_HEALTH_SYNDROME_TRUST_LOCKDOWN_ERR" TRUST_LOCKDOWN_ERR = 0x13;
    }

    /// `InitSegment::CMDQ_ADDR_L_SZ_NIC_INTERFACE`: who drives the function.
    pub struct NicInterface(u8, "mlx5_initial_seg_nic_interface") {
        "MLX5_INITIAL_SEG_NIC_INTERFACE_FULL_DRIVER" FULL_DRIVER = 0x0;
        "MLX5_INITIAL_SEG_NIC_INTERFACE_DISABLED" DISABLED = 0x1;
        "MLX5_INITIAL_SEG_NIC_INTERFACE_NO_DRAM_NIC" NO_DRAM_NIC = 0x2;
        "MLX5_INITIAL_SEG_NIC_INTERFACE_SW_RESET" SW_RESET = 0x7;
    }
}

/// Tables of this module.
pub(crate) const LAYOUTS: &[LayoutInfo] = &[InitSegment::INFO, HealthBuffer::INFO];

/// Number sets of this module.
pub(crate) const CODES: &[(&str, &[(&str, u64)])] = &[HealthSyndrome::TABLE, NicInterface::TABLE];
