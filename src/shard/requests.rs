//! Requests of the caller: begun, completed, given back.
//!
//! ```text
//!   read, write ─► cid ─► buffer held, bound if the queue is offloaded ─► command ─► the controller's answer
//!                                                                                         │
//!   Event::Completed ◄── cid free ◄── buffer released ◄── the device has forgotten it ◄── unbind
//! ```

use super::connection::{L5p, Pending};
use super::{Completion, ConnectionId, Event, OffloadPolicy, Refused, Shard};
use crate::ddp::contract::{Setup, SetupError, Teardown};
use crate::ddp::policy::Work;
use crate::ddp::tags::Released;
use crate::ddp::why::{Reasons, Why};
use crate::dma::IoBuf;
use crate::nvme::command::{Data, Request};
use crate::nvme::queue::{self, DigestBy, SubmitError};
use crate::nvme::status::Status;
use crate::platform::Platform;
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

    /// Gives up on the request with `token`, the oldest identifier first if there are several. False if none is waiting for
    /// the controller. [`Event::Completed`] still comes once and gives the buffer back, when nothing can write it any more:
    ///
    /// * a command of which no byte was sent comes back as soon as the device has forgotten its buffer;
    /// * for one that the controller has, data may come until the controller answers, and only the answer says that no more
    ///   will: that, the command's deadline, or the end of the connection brings it back. Data that comes meanwhile is thrown
    ///   away.
    ///
    /// Its status is [`Status::ABORTED_BY_HOST`] or an error; a write that the controller had carried out succeeds. No Abort
    /// command is sent: NVMe leaves it to the controller whether it does anything, so it would not shorten the wait safely.
    pub fn cancel(&mut self, id: ConnectionId, token: u64) -> bool {
        let Some(index) = self.find(id) else { return false };
        let Some(Some(connection)) = self.connections.get_mut(index) else { return false };
        let L5p::Io(queue) = &mut connection.l5p else { return false };
        let waits = |pending: &Option<Pending>| pending.as_ref().is_some_and(|p| p.token == token && p.done.is_none());
        let Some(cid) = connection.requests.iter().position(waits) else { return false };
        let cancelled = queue.cancel(cid as u16);
        log::debug!("command {cid} of {id:?}: {cancelled:?}");
        self.mark(index as u32);
        cancelled.is_ok()
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
        let Some(index) = self.find(id) else { return Err((Refused::NotReady, buffer)) };
        let Some(Some(connection)) = self.connections.get_mut(index) else { return Err((Refused::NotReady, buffer)) };
        let connection = &mut **connection;
        let L5p::Io(queue) = &mut connection.l5p else { return Err((Refused::NotReady, buffer)) };
        if !queue.is_ready() || connection.closing || connection.ended.is_some() {
            return Err((Refused::NotReady, buffer));
        }
        // Everything that the queue would refuse is refused before the device hears of the buffer.
        match (&request.data, direction) {
            (Data::Read { .. }, Direction::Read) | (Data::Write { .. }, Direction::Write) => {}
            _ => return Err((Refused::Direction, buffer)),
        }
        let (len, most) = (request.data.len(), queue.config().max_transfer);
        if buffer.len() as u64 != u64::from(len) {
            return Err((Refused::Length { buffer: buffer.len(), request: len.into() }, buffer));
        }
        if !(1..=most).contains(&len) {
            return Err((SubmitError::Length { len, least: 1, most }.into(), buffer));
        }
        let required = self.config.offload == OffloadPolicy::Require && direction == Direction::Read;
        if required && connection.offload.is_none() {
            return Err((Refused::NotBound(Why::QueueNotOffloaded), buffer));
        }
        let Some(cid) = queue.allocate_cid() else { return Err((Refused::Busy, buffer)) };
        // The tag is bound before the command exists: the answer cannot overtake the binding.
        let held = match (connection.offload, &mut self.offloads, direction) {
            (Some(offload), Some(offloads), Direction::Read) => {
                let held = match &mut self.adaptive {
                    None => offloads.setup(offload, cid, buffer, &*self.platform),
                    Some(adaptive) => {
                        let probe = adaptive.begin(buffer.len(), !required);
                        let started = adaptive.start(&*self.platform);
                        let held = match probe {
                            None => offloads.setup(offload, cid, buffer, &*self.platform),
                            Some(probe) => offloads.probe(offload, cid, buffer, probe, &*self.platform),
                        };
                        if matches!(held, Ok(Setup::Offloaded)) {
                            adaptive.stop(&*self.platform, started, Work::Bind);
                        }
                        held
                    }
                };
                // A full control ring was reaped to make room: the receive queue must be read before anything that came
                // of it is given out.
                if offloads.has_events(offload) {
                    self.unread = self.cq.entries();
                }
                held.map(|setup| match setup {
                    Setup::NotOffloaded(why) if required && why.is_failure() => Some(why),
                    Setup::NotOffloaded(_) | Setup::Offloaded => None,
                })
            }
            (Some(offload), Some(offloads), Direction::Write) => offloads.hold(offload, cid, buffer).map(|()| None),
            _ => connection.tags.pin(cid, buffer).map(|()| None).map_err(SetupError::from),
        };
        let refused = match held {
            Ok(None) => None,
            Ok(Some(why)) => {
                match connection.offload.zip(self.offloads.as_mut()).map(|(q, all)| all.teardown(q, cid)) {
                    Some(Ok(Teardown::Done(released))) => Some((Refused::NotBound(why), released.into_buffer())),
                    // The device knows nothing of the buffer: this cannot be, and the read goes on without the offload.
                    other => {
                        log::error!("the buffer of command {cid}, which was not bound, does not come back: {other:?}");
                        None
                    }
                }
            }
            Err(SetupError::NoSuchQueue { buffer, .. }) => Some((Refused::NotReady, buffer)),
            Err(SetupError::NotPinned(refused)) => Some((Refused::Tag(refused.why), refused.buffer)),
        };
        if let Some(refused) = refused {
            if let Err(error) = queue.release(cid) {
                log::error!("{error}");
            }
            return Err(refused);
        }
        remember(&mut connection.requests, cid, Pending { token, done: None });
        connection.under_way += 1;
        if let Err(error) = queue.submit(cid, request, now) {
            // The buffer may be bound by now, so it comes back as after a failed command.
            log::error!("command {cid} refused: {error}");
            self.on_completed(index as u32, aborted(cid), now);
        }
        self.mark(index as u32);
        Ok(())
    }

    /// The controller has answered: the device is asked to forget the buffer, if it knows it.
    pub(super) fn on_completed(&mut self, index: u32, done: queue::Completion, now: Duration) {
        let (cid, placed, copied) = (done.cid, done.placed, done.copied);
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        match connection.requests.get_mut(usize::from(cid)) {
            Some(Some(pending)) if pending.done.is_none() => pending.done = Some(done),
            _ => return log::error!("command {cid} completed without a request"),
        }
        if connection.draining == 0 {
            connection.draining_since = now;
        }
        connection.draining += 1;
        self.draining += 1;
        let started = self.adaptive.as_ref().and_then(|adaptive| adaptive.start(&*self.platform));
        let released = match (connection.offload, &mut self.offloads) {
            (Some(offload), Some(offloads)) => match offloads.teardown(offload, cid) {
                Ok(Teardown::Pending) => {
                    if let Some(adaptive) = &mut self.adaptive {
                        adaptive.stop(&*self.platform, started, Work::Unbind);
                        adaptive.finished(placed, copied);
                    }
                    return;
                }
                Ok(Teardown::Done(released)) => Ok(released),
                Err(error) => Err(error.to_string()),
            },
            _ => connection.tags.release(cid).map_err(|error| error.to_string()),
        };
        match released {
            Ok(released) => self.give_out(index, released, now),
            Err(error) => log::error!("the buffer of command {cid} does not come back: {error}"),
        }
    }

    /// A buffer that the device cannot write any more goes back to the caller, with the answer of its command.
    pub(super) fn give_out(&mut self, index: u32, released: Released, now: Duration) {
        let (cid, suspect, copied) = (released.tag(), released.is_suspect(), *released.copied());
        self.complete(index, cid, suspect, copied, Some(released.into_buffer()), now);
    }

    /// A request is over.
    pub(super) fn complete(
        &mut self,
        index: u32,
        cid: u16,
        suspect: bool,
        mut copied: Reasons,
        buffer: Option<IoBuf>,
        now: Duration,
    ) {
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        let Some(Some(pending)) = connection.requests.get_mut(usize::from(cid)).map(Option::take) else {
            return log::error!("the buffer of command {cid} came back without a request");
        };
        connection.under_way -= 1;
        if pending.done.is_some() {
            connection.draining -= 1;
            connection.draining_since = now;
            self.draining -= 1;
        }
        if let L5p::Io(queue) = &mut connection.l5p
            && let Err(error) = queue.release(cid)
        {
            // Only where the connection was cut off before the controller had answered.
            log::debug!("command {cid}: {error}");
        }
        let read_ok = pending.done.as_ref().is_some_and(|done| done.status.is_success());
        self.counters.suspect_reads += u64::from(read_ok && (suspect || buffer.is_none()));
        if let Some((why, bytes)) = copied.settle(pending.done.as_ref().map_or(0, |done| done.placed)) {
            let new = copied.add(why, bytes);
            connection.stats.count_copied(why, new.into(), bytes.into());
        }
        self.events.push_back(Event::Completed(connection.id, completion(pending, suspect, copied, buffer)));
    }
}

