//! The peer reports what it has. MSS 1000, 40 ms, ten segments in flight unless a test says otherwise; NewReno, so that a
//! loss halves the window.
//!
//! | property | test |
//! |---|---|
//! | what the peer has is not sent again; each hole is, in one round trip (RFC 6675 4, NextSeg 1) | `each_hole_is_filled_in_one_round_trip` |
//! | two duplicates let new data out, the third begins recovery (RFC 3042, RFC 8985 6.2 step 4) | `the_third_begins_recovery` |
//! | with fewer, a quarter of the round trip does (RFC 8985 6.2 step 5, reordering timer) | `two_segments_are_enough` |
//! | recovery sends one segment for two that arrive, and ends at the threshold (RFC 9937 6.2) | `recovery_is_proportional` |
//! | a reduction per window of data, a second one for what was sent after (RFC 6675 5) | `one_reduction_per_window` |
//! | a retransmission that is lost is sent again without a timeout (RFC 8985 6.2) | `a_lost_retransmission_needs_no_timeout` |
//! | what is merely late is not sent again once reordering was seen (RFC 8985 6.2 step 3) | `reordering_is_learned` |
//! | the window for lateness grows with what the peer got twice (RFC 8985 6.2 step 4, RFC 2883) | `duplicates_make_it_patient` |
//! | an old acknowledgment's blocks count (RFC 6675 4) | `old_acknowledgments_count` |
//! | blocks that cannot be are ignored and counted | `impossible_blocks_are_ignored` |
//! | after a timeout what the peer has is not sent again (RFC 6675 5.1, RFC 8985 6.3) | `a_timeout_keeps_what_is_known` |
//! | unless the peer threw it away (RFC 2018 8) | `what_the_peer_threw_away_is_sent_again` |
//! | the tail is probed after two round trips: the last segment (RFC 8985 7.2, 7.3) | `the_tail_is_probed` |
//! | or new data, whatever the congestion window is | `a_probe_takes_new_data_if_there_is_any` |
//! | a single segment has the peer's delay on top (7.2) | `a_single_segment_waits_for_the_peers_delay` |
//! | one probe at a time; then the timeout (7.3) | `after_the_probe_comes_the_timeout` |
//! | a loss that the probe mended reduces the window, a duplicate does not (7.4) | `what_the_probe_mended_counts_as_a_loss` |
//! | a lost FIN is probed like data | `a_lost_fin_is_probed` |
//! | duplicates of everything that was sent again undo the reduction (RFC 3708) | `duplicates_undo_the_reduction` |
//! | and network duplicates do not | `more_duplicates_than_were_sent_undo_nothing` |
//! | an echo from before undoes a timeout, and nothing else is sent again (RFC 3522, RFC 4015) | `a_late_acknowledgment_undoes_the_timeout` |
//! | silence in recovery is broken by the highest segment, once without progress (RFC 6675 4, NextSeg 4) | `silence_in_recovery_is_broken_by_a_rescue` |
//! | what is sent again stays in the peer's window (RFC 9293 3.8.6) | `a_window_taken_back_holds_for_what_is_lost` |
//! | and probes it if it is closed | `a_window_closed_on_what_is_lost_is_probed` |
//! | segments in flight are bounded, more data then makes larger ones | `the_scoreboard_bounds_the_segments_in_flight` |
//! | CUBIC keeps 0.7 of the window (RFC 9438 4.6) | `cubic_keeps_more` |
//! | Karn: times are taken only from what was sent once (RFC 6298 3) | `only_what_was_sent_once_is_measured` |
use std::time::Duration;

use connectx_ddp::tcp::{Config, CongestionControl, State};

use crate::script::*;

const PATH: Duration = Duration::from_millis(40);

fn base() -> Config {
    Config { timestamps: false, ..Config::default() }
}

