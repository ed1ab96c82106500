//! The receive queue: segments by reference, in order and out of order.
//!
//! ```text
//!            delivered        ready                out of order
//!  ──────────────────────┬─────────────────┬ ─ ─ ─ ─┬───────┬─ ─ ─┬───┬─ ─ ─ ─►
//!                        first           next     island        island   edge
//! ```
//!
//! A payload cannot be split, because it owns a receive buffer, but it can be trimmed. So overlapping segments are kept as
//! they came, sorted by where they begin, and are trimmed when the gap before them closes: every position is delivered
//! once, and nothing of length zero ever. What ends up with no byte of its own goes back to the caller.
//!
//! What is held is bounded by the window (bytes), by a number of payloads (each may own a receive buffer, however short it
//! is) and by a number of islands; a segment is only kept if it brings at least one new byte.

use std::collections::VecDeque;

use super::Payload;
use super::segment::{MAX_SACK_BLOCKS, SackBlock, SackBlocks};
use super::seq::Position;

/// Runs of out-of-order data that are told apart. A window of 1 MiB with each tenth segment lost has 72 at most.
const MAX_ISLANDS: usize = 128;
/// Arrivals that wait to be reported: of more, the first are no longer told apart.
const MAX_UNTOLD: usize = 32;

/// What became of a segment's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    /// `next` advanced. `filled`: out-of-order data was waiting, so the sender should hear at once (RFC 5681 §4.2).
    InOrder { filled: bool },
    /// Kept for later.
    OutOfOrder,
    /// Every byte was there already.
    Duplicate,
    /// Not kept: no more payloads may be held.
    NoRoom,
}

#[derive(Debug)]
struct Held<P> {
    at: Position,
    payload: P,
}

impl<P: Payload> Held<P> {
    fn end(&self) -> Position {
        self.at + self.payload.len()
    }
}

/// A run of positions out of order without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Island {
    start: Position,
    end: Position,
}

/// The receive side of a connection's data.
#[derive(Debug)]
pub(super) struct ReceiveQueue<P> {
    next: Position,
    ready: VecDeque<Held<P>>,
    ready_bytes: u32,
    /// Sorted by start.
    early: VecDeque<Held<P>>,
    /// Sorted, not touching each other: the union of `early`.
    islands: Vec<Island>,
    /// Where the segments that came last and early begin, the last one first, at most one in each island: the order in
    /// which islands are reported.
    recent: [Option<Position>; MAX_SACK_BLOCKS],
    /// Where segments begin that came after those, in their order, of neighbours in one island only the last: what the
    /// reports to come have to tell first.
    untold: VecDeque<Position>,
    /// What was received twice, until the peer is told.
    duplicate: Option<Island>,
    max_payloads: usize,
}

impl<P: Payload> ReceiveQueue<P> {
    /// A queue that expects `next` and never holds more than `max_payloads`, three quarters of them out of order: what
    /// closes a gap always finds room. This is the only allocation.
    pub(super) fn new(next: Position, max_payloads: usize) -> ReceiveQueue<P> {
        ReceiveQueue {
            next,
            ready: VecDeque::with_capacity(max_payloads),
            ready_bytes: 0,
            early: VecDeque::with_capacity(max_payloads),
            islands: Vec::with_capacity(MAX_ISLANDS.min(max_payloads)),
            recent: [None; MAX_SACK_BLOCKS],
            untold: VecDeque::with_capacity(MAX_UNTOLD),
            duplicate: None,
            max_payloads,
        }
    }

    /// RCV.NXT as far as data goes.
    pub(super) fn next(&self) -> Position {
        self.next
    }

    /// Restarts at `next`: the peer's initial sequence number is known now. The queue must be empty.
    pub(super) fn start_at(&mut self, next: Position) {
        debug_assert!(self.ready.is_empty() && self.early.is_empty());
        self.next = next;
    }

    /// Bytes ready and not taken.
    pub(super) fn ready_bytes(&self) -> u32 {
        self.ready_bytes
    }

