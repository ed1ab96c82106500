//! What a received segment does (RFC 9293 §3.10.7).

use std::time::Duration;

use super::super::receive::Accepted;
use super::super::recovery::Recovery;
use super::super::segment::{Flags, Header, Segment, Timestamps};
use super::super::{Payload, Position};
use super::{Connection, ConnectionError, State};

/// RFC 7323 §5.5: a timestamp that is older than 24 days says nothing.
const TIMESTAMP_LIFETIME: Duration = Duration::from_secs(24 * 86400);
/// RFC 5961 §7: challenge acknowledgments in a second.
const CHALLENGES_PER_SECOND: u32 = 10;
/// Duplicate acknowledgments owed at most: beyond, they tell the peer nothing.
const MAX_DUPLICATE_ACKS: u32 = 64;

impl<P: Payload> Connection<P> {
    /// Takes a segment of this connection whose checksum is right. Payloads that are not kept, this one or earlier ones
    /// that it made superfluous, are pushed to `unused`; everything else comes out of [`recv`](Self::recv) or
    /// [`drain`](Self::drain).
    pub fn on_segment(&mut self, now: Duration, segment: Segment<P>, unused: &mut Vec<P>) {
        self.counters.segments_in += 1;
        let Segment { header, payload } = segment;
        let payload = match self.state {
            State::Closed => {
                // RFC 9293 §3.10.7.1.
                self.stray_reset = header.reset_reply(payload.len());
                self.counters.dropped_closed += 1;
                return unused.push(payload);
            }
            State::SynSent => {
                let taken = self.in_syn_sent(now, &header);
                self.counters.dropped_unexpected += u64::from(taken && !payload.is_empty());
                Some(payload)
            }
            _ => self.synchronized(now, &header, payload, unused),
        };
        unused.extend(payload);
    }

    /// [`on_segment`](Self::on_segment) and [`recv`](Self::recv) in one, for what most segments of a stream are: the next data,
    /// all of it inside the window, no news in the acknowledgment, and nothing held that was received before. Of all that RFC
    /// 9293 §3.10.7.4 asks for, little is left then. The payload comes back with its position.
    ///
    /// # Errors
    /// The payload, if the segment is not like this: nothing has happened, and [`on_segment`](Self::on_segment) is to be
    /// called.
    #[inline]
    pub fn deliver(&mut self, now: Duration, header: &Header, payload: P) -> Result<(Position, P), P> {
        let (seq, len) = (self.receive.next(), payload.len());
        if !self.is_expected(header, len) {
            return Err(payload);
        }
        self.counters.segments_in += 1;
        self.counters.bytes_in += u64::from(len);
        if let (true, Some(timestamps)) = (self.timestamps, header.options.timestamps) {
            self.note_timestamp(now, seq, timestamps);
        }
        self.set_window(now, header, seq, self.una, false);
        self.last_heard = now;
        self.keepalive_sent = 0;
        self.receive.pass(len);
        self.on_in_order(now, false);
        self.on_taken();
        Ok((seq, payload))
    }

    /// Whether [`deliver`](Self::deliver) takes a segment with `len` bytes of payload.
    #[inline]
    fn is_expected(&self, header: &Header, len: u32) -> bool {
        let next = self.receive.next();
        let ordered = match (self.timestamps, header.options.timestamps) {
            (false, _) => true,
            (true, Some(timestamps)) => timestamps.value.wrapping_sub(self.ts_recent) as i32 >= 0,
            (true, None) => false,
        };
        self.state == State::Established
            && header.flags.difference(Flags::PSH) == Flags::ACK
            && header.seq == next.wire()
            && self.max.nearest(header.ack) == self.una
            // No bytes wrap to more than any window has room for.
            && len.wrapping_sub(1) < self.edge.window_since(next)
            && ordered
            && header.options.sack.is_empty()
            && self.peer_fin.is_none()
            && self.receive.is_empty()
            && self.recovery.is_settled()
    }

    /// RFC 9293 §3.10.7.3. Data that comes with the SYN is not kept: the peer sends it again. False if the segment was
    /// dropped, which is counted.
    fn in_syn_sent(&mut self, now: Duration, header: &Header) -> bool {
        let has = |flag| header.flags.contains(flag);
        let ack = self.max.nearest(header.ack);
        let acceptable = has(Flags::ACK) && ack > self.iss && ack <= self.max;
        // First, the acknowledgment.
        if has(Flags::ACK) && !acceptable {
            self.counters.dropped_bad_ack += 1;
            self.stray_reset = header.reset_reply(0);
            return false;
        }
        // Second, the reset. Without an acknowledgment anyone could have sent it.
        if has(Flags::RST) {
            match acceptable {
                true => self.fail(ConnectionError::Refused),
                false => self.counters.dropped_rst += 1,
            }
            return false;
        }
        // Fourth, the SYN.
        if !has(Flags::SYN) {
            self.counters.dropped_unexpected += 1;
            return false;
        }
        self.last_heard = now;
        self.synchronize(header, now);
        if acceptable {
            self.acknowledge(now, ack, header);
            self.ack_now = true;
            self.establish();
        } else {
            // Simultaneous open: our SYN goes out again, now with an acknowledgment.
            self.state = State::SynReceived;
            self.nxt = self.iss;
        }
        true
    }

