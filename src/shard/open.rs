//! How a shard comes into being.

use super::buffers::Buffers;
use super::completions::RxCompletions;
use super::parties::Parties;
use super::{Config, MAX_SHARDS, NotOpened, Shard};
use crate::adapter::{Adapter, Control, Handle, Host};
use crate::command::ObjectKind;
use crate::ddp::create::Capacity;
use crate::ddp::device::{Offloads, Settings};
use crate::ddp::lookup::QUEUE_IDS;
use crate::ddp::policy::{Adaptive, START, Threshold};
use crate::dma::DmaError;
use crate::net::{Interface, InterfaceConfig, MacAddr};
use crate::observe::EventRing;
use crate::platform::Platform;
use crate::queue::{Base, FrameQueueParams, ReceiveQueue, SendQueue, create_tis};
use crate::steering::{
    self, Defaults, Ports, Steering, SteeringCaps, SteeringParams, Target, TirParams, create_rqt, create_tir,
};
use crate::tcp::IsnSecret;
use firmware_iface::caps::CmdHcaCap;
use hw_regs::layout::Access;
use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Bytes of an Ethernet header with a VLAN tag.
const ETHERNET_BYTES: u32 = 18;
/// Bytes moved from the L5P to TCP at a time.
const SCRATCH: usize = 64 << 10;
/// Ports that connections take (RFC 6335: dynamic ports).
const PORTS: RangeInclusive<u16> = 49152..=u16::MAX;
/// log2 of their number.
const LOG_PORTS: u32 = 14;

/// What of a function is one shard's.
struct Share {
    ports: RangeInclusive<u16>,
    /// Numbers of its offload queues.
    ids: RangeInclusive<u16>,
    /// Page of its doorbells.
    base: Base,
    eqn: u32,
}

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
    share: Share,
    cq: RxCompletions,
    rq: ReceiveQueue,
    buffers: Buffers,
    path: Path,
    tx: SendQueue,
    offloads: Option<Offloads>,
    interface: Interface,
}

impl<P: Platform> Shard<P> {
    /// Creates the queues, steering and interface of a shard on a function that is up. On failure the function is torn
    /// down, or reset if that cannot be done.
    pub fn open(mut adapter: Adapter<P>, config: Config) -> Result<Shard<P>, NotOpened> {
        match open_alone(&mut adapter, &config) {
            Ok((parts, steering)) => Ok(Shard::assemble(Control::Own(Box::new(adapter)), config, parts, steering)),
            Err(error) => {
                give_up(adapter);
                Err(error)
            }
        }
    }

    /// Creates so many shards, 1 to [`MAX_SHARDS`], on a function that is up, each as `config` says, and the host of the
    /// adapter that they share. Each can go to a thread of its own, and so can the host: they have nothing in common but
    /// channels. On failure the function is torn down.
    ///
    /// Each shard has a receive and a send queue, a page of doorbell registers, a completion event queue, rules, numbers of
    /// offload queues and local ports of its own. What no rule directs goes to the shard that has the port.
    pub fn open_many(
        mut adapter: Adapter<P>,
        config: &Config,
        shards: u32,
    ) -> Result<(Host<P>, Vec<Shard<P>>), NotOpened> {
        let (mut parts, steerings) = match open_shares(&mut adapter, config, shards) {
            Ok(opened) => opened,
            Err(error) => {
                give_up(adapter);
                return Err(error);
            }
        };
        let queues = parts.iter_mut().map(|parts| {
            let (cqs, sq, rq) = ([parts.cq.cqn(), parts.tx.cq().cqn()], parts.tx.sqn(), parts.rq.rqn());
            let cqs = cqs.map(|cqn| (ObjectKind::Cq, cqn));
            cqs.into_iter().chain([(ObjectKind::Sq, sq), (ObjectKind::Rq, rq)]).collect()
        });
        let (host, remotes) = Host::new(adapter, queues.collect());
        let shards = parts.into_iter().zip(steerings).zip(remotes).map(|((parts, steering), remote)| {
            Shard::assemble(Control::Shared(Box::new(remote)), config.clone(), parts, steering)
        });
        Ok((host, shards.collect()))
    }

