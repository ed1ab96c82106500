//! What a demonstration does, from bring-up to teardown.

use super::config::{BadOption, Config};
use super::image::{self, Expected, Overlay};
use super::inject::Injection;
use super::outcome::{Outcome, ReadOutcome, peak_rss};
use super::peer::PeerError;
use super::world::{Both, Moment, NoTap, PcapTap, Tap, WireConfig, World};
use crate::adapter::{self, Adapter, AdapterError};
use crate::ddp::policy::{Costs, Threshold};
use crate::dma::{DmaBuf, DmaError, DmaHeap, IoBuf};
use crate::nvme::controller::ControllerConfig;
use crate::nvme::fabrics::{BadNqn, HostIdentity, Nqn};
use crate::platform::virtual_nic::VirtualPlatform;
use crate::session::{self, Completion, Loss, Session};
use crate::shard::{self, NotOpened, OffloadPolicy};
use crate::transfer::{self, Ends, Progress, Rest, Watch};
use ethernet_wire::{Lane, Random};
use nvme_target::Backing;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
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

impl From<BadNqn> for DemoError {
    fn from(error: BadNqn) -> DemoError {
        DemoError::Controller(error.to_string())
    }
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
    let session = Session::on(adapter, session_config.clone())?;

    let transfer = transfer::Config {
        session: session_config,
        nsid: NSID,
        offset: 0,
        len: Some(size),
        io_size: config.io_size,
        passes: 1,
        write: config.write,
        interrupts: None,
        recover: true,
        // Nobody else writes here.
        repeat_writes: !config.inject.is_empty(),
    };
    let mut scene = Scene::new(config, world, tap, progress);
    let (mut expected, mut seed) = (expected, config.seed);
    let mut buffers = |heap: &DmaHeap, len: usize| {
        seed = seed.wrapping_add(1);
        buffer(heap, len, config.pieces, seed)
    };
    let never = AtomicBool::new(false);
    let ends = Ends { content: Some(&mut expected), sink: None, buffers: Some(&mut buffers), stop: &never };
    let done = transfer::run_on(session, &transfer, ends, &mut scene);
    let mut outcome = scene.end(done);
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

/// The world around a demonstration, and what is seen of it.
struct Scene<'a> {
    config: &'a Config,
    world: World,
    tap: &'a mut dyn Tap,
    progress: &'a mut dyn FnMut(Progress),
    outcome: Outcome,
    /// Faults that have not happened yet.
    inject: Vec<Injection>,
    /// How far the reads are, and when they began.
    reading: Option<(Progress, Duration, Instant)>,
    /// When something was done last.
    progressed: Duration,
    /// Everything was read at this time.
    read: Option<Duration>,
}

impl<'a> Scene<'a> {
    fn new(config: &'a Config, world: World, tap: &'a mut dyn Tap, progress: &'a mut dyn FnMut(Progress)) -> Scene<'a> {
        let (outcome, inject, progressed) = (Outcome::new(config.queues), config.inject.clone(), world.now());
        Scene { config, world, tap, progress, outcome, inject, reading: None, progressed, read: None }
    }

    /// Lets faults happen whose moment has come.
    fn inject_what_is_due(&mut self) {
        let Some((progress, began, _)) = self.reading else { return };
        if self.inject.is_empty() {
            return;
        }
        let (done, total) = (progress.done / self.config.io_size, progress.total.div_ceil(self.config.io_size));
        let time = self.world.now() - began;
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

    /// Notes a problem; the first few are enough to see what is wrong.
    fn problem(&mut self, what: String) {
        if self.outcome.problems.len() < 20 {
            self.outcome.problems.push(what);
        }
    }

    /// Collects what is known of each queue, while it is there, and what the world saw.
    fn count(&mut self, session: &Session<VirtualPlatform>) {
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

    /// The function is down: asks the device what it still holds, and puts together what is known.
    fn end(mut self, done: transfer::Outcome) -> Outcome {
        self.outcome.take(&done);
        let counters = done.totals.shard;
        // What stopped it comes first.
        let seen = std::mem::replace(&mut self.outcome.problems, done.problems);
        seen.into_iter().for_each(|problem| self.problem(problem));
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
                self.problem(format!("{count} {what}"));
            }
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
        self.outcome
    }
}

impl Watch<VirtualPlatform> for Scene<'_> {
    fn polled(&mut self, session: &mut Session<VirtualPlatform>) -> bool {
        self.tap.session(session, Moment::Polled);
        self.inject_what_is_due();
        self.world.step(self.tap)
    }

    /// Time passes.
    fn rest(&mut self, session: &mut Session<VirtualPlatform>) -> Rest {
        let began = self.reading.map(|(_, began, _)| began);
        let due = self.inject.iter().filter_map(|injection| Some(began? + injection.time()?)).min();
        let deadline = [session.next_deadline(), due].into_iter().flatten().min();
        let waited = self.world.now() - self.progressed;
        match waited <= PATIENCE && self.world.sleep(deadline) {
            true => Rest::Rested,
            false => Rest::Never(waited),
        }
    }

    fn progress(&mut self, progress: Progress) {
        self.progressed = self.world.now();
        if !progress.writing {
            let (_, began, clock) = self.reading.unwrap_or((progress, self.progressed, Instant::now()));
            self.reading = Some((progress, began, clock));
            self.outcome.read_s = clock.elapsed().as_secs_f64();
        }
        (self.progress)(progress);
    }

    fn completed(&mut self, completion: &Completion, writing: bool) {
        if writing {
            return;
        }
        let read = completion.token / self.config.io_size;
        if self.config.ask == Some(read) {
            self.outcome.read = Some(ReadOutcome::new(read, completion.token, completion));
        }
        let index = usize::from(completion.queue).wrapping_sub(1);
        if let Some(queue) = self.outcome.per_queue.get_mut(index) {
            queue.count_read(completion);
        }
    }

    /// What nobody has noticed yet is noticed soon, and what is being recovered is waited for.
    fn is_settled(&mut self, session: &mut Session<VirtualPlatform>) -> bool {
        let now = self.world.now();
        let read = match self.read {
            Some(read) => read,
            None => {
                self.read = Some(now);
                self.progressed = now;
                self.inject_what_is_due();
                let took = now - self.reading.map_or(now, |(_, began, _)| began);
                for injection in std::mem::take(&mut self.inject) {
                    self.problem(format!(
                        "--inject {}: reading was over before, after {took:?}; take an earlier moment",
                        injection.name()
                    ));
                }
                now
            }
        };
        self.outcome.injected.is_empty() || now >= read + NOTICE_PATIENCE && session.is_live()
    }

    fn done(&mut self, session: &mut Session<VirtualPlatform>) {
        self.progressed = self.world.now();
        self.tap.session(session, Moment::Done);
        self.count(session);
    }

    fn closing(&mut self, session: &mut Session<VirtualPlatform>) {
        self.tap.session(session, Moment::Closing);
    }

    fn news(&mut self, line: &str) {
        log::info!("{line}");
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
