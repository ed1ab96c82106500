//! Headers of an Ethernet frame as the NIC's parser sees them: L2 with VLAN tags, IPv4 or IPv6, TCP or UDP, and what the
//! checksums say. Also the checksums of frames that the NIC sends.
//!
//! ```text
//!  0          14 (+4 per VLAN tag)         l4.offset        payload.start        payload.end     frame.len()
//!  | Ethernet | IPv4 + options             | TCP + options  | L4 payload         | padding       |
//!  |          | IPv6 + extension headers   | or UDP         |                    | (short frame) |
//! ```
//!
//! A header that is cut off or contradicts itself ends the parse there: what came before stays known, what follows is
//! `None`, and the verdict on that layer is not "good". Padding behind the IP datagram is never payload.

use hw_regs::cqe::Cqe64;
use hw_regs::layout::{Access, Layout};
use std::ops::Range;

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherType of a customer VLAN tag (802.1Q).
pub const ETHERTYPE_CVLAN: u16 = 0x8100;
/// EtherType of a service VLAN tag (802.1ad).
pub const ETHERTYPE_SVLAN: u16 = 0x88a8;
/// IP protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// IP protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;

/// TCP flags (RFC 9293 §3.1).
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u16 = 0x001;
    /// Synchronize sequence numbers.
    pub const SYN: u16 = 0x002;
    /// Reset the connection.
    pub const RST: u16 = 0x004;
    /// Push.
    pub const PSH: u16 = 0x008;
    /// The acknowledgment number is valid.
    pub const ACK: u16 = 0x010;
}

/// IPv6 extension headers that are followed; a longer chain is nothing that a NIC parses.
const MAX_EXTENSION_HEADERS: usize = 8;

/// What a checksum said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// There is none at this layer, or it cannot be computed (a fragment, a layer that was not parsed).
    Absent,
    /// It is right.
    Good,
    /// It is wrong.
    Bad,
}

/// A VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// True for a service tag (802.1ad), false for a customer tag (802.1Q).
    pub service: bool,
    /// Tag control information: priority (3 bits), DEI/CFI (1), VLAN id (12).
    pub tci: u16,
}

/// IP version and addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address<'a> {
    /// IPv4: 4 bytes each, network order.
    V4 {
        /// Source.
        src: &'a [u8; 4],
        /// Destination.
        dst: &'a [u8; 4],
    },
    /// IPv6: 16 bytes each, network order.
    V6 {
        /// Source.
        src: &'a [u8; 16],
        /// Destination.
        dst: &'a [u8; 16],
    },
}

/// The network layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip<'a> {
    /// Where the IP header begins in the frame.
    pub offset: usize,
    /// One past the last byte of the datagram in the frame; padding follows.
    pub end: usize,
    /// Version and addresses.
    pub address: Address<'a>,
    /// Protocol of what follows, extension headers skipped.
    pub protocol: u8,
    /// Type of service (IPv4) or traffic class (IPv6): DSCP in the upper six bits, ECN in the lower two.
    pub traffic_class: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// IPv4 header length in 32-bit words; 0 for IPv6.
    pub ihl: u8,
    /// IPv4 options or IPv6 extension headers are present.
    pub options: bool,
    /// The datagram is a fragment of a larger one.
    pub fragment: bool,
    /// IPv4 header checksum; [`Checksum::Absent`] for IPv6.
    pub checksum: Checksum,
}

/// The transport layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Where its header begins in the frame.
    pub offset: usize,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// TCP's own; `None` for UDP.
    pub tcp: Option<Tcp>,
    /// TCP or UDP checksum.
    pub checksum: Checksum,
}

/// What TCP says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Sequence number of the first byte (of SYN, if set).
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// The nine flags, [`tcp_flag`].
    pub flags: u16,
}

