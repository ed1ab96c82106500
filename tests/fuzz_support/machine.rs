//! A function without a device behind it: registers, DMA memory that the fuzzer writes as a device would, a clock, and
//! firmware that says yes to everything.

use connectx_ddp::adapter::{Creation, Handle, ObjectLog, Objects, Refused};
use connectx_ddp::command::{CommandError, CommandPort, Output, Request, Ticket, pipeline};
use connectx_ddp::dma::{Arena, DmaError, DmaHeap, DmaMapper, Iova, IovaAllocator};
use connectx_ddp::platform::{Deadline, Identity, Platform, PlatformError};
use firmware_iface::Opcode;
use firmware_iface::command::object::CreateCqIn;
use firmware_iface::command::queue::{CreateSqIn, QueryRqOut};
use firmware_iface::context::{Cqc, RqState, Rqc, Sqc, Wq};
use hw_regs::layout::{Access, Layout};
use hw_regs::wqe::WqeCtrlSeg;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vm_memory::{FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

const IOVA: RangeInclusive<u64> = 0..=u64::MAX >> 16;

/// DMA memory from the device's side: each arena is mapped a second time, because a system call for every access costs more
/// than all that a driver does between two of them.
#[derive(Default)]
pub struct Memory(Mutex<BTreeMap<u64, Mapping>>);

struct Mapping {
    size: u64,
    region: MmapRegion,
    file: Arc<File>,
}

impl DmaMapper for Memory {
    fn map(&self, iova: Iova, arena: &Arena) -> Result<(), DmaError> {
        let (size, file) = (arena.len() as u64, Arc::clone(arena.file()));
        let region = MmapRegion::from_file(FileOffset::from_arc(Arc::clone(&file), 0), arena.len()).expect("a mapping");
        self.0.lock().expect("lock").insert(iova.get(), Mapping { size, region, file });
        Ok(())
    }
    fn unmap(&self, iova: Iova, _: u64) -> Result<(), DmaError> {
        self.0.lock().expect("lock").remove(&iova.get());
        Ok(())
    }
}

impl Memory {
    fn at<R>(&self, at: u64, len: usize, access: impl FnOnce(VolatileSlice<'_>) -> R) -> R {
        let map = self.0.lock().expect("lock");
        let (base, Mapping { size, region, .. }) = map.range(..=at).next_back().expect("an address that is mapped");
        assert!(at + len as u64 <= base + size, "{len} bytes at {at:#x} leave the mapping at {base:#x}");
        access(region.get_slice((at - base) as usize, len).expect("inside the mapping"))
    }

    pub fn read<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.at(at, N, |slice| slice.copy_to(&mut bytes));
        bytes
    }

    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.at(at, bytes.len(), |slice| slice.copy_from(bytes));
    }

    /// True if a device can reach these bytes.
    pub fn reaches(&self, at: u64, len: usize) -> bool {
        let map = self.0.lock().expect("lock");
        let found = map.range(..=at).next_back();
        found.is_some_and(|(base, Mapping { size, .. })| at - base < *size && len as u64 <= size - (at - base))
    }

    /// Gives the pages of all memory back to the system: nobody uses them any more, but some are never freed.
    fn empty(&self) {
        for mapping in self.0.lock().expect("lock").values() {
            mapping.file.set_len(0).expect("a memory file");
        }
    }
}

/// The function.
pub struct Machine {
    pub memory: Arc<Memory>,
    heap: DmaHeap,
    /// Words of BAR0 that are not zero.
    pub registers: RefCell<BTreeMap<u64, u32>>,
    /// Writes of 32 bits since somebody looked, in order.
    pub written: RefCell<Vec<(u64, u32)>>,
    now: Cell<Duration>,
    identity: Identity,
    /// Send rings whose work completes by itself as soon as a doorbell announces it.
    pub served: RefCell<Vec<SendRing>>,
}

/// A send ring and its completion queue, from the device's side.
#[derive(Clone, Debug, Default)]
pub struct SendRing {
    pub sqn: u32,
    pub ring: u64,
    pub log: u32,
    pub record: u64,
    pub consumer: u16,
    pub cq: u64,
    pub log_cq: u32,
    pub produced: u32,
}

