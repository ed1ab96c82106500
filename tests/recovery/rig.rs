//! A session on a virtual ConnectX and a target at the other end of the wire, with oracles that look all the time:
//!
//! * every request ends once, a successful read has the right bytes, the source of a write never changes;
//! * a buffer that came back, and what lies around any, never changes again, whatever the device writes;
//! * a poll that did nothing leaves a deadline in the future, and nothing takes longer than it may.

use connectx_ddp::demo::{NoTap, WireConfig, World};
use connectx_ddp::dma::{DmaBuf, IoBuf};
use connectx_ddp::nvme::command::Request;
use connectx_ddp::nvme::controller::ControllerConfig;
use connectx_ddp::nvme::fabrics::{HostIdentity, Nqn};
use connectx_ddp::platform::Platform;
use connectx_ddp::platform::virtual_nic::VirtualPlatform;
use connectx_ddp::session::{Completion, Config, Counters, Event, Recovery, RequestError, Session, SessionError};
use connectx_ddp::shard::{self, OffloadPolicy};
use nvme_target::{Backing, Generated, Script, Target};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use virtual_nic::Hostile;

pub const BLOCK: u32 = 512;
const IMAGE: (u64, u64) = (7, 4 << 20);
/// Blocks from this one on are written, those before are only read.
const WRITTEN: u64 = 7300;
/// What buffers that came back hold, and what lies around every buffer.
const GIVEN: u8 = 0xa5;
const GUARD: u8 = 0x5a;
const GUARD_BYTES: usize = 96;

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ z >> 29).wrapping_mul(0x94d0_49bb_1331_11eb) % n
    }
}

/// What a rig is to be.
#[derive(Clone)]
pub struct Plan {
    pub seed: u64,
    pub offload: OffloadPolicy,
    pub queues: u16,
    pub depth: u16,
    pub digests: bool,
    /// Commands and doorbells take their time.
    pub latency: bool,
    pub queue_address_reads_back: bool,
    pub hostile: Option<Hostile>,
    pub script: Script,
    pub ctrl_loss_timeout: Duration,
    /// The driver polls only after an interrupt or at its deadline.
    pub sleeps: bool,
}

