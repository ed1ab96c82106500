//! Counters of the port: what each group of the PPCNT register holds (`mlx5-bringup.md` §11, step 34).
//!
//! A counter is 64 bits, as two words. Groups fill `PpcntReg::COUNTER_SET`.

use hw_regs::layout::{Layout, LayoutInfo};
use hw_regs::{codes, layout};

layout! {
    /// `eth_802_3_cntrs_grp_data_layout`, 248 bytes.
    pub struct Eth8023CntrsGrpDataLayout("eth_802_3_cntrs_grp_data_layout", 248) {
        "a_frames_transmitted_ok_high" A_FRAMES_TRANSMITTED_OK_HIGH: bits(0, 32);
        "a_frames_transmitted_ok_low" A_FRAMES_TRANSMITTED_OK_LOW: bits(32, 32);
        "a_frames_received_ok_high" A_FRAMES_RECEIVED_OK_HIGH: bits(64, 32);
        "a_frames_received_ok_low" A_FRAMES_RECEIVED_OK_LOW: bits(96, 32);
        "a_frame_check_sequence_errors_high" A_FRAME_CHECK_SEQUENCE_ERRORS_HIGH: bits(128, 32);
        "a_frame_check_sequence_errors_low" A_FRAME_CHECK_SEQUENCE_ERRORS_LOW: bits(160, 32);
        "a_alignment_errors_high" A_ALIGNMENT_ERRORS_HIGH: bits(192, 32);
        "a_alignment_errors_low" A_ALIGNMENT_ERRORS_LOW: bits(224, 32);
        "a_octets_transmitted_ok_high" A_OCTETS_TRANSMITTED_OK_HIGH: bits(256, 32);
        "a_octets_transmitted_ok_low" A_OCTETS_TRANSMITTED_OK_LOW: bits(288, 32);
        "a_octets_received_ok_high" A_OCTETS_RECEIVED_OK_HIGH: bits(320, 32);
        "a_octets_received_ok_low" A_OCTETS_RECEIVED_OK_LOW: bits(352, 32);
        "a_multicast_frames_xmitted_ok_high" A_MULTICAST_FRAMES_XMITTED_OK_HIGH: bits(384, 32);
        "a_multicast_frames_xmitted_ok_low" A_MULTICAST_FRAMES_XMITTED_OK_LOW: bits(416, 32);
        "a_broadcast_frames_xmitted_ok_high" A_BROADCAST_FRAMES_XMITTED_OK_HIGH: bits(448, 32);
        "a_broadcast_frames_xmitted_ok_low" A_BROADCAST_FRAMES_XMITTED_OK_LOW: bits(480, 32);
        "a_multicast_frames_received_ok_high" A_MULTICAST_FRAMES_RECEIVED_OK_HIGH: bits(512, 32);
        "a_multicast_frames_received_ok_low" A_MULTICAST_FRAMES_RECEIVED_OK_LOW: bits(544, 32);
        "a_broadcast_frames_received_ok_high" A_BROADCAST_FRAMES_RECEIVED_OK_HIGH: bits(576, 32);
        "a_broadcast_frames_received_ok_low" A_BROADCAST_FRAMES_RECEIVED_OK_LOW: bits(608, 32);
        "a_in_range_length_errors_high" A_IN_RANGE_LENGTH_ERRORS_HIGH: bits(640, 32);
        "a_in_range_length_errors_low" A_IN_RANGE_LENGTH_ERRORS_LOW: bits(672, 32);
        "a_out_of_range_length_field_high" A_OUT_OF_RANGE_LENGTH_FIELD_HIGH: bits(704, 32);
        "a_out_of_range_length_field_low" A_OUT_OF_RANGE_LENGTH_FIELD_LOW: bits(736, 32);
        "a_frame_too_long_errors_high" A_FRAME_TOO_LONG_ERRORS_HIGH: bits(768, 32);
        "a_frame_too_long_errors_low" A_FRAME_TOO_LONG_ERRORS_LOW: bits(800, 32);
        "a_symbol_error_during_carrier_high" A_SYMBOL_ERROR_DURING_CARRIER_HIGH: bits(832, 32);
        "a_symbol_error_during_carrier_low" A_SYMBOL_ERROR_DURING_CARRIER_LOW: bits(864, 32);
        "a_mac_control_frames_transmitted_high" A_MAC_CONTROL_FRAMES_TRANSMITTED_HIGH: bits(896, 32);
        "a_mac_control_frames_transmitted_low" A_MAC_CONTROL_FRAMES_TRANSMITTED_LOW: bits(928, 32);
        "a_mac_control_frames_received_high" A_MAC_CONTROL_FRAMES_RECEIVED_HIGH: bits(960, 32);
        "a_mac_control_frames_received_low" A_MAC_CONTROL_FRAMES_RECEIVED_LOW: bits(992, 32);
        "a_unsupported_opcodes_received_high" A_UNSUPPORTED_OPCODES_RECEIVED_HIGH: bits(1024, 32);
        "a_unsupported_opcodes_received_low" A_UNSUPPORTED_OPCODES_RECEIVED_LOW: bits(1056, 32);
        "a_pause_mac_ctrl_frames_received_high" A_PAUSE_MAC_CTRL_FRAMES_RECEIVED_HIGH: bits(1088, 32);
        "a_pause_mac_ctrl_frames_received_low" A_PAUSE_MAC_CTRL_FRAMES_RECEIVED_LOW: bits(1120, 32);
        "a_pause_mac_ctrl_frames_transmitted_high" A_PAUSE_MAC_CTRL_FRAMES_TRANSMITTED_HIGH: bits(1152, 32);
        "a_pause_mac_ctrl_frames_transmitted_low" A_PAUSE_MAC_CTRL_FRAMES_TRANSMITTED_LOW: bits(1184, 32);
    }

    /// `eth_2863_cntrs_grp_data_layout`, 248 bytes.
    pub struct Eth2863CntrsGrpDataLayout("eth_2863_cntrs_grp_data_layout", 248) {
        "if_in_octets_high" IF_IN_OCTETS_HIGH: bits(0, 32);
        "if_in_octets_low" IF_IN_OCTETS_LOW: bits(32, 32);
        "if_in_ucast_pkts_high" IF_IN_UCAST_PKTS_HIGH: bits(64, 32);
        "if_in_ucast_pkts_low" IF_IN_UCAST_PKTS_LOW: bits(96, 32);
        "if_in_discards_high" IF_IN_DISCARDS_HIGH: bits(128, 32);
        "if_in_discards_low" IF_IN_DISCARDS_LOW: bits(160, 32);
        "if_in_errors_high" IF_IN_ERRORS_HIGH: bits(192, 32);
        "if_in_errors_low" IF_IN_ERRORS_LOW: bits(224, 32);
        "if_in_unknown_protos_high" IF_IN_UNKNOWN_PROTOS_HIGH: bits(256, 32);
        "if_in_unknown_protos_low" IF_IN_UNKNOWN_PROTOS_LOW: bits(288, 32);
        "if_out_octets_high" IF_OUT_OCTETS_HIGH: bits(320, 32);
        "if_out_octets_low" IF_OUT_OCTETS_LOW: bits(352, 32);
        "if_out_ucast_pkts_high" IF_OUT_UCAST_PKTS_HIGH: bits(384, 32);
        "if_out_ucast_pkts_low" IF_OUT_UCAST_PKTS_LOW: bits(416, 32);
        "if_out_discards_high" IF_OUT_DISCARDS_HIGH: bits(448, 32);
        "if_out_discards_low" IF_OUT_DISCARDS_LOW: bits(480, 32);
        "if_out_errors_high" IF_OUT_ERRORS_HIGH: bits(512, 32);
        "if_out_errors_low" IF_OUT_ERRORS_LOW: bits(544, 32);
        "if_in_multicast_pkts_high" IF_IN_MULTICAST_PKTS_HIGH: bits(576, 32);
        "if_in_multicast_pkts_low" IF_IN_MULTICAST_PKTS_LOW: bits(608, 32);
        "if_in_broadcast_pkts_high" IF_IN_BROADCAST_PKTS_HIGH: bits(640, 32);
        "if_in_broadcast_pkts_low" IF_IN_BROADCAST_PKTS_LOW: bits(672, 32);
        "if_out_multicast_pkts_high" IF_OUT_MULTICAST_PKTS_HIGH: bits(704, 32);
        "if_out_multicast_pkts_low" IF_OUT_MULTICAST_PKTS_LOW: bits(736, 32);
        "if_out_broadcast_pkts_high" IF_OUT_BROADCAST_PKTS_HIGH: bits(768, 32);
        "if_out_broadcast_pkts_low" IF_OUT_BROADCAST_PKTS_LOW: bits(800, 32);
    }

    /// `eth_2819_cntrs_grp_data_layout`, 248 bytes.
    pub struct Eth2819CntrsGrpDataLayout("eth_2819_cntrs_grp_data_layout", 248) {
        "ether_stats_drop_events_high" ETHER_STATS_DROP_EVENTS_HIGH: bits(0, 32);
        "ether_stats_drop_events_low" ETHER_STATS_DROP_EVENTS_LOW: bits(32, 32);
        "ether_stats_octets_high" ETHER_STATS_OCTETS_HIGH: bits(64, 32);
        "ether_stats_octets_low" ETHER_STATS_OCTETS_LOW: bits(96, 32);
        "ether_stats_pkts_high" ETHER_STATS_PKTS_HIGH: bits(128, 32);
        "ether_stats_pkts_low" ETHER_STATS_PKTS_LOW: bits(160, 32);
        "ether_stats_broadcast_pkts_high" ETHER_STATS_BROADCAST_PKTS_HIGH: bits(192, 32);
        "ether_stats_broadcast_pkts_low" ETHER_STATS_BROADCAST_PKTS_LOW: bits(224, 32);
        "ether_stats_multicast_pkts_high" ETHER_STATS_MULTICAST_PKTS_HIGH: bits(256, 32);
        "ether_stats_multicast_pkts_low" ETHER_STATS_MULTICAST_PKTS_LOW: bits(288, 32);
        "ether_stats_crc_align_errors_high" ETHER_STATS_CRC_ALIGN_ERRORS_HIGH: bits(320, 32);
        "ether_stats_crc_align_errors_low" ETHER_STATS_CRC_ALIGN_ERRORS_LOW: bits(352, 32);
        "ether_stats_undersize_pkts_high" ETHER_STATS_UNDERSIZE_PKTS_HIGH: bits(384, 32);
        "ether_stats_undersize_pkts_low" ETHER_STATS_UNDERSIZE_PKTS_LOW: bits(416, 32);
        "ether_stats_oversize_pkts_high" ETHER_STATS_OVERSIZE_PKTS_HIGH: bits(448, 32);
        "ether_stats_oversize_pkts_low" ETHER_STATS_OVERSIZE_PKTS_LOW: bits(480, 32);
        "ether_stats_fragments_high" ETHER_STATS_FRAGMENTS_HIGH: bits(512, 32);
        "ether_stats_fragments_low" ETHER_STATS_FRAGMENTS_LOW: bits(544, 32);
        "ether_stats_jabbers_high" ETHER_STATS_JABBERS_HIGH: bits(576, 32);
        "ether_stats_jabbers_low" ETHER_STATS_JABBERS_LOW: bits(608, 32);
        "ether_stats_collisions_high" ETHER_STATS_COLLISIONS_HIGH: bits(640, 32);
        "ether_stats_collisions_low" ETHER_STATS_COLLISIONS_LOW: bits(672, 32);
        "ether_stats_pkts64octets_high" ETHER_STATS_PKTS64OCTETS_HIGH: bits(704, 32);
        "ether_stats_pkts64octets_low" ETHER_STATS_PKTS64OCTETS_LOW: bits(736, 32);
        "ether_stats_pkts65to127octets_high" ETHER_STATS_PKTS65TO127OCTETS_HIGH: bits(768, 32);
        "ether_stats_pkts65to127octets_low" ETHER_STATS_PKTS65TO127OCTETS_LOW: bits(800, 32);
        "ether_stats_pkts128to255octets_high" ETHER_STATS_PKTS128TO255OCTETS_HIGH: bits(832, 32);
        "ether_stats_pkts128to255octets_low" ETHER_STATS_PKTS128TO255OCTETS_LOW: bits(864, 32);
        "ether_stats_pkts256to511octets_high" ETHER_STATS_PKTS256TO511OCTETS_HIGH: bits(896, 32);
        "ether_stats_pkts256to511octets_low" ETHER_STATS_PKTS256TO511OCTETS_LOW: bits(928, 32);
        "ether_stats_pkts512to1023octets_high" ETHER_STATS_PKTS512TO1023OCTETS_HIGH: bits(960, 32);
        "ether_stats_pkts512to1023octets_low" ETHER_STATS_PKTS512TO1023OCTETS_LOW: bits(992, 32);
        "ether_stats_pkts1024to1518octets_high" ETHER_STATS_PKTS1024TO1518OCTETS_HIGH: bits(1024, 32);
        "ether_stats_pkts1024to1518octets_low" ETHER_STATS_PKTS1024TO1518OCTETS_LOW: bits(1056, 32);
        "ether_stats_pkts1519to2047octets_high" ETHER_STATS_PKTS1519TO2047OCTETS_HIGH: bits(1088, 32);
        "ether_stats_pkts1519to2047octets_low" ETHER_STATS_PKTS1519TO2047OCTETS_LOW: bits(1120, 32);
        "ether_stats_pkts2048to4095octets_high" ETHER_STATS_PKTS2048TO4095OCTETS_HIGH: bits(1152, 32);
        "ether_stats_pkts2048to4095octets_low" ETHER_STATS_PKTS2048TO4095OCTETS_LOW: bits(1184, 32);
        "ether_stats_pkts4096to8191octets_high" ETHER_STATS_PKTS4096TO8191OCTETS_HIGH: bits(1216, 32);
        "ether_stats_pkts4096to8191octets_low" ETHER_STATS_PKTS4096TO8191OCTETS_LOW: bits(1248, 32);
        "ether_stats_pkts8192to10239octets_high" ETHER_STATS_PKTS8192TO10239OCTETS_HIGH: bits(1280, 32);
        "ether_stats_pkts8192to10239octets_low" ETHER_STATS_PKTS8192TO10239OCTETS_LOW: bits(1312, 32);
    }

    /// `eth_3635_cntrs_grp_data_layout`, 248 bytes.
    pub struct Eth3635CntrsGrpDataLayout("eth_3635_cntrs_grp_data_layout", 248) {
        "dot3stats_alignment_errors_high" DOT3STATS_ALIGNMENT_ERRORS_HIGH: bits(0, 32);
        "dot3stats_alignment_errors_low" DOT3STATS_ALIGNMENT_ERRORS_LOW: bits(32, 32);
        "dot3stats_fcs_errors_high" DOT3STATS_FCS_ERRORS_HIGH: bits(64, 32);
        "dot3stats_fcs_errors_low" DOT3STATS_FCS_ERRORS_LOW: bits(96, 32);
        "dot3stats_single_collision_frames_high" DOT3STATS_SINGLE_COLLISION_FRAMES_HIGH: bits(128, 32);
        "dot3stats_single_collision_frames_low" DOT3STATS_SINGLE_COLLISION_FRAMES_LOW: bits(160, 32);
        "dot3stats_multiple_collision_frames_high" DOT3STATS_MULTIPLE_COLLISION_FRAMES_HIGH: bits(192, 32);
        "dot3stats_multiple_collision_frames_low" DOT3STATS_MULTIPLE_COLLISION_FRAMES_LOW: bits(224, 32);
        "dot3stats_sqe_test_errors_high" DOT3STATS_SQE_TEST_ERRORS_HIGH: bits(256, 32);
        "dot3stats_sqe_test_errors_low" DOT3STATS_SQE_TEST_ERRORS_LOW: bits(288, 32);
        "dot3stats_deferred_transmissions_high" DOT3STATS_DEFERRED_TRANSMISSIONS_HIGH: bits(320, 32);
        "dot3stats_deferred_transmissions_low" DOT3STATS_DEFERRED_TRANSMISSIONS_LOW: bits(352, 32);
        "dot3stats_late_collisions_high" DOT3STATS_LATE_COLLISIONS_HIGH: bits(384, 32);
        "dot3stats_late_collisions_low" DOT3STATS_LATE_COLLISIONS_LOW: bits(416, 32);
        "dot3stats_excessive_collisions_high" DOT3STATS_EXCESSIVE_COLLISIONS_HIGH: bits(448, 32);
        "dot3stats_excessive_collisions_low" DOT3STATS_EXCESSIVE_COLLISIONS_LOW: bits(480, 32);
        "dot3stats_internal_mac_transmit_errors_high" DOT3STATS_INTERNAL_MAC_TRANSMIT_ERRORS_HIGH: bits(512, 32);
        "dot3stats_internal_mac_transmit_errors_low" DOT3STATS_INTERNAL_MAC_TRANSMIT_ERRORS_LOW: bits(544, 32);
        "dot3stats_carrier_sense_errors_high" DOT3STATS_CARRIER_SENSE_ERRORS_HIGH: bits(576, 32);
        "dot3stats_carrier_sense_errors_low" DOT3STATS_CARRIER_SENSE_ERRORS_LOW: bits(608, 32);
        "dot3stats_frame_too_longs_high" DOT3STATS_FRAME_TOO_LONGS_HIGH: bits(640, 32);
        "dot3stats_frame_too_longs_low" DOT3STATS_FRAME_TOO_LONGS_LOW: bits(672, 32);
        "dot3stats_internal_mac_receive_errors_high" DOT3STATS_INTERNAL_MAC_RECEIVE_ERRORS_HIGH: bits(704, 32);
        "dot3stats_internal_mac_receive_errors_low" DOT3STATS_INTERNAL_MAC_RECEIVE_ERRORS_LOW: bits(736, 32);
        "dot3stats_symbol_errors_high" DOT3STATS_SYMBOL_ERRORS_HIGH: bits(768, 32);
        "dot3stats_symbol_errors_low" DOT3STATS_SYMBOL_ERRORS_LOW: bits(800, 32);
        "dot3control_in_unknown_opcodes_high" DOT3CONTROL_IN_UNKNOWN_OPCODES_HIGH: bits(832, 32);
        "dot3control_in_unknown_opcodes_low" DOT3CONTROL_IN_UNKNOWN_OPCODES_LOW: bits(864, 32);
        "dot3in_pause_frames_high" DOT3IN_PAUSE_FRAMES_HIGH: bits(896, 32);
        "dot3in_pause_frames_low" DOT3IN_PAUSE_FRAMES_LOW: bits(928, 32);
        "dot3out_pause_frames_high" DOT3OUT_PAUSE_FRAMES_HIGH: bits(960, 32);
        "dot3out_pause_frames_low" DOT3OUT_PAUSE_FRAMES_LOW: bits(992, 32);
    }

    /// `eth_extended_cntrs_grp_data_layout`, 248 bytes.
    pub struct EthExtendedCntrsGrpDataLayout("eth_extended_cntrs_grp_data_layout", 248) {
        "port_transmit_wait_high" PORT_TRANSMIT_WAIT_HIGH: bits(0, 32);
        "port_transmit_wait_low" PORT_TRANSMIT_WAIT_LOW: bits(32, 32);
        "rx_buffer_almost_full_high" RX_BUFFER_ALMOST_FULL_HIGH: bits(320, 32);
        "rx_buffer_almost_full_low" RX_BUFFER_ALMOST_FULL_LOW: bits(352, 32);
        "rx_buffer_full_high" RX_BUFFER_FULL_HIGH: bits(384, 32);
        "rx_buffer_full_low" RX_BUFFER_FULL_LOW: bits(416, 32);
        "rx_icrc_encapsulated_high" RX_ICRC_ENCAPSULATED_HIGH: bits(448, 32);
        "rx_icrc_encapsulated_low" RX_ICRC_ENCAPSULATED_LOW: bits(480, 32);
    }

    /// `phys_layer_cntrs`, 248 bytes.
    pub struct PhysLayerCntrs("phys_layer_cntrs", 248) {
        "time_since_last_clear_high" TIME_SINCE_LAST_CLEAR_HIGH: bits(0, 32);
        "time_since_last_clear_low" TIME_SINCE_LAST_CLEAR_LOW: bits(32, 32);
        "symbol_errors_high" SYMBOL_ERRORS_HIGH: bits(64, 32);
        "symbol_errors_low" SYMBOL_ERRORS_LOW: bits(96, 32);
        "sync_headers_errors_high" SYNC_HEADERS_ERRORS_HIGH: bits(128, 32);
        "sync_headers_errors_low" SYNC_HEADERS_ERRORS_LOW: bits(160, 32);
        "edpl_bip_errors_lane0_high" EDPL_BIP_ERRORS_LANE0_HIGH: bits(192, 32);
        "edpl_bip_errors_lane0_low" EDPL_BIP_ERRORS_LANE0_LOW: bits(224, 32);
        "edpl_bip_errors_lane1_high" EDPL_BIP_ERRORS_LANE1_HIGH: bits(256, 32);
        "edpl_bip_errors_lane1_low" EDPL_BIP_ERRORS_LANE1_LOW: bits(288, 32);
        "edpl_bip_errors_lane2_high" EDPL_BIP_ERRORS_LANE2_HIGH: bits(320, 32);
        "edpl_bip_errors_lane2_low" EDPL_BIP_ERRORS_LANE2_LOW: bits(352, 32);
        "edpl_bip_errors_lane3_high" EDPL_BIP_ERRORS_LANE3_HIGH: bits(384, 32);
        "edpl_bip_errors_lane3_low" EDPL_BIP_ERRORS_LANE3_LOW: bits(416, 32);
        "fc_fec_corrected_blocks_lane0_high" FC_FEC_CORRECTED_BLOCKS_LANE0_HIGH: bits(448, 32);
        "fc_fec_corrected_blocks_lane0_low" FC_FEC_CORRECTED_BLOCKS_LANE0_LOW: bits(480, 32);
        "fc_fec_corrected_blocks_lane1_high" FC_FEC_CORRECTED_BLOCKS_LANE1_HIGH: bits(512, 32);
        "fc_fec_corrected_blocks_lane1_low" FC_FEC_CORRECTED_BLOCKS_LANE1_LOW: bits(544, 32);
        "fc_fec_corrected_blocks_lane2_high" FC_FEC_CORRECTED_BLOCKS_LANE2_HIGH: bits(576, 32);
        "fc_fec_corrected_blocks_lane2_low" FC_FEC_CORRECTED_BLOCKS_LANE2_LOW: bits(608, 32);
        "fc_fec_corrected_blocks_lane3_high" FC_FEC_CORRECTED_BLOCKS_LANE3_HIGH: bits(640, 32);
        "fc_fec_corrected_blocks_lane3_low" FC_FEC_CORRECTED_BLOCKS_LANE3_LOW: bits(672, 32);
        "fc_fec_uncorrectable_blocks_lane0_high" FC_FEC_UNCORRECTABLE_BLOCKS_LANE0_HIGH: bits(704, 32);
        "fc_fec_uncorrectable_blocks_lane0_low" FC_FEC_UNCORRECTABLE_BLOCKS_LANE0_LOW: bits(736, 32);
        "fc_fec_uncorrectable_blocks_lane1_high" FC_FEC_UNCORRECTABLE_BLOCKS_LANE1_HIGH: bits(768, 32);
        "fc_fec_uncorrectable_blocks_lane1_low" FC_FEC_UNCORRECTABLE_BLOCKS_LANE1_LOW: bits(800, 32);
        "fc_fec_uncorrectable_blocks_lane2_high" FC_FEC_UNCORRECTABLE_BLOCKS_LANE2_HIGH: bits(832, 32);
        "fc_fec_uncorrectable_blocks_lane2_low" FC_FEC_UNCORRECTABLE_BLOCKS_LANE2_LOW: bits(864, 32);
        "fc_fec_uncorrectable_blocks_lane3_high" FC_FEC_UNCORRECTABLE_BLOCKS_LANE3_HIGH: bits(896, 32);
        "fc_fec_uncorrectable_blocks_lane3_low" FC_FEC_UNCORRECTABLE_BLOCKS_LANE3_LOW: bits(928, 32);
        "rs_fec_corrected_blocks_high" RS_FEC_CORRECTED_BLOCKS_HIGH: bits(960, 32);
        "rs_fec_corrected_blocks_low" RS_FEC_CORRECTED_BLOCKS_LOW: bits(992, 32);
        "rs_fec_uncorrectable_blocks_high" RS_FEC_UNCORRECTABLE_BLOCKS_HIGH: bits(1024, 32);
        "rs_fec_uncorrectable_blocks_low" RS_FEC_UNCORRECTABLE_BLOCKS_LOW: bits(1056, 32);
        "rs_fec_no_errors_blocks_high" RS_FEC_NO_ERRORS_BLOCKS_HIGH: bits(1088, 32);
        "rs_fec_no_errors_blocks_low" RS_FEC_NO_ERRORS_BLOCKS_LOW: bits(1120, 32);
        "rs_fec_single_error_blocks_high" RS_FEC_SINGLE_ERROR_BLOCKS_HIGH: bits(1152, 32);
        "rs_fec_single_error_blocks_low" RS_FEC_SINGLE_ERROR_BLOCKS_LOW: bits(1184, 32);
        "rs_fec_corrected_symbols_total_high" RS_FEC_CORRECTED_SYMBOLS_TOTAL_HIGH: bits(1216, 32);
        "rs_fec_corrected_symbols_total_low" RS_FEC_CORRECTED_SYMBOLS_TOTAL_LOW: bits(1248, 32);
        "rs_fec_corrected_symbols_lane0_high" RS_FEC_CORRECTED_SYMBOLS_LANE0_HIGH: bits(1280, 32);
        "rs_fec_corrected_symbols_lane0_low" RS_FEC_CORRECTED_SYMBOLS_LANE0_LOW: bits(1312, 32);
        "rs_fec_corrected_symbols_lane1_high" RS_FEC_CORRECTED_SYMBOLS_LANE1_HIGH: bits(1344, 32);
        "rs_fec_corrected_symbols_lane1_low" RS_FEC_CORRECTED_SYMBOLS_LANE1_LOW: bits(1376, 32);
        "rs_fec_corrected_symbols_lane2_high" RS_FEC_CORRECTED_SYMBOLS_LANE2_HIGH: bits(1408, 32);
        "rs_fec_corrected_symbols_lane2_low" RS_FEC_CORRECTED_SYMBOLS_LANE2_LOW: bits(1440, 32);
        "rs_fec_corrected_symbols_lane3_high" RS_FEC_CORRECTED_SYMBOLS_LANE3_HIGH: bits(1472, 32);
        "rs_fec_corrected_symbols_lane3_low" RS_FEC_CORRECTED_SYMBOLS_LANE3_LOW: bits(1504, 32);
        "link_down_events" LINK_DOWN_EVENTS: bits(1536, 32);
        "successful_recovery_events" SUCCESSFUL_RECOVERY_EVENTS: bits(1568, 32);
    }
}

