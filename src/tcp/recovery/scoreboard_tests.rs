//! | property | test |
//! |---|---|
//! | after any acknowledgments, losses and retransmissions the scoreboard says what a plain list says | `the_scoreboard_is_a_list` |
//! | those in flight are walked in order of sending, exactly once each | `the_scoreboard_is_a_list` |
//! | each record is reported as delivered once | `the_scoreboard_is_a_list` |
//! | a block that covers part of a record says nothing of it | `half_a_record_is_none` |
//! | room is bounded, and follows the bytes | `room_is_bounded` |
//! | a block over everything costs nothing more the second time | `runs_are_jumped_over` |
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const BASE: u32 = 0xffff_ff00;

/// What the scoreboard should be.
#[derive(Clone, Debug, PartialEq)]
struct Plain {
    start: Position,
    end: Position,
    at: u64,
    fate: Fate,
    again: bool,
}

#[derive(Default)]
struct Model {
    list: Vec<Plain>,
    delivered: Vec<Position>,
}

impl Model {
    fn deliver(&mut self, ack: Position, cumulative: bool, from: Position) {
        for record in &mut self.list {
            let covered = record.end <= ack && (cumulative || record.start >= from);
            if covered && record.fate != Fate::Sacked {
                record.fate = Fate::Sacked;
                self.delivered.push(record.end);
            }
        }
        if cumulative {
            self.list.retain(|record| record.end > ack);
            if let Some(first) = self.list.first_mut() {
                first.start = first.start.max(ack);
            }
        }
    }

    fn count(&self, fate: Fate) -> u32 {
        self.list.iter().filter(|record| record.fate == fate).count() as u32
    }
}

fn walk(board: &Scoreboard) -> Vec<(u64, Position)> {
    let mut seen = Vec::new();
    let (mut slot, mut before) = (board.oldest, NONE);
    while slot != NONE {
        let record = &board.slots[usize::from(slot)];
        assert_eq!((record.older, record.fate), (before, Fate::InFlight));
        seen.push((record.at, record.end));
        (before, slot) = (slot, record.newer);
    }
    assert_eq!(board.newest, before);
    seen
}

#[derive(Clone, Debug)]
enum Step {
    Send(u32),
    Ack(u32),
    Sack(u32, u32),
    LoseOldest,
    LoseHead,
    Resend,
    Probe,
    Undo,
    Renege,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1u32..30).prop_map(Step::Send),
        2 => (0u32..1000).prop_map(Step::Ack),
        5 => (0u32..1000, 0u32..200).prop_map(|(at, len)| Step::Sack(at, len)),
        4 => Just(Step::LoseOldest),
        1 => Just(Step::LoseHead),
        4 => Just(Step::Resend),
        1 => Just(Step::Probe),
        1 => Just(Step::Undo),
        1 => Just(Step::Renege),
    ]
}

