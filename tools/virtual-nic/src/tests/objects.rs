//! | property | test |
//! |---|---|
//! | an object that another refers to cannot be destroyed; afterwards it can, once | `objects_in_use_stay` |
//! | objects that do not exist are not referred to | `objects_must_exist` |
//! | a receive queue may be in domain 0, which nobody can allocate: nothing is received there | `domain_zero_receives_nothing` |
//! | sizes, strides, addresses, types and states are checked, each with its syndrome | `contexts_are_checked` |
//! | queues change state only along the arrows, from the state they are in | `queue_states_follow_the_arrows` |
//! | the offload needs capability, table and wide completions | `offload_tirs_are_checked` |
//! | queue counters count, and can be cleared | `queue_counters_read_and_clear` |
//! | an RQT may shrink and grow up to its maximum | `tables_of_queues_change_within_their_size` |
//! | no input, however odd, panics the device, and every refusal has a status and a syndrome | `random_commands_are_refused_not_fatal` |

use super::bring_up::answer;
use super::host::Host;
use crate::capabilities::Capabilities;
use crate::reject::{Reject, Syndrome};
use crate::{Config, refusal};
use firmware_iface::caps::CmdHcaCap;
use firmware_iface::command::{OutHeader, object::*, queue::*};
use firmware_iface::context::*;
use firmware_iface::{Opcode, Status};
use hw_regs::layout::{Access, Layout};
use proptest::prelude::*;

