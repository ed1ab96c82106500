//! What the offload can do at best: a stream of packets, and rules. Nothing else: no TCP, no device, no driver.
//!
//! ```text
//!   time = packets    0   1   2   3   …   n         one packet of MSS bytes per unit of time
//!   stream          |HDR·····data·····|DDGST|HDR·····data·····|DDGST|HDR···
//!   late packet           ✗────────── delay ──────────►✓   comes again and bypasses: its bytes count as not placed
//! ```
//!
//! Written from the text of `performance.md` §2.6 and `nvme-tcp-offload.md` §6 alone, and independent of the virtual NIC: the
//! two have to agree. A late packet inside a PDU costs its own bytes (and, with [`Hole::Stop`], the rest of the PDU) and the
//! PDU's digest. A late packet over a header costs the framing: the search finds a header in a later packet, software
//! confirms it some packets after everything up to it is there, and placing begins again. Digests of PDUs of which a byte of
//! data or digest was late, or not looked at, are software's.

use std::collections::BTreeMap;

/// What happens to the rest of a PDU behind a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hole {
    /// It is placed (netdev 0x16).
    Continue,
    /// It is not (ASPLOS'21).
    Stop,
}

/// Where a header is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// Wherever a packet has all of it.
    Anywhere,
    /// At the first byte of a packet (netdev 0x16).
    StartOfPacket,
}

/// Where placing begins again after the confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// With the next packet.
    Packet,
    /// With the next PDU.
    Pdu,
}

/// How much of a packet can be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// All its payload.
    All,
    /// Of the PDUs in it the first one's: a completion has room for one run (`nvme-tcp-offload.md` §5.1).
    First,
}

/// What the network does to packets, independently of each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Disorder {
    /// This share is lost; each comes again one round trip later, if it is not lost again.
    Loss(f64),
    /// This share is overtaken by so many packets.
    Reorder {
        /// Share, 0 to 1.
        share: f64,
        /// Packets.
        distance: u32,
    },
}

/// How a sender cuts the stream into packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// As full as they get.
    Full,
    /// Every PDU starts a packet of its own.
    AtPdus,
}

/// A stream and the rules that it meets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Model {
    /// Payload bytes of a PDU, all alike. The header has 24, the data digest 4.
    pub payload: u32,
    /// Payload bytes of a TCP segment.
    pub mss: u32,
    /// Where packets begin.
    pub cut: Cut,
    /// The network.
    pub disorder: Disorder,
    /// Packets of a round trip.
    pub round_trip: u32,
    /// Packets from a header in order to its confirmation.
    pub confirm: u32,
    /// Rule.
    pub hole: Hole,
    /// Rule.
    pub search: Search,
    /// The search also looks at packets that come late. Otherwise these bypass it as they do everything else.
    pub search_late: bool,
    /// Rule.
    pub resume: Resume,
    /// Rule.
    pub runs: Runs,
    /// The first digest that the device vouches for after a confirmation is checked by software all the same
    /// (`nvme-tcp-offload.md` §6.3, item 6).
    pub doubt: bool,
}

/// Shares of a run of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceiling {
    /// Payload placed, 0 to 1.
    pub placed: f64,
    /// Data digests that software need not check, 0 to 1.
    pub digests: f64,
}

const HEADER: u64 = 24;
const DIGEST: u64 = 4;

/// Numbers that look random and are the same in every run: splitmix64.
struct Random(u64);

impl Random {
    fn happens(&mut self, probability: f64) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ z >> 31) >> 11) as f64) < probability * (1u64 << 53) as f64
    }
}

/// What the device knows of the framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// Known; payload from this byte of the stream on is placed.
    Known { from: u64 },
    /// Lost.
    Lost,
    /// Guessed, to be confirmed at this time.
    Guessed { confirmed: u64 },
}

struct Run<'a> {
    model: &'a Model,
    plen: u64,
    framing: Framing,
    /// Behind a hole that ends placing: payload before this byte stays.
    hole_until: u64,
    /// The PDU (its number) whose header the device saw last while it knew the framing: it can check its digest.
    seen: Option<u64>,
    /// The PDU of whose data and digest no byte so far was in a packet that the device does not vouch for.
    vouched: Option<u64>,
    /// The next packet that the device vouches for does not count.
    doubt: bool,
    placed: u64,
    digests: u64,
}

impl Model {
    /// Runs the model over this many PDUs; a seed repeats.
    pub fn run(&self, pdus: u64, seed: u64) -> Ceiling {
        let plen = HEADER + u64::from(self.payload) + DIGEST;
        let mut run = Run {
            model: self,
            plen,
            framing: Framing::Known { from: 0 },
            hole_until: 0,
            seen: None,
            vouched: None,
            doubt: false,
            placed: 0,
            digests: 0,
        };
        let mut random = Random(seed);
        let (mut from, mut now) = (0, 0);
        // When everything up to the packet at hand is there; and where the gap before it begins.
        let (mut complete, mut gap) = (0, None);
        let mut under_way = BTreeMap::new();
        while from < pdus * plen {
            let to = self.end_of_packet(from, plen).min(pdus * plen);
            let late = self.delay(&mut random);
            complete = complete.max(now + late);
            if late == 0 {
                if let Some(start) = gap.take() {
                    run.miss(start, from);
                }
                run.packet(from, to, now, complete);
            } else {
                gap.get_or_insert(from);
                under_way.insert((now + late, from), (to, complete));
            }
            while let Some(entry) = under_way.first_entry().filter(|entry| entry.key().0 <= now) {
                let ((_, from), (end, complete)) = entry.remove_entry();
                run.late(from, end, gap.unwrap_or(to), now, complete);
            }
            (from, now) = (to, now + 1);
        }
        Ceiling {
            placed: run.placed as f64 / (pdus * u64::from(self.payload)) as f64,
            digests: run.digests as f64 / pdus as f64,
        }
    }

