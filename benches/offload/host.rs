//! A function brought up on the virtual ConnectX: one receive queue of 128-byte entries, one offloaded connection.
//!
//! The device works here, and in what binds and unbinds tags: never inside what is measured. Packets go through it once,
//! and the completion entries that it writes are kept ([`Host::record`]). From then on the entries are replayed: a producer
//! that does nothing but copy a prepared ring writes them, lap after lap, into the completion queue's memory, with the owner
//! bits and counters that the device would have used ([`Replay`]).

use crate::segment::Wire;
use crate::stream::Stream;
use connectx_ddp::adapter::{Adapter, Config, Creation, Handle, Objects, Refused};
use connectx_ddp::command::{CommandError, Output, Request};
use connectx_ddp::ddp::contract::{self, Offload};
use connectx_ddp::ddp::create::Capacity;
use connectx_ddp::ddp::device::{Offloads, Settings, Socket};
use connectx_ddp::dma::{Arena, DmaError, DmaHeap, DmaMapper, IoBuf, Iova, IovaAllocator};
use connectx_ddp::platform::virtual_nic::VirtualPlatform;
use connectx_ddp::platform::{Deadline, Identity, Platform, PlatformError};
use connectx_ddp::queue::{Base, CompletionQueue, ReceiveQueue, RxPool};
use connectx_ddp::steering::{
    Defaults, FiveTuple, Steering, SteeringCaps, SteeringParams, Target, TirParams, create_rqt, create_tir,
};
use firmware_iface::caps::CmdHcaCap;
use firmware_iface::caps::groups::NvmeotcpCap;
use hw_regs::cqe::OffloadCqe;
use hw_regs::layout::Access;
use std::fs::File;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// log2 of the receive queue's work requests and of the completion queue's entries.
const LOG_RING: u32 = 10;
/// Entries of the ring.
pub const RING: usize = 1 << LOG_RING;
/// Receive buffers: as many again as are posted, for frames.
const BUFFERS: u32 = 2 << LOG_RING;
const BUFFER_BYTES: u32 = 2048;
/// Tags of the queue.
pub const TAGS: u16 = 128;
/// Payload of a TCP segment: MTU 1500 and a timestamp option.
const MSS: usize = 1448;
/// Tags that the recorded reads use.
const READS: usize = 8;
/// Bytes of a C2HData PDU beside its data: header and digest.
const PDU_OVERHEAD: usize = 24 + 4;

type Maps = Arc<Mutex<Vec<(u64, u64, Arc<File>)>>>;

/// The virtual function, with a note of the files behind its DMA memory.
pub struct Recorded {
    inner: VirtualPlatform,
    maps: Maps,
    heap: DmaHeap,
}

struct Mapper {
    inner: Arc<dyn DmaMapper>,
    maps: Maps,
}

impl DmaMapper for Mapper {
    fn map(&self, iova: Iova, arena: &Arena) -> Result<(), DmaError> {
        self.maps.lock().expect("maps").push((iova.get(), arena.len() as u64, Arc::clone(arena.file())));
        self.inner.map(iova, arena)
    }
    fn unmap(&self, iova: Iova, len: u64) -> Result<(), DmaError> {
        self.inner.unmap(iova, len)
    }
}

impl Recorded {
    fn new() -> Recorded {
        let mut config = virtual_nic::Config::default();
        // As many tags in a table as command identifiers go.
        config.capabilities.edit::<NvmeotcpCap>(|caps| {
            caps.set(NvmeotcpCap::LOG_MAX_NVMEOTCP_TAG_BUFFER_SIZE, 16);
            caps.set(NvmeotcpCap::LOG_MAX_NVMEOTCP_TAG_BUFFER_TABLE, 16);
        });
        let inner = VirtualPlatform::new("virtual", config);
        let maps = Maps::default();
        let mapper = Mapper { inner: inner.dma_mapper(), maps: Arc::clone(&maps) };
        let heap = DmaHeap::new(Arc::new(mapper), IovaAllocator::new(&inner.iova_ranges()));
        Recorded { inner, maps, heap }
    }
}

