//! One network interface, sans-IO: headers of received frames in, headers of frames to send out.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::arp::{self, Operation, Packet};
use super::checksum::Sum;
use super::neighbor::{Lookup, Neighbors};
use super::{MacAddr, ethernet, ipv4};
use crate::observe::counter::{counters, reasons};
use crate::tcp::{self, FourTuple, segment};

/// Neighbours that are remembered: the target and a gateway are usual.
const NEIGHBORS: usize = 64;
/// ARP answers that wait to be sent; who asks more gets none and asks again.
const REPLIES: usize = 16;

/// Addresses and sizes of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// MAC address.
    pub mac: MacAddr,
    /// Address.
    pub ip: Ipv4Addr,
    /// Leading bits of the address that all neighbours on the link share, 0 to 32.
    pub prefix_len: u8,
    /// Where packets for others go.
    pub gateway: Option<Ipv4Addr>,
    /// Bytes of the largest IP packet.
    pub mtu: u16,
}

/// A configuration that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterfaceError {
    /// Not the address of one station.
    #[error("{0} is not the MAC address of one station")]
    Mac(MacAddr),
    /// Not the address of one host.
    #[error("{0} is not the IP address of one host")]
    Ip(Ipv4Addr),
    /// A prefix of more than 32 bits.
    #[error("prefix length {0}, allowed is 0 to 32")]
    PrefixLen(u8),
    /// The gateway is not on the link.
    #[error("gateway {0} is not on the link")]
    Gateway(Ipv4Addr),
    /// RFC 791: every link carries 576 bytes at least here (the least that every host accepts).
    #[error("MTU {0}, at least 576 is needed")]
    Mtu(u16),
}

/// Who looks after a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The device: on receive it vouched for L3 and L4, on send it will fill them in.
    Device,
    /// Software.
    Software,
}

reasons! {
    /// Why a frame went no further.
    pub enum DropReason {
        /// Shorter than its headers say.
        Truncated "truncated",
        /// Addressed to another station.
        OtherStation "other-station",
        /// An EtherType that is not spoken here.
        EtherType "ether-type",
        /// A bad ARP packet, or one that claims our address.
        Arp "arp",
        /// A bad IPv4 header.
        Ipv4 "ipv4",
        /// The IPv4 header checksum is wrong.
        Ipv4Checksum "ipv4-checksum",
        /// An IPv4 fragment.
        Fragment "fragment",
        /// Addressed to another host, or from an address that no host has.
        OtherHost "other-host",
        /// An IP protocol that is not spoken here.
        Protocol "protocol",
        /// A bad TCP header.
        Tcp "tcp",
        /// The TCP checksum is wrong.
        TcpChecksum "tcp-checksum",
    }
}

counters! {
    /// What an interface counts.
    pub struct Counters {
        /// TCP segments handed up.
        pub tcp_in: Segments,
        /// TCP segments built.
        pub tcp_out: Segments,
        /// ARP packets understood.
        pub arp_in: Packets,
        /// ARP packets built.
        pub arp_out: Packets,
        /// ARP answers not given because too many waited.
        pub arp_replies_skipped: Packets,
        /// ARP packets that claim our address. They are among those dropped.
        pub arp_conflicts: Packets,
        /// ARP packets that say where somebody is who was not asked for, or who cannot be a neighbour: not remembered.
        pub arp_unsolicited: Packets,
        /// Neighbours forgotten because others came and the cache was full.
        pub neighbors_evicted: Events,
        /// Neighbours that were asked again before it was time, because TCP heard nothing from beyond them.
        pub neighbors_doubted: Events,
        /// Frames that went no further.
        pub dropped: Packets by DropReason,
    }
}

/// A received frame that carries a TCP segment to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFrame {
    /// The connection, from our side.
    pub tuple: FourTuple,
    /// The TCP header.
    pub header: tcp::Header,
    /// Bytes of the frame before the TCP header.
    pub l4_offset: u32,
    /// Bytes of the frame before the payload.
    pub payload_offset: u32,
    /// Bytes of payload. What the frame has beyond is padding, and must be trimmed.
    pub payload_len: u32,
}

