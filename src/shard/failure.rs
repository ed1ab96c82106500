//! What goes wrong with the function: its events, its health, queues in the error state, and the end of everything.
//!
//! | what | then |
//! |---|---|
//! | send or receive queue in the error state | taken back to work (`mlx5-bringup.md` §8.7); packets are lost, TCP asks again |
//! | the receive queue again and again while connections are offloaded | none is any more: reads go on, and are copied |
//! | the same again and again without; a failed completion queue; a send queue that stands still | the shard is *broken*: every connection ends, objects are destroyed, buffers come back |
//! | the function is gone or unhealthy, or a command missed its deadline | the shard is *dead*: every connection ends; bound buffers stay in quarantine until a reset |

use super::connection::Connection;
use super::{Disconnect, OffloadRefused, Shard};
use crate::adapter::{AdapterError, Event as AdapterEvent};
use crate::ddp::contract::Event as OffloadEvent;
use crate::ddp::device::Offloads;
use crate::observe::What;
use crate::platform::{Deadline, Platform};
use crate::queue::QueueError;
use std::time::Duration;

/// Between two looks at the function's health (`mlx5-bringup.md` §9: Linux looks every 1 to 2 seconds).
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);
/// Events of the function that one poll takes.
const EVENT_BUDGET: u32 = 64;
/// How long taking a queue back to work may block the loop: three or four commands.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(3);
/// Recoveries in [`RECOVERY_WINDOW`] that are tried: more often it is no accident.
const RECOVERIES: u32 = 4;
const RECOVERY_WINDOW: Duration = Duration::from_secs(10);
/// Failures of the receive queue in [`BLAME_WINDOW`] after which the offload is given up.
const BLAMES: u32 = 3;
const BLAME_WINDOW: Duration = Duration::from_secs(600);

/// Why a receive queue is taken back to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A completion with an error.
    Completion,
    /// An event of the function, which may be older than the last recovery.
    Event,
    /// Half of the work requests never completed although later ones did: the device is done with them, or their completions
    /// could not be believed.
    Starved,
}

impl<P: Platform> Shard<P> {
    pub(super) fn poll_adapter(&mut self, now: Duration) -> bool {
        let mut taken = 0;
        while taken < EVENT_BUDGET
            && let Some(event) = self.adapter.poll()
        {
            taken += 1;
            match event {
                AdapterEvent::CqError { cqn, syndrome } => {
                    self.counters.queue_errors += 1;
                    self.counters.cq_errors += 1;
                    let why = crate::observe::text(&syndrome);
                    self.note(now, None, What::QueueFailed { which: "completion", number: cqn, why });
                    let which = match cqn {
                        _ if cqn == self.cq.cqn() => "receive",
                        _ if cqn == self.tx.cq().cqn() => "send",
                        _ => {
                            self.on_control_cq_error(now, cqn, syndrome);
                            continue;
                        }
                    };
                    self.fail(now, format!("{which} completion queue {cqn:#x} failed: {syndrome}"));
                }
                AdapterEvent::QueueError { event, number, .. } => {
                    self.counters.queue_errors += 1;
                    let why = crate::observe::text(&event);
                    self.note(now, None, What::QueueFailed { which: "work", number, why });
                    if number != self.rq.rqn() && number != self.tx.sqn() {
                        self.counters.unknown_queue_events += 1;
                        self.note(now, None, What::UnknownQueue { number });
                    }
                    log::warn!("queue {number:#x}: {event}");
                    // Recovery asks the device itself; a queue that works is left alone.
                    if number == self.rq.rqn() {
                        self.recover_receive(now, Cause::Event);
                    }
                    if number == self.tx.sqn() {
                        self.recover_send(now);
                    }
                }
                AdapterEvent::Completion { cqn, .. } if cqn == self.cq.cqn() && self.armed.is_some() => {
                    self.counters.completion_events += 1;
                    self.armed = None;
                    self.cq.on_event();
                }
                AdapterEvent::PortDown { port } => {
                    self.counters.port_down += 1;
                    self.note(now, None, What::PortDown { port });
                    log::warn!("port {port} went down");
                }
                AdapterEvent::PortUp { port } => {
                    self.note(now, None, What::PortUp { port });
                    log::info!("port {port} is up");
                }
                AdapterEvent::PagesFailed { error } => {
                    self.note(now, None, What::PagesFailed { why: crate::observe::text(&error) });
                    log::error!("{error}");
                }
                other => {
                    self.counters.other_events += 1;
                    log::debug!("{other:?}");
                }
            }
        }
        taken != 0
    }

