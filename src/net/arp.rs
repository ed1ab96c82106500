//! ARP for IPv4 over Ethernet (RFC 826): the packet. Who remembers the answers is `neighbor`.

use std::net::Ipv4Addr;

use super::ethernet::{self, MacAddr};

/// Bytes of a packet for IPv4 over Ethernet.
pub const PACKET_LEN: usize = 28;
/// Bytes of a frame with such a packet, without the padding to 60 bytes that hardware adds.
pub const FRAME_LEN: usize = ethernet::HEADER_LEN + PACKET_LEN;

/// Hardware type Ethernet, protocol type IPv4, and the lengths of both addresses.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target's address?
    Request,
    /// The sender has its address.
    Reply,
}

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Request or reply.
    pub operation: Operation,
    /// MAC address of the sender.
    pub sender_mac: MacAddr,
    /// IP address of the sender; unspecified in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// MAC address of the target; means nothing in a request.
    pub target_mac: MacAddr,
    /// IP address of the target.
    pub target_ip: Ipv4Addr,
}

impl Packet {
    /// Reads a packet; `None` if it is too short, not for IPv4 over Ethernet, or neither request nor reply.
    pub fn parse(packet: &[u8]) -> Option<Packet> {
        if packet.get(..6)? != ETHERNET_IPV4 {
            return None;
        }
        let operation = match super::bytes(packet, 6)? {
            [0, 1] => Operation::Request,
            [0, 2] => Operation::Reply,
            _ => return None,
        };
        Some(Packet {
            operation,
            sender_mac: MacAddr(super::bytes(packet, 8)?),
            sender_ip: super::bytes::<4>(packet, 14)?.into(),
            target_mac: MacAddr(super::bytes(packet, 18)?),
            target_ip: super::bytes::<4>(packet, 24)?.into(),
        })
    }

    /// Writes the packet.
    pub fn emit(&self, out: &mut [u8; PACKET_LEN]) {
        out[..6].copy_from_slice(&ETHERNET_IPV4);
        out[6..8].copy_from_slice(match self.operation {
            Operation::Request => &[0, 1],
            Operation::Reply => &[0, 2],
        });
        out[8..14].copy_from_slice(&self.sender_mac.0);
        out[14..18].copy_from_slice(&self.sender_ip.octets());
        out[18..24].copy_from_slice(&self.target_mac.0);
        out[24..28].copy_from_slice(&self.target_ip.octets());
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | smoltcp reads what we emit and emits the same bytes | `smoltcp_emits_the_same_bytes` |
    //! | any bytes: parsed as smoltcp does, or refused | `any_bytes_are_parsed_or_refused` |
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};

    proptest! {
        #[test]
        fn smoltcp_emits_the_same_bytes(
            reply in any::<bool>(), macs in any::<[[u8; 6]; 2]>(), ips in any::<[[u8; 4]; 2]>(),
        ) {
            let packet = Packet {
                operation: if reply { Operation::Reply } else { Operation::Request },
                sender_mac: MacAddr(macs[0]),
                sender_ip: ips[0].into(),
                target_mac: MacAddr(macs[1]),
                target_ip: ips[1].into(),
            };
            let mut ours = [0; PACKET_LEN];
            packet.emit(&mut ours);
            let repr = ArpRepr::EthernetIpv4 {
                operation: if reply { ArpOperation::Reply } else { ArpOperation::Request },
                source_hardware_addr: EthernetAddress(macs[0]),
                source_protocol_addr: ips[0].into(),
                target_hardware_addr: EthernetAddress(macs[1]),
                target_protocol_addr: ips[1].into(),
            };
            let mut theirs = [0; PACKET_LEN];
            repr.emit(&mut ArpPacket::new_unchecked(&mut theirs[..]));
            prop_assert_eq!(ours, theirs);
            prop_assert_eq!(Packet::parse(&ours), Some(packet));
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(mut bytes in vec(any::<u8>(), 0..40), plausible in any::<bool>()) {
            if plausible && bytes.len() >= 8 {
                bytes[..6].copy_from_slice(&ETHERNET_IPV4);
                (bytes[6], bytes[7]) = (0, bytes[7] % 4);
            }
            let theirs = ArpPacket::new_checked(&bytes[..]).ok().and_then(|p| ArpRepr::parse(&p).ok());
            let known = matches!(
                theirs,
                Some(ArpRepr::EthernetIpv4 { operation: ArpOperation::Request | ArpOperation::Reply, .. })
            );
            prop_assert_eq!(Packet::parse(&bytes).is_some(), known);
        }
    }
}
