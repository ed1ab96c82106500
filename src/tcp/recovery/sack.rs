//! Recovery with selective acknowledgments: scoreboard, RACK, TLP and PRR put together (RFC 6675, RFC 8985 §8).
//!
//! ```text
//!                          ┌────────── undone: it was for nothing ─────────┐
//!                          ▼                                               │
//!    ┌──────────────► OPEN ── RACK marks a loss ─► FAST RECOVERY ──────────┤   window reduced, PRR says how fast
//!    │                 │                                  │                │
//!    │                 └──────┬── retransmission timer ───┤                │
//!    │                        ▼                           │                │
//!    │                  TIMEOUT RECOVERY ─────────────────┼────────────────┘   one segment, slow start
//!    └──────────── everything sent before is acknowledged ┘
//! ```
//!
//! In every state what is lost goes first, lowest position first, then new data: RFC 6675 §4, NextSeg rules 1 and 2. Rule 3
//! (send again what is not known to be lost) is left out: RACK knows better, and on a path that reorders it would only make
//! duplicates. Rule 4 is in [`may_probe`](SackRecovery::may_probe).
//!
//! A reduction is undone when it turns out that nothing had been lost: the acknowledgment of the first segment sent again
//! echoes a timestamp from before (RFC 3522), or the peer reports everything that was sent again as a duplicate (RFC 3708).
//! After a timeout this also keeps what was not sent again yet from being sent again: no F-RTO (RFC 5682) beside it.

use std::time::Duration;

use super::super::congestion::Congestion;
use super::super::counters::Counters;
use super::super::segment::SackBlock;
use super::super::seq::Position;
use super::prr::Prr;
use super::rack::{Rack, Round};
use super::scoreboard::Scoreboard;
use super::tlp::Tlp;

/// An acknowledgment.
#[derive(Clone, Copy, Debug)]
pub(in crate::tcp) struct Ack<'a> {
    pub now: Duration,
    /// What it acknowledges cumulatively; may be old.
    pub ack: Position,
    /// SND.UNA before it.
    pub una: Position,
    /// One beyond what was ever sent.
    pub max: Position,
    /// Its SACK option.
    pub blocks: &'a [SackBlock],
    /// Its timestamp echo, in milliseconds of the caller's clock, modulo 2^32.
    pub echo: Option<u32>,
    /// It carries nothing else (RFC 5681 §2).
    pub bare: bool,
    /// As in [`Congestion::on_ack`].
    pub limited: bool,
    /// Smoothed round-trip time.
    pub smoothed: Option<Duration>,
}

/// What an acknowledgment leads to.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::tcp) struct Outcome {
    /// Round-trip time of the first segment that it acknowledges and that was sent once.
    pub rtt: Option<Duration>,
    /// Something arrived that was not known to have.
    pub progress: bool,
    /// When something will be lost if nothing arrives: call `on_reordering_timer` then.
    pub loss_at: Option<Duration>,
}

/// A segment to send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) struct Resend {
    /// Number on the scoreboard.
    pub number: u32,
    /// First position.
    pub start: Position,
    /// Sequence numbers: payload, and FIN if there is one.
    pub len: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Fast(Prr),
    Timeout,
}

/// What was sent again since the last reduction, to find out if that was for nothing.
#[derive(Clone, Copy, Debug, Default)]
struct SentAgain {
    /// When, and the end of, the first segment: until its acknowledgment tells.
    first: Option<(u64, Position)>,
    /// Smallest range that contains all of it.
    range: Option<(Position, Position)>,
    /// Bytes that were not reported as duplicates.
    bytes: u64,
}

