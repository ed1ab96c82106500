//! One seed at work: what a host does between bring-up and teardown, and what happens to it.

use super::oracle;
use super::plan::{BLOCK, Plan, What};
use super::requests::{Namespace, Request};
use super::totals::{Run, Sums, sum};
use super::watch::Watch;
use crate::adapter::{self, Adapter};
use crate::demo::job::{HOST_IP, NSID};
use crate::demo::world::World;
use crate::nvme::command;
use crate::nvme::controller::ControllerConfig;
use crate::nvme::fabrics::{HostIdentity, Nqn};
use crate::nvme::queue::{Counters as QueueCounters, DigestBy};
use crate::platform::virtual_nic::VirtualPlatform;
use crate::shard::{self, Completion, ConnectionId, Disconnect, Event, OffloadPolicy, Refused, Shard};
use ethernet_wire::Random;
use nvme_target::Generated;
use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

/// Turns of the loop after which a seed is said to work without end.
const TURNS: u64 = 3_000_000;
/// Turns in a row without simulated time, after which the same is said.
const BUSY_TURNS: u32 = 20_000;
/// Simulated time of a seed. The target's TCP alone may take minutes where much is lost.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);
/// How long firmware has for a command: faults make the driver wait as long.
const COMMAND_PATIENCE: Duration = Duration::from_secs(1);

/// What ended a seed early: a line that says why.
pub(super) type Stop = String;

/// An I/O queue of the controller.
pub(super) struct IoQueue {
    pub number: u16,
    pub id: ConnectionId,
    pub ready: bool,
    pub ended: bool,
    /// It was asked to close.
    pub closing: bool,
    /// It is the second connection of this queue.
    pub again: bool,
}

pub(super) struct Sim<'a> {
    pub plan: &'a Plan,
    pub random: Random,
    pub world: World,
    pub watch: Watch,
    pub shard: Option<Shard<VirtualPlatform>>,
    pub namespace: Namespace,
    pub admin: Option<ConnectionId>,
    pub queues: Vec<IoQueue>,
    /// Counters of each NVMe queue when it was looked at last.
    pub counters: BTreeMap<ConnectionId, QueueCounters>,
    address: SocketAddrV4,
    /// Happenings that are to come, the next one last; polls since its time came.
    to_come: Vec<super::plan::Happening>,
    since: u32,
    connected: bool,
    pub returned: u32,
    /// Buffers of requests that are over and that the device may still write.
    kept: u64,
    turns: u64,
    busy: u32,
    pub sums: Sums,
    pub paths: BTreeMap<String, u64>,
    pub problems: Vec<String>,
    /// Connections that ended, and why.
    pub ended: Vec<(ConnectionId, Disconnect)>,
    /// Connections whose requests failed for the connection's sake.
    pub failed_with: Vec<ConnectionId>,
}

/// Runs a plan to its end.
pub(super) fn run(plan: Plan) -> Run {
    let target_config = nvme_target::Config {
        mtu: plan.mtu as usize,
        max_queue_depth: 128,
        in_capsule_data: plan.in_capsule_data,
        // Small enough that building a target takes no longer than running it.
        tx_buffer: 256 << 10,
        rx_buffer: 128 << 10,
        patience: Duration::from_secs(900),
        seed: plan.seed,
        script: plan.script.clone(),
        ..nvme_target::Config::default()
    };
    let address = SocketAddrV4::new(target_config.ip, target_config.port);
    let subsystem = target_config.subsystem_nqn.clone();
    let image_seed = plan.seed ^ 0x0069_6d61_6765;
    let mut sim = {
        let target = plan.peer.target(target_config, Box::new(Generated::new(image_seed, plan.namespace)));
        let target = match target {
            Ok(target) => target,
            Err(error) => return unstarted(plan, error.to_string()),
        };
        let mut device = virtual_nic::Config::default();
        device.switches = plan.switches.clone();
        (device.command_latency, device.command_jitter) = plan.command_latency;
        device.seed = plan.seed;
        let mut to_come = plan.happenings.clone();
        // The last one is next.
        to_come.sort_by_key(|happening| std::cmp::Reverse((happening.after, happening.polls)));
        Sim {
            plan: &plan,
            random: Random::seeded(plan.seed ^ 0x7369_6d75_6c61_7465),
            world: World::new(device, target, plan.wire),
            watch: Watch::default(),
            shard: None,
            namespace: Namespace::new(image_seed, plan.namespace),
            admin: None,
            queues: Vec::new(),
            counters: BTreeMap::new(),
            address,
            to_come,
            since: 0,
            connected: false,
            returned: 0,
            kept: 0,
            turns: 0,
            busy: 0,
            sums: Sums::default(),
            paths: BTreeMap::new(),
            problems: Vec::new(),
            ended: Vec::new(),
            failed_with: Vec::new(),
        }
    };
    if let Err(stop) = sim.bring_up().and_then(|()| sim.work(&subsystem)) {
        sim.problem(stop);
    }
    oracle::close(&mut sim);
    let Sim { sums, paths, problems, watch, .. } = sim;
    Run { sums, paths, problems, trace: watch.trace, plan }
}