#[test]
fn objects_in_use_stay() {
    let mut host = Host::running(Config::default());
    let eq = host.create_eq(0, 4, &[]);
    let cq = host.create_cq(eq.number, 4, 128);
    let counters: AllocQCounterOut = host.exec(Opcode::ALLOC_Q_COUNTER, &AllocQCounterIn::zeroed());
    let counters = counters.get(AllocQCounterOut::COUNTER_SET_ID);
    let rq = host.create_rq(cq.number, 4, 4, |rqc| rqc.set(Rqc::COUNTER_SET_ID, counters));
    let tis = host.create_tis();
    let sq = host.create_sq(cq.number, 4, Some(tis));
    let rqt = host.create_rqt(&[rq.number]);
    let table = CreateTagBufferTableIn::zeroed()
        .with(CreateTagBufferTableIn::HDR_OBJ_TYPE, 0x21)
        .with(CreateTagBufferTableIn::OBJ_LOG_TAG_BUFFER_TABLE_SIZE, 5);
    let output: GeneralObjOutCmdHdr = host.exec(Opcode::CREATE_GENERAL_OBJECT, &table);
    let table = output.get(GeneralObjOutCmdHdr::OBJ_ID);
    let offload = Tirc::zeroed()
        .with(Tirc::DISP_TYPE, 1)
        .with(Tirc::INDIRECT_TABLE, rqt)
        .with(Tirc::NVMEOTCP_ZERO_COPY_EN, 1)
        .with(Tirc::NVMEOTCP_TAG_BUFFER_TABLE_ID, table);
    let tir = host.create_tir(&offload);
    let (flow_table, _) = host.steer_all(tir, 1);

    let eq_in = DestroyEqIn::zeroed().with(DestroyEqIn::EQ_NUMBER, eq.number);
    let cq_in = DestroyCqIn::zeroed().with(DestroyCqIn::CQN, cq.number);
    let rq_in = DestroyRqIn::zeroed().with(DestroyRqIn::RQN, rq.number);
    let sq_in = DestroySqIn::zeroed().with(DestroySqIn::SQN, sq.number);
    let tis_in = DestroyTisIn::zeroed().with(DestroyTisIn::TISN, tis);
    let rqt_in = DestroyRqtIn::zeroed().with(DestroyRqtIn::RQTN, rqt);
    let tir_in = DestroyTirIn::zeroed().with(DestroyTirIn::TIRN, tir);
    let pd_in = DeallocPdIn::zeroed().with(DeallocPdIn::PD, host.pd);
    let td_in = DeallocTransportDomainIn::zeroed().with(DeallocTransportDomainIn::TRANSPORT_DOMAIN, host.td);
    let uar_in = DeallocUarIn::zeroed().with(DeallocUarIn::UAR, host.uar);
    let counter_in = DeallocQCounterIn::zeroed().with(DeallocQCounterIn::COUNTER_SET_ID, counters);
    let table_in =
        GeneralObjInCmdHdr::zeroed().with(GeneralObjInCmdHdr::OBJ_TYPE, 0x21).with(GeneralObjInCmdHdr::OBJ_ID, table);
    let mkey_in = DestroyMkeyIn::zeroed().with(DestroyMkeyIn::MKEY_INDEX, host.key >> 8);

    let tir_busy: Reject = Syndrome::TIR_IS_DESTINATION.into();
    let table_busy: Reject = Syndrome::TAG_TABLE_IN_USE.into();
    // In the order in which they can go; each is tried before that, destroyed, and is then unknown.
    use firmware_iface::command::flow::*;
    let fte = DeleteFteIn::zeroed().with(DeleteFteIn::TABLE_ID, flow_table);
    let busy: [(Opcode, Vec<u8>, Reject, Option<Reject>); 12] = [
        (Opcode::DESTROY_TIR, tir_in.bytes().into(), tir_busy, Some(refusal::TIR_UNKNOWN)),
        (Opcode::DESTROY_GENERAL_OBJECT, table_in.bytes().into(), table_busy, None),
        (Opcode::DESTROY_RQT, rqt_in.bytes().into(), refusal::RQT_IN_USE, Some(refusal::RQT_UNKNOWN)),
        (Opcode::DESTROY_RQ, rq_in.bytes().into(), refusal::RQ_IN_USE, Some(refusal::RQ_UNKNOWN)),
        (
            Opcode::DEALLOC_Q_COUNTER,
            counter_in.bytes().into(),
            refusal::Q_COUNTER_IN_USE,
            Some(refusal::Q_COUNTER_UNKNOWN),
        ),
        (Opcode::DESTROY_TIS, tis_in.bytes().into(), refusal::TIS_IN_USE, Some(refusal::TIS_UNKNOWN)),
        (Opcode::DESTROY_CQ, cq_in.bytes().into(), refusal::CQ_IN_USE, Some(refusal::CQ_UNKNOWN)),
        (Opcode::DESTROY_EQ, eq_in.bytes().into(), refusal::EQ_IN_USE, Some(refusal::EQ_UNKNOWN)),
        (Opcode::DEALLOC_TRANSPORT_DOMAIN, td_in.bytes().into(), refusal::TD_IN_USE, Some(refusal::TD_UNKNOWN)),
        (Opcode::DEALLOC_PD, pd_in.bytes().into(), refusal::PD_IN_USE, Some(refusal::PD_UNKNOWN)),
        (Opcode::DEALLOC_UAR, uar_in.bytes().into(), refusal::UAR_IN_USE, Some(refusal::UAR_UNKNOWN)),
        (Opcode::NOP, vec![0; 16], refusal::OPCODE, None),
    ];
    let send = |host: &mut Host, opcode, input: &[u8]| {
        let header = OutHeader::from_prefix(&host.send(opcode, input, 16));
        (header.status(), header.get(OutHeader::SYNDROME))
    };
    for (opcode, input, in_use, _) in &busy[..11] {
        assert_eq!(send(&mut host, *opcode, input), answer(*in_use), "{opcode}");
    }
    host.exec::<_, OutHeader>(Opcode::DELETE_FLOW_TABLE_ENTRY, &fte);
    for (opcode, input, _, unknown) in &busy[..11] {
        if *opcode == Opcode::DESTROY_TIS {
            host.exec::<_, OutHeader>(Opcode::DESTROY_SQ, &sq_in);
            assert_eq!(host.refused(Opcode::DESTROY_SQ, &sq_in, &[]), answer(refusal::SQ_UNKNOWN));
        }
        if *opcode == Opcode::DEALLOC_PD {
            assert_eq!(send(&mut host, *opcode, input), answer(refusal::PD_IN_USE), "the memory key holds it");
            host.exec::<_, OutHeader>(Opcode::DESTROY_MKEY, &mkey_in);
        }
        assert_eq!(send(&mut host, *opcode, input).0, Status::OK, "{opcode}");
        let again = send(&mut host, *opcode, input);
        assert_eq!(again.0, Status::BAD_RES_ERR, "{opcode}");
        unknown.iter().for_each(|unknown| assert_eq!(again, answer(*unknown), "{opcode}"));
    }
}

