//! TCP connections whose owner is gone: what is still to be said is said again until the peer has heard it, a late segment
//! is answered, and the port stays taken for as long as TIME-WAIT wants (RFC 9293 §3.6).
//!
//! They hold no receive buffer: what the peer still sends is acknowledged and thrown away in order, and what comes out of
//! order is not taken at all, so the peer sends it again. Each ends by itself, and there are never more than
//! [`Config::max_connections`](super::Config::max_connections): the one that has least to lose makes room.
//!
//! When one is over, its four-tuple is remembered for a while: a segment that still comes gets a reset. Segments of
//! connections that never were get nothing: an answer would need the sender's MAC address, and asking for addresses that
//! strangers name would fill the neighbour cache.

use super::Shard;
use crate::frame::Frame;
use crate::net::{Checksum, HEADROOM, TcpFrame};
use crate::platform::Platform;
use crate::queue::Checksums;
use crate::tcp::{self, FourTuple, Segment, State};
use std::collections::VecDeque;
use std::time::Duration;

/// How long a connection may take to close, whatever the peer does. TCP's own limits add up to about this.
const LINGER_PATIENCE: Duration = Duration::from_secs(120);
/// Four-tuples that are remembered when their connections are over.
const REMEMBERED: usize = 64;
/// Resets in a second to segments of connections that are over.
const RESETS_PER_SECOND: u32 = 64;

/// Whom a four-tuple or a timer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    /// A connection, by index.
    Live(u32),
    /// A connection that closes, by its own index.
    Lingering(u32),
}

impl Party {
    /// The number under which its timer is kept.
    pub fn key(self) -> u32 {
        match self {
            Party::Live(index) => index << 1,
            Party::Lingering(index) => index << 1 | 1,
        }
    }

    /// Whose number this is.
    pub fn of(key: u32) -> Party {
        match key & 1 {
            0 => Party::Live(key >> 1),
            _ => Party::Lingering(key >> 1),
        }
    }
}

/// A connection that closes.
pub(super) struct Closing {
    pub tuple: FourTuple,
    pub tcp: tcp::Connection<Frame>,
    /// When it is given up.
    pub until: Duration,
    /// In the shard's list of what is to be sent.
    pub sending: bool,
}

/// All connections that close.
#[derive(Default)]
pub(super) struct Lingering {
    pub slots: Vec<Option<Box<Closing>>>,
    free: Vec<u32>,
    over: VecDeque<FourTuple>,
    /// Resets sent in the second that began then.
    resets: (Duration, u32),
}

impl Lingering {
    /// Number of connections.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The one that has least to lose: in TIME-WAIT, longest there.
    fn least(&self) -> Option<u32> {
        let all = self.slots.iter().enumerate().filter_map(|(index, slot)| Some((index as u32, slot.as_ref()?)));
        all.min_by_key(|(_, closing)| (closing.tcp.state() != State::TimeWait, closing.until)).map(|(index, _)| index)
    }

    fn remember(&mut self, tuple: FourTuple) {
        if self.over.len() >= REMEMBERED {
            self.over.pop_front();
        }
        self.over.push_back(tuple);
    }

    /// Counts a reset; false if there were enough in this second.
    fn may_reset(&mut self, now: Duration) -> bool {
        let (since, count) = &mut self.resets;
        if now.saturating_sub(*since) >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= RESETS_PER_SECOND
    }
}

