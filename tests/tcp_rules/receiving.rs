//! | property | test |
//! |---|---|
//! | one segment waits for the delay, two are acknowledged at once (RFC 5681 4.2) | `every_second_segment_is_acknowledged` |
//! | data takes the acknowledgment along | `data_carries_the_acknowledgment` |
//! | each out-of-order segment is answered at once, also if many come between two polls | `each_out_of_order_segment_is_answered` |
//! | closing a gap is answered at once and everything is delivered in order | `a_closed_gap_is_acknowledged_at_once` |
//! | SACK tells what is there, newest first; data leaves room for it (RFC 2018) | `sack_blocks_tell_what_is_there` |
//! | islands are reported in the order in which something arrived in them last (RFC 2018 4) | `the_islands_touched_last_are_reported_first` |
//! | what came twice is reported once, before the island that contains it (RFC 2883 4) | `what_came_twice_is_reported_once` |
//! | what overlaps is trimmed; what brings nothing new comes back and is answered | `overlaps_are_trimmed_and_duplicates_come_back` |
//! | bytes beyond the window are cut off | `bytes_beyond_the_window_are_cut_off` |
//! | the window closes with what is unread, never moves left, opens in large steps (RFC 9293 3.8.6.2.2) | `the_window_closes_and_opens_in_large_steps` |
//! | the right edge never moves left by rounding (RFC 7323 2.4) | `rounding_does_not_shrink_the_window` |
//! | and goes beyond the budget by an eighth at most | `byte_by_byte_the_budget_still_holds` |
//! | a probe of a closed window is answered, its acknowledgment counts, its byte comes back | `a_probe_of_a_closed_window_is_answered` |
//! | the budget in payloads bounds what is held and closes the window | `the_budget_in_payloads_closes_the_window` |
//! | positions: what the offload needs (next byte, 32-bit resolution across the wrap) | `positions_resolve_across_the_wrap` |
//! | a segment outside the window is answered and dropped | `a_segment_outside_the_window_is_answered` |
use connectx_ddp::tcp::{Config, Position, State};

use crate::script::*;

#[test]
fn every_second_segment_is_acknowledged() {
    let mut t = Script::established(Config::default());
    t.inject(seg(".").seq(1).ack(1).data(1000));
    t.wait(10 * MS);
    t.expect(". 1 ack 1001 win 59000");
    t.inject(seg(".").seq(1001).ack(1).data(1000));
    t.expect_nothing();
    t.inject(seg(".").seq(2001).ack(1).data(1000));
    t.expect(". 1 ack 3001 win 57000");
    t.expect_nothing();
    assert_eq!(t.tcp.next_deadline(), None);
    t.expect_delivered(3000);
    assert_eq!(t.unused(), 1, "the payload of the SYN, which was empty");
}

#[test]
fn data_carries_the_acknowledgment() {
    let mut t = Script::established(Config::default());
    t.inject(seg(".").seq(1).ack(1).data(10));
    t.tcp.send(b"x");
    t.expect("P. 1:1 ack 11 win 59990");
    t.inject(seg(".").seq(11).ack(2));
    t.expect_nothing();
    assert_eq!(t.tcp.next_deadline(), None);
}

#[test]
fn each_out_of_order_segment_is_answered() {
    let mut t = Script::established(Config::default());
    for i in 1..=3 {
        t.inject(seg(".").seq(1 + i * 1000).ack(1).data(1000));
    }
    for _ in 0..3 {
        t.expect(". 1 ack 1 win 60000");
    }
    t.expect_nothing();
    // However many came before the gap closed: one acknowledgment says it all.
    t.inject(seg(".").seq(4001).ack(1).data(1000));
    t.inject(seg(".").seq(1).ack(1).data(1000));
    t.expect(". 1 ack 5001 win 55000");
    t.expect_nothing();
}

#[test]
fn a_closed_gap_is_acknowledged_at_once() {
    let mut t = Script::established(Config::default());
    t.inject(seg(".").seq(1001).ack(1).data(1000));
    t.expect(". 1 ack 1 win 60000");
    t.expect_delivered(0);
    t.inject(seg(".").seq(1).ack(1).data(1000));
    t.expect(". 1 ack 2001 win 58000");
    t.expect_delivered(2000);
    assert_eq!(t.tcp.counters().out_of_order, 1);
}

