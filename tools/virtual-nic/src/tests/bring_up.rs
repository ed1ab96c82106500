//! | property | test |
//! |---|---|
//! | the sequence of `mlx5-bringup.md` §3 ends in traffic-ready objects, its reverse in nothing held | `up_and_down_leaves_nothing` |
//! | commands out of order are refused, each with its own syndrome | `commands_out_of_order_are_refused` |
//! | the initialization segment reads as documented, also after the queue address was written | `the_initialization_segment_reads_as_documented` |
//! | 8-byte registers may arrive as two 4-byte writes | `halves_of_a_register_are_put_together` |
//! | SET_HCA_CAP is stored, and bounded by the maximum | `capabilities_are_stored_and_bounded` |
//! | the offload's group exists only behind its general bit | `the_offload_group_hides_behind_its_bit` |
//! | FLR forgets objects, pages and answers under way; the function starts again | `reset_forgets_everything` |
//! | software reset through the interface field: all forgotten, disabled until the queue address is written | `software_reset_disables_the_interface` |
//! | a function that is gone reads all ones and does nothing | `a_gone_function_reads_all_ones` |
//! | objects that TEARDOWN_HCA finds are reported | `forgotten_objects_are_reported` |
//! | registers of the port do what they say; foreign ones are refused | `port_registers_answer` |
//! | vport lists, promiscuous mode and MTU are kept | `the_vport_keeps_what_it_is_told` |

use super::host::Host;
use crate::capabilities::Capabilities;
use crate::reject::Reject;
use crate::{Config, PageDemand, refusal};
use firmware_iface::caps::groups::{FlowTableNicCap, NvmeotcpCap};
use firmware_iface::caps::{CapGroup, CapMode, CmdHcaCap, NVMEOTCP_GROUP};
use firmware_iface::command::{OutHeader, device::*, object::*, queue::*, vport::*};
use firmware_iface::context::*;
use firmware_iface::register::*;
use firmware_iface::vport::{ModifyNicVportFieldSelect, NicVportContext, VportState};
use firmware_iface::{Opcode, Status};
use hw_regs::eqe::EventType;
use hw_regs::init_segment::HealthSyndrome;
use hw_regs::layout::{Access, Layout};
use hw_regs::uar;
use std::time::Duration;

pub(crate) fn answer(reject: Reject) -> (Status, u32) {
    (reject.status, reject.syndrome.0)
}

fn cap<T: Layout>(host: &mut Host, group: CapGroup, mode: CapMode) -> T {
    let input = QueryHcaCapIn::zeroed().with(QueryHcaCapIn::OP_MOD, u32::from(group.query_op_mod(mode)));
    let output: QueryHcaCapOut = host.exec(Opcode::QUERY_HCA_CAP, &input);
    T::from_prefix(output.blob(QueryHcaCapOut::CAPABILITY))
}

