//! What a demonstration does, from bring-up to teardown.

use super::config::{BLOCK, BadOption, Config};
use super::image::{self, Expected, Overlay};
use super::outcome::{CopiedFor, Outcome, QueueOutcome, peak_rss};
use super::peer::PeerError;
use super::random::Random;
use super::wire::Lane;
use super::world::{Both, Moment, NoTap, PcapTap, Tap, WireConfig, World};
use crate::adapter::{self, Adapter, AdapterError};
use crate::ddp::why::Why;
use crate::dma::{DmaBuf, DmaError, DmaHeap, IoBuf};
use crate::nvme::command::{BadLength, Request};
use crate::nvme::controller::ControllerConfig;
use crate::nvme::fabrics::{BadNqn, HostIdentity, Nqn};
use crate::platform::virtual_nic::VirtualPlatform;
use crate::shard::{
    self, Completion, ConnectionId, Disconnect, Event, NotOpened, OffloadPolicy, OffloadRefused, Refused, Shard,
};
use nvme_target::Backing;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Address of the driver's end.
pub(super) const HOST_IP: Ipv4Addr = Ipv4Addr::new(192, 168, 44, 10);
/// The only namespace.
pub(super) const NSID: u32 = 1;
/// Most bytes of buffers in flight: a demonstration is not to fill the machine.
const MAX_IN_FLIGHT: u64 = 2 << 30;
/// Simulated time after which a demonstration that makes no progress is given up, and less than which no command takes: the
/// target's TCP waits a second and more for each lost segment that it does not learn of otherwise, and sends all that
/// followed again.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Turns the seed of the image into that of what is written over it.
const WRITTEN: u64 = 0x5752_4954_5445_4e21;

/// Why a demonstration could not begin, or what stopped it. What stops it once the function is up becomes the first of
/// [`Outcome::problems`]: what the device still holds is known, and told, all the same.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// An option cannot be.
    #[error(transparent)]
    Option(#[from] BadOption),
    /// A file.
    #[error("{what}: {error}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        error: io::Error,
    },
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
    /// A connection ended.
    #[error("{what} disconnected: {why}")]
    Disconnected {
        /// Which.
        what: String,
        /// Why.
        why: Disconnect,
    },
    /// A connection or request was refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The offload was required and is not possible.
    #[error("--offload require: queue {queue}: {why}")]
    Offload {
        /// Which I/O queue.
        queue: u32,
        /// Why not.
        why: OffloadRefused,
    },
    /// The offload was required, and a read cannot be bound.
    #[error("--offload require: the read of {bytes} bytes at byte {offset} on queue {queue}: {why}; {}", .why.advice())]
    NotBound {
        /// Which I/O queue.
        queue: u32,
        /// First byte of the read in the namespace.
        offset: u64,
        /// Bytes of the read.
        bytes: u64,
        /// Why not.
        why: Why,
    },
    /// The controller is not as the demonstration needs it.
    #[error("controller: {0}")]
    Controller(String),
    /// Nothing happens any more.
    #[error("nothing has happened for {0:?} of simulated time, waiting for {1}")]
    Stuck(Duration, &'static str),
}

impl From<BadNqn> for DemoError {
    fn from(error: BadNqn) -> DemoError {
        DemoError::Controller(error.to_string())
    }
}

impl From<BadLength> for DemoError {
    fn from(error: BadLength) -> DemoError {
        DemoError::Controller(error.to_string())
    }
}

/// What a demonstration is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Writing the namespace.
    Writing,
    /// Reading and comparing it.
    Reading,
}

/// How far a demonstration is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes done in this phase.
    pub done: u64,
    /// Bytes of this phase.
    pub total: u64,
    /// Read bytes that the device placed.
    pub placed: u64,
}

/// Carries a demonstration out. `progress` is called now and then.
pub fn run(config: &Config, progress: &mut dyn FnMut(Progress)) -> Result<Outcome, DemoError> {
    run_watched(config, &mut NoTap, progress)
}