impl SendRing {
    /// Index of the next work request that was announced and asks for a completion; those before it are executed.
    pub fn next(&mut self, memory: &Memory) -> Option<u16> {
        loop {
            let announced = u32::from_be_bytes(memory.read(self.record + 4)) as u16;
            if announced == self.consumer {
                return None;
            }
            let index = self.consumer;
            let at = self.ring + u64::from(u32::from(index) & ((1 << self.log) - 1)) * 64;
            let control = WqeCtrlSeg::from_prefix(&memory.read::<16>(at));
            let blocks = control.get(WqeCtrlSeg::QPN_DS_DS).div_ceil(4).max(1);
            self.consumer = self.consumer.wrapping_add(blocks as u16);
            if control.get(WqeCtrlSeg::FM_CE_SE_COMPLETION_MODE) == 2 {
                return Some(index);
            }
        }
    }

    /// The completion of work request `index`, as an honest device writes it but for the owner bit.
    pub fn honest(&self, index: u16) -> [u8; 64] {
        let mut entry = [0; 64];
        entry[56..60].copy_from_slice(&self.sqn.to_be_bytes());
        entry[60..62].copy_from_slice(&index.to_be_bytes());
        entry
    }

    /// Writes the next entry of the completion queue, with the owner bit that belongs there.
    pub fn complete(&mut self, memory: &Memory, mut entry: [u8; 64]) {
        entry[63] = entry[63] & !1 | (self.produced >> self.log_cq & 1) as u8;
        memory.write(self.cq + u64::from(self.produced & ((1 << self.log_cq) - 1)) * 64, &entry);
        self.produced += 1;
    }
}

impl Machine {
    #[expect(clippy::arc_with_non_send_sync, reason = "the driver takes an Arc; a fuzz target is one thread")]
    fn new() -> Arc<Machine> {
        let memory = Arc::<Memory>::default();
        let heap = DmaHeap::new(Arc::clone(&memory) as Arc<dyn DmaMapper>, IovaAllocator::new(&[IOVA]));
        Arc::new(Machine {
            memory,
            heap,
            registers: RefCell::default(),
            written: RefCell::default(),
            now: Cell::default(),
            identity: Identity { address: "machine".into(), vendor: 0x15b3, device: 0x1021 },
            served: RefCell::default(),
        })
    }

    pub fn heap(&self) -> &DmaHeap {
        &self.heap
    }

    pub fn pass(&self, time: Duration) {
        self.now.set(self.now.get() + time);
    }

    fn serve(&self) {
        for ring in self.served.borrow_mut().iter_mut() {
            while let Some(index) = ring.next(&self.memory) {
                let entry = ring.honest(index);
                ring.complete(&self.memory, entry);
            }
        }
    }
}

/// Memory that may be lost before a machine is thrown away: the driver leaks on purpose what a device may still write.
const LOST: usize = 32 << 20;

/// Runs `body` on a machine that looks new. Memory is kept between runs, because a device's memory is expensive to map; what
/// a run does not give back must have been lost on purpose (`leaks`).
pub fn on_machine<R>(leaks: bool, body: impl FnOnce(&Arc<Machine>) -> R) -> R {
    thread_local!(static MACHINE: RefCell<Option<Arc<Machine>>> = const { RefCell::new(None) });
    MACHINE.with_borrow_mut(|kept| {
        let machine = kept.get_or_insert_with(Machine::new);
        machine.registers.borrow_mut().clear();
        machine.written.borrow_mut().clear();
        machine.served.borrow_mut().clear();
        machine.now.set(Duration::ZERO);
        let before = machine.heap.usage().1;
        let result = body(machine);
        let after = machine.heap.usage().1;
        assert!(leaks || after == before, "{} bytes of DMA memory were not given back", after - before);
        if after > LOST {
            machine.memory.empty();
            *kept = None;
        }
        result
    })
}

impl Platform for Machine {
    fn identity(&self) -> &Identity {
        &self.identity
    }
    fn bar_size(&self) -> u64 {
        32 << 20
    }
    fn read32(&self, offset: u64) -> u32 {
        self.registers.borrow().get(&offset).copied().unwrap_or(0)
    }
    fn write32(&self, offset: u64, value: u32) {
        self.written.borrow_mut().push((offset, value));
    }
    fn write64(&self, _: u64, _: u64) {
        self.serve();
    }
    fn dma_mapper(&self) -> Arc<dyn DmaMapper> {
        Arc::clone(&self.memory) as Arc<dyn DmaMapper>
    }
    fn iova_ranges(&self) -> Vec<RangeInclusive<u64>> {
        vec![IOVA]
    }
    fn dma_heap(&self) -> DmaHeap {
        self.heap.clone()
    }
    fn reset(&self) -> Result<(), PlatformError> {
        Ok(())
    }
    fn vectors(&self) -> u16 {
        2
    }
    fn take_interrupt(&self, _: u16) -> bool {
        false
    }
    fn now(&self) -> Duration {
        self.now.get()
    }
    fn pause(&self) {
        self.pass(Duration::from_micros(50));
    }
}

