//! A shard on a virtual ConnectX, a target at the other end of the wire, hands on everything in between, and oracles that
//! look all the time:
//!
//! * buffers that came back are filled with a pattern and never change again, nor does the memory around them;
//! * the source of a write never changes;
//! * the device never has more bound tags than there are reads under way;
//! * a poll that did nothing leaves a deadline in the future: nobody spins, nobody waits for ever;
//! * the books balance: every packet that came is in exactly one counter ([`balance`]).

use crate::adapter::{self, Adapter};
use crate::dma::{DmaBuf, IoBuf};
use crate::nvme::command::Request;
use crate::nvme::controller::ControllerConfig;
use crate::nvme::fabrics::{HostIdentity, Nqn};
use crate::platform::Platform;
use crate::platform::virtual_nic::{Clock, VirtualPlatform};
use crate::shard::{Closed, Completion, Config, ConnectionId, Disconnect, Event, Refused, Shard, Totals};
use nvme_target::script::Fault;
use nvme_target::{Generated, Script, Target};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

pub(super) const BLOCK: u32 = 512;
const IMAGE: (u64, u64) = (7, 4 << 20);
const GIVEN: u8 = 0xa5;
/// What lies around every buffer, and how much of it.
const GUARD: u8 = 0x5a;
const GUARD_BYTES: usize = 96;
/// Frames to the host in one step.
const BURST: usize = 256;

/// What came in is what was refused and what went on, at every step of the way up.
fn balance(stats: &Totals) {
    let Totals { shard: counters, receive_queue, interface, tcp, offload, .. } = stats;
    let rejected = receive_queue.total() + offload.rejections();
    assert_eq!(counters.bad_completions, rejected, "completions that were not believed, by reason");
    let frames = interface.tcp_in + interface.arp_in + interface.dropped.total();
    assert_eq!(counters.packets_rx, offload.rejections() + frames, "packets: {counters:?} {interface:?}");
    let refused = counters.bad_checksums + counters.no_connection + counters.closing_dropped;
    let segments = refused + counters.foreign_placements + tcp.segments_in;
    assert_eq!(interface.tcp_in, segments, "segments: {counters:?} {tcp:?}");
}

/// What happens to a frame on the wire: `None` is lost.
pub(super) type Wire = Box<dyn FnMut(Vec<u8>) -> Option<Vec<u8>>>;

pub(super) struct World {
    pub platform: Arc<VirtualPlatform>,
    pub target: Target,
    pub clock: Clock,
    pub shard: Shard<VirtualPlatform>,
    pub address: SocketAddrV4,
    pub to_target: Wire,
    pub to_host: Wire,
    /// Frames that went to the host, newest last; the last few hundred.
    pub heard: Vec<Vec<u8>>,
    pub done: HashMap<u64, Completion>,
    pub ended: Vec<(ConnectionId, Disconnect)>,
    pub ready: Vec<ConnectionId>,
    pub down: Vec<ConnectionId>,
    pub under_way: u64,
    /// Successful reads are compared with the image.
    pub compare: bool,
    /// Data digests are negotiated.
    pub data_digest: bool,
    polls: u64,
    given: Vec<IoBuf>,
    /// Memory around the buffers, which is nobody's.
    guards: RefCell<Vec<DmaBuf>>,
    /// Tokens of writes.
    writes: HashSet<u64>,
    subsystem: Nqn,
}

pub(super) fn passes() -> Wire {
    Box::new(Some)
}

pub(super) fn lost() -> Wire {
    Box::new(|_| None)
}

impl World {
    pub fn new() -> World {
        World::with(&[], |_| {})
    }

    pub fn with(faults: &[Fault], change: impl FnOnce(&mut Config)) -> World {
        World::on(virtual_nic::Config::default(), faults, change)
    }

