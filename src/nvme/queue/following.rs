//! Where the device is in the stream, as far as software can tell: only for saying why something was not placed.
//!
//! The stream is read in order, with late packets in their places. To the device, which has seen everything else in the
//! order in which it came, these places were holes (`nvme-tcp-offload.md` §6.2, §6.3):
//!
//! ```text
//!               hole in data or digest           the packet with the next PDU header is over
//!  Following ───────────────────────────► Hole ────────────────────────────────────────────────► Following
//!      ▲  │     hole over a PDU header      │ likewise
//!      │  └───────────────────────────────► Searching
//!      └────── a packet with a placed run is over ─┘
//! ```
//!
//! What the device asks comes with a packet, and the stream is read later: the question stands beside that, and divides the
//! stream into what was searched and what waited for the answer.

use super::receive::before;
use crate::frame::{Bypass, Frame};
use crate::nvme::payload::Cause;

/// What a packet tells beside its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// Sequence number of its first byte.
    pub(super) seq: u32,
    /// The device vouches for every data digest, or part of one, of these bytes.
    pub(super) digest_ok: bool,
    /// It does, and is not believed.
    pub(super) doubted: bool,
    /// The device placed a run of the packet.
    pub(super) placed: bool,
    /// Why it cannot have.
    pub(super) bypass: Bypass,
}

impl Told {
    #[inline(always)]
    pub(super) fn of(seq: u32, frame: &Frame) -> Told {
        Told {
            seq,
            digest_ok: frame.digest_ok(),
            doubted: frame.digest_doubted(),
            placed: frame.placed().is_some(),
            bypass: frame.bypass(),
        }
    }

    /// True if the packet was a hole to the device.
    #[inline(always)]
    pub(super) fn is_hole(&self) -> bool {
        matches!(self.bypass, Bypass::Late | Bypass::Unsteered)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Following,
    Hole,
    Searching,
}

/// Where the device is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Device {
    /// By the holes that the stream had.
    at: At,
    /// Whether a PDU begins here, it has asked; ahead of the stream as a rule.
    asked: Option<u32>,
    /// With the next packet it follows again.
    until_next: bool,
    /// A hole came since the last header that did not come late.
    hole: bool,
    /// There is something to be kept: it does not just follow.
    astray: bool,
}

impl Device {
    /// A packet begins.
    #[inline(always)]
    pub(super) fn packet(&mut self, told: &Told) {
        if self.astray || told.bypass != Bypass::No {
            self.odd_packet(told);
        }
    }

    #[cold]
    fn odd_packet(&mut self, told: &Told) {
        if self.until_next {
            (self.at, self.until_next) = (At::Following, false);
        }
        self.hole |= told.is_hole();
        if told.is_hole() && self.at == At::Following {
            self.at = At::Hole;
        }
        // Whatever is placed of a PDU with a hole, the hole has an effect on the packet with the next header.
        if told.placed && self.at == At::Searching {
            match self.hole {
                true => self.at = At::Hole,
                false => self.until_next = true,
            }
        }
        if told.placed && self.asked.is_some_and(|asked| !before(told.seq, asked)) {
            self.asked = None;
        }
        self.astray = self.at != At::Following || self.asked.is_some();
    }

    /// Bytes of a PDU header at `position` are in a packet of this kind.
    #[inline(always)]
    pub(super) fn header(&mut self, position: u32, told: &Told) {
        if told.is_hole() {
            self.lost_header(position);
        }
    }

    #[cold]
    fn lost_header(&mut self, position: u32) {
        // A hole behind the place that it asked about came after the question.
        self.asked = self.asked.filter(|asked| before(position, *asked));
        (self.at, self.until_next, self.astray) = (At::Searching, false, true);
    }

    /// The present packet completes a PDU header.
    #[inline(always)]
    pub(super) fn header_complete(&mut self, told: &Told) {
        self.until_next |= self.at == At::Hole;
        self.hole &= told.is_hole();
    }

    /// The device asks whether a PDU begins at `seq`.
    pub(super) fn asks(&mut self, seq: u32) {
        (self.asked, self.astray) = (Some(seq), true);
    }

    /// Why bytes at `position`, in a packet of this kind, were not placed. `early`: nothing of the command was before.
    #[cold]
    pub(super) fn why_not_placed(&self, position: u32, told: &Told, early: bool) -> Cause {
        match (told.bypass, told.placed) {
            (Bypass::No, true) => Cause::SecondRun,
            (Bypass::No, false) => self.why(position).unwrap_or(Cause::Unknown { early }),
            (bypass, _) => Cause::Bypass(bypass),
        }
    }

    /// Why the digests of bytes at `position`, in a packet of this kind, were not vouched for.
    #[cold]
    pub(super) fn why_not_checked(&self, position: u32, told: &Told) -> Cause {
        match told.bypass {
            Bypass::No if told.doubted => Cause::Doubted,
            Bypass::No => self.why(position).unwrap_or(Cause::Unknown { early: false }),
            bypass => Cause::Bypass(bypass),
        }
    }

