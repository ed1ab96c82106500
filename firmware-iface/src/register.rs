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

    /// `pddr_reg`, 256 bytes.
    pub struct PddrReg("pddr_reg", 256) {
        "local_port" LOCAL_PORT: bits(8, 8);
        "pnat" PNAT: bits(16, 2);
        "page_select" PAGE_SELECT: bits(56, 8);
        "page_data" PAGE_DATA: blob(64, 1984);
    }

    /// `pddr_troubleshooting_page`, 248 bytes.
    pub struct PddrTroubleshootingPage("pddr_troubleshooting_page", 248) {
        "group_opcode" GROUP_OPCODE: bits(16, 16);
        "status_opcode" STATUS_OPCODE: bits(32, 32);
        "status_message" STATUS_MESSAGE: array(96, 32, 59);
    }

    /// `mcia_reg`, 144 bytes.
    pub struct MciaReg("mcia_reg", 144) {
        "l" L: bits(0, 1);
        "module" MODULE: bits(8, 8);
        "status" STATUS: bits(24, 8);
        "i2c_device_address" I2C_DEVICE_ADDRESS: bits(32, 8);
        "page_number" PAGE_NUMBER: bits(40, 8);
        "device_address" DEVICE_ADDRESS: bits(48, 16);
        "size" SIZE: bits(80, 16);
        "dwords" DWORDS: blob(128, 1024);
    }

    /// `mtmp_reg`, 32 bytes.
    pub struct MtmpReg("mtmp_reg", 32) {
        "sensor_index" SENSOR_INDEX: bits(20, 12);
        "temperature" TEMPERATURE: bits(48, 16);
        "mte" MTE: bits(64, 1);
        "mtr" MTR: bits(65, 1);
        "max_temperature" MAX_TEMPERATURE: bits(80, 16);
        "tee" TEE: bits(96, 2);
        "temp_threshold_hi" TEMP_THRESHOLD_HI: bits(112, 16);
        "temp_threshold_lo" TEMP_THRESHOLD_LO: bits(144, 16);
        "sensor_name_hi" SENSOR_NAME_HI: bits(192, 32);
        "sensor_name_lo" SENSOR_NAME_LO: bits(224, 32);
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

    /// Bits of `PtysReg::ETH_PROTO_CAPABILITY` and its kin, by their number.
    pub struct LinkMode(u8, "mlx5e_link_mode") {
        "MLX5E_1000BASE_CX_SGMII" M1000BASE_CX_SGMII = 0;
        "MLX5E_1000BASE_KX" M1000BASE_KX = 1;
        "MLX5E_10GBASE_CX4" M10GBASE_CX4 = 2;
        "MLX5E_10GBASE_KX4" M10GBASE_KX4 = 3;
        "MLX5E_10GBASE_KR" M10GBASE_KR = 4;
        "MLX5E_20GBASE_KR2" M20GBASE_KR2 = 5;
        "MLX5E_40GBASE_CR4" M40GBASE_CR4 = 6;
        "MLX5E_40GBASE_KR4" M40GBASE_KR4 = 7;
        "MLX5E_56GBASE_R4" M56GBASE_R4 = 8;
        "MLX5E_10GBASE_CR" M10GBASE_CR = 0xc;
        "MLX5E_10GBASE_SR" M10GBASE_SR = 0xd;
        "MLX5E_10GBASE_ER" M10GBASE_ER = 0xe;
        "MLX5E_40GBASE_SR4" M40GBASE_SR4 = 0xf;
        "MLX5E_40GBASE_LR4" M40GBASE_LR4 = 0x10;
        "MLX5E_50GBASE_SR2" M50GBASE_SR2 = 0x12;
        "MLX5E_100GBASE_CR4" M100GBASE_CR4 = 0x14;
        "MLX5E_100GBASE_SR4" M100GBASE_SR4 = 0x15;
        "MLX5E_100GBASE_KR4" M100GBASE_KR4 = 0x16;
        "MLX5E_100GBASE_LR4" M100GBASE_LR4 = 0x17;
        "MLX5E_100BASE_TX" M100BASE_TX = 0x18;
        "MLX5E_1000BASE_T" M1000BASE_T = 0x19;
        "MLX5E_10GBASE_T" M10GBASE_T = 0x1a;
        "MLX5E_25GBASE_CR" M25GBASE_CR = 0x1b;
        "MLX5E_25GBASE_KR" M25GBASE_KR = 0x1c;
        "MLX5E_25GBASE_SR" M25GBASE_SR = 0x1d;
        "MLX5E_50GBASE_CR2" M50GBASE_CR2 = 0x1e;
        "MLX5E_50GBASE_KR2" M50GBASE_KR2 = 0x1f;
        "MLX5E_LINK_MODES_NUMBER" LINK_MODES_NUMBER = 0x20;
    }

    /// Bits of `PtysReg::EXT_ETH_PROTO_CAPABILITY` and its kin, by their number.
    pub struct ExtendedLinkMode(u8, "mlx5e_ext_link_mode") {
        "MLX5E_SGMII_100M" SGMII_100M = 0;
        "MLX5E_1000BASE_X_SGMII" M1000BASE_X_SGMII = 1;
        "MLX5E_5GBASE_R" M5GBASE_R = 3;
        "MLX5E_10GBASE_XFI_XAUI_1" M10GBASE_XFI_XAUI_1 = 4;
        "MLX5E_40GBASE_XLAUI_4_XLPPI_4" M40GBASE_XLAUI_4_XLPPI_4 = 5;
        "MLX5E_25GAUI_1_25GBASE_CR_KR" M25GAUI_1_25GBASE_CR_KR = 6;
        "MLX5E_50GAUI_2_LAUI_2_50GBASE_CR2_KR2" M50GAUI_2_LAUI_2_50GBASE_CR2_KR2 = 7;
        "MLX5E_50GAUI_1_LAUI_1_50GBASE_CR_KR" M50GAUI_1_LAUI_1_50GBASE_CR_KR = 8;
        "MLX5E_CAUI_4_100GBASE_CR4_KR4" CAUI_4_100GBASE_CR4_KR4 = 9;
        "MLX5E_100GAUI_2_100GBASE_CR2_KR2" M100GAUI_2_100GBASE_CR2_KR2 = 0xa;
        "MLX5E_100GAUI_1_100GBASE_CR_KR" M100GAUI_1_100GBASE_CR_KR = 0xb;
        "MLX5E_200GAUI_4_200GBASE_CR4_KR4" M200GAUI_4_200GBASE_CR4_KR4 = 0xc;
        "MLX5E_200GAUI_2_200GBASE_CR2_KR2" M200GAUI_2_200GBASE_CR2_KR2 = 0xd;
        "MLX5E_200GAUI_1_200GBASE_CR1_KR1" M200GAUI_1_200GBASE_CR1_KR1 = 0xe;
        "MLX5E_400GAUI_8_400GBASE_CR8" M400GAUI_8_400GBASE_CR8 = 0xf;
        "MLX5E_400GAUI_4_400GBASE_CR4_KR4" M400GAUI_4_400GBASE_CR4_KR4 = 0x10;
        "MLX5E_400GAUI_2_400GBASE_CR2_KR2" M400GAUI_2_400GBASE_CR2_KR2 = 0x11;
        "MLX5E_800GAUI_8_800GBASE_CR8_KR8" M800GAUI_8_800GBASE_CR8_KR8 = 0x13;
        "MLX5E_800GAUI_4_800GBASE_CR4_KR4" M800GAUI_4_800GBASE_CR4_KR4 = 0x14;
        "MLX5E_1600GAUI_8_1600GBASE_CR8_KR8" M1600GAUI_8_1600GBASE_CR8_KR8 = 0x17;
        "MLX5E_EXT_LINK_MODES_NUMBER" EXT_LINK_MODES_NUMBER = 0x18;
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
    PddrReg::INFO,
    PddrTroubleshootingPage::INFO,
    MciaReg::INFO,
    MtmpReg::INFO,
];

/// Number sets of this module.
pub(crate) const CODES: &[(&str, &[(&str, u64)])] =
    &[RegisterId::TABLE, PortAdminStatus::TABLE, LinkMode::TABLE, ExtendedLinkMode::TABLE];