    pub fn on(device: virtual_nic::Config, faults: &[Fault], change: impl FnOnce(&mut Config)) -> World {
        let script = Script { faults: faults.to_vec(), ..Script::default() };
        let target_config = nvme_target::Config { script, max_queues: 20, ..nvme_target::Config::default() };
        let address = SocketAddrV4::new(target_config.ip, target_config.port);
        let subsystem = Nqn::new(&target_config.subsystem_nqn).expect("a name");
        let target = Target::new(target_config, Box::new(Generated::new(IMAGE.0, IMAGE.1))).expect("a target");
        let clock = Clock::default();
        let platform = Arc::new(VirtualPlatform::on_clock("test", device, clock.clone()));
        let adapter = Adapter::bring_up(Arc::clone(&platform), adapter::Config::default()).expect("up");
        let mut config = Config { log_rx: 9, log_tx: 9, ..Config::new(Ipv4Addr::new(192, 168, 44, 10), [7; 16]) };
        change(&mut config);
        let shard = Shard::open(adapter, config).expect("open");
        World {
            platform,
            target,
            clock,
            shard,
            address,
            to_target: passes(),
            to_host: passes(),
            heard: Vec::new(),
            done: HashMap::new(),
            ended: Vec::new(),
            ready: Vec::new(),
            down: Vec::new(),
            under_way: 0,
            compare: true,
            data_digest: false,
            polls: 0,
            given: Vec::new(),
            guards: RefCell::default(),
            writes: HashSet::new(),
            subsystem,
        }
    }

    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// One poll, and one step of everything else. True if anything moved.
    pub fn step(&mut self) -> bool {
        let worked = self.shard.poll();
        self.collect();
        worked | self.wire()
    }

    /// Frames cross the wire, the target works on them.
    pub fn wire(&mut self) -> bool {
        let mut moved = false;
        let now = self.now();
        loop {
            let frame = self.platform.nic().transmit();
            let Some(frame) = frame else { break };
            moved = true;
            if let Some(frame) = (self.to_target)(frame) {
                self.target.receive(&frame);
            }
        }
        self.target.poll(now);
        for _ in 0..BURST {
            let Some(frame) = self.target.transmit() else { break };
            moved = true;
            if let Some(frame) = (self.to_host)(frame) {
                self.platform.nic().receive(&frame);
                if self.heard.len() >= 400 {
                    self.heard.drain(..200);
                }
                self.heard.push(frame);
            }
        }
        if moved {
            self.pass(Duration::from_micros(1));
        }
        moved
    }

    pub fn pass(&mut self, time: Duration) {
        let now = self.clock.advance(time);
        self.platform.nic().advance(now);
    }

    /// Takes the shard's events and looks whether what must hold holds.
    pub fn collect(&mut self) {
        while let Some(event) = self.shard.next_event() {
            self.take(event);
        }
        let bound = self.platform.nic().inventory().bound_tags;
        assert!(bound <= self.under_way, "{bound} tags are bound, {} requests under way", self.under_way);
        self.polls += 1;
        if self.polls.is_multiple_of(16) {
            balance(&self.shard.totals());
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Completed(_, mut completion) => {
                self.under_way -= u64::from(completion.buffer.is_some());
                if let Some(buffer) = completion.buffer.take() {
                    self.check(&completion, &buffer);
                    self.give(buffer);
                    // For tests to see that it came.
                    completion.buffer = Some(IoBuf::default());
                }
                let twice = self.done.insert(completion.token, completion);
                assert!(twice.is_none(), "completed twice: {twice:?}");
            }
            Event::Disconnected(id, why) => self.ended.push((id, why)),
            Event::ControllerReady(id) | Event::QueueReady(id) => self.ready.push(id),
            Event::ControllerDown(id) => {
                assert!(self.why(id).is_none());
                self.down.push(id);
            }
        }
    }

    /// The token of a read is its first block.
    fn check(&self, completion: &Completion, buffer: &IoBuf) {
        if self.writes.contains(&completion.token) {
            assert!(buffer.to_vec() == vec![0; buffer.len()], "the source of a write was written");
            return;
        }
        if !completion.status.is_success() {
            return;
        }
        let mut expected = vec![0; buffer.len()];
        let at = (completion.token & 0xffff_ffff) * u64::from(BLOCK);
        self.target.backing().read_at(at, &mut expected).expect("inside the image");
        assert!(!self.compare || buffer.to_vec() == expected, "the bytes of block {} are wrong", completion.token);
        assert_eq!(completion.placed + completion.copied, buffer.len() as u32);
    }

    /// A buffer that is ours: the device must never touch it again.
    pub fn give(&mut self, buffer: IoBuf) {
        buffer.write(0, &vec![GIVEN; buffer.len()]);
        self.given.push(buffer);
    }

    /// Nothing that is the caller's was written by anybody else.
    pub fn expect_unchanged(&self) {
        unchanged(&self.given, &self.guards.borrow());
    }

    /// Nothing has anything to do: time passes until somebody has.
    pub fn sleep(&mut self) {
        let next = self.next().expect("somebody waits for something");
        self.pass(next.saturating_sub(self.now()).max(Duration::from_micros(1)));
    }