    fn why(&self, position: u32) -> Option<Cause> {
        match (self.at, self.asked) {
            (_, Some(asked)) if !before(position, asked) => Some(Cause::Asked),
            (At::Hole, _) => Some(Cause::Hole),
            // Who asks has searched before.
            (At::Searching, _) | (At::Following, Some(_)) => Some(Cause::Searching),
            (At::Following, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | a hole explains what follows it up to the packet with the next header, a lost header until something is placed | `a_hole_ends_with_the_next_header` |
    //! | what came before the place that the device asks about was searched, what came behind waited | `a_question_divides_the_stream` |
    //! | a placed run ends a search, for the digests with the packet after | `a_placed_run_ends_a_search` |
    //! | how the packet came, and another run of it, explain more than the stream does | `the_packet_explains_first` |
    use super::*;

    const PLAIN: Told = Told { seq: 0, digest_ok: false, doubted: false, placed: false, bypass: Bypass::No };
    const LATE: Told = Told { bypass: Bypass::Late, ..PLAIN };
    const PLACED: Told = Told { placed: true, ..PLAIN };

    /// After these packets, 100 bytes each: is a header in it, and what kind. Asked about bytes in the last.
    fn after(device: &mut Device, from: u32, packets: &[(bool, Told)]) -> [Cause; 2] {
        let mut seq = from;
        for (header, told) in packets {
            device.packet(&Told { seq, ..*told });
            if *header {
                device.header(seq.wrapping_add(10), told);
                device.header_complete(told);
            }
            seq = seq.wrapping_add(100);
        }
        let told = packets.last().map_or(PLAIN, |(_, told)| *told);
        [device.why_not_placed(seq.wrapping_sub(20), &told, false), device.why_not_checked(seq.wrapping_sub(20), &told)]
    }

    const UNKNOWN: Cause = Cause::Unknown { early: false };

    #[test]
    fn a_hole_ends_with_the_next_header() {
        let hole = |packets: &[(bool, Told)]| after(&mut Device::default(), u32::MAX - 150, packets);
        assert_eq!(hole(&[(true, PLAIN), (false, PLAIN)]), [UNKNOWN; 2]);
        assert_eq!(hole(&[(false, LATE)]), [Cause::Bypass(Bypass::Late); 2]);
        assert_eq!(hole(&[(false, LATE), (false, PLAIN)]), [Cause::Hole; 2]);
        assert_eq!(hole(&[(false, LATE), (false, PLAIN), (true, PLAIN)]), [Cause::Hole; 2]);
        assert_eq!(hole(&[(false, LATE), (true, PLAIN), (false, PLAIN)]), [UNKNOWN; 2]);
        assert_eq!(hole(&[(true, LATE), (true, PLAIN), (false, PLAIN)]), [Cause::Searching; 2]);
        assert_eq!(hole(&[(false, LATE), (true, LATE), (false, PLAIN)]), [Cause::Searching; 2]);
    }

    #[test]
    fn a_question_divides_the_stream() {
        let mut device = Device::default();
        device.asks(500);
        assert_eq!(after(&mut device, 0, &[(true, LATE), (false, PLAIN)]), [Cause::Searching; 2]);
        assert_eq!(after(&mut device, 200, &[(true, PLACED), (true, PLAIN)]), [Cause::Searching; 2], "placed before");
        assert_eq!(after(&mut device, 500, &[(true, PLAIN)]), [Cause::Asked; 2]);
        assert_eq!(after(&mut device, 600, &[(true, LATE), (true, PLAIN)]), [Cause::Searching; 2], "lost again");
        device.asks(900);
        assert_eq!(after(&mut device, 900, &[(true, PLACED), (false, PLAIN)]), [UNKNOWN; 2]);
    }

    #[test]
    fn a_placed_run_ends_a_search() {
        let mut device = Device::default();
        let packets = [(true, LATE), (true, PLAIN), (false, PLACED)];
        assert_eq!(after(&mut device, 0, &packets), [Cause::SecondRun, Cause::Searching]);
        assert_eq!(after(&mut device, 300, &[(false, PLAIN)]), [UNKNOWN; 2]);
        // Not what a hole does to the packet with the next header.
        let packets = [(false, LATE), (false, PLACED), (true, PLAIN)];
        assert_eq!(after(&mut Device::default(), 0, &packets), [Cause::Hole; 2]);
    }

    #[test]
    fn the_packet_explains_first() {
        let refused = Told { bypass: Bypass::Refused, ..PLAIN };
        let doubted = Told { doubted: true, ..PLACED };
        let after = |packets: &[(bool, Told)]| after(&mut Device::default(), 0, packets);
        assert_eq!(after(&[(true, refused)]), [Cause::Bypass(Bypass::Refused); 2]);
        assert_eq!(after(&[(true, refused), (false, PLAIN)]), [UNKNOWN; 2], "the device has seen that packet");
        assert_eq!(after(&[(true, LATE), (false, doubted)]), [Cause::SecondRun, Cause::Doubted]);
    }
}
