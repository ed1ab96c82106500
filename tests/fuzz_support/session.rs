//! A whole small world in which the device lies at moments that the input chooses: bring-up, an admin connection, an
//! offloaded queue, reads, teardown.
//!
//! Whatever the device says: every read ends, with the right bytes or with an error; a buffer that came back never changes
//! again; nothing waits for ever; and after a reset nothing is left. One lie nobody can see: what is placed elsewhere than
//! the entry says (`docs/assumptions.md`, row 74); bytes are not compared if the input told one like it.

use super::input::{Bend, Input};
use super::liar::{Liar, bent_answers, command_fault, config, on_liar};
use connectx_ddp::adapter::Adapter;
use connectx_ddp::dma::IoBuf;
use connectx_ddp::nvme::command::Request;
use connectx_ddp::nvme::controller::ControllerConfig;
use connectx_ddp::nvme::fabrics::{HostIdentity, Nqn};
use connectx_ddp::platform::Platform;
use connectx_ddp::shard::{Completion, Config, ConnectionId, Event, Shard};
use hw_regs::eqe::EventType;
use hw_regs::init_segment::HealthSyndrome;
use nvme_target::{Generated, Target};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use virtual_nic::Hostile;
use virtual_nic::faults::{Fault, Role};

const BLOCK: u32 = 512;
const IMAGE: (u64, u64) = (7, 1 << 20);
const GIVEN: u8 = 0xa5;
const DEPTH: u16 = 8;
/// Steps until everything must have ended, far beyond what an honest session takes.
const STEPS: usize = 60_000;
/// Simulated time after which a session in which nobody lies any more must have ended.
const PATIENCE: Duration = Duration::from_secs(600);
/// Frames to the host in one step.
const BURST: usize = 64;

/// Changes to the next completions, by the size of their entries.
#[derive(Default)]
struct Lies {
    receive: VecDeque<Vec<Bend>>,
    control: VecDeque<Vec<Bend>>,
    events: VecDeque<Bend>,
    /// Somebody may have been told of bytes where they are not.
    unseen: bool,
    /// Completions of control work that were bent, and control work that failed in truth.
    control_bent: bool,
    control_failed: bool,
    /// Answers of firmware that were bent, and commands that failed in truth.
    answers_bent: bool,
    commands_failed: bool,
}

impl Lies {
    /// A failure may have been told as a success: nobody can know then that the device still holds a buffer.
    fn blind(&self) -> bool {
        self.control_bent && self.control_failed || self.answers_bent && self.commands_failed
    }
}

struct World<'a> {
    liar: &'a Arc<Liar>,
    shard: Shard<Liar>,
    target: Target,
    lies: Arc<Mutex<Lies>>,
    given: Vec<IoBuf>,
    /// Tokens of requests that were taken and have not completed.
    open: BTreeMap<u64, u32>,
    ready: Vec<ConnectionId>,
    ended: Vec<ConnectionId>,
    admin: Option<ConnectionId>,
    io: Option<ConnectionId>,
    token: u64,
    /// Frames to be lost, towards the target and towards the host.
    lose: [u32; 2],
    corrupt: Option<u16>,
    corrupted: bool,
    /// Buffers that stay with the device.
    kept: usize,
    subsystem: Nqn,
    address: SocketAddrV4,
    data_digest: bool,
    /// The device writes noise wherever it may.
    hostile: bool,
    /// How late anybody may look: who waits for a device looks every hundred microseconds for seconds.
    pace: Duration,
}

pub fn run(data: &[u8]) {
    on_liar(|liar| {
        let mut input = Input::new(data);
        let options = input.u8();
        let target_config = nvme_target::Config {
            tx_buffer: 128 << 10,
            rx_buffer: 32 << 10,
            patience: Duration::from_secs(20),
            ..nvme_target::Config::default()
        };
        let subsystem = Nqn::new(&target_config.subsystem_nqn).expect("a name");
        let address = SocketAddrV4::new(target_config.ip, target_config.port);
        let target = Target::new(target_config, Box::new(Generated::new(IMAGE.0, IMAGE.1))).expect("a target");
        let adapter = Adapter::bring_up(Arc::clone(liar), config()).expect("honest so far");
        let config = Config {
            max_connections: 3,
            log_rx: 7,
            log_tx: 6,
            rx_payloads_per_connection: 64,
            rx_window: 64 << 10,
            tx_buffer: 32 << 10,
            ..Config::new(Ipv4Addr::new(192, 168, 44, 10), [7; 16])
        };
        let shard = Shard::open(adapter, config).expect("honest so far");
        let world = World {
            liar,
            shard,
            target,
            lies: Arc::default(),
            given: Vec::new(),
            open: BTreeMap::new(),
            ready: Vec::new(),
            ended: Vec::new(),
            admin: None,
            io: None,
            token: 0,
            lose: [0; 2],
            corrupt: None,
            corrupted: false,
            kept: 0,
            subsystem,
            address,
            data_digest: options & 1 != 0,
            hostile: options & 0x38 == 0x38,
            pace: Duration::from_micros(20),
        };
        world.play(&mut input, options);
    });
}