    /// Payloads that in-order data may still bring before something is taken.
    pub(super) fn free_payloads(&self) -> u32 {
        u32::try_from(self.max_payloads - self.ready.len().min(self.max_payloads)).unwrap_or(u32::MAX)
    }

    /// Payloads held.
    pub(super) fn held(&self) -> usize {
        self.ready.len() + self.early.len()
    }

    /// True if nothing is held.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.held() == 0
    }

    /// The next `len` bytes were received and taken at once.
    #[inline]
    pub(super) fn pass(&mut self, len: u32) {
        debug_assert!(self.is_empty());
        self.next += len;
    }

    /// Position after the last byte that was accepted.
    pub(super) fn last(&self) -> Position {
        self.islands.last().map_or(self.next, |island| island.end)
    }

    /// Offers the payload at `at`, not empty and already trimmed to the window. What is not kept, now or because this
    /// closed a gap, goes to `unused`.
    pub(super) fn accept(&mut self, at: Position, mut payload: P, unused: &mut Vec<P>) -> Accepted {
        let end = at + payload.len();
        if end <= self.next || payload.is_empty() {
            self.note_duplicate(at, end);
            unused.push(payload);
            return Accepted::Duplicate;
        }
        if at > self.next {
            return self.accept_early(at, payload, unused);
        }
        if self.held() >= self.max_payloads {
            unused.push(payload);
            return Accepted::NoRoom;
        }
        self.note_duplicate(at, self.next);
        payload.trim_front(self.next.window_since(at));
        let filled = !self.early.is_empty();
        self.append(payload);
        if filled {
            self.close_gap(unused);
        }
        Accepted::InOrder { filled }
    }

    fn append(&mut self, payload: P) {
        let len = payload.len();
        self.ready.push_back(Held { at: self.next, payload });
        self.ready_bytes += len;
        self.next += len;
    }

    /// Moves what has become in-order from `early` to `ready`.
    fn close_gap(&mut self, unused: &mut Vec<P>) {
        while self.early.front().is_some_and(|held| held.at <= self.next) {
            let Some(mut held) = self.early.pop_front() else { break };
            if held.end() <= self.next {
                unused.push(held.payload);
            } else {
                held.payload.trim_front(self.next.window_since(held.at));
                self.append(held.payload);
            }
        }
        let gone = self.islands.partition_point(|island| island.end <= self.next);
        self.islands.drain(..gone);
        self.untold.retain(|at| *at >= self.next);
    }

    /// Reports of [`MAX_SACK_BLOCKS`] less one, which timestamps leave room for, that it takes to tell of all arrivals.
    pub(super) fn reports_due(&self) -> u32 {
        self.untold.len().div_ceil(MAX_SACK_BLOCKS - 1) as u32
    }

    fn accept_early(&mut self, at: Position, payload: P, unused: &mut Vec<P>) -> Accepted {
        let (start, end) = (at, at + payload.len());
        // Islands that the segment overlaps or touches are [from, to).
        let from = self.islands.partition_point(|island| island.end < start);
        let to = from + self.islands[from..].partition_point(|island| island.start <= end);
        if let Some(known) = self.islands[from..to].iter().find(|island| island.start < end && start < island.end) {
            self.note_duplicate(known.start.max(start), known.end.min(end));
        }
        if self.islands[from..to].iter().any(|island| island.start <= start && end <= island.end) {
            unused.push(payload);
            return Accepted::Duplicate;
        }
        let max_early = self.max_payloads - self.max_payloads.div_ceil(4);
        let full = self.early.len() >= max_early || self.held() >= self.max_payloads;
        if full || (from == to && self.islands.len() >= MAX_ISLANDS) {
            unused.push(payload);
            return Accepted::NoRoom;
        }
        if from == to {
            self.islands.insert(from, Island { start, end });
        } else {
            let merged = Island { start: start.min(self.islands[from].start), end: end.max(self.islands[to - 1].end) };
            self.islands[from] = merged;
            self.islands.drain(from + 1..to);
        }
        let held = Held { at, payload };
        // Mostly the newest begins last.
        match self.early.back() {
            Some(last) if last.at > at => {
                let index = self.early.partition_point(|other| other.at <= at);
                self.early.insert(index, held);
            }
            _ => self.early.push_back(held),
        }
        let same = self.untold.back().is_some_and(|last| self.island(*last) == self.island(at));
        if same {
            self.untold.pop_back();
        } else if self.untold.len() >= MAX_UNTOLD
            && let Some(first) = self.untold.pop_front()
        {
            self.remember(first);
        }
        self.untold.push_back(at);
        Accepted::OutOfOrder
    }

    /// The next payload in order and where its first byte is.
    pub(super) fn take(&mut self) -> Option<(Position, P)> {
        let held = self.ready.pop_front()?;
        self.ready_bytes -= held.payload.len();
        Some((held.at, held.payload))
    }

    /// Takes any payload that is left, in no useful order: the connection is over.
    pub(super) fn drain_one(&mut self) -> Option<P> {
        let held = self.ready.pop_front().or_else(|| self.early.pop_front())?;
        if self.held() == 0 {
            self.ready_bytes = 0;
            self.islands.clear();
        }
        Some(held.payload)
    }

    /// The island that contains `at`.
    fn island(&self, at: Position) -> Option<Island> {
        let index = self.islands.partition_point(|island| island.end <= at);
        self.islands.get(index).copied().filter(|island| island.start <= at)
    }

    /// The island that contains `at` is reported first from now on.
    fn remember(&mut self, at: Position) {
        let Some(island) = self.island(at) else { return };
        let before = self.recent;
        let others = before.into_iter().flatten().filter(|at| !(island.start <= *at && *at < island.end));
        self.recent = [None; MAX_SACK_BLOCKS];
        for (entry, at) in self.recent.iter_mut().zip(std::iter::once(at).chain(others)) {
            *entry = Some(at);
        }
    }

    /// What is from `start` to `end` was received once more. Of two that touch one is made, of others the last is kept.
    pub(super) fn note_duplicate(&mut self, start: Position, end: Position) {
        if start >= end {
            return;
        }
        let known = self.duplicate.filter(|known| start <= known.end && known.start <= end);
        let known = known.unwrap_or(Island { start, end });
        self.duplicate = Some(Island { start: known.start.min(start), end: known.end.max(end) });
    }

    /// True if there is something to tell the sender beside the acknowledgment.
    pub(super) fn has_report(&self) -> bool {
        self.duplicate.is_some() || !self.islands.is_empty()
    }

    /// What to tell the sender, at most `max` blocks, and whether the first of them is a duplicate. `more` reports follow at
    /// once.
    ///
    /// First what was received twice, once (RFC 2883 §4: D-SACK), followed by the island that contains it. Then the islands
    /// in which something arrived last, the last one first, so that each is reported several times (RFC 2018 §4); then
    /// the others, nearest first, because the sender mends those first.
    ///
    /// RFC 2018 §4 wants the segment that triggered the acknowledgment in the first block. A poll takes many segments and
    /// acknowledges them afterwards, so each report tells of the next arrival (or the next few, if there are less reports
    /// than arrivals), and of none that came later: if all reports of a poll told of the last ones, the sender would take
    /// those between for lost.
    pub(super) fn report(&mut self, max: usize, more: u32) -> (SackBlocks, bool) {
        let mut blocks = SackBlocks::default();
        let block = |island: Island| SackBlock { start: island.start.wire(), end: island.end.wire() };
        let duplicate = if max > 0 { self.duplicate.take() } else { None };
        if let Some(duplicate) = duplicate {
            blocks.push(block(duplicate));
        }
        let first = usize::from(duplicate.is_some());
        let around = duplicate.and_then(|duplicate| self.island(duplicate.start));
        let now = if max > first { self.untold.len().div_ceil(more as usize + 1) } else { 0 };
        for _ in 0..now {
            if let Some(next) = self.untold.pop_front() {
                self.remember(next);
            }
        }
        let recent = self.recent.iter().flatten().filter_map(|&at| self.island(at));
        let told = |island: &Island| !self.untold.iter().any(|at| island.start <= *at && *at < island.end);
        let others = self.islands.iter().copied().filter(told);
        for island in around.into_iter().chain(recent).chain(others) {
            let block = block(island);
            if blocks.as_slice().len() >= max {
                break;
            }
            if !blocks.as_slice()[first..].contains(&block) {
                blocks.push(block);
            }
        }
        (blocks, duplicate.is_some())
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | any segments of one stream in any order, overlapping: each byte is delivered once, in order, and every payload comes back exactly once | `every_byte_once_and_every_payload_back` |
    //! | the islands are exactly the runs that were accepted early | `every_byte_once_and_every_payload_back` |
    //! | no more payloads are held than allowed, and in-order data still gets through | `the_bound_on_payloads_leaves_room_for_order` |
    //! | islands are bounded | `islands_are_bounded` |
    //! | a segment that spans others is trimmed, not split; what it covers comes back | `a_covered_segment_comes_back` |
    //! | the islands that something arrived in last are reported first, then the nearest (RFC 2018 4) | `the_newest_islands_are_reported_first` |
    //! | of many arrivals at once each is reported, in their order, and none before its turn | `reports_tell_of_arrivals_in_their_order` |
    //! | what came twice is reported once, before the island that contains it (RFC 2883 4) | `a_duplicate_is_reported_once` |
    use super::*;
    use crate::tcp::testing::Bytes;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const BASE: u32 = 0xffff_ffc0;

    fn stream(from: u32, len: u32) -> Vec<u8> {
        (from..from + len).map(|i| (i * 31 + 7) as u8).collect()
    }

    fn piece(from: u32, len: u32) -> Bytes {
        Bytes::new(&stream(from, len))
    }

    fn delivered(queue: &mut ReceiveQueue<Bytes>, base: Position) -> Vec<(u64, Vec<u8>)> {
        std::iter::from_fn(|| queue.take()).map(|(at, bytes)| (at.since(base), bytes.to_vec())).collect()
    }

    proptest! {
        #[test]
        fn every_byte_once_and_every_payload_back(
            pieces in vec((0u32..300, 1u32..40), 1..120), max in 2usize..64, take in any::<u64>(),
        ) {
            let base = Position::initial(BASE);
            let mut queue = ReceiveQueue::new(base, max);
            let mut covered = vec![false; 400];
            let (mut unused, mut bytes, mut taken) = (Vec::new(), Vec::new(), 0);
            for (i, &(from, len)) in pieces.iter().enumerate() {
                let accepted = queue.accept(base + from, piece(from, len), &mut unused);
                if matches!(accepted, Accepted::InOrder { .. } | Accepted::OutOfOrder) {
                    covered[from as usize..(from + len) as usize].fill(true);
                }
                prop_assert!(queue.held() <= max);
                let prefix = covered.iter().take_while(|&&c| c).count();
                prop_assert_eq!(queue.next(), base + prefix as u32);
                // The islands are the runs of `covered` beyond the prefix.
                let mut runs = Vec::new();
                for at in prefix..covered.len() {
                    match (covered[at], covered[at - usize::from(at > 0)] && at > prefix) {
                        (true, false) => runs.push((at, at + 1)),
                        (true, true) => runs.last_mut().unwrap().1 = at + 1,
                        _ => {}
                    }
                }
                let islands: Vec<_> =
                    queue.islands.iter().map(|i| (i.start.since(base) as usize, i.end.since(base) as usize)).collect();
                prop_assert_eq!(islands, runs);
                if take >> (i % 64) & 1 == 1 {
                    for (at, piece) in delivered(&mut queue, base) {
                        prop_assert_eq!(at as usize, bytes.len());
                        prop_assert!(!piece.is_empty());
                        bytes.extend(piece);
                        taken += 1;
                    }
                    prop_assert_eq!(queue.ready_bytes(), 0);
                }
            }
            for (at, piece) in delivered(&mut queue, base) {
                prop_assert_eq!(at as usize, bytes.len());
                bytes.extend(piece);
                taken += 1;
            }
            prop_assert_eq!(bytes.len(), covered.iter().take_while(|&&c| c).count());
            prop_assert_eq!(&bytes, &stream(0, bytes.len() as u32));
            let left = std::iter::from_fn(|| queue.drain_one()).count();
            prop_assert_eq!(taken + left + unused.len(), pieces.len());
        }
    }

    #[test]
    fn the_bound_on_payloads_leaves_room_for_order() {
        let base = Position::initial(BASE);
        let mut queue = ReceiveQueue::new(base, 8);
        let mut unused = Vec::new();
        for i in 0..10 {
            let expected = if i < 6 { Accepted::OutOfOrder } else { Accepted::NoRoom };
            assert_eq!(queue.accept(base + 10 + i * 2, piece(10 + i * 2, 1), &mut unused), expected);
        }
        assert_eq!(unused.len(), 4);
        for i in 0..2 {
            assert_eq!(queue.accept(base + i, piece(i, 1), &mut unused), Accepted::InOrder { filled: true });
        }
        assert_eq!(queue.accept(base + 2, piece(2, 1), &mut unused), Accepted::NoRoom);
        assert_eq!(queue.take().map(|(at, _)| at), Some(base));
        assert_eq!(queue.accept(base + 2, piece(2, 1), &mut unused), Accepted::InOrder { filled: true });
    }

    #[test]
    fn islands_are_bounded() {
        let base = Position::initial(BASE);
        let mut queue = ReceiveQueue::new(base, 4096);
        let mut unused = Vec::new();
        for i in 0..MAX_ISLANDS as u32 + 5 {
            queue.accept(base + 2 + 2 * i, piece(2 + 2 * i, 1), &mut unused);
        }
        assert_eq!((queue.islands.len(), unused.len()), (MAX_ISLANDS, 5));
        // What joins two islands needs no new one.
        assert_eq!(queue.accept(base + 3, piece(3, 1), &mut unused), Accepted::OutOfOrder);
        assert_eq!(queue.islands.len(), MAX_ISLANDS - 1);
    }

    #[test]
    fn a_covered_segment_comes_back() {
        let base = Position::initial(BASE);
        let mut queue = ReceiveQueue::new(base, 8);
        let mut unused = Vec::new();
        queue.accept(base + 20, piece(20, 10), &mut unused);
        assert_eq!(queue.accept(base + 10, piece(10, 30), &mut unused), Accepted::OutOfOrder);
        assert_eq!(queue.accept(base + 22, piece(22, 18), &mut unused), Accepted::Duplicate);
        assert_eq!(unused.len(), 1);
        assert_eq!(queue.accept(base, piece(0, 12), &mut unused), Accepted::InOrder { filled: true });
        let pieces: Vec<_> = delivered(&mut queue, base).into_iter().map(|(at, b)| (at, b.len())).collect();
        assert_eq!(pieces, [(0, 12), (12, 28)]);
        assert_eq!(unused[1].to_vec(), stream(20, 10));
        assert!(queue.islands.is_empty() && queue.held() == 0);
    }

    fn reported(queue: &mut ReceiveQueue<Bytes>, max: usize) -> Vec<(u32, u32)> {
        let (blocks, _) = queue.report(max, u32::MAX);
        blocks.as_slice().iter().map(|b| (b.start.wrapping_sub(BASE), b.end.wrapping_sub(BASE))).collect()
    }

    #[test]
    fn the_newest_islands_are_reported_first() {
        let base = Position::initial(BASE);
        let mut queue = ReceiveQueue::new(base, 64);
        let mut unused = Vec::new();
        let starts =
            |queue: &mut ReceiveQueue<Bytes>, max| reported(queue, max).iter().map(|b| b.0).collect::<Vec<_>>();
        let mut told = Vec::new();
        for at in [100, 10, 30, 50, 70] {
            queue.accept(base + at, piece(at, 5), &mut unused);
            told = starts(&mut queue, 3);
        }
        assert_eq!(told, [70, 50, 30]);
        queue.accept(base + 35, piece(35, 5), &mut unused);
        assert_eq!(starts(&mut queue, 4), [30, 70, 50, 10]);
        assert_eq!(reported(&mut queue, 4)[0], (30, 40));
        assert_eq!(starts(&mut queue, 0), [0u32; 0]);
        // What closes the gap between two makes one of them; what is in order is not reported.
        queue.accept(base + 40, piece(40, 10), &mut unused);
        assert_eq!(reported(&mut queue, 4), [(30, 55), (70, 75), (10, 15), (100, 105)]);
        queue.accept(base, piece(0, 60), &mut unused);
        assert_eq!(reported(&mut queue, 4), [(70, 75), (100, 105)]);
    }

    #[test]
    fn reports_tell_of_arrivals_in_their_order() {
        let base = Position::initial(BASE);
        let mut queue = ReceiveQueue::new(base, 64);
        let mut unused = Vec::new();
        // Five islands in one poll, the third of two segments.
        for at in [10, 30, 50, 55, 70, 90] {
            queue.accept(base + at, piece(at, 5), &mut unused);
        }
        assert_eq!(reported(&mut queue, 0), [], "no room: it waits");
        let islands = [(10, 15), (30, 35), (50, 60), (70, 75), (90, 95)];
        for told in 1..=islands.len() {
            let mut newest: Vec<_> = islands[..told].iter().rev().copied().collect();
            newest.truncate(3);
            assert_eq!(reported(&mut queue, 3), newest, "nothing that came after the {told}. arrival");
        }
        // Less reports than arrivals: two each.
        for at in [110, 130, 150, 170] {
            queue.accept(base + at, piece(at, 5), &mut unused);
        }
        assert_eq!(queue.reports_due(), 2);
        for (more, newest) in [(1, [(130, 135), (110, 115)]), (0, [(170, 175), (150, 155)])] {
            let (blocks, _) = queue.report(2, more);
            let told: Vec<_> =
                blocks.as_slice().iter().map(|b| (b.start.wrapping_sub(BASE), b.end.wrapping_sub(BASE))).collect();
            assert_eq!(told, newest);
        }
        // Nothing new: as before.
        assert_eq!((queue.reports_due(), reported(&mut queue, 2)), (0, vec![(170, 175), (150, 155)]));
        // More than are told apart: every island is reported once all the same.
        let mut queue = ReceiveQueue::new(base, 200);
        for island in 0..100 {
            queue.accept(base + (10 + 2 * island), piece(10 + 2 * island, 1), &mut unused);
        }
        let mut told: Vec<_> = (0..MAX_UNTOLD).flat_map(|_| reported(&mut queue, 3)).collect();
        told.sort_unstable();
        told.dedup();
        assert!(told.len() >= MAX_UNTOLD && told.last() == Some(&(208, 209)), "{told:?}");
    }

    #[test]
    fn a_duplicate_is_reported_once() {
        let base = Position::initial(BASE);
        let mut queue = ReceiveQueue::new(base, 64);
        let mut unused = Vec::new();
        let mut accept = |queue: &mut ReceiveQueue<Bytes>, at, len| {
            queue.accept(base + at, piece(at, len), &mut unused);
        };
        accept(&mut queue, 0, 10);
        assert!(!queue.has_report());
        // Before what is next; twice, so one block says both.
        accept(&mut queue, 0, 4);
        accept(&mut queue, 4, 2);
        assert_eq!((reported(&mut queue, 3), reported(&mut queue, 3)), (vec![(0, 6)], vec![]));
        // Partly before it.
        accept(&mut queue, 8, 4);
        assert_eq!(reported(&mut queue, 3), [(8, 10)]);
        // Inside and across an island.
        accept(&mut queue, 20, 10);
        assert_eq!(reported(&mut queue, 3), [(20, 30)]);
        accept(&mut queue, 40, 10);
        assert_eq!(reported(&mut queue, 3), [(40, 50), (20, 30)]);
        accept(&mut queue, 22, 3);
        assert_eq!(reported(&mut queue, 3), [(22, 25), (20, 30), (40, 50)]);
        accept(&mut queue, 25, 10);
        assert_eq!(reported(&mut queue, 3), [(25, 30), (20, 35), (40, 50)]);
        // No room: it waits.
        accept(&mut queue, 20, 5);
        assert_eq!(reported(&mut queue, 0), []);
        assert_eq!(reported(&mut queue, 1), [(20, 25)]);
    }
}
