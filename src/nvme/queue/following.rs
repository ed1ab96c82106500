//! Where the device is in the stream, as far as software can tell: only for saying why something was not placed.
//!
//! The stream is read in order, with late packets in their places. To the device, which has seen everything else in the
//! order in which it came, these places were holes (`nvme-tcp-offload.md` §6.2, §6.3):
//!
//! ```text
//!               hole in data or digest                    the packet after the one with the next PDU header
//!  Following ───────────────────────────► Hole ──► LastOfHole ─────────────────────────────────► Following
//!      ▲  │     hole over a PDU header      │ likewise
//!      │  └───────────────────────────────► Searching ── the device asks ──► Asked
//!      └──────────── a placed run ──────────────┴───────────────────────────────┘
//! ```

use super::receive::before;
use crate::frame::{Bypass, Frame};
use crate::nvme::payload::Cause;

/// What a packet tells beside its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
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
    pub(super) fn of(frame: &Frame) -> Told {
        Told {
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
pub(super) enum Following {
    #[default]
    Yes,
    Hole,
    /// The header after a hole is in the present packet.
    LastOfHole,
    Searching,
    /// About this sequence number.
    Asked(u32),
}

impl Following {
    /// A packet begins, at `seq` of the stream.
    #[inline(always)]
    pub(super) fn packet(&mut self, seq: u32, told: &Told) {
        if *self != Following::Yes || told.bypass != Bypass::No {
            self.odd_packet(seq, told);
        }
    }

    #[cold]
    fn odd_packet(&mut self, seq: u32, told: &Told) {
        *self = match *self {
            Following::Asked(asked) if told.placed && !before(seq, asked) => Following::Yes,
            Following::Asked(asked) => Following::Asked(asked),
            _ if told.placed => Following::Yes,
            Following::Yes | Following::LastOfHole if told.is_hole() => Following::Hole,
            Following::LastOfHole => Following::Yes,
            other => other,
        };
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
        *self = match *self {
            // The hole lies before what the device asked about: that came after it.
            Following::Asked(asked) if before(position, asked) => Following::Asked(asked),
            _ => Following::Searching,
        };
    }

    /// The present packet completes a PDU header.
    #[inline(always)]
    pub(super) fn header_complete(&mut self) {
        if *self == Following::Hole {
            *self = Following::LastOfHole;
        }
    }

    /// The device asks whether a PDU begins at `seq`.
    pub(super) fn asked(&mut self, seq: u32) {
        *self = Following::Asked(seq);
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
        match *self {
            Following::Yes => None,
            Following::Hole | Following::LastOfHole => Some(Cause::Hole),
            Following::Asked(asked) if !before(position, asked) => Some(Cause::Asked),
            Following::Asked(_) | Following::Searching => Some(Cause::Searching),
        }
    }
}
