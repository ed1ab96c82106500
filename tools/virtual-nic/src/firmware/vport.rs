//! The NIC vport: addresses that it receives, promiscuous modes, MTU, state, counters (`mlx5-bringup.md` §5).

use super::{Command, Outcome, Reply};
use crate::refusal;
use crate::reject::Reject;
use crate::{Config, VirtualNic};
use firmware_iface::caps::CmdHcaCap;
use firmware_iface::command::vport::*;
use firmware_iface::vport::{MacAddressLayout, ModifyNicVportFieldSelect, NicVportContext, VportListType, VportState};
use hw_regs::layout::{Access, Layout};
use std::collections::BTreeMap;

/// Entries of the table that SET_L2_TABLE_ENTRY fills.
const L2_TABLE: u32 = 1 << 12;
/// Bytes of QUERY_VNIC_ENV's output: header and environment counters, all zero here.
const VNIC_ENV: usize = 16 + 256;

/// Kind of a destination address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cast {
    Unicast,
    Multicast,
    Broadcast,
}

impl Cast {
    fn of(mac: &[u8; 6]) -> Cast {
        match mac {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => Cast::Broadcast,
            [first, ..] if first & 1 != 0 => Cast::Multicast,
            _ => Cast::Unicast,
        }
    }
}

/// Frames and bytes in one direction, by kind of destination.
#[derive(Default)]
pub(crate) struct Traffic([(u64, u64); 3]);

impl Traffic {
    /// Counts a frame of `bytes` bytes.
    pub(crate) fn count(&mut self, destination: &[u8; 6], bytes: usize) {
        let counter = &mut self.0[Cast::of(destination) as usize];
        counter.0 += 1;
        counter.1 += bytes as u64;
    }

    fn counter(&self, cast: Cast) -> TrafficCounter {
        let (packets, octets) = self.0[cast as usize];
        TrafficCounter::zeroed().with_wide(TrafficCounter::PACKETS, packets).with_wide(TrafficCounter::OCTETS, octets)
    }

    /// Frames, bytes, of all kinds.
    pub(crate) fn total(&self) -> (u64, u64) {
        self.0.iter().fold((0, 0), |sum, counter| (sum.0 + counter.0, sum.1 + counter.1))
    }
}

/// The function's vport.
pub(crate) struct Vport {
    permanent: [u8; 6],
    context: NicVportContext,
    /// Address lists by type, as the driver wrote them, 64 bits each.
    lists: BTreeMap<u8, Vec<u64>>,
    l2_table: BTreeMap<u32, [u8; 6]>,
    pub(crate) received: Traffic,
    pub(crate) sent: Traffic,
}

fn address(layout: &MacAddressLayout) -> [u8; 6] {
    let mut mac = [0; 6];
    mac.copy_from_slice(&layout.bytes()[2..]);
    mac
}

fn layout(mac: [u8; 6]) -> MacAddressLayout {
    let mut layout = MacAddressLayout::zeroed();
    layout.bytes_mut()[2..].copy_from_slice(&mac);
    layout
}

impl Vport {
    pub(crate) fn new(config: &Config) -> Vport {
        Vport {
            permanent: config.mac,
            context: NicVportContext::zeroed().with(NicVportContext::MTU, u32::from(config.initial_mtu)),
            lists: BTreeMap::new(),
            l2_table: BTreeMap::new(),
            received: Traffic::default(),
            sent: Traffic::default(),
        }
    }

    /// Bytes that a send WQE must carry inline if the function leaves that to the vport
    /// (`min_wqe_inline_mode`: none, L2, IP, TCP/UDP).
    pub(crate) fn inline_bytes(&self) -> usize {
        match self.context.get(NicVportContext::MIN_WQE_INLINE_MODE) {
            0 => 0,
            1 => 18,
            2 => 38,
            _ => 58,
        }
    }

    fn listed(&self, list: VportListType, mac: &[u8; 6]) -> bool {
        let wanted = u64::from_be_bytes([0, 0, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]]);
        self.lists.get(&list.0).is_some_and(|list| list.iter().any(|entry| entry << 16 == wanted << 16))
    }

    /// True if the vport receives frames for this address.
    pub(crate) fn accepts(&self, destination: &[u8; 6]) -> bool {
        let promiscuous = |field| self.context.is_set(field) || self.context.is_set(NicVportContext::PROMISC_ALL);
        match Cast::of(destination) {
            Cast::Broadcast => true,
            Cast::Multicast => promiscuous(NicVportContext::PROMISC_MC) || self.listed(VportListType::MC, destination),
            Cast::Unicast => {
                *destination == self.permanent
                    || promiscuous(NicVportContext::PROMISC_UC)
                    || self.listed(VportListType::UC, destination)
                    || self.l2_table.values().any(|mac| mac == destination)
            }
        }
    }
}

