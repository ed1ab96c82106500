//! Capability groups: what the function says it can do (`mlx5-bringup.md` §11b, `mlx5-numbers.md`,
//! `nvme-tcp-offload.md` §2).
//!
//! Each group has two images of 4096 bytes: the maximum, and what is in force. SET_HCA_CAP changes the second within the
//! bounds of the first.

use crate::config::Switches;
use firmware_iface::caps::groups::PerProtocolNetworkingOffloadCaps as EthernetCaps;
use firmware_iface::caps::groups::{FlowTableFieldsSupported, FlowTableNicCap, FlowTablePropLayout, NvmeotcpCap};
use firmware_iface::caps::{CapGroup, CmdHcaCap, NVMEOTCP_GROUP, TAG_BUFFER_TABLE_OBJECT};
use hw_regs::layout::{Access, FieldInfo, Layout};
use std::collections::BTreeMap;

/// Bytes of a group's image.
pub(crate) const IMAGE: usize = 4096;

/// A structure that is a capability group.
pub trait Group: Layout {
    /// Its number.
    const GROUP: CapGroup;
}

impl Group for CmdHcaCap {
    const GROUP: CapGroup = CapGroup::GENERAL;
}

impl Group for EthernetCaps {
    const GROUP: CapGroup = CapGroup::ETHERNET_OFFLOADS;
}

impl Group for FlowTableNicCap {
    const GROUP: CapGroup = CapGroup::FLOW_TABLE;
}

impl Group for NvmeotcpCap {
    const GROUP: CapGroup = NVMEOTCP_GROUP;
}

#[derive(Clone, Debug)]
struct Images {
    maximum: Vec<u8>,
    current: Vec<u8>,
}

/// Rate of the free-running clock: its ticks are nanoseconds.
const TIMESTAMP_KHZ: u32 = 1_000_000;

/// All groups of a function.
#[derive(Clone, Debug)]
pub struct Capabilities {
    groups: BTreeMap<u16, Images>,
}

/// Fields of the GENERAL group whose encoding is not "more is more": any value is stored.
const FREE_FORM: &[&str] =
    &["log_uar_page_sz", "pkey_table_size", "vhca_id", "port_type", "num_ports", "cqe_version", "uar_sz"];

impl Capabilities {
    /// No group at all.
    pub fn empty() -> Capabilities {
        Capabilities { groups: BTreeMap::new() }
    }

    /// A ConnectX-7 Ethernet function with the NVMe/TCP offload. The numbers are those suggested in
    /// `mlx5-numbers.md`; they were not read from a card.
    pub fn connectx7() -> Capabilities {
        let mut caps = Capabilities::empty();
        caps.put(&general(), &general().with(CmdHcaCap::LOG_UAR_PAGE_SZ, 0));
        caps.put(&ethernet(), &ethernet());
        caps.put(&flow_table(), &flow_table());
        let offload = NvmeotcpCap::zeroed()
            .with(NvmeotcpCap::ZEROCOPY, 1)
            .with(NvmeotcpCap::CRC_RX, 1)
            .with(NvmeotcpCap::VERSION, 1)
            .with(NvmeotcpCap::LOG_MAX_NVMEOTCP_TAG_BUFFER_TABLE, 12)
            .with(NvmeotcpCap::LOG_MAX_NVMEOTCP_TAG_BUFFER_SIZE, 10);
        caps.put(&offload, &offload);
        caps
    }

    /// Offers what switches turn on.
    pub(crate) fn offer(mut self, switches: &Switches) -> Capabilities {
        if switches.striding_rq {
            self.edit(|general: &mut CmdHcaCap| {
                let bits = [CmdHcaCap::STRIDING_RQ, CmdHcaCap::UMR_PTR_RLKY, CmdHcaCap::EXT_STRIDE_NUM_RANGE];
                bits.into_iter().for_each(|bit| general.set(bit, 1));
            });
        }
        if switches.cqe_compression {
            self.edit(|general: &mut CmdHcaCap| {
                general.set(CmdHcaCap::CQE_COMPRESSION, 1);
                general.set(CmdHcaCap::MINI_CQE_RESP_STRIDE_INDEX, 1);
            });
        }
        self
    }

    fn put<T: Group>(&mut self, maximum: &T, current: &T) {
        self.set_images(T::GROUP, maximum.bytes(), current.bytes());
    }

