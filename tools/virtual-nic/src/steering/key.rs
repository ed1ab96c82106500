//! What a rule matches on: the outer headers of a packet in the layout of the match parameters, so that
//! `(packet & mask) == value` is a comparison of words.

use crate::packet::{Address, Packet};
use firmware_iface::steering::FteMatchSetLyr24 as Fields;
use hw_regs::layout::{Access, Layout};

/// The outer headers, 64 bytes, as words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MatchKey([u64; 8]);

/// Values of `L4_TYPE` and, for the first three, of `L4_TYPE_EXT` (`mlx5_packet_l4_type`).
mod l4_type {
    pub(super) const TCP: u32 = 1;
    pub(super) const UDP: u32 = 2;
    pub(super) const EXT_ICMP: u32 = 3;
}

impl MatchKey {
    /// The words of a match parameter's outer headers.
    pub fn from_fields(fields: &Fields) -> MatchKey {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(fields.bytes().as_chunks::<8>().0) {
            *word = u64::from_be_bytes(*bytes);
        }
        MatchKey(words)
    }

    /// The fields of a packet. What the packet lacks is zero, as firmware has it: a rule that wants a port of a packet
    /// without ports wants port 0.
    pub fn from_packet(packet: &Packet<'_>) -> MatchKey {
        let mut f = Fields::zeroed();
        let mac = |bytes: &[u8; 6]| {
            let high = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            (high, u32::from(u16::from_be_bytes([bytes[4], bytes[5]])))
        };
        let ((s_high, s_low), (d_high, d_low)) = (mac(packet.smac), mac(packet.dmac));
        f.set(Fields::SMAC_47_16, s_high);
        f.set(Fields::SMAC_15_0, s_low);
        f.set(Fields::DMAC_47_16, d_high);
        f.set(Fields::DMAC_15_0, d_low);
        f.set(Fields::ETHERTYPE, packet.ethertype.into());
        if let Some(vlan) = packet.vlan {
            f.set(if vlan.service { Fields::SVLAN_TAG } else { Fields::CVLAN_TAG }, 1);
            f.set(Fields::FIRST_PRIO, u32::from(vlan.tci >> 13));
            f.set(Fields::FIRST_CFI, u32::from(vlan.tci >> 12 & 1));
            f.set(Fields::FIRST_VID, u32::from(vlan.tci & 0xfff));
        }
        if let Some(ip) = &packet.ip {
            f.set(Fields::IP_PROTOCOL, ip.protocol.into());
            f.set(Fields::IP_DSCP, u32::from(ip.traffic_class >> 2));
            f.set(Fields::IP_ECN, u32::from(ip.traffic_class & 3));
            f.set(Fields::FRAG, ip.fragment.into());
            f.set(Fields::TTL_HOPLIMIT, ip.ttl.into());
            f.set(Fields::IPV4_IHL, ip.ihl.into());
            if ip.protocol == 1 || ip.protocol == 58 {
                f.set(Fields::L4_TYPE_EXT, l4_type::EXT_ICMP);
            }
            match ip.address {
                Address::V4 { src, dst } => {
                    f.set(Fields::IP_VERSION, 4);
                    // An IPv4 address takes the last 4 of 16 bytes.
                    f.blob_mut(Fields::SRC_IPV4_SRC_IPV6)[12..].copy_from_slice(src);
                    f.blob_mut(Fields::DST_IPV4_DST_IPV6)[12..].copy_from_slice(dst);
                }
                Address::V6 { src, dst } => {
                    f.set(Fields::IP_VERSION, 6);
                    f.blob_mut(Fields::SRC_IPV4_SRC_IPV6).copy_from_slice(src);
                    f.blob_mut(Fields::DST_IPV4_DST_IPV6).copy_from_slice(dst);
                }
            }
        }
        if let Some(transport) = &packet.transport {
            let (src, dst, l4) = match transport.tcp {
                Some(tcp) => {
                    f.set(Fields::TCP_FLAGS, tcp.flags.into());
                    (Fields::TCP_SPORT, Fields::TCP_DPORT, l4_type::TCP)
                }
                None => (Fields::UDP_SPORT, Fields::UDP_DPORT, l4_type::UDP),
            };
            f.set(src, transport.src_port.into());
            f.set(dst, transport.dst_port.into());
            f.set(Fields::L4_TYPE, l4);
            f.set(Fields::L4_TYPE_EXT, l4);
        }
        MatchKey::from_fields(&f)
    }

    /// The bits that `mask` keeps.
    #[must_use]
    pub fn masked(self, mask: &MatchKey) -> MatchKey {
        MatchKey(std::array::from_fn(|i| self.0[i] & mask.0[i]))
    }

    /// True if `mask` keeps every bit that is set.
    pub fn is_within(&self, mask: &MatchKey) -> bool {
        self.masked(mask) == *self
    }

    /// A mask of every field that [`MatchKey::from_packet`] fills in.
    pub fn matchable() -> MatchKey {
        let mut f = Fields::zeroed();
        for field in [
            Fields::SMAC_47_16,
            Fields::SMAC_15_0,
            Fields::ETHERTYPE,
            Fields::DMAC_47_16,
            Fields::DMAC_15_0,
            Fields::FIRST_PRIO,
            Fields::FIRST_CFI,
            Fields::FIRST_VID,
            Fields::IP_PROTOCOL,
            Fields::IP_DSCP,
            Fields::IP_ECN,
            Fields::CVLAN_TAG,
            Fields::SVLAN_TAG,
            Fields::FRAG,
            Fields::IP_VERSION,
            Fields::TCP_FLAGS,
            Fields::TCP_SPORT,
            Fields::TCP_DPORT,
            Fields::L4_TYPE,
            Fields::L4_TYPE_EXT,
            Fields::IPV4_IHL,
            Fields::TTL_HOPLIMIT,
            Fields::UDP_SPORT,
            Fields::UDP_DPORT,
        ] {
            f.set(field, field.max());
        }
        f.blob_mut(Fields::SRC_IPV4_SRC_IPV6).fill(0xff);
        f.blob_mut(Fields::DST_IPV4_DST_IPV6).fill(0xff);
        MatchKey::from_fields(&f)
    }
}
