//! | property | test |
//! |---|---|
//! | what is queued is sent at once, in full segments, the last one pushed; no Nagle | `small_data_is_not_held_back` |
//! | the peer's window is never exceeded; what does not fill a segment waits (RFC 9293 3.8.6.2.1) | `the_window_is_respected_without_silly_segments` |
//! | a retransmission that acknowledges new data also brings the window | `an_old_sequence_number_with_news_brings_the_window` |
//! | an old segment does not change the window (WL1, WL2) | `an_old_segment_does_not_change_the_window` |
//! | a closed window is probed with one byte and back-off, for ever if answered (MUST-36, 37) | `a_closed_window_is_probed` |
//! | a window that was closed for long leaves the usual time for what is sent then | `a_reopened_window_starts_the_patience_afresh` |
//! | unanswered probes end the connection | `unanswered_probes_end_the_connection` |
//! | a window too small for a segment is used when the timer says so | `a_small_window_is_used_after_a_while` |
//! | a timeout sends again with back-off and one segment in flight (RFC 6298, 5681) | `a_timeout_backs_off_and_starts_small` |
//! | three duplicates retransmit at once; recovery ends with the full acknowledgment (RFC 6582) | `fast_retransmit_and_recovery` |
//! | a partial acknowledgment retransmits the next hole (RFC 6582) | `a_partial_acknowledgment_fills_the_next_hole` |
//! | only the first partial acknowledgment restarts the timer (RFC 6582 4) | `partial_acknowledgments_do_not_put_the_timer_off` |
//! | duplicates need all five conditions (RFC 5681 2) | `what_is_not_a_duplicate_acknowledgment` |
//! | the first two duplicates let new data out (RFC 3042) | `duplicates_let_new_data_out` |
//! | silence for the user timeout ends the connection with a reset | `no_acknowledgment_ends_the_connection` |
//! | a measurement is not taken from what was sent again (Karn), or only by its echo | `what_was_sent_again_is_measured_by_its_echo_only` |
//! | the ring bounds what is queued | `the_ring_bounds_what_is_queued` |
//! | after idling the window is the initial one (RFC 5681 4.1) | `idling_restarts_slowly` |
//! | a congestion window that is not the limit does not grow (RFC 9438 5.8) | `a_window_that_is_not_the_limit_does_not_grow` |
use std::time::Duration;

use connectx_ddp::tcp::{Config, ConnectionError, State, Waited};

use crate::script::*;

#[test]
fn small_data_is_not_held_back() {
    let mut t = Script::established(Config::default());
    t.tcp.send(&[1; 10]);
    t.expect("P. 1:10 ack 1 win 60000");
    t.tcp.send(&[1; 2010]);
    t.expect(". 11:1000 ack 1 win 60000");
    t.expect(". 1011:1000 ack 1 win 60000");
    t.expect("P. 2011:10 ack 1 win 60000");
    t.expect_nothing();
}

#[test]
fn the_window_is_respected_without_silly_segments() {
    let mut t = Script::established(Config::default());
    t.inject(seg(".").seq(1).ack(1).window(2300));
    t.tcp.send(&[1; 5000]);
    t.expect(". 1:1000 ack 1 win 60000");
    t.expect(". 1001:1000 ack 1 win 60000");
    t.expect_nothing();
    t.inject(seg(".").seq(1).ack(1001).window(2100));
    t.expect(". 2001:1000 ack 1 win 60000");
    t.expect_nothing();
}

#[test]
fn an_old_sequence_number_with_news_brings_the_window() {
    let mut t = Script::established(Config::default());
    t.tcp.send(&[1; 5000]);
    (0..5).for_each(|i| t.expect(&format!("{} {}:1000 ack 1 win 60000", if i < 4 { "." } else { "P." }, 1 + i * 1000)));
    t.inject(seg(".").seq(1001).ack(2001).window(3000).data(100));
    t.expect(". 5001 ack 1 win 60000");
    // What fills the gap has a lower sequence number, a later acknowledgment and another window: 500 from 4001 on.
    t.inject(seg(".").seq(1).ack(4001).window(1500).data(1000));
    t.expect(". 5001 ack 1101 win 58900");
    t.tcp.send(&[1; 2000]);
    t.expect_nothing();
    t.inject(seg(".").seq(1101).ack(5001).window(1500));
    t.expect(". 5001:1000 ack 1101 win 58900");
    t.expect_nothing();
}

