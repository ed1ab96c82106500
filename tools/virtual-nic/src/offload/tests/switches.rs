//! | property | test |
//! |---|---|
//! | a lost header: search, request, tracking, confirmation, resumption, with the counters of each | `a_lost_header_is_found_again` |
//! | an episode counts its requests, and those made while another waited | `an_episode_counts_requests` |
//! | a hole inside a PDU costs its digest, and the rest is placed or not as the rule says | `each_hole_rule_keeps_the_framing` |
//! | a hole that ends exactly with its PDU loses nothing but that | `a_hole_up_to_the_next_header_keeps_the_framing` |
//! | a hole in padding is no hole in the data: the digest is verified | `a_hole_in_padding_costs_no_digest` |
//! | the packet with the header behind a hole is placed or not, the header counts | `the_packet_with_the_next_header` |
//! | which packets of a PDU with a hole have the digest flag | `which_packets_of_a_holed_pdu_are_flagged` |
//! | a packet that is old in part bypasses or is processed from its first new byte | `a_packet_that_is_old_in_part` |
//! | the search looks at the start of packets only, or anywhere | `each_search_rule_looks_in_its_places` |
//! | a search that looks at late packets finds the lost header itself, if its PDU is not over | `a_late_header_is_found_or_not` |
//! | each pattern refuses what the weaker ones take | `each_pattern_refuses_more` |
//! | a guess that is too long to be believed is none | `a_guess_has_a_longest_length` |
//! | a cut header is recognised only where the switch says so, and only if the packets follow each other | `a_cut_header_is_kept_or_not` |
//! | requests are made once, with every header, or with every n-th | `requests_are_repeated_as_told` |
//! | an unanswered request is dropped after so many packets | `an_unanswered_request_is_dropped` |
//! | a request names the first byte, or the last | `a_request_names_one_of_two_bytes` |
//! | what confirms, and what is too late or about something else; nothing is placed on a guess | `stale_confirmations_change_nothing` |
//! | placing begins again at the next PDU or the next packet | `each_resume_rule_begins_in_its_place` |
//! | the first flag after a resync can be wrong, once | `the_first_flag_can_be_wrong_once` |
//! | packets without data have the flag or not | `packets_without_data` |
//! | an inconsistent header is fatal to the framing or is delivered | `an_inconsistent_header` |
//! | data that does not continue its command is placed or not | `data_that_does_not_continue` |
//! | each cause of an unusable tag has its own reaction | `each_unusable_tag_has_its_reaction` |
//! | a binding takes effect after packets or time; a free at once | `a_binding_takes_its_time` |
use super::*;
use std::num::NonZeroU32;

const MEMORY: u64 = 0x4000;

/// A connection from sequence number 1000 on, all tags bound.
struct Line {
    nic: Nic,
    stream: Stream,
}

fn line(pdus: &[Pdu], digests: Digests, behaviour: Behaviour) -> Line {
    let mut nic = Nic::with(digests, 1000, WhichRun::First, behaviour, MEMORY);
    (0..TAGS).for_each(|tag| nic.bind(tag, &[(BASE + 0x800 * u64::from(tag), 0x800)]));
    Line { nic, stream: stream(pdus, digests) }
}

impl Line {
    /// Packet that carries `[from, to)` of the stream.
    fn send(&mut self, from: usize, to: usize) -> Outcome {
        self.nic.segment(1000 + from as u32, &self.stream.bytes[from..to])
    }

    /// Bytes that a packet placed.
    fn placed(&mut self, from: usize, to: usize) -> u32 {
        self.send(from, to).placed.map_or(0, |run| run.len)
    }

    /// What a packet asks to be confirmed, as a place in the stream.
    fn asked(&mut self, from: usize, to: usize) -> Option<usize> {
        self.send(from, to).resync.map(|sequence| sequence as usize - 1000)
    }

    fn confirm(&mut self, position: usize) {
        let params = static_params(NO_DIGESTS).with(StaticParams::NVME_RESYNC_TCP_SN, 1000 + position as u32);
        self.nic.offload.static_params(TIRN, &params).unwrap();
    }

