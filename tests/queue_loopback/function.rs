//! A virtual function with just enough brought up for queues: no pages, one event queue, one memory key.

use connectx_ddp::adapter::ObjectLog;
use connectx_ddp::command::{CommandPort, CommandQueue, ObjectKind, Request, call};
use connectx_ddp::dma::{Arena, DmaBuf, DmaError, DmaHeap, DmaMapper, Iova};
use connectx_ddp::platform::{Deadline, Identity, Platform, PlatformError};
use connectx_ddp::queue::{Base, Logged};
use firmware_iface::caps::CapMode;
use firmware_iface::caps::groups::{CapGroup, FlowTableNicCap, FlowTablePropLayout};
use firmware_iface::command::device::{EnableHcaIn, InitHcaIn, QueryHcaCapIn, QueryHcaCapOut, SetIssiIn};
use firmware_iface::command::object::{
    AllocPdIn, AllocPdOut, AllocTransportDomainIn, AllocTransportDomainOut, AllocUarIn, AllocUarOut, CreateEqIn,
    CreateEqOut, CreateMkeyIn, CreateMkeyOut, DeallocPdIn, DeallocTransportDomainIn, DeallocUarIn, DestroyEqIn,
    DestroyMkeyIn,
};
use firmware_iface::context::{Eqc, Mkc};
use hw_regs::doorbell::EqDoorbellMmio;
use hw_regs::eqe::{Eqe, EqeComp};
use hw_regs::layout::{Access, Layout};
use hw_regs::uar;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use virtual_nic::{Config, VirtualNic};

/// The virtual function's address.
pub const MAC: [u8; 6] = [0x02, 0x00, 0x00, 0xc7, 0x00, 0x01];
/// Low byte of the memory key.
const KEY_TAG: u32 = 0x5a;
const LOG_EQ: u32 = 6;

/// The virtual function as a platform. Time passes only while somebody waits.
pub struct InProcess {
    identity: Identity,
    pub nic: Arc<Mutex<VirtualNic>>,
    nanoseconds: AtomicU64,
}

impl InProcess {
    fn nic(&self) -> std::sync::MutexGuard<'_, VirtualNic> {
        self.nic.lock().expect("no panic while the device works")
    }
}

struct Mapper(Arc<Mutex<VirtualNic>>);

impl DmaMapper for Mapper {
    fn map(&self, iova: Iova, arena: &Arena) -> Result<(), DmaError> {
        let mut nic = self.0.lock().expect("no panic while the device works");
        nic.dma_map(iova.get(), arena.file(), arena.len() as u64).map_err(|error| DmaError::Map {
            iova,
            bytes: arena.len() as u64,
            cause: error.to_string(),
            advice: "look at the model",
        })
    }
    fn unmap(&self, iova: Iova, len: u64) -> Result<(), DmaError> {
        let mut nic = self.0.lock().expect("no panic while the device works");
        nic.dma_unmap(iova.get(), len).expect("it was mapped");
        Ok(())
    }
}

impl Platform for InProcess {
    fn identity(&self) -> &Identity {
        &self.identity
    }
    fn bar_size(&self) -> u64 {
        self.nic().bar_size()
    }
    fn read32(&self, offset: u64) -> u32 {
        self.nic().read32(offset)
    }
    fn write32(&self, offset: u64, value: u32) {
        self.nic().write32(offset, value);
    }
    fn write64(&self, offset: u64, value: u64) {
        self.nic().write64(offset, value);
    }
    fn dma_mapper(&self) -> Arc<dyn DmaMapper> {
        Arc::new(Mapper(Arc::clone(&self.nic)))
    }
    fn iova_ranges(&self) -> Vec<RangeInclusive<u64>> {
        vec![0..=u64::MAX >> 16]
    }
    fn reset(&self) -> Result<(), PlatformError> {
        self.nic().reset();
        Ok(())
    }
    fn vectors(&self) -> u16 {
        self.nic().vectors()
    }
    fn take_interrupt(&self, _: u16) -> bool {
        false
    }
    fn now(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed))
    }
    fn pause(&self) {
        self.nanoseconds.fetch_add(1000, Ordering::Relaxed);
        let now = self.now();
        self.nic().advance(now);
    }
}

