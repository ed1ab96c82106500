//! Recovery without SACK: fast retransmit and fast recovery by counting duplicates (RFC 5681 §3.2, RFC 6582 NewReno),
//! with limited transmit (RFC 3042). For peers that do not offer SACK.
//!
//! It learns of one hole per round trip, at the first unacknowledged position, so that is the only thing it asks to be sent
//! again; after a timeout everything is, from there on.

use std::time::Duration;

use super::super::congestion::Congestion;
use super::super::seq::Position;

/// What an acknowledgment asks the sender to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) enum Action {
    /// Nothing special.
    None,
    /// Send the first unacknowledged segment again.
    Retransmit,
}

/// NewReno.
#[derive(Clone, Debug)]
pub(in crate::tcp) struct NewReno {
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
    pub(in crate::tcp) fn new(iss: Position) -> NewReno {
        NewReno { duplicates: 0, flight: 0, recover: iss, recovering: false, partial: false }
    }

    /// Bytes that may be in flight, duplicates included.
    pub(in crate::tcp) fn window(&self, congestion: &Congestion) -> u32 {
        if self.recovering {
            return congestion.window();
        }
        // RFC 3042 (limited transmit): each of the first two duplicates lets one new segment out, cwnd unchanged.
        congestion.window().saturating_add(self.duplicates.min(2) * congestion.mss())
    }

    /// New data was acknowledged up to `ack`: `acked` bytes, of which `flight` more were sent and are not acknowledged.
    /// `limited` as in [`Congestion::on_ack`].
    ///
    /// The flag says whether the retransmission timer restarts.
    pub(in crate::tcp) fn on_ack(
        &mut self,
        congestion: &mut Congestion,
        (now, rtt): (Duration, Duration),
        ack: Position,
        (acked, flight): (u32, u32),
        limited: bool,
    ) -> (Action, bool) {
        self.duplicates = 0;
        if !self.recovering {
            congestion.on_ack(now, acked, rtt, limited);
            return (Action::None, true);
        }
        let mss = congestion.mss();
        if ack >= self.recover {
            // RFC 6582 §3.2 step 3, full acknowledgment, option 1: do not burst.
            congestion.set_window(congestion.threshold().min(flight.max(mss).saturating_add(mss)));
            self.recovering = false;
            return (Action::None, true);
        }
        // RFC 6582 §3.2 step 3, partial acknowledgment: the next hole is lost too. Deflate by what was acknowledged, add
        // back one segment if a whole one was.
        let deflated = congestion.window().saturating_sub(acked).max(mss);
        congestion.set_window(if acked >= mss { deflated.saturating_add(mss) } else { deflated });
        // RFC 6582 §4 ("impatient"): only the first partial acknowledgment restarts the timer.
        let first = !self.partial;
        self.partial = true;
        (Action::Retransmit, first)
    }

