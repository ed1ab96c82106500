//! ACCESS_REGISTER and the registers behind it: port, MTU, host byte order (`mlx5-bringup.md` §5, §9).

use hw_regs::layout::{Layout, LayoutInfo};
use hw_regs::{codes, layout};

layout! {
    /// `access_register_in`, 16 bytes.
    pub struct AccessRegisterIn("access_register_in", 16) {
        "opcode" OPCODE: bits(0, 16);
        "op_mod" OP_MOD: bits(48, 16);
        "register_id" REGISTER_ID: bits(80, 16);
        "argument" ARGUMENT: bits(96, 32);
        "register_data" REGISTER_DATA: tail(128, 32, "");
    }

    /// `access_register_out`, 16 bytes.
    pub struct AccessRegisterOut("access_register_out", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
        "register_data" REGISTER_DATA: tail(128, 32, "");
    }

    /// `register_host_endianness`, 16 bytes.
    pub struct RegisterHostEndianness("register_host_endianness", 16) {
        "he" HE: bits(0, 1);
    }

    /// `paos_reg`, 16 bytes.
    pub struct PaosReg("paos_reg", 16) {
        "swid" SWID: bits(0, 8);
        "local_port" LOCAL_PORT: bits(8, 8);
        "admin_status" ADMIN_STATUS: bits(20, 4);
        "oper_status" OPER_STATUS: bits(28, 4);
        "ase" ASE: bits(32, 1);
        "ee" EE: bits(33, 1);
        "e" E: bits(62, 2);
    }

    /// `pmtu_reg`, 16 bytes.
    pub struct PmtuReg("pmtu_reg", 16) {
        "local_port" LOCAL_PORT: bits(8, 8);
        "max_mtu" MAX_MTU: bits(32, 16);
        "admin_mtu" ADMIN_MTU: bits(64, 16);
        "oper_mtu" OPER_MTU: bits(96, 16);
    }

    /// `ptys_reg`, 64 bytes.
    pub struct PtysReg("ptys_reg", 64) {
        "an_disable_admin" AN_DISABLE_ADMIN: bits(1, 1);
        "an_disable_cap" AN_DISABLE_CAP: bits(2, 1);
        "local_port" LOCAL_PORT: bits(8, 8);
        "plane_ind" PLANE_IND: bits(24, 4);
        "proto_mask" PROTO_MASK: bits(29, 3);
        "an_status" AN_STATUS: bits(32, 4);
        "data_rate_oper" DATA_RATE_OPER: bits(48, 16);
        "ext_eth_proto_capability" EXT_ETH_PROTO_CAPABILITY: bits(64, 32);
        "eth_proto_capability" ETH_PROTO_CAPABILITY: bits(96, 32);
        "ib_link_width_capability" IB_LINK_WIDTH_CAPABILITY: bits(128, 16);
        "ib_proto_capability" IB_PROTO_CAPABILITY: bits(144, 16);
        "ext_eth_proto_admin" EXT_ETH_PROTO_ADMIN: bits(160, 32);
        "eth_proto_admin" ETH_PROTO_ADMIN: bits(192, 32);
        "ib_link_width_admin" IB_LINK_WIDTH_ADMIN: bits(224, 16);
        "ib_proto_admin" IB_PROTO_ADMIN: bits(240, 16);
        "ext_eth_proto_oper" EXT_ETH_PROTO_OPER: bits(256, 32);
        "eth_proto_oper" ETH_PROTO_OPER: bits(288, 32);
        "ib_link_width_oper" IB_LINK_WIDTH_OPER: bits(320, 16);
        "ib_proto_oper" IB_PROTO_OPER: bits(336, 16);
        "lane_rate_oper" LANE_RATE_OPER: bits(360, 20);
        "connector_type" CONNECTOR_TYPE: bits(380, 4);
        "eth_proto_lp_advertise" ETH_PROTO_LP_ADVERTISE: bits(384, 32);
    }

    /// `ppcnt_reg`, 256 bytes.
    pub struct PpcntReg("ppcnt_reg", 256) {
        "swid" SWID: bits(0, 8);
        "local_port" LOCAL_PORT: bits(8, 8);
        "pnat" PNAT: bits(16, 2);
        "grp" GRP: bits(26, 6);
        "clr" CLR: bits(32, 1);
        "plane_ind" PLANE_IND: bits(52, 4);
        "prio_tc" PRIO_TC: bits(59, 5);
        "counter_set" COUNTER_SET: blob(64, 1984);
    }

    /// `pcap_reg`, 20 bytes.
    pub struct PcapReg("pcap_reg", 20) {
        "local_port" LOCAL_PORT: bits(8, 8);
        "port_capability_mask" PORT_CAPABILITY_MASK: array(32, 32, 4);
    }

    /// `pfcc_reg`, 32 bytes: pause frames of the port.
    pub struct PfccReg("pfcc_reg", 32) {
        "local_port" LOCAL_PORT: bits(8, 8);
        "prio_mask_tx" PRIO_MASK_TX: bits(40, 8);
        "prio_mask_rx" PRIO_MASK_RX: bits(56, 8);
        "pptx" PPTX: bits(64, 1);
        "pfctx" PFCTX: bits(72, 8);
        "pprx" PPRX: bits(96, 1);
        "pfcrx" PFCRX: bits(104, 8);
    }

    /// `pcmr_reg`, 12 bytes.
    pub struct PcmrReg("pcmr_reg", 12) {
        "local_port" LOCAL_PORT: bits(8, 8);
        "entropy_force_cap" ENTROPY_FORCE_CAP: bits(32, 1);
        "entropy_calc_cap" ENTROPY_CALC_CAP: bits(33, 1);
        "entropy_gre_calc_cap" ENTROPY_GRE_CALC_CAP: bits(34, 1);
        "rx_ts_over_crc_cap" RX_TS_OVER_CRC_CAP: bits(50, 1);
        "fcs_cap" FCS_CAP: bits(62, 1);
        "entropy_force" ENTROPY_FORCE: bits(64, 1);
        "entropy_calc" ENTROPY_CALC: bits(65, 1);
        "entropy_gre_calc" ENTROPY_GRE_CALC: bits(66, 1);
        "rx_ts_over_crc" RX_TS_OVER_CRC: bits(82, 1);
        "fcs_chk" FCS_CHK: bits(94, 1);
    }

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
}