impl Plan {
    pub fn new(seed: u64) -> Plan {
        Plan {
            seed,
            offload: OffloadPolicy::Require,
            queues: 2,
            depth: 6,
            digests: false,
            latency: !seed.is_multiple_of(3),
            queue_address_reads_back: true,
            hostile: None,
            script: Script::default(),
            ctrl_loss_timeout: Duration::from_secs(600),
            sleeps: false,
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub result: Result<(), RequestError>,
    pub write: bool,
    pub attempts: u32,
    pub placed: u32,
    pub returned: bool,
}

pub struct Rig {
    pub world: World,
    pub session: Session<VirtualPlatform>,
    pub random: Random,
    /// Requests under way: whether they write, by token.
    pub open: HashMap<u64, bool>,
    pub done: HashMap<u64, Outcome>,
    pub ready: bool,
    pub losses: Vec<String>,
    pub recovered: Vec<Recovery>,
    pub not_offloaded: Vec<String>,
    pub down: Option<Vec<String>>,
    pub ended: Option<SessionError>,
    /// The device writes into bound buffers, so that what they hold means nothing.
    pub scribbled: bool,
    /// What reads must bring.
    image: Generated,
    /// Sleeps, and those of them that only the deadline ended although a packet was there.
    pub slept: u64,
    pub overslept: u64,
    sleeps: bool,
    /// It sleeps until then, or until an interrupt comes.
    asleep: Option<Option<Duration>>,
    given: Vec<IoBuf>,
    guards: Vec<DmaBuf>,
    next: u64,
}

/// A target with the image of this disk: the first is what reads must bring.
pub fn target(plan: &Plan, disk: Option<u64>) -> Target {
    let config = nvme_target::Config {
        max_queues: 20,
        seed: plan.seed,
        script: plan.script.clone(),
        data_digest: true,
        disk,
        ..nvme_target::Config::default()
    };
    let image = Generated::new(IMAGE.0 + disk.unwrap_or(0), IMAGE.1);
    Target::new(config, Box::new(image)).expect("a target")
}

impl Rig {
    pub fn new(plan: &Plan) -> Rig {
        let mut random = Random(plan.seed);
        let mut device = virtual_nic::Config::default();
        device.seed = plan.seed;
        device.switches.queue_address_reads_back = plan.queue_address_reads_back;
        if plan.latency {
            device.command_latency = Duration::from_micros(1 + random.below(40));
            device.command_jitter = Duration::from_micros(random.below(20));
            device.doorbell_latency = Duration::from_micros(random.below(5));
            device.boot_time = Duration::from_millis(random.below(300));
        }
        let target = target(plan, Some(0));
        let names = nvme_target::Config::default();
        let address = SocketAddrV4::new(names.ip, names.port);
        let subsystem_nqn = Nqn::new(&names.subsystem_nqn).expect("a name");
        let world = World::new(device, target, WireConfig { seed: plan.seed, ..WireConfig::default() });
        let controller = ControllerConfig {
            identity: HostIdentity {
                host_id: [0x80; 16],
                host_nqn: Nqn::new("nqn.2026-01.io.connectx-ddp:test").expect("a name"),
                subsystem_nqn,
            },
            header_digest: false,
            data_digest: plan.digests,
            io_queues: plan.queues,
            max_namespaces: 1,
            keep_alive: Duration::ZERO,
            timeout: Duration::from_secs(30),
        };
        let shard =
            shard::Config { log_rx: 9, log_tx: 9, ..shard::Config::new(Ipv4Addr::new(192, 168, 44, 10), [7; 16]) };
        let mut config = Config::new(shard, address, controller);
        (config.depth, config.shard.offload) = (plan.depth, plan.offload);
        config.ctrl_loss_timeout = plan.ctrl_loss_timeout;
        let session = Session::new(Arc::clone(&world.platform), config);
        world.platform.nic().set_hostile(plan.hostile);
        Rig {
            world,
            session,
            random,
            open: HashMap::new(),
            done: HashMap::new(),
            ready: false,
            losses: Vec::new(),
            recovered: Vec::new(),
            not_offloaded: Vec::new(),
            down: None,
            ended: None,
            scribbled: plan.hostile.is_some_and(|hostile| hostile.bindings),
            image: Generated::new(IMAGE.0, IMAGE.1),
            slept: 0,
            overslept: 0,
            sleeps: plan.sleeps,
            asleep: None,
            given: Vec::new(),
            guards: Vec::new(),
            next: 0,
        }
    }

    /// A rig whose session is live.
    pub fn live(plan: &Plan) -> Rig {
        let mut rig = Rig::new(plan);
        rig.until("the session to be ready", 60, |rig| rig.ready);
        rig
    }

    pub fn counters(&self) -> Counters {
        self.session.counters()
    }

    /// A buffer in two pieces, with guards around each.
    fn buffer(&mut self, bytes: usize) -> IoBuf {
        let memory = self.world.platform.dma_heap().allocate(bytes + 3 * GUARD_BYTES, 64).expect("memory");
        let (front, rest) = memory.split_at(GUARD_BYTES);
        let (one, rest) = rest.split_at(bytes / 3);
        let (middle, rest) = rest.split_at(GUARD_BYTES);
        let (two, back) = rest.split_at(bytes - bytes / 3);
        for guard in [front, middle, back] {
            guard.fill(0, GUARD_BYTES, GUARD);
            self.guards.push(guard);
        }
        [&one, &two].iter().for_each(|piece| piece.fill(0, piece.len(), 0));
        IoBuf::new(vec![one, two])
    }

    /// Begins a request of random place and size; false if the session takes no more.
    pub fn begin(&mut self, write: bool) -> bool {
        let blocks = 1 + self.random.below(200) as u32;
        let block = if write { WRITTEN + self.random.below(600) } else { self.random.below(7000) };
        let token = block | self.next << 32;
        let buffer = self.buffer((blocks * BLOCK) as usize);
        let taken = match write {
            true => self.session.write(Request::write(1, block, blocks, BLOCK).expect("a request"), buffer, token),
            false => self.session.read(Request::read(1, block, blocks, BLOCK).expect("a request"), buffer, token),
        };
        if taken.is_ok() {
            // Who has a request for the driver is awake.
            self.asleep = None;
            self.next += 1;
            self.open.insert(token, write);
        }
        taken.is_ok()
    }

    /// Begins requests until the session takes no more: one of four is a write.
    pub fn fill(&mut self) {
        loop {
            let write = self.random.below(4) == 0;
            if !self.begin(write) {
                return;
            }
        }
    }

    /// One poll, and one step of everything else. True if anything moved.
    pub fn step(&mut self) -> bool {
        let worked = self.poll();
        while let Some(event) = self.session.next_event() {
            self.take(event);
        }
        let bound = self.world.platform.nic().inventory().bound_tags;
        let kept = self.done.values().filter(|outcome| !outcome.returned).count();
        assert!(bound <= (self.open.len() + kept) as u64, "{bound} bound, {} under way, {kept} kept", self.open.len());
        // Packets come also between the last look and the moment when the device is asked for an interrupt.
        let moved = self.world.step(&mut NoTap);
        if self.sleeps && self.asleep.is_none() && !worked && self.session.arm() {
            self.asleep = Some(self.session.next_deadline());
            self.slept += 1;
        }
        worked | moved
    }

    /// A poll, unless the driver sleeps.
    fn poll(&mut self) -> bool {
        let Some(until) = self.asleep else { return self.session.poll() };
        let platform = &self.world.platform;
        let fired = (0..platform.vectors()).filter(|vector| platform.take_interrupt(*vector)).count() != 0;
        if !fired && until.is_none_or(|until| self.world.now() < until) {
            return false;
        }
        self.asleep = None;
        let before = self.session.totals().shard.packets_rx;
        let worked = self.session.poll();
        self.overslept += u64::from(!fired && self.session.totals().shard.packets_rx > before);
        worked
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Ready => self.ready = true,
            Event::NotOffloaded { why, .. } => self.not_offloaded.push(why.to_string()),
            Event::Completed(completion) => self.completed(completion),
            Event::Lost { why, .. } => self.losses.push(why),
            Event::Recovered(recovery) => self.recovered.push(recovery),
            Event::Down { problems } => self.down = Some(problems),
            Event::Ended(why) => {
                assert!(self.open.is_empty(), "ended with {} requests open", self.open.len());
                self.ended = Some(why);
            }
        }
    }

    fn completed(&mut self, mut completion: Completion) {
        let write = self.open.remove(&completion.token).expect("completed once, after it was begun");
        let buffer = completion.buffer.take();
        let returned = buffer.is_some();
        if let Some(buffer) = buffer {
            if write {
                assert!(buffer.to_vec() == vec![0; buffer.len()], "the source of a write was written");
            } else if completion.result.is_ok() {
                assert_eq!(completion.placed + completion.copied, buffer.len() as u32);
                let mut expected = vec![0; buffer.len()];
                let at = (completion.token & 0xffff_ffff) * u64::from(BLOCK);
                self.image.read_at(at, &mut expected).expect("inside the image");
                assert!(self.scribbled || buffer.to_vec() == expected, "the bytes of {completion:?} are wrong");
            }
            self.give(buffer);
        }
        assert!(returned || completion.result.is_err(), "a success without a buffer");
        let Completion { token, result, attempts, placed, .. } = completion;
        self.done.insert(token, Outcome { result, write, attempts, placed, returned });
    }

    fn give(&mut self, buffer: IoBuf) {
        buffer.write(0, &vec![GIVEN; buffer.len()]);
        self.given.push(buffer);
    }

    /// Nothing that is the caller's was written by anybody else.
    pub fn expect_unchanged(&self) {
        let written = self.given.iter().any(|buffer| buffer.to_vec() != vec![GIVEN; buffer.len()]);
        assert!(!written, "a buffer was written after it came back");
        let written = self.guards.iter().any(|guard| guard.to_vec() != [GUARD; GUARD_BYTES]);
        assert!(!written, "memory beside a buffer was written");
    }

    /// Lets everything run until `look` says so; fails after so many seconds of simulated time.
    pub fn until(&mut self, what: &str, patience: u64, mut look: impl FnMut(&mut Rig) -> bool) {
        let until = self.world.now() + Duration::from_secs(patience);
        let mut idle = 0;
        while !look(self) {
            assert!(self.world.now() < until, "waited {patience} s for {what}; lost: {:?}", self.losses);
            if self.step() {
                idle += 1;
                assert!(idle < 2_000_000, "work without end at {:?}, waiting for {what}", self.world.now());
                continue;
            }
            idle = 0;
            let (now, deadline) = (self.world.now(), self.session.next_deadline());
            assert!(
                deadline.is_none_or(|at| at > now),
                "nothing was done at {now:?}, but the deadline was {deadline:?}"
            );
            assert!(self.world.sleep(deadline), "nobody waits for anything, but {what} has not come");
        }
    }

    /// Lets everything run for so long.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.world.now() + time;
        while self.world.now() < until {
            if !self.step() && !self.world.sleep(Some(self.session.next_deadline().map_or(until, |at| at.min(until)))) {
                return;
            }
        }
    }

