//! A device as small as the tests of this module need: it creates objects, executes the work requests of control rings
//! when their doorbell rings, and translates tags into memory. It shares no code with what it tests but the layouts.
//!
//! Scripted unkindness: commands that fail or never answer, rings that stall, work requests that fail.

use crate::command::{CommandError, CommandPort, Fault, FirmwareVersion, Function, Output, Request, Ticket};
use crate::dma::{Arena, DmaError, DmaHeap, DmaMapper, Iova};
use crate::platform::{Deadline, Identity, Platform, PlatformError};
use firmware_iface::command::flow::{DeleteFteIn, SetFteIn};
use firmware_iface::command::object::{CreateCqIn, CreateMkeyIn};
use firmware_iface::command::queue::{CreateSqIn, CreateTirIn};
use firmware_iface::context::{Cqc, Mkc, Sqc, Tirc, Wq};
use firmware_iface::steering::FlowContext;
use firmware_iface::{Opcode, Status};
use hw_regs::layout::{Access, Layout};
use hw_regs::wqe::{Klm, WqeCtrlSeg, WqeMkeySeg, WqeUmrCtrlSeg};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Maps = Arc<Mutex<Vec<(u64, u64, Arc<File>)>>>;

struct Mapper(Maps);

impl DmaMapper for Mapper {
    fn map(&self, iova: Iova, arena: &Arena) -> Result<(), DmaError> {
        self.0.lock().expect("maps").push((iova.get(), arena.len() as u64, Arc::clone(arena.file())));
        Ok(())
    }
    fn unmap(&self, iova: Iova, _: u64) -> Result<(), DmaError> {
        self.0.lock().expect("maps").retain(|m| m.0 != iova.get());
        Ok(())
    }
}

#[derive(Clone, Default)]
pub(super) struct Key {
    pub free: bool,
    pub len: u64,
    pub room: usize,
    pub list: Vec<Klm>,
}

struct Sq {
    ring: u64,
    log: u32,
    record: u64,
    cqn: u32,
    consumer: u16,
}

struct Cq {
    ring: u64,
    log: u32,
    producer: u32,
}

/// What the device has been told of a TIR's offload context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Context {
    pub zero_copy: bool,
    pub crc: bool,
    pub table: u32,
    pub rqtn: u32,
    pub static_params: Vec<[u8; 64]>,
    pub progress: Vec<[u8; 16]>,
    /// Tag buffer table entry → key.
    pub tags: BTreeMap<u16, u32>,
}

#[derive(Default)]
pub(super) struct State {
    pub keys: BTreeMap<u32, Key>,
    pub tirs: BTreeMap<u32, Context>,
    pub tables: BTreeSet<u32>,
    /// Index of a flow table entry → (TIR, flow tag).
    pub rules: BTreeMap<u32, (u32, u32)>,
    sqs: BTreeMap<u32, Sq>,
    cqs: BTreeMap<u32, Cq>,
    next: u32,
    /// (opcode, how many of it succeed before one is refused).
    pub refuse: Option<(Opcode, usize)>,
    /// Rings execute nothing.
    pub stalled: bool,
    /// Work requests until one fails with this syndrome.
    pub fail_wqe: Option<(usize, u8)>,
    /// Opcodes executed, in order.
    pub commands: Vec<Opcode>,
    pub doorbells: usize,
    /// WQEs executed that asked for a completion, and all.
    pub wqes: (usize, usize),
}

impl State {
    pub fn objects(&self) -> usize {
        self.keys.len() + self.tirs.len() + self.tables.len() + self.sqs.len() + self.cqs.len()
    }
}

/// The function, as platform and as command port; clones are the same function.
#[derive(Clone)]
pub(super) struct Fake {
    maps: Maps,
    pub state: Rc<RefCell<State>>,
    now: Rc<Cell<Duration>>,
    identity: Identity,
}

impl Fake {
    pub fn new() -> Fake {
        let identity = Identity { address: "fake".into(), vendor: 0x15b3, device: 0x1021 };
        let state = State { next: 0x5000, ..State::default() };
        Fake { maps: Maps::default(), state: Rc::new(RefCell::new(state)), now: Rc::default(), identity }
    }

    pub fn heap(&self) -> DmaHeap {
        self.dma_heap()
    }

    fn dma<R>(&self, at: u64, each: impl FnOnce(&File, u64) -> R) -> R {
        let maps = self.maps.lock().expect("maps");
        let (base, _, file) = maps.iter().find(|m| (m.0..m.0 + m.1).contains(&at)).expect("a mapped address");
        each(file, at - base)
    }

    fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.dma(at, |file, offset| file.read_exact_at(&mut bytes, offset)).expect("inside the mapping");
        bytes
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.dma(at, |file, offset| file.write_all_at(bytes, offset)).expect("inside the mapping");
    }

    /// Writes payload for a tag as the receive engine would. False if the tag's key does not let it.
    pub fn place(&self, tirn: u32, tag: u16, offset: usize, bytes: &[u8]) -> bool {
        let state = self.state.borrow();
        let key = &state.keys[&(state.tirs[&tirn].tags[&tag] >> 8)];
        if key.free || (offset + bytes.len()) as u64 > key.len {
            return false;
        }
        let (mut at, mut left) = (offset, bytes);
        for entry in &key.list {
            let len = entry.get(Klm::BCOUNT) as usize;
            if at < len && !left.is_empty() {
                let n = left.len().min(len - at);
                self.write(entry.get_wide(Klm::VA) + at as u64, &left[..n]);
                (at, left) = (0, &left[n..]);
            } else {
                at -= len.min(at);
            }
        }
        left.is_empty()
    }

    /// Executes what the doorbells announced.
    fn run(&self) {
        let sqns: Vec<u32> = self.state.borrow().sqs.keys().copied().collect();
        for sqn in sqns {
            while !self.state.borrow().stalled && self.step(sqn) {}
        }
    }

    fn step(&self, sqn: u32) -> bool {
        let mut state = self.state.borrow_mut();
        let Sq { ring, log, record, cqn, consumer } = state.sqs[&sqn];
        let announced = u32::from_be_bytes(self.read(record + 4, 4).try_into().expect("4 bytes")) as u16;
        if announced == consumer {
            return false;
        }
        let at = ring + u64::from(u32::from(consumer) & ((1 << log) - 1)) * 64;
        let wqe = self.read(at, 16);
        let control = WqeCtrlSeg::from_prefix(&wqe);
        let wqe = self.read(at, control.get(WqeCtrlSeg::QPN_DS_DS) as usize * 16);
        assert_eq!(control.get(WqeCtrlSeg::QPN_DS_QPN), sqn);
        assert_eq!(control.get(WqeCtrlSeg::OPMOD_IDX_OPCODE_WQE_INDEX), u32::from(consumer));
        state.sqs.get_mut(&sqn).expect("it exists").consumer = consumer + wqe.len().div_ceil(64) as u16;
        state.wqes.1 += 1;
        let fails = state.fail_wqe.as_mut().and_then(|(left, syndrome)| match left {
            0 => Some(*syndrome),
            _ => {
                *left -= 1;
                None
            }
        });
        if fails.is_none() {
            state.execute(&control, &wqe);
        }
        let asked = control.get(WqeCtrlSeg::FM_CE_SE_COMPLETION_MODE) == 2;
        if asked || fails.is_some() {
            state.wqes.0 += 1;
            let cq = state.cqs.get_mut(&cqn).expect("a completion queue");
            let mut entry = [0; 64];
            entry[56..60].copy_from_slice(&sqn.to_be_bytes());
            entry[60..62].copy_from_slice(&consumer.to_be_bytes());
            entry[55] = fails.unwrap_or(0);
            let opcode = if fails.is_some() { 0xd0 } else { 0 };
            entry[63] = opcode | (cq.producer >> cq.log & 1) as u8;
            let to = cq.ring + u64::from(cq.producer & ((1 << cq.log) - 1)) * 64;
            cq.producer += 1;
            self.write(to, &entry);
        }
        true
    }

    fn refuse(&self, request: &Request, fault: Fault) -> CommandError {
        let function = Function { identity: self.identity.clone(), firmware: FirmwareVersion::default() };
        CommandError {
            function: Arc::new(function),
            opcode: request.opcode(),
            op_mod: request.op_mod(),
            object: request.object(),
            fault,
        }
    }
}