/// `n` segments of 1000 bytes were sent 40 ms ago, of 30 that are queued.
fn in_flight(config: Config) -> Script {
    let mut t = Script::established_with_sack(config);
    t.tcp.send(&[1; 30000]);
    t.expect_sent(&[1, 1001, 2001, 3001, 4001, 5001, 6001, 7001, 8001, 9001]);
    t.pass(PATH);
    t
}

/// All that is queued was sent 40 ms ago.
fn all_sent(bytes: usize) -> Script {
    let mut t = Script::established_with_sack(base());
    t.tcp.send(&vec![1; bytes]);
    t.expect_sent(&(0..bytes as i64).step_by(1000).map(|at| at + 1).collect::<Vec<_>>());
    t.pass(PATH);
    t
}

fn ack(at: i64, blocks: &[(i64, i64)]) -> In {
    seg(".").seq(1).ack(at).window(60000).sack(blocks)
}

#[test]
fn each_hole_is_filled_in_one_round_trip() {
    // 1, 3 and 5 are lost.
    let mut t = all_sent(10000);
    for (blocks, sent) in [
        (&[(1001, 2001)][..], &[][..]),
        (&[(3001, 4001), (1001, 2001)], &[]),
        (&[(5001, 6001), (3001, 4001), (1001, 2001)], &[1]),
        (&[(5001, 7001), (3001, 4001), (1001, 2001)], &[2001]),
        (&[(5001, 8001), (3001, 4001), (1001, 2001)], &[4001]),
        (&[(5001, 10001), (3001, 4001), (1001, 2001)], &[]),
    ] {
        t.inject(ack(1, blocks));
        t.expect_sent(sent);
    }
    t.pass(PATH);
    t.inject(ack(10001, &[]));
    t.expect_nothing();
    assert_eq!(t.tcp.next_deadline(), None);
    let counters = t.tcp.counters();
    assert_eq!((counters.fast_retransmits, counters.lost_segments, counters.retransmitted_segments), (1, 3, 3));
    assert_eq!((counters.timeouts, counters.tail_loss_probes), (0, 0));
    assert_eq!(t.tcp.congestion_window(), 5000);
}

#[test]
fn the_third_begins_recovery() {
    let mut t = in_flight(base());
    t.inject(ack(1, &[(1001, 2001)]));
    t.expect_sent(&[10001]);
    t.inject(ack(1, &[(1001, 3001)]));
    t.expect_sent(&[11001]);
    assert_eq!(t.tcp.congestion_window(), 10000);
    t.inject(ack(1, &[(1001, 4001)]));
    t.expect_sent(&[1]);
    assert_eq!((t.tcp.congestion_window(), t.tcp.counters().fast_retransmits), (5000, 1));
}

#[test]
fn two_segments_are_enough() {
    let mut t = all_sent(2000);
    t.inject(ack(1, &[(1001, 2001)]));
    t.wait(10 * MS);
    t.expect_sent(&[1]);
    assert_eq!((t.tcp.counters().fast_retransmits, t.tcp.counters().timeouts), (1, 0));
}

#[test]
fn recovery_is_proportional() {
    let mut t = in_flight(base());
    let mut sent = Vec::new();
    for i in 1..12 {
        t.pass(MS);
        t.inject(ack(1, &[(1001, 1001 + 1000 * i)]));
        let n = std::iter::from_fn(|| t.tcp.poll_tx(t.now).map(|_| ())).count();
        sent.push(n);
    }
    // Limited transmit, the first once more, then for about every second that arrives one. Ten were in flight and five are.
    assert_eq!(sent, [1, 1, 1, 0, 0, 1, 0, 0, 1, 1, 1]);
    t.pass(PATH);
    t.inject(ack(12001, &[]));
    assert_eq!(t.tcp.congestion_window(), 5000);
    t.expect_sent(&[16001]);
}