impl Platform for Recorded {
    fn identity(&self) -> &Identity {
        self.inner.identity()
    }
    fn bar_size(&self) -> u64 {
        self.inner.bar_size()
    }
    fn read32(&self, offset: u64) -> u32 {
        self.inner.read32(offset)
    }
    fn write32(&self, offset: u64, value: u32) {
        self.inner.write32(offset, value);
    }
    fn write64(&self, offset: u64, value: u64) {
        self.inner.write64(offset, value);
    }
    fn dma_mapper(&self) -> Arc<dyn DmaMapper> {
        self.inner.dma_mapper()
    }
    fn iova_ranges(&self) -> Vec<RangeInclusive<u64>> {
        self.inner.iova_ranges()
    }
    fn dma_heap(&self) -> DmaHeap {
        self.heap.clone()
    }
    fn reset(&self) -> Result<(), PlatformError> {
        self.inner.reset()
    }
    fn vectors(&self) -> u16 {
        self.inner.vectors()
    }
    fn take_interrupt(&self, vector: u16) -> bool {
        self.inner.take_interrupt(vector)
    }
    fn now(&self) -> Duration {
        self.inner.now()
    }
    fn pause(&self) {
        self.inner.pause();
    }
}

/// The adapter, with a note of where the ring of the last object is: a completion queue's.
struct Spy<'a> {
    adapter: &'a mut Adapter<Recorded>,
    ring: Option<u64>,
}

impl Objects for Spy<'_> {
    fn create_each(&mut self, creations: Vec<Creation>, deadline: Deadline) -> Vec<Result<Handle, CommandError>> {
        // A ring described by one page: its address is what the command ends with.
        let request = creations.last().map(|creation| creation.request().input());
        let address = request.and_then(|input| input.last_chunk()).map(|bytes| u64::from_be_bytes(*bytes));
        self.ring = address.or(self.ring);
        self.adapter.create_each(creations, deadline)
    }
    fn destroy_each(&mut self, handles: Vec<Handle>, deadline: Deadline) -> Vec<Refused> {
        self.adapter.destroy_each(handles, deadline)
    }
    fn exec_each(&mut self, requests: Vec<Request>, deadline: Deadline) -> Vec<Result<Output, CommandError>> {
        self.adapter.exec_each(requests, deadline)
    }
}

/// What is measured, and what it needs.
pub struct Host {
    pub cq: CompletionQueue<OffloadCqe>,
    pub rq: ReceiveQueue,
    pub pool: RxPool,
    pub offloads: Offloads,
    /// The offload queue that is recorded; the first of all.
    pub queue: u32,
    /// All of them, and their connections.
    queues: Vec<(u32, Wire)>,
    pub platform: Arc<Recorded>,
    adapter: Adapter<Recorded>,
    wire: Wire,
    /// Completions so far: the device's counter.
    completions: u32,
    /// The completion queue's memory: file, offset in it.
    ring: (Arc<File>, u64),
}

impl Host {
    pub fn new() -> Host {
        Host::with(1, TAGS.into())
    }

