//! | property | test |
//! |---|---|
//! | under any loss, reordering, duplication and re-segmentation and any switches the device does with every packet what the oracle says; nothing is written but what it reports, and that is the stream's data in its place; no PDU is vouched for that was not verified | `the_device_does_what_the_oracle_says` |
use super::oracle::Oracle;
use super::stream::{Byte, Digests, LONGEST, pdu};
use super::*;
use proptest::test_runner::TestRunner;
use std::cell::RefCell;
use std::num::NonZeroU32;

/// What becomes of a packet.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    Arrives,
    /// Comes later by so many packets.
    Late(usize),
    /// Comes again.
    Twice(usize),
    /// Is lost and sent again, begun this many bytes earlier and ended as many later.
    Lost(usize, usize, usize),
    /// Is never sent again: the rest of a connection that dies.
    Gone,
}

pub(crate) fn fate() -> impl Strategy<Value = Fate> {
    let grow = || prop_oneof![2 => Just(0usize), 1 => 1usize..400];
    prop_oneof![
        200 => Just(Fate::Arrives),
        20 => (1usize..12).prop_map(Fate::Late),
        10 => (1usize..12).prop_map(Fate::Twice),
        20 => (1usize..12, grow(), grow()).prop_map(|(by, before, behind)| Fate::Lost(by, before, behind)),
        1 => Just(Fate::Gone),
    ]
}

/// The order in which `[from, to)` arrive.
pub(crate) fn arrivals(len: usize, cuts: &[usize], fates: &[Fate]) -> Vec<(usize, usize)> {
    let mut sent = Vec::new();
    let (mut from, mut cuts, mut fates) = (0, cuts.iter().cycle(), fates.iter().cycle());
    let mut time = 0;
    while from < len {
        let to = len.min(from + cuts.next().unwrap());
        // Twice the time, so that what is late comes between two packets.
        match *fates.next().unwrap() {
            Fate::Arrives => sent.push((2 * time, from, to)),
            Fate::Late(by) => sent.push((2 * (time + by) + 1, from, to)),
            Fate::Twice(by) => sent.extend([(2 * time, from, to), (2 * (time + by) + 1, from, to)]),
            Fate::Lost(by, before, behind) => {
                sent.push((2 * (time + by) + 1, from.saturating_sub(before), len.min(to + behind)));
            }
            Fate::Gone => {}
        }
        time += 1;
        from = to;
    }
    sent.sort_by_key(|(time, ..)| *time);
    sent.into_iter().map(|(_, from, to)| (from, to)).collect()
}

/// All switches whose effect the oracle knows.
pub(crate) fn behaviour() -> impl Strategy<Value = Behaviour> {
    let header = (
        prop::sample::select(vec![HoleRule::Continue, HoleRule::Stop]),
        prop::sample::select(vec![HeaderPacket::Placed, HeaderPacket::Ring]),
        prop::sample::select(vec![Overlap::Bypass, Overlap::NewTail]),
        prop::sample::select(vec![SearchRule::Anywhere, SearchRule::StartOfPacket]),
        prop::sample::select(vec![Pattern::TypeAndLength, Pattern::Lengths, Pattern::HeaderDigest]),
        any::<bool>(),
        any::<bool>(),
    );
    let repeat = prop_oneof![
        2 => Just(Repeat::Once),
        1 => Just(Repeat::EveryHeader),
        1 => (1u32..4).prop_map(|n| Repeat::EveryN(NonZeroU32::new(n).unwrap())),
    ];
    let resync = (
        repeat,
        prop_oneof![2 => Just(None), 1 => (1u32..20).prop_map(NonZeroU32::new)],
        prop_oneof![5 => Just(ResyncByte::First), 1 => Just(ResyncByte::Last)],
        prop::sample::select(vec![ConfirmRule::Remembered, ConfirmRule::Tracked]),
        prop::sample::select(vec![ResumeRule::NextPdu, ResumeRule::NextPacket]),
        prop::sample::select(vec![FirstFlag::Right, FirstFlag::WronglySet]),
    );
    let flags = (
        prop::sample::select(vec![Unverified::LatePacket, Unverified::DigestPacket, Unverified::EveryPacket]),
        any::<bool>(),
    );
    (header, resync, flags).prop_map(|(header, resync, flags)| Behaviour {
        hole: header.0,
        header_packet: header.1,
        overlap: header.2,
        search: header.3,
        pattern: header.4,
        longest_guess: LONGEST,
        keep_partial_header: header.5,
        search_late: header.6,
        repeat: resync.0,
        request_limit: resync.1,
        resync_byte: resync.2,
        confirm: resync.3,
        resume: resync.4,
        first_flag: resync.5,
        unverified: flags.0,
        flag_without_data: flags.1,
        ..Behaviour::default()
    })
}