impl TcpFrame {
    /// Trims a whole frame to the segment's payload.
    ///
    /// # Panics
    /// If `frame` is not as long as `receive` was told.
    pub fn trim<P: tcp::Payload>(&self, frame: &mut P) {
        frame.trim_front(self.payload_offset);
        frame.trim_back(frame.len() - self.payload_len);
    }
}

/// What a received frame was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A TCP segment.
    Tcp(TcpFrame),
    /// ARP; [`Interface::poll_tx`] may have an answer.
    Arp,
    /// Nothing that goes further; it was counted.
    Dropped(DropReason),
}

/// Whether the next hop to an address is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Its MAC address.
    Ready(MacAddr),
    /// It was asked for: send what [`Interface::poll_tx`] gives and try again at [`Interface::next_deadline`].
    Pending,
    /// Nobody answers for it, or there is no way there.
    Unreachable,
}

/// Why the headers of a segment could not be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmitError {
    /// The MAC address of the next hop is being asked for.
    #[error("the MAC address of the next hop is not known yet")]
    Pending,
    /// There is no next hop.
    #[error("no way to the destination: no gateway, or nobody answers ARP for it")]
    Unreachable,
    /// The packet is larger than the MTU.
    #[error("IP packet of {len} bytes, MTU {mtu}")]
    TooLong {
        /// Bytes.
        len: usize,
        /// MTU.
        mtu: u16,
    },
    /// The buffer is too small for the headers; [`HEADROOM`](super::HEADROOM) is always enough.
    #[error(transparent)]
    Buffer(#[from] segment::BufferTooSmall),
    /// The four-tuple names an address that this interface has not, or mixes families.
    #[error("the connection's local address is not this interface's, or its remote one is of another family")]
    Address,
}

/// A network interface with one IPv4 address. See the [module](crate::net).
#[derive(Debug)]
pub struct Interface {
    config: InterfaceConfig,
    neighbors: Neighbors,
    replies: VecDeque<Packet>,
    counters: Counters,
}

impl Interface {
    /// An interface that knows no neighbour.
    pub fn new(config: InterfaceConfig) -> Result<Interface, InterfaceError> {
        if !config.mac.is_unicast() {
            return Err(InterfaceError::Mac(config.mac));
        }
        if !is_host(config.ip) {
            return Err(InterfaceError::Ip(config.ip));
        }
        if config.prefix_len > 32 {
            return Err(InterfaceError::PrefixLen(config.prefix_len));
        }
        if config.mtu < 576 {
            return Err(InterfaceError::Mtu(config.mtu));
        }
        let interface = Interface {
            config,
            neighbors: Neighbors::new(NEIGHBORS),
            replies: VecDeque::with_capacity(REPLIES),
            counters: Counters::default(),
        };
        match config.gateway {
            Some(gateway) if !interface.on_link(gateway) || !is_host(gateway) => Err(InterfaceError::Gateway(gateway)),
            _ => Ok(interface),
        }
    }

    /// Its configuration.
    pub fn config(&self) -> &InterfaceConfig {
        &self.config
    }

    /// Its counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Payload bytes of the largest TCP segment without options: for [`tcp::Config::mss`] (RFC 6691).
    pub fn mss(&self) -> u16 {
        self.config.mtu - (ipv4::MIN_HEADER_LEN + segment::MIN_HEADER_LEN) as u16
    }

    /// Takes a frame of `frame_len` bytes, without FCS, of which `head` is the front: all of it, or at least
    /// [`HEADROOM`](super::HEADROOM) bytes.
    ///
    /// With [`Checksum::Software`] the IPv4 header checksum is verified here; the TCP checksum covers the payload, so the
    /// caller verifies it with [`verify_tcp`](Self::verify_tcp).
    #[inline]
    pub fn receive(&mut self, now: Duration, frame_len: u32, head: &[u8], checksum: Checksum) -> Received {
        match self.classify(now, frame_len, head, checksum) {
            Ok(received) => received,
            Err(why) => {
                self.counters.dropped.count(why);
                Received::Dropped(why)
            }
        }
    }

