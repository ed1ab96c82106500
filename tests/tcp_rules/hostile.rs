//! | property | test |
//! |---|---|
//! | a reset counts only at exactly the next number; in the window it is challenged (RFC 5961 3.2) | `a_reset_must_hit_exactly` |
//! | a SYN in the connection is challenged, wherever it is (RFC 5961 4.2) | `a_syn_is_challenged` |
//! | acknowledgments of what was never sent, or far too old, are challenged and dropped (RFC 5961 5.2) | `impossible_acknowledgments_are_challenged` |
//! | challenges are limited per second (RFC 5961 7) | `challenges_are_limited` |
//! | segments without sequence space never start an exchange of acknowledgments | `two_confused_peers_fall_silent` |
//! | an older timestamp is refused, a reset is not (RFC 7323 5.3) | `old_timestamps_are_refused` |
//! | TS.Recent moves only with segments at the left edge (RFC 7323 4.3) | `ts_recent_follows_the_left_edge` |
//! | after 24 days of silence old timestamps say nothing (RFC 7323 5.5) | `after_24_days_timestamps_start_anew` |
//! | no timestamp where they were agreed on: dropped in silence (RFC 7323 3.2) | `a_missing_timestamp_is_dropped` |
//! | a FIN that contradicts data or another FIN is ignored | `a_contradictory_fin_is_ignored` |
//! | data after the FIN is not taken | `data_after_the_fin_is_not_taken` |
//! | a segment without ACK is dropped | `a_segment_without_ack_is_dropped` |
//! | a reset in LAST-ACK is an error if data is missing at the peer | `a_reset_that_loses_data_is_an_error` |
//! | any segments whatsoever: no panic, bounded answers, each payload comes back once, time moves | `any_segments_whatsoever` |
use std::time::Duration;

use connectx_ddp::tcp::{
    Config, Connection, ConnectionError, Flags, Header, Keepalive, Options, SackBlock, Segment, State, Timestamps,
};

use crate::script::*;
use crate::tcp_support::{Bytes, Random};

#[test]
fn a_reset_must_hit_exactly() {
    let mut t = Script::established(Config::default());
    t.inject(seg("R").seq(0));
    t.inject(seg("R").seq(60001));
    t.expect_nothing();
    t.inject(seg("R").seq(2));
    t.expect(". 1 ack 1 win 60000");
    t.expect_state(State::Established);
    assert_eq!(t.tcp.counters().dropped_rst, 3);
    t.inject(seg("R").seq(1));
    assert_eq!(t.tcp.error(), Some(ConnectionError::Reset));
    t.expect_nothing();
    assert_eq!(t.tcp.next_deadline(), None);
}

#[test]
fn a_syn_is_challenged() {
    let mut t = Script::established(Config::default());
    for at in [0, 1, 100, 1 << 20] {
        t.inject(seg("S").seq(at));
        t.expect(". 1 ack 1 win 60000");
        t.inject(seg("S.").seq(at).ack(1));
        t.expect(". 1 ack 1 win 60000");
    }
    t.expect_state(State::Established);
}

#[test]
fn impossible_acknowledgments_are_challenged() {
    let mut t = Script::established(Config::default());
    t.unused();
    for ack in [2, 70000, -60001, 1 << 30] {
        t.inject(seg(".").seq(1).ack(ack).data(10));
        t.expect(". 1 ack 1 win 60000");
        assert_eq!(t.unused(), 1);
    }
    assert_eq!(t.tcp.counters().dropped_bad_ack, 4);
    // Old, but possible: the data counts.
    t.inject(seg(".").seq(1).ack(-50000).data(10));
    t.expect_delivered(10);
}

#[test]
fn challenges_are_limited() {
    let mut t = Script::established(Config::default());
    for _ in 0..2 {
        let mut answers = 0;
        for _ in 0..50 {
            t.inject(seg("S").seq(1));
            answers += usize::from(t.tcp.poll_tx(t.now).is_some());
        }
        assert_eq!(answers, 10);
        t.pass(Duration::from_secs(1));
    }
    assert_eq!(t.tcp.counters().challenge_acks_suppressed, 80);
}

#[test]
fn two_confused_peers_fall_silent() {
    let mut t = Script::established(Config::default());
    let mut answers = 0;
    for _ in 0..1000 {
        t.inject(seg(".").seq(-1000).ack(1));
        answers += usize::from(t.tcp.poll_tx(t.now).is_some());
    }
    assert_eq!(answers, 10);
}

