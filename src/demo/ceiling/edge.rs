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

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | what is in order ends at the first gap, across the wrap of sequence numbers, however gaps are filled | `the_edge_stops_at_the_first_gap` |
    //! | how long gaps stay open is counted in packets that came in their place | `gaps_are_timed` |
    //! | frames that are no TCP, or carry nothing, are none of its business | `other_frames_are_ignored` |
    use super::*;

    fn frame(sequence: u32, payload: usize) -> Vec<u8> {
        let mut frame = vec![0; 54 + payload];
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&(40 + payload as u16).to_be_bytes());
        frame[23] = 6;
        frame[38..42].copy_from_slice(&sequence.to_be_bytes());
        frame[46] = 5 << 4;
        frame[36..38].copy_from_slice(&4420u16.to_be_bytes());
        frame
    }

    #[test]
    fn the_edge_stops_at_the_first_gap() {
        let mut edge = Edge::default();
        let start = u32::MAX - 149;
        let at = |offset: u32| start.wrapping_add(offset);
        let note = |edge: &mut Edge, from, len| edge.note(&frame(at(from), len));
        note(&mut edge, 0, 100);
        assert!(edge.has_header(at(76)) && !edge.has_header(at(77)));
        note(&mut edge, 200, 100);
        note(&mut edge, 400, 100);
        assert!(!edge.has_header(at(77)));
        // In two parts, the second first.
        note(&mut edge, 150, 50);
        assert!(!edge.has_header(at(77)));
        note(&mut edge, 100, 50);
        assert!(edge.has_header(at(276)) && !edge.has_header(at(277)));
        note(&mut edge, 250, 200);
        assert!(edge.has_header(at(476)) && !edge.has_header(at(477)));
    }

    #[test]
    fn gaps_are_timed() {
        let mut edge = Edge::default();
        edge.note(&frame(0, 100));
        edge.begin();
        for packet in 2..12 {
            edge.note(&frame(packet * 100, 100));
        }
        edge.note(&frame(100, 100));
        assert_eq!((edge.packets(), edge.round_trip()), (10, 9));
    }

    #[test]
    fn other_frames_are_ignored() {
        let mut edge = Edge::default();
        edge.note(&[]);
        edge.note(&[0; 60]);
        edge.note(&frame(5, 0));
        assert_eq!((edge.packets(), edge.round_trip()), (0, 0));
    }
}