    #[inline]
    fn classify(
        &mut self,
        now: Duration,
        frame_len: u32,
        head: &[u8],
        checksum: Checksum,
    ) -> Result<Received, DropReason> {
        // More than the frame has may have been copied.
        let head = &head[..head.len().min(frame_len as usize)];
        let frame = ethernet::Header::parse(head).ok_or(DropReason::Truncated)?;
        let packet = &head[ethernet::HEADER_LEN..];
        let ours = frame.destination == self.config.mac;
        match frame.ether_type {
            ethernet::ARP if ours || frame.destination == MacAddr::BROADCAST => {
                self.on_arp(now, packet).map(|()| Received::Arp)
            }
            ethernet::IPV4 if ours => {
                let frame = self.on_ipv4(frame_len, packet, checksum)?;
                self.counters.tcp_in += 1;
                Ok(Received::Tcp(frame))
            }
            ethernet::ARP | ethernet::IPV4 => Err(DropReason::OtherStation),
            _ => Err(DropReason::EtherType),
        }
    }

    /// Where a TCP frame that is given up lies in its stream, if `head` is the front of one: for telling later what became
    /// of it. Nothing is counted, checked or learned.
    pub fn locate(&self, head: &[u8]) -> Option<TcpFrame> {
        ethernet::Header::parse(head).filter(|frame| frame.ether_type == ethernet::IPV4)?;
        self.on_ipv4(u32::MAX, &head[ethernet::HEADER_LEN..], Checksum::Device).ok()
    }

    /// RFC 826, "Packet Reception".
    fn on_arp(&mut self, now: Duration, packet: &[u8]) -> Result<(), DropReason> {
        let packet = Packet::parse(packet).ok_or(DropReason::Arp)?;
        let Packet { operation, sender_mac, sender_ip, target_ip, .. } = packet;
        if !sender_mac.is_unicast() {
            return Err(DropReason::Arp);
        }
        if sender_ip == self.config.ip && sender_mac != self.config.mac {
            // RFC 5227 §2.4: two hosts, one address. Counted, not defended: the operator must act.
            self.counters.arp_conflicts += 1;
            return Err(DropReason::Arp);
        }
        self.counters.arp_in += 1;
        let ours = target_ip == self.config.ip;
        let neighbor = is_host(sender_ip) && self.on_link(sender_ip) && sender_ip != self.config.ip;
        let asked = ours && operation == Operation::Request;
        if !neighbor || !self.neighbors.learn(sender_ip.into(), sender_mac, asked, now) {
            self.counters.arp_unsolicited += 1;
        }
        self.counters.neighbors_evicted = self.neighbors.evicted;
        if ours && operation == Operation::Request {
            if self.replies.len() >= REPLIES {
                self.counters.arp_replies_skipped += 1;
                return Ok(());
            }
            self.replies.push_back(Packet {
                operation: Operation::Reply,
                sender_mac: self.config.mac,
                sender_ip: self.config.ip,
                target_mac: sender_mac,
                target_ip: sender_ip,
            });
        }
        Ok(())
    }