    fn confirm_with_digests(&mut self, position: usize) {
        let params = static_params(DATA_DIGEST).with(StaticParams::NVME_RESYNC_TCP_SN, 1000 + position as u32);
        self.nic.offload.static_params(TIRN, &params).unwrap();
    }

    fn tracker(&self) -> Tracker {
        self.nic.offload.progress(TIRN).unwrap().tracker
    }

    fn counters(&self) -> OffloadCounters {
        self.nic.offload.counters().clone()
    }
}

/// PDUs of this many bytes of data, for commands 0, 1, 2 ...
fn reads(lengths: &[u32]) -> Vec<Pdu> {
    lengths.iter().enumerate().map(|(cid, len)| data(cid as u16, 0, *len)).collect()
}

#[test]
fn a_lost_header_is_found_again() {
    // Headers at 0, 124, 248, 372, 496.
    let mut line = line(&reads(&[100; 5]), NO_DIGESTS, Behaviour::default());
    assert_eq!(line.placed(0, 100), 76);
    // [100, 200) is lost, and the header at 124 with it.
    assert_eq!(line.send(200, 248), Outcome::bypassed(Bypass::Searching));
    let awaited = |line: &Line| line.nic.offload.progress(TIRN).unwrap().awaited;
    assert_eq!((line.tracker(), awaited(&line)), (Tracker::Searching, None));
    let outcome = line.send(248, 300);
    assert_eq!(outcome, Outcome { resync: Some(1248), ..Outcome::bypassed(Bypass::Searching) });
    assert_eq!((line.tracker(), awaited(&line)), (Tracker::Tracking, Some(1248)));
    // The retransmission changes nothing; the headers are followed, nothing is placed.
    assert_eq!(line.send(100, 200), Outcome::bypassed(Bypass::Early));
    assert_eq!(line.send(300, 400), Outcome::bypassed(Bypass::Unconfirmed));
    line.confirm(248);
    assert_eq!((line.tracker(), awaited(&line)), (Tracker::Offloading, None));
    // The PDU at hand was not followed with the framing known; the next is placed.
    let outcome = line.send(400, 596);
    assert_eq!(outcome.placed, Some(Run { hole: 54 + 96 + 24, len: 76, ccid: 4, ccoff: 0 }));
    let c = line.counters();
    assert_eq!((c.lost, c.guesses, c.requests, c.confirmations), (1, 1, 1, 1));
    assert_eq!((c.guesses_dropped, c.confirmations_stale, c.holes), (0, 0, 0));
    assert_eq!(c.bytes_unplaced, BTreeMap::from([(Unplaced::Resuming, 96)]));
    assert_eq!(c.bypassed, BTreeMap::from([(Bypass::Early, 1), (Bypass::Searching, 2), (Bypass::Unconfirmed, 1)]));
    // Five packets from the first behind the gap to the one that placed: asked in the second, confirmed after the fourth.
    let episode = Episode { tirn: TIRN, packets: 5, asked: 2, confirmed: 4, requests: 1, overlapping: 0 };
    assert_eq!(line.nic.offload.take_episodes(), (vec![episode], 0));
}

#[test]
fn an_episode_counts_requests() {
    // Headers every 124 bytes. A dropped guess makes room for the next request; a repeated one overlaps.
    for (repeat, requests, overlapping) in [(Repeat::Once, 2, 0), (Repeat::EveryHeader, 3, 1)] {
        let pdus: Vec<_> = (0..9).map(|pdu| data(pdu % 4, 0, 100)).collect();
        let mut line = line(&pdus, NO_DIGESTS, Behaviour { repeat, ..Behaviour::default() });
        line.send(0, 100);
        assert_eq!(line.asked(200, 300), Some(248));
        // [300, 400) takes the header at 372 and with it the guess.
        assert_eq!(line.asked(400, 500), None);
        assert_eq!(line.asked(500, 700), Some(620));
        assert_eq!(line.asked(700, 800), (repeat == Repeat::EveryHeader).then_some(744));
        line.confirm(if repeat == Repeat::Once { 620 } else { 744 });
        assert!(line.placed(800, 1000) > 0);
        let (episodes, _) = line.nic.offload.take_episodes();
        let found: Vec<_> = episodes.iter().map(|e| (e.packets, e.requests, e.overlapping)).collect();
        assert_eq!(found, [(5, requests, overlapping)], "{repeat:?}");
    }
}

