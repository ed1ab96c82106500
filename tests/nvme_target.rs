//! The NVMe/TCP host against the embedded target: two readings of the specification that share no code, joined by two
//! smoltcp stacks. The driver's own TCP and the NIC have no part in it.
//!
//! | property | test |
//! |---|---|
//! | whatever the PDU layout, what was written is read back, byte for byte, and the image has it | `every_layout_agrees` |
//! | what the target does wrong is noticed, by the name of the field | `faults_are_noticed_by_name` |
//! | a damaged payload fails its command and nothing else | `a_damaged_payload_fails_one_command` |
//! | neither side complains about an orderly start and end | `an_orderly_life_leaves_no_complaint` |

#![cfg(feature = "demo")]

use connectx_ddp::frame::Range;
use connectx_ddp::nvme::command::Request;
use connectx_ddp::nvme::fabrics::{HostIdentity, Nqn};
use connectx_ddp::nvme::{
    Completion, Controller, ControllerConfig, ControllerEvent, Delivery, Event, HostQueue, PayloadError, PayloadMemory,
    QueueConfig, Reason, Status,
};
use nvme_target::script::{At, Fault, Gather, Kind, On, Order, Size, Success};
use nvme_target::{Config, Generated, Script, Segmentation, Target};
use proptest::prelude::*;
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

const BLOCK: usize = 512;
const IMAGE: u64 = 1 << 20;