#[test]
fn one_reduction_per_window() {
    let mut t = in_flight(base());
    t.inject(ack(1, &[(1001, 4001)]));
    t.expect_sent(&[1]);
    t.inject(ack(1, &[(5001, 8001), (1001, 4001)]));
    // 4001 is lost as well: of the same window.
    t.expect_sent(&[4001, 10001]);
    assert_eq!((t.tcp.congestion_window(), t.tcp.counters().fast_retransmits), (5000, 1));
    // 10001 was sent in recovery, and is lost.
    t.pass(PATH);
    t.inject(ack(10001, &[(11001, 12001)]));
    assert_eq!((t.tcp.congestion_window(), t.tcp.counters().fast_retransmits), (5000, 1));
}

#[test]
fn a_lost_retransmission_needs_no_timeout() {
    let mut t = in_flight(base());
    (1..=3).for_each(|i| t.inject(ack(1, &[(1001, 1001 + i * 1000)])));
    t.expect_sent(&[1]);
    t.pass(MS);
    t.inject(ack(1, &[(1001, 10001)]));
    t.expect_sent(&[10001, 11001, 12001, 13001]);
    t.pass(PATH);
    // What was sent after it arrives, it does not.
    t.inject(ack(1, &[(1001, 12001)]));
    t.expect_sent(&[1, 14001, 15001]);
    t.pass(PATH);
    t.inject(ack(16001, &[]));
    let counters = t.tcp.counters();
    assert_eq!((counters.retransmitted_segments, counters.timeouts, counters.fast_retransmits), (2, 0, 1));
}

#[test]
fn reordering_is_learned() {
    let mut t = in_flight(base());
    t.inject(ack(1, &[(1001, 2001)]));
    t.expect_sent(&[10001]);
    // It was late, not lost.
    t.inject(ack(2001, &[]));
    t.expect_sent(&[11001, 12001]);
    // From now on three duplicates are not enough, a quarter of the round trip is.
    t.inject(ack(2001, &[(3001, 8001)]));
    t.expect_sent(&[13001, 14001, 15001, 16001, 17001]);
    t.wait(10 * MS);
    t.expect_sent(&[2001]);
    assert_eq!(t.tcp.counters().fast_retransmits, 1);
}

#[test]
fn duplicates_make_it_patient() {
    let mut t = in_flight(base());
    t.inject(ack(1, &[(1001, 4001)]));
    t.expect_sent(&[1]);
    t.inject(ack(10001, &[]));
    t.expect_sent(&[10001, 11001, 12001, 13001, 14001]);
    // Both copies of the first arrive; the hole that fills itself shows reordering.
    t.pass(PATH);
    t.inject(ack(10001, &[(1, 1001), (11001, 12001)]));
    assert_eq!(t.tcp.counters().dsacks_in, 1);
    t.inject(ack(12001, &[]));
    let sent = std::iter::from_fn(|| t.tcp.poll_tx(t.now).map(|_| ())).count();
    assert!(sent > 0);
    t.inject(ack(12001, &[(13001, 15001)]));
    // Two quarters instead of one.
    while t.tcp.poll_tx(t.now).is_some() {}
    t.wait(20 * MS);
    t.expect_sent(&[12001]);
}

#[test]
fn old_acknowledgments_count() {
    let mut t = all_sent(10000);
    t.inject(ack(2001, &[]));
    t.inject(ack(1001, &[(3001, 6001)]));
    t.expect_sent(&[2001]);
}

#[test]
fn impossible_blocks_are_ignored() {
    let mut t = all_sent(10000);
    for block in [(5001, 5001), (6001, 5001), (1001, 10002), (-60000, 5000), (1, 1 << 30)] {
        t.inject(ack(1, &[block]));
        t.expect_nothing();
    }
    let counters = t.tcp.counters();
    assert_eq!((counters.bad_sack_blocks, counters.fast_retransmits, counters.dsacks_in), (5, 0, 0));
    // Half segments say nothing of the segments.
    t.inject(ack(1, &[(1002, 5000)]));
    t.expect_nothing();
    assert_eq!(t.tcp.counters().fast_retransmits, 0);
    t.wait(10 * MS);
    t.expect_sent(&[1]);
}

