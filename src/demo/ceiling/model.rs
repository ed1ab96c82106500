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
//! confirms it some packets after it has read everything up to it, and placing begins again. Digests of PDUs of which a byte of
//! data or digest was late, or not looked at, are software's.

use std::collections::{BTreeMap, VecDeque};

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

/// When software knows that a header begins where the device says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// When it has read the header.
    Read,
    /// When it has read the header before, whose length says where the next one begins.
    ByLength,
}

/// How soon software confirms what it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// After so many packets.
    After(u32),
    /// When it gets its turn: turns come after 1 to so many packets, by chance.
    WithTurn(u32),
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
    /// Packets from when software knows of a header to its confirmation.
    pub confirm: Confirm,
    /// When that is.
    pub known: Known,
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
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Packets from one to the first behind the pause between two turns that it falls into: long ones take more packets in. What
    /// is done in a turn holds from the next packet on, so it is never less than one.
    fn until_turn(&mut self, most: u32) -> u64 {
        loop {
            let (pause, within) = (1 + self.next() % u64::from(most), self.next() % u64::from(most));
            if within < pause {
                return pause - within;
            }
        }
    }

    fn happens(&mut self, probability: f64) -> bool {
        ((self.next() >> 11) as f64) < probability * (1u64 << 53) as f64
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
    /// Of packets: where they end, and when everything up to there will be there. Back to the PDU before the last.
    complete: VecDeque<(u64, u64)>,
    random: Random,
    placed: u64,
    digests: u64,
}

impl Model {
    /// Runs the model over this many PDUs; a seed repeats.
    pub fn run(&self, pdus: u64, seed: u64) -> Ceiling {
        let mut random = Random(seed);
        self.run_with(pdus, |_| self.delay(&mut random))
    }

    /// Runs the model with packets that are as late as was measured: this share is late, each by a delay drawn from `delays`,
    /// which are packets and how often that was.
    pub fn run_measured(&self, pdus: u64, seed: u64, share: f64, delays: &[(u32, u64)]) -> Ceiling {
        let total: u64 = delays.iter().map(|(_, times)| times).sum();
        let mut random = Random(seed);
        self.run_with(pdus, |_| {
            if total == 0 || !random.happens(share) {
                return 0;
            }
            let mut left = random.next() % total;
            let drawn = delays.iter().find(|(_, times)| {
                let here = left < *times;
                left = left.saturating_sub(*times);
                here
            });
            drawn.map_or(0, |(delay, _)| u64::from(*delay))
        })
    }