#[test]
fn sack_blocks_tell_what_is_there() {
    let mut t = Script::connect(Config { timestamps: false, ..Config::default() });
    t.expect("S 0 win 65535 <mss 1460,sackOK,wscale 5>");
    t.inject(seg("S.").ack(1).window(60000).options(|o| (o.mss, o.sack_permitted) = (Some(1000), true)));
    t.expect(". 1 ack 1 win 65535");
    for (at, blocks) in [
        (1001, "sack 1001-1101"),
        (1201, "sack 1201-1301,sack 1001-1101"),
        (1101, "sack 1001-1301"),
        (2001, "sack 2001-2101,sack 1001-1301"),
    ] {
        t.inject(seg(".").seq(at).ack(1).data(100));
        t.expect(&format!(". 1 ack 1 win 65535 <{blocks}>"));
    }
    t.tcp.send(&[0; 1000]);
    t.expect(". 1:964 ack 1 win 65535 <sack 2001-2101,sack 1001-1301>");
    t.expect("P. 965:36 ack 1 win 65535 <sack 2001-2101,sack 1001-1301>");
}

/// SACK was agreed on; nothing else.
fn with_sack() -> Script {
    let mut t = Script::established_with_sack(Config { timestamps: false, ..Config::default() });
    t.unused();
    t
}

#[test]
fn the_islands_touched_last_are_reported_first() {
    let mut t = with_sack();
    for (at, blocks) in [
        (5001, "sack 5001-5101"),
        (1001, "sack 1001-1101,sack 5001-5101"),
        (3001, "sack 3001-3101,sack 1001-1101,sack 5001-5101"),
        (2001, "sack 2001-2101,sack 3001-3101,sack 1001-1101,sack 5001-5101"),
        (4001, "sack 4001-4101,sack 2001-2101,sack 3001-3101,sack 1001-1101"),
        (1101, "sack 1001-1201,sack 4001-4101,sack 2001-2101,sack 3001-3101"),
    ] {
        t.inject(seg(".").seq(at).ack(1).data(100));
        t.expect(&format!(". 1 ack 1 win 60000 <{blocks}>"));
    }
}

#[test]
fn what_came_twice_is_reported_once() {
    let mut t = with_sack();
    t.inject(seg(".").seq(1).ack(1).data(1000));
    t.inject(seg(".").seq(1001).ack(1).data(1000));
    t.expect(". 1 ack 2001 win 58000");
    // Wholly, and two that touch before anything is sent.
    t.inject(seg(".").seq(1).ack(1).data(500));
    t.inject(seg(".").seq(501).ack(1).data(500));
    t.expect(". 1 ack 2001 win 58000 <sack 1-1001>");
    t.expect_nothing();
    // Partly.
    t.inject(seg(".").seq(1501).ack(1).data(1000));
    t.expect(". 1 ack 2501 win 57500 <sack 1501-2001>");
    // Out of order: before the island that contains it.
    t.inject(seg(".").seq(4001).ack(1).data(1000));
    t.expect(". 1 ack 2501 win 57500 <sack 4001-5001>");
    t.inject(seg(".").seq(4001).ack(1).data(1000));
    t.expect(". 1 ack 2501 win 57500 <sack 4001-5001,sack 4001-5001>");
    t.inject(seg(".").seq(4501).ack(1).data(1000));
    t.expect(". 1 ack 2501 win 57500 <sack 4501-5001,sack 4001-5501>");
    assert_eq!((t.tcp.counters().dsacks_out, t.unused()), (4, 3));
    // A keepalive probe is not data.
    t.inject(seg(".").seq(2500).ack(1));
    t.expect(". 1 ack 2501 win 57500 <sack 4001-5501>");
}

