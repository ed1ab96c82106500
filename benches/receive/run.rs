//! One run: reads through the whole driver, from the caller's request to the caller's buffer.

use crate::platform::Deferred;
use crate::wire::World;
use connectx_ddp::adapter::{self, Adapter};
use connectx_ddp::demo::Peer;
use connectx_ddp::dma::IoBuf;
use connectx_ddp::nvme::command::Request;
use connectx_ddp::nvme::controller::ControllerConfig;
use connectx_ddp::nvme::fabrics::{HostIdentity, Nqn};
use connectx_ddp::platform::Platform;
use connectx_ddp::shard::{self, ConnectionId, Disconnect, Event, Refused, Shard};
use connectx_ddp::tcp::CongestionControl;
use nvme_target::Generated;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

const BLOCK: u32 = 512;
/// Seed of the target's data.
const SEED: u64 = 11;
/// log2 of the control rings' blocks.
const LOG_CONTROL_RING: u32 = 10;
/// Simulated time without a completion after which a run is given up.
const STUCK: Duration = Duration::from_secs(300);

/// What is read, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// The queues are offloaded.
    pub offload: bool,
    /// Share of the frames towards the host that are lost.
    pub loss: f64,
    /// Seed of what is lost.
    pub seed: u64,
    /// Bytes of a read, which come in one PDU.
    pub read: u32,
    /// Bytes altogether.
    pub total: u64,
    /// I/O queues.
    pub queues: u16,
    /// Reads in flight on each.
    pub depth: u16,
}

/// What a run did, or several.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Bytes read, all as they should be.
    pub bytes: u64,
    /// Of these, placed by the device.
    pub placed: u64,
    /// Reads.
    pub reads: u64,
    /// Packets received meanwhile, those among them that came in vain included.
    pub packets: u64,
    /// Polls.
    pub polls: u64,
    /// Digests that software computed, and those that the device vouched for.
    pub digests: [u64; 2],
    /// Doorbell registers written meanwhile.
    pub doorbells: u64,
    /// Firmware commands from the function's first moment to the first placed byte.
    pub commands: Option<u64>,
}

impl std::ops::AddAssign for Done {
    fn add_assign(&mut self, other: Done) {
        self.bytes += other.bytes;
        self.placed += other.placed;
        self.reads += other.reads;
        self.packets += other.packets;
        self.polls += other.polls;
        self.digests[0] += other.digests[0];
        self.digests[1] += other.digests[1];
        self.doorbells += other.doorbells;
        self.commands = self.commands.or(other.commands);
    }
}

#[inline(never)]
fn region_poll(shard: &mut Shard<Deferred>) -> bool {
    shard.poll()
}

#[inline(never)]
fn region_read(
    shard: &mut Shard<Deferred>,
    id: ConnectionId,
    request: Request,
    buffer: IoBuf,
    token: u64,
) -> Result<(), (Refused, IoBuf)> {
    shard.read(id, request, buffer, token)
}

struct Runner {
    load: Load,
    verify: bool,
    world: World,
    platform: Arc<Deferred>,
    shard: Shard<Deferred>,
    done: Done,
    admin: Option<ConnectionId>,
    queues: Vec<ConnectionId>,
    free: Vec<IoBuf>,
    expected: Vec<u8>,
}

/// Carries a run out. With `verify` every byte is compared with the target's.
pub fn run(load: Load, verify: bool) -> Done {
    let config = nvme_target::Config { max_queues: 16, patience: STUCK, seed: SEED, ..nvme_target::Config::default() };
    let address = SocketAddrV4::new(config.ip, config.port);
    let subsystem = Nqn::new(&config.subsystem_nqn).expect("a name");
    let backing = Generated::new(SEED, load.total);
    // As common targets' TCPs, it sends only what is lost again.
    let target = Peer::Own(CongestionControl::default()).target(config, Box::new(backing)).expect("a target");
    let world = World::new(target, load.loss, load.seed);
    let platform = Arc::new(Deferred::new(Arc::clone(&world.platform)));
    let adapter = Adapter::bring_up(Arc::clone(&platform), adapter::Config::default()).expect("brought up");
    // A control ring that is never full: a read that finds no room would wait for the device, inside a measured region.
    let config = shard::Config {
        log_control_ring: Some(LOG_CONTROL_RING),
        ..shard::Config::new(Ipv4Addr::new(192, 168, 44, 10), [7; 16])
    };
    let shard = Shard::open(adapter, config).expect("a shard");
    let mut runner = Runner {
        load,
        verify,
        world,
        platform,
        shard,
        done: Done::default(),
        admin: None,
        queues: Vec::new(),
        free: Vec::new(),
        expected: Vec::new(),
    };
    runner.connect(address, subsystem);
    runner.read_all();
    runner.finish()
}

impl Runner {
    /// Lets everything go on until `look` has seen what it waits for among the events; not measured.
    fn wait(&mut self, mut look: impl FnMut(&Event) -> bool) {
        loop {
            while let Some(event) = self.shard.next_event() {
                if look(&event) {
                    return;
                }
                assert!(!matches!(event, Event::Disconnected(..)), "{event:?}");
            }
            if !(self.shard.poll() | self.world.step()) {
                let deadline = self.shard.next_deadline();
                assert!(self.world.sleep(deadline), "nothing will ever happen");
            }
        }
    }