codes! {
    /// `PpcntReg::GRP`: which counters.
    pub struct PpcntGroup(u8, "ppcnt_group") {
        "MLX5_IEEE_802_3_COUNTERS_GROUP" IEEE_802_3 = 0;
        "MLX5_RFC_2863_COUNTERS_GROUP" RFC_2863 = 1;
        "MLX5_RFC_2819_COUNTERS_GROUP" RFC_2819 = 2;
        "MLX5_RFC_3635_COUNTERS_GROUP" RFC_3635 = 3;
        "MLX5_ETHERNET_EXTENDED_COUNTERS_GROUP" ETHERNET_EXTENDED = 5;
        "MLX5_PER_PRIORITY_COUNTERS_GROUP" PER_PRIORITY = 0x10;
        "MLX5_PER_TRAFFIC_CLASS_COUNTERS_GROUP" PER_TRAFFIC_CLASS = 0x11;
        "MLX5_PHYSICAL_LAYER_COUNTERS_GROUP" PHYSICAL_LAYER = 0x12;
        "MLX5_PER_TRAFFIC_CLASS_CONGESTION_GROUP" PER_TRAFFIC_CLASS_CONGESTION = 0x13;
        "MLX5_PHYSICAL_LAYER_STATISTICAL_GROUP" PHYSICAL_LAYER_STATISTICAL = 0x16;
        "MLX5_PHYSICAL_LAYER_RECOVERY_GROUP" PHYSICAL_LAYER_RECOVERY = 0x1a;
        "MLX5_INFINIBAND_PORT_COUNTERS_GROUP" INFINIBAND_PORT = 0x20;
        "MLX5_INFINIBAND_EXTENDED_PORT_COUNTERS_GROUP" INFINIBAND_EXTENDED_PORT = 0x21;
        "MLX5_RS_FEC_HISTOGRAM_GROUP" RS_FEC_HISTOGRAM = 0x23;
    }
}

