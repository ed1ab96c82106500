//! One point, measured: driver, virtual NIC and a target with our TCP, over a wire that disorders packets.
//!
//! ```text
//!  target (own TCP, so many segments in flight) ─► Lane: loses, reorders ─► queue ─► one packet per tick ─► NIC ─► shard
//!        ▲                                                                                                      │
//!        └────────── acknowledgments, commands: at once, whenever driver and target get their turn ─────────────┘
//! ```
//!
//! The queue in front of the NIC is the path's bottleneck: it holds what is in flight, so that a round trip takes as many
//! packets as the sender's window, as the model says. Driver and target get their turn every so many packets, 1 to
//! [`PAUSE`] by chance: a header that has become complete is confirmed with the next turn.

use super::super::peer::{Peer, PeerError};
use super::edge::Edge;
use super::model::{Ceiling, Confirm, Cut, Disorder, Hole, Known, Model, Resume, Runs, Search};
use crate::adapter::{self, Adapter, AdapterError};
use crate::dma::{DmaError, IoBuf};
use crate::nvme::command::{BadLength, Request};
use crate::nvme::controller::ControllerConfig;
use crate::nvme::fabrics::{BadNqn, HostIdentity, Nqn};
use crate::platform::virtual_nic::{Clock, VirtualPlatform};
use crate::shard::{self, Completion, ConnectionId, Disconnect, Event, NotOpened, OffloadRefused, Refused, Shard};
use crate::tcp::CongestionControl;
use ethernet_wire::Random;
use ethernet_wire::{Impairments, Lane, LaneCounters};
use nvme_target::script::{Script, Size};
use nvme_target::{Backing, Generated, Segmentation, Target};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use virtual_nic::offload::behaviour::{HoleRule, SearchRule};
use virtual_nic::offload::{Bypass, Episode, OffloadCounters, Unplaced};

/// Segments in flight and packets to the confirmation of a header, as in the published ceilings (`performance.md` §2.6).
pub const ROUND_TRIP: u32 = 64;
/// See [`ROUND_TRIP`].
pub const CONFIRM: u32 = 8;
/// Most packets between two turns of driver and target. What happens at any time then waits for `(2 * PAUSE + 1) / 6`
/// packets in the mean: [`CONFIRM`].
pub const PAUSE: u64 = 3 * CONFIRM as u64;
/// Segments in flight of the steady sender: a round trip, and what has arrived since the last turn.
pub const WINDOW: u32 = ROUND_TRIP + CONFIRM + 2;
/// Time of a packet on the wire.
const TICK: Duration = Duration::from_micros(1);
/// Bytes of a read, and reads in flight: more than two windows of the largest packets.
const READ: u32 = 512 << 10;
const DEPTH: u16 = 8;
/// Bytes of the namespace, held in memory: the generator costs more than all the rest.
const IMAGE: u64 = 8 << 20;
const BLOCK: u32 = 512;
/// Reads whose shares are one sample for the standard error: longer than an episode lasts.
const BATCH: u64 = 8;
/// Simulated time without a completed read after which a point is given up.
const PATIENCE: Duration = Duration::from_secs(600);
const HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 44, 10);

/// Rules of device and target that a point is measured under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Behind a hole.
    pub hole: Hole,
    /// Where a header is recognised.
    pub search: Search,
    /// Whether late packets are searched.
    pub search_late: bool,
    /// How the target cuts its stream.
    pub cut: Cut,
}

/// The target's TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Always as many segments in flight as make a round trip of [`ROUND_TRIP`], whatever is lost: the stream keeps moving.
    Steady,
    /// CUBIC: as real ones do.
    Cubic,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Payload bytes of a PDU: 4096 to 524288, a power of two.
    pub payload: u32,
    /// IP MTU: 1500 or 9000.
    pub mtu: u16,
    /// The wire.
    pub disorder: Disorder,
    /// Rules.
    pub rules: Rules,
    /// The target's TCP.
    pub sender: Sender,
    /// Packets of payload, about.
    pub packets: u64,
    /// Seed of the wire and of all else.
    pub seed: u64,
}