#[test]
fn an_old_segment_does_not_change_the_window() {
    let mut t = Script::established(Config::default());
    t.inject(seg(".").seq(101).ack(1).window(5000).data(100));
    t.expect(". 1 ack 1 win 60000");
    t.inject(seg(".").seq(1).ack(1).window(0).data(10));
    t.tcp.send(&[1; 1000]);
    t.expect("P. 1:1000 ack 11 win 59990");
}

#[test]
fn a_closed_window_is_probed() {
    let mut t = Script::established(Config::default());
    t.inject(seg(".").seq(1).ack(1).window(0));
    t.tcp.send(b"ab");
    t.tcp.close();
    for wait in [200, 400, 800, 1600] {
        t.wait(wait * MS);
        t.expect(". 1:1 ack 1 win 60000");
        t.inject(seg(".").seq(1).ack(1).window(0));
    }
    for _ in 0..100 {
        t.expect_nothing();
        t.now = t.tcp.next_deadline().unwrap();
        t.expect(". 1:1 ack 1 win 60000");
        t.inject(seg(".").seq(1).ack(1).window(0));
    }
    // The byte is taken, the window stays closed: now the next, then the FIN is probed.
    t.inject(seg(".").seq(1).ack(2).window(0));
    t.expect_nothing();
    t.now = t.tcp.next_deadline().unwrap();
    t.expect(". 2:1 ack 1 win 60000");
    t.inject(seg(".").seq(1).ack(3).window(0));
    t.expect_nothing();
    t.now = t.tcp.next_deadline().unwrap();
    t.expect("F. 3 ack 1 win 60000");
    t.inject(seg(".").seq(1).ack(4).window(0));
    t.expect_nothing();
    t.expect_state(State::FinWait2);
}

#[test]
fn a_reopened_window_starts_the_patience_afresh() {
    let mut t = Script::established(Config { user_timeout: Duration::from_secs(5), ..Config::default() });
    t.tcp.send(&[1; 3000]);
    (0..3).for_each(|i| t.expect(&format!("{} {}:1000 ack 1 win 60000", if i < 2 { "." } else { "P." }, 1 + i * 1000)));
    // The peer takes the window back, with data in flight, and keeps it closed for longer than the user timeout.
    for _ in 0..100 {
        t.inject(seg(".").seq(1).ack(1).window(0));
        while t.tcp.poll_tx(t.now).is_some() {}
        t.now = t.tcp.next_deadline().unwrap().min(t.now + Duration::from_secs(1));
    }
    assert!(t.now > Duration::from_secs(120));
    t.inject(seg(".").seq(1).ack(1).window(60000));
    t.expect(". 1:1000 ack 1 win 60000");
    t.expect_nothing();
    assert!(t.tcp.next_deadline().unwrap() > t.now + 200 * MS);
    t.inject(seg(".").seq(1).ack(1001).window(60000));
    t.expect(". 1001:1000 ack 1 win 60000");
}

#[test]
fn unanswered_probes_end_the_connection() {
    let mut t = Script::established(Config { user_timeout: Duration::from_secs(5), ..Config::default() });
    t.inject(seg(".").seq(1).ack(1).window(0));
    t.tcp.send(b"ab");
    for wait in [200, 400, 800, 1600, 3200] {
        t.wait(wait * MS);
        if wait < 3200 {
            t.expect(". 1:1 ack 1 win 60000");
        }
    }
    t.expect("R. 2 ack 1 win 0");
    let after = Duration::from_millis(6200);
    assert_eq!(t.tcp.error(), Some(ConnectionError::TimedOut { what: Waited::WindowProbe, after }));
}

