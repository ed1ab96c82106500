//! Work queue entries: the 16-byte segments that a WQE is made of, and the parameters of the NVMe/TCP offload that
//! travel in WQEs (`mlx5-bringup.md` §8.3 to §8.5, `nvme-tcp-offload.md` §4).

use crate::layout::{Layout, LayoutInfo};
use crate::{codes, layout};

layout! {
    /// `hw_wqe_ctrl_seg`, 16 bytes.
    pub struct WqeCtrlSeg("hw_wqe_ctrl_seg", 16) {
        "opmod_idx_opcode" OPMOD_IDX_OPCODE: bits(0, 32);
        "opmod_idx_opcode.opmod" OPMOD_IDX_OPCODE_OPMOD: bits(0, 8);
        "opmod_idx_opcode.wqe_index" OPMOD_IDX_OPCODE_WQE_INDEX: bits(8, 16);
        "opmod_idx_opcode.opcode" OPMOD_IDX_OPCODE_OPCODE: bits(24, 8);
        "qpn_ds" QPN_DS: bits(32, 32);
        "qpn_ds.qpn" QPN_DS_QPN: bits(32, 24);
        "qpn_ds.ds" QPN_DS_DS: bits(58, 6);
        "signature" SIGNATURE: bits(64, 8);
        "fm_ce_se" FM_CE_SE: bits(88, 8);
        "fm_ce_se.fence" FM_CE_SE_FENCE: bits(88, 3);
        "fm_ce_se.completion_mode" FM_CE_SE_COMPLETION_MODE: bits(92, 2);
        "fm_ce_se.solicited" FM_CE_SE_SOLICITED: bits(94, 1);
        "imm" IMM: bits(96, 32);
    }

    /// `hw_wqe_eth_seg`, 16 bytes.
    pub struct WqeEthSeg("hw_wqe_eth_seg", 16) {
        "swp_outer_l4_offset" SWP_OUTER_L4_OFFSET: bits(0, 8);
        "swp_outer_l3_offset" SWP_OUTER_L3_OFFSET: bits(8, 8);
        "swp_inner_l4_offset" SWP_INNER_L4_OFFSET: bits(16, 8);
        "swp_inner_l3_offset" SWP_INNER_L3_OFFSET: bits(24, 8);
        "cs_flags" CS_FLAGS: bits(32, 8);
        "cs_flags.l4_csum" CS_FLAGS_L4_CSUM: bits(32, 1);
        "cs_flags.l3_csum" CS_FLAGS_L3_CSUM: bits(33, 1);
        "cs_flags.l4_inner_csum" CS_FLAGS_L4_INNER_CSUM: bits(34, 1);
        "cs_flags.l3_inner_csum" CS_FLAGS_L3_INNER_CSUM: bits(35, 1);
        "swp_flags" SWP_FLAGS: bits(40, 8);
        "swp_flags.outer_l4_udp" SWP_FLAGS_OUTER_L4_UDP: bits(42, 1);
        "swp_flags.outer_l3_ipv6" SWP_FLAGS_OUTER_L3_IPV6: bits(43, 1);
        "swp_flags.inner_l4_udp" SWP_FLAGS_INNER_L4_UDP: bits(46, 1);
        "swp_flags.inner_l3_ipv6" SWP_FLAGS_INNER_L3_IPV6: bits(47, 1);
        "mss" MSS: bits(48, 16);
        "mss.mss_14" MSS_MSS_14: bits(50, 14);
        "flow_table_metadata" FLOW_TABLE_METADATA: bits(64, 32);
        "inline_hdr_sz" INLINE_HDR_SZ: bits(96, 16);
        "inline_hdr_sz.sz_10" INLINE_HDR_SZ_SZ_10: bits(102, 10);
        "inline_hdr_start" INLINE_HDR_START: array(112, 8, 2);
        "trailer" TRAILER: bits(96, 32);
        "trailer.insert_trailer" TRAILER_INSERT_TRAILER: bits(97, 1);
        "insert_vlan" INSERT_VLAN: bits(96, 32);
        "insert_vlan.vlan_insert_enable" INSERT_VLAN_VLAN_INSERT_ENABLE: bits(96, 1);
        "insert_vlan.svlan" INSERT_VLAN_SVLAN: bits(111, 1);
        "insert_vlan.tci" INSERT_VLAN_TCI: bits(112, 16);
    }

    /// `hw_wqe_data_seg`, 16 bytes.
    pub struct WqeDataSeg("hw_wqe_data_seg", 16) {
        "byte_count" BYTE_COUNT: bits(0, 32);
        "byte_count.inline_or_start_padding" BYTE_COUNT_INLINE_OR_START_PADDING: bits(0, 1);
        "byte_count.length" BYTE_COUNT_LENGTH: bits(1, 31);
        "lkey" LKEY: bits(32, 32);
        "addr" ADDR: wide(64, 64);
    }

    /// `hw_wqe_inline_seg`, 4 bytes.
    pub struct WqeInlineSeg("hw_wqe_inline_seg", 4) {
        "byte_count" BYTE_COUNT: bits(0, 32);
        "byte_count.inline" BYTE_COUNT_INLINE: bits(0, 1);
        "byte_count.length" BYTE_COUNT_LENGTH: bits(22, 10);
    }

    /// `hw_wqe_srq_next_seg`, 16 bytes.
    pub struct WqeSrqNextSeg("hw_wqe_srq_next_seg", 16) {
        "next_wqe_index" NEXT_WQE_INDEX: bits(16, 16);
        "signature" SIGNATURE: bits(32, 8);
    }

    /// `hw_wqe_umr_ctrl_seg`, 48 bytes.
    pub struct WqeUmrCtrlSeg("hw_wqe_umr_ctrl_seg", 48) {
        "flags" FLAGS: bits(0, 8);
        "flags.inline" FLAGS_INLINE: bits(0, 1);
        "flags.check_mode_2free_1notfree" FLAGS_CHECK_MODE_2FREE_1NOTFREE: bits(1, 2);
        "flags.translation_offset_en" FLAGS_TRANSLATION_OFFSET_EN: bits(3, 1);
        "xlt_octowords" XLT_OCTOWORDS: bits(32, 16);
        "xlt_offset" XLT_OFFSET: bits(48, 16);
        "mkey_mask" MKEY_MASK: wide(64, 64);
        "mkey_mask.len" MKEY_MASK_LEN: bits(127, 1);
        "mkey_mask.page_size" MKEY_MASK_PAGE_SIZE: bits(126, 1);
        "mkey_mask.start_addr" MKEY_MASK_START_ADDR: bits(121, 1);
        "mkey_mask.pd" MKEY_MASK_PD: bits(120, 1);
        "mkey_mask.en_rinval" MKEY_MASK_EN_RINVAL: bits(119, 1);
        "mkey_mask.en_sigerr" MKEY_MASK_EN_SIGERR: bits(118, 1);
        "mkey_mask.bsf_en" MKEY_MASK_BSF_EN: bits(115, 1);
        "mkey_mask.key" MKEY_MASK_KEY: bits(114, 1);
        "mkey_mask.qpn" MKEY_MASK_QPN: bits(113, 1);
        "mkey_mask.lr" MKEY_MASK_LR: bits(110, 1);
        "mkey_mask.lw" MKEY_MASK_LW: bits(109, 1);
        "mkey_mask.rr" MKEY_MASK_RR: bits(108, 1);
        "mkey_mask.rw" MKEY_MASK_RW: bits(107, 1);
        "mkey_mask.a" MKEY_MASK_A: bits(106, 1);
        "mkey_mask.small_fence" MKEY_MASK_SMALL_FENCE: bits(104, 1);
        "mkey_mask.relaxed_ordering_write" MKEY_MASK_RELAXED_ORDERING_WRITE: bits(102, 1);
        "mkey_mask.free" MKEY_MASK_FREE: bits(98, 1);
        "mkey_mask.page_size_5" MKEY_MASK_PAGE_SIZE_5: bits(85, 1);
        "mkey_mask.relaxed_ordering_read" MKEY_MASK_RELAXED_ORDERING_READ: bits(80, 1);
        "xlt_offset_47_16" XLT_OFFSET_47_16: bits(128, 32);
    }

    /// `hw_wqe_mkey_seg`, 64 bytes.
    pub struct WqeMkeySeg("hw_wqe_mkey_seg", 64) {
        "status" STATUS: bits(0, 8);
        "status.free" STATUS_FREE: bits(1, 1);
        "pcie_control" PCIE_CONTROL: bits(8, 8);
        "flags" FLAGS: bits(16, 8);
        "flags.umr_en" FLAGS_UMR_EN: bits(16, 1);
        "flags.atomic" FLAGS_ATOMIC: bits(17, 1);
        "flags.rw" FLAGS_RW: bits(18, 1);
        "flags.rr" FLAGS_RR: bits(19, 1);
        "flags.lw" FLAGS_LW: bits(20, 1);
        "flags.lr" FLAGS_LR: bits(21, 1);
        "flags.access_mode" FLAGS_ACCESS_MODE: bits(22, 2);
        "version" VERSION: bits(24, 8);
        "qpn_mkey7_0" QPN_MKEY7_0: bits(32, 32);
        "qpn_mkey7_0.qpn" QPN_MKEY7_0_QPN: bits(32, 24);
        "qpn_mkey7_0.mkey_7_0" QPN_MKEY7_0_MKEY_7_0: bits(56, 8);
        "flags_pd" FLAGS_PD: bits(96, 32);
        "flags_pd.remote_inval" FLAGS_PD_REMOTE_INVAL: bits(103, 1);
        "flags_pd.sync_umr" FLAGS_PD_SYNC_UMR: bits(98, 1);
        "flags_pd.bsf_en" FLAGS_PD_BSF_EN: bits(97, 1);
        "flags_pd.pd" FLAGS_PD_PD: bits(104, 24);
        "start_addr" START_ADDR: wide(128, 64);
        "len" LEN: wide(192, 64);
        "bsfs_octo_size" BSFS_OCTO_SIZE: bits(256, 32);
        "xlt_oct_size" XLT_OCT_SIZE: bits(416, 32);
        "log2_page_size" LOG2_PAGE_SIZE: bits(472, 8);
    }

    /// `hw_mtt`, 8 bytes.
    pub struct Mtt("hw_mtt", 8) {
        "ptag" PTAG: wide(0, 64);
        "ptag.write_en" PTAG_WRITE_EN: bits(62, 1);
        "ptag.read_en" PTAG_READ_EN: bits(63, 1);
    }

    /// `hw_klm`, 16 bytes.
    pub struct Klm("hw_klm", 16) {
        "bcount" BCOUNT: bits(0, 32);
        "key" KEY: bits(32, 32);
        "va" VA: wide(64, 64);
    }

    /// `hw_ksm`, 16 bytes.
    pub struct Ksm("hw_ksm", 16) {
        "key" KEY: bits(32, 32);
        "va" VA: wide(64, 64);
    }

    /// `transport_static_params`, 64 bytes.
    pub struct StaticParams("transport_static_params", 64) {
        "const_2" CONST_2: bits(0, 2);
        "tls_version" TLS_VERSION: bits(2, 4);
        "const_1" CONST_1: bits(6, 2);
        "acc_type" ACC_TYPE: bits(28, 4);
        "initial_record_number" INITIAL_RECORD_NUMBER: wide(64, 64);
        "resync_tcp_sn" RESYNC_TCP_SN: bits(128, 32);
        "gcm_iv" GCM_IV: bits(160, 32);
        "implicit_iv" IMPLICIT_IV: wide(192, 64);
        "dek_index" DEK_INDEX: bits(264, 24);
        "cccid_ttag" CCCID_TTAG: bits(308, 1);
        "ti" TI: bits(309, 1);
        "zero_copy_en" ZERO_COPY_EN: bits(310, 1);
        "ddgst_offload_en" DDGST_OFFLOAD_EN: bits(311, 1);
        "hdgst_offload_en" HDGST_OFFLOAD_EN: bits(312, 1);
        "ddgst_en" DDGST_EN: bits(313, 1);
        "hddgst_en" HDDGST_EN: bits(314, 1);
        "pda" PDA: bits(315, 5);
        "nvme_resync_tcp_sn" NVME_RESYNC_TCP_SN: bits(320, 32);
    }

    /// `nvmeotcp_progress_params`, 16 bytes.
    pub struct ProgressParams("nvmeotcp_progress_params", 16) {
        "next_pdu_tcp_sn" NEXT_PDU_TCP_SN: bits(0, 32);
        "hw_resync_tcp_sn" HW_RESYNC_TCP_SN: bits(32, 32);
        "pdu_tracker_state" PDU_TRACKER_STATE: bits(64, 2);
        "offloading_state" OFFLOADING_STATE: bits(66, 2);
        "cccid_ttag" CCCID_TTAG: bits(80, 16);
    }
}

