//! Completion queue entries: 64 bytes, errors, and the 128-byte form of the NVMe/TCP offload whose first half says
//! what was placed (`mlx5-bringup.md` §8.2, `nvme-tcp-offload.md` §5).

use crate::layout::{Layout, LayoutInfo};
use crate::{codes, layout};

layout! {
    /// `hw_cqe64`, 64 bytes.
    pub struct Cqe64("hw_cqe64", 64) {
        "tls_outer_l3_tunneled" TLS_OUTER_L3_TUNNELED: bits(0, 8);
        "tls_outer_l3_tunneled.tls_offload" TLS_OUTER_L3_TUNNELED_TLS_OFFLOAD: bits(3, 2);
        "tls_outer_l3_tunneled.outer_l3_tunneled" TLS_OUTER_L3_TUNNELED_OUTER_L3_TUNNELED: bits(6, 1);
        "tls_outer_l3_tunneled.tunneled" TLS_OUTER_L3_TUNNELED_TUNNELED: bits(7, 1);
        "wqe_id" WQE_ID: bits(16, 16);
        "lro_tcppsh_abort_dupack" LRO_TCPPSH_ABORT_DUPACK: bits(32, 8);
        "lro_tcppsh_abort_dupack.tcppsh" LRO_TCPPSH_ABORT_DUPACK_TCPPSH: bits(33, 1);
        "lro_min_ttl" LRO_MIN_TTL: bits(40, 8);
        "lro_tcp_win" LRO_TCP_WIN: bits(48, 16);
        "lro_ack_seq_num" LRO_ACK_SEQ_NUM: bits(64, 32);
        "shampo_flags" SHAMPO_FLAGS: bits(32, 8);
        "shampo_flags.match_bit_lsb1" SHAMPO_FLAGS_MATCH_BIT_LSB1: bits(38, 1);
        "shampo_flags.flush_bit_lsb2" SHAMPO_FLAGS_FLUSH_BIT_LSB2: bits(37, 1);
        "shampo_header_size" SHAMPO_HEADER_SIZE: bits(40, 8);
        "shampo_header_entry_index" SHAMPO_HEADER_ENTRY_INDEX: bits(48, 16);
        "shampo_data_offset" SHAMPO_DATA_OFFSET: bits(64, 32);
        "rss_hash_result" RSS_HASH_RESULT: bits(96, 32);
        "rss_hash_type" RSS_HASH_TYPE: bits(128, 8);
        "rss_hash_type.l4_sel" RSS_HASH_TYPE_L4_SEL: bits(128, 2);
        "rss_hash_type.ip_sel" RSS_HASH_TYPE_IP_SEL: bits(132, 2);
        "ml_path" ML_PATH: bits(136, 8);
        "check_sum" CHECK_SUM: bits(160, 16);
        "slid" SLID: bits(176, 16);
        "flags_rqpn" FLAGS_RQPN: bits(192, 32);
        "flags_rqpn.rqpn" FLAGS_RQPN_RQPN: bits(200, 24);
        "hds_ip_ext" HDS_IP_EXT: bits(224, 8);
        "hds_ip_ext.l4_ok" HDS_IP_EXT_L4_OK: bits(229, 1);
        "hds_ip_ext.l3_ok" HDS_IP_EXT_L3_OK: bits(230, 1);
        "hds_ip_ext.l2_ok" HDS_IP_EXT_L2_OK: bits(231, 1);
        "l4_l3_hdr_type" L4_L3_HDR_TYPE: bits(232, 8);
        "l4_l3_hdr_type.ip_frag" L4_L3_HDR_TYPE_IP_FRAG: bits(232, 1);
        "l4_l3_hdr_type.l4_hdr_type" L4_L3_HDR_TYPE_L4_HDR_TYPE: bits(233, 3);
        "l4_l3_hdr_type.l3_hdr_type" L4_L3_HDR_TYPE_L3_HDR_TYPE: bits(236, 2);
        "l4_l3_hdr_type.ip_ext_opts" L4_L3_HDR_TYPE_IP_EXT_OPTS: bits(238, 1);
        "l4_l3_hdr_type.cv_vlan" L4_L3_HDR_TYPE_CV_VLAN: bits(239, 1);
        "vlan_info" VLAN_INFO: bits(240, 16);
        "srqn" SRQN: bits(256, 32);
        "srqn.lro_num_seg" SRQN_LRO_NUM_SEG: bits(256, 8);
        "srqn.srqn_24" SRQN_SRQN_24: bits(264, 24);
        "user_index" USER_INDEX: bits(264, 24);
        "immediate_or_ft_metadata" IMMEDIATE_OR_FT_METADATA: bits(288, 32);
        "byte_cnt" BYTE_CNT: bits(352, 32);
        "byte_cnt.mpwrq_filler" BYTE_CNT_MPWRQ_FILLER: bits(352, 1);
        "byte_cnt.mpwrq_consumed_strides" BYTE_CNT_MPWRQ_CONSUMED_STRIDES: bits(353, 15);
        "byte_cnt.mpwrq_byte_cnt" BYTE_CNT_MPWRQ_BYTE_CNT: bits(368, 16);
        "timestamp_h" TIMESTAMP_H: bits(384, 32);
        "timestamp_l" TIMESTAMP_L: bits(416, 32);
        "sop_drop_qpn" SOP_DROP_QPN: bits(448, 32);
        "sop_drop_qpn.send_wqe_opcode" SOP_DROP_QPN_SEND_WQE_OPCODE: bits(448, 8);
        "sop_drop_qpn.qpn_or_flow_tag" SOP_DROP_QPN_QPN_OR_FLOW_TAG: bits(456, 24);
        "wqe_counter" WQE_COUNTER: bits(480, 16);
        "signature_or_validity_iteration_count" SIGNATURE_OR_VALIDITY_ITERATION_COUNT: bits(496, 8);
        "op_own" OP_OWN: bits(504, 8);
        "op_own.opcode" OP_OWN_OPCODE: bits(504, 4);
        "op_own.cqe_format" OP_OWN_CQE_FORMAT: bits(508, 2);
        "op_own.se" OP_OWN_SE: bits(510, 1);
        "op_own.owner" OP_OWN_OWNER: bits(511, 1);
    }

    /// `hw_err_cqe`, 64 bytes.
    pub struct ErrCqe("hw_err_cqe", 64) {
        "wqe_id" WQE_ID: bits(16, 16);
        "stride_index" STRIDE_INDEX: bits(160, 16);
        "srqn" SRQN: bits(256, 32);
        "byte_cnt" BYTE_CNT: bits(352, 32);
        "hw_error_syndrome" HW_ERROR_SYNDROME: bits(416, 8);
        "hw_syndrome_type" HW_SYNDROME_TYPE: bits(424, 8);
        "vendor_err_synd" VENDOR_ERR_SYND: bits(432, 8);
        "syndrome" SYNDROME: bits(440, 8);
        "s_wqe_opcode_qpn" S_WQE_OPCODE_QPN: bits(448, 32);
        "s_wqe_opcode_qpn.s_wqe_opcode" S_WQE_OPCODE_QPN_S_WQE_OPCODE: bits(448, 8);
        "s_wqe_opcode_qpn.qpn" S_WQE_OPCODE_QPN_QPN: bits(456, 24);
        "wqe_counter" WQE_COUNTER: bits(480, 16);
        "signature" SIGNATURE: bits(496, 8);
        "op_own" OP_OWN: bits(504, 8);
        "op_own.opcode" OP_OWN_OPCODE: bits(504, 4);
        "op_own.owner" OP_OWN_OWNER: bits(511, 1);
    }

    /// `hw_mini_cqe8`, 8 bytes.
    pub struct MiniCqe8("hw_mini_cqe8", 8) {
        "rx_hash_result" RX_HASH_RESULT: bits(0, 32);
        "checksum" CHECKSUM: bits(0, 16);
        "stridx" STRIDX: bits(16, 16);
        "wqe_counter" WQE_COUNTER: bits(0, 16);
        "s_wqe_opcode" S_WQE_OPCODE: bits(16, 8);
        "byte_cnt" BYTE_CNT: bits(32, 32);
    }

    /// `cqe128_nvmeotcp`, 128 bytes.
    pub struct OffloadCqe("cqe128_nvmeotcp", 128) {
        "cclen" CCLEN: bits(0, 16);
        "hlen" HLEN: bits(16, 16);
        "ccoff_or_resync_tcp_sn" CCOFF_OR_RESYNC_TCP_SN: bits(32, 32);
        "ccid" CCID: bits(64, 16);
        "cqe64.b0.tls_offload" CQE64_B0_TLS_OFFLOAD: bits(515, 2);
        "cqe64.b0.outer_l3_tunneled" CQE64_B0_OUTER_L3_TUNNELED: bits(519, 1);
        "cqe64.b1.nvmeotcp_resync" CQE64_B1_NVMEOTCP_RESYNC: bits(521, 1);
        "cqe64.b1.nvmeotcp_ddgst" CQE64_B1_NVMEOTCP_DDGST: bits(522, 1);
        "cqe64.b1.nvmeotcp_zc" CQE64_B1_NVMEOTCP_ZC: bits(523, 1);
        "cqe64.wqe_id" CQE64_WQE_ID: bits(528, 16);
        "cqe64.lro_or_shampo" CQE64_LRO_OR_SHAMPO: wide(544, 64);
        "cqe64.rss_hash_result" CQE64_RSS_HASH_RESULT: bits(608, 32);
        "cqe64.rss_hash_type" CQE64_RSS_HASH_TYPE: bits(640, 8);
        "cqe64.ml_path" CQE64_ML_PATH: bits(648, 8);
        "cqe64.check_sum" CQE64_CHECK_SUM: bits(672, 16);
        "cqe64.slid" CQE64_SLID: bits(688, 16);
        "cqe64.flags_rqpn" CQE64_FLAGS_RQPN: bits(704, 32);
        "cqe64.hds_ip_ext" CQE64_HDS_IP_EXT: bits(736, 8);
        "cqe64.l4_l3_hdr_type" CQE64_L4_L3_HDR_TYPE: bits(744, 8);
        "cqe64.vlan_info" CQE64_VLAN_INFO: bits(752, 16);
        "cqe64.lro_num_seg" CQE64_LRO_NUM_SEG: bits(768, 8);
        "cqe64.srqn" CQE64_SRQN: bits(776, 24);
        "cqe64.ft_metadata_or_imm" CQE64_FT_METADATA_OR_IMM: bits(800, 32);
        "cqe64.byte_cnt.filler_consumed_strides" CQE64_BYTE_CNT_FILLER_CONSUMED_STRIDES: bits(864, 16);
        "cqe64.byte_cnt.bytes" CQE64_BYTE_CNT_BYTES: bits(880, 16);
        "cqe64.timestamp_h" CQE64_TIMESTAMP_H: bits(896, 32);
        "cqe64.timestamp_l" CQE64_TIMESTAMP_L: bits(928, 32);
        "cqe64.sop_drop_byte" CQE64_SOP_DROP_BYTE: bits(960, 8);
        "cqe64.flow_tag" CQE64_FLOW_TAG: bits(968, 24);
        "cqe64.wqe_counter" CQE64_WQE_COUNTER: bits(992, 16);
        "cqe64.signature_or_validity" CQE64_SIGNATURE_OR_VALIDITY: bits(1008, 8);
        "cqe64.op_own.opcode" CQE64_OP_OWN_OPCODE: bits(1016, 4);
        "cqe64.op_own.format" CQE64_OP_OWN_FORMAT: bits(1020, 2);
        "cqe64.op_own.se" CQE64_OP_OWN_SE: bits(1022, 1);
        "cqe64.op_own.owner" CQE64_OP_OWN_OWNER: bits(1023, 1);
    }
}