    /// When somebody has something to do, although nothing moves.
    fn next(&mut self) -> Option<Duration> {
        let now = self.now();
        let driver = self.shard.next_deadline();
        assert!(driver.is_none_or(|at| at > now), "nothing was done at {now:?}, but the deadline was {driver:?}");
        let nic = self.platform.nic().next_event();
        [driver, nic, self.target.next_deadline(now)].into_iter().flatten().min()
    }

    /// Lets everything run until `look` finds something, at most for `patience`.
    pub fn find<T>(&mut self, patience: Duration, mut look: impl FnMut(&mut World) -> Option<T>) -> Option<T> {
        let until = self.now() + patience;
        let mut idle = 0;
        loop {
            if let Some(found) = look(self) {
                return Some(found);
            }
            if self.now() >= until {
                return None;
            }
            if self.step() {
                idle += 1;
                assert!(idle < 1_000_000, "work without end at {:?}", self.now());
            } else {
                idle = 0;
                self.sleep();
            }
        }
    }

    pub fn until(&mut self, what: &str, patience: u64, look: impl FnMut(&mut World) -> bool) {
        let mut look = look;
        let found = self.find(Duration::from_secs(patience), |world| look(world).then_some(()));
        assert!(found.is_some(), "waited {patience} s for {what}; ended: {:?}", self.ended);
    }

