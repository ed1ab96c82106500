//! All numbers of a function at one moment: function, its shards, their connections; and the walk over them.

use super::counter::Readings;
use super::event::RingCounters;
use crate::adapter::{Gauges as FunctionGauges, Totals as FunctionTotals};
use crate::ddp::stats::{KernelNames, SeedNames, Stats};
use crate::nvme::queue::Counters as QueueCounters;
use crate::session::{Counters as SessionCounters, Gauges as SessionGauges};
use crate::shard::{ConnectionGauges, Gauges as ShardGauges, Totals};
use crate::tcp::Counters as TcpCounters;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// A function and everything on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// When, on the platform's clock.
    pub at: Duration,
    /// The function.
    pub function: FunctionStats,
    /// Sessions with controllers.
    pub sessions: Vec<SessionStats>,
    /// Its shards.
    pub shards: Vec<ShardStats>,
}

/// Numbers of a function.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FunctionStats {
    /// PCI address, or the name of a function that is not on a bus.
    pub address: String,
    /// Version of its firmware.
    pub firmware: String,
    /// What it has at the moment.
    pub gauges: FunctionGauges,
    /// What was counted, and never goes back.
    pub totals: FunctionTotals,
}

/// Numbers of a session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionStats {
    /// Which session of the process.
    pub session: u32,
    /// What it is doing, in a word.
    pub phase: &'static str,
    /// What it has at the moment.
    pub gauges: SessionGauges,
    /// What was counted, and never goes back.
    pub counters: SessionCounters,
}

/// Numbers of a shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardStats {
    /// Which shard of the function.
    pub shard: u32,
    /// What it has at the moment.
    pub gauges: ShardGauges,
    /// What was counted, and never goes back.
    pub totals: Totals,
    /// The event ring.
    pub events: RingCounters,
    /// Connections that have not ended.
    pub connections: Vec<ConnectionStats>,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The admin queue.
    Admin,
    /// An I/O queue, by its NVMe queue id.
    Io(u16),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Admin => f.write_str("admin queue"),
            Role::Io(id) => write!(f, "I/O queue {id}"),
        }
    }
}

/// Numbers of a connection, which is a queue of NVMe and, if it is offloaded, one of the offload.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionStats {
    /// How many connections of the shard were begun before it.
    pub connection: u32,
    /// What it is for.
    pub role: Role,
    /// Our address.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// State of TCP, as RFC 9293 calls it.
    pub state: &'static str,
    /// Number of its offload queue, if it has one.
    pub offload_queue: Option<u32>,
    /// What it has at the moment.
    pub gauges: ConnectionGauges,
    /// TCP.
    pub tcp: TcpCounters,
    /// NVMe/TCP.
    pub nvme: QueueCounters,
    /// The offload.
    pub offload: Stats,
}

/// What a set of numbers is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The whole function.
    Function,
    /// A session with a controller.
    Session,
    /// A shard.
    Shard,
    /// A connection.
    Connection,
}

impl Scope {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Function => "function",
            Scope::Session => "session",
            Scope::Shard => "shard",
            Scope::Connection => "connection",
        }
    }
}

/// A place in the tree.
#[derive(Clone, Copy, Debug)]
pub enum Node<'a> {
    /// The function.
    Function(&'a FunctionStats),
    /// A session.
    Session(&'a SessionStats),
    /// A shard.
    Shard(&'a ShardStats),
    /// A connection of the shard with this number.
    Connection(u32, &'a ConnectionStats),
}

impl Node<'_> {
    /// Its kind.
    pub fn scope(&self) -> Scope {
        match self {
            Node::Function(_) => Scope::Function,
            Node::Session(_) => Scope::Session,
            Node::Shard(_) => Scope::Shard,
            Node::Connection(..) => Scope::Connection,
        }
    }
}

/// Which set of a place's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// What there is at the moment.
    State,
    /// The seed's nine counters.
    Seed,
    /// The kernel's names for them.
    Kernel,
    /// Recovery and requests of a session.
    Recovery,
    /// The shard itself.
    Loop,
    /// The offload.
    Offload,
    /// NVMe/TCP: of a shard, of its I/O queues.
    Nvme,
    /// NVMe/TCP of admin queues.
    Admin,
    /// TCP.
    Tcp,
    /// Ethernet, ARP and IP.
    Interface,
    /// The receive queue.
    ReceiveQueue,
    /// The send queue.
    SendQueue,
    /// Firmware commands.
    Commands,
    /// Event queues of the function, event ring of the shard.
    Events,
    /// Health of the function.
    Health,
    /// What several shards have done by the one thread that owns the function.
    Host,
}

impl Group {
    /// Name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Group::State => "state",
            Group::Seed => "seed",
            Group::Kernel => "kernel",
            Group::Recovery => "recovery",
            Group::Loop => "loop",
            Group::Offload => "offload",
            Group::Nvme => "nvme",
            Group::Admin => "admin",
            Group::Tcp => "tcp",
            Group::Interface => "interface",
            Group::ReceiveQueue => "receive_queue",
            Group::SendQueue => "send_queue",
            Group::Commands => "commands",
            Group::Events => "events",
            Group::Health => "health",
            Group::Host => "host",
        }
    }

    /// For people.
    pub fn title(self, scope: Scope) -> &'static str {
        match self {
            Group::State => "at the moment",
            Group::Seed => "the seed document's counters",
            Group::Kernel => "the same under the kernel's names",
            Group::Recovery => "recovery and requests",
            Group::Loop => "the shard itself",
            Group::Offload => "offload",
            Group::Nvme if scope == Scope::Shard => "NVMe/TCP, I/O queues",
            Group::Nvme => "NVMe/TCP",
            Group::Admin => "NVMe/TCP, admin queues",
            Group::Tcp => "TCP",
            Group::Interface => "Ethernet, ARP and IP",
            Group::ReceiveQueue => "completions of the receive queue that were not believed",
            Group::SendQueue => "completions of the send queue that were not believed",
            Group::Commands => "firmware commands",
            Group::Events if scope == Scope::Function => "event queues",
            Group::Events => "event ring",
            Group::Health => "health",
            Group::Host => "shards that share the function",
        }
    }
}