/// A share with its standard error, both 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// The share.
    pub value: f64,
    /// Standard error, from the spread between batches of reads.
    pub error: f64,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Payload that the device placed where it belongs.
    pub placed: Share,
    /// Payload left in the ring only because its packet had another run: with `placed`, what all runs would be.
    pub other_runs: f64,
    /// Data digests that software did not check.
    pub digests: Share,
    /// Packets with new payload that arrived in their place.
    pub packets: u64,
    /// Packets by which what was missing was overtaken, those that were lost themselves included: median.
    pub round_trip: u32,
    /// Share of the stream that came late.
    pub late: f64,
    /// The same for each that was missing, and how often.
    pub delays: Vec<(u32, u64)>,
    /// Simulated time in which nothing was under way.
    pub idle: Duration,
    /// Simulated time.
    pub time: Duration,
    /// What the wire did.
    pub wire: LaneCounters,
    /// What the device did.
    pub device: OffloadCounters,
    /// Episodes without framing.
    pub episodes: Vec<Episode>,
    /// Requests that were not confirmed by the end of the poll that had been given their header in order.
    pub late_confirmations: u64,
}

/// Why a point could not be measured, or must not be believed.
#[derive(Debug, thiserror::Error)]
pub enum PointError {
    /// The function did not come up.
    #[error(transparent)]
    Adapter(#[from] Box<AdapterError>),
    /// The queues could not be created.
    #[error(transparent)]
    NotOpened(#[from] Box<NotOpened>),
    /// The target does not take its configuration.
    #[error("target: {0}")]
    Target(#[from] PeerError),
    /// No memory for the buffers.
    #[error(transparent)]
    Memory(#[from] DmaError),
    /// A connection or read was refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The queue is not offloaded.
    #[error("the queue is not offloaded: {0}")]
    Offload(OffloadRefused),
    /// A connection ended.
    #[error("disconnected: {0}")]
    Disconnected(Disconnect),
    /// Nothing happens any more.
    #[error("nothing has happened for {waited:?} of simulated time, waiting for {awaited}")]
    Stuck {
        /// For how long.
        waited: Duration,
        /// For what.
        awaited: &'static str,
    },
    /// Something was wrong.
    #[error("{0}")]
    Wrong(String),
}

impl From<BadLength> for PointError {
    fn from(error: BadLength) -> PointError {
        PointError::Wrong(error.to_string())
    }
}

impl From<BadNqn> for PointError {
    fn from(error: BadNqn) -> PointError {
        PointError::Wrong(error.to_string())
    }
}

impl Point {
    /// TCP payload bytes of a full packet: IPv4, TCP with timestamps.
    pub fn mss(&self) -> u32 {
        u32::from(self.mtu) - 52
    }

    /// The model of this point: as the published ceilings have it, or with what is known of device and driver besides.
    pub fn model(&self, ours: bool, round_trip: u32) -> Model {
        Model {
            payload: self.payload,
            mss: self.mss(),
            cut: self.rules.cut,
            disorder: self.disorder,
            round_trip,
            confirm: Confirm::After(CONFIRM),
            hole: self.rules.hole,
            search: self.rules.search,
            search_late: self.rules.search_late,
            resume: Resume::Pdu,
            known: if ours { Known::ByLength } else { Known::Read },
            runs: if ours { Runs::First } else { Runs::All },
            doubt: ours,
        }
    }

    /// Runs the model over as many packets as make its own error small.
    pub fn ceiling(&self, ours: bool, round_trip: u32, packets: u64) -> Ceiling {
        let pdus = (packets * u64::from(self.mss()) / u64::from(self.payload)).max(1);
        self.model(ours, round_trip).run(pdus, self.seed ^ 0x5eed)
    }

    /// Segments of the steady sender. What an aligning target cuts off them are packets too.
    fn window(&self) -> u32 {
        match self.rules.cut {
            Cut::Full => WINDOW,
            Cut::AtPdus => (WINDOW * self.payload).div_ceil(self.payload + self.mss()).max(8),
        }
    }

    fn impairments(&self) -> Impairments {
        match self.disorder {
            Disorder::Loss(loss) => Impairments { loss, ..Impairments::default() },
            Disorder::Reorder { share, distance } => Impairments { reorder: share, distance, ..Impairments::default() },
        }
    }

    fn device(&self) -> virtual_nic::Config {
        let mut config = virtual_nic::Config::default();
        config.seed = self.seed;
        config.switches.offload.hole = match self.rules.hole {
            Hole::Continue => HoleRule::Continue,
            Hole::Stop => HoleRule::Stop,
        };
        config.switches.offload.search = match self.rules.search {
            Search::Anywhere => SearchRule::Anywhere,
            Search::StartOfPacket => SearchRule::StartOfPacket,
        };
        config.switches.offload.search_late = self.rules.search_late;
        config
    }

    /// Measures.
    pub fn measure(&self) -> Result<Measured, PointError> {
        let mut bench = Bench::new(self)?;
        let measured = bench.run();
        bench.close(measured)
    }
}

/// An image in memory.
struct Memory(Arc<[u8]>);

impl Backing for Memory {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn writable(&self) -> bool {
        false
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = offset as usize;
        let bytes = self.0.get(offset..offset + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What reads have brought.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    reads: u64,
    bytes: u64,
    placed: u64,
    hardware: u64,
    software: u64,
}

struct Bench<'a> {
    point: &'a Point,
    image: Arc<[u8]>,
    platform: Arc<VirtualPlatform>,
    clock: Clock,
    target: Target,
    shard: Shard<VirtualPlatform>,
    address: SocketAddrV4,
    /// The I/O queue, once it is offloaded.
    queue: Option<ConnectionId>,
    lane: Lane,
    edge: Edge,
    random: Random,
    ticks: u64,
    next_turn: u64,
    idle: Duration,
    /// The request that was found waiting too long last.
    overdue: Option<u32>,
    late_confirmations: u64,
    totals: Totals,
    wrong: u64,
}

impl<'a> Bench<'a> {
    fn new(point: &'a Point) -> Result<Bench<'a>, PointError> {
        let mut image = vec![0; IMAGE as usize];
        Generated::fill(point.seed, 0, &mut image);
        let image: Arc<[u8]> = image.into();
        let window = (point.window() * point.mss()) as usize;
        let segmentation = match point.rules.cut {
            Cut::Full => Segmentation::Full,
            Cut::AtPdus => Segmentation::AlignPdus,
        };
        let config = nvme_target::Config {
            mtu: point.mtu.into(),
            max_queues: 1,
            max_connections: Some(2),
            // What is lost again and again holds up what is acknowledged: room for many windows.
            tx_buffer: 16 * window,
            rx_buffer: 64 << 10,
            patience: PATIENCE,
            seed: point.seed,
            script: Script { c2h_data: Size::AtMost(point.payload), segmentation, ..Script::default() },
            ..nvme_target::Config::default()
        };
        let address = SocketAddrV4::new(config.ip, config.port);
        let congestion = match point.sender {
            Sender::Steady => CongestionControl::Fixed { segments: point.window() },
            Sender::Cubic => CongestionControl::Cubic,
        };
        let peer = Peer::Own(congestion).target(config, Box::new(Memory(Arc::clone(&image))));
        let target = peer?;
        let clock = Clock::default();
        let platform = Arc::new(VirtualPlatform::on_clock("virtual", point.device(), clock.clone()));
        let adapter_config = adapter::Config { mtu: point.mtu, ..adapter::Config::default() };
        let adapter = Adapter::bring_up(Arc::clone(&platform), adapter_config);
        let adapter = adapter.map_err(Box::new)?;
        let mut secret = [0; 16];
        secret[..8].copy_from_slice(&point.seed.to_le_bytes());
        let config = shard::Config {
            max_connections: 2,
            rx_window: 16 * window as u32,
            rx_payloads_per_connection: 16 * WINDOW,
            ..shard::Config::new(HOST, secret)
        };
        let shard = Shard::open(adapter, config).map_err(Box::new)?;
        Ok(Bench {
            point,
            image,
            platform,
            clock,
            target,
            shard,
            address,
            queue: None,
            lane: Lane::new(Impairments::default(), point.seed),
            edge: Edge::default(),
            random: Random(point.seed | 1),
            ticks: 0,
            next_turn: 0,
            idle: Duration::ZERO,
            overdue: None,
            late_confirmations: 0,
            totals: Totals::default(),
            wrong: 0,
        })
    }

    /// The time of one packet.
    fn step(&mut self) -> Result<(), PointError> {
        let now = self.clock.advance(TICK);
        let mut nic = self.platform.nic();
        nic.advance(now);
        let frame = self.lane.pop(now);
        let arrived = frame.is_some();
        if let Some(frame) = frame {
            self.edge.note(&frame);
            nic.receive(&frame);
            self.target.recycle(frame);
        }
        drop(nic);
        self.ticks += 1;
        if arrived && self.ticks < self.next_turn {
            return Ok(());
        }
        self.next_turn = self.ticks + 1 + (self.random.next_u64() >> 33) % PAUSE;
        self.turn(now);
        match arrived || self.lane.next_due().is_some_and(|due| due <= now) {
            true => Ok(()),
            false => self.sleep(now),
        }
    }

    /// Driver and target do what they can.
    fn turn(&mut self, now: Duration) {
        self.shard.poll();
        self.look_for_late_confirmations();
        // Bounded: what each poll does was caused by packets, of which none arrive meanwhile.
        while self.shard.poll() {}
        while let Some(frame) = { self.platform.nic().transmit() } {
            self.target.receive(&frame);
        }
        self.target.poll(now);
        while let Some(frame) = self.target.transmit() {
            self.lane.push(now, frame);
        }
    }

    /// The device must not wait for a header that the L5P has read.
    fn look_for_late_confirmations(&mut self) {
        let Some(read) = self.queue.and_then(|id| self.shard.queue(id)?.pdu_seq()) else { return };
        let nic = self.platform.nic();
        let awaited = nic.awaited().map(|(_, sequence)| sequence).next();
        let overdue = awaited.filter(|sequence| read.wrapping_sub(*sequence).cast_signed() >= 0);
        self.late_confirmations += u64::from(overdue.is_some() && overdue != self.overdue);
        self.overdue = overdue;
    }

    /// Nothing is under way: lets time pass to the next deadline.
    fn sleep(&mut self, now: Duration) -> Result<(), PointError> {
        let nic = self.platform.nic().next_event();
        let others = [self.shard.next_deadline(), self.target.next_deadline(now), self.lane.next_due(), nic];
        let Some(next) = others.into_iter().flatten().min() else {
            return Err(PointError::Stuck { waited: now, awaited: "anything" });
        };
        let pause = next.saturating_sub(now);
        self.idle += pause;
        self.clock.advance(pause);
        Ok(())
    }

    /// Lets everything run until an event is what `look` waits for.
    fn wait<T>(
        &mut self,
        awaited: &'static str,
        mut look: impl FnMut(Event) -> Option<Result<T, PointError>>,
    ) -> Result<T, PointError> {
        let began = self.clock.now();
        loop {
            while let Some(event) = self.shard.next_event() {
                if let Some(found) = look(event) {
                    return found;
                }
            }
            self.step()?;
            let waited = self.clock.now() - began;
            if waited > PATIENCE {
                return Err(PointError::Stuck { waited, awaited });
            }
        }
    }

    fn connect(&mut self) -> Result<(ConnectionId, ConnectionId), PointError> {
        let config = ControllerConfig {
            identity: HostIdentity {
                host_id: [0x80; 16],
                host_nqn: Nqn::new("nqn.2026-01.io.connectx-ddp:demo")?,
                subsystem_nqn: Nqn::new(&nvme_target::Config::default().subsystem_nqn)?,
            },
            header_digest: false,
            data_digest: true,
            io_queues: 1,
            max_namespaces: 1,
            keep_alive: Duration::ZERO,
            timeout: PATIENCE,
        };
        let admin = self.shard.connect_admin(self.address, config)?;
        let failed = |why| Some(Err(PointError::Disconnected(why)));
        self.wait("the controller to become ready", |event| match event {
            Event::ControllerReady(_) => Some(Ok(())),
            Event::Disconnected(_, why) => failed(why),
            _ => None,
        })?;
        let controller = self.shard.controller(admin).ok_or_else(|| PointError::Wrong("no controller".into()))?;
        let config = controller.io_queue(1, DEPTH).map_err(|error| PointError::Wrong(error.to_string()))?;
        let id = self.shard.connect_io(self.address, config)?;
        self.wait("the I/O queue to become ready", |event| match event {
            Event::QueueReady(_) => Some(Ok(())),
            Event::Disconnected(_, why) => failed(why),
            _ => None,
        })?;
        self.shard.offload(id).map_err(PointError::Offload)?;
        Ok((admin, id))
    }

    fn run(&mut self) -> Result<Measured, PointError> {
        let (admin, id) = self.connect()?;
        self.lane = Lane::new(self.point.impairments(), self.point.seed);
        self.edge.begin();
        self.queue = Some(id);
        let reads = (self.point.packets * u64::from(self.point.mss())).div_ceil(READ.into()).max(4 * BATCH);
        let (mut submitted, mut free, mut batches) = (0, Vec::new(), Vec::new());
        let (began, mut progress) = (self.clock.now(), self.clock.now());
        let idle = self.idle;
        while self.totals.reads < reads {
            while submitted < reads && self.submit(id, submitted, &mut free)? {
                submitted += 1;
            }
            while let Some(event) = self.shard.next_event() {
                match event {
                    Event::Completed(_, completion) => {
                        free.extend(self.complete(completion)?);
                        progress = self.clock.now();
                        if self.totals.reads.is_multiple_of(BATCH) || self.totals.reads == reads {
                            self.count(id);
                            batches.push(self.totals);
                        }
                    }
                    Event::Disconnected(_, why) => {
                        return Err(PointError::Disconnected(why));
                    }
                    _ => {}
                }
            }
            self.step()?;
            let waited = self.clock.now() - progress;
            if waited > PATIENCE {
                return Err(PointError::Stuck { waited, awaited: "a read to complete" });
            }
        }
        let wire = self.lane.counters();
        let time = self.clock.now() - began;
        let (idle, nic) = (self.idle - idle, self.platform.nic());
        let device = nic.offload_counters().clone();
        drop(nic);
        let episodes = self.platform.nic().take_episodes().0;
        self.lane = Lane::new(Impairments::default(), 0);
        let Totals { bytes, .. } = self.totals;
        // What is lost was sent too.
        let lost = wire.lost as f64 / (wire.frames as f64).max(1.0);
        let sent = |arrived: u32| (f64::from(arrived) / (1.0 - lost)).round() as u32;
        let other = device.bytes_unplaced.get(&Unplaced::OtherRun).copied().unwrap_or(0);
        let measured = Measured {
            placed: share(&batches, |t| (t.placed, t.bytes)),
            other_runs: other as f64 / bytes as f64,
            digests: share(&batches, |t| (t.hardware, t.hardware + t.software)),
            packets: self.edge.packets(),
            round_trip: sent(self.edge.round_trip()),
            late: self.edge.late(),
            delays: self.edge.delays().map(|(delay, times)| (sent(delay), times)).collect(),
            idle,
            time,
            wire,
            device,
            episodes,
            late_confirmations: self.late_confirmations,
        };
        self.shard.close_connection(id);
        let gone = |event| matches!(event, Event::Disconnected(..)).then_some(Ok(()));
        self.wait("the I/O queue to close", gone)?;
        self.shard.close_connection(admin);
        self.wait("the controller to shut down", gone)?;
        Ok(measured)
    }

    /// Submits read `number` if there is room for it.
    fn submit(&mut self, id: ConnectionId, number: u64, free: &mut Vec<IoBuf>) -> Result<bool, PointError> {
        let buffer = match free.pop() {
            Some(buffer) => buffer,
            None => IoBuf::new(vec![self.shard.adapter().heap().allocate(READ as usize, 4096)?]),
        };
        let offset = self.offset(number);
        let request = Request::read(1, offset / u64::from(BLOCK), READ / BLOCK, BLOCK)?;
        match self.shard.read(id, request, buffer, number) {
            Ok(()) => Ok(true),
            // The event that says why it is not ready comes next.
            Err((Refused::Busy | Refused::NotReady, buffer)) => {
                free.push(buffer);
                Ok(false)
            }
            Err((why, _)) => Err(why.into()),
        }
    }

    fn offset(&self, number: u64) -> u64 {
        number % (IMAGE / u64::from(READ)) * u64::from(READ)
    }

    /// Looks at a completed read; its buffer.
    fn complete(&mut self, completion: Completion) -> Result<Option<IoBuf>, PointError> {
        if !completion.status.is_success() {
            return Err(PointError::Wrong(format!("read {}: {}", completion.token, completion.status)));
        }
        self.totals.reads += 1;
        self.totals.bytes += u64::from(READ);
        self.totals.placed += u64::from(completion.placed);
        let offset = self.offset(completion.token) as usize;
        if let Some(buffer) = &completion.buffer {
            let right = buffer.to_vec() == self.image[offset..offset + READ as usize];
            self.wrong += u64::from(!right);
        }
        Ok(completion.buffer)
    }

    fn count(&mut self, id: ConnectionId) {
        if let Some(queue) = self.shard.queue(id) {
            let counters = queue.counters();
            (self.totals.hardware, self.totals.software) = (counters.digests_hardware, counters.digests_software);
        }
    }

    /// Takes everything down, and lets no point pass in which anything was wrong.
    fn close(self, measured: Result<Measured, PointError>) -> Result<Measured, PointError> {
        let counters = self.shard.counters();
        let deadline = self.shard.adapter().command_deadline();
        let closed = self.shard.close(deadline);
        let measured = measured?;
        let nic = self.platform.nic();
        let drops = nic.counters().drops.received();
        let inventory = nic.inventory();
        let found = [
            (self.wrong, "reads brought wrong bytes"),
            (counters.bad_completions, "completions were not believed"),
            (counters.bad_checksums, "packets had wrong checksums"),
            (counters.queue_errors, "queue errors"),
            (drops, "frames were dropped by the device"),
        ];
        let mut problems: Vec<_> =
            found.iter().filter(|(n, _)| *n != 0).map(|(n, what)| format!("{n} {what}")).collect();
        problems.extend(closed.problems);
        if !closed.teardown.is_clean() {
            problems.push(format!("teardown: {}", closed.teardown));
        }
        if !inventory.is_empty() {
            problems.push(format!("the device still holds {inventory}"));
        }
        if nic.counters().misuse != Default::default() {
            problems.push(format!("the device was used wrongly: {:?}", nic.counters().misuse));
        }
        match problems.is_empty() {
            true => Ok(measured),
            false => Err(PointError::Wrong(problems.join("; "))),
        }
    }
}

/// A share of all, and its standard error from the spread of the batches.
fn share(cumulated: &[Totals], of: impl Fn(&Totals) -> (u64, u64)) -> Share {
    let Some(last) = cumulated.last() else { return Share::default() };
    let (part, whole) = of(last);
    let value = part as f64 / (whole as f64).max(1.0);
    let mut before = (0, 0);
    let mut squares = 0.0;
    for totals in cumulated {
        let now = of(totals);
        let (part, whole) = (now.0 - before.0, now.1 - before.1);
        squares += (part as f64 - value * whole as f64).powi(2);
        before = now;
    }
    // Ratio estimator: the variance of a sum of independent batches, n / (n - 1) for the mean that was estimated too.
    let n = cumulated.len() as f64;
    let error = (squares * n / (n - 1.0).max(1.0)).sqrt() / (whole as f64).max(1.0);
    Share { value, error }
}

impl Measured {
    /// Packets that bypassed the offload, by reason.
    pub fn bypassed(&self, reason: Bypass) -> u64 {
        self.device.bypassed.get(&reason).copied().unwrap_or(0)
    }
}