#[test]
fn a_small_window_is_used_after_a_while() {
    let mut t = Script::established(Config::default());
    t.inject(seg(".").seq(1).ack(1).window(100));
    t.tcp.send(&[1; 1000]);
    t.wait(200 * MS);
    t.expect(". 1:100 ack 1 win 60000");
    t.inject(seg(".").seq(1).ack(101).window(60000));
    t.expect("P. 101:900 ack 1 win 60000");
}

#[test]
fn a_timeout_backs_off_and_starts_small() {
    let mut t = Script::established(Config::default());
    t.tcp.send(&[1; 3000]);
    t.expect(". 1:1000 ack 1 win 60000");
    t.expect(". 1001:1000 ack 1 win 60000");
    t.expect("P. 2001:1000 ack 1 win 60000");
    for wait in [200, 400, 800] {
        t.wait(wait * MS);
        t.expect(". 1:1000 ack 1 win 60000");
    }
    t.expect_nothing();
    // The first is acknowledged: slow start, two segments.
    t.inject(seg(".").seq(1).ack(1001).window(60000));
    t.expect(". 1001:1000 ack 1 win 60000");
    t.expect("P. 2001:1000 ack 1 win 60000");
    t.inject(seg(".").seq(1).ack(3001).window(60000));
    t.expect_nothing();
    assert_eq!(t.tcp.next_deadline(), None);
    // RFC 6298 5: the back-off ends with the next measurement.
    t.tcp.send(b"x");
    t.expect("P. 3001:1 ack 1 win 60000");
    assert_eq!(t.tcp.next_deadline(), Some(t.now + 1600 * MS));
    t.inject(seg(".").seq(1).ack(3002).window(60000));
    t.tcp.send(b"x");
    t.expect("P. 3002:1 ack 1 win 60000");
    assert_eq!(t.tcp.next_deadline(), Some(t.now + 200 * MS));
    let counters = t.tcp.counters();
    assert_eq!((counters.timeouts, counters.retransmitted_segments), (3, 5));
}

/// Ten segments are in flight.
fn ten_in_flight() -> Script {
    let mut t = Script::established(Config::default());
    t.tcp.send(&[1; 30000]);
    (0..10).for_each(|i| t.expect(&format!(". {}:1000 ack 1 win 60000", 1 + i * 1000)));
    t.expect_nothing();
    t
}

#[test]
fn fast_retransmit_and_recovery() {
    let mut t = ten_in_flight();
    t.inject(seg(".").seq(1).ack(1).window(60000));
    t.inject(seg(".").seq(1).ack(1).window(60000));
    t.inject(seg(".").seq(1).ack(1).window(60000));
    t.expect(". 1:1000 ack 1 win 60000");
    // ssthresh 5, window 5 + 3: nothing new until 3 more duplicates.
    t.expect_nothing();
    (0..2).for_each(|_| t.inject(seg(".").seq(1).ack(1).window(60000)));
    t.expect_nothing();
    t.inject(seg(".").seq(1).ack(1).window(60000));
    t.expect(". 10001:1000 ack 1 win 60000");
    t.expect_nothing();
    // Full acknowledgment: out of recovery with no burst.
    t.inject(seg(".").seq(1).ack(10001).window(60000));
    t.expect(". 11001:1000 ack 1 win 60000");
    t.expect_nothing();
    let counters = t.tcp.counters();
    assert_eq!((counters.fast_retransmits, counters.retransmitted_segments, counters.timeouts), (1, 1, 0));
}

