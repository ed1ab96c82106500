//! Requests of the caller: begun, completed, given back; and connections ended.

use super::connection::{Connection, L5p, Pending};
use super::{Completion, ConnectionId, Disconnect, Event, Refused, Shard};
use crate::ddp::contract::{Offload, SetupError, Teardown};
use crate::ddp::tags::Released;
use crate::dma::IoBuf;
use crate::nvme::command::Request;
use crate::nvme::controller::ControllerEvent;
use crate::nvme::queue::{self, DigestBy};
use crate::nvme::status::Status;
use crate::platform::Platform;
use crate::tcp::State;
use std::time::Duration;

/// Which way the data of a request goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

impl<P: Platform> Shard<P> {
    /// Begins a read into `buffer`, whose length is that of `request`
    /// ([`Request::read`]). [`Event::Completed`] with `token` gives the buffer back. If the request is refused it comes
    /// back at once.
    pub fn read(
        &mut self,
        id: ConnectionId,
        request: Request,
        buffer: IoBuf,
        token: u64,
    ) -> Result<(), (Refused, IoBuf)> {
        self.begin(id, request, buffer, token, Direction::Read)
    }

    /// Begins a write from `buffer`, whose length is that of `request` ([`Request::write`]). As [`Shard::read`].
    pub fn write(
        &mut self,
        id: ConnectionId,
        request: Request,
        buffer: IoBuf,
        token: u64,
    ) -> Result<(), (Refused, IoBuf)> {
        self.begin(id, request, buffer, token, Direction::Write)
    }

    fn begin(
        &mut self,
        id: ConnectionId,
        request: Request,
        buffer: IoBuf,
        token: u64,
        direction: Direction,
    ) -> Result<(), (Refused, IoBuf)> {
        let now = self.platform.now();
        let Some(Some(connection)) = self.connections.get_mut(id.0 as usize) else {
            return Err((Refused::NotReady, buffer));
        };
        let connection = &mut **connection;
        let L5p::Io(queue) = &mut connection.l5p else { return Err((Refused::NotReady, buffer)) };
        if !queue.is_ready() || connection.closing || connection.ended.is_some() {
            return Err((Refused::NotReady, buffer));
        }
        let bytes = u64::from(request.data.len());
        if buffer.len() as u64 != bytes {
            return Err((Refused::Length { buffer: buffer.len(), request: bytes }, buffer));
        }
        let Some(cid) = queue.allocate_cid() else { return Err((Refused::Busy, buffer)) };
        // The tag is bound before the command exists: the answer cannot overtake the binding.
        let held = match (connection.offload, &mut self.offloads, direction) {
            (Some(offload), Some(offloads), Direction::Read) => offloads.setup(offload, cid, buffer).map(drop),
            (Some(offload), Some(offloads), Direction::Write) => offloads.hold(offload, cid, buffer),
            _ => connection.tags.pin(cid, buffer).map_err(SetupError::from),
        };
        if let Err(error) = held {
            let (why, buffer) = match error {
                SetupError::NoSuchQueue { buffer, .. } => (Refused::NotReady, buffer),
                SetupError::NotPinned(refused) => (Refused::Tag(refused.why), refused.buffer),
            };
            if let Err(error) = queue.release(cid) {
                log::error!("{error}");
            }
            return Err((why, buffer));
        }
        connection.requests[usize::from(cid)] = Some(Pending { token, done: None });
        if let Err(error) = queue.submit(cid, request, now) {
            // The buffer may be bound by now, so it comes back as after a failed command.
            log::debug!("command {cid} refused: {error}");
            let failed = queue::Completion {
                cid,
                status: Status::ABORTED_BY_HOST,
                result: 0,
                placed: 0,
                copied: 0,
                digest_by: DigestBy::None,
                cancelled: false,
            };
            self.on_completed(id.0, failed);
        }
        self.mark(id.0);
        Ok(())
    }

    /// Closes a connection: an admin connection shuts the controller down first. [`Event::Disconnected`] follows.
    pub fn close_connection(&mut self, id: ConnectionId) {
        let now = self.platform.now();
        if let Some(Some(connection)) = self.connections.get_mut(id.0 as usize) {
            if !std::mem::replace(&mut connection.closing, true)
                && let L5p::Admin(controller) = &mut connection.l5p
            {
                controller.shutdown(now);
            }
            self.mark(id.0);
        }
    }