    /// Replaces both images of a group; bytes that are missing are zero, bytes beyond 4096 are cut.
    pub fn set_images(&mut self, group: CapGroup, maximum: &[u8], current: &[u8]) {
        let image = |bytes: &[u8]| {
            let mut image = bytes.to_vec();
            image.resize(IMAGE, 0);
            image
        };
        self.groups.insert(group.0, Images { maximum: image(maximum), current: image(current) });
    }

    /// Takes a group away.
    pub fn remove(&mut self, group: CapGroup) {
        self.groups.remove(&group.0);
    }

    /// Changes both images of a group alike. A group that was not there begins with zeros.
    pub fn edit<T: Group>(&mut self, edit: impl Fn(&mut T)) {
        let (mut maximum, mut current) = (self.maximum::<T>(), self.current::<T>());
        edit(&mut maximum);
        edit(&mut current);
        self.put(&maximum, &current);
    }

    /// What a group could do; zeros if it does not exist.
    pub fn maximum<T: Group>(&self) -> T {
        T::from_prefix(self.groups.get(&T::GROUP.0).map_or(&[][..], |images| &images.maximum))
    }

    /// What a group does now; zeros if it does not exist.
    pub fn current<T: Group>(&self) -> T {
        T::from_prefix(self.groups.get(&T::GROUP.0).map_or(&[][..], |images| &images.current))
    }

    /// One image, 4096 bytes.
    pub(crate) fn image(&self, group: u16, current: bool) -> Option<&[u8]> {
        let images = self.groups.get(&group)?;
        Some(if current { &images.current } else { &images.maximum })
    }

    /// Puts a new current image in force, if no field of it goes beyond the maximum. On failure names the field.
    pub(crate) fn set_current(&mut self, group: u16, wanted: &[u8]) -> Result<(), SetError> {
        let images = self.groups.get_mut(&group).ok_or(SetError::NoSuchGroup)?;
        let mut wanted = wanted.to_vec();
        wanted.resize(IMAGE, 0);
        if group == CapGroup::GENERAL.0 {
            for field in CmdHcaCap::FIELDS {
                let scalar = field.count == 1 && field.width <= 32 && field.nested.is_empty();
                if !scalar || FREE_FORM.contains(&field.name) {
                    continue;
                }
                if value(&wanted, field) > value(&images.maximum, field).max(value(&images.current, field)) {
                    return Err(SetError::BeyondMaximum(field.name));
                }
            }
        }
        images.current = wanted;
        Ok(())
    }
}

impl Default for Capabilities {
    fn default() -> Self {
        Capabilities::connectx7()
    }
}

/// Why a current image was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetError {
    NoSuchGroup,
    BeyondMaximum(&'static str),
}

fn value(image: &[u8], field: &FieldInfo) -> u32 {
    let at = (field.offset / 32 * 4) as usize;
    let word = u32::from_be_bytes([image[at], image[at + 1], image[at + 2], image[at + 3]]);
    (word >> (32 - field.offset % 32 - field.width)) & (u32::MAX >> (32 - field.width))
}

