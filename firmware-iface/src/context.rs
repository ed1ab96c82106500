//! Contexts: what firmware keeps of each object, as create and query commands carry it (`mlx5-bringup.md` §4,
//! `nvme-tcp-offload.md` §3).

use hw_regs::layout::{Layout, LayoutInfo};
use hw_regs::{codes, layout};

layout! {
    /// `eqc`, 64 bytes.
    pub struct Eqc("eqc", 64) {
        "status" STATUS: bits(0, 4);
        "ec" EC: bits(13, 1);
        "oi" OI: bits(14, 1);
        "st" ST: bits(20, 4);
        "page_offset" PAGE_OFFSET: bits(84, 6);
        "log_eq_size" LOG_EQ_SIZE: bits(99, 5);
        "uar_page" UAR_PAGE: bits(104, 24);
        "intr" INTR: bits(180, 12);
        "log_page_size" LOG_PAGE_SIZE: bits(195, 5);
        "consumer_counter" CONSUMER_COUNTER: bits(328, 24);
        "producer_counter" PRODUCER_COUNTER: bits(360, 24);
    }

    /// `cqc`, 64 bytes.
    pub struct Cqc("cqc", 64) {
        "status" STATUS: bits(0, 4);
        "dbr_umem_valid" DBR_UMEM_VALID: bits(6, 1);
        "apu_cq" APU_CQ: bits(7, 1);
        "cqe_sz" CQE_SZ: bits(8, 3);
        "cc" CC: bits(11, 1);
        "scqe_break_moderation_en" SCQE_BREAK_MODERATION_EN: bits(13, 1);
        "oi" OI: bits(14, 1);
        "cq_period_mode" CQ_PERIOD_MODE: bits(15, 2);
        "cqe_comp_en" CQE_COMP_EN: bits(17, 1);
        "mini_cqe_res_format" MINI_CQE_RES_FORMAT: bits(18, 2);
        "st" ST: bits(20, 4);
        "cqe_compression_layout" CQE_COMPRESSION_LAYOUT: bits(30, 2);
        "dbr_umem_id" DBR_UMEM_ID: bits(32, 32);
        "page_offset" PAGE_OFFSET: bits(84, 6);
        "log_cq_size" LOG_CQ_SIZE: bits(99, 5);
        "uar_page" UAR_PAGE: bits(104, 24);
        "cq_period" CQ_PERIOD: bits(132, 12);
        "cq_max_count" CQ_MAX_COUNT: bits(144, 16);
        "c_eqn_or_apu_element" C_EQN_OR_APU_ELEMENT: bits(160, 32);
        "log_page_size" LOG_PAGE_SIZE: bits(195, 5);
        "last_notified_index" LAST_NOTIFIED_INDEX: bits(264, 24);
        "last_solicit_index" LAST_SOLICIT_INDEX: bits(296, 24);
        "consumer_counter" CONSUMER_COUNTER: bits(328, 24);
        "producer_counter" PRODUCER_COUNTER: bits(360, 24);
        "dbr_addr" DBR_ADDR: wide(448, 64);
    }

    /// `mkc`, 64 bytes.
    pub struct Mkc("mkc", 64) {
        "free" FREE: bits(1, 1);
        "access_mode_4_2" ACCESS_MODE_4_2: bits(3, 3);
        "relaxed_ordering_write" RELAXED_ORDERING_WRITE: bits(13, 1);
        "small_fence_on_rdma_read_response" SMALL_FENCE_ON_RDMA_READ_RESPONSE: bits(15, 1);
        "umr_en" UMR_EN: bits(16, 1);
        "a" A: bits(17, 1);
        "rw" RW: bits(18, 1);
        "rr" RR: bits(19, 1);
        "lw" LW: bits(20, 1);
        "lr" LR: bits(21, 1);
        "access_mode_1_0" ACCESS_MODE_1_0: bits(22, 2);
        "ma_translation_mode" MA_TRANSLATION_MODE: bits(26, 2);
        "qpn" QPN: bits(32, 24);
        "mkey_7_0" MKEY_7_0: bits(56, 8);
        "length64" LENGTH64: bits(96, 1);
        "bsf_en" BSF_EN: bits(97, 1);
        "sync_umr" SYNC_UMR: bits(98, 1);
        "expected_sigerr_count" EXPECTED_SIGERR_COUNT: bits(101, 1);
        "en_rinval" EN_RINVAL: bits(103, 1);
        "pd" PD: bits(104, 24);
        "start_addr" START_ADDR: wide(128, 64);
        "len" LEN: wide(192, 64);
        "bsf_octword_size" BSF_OCTWORD_SIZE: bits(256, 32);
        "crossing_target_vhca_id" CROSSING_TARGET_VHCA_ID: bits(384, 16);
        "translations_octword_size" TRANSLATIONS_OCTWORD_SIZE: bits(416, 32);
        "relaxed_ordering_read" RELAXED_ORDERING_READ: bits(473, 1);
        "log_page_size" LOG_PAGE_SIZE: bits(474, 6);
        "pcie_tph_en" PCIE_TPH_EN: bits(485, 1);
        "pcie_tph_ph" PCIE_TPH_PH: bits(486, 2);
        "pcie_tph_steering_tag_index" PCIE_TPH_STEERING_TAG_INDEX: bits(488, 8);
    }

    /// `wq`, 192 bytes.
    pub struct Wq("wq", 192) {
        "wq_type" WQ_TYPE: bits(0, 4);
        "wq_signature" WQ_SIGNATURE: bits(4, 1);
        "end_padding_mode" END_PADDING_MODE: bits(5, 2);
        "cd_slave" CD_SLAVE: bits(7, 1);
        "hds_skip_first_sge" HDS_SKIP_FIRST_SGE: bits(32, 1);
        "log2_hds_buf_size" LOG2_HDS_BUF_SIZE: bits(33, 3);
        "page_offset" PAGE_OFFSET: bits(43, 5);
        "lwm" LWM: bits(48, 16);
        "pd" PD: bits(72, 24);
        "uar_page" UAR_PAGE: bits(104, 24);
        "dbr_addr" DBR_ADDR: wide(128, 64);
        "hw_counter" HW_COUNTER: bits(192, 32);
        "sw_counter" SW_COUNTER: bits(224, 32);
        "log_wq_stride" LOG_WQ_STRIDE: bits(268, 4);
        "log_wq_pg_sz" LOG_WQ_PG_SZ: bits(275, 5);
        "log_wq_sz" LOG_WQ_SZ: bits(283, 5);
        "dbr_umem_valid" DBR_UMEM_VALID: bits(288, 1);
        "wq_umem_valid" WQ_UMEM_VALID: bits(289, 1);
        "log_hairpin_num_packets" LOG_HAIRPIN_NUM_PACKETS: bits(291, 5);
        "log_hairpin_data_sz" LOG_HAIRPIN_DATA_SZ: bits(299, 5);
        "log_wqe_num_of_strides" LOG_WQE_NUM_OF_STRIDES: bits(308, 4);
        "two_byte_shift_en" TWO_BYTE_SHIFT_EN: bits(312, 1);
        "log_wqe_stride_size" LOG_WQE_STRIDE_SIZE: bits(317, 3);
        "dbr_umem_id" DBR_UMEM_ID: bits(320, 32);
        "wq_umem_id" WQ_UMEM_ID: bits(352, 32);
        "wq_umem_offset" WQ_UMEM_OFFSET: wide(384, 64);
        "headers_mkey" HEADERS_MKEY: bits(448, 32);
        "shampo_enable" SHAMPO_ENABLE: bits(480, 1);
        "shampo_mode" SHAMPO_MODE: bits(482, 2);
        "log_reservation_size" LOG_RESERVATION_SIZE: bits(485, 3);
        "log_max_num_of_packets_per_reservation" LOG_MAX_NUM_OF_PACKETS_PER_RESERVATION: bits(493, 3);
        "log_headers_entry_size" LOG_HEADERS_ENTRY_SIZE: bits(502, 2);
        "log_headers_buffer_entry_num" LOG_HEADERS_BUFFER_ENTRY_NUM: bits(508, 4);
        "pas" PAS: tail(1536, 64, "cmd_pas");
    }

    /// `rqc`, 240 bytes.
    pub struct Rqc("rqc", 240) {
        "rlky" RLKY: bits(0, 1);
        "delay_drop_en" DELAY_DROP_EN: bits(1, 1);
        "scatter_fcs" SCATTER_FCS: bits(2, 1);
        "vsd" VSD: bits(3, 1);
        "mem_rq_type" MEM_RQ_TYPE: bits(4, 4);
        "state" STATE: bits(8, 4);
        "flush_in_error_en" FLUSH_IN_ERROR_EN: bits(13, 1);
        "hairpin" HAIRPIN: bits(14, 1);
        "ts_format" TS_FORMAT: bits(26, 2);
        "user_index" USER_INDEX: bits(40, 24);
        "cqn" CQN: bits(72, 24);
        "counter_set_id" COUNTER_SET_ID: bits(96, 8);
        "rmpn" RMPN: bits(136, 24);
        "hairpin_peer_sq" HAIRPIN_PEER_SQ: bits(168, 24);
        "hairpin_peer_vhca" HAIRPIN_PEER_VHCA: bits(208, 16);
        "shampo_no_match_alignment_granularity" SHAMPO_NO_MATCH_ALIGNMENT_GRANULARITY: bits(294, 2);
        "shampo_match_criteria_type" SHAMPO_MATCH_CRITERIA_TYPE: bits(302, 2);
        "reservation_timeout" RESERVATION_TIMEOUT: bits(304, 16);
        "wq" WQ: nested(384, 1536, 1, Wq, "wq");
    }

    /// `sqc`, 240 bytes.
    pub struct Sqc("sqc", 240) {
        "rlky" RLKY: bits(0, 1);
        "cd_master" CD_MASTER: bits(1, 1);
        "fre" FRE: bits(2, 1);
        "flush_in_error_en" FLUSH_IN_ERROR_EN: bits(3, 1);
        "allow_multi_pkt_send_wqe" ALLOW_MULTI_PKT_SEND_WQE: bits(4, 1);
        "min_wqe_inline_mode" MIN_WQE_INLINE_MODE: bits(5, 3);
        "state" STATE: bits(8, 4);
        "reg_umr" REG_UMR: bits(12, 1);
        "allow_swp" ALLOW_SWP: bits(13, 1);
        "hairpin" HAIRPIN: bits(14, 1);
        "non_wire" NON_WIRE: bits(15, 1);
        "ts_format" TS_FORMAT: bits(26, 2);
        "user_index" USER_INDEX: bits(40, 24);
        "cqn" CQN: bits(72, 24);
        "hairpin_peer_rq" HAIRPIN_PEER_RQ: bits(104, 24);
        "hairpin_peer_vhca" HAIRPIN_PEER_VHCA: bits(144, 16);
        "ts_cqe_to_dest_cqn" TS_CQE_TO_DEST_CQN: bits(200, 24);
        "packet_pacing_rate_limit_index" PACKET_PACING_RATE_LIMIT_INDEX: bits(240, 16);
        "tis_lst_sz" TIS_LST_SZ: bits(256, 16);
        "qos_queue_group_id" QOS_QUEUE_GROUP_ID: bits(272, 16);
        "tis_num_0" TIS_NUM_0: bits(360, 24);
        "wq" WQ: nested(384, 1536, 1, Wq, "wq");
    }

    /// `tisc`, 160 bytes.
    pub struct Tisc("tisc", 160) {
        "strict_lag_tx_port_affinity" STRICT_LAG_TX_PORT_AFFINITY: bits(0, 1);
        "tls_en" TLS_EN: bits(1, 1);
        "lag_tx_port_affinity" LAG_TX_PORT_AFFINITY: bits(4, 4);
        "prio" PRIO: bits(12, 4);
        "transport_domain" TRANSPORT_DOMAIN: bits(296, 24);
        "underlay_qpn" UNDERLAY_QPN: bits(328, 24);
        "pd" PD: bits(360, 24);
    }

    /// `rx_hash_field_select`, 4 bytes.
    pub struct RxHashFieldSelect("rx_hash_field_select", 4) {
        "l3_prot_type" L3_PROT_TYPE: bits(0, 1);
        "l4_prot_type" L4_PROT_TYPE: bits(1, 1);
        "selected_fields" SELECTED_FIELDS: bits(2, 30);
    }

    /// `tirc`, 240 bytes.
    pub struct Tirc("tirc", 240) {
        "disp_type" DISP_TYPE: bits(32, 4);
        "tls_en" TLS_EN: bits(36, 1);
        "lro_timeout_period_usecs" LRO_TIMEOUT_PERIOD_USECS: bits(132, 16);
        "packet_merge_mask" PACKET_MERGE_MASK: bits(148, 4);
        "lro_max_ip_payload_size" LRO_MAX_IP_PAYLOAD_SIZE: bits(152, 8);
        "inline_rqn" INLINE_RQN: bits(232, 24);
        "rx_hash_symmetric" RX_HASH_SYMMETRIC: bits(256, 1);
        "tunneled_offload_en" TUNNELED_OFFLOAD_EN: bits(258, 1);
        "indirect_table" INDIRECT_TABLE: bits(264, 24);
        "rx_hash_fn" RX_HASH_FN: bits(288, 4);
        "self_lb_block" SELF_LB_BLOCK: bits(294, 2);
        "transport_domain" TRANSPORT_DOMAIN: bits(296, 24);
        "rx_hash_toeplitz_key" RX_HASH_TOEPLITZ_KEY: array(320, 32, 10);
        "rx_hash_field_selector_outer" RX_HASH_FIELD_SELECTOR_OUTER: nested(640, 32, 1, RxHashFieldSelect, "rx_hash_field_select");
        "rx_hash_field_selector_inner" RX_HASH_FIELD_SELECTOR_INNER: nested(672, 32, 1, RxHashFieldSelect, "rx_hash_field_select");
        "nvmeotcp_zero_copy_en" NVMEOTCP_ZERO_COPY_EN: bits(37, 1);
        "nvmeotcp_crc_en" NVMEOTCP_CRC_EN: bits(38, 1);
        "nvmeotcp_tag_buffer_table_id" NVMEOTCP_TAG_BUFFER_TABLE_ID: bits(704, 32);
    }

    /// `rq_num`, 4 bytes.
    pub struct RqNum("rq_num", 4) {
        "rq_num" RQ_NUM: bits(8, 24);
    }

    /// `rqtc`, 240 bytes.
    pub struct Rqtc("rqtc", 240) {
        "list_q_type" LIST_Q_TYPE: bits(165, 3);
        "rqt_max_size" RQT_MAX_SIZE: bits(176, 16);
        "rq_vhca_id_format" RQ_VHCA_ID_FORMAT: bits(192, 1);
        "rqt_actual_size" RQT_ACTUAL_SIZE: bits(208, 16);
        "rq_num" RQ_NUM: tail(1920, 32, "rq_num");
        "rq_vhca" RQ_VHCA: tail(1920, 64, "rq_vhca");
    }

    /// `nvmeotcp_tag_buf_table_obj`, 16 bytes.
    pub struct TagBufferTable("nvmeotcp_tag_buf_table_obj", 16) {
        "modify_field_select" MODIFY_FIELD_SELECT: wide(0, 64);
        "log_tag_buffer_table_size" LOG_TAG_BUFFER_TABLE_SIZE: bits(123, 5);
    }
}