    #[inline]
    fn on_ipv4(&self, frame_len: u32, packet: &[u8], checksum: Checksum) -> Result<TcpFrame, DropReason> {
        let verify = checksum == Checksum::Software;
        let ip = ipv4::Header::parse(packet, verify).map_err(|error| match error {
            ipv4::ParseError::Truncated { .. } => DropReason::Truncated,
            ipv4::ParseError::Checksum => DropReason::Ipv4Checksum,
            ipv4::ParseError::Version(_) | ipv4::ParseError::Length { .. } => DropReason::Ipv4,
        })?;
        let l3_offset = ethernet::HEADER_LEN as u32;
        // What the packet has beyond its total length is padding; less than that is a frame cut short.
        if u32::from(ip.total_len) > frame_len - l3_offset {
            return Err(DropReason::Truncated);
        }
        if ip.destination != self.config.ip || !is_host(ip.source) || ip.source == self.config.ip {
            return Err(DropReason::OtherHost);
        }
        if ip.fragment {
            return Err(DropReason::Fragment);
        }
        if ip.protocol != ipv4::TCP {
            return Err(DropReason::Protocol);
        }
        let l4_len = u32::from(ip.total_len) - u32::from(ip.header_len);
        let l4 = &packet[usize::from(ip.header_len)..];
        // Neither padding nor what lies beyond the packet is TCP's.
        let l4 = &l4[..l4.len().min(l4_len as usize)];
        let parsed = tcp::Header::parse(l4).map_err(|error| match error {
            segment::ParseError::Truncated { need, .. } if need <= l4_len as usize => DropReason::Truncated,
            _ => DropReason::Tcp,
        })?;
        let l4_offset = l3_offset + u32::from(ip.header_len);
        Ok(TcpFrame {
            tuple: FourTuple {
                local: ip.destination.into(),
                local_port: parsed.destination_port,
                remote: ip.source.into(),
                remote_port: parsed.source_port,
            },
            header: parsed.header,
            l4_offset,
            payload_offset: l4_offset + parsed.header_len,
            payload_len: l4_len - parsed.header_len,
        })
    }

