//! The port, and the access registers that describe it (`mlx5-bringup.md` §5).

use super::{Command, HcaState, Outcome, Reply};
use crate::refusal;
use crate::reject::Reject;
use crate::{Config, VirtualNic};
use firmware_iface::port_counters::Eth8023CntrsGrpDataLayout;
use firmware_iface::register::*;
use hw_regs::eqe::{EqePortState, EventType, PortChange};
use hw_regs::layout::{Access, Layout};

/// The function's only port.
const PORT: u32 = 1;
/// `op_mod` of ACCESS_REG.
const WRITE: u16 = 0;
const READ: u16 = 1;
/// `proto_mask` and protocol bits of PTYS: Ethernet, 100GBASE-CR4.
const PTYS_ETHERNET: u32 = 1 << 2;
const PTYS_100G: u32 = 1 << 20;

/// State of the port.
pub(crate) struct Port {
    admin_up: bool,
    cable: bool,
    admin_mtu: u32,
    /// `he` of HOST_ENDIANNESS: 0 little.
    host_endianness: u32,
}

impl Port {
    pub(crate) fn new(config: &Config) -> Port {
        Port { admin_up: true, cable: config.cable, admin_mtu: u32::from(config.initial_mtu), host_endianness: 0 }
    }

    /// True if there is a link.
    pub(crate) fn is_up(&self) -> bool {
        self.admin_up && self.cable
    }

    /// Longest frame that passes, without FCS.
    pub(crate) fn max_frame(&self) -> usize {
        // The hardware MTU counts the FCS.
        (self.admin_mtu as usize).saturating_sub(4)
    }
}

/// The register of another port, or of none.
fn own_port(port: u32) -> Result<(), Reject> {
    if port == PORT { Ok(()) } else { Err(refusal::REGISTER_PORT) }
}

impl VirtualNic {
    pub(super) fn access_reg(&mut self, command: &Command<'_>) -> Outcome {
        self.booted()?;
        let input = command.view::<AccessRegisterIn>();
        let data = command.bytes().get(AccessRegisterIn::REGISTER_DATA..).unwrap_or_default();
        let write = match command.op_mod() {
            WRITE => true,
            READ => false,
            _ => return Err(refusal::OP_MOD),
        };
        let read_only =
            |register: Result<Reply, Reject>| if write { Err(refusal::REGISTER_READ_ONLY) } else { register };
        match RegisterId(input.get(AccessRegisterIn::REGISTER_ID) as u16) {
            RegisterId::HOST_ENDIANNESS => Ok(self.host_endianness(write, RegisterHostEndianness::from_prefix(data))),
            RegisterId::PMTU => self.pmtu(write, PmtuReg::from_prefix(data)),
            RegisterId::PAOS => self.paos(write, PaosReg::from_prefix(data)),
            RegisterId::PTYS => read_only(self.ptys(PtysReg::from_prefix(data))),
            RegisterId::PPCNT => read_only(self.ppcnt(PpcntReg::from_prefix(data))),
            RegisterId::PFCC => read_only(pfcc(PfccReg::from_prefix(data))),
            RegisterId::PCMR => read_only(pcmr(PcmrReg::from_prefix(data))),
            register => {
                log::debug!("the model has no register {register}");
                Err(refusal::REGISTER_UNKNOWN)
            }
        }
    }

    fn host_endianness(&mut self, write: bool, register: RegisterHostEndianness) -> Reply {
        let port = &mut self.firmware.port;
        if write {
            port.host_endianness = register.get(RegisterHostEndianness::HE);
        }
        answer(&RegisterHostEndianness::zeroed().with(RegisterHostEndianness::HE, port.host_endianness))
    }

    fn pmtu(&mut self, write: bool, register: PmtuReg) -> Outcome {
        own_port(register.get(PmtuReg::LOCAL_PORT))?;
        let max_mtu = u32::from(self.config.max_mtu);
        let port = &mut self.firmware.port;
        if write {
            let wanted = register.get(PmtuReg::ADMIN_MTU);
            if !(1..=max_mtu).contains(&wanted) {
                return Err(refusal::PORT_MTU);
            }
            port.admin_mtu = wanted;
        }
        Ok(answer(
            &PmtuReg::zeroed()
                .with(PmtuReg::LOCAL_PORT, PORT)
                .with(PmtuReg::MAX_MTU, max_mtu)
                .with(PmtuReg::ADMIN_MTU, port.admin_mtu)
                .with(PmtuReg::OPER_MTU, port.admin_mtu),
        ))
    }