fn with_timestamps() -> Script {
    let mut t = Script::connect(Config { sack: false, mss: 1000, receive_bytes: 60000, ..Config::default() });
    t.expect("S 0 win 60000 <mss 1000,wscale 0,ts 100000 0>");
    t.inject(seg("S.").ack(1).window(60000).ts(500, 100_000).options(|o| o.mss = Some(1000)));
    t.expect(". 1 ack 1 win 60000 <ts 100000 500>");
    t.unused();
    t
}

#[test]
fn old_timestamps_are_refused() {
    let mut t = with_timestamps();
    t.inject(seg(".").seq(1).ack(1).ts(499, 100_000).data(10));
    assert_eq!(t.unused(), 1);
    t.expect(". 1 ack 1 win 60000 <ts 100000 500>");
    t.inject(seg(".").seq(1).ack(1).ts(500, 100_000).data(10));
    t.expect_delivered(10);
    assert_eq!(t.tcp.counters().dropped_paws, 1);
    // Half of the number space behind: newer.
    t.inject(seg(".").seq(11).ack(1).ts(500 + (1 << 31) - 1, 100_000).data(10));
    t.expect_delivered(10);
    t.inject(seg("R").seq(21).ts(1, 0));
    assert_eq!(t.tcp.error(), Some(ConnectionError::Reset));
}

#[test]
fn ts_recent_follows_the_left_edge() {
    let mut t = with_timestamps();
    t.inject(seg(".").seq(1001).ack(1).ts(700, 100_000).data(1000));
    t.expect(". 1 ack 1 win 60000 <ts 100000 500>");
    t.inject(seg(".").seq(1).ack(1).ts(600, 100_000).data(1000));
    t.expect(". 1 ack 2001 win 58000 <ts 100000 600>");
}

#[test]
fn after_24_days_timestamps_start_anew() {
    let mut t = with_timestamps();
    t.pass(Duration::from_secs(24 * 86400));
    t.inject(seg(".").seq(1).ack(1).ts(1, 100_000).data(10));
    t.expect_delivered(10);
}

#[test]
fn a_missing_timestamp_is_dropped() {
    let mut t = with_timestamps();
    t.inject(seg(".").seq(1).ack(1).data(10));
    t.expect_nothing();
    assert_eq!(t.unused(), 1);
    t.inject(seg("R").seq(1));
    assert_eq!(t.tcp.error(), Some(ConnectionError::Reset));
}

#[test]
fn a_contradictory_fin_is_ignored() {
    let mut t = Script::established(Config::default());
    t.inject(seg(".").seq(101).ack(1).data(100));
    // Before data that was received.
    t.inject(seg("F.").seq(51).ack(1).data(10));
    assert_eq!(t.tcp.counters().bad_fin, 1);
    t.inject(seg("F.").seq(301).ack(1));
    t.inject(seg("F.").seq(401).ack(1));
    assert_eq!(t.tcp.counters().bad_fin, 1 + 1);
    // Data is cut off where the FIN is.
    t.inject(seg(".").seq(1).ack(1).data(1000));
    t.expect_state(State::CloseWait);
    t.expect_delivered(300);
    t.expect(". 1 ack 302 win 59699");
}

#[test]
fn data_after_the_fin_is_not_taken() {
    let mut t = Script::established(Config::default());
    t.inject(seg("F.").seq(1).ack(1).data(10));
    t.expect(". 1 ack 12 win 59989");
    t.unused();
    t.inject(seg(".").seq(12).ack(1).data(100));
    assert_eq!(t.unused(), 1);
    t.expect(". 1 ack 12 win 59989");
    t.expect_delivered(10);
    assert_eq!(t.tcp.counters().dropped_unexpected, 1);
}

#[test]
fn a_segment_without_ack_is_dropped() {
    let mut t = Script::established(Config::default());
    t.unused();
    t.inject(seg("P").seq(1).data(10));
    t.expect_nothing();
    assert_eq!((t.unused(), t.tcp.counters().dropped_no_ack), (1, 1));
}

