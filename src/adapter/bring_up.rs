//! Bring-up, step by step; the numbers are those of `mlx5-bringup.md` §3.

use super::base::{Base, Stage};
use super::capabilities::Capabilities;
use super::eq::EventQueue;
use super::health::Monitor;
use super::objects::Creation;
use super::{Adapter, AdapterError, Config, port};
use crate::command::{CommandPort, ObjectKind, Request, call};
use crate::platform::{Deadline, Platform};
use firmware_iface::caps::{CapGroup, CapMode, CmdHcaCap, NVMEOTCP_GROUP};
use firmware_iface::command::device::{
    EnableHcaIn, InitHcaIn, QueryAdapterIn, QueryAdapterOut, QueryAdapterParamBlock, QueryHcaCapIn, QueryHcaCapOut,
    QueryIssiIn, QueryIssiOut, QueryPagesOpMod, QuerySpecialContextsIn, QuerySpecialContextsOut, SetHcaCapIn,
    SetIssiIn,
};
use firmware_iface::command::object::{
    AllocPdIn, AllocTransportDomainIn, AllocUarIn, CreateMkeyIn, DeallocPdIn, DeallocTransportDomainIn, DeallocUarIn,
    DestroyMkeyIn,
};
use firmware_iface::context::{AccessMode, Mkc};
use firmware_iface::register::{RegisterHostEndianness, RegisterId};
use firmware_iface::{Opcode, Status};
use hw_regs::eqe::EventType;
use hw_regs::layout::{Access, Layout};
use hw_regs::uar::UAR_SIZE;
use std::sync::Arc;

/// Interface step that this driver speaks.
const ISSI: u32 = 1;
/// First UAR that lies behind the initialization segment.
const FIRST_UAR: u32 = 2;
/// Low byte of the data mkey; the driver chooses it (`mlx5-bringup.md` §4).
const DATA_MKEY_VARIANT: u32 = 0;
/// Key that ends a scatter list where the function names none (`mlx5-bringup.md` §8.3).
const TERMINATE_MKEY: u32 = 0x100;
/// log2 of the entries of the EQs: commands, asynchronous events, pages, completions (`mlx5-numbers.md`).
const LOG_COMMAND_EQ: u32 = 8;
const LOG_ASYNC_EQ: u32 = 13;
const LOG_PAGES_EQ: u32 = 8;
const LOG_COMPLETION_EQ: u32 = 11;
/// Vector of all EQs but those of completions.
const CONTROL_VECTOR: u16 = 0;

/// Events that the asynchronous EQ asks for whatever the capabilities are.
const ASYNC_EVENTS: [EventType; 7] = [
    EventType::SQ_DRAINED,
    EventType::CQ_ERROR,
    EventType::WQ_CATAS_ERROR,
    EventType::PORT_CHANGE,
    EventType::WQ_INVAL_REQ_ERROR,
    EventType::WQ_ACCESS_ERROR,
    EventType::SRQ_CATAS_ERROR,
];

pub(super) fn is_virtual_function(device: u16) -> bool {
    super::model::of(device).is_some_and(|model| model.virtual_function)
}

/// Steps 1 to 27. On failure everything done so far is undone, by a reset if it cannot be done in order.
pub(super) fn bring_up<P: Platform>(platform: Arc<P>, config: Config) -> Result<Adapter<P>, AdapterError> {
    let mut base = Base::start(platform, &config)?;
    match steps(&mut base, &config) {
        Ok(parts) => Ok(Adapter { base, parts, monitor: Monitor::default(), config }),
        Err(error) => {
            log::warn!("{error}: undoing the bring-up");
            base.undo(&config);
            Err(error)
        }
    }
}

/// What a bring-up finds and creates.
pub(super) struct Parts {
    pub capabilities: Capabilities,
    pub psid: String,
    pub uar: u32,
    pub async_eq: EventQueue,
    pub completion_eqs: Vec<EventQueue>,
    pub pd: u32,
    pub transport_domain: u32,
    pub data_mkey: u32,
    pub reserved_lkey: Option<u32>,
    pub terminate_mkey: u32,
    pub mac: [u8; 6],
    pub max_mtu: u16,
}