impl<P: Platform> Shard<P> {
    /// Takes the TCP connection of an owner that is gone. It was closed or aborted.
    pub(super) fn linger(&mut self, tuple: FourTuple, mut tcp: tcp::Connection<Frame>, now: Duration) {
        for frame in tcp.drain() {
            self.buffers.give_back(frame.into_buffer());
        }
        if self.broken.is_some() {
            // Nothing will be heard any more: one reset has to do, if it can be said at all.
            tcp.abort();
            if self.dead || !self.tx.has_room() {
                self.past.tcp += tcp.counters();
                self.parties.remove(&tuple);
                return;
            }
        }
        if self.lingering.len() >= self.config.max_connections.max(1) as usize
            && let Some(least) = self.lingering.least()
        {
            self.counters.closing_evicted += 1;
            self.end_lingering(least);
        }
        let closing = Box::new(Closing { tuple, tcp, until: now + LINGER_PATIENCE, sending: true });
        let lingering = &mut self.lingering;
        let index = lingering.free.pop().unwrap_or(lingering.slots.len() as u32);
        match lingering.slots.get_mut(index as usize) {
            Some(slot) => *slot = Some(closing),
            None => lingering.slots.push(Some(closing)),
        }
        self.parties.insert(tuple, Party::Lingering(index));
        self.sending.push(Party::Lingering(index));
    }

    /// A connection that closes is over.
    pub(super) fn end_lingering(&mut self, index: u32) {
        let Some(mut closing) = self.lingering.slots.get_mut(index as usize).and_then(Option::take) else { return };
        for frame in closing.tcp.drain() {
            self.buffers.give_back(frame.into_buffer());
        }
        self.past.tcp += closing.tcp.counters();
        self.lingering.free.push(index);
        self.lingering.remember(closing.tuple);
        self.parties.remove(&closing.tuple);
        self.timers.set(Party::Lingering(index).key(), None);
    }

    /// A segment of a connection that closes.
    pub(super) fn on_lingering_segment(&mut self, now: Duration, index: u32, segment: Segment<Frame>) {
        let Some(Some(closing)) = self.lingering.slots.get_mut(index as usize) else {
            return self.buffers.give_back(segment.payload.into_buffer());
        };
        let ahead = segment.header.seq.wrapping_sub(closing.tcp.rcv_nxt().wire()) as i32 > 0;
        if ahead && !segment.payload.is_empty() {
            self.counters.closing_dropped += 1;
            return self.buffers.give_back(segment.payload.into_buffer());
        }
        closing.tcp.on_segment(now, segment, &mut self.unused);
        for unused in self.unused.drain(..) {
            self.buffers.give_back(unused.into_buffer());
        }
        while let Some((_, frame)) = closing.tcp.recv() {
            self.counters.closing_discarded += u64::from(frame.len());
            self.buffers.give_back(frame.into_buffer());
        }
        self.wake_lingering(index, now);
    }

    /// Lets a connection that closes say what it has to, or gives it up.
    pub(super) fn wake_lingering(&mut self, index: u32, now: Duration) {
        let Some(Some(closing)) = self.lingering.slots.get_mut(index as usize) else { return };
        if now >= closing.until {
            closing.tcp.abort();
        }
        if !std::mem::replace(&mut closing.sending, true) {
            self.sending.push(Party::Lingering(index));
        }
    }

    /// Answers a segment of a connection that is over with a reset (RFC 9293 §3.10.7.1), so that the peer does not keep
    /// trying.
    #[cold]
    pub(super) fn reset_stranger(&mut self, now: Duration, segment: &TcpFrame) {
        let Some(reset) = segment.header.reset_reply(segment.payload_len) else { return };
        if !self.lingering.over.contains(&segment.tuple) {
            return;
        }
        if !self.tx.has_room() || !self.lingering.may_reset(now) {
            self.counters.resets_suppressed += 1;
            return;
        }
        let mut header = [0; HEADROOM];
        let built = self.interface.emit_tcp(now, &segment.tuple, &reset, [&[], &[]], Checksum::Device, &mut header);
        // The device sees it with the doorbell at the end of the poll.
        match built.map(|len| self.tx.send(&header[..len], 0, Checksums::IpAndTransport, |_| {})) {
            Ok(Ok(())) => self.counters.resets += 1,
            Ok(Err(_)) | Err(_) => self.counters.not_sent += 1,
        }
    }
}
