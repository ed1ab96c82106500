//! | property | test |
//! |---|---|
//! | inputs and outputs of many blocks pass through mailbox chains, whose links stay as the host made them | `long_inputs_and_outputs_pass_through_mailboxes` |
//! | lengths rule, not chains: stale pointers and longer chains do no harm, an output longer than the answer is zero-filled | `lengths_rule_not_chains` |
//! | tokens, block numbers, alignment, type and lengths are checked, each with its delivery status | `bad_descriptors_are_answered_with_a_delivery_status` |
//! | a slot that the host owns, or that is being worked on, is left alone | `a_slot_is_worked_on_once` |
//! | several slots per doorbell; with jitter answers overtake each other, every one comes | `many_commands_are_answered_out_of_order` |
//! | polling until a command EQ exists, then an event per answer, after the owner bit | `answers_are_announced_once_a_command_queue_exists` |
//! | signatures are right, and never needed | `answers_are_signed` |
//! | each fault does what it says, once | `faults_happen_to_the_command_they_name` |

use super::bring_up::answer;
use super::host::Host;
use crate::{CommandFault, Config, refusal};
use firmware_iface::command::device::*;
use firmware_iface::command::{InHeader, OutHeader};
use firmware_iface::{Opcode, Status};
use hw_regs::command_queue::{CommandEntry, DeliveryStatus, Mailbox};
use hw_regs::eqe::{Eqe, EqeCmd, EventType};
use hw_regs::layout::{Access, Layout};
use std::time::Duration;

fn nop() -> [u8; 16] {
    InHeader::zeroed().with(InHeader::OPCODE, u32::from(Opcode::NOP.0)).0
}

#[test]
fn long_inputs_and_outputs_pass_through_mailboxes() {
    let mut host = Host::new(Config::default());
    host.exec::<_, OutHeader>(Opcode::ENABLE_HCA, &EnableHcaIn::zeroed());
    // 262 pages: 2112 bytes of input in five blocks.
    let pages = host.give_pages(262);
    assert_eq!(host.nic.inventory().pages, 262);
    let input = QueryHcaCapIn::zeroed().with(QueryHcaCapIn::OPCODE, u32::from(Opcode::QUERY_HCA_CAP.0));
    let posted = host.post(3, input.bytes(), QueryHcaCapOut::SIZE);
    assert_eq!(posted.output_blocks.len(), 8);
    let before: Vec<_> = posted.output_blocks.iter().map(|block| host.read(*block + 512, 48 + 14)).collect();
    host.ring(1 << 3);
    let output = host.output(&posted).unwrap();
    assert_eq!(output.len(), QueryHcaCapOut::SIZE);
    let general = host.nic.capabilities().maximum::<firmware_iface::caps::CmdHcaCap>();
    assert_eq!(output[16..16 + 256], *general.bytes());
    assert!(output[16 + 256..].iter().all(|byte| *byte == 0));
    let after: Vec<_> = posted.output_blocks.iter().map(|block| host.read(*block + 512, 48 + 14)).collect();
    assert_eq!(before, after, "next, block number and token are the host's");
    host.destroy(Opcode::INIT_HCA, &InitHcaIn::zeroed());
    host.destroy(Opcode::TEARDOWN_HCA, &TeardownHcaIn::zeroed());
    // All of them in one answer of several blocks, last given first taken or not: the same set.
    let mut taken = host.take(300);
    taken.sort_unstable();
    assert_eq!(taken, pages);
}

