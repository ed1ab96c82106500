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