#[test]
fn each_hole_rule_keeps_the_framing() {
    for (hole, then) in [(HoleRule::Continue, 300), (HoleRule::Stop, 0)] {
        // Headers at 0 and 1028.
        let mut line = line(&reads(&[1000, 100]), DATA_DIGEST, Behaviour { hole, ..Behaviour::default() });
        assert!(line.send(0, 300).ddgst_ok);
        let outcome = line.send(600, 900);
        assert_eq!(outcome.placed.map_or(0, |run| run.len), then, "{hole:?}");
        if let Some(run) = outcome.placed {
            assert_eq!(run.ccoff, 576);
        }
        let late = line.send(300, 600);
        assert_eq!((late.placed, late.ddgst_ok), (None, false), "the missing bytes never have the flag");
        // The rest, and a whole PDU.
        let outcome = line.send(900, 1156);
        let run = outcome.placed.unwrap();
        assert_eq!(run.ccid, if hole == HoleRule::Continue { 0 } else { 1 });
        let c = line.counters();
        assert_eq!((c.holes, c.lost, c.digests_unverified, c.digests_good), (1, 0, 1, 1));
        let unplaced = if hole == HoleRule::Continue { (Unplaced::OtherRun, 100) } else { (Unplaced::Hole, 424) };
        assert_eq!(c.bytes_unplaced, BTreeMap::from([unplaced]));
    }
}

#[test]
fn a_hole_up_to_the_next_header_keeps_the_framing() {
    let mut line = line(&reads(&[100, 100]), NO_DIGESTS, Behaviour::default());
    line.send(0, 50);
    assert_eq!(line.placed(124, 248), 100);
    // One byte more, and the framing is gone.
    let mut line = self::line(&reads(&[100, 100]), NO_DIGESTS, Behaviour::default());
    line.send(0, 50);
    assert_eq!(line.send(125, 248).bypass, Some(Bypass::Searching));
    // And one byte into a header, too.
    let mut line = self::line(&reads(&[100, 100, 100]), NO_DIGESTS, Behaviour::default());
    line.send(0, 23);
    assert_eq!(line.send(24, 200).bypass, Some(Bypass::Searching));
}

#[test]
fn a_hole_in_padding_costs_no_digest() {
    let read = |good_digest| Pdu::Data { cid: 0, offset: 0, len: 100, padding: 16, good_digest, decoy: None };
    for (good, counts) in [(true, (1, 0, 0)), (false, (0, 1, 0))] {
        let mut line = line(&[read(good)], DATA_DIGEST, Behaviour::default());
        line.send(0, 24);
        // No packet with data or digest goes without the flag for what was missing, so it must be right.
        assert_eq!(line.send(40, 144).ddgst_ok, good);
        let c = line.counters();
        assert_eq!((c.digests_good, c.digests_bad, c.digests_unverified), counts);
    }
    // One byte of data more.
    let mut line = line(&[read(true)], DATA_DIGEST, Behaviour::default());
    line.send(0, 24);
    line.send(41, 144);
    assert_eq!(line.counters().digests_unverified, 1);
}

