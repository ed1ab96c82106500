//! How a shard goes away.

use super::quarantine::Quarantined;
use super::{Disconnect, Event, Shard};
use crate::adapter::{Control, Teardown};
use crate::command::CommandError;
use crate::ddp::tags::Quiesced;
use crate::dma::IoBuf;
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
    /// Of a shard that shares its function: buffers that the device can write until the function is reset.
    pub(super) quarantine: Vec<Quarantined>,
}

impl Closed {
    /// Buffers that wait for a reset of the function.
    pub fn quarantined(&self) -> usize {
        self.quarantine.iter().map(|held| held.tags.held() as usize).sum()
    }

    /// The function was reset: the buffers that waited for it, with the tokens of their requests.
    pub fn release(&mut self, proof: &Quiesced) -> Vec<(u64, IoBuf)> {
        self.quarantine.drain(..).flat_map(|held| held.release(proof)).collect()
    }
}

impl<P: Platform> Shard<P> {
    /// Takes everything down in reverse order and disables the function; one that does not work any more is reset.
    /// Connections should be closed before; those that are not are cut off. Those that only wait for the peer to hear of
    /// their end ([`Shard::closing`]) are forgotten.
    ///
    /// A shard that shares its function stops its queues only: the function goes down, or is reset, with the adapter, once
    /// every shard is closed ([`Host::into_adapter`](crate::adapter::Host::into_adapter)). Its teardown is empty.
    pub fn close(mut self, deadline: Deadline) -> Closed {
        let now = self.platform.now();
        let mut problems = Vec::new();
        self.health_at = now;
        self.look_at_health(now);
        for index in 0..self.connections.len() as u32 {
            if let Some(Some(connection)) = self.connections.get_mut(index as usize) {
                problems.push(format!("connection {index} was still open"));
                connection.end(Disconnect::Closed, now);
                connection.tcp.abort();
                self.finish(index, now);
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
        let Shard { adapter, mut rq, cq, buffers: pool, tx, steering, offloads, base, quarantine, platform, .. } = self;
        let mut adapter = adapter;
        if !self.dead {
            let mut note = |what: &str, result: Result<(), CommandError>| {
                problems.extend(result.err().map(|error| format!("{what}: {error}")));
            };
            // The table of a shared function has rules of others.
            if adapter.own().is_some() {
                note("steering", steering.destroy(&mut adapter, deadline));
            }
            note("send queue", tx.destroy(&mut adapter, deadline));
            // TIR and RQT refer to the receive queue: they, it and its CQ go with the log, in reverse order of creation.
            if !rq.has_failed() {
                note("receive queue", rq.stop(&mut adapter, deadline));
            }
        }
        let adapter = match adapter {
            Control::Own(adapter) => adapter,
            Control::Shared(remote) => {
                // What the device still writes is in the log, with its memory.
                drop((remote, rq, cq, pool, offloads));
                let (teardown, buffers) = (Teardown::default(), Vec::new());
                return Closed { teardown, problems, events: self.events.into(), buffers, quarantine };
            }
        };
        let teardown = match self.dead {
            true => {
                problems.push("the function did not work any more and was reset".to_owned());
                problems.extend(adapter.reset(deadline).err().map(|error| error.to_string()));
                Teardown::default()
            }
            false => adapter.teardown(deadline),
        };
        let mut buffers = Vec::new();
        if !quarantine.is_empty() {
            // Whatever teardown achieved: after a reset the device has forgotten everything.
            match Quiesced::by_reset(&*platform) {
                Ok(proof) => buffers = quarantine.into_iter().flat_map(|held| held.release(&proof)).collect(),
                Err(error) => problems.push(format!("buffers stay with the device for ever: {error}")),
            }
        }
        // Buffers before the last hold on the heap, so that it finds its memory free.
        drop((rq, cq, pool, offloads));
        drop(base);
        Closed { teardown, problems, events: self.events.into(), buffers, quarantine: Vec::new() }
    }
}