#[test]
fn up_and_down_leaves_nothing() {
    let mut host = Host::running(Config::default());
    let eq = host.create_eq(3, 8, &[EventType::PORT_CHANGE, EventType::PAGE_REQUEST]);
    let cq = host.create_cq(eq.number, 4, 128);
    let tis = host.create_tis();
    let sq = host.create_sq(cq.number, 4, Some(tis));
    let rq = host.create_rq(cq.number, 4, 4, |_| {});
    let rqt = host.create_rqt(&[rq.number]);
    let tir = host.create_tir(&Tirc::zeroed().with(Tirc::DISP_TYPE, 1).with(Tirc::INDIRECT_TABLE, rqt));
    let (table, group) = host.steer_all(tir, 7);
    let state: QueryVportStateOut = host.exec(Opcode::QUERY_VPORT_STATE, &QueryVportStateIn::zeroed());
    assert_eq!(state.get(QueryVportStateOut::STATE), u32::from(VportState::UP.0));

    let inventory = host.nic.inventory();
    assert_eq!(inventory.pages, 262);
    assert_eq!(inventory.held.total(), 14);
    assert!(inventory.to_string().contains("1 TIR(s)"), "{inventory}");

    use firmware_iface::command::flow::*;
    host.destroy(Opcode::DELETE_FLOW_TABLE_ENTRY, &DeleteFteIn::zeroed().with(DeleteFteIn::TABLE_ID, table));
    let group = DestroyFlowGroupIn::zeroed()
        .with(DestroyFlowGroupIn::TABLE_ID, table)
        .with(DestroyFlowGroupIn::GROUP_ID, group);
    host.destroy(Opcode::DESTROY_FLOW_GROUP, &group);
    host.destroy(Opcode::DESTROY_FLOW_TABLE, &DestroyFlowTableIn::zeroed().with(DestroyFlowTableIn::TABLE_ID, table));
    host.destroy(Opcode::DESTROY_TIR, &DestroyTirIn::zeroed().with(DestroyTirIn::TIRN, tir));
    host.destroy(Opcode::DESTROY_RQT, &DestroyRqtIn::zeroed().with(DestroyRqtIn::RQTN, rqt));
    host.destroy(Opcode::DESTROY_RQ, &DestroyRqIn::zeroed().with(DestroyRqIn::RQN, rq.number));
    host.destroy(Opcode::DESTROY_SQ, &DestroySqIn::zeroed().with(DestroySqIn::SQN, sq.number));
    host.destroy(Opcode::DESTROY_TIS, &DestroyTisIn::zeroed().with(DestroyTisIn::TISN, tis));
    host.destroy(Opcode::DESTROY_CQ, &DestroyCqIn::zeroed().with(DestroyCqIn::CQN, cq.number));
    host.destroy(Opcode::DESTROY_EQ, &DestroyEqIn::zeroed().with(DestroyEqIn::EQ_NUMBER, eq.number));
    host.destroy(Opcode::DESTROY_MKEY, &DestroyMkeyIn::zeroed().with(DestroyMkeyIn::MKEY_INDEX, host.key >> 8));
    let td = DeallocTransportDomainIn::zeroed().with(DeallocTransportDomainIn::TRANSPORT_DOMAIN, host.td);
    host.destroy(Opcode::DEALLOC_TRANSPORT_DOMAIN, &td);
    host.destroy(Opcode::DEALLOC_PD, &DeallocPdIn::zeroed().with(DeallocPdIn::PD, host.pd));
    host.destroy(Opcode::DEALLOC_UAR, &DeallocUarIn::zeroed().with(DeallocUarIn::UAR, host.uar));
    assert_eq!(host.nic.inventory().held.total(), 0);

    host.destroy(Opcode::TEARDOWN_HCA, &TeardownHcaIn::zeroed());
    let mut taken = Vec::new();
    loop {
        let pages = host.take(100);
        if pages.is_empty() {
            break;
        }
        taken.extend(pages);
    }
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken.len(), 262);
    host.destroy(Opcode::DISABLE_HCA, &DisableHcaIn::zeroed());
    assert!(host.nic.inventory().is_empty(), "{}", host.nic.inventory());
    assert_eq!(host.nic.counters().misuse, crate::counters::Misuse::default());
}

