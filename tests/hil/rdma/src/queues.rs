//! Queues that a user of the library makes with commands of its own, as SPDK's and DPDK's drivers do: everything is in
//! memory that the library registered, doorbells are rung in the page that it mapped, completions come by interrupt.
//!
//! ```text
//!  frame in a registered region ─► SQ ─► wire ─► root table ─► TIR ─► RQ ─► registered region of the other function
//!                                                                     └─► CQ ─► EQ ─► vector ─► eventfd
//! ```

use crate::library::{Context, EventQueue, Object, ProtectionDomain, Region, Uar, Umem, Vector};
use crate::memory::{Memory, PAGE};
use crate::{Error, Outcome, create, execute};
use firmware_iface::command::{flow::*, object::*, queue::*};
use firmware_iface::context::{Cqc, Eqc, Rqc, Sqc, Tirc, Tisc, Wq, WqType};
use firmware_iface::steering::{DestFormat, FlowAction, FlowContext, FlowDestinationType, FlowTableContext};
use hw_regs::barrier;
use hw_regs::cqe::{Cqe64, CqeOpcode};
use hw_regs::doorbell::{CqArmDoorbellMmio, EqDoorbellMmio, WqDoorbellRecord};
use hw_regs::eqe::{Eqe, EqeComp, EventType};
use hw_regs::layout::{Access, Layout};
use hw_regs::uar;
use hw_regs::wqe::{WqeCtrlSeg, WqeDataSeg, WqeEthSeg, WqeOpcode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::time::{Duration, Instant};

/// log2 of the entries of each ring.
const LOG_ENTRIES: u32 = 6;
/// Bytes of a send queue's entry.
const WQEBB: usize = 64;
/// Most that a completion is waited for; an emulated processor is slow.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a buffer.
const BUFFER: usize = 2048;
/// Where buffers begin in their memory: nowhere in particular.
const SKEW: usize = 777;
/// Buffers that are received into.
const BUFFERS: usize = 8;
/// Receive queue entries: one data segment.
const RQ_STRIDE: usize = WqeDataSeg::SIZE;
/// A doorbell record, and where in its page it is.
const RECORD: (usize, usize) = (72, 8);

/// A ring in registered memory, and its doorbell record in another.
struct Ring {
    entries: Memory,
    record: Memory,
    entries_umem: Umem,
    record_umem: Umem,
    counter: u32,
}

impl Ring {
    fn new(context: &Context, bytes: usize) -> Outcome<Ring> {
        let (entries, record) = (Memory::new(bytes.next_multiple_of(PAGE)), Memory::new(PAGE));
        let entries_umem = context.umem(&entries, 0, bytes.next_multiple_of(PAGE))?;
        // As small as a record is, and not at the start of its page.
        let record_umem = context.umem(&record, RECORD.0, RECORD.1)?;
        Ok(Ring { entries, record, entries_umem, record_umem, counter: 0 })
    }

    fn record(&self, field: u32, value: u32) {
        barrier::dma_write();
        self.record.store32(RECORD.0 + field as usize / 8, value);
    }

    fn work_queue(&self, log_stride: u32, pd: u32, uar: u32) -> Wq {
        Wq::zeroed()
            .with(Wq::WQ_TYPE, u32::from(WqType::CYCLIC.0))
            .with(Wq::PD, pd)
            .with(Wq::UAR_PAGE, uar)
            .with(Wq::LOG_WQ_STRIDE, log_stride)
            .with(Wq::LOG_WQ_SZ, LOG_ENTRIES)
            .with(Wq::WQ_UMEM_VALID, 1)
            .with(Wq::WQ_UMEM_ID, self.entries_umem.number())
            .with(Wq::DBR_UMEM_VALID, 1)
            .with(Wq::DBR_UMEM_ID, self.record_umem.number())
    }

    fn destroy(self) -> Outcome<()> {
        self.entries_umem.deregister()?;
        self.record_umem.deregister()
    }
}

/// Everything that frames need on one function.
pub struct Queues<'a> {
    context: &'a Context,
    uar: Uar,
    vector: Vector,
    eq: EventQueue,
    eqn: u32,
    events: u32,
    cq: Ring,
    cqn: u32,
    sq: Ring,
    sqn: u32,
    rq: Ring,
    buffers: Memory,
    region: Region,
    /// In the order in which they can be destroyed.
    objects: Vec<Object>,
}