    /// The peer has our SYN.
    fn establish(&mut self) {
        self.state = if self.fin_queued { State::FinWait1 } else { State::Established };
        self.congestion.established(self.mss, self.syn_lost);
        if self.syn_lost {
            self.rtt.lost_syn();
        }
    }

    /// RFC 9293 §3.10.7.4: every state from SYN-RECEIVED on. Returns the payload if it is not kept.
    fn synchronized(&mut self, now: Duration, header: &Header, mut payload: P, unused: &mut Vec<P>) -> Option<P> {
        let has = |flag| header.flags.contains(flag);
        let rcv_nxt = self.rcv_nxt();
        let mut seq = rcv_nxt.nearest(header.seq);
        let len = header.sequence_len(payload.len());
        let end = seq + len;

        // RFC 7323 §5.3 R1 (PAWS) and §3.2. A reset is exempt from both.
        if self.timestamps && !has(Flags::RST) {
            let Some(timestamps) = header.options.timestamps else {
                self.counters.dropped_no_timestamp += 1;
                return Some(payload);
            };
            let older = (timestamps.value.wrapping_sub(self.ts_recent) as i32) < 0;
            if older && now.saturating_sub(self.ts_recent_at) < TIMESTAMP_LIFETIME {
                self.counters.dropped_paws += 1;
                self.refuse(now, !payload.is_empty());
                return Some(payload);
            }
        }

        // First, the sequence number. RFC 5961 §3.2 and §4.2 decide about resets and SYNs.
        if has(Flags::RST) {
            self.on_reset(now, seq, len);
            return Some(payload);
        }
        if has(Flags::SYN) {
            // RFC 5961 §4.2, wherever the SYN is: it may be a retransmission, or the peer has restarted.
            self.counters.dropped_syn += 1;
            if self.state == State::SynReceived && seq + 1 == rcv_nxt {
                // Its first one: our answer was lost, or it opens simultaneously. With an acknowledgment it counts.
                if !has(Flags::ACK) || self.max.nearest(header.ack) <= self.una {
                    self.nxt = self.una;
                    return Some(payload);
                }
            } else {
                self.challenge(now);
                return Some(payload);
            }
        }
        let in_window = seq >= rcv_nxt && seq < self.edge;
        let acceptable = match (len, self.edge > rcv_nxt) {
            (0, false) => seq == rcv_nxt,
            (0, true) => in_window,
            // "Special allowance": what probes a closed window still acknowledges (RFC 9293 §3.10.7.4).
            (_, false) => seq <= rcv_nxt && end > rcv_nxt,
            (_, true) => in_window || (seq < rcv_nxt && end > rcv_nxt),
        };
        let first_again = self.state == State::SynReceived && has(Flags::SYN);
        if !acceptable && !first_again {
            let old = end <= rcv_nxt && !payload.is_empty();
            match old {
                true => {
                    self.counters.duplicate_segments += 1;
                    self.receive.note_duplicate(seq, end);
                }
                false => self.counters.dropped_out_of_window += 1,
            }
            // RFC 9293 §3.10.7.4, TIME-WAIT: the peer did not hear our last acknowledgment.
            if self.state == State::TimeWait && has(Flags::FIN) {
                self.linger_at = Some(now + 2 * self.config.msl);
            }
            self.refuse(now, len > 0);
            return Some(payload);
        }

        if let (true, Some(timestamps)) = (self.timestamps, header.options.timestamps) {
            self.note_timestamp(now, seq, timestamps);
        }

        // Fifth, the acknowledgment.
        if !has(Flags::ACK) {
            self.counters.dropped_no_ack += 1;
            return Some(payload);
        }
        if !self.on_ack(now, header, seq, payload.is_empty() && len == 0) {
            return Some(payload);
        }
        if self.state == State::Closed {
            // It acknowledges our FIN, the last thing that was awaited.
            self.counters.dropped_unexpected += u64::from(!payload.is_empty());
            return Some(payload);
        }
        self.last_heard = now;
        self.keepalive_sent = 0;
        if has(Flags::SYN) {
            seq += 1;
        }

        // Seventh, the payload; eighth, the FIN.
        let fin = has(Flags::FIN).then(|| seq + payload.len());
        if !self.may_receive() {
            // After the peer's FIN there is nothing more to take.
            if !payload.is_empty() {
                self.counters.dropped_unexpected += 1;
                self.ack_now = true;
            }
            return Some(payload);
        }
        let limit = self.peer_fin.unwrap_or(self.edge).min(self.edge);
        let beyond = (seq + payload.len()).window_since(limit).min(payload.len());
        if beyond > 0 {
            payload.trim_back(beyond);
            self.counters.trimmed_back += 1;
            self.ack_now = true;
        }
        let rest = match payload.is_empty() {
            true => Some(payload),
            false => {
                self.on_payload(now, seq, payload, unused);
                None
            }
        };
        if let Some(fin) = fin {
            self.on_fin(fin);
        }
        if !self.fin_received && self.peer_fin == Some(self.receive.next()) {
            self.finish_receiving(now);
        }
        rest
    }