    /// A function with so many offload queues of so many tags each.
    pub fn with(queues: u16, tags: u32) -> Host {
        let platform = Arc::new(Recorded::new());
        let mut adapter = Adapter::bring_up(Arc::clone(&platform), Config { page_limit: 1 << 20, ..Config::default() })
            .expect("brought up");
        let base = Base::of(&adapter);
        let deadline = Deadline::after(&*platform, Duration::from_secs(10));
        let eqn = adapter.completion_eqn(0);
        let mut spy = Spy { adapter: &mut adapter, ring: None };
        let mut cq = CompletionQueue::create(&mut spy, &base, LOG_RING, eqn, deadline).expect("CQ");
        let iova = spy.ring.expect("a ring");
        let ring = {
            let maps = platform.maps.lock().expect("maps");
            let (base, _, file) = maps.iter().find(|m| (m.0..m.0 + m.1).contains(&iova)).expect("a mapped ring");
            (Arc::clone(file), iova - base)
        };
        let mut pool = RxPool::new(&base.heap, BUFFERS, BUFFER_BYTES).expect("memory");
        let mut rq = ReceiveQueue::create(&mut adapter, &base, &mut cq, LOG_RING, &pool, 0, deadline).expect("RQ");
        rq.post(&mut pool);
        let rqtn = create_rqt(&mut adapter, &[rq.rqn()], 1, deadline).expect("RQT").number();
        let tirn = create_tir(&mut adapter, &base, &TirParams::new(Target::First { rqtn }), deadline).expect("TIR");
        let caps = SteeringCaps::new(&adapter.capabilities().receive_flow_tables()).expect("it can steer");
        let params = SteeringParams { connections_ipv4: u32::from(queues).max(64), connections_ipv6: 0 };
        let defaults = Defaults { other: tirn.number(), tcp_ipv4: None, tcp_ipv6: None };
        let mut steering = Steering::create(&mut adapter, &caps, &params, &defaults, deadline).expect("steering");
        let log_sq = adapter.capabilities().general().get(CmdHcaCap::LOG_MAX_QP_SZ);
        let capacity = Capacity::new(&adapter.capabilities().offload(), log_sq).expect("it can place");
        // Room for a batch with the longest lists: else who binds works on completions and doorbells of those before.
        let log_ring = (queues == 1).then_some(12);
        let mut offloads = Offloads::new(capacity, Settings { log_ring, ..Settings::new(eqn) });
        let wire = Wire::new(adapter.mac(), 1000);
        let config = contract::Config { cpda: 0, header_digest: false, data_digest: true, queue_size: tags, rqtn };
        let mut add = |wire: Wire| {
            let (source, destination) = (SocketAddr::V4(wire.source), SocketAddr::V4(wire.destination));
            let socket = Socket { tuple: FiveTuple { source, destination }, next_pdu: 0 };
            let mut device = offloads.with(&mut adapter, &mut steering, &*platform, &base);
            (device.sk_add(&socket, &config).expect("an offload queue"), wire)
        };
        let mut all = vec![add(wire)];
        all.extend((1..queues).map(|n| add(Wire::new(wire.mac, 10_000 + n))));
        let queue = all[0].0;
        Host { cq, rq, pool, offloads, queue, queues: all, platform, adapter, wire, completions: 0, ring }
    }

    /// A buffer of `entries` pieces of `bytes`, none adjacent to another.
    pub fn buffer(&self, entries: usize, bytes: usize) -> IoBuf {
        let piece =
            |_| self.adapter.heap().allocate(bytes + 64, 64).map(|piece| piece.split_at(bytes).0).expect("memory");
        IoBuf::new((0..entries).map(piece).collect())
    }

    /// Shows the device what was posted, and lets it work.
    pub fn let_device_work(&mut self) {
        self.offloads.flush(&*self.platform);
        self.platform.pause();
    }

    /// Binds a tag, takes what it takes.
    fn bind(&mut self, queue: u32, tag: u16, buffer: IoBuf) {
        self.offloads.setup(queue, tag, buffer, &*self.platform).expect("free");
        self.let_device_work();
    }

    /// One ring of completion entries as the device writes them: packets in the middle of reads that are placed, or packets
    /// of a connection that is not offloaded.
    pub fn record(&mut self, placed: bool) -> Vec<OffloadCqe> {
        let mut stream = Stream::new(0, true);
        let data = vec![0x5a; RING / READS * MSS - PDU_OVERHEAD];
        for tag in 0..READS as u16 {
            stream.data(tag, 0, &data);
            if placed {
                let buffer = self.buffer(1, data.len());
                self.bind(self.queue, tag, buffer);
            }
        }
        let wire = if placed { self.wire } else { Wire::new(self.wire.mac, 2000) };
        let mut entries = Vec::with_capacity(RING);
        for (n, payload) in stream.bytes.chunks(MSS).enumerate() {
            let frame = wire.segment((n * MSS) as u32, payload);
            entries.push(self.arrive(&frame, placed));
        }
        assert_eq!(entries.len(), RING);
        entries
    }

