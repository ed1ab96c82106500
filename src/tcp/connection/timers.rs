//! What time does: delayed acknowledgments, retransmission, probes of a closed window, keepalive, TIME-WAIT
//! (RFC 9293 §3.8, RFC 6298).

use std::time::Duration;

use super::super::Payload;
use super::{Connection, ConnectionError, State, Waited};

impl<P: Payload> Connection<P> {
    /// When the retransmission timer expires if it starts now; never later than the connection is given up.
    pub(super) fn retransmission_deadline(&self, now: Duration) -> Duration {
        (now + self.rtt.timeout()).min(self.stalled_since + self.patience().1)
    }

    /// What is waited for while something is outstanding, and how long.
    fn patience(&self) -> (Waited, Duration) {
        match self.state {
            State::SynSent | State::SynReceived => (Waited::Handshake, self.config.connect_timeout),
            _ => (Waited::Acknowledgment, self.config.user_timeout),
        }
    }

    /// When the next keepalive probe is due, or the verdict (RFC 9293 §3.8.4): only while nothing is outstanding.
    pub(super) fn keepalive_at(&self) -> Option<Duration> {
        let keepalive = self.config.keepalive?;
        let idle = matches!(self.state, State::Established | State::CloseWait)
            && self.retransmit_at.is_none()
            && self.persist_at.is_none();
        // From the last probe as it was sent: a caller that comes late must not send all probes at once.
        idle.then(|| match self.keepalive_sent {
            0 => self.last_heard + keepalive.idle,
            _ => self.last_keepalive + keepalive.interval,
        })
    }

    pub(super) fn run_timers(&mut self, now: Duration) {
        let due = |deadline: Option<Duration>| deadline.is_some_and(|at| at <= now);
        if due(self.linger_at) {
            self.linger_at = None;
            match self.state {
                State::TimeWait => {
                    self.state = State::Closed;
                    self.stop_timers();
                }
                State::FinWait2 => {
                    self.fail(ConnectionError::TimedOut { what: Waited::Fin, after: self.config.user_timeout });
                }
                _ => {}
            }
        }
        if due(self.ack_at) {
            (self.ack_at, self.ack_now) = (None, true);
        }
        if due(self.loss_at) {
            self.on_reordering_timer(now);
        }
        if due(self.probe_at) {
            self.on_probe_timer(now);
        }
        if due(self.retransmit_at) {
            self.on_retransmission_timeout(now);
        }
        if due(self.persist_at) {
            self.on_persist_timeout(now);
        }
        if due(self.keepalive_at())
            && let Some(keepalive) = self.config.keepalive
        {
            if self.keepalive_sent >= keepalive.probes {
                let after = now.saturating_sub(self.last_heard);
                self.fail(ConnectionError::TimedOut { what: Waited::Keepalive, after });
            } else {
                self.keepalive_sent += 1;
                self.last_keepalive = now;
                self.probe_keepalive = true;
            }
        }
    }

    /// RFC 6298 §5.
    fn on_retransmission_timeout(&mut self, now: Duration) {
        self.retransmit_at = None;
        let (what, patience) = self.patience();
        let after = now.saturating_sub(self.stalled_since);
        if after >= patience {
            self.fail(ConnectionError::TimedOut { what, after });
            return;
        }
        self.counters.timeouts += 1;
        self.rtt.back_off();
        self.send_again_after_timeout(now);
    }

    /// RFC 9293 §3.8.6.1: the window is closed, or too small to be worth a segment, and nothing is in flight that would
    /// bring news of it.
    pub(super) fn arm_persist(&mut self, now: Duration) {
        let sending = !matches!(self.state, State::Closed | State::SynSent | State::SynReceived | State::TimeWait);
        let stuck = sending && self.una < self.send_limit() && self.retransmit_at.is_none();
        if stuck && self.persist_at.is_none() {
            let wait = self.rtt.timeout().saturating_mul(1 << self.persist_backoff.min(6));
            self.persist_at = Some(now + wait.min(Duration::from_secs(60)));
        }
    }

    fn on_persist_timeout(&mut self, now: Duration) {
        self.persist_at = None;
        // RFC 9293 §3.8.6.1 (MUST-37): as long as the peer answers, its window may stay closed.
        let silent = now.saturating_sub(self.last_heard);
        if self.persist_backoff > 0 && silent >= self.config.user_timeout {
            self.fail(ConnectionError::TimedOut { what: Waited::WindowProbe, after: silent });
            return;
        }
        self.persist_backoff += 1;
        match self.window {
            0 => self.probe_window = true,
            _ => self.send_small = true,
        }
    }
}