proptest! {
    #[test]
    fn the_scoreboard_is_a_list(steps in vec(step(), 1..300), number in any::<u32>()) {
        let base = Position::initial(BASE);
        let mut board = Scoreboard::new(base, 0, 1);
        // Numbers wrap.
        (board.head, board.tail, board.hint) = (number, number, number);
        let mut model = Model::default();
        let mut delivered = Vec::new();
        let (mut una, mut nxt, mut now) = (base, base, 0);
        for step in steps {
            now += 1;
            match step {
                Step::Send(len) => {
                    prop_assert_eq!(board.is_full(), model.list.len() == board.slots.len() - 1);
                    if !board.is_full() {
                        board.push(len, now, false);
                        let (start, end) = (nxt, nxt + len);
                        model.list.push(Plain { start, end, at: now, fate: Fate::InFlight, again: false });
                        nxt = end;
                    }
                }
                Step::Ack(per_mille) => {
                    let ack = una + (nxt.window_since(una) as u64 * u64::from(per_mille) / 1000) as u32;
                    let missing: u32 = model.list.iter().filter(|record| record.fate != Fate::Sacked)
                        .map(|record| ack.min(record.end).window_since(record.start)).sum();
                    prop_assert_eq!(board.acknowledge(ack, |record| delivered.push(record.end)), missing);
                    model.deliver(ack, true, una);
                    una = ack;
                }
                Step::Sack(per_mille, len) => {
                    let start = una + (nxt.window_since(una) as u64 * u64::from(per_mille) / 1000) as u32;
                    let before = board.sacked;
                    board.sack(start, start + len, |record| delivered.push(record.end));
                    model.deliver(start + len, false, start);
                    prop_assert!(board.sacked >= before);
                }
                Step::LoseOldest => {
                    if let Some(oldest) = board.oldest() {
                        let (at, end) = (board.get(oldest).at, board.get(oldest).end);
                        board.mark_lost(oldest);
                        let record = model.list.iter_mut().filter(|record| record.fate == Fate::InFlight)
                            .min_by_key(|record| (record.at, record.end)).unwrap();
                        prop_assert_eq!((record.at, record.end), (at, end));
                        record.fate = Fate::Lost;
                    }
                }
                Step::LoseHead => {
                    board.mark_head_lost();
                    if let Some(first) = model.list.first_mut().filter(|record| record.fate == Fate::InFlight) {
                        first.fate = Fate::Lost;
                    }
                }
                Step::Resend | Step::Probe => {
                    let lost = matches!(step, Step::Resend);
                    let number = if lost { board.next_lost() } else { board.last_open() };
                    let record = match lost {
                        true => model.list.iter_mut().find(|record| record.fate == Fate::Lost),
                        false => model.list.iter_mut().rfind(|record| record.fate != Fate::Sacked),
                    };
                    prop_assert_eq!(number.map(|n| board.get(n).end), record.as_ref().map(|record| record.end));
                    if let (Some(number), Some(record)) = (number, record) {
                        board.sent_again(number, now);
                        (record.at, record.again, record.fate) = (now, true, Fate::InFlight);
                    }
                }
                Step::Undo => {
                    board.unmark_lost();
                    for record in model.list.iter_mut().filter(|record| record.fate == Fate::Lost) {
                        record.fate = Fate::InFlight;
                    }
                }
                Step::Renege => {
                    board.forget_sacks();
                    for record in model.list.iter_mut().filter(|record| record.fate == Fate::Sacked) {
                        record.fate = Fate::Lost;
                        // It may be delivered once more.
                        model.delivered.retain(|&end| end != record.end);
                        delivered.retain(|&end| end != record.end);
                    }
                }
            }
            let records: Vec<_> = (0..board.len()).map(|i| {
                let record = board.get(board.head.wrapping_add(i));
                let (start, end) = (record.start(), record.end);
                Plain { start, end, at: record.at, fate: record.fate, again: record.again }
            }).collect();
            prop_assert_eq!(&records, &model.list);
            prop_assert_eq!((board.start, board.end()), (una, nxt));
            prop_assert_eq!((board.sacked(), board.lost()), (model.count(Fate::Sacked), model.count(Fate::Lost)));
            let mut flying: Vec<_> =
                model.list.iter().filter(|record| record.fate == Fate::InFlight).map(|record| (record.at, record.end)).collect();
            flying.sort();
            prop_assert_eq!(walk(&board), flying);
            let pipe: u32 = model.list.iter().filter(|record| record.fate == Fate::InFlight)
                .map(|record| record.end.window_since(record.start)).sum();
            prop_assert_eq!(board.pipe(), pipe);
            prop_assert_eq!(board.head_is_sacked(), model.list.first().is_some_and(|record| record.fate == Fate::Sacked));
            let (mut seen, mut expected) = (delivered.clone(), model.delivered.clone());
            seen.sort();
            expected.sort();
            prop_assert_eq!(seen, expected);
        }
    }
}

#[test]
fn half_a_record_is_none() {
    let base = Position::initial(BASE);
    let mut board = Scoreboard::new(base, 1000, 100);
    (0..3).for_each(|_| board.push(100, 1, false));
    assert_eq!(board.sack(base + 1, base + 199, |_| ()), 0);
    assert_eq!(board.sack(base + 1, base + 299, |_| ()), 100);
    assert_eq!(board.sack(base.back(50), base + 50, |_| ()), 0);
    assert_eq!(board.sack(base + 250, base + 5000, |_| ()), 0);
    assert_eq!(board.acknowledge(base + 50, |_| ()), 50);
    assert_eq!((board.pipe(), board.sacked()), (150, 1));
}

#[test]
fn room_is_bounded() {
    let base = Position::initial(BASE);
    for (bytes, mss, slots) in [(0, 1448, 64), (1 << 20, 1448, 1024), (1 << 18, 8948, 64), (1 << 29, 88, 16384)] {
        assert_eq!(Scoreboard::new(base, bytes, mss).slots.len(), slots);
    }
    assert_eq!(size_of::<Sent>(), 32);
}

#[test]
fn runs_are_jumped_over() {
    let base = Position::initial(BASE);
    let mut board = Scoreboard::new(base, 16000, 1);
    let n = board.slots.len() as u32 - 1;
    (0..n).for_each(|_| board.push(1, 1, false));
    // Every second one, then those between: runs merge.
    for first in [1, 2] {
        for at in (first..n).step_by(2) {
            board.sack(base + at, base + at + 1, |_| ());
        }
    }
    assert_eq!(board.sacked(), n - 1);
    let hops = |board: &Scoreboard| {
        let (mut number, mut hops) = (board.head.wrapping_add(1), 0);
        while number != board.tail {
            number = board.get(number).skip;
            hops += 1;
        }
        hops
    };
    (0..15).for_each(|_| assert_eq!(board.sack(base + 1, base + n, |_| ()), 0));
    assert_eq!(hops(&board), 1);
}