fn unstarted(plan: Plan, problem: String) -> Run {
    Run { plan, sums: Sums::default(), paths: BTreeMap::new(), problems: vec![problem], trace: 0 }
}

impl Sim<'_> {
    pub fn problem(&mut self, what: String) {
        if self.problems.len() < 20 {
            self.problems.push(what);
        }
    }

    pub fn path(&mut self, name: impl Into<String>, times: u64) {
        *self.paths.entry(name.into()).or_default() += times;
    }

    fn shard(&mut self) -> &mut Shard<VirtualPlatform> {
        self.shard.as_mut().expect("the shard is there until the oracle closes it")
    }

    fn bring_up(&mut self) -> Result<(), Stop> {
        let plan = self.plan;
        self.world.platform.nic().set_hostile(plan.hostile);
        let config =
            adapter::Config { mtu: plan.mtu as u16, command_timeout: COMMAND_PATIENCE, ..adapter::Config::default() };
        let adapter = Adapter::bring_up(self.world.platform.clone(), config).map_err(|e| format!("bring-up: {e}"))?;
        let mut secret = [0; 16];
        secret[..8].copy_from_slice(&plan.seed.to_le_bytes());
        let config = shard::Config {
            max_connections: 2 * plan.queues + 2,
            log_rx: plan.log_queues.0,
            log_tx: plan.log_queues.1,
            rx_payloads_per_connection: plan.rx_payloads,
            rx_window: plan.rx_window,
            tx_buffer: 64 << 10,
            offload: plan.offload,
            offload_threshold: plan.threshold,
            log_control_ring: plan.log_control_ring,
            ..shard::Config::new(HOST_IP, secret)
        };
        self.shard = Some(Shard::open(adapter, config).map_err(|error| format!("opening: {error}"))?);
        Ok(())
    }

    /// Connects, reads and writes, disconnects.
    fn work(&mut self, subsystem: &str) -> Result<(), Stop> {
        self.connect_admin(subsystem)?;
        if self.admin.is_none() {
            return Ok(());
        }
        for number in 1..=self.plan.queues as u16 {
            self.connect_io(number, false)?;
        }
        self.run_until("the I/O queues to become ready", |sim| {
            sim.queues.iter().all(|queue| queue.ready || queue.ended)
        })?;
        self.connected = true;
        self.sums.add(sum::QUEUES, u64::from(self.plan.queues));
        self.requests()?;
        self.disconnect()
    }

    fn connect_admin(&mut self, subsystem: &str) -> Result<(), Stop> {
        let name = |nqn: &str| Nqn::new(nqn).map_err(|error| error.to_string());
        let mut host_id = [0x80; 16];
        host_id[..4].copy_from_slice(&(self.plan.seed as u32).to_be_bytes());
        let config = ControllerConfig {
            identity: HostIdentity {
                host_id,
                host_nqn: name("nqn.2026-01.io.connectx-ddp:simulation")?,
                subsystem_nqn: name(subsystem)?,
            },
            header_digest: self.plan.header_digest,
            data_digest: self.plan.data_digest,
            io_queues: self.plan.queues as u16,
            max_namespaces: 1,
            keep_alive: Duration::ZERO,
            timeout: self.plan.timeout,
        };
        let address = self.address;
        let admin = self.shard().connect_admin(address, config).map_err(|error| format!("admin queue: {error}"))?;
        self.admin = Some(admin);
        let ready = |sim: &Sim<'_>| sim.shard.as_ref().and_then(|s| s.controller(admin)).is_some_and(|c| c.is_ready());
        self.run_until("the controller to become ready", |sim| sim.admin.is_none() || ready(sim))
    }

    fn connect_io(&mut self, number: u16, again: bool) -> Result<(), Stop> {
        let (depth, address) = (self.plan.depth, self.address);
        let Some(controller) = self.admin.and_then(|admin| self.shard().controller(admin)) else { return Ok(()) };
        let config = match controller.io_queue(number, depth) {
            Ok(config) => config,
            // The controller failed meanwhile.
            Err(_) if again => return Ok(()),
            Err(error) => return Err(format!("queue {number}: {error}")),
        };
        match self.shard().connect_io(address, config) {
            Ok(id) => {
                self.queues.push(IoQueue { number, id, ready: false, ended: false, closing: false, again });
                Ok(())
            }
            Err(Refused::Broken(_)) if self.plan.device_fails() || self.plan.tags_are_dangerous() => Ok(()),
            Err(error) => Err(format!("queue {number}: {error}")),
        }
    }

    /// One turn of everything. False if nothing will ever happen again.
    fn turn(&mut self) -> Result<bool, Stop> {
        self.turns += 1;
        if self.turns > TURNS || self.world.now() > PATIENCE {
            return Err(format!("no end after {} turns and {:?}", self.turns, self.world.now()));
        }
        self.happen();
        let mut worked = self.take_events()?;
        worked |= self.shard().poll() | self.world.step(&mut self.watch);
        if worked {
            self.busy += 1;
            return match self.busy {
                0..BUSY_TURNS => Ok(true),
                _ => Err(format!("work without end at {:?}", self.world.now())),
            };
        }
        self.busy = 0;
        let (now, deadline) = (self.world.now(), self.shard().next_deadline());
        if deadline.is_some_and(|at| at <= now) {
            return Err(format!("nothing was done at {now:?}, but the deadline was {deadline:?}"));
        }
        Ok(self.world.sleep(deadline))
    }

    fn run_until(&mut self, awaited: &str, mut done: impl FnMut(&mut Self) -> bool) -> Result<(), Stop> {
        let began = self.world.now();
        loop {
            self.take_events()?;
            if done(self) {
                return Ok(());
            }
            if !self.turn().map_err(|stop| format!("{stop}, waiting for {awaited} since {began:?}"))? {
                return Err(format!("nothing will ever happen again, waiting for {awaited}"));
            }
        }
    }

    /// Lets happen what is due.
    fn happen(&mut self) {
        while let Some(next) = self.to_come.last().copied() {
            let due = match next.after {
                None => self.admin.is_some(),
                Some(after) => self.connected && self.returned >= after,
            };
            if !due {
                return;
            }
            if self.since < next.polls {
                self.since += 1;
                return;
            }
            self.since = 0;
            self.to_come.pop();
            match next.what {
                What::Cancel(n) => self.cancel(n),
                What::Close(n) => {
                    let open: Vec<usize> = (0..self.queues.len()).filter(|n| !self.queues[*n].ended).collect();
                    if let Some(index) = open.get(n as usize % open.len().max(1)) {
                        self.close_queue(*index);
                    }
                }
                What::Command { opcode, fault, skip } => {
                    self.world.platform.nic().faults().schedule(Some(opcode), fault, skip, 1);
                }
                What::Device { fault, pick } => {
                    let happened = self.world.platform.nic().inject(fault, pick);
                    self.path(format!("injected: {fault:?}"), u64::from(happened));
                }
            }
        }
    }

    fn cancel(&mut self, n: u32) {
        let under_way: Vec<u64> = self.namespace.under_way.keys().copied().collect();
        let Some(token) = under_way.get(n as usize % under_way.len().max(1)) else { return };
        let Some(request) = self.namespace.under_way.get_mut(token) else { return };
        let id = request.connection;
        if let Some(shard) = &mut self.shard
            && shard.cancel(id, *token)
        {
            request.cancelled = true;
            self.sums.add(sum::CANCELLED, 1);
        }
    }

    fn close_queue(&mut self, index: usize) {
        let queue = &mut self.queues[index];
        if !std::mem::replace(&mut queue.closing, true)
            && let Some(shard) = &mut self.shard
        {
            let at_once = self.namespace.under_way.values().any(|request| request.connection == queue.id);
            *self.paths.entry("closed with requests under way".into()).or_default() += u64::from(at_once);
            shard.close_connection(queue.id);
        }
    }

    /// Reads and writes until all is done that was drawn.
    fn requests(&mut self) -> Result<(), Stop> {
        loop {
            self.submit()?;
            let over = self.namespace.begun() >= u64::from(self.plan.requests) || !self.any_open();
            if over && self.namespace.under_way.is_empty() {
                return Ok(());
            }
            if !self.turn()? {
                return Err(format!(
                    "nothing will ever happen again, {} requests are under way",
                    self.namespace.under_way.len()
                ));
            }
        }
    }

    /// True while a queue is up or on its way.
    fn any_open(&self) -> bool {
        self.queues.iter().any(|queue| !queue.ended && !queue.closing)
    }

    fn submit(&mut self) -> Result<(), Stop> {
        let mut refused = 0;
        while self.namespace.begun() < u64::from(self.plan.requests) && refused < 4 {
            let ready: Vec<usize> = (0..self.queues.len())
                .filter(|n| {
                    let queue = &self.queues[*n];
                    queue.ready && !queue.ended && !queue.closing
                })
                .collect();
            if ready.is_empty() {
                return Ok(());
            }
            let queue = self.random.of(&ready);
            if self.begin(queue)? {
                refused = 0;
            } else {
                refused += 1;
            }
        }
        Ok(())
    }

    /// Begins one request on a queue; false if it was not taken.
    fn begin(&mut self, queue: usize) -> Result<bool, Stop> {
        let (least, most) = self.plan.blocks;
        let blocks = self.random.between(u64::from(least), u64::from(most));
        let wants_write = self.random.happens(self.plan.writes);
        let Some(range) = self.namespace.choose(&mut self.random, blocks, wants_write) else { return Ok(false) };
        let heap = self.shard().adapter().heap().clone();
        let pieces = self.random.between(1, u64::from(self.plan.pieces)) as u32;
        let buffer = Namespace::buffer(&heap, blocks * BLOCK, pieces, self.random.next_u64());
        let buffer = buffer.map_err(|error| format!("no memory for a buffer: {error}"))?;
        let (id, token) = (self.queues[queue].id, self.namespace.next_token());
        let (lba, count, size) = (range.start, blocks as u32, BLOCK as u32);
        let begun = if wants_write {
            buffer.write(0, &self.namespace.content(token, &range));
            let request = command::Request::write(NSID, lba, count, size).map_err(|error| error.to_string())?;
            self.shard().write(id, request, buffer, token)
        } else {
            let request = command::Request::read(NSID, lba, count, size).map_err(|error| error.to_string())?;
            self.shard().read(id, request, buffer, token)
        };
        match begun {
            Ok(()) => {
                let request = Request { connection: id, write: wants_write, blocks: range, cancelled: false };
                self.namespace.begin(request);
                Ok(true)
            }
            Err((Refused::Busy | Refused::NotReady, _)) => Ok(false),
            Err((Refused::NotBound(why), _)) if self.plan.offload == OffloadPolicy::Require => {
                self.path(format!("driver: refused, as required: {}", why.name()), 1);
                if !why.passes() {
                    self.namespace.skip();
                }
                Ok(false)
            }
            Err((why, _)) => Err(format!("a request was refused: {why}")),
        }
    }

    /// Takes what the shard has to say. True if there was anything.
    fn take_events(&mut self) -> Result<bool, Stop> {
        let mut any = false;
        while let Some(event) = self.shard().next_event() {
            any = true;
            self.on_event(event)?;
        }
        Ok(any)
    }

    pub fn on_event(&mut self, event: Event) -> Result<(), Stop> {
        match event {
            Event::ControllerReady(_) | Event::ControllerDown(_) => {}
            Event::QueueReady(id) => self.on_ready(id)?,
            Event::Completed(id, completion) => self.on_completed(id, completion),
            Event::Disconnected(id, why) => self.on_disconnected(id, why)?,
        }
        Ok(())
    }

    fn on_ready(&mut self, id: ConnectionId) -> Result<(), Stop> {
        let Some(queue) = self.queues.iter_mut().find(|queue| queue.id == id) else { return Ok(()) };
        queue.ready = true;
        let (number, closing) = (queue.number, queue.closing);
        if self.plan.offload == OffloadPolicy::Off || closing {
            return Ok(());
        }
        let target_wrong = self.world.target.counters().faults != 0;
        let excused = target_wrong || self.plan.device_fails() || self.plan.tags_are_dangerous();
        match self.shard().offload(id) {
            Ok(()) => self.sums.add(sum::OFFLOADED, 1),
            Err(why) if excused => {
                log::debug!("queue {number} is not offloaded: {why}");
                self.path("offload refused", 1);
            }
            Err(why) => self.problem(format!("queue {number} is not offloaded: {why}")),
        }
        Ok(())
    }

    fn on_completed(&mut self, id: ConnectionId, completion: Completion) {
        let Completion { token, status, placed, copied, why_copied, digest_by, buffer } = completion;
        if let Some(counters) = self.shard.as_ref().and_then(|shard| shard.queue(id)).map(|queue| *queue.counters()) {
            self.counters.insert(id, counters);
        }
        let Some(request) = self.namespace.under_way.remove(&token) else {
            return self.problem(format!("request {token} came back twice"));
        };
        self.returned += 1;
        if request.connection != id {
            self.problem(format!("request {token} came back on another connection"));
        }
        let success = status.is_success();
        if request.write {
            self.namespace.written(token, &request.blocks, success);
        }
        match (success, request.write) {
            (true, true) => {
                self.sums.add(sum::WRITES, 1);
                self.sums.add(sum::WRITTEN, request.bytes());
            }
            (true, false) => {
                self.sums.add(sum::READS, 1);
                self.sums.add(sum::BYTES, request.bytes());
                self.sums.add(sum::PLACED, u64::from(placed));
                self.sums.add(sum::COPIED, u64::from(copied));
                if u64::from(placed) + u64::from(copied) != request.bytes() {
                    self.problem(format!(
                        "read {token} of {} bytes: {placed} placed, {copied} copied",
                        request.bytes()
                    ));
                }
                let told: u64 = why_copied.iter().map(|(_, bytes)| u64::from(bytes)).sum();
                // Beyond the reasons that are remembered bytes have none.
                let all_told = why_copied.iter().count() == why_copied.all().count();
                if told > u64::from(copied) || all_told && told != u64::from(copied) {
                    self.problem(format!("read {token}: {copied} bytes copied, reasons for {told}"));
                }
                if request.cancelled {
                    self.problem(format!("read {token} succeeded although it was cancelled"));
                }
                if self.plan.data_digest == (digest_by == DigestBy::None) {
                    self.problem(format!("read {token}: data digests by {digest_by:?}"));
                }
                self.path(format!("read with digests by {digest_by:?}"), 1);
            }
            (false, _) => {
                self.sums.add(sum::FAILED, 1);
                oracle::judge_failure(self, id, token, &request, status, buffer.is_none());
            }
        }
        let Some(buffer) = buffer else {
            self.kept += 1;
            self.path("buffer stays with the device", 1);
            if !self.plan.device_fails() {
                self.problem(format!("the buffer of request {token} stays with the device"));
            }
            return;
        };
        if success && !request.write {
            let (wrong, first) = self.namespace.wrong(&request.blocks, &buffer);
            if wrong != 0 {
                self.sums.add(sum::WRONG, wrong);
                let what = "bytes of the read are wrong";
                self.problem(format!("{wrong} {what} {token} ({request:?}), the first at {first} of it"));
            }
        }
        self.namespace.give(buffer);
        let bound = self.world.platform.nic().inventory().bound_tags;
        let may = self.namespace.under_way.len() as u64 + self.kept;
        if bound > may {
            self.problem(format!("{bound} tags are bound, {may} buffers are with the driver"));
        }
    }

    fn on_disconnected(&mut self, id: ConnectionId, why: Disconnect) -> Result<(), Stop> {
        if let Some((token, _)) = self.namespace.under_way.iter().find(|(_, request)| request.connection == id) {
            self.problem(format!("connection {id:?} has ended before its request {token} came back"));
        }
        let queue = self.queues.iter_mut().find(|queue| queue.id == id);
        let (asked, again, number) = match queue {
            Some(queue) => {
                queue.ended = true;
                (queue.closing, queue.again, queue.number)
            }
            None => (self.connected, false, 0),
        };
        if self.admin == Some(id) {
            self.admin = None;
        }
        oracle::judge_end(self, number, asked, again, &why);
        let lost = !matches!(why, Disconnect::Closed);
        self.sums.add(sum::DISCONNECTS, u64::from(lost));
        self.ended.push((id, why));
        let left = self.namespace.begun() < u64::from(self.plan.requests);
        if lost && number != 0 && !asked && !again && self.plan.reopen && left {
            self.path("queue connected again", 1);
            self.connect_io(number, true)?;
        }
        Ok(())
    }

    /// Closes the I/O queues, then the controller.
    fn disconnect(&mut self) -> Result<(), Stop> {
        for index in 0..self.queues.len() {
            if !self.queues[index].ended {
                self.close_queue(index);
            }
        }
        self.run_until("the I/O queues to close", |sim| sim.queues.iter().all(|queue| queue.ended))?;
        if let Some(admin) = self.admin {
            self.shard().close_connection(admin);
            self.run_until("the controller to shut down", |sim| sim.admin.is_none())?;
        }
        // What is on its way still comes, so that packets add up.
        for _ in 0..BUSY_TURNS {
            if !(self.shard().poll() | self.world.step(&mut self.watch)) {
                break;
            }
        }
        Ok(())
    }
}