#[test]
fn commands_out_of_order_are_refused() {
    let mut host = Host::new(Config::default());
    let refused = |host: &mut Host, opcode| host.refused_plain(opcode);
    assert_eq!(refused(&mut host, Opcode::QUERY_ISSI), answer(refusal::NOT_ENABLED));
    assert_eq!(refused(&mut host, Opcode::ALLOC_PD), answer(refusal::NOT_ENABLED));
    assert_eq!(refused(&mut host, Opcode::DISABLE_HCA), answer(refusal::NOT_ENABLED));
    host.exec::<_, OutHeader>(Opcode::ENABLE_HCA, &EnableHcaIn::zeroed());
    assert_eq!(refused(&mut host, Opcode::ENABLE_HCA), answer(refusal::ALREADY_ENABLED));
    let other = EnableHcaIn::zeroed().with(EnableHcaIn::FUNCTION_ID, 1);
    assert_eq!(host.refused(Opcode::ENABLE_HCA, &other, &[]), answer(refusal::OTHER_FUNCTION));
    let issi = SetIssiIn::zeroed().with(SetIssiIn::CURRENT_ISSI, 2);
    assert_eq!(host.refused(Opcode::SET_ISSI, &issi, &[]), answer(refusal::ISSI_UNSUPPORTED));
    assert_eq!(refused(&mut host, Opcode::QUERY_HCA_CAP), answer(refusal::BOOT_PAGES_MISSING));
    assert_eq!(refused(&mut host, Opcode::INIT_HCA), answer(refusal::BOOT_PAGES_MISSING));
    host.give_pages(6);
    assert_eq!(refused(&mut host, Opcode::INIT_HCA), answer(refusal::INIT_PAGES_MISSING));
    assert_eq!(refused(&mut host, Opcode::TEARDOWN_HCA), answer(refusal::NOT_INITIALIZED));
    host.give_pages(256);
    assert_eq!(refused(&mut host, Opcode::CREATE_TIS), answer(refusal::NOT_INITIALIZED));
    host.exec::<_, OutHeader>(Opcode::INIT_HCA, &InitHcaIn::zeroed());
    assert_eq!(refused(&mut host, Opcode::INIT_HCA), answer(refusal::ALREADY_INITIALIZED));
    // ISSI 0 has no Ethernet queue objects, and it is too late now.
    assert_eq!(refused(&mut host, Opcode::CREATE_TIS), answer(refusal::ISSI_REQUIRED));
    assert_eq!(refused(&mut host, Opcode::SET_ISSI), answer(refusal::ISSI_TOO_LATE));
    assert_eq!(refused(&mut host, Opcode::SET_HCA_CAP), answer(refusal::CAP_TOO_LATE));
    assert_eq!(refused(&mut host, Opcode::DISABLE_HCA), answer(refusal::STILL_INITIALIZED));
    let profile = TeardownHcaIn::zeroed().with(TeardownHcaIn::PROFILE, 9);
    assert_eq!(host.refused(Opcode::TEARDOWN_HCA, &profile, &[]), answer(refusal::TEARDOWN_PROFILE));
    host.exec::<_, TeardownHcaOut>(Opcode::TEARDOWN_HCA, &TeardownHcaIn::zeroed());
    assert_eq!(refused(&mut host, Opcode::ALLOC_PD), answer(refusal::TORN_DOWN));
    assert_eq!(refused(&mut host, Opcode::ENABLE_HCA), answer(refusal::TORN_DOWN));
    assert_eq!(host.refused_plain(Opcode(0x7ff)), answer(refusal::OPCODE));
}

#[test]
fn the_initialization_segment_reads_as_documented() {
    let config = Config { boot_time: Duration::from_secs(1), ..Config::default() };
    let mut nic = crate::VirtualNic::new(config);
    assert_eq!(nic.read32(0), 39 << 16 | 28);
    assert_eq!(nic.read32(4), 5 << 16 | 1002);
    assert_eq!(nic.read32(0x1fc), 3 << 30, "busy; firmware may be reset");
    assert_eq!(nic.next_event(), Some(Duration::from_secs(1)));
    nic.advance(Duration::from_secs(1));
    assert_eq!(nic.read32(0x1fc), 1 << 30);
    assert_eq!(nic.next_event(), None);
    assert_eq!(nic.read32(0x14), 0x56);
    nic.write32(0x10, 0x12);
    nic.write32(0x14, 0x3456_7000);
    assert_eq!((nic.read32(0x10), nic.read32(0x14)), (0x12, 0x3456_7056));
    nic.write32(0x14, 0x3456_7100);
    assert_eq!(nic.read32(0x14), 0x3456_7156, "the interface field reads back");
    assert_eq!(nic.read32(0x200 + 48), 28 << 24 | 39 << 16 | 1002);
    let first = nic.read32(0x1010);
    assert_ne!(nic.read32(0x1010), first, "the health counter moves");
    let health = |nic: &mut crate::VirtualNic| (nic.read32(0x200 + 56) >> 31, nic.read32(0x200 + 60) >> 16 & 0xff);
    nic.report_syndrome(HealthSyndrome::HIGH_TEMP_ERR);
    assert_eq!(health(&mut nic), (0, 0x10), "nobody has to reset");
    nic.set_health(HealthSyndrome::FW_INTERNAL_ERR);
    assert_eq!(health(&mut nic), (1, 1));
    assert_eq!(nic.read32(0xffc), 0);
    assert_eq!(nic.read32(nic.bar_size()), u32::MAX);
    assert_eq!(nic.read32(u64::MAX - 3), u32::MAX);
    assert_eq!((nic.device_id(), nic.vectors()), (0x1021, 64));
}

