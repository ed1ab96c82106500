//! The MAC filter in front of the flow tables (`mlx5-bringup.md` §3, §5).

use crate::adapter::{Creation, Handle, Objects};
use crate::command::{CommandError, ObjectKind, Request};
use crate::platform::Deadline;
use firmware_iface::command::vport::{DeleteL2TableEntryIn, ModifyNicVportContextIn, SetL2TableEntryIn};
use firmware_iface::vport::{MacAddressLayout, ModifyNicVportFieldSelect, NicVportContext, VportListType};
use hw_regs::layout::{Access, Layout};

/// What the vport lets through beside the addresses in its lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promiscuous {
    /// Every unicast address.
    pub unicast: bool,
    /// Every multicast address.
    pub multicast: bool,
    /// Everything, also what belongs to other vports.
    pub all: bool,
}

/// Which list of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacFilter {
    /// Unicast addresses; at most 2^`log_max_current_uc_list`.
    Unicast,
    /// Multicast addresses; at most 2^`log_max_current_mc_list`.
    Multicast,
}

fn mac_layout(mac: [u8; 6]) -> MacAddressLayout {
    MacAddressLayout([0, 0, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]])
}

fn modify(select: &ModifyNicVportFieldSelect, context: &NicVportContext) -> Request {
    let input = ModifyNicVportContextIn::zeroed()
        .with_nested(ModifyNicVportContextIn::FIELD_SELECT, select)
        .with_nested(ModifyNicVportContextIn::NIC_VPORT_CONTEXT, context);
    Request::new(&input)
}

/// Opens or closes the filter.
pub fn set_promiscuous(
    objects: &mut impl Objects,
    promiscuous: Promiscuous,
    deadline: Deadline,
) -> Result<(), CommandError> {
    let select = ModifyNicVportFieldSelect::zeroed().with(ModifyNicVportFieldSelect::PROMISC, 1);
    let context = NicVportContext::zeroed()
        .with(NicVportContext::PROMISC_UC, promiscuous.unicast.into())
        .with(NicVportContext::PROMISC_MC, promiscuous.multicast.into())
        .with(NicVportContext::PROMISC_ALL, promiscuous.all.into());
    objects.exec(modify(&select, &context), deadline).map(drop)
}

/// Replaces a list of addresses that the vport lets through.
pub fn set_mac_filter(
    objects: &mut impl Objects,
    list: MacFilter,
    macs: &[[u8; 6]],
    deadline: Deadline,
) -> Result<(), CommandError> {
    let kind = match list {
        MacFilter::Unicast => VportListType::UC,
        MacFilter::Multicast => VportListType::MC,
    };
    let select = ModifyNicVportFieldSelect::zeroed().with(ModifyNicVportFieldSelect::ADDRESSES_LIST, 1);
    let context = NicVportContext::zeroed()
        .with(NicVportContext::ALLOWED_LIST_TYPE, kind.0.into())
        .with(NicVportContext::ALLOWED_LIST_SIZE, macs.len() as u32);
    let tail: Vec<u8> = macs.iter().flat_map(|mac| mac_layout(*mac).0).collect();
    objects.exec(modify(&select, &context).tail(&tail), deadline).map(drop)
}

/// Enters a unicast address at `index` of the switch between physical functions. Needed where the function is e-switch
/// manager and `log_max_l2_table` is not 0; otherwise only broadcast, multicast and default traffic may arrive.
pub fn add_l2_entry(
    objects: &mut impl Objects,
    index: u32,
    mac: [u8; 6],
    deadline: Deadline,
) -> Result<Handle, CommandError> {
    let input = SetL2TableEntryIn::zeroed()
        .with(SetL2TableEntryIn::TABLE_INDEX, index)
        .with_nested(SetL2TableEntryIn::MAC_ADDRESS, &mac_layout(mac));
    let destroy = DeleteL2TableEntryIn::zeroed().with(DeleteL2TableEntryIn::TABLE_INDEX, index);
    let request = Request::new(&input).about(ObjectKind::L2TableEntry, index);
    let destroy = move |_| Request::new(&destroy);
    objects.create(Creation::new(ObjectKind::L2TableEntry, request, destroy), deadline)
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | promiscuity selects its field only | `promiscuity_is_one_field` |
    //! | an address list replaces the one of its kind | `a_list_carries_its_addresses` |
    //! | an entry of the switch is in the log | `an_l2_entry_is_logged` |
    use super::*;
    use crate::queue::testing::{TestObjects, deadline};

    const MAC: [u8; 6] = [2, 0, 0, 0xaa, 0xbb, 0xcc];

    #[test]
    fn promiscuity_is_one_field() {
        let objects = &mut TestObjects::default();
        set_promiscuous(objects, Promiscuous { all: true, ..Promiscuous::default() }, deadline()).expect("set");
        let input = ModifyNicVportContextIn::from_prefix(objects.firmware.requests[0].input());
        assert_eq!(input.nested(ModifyNicVportContextIn::FIELD_SELECT).0, [0, 0, 0, 0x10]);
        let context = input.nested(ModifyNicVportContextIn::NIC_VPORT_CONTEXT);
        assert_eq!(context.0[240], 0x20);
        assert_eq!(context.0.iter().filter(|b| **b != 0).count(), 1);
    }

    #[test]
    fn a_list_carries_its_addresses() {
        let objects = &mut TestObjects::default();
        set_mac_filter(objects, MacFilter::Multicast, &[MAC, [1; 6]], deadline()).expect("set");
        let request = objects.firmware.requests[0].input();
        let input = ModifyNicVportContextIn::from_prefix(request);
        assert_eq!(input.nested(ModifyNicVportContextIn::FIELD_SELECT).0, [0, 0, 0, 4]);
        let context = input.nested(ModifyNicVportContextIn::NIC_VPORT_CONTEXT);
        let list = (context.get(NicVportContext::ALLOWED_LIST_TYPE), context.get(NicVportContext::ALLOWED_LIST_SIZE));
        assert_eq!(list, (1, 2));
        let tail = &request[ModifyNicVportContextIn::SIZE..];
        assert_eq!(tail, [0, 0, 2, 0, 0, 0xaa, 0xbb, 0xcc, 0, 0, 1, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn an_l2_entry_is_logged() {
        let objects = &mut TestObjects::default();
        let handle = add_l2_entry(objects, 9, MAC, deadline()).expect("set");
        assert_eq!((handle.kind(), handle.number()), (ObjectKind::L2TableEntry, 9));
        let set = SetL2TableEntryIn::from_prefix(objects.firmware.requests[0].input());
        assert_eq!(set.nested(SetL2TableEntryIn::MAC_ADDRESS).0, [0, 0, 2, 0, 0, 0xaa, 0xbb, 0xcc]);
        objects.destroy(handle, deadline()).expect("deleted");
        let delete = DeleteL2TableEntryIn::from_prefix(objects.firmware.requests[1].input());
        assert_eq!(delete.get(DeleteL2TableEntryIn::TABLE_INDEX), 9);
    }
}
