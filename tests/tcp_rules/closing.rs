//! | property | test |
//! |---|---|
//! | active close through FIN-WAIT-1, FIN-WAIT-2, TIME-WAIT (RFC 9293 figure 12) | `active_close` |
//! | FIN follows the data that was queued, in the same segment if it fits | `fin_follows_the_data` |
//! | passive close through CLOSE-WAIT, LAST-ACK; data can still be sent | `passive_close` |
//! | both close at once (figure 13) | `simultaneous_close` |
//! | FIN that acknowledges ours goes straight to TIME-WAIT | `fin_with_acknowledgment` |
//! | a FIN out of order waits for the data before it | `an_early_fin_waits_for_data` |
//! | a lost FIN is sent again | `a_lost_fin_is_sent_again` |
//! | TIME-WAIT answers the FIN again and starts anew | `time_wait_answers_again` |
//! | half-closed: what the peer sends is still delivered | `data_after_our_fin_is_delivered` |
//! | FIN-WAIT-2 has a deadline | `fin_wait_2_has_a_deadline` |
//! | abort sends a reset, nothing is received any more, everything held comes back | `abort_gives_everything_back` |
//! | keepalive probes, and gives up | `keepalive_probes_and_gives_up`, `a_late_caller_does_not_lose_keepalive` |
//! | a closed connection answers with resets | `a_closed_connection_answers_with_resets` |
//! | closing before the handshake | `close_in_the_handshake` |
use std::time::Duration;

use connectx_ddp::tcp::{Config, ConnectionError, Keepalive, State, Waited};

use crate::script::*;

#[test]
fn active_close() {
    let mut t = Script::established(Config { msl: Duration::from_secs(30), ..Config::default() });
    t.tcp.close();
    t.expect_state(State::FinWait1);
    t.expect("F. 1 ack 1 win 60000");
    t.inject(seg(".").seq(1).ack(2));
    t.expect_state(State::FinWait2);
    t.expect_nothing();
    assert!(!t.tcp.at_end());
    t.inject(seg("F.").seq(1).ack(2));
    t.expect(". 2 ack 2 win 59999");
    t.expect_state(State::TimeWait);
    assert!(t.tcp.at_end());
    t.wait(Duration::from_secs(60));
    t.expect_nothing();
    t.expect_state(State::Closed);
    assert_eq!((t.tcp.error(), t.tcp.next_deadline()), (None, None));
}

#[test]
fn fin_follows_the_data() {
    let mut t = Script::established(Config::default());
    t.tcp.send(&[1; 1200]);
    t.tcp.close();
    assert_eq!(t.tcp.send(b"x"), 0);
    t.expect(". 1:1000 ack 1 win 60000");
    t.expect("FP. 1001:200 ack 1 win 60000");
    t.inject(seg(".").seq(1).ack(1201));
    t.expect_state(State::FinWait1);
    t.inject(seg(".").seq(1).ack(1202));
    t.expect_state(State::FinWait2);
}

#[test]
fn passive_close() {
    let mut t = Script::established(Config::default());
    t.inject(seg("F.").seq(1).ack(1).data(10));
    t.expect_state(State::CloseWait);
    t.expect(". 1 ack 12 win 59989");
    assert!(!t.tcp.at_end());
    t.expect_delivered(10);
    assert!(t.tcp.at_end());
    t.tcp.send(b"more");
    t.expect("P. 1:4 ack 12 win 59989");
    t.tcp.close();
    t.expect_state(State::LastAck);
    t.expect("F. 5 ack 12 win 59989");
    t.inject(seg(".").seq(12).ack(6));
    t.expect_state(State::Closed);
    assert_eq!(t.tcp.error(), None);
    t.expect_nothing();
}

#[test]
fn simultaneous_close() {
    let mut t = Script::established(Config::default());
    t.tcp.close();
    t.expect("F. 1 ack 1 win 60000");
    t.inject(seg("F.").seq(1).ack(1));
    t.expect_state(State::Closing);
    t.expect(". 2 ack 2 win 59999");
    t.inject(seg(".").seq(2).ack(2));
    t.expect_state(State::TimeWait);
}

#[test]
fn fin_with_acknowledgment() {
    let mut t = Script::established(Config::default());
    t.tcp.close();
    t.expect("F. 1 ack 1 win 60000");
    t.inject(seg("F.").seq(1).ack(2));
    t.expect_state(State::TimeWait);
    t.expect(". 2 ack 2 win 59999");
}

#[test]
fn an_early_fin_waits_for_data() {
    let mut t = Script::established(Config::default());
    t.inject(seg("F.").seq(1001).ack(1).data(500));
    t.expect_state(State::Established);
    t.expect(". 1 ack 1 win 60000");
    // The FIN is behind the data that waits: it gets an answer of its own.
    t.expect(". 1 ack 1 win 60000");
    t.inject(seg(".").seq(1).ack(1).data(1000));
    t.expect_state(State::CloseWait);
    t.expect(". 1 ack 1502 win 58499");
    t.expect_delivered(1500);
    assert!(t.tcp.at_end());
}