    /// Verifies the TCP checksum of a frame in software. `l4` yields its TCP header and payload in runs, without padding:
    /// `header_len + payload_len` bytes from [`TcpFrame::l4_offset`] on. False, and counted, if it is wrong.
    pub fn verify_tcp<'a>(&mut self, frame: &TcpFrame, l4: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let len = frame.payload_offset - frame.l4_offset + frame.payload_len;
        let right = tcp_checksum(frame.tuple.remote, frame.tuple.local, len, l4) == 0;
        if !right {
            self.counters.dropped.count(DropReason::TcpChecksum);
        }
        right
    }

    /// The next hop to `destination`: itself, or the gateway.
    fn hop(&self, destination: IpAddr) -> Option<IpAddr> {
        let IpAddr::V4(destination) = destination else { return None };
        let hop = match self.on_link(destination) {
            true => Some(destination),
            false => self.config.gateway,
        };
        hop.filter(|hop| is_host(*hop) && *hop != self.config.ip).map(IpAddr::V4)
    }

    /// Nothing is heard from `destination` any more although it was sent to: the next hop is asked for its MAC address again
    /// (RFC 1122 §3.3.1.4, negative advice), at most once a second.
    pub fn doubt(&mut self, now: Duration, destination: IpAddr) {
        if let Some(hop) = self.hop(destination) {
            self.counters.neighbors_doubted += u64::from(self.neighbors.doubt(hop, now));
        }
    }

    /// The MAC address of the next hop to `destination`. If it is not known it is asked for.
    pub fn resolve(&mut self, now: Duration, destination: IpAddr) -> Resolution {
        let Some(hop) = self.hop(destination) else {
            return Resolution::Unreachable;
        };
        let found = self.neighbors.resolve(hop, now);
        self.counters.neighbors_evicted = self.neighbors.evicted;
        match found {
            Lookup::Known(mac) => Resolution::Ready(mac),
            Lookup::Asking => Resolution::Pending,
            Lookup::Failed => Resolution::Unreachable,
        }
    }

    /// Writes the headers of a segment, Ethernet to TCP, at the front of `out` and returns their length; the payload
    /// follows them in the frame. With [`Checksum::Device`] the TCP checksum is left 0 for the device; the one of IPv4 is
    /// always written.
    pub fn emit_tcp(
        &mut self,
        now: Duration,
        tuple: &FourTuple,
        header: &tcp::Header,
        payload: [&[u8]; 2],
        checksum: Checksum,
        out: &mut [u8],
    ) -> Result<usize, EmitError> {
        let (IpAddr::V4(local), IpAddr::V4(remote)) = (tuple.local, tuple.remote) else {
            return Err(EmitError::Address);
        };
        if local != self.config.ip {
            return Err(EmitError::Address);
        }
        let destination = match self.resolve(now, tuple.remote) {
            Resolution::Ready(mac) => mac,
            Resolution::Pending => return Err(EmitError::Pending),
            Resolution::Unreachable => return Err(EmitError::Unreachable),
        };
        let l4_len = header.wire_len() + payload[0].len() + payload[1].len();
        let len = ipv4::MIN_HEADER_LEN + l4_len;
        if len > usize::from(self.config.mtu) {
            return Err(EmitError::TooLong { len, mtu: self.config.mtu });
        }
        let need = ethernet::HEADER_LEN + ipv4::MIN_HEADER_LEN + header.wire_len();
        let have = out.len();
        let short = segment::BufferTooSmall { have, need };
        if have < need {
            return Err(short.into());
        }
        let (l2, rest) = out.split_first_chunk_mut().ok_or(short)?;
        let (l3, l4) = rest.split_first_chunk_mut().ok_or(short)?;
        ethernet::Header { destination, source: self.config.mac, ether_type: ethernet::IPV4 }.emit(l2);
        ipv4::Header {
            source: local,
            destination: remote,
            protocol: ipv4::TCP,
            header_len: ipv4::MIN_HEADER_LEN as u8,
            total_len: len as u16,
            fragment: false,
        }
        .emit(l3);
        let header_len = header.emit(tuple.local_port, tuple.remote_port, l4)?;
        if checksum == Checksum::Software {
            let runs = [&l4[..header_len], payload[0], payload[1]];
            let value = tcp_checksum(tuple.local, tuple.remote, l4_len as u32, runs);
            l4[16..18].copy_from_slice(&value.to_be_bytes());
        }
        self.counters.tcp_out += 1;
        Ok(need)
    }

    /// Writes the next ARP frame to send into `out` and returns its length; `None` if there is none. Call it until then.
    pub fn poll_tx(&mut self, now: Duration, out: &mut [u8; arp::FRAME_LEN]) -> Option<usize> {
        let (destination, packet) = match self.replies.pop_front() {
            Some(reply) => (reply.target_mac, reply),
            None => {
                let IpAddr::V4(target_ip) = self.neighbors.next_request(now)? else { return None };
                let InterfaceConfig { mac: sender_mac, ip: sender_ip, .. } = self.config;
                let target_mac = MacAddr([0; 6]);
                let operation = Operation::Request;
                (MacAddr::BROADCAST, Packet { operation, sender_mac, sender_ip, target_mac, target_ip })
            }
        };
        let (l2, rest) = out.split_first_chunk_mut()?;
        ethernet::Header { destination, source: self.config.mac, ether_type: ethernet::ARP }.emit(l2);
        packet.emit(rest.first_chunk_mut()?);
        self.counters.arp_out += 1;
        Some(arp::FRAME_LEN)
    }

    /// When [`poll_tx`](Self::poll_tx) must be called although nothing came in, because an address is still asked for.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.neighbors.next_deadline()
    }

    fn on_link(&self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.config.prefix_len)).unwrap_or(0);
        (address.to_bits() ^ self.config.ip.to_bits()) & mask == 0
    }
}

/// RFC 1122 §3.2.1.3: addresses that one host may have.
fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_broadcast() || address.is_multicast() || address.is_loopback())
}

/// The checksum of a segment of `len` bytes: the value for the field, or 0 if the field is in it and right.
fn tcp_checksum<'a>(source: IpAddr, destination: IpAddr, len: u32, l4: impl IntoIterator<Item = &'a [u8]>) -> u16 {
    let mut sum = Sum::default();
    sum.add_pseudo_header(source, destination, ipv4::TCP, len);
    l4.into_iter().for_each(|run| sum.add(run));
    sum.finish()
}

#[cfg(test)]
#[path = "interface_tests.rs"]
mod tests;
