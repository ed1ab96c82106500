//! Thousands of offloaded connections on one function, several shards, a thread each.
//!
//! ```text
//!  thread   shard 0      shard 1   ...   host (adapter)     network
//!              │            │               │               wire, targets: one for 62 I/O queues
//!              └── Remote ──┴── Remote ─────┘
//!  all on one clock: simulated time passes while every thread rests
//! ```
//!
//! With a fault of the function, everything happens twice: shards notice while they read, end what is under way and go; the
//! function is reset, which gives their last buffers back; it is brought up again for as many shards, which connect to the same
//! targets and read everything.
//!
//! Each shard opens its connections in waves, a batch at a time, and adds the offload to a wave as soon as it is ready, so
//! that the commands of a batch keep every slot of the command queue busy. Then it reads on every connection, compares every
//! byte, and closes everything.

mod network;
mod report;
mod worker;

pub use report::{CommandUse, MemoryUse, Recovery, Report};

use super::config::{BLOCK, BadOption, MAX_IO};
use super::heap;
use super::inject::Injection;
use super::job::DemoError;
use super::peer::PeerError;
use crate::adapter::{self, Adapter, Host};
use crate::command::{CommandCounters, ObjectKind};
use crate::ddp::tags::Quiesced;
use crate::dma::DmaHeap;
use crate::observe::{Publisher, Snapshot};
use crate::platform::Deadline;
use crate::platform::virtual_nic::{Clock, VirtualPlatform};
use crate::shard::{self, MAX_SHARDS, Shard};
use firmware_iface::caps::groups::NvmeotcpCap;
use hw_regs::layout::Access;
use network::Network;
use nvme_target::{Generated, Target};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};
use worker::{Outcome, Site, Worker};

/// Address of the driver's end.
const HOST_IP: Ipv4Addr = Ipv4Addr::new(192, 168, 44, 1);
/// I/O queues of one target, which has as many for one controller at most.
const QUEUES_PER_TARGET: u32 = 62;
/// Most connections: one target has one address, and the first two are not theirs.
const MAX_CONNECTIONS: u32 = 200 * QUEUES_PER_TARGET;
/// Bytes of the image that all targets serve.
const IMAGE: u64 = 1 << 30;
/// Simulated time that an attempt to reset the function may take, and until the next.
const RESET: Duration = Duration::from_secs(1);
/// Simulated time after which a shard that makes no progress gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Config {
    /// Connections with an offload context, over all shards.
    pub connections: u32,
    /// Tags of each, and commands that it may have in flight.
    pub depth: u32,
    /// Shards, a thread each.
    pub shards: u32,
    /// Simulated time that firmware takes for a command.
    pub command_time: Duration,
    /// Connections that a shard adds to the offload at a time.
    pub batch: u32,
    /// Reads on each connection.
    pub reads: u32,
    /// Bytes of each.
    pub io_size: u64,
    /// Negotiate data digests.
    pub data_digest: bool,
    /// Seed of image, initial sequence numbers and ports.
    pub seed: u64,
    /// A fault of the function while shards read: when the first has read so much.
    pub inject: Option<Injection>,
}

impl Default for Config {
    /// The scale that the project aims at.
    fn default() -> Config {
        Config {
            connections: 4000,
            depth: 128,
            shards: 2,
            command_time: Duration::from_micros(50),
            batch: 32,
            reads: 2,
            io_size: 4096,
            data_digest: false,
            seed: 1,
            inject: None,
        }
    }
}

