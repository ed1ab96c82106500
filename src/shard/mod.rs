//! The owner loop: one thread owns a receive queue, a send queue, connections and their offload queues; no locks inside.
//!
//! ```text
//! poll:   health and events of the function
//!      ─► control rings reaped (tags that the device has forgotten are noted)
//!      ─► receive CQ ─► rebuild ─► net ─► tcp ─► nvme          (every packet placed before a tag was unbound is read here)
//!      ─► forgotten tags given out, commands completed ─► events for the caller
//!      ─► connections whose time has come, or to which something happened, are run
//!      ─► control rings' doorbells (bind before send) ─► commands and acknowledgments ─► one doorbell of the send queue
//! ```
//!
//! The order is what makes a buffer safe: a read completes to the caller only after the device has forgotten its tag, and a
//! command leaves only after the device was shown its binding. Nothing here waits, except where connections are added to
//! and taken from the offload and where a failed queue is taken back to work: these execute firmware commands under
//! deadlines of seconds. A poll costs what happened, not what exists: connections are found by four-tuple, by deadline
//! (`timers`), or in the lists of those that are to be run and to send.
//!
//! | module | |
//! |---|---|
//! | `config`, `open`, `close` | what a shard is to be, how it comes and goes |
//! | `event`, `error` | what the caller is told |
//! | `connection`, `run` | a connection's protocols and deadlines; how it ends |
//! | `requests` | a buffer's way from the caller and back |
//! | `receive` (`completions`, `buffers`, `parties`), `transmit` | packets |
//! | `linger` | TCP after its owner is gone |
//! | `failure`, `quarantine` | what goes wrong with the function, and buffers that are not safe |
//! | `counters`, `observe` | what is counted and noted, and how it looks from outside |

mod buffers;
mod close;
mod completions;
mod config;
mod connection;
mod counters;
mod error;
mod event;
mod failure;
mod linger;
mod observe;
mod open;
mod parties;
mod quarantine;
mod receive;
mod requests;
mod run;
#[cfg(all(test, feature = "demo"))]
mod tests;
mod timers;
mod transmit;

pub use close::{Closed, Retired};
pub use config::{Config, MAX_SHARDS, OffloadPolicy};
pub use connection::ConnectionId;
pub use counters::{ConnectionGauges, Counters, Gauges, Totals};
pub use error::{Disconnect, DisconnectKind, NoOffload, NotOpened, OffloadRefused, Refused};
pub use event::{Completion, Event};
pub use quarantine::Quarantine;
pub use receive::RECEIVE_BUDGET;

use crate::adapter::Control;
use crate::ddp::contract::Config as OffloadConfig;
use crate::ddp::device::{Offloads, Socket};
use crate::ddp::policy::{Adaptive, Report, Threshold};
use crate::ddp::stats::Stats;
use crate::net::Interface;
use crate::nvme::controller::{Controller, ControllerConfig};
use crate::nvme::queue::{HostQueue, QueueConfig};
use crate::observe::{EventRing, What};
use crate::platform::Platform;
use crate::queue::{Base, ReceiveQueue, SendQueue};
use crate::steering::{FiveTuple, Steering};
use crate::tcp::{FourTuple, IsnSecret};
use buffers::Buffers;
use completions::RxCompletions;
use connection::{Connection, Role};
use linger::{Lingering, Party};
use open::Path;
use parties::Parties;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use timers::Timers;

/// How soon to poll again while the device owes something that no packet announces.
const DEVICE_PACE: Duration = Duration::from_micros(100);
/// How late the event of a completion that was seen may be.
const EVENT_PATIENCE: Duration = Duration::from_millis(100);