#[derive(Default)]
struct Nic {
    rx: VecDeque<Vec<u8>>,
    tx: VecDeque<Vec<u8>>,
}

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Nic {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        self.rx.pop_front().map(|frame| (Rx(frame), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// Receive memory of one connection, and the buffers of its commands.
#[derive(Default)]
struct Memory {
    received: Vec<u8>,
    buffers: BTreeMap<u16, Vec<u8>>,
}

impl Memory {
    fn part(&self, tag: u16, offset: u32, len: u32) -> Result<&[u8], PayloadError> {
        let buffer = self.buffers.get(&tag).ok_or(PayloadError::NoBuffer { tag })?;
        let size = buffer.len() as u32;
        let part = buffer.get(offset as usize..(offset + len) as usize);
        part.ok_or(PayloadError::OutOfRange { tag, offset, len, size })
    }
}

impl PayloadMemory for Memory {
    fn peek(&self, range: Range, out: &mut [u8]) -> Result<(), PayloadError> {
        let Range::Ring { offset, .. } = range else { panic!("nothing is placed here") };
        out.copy_from_slice(&self.received[offset as usize..][..out.len()]);
        Ok(())
    }

    fn deliver(&mut self, tag: u16, offset: u32, range: Range) -> Result<Delivery, PayloadError> {
        self.part(tag, offset, range.len())?;
        let mut bytes = vec![0; range.len() as usize];
        self.peek(range, &mut bytes)?;
        if let Some(buffer) = self.buffers.get_mut(&tag) {
            buffer[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        Ok(Delivery::Copied)
    }

    fn digest(&self, tag: u16, offset: u32, len: u32) -> Result<u32, PayloadError> {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        digest.update(self.part(tag, offset, len)?);
        Ok(digest.finalize() as u32)
    }

    fn fetch(&self, tag: u16, offset: u32, out: &mut [u8]) -> Result<(), PayloadError> {
        out.copy_from_slice(self.part(tag, offset, out.len() as u32)?);
        Ok(())
    }
}

/// A TCP connection to the target.
struct Line {
    handle: SocketHandle,
    seq: u32,
    memory: Memory,
}

/// Host, target and the wire between them, in virtual time.
struct Net {
    target: Target,
    interface: Interface,
    sockets: SocketSet<'static>,
    nic: Nic,
    now: Duration,
    ports: u16,
}

impl Net {
    fn new(config: Config) -> Net {
        let mut nic = Nic::default();
        let mac = HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 0, 1]));
        let mut interface = Interface::new(smoltcp::iface::Config::new(mac), &mut nic, Instant::ZERO);
        interface.update_ip_addrs(|list| {
            list.push(IpCidr::new(IpAddress::v4(192, 168, 44, 1), 24)).expect("room for an address");
        });
        let target = Target::new(config, Box::new(Generated::new(7, IMAGE))).expect("a legal target");
        let sockets = SocketSet::new(Vec::new());
        Net { target, interface, sockets, nic, now: Duration::ZERO, ports: 50_000 }
    }

    fn open(&mut self) -> Line {
        let buffer = || tcp::SocketBuffer::new(vec![0; 1 << 16]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        self.ports += 1;
        let remote = (IpAddress::v4(192, 168, 44, 20), 4420);
        socket.connect(self.interface.context(), remote, self.ports).expect("a free socket");
        Line { handle: self.sockets.add(socket), seq: 0, memory: Memory::default() }
    }

    /// Moves bytes between a queue and its connection; true if some moved.
    fn pump(&mut self, line: &mut Line, queue: &mut HostQueue) -> bool {
        let socket = self.sockets.get_mut::<tcp::Socket>(line.handle);
        let mut moved = false;
        while queue.has_output() && socket.can_send() {
            let memory = &line.memory;
            let n = socket.send(|room| {
                let n = queue.transmit(memory, room);
                (n, n)
            });
            if n.unwrap_or(0) == 0 {
                break;
            }
            moved = true;
        }
        while socket.can_recv() {
            line.memory.received.clear();
            let received = &mut line.memory.received;
            let taken = socket.recv(|bytes| {
                received.extend_from_slice(bytes);
                (bytes.len(), ())
            });
            taken.expect("there are bytes");
            let len = line.memory.received.len() as u32;
            queue.receive(line.seq, false, [Range::Ring { buffer: 0, offset: 0, len }], &mut line.memory);
            line.seq = line.seq.wrapping_add(len);
            moved = true;
        }
        if !socket.may_recv() && !matches!(socket.state(), tcp::State::SynSent) {
            queue.connection_closed();
        }
        moved
    }

    /// Moves frames; if none moved and nobody else has work, lets time pass, but not beyond `deadline`.
    fn step(&mut self, busy: bool, deadline: Option<Duration>) {
        let instant = Instant::from_micros(self.now.as_micros() as i64);
        self.interface.poll(instant, &mut self.nic, &mut self.sockets);
        let mut moved = busy;
        while let Some(frame) = self.nic.tx.pop_front() {
            self.target.receive(&frame);
            moved = true;
        }
        self.target.poll(self.now);
        while let Some(frame) = self.target.transmit() {
            self.nic.rx.push_back(frame);
            moved = true;
        }
        if !moved {
            let host = self.interface.poll_delay(instant, &self.sockets);
            let host = host.map(|delay| self.now + Duration::from_micros(delay.total_micros()));
            let next = [host, self.target.next_deadline(self.now), deadline].into_iter().flatten().min();
            self.now = next.unwrap_or(self.now).max(self.now + Duration::from_micros(1));
        }
    }

    fn control(&mut self, line: &mut Line, controller: &mut Controller) -> ControllerEvent {
        for _ in 0..20_000 {
            let busy = self.pump(line, controller.queue());
            if let Some(event) = controller.poll(self.now) {
                self.pump(line, controller.queue());
                return event;
            }
            self.step(busy, controller.next_deadline());
        }
        panic!("no end at {:?}; the target says {:?}", self.now, self.target.errors());
    }

    fn event(&mut self, line: &mut Line, queue: &mut HostQueue) -> Event {
        for _ in 0..20_000 {
            let busy = self.pump(line, queue);
            queue.poll_deadline(self.now);
            if let Some(event) = queue.poll_event() {
                self.pump(line, queue);
                return event;
            }
            self.step(busy, queue.next_deadline());
        }
        panic!("no end at {:?}; the target says {:?}", self.now, self.target.errors());
    }

    fn completion(&mut self, line: &mut Line, queue: &mut HostQueue) -> Completion {
        match self.event(line, queue) {
            Event::Completed(completion) => completion,
            other => panic!("{other:?}; the target says {:?}", self.target.errors()),
        }
    }
}

fn host(header_digest: bool, data_digest: bool, keep_alive: Duration) -> ControllerConfig {
    let nqn = |name| Nqn::new(name).expect("a name");
    ControllerConfig {
        identity: HostIdentity {
            host_id: [3; 16],
            host_nqn: nqn("nqn.2014-08.org.nvmexpress:uuid:0f1e2d3c-0000-4000-8000-000000000001"),
            subsystem_nqn: nqn(&Config::default().subsystem_nqn),
        },
        header_digest,
        data_digest,
        io_queues: 2,
        max_namespaces: 4,
        keep_alive,
        timeout: Duration::from_secs(10),
    }
}

/// A controller that is up and one I/O queue that is ready.
struct Rig {
    net: Net,
    admin: Line,
    controller: Controller,
    line: Line,
    queue: HostQueue,
}

impl Rig {
    /// Without keep-alives: while the I/O queue works, nobody looks after the admin queue.
    fn new(target: Config, digests: (bool, bool), change: impl FnOnce(&mut QueueConfig)) -> Rig {
        Rig::with_keep_alive(target, digests, Duration::ZERO, change)
    }

    fn with_keep_alive(
        target: Config,
        digests: (bool, bool),
        keep_alive: Duration,
        change: impl FnOnce(&mut QueueConfig),
    ) -> Rig {
        let mut net = Net::new(target);
        let mut admin = net.open();
        let mut controller = Controller::new(host(digests.0, digests.1, keep_alive), net.now).expect("legal");
        assert_eq!(net.control(&mut admin, &mut controller), ControllerEvent::Ready);
        let mut config = controller.io_queue(1, 16).expect("within limits");
        change(&mut config);
        let (mut line, mut queue) = (net.open(), HostQueue::new(config, net.now).expect("legal"));
        let ready = net.event(&mut line, &mut queue);
        assert_eq!(ready, Event::Ready { controller_id: controller.controller_id() });
        Rig { net, admin, controller, line, queue }
    }

    fn submit(&mut self, request: Request, bytes: Vec<u8>) -> u16 {
        let cid = self.queue.allocate_cid().expect("a free identifier");
        self.line.memory.buffers.insert(cid, bytes);
        self.queue.submit(cid, request, self.net.now).expect("legal");
        cid
    }

    fn read(&mut self, lba: u64, blocks: u32) -> u16 {
        let request = Request::read(1, lba, blocks, BLOCK as u32).expect("legal");
        self.submit(request, vec![0x5a; blocks as usize * BLOCK])
    }

    fn finish(&mut self) -> (Completion, Vec<u8>) {
        let completion = self.net.completion(&mut self.line, &mut self.queue);
        self.queue.release(completion.cid).expect("completed");
        (completion, self.line.memory.buffers.remove(&completion.cid).unwrap_or_default())
    }

    fn failure(&mut self) -> Reason {
        loop {
            match self.net.event(&mut self.line, &mut self.queue) {
                Event::Failed(reason) => return reason,
                Event::Completed(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn image(lba: u64, blocks: u32) -> Vec<u8> {
    let mut bytes = vec![0; blocks as usize * BLOCK];
    Generated::fill(7, lba * BLOCK as u64, &mut bytes);
    bytes
}

fn size(least: u32) -> impl Strategy<Value = Size> {
    prop_oneof![
        Just(Size::Whole),
        (least..5000).prop_map(Size::AtMost),
        (least..500, 500u32..9000).prop_map(|(min, max)| Size::Between { min, max }),
    ]
}

fn script() -> impl Strategy<Value = Script> {
    let order = prop_oneof![Just(Order::InOrder), Just(Order::Shuffled), Just(Order::Interleaved)];
    let success = prop_oneof![Just(Success::WhenAllowed), Just(Success::Capsule), Just(Success::Random)];
    let segmentation = prop_oneof![
        Just(Segmentation::Full),
        Just(Segmentation::AlignPdus),
        (1u16..60, 60u16..1400).prop_map(|(min, max)| Segmentation::Random { min, max }),
    ];
    (any::<u64>(), size(4), size(256), order, success, segmentation, 0u8..6, 1usize..5).prop_map(
        |(seed, c2h_data, r2t, order, success, segmentation, extra_padding, commands)| Script {
            seed,
            c2h_data,
            r2t,
            order,
            success,
            segmentation,
            extra_padding,
            gather: Some(Gather { commands, wait: Duration::from_millis(1) }),
            ..Script::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn every_layout_agrees(
        script in script(), header_digest: bool, data_digest: bool, hpda in 0u8..32, cpda in 0u8..32,
        in_capsule_data in prop_oneof![Just(0u32), Just(4096), Just(8192)],
        pieces in proptest::collection::vec((0u64..1900, 1u32..100, any::<bool>()), 1..12),
    ) {
        let config = Config { script, cpda, in_capsule_data, max_h2c_data: 8192, ..Config::default() };
        let mut rig = Rig::new(config, (header_digest, data_digest), |queue| queue.hpda = hpda);
        let mut expected = image(0, (IMAGE / BLOCK as u64) as u32);
        for (i, &(lba, blocks, write)) in pieces.iter().enumerate() {
            if write {
                let bytes: Vec<u8> = (0..blocks as usize * BLOCK).map(|at| (at / 7 + i) as u8).collect();
                expected[lba as usize * BLOCK..][..bytes.len()].copy_from_slice(&bytes);
                rig.submit(Request::write(1, lba, blocks, BLOCK as u32).expect("legal"), bytes);
                let (completion, _) = rig.finish();
                prop_assert_eq!(completion.status, Status::SUCCESS);
            }
        }
        let mut wanted = BTreeMap::new();
        for &(lba, blocks, _) in &pieces {
            let cid = rig.read(lba, blocks);
            wanted.insert(cid, (lba as usize * BLOCK, blocks as usize * BLOCK));
        }
        for _ in 0..wanted.len() {
            let (completion, bytes) = rig.finish();
            let (at, len) = wanted[&completion.cid];
            prop_assert_eq!(completion.status, Status::SUCCESS);
            prop_assert_eq!((completion.placed, completion.copied as usize), (0, len));
            prop_assert!(bytes == expected[at..at + len], "bytes of {:?} differ", wanted[&completion.cid]);
        }
        let counters = *rig.queue.counters();
        prop_assert_eq!(counters.digests_software > 0, data_digest);
        prop_assert_eq!((counters.digest_errors, counters.bytes_placed), (0, 0));
        let mut stored = vec![0; IMAGE as usize];
        rig.net.target.backing().read_at(0, &mut stored).expect("the image");
        prop_assert!(stored == expected, "the image differs from what was written");
        prop_assert_eq!(rig.net.target.errors(), vec![]);
    }
}

#[test]
fn faults_are_noticed_by_name() {
    let field = |field| move |reason: &Reason| matches!(reason, Reason::Field(error) if error.field == field);
    type Check = Box<dyn Fn(&Reason) -> bool>;
    let cases: Vec<(At, Kind, Check)> = vec![
        (At::Data(1), Kind::Type(8), Box::new(field("PDU-Type"))),
        (At::Data(1), Kind::Type(6), Box::new(field("PDU-Type"))),
        (At::Data(1), Kind::Flags(0x83), Box::new(field("FLAGS"))),
        (At::Data(1), Kind::HeaderLength(23), Box::new(field("HLEN"))),
        (At::Data(1), Kind::DataOffset(24), Box::new(field("PDO"))),
        (At::Data(1), Kind::PduLength(40), Box::new(field("PLEN"))),
        (At::Data(1), Kind::CommandId(9), Box::new(field("CCCID"))),
        (At::Data(1), Kind::Offset(1 << 30), Box::new(field("DATAO"))),
        (At::Data(1), Kind::Offset(0), Box::new(field("DATAO"))),
        (At::Data(1), Kind::Length(1), Box::new(field("PLEN"))),
        (At::Data(3), Kind::ExtraData(64), Box::new(field("DATAL"))),
        (At::Data(1), Kind::HeaderDigest, Box::new(|r| matches!(r, Reason::HeaderDigest { pdu: "C2HData", .. }))),
        (At::Data(1), Kind::Drop, Box::new(|r| matches!(r, Reason::MissingData { moved: 12_288, .. }))),
        (At::Response(1), Kind::CommandId(9), Box::new(field("CQE.CID"))),
        (At::R2t(0), Kind::Length(1 << 20), Box::new(field("R2TL"))),
        (At::R2t(0), Kind::Offset(64), Box::new(field("R2TO"))),
        (At::R2t(0), Kind::CommandId(0), Box::new(field("CCCID"))),
        (
            At::Data(1),
            Kind::Terminate { fes: 4, fei: 12 },
            Box::new(|r| matches!(r, Reason::Terminated { fes: 4, fei: 12 })),
        ),
        (At::Data(1), Kind::Close { after: 100 }, Box::new(|r| *r == Reason::Closed)),
        (At::Data(1), Kind::Reset { after: 100 }, Box::new(|r| *r == Reason::Closed)),
        (At::Data(1), Kind::Stall { after: 30 }, Box::new(|r| matches!(r, Reason::CommandTimeout { opcode: 2, .. }))),
    ];
    for (at, kind, check) in cases {
        let script = Script {
            c2h_data: Size::AtMost(4096),
            success: Success::Capsule,
            faults: vec![Fault { on: On::Queue(1), at, kind }],
            ..Script::default()
        };
        let config = Config { script, in_capsule_data: 0, ..Config::default() };
        let mut rig = Rig::new(config, (true, true), |_| {});
        // The answer to Connect is response 0 of the queue.
        rig.read(0, 32);
        if matches!(at, At::R2t(_)) {
            rig.submit(Request::write(1, 64, 32, BLOCK as u32).expect("legal"), vec![1; 32 * BLOCK]);
        }
        let reason = rig.failure();
        assert!(check(&reason), "{kind:?} at {at:?}: {reason}");
    }
}

#[test]
fn a_damaged_payload_fails_one_command() {
    let fault = |kind| Fault { on: On::Queue(1), at: At::Data(2), kind };
    for kind in [Kind::Payload, Kind::DataDigest] {
        let script = Script { c2h_data: Size::AtMost(4096), faults: vec![fault(kind)], ..Script::default() };
        let mut rig = Rig::new(Config { script, ..Config::default() }, (false, true), |_| {});
        let first = rig.read(0, 32);
        rig.read(100, 32);
        let (completion, _) = rig.finish();
        assert_eq!((completion.cid, completion.status), (first, Status::TRANSIENT_TRANSPORT_ERROR));
        let (completion, bytes) = rig.finish();
        assert_eq!(completion.status, Status::SUCCESS);
        assert!(bytes == image(100, 32));
        assert_eq!(rig.queue.counters().digest_errors, 1);
    }
}

#[test]
fn an_orderly_life_leaves_no_complaint() {
    let mut rig = Rig::with_keep_alive(Config::default(), (true, true), Duration::from_secs(5), |_| {});
    let [namespace] = rig.controller.namespaces() else { panic!("one namespace") };
    let page = namespace.page.as_ref().expect("a format without metadata");
    assert_eq!((page.bytes(), page.block_size), (IMAGE, BLOCK as u32));
    rig.submit(Request::flush(1), Vec::new());
    assert_eq!(rig.finish().0.status, Status::SUCCESS);
    rig.read(2047, 2);
    let (completion, _) = rig.finish();
    assert_eq!(completion.status.name(), "LBA Out of Range");
    // A minute of nothing but keep-alives.
    while rig.net.now < Duration::from_secs(60) {
        let busy = rig.net.pump(&mut rig.admin, rig.controller.queue()) | rig.net.pump(&mut rig.line, &mut rig.queue);
        assert_eq!(rig.controller.poll(rig.net.now), None);
        rig.net.step(busy, rig.controller.next_deadline());
    }
    assert!(rig.controller.queue().counters().pdus_sent >= 24);
    rig.net.sockets.get_mut::<tcp::Socket>(rig.line.handle).close();
    rig.controller.shutdown(rig.net.now);
    assert_eq!(rig.net.control(&mut rig.admin, &mut rig.controller), ControllerEvent::Down);
    assert_eq!(rig.net.target.errors(), []);
}
