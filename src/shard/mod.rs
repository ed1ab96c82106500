//! The owner loop: one thread owns a receive queue, a send queue, connections and their offload queues; no locks inside.
//!
//! ```text
//! poll:   events of the function
//!      ─► control rings reaped (tags that the device has forgotten are noted)
//!      ─► receive CQ ─► rebuild ─► net ─► tcp ─► nvme          (every packet placed before a tag was unbound is read here)
//!      ─► forgotten tags given out, commands completed ─► events for the caller
//!      ─► control rings' doorbells (bind before send) ─► commands and acknowledgments ─► one doorbell of the send queue
//! ```
//!
//! The order is what makes a buffer safe: a read completes to the caller only after the device has forgotten its tag, and a
//! command leaves only after the device was shown its binding. Nothing here waits, except where connections are added to
//! and taken from the offload, which executes firmware commands under deadlines.

mod completions;
mod connection;
mod error;
mod receive;
mod requests;
mod transmit;

pub use connection::{ConnectionId, Role};
pub use error::{Disconnect, NotOpened, OffloadRefused, Refused};

use crate::adapter::{Adapter, Event as AdapterEvent, Teardown};
use crate::ddp::contract::{Config as OffloadConfig, Event as OffloadEvent, Offload};
use crate::ddp::create::Capacity;
use crate::ddp::device::{Offloads, Settings, Socket};
use crate::ddp::stats::Stats;
use crate::dma::IoBuf;
use crate::net::{Interface, InterfaceConfig, MacAddr};
use crate::nvme::controller::ControllerConfig;
use crate::nvme::queue::{DigestBy, QueueConfig};
use crate::nvme::status::Status;
use crate::platform::{Deadline, Platform};
use crate::queue::{Base, FrameQueueParams, ReceiveQueue, RxPool, SendQueue, create_tis};
use crate::steering::{
    Defaults, FiveTuple, Steering, SteeringCaps, SteeringParams, Target, TirParams, create_rqt, create_tir,
};
use crate::tcp::{FourTuple, IsnSecret};
use completions::RxCompletions;
use connection::Connection;
use hw_regs::cqe::OffloadCqe;
use hw_regs::layout::{Access, Layout};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

/// What to do about the offload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffloadPolicy {
    /// Use it where possible.
    #[default]
    Prefer,
    /// Fail where it is not possible.
    Require,
    /// Do not use it.
    Off,
}

/// How a shard is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address of this end.
    pub ip: Ipv4Addr,
    /// Leading bits of the address that neighbours share.
    pub prefix_len: u8,
    /// Where packets for others go.
    pub gateway: Option<Ipv4Addr>,
    /// TCP connections at most.
    pub max_connections: u32,
    /// log2 of the receive queue's work requests.
    pub log_rx: u32,
    /// log2 of the send queue's 64-byte blocks.
    pub log_tx: u32,
    /// Receive buffers that each connection may hold beyond those posted to the device: out-of-order packets.
    pub rx_payloads_per_connection: u32,
    /// TCP receive window of each connection, bytes.
    pub rx_window: u32,
    /// TCP send buffer of each connection, bytes.
    pub tx_buffer: u32,
    /// Secret from which initial sequence numbers and ports are derived; random bytes in production.
    pub secret: [u8; 16],
    /// Reads of fewer bytes are not offloaded; 0 for none.
    pub offload_threshold: u32,
}

impl Config {
    /// A shard for one controller with a few queues.
    pub fn new(ip: Ipv4Addr, secret: [u8; 16]) -> Config {
        Config {
            ip,
            prefix_len: 24,
            gateway: None,
            max_connections: 16,
            log_rx: 11,
            log_tx: 11,
            rx_payloads_per_connection: 256,
            rx_window: 512 << 10,
            tx_buffer: 256 << 10,
            secret,
            offload_threshold: 0,
        }
    }
}

/// A request that is done.
#[derive(Debug)]
pub struct Completion {
    /// What the caller gave with the request.
    pub token: u64,
    /// How it went.
    pub status: Status,
    /// Bytes of a read that the device had put in place.
    pub placed: u32,
    /// Bytes of a read that software copied.
    pub copied: u32,
    /// Who checked the data digests.
    pub digest_by: DigestBy,
    /// The caller's buffer. `None` only if the device may still write it (firmware refused to destroy its memory key): it
    /// is kept from reuse until the function is reset.
    pub buffer: Option<IoBuf>,
}