impl Config {
    /// Checks everything that can be checked without a device.
    pub fn check(&self) -> Result<(), BadOption> {
        let within = |option, value: u32, most: u32| match (1..=most).contains(&value) {
            true => Ok(()),
            false => Err(BadOption::new(option, value, format!("allowed is 1 to {most}"))),
        };
        within("--shards", self.shards, MAX_SHARDS)?;
        within("--connections", self.connections, MAX_CONNECTIONS)?;
        if self.connections < self.shards {
            let allowed = format!("allowed is at least one for each of {} shards", self.shards);
            return Err(BadOption::new("--connections", self.connections, allowed));
        }
        // Identifiers have 16 bits, of which one value is nobody's, and submission queues one entry more than commands.
        within("--depth", self.depth, 65534)?;
        within("--batch", self.batch, 1024)?;
        within("--reads", self.reads, 1024)?;
        if self.command_time > Duration::from_secs(1) {
            let value = self.command_time.as_micros();
            return Err(BadOption::new("--command-time", value, "allowed is 0 to 1000000 microseconds"));
        }
        if self.io_size == 0 || !self.io_size.is_multiple_of(BLOCK) || self.io_size > MAX_IO {
            let allowed = format!("allowed is a multiple of the {BLOCK}-byte block, from {BLOCK} to {MAX_IO} bytes");
            return Err(BadOption::new("--io-size", self.io_size, allowed));
        }
        if let Some(injection) = self.inject.filter(|injection| injection.of_function().is_none()) {
            return Err(BadOption::new("--inject", injection.name(), "allowed is fatal-health, all-ones or flr"));
        }
        Ok(())
    }

    /// Connections of shard `index`.
    fn connections_of(&self, index: u32) -> u32 {
        self.connections / self.shards + u32::from(index < self.connections % self.shards)
    }
}

/// How far all threads are.
struct Progress {
    /// Threads that begin together: before that, time does not wait for those that have yet to join.
    begin: Barrier,
    shards: u32,
    /// Shards that have added the offload to all their connections, and that have ended.
    set_up: AtomicU32,
    ended: AtomicU32,
    /// The host has looked at what exists when all was set up.
    noted: AtomicBool,
    /// Offloaded connections so far.
    offloaded: AtomicU32,
    /// Pages that firmware was given.
    firmware_pages: AtomicUsize,
    samples: Mutex<Vec<Sample>>,
    /// After the reads, with no buffer left.
    used: Mutex<Vec<Sample>>,
}

impl Progress {
    fn wait_for_all(&self) {
        self.begin.wait();
    }

    fn shards_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire) == self.shards
    }
}

/// Memory at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    connections: u32,
    /// Heap of the driver, if it is counted.
    heap: Option<i64>,
    /// DMA memory of the driver: without the pages that firmware was given.
    dma: usize,
    resident: u64,
}

impl Sample {
    fn take(connections: u32, dma: &DmaHeap, firmware_pages: usize) -> Sample {
        let dma = dma.usage().1.saturating_sub(firmware_pages * adapter::PAGE_BYTES);
        Sample { connections, heap: heap::live(), dma, resident: report::resident() }
    }
}

/// What the thread of the host saw.
struct Hosted {
    host: Host<VirtualPlatform>,
    /// Counters of the command queue before the first connection, and when the last was added.
    before: CommandCounters,
    set_up: CommandCounters,
    /// Most commands in flight at a time until then.
    most_in_flight: usize,
    /// Objects that existed then.
    objects: Vec<(ObjectKind, usize)>,
}

/// A target on the wire: its Ethernet address, and what its shard has to know of it.
type Placed = ([u8; 6], Target, Site);

/// The targets of each shard.
fn targets(config: &Config) -> Result<Vec<Vec<Placed>>, DemoError> {
    let mut number = 0;
    let mut all = Vec::new();
    for shard in 0..config.shards {
        let (mut left, mut own) = (config.connections_of(shard), Vec::new());
        while left > 0 {
            let queues = left.min(QUEUES_PER_TARGET);
            left -= queues;
            let mac = [0x02, 0, 0, 1, 0, number];
            let target = nvme_target::Config {
                mac,
                ip: Ipv4Addr::new(192, 168, 44, 10 + number),
                max_queues: queues as u16,
                max_queue_depth: config.depth.saturating_add(1).clamp(64, 1 << 16),
                tx_buffer: 16 << 10,
                rx_buffer: 16 << 10,
                patience: PATIENCE,
                // Connections of a function that failed are there until somebody tells the target.
                max_connections: config.inject.map(|_| 2 * (queues as usize + 3)),
                seed: config.seed ^ u64::from(number) << 32,
                subsystem_nqn: format!("nqn.2026-01.io.connectx-ddp:target{number}"),
                ..nvme_target::Config::default()
            };
            number += 1;
            let site = Site {
                address: SocketAddrV4::new(target.ip, target.port),
                subsystem: target.subsystem_nqn.clone(),
                queues: queues as u16,
            };
            own.push((
                mac,
                Target::new(target, Box::new(Generated::new(config.seed, IMAGE))).map_err(PeerError::from)?,
                site,
            ));
        }
        all.push(own);
    }
    Ok(all)
}