codes! {
    /// `WqeCtrlSeg::OPMOD_IDX_OPCODE_OPCODE`.
    pub struct WqeOpcode(u8, "wqe_opcode") {
        "MLX5_OPCODE_NOP" NOP = 0x0;
        "MLX5_OPCODE_SEND_INVAL" SEND_INVAL = 0x1;
        "MLX5_OPCODE_RDMA_WRITE" RDMA_WRITE = 0x8;
        "MLX5_OPCODE_RDMA_WRITE_IMM" RDMA_WRITE_IMM = 0x9;
        "MLX5_OPCODE_SEND" SEND = 0xa;
        "MLX5_OPCODE_SEND_IMM" SEND_IMM = 0xb;
        "MLX5_OPCODE_LSO" LSO = 0xe;
        "MLX5_OPCODE_RDMA_READ" RDMA_READ = 0x10;
        "MLX5_OPCODE_ATOMIC_CS" ATOMIC_CS = 0x11;
        "MLX5_OPCODE_ATOMIC_FA" ATOMIC_FA = 0x12;
        "MLX5_OPCODE_ATOMIC_MASKED_CS" ATOMIC_MASKED_CS = 0x14;
        "MLX5_OPCODE_ATOMIC_MASKED_FA" ATOMIC_MASKED_FA = 0x15;
        "MLX5_OPCODE_BIND_MW" BIND_MW = 0x18;
        "MLX5_OPCODE_CONFIG_CMD" CONFIG_CMD = 0x1f;
        "MLX5_OPCODE_ENHANCED_MPSW" ENHANCED_MPSW = 0x29;
        "MLX5_OPCODE_SET_PSV" SET_PSV = 0x20;
        "MLX5_OPCODE_GET_PSV" GET_PSV = 0x21;
        "MLX5_OPCODE_CHECK_PSV" CHECK_PSV = 0x22;
        "MLX5_OPCODE_DUMP" DUMP = 0x23;
        "MLX5_OPCODE_RGET_PSV" RGET_PSV = 0x26;
        "MLX5_OPCODE_RCHECK_PSV" RCHECK_PSV = 0x27;
        "MLX5_OPCODE_UMR" UMR = 0x25;
        "MLX5_OPCODE_FLOW_TBL_ACCESS" FLOW_TBL_ACCESS = 0x2c;
        "MLX5_OPCODE_ACCESS_ASO" ACCESS_ASO = 0x2d;
    }
}

/// Tables of this module.
pub(crate) const LAYOUTS: &[LayoutInfo] = &[
    WqeCtrlSeg::INFO,
    WqeEthSeg::INFO,
    WqeDataSeg::INFO,
    WqeInlineSeg::INFO,
    WqeSrqNextSeg::INFO,
    WqeUmrCtrlSeg::INFO,
    WqeMkeySeg::INFO,
    Mtt::INFO,
    Klm::INFO,
    Ksm::INFO,
    StaticParams::INFO,
    ProgressParams::INFO,
];

/// Number sets of this module.
pub(crate) const CODES: &[(&str, &[(&str, u64)])] = &[WqeOpcode::TABLE];