#[test]
fn a_lost_fin_is_sent_again() {
    let mut t = Script::established(Config::default());
    t.tcp.close();
    t.expect("F. 1 ack 1 win 60000");
    t.wait(200 * MS);
    t.expect("F. 1 ack 1 win 60000");
    t.inject(seg(".").seq(1).ack(2));
    t.expect_state(State::FinWait2);
}

#[test]
fn time_wait_answers_again() {
    let mut t = Script::established(Config { msl: Duration::from_secs(1), ..Config::default() });
    t.tcp.close();
    t.expect("F. 1 ack 1 win 60000");
    t.inject(seg("F.").seq(1).ack(2));
    t.expect(". 2 ack 2 win 59999");
    t.pass(1500 * MS);
    t.inject(seg("F.").seq(1).ack(2));
    t.expect(". 2 ack 2 win 59999");
    t.wait(2000 * MS);
    t.expect_nothing();
    t.expect_state(State::Closed);
}

#[test]
fn data_after_our_fin_is_delivered() {
    let mut t = Script::established(Config::default());
    t.tcp.close();
    t.expect("F. 1 ack 1 win 60000");
    t.inject(seg(".").seq(1).ack(2).data(100));
    t.expect_state(State::FinWait2);
    t.inject(seg("F.").seq(101).ack(2).data(100));
    t.expect_state(State::TimeWait);
    t.expect_delivered(200);
    t.expect(". 2 ack 202 win 59799");
}

#[test]
fn fin_wait_2_has_a_deadline() {
    let mut t = Script::established(Config { user_timeout: Duration::from_secs(5), ..Config::default() });
    t.tcp.close();
    t.expect("F. 1 ack 1 win 60000");
    t.inject(seg(".").seq(1).ack(2));
    t.pass(3000 * MS);
    t.inject(seg(".").seq(1).ack(2).data(10));
    t.expect_nothing();
    t.wait(10 * MS);
    t.expect(". 2 ack 11 win 59990");
    t.wait(4990 * MS);
    t.expect("R. 2 ack 11 win 0");
    let after = Duration::from_secs(5);
    assert_eq!(t.tcp.error(), Some(ConnectionError::TimedOut { what: Waited::Fin, after }));
}

#[test]
fn abort_gives_everything_back() {
    let mut t = Script::established(Config::default());
    t.inject(seg(".").seq(1).ack(1).data(100));
    t.inject(seg(".").seq(201).ack(1).data(100));
    t.tcp.send(&[1; 100]);
    t.tcp.abort();
    assert_eq!(t.tcp.error(), Some(ConnectionError::Aborted));
    assert!(t.tcp.recv().is_none());
    t.expect("R. 1 ack 101 win 0");
    t.expect_nothing();
    assert_eq!(t.tcp.drain().map(|p| p.as_slice().len()).collect::<Vec<_>>(), [100, 100]);
    assert_eq!(t.tcp.drain().count(), 0);
    assert_eq!(t.tcp.next_deadline(), None);
}

const KEEPALIVE: Keepalive = Keepalive { idle: Duration::from_secs(10), interval: Duration::from_secs(2), probes: 2 };

#[test]
fn keepalive_probes_and_gives_up() {
    let mut t = Script::established(Config { keepalive: Some(KEEPALIVE), ..Config::default() });
    t.wait(10_000 * MS);
    t.expect(". 0 ack 1 win 60000");
    t.inject(seg(".").seq(1).ack(1).window(60000));
    t.wait(10_000 * MS);
    t.expect(". 0 ack 1 win 60000");
    t.wait(2000 * MS);
    t.expect(". 0 ack 1 win 60000");
    t.wait(2000 * MS);
    t.expect("R. 1 ack 1 win 0");
    let after = Duration::from_secs(14);
    assert_eq!(t.tcp.error(), Some(ConnectionError::TimedOut { what: Waited::Keepalive, after }));
    assert_eq!(t.tcp.counters().keepalive_probes, 3);
}

#[test]
fn a_late_caller_does_not_lose_keepalive() {
    let mut t = Script::established(Config { keepalive: Some(KEEPALIVE), ..Config::default() });
    t.pass(Duration::from_secs(3600));
    t.expect(". 0 ack 1 win 60000");
    t.wait(2000 * MS);
    t.expect(". 0 ack 1 win 60000");
    t.inject(seg(".").seq(1).ack(1).window(60000));
    t.expect_nothing();
    t.expect_state(State::Established);
}

#[test]
fn a_closed_connection_answers_with_resets() {
    let mut t = Script::established(Config::default());
    t.tcp.abort();
    t.expect("R. 1 ack 1 win 0");
    t.unused();
    // The peer's challenge gets the exact number.
    t.inject(seg(".").seq(1).ack(501).data(10));
    t.expect("R 501 win 0");
    t.inject(seg("R").seq(1));
    t.expect_nothing();
    assert_eq!(t.unused(), 2);
}

#[test]
fn close_in_the_handshake() {
    let mut t = Script::connect(plain(Config::default()));
    t.expect("S 0 win 60000 <mss 1000,wscale 0>");
    t.tcp.close();
    t.expect_state(State::Closed);
    t.expect_nothing();
    assert_eq!((t.tcp.error(), t.tcp.next_deadline()), (None, None));
}
