//! The other capability groups that a bring-up and a dump of a card read (`mlx5-bringup.md` §3 steps 9 to 15).

use hw_regs::layout::{Layout, LayoutInfo};
use hw_regs::{codes, layout};

layout! {
    /// `per_protocol_networking_offload_caps`, 256 bytes.
    pub struct PerProtocolNetworkingOffloadCaps("per_protocol_networking_offload_caps", 256) {
        "csum_cap" CSUM_CAP: bits(0, 1);
        "vlan_cap" VLAN_CAP: bits(1, 1);
        "lro_cap" LRO_CAP: bits(2, 1);
        "lro_psh_flag" LRO_PSH_FLAG: bits(3, 1);
        "lro_time_stamp" LRO_TIME_STAMP: bits(4, 1);
        "wqe_vlan_insert" WQE_VLAN_INSERT: bits(7, 1);
        "self_lb_en_modifiable" SELF_LB_EN_MODIFIABLE: bits(8, 1);
        "max_lso_cap" MAX_LSO_CAP: bits(11, 5);
        "multi_pkt_send_wqe" MULTI_PKT_SEND_WQE: bits(16, 2);
        "wqe_inline_mode" WQE_INLINE_MODE: bits(18, 2);
        "rss_ind_tbl_cap" RSS_IND_TBL_CAP: bits(20, 4);
        "reg_umr_sq" REG_UMR_SQ: bits(24, 1);
        "scatter_fcs" SCATTER_FCS: bits(25, 1);
        "enhanced_multi_pkt_send_wqe" ENHANCED_MULTI_PKT_SEND_WQE: bits(26, 1);
        "tunnel_lso_const_out_ip_id" TUNNEL_LSO_CONST_OUT_IP_ID: bits(27, 1);
        "tunnel_lro_gre" TUNNEL_LRO_GRE: bits(28, 1);
        "tunnel_lro_vxlan" TUNNEL_LRO_VXLAN: bits(29, 1);
        "tunnel_stateless_gre" TUNNEL_STATELESS_GRE: bits(30, 1);
        "tunnel_stateless_vxlan" TUNNEL_STATELESS_VXLAN: bits(31, 1);
        "swp" SWP: bits(32, 1);
        "swp_csum" SWP_CSUM: bits(33, 1);
        "swp_lso" SWP_LSO: bits(34, 1);
        "cqe_checksum_full" CQE_CHECKSUM_FULL: bits(35, 1);
        "tunnel_stateless_geneve_tx" TUNNEL_STATELESS_GENEVE_TX: bits(36, 1);
        "tunnel_stateless_mpls_over_udp" TUNNEL_STATELESS_MPLS_OVER_UDP: bits(37, 1);
        "tunnel_stateless_mpls_over_gre" TUNNEL_STATELESS_MPLS_OVER_GRE: bits(38, 1);
        "tunnel_stateless_vxlan_gpe" TUNNEL_STATELESS_VXLAN_GPE: bits(39, 1);
        "tunnel_stateless_ipv4_over_vxlan" TUNNEL_STATELESS_IPV4_OVER_VXLAN: bits(40, 1);
        "tunnel_stateless_ip_over_ip" TUNNEL_STATELESS_IP_OVER_IP: bits(41, 1);
        "insert_trailer" INSERT_TRAILER: bits(42, 1);
        "tunnel_stateless_ip_over_ip_rx" TUNNEL_STATELESS_IP_OVER_IP_RX: bits(44, 1);
        "tunnel_stateless_ip_over_ip_tx" TUNNEL_STATELESS_IP_OVER_IP_TX: bits(45, 1);
        "max_vxlan_udp_ports" MAX_VXLAN_UDP_PORTS: bits(48, 8);
        "swp_csum_l4_partial" SWP_CSUM_L4_PARTIAL: bits(56, 1);
        "max_geneve_opt_len" MAX_GENEVE_OPT_LEN: bits(62, 1);
        "tunnel_stateless_geneve_rx" TUNNEL_STATELESS_GENEVE_RX: bits(63, 1);
        "lro_min_mss_size" LRO_MIN_MSS_SIZE: bits(80, 16);
        "lro_timer_supported_periods" LRO_TIMER_SUPPORTED_PERIODS: array(384, 32, 4);
    }

    /// `odp_per_transport_service_cap`, 4 bytes.
    pub struct OdpPerTransportServiceCap("odp_per_transport_service_cap", 4) {
        "send" SEND: bits(0, 1);
        "receive" RECEIVE: bits(1, 1);
        "write" WRITE: bits(2, 1);
        "read" READ: bits(3, 1);
        "atomic" ATOMIC: bits(4, 1);
        "srq_receive" SRQ_RECEIVE: bits(5, 1);
    }

    /// `odp_scheme_cap`, 64 bytes.
    pub struct OdpSchemeCap("odp_scheme_cap", 64) {
        "sig" SIG: bits(64, 1);
        "page_prefetch" PAGE_PREFETCH: bits(69, 1);
        "rc_odp_caps" RC_ODP_CAPS: nested(128, 32, 1, OdpPerTransportServiceCap, "odp_per_transport_service_cap");
        "uc_odp_caps" UC_ODP_CAPS: nested(160, 32, 1, OdpPerTransportServiceCap, "odp_per_transport_service_cap");
        "ud_odp_caps" UD_ODP_CAPS: nested(192, 32, 1, OdpPerTransportServiceCap, "odp_per_transport_service_cap");
        "xrc_odp_caps" XRC_ODP_CAPS: nested(224, 32, 1, OdpPerTransportServiceCap, "odp_per_transport_service_cap");
        "dc_odp_caps" DC_ODP_CAPS: nested(256, 32, 1, OdpPerTransportServiceCap, "odp_per_transport_service_cap");
    }

    /// `odp_cap`, 256 bytes.
    pub struct OdpCap("odp_cap", 256) {
        "transport_page_fault_scheme_cap" TRANSPORT_PAGE_FAULT_SCHEME_CAP: nested(0, 512, 1, OdpSchemeCap, "odp_scheme_cap");
        "memory_page_fault_scheme_cap" MEMORY_PAGE_FAULT_SCHEME_CAP: nested(512, 512, 1, OdpSchemeCap, "odp_scheme_cap");
        "mem_page_fault" MEM_PAGE_FAULT: bits(1536, 1);
    }

    /// `atomic_caps`, 256 bytes.
    pub struct AtomicCaps("atomic_caps", 256) {
        "atomic_req_8B_endianness_mode" ATOMIC_REQ_8B_ENDIANNESS_MODE: bits(64, 2);
        "supported_atomic_req_8B_endianness_mode_1" SUPPORTED_ATOMIC_REQ_8B_ENDIANNESS_MODE_1: bits(70, 1);
        "atomic_operations" ATOMIC_OPERATIONS: bits(144, 16);
        "atomic_size_qp" ATOMIC_SIZE_QP: bits(176, 16);
        "atomic_size_dc" ATOMIC_SIZE_DC: bits(208, 16);
    }

    /// `roce_cap`, 256 bytes.
    pub struct RoceCap("roce_cap", 256) {
        "roce_apm" ROCE_APM: bits(0, 1);
        "sw_r_roce_src_udp_port" SW_R_ROCE_SRC_UDP_PORT: bits(4, 1);
        "fl_rc_qp_when_roce_disabled" FL_RC_QP_WHEN_ROCE_DISABLED: bits(5, 1);
        "fl_rc_qp_when_roce_enabled" FL_RC_QP_WHEN_ROCE_ENABLED: bits(6, 1);
        "roce_cc_general" ROCE_CC_GENERAL: bits(7, 1);
        "qp_ooo_transmit_default" QP_OOO_TRANSMIT_DEFAULT: bits(8, 1);
        "qp_ts_format" QP_TS_FORMAT: bits(30, 2);
        "l3_type" L3_TYPE: bits(140, 4);
        "roce_version" ROCE_VERSION: bits(152, 8);
        "r_roce_dest_udp_port" R_ROCE_DEST_UDP_PORT: bits(176, 16);
        "r_roce_max_src_udp_port" R_ROCE_MAX_SRC_UDP_PORT: bits(192, 16);
        "r_roce_min_src_udp_port" R_ROCE_MIN_SRC_UDP_PORT: bits(208, 16);
        "roce_address_table_size" ROCE_ADDRESS_TABLE_SIZE: bits(240, 16);
    }

    /// `flow_table_fields_supported`, 16 bytes.
    pub struct FlowTableFieldsSupported("flow_table_fields_supported", 16) {
        "outer_dmac" OUTER_DMAC: bits(0, 1);
        "outer_smac" OUTER_SMAC: bits(1, 1);
        "outer_ether_type" OUTER_ETHER_TYPE: bits(2, 1);
        "outer_ip_version" OUTER_IP_VERSION: bits(3, 1);
        "outer_first_prio" OUTER_FIRST_PRIO: bits(4, 1);
        "outer_first_cfi" OUTER_FIRST_CFI: bits(5, 1);
        "outer_first_vid" OUTER_FIRST_VID: bits(6, 1);
        "outer_ipv4_ttl" OUTER_IPV4_TTL: bits(7, 1);
        "outer_second_prio" OUTER_SECOND_PRIO: bits(8, 1);
        "outer_second_cfi" OUTER_SECOND_CFI: bits(9, 1);
        "outer_second_vid" OUTER_SECOND_VID: bits(10, 1);
        "outer_sip" OUTER_SIP: bits(12, 1);
        "outer_dip" OUTER_DIP: bits(13, 1);
        "outer_frag" OUTER_FRAG: bits(14, 1);
        "outer_ip_protocol" OUTER_IP_PROTOCOL: bits(15, 1);
        "outer_ip_ecn" OUTER_IP_ECN: bits(16, 1);
        "outer_ip_dscp" OUTER_IP_DSCP: bits(17, 1);
        "outer_udp_sport" OUTER_UDP_SPORT: bits(18, 1);
        "outer_udp_dport" OUTER_UDP_DPORT: bits(19, 1);
        "outer_tcp_sport" OUTER_TCP_SPORT: bits(20, 1);
        "outer_tcp_dport" OUTER_TCP_DPORT: bits(21, 1);
        "outer_tcp_flags" OUTER_TCP_FLAGS: bits(22, 1);
        "outer_gre_protocol" OUTER_GRE_PROTOCOL: bits(23, 1);
        "outer_gre_key" OUTER_GRE_KEY: bits(24, 1);
        "outer_vxlan_vni" OUTER_VXLAN_VNI: bits(25, 1);
        "outer_geneve_vni" OUTER_GENEVE_VNI: bits(26, 1);
        "outer_geneve_oam" OUTER_GENEVE_OAM: bits(27, 1);
        "outer_geneve_protocol_type" OUTER_GENEVE_PROTOCOL_TYPE: bits(28, 1);
        "outer_geneve_opt_len" OUTER_GENEVE_OPT_LEN: bits(29, 1);
        "source_vhca_port" SOURCE_VHCA_PORT: bits(30, 1);
        "source_eswitch_port" SOURCE_ESWITCH_PORT: bits(31, 1);
        "inner_dmac" INNER_DMAC: bits(32, 1);
        "inner_smac" INNER_SMAC: bits(33, 1);
        "inner_ether_type" INNER_ETHER_TYPE: bits(34, 1);
        "inner_ip_version" INNER_IP_VERSION: bits(35, 1);
        "inner_first_prio" INNER_FIRST_PRIO: bits(36, 1);
        "inner_first_cfi" INNER_FIRST_CFI: bits(37, 1);
        "inner_first_vid" INNER_FIRST_VID: bits(38, 1);
        "inner_second_prio" INNER_SECOND_PRIO: bits(40, 1);
        "inner_second_cfi" INNER_SECOND_CFI: bits(41, 1);
        "inner_second_vid" INNER_SECOND_VID: bits(42, 1);
        "inner_sip" INNER_SIP: bits(44, 1);
        "inner_dip" INNER_DIP: bits(45, 1);
        "inner_frag" INNER_FRAG: bits(46, 1);
        "inner_ip_protocol" INNER_IP_PROTOCOL: bits(47, 1);
        "inner_ip_ecn" INNER_IP_ECN: bits(48, 1);
        "inner_ip_dscp" INNER_IP_DSCP: bits(49, 1);
        "inner_udp_sport" INNER_UDP_SPORT: bits(50, 1);
        "inner_udp_dport" INNER_UDP_DPORT: bits(51, 1);
        "inner_tcp_sport" INNER_TCP_SPORT: bits(52, 1);
        "inner_tcp_dport" INNER_TCP_DPORT: bits(53, 1);
        "inner_tcp_flags" INNER_TCP_FLAGS: bits(54, 1);
        "geneve_tlv_option_0_data" GENEVE_TLV_OPTION_0_DATA: bits(64, 1);
        "geneve_tlv_option_0_exist" GENEVE_TLV_OPTION_0_EXIST: bits(65, 1);
        "outer_first_mpls_over_udp" OUTER_FIRST_MPLS_OVER_UDP: bits(69, 4);
        "outer_first_mpls_over_gre" OUTER_FIRST_MPLS_OVER_GRE: bits(73, 4);
        "inner_first_mpls" INNER_FIRST_MPLS: bits(77, 4);
        "outer_first_mpls" OUTER_FIRST_MPLS: bits(81, 4);
        "outer_esp_spi" OUTER_ESP_SPI: bits(87, 1);
        "bth_dst_qp" BTH_DST_QP: bits(90, 1);
        "metadata_reg_c_7" METADATA_REG_C_7: bits(120, 1);
        "metadata_reg_c_6" METADATA_REG_C_6: bits(121, 1);
        "metadata_reg_c_5" METADATA_REG_C_5: bits(122, 1);
        "metadata_reg_c_4" METADATA_REG_C_4: bits(123, 1);
        "metadata_reg_c_3" METADATA_REG_C_3: bits(124, 1);
        "metadata_reg_c_2" METADATA_REG_C_2: bits(125, 1);
        "metadata_reg_c_1" METADATA_REG_C_1: bits(126, 1);
        "metadata_reg_c_0" METADATA_REG_C_0: bits(127, 1);
    }

    /// `flow_table_fields_supported_2`, 16 bytes.
    pub struct FlowTableFieldsSupported2("flow_table_fields_supported_2", 16) {
        "inner_l4_type_ext" INNER_L4_TYPE_EXT: bits(0, 1);
        "outer_l4_type_ext" OUTER_L4_TYPE_EXT: bits(1, 1);
        "inner_l4_type" INNER_L4_TYPE: bits(2, 1);
        "outer_l4_type" OUTER_L4_TYPE: bits(3, 1);
        "bth_opcode" BTH_OPCODE: bits(14, 1);
        "tunnel_header_0_1" TUNNEL_HEADER_0_1: bits(16, 1);
        "ipsec_next_header" IPSEC_NEXT_HEADER: bits(47, 1);
    }

    /// `flow_table_prop_layout`, 64 bytes.
    pub struct FlowTablePropLayout("flow_table_prop_layout", 64) {
        "ft_support" FT_SUPPORT: bits(0, 1);
        "flow_counter" FLOW_COUNTER: bits(2, 1);
        "flow_modify_en" FLOW_MODIFY_EN: bits(3, 1);
        "modify_root" MODIFY_ROOT: bits(4, 1);
        "identified_miss_table_mode" IDENTIFIED_MISS_TABLE_MODE: bits(5, 1);
        "flow_table_modify" FLOW_TABLE_MODIFY: bits(6, 1);
        "reformat" REFORMAT: bits(7, 1);
        "decap" DECAP: bits(8, 1);
        "reset_root_to_default" RESET_ROOT_TO_DEFAULT: bits(9, 1);
        "pop_vlan" POP_VLAN: bits(10, 1);
        "push_vlan" PUSH_VLAN: bits(11, 1);
        "pop_vlan_2" POP_VLAN_2: bits(13, 1);
        "push_vlan_2" PUSH_VLAN_2: bits(14, 1);
        "reformat_and_vlan_action" REFORMAT_AND_VLAN_ACTION: bits(15, 1);
        "sw_owner" SW_OWNER: bits(17, 1);
        "reformat_l3_tunnel_to_l2" REFORMAT_L3_TUNNEL_TO_L2: bits(18, 1);
        "reformat_l2_to_l3_tunnel" REFORMAT_L2_TO_L3_TUNNEL: bits(19, 1);
        "reformat_and_modify_action" REFORMAT_AND_MODIFY_ACTION: bits(20, 1);
        "ignore_flow_level" IGNORE_FLOW_LEVEL: bits(21, 1);
        "table_miss_action_domain" TABLE_MISS_ACTION_DOMAIN: bits(23, 1);
        "termination_table" TERMINATION_TABLE: bits(24, 1);
        "reformat_and_fwd_to_table" REFORMAT_AND_FWD_TO_TABLE: bits(25, 1);
        "forward_vhca_rx" FORWARD_VHCA_RX: bits(26, 1);
        "ipsec_encrypt" IPSEC_ENCRYPT: bits(28, 1);
        "ipsec_decrypt" IPSEC_DECRYPT: bits(29, 1);
        "sw_owner_v2" SW_OWNER_V2: bits(30, 1);
        "termination_table_raw_traffic" TERMINATION_TABLE_RAW_TRAFFIC: bits(32, 1);
        "log_max_ft_size" LOG_MAX_FT_SIZE: bits(34, 6);
        "log_max_modify_header_context" LOG_MAX_MODIFY_HEADER_CONTEXT: bits(40, 8);
        "max_modify_header_actions" MAX_MODIFY_HEADER_ACTIONS: bits(48, 8);
        "max_ft_level" MAX_FT_LEVEL: bits(56, 8);
        "reformat_add_esp_trasport" REFORMAT_ADD_ESP_TRASPORT: bits(64, 1);
        "reformat_l2_to_l3_esp_tunnel" REFORMAT_L2_TO_L3_ESP_TUNNEL: bits(65, 1);
        "reformat_add_esp_transport_over_udp" REFORMAT_ADD_ESP_TRANSPORT_OVER_UDP: bits(66, 1);
        "reformat_del_esp_trasport" REFORMAT_DEL_ESP_TRASPORT: bits(67, 1);
        "reformat_l3_esp_tunnel_to_l2" REFORMAT_L3_ESP_TUNNEL_TO_L2: bits(68, 1);
        "reformat_del_esp_transport_over_udp" REFORMAT_DEL_ESP_TRANSPORT_OVER_UDP: bits(69, 1);
        "execute_aso" EXECUTE_ASO: bits(70, 1);
        "reformat_l2_to_l3_psp_tunnel" REFORMAT_L2_TO_L3_PSP_TUNNEL: bits(96, 1);
        "reformat_l3_psp_tunnel_to_l2" REFORMAT_L3_PSP_TUNNEL_TO_L2: bits(97, 1);
        "reformat_insert" REFORMAT_INSERT: bits(98, 1);
        "reformat_remove" REFORMAT_REMOVE: bits(99, 1);
        "macsec_encrypt" MACSEC_ENCRYPT: bits(100, 1);
        "macsec_decrypt" MACSEC_DECRYPT: bits(101, 1);
        "psp_encrypt" PSP_ENCRYPT: bits(102, 1);
        "psp_decrypt" PSP_DECRYPT: bits(103, 1);
        "reformat_add_macsec" REFORMAT_ADD_MACSEC: bits(104, 1);
        "reformat_remove_macsec" REFORMAT_REMOVE_MACSEC: bits(105, 1);
        "reparse" REPARSE: bits(106, 1);
        "cross_vhca_object" CROSS_VHCA_OBJECT: bits(108, 1);
        "reformat_l2_to_l3_audp_tunnel" REFORMAT_L2_TO_L3_AUDP_TUNNEL: bits(109, 1);
        "reformat_l3_audp_tunnel_to_l2" REFORMAT_L3_AUDP_TUNNEL_TO_L2: bits(110, 1);
        "ignore_flow_level_rtc_valid" IGNORE_FLOW_LEVEL_RTC_VALID: bits(111, 1);
        "reformat_del_psp_transport" REFORMAT_DEL_PSP_TRANSPORT: bits(119, 1);
        "log_max_ft_num" LOG_MAX_FT_NUM: bits(120, 8);
        "log_max_flow_counter" LOG_MAX_FLOW_COUNTER: bits(144, 8);
        "log_max_destination" LOG_MAX_DESTINATION: bits(152, 8);
        "log_max_flow" LOG_MAX_FLOW: bits(184, 8);
        "ft_field_support" FT_FIELD_SUPPORT: nested(256, 128, 1, FlowTableFieldsSupported, "flow_table_fields_supported");
        "ft_field_bitmask_support" FT_FIELD_BITMASK_SUPPORT: nested(384, 128, 1, FlowTableFieldsSupported, "flow_table_fields_supported");
    }

    /// `flow_table_nic_cap`, 4096 bytes.
    pub struct FlowTableNicCap("flow_table_nic_cap", 4096) {
        "nic_rx_multi_path_tirs" NIC_RX_MULTI_PATH_TIRS: bits(0, 1);
        "nic_rx_multi_path_tirs_fts" NIC_RX_MULTI_PATH_TIRS_FTS: bits(1, 1);
        "allow_sniffer_and_nic_rx_shared_tir" ALLOW_SNIFFER_AND_NIC_RX_SHARED_TIR: bits(2, 1);
        "sw_owner_reformat_supported" SW_OWNER_REFORMAT_SUPPORTED: bits(7, 1);
        "encap_general_header" ENCAP_GENERAL_HEADER: bits(32, 1);
        "log_max_packet_reformat_context" LOG_MAX_PACKET_REFORMAT_CONTEXT: bits(43, 5);
        "max_encap_header_size" MAX_ENCAP_HEADER_SIZE: bits(54, 10);
        "flow_table_properties_nic_receive" FLOW_TABLE_PROPERTIES_NIC_RECEIVE: nested(512, 512, 1, FlowTablePropLayout, "flow_table_prop_layout");
        "flow_table_properties_nic_receive_rdma" FLOW_TABLE_PROPERTIES_NIC_RECEIVE_RDMA: nested(1024, 512, 1, FlowTablePropLayout, "flow_table_prop_layout");
        "flow_table_properties_nic_receive_sniffer" FLOW_TABLE_PROPERTIES_NIC_RECEIVE_SNIFFER: nested(1536, 512, 1, FlowTablePropLayout, "flow_table_prop_layout");
        "flow_table_properties_nic_transmit" FLOW_TABLE_PROPERTIES_NIC_TRANSMIT: nested(2048, 512, 1, FlowTablePropLayout, "flow_table_prop_layout");
        "flow_table_properties_nic_transmit_rdma" FLOW_TABLE_PROPERTIES_NIC_TRANSMIT_RDMA: nested(2560, 512, 1, FlowTablePropLayout, "flow_table_prop_layout");
        "flow_table_properties_nic_transmit_sniffer" FLOW_TABLE_PROPERTIES_NIC_TRANSMIT_SNIFFER: nested(3072, 512, 1, FlowTablePropLayout, "flow_table_prop_layout");
        "ft_field_support_2_nic_receive" FT_FIELD_SUPPORT_2_NIC_RECEIVE: nested(5120, 128, 1, FlowTableFieldsSupported2, "flow_table_fields_supported_2");
        "ft_field_support_2_nic_receive_rdma" FT_FIELD_SUPPORT_2_NIC_RECEIVE_RDMA: nested(5376, 128, 1, FlowTableFieldsSupported2, "flow_table_fields_supported_2");
        "ft_field_support_2_nic_transmit_rdma" FT_FIELD_SUPPORT_2_NIC_TRANSMIT_RDMA: nested(6144, 128, 1, FlowTableFieldsSupported2, "flow_table_fields_supported_2");
        "sw_steering_nic_rx_action_drop_icm_address" SW_STEERING_NIC_RX_ACTION_DROP_ICM_ADDRESS: wide(8192, 64);
        "sw_steering_nic_tx_action_drop_icm_address" SW_STEERING_NIC_TX_ACTION_DROP_ICM_ADDRESS: wide(8256, 64);
        "sw_steering_nic_tx_action_allow_icm_address" SW_STEERING_NIC_TX_ACTION_ALLOW_ICM_ADDRESS: wide(8320, 64);
    }

    /// `flow_table_eswitch_cap`, 4096 bytes.
    pub struct FlowTableEswitchCap("flow_table_eswitch_cap", 4096) {
        "fdb_to_vport_reg_c_id" FDB_TO_VPORT_REG_C_ID: bits(0, 8);
        "fdb_uplink_hairpin" FDB_UPLINK_HAIRPIN: bits(13, 1);
        "fdb_multi_path_any_table_limit_regc" FDB_MULTI_PATH_ANY_TABLE_LIMIT_REGC: bits(14, 1);
        "fdb_dynamic_tunnel" FDB_DYNAMIC_TUNNEL: bits(16, 1);
        "fdb_multi_path_any_table" FDB_MULTI_PATH_ANY_TABLE: bits(18, 1);
        "fdb_modify_header_fwd_to_table" FDB_MODIFY_HEADER_FWD_TO_TABLE: bits(21, 1);
        "fdb_ipv4_ttl_modify" FDB_IPV4_TTL_MODIFY: bits(22, 1);
        "flow_source" FLOW_SOURCE: bits(23, 1);
        "multi_fdb_encap" MULTI_FDB_ENCAP: bits(26, 1);
        "egress_acl_forward_to_vport" EGRESS_ACL_FORWARD_TO_VPORT: bits(27, 1);
        "fdb_multi_path_to_table" FDB_MULTI_PATH_TO_TABLE: bits(28, 1);
        "flow_table_properties_nic_esw_fdb" FLOW_TABLE_PROPERTIES_NIC_ESW_FDB: nested(512, 512, 1, FlowTablePropLayout, "flow_table_prop_layout");
        "flow_table_properties_esw_acl_ingress" FLOW_TABLE_PROPERTIES_ESW_ACL_INGRESS: nested(1024, 512, 1, FlowTablePropLayout, "flow_table_prop_layout");
        "flow_table_properties_esw_acl_egress" FLOW_TABLE_PROPERTIES_ESW_ACL_EGRESS: nested(1536, 512, 1, FlowTablePropLayout, "flow_table_prop_layout");
        "ft_field_support_2_esw_fdb" FT_FIELD_SUPPORT_2_ESW_FDB: nested(5120, 128, 1, FlowTableFieldsSupported2, "flow_table_fields_supported_2");
        "ft_field_bitmask_support_2_esw_fdb" FT_FIELD_BITMASK_SUPPORT_2_ESW_FDB: nested(5248, 128, 1, FlowTableFieldsSupported2, "flow_table_fields_supported_2");
        "sw_steering_fdb_action_drop_icm_address_rx" SW_STEERING_FDB_ACTION_DROP_ICM_ADDRESS_RX: wide(6144, 64);
        "sw_steering_fdb_action_drop_icm_address_tx" SW_STEERING_FDB_ACTION_DROP_ICM_ADDRESS_TX: wide(6208, 64);
        "sw_steering_uplink_icm_address_rx" SW_STEERING_UPLINK_ICM_ADDRESS_RX: wide(6272, 64);
        "sw_steering_uplink_icm_address_tx" SW_STEERING_UPLINK_ICM_ADDRESS_TX: wide(6336, 64);
    }

    /// `e_switch_cap`, 256 bytes.
    pub struct ESwitchCap("e_switch_cap", 256) {
        "vport_svlan_strip" VPORT_SVLAN_STRIP: bits(0, 1);
        "vport_cvlan_strip" VPORT_CVLAN_STRIP: bits(1, 1);
        "vport_svlan_insert" VPORT_SVLAN_INSERT: bits(2, 1);
        "vport_cvlan_insert_if_not_exist" VPORT_CVLAN_INSERT_IF_NOT_EXIST: bits(3, 1);
        "vport_cvlan_insert_overwrite" VPORT_CVLAN_INSERT_OVERWRITE: bits(4, 1);
        "vport_cvlan_insert_always" VPORT_CVLAN_INSERT_ALWAYS: bits(6, 1);
        "esw_shared_ingress_acl" ESW_SHARED_INGRESS_ACL: bits(7, 1);
        "esw_uplink_ingress_acl" ESW_UPLINK_INGRESS_ACL: bits(8, 1);
        "root_ft_on_other_esw" ROOT_FT_ON_OTHER_ESW: bits(9, 1);
        "esw_vport_state_max_tx_speed" ESW_VPORT_STATE_MAX_TX_SPEED: bits(11, 1);
        "esw_functions_changed" ESW_FUNCTIONS_CHANGED: bits(25, 1);
        "ecpf_vport_exists" ECPF_VPORT_EXISTS: bits(27, 1);
        "counter_eswitch_affinity" COUNTER_ESWITCH_AFFINITY: bits(28, 1);
        "merged_eswitch" MERGED_ESWITCH: bits(29, 1);
        "nic_vport_node_guid_modify" NIC_VPORT_NODE_GUID_MODIFY: bits(30, 1);
        "nic_vport_port_guid_modify" NIC_VPORT_PORT_GUID_MODIFY: bits(31, 1);
        "vxlan_encap_decap" VXLAN_ENCAP_DECAP: bits(32, 1);
        "nvgre_encap_decap" NVGRE_ENCAP_DECAP: bits(33, 1);
        "log_max_fdb_encap_uplink" LOG_MAX_FDB_ENCAP_UPLINK: bits(35, 5);
        "log_max_packet_reformat_context" LOG_MAX_PACKET_REFORMAT_CONTEXT: bits(43, 5);
        "max_encap_header_size" MAX_ENCAP_HEADER_SIZE: bits(54, 10);
        "log_max_esw_sf" LOG_MAX_ESW_SF: bits(75, 5);
        "esw_sf_base_id" ESW_SF_BASE_ID: bits(80, 16);
        "esw_manager_vport_number_valid" ESW_MANAGER_VPORT_NUMBER_VALID: bits(96, 1);
        "esw_manager_vport_number" ESW_MANAGER_VPORT_NUMBER: bits(112, 16);
    }

    /// `qos_cap`, 256 bytes.
    pub struct QosCap("qos_cap", 256) {
        "packet_pacing" PACKET_PACING: bits(0, 1);
        "esw_scheduling" ESW_SCHEDULING: bits(1, 1);
        "esw_bw_share" ESW_BW_SHARE: bits(2, 1);
        "esw_rate_limit" ESW_RATE_LIMIT: bits(3, 1);
        "packet_pacing_burst_bound" PACKET_PACING_BURST_BOUND: bits(5, 1);
        "packet_pacing_typical_size" PACKET_PACING_TYPICAL_SIZE: bits(6, 1);
        "nic_sq_scheduling" NIC_SQ_SCHEDULING: bits(8, 1);
        "nic_bw_share" NIC_BW_SHARE: bits(9, 1);
        "nic_rate_limit" NIC_RATE_LIMIT: bits(10, 1);
        "packet_pacing_uid" PACKET_PACING_UID: bits(11, 1);
        "log_esw_max_sched_depth" LOG_ESW_MAX_SCHED_DEPTH: bits(12, 4);
        "packet_pacing_req_ud" PACKET_PACING_REQ_UD: bits(34, 1);
        "packet_pacing_req_uc" PACKET_PACING_REQ_UC: bits(35, 1);
        "esw_cross_esw_sched" ESW_CROSS_ESW_SCHED: bits(41, 1);
        "log_max_qos_nic_queue_group" LOG_MAX_QOS_NIC_QUEUE_GROUP: bits(43, 5);
        "packet_pacing_max_rate" PACKET_PACING_MAX_RATE: bits(64, 32);
        "packet_pacing_min_rate" PACKET_PACING_MIN_RATE: bits(96, 32);
        "log_esw_max_rate_limit" LOG_ESW_MAX_RATE_LIMIT: bits(139, 5);
        "packet_pacing_rate_table_size" PACKET_PACING_RATE_TABLE_SIZE: bits(144, 16);
        "esw_element_type" ESW_ELEMENT_TYPE: bits(160, 16);
        "esw_tsar_type" ESW_TSAR_TYPE: bits(176, 16);
        "max_qos_para_vport" MAX_QOS_PARA_VPORT: bits(208, 16);
        "max_tsar_bw_share" MAX_TSAR_BW_SHARE: bits(224, 32);
        "nic_element_type" NIC_ELEMENT_TYPE: bits(256, 16);
        "nic_tsar_type" NIC_TSAR_TYPE: bits(272, 16);
        "log_meter_aso_granularity" LOG_METER_ASO_GRANULARITY: bits(291, 5);
        "log_meter_aso_max_alloc" LOG_METER_ASO_MAX_ALLOC: bits(299, 5);
        "log_max_num_meter_aso" LOG_MAX_NUM_METER_ASO: bits(307, 5);
    }

    /// `debug_cap`, 256 bytes.
    pub struct DebugCap("debug_cap", 256) {
        "core_dump_general" CORE_DUMP_GENERAL: bits(0, 1);
        "core_dump_qp" CORE_DUMP_QP: bits(1, 1);
        "resource_dump" RESOURCE_DUMP: bits(9, 1);
        "stall_detect" STALL_DETECT: bits(34, 1);
    }

    /// `device_mem_cap`, 256 bytes.
    pub struct DeviceMemCap("device_mem_cap", 256) {
        "memic" MEMIC: bits(0, 1);
        "log_min_memic_alloc_size" LOG_MIN_MEMIC_ALLOC_SIZE: bits(43, 5);
        "log_max_memic_addr_alignment" LOG_MAX_MEMIC_ADDR_ALIGNMENT: bits(56, 8);
        "memic_bar_start_addr" MEMIC_BAR_START_ADDR: wide(64, 64);
        "memic_bar_size" MEMIC_BAR_SIZE: bits(128, 32);
        "max_memic_size" MAX_MEMIC_SIZE: bits(160, 32);
        "steering_sw_icm_start_address" STEERING_SW_ICM_START_ADDRESS: wide(192, 64);
        "log_header_modify_sw_icm_size" LOG_HEADER_MODIFY_SW_ICM_SIZE: bits(264, 8);
        "log_sw_icm_alloc_granularity" LOG_SW_ICM_ALLOC_GRANULARITY: bits(274, 6);
        "log_steering_sw_icm_size" LOG_STEERING_SW_ICM_SIZE: bits(280, 8);
        "log_indirect_encap_sw_icm_size" LOG_INDIRECT_ENCAP_SW_ICM_SIZE: bits(288, 8);
        "log_header_modify_pattern_sw_icm_size" LOG_HEADER_MODIFY_PATTERN_SW_ICM_SIZE: bits(312, 8);
        "header_modify_sw_icm_start_address" HEADER_MODIFY_SW_ICM_START_ADDRESS: wide(320, 64);
        "header_modify_pattern_sw_icm_start_address" HEADER_MODIFY_PATTERN_SW_ICM_START_ADDRESS: wide(448, 64);
        "memic_operations" MEMIC_OPERATIONS: bits(512, 32);
        "indirect_encap_sw_icm_start_address" INDIRECT_ENCAP_SW_ICM_START_ADDRESS: wide(576, 64);
    }

    /// `tls_cap`, 256 bytes.
    pub struct TlsCap("tls_cap", 256) {
        "tls_1_2_aes_gcm_128" TLS_1_2_AES_GCM_128: bits(0, 1);
        "tls_1_3_aes_gcm_128" TLS_1_3_AES_GCM_128: bits(1, 1);
        "tls_1_2_aes_gcm_256" TLS_1_2_AES_GCM_256: bits(2, 1);
        "tls_1_3_aes_gcm_256" TLS_1_3_AES_GCM_256: bits(3, 1);
    }

    /// `device_event_cap`, 64 bytes.
    pub struct DeviceEventCap("device_event_cap", 64) {
        "user_affiliated_events" USER_AFFILIATED_EVENTS: array(0, 64, 4);
        "user_unaffiliated_events" USER_UNAFFILIATED_EVENTS: array(256, 64, 4);
    }

    /// `ipsec_cap`, 256 bytes.
    pub struct IpsecCap("ipsec_cap", 256) {
        "ipsec_full_offload" IPSEC_FULL_OFFLOAD: bits(0, 1);
        "ipsec_crypto_offload" IPSEC_CRYPTO_OFFLOAD: bits(1, 1);
        "ipsec_esn" IPSEC_ESN: bits(2, 1);
        "ipsec_crypto_esp_aes_gcm_256_encrypt" IPSEC_CRYPTO_ESP_AES_GCM_256_ENCRYPT: bits(3, 1);
        "ipsec_crypto_esp_aes_gcm_128_encrypt" IPSEC_CRYPTO_ESP_AES_GCM_128_ENCRYPT: bits(4, 1);
        "ipsec_crypto_esp_aes_gcm_256_decrypt" IPSEC_CRYPTO_ESP_AES_GCM_256_DECRYPT: bits(5, 1);
        "ipsec_crypto_esp_aes_gcm_128_decrypt" IPSEC_CRYPTO_ESP_AES_GCM_128_DECRYPT: bits(6, 1);
        "log_max_ipsec_offload" LOG_MAX_IPSEC_OFFLOAD: bits(11, 5);
        "min_log_ipsec_full_replay_window" MIN_LOG_IPSEC_FULL_REPLAY_WINDOW: bits(32, 8);
        "max_log_ipsec_full_replay_window" MAX_LOG_IPSEC_FULL_REPLAY_WINDOW: bits(40, 8);
    }

    /// `crypto_cap`, 256 bytes.
    pub struct CryptoCap("crypto_cap", 256) {
        "synchronize_dek" SYNCHRONIZE_DEK: bits(3, 1);
        "int_kek_manual" INT_KEK_MANUAL: bits(4, 1);
        "int_kek_auto" INT_KEK_AUTO: bits(5, 1);
        "log_dek_max_alloc" LOG_DEK_MAX_ALLOC: bits(35, 5);
        "log_max_num_deks" LOG_MAX_NUM_DEKS: bits(43, 5);
        "log_dek_granularity" LOG_DEK_GRANULARITY: bits(99, 5);
        "log_max_num_int_kek" LOG_MAX_NUM_INT_KEK: bits(107, 5);
        "sw_wrapped_dek" SW_WRAPPED_DEK: bits(112, 16);
    }

    /// `shampo_cap`, 256 bytes.
    pub struct ShampoCap("shampo_cap", 256) {
        "shampo_log_max_reservation_size" SHAMPO_LOG_MAX_RESERVATION_SIZE: bits(3, 5);
        "shampo_log_min_reservation_size" SHAMPO_LOG_MIN_RESERVATION_SIZE: bits(11, 5);
        "shampo_min_mss_size" SHAMPO_MIN_MSS_SIZE: bits(16, 16);
        "shampo_header_split" SHAMPO_HEADER_SPLIT: bits(32, 1);
        "shampo_header_split_data_merge" SHAMPO_HEADER_SPLIT_DATA_MERGE: bits(33, 1);
        "shampo_log_max_headers_entry_size" SHAMPO_LOG_MAX_HEADERS_ENTRY_SIZE: bits(35, 5);
    }

    /// `macsec_cap`, 256 bytes.
    pub struct MacsecCap("macsec_cap", 256) {
        "macsec_epn" MACSEC_EPN: bits(0, 1);
        "macsec_crypto_esp_aes_gcm_256_encrypt" MACSEC_CRYPTO_ESP_AES_GCM_256_ENCRYPT: bits(3, 1);
        "macsec_crypto_esp_aes_gcm_128_encrypt" MACSEC_CRYPTO_ESP_AES_GCM_128_ENCRYPT: bits(4, 1);
        "macsec_crypto_esp_aes_gcm_256_decrypt" MACSEC_CRYPTO_ESP_AES_GCM_256_DECRYPT: bits(5, 1);
        "macsec_crypto_esp_aes_gcm_128_decrypt" MACSEC_CRYPTO_ESP_AES_GCM_128_DECRYPT: bits(6, 1);
        "log_max_macsec_offload" LOG_MAX_MACSEC_OFFLOAD: bits(11, 5);
        "min_log_macsec_full_replay_window" MIN_LOG_MACSEC_FULL_REPLAY_WINDOW: bits(32, 8);
        "max_log_macsec_full_replay_window" MAX_LOG_MACSEC_FULL_REPLAY_WINDOW: bits(40, 8);
    }

    /// `cmd_hca_cap_2`, 256 bytes.
    pub struct CmdHcaCap2("cmd_hca_cap_2", 256) {
        "migratable" MIGRATABLE: bits(128, 1);
        "dp_ordering_force" DP_ORDERING_FORCE: bits(136, 1);
        "query_vuid" QUERY_VUID: bits(146, 1);
        "umr_log_entity_size_5" UMR_LOG_ENTITY_SIZE_5: bits(152, 1);
        "max_reformat_insert_size" MAX_REFORMAT_INSERT_SIZE: bits(160, 8);
        "max_reformat_insert_offset" MAX_REFORMAT_INSERT_OFFSET: bits(168, 8);
        "max_reformat_remove_size" MAX_REFORMAT_REMOVE_SIZE: bits(176, 8);
        "max_reformat_remove_offset" MAX_REFORMAT_REMOVE_OFFSET: bits(184, 8);
        "migration_multi_load" MIGRATION_MULTI_LOAD: bits(200, 1);
        "migration_tracking_state" MIGRATION_TRACKING_STATE: bits(201, 1);
        "multiplane_qp_ud" MULTIPLANE_QP_UD: bits(202, 1);
        "migration_in_chunks" MIGRATION_IN_CHUNKS: bits(208, 1);
        "sf_eq_usage" SF_EQ_USAGE: bits(210, 1);
        "multiplane" MULTIPLANE: bits(216, 1);
        "migration_state" MIGRATION_STATE: bits(217, 1);
        "cross_vhca_object_to_object_supported" CROSS_VHCA_OBJECT_TO_OBJECT_SUPPORTED: bits(224, 32);
        "allowed_object_for_other_vhca_access" ALLOWED_OBJECT_FOR_OTHER_VHCA_ACCESS: wide(256, 64);
        "flow_table_type_2_type" FLOW_TABLE_TYPE_2_TYPE: bits(416, 8);
        "format_select_dw_8_6_ext" FORMAT_SELECT_DW_8_6_EXT: bits(426, 1);
        "log_min_mkey_entity_size" LOG_MIN_MKEY_ENTITY_SIZE: bits(427, 5);
        "general_obj_types_127_64" GENERAL_OBJ_TYPES_127_64: wide(448, 64);
        "sw_vhca_id_valid" SW_VHCA_ID_VALID: bits(545, 1);
        "sw_vhca_id" SW_VHCA_ID: bits(546, 14);
        "ts_cqe_metadata_size2wqe_counter" TS_CQE_METADATA_SIZE2WQE_COUNTER: bits(587, 5);
        "format_select_dw_gtpu_dw_0" FORMAT_SELECT_DW_GTPU_DW_0: bits(640, 8);
        "format_select_dw_gtpu_dw_1" FORMAT_SELECT_DW_GTPU_DW_1: bits(648, 8);
        "format_select_dw_gtpu_dw_2" FORMAT_SELECT_DW_GTPU_DW_2: bits(656, 8);
        "format_select_dw_gtpu_first_ext_dw_0" FORMAT_SELECT_DW_GTPU_FIRST_EXT_DW_0: bits(664, 8);
        "generate_wqe_type" GENERATE_WQE_TYPE: bits(672, 32);
        "min_mkey_log_entity_size_fixed_buffer" MIN_MKEY_LOG_ENTITY_SIZE_FIXED_BUFFER: bits(907, 5);
        "ec_vf_vport_base" EC_VF_VPORT_BASE: bits(912, 16);
        "max_mkey_log_entity_size_fixed_buffer" MAX_MKEY_LOG_ENTITY_SIZE_FIXED_BUFFER: bits(930, 6);
        "max_mkey_log_entity_size_mtt" MAX_MKEY_LOG_ENTITY_SIZE_MTT: bits(938, 6);
        "max_rqt_vhca_id" MAX_RQT_VHCA_ID: bits(944, 16);
        "pcc_ifa2" PCC_IFA2: bits(1008, 1);
        "min_mkey_log_entity_size_fixed_buffer_valid" MIN_MKEY_LOG_ENTITY_SIZE_FIXED_BUFFER_VALID: bits(1025, 1);
        "return_reg_id" RETURN_REG_ID: bits(1040, 16);
        "flow_table_hash_type" FLOW_TABLE_HASH_TYPE: bits(1084, 4);
        "max_num_eqs_24b" MAX_NUM_EQS_24B: bits(1096, 24);
        "load_balance_id" LOAD_BALANCE_ID: bits(1444, 4);
        "query_adjacent_functions_id" QUERY_ADJACENT_FUNCTIONS_ID: bits(1472, 1);
        "ingress_egress_esw_vport_connect" INGRESS_EGRESS_ESW_VPORT_CONNECT: bits(1473, 1);
        "function_id_type_vhca_id" FUNCTION_ID_TYPE_VHCA_ID: bits(1474, 1);
        "lag_per_mp_group" LAG_PER_MP_GROUP: bits(1476, 1);
        "delegate_vhca_management_profiles" DELEGATE_VHCA_MANAGEMENT_PROFILES: bits(1488, 16);
        "delegated_vhca_max" DELEGATED_VHCA_MAX: bits(1504, 16);
        "delegate_vhca_max" DELEGATE_VHCA_MAX: bits(1520, 16);
    }

    /// `port_selection_cap`, 4096 bytes.
    pub struct PortSelectionCap("port_selection_cap", 4096) {
        "port_select_flow_table" PORT_SELECT_FLOW_TABLE: bits(16, 1);
        "port_select_flow_table_bypass" PORT_SELECT_FLOW_TABLE_BYPASS: bits(18, 1);
        "flow_table_properties_port_selection" FLOW_TABLE_PROPERTIES_PORT_SELECTION: nested(512, 512, 1, FlowTablePropLayout, "flow_table_prop_layout");
        "ft_field_support_2_port_selection" FT_FIELD_SUPPORT_2_PORT_SELECTION: nested(1024, 128, 1, FlowTableFieldsSupported2, "flow_table_fields_supported_2");
    }

    /// `nvmeotcp_cap`, 256 bytes.
    pub struct NvmeotcpCap("nvmeotcp_cap", 256) {
        "zerocopy" ZEROCOPY: bits(0, 1);
        "crc_rx" CRC_RX: bits(1, 1);
        "crc_tx" CRC_TX: bits(2, 1);
        "version" VERSION: bits(24, 8);
        "log_max_nvmeotcp_tag_buffer_table" LOG_MAX_NVMEOTCP_TAG_BUFFER_TABLE: bits(51, 5);
        "log_max_nvmeotcp_tag_buffer_size" LOG_MAX_NVMEOTCP_TAG_BUFFER_SIZE: bits(59, 5);
    }
}