/// What a shard of this run is to be, in this life of the function.
fn shard_config(config: &Config, life: u16) -> shard::Config {
    let connections = config.connections_of(0);
    let mut secret = [0; 16];
    secret[..8].copy_from_slice(&config.seed.to_le_bytes());
    // Other ports than in the life before, whose connections its targets still have: smoltcp does not answer a SYN on one of these.
    // A shard begins in the lower half of its ports, wherever its secret says.
    let half = (1u16 << 13) >> config.shards.next_power_of_two().trailing_zeros();
    let first = (config.seed as u16).wrapping_add(life * (half / 2));
    secret[..2].copy_from_slice(&first.to_le_bytes());
    shard::Config {
        max_connections: connections + connections.div_ceil(QUEUES_PER_TARGET),
        rx_payloads_per_connection: 2,
        rx_window: 64 << 10,
        tx_buffer: 16 << 10,
        ..shard::Config::new(HOST_IP, secret)
    }
}

/// Carries it out. An error means that it did not begin; what went wrong later is in the report.
pub fn run(config: &Config) -> Result<Report, DemoError> {
    run_published(config, Vec::new())
}

/// [`run`], with the numbers shown to whoever asks: the function's by the first publisher, and each shard's by one of the
/// others.
pub fn run_published(config: &Config, publishers: Vec<Publisher>) -> Result<Report, DemoError> {
    config.check()?;
    let began = Instant::now();
    let clock = Clock::default();
    let mut device = virtual_nic::Config::default();
    // As many tags in a table as command identifiers go.
    device.capabilities.edit::<NvmeotcpCap>(|caps| {
        caps.set(NvmeotcpCap::LOG_MAX_NVMEOTCP_TAG_BUFFER_SIZE, 16);
        caps.set(NvmeotcpCap::LOG_MAX_NVMEOTCP_TAG_BUFFER_TABLE, 16);
    });
    device.command_latency = config.command_time;
    let platform = Arc::new(VirtualPlatform::on_clock("virtual", device, clock.clone()));
    let (mut sites, mut ends) = (Vec::new(), Vec::new());
    for own in targets(config)? {
        let (of_shard, own): (Vec<_>, Vec<_>) =
            own.into_iter().map(|(mac, target, site)| (site, (mac, target))).unzip();
        sites.push(of_shard);
        ends.extend(own);
    }
    let life = |dies| Life { config, platform: &platform, sites: &sites, dies };
    let mut opened = open(config, &platform, 0)?;
    let (mut recovery, mut problems) = (None, Vec::new());
    // Doorbells that reach a function that is being reset are nobody's misuse.
    let mut misuse = Default::default();
    if let Some(injection) = &config.inject {
        let mut lived = life(true).run(opened, ends, Vec::new())?;
        ends = std::mem::take(&mut lived.ends);
        let began = clock.now();
        let (mut recovered, died) = lived.recover(injection.name());
        opened = loop {
            match open(config, &platform, 1) {
                Ok(opened) => break opened,
                Err(error) if clock.now() - began > PATIENCE => return Err(error),
                // It may come back.
                Err(_) => platform.rest(Some(clock.now() + RESET)),
            }
        };
        recovered.recovered_us = (clock.now() - began).as_micros() as u64;
        (recovery, problems) = (Some(recovered), died);
        misuse = platform.nic().counters().misuse.clone();
    }
    let mut lived = life(false).run(opened, ends, publishers)?;
    let mut report = Report::new(config, &lived.progress, &lived.hosted);
    report.recovery = recovery;
    problems.into_iter().for_each(|problem| report.problem(problem));
    lived.outcomes.iter().for_each(|outcome| report.add(outcome));
    // To its targets, a function that has failed is an error.
    for (_, target) in lived.ends.iter_mut().filter(|_| config.inject.is_none()) {
        target.errors().iter().for_each(|error| report.problem(format!("target: {error}")));
    }
    take_down(lived.hosted.host, lived.closed, &mut report);
    report.device(&platform, &misuse);
    report.elapsed_s = began.elapsed().as_secs_f64();
    Ok(report)
}