    fn end_of_packet(&self, from: u64, plen: u64) -> u64 {
        let full = from + u64::from(self.mss);
        match self.cut {
            Cut::Full => full,
            // As a segmentation offload: full segments of the stream, each cut where a PDU begins in it.
            Cut::AtPdus => {
                let segment = (from / u64::from(self.mss) + 1) * u64::from(self.mss);
                segment.min((from / plen + 1) * plen)
            }
        }
    }

    /// Packets by which this packet is late.
    fn delay(&self, random: &mut Random) -> u64 {
        match self.disorder {
            Disorder::Loss(share) => {
                let mut trips = 0;
                while random.happens(share) {
                    trips += 1;
                }
                trips * u64::from(self.round_trip)
            }
            Disorder::Reorder { share, distance } => match random.happens(share) {
                true => u64::from(distance),
                false => 0,
            },
        }
    }
}

impl Run<'_> {
    /// The numbers of the PDUs that have a byte of `from..to`.
    fn pdus(&self, from: u64, to: u64) -> std::ops::RangeInclusive<u64> {
        from / self.plen..=(to - 1) / self.plen
    }

    /// `from..to` is late: the device goes on behind it.
    fn miss(&mut self, from: u64, to: u64) {
        let header = self.pdus(from, to).any(|pdu| from < pdu * self.plen + HEADER && pdu * self.plen < to);
        if header {
            (self.framing, self.seen, self.vouched) = (Framing::Lost, None, None);
            return;
        }
        // All of it is inside one PDU, or the gap would have a header in it.
        self.vouched = None;
        if self.model.hole == Hole::Stop {
            self.hole_until = (from / self.plen + 1) * self.plen;
        }
    }

    /// A packet with `from..to` arrives at `now`; everything before `to` will be there at `complete`.
    fn packet(&mut self, from: u64, to: u64, now: u64, complete: u64) {
        if let Framing::Guessed { confirmed } = self.framing
            && confirmed <= now
        {
            // The next PDU is the first whose header ends behind here.
            let next = (from + self.plen - HEADER) / self.plen * self.plen;
            let from = if self.model.resume == Resume::Packet { from } else { next };
            (self.framing, self.doubt) = (Framing::Known { from }, self.model.doubt);
        }
        match self.framing {
            Framing::Known { from: first } => self.process(from, to, first),
            Framing::Lost => self.search(from, to, to, now, complete),
            Framing::Guessed { .. } => {}
        }
    }

    /// A packet with `from..to` comes late; the device has seen everything before `expected`, or that it is missing.
    fn late(&mut self, from: u64, to: u64, expected: u64, now: u64, complete: u64) {
        if self.framing == Framing::Lost && self.model.search_late {
            self.search(from, to, expected, now, complete);
        }
    }

    /// The device looks for a header in `from..to`. One whose PDU ends before `expected` is of no use: the header behind it
    /// has gone by.
    fn search(&mut self, from: u64, to: u64, expected: u64, now: u64, complete: u64) {
        let start = from.div_ceil(self.plen) * self.plen;
        let here = match self.model.search {
            Search::Anywhere => true,
            Search::StartOfPacket => start == from,
        };
        if here && start + HEADER <= to && start + self.plen >= expected {
            self.framing = Framing::Guessed { confirmed: complete.max(now) + u64::from(self.model.confirm) };
        }
    }

    /// A packet meets a device that knows the framing.
    fn process(&mut self, from: u64, to: u64, first: u64) {
        // A packet is vouched for as a whole.
        let mut clean = true;
        let mut has_run = false;
        for pdu in self.pdus(from, to) {
            let start = pdu * self.plen;
            let (data, end) = (start + HEADER, start + self.plen - DIGEST);
            if from <= start && start >= first {
                self.seen = Some(pdu);
            }
            clean &= self.seen == Some(pdu) || to <= data;
            let (low, high) = (data.max(from).max(first).max(self.hole_until), end.min(to));
            if low < high && !(has_run && self.model.runs == Runs::First) {
                self.placed += high - low;
                has_run = true;
            }
        }
        let counts = clean && !(clean && std::mem::take(&mut self.doubt));
        for pdu in self.pdus(from, to) {
            let (start, end) = (pdu * self.plen, (pdu + 1) * self.plen);
            let all = counts || to <= start + HEADER;
            if from <= start + HEADER && all {
                self.vouched = Some(pdu);
            } else if !all {
                self.vouched = None;
            }
            self.digests += u64::from(to >= end && self.vouched == Some(pdu));
        }
    }
}
