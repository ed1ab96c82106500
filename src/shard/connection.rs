//! One connection: TCP, the L5P above it, and the requests under way.

use super::error::Disconnect;
use crate::ddp::stats::Stats;
use crate::ddp::tags::TagTable;
use crate::frame::Frame;
use crate::nvme::controller::{Controller, ControllerConfig};
use crate::nvme::queue::{self, HostQueue, QueueConfig};
use crate::tcp::{self, FourTuple};
use std::time::Duration;

/// Names a connection of a shard. Numbers are used again after [`Event::Disconnected`](super::Event::Disconnected).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub(super) u32);

/// What a connection is for.
#[derive(Clone, Debug)]
pub enum Role {
    /// The admin queue.
    Admin(Box<ControllerConfig>),
    /// An I/O queue.
    Io(Box<QueueConfig>),
}

/// The protocol above TCP.
pub(super) enum L5p {
    /// TCP has not connected.
    Waiting(Role),
    Admin(Box<Controller>),
    Io(Box<HostQueue>),
}

/// A request under way, by command identifier.
pub(super) struct Pending {
    pub token: u64,
    /// The controller's answer, while the device has not forgotten the buffer.
    pub done: Option<queue::Completion>,
}

pub(super) struct Connection {
    pub tuple: FourTuple,
    pub tcp: tcp::Connection<Frame>,
    pub l5p: L5p,
    /// Number of the offload queue.
    pub offload: Option<u32>,
    /// Buffers of requests without an offload queue.
    pub tags: TagTable,
    pub stats: Stats,
    pub requests: Box<[Option<Pending>]>,
    /// In the shard's list of what is to be run.
    pub busy: bool,
    /// The caller wants it closed.
    pub closing: bool,
    /// Why it ends, once it does.
    pub ended: Option<Disconnect>,
}

impl Connection {
    pub fn new(tuple: FourTuple, tcp: tcp::Connection<Frame>, role: Role) -> Connection {
        let depth = match &role {
            Role::Admin(_) => 1,
            Role::Io(config) => u32::from(config.depth.max(1)),
        };
        Connection {
            tuple,
            tcp,
            l5p: L5p::Waiting(role),
            offload: None,
            tags: TagTable::new(depth),
            stats: Stats::default(),
            requests: (0..depth).map(|_| None).collect(),
            busy: false,
            closing: false,
            ended: None,
        }
    }

    pub fn controller(&self) -> Option<&Controller> {
        match &self.l5p {
            L5p::Admin(controller) => Some(controller),
            _ => None,
        }
    }

    pub fn io_queue(&self) -> Option<&HostQueue> {
        match &self.l5p {
            L5p::Io(queue) => Some(queue),
            _ => None,
        }
    }

    /// The NVMe queue, admin or I/O.
    pub fn host_queue(&mut self) -> Option<&mut HostQueue> {
        match &mut self.l5p {
            L5p::Waiting(_) => None,
            L5p::Admin(controller) => Some(controller.queue()),
            L5p::Io(queue) => Some(queue),
        }
    }

    pub fn next_deadline(&self) -> Option<Duration> {
        let l5p = match &self.l5p {
            L5p::Waiting(_) => None,
            L5p::Admin(controller) => controller.next_deadline(),
            L5p::Io(queue) => queue.next_deadline(),
        };
        [self.tcp.next_deadline(), l5p].into_iter().flatten().min()
    }

    /// TCP has connected: makes the L5P.
    pub fn start(&mut self, now: Duration) {
        let L5p::Waiting(role) = &self.l5p else { return };
        let made = match role.clone() {
            Role::Admin(config) => Controller::new(*config, now).map(|c| L5p::Admin(Box::new(c))),
            Role::Io(config) => HostQueue::new(*config, now).map(|q| L5p::Io(Box::new(q))),
        };
        match made {
            Ok(l5p) => self.l5p = l5p,
            Err(error) => {
                self.ended.get_or_insert(Disconnect::Queue(error));
            }
        }
    }
}
