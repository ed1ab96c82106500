//! From the receive completion queue to the L5P.
//!
//! A poll reaps the control rings first and reads the receive queue after that, because the completions of packets that
//! were placed before a tag was unbound lie in front of the unbind's. A forgotten tag may be used again only when they
//! have been read: when the receive queue ran dry, or as many entries were read as it has. A poll that stops at its budget
//! leaves that to the next one, which then reaps nothing new.

use super::Shard;
use super::completions::RxCompletions;
use super::connection::Connection;
use super::failure::Cause;
use super::linger::Party;
use crate::ddp::device::Received as Completion;
use crate::ddp::memory::Memory;
use crate::ddp::policy::{Adaptive, TimedCopies, Work};
use crate::ddp::rebuild::{Rebuilt, Rejected, plain};
use crate::frame::{Bypass, Frame};
use crate::net::{Checksum, HEADROOM, Received};
use crate::observe::What;
use crate::platform::Platform;
use crate::queue::CompletionFault;
use crate::tcp::Segment;
use hw_regs::cqe::OffloadCqe;
use hw_regs::layout::Layout;
use std::time::Duration;

/// Packets that one poll takes: connections, bindings and the send queue get their turn. See
/// [`Config::log_rx`](super::Config::log_rx).
pub const RECEIVE_BUDGET: u32 = 256;

/// Entries that are read before their packets are looked into: what is true of many of them in a row is then asked once.
pub(super) const BURST: u32 = 64;

