//! A function without a device behind it: registers, DMA memory that the fuzzer writes as a device would, a clock, and
//! firmware that says yes to everything.

use connectx_ddp::adapter::{Handle, ObjectLog};
use connectx_ddp::command::{CommandError, ObjectKind, Output, Request};
use connectx_ddp::ddp::create::ManyObjects;
use connectx_ddp::dma::{Arena, DmaBuf, DmaError, DmaHeap, DmaMapper, Iova, IovaAllocator};
use connectx_ddp::platform::{Deadline, Identity, Platform, PlatformError};
use connectx_ddp::queue::Objects;
use firmware_iface::Opcode;
use firmware_iface::command::queue::QueryRqOut;
use firmware_iface::context::{RqState, Rqc};
use hw_regs::layout::{Access, Layout};
use hw_regs::wqe::WqeCtrlSeg;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const IOVA: RangeInclusive<u64> = 0..=u64::MAX >> 16;

/// DMA memory from the device's side.
#[derive(Default)]
pub struct Memory(Mutex<BTreeMap<u64, (u64, Arc<File>)>>);

impl DmaMapper for Memory {
    fn map(&self, iova: Iova, arena: &Arena) -> Result<(), DmaError> {
        self.0.lock().expect("lock").insert(iova.get(), (arena.len() as u64, Arc::clone(arena.file())));
        Ok(())
    }
    fn unmap(&self, iova: Iova, _: u64) -> Result<(), DmaError> {
        self.0.lock().expect("lock").remove(&iova.get());
        Ok(())
    }
}

impl Memory {
    fn find(&self, at: u64, len: usize) -> (Arc<File>, u64) {
        let map = self.0.lock().expect("lock");
        let (base, (size, file)) = map.range(..=at).next_back().expect("an address that is mapped");
        assert!(at + len as u64 <= base + size, "{len} bytes at {at:#x} leave the mapping at {base:#x}");
        (Arc::clone(file), at - base)
    }

    pub fn read<const N: usize>(&self, at: u64) -> [u8; N] {
        let (file, offset) = self.find(at, N);
        let mut bytes = [0; N];
        file.read_exact_at(&mut bytes, offset).expect("memory");
        bytes
    }

    pub fn write(&self, at: u64, bytes: &[u8]) {
        let (file, offset) = self.find(at, bytes.len());
        file.write_all_at(bytes, offset).expect("memory");
    }

    /// True if a device can reach these bytes.
    pub fn reaches(&self, at: u64, len: usize) -> bool {
        let map = self.0.lock().expect("lock");
        let found = map.range(..=at).next_back();
        found.is_some_and(|(base, (size, _))| at - base < *size && len as u64 <= size - (at - base))
    }

    /// Gives the pages of all memory back to the system: nobody uses them any more, but some are never freed.
    fn empty(&self) {
        for (_, file) in self.0.lock().expect("lock").values() {
            file.set_len(0).expect("a memory file");
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

/// An object that firmware was asked for.
#[derive(Clone, Debug)]
pub struct Made {
    pub kind: ObjectKind,
    pub number: u32,
    /// Device address and bytes of the memory that came with it.
    pub memory: Vec<(u64, usize)>,
}

/// Firmware that says yes, and serves every send ring until somebody takes it away ([`Machine::served`]).
pub struct Agreeable {
    machine: Arc<Machine>,
    log: ObjectLog,
    made: Vec<Made>,
}

impl Agreeable {
    pub fn new(machine: &Arc<Machine>) -> Agreeable {
        Agreeable { machine: Arc::clone(machine), log: ObjectLog::default(), made: Vec::new() }
    }

    fn make(&mut self, kind: ObjectKind, destroy: impl FnOnce(u32) -> Request, memory: &[&DmaBuf]) -> Handle {
        let number = 0x100 + self.made.len() as u32;
        let places = memory.iter().map(|piece| (piece.iova().get(), piece.len())).collect();
        self.made.push(Made { kind, number, memory: places });
        if kind == ObjectKind::Sq {
            let (sq, cq) = (self.last(ObjectKind::Sq), self.last(ObjectKind::Cq));
            let log = |bytes: usize| (bytes / 64).trailing_zeros();
            let ring = SendRing {
                sqn: number,
                ring: sq.memory[0].0,
                log: log(sq.memory[0].1),
                record: sq.memory[1].0,
                cq: cq.memory[0].0,
                log_cq: log(cq.memory[0].1),
                ..SendRing::default()
            };
            self.machine.served.borrow_mut().push(ring);
        }
        self.log.record(kind, number, destroy(number), memory)
    }

    /// The last object of a kind.
    pub fn last(&self, kind: ObjectKind) -> &Made {
        self.made.iter().rev().find(|made| made.kind == kind).expect("an object of the kind")
    }

    /// Forgets all objects, as a reset does.
    pub fn forget(&mut self) {
        self.log.forget();
    }
}

impl Objects for Agreeable {
    fn create(
        &mut self,
        kind: ObjectKind,
        _: &Request,
        destroy: impl FnOnce(u32) -> Request,
        memory: &[&DmaBuf],
        _: Deadline,
    ) -> Result<Handle, CommandError> {
        Ok(self.make(kind, destroy, memory))
    }

    fn destroy(&mut self, _: Handle, _: Deadline) -> Result<(), CommandError> {
        Ok(())
    }

    fn exec(&mut self, request: &Request, _: Deadline) -> Result<Output, CommandError> {
        let mut bytes = vec![0; request.expected_output()];
        if request.opcode() == Opcode::QUERY_RQ {
            let context = Rqc::zeroed().with(Rqc::STATE, u32::from(RqState::ERR.0));
            let answer = QueryRqOut::zeroed().with_nested(QueryRqOut::RQ_CONTEXT, &context);
            bytes.copy_from_slice(answer.bytes());
        }
        Ok(Output::new(bytes))
    }
}

impl ManyObjects for Agreeable {
    fn create_many(
        &mut self,
        kind: ObjectKind,
        requests: impl IntoIterator<Item = Request>,
        destroy: impl Fn(u32) -> Request,
        _: Deadline,
    ) -> Result<Vec<Handle>, CommandError> {
        Ok(requests.into_iter().map(|_| self.make(kind, &destroy, &[])).collect())
    }

    fn destroy_many(&mut self, _: Vec<Handle>, _: Deadline) -> Vec<CommandError> {
        Vec::new()
    }
}