    /// Every request ends.
    pub fn finish(&mut self) {
        self.until("all requests", 900, |rig| rig.open.is_empty());
    }

    /// Shuts down in order.
    pub fn shutdown(&mut self) {
        self.session.shutdown();
        self.until("the session to be down", 900, |rig| rig.down.is_some() || rig.ended.is_some());
    }

    /// Takes everything down; nothing may be left anywhere. Returns the problems that were told.
    pub fn close(mut self) -> Vec<String> {
        let platform = Arc::clone(&self.world.platform);
        platform.nic().faults().set_gone(false);
        let deadline = connectx_ddp::platform::Deadline::after(&*platform, Duration::from_secs(300));
        let session = std::mem::replace(&mut self.session, Rig::new(&Plan::new(0)).session);
        let closed = session.close(deadline);
        for event in closed.events {
            self.take(event);
        }
        let kept = self.done.values().filter(|outcome| !outcome.returned).count();
        assert_eq!(closed.buffers.len(), kept, "buffers that were kept come back at the end");
        closed.buffers.into_iter().for_each(|(_, buffer)| self.give(buffer));
        assert!(self.open.is_empty(), "{} requests never ended", self.open.len());
        // If the device is hostile: its last chance.
        let last = platform.nic().write_everywhere();
        assert_eq!(last.bytes, 0, "the device still holds memory: {last:?}");
        assert_eq!(platform.nic().written().unmapped, 0, "memory was unmapped that the device held");
        self.expect_unchanged();
        assert!(platform.nic().inventory().is_empty(), "{}", platform.nic().inventory());
        assert_eq!(platform.nic().inventory().bound_tags, 0);
        let mut problems = closed.problems;
        if !closed.teardown.is_clean() {
            problems.push(closed.teardown.to_string());
        }
        drop((self, closed.teardown));
        assert_eq!(platform.dma_heap().usage().1, 0, "DMA memory is still held");
        problems
    }
}