impl PpcntGroup {
    /// The groups that have a table here, each with it.
    pub const DESCRIBED: &[(PpcntGroup, &LayoutInfo)] = &[
        (PpcntGroup::IEEE_802_3, &Eth8023CntrsGrpDataLayout::INFO),
        (PpcntGroup::RFC_2863, &Eth2863CntrsGrpDataLayout::INFO),
        (PpcntGroup::RFC_2819, &Eth2819CntrsGrpDataLayout::INFO),
        (PpcntGroup::RFC_3635, &Eth3635CntrsGrpDataLayout::INFO),
        (PpcntGroup::ETHERNET_EXTENDED, &EthExtendedCntrsGrpDataLayout::INFO),
        (PpcntGroup::PHYSICAL_LAYER, &PhysLayerCntrs::INFO),
    ];
}

/// Tables of this module.
pub(crate) const LAYOUTS: &[LayoutInfo] = &[
    Eth8023CntrsGrpDataLayout::INFO,
    Eth2863CntrsGrpDataLayout::INFO,
    Eth2819CntrsGrpDataLayout::INFO,
    Eth3635CntrsGrpDataLayout::INFO,
    EthExtendedCntrsGrpDataLayout::INFO,
    PhysLayerCntrs::INFO,
];

/// Number sets of this module.
pub(crate) const CODES: &[(&str, &[(&str, u64)])] = &[PpcntGroup::TABLE];