/// The function reaches its own vport only, whose number is 0.
fn own_vport(other: bool, number: u32) -> Result<(), Reject> {
    if other || number != 0 { Err(refusal::OTHER_VPORT) } else { Ok(()) }
}

impl VirtualNic {
    pub(super) fn query_nic_vport_context(&mut self, command: &Command<'_>) -> Outcome {
        let input = command.view::<QueryNicVportContextIn>();
        own_vport(input.is_set(QueryNicVportContextIn::OTHER_VPORT), input.get(QueryNicVportContextIn::VPORT_NUMBER))?;
        let list = input.get(QueryNicVportContextIn::ALLOWED_LIST_TYPE) as u8;
        if list > VportListType::VLAN.0 {
            return Err(refusal::VPORT_LIST_TYPE);
        }
        let vport = &self.firmware.vport;
        let entries = vport.lists.get(&list).map_or(&[][..], |list| list);
        let context = vport
            .context
            .with(NicVportContext::ALLOWED_LIST_TYPE, u32::from(list))
            .with(NicVportContext::ALLOWED_LIST_SIZE, entries.len() as u32)
            .with_nested(NicVportContext::PERMANENT_ADDRESS, &layout(vport.permanent));
        let output =
            QueryNicVportContextOut::zeroed().with_nested(QueryNicVportContextOut::NIC_VPORT_CONTEXT, &context);
        let list: Vec<u8> = entries.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        Ok(Reply::of(&output).and(&list))
    }

    /// Everything is checked before anything changes.
    pub(super) fn modify_nic_vport_context(&mut self, command: &Command<'_>) -> Outcome {
        type Select = ModifyNicVportFieldSelect;
        type Context = NicVportContext;
        let input = command.view::<ModifyNicVportContextIn>();
        own_vport(
            input.is_set(ModifyNicVportContextIn::OTHER_VPORT),
            input.get(ModifyNicVportContextIn::VPORT_NUMBER),
        )?;
        let select = input.nested(ModifyNicVportContextIn::FIELD_SELECT);
        let wanted: Context = input.nested(ModifyNicVportContextIn::NIC_VPORT_CONTEXT);
        if [Select::AFFILIATION, Select::NODE_GUID, Select::PORT_GUID].into_iter().any(|field| select.is_set(field)) {
            return Err(refusal::VPORT_FIELD);
        }
        if select.is_set(Select::MTU) && !(1..=u32::from(self.config.max_mtu)).contains(&wanted.get(Context::MTU)) {
            return Err(refusal::VPORT_MTU);
        }
        let permanent = address(&wanted.nested(Context::PERMANENT_ADDRESS));
        if select.is_set(Select::PERMANENT_ADDRESS) && (permanent == [0; 6] || Cast::of(&permanent) != Cast::Unicast) {
            return Err(refusal::VPORT_ADDRESS);
        }
        let list = match select.is_set(Select::ADDRESSES_LIST) {
            false => None,
            true => Some(self.address_list(command, &wanted)?),
        };
        let vport = &mut self.firmware.vport;
        if let Some((kind, list)) = list {
            vport.lists.insert(kind.0, list);
        }
        if select.is_set(Select::PERMANENT_ADDRESS) {
            vport.permanent = permanent;
        }
        let copied = [
            (Select::MTU, &[Context::MTU][..]),
            (Select::PROMISC, &[Context::PROMISC_UC, Context::PROMISC_MC, Context::PROMISC_ALL]),
            (Select::MIN_INLINE, &[Context::MIN_WQE_INLINE_MODE]),
            (Select::ROCE_EN, &[Context::ROCE_EN]),
            (Select::DISABLE_UC_LOCAL_LB, &[Context::DISABLE_UC_LOCAL_LB]),
            (Select::DISABLE_MC_LOCAL_LB, &[Context::DISABLE_MC_LOCAL_LB]),
            (
                Select::CHANGE_EVENT,
                &[
                    Context::ARM_CHANGE_EVENT,
                    Context::EVENT_ON_MTU,
                    Context::EVENT_ON_PROMISC_CHANGE,
                    Context::EVENT_ON_VLAN_CHANGE,
                    Context::EVENT_ON_MC_ADDRESS_CHANGE,
                    Context::EVENT_ON_UC_ADDRESS_CHANGE,
                ],
            ),
        ];
        for (bit, fields) in copied {
            if select.is_set(bit) {
                fields.iter().for_each(|field| vport.context.set(*field, wanted.get(*field)));
            }
        }
        Ok(Reply::ok())
    }

