//! What the function can do, and whether that is enough to offload NVMe/TCP (`nvme-tcp-offload.md` §2).

use firmware_iface::caps::groups::{
    FlowTableNicCap, FlowTablePropLayout, NvmeotcpCap, PerProtocolNetworkingOffloadCaps,
};
use firmware_iface::caps::{CapGroup, CmdHcaCap, NVMEOTCP_GROUP, TAG_BUFFER_TABLE_OBJECT};
use hw_regs::layout::{Access, Layout};
use std::collections::BTreeMap;
use std::fmt;

/// Scatter entries per tag that Linux uses at most; more are not known to work (`nvme-tcp-offload.md` §2.3).
const MAX_SGL_ENTRIES: u32 = 128;
/// Queue ids are flow tags; Linux uses 1 to 3999 (`nvme-tcp-offload.md` §2.3).
const MAX_OFFLOADED_QUEUES: u32 = 3999;

/// The capability pages that the function gave, after initialization; 4096 bytes each, of which a group defines a prefix.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    groups: BTreeMap<u16, Vec<u8>>,
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.groups.keys().map(|group| CapGroup(*group))).finish()
    }
}

impl Capabilities {
    /// Capabilities out of pages that a caller has, for tests and records.
    pub fn from_pages(pages: impl IntoIterator<Item = (CapGroup, Vec<u8>)>) -> Capabilities {
        Capabilities { groups: pages.into_iter().map(|(group, page)| (group.0, page)).collect() }
    }

    pub(super) fn insert(&mut self, group: CapGroup, page: Vec<u8>) {
        self.groups.insert(group.0, page);
    }

    /// The groups that the function gave.
    pub fn groups(&self) -> impl Iterator<Item = CapGroup> + '_ {
        self.groups.keys().map(|group| CapGroup(*group))
    }

    /// The page of a group, if the function has it.
    pub fn page(&self, group: CapGroup) -> Option<&[u8]> {
        self.groups.get(&group.0).map(Vec::as_slice)
    }

    /// A group; all zero if the function has none of it.
    pub fn group<L: Layout>(&self, group: CapGroup) -> L {
        L::from_prefix(self.page(group).unwrap_or_default())
    }

    /// The general group.
    pub fn general(&self) -> CmdHcaCap {
        self.group(CapGroup::GENERAL)
    }

    /// Ethernet offloads: checksums, inline mode, UMR on send queues.
    pub fn ethernet(&self) -> PerProtocolNetworkingOffloadCaps {
        self.group(CapGroup::ETHERNET_OFFLOADS)
    }

    /// Flow tables for receiving.
    pub fn receive_flow_tables(&self) -> FlowTablePropLayout {
        let group: FlowTableNicCap = self.group(CapGroup::FLOW_TABLE);
        group.nested(FlowTableNicCap::FLOW_TABLE_PROPERTIES_NIC_RECEIVE)
    }

    /// What matters for the NVMe/TCP offload.
    pub fn offload(&self) -> OffloadCaps {
        let (general, ethernet, flow) = (self.general(), self.ethernet(), self.receive_flow_tables());
        let offload: NvmeotcpCap = self.group(NVMEOTCP_GROUP);
        let fields = flow.nested(FlowTablePropLayout::FT_FIELD_SUPPORT);
        type F = firmware_iface::caps::groups::FlowTableFieldsSupported;
        let five_tuple = [
            F::OUTER_IP_VERSION,
            F::OUTER_IP_PROTOCOL,
            F::OUTER_SIP,
            F::OUTER_DIP,
            F::OUTER_TCP_SPORT,
            F::OUTER_TCP_DPORT,
        ];
        OffloadCaps {
            nvmeotcp: general.is_set(CmdHcaCap::NVMEOTCP),
            zerocopy: offload.is_set(NvmeotcpCap::ZEROCOPY),
            crc_rx: offload.is_set(NvmeotcpCap::CRC_RX),
            crc_tx: offload.is_set(NvmeotcpCap::CRC_TX),
            version: offload.get(NvmeotcpCap::VERSION) as u8,
            log_max_tag_buffer_tables: offload.get(NvmeotcpCap::LOG_MAX_NVMEOTCP_TAG_BUFFER_TABLE) as u8,
            log_max_tag_buffer_size: offload.get(NvmeotcpCap::LOG_MAX_NVMEOTCP_TAG_BUFFER_SIZE) as u8,
            tag_buffer_table_object: general.get_wide(CmdHcaCap::GENERAL_OBJ_TYPES) >> TAG_BUFFER_TABLE_OBJECT & 1 != 0,
            cqe_128_always: general.is_set(CmdHcaCap::CQE_128_ALWAYS),
            log_max_klm_list_size: general.get(CmdHcaCap::LOG_MAX_KLM_LIST_SIZE) as u8,
            max_wqe_bytes_sq: general.get(CmdHcaCap::MAX_WQE_SZ_SQ) as u16,
            log_max_mkey: general.get(CmdHcaCap::LOG_MAX_MKEY) as u8,
            reg_umr_sq: ethernet.is_set(PerProtocolNetworkingOffloadCaps::REG_UMR_SQ),
            receive_flow_tables: flow.is_set(FlowTablePropLayout::FT_SUPPORT),
            five_tuple: five_tuple.into_iter().all(|field| fields.is_set(field)),
        }
    }
}