impl World<'_> {
    fn play(mut self, input: &mut Input<'_>, options: u8) {
        self.install();
        if self.hostile {
            let (seed, every) = (input.u32().into(), input.u8().into());
            let hostile = Hostile { seed, every, bindings: true, buffers: true, pages: true };
            self.liar.honest.nic().set_hostile(Some(hostile));
            self.lies.lock().expect("lock").unseen = true;
        }
        // Lies may begin before anything is connected, or when all is.
        let early = options & 0xc0 == 0;
        if early {
            self.lie(input);
        }
        let identity = HostIdentity {
            host_id: [0x80; 16],
            host_nqn: Nqn::new("nqn.2026-01.io.connectx-ddp:fuzz").expect("a name"),
            subsystem_nqn: self.subsystem.clone(),
        };
        let admin = ControllerConfig {
            identity,
            header_digest: options & 2 != 0,
            data_digest: self.data_digest,
            io_queues: 1,
            max_namespaces: 1,
            keep_alive: Duration::ZERO,
            timeout: Duration::from_secs(5),
        };
        self.admin = self.shard.connect_admin(self.address, admin).ok();
        let mut wait = if early { usize::from(input.u8()) } else { usize::MAX };
        for _ in 0..STEPS {
            self.progress(options);
            let connected = self.io.is_some_and(|io| self.ready.contains(&io));
            if input.is_empty() || self.ended() {
                break;
            }
            if connected || wait == 0 {
                // Each act of the input after as many steps as it says.
                wait = usize::from(input.u8()) % 32;
                self.act(input);
            }
            wait = wait.saturating_sub(1);
            self.step();
        }
        self.finish();
    }

    /// Whatever was to go on goes on: the I/O queue follows the controller, the offload follows the queue.
    fn progress(&mut self, options: u8) {
        let Some(admin) = self.admin else { return };
        if self.io.is_none()
            && self.ready.contains(&admin)
            && let Some(controller) = self.shard.controller(admin)
            && let Ok(config) = controller.io_queue(1, DEPTH)
        {
            self.io = self.shard.connect_io(self.address, config).ok();
        }
        if let Some(io) = self.io
            && self.ready.contains(&io)
            && !self.shard.is_offloaded(io)
            && self.open.is_empty()
            && self.token == 0
            && options & 4 == 0
        {
            // Refused or not: reads go on either way.
            let _ = self.shard.offload(io).map_err(|error| error.to_string());
        }
    }

    /// The device's answers pass through what the input prepared.
    fn install(&self) {
        let mut nic = self.liar.honest.nic();
        let lies = Arc::clone(&self.lies);
        nic.faults().tamper_completions(Some(Box::new(move |entry| {
            let mut lies = lies.lock().expect("lock");
            let queue = if entry.len() == 128 { &mut lies.receive } else { &mut lies.control };
            let Some(bends) = queue.pop_front() else { return };
            // What is placed elsewhere than is said: where, how much, or whether at all.
            let seen = entry.len() != 128
                || bends.len() < 2
                    && bends.iter().all(|bend| bend.is_narrow() && ![0, 1, 65, 92].contains(&bend.byte(128)));
            lies.unseen |= !seen;
            bends.iter().for_each(|bend| bend.apply(entry));
        })));
        let lies = Arc::clone(&self.lies);
        nic.faults().tamper_events(Some(Box::new(move |entry| {
            if let Some(bend) = lies.lock().expect("lock").events.pop_front() {
                bend.apply(entry);
            }
        })));
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.u8() {
            0..=95 => self.read(input),
            96..=223 => self.lie(input),
            224..=231 => {
                let token = self.open.keys().nth(usize::from(input.u8()) % self.open.len().max(1)).copied();
                if let (Some(io), Some(token)) = (self.io, token) {
                    self.shard.cancel(io, token);
                }
            }
            232..=239 => {
                if let Some(io) = self.io {
                    self.shard.close_connection(io);
                }
            }
            240..=247 => self.lose[input.below(2) as usize] = input.below(8),
            248..=255 => self.corrupt = Some(input.u16()),
        }
    }

    fn read(&mut self, input: &mut Input<'_>) {
        let Some(io) = self.io else { return };
        let blocks = 1 + input.below(40);
        let lba = u64::from(input.below(2000));
        let pieces = 1 + input.below(3) as usize;
        let heap = self.liar.dma_heap();
        let len = (blocks * BLOCK) as usize;
        let Ok(whole) = heap.allocate(len + pieces * 64, 64) else { return };
        let mut rest = whole;
        let mut segments = Vec::new();
        for piece in 0..pieces {
            let bytes = if piece + 1 == pieces { len - piece * (len / pieces) } else { len / pieces };
            let (segment, after) = rest.split_at(bytes);
            segments.push(segment);
            rest = after.split_at(17).1;
        }
        let request = Request::read(1, lba, blocks, BLOCK).expect("a few blocks");
        let token = self.token << 32 | lba;
        if self.shard.read(io, request, IoBuf::new(segments), token).is_ok() {
            self.open.insert(token, blocks * BLOCK);
            self.token += 1;
        }
    }

    fn lie(&mut self, input: &mut Input<'_>) {
        let bends = |input: &mut Input<'_>| (0..1 + input.below(3)).map(|_| Bend::new(input)).collect::<Vec<_>>();
        let lies = Arc::clone(&self.lies);
        let prepared = || lies.lock().expect("lock");
        match input.u8() {
            0..=89 => {
                for _ in 0..input.below(4) {
                    prepared().receive.push_back(Vec::new());
                }
                let one = if input.u8() < 128 { vec![Bend::new(input)] } else { bends(input) };
                prepared().receive.push_back(one);
            }
            // What a hostile device says of its work must be true, or nobody can know what it holds.
            90..=129 if self.hostile => {}
            90..=129 => {
                prepared().control_bent = true;
                for _ in 0..input.below(4) {
                    prepared().control.push_back(Vec::new());
                }
                prepared().control.push_back(bends(input));
            }
            130..=159 => {
                let event = EventType([0x0, 0x4, 0x5, 0x9, 0xa, 0xb, 0x12, 0x13][input.below(8) as usize]);
                let sub_type = input.u8();
                let data = input.take(usize::from(input.clone().u8() % 29));
                if input.u8() < 64 {
                    prepared().events.push_back(Bend::new(input));
                }
                self.liar.honest.nic().inject_event(event, sub_type, data);
            }
            160..=174 => prepared().events.push_back(Bend::new(input)),
            175..=189 => {
                let fault = command_fault(input);
                prepared().commands_failed = true;
                self.liar.honest.nic().faults().schedule(None, fault, input.below(8), 1 + input.below(3));
            }
            190..=199 => {
                let role = [Role::Receive, Role::Send, Role::Control][input.below(3) as usize];
                let fault = match input.below(8) {
                    0..=3 => Fault::WorkRequest(role),
                    4 => Fault::CqOverrun(role),
                    5 => Fault::Hang,
                    6 => Fault::Reset,
                    _ => Fault::Gone(Duration::from_millis(input.u16().into())),
                };
                let mut lies = prepared();
                lies.control_failed = true;
                lies.commands_failed = true;
                drop(lies);
                self.liar.honest.nic().inject(fault, input.u8().into());
            }
            200..=219 if self.hostile => {}
            200..=219 => {
                prepared().answers_bent = true;
                let bent = bent_answers(input, 4, 16);
                self.liar.honest.nic().faults().tamper_answers(Some(bent));
            }
            220..=239 => {
                let (word, value, mut times) = (u64::from(input.u8()) * 4, input.u32(), 1 + input.below(200));
                let at = if input.u8() < 128 { word } else { [0x0, 0x14, 0x1fc, 0x23c, 0x1010][word as usize / 4 % 5] };
                self.liar.lie(Some(Box::new(move |offset, truth| {
                    let lies = offset == at && times > 0;
                    times -= u32::from(lies);
                    if lies { value } else { truth }
                })));
            }
            240..=247 => self.liar.honest.nic().faults().set_gone(input.u8() & 1 == 0),
            248..=255 => self.liar.honest.nic().set_health(HealthSyndrome(input.u8())),
        }
    }

    /// One poll, and one step of everything else; time passes if nothing moved.
    fn step(&mut self) {
        let worked = self.shard.poll();
        self.collect();
        if worked | self.wire() {
            return;
        }
        let now = self.liar.now();
        let driver = self.shard.next_deadline();
        assert!(driver.is_none_or(|at| at > now), "nothing was done at {now:?}, but the deadline was {driver:?}");
        let nic = self.liar.honest.nic().next_event();
        let next = [driver, nic, self.target.next_deadline(now)].into_iter().flatten().min();
        self.pass(next.map_or(Duration::from_secs(1), |at| at.saturating_sub(now)).max(self.pace));
    }

    fn pass(&self, time: Duration) {
        let now = self.liar.honest.clock().advance(time);
        self.liar.honest.nic().advance(now);
    }

    fn wire(&mut self) -> bool {
        let now = self.liar.now();
        let mut moved = false;
        loop {
            let Some(frame) = self.liar.honest.nic().transmit() else { break };
            moved = true;
            match &mut self.lose[0] {
                0 => self.target.receive(&frame),
                left => *left -= 1,
            }
        }
        self.target.poll(now);
        for _ in 0..BURST {
            let Some(mut frame) = self.target.transmit() else { break };
            moved = true;
            if let Some(at) = self.corrupt.take() {
                let at = usize::from(at) % frame.len();
                frame[at] ^= 0x10;
                self.corrupted = true;
            }
            match &mut self.lose[1] {
                0 => self.liar.honest.nic().receive(&frame),
                left => *left -= 1,
            }
            self.target.recycle(frame);
        }
        if moved {
            self.pass(Duration::from_micros(1));
        }
        moved
    }

    fn collect(&mut self) {
        while let Some(event) = self.shard.next_event() {
            match event {
                Event::Completed(_, completion) => self.completed(completion),
                Event::Disconnected(id, why) => {
                    assert!(!why.to_string().is_empty());
                    self.ended.push(id);
                }
                Event::ControllerReady(id) | Event::QueueReady(id) => self.ready.push(id),
                Event::ControllerDown(_) => {}
            }
        }
    }

    fn completed(&mut self, completion: Completion) {
        let len = self.open.remove(&completion.token).expect("a request that is open");
        let Some(buffer) = completion.buffer else {
            assert!(!completion.status.is_success(), "success, and no buffer");
            self.kept += 1;
            return;
        };
        assert_eq!(buffer.len() as u32, len);
        if completion.status.is_success() {
            assert_eq!(completion.placed + completion.copied, len);
            let lies = self.lies.lock().expect("lock");
            if !lies.unseen {
                let mut expected = vec![0; len as usize];
                let at = (completion.token & 0xffff_ffff) * u64::from(BLOCK);
                self.target.backing().read_at(at, &mut expected).expect("inside the image");
                assert!(buffer.to_vec() == expected, "wrong bytes were called good");
            }
        }
        buffer.write(0, &vec![GIVEN; buffer.len()]);
        self.given.push(buffer);
    }

    fn ended(&self) -> bool {
        let over = |id: Option<ConnectionId>| id.is_none_or(|id| self.ended.contains(&id));
        over(self.io) && over(self.admin)
    }

    /// Nobody lies any more; everything comes to its end.
    fn finish(mut self) {
        self.liar.lie(None);
        self.liar.honest.nic().faults().clear();
        let mut lies = self.lies.lock().expect("lock");
        lies.receive.clear();
        lies.control.clear();
        lies.events.clear();
        drop(lies);
        self.lose = [0; 2];
        self.pace = Duration::from_millis(2);
        let began = self.liar.now();
        let mut closing = false;
        for step in 0.. {
            if self.ended() {
                break;
            }
            let waited = self.liar.now() - began;
            assert!(
                step < STEPS,
                "no end after {STEPS} steps and {waited:?}; {} requests are open; {:?}; {:?}",
                self.open.len(),
                self.shard.broken(),
                self.shard.counters()
            );
            assert!(waited < PATIENCE, "no end after {waited:?}; {} requests are open", self.open.len());
            // Reads have had their time.
            if self.open.is_empty() || waited > PATIENCE / 4 || step > STEPS / 4 {
                if let Some(io) = self.io.filter(|io| !self.ended.contains(io)) {
                    self.shard.close_connection(io);
                } else if let Some(admin) = self.admin
                    && !std::mem::replace(&mut closing, true)
                {
                    self.shard.close_connection(admin);
                }
            }
            self.step();
        }
        assert!(self.open.is_empty(), "{} requests never ended", self.open.len());
        let deadline = self.shard.adapter().command_deadline();
        let closed = self.shard.close(deadline);
        assert!(closed.events.iter().all(|event| !matches!(event, Event::Completed(..))));
        let back = closed.buffers.len();
        assert!(back <= self.kept, "more buffers came back than had stayed");
        assert!(closed.problems.iter().all(|line| !line.is_empty()));
        let blind = self.lies.lock().expect("lock").blind();
        for buffer in self.given.iter().filter(|_| !blind) {
            assert!(buffer.to_vec().iter().all(|byte| *byte == GIVEN), "a buffer was written after it came back");
        }
        assert_eq!(self.liar.honest.nic().written().unmapped, 0, "memory was unmapped that the device still holds");
        // What is not clean says so.
        let clean = closed.teardown.is_clean() && closed.problems.is_empty();
        drop((closed, self.given));
        if clean {
            let nic = self.liar.honest.nic();
            assert!(nic.inventory().is_empty(), "{}", nic.inventory());
            drop(nic);
            assert_eq!(self.kept, back);
        }
    }
}
