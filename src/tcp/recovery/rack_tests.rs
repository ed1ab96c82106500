//! | property | test |
//! |---|---|
//! | what was sent before something that arrived is lost once the window is over (RFC 8985 6.2 step 5) | `lost_is_what_was_sent_before` |
//! | without reordering three duplicates, or recovery, make the window zero (step 4) | `without_reordering_three_are_enough` |
//! | a hole that fills itself is reordering, one that a retransmission fills is not (step 3) | `a_hole_that_fills_itself_is_reordering` |
//! | blocks of one acknowledgment in any order are not reordering | `the_order_of_blocks_is_not_reordering` |
//! | the acknowledgment of an earlier transmission is not one of the last (step 2) | `an_earlier_transmission_is_told_apart` |
//! | each round trip with a duplicate widens the window, sixteen recoveries without narrow it (step 4) | `duplicates_widen_the_window` |
//! | a lost retransmission is found (6.2) | `a_lost_retransmission_is_found` |
//! | a timeout takes the first segment and what is old (6.3) | `a_timeout_takes_what_is_old` |
use super::*;

const MS: u64 = 1_000_000;
const SEGMENT: u32 = 1000;

/// Ten segments, one per millisecond from 0 on.
fn ten() -> (Rack, Scoreboard, Position) {
    let start = Position::initial(u32::MAX - 3000);
    let mut board = Scoreboard::new(start, 10_000, SEGMENT);
    (0..10).for_each(|i| board.push(SEGMENT, i * MS, false));
    (Rack::new(start), board, start)
}

fn round(una: Position) -> Round {
    Round { una, nxt: una + 10 * SEGMENT, dsack: false, exits: false, recovering: false, smoothed: 40 * MS }
}

fn sack(rack: &mut Rack, board: &mut Scoreboard, from: Position, now: u64) {
    let highest = rack.highest();
    board.sack(from, from + SEGMENT, |sent| rack.on_delivered(now, sent, false, highest));
}

#[test]
fn lost_is_what_was_sent_before() {
    let (mut rack, mut board, start) = ten();
    sack(&mut rack, &mut board, start + 2 * SEGMENT, 42 * MS);
    rack.adapt(board.sacked(), &round(start));
    // min_RTT is 40 ms: the first is lost at 0 + 40 + 10, the second one millisecond later.
    assert_eq!(rack.detect(&mut board, 42 * MS), (0, Some(50 * MS)));
    assert_eq!(rack.detect(&mut board, 50 * MS), (1, Some(51 * MS)));
    assert_eq!(rack.detect(&mut board, 60 * MS), (1, None));
    assert_eq!((board.lost(), board.pipe()), (2, 7 * SEGMENT));
}

#[test]
fn without_reordering_three_are_enough() {
    for (sacked, recovering, lost) in [(1, false, 0), (2, false, 0), (3, false, 1), (1, true, 1)] {
        let (mut rack, mut board, start) = ten();
        for i in 1..=sacked {
            sack(&mut rack, &mut board, start + i * SEGMENT, 40 * MS + u64::from(i) * MS);
        }
        rack.adapt(board.sacked(), &Round { recovering, ..round(start) });
        assert_eq!(rack.detect(&mut board, 44 * MS).0, lost);
    }
}

#[test]
fn a_hole_that_fills_itself_is_reordering() {
    for again in [false, true] {
        let (mut rack, mut board, start) = ten();
        (1..4).for_each(|i| sack(&mut rack, &mut board, start + i * SEGMENT, 43 * MS));
        if again {
            let head = board.oldest().unwrap();
            board.mark_lost(head);
            board.sent_again(head, 44 * MS);
        }
        let highest = rack.highest();
        board.acknowledge(start + 4 * SEGMENT, |sent| rack.on_delivered(84 * MS, sent, false, highest));
        assert_eq!(rack.reordering_seen, !again);
        // From now on three are not enough.
        (5..8).for_each(|i| sack(&mut rack, &mut board, start + i * SEGMENT, 85 * MS));
        rack.adapt(board.sacked(), &round(start));
        assert_eq!(rack.window, if again { 0 } else { 10 * MS });
    }
}

