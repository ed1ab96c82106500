//! RACK (RFC 8985 §6): a segment is lost if one that was sent later has arrived, and some time has passed.
//!
//! ```text
//!    sent   1    2    3    4    5 ─► time               4 has arrived, a round trip after it was sent.
//!           ┊    ┊    ┊    │                            1 was sent before it: unless it is merely late, it is lost.
//!           └────┴────┴────┤◄── reordering window ──►│  How late it may be is learned from the path: nothing until
//!                          4 arrives       1, 2, 3 are lost   reordering was seen, then a part of the round trip.
//! ```
//!
//! Time, not a count of duplicates: it also finds the loss of what was already sent again, and it takes any amount of
//! reordering that is over within the window. The window grows with each round trip in which the peer reports that it got
//! something twice (D-SACK, RFC 2883), because then it was too small.

use super::scoreboard::{Scoreboard, Sent};

use super::super::seq::Position;

/// RFC 8985 §6.2 step 4: duplicates after which a loss is believed at once while no reordering was seen.
const DUPLICATE_THRESHOLD: u32 = 3;
/// RFC 8985 §6.2 step 4: recoveries without a report of duplicates after which the window is small again.
const PERSIST: u32 = 16;
/// Nothing limits the multiplier but the smoothed round-trip time that bounds the window; this avoids large numbers.
const MAX_MULTIPLIER: u32 = 1 << 8;
/// RFC 8985 §6.2 step 1 wants the minimum of a window of time. So long a minimum is believed.
const MINIMUM_LIFETIME: u64 = 300 * 1_000_000_000;

/// What the acknowledgment at hand says about the reordering window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// SND.UNA, after it.
    pub una: Position,
    /// SND.NXT.
    pub nxt: Position,
    /// It reports a duplicate.
    pub dsack: bool,
    /// Fast recovery or recovery from a timeout ended with it.
    pub exits: bool,
    /// One of these is still going on.
    pub recovering: bool,
    /// Smoothed round-trip time in nanoseconds.
    pub smoothed: u64,
}

/// State of RACK, RFC 8985 §5.3. Times in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Rack {
    /// RACK.xmit_ts and RACK.end_seq: of what has arrived, the segment that was sent last. Nothing has: `None`.
    newest: Option<(u64, Position)>,
    /// RACK.rtt: its round-trip time.
    rtt: u64,
    /// RACK.min_RTT and when it was measured.
    minimum: Option<(u64, u64)>,
    /// RACK.fack: the end of the highest segment that has arrived.
    highest: Position,
    reordering_seen: bool,
    /// RACK.reo_wnd_mult.
    multiplier: u32,
    /// RACK.reo_wnd_persist.
    persist: u32,
    /// RACK.dsack_round.
    dsack_round: Option<Position>,
    /// RACK.reo_wnd.
    window: u64,
}

impl Rack {
    pub(super) fn new(start: Position) -> Rack {
        Rack {
            newest: None,
            rtt: 0,
            minimum: None,
            highest: start,
            reordering_seen: false,
            multiplier: 1,
            persist: PERSIST,
            dsack_round: None,
            window: 0,
        }
    }

    /// RACK.fack, to be taken before an acknowledgment is looked at.
    pub(super) fn highest(&self) -> Position {
        self.highest
    }

    /// §6.2 steps 1 to 3: `sent` has arrived. `stale`: the timestamp echo says that what was acknowledged is an earlier
    /// transmission of it. `highest`: [`highest`](Self::highest) before this acknowledgment. One acknowledgment lists what
    /// it has in any order; only what lies below what *earlier* ones reported has been overtaken.
    pub(super) fn on_delivered(&mut self, now: u64, sent: &Sent, stale: bool, highest: Position) {
        let rtt = now.saturating_sub(sent.at);
        if !sent.again {
            let expired = |at: u64| now.saturating_sub(at) > MINIMUM_LIFETIME;
            if self.minimum.is_none_or(|(minimum, at)| rtt <= minimum || expired(at)) {
                self.minimum = Some((rtt, now));
            }
            // Step 3.
            self.reordering_seen |= sent.end < highest;
        }
        self.highest = self.highest.max(sent.end);
        // Step 2: an acknowledgment that can only mean an earlier transmission says nothing of the last.
        if sent.again && (stale || self.minimum.is_some_and(|(minimum, _)| rtt < minimum)) {
            return;
        }
        self.rtt = rtt;
        if self.newest.is_none_or(|newest| (sent.at, sent.end) > newest) {
            self.newest = Some((sent.at, sent.end));
        }
    }

    /// §6.2 step 4: the reordering window from now on.
    pub(super) fn adapt(&mut self, sacked: u32, round: &Round) {
        if self.dsack_round.is_some_and(|end| round.una >= end) {
            self.dsack_round = None;
        }
        if self.dsack_round.is_none() && round.dsack {
            self.dsack_round = Some(round.nxt);
            self.multiplier = (self.multiplier + 1).min(MAX_MULTIPLIER);
            self.persist = PERSIST;
        } else if round.exits {
            self.persist = self.persist.saturating_sub(1);
            if self.persist == 0 {
                self.multiplier = 1;
            }
        }
        let believe = round.recovering || sacked >= DUPLICATE_THRESHOLD;
        self.window = if !self.reordering_seen && believe { 0 } else { self.patience(round.smoothed) };
    }

    /// True if no round trip with a duplicate is going on, whose end would be noted.
    pub(super) fn is_settled(&self) -> bool {
        self.dsack_round.is_none()
    }

    /// How late a segment may be if reordering is possible.
    fn patience(&self, smoothed: u64) -> u64 {
        let (minimum, _) = self.minimum.unwrap_or_default();
        (minimum / 4 * u64::from(self.multiplier)).min(smoothed)
    }

    /// §6.2 step 5: marks what is lost by now. Returns how many segments, and when the next will be if nothing arrives.
    ///
    /// The RFC would wait until the last of those that are late now is; a polled driver looks at each in its time.
    pub(super) fn detect(&self, board: &mut Scoreboard, now: u64) -> (u32, Option<u64>) {
        let mut count = 0;
        let Some(newest) = self.newest else { return (0, None) };
        while let Some(number) = board.oldest() {
            let sent = board.get(number);
            if (sent.at, sent.end) >= newest {
                break;
            }
            let due = sent.at.saturating_add(self.rtt).saturating_add(self.window);
            if due > now {
                return (count, Some(due));
            }
            board.mark_lost(number);
            count += 1;
        }
        (count, None)
    }

    /// §6.3: the retransmission timer expired. The first segment is lost, and what was sent a round trip ago.
    pub(super) fn on_timeout(&self, board: &mut Scoreboard, now: u64) -> u32 {
        let before = board.lost();
        board.mark_head_lost();
        while let Some(number) = board.oldest() {
            if board.get(number).at.saturating_add(self.rtt).saturating_add(self.window) > now {
                break;
            }
            board.mark_lost(number);
        }
        board.lost() - before
    }
}

#[cfg(test)]
#[path = "rack_tests.rs"]
mod tests;
