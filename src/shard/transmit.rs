//! From the L5P to the wire.
//!
//! Connections with something to say are in a list. What TCP gives out counts as sent, so it is asked only if the next hop
//! is known and the ring has room; a connection for which that is not so stays in the list, behind the others, and is asked
//! again with the next poll. Its TCP timers wait as long: asking TCP is what makes them go. Both waits end: an address that
//! nobody answers for is unreachable after seconds, and a ring that never gets room is a failure of the function.

use super::connection::Connection;
use super::linger::Party;
use super::{Disconnect, Shard};
use crate::ddp::memory::Memory;
use crate::ddp::policy::Work;
use crate::frame::Frame;
use crate::net::{Checksum, HEADROOM, Interface, Resolution};
use crate::observe::What;
use crate::platform::Platform;
use crate::queue::{Checksums, PayloadSlot, SendError, SendQueue};
use crate::tcp::{self, FourTuple, State};
use std::time::Duration;

/// Bytes of an ARP frame.
const ARP_BYTES: usize = crate::net::arp::FRAME_LEN;
/// How long the send ring may stay full without a completion. Linux waits as long before it calls a queue stuck.
const SEND_PATIENCE: Duration = Duration::from_secs(15);

/// Unanswered retransmissions in a row after which the next hop is asked for its MAC address again (RFC 1122 §4.2.3.5, R1: at
/// least 3). Until a connection is up each counts: another one was told perhaps an hour ago where the peer is.
const SUSPICIOUS: u32 = 3;

/// How far a TCP connection's output went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Everything that TCP had to send now is in the ring, or lost as on a wire; true if there was anything.
    Done(bool),
    /// The ring is full.
    Full,
    /// The address of the next hop is being asked for.
    Resolving,
    /// Nobody answers for the next hop, and TCP has not even begun.
    Unreachable,
}

/// Where segments go.
struct Wire<'a> {
    tx: &'a mut SendQueue,
    interface: &'a mut Interface,
    not_sent: &'a mut u64,
}

impl Wire<'_> {
    /// Moves all segments that TCP has to send now to the ring.
    fn drain(&mut self, now: Duration, tuple: &FourTuple, tcp: &mut tcp::Connection<Frame>) -> Outcome {
        match self.interface.resolve(now, tuple.remote) {
            Resolution::Ready(_) => {}
            Resolution::Pending => return Outcome::Resolving,
            Resolution::Unreachable if tcp.state() == State::SynSent => return Outcome::Unreachable,
            // What TCP gives out is lost, as behind a broken link; its own patience decides.
            Resolution::Unreachable => {}
        }
        let mut any = false;
        let unanswered = tcp.unanswered();
        loop {
            if !self.tx.has_room() {
                return Outcome::Full;
            }
            let Some(segment) = tcp.poll_tx(now) else { break };
            any = true;
            let mut header = [0; HEADROOM];
            let payload = segment.payload;
            let built = self.interface.emit_tcp(now, tuple, &segment.header, payload, Checksum::Device, &mut header);
            let posted = built.map(|len| {
                let [first, second] = payload;
                let fill = |slot: &mut PayloadSlot<'_>| {
                    slot.write(0, first);
                    slot.write(first.len(), second);
                };
                self.tx.send(&header[..len], segment.payload_len(), Checksums::IpAndTransport, fill)
            });
            match posted {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    *self.not_sent += 1;
                    log::debug!("segment not sent: {error}");
                }
                Err(error) => {
                    *self.not_sent += 1;
                    log::debug!("segment not built: {error}");
                }
            }
        }
        // Timers run where TCP is asked for segments.
        let suspicious = if tcp.state() == State::SynSent { 1 } else { SUSPICIOUS };
        if tcp.unanswered() > unanswered.max(suspicious - 1) {
            self.interface.doubt(now, tuple.remote);
        }
        Outcome::Done(any)
    }
}

impl<P: Platform> Shard<P> {
    pub(super) fn poll_transmit(&mut self, now: Duration) -> bool {
        if self.dead {
            self.sending.clear();
            return false;
        }
        let sent = self.tx.poll(|_| {});
        self.counters.flushed += u64::from(sent.flushed);
        if let Some(failure) = sent.failure {
            self.counters.queue_errors += 1;
            let (which, number) = ("send", self.tx.sqn());
            self.note(now, None, What::QueueFailed { which, number, why: crate::observe::text(&failure) });
            log::warn!("send queue: {failure}");
        }
        if self.tx.has_failed() {
            self.recover_send(now);
        }
        let before = self.tx.frames();
        // Bindings before the commands that rely on them.
        let mut worked = sent.frames != 0;
        if let Some(offloads) = &mut self.offloads {
            let started = self.adaptive.as_ref().and_then(|adaptive| adaptive.start(&*self.platform));
            let doorbells = offloads.flush(&*self.platform);
            if let (Some(adaptive), true) = (&mut self.adaptive, doorbells != 0) {
                adaptive.stop(&*self.platform, started, Work::Doorbells);
            }
            worked |= doorbells != 0;
        }
        worked |= self.send_all(now);
        let mut frame = [0; ARP_BYTES];
        while self.tx.has_room()
            && let Some(len) = self.interface.poll_tx(now, &mut frame)
        {
            let posted = self.tx.send(&frame[..len], 0, Checksums::None, |_| {});
            self.count_not_sent(posted);
        }
        self.tx.ring_doorbell(&*self.platform);
        self.watch_ring(now, sent.frames != 0);
        worked | (self.tx.frames() != before)
    }