/// The sender's side of SACK.
#[derive(Debug)]
pub(in crate::tcp) struct SackRecovery {
    board: Scoreboard,
    rack: Rack,
    tlp: Tlp,
    phase: Phase,
    /// RFC 6675 §2, RecoveryPoint: the end of what was sent when the last recovery or timeout began.
    recover: Position,
    /// RFC 6675 §4, RescueRxt: SND.UNA when the last rescue was sent.
    rescued: Option<Position>,
    sent_again: Option<SentAgain>,
    /// See [`is_settled`](SackRecovery::is_settled).
    settled: bool,
    /// Where the first byte of the stream is.
    origin: Position,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl SackRecovery {
    /// For a stream that begins at `start`, `bytes` of which are held until acknowledged, in segments of `mss`.
    pub(in crate::tcp) fn new(start: Position, bytes: u32, mss: u32) -> SackRecovery {
        SackRecovery {
            board: Scoreboard::new(start, bytes, mss),
            rack: Rack::new(start),
            tlp: Tlp::default(),
            phase: Phase::Open,
            recover: start,
            rescued: None,
            sent_again: None,
            settled: false,
            origin: start,
        }
    }

    /// False if there is no room on the scoreboard for another segment.
    pub(in crate::tcp) fn has_room(&self) -> bool {
        !self.board.is_full()
    }

    /// Bytes that may be sent now: RFC 6675 §5 (C), in fast recovery RFC 9937. Towards a window that is not reduced there is
    /// nothing to go gently.
    pub(in crate::tcp) fn allowance(&self, congestion: &Congestion) -> u32 {
        match &self.phase {
            Phase::Fast(prr) if !congestion.is_fixed() => prr.quota(),
            _ => congestion.window().saturating_sub(self.board.pipe()),
        }
    }

    /// Segments in flight or waiting to be sent again.
    pub(in crate::tcp) fn segments(&self) -> u32 {
        self.board.len()
    }

    /// A segment of `len` sequence numbers was sent for the first time. `again`: some of it was before, as a window probe.
    pub(in crate::tcp) fn on_sent(&mut self, now: Duration, len: u32, again: bool) {
        self.board.push(len, nanos(now), again);
        if let Phase::Fast(prr) = &mut self.phase {
            prr.on_sent(len);
        }
    }

    /// True if the last acknowledgment brought no news and left nothing to look for, and only new data was sent since: the
    /// same acknowledgment once more, with data, changes nothing. What was sent since comes after all that has arrived, so
    /// RACK does not miss it.
    pub(in crate::tcp) fn is_settled(&self) -> bool {
        self.settled
    }

    /// `segment` was sent again.
    pub(in crate::tcp) fn on_sent_again(&mut self, now: Duration, segment: Resend) {
        self.settled = false;
        let Resend { number, start, len } = segment;
        let end = start + len;
        self.board.sent_again(number, nanos(now));
        if let Phase::Fast(prr) = &mut self.phase {
            prr.on_sent(len);
        }
        if let Some(all) = self.sent_again.as_mut().filter(|_| self.phase != Phase::Open) {
            if all.range.is_none() {
                all.first = Some((nanos(now), end));
            }
            let (from, to) = all.range.unwrap_or((start, end));
            all.range = Some((from.min(start), to.max(end)));
            all.bytes += u64::from(len);
        }
    }

    /// RFC 6675 §4, NextSeg (1): the lost segment that comes first.
    pub(in crate::tcp) fn next_lost(&mut self) -> Option<Resend> {
        let number = self.board.next_lost()?;
        Some(self.resend(number))
    }

    fn resend(&self, number: u32) -> Resend {
        let sent = self.board.get(number);
        Resend { number, start: sent.start(), len: sent.len }
    }

    /// True if a probe may be sent when nothing arrives for a while, besides that something is outstanding.
    ///
    /// Outside of recovery RFC 8985 §7.2 says when: nobody else looks for losses, and no probe is out. During fast recovery it
    /// has none, and a retransmission that is lost with nothing sent after it would wait for the timeout. The rescue of RFC
    /// 6675 §4 (NextSeg rule 4: the highest segment once more) is there for that; here it waits for the same silence as a
    /// probe does, because RACK needs no help as long as anything arrives, and it may come again after progress.
    pub(in crate::tcp) fn may_probe(&self, una: Position) -> bool {
        match self.phase {
            Phase::Open => self.board.sacked() == 0 && self.board.lost() == 0 && !self.tlp.is_out(),
            Phase::Fast(_) => {
                let missing = self.board.pipe() > 0 || self.board.lost() > 0;
                missing && self.rescued.is_none_or(|rescued| una > rescued)
            }
            Phase::Timeout => false,
        }
    }

    /// True during fast recovery: a probe is a rescue.
    pub(in crate::tcp) fn is_fast(&self) -> bool {
        matches!(self.phase, Phase::Fast(_))
    }

    /// The segment that a probe without new data sends again: the highest (RFC 8985 §7.3, RFC 6675 §4), but what is known to
    /// be lost and waits for its turn first.
    pub(in crate::tcp) fn probe(&mut self) -> Option<Resend> {
        let number = self.board.next_lost().or_else(|| self.board.last_open())?;
        Some(self.resend(number))
    }

    /// A probe was sent; everything sent lies between `una` and `nxt` now. `again`: it was not new.
    pub(in crate::tcp) fn on_probe_sent(&mut self, una: Position, nxt: Position, again: bool) {
        self.settled = false;
        match self.is_fast() {
            true => self.rescued = Some(una),
            false => self.tlp.on_sent(nxt, again),
        }
    }

    /// RFC 8985 §8, on every acknowledgment, old ones too: what they report is still true.
    pub(in crate::tcp) fn on_ack(
        &mut self,
        congestion: &mut Congestion,
        counters: &mut Counters,
        ack: &Ack<'_>,
    ) -> Outcome {
        let now = nanos(ack.now);
        let una = ack.una.max(ack.ack);
        let (before, acked) = (self.board.end().window_since(ack.una), una.window_since(ack.una));
        let pipe = self.board.pipe();

        let (dsack, first) = self.duplicate(ack, counters);
        let (rtt, delivered) = self.deliver(now, ack, first, counters);

        if self.tlp.on_ack(ack.ack, dsack, ack.bare && ack.blocks.is_empty() && acked == 0) && self.phase == Phase::Open
        {
            counters.probes_mended += 1;
            congestion.reduce(before.min(congestion.window()));
            // What came before can no longer be told from this.
            self.sent_again = None;
        }

        let phase = self.phase;
        if phase != Phase::Open && una >= self.recover {
            self.phase = Phase::Open;
        }
        let spurious = self.was_spurious(ack, dsack);
        if spurious {
            counters.spurious_recoveries += 1;
            congestion.undo();
            self.board.unmark_lost();
            (self.phase, self.sent_again) = (Phase::Open, None);
        }

        let exits = phase != Phase::Open && self.phase == Phase::Open;
        let nxt = self.board.end();
        self.rack.adapt(
            self.board.sacked(),
            &Round {
                una,
                nxt,
                dsack: dsack.is_some(),
                exits,
                recovering: self.phase != Phase::Open,
                smoothed: nanos(ack.smoothed.unwrap_or_default()),
            },
        );
        let (lost, loss_at) = self.rack.detect(&mut self.board, now);
        counters.lost_segments += u64::from(lost);
        // Of what was sent during a recovery something may have been found lost: that is the next one.
        let waiting = exits && !spurious && self.board.lost() > 0;
        if self.phase == Phase::Open && (lost > 0 || waiting) {
            self.enter_fast(congestion, counters, una, pipe);
        }
        match &mut self.phase {
            Phase::Fast(prr) => {
                let safe = acked > 0 && lost == 0;
                prr.on_ack(delivered, self.board.pipe(), congestion.threshold(), congestion.mss(), safe);
            }
            _ if acked == 0 || matches!(phase, Phase::Fast(_)) => {}
            // RFC 5681 §3.1. After a timeout the window is the limit as long as something is missing.
            recovering => {
                let limited = ack.limited || *recovering == Phase::Timeout;
                congestion.on_ack(ack.now, acked, ack.smoothed.unwrap_or_default(), limited);
            }
        }
        let known = (self.board.sacked(), self.board.lost(), delivered) == (0, 0, 0);
        let quiet = self.phase == Phase::Open && self.sent_again.is_none() && !self.tlp.is_out();
        self.settled = known && quiet && acked == 0 && loss_at.is_none() && self.rack.is_settled();
        Outcome {
            rtt: rtt.map(Duration::from_nanos),
            progress: delivered > 0,
            loss_at: loss_at.map(Duration::from_nanos),
        }
    }

    /// RFC 2883 §4: the duplicate that the peer reports, if it does, and the number of the first block that is none.
    fn duplicate(&self, ack: &Ack<'_>, counters: &mut Counters) -> (Option<(Position, Position)>, usize) {
        let place = |block: &SackBlock| (ack.max.nearest(block.start), ack.max.nearest(block.end));
        let Some((start, end)) = ack.blocks.first().map(place).filter(|(start, end)| start < end) else {
            return (None, 0);
        };
        let within = |&(outer_start, outer_end): &(Position, Position)| outer_start <= start && end <= outer_end;
        let below = end <= ack.ack && start >= self.origin;
        let inside = ack.blocks.get(1).map(place).filter(|(outer, _)| *outer >= ack.ack).is_some_and(|b| within(&b));
        let again = below || (inside && end <= ack.max);
        if !again {
            return (None, 0);
        }
        counters.dsacks_in += 1;
        (Some((start, end)), 1)
    }

    /// RFC 6675 §4, Update(), and RFC 8985 §6.2 steps 1 to 3.
    fn deliver(&mut self, now: u64, ack: &Ack<'_>, first: usize, counters: &mut Counters) -> (Option<u64>, u32) {
        let stale = |at: u64| ack.echo.is_some_and(|echo| is_before(echo, at));
        let (board, rack) = (&mut self.board, &mut self.rack);
        let (highest, mut rtt) = (rack.highest(), None);
        let mut delivered = board.acknowledge(ack.ack, |sent| {
            // RFC 6298 §3 (Karn), and the first of several: what it waited for its acknowledgment counts.
            if !sent.again {
                rtt.get_or_insert(now.saturating_sub(sent.at));
            }
            rack.on_delivered(now, sent, stale(sent.at), highest);
        });
        for block in ack.blocks.iter().skip(first) {
            let (start, end) = (ack.max.nearest(block.start), ack.max.nearest(block.end));
            // Blocks that are partly or wholly acknowledged by now are merely old; these are impossible.
            if start >= end || end > ack.max || start < self.origin {
                counters.bad_sack_blocks += 1;
                continue;
            }
            delivered += board.sack(start, end, |sent| rack.on_delivered(now, sent, stale(sent.at), highest));
        }
        (rtt, delivered)
    }

    /// True if the last reduction was for nothing.
    fn was_spurious(&mut self, ack: &Ack<'_>, dsack: Option<(Position, Position)>) -> bool {
        let Some(again) = &mut self.sent_again else { return false };
        // RFC 3522 §3.2: what is acknowledged was on its way when it was sent again.
        if let Some((at, _)) = again.first.filter(|(_, end)| ack.ack >= *end) {
            again.first = None;
            if ack.echo.is_some_and(|echo| is_before(echo, at)) {
                return true;
            }
        }
        // RFC 3708 §3: all that was sent again arrived twice.
        let Some((start, end)) = dsack else { return false };
        if !again.range.is_some_and(|(from, to)| from <= start && end <= to) {
            return false;
        }
        match again.bytes.checked_sub(end.since(start)) {
            Some(left) => again.bytes = left,
            // More duplicates than were sent: the network makes some, and nothing follows from them.
            None => self.sent_again = None,
        }
        self.sent_again.is_some_and(|again| again.bytes == 0) && self.board.lost() == 0
    }

    /// RFC 6675 §5 (4). `pipe` was in flight before what began it: the reduction is spread over the arrival of these, not of
    /// what the peer had reported before (RFC 9937 §6.1).
    fn enter_fast(&mut self, congestion: &mut Congestion, counters: &mut Counters, una: Position, pipe: u32) {
        counters.fast_retransmits += 1;
        let nxt = self.board.end();
        let flight = nxt.window_since(una);
        // What limited transmit sent while the first duplicates came in does not count (RFC 3042 §2).
        congestion.reduce(flight.min(congestion.window()));
        self.phase = Phase::Fast(Prr::new(pipe));
        (self.recover, self.rescued, self.sent_again) = (nxt, None, Some(SentAgain::default()));
    }

    /// RFC 8985 §6.2: the reordering timer. Returns when it expires next.
    pub(in crate::tcp) fn on_reordering_timer(
        &mut self,
        congestion: &mut Congestion,
        counters: &mut Counters,
        now: Duration,
        una: Position,
    ) -> Option<Duration> {
        self.settled = false;
        let pipe = self.board.pipe();
        let (lost, loss_at) = self.rack.detect(&mut self.board, nanos(now));
        counters.lost_segments += u64::from(lost);
        if lost > 0 && self.phase == Phase::Open {
            self.enter_fast(congestion, counters, una, pipe);
        }
        if let Phase::Fast(prr) = &mut self.phase {
            // Nothing arrived, and without something that is sent nothing may ever.
            prr.on_ack(0, self.board.pipe(), congestion.threshold(), congestion.mss(), true);
        }
        loss_at.map(Duration::from_nanos)
    }

    /// The retransmission timer (RFC 6298 §5, RFC 8985 §6.3, RFC 6675 §5.1). `again`: it had expired for the same data.
    pub(in crate::tcp) fn on_timeout(
        &mut self,
        congestion: &mut Congestion,
        counters: &mut Counters,
        now: Duration,
        una: Position,
        again: bool,
    ) {
        self.settled = false;
        if self.board.head_is_sacked() {
            // RFC 2018 §8: the peer may throw away what it did not acknowledge cumulatively, and seems to have.
            counters.sack_reneges += 1;
            self.board.forget_sacks();
        }
        counters.lost_segments += u64::from(self.rack.on_timeout(&mut self.board, nanos(now)));
        let nxt = self.board.end();
        congestion.on_timeout(nxt.window_since(una), again);
        self.tlp.on_timeout();
        if !again {
            self.sent_again = Some(SentAgain::default());
        }
        (self.phase, self.recover, self.rescued) = (Phase::Timeout, nxt, None);
    }
}

/// True if a timestamp echo, in milliseconds modulo 2^32, is from before `at`, in nanoseconds.
fn is_before(echo: u32, at: u64) -> bool {
    (echo.wrapping_sub((at / 1_000_000) as u32) as i32) < 0
}