#[test]
fn objects_must_exist() {
    let mut host = Host::running(Config::default());
    let eq = host.create_eq(0, 4, &[]);
    let cq = host.create_cq(eq.number, 4, 64);
    let page = host.alloc(4096, 4096).to_be_bytes();
    let wq = Wq::zeroed()
        .with(Wq::WQ_TYPE, 1)
        .with(Wq::PD, host.pd)
        .with(Wq::UAR_PAGE, host.uar)
        .with(Wq::LOG_WQ_STRIDE, 6)
        .with(Wq::LOG_WQ_SZ, 3)
        .with_wide(Wq::DBR_ADDR, 0x1_0000_0100);
    let sqc = Sqc::zeroed().with(Sqc::CQN, cq.number).with(Sqc::REG_UMR, 1).with_nested(Sqc::WQ, &wq);
    let mut check = |sqc: Sqc, expected| {
        let input = CreateSqIn::zeroed().with_nested(CreateSqIn::CTX, &sqc);
        assert_eq!(host.refused(Opcode::CREATE_SQ, &input, &page), answer(expected));
    };
    check(sqc.with(Sqc::CQN, 1), refusal::CQ_UNKNOWN);
    check(sqc.with_nested(Sqc::WQ, &wq.with(Wq::PD, 0)), refusal::PD_UNKNOWN);
    check(sqc.with_nested(Sqc::WQ, &wq.with(Wq::UAR_PAGE, 3)), refusal::UAR_UNKNOWN);
    check(sqc.with(Sqc::TIS_LST_SZ, 1).with(Sqc::TIS_NUM_0, 5), refusal::TIS_UNKNOWN);
    check(sqc.with(Sqc::TIS_LST_SZ, 2), refusal::TIS_LIST);
    check(sqc.with(Sqc::REG_UMR, 0), refusal::TIS_LIST);
    check(sqc.with(Sqc::STATE, 1), refusal::INITIAL_STATE);
    check(sqc.with_nested(Sqc::WQ, &wq.with(Wq::LOG_WQ_STRIDE, 7)), refusal::WQ_STRIDE);
    check(sqc.with_nested(Sqc::WQ, &wq.with(Wq::LOG_WQ_SZ, 10)), refusal::LIST_CUT_SHORT);
    let cqc = Cqc::zeroed().with(Cqc::UAR_PAGE, host.uar).with_wide(Cqc::DBR_ADDR, 64);
    let input = CreateCqIn::zeroed().with_nested(CreateCqIn::CQ_CONTEXT, &cqc);
    assert_eq!(host.refused(Opcode::CREATE_CQ, &input, &page), answer(refusal::EQ_UNKNOWN));
    let tirc = Tirc::zeroed();
    let tir = |tirc: &Tirc| CreateTirIn::zeroed().with_nested(CreateTirIn::CTX, tirc);
    assert_eq!(host.refused(Opcode::CREATE_TIR, &tir(&tirc), &[]), answer(refusal::TD_UNKNOWN));
    let tirc = tirc.with(Tirc::TRANSPORT_DOMAIN, host.td);
    assert_eq!(host.refused(Opcode::CREATE_TIR, &tir(&tirc), &[]), answer(refusal::RQ_UNKNOWN));
    let tirc = tirc.with(Tirc::DISP_TYPE, 1);
    assert_eq!(host.refused(Opcode::CREATE_TIR, &tir(&tirc), &[]), answer(refusal::RQT_UNKNOWN));
    let mkey = CreateMkeyIn::zeroed();
    assert_eq!(host.refused(Opcode::CREATE_MKEY, &mkey, &[]), answer(refusal::PD_UNKNOWN));
}

#[test]
fn domain_zero_receives_nothing() {
    let mut host = Host::running(Config::default());
    let eq = host.create_eq(0, 4, &[]);
    let cq = host.create_cq(eq.number, 4, 64);
    let mut rq = host.create_rq(cq.number, 2, 4, |rqc| {
        let wq: Wq = rqc.nested(Rqc::WQ);
        *rqc = rqc.with_nested(Rqc::WQ, &wq.with(Wq::PD, 0));
    });
    let buffer = host.post_receives(&mut rq, 1, 2048)[0];
    let tirn = host.create_tir(&Tirc::zeroed().with(Tirc::INLINE_RQN, rq.number));
    host.steer_all(tirn, 0);
    let frame = crate::packet::build::Build { dmac: Config::default().mac, ..Default::default() }.frame();
    host.nic.receive(&frame);
    assert_eq!((host.nic.counters().rx_completions, host.nic.counters().drops.queue_error), (0, 1));
    assert!(host.read(buffer, 2048).iter().all(|byte| *byte == 0xcc));
}