impl<P: Platform> Shard<P> {
    /// Reaps the control rings, unless what was reaped last still waits for the receive queue.
    pub(super) fn reap(&mut self) -> bool {
        if self.unread != 0 {
            return false;
        }
        self.unread = self.cq.entries();
        let Some(offloads) = &mut self.offloads else { return false };
        let started = self.adaptive.as_ref().and_then(|adaptive| adaptive.start(&*self.platform));
        let completions = offloads.poll();
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.stop(&*self.platform, started, Work::Reap(completions));
        }
        completions != 0
    }

    /// Reads the receive queue, at most [`RECEIVE_BUDGET`] entries, and takes it back to work if it has failed. True if
    /// there was anything to do.
    pub(super) fn poll_receive(&mut self, now: Duration) -> bool {
        let mut taken = 0;
        while taken < RECEIVE_BUDGET {
            let limit = BURST.min(RECEIVE_BUDGET - taken);
            let read = self.read_burst(limit);
            taken += read;
            // Taken out, because a packet is everybody's business.
            let mut burst = std::mem::take(&mut self.burst);
            for received in burst.drain(..) {
                self.on_received(now, received);
            }
            self.burst = burst;
            if read < limit {
                break;
            }
        }
        let dry = taken < RECEIVE_BUDGET;
        self.unread = if dry { 0 } else { self.unread.saturating_sub(taken) };
        if taken != 0 {
            self.cq.update();
        }
        let mut worked = taken != 0;
        if dry && self.rq.has_failed() && self.broken.is_none() {
            // Time may have passed: whoever asks for the next deadline must not find it in the past.
            worked = true;
            self.recover_receive(now, Cause::Completion);
        }
        // Also if nothing was taken: buffers may have come back from elsewhere since the pool was empty.
        if self.rq.posted() < self.rq.capacity() {
            self.rq.post(&mut self.buffers.pool);
            let starved = self.rq.posted() < self.rq.capacity() / 2 && self.buffers.has_free();
            if starved && dry && self.broken.is_none() {
                worked = true;
                self.recover_receive(now, Cause::Starved);
            }
        }
        worked
    }

    /// Reads at most `limit` entries into `burst`. Returns how many.
    fn read_burst(&mut self, limit: u32) -> u32 {
        let (rq, burst) = (&mut self.rq, &mut self.burst);
        match (&mut self.cq, &mut self.offloads) {
            (RxCompletions::Offload(cq), Some(offloads)) => {
                offloads.receive_burst(cq, rq, limit, |received| burst.push(received))
            }
            // Nothing is ever placed.
            (cq, _) => {
                let mut entry = OffloadCqe::zeroed();
                let mut taken = 0;
                while taken < limit && cq.poll_into(&mut entry) {
                    taken += 1;
                    burst.push(match rq.accept(&entry) {
                        Ok(arrival) => Completion::Packet(Rebuilt { frame: plain(&entry, arrival), resync: None }),
                        Err(fault) => Completion::Fault(fault),
                    });
                }
                taken
            }
        }
    }

    fn on_received(&mut self, now: Duration, received: Completion) {
        if let Completion::Packet(_) | Completion::Rejected(_) = received {
            self.counters.packets_rx += 1;
            self.buffers.note_taken();
        }
        match received {
            Completion::Packet(Rebuilt { frame, resync }) => self.on_frame(now, frame, resync),
            Completion::Rejected(rejected) => self.on_rejected(now, rejected),
            Completion::Fault(fault) => self.on_fault(now, fault),
        }
    }

    /// The packet comes again, late to the device; that it was refused before is remembered until then.
    #[cold]
    fn on_rejected(&mut self, now: Duration, rejected: Rejected) {
        self.counters.bad_completions += 1;
        self.note(now, None, What::CompletionRefused { why: rejected.why.name() });
        let mut head = [0; HEADROOM];
        self.buffers.pool.read(rejected.buffer.0, 0, &mut head);
        if let Some(tcp) = self.interface.locate(&head)
            && let Some(Party::Live(index)) = self.parties.find(&tcp.tuple, 0)
            && let Some(Some(connection)) = self.connections.get_mut(index as usize)
        {
            let next = connection.tcp.rcv_nxt().wire();
            connection.seen.packet(tcp.header.seq, tcp.payload_len, next, self.config.rx_window);
            connection.seen.drop(tcp.header.seq, tcp.payload_len, Bypass::Refused);
        }
        self.buffers.give_back(rejected.buffer);
    }

    #[cold]
    fn on_fault(&mut self, now: Duration, fault: CompletionFault) {
        match fault {
            CompletionFault::Bad(bad) => {
                self.counters.bad_completions += 1;
                self.note(now, None, What::CompletionRefused { why: bad.name() });
                log::debug!("{bad}");
            }
            // The queue is taken back to work when every completion was read.
            CompletionFault::Failed(error) if !error.is_flush() => {
                self.counters.queue_errors += 1;
                let (which, number) = ("receive", self.rq.rqn());
                self.note(now, None, What::QueueFailed { which, number, why: crate::observe::text(&error) });
                log::warn!("receive queue: {error}");
            }
            CompletionFault::Failed(_) => self.counters.flushed += 1,
        }
    }

    fn on_frame(&mut self, now: Duration, mut frame: Frame, resync: Option<u32>) {
        let mut head = [0; HEADROOM];
        // The hole holds stale bytes: headers are read in front of it only.
        let n = (frame.contiguous_front() as usize).min(HEADROOM);
        self.buffers.pool.read(frame.buffer(), frame.start(), &mut head[..n]);
        // Looked at where it is: it is large, and mostly little of it is needed.
        let received = self.interface.receive(now, frame.len(), &head[..n], Checksum::Device);
        let Received::Tcp(tcp) = &received else { return self.buffers.give_back(frame.into_buffer()) };
        if !frame.checksum_ok() {
            self.counters.bad_checksums += 1;
            return self.buffers.give_back(frame.into_buffer());
        }
        let index = match self.parties.find(&tcp.tuple, frame.queue()) {
            Some(Party::Live(index)) => index,
            Some(Party::Lingering(index)) => {
                tcp.trim(&mut frame);
                return self.on_lingering_segment(now, index, Segment { header: tcp.header, payload: frame });
            }
            None => {
                self.counters.no_connection += 1;
                self.buffers.give_back(frame.into_buffer());
                return self.reset_stranger(now, tcp);
            }
        };
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else {
            return self.buffers.give_back(frame.into_buffer());
        };
        let connection: &mut Connection = connection;
        let ours = connection.offload == Some(frame.queue());
        // A placed run is in the buffers of the queue that the device named; it means nothing to another connection.
        if frame.placed_len() != 0 && !ours {
            self.counters.foreign_placements += 1;
            let (id, queue) = (connection.id, frame.queue());
            self.note(now, Some(id), What::ForeignPlacement { queue });
            return self.buffers.give_back(frame.into_buffer());
        }
        // Nor does its word for digests, or a question about another stream.
        let mut frame = match ours {
            true => {
                let (seq, len, next) = (tcp.header.seq, tcp.payload_len, connection.tcp.rcv_nxt().wire());
                match connection.seen.packet(seq, len, next, self.config.rx_window) {
                    false => frame,
                    true => frame.with_bypass(connection.seen.why_late(seq, len)),
                }
            }
            false => {
                self.counters.foreign_digest_marks += u64::from(frame.digest_ok());
                match connection.offload {
                    Some(_) => frame.with_digest_ok(false).with_bypass(Bypass::Unsteered),
                    None => frame.with_digest_ok(false),
                }
            }
        };
        tcp.trim(&mut frame);
        let (buffer, bypass) = (frame.buffer(), frame.bypass());
        let mut next = match connection.tcp.deliver(now, &tcp.header, frame) {
            Ok(next) => Some(next),
            Err(payload) => {
                connection.tcp.on_segment(now, Segment { header: tcp.header, payload }, &mut self.unused);
                for unused in self.unused.drain(..) {
                    // One that brought something new and is not kept comes again, late to the device.
                    if unused.buffer() == buffer && bypass == Bypass::No && ours && tcp.payload_len != 0 {
                        connection.seen.drop(tcp.header.seq, tcp.payload_len, Bypass::NotKept);
                    }
                    self.buffers.give_back(unused.into_buffer());
                }
                connection.start_if_connected(now);
                connection.tcp.recv()
            }
        };
        if let Some(sequence) = resync {
            match (connection.offload.filter(|_| ours), connection.l5p.host_queue()) {
                (Some(queue), Some(l5p)) => {
                    l5p.resync_request(sequence);
                    self.log.note(now, Some(connection.id.serial), What::ResyncAsked { queue, sequence });
                }
                _ => self.counters.foreign_resyncs += 1,
            }
        }
        while let Some((position, frame)) = next {
            if let Some(queue) = connection.l5p.host_queue() {
                let offloaded = connection.offload.and_then(|q| self.offloads.as_mut()?.memory(q, &self.buffers.pool));
                let mut memory = match offloaded {
                    Some(memory) => memory,
                    None => Memory::new(&self.buffers.pool, &mut connection.tags, &mut connection.stats),
                };
                let adaptive = self.adaptive.as_deref_mut().filter(|_| frame.placed().is_none());
                match adaptive.and_then(Adaptive::times_copy) {
                    Some(adaptive) => {
                        let mut memory = TimedCopies::new(memory, adaptive, &*self.platform);
                        queue.receive_frame(position.wire(), &frame, &mut memory);
                    }
                    None => queue.receive_frame(position.wire(), &frame, &mut memory),
                }
            }
            self.buffers.give_back(frame.into_buffer());
            next = connection.tcp.recv();
        }
        self.mark(index);
    }
}