#[test]
fn overlaps_are_trimmed_and_duplicates_come_back() {
    let mut t = Script::established(Config::default());
    t.inject(seg(".").seq(1).ack(1).data(100));
    t.unused();
    t.inject(seg(".").seq(1).ack(1).data(100));
    assert_eq!(t.unused(), 1);
    t.expect(". 1 ack 101 win 59900");
    t.inject(seg(".").seq(51).ack(1).data(100));
    assert_eq!(t.unused(), 0);
    t.expect(". 1 ack 151 win 59850");
    t.inject(seg(".").seq(301).ack(1).data(100));
    t.inject(seg(".").seq(321).ack(1).data(50));
    assert_eq!(t.unused(), 1, "covered by what waits out of order");
    t.inject(seg(".").seq(141).ack(1).data(300));
    assert_eq!(t.unused(), 1, "what waited is covered now");
    t.expect(". 1 ack 441 win 59560");
    t.expect_delivered(440);
    let counters = t.tcp.counters();
    assert_eq!((counters.duplicate_segments, counters.trimmed_front, counters.out_of_order), (2, 2, 1));
}

#[test]
fn bytes_beyond_the_window_are_cut_off() {
    let mut t = Script::established(Config { receive_bytes: 1500, ..Config::default() });
    t.inject(seg(".").seq(1).ack(1).data(1000));
    t.inject(seg("F.").seq(1001).ack(1).data(1000));
    t.expect(". 1 ack 1501 win 0");
    t.expect_delivered(1500);
    t.expect_state(State::Established);
    assert_eq!(t.tcp.counters().trimmed_back, 2, "500 bytes, and the FIN behind them");
}

#[test]
fn the_window_closes_and_opens_in_large_steps() {
    let mut t = Script::established(Config { receive_bytes: 4000, ..Config::default() });
    for i in 0..4 {
        t.inject(seg(".").seq(1 + i * 1000).ack(1).data(1000));
    }
    t.expect(". 1 ack 4001 win 0");
    t.expect_nothing();
    // A payload of 1000 is a full segment: worth an update.
    assert!(t.tcp.recv().is_some());
    t.expect(". 1 ack 4001 win 1000");
    t.expect_nothing();

    let mut t = Script::established(Config { receive_bytes: 4000, ..Config::default() });
    for i in 0..40 {
        t.inject(seg(".").seq(1 + i * 100).ack(1).data(100));
    }
    t.expect(". 1 ack 4001 win 0");
    for _ in 0..9 {
        assert!(t.tcp.recv().is_some());
        t.expect_nothing();
    }
    assert!(t.tcp.recv().is_some());
    t.expect(". 1 ack 4001 win 1000");
}

#[test]
fn rounding_does_not_shrink_the_window() {
    let budget = 600_000;
    let config =
        Config { receive_bytes: budget, receive_payloads: 4096, timestamps: false, sack: false, ..Config::default() };
    let mut t = Script::connect(config);
    t.expect("S 0 win 65535 <mss 1460,wscale 4>");
    t.inject(seg("S.").ack(1).window(60000).options(|o| (o.mss, o.window_scale) = (Some(1000), Some(0))));
    t.expect(". 1 ack 1 win 37500");
    let (mut at, mut edge) = (1, 1 + budget);
    let mut segment = |t: &mut Script, len: u32| {
        t.inject(seg(".").seq(i64::from(at)).ack(1).data(len));
        let Some(header) = t.tcp.poll_tx(t.now).map(|segment| segment.header) else { return };
        let acked = header.ack.wrapping_sub(PEER_ISN);
        let told = acked + (u32::from(header.window) << 4);
        assert!(told >= edge, "the window shrinks from {edge} to {told}");
        (at, edge) = (acked, told);
    };
    // One after the other is acknowledged at once because each is sent twice.
    for i in 0..700 {
        segment(&mut t, 1 + (i * 37) % 999);
        segment(&mut t, 1 + (i * 37) % 999);
    }
    assert!(t.tcp.rcv_nxt().since(t.tcp.recv_position()) > 300_000);
}

#[test]
fn byte_by_byte_the_budget_still_holds() {
    // The window counts in units of 8 bytes.
    let budget = 300_000;
    let payloads = 100_000;
    let config = Config {
        receive_bytes: budget,
        receive_payloads: payloads,
        timestamps: false,
        sack: false,
        ..Config::default()
    };
    let mut t = Script::connect(config);
    t.expect("S 0 win 65535 <mss 1460,wscale 3>");
    t.inject(seg("S.").ack(1).window(60000).options(|o| (o.mss, o.window_scale) = (Some(1000), Some(0))));
    t.expect(". 1 ack 1 win 37500");
    t.unused();
    for i in 0..2 * payloads {
        let at = t.tcp.rcv_nxt().wire().wrapping_sub(PEER_ISN);
        t.inject(seg(".").seq(i64::from(at)).ack(1).data(if i < 290 { 1000 } else { 1 }));
        while t.tcp.poll_tx(t.now).is_some() {}
        if t.unused() > 0 {
            break;
        }
    }
    let ready = t.tcp.rcv_nxt().since(t.tcp.recv_position());
    assert!(ready >= u64::from(budget) && ready <= u64::from(budget + budget / 8), "{ready} bytes are held");
}

