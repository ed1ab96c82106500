//! Looks at every frame at the host's end of the wire: which segments are said again, and the trace of the run.

use crate::demo::world::Tap;
use crate::observe::Direction;
use std::collections::HashMap;
use std::time::Duration;

/// Segments with bytes that were seen before, by direction; and a running checksum of everything.
#[derive(Default)]
pub(super) struct Watch {
    /// End of what was seen, by ports and direction.
    highest: HashMap<(u32, bool), u32>,
    /// Segments of the driver that begin before that.
    pub sent_again: u64,
    /// Segments that reach it and begin before that: repeated, duplicated, or overtaken.
    pub heard_again: u64,
    pub trace: u32,
}

impl Watch {
    fn segment(&mut self, outbound: bool, frame: &[u8]) -> Option<()> {
        let packet = frame.get(14..)?;
        let len = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
        if frame.get(12..14)? != [8, 0] || packet.get(9)? != &6 {
            return None;
        }
        let segment = packet.get(usize::from(packet[0] & 15) * 4..len)?;
        let word = |at: usize| segment.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        let (ports, seq) = (word(0)?, word(4)?);
        let header = usize::from(segment.get(12)? >> 4) * 4;
        let syn = segment.get(13)? & 2 != 0;
        let bytes = segment.len().checked_sub(header)? as u32;
        if bytes == 0 && !syn {
            return None;
        }
        let end = seq.wrapping_add(bytes).wrapping_add(u32::from(syn));
        let known = self.highest.entry((ports, outbound)).or_insert(seq);
        if syn && *known != end {
            *known = seq;
        }
        if (seq.wrapping_sub(*known) as i32) < 0 {
            *(if outbound { &mut self.sent_again } else { &mut self.heard_again }) += 1;
        }
        if (end.wrapping_sub(*known) as i32) > 0 {
            *known = end;
        }
        Some(())
    }
}

impl Tap for Watch {
    fn frame(&mut self, at: Duration, direction: Direction, frame: &[u8]) {
        let outbound = direction == Direction::Outbound;
        let _ = self.segment(outbound, frame);
        // Enough to tell two runs apart: when, which way, and the ends of the frame (its headers and its last bytes).
        let ends = frame.iter().take(64).chain(frame.iter().rev().take(8));
        let mix = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        let times = (at.as_nanos() as u64).to_le_bytes();
        self.trace = times.into_iter().chain([u8::from(outbound)]).chain(ends.copied()).fold(self.trace, mix);
    }
}