impl State {
    fn execute(&mut self, control: &WqeCtrlSeg, wqe: &[u8]) {
        let kind = (control.get(WqeCtrlSeg::OPMOD_IDX_OPCODE_OPCODE), control.get(WqeCtrlSeg::OPMOD_IDX_OPCODE_OPMOD));
        let id = control.get(WqeCtrlSeg::IMM) >> 8;
        let umr = WqeUmrCtrlSeg::from_prefix(&wqe[16..]);
        let entries = || wqe[128..].chunks(16).map(Klm::from_prefix);
        let first = umr.get(WqeUmrCtrlSeg::XLT_OFFSET) as usize;
        match kind {
            (0, _) => {}
            (0x25, 0) => {
                let key = self.keys.get_mut(&id).expect("a key");
                let context = WqeMkeySeg::from_prefix(&wqe[64..]);
                let mask = umr.get_wide(WqeUmrCtrlSeg::MKEY_MASK);
                if mask & 1 << 29 != 0 {
                    key.free = context.get(WqeMkeySeg::STATUS_FREE) != 0;
                }
                if mask & 1 != 0 {
                    key.len = context.get_wide(WqeMkeySeg::LEN);
                }
                let count = umr.get(WqeUmrCtrlSeg::XLT_OCTOWORDS) as usize;
                assert!(first + count <= key.room, "{count} entries at {first} of {}", key.room);
                key.list.resize(key.room, Klm::zeroed());
                for (n, entry) in entries().take(count).enumerate() {
                    key.list[first + n] = entry;
                }
            }
            (0x25, 2) if umr.is_set(WqeUmrCtrlSeg::FLAGS_TRANSLATION_OFFSET_EN) => {
                let tir = self.tirs.get_mut(&id).expect("a TIR");
                for (n, entry) in entries().enumerate().filter(|(_, e)| e.get(Klm::BCOUNT) != 0) {
                    tir.tags.insert((first + n) as u16, entry.get(Klm::KEY));
                }
            }
            (0x25, 2) => {
                let params = wqe[128..192].try_into().expect("64 bytes");
                self.tirs.get_mut(&id).expect("a TIR").static_params.push(params);
            }
            (0x20, 4) => {
                let tirn = u32::from_be_bytes(wqe[16..20].try_into().expect("4 bytes"));
                let params = wqe[16..32].try_into().expect("16 bytes");
                self.tirs.get_mut(&tirn).expect("a TIR").progress.push(params);
            }
            other => panic!("a work request {other:x?}"),
        }
    }

    fn command(&mut self, request: &Request) -> Result<u32, Status> {
        let input = request.input();
        let number = u32::from_be_bytes(input[8..12].try_into().expect("4 bytes"));
        let pages = |at: usize| u64::from_be_bytes(input[at..at + 8].try_into().expect("8 bytes"));
        let new = self.next;
        self.next += 1;
        match request.opcode() {
            Opcode::CREATE_CQ => {
                let context = CreateCqIn::from_prefix(input).nested(CreateCqIn::CQ_CONTEXT);
                let log = context.get(Cqc::LOG_CQ_SIZE);
                self.cqs.insert(new, Cq { ring: pages(CreateCqIn::SIZE), log, producer: 0 });
            }
            Opcode::CREATE_SQ => {
                let context = CreateSqIn::from_prefix(input).nested(CreateSqIn::CTX);
                assert!(context.is_set(Sqc::REG_UMR) && !context.is_set(Sqc::TIS_LST_SZ));
                let (wq, cqn) = (context.nested(Sqc::WQ), context.get(Sqc::CQN));
                let (log, record) = (wq.get(Wq::LOG_WQ_SZ), wq.get_wide(Wq::DBR_ADDR));
                self.sqs.insert(new, Sq { ring: pages(CreateSqIn::SIZE), log, record, cqn, consumer: 0 });
            }
            Opcode::MODIFY_SQ => {}
            Opcode::CREATE_MKEY => {
                let context = CreateMkeyIn::from_prefix(input).nested(CreateMkeyIn::MEMORY_KEY_MKEY_ENTRY);
                assert!(context.is_set(Mkc::UMR_EN) && context.is_set(Mkc::LW));
                let room = context.get(Mkc::TRANSLATIONS_OCTWORD_SIZE) as usize;
                self.keys.insert(new, Key { free: context.is_set(Mkc::FREE), len: 0, room, list: Vec::new() });
            }
            Opcode::CREATE_TIR => {
                let context = CreateTirIn::from_prefix(input).nested(CreateTirIn::CTX);
                let table = context.get(Tirc::NVMEOTCP_TAG_BUFFER_TABLE_ID);
                assert!(self.tables.contains(&table));
                let tir = Context {
                    zero_copy: context.is_set(Tirc::NVMEOTCP_ZERO_COPY_EN),
                    crc: context.is_set(Tirc::NVMEOTCP_CRC_EN),
                    table,
                    rqtn: context.get(Tirc::INDIRECT_TABLE),
                    ..Context::default()
                };
                self.tirs.insert(new, tir);
            }
            Opcode::CREATE_GENERAL_OBJECT => {
                self.tables.insert(new);
            }
            Opcode::DESTROY_GENERAL_OBJECT => {
                if self.tirs.values().any(|tir| tir.table == number) {
                    return Err(Status::BAD_RES_STATE_ERR);
                }
                assert!(self.tables.remove(&number));
            }
            Opcode::DESTROY_CQ => {
                if self.sqs.values().any(|sq| sq.cqn == number) {
                    return Err(Status::BAD_RES_STATE_ERR);
                }
                assert!(self.cqs.remove(&number).is_some());
            }
            Opcode::DESTROY_SQ => assert!(self.sqs.remove(&number).is_some()),
            Opcode::DESTROY_TIR => {
                if self.rules.values().any(|rule| rule.0 == number) {
                    return Err(Status::BAD_RES_STATE_ERR);
                }
                assert!(self.tirs.remove(&number).is_some());
            }
            Opcode::SET_FLOW_TABLE_ENTRY => {
                let rule = SetFteIn::from_prefix(input);
                let tag = rule.nested(SetFteIn::FLOW_CONTEXT).get(FlowContext::FLOW_TAG);
                let tirn = u32::from_be_bytes(input[SetFteIn::SIZE..][..4].try_into().expect("a destination"));
                self.rules.insert(rule.get(SetFteIn::FLOW_INDEX), (tirn & 0xff_ffff, tag));
            }
            Opcode::DELETE_FLOW_TABLE_ENTRY => {
                assert!(self.rules.remove(&DeleteFteIn::from_prefix(input).get(DeleteFteIn::FLOW_INDEX)).is_some());
            }
            Opcode::CREATE_FLOW_TABLE | Opcode::CREATE_FLOW_GROUP | Opcode::SET_FLOW_TABLE_ROOT => {}
            Opcode::DESTROY_MKEY => assert!(self.keys.remove(&number).is_some()),
            other => panic!("a command {other}"),
        }
        Ok(new)
    }
}