    /// Lets everything run for so long, whether anybody waits for something or not.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now() + time;
        while self.now() < until {
            if !self.step() {
                let next = self.next().map_or(until, |next| next.min(until));
                self.pass(next.saturating_sub(self.now()).max(Duration::from_micros(1)));
            }
        }
    }

    pub fn controller_config(&self) -> ControllerConfig {
        ControllerConfig {
            identity: HostIdentity {
                host_id: [0x80; 16],
                host_nqn: Nqn::new("nqn.2026-01.io.connectx-ddp:test").expect("a name"),
                subsystem_nqn: self.subsystem.clone(),
            },
            header_digest: false,
            data_digest: self.data_digest,
            io_queues: 20,
            max_namespaces: 1,
            keep_alive: Duration::ZERO,
            timeout: Duration::from_secs(10),
        }
    }

    /// An admin connection that is up.
    pub fn admin(&mut self) -> ConnectionId {
        let (address, config) = (self.address, self.controller_config());
        let id = self.shard.connect_admin(address, config).expect("begun");
        self.until("the controller", 20, |world| world.ready.contains(&id));
        id
    }

    /// An I/O queue that is up, offloaded if wanted.
    pub fn io(&mut self, admin: ConnectionId, queue: u16, depth: u16, offload: bool) -> ConnectionId {
        let config = self.shard.controller(admin).expect("up").io_queue(queue, depth).expect("a queue");
        let address = self.address;
        let id = self.shard.connect_io(address, config).expect("begun");
        self.until("the queue", 20, |world| world.ready.contains(&id));
        if offload {
            self.shard.offload(id).expect("offloaded");
        }
        id
    }

    /// A buffer in two pieces, with guards around each.
    pub fn buffer(&self, bytes: u32) -> IoBuf {
        let (bytes, first) = (bytes as usize, bytes as usize / 3);
        let memory = self.platform.dma_heap().allocate(bytes + 3 * GUARD_BYTES, 64).expect("memory");
        let (front, rest) = memory.split_at(GUARD_BYTES);
        let (one, rest) = rest.split_at(first);
        let (middle, rest) = rest.split_at(GUARD_BYTES);
        let (two, back) = rest.split_at(bytes - first);
        for guard in [front, middle, back] {
            guard.fill(0, GUARD_BYTES, GUARD);
            self.guards.borrow_mut().push(guard);
        }
        [&one, &two].iter().for_each(|piece| piece.fill(0, piece.len(), 0));
        IoBuf::new(vec![one, two])
    }

    /// Begins a read of `blocks` from block `token` on.
    pub fn read(&mut self, id: ConnectionId, token: u64, blocks: u32) {
        self.try_read(id, token, blocks).expect("taken");
    }

    /// The same, where it may be refused.
    pub fn try_read(&mut self, id: ConnectionId, token: u64, blocks: u32) -> Result<(), Refused> {
        let buffer = self.buffer(blocks * BLOCK);
        let request = Request::read(1, token & 0xffff_ffff, blocks, BLOCK).expect("a request");
        self.shard.read(id, request, buffer, token).map_err(|(why, _)| why)?;
        self.under_way += 1;
        Ok(())
    }

    /// Begins a write of zeros, which the oracle of reads then expects.
    pub fn write(&mut self, id: ConnectionId, token: u64, blocks: u32) {
        self.try_write(id, token, blocks).expect("taken");
    }

    /// The same, where it may be refused.
    pub fn try_write(&mut self, id: ConnectionId, token: u64, blocks: u32) -> Result<(), Refused> {
        let buffer = self.buffer(blocks * BLOCK);
        let request = Request::write(1, token & 0xffff_ffff, blocks, BLOCK).expect("a request");
        self.shard.write(id, request, buffer, token).map_err(|(why, _)| why)?;
        self.writes.insert(token);
        self.under_way += 1;
        Ok(())
    }

    pub fn is_done(&self, token: u64) -> bool {
        self.done.contains_key(&token)
    }

    pub fn status_is_success(&self, token: u64) -> bool {
        self.done[&token].status.is_success()
    }

    pub fn why(&self, id: ConnectionId) -> Option<&Disconnect> {
        self.ended.iter().find(|(ended, _)| *ended == id).map(|(_, why)| why)
    }

    pub fn expect_end(&mut self, id: ConnectionId, patience: u64) -> String {
        self.until("the end of the connection", patience, |world| world.why(id).is_some());
        self.why(id).map(ToString::to_string).unwrap_or_default()
    }

    /// Closes connections in order.
    pub fn close_all(&mut self, ids: &[ConnectionId]) {
        for &id in ids {
            self.shard.close_connection(id);
            self.until("a connection to close", 30, |world| world.why(id).is_some());
        }
    }

    /// Closes a connection whose peer cannot be reached any more.
    pub fn abandon(&mut self, id: ConnectionId) {
        self.shard.close_connection(id);
        self.expect_end(id, 60);
    }

    /// Takes the shard down; returns what is left of it, and of the world.
    pub fn close(mut self) -> (Closed, Left) {
        self.collect();
        balance(&self.shard.totals());
        assert_eq!(self.shard.frames_held(), 0);
        let deadline = self.shard.adapter().command_deadline();
        let mut closed = self.shard.close(deadline);
        for event in std::mem::take(&mut closed.events) {
            if let Event::Completed(_, completion) = event {
                self.under_way -= u64::from(completion.buffer.is_some());
                self.given.extend(completion.buffer.inspect(|b| b.write(0, &vec![GIVEN; b.len()])));
                assert!(self.done.insert(completion.token, Completion { buffer: None, ..completion }).is_none());
            }
        }
        // If it is a hostile one: its last chance.
        self.platform.nic().write_everywhere();
        unchanged(&self.given, &self.guards.borrow());
        self.given.clear();
        self.guards.borrow_mut().clear();
        let left = Left { platform: self.platform, under_way: self.under_way, done: self.done };
        (closed, left)
    }

    /// Takes the shard down and expects that nothing is left anywhere.
    pub fn close_clean(self) {
        let (closed, left) = self.close();
        assert!(closed.problems.is_empty(), "{:?}", closed.problems);
        assert!(closed.teardown.is_clean(), "{}", closed.teardown);
        assert!(closed.buffers.is_empty());
        assert_eq!(left.under_way, 0, "requests never came back");
        left.expect_nothing();
    }
}

/// Nothing was written into buffers that came back, nor beside any.
fn unchanged(given: &[IoBuf], guards: &[DmaBuf]) {
    let written = given.iter().position(|buffer| buffer.to_vec() != vec![GIVEN; buffer.len()]);
    assert_eq!(written, None, "a buffer was written after it came back");
    let written = guards.iter().position(|guard| guard.to_vec() != [GUARD; GUARD_BYTES]);
    assert_eq!(written, None, "memory beside a buffer was written");
}

/// What there is when the shard is gone.
pub(super) struct Left {
    pub platform: Arc<VirtualPlatform>,
    pub under_way: u64,
    pub done: HashMap<u64, Completion>,
}

impl Left {
    pub fn expect_nothing(&self) {
        let nic = self.platform.nic();
        assert!(nic.inventory().is_empty(), "{}", nic.inventory());
        assert_eq!(nic.inventory().bound_tags, 0);
        assert_eq!(nic.counters().misuse, Default::default());
        drop(nic);
        assert_eq!(self.platform.dma_heap().usage().1, 0, "DMA memory is still held");
    }
}