#[test]
fn a_timeout_keeps_what_is_known() {
    let mut t = in_flight(base());
    t.inject(ack(1, &[(2001, 5001)]));
    t.expect_sent(&[1]);
    t.wait(80 * MS);
    t.expect_sent(&[1001]);
    t.wait(200 * MS);
    t.expect_sent(&[1]);
    assert_eq!((t.tcp.counters().timeouts, t.tcp.congestion_window()), (1, 1000));
    t.pass(PATH);
    // Slow start, over what the peer does not have.
    t.inject(ack(1001, &[(2001, 5001)]));
    t.expect_sent(&[1001, 5001]);
    t.pass(PATH);
    t.inject(ack(6001, &[]));
    t.expect_sent(&[6001, 7001, 8001]);
}

#[test]
fn what_the_peer_threw_away_is_sent_again() {
    let mut t = all_sent(4000);
    t.inject(ack(1, &[(1001, 4001)]));
    t.expect_sent(&[1]);
    t.pass(PATH);
    // It takes the first, and has forgotten the others.
    t.inject(ack(1001, &[]));
    t.expect_nothing();
    t.now = t.tcp.next_deadline().unwrap();
    t.expect_sent(&[1001]);
    assert_eq!(t.tcp.counters().sack_reneges, 1);
    t.inject(ack(2001, &[]));
    t.expect_sent(&[2001, 3001]);
}

#[test]
fn the_tail_is_probed() {
    let mut t = Script::established_with_sack(base());
    t.tcp.send(&[1; 3000]);
    t.expect_sent(&[1, 1001, 2001]);
    t.wait(80 * MS);
    t.expect_sent(&[2001]);
    t.pass(PATH);
    // It arrives: the first two, sent two round trips before, are lost.
    t.inject(ack(1, &[(2001, 3001)]));
    t.expect_sent(&[1]);
    t.pass(PATH);
    t.inject(ack(1001, &[(2001, 3001)]));
    t.expect_sent(&[1001]);
    t.pass(PATH);
    t.inject(ack(3001, &[]));
    let counters = t.tcp.counters();
    assert_eq!((counters.tail_loss_probes, counters.timeouts, counters.fast_retransmits), (1, 0, 1));
}

#[test]
fn a_probe_takes_new_data_if_there_is_any() {
    let mut t = in_flight(base());
    t.wait(40 * MS);
    t.expect_sent(&[10001]);
    t.pass(PATH);
    t.inject(ack(1, &[(10001, 11001)]));
    assert_eq!(t.tcp.counters().tail_loss_probes, 1);
    // Nothing of what was sent before has arrived.
    t.expect_sent(&[1]);
    assert_eq!((t.tcp.counters().lost_segments, t.tcp.counters().timeouts), (10, 0));
}

#[test]
fn a_single_segment_waits_for_the_peers_delay() {
    let mut t = Script::established_with_sack(Config { peer_ack_delay: Duration::from_millis(25), ..base() });
    t.tcp.send(b"x");
    t.expect_sent(&[1]);
    t.wait(105 * MS);
    t.expect_sent(&[1]);
}

#[test]
fn after_the_probe_comes_the_timeout() {
    let mut t = Script::established_with_sack(base());
    t.tcp.send(&[1; 3000]);
    t.expect_sent(&[1, 1001, 2001]);
    t.wait(80 * MS);
    t.expect_sent(&[2001]);
    t.wait(200 * MS);
    t.expect_sent(&[1]);
    t.wait(400 * MS);
    t.expect_sent(&[1]);
    let counters = t.tcp.counters();
    assert_eq!((counters.tail_loss_probes, counters.timeouts), (1, 2));
}