#[test]
fn the_packet_with_the_next_header() {
    for (header_packet, placed) in [(HeaderPacket::Placed, 76), (HeaderPacket::Ring, 0)] {
        let behaviour = Behaviour { header_packet, hole: HoleRule::Stop, ..Behaviour::default() };
        // Headers at 0, 1028, 1156.
        let mut line = line(&reads(&[1000, 100, 100]), DATA_DIGEST, behaviour);
        line.send(0, 300);
        assert_eq!(line.placed(400, 500), 0);
        let outcome = line.send(500, 1128);
        assert_eq!(outcome.placed.map_or(0, |run| run.len), placed, "{header_packet:?}");
        assert_eq!(outcome.ddgst_ok, header_packet == HeaderPacket::Placed);
        // The header counted: the next packet is placed either way.
        assert_eq!(line.send(1128, 1156).placed, Some(Run { hole: 54, len: 24, ccid: 1, ccoff: 76 }));
        assert_eq!(line.placed(1156, 1284), 100);
    }
}

#[test]
fn which_packets_of_a_holed_pdu_are_flagged() {
    let flags = |unverified| {
        // Headers at 0, 1028, 1156.
        let mut line = line(&reads(&[1000, 100, 100]), DATA_DIGEST, Behaviour { unverified, ..Behaviour::default() });
        line.send(0, 300);
        [(400, 600), (600, 1027), (1027, 1100), (300, 400), (1100, 1284)].map(|(from, to)| line.send(from, to).ddgst_ok)
    };
    assert_eq!(flags(Unverified::LatePacket), [true, true, true, false, true]);
    assert_eq!(flags(Unverified::DigestPacket), [true, true, false, false, true]);
    assert_eq!(flags(Unverified::EveryPacket), [false, false, false, false, true]);
}

#[test]
fn a_packet_that_is_old_in_part() {
    let line_with = |overlap| line(&reads(&[1000]), DATA_DIGEST, Behaviour { overlap, ..Behaviour::default() });
    let mut line = line_with(Overlap::Bypass);
    line.send(0, 500);
    assert_eq!(line.send(300, 700), Outcome::bypassed(Bypass::Early));
    assert_eq!(line.send(700, 900).placed, Some(Run { hole: 54, len: 200, ccid: 0, ccoff: 676 }), "behind a hole");
    let mut line = line_with(Overlap::NewTail);
    line.send(0, 500);
    assert_eq!(line.send(300, 500), Outcome::bypassed(Bypass::Early), "nothing new");
    let outcome = line.send(300, 700);
    assert_eq!(outcome.placed, Some(Run { hole: 54 + 200, len: 200, ccid: 0, ccoff: 476 }));
    assert!(!outcome.ddgst_ok, "part of it was skipped");
    assert!(line.send(700, 1028).ddgst_ok);
    let c = line.counters();
    assert_eq!((c.holes, c.digests_good, c.bytes_placed), (0, 1, 1000));
    assert_eq!(line.nic.memory(1000), line.stream.bytes[24..1024]);
}

#[test]
fn each_search_rule_looks_in_its_places() {
    // Headers at 0, 124, 248, 372.
    let asked = |search, from, to| {
        let mut line = line(&reads(&[100; 4]), NO_DIGESTS, Behaviour { search, ..Behaviour::default() });
        line.send(0, 50);
        line.asked(from, to)
    };
    assert_eq!(asked(SearchRule::Anywhere, 200, 300), Some(248));
    assert_eq!(asked(SearchRule::Anywhere, 248, 300), Some(248));
    assert_eq!(asked(SearchRule::StartOfPacket, 200, 300), None);
    assert_eq!(asked(SearchRule::StartOfPacket, 248, 300), Some(248));
    assert_eq!(asked(SearchRule::StartOfPacket, 249, 400), None);
    // The first that is found.
    assert_eq!(asked(SearchRule::Anywhere, 200, 496), Some(248));
}