codes! {
    /// `Cqe64::OP_OWN_OPCODE`: what completed.
    pub struct CqeOpcode(u8, "cqe_opcode") {
        "MLX5_CQE_REQ" REQ = 0x0;
        "MLX5_CQE_RESP_WR_IMM" RESP_WR_IMM = 0x1;
        "MLX5_CQE_RESP_SEND" RESP_SEND = 0x2;
        "MLX5_CQE_RESP_SEND_IMM" RESP_SEND_IMM = 0x3;
        "MLX5_CQE_RESP_SEND_INV" RESP_SEND_INV = 0x4;
        "MLX5_CQE_RESIZE_CQ" RESIZE_CQ = 0x5;
        "MLX5_CQE_SIG_ERR" SIG_ERR = 0xc;
        "MLX5_CQE_REQ_ERR" REQ_ERR = 0xd;
        "MLX5_CQE_RESP_ERR" RESP_ERR = 0xe;
        "MLX5_CQE_INVALID" INVALID = 0xf;
    }

    /// `ErrCqe::SYNDROME`: why a work request failed.
    pub struct CqeSyndrome(u8, "cqe_syndrome") {
        "MLX5_CQE_SYNDROME_LOCAL_LENGTH_ERR" LOCAL_LENGTH_ERR = 0x1;
        "MLX5_CQE_SYNDROME_LOCAL_QP_OP_ERR" LOCAL_QP_OP_ERR = 0x2;
        "MLX5_CQE_SYNDROME_LOCAL_PROT_ERR" LOCAL_PROT_ERR = 0x4;
        "MLX5_CQE_SYNDROME_WR_FLUSH_ERR" WR_FLUSH_ERR = 0x5;
        "MLX5_CQE_SYNDROME_MW_BIND_ERR" MW_BIND_ERR = 0x6;
        "MLX5_CQE_SYNDROME_BAD_RESP_ERR" BAD_RESP_ERR = 0x10;
        "MLX5_CQE_SYNDROME_LOCAL_ACCESS_ERR" LOCAL_ACCESS_ERR = 0x11;
        "MLX5_CQE_SYNDROME_REMOTE_INVAL_REQ_ERR" REMOTE_INVAL_REQ_ERR = 0x12;
        "MLX5_CQE_SYNDROME_REMOTE_ACCESS_ERR" REMOTE_ACCESS_ERR = 0x13;
        "MLX5_CQE_SYNDROME_REMOTE_OP_ERR" REMOTE_OP_ERR = 0x14;
        "MLX5_CQE_SYNDROME_TRANSPORT_RETRY_EXC_ERR" TRANSPORT_RETRY_EXC_ERR = 0x15;
        "MLX5_CQE_SYNDROME_RNR_RETRY_EXC_ERR" RNR_RETRY_EXC_ERR = 0x16;
        "MLX5_CQE_SYNDROME_REMOTE_ABORTED_ERR" REMOTE_ABORTED_ERR = 0x22;
    }
}

/// Tables of this module.
pub(crate) const LAYOUTS: &[LayoutInfo] = &[Cqe64::INFO, ErrCqe::INFO, MiniCqe8::INFO, OffloadCqe::INFO];

/// Number sets of this module.
pub(crate) const CODES: &[(&str, &[(&str, u64)])] = &[CqeOpcode::TABLE, CqeSyndrome::TABLE];