/// [`run`], with somebody who watches, beside the capture if there is one.
pub fn run_watched(
    config: &Config,
    watch: &mut dyn Tap,
    progress: &mut dyn FnMut(Progress),
) -> Result<Outcome, DemoError> {
    match &config.pcap {
        None => run_tapped(config, virtual_nic::Config::default(), watch, progress),
        Some(path) => {
            config.check()?;
            let io = |error| DemoError::Io { what: format!("--pcap {}", path.display()), error };
            let mut tap = PcapTap::create(path).map_err(io)?;
            let outcome = run_tapped(config, virtual_nic::Config::default(), &mut Both(&mut tap, watch), progress);
            tap.finish().map_err(io)?;
            outcome
        }
    }
}

/// Carries a demonstration out on a device of this configuration, with `tap` on the wire.
///
/// An error means that it did not begin. A connection that ended, an offload that was required and is not possible, and
/// whatever else stops it later, is in the outcome ([`Outcome::completed`]), with what was left behind.
pub fn run_tapped(
    config: &Config,
    device: virtual_nic::Config,
    tap: &mut dyn Tap,
    progress: &mut dyn FnMut(Progress),
) -> Result<Outcome, DemoError> {
    let size = config.check()?;
    let requests = size.div_ceil(config.io_size);
    let in_flight = u64::from(config.queue_size) * u64::from(config.queues);
    if in_flight.min(requests) * config.io_size > MAX_IN_FLIGHT {
        let allowed = format!(
            "with --queues {} and --io-size {} more than {MAX_IN_FLIGHT} bytes would be in flight; use a smaller one",
            config.queues, config.io_size
        );
        return Err(BadOption::new("--queue-size", config.queue_size, allowed).into());
    }
    let image = config.image.as_deref().map_or_else(|| "--image".into(), |path| format!("--image {}", path.display()));
    let open_error = |error| DemoError::Io { what: image, error };
    let (base, expected) = image::open(config.image.as_deref(), config.seed, size).map_err(open_error)?;
    let overlay_error = |error| DemoError::Io { what: "temporary file for --write".into(), error };
    let (backing, expected): (Box<dyn Backing>, Expected) = match config.write {
        false => (base, expected),
        true => (Box::new(Overlay::new(base).map_err(overlay_error)?), Expected::Generated(config.seed ^ WRITTEN)),
    };
    let target_config = nvme_target::Config {
        mtu: config.mtu as usize,
        max_queue_depth: 2048,
        patience: PATIENCE,
        seed: config.seed,
        script: config.script.clone(),
        ..nvme_target::Config::default()
    };
    let address = SocketAddrV4::new(target_config.ip, target_config.port);
    let subsystem = target_config.subsystem_nqn.clone();
    let wire = WireConfig { seed: config.seed, ..config.wire };
    let world = World::new(device, config.peer.target(target_config, backing)?, wire);

    tap.device(&mut world.platform.nic());
    let began = Instant::now();
    let adapter_config = adapter::Config { mtu: config.mtu as u16, ..adapter::Config::default() };
    let adapter = Adapter::bring_up(Arc::clone(&world.platform), adapter_config).map_err(Box::new)?;
    let caps = adapter.capabilities().offload();
    if config.offload != OffloadPolicy::Off && caps.possible() && config.queue_size > caps.max_queue_size() {
        let allowed = format!(
            "the device's tag buffer table has {} entries; allowed is 1 to {0}, or --offload off",
            caps.max_queue_size()
        );
        let error = BadOption::new("--queue-size", config.queue_size, allowed);
        let deadline = adapter.command_deadline();
        let teardown = adapter.teardown(deadline);
        if !teardown.is_clean() {
            log::error!("{teardown}");
        }
        return Err(error.into());
    }
    let mut secret = [0; 16];
    secret[..8].copy_from_slice(&config.seed.to_le_bytes());
    secret[8..].copy_from_slice(&config.seed.rotate_left(17).to_be_bytes());
    let shard_config = shard::Config { offload: config.offload, ..shard::Config::new(HOST_IP, secret) };
    let shard = Shard::open(adapter, shard_config).map_err(Box::new)?;

    let mut job = Job {
        config,
        size,
        expected,
        world,
        shard: Some(shard),
        tap,
        outcome: Outcome { queues: config.queues, ..Outcome::default() },
        address,
        queues: Vec::new(),
        controller_down: false,
        gone: Vec::new(),
        scratch: Vec::new(),
    };
    let worked = job.work(subsystem, progress);
    if let Err(error) = &worked {
        job.outcome.problems.insert(0, error.to_string());
    }
    job.close();
    let mut outcome = job.outcome;
    outcome.completed = worked.is_ok();
    outcome.elapsed_s = began.elapsed().as_secs_f64();
    outcome.peak_rss_bytes = peak_rss();
    outcome.verified = outcome.completed && outcome.is_clean() && outcome.bytes == size;
    Ok(outcome)
}