#[test]
fn the_order_of_blocks_is_not_reordering() {
    let (mut rack, mut board, start) = ten();
    let highest = rack.highest();
    for i in [8, 4, 2] {
        let from = start + i * SEGMENT;
        board.sack(from, from + SEGMENT, |sent| rack.on_delivered(50 * MS, sent, false, highest));
    }
    assert!(!rack.reordering_seen);
    sack(&mut rack, &mut board, start + 6 * SEGMENT, 51 * MS);
    assert!(rack.reordering_seen);
}

#[test]
fn an_earlier_transmission_is_told_apart() {
    for (stale, now, believed) in [(false, 90, true), (true, 90, false), (false, 55, false)] {
        let (mut rack, mut board, start) = ten();
        sack(&mut rack, &mut board, start + SEGMENT, 41 * MS);
        let head = board.oldest().unwrap();
        board.mark_lost(head);
        board.sent_again(head, 50 * MS);
        let highest = rack.highest();
        board.acknowledge(start + SEGMENT, |sent| rack.on_delivered(now * MS, sent, stale, highest));
        assert_eq!(rack.newest.unwrap().0 == 50 * MS, believed);
    }
}

#[test]
fn duplicates_widen_the_window() {
    let (mut rack, mut board, start) = ten();
    sack(&mut rack, &mut board, start + SEGMENT, 41 * MS);
    let mut see = |una, dsack, exits| {
        rack.adapt(1, &Round { una, dsack, exits, ..round(una) });
        rack.window / MS
    };
    assert_eq!(see(start, false, false), 10);
    assert_eq!(see(start, true, false), 20);
    assert_eq!(see(start + 9 * SEGMENT, true, false), 20, "once per round trip");
    assert_eq!(see(start + 10 * SEGMENT, true, false), 30);
    (0..10).for_each(|i| {
        see(start + (30 + 10 * i) * SEGMENT, true, false);
    });
    assert_eq!(see(start + 400 * SEGMENT, false, false), 40, "never more than the smoothed round-trip time");
    for i in 1..=16 {
        assert_eq!(see(start + 500 * SEGMENT, false, true), if i < 16 { 40 } else { 10 });
    }
}

#[test]
fn a_lost_retransmission_is_found() {
    let (mut rack, mut board, start) = ten();
    (1..5).for_each(|i| sack(&mut rack, &mut board, start + i * SEGMENT, 44 * MS));
    rack.adapt(board.sacked(), &round(start));
    assert_eq!(rack.detect(&mut board, 44 * MS), (1, None));
    let head = board.next_lost().unwrap();
    board.sent_again(head, 44 * MS);
    board.push(SEGMENT, 45 * MS, false);
    // What was sent after the retransmission arrives before it.
    sack(&mut rack, &mut board, start + 10 * SEGMENT, 85 * MS);
    rack.adapt(board.sacked(), &Round { recovering: true, ..round(start) });
    assert_eq!(rack.detect(&mut board, 85 * MS), (6, None), "the five others, and the first once more");
    assert_eq!(board.next_lost(), Some(head));
}

#[test]
fn a_timeout_takes_what_is_old() {
    let (mut rack, mut board, start) = ten();
    board.push(SEGMENT, 200 * MS, false);
    sack(&mut rack, &mut board, start + SEGMENT, 41 * MS);
    assert_eq!(rack.on_timeout(&mut board, 205 * MS), 9);
    assert_eq!((board.lost(), board.pipe()), (9, SEGMENT));
    let (rack, mut board, _) = ten();
    assert_eq!(rack.on_timeout(&mut board, 9 * MS), 10, "nothing was measured: all of it is old");
}
