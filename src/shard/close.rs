//! How a shard goes away.

use super::{Event, Quarantine, Shard, Totals};
use crate::adapter::{AdapterError, Control, Objects, Teardown};
use crate::command::{CommandError, Failures};
use crate::ddp::tags::Quiesced;
use crate::dma::IoBuf;
use crate::observe::EventRing;
use crate::platform::{Deadline, Platform};

/// What a shard left behind.
#[derive(Debug)]
#[must_use = "buffers come back with it"]
pub struct Closed {
    /// The function's own teardown; empty if it had to be reset instead, which `problems` says then.
    pub teardown: Teardown,
    /// What went wrong before it, a line each.
    pub problems: Vec<String>,
    /// What the caller had not taken, and the end of connections that were open.
    pub events: Vec<Event>,
    /// Buffers that came back with no completion, because the device could write them until the function was reset: with
    /// the tokens of their requests.
    pub buffers: Vec<(u64, IoBuf)>,
    /// Of a shard that shares its function: buffers that the device may write until the function is reset.
    pub quarantine: Quarantine,
    /// Everything that was counted.
    pub totals: Totals,
}

/// The function that a shard ran on, when the shard is gone.
#[must_use = "buffers come back with it"]
pub struct Retired<P: Platform> {
    /// The function. It still holds what firmware did not destroy, and of a shared one what others have.
    pub adapter: Control<P>,
    /// False if the function must be reset: it does not work any more, or kept what it was told to give back.
    pub works: bool,
    /// What went wrong, a line each.
    pub problems: Vec<String>,
    /// What the caller had not taken, and the end of connections that were open.
    pub events: Vec<Event>,
    /// Buffers that the device may write until it is reset.
    pub quarantine: Quarantine,
    /// Everything that was counted.
    pub totals: Totals,
    /// Local port that the next connection would have had.
    pub next_port: u16,
    /// What happened.
    pub log: EventRing,
    /// Connections that were begun, modulo 2^32.
    pub opened: u32,
}

impl<P: Platform> Shard<P> {
    /// Takes everything down in reverse order and disables the function; one that does not work any more, or keeps anything, is
    /// reset.
    /// Connections should be closed before; those that are not are cut off. Those that only wait for the peer to hear of
    /// their end ([`Shard::closing`]) are forgotten.
    ///
    /// A shard that shares its function stops its queues only: the function goes down, or is reset, with the adapter, once
    /// every shard is closed ([`Host::into_adapter`](crate::adapter::Host::into_adapter)). Its teardown is empty.
    pub fn close(self, deadline: Deadline) -> Closed {
        let dead = self.dead;
        self.retire(deadline).close(dead, deadline)
    }

    /// Takes the shard off its function, which stays as it is for another one. Connections as with [`Shard::close`].
    pub fn retire(mut self, deadline: Deadline) -> Retired<P> {
        let now = self.platform.now();
        let mut problems = Vec::new();
        self.health_at = now;
        self.look_at_health(now);
        for index in 0..self.connections.len() as u32 {
            if let Some(Some(connection)) = self.connections.get_mut(index as usize) {
                if connection.ended.is_none() {
                    problems.push(format!("connection {index} was still open"));
                }
                self.cut_off(index, now);
            }
        }
        // The peers of those hear of it, as far as one packet can tell.
        self.poll_transmit(now);
        for index in 0..self.lingering.slots.len() as u32 {
            self.end_lingering(index);
        }
        if self.frames_held() != 0 {
            problems.push(format!("{} receive buffers were not given back", self.frames_held()));
        }
        let totals = self.totals();
        let Shard { mut adapter, mut rq, cq, buffers, path, tx, steering, offloads, quarantine, .. } = self;
        let mut buffers = buffers;
        let mut works = !self.dead;
        if works {
            let mut failed = Vec::new();
            let mut note = |result: Result<(), CommandError>| failed.extend(result.err());
            let alone = adapter.own().is_some();
            if alone {
                note(steering.destroy(&mut adapter, deadline));
            }
            note(tx.destroy(&mut adapter, deadline));
            if !rq.has_failed() {
                note(rq.stop(&mut adapter, deadline));
            }
            note(adapter.destroy(path.tis, deadline));
            for refused in offloads.into_iter().flat_map(|offloads| offloads.let_go(&mut adapter, deadline)) {
                note(Err(refused.error));
            }
            // The steering table of a shared function leads to the receive queue until the function goes down.
            if alone {
                // Each refers to the one behind it.
                for handle in [path.tir, path.rqt] {
                    note(adapter.destroy(handle, deadline));
                }
                note(cq.destroy(rq, &mut adapter, &mut buffers.pool, deadline));
            }
            works &= failed.is_empty();
            if !failed.is_empty() {
                problems.push(format!("queues were not taken down: {}", Failures::of(&failed)));
            }
        }
        works &= quarantine.is_empty();
        // What firmware did not destroy is in the adapter's log, which holds its memory, whoever lets go of it here.
        let (events, next_port, log, opened) = (self.events.into(), self.next_port, self.log, self.opened);
        Retired { adapter, works, problems, events, quarantine, totals, next_port, log, opened }
    }
}

impl<P: Platform> Retired<P> {
    /// Takes the function down. One that is `dead` is reset, and so is one that keeps buffers when it is down.
    fn close(self, dead: bool, deadline: Deadline) -> Closed {
        let Retired { adapter, mut problems, events, quarantine, totals, .. } = self;
        let Control::Own(mut adapter) = adapter else {
            let (teardown, buffers) = (Teardown::default(), Vec::new());
            return Closed { teardown, problems, events, buffers, quarantine, totals };
        };
        let (teardown, proof) = match dead {
            true => {
                let reset = adapter.reset(deadline).map(|proof| Quiesced::after(&proof));
                problems.push(match reset {
                    Ok(_) => "the function did not work any more and was reset".to_owned(),
                    Err(_) => "the function does not work any more and cannot be reset".to_owned(),
                });
                (Teardown::default(), Some(reset.map_err(|error| error.to_string())))
            }
            false => {
                let (teardown, reset) = adapter.take_down(deadline, !quarantine.is_empty());
                let proof = |reset: Result<_, AdapterError>| match reset {
                    Ok(proof) => Ok(Quiesced::after(&proof)),
                    Err(error) => Err(error.to_string()),
                };
                (teardown, reset.map(proof))
            }
        };
        let mut buffers = Vec::new();
        match proof {
            Some(Ok(proof)) => buffers = quarantine.release(&proof),
            Some(Err(error)) => {
                problems.push(error);
                if !quarantine.is_empty() {
                    problems.push(format!("{} buffers stay with the device for ever", quarantine.len()));
                }
            }
            None => {}
        }
        Closed { teardown, problems, events, buffers, quarantine: Quarantine::default(), totals }
    }
}