/// A parsed frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The whole frame, without FCS.
    pub frame: &'a [u8],
    /// Destination MAC address.
    pub dmac: &'a [u8; 6],
    /// Source MAC address.
    pub smac: &'a [u8; 6],
    /// Outermost VLAN tag.
    pub vlan: Option<Vlan>,
    /// EtherType of what follows the tags.
    pub ethertype: u16,
    /// The network layer, if it is IP and makes sense.
    pub ip: Option<Ip<'a>>,
    /// The transport layer, if it is TCP or UDP, not in a fragment, and makes sense.
    pub transport: Option<Transport>,
    /// Payload of the transport layer in the frame, padding excluded; empty if there is none.
    pub payload: Range<usize>,
    /// Ones-complement sum of everything from the network layer on (`check_sum` of a CQE, `mlx5-bringup.md` §8.2): the
    /// sum of big-endian words, folded to 16 bits, not inverted.
    pub sum: u16,
}

/// A frame too short for an Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes has no Ethernet header")]
pub struct Runt(pub usize);

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Ones-complement sum of big-endian 16-bit words; a last odd byte counts as the upper half of a word.
fn sum_words(bytes: &[u8]) -> u64 {
    // The sum does not depend on the byte order that it is made in (RFC 1071 §2 B), so words are added as they lie in
    // memory and the result is swapped once; and 2^16 is 1 modulo 2^16 - 1, so 32 bits at a time count as their halves.
    let (quads, rest) = bytes.as_chunks::<4>();
    let mut sum: u64 = quads.iter().map(|q| u64::from(u32::from_ne_bytes(*q))).sum();
    let mut tail = [0; 4];
    tail[..rest.len()].copy_from_slice(rest);
    sum += u64::from(u32::from_ne_bytes(tail));
    u64::from(u16::from_be(fold(sum)))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Sum of the pseudo header that TCP and UDP checksums cover (RFC 9293 §3.1, RFC 8200 §8.1).
fn pseudo_header(address: Address<'_>, protocol: u8, len: usize) -> u64 {
    let addresses = match address {
        Address::V4 { src, dst } => sum_words(src) + sum_words(dst),
        Address::V6 { src, dst } => sum_words(src) + sum_words(dst),
    };
    addresses + u64::from(protocol) + len as u64
}

impl<'a> Packet<'a> {
    /// Parses a frame as it comes from the wire, without FCS.
    pub fn parse(frame: &'a [u8]) -> Result<Packet<'a>, Runt> {
        let runt = Runt(frame.len());
        let (dmac, rest) = frame.split_first_chunk().ok_or(runt)?;
        let (smac, _) = rest.split_first_chunk().ok_or(runt)?;
        let (mut at, mut vlan) = (12, None);
        let mut ethertype = be16(frame, at).ok_or(runt)?;
        // Two tags at most: an outer service tag and a customer tag.
        for _ in 0..2 {
            if ethertype != ETHERTYPE_CVLAN && ethertype != ETHERTYPE_SVLAN {
                break;
            }
            let (Some(tci), Some(inner)) = (be16(frame, at + 2), be16(frame, at + 4)) else { break };
            vlan = vlan.or(Some(Vlan { service: ethertype == ETHERTYPE_SVLAN, tci }));
            (ethertype, at) = (inner, at + 4);
        }
        let l3 = at + 2;
        let mut packet = Packet {
            frame,
            dmac,
            smac,
            vlan,
            ethertype,
            ip: None,
            transport: None,
            payload: frame.len()..frame.len(),
            sum: 0,
        };
        let parsed = match ethertype {
            ETHERTYPE_IPV4 => parse_ipv4(frame, l3),
            ETHERTYPE_IPV6 => parse_ipv6(frame, l3),
            _ => None,
        };
        let Some((ip, l4)) = parsed else {
            packet.sum = fold(sum_words(&frame[l3..]));
            return Ok(packet);
        };
        packet.ip = Some(ip);
        // Everything is summed once: the transport segment by itself (its checksum needs it), the rest around it. All
        // parts begin at an even distance from the IP header except padding behind an odd datagram.
        let segment = sum_words(&frame[l4..ip.end]);
        let mut padding = sum_words(&frame[ip.end..]);
        if !(ip.end - l3).is_multiple_of(2) {
            padding = u64::from(fold(padding).swap_bytes());
        }
        packet.sum = fold(sum_words(&frame[l3..l4]) + segment + padding);
        if !ip.fragment {
            let verdict = pseudo_header(ip.address, ip.protocol, ip.end - l4);
            packet.parse_transport(&ip, l4, fold(verdict + segment) == 0xffff);
        }
        Ok(packet)
    }

    fn parse_transport(&mut self, ip: &Ip<'_>, l4: usize, sum_is_right: bool) {
        let segment = &self.frame[l4..ip.end];
        let checksum = if sum_is_right { Checksum::Good } else { Checksum::Bad };
        let (header, tcp, checksum) = match ip.protocol {
            PROTOCOL_TCP => {
                let Some(word) = be16(segment, 12) else { return };
                let header = usize::from(word >> 12) * 4;
                let (Some(seq), Some(ack)) = (be32(segment, 4), be32(segment, 8)) else { return };
                if header < 20 || header > segment.len() {
                    return;
                }
                (header, Some(Tcp { seq, ack, flags: word & 0x1ff }), checksum)
            }
            PROTOCOL_UDP => {
                let (Some(len), Some(field)) = (be16(segment, 4), be16(segment, 6)) else { return };
                if usize::from(len) != segment.len() {
                    return;
                }
                // RFC 768: a checksum of zero means that the sender computed none (not allowed over IPv6).
                let none = field == 0 && matches!(ip.address, Address::V4 { .. });
                (8, None, if none { Checksum::Absent } else { checksum })
            }
            _ => return,
        };
        let (Some(src_port), Some(dst_port)) = (be16(segment, 0), be16(segment, 2)) else { return };
        self.transport = Some(Transport { offset: l4, src_port, dst_port, tcp, checksum });
        self.payload = l4 + header..ip.end;
    }

    /// TCP's header, if this is a TCP segment that could be parsed.
    pub fn tcp(&self) -> Option<Tcp> {
        self.transport.and_then(|t| t.tcp)
    }

    /// Bytes of L4 payload.
    pub fn payload_bytes(&self) -> &'a [u8] {
        &self.frame[self.payload.clone()]
    }

    /// True if the IP header checksum is right (IPv4) or not needed (IPv6).
    pub fn l3_ok(&self) -> bool {
        self.ip.is_some_and(|ip| match ip.address {
            Address::V4 { .. } => ip.checksum == Checksum::Good,
            Address::V6 { .. } => true,
        })
    }

    /// True if there is a TCP or UDP checksum and it is right. UDP without a checksum counts as right.
    pub fn l4_ok(&self) -> bool {
        self.transport.is_some_and(|t| t.checksum != Checksum::Bad)
    }

    /// Byte 28 of a CQE: bit 0 L2 ok, bit 1 L3 ok, bit 2 L4 ok (`mlx5-bringup.md` §8.2).
    pub fn ok_bits(&self) -> u8 {
        1 | u8::from(self.l3_ok()) << 1 | u8::from(self.l4_ok()) << 2
    }

    /// Byte 29 of a CQE: what headers there are (`mlx5-bringup.md` §8.2).
    pub fn header_type(&self, vlan_stripped: bool) -> u8 {
        let mut cqe = Cqe64::zeroed();
        if let Some(ip) = &self.ip {
            let l3 = if matches!(ip.address, Address::V6 { .. }) { 1 } else { 2 };
            cqe.set(Cqe64::L4_L3_HDR_TYPE_L3_HDR_TYPE, l3);
            cqe.set(Cqe64::L4_L3_HDR_TYPE_IP_EXT_OPTS, ip.options.into());
            cqe.set(Cqe64::L4_L3_HDR_TYPE_IP_FRAG, ip.fragment.into());
        }
        if let Some(transport) = &self.transport {
            let l4 = match transport.tcp {
                None => 2,
                Some(tcp) if tcp.flags & tcp_flag::ACK == 0 => 1,
                Some(_) if self.payload.is_empty() => 3,
                Some(_) => 4,
            };
            cqe.set(Cqe64::L4_L3_HDR_TYPE_L4_HDR_TYPE, l4);
        }
        cqe.set(Cqe64::L4_L3_HDR_TYPE_CV_VLAN, vlan_stripped.into());
        cqe.get(Cqe64::L4_L3_HDR_TYPE) as u8
    }
}

/// IPv4 header at `at`, and where the next header begins (RFC 791 §3.1).
fn parse_ipv4(frame: &[u8], at: usize) -> Option<(Ip<'_>, usize)> {
    let header = frame.get(at..)?;
    let first = *header.first()?;
    let (version, ihl) = (first >> 4, first & 0xf);
    let (len, total) = (usize::from(ihl) * 4, usize::from(be16(header, 2)?));
    if version != 4 || len < 20 || total < len || total > header.len() {
        return None;
    }
    let fragment = be16(header, 6)?;
    let checksum = if fold(sum_words(&header[..len])) == 0xffff { Checksum::Good } else { Checksum::Bad };
    let ip = Ip {
        offset: at,
        end: at + total,
        address: Address::V4 { src: header.get(12..)?.first_chunk()?, dst: header.get(16..)?.first_chunk()? },
        protocol: header[9],
        traffic_class: header[1],
        ttl: header[8],
        ihl,
        options: len > 20,
        // More-fragments flag or a fragment offset.
        fragment: fragment & 0x3fff != 0,
        checksum,
    };
    Some((ip, at + len))
}

/// IPv6 header at `at`, and where the transport header begins (RFC 8200 §3, §4).
fn parse_ipv6(frame: &[u8], at: usize) -> Option<(Ip<'_>, usize)> {
    let header = frame.get(at..)?;
    let word = be32(header, 0)?;
    let end = 40 + usize::from(be16(header, 4)?);
    if word >> 28 != 6 || end > header.len() {
        return None;
    }
    let (mut protocol, mut next, mut options, mut fragment) = (header[6], 40, false, false);
    for _ in 0..MAX_EXTENSION_HEADERS {
        let len = match protocol {
            // Hop-by-hop, routing and destination options: length in units of 8 bytes, without the first 8.
            0 | 43 | 60 => 8 + 8 * usize::from(*header[..end].get(next + 1)?),
            44 => {
                // An atomic fragment (offset 0, no more) is whole (RFC 6946).
                fragment = be16(&header[..end], next + 2)? & 0xfff9 != 0;
                8
            }
            _ => break,
        };
        if next + len > end {
            return None;
        }
        options = true;
        (protocol, next) = (header[next], next + len);
        if fragment {
            break;
        }
    }
    let ip = Ip {
        offset: at,
        end: at + end,
        address: Address::V6 { src: header.get(8..)?.first_chunk()?, dst: header.get(24..)?.first_chunk()? },
        protocol,
        traffic_class: (word >> 20) as u8,
        ttl: header[7],
        ihl: 0,
        options,
        fragment,
        checksum: Checksum::Absent,
    };
    Some((ip, at + next))
}

/// Fills in the checksums of a frame to be sent: the IPv4 header's if `l3`, TCP's or UDP's if `l4` (`cs_flags` of the
/// Ethernet segment, `mlx5-bringup.md` §8.4). What the fields held before does not matter. A frame that has no such
/// header is left as it is; returns whether everything asked for was done.
pub fn fill_checksums(frame: &mut [u8], l3: bool, l4: bool) -> bool {
    let Ok(packet) = Packet::parse(frame) else { return !l3 && !l4 };
    let header = packet.ip.filter(|ip| ip.ihl > 0).map(|ip| ip.offset..ip.offset + usize::from(ip.ihl) * 4);
    let segment = packet.ip.zip(packet.transport).map(|(ip, transport)| {
        let field = transport.offset + if transport.tcp.is_some() { 16 } else { 6 };
        let pseudo = pseudo_header(ip.address, ip.protocol, ip.end - transport.offset);
        (transport.offset..ip.end, field, pseudo, transport.tcp.is_none())
    });
    let done = (!l3 || header.is_some()) && (!l4 || segment.is_some());
    if let Some(header) = header.filter(|_| l3) {
        let field = header.start + 10..header.start + 12;
        frame[field.clone()].fill(0);
        let sum = !fold(sum_words(&frame[header]));
        frame[field].copy_from_slice(&sum.to_be_bytes());
    }
    if let Some((range, field, pseudo, udp)) = segment.filter(|_| l4) {
        frame[field..field + 2].fill(0);
        let sum = !fold(pseudo + sum_words(&frame[range]));
        // RFC 768: a computed checksum of zero is sent as all ones.
        let sum = if udp && sum == 0 { 0xffff } else { sum };
        frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
    done
}

#[cfg(test)]
pub(crate) mod build;
#[cfg(test)]
mod tests;