    fn count_not_sent(&mut self, posted: Result<(), SendError>) {
        if let Err(error) = posted {
            self.counters.not_sent += 1;
            log::debug!("frame not sent: {error}");
        }
    }

    /// A ring that somebody waits for must move.
    fn watch_ring(&mut self, now: Duration, moved: bool) {
        let full = !self.sending.is_empty() && !self.tx.has_room();
        match self.ring_full_since {
            Some(since) if full && !moved => {
                let waited = now.saturating_sub(since);
                if waited >= SEND_PATIENCE && self.broken.is_none() {
                    self.fail(now, format!("the send queue is full and has completed nothing for {waited:?}"));
                }
            }
            _ => self.ring_full_since = full.then_some(now),
        }
    }

    /// Gives every connection of the list its turn. True if a connection has to be run because of it.
    fn send_all(&mut self, now: Duration) -> bool {
        let mut worked = false;
        let mut list = std::mem::take(&mut self.sending);
        let mut waiting = std::mem::take(&mut self.blocked);
        let mut parties = list.drain(..);
        let mut cut = None;
        for party in parties.by_ref() {
            let outcome = match party {
                Party::Live(index) => self.send_connection(index, now),
                Party::Lingering(index) => self.send_lingering(index, now),
            };
            match outcome {
                Outcome::Done(_) | Outcome::Unreachable => {}
                Outcome::Resolving => waiting.push(party),
                Outcome::Full => {
                    cut = Some(party);
                    break;
                }
            }
            worked |= !self.busy.is_empty();
        }
        // Those whose turn has not come are first next time, the one that filled the ring is last.
        waiting.splice(0..0, parties);
        waiting.extend(cut);
        waiting.append(&mut self.sending);
        (self.sending, self.blocked) = (waiting, list);
        worked
    }

    /// Moves what a connection has to say to the send queue, as far as there is room, and sets its timer.
    fn send_connection(&mut self, index: u32, now: Duration) -> Outcome {
        let outcome = loop {
            let moved = self.feed(index);
            let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return Outcome::Done(false) };
            let connection: &mut Connection = connection;
            let mut wire =
                Wire { tx: &mut self.tx, interface: &mut self.interface, not_sent: &mut self.counters.not_sent };
            let outcome = wire.drain(now, &connection.tuple, &mut connection.tcp);
            if moved == 0 || outcome != Outcome::Done(true) {
                break outcome;
            }
        };
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return Outcome::Done(false) };
        connection.blocked = matches!(outcome, Outcome::Full | Outcome::Resolving);
        connection.sending = connection.blocked;
        if outcome == Outcome::Unreachable {
            let remote = connection.tuple.remote;
            connection.end(Disconnect::Unreachable(remote), now);
        }
        // TCP's timers run when it is asked for segments: this is where it gives up.
        let over = connection.ended.is_none() && (connection.tcp.error().is_some() || connection.tcp.at_end());
        let deadline = connection.deadline();
        self.timers.set(Party::Live(index).key(), deadline);
        if over || outcome == Outcome::Unreachable {
            self.mark(index);
        }
        outcome
    }

    /// Moves what a connection's L5P has to say to TCP, as far as TCP has room; returns how many bytes.
    pub(super) fn feed(&mut self, index: u32) -> usize {
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return 0 };
        let connection: &mut Connection = connection;
        let room = connection.tcp.send_room().min(self.scratch.len());
        let Some(queue) = connection.l5p.host_queue().filter(|queue| room > 0 && queue.has_output()) else { return 0 };
        let offloaded = connection.offload.and_then(|q| self.offloads.as_mut()?.memory(q, &self.buffers.pool));
        let memory = match offloaded {
            Some(memory) => memory,
            None => Memory::new(&self.buffers.pool, &mut connection.tags, &mut connection.stats),
        };
        let was_ready = queue.is_ready();
        let moved = queue.transmit(&memory, &mut self.scratch[..room]);
        // The payload of a write could not be read: the queue has failed.
        let failed = was_ready && !queue.is_ready();
        let accepted = connection.tcp.send(&self.scratch[..moved]);
        debug_assert_eq!(accepted, moved, "TCP had said that it has room");
        if failed {
            self.mark(index);
        }
        moved
    }

    /// The same for a connection that closes, which has nothing but TCP; it ends here when it is over.
    fn send_lingering(&mut self, index: u32, now: Duration) -> Outcome {
        let Some(Some(closing)) = self.lingering.slots.get_mut(index as usize) else { return Outcome::Done(false) };
        let mut wire = Wire { tx: &mut self.tx, interface: &mut self.interface, not_sent: &mut self.counters.not_sent };
        let outcome = wire.drain(now, &closing.tuple, &mut closing.tcp);
        let waits = matches!(outcome, Outcome::Full | Outcome::Resolving);
        closing.sending = waits;
        let late = now >= closing.until && waits;
        if late || (closing.tcp.state() == State::Closed && !waits) || outcome == Outcome::Unreachable {
            self.end_lingering(index);
            return Outcome::Done(false);
        }
        let tcp = closing.tcp.next_deadline().filter(|_| !waits);
        let deadline = tcp.map_or(closing.until, |tcp| tcp.min(closing.until));
        self.timers.set(Party::Lingering(index).key(), Some(deadline));
        outcome
    }
}
