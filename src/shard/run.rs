//! Connections at work: their protocols do what is due, and what they report is passed on; and how connections end.

use super::connection::{Connection, L5p};
use super::linger::Party;
use super::quarantine::{NoFirmware, Quarantined};
use super::receive::RECEIVE_BUDGET;
use super::{Disconnect, Event, Shard};
use crate::ddp::contract::Offload;
use crate::ddp::create::Removed;
use crate::ddp::tags::Released;
use crate::ddp::why::Reasons;
use crate::nvme::controller::ControllerEvent;
use crate::nvme::queue;
use crate::observe::What;
use crate::platform::Platform;
use std::time::Duration;

impl<P: Platform> Shard<P> {
    /// The connection is to be run before the poll ends, or in the next one.
    pub(super) fn mark(&mut self, index: u32) {
        if let Some(Some(connection)) = self.connections.get_mut(index as usize)
            && !std::mem::replace(&mut connection.busy, true)
        {
            self.busy.push(index);
        }
    }

    /// Those whose time has come. True if there were any.
    pub(super) fn wake_due(&mut self, now: Duration) -> bool {
        let mut any = false;
        while let Some(key) = self.timers.pop_due(now) {
            any = true;
            match Party::of(key) {
                Party::Live(index) => self.mark(index),
                Party::Lingering(index) => self.wake_lingering(index, now),
            }
        }
        any
    }

    pub(super) fn run_busy(&mut self, now: Duration) -> bool {
        // What is marked meanwhile runs in the next poll.
        std::mem::swap(&mut self.busy, &mut self.running);
        let list = std::mem::take(&mut self.running);
        for &index in &list {
            if let Some(Some(connection)) = self.connections.get_mut(index as usize)
                && std::mem::take(&mut connection.busy)
            {
                self.run(index, now);
                self.send_later(index);
            }
        }
        let worked = !list.is_empty();
        self.running = list;
        self.running.clear();
        worked
    }

    /// The connection may have something to say; its timer is set when it was asked.
    fn send_later(&mut self, index: u32) {
        if let Some(Some(connection)) = self.connections.get_mut(index as usize)
            && !std::mem::replace(&mut connection.sending, true)
        {
            self.sending.push(Party::Live(index));
        }
    }

    /// Lets a connection's protocols do what is due, and passes on what they report.
    fn run(&mut self, index: u32, now: Duration) {
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        connection.start_if_connected(now);
        // The L5P first: a controller that says why it ends the connection and then closes it says more than its FIN does.
        self.poll_l5p(index, now);
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        connection.look_for_end(now);
        if connection.closing && connection.ended.is_none() && connection.may_close(now) {
            connection.end(Disconnect::Closed, now);
        }
        if connection.ended.is_some() {
            connection.l5p.connection_closed();
            self.poll_l5p(index, now);
        }
        if self.may_finish(index, now) {
            self.finish(index, now);
        }
    }

    /// Passes on what a connection's L5P reports.
    fn poll_l5p(&mut self, index: u32, now: Duration) {
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        let connection: &mut Connection = connection;
        let mut completed = std::mem::take(&mut self.completed);
        let id = connection.id;
        let mut why = None;
        match &mut connection.l5p {
            L5p::Waiting(_) => {}
            L5p::Admin(controller) => {
                while let Some(event) = controller.poll(now) {
                    match event {
                        ControllerEvent::Ready => {
                            self.events.push_back(Event::ControllerReady(id));
                            self.log.note(now, Some(id.serial), What::ConnectionReady);
                        }
                        ControllerEvent::Down => {
                            connection.down = true;
                            self.events.push_back(Event::ControllerDown(id));
                        }
                        ControllerEvent::Failed(error) => why = Some(Disconnect::Controller(error)),
                    }
                }
            }
            L5p::Io(queue) => {
                queue.poll_deadline(now);
                while let Some(event) = queue.poll_event() {
                    match event {
                        queue::Event::Ready { .. } => {
                            self.events.push_back(Event::QueueReady(id));
                            self.log.note(now, Some(id.serial), What::ConnectionReady);
                        }
                        queue::Event::Completed(done) => completed.push(done),
                        queue::Event::Resync { seq } => {
                            if let (Some(offload), Some(offloads)) = (connection.offload, &mut self.offloads) {
                                offloads.resync(offload, seq);
                                let what = What::ResyncConfirmed { queue: offload, sequence: seq };
                                self.log.note(now, Some(id.serial), what);
                            }
                        }
                        queue::Event::Failed(reason) => why = Some(Disconnect::Protocol(reason)),
                    }
                }
            }
        }
        if let Some(why) = why {
            connection.end(why, now);
        }
        for done in completed.drain(..) {
            self.on_completed(index, done, now);
        }
        self.completed = completed;
    }

