//! | property | test |
//! |---|---|
//! | the SYN offers everything; what the peer does not offer is not used | `the_syn_offers_everything`, `an_option_not_offered_is_not_used` |
//! | the window of a SYN is not scaled, later ones are (RFC 7323 2.2) | `windows_scale_after_the_syn` |
//! | a lost SYN is sent again with back-off until the deadline (RFC 6298) | `a_syn_is_sent_again_until_the_deadline` |
//! | a reset is believed only if it acknowledges the SYN | `refused_only_by_a_reset_that_acknowledges_the_syn` |
//! | a wrong acknowledgment is answered with a reset (RFC 9293 3.10.7.3) | `a_wrong_acknowledgment_is_answered_with_a_reset` |
//! | both sides open at once (RFC 9293 figure 7) | `simultaneous_open` |
//! | passive open offers only what was offered | `passive_open_answers_what_was_offered` |
//! | the peer's MSS is respected, missing means 536, nonsense is bounded | `the_peers_mss_is_respected_within_bounds` |
//! | data may be queued before the handshake is done | `data_queued_early_leaves_with_the_handshake` |
use std::time::Duration;

use connectx_ddp::tcp::{Config, Connection, ConnectionError, Flags, Header, Options, State, Timestamps, Waited};

use crate::script::*;
use crate::tcp_support::Bytes;

#[test]
fn the_syn_offers_everything() {
    let mut t = Script::connect(Config { timestamp_offset: 7, ..Config::default() });
    t.expect("S 0 win 65535 <mss 1460,sackOK,wscale 5,ts 100007 0>");
    t.inject(seg("S.").ack(1).window(9000).ts(50, 100_007).options(|o| {
        (o.mss, o.window_scale, o.sack_permitted) = (Some(1400), Some(3), true);
    }));
    t.expect(". 1 ack 1 win 32768 <ts 100007 50>");
    t.expect_nothing();
    t.expect_state(State::Established);
    assert_eq!(t.tcp.mss(), 1400 - 12);
    assert_eq!(t.tcp.smoothed_rtt(), Some(Duration::ZERO));
}

#[test]
fn an_option_not_offered_is_not_used() {
    let mut t = Script::connect(Config::default());
    t.expect("S 0 win 65535 <mss 1460,sackOK,wscale 5,ts 100000 0>");
    t.inject(seg("S.").ack(1));
    t.expect(". 1 ack 1 win 65535");
    t.inject(seg(".").seq(101).ack(1).data(100));
    t.expect(". 1 ack 1 win 65535");
    assert_eq!(t.tcp.mss(), 536);
}

#[test]
fn windows_scale_after_the_syn() {
    let mut t = Script::connect(Config { receive_bytes: 1 << 20, timestamps: false, sack: false, ..Config::default() });
    t.expect("S 0 win 65535 <mss 1460,wscale 5>");
    // A shift above 14 counts as 14.
    t.inject(seg("S.").ack(1).window(100).options(|o| (o.mss, o.window_scale) = (Some(1000), Some(200))));
    t.expect(". 1 ack 1 win 32768");
    assert_eq!(t.tcp.send(&[0; 1000]), 1000);
    // 100 bytes, not scaled.
    t.expect(". 1:100 ack 1 win 32768");
    t.expect_nothing();
    // 2 << 14.
    t.inject(seg(".").seq(1).ack(101).window(2));
    t.expect("P. 101:900 ack 1 win 32768");
    assert_eq!(t.tcp.counters().clamped_options, 1);
}

#[test]
fn a_syn_is_sent_again_until_the_deadline() {
    let mut t = Script::connect(plain(Config { connect_timeout: Duration::from_secs(10), ..Config::default() }));
    for wait in [1000, 2000, 4000, 3000] {
        t.expect("S 0 win 60000 <mss 1000,wscale 0>");
        t.wait(wait * MS);
    }
    t.expect_nothing();
    let after = Duration::from_secs(10);
    assert_eq!(t.tcp.error(), Some(ConnectionError::TimedOut { what: Waited::Handshake, after }));
    t.expect_state(State::Closed);
    assert_eq!(t.tcp.next_deadline(), None);
}