fn steps<P: Platform>(base: &mut Base<P>, config: &Config) -> Result<Parts, AdapterError> {
    let platform = Arc::clone(&base.platform);
    let deadline = || Deadline::after(&*platform, config.command_timeout);
    let virtual_function = is_virtual_function(platform.identity().device);

    enable(base, &deadline)?;

    // 8. Host byte order: registers that firmware writes for us. Only a physical function may say.
    if !virtual_function {
        let little = RegisterHostEndianness::zeroed();
        port::access_register(base, RegisterId::HOST_ENDIANNESS, true, &little, deadline())?;
    }

    // 9. and 10. Capabilities: what is, with what we need changed.
    let maximum = query_caps(base, CapGroup::GENERAL, CapMode::Maximum, deadline())?;
    let current = query_caps(base, CapGroup::GENERAL, CapMode::Current, deadline())?;
    log::debug!("{}: maximum {:?}", base.function(), CmdHcaCap::from_prefix(&maximum));
    let mut general = CmdHcaCap::from_prefix(&current);
    // UAR pages are 4 KiB, 2^0 of them together.
    general.set(CmdHcaCap::LOG_UAR_PAGE_SZ, 0);
    // Signatures of mailboxes are not checked.
    general.set(CmdHcaCap::CMDIF_CHECKSUM, 0);
    // 0 stands for 128 partition keys, the least.
    general.set(CmdHcaCap::PKEY_TABLE_SIZE, 0);
    let mut input = SetHcaCapIn::zeroed().with(SetHcaCapIn::OP_MOD, u32::from(CapGroup::GENERAL.0 << 1));
    let page = input.blob_mut(SetHcaCapIn::CAPABILITY);
    page.copy_from_slice(&current);
    page[..CmdHcaCap::SIZE].copy_from_slice(general.bytes());
    call(&mut base.firmware, &input, deadline())?;

    initialize(base, &deadline)?;

    // 15. Capabilities as they are now, and who made the card.
    let capabilities = query_all_caps(base, &deadline)?;
    let general = capabilities.general();
    let answer = call(&mut base.firmware, &QueryAdapterIn::zeroed(), deadline())?;
    let psid = psid(&answer.nested(QueryAdapterOut::QUERY_ADAPTER_STRUCT));

    // 16. A page of doorbell registers.
    let uar = allocate_uar(base, deadline())?;

    // 17. The command EQ; from here on completions of commands are events.
    if config.command_events {
        let eq = create_eq(base, LOG_COMMAND_EQ, uar, CONTROL_VECTOR, &[EventType::CMD], deadline())?;
        eq.arm(&*platform);
        base.firmware.command_eq = Some(eq);
        base.firmware.queue.use_events(true);
    }

    // 18. The asynchronous EQ, and the one on which firmware asks for pages.
    let mut events = ASYNC_EVENTS.to_vec();
    for (capability, event) in [
        (CmdHcaCap::PORT_MODULE_EVENT, EventType::PORT_MODULE_EVENT),
        (CmdHcaCap::TEMP_WARN_EVENT, EventType::TEMP_WARN_EVENT),
        (CmdHcaCap::GENERAL_NOTIFICATION_EVENT, EventType::GENERAL_EVENT),
    ] {
        if general.is_set(capability) {
            events.push(event);
        }
    }
    let async_eq = create_eq(base, LOG_ASYNC_EQ, uar, CONTROL_VECTOR, &events, deadline())?;
    async_eq.arm(&*platform);
    if !general.is_set(CmdHcaCap::PAGE_REQUEST_DISABLE) {
        let eq = create_eq(base, LOG_PAGES_EQ, uar, CONTROL_VECTOR, &[EventType::PAGE_REQUEST], deadline())?;
        eq.arm(&*platform);
        base.firmware.pages_eq = Some(eq);
    }

    // 19. Protection domain, transport domain, and a key to all memory that the IOMMU lets the function see.
    let request = Request::new(&AllocPdIn::zeroed());
    let destroy = |pd| Request::new(&DeallocPdIn::zeroed().with(DeallocPdIn::PD, pd));
    let pd = base.create(Creation::new(ObjectKind::Pd, request, destroy), deadline())?.number();
    let request = Request::new(&AllocTransportDomainIn::zeroed());
    let destroy =
        |td| Request::new(&DeallocTransportDomainIn::zeroed().with(DeallocTransportDomainIn::TRANSPORT_DOMAIN, td));
    let creation = Creation::new(ObjectKind::TransportDomain, request, destroy);
    let transport_domain = base.create(creation, deadline())?.number();
    let data_mkey = create_data_mkey(base, pd, deadline())?;
    let (reserved_lkey, terminate_mkey) = special_contexts(base, &general, deadline())?;

    // 20. One completion EQ per vector that is left.
    let vectors = platform.vectors();
    let completion_vectors =
        if vectors > 1 { 1..vectors.min(config.completion_eqs.max(1).saturating_add(1)) } else { 0..1 };
    let mut completion_eqs = Vec::new();
    for vector in completion_vectors {
        let eq = create_eq(base, LOG_COMPLETION_EQ, uar, vector, &[], deadline())?;
        eq.arm(&*platform);
        completion_eqs.push(eq);
    }

    // 25. and 26. MAC address, MTU, port up.
    let permanent = port::permanent_mac(base, deadline())?;
    let mac = config.mac.unwrap_or(permanent);
    if mac == [0; 6] || mac[0] & 1 != 0 {
        return Err(AdapterError::Config {
            function: base.function(),
            option: "mac",
            value: format!("{mac:02x?}"),
            allowed: "a unicast address is needed: the function has none, so set Config::mac".to_owned(),
        });
    }
    let (hardware_mtu, max_mtu) = port::set_mtu(base, config.mtu, deadline())?;
    port::set_vport(base, mac, mac != permanent, hardware_mtu, deadline())?;
    port::set_l2_table(base, &general, mac, deadline())?;
    port::set_port_up(base, deadline())?;

    // 27. Link.
    if let Some(patience) = config.link_timeout {
        port::wait_link(base, Deadline::after(&*platform, patience), config.command_timeout)?;
    }

    Ok(Parts {
        capabilities,
        psid,
        uar,
        async_eq,
        completion_eqs,
        pd,
        transport_domain,
        data_mkey,
        reserved_lkey,
        terminate_mkey,
        mac,
        max_mtu,
    })
}