fn general() -> CmdHcaCap {
    CmdHcaCap::zeroed()
        .with(CmdHcaCap::VHCA_ID, 1)
        .with(CmdHcaCap::PORT_TYPE, 1)
        .with(CmdHcaCap::NUM_PORTS, 1)
        .with(CmdHcaCap::ETH_NET_OFFLOADS, 1)
        .with(CmdHcaCap::NIC_FLOW_TABLE, 1)
        .with(CmdHcaCap::LOG_MAX_QP, 18)
        .with(CmdHcaCap::LOG_MAX_QP_SZ, 15)
        .with(CmdHcaCap::LOG_MAX_CQ, 24)
        .with(CmdHcaCap::LOG_MAX_CQ_SZ, 22)
        .with(CmdHcaCap::LOG_MAX_EQ, 8)
        .with(CmdHcaCap::LOG_MAX_EQ_SZ, 22)
        .with(CmdHcaCap::LOG_MAX_MKEY, 24)
        .with(CmdHcaCap::LOG_MAX_PD, 24)
        .with(CmdHcaCap::LOG_MAX_RQ, 16)
        .with(CmdHcaCap::LOG_MAX_SQ, 16)
        .with(CmdHcaCap::LOG_MAX_TIR, 16)
        .with(CmdHcaCap::LOG_MAX_TIS, 16)
        .with(CmdHcaCap::LOG_MAX_RQT, 13)
        .with(CmdHcaCap::LOG_MAX_RQT_SIZE, 11)
        .with(CmdHcaCap::LOG_MAX_TRANSPORT_DOMAIN, 16)
        .with(CmdHcaCap::LOG_MAX_WQ_SZ, 16)
        .with(CmdHcaCap::LOG_MAX_STRIDE_SZ_RQ, 9)
        .with(CmdHcaCap::LOG_MIN_STRIDE_SZ_RQ, 4)
        .with(CmdHcaCap::BASIC_CYCLIC_RCV_WQE, 1)
        .with(CmdHcaCap::LOG_PG_SZ, 12)
        .with(CmdHcaCap::LOG_BF_REG_SIZE, 9)
        .with(CmdHcaCap::BF, 1)
        .with(CmdHcaCap::MAX_WQE_SZ_SQ, 1024)
        .with(CmdHcaCap::MAX_WQE_SZ_RQ, 512)
        .with(CmdHcaCap::LOG_MAX_KLM_LIST_SIZE, 16)
        .with(CmdHcaCap::MAX_INDIRECTION, 4)
        .with(CmdHcaCap::UMR_EXTENDED_TRANSLATION_OFFSET, 1)
        .with(CmdHcaCap::LOG_MAX_CURRENT_UC_LIST, 7)
        .with(CmdHcaCap::LOG_MAX_CURRENT_MC_LIST, 11)
        .with(CmdHcaCap::LOG_MAX_VLAN_LIST, 12)
        .with(CmdHcaCap::CQ_OI, 1)
        .with(CmdHcaCap::CQ_MODERATION, 1)
        .with(CmdHcaCap::CQ_PERIOD_MODE_MODIFY, 1)
        .with(CmdHcaCap::DEVICE_FREQUENCY_KHZ, TIMESTAMP_KHZ)
        .with(CmdHcaCap::CMDIF_CHECKSUM, 3)
        .with(CmdHcaCap::PKEY_TABLE_SIZE, 0)
        .with(CmdHcaCap::UAR_4K, 1)
        .with(CmdHcaCap::NUM_OF_UARS_PER_PAGE, 1)
        .with(CmdHcaCap::CQE_VERSION, 1)
        .with(CmdHcaCap::STEERING_FORMAT_VERSION, 2)
        .with(CmdHcaCap::DRIVER_VERSION, 1)
        .with(CmdHcaCap::SW_OWNER_ID, 1)
        .with(CmdHcaCap::VPORT_COUNTERS, 1)
        .with(CmdHcaCap::CQE_128_ALWAYS, 1)
        .with(CmdHcaCap::UMEM_UID_0, 1)
        .with(CmdHcaCap::LOG_MAX_UMEM, 16)
        .with(CmdHcaCap::NVMEOTCP, 1)
        .with_wide(CmdHcaCap::GENERAL_OBJ_TYPES, 1 << TAG_BUFFER_TABLE_OBJECT)
}

fn ethernet() -> EthernetCaps {
    EthernetCaps::zeroed()
        .with(EthernetCaps::CSUM_CAP, 1)
        .with(EthernetCaps::VLAN_CAP, 1)
        .with(EthernetCaps::WQE_VLAN_INSERT, 1)
        .with(EthernetCaps::SELF_LB_EN_MODIFIABLE, 1)
        .with(EthernetCaps::MAX_LSO_CAP, 18)
        .with(EthernetCaps::WQE_INLINE_MODE, 2)
        .with(EthernetCaps::RSS_IND_TBL_CAP, 11)
        .with(EthernetCaps::REG_UMR_SQ, 1)
}

