//! From the receive completion queue to the L5P.

use super::Shard;
use super::connection::L5p;
use crate::ddp::memory::Memory;
use crate::ddp::rebuild::Rebuilt;
use crate::frame::Frame;
use crate::net::{Checksum, HEADROOM, Received};
use crate::platform::Platform;
use crate::queue::CompletionFault;
use crate::tcp::Segment;
use hw_regs::cqe::OffloadCqe;
use std::time::Duration;

/// Completions that one poll takes: others get their turn.
const BUDGET: u32 = 256;

impl<P: Platform> Shard<P> {
    pub(super) fn poll_receive(&mut self, now: Duration) -> bool {
        let mut entry = super::blank();
        let mut taken = 0;
        while taken < BUDGET && self.cq.poll_into(&mut entry) {
            taken += 1;
            self.on_completion(now, &entry);
        }
        if taken == 0 {
            return false;
        }
        self.cq.update();
        self.rq.post(&mut self.pool);
        true
    }

    fn on_completion(&mut self, now: Duration, entry: &OffloadCqe) {
        self.counters.packets_rx += 1;
        let buffer = match self.rq.accept(entry) {
            Ok(buffer) => buffer,
            Err(fault) => return self.on_fault(fault),
        };
        let capacity = self.pool.buffer_size();
        let rebuilt = match &mut self.offloads {
            Some(offloads) => offloads.receive(entry, buffer, capacity),
            None => crate::ddp::rebuild::plain(entry, buffer, capacity).map(|frame| Rebuilt { frame, resync: None }),
        };
        match rebuilt {
            Ok(Rebuilt { frame, resync }) => self.on_frame(now, frame, resync),
            Err(rejected) => {
                self.counters.bad_completions += 1;
                self.pool.give_back(rejected.buffer);
            }
        }
    }

    #[cold]
    fn on_fault(&mut self, fault: CompletionFault) {
        match fault {
            CompletionFault::Bad(bad) => {
                self.counters.bad_completions += 1;
                log::debug!("{bad}");
            }
            CompletionFault::Failed(error) => {
                self.counters.queue_errors += 1;
                if !error.is_flush() {
                    self.fail(format!("receive queue: {error}"));
                }
            }
        }
    }

    fn on_frame(&mut self, now: Duration, mut frame: Frame, resync: Option<u32>) {
        let mut head = [0; HEADROOM];
        // The hole holds stale bytes: headers are read in front of it only.
        let n = (frame.contiguous_front() as usize).min(HEADROOM);
        self.pool.read(frame.buffer(), frame.start(), &mut head[..n]);
        let Received::Tcp(tcp) = self.interface.receive(now, frame.len(), &head[..n], Checksum::Device) else {
            return self.pool.give_back(frame.into_buffer());
        };
        if !frame.checksum_ok() {
            self.counters.bad_checksums += 1;
            return self.pool.give_back(frame.into_buffer());
        }
        let Some(&index) = self.by_tuple.get(&tcp.tuple) else {
            self.counters.no_connection += 1;
            return self.pool.give_back(frame.into_buffer());
        };
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else {
            return self.pool.give_back(frame.into_buffer());
        };
        // A placed run is in the buffers of the queue that the device named; it means nothing to another connection.
        if frame.placed_len() != 0 && connection.offload != Some(frame.queue()) {
            self.counters.foreign_placements += 1;
            return self.pool.give_back(frame.into_buffer());
        }
        if let (Some(sequence), L5p::Io(queue)) = (resync, &mut connection.l5p) {
            queue.resync_request(sequence);
        }
        tcp.trim(&mut frame);
        connection.tcp.on_segment(now, Segment { header: tcp.header, payload: frame }, &mut self.unused);
        for unused in self.unused.drain(..) {
            self.pool.give_back(unused.into_buffer());
        }
        while let Some((position, frame)) = connection.tcp.recv() {
            let sequence = position.wire();
            let offloaded = connection.offload.and_then(|q| self.offloads.as_mut()?.memory(q, &self.pool));
            let mut memory = match offloaded {
                Some(memory) => memory,
                None => Memory::new(&self.pool, &mut connection.tags, &mut connection.stats),
            };
            match &mut connection.l5p {
                L5p::Waiting(_) => {}
                L5p::Admin(controller) => controller.queue().receive_frame(sequence, &frame, &mut memory),
                L5p::Io(queue) => queue.receive_frame(sequence, &frame, &mut memory),
            }
            self.pool.give_back(frame.into_buffer());
        }
        self.mark(index);
    }
}
