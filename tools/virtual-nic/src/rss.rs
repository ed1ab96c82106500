//! Receive-side scaling: the hash of a TIR over selected header fields (`mlx5-bringup.md` §4, §8.2).

use crate::packet::{Address, Packet};
use firmware_iface::context::{RxHashFieldSelect, RxHashFn, Tirc};
use hw_regs::cqe::Cqe64;
use hw_regs::layout::{Access, Layout};

/// Bits of `RxHashFieldSelect::SELECTED_FIELDS`.
mod select {
    pub(super) const SRC_IP: u32 = 1 << 0;
    pub(super) const DST_IP: u32 = 1 << 1;
    pub(super) const SRC_PORT: u32 = 1 << 2;
    pub(super) const DST_PORT: u32 = 1 << 3;
}

/// Longest input: two IPv6 addresses and two ports.
const MAX_INPUT: usize = 36;

/// What a packet hashes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RssHash {
    /// `rss_hash_result` of the CQE. The RQT entry is this modulo the table's size.
    pub value: u32,
    /// `rss_hash_type` of the CQE: bits 3:2 IP (1 v4, 2 v6), bits 7:6 L4 (1 TCP, 2 UDP); 0 if nothing was hashed.
    pub kind: u8,
}

/// The hash parameters of a TIR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rss {
    function: RxHashFn,
    symmetric: bool,
    key: [u8; 40],
    select: RxHashFieldSelect,
}

impl Rss {
    /// The parameters in a TIR context. The inner field selector is for tunnels, which the device does not parse.
    pub fn from_tirc(tirc: &Tirc) -> Rss {
        let mut key = [0; 40];
        for (index, word) in key.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *word = (tirc.get_at(Tirc::RX_HASH_TOEPLITZ_KEY, index) as u32).to_be_bytes();
        }
        Rss {
            function: RxHashFn(tirc.get(Tirc::RX_HASH_FN) as u8),
            symmetric: tirc.is_set(Tirc::RX_HASH_SYMMETRIC),
            key,
            select: tirc.nested(Tirc::RX_HASH_FIELD_SELECTOR_OUTER),
        }
    }

    /// Hashes a packet. A packet that lacks a selected field, or is of another protocol than the selector's, hashes to
    /// nothing (value 0, kind 0) and so to the first entry of the table.
    pub fn hash(&self, packet: &Packet<'_>) -> RssHash {
        hash(self.function, &self.key, self.symmetric, &self.select, packet)
    }
}

/// The hash of one packet; see [`Rss::hash`].
pub fn hash(
    function: RxHashFn,
    key: &[u8; 40],
    symmetric: bool,
    selector: &RxHashFieldSelect,
    packet: &Packet<'_>,
) -> RssHash {
    let mut input = Input { bytes: [0; MAX_INPUT], len: 0 };
    let Some(kind) = input.gather(symmetric, selector, packet) else { return RssHash::default() };
    let value = match function {
        RxHashFn::TOEPLITZ => toeplitz(key, input.bytes()),
        RxHashFn::INVERTED_XOR8 => inverted_xor8(input.bytes()),
        _ => return RssHash::default(),
    };
    RssHash { value, kind }
}

/// The selected fields in the order in which Microsoft's RSS specification concatenates them: source address,
/// destination address, source port, destination port, network order.
struct Input {
    bytes: [u8; MAX_INPUT],
    len: usize,
}

impl Input {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn push_pair(&mut self, src: Option<&[u8]>, dst: Option<&[u8]>, symmetric: bool) {
        let (first, second) = match (src, dst) {
            (Some(src), Some(dst)) if symmetric && src > dst => (Some(dst), Some(src)),
            pair => pair,
        };
        first.into_iter().chain(second).for_each(|bytes| self.push(bytes));
    }

