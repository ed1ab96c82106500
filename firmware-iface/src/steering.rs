//! Match parameters and contexts of flow tables, groups and entries (`mlx5-bringup.md` §6).

use hw_regs::layout::{Layout, LayoutInfo};
use hw_regs::{codes, layout};

layout! {
    /// `fte_match_set_lyr_2_4`, 64 bytes.
    pub struct FteMatchSetLyr24("fte_match_set_lyr_2_4", 64) {
        "smac_47_16" SMAC_47_16: bits(0, 32);
        "smac_15_0" SMAC_15_0: bits(32, 16);
        "ethertype" ETHERTYPE: bits(48, 16);
        "dmac_47_16" DMAC_47_16: bits(64, 32);
        "dmac_15_0" DMAC_15_0: bits(96, 16);
        "first_prio" FIRST_PRIO: bits(112, 3);
        "first_cfi" FIRST_CFI: bits(115, 1);
        "first_vid" FIRST_VID: bits(116, 12);
        "ip_protocol" IP_PROTOCOL: bits(128, 8);
        "ip_dscp" IP_DSCP: bits(136, 6);
        "ip_ecn" IP_ECN: bits(142, 2);
        "cvlan_tag" CVLAN_TAG: bits(144, 1);
        "svlan_tag" SVLAN_TAG: bits(145, 1);
        "frag" FRAG: bits(146, 1);
        "ip_version" IP_VERSION: bits(147, 4);
        "tcp_flags" TCP_FLAGS: bits(151, 9);
        "tcp_sport" TCP_SPORT: bits(160, 16);
        "tcp_dport" TCP_DPORT: bits(176, 16);
        "l4_type" L4_TYPE: bits(192, 2);
        "l4_type_ext" L4_TYPE_EXT: bits(194, 4);
        "ipv4_ihl" IPV4_IHL: bits(208, 4);
        "ttl_hoplimit" TTL_HOPLIMIT: bits(216, 8);
        "udp_sport" UDP_SPORT: bits(224, 16);
        "udp_dport" UDP_DPORT: bits(240, 16);
        "src_ipv4_src_ipv6" SRC_IPV4_SRC_IPV6: blob(256, 128);
        "dst_ipv4_dst_ipv6" DST_IPV4_DST_IPV6: blob(384, 128);
    }

    /// `fte_match_set_misc`, 64 bytes.
    pub struct FteMatchSetMisc("fte_match_set_misc", 64) {
        "gre_c_present" GRE_C_PRESENT: bits(0, 1);
        "gre_k_present" GRE_K_PRESENT: bits(2, 1);
        "gre_s_present" GRE_S_PRESENT: bits(3, 1);
        "source_vhca_port" SOURCE_VHCA_PORT: bits(4, 4);
        "source_sqn" SOURCE_SQN: bits(8, 24);
        "source_eswitch_owner_vhca_id" SOURCE_ESWITCH_OWNER_VHCA_ID: bits(32, 16);
        "source_port" SOURCE_PORT: bits(48, 16);
        "outer_second_prio" OUTER_SECOND_PRIO: bits(64, 3);
        "outer_second_cfi" OUTER_SECOND_CFI: bits(67, 1);
        "outer_second_vid" OUTER_SECOND_VID: bits(68, 12);
        "inner_second_prio" INNER_SECOND_PRIO: bits(80, 3);
        "inner_second_cfi" INNER_SECOND_CFI: bits(83, 1);
        "inner_second_vid" INNER_SECOND_VID: bits(84, 12);
        "outer_second_cvlan_tag" OUTER_SECOND_CVLAN_TAG: bits(96, 1);
        "inner_second_cvlan_tag" INNER_SECOND_CVLAN_TAG: bits(97, 1);
        "outer_second_svlan_tag" OUTER_SECOND_SVLAN_TAG: bits(98, 1);
        "inner_second_svlan_tag" INNER_SECOND_SVLAN_TAG: bits(99, 1);
        "gre_protocol" GRE_PROTOCOL: bits(112, 16);
        "gre_key" GRE_KEY: bits(128, 32);
        "vxlan_vni" VXLAN_VNI: bits(160, 24);
        "bth_opcode" BTH_OPCODE: bits(184, 8);
        "geneve_vni" GENEVE_VNI: bits(192, 24);
        "geneve_tlv_option_0_exist" GENEVE_TLV_OPTION_0_EXIST: bits(222, 1);
        "geneve_oam" GENEVE_OAM: bits(223, 1);
        "outer_ipv6_flow_label" OUTER_IPV6_FLOW_LABEL: bits(236, 20);
        "inner_ipv6_flow_label" INNER_IPV6_FLOW_LABEL: bits(268, 20);
        "geneve_opt_len" GENEVE_OPT_LEN: bits(298, 6);
        "geneve_protocol_type" GENEVE_PROTOCOL_TYPE: bits(304, 16);
        "bth_dst_qp" BTH_DST_QP: bits(328, 24);
        "inner_esp_spi" INNER_ESP_SPI: bits(352, 32);
        "outer_esp_spi" OUTER_ESP_SPI: bits(384, 32);
    }

    /// `fte_match_set_misc2`, 64 bytes.
    pub struct FteMatchSetMisc2("fte_match_set_misc2", 64) {
        "outer_first_mpls" OUTER_FIRST_MPLS: bits(0, 32);
        "inner_first_mpls" INNER_FIRST_MPLS: bits(32, 32);
        "outer_first_mpls_over_gre" OUTER_FIRST_MPLS_OVER_GRE: bits(64, 32);
        "outer_first_mpls_over_udp" OUTER_FIRST_MPLS_OVER_UDP: bits(96, 32);
        "metadata_reg_c_7" METADATA_REG_C_7: bits(128, 32);
        "metadata_reg_c_6" METADATA_REG_C_6: bits(160, 32);
        "metadata_reg_c_5" METADATA_REG_C_5: bits(192, 32);
        "metadata_reg_c_4" METADATA_REG_C_4: bits(224, 32);
        "metadata_reg_c_3" METADATA_REG_C_3: bits(256, 32);
        "metadata_reg_c_2" METADATA_REG_C_2: bits(288, 32);
        "metadata_reg_c_1" METADATA_REG_C_1: bits(320, 32);
        "metadata_reg_c_0" METADATA_REG_C_0: bits(352, 32);
        "metadata_reg_a" METADATA_REG_A: bits(384, 32);
        "psp_syndrome" PSP_SYNDROME: bits(416, 8);
        "macsec_syndrome" MACSEC_SYNDROME: bits(424, 8);
        "ipsec_syndrome" IPSEC_SYNDROME: bits(432, 8);
        "ipsec_next_header" IPSEC_NEXT_HEADER: bits(440, 8);
    }

    /// `fte_match_set_misc3`, 64 bytes.
    pub struct FteMatchSetMisc3("fte_match_set_misc3", 64) {
        "inner_tcp_seq_num" INNER_TCP_SEQ_NUM: bits(0, 32);
        "outer_tcp_seq_num" OUTER_TCP_SEQ_NUM: bits(32, 32);
        "inner_tcp_ack_num" INNER_TCP_ACK_NUM: bits(64, 32);
        "outer_tcp_ack_num" OUTER_TCP_ACK_NUM: bits(96, 32);
        "outer_vxlan_gpe_vni" OUTER_VXLAN_GPE_VNI: bits(136, 24);
        "outer_vxlan_gpe_next_protocol" OUTER_VXLAN_GPE_NEXT_PROTOCOL: bits(160, 8);
        "outer_vxlan_gpe_flags" OUTER_VXLAN_GPE_FLAGS: bits(168, 8);
        "icmp_header_data" ICMP_HEADER_DATA: bits(192, 32);
        "icmpv6_header_data" ICMPV6_HEADER_DATA: bits(224, 32);
        "icmp_type" ICMP_TYPE: bits(256, 8);
        "icmp_code" ICMP_CODE: bits(264, 8);
        "icmpv6_type" ICMPV6_TYPE: bits(272, 8);
        "icmpv6_code" ICMPV6_CODE: bits(280, 8);
        "geneve_tlv_option_0_data" GENEVE_TLV_OPTION_0_DATA: bits(288, 32);
        "gtpu_teid" GTPU_TEID: bits(320, 32);
        "gtpu_msg_type" GTPU_MSG_TYPE: bits(352, 8);
        "gtpu_msg_flags" GTPU_MSG_FLAGS: bits(360, 8);
        "gtpu_dw_2" GTPU_DW_2: bits(384, 32);
        "gtpu_first_ext_dw_0" GTPU_FIRST_EXT_DW_0: bits(416, 32);
        "gtpu_dw_0" GTPU_DW_0: bits(448, 32);
    }

    /// `fte_match_param`, 512 bytes.
    pub struct FteMatchParam("fte_match_param", 512) {
        "outer_headers" OUTER_HEADERS: nested(0, 512, 1, FteMatchSetLyr24, "fte_match_set_lyr_2_4");
        "misc_parameters" MISC_PARAMETERS: nested(512, 512, 1, FteMatchSetMisc, "fte_match_set_misc");
        "inner_headers" INNER_HEADERS: nested(1024, 512, 1, FteMatchSetLyr24, "fte_match_set_lyr_2_4");
        "misc_parameters_2" MISC_PARAMETERS_2: nested(1536, 512, 1, FteMatchSetMisc2, "fte_match_set_misc2");
        "misc_parameters_3" MISC_PARAMETERS_3: nested(2048, 512, 1, FteMatchSetMisc3, "fte_match_set_misc3");
        "misc_parameters_4" MISC_PARAMETERS_4: blob(2560, 512);
        "misc_parameters_5" MISC_PARAMETERS_5: blob(3072, 512);
        "misc_parameters_6" MISC_PARAMETERS_6: blob(3584, 512);
    }

    /// `dest_format`, 8 bytes.
    pub struct DestFormat("dest_format", 8) {
        "destination_type" DESTINATION_TYPE: bits(0, 8);
        "destination_id" DESTINATION_ID: bits(8, 24);
        "destination_eswitch_owner_vhca_id_valid" DESTINATION_ESWITCH_OWNER_VHCA_ID_VALID: bits(32, 1);
        "packet_reformat" PACKET_REFORMAT: bits(33, 1);
        "destination_eswitch_owner_vhca_id" DESTINATION_ESWITCH_OWNER_VHCA_ID: bits(48, 16);
    }

    /// `flow_table_context`, 40 bytes.
    pub struct FlowTableContext("flow_table_context", 40) {
        "reformat_en" REFORMAT_EN: bits(0, 1);
        "decap_en" DECAP_EN: bits(1, 1);
        "sw_owner" SW_OWNER: bits(2, 1);
        "termination_table" TERMINATION_TABLE: bits(3, 1);
        "table_miss_action" TABLE_MISS_ACTION: bits(4, 4);
        "level" LEVEL: bits(8, 8);
        "rtc_valid" RTC_VALID: bits(16, 1);
        "log_size" LOG_SIZE: bits(24, 8);
        "table_miss_id" TABLE_MISS_ID: bits(40, 24);
        "lag_master_next_table_id" LAG_MASTER_NEXT_TABLE_ID: bits(72, 24);
        "sws" SWS: blob(192, 128);
        "hws" HWS: blob(192, 128);
    }

    /// `vlan`, 4 bytes.
    pub struct Vlan("vlan", 4) {
        "ethtype" ETHTYPE: bits(0, 16);
        "prio" PRIO: bits(16, 3);
        "cfi" CFI: bits(19, 1);
        "vid" VID: bits(20, 12);
    }

    /// `flow_context`, 768 bytes.
    pub struct FlowContext("flow_context", 768) {
        "push_vlan" PUSH_VLAN: nested(0, 32, 1, Vlan, "vlan");
        "group_id" GROUP_ID: bits(32, 32);
        "flow_tag" FLOW_TAG: bits(72, 24);
        "action" ACTION: bits(112, 16);
        "extended_destination" EXTENDED_DESTINATION: bits(128, 1);
        "uplink_hairpin_en" UPLINK_HAIRPIN_EN: bits(129, 1);
        "flow_source" FLOW_SOURCE: bits(130, 2);
        "encrypt_decrypt_type" ENCRYPT_DECRYPT_TYPE: bits(132, 4);
        "destination_list_size" DESTINATION_LIST_SIZE: bits(136, 24);
        "flow_counter_list_size" FLOW_COUNTER_LIST_SIZE: bits(168, 24);
        "packet_reformat_id" PACKET_REFORMAT_ID: bits(192, 32);
        "modify_header_id" MODIFY_HEADER_ID: bits(224, 32);
        "push_vlan_2" PUSH_VLAN_2: nested(256, 32, 1, Vlan, "vlan");
        "encrypt_decrypt_obj_id" ENCRYPT_DECRYPT_OBJ_ID: bits(288, 32);
        "match_value" MATCH_VALUE: nested(512, 4096, 1, FteMatchParam, "fte_match_param");
        "execute_aso" EXECUTE_ASO: array(4608, 64, 4);
        "destination" DESTINATION: tail(6144, 128, "dest_format_flow_counter_list_auto");
    }
}