#[test]
fn a_late_header_is_found_or_not() {
    for search_late in [false, true] {
        let behaviour = Behaviour { search_late, ..Behaviour::default() };
        // Headers at 0, 124, 1148, 1272: [100, 200) is lost, and the header at 124 with it.
        let mut line = line(&reads(&[100, 1000, 100, 100]), NO_DIGESTS, behaviour);
        line.send(0, 100);
        line.send(200, 300);
        assert_eq!(line.asked(100, 200), search_late.then_some(124));
        let outcome = line.send(300, 400);
        let reason = if search_late { Bypass::Unconfirmed } else { Bypass::Searching };
        assert_eq!(outcome, Outcome::bypassed(reason));
        line.confirm(124);
        let found = if search_late { Tracker::Offloading } else { Tracker::Searching };
        assert_eq!(line.tracker(), found);
        // The lost PDU's own data stays; the next PDU is placed at once.
        assert_eq!((line.placed(400, 1148), line.placed(1148, 1272)), (0, if search_late { 100 } else { 0 }));
    }
    // The next header has gone by: what is found is of no use.
    let behaviour = Behaviour { search_late: true, ..Behaviour::default() };
    let mut line = line(&reads(&[100, 100, 300]), NO_DIGESTS, behaviour);
    line.send(0, 100);
    line.send(300, 400);
    assert_eq!((line.asked(100, 200), line.tracker()), (None, Tracker::Searching));
    assert_eq!(line.asked(200, 300), Some(248));
}

#[test]
fn each_pattern_refuses_more() {
    let digests = Digests { header: true, data: true };
    let asked = |pattern, place: usize, value: u8| {
        let mut line = line(&reads(&[100, 100]), digests, Behaviour { pattern, ..Behaviour::default() });
        line.stream.bytes[132 + place] ^= value;
        line.send(0, 1);
        line.asked(132, 200)
    };
    let all = [Pattern::TypeAndLength, Pattern::Lengths, Pattern::HeaderDigest];
    assert_eq!(all.map(|pattern| asked(pattern, 0, 0)), [Some(132); 3]);
    assert_eq!(all.map(|pattern| asked(pattern, 0, 0x40)), [None; 3], "type");
    assert_eq!(all.map(|pattern| asked(pattern, 2, 1)), [None; 3], "HLEN");
    assert_eq!(all.map(|pattern| asked(pattern, 16, 1)), [Some(132), None, None], "DATAL");
    assert_eq!(all.map(|pattern| asked(pattern, 4, 1)), [Some(132), None, None], "PLEN");
    assert_eq!(all.map(|pattern| asked(pattern, 12, 1)), [Some(132), Some(132), None], "DATAO");
    assert_eq!(all.map(|pattern| asked(pattern, 24, 1)), [Some(132), Some(132), None], "header digest");
}

#[test]
fn a_guess_has_a_longest_length() {
    for (longest_guess, asked) in [(124, Some(124)), (123, None)] {
        let mut line = line(&reads(&[100, 100]), NO_DIGESTS, Behaviour { longest_guess, ..Behaviour::default() });
        line.send(0, 1);
        assert_eq!(line.asked(124, 200), asked);
    }
}

#[test]
fn a_cut_header_is_kept_or_not() {
    let asked = |keep_partial_header, search, cuts: &[(usize, usize)]| {
        let behaviour = Behaviour { keep_partial_header, search, ..Behaviour::default() };
        // Headers at 0, 124, 248.
        let mut line = line(&reads(&[100; 3]), NO_DIGESTS, behaviour);
        line.send(0, 1);
        cuts.iter().map(|(from, to)| line.asked(*from, *to)).collect::<Vec<_>>()
    };
    let (anywhere, start) = (SearchRule::Anywhere, SearchRule::StartOfPacket);
    assert_eq!(asked(true, anywhere, &[(100, 130), (130, 200)]), [None, Some(124)]);
    assert_eq!(asked(false, anywhere, &[(100, 130), (130, 200)]), [None, None]);
    assert_eq!(asked(true, anywhere, &[(100, 130), (131, 200)]), [None, None], "a byte is missing");
    assert_eq!(asked(true, anywhere, &[(100, 125), (125, 126), (126, 147), (147, 148)]), [None, None, None, Some(124)]);
    assert_eq!(asked(true, start, &[(124, 130), (130, 200)]), [None, Some(124)]);
    assert_eq!(asked(true, start, &[(100, 130), (130, 200)]), [None, None], "not at the start");
}

