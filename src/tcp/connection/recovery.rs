//! What the peer acknowledged, what is sent again, and when a loss is looked for: the connection's side of
//! [`recovery`](super::super::recovery).

use std::time::Duration;

use super::super::recovery::Recovery;
use super::super::recovery::newreno::Action;
use super::super::recovery::sack::{Ack, Resend};
use super::super::segment::{Flags, Header, Timestamps};
use super::super::{Payload, Position};
use super::output::{Kind, Plan};
use super::{Connection, State};

/// Shorter a tail loss probe's timeout never is: a busy peer, or a busy poll loop of ours, is that late without a loss.
const LEAST_PROBE_TIMEOUT: Duration = Duration::from_millis(1);
/// RFC 8985 §7.2: the probe's timeout before the first measurement.
const INITIAL_PROBE_TIMEOUT: Duration = Duration::from_secs(1);

impl<P: Payload> Connection<P> {
    /// The peer acknowledged our SYN, or without SACK new data, up to `ack`.
    pub(super) fn acknowledge(&mut self, now: Duration, ack: Position, header: &Header) {
        let acked = ack.window_since(self.una);
        let flight = self.max.window_since(self.una);
        let limited = self.una <= self.limited_until;
        let of_syn = self.una == self.iss;
        self.measure(now, ack, header.options.timestamps, flight);
        self.advance(now, ack);
        let mut restart = true;
        if let (false, Recovery::NewReno(newreno)) = (of_syn, &mut self.recovery) {
            let rtt = self.rtt.smoothed().unwrap_or_default();
            let bytes = (acked, flight - acked);
            let (action, restarts) = newreno.on_ack(&mut self.congestion, (now, rtt), ack, bytes, limited);
            self.retransmit = action == Action::Retransmit;
            restart = restarts;
        }
        self.restart_retransmission_timer(now, restart);
    }

    /// Without SACK: a duplicate acknowledgment.
    pub(super) fn on_duplicate(&mut self) {
        let flight = self.max.window_since(self.una);
        if let Recovery::NewReno(newreno) = &mut self.recovery
            && newreno.on_duplicate(&mut self.congestion, self.una, self.max, flight) == Action::Retransmit
        {
            self.counters.fast_retransmits += 1;
            self.retransmit = true;
        }
    }

    /// With SACK: any acknowledgment of what was sent, old ones too. `bare`: it is a duplicate (RFC 5681 §2).
    pub(super) fn acknowledge_selectively(&mut self, now: Duration, ack: Position, header: &Header, bare: bool) {
        let news = ack > self.una;
        let flight = self.max.window_since(self.una);
        let Recovery::Sack(sack) = &mut self.recovery else { return };
        let echo = header.options.timestamps.filter(|timestamps| self.timestamps && timestamps.echo != 0);
        let outcome = sack.on_ack(
            &mut self.congestion,
            &mut self.counters,
            &Ack {
                now,
                ack,
                una: self.una,
                max: self.max,
                blocks: header.options.sack.as_slice(),
                echo: echo.map(|timestamps| timestamps.echo.wrapping_sub(self.config.timestamp_offset)),
                bare,
                limited: self.una <= self.limited_until,
                smoothed: self.rtt.smoothed(),
            },
        );
        self.loss_at = outcome.loss_at;
        if news {
            match outcome.rtt {
                // As exact as the caller's clock; the timestamps' ticks are longer than the round trip in a data centre.
                Some(rtt) => {
                    self.rtt.sample(rtt, flight.div_ceil(2 * self.mss));
                    self.counters.rtt_samples += 1;
                }
                None => self.measure(now, ack, echo, flight),
            }
            self.advance(now, ack);
            self.restart_retransmission_timer(now, true);
        }
        self.arm_probe(now, news || outcome.progress);
    }