    fn connect(&mut self, address: SocketAddrV4, subsystem_nqn: Nqn) {
        let host_nqn = Nqn::new("nqn.2026-01.io.connectx-ddp:bench").expect("a name");
        let config = ControllerConfig {
            identity: HostIdentity { host_id: [1; 16], host_nqn, subsystem_nqn },
            header_digest: false,
            data_digest: true,
            io_queues: self.load.queues,
            max_namespaces: 1,
            keep_alive: Duration::ZERO,
            timeout: STUCK,
        };
        let admin = self.shard.connect_admin(address, config).expect("begun");
        self.admin = Some(admin);
        self.wait(|event| matches!(event, Event::ControllerReady(_)));
        for queue in 1..=self.load.queues {
            let controller = self.shard.controller(admin).expect("up");
            let config = controller.io_queue(queue, self.load.depth).expect("a queue");
            let id = self.shard.connect_io(address, config).expect("begun");
            self.wait(|event| matches!(event, Event::QueueReady(_)));
            if self.load.offload {
                self.shard.offload(id).expect("offloaded");
            }
            self.queues.push(id);
        }
    }

    /// Does one thing of the driver, measured.
    fn measured<T>(&mut self, what: impl FnOnce(&mut Shard<Deferred>) -> T) -> T {
        self.platform.begin();
        let result = what(&mut self.shard);
        self.platform.deliver();
        result
    }

    fn read_all(&mut self) {
        let before = (self.shard.counters().packets_rx, self.shard.doorbells());
        let (mut next, mut turn, mut last) = (0, 0, self.world.now());
        while self.done.bytes < self.load.total {
            next = self.submit(next, &mut turn);
            let worked = self.measured(region_poll);
            self.done.polls += 1;
            if self.done.commands.is_none() && self.shard.offload_stats().packets != 0 {
                self.done.commands = Some(self.world.platform.nic().counters().commands);
            }
            let completed = self.collect();
            if completed {
                last = self.world.now();
            }
            if !(worked | completed | self.world.step()) {
                let deadline = self.shard.next_deadline();
                assert!(self.world.sleep(deadline), "nothing will ever happen");
                assert!(self.world.now() - last < STUCK, "stuck after {} bytes", self.done.bytes);
            }
        }
        self.done.packets = self.shard.counters().packets_rx - before.0;
        self.done.doorbells = self.shard.doorbells() - before.1;
        assert_eq!(self.platform.leaks(), 0, "the model ran inside a measured region");
    }

    /// Submits reads until every queue is full; returns the first byte that is left.
    fn submit(&mut self, mut next: u64, turn: &mut usize) -> u64 {
        let (read, mut refused) = (self.load.read, 0);
        while next < self.load.total && refused < self.queues.len() {
            let id = self.queues[*turn % self.queues.len()];
            *turn += 1;
            let buffer = self.free.pop().unwrap_or_else(|| {
                let heap = self.platform.dma_heap();
                IoBuf::new(vec![heap.allocate(read as usize, 4096).expect("memory")])
            });
            let request = Request::read(1, next / u64::from(BLOCK), read / BLOCK, BLOCK).expect("a request");
            match self.measured(|shard| region_read(shard, id, request, buffer, next)) {
                Ok(()) => (next, refused) = (next + u64::from(read), 0),
                Err((Refused::Busy, buffer)) => {
                    self.free.push(buffer);
                    refused += 1;
                }
                Err((why, _)) => panic!("{why}"),
            }
        }
        next
    }

    /// Takes what was completed. True if there was anything.
    fn collect(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.shard.next_event() {
            let Event::Completed(_, completion) = event else { panic!("{event:?}") };
            assert!(completion.status.is_success(), "{:?}", completion.status);
            let buffer = completion.buffer.expect("the device has forgotten it");
            self.compare(completion.token, &buffer);
            self.done.bytes += buffer.len() as u64;
            self.done.placed += u64::from(completion.placed);
            self.done.reads += 1;
            self.free.push(buffer);
            any = true;
        }
        any
    }

    fn compare(&mut self, at: u64, buffer: &IoBuf) {
        if self.verify {
            self.expected.resize(buffer.len(), 0);
            self.world.target.backing().read_at(at, &mut self.expected).expect("inside the image");
            assert!(buffer.to_vec() == self.expected, "the read at byte {at} has wrong bytes");
        }
    }

    fn finish(mut self) -> Done {
        for id in &self.queues {
            let counters = self.shard.queue(*id).expect("a queue").counters();
            self.done.digests[0] += counters.digests_software;
            self.done.digests[1] += counters.digests_hardware;
        }
        for id in self.queues.clone().into_iter().chain(self.admin) {
            self.shard.close_connection(id);
            self.wait(|event| matches!(event, Event::Disconnected(closed, Disconnect::Closed) if *closed == id));
        }
        let deadline = self.shard.adapter().command_deadline();
        let closed = self.shard.close(deadline);
        assert!(closed.problems.is_empty() && closed.teardown.is_clean(), "{:?} {}", closed.problems, closed.teardown);
        self.done
    }
}