#[test]
fn contexts_are_checked() {
    let mut host = Host::running(Config::default());
    let page = host.alloc(4096, 4096).to_be_bytes();
    let eqc = Eqc::zeroed().with(Eqc::UAR_PAGE, host.uar).with(Eqc::LOG_EQ_SIZE, 4);
    let eq_in = |eqc: &Eqc| CreateEqIn::zeroed().with_nested(CreateEqIn::EQ_CONTEXT_ENTRY, eqc);
    let mut check = |eqc: Eqc, tail: &[u8], expected| {
        assert_eq!(host.refused(Opcode::CREATE_EQ, &eq_in(&eqc), tail), answer(expected));
    };
    check(eqc.with(Eqc::INTR, 64), &page, refusal::EQ_VECTOR);
    check(eqc.with(Eqc::LOG_EQ_SIZE, 23), &page, refusal::RING_SIZE);
    check(eqc.with(Eqc::PAGE_OFFSET, 1), &page, refusal::RING_OFFSET);
    check(eqc.with(Eqc::LOG_PAGE_SIZE, 30), &page, refusal::RING_PAGE_SIZE);
    check(eqc, &[], refusal::LIST_CUT_SHORT);
    check(eqc, &[0; 8], refusal::RING_ADDRESS);
    check(eqc, &0x1_0000_0010u64.to_be_bytes(), refusal::RING_ADDRESS);

    let eq = host.create_eq(0, 4, &[]);
    let cqc = Cqc::zeroed()
        .with(Cqc::UAR_PAGE, host.uar)
        .with(Cqc::C_EQN_OR_APU_ELEMENT, eq.number)
        .with(Cqc::LOG_CQ_SIZE, 3)
        .with_wide(Cqc::DBR_ADDR, 0x1_0000_0100);
    let mut check = |cqc: Cqc, expected| {
        let input = CreateCqIn::zeroed().with_nested(CreateCqIn::CQ_CONTEXT, &cqc);
        assert_eq!(host.refused(Opcode::CREATE_CQ, &input, &page), answer(expected));
    };
    check(cqc.with(Cqc::CQE_SZ, 1), refusal::CQE_SIZE);
    check(cqc.with(Cqc::CQE_COMP_EN, 1), refusal::CQE_COMPRESSION);
    check(cqc.with_wide(Cqc::DBR_ADDR, 0), refusal::DOORBELL_RECORD);
    check(cqc.with_wide(Cqc::DBR_ADDR, 0x1_0000_0104), refusal::DOORBELL_RECORD);
    check(cqc.with(Cqc::DBR_UMEM_VALID, 1), refusal::UMEM_UNKNOWN);

    let cq = host.create_cq(eq.number, 3, 64);
    let wq = Wq::zeroed()
        .with(Wq::WQ_TYPE, 1)
        .with(Wq::PD, host.pd)
        .with(Wq::LOG_WQ_STRIDE, 4)
        .with(Wq::LOG_WQ_SZ, 3)
        .with_wide(Wq::DBR_ADDR, 0x1_0000_0100);
    let rqc = Rqc::zeroed().with(Rqc::CQN, cq.number).with_nested(Rqc::WQ, &wq);
    let mut check = |rqc: Rqc, expected| {
        let input = CreateRqIn::zeroed().with_nested(CreateRqIn::CTX, &rqc);
        assert_eq!(host.refused(Opcode::CREATE_RQ, &input, &page), answer(expected));
    };
    check(rqc.with(Rqc::MEM_RQ_TYPE, 1), refusal::RQ_MEMORY);
    check(rqc.with(Rqc::COUNTER_SET_ID, 77), refusal::Q_COUNTER_UNKNOWN);
    check(rqc.with_nested(Rqc::WQ, &wq.with(Wq::WQ_TYPE, 3)), refusal::WQ_TYPE);
    check(rqc.with_nested(Rqc::WQ, &wq.with(Wq::LOG_WQ_STRIDE, 3)), refusal::WQ_STRIDE);
    check(rqc.with_nested(Rqc::WQ, &wq.with(Wq::LOG_WQ_STRIDE, 10)), refusal::WQ_STRIDE);
    check(rqc.with_nested(Rqc::WQ, &wq.with(Wq::LOG_WQ_SZ, 20)), refusal::RING_SIZE);

    // One that passes, so that none of the above was refused for another reason.
    let input = CreateRqIn::zeroed().with_nested(CreateRqIn::CTX, &rqc);
    let output: CreateRqOut = host.exec_with(Opcode::CREATE_RQ, &input, &page);
    let rqn = output.get(CreateRqOut::RQN);
    let tirc = Tirc::zeroed().with(Tirc::TRANSPORT_DOMAIN, host.td).with(Tirc::INLINE_RQN, rqn);
    let mut check = |tirc: Tirc, expected| {
        let input = CreateTirIn::zeroed().with_nested(CreateTirIn::CTX, &tirc);
        assert_eq!(host.refused(Opcode::CREATE_TIR, &input, &[]), answer(expected));
    };
    check(tirc.with(Tirc::DISP_TYPE, 2), refusal::TIR_DISPATCH);
    check(tirc.with(Tirc::RX_HASH_FN, 3), refusal::TIR_HASH);
    check(tirc.with(Tirc::PACKET_MERGE_MASK, 1), refusal::TIR_MERGE);
    check(tirc.with(Tirc::TLS_EN, 1), refusal::TIR_TLS);
    let rqt = |max, actual, list: &[u32]| {
        let rqtc = Rqtc::zeroed().with(Rqtc::RQT_MAX_SIZE, max).with(Rqtc::RQT_ACTUAL_SIZE, actual);
        let tail: Vec<u8> = list.iter().flat_map(|rqn| rqn.to_be_bytes()).collect();
        (CreateRqtIn::zeroed().with_nested(CreateRqtIn::RQT_CONTEXT, &rqtc), tail)
    };
    for (max, actual, list, expected) in [
        (4, 0, vec![], refusal::RQT_SIZE),
        (1, 2, vec![rqn, rqn], refusal::RQT_SIZE),
        (4096, 1, vec![rqn], refusal::RQT_SIZE),
        (4, 2, vec![rqn], refusal::LIST_CUT_SHORT),
        (4, 2, vec![rqn, rqn + 1], refusal::RQ_UNKNOWN),
    ] {
        let (input, tail) = rqt(max, actual, &list);
        assert_eq!(host.refused(Opcode::CREATE_RQT, &input, &tail), answer(expected));
    }
}