#[test]
fn refused_only_by_a_reset_that_acknowledges_the_syn() {
    let mut t = Script::connect(plain(Config::default()));
    t.expect("S 0 win 60000 <mss 1000,wscale 0>");
    t.inject(seg("R").seq(1));
    t.inject(seg("R.").seq(1).ack(2));
    t.inject(seg("R.").seq(1).ack(0));
    t.expect_nothing();
    t.expect_state(State::SynSent);
    t.inject(seg("R.").ack(1));
    t.expect_nothing();
    assert_eq!(t.tcp.error(), Some(ConnectionError::Refused));
}

#[test]
fn a_wrong_acknowledgment_is_answered_with_a_reset() {
    let mut t = Script::connect(plain(Config::default()));
    t.expect("S 0 win 60000 <mss 1000,wscale 0>");
    t.inject(seg("S.").ack(900));
    t.expect("R 900 win 0");
    t.inject(seg(".").ack(0));
    t.expect("R 0 win 0");
    t.inject(seg(".").ack(1));
    t.expect_nothing();
    t.expect_state(State::SynSent);
}

#[test]
fn simultaneous_open() {
    let mut t = Script::connect(plain(Config::default()));
    t.expect("S 0 win 60000 <mss 1000,wscale 0>");
    t.inject(seg("S").options(|o| (o.mss, o.window_scale) = (Some(500), Some(0))));
    t.expect_state(State::SynReceived);
    t.expect("S. 0 ack 1 win 60000 <mss 1000>");
    t.expect_nothing();
    t.inject(seg("S.").ack(1));
    t.expect_state(State::Established);
    t.inject(seg(".").seq(1).ack(1).data(10));
    t.expect_delivered(10);
}

#[test]
fn passive_open_answers_what_was_offered() {
    let config = Config { initial_sequence: OUR_ISN, ..Config::default() };
    let syn = |options| Header { seq: PEER_ISN, flags: Flags::SYN, window: 500, options, ..Header::default() };
    let offered = Options {
        mss: Some(900),
        window_scale: Some(0),
        timestamps: Some(Timestamps { value: 5, echo: 0 }),
        ..Options::default()
    };
    let mut tcp = Connection::<Bytes>::accept(config.clone(), &syn(offered), MS).unwrap().unwrap();
    let answer = tcp.poll_tx(MS).unwrap().header;
    assert_eq!((answer.seq, answer.ack), (OUR_ISN, PEER_ISN.wrapping_add(1)));
    assert_eq!(answer.flags, Flags::SYN | Flags::ACK);
    let expected = Options {
        mss: Some(1460),
        window_scale: Some(5),
        timestamps: Some(Timestamps { value: 1, echo: 5 }),
        ..Options::default()
    };
    assert_eq!(answer.options, expected);
    assert_eq!(tcp.poll_tx(MS), None);

    let mut tcp = Connection::<Bytes>::accept(config.clone(), &syn(Options::default()), MS).unwrap().unwrap();
    let answer = tcp.poll_tx(MS).unwrap().header;
    assert_eq!(answer.options, Options { mss: Some(1460), ..Options::default() });

    let ack = Header { flags: Flags::SYN | Flags::ACK, ..syn(offered) };
    assert!(Connection::<Bytes>::accept(config, &ack, MS).unwrap().is_none());
}

#[test]
fn the_peers_mss_is_respected_within_bounds() {
    for (announced, used) in [(Some(700), 700), (None, 536), (Some(0), 88), (Some(1), 88), (Some(65535), 1000)] {
        let mut t = Script::connect(plain(Config::default()));
        t.expect("S 0 win 60000 <mss 1000,wscale 0>");
        t.inject(seg("S.").ack(1).window(60000).options(|o| o.mss = announced));
        t.expect(". 1 ack 1 win 60000");
        t.tcp.send(&[0; 2000]);
        t.expect(&format!(". 1:{used} ack 1 win 60000"));
        assert_eq!(t.tcp.counters().clamped_options, u64::from(used == 88), "{announced:?}");
    }
}

#[test]
fn data_queued_early_leaves_with_the_handshake() {
    let mut t = Script::connect(plain(Config::default()));
    assert_eq!(t.tcp.send(&[1; 100]), 100);
    t.expect("S 0 win 60000 <mss 1000,wscale 0>");
    t.expect_nothing();
    t.inject(seg("S.").ack(1).window(60000).options(|o| o.mss = Some(1000)));
    t.expect("P. 1:100 ack 1 win 60000");
    t.expect_nothing();
}