#[test]
fn halves_of_a_register_are_put_together() {
    let mut host = Host::running(Config::default());
    let mut eq = host.create_eq(0, 4, &[]);
    let cq = host.create_cq(eq.number, 2, 64);
    let mut cq = cq;
    let sq = host.create_sq(cq.number, 4, None);
    let mut sq = sq;
    let arm = uar::offset(host.uar, uar::CQ_ARM);
    host.nic.write32(arm, 0);
    assert_eq!(host.nic.counters().cq_doorbells, 0);
    host.nic.write32(arm + 4, cq.number);
    assert_eq!(host.nic.counters().cq_doorbells, 1);
    let mut nop = [0; 16];
    (nop[7], nop[11]) = (1, 8);
    host.post_send(&mut sq, &nop);
    host.write32(sq.record + 4, sq.counter);
    // The second register of the page, and then the rest of a BlueFlame burst, which rings nothing.
    let register = uar::offset(host.uar, uar::BLUEFLAME) + 512;
    host.nic.write32(register, 0);
    host.nic.write32(register + 4, sq.number << 8);
    host.nic.write64(register + 8, u64::MAX);
    assert_eq!(host.nic.counters().sq_doorbells, 1);
    assert!(host.next_cqe(&mut cq).is_some());
    assert!(host.next_event(&mut eq).is_some());
    assert_eq!(host.nic.counters().misuse, crate::counters::Misuse::default());
    // Doorbells of another UAR, of no UAR, and for no object are counted.
    host.nic.write64(uar::offset(host.uar + 1, uar::BLUEFLAME), 0);
    host.nic.write64(uar::offset(host.uar, uar::BLUEFLAME), 0x1234 << 8);
    host.nic.write32(uar::offset(host.uar, uar::EQ_ARM), 0xff00_0000);
    host.nic.write32(uar::offset(host.uar, 0x100), 0);
    let misuse = &host.nic.counters().misuse;
    assert_eq!((misuse.uar_not_allocated, misuse.doorbell_object, misuse.unknown_register), (1, 2, 1));
}