    /// Collects the fields; the CQE's hash type, or `None` if the packet is not of the selector's kind.
    fn gather(&mut self, symmetric: bool, selector: &RxHashFieldSelect, packet: &Packet<'_>) -> Option<u8> {
        let fields = selector.get(RxHashFieldSelect::SELECTED_FIELDS);
        let want = |bit: u32| fields & bit != 0;
        let ip = packet.ip.as_ref()?;
        let v6 = matches!(ip.address, Address::V6 { .. });
        if v6 != selector.is_set(RxHashFieldSelect::L3_PROT_TYPE) || fields == 0 {
            return None;
        }
        let (src, dst): (&[u8], &[u8]) = match ip.address {
            Address::V4 { src, dst } => (src, dst),
            Address::V6 { src, dst } => (src, dst),
        };
        self.push_pair(
            Some(src).filter(|_| want(select::SRC_IP)),
            Some(dst).filter(|_| want(select::DST_IP)),
            symmetric,
        );
        let mut cqe = Cqe64::zeroed();
        cqe.set(Cqe64::RSS_HASH_TYPE_IP_SEL, if v6 { 2 } else { 1 });
        if want(select::SRC_PORT) || want(select::DST_PORT) {
            let transport = packet.transport.as_ref()?;
            let udp = transport.tcp.is_none();
            if udp != selector.is_set(RxHashFieldSelect::L4_PROT_TYPE) {
                return None;
            }
            let (src, dst) = (transport.src_port.to_be_bytes(), transport.dst_port.to_be_bytes());
            self.push_pair(
                Some(&src[..]).filter(|_| want(select::SRC_PORT)),
                Some(&dst[..]).filter(|_| want(select::DST_PORT)),
                symmetric,
            );
            cqe.set(Cqe64::RSS_HASH_TYPE_L4_SEL, if udp { 2 } else { 1 });
        }
        Some(cqe.get(Cqe64::RSS_HASH_TYPE) as u8)
    }
}

/// The Toeplitz hash of Microsoft's RSS specification: for every set bit of the input, from the most significant bit
/// of byte 0 on, the 32 bits of the key that begin at the same position.
pub fn toeplitz(key: &[u8; 40], input: &[u8]) -> u32 {
    let mut hash = 0;
    for (at, byte) in input.iter().enumerate().take(MAX_INPUT) {
        // 40 bits of the key from this byte's position on.
        let window = key[at..].iter().take(5).fold(0u64, |bits, b| bits << 8 | u64::from(*b));
        for bit in (0..8).filter(|bit| byte & (0x80 >> bit) != 0) {
            hash ^= (window >> (8 - bit)) as u32;
        }
    }
    hash
}