#[test]
fn requests_are_repeated_as_told() {
    // Headers at 0, 124, 248, 372 ...
    let asked = |repeat| {
        let mut line = line(&reads(&[100; 6]), NO_DIGESTS, Behaviour { repeat, ..Behaviour::default() });
        line.send(0, 1);
        [(124, 248), (248, 372), (372, 496), (496, 620), (620, 744)].map(|(from, to)| line.asked(from, to))
    };
    assert_eq!(asked(Repeat::Once), [Some(124), None, None, None, None]);
    assert_eq!(asked(Repeat::EveryHeader), [Some(124), Some(248), Some(372), Some(496), Some(620)]);
    let second = Repeat::EveryN(NonZeroU32::new(2).unwrap());
    assert_eq!(asked(second), [Some(124), None, Some(372), None, Some(620)]);
}

#[test]
fn an_unanswered_request_is_dropped() {
    let behaviour = Behaviour { request_limit: NonZeroU32::new(2), ..Behaviour::default() };
    let mut line = line(&reads(&[100; 6]), NO_DIGESTS, behaviour);
    line.send(0, 1);
    assert_eq!(line.asked(124, 200), Some(124));
    assert_eq!(line.send(200, 220).bypass, Some(Bypass::Unconfirmed));
    // The second packet behind the request is searched anew.
    let outcome = line.send(220, 300);
    assert_eq!(outcome, Outcome { resync: Some(1248), ..Outcome::bypassed(Bypass::Searching) });
    line.confirm(124);
    assert_eq!(line.tracker(), Tracker::Tracking, "too late");
    line.confirm(248);
    assert_eq!(line.tracker(), Tracker::Offloading);
    let c = line.counters();
    assert_eq!((c.guesses, c.guesses_dropped, c.confirmations_stale), (2, 1, 1));
}

#[test]
fn a_request_names_one_of_two_bytes() {
    for (resync_byte, named) in [(ResyncByte::First, 124), (ResyncByte::Last, 147)] {
        let mut line = line(&reads(&[100; 3]), NO_DIGESTS, Behaviour { resync_byte, ..Behaviour::default() });
        line.send(0, 1);
        assert_eq!(line.asked(124, 200), Some(named));
        line.confirm(named);
        assert_eq!(line.placed(200, 372), 100, "{resync_byte:?}");
    }
}

#[test]
fn stale_confirmations_change_nothing() {
    for (confirm, any) in [(ConfirmRule::Remembered, false), (ConfirmRule::Tracked, true)] {
        // Headers at 0, 124, 248, 372, 496.
        let mut line = line(&reads(&[100; 6]), NO_DIGESTS, Behaviour { confirm, ..Behaviour::default() });
        line.confirm(124);
        assert_eq!(line.placed(0, 60), 36, "not even in search");
        line.send(200, 240);
        line.confirm(124);
        assert_eq!(line.tracker(), Tracker::Searching);
        assert_eq!(line.asked(248, 300), Some(248));
        // A header that was lost, a place in the data, a header that is to come.
        for (index, position) in [124, 249, 372].into_iter().enumerate() {
            line.confirm(position);
            assert_eq!(line.send(300 + index, 301 + index), Outcome::bypassed(Bypass::Unconfirmed));
        }
        assert_eq!(line.send(303, 450).placed, None);
        // A header that was followed since, and not asked about.
        line.confirm(372);
        assert_eq!(line.tracker() == Tracker::Offloading, any, "{confirm:?}");
        if !any {
            line.confirm(248);
        }
        assert_eq!(line.placed(450, 620), 100);
        // A second loss while a confirmation is under way: it finds another episode.
        line.send(700, 740);
        assert_eq!(line.tracker(), Tracker::Searching);
        line.confirm(248);
        assert_eq!((line.tracker(), line.counters().lost), (Tracker::Searching, 2));
    }
}