#[test]
fn a_partial_acknowledgment_fills_the_next_hole() {
    let mut t = ten_in_flight();
    (0..3).for_each(|_| t.inject(seg(".").seq(1).ack(1).window(60000)));
    t.expect(". 1:1000 ack 1 win 60000");
    t.inject(seg(".").seq(1).ack(4001).window(60000));
    t.expect(". 4001:1000 ack 1 win 60000");
    t.expect_nothing();
    t.inject(seg(".").seq(1).ack(10001).window(60000));
    t.expect(". 10001:1000 ack 1 win 60000");
    t.expect(". 11001:1000 ack 1 win 60000");
    t.expect_nothing();
    assert_eq!(t.tcp.counters().fast_retransmits, 1);
}

#[test]
fn partial_acknowledgments_do_not_put_the_timer_off() {
    let mut t = ten_in_flight();
    (0..3).for_each(|_| t.inject(seg(".").seq(1).ack(1).window(60000)));
    t.expect(". 1:1000 ack 1 win 60000");
    t.pass(100 * MS);
    t.inject(seg(".").seq(1).ack(2001).window(60000));
    t.expect(". 2001:1000 ack 1 win 60000");
    let deadline = t.tcp.next_deadline().unwrap();
    assert_eq!(deadline, t.now + 200 * MS);
    for at in [4001, 6001] {
        t.pass(80 * MS);
        t.inject(seg(".").seq(1).ack(at).window(60000));
        t.expect(&format!(". {at}:1000 ack 1 win 60000"));
        assert_eq!(t.tcp.next_deadline(), Some(deadline));
    }
    // What remains is sent again from the first hole on.
    t.now = deadline;
    t.expect(". 6001:1000 ack 1 win 60000");
    assert_eq!(t.tcp.counters().timeouts, 1);
}

#[test]
fn what_is_not_a_duplicate_acknowledgment() {
    let mut t = ten_in_flight();
    for i in 0..3 {
        // Another window each time, or data.
        t.inject(seg(".").seq(1 + i).ack(1).window(50000 + i as u16));
        t.inject(seg(".").seq(1 + i).ack(1).window(50000 + i as u16).data(1));
    }
    t.expect(". 10001 ack 4 win 59997");
    t.expect_nothing();
    assert_eq!(t.tcp.counters().duplicate_acks_in, 0);
    // Nothing outstanding.
    t.inject(seg(".").seq(4).ack(10001).window(0));
    for _ in 0..5 {
        t.inject(seg(".").seq(4).ack(10001).window(0));
    }
    assert_eq!(t.tcp.counters().duplicate_acks_in, 0);
}

#[test]
fn duplicates_let_new_data_out() {
    let mut t = ten_in_flight();
    t.inject(seg(".").seq(1).ack(1).window(60000));
    t.expect(". 10001:1000 ack 1 win 60000");
    t.expect_nothing();
    t.inject(seg(".").seq(1).ack(1).window(60000));
    t.expect(". 11001:1000 ack 1 win 60000");
    t.expect_nothing();
    t.inject(seg(".").seq(1).ack(1).window(60000));
    t.expect(". 1:1000 ack 1 win 60000");
    t.expect_nothing();
}

#[test]
fn no_acknowledgment_ends_the_connection() {
    let mut t = Script::established(Config { user_timeout: Duration::from_secs(1), ..Config::default() });
    t.tcp.send(b"x");
    t.expect("P. 1:1 ack 1 win 60000");
    for wait in [200, 400] {
        t.wait(wait * MS);
        t.expect("P. 1:1 ack 1 win 60000");
    }
    t.wait(400 * MS);
    t.expect("R. 2 ack 1 win 0");
    t.expect_nothing();
    let after = Duration::from_secs(1);
    assert_eq!(t.tcp.error(), Some(ConnectionError::TimedOut { what: Waited::Acknowledgment, after }));
    assert_eq!(t.tcp.send(b"x"), 0);
}