    /// RFC 7323 §4.3 (2).
    #[inline]
    fn note_timestamp(&mut self, now: Duration, seq: Position, timestamps: Timestamps) {
        if seq <= self.last_ack_sent && (timestamps.value.wrapping_sub(self.ts_recent) as i32) >= 0 {
            (self.ts_recent, self.ts_recent_at) = (timestamps.value, now);
        }
    }

    /// RFC 5961 §3.2: only a reset at exactly RCV.NXT is believed.
    fn on_reset(&mut self, now: Duration, seq: Position, len: u32) {
        let rcv_nxt = self.rcv_nxt();
        if seq == rcv_nxt {
            match self.state {
                // RFC 9293 §3.10.7.4, second: both sides have closed. If the peer has all our data, nothing is lost.
                State::Closing | State::LastAck | State::TimeWait if self.una >= self.send.end() => {
                    self.state = State::Closed;
                    self.stop_timers();
                }
                State::SynReceived => self.fail(ConnectionError::Refused),
                _ => self.fail(ConnectionError::Reset),
            }
            return;
        }
        self.counters.dropped_rst += 1;
        if seq < self.edge && seq + len > rcv_nxt {
            self.challenge(now);
        }
    }

    /// Answers a segment that is not acceptable (RFC 9293 §3.10.7.4). One that takes sequence space gets its answer: the
    /// sender waits for it. Others are answered as challenges are, or two confused peers would answer each other for ever.
    fn refuse(&mut self, now: Duration, takes_space: bool) {
        match takes_space {
            true => self.ack_now = true,
            false => self.challenge(now),
        }
    }

    /// RFC 5961 §7: a limited number of challenge acknowledgments; per connection, so that nobody learns anything from
    /// the limit about another connection.
    fn challenge(&mut self, now: Duration) {
        self.counters.challenge_acks += 1;
        let (since, count) = &mut self.challenges;
        if now.saturating_sub(*since) >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        if *count >= CHALLENGES_PER_SECOND {
            self.counters.challenge_acks_suppressed += 1;
            return;
        }
        *count += 1;
        self.ack_now = true;
    }

    /// The acknowledgment and window fields. False if the segment must be dropped.
    fn on_ack(&mut self, now: Duration, header: &Header, seq: Position, bare: bool) -> bool {
        let ack = self.max.nearest(header.ack);
        let news = ack > self.una;
        if self.state == State::SynReceived {
            // RFC 9293 §3.10.7.4, fifth.
            if ack <= self.una || ack > self.max {
                self.counters.dropped_bad_ack += 1;
                self.stray_reset = header.reset_reply(0);
                return false;
            }
            self.acknowledge(now, ack, header);
            self.establish();
        } else if ack > self.max || ack < self.una.back(self.max_window) {
            // RFC 5961 §5.2.
            self.counters.dropped_bad_ack += 1;
            self.challenge(now);
            return false;
        } else {
            // RFC 5681 §2: a duplicate acknowledgment, all five conditions.
            let window = u32::from(header.window) << self.window_shift;
            let outstanding = ack == self.una && self.una < self.max;
            let duplicate = bare && outstanding && window == self.window && window > 0;
            self.counters.duplicate_acks_in += u64::from(duplicate);
            match (&self.recovery, news) {
                (Recovery::Sack(_), _) => self.acknowledge_selectively(now, ack, header, duplicate),
                (Recovery::NewReno(_), true) => self.acknowledge(now, ack, header),
                (Recovery::NewReno(_), false) if duplicate => self.on_duplicate(),
                (Recovery::NewReno(_), false) => {}
            }
        }
        if ack >= self.una {
            self.set_window(now, header, seq, ack, news);
        }
        self.close_acknowledged(now);
        true
    }