#[test]
fn each_resume_rule_begins_in_its_place() {
    for (resume, placed) in [(ResumeRule::NextPdu, [0, 72]), (ResumeRule::NextPacket, [50, 102])] {
        // Headers at 0, 128, 256, 1284.
        let mut line = line(&reads(&[100, 100, 1000, 100]), DATA_DIGEST, Behaviour { resume, ..Behaviour::default() });
        line.send(0, 1);
        assert_eq!(line.asked(256, 400), Some(256));
        line.confirm_with_digests(256);
        let middle = line.send(400, 450);
        assert_eq!(middle.placed.map_or(0, |run| run.len), placed[0], "{resume:?}");
        assert!(!middle.ddgst_ok);
        assert_eq!(middle.placed.map_or(120, |run| run.ccoff), 120, "where the header said");
        line.send(450, 1178);
        let outcome = line.send(1178, 1380);
        assert_eq!(outcome.placed.map_or(0, |run| run.len), placed[1], "{resume:?}");
        assert!(!outcome.ddgst_ok, "the end of a PDU that nobody verified");
        assert!(line.send(1380, 1412).ddgst_ok);
        let c = line.counters();
        assert_eq!((c.digests_unverified, c.digests_good), (1, 1));
    }
}

#[test]
fn the_first_flag_can_be_wrong_once() {
    for (first_flag, flags) in [(FirstFlag::Right, [false, false]), (FirstFlag::WronglySet, [true, false])] {
        let mut line = line(&reads(&[100, 1000, 100]), DATA_DIGEST, Behaviour { first_flag, ..Behaviour::default() });
        line.send(0, 1);
        assert_eq!(line.asked(128, 200), Some(128));
        line.confirm_with_digests(128);
        assert_eq!([(200, 300), (300, 400)].map(|(from, to)| line.send(from, to).ddgst_ok), flags, "{first_flag:?}");
    }
}

#[test]
fn packets_without_data() {
    for flag_without_data in [true, false] {
        let pdus = [Pdu::Other { kind: 0x05, more: 0 }, data(0, 0, 100)];
        let mut line = line(&pdus, DATA_DIGEST, Behaviour { flag_without_data, ..Behaviour::default() });
        let flags =
            [(0, 24), (24, 48), (48, 100), (100, 148), (148, 152)].map(|(from, to)| line.send(from, to).ddgst_ok);
        assert_eq!(flags, [flag_without_data, flag_without_data, true, true, true]);
    }
}

#[test]
fn an_inconsistent_header() {
    for (inconsistent, lost, placed) in [(Inconsistent::LoseFraming, 1, 0), (Inconsistent::Deliver, 0, 100)] {
        let mut line = line(&reads(&[100, 100]), NO_DIGESTS, Behaviour { inconsistent, ..Behaviour::default() });
        // DATAL is one more than PLEN leaves.
        line.stream.bytes[16] += 1;
        assert_eq!(line.placed(0, 124), 0);
        assert_eq!(line.counters().lost, lost);
        assert_eq!(line.placed(124, 248), placed, "{inconsistent:?}");
    }
}

#[test]
fn data_that_does_not_continue() {
    for (data_offset, placed) in [(DataOffset::AsSaid, [50; 5]), (DataOffset::Contiguous, [50, 50, 0, 50, 50])] {
        let pdus = [data(0, 0, 50), data(0, 50, 50), data(0, 120, 50), data(0, 170, 50), data(0, 0, 50)];
        let mut line = line(&pdus, NO_DIGESTS, Behaviour { data_offset, ..Behaviour::default() });
        let sent = [0, 74, 148, 222, 296].map(|from| line.placed(from, from + 74));
        assert_eq!(sent, placed, "{data_offset:?}");
    }
}