    /// Runs the model with packets that are as late as `delay` says, by their number.
    fn run_with(&self, pdus: u64, mut delay: impl FnMut(u64) -> u64) -> Ceiling {
        let plen = HEADER + u64::from(self.payload) + DIGEST;
        let mut run = Run {
            model: self,
            plen,
            framing: Framing::Known { from: 0 },
            hole_until: 0,
            seen: None,
            vouched: None,
            doubt: false,
            complete: VecDeque::new(),
            random: Random(pdus),
            placed: 0,
            digests: 0,
        };
        let (mut from, mut now) = (0, 0);
        // When everything up to the packet at hand is there; and where the gap before it begins.
        let (mut complete, mut gap) = (0, None);
        let mut under_way = BTreeMap::new();
        while from < pdus * plen {
            let to = self.end_of_packet(from, plen).min(pdus * plen);
            let late = delay(now);
            complete = complete.max(now + late);
            run.remember(from, to, complete);
            if late == 0 {
                if let Some(start) = gap.take() {
                    run.miss(start, from);
                }
                run.packet(from, to, now);
            } else {
                gap.get_or_insert(from);
                under_way.insert((now + late, from), to);
            }
            while let Some(entry) = under_way.first_entry().filter(|entry| entry.key().0 <= now) {
                let ((_, from), end) = entry.remove_entry();
                run.late(from, end, gap.unwrap_or(to), now);
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

    /// Everything before `to` will be there at `complete`.
    fn remember(&mut self, from: u64, to: u64, complete: u64) {
        self.complete.push_back((to, complete));
        while self.complete.front().is_some_and(|(end, _)| *end + 2 * self.plen < from) {
            self.complete.pop_front();
        }
    }

    /// A packet with `from..to` arrives at `now`.
    fn packet(&mut self, from: u64, to: u64, now: u64) {
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
            Framing::Lost => self.search(from, to, None, now),
            Framing::Guessed { .. } => {}
        }
    }

    /// A packet with `from..to` comes late; the device has seen everything before `expected`, or that it is missing.
    fn late(&mut self, from: u64, to: u64, expected: u64, now: u64) {
        if self.framing == Framing::Lost && self.model.search_late {
            self.search(from, to, Some(expected), now);
        }
    }

    /// The device looks for a header in `from..to`. With `expected` the packet is late, and a header whose PDU ends before
    /// that is of no use: the one behind it has gone by.
    fn search(&mut self, from: u64, to: u64, expected: Option<u64>, now: u64) {
        let first = from.div_ceil(self.plen) * self.plen;
        let mut starts = (first..to).step_by(self.plen as usize).take(match self.model.search {
            Search::Anywhere => usize::MAX,
            Search::StartOfPacket => usize::from(first == from),
        });
        let useful =
            |start: &u64| start + HEADER <= to && expected.is_none_or(|expected| start + self.plen >= expected);
        if let Some(start) = starts.find(useful) {
            let read = match self.model.known {
                Known::Read => start + HEADER,
                Known::ByLength => (start + HEADER).saturating_sub(self.plen),
            };
            let index = self.complete.partition_point(|(end, _)| *end < read);
            let known = self.complete.get(index).map_or(0, |(_, complete)| *complete);
            let wait = match self.model.confirm {
                Confirm::After(packets) => u64::from(packets),
                Confirm::WithTurn(most) => self.random.until_turn(most),
            };
            self.framing = Framing::Guessed { confirmed: known.max(now) + wait };
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
        let counts = clean && !std::mem::take(&mut self.doubt);
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

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | without disorder everything is placed and verified; with one run per packet all but what follows the first | `without_disorder_nothing_is_lost` |
    //! | a late packet inside a PDU costs its own bytes, or the rest of the PDU, and one digest | `a_hole_costs_what_the_rule_says` |
    //! | a late packet over a header costs until the confirmation, or the rest of that PDU, by each rule, counted by hand | `a_lost_header_costs_until_the_next_pdu` |
    //! | a search at the start of packets finds what an aligning target sends as well as one that looks anywhere | `an_aligned_stream_is_found_at_packet_starts` |
    //! | delays that were measured are drawn as often as they were | `measured_delays_are_drawn_as_often_as_they_were` |
    //! | software that waits for its turn waits as long as a packet's share of the pause | `turns_come_as_often_as_they_are_said_to` |
    //! | a seed repeats, another differs | `a_seed_repeats` |
    use super::*;

    /// PDUs of ten packets of 100 bytes, header and digest included.
    const MODEL: Model = Model {
        payload: 972,
        mss: 100,
        cut: Cut::Full,
        disorder: Disorder::Loss(0.0),
        round_trip: 6,
        confirm: Confirm::After(2),
        known: Known::Read,
        hole: Hole::Continue,
        search: Search::Anywhere,
        search_late: false,
        resume: Resume::Pdu,
        runs: Runs::All,
        doubt: false,
    };

    /// Bytes that are not placed and digests that are not verified of ten PDUs, of which these packets are late.
    fn cost(model: Model, late: &[(u64, u64)]) -> (u64, u64) {
        let delay = |number| late.iter().find(|(packet, _)| *packet == number).map_or(0, |(_, by)| *by);
        let ceiling = model.run_with(10, delay);
        let bytes = 10.0 * f64::from(model.payload);
        ((bytes * (1.0 - ceiling.placed)).round() as u64, (10.0 * (1.0 - ceiling.digests)).round() as u64)
    }

    #[test]
    fn without_disorder_nothing_is_lost() {
        assert_eq!(cost(MODEL, &[]), (0, 0));
        // Three and a half packets per PDU: of every second header's packet the front belongs to the PDU before.
        let model = Model { payload: 350 - 28, runs: Runs::First, ..MODEL };
        assert_eq!(cost(model, &[]), (5 * (50 - 24), 0));
        assert_eq!(cost(Model { cut: Cut::AtPdus, ..model }, &[]), (0, 0));
    }

    #[test]
    fn a_hole_costs_what_the_rule_says() {
        for by in [1, 6, 40] {
            assert_eq!(cost(MODEL, &[(13, by)]), (100, 1));
            assert_eq!(cost(Model { hole: Hole::Stop, ..MODEL }, &[(13, by)]), (696, 1));
        }
        // Two in one PDU; the packet with the digest.
        assert_eq!(cost(MODEL, &[(13, 6), (15, 6)]), (200, 1));
        assert_eq!(cost(MODEL, &[(19, 6)]), (96, 1));
    }

    #[test]
    fn a_lost_header_costs_until_the_next_pdu() {
        // The header in packet 10 comes at 16; the next one, in packet 20, is found at 20 and known at once; confirmed at 22:
        // the PDUs at 10 and 20 are not placed.
        let late = [(10, 6)];
        assert_eq!(cost(MODEL, &late), (2 * 972, 2));
        // By packet: but for 20 and 21.
        assert_eq!(cost(Model { resume: Resume::Packet, ..MODEL }, &late), (972 + 176, 2));
        // The late packet itself tells: found at 16, confirmed at 18, placed from 20 on.
        assert_eq!(cost(Model { search_late: true, ..MODEL }, &late), (972, 1));
        // It tells nothing if the next header has gone by.
        assert_eq!(cost(Model { search_late: true, ..MODEL }, &[(10, 12)]), (2 * 972, 2));
        // Another packet is missing, until 28: read at 28, confirmed at 30, in time for the PDU at 30. One packet later
        // it is not, but for software that goes by the length in the header at 10.
        let both = |by| [(10, 6), (15, by)];
        assert_eq!(cost(MODEL, &both(13)), (2 * 972, 2));
        assert_eq!(cost(MODEL, &both(14)), (3 * 972, 3));
        assert_eq!(cost(Model { known: Known::ByLength, ..MODEL }, &both(14)), (2 * 972, 2));
        // The first digest after it does not count.
        assert_eq!(cost(Model { doubt: true, ..MODEL }, &late), (2 * 972, 3));
        // The next header is lost too: one PDU more.
        assert_eq!(cost(MODEL, &[(10, 6), (20, 6)]), (3 * 972, 3));
    }

    #[test]
    fn an_aligned_stream_is_found_at_packet_starts() {
        let model = Model {
            payload: 5000,
            mss: 1448,
            disorder: Disorder::Loss(0.02),
            round_trip: 64,
            confirm: Confirm::After(8),
            ..MODEL
        };
        let aligned = Model { cut: Cut::AtPdus, ..model };
        let anywhere = aligned.run(20_000, 1).placed;
        assert!((Model { search: Search::StartOfPacket, ..aligned }.run(20_000, 1).placed - anywhere).abs() < 1e-9);
        let start = Model { search: Search::StartOfPacket, ..model }.run(20_000, 1).placed;
        assert!(start < 0.5 * model.run(20_000, 1).placed, "{start}");
    }

    #[test]
    fn measured_delays_are_drawn_as_often_as_they_were() {
        let model = Model { disorder: Disorder::Loss(0.02), ..MODEL };
        let [short, long] = [6, 60].map(|round_trip| {
            let of = Model { round_trip, ..model };
            let (plain, drawn) = (of.run(40_000, 1), model.run_measured(40_000, 1, 0.02, &[(round_trip, 7)]));
            // Losses of what is sent again are part of what is measured; here they are left out.
            assert!((plain.placed - drawn.placed).abs() < 0.02, "{plain:?}, {drawn:?}");
            drawn.placed
        });
        let mixed = model.run_measured(40_000, 1, 0.02, &[(6, 1), (60, 1)]).placed;
        assert!(long + 0.02 < mixed && mixed < short - 0.02, "{long}, {mixed}, {short}");
        assert_eq!(model.run_measured(100, 1, 0.5, &[]).placed, 1.0);
    }

    #[test]
    fn turns_come_as_often_as_they_are_said_to() {
        let mut random = Random(3);
        let waits: Vec<_> = (0..30_000).map(|_| random.until_turn(24)).collect();
        let mean = waits.iter().sum::<u64>() as f64 / waits.len() as f64;
        // The mean of x (x + 1) / 2 over that of x, for x from 1 to 24.
        assert!((mean - 5200.0 / 2.0 / 300.0).abs() < 0.1, "{mean}");
        assert!(waits.contains(&1) && waits.contains(&24) && !waits.iter().any(|wait| !(1..=24).contains(wait)));
    }

    #[test]
    fn a_seed_repeats() {
        let model = Model { disorder: Disorder::Loss(0.02), ..MODEL };
        assert_eq!(model.run(1000, 5), model.run(1000, 5));
        assert_ne!(model.run(1000, 5), model.run(1000, 6));
    }
}