#[test]
fn lengths_rule_not_chains() {
    let mut host = Host::running(Config::default());
    let stale = host.alloc(1024, 1024);
    let mut entry = CommandEntry::zeroed()
        .with(CommandEntry::TYPE, 7)
        .with(CommandEntry::INLEN, 16)
        .with_wide(CommandEntry::IN_PTR, stale)
        .with_wide(CommandEntry::OUT_PTR, stale)
        .with(CommandEntry::OUTLEN, 16)
        .with(CommandEntry::TOKEN, 9)
        .with(CommandEntry::STATUS_OWN_OWNER, 1);
    entry.bytes_mut()[16..32].copy_from_slice(&nop());
    let posted = host.post(0, &nop(), 16);
    host.write(posted.at, entry.bytes());
    host.ring(1);
    assert_eq!(OutHeader::from_prefix(&host.output(&posted).unwrap()).status(), Status::OK);
    // A chain with a block more than needed, and an answer shorter than the room for it.
    let posted = host.post(1, &nop(), 16 + 1024);
    let shorter = host.entry(&posted).with(CommandEntry::OUTLEN, 16 + 512);
    host.write(posted.at, shorter.bytes());
    host.ring(1 << 1);
    let output = host.output(&posted).unwrap();
    assert!(output[16..528].iter().all(|byte| *byte == 0));
    assert!(output[528..].iter().all(|byte| *byte == 0xee), "the block beyond outlen is untouched");
}

#[test]
fn bad_descriptors_are_answered_with_a_delivery_status() {
    let mut host = Host::running(Config::default());
    let mut check = |edit: &dyn Fn(&mut Host, &super::host::Posted), expected| {
        let input = [&nop()[..], &[0; 1100]].concat();
        let posted = host.post(2, &input, 16 + 600);
        edit(&mut host, &posted);
        host.ring(1 << 2);
        assert_eq!(host.output(&posted).unwrap_err(), expected);
    };
    let entry = |edit: fn(&mut CommandEntry)| {
        move |host: &mut Host, posted: &super::host::Posted| {
            let mut entry = host.entry(posted);
            edit(&mut entry);
            host.write(posted.at, entry.bytes());
        }
    };
    let block = |output: bool, number: usize, edit: fn(&mut Mailbox)| {
        move |host: &mut Host, posted: &super::host::Posted| {
            let at = if output { posted.output_blocks[number] } else { posted.input_blocks[number] };
            let mut block = Mailbox::from_prefix(&host.read(at, 576));
            edit(&mut block);
            host.write(at, block.bytes());
        }
    };
    check(&entry(|e| e.set(CommandEntry::TYPE, 0)), DeliveryStatus::CMD_DESCR_ERR);
    check(&entry(|e| e.set(CommandEntry::INLEN, 4)), DeliveryStatus::IN_LENGTH_ERR);
    check(&entry(|e| e.set(CommandEntry::INLEN, u32::MAX)), DeliveryStatus::IN_LENGTH_ERR);
    check(&entry(|e| e.set(CommandEntry::OUTLEN, u32::MAX)), DeliveryStatus::OUT_LENGTH_ERR);
    check(&entry(|e| e.set_wide(CommandEntry::IN_PTR, 0)), DeliveryStatus::IN_PTR_ALIGN_ERR);
    check(&entry(|e| e.set_wide(CommandEntry::OUT_PTR, 0x1_0000_0040)), DeliveryStatus::OUT_PTR_ALIGN_ERR);
    check(&entry(|e| e.set_wide(CommandEntry::IN_PTR, 0x77_0000_0000)), DeliveryStatus::FW_ERR);
    check(&entry(|e| e.set(CommandEntry::TOKEN, 0xaa)), DeliveryStatus::TOK_ERR);
    check(&block(false, 2, |b| b.set(Mailbox::TOKEN, 0)), DeliveryStatus::TOK_ERR);
    check(&block(true, 1, |b| b.set(Mailbox::TOKEN, 0)), DeliveryStatus::TOK_ERR);
    check(&block(false, 1, |b| b.set(Mailbox::BLOCK_NUM, 0)), DeliveryStatus::BAD_BLK_NUM_ERR);
    check(&block(true, 0, |b| b.set_wide(Mailbox::NEXT, 0)), DeliveryStatus::OUT_PTR_ALIGN_ERR);
    assert_eq!(host.nic.counters().commands_undelivered, 12);
    assert_eq!(host.nic.counters().misuse.dma_fault, 1);
}