/// The capabilities that the NVMe/TCP offload stands on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffloadCaps {
    /// The function knows the offload at all.
    pub nvmeotcp: bool,
    /// Direct data placement.
    pub zerocopy: bool,
    /// Data digest checked on receive.
    pub crc_rx: bool,
    /// Data digest computed on send; not used.
    pub crc_tx: bool,
    /// Version of the offload; meaning unknown.
    pub version: u8,
    /// log2 of the tag buffer tables.
    pub log_max_tag_buffer_tables: u8,
    /// log2 of the entries of one tag buffer table: bounds the queue size.
    pub log_max_tag_buffer_size: u8,
    /// Tag buffer tables can be created.
    pub tag_buffer_table_object: bool,
    /// CQEs of 128 bytes, in which the device describes what it placed.
    pub cqe_128_always: bool,
    /// log2 of the entries of a KLM memory key: bounds the scatter list of a tag.
    pub log_max_klm_list_size: u8,
    /// Greatest WQE of a send queue, bytes: bounds the entries written by one UMR.
    pub max_wqe_bytes_sq: u16,
    /// log2 of the memory keys: one per tag.
    pub log_max_mkey: u8,
    /// Send queues take UMR.
    pub reg_umr_sq: bool,
    /// Receive flow tables exist.
    pub receive_flow_tables: bool,
    /// Rules can match IP version, protocol, addresses and TCP ports.
    pub five_tuple: bool,
}

/// One reason why NVMe/TCP cannot be offloaded: what is missing, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Name of the capability, as the reference spells it.
    pub capability: &'static str,
    /// What is missing, and what to do, for people.
    pub text: &'static str,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.capability)
    }
}

impl OffloadCaps {
    /// True if reads can be placed.
    pub fn possible(&self) -> bool {
        self.why_not().is_empty()
    }

    /// Every reason why reads cannot be placed; none if they can. The data digest is not one: software computes what
    /// hardware does not.
    pub fn why_not(&self) -> Vec<Reason> {
        if !self.nvmeotcp {
            return vec![Reason {
                capability: "cmd_hca_cap.nvmeotcp",
                text: "the function has no NVMe/TCP offload: it needs a ConnectX-7 or later with firmware that enables it",
            }];
        }
        let checks = [
            (
                self.zerocopy,
                "nvmeotcp_cap.zerocopy",
                "the NVMe/TCP offload of this firmware places no data; update the firmware",
            ),
            (
                self.tag_buffer_table_object,
                "cmd_hca_cap.general_obj_types bit 0x21",
                "firmware creates no tag buffer tables; update the firmware",
            ),
            (
                self.cqe_128_always,
                "cmd_hca_cap.cqe_128_always",
                "no 128-byte completions, in which the device says what it placed; update the firmware",
            ),
            (
                self.reg_umr_sq,
                "per_protocol_networking_offload_caps.reg_umr_sq",
                "send queues take no UMR, so tags cannot be bound to buffers",
            ),
            (
                self.max_wqe_bytes_sq >= 192,
                "cmd_hca_cap.max_wqe_sz_sq",
                "send queue entries are too small for a UMR with an inline entry (192 bytes)",
            ),
            (
                self.receive_flow_tables,
                "flow_table_properties_nic_receive.ft_support",
                "no receive flow tables, so connections cannot be steered to their offload context; is the function a \
                 representor, or is steering owned by its manager?",
            ),
            (
                self.five_tuple || !self.receive_flow_tables,
                "ft_field_support",
                "receive flow tables cannot match a TCP connection's addresses and ports",
            ),
        ];
        checks
            .into_iter()
            .filter(|(present, ..)| !present)
            .map(|(_, capability, text)| Reason { capability, text })
            .collect()
    }

    /// Greatest queue size: entries of a tag buffer table.
    pub fn max_queue_size(&self) -> u32 {
        1 << self.log_max_tag_buffer_size.min(16)
    }