codes! {
    /// `Mkc::ACCESS_MODE_1_0` and `_4_2`: how a memory key translates.
    pub struct AccessMode(u8, "mlx5_mkc_access_mode") {
        "MLX5_MKC_ACCESS_MODE_PA" PA = 0x0;
        "MLX5_MKC_ACCESS_MODE_MTT" MTT = 0x1;
        "MLX5_MKC_ACCESS_MODE_KLMS" KLMS = 0x2;
        "MLX5_MKC_ACCESS_MODE_KSM" KSM = 0x3;
        "MLX5_MKC_ACCESS_MODE_SW_ICM" SW_ICM = 0x4;
        "MLX5_MKC_ACCESS_MODE_MEMIC" MEMIC = 0x5;
        "MLX5_MKC_ACCESS_MODE_CROSSING" CROSSING = 0x6;
    }

    /// `Rqc::STATE`.
    pub struct RqState(u8, "mlx5_rqc_state") {
        "MLX5_RQC_STATE_RST" RST = 0x0;
        "MLX5_RQC_STATE_RDY" RDY = 0x1;
        "MLX5_RQC_STATE_ERR" ERR = 0x3;
    }

    /// `Sqc::STATE`.
    pub struct SqState(u8, "mlx5_sqc_state") {
        "MLX5_SQC_STATE_RST" RST = 0x0;
        "MLX5_SQC_STATE_RDY" RDY = 0x1;
        "MLX5_SQC_STATE_ERR" ERR = 0x3;
    }

    /// `Wq::WQ_TYPE`.
    pub struct WqType(u8, "mlx5_wq_type") {
        "MLX5_WQ_TYPE_LINKED_LIST" LINKED_LIST = 0x0;
        "MLX5_WQ_TYPE_CYCLIC" CYCLIC = 0x1;
        "MLX5_WQ_TYPE_LINKED_LIST_STRIDING_RQ" LINKED_LIST_STRIDING_RQ = 0x2;
        "MLX5_WQ_TYPE_CYCLIC_STRIDING_RQ" CYCLIC_STRIDING_RQ = 0x3;
    }

    /// `Tirc::RX_HASH_FN`.
    pub struct RxHashFn(u8, "mlx5_rx_hash_fn") {
        "MLX5_RX_HASH_FN_NONE" NONE = 0x0;
        "MLX5_RX_HASH_FN_INVERTED_XOR8" INVERTED_XOR8 = 0x1;
        "MLX5_RX_HASH_FN_TOEPLITZ" TOEPLITZ = 0x2;
    }
}

/// Tables of this module.
pub(crate) const LAYOUTS: &[LayoutInfo] = &[
    Eqc::INFO,
    Cqc::INFO,
    Mkc::INFO,
    Wq::INFO,
    Rqc::INFO,
    Sqc::INFO,
    Tisc::INFO,
    RxHashFieldSelect::INFO,
    Tirc::INFO,
    RqNum::INFO,
    Rqtc::INFO,
    TagBufferTable::INFO,
];

/// Number sets of this module.
pub(crate) const CODES: &[(&str, &[(&str, u64)])] =
    &[AccessMode::TABLE, RqState::TABLE, SqState::TABLE, WqType::TABLE, RxHashFn::TABLE];
