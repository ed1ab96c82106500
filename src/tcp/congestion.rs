//! Congestion control: slow start, congestion avoidance, fast retransmit and fast recovery (RFC 5681, RFC 6582 NewReno).
//!
//! Everything is in bytes. This module decides how much may be in flight and when the oldest segment is sent again; the
//! connection does it.

use super::seq::Position;

/// What an acknowledgment asks the sender to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing special.
    None,
    /// Send the first unacknowledged segment again.
    Retransmit,
}

/// NewReno.
#[derive(Clone, Debug)]
pub(super) struct NewReno {
    mss: u32,
    window: u32,
    threshold: u32,
    /// Bytes acknowledged in congestion avoidance towards the next increase.
    acked: u32,
    duplicates: u32,
    /// What was in flight when the first duplicate came.
    flight: u32,
    /// RFC 6582 §3.2: the end of what was sent when the last recovery or timeout began.
    recover: Position,
    /// In fast recovery.
    recovering: bool,
    /// A partial acknowledgment came in this recovery.
    partial: bool,
}

impl NewReno {
    pub(super) fn new(iss: Position) -> NewReno {
        NewReno {
            mss: 536,
            window: 536,
            threshold: u32::MAX,
            acked: 0,
            duplicates: 0,
            flight: 0,
            recover: iss,
            recovering: false,
            partial: false,
        }
    }

    /// Sets the segment size, once it is known, and with it the initial window.
    pub(super) fn established(&mut self, mss: u32, syn_lost: bool) {
        self.mss = mss;
        // RFC 5681 §3.1: after a lost SYN the initial window is one segment.
        self.window = if syn_lost { mss } else { self.initial_window() };
    }

    /// RFC 6928 §2.
    fn initial_window(&self) -> u32 {
        (10 * self.mss).min((2 * self.mss).max(14600))
    }

    /// Bytes that may be in flight, duplicates included.
    pub(super) fn window(&self) -> u32 {
        if self.recovering {
            return self.window;
        }
        // RFC 3042 (limited transmit): each of the first two duplicates lets one new segment out, cwnd unchanged.
        self.window.saturating_add(self.duplicates.min(2) * self.mss)
    }

    /// New data was acknowledged up to `ack`: `acked` bytes, of which `flight` more were sent and are not acknowledged.
    ///
    /// The flag says whether the retransmission timer restarts.
    pub(super) fn on_ack(&mut self, ack: Position, acked: u32, flight: u32) -> (Action, bool) {
        self.duplicates = 0;
        if !self.recovering {
            self.grow(acked);
            return (Action::None, true);
        }
        if ack >= self.recover {
            // RFC 6582 §3.2 step 3, full acknowledgment, option 1: do not burst.
            self.window = self.threshold.min(flight.max(self.mss).saturating_add(self.mss));
            self.recovering = false;
            return (Action::None, true);
        }
        // RFC 6582 §3.2 step 3, partial acknowledgment: the next hole is lost too. Deflate by what was acknowledged, add
        // back one segment if a whole one was.
        self.window = self.window.saturating_sub(acked).max(self.mss);
        if acked >= self.mss {
            self.window = self.window.saturating_add(self.mss);
        }
        // RFC 6582 §4 ("impatient"): only the first partial acknowledgment restarts the timer.
        let first = !self.partial;
        self.partial = true;
        (Action::Retransmit, first)
    }

    fn grow(&mut self, acked: u32) {
        let increase = if self.window < self.threshold {
            // RFC 5681 (2): slow start.
            acked.min(self.mss)
        } else {
            // RFC 5681 §3.1: congestion avoidance by counting bytes, one segment per window acknowledged.
            self.acked = self.acked.saturating_add(acked);
            if self.acked < self.window {
                return;
            }
            self.acked -= self.window;
            self.mss
        };
        // The sum of two windows of the protocol's largest size always fits.
        self.window = self.window.saturating_add(increase).min(1 << 30);
    }

    /// A duplicate acknowledgment of `una` came while `flight` bytes were outstanding, up to `max`.
    pub(super) fn on_duplicate(&mut self, una: Position, max: Position, flight: u32) -> Action {
        if self.recovering {
            // RFC 5681 §3.2 step 4: a segment has left the network.
            self.window = self.window.saturating_add(self.mss).min(1 << 30);
            return Action::None;
        }
        self.duplicates = self.duplicates.saturating_add(1);
        if self.duplicates == 1 {
            self.flight = flight;
        }
        // RFC 6582 §3.2 step 2: after a timeout, duplicates of what was sent before it mean nothing.
        if self.duplicates != 3 || una <= self.recover {
            return Action::None;
        }
        // RFC 5681 (4), §3.2 steps 2 and 3: halve, and account for the three segments that left the network. What limited
        // transmit sent does not count.
        self.threshold = (self.flight / 2).max(2 * self.mss);
        self.window = self.threshold + 3 * self.mss;
        (self.recover, self.recovering, self.partial, self.acked) = (max, true, false, 0);
        Action::Retransmit
    }

    /// The retransmission timer expired. `again`: it already had for the same data.
    pub(super) fn on_timeout(&mut self, max: Position, flight: u32, again: bool) {
        // RFC 5681 §3.1: ssthresh stays if the segment was sent again by the timer before.
        if !again {
            self.threshold = (flight / 2).max(2 * self.mss);
        }
        // RFC 5681 §3.1: the loss window is one segment. RFC 6582 §3.2 step 4.
        self.window = self.mss;
        (self.recover, self.recovering, self.duplicates, self.acked) = (max, false, 0, 0);
    }