    /// The address list of a MODIFY_NIC_VPORT_CONTEXT: it replaces the whole list of its type.
    fn address_list(
        &self,
        command: &Command<'_>,
        wanted: &NicVportContext,
    ) -> Result<(VportListType, Vec<u64>), Reject> {
        let caps = self.caps();
        let kind = VportListType(wanted.get(NicVportContext::ALLOWED_LIST_TYPE) as u8);
        let log_most = match kind {
            VportListType::UC => caps.get(CmdHcaCap::LOG_MAX_CURRENT_UC_LIST),
            VportListType::MC => caps.get(CmdHcaCap::LOG_MAX_CURRENT_MC_LIST),
            VportListType::VLAN => caps.get(CmdHcaCap::LOG_MAX_VLAN_LIST),
            _ => return Err(refusal::VPORT_LIST_TYPE),
        };
        let count = wanted.get(NicVportContext::ALLOWED_LIST_SIZE);
        if count > 1 << log_most {
            return Err(refusal::VPORT_LIST_SIZE);
        }
        let at = ModifyNicVportContextIn::NIC_VPORT_CONTEXT.byte_offset() + NicVportContext::CURRENT_UC_MAC_ADDRESS;
        Ok((kind, command.addresses(at, count as usize)?.into_vec()))
    }

    pub(super) fn query_vport_state(&mut self, command: &Command<'_>) -> Outcome {
        let input = command.view::<QueryVportStateIn>();
        own_vport(input.is_set(QueryVportStateIn::OTHER_VPORT), input.get(QueryVportStateIn::VPORT_NUMBER))?;
        let state = if self.firmware.link_up() { VportState::UP } else { VportState::DOWN };
        Ok(Reply::of(
            &QueryVportStateOut::zeroed()
                .with(QueryVportStateOut::ADMIN_STATE, u32::from(VportState::UP.0))
                .with(QueryVportStateOut::STATE, u32::from(state.0)),
        ))
    }

    pub(super) fn query_vport_counter(&mut self, command: &Command<'_>) -> Outcome {
        type Out = QueryVportCounterOut;
        let input = command.view::<QueryVportCounterIn>();
        own_vport(input.is_set(QueryVportCounterIn::OTHER_VPORT), input.get(QueryVportCounterIn::VPORT_NUMBER))?;
        let vport = &mut self.firmware.vport;
        let output = Out::zeroed()
            .with_nested(Out::RECEIVED_ETH_UNICAST, &vport.received.counter(Cast::Unicast))
            .with_nested(Out::RECEIVED_ETH_MULTICAST, &vport.received.counter(Cast::Multicast))
            .with_nested(Out::RECEIVED_ETH_BROADCAST, &vport.received.counter(Cast::Broadcast))
            .with_nested(Out::TRANSMITTED_ETH_UNICAST, &vport.sent.counter(Cast::Unicast))
            .with_nested(Out::TRANSMITTED_ETH_MULTICAST, &vport.sent.counter(Cast::Multicast))
            .with_nested(Out::TRANSMITTED_ETH_BROADCAST, &vport.sent.counter(Cast::Broadcast));
        if input.is_set(QueryVportCounterIn::CLEAR) {
            (vport.received, vport.sent) = (Traffic::default(), Traffic::default());
        }
        Ok(Reply::of(&output))
    }

    /// Environment counters count faults that this device does not have: all zero.
    pub(super) fn query_vnic_env(&mut self, _: &Command<'_>) -> Outcome {
        Ok(Reply::ok().and(&[0; VNIC_ENV - 16]))
    }

    pub(super) fn set_l2_table_entry(&mut self, command: &Command<'_>) -> Outcome {
        let input = command.view::<SetL2TableEntryIn>();
        let index = input.get(SetL2TableEntryIn::TABLE_INDEX);
        if index >= L2_TABLE {
            return Err(refusal::L2_TABLE_INDEX);
        }
        let mac = address(&input.nested(SetL2TableEntryIn::MAC_ADDRESS));
        self.firmware.vport.l2_table.insert(index, mac);
        Ok(Reply::ok())
    }

    pub(super) fn delete_l2_table_entry(&mut self, command: &Command<'_>) -> Outcome {
        let index = command.view::<DeleteL2TableEntryIn>().get(DeleteL2TableEntryIn::TABLE_INDEX);
        self.firmware.vport.l2_table.remove(&index).ok_or(refusal::L2_TABLE_INDEX)?;
        Ok(Reply::ok())
    }
}