    /// True if a connection has ended and nothing is left that is worth waiting for.
    fn may_finish(&mut self, index: u32, now: Duration) -> bool {
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return false };
        let Some(why) = &connection.ended else { return false };
        // Buffers come back by themselves, unless the device is what failed.
        if connection.under_way != 0 && !why.is_of_device() && now < connection.ending_until() {
            return false;
        }
        // The last words (H2CTermReq) leave before the FIN does.
        while self.feed(index) != 0 {}
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return false };
        let late = now >= connection.ending_until();
        let deaf = connection.tcp.error().is_some();
        late || deaf || !connection.host_queue().is_some_and(|queue| queue.has_output())
    }

    /// Ends a connection that nobody waits for any more.
    pub(super) fn cut_off(&mut self, index: u32, now: Duration) {
        if let Some(Some(connection)) = self.connections.get_mut(index as usize) {
            connection.end(Disconnect::Closed, now);
            connection.tcp.abort();
            connection.l5p.connection_closed();
            self.poll_l5p(index, now);
            self.finish(index, now);
        }
    }

    /// Ends a connection: it is taken off the offload, its requests come back, its TCP goes on alone until the peer knows.
    pub(super) fn finish(&mut self, index: u32, now: Duration) {
        self.remove_offload(index, now);
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        for cid in 0..connection.requests.len() as u32 {
            let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
            if connection.requests[cid as usize].is_none() {
                continue;
            }
            // What is still pinned without an offload queue is unknown to the device. What was in one and did not come back
            // stays with the device.
            let released = connection.tags.release(cid as u16).ok();
            match released {
                Some(released) => self.give_out(index, released, now),
                None => self.complete(index, cid as u16, true, Reasons::default(), None, now),
            }
        }
        let Some(mut connection) = self.connections.get_mut(index as usize).and_then(Option::take) else { return };
        self.free.push(index);
        self.timers.set(Party::Live(index).key(), None);
        self.past.offload += &connection.stats;
        self.past.add_queue(&connection);
        let why = connection.ended.take().unwrap_or(Disconnect::Closed);
        self.counters.connections_ended.count(why.kind());
        // What befell the function was noted once, for all its connections.
        let detail = match &why {
            Disconnect::Function(_) => "the function, or a queue that all connections share, has failed".into(),
            why => crate::observe::text(why),
        };
        let what = What::ConnectionEnded { kind: why.kind().name(), why: detail };
        self.note(now, Some(connection.id), what);
        // A device that failed may have lost what the stream stands on: the peer is not told that all was well.
        match why.is_of_device() {
            true => connection.tcp.abort(),
            false => connection.tcp.close(),
        }
        self.linger(connection.tuple, connection.tcp, now);
        self.events.push_back(Event::Disconnected(connection.id, why));
    }

    /// Takes a connection off the offload (`nvme-tcp-offload.md` §7.8, our order): its rule goes, what the device had
    /// placed before is read while its tags still mean what they meant, tags are asked back, and then the objects go.
    pub(super) fn remove_offload(&mut self, index: u32, now: Duration) {
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        let Some(queue) = connection.offload else { return };
        if let (Some(offloads), false) = (&mut self.offloads, self.dead) {
            let mut device = offloads.with(&mut self.adapter, &mut self.steering, &*self.platform, &self.base);
            if let Err(error) = device.stop(queue) {
                log::error!("offload queue {queue}: {error}");
            }
            // One lap at most: others' packets keep coming.
            for _ in 0..self.cq.entries().div_ceil(RECEIVE_BUDGET) {
                if !self.poll_receive(now) {
                    break;
                }
            }
        }
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        connection.offload = None;
        self.by_queue.remove(&queue);
        let Some(removed) = self.delete(index, queue) else { return };
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        connection.past += &removed.stats;
        let id = Some(connection.id);
        self.note(now, id, What::OffloadRemoved { queue });
        if let Some(tags) = &removed.quarantined {
            let buffers = tags.held();
            self.counters.quarantined += u64::from(buffers);
            self.note(now, id, What::Quarantined { queue, buffers });
        }
        for released in removed.released {
            self.let_go(index, released, now);
        }
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        if let Some(tags) = removed.quarantined {
            log::error!("offload queue {queue}: {} buffers stay with the device until it is reset", tags.held());
            let tokens = connection.requests.iter().map(|pending| pending.as_ref().map(|pending| pending.token));
            self.quarantine.push(Quarantined { tags, tokens: tokens.collect() });
        }
    }

    /// What becomes of a buffer whose offload queue is gone: its request may go on without.
    fn let_go(&mut self, index: u32, released: Released, now: Duration) {
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        let pending = connection.requests.get(usize::from(released.tag())).and_then(Option::as_ref);
        let goes_on = connection.ended.is_none() && pending.is_some_and(|pending| pending.done.is_none());
        if !goes_on {
            return self.give_out(index, released, now);
        }
        let cid = released.tag();
        if let Err(refused) = connection.tags.adopt(released) {
            // Only if the tag was in use twice: nothing was pinned there while the queue was offloaded.
            log::error!("{refused}");
            self.complete(index, cid, true, Reasons::default(), Some(refused.buffer), now);
        }
    }

    /// `sk_del`. A function that does not execute commands is not asked: the queue's buffers stay in quarantine.
    fn delete(&mut self, index: u32, queue: u32) -> Option<Removed> {
        let offloads = self.offloads.as_mut()?;
        let Some(Some(connection)) = self.connections.get(index as usize) else { return None };
        if self.dead {
            let cqn = offloads.queue(queue)?.icosq().cqn();
            // It is not waited for either.
            offloads.on_cq_error(cqn, 0);
            self.past_doorbells += offloads.queue(queue).map_or(0, |queue| queue.icosq().doorbells());
            let mut nobody = NoFirmware(self.adapter.function());
            let mut device = offloads.with(&mut nobody, &mut self.steering, &*self.platform, &self.base);
            return device.sk_del(queue);
        }
        // Asked back here, so that the doorbells are counted.
        for (cid, _) in connection.requests.iter().enumerate().filter(|(_, pending)| pending.is_some()) {
            // What is on its way already is refused, and what was never bound comes back with the others.
            if offloads.queue(queue).is_some_and(|queue| queue.tags().state(cid as u16).is_ok_and(is_bound)) {
                let asked = offloads.teardown(queue, cid as u16);
                log::debug!("command {cid}: {asked:?}");
            }
        }
        offloads.flush(&*self.platform);
        self.past_doorbells += offloads.queue(queue).map_or(0, |queue| queue.icosq().doorbells());
        let mut device = offloads.with(&mut self.adapter, &mut self.steering, &*self.platform, &self.base);
        let removed = device.sk_del(queue)?;
        Some(removed)
    }
}

fn is_bound(state: crate::ddp::tags::State) -> bool {
    state == crate::ddp::tags::State::Bound
}