codes! {
    /// Bits of `FlowContext::ACTION`.
    pub struct FlowAction(u32, "mlx5_flow_context_action") {
        "MLX5_FLOW_CONTEXT_ACTION_ALLOW" ALLOW = 0x1;
        "MLX5_FLOW_CONTEXT_ACTION_DROP" DROP = 0x2;
        "MLX5_FLOW_CONTEXT_ACTION_FWD_DEST" FWD_DEST = 0x4;
        "MLX5_FLOW_CONTEXT_ACTION_COUNT" COUNT = 0x8;
        "MLX5_FLOW_CONTEXT_ACTION_PACKET_REFORMAT" PACKET_REFORMAT = 0x10;
        "MLX5_FLOW_CONTEXT_ACTION_DECAP" DECAP = 0x20;
        "MLX5_FLOW_CONTEXT_ACTION_MOD_HDR" MOD_HDR = 0x40;
        "MLX5_FLOW_CONTEXT_ACTION_VLAN_POP" VLAN_POP = 0x80;
        "MLX5_FLOW_CONTEXT_ACTION_VLAN_PUSH" VLAN_PUSH = 0x100;
        "MLX5_FLOW_CONTEXT_ACTION_VLAN_POP_2" VLAN_POP_2 = 0x400;
        "MLX5_FLOW_CONTEXT_ACTION_VLAN_PUSH_2" VLAN_PUSH_2 = 0x800;
        "MLX5_FLOW_CONTEXT_ACTION_CRYPTO_DECRYPT" CRYPTO_DECRYPT = 0x1000;
        "MLX5_FLOW_CONTEXT_ACTION_CRYPTO_ENCRYPT" CRYPTO_ENCRYPT = 0x2000;
        "MLX5_FLOW_CONTEXT_ACTION_EXECUTE_ASO" EXECUTE_ASO = 0x4000;
    }

    /// `DestFormat::DESTINATION_TYPE`.
    pub struct FlowDestinationType(u8, "flow_destination_type") {
        "MLX5_IFC_FLOW_DESTINATION_TYPE_VPORT" VPORT = 0x0;
        "MLX5_IFC_FLOW_DESTINATION_TYPE_FLOW_TABLE" FLOW_TABLE = 0x1;
        "MLX5_IFC_FLOW_DESTINATION_TYPE_TIR" TIR = 0x2;
        "MLX5_IFC_FLOW_DESTINATION_TYPE_VHCA_RX" VHCA_RX = 0x4;
        "MLX5_IFC_FLOW_DESTINATION_TYPE_FLOW_SAMPLER" FLOW_SAMPLER = 0x6;
        "MLX5_IFC_FLOW_DESTINATION_TYPE_UPLINK" UPLINK = 0x8;
        "MLX5_IFC_FLOW_DESTINATION_TYPE_TABLE_TYPE" TABLE_TYPE = 0xa;
    }

    /// `table_type` of flow table commands.
    pub struct FlowTableType(u8, "mlx5_flow_table_type") {
        "MLX5_FLOW_TABLE_TYPE_NIC_RX" NIC_RX = 0x0;
        "MLX5_FLOW_TABLE_TYPE_NIC_TX" NIC_TX = 0x1;
        "MLX5_FLOW_TABLE_TYPE_ESW_EGRESS_ACL" ESW_EGRESS_ACL = 0x2;
        "MLX5_FLOW_TABLE_TYPE_ESW_INGRESS_ACL" ESW_INGRESS_ACL = 0x3;
        "MLX5_FLOW_TABLE_TYPE_FDB" FDB = 0x4;
        "MLX5_FLOW_TABLE_TYPE_SNIFFER_RX" SNIFFER_RX = 0x5;
        "MLX5_FLOW_TABLE_TYPE_SNIFFER_TX" SNIFFER_TX = 0x6;
    }

    /// `FlowTableContext::TABLE_MISS_ACTION`.
    pub struct MissAction(u8, "mlx5_flow_table_miss_action") {
        "MLX5_FLOW_TABLE_MISS_ACTION_DEF" DEF = 0x0;
        "MLX5_FLOW_TABLE_MISS_ACTION_FWD" FWD = 0x1;
        "MLX5_FLOW_TABLE_MISS_ACTION_SWITCH_DOMAIN" SWITCH_DOMAIN = 0x2;
    }

    /// Bits of `match_criteria_enable` of a flow group.
    pub struct MatchCriteria(u8, "match_criteria_enable") {
        "MLX5_MATCH_OUTER_HEADERS" OUTER_HEADERS = 0x1;
        "MLX5_MATCH_MISC_PARAMETERS" MISC_PARAMETERS = 0x2;
        "MLX5_MATCH_INNER_HEADERS" INNER_HEADERS = 0x4;
        "MLX5_MATCH_MISC_PARAMETERS_2" MISC_PARAMETERS_2 = 0x8;
        "MLX5_MATCH_MISC_PARAMETERS_3" MISC_PARAMETERS_3 = 0x10;
        "MLX5_MATCH_MISC_PARAMETERS_4" MISC_PARAMETERS_4 = 0x20;
        "MLX5_MATCH_MISC_PARAMETERS_5" MISC_PARAMETERS_5 = 0x40;
        "MLX5_MATCH_MISC_PARAMETERS_6" MISC_PARAMETERS_6 = 0x80;
    }
}

/// Tables of this module.
pub(crate) const LAYOUTS: &[LayoutInfo] = &[
    FteMatchSetLyr24::INFO,
    FteMatchSetMisc::INFO,
    FteMatchSetMisc2::INFO,
    FteMatchSetMisc3::INFO,
    FteMatchParam::INFO,
    DestFormat::INFO,
    FlowTableContext::INFO,
    Vlan::INFO,
    FlowContext::INFO,
];

/// Number sets of this module.
pub(crate) const CODES: &[(&str, &[(&str, u64)])] =
    &[FlowAction::TABLE, FlowDestinationType::TABLE, FlowTableType::TABLE, MissAction::TABLE, MatchCriteria::TABLE];