    /// RFC 9293 §3.10.7.4: WL1 and WL2 keep an old segment from changing the window. `news`: it acknowledged new data, so it
    /// is not old, even if it is a retransmission by its sequence number. The RFC would keep the window then, although
    /// SND.UNA moves, and the right edge with it: beyond what the peer ever offered.
    #[inline]
    fn set_window(&mut self, now: Duration, header: &Header, seq: Position, ack: Position, news: bool) {
        if news || self.wl1 < seq || (self.wl1 == seq && self.wl2 <= ack) {
            let window = u32::from(header.window) << self.window_shift;
            if self.window == 0 && window > 0 {
                // What waited for the window starts afresh.
                (self.persist_backoff, self.stalled_since) = (0, now);
            }
            self.window = window;
            self.max_window = self.max_window.max(self.window);
            (self.wl1, self.wl2) = (self.wl1.max(seq), ack);
        }
    }

    /// State changes once the peer has our FIN.
    fn close_acknowledged(&mut self, now: Duration) {
        if !self.fin_queued || self.una != self.send_limit() {
            return;
        }
        match self.state {
            State::FinWait1 => {
                self.state = State::FinWait2;
                // Not in the RFC: a peer that never closes must not hold the connection for ever.
                self.linger_at = Some(now + self.config.user_timeout);
            }
            State::FinWait2 => self.linger_at = Some(now + self.config.user_timeout),
            State::Closing => self.enter_time_wait(now),
            State::LastAck => {
                self.state = State::Closed;
                self.stop_timers();
            }
            _ => {}
        }
    }

    fn on_payload(&mut self, now: Duration, seq: Position, payload: P, unused: &mut Vec<P>) {
        let before = self.receive.next();
        let trimmed = seq < before;
        match self.receive.accept(seq, payload, unused) {
            Accepted::InOrder { filled } => {
                self.counters.bytes_in += self.receive.next().since(before);
                self.counters.trimmed_front += u64::from(trimmed);
                self.on_in_order(now, filled || trimmed);
            }
            Accepted::OutOfOrder => {
                self.counters.out_of_order += 1;
                // RFC 5681 §4.2: at once, one for each.
                self.duplicate_acks = (self.duplicate_acks + 1).min(MAX_DUPLICATE_ACKS);
            }
            Accepted::Duplicate => {
                self.counters.duplicate_segments += 1;
                self.ack_now = true;
            }
            Accepted::NoRoom => {
                self.counters.dropped_no_room += 1;
                self.ack_now = true;
            }
        }
    }

    /// Data came in order; `at_once`: the peer is to hear of it without delay.
    #[inline]
    fn on_in_order(&mut self, now: Duration, at_once: bool) {
        self.unacked_segments += 1;
        // What came out of order before it in the same poll has to be told all the same.
        self.duplicate_acks = if self.sack { self.receive.reports_due() } else { 0 };
        // RFC 5681 §4.2: at least every second segment, and at once when a gap closes.
        if at_once || self.unacked_segments >= 2 {
            self.ack_now = true;
        } else if self.ack_at.is_none() {
            // RFC 9293 §3.8.6.3.
            self.ack_at = Some(now + self.config.ack_delay);
        }
    }

    /// A FIN at `fin`, which may be ahead of what was received.
    fn on_fin(&mut self, fin: Position) {
        if self.fin_received || self.peer_fin == Some(fin) {
            return;
        }
        // It must lie behind all data and not move.
        if self.peer_fin.is_some() || fin < self.receive.last() {
            self.counters.bad_fin += 1;
            return;
        }
        // A FIN beyond the window comes again, like data. One that is next needs no room.
        if fin >= self.edge && fin > self.receive.next() {
            self.counters.trimmed_back += 1;
            self.ack_now = true;
            return;
        }
        self.peer_fin = Some(fin);
        if fin > self.receive.next() {
            self.duplicate_acks = (self.duplicate_acks + 1).min(MAX_DUPLICATE_ACKS);
        }
    }

    /// RFC 9293 §3.10.7.4, eighth: the FIN is in order.
    fn finish_receiving(&mut self, now: Duration) {
        self.fin_received = true;
        self.ack_now = true;
        self.duplicate_acks = 0;
        match self.state {
            State::Established => self.state = State::CloseWait,
            // If our FIN were acknowledged this would be FIN-WAIT-2 already.
            State::FinWait1 => self.state = State::Closing,
            State::FinWait2 => self.enter_time_wait(now),
            _ => {}
        }
    }

    fn enter_time_wait(&mut self, now: Duration) {
        self.state = State::TimeWait;
        self.stop_sending_timers();
        self.linger_at = Some(now + 2 * self.config.msl);
    }
}

#[cfg(test)]
#[path = "input_tests.rs"]
mod tests;
