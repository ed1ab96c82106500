//! What rules compare: five-tuples, ranges of ports, anything; as values under masks.

use super::SteeringCaps;
use firmware_iface::steering::{FteMatchSetLyr24, MatchCriteria};
use hw_regs::layout::{Access, Layout};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// IP protocol number of TCP.
const TCP: u32 = 6;
/// A TCP connection as received packets show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FiveTuple {
    /// Where packets come from: the remote end.
    pub source: SocketAddr,
    /// Where they go to: this end.
    pub destination: SocketAddr,
}

impl fmt::Display for FiveTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TCP {} to {}", self.source, self.destination)
    }
}

/// A range of TCP ports that a mask can tell: a power of two of them, beginning at a multiple of their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// log2 of how many.
    pub log_len: u32,
}

impl Ports {
    pub(super) fn mask(self) -> u16 {
        u16::MAX.checked_shl(self.log_len).unwrap_or(0)
    }
}

/// Addresses as the match fields carry them: IPv4 in the last 4 of 16 bytes.
pub(super) fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[12..].copy_from_slice(&ip.octets());
            bytes
        }
    }
}

/// What an entry or a group of the table matches on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Match {
    Connection(FiveTuple),
    /// TCP over IPv4 to a range of ports.
    Ports(Ports),
    Tcp {
        ipv6: bool,
    },
    Anything,
}

impl Match {
    pub(super) fn value(self, caps: &SteeringCaps) -> FteMatchSetLyr24 {
        let tcp = |ipv6: bool| {
            let outer = FteMatchSetLyr24::zeroed().with(FteMatchSetLyr24::IP_PROTOCOL, TCP);
            match caps.ip_version {
                true => outer.with(FteMatchSetLyr24::IP_VERSION, if ipv6 { 6 } else { 4 }),
                false => outer.with(FteMatchSetLyr24::ETHERTYPE, if ipv6 { 0x86dd } else { 0x0800 }),
            }
        };
        match self {
            Match::Anything => FteMatchSetLyr24::zeroed(),
            Match::Tcp { ipv6 } => tcp(ipv6),
            Match::Ports(ports) => tcp(false).with(FteMatchSetLyr24::TCP_DPORT, ports.first.into()),
            Match::Connection(tuple) => {
                let mut outer = tcp(tuple.source.is_ipv6())
                    .with(FteMatchSetLyr24::TCP_SPORT, tuple.source.port().into())
                    .with(FteMatchSetLyr24::TCP_DPORT, tuple.destination.port().into());
                let source = address(tuple.source.ip());
                let destination = address(tuple.destination.ip());
                outer.blob_mut(FteMatchSetLyr24::SRC_IPV4_SRC_IPV6).copy_from_slice(&source);
                outer.blob_mut(FteMatchSetLyr24::DST_IPV4_DST_IPV6).copy_from_slice(&destination);
                outer
            }
        }
    }
}

/// Masks of the groups: which bits of a packet are compared.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mask {
    Connections {
        ipv6: bool,
    },
    /// The bits of a destination port that say in which range it lies.
    Ports(u16),
    Tcp,
    Nothing,
}

impl Mask {
    pub(super) fn outer(self, caps: &SteeringCaps) -> FteMatchSetLyr24 {
        let tcp = || {
            let outer = FteMatchSetLyr24::zeroed().with(FteMatchSetLyr24::IP_PROTOCOL, 0xff);
            match caps.ip_version {
                true => outer.with(FteMatchSetLyr24::IP_VERSION, 0xf),
                false => outer.with(FteMatchSetLyr24::ETHERTYPE, 0xffff),
            }
        };
        match self {
            Mask::Nothing => FteMatchSetLyr24::zeroed(),
            Mask::Tcp => tcp(),
            Mask::Ports(bits) => tcp().with(FteMatchSetLyr24::TCP_DPORT, bits.into()),
            Mask::Connections { ipv6 } => {
                let mut outer =
                    tcp().with(FteMatchSetLyr24::TCP_SPORT, 0xffff).with(FteMatchSetLyr24::TCP_DPORT, 0xffff);
                let from = if ipv6 { 0 } else { 12 };
                outer.blob_mut(FteMatchSetLyr24::SRC_IPV4_SRC_IPV6)[from..].fill(0xff);
                outer.blob_mut(FteMatchSetLyr24::DST_IPV4_DST_IPV6)[from..].fill(0xff);
                outer
            }
        }
    }

    pub(super) fn criteria(self) -> u8 {
        match self {
            Mask::Nothing => 0,
            _ => MatchCriteria::OUTER_HEADERS.0,
        }
    }
}