/// Steps 5 to 7: the function becomes ours, and firmware has what it needs to answer.
pub(super) fn enable<P: Platform>(base: &mut Base<P>, deadline: &dyn Fn() -> Deadline) -> Result<(), AdapterError> {
    // 5. ENABLE_HCA: the function becomes ours.
    let input = EnableHcaIn::zeroed().with(EnableHcaIn::EMBEDDED_CPU_FUNCTION, u32::from(base.embedded_cpu()));
    call(&mut base.firmware, &input, deadline())?;
    base.stage = Stage::Enabled;

    // 6. ISSI: which revision of the interface is spoken.
    let issi: QueryIssiOut = call(&mut base.firmware, &QueryIssiIn::zeroed(), deadline())?;
    if issi.get(QueryIssiOut::SUPPORTED_ISSI_DW0) & 1 << ISSI == 0 {
        return Err(AdapterError::Unsupported {
            function: base.function(),
            what: format!("interface step {ISSI} is not supported"),
            advice: "update the firmware",
        });
    }
    call(&mut base.firmware, &SetIssiIn::zeroed().with(SetIssiIn::CURRENT_ISSI, ISSI), deadline())?;

    // 7. Boot pages.
    startup_pages(base, QueryPagesOpMod::BOOT_PAGES, deadline())
}