/// Software: which bytes it has in order, what the device asked last, what it will confirm and when.
struct Software {
    has: Vec<bool>,
    in_order: usize,
    asked: Option<usize>,
    /// (arrivals to wait, position)
    confirms: Vec<(usize, usize)>,
    delay: usize,
    /// The next flag that is set is not believed (`nvme-tcp-offload.md` §7.6 item 3).
    doubts: bool,
    /// Bytes that arrived with a flag that is believed.
    vouched: Vec<bool>,
}

impl Software {
    fn new(len: usize, delay: usize) -> Software {
        Software {
            has: vec![false; len],
            in_order: 0,
            asked: None,
            confirms: Vec::new(),
            delay,
            doubts: false,
            vouched: vec![false; len],
        }
    }

    fn receive(&mut self, from: usize, to: usize, flag: bool, resync: Option<usize>, stream: &Stream) {
        self.has[from..to].fill(true);
        self.in_order += self.has[self.in_order..].iter().take_while(|has| **has).count();
        // A newer request takes the place of an older one (§8.1).
        self.asked = resync.or(self.asked);
        if flag && !std::mem::take(&mut self.doubts) {
            self.vouched[from..to].fill(true);
        }
        if let Some(asked) = self.asked.filter(|asked| asked + 24 <= self.in_order) {
            if stream.places.get(&asked).is_some_and(|place| place.real) {
                self.confirms.push((self.delay, asked));
            }
            self.asked = None;
        }
    }

    /// What is confirmed before the next packet arrives.
    fn confirmation(&mut self) -> Option<usize> {
        let (wait, position) = self.confirms.first_mut()?;
        if *wait > 0 {
            *wait -= 1;
            return None;
        }
        let position = *position;
        self.confirms.remove(0);
        Some(position)
    }
}

/// All that makes a run.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) digests: Digests,
    pub(super) pdus: Vec<Pdu>,
    pub(super) cuts: Vec<usize>,
    pub(super) fates: Vec<Fate>,
    pub(super) buffers: Vec<Vec<u32>>,
    pub(super) seq: u32,
    pub(super) which: WhichRun,
    pub(super) behaviour: Behaviour,
    /// Packets that arrive before a confirmation has its effect.
    delay: usize,
    /// Confirmations that nobody asked for: before which arrival, of which header.
    unasked: Vec<(prop::sample::Index, prop::sample::Index)>,
}

pub(super) fn scenario() -> impl Strategy<Value = Scenario> {
    let index = any::<prop::sample::Index>;
    let made = (
        any::<(bool, bool)>(),
        proptest::collection::vec(pdu(4000), 1..30),
        cuts(),
        proptest::collection::vec(fate(), 1..60),
        buffers(2500),
        first_sequence(),
    );
    let device = (
        which(),
        behaviour(),
        prop_oneof![Just(0usize), 0usize..8],
        proptest::collection::vec((index(), index()), 0..3),
    );
    (made, device).prop_map(|(made, device)| Scenario {
        digests: Digests { header: made.0.0, data: made.0.1 },
        pdus: made.1,
        cuts: made.2,
        fates: made.3,
        buffers: made.4,
        seq: made.5,
        which: device.0,
        behaviour: device.1,
        delay: device.2,
        unasked: device.3,
    })
}