    /// A write with `ase` applies at once, and an event tells the resulting state even if it is the old one.
    fn paos(&mut self, write: bool, register: PaosReg) -> Outcome {
        own_port(register.get(PaosReg::LOCAL_PORT))?;
        if write && register.is_set(PaosReg::ASE) {
            self.firmware.port.admin_up = match PortAdminStatus(register.get(PaosReg::ADMIN_STATUS) as u8) {
                PortAdminStatus::UP | PortAdminStatus::UP_ONCE => true,
                PortAdminStatus::DOWN => false,
                _ => return Err(refusal::REGISTER_VALUE),
            };
            self.announce_port();
        }
        let status = |up| u32::from(if up { PortAdminStatus::UP } else { PortAdminStatus::DOWN }.0);
        Ok(answer(
            &PaosReg::zeroed()
                .with(PaosReg::LOCAL_PORT, PORT)
                .with(PaosReg::ADMIN_STATUS, status(self.firmware.port.admin_up))
                .with(PaosReg::OPER_STATUS, status(self.firmware.port.is_up())),
        ))
    }

    fn ptys(&self, register: PtysReg) -> Outcome {
        own_port(register.get(PtysReg::LOCAL_PORT))?;
        let oper = if self.firmware.port.is_up() { PTYS_100G } else { 0 };
        Ok(answer(
            &PtysReg::zeroed()
                .with(PtysReg::LOCAL_PORT, PORT)
                .with(PtysReg::PROTO_MASK, PTYS_ETHERNET)
                .with(PtysReg::ETH_PROTO_CAPABILITY, PTYS_100G)
                .with(PtysReg::ETH_PROTO_ADMIN, PTYS_100G)
                .with(PtysReg::ETH_PROTO_OPER, oper),
        ))
    }

    /// The IEEE 802.3 group counts; all other groups read zero.
    fn ppcnt(&self, register: PpcntReg) -> Outcome {
        type Group = Eth8023CntrsGrpDataLayout;
        own_port(register.get(PpcntReg::LOCAL_PORT))?;
        let group = register.get(PpcntReg::GRP);
        let mut output = PpcntReg::zeroed().with(PpcntReg::LOCAL_PORT, PORT).with(PpcntReg::GRP, group);
        if group == 0 {
            let vport = &self.firmware.vport;
            let ((rx_frames, rx_bytes), (tx_frames, tx_bytes)) = (vport.received.total(), vport.sent.total());
            let (high, low) = (|value: u64| (value >> 32) as u32, |value: u64| value as u32);
            let counters = Group::zeroed()
                .with(Group::A_FRAMES_TRANSMITTED_OK_HIGH, high(tx_frames))
                .with(Group::A_FRAMES_TRANSMITTED_OK_LOW, low(tx_frames))
                .with(Group::A_FRAMES_RECEIVED_OK_HIGH, high(rx_frames))
                .with(Group::A_FRAMES_RECEIVED_OK_LOW, low(rx_frames))
                .with(Group::A_OCTETS_TRANSMITTED_OK_HIGH, high(tx_bytes))
                .with(Group::A_OCTETS_TRANSMITTED_OK_LOW, low(tx_bytes))
                .with(Group::A_OCTETS_RECEIVED_OK_HIGH, high(rx_bytes))
                .with(Group::A_OCTETS_RECEIVED_OK_LOW, low(rx_bytes));
            output.blob_mut(PpcntReg::COUNTER_SET).copy_from_slice(counters.bytes());
        }
        Ok(answer(&output))
    }

    /// Plugs the cable in or pulls it; an event tells a running function.
    pub fn set_cable(&mut self, plugged: bool) {
        let changed = self.firmware.port.cable != plugged;
        self.firmware.port.cable = plugged;
        if changed {
            self.announce_port();
        }
    }

    fn announce_port(&mut self) {
        if self.firmware.state != HcaState::Running {
            return;
        }
        let change = if self.firmware.port.is_up() { PortChange::ACTIVE } else { PortChange::DOWN };
        // The layout's nine bytes end inside the word that holds the port's number, so the byte is written as it lies.
        let mut data = [0; EqePortState::SIZE];
        data[8] = (PORT as u8) << 4;
        self.objects.completions.eqs.notify(&mut self.host, EventType::PORT_CHANGE, change.0, &data);
    }
}

/// The port neither sends pause frames nor obeys them.
fn pfcc(register: PfccReg) -> Outcome {
    own_port(register.get(PfccReg::LOCAL_PORT))?;
    Ok(answer(&PfccReg::zeroed().with(PfccReg::LOCAL_PORT, PORT)))
}

fn pcmr(register: PcmrReg) -> Outcome {
    own_port(register.get(PcmrReg::LOCAL_PORT))?;
    Ok(answer(&PcmrReg::zeroed().with(PcmrReg::LOCAL_PORT, PORT)))
}

fn answer<T: Layout>(register: &T) -> Reply {
    Reply::ok().and(register.bytes())
}