#[test]
fn capabilities_are_stored_and_bounded() {
    let mut host = Host::new(Config::default());
    host.exec::<_, OutHeader>(Opcode::ENABLE_HCA, &EnableHcaIn::zeroed());
    host.give_pages(6);
    let current: CmdHcaCap = cap(&mut host, CapGroup::GENERAL, CapMode::Current);
    assert_eq!(current.get(CmdHcaCap::CMDIF_CHECKSUM), 3);
    let wanted = current.with(CmdHcaCap::CMDIF_CHECKSUM, 0).with(CmdHcaCap::LOG_UAR_PAGE_SZ, 0);
    let mut input = SetHcaCapIn::zeroed();
    input.blob_mut(SetHcaCapIn::CAPABILITY)[..CmdHcaCap::SIZE].copy_from_slice(wanted.bytes());
    host.exec::<_, SetHcaCapOut>(Opcode::SET_HCA_CAP, &input);
    assert_eq!(cap::<CmdHcaCap>(&mut host, CapGroup::GENERAL, CapMode::Current), wanted);
    assert_eq!(cap::<CmdHcaCap>(&mut host, CapGroup::GENERAL, CapMode::Maximum).get(CmdHcaCap::CMDIF_CHECKSUM), 3);
    let beyond = wanted.with(CmdHcaCap::ROCE, 1);
    input.blob_mut(SetHcaCapIn::CAPABILITY)[..CmdHcaCap::SIZE].copy_from_slice(beyond.bytes());
    assert_eq!(host.refused(Opcode::SET_HCA_CAP, &input, &[]), answer(refusal::CAP_BEYOND_MAXIMUM));
    let flow: FlowTableNicCap = cap(&mut host, CapGroup::FLOW_TABLE, CapMode::Current);
    assert!(flow.bytes().iter().any(|byte| *byte != 0));
    let odd =
        QueryHcaCapIn::zeroed().with(QueryHcaCapIn::OP_MOD, u32::from(CapGroup::IPSEC.query_op_mod(CapMode::Maximum)));
    assert_eq!(host.refused(Opcode::QUERY_HCA_CAP, &odd, &[]), answer(refusal::CAP_GROUP));
}

#[test]
fn the_offload_group_hides_behind_its_bit() {
    for offers in [true, false] {
        let mut capabilities = Capabilities::connectx7();
        capabilities.edit::<CmdHcaCap>(|caps| caps.set(CmdHcaCap::NVMEOTCP, u32::from(offers)));
        let mut host = Host::new(Config { capabilities, ..Config::default() });
        host.exec::<_, OutHeader>(Opcode::ENABLE_HCA, &EnableHcaIn::zeroed());
        host.give_pages(6);
        if offers {
            let caps: NvmeotcpCap = cap(&mut host, NVMEOTCP_GROUP, CapMode::Current);
            assert!(caps.is_set(NvmeotcpCap::ZEROCOPY) && caps.is_set(NvmeotcpCap::CRC_RX));
        } else {
            let op_mod = NVMEOTCP_GROUP.query_op_mod(CapMode::Current);
            let input = QueryHcaCapIn::zeroed().with(QueryHcaCapIn::OP_MOD, u32::from(op_mod));
            assert_eq!(host.refused(Opcode::QUERY_HCA_CAP, &input, &[]), answer(refusal::CAP_GROUP));
        }
    }
}

