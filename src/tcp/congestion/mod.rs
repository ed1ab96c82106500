//! Congestion control: how many bytes may be in flight.
//!
//! ```text
//!   window │      ╱│ loss: reduce            slow start   below the threshold: +1 segment per acknowledgment
//!          │     ╱ └────╮╭────── avoidance   avoidance    NewReno: +1 segment per round trip (RFC 5681 §3.1)
//!          │    ╱       ╰╯                                CUBIC: a cubic function of time since the loss (RFC 9438)
//!          │  ╱  slow start                  reduction    NewReno: half of what is in flight; CUBIC: 0.7 of it
//!          └──────────────────────► time
//! ```
//!
//! This module knows nothing of segments, losses and timers: [`recovery`](super::recovery) decides that something was lost
//! and says so here once per window. Everything is in bytes.

mod cubic;

use std::time::Duration;

use cubic::Cubic;

/// Which algorithm grows and reduces the congestion window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CongestionControl {
    /// RFC 5681: one segment more per round trip, half after a loss.
    NewReno,
    /// RFC 9438: what today's servers use. Never slower than NewReno, and on paths with a large product of bandwidth and
    /// delay independent of the round-trip time.
    #[default]
    Cubic,
    /// None: always this many segments in flight, whatever is lost. For a path whose capacity is reserved, and for
    /// measurements of something else than congestion control; on a shared path it drives everybody else out.
    Fixed {
        /// Segments.
        segments: u32,
    },
}

/// The largest window that the protocol can name (RFC 7323 §2.3): a congestion window beyond it means nothing.
const MAX_WINDOW: u32 = 1 << 30;

/// The congestion window and the slow start threshold of a connection.
#[derive(Clone, Debug)]
pub(super) struct Congestion {
    mss: u32,
    window: u32,
    threshold: u32,
    /// NewReno: bytes acknowledged in congestion avoidance towards the next increase.
    acked: u32,
    cubic: Option<Cubic>,
    /// Segments of a window that neither grows nor shrinks.
    fixed: Option<u32>,
    /// As it was before the last reduction, should that turn out to have been for nothing.
    saved: Option<Saved>,
}

#[derive(Clone, Debug)]
struct Saved {
    window: u32,
    threshold: u32,
    cubic: Option<Cubic>,
}

impl Congestion {
    pub(super) fn new(algorithm: CongestionControl) -> Congestion {
        let (cubic, fixed) = match algorithm {
            CongestionControl::NewReno => (None, None),
            CongestionControl::Cubic => (Some(Cubic::default()), None),
            CongestionControl::Fixed { segments } => (None, Some(segments)),
        };
        Congestion { mss: 536, window: 536, threshold: u32::MAX, acked: 0, cubic, fixed, saved: None }
    }

    /// Sets the segment size, once it is known, and with it the initial window.
    pub(super) fn established(&mut self, mss: u32, syn_lost: bool) {
        self.mss = mss;
        // RFC 5681 §3.1: after a lost SYN the initial window is one segment.
        self.window = match self.fixed {
            Some(segments) => segments.saturating_mul(mss).clamp(mss, MAX_WINDOW),
            None if syn_lost => mss,
            None => self.initial_window(),
        };
    }

    /// True if the window neither grows nor shrinks.
    pub(super) fn is_fixed(&self) -> bool {
        self.fixed.is_some()
    }

    /// RFC 6928 §2.
    fn initial_window(&self) -> u32 {
        (10 * self.mss).min((2 * self.mss).max(14600))
    }

    /// Segment size in bytes.
    pub(super) fn mss(&self) -> u32 {
        self.mss
    }

    /// Bytes that may be in flight.
    pub(super) fn window(&self) -> u32 {
        self.window
    }

    /// Slow start threshold: what the window is after a reduction.
    pub(super) fn threshold(&self) -> u32 {
        self.threshold
    }

    /// Sets the window, as recovery without SACK does to account for duplicates (RFC 5681 §3.2, RFC 6582 §3.2).
    pub(super) fn set_window(&mut self, window: u32) {
        if self.is_fixed() {
            return;
        }
        self.window = window.clamp(self.mss, MAX_WINDOW);
    }