#[test]
fn what_was_sent_again_is_measured_by_its_echo_only() {
    let mut t = Script::established(Config::default());
    t.tcp.send(b"x");
    t.expect("P. 1:1 ack 1 win 60000");
    let before = t.tcp.smoothed_rtt();
    t.wait(200 * MS);
    t.expect("P. 1:1 ack 1 win 60000");
    t.pass(50 * MS);
    t.inject(seg(".").seq(1).ack(2).window(60000));
    assert_eq!(t.tcp.smoothed_rtt(), before, "Karn");

    for (echo, samples) in [(100_000, 1), (100_200, 2)] {
        let mut t = Script::connect(Config { sack: false, mss: 1000, receive_bytes: 60000, ..Config::default() });
        t.expect("S 0 win 60000 <mss 1000,wscale 0,ts 100000 0>");
        t.inject(seg("S.").ack(1).window(60000).ts(9, 100_000));
        t.tcp.send(b"x");
        t.expect("P. 1:1 ack 1 win 60000 <ts 100000 9>");
        t.wait(200 * MS);
        t.expect("P. 1:1 ack 1 win 60000 <ts 100200 9>");
        t.pass(50 * MS);
        // The echo says which transmission is acknowledged; that of the first would measure the timeout itself.
        t.inject(seg(".").seq(1).ack(2).window(60000).ts(10, echo));
        assert_eq!(t.tcp.counters().rtt_samples, samples);
    }
}

#[test]
fn the_ring_bounds_what_is_queued() {
    let mut t = Script::established(Config { send_bytes: 1500, ..Config::default() });
    assert_eq!(t.tcp.send(&[1; 1000]), 1000);
    assert_eq!(t.tcp.send_room(), 500);
    assert_eq!(t.tcp.send(&[2; 1000]), 500);
    assert_eq!(t.tcp.send(&[2; 1000]), 0);
    t.expect(". 1:1000 ack 1 win 60000");
    t.expect("P. 1001:500 ack 1 win 60000");
    t.inject(seg(".").seq(1).ack(1001).window(60000));
    assert_eq!(t.tcp.send_room(), 1000);
    assert_eq!(t.tcp.send(&[3; 1000]), 1000);
    let segment = t.tcp.poll_tx(t.now).unwrap();
    assert_eq!(segment.payload[0], [3; 1000]);
    assert_eq!(t.tcp.send_room(), 0);
}

#[test]
fn idling_restarts_slowly() {
    let mut t = ten_in_flight();
    t.inject(seg(".").seq(1).ack(10001).window(60000));
    let sent = std::iter::from_fn(|| t.tcp.poll_tx(t.now).map(|_| ())).count();
    assert_eq!(sent, 11);
    t.inject(seg(".").seq(1).ack(21001).window(60000));
    let sent = std::iter::from_fn(|| t.tcp.poll_tx(t.now).map(|_| ())).count();
    assert_eq!(sent, 9, "all of the 30000 bytes are out");
    t.inject(seg(".").seq(1).ack(30001).window(60000));
    let window = t.tcp.congestion_window();
    assert!(window > 10_000);
    t.pass(Duration::from_secs(1));
    t.tcp.send(&[0; 30000]);
    let sent = std::iter::from_fn(|| t.tcp.poll_tx(t.now).map(|_| ())).count();
    assert_eq!(sent, 10);
    assert_eq!(t.tcp.congestion_window(), 10_000);
}

#[test]
fn a_window_that_is_not_the_limit_does_not_grow() {
    // The peer's window, then what there is to send.
    for (window, bytes) in [(3000, 30000), (60000, 3000)] {
        let mut t = Script::established(Config::default());
        t.inject(seg(".").seq(1).ack(1).window(window));
        for _ in 0..10 {
            t.tcp.send(&vec![1; bytes]);
            assert_eq!(std::iter::from_fn(|| t.tcp.poll_tx(t.now).map(|_| ())).count(), 3);
            let at = t.tcp.snd_nxt().wire().wrapping_sub(OUR_ISN);
            t.inject(seg(".").seq(1).ack(i64::from(at)).window(window));
        }
        assert_eq!(t.tcp.congestion_window(), 10000);
    }
}
