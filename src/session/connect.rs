//! The way to a live session: admin connection, I/O queues, offload; and the way down.

use super::event::{Event, Level, Loss, Recovery, SessionError};
use super::{Function, IoQueue, Phase, Session};
use crate::observe::What;
use crate::platform::Platform;
use crate::shard::{self, ConnectionId, Disconnect, OffloadPolicy, OffloadRefused};

impl<P: Platform> Session<P> {
    /// Something happened in the shard.
    pub(super) fn on_event(&mut self, event: shard::Event) {
        match event {
            shard::Event::Completed(id, completion) => {
                let over = self.requests.completed(completion, self.queue_number(id), &mut self.counters);
                self.events.extend(over.map(Event::Completed));
            }
            shard::Event::ControllerReady(id) if self.admin == Some(id) => self.connect_queues(),
            shard::Event::QueueReady(id) => self.on_queue_ready(id),
            shard::Event::ControllerDown(_) => self.controller_down = true,
            shard::Event::ControllerReady(_) => {}
            shard::Event::Disconnected(id, why) => self.on_disconnected(id, why),
        }
    }

    /// Begins the admin connection.
    pub(super) fn connect_admin(&mut self) {
        let Function::Up(shard) = &mut self.function else { return };
        match shard.connect_admin(self.config.target, self.config.controller.clone()) {
            Ok(id) => {
                self.admin = Some(id);
                self.phase = Phase::Admin;
            }
            Err(why) => self.attempt_failed(why.into()),
        }
    }

    fn connect_queues(&mut self) {
        let (Function::Up(shard), Some(admin)) = (&mut self.function, self.admin) else { return };
        let Some(controller) = shard.controller(admin) else { return };
        self.namespaces.identified(controller, self.config.controller.max_namespaces);
        for (nsid, difference) in self.namespaces.changed() {
            log::error!("namespace {nsid} is not what it was: {difference}; its requests fail");
            let what = What::NamespaceChanged { nsid, why: crate::observe::text(difference) };
            shard.note(self.platform.now(), None, what);
        }
        for number in 1..=self.config.controller.io_queues {
            let Some(controller) = shard.controller(admin) else { return };
            let begun = match controller.io_queue(number, self.config.depth) {
                Ok(config) => shard.connect_io(self.config.target, config).map_err(Loss::from),
                Err(why) => Err(why.into()),
            };
            match begun {
                Ok(id) => self.queues.push(IoQueue { number, id, ready: false }),
                Err(why) => return self.lose(Level::Connections, why),
            }
        }
        self.phase = Phase::Queues;
    }

    fn on_queue_ready(&mut self, id: ConnectionId) {
        if let Some(queue) = self.queues.iter_mut().find(|queue| queue.id == id) {
            queue.ready = true;
        }
        let all = self.queues.iter().all(|queue| queue.ready);
        if !matches!(self.phase, Phase::Queues) || !all || !self.offload_queues() {
            return;
        }
        let now = self.platform.now();
        self.phase = Phase::Live(now);
        if let Some(trouble) = self.trouble.take()
            && self.was_live
        {
            let recovery =
                Recovery { level: trouble.level, took: now.saturating_sub(trouble.since), attempts: trouble.attempts };
            self.counters.recovered.count(trouble.level);
            self.longest = self.longest.max(recovery.took);
            let Recovery { level, took, attempts } = recovery;
            self.note(What::Recovered { level: level.name(), took, attempts });
            self.events.push_back(Event::Recovered(recovery));
        }
        if !std::mem::replace(&mut self.was_live, true) {
            self.events.push_back(Event::Ready);
        }
    }

    /// Adds the offload to all queues. False if one must have it and cannot.
    fn offload_queues(&mut self) -> bool {
        let Function::Up(shard) = &mut self.function else { return false };
        let required = self.config.shard.offload == OffloadPolicy::Require;
        for queue in &self.queues {
            let number = queue.number;
            match shard.offload(queue.id) {
                // The queue remembers why not.
                Ok(()) | Err(OffloadRefused::Off) => {}
                // A function that failed is seen to in this poll.
                Err(_) if shard.broken().is_some() => return false,
                Err(why @ OffloadRefused::NotPossible(_)) if required => {
                    self.end(SessionError::Offload { queue: number, why });
                    return false;
                }
                // Firmware may think otherwise the next time, or after a reset.
                Err(why) if required => {
                    let level = self.strike(Level::Connections);
                    self.lose(level, Loss::Offload { queue: number, why });
                    return false;
                }
                Err(why) => {
                    log::warn!("I/O queue {number} is not offloaded: {why}");
                    self.events.push_back(Event::NotOffloaded { queue: number, why });
                }
            }
        }
        true
    }

    fn on_disconnected(&mut self, id: ConnectionId, why: Disconnect) {
        let number = match self.queues.iter().position(|queue| queue.id == id) {
            Some(at) => self.queues.remove(at).number,
            None if self.admin == Some(id) => {
                self.admin = None;
                0
            }
            None => return,
        };
        match self.phase {
            Phase::Closing { .. } => {
                if !matches!(why, Disconnect::Closed | Disconnect::ClosedByPeer) {
                    self.problems.push(format!("a connection did not close in order: {why}"));
                }
            }
            Phase::Draining(_) | Phase::Waiting(_) | Phase::Down | Phase::Ending(_) | Phase::Ended => {}
            Phase::Admin | Phase::Queues | Phase::Live(_) => {
                let of_device = why.is_of_device();
                let level = if of_device { self.strike(Level::Connections) } else { Level::Connections };
                self.lose(level, Loss::Connection { queue: number, why });
            }
        }
    }

    /// Cuts off every connection.
    pub(super) fn abort(&mut self) {
        let Function::Up(shard) = &mut self.function else { return };
        self.queues.iter().for_each(|queue| shard.abort_connection(queue.id));
        self.admin.iter().for_each(|id| shard.abort_connection(*id));
    }

    /// Closes the I/O queues: what is under way on them finishes.
    pub(super) fn close_queues(&mut self) {
        let Function::Up(shard) = &mut self.function else { return };
        self.queues.iter().for_each(|queue| shard.close_connection(queue.id));
    }

    /// Shuts the controller down and closes its connection.
    pub(super) fn close_admin(&mut self, id: ConnectionId) {
        if let Function::Up(shard) = &mut self.function {
            shard.close_connection(id);
        }
        self.phase = Phase::Closing { admin: true };
    }
}