    /// `acked` new bytes were acknowledged, outside of recovery. `limited`: this window is what kept data from being sent.
    /// Otherwise it does not grow (RFC 9438 §5.8): nothing shows that the path can carry more.
    pub(super) fn on_ack(&mut self, now: Duration, acked: u32, rtt: Duration, limited: bool) {
        if self.is_fixed() {
            return;
        }
        if !limited {
            if let Some(cubic) = &mut self.cubic {
                cubic.pause(now);
            }
            return;
        }
        if self.window < self.threshold {
            // RFC 5681 (2): slow start.
            self.window += acked.min(self.mss);
        } else if let Some(cubic) = &mut self.cubic {
            self.window = cubic.grow(now, rtt, self.window, self.mss, acked);
        } else {
            // RFC 5681 §3.1: congestion avoidance by counting bytes, one segment per window acknowledged.
            self.acked = self.acked.saturating_add(acked);
            if self.acked >= self.window {
                self.acked -= self.window;
                self.window += self.mss;
            }
        }
        self.window = self.window.min(MAX_WINDOW);
    }

    /// Something was lost with `flight` bytes in flight: threshold and window go down, once per window of data.
    pub(super) fn reduce(&mut self, flight: u32) {
        if self.is_fixed() {
            self.threshold = self.window;
            return;
        }
        self.saved = Some(Saved { window: self.window, threshold: self.threshold, cubic: self.cubic.clone() });
        self.threshold = self.reduced(flight);
        if let Some(cubic) = &mut self.cubic {
            cubic.on_congestion(self.window);
        }
        self.window = self.threshold;
        self.acked = 0;
    }

    /// RFC 5681 (4); RFC 9438 §4.6.
    fn reduced(&self, flight: u32) -> u32 {
        let flight = flight.min(MAX_WINDOW);
        let reduced = match self.cubic {
            Some(_) => (u64::from(flight) * 7 / 10) as u32,
            None => flight / 2,
        };
        reduced.max(2 * self.mss)
    }

    /// The retransmission timer expired with `flight` bytes in flight. `again`: it already had for the same data.
    pub(super) fn on_timeout(&mut self, flight: u32, again: bool) {
        if self.is_fixed() {
            return self.reduce(flight);
        }
        // RFC 5681 §3.1: ssthresh stays if the segment was sent again by the timer before.
        if !again {
            self.reduce(flight);
        }
        if let Some(cubic) = &mut self.cubic {
            cubic.on_timeout();
        }
        // RFC 5681 §3.1: the loss window is one segment.
        self.window = self.mss;
        self.acked = 0;
    }

    /// The last reduction was for nothing: everything is as before it, or better (RFC 9438 §4.9, RFC 4015 §3.2).
    pub(super) fn undo(&mut self) {
        if let Some(saved) = self.saved.take() {
            self.window = self.window.max(saved.window);
            self.threshold = saved.threshold;
            self.cubic = saved.cubic;
        }
    }