    /// The completion queue of a control ring failed: nobody will hear that a buffer was forgotten.
    fn on_control_cq_error(&mut self, now: Duration, cqn: u32, syndrome: hw_regs::eqe::CqErrorSyndrome) {
        let Some(offloads) = &mut self.offloads else {
            self.counters.unknown_queue_events += 1;
            return self.note(now, None, What::UnknownQueue { number: cqn });
        };
        let of = |queue: &u32| offloads.queue(*queue).is_some_and(|queue| queue.icosq().cqn() == cqn);
        let Some(index) = self.by_queue.iter().find(|(queue, _)| of(queue)).map(|(_, index)| *index) else {
            self.counters.unknown_queue_events += 1;
            self.note(now, None, What::UnknownQueue { number: cqn });
            return log::warn!("error of an unknown completion queue {cqn:#x}: {syndrome}");
        };
        offloads.on_cq_error(cqn, syndrome.0);
        if let Some(Some(connection)) = self.connections.get_mut(index as usize) {
            connection.end(Disconnect::ControlQueue { cqn, syndrome }, now);
        }
        self.mark(index);
    }

    /// Looks at the function's health when it is time.
    pub(super) fn look_at_health(&mut self, now: Duration) {
        if self.dead || now < self.health_at {
            return;
        }
        self.health_at = now + HEALTH_INTERVAL;
        if let Err(error) = self.adapter.check_health() {
            self.dead = true;
            let kind = match &error {
                AdapterError::Unhealthy { health, .. } => health.kind().name(),
                _ => "unknown",
            };
            self.note(now, None, What::Unhealthy { kind, why: crate::observe::text(&error) });
            return self.fail(now, error.to_string());
        }
        let timed_out = self.adapter.commands_timed_out();
        if timed_out != 0 {
            // Nobody knows what firmware did, or will do, about them.
            self.dead = true;
            let function = self.adapter.function();
            self.fail(
                now,
                format!("{function}: {timed_out} commands missed their deadline: the function must be reset"),
            );
        }
    }

    /// Asks firmware for a sign of life: what its registers say may be the truth about another life of the function.
    pub(crate) fn ask_firmware(&mut self, now: Duration) {
        let deadline = self.adapter.command_deadline();
        if self.broken.is_none()
            && let Err(error) = self.adapter.ask_firmware(deadline)
        {
            self.dead = true;
            self.fail(now, error.to_string());
        }
    }

    /// The shard cannot go on: every connection ends with `why`.
    pub(super) fn fail(&mut self, now: Duration, why: String) {
        log::error!("{why}");
        self.note(now, None, What::Broken { why: crate::observe::text(&why) });
        self.broken.get_or_insert_with(|| why.clone());
        for index in 0..self.lingering.slots.len() as u32 {
            self.end_lingering(index);
        }
        for index in 0..self.connections.len() as u32 {
            if let Some(Some(connection)) = self.connections.get_mut(index as usize) {
                connection.end(Disconnect::Function(why.clone()), now);
                connection.tcp.abort();
            }
            self.mark(index);
        }
    }

    /// Takes the receive queue back to work: what was in it is lost, and TCP asks again.
    #[cold]
    pub(super) fn recover_receive(&mut self, now: Duration, cause: Cause) {
        if self.broken.is_some() || !self.may_recover(now, "receive") {
            return;
        }
        let deadline = Deadline::after(&*self.platform, RECOVERY_PATIENCE);
        let stopped = match cause {
            Cause::Starved => self.rq.stop(&mut self.adapter, deadline),
            Cause::Completion | Cause::Event => Ok(()),
        };
        let recovered = stopped
            .map_err(QueueError::from)
            .and_then(|()| self.cq.recover(&mut self.rq, &mut self.adapter, &mut self.buffers.pool, deadline));
        match (recovered, cause) {
            (Ok(()), _) => {
                log::warn!("receive queue {:#x} was taken back to work: {cause:?}", self.rq.rqn());
                self.counters.recoveries += 1;
                let number = self.rq.rqn();
                self.note(now, None, What::QueueRecovered { which: "receive", number });
                self.blame_offload(now);
                self.unread = 0;
                self.rq.post(&mut self.buffers.pool);
            }
            (Err(QueueError::NotFailed { .. }), Cause::Event) => self.recoveries.1 -= 1,
            (Err(error), _) => self.fail(now, format!("the receive queue cannot be taken back to work: {error}")),
        }
    }