    /// A duplicate acknowledgment of `una` came while `flight` bytes were outstanding, up to `max`.
    pub(in crate::tcp) fn on_duplicate(
        &mut self,
        congestion: &mut Congestion,
        una: Position,
        max: Position,
        flight: u32,
    ) -> Action {
        if self.recovering {
            // RFC 5681 §3.2 step 4: a segment has left the network.
            congestion.set_window(congestion.window().saturating_add(congestion.mss()));
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
        // RFC 5681 (4), §3.2 steps 2 and 3: reduce, and account for the three segments that left the network. What limited
        // transmit sent does not count.
        congestion.reduce(self.flight);
        congestion.set_window(congestion.threshold() + 3 * congestion.mss());
        (self.recover, self.recovering, self.partial) = (max, true, false);
        Action::Retransmit
    }

    /// The retransmission timer expired with everything up to `max` sent (RFC 6582 §3.2 step 4).
    pub(in crate::tcp) fn on_timeout(&mut self, max: Position) {
        (self.recover, self.recovering, self.duplicates) = (max, false, 0);
    }

    /// Nothing was sent for longer than the timeout.
    pub(in crate::tcp) fn on_idle(&mut self) {
        self.duplicates = 0;
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the third duplicate retransmits, halves and inflates; full acknowledgment deflates (RFC 6582) | `three_duplicates_then_a_full_ack` |
    //! | a partial acknowledgment retransmits the next hole and stays in recovery | `a_partial_ack_retransmits_the_next_hole` |
    //! | duplicates of data from before a timeout do not retransmit | `duplicates_after_a_timeout_mean_nothing` |
    //! | two duplicates let out two segments, not more (RFC 3042) | `limited_transmit` |
    use super::super::super::congestion::CongestionControl;
    use super::*;

    const MSS: u32 = 1000;

    /// A sender under test, with the congestion control that goes with it.
    struct Sender(NewReno, Congestion);

    impl Sender {
        fn on_ack(&mut self, ack: Position, acked: u32, flight: u32) -> (Action, bool) {
            self.0.on_ack(&mut self.1, (Duration::ZERO, Duration::ZERO), ack, (acked, flight), true)
        }
        fn on_duplicate(&mut self, una: Position, max: Position, flight: u32) -> Action {
            self.0.on_duplicate(&mut self.1, una, max, flight)
        }
        fn on_timeout(&mut self, max: Position, flight: u32) {
            self.0.on_timeout(max);
            self.1.on_timeout(flight, false);
        }
        fn window(&self) -> u32 {
            self.0.window(&self.1)
        }
    }

    fn established() -> (Sender, Position) {
        let iss = Position::initial(0);
        let mut congestion = Congestion::new(CongestionControl::NewReno);
        congestion.established(MSS, false);
        (Sender(NewReno::new(iss), congestion), iss + 1)
    }

    #[test]
    fn three_duplicates_then_a_full_ack() {
        let (mut sender, at) = established();
        let max = at + 10 * MSS;
        let flight = 10 * MSS;
        assert_eq!(sender.on_duplicate(at, max, flight), Action::None);
        assert_eq!(sender.on_duplicate(at, max, flight), Action::None);
        assert_eq!(sender.on_duplicate(at, max + 2 * MSS, flight + 2 * MSS), Action::Retransmit);
        assert_eq!((sender.1.threshold(), sender.window(), sender.0.recovering), (5 * MSS, 8 * MSS, true));
        assert_eq!(sender.on_duplicate(at, max, flight), Action::None);
        assert_eq!(sender.window(), 9 * MSS);
        assert_eq!(sender.on_ack(max + 2 * MSS, 12 * MSS, 0), (Action::None, true));
        assert_eq!((sender.window(), sender.0.recovering), (2 * MSS, false));
    }

    #[test]
    fn a_partial_ack_retransmits_the_next_hole() {
        let (mut sender, at) = established();
        let max = at + 10 * MSS;
        (0..3).for_each(|_| {
            sender.on_duplicate(at, max, 10 * MSS);
        });
        let before = sender.window();
        assert_eq!(sender.on_ack(at + 2 * MSS, 2 * MSS, 8 * MSS), (Action::Retransmit, true));
        assert_eq!(sender.window(), before - MSS);
        assert_eq!(sender.on_ack(at + 4 * MSS, 2 * MSS, 6 * MSS), (Action::Retransmit, false));
        assert!(sender.0.recovering);
    }

    #[test]
    fn duplicates_after_a_timeout_mean_nothing() {
        let (mut sender, at) = established();
        let max = at + 10 * MSS;
        sender.on_timeout(max, 10 * MSS);
        assert_eq!((sender.window(), sender.1.threshold()), (MSS, 5 * MSS));
        for una in [at, at + 3 * MSS, max] {
            for _ in 0..5 {
                assert_eq!(sender.on_duplicate(una, max, 9 * MSS), Action::None);
            }
            sender.on_ack(una, MSS, 9 * MSS);
        }
        (0..2).for_each(|_| assert_eq!(sender.on_duplicate(max + 1, max + 5 * MSS, 5 * MSS), Action::None));
        assert_eq!(sender.on_duplicate(max + 1, max + 5 * MSS, 5 * MSS), Action::Retransmit);
    }

    #[test]
    fn limited_transmit() {
        let (mut sender, at) = established();
        sender.on_timeout(at + MSS, MSS);
        let seen: Vec<_> = (0..5)
            .map(|_| {
                sender.on_duplicate(at, at + MSS, MSS);
                sender.window()
            })
            .collect();
        assert_eq!(seen, [2 * MSS, 3 * MSS, 3 * MSS, 3 * MSS, 3 * MSS]);
    }
}
