//! Frames for tests, header by header.

use super::{ETHERTYPE_CVLAN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_SVLAN, PROTOCOL_TCP, fill_checksums, tcp_flag};

/// A frame to be built. The defaults make an IPv4 TCP segment with right checksums.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    pub(crate) dmac: [u8; 6],
    /// (service tag, TCI), outermost first.
    pub(crate) vlans: Vec<(bool, u16)>,
    /// IPv4 addresses take the first four bytes.
    pub(crate) v6: bool,
    pub(crate) src: [u8; 16],
    pub(crate) dst: [u8; 16],
    /// 32-bit words of IPv4 options, or IPv6 destination-option headers of 8 bytes.
    pub(crate) ip_options: usize,
    /// Fragment offset and flags: the low 16 bits of the IPv4 field, or an IPv6 fragment header's.
    pub(crate) fragment: Option<u16>,
    pub(crate) protocol: u8,
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
    pub(crate) seq: u32,
    pub(crate) flags: u16,
    /// 32-bit words of TCP options.
    pub(crate) tcp_options: usize,
    pub(crate) payload: Vec<u8>,
    /// Pad behind the datagram with these bytes.
    pub(crate) padding: Vec<u8>,
}

impl Default for Build {
    fn default() -> Build {
        Build {
            dmac: [2, 0, 0, 0, 0, 1],
            vlans: Vec::new(),
            v6: false,
            src: [10, 0, 0, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
            dst: [10, 0, 0, 1, 95, 96, 97, 98, 99, 90, 91, 92, 93, 94, 95, 96],
            ip_options: 0,
            fragment: None,
            protocol: PROTOCOL_TCP,
            src_port: 4420,
            dst_port: 50000,
            seq: 0,
            flags: tcp_flag::ACK,
            tcp_options: 0,
            payload: Vec::new(),
            padding: Vec::new(),
        }
    }
}

impl Build {
    /// A TCP segment.
    pub(crate) fn tcp(seq: u32, payload: &[u8]) -> Build {
        Build { seq, payload: payload.to_vec(), ..Build::default() }
    }

    /// Bytes in front of the L4 payload.
    pub(crate) fn header_len(&self) -> usize {
        let options = self.ip_options * if self.v6 { 8 } else { 4 };
        let fragment = if self.v6 && self.fragment.is_some() { 8 } else { 0 };
        let ip = if self.v6 { 40 } else { 20 } + options + fragment;
        let l4 = if self.protocol == PROTOCOL_TCP { 20 + 4 * self.tcp_options } else { 8 };
        14 + 4 * self.vlans.len() + ip + l4
    }

    /// The frame.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut f = Vec::new();
        f.extend(self.dmac);
        f.extend([2, 0, 0, 0, 0, 2]);
        for (service, tci) in &self.vlans {
            f.extend(if *service { ETHERTYPE_SVLAN } else { ETHERTYPE_CVLAN }.to_be_bytes());
            f.extend(tci.to_be_bytes());
        }
        let l4_len = if self.protocol == PROTOCOL_TCP { 20 + 4 * self.tcp_options } else { 8 } + self.payload.len();
        if self.v6 {
            f.extend(ETHERTYPE_IPV6.to_be_bytes());
            let fragment = if self.fragment.is_some() { 8 } else { 0 };
            f.extend([0x60, 0, 0, 0]);
            f.extend(((self.ip_options * 8 + fragment + l4_len) as u16).to_be_bytes());
            let last = if self.fragment.is_some() { 44 } else { self.protocol };
            f.extend([if self.ip_options > 0 { 60 } else { last }, 64]);
            f.extend(self.src);
            f.extend(self.dst);
            for left in (0..self.ip_options).rev() {
                // A destination-options header that holds one PadN option.
                f.extend([if left > 0 { 60 } else { last }, 0, 1, 4, 0, 0, 0, 0]);
            }
            if let Some(field) = self.fragment {
                f.extend([self.protocol, 0]);
                f.extend(field.to_be_bytes());
                f.extend([0, 0, 0, 7]);
            }
        } else {
            f.extend(ETHERTYPE_IPV4.to_be_bytes());
            f.extend([0x45 + self.ip_options as u8, 0]);
            f.extend(((20 + 4 * self.ip_options + l4_len) as u16).to_be_bytes());
            f.extend([0, 1]);
            f.extend(self.fragment.unwrap_or(0x4000).to_be_bytes());
            f.extend([64, self.protocol, 0, 0]);
            f.extend(&self.src[..4]);
            f.extend(&self.dst[..4]);
            // No-operation options.
            f.extend(std::iter::repeat_n(1, 4 * self.ip_options));
        }
        f.extend(self.src_port.to_be_bytes());
        f.extend(self.dst_port.to_be_bytes());
        if self.protocol == PROTOCOL_TCP {
            f.extend(self.seq.to_be_bytes());
            f.extend([0, 0, 0, 9]);
            f.extend(((5 + self.tcp_options as u16) << 12 | self.flags).to_be_bytes());
            f.extend([0xff, 0xff, 0, 0, 0, 0]);
            f.extend(std::iter::repeat_n(1, 4 * self.tcp_options));
        } else {
            f.extend((l4_len as u16).to_be_bytes());
            f.extend([0, 0]);
        }
        f.extend(&self.payload);
        f.extend(&self.padding);
        fill_checksums(&mut f, !self.v6, true);
        f
    }
}
