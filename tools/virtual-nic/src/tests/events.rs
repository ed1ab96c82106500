//! | property | test |
//! |---|---|
//! | owner bits follow the laps of an EQ; a full EQ loses events and counts them | `event_owner_bits_follow_the_laps` |
//! | one interrupt per arm; an arm behind the producer fires at once; an update does not arm | `one_interrupt_per_arm` |
//! | events go to their subscriber only | `events_go_to_their_subscriber` |
//! | one completion event per arm; an arm behind the producer fires at once | `one_completion_event_per_arm` |
//! | an arm whose sequence number was used up is ignored, unless the switch says otherwise | `a_used_sequence_number_does_not_arm` |
//! | solicited-only arms wait for solicited or error completions | `solicited_arms_wait_for_solicited_completions` |
//! | 64- and 128-byte entries, owner bit last, first half zero without the offload | `completions_have_both_sizes` |
//! | a CQ that overruns fails once, says so, and writes nothing more; `oi` overwrites | `an_overrun_completion_queue_fails` |
//! | events and answers arrive as a fault bent them, in their laps' places; then as they are again | `bent_events_and_answers_arrive_as_bent` |
//! | contexts can be queried and moderation changed | `queues_can_be_queried_and_modified` |

use super::bring_up::answer;
use super::host::{Host, Queue};
use crate::{Config, refusal};
use firmware_iface::Opcode;
use firmware_iface::command::device::QueryIssiIn;
use firmware_iface::command::{OutHeader, object::*};
use firmware_iface::context::{Cqc, Eqc};
use hw_regs::eqe::{Eqe, EqeComp, EqeCqErr, EventType};
use hw_regs::layout::{Access, Layout};
use hw_regs::uar;

fn ping(host: &mut Host) -> bool {
    host.nic.inject_event(EventType::GENERAL_EVENT, 5, &[1, 2, 3])
}

#[test]
fn event_owner_bits_follow_the_laps() {
    let mut host = Host::running(Config::default());
    let mut eq = host.create_eq(0, 2, &[EventType::GENERAL_EVENT]);
    for lap in 0..5 {
        for _ in 0..4 {
            assert!(ping(&mut host));
        }
        assert!(ping(&mut host), "subscribed, though there is no room");
        assert_eq!(host.nic.counters().misuse.eq_overrun, lap + 1);
        for _ in 0..4 {
            let event = host.next_event(&mut eq).unwrap();
            assert_eq!((event.get(Eqe::TYPE), event.get(Eqe::SUB_TYPE)), (0x22, 5));
            assert_eq!(event.blob(Eqe::DATA)[..4], [1, 2, 3, 0]);
        }
        assert_eq!(host.next_event(&mut eq), None);
        host.arm_eq(&eq);
    }
}

#[test]
fn bent_events_and_answers_arrive_as_bent() {
    let mut host = Host::running(Config::default());
    let mut eq = host.create_eq(0, 1, &[EventType::GENERAL_EVENT]);
    host.nic.faults().tamper_events(Some(Box::new(|entry| entry.fill(0xff))));
    host.nic.faults().tamper_answers(Some(Box::new(|opcode, output| {
        assert_eq!(opcode, Opcode::QUERY_ISSI);
        output[4..8].copy_from_slice(&[1, 2, 3, 4]);
    })));
    for _ in 0..3 {
        assert!(ping(&mut host));
        let event = host.next_event(&mut eq).expect("the owner bit is the queue's");
        assert_eq!((event.get(Eqe::TYPE), event.get(Eqe::SUB_TYPE)), (0xff, 0xff));
        host.arm_eq(&eq);
    }
    let answered: OutHeader = host.exec(Opcode::QUERY_ISSI, &QueryIssiIn::zeroed());
    assert_eq!(answered.get(OutHeader::SYNDROME), 0x0102_0304);
    host.nic.faults().clear();
    assert!(ping(&mut host));
    assert_eq!(host.next_event(&mut eq).map(|event| event.get(Eqe::SUB_TYPE)), Some(5));
    let answered: OutHeader = host.exec(Opcode::QUERY_ISSI, &QueryIssiIn::zeroed());
    assert_eq!(answered.get(OutHeader::SYNDROME), 0);
}

#[test]
fn one_interrupt_per_arm() {
    let mut host = Host::running(Config::default());
    let mut eq = host.create_eq(11, 4, &[EventType::GENERAL_EVENT]);
    ping(&mut host);
    assert!(host.take_interrupts().is_empty(), "not armed");
    host.arm_eq(&eq);
    assert_eq!(host.take_interrupts(), [11], "the producer is ahead of the counter written");
    ping(&mut host);
    assert!(host.take_interrupts().is_empty(), "the arm was used");
    while host.next_event(&mut eq).is_some() {}
    let update = uar::offset(host.uar, uar::EQ_UPDATE);
    host.nic.write32(update, eq.number << 24 | eq.counter);
    ping(&mut host);
    assert!(host.take_interrupts().is_empty(), "an update does not arm");
    host.next_event(&mut eq);
    host.arm_eq(&eq);
    assert!(host.take_interrupts().is_empty());
    ping(&mut host);
    ping(&mut host);
    assert_eq!(host.take_interrupts(), [11]);
}

