//! The port and the vport behind it: MTU, administrative state, MAC address, link (`mlx5-bringup.md` §5).

use super::AdapterError;
use super::base::Base;
use super::objects::Creation;
use crate::command::{ObjectKind, Request, call};
use crate::platform::{Deadline, Platform};
use firmware_iface::caps::CmdHcaCap;
use firmware_iface::command::vport::{
    DeleteL2TableEntryIn, ModifyNicVportContextIn, QueryNicVportContextIn, QueryNicVportContextOut, QueryVportStateIn,
    QueryVportStateOut, SetL2TableEntryIn,
};
use firmware_iface::register::{AccessRegisterIn, AccessRegisterOut, PaosReg, PmtuReg, PortAdminStatus, RegisterId};
use firmware_iface::vport::{MacAddressLayout, ModifyNicVportFieldSelect, NicVportContext, VportListType, VportState};
use hw_regs::layout::{Access, Layout};
use std::time::Duration;

/// What an Ethernet frame has beside its IP packet, as the port counts it: header, one VLAN tag, frame check sequence.
pub const HARDWARE_MTU_OVERHEAD: u16 = 22;
/// Smallest MTU of IPv4 over Ethernet that hosts use.
const MIN_MTU: u16 = 68;
/// How often the link is asked for while it is waited for.
const LINK_PACE: Duration = Duration::from_millis(1);
/// The only port of a function.
const LOCAL_PORT: u32 = 1;

/// ACCESS_REG: `op_mod` 0 writes, 1 reads.
pub(super) fn access_register<P: Platform, R: Layout>(
    base: &mut Base<P>,
    id: RegisterId,
    write: bool,
    data: &R,
    deadline: Deadline,
) -> Result<R, AdapterError> {
    let input = AccessRegisterIn::zeroed()
        .with(AccessRegisterIn::OP_MOD, u32::from(!write))
        .with(AccessRegisterIn::REGISTER_ID, u32::from(id.0));
    let request = Request::new(&input).tail(data.bytes()).output_len(AccessRegisterOut::SIZE + R::SIZE);
    let output = base.exec(&request, deadline)?;
    Ok(R::from_prefix(output.tail(AccessRegisterOut::REGISTER_DATA)))
}

/// The six bytes of an address out of the device's layout.
fn mac_of(layout: &MacAddressLayout) -> [u8; 6] {
    let mut mac = [0; 6];
    mac.copy_from_slice(&layout.bytes()[2..8]);
    mac
}

fn mac_layout(mac: [u8; 6]) -> MacAddressLayout {
    let mut layout = MacAddressLayout::zeroed();
    layout.bytes_mut()[2..8].copy_from_slice(&mac);
    layout
}

/// Step 25, first half: the permanent MAC address, all zero if the function has none.
pub(super) fn permanent_mac<P: Platform>(base: &mut Base<P>, deadline: Deadline) -> Result<[u8; 6], AdapterError> {
    let input = QueryNicVportContextIn::zeroed()
        .with(QueryNicVportContextIn::ALLOWED_LIST_TYPE, u32::from(VportListType::UC.0));
    let output = call(&mut base.firmware, &input, deadline)?;
    let context = output.nested(QueryNicVportContextOut::NIC_VPORT_CONTEXT);
    Ok(mac_of(&context.nested(NicVportContext::PERMANENT_ADDRESS)))
}

/// Step 25, second half: MTU, and the addresses that frames are received for.
pub(super) fn set_vport<P: Platform>(
    base: &mut Base<P>,
    mac: [u8; 6],
    set_permanent: bool,
    hardware_mtu: u16,
    deadline: Deadline,
) -> Result<(), AdapterError> {
    let select = ModifyNicVportFieldSelect::zeroed()
        .with(ModifyNicVportFieldSelect::MTU, 1)
        .with(ModifyNicVportFieldSelect::PERMANENT_ADDRESS, u32::from(set_permanent));
    let mut context = NicVportContext::zeroed().with(NicVportContext::MTU, u32::from(hardware_mtu));
    if set_permanent {
        context.set_nested(NicVportContext::PERMANENT_ADDRESS, &mac_layout(mac));
    }
    let input = ModifyNicVportContextIn::zeroed()
        .with_nested(ModifyNicVportContextIn::FIELD_SELECT, &select)
        .with_nested(ModifyNicVportContextIn::NIC_VPORT_CONTEXT, &context);
    base.exec(&Request::new(&input), deadline)?;

    let select = ModifyNicVportFieldSelect::zeroed().with(ModifyNicVportFieldSelect::ADDRESSES_LIST, 1);
    let context = NicVportContext::zeroed()
        .with(NicVportContext::ALLOWED_LIST_TYPE, u32::from(VportListType::UC.0))
        .with(NicVportContext::ALLOWED_LIST_SIZE, 1);
    let input = ModifyNicVportContextIn::zeroed()
        .with_nested(ModifyNicVportContextIn::FIELD_SELECT, &select)
        .with_nested(ModifyNicVportContextIn::NIC_VPORT_CONTEXT, &context);
    base.exec(&Request::new(&input).tail(mac_layout(mac).bytes()), deadline)?;
    Ok(())
}