/// All bytes of the input combined by exclusive or, the result's bits in reverse order: Linux fills the RQT in
/// bit-reversed order for this function, so that entry `reverse(x)` holds the queue of `x`.
pub fn inverted_xor8(input: &[u8]) -> u32 {
    u32::from(input.iter().fold(0, |all, byte| all ^ byte).reverse_bits())
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the Toeplitz hash is Microsoft's, over addresses and over addresses and ports, IPv4 and IPv6 | `toeplitz_gives_the_published_values` |
    //! | a packet of another kind than the selector's, or a fragment asked for its ports, is not hashed | `another_kind_of_packet_is_not_hashed` |
    //! | XOR8 is the exclusive or of all bytes with its bits reversed | `xor8_is_bit_reversed` |
    //! | the symmetric hash does not tell the two directions apart | `a_symmetric_hash_ignores_the_direction` |
    use super::*;
    use crate::packet::PROTOCOL_UDP;
    use crate::packet::build::Build;
    use std::net::{IpAddr, SocketAddr};

    /// The key of the RSS verification suite.
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca,
        0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b,
        0xbe, 0xac, 0x01, 0xfa,
    ];

    /// Destination, source, hash of the addresses, hash of addresses and TCP ports ("Verifying the RSS hash
    /// calculation", Windows driver documentation).
    const VECTORS: &[(&str, &str, u32, u32)] = &[
        ("161.142.100.80:1766", "66.9.149.187:2794", 0x323e_8fc2, 0x51cc_c178),
        ("65.69.140.83:4739", "199.92.111.2:14230", 0xd718_262a, 0xc626_b0ea),
        ("12.22.207.184:38024", "24.19.198.95:12898", 0xd2d0_a5de, 0x5c2b_394a),
        ("209.142.163.6:2217", "38.27.205.30:48228", 0x8298_9176, 0xafc7_327f),
        ("202.188.127.2:1303", "153.39.163.191:44251", 0x5d18_09c5, 0x10e8_28a2),
        ("[3ffe:2501:200:3::1]:1766", "[3ffe:2501:200:1fff::7]:2794", 0x2cc1_8cd5, 0x4020_7d3d),
        ("[ff02::1]:4739", "[3ffe:501:8::260:97ff:fe40:efab]:14230", 0x0f0c_461c, 0xdde5_1bbf),
        ("[fe80::200:f8ff:fe21:67cf]:38024", "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251", 0x4b61_e985, 0x02d1_feef),
    ];

    fn frame(src: SocketAddr, dst: SocketAddr) -> Build {
        let octets = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => {
                let mut all = [0; 16];
                all[..4].copy_from_slice(&ip.octets());
                all
            }
            IpAddr::V6(ip) => ip.octets(),
        };
        Build {
            v6: src.is_ipv6(),
            src: octets(src.ip()),
            dst: octets(dst.ip()),
            src_port: src.port(),
            dst_port: dst.port(),
            ..Build::default()
        }
    }

    fn tirc(function: RxHashFn, v6: bool, udp: bool, fields: u32) -> Tirc {
        let selector = RxHashFieldSelect::zeroed()
            .with(RxHashFieldSelect::L3_PROT_TYPE, v6.into())
            .with(RxHashFieldSelect::L4_PROT_TYPE, udp.into())
            .with(RxHashFieldSelect::SELECTED_FIELDS, fields);
        let mut tirc = Tirc::zeroed()
            .with(Tirc::RX_HASH_FN, function.0.into())
            .with_nested(Tirc::RX_HASH_FIELD_SELECTOR_OUTER, &selector);
        for (index, word) in KEY.chunks(4).enumerate() {
            let word = word.iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
            tirc.set_at(Tirc::RX_HASH_TOEPLITZ_KEY, index, word);
        }
        tirc
    }

    #[test]
    fn toeplitz_gives_the_published_values() {
        for (dst, src, addresses, all) in VECTORS {
            let (dst, src): (SocketAddr, SocketAddr) = (dst.parse().unwrap(), src.parse().unwrap());
            let frame = frame(src, dst).frame();
            let packet = Packet::parse(&frame).unwrap();
            let ip = if src.is_ipv6() { 2 << 2 } else { 1 << 2 };
            let with = |fields| Rss::from_tirc(&tirc(RxHashFn::TOEPLITZ, src.is_ipv6(), false, fields)).hash(&packet);
            assert_eq!(with(0b0011), RssHash { value: *addresses, kind: ip }, "{src}");
            assert_eq!(with(0b1111), RssHash { value: *all, kind: ip | 1 << 6 }, "{src}");
        }
    }

    #[test]
    fn another_kind_of_packet_is_not_hashed() {
        let hash = |tirc: &Tirc, build: Build| Rss::from_tirc(tirc).hash(&Packet::parse(&build.frame()).unwrap());
        let tcp4 = tirc(RxHashFn::TOEPLITZ, false, false, 0b1111);
        let none = RssHash::default();
        assert_ne!(hash(&tcp4, Build::default()), none);
        assert_eq!(hash(&tcp4, Build { v6: true, ..Build::default() }), none);
        assert_eq!(hash(&tcp4, Build { protocol: PROTOCOL_UDP, ..Build::default() }), none);
        assert_eq!(hash(&tcp4, Build { fragment: Some(0x2000), ..Build::default() }), none);
        let addresses = tirc(RxHashFn::TOEPLITZ, false, false, 0b0011);
        assert_ne!(hash(&addresses, Build { fragment: Some(0x2000), ..Build::default() }), none);
        let udp = tirc(RxHashFn::TOEPLITZ, false, true, 0b1111);
        assert_eq!(hash(&udp, Build { protocol: PROTOCOL_UDP, ..Build::default() }).kind, 1 << 2 | 2 << 6);
        assert_eq!(hash(&tirc(RxHashFn::NONE, false, false, 0b1111), Build::default()), none);
        assert_eq!(hash(&tirc(RxHashFn::TOEPLITZ, false, false, 0), Build::default()), none);
    }

    #[test]
    fn xor8_is_bit_reversed() {
        let build = frame("1.2.4.8:256".parse().unwrap(), "16.32.64.128:2".parse().unwrap());
        let frame = build.frame();
        let packet = Packet::parse(&frame).unwrap();
        let hash = |fields| Rss::from_tirc(&tirc(RxHashFn::INVERTED_XOR8, false, false, fields)).hash(&packet).value;
        assert_eq!(hash(0b0001), 0b1111_0000);
        assert_eq!(hash(0b0011), 0b1111_1111);
        // Ports 0x0100 and 0x0002: 1 ^ 2 = 3 takes the two lowest bits away, reversed the two highest.
        assert_eq!(hash(0b1111), 0b0011_1111);
    }

    #[test]
    fn a_symmetric_hash_ignores_the_direction() {
        let (a, b) = ("10.0.0.1:1000".parse().unwrap(), "10.0.0.2:20".parse().unwrap());
        let (there, back) = (frame(a, b).frame(), frame(b, a).frame());
        let (there, back) = (Packet::parse(&there).unwrap(), Packet::parse(&back).unwrap());
        let plain = Rss::from_tirc(&tirc(RxHashFn::TOEPLITZ, false, false, 0b1111));
        let both = Rss::from_tirc(&tirc(RxHashFn::TOEPLITZ, false, false, 0b1111).with(Tirc::RX_HASH_SYMMETRIC, 1));
        assert_ne!(plain.hash(&there), plain.hash(&back));
        assert_eq!(both.hash(&there), both.hash(&back));
    }
}