#[test]
fn a_reset_that_loses_data_is_an_error() {
    for (acked, error) in [(1, Some(ConnectionError::Reset)), (11, None)] {
        let mut t = Script::established(Config::default());
        t.tcp.send(&[0; 10]);
        t.inject(seg("F.").seq(1).ack(1));
        t.tcp.close();
        t.expect("FP. 1:10 ack 2 win 59999");
        t.inject(seg(".").seq(2).ack(acked));
        t.inject(seg("R").seq(2));
        t.expect_state(State::Closed);
        assert_eq!(t.tcp.error(), error);
    }
}

#[test]
fn any_segments_whatsoever() {
    for seed in 0..2000 {
        let mut random = Random(seed);
        let keepalive = Keepalive { idle: Duration::from_secs(1), interval: Duration::from_secs(1), probes: 3 };
        let config = Config {
            initial_sequence: OUR_ISN,
            receive_bytes: 1 + random.below(100_000) as u32,
            receive_payloads: 2 + random.below(20) as u32,
            send_bytes: 1 + random.below(10_000) as u32,
            timestamps: random.chance(300),
            keepalive: random.chance(300).then_some(keepalive),
            ..Config::default()
        };
        let mut now = Duration::from_secs(1);
        let mut tcp = Connection::<Bytes>::connect(config, now).unwrap();
        let (mut given, mut unused, mut taken) = (0, Vec::new(), 0);
        let mut held: usize;
        let sack = random.chance(700);
        for _ in 0..100 {
            // Near the numbers that matter, mostly.
            let mut near = |base: u32| match random.below(4) {
                0 => base,
                1 => base.wrapping_add(random.below(2000) as u32),
                2 => base.wrapping_sub(random.below(2000) as u32),
                _ => random.next() as u32,
            };
            let (seq, ack) = (near(tcp.rcv_nxt().wire()), near(tcp.snd_nxt().wire()));
            let ack = if random.chance(500) { tcp.snd_nxt().wire() } else { ack };
            let mut options = Options::default();
            if random.chance(500) {
                options.timestamps = Some(Timestamps { value: random.below(5) as u32, echo: random.next() as u32 });
            }
            if random.chance(100) {
                options.window_scale = Some(random.next() as u8);
                options.mss = Some(random.below(200) as u16);
                options.sack.push(SackBlock { start: random.next() as u32, end: random.next() as u32 });
            }
            options.sack_permitted = sack;
            // Blocks of what was sent, mostly.
            for _ in 0..random.below(5) {
                let sent = tcp.snd_nxt().since(tcp.snd_una()) as u32;
                let at = tcp.snd_una().wire().wrapping_add(random.below(u64::from(sent) + 100) as u32);
                let at = if random.chance(100) { at.wrapping_sub(2000) } else { at };
                options.sack.push(SackBlock { start: at, end: at.wrapping_add(random.below(4000) as u32) });
            }
            let flags = match random.below(10) {
                0 => random.next() as u8,
                1 => 0x12,
                2 => 0x11,
                _ => 0x10,
            };
            let window = if random.chance(300) { 0 } else { random.next() as u16 };
            let header = Header { seq, ack, flags: Flags::from_bits_retain(flags), window, options };
            let payload = vec![0; if random.chance(500) { random.below(3000) as usize } else { 0 }];
            given += 1;
            tcp.on_segment(now, Segment { header, payload: Bytes::new(&payload, 0) }, &mut unused);
            if random.chance(300) {
                tcp.send(&vec![0; random.below(5000) as usize]);
            }
            if random.chance(300) {
                taken += std::iter::from_fn(|| tcp.recv()).inspect(|(_, p)| assert!(!p.as_slice().is_empty())).count();
            }
            if random.chance(10) {
                tcp.close();
            }
            held = given - unused.len() - taken;
            assert!(held <= 22, "seed {seed}");
            let mut sent = 0;
            while let Some(segment) = tcp.poll_tx(now) {
                assert!(segment.payload_len() <= 1460);
                sent += 1;
                assert!(sent < 1000, "seed {seed} never stops");
            }
            let deadline = tcp.next_deadline();
            assert!(deadline.is_none_or(|at| at > now), "seed {seed}: a timer that is due does nothing");
            now = match deadline {
                Some(at) if random.chance(300) => at,
                _ => now + Duration::from_millis(random.below(20)),
            };
        }
        tcp.abort();
        let left = tcp.drain().count();
        assert_eq!(given, unused.len() + taken + left, "seed {seed}: each payload comes back once");
    }
}