impl CommandPort for Fake {
    fn post(&mut self, request: &Request) -> Result<Ticket, CommandError> {
        let mut state = self.state.borrow_mut();
        let opcode = request.opcode();
        if let Some((refused, left)) = &mut state.refuse
            && *refused == opcode
        {
            if *left == 0 {
                let fault = Fault::Status { status: Status::NO_RES_ERR, syndrome: 0xbad };
                return Ok(Ticket::answered(Err(self.refuse(request, fault))));
            }
            *left -= 1;
        }
        state.commands.push(opcode);
        let answer = state.command(request).map(|number| {
            let mut bytes = vec![0; request.expected_output()];
            bytes[8..12].copy_from_slice(&number.to_be_bytes());
            Output::new(bytes)
        });
        Ok(Ticket::answered(answer.map_err(|status| self.refuse(request, Fault::Status { status, syndrome: 0 }))))
    }

    fn wait(&mut self, ticket: Ticket, _: Deadline) -> Result<Output, CommandError> {
        ticket.take().expect("answered at once")
    }

    fn exec(&mut self, request: &Request, deadline: Deadline) -> Result<Output, CommandError> {
        let ticket = self.post(request)?;
        self.wait(ticket, deadline)
    }

    fn free_slots(&self) -> usize {
        31
    }
}

impl Platform for Fake {
    fn identity(&self) -> &Identity {
        &self.identity
    }
    fn bar_size(&self) -> u64 {
        32 << 20
    }
    fn read32(&self, _: u64) -> u32 {
        0
    }
    fn write32(&self, _: u64, _: u32) {}
    fn write64(&self, _: u64, _: u64) {
        self.state.borrow_mut().doorbells += 1;
        self.run();
    }
    fn dma_mapper(&self) -> Arc<dyn DmaMapper> {
        Arc::new(Mapper(Arc::clone(&self.maps)))
    }
    fn iova_ranges(&self) -> Vec<RangeInclusive<u64>> {
        vec![0..=u64::MAX >> 16]
    }
    fn reset(&self) -> Result<(), PlatformError> {
        let next = self.state.borrow().next;
        *self.state.borrow_mut() = State { next, ..State::default() };
        Ok(())
    }
    fn vectors(&self) -> u16 {
        0
    }
    fn take_interrupt(&self, _: u16) -> bool {
        false
    }
    fn now(&self) -> Duration {
        self.now.get()
    }
    fn pause(&self) {
        self.now.set(self.now.get() + Duration::from_micros(50));
        self.run();
    }
}