    /// A frame goes through the device: its completion.
    fn arrive(&mut self, frame: &[u8], placed: bool) -> OffloadCqe {
        self.platform.inner.nic().receive(frame);
        self.platform.pause();
        let entry = self.cq.poll().expect("a completion");
        let arrival = self.rq.accept(&entry).expect("a packet");
        let rebuilt = self.offloads.receive(&entry, arrival).expect("the device tells the truth");
        assert_eq!(rebuilt.frame.placed().is_some(), placed);
        assert_eq!(rebuilt.frame.len() as usize, frame.len());
        self.pool.give_back(rebuilt.frame.into_buffer());
        self.cq.update();
        self.rq.post(&mut self.pool);
        self.completions += 1;
        entry
    }

    /// One ring of completions of packets that each hold a PDU for another queue, or another tag, than the packet before: of
    /// `queues` queues and `tags` tags of each, as far apart as there are any, in turns.
    pub fn record_spread(&mut self, queues: usize, tags: usize, of_tags: usize) -> Vec<OffloadCqe> {
        const DATA: usize = 1024;
        let data = [0x5a; DATA];
        let mut streams = vec![Stream::new(0, true); queues];
        let mut entries = Vec::with_capacity(RING);
        for n in 0..RING {
            let (at, turn) = (n % queues, n / queues);
            let (queue, wire) = self.queues[at * (self.queues.len() / queues)];
            let (tag, use_of_tag) = ((turn % tags * (of_tags / tags)) as u16, turn / tags);
            if use_of_tag == 0 {
                let buffer = self.buffer(1, RING.div_ceil(queues * tags) * DATA);
                self.bind(queue, tag, buffer);
            }
            let stream = &mut streams[at];
            let from = stream.bytes.len();
            stream.data(tag, (use_of_tag * DATA) as u32, &data);
            let frame = wire.segment(from as u32, &stream.bytes[from..]);
            entries.push(self.arrive(&frame, true));
        }
        entries
    }

    /// Takes everything down.
    pub fn finish(self) {
        let deadline = self.adapter.command_deadline();
        let teardown = self.adapter.teardown(deadline);
        assert!(teardown.is_clean(), "{teardown}");
    }
}

/// A recorded ring, ready to be written again and again.
pub struct Replay {
    /// The ring as it is in each lap until counters (16 bits) repeat; owner bits repeat sooner.
    laps: Vec<Vec<u8>>,
}

impl Replay {
    pub fn new(entries: &[OffloadCqe]) -> Replay {
        let lap = |lap: usize| {
            let ring = entries.iter().enumerate().map(|(n, entry)| {
                entry
                    .with(OffloadCqe::CQE64_WQE_COUNTER, ((lap * RING + n) & 0xffff) as u32)
                    .with(OffloadCqe::CQE64_OP_OWN_OWNER, lap as u32 & 1)
            });
            ring.flat_map(|entry| entry.0).collect()
        };
        Replay { laps: (0..(1 << 16) / RING).map(lap).collect() }
    }

    /// The ring of an even or an odd lap.
    pub fn lap(&self, odd: bool) -> &[u8] {
        &self.laps[usize::from(odd)]
    }

    /// The producer: writes one ring of completions.
    pub fn produce(&self, host: &mut Host) {
        let lap = host.completions as usize / RING;
        assert!((host.completions as usize).is_multiple_of(RING));
        let (file, offset) = &host.ring;
        file.write_all_at(&self.laps[lap % self.laps.len()], *offset).expect("inside the mapping");
        host.completions += RING as u32;
    }
}
