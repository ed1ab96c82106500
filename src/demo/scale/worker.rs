//! One shard's part: connect, offload, read, close.

use super::{Config, IMAGE, PATIENCE, Progress, Sample};
use crate::ddp::why::Why;
use crate::demo::config::BLOCK;
use crate::demo::inject::Injection;
use crate::dma::IoBuf;
use crate::nvme::command::Request;
use crate::nvme::controller::ControllerConfig;
use crate::nvme::fabrics::{HostIdentity, Nqn};
use crate::observe::{Publisher, Snapshot};
use crate::platform::Platform;
use crate::platform::virtual_nic::VirtualPlatform;
use crate::shard::{Closed, Completion, ConnectionId, Disconnect, Event, Refused, Shard};
use crate::transfer::difference;
use nvme_target::Generated;
use std::collections::HashSet;
use std::fmt::Display;
use std::net::SocketAddrV4;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Reads that a shard has under way at most, over all its connections: more only take memory.
const UNDER_WAY: usize = 4096;

/// A target that belongs to the shard.
#[derive(Clone)]
pub(super) struct Site {
    pub address: SocketAddrV4,
    pub subsystem: String,
    /// I/O queues on it.
    pub queues: u16,
}

/// Why a shard came to no good end.
#[derive(Debug)]
pub(super) struct Failure(pub String);

impl Failure {
    fn new(what: &str, why: impl Display) -> Failure {
        Failure(format!("{what}: {why}"))
    }
}

/// What a shard did.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub connections: u32,
    pub reads: u64,
    pub bytes: u64,
    pub placed: u64,
    pub wrong: u64,
    /// Reads that were taken; those that ended in an error, and of these the ones whose buffers stay with the device.
    pub taken: u64,
    pub failed: u64,
    pub kept: u64,
    /// Reads and bindings that found the control ring full and went un-offloaded.
    pub busy: u64,
    /// Simulated time from the first connection until the last was offloaded, of the reads, and of closing everything.
    pub set_up: Duration,
    pub reading: Duration,
    pub closing: Duration,
    pub problems: Vec<String>,
}

impl Outcome {
    /// A read ended: compares what it brought.
    fn take(&mut self, seed: u64, completion: Completion, expected: &mut [u8]) -> Result<IoBuf, Failure> {
        let Completion { status, buffer, token, placed, .. } = completion;
        let kept = buffer.is_none();
        let (true, Some(buffer)) = (status.is_success(), buffer) else {
            self.failed += 1;
            self.kept += u64::from(kept);
            return Err(Failure::new("read", status));
        };
        Generated::fill(seed, token, expected);
        let found = buffer.to_vec();
        self.wrong += difference(&found, expected).map_or(0, |(wrong, _)| wrong);
        self.reads += 1;
        self.bytes += found.len() as u64;
        self.placed += u64::from(placed);
        Ok(buffer)
    }
}

/// A shard that is done.
pub(super) struct Done {
    pub outcome: Outcome,
    /// What the shard left.
    pub closed: Closed,
}

fn show(shard: &Shard<VirtualPlatform>, number: u32) -> Snapshot {
    Snapshot { at: shard.platform().now(), shards: vec![shard.stats(number)], ..Snapshot::default() }
}

pub(super) struct Worker<'a> {
    config: &'a Config,
    number: u32,
    shard: Shard<VirtualPlatform>,
    publisher: Option<Publisher>,
    platform: Arc<VirtualPlatform>,
    sites: Vec<Site>,
    progress: &'a Progress,
    outcome: Outcome,
    /// I/O queues with the offload.
    queues: Vec<ConnectionId>,
    /// The function will fail while shards read, and this shard sees to that.
    dies: bool,
    injection: Option<Injection>,
}