codes! {
    /// `AccessRegisterIn::REGISTER_ID`.
    pub struct RegisterId(u16, "register_id") {
        "MLX5_REG_SBPR" SBPR = 0xb001;
        "MLX5_REG_SBCM" SBCM = 0xb002;
        "MLX5_REG_QPTS" QPTS = 0x4002;
        "MLX5_REG_QETCR" QETCR = 0x4005;
        "MLX5_REG_QTCT" QTCT = 0x400a;
        "MLX5_REG_QPDPM" QPDPM = 0x4013;
        "MLX5_REG_QCAM" QCAM = 0x4019;
        "MLX5_REG_DCBX_PARAM" DCBX_PARAM = 0x4020;
        "MLX5_REG_DCBX_APP" DCBX_APP = 0x4021;
        "MLX5_REG_FPGA_CAP" FPGA_CAP = 0x4022;
        "MLX5_REG_FPGA_CTRL" FPGA_CTRL = 0x4023;
        "MLX5_REG_FPGA_ACCESS_REG" FPGA_ACCESS_REG = 0x4024;
        "MLX5_REG_CORE_DUMP" CORE_DUMP = 0x402e;
        "MLX5_REG_PCAP" PCAP = 0x5001;
        "MLX5_REG_PMTU" PMTU = 0x5003;
        "MLX5_REG_PTYS" PTYS = 0x5004;
        "MLX5_REG_PAOS" PAOS = 0x5006;
        "MLX5_REG_PFCC" PFCC = 0x5007;
        "MLX5_REG_PPCNT" PPCNT = 0x5008;
        "MLX5_REG_PPTB" PPTB = 0x500b;
        "MLX5_REG_PBMC" PBMC = 0x500c;
        "MLX5_REG_PMAOS" PMAOS = 0x5012;
        "MLX5_REG_PUDE" PUDE = 0x5009;
        "MLX5_REG_PMPE" PMPE = 0x5010;
        "MLX5_REG_PELC" PELC = 0x500e;
        "MLX5_REG_PVLC" PVLC = 0x500f;
        "MLX5_REG_PCMR" PCMR = 0x5041;
        "MLX5_REG_PDDR" PDDR = 0x5031;
        "MLX5_REG_PMLP" PMLP = 0x5002;
        "MLX5_REG_PPLM" PPLM = 0x5023;
        "MLX5_REG_PPHCR" PPHCR = 0x503e;
        "MLX5_REG_PCAM" PCAM = 0x507f;
        "MLX5_REG_NODE_DESC" NODE_DESC = 0x6001;
        "MLX5_REG_HOST_ENDIANNESS" HOST_ENDIANNESS = 0x7004;
        "MLX5_REG_MTCAP" MTCAP = 0x9009;
        "MLX5_REG_MTMP" MTMP = 0x900a;
        "MLX5_REG_MCIA" MCIA = 0x9014;
        "MLX5_REG_MNVDA" MNVDA = 0x9024;
        "MLX5_REG_MFRL" MFRL = 0x9028;
        "MLX5_REG_MLCR" MLCR = 0x902b;
        "MLX5_REG_MRTC" MRTC = 0x902d;
        "MLX5_REG_MTRC_CAP" MTRC_CAP = 0x9040;
        "MLX5_REG_MTRC_CONF" MTRC_CONF = 0x9041;
        "MLX5_REG_MTRC_STDB" MTRC_STDB = 0x9042;
        "MLX5_REG_MTRC_CTRL" MTRC_CTRL = 0x9043;
        "MLX5_REG_MPEIN" MPEIN = 0x9050;
        "MLX5_REG_MPCNT" MPCNT = 0x9051;
        "MLX5_REG_MTPPS" MTPPS = 0x9053;
        "MLX5_REG_MTPPSE" MTPPSE = 0x9054;
        "MLX5_REG_MTUTC" MTUTC = 0x9055;
        "MLX5_REG_MPEGC" MPEGC = 0x9056;
        "MLX5_REG_MPIR" MPIR = 0x9059;
        "MLX5_REG_MCQS" MCQS = 0x9060;
        "MLX5_REG_MCQI" MCQI = 0x9061;
        "MLX5_REG_MCC" MCC = 0x9062;
        "MLX5_REG_MCDA" MCDA = 0x9063;
        "MLX5_REG_MCAM" MCAM = 0x907f;
        "MLX5_REG_MSECQ" MSECQ = 0x9155;
        "MLX5_REG_MSEES" MSEES = 0x9156;
        "MLX5_REG_MIRC" MIRC = 0x9162;
        "MLX5_REG_MTPTM" MTPTM = 0x9180;
        "MLX5_REG_MTCTR" MTCTR = 0x9181;
        "MLX5_REG_MRTCQ" MRTCQ = 0x9182;
        "MLX5_REG_SBCAM" SBCAM = 0xb01f;
        "MLX5_REG_RESOURCE_DUMP" RESOURCE_DUMP = 0xc000;
        "MLX5_REG_NIC_CAP" NIC_CAP = 0xc00d;
        "MLX5_REG_DTOR" DTOR = 0xc00e;
        "MLX5_REG_VHCA_ICM_CTRL" VHCA_ICM_CTRL = 0xc010;
    }

    /// `PaosReg::ADMIN_STATUS` and `OPER_STATUS`.
    pub struct PortAdminStatus(u8, "paos_status") {
        "UP" UP = 0x1;
        "DOWN" DOWN = 0x2;
        "UP_ONCE" UP_ONCE = 0x3;
        "DISABLED_BY_SYSTEM" DISABLED_BY_SYSTEM = 0x4;
    }
}

/// Tables of this module.
pub(crate) const LAYOUTS: &[LayoutInfo] = &[
    AccessRegisterIn::INFO,
    AccessRegisterOut::INFO,
    RegisterHostEndianness::INFO,
    PaosReg::INFO,
    PmtuReg::INFO,
    PtysReg::INFO,
    PpcntReg::INFO,
    PcapReg::INFO,
    PfccReg::INFO,
    PcmrReg::INFO,
    Eth8023CntrsGrpDataLayout::INFO,
];

/// Number sets of this module.
pub(crate) const CODES: &[(&str, &[(&str, u64)])] = &[RegisterId::TABLE, PortAdminStatus::TABLE];
