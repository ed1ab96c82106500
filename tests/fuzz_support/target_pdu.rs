//! What a host says to the embedded target: the stream of a real host queue with bytes changed, lost or added, cut anywhere.
//!
//! The target answers, or ends the connection and says why, and goes on serving others.

use super::input::Input;
use connectx_ddp::frame::Range;
use connectx_ddp::net::{Checksum, HEADROOM, Interface, InterfaceConfig, MacAddr, Received, Resolution, arp};
use connectx_ddp::nvme::command::Request;
use connectx_ddp::nvme::fabrics::{CNTLID_ANY, HostIdentity, Nqn};
use connectx_ddp::nvme::{Delivery, Event, HostQueue, PayloadError, PayloadMemory, QueueConfig};
use connectx_ddp::tcp::{Config, Connection, FourTuple, Payload, Segment, State};
use nvme_target::{Generated, Target};
use std::net::Ipv4Addr;
use std::time::Duration;

const STEP: Duration = Duration::from_micros(20);
/// Steps of one connection at most.
const STEPS: usize = 3000;
const DEPTH: u16 = 8;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.u8();
    let config = nvme_target::Config {
        max_connections: Some(2),
        tx_buffer: 16 << 10,
        rx_buffer: 16 << 10,
        in_capsule_data: if options & 4 == 0 { 0 } else { 8192 },
        max_h2c_data: 4096,
        patience: Duration::from_secs(1),
        ..nvme_target::Config::default()
    };
    let target = Target::new(config, Box::new(Generated::new(7, 1 << 20))).expect("a target");
    let mut world = World { target, now: Duration::from_secs(1), port: 50_000 };
    world.connection(&mut input, options);
    // Whatever that was, another host is served.
    if options & 0x30 != 0 {
        return;
    }
    let (ready, _) = world.connection(&mut Input::new(&[]), options & 3);
    assert!(ready, "the target serves nobody any more: {:?}", world.target.errors());
}

struct World {
    target: Target,
    now: Duration,
    port: u16,
}

/// What happens to the host's next bytes.
enum Edit {
    None,
    Bend,
    Drop,
    Add,
}

impl World {
    /// A host connects and says what `input` makes of it. True if its queue became ready, and the error the target noted.
    fn connection(&mut self, input: &mut Input<'_>, options: u8) -> (bool, Option<String>) {
        self.port += 1;
        let mut host = Host::new(self.port, options, self.now);
        let mut ready = false;
        let (mut idle, mut noted) = (0, None);
        for _ in 0..STEPS {
            self.now += STEP;
            let mut moved = host.say(self.now, input);
            while let Some(frame) = host.transmit(self.now) {
                self.target.receive(&frame);
                moved = true;
            }
            self.target.poll(self.now);
            while let Some(frame) = self.target.transmit() {
                host.receive(self.now, &frame);
                self.target.recycle(frame);
                moved = true;
            }
            noted = noted.or(self.target.errors().first().map(ToString::to_string));
            ready |= host.work(self.now, input);
            if ready && input.is_empty() && host.submitted == 0 {
                break;
            }
            idle = if moved { 0 } else { idle + 1 };
            if idle > 3 {
                // Everybody waits: time passes.
                let next = self.target.next_deadline(self.now).into_iter().chain(host.tcp.next_deadline()).min();
                match next {
                    Some(at) => self.now = self.now.max(at),
                    None => break,
                }
                if idle > 40 {
                    break;
                }
            }
        }
        assert!(noted.as_ref().is_none_or(|text| !text.is_empty() && !text.contains('\n')));
        host.tcp.abort();
        while let Some(frame) = host.transmit(self.now) {
            self.target.receive(&frame);
        }
        self.target.poll(self.now);
        (ready, noted)
    }
}

struct Host {
    interface: Interface,
    tuple: FourTuple,
    tcp: Connection<Bytes>,
    queue: Option<HostQueue>,
    config: QueueConfig,
    submitted: u32,
    memory: Memory,
}

impl Host {
    fn new(port: u16, options: u8, now: Duration) -> Host {
        let target = nvme_target::Config::default();
        let ip = Ipv4Addr::new(192, 168, 44, 10);
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        let interface = Interface::new(InterfaceConfig { mac, ip, prefix_len: 24, gateway: None, mtu: 1500 });
        let interface = interface.expect("an interface");
        let tuple =
            FourTuple { local: ip.into(), local_port: port, remote: target.ip.into(), remote_port: target.port };
        let config = Config { mss: interface.mss(), initial_sequence: u32::from(port) << 8, ..Config::default() };
        let tcp = Connection::connect(config, now).expect("a connection");
        let name = |name: &str| Nqn::new(name).expect("a name");
        let config = QueueConfig {
            identity: HostIdentity {
                host_id: [0x80; 16],
                host_nqn: name("nqn.2026-01.io.connectx-ddp:fuzz"),
                subsystem_nqn: name(&target.subsystem_nqn),
            },
            controller_id: CNTLID_ANY,
            queue_id: 0,
            depth: DEPTH,
            keep_alive_ms: 0,
            header_digest: options & 1 != 0,
            data_digest: options & 2 != 0,
            hpda: 0,
            in_capsule_bytes: 8192,
            max_transfer: 64 << 10,
            initialize_timeout: Duration::from_secs(5),
            command_timeout: Duration::from_secs(5),
        };
        Host { interface, tuple, tcp, queue: None, config, submitted: 0, memory: Memory::default() }
    }