    /// Takes a round-trip time from the acknowledgment of everything up to `ack` while `flight` bytes were outstanding.
    fn measure(&mut self, now: Duration, ack: Position, timestamps: Option<Timestamps>, flight: u32) {
        let timed = self.timing.filter(|(end, _)| ack >= *end);
        let of_syn = self.una == self.iss;
        match (self.timestamps, timestamps) {
            (true, Some(Timestamps { echo, .. })) if echo != 0 && !(of_syn && timed.is_some()) => {
                let ticks = self.timestamp(now).wrapping_sub(echo);
                // RFC 7323 §4.1: an echo tells the transmissions of a segment apart, so what was sent again can be measured
                // too. But only by its last transmission: if the acknowledgment of an earlier one was lost, the answer to
                // the last still echoes the earlier, and the measurement would contain the timeout itself. With one
                // segment in flight each such sample would lengthen the next timeout, which would lengthen the next sample.
                let last = self.sent_again.is_none_or(|(_, at)| echo.wrapping_sub(at) as i32 >= 0);
                if last && ticks <= i32::MAX as u32 {
                    let expected = flight.div_ceil(2 * self.mss);
                    self.rtt.sample(Duration::from_millis(u64::from(ticks)), expected);
                    self.counters.rtt_samples += 1;
                }
            }
            // RFC 6298 §3 (Karn): never measured over a segment that was sent again; `timing` is forgotten then.
            _ => {
                if let Some((_, sent_at)) = timed {
                    self.rtt.sample(now.saturating_sub(sent_at), 1);
                    self.counters.rtt_samples += 1;
                }
            }
        }
    }

    /// SND.UNA moves.
    fn advance(&mut self, now: Duration, ack: Position) {
        self.timing = self.timing.filter(|(end, _)| ack < *end);
        self.sent_again = self.sent_again.filter(|(end, _)| ack < *end);
        self.una = ack;
        self.nxt = self.nxt.max(ack);
        self.send.forget_before(ack);
        (self.timed_out_before, self.stalled_since) = (false, now);
        (self.persist_at, self.persist_backoff, self.retransmit) = (None, 0, false);
    }

    fn restart_retransmission_timer(&mut self, now: Duration, restart: bool) {
        if self.una == self.max {
            // RFC 6298 (5.2).
            self.stop_sending_timers();
        } else if restart && self.retransmit_at.is_some() {
            // RFC 6298 (5.3).
            self.retransmit_at = Some(self.retransmission_deadline(now));
        }
    }

    /// RFC 8985 §7.2: a probe is due two round trips after something was sent or has arrived, unless something else looks
    /// for losses already. `restart`: one of these has just happened; otherwise only the conditions are checked.
    fn arm_probe(&mut self, now: Duration, restart: bool) {
        let Recovery::Sack(sack) = &self.recovery else { return };
        if self.una >= self.nxt || !sack.may_probe(self.una) {
            (self.probe_at, self.probe_tail) = (None, false);
            return;
        }
        if restart {
            let timeout = self.rtt.smoothed().map_or(INITIAL_PROBE_TIMEOUT, |smoothed| 2 * smoothed);
            // What closes a gap is acknowledged at once (RFC 5681 §4.2).
            let alone = sack.segments() == 1 && !sack.is_fast();
            let alone = if alone { self.config.peer_ack_delay } else { Duration::ZERO };
            let at = now + timeout.max(LEAST_PROBE_TIMEOUT) + alone;
            self.probe_at = Some(self.retransmit_at.map_or(at, |retransmit_at| at.min(retransmit_at)));
            self.probe_tail = false;
        }
    }

    /// With SACK: the next segment that carries data, old or new.
    pub(super) fn plan_selectively(&mut self, now: Duration) -> Option<Plan> {
        if let Some(plan) = self.plan_lost().or_else(|| self.plan_data(now, false)) {
            return Some(plan);
        }
        let Recovery::Sack(sack) = &mut self.recovery else { return None };
        if !std::mem::take(&mut self.probe_tail) || !sack.may_probe(self.una) {
            return None;
        }
        let again = sack.probe();
        // RFC 8985 §7.3: new data if the peer's window has room for it, else the last segment.
        let new = if sack.is_fast() { None } else { self.plan_data(now, true) };
        let plan = new.or_else(|| self.plan_resend(again?))?;
        Some(Plan { probe: true, ..plan })
    }