#[test]
fn queue_states_follow_the_arrows() {
    const NAMES: [u32; 3] = [0, 1, 3];
    let legal = [(0, 1), (1, 1), (1, 3), (3, 0)];
    for from in NAMES {
        for to in NAMES {
            for claimed in NAMES {
                let mut host = Host::running(Config::default());
                let eq = host.create_eq(0, 4, &[]);
                let cq = host.create_cq(eq.number, 4, 64);
                let rq = host.create_rq(cq.number, 2, 4, |_| {}).number;
                let sq = host.create_sq(cq.number, 2, None).number;
                // Created queues are ready here.
                for path in [&[][..], &[(1, 3)], &[(1, 3), (3, 0)]] {
                    if path.last().map_or(1, |step| step.1) == from {
                        path.iter().for_each(|step: &(u32, u32)| {
                            host.modify_rq(rq, step.0, step.1);
                            host.modify_sq(sq, step.0, step.1);
                        });
                    }
                }
                let rq_in = ModifyRqIn::zeroed()
                    .with(ModifyRqIn::RQN, rq)
                    .with(ModifyRqIn::RQ_STATE, claimed)
                    .with_nested(ModifyRqIn::CTX, &Rqc::zeroed().with(Rqc::STATE, to));
                let sq_in = ModifySqIn::zeroed()
                    .with(ModifySqIn::SQN, sq)
                    .with(ModifySqIn::SQ_STATE, claimed)
                    .with_nested(ModifySqIn::CTX, &Sqc::zeroed().with(Sqc::STATE, to));
                let expected = match (claimed == from, legal.contains(&(from, to))) {
                    (false, _) => answer(refusal::STATE_MISMATCH),
                    (true, false) => answer(refusal::STATE_TRANSITION),
                    (true, true) => (Status::OK, 0),
                };
                assert_eq!(host.refused(Opcode::MODIFY_RQ, &rq_in, &[]), expected, "RQ {from} as {claimed} to {to}");
                assert_eq!(host.refused(Opcode::MODIFY_SQ, &sq_in, &[]), expected, "SQ {from} as {claimed} to {to}");
                let now = if expected.0 == Status::OK { to } else { from };
                let rq_out: QueryRqOut = host.exec(Opcode::QUERY_RQ, &QueryRqIn::zeroed().with(QueryRqIn::RQN, rq));
                let sq_out: QuerySqOut = host.exec(Opcode::QUERY_SQ, &QuerySqIn::zeroed().with(QuerySqIn::SQN, sq));
                assert_eq!(rq_out.nested(QueryRqOut::RQ_CONTEXT).get(Rqc::STATE), now);
                assert_eq!(sq_out.nested(QuerySqOut::SQ_CONTEXT).get(Sqc::STATE), now);
            }
        }
    }
}