#[test]
fn each_unusable_tag_has_its_reaction() {
    // What makes the tag of the first PDU unusable, the reason, the reaction's switch.
    type Cause = (u16, u32, Unplaced, fn(Reaction) -> Behaviour);
    let causes: [Cause; 3] = [
        (0, 100, Unplaced::Free, |free_key| Behaviour { free_key, ..Behaviour::default() }),
        (TAGS, 100, Unplaced::NoTag, |unknown_tag| Behaviour { unknown_tag, ..Behaviour::default() }),
        (1, 0x7d0, Unplaced::KeyLength, |overflow| Behaviour { overflow, ..Behaviour::default() }),
    ];
    for (cid, offset, reason, behaviour) in causes {
        for reaction in [Reaction::Ring, Reaction::RestOfPdu, Reaction::ErrorCqe, Reaction::ContextError] {
            // The last 100 bytes of the first PDU of command 1 do not fit its buffer.
            let pdus = [data(5, 0, 10), data(cid, offset, 148), data(2, 0, 100)];
            let mut line = line(&pdus, DATA_DIGEST, behaviour(reaction));
            line.nic.free(0);
            // The packet has data for a good tag in front of it.
            let outcome = line.send(0, 38 + 28 + 110);
            let c = line.counters();
            let name = format!("{reason:?} {reaction:?}");
            let error = (reaction == Reaction::ErrorCqe).then_some(reason);
            assert_eq!(outcome.error, None, "{name}: the first run was taken, the second not looked at");
            assert_eq!(c.bytes_unplaced[&Unplaced::OtherRun], 114, "{name}");
            let outcome = line.send(176, 190);
            assert_eq!((outcome.placed, outcome.error), (None, error), "{name}");
            assert_eq!(outcome.bypass, (reaction == Reaction::ContextError).then_some(Bypass::Stopped), "{name}");
            assert_eq!(outcome.ddgst_ok, reaction != Reaction::ContextError, "{name}");
            // Usable from now on.
            line.nic.bind(0, &[(BASE, 0x800)]);
            line.nic.bind(1, &[(BASE, 0x1800)]);
            let rest = line.placed(190, 200);
            let again = reaction == Reaction::Ring || reaction == Reaction::ErrorCqe;
            assert_eq!(rest, if again && reason != Unplaced::NoTag { 10 } else { 0 }, "{name}");
            line.send(200, 214);
            let next = line.placed(214, line.stream.bytes.len());
            assert_eq!(next, if reaction == Reaction::ContextError { 0 } else { 100 }, "{name}");
            assert_eq!(line.counters().stopped, u64::from(reaction == Reaction::ContextError));
            // Progress parameters begin anew.
            line.nic.offload.progress_params(TIRN, &progress(1000)).unwrap();
            assert_eq!(line.placed(0, 38), 10, "{name}");
        }
    }
}

#[test]
fn a_binding_takes_its_time() {
    let second = Duration::from_secs(1);
    let behaviour = Behaviour { umr_packets: 2, umr_time: second, ..Behaviour::default() };
    let mut line = line(&reads(&[1500]), NO_DIGESTS, behaviour);
    let mut at = 0;
    let mut next = |line: &mut Line| {
        at += 100;
        line.placed(at - 100, at)
    };
    assert_eq!(next(&mut line), 0);
    line.nic.offload.advance(second);
    assert_eq!(next(&mut line), 0, "the second packet behind the UMR");
    assert_eq!(next(&mut line), 100, "the third");
    // Free at once; bound again, it waits again, now for the time.
    line.nic.free(0);
    assert_eq!(next(&mut line), 0);
    line.nic.bind(0, &[(BASE, 0x800)]);
    for _ in 0..3 {
        assert_eq!(next(&mut line), 0);
    }
    line.nic.offload.advance(second * 2 - Duration::from_nanos(1));
    assert_eq!(next(&mut line), 0);
    line.nic.offload.advance(second * 2);
    assert_eq!(next(&mut line), 100);
    // A binding that never took effect and is taken away leaves nothing behind.
    line.nic.bind(0, &[(BASE, 0x800)]);
    line.nic.free(0);
    assert_eq!(next(&mut line), 0);
    let c = line.counters();
    assert_eq!(c.bytes_unplaced[&Unplaced::Free], 200);
    assert_eq!(c.bytes_unplaced[&Unplaced::Settling], 76 + 100 + 3 * 100 + 100);
}