    /// RFC 6675 §5 (C), NextSeg (1): what is lost, first one first. `retransmit`: whatever the congestion window is.
    fn plan_lost(&mut self) -> Option<Plan> {
        let Recovery::Sack(sack) = &mut self.recovery else { return None };
        let Some(segment) = sack.next_lost() else {
            self.retransmit = false;
            return None;
        };
        if !self.retransmit && sack.allowance(&self.congestion) < segment.len {
            self.limited_until = self.nxt;
            return None;
        }
        let plan = self.plan_resend(segment)?;
        self.retransmit = false;
        Some(plan)
    }

    /// A segment once more. The peer may have taken its window back since (RFC 9293 §3.8.6, SHLD-15): then only what is
    /// inside of it, and of the first segment as much as is.
    fn plan_resend(&self, segment: Resend) -> Option<Plan> {
        let open = (self.una + self.window).window_since(segment.start);
        let len = if segment.start == self.una { segment.len.min(open) } else { segment.len };
        if len > open {
            return None;
        }
        let data = len.min(self.send.end().window_since(segment.start));
        self.data_plan(segment.start, data, data < len, Kind::Again(Some(segment)))
    }

    /// Books a segment of `space` sequence numbers with recovery; `again`: some of it was sent before.
    pub(super) fn book(&mut self, now: Duration, plan: &Plan, space: u32, again: bool) {
        let Recovery::Sack(sack) = &mut self.recovery else { return };
        let resent = match plan.kind {
            Kind::Sequence if plan.flags.contains(Flags::SYN) => return,
            Kind::Sequence => {
                sack.on_sent(now, space, again);
                false
            }
            Kind::Again(Some(segment)) => {
                sack.on_sent_again(now, segment);
                true
            }
            Kind::Again(None) | Kind::WindowProbe | Kind::Bare => return,
        };
        if plan.probe {
            match sack.is_fast() {
                true => self.counters.rescues += 1,
                false => self.counters.tail_loss_probes += 1,
            }
            sack.on_probe_sent(self.una, self.nxt, resent);
        }
        // RFC 8985 §7.3: the timeout counts from the probe. RFC 6675 §6: from the last time that the first segment was sent.
        if plan.probe || (resent && plan.seq == self.una) {
            self.retransmit_at = Some(self.retransmission_deadline(now));
        }
        self.arm_probe(now, !plan.probe);
    }

    /// RFC 8985 §6.2, the reordering timer.
    pub(super) fn on_reordering_timer(&mut self, now: Duration) {
        self.loss_at = None;
        if let Recovery::Sack(sack) = &mut self.recovery {
            self.loss_at = sack.on_reordering_timer(&mut self.congestion, &mut self.counters, now, self.una);
            self.arm_probe(now, self.probe_at.is_none());
        }
    }

    /// RFC 8985 §7.3, PTO.
    pub(super) fn on_probe_timer(&mut self, now: Duration) {
        self.probe_at = None;
        if let Recovery::Sack(sack) = &self.recovery
            && sack.may_probe(self.una)
        {
            self.probe_tail = true;
            // The probe comes in its place, also if both are due.
            self.retransmit_at = Some(self.retransmission_deadline(now));
        }
    }

    /// RFC 6298 (5.4) to (5.6). Without SACK everything from the first unacknowledged position on is sent again as the
    /// window allows, with SACK what is lost.
    pub(super) fn send_again_after_timeout(&mut self, now: Duration) {
        let again = self.timed_out_before;
        self.timed_out_before = true;
        match &mut self.recovery {
            _ if matches!(self.state, State::SynSent | State::SynReceived) => {
                self.syn_lost = true;
                self.nxt = self.una;
            }
            Recovery::NewReno(newreno) => {
                newreno.on_timeout(self.max);
                self.congestion.on_timeout(self.max.window_since(self.una), again);
                self.nxt = self.una;
                self.retransmit = false;
            }
            Recovery::Sack(sack) => {
                sack.on_timeout(&mut self.congestion, &mut self.counters, now, self.una, again);
                (self.loss_at, self.probe_at, self.probe_tail) = (None, None, false);
                self.retransmit = true;
            }
        }
    }
}
