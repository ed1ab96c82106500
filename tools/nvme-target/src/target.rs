//! The target: a TCP/IPv4 stack below, connections above, frames in and out.

use crate::backing::Backing;
use crate::config::{Config, ConfigError};
use crate::connection::{Connection, Scripted, Shared};
use crate::counters::Counters;
use crate::errors::ConnectionError;
use crate::smoltcp_stack::SmoltcpStack;
use crate::stack::Stack;
use crate::subsystem::Subsystem;
use crate::wire::Wire;
use std::collections::VecDeque;
use std::time::Duration;

/// Connection errors that are kept until somebody fetches them.
pub(crate) const ERRORS_KEPT: usize = 256;

/// Rounds between TCP and the connections in one `poll`. Each one moves at least a byte, and what moves is bounded by the
/// buffers, so this only guards against a mistake in that reasoning.
const ROUNDS: usize = 10_000;

/// An NVMe/TCP target on an Ethernet wire.
///
/// It has no clock and no threads: the caller brings frames and the time, and takes frames away.
///
/// ```no_run
/// # use nvme_target::{Config, Generated, Target};
/// # use std::time::Duration;
/// # fn wire_has() -> Option<Vec<u8>> { None }
/// # fn wire_takes(_: &[u8]) {}
/// let mut target = Target::new(Config::default(), Box::new(Generated::new(1, 1 << 30)))?;
/// let mut now = Duration::ZERO;
/// loop {
///     while let Some(frame) = wire_has() {
///         target.receive(&frame);
///     }
///     target.poll(now);
///     while let Some(frame) = target.transmit() {
///         wire_takes(&frame);
///         target.recycle(frame);
///     }
///     // nothing under way: go on at the next deadline
///     now = target.next_deadline(now).unwrap_or(now + Duration::from_millis(1));
/// #   break;
/// }
/// # Ok::<(), nvme_target::ConfigError>(())
/// ```
pub struct Target {
    stack: Box<dyn Stack>,
    wire: Wire,
    /// The connection of each socket.
    slots: Vec<Option<Connection>>,
    subsystem: Subsystem,
    faults: Vec<Scripted>,
    errors: VecDeque<ConnectionError>,
    /// Work is left over from the last `poll`.
    unfinished: bool,
}

impl Target {
    /// A target over smoltcp that listens. Fails if the configuration cannot work with the image.
    pub fn new(config: Config, backing: Box<dyn Backing>) -> Result<Target, ConfigError> {
        config.check(backing.len())?;
        let stack = Box::new(SmoltcpStack::new(&config));
        Target::with_stack(config, backing, stack)
    }

    /// A target over another TCP, built for this configuration.
    pub fn with_stack(config: Config, backing: Box<dyn Backing>, stack: Box<dyn Stack>) -> Result<Target, ConfigError> {
        config.check(backing.len())?;
        let wire = Wire::new(config.script.segmentation, config.script.seed);
        let slots = (0..stack.sockets()).map(|_| None).collect();
        let faults = config.script.faults.iter().map(|&fault| Scripted { fault, happened: false }).collect();
        let subsystem = Subsystem::new(config, backing);
        let errors = VecDeque::new();
        let mut target = Target { stack, wire, slots, subsystem, faults, errors, unfinished: false };
        target.connections(Duration::ZERO);
        Ok(target)
    }

    /// Takes an Ethernet frame (without FCS) from the wire. It is looked at in the next [`poll`](Target::poll).
    pub fn receive(&mut self, frame: &[u8]) {
        self.subsystem.counters.frames_received += 1;
        if !self.stack.receive(frame) {
            self.subsystem.counters.frames_dropped += 1;
        }
    }

    /// Does all that can be done now. Time must not go backwards.
    pub fn poll(&mut self, now: Duration) {
        for _ in 0..ROUNDS {
            self.stack.poll(now, &mut self.wire);
            if !self.connections(now) {
                break;
            }
        }
        self.stack.poll(now, &mut self.wire);
        self.unfinished = self.stack.has_received() || self.wire.is_congested();
    }

    /// The next Ethernet frame (without FCS) for the wire.
    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        let frame = self.wire.pop()?;
        self.subsystem.counters.frames_sent += 1;
        Some(frame)
    }

    /// Gives a frame that came from [`transmit`](Target::transmit) back, so that its memory is used again. Not needed, but
    /// it spares an allocation per frame.
    pub fn recycle(&mut self, frame: Vec<u8>) {
        self.wire.recycle(frame);
    }

    /// When [`poll`](Target::poll) has work even if no frame arrives: the time of the nearest timer, not before `now`.
    /// `None` if it is only waiting for frames.
    pub fn next_deadline(&mut self, now: Duration) -> Option<Duration> {
        if self.unfinished || self.stack.has_received() {
            return Some(now);
        }
        let mut nearest = self.stack.next_deadline(now);
        for (index, connection) in self.slots.iter().enumerate() {
            if let Some(connection) = connection {
                let deadline = connection.deadline(self.stack.socket(index), &self.subsystem);
                nearest = [nearest, deadline].into_iter().flatten().min();
            }
        }
        nearest.map(|at| at.max(now))
    }

    /// Breaks every connection off: the hosts get resets. New ones are accepted as before.
    pub fn break_off(&mut self) {
        for (index, _) in self.slots.iter().enumerate().filter(|(_, slot)| slot.is_some()) {
            self.stack.socket(index).abort();
        }
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.subsystem.counters.clone()
    }

    /// The connections that ended badly since the last call, oldest first; at most 256 are remembered.
    pub fn errors(&mut self) -> Vec<ConnectionError> {
        self.errors.drain(..).collect()
    }

    /// The image, as hosts see it now.
    pub fn backing(&self) -> &dyn Backing {
        &*self.subsystem.backing
    }

    /// Runs every connection once. True if anything moved.
    fn connections(&mut self, now: Duration) -> bool {
        let mut moved = false;
        let mut shared = Shared {
            subsystem: &mut self.subsystem,
            wire: &mut self.wire,
            faults: &mut self.faults,
            errors: &mut self.errors,
            now,
        };
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let socket = self.stack.socket(index);
            let Some(peer) = socket.peer() else {
                if let Some(connection) = slot.take() {
                    connection.closed(socket, &mut shared);
                    moved = true;
                }
                self.stack.listen(index);
                continue;
            };
            let connection = slot.get_or_insert_with(|| {
                let number = shared.subsystem.counters.connections;
                shared.subsystem.counters.connections += 1;
                moved = true;
                Connection::new(number, peer, shared.subsystem.config.script.seed, now)
            });
            moved |= connection.poll(socket, &mut shared);
        }
        for controller in std::mem::take(&mut shared.subsystem.ended) {
            for (index, slot) in self.slots.iter_mut().enumerate() {
                let member = slot.as_mut().filter(|c| c.queue().is_some_and(|queue| queue.controller == controller));
                if let Some(connection) = member {
                    connection.controller_ended(self.stack.socket(index), &mut shared);
                    moved = true;
                }
            }
        }
        moved
    }
}