    /// The controller has answered: the device is asked to forget the buffer, if it knows it.
    fn on_completed(&mut self, index: u32, done: queue::Completion) {
        let cid = done.cid;
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        match connection.requests.get_mut(usize::from(cid)) {
            Some(Some(pending)) => pending.done = Some(done),
            _ => return log::error!("command {cid} completed without a request"),
        }
        let released = match (connection.offload, &mut self.offloads) {
            (Some(offload), Some(offloads)) => match offloads.teardown(offload, cid) {
                Ok(Teardown::Pending) => return,
                Ok(Teardown::Done(released)) => Ok(released),
                Err(error) => Err(error.to_string()),
            },
            _ => connection.tags.release(cid).map_err(|error| error.to_string()),
        };
        match released {
            Ok(released) => self.give_out(index, released),
            Err(error) => log::error!("the buffer of command {cid} does not come back: {error}"),
        }
    }

    /// A buffer that the device cannot write any more goes back to the caller, with the answer of its command.
    pub(super) fn give_out(&mut self, index: u32, released: Released) {
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        let (cid, suspect) = (released.tag(), released.is_suspect());
        let Some(Some(pending)) = connection.requests.get_mut(usize::from(cid)).map(Option::take) else {
            return log::error!("the buffer of command {cid} came back without a request");
        };
        let L5p::Io(queue) = &mut connection.l5p else { return };
        if let Err(error) = queue.release(cid) {
            log::debug!("command {cid}: {error}");
        }
        let completion = completion(pending, suspect, Some(released.into_buffer()));
        self.events.push_back(Event::Completed(ConnectionId(index), completion));
    }

    pub(super) fn run_busy(&mut self, now: Duration) -> bool {
        let mut worked = false;
        let list = std::mem::take(&mut self.busy);
        for &index in &list {
            if let Some(Some(connection)) = self.connections.get_mut(index as usize) {
                connection.busy = false;
                self.run(index, now);
                worked = true;
            }
        }
        // What was marked meanwhile runs in the next poll; the list's memory is kept.
        let marked = std::mem::replace(&mut self.busy, list);
        self.busy.clear();
        self.busy.extend(marked);
        worked
    }

    /// Lets a connection's protocols do what is due, and passes on what they report.
    fn run(&mut self, index: u32, now: Duration) {
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        let connection = &mut **connection;
        if matches!(connection.l5p, L5p::Waiting(_)) && connection.tcp.state() == State::Established {
            connection.start(now);
        }
        let id = ConnectionId(index);
        if lost(connection) {
            // What ended TCP says more than what the L5P makes of it.
            if let Some(error) = connection.tcp.error() {
                connection.ended.get_or_insert(Disconnect::Tcp(error));
            }
            match &mut connection.l5p {
                L5p::Waiting(_) => {}
                L5p::Admin(controller) => controller.connection_closed(),
                L5p::Io(queue) => queue.connection_closed(),
            }
        }
        let mut completed = Vec::new();
        match &mut connection.l5p {
            L5p::Waiting(_) => {}
            L5p::Admin(controller) => {
                while let Some(event) = controller.poll(now) {
                    match event {
                        ControllerEvent::Ready => self.events.push_back(Event::ControllerReady(id)),
                        ControllerEvent::Down => self.events.push_back(Event::ControllerDown(id)),
                        ControllerEvent::Failed(error) => {
                            connection.ended.get_or_insert(Disconnect::Controller(error));
                        }
                    }
                }
                if connection.closing && !controller.is_ready() && controller.queue().outstanding() == 0 {
                    connection.ended.get_or_insert(Disconnect::Closed);
                }
            }
            L5p::Io(queue) => {
                queue.poll_deadline(now);
                while let Some(event) = queue.poll_event() {
                    match event {
                        queue::Event::Ready { .. } => self.events.push_back(Event::QueueReady(id)),
                        queue::Event::Completed(done) => completed.push(done),
                        queue::Event::Resync { seq } => {
                            if let (Some(offload), Some(offloads)) = (connection.offload, &mut self.offloads) {
                                offloads.resync(offload, seq);
                            }
                        }
                        queue::Event::Failed(reason) => {
                            connection.ended.get_or_insert(Disconnect::Protocol(reason));
                        }
                    }
                }
                if connection.closing && queue.outstanding() == 0 {
                    connection.ended.get_or_insert(Disconnect::Closed);
                }
            }
        }
        for done in completed {
            self.on_completed(index, done);
        }
        self.finish_if_ended(index, now);
    }