#[test]
fn a_slot_is_worked_on_once() {
    let mut host = Host::running(Config::default());
    let commands = host.nic.counters().commands;
    let posted = host.post(5, &nop(), 16);
    host.ring(1 << 5);
    host.ring(1 << 5);
    assert!(host.done(&posted));
    assert_eq!(host.nic.counters().commands, commands + 1);
    host.nic.faults().next(Opcode::NOP, CommandFault::NeverAnswered);
    let posted = host.post(5, &nop(), 16);
    host.ring(1 << 5);
    host.ring(1 << 5);
    assert!(!host.done(&posted));
    assert_eq!(host.nic.counters().commands, commands + 2);
    assert_eq!(host.nic.counters().misuse.command_slot, 2);
}

#[test]
fn many_commands_are_answered_out_of_order() {
    let mut host = Host::running(Config::default());
    // Latency is a property of the configuration; faults give each command one here.
    for slot in 0..32u64 {
        let late = Duration::from_millis(1 + slot * 37 % 32);
        host.nic.faults().next(Opcode::NOP, CommandFault::Late(late));
    }
    let posted: Vec<_> = (0..32).map(|slot| host.post(slot, &nop(), 16)).collect();
    host.ring(u32::MAX);
    assert!(posted.iter().all(|p| !host.done(p)));
    let mut order = Vec::new();
    while let Some(at) = host.nic.next_event() {
        host.nic.advance(at);
        order.extend(
            posted.iter().filter(|p| host.done(p)).map(|p| p.slot).filter(|s| !order.contains(s)).collect::<Vec<_>>(),
        );
    }
    assert_eq!(order.len(), 32);
    assert!(!order.is_sorted());

    let config = Config {
        command_latency: Duration::from_micros(5),
        command_jitter: Duration::from_micros(50),
        seed: 3,
        ..Config::default()
    };
    let mut host = Host::new(config);
    let enable = InHeader::zeroed().with(InHeader::OPCODE, u32::from(Opcode::ENABLE_HCA.0)).0;
    let posted: Vec<_> = (0..32).map(|slot| host.post(slot, &enable, 16)).collect();
    host.ring(u32::MAX);
    let first = host.nic.next_event().unwrap();
    assert!(first >= Duration::from_micros(5));
    host.nic.advance(Duration::from_micros(56));
    assert!(posted.iter().all(|p| host.done(p)));
    let ok = posted.iter().filter(|p| host.output(p).unwrap()[0] == 0).count();
    assert_eq!(ok, 1, "one ENABLE_HCA succeeds");
}

#[test]
fn answers_are_announced_once_a_command_queue_exists() {
    let mut host = Host::running(Config::default());
    let mut eq = host.create_eq(7, 6, &[EventType::CMD]);
    assert_eq!(host.next_event(&mut eq), None, "the answer that made the queue was polled for");
    host.arm_eq(&eq);
    let posted: Vec<_> = [4, 9].map(|slot| host.post(slot, &nop(), 16)).into();
    host.ring(1 << 4 | 1 << 9);
    for p in &posted {
        assert!(host.done(p));
        let event = host.next_event(&mut eq).unwrap();
        assert_eq!(event.get(Eqe::TYPE), u32::from(EventType::CMD.0));
        assert_eq!(EqeCmd::from_prefix(event.blob(Eqe::DATA)).get(EqeCmd::VECTOR), 1 << p.slot);
    }
    assert_eq!(host.next_event(&mut eq), None);
    assert_eq!(host.take_interrupts(), [7], "one interrupt per arm");
    // Refused and undelivered commands are answered and announced alike.
    assert_eq!(host.refused_plain(Opcode(0x3ff)), answer(refusal::OPCODE));
    assert!(host.next_event(&mut eq).is_some());
    let input = firmware_iface::command::object::DestroyEqIn::zeroed()
        .with(firmware_iface::command::object::DestroyEqIn::EQ_NUMBER, eq.number);
    host.exec::<_, OutHeader>(Opcode::DESTROY_EQ, &input);
    assert_eq!(host.next_event(&mut eq), None, "its own destruction is polled for");
}