/// A function that manages the switch of a card with several functions receives only the addresses that it puts there.
pub(super) fn set_l2_table<P: Platform>(
    base: &mut Base<P>,
    general: &CmdHcaCap,
    mac: [u8; 6],
    deadline: Deadline,
) -> Result<(), AdapterError> {
    if !general.is_set(CmdHcaCap::ESWITCH_MANAGER) || general.get(CmdHcaCap::LOG_MAX_L2_TABLE) == 0 {
        return Ok(());
    }
    let index = 0;
    let input = SetL2TableEntryIn::zeroed()
        .with(SetL2TableEntryIn::TABLE_INDEX, index)
        .with_nested(SetL2TableEntryIn::MAC_ADDRESS, &mac_layout(mac));
    let request = Request::new(&input).about(ObjectKind::L2TableEntry, index);
    let destroy = |index| Request::new(&DeleteL2TableEntryIn::zeroed().with(DeleteL2TableEntryIn::TABLE_INDEX, index));
    base.create(Creation::new(ObjectKind::L2TableEntry, request, destroy), deadline)?;
    Ok(())
}

/// Step 26, first half: sets the port's MTU. Returns the hardware MTU, and the greatest IP MTU.
pub(super) fn set_mtu<P: Platform>(
    base: &mut Base<P>,
    mtu: u16,
    deadline: Deadline,
) -> Result<(u16, u16), AdapterError> {
    let ask = PmtuReg::zeroed().with(PmtuReg::LOCAL_PORT, LOCAL_PORT);
    let port = access_register(base, RegisterId::PMTU, false, &ask, deadline)?;
    let greatest = (port.get(PmtuReg::MAX_MTU) as u16).saturating_sub(HARDWARE_MTU_OVERHEAD);
    if !(MIN_MTU..=greatest).contains(&mtu) {
        return Err(AdapterError::Config {
            function: base.function(),
            option: "mtu",
            value: mtu.to_string(),
            allowed: format!("{MIN_MTU} to {greatest} are allowed"),
        });
    }
    let hardware = mtu + HARDWARE_MTU_OVERHEAD;
    let set = ask.with(PmtuReg::ADMIN_MTU, u32::from(hardware));
    access_register(base, RegisterId::PMTU, true, &set, deadline)?;
    Ok((hardware, greatest))
}

/// Step 26, second half: asks for the link.
pub(super) fn set_port_up<P: Platform>(base: &mut Base<P>, deadline: Deadline) -> Result<(), AdapterError> {
    let up = PaosReg::zeroed()
        .with(PaosReg::LOCAL_PORT, LOCAL_PORT)
        .with(PaosReg::ADMIN_STATUS, u32::from(PortAdminStatus::UP.0))
        .with(PaosReg::ASE, 1);
    access_register(base, RegisterId::PAOS, true, &up, deadline).map(drop)
}

/// Step 27: is the link up?
pub(super) fn link_is_up<P: Platform>(base: &mut Base<P>, deadline: Deadline) -> Result<bool, AdapterError> {
    let output = call(&mut base.firmware, &QueryVportStateIn::zeroed(), deadline)?;
    Ok(output.get(QueryVportStateOut::STATE) == u32::from(VportState::UP.0))
}

/// Step 27: waits for the link.
pub(super) fn wait_link<P: Platform>(
    base: &mut Base<P>,
    until: Deadline,
    patience: Duration,
) -> Result<(), AdapterError> {
    let started = base.platform.now();
    loop {
        // The command has its own patience: the link's may be shorter.
        let deadline = Deadline::after(&*base.platform, patience);
        if link_is_up(base, deadline)? {
            return Ok(());
        }
        if until.passed(&*base.platform) {
            let waited = base.platform.now().saturating_sub(started);
            return Err(AdapterError::NoLink { function: base.function(), waited });
        }
        // Paced, and events served meanwhile: the link may need pages.
        let platform = base.platform.clone();
        _ = Deadline::after(&*platform, LINK_PACE).wait(&*platform, || {
            base.firmware.serve();
            None::<()>
        });
    }
}