impl<'a> Worker<'a> {
    pub fn new(
        config: &'a Config,
        (number, shard): (u32, Shard<VirtualPlatform>),
        sites: Vec<Site>,
        progress: &'a Progress,
        publisher: Option<Publisher>,
        dies: bool,
    ) -> Worker<'a> {
        let platform = Arc::clone(shard.platform());
        let (outcome, queues) = (Outcome::default(), Vec::new());
        let injection = config.inject.filter(|_| dies && number == 0);
        Worker { config, number, shard, publisher, platform, sites, progress, outcome, queues, dies, injection }
    }

    pub fn run(mut self) -> Done {
        let used = self.set_up().and_then(|admins| self.use_all(admins));
        if let Err(Failure(why)) = if self.dies { self.die() } else { used } {
            self.problem(why);
        }
        let stats = self.shard.offload_stats();
        self.outcome.busy = stats.not_offloaded(Why::ControlRingFull) + stats.not_offloaded(Why::Draining);
        let counters = self.shard.counters();
        let seen = [
            (counters.bad_completions, "completions of the device were not believed"),
            (counters.foreign_placements, "packets were placed for another connection"),
            (counters.no_connection, "packets of a connection of another shard, or of none"),
            (counters.queue_errors, "queue errors"),
        ];
        for (at, (count, what)) in seen.into_iter().enumerate() {
            // A function that fails is bad to its queues, and peers say to its next shards what they had to say to these.
            if count != 0 && !(self.config.inject.is_some() && at >= 2) {
                self.problem(format!("{count} {what}"));
            }
        }
        if let Some(publisher) = self.publisher.take() {
            publisher.finish(show(&self.shard, self.number));
        }
        let deadline = self.shard.adapter().command_deadline();
        let Worker { config, shard, mut outcome, .. } = self;
        let mut closed = shard.close(deadline);
        outcome.problems.extend(closed.problems.iter().cloned());
        let mut expected = vec![0; config.io_size as usize];
        for event in std::mem::take(&mut closed.events) {
            if let Event::Completed(_, completion) = event {
                _ = outcome.take(config.seed, completion, &mut expected);
            }
        }
        if outcome.taken != outcome.reads + outcome.failed {
            outcome.problems.push(format!("of {} reads {} ended", outcome.taken, outcome.reads + outcome.failed));
        }
        Done { outcome, closed }
    }

    /// The function fails: waits until the shard knows, and every read has ended.
    fn die(&mut self) -> Result<(), Failure> {
        let mut expected = vec![0; self.config.io_size as usize];
        let began = self.platform.clock().now();
        loop {
            let worked = self.poll();
            while let Some(event) = self.shard.next_event() {
                if let Event::Completed(_, completion) = event {
                    _ = self.outcome.take(self.config.seed, completion, &mut expected);
                }
            }
            if worked {
                self.platform.clock().stir();
                continue;
            }
            if self.shard.is_dead() {
                return Ok(());
            }
            let waited = self.platform.clock().now().saturating_sub(began);
            if waited > PATIENCE {
                return Err(Failure(format!("the shard has not noticed in {waited:?} that the function failed")));
            }
            self.platform.rest(self.shard.next_deadline());
        }
    }

    /// Connects and offloads; returns the admin connections.
    fn set_up(&mut self) -> Result<Vec<ConnectionId>, Failure> {
        let began = self.platform.clock().now();
        let done = self.connect_admins().and_then(|admins| {
            self.sample(&self.progress.samples, 0);
            self.connect_queues(&admins)?;
            Ok(admins)
        });
        self.outcome.set_up = self.platform.clock().now() - began;
        // The host waits to hear of every shard, whatever came of it, and every shard waits for the host to look.
        self.progress.set_up.fetch_add(1, Ordering::AcqRel);
        self.platform.clock().stir();
        while !self.progress.noted.load(Ordering::Acquire) {
            self.poll();
            self.platform.rest(self.shard.next_deadline());
        }
        done
    }

    fn use_all(&mut self, admins: Vec<ConnectionId>) -> Result<(), Failure> {
        let began = self.platform.clock().now();
        self.read_all()?;
        if self.dies {
            return Ok(());
        }
        self.sample(&self.progress.used, self.progress.offloaded.load(Ordering::Acquire));
        let read = self.platform.clock().now();
        self.outcome.reading = read - began;
        let queues = std::mem::take(&mut self.queues);
        self.close(queues)?;
        self.close(admins)?;
        self.outcome.closing = self.platform.clock().now() - read;
        Ok(())
    }

    fn poll(&mut self) -> bool {
        let worked = self.shard.poll();
        if let Some(publisher) = &mut self.publisher {
            publisher.poll(|| show(&self.shard, self.number));
        }
        worked
    }

    /// Lets everything run until `look` finds what it waits for among the events.
    fn wait<T>(
        &mut self,
        awaited: &str,
        mut look: impl FnMut(&mut Self, Event) -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let mut since = self.platform.clock().now();
        let mut worked = false;
        loop {
            while let Some(event) = self.shard.next_event() {
                since = self.platform.clock().now();
                if let Some(found) = look(self, event)? {
                    return Ok(found);
                }
            }
            if self.poll() {
                worked = true;
                continue;
            }
            let clock = self.platform.clock();
            if std::mem::take(&mut worked) {
                clock.stir();
            }
            let waited = clock.now().saturating_sub(since);
            if waited > PATIENCE {
                return Err(Failure(format!(
                    "nothing has happened for {waited:?} of simulated time, waiting for {awaited}"
                )));
            }
            self.platform.rest(self.shard.next_deadline());
        }
    }

    fn connect_admins(&mut self) -> Result<Vec<ConnectionId>, Failure> {
        let mut admins = Vec::new();
        for site in &self.sites {
            let mut host_id = [0; 16];
            host_id[..8].copy_from_slice(&self.config.seed.to_be_bytes());
            // A version 8 UUID (RFC 9562): its bits are the application's own.
            (host_id[6], host_id[8]) = (0x80, 0x80);
            let name = |name: &str| Nqn::new(name).map_err(|why| Failure::new("name", why));
            let identity = HostIdentity {
                host_id,
                host_nqn: name("nqn.2026-01.io.connectx-ddp:scale")?,
                subsystem_nqn: name(&site.subsystem)?,
            };
            let config = ControllerConfig {
                identity,
                header_digest: false,
                data_digest: self.config.data_digest,
                io_queues: site.queues,
                max_namespaces: 1,
                keep_alive: Duration::ZERO,
                timeout: PATIENCE,
            };
            let admin = self.shard.connect_admin(site.address, config);
            admins.push(admin.map_err(|why| Failure::new("admin queue", why))?);
        }
        let mut missing = admins.len();
        self.wait("controllers to become ready", |_, event| match event {
            Event::ControllerReady(_) => {
                missing -= 1;
                Ok((missing == 0).then_some(()))
            }
            Event::Disconnected(_, why) => Err(Failure::new("admin queue", why)),
            _ => Ok(None),
        })?;
        Ok(admins)
    }

    /// Opens I/O queues and offloads them, a batch at a time.
    fn connect_queues(&mut self, admins: &[ConnectionId]) -> Result<(), Failure> {
        let mut wanted = Vec::new();
        for (admin, site) in admins.iter().zip(&self.sites) {
            let controller = self.shard.controller(*admin).ok_or_else(|| Failure("a controller is gone".into()))?;
            for id in 1..=site.queues {
                let queue = controller.io_queue(id, self.config.depth as u16);
                wanted.push((site.address, queue.map_err(|why| Failure::new("I/O queue", why))?));
            }
        }
        for wave in wanted.chunks(self.config.batch as usize) {
            let mut ids = Vec::with_capacity(wave.len());
            for (address, config) in wave {
                let id = self.shard.connect_io(*address, config.clone());
                ids.push(id.map_err(|why| Failure::new("I/O queue", why))?);
            }
            let mut missing = ids.len();
            self.wait("I/O queues to become ready", |_, event| match event {
                Event::QueueReady(_) => {
                    missing -= 1;
                    Ok((missing == 0).then_some(()))
                }
                Event::Disconnected(_, why) => Err(Failure::new("I/O queue", why)),
                _ => Ok(None),
            })?;
            for outcome in self.shard.offload_many(&ids) {
                outcome.map_err(|why| Failure::new("offload", why))?;
            }
            self.outcome.connections += ids.len() as u32;
            self.queues.extend(&ids);
            let all = self.progress.offloaded.fetch_add(ids.len() as u32, Ordering::AcqRel) + ids.len() as u32;
            self.sample(&self.progress.samples, all);
        }
        Ok(())
    }

    fn sample(&self, samples: &Mutex<Vec<Sample>>, connections: u32) {
        let sample = Sample::take(
            connections,
            self.shard.adapter().heap(),
            self.progress.firmware_pages.load(Ordering::Relaxed),
        );
        if let Ok(mut samples) = samples.lock() {
            samples.push(sample);
        }
    }

    /// Reads on every connection, and compares.
    fn read_all(&mut self) -> Result<(), Failure> {
        let len = self.config.io_size;
        let places = IMAGE / len;
        let total = self.queues.len() as u64 * u64::from(self.config.reads);
        let heap = self.shard.adapter().heap().clone();
        let mut free: Vec<IoBuf> = Vec::new();
        let (mut next, mut done) = (0u64, 0);
        let began = self.platform.clock().now();
        let mut expected = vec![0; len as usize];
        while done < total {
            // Round by round over all connections.
            while next < total && next - done < UNDER_WAY as u64 {
                let queue = self.queues[(next % self.queues.len() as u64) as usize];
                let offset = next.wrapping_mul(0x9e37_79b9) % places * len;
                let buffer = match free.pop() {
                    Some(buffer) => buffer,
                    None => {
                        let memory = heap.allocate(len as usize, 4096);
                        IoBuf::new(vec![memory.map_err(|why| Failure::new("buffers", why))?])
                    }
                };
                let request = Request::read(1, offset / BLOCK, (len / BLOCK) as u32, BLOCK as u32);
                let request = request.map_err(|why| Failure::new("read", why))?;
                match self.shard.read(queue, request, buffer, offset) {
                    Ok(()) => (next, self.outcome.taken) = (next + 1, self.outcome.taken + 1),
                    Err((Refused::Busy, buffer)) => {
                        free.push(buffer);
                        break;
                    }
                    Err((why, _)) => return Err(Failure::new("read", why)),
                }
            }
            let completion = self.wait("reads to complete", |_, event| match event {
                Event::Completed(_, completion) => Ok(Some(completion)),
                Event::Disconnected(_, why) => Err(Failure::new("I/O queue", why)),
                _ => Ok(None),
            })?;
            done += 1;
            match self.outcome.take(self.config.seed, completion, &mut expected) {
                Ok(buffer) => free.push(buffer),
                Err(_) if self.dies => {}
                Err(why) => return Err(why),
            }
            let now = self.platform.clock().now();
            if let Some(fault) = self.injection.take_if(|what| what.is_due(done, total, now - began)) {
                self.inject(&fault)?;
            }
        }
        Ok(())
    }

    fn inject(&self, injection: &Injection) -> Result<(), Failure> {
        let injected = injection.of_function().is_some_and(|fault| self.platform.nic().inject(fault, 0));
        self.platform.clock().stir();
        match injected {
            true => Ok(()),
            false => Err(Failure(format!("--inject {}: there is nothing that it could happen to", injection.name()))),
        }
    }

    fn close(&mut self, ids: Vec<ConnectionId>) -> Result<(), Failure> {
        let mut open: HashSet<ConnectionId> = ids.iter().copied().collect();
        ids.into_iter().for_each(|id| self.shard.close_connection(id));
        if open.is_empty() {
            return Ok(());
        }
        self.wait("connections to close", |worker, event| {
            if let Event::Disconnected(id, why) = event {
                open.remove(&id);
                if !matches!(why, Disconnect::Closed | Disconnect::ClosedByPeer) {
                    worker.problem(format!("a connection did not close in order: {why}"));
                }
            }
            Ok(open.is_empty().then_some(()))
        })
    }

    /// Notes a problem; the first few are enough to see what is wrong.
    fn problem(&mut self, what: String) {
        if self.outcome.problems.len() < 10 {
            self.outcome.problems.push(what);
        }
    }
}
