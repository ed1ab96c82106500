//! | property | test |
//! |---|---|
//! | queues in umems work as others do: WQEs, completions and doorbell records are where umem and offset say | `queues_in_umems_work` |
//! | a umem that a queue is in cannot be destroyed; afterwards it can, once | `umems_in_use_stay` |
//! | umems that do not exist, ranges outside and what may not be written are refused; without the capability there are none | `umems_are_checked` |

use super::bring_up::answer;
use super::host::{Host, Queue};
use crate::{Config, refusal};
use firmware_iface::Opcode;
use firmware_iface::caps::CmdHcaCap;
use firmware_iface::command::{object::*, queue::*};
use firmware_iface::context::*;
use hw_regs::cqe::{Cqe64, CqeOpcode};
use hw_regs::layout::{Access, Layout};

/// Where a doorbell record is in its page.
const RECORD: u32 = 0x238;

fn request(at: u64, offset: u32, rights: u64) -> (CreateUmemIn, [u8; 8]) {
    let umem = Umem::zeroed().with(Umem::PAGE_OFFSET, offset).with_wide(Umem::NUM_OF_MTT, 1);
    (CreateUmemIn::zeroed().with_nested(CreateUmemIn::UMEM, &umem), (at | rights).to_be_bytes())
}

/// A umem of one page that begins `offset` bytes into it.
fn create(host: &mut Host, at: u64, offset: u32) -> u32 {
    let (input, list) = request(at, offset, 3);
    host.exec_with::<_, CreateUmemOut>(Opcode::CREATE_UMEM, &input, &list).get(CreateUmemOut::UMEM_ID)
}

fn cq_in(host: &Host, eqn: u32, ring: u32, record: u32) -> CreateCqIn {
    let cqc = Cqc::zeroed()
        .with(Cqc::LOG_CQ_SIZE, 4)
        .with(Cqc::UAR_PAGE, host.uar)
        .with(Cqc::C_EQN_OR_APU_ELEMENT, eqn)
        .with(Cqc::DBR_UMEM_VALID, 1)
        .with(Cqc::DBR_UMEM_ID, record);
    CreateCqIn::zeroed()
        .with_nested(CreateCqIn::CQ_CONTEXT, &cqc)
        .with(CreateCqIn::CQ_UMEM_VALID, 1)
        .with(CreateCqIn::CQ_UMEM_ID, ring)
}

/// A CQ and an SQ of 16 entries, each ring in a umem of its own, the doorbell records in a third. The umems in that order.
fn queues(host: &mut Host) -> (Queue, Queue, [u32; 3]) {
    let eq = host.create_eq(0, 4, &[]);
    let pages = [(); 3].map(|()| host.alloc(4096, 4096));
    host.write(pages[0], &[0xff; 4096]);
    let umems = [create(host, pages[0], 0), create(host, pages[1], 0), create(host, pages[2], RECORD)];
    let queue = |number, buffer, record| Queue { number, buffer, record, log_size: 4, stride: 64, counter: 0 };
    let output: CreateCqOut = host.exec(Opcode::CREATE_CQ, &cq_in(host, eq.number, umems[0], umems[2]));
    let record = pages[2] + u64::from(RECORD);
    let cq = queue(output.get(CreateCqOut::CQN), pages[0], record);
    let wq = Wq::zeroed()
        .with(Wq::WQ_TYPE, u32::from(WqType::CYCLIC.0))
        .with(Wq::PD, host.pd)
        .with(Wq::UAR_PAGE, host.uar)
        .with(Wq::LOG_WQ_STRIDE, 6)
        .with(Wq::LOG_WQ_SZ, 4)
        .with(Wq::WQ_UMEM_VALID, 1)
        .with(Wq::WQ_UMEM_ID, umems[1])
        .with(Wq::DBR_UMEM_VALID, 1)
        .with(Wq::DBR_UMEM_ID, umems[2])
        .with_wide(Wq::DBR_ADDR, 8);
    let sqc = Sqc::zeroed().with(Sqc::CQN, cq.number).with(Sqc::REG_UMR, 1).with_nested(Sqc::WQ, &wq);
    let output: CreateSqOut = host.exec(Opcode::CREATE_SQ, &CreateSqIn::zeroed().with_nested(CreateSqIn::CTX, &sqc));
    let sq = queue(output.get(CreateSqOut::SQN), pages[1], record + 8);
    host.modify_sq(sq.number, 0, 1);
    (cq, sq, umems)
}

