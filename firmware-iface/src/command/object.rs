//! Commands that create and destroy event queues, completion queues, memory keys and small numbered objects
//! (`mlx5-bringup.md` §4), and general objects (`nvme-tcp-offload.md` §3.1).

use hw_regs::layout;
use hw_regs::layout::{Layout, LayoutInfo};

layout! {
    /// `alloc_uar_in`, 16 bytes.
    pub struct AllocUarIn("alloc_uar_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
    }

    /// `alloc_uar_out`, 16 bytes.
    pub struct AllocUarOut("alloc_uar_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "uar" UAR: bits(72, 24);
    }

    /// `dealloc_uar_in`, 16 bytes.
    pub struct DeallocUarIn("dealloc_uar_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "uar" UAR: bits(72, 24);
    }

    /// `dealloc_uar_out`, 16 bytes.
    pub struct DeallocUarOut("dealloc_uar_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `alloc_pd_in`, 16 bytes.
    pub struct AllocPdIn("alloc_pd_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
    }

    /// `alloc_pd_out`, 16 bytes.
    pub struct AllocPdOut("alloc_pd_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "pd" PD: bits(72, 24);
    }

    /// `dealloc_pd_in`, 16 bytes.
    pub struct DeallocPdIn("dealloc_pd_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "pd" PD: bits(72, 24);
    }

    /// `dealloc_pd_out`, 16 bytes.
    pub struct DeallocPdOut("dealloc_pd_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `alloc_transport_domain_in`, 16 bytes.
    pub struct AllocTransportDomainIn("alloc_transport_domain_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
    }

    /// `alloc_transport_domain_out`, 16 bytes.
    pub struct AllocTransportDomainOut("alloc_transport_domain_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "transport_domain" TRANSPORT_DOMAIN: bits(72, 24);
    }

    /// `dealloc_transport_domain_in`, 16 bytes.
    pub struct DeallocTransportDomainIn("dealloc_transport_domain_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "transport_domain" TRANSPORT_DOMAIN: bits(72, 24);
    }

    /// `dealloc_transport_domain_out`, 16 bytes.
    pub struct DeallocTransportDomainOut("dealloc_transport_domain_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `create_eq_in`, 272 bytes.
    pub struct CreateEqIn("create_eq_in", 272) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "eq_context_entry" EQ_CONTEXT_ENTRY: nested(128, 512, 1, crate::context::Eqc, "eqc");
        "event_bitmask" EVENT_BITMASK: array(704, 64, 4);
        "pas" PAS: tail(2176, 64, "");
    }

    /// `create_eq_out`, 16 bytes.
    pub struct CreateEqOut("create_eq_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "eq_number" EQ_NUMBER: bits(88, 8);
    }

    /// `query_eq_in`, 16 bytes.
    pub struct QueryEqIn("query_eq_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "eq_number" EQ_NUMBER: bits(88, 8);
    }

    /// `query_eq_out`, 272 bytes.
    pub struct QueryEqOut("query_eq_out", 272) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "eq_context_entry" EQ_CONTEXT_ENTRY: nested(128, 512, 1, crate::context::Eqc, "eqc");
        "event_bitmask" EVENT_BITMASK: wide(704, 64);
        "pas" PAS: tail(2176, 64, "");
    }

    /// `destroy_eq_in`, 16 bytes.
    pub struct DestroyEqIn("destroy_eq_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "eq_number" EQ_NUMBER: bits(88, 8);
    }

    /// `destroy_eq_out`, 16 bytes.
    pub struct DestroyEqOut("destroy_eq_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `create_cq_in`, 272 bytes.
    pub struct CreateCqIn("create_cq_in", 272) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "cq_context" CQ_CONTEXT: nested(128, 512, 1, crate::context::Cqc, "cqc");
        "cq_umem_offset" CQ_UMEM_OFFSET: wide(640, 64);
        "cq_umem_id" CQ_UMEM_ID: bits(704, 32);
        "cq_umem_valid" CQ_UMEM_VALID: bits(736, 1);
        "pas" PAS: tail(2176, 64, "");
    }

    /// `create_cq_out`, 16 bytes.
    pub struct CreateCqOut("create_cq_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "cqn" CQN: bits(72, 24);
    }

    /// `query_cq_in`, 16 bytes.
    pub struct QueryCqIn("query_cq_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "cqn" CQN: bits(72, 24);
    }

    /// `query_cq_out`, 272 bytes.
    pub struct QueryCqOut("query_cq_out", 272) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "cq_context" CQ_CONTEXT: nested(128, 512, 1, crate::context::Cqc, "cqc");
        "pas" PAS: tail(2176, 64, "");
    }

    /// `modify_cq_in`, 272 bytes.
    pub struct ModifyCqIn("modify_cq_in", 272) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "cqn" CQN: bits(72, 24);
        "modify_field_select_resize_field_select" MODIFY_FIELD_SELECT_RESIZE_FIELD_SELECT: bits(96, 32);
        "cq_context" CQ_CONTEXT: nested(128, 512, 1, crate::context::Cqc, "cqc");
        "cq_umem_valid" CQ_UMEM_VALID: bits(736, 1);
        "pas" PAS: tail(2176, 64, "");
    }

    /// `modify_cq_out`, 16 bytes.
    pub struct ModifyCqOut("modify_cq_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `destroy_cq_in`, 16 bytes.
    pub struct DestroyCqIn("destroy_cq_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "cqn" CQN: bits(72, 24);
    }

    /// `destroy_cq_out`, 16 bytes.
    pub struct DestroyCqOut("destroy_cq_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `create_mkey_in`, 272 bytes.
    pub struct CreateMkeyIn("create_mkey_in", 272) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "pg_access" PG_ACCESS: bits(96, 1);
        "mkey_umem_valid" MKEY_UMEM_VALID: bits(97, 1);
        "data_direct" DATA_DIRECT: bits(98, 1);
        "memory_key_mkey_entry" MEMORY_KEY_MKEY_ENTRY: nested(128, 512, 1, crate::context::Mkc, "mkc");
        "translations_octword_actual_size" TRANSLATIONS_OCTWORD_ACTUAL_SIZE: bits(768, 32);
        "klm_pas_mtt" KLM_PAS_MTT: tail(2176, 32, "");
    }

    /// `create_mkey_out`, 16 bytes.
    pub struct CreateMkeyOut("create_mkey_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "mkey_index" MKEY_INDEX: bits(72, 24);
    }

    /// `query_mkey_in`, 16 bytes.
    pub struct QueryMkeyIn("query_mkey_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "mkey_index" MKEY_INDEX: bits(72, 24);
        "pg_access" PG_ACCESS: bits(96, 1);
    }

    /// `query_mkey_out`, 304 bytes.
    pub struct QueryMkeyOut("query_mkey_out", 304) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "memory_key_mkey_entry" MEMORY_KEY_MKEY_ENTRY: nested(128, 512, 1, crate::context::Mkc, "mkc");
        "bsf0_klm0_pas_mtt0_1" BSF0_KLM0_PAS_MTT0_1: array(2176, 8, 16);
        "bsf1_klm1_pas_mtt2_3" BSF1_KLM1_PAS_MTT2_3: array(2304, 8, 16);
    }

    /// `destroy_mkey_in`, 16 bytes.
    pub struct DestroyMkeyIn("destroy_mkey_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "mkey_index" MKEY_INDEX: bits(72, 24);
    }

    /// `destroy_mkey_out`, 16 bytes.
    pub struct DestroyMkeyOut("destroy_mkey_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `umem`, 32 bytes: memory of the driver's that queues and doorbell records can be in.
    pub struct Umem("umem", 32) {
        "ats" ATS: bits(128, 1);
        "log_page_size" LOG_PAGE_SIZE: bits(155, 5);
        "page_offset" PAGE_OFFSET: bits(160, 32);
        "num_of_mtt" NUM_OF_MTT: wide(192, 64);
        "mtt" MTT: tail(256, 64, "mtt");
    }

    /// `mtt`, 8 bytes: the address of a page, a multiple of 256, and what the device may do there.
    pub struct Mtt("mtt", 8) {
        "ptag_63_32" PTAG_63_32: bits(0, 32);
        "ptag_31_8" PTAG_31_8: bits(32, 24);
        "wr_en" WR_EN: bits(62, 1);
        "rd_en" RD_EN: bits(63, 1);
    }

    /// `create_umem_in`, 48 bytes.
    pub struct CreateUmemIn("create_umem_in", 48) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "umem" UMEM: nested(128, 256, 1, Umem, "umem");
    }

    /// `create_umem_out`, 16 bytes.
    pub struct CreateUmemOut("create_umem_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "umem_id" UMEM_ID: bits(72, 24);
    }

    /// `destroy_umem_in`, 16 bytes.
    pub struct DestroyUmemIn("destroy_umem_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "umem_id" UMEM_ID: bits(72, 24);
    }

    /// `destroy_umem_out`, 16 bytes.
    pub struct DestroyUmemOut("destroy_umem_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `alloc_q_counter_in`, 16 bytes.
    pub struct AllocQCounterIn("alloc_q_counter_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
    }

    /// `alloc_q_counter_out`, 16 bytes.
    pub struct AllocQCounterOut("alloc_q_counter_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "counter_set_id" COUNTER_SET_ID: bits(88, 8);
    }

    /// `query_q_counter_in`, 32 bytes.
    pub struct QueryQCounterIn("query_q_counter_in", 32) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "other_vport" OTHER_VPORT: bits(64, 1);
        "vport_number" VPORT_NUMBER: bits(80, 16);
        "clear" CLEAR: bits(192, 1);
        "aggregate" AGGREGATE: bits(193, 1);
        "counter_set_id" COUNTER_SET_ID: bits(248, 8);
    }

    /// `query_q_counter_out`, 256 bytes.
    pub struct QueryQCounterOut("query_q_counter_out", 256) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "rx_write_requests" RX_WRITE_REQUESTS: bits(128, 32);
        "rx_read_requests" RX_READ_REQUESTS: bits(192, 32);
        "rx_atomic_requests" RX_ATOMIC_REQUESTS: bits(256, 32);
        "rx_dct_connect" RX_DCT_CONNECT: bits(320, 32);
        "out_of_buffer" OUT_OF_BUFFER: bits(384, 32);
        "out_of_sequence" OUT_OF_SEQUENCE: bits(448, 32);
        "duplicate_request" DUPLICATE_REQUEST: bits(512, 32);
        "rnr_nak_retry_err" RNR_NAK_RETRY_ERR: bits(576, 32);
        "packet_seq_err" PACKET_SEQ_ERR: bits(640, 32);
        "implied_nak_seq_err" IMPLIED_NAK_SEQ_ERR: bits(704, 32);
        "local_ack_timeout_err" LOCAL_ACK_TIMEOUT_ERR: bits(768, 32);
        "req_rnr_retries_exceeded" REQ_RNR_RETRIES_EXCEEDED: bits(896, 32);
        "resp_local_length_error" RESP_LOCAL_LENGTH_ERROR: bits(960, 32);
        "req_local_length_error" REQ_LOCAL_LENGTH_ERROR: bits(992, 32);
        "resp_local_qp_error" RESP_LOCAL_QP_ERROR: bits(1024, 32);
        "local_operation_error" LOCAL_OPERATION_ERROR: bits(1056, 32);
        "resp_local_protection" RESP_LOCAL_PROTECTION: bits(1088, 32);
        "req_local_protection" REQ_LOCAL_PROTECTION: bits(1120, 32);
        "resp_cqe_error" RESP_CQE_ERROR: bits(1152, 32);
        "req_cqe_error" REQ_CQE_ERROR: bits(1184, 32);
        "req_mw_binding" REQ_MW_BINDING: bits(1216, 32);
        "req_bad_response" REQ_BAD_RESPONSE: bits(1248, 32);
        "req_remote_invalid_request" REQ_REMOTE_INVALID_REQUEST: bits(1280, 32);
        "resp_remote_invalid_request" RESP_REMOTE_INVALID_REQUEST: bits(1312, 32);
        "req_remote_access_errors" REQ_REMOTE_ACCESS_ERRORS: bits(1344, 32);
        "resp_remote_access_errors" RESP_REMOTE_ACCESS_ERRORS: bits(1376, 32);
        "req_remote_operation_errors" REQ_REMOTE_OPERATION_ERRORS: bits(1408, 32);
        "req_transport_retries_exceeded" REQ_TRANSPORT_RETRIES_EXCEEDED: bits(1440, 32);
        "cq_overflow" CQ_OVERFLOW: bits(1472, 32);
        "resp_cqe_flush_error" RESP_CQE_FLUSH_ERROR: bits(1504, 32);
        "req_cqe_flush_error" REQ_CQE_FLUSH_ERROR: bits(1536, 32);
        "roce_adp_retrans" ROCE_ADP_RETRANS: bits(1600, 32);
        "roce_adp_retrans_to" ROCE_ADP_RETRANS_TO: bits(1632, 32);
        "roce_slow_restart" ROCE_SLOW_RESTART: bits(1664, 32);
        "roce_slow_restart_cnps" ROCE_SLOW_RESTART_CNPS: bits(1696, 32);
        "roce_slow_restart_trans" ROCE_SLOW_RESTART_TRANS: bits(1728, 32);
    }

    /// `dealloc_q_counter_in`, 16 bytes.
    pub struct DeallocQCounterIn("dealloc_q_counter_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "counter_set_id" COUNTER_SET_ID: bits(88, 8);
    }

    /// `dealloc_q_counter_out`, 16 bytes.
    pub struct DeallocQCounterOut("dealloc_q_counter_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }

    /// `general_obj_in_cmd_hdr`, 16 bytes.
    pub struct GeneralObjInCmdHdr("general_obj_in_cmd_hdr", 16) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "vhca_tunnel_id" VHCA_TUNNEL_ID: bits(32, 16);
        "obj_type" OBJ_TYPE: bits(48, 16);
        "obj_id" OBJ_ID: bits(64, 32);
        "op_param.create" OP_PARAM_CREATE: bits(96, 32);
        "op_param.query" OP_PARAM_QUERY: bits(96, 32);
    }

    /// `general_obj_out_cmd_hdr`, 16 bytes.
    pub struct GeneralObjOutCmdHdr("general_obj_out_cmd_hdr", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "obj_id" OBJ_ID: bits(64, 32);
    }

    /// `create_nvmeotcp_tag_buf_table_in`, 32 bytes.
    pub struct CreateTagBufferTableIn("create_nvmeotcp_tag_buf_table_in", 32) {
        "hdr.opcode" HDR_OPCODE: bits(0, 16);
        "hdr.uid" HDR_UID: bits(16, 16);
        "hdr.vhca_tunnel_id" HDR_VHCA_TUNNEL_ID: bits(32, 16);
        "hdr.obj_type" HDR_OBJ_TYPE: bits(48, 16);
        "hdr.obj_id" HDR_OBJ_ID: bits(64, 32);
        "hdr.op_param" HDR_OP_PARAM: bits(96, 32);
        "obj.modify_field_select" OBJ_MODIFY_FIELD_SELECT: wide(128, 64);
        "obj.log_tag_buffer_table_size" OBJ_LOG_TAG_BUFFER_TABLE_SIZE: bits(251, 5);
    }
}