#[test]
fn offload_tirs_are_checked() {
    for offers in [true, false] {
        let mut capabilities = Capabilities::connectx7();
        capabilities.edit::<CmdHcaCap>(|caps| caps.set(CmdHcaCap::NVMEOTCP, u32::from(offers)));
        let mut host = Host::running(Config { capabilities, ..Config::default() });
        let eq = host.create_eq(0, 4, &[]);
        for stride in [64, 128] {
            let cq = host.create_cq(eq.number, 3, stride);
            let rq = host.create_rq(cq.number, 3, 4, |_| {});
            let tirc = Tirc::zeroed()
                .with(Tirc::TRANSPORT_DOMAIN, host.td)
                .with(Tirc::INLINE_RQN, rq.number)
                .with(Tirc::NVMEOTCP_CRC_EN, 1);
            let input = CreateTirIn::zeroed().with_nested(CreateTirIn::CTX, &tirc);
            let outcome = host.refused(Opcode::CREATE_TIR, &input, &[]);
            let expected = match (offers, stride) {
                (false, _) => answer(refusal::TIR_OFFLOAD),
                (true, 64) => answer(refusal::TIR_OFFLOAD_CQE),
                (true, _) => (Status::OK, 0),
            };
            assert_eq!(outcome, expected);
            // Zero copy needs a table that exists; a refusal leaves nothing behind.
            let before = host.nic.inventory();
            let tirc = tirc.with(Tirc::NVMEOTCP_ZERO_COPY_EN, 1).with(Tirc::NVMEOTCP_TAG_BUFFER_TABLE_ID, 999);
            let input = CreateTirIn::zeroed().with_nested(CreateTirIn::CTX, &tirc);
            assert_ne!(host.refused(Opcode::CREATE_TIR, &input, &[]).0, Status::OK);
            assert_eq!(host.nic.inventory(), before);
        }
        let table = CreateTagBufferTableIn::zeroed().with(CreateTagBufferTableIn::HDR_OBJ_TYPE, 0x22);
        assert_eq!(host.refused(Opcode::CREATE_GENERAL_OBJECT, &table, &[]), answer(refusal::OBJECT_TYPE));
        let table = CreateTagBufferTableIn::zeroed()
            .with(CreateTagBufferTableIn::HDR_OBJ_TYPE, 0x21)
            .with(CreateTagBufferTableIn::HDR_OBJ_ID, 1);
        assert_eq!(host.refused(Opcode::CREATE_GENERAL_OBJECT, &table, &[]), answer(refusal::OBJECT_FIELDS));
    }
}