/// The function and what queues are built on.
pub struct Function {
    pub platform: Arc<InProcess>,
    pub base: Base,
    pub eqn: u32,
    pub receive_tables: FlowTablePropLayout,
    commands: CommandQueue<InProcess>,
    log: ObjectLog,
    eq: DmaBuf,
    eq_consumer: u32,
}

impl Function {
    /// Brings a function up.
    pub fn new() -> Function {
        let mut config = Config::default();
        (config.pages.boot, config.pages.init, config.pages.objects_per_page) = (0, 0, 0);
        config.switches.strict_arm_sequence = true;
        let nic = Arc::new(Mutex::new(VirtualNic::new(config)));
        let identity = Identity { address: "virtual".into(), vendor: 0x15b3, device: 0x1021 };
        let platform = Arc::new(InProcess { identity, nic, nanoseconds: AtomicU64::new(0) });
        let heap = platform.dma_heap();
        let deadline = deadline(&platform);
        let mut commands = CommandQueue::start(Arc::clone(&platform), &heap, deadline).expect("a command queue");
        call(&mut commands, &EnableHcaIn::zeroed(), deadline).expect("enabled");
        call(&mut commands, &SetIssiIn::zeroed().with(SetIssiIn::CURRENT_ISSI, 1), deadline).expect("ISSI 1");
        call(&mut commands, &InitHcaIn::zeroed(), deadline).expect("initialized");
        let receive_tables = receive_tables(&mut commands, deadline);
        let mut log = ObjectLog::default();
        let (base, eqn, eq) = objects(&mut commands, &mut log, heap, deadline);
        Function { platform, base, eqn, receive_tables, commands, log, eq, eq_consumer: 0 }
    }

    pub fn deadline(&self) -> Deadline {
        deadline(&self.platform)
    }

    /// Creates and destroys objects.
    pub fn objects(&mut self) -> Logged<'_> {
        Logged { port: &mut self.commands, log: &mut self.log }
    }

    /// The device.
    pub fn nic(&self) -> std::sync::MutexGuard<'_, VirtualNic> {
        self.platform.nic()
    }

    /// Puts a frame on the wire towards the function.
    pub fn receive(&self, frame: &[u8]) {
        self.nic().receive(frame);
    }

    /// Numbers of the CQs whose events came since the last call.
    pub fn events(&mut self) -> Vec<u32> {
        let mut cqns = Vec::new();
        loop {
            let at = (self.eq_consumer & ((1 << LOG_EQ) - 1)) as usize * Eqe::SIZE;
            let lap = (self.eq_consumer >> LOG_EQ) as u8 & 1;
            if self.eq.load_acquire(at + Eqe::SIZE - 1) & 1 != lap {
                break;
            }
            let eqe = Eqe(self.eq.read_array(at));
            cqns.push(EqeComp::from_prefix(eqe.blob(Eqe::DATA)).get(EqeComp::CQN_CQN_24));
            self.eq_consumer += 1;
        }
        let word = EqDoorbellMmio::zeroed()
            .with(EqDoorbellMmio::EQN_CI_EQN, self.eqn)
            .with(EqDoorbellMmio::EQN_CI_CI, self.eq_consumer);
        let register = uar::offset(self.base.uar, uar::EQ_ARM);
        self.platform.write32(register, word.get(EqDoorbellMmio::EQN_CI));
        cqns
    }

    /// Destroys everything that is left, and checks that the driver asked for nothing that a driver should not.
    pub fn finish(mut self) {
        let deadline = self.deadline();
        let refused = self.log.destroy_all(&mut self.commands, deadline);
        assert!(refused.is_empty(), "{refused:?}");
        let nic = self.nic();
        assert_eq!(nic.inventory().held.total(), 0, "{}", nic.inventory());
        assert_eq!(nic.counters().misuse, Default::default());
        assert_eq!(nic.counters().commands_refused, 0);
    }
}

