//! How far a TCP stream has come at the host's end of the wire, read from the frames themselves.

use std::collections::BTreeMap;

/// The stream of the connection that last carried payload; there is one at a time.
#[derive(Debug, Default)]
pub(super) struct Edge {
    port: u16,
    /// One beyond the highest byte that came.
    highest: u32,
    /// What is missing below, by distance from `base`: (first, (end, packets before the one that overtook it first)).
    missing: BTreeMap<u64, (u64, u64)>,
    /// Sequence number 0 of the distances, and how often it wrapped since.
    position: u64,
    packets: u64,
    /// Bytes that came in their place, and bytes that were missing when the next came.
    bytes: (u64, u64),
    counting: bool,
    /// Packets that overtook what was missing until it had come, by number of packets.
    filled: BTreeMap<u32, u64>,
}

impl Edge {
    /// From here on it is counted.
    pub(super) fn begin(&mut self) {
        (self.counting, self.packets, self.bytes) = (true, 0, (0, 0));
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
            if ahead > 0 {
                self.missing.insert(self.position, (from, self.packets));
            }
            self.packets += 1;
            self.bytes.0 += length as u64;
            self.bytes.1 += ahead.unsigned_abs();
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

    /// Packets in their place since [`Edge::begin`].
    pub(super) fn packets(&self) -> u64 {
        self.packets
    }

    /// Share of the bytes since [`Edge::begin`] that did not come in their place.
    pub(super) fn late(&self) -> f64 {
        let (on_time, late) = self.bytes;
        late as f64 / ((on_time + late) as f64).max(1.0)
    }

    /// Packets that overtook what was missing until it had come, and how often. None is zero.
    pub(super) fn delays(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.filled.iter().map(|(packets, times)| (*packets, *times))
    }

    /// Packets that overtook what was missing until it had come: the median.
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
    //! | a gap is closed when all of it has come, in parts or with more, across the wrap of sequence numbers | `gaps_are_filled_in_any_way` |
    //! | how long gaps stay open is counted in packets that overtook what was missing | `gaps_are_timed` |
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
    fn gaps_are_filled_in_any_way() {
        let mut edge = Edge::default();
        let start = u32::MAX - 149;
        let note = |edge: &mut Edge, from: u32, len| edge.note(&frame(start.wrapping_add(from), len));
        note(&mut edge, 0, 100);
        edge.begin();
        note(&mut edge, 200, 100);
        note(&mut edge, 400, 100);
        assert_eq!(edge.missing.len(), 2);
        // In two parts, the second first: each counts when it has come as a whole.
        note(&mut edge, 150, 50);
        assert_eq!((edge.missing.len(), edge.delays().count()), (2, 0));
        note(&mut edge, 100, 50);
        assert_eq!((edge.missing.len(), edge.delays().next()), (1, Some((2, 1))));
        // By a segment that has more.
        note(&mut edge, 250, 200);
        assert_eq!((edge.missing.len(), edge.packets()), (0, 2));
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
        assert_eq!((edge.packets(), edge.round_trip()), (10, 10));
        assert!((edge.late() - 1.0 / 11.0).abs() < 1e-9);
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