/// One thread's share of a function.
pub struct Shard<P: Platform> {
    adapter: Control<P>,
    platform: Arc<P>,
    base: Base,
    config: Config,
    cq: RxCompletions,
    rq: ReceiveQueue,
    buffers: Buffers,
    path: Path,
    tx: SendQueue,
    steering: Steering,
    offloads: Option<Offloads>,
    /// The threshold, if it follows costs.
    adaptive: Option<Box<Adaptive>>,
    interface: Interface,
    secret: IsnSecret,
    /// Local ports that are the shard's, and the one that is tried next.
    ports: RangeInclusive<u16>,
    next_port: u16,
    connections: Vec<Option<Box<Connection>>>,
    /// Indices of `connections` that are free.
    free: Vec<u32>,
    /// Connections opened since the beginning, modulo 2^32.
    opened: u32,
    parties: Parties,
    /// Connection of each offload queue, by flow tag.
    by_queue: HashMap<u32, u32>,
    lingering: Lingering,
    timers: Timers,
    /// Connections to be run, each once; and the memory of the list that was run last.
    busy: Vec<u32>,
    running: Vec<u32>,
    /// Those who may have something to send, in the order of their turns; and the memory of another such list.
    sending: Vec<Party>,
    blocked: Vec<Party>,
    /// Memory for the completions of one run.
    completed: Vec<crate::nvme::queue::Completion>,
    events: VecDeque<Event>,
    counters: Counters,
    /// Counters of connections that are gone, and doorbells of their control rings.
    past: observe::Gone,
    past_doorbells: u64,
    /// What happened, for whoever looks later.
    log: EventRing,
    /// Answered requests that wait for the device to forget their buffers.
    draining: u32,
    /// Entries of the receive CQ that may lie in front of what was reaped from the control rings last (see `receive`).
    unread: u32,
    /// An interrupt was asked for, and has not been announced: how much of the receive CQ had been read then, and when it was.
    armed: Option<(u32, Duration)>,
    /// Since when the send ring is full and somebody waits for room.
    ring_full_since: Option<Duration>,
    health_at: Duration,
    /// Queues taken back to work in the time that began then.
    recoveries: (Duration, u32),
    /// The offload is to be given up with the next poll; and why it was.
    falls_back: bool,
    /// Failures of the receive queue that the offload may have caused, in the time that began then.
    blamed: (Duration, u32),
    offload_off: Option<String>,
    quarantine: Quarantine,
    /// The function or a queue of the shard failed for good.
    broken: Option<String>,
    /// The function executes no commands any more.
    dead: bool,
    /// Payloads that TCP did not keep.
    unused: Vec<crate::frame::Frame>,
    /// Completions that were read, on their way to TCP within one poll.
    burst: Vec<crate::ddp::device::Received>,
    /// Bytes on their way from the L5P to TCP.
    scratch: Vec<u8>,
}

impl<P: Platform> Shard<P> {
    /// Opens the admin connection to a controller: [`Event::ControllerReady`] or [`Event::Disconnected`] follows.
    pub fn connect_admin(&mut self, target: SocketAddrV4, config: ControllerConfig) -> Result<ConnectionId, Refused> {
        self.connect(target, Role::Admin(Box::new(config)))
    }

    /// Opens the connection of an I/O queue, as the controller described it
    /// ([`Controller::io_queue`](crate::nvme::controller::Controller::io_queue)): [`Event::QueueReady`] or
    /// [`Event::Disconnected`] follows.
    pub fn connect_io(&mut self, target: SocketAddrV4, config: QueueConfig) -> Result<ConnectionId, Refused> {
        self.connect(target, Role::Io(Box::new(config)))
    }

    fn connect(&mut self, target: SocketAddrV4, role: Role) -> Result<ConnectionId, Refused> {
        if let Some(why) = &self.broken {
            return Err(Refused::Broken(why.clone()));
        }
        let limit = self.config.max_connections;
        if self.free.is_empty() && self.connections.len() >= limit as usize {
            return Err(Refused::TooManyConnections { limit });
        }
        let tuple = self.free_tuple(target).ok_or(Refused::NoPort(target))?;
        let now = self.platform.now();
        self.counters.connections_opened += 1;
        let config = crate::tcp::Config {
            mss: self.interface.mss(),
            receive_bytes: self.config.rx_window,
            receive_payloads: self.config.rx_payloads_per_connection,
            send_bytes: self.config.tx_buffer,
            initial_sequence: self.secret.initial_sequence(&tuple, now),
            timestamp_offset: self.secret.timestamp_offset(&tuple),
            ..crate::tcp::Config::default()
        };
        let tcp = crate::tcp::Connection::connect(config, now)?;
        let index = self.free.pop().unwrap_or(self.connections.len() as u32);
        let id = ConnectionId { index, serial: self.opened };
        self.opened = self.opened.wrapping_add(1);
        let connection = Some(Box::new(Connection::new(id, tuple, tcp, role, now)));
        match self.connections.get_mut(index as usize) {
            Some(slot) => *slot = connection,
            None => self.connections.push(connection),
        }
        self.parties.insert(tuple, Party::Live(index));
        self.note(now, Some(id), What::ConnectionOpened { remote: target.into() });
        self.mark(index);
        Ok(id)
    }