/// Steps 12 to 14: the function runs; objects may exist.
pub(super) fn initialize<P: Platform>(base: &mut Base<P>, deadline: &dyn Fn() -> Deadline) -> Result<(), AdapterError> {
    // 12. Init pages.
    startup_pages(base, QueryPagesOpMod::INIT_PAGES, deadline())?;

    // 13. INIT_HCA. Objects may exist from here on, even if its completion is lost.
    base.stage = Stage::Initialized;
    call(&mut base.firmware, &InitHcaIn::zeroed(), deadline()).inspect_err(|error| {
        if !error.may_still_run() {
            base.stage = Stage::Enabled;
        }
    })?;

    // 14. Regular pages. Linux does not ask here, so that firmware may not know the question; what it needs it demands later.
    let unknown = |status| matches!(status, Some(Status::BAD_OP_ERR | Status::BAD_PARAM_ERR));
    match startup_pages(base, QueryPagesOpMod::REGULAR_PAGES, deadline()) {
        Err(AdapterError::Command(error)) if error.opcode == Opcode::QUERY_PAGES && unknown(error.status()) => {
            log::debug!("{error}");
            Ok(())
        }
        asked => asked,
    }
}

/// A page of doorbell registers.
pub(super) fn allocate_uar<P: Platform>(base: &mut Base<P>, deadline: Deadline) -> Result<u32, AdapterError> {
    let destroy = |uar| Request::new(&DeallocUarIn::zeroed().with(DeallocUarIn::UAR, uar));
    let creation = Creation::new(ObjectKind::Uar, Request::new(&AllocUarIn::zeroed()), destroy);
    let (uar, bar) = (base.create(creation, deadline)?.number(), base.platform.bar_size());
    if uar < FIRST_UAR || (u64::from(uar) + 1) * UAR_SIZE > bar {
        return Err(base.bad_answer(format!("UAR {uar:#x} is outside BAR0 of {bar:#x} bytes")));
    }
    Ok(uar)
}

fn startup_pages<P: Platform>(
    base: &mut Base<P>,
    stage: QueryPagesOpMod,
    deadline: Deadline,
) -> Result<(), AdapterError> {
    match base.firmware.give_startup_pages(stage, deadline) {
        Ok(pages) => {
            log::debug!("{}: {pages} pages given for {stage}", base.function());
            Ok(())
        }
        Err(super::PageError::Command(error)) => Err(error.into()),
        Err(error) => Err(AdapterError::Pages { function: base.function(), error }),
    }
}

/// One capability page, 4096 bytes.
fn query_caps<P: Platform>(
    base: &mut Base<P>,
    group: CapGroup,
    mode: CapMode,
    deadline: Deadline,
) -> Result<Vec<u8>, AdapterError> {
    let input = QueryHcaCapIn::zeroed().with(QueryHcaCapIn::OP_MOD, u32::from(group.query_op_mod(mode)));
    let output = call(&mut base.firmware, &input, deadline)?;
    Ok(output.blob(QueryHcaCapOut::CAPABILITY).to_vec())
}

/// Every group that the general one advertises and that the driver or a report reads.
fn query_all_caps<P: Platform>(
    base: &mut Base<P>,
    deadline: &dyn Fn() -> Deadline,
) -> Result<Capabilities, AdapterError> {
    let mut capabilities = Capabilities::default();
    let page = query_caps(base, CapGroup::GENERAL, CapMode::Current, deadline())?;
    let general = CmdHcaCap::from_prefix(&page);
    capabilities.insert(CapGroup::GENERAL, page);
    for (advertised, group) in [
        (CmdHcaCap::ETH_NET_OFFLOADS, CapGroup::ETHERNET_OFFLOADS),
        (CmdHcaCap::NIC_FLOW_TABLE, CapGroup::FLOW_TABLE),
        (CmdHcaCap::HCA_CAP_2, CapGroup::GENERAL_2),
        (CmdHcaCap::NVMEOTCP, NVMEOTCP_GROUP),
    ] {
        if general.is_set(advertised) {
            let page = query_caps(base, group, CapMode::Current, deadline())?;
            capabilities.insert(group, page);
        }
    }
    Ok(capabilities)
}

