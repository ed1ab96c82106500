//! What a demonstration does, from bring-up to teardown.

use super::config::{BLOCK, BadOption, Config};
use super::image::{self, Expected, Overlay};
use super::inject::Injection;
use super::outcome::{CopiedFor, Outcome, ReadOutcome, Recovered, peak_rss};
use super::peer::PeerError;
use super::world::{Both, Moment, NoTap, PcapTap, Tap, WireConfig, World};
use crate::adapter::{self, Adapter, AdapterError};
use crate::ddp::policy::{Costs, Threshold};
use crate::ddp::why::Why;
use crate::dma::{DmaBuf, DmaError, DmaHeap, IoBuf};
use crate::nvme::command::{BadLength, Request};
use crate::nvme::controller::ControllerConfig;
use crate::nvme::fabrics::{BadNqn, HostIdentity, Nqn};
use crate::platform::virtual_nic::VirtualPlatform;
use crate::platform::{Deadline, Platform};
use crate::session::{self, Completion, Event, Loss, Refused, RequestError, Session, SessionError};
use crate::shard::{self, NotOpened, OffloadPolicy, OffloadRefused};
use crate::transfer::difference;
use ethernet_wire::{Lane, Random};
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
/// How long a command may take where things go wrong on purpose: as long as Linux gives an I/O command.
const COMMAND_PATIENCE: Duration = Duration::from_secs(30);
/// After this long a fault that nothing has stumbled upon is found by the look at the function's health.
const NOTICE_PATIENCE: Duration = Duration::from_secs(3);
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
    Queues(#[from] Loss),
    /// The target does not take its configuration.
    #[error("target: {0}")]
    Target(#[from] PeerError),
    /// No memory for the buffers.
    #[error(transparent)]
    Memory(#[from] DmaError),
    /// A connection ended, or something else was lost, and was not to be, or could not be, recovered.
    #[error(transparent)]
    Session(SessionError),
    /// The offload was required and is not possible.
    #[error("--offload require: queue {queue}: {why}")]
    Offload {
        /// Which I/O queue.
        queue: u16,
        /// Why not.
        why: OffloadRefused,
    },
    /// The offload was required, and a read cannot be bound.
    #[error("--offload require: the read of {bytes} bytes at byte {offset}: {why}; {}", .why.advice())]
    NotBound {
        /// First byte of the read in the namespace.
        offset: u64,
        /// Bytes of the read.
        bytes: u64,
        /// Why not.
        why: Why,
    },
    /// The shards could not be opened.
    #[error(transparent)]
    NotOpened(#[from] Box<NotOpened>),
    /// The controller is not as the demonstration needs it.
    #[error("controller: {0}")]
    Controller(String),
    /// Nothing happens any more.
    #[error("nothing has happened for {0:?} of simulated time, waiting for {1}")]
    Stuck(Duration, &'static str),
}

impl From<SessionError> for DemoError {
    fn from(error: SessionError) -> DemoError {
        match error {
            SessionError::Offload { queue, why } => DemoError::Offload { queue, why },
            SessionError::Lost { why: Loss::Offload { queue, why }, .. } => DemoError::Offload { queue, why },
            error => DemoError::Session(error),
        }
    }
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
    let adapter = Adapter::bring_up(Arc::clone(&world.platform), adapter_config(config)).map_err(Box::new)?;
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
    if config.threshold == Threshold::Auto(Costs::Clock) {
        world.platform.measure_costs();
    }
    let (offload, offload_threshold) = (config.offload, config.threshold);
    let shard_config = shard::Config { offload, offload_threshold, ..shard::Config::new(HOST_IP, secret) };
    let session_config = session_config(config, shard_config, address, &subsystem)?;
    let session = Session::on(adapter, session_config)?;

    let mut job = Job {
        config,
        size,
        expected,
        world,
        session: Some(session),
        tap,
        outcome: Outcome::new(config.queues),
        free: Vec::new(),
        again: Vec::new(),
        inject: config.inject.clone(),
        losses: Vec::new(),
        ready: false,
        down: false,
        scratch: Vec::new(),
    };
    let worked = job.work(progress);
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

fn session_config(
    config: &Config,
    shard: shard::Config,
    address: SocketAddrV4,
    subsystem: &str,
) -> Result<session::Config, DemoError> {
    let mut host_id = [0; 16];
    host_id[..8].copy_from_slice(&config.seed.to_be_bytes());
    // A version 8 UUID (RFC 9562): its bits are the application's own.
    host_id[6] = 0x80;
    host_id[8] = 0x80;
    let recover = !config.inject.is_empty();
    let controller = ControllerConfig {
        identity: HostIdentity {
            host_id,
            host_nqn: Nqn::new("nqn.2026-01.io.connectx-ddp:demo")?,
            subsystem_nqn: Nqn::new(subsystem)?,
        },
        header_digest: config.hdr_digest,
        data_digest: config.data_digest,
        io_queues: config.queues as u16,
        max_namespaces: 1,
        keep_alive: Duration::ZERO,
        timeout: if recover { COMMAND_PATIENCE } else { PATIENCE },
    };
    let mut session = session::Config::new(shard, address, controller);
    session.adapter = adapter_config(config);
    session.depth = config.queue_size as u16;
    if !recover {
        session.ctrl_loss_timeout = Duration::ZERO;
        session.max_attempts = 1;
    }
    Ok(session)
}

fn adapter_config(config: &Config) -> adapter::Config {
    adapter::Config { mtu: config.mtu as u16, ..adapter::Config::default() }
}

struct Job<'a> {
    config: &'a Config,
    size: u64,
    expected: Expected,
    world: World,
    session: Option<Session<VirtualPlatform>>,
    tap: &'a mut dyn Tap,
    outcome: Outcome,
    /// Buffers of a whole request that are not in use.
    free: Vec<IoBuf>,
    /// Requests, by their first byte, that are to be begun anew.
    again: Vec<u64>,
    /// Faults that have not happened yet.
    inject: Vec<Injection>,
    /// What was lost since the last recovery.
    losses: Vec<String>,
    ready: bool,
    down: bool,
    scratch: Vec<u8>,
}

/// One way over the namespace.
struct Pass {
    phase: Phase,
    /// The first byte that was never begun.
    next: u64,
    /// Bytes that are done, whichever way.
    done: u64,
    began: Duration,
}

impl Job<'_> {
    fn session(&mut self) -> &mut Session<VirtualPlatform> {
        self.session.as_mut().expect("the session is there until the job is closed")
    }

    /// Lets the driver and the world do what they can; true if either did anything.
    fn step(&mut self) -> bool {
        let worked = self.session().poll();
        self.show(Moment::Polled);
        self.world.step(self.tap) | worked
    }

    fn show(&mut self, moment: Moment) {
        if let Some(session) = &mut self.session {
            self.tap.session(session, moment);
        }
    }

    /// Lets everything run until `look` finds what it waits for.
    fn wait(&mut self, awaited: &'static str, look: impl Fn(&Self) -> bool) -> Result<(), DemoError> {
        let began = self.world.now();
        while !look(self) {
            while let Some(event) = self.session().next_event() {
                self.on_event(None, event)?;
            }
            if look(self) || self.step() {
                continue;
            }
            self.sleep(began, None, awaited)?;
        }
        Ok(())
    }

    /// Nothing has anything to do: time passes, not beyond `at`. Waiting began with the last `progress`.
    fn sleep(&mut self, progress: Duration, at: Option<Duration>, awaited: &'static str) -> Result<(), DemoError> {
        let deadline = [self.session().next_deadline(), at].into_iter().flatten().min();
        let waited = self.world.now() - progress;
        match waited <= PATIENCE && self.world.sleep(deadline) {
            true => Ok(()),
            false => Err(DemoError::Stuck(waited, awaited)),
        }
    }

    fn work(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<(), DemoError> {
        let passed = self.connect_and_pass(progress);
        self.show(Moment::Done);
        self.count();
        passed?;
        self.session().shutdown();
        self.wait("the controller to shut down", |job| job.down)
    }

    /// Everything up to the disconnecting.
    fn connect_and_pass(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<(), DemoError> {
        self.wait("the controller and its queues to become ready", |job| job.ready)?;
        self.check_namespace()?;
        if self.config.write {
            self.pass(Phase::Writing, progress)?;
        }
        let began = Instant::now();
        let passed = self.pass(Phase::Reading, progress);
        self.outcome.read_s = began.elapsed().as_secs_f64();
        passed?;
        if !self.outcome.injected.is_empty() {
            // What nobody has noticed yet is noticed soon, and what is being recovered is waited for.
            let soon = self.world.now() + NOTICE_PATIENCE;
            let noticed = |job: &Self| job.world.now() >= soon && job.session.as_ref().is_some_and(Session::is_live);
            self.wait("recovery", noticed)?;
        }
        Ok(())
    }

    fn check_namespace(&mut self) -> Result<(), DemoError> {
        let size = self.size;
        let controller = self.session().controller().ok_or_else(|| DemoError::Controller("is gone".into()))?;
        let page = controller.namespaces().first().and_then(|namespace| namespace.page.as_ref().ok());
        let (blocks, block_size) = page.map_or((0, 0), |page| (page.blocks, page.block_size));
        match (blocks * u64::from(block_size), u64::from(block_size)) == (size, BLOCK) {
            true => Ok(()),
            false => {
                let what = format!("namespace 1 has {blocks} blocks of {block_size} bytes, the image {size} bytes");
                Err(DemoError::Controller(what))
            }
        }
    }

    /// Something happened, on a way over the namespace or before and after it.
    fn on_event(&mut self, pass: Option<&mut Pass>, event: Event) -> Result<(), DemoError> {
        match event {
            Event::Ready => {
                self.ready = true;
                self.outcome.queues_offloaded = self.session().offloaded() as u32;
            }
            // The reasons are collected at the end.
            Event::NotOffloaded { queue, why } => log::warn!("queue {queue} is not offloaded: {why}"),
            Event::Completed(completion) => match pass {
                Some(pass) => self.complete(pass, completion)?,
                None => self.problem(format!("a late completion: {:?}", completion.result)),
            },
            Event::Lost { why, .. } => self.losses.push(why),
            Event::Recovered(recovery) => {
                let lost = std::mem::take(&mut self.losses).into_iter().next().unwrap_or_default();
                let (level, took_us) = (recovery.level.to_string(), recovery.took.as_micros() as u64);
                self.outcome.recovered.push(Recovered { lost, level, took_us, attempts: recovery.attempts });
            }
            Event::Down { problems } => {
                self.down = true;
                problems.into_iter().for_each(|problem| self.problem(problem));
            }
            Event::Ended(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Goes over the whole namespace once.
    fn pass(&mut self, phase: Phase, progress: &mut dyn FnMut(Progress)) -> Result<(), DemoError> {
        let total = self.size;
        let mut pass = Pass { phase, next: 0, done: 0, began: self.world.now() };
        let mut last_progress = pass.began;
        progress(Progress { phase, done: 0, total, placed: self.outcome.bytes_placed });
        while pass.done < total {
            self.inject_what_is_due(&pass);
            self.submit(&mut pass)?;
            let before = pass.done;
            while let Some(event) = self.session().next_event() {
                self.on_event(Some(&mut pass), event)?;
            }
            if pass.done != before {
                last_progress = self.world.now();
                progress(Progress { phase, done: pass.done, total, placed: self.outcome.bytes_placed });
                continue;
            }
            if self.step() {
                continue;
            }
            let due = self.inject.iter().filter_map(|injection| Some(pass.began + injection.time()?)).min();
            self.sleep(last_progress, due.filter(|_| phase == Phase::Reading), "a request to complete")?;
        }
        self.inject_what_is_due(&pass);
        if phase == Phase::Reading {
            let took = self.world.now() - pass.began;
            for injection in std::mem::take(&mut self.inject) {
                let name = injection.name();
                self.problem(format!(
                    "--inject {name}: reading was over before, after {took:?}; take an earlier moment"
                ));
            }
        }
        Ok(())
    }

    /// Lets faults happen whose moment has come.
    fn inject_what_is_due(&mut self, pass: &Pass) {
        if pass.phase != Phase::Reading || self.inject.is_empty() {
            return;
        }
        let (done, total) = (pass.done / self.config.io_size, self.size.div_ceil(self.config.io_size));
        let time = self.world.now() - pass.began;
        for injection in std::mem::take(&mut self.inject) {
            if !injection.is_due(done, total, time) {
                self.inject.push(injection);
            } else if injection.inject(&mut self.world) {
                self.outcome.injected.push(injection.name());
            } else {
                self.problem(format!("--inject {}: there is nothing that it could happen to", injection.name()));
            }
        }
    }

    /// Begins requests until the session takes no more.
    fn submit(&mut self, pass: &mut Pass) -> Result<(), DemoError> {
        loop {
            let offset = self.again.last().copied().unwrap_or(pass.next);
            if offset >= self.size {
                return Ok(());
            }
            let len = self.config.io_size.min(self.size - offset);
            let buffer = match self.free.pop() {
                Some(buffer) if buffer.len() as u64 == len => buffer,
                other => {
                    self.free.extend(other);
                    let heap = self.world.platform.dma_heap();
                    buffer(&heap, len as usize, self.config.pieces, self.config.seed ^ offset)?
                }
            };
            let (lba, blocks) = (offset / BLOCK, (len / BLOCK) as u32);
            let begun = match pass.phase {
                Phase::Writing => {
                    self.scratch.resize(len as usize, 0);
                    self.fill_expected(offset)?;
                    buffer.write(0, &self.scratch);
                    let request = Request::write(NSID, lba, blocks, BLOCK as u32)?;
                    self.session().write(request, buffer, offset)
                }
                Phase::Reading => {
                    let request = Request::read(NSID, lba, blocks, BLOCK as u32)?;
                    self.session().read(request, buffer, offset)
                }
            };
            match begun {
                Ok(()) if self.again.pop().is_some() => {}
                Ok(()) => pass.next += len,
                // Room comes with a completion; that there will be none any more, with an event.
                Err((Refused::Busy { .. } | Refused::Over, buffer)) => {
                    self.keep(buffer);
                    return Ok(());
                }
                Err((why, _)) => return Err(DemoError::Controller(why.to_string())),
            }
        }
    }

    /// Keeps a buffer for the next request.
    fn keep(&mut self, buffer: IoBuf) {
        if buffer.len() as u64 == self.config.io_size {
            self.free.push(buffer);
        }
    }

    fn fill_expected(&mut self, offset: u64) -> Result<(), DemoError> {
        let filled = self.expected.fill(offset, &mut self.scratch);
        filled.map_err(|error| DemoError::Io { what: "reading the image again to compare".into(), error })
    }

    /// Looks at a request that is over.
    fn complete(&mut self, pass: &mut Pass, completion: Completion) -> Result<(), DemoError> {
        let offset = completion.token;
        let len = self.config.io_size.min(self.size - offset);
        match completion.result {
            Ok(()) => {}
            // Nobody else writes here, so writing the same once more is safe.
            Err(RequestError::WriteUncertain) if !self.config.inject.is_empty() => {
                self.outcome.writes_repeated += 1;
                self.again.push(offset);
                completion.buffer.into_iter().for_each(|buffer| self.keep(buffer));
                return Ok(());
            }
            Err(RequestError::Refused(shard::Refused::NotBound(why))) => {
                return Err(DemoError::NotBound { offset, bytes: len, why });
            }
            Err(error) => {
                self.outcome.failed += 1;
                self.problem(format!("request at byte {offset}: {error}"));
                if completion.buffer.is_none() {
                    self.problem(format!("the buffer of the request at byte {offset} stays with the device"));
                }
                pass.done += len;
                completion.buffer.into_iter().for_each(|buffer| self.keep(buffer));
                return Ok(());
            }
        }
        if pass.phase == Phase::Reading {
            let read = offset / self.config.io_size;
            if self.config.ask == Some(read) {
                self.outcome.read = Some(ReadOutcome::new(read, offset, &completion));
            }
            let index = usize::from(completion.queue).wrapping_sub(1);
            if let Some(queue) = self.outcome.per_queue.get_mut(index) {
                queue.count_read(&completion);
            }
        }
        pass.done += len;
        match (pass.phase, &completion.buffer) {
            (Phase::Writing, _) => {
                self.outcome.writes += 1;
                self.outcome.bytes_written += len;
            }
            (Phase::Reading, buffer) => {
                self.outcome.reads += 1;
                self.outcome.bytes += len;
                self.outcome.bytes_placed += u64::from(completion.placed);
                self.outcome.bytes_copied += u64::from(completion.copied);
                buffer.iter().try_for_each(|buffer| self.compare(offset, buffer))?;
            }
        }
        completion.buffer.into_iter().for_each(|buffer| self.keep(buffer));
        Ok(())
    }

    fn compare(&mut self, offset: u64, buffer: &IoBuf) -> Result<(), DemoError> {
        let found = buffer.to_vec();
        self.scratch.resize(found.len(), 0);
        self.fill_expected(offset)?;
        if let Some((wrong, first)) = difference(&found, &self.scratch) {
            self.outcome.bytes_wrong += wrong;
            self.problem(format!("{wrong} bytes of the read at byte {offset} differ, the first at {}", offset + first));
        }
        Ok(())
    }

    /// Notes a problem; the first few are enough to see what is wrong.
    fn problem(&mut self, what: String) {
        if self.outcome.problems.len() < 20 {
            self.outcome.problems.push(what);
        }
    }

    /// Collects what is known of each queue, while it is there, and what the world saw.
    fn count(&mut self) {
        let Some(session) = &self.session else { return };
        let outcome = &mut self.outcome;
        if let Some(shard) = session.shard() {
            outcome.threshold = shard.threshold().into();
            for (number, id) in session.io_queues() {
                let (Some(queue), Some(stats)) = (shard.queue(id), shard.queue_stats(id)) else { continue };
                if let Some(of_queue) = outcome.per_queue.get_mut(usize::from(number).wrapping_sub(1)) {
                    of_queue.count(shard.why_no_offload(id), queue.counters(), &stats);
                }
            }
        }
        outcome.device = self.world.platform.nic().offload_counters().clone();
        log::info!("the device's own view of the offload: {:?}", outcome.device);
        log::info!("the device's drops: {:?}", self.world.platform.nic().counters().drops);
        log::info!("target: {:?}", self.world.target.counters());
        let [to_target, to_host] = self.world.lanes().map(Lane::counters);
        log::info!("wire: towards the target {to_target:?}, towards the host {to_host:?}");
        outcome.frames_lost = to_target.lost + to_host.lost;
        outcome.frames_reordered = to_target.reordered + to_host.reordered;
        outcome.frames_corrupted = to_target.corrupted + to_host.corrupted;
        outcome.frames_duplicated = to_target.duplicated + to_host.duplicated;
        let totals = session.totals();
        outcome.doorbells = totals.shard.doorbells;
        outcome.packets_placed = totals.offload.packets;
        outcome.digests_hw = totals.nvme.digests_hardware;
        outcome.digests_sw = totals.nvme.digests_software;
        outcome.pdus_rx = totals.nvme.pdus_received;
        outcome.pdus_tx = totals.nvme.pdus_sent;
        let counters = session.counters();
        (outcome.resubmitted, outcome.buffers_quarantined) = (counters.resubmitted, counters.quarantined);
    }

    /// Takes the function down and asks the device what it still holds.
    fn close(&mut self) {
        self.show(Moment::Closing);
        let Some(session) = self.session.take() else { return };
        let deadline = Deadline::after(&*self.world.platform, adapter_config(self.config).command_timeout);
        let closed = session.close(deadline);
        let totals = closed.totals;
        self.outcome.counters = totals.offload.seed().into_iter().collect();
        self.outcome.copied = CopiedFor::table(&totals.offload);
        let counters = totals.shard;
        (self.outcome.packets_rx, self.outcome.packets_tx) = (counters.packets_rx, counters.packets_tx);
        // What was injected leads to some of these.
        let faultless = self.outcome.injected.is_empty();
        for (count, what) in [
            (counters.bad_completions, "completions of the device were not believed"),
            (
                if self.outcome.frames_corrupted == 0 { counters.bad_checksums } else { 0 },
                "packets had wrong checksums",
            ),
            (counters.foreign_placements, "packets were placed for another connection"),
            (counters.queue_errors, "queue errors"),
        ] {
            if count != 0 && faultless {
                self.outcome.problems.push(format!("{count} {what}"));
            }
        }
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
        if misuse != Default::default() && faultless {
            self.problem(format!("the device was used wrongly: {misuse:?}"));
        }
        for error in self.world.target.errors() {
            match faultless {
                true => self.problem(format!("target: {error}")),
                false => log::info!("target: {error}"),
            }
        }
    }
}

/// A destination buffer of `len` bytes in `pieces` pieces; with more than one, of random lengths at random offsets.
pub(super) fn buffer(heap: &DmaHeap, len: usize, pieces: u32, seed: u64) -> Result<IoBuf, DmaError> {
    if pieces <= 1 {
        return Ok(IoBuf::new(vec![heap.allocate(len, 4096)?]));
    }
    let mut generator = Random(seed ^ 0x9e37_79b9_7f4a_7c15);
    let mut random = |below: usize| (generator.next_u64() >> 33) as usize % below.max(1);
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