#[test]
fn events_go_to_their_subscriber() {
    let mut host = Host::running(Config::default());
    assert!(!ping(&mut host));
    let mut a = host.create_eq(0, 2, &[EventType::PORT_CHANGE]);
    let mut b = host.create_eq(1, 2, &[EventType::GENERAL_EVENT, EventType::CQ_ERROR]);
    assert!(ping(&mut host));
    host.nic.set_cable(false);
    host.nic.set_cable(false);
    assert_eq!(host.next_event(&mut a).unwrap().get(Eqe::TYPE), u32::from(EventType::PORT_CHANGE.0));
    assert_eq!(host.next_event(&mut b).unwrap().get(Eqe::TYPE), u32::from(EventType::GENERAL_EVENT.0));
    assert_eq!((host.next_event(&mut a), host.next_event(&mut b)), (None, None));
}

/// A queue whose NOPs complete to `cq`.
fn nops(host: &mut Host, cq: &Queue) -> Queue {
    host.create_sq(cq.number, 6, None)
}

fn nop(host: &mut Host, sq: &mut Queue, solicited: bool) {
    let mut wqe = [0; 16];
    wqe[7] = 1;
    wqe[11] = 8 | u8::from(solicited) << 1;
    host.post_send(sq, &wqe);
    host.ring_sq(sq);
}

#[test]
fn one_completion_event_per_arm() {
    let mut host = Host::running(Config::default());
    let mut eq = host.create_eq(2, 4, &[]);
    let mut cq = host.create_cq(eq.number, 4, 64);
    let mut sq = nops(&mut host, &cq);
    nop(&mut host, &mut sq, false);
    assert_eq!(host.next_event(&mut eq), None, "not armed");
    host.arm_cq(&cq, 0);
    let event = host.next_event(&mut eq).expect("there is a completion already");
    assert_eq!(event.get(Eqe::TYPE), u32::from(EventType::COMP.0));
    assert_eq!(EqeComp::from_prefix(event.blob(Eqe::DATA)).get(EqeComp::CQN_CQN_24), cq.number);
    nop(&mut host, &mut sq, false);
    assert_eq!(host.next_event(&mut eq), None, "one event per arm");
    assert!(host.next_cqe(&mut cq).is_some() && host.next_cqe(&mut cq).is_some());
    host.arm_cq(&cq, 1);
    assert_eq!(host.next_event(&mut eq), None);
    host.arm_eq(&eq);
    nop(&mut host, &mut sq, false);
    assert!(host.next_event(&mut eq).is_some());
    assert_eq!(host.take_interrupts(), [2]);
}

#[test]
fn a_used_sequence_number_does_not_arm() {
    for strict in [true, false] {
        let mut config = Config::default();
        config.switches.strict_arm_sequence = strict;
        let mut host = Host::running(config);
        let mut eq = host.create_eq(2, 4, &[]);
        let cq = host.create_cq(eq.number, 4, 64);
        let mut sq = nops(&mut host, &cq);
        host.arm_cq(&cq, 2);
        host.arm_cq(&cq, 2);
        nop(&mut host, &mut sq, false);
        assert!(host.next_event(&mut eq).is_some());
        host.arm_cq(&cq, 2);
        assert_eq!(host.next_event(&mut eq).is_some(), !strict);
        assert_eq!(host.nic.counters().misuse.stale_arm, u64::from(strict));
        host.arm_cq(&cq, 3);
        assert!(host.next_event(&mut eq).is_some());
    }
}

#[test]
fn solicited_arms_wait_for_solicited_completions() {
    let mut host = Host::running(Config::default());
    let mut eq = host.create_eq(2, 4, &[]);
    let cq = host.create_cq(eq.number, 4, 64);
    let mut sq = nops(&mut host, &cq);
    let word = 1u32 << 24;
    host.nic.write64(uar::offset(host.uar, uar::CQ_ARM), u64::from(word) << 32 | u64::from(cq.number));
    nop(&mut host, &mut sq, false);
    assert_eq!(host.next_event(&mut eq), None);
    nop(&mut host, &mut sq, true);
    assert!(host.next_event(&mut eq).is_some());
}

#[test]
fn completions_have_both_sizes() {
    let mut host = Host::running(Config::default());
    let eq = host.create_eq(2, 4, &[]);
    for stride in [64, 128] {
        let mut cq = host.create_cq(eq.number, 2, stride);
        let mut sq = nops(&mut host, &cq);
        for lap in 0..3u8 {
            for slot in 0..4 {
                assert_eq!(host.next_cqe(&mut cq), None);
                nop(&mut host, &mut sq, false);
                let cqe = host.next_cqe(&mut cq).unwrap();
                assert_eq!(cqe.len() as u64, stride);
                assert_eq!(cqe[cqe.len() - 1], lap & 1);
                assert_eq!(cqe[cqe.len() - 4..][..2], u16::from(lap * 4 + slot).to_be_bytes());
                assert!(cqe[..cqe.len() - 64].iter().all(|byte| *byte == 0));
            }
        }
    }
}