fn flow_table() -> FlowTableNicCap {
    let fields = FlowTableFieldsSupported::zeroed()
        .with(FlowTableFieldsSupported::OUTER_DMAC, 1)
        .with(FlowTableFieldsSupported::OUTER_SMAC, 1)
        .with(FlowTableFieldsSupported::OUTER_ETHER_TYPE, 1)
        .with(FlowTableFieldsSupported::OUTER_IP_VERSION, 1)
        .with(FlowTableFieldsSupported::OUTER_FIRST_PRIO, 1)
        .with(FlowTableFieldsSupported::OUTER_FIRST_CFI, 1)
        .with(FlowTableFieldsSupported::OUTER_FIRST_VID, 1)
        .with(FlowTableFieldsSupported::OUTER_SIP, 1)
        .with(FlowTableFieldsSupported::OUTER_DIP, 1)
        .with(FlowTableFieldsSupported::OUTER_FRAG, 1)
        .with(FlowTableFieldsSupported::OUTER_IP_PROTOCOL, 1)
        .with(FlowTableFieldsSupported::OUTER_IP_ECN, 1)
        .with(FlowTableFieldsSupported::OUTER_IP_DSCP, 1)
        .with(FlowTableFieldsSupported::OUTER_UDP_SPORT, 1)
        .with(FlowTableFieldsSupported::OUTER_UDP_DPORT, 1)
        .with(FlowTableFieldsSupported::OUTER_TCP_SPORT, 1)
        .with(FlowTableFieldsSupported::OUTER_TCP_DPORT, 1)
        .with(FlowTableFieldsSupported::OUTER_TCP_FLAGS, 1);
    let receive = FlowTablePropLayout::zeroed()
        .with(FlowTablePropLayout::FT_SUPPORT, 1)
        .with(FlowTablePropLayout::FLOW_MODIFY_EN, 1)
        .with(FlowTablePropLayout::MODIFY_ROOT, 1)
        .with(FlowTablePropLayout::IDENTIFIED_MISS_TABLE_MODE, 1)
        .with(FlowTablePropLayout::FLOW_TABLE_MODIFY, 1)
        .with(FlowTablePropLayout::LOG_MAX_FT_SIZE, 24)
        .with(FlowTablePropLayout::MAX_FT_LEVEL, 255)
        .with(FlowTablePropLayout::LOG_MAX_FT_NUM, 16)
        .with(FlowTablePropLayout::LOG_MAX_DESTINATION, 5)
        .with(FlowTablePropLayout::LOG_MAX_FLOW, 24)
        .with_nested(FlowTablePropLayout::FT_FIELD_SUPPORT, &fields)
        .with_nested(FlowTablePropLayout::FT_FIELD_BITMASK_SUPPORT, &fields);
    FlowTableNicCap::zeroed().with_nested(FlowTableNicCap::FLOW_TABLE_PROPERTIES_NIC_RECEIVE, &receive)
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the default function qualifies for the offload by the driver's four conditions | `the_default_function_can_offload` |
    //! | a current image may go down, not beyond the maximum; a refusal changes nothing | `the_maximum_bounds_the_current_image` |
    use super::*;

    #[test]
    fn the_default_function_can_offload() {
        let caps = Capabilities::default();
        let (general, offload) = (caps.current::<CmdHcaCap>(), caps.current::<NvmeotcpCap>());
        assert!(general.is_set(CmdHcaCap::NVMEOTCP) && general.is_set(CmdHcaCap::CQE_128_ALWAYS));
        assert!(general.is_set(CmdHcaCap::GENERAL_OBJ_TYPES_BIT_0X21));
        assert!(offload.is_set(NvmeotcpCap::ZEROCOPY) && offload.is_set(NvmeotcpCap::CRC_RX));
        assert!(caps.current::<EthernetCaps>().is_set(EthernetCaps::REG_UMR_SQ));
    }

    #[test]
    fn the_maximum_bounds_the_current_image() {
        let mut caps = Capabilities::default();
        let wanted = caps.current::<CmdHcaCap>().with(CmdHcaCap::CMDIF_CHECKSUM, 0).with(CmdHcaCap::PKEY_TABLE_SIZE, 5);
        caps.set_current(0, wanted.bytes()).unwrap();
        assert_eq!(caps.current::<CmdHcaCap>(), wanted);
        let beyond = wanted.with(CmdHcaCap::ROCE, 1);
        assert_eq!(caps.set_current(0, beyond.bytes()), Err(SetError::BeyondMaximum("roce")));
        assert_eq!(caps.current::<CmdHcaCap>(), wanted);
        assert_eq!(caps.set_current(0x1a, &[]), Err(SetError::NoSuchGroup));
    }
}
