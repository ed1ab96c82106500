//! A function without hardware for the tests of queues: memory that nothing is mapped to, registers that only remember.

pub(crate) use super::cq::tests::{Producer, cq};
pub(crate) use super::rq::tests::queue_of as rq;
use crate::adapter::{Creation, Handle, Logged, ObjectLog, Objects, Refused};
use crate::command::{
    CommandError, CommandPort, Fault, FirmwareVersion, Function, ObjectKind, Output, Request, Ticket,
};
use crate::dma::{Arena, DmaError, DmaHeap, DmaMapper, Iova, IovaAllocator};
use crate::platform::{Deadline, Identity, Platform, PlatformError};
use crate::queue::Base;
use firmware_iface::{Opcode, Status};
use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

struct NoMapper;

impl DmaMapper for NoMapper {
    fn map(&self, _: Iova, _: &Arena) -> Result<(), DmaError> {
        Ok(())
    }
    fn unmap(&self, _: Iova, _: u64) -> Result<(), DmaError> {
        Ok(())
    }
}

/// DMA memory that no device sees.
pub(crate) fn heap() -> DmaHeap {
    DmaHeap::new(Arc::new(NoMapper), IovaAllocator::new(&[0..=u64::MAX >> 16]))
}

/// The handle of an object that no firmware knows.
pub(crate) fn handle(kind: ObjectKind, number: u32) -> Handle {
    ObjectLog::default().record(kind, number, |_| Request::from_bytes(&[], 0), &[])
}

/// What test queues are built on.
pub(crate) fn base() -> Base {
    Base { heap: heap(), pd: 0x11, uar: 16, transport_domain: 0x22, data_mkey: 0x3300 }
}

/// A moment that never comes.
pub(crate) fn deadline() -> Deadline {
    Deadline::after(&TestPlatform::new(), Duration::from_secs(1))
}

/// Firmware that agrees to everything, numbers objects from 0x100 on, and can be told to refuse one command.
#[derive(Default)]
pub(crate) struct TestFirmware {
    /// Every command that it was sent, in order.
    pub(crate) requests: Vec<Request>,
    /// Refuse the command with this index.
    pub(crate) refuse: Option<usize>,
    /// State that QUERY_SQ and QUERY_RQ report.
    pub(crate) queue_state: u8,
}

impl TestFirmware {
    /// The opcodes that it was sent, in order.
    pub(crate) fn opcodes(&self) -> Vec<Opcode> {
        self.requests.iter().map(Request::opcode).collect()
    }
}

impl CommandPort for TestFirmware {
    fn post(&mut self, request: &Request) -> Result<Ticket, CommandError> {
        let index = self.requests.len();
        self.requests.push(request.clone());
        if self.refuse == Some(index) {
            let identity = Identity { address: "test".into(), vendor: 0x15b3, device: 0x1021 };
            return Err(CommandError {
                function: Arc::new(Function { identity, firmware: FirmwareVersion::default() }),
                opcode: request.opcode(),
                op_mod: request.op_mod(),
                object: request.object(),
                fault: Fault::Status { status: Status::LIM_ERR, syndrome: 0x1234 },
            });
        }
        let mut bytes = vec![0; request.expected_output()];
        bytes[8..12].copy_from_slice(&(0x100 + index as u32).to_be_bytes());
        if [Opcode::QUERY_SQ, Opcode::QUERY_RQ].contains(&request.opcode()) {
            bytes[33] = self.queue_state << 4;
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
        1
    }
}

/// Test firmware with a log of its objects.
#[derive(Default)]
pub(crate) struct TestObjects {
    pub(crate) firmware: TestFirmware,
    pub(crate) log: ObjectLog,
}

impl TestObjects {
    fn logged(&mut self) -> Logged<'_> {
        Logged { port: &mut self.firmware, log: &mut self.log }
    }
}

impl Objects for TestObjects {
    fn create_each(&mut self, creations: Vec<Creation>, deadline: Deadline) -> Vec<Result<Handle, CommandError>> {
        self.logged().create_each(creations, deadline)
    }
    fn destroy_each(&mut self, handles: Vec<Handle>, deadline: Deadline) -> Vec<Refused> {
        self.logged().destroy_each(handles, deadline)
    }
    fn exec_each(&mut self, requests: Vec<Request>, deadline: Deadline) -> Vec<Result<Output, CommandError>> {
        self.logged().exec_each(requests, deadline)
    }
}

/// A function whose registers remember what was written.
pub(crate) struct TestPlatform {
    identity: Identity,
    /// (offset, value) of every register write, in order.
    pub(crate) writes: RefCell<Vec<(u64, u64)>>,
    now: Cell<Duration>,
}

impl TestPlatform {
    pub(crate) fn new() -> TestPlatform {
        let identity = Identity { address: "test".into(), vendor: 0x15b3, device: 0x1021 };
        TestPlatform { identity, writes: RefCell::default(), now: Cell::default() }
    }
}

impl Platform for TestPlatform {
    fn identity(&self) -> &Identity {
        &self.identity
    }
    fn bar_size(&self) -> u64 {
        32 << 20
    }
    fn read32(&self, _: u64) -> u32 {
        0
    }
    fn write32(&self, offset: u64, value: u32) {
        self.writes.borrow_mut().push((offset, u64::from(value)));
    }
    fn write64(&self, offset: u64, value: u64) {
        self.writes.borrow_mut().push((offset, value));
    }
    fn dma_mapper(&self) -> Arc<dyn DmaMapper> {
        Arc::new(NoMapper)
    }
    fn iova_ranges(&self) -> Vec<RangeInclusive<u64>> {
        vec![0..=u64::MAX >> 16]
    }
    fn reset(&self) -> Result<(), PlatformError> {
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
        self.now.set(self.now.get() + Duration::from_micros(1));
    }
}