#[test]
fn an_overrun_completion_queue_fails() {
    let mut host = Host::running(Config::default());
    let eq = host.create_eq(2, 4, &[]);
    let mut errors = host.create_eq(3, 4, &[EventType::CQ_ERROR]);
    let mut cq = host.create_cq(eq.number, 1, 64);
    let mut sq = nops(&mut host, &cq);
    for _ in 0..5 {
        nop(&mut host, &mut sq, false);
    }
    let event = host.next_event(&mut errors).expect("an error event");
    let error = EqeCqErr::from_prefix(event.blob(Eqe::DATA));
    assert_eq!((error.get(EqeCqErr::CQN_CQN_24), error.get(EqeCqErr::SYNDROME)), (cq.number, 1));
    assert_eq!(host.next_event(&mut errors), None, "once");
    assert_eq!(host.nic.counters().misuse.cq_overrun, 1);
    assert!(host.next_cqe(&mut cq).is_some() && host.next_cqe(&mut cq).is_some());
    nop(&mut host, &mut sq, false);
    assert_eq!(host.next_cqe(&mut cq), None, "a failed queue stays silent");

    // Overrun ignored: old completions are overwritten.
    let mut cq = host.create_cq(eq.number, 1, 64);
    let input = ModifyCqIn::zeroed()
        .with(ModifyCqIn::CQN, cq.number)
        .with(ModifyCqIn::MODIFY_FIELD_SELECT_RESIZE_FIELD_SELECT, 1 << 2)
        .with_nested(ModifyCqIn::CQ_CONTEXT, &Cqc::zeroed().with(Cqc::OI, 1));
    host.exec::<_, OutHeader>(Opcode::MODIFY_CQ, &input);
    let mut sq = nops(&mut host, &cq);
    for _ in 0..4 {
        nop(&mut host, &mut sq, false);
    }
    cq.counter = 2;
    assert_eq!(host.next_cqe(&mut cq).unwrap()[60..62], [0, 2]);
}

#[test]
fn queues_can_be_queried_and_modified() {
    let mut host = Host::running(Config::default());
    let eq = host.create_eq(2, 4, &[EventType::GENERAL_EVENT]);
    let other = host.create_eq(3, 4, &[]);
    let cq = host.create_cq(eq.number, 3, 64);
    ping(&mut host);
    let output: QueryEqOut = host.exec(Opcode::QUERY_EQ, &QueryEqIn::zeroed().with(QueryEqIn::EQ_NUMBER, eq.number));
    let context: Eqc = output.nested(QueryEqOut::EQ_CONTEXT_ENTRY);
    assert_eq!((context.get(Eqc::INTR), context.get(Eqc::PRODUCER_COUNTER)), (2, 1));
    let input = ModifyCqIn::zeroed()
        .with(ModifyCqIn::CQN, cq.number)
        .with(ModifyCqIn::MODIFY_FIELD_SELECT_RESIZE_FIELD_SELECT, 0b1011)
        .with_nested(
            ModifyCqIn::CQ_CONTEXT,
            &Cqc::zeroed()
                .with(Cqc::CQ_PERIOD, 8)
                .with(Cqc::CQ_MAX_COUNT, 32)
                .with(Cqc::C_EQN_OR_APU_ELEMENT, other.number),
        );
    host.exec::<_, OutHeader>(Opcode::MODIFY_CQ, &input);
    let output: QueryCqOut = host.exec(Opcode::QUERY_CQ, &QueryCqIn::zeroed().with(QueryCqIn::CQN, cq.number));
    let context: Cqc = output.nested(QueryCqOut::CQ_CONTEXT);
    assert_eq!((context.get(Cqc::CQ_PERIOD), context.get(Cqc::CQ_MAX_COUNT)), (8, 32));
    assert_eq!(context.get(Cqc::C_EQN_OR_APU_ELEMENT), other.number);
    // The old event queue is free, the new one in use.
    host.exec::<_, OutHeader>(Opcode::DESTROY_EQ, &DestroyEqIn::zeroed().with(DestroyEqIn::EQ_NUMBER, eq.number));
    let input_eq = DestroyEqIn::zeroed().with(DestroyEqIn::EQ_NUMBER, other.number);
    assert_eq!(host.refused(Opcode::DESTROY_EQ, &input_eq, &[]), answer(refusal::EQ_IN_USE));
    let resize = input.with(ModifyCqIn::MODIFY_FIELD_SELECT_RESIZE_FIELD_SELECT, 1 << 6);
    assert_eq!(host.refused(Opcode::MODIFY_CQ, &resize, &[]), answer(refusal::CQ_MODIFY_FIELD));
}