/// Brings the function up, for so many shards.
fn open(config: &Config, platform: &Arc<VirtualPlatform>, life: u16) -> Result<Opened, DemoError> {
    let adapter_config = adapter::Config {
        // Half a million keys want their pages.
        page_limit: (8 << 30) / adapter::PAGE_BYTES,
        ..adapter::Config::default()
    };
    let adapter = Adapter::bring_up(Arc::clone(platform), adapter_config).map_err(Box::new)?;
    Ok(Shard::open_many(adapter, &shard_config(config, life), config.shards).map_err(Box::new)?)
}

/// A function that is up, and its shards.
type Opened = (Host<VirtualPlatform>, Vec<Shard<VirtualPlatform>>);
/// Targets and their Ethernet addresses.
type Ends = Vec<([u8; 6], Target)>;

/// From when the shards begin until all are gone.
struct Life<'a> {
    config: &'a Config,
    platform: &'a Arc<VirtualPlatform>,
    /// The targets of each shard.
    sites: &'a [Vec<Site>],
    /// The function fails meanwhile.
    dies: bool,
}

/// What is left then.
struct Lived {
    hosted: Hosted,
    progress: Progress,
    outcomes: Vec<Outcome>,
    closed: Vec<shard::Closed>,
    ends: Ends,
}

impl Life<'_> {
    fn run(&self, (host, shards): Opened, ends: Ends, publishers: Vec<Publisher>) -> Result<Lived, DemoError> {
        let (config, clock, dies) = (self.config, self.platform.clock(), self.dies);
        let network = Network::new(Arc::clone(self.platform), ends);
        let all = Progress {
            begin: Barrier::new(shards.len() + 2),
            shards: config.shards,
            set_up: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            noted: AtomicBool::new(false),
            offloaded: AtomicU32::new(0),
            firmware_pages: AtomicUsize::new(0),
            samples: Mutex::new(Vec::new()),
            used: Mutex::new(Vec::new()),
        };
        let progress = &all;
        let (workers, hosted, ends) = std::thread::scope(|scope| {
            let network = scope.spawn(move || network.run(clock, progress));
            let mut publishers = publishers.into_iter();
            let publisher = publishers.next();
            let hosting = scope.spawn(move || run_host(host, clock, progress, publisher));
            let workers = shards.into_iter().zip(self.sites).zip(0..).map(|((shard, sites), number)| {
                let publisher = publishers.next();
                scope.spawn(move || {
                    heap::driver_thread();
                    let seat = clock.join();
                    progress.wait_for_all();
                    let done = Worker::new(config, (number, shard), sites.clone(), progress, publisher, dies).run();
                    progress.ended.fetch_add(1, Ordering::AcqRel);
                    clock.stir();
                    drop(seat);
                    done
                })
            });
            let workers: Vec<_> = workers.collect();
            let workers: Vec<_> = workers.into_iter().map(|thread| thread.join()).collect();
            (workers, hosting.join(), network.join())
        });
        let (Ok(hosted), Ok(ends)) = (hosted, ends) else {
            return Err(DemoError::Stuck(clock.now(), "a thread that has panicked"));
        };
        let (mut outcomes, mut closed) = (Vec::new(), Vec::new());
        for worker in workers {
            match worker {
                Ok(done) => {
                    outcomes.push(done.outcome);
                    closed.push(done.closed);
                }
                Err(_) => outcomes
                    .push(Outcome { problems: vec!["a shard's thread has panicked".into()], ..Outcome::default() }),
            }
        }
        Ok(Lived { hosted, progress: all, outcomes, closed, ends })
    }
}