    /// A four-tuple to `target` that no connection has, living or closing; every port is tried once.
    fn free_tuple(&mut self, target: SocketAddrV4) -> Option<FourTuple> {
        let mut tuple = FourTuple {
            local: IpAddr::V4(self.config.ip),
            local_port: self.next_port,
            remote: IpAddr::V4(*target.ip()),
            remote_port: target.port(),
        };
        let (first, last) = (*self.ports.start(), *self.ports.end());
        let next = |port: u16| if port < last { port + 1 } else { first };
        for _ in first..=last {
            if !self.parties.contains(&tuple) {
                self.next_port = next(tuple.local_port);
                return Some(tuple);
            }
            tuple.local_port = next(tuple.local_port);
        }
        None
    }

    /// Closes a connection. An I/O queue's requests that are under way are waited for, an admin connection shuts its
    /// controller down first; one that is not connected or not ready yet is given up. [`Event::Disconnected`] follows.
    pub fn close_connection(&mut self, id: ConnectionId) {
        let Some(index) = self.find(id) else { return };
        if let Some(Some(connection)) = self.connections.get_mut(index) {
            connection.closing = true;
            self.mark(index as u32);
        }
    }

    /// Ends a connection at once: requests that are under way fail, the peer gets a reset. [`Event::Disconnected`] follows.
    pub fn abort_connection(&mut self, id: ConnectionId) {
        let now = self.platform.now();
        let Some(index) = self.find(id) else { return };
        if let Some(Some(connection)) = self.connections.get_mut(index) {
            connection.end(Disconnect::Closed, now);
            connection.tcp.abort();
            self.mark(index as u32);
        }
    }

    /// Where a connection is, if it still is.
    fn find(&self, id: ConnectionId) -> Option<usize> {
        let index = id.index as usize;
        self.connections.get(index)?.as_ref().filter(|connection| connection.id == id).map(|_| index)
    }

    fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections[self.find(id)?].as_deref()
    }

    /// The controller behind an admin connection, once TCP has connected.
    pub fn controller(&self, id: ConnectionId) -> Option<&Controller> {
        self.connection(id)?.controller()
    }

    /// The NVMe queue of an I/O connection, once TCP has connected.
    pub fn queue(&self, id: ConnectionId) -> Option<&HostQueue> {
        self.connection(id)?.io_queue()
    }

    /// Adds the offload to a ready I/O queue without outstanding requests (`sk_add`). On failure the queue goes on without,
    /// and [`Shard::why_no_offload`] says why.
    pub fn offload(&mut self, id: ConnectionId) -> Result<(), OffloadRefused> {
        self.offload_many(&[id]).pop().expect("one outcome per connection")
    }

    /// [`Shard::offload`] of many connections, whose firmware commands go together and keep every command slot busy. One
    /// outcome for each, in order.
    ///
    /// The shard does nothing else meanwhile: 32 queues of 128 tags take some 7 ms where a command takes 50 µs. Who has
    /// thousands adds some at a time, and polls in between.
    pub fn offload_many(&mut self, ids: &[ConnectionId]) -> Vec<Result<(), OffloadRefused>> {
        let mut asked = HashSet::new();
        let wanted = ids.iter().map(|id| match asked.insert(*id) {
            true => self.offloadable(*id),
            false => Err(OffloadRefused::NotReady),
        });
        let wanted: Vec<Result<(Socket, OffloadConfig), OffloadRefused>> = wanted.collect();
        let possible: Vec<_> = wanted.iter().flatten().copied().collect();
        let added = match &mut self.offloads {
            Some(offloads) if !possible.is_empty() => {
                let mut device = offloads.with(&mut self.adapter, &mut self.steering, &*self.platform, &self.base);
                device.add_each(&possible)
            }
            _ => Vec::new(),
        };
        let mut added = added.into_iter();
        let mut outcomes = Vec::with_capacity(ids.len());
        for (id, wanted) in ids.iter().zip(wanted) {
            let outcome = wanted.and_then(|(socket, _)| {
                let queue = added.next().expect("one outcome per connection").map_err(Box::new)?;
                Ok((queue, socket.next_pdu))
            });
            if let Some(index) = self.find(*id)
                && let Some(Some(connection)) = self.connections.get_mut(index)
            {
                match &outcome {
                    Ok((queue, next_pdu)) => {
                        connection.offload = Some(*queue);
                        connection.seen.start(*next_pdu);
                        self.by_queue.insert(*queue, id.index);
                    }
                    Err(error) => connection.no_offload = error.into(),
                }
            }
            let what = match &outcome {
                Ok((queue, _)) => What::OffloadAdded { queue: *queue },
                Err(error) => {
                    let no = NoOffload::from(error);
                    self.counters.offload_refused.count(no.why);
                    What::OffloadRefused { kind: no.why.name(), why: crate::observe::text(&no.detail) }
                }
            };
            self.note(self.platform.now(), Some(*id), what);
            outcomes.push(outcome.map(drop));
        }
        outcomes
    }

    /// What the offload has to know of a connection, if it is one that can be offloaded now.
    fn offloadable(&self, id: ConnectionId) -> Result<(Socket, OffloadConfig), OffloadRefused> {
        if self.config.offload == OffloadPolicy::Off {
            return Err(OffloadRefused::Off);
        }
        if let Some(why) = &self.broken {
            return Err(OffloadRefused::Failed(why.clone()));
        }
        let connection = self.connection(id).ok_or(OffloadRefused::NotReady)?;
        if let Some(why) = &self.offload_off {
            return Err(OffloadRefused::GivenUp(why.clone()));
        }
        if self.offloads.is_none() {
            return Err(OffloadRefused::NotPossible(self.adapter.capabilities().offload().why_not()));
        }
        if connection.closing || connection.ended.is_some() || connection.under_way != 0 {
            return Err(OffloadRefused::NotReady);
        }
        let rcv_nxt = connection.tcp.rcv_nxt().wire();
        let tuple = connection.tuple;
        let Some(queue) = connection.io_queue().filter(|queue| queue.is_ready() && queue.outstanding() == 0) else {
            return Err(OffloadRefused::NotReady);
        };
        // Everything received was consumed, so the next byte that the device sees begins a PDU.
        if queue.next_pdu_seq().is_some_and(|next| next != rcv_nxt) || connection.offload.is_some() {
            return Err(OffloadRefused::NotReady);
        }
        let negotiated = queue.negotiated();
        let config = OffloadConfig {
            cpda: negotiated.cpda,
            header_digest: negotiated.header_digest,
            data_digest: negotiated.data_digest,
            queue_size: u32::from(queue.config().depth),
            rqtn: self.path.rqt.number(),
        };
        let socket = Socket {
            tuple: FiveTuple {
                source: SocketAddr::new(tuple.remote, tuple.remote_port),
                destination: SocketAddr::new(tuple.local, tuple.local_port),
            },
            next_pdu: rcv_nxt,
        };
        Ok((socket, config))
    }

    /// True if the connection has an offload queue.
    pub fn is_offloaded(&self, id: ConnectionId) -> bool {
        self.connection(id).is_some_and(|connection| connection.offload.is_some())
    }

    /// Why a connection has no offload; `None` if it has, or if there is no such connection.
    pub fn why_no_offload(&self, id: ConnectionId) -> Option<&NoOffload> {
        self.connection(id).filter(|connection| connection.offload.is_none()).map(|connection| &connection.no_offload)
    }

    /// Which reads are bound at present, by size, and why those.
    pub fn threshold(&self) -> Report {
        match (&self.adaptive, self.config.offload_threshold) {
            (Some(adaptive), _) => Report { bytes: adaptive.threshold(), measured: Some(adaptive.measured()) },
            (None, Threshold::Fixed(bytes)) => Report { bytes, measured: None },
            (None, Threshold::Auto(_)) => Report { bytes: 0, measured: None },
        }
    }

    /// Counters of one connection's offload, and of its copied payload.
    pub fn queue_stats(&self, id: ConnectionId) -> Option<Stats> {
        Some(self.connection(id)?.offload_stats(self.offloads.as_ref()))
    }

    /// Does everything that can be done now. Returns true if anything was done: poll again; else nothing happens before
    /// [`Shard::next_deadline`] or the next packet. At most [`RECEIVE_BUDGET`] packets are taken.
    pub fn poll(&mut self) -> bool {
        let now = self.platform.now();
        let mut worked = false;
        self.look_at_health(now);
        if !self.dead {
            worked |= self.poll_adapter(now);
            worked |= self.fall_back(now);
            worked |= self.reap();
            worked |= self.poll_receive(now);
            worked |= self.poll_offload_events(now);
        }
        worked |= self.wake_due(now);
        worked |= self.run_busy(now);
        worked |= self.poll_transmit(now);
        if let (Some(bytes), Some(offloads)) =
            (self.adaptive.as_mut().and_then(|adaptive| adaptive.moved()), &mut self.offloads)
        {
            log::info!("offload threshold: {bytes} bytes");
            offloads.set_threshold(bytes);
        }
        // A ring that stands still is noticed last, and then everything ends.
        worked | !self.busy.is_empty()
    }

    /// The next thing that happened.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Shard::poll`] has something to do although nothing arrives: the first deadline of any connection, of the
    /// interface and of the look at the function's health, and soon if the device owes a completion.
    pub fn next_deadline(&self) -> Option<Duration> {
        let now = self.platform.now();
        let at_once = (!self.busy.is_empty() || self.unread != 0 || self.falls_back).then_some(now);
        let health = (!self.dead).then_some(self.health_at);
        let (asks, has_room) = (self.interface.next_deadline(), self.tx.has_room());
        let ring_full = (!self.sending.is_empty() || asks.is_some()) && !has_room;
        let owed = (!self.dead && (self.draining != 0 || ring_full)).then(|| now + DEVICE_PACE);
        // Nobody is asked for an address without room to ask, or over a function that is dead.
        let asks = asks.filter(|_| has_room && !self.dead);
        [at_once, health, owed, self.timers.next(), asks].into_iter().flatten().min()
    }

    /// Asks the device for an interrupt when the next packet is there, at once if there is one already; for a caller that
    /// goes to sleep ([`Platform::sleep`], until [`Shard::next_deadline`]). False if there is something to be done: poll first.
    ///
    /// What the device reports on its own (errors, the port, firmware that wants pages) interrupts without being asked.
    /// Completions of sends and of control rings do not: where something waits for one, `next_deadline` is soon.
    pub fn arm(&mut self) -> bool {
        if !self.busy.is_empty() || self.unread != 0 || self.falls_back {
            return false;
        }
        // Packets that came unannounced, and nothing for so long: the doorbell was lost, as writes to a function are that is gone
        // for a moment. If the event is only late, the device ignores the second one, which has the same sequence number.
        let (read, now) = (self.cq.consumer(), self.platform.now());
        let asked = self.armed.is_some_and(|(then, at)| then == read || now < at + EVENT_PATIENCE);
        if !self.dead && !asked {
            self.armed = Some((read, now));
            self.counters.armed += 1;
            self.cq.arm(&*self.platform);
        }
        true
    }

    /// The function that the shard runs on.
    pub fn adapter(&self) -> &Control<P> {
        &self.adapter
    }

    /// The function that the shard runs on, to execute commands between two polls.
    #[cfg(feature = "demo")]
    pub(crate) fn adapter_mut(&mut self) -> &mut Control<P> {
        &mut self.adapter
    }

    /// The platform.
    pub fn platform(&self) -> &Arc<P> {
        &self.platform
    }

    /// Why the shard takes no more connections, if so: the function or one of its queues has failed for good.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// True if the function executes no commands any more: it must be reset.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Connections whose end the peer has not confirmed, or that are in TIME-WAIT.
    pub fn closing(&self) -> usize {
        self.lingering.len()
    }

    /// Counters of the shard.
    pub fn counters(&self) -> Counters {
        Counters {
            packets_tx: self.tx.frames(),
            doorbells: self.doorbells(),
            discarded: self.cq.discarded() + self.tx.discarded(),
            ..self.counters
        }
    }

    /// Counters of the network interface.
    pub fn interface_counters(&self) -> &crate::net::Counters {
        self.interface.counters()
    }

    /// Counters of the offload and of copied payload, over all connections and queues that were and are.
    pub fn offload_stats(&self) -> Stats {
        let mut sum = self.offloads.as_ref().map(Offloads::stats).unwrap_or_default();
        sum += &self.past.offload;
        self.connections.iter().flatten().for_each(|connection| sum += &connection.stats);
        sum
    }

    /// Doorbell registers written by send and control queues, of those that are gone too.
    pub fn doorbells(&self) -> u64 {
        self.tx.doorbells() + self.past_doorbells + self.offloads.as_ref().map_or(0, Offloads::doorbells)
    }

    /// Receive buffers that frames hold: packets that wait for others before them.
    pub fn frames_held(&self) -> u32 {
        self.buffers.in_frames()
    }
}