codes! {
    /// Capability group: bits 15 to 1 of the `op_mod` of QUERY_HCA_CAP and SET_HCA_CAP.
    pub struct CapGroup(u16, "mlx5_cap_type") {
        "MLX5_CAP_GENERAL" GENERAL = 0x0;
        "MLX5_CAP_ETHERNET_OFFLOADS" ETHERNET_OFFLOADS = 0x1;
        "MLX5_CAP_ODP" ODP = 0x2;
        "MLX5_CAP_ATOMIC" ATOMIC = 0x3;
        "MLX5_CAP_ROCE" ROCE = 0x4;
        "MLX5_CAP_IPOIB_OFFLOADS" IPOIB_OFFLOADS = 0x5;
        "MLX5_CAP_IPOIB_ENHANCED_OFFLOADS" IPOIB_ENHANCED_OFFLOADS = 0x6;
        "MLX5_CAP_FLOW_TABLE" FLOW_TABLE = 0x7;
        "MLX5_CAP_ESWITCH_FLOW_TABLE" ESWITCH_FLOW_TABLE = 0x8;
        "MLX5_CAP_ESWITCH" ESWITCH = 0x9;
        "MLX5_CAP_QOS" QOS = 0xc;
        "MLX5_CAP_DEBUG" DEBUG = 0xd;
        "MLX5_CAP_DEV_MEM" DEV_MEM = 0xf;
        "MLX5_CAP_TLS" TLS = 0x11;
        "MLX5_CAP_VDPA_EMULATION" VDPA_EMULATION = 0x13;
        "MLX5_CAP_DEV_EVENT" DEV_EVENT = 0x14;
        "MLX5_CAP_IPSEC" IPSEC = 0x15;
        "MLX5_CAP_CRYPTO" CRYPTO = 0x1a;
        "MLX5_CAP_SHAMPO" SHAMPO = 0x1d;
        "MLX5_CAP_PSP" PSP = 0x1e;
        "MLX5_CAP_MACSEC" MACSEC = 0x1f;
        "MLX5_CAP_GENERAL_2" GENERAL_2 = 0x20;
        "MLX5_CAP_PORT_SELECTION" PORT_SELECTION = 0x25;
        "MLX5_CAP_ADV_VIRTUALIZATION" ADV_VIRTUALIZATION = 0x26;
        "MLX5_CAP_ADV_RDMA" ADV_RDMA = 0x28;
        "MLX5_CAP_TLP_EMULATION" TLP_EMULATION = 0x2a;
    }
}

/// Tables of this module.
pub(crate) const LAYOUTS: &[LayoutInfo] = &[
    PerProtocolNetworkingOffloadCaps::INFO,
    OdpPerTransportServiceCap::INFO,
    OdpSchemeCap::INFO,
    OdpCap::INFO,
    AtomicCaps::INFO,
    RoceCap::INFO,
    FlowTableFieldsSupported::INFO,
    FlowTableFieldsSupported2::INFO,
    FlowTablePropLayout::INFO,
    FlowTableNicCap::INFO,
    FlowTableEswitchCap::INFO,
    ESwitchCap::INFO,
    QosCap::INFO,
    DebugCap::INFO,
    DeviceMemCap::INFO,
    TlsCap::INFO,
    DeviceEventCap::INFO,
    IpsecCap::INFO,
    CryptoCap::INFO,
    ShampoCap::INFO,
    MacsecCap::INFO,
    CmdHcaCap2::INFO,
    PortSelectionCap::INFO,
    NvmeotcpCap::INFO,
];

/// Number sets of this module.
pub(crate) const CODES: &[(&str, &[(&str, u64)])] = &[CapGroup::TABLE];