impl Lived {
    /// Resets a function that has failed, once no shard uses it any more: buffers that it could write until then are safe.
    /// What was lost, and what went wrong besides.
    fn recover(self, fault: &'static str) -> (Recovery, Vec<String>) {
        let mut problems: Vec<String> = self.outcomes.iter().flat_map(|outcome| outcome.problems.clone()).collect();
        let sum = |of: fn(&Outcome) -> u64| self.outcomes.iter().map(of).sum();
        let mut recovery =
            Recovery { fault, reads: sum(|o| o.reads), failed: sum(|o| o.failed), ..Recovery::default() };
        let (kept, wrong): (u64, u64) = (sum(|o| o.kept), sum(|o| o.wrong));
        if wrong != 0 {
            problems.push(format!("{wrong} bytes of reads that ended well before the fault are wrong"));
        }
        if self.hosted.host.ailment().is_none() {
            problems.push(format!("--inject {fault}: the host of the function has not noticed"));
        }
        let mut adapter = self.hosted.host.into_adapter();
        let platform = Arc::clone(adapter.platform());
        let began = platform.clock().now();
        let proof = loop {
            match adapter.reset(Deadline::after(&*platform, RESET)) {
                Ok(proof) => break Some(Quiesced::after(&proof)),
                Err(error) if platform.clock().now() - began > PATIENCE => {
                    problems.push(error.to_string());
                    break None;
                }
                // It may come back.
                Err(_) => platform.rest(Some(platform.clock().now() + RESET)),
            }
        };
        if let Some(proof) = proof {
            let held = self.closed.into_iter().map(|closed| closed.quarantine);
            recovery.quarantined = held.map(|held| held.release(&proof).len() as u64).sum();
        }
        if recovery.quarantined != kept {
            problems.push(format!("{kept} buffers stayed with the device, and {} came back", recovery.quarantined));
        }
        (recovery, problems)
    }
}

/// Takes the function down once no shard uses it any more.
fn take_down(host: Host<VirtualPlatform>, closed: Vec<shard::Closed>, report: &mut Report) {
    let ill = host.ailment();
    let mut adapter = host.into_adapter();
    let deadline = adapter.command_deadline();
    let held: Vec<_> = closed.into_iter().map(|closed| closed.quarantine).filter(|held| !held.is_empty()).collect();
    let reset = match ill {
        None => {
            let (teardown, reset) = adapter.take_down(deadline, !held.is_empty());
            if !teardown.is_clean() {
                report.problem(format!("teardown: {teardown}"));
            }
            reset
        }
        Some(ailment) => {
            report.problem(format!("the function was reset: {ailment}"));
            Some(adapter.reset(deadline))
        }
    };
    match reset {
        Some(Ok(proof)) => held.into_iter().for_each(|held| drop(held.release(&Quiesced::after(&proof)))),
        Some(Err(error)) => report.problem(error.to_string()),
        None => {}
    }
}

fn seen(host: &Host<VirtualPlatform>) -> (CommandCounters, usize, Vec<(ObjectKind, usize)>) {
    let adapter = host.adapter();
    (adapter.command_counters(), adapter.most_commands_in_flight(), adapter.objects().by_kind())
}

fn show(host: &Host<VirtualPlatform>, clock: &Clock) -> Snapshot {
    Snapshot { at: clock.now(), function: host.stats(), ..Snapshot::default() }
}

/// Serves shards until they are gone.
fn run_host(
    mut host: Host<VirtualPlatform>,
    clock: &Clock,
    progress: &Progress,
    mut publisher: Option<Publisher>,
) -> Hosted {
    heap::driver_thread();
    let seat = clock.join();
    let before = host.adapter().command_counters();
    let mut set_up = None;
    progress.wait_for_all();
    while !host.is_over() {
        let worked = host.poll();
        if let Some(publisher) = &mut publisher {
            publisher.poll(|| show(&host, clock));
        }
        progress.firmware_pages.store(host.adapter().firmware_pages(), Ordering::Relaxed);
        if set_up.is_none() && progress.set_up.load(Ordering::Acquire) == progress.shards {
            set_up = Some(seen(&host));
            progress.noted.store(true, Ordering::Release);
            clock.stir();
        }
        match worked {
            true => clock.stir(),
            false => host.adapter().platform().rest(Some(host.next_deadline())),
        }
    }
    drop(seat);
    if let Some(publisher) = publisher {
        publisher.finish(show(&host, clock));
    }
    let (set_up, most_in_flight, objects) = set_up.unwrap_or_else(|| seen(&host));
    Hosted { host, before, set_up, most_in_flight, objects }
}