#[test]
fn a_probe_of_a_closed_window_is_answered() {
    let mut t = Script::established(Config { receive_bytes: 2000, ..Config::default() });
    t.tcp.send(&[0; 100]);
    t.expect("P. 1:100 ack 1 win 2000");
    t.inject(seg(".").seq(1).ack(1).data(1000));
    t.inject(seg(".").seq(1001).ack(1).data(1000));
    t.expect(". 101 ack 2001 win 0");
    t.unused();
    t.inject(seg(".").seq(2001).ack(101).data(1));
    t.expect(". 101 ack 2001 win 0");
    assert_eq!(t.unused(), 1);
    assert_eq!(t.tcp.snd_una(), t.tcp.snd_nxt(), "its acknowledgment counts");
    t.expect_delivered(2000);
    t.expect(". 101 ack 2001 win 2000");
    t.inject(seg(".").seq(2001).ack(101).data(1));
    t.expect_delivered(1);
}

#[test]
fn the_budget_in_payloads_closes_the_window() {
    let mut t = Script::connect(plain(Config { receive_payloads: 8, ..Config::default() }));
    t.expect("S 0 win 8000 <mss 1000,wscale 0>");
    t.inject(seg("S.").ack(1).window(60000).options(|o| o.mss = Some(1000)));
    t.expect(". 1 ack 1 win 8000");
    t.unused();
    // Small segments: each costs a payload, so no more window is given although there are bytes left.
    for i in 0..8 {
        t.inject(seg(".").seq(1 + i * 10).ack(1).data(10));
    }
    t.expect(". 1 ack 81 win 7920");
    assert_eq!(t.unused(), 0);
    t.inject(seg(".").seq(81).ack(1).data(10));
    t.inject(seg(".").seq(101).ack(1).data(10));
    assert_eq!(t.unused(), 2);
    assert_eq!(t.tcp.counters().dropped_no_room, 2);
    t.expect(". 1 ack 81 win 7920");
    t.expect_delivered(80);
    t.inject(seg(".").seq(81).ack(1).data(10));
    t.expect_delivered(10);
}

#[test]
fn positions_resolve_across_the_wrap() {
    let mut t = Script::established(Config::default());
    // PEER_ISN is 0x100 below the wrap.
    t.inject(seg(".").seq(1).ack(1).data(1000));
    let start = Position::initial(PEER_ISN) + 1;
    assert_eq!(t.tcp.recv_position(), start);
    assert_eq!(t.tcp.rcv_nxt(), start + 1000);
    assert_eq!((start + 1000).wire(), 1001 - 0x100);
    assert_eq!(t.tcp.resolve_received(0), Position::initial(PEER_ISN) + 0x100);
    assert_eq!(t.tcp.resolve_received(PEER_ISN), Position::initial(PEER_ISN));
    t.expect_delivered(1000);
    assert_eq!(t.tcp.recv_position(), start + 1000);
    assert_eq!(t.tcp.send_position(), t.tcp.snd_nxt());
    t.tcp.send(&[0; 50]);
    assert_eq!(t.tcp.send_position(), t.tcp.snd_nxt() + 50);
    assert_eq!(t.tcp.resolve_sent(OUR_ISN), Position::initial(OUR_ISN));
}

#[test]
fn a_segment_outside_the_window_is_answered() {
    let mut t = Script::established(Config::default());
    t.unused();
    for at in [-5000, 60001, 1 << 30] {
        t.inject(seg(".").seq(at).ack(1).data(100));
        t.expect(". 1 ack 1 win 60000");
        t.expect_nothing();
    }
    assert_eq!(t.unused(), 3);
    let counters = t.tcp.counters();
    assert_eq!((counters.dropped_out_of_window, counters.duplicate_segments), (2, 1));
}
