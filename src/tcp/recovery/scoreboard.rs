//! The scoreboard: every segment in flight, and what became of it (RFC 6675 §4, RFC 8985 §5.2).
//!
//! ```text
//!   una                                                               nxt
//!    ├────┬────┬────┬────┬────┬────┬────┬────┬────┬────┬────┬────┬────┤      one record per segment, by position
//!    │lost│ .  │ S  │ S  │lost│ S  │ S  │ S  │ .  │ .  │ .  │ .  │ .  │      S: selectively acknowledged, .: in flight
//!    └────┴─┬──┴────┴────┴────┴────┴────┴────┴─┬──┴─┬──┴─┬──┴─┬──┴─┬──┘
//!           └──────────────────────────────────┴────┴────┴────┴────┘         those in flight, linked by when they were sent
//! ```
//!
//! A record is as long as its segment was and is never split: a selective acknowledgment counts for it only if it covers
//! all of it. A receiver that took half a segment gets all of it again.
//!
//! Nothing here costs more than its own segments, whatever the peer acknowledges in whichever order: runs that are
//! acknowledged are jumped over (a union-find whose sets are such runs), and who looks for losses walks by time of sending
//! and stops at the first that is young. Room for records is allocated once; where it ends, new data waits.

use super::super::seq::Position;

/// No record.
const NONE: u16 = u16::MAX;
/// Bounds of the room for records. They are numbered by 16 bits.
const CAPACITY: std::ops::RangeInclusive<u32> = 64..=16384;

/// What is known of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fate {
    /// It may still be on its way.
    #[default]
    InFlight,
    /// It is taken as lost and was not sent again since.
    Lost,
    /// The peer has it.
    Sacked,
}

/// A segment that was sent and not cumulatively acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// One beyond its last sequence number.
    pub end: Position,
    /// When it was sent, the last time: nanoseconds.
    pub at: u64,
    /// Sequence numbers that it takes.
    pub len: u32,
    pub fate: Fate,
    /// It was sent more than once.
    pub again: bool,
    /// If it is acknowledged: the number of a later record, with none in between that is not.
    skip: u32,
    /// Neighbours among those in flight, by time of sending.
    older: u16,
    newer: u16,
}

impl Sent {
    pub(super) fn start(&self) -> Position {
        self.end.back(self.len)
    }
}

/// The scoreboard of a connection.
pub(super) struct Scoreboard {
    slots: Box<[Sent]>,
    /// Numbers of the first record and one beyond the last; they wrap, and index `slots` by their low bits.
    head: u32,
    tail: u32,
    /// Where the first record begins, or the next one if there is none.
    start: Position,
    oldest: u16,
    newest: u16,
    /// Sequence numbers in flight (RFC 6675 §4, pipe).
    pipe: u32,
    sacked: u32,
    lost: u32,
    /// No record before this one is lost.
    hint: u32,
}

impl Scoreboard {
    /// An empty scoreboard whose first record will begin at `start`. Room for `bytes` in segments of `mss` bytes, and some
    /// for shorter ones. This is the only allocation.
    pub(super) fn new(start: Position, bytes: u32, mss: u32) -> Scoreboard {
        let segments = (bytes / mss.max(1)).saturating_add(32).clamp(*CAPACITY.start(), *CAPACITY.end());
        let free =
            Sent { end: start, at: 0, len: 0, fate: Fate::InFlight, again: false, skip: 0, older: NONE, newer: NONE };
        Scoreboard {
            slots: vec![free; segments.next_power_of_two() as usize].into_boxed_slice(),
            head: 0,
            tail: 0,
            start,
            oldest: NONE,
            newest: NONE,
            pipe: 0,
            sacked: 0,
            lost: 0,
            hint: 0,
        }
    }

    fn slot(&self, number: u32) -> u16 {
        // At most 2^14 slots.
        (number as usize & (self.slots.len() - 1)) as u16
    }

    /// The record of this number, which `oldest`, `next_lost` or `last_open` has just returned.
    pub(super) fn get(&self, number: u32) -> &Sent {
        &self.slots[usize::from(self.slot(number))]
    }

    fn get_mut(&mut self, number: u32) -> &mut Sent {
        let slot = self.slot(number);
        &mut self.slots[usize::from(slot)]
    }

