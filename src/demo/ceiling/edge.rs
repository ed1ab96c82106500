//! How far a TCP stream has come at the host's end of the wire, read from the frames themselves.

use std::collections::BTreeMap;

/// Bytes of a C2HData header.
const HEADER: u32 = 24;

/// The stream of the connection that last carried payload; there is one at a time.
#[derive(Debug, Default)]
pub(super) struct Edge {
    port: u16,
    /// One beyond the highest byte that came.
    highest: u32,
    /// What is missing below, by distance from `base`: (first, (end, packets when it was found missing)).
    missing: BTreeMap<u64, (u64, u64)>,
    /// Sequence number 0 of the distances, and how often it wrapped since.
    position: u64,
    packets: u64,
    counting: bool,
    /// Packets until what was missing had come, by number of packets.
    filled: BTreeMap<u32, u64>,
}

impl Edge {
    /// From here on it is counted.
    pub(super) fn begin(&mut self) {
        (self.counting, self.packets) = (true, 0);
    }

    /// A frame reaches the host.
    pub(super) fn note(&mut self, frame: &[u8]) {
        // Ethernet, IPv4 without options (our sender has none), TCP: RFC 791, RFC 9293 §3.1.
        let Some(header) = frame.get(14..54).filter(|ip| ip[0] == 0x45 && ip[9] == 6) else { return };
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let tcp = &header[20..];
        let length = total.saturating_sub(20 + usize::from(tcp[12] >> 4) * 4);
        if length == 0 {
            return;
        }
        let port = u16::from_be_bytes([tcp[2], tcp[3]]);
        let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        if port != self.port {
            *self = Edge { port, highest: sequence, position: 1 << 32, counting: self.counting, ..Edge::default() };
        }
        let ahead = i64::from(sequence.wrapping_sub(self.highest) as i32);
        let from = self.position.wrapping_add_signed(ahead);
        let to = from + length as u64;
        if ahead >= 0 {
            self.packets += 1;
            if ahead > 0 {
                self.missing.insert(self.position, (from, self.packets));
            }
            (self.position, self.highest) = (to, sequence.wrapping_add(length as u32));
        } else {
            self.fill(from, to);
        }
    }

    fn fill(&mut self, from: u64, to: u64) {
        let touched: Vec<_> =
            self.missing.range(..to).filter(|(_, (end, _))| *end > from).map(|(at, m)| (*at, *m)).collect();
        for (start, (end, since)) in touched {
            self.missing.remove(&start);
            if start < from {
                self.missing.insert(start, (from, since));
            }
            if to < end {
                self.missing.insert(to, (end, since));
            }
            if self.counting && from <= start && end <= to {
                *self.filled.entry((self.packets - since) as u32).or_default() += 1;
            }
        }
    }

    /// True if the header that begins at `sequence` is there, and everything before it.
    pub(super) fn has_header(&self, sequence: u32) -> bool {
        let in_order = self.missing.first_key_value().map_or(self.position, |(start, _)| *start);
        let behind = self.highest.wrapping_sub((self.position - in_order) as u32);
        behind.wrapping_sub(sequence.wrapping_add(HEADER)) as i32 >= 0
    }

    /// Packets in their place since [`Edge::begin`].
    pub(super) fn packets(&self) -> u64 {
        self.packets
    }

    /// Packets until what was missing had come: the median.
    pub(super) fn round_trip(&self) -> u32 {
        let all: u64 = self.filled.values().sum();
        let mut seen = 0;
        let median = self.filled.iter().find(|(_, n)| {
            seen += **n;
            2 * seen >= all
        });
        median.map_or(0, |(packets, _)| *packets)
    }
}