/// What happened.
#[derive(Debug)]
#[must_use = "buffers come back with events"]
pub enum Event {
    /// The admin connection is up: limits and namespaces are known, I/O queues may connect.
    ControllerReady(ConnectionId),
    /// The controller was shut down in order.
    ControllerDown(ConnectionId),
    /// An I/O queue takes requests.
    QueueReady(ConnectionId),
    /// A request is done.
    Completed(ConnectionId, Completion),
    /// A connection has ended; all its requests have completed before.
    Disconnected(ConnectionId, Disconnect),
}

/// What a shard has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets received.
    pub packets_rx: u64,
    /// Packets sent.
    pub packets_tx: u64,
    /// Completions that were not believed; their packets are lost and TCP asks again.
    pub bad_completions: u64,
    /// Packets whose checksum the device found wrong, or did not check.
    pub bad_checksums: u64,
    /// Segments for no connection.
    pub no_connection: u64,
    /// Packets whose placed payload belongs to another connection than their headers say.
    pub foreign_placements: u64,
    /// Errors of send and receive queues.
    pub queue_errors: u64,
    /// Frames that could not be built or posted.
    pub not_sent: u64,
}

/// One thread's share of a function.
pub struct Shard<P: Platform> {
    adapter: Adapter<P>,
    platform: Arc<P>,
    base: Base,
    config: Config,
    cq: RxCompletions,
    rq: ReceiveQueue,
    pool: RxPool,
    rqtn: u32,
    tx: SendQueue,
    steering: Steering,
    offloads: Option<Offloads>,
    interface: Interface,
    secret: IsnSecret,
    next_port: u16,
    connections: Vec<Option<Box<Connection>>>,
    by_tuple: HashMap<FourTuple, u32>,
    /// Connection of each offload queue, by flow tag.
    by_queue: HashMap<u32, u32>,
    /// Connections with something to do before the poll ends.
    busy: Vec<u32>,
    events: VecDeque<Event>,
    counters: Counters,
    /// The function or a queue of the shard failed for good.
    broken: Option<String>,
    /// Payloads that TCP did not keep.
    unused: Vec<crate::frame::Frame>,
    /// Bytes on their way from the L5P to TCP.
    scratch: Vec<u8>,
}

/// What a shard left behind.
#[derive(Debug)]
pub struct Closed {
    /// The function's own teardown.
    pub teardown: Teardown,
    /// What went wrong before it, a line each.
    pub problems: Vec<String>,
}

/// Bytes of an Ethernet header with a VLAN tag.
const ETHERNET_BYTES: u32 = 18;
/// Bytes moved from the L5P to TCP at a time.
const SCRATCH: usize = 64 << 10;
/// First port of those that connections take (RFC 6335: dynamic ports).
const FIRST_PORT: u16 = 49152;

impl<P: Platform> Shard<P> {
    /// Creates the queues, steering and interface of a shard on a function that is up. On failure the function is torn
    /// down.
    pub fn open(mut adapter: Adapter<P>, config: Config) -> Result<Shard<P>, NotOpened> {
        match Shard::<P>::create_queues(&mut adapter, &config) {
            Ok(parts) => Ok(Shard::assemble(adapter, config, parts)),
            Err(error) => {
                let deadline = adapter.command_deadline();
                let teardown = adapter.teardown(deadline);
                if !teardown.is_clean() {
                    log::error!("{teardown}");
                }
                Err(error)
            }
        }
    }