#[test]
fn what_the_probe_mended_counts_as_a_loss() {
    // Two segments after the probe: acknowledged with, and without, a report that the probe was a duplicate.
    for (blocks, mended) in [(&[][..], 1), (&[(2001, 3001)], 0)] {
        let mut t = Script::established_with_sack(base());
        t.tcp.send(&[1; 3000]);
        t.expect_sent(&[1, 1001, 2001]);
        t.wait(80 * MS);
        t.expect_sent(&[2001]);
        t.pass(PATH);
        t.inject(ack(3001, blocks));
        t.tcp.send(b"x");
        t.expect_sent(&[3001]);
        t.pass(PATH);
        t.inject(ack(3002, &[]));
        assert_eq!(t.tcp.counters().probes_mended, mended);
        assert_eq!(t.tcp.congestion_window() < 10000, mended == 1);
    }
}

#[test]
fn a_lost_fin_is_probed() {
    let mut t = Script::established_with_sack(base());
    t.tcp.send(&[1; 100]);
    t.tcp.close();
    t.expect("FP. 1:100 ack 1 win 60000");
    t.wait(120 * MS);
    t.expect("FP. 1:100 ack 1 win 60000");
    t.inject(ack(101, &[]));
    t.expect_nothing();
    t.now = t.tcp.next_deadline().unwrap();
    t.expect("F. 101 ack 1 win 60000");
    t.inject(ack(102, &[]));
    t.expect_state(State::FinWait2);
    assert_eq!(t.tcp.counters().timeouts, 1);
}

/// The first of ten was late, and is sent again.
fn one_is_late() -> Script {
    let mut t = all_sent(10000);
    t.inject(ack(1, &[(1001, 4001)]));
    t.expect_sent(&[1]);
    t.inject(ack(10001, &[]));
    assert_eq!(t.tcp.congestion_window(), 5000);
    t
}

#[test]
fn duplicates_undo_the_reduction() {
    let mut t = one_is_late();
    t.pass(PATH);
    t.inject(ack(10001, &[(1, 1001)]));
    assert_eq!((t.tcp.congestion_window(), t.tcp.counters().spurious_recoveries), (10000, 1));
}

#[test]
fn more_duplicates_than_were_sent_undo_nothing() {
    let mut t = one_is_late();
    // Of something else; then of more than was sent.
    t.inject(ack(10001, &[(5001, 6001)]));
    t.inject(ack(10001, &[(1, 601)]));
    t.inject(ack(10001, &[(1, 601)]));
    t.inject(ack(10001, &[(1, 401)]));
    assert_eq!((t.tcp.congestion_window(), t.tcp.counters().spurious_recoveries), (5000, 0));
    assert_eq!(t.tcp.counters().dsacks_in, 4);
}

#[test]
fn a_late_acknowledgment_undoes_the_timeout() {
    // The echo is that of the first transmission, or that of the second.
    for late in [true, false] {
        let mut t = Script::established_with_sack(Config { timestamps: true, ..base() });
        // With timestamps there are 988 bytes in a segment.
        let at = |segment: i64| 1 + 988 * segment;
        t.tcp.send(&[1; 9880]);
        t.expect_sent(&(0..10).map(at).collect::<Vec<_>>());
        let before = 100_000 + 40;
        t.wait(80 * MS);
        t.expect_sent(&[at(9)]);
        t.wait(200 * MS);
        t.expect_sent(&[at(0)]);
        assert_eq!(t.tcp.congestion_window(), 988);
        t.pass(10 * MS);
        let echo = if late { before } else { before + 280 };
        t.inject(ack(at(2), &[]).ts(8, echo));
        match late {
            true => t.expect_nothing(),
            false => t.expect_sent(&[at(2), at(3)]),
        }
        // And one segment more for this acknowledgment, in slow start both.
        let window = if late { 11 * 988 } else { 2 * 988 };
        assert_eq!((t.tcp.congestion_window(), t.tcp.counters().timeouts), (window, 1));
        assert_eq!(t.tcp.counters().spurious_recoveries, u64::from(late));
    }
}