#[test]
fn answers_are_signed() {
    let xor = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum ^ byte);
    let mut host = Host::running(Config::default());
    let input = QueryHcaCapIn::zeroed().with(QueryHcaCapIn::OPCODE, u32::from(Opcode::QUERY_HCA_CAP.0));
    let posted = host.post(0, input.bytes(), 16 + 700);
    host.ring(1);
    assert_eq!(xor(host.entry(&posted).bytes()), 0xff);
    for block in &posted.output_blocks {
        let block = host.read(*block, 576);
        assert_eq!(xor(&block[512..575]), 0xff);
        assert_eq!(xor(&block), 0xff);
    }
    let mut config = Config::default();
    config.switches.sign_answers = false;
    let mut host = Host::running(config);
    let posted = host.post(0, &nop(), 16);
    host.ring(1);
    assert_eq!(host.entry(&posted).get(CommandEntry::SIG), 0);
}

#[test]
fn faults_happen_to_the_command_they_name() {
    let mut host = Host::running(Config::default());
    let run = |host: &mut Host, fault| {
        host.nic.faults().next(Opcode::QUERY_ISSI, fault);
        let input = InHeader::zeroed().with(InHeader::OPCODE, u32::from(Opcode::QUERY_ISSI.0));
        let posted = host.post(0, input.bytes(), QueryIssiOut::SIZE);
        let slot = host.post(1, &nop(), 16);
        host.ring(1 << 1);
        assert!(host.done(&slot), "others are not touched");
        host.ring(1);
        posted
    };
    let busy = Status::RES_BUSY;
    let posted = run(&mut host, CommandFault::Refuse { status: busy, syndrome: 0xabcd });
    let header = OutHeader::from_prefix(&host.output(&posted).unwrap());
    assert_eq!((header.status(), header.get(OutHeader::SYNDROME)), (busy, 0xabcd));
    let posted = run(&mut host, CommandFault::Undelivered(DeliveryStatus::FW_ERR));
    assert_eq!(host.output(&posted).unwrap_err(), DeliveryStatus::FW_ERR);
    let posted = run(&mut host, CommandFault::WrongToken);
    assert_ne!(host.entry(&posted).get(CommandEntry::TOKEN), u32::from(posted.token));
    let block = Mailbox::from_prefix(&host.read(posted.output_blocks[0], 576));
    assert_ne!(block.get(Mailbox::TOKEN), u32::from(posted.token));
    let posted = run(&mut host, CommandFault::Truncated(40));
    let output = host.output(&posted).unwrap();
    assert!(output[16..40].iter().all(|byte| *byte == 0) && output[40..].iter().all(|byte| *byte == 0xee));
    let posted = run(&mut host, CommandFault::Garbage(1));
    let output = host.output(&posted).unwrap();
    assert_eq!(output[0], 0);
    assert!(output[8..].iter().any(|byte| *byte != 0));
    let posted = run(&mut host, CommandFault::Late(Duration::from_secs(60)));
    assert!(!host.done(&posted));
    host.nic.advance(Duration::from_secs(59));
    assert!(!host.done(&posted));
    host.nic.advance(Duration::from_secs(60));
    assert!(host.done(&posted));
    let commands = host.nic.counters().commands;
    let posted = run(&mut host, CommandFault::Lost);
    assert!(!host.done(&posted));
    assert_eq!(host.nic.counters().commands, commands + 1);
    assert_eq!(host.nic.faults().pending(), 0);
}