    fn create_queues(adapter: &mut Adapter<P>, config: &Config) -> Result<Parts, NotOpened> {
        let deadline = adapter.command_deadline();
        let base = Base {
            heap: adapter.heap().clone(),
            pd: adapter.pd(),
            uar: adapter.uar(),
            transport_domain: adapter.transport_domain(),
            data_mkey: adapter.data_mkey(),
        };
        let eqn = adapter.completion_eqn(0);
        let interface = Interface::new(InterfaceConfig {
            mac: MacAddr(adapter.mac()),
            ip: config.ip,
            prefix_len: config.prefix_len,
            gateway: config.gateway,
            mtu: adapter.mtu(),
        })?;
        let mtu = u32::from(adapter.mtu());
        let buffers = (1 << config.log_rx) + config.max_connections * config.rx_payloads_per_connection;
        let mut pool = RxPool::new(&base.heap, buffers, mtu + ETHERNET_BYTES)?;
        let (cq, mut rq) = RxCompletions::create(adapter, &base, config.log_rx, eqn, &pool, deadline)?;
        let rqt = create_rqt(adapter, &[rq.rqn()], 1, deadline)?;
        let tir = create_tir(adapter, &base, &TirParams::new(Target::First { rqtn: rqt.number() }), deadline)?;
        let tis = create_tis(adapter, &base, deadline)?;
        let slots = (1 << config.log_tx) / 4;
        let params = FrameQueueParams {
            log_wqebbs: config.log_tx,
            tisn: tis.number(),
            eqn,
            slots,
            slot_size: mtu,
            min_inline_mode: 0,
        };
        let tx = SendQueue::create(adapter, &base, &params, deadline)?;
        let flow = SteeringCaps::new(&adapter.capabilities().receive_flow_tables()).map_err(NotOpened::steering)?;
        let connections = SteeringParams { connections_ipv4: config.max_connections, connections_ipv6: 0 };
        let defaults = Defaults { other: tir.number(), tcp_ipv4: None, tcp_ipv6: None };
        let steering = Steering::create(adapter, &flow, &connections, &defaults, deadline)?;
        rq.post(&mut pool);
        let caps = adapter.capabilities().offload();
        let log_max_sq = adapter.capabilities().general().get(firmware_iface::caps::CmdHcaCap::LOG_MAX_QP_SZ);
        let offloads = caps.possible().then(|| Capacity::new(&caps, log_max_sq)).flatten().map(|capacity| {
            Offloads::new(capacity, Settings { threshold: config.offload_threshold, ..Settings::new(eqn) })
        });
        Ok(Parts { base, cq, rq, pool, rqtn: rqt.number(), tx, steering, offloads, interface })
    }