#[test]
fn silence_in_recovery_is_broken_by_a_rescue() {
    // The first and the last are lost, and the first once more.
    let mut t = all_sent(10000);
    t.inject(ack(1, &[(1001, 9001)]));
    t.expect_sent(&[1]);
    t.wait(80 * MS);
    t.expect_sent(&[9001]);
    t.pass(PATH);
    // It arrives, what was sent before it did not.
    t.inject(ack(1, &[(1001, 10001)]));
    t.expect_sent(&[1]);
    // Lost again: without progress there is no second rescue.
    t.wait(200 * MS);
    t.expect_sent(&[1]);
    let counters = t.tcp.counters();
    assert_eq!((counters.rescues, counters.timeouts, counters.tail_loss_probes), (1, 1, 0));
}

#[test]
fn a_window_taken_back_holds_for_what_is_lost() {
    let mut t = all_sent(10000);
    t.inject(ack(1, &[(2001, 6001)]).window(1500));
    t.expect("  . 1:1000 ack 1 win 60000".trim());
    t.expect_nothing();
    t.inject(ack(1001, &[(2001, 6001)]).window(500));
    t.expect(". 1001:500 ack 1 win 60000");
    t.expect_nothing();
    t.inject(ack(1501, &[(2001, 6001)]).window(60000));
    t.now = t.tcp.next_deadline().unwrap();
    assert!(t.tcp.poll_tx(t.now).is_some());
}

#[test]
fn a_window_closed_on_what_is_lost_is_probed() {
    let mut t = all_sent(10000);
    t.inject(ack(1, &[(1001, 4001)]).window(0));
    t.expect_nothing();
    // The timeout cannot send anything; then the window is probed.
    for _ in 0..100 {
        t.now = t.tcp.next_deadline().unwrap();
        if let Some(segment) = t.tcp.poll_tx(t.now) {
            assert_eq!((segment.header.seq, segment.payload_len()), (OUR_ISN.wrapping_add(1), 1));
        }
        t.expect_nothing();
        t.inject(ack(1, &[(1001, 4001)]).window(0));
    }
    assert!(t.tcp.counters().window_probes > 90);
    t.inject(ack(2, &[(1001, 4001)]).window(60000));
    t.expect(". 2:999 ack 1 win 60000");
    t.inject(ack(4001, &[]));
    t.expect_sent(&[4001, 5001]);
    t.expect_state(State::Established);
}

#[test]
fn the_scoreboard_bounds_the_segments_in_flight() {
    let mut t = Script::established_with_sack(Config { send_bytes: 10_000, ..base() });
    for i in 0..63 {
        t.tcp.send(&[1; 10]);
        t.expect_sent(&[1 + 10 * i]);
    }
    for _ in 0..50 {
        t.tcp.send(&[1; 10]);
        t.expect_sent(&[]);
    }
    t.inject(ack(11, &[]));
    t.expect("P. 631:500 ack 1 win 60000");
    t.expect_nothing();
}

#[test]
fn cubic_keeps_more() {
    for (congestion, window) in [(CongestionControl::NewReno, 5000), (CongestionControl::Cubic, 7000)] {
        let mut t = Script::connect(Config { congestion, timestamps: false, mss: 1000, ..Config::default() });
        t.tcp.poll_tx(t.now).unwrap();
        t.inject(seg("S.").ack(1).window(60000).options(|o| (o.mss, o.sack_permitted) = (Some(1000), true)));
        t.tcp.send(&[1; 10000]);
        assert_eq!(std::iter::from_fn(|| t.tcp.poll_tx(t.now).map(|_| ())).count(), 10);
        t.inject(ack(1, &[(1001, 4001)]));
        assert_eq!(t.tcp.congestion_window(), window);
    }
}

#[test]
fn only_what_was_sent_once_is_measured() {
    let mut t = all_sent(10000);
    t.inject(ack(1, &[(1001, 4001)]));
    t.expect_sent(&[1]);
    t.pass(3 * PATH);
    let before = t.tcp.smoothed_rtt();
    t.inject(ack(4001, &[]));
    assert_eq!(t.tcp.smoothed_rtt(), before);
    t.inject(ack(5001, &[]));
    assert!(t.tcp.smoothed_rtt() > before);
}