/// Notes a request under way.
#[inline]
fn remember(requests: &mut Vec<Option<Pending>>, cid: u16, request: Pending) {
    let at = usize::from(cid);
    if at >= requests.len() {
        // Identifiers are given out from the lowest on.
        requests.resize_with(at + 1, || None);
    }
    requests[at] = Some(request);
}

/// What becomes of a command that the queue did not take.
fn aborted(cid: u16) -> queue::Completion {
    let status = Status::ABORTED_BY_HOST;
    let digest_by = DigestBy::None;
    queue::Completion { cid, status, result: 0, placed: 0, copied: 0, digest_by, cancelled: false }
}

fn completion(pending: Pending, suspect: bool, why_copied: Reasons, buffer: Option<IoBuf>) -> Completion {
    let (status, placed, copied, digest_by) = match &pending.done {
        Some(done) => (done.status, done.placed, done.copied, done.digest_by),
        None => (Status::HOST_PATHING_ERROR, 0, 0, DigestBy::None),
    };
    // A buffer into which the device wrote what does not belong there, or that it may still write, cannot be a success.
    let failed = (suspect || buffer.is_none()) && status.is_success();
    let status = if failed { Status::TRANSIENT_TRANSPORT_ERROR } else { status };
    Completion { token: pending.token, status, placed, copied, why_copied, digest_by, buffer }
}