/// Runs a scenario; returns what the device counted.
fn run(scenario: &Scenario) -> Result<OffloadCounters, TestCaseError> {
    const MEMORY: u64 = 0x4_0000;
    let &Scenario { digests, ref buffers, seq, which, behaviour, delay, .. } = scenario;
    let stream = stream(&scenario.pdus, digests);
    let headers: Vec<usize> = stream.places.iter().filter(|(_, place)| place.real).map(|(at, _)| *at).collect();
    // Zero confirms nothing.
    prop_assume!(headers.iter().all(|at| seq.wrapping_add(*at as u32) != 0));
    let mut nic = Nic::with(digests, seq, which, behaviour, MEMORY);
    let address = bind_scattered(&mut nic, buffers, MEMORY);
    let fits = |run: &Run| {
        address.get(usize::from(run.ccid)).is_some_and(|buffer| (run.ccoff + run.len) as usize <= buffer.len())
    };
    let mut oracle = Oracle::new(&stream, behaviour, which);
    let len = stream.bytes.len();
    let mut software = Software::new(len, delay);
    let mut memory = vec![0; MEMORY as usize];
    let arrivals = arrivals(len, &scenario.cuts, &scenario.fates);
    let (mut placed, mut requests) = (0u64, 0u64);
    for (index, (from, to)) in arrivals.iter().copied().enumerate() {
        let unasked = scenario.unasked.iter().filter(|(when, _)| when.index(arrivals.len()) == index);
        let unasked = unasked.map(|(_, at)| headers[at.index(headers.len())]);
        for position in software.confirmation().into_iter().chain(unasked) {
            let params = static_params(digests);
            let sequence = seq.wrapping_add(position as u32);
            nic.offload.static_params(TIRN, &params.with(StaticParams::NVME_RESYNC_TCP_SN, sequence)).unwrap();
            oracle.confirm(position);
            software.doubts = true;
        }
        let start = seq.wrapping_add(from as u32);
        let outcome = nic.offload.segment(TIRN, start, &stream.bytes[from..to], &nic.mkeys, &nic.dma);
        let expected = oracle.receive(from, to, fits);
        let described = Outcome {
            placed: expected.placed,
            ddgst_ok: expected.vouched && digests.data,
            resync: expected.resync.map(|at| seq.wrapping_add(at as u32)),
            bypass: expected.bypass,
            error: None,
        };
        prop_assert_eq!(outcome, described, "packet {} of {}: {}..{}", index, arrivals.len(), from, to);
        let progress = nic.offload.progress(TIRN).unwrap();
        prop_assert_eq!(progress.tracker, oracle.tracker());
        prop_assert_eq!(progress.expected, seq.wrapping_add(oracle.expected() as u32));
        prop_assert!(outcome.placed.is_none() || outcome.resync.is_none());
        requests += u64::from(outcome.resync.is_some());
        if let Some(run) = outcome.placed {
            placed += u64::from(run.len);
            for i in 0..run.len {
                // It is data of that command for that place, whatever led the device there.
                let at = from + (run.hole + i) as usize;
                let Byte::Data { cid, offset, .. } = stream.what[at] else { panic!("byte {at} is no data") };
                prop_assert_eq!((cid, offset), (run.ccid, run.ccoff + i));
                let target = address[usize::from(run.ccid)][(run.ccoff + i) as usize];
                memory[(target - BASE) as usize] = stream.bytes[at];
            }
        }
        software.receive(from, to, outcome.ddgst_ok, expected.resync, &stream);
    }
    prop_assert!(nic.memory(MEMORY) == memory, "memory differs");
    // A PDU all of whose data and digest bytes came with the flag was verified, and is right.
    let mut whole = true;
    for (what, vouched) in stream.what.iter().zip(&software.vouched) {
        match what {
            Byte::HeaderEnd => whole = true,
            Byte::Data { .. } | Byte::Digest | Byte::RightDigest => whole &= vouched,
            Byte::WrongDigest => prop_assert!(!(whole && *vouched), "a wrong digest was vouched for"),
            Byte::Plain | Byte::Header => {}
        }
    }
    let c = nic.offload.counters();
    prop_assert_eq!((c.bytes_placed, c.holes, c.lost), (placed, oracle.holes, oracle.lost));
    prop_assert_eq!((c.confirmations, c.confirmations_stale), (oracle.confirmed, oracle.stale));
    prop_assert_eq!(c.requests, requests);
    if behaviour.repeat == Repeat::Once {
        prop_assert!(requests <= c.guesses, "one request per guess");
    }
    prop_assert_eq!(c.packets + c.bypassed.values().sum::<u64>(), arrivals.len() as u64);
    Ok(c.clone())
}

#[test]
fn the_device_does_what_the_oracle_says() {
    let reached = RefCell::new([0u64; 8]);
    let mut runner = TestRunner::new(ProptestConfig { source_file: Some(file!()), ..ProptestConfig::with_cases(1000) });
    let done = runner.run(&scenario(), |scenario| {
        let c = run(&scenario)?;
        let resumed = u64::from(c.bytes_unplaced.contains_key(&Unplaced::Resuming));
        let counts = [
            c.packets_placed,
            c.holes,
            c.lost,
            c.guesses_dropped,
            c.confirmations,
            c.confirmations_stale,
            c.digests_unverified,
            resumed,
        ];
        reached.borrow_mut().iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        Ok(())
    });
    if let Err(failure) = done {
        panic!("{failure}");
    }
    // The scenarios are not all alike: each of these happened, and not once by chance.
    assert!(reached.borrow().iter().all(|count| *count > 20), "{reached:?}");
}

/// Every packet is late and begins 12 bytes early: the headers that are found lie across the byte that is expected, and what
/// is missing after the confirmation was read already.
#[test]
fn a_header_that_was_read_in_a_late_packet_may_be_missing() {
    let data = |len| Pdu::Data { cid: 0, offset: 0, len, padding: 0, good_digest: false, decoy: None };
    let scenario = Scenario {
        digests: Digests { header: false, data: false },
        pdus: [472, 4000, 1112, 1].map(data).to_vec(),
        cuts: vec![1, 1, 1, 1, 44, 1, 1, 6],
        fates: vec![Fate::Lost(1, 12, 0)],
        buffers: vec![vec![]; 6],
        seq: 1,
        which: WhichRun::First,
        behaviour: Behaviour { search_late: true, longest_guess: LONGEST, ..Behaviour::default() },
        delay: 0,
        unasked: vec![],
    };
    let counted = run(&scenario).unwrap();
    assert!(counted.confirmations > 0 && counted.holes > 0, "{counted:?}");
}