    /// RFC 5681 §4.1: nothing was sent for longer than the timeout. `since`: when something was.
    pub(super) fn on_idle(&mut self, since: Duration) {
        if self.is_fixed() {
            return;
        }
        self.window = self.window.min(self.initial_window());
        if let Some(cubic) = &mut self.cubic {
            cubic.pause(since);
        }
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the initial window is ten segments, or one after a lost SYN (RFC 6928, RFC 5681 3.1) | `the_initial_window` |
    //! | slow start doubles per round trip, avoidance adds one segment (RFC 5681 3.1) | `slow_start_then_avoidance` |
    //! | one acknowledgment of many segments opens the window by one (RFC 5681 (2)) | `a_stretch_ack_opens_by_one_segment` |
    //! | NewReno halves, CUBIC keeps 0.7, both at least two segments (RFC 5681 (4), RFC 9438 4.6) | `a_loss_reduces_by_the_factor` |
    //! | repeated timeouts reduce once and leave one segment | `repeated_timeouts_reduce_once` |
    //! | a window that is not used does not grow (RFC 9438 5.8) | `an_unused_window_does_not_grow` |
    //! | a fixed window stays, whatever is acknowledged, lost or late | `a_fixed_window_stays` |
    //! | undoing restores window, threshold and curve (RFC 9438 4.9) | `undo_restores_everything` |
    use super::*;

    const MSS: u32 = 1000;
    const RTT: Duration = Duration::from_millis(10);

    pub(super) fn established(algorithm: CongestionControl) -> Congestion {
        let mut congestion = Congestion::new(algorithm);
        congestion.established(MSS, false);
        congestion
    }

    fn ack(congestion: &mut Congestion, acked: u32) {
        congestion.on_ack(Duration::ZERO, acked, RTT, true);
    }

    #[test]
    fn the_initial_window() {
        let mut congestion = established(CongestionControl::NewReno);
        assert_eq!(congestion.window(), 10 * MSS);
        congestion.established(1460, false);
        assert_eq!(congestion.window(), 14600);
        congestion.established(8960, false);
        assert_eq!(congestion.window(), 2 * 8960);
        congestion.established(MSS, true);
        assert_eq!(congestion.window(), MSS);
    }

    #[test]
    fn slow_start_then_avoidance() {
        let mut congestion = established(CongestionControl::NewReno);
        congestion.threshold = 20 * MSS;
        (0..10).for_each(|_| ack(&mut congestion, MSS));
        assert_eq!(congestion.window(), 20 * MSS);
        for _ in 0..20 {
            assert_eq!(congestion.window(), 20 * MSS);
            ack(&mut congestion, MSS);
        }
        assert_eq!(congestion.window(), 21 * MSS);
    }

    #[test]
    fn a_stretch_ack_opens_by_one_segment() {
        let mut congestion = established(CongestionControl::Cubic);
        ack(&mut congestion, 8 * MSS);
        assert_eq!(congestion.window(), 11 * MSS);
    }

    #[test]
    fn a_loss_reduces_by_the_factor() {
        for (algorithm, flight, expected) in [
            (CongestionControl::NewReno, 10 * MSS, 5 * MSS),
            (CongestionControl::Cubic, 10 * MSS, 7 * MSS),
            (CongestionControl::NewReno, MSS, 2 * MSS),
            (CongestionControl::Cubic, MSS, 2 * MSS),
        ] {
            let mut congestion = established(algorithm);
            congestion.reduce(flight);
            assert_eq!((congestion.window(), congestion.threshold()), (expected, expected));
        }
    }

    #[test]
    fn repeated_timeouts_reduce_once() {
        let mut congestion = established(CongestionControl::NewReno);
        congestion.on_timeout(10 * MSS, false);
        congestion.on_timeout(MSS, true);
        assert_eq!((congestion.window(), congestion.threshold()), (MSS, 5 * MSS));
        congestion.window = 50 * MSS;
        congestion.on_idle(Duration::ZERO);
        assert_eq!(congestion.window(), 10 * MSS);
    }

    #[test]
    fn an_unused_window_does_not_grow() {
        for algorithm in [CongestionControl::NewReno, CongestionControl::Cubic] {
            let mut congestion = established(algorithm);
            for threshold in [u32::MAX, 5 * MSS] {
                congestion.threshold = threshold;
                for i in 0..1000 {
                    congestion.on_ack(RTT * i, 10 * MSS, RTT, false);
                }
                assert_eq!(congestion.window(), 10 * MSS);
            }
        }
    }

    #[test]
    fn undo_restores_everything() {
        let mut congestion = established(CongestionControl::Cubic);
        congestion.reduce(10 * MSS);
        (0..100).for_each(|i| congestion.on_ack(RTT * i, 2 * MSS, RTT, true));
        let before = format!("{:?}{:?}{:?}", congestion.window, congestion.threshold, congestion.cubic);
        congestion.on_timeout(8 * MSS, false);
        congestion.on_timeout(8 * MSS, true);
        assert_eq!(congestion.window(), MSS);
        congestion.undo();
        assert_eq!(format!("{:?}{:?}{:?}", congestion.window, congestion.threshold, congestion.cubic), before);
        congestion.reduce(8 * MSS);
        congestion.undo();
        let window = congestion.window();
        congestion.set_window(window / 2);
        congestion.undo();
        assert_eq!(congestion.window(), window / 2, "once");
    }

    #[test]
    fn a_fixed_window_stays() {
        let mut congestion = established(CongestionControl::Fixed { segments: 64 });
        let window = 64 * MSS;
        assert_eq!(congestion.window(), window);
        ack(&mut congestion, 10 * MSS);
        congestion.reduce(window);
        assert_eq!((congestion.window(), congestion.threshold()), (window, window));
        congestion.on_timeout(window, false);
        congestion.undo();
        congestion.on_idle(Duration::ZERO);
        congestion.set_window(MSS);
        assert_eq!((congestion.window(), congestion.threshold()), (window, window));
    }
}