/// An I/O queue.
struct IoQueue {
    id: ConnectionId,
    free: Vec<IoBuf>,
}

struct Job<'a> {
    config: &'a Config,
    size: u64,
    expected: Expected,
    world: World,
    shard: Option<Shard<VirtualPlatform>>,
    tap: &'a mut dyn Tap,
    outcome: Outcome,
    address: SocketAddrV4,
    queues: Vec<IoQueue>,
    controller_down: bool,
    gone: Vec<ConnectionId>,
    scratch: Vec<u8>,
}

impl Job<'_> {
    fn shard(&mut self) -> &mut Shard<VirtualPlatform> {
        self.shard.as_mut().expect("the shard is there until the job is closed")
    }

    /// Lets the driver and the world do what they can; true if either did anything.
    fn step(&mut self) -> bool {
        let worked = self.shard().poll();
        self.show(Moment::Polled);
        self.world.step(self.tap) | worked
    }

    fn show(&mut self, moment: Moment) {
        if let Some(shard) = &self.shard {
            self.tap.shard(shard, moment);
        }
    }

    /// Lets everything run until `look` finds what it waits for among the events.
    fn wait<T>(
        &mut self,
        awaited: &'static str,
        mut look: impl FnMut(&mut Self, Event) -> Result<Option<T>, DemoError>,
    ) -> Result<T, DemoError> {
        let began = self.world.now();
        loop {
            while let Some(event) = self.shard().next_event() {
                if let Some(found) = look(self, event)? {
                    return Ok(found);
                }
            }
            if self.step() {
                continue;
            }
            let deadline = self.shard().next_deadline();
            let waited = self.world.now() - began;
            if waited > PATIENCE || !self.world.sleep(deadline) {
                return Err(DemoError::Stuck(waited, awaited));
            }
        }
    }

    fn work(&mut self, subsystem: String, progress: &mut dyn FnMut(Progress)) -> Result<(), DemoError> {
        let passed = self.connect_and_pass(subsystem, progress);
        self.show(Moment::Done);
        self.count();
        let admin = passed?;
        self.disconnect(admin)
    }

    /// Everything up to the disconnecting; returns the admin connection.
    fn connect_and_pass(
        &mut self,
        subsystem: String,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<ConnectionId, DemoError> {
        let admin = self.connect_admin(subsystem)?;
        self.connect_queues(admin)?;
        self.offload_queues()?;
        self.passes(progress)?;
        Ok(admin)
    }

    fn passes(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<(), DemoError> {
        if self.config.write {
            self.pass(Phase::Writing, progress)?;
        }
        let began = Instant::now();
        let passed = self.pass(Phase::Reading, progress);
        self.outcome.read_s = began.elapsed().as_secs_f64();
        passed
    }

    fn connect_admin(&mut self, subsystem: String) -> Result<ConnectionId, DemoError> {
        let mut host_id = [0; 16];
        host_id[..8].copy_from_slice(&self.config.seed.to_be_bytes());
        // A version 8 UUID (RFC 9562): its bits are the application's own.
        host_id[6] = 0x80;
        host_id[8] = 0x80;
        let config = ControllerConfig {
            identity: HostIdentity {
                host_id,
                host_nqn: Nqn::new("nqn.2026-01.io.connectx-ddp:demo")?,
                subsystem_nqn: Nqn::new(&subsystem)?,
            },
            header_digest: self.config.hdr_digest,
            data_digest: self.config.data_digest,
            io_queues: self.config.queues as u16,
            max_namespaces: 1,
            keep_alive: Duration::ZERO,
            timeout: PATIENCE,
        };
        let address = self.address;
        let admin = self.shard().connect_admin(address, config)?;
        self.wait("the controller to become ready", |_, event| match event {
            Event::ControllerReady(id) if id == admin => Ok(Some(admin)),
            Event::Disconnected(_, why) => Err(DemoError::Disconnected { what: "admin queue".into(), why }),
            _ => Ok(None),
        })
    }

    fn connect_queues(&mut self, admin: ConnectionId) -> Result<(), DemoError> {
        let (size, queues, depth) = (self.size, self.config.queues as u16, self.config.queue_size as u16);
        let controller = self.shard().controller(admin);
        let controller = controller.ok_or_else(|| DemoError::Controller("is gone".into()))?;
        let page = controller.namespaces().first().and_then(|namespace| namespace.page.as_ref().ok());
        let (blocks, block_size) = page.map_or((0, 0), |page| (page.blocks, page.block_size));
        if (blocks * u64::from(block_size), u64::from(block_size)) != (size, BLOCK) {
            let what = format!("namespace 1 has {blocks} blocks of {block_size} bytes, the image {size} bytes");
            return Err(DemoError::Controller(what));
        }
        let configs: Result<Vec<_>, _> = (1..=queues).map(|id| controller.io_queue(id, depth)).collect();
        let configs = configs.map_err(|error| DemoError::Controller(error.to_string()))?;
        let address = self.address;
        for config in configs {
            let id = self.shard().connect_io(address, config)?;
            self.queues.push(IoQueue { id, free: Vec::new() });
        }
        let mut missing = self.queues.len();
        self.wait("the I/O queues to become ready", |_, event| match event {
            Event::QueueReady(_) => {
                missing -= 1;
                Ok((missing == 0).then_some(()))
            }
            Event::Disconnected(_, why) => Err(DemoError::Disconnected { what: "I/O queue".into(), why }),
            _ => Ok(None),
        })
    }

    fn offload_queues(&mut self) -> Result<(), DemoError> {
        for index in 0..self.queues.len() {
            let id = self.queues[index].id;
            match self.shard().offload(id) {
                Ok(()) => self.outcome.queues_offloaded += 1,
                Err(why) if self.config.offload == OffloadPolicy::Require => {
                    return Err(DemoError::Offload { queue: index as u32 + 1, why });
                }
                Err(OffloadRefused::Off) => {}
                Err(why) => log::warn!("queue {} is not offloaded: {why}", index + 1),
            }
        }
        Ok(())
    }

    /// Goes over the whole namespace once.
    fn pass(&mut self, phase: Phase, progress: &mut dyn FnMut(Progress)) -> Result<(), DemoError> {
        let total = self.size;
        let (mut next, mut done) = (0, 0);
        let mut turn = 0;
        let began = self.world.now();
        let mut last_progress = began;
        progress(Progress { phase, done, total, placed: self.outcome.bytes_placed });
        while done < total {
            next = self.submit(phase, next, &mut turn)?;
            let mut worked = false;
            while let Some(event) = self.shard().next_event() {
                match event {
                    Event::Completed(id, completion) => {
                        done += self.complete(phase, id, completion)?;
                        worked = true;
                    }
                    Event::Disconnected(_, why) => {
                        return Err(DemoError::Disconnected { what: "I/O queue".into(), why });
                    }
                    Event::ControllerReady(_) | Event::ControllerDown(_) | Event::QueueReady(_) => {}
                }
            }
            if worked {
                last_progress = self.world.now();
                progress(Progress { phase, done, total, placed: self.outcome.bytes_placed });
                continue;
            }
            if self.step() {
                continue;
            }
            let deadline = self.shard().next_deadline();
            let waited = self.world.now() - last_progress;
            if waited > PATIENCE || !self.world.sleep(deadline) {
                return Err(DemoError::Stuck(waited, "a request to complete"));
            }
        }
        Ok(())
    }

    /// Submits requests from `next` on until every queue is full; returns the first byte that is left.
    fn submit(&mut self, phase: Phase, mut next: u64, turn: &mut usize) -> Result<u64, DemoError> {
        let mut refused = 0;
        while next < self.size && refused < self.queues.len() {
            let len = self.config.io_size.min(self.size - next);
            let queue = *turn % self.queues.len();
            *turn += 1;
            let buffer = match self.queues[queue].free.pop() {
                Some(buffer) if buffer.len() as u64 == len => buffer,
                _ => {
                    let heap = self.shard().adapter().heap().clone();
                    buffer(&heap, len as usize, self.config.pieces, self.config.seed ^ next)?
                }
            };
            let (lba, blocks) = (next / BLOCK, (len / BLOCK) as u32);
            let id = self.queues[queue].id;
            let begun = match phase {
                Phase::Writing => {
                    self.scratch.resize(len as usize, 0);
                    self.fill_expected(next)?;
                    buffer.write(0, &self.scratch);
                    let request = Request::write(NSID, lba, blocks, BLOCK as u32)?;
                    self.shard().write(id, request, buffer, next)
                }
                Phase::Reading => {
                    let request = Request::read(NSID, lba, blocks, BLOCK as u32)?;
                    self.shard().read(id, request, buffer, next)
                }
            };
            match begun {
                Ok(()) => {
                    next += len;
                    refused = 0;
                }
                Err((Refused::Busy, buffer)) => {
                    self.queues[queue].free.push(buffer);
                    refused += 1;
                }
                Err((Refused::NotBound(why), buffer)) if why.passes() => {
                    self.queues[queue].free.push(buffer);
                    refused += 1;
                }
                Err((Refused::NotBound(why), _)) => {
                    return Err(DemoError::NotBound { queue: queue as u32 + 1, offset: next, bytes: len, why });
                }
                // The event that says why comes next.
                Err((Refused::NotReady, _)) => return Ok(next),
                Err((why, _)) => return Err(why.into()),
            }
        }
        Ok(next)
    }

    fn fill_expected(&mut self, offset: u64) -> Result<(), DemoError> {
        let filled = self.expected.fill(offset, &mut self.scratch);
        filled.map_err(|error| DemoError::Io { what: "reading the image again to compare".into(), error })
    }

    /// Looks at a completed request; returns its bytes.
    fn complete(&mut self, phase: Phase, id: ConnectionId, completion: Completion) -> Result<u64, DemoError> {
        let offset = completion.token;
        let len = self.config.io_size.min(self.size - offset);
        if !completion.status.is_success() {
            self.outcome.failed += 1;
            self.problem(format!("request at byte {offset}: {}", completion.status));
        }
        let Some(buffer) = completion.buffer else {
            self.problem(format!("the buffer of the request at byte {offset} stays with the device"));
            return Ok(len);
        };
        match phase {
            // What a failed request moved counts for nothing.
            _ if !completion.status.is_success() => {}
            Phase::Writing => {
                self.outcome.writes += 1;
                self.outcome.bytes_written += len;
            }
            Phase::Reading => {
                self.outcome.reads += 1;
                self.outcome.bytes += len;
                self.outcome.bytes_placed += u64::from(completion.placed);
                self.outcome.bytes_copied += u64::from(completion.copied);
                self.compare(offset, &buffer)?;
            }
        }
        if let Some(queue) = self.queues.iter_mut().find(|queue| queue.id == id)
            && len == self.config.io_size
        {
            queue.free.push(buffer);
        }
        Ok(len)
    }

    fn compare(&mut self, offset: u64, buffer: &IoBuf) -> Result<(), DemoError> {
        let found = buffer.to_vec();
        self.scratch.resize(found.len(), 0);
        self.fill_expected(offset)?;
        if found == self.scratch {
            return Ok(());
        }
        let wrong = found.iter().zip(&self.scratch).filter(|(a, b)| a != b).count();
        let first = found.iter().zip(&self.scratch).position(|(a, b)| a != b).unwrap_or_default();
        self.outcome.bytes_wrong += wrong as u64;
        self.problem(format!(
            "{wrong} bytes of the read at byte {offset} differ, the first at {}",
            offset + first as u64
        ));
        Ok(())
    }

    /// Notes a problem; the first few are enough to see what is wrong.
    fn problem(&mut self, what: String) {
        if self.outcome.problems.len() < 20 {
            self.outcome.problems.push(what);
        }
    }

    /// Collects the counters, while everything is still there.
    fn count(&mut self) {
        let ids: Vec<_> = self.queues.iter().map(|queue| queue.id).collect();
        let Some(shard) = &self.shard else { return };
        let outcome = &mut self.outcome;
        for (index, id) in ids.into_iter().enumerate() {
            let (Some(queue), Some(stats)) = (shard.queue(id), shard.queue_stats(id)) else { continue };
            let counters = queue.counters();
            outcome.per_queue.push(QueueOutcome::new(index as u32 + 1, shard.why_no_offload(id), counters, &stats));
            outcome.digests_hw += counters.digests_hardware;
            outcome.digests_sw += counters.digests_software;
            outcome.pdus_rx += counters.pdus_received;
            outcome.pdus_tx += counters.pdus_sent;
        }
        log::info!("the device's own view of the offload: {:?}", self.world.platform.nic().offload_counters());
        log::info!("the device's drops: {:?}", self.world.platform.nic().counters().drops);
        log::info!("target: {:?}", self.world.target.counters());
        let [to_target, to_host] = self.world.lanes().map(Lane::counters);
        log::info!("wire: towards the target {to_target:?}, towards the host {to_host:?}");
        outcome.frames_lost = to_target.lost + to_host.lost;
        outcome.frames_reordered = to_target.reordered + to_host.reordered;
        outcome.frames_corrupted = to_target.corrupted + to_host.corrupted;
        outcome.frames_duplicated = to_target.duplicated + to_host.duplicated;
        outcome.doorbells = shard.doorbells();
        outcome.packets_placed = shard.offload_stats().packets;
    }

    /// Closes the I/O queues, then shuts the controller down.
    fn disconnect(&mut self, admin: ConnectionId) -> Result<(), DemoError> {
        let queues: Vec<_> = self.queues.drain(..).map(|queue| queue.id).collect();
        for &id in &queues {
            self.shard().close_connection(id);
        }
        self.wait("the I/O queues to close", |job, event| {
            job.note_end(event)?;
            Ok((job.gone.len() == queues.len()).then_some(()))
        })?;
        self.shard().close_connection(admin);
        self.wait("the controller to shut down", |job, event| {
            job.note_end(event)?;
            Ok((job.gone.len() == queues.len() + 1).then_some(()))
        })?;
        if !self.controller_down {
            self.problem("the controller did not confirm its shutdown".into());
        }
        Ok(())
    }

    fn note_end(&mut self, event: Event) -> Result<(), DemoError> {
        match event {
            Event::Disconnected(id, Disconnect::Closed | Disconnect::ClosedByPeer) => self.gone.push(id),
            Event::Disconnected(id, why) => {
                self.problem(format!("a connection did not close in order: {why}"));
                self.gone.push(id);
            }
            Event::ControllerDown(_) => self.controller_down = true,
            Event::Completed(_, completion) => self.problem(format!("a late completion: {}", completion.status)),
            Event::ControllerReady(_) | Event::QueueReady(_) => {}
        }
        Ok(())
    }

    /// Takes the function down and asks the device what it still holds.
    fn close(&mut self) {
        self.show(Moment::Closing);
        let Some(shard) = self.shard.take() else { return };
        let stats = shard.offload_stats();
        self.outcome.counters = stats.seed().into_iter().collect();
        self.outcome.copied = CopiedFor::table(&stats);
        let counters = shard.counters();
        (self.outcome.packets_rx, self.outcome.packets_tx) = (counters.packets_rx, counters.packets_tx);
        for (count, what) in [
            (counters.bad_completions, "completions of the device were not believed"),
            (
                if self.outcome.frames_corrupted == 0 { counters.bad_checksums } else { 0 },
                "packets had wrong checksums",
            ),
            (counters.foreign_placements, "packets were placed for another connection"),
            (counters.queue_errors, "queue errors"),
        ] {
            if count != 0 {
                self.outcome.problems.push(format!("{count} {what}"));
            }
        }
        let deadline = shard.adapter().command_deadline();
        let closed = shard.close(deadline);
        for problem in closed.problems {
            self.problem(problem);
        }
        if !closed.teardown.is_clean() {
            self.problem(format!("teardown: {}", closed.teardown));
        }
        let nic = self.world.platform.nic();
        let inventory = nic.inventory();
        self.outcome.commands = nic.counters().commands;
        self.outcome.objects_left = inventory.held.total() + inventory.abandoned.total();
        self.outcome.pages_left = inventory.pages;
        self.outcome.bindings_left = inventory.bound_tags;
        let misuse = nic.counters().misuse.clone();
        drop(nic);
        if !inventory.is_empty() {
            self.problem(format!("the device still holds {inventory}"));
        }
        if misuse != Default::default() {
            self.problem(format!("the device was used wrongly: {misuse:?}"));
        }
        for error in self.world.target.errors() {
            self.problem(format!("target: {error}"));
        }
    }
}

/// A destination buffer of `len` bytes in `pieces` pieces; with more than one, of random lengths at random offsets.
pub(super) fn buffer(heap: &DmaHeap, len: usize, pieces: u32, seed: u64) -> Result<IoBuf, DmaError> {
    if pieces <= 1 {
        return Ok(IoBuf::new(vec![heap.allocate(len, 4096)?]));
    }
    let mut generator = Random(seed ^ 0x9e37_79b9_7f4a_7c15);
    let mut random = |below: usize| (generator.next() >> 33) as usize % below.max(1);
    const GAP: usize = 63;
    let mut rest = heap.allocate(len + pieces as usize * GAP, 64)?;
    let mut segments = VecDeque::new();
    let mut left = len;
    for missing in (1..=pieces as usize).rev() {
        let take = match missing {
            1 => left,
            // Leave at least a byte for each of the others.
            _ => 1 + random((2 * left / missing).min(left - missing + 1).max(1)),
        };
        let take = take.min(left - (missing - 1));
        let (_, after_gap): (DmaBuf, DmaBuf) = rest.split_at(1 + random(GAP));
        let (piece, after) = after_gap.split_at(take);
        segments.push_back(piece);
        (rest, left) = (after, left - take);
    }
    Ok(IoBuf::new(segments.into()))
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | a buffer has as many pieces and bytes as asked for | `buffers_are_cut_as_asked` |
    use super::*;
    use crate::platform::Platform;

    #[test]
    fn buffers_are_cut_as_asked() {
        let platform = VirtualPlatform::new("test", virtual_nic::Config::default());
        let heap = platform.dma_heap();
        for (len, pieces) in [(512, 1), (512, 128), (512, 512), (100_000, 7), (128 << 10, 128)] {
            for seed in 0..20 {
                let buffer = buffer(&heap, len, pieces, seed).expect("memory");
                assert_eq!((buffer.len(), buffer.segments().len()), (len, pieces as usize));
            }
        }
    }
}