    fn assemble(adapter: Adapter<P>, config: Config, parts: Parts) -> Shard<P> {
        let Parts { base, cq, rq, pool, rqtn, tx, steering, offloads, interface } = parts;
        // The first port depends on the secret, so that a restart does not meet its own old connections.
        let next_port = FIRST_PORT + u16::from_le_bytes([config.secret[0], config.secret[1]]) % 8192;
        Shard {
            platform: Arc::clone(adapter.platform()),
            adapter,
            base,
            cq,
            rq,
            pool,
            rqtn,
            tx,
            steering,
            offloads,
            interface,
            secret: IsnSecret::new(config.secret),
            next_port,
            connections: Vec::new(),
            by_tuple: HashMap::new(),
            by_queue: HashMap::new(),
            busy: Vec::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            broken: None,
            unused: Vec::new(),
            scratch: vec![0; SCRATCH],
            config,
        }
    }

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
        let slot = match self.connections.iter().position(Option::is_none) {
            Some(slot) => slot,
            None if self.connections.len() < limit as usize => {
                self.connections.push(None);
                self.connections.len() - 1
            }
            None => return Err(Refused::TooManyConnections { limit }),
        };
        let mut tuple = FourTuple {
            local: IpAddr::V4(self.config.ip),
            local_port: self.next_port,
            remote: IpAddr::V4(*target.ip()),
            remote_port: target.port(),
        };
        while self.by_tuple.contains_key(&tuple) {
            tuple.local_port = tuple.local_port.checked_add(1).unwrap_or(FIRST_PORT);
        }
        self.next_port = tuple.local_port.checked_add(1).unwrap_or(FIRST_PORT);
        let now = self.platform.now();
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
        let id = ConnectionId(slot as u32);
        self.connections[slot] = Some(Box::new(Connection::new(tuple, tcp, role)));
        self.by_tuple.insert(tuple, id.0);
        self.mark(id.0);
        Ok(id)
    }

    fn mark(&mut self, index: u32) {
        if let Some(Some(connection)) = self.connections.get_mut(index as usize)
            && !std::mem::replace(&mut connection.busy, true)
        {
            self.busy.push(index);
        }
    }

    fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(id.0 as usize)?.as_deref()
    }

    /// The controller behind an admin connection, once TCP has connected.
    pub fn controller(&self, id: ConnectionId) -> Option<&crate::nvme::controller::Controller> {
        self.connection(id)?.controller()
    }

    /// The NVMe queue of an I/O connection, once TCP has connected.
    pub fn queue(&self, id: ConnectionId) -> Option<&crate::nvme::queue::HostQueue> {
        self.connection(id)?.io_queue()
    }

    /// Why the function cannot offload at all; empty if it can.
    pub fn why_no_offload(&self) -> Vec<String> {
        self.adapter.capabilities().offload().why_not().iter().map(ToString::to_string).collect()
    }

    /// Adds the offload to a ready I/O queue without outstanding requests (`sk_add`). On failure the queue goes on without.
    pub fn offload(&mut self, id: ConnectionId) -> Result<(), OffloadRefused> {
        let why = self.why_no_offload();
        let Some(offloads) = &mut self.offloads else { return Err(OffloadRefused::NotPossible(why)) };
        let Some(Some(connection)) = self.connections.get_mut(id.0 as usize) else {
            return Err(OffloadRefused::NotReady);
        };
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
            rqtn: self.rqtn,
        };
        let socket = Socket {
            tuple: FiveTuple {
                source: SocketAddr::new(tuple.remote, tuple.remote_port),
                destination: SocketAddr::new(tuple.local, tuple.local_port),
            },
            next_pdu: rcv_nxt,
        };
        let mut device = offloads.with(&mut self.adapter, &mut self.steering, &*self.platform, &self.base);
        let queue = device.sk_add(&socket, &config).map_err(Box::new)?;
        connection.offload = Some(queue);
        self.by_queue.insert(queue, id.0);
        Ok(())
    }

    /// True if the connection has an offload queue.
    pub fn is_offloaded(&self, id: ConnectionId) -> bool {
        self.connection(id).is_some_and(|connection| connection.offload.is_some())
    }

    /// Does everything that can be done now. Returns true if anything was done: poll again; else nothing happens before
    /// [`Shard::next_deadline`] or the next packet.
    pub fn poll(&mut self) -> bool {
        let now = self.platform.now();
        let mut worked = self.poll_adapter();
        worked |= self.offloads.as_mut().is_some_and(|offloads| offloads.poll() != 0);
        worked |= self.poll_receive(now);
        worked |= self.poll_offload_events();
        self.mark_due(now);
        worked |= self.run_busy(now);
        worked |= self.poll_transmit(now);
        worked
    }

    /// The next thing that happened.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Shard::poll`] has something to do although nothing arrives.
    pub fn next_deadline(&self) -> Option<Duration> {
        let connections = self.connections.iter().flatten().filter_map(|connection| connection.next_deadline());
        connections.chain(self.interface.next_deadline()).min()
    }

    fn poll_adapter(&mut self) -> bool {
        let mut worked = false;
        while let Some(event) = self.adapter.poll() {
            worked = true;
            match event {
                AdapterEvent::CqError { cqn, syndrome } => {
                    let ours = [self.cq.cqn(), self.tx.cq().cqn()].contains(&cqn);
                    let control = self.offloads.as_mut().is_some_and(|o| o.on_cq_error(cqn, syndrome.0));
                    if ours {
                        self.counters.queue_errors += 1;
                        self.fail(format!("completion queue {cqn:#x} failed: {syndrome}"));
                    } else if !control {
                        log::warn!("error of an unknown completion queue {cqn:#x}: {syndrome}");
                    }
                }
                AdapterEvent::QueueError { event, number, .. } => {
                    self.counters.queue_errors += 1;
                    log::warn!("queue {number:#x}: {event}");
                }
                AdapterEvent::PortDown { port } => log::warn!("port {port} went down"),
                AdapterEvent::PortUp { port } => log::info!("port {port} is up"),
                AdapterEvent::PagesFailed { error } => log::error!("{error}"),
                other => log::debug!("{other:?}"),
            }
        }
        worked
    }

    /// The shard cannot go on: every connection ends with `why`.
    fn fail(&mut self, why: String) {
        log::error!("{why}");
        for index in 0..self.connections.len() as u32 {
            if let Some(Some(connection)) = self.connections.get_mut(index as usize) {
                connection.tcp.abort();
                connection.ended.get_or_insert(Disconnect::Function(why.clone()));
            }
            self.mark(index);
        }
        self.broken.get_or_insert(why);
    }

    fn poll_offload_events(&mut self) -> bool {
        let mut worked = false;
        while let Some((queue, event)) = self.offloads.as_mut().and_then(Offloads::next_event) {
            worked = true;
            let Some(&index) = self.by_queue.get(&queue) else { continue };
            match event {
                OffloadEvent::TeardownDone(released) => self.give_out(index, released),
                OffloadEvent::Failed(error) => {
                    if let Some(Some(connection)) = self.connections.get_mut(index as usize) {
                        connection.tcp.abort();
                        connection.ended.get_or_insert(Disconnect::Offload(error));
                    }
                }
            }
            self.mark(index);
        }
        worked
    }

    /// Connections whose time has come.
    fn mark_due(&mut self, now: Duration) {
        for index in 0..self.connections.len() {
            let due = self.connections[index].as_ref().and_then(|connection| connection.next_deadline());
            if due.is_some_and(|at| at <= now) {
                self.mark(index as u32);
            }
        }
    }

    /// The function that the shard runs on.
    pub fn adapter(&self) -> &Adapter<P> {
        &self.adapter
    }

    /// The platform.
    pub fn platform(&self) -> &Arc<P> {
        &self.platform
    }

    /// Counters of the shard.
    pub fn counters(&self) -> Counters {
        Counters { packets_tx: self.tx.frames(), ..self.counters }
    }

    /// Counters of the network interface.
    pub fn interface_counters(&self) -> &crate::net::Counters {
        self.interface.counters()
    }

    /// Counters of the offload, over all queues that were and are.
    pub fn offload_stats(&self) -> Stats {
        self.offloads.as_ref().map(Offloads::stats).unwrap_or_default()
    }

    /// Doorbell registers written by send and control queues. Control queues that are gone no longer count: ask before
    /// connections are closed.
    pub fn doorbells(&self) -> u64 {
        self.tx.doorbells() + self.offloads.as_ref().map_or(0, Offloads::doorbells)
    }

    /// Receive buffers that frames hold: packets that wait for others before them.
    pub fn frames_held(&self) -> u32 {
        self.pool.outstanding() - self.rq.posted()
    }

    /// Takes everything down in reverse order and disables the function. Connections should be closed before; those that
    /// are not are cut off, and their buffers stay with the device's memory until it is gone.
    pub fn close(mut self, deadline: Deadline) -> Closed {
        let mut problems = Vec::new();
        for index in 0..self.connections.len() as u32 {
            if self.connections[index as usize].is_some() {
                problems.push(format!("connection {index} was still open"));
                self.remove_offload(index);
            }
        }
        if self.frames_held() != 0 && self.connections.iter().all(Option::is_none) {
            problems.push(format!("{} receive buffers were not given back", self.frames_held()));
        }
        let Shard { mut adapter, mut rq, cq, pool, tx, steering, connections, offloads, base, .. } = self;
        let mut note = |what: &str, result: Result<(), crate::command::CommandError>| {
            if let Err(error) = result {
                problems.push(format!("{what}: {error}"));
            }
        };
        note("steering", steering.destroy(&mut adapter, deadline));
        note("send queue", tx.destroy(&mut adapter, deadline));
        // TIR and RQT refer to the receive queue: they, it and its CQ go with the log, in reverse order of creation.
        note("receive queue", rq.stop(&mut adapter, deadline));
        let teardown = adapter.teardown(deadline);
        // Buffers before the last hold on the heap, so that it finds its memory free.
        drop((rq, cq, pool, connections, offloads));
        drop(base);
        Closed { teardown, problems }
    }
}

/// What [`Shard::create_queues`] made.
struct Parts {
    base: Base,
    cq: RxCompletions,
    rq: ReceiveQueue,
    pool: RxPool,
    rqtn: u32,
    tx: SendQueue,
    steering: Steering,
    offloads: Option<Offloads>,
    interface: Interface,
}

/// An entry to poll into.
fn blank() -> OffloadCqe {
    OffloadCqe::zeroed()
}
