//! From the L5P to the wire.

use super::Shard;
use super::connection::L5p;
use crate::ddp::memory::Memory;
use crate::net::{Checksum, HEADROOM, Resolution};
use crate::platform::Platform;
use crate::queue::{Checksums, SendError};
use std::time::Duration;

/// Bytes of an ARP frame.
const ARP_BYTES: usize = crate::net::arp::FRAME_LEN;

impl<P: Platform> Shard<P> {
    pub(super) fn poll_transmit(&mut self, now: Duration) -> bool {
        let sent = self.tx.poll(|_| {});
        if let Some(failure) = sent.failure {
            self.counters.queue_errors += 1;
            self.fail(format!("send queue: {failure}"));
        }
        let before = self.tx.frames();
        // Bindings before the commands that rely on them.
        let mut worked = sent.frames != 0;
        worked |= self.offloads.as_mut().is_some_and(|offloads| offloads.flush(&*self.platform) != 0);
        for index in 0..self.connections.len() as u32 {
            self.send_connection(index, now);
        }
        let mut frame = [0; ARP_BYTES];
        while self.tx.has_room()
            && let Some(len) = self.interface.poll_tx(now, &mut frame)
        {
            let posted = self.tx.send(&frame[..len], 0, Checksums::None, |_| {});
            self.count_not_sent(posted);
        }
        self.tx.ring_doorbell(&*self.platform);
        worked | (self.tx.frames() != before)
    }

    fn count_not_sent(&mut self, posted: Result<(), SendError>) {
        if let Err(error) = posted {
            self.counters.not_sent += 1;
            log::debug!("frame not sent: {error}");
        }
    }

    /// Moves what a connection has to say to the send queue, as far as there is room.
    pub(super) fn send_connection(&mut self, index: u32, now: Duration) {
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        let connection = &mut **connection;
        // What TCP gives out counts as sent, so it is asked only if the next hop and the ring are ready.
        match self.interface.resolve(now, connection.tuple.remote) {
            Resolution::Ready(_) => {}
            Resolution::Pending | Resolution::Unreachable => return,
        }
        loop {
            let offloaded = connection.offload.and_then(|q| self.offloads.as_mut()?.memory(q, &self.pool));
            let memory = match offloaded {
                Some(memory) => memory,
                None => Memory::new(&self.pool, &mut connection.tags, &mut connection.stats),
            };
            let queue = match &mut connection.l5p {
                L5p::Waiting(_) => None,
                L5p::Admin(controller) => Some(controller.queue()),
                L5p::Io(queue) => Some(&mut **queue),
            };
            let room = connection.tcp.send_room().min(self.scratch.len());
            let moved = match queue {
                Some(queue) if room > 0 && queue.has_output() => queue.transmit(&memory, &mut self.scratch[..room]),
                _ => 0,
            };
            let accepted = connection.tcp.send(&self.scratch[..moved]);
            debug_assert_eq!(accepted, moved, "TCP had said that it has room");
            let mut sent = false;
            while self.tx.has_room()
                && let Some(segment) = connection.tcp.poll_tx(now)
            {
                let mut header = [0; HEADROOM];
                let built = self.interface.emit_tcp(
                    now,
                    &connection.tuple,
                    &segment.header,
                    segment.payload,
                    Checksum::Device,
                    &mut header,
                );
                let posted = match built {
                    Ok(len) => {
                        let [first, second] = segment.payload;
                        let fill = |slot: &mut crate::queue::PayloadSlot<'_>| {
                            slot.write(0, first);
                            slot.write(first.len(), second);
                        };
                        let bytes = segment.payload_len();
                        self.tx.send(&header[..len], bytes, Checksums::IpAndTransport, fill)
                    }
                    Err(error) => {
                        log::debug!("segment not built: {error}");
                        self.counters.not_sent += 1;
                        continue;
                    }
                };
                if posted.is_err() {
                    self.counters.not_sent += 1;
                }
                sent = true;
            }
            if moved == 0 || !sent {
                return;
            }
        }
    }
}