    /// Records.
    pub(super) fn len(&self) -> u32 {
        self.tail.wrapping_sub(self.head)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// No room for another record.
    pub(super) fn is_full(&self) -> bool {
        self.len() as usize >= self.slots.len() - 1
    }

    /// Where the next record begins.
    pub(super) fn end(&self) -> Position {
        if self.is_empty() { self.start } else { self.get(self.tail.wrapping_sub(1)).end }
    }

    /// RFC 6675 §4, pipe: sequence numbers that may be on their way. A record that is sent again without being lost (a
    /// probe) counts once.
    pub(super) fn pipe(&self) -> u32 {
        self.pipe
    }

    /// Records that are selectively acknowledged (RFC 8985 §5.3, RACK.segs_sacked).
    pub(super) fn sacked(&self) -> u32 {
        self.sacked
    }

    /// Records that are lost and wait to be sent again.
    pub(super) fn lost(&self) -> u32 {
        self.lost
    }

    /// True if the first record is selectively acknowledged: either its cumulative acknowledgment was lost, or the peer
    /// threw away what it had (RFC 2018 §8).
    pub(super) fn head_is_sacked(&self) -> bool {
        !self.is_empty() && self.get(self.head).fate == Fate::Sacked
    }

    /// A segment of `len` sequence numbers was sent for the first time. There must be room.
    pub(super) fn push(&mut self, len: u32, at: u64, again: bool) {
        debug_assert!(!self.is_full() && len > 0);
        let number = self.tail;
        let end = self.end() + len;
        *self.get_mut(number) = Sent { end, at, len, fate: Fate::InFlight, again, skip: 0, older: NONE, newer: NONE };
        self.tail = number.wrapping_add(1);
        self.enter(number);
    }

    /// A record was sent again.
    pub(super) fn sent_again(&mut self, number: u32, at: u64) {
        self.leave(number);
        let record = self.get_mut(number);
        (record.at, record.again, record.fate) = (at, true, Fate::InFlight);
        self.enter(number);
    }

    /// Into flight, as the newest.
    fn enter(&mut self, number: u32) {
        let slot = self.slot(number);
        let newest = std::mem::replace(&mut self.newest, slot);
        match newest {
            NONE => self.oldest = slot,
            _ => self.slots[usize::from(newest)].newer = slot,
        }
        let record = &mut self.slots[usize::from(slot)];
        (record.older, record.newer) = (newest, NONE);
        self.pipe = self.pipe.saturating_add(record.len);
    }

    /// Out of whatever its fate is; the caller sets the new one.
    fn leave(&mut self, number: u32) {
        let record = *self.get(number);
        match record.fate {
            Fate::InFlight => {
                self.pipe = self.pipe.saturating_sub(record.len);
                match record.older {
                    NONE => self.oldest = record.newer,
                    older => self.slots[usize::from(older)].newer = record.newer,
                }
                match record.newer {
                    NONE => self.newest = record.older,
                    newer => self.slots[usize::from(newer)].older = record.older,
                }
            }
            Fate::Lost => self.lost = self.lost.saturating_sub(1),
            Fate::Sacked => self.sacked = self.sacked.saturating_sub(1),
        }
    }

    /// Everything before `ack` was acknowledged. Calls `delivered` for each record that was not known to be delivered, in
    /// order; returns sequence numbers that were not.
    pub(super) fn acknowledge(&mut self, ack: Position, mut delivered: impl FnMut(&Sent)) -> u32 {
        let mut count = 0u32;
        while !self.is_empty() {
            let record = *self.get(self.head);
            if record.end > ack {
                let part = ack.window_since(record.start());
                self.get_mut(self.head).len -= part;
                match record.fate {
                    Fate::InFlight => self.pipe = self.pipe.saturating_sub(part),
                    Fate::Lost => {}
                    Fate::Sacked => break,
                }
                count = count.saturating_add(part);
                break;
            }
            self.leave(self.head);
            if record.fate != Fate::Sacked {
                count = count.saturating_add(record.len);
                delivered(&record);
            }
            if self.hint == self.head {
                self.hint = self.head.wrapping_add(1);
            }
            self.head = self.head.wrapping_add(1);
        }
        self.start = self.start.max(ack);
        count
    }

    /// The peer has what is from `start` to `end`. As [`acknowledge`](Self::acknowledge).
    pub(super) fn sack(&mut self, start: Position, end: Position, mut delivered: impl FnMut(&Sent)) -> u32 {
        let mut count = 0u32;
        let mut number = self.open_from(self.first_from(start));
        while number != self.tail && self.get(number).end <= end {
            let record = *self.get(number);
            self.leave(number);
            let next = number.wrapping_add(1);
            let changed = self.get_mut(number);
            (changed.fate, changed.skip) = (Fate::Sacked, next);
            self.sacked += 1;
            count = count.saturating_add(record.len);
            delivered(&record);
            number = self.open_from(next);
        }
        count
    }

    /// The first record that begins at `start` or later.
    fn first_from(&self, start: Position) -> u32 {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(self.head.wrapping_add(middle)).start() < start {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        self.head.wrapping_add(low)
    }

    /// The first record from `number` on that is not selectively acknowledged. Halves the way for who asks next.
    fn open_from(&mut self, mut number: u32) -> u32 {
        while number != self.tail && self.get(number).fate == Fate::Sacked {
            let next = self.get(number).skip;
            if next != self.tail && self.get(next).fate == Fate::Sacked {
                self.get_mut(number).skip = self.get(next).skip;
            }
            number = next;
        }
        number
    }

    /// Of those in flight, the one that was sent first.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.number(self.oldest)
    }

    fn number(&self, slot: u16) -> Option<u32> {
        if slot == NONE {
            return None;
        }
        let ahead = u32::from(slot).wrapping_sub(self.head) & (self.slots.len() as u32 - 1);
        Some(self.head.wrapping_add(ahead))
    }

    /// A record in flight is lost.
    pub(super) fn mark_lost(&mut self, number: u32) {
        self.leave(number);
        self.get_mut(number).fate = Fate::Lost;
        self.lost += 1;
        if number.wrapping_sub(self.head) < self.hint.wrapping_sub(self.head) {
            self.hint = number;
        }
    }

    /// The first record is lost, unless it is known to be delivered.
    pub(super) fn mark_head_lost(&mut self) {
        if !self.is_empty() && self.get(self.head).fate == Fate::InFlight {
            self.mark_lost(self.head);
        }
    }

    /// The first lost record.
    pub(super) fn next_lost(&mut self) -> Option<u32> {
        if self.lost == 0 {
            return None;
        }
        let mut number = self.hint;
        loop {
            number = self.open_from(number);
            if number == self.tail {
                return None;
            }
            self.hint = number;
            if self.get(number).fate == Fate::Lost {
                return Some(number);
            }
            number = number.wrapping_add(1);
        }
    }

    /// The last record that is not selectively acknowledged.
    pub(super) fn last_open(&self) -> Option<u32> {
        // A walk, but only a probe asks, once in two round trips at most.
        (0..self.len())
            .map(|back| self.tail.wrapping_sub(1 + back))
            .find(|&number| self.get(number).fate != Fate::Sacked)
    }

    /// The peer threw away what it had acknowledged selectively (RFC 2018 §8): all of it is lost.
    pub(super) fn forget_sacks(&mut self) {
        let mut number = self.head;
        while number != self.tail {
            if self.get(number).fate == Fate::Sacked {
                self.leave(number);
                self.get_mut(number).fate = Fate::Lost;
                self.lost += 1;
            }
            number = number.wrapping_add(1);
        }
        self.hint = self.head;
    }

    /// What was taken as lost is on its way after all.
    pub(super) fn unmark_lost(&mut self) {
        let mut number = self.head;
        // The last that went back into flight, of those that were sent once and of those that were sent again: each were
        // sent in about the order of their positions, so the next of its kind has its place behind.
        let mut last = [NONE; 2];
        while number != self.tail {
            let record = *self.get(number);
            if record.fate == Fate::Lost {
                self.leave(number);
                self.get_mut(number).fate = Fate::InFlight;
                let last = &mut last[usize::from(record.again)];
                let after = *last;
                let follows = after != NONE && self.slots[usize::from(after)].at <= record.at;
                *last = self.enter_after(if follows { after } else { NONE }, number);
            }
            number = number.wrapping_add(1);
        }
    }

    /// Into flight at its place by time of sending, which is not before `after`. Returns its slot.
    fn enter_after(&mut self, mut after: u16, number: u32) -> u16 {
        let slot = self.slot(number);
        let record = *self.get(number);
        let mut next = if after == NONE { self.oldest } else { self.slots[usize::from(after)].newer };
        while next != NONE {
            let other = &self.slots[usize::from(next)];
            if (other.at, other.end) > (record.at, record.end) {
                break;
            }
            (after, next) = (next, other.newer);
        }
        match after {
            NONE => self.oldest = slot,
            _ => self.slots[usize::from(after)].newer = slot,
        }
        match next {
            NONE => self.newest = slot,
            _ => self.slots[usize::from(next)].older = slot,
        }
        let entered = &mut self.slots[usize::from(slot)];
        (entered.older, entered.newer) = (after, next);
        self.pipe = self.pipe.saturating_add(record.len);
        slot
    }
}

impl std::fmt::Debug for Scoreboard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (len, end) = (self.len(), self.end());
        write!(
            f,
            "Scoreboard({:?}..{end:?}: {len} segments, {} sacked, {} lost, ",
            self.start, self.sacked, self.lost
        )?;
        write!(f, "{} in flight)", self.pipe)
    }
}

#[cfg(test)]
#[path = "scoreboard_tests.rs"]
mod tests;