    /// RFC 5681 §4.1: nothing was sent for longer than the timeout.
    pub(super) fn on_idle(&mut self) {
        self.window = self.window.min(self.initial_window());
        self.duplicates = 0;
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the initial window is ten segments, or one after a lost SYN (RFC 6928, RFC 5681 3.1) | `the_initial_window` |
    //! | slow start doubles per round trip, avoidance adds one segment (RFC 5681 3.1) | `slow_start_then_avoidance` |
    //! | one acknowledgment of many segments opens the window by one (RFC 5681 (2)) | `a_stretch_ack_opens_by_one_segment` |
    //! | the third duplicate retransmits, halves and inflates; full acknowledgment deflates (RFC 6582) | `three_duplicates_then_a_full_ack` |
    //! | a partial acknowledgment retransmits the next hole and stays in recovery | `a_partial_ack_retransmits_the_next_hole` |
    //! | duplicates of data from before a timeout do not retransmit | `duplicates_after_a_timeout_mean_nothing` |
    //! | two duplicates let out two segments, not more (RFC 3042) | `limited_transmit` |
    //! | repeated timeouts halve once | `repeated_timeouts_halve_once` |
    use super::*;

    const MSS: u32 = 1000;

    fn established() -> (NewReno, Position) {
        let iss = Position::initial(0);
        let mut reno = NewReno::new(iss);
        reno.established(MSS, false);
        (reno, iss + 1)
    }

    #[test]
    fn the_initial_window() {
        let (mut reno, _) = established();
        assert_eq!(reno.window(), 10 * MSS);
        reno.established(1460, false);
        assert_eq!(reno.window(), 14600);
        reno.established(8960, false);
        assert_eq!(reno.window(), 2 * 8960);
        reno.established(MSS, true);
        assert_eq!(reno.window(), MSS);
    }

    #[test]
    fn slow_start_then_avoidance() {
        let (mut reno, at) = established();
        reno.threshold = 20 * MSS;
        for i in 1..=10 {
            assert_eq!(reno.on_ack(at + i * MSS, MSS, 5 * MSS), (Action::None, true));
        }
        assert_eq!(reno.window(), 20 * MSS);
        for i in 11..=30 {
            assert_eq!(reno.window(), 20 * MSS);
            reno.on_ack(at + i * MSS, MSS, 5 * MSS);
        }
        assert_eq!(reno.window(), 21 * MSS);
    }

    #[test]
    fn a_stretch_ack_opens_by_one_segment() {
        let (mut reno, at) = established();
        reno.on_ack(at + 8 * MSS, 8 * MSS, 0);
        assert_eq!(reno.window(), 11 * MSS);
    }

    #[test]
    fn three_duplicates_then_a_full_ack() {
        let (mut reno, at) = established();
        let max = at + 10 * MSS;
        let flight = 10 * MSS;
        assert_eq!(reno.on_duplicate(at, max, flight), Action::None);
        assert_eq!(reno.on_duplicate(at, max, flight), Action::None);
        assert_eq!(reno.on_duplicate(at, max + 2 * MSS, flight + 2 * MSS), Action::Retransmit);
        assert_eq!((reno.threshold, reno.window(), reno.recovering), (5 * MSS, 8 * MSS, true));
        assert_eq!(reno.on_duplicate(at, max, flight), Action::None);
        assert_eq!(reno.window(), 9 * MSS);
        assert_eq!(reno.on_ack(max + 2 * MSS, 12 * MSS, 0), (Action::None, true));
        assert_eq!((reno.window(), reno.recovering), (2 * MSS, false));
    }

    #[test]
    fn a_partial_ack_retransmits_the_next_hole() {
        let (mut reno, at) = established();
        let max = at + 10 * MSS;
        (0..3).for_each(|_| {
            reno.on_duplicate(at, max, 10 * MSS);
        });
        let before = reno.window();
        assert_eq!(reno.on_ack(at + 2 * MSS, 2 * MSS, 8 * MSS), (Action::Retransmit, true));
        assert_eq!(reno.window(), before - MSS);
        assert_eq!(reno.on_ack(at + 4 * MSS, 2 * MSS, 6 * MSS), (Action::Retransmit, false));
        assert!(reno.recovering);
    }

    #[test]
    fn duplicates_after_a_timeout_mean_nothing() {
        let (mut reno, at) = established();
        let max = at + 10 * MSS;
        reno.on_timeout(max, 10 * MSS, false);
        assert_eq!((reno.window(), reno.threshold), (MSS, 5 * MSS));
        for una in [at, at + 3 * MSS, max] {
            for _ in 0..5 {
                assert_eq!(reno.on_duplicate(una, max, 9 * MSS), Action::None);
            }
            reno.on_ack(una, MSS, 9 * MSS);
        }
        (0..2).for_each(|_| assert_eq!(reno.on_duplicate(max + 1, max + 5 * MSS, 5 * MSS), Action::None));
        assert_eq!(reno.on_duplicate(max + 1, max + 5 * MSS, 5 * MSS), Action::Retransmit);
    }

    #[test]
    fn limited_transmit() {
        let (mut reno, at) = established();
        reno.on_timeout(at + MSS, MSS, false);
        let seen: Vec<_> = (0..5)
            .map(|_| {
                reno.on_duplicate(at, at + MSS, MSS);
                reno.window()
            })
            .collect();
        assert_eq!(seen, [2 * MSS, 3 * MSS, 3 * MSS, 3 * MSS, 3 * MSS]);
    }

    #[test]
    fn repeated_timeouts_halve_once() {
        let (mut reno, at) = established();
        reno.on_timeout(at + 10 * MSS, 10 * MSS, false);
        reno.on_timeout(at + 10 * MSS, MSS, true);
        assert_eq!(reno.threshold, 5 * MSS);
        reno.window = 50 * MSS;
        reno.on_idle();
        assert_eq!(reno.window(), 10 * MSS);
    }
}