impl<'a> Queues<'a> {
    /// Makes all of it; every frame that arrives is received.
    pub fn new(context: &'a Context, domain: &ProtectionDomain) -> Outcome<Queues<'a>> {
        let pd = domain.number()?;
        let (uar, vector) = (context.uar()?, context.vector()?);
        let (eq, eqn) = event_queue(context, &uar, &vector)?;
        let mut objects = Vec::new();
        let mut keep = |object| objects.push(object);

        let cq = Ring::new(context, Cqe64::SIZE << LOG_ENTRIES)?;
        for entry in 1..=1 << LOG_ENTRIES {
            // Invalid, and the device's.
            cq.entries.write(entry * Cqe64::SIZE - 1, &[0xf1]);
        }
        let cqc = Cqc::zeroed()
            .with(Cqc::LOG_CQ_SIZE, LOG_ENTRIES)
            .with(Cqc::UAR_PAGE, uar.number())
            .with(Cqc::C_EQN_OR_APU_ELEMENT, eqn)
            .with(Cqc::DBR_UMEM_VALID, 1)
            .with(Cqc::DBR_UMEM_ID, cq.record_umem.number());
        let input = CreateCqIn::zeroed()
            .with_nested(CreateCqIn::CQ_CONTEXT, &cqc)
            .with(CreateCqIn::CQ_UMEM_VALID, 1)
            .with(CreateCqIn::CQ_UMEM_ID, cq.entries_umem.number());
        let (object, output) = create(context, &input, &[])?;
        let cqn = output.get(CreateCqOut::CQN);
        keep(object);

        let (object, output) = create(context, &AllocTransportDomainIn::zeroed(), &[])?;
        let td = output.get(AllocTransportDomainOut::TRANSPORT_DOMAIN);
        keep(object);
        let tisc = Tisc::zeroed().with(Tisc::TRANSPORT_DOMAIN, td);
        let (object, output) = create(context, &CreateTisIn::zeroed().with_nested(CreateTisIn::CTX, &tisc), &[])?;
        let tisn = output.get(CreateTisOut::TISN);
        keep(object);

        let sq = Ring::new(context, WQEBB << LOG_ENTRIES)?;
        let sqc = Sqc::zeroed()
            .with(Sqc::CQN, cqn)
            .with(Sqc::TIS_LST_SZ, 1)
            .with(Sqc::TIS_NUM_0, tisn)
            .with_nested(Sqc::WQ, &sq.work_queue(WQEBB.ilog2(), pd, uar.number()));
        let (object, output) = create(context, &CreateSqIn::zeroed().with_nested(CreateSqIn::CTX, &sqc), &[])?;
        let sqn = output.get(CreateSqOut::SQN);
        keep(object);
        let ready = Sqc::zeroed().with(Sqc::STATE, 1);
        execute(context, &ModifySqIn::zeroed().with(ModifySqIn::SQN, sqn).with_nested(ModifySqIn::CTX, &ready))?;

        let rq = Ring::new(context, RQ_STRIDE << LOG_ENTRIES)?;
        let rqc = Rqc::zeroed()
            .with(Rqc::CQN, cqn)
            .with(Rqc::VSD, 1)
            .with_nested(Rqc::WQ, &rq.work_queue(RQ_STRIDE.ilog2(), pd, 0));
        let (object, output) = create(context, &CreateRqIn::zeroed().with_nested(CreateRqIn::CTX, &rqc), &[])?;
        let rqn = output.get(CreateRqOut::RQN);
        keep(object);
        let ready = Rqc::zeroed().with(Rqc::STATE, 1);
        execute(context, &ModifyRqIn::zeroed().with(ModifyRqIn::RQN, rqn).with_nested(ModifyRqIn::CTX, &ready))?;

        let tirc = Tirc::zeroed().with(Tirc::TRANSPORT_DOMAIN, td).with(Tirc::INLINE_RQN, rqn);
        let (object, output) = create(context, &CreateTirIn::zeroed().with_nested(CreateTirIn::CTX, &tirc), &[])?;
        let tirn = output.get(CreateTirOut::TIRN);
        keep(object);
        steer(context, tirn, &mut keep)?;

        // Sent from the first buffer, received into the others.
        let buffers = Memory::new(SKEW + (1 + BUFFERS) * BUFFER);
        let region = domain.register(&buffers, SKEW, (1 + BUFFERS) * BUFFER)?;
        objects.reverse();
        let mut queues =
            Queues { context, uar, vector, eq, eqn, events: 0, cq, cqn, sq, sqn, rq, buffers, region, objects };
        queues.arm_events();
        (0..BUFFERS).for_each(|_| queues.post_receive());
        Ok(queues)
    }

    fn data_segment(&self, buffer: usize, len: usize) -> WqeDataSeg {
        WqeDataSeg::zeroed()
            .with(WqeDataSeg::BYTE_COUNT, len as u32)
            .with(WqeDataSeg::LKEY, self.region.key())
            .with_wide(WqeDataSeg::ADDR, self.buffers.address(SKEW + buffer * BUFFER))
    }

    fn post_receive(&mut self) {
        let slot = self.rq.counter as usize % (1 << LOG_ENTRIES);
        let segment = self.data_segment(1 + self.rq.counter as usize % BUFFERS, BUFFER);
        self.rq.entries.write(slot * RQ_STRIDE, segment.bytes());
        self.rq.counter += 1;
        self.rq.record(WqDoorbellRecord::RCV_COUNTER.offset(), self.rq.counter & 0xffff);
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &[u8]) {
        self.arm_completions();
        self.buffers.write(SKEW, frame);
        let control = WqeCtrlSeg::zeroed()
            .with(WqeCtrlSeg::OPMOD_IDX_OPCODE_OPCODE, u32::from(WqeOpcode::SEND.0))
            .with(WqeCtrlSeg::OPMOD_IDX_OPCODE_WQE_INDEX, self.sq.counter & 0xffff)
            .with(WqeCtrlSeg::QPN_DS_QPN, self.sqn)
            .with(WqeCtrlSeg::QPN_DS_DS, 3)
            .with(WqeCtrlSeg::FM_CE_SE_COMPLETION_MODE, 2);
        let wqe = [control.bytes(), WqeEthSeg::zeroed().bytes(), self.data_segment(0, frame.len()).bytes()].concat();
        self.sq.entries.write(self.sq.counter as usize % (1 << LOG_ENTRIES) * WQEBB, &wqe);
        self.sq.counter += 1;
        self.sq.record(WqDoorbellRecord::SND_COUNTER.offset(), self.sq.counter & 0xffff);
        barrier::before_doorbell();
        let first = u64::from_be_bytes(std::array::from_fn(|n| control.0[n]));
        self.uar.write64(uar::BLUEFLAME, first);
    }

    /// Waits until the frame that was sent has left.
    pub fn sent(&mut self) -> Outcome<()> {
        let cqe = self.completion()?;
        match CqeOpcode(cqe.get(Cqe64::OP_OWN_OPCODE) as u8) {
            CqeOpcode::REQ => Ok(()),
            other => Err(Error(format!("completion {other:?} of a send"))),
        }
    }

    /// Waits for a frame.
    pub fn receive(&mut self) -> Outcome<Vec<u8>> {
        let cqe = self.completion()?;
        let opcode = CqeOpcode(cqe.get(Cqe64::OP_OWN_OPCODE) as u8);
        if opcode != CqeOpcode::RESP_SEND {
            return Err(Error(format!("completion {opcode:?} of a receive")));
        }
        let buffer = 1 + cqe.get(Cqe64::WQE_COUNTER) as usize % BUFFERS;
        let frame = self.buffers.read_vec(SKEW + buffer * BUFFER, cqe.get(Cqe64::BYTE_CNT) as usize);
        self.post_receive();
        Ok(frame)
    }

    /// Asks for an event with the next completion.
    pub fn arm_completions(&mut self) {
        let arm = CqArmDoorbellMmio::zeroed()
            .with(CqArmDoorbellMmio::ARM_SN, self.events & 3)
            .with(CqArmDoorbellMmio::ARM_CI, self.cq.counter & 0xff_ffff)
            .with(CqArmDoorbellMmio::CQN_CQN_24, self.cqn);
        self.cq.record(32, arm.get(CqArmDoorbellMmio::ARM));
        barrier::before_doorbell();
        self.uar.write64(uar::CQ_ARM, u64::from_be_bytes(arm.0));
    }

    fn arm_events(&mut self) {
        let doorbell = EqDoorbellMmio::zeroed()
            .with(EqDoorbellMmio::EQN_CI_EQN, self.eqn)
            .with(EqDoorbellMmio::EQN_CI_CI, self.events & 0xff_ffff);
        self.uar.write32(uar::EQ_ARM, doorbell.get(EqDoorbellMmio::EQN_CI));
    }

    /// The next completion; nothing is looked at before its event came.
    fn completion(&mut self) -> Outcome<Cqe64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            wait(&self.vector, deadline)?;
            let mut announced = false;
            loop {
                let slot = self.events as usize % (1 << LOG_ENTRIES);
                let eqe = Eqe::from_prefix(&self.eq.memory.read::<{ Eqe::SIZE }>(slot * Eqe::SIZE));
                if eqe.get(Eqe::OWNER_OWNER_BIT) != self.events >> LOG_ENTRIES & 1 {
                    break;
                }
                barrier::dma_read();
                let cqn = EqeComp::from_prefix(eqe.blob(Eqe::DATA)).get(EqeComp::CQN_CQN_24);
                if (EventType(eqe.get(Eqe::TYPE) as u8), cqn) != (EventType::COMP, self.cqn) {
                    return Err(Error(format!("an event that nobody asked for: {eqe:?}")));
                }
                (self.events, announced) = (self.events + 1, true);
            }
            self.arm_events();
            let slot = self.cq.counter as usize % (1 << LOG_ENTRIES);
            let cqe = Cqe64::from_prefix(&self.cq.entries.read::<{ Cqe64::SIZE }>(slot * Cqe64::SIZE));
            if announced && cqe.get(Cqe64::OP_OWN_OWNER) == self.cq.counter >> LOG_ENTRIES & 1 {
                barrier::dma_read();
                self.cq.counter += 1;
                self.cq.record(0, self.cq.counter & 0xff_ffff);
                return Ok(cqe);
            }
        }
    }

    /// Destroys all of it.
    pub fn destroy(self) -> Outcome<()> {
        for object in self.objects {
            object.destroy()?;
        }
        self.region.deregister()?;
        for ring in [self.sq, self.rq, self.cq] {
            ring.destroy()?;
        }
        self.eq.destroy()?;
        self.vector.free()?;
        self.uar.free();
        // The library's own queue is still there.
        self.context.event_queue_of(0).map(drop)
    }
}