    /// Ends a connection that has ended: nothing is left to send, every request has come back.
    fn finish_if_ended(&mut self, index: u32, now: Duration) {
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        if connection.ended.is_none() {
            if let Some(error) = connection.tcp.error() {
                connection.ended = Some(Disconnect::Tcp(error));
            } else if connection.tcp.at_end() || connection.tcp.state() == State::Closed {
                connection.ended = Some(Disconnect::ClosedByPeer);
            } else {
                return;
            }
        }
        // The last words (H2CTermReq) leave before the FIN does.
        let last_words = connection.host_queue().is_some_and(|queue| queue.has_output());
        if last_words && connection.tcp.send_room() > 0 && connection.tcp.error().is_none() {
            return;
        }
        let failed = matches!(&connection.ended, Some(Disconnect::Offload(_) | Disconnect::Function(_)));
        let waits = connection.requests.iter().any(Option::is_some);
        if waits && !failed {
            return;
        }
        self.remove_offload(index);
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        // The peer needs no more than a FIN, which TCP repeats for as long as it takes; nobody here waits for TIME-WAIT.
        connection.tcp.close();
        self.send_connection(index, now);
        let Some(mut connection) = self.connections.get_mut(index as usize).and_then(Option::take) else { return };
        for frame in connection.tcp.drain() {
            self.pool.give_back(frame.into_buffer());
        }
        self.by_tuple.remove(&connection.tuple);
        // What is still pinned without an offload queue is unknown to the device.
        for cid in 0..connection.requests.len() as u32 {
            let Some(pending) = connection.requests[cid as usize].take() else { continue };
            let buffer = connection.tags.release(cid as u16).ok().map(Released::into_buffer);
            self.events.push_back(Event::Completed(ConnectionId(index), completion(pending, true, buffer)));
        }
        let why = connection.ended.take().unwrap_or(Disconnect::Closed);
        self.events.push_back(Event::Disconnected(ConnectionId(index), why));
    }

    /// Takes a connection off the offload (`sk_del`): what the device had placed is read first.
    pub(super) fn remove_offload(&mut self, index: u32) {
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        let Some(queue) = connection.offload.take() else { return };
        self.by_queue.remove(&queue);
        let Some(offloads) = &mut self.offloads else { return };
        let mut device = offloads.with(&mut self.adapter, &mut self.steering, &*self.platform, &self.base);
        let Some(removed) = device.sk_del(queue) else { return };
        for error in &removed.errors {
            log::error!("offload queue {queue}: {error}");
        }
        for released in removed.released {
            self.give_out(index, released);
        }
        if let Some(kept) = removed.quarantined {
            log::error!("{} buffers stay with the device until it is reset", kept.held());
            drop(kept);
        }
    }
}

/// True if nothing more can come from the peer.
fn lost(connection: &Connection) -> bool {
    connection.tcp.error().is_some() || connection.tcp.at_end() || connection.tcp.state() == State::Closed
}

fn completion(pending: Pending, suspect: bool, buffer: Option<IoBuf>) -> Completion {
    let none = DigestBy::None;
    let (status, placed, copied, digest_by) = match &pending.done {
        Some(done) => (done.status, done.placed, done.copied, done.digest_by),
        None => (Status::HOST_PATHING_ERROR, 0, 0, none),
    };
    // A buffer into which the device wrote what does not belong there cannot be a success.
    let status = if suspect && status.is_success() { Status::TRANSIENT_TRANSPORT_ERROR } else { status };
    Completion { token: pending.token, status, placed, copied, digest_by, buffer }
}