#[test]
fn reset_forgets_everything() {
    let mut host = Host::running(Config { command_latency: Duration::ZERO, ..Config::default() });
    host.create_eq(0, 4, &[]);
    host.nic.faults().next(Opcode::NOP, crate::CommandFault::Late(Duration::from_secs(1)));
    let posted = host.post(4, &[8, 0xd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 16);
    host.ring(1 << 4);
    assert_eq!(host.nic.next_event(), Some(Duration::from_secs(1)));
    host.nic.reset();
    assert!(host.nic.inventory().is_empty());
    assert_eq!(host.nic.next_event(), None);
    host.nic.advance(Duration::from_secs(2));
    assert!(!host.done(&posted), "the answer died with the reset");
    assert_eq!(host.nic.read32(0x10), 0);
    host.ring(1 << 4);
    assert!(!host.done(&posted), "there is no command queue");
    host.start_command_queue();
    host.start();
    assert_eq!(host.nic.inventory().pages, 262);
}

#[test]
fn software_reset_disables_the_interface() {
    let mut host = Host::running(Config::default());
    host.nic.write32(0x14, 0x700);
    assert!(host.nic.inventory().is_empty());
    assert_eq!(host.nic.read32(0x14) >> 8 & 7, 1);
    host.ring(1);
    assert_eq!(host.nic.counters().misuse.command_slot, 1);
    host.start_command_queue();
    assert_eq!(host.nic.read32(0x14) >> 8 & 7, 0);
    host.start();
}

#[test]
fn a_gone_function_reads_all_ones() {
    let mut host = Host::running(Config::default());
    host.nic.faults().set_gone(true);
    assert_eq!(host.nic.read32(0), u32::MAX);
    let posted = host.post(0, &[0; 16], 16);
    host.ring(1);
    host.nic.receive(&[0xff; 64]);
    assert!(!host.done(&posted));
    assert_eq!(host.nic.counters().rx_frames, 0);
    host.nic.faults().set_gone(false);
    host.ring(1);
    assert!(host.done(&posted));
}

#[test]
fn forgotten_objects_are_reported() {
    let mut host =
        Host::running(Config { pages: PageDemand { boot: 0, init: 0, ..PageDemand::default() }, ..Config::default() });
    host.exec::<_, TeardownHcaOut>(Opcode::TEARDOWN_HCA, &TeardownHcaIn::zeroed());
    assert_eq!(host.take(10), [0u64; 0]);
    host.destroy(Opcode::DISABLE_HCA, &DisableHcaIn::zeroed());
    let inventory = host.nic.inventory();
    assert_eq!((inventory.held.total(), inventory.abandoned.total(), inventory.abandoned.pds), (0, 4, 1));
    assert!(!inventory.is_empty());
    host.nic.reset();
    assert!(host.nic.inventory().is_empty());
}

fn register<T: Layout>(host: &mut Host, id: RegisterId, write: bool, value: &T) -> (OutHeader, T) {
    let input = AccessRegisterIn::zeroed()
        .with(AccessRegisterIn::OP_MOD, u32::from(!write))
        .with(AccessRegisterIn::REGISTER_ID, u32::from(id.0));
    let output = host.send(Opcode::ACCESS_REG, &[input.bytes(), value.bytes()].concat(), 16 + T::SIZE);
    (OutHeader::from_prefix(&output), T::from_prefix(&output[16..]))
}

#[test]
fn port_registers_answer() {
    let mut host = Host::running(Config::default());
    let mut eq = host.create_eq(1, 4, &[EventType::PORT_CHANGE]);
    let pmtu = PmtuReg::zeroed().with(PmtuReg::LOCAL_PORT, 1);
    let (_, read) = register(&mut host, RegisterId::PMTU, false, &pmtu);
    assert_eq!((read.get(PmtuReg::MAX_MTU), read.get(PmtuReg::OPER_MTU)), (10240, 1522));
    let (status, _) = register(&mut host, RegisterId::PMTU, true, &pmtu.with(PmtuReg::ADMIN_MTU, 9022));
    assert_eq!(status.status(), Status::OK);
    let (_, read) = register(&mut host, RegisterId::PMTU, false, &pmtu);
    assert_eq!(read.get(PmtuReg::OPER_MTU), 9022);
    let (status, _) = register(&mut host, RegisterId::PMTU, true, &pmtu.with(PmtuReg::ADMIN_MTU, 20000));
    assert_eq!(status.get(OutHeader::SYNDROME), refusal::PORT_MTU.syndrome.0);

    let paos = PaosReg::zeroed().with(PaosReg::LOCAL_PORT, 1).with(PaosReg::ASE, 1);
    for (admin, up) in [(PortAdminStatus::DOWN, false), (PortAdminStatus::UP, true)] {
        register(&mut host, RegisterId::PAOS, true, &paos.with(PaosReg::ADMIN_STATUS, u32::from(admin.0)));
        let event = host.next_event(&mut eq).expect("a port event");
        assert_eq!(event.get(hw_regs::eqe::Eqe::SUB_TYPE), if up { 4 } else { 1 });
        assert_eq!(event.blob(hw_regs::eqe::Eqe::DATA)[8], 1 << 4);
        let state: QueryVportStateOut = host.exec(Opcode::QUERY_VPORT_STATE, &QueryVportStateIn::zeroed());
        assert_eq!(state.get(QueryVportStateOut::STATE), u32::from(up));
    }
    host.nic.set_cable(false);
    assert!(host.next_event(&mut eq).is_some());
    let (_, ptys) = register(&mut host, RegisterId::PTYS, false, &PtysReg::zeroed().with(PtysReg::LOCAL_PORT, 1));
    assert_eq!(ptys.get(PtysReg::ETH_PROTO_OPER), 0);
    let (status, _) = register(&mut host, RegisterId::PTYS, true, &PtysReg::zeroed().with(PtysReg::LOCAL_PORT, 1));
    assert_eq!(status.get(OutHeader::SYNDROME), refusal::REGISTER_READ_ONLY.syndrome.0);
    let (status, _) = register(&mut host, RegisterId::PMTU, false, &PmtuReg::zeroed().with(PmtuReg::LOCAL_PORT, 2));
    assert_eq!(status.get(OutHeader::SYNDROME), refusal::REGISTER_PORT.syndrome.0);
    let (status, _) = register(&mut host, RegisterId::MFRL, false, &PcapReg::zeroed());
    assert_eq!(status.get(OutHeader::SYNDROME), refusal::REGISTER_UNKNOWN.syndrome.0);
    let endianness = RegisterHostEndianness::zeroed();
    let (status, _) = register(&mut host, RegisterId::HOST_ENDIANNESS, true, &endianness);
    assert_eq!(status.status(), Status::OK);
}

#[test]
fn the_vport_keeps_what_it_is_told() {
    let mut host = Host::running(Config::default());
    let read = |host: &mut Host, list: u32| {
        let input = QueryNicVportContextIn::zeroed().with(QueryNicVportContextIn::ALLOWED_LIST_TYPE, list);
        let output = host.send(Opcode::QUERY_NIC_VPORT_CONTEXT, input.bytes(), QueryNicVportContextOut::SIZE + 64);
        let context = QueryNicVportContextOut::from_prefix(&output).nested(QueryNicVportContextOut::NIC_VPORT_CONTEXT);
        (context, output[QueryNicVportContextOut::SIZE..].to_vec())
    };
    let (context, _) = read(&mut host, 0);
    let mac = context.nested(NicVportContext::PERMANENT_ADDRESS);
    assert_eq!(mac.bytes()[2..], Config::default().mac);
    let select = ModifyNicVportFieldSelect::zeroed()
        .with(ModifyNicVportFieldSelect::MTU, 1)
        .with(ModifyNicVportFieldSelect::PROMISC, 1)
        .with(ModifyNicVportFieldSelect::ADDRESSES_LIST, 1);
    let wanted = NicVportContext::zeroed()
        .with(NicVportContext::MTU, 9022)
        .with(NicVportContext::PROMISC_MC, 1)
        .with(NicVportContext::ALLOWED_LIST_SIZE, 2);
    let input = ModifyNicVportContextIn::zeroed()
        .with_nested(ModifyNicVportContextIn::FIELD_SELECT, &select)
        .with_nested(ModifyNicVportContextIn::NIC_VPORT_CONTEXT, &wanted);
    let list = [0x0000_0200_0000_0002u64, 0x0000_0200_0000_0003].map(u64::to_be_bytes).concat();
    host.exec_with::<_, OutHeader>(Opcode::MODIFY_NIC_VPORT_CONTEXT, &input, &list);
    let (context, entries) = read(&mut host, 0);
    assert_eq!((context.get(NicVportContext::MTU), context.get(NicVportContext::PROMISC_MC)), (9022, 1));
    assert_eq!(context.get(NicVportContext::ALLOWED_LIST_SIZE), 2);
    assert_eq!(entries[..16], list);
    assert_eq!(read(&mut host, 1).0.get(NicVportContext::ALLOWED_LIST_SIZE), 0);
    let cut = host.refused(Opcode::MODIFY_NIC_VPORT_CONTEXT, &input, &list[..8]);
    assert_eq!(cut, answer(refusal::LIST_CUT_SHORT));
    let other = QueryVportStateIn::zeroed().with(QueryVportStateIn::OTHER_VPORT, 1);
    assert_eq!(host.refused(Opcode::QUERY_VPORT_STATE, &other, &[]), answer(refusal::OTHER_VPORT));
}