    /// Gives the queue's bytes to TCP, changed as the input says. True if there were any.
    fn say(&mut self, now: Duration, input: &mut Input<'_>) -> bool {
        if matches!(self.tcp.state(), State::SynSent | State::SynReceived) {
            return false;
        }
        let queue = self.queue.get_or_insert_with(|| HostQueue::new(self.config.clone(), now).expect("good"));
        // A cut: how much is said at once.
        let room = self.tcp.send_room().min(match input.u8() {
            0 => 4096,
            cut => 1 + usize::from(cut) * 3,
        });
        let mut bytes = vec![0; room];
        let n = queue.transmit(&self.memory, &mut bytes);
        bytes.truncate(n);
        let edit = match input.u8() {
            0..=159 => Edit::None,
            160..=223 => Edit::Bend,
            224..=239 => Edit::Drop,
            240..=255 => Edit::Add,
        };
        match edit {
            Edit::None => {}
            Edit::Bend => input.bend(&mut bytes),
            Edit::Drop => bytes.truncate(usize::from(input.u8())),
            Edit::Add => bytes.extend(input.take(usize::from(input.clone().u8() % 140))),
        }
        self.tcp.send(&bytes);
        n != 0 || !bytes.is_empty()
    }

    fn transmit(&mut self, now: Duration) -> Option<Vec<u8>> {
        if let Resolution::Ready(_) = self.interface.resolve(now, self.tuple.remote)
            && let Some(segment) = self.tcp.poll_tx(now)
        {
            let mut frame = vec![0; HEADROOM];
            let emitted = self.interface.emit_tcp(
                now,
                &self.tuple,
                &segment.header,
                segment.payload,
                Checksum::Software,
                &mut frame,
            );
            frame.truncate(emitted.expect("a way to the target"));
            segment.payload.iter().for_each(|run| frame.extend_from_slice(run));
            return Some(frame);
        }
        let mut request = [0; arp::FRAME_LEN];
        let len = self.interface.poll_tx(now, &mut request)?;
        Some(request[..len].to_vec())
    }

    fn receive(&mut self, now: Duration, frame: &[u8]) {
        let head = &frame[..frame.len().min(HEADROOM)];
        let Received::Tcp(found) = self.interface.receive(now, frame.len() as u32, head, Checksum::Software) else {
            return;
        };
        if found.tuple != self.tuple {
            return;
        }
        let mut payload = Bytes { bytes: frame.to_vec(), range: 0..frame.len() };
        found.trim(&mut payload);
        self.tcp.on_segment(now, Segment { header: found.header, payload }, &mut Vec::new());
        while let Some((position, payload)) = self.tcp.recv() {
            let Some(queue) = &mut self.queue else { continue };
            self.memory.frame = payload.bytes[payload.range.clone()].to_vec();
            let len = self.memory.frame.len() as u32;
            queue.receive(position.wire(), false, [Range::Ring { buffer: 0, offset: 0, len }], &mut self.memory);
        }
    }

    /// The host's own work: commands of any kind. True if the queue became ready.
    fn work(&mut self, now: Duration, input: &mut Input<'_>) -> bool {
        let Some(queue) = &mut self.queue else { return false };
        let mut ready = false;
        while let Some(event) = queue.poll_event() {
            match event {
                Event::Ready { .. } => ready = true,
                Event::Completed(done) => {
                    // What is outstanding when the queue fails completes after that.
                    self.submitted = self.submitted.saturating_sub(1);
                    let _ = queue.release(done.cid);
                }
                Event::Failed(_) => self.submitted = 0,
                Event::Resync { .. } => {}
            }
        }
        if queue.is_ready()
            && !input.is_empty()
            && let Some(cid) = queue.allocate_cid()
        {
            let blocks = 1 + input.below(20);
            let request = match input.u8() {
                0..=79 => Request::identify(input.u8() % 4, input.below(3)),
                80..=119 => Request::keep_alive(),
                120..=149 => Request::number_of_queues(input.u16()),
                // I/O commands on the admin queue, and admin commands that nobody knows.
                150..=199 => Request::read(1, 0, blocks, 512).expect("a few blocks"),
                200..=255 => Request::write(1, 0, blocks, 512).expect("a few blocks"),
            };
            let mut request = request;
            if input.u8() < 64 {
                request.sqe.opcode = input.u8();
            }
            match queue.submit(cid, request, now) {
                Ok(()) => self.submitted += 1,
                Err(_) => _ = queue.release(cid),
            }
        }
        ready
    }
}

#[derive(Debug)]
struct Bytes {
    bytes: Vec<u8>,
    range: std::ops::Range<usize>,
}

impl Payload for Bytes {
    fn len(&self) -> u32 {
        self.range.len() as u32
    }
    fn trim_front(&mut self, n: u32) {
        self.range.start += n as usize;
    }
    fn trim_back(&mut self, n: u32) {
        self.range.end -= n as usize;
    }
}

/// The frame that is being received, and as much memory as a command may have.
#[derive(Default)]
struct Memory {
    frame: Vec<u8>,
}

impl PayloadMemory for Memory {
    fn peek(&self, range: Range, out: &mut [u8]) -> Result<(), PayloadError> {
        let Range::Ring { offset, .. } = range else { return Err(PayloadError::NoBuffer { tag: 0 }) };
        out.copy_from_slice(&self.frame[offset as usize..][..out.len()]);
        Ok(())
    }
    fn deliver(&mut self, _: u16, _: u32, _: Range) -> Result<Delivery, PayloadError> {
        Ok(Delivery::Copied)
    }
    fn digest(&self, _: u16, _: u32, _: u32) -> Result<u32, PayloadError> {
        Ok(0)
    }
    fn fetch(&self, _: u16, offset: u32, out: &mut [u8]) -> Result<(), PayloadError> {
        out.fill(offset as u8);
        Ok(())
    }
}