/// Tables of this module.
pub(crate) const LAYOUTS: &[LayoutInfo] = &[
    AllocUarIn::INFO,
    AllocUarOut::INFO,
    DeallocUarIn::INFO,
    DeallocUarOut::INFO,
    AllocPdIn::INFO,
    AllocPdOut::INFO,
    DeallocPdIn::INFO,
    DeallocPdOut::INFO,
    AllocTransportDomainIn::INFO,
    AllocTransportDomainOut::INFO,
    DeallocTransportDomainIn::INFO,
    DeallocTransportDomainOut::INFO,
    CreateEqIn::INFO,
    CreateEqOut::INFO,
    QueryEqIn::INFO,
    QueryEqOut::INFO,
    DestroyEqIn::INFO,
    DestroyEqOut::INFO,
    CreateCqIn::INFO,
    CreateCqOut::INFO,
    QueryCqIn::INFO,
    QueryCqOut::INFO,
    ModifyCqIn::INFO,
    ModifyCqOut::INFO,
    DestroyCqIn::INFO,
    DestroyCqOut::INFO,
    CreateMkeyIn::INFO,
    CreateMkeyOut::INFO,
    QueryMkeyIn::INFO,
    QueryMkeyOut::INFO,
    DestroyMkeyIn::INFO,
    DestroyMkeyOut::INFO,
    AllocQCounterIn::INFO,
    AllocQCounterOut::INFO,
    QueryQCounterIn::INFO,
    QueryQCounterOut::INFO,
    DeallocQCounterIn::INFO,
    DeallocQCounterOut::INFO,
    GeneralObjInCmdHdr::INFO,
    GeneralObjOutCmdHdr::INFO,
    CreateTagBufferTableIn::INFO,
];