/// Firmware that says yes, and serves every send ring until somebody takes it away ([`Machine::served`]).
pub struct Agreeable {
    machine: Arc<Machine>,
    log: ObjectLog,
    next: u32,
    /// Rings of completion queues, with log2 of their bytes / 64: by number.
    pub rings: BTreeMap<u32, (u64, u32)>,
}

impl Agreeable {
    pub fn new(machine: &Arc<Machine>) -> Agreeable {
        Agreeable { machine: Arc::clone(machine), log: ObjectLog::default(), next: 0x100, rings: BTreeMap::new() }
    }

    /// Forgets all objects, as a reset does.
    pub fn forget(&mut self) {
        self.log.forget();
    }

    /// Notes where rings are.
    fn note(&mut self, request: &Request) {
        let input = request.input();
        let pages = |at: usize| u64::from_be_bytes(input[at..at + 8].try_into().expect("8 bytes"));
        match request.opcode() {
            Opcode::CREATE_CQ => {
                let context = CreateCqIn::from_prefix(input).nested(CreateCqIn::CQ_CONTEXT);
                self.rings.insert(self.next, (pages(CreateCqIn::SIZE), context.get(Cqc::LOG_CQ_SIZE)));
            }
            Opcode::CREATE_SQ => {
                let context = CreateSqIn::from_prefix(input).nested(CreateSqIn::CTX);
                let wq = context.nested(Sqc::WQ);
                let (cq, log_cq) = self.rings[&context.get(Sqc::CQN)];
                self.machine.served.borrow_mut().push(SendRing {
                    sqn: self.next,
                    ring: pages(CreateSqIn::SIZE),
                    log: wq.get(Wq::LOG_WQ_SZ),
                    record: wq.get_wide(Wq::DBR_ADDR),
                    cq,
                    log_cq,
                    ..SendRing::default()
                });
            }
            _ => {}
        }
    }
}

impl CommandPort for Agreeable {
    fn post(&mut self, request: &Request) -> Result<Ticket, CommandError> {
        self.note(request);
        let mut bytes = vec![0; request.expected_output()];
        if request.opcode() == Opcode::QUERY_RQ {
            let context = Rqc::zeroed().with(Rqc::STATE, u32::from(RqState::ERR.0));
            bytes.copy_from_slice(QueryRqOut::zeroed().with_nested(QueryRqOut::RQ_CONTEXT, &context).bytes());
        } else if let Some(number) = bytes.get_mut(8..12) {
            number.copy_from_slice(&self.next.to_be_bytes());
            self.next += 1;
        }
        Ok(Ticket::answered(Ok(Output::new(bytes))))
    }

    fn wait(&mut self, ticket: Ticket, _: Deadline) -> Result<Output, CommandError> {
        ticket.take().expect("answered at once")
    }

    fn exec(&mut self, request: &Request, deadline: Deadline) -> Result<Output, CommandError> {
        self.post(request).and_then(|ticket| self.wait(ticket, deadline))
    }

    fn free_slots(&self) -> usize {
        31
    }
}

impl Objects for Agreeable {
    fn create_each(&mut self, creations: Vec<Creation>, deadline: Deadline) -> Vec<Result<Handle, CommandError>> {
        let mut log = std::mem::take(&mut self.log);
        let created = log.create_each(self, creations, deadline);
        self.log = log;
        created
    }

    fn destroy_each(&mut self, handles: Vec<Handle>, deadline: Deadline) -> Vec<Refused> {
        let mut log = std::mem::take(&mut self.log);
        let refused = log.destroy_each(self, handles, deadline);
        self.log = log;
        refused
    }

    fn exec_each(&mut self, requests: Vec<Request>, deadline: Deadline) -> Vec<Result<Output, CommandError>> {
        pipeline(self, requests, deadline)
    }
}