#[test]
fn queues_in_umems_work() {
    let mut host = Host::running(Config::default());
    let (mut cq, mut sq, _) = queues(&mut host);
    for n in 0..40 {
        // A NOP that completes.
        let mut nop = [0; 64];
        (nop[7], nop[11]) = (1, 8);
        host.post_send(&mut sq, &nop);
        host.ring_sq(&sq);
        let cqe = Cqe64::from_prefix(&host.next_cqe(&mut cq).expect("a completion"));
        assert_eq!((cqe.get(Cqe64::OP_OWN_OPCODE), cqe.get(Cqe64::WQE_COUNTER)), (u32::from(CqeOpcode::REQ.0), n));
    }
    assert_eq!((host.nic.counters().misuse.cq_overrun, host.nic.dma_faults().0), (0, 0));
}

#[test]
fn umems_in_use_stay() {
    let mut host = Host::running(Config::default());
    let (cq, sq, umems) = queues(&mut host);
    let destroy = |umem| DestroyUmemIn::zeroed().with(DestroyUmemIn::UMEM_ID, umem);
    for umem in umems {
        assert_eq!(host.refused(Opcode::DESTROY_UMEM, &destroy(umem), &[]), answer(refusal::UMEM_IN_USE));
    }
    host.destroy(Opcode::DESTROY_SQ, &DestroySqIn::zeroed().with(DestroySqIn::SQN, sq.number));
    host.destroy(Opcode::DESTROY_UMEM, &destroy(umems[1]));
    assert_eq!(host.refused(Opcode::DESTROY_UMEM, &destroy(umems[2]), &[]), answer(refusal::UMEM_IN_USE));
    host.destroy(Opcode::DESTROY_CQ, &DestroyCqIn::zeroed().with(DestroyCqIn::CQN, cq.number));
    for umem in [umems[0], umems[2]] {
        host.destroy(Opcode::DESTROY_UMEM, &destroy(umem));
        assert_eq!(host.refused(Opcode::DESTROY_UMEM, &destroy(umem), &[]), answer(refusal::UMEM_UNKNOWN));
    }
    assert_eq!(host.nic.inventory().held.umems, 0);
}

#[test]
fn umems_are_checked() {
    let mut host = Host::running(Config::default());
    let (eq, page) = (host.create_eq(0, 4, &[]), host.alloc(4096, 4096));
    let whole = create(&mut host, page, 0);
    let (input, list) = request(page, 0, 1);
    let output: CreateUmemOut = host.exec_with(Opcode::CREATE_UMEM, &input, &list);
    let readable = output.get(CreateUmemOut::UMEM_ID);
    for (ring, record, expected) in
        [(whole, 1, refusal::UMEM_UNKNOWN), (1, whole, refusal::UMEM_UNKNOWN), (readable, whole, refusal::UMEM_RIGHTS)]
    {
        let input = cq_in(&host, eq.number, ring, record);
        assert_eq!(host.refused(Opcode::CREATE_CQ, &input, &[]), answer(expected));
    }
    let outside = cq_in(&host, eq.number, whole, readable).with_wide(CreateCqIn::CQ_UMEM_OFFSET, 4096);
    assert_eq!(host.refused(Opcode::CREATE_CQ, &outside, &[]), answer(refusal::UMEM_RANGE));
    let (input, _) = request(page, 0, 3);
    assert_eq!(host.refused(Opcode::CREATE_UMEM, &input, &[]), answer(refusal::LIST_CUT_SHORT));
    let mut endless = input;
    endless.bytes_mut()[40..48].fill(0xff);
    assert_eq!(host.refused(Opcode::CREATE_UMEM, &endless, &list), answer(refusal::LIST_CUT_SHORT));

    let mut config = Config::default();
    config.capabilities.edit(|caps: &mut CmdHcaCap| caps.set(CmdHcaCap::UMEM_UID_0, 0));
    let mut host = Host::running(config);
    let (input, list) = request(page, 0, 3);
    assert_eq!(host.refused(Opcode::CREATE_UMEM, &input, &list), answer(refusal::OPCODE));
}