#[test]
fn queue_counters_read_and_clear() {
    let mut host = Host::running(Config::default());
    let output: AllocQCounterOut = host.exec(Opcode::ALLOC_Q_COUNTER, &AllocQCounterIn::zeroed());
    let set = output.get(AllocQCounterOut::COUNTER_SET_ID);
    let eq = host.create_eq(0, 4, &[]);
    let cq = host.create_cq(eq.number, 3, 64);
    let rq = host.create_rq(cq.number, 3, 4, |rqc| rqc.set(Rqc::COUNTER_SET_ID, set));
    let tir = host.create_tir(&Tirc::zeroed().with(Tirc::INLINE_RQN, rq.number));
    host.steer_all(tir, 0);
    (0..3).for_each(|_| host.nic.receive(&[0xff; 64]));
    let input = QueryQCounterIn::zeroed().with(QueryQCounterIn::COUNTER_SET_ID, set).with(QueryQCounterIn::CLEAR, 1);
    let output: QueryQCounterOut = host.exec(Opcode::QUERY_Q_COUNTER, &input);
    assert_eq!(output.get(QueryQCounterOut::OUT_OF_BUFFER), 3);
    let output: QueryQCounterOut = host.exec(Opcode::QUERY_Q_COUNTER, &input);
    assert_eq!(output.get(QueryQCounterOut::OUT_OF_BUFFER), 0);
    assert_eq!(host.nic.counters().drops.out_of_buffer, 3);
}

#[test]
fn tables_of_queues_change_within_their_size() {
    let mut host = Host::running(Config::default());
    let eq = host.create_eq(0, 4, &[]);
    let cq = host.create_cq(eq.number, 3, 64);
    let a = host.create_rq(cq.number, 3, 4, |_| {}).number;
    let b = host.create_rq(cq.number, 3, 4, |_| {}).number;
    let rqtc = Rqtc::zeroed().with(Rqtc::RQT_MAX_SIZE, 4).with(Rqtc::RQT_ACTUAL_SIZE, 1);
    let input = CreateRqtIn::zeroed().with_nested(CreateRqtIn::RQT_CONTEXT, &rqtc);
    let output: CreateRqtOut = host.exec_with(Opcode::CREATE_RQT, &input, &a.to_be_bytes());
    let modify = |size: u32, listed: bool| {
        ModifyRqtIn::zeroed()
            .with(ModifyRqtIn::RQTN, output.get(CreateRqtOut::RQTN))
            .with_nested(ModifyRqtIn::BITMASK, &RqtBitmask::zeroed().with(RqtBitmask::RQN_LIST, u32::from(listed)))
            .with_nested(ModifyRqtIn::CTX, &Rqtc::zeroed().with(Rqtc::RQT_ACTUAL_SIZE, size))
    };
    let list = [b, b, b, b, b].map(u32::to_be_bytes).concat();
    host.exec_with::<_, OutHeader>(Opcode::MODIFY_RQT, &modify(4, true), &list);
    assert_eq!(host.refused(Opcode::MODIFY_RQT, &modify(5, true), &list), answer(refusal::RQT_SIZE));
    assert_eq!(host.refused(Opcode::MODIFY_RQT, &modify(1, false), &list), answer(refusal::RQT_BITMASK));
    host.exec::<_, OutHeader>(Opcode::DESTROY_RQ, &DestroyRqIn::zeroed().with(DestroyRqIn::RQN, a));
    let input = DestroyRqIn::zeroed().with(DestroyRqIn::RQN, b);
    assert_eq!(host.refused(Opcode::DESTROY_RQ, &input, &[]), answer(refusal::RQ_IN_USE));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn random_commands_are_refused_not_fatal(
        commands in prop::collection::vec(
            (prop::sample::select(Opcode::TABLE.1), 0..5u16, prop::collection::vec(any::<u8>(), 0..900), any::<bool>()),
            1..40,
        ),
    ) {
        let mut host = Host::running(Config::default());
        for ((_, opcode), op_mod, mut body, sparse) in commands {
            // Sparse inputs get further than noise.
            if sparse {
                body.iter_mut().enumerate().for_each(|(at, byte)| *byte *= u8::from(at % 13 == 0));
            }
            let mut input = vec![0; 16 + body.len()];
            input[8..].copy_from_slice(&[&[0; 8][..], &body].concat());
            input[6..8].copy_from_slice(&op_mod.to_be_bytes());
            let output = host.send(Opcode(opcode as u16), &input, 300);
            let header = OutHeader::from_prefix(&output);
            let refused = header.status() != Status::OK;
            prop_assert_eq!(refused, header.get(OutHeader::SYNDROME) != 0);
        }
        host.nic.receive(&[0xff; 100]);
        host.nic.reset();
        prop_assert!(host.nic.inventory().is_empty());
    }
}