/// A visitor of [`Snapshot::walk`].
pub type Visit<'a> = dyn FnMut(Node<'_>, Group, &dyn Readings) + 'a;

impl FunctionStats {
    /// Calls `visit` for each set of numbers.
    pub fn walk(&self, visit: &mut Visit<'_>) {
        let FunctionStats { address: _, firmware: _, gauges, totals } = self;
        let FunctionTotals { commands, events, health, host } = totals;
        let node = Node::Function(self);
        visit(node, Group::State, gauges);
        visit(node, Group::Commands, commands);
        visit(node, Group::Events, events);
        visit(node, Group::Health, health);
        visit(node, Group::Host, host);
    }
}

impl SessionStats {
    /// Calls `visit` for each set of numbers.
    pub fn walk(&self, visit: &mut Visit<'_>) {
        let SessionStats { session: _, phase: _, gauges, counters } = self;
        let node = Node::Session(self);
        visit(node, Group::State, gauges);
        visit(node, Group::Recovery, counters);
    }
}

impl ShardStats {
    /// Calls `visit` for each set of numbers, those of connections last.
    pub fn walk(&self, visit: &mut Visit<'_>) {
        // No `..`: a set that is added must be visited.
        let ShardStats { shard, gauges, totals, events, connections } = self;
        let Totals { shard: own, receive_queue, send_queue, interface, tcp, nvme, admin, offload } = totals;
        let node = Node::Shard(self);
        visit(node, Group::State, gauges);
        visit(node, Group::Seed, &SeedNames(offload));
        visit(node, Group::Kernel, &KernelNames(offload));
        visit(node, Group::Loop, own);
        visit(node, Group::Offload, offload);
        visit(node, Group::Nvme, nvme);
        visit(node, Group::Admin, admin);
        visit(node, Group::Tcp, tcp);
        visit(node, Group::Interface, interface);
        visit(node, Group::ReceiveQueue, receive_queue);
        visit(node, Group::SendQueue, send_queue);
        visit(node, Group::Events, events);
        for connection in connections {
            connection.walk(*shard, visit);
        }
    }
}

impl ConnectionStats {
    /// Calls `visit` for each set of numbers of this connection of shard `shard`.
    pub fn walk(&self, shard: u32, visit: &mut Visit<'_>) {
        let ConnectionStats {
            connection: _,
            role: _,
            local: _,
            remote: _,
            state: _,
            offload_queue: _,
            gauges,
            tcp,
            nvme,
            offload,
        } = self;
        let node = Node::Connection(shard, self);
        visit(node, Group::State, gauges);
        visit(node, Group::Seed, &SeedNames(offload));
        visit(node, Group::Kernel, &KernelNames(offload));
        visit(node, Group::Offload, offload);
        visit(node, Group::Nvme, nvme);
        visit(node, Group::Tcp, tcp);
    }
}

impl Snapshot {
    /// Calls `visit` for each set of numbers: the function's, then each session's, each shard's and its connections'.
    /// Everything that shows numbers does it through this.
    pub fn walk(&self, visit: &mut Visit<'_>) {
        self.function.walk(visit);
        self.sessions.iter().for_each(|session| session.walk(visit));
        self.shards.iter().for_each(|shard| shard.walk(visit));
    }

    /// Takes in what another thread has to show of the same function.
    pub fn merge(&mut self, other: Snapshot) {
        let Snapshot { at, function, sessions, shards } = other;
        self.at = self.at.max(at);
        if !function.address.is_empty() {
            self.function = function;
        }
        self.sessions.extend(sessions);
        self.sessions.sort_by_key(|session| session.session);
        self.shards.extend(shards);
        self.shards.sort_by_key(|shard| shard.shard);
    }

    /// One session, one shard with one connection, and nothing counted: whose walk meets everything that there is.
    pub fn empty() -> Snapshot {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let connection = ConnectionStats {
            connection: 0,
            role: Role::Admin,
            local: nowhere,
            remote: nowhere,
            state: "CLOSED",
            offload_queue: None,
            gauges: ConnectionGauges::default(),
            tcp: TcpCounters::default(),
            nvme: QueueCounters::default(),
            offload: Stats::default(),
        };
        let shard = ShardStats { connections: vec![connection], ..ShardStats::default() };
        Snapshot { sessions: vec![SessionStats::default()], shards: vec![shard], ..Snapshot::default() }
    }
}
