//! A shard as it looks from outside: its numbers when somebody asks, and what it notes for whoever looks later.

use super::connection::{Connection, L5p};
use super::{ConnectionGauges, ConnectionId, Gauges, Shard, Totals};
use crate::adapter::Adapter;
use crate::ddp::device::Offloads;
use crate::ddp::stats::Stats;
use crate::nvme::queue::Counters as QueueCounters;
use crate::observe::{ConnectionStats, EventRing, FunctionStats, Role, ShardStats, What};
use crate::platform::Platform;
use crate::queue::RingView;
use crate::tcp::Counters as TcpCounters;
use std::net::SocketAddr;
use std::time::Duration;

/// Counters of connections that are gone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gone {
    pub tcp: TcpCounters,
    pub nvme: QueueCounters,
    pub admin: QueueCounters,
    pub offload: Stats,
}

impl Gone {
    /// Adds what a connection's NVMe queue has counted.
    pub fn add_queue(&mut self, connection: &Connection) {
        match &connection.l5p {
            L5p::Waiting(_) => {}
            L5p::Admin(controller) => self.admin += controller.counters(),
            L5p::Io(queue) => self.nvme += queue.counters(),
        }
    }
}

impl Connection {
    /// Counts of its NVMe queue; none before TCP has connected.
    pub(super) fn queue_counters(&self) -> Option<&QueueCounters> {
        match &self.l5p {
            L5p::Waiting(_) => None,
            L5p::Admin(controller) => Some(controller.counters()),
            L5p::Io(queue) => Some(queue.counters()),
        }
    }

    /// Counters of its offload queue and of those that it had, and of its copied payload.
    pub(super) fn offload_stats(&self, offloads: Option<&Offloads>) -> Stats {
        let mut sum = self.stats;
        sum += &self.past;
        if let Some(queue) = self.offload.and_then(|queue| offloads?.queue(queue)) {
            sum += queue.stats();
        }
        sum
    }

    fn stats(&self, offloads: Option<&Offloads>) -> ConnectionStats {
        let queue = self.offload.and_then(|queue| offloads?.queue(queue));
        let tuple = &self.tuple;
        ConnectionStats {
            connection: self.id.serial,
            role: match &self.l5p {
                L5p::Io(queue) => Role::Io(queue.config().queue_id),
                L5p::Admin(_) => Role::Admin,
                L5p::Waiting(super::connection::Role::Io(config)) => Role::Io(config.queue_id),
                L5p::Waiting(super::connection::Role::Admin(_)) => Role::Admin,
            },
            local: SocketAddr::new(tuple.local, tuple.local_port),
            remote: SocketAddr::new(tuple.remote, tuple.remote_port),
            state: self.tcp.state().name(),
            offload_queue: self.offload,
            gauges: ConnectionGauges {
                requests: self.under_way.into(),
                draining: self.draining.into(),
                tags_known: queue.map_or(0, |queue| queue.tags().known_to_device().into()),
            },
            tcp: *self.tcp.counters(),
            nvme: self.queue_counters().copied().unwrap_or_default(),
            offload: self.offload_stats(offloads),
        }
    }
}

impl ConnectionId {
    /// How many connections of the shard were begun before it, modulo 2^32: what events and statistics call it.
    pub fn serial(self) -> u32 {
        self.serial
    }
}

impl<P: Platform> Shard<P> {
    /// Notes an event.
    #[cold]
    pub(crate) fn note(&mut self, now: Duration, connection: Option<ConnectionId>, what: What) {
        self.log.note(now, connection.map(ConnectionId::serial), what);
    }

    /// Goes on where the shard before it ended, with its events and the number of connections that it had; to be called
    /// before a connection is begun.
    pub(crate) fn continue_log(&mut self, before: EventRing, opened: u32) {
        let since = std::mem::replace(&mut self.log, before);
        self.log.append(since);
        self.opened = opened;
    }

    /// The last things that happened.
    pub fn event_log(&self) -> &EventRing {
        &self.log
    }

    /// Everything that the shard has counted.
    pub fn totals(&self) -> Totals {
        let mut sums = self.past;
        for connection in self.connections.iter().flatten() {
            sums.tcp += connection.tcp.counters();
            sums.add_queue(connection);
        }
        self.lingering.slots.iter().flatten().for_each(|closing| sums.tcp += closing.tcp.counters());
        let Gone { tcp, nvme, admin, offload: _ } = sums;
        Totals {
            shard: self.counters(),
            receive_queue: *self.rq.rejected(),
            send_queue: *self.tx.rejected(),
            interface: *self.interface.counters(),
            tcp,
            nvme,
            admin,
            offload: self.offload_stats(),
        }
    }

    /// All numbers of the shard and of its connections, as shard number `shard` of its function. It costs memory for each
    /// connection, so it is for when somebody asks.
    pub fn stats(&self, shard: u32) -> ShardStats {
        let offloads = self.offloads.as_ref();
        let connections: Vec<_> = self.connections.iter().flatten().map(|c| c.stats(offloads)).collect();
        ShardStats {
            shard,
            gauges: Gauges {
                connections: connections.len() as u64,
                closing: self.lingering.len() as u64,
                offloaded: self.by_queue.len() as u64,
                requests: connections.iter().map(|connection| connection.gauges.requests).sum(),
                draining: self.draining.into(),
                rx_posted: self.rq.posted().into(),
                rx_held: self.frames_held().into(),
                quarantines: self.quarantine.len() as u64,
                broken: self.broken.is_some().into(),
            },
            totals: self.totals(),
            events: self.log.counters(),
            connections,
        }
    }

    /// The rings, each with what it is for: received packets, frames to be sent, and the control rings of offload queues. Not
    /// those of the function's events ([`Adapter::event_rings`](crate::adapter::Adapter::event_rings)).
    pub fn rings(&self) -> impl Iterator<Item = (String, RingView<'_>)> {
        let receive = [self.rq.view(), self.cq.view()].map(|view| ("receive".to_owned(), view));
        let send = self.tx.views().map(|view| ("send".to_owned(), view));
        let control = self.offloads.iter().flat_map(Offloads::queues).flat_map(|(queue, offload)| {
            offload.icosq().views().map(|view| (format!("control of offload queue {queue:#x}"), view))
        });
        receive.into_iter().chain(send).chain(control)
    }

    /// All numbers of the function, if it is this shard's own; of one that several share, they are with
    /// [`Host::adapter`](crate::adapter::Host::adapter).
    pub fn function_stats(&self) -> Option<FunctionStats> {
        self.adapter.own().map(Adapter::stats)
    }
}