fn event_queue(context: &Context, uar: &Uar, vector: &Vector) -> Outcome<(EventQueue, u32)> {
    let eqc = Eqc::zeroed()
        .with(Eqc::LOG_EQ_SIZE, LOG_ENTRIES)
        .with(Eqc::UAR_PAGE, uar.number())
        .with(Eqc::INTR, vector.number());
    let input = crate::input(&CreateEqIn::zeroed().with_nested(CreateEqIn::EQ_CONTEXT_ENTRY, &eqc), &[]);
    let mut output = [0; CreateEqOut::SIZE];
    let eq = context.event_queue(&input, &mut output, Eqe::SIZE << LOG_ENTRIES);
    let eq = eq.map_err(|error| crate::explained(error, &output))?;
    for entry in 1..=1 << LOG_ENTRIES {
        eq.memory.write(entry * Eqe::SIZE - 1, &[1]);
    }
    Ok((eq, CreateEqOut::from_prefix(&output).get(CreateEqOut::EQ_NUMBER)))
}

/// A root table whose only rule sends everything to a TIR.
fn steer(context: &Context, tirn: u32, keep: &mut impl FnMut(Object)) -> Outcome<()> {
    let table = FlowTableContext::zeroed();
    let input = CreateFlowTableIn::zeroed().with_nested(CreateFlowTableIn::FLOW_TABLE_CONTEXT, &table);
    let (object, output) = create(context, &input, &[])?;
    let table = output.get(CreateFlowTableOut::TABLE_ID);
    keep(object);
    let (object, output) = create(context, &CreateFlowGroupIn::zeroed().with(CreateFlowGroupIn::TABLE_ID, table), &[])?;
    let group = output.get(CreateFlowGroupOut::GROUP_ID);
    keep(object);
    let flow = FlowContext::zeroed()
        .with(FlowContext::GROUP_ID, group)
        .with(FlowContext::ACTION, FlowAction::FWD_DEST.0)
        .with(FlowContext::DESTINATION_LIST_SIZE, 1);
    let destination = DestFormat::zeroed()
        .with(DestFormat::DESTINATION_TYPE, u32::from(FlowDestinationType::TIR.0))
        .with(DestFormat::DESTINATION_ID, tirn);
    let input = SetFteIn::zeroed().with(SetFteIn::TABLE_ID, table).with_nested(SetFteIn::FLOW_CONTEXT, &flow);
    keep(create(context, &input, destination.bytes())?.0);
    execute(context, &SetFlowTableRootIn::zeroed().with(SetFlowTableRootIn::TABLE_ID, table)).map(drop)
}

/// Waits until a vector was raised.
fn wait(vector: &Vector, deadline: Instant) -> Outcome<()> {
    let events = vector.events();
    let left = deadline.saturating_duration_since(Instant::now());
    let patience = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    let mut fds = [PollFd::new(&events, PollFlags::IN)];
    match poll(&mut fds, Some(&patience)) {
        Ok(0) => Err(Error(format!("no interrupt on vector {} in {PATIENCE:?}", vector.number()))),
        Ok(_) => rustix::io::read(events, &mut [0u8; 8]).map(drop).map_err(|error| Error(error.to_string())),
        Err(error) => Err(Error(format!("poll: {error}"))),
    }
}
