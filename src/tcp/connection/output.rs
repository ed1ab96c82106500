//! What leaves (RFC 9293 §3.8).

use std::time::Duration;

use super::super::recovery::Recovery;
use super::super::recovery::sack::Resend;
use super::super::segment::{Flags, Header, Options, Timestamps};
use super::super::{Payload, Position};
use super::{Connection, State, TxSegment};

/// What the next segment is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seq: Position,
    /// Payload bytes, from the send queue.
    pub(super) len: u32,
    pub(super) flags: Flags,
    pub(super) kind: Kind,
    /// It is a tail loss probe.
    pub(super) probe: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// SYN, data, FIN: takes sequence space and is sent again until acknowledged.
    Sequence,
    /// A segment once more; SND.NXT stays. Without SACK it is the first that is not acknowledged.
    Again(Option<Resend>),
    /// One octet beyond a closed window; SND.NXT stays.
    WindowProbe,
    /// Nothing but an acknowledgment.
    Bare,
}

impl<P: Payload> Connection<P> {
    /// The next segment to send at `now`. Call it after everything that was received or queued and at
    /// [`next_deadline`](Self::next_deadline), until it returns `None`.
    ///
    /// Received segments must be handed in first: a timer that a waiting acknowledgment would stop expires otherwise. What it
    /// returned counts as sent: a caller that cannot send it treats it as lost on the wire.
    pub fn poll_tx(&mut self, now: Duration) -> Option<TxSegment<'_>> {
        self.run_timers(now);
        if let Some(header) = self.stray_reset.take().or_else(|| self.take_reset(now)) {
            self.counters.segments_out += 1;
            return Some(TxSegment { header, payload: [&[], &[]] });
        }
        let Some(plan) = self.plan(now) else {
            self.arm_persist(now);
            return None;
        };
        self.commit(now, plan);
        let header = self.header(now, plan);
        self.counters.segments_out += 1;
        Some(TxSegment { header, payload: self.send.slices(plan.seq, plan.len) })
    }

    /// RFC 9293 §3.10.5: `<SEQ=SND.NXT><CTL=RST>`. The highest position sent is what the peer expects if nothing is lost;
    /// if it is, its challenge (RFC 5961 §3.2) gets an exact answer from the closed connection.
    fn take_reset(&mut self, now: Duration) -> Option<Header> {
        if !std::mem::take(&mut self.reset_pending) {
            return None;
        }
        Some(Header {
            seq: self.max.wire(),
            ack: self.rcv_nxt().wire(),
            flags: Flags::RST | Flags::ACK,
            window: 0,
            options: Options { timestamps: self.timestamps_option(now, true), ..Options::default() },
        })
    }

    fn plan(&mut self, now: Duration) -> Option<Plan> {
        let bare = |seq| Plan { seq, len: 0, flags: Flags::ACK, kind: Kind::Bare, probe: false };
        match self.state {
            State::Closed => return None,
            State::SynSent | State::SynReceived if self.nxt == self.iss => {
                let ack = if self.state == State::SynReceived { Flags::ACK } else { Flags::empty() };
                return Some(Plan {
                    seq: self.iss,
                    len: 0,
                    flags: Flags::SYN | ack,
                    kind: Kind::Sequence,
                    probe: false,
                });
            }
            State::SynSent => return None,
            State::SynReceived => {}
            _ => {
                let plan = match self.recovery {
                    Recovery::NewReno(_) => self.plan_first_again().or_else(|| self.plan_data(now, false)),
                    Recovery::Sack(_) => self.plan_selectively(now),
                };
                if plan.is_some() {
                    return plan;
                }
            }
        }
        if self.ack_now || self.duplicate_acks > 0 {
            return Some(bare(self.max));
        }
        if std::mem::take(&mut self.probe_window) && self.una < self.send_limit() {
            let len = self.send.end().window_since(self.una).min(1);
            let fin = if len == 0 { Flags::FIN } else { Flags::empty() };
            return Some(Plan { seq: self.una, len, flags: Flags::ACK | fin, kind: Kind::WindowProbe, probe: false });
        }
        if std::mem::take(&mut self.probe_keepalive) {
            // RFC 9293 §3.8.4: <SEQ=SND.NXT-1>, which is never acceptable and so is answered.
            return Some(bare(self.max.back(1)));
        }
        None
    }

    /// Without SACK: fast retransmit (RFC 5681 §3.2 step 3; RFC 6582 §3.2 step 3).
    fn plan_first_again(&mut self) -> Option<Plan> {
        if !std::mem::take(&mut self.retransmit) || self.una >= self.max {
            return None;
        }
        let data = self.max.min(self.send.end()).window_since(self.una);
        let len = data.min(self.segment_room()).min(self.window);
        let fin = self.una + len == self.send.end() && self.max > self.send.end();
        self.data_plan(self.una, len, fin, Kind::Again(None))
    }

    /// A segment of `len` bytes from `seq` on, with the FIN behind them or not.
    pub(super) fn data_plan(&self, seq: Position, len: u32, fin: bool, kind: Kind) -> Option<Plan> {
        let mut flags = Flags::ACK;
        flags.set(Flags::FIN, fin);
        // RFC 9293 §3.9.1.2 (MUST-61): the last of what is queued is pushed.
        flags.set(Flags::PSH, len > 0 && seq + len == self.send.end());
        (len > 0 || fin).then_some(Plan { seq, len, flags, kind, probe: false })
    }

    /// New data, or after a timeout without SACK the data from SND.NXT on. `probe`: whatever the congestion window is.
    pub(super) fn plan_data(&mut self, now: Duration, probe: bool) -> Option<Plan> {
        let (end, limit) = (self.send.end(), self.send_limit());
        if self.nxt >= limit {
            return None;
        }
        if self.una == self.max && now.saturating_sub(self.last_sent) > self.rtt.timeout() {
            // RFC 5681 §4.1.
            self.congestion.on_idle(self.last_sent);
            if let Recovery::NewReno(newreno) = &mut self.recovery {
                newreno.on_idle();
            }
        }
        let open = self.window.saturating_sub(self.nxt.window_since(self.una));
        let allowed = match &self.recovery {
            Recovery::NewReno(newreno) => {
                newreno.window(&self.congestion).saturating_sub(self.nxt.window_since(self.una))
            }
            Recovery::Sack(sack) if !sack.has_room() => return None,
            Recovery::Sack(_) if probe => u32::MAX,
            Recovery::Sack(sack) => sack.allowance(&self.congestion),
        };
        let usable = open.min(allowed);
        let unsent = end.window_since(self.nxt);
        let full = self.segment_room();
        let len = unsent.min(full).min(usable);
        let fin = self.fin_queued && len == unsent && len < usable;
        if len == 0 && !fin {
            if allowed < full && allowed <= open {
                self.limited_until = self.nxt;
            }
            return None;
        }
        // RFC 9293 §3.8.6.2.1 without Nagle: a full segment, or all there is, or half of the largest window ever offered,
        // or the override timer (which is the persist timer here) has expired.
        let worth = len >= full || len == unsent || len >= self.max_window / 2 || self.send_small;
        if !worth {
            if allowed < full && allowed <= open {
                self.limited_until = self.nxt;
            }
            return None;
        }
        self.data_plan(self.nxt, len, fin, Kind::Sequence)
    }

    /// Payload bytes of a full segment now: SACK blocks take room.
    fn segment_room(&self) -> u32 {
        match self.sack_blocks_due() {
            0 => self.mss,
            n => self.mss - (4 + 8 * n as u32),
        }
    }

    /// SACK blocks that the next segment carries, at most (RFC 2018 §3): the timestamps take 12 of the 40 bytes.
    fn sack_blocks_due(&self) -> usize {
        match (self.sack && self.receive.has_report(), self.timestamps) {
            (false, _) => 0,
            (true, true) => 3,
            (true, false) => 4,
        }
    }

    /// Books the segment as sent.
    fn commit(&mut self, now: Duration, plan: Plan) {
        let Plan { seq, len, flags, kind, .. } = plan;
        let space = len + u32::from(flags.contains(Flags::SYN)) + u32::from(flags.contains(Flags::FIN));
        let end = seq + space;
        if flags.contains(Flags::ACK) {
            self.last_ack_sent = self.rcv_nxt();
            (self.ack_now, self.ack_at, self.unacked_segments) = (false, None, 0);
        }
        if kind == Kind::Bare {
            self.duplicate_acks = self.duplicate_acks.saturating_sub(1);
            if seq < self.max {
                self.counters.keepalive_probes += 1;
            } else {
                self.counters.pure_acks_out += 1;
            }
            return;
        }
        if kind == Kind::WindowProbe {
            self.counters.window_probes += 1;
        }
        if self.una == self.max {
            self.stalled_since = now;
        }
        let again = seq < self.max;
        if again {
            // RFC 6298 §3 (Karn).
            self.timing = None;
            self.sent_again = Some((self.max.max(end), self.timestamp(now)));
            if kind != Kind::WindowProbe {
                self.counters.retransmitted_segments += 1;
                self.counters.retransmitted_bytes += u64::from(len);
            }
        } else {
            self.counters.bytes_out += u64::from(len);
            if self.timing.is_none() && kind == Kind::Sequence {
                self.timing = Some((end, now));
            }
        }
        self.max = self.max.max(end);
        self.last_sent = now;
        if kind == Kind::WindowProbe {
            return;
        }
        if kind == Kind::Sequence {
            self.nxt = end;
            (self.persist_at, self.probe_window, self.send_small) = (None, false, false);
        }
        // RFC 6298 (5.1).
        if self.retransmit_at.is_none() {
            self.retransmit_at = Some(self.retransmission_deadline(now));
        }
        self.book(now, &plan, space, again);
    }

    fn header(&mut self, now: Duration, plan: Plan) -> Header {
        let syn = plan.flags.contains(Flags::SYN);
        let acks = plan.flags.contains(Flags::ACK);
        let mut options = Options { timestamps: self.timestamps_option(now, acks), ..Options::default() };
        let window = if syn {
            options.mss = Some(self.config.mss);
            options.sack_permitted = self.sack;
            // RFC 7323 §2.2: in an answer only if the peer offered it.
            let offered = !acks || self.receive_shift > 0 || self.window_shift > 0;
            options.window_scale = offered.then_some(self.receive_shift);
            self.receive_budget().min(u32::from(u16::MAX)) as u16
        } else {
            // What is sent again is as long as it was, so there may be less room for blocks than is due.
            let room = self.mss.saturating_sub(plan.len).saturating_sub(4) as usize / 8;
            let (blocks, duplicate) = self.receive.report(self.sack_blocks_due().min(room), self.duplicate_acks);
            options.sack = blocks;
            self.counters.dsacks_out += u64::from(duplicate);
            self.advertise()
        };
        let ack = if acks { self.rcv_nxt().wire() } else { 0 };
        Header { seq: plan.seq.wire(), ack, flags: plan.flags, window, options }
    }

    /// The window field, and with it the right edge that holds from now on.
    fn advertise(&mut self) -> u16 {
        let rcv_nxt = self.rcv_nxt();
        let unit = 1 << self.receive_shift;
        let field = |bytes: u32| (bytes >> self.receive_shift).min(u32::from(u16::MAX));
        let opened = field(self.edge_if_opened().window_since(rcv_nxt));
        let told = self.edge.window_since(rcv_nxt);
        // RFC 7323 §2.4: the window must not shrink, also not by rounding, so an edge that stays is rounded up. A peer
        // that sends byte by byte could push it ahead like this for ever: an eighth beyond the budget it stops, and then
        // seems to take a few bytes back, which stay accepted.
        let kept = field(told.saturating_add(unit - 1));
        let budget = self.config.receive_bytes;
        let most = (self.recv_position() + budget + (budget / 8).max(unit)).window_since(rcv_nxt);
        let kept = if kept * unit <= most { kept } else { field(told) };
        let field = opened.max(kept);
        self.edge = self.edge.max(rcv_nxt + field * unit);
        field as u16
    }

    /// Our timestamp clock: milliseconds (RFC 7323 §5.4 allows 1 ms to 1 s) and an offset of the connection's own.
    pub(super) fn timestamp(&self, now: Duration) -> u32 {
        (now.as_millis() as u32).wrapping_add(self.config.timestamp_offset)
    }

    fn timestamps_option(&self, now: Duration, acks: bool) -> Option<Timestamps> {
        let echo = if acks { self.ts_recent } else { 0 };
        self.timestamps.then(|| Timestamps { value: self.timestamp(now), echo })
    }
}
