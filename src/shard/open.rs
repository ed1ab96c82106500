//! How a shard comes into being.

use super::buffers::Buffers;
use super::completions::RxCompletions;
use super::parties::Parties;
use super::{Config, NotOpened, Shard};
use crate::adapter::{Adapter, Handle};
use crate::ddp::create::Capacity;
use crate::ddp::device::{Offloads, Settings};
use crate::ddp::policy::{Adaptive, START, Threshold};
use crate::dma::DmaError;
use crate::net::{Interface, InterfaceConfig, MacAddr};
use crate::observe::EventRing;
use crate::platform::Platform;
use crate::queue::{Base, FrameQueueParams, ReceiveQueue, SendQueue, create_tis};
use crate::steering::{Defaults, Steering, SteeringCaps, SteeringParams, Target, TirParams, create_rqt, create_tir};
use crate::tcp::IsnSecret;
use firmware_iface::caps::CmdHcaCap;
use hw_regs::layout::Access;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Bytes of an Ethernet header with a VLAN tag.
const ETHERNET_BYTES: u32 = 18;
/// Bytes moved from the L5P to TCP at a time.
const SCRATCH: usize = 64 << 10;
/// First port of those that connections take (RFC 6335: dynamic ports).
pub(super) const FIRST_PORT: u16 = 49152;
/// Range in which the first port of a shard lies.
const PORT_SPREAD: u16 = 8192;

/// Objects between the port and the queues.
pub(super) struct Path {
    /// The receive queue table, with the one receive queue.
    pub rqt: Handle,
    /// Where packets go that no connection's rule takes.
    pub tir: Handle,
    pub tis: Handle,
}

/// What [`create`] made.
struct Parts {
    base: Base,
    cq: RxCompletions,
    rq: ReceiveQueue,
    buffers: Buffers,
    path: Path,
    tx: SendQueue,
    steering: Steering,
    offloads: Option<Offloads>,
    interface: Interface,
}

impl<P: Platform> Shard<P> {
    /// Creates the queues, steering and interface of a shard on a function that is up. On failure the function is torn
    /// down, or reset if that cannot be done.
    pub fn open(mut adapter: Adapter<P>, config: Config) -> Result<Shard<P>, NotOpened> {
        match create(&mut adapter, &config) {
            Ok(parts) => Ok(Shard::assemble(adapter, config, parts)),
            Err(error) => {
                let deadline = adapter.command_deadline();
                let (teardown, reset) = adapter.take_down(deadline, false);
                if let Some(reset) = reset {
                    log::error!("{teardown}");
                    reset.err().iter().for_each(|error| log::error!("{error}"));
                }
                Err(error)
            }
        }
    }

    fn assemble(adapter: Adapter<P>, config: Config, parts: Parts) -> Shard<P> {
        let Parts { base, cq, rq, buffers, path, tx, steering, offloads, interface } = parts;
        // The first port depends on the secret, so that a restart does not meet its own old connections.
        let spread = u16::from_le_bytes([config.secret[0], config.secret[1]]) % PORT_SPREAD;
        let next_port = config.first_port.unwrap_or(FIRST_PORT + spread).max(FIRST_PORT);
        let adaptive = match config.offload_threshold {
            Threshold::Fixed(_) => None,
            Threshold::Auto(costs) => Some(Box::new(Adaptive::new(costs, &**adapter.platform()))),
        };
        Shard {
            adaptive,
            platform: Arc::clone(adapter.platform()),
            adapter,
            base,
            cq,
            rq,
            buffers,
            path,
            tx,
            steering,
            offloads,
            interface,
            secret: IsnSecret::new(config.secret),
            next_port,
            connections: Vec::new(),
            free: Vec::new(),
            opened: 0,
            parties: Parties::default(),
            by_queue: HashMap::new(),
            lingering: Default::default(),
            timers: Default::default(),
            busy: Vec::new(),
            running: Vec::new(),
            sending: Vec::new(),
            blocked: Vec::new(),
            completed: Vec::new(),
            events: VecDeque::new(),
            counters: Default::default(),
            past: Default::default(),
            past_doorbells: 0,
            log: EventRing::new(config.events),
            draining: 0,
            unread: 0,
            ring_full_since: None,
            health_at: Default::default(),
            recoveries: Default::default(),
            falls_back: false,
            blamed: Default::default(),
            offload_off: None,
            quarantine: Default::default(),
            broken: None,
            dead: false,
            unused: Vec::new(),
            burst: Vec::with_capacity(super::receive::BURST as usize),
            scratch: vec![0; SCRATCH],
            config,
        }
    }
}

fn create<P: Platform>(adapter: &mut Adapter<P>, config: &Config) -> Result<Parts, NotOpened> {
    let deadline = adapter.command_deadline();
    let base = Base::of(adapter);
    let eqn = adapter.completion_eqn(0);
    let interface = Interface::new(InterfaceConfig {
        mac: MacAddr(adapter.mac()),
        ip: config.ip,
        prefix_len: config.prefix_len,
        gateway: config.gateway,
        mtu: adapter.mtu(),
    })?;
    let mtu = u32::from(adapter.mtu());
    let impossible = DmaError::BadRequest { bytes: usize::MAX, align: 1 };
    let count = config.receive_buffers().ok_or(impossible)?;
    let mut buffers = Buffers::new(&base.heap, count, mtu + ETHERNET_BYTES)?;
    let (cq, mut rq) = RxCompletions::create(adapter, &base, config.log_rx, eqn, &buffers.pool, deadline)?;
    let rqt = create_rqt(adapter, &[rq.rqn()], 1, deadline)?;
    let tir = create_tir(adapter, &base, &TirParams::new(Target::First { rqtn: rqt.number() }), deadline)?;
    let tis = create_tis(adapter, &base, deadline)?;
    // A segment with payload takes two blocks or three; a slot of the size of the MTU holds the payload of any.
    let slots = (1u32.checked_shl(config.log_tx).unwrap_or(0) / 4).clamp(2, 1 << 13);
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
    rq.post(&mut buffers.pool);
    let caps = adapter.capabilities().offload();
    let log_max_sq = adapter.capabilities().general().get(CmdHcaCap::LOG_MAX_QP_SZ);
    let offloads = caps.possible().then(|| Capacity::new(&caps, log_max_sq)).flatten().map(|capacity| {
        let threshold = match config.offload_threshold {
            Threshold::Fixed(bytes) => bytes,
            Threshold::Auto(_) => START,
        };
        let log_ring = config.log_control_ring;
        Offloads::new(capacity, Settings { threshold, log_ring, ..Settings::new(eqn) })
    });
    Ok(Parts { base, cq, rq, buffers, path: Path { rqt, tir, tis }, tx, steering, offloads, interface })
}