    /// Takes the send queue back to work: frames that were in it are lost, and TCP sends them again.
    #[cold]
    pub(super) fn recover_send(&mut self, now: Duration) {
        if self.broken.is_some() || !self.may_recover(now, "send") {
            return;
        }
        let deadline = Deadline::after(&*self.platform, RECOVERY_PATIENCE);
        match self.tx.recover(&mut self.adapter, |_| {}, deadline) {
            Ok(()) => {
                log::warn!("send queue {:#x} was taken back to work", self.tx.sqn());
                self.counters.recoveries += 1;
                let number = self.tx.sqn();
                self.note(now, None, What::QueueRecovered { which: "send", number });
            }
            Err(QueueError::NotFailed { .. }) if !self.tx.has_failed() => self.recoveries.1 -= 1,
            Err(error) => self.fail(now, format!("the send queue cannot be taken back to work: {error}")),
        }
    }

    /// Counts a recovery; the shard fails if there were too many.
    fn may_recover(&mut self, now: Duration, which: &str) -> bool {
        let (since, count) = &mut self.recoveries;
        if now.saturating_sub(*since) >= RECOVERY_WINDOW {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        let may = *count <= RECOVERIES;
        if !may {
            self.fail(now, format!("the {which} queue failed for the {} time in {RECOVERY_WINDOW:?}", RECOVERIES + 1));
        }
        may
    }

    /// Counts failures of the receive queue while connections are offloaded. A tag that cannot be used may be what fails it
    /// (`nvme-tcp-offload.md` §12.3), and each failure costs packets: the peers wait longer and longer before they say them
    /// again, so what counts is not how fast the failures come.
    fn blame_offload(&mut self, now: Duration) {
        if self.by_queue.is_empty() {
            return;
        }
        let (since, count) = &mut self.blamed;
        if now.saturating_sub(*since) >= BLAME_WINDOW {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        self.falls_back |= *count >= BLAMES;
    }

    /// With the next poll after the failures: takes every connection off the offload; their requests go on, and what comes is copied.
    pub(super) fn fall_back(&mut self, now: Duration) -> bool {
        if !std::mem::take(&mut self.falls_back) || self.broken.is_some() {
            return false;
        }
        let why = format!("the receive queue failed {BLAMES} times in {BLAME_WINDOW:?} while queues were offloaded");
        log::error!("{why}: no queue is any more");
        self.note(now, None, What::OffloadGivenUp { why: crate::observe::text(&why) });
        for index in 0..self.connections.len() as u32 {
            let offloaded = |connection: &Connection| connection.offload.is_some();
            if self.connections.get(index as usize).and_then(Option::as_deref).is_some_and(offloaded) {
                self.remove_offload(index, now);
                if let Some(Some(connection)) = self.connections.get_mut(index as usize) {
                    connection.no_offload = (&OffloadRefused::GivenUp(why.clone())).into();
                }
                self.counters.fallbacks += 1;
                self.mark(index);
            }
        }
        self.offload_off = Some(why);
        true
    }

    /// Buffers that the device has forgotten, and control rings that failed.
    pub(super) fn poll_offload_events(&mut self, now: Duration) -> bool {
        if self.unread != 0 {
            return false;
        }
        let mut worked = false;
        while let Some((queue, event)) = self.offloads.as_mut().and_then(Offloads::next_event) {
            worked = true;
            let Some(&index) = self.by_queue.get(&queue) else {
                log::error!("an event of offload queue {queue}, which has no connection: {event:?}");
                continue;
            };
            match event {
                OffloadEvent::TeardownDone(released) => self.give_out(index, released, now),
                OffloadEvent::Failed(error) => {
                    let (number, why) = (error.queue, crate::observe::text(&error));
                    if let Some(Some(connection)) = self.connections.get_mut(index as usize) {
                        let what = What::QueueFailed { which: "control", number, why };
                        self.log.note(now, Some(connection.id.serial()), what);
                        connection.end(Disconnect::Offload(error), now);
                    }
                }
            }
            self.mark(index);
        }
        worked
    }
}