fn deadline(platform: &Arc<InProcess>) -> Deadline {
    Deadline::after(&**platform, Duration::from_secs(1))
}

fn receive_tables(port: &mut dyn CommandPort, deadline: Deadline) -> FlowTablePropLayout {
    let op_mod = CapGroup::FLOW_TABLE.query_op_mod(CapMode::Current);
    let input = QueryHcaCapIn::zeroed().with(QueryHcaCapIn::OP_MOD, op_mod.into());
    let output = port.exec(&Request::new(&input), deadline).expect("capabilities");
    assert_eq!(output.bytes().len(), QueryHcaCapOut::SIZE);
    let caps = FlowTableNicCap::from_prefix(output.tail(16));
    caps.nested(FlowTableNicCap::FLOW_TABLE_PROPERTIES_NIC_RECEIVE)
}

/// UAR, protection domain, transport domain, the key of all memory, and an event queue.
fn objects(port: &mut dyn CommandPort, log: &mut ObjectLog, heap: DmaHeap, deadline: Deadline) -> (Base, u32, DmaBuf) {
    let uar = call(port, &AllocUarIn::zeroed(), deadline).expect("UAR").get(AllocUarOut::UAR);
    log.record(ObjectKind::Uar, uar, |uar| Request::new(&DeallocUarIn::zeroed().with(DeallocUarIn::UAR, uar)), &[]);
    let pd = call(port, &AllocPdIn::zeroed(), deadline).expect("PD").get(AllocPdOut::PD);
    log.record(ObjectKind::Pd, pd, |pd| Request::new(&DeallocPdIn::zeroed().with(DeallocPdIn::PD, pd)), &[]);
    let domain = call(port, &AllocTransportDomainIn::zeroed(), deadline).expect("transport domain");
    let domain = domain.get(AllocTransportDomainOut::TRANSPORT_DOMAIN);
    let gone = DeallocTransportDomainIn::zeroed().with(DeallocTransportDomainIn::TRANSPORT_DOMAIN, domain);
    log.record(ObjectKind::TransportDomain, domain, move |_| Request::new(&gone), &[]);
    let context = Mkc::zeroed()
        .with(Mkc::LR, 1)
        .with(Mkc::LW, 1)
        .with(Mkc::LENGTH64, 1)
        .with(Mkc::QPN, 0xff_ffff)
        .with(Mkc::MKEY_7_0, KEY_TAG)
        .with(Mkc::PD, pd);
    let input = CreateMkeyIn::zeroed().with_nested(CreateMkeyIn::MEMORY_KEY_MKEY_ENTRY, &context);
    let index = call(port, &input, deadline).expect("mkey").get(CreateMkeyOut::MKEY_INDEX);
    let gone = DestroyMkeyIn::zeroed().with(DestroyMkeyIn::MKEY_INDEX, index);
    log.record(ObjectKind::Mkey, index, move |_| Request::new(&gone), &[]);
    let eq = heap.allocate(Eqe::SIZE << LOG_EQ, 4096).expect("memory");
    for entry in 1..=1 << LOG_EQ {
        eq.write(entry * Eqe::SIZE - 1, &[1]);
    }
    let context = Eqc::zeroed().with(Eqc::LOG_EQ_SIZE, LOG_EQ).with(Eqc::UAR_PAGE, uar);
    let input = CreateEqIn::zeroed().with_nested(CreateEqIn::EQ_CONTEXT_ENTRY, &context);
    let output = port.exec(&Request::new(&input).pages(&eq), deadline).expect("EQ");
    let eqn = output.decode::<CreateEqOut>().get(CreateEqOut::EQ_NUMBER);
    let gone = DestroyEqIn::zeroed().with(DestroyEqIn::EQ_NUMBER, eqn);
    log.record(ObjectKind::Eq, eqn, move |_| Request::new(&gone), &[&eq]);
    let base = Base { heap, pd, uar, transport_domain: domain, data_mkey: index << 8 | KEY_TAG };
    (base, eqn, eq)
}