    /// Greatest scatter list of one tag.
    pub fn max_sgl_entries(&self) -> u32 {
        MAX_SGL_ENTRIES.min(1 << self.log_max_klm_list_size.min(31))
    }

    /// Queues that can be offloaded at once.
    pub fn max_queues(&self) -> u32 {
        MAX_OFFLOADED_QUEUES.min(1 << self.log_max_tag_buffer_tables.min(31))
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | each missing capability is named, alone | `each_missing_capability_is_named` |
    //! | a function without the offload gives that one reason | `no_offload_is_one_reason` |
    //! | capabilities are read from the bits that the reference names | `capabilities_are_read_from_their_bits` |
    use super::*;

    const GOOD: OffloadCaps = OffloadCaps {
        nvmeotcp: true,
        zerocopy: true,
        crc_rx: true,
        crc_tx: false,
        version: 0,
        log_max_tag_buffer_tables: 12,
        log_max_tag_buffer_size: 10,
        tag_buffer_table_object: true,
        cqe_128_always: true,
        log_max_klm_list_size: 16,
        max_wqe_bytes_sq: 1024,
        log_max_mkey: 24,
        reg_umr_sq: true,
        receive_flow_tables: true,
        five_tuple: true,
    };

    #[test]
    fn each_missing_capability_is_named() {
        assert_eq!(GOOD.why_not(), []);
        let lacking = [
            ("nvmeotcp_cap.zerocopy", OffloadCaps { zerocopy: false, ..GOOD }),
            ("cmd_hca_cap.general_obj_types bit 0x21", OffloadCaps { tag_buffer_table_object: false, ..GOOD }),
            ("cmd_hca_cap.cqe_128_always", OffloadCaps { cqe_128_always: false, ..GOOD }),
            ("per_protocol_networking_offload_caps.reg_umr_sq", OffloadCaps { reg_umr_sq: false, ..GOOD }),
            ("cmd_hca_cap.max_wqe_sz_sq", OffloadCaps { max_wqe_bytes_sq: 64, ..GOOD }),
            (
                "flow_table_properties_nic_receive.ft_support",
                OffloadCaps { receive_flow_tables: false, five_tuple: false, ..GOOD },
            ),
            ("ft_field_support", OffloadCaps { five_tuple: false, ..GOOD }),
        ];
        for (name, caps) in lacking {
            let names: Vec<_> = caps.why_not().iter().map(|reason| reason.capability).collect();
            assert_eq!(names, [name]);
            assert!(!caps.possible());
        }
        assert!(OffloadCaps { crc_rx: false, ..GOOD }.possible(), "software can compute digests");
    }

    #[test]
    fn no_offload_is_one_reason() {
        assert_eq!(OffloadCaps::default().why_not().len(), 1);
        assert!(Capabilities::default().offload().why_not()[0].to_string().contains("nvmeotcp"));
    }

    #[test]
    fn capabilities_are_read_from_their_bits() {
        // Positions of `nvme-tcp-offload.md` §2.1 and §2.2, independent of the layouts.
        let set = |page: &mut Vec<u8>, bit: usize| page[bit / 8] |= 0x80 >> (bit % 8);
        let (mut general, mut offload) = (vec![0; 4096], vec![0; 4096]);
        for bit in [0x96, 0x5bd, 0x400 + 63 - 0x21] {
            set(&mut general, bit);
        }
        set(&mut general, 0x11a + 5); // log_max_klm_list_size = 1
        set(&mut general, 0x290 + 5); // max_wqe_sz_sq = 1024
        set(&mut offload, 0);
        set(&mut offload, 1);
        set(&mut offload, 0x3b + 1); // log_max_nvmeotcp_tag_buffer_size = 8
        set(&mut offload, 0x33 + 3); // log_max_nvmeotcp_tag_buffer_table = 2
        let caps = Capabilities::from_pages([(CapGroup::GENERAL, general), (NVMEOTCP_GROUP, offload)]).offload();
        let expected = OffloadCaps {
            nvmeotcp: true,
            zerocopy: true,
            crc_rx: true,
            tag_buffer_table_object: true,
            cqe_128_always: true,
            log_max_klm_list_size: 1,
            max_wqe_bytes_sq: 1024,
            log_max_tag_buffer_size: 8,
            log_max_tag_buffer_tables: 2,
            ..OffloadCaps::default()
        };
        assert_eq!(caps, expected);
        assert_eq!((caps.max_queue_size(), caps.max_sgl_entries(), caps.max_queues()), (256, 2, 4));
    }
}