/// The board's parameter set id, printable.
fn psid(block: &QueryAdapterParamBlock) -> String {
    let bytes = (0..QueryAdapterParamBlock::VSD_CONTD_PSID.len())
        .map(|index| block.get_at(QueryAdapterParamBlock::VSD_CONTD_PSID, index) as u8);
    bytes
        .take_while(|byte| *byte != 0)
        .map(|byte| if byte.is_ascii_graphic() { char::from(byte) } else { '?' })
        .collect()
}

fn create_eq<P: Platform>(
    base: &mut Base<P>,
    log_size: u32,
    uar: u32,
    vector: u16,
    events: &[EventType],
    deadline: Deadline,
) -> Result<EventQueue, AdapterError> {
    let ring = base.memory("an event queue", EventQueue::ring(&base.heap, log_size))?;
    let request = EventQueue::create(&ring, log_size, uar, vector, events);
    let creation = Creation::new(ObjectKind::Eq, request, EventQueue::destroy).holding(&[&ring]);
    let handle = base.create(creation, deadline)?;
    // Doorbells carry 8 bits.
    let number = u8::try_from(handle.number())
        .map_err(|_| base.bad_answer(format!("EQ number {:#x} has more than 8 bits", handle.number())))?;
    Ok(EventQueue::new(ring, log_size, number, uar))
}

/// The whole address space: under an IOMMU, what is mapped (`mlx5-bringup.md` §4).
fn create_data_mkey<P: Platform>(base: &mut Base<P>, pd: u32, deadline: Deadline) -> Result<u32, AdapterError> {
    let context = Mkc::zeroed()
        .with(Mkc::ACCESS_MODE_1_0, u32::from(AccessMode::PA.0))
        .with(Mkc::LENGTH64, 1)
        .with(Mkc::LR, 1)
        .with(Mkc::LW, 1)
        .with(Mkc::QPN, Mkc::QPN.max())
        .with(Mkc::MKEY_7_0, DATA_MKEY_VARIANT)
        .with(Mkc::PD, pd);
    let input = CreateMkeyIn::zeroed().with_nested(CreateMkeyIn::MEMORY_KEY_MKEY_ENTRY, &context);
    let destroy = |index| Request::new(&DestroyMkeyIn::zeroed().with(DestroyMkeyIn::MKEY_INDEX, index));
    let handle = base.create(Creation::new(ObjectKind::Mkey, Request::new(&input), destroy), deadline)?;
    Ok(handle.number() << 8 | DATA_MKEY_VARIANT)
}

/// The reserved key, if firmware tells, and the key that ends a scatter list.
fn special_contexts<P: Platform>(
    base: &mut Base<P>,
    general: &CmdHcaCap,
    deadline: Deadline,
) -> Result<(Option<u32>, u32), AdapterError> {
    let request = Request::new(&QuerySpecialContextsIn::zeroed());
    let answer: QuerySpecialContextsOut = match base.firmware.exec(&request, deadline) {
        Ok(output) => output.decode(),
        Err(error) if error.status() == Some(Status::BAD_OP_ERR) => return Ok((None, TERMINATE_MKEY)),
        Err(error) => return Err(error.into()),
    };
    let terminate = match general.is_set(CmdHcaCap::TERMINATE_SCATTER_LIST_MKEY) {
        true => answer.get(QuerySpecialContextsOut::TERMINATE_SCATTER_LIST_MKEY),
        false => TERMINATE_MKEY,
    };
    Ok((Some(answer.get(QuerySpecialContextsOut::RESD_LKEY)), terminate))
}