    fn assemble(adapter: Control<P>, config: Config, parts: Parts, steering: Steering) -> Shard<P> {
        let Parts { share, cq, rq, buffers, path, tx, offloads, interface } = parts;
        let Share { ports, base, .. } = share;
        // The first port depends on the secret, so that a restart does not meet its own old connections.
        let half = (ports.len() / 2) as u16;
        let spread = u16::from_le_bytes([config.secret[0], config.secret[1]]) % half;
        let next_port = config.first_port.filter(|port| ports.contains(port)).unwrap_or(ports.start() + spread);
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
            ports,
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
            armed: None,
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

/// A function whose shards could not be opened goes down.
fn give_up<P: Platform>(adapter: Adapter<P>) {
    let deadline = adapter.command_deadline();
    let (teardown, reset) = adapter.take_down(deadline, false);
    if let Some(reset) = reset {
        log::error!("{teardown}");
        reset.err().iter().for_each(|error| log::error!("{error}"));
    }
}

fn open_alone<P: Platform>(adapter: &mut Adapter<P>, config: &Config) -> Result<(Parts, Steering), NotOpened> {
    let (base, eqn) = (Base::of(adapter), adapter.completion_eqn(0));
    let parts = create(adapter, config, Share { ports: PORTS, ids: ids(config, 0, 1), base, eqn })?;
    let (caps, params) = steering(adapter, config)?;
    let defaults = Defaults { other: parts.path.tir.number(), tcp_ipv4: None, tcp_ipv6: None };
    let deadline = adapter.command_deadline();
    let steering = Steering::create(adapter, &caps, &params, &defaults, deadline)?;
    Ok((parts, steering))
}

fn open_shares<P: Platform>(
    adapter: &mut Adapter<P>,
    config: &Config,
    shards: u32,
) -> Result<(Vec<Parts>, Vec<Steering>), NotOpened> {
    if !(1..=MAX_SHARDS).contains(&shards) {
        return Err(NotOpened::Shards(shards));
    }
    let log_len = LOG_PORTS - shards.next_power_of_two().trailing_zeros();
    let (mut all, mut shares) = (Vec::new(), Vec::new());
    for index in 0..shards {
        let deadline = adapter.command_deadline();
        let base = Base { uar: adapter.allocate_uar(deadline)?, ..Base::of(adapter) };
        let eqn = adapter.completion_eqn(index as u16);
        let first = PORTS.start() + ((index as u16) << log_len);
        let ports = first..=first + ((1u16 << log_len) - 1);
        let parts = create(adapter, config, Share { ports, ids: ids(config, index, shards), base, eqn })?;
        shares.push(steering::Share { tirn: parts.path.tir.number(), ports: Ports { first, log_len } });
        all.push(parts);
    }
    let (caps, params) = steering(adapter, config)?;
    let deadline = adapter.command_deadline();
    let steerings = Steering::create_shares(adapter, &caps, &params, &shares, deadline)?;
    Ok((all, steerings))
}

/// Numbers of a shard's offload queues: twice as many as connections, so that one that comes back rests a while.
fn ids(config: &Config, index: u32, shards: u32) -> RangeInclusive<u16> {
    let all = u32::from(*QUEUE_IDS.end());
    let count = config.max_connections.saturating_mul(2).clamp(1, all / shards);
    let first = 1 + index * count;
    first as u16..=(first + count - 1) as u16
}

fn steering<P: Platform>(adapter: &Adapter<P>, config: &Config) -> Result<(SteeringCaps, SteeringParams), NotOpened> {
    let caps = SteeringCaps::new(&adapter.capabilities().receive_flow_tables()).map_err(NotOpened::steering)?;
    Ok((caps, SteeringParams { connections_ipv4: config.max_connections, connections_ipv6: 0 }))
}

fn create<P: Platform>(adapter: &mut Adapter<P>, config: &Config, share: Share) -> Result<Parts, NotOpened> {
    let deadline = adapter.command_deadline();
    let Share { base, eqn, .. } = &share;
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
    let caps = adapter.capabilities().offload();
    let (cq, mut rq) =
        RxCompletions::create(adapter, base, config.log_rx, *eqn, caps.possible(), &buffers.pool, deadline)?;
    let rqt = create_rqt(adapter, &[rq.rqn()], 1, deadline)?;
    let tir = create_tir(adapter, base, &TirParams::new(Target::First { rqtn: rqt.number() }), deadline)?;
    let tis = create_tis(adapter, base, deadline)?;
    // A segment with payload takes two blocks or three; a slot of the size of the MTU holds the payload of any.
    let slots = (1u32.checked_shl(config.log_tx).unwrap_or(0) / 4).clamp(2, 1 << 13);
    let params = FrameQueueParams {
        log_wqebbs: config.log_tx,
        tisn: tis.number(),
        eqn: *eqn,
        slots,
        slot_size: mtu,
        min_inline_mode: 0,
    };
    let tx = SendQueue::create(adapter, base, &params, deadline)?;
    rq.post(&mut buffers.pool);
    let log_max_sq = adapter.capabilities().general().get(CmdHcaCap::LOG_MAX_QP_SZ);
    let offloads = caps.possible().then(|| Capacity::new(&caps, log_max_sq)).flatten().map(|capacity| {
        let threshold = match config.offload_threshold {
            Threshold::Fixed(bytes) => bytes,
            Threshold::Auto(_) => START,
        };
        let (log_ring, ids) = (config.log_control_ring, share.ids.clone());
        Offloads::new(capacity, Settings { threshold, log_ring, ids, ..Settings::new(*eqn) })
    });
    let path = Path { rqt, tir, tis };
    Ok(Parts { share, cq, rq, buffers, path, tx, offloads, interface })
}
