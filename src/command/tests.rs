//! | property | test |
//! |---|---|
//! | the queue's address is written high half first, and read back geometry is honoured | `the_queue_is_given_to_the_device` |
//! | what cannot be a command queue is refused | `impossible_queues_are_refused` |
//! | a device that is missing, or never ready, is an error that says so | `a_device_that_is_not_ready_is_an_error` |
//! | input and output of every length arrive whole | `every_length_arrives_whole` |
//! | every status is an error with its name, syndrome, command, object and firmware | `every_status_is_named` |
//! | every delivery status is an error with its name | `every_delivery_status_is_named` |
//! | 31 commands at once plus MANAGE_PAGES; the next finds no slot | `all_slots_are_used_at_once` |
//! | MANAGE_PAGES has the top slot, and only it | `pages_have_their_own_slot` |
//! | answers go to whom they belong, in whatever order they come | `answers_out_of_order_find_their_command` |
//! | a command that is never answered ends with its deadline | `no_answer_ends_with_the_deadline` |
//! | an overdue command keeps slot and mailboxes until its late completion | `a_late_completion_frees_its_slot` |
//! | memory of an overdue command is not written by a later one | `an_overdue_commands_memory_is_not_reused` |
//! | a function that vanishes ends a wait at once | `a_vanished_function_ends_a_wait` |
//! | tokens, lengths and chains that changed are errors, and retire the slot | `foreign_answers_are_errors` |
//! | a dropped ticket frees its slot with the completion | `a_dropped_ticket_frees_its_slot` |
//! | with events on, a command ends by its event; stray and early bits are counted | `events_end_commands` |
//! | a lost event costs the deadline, not the answer | `a_lost_event_is_made_up_for` |
//! | a pipeline keeps every slot busy and returns answers in order | `a_pipeline_keeps_order_and_slots_busy` |
//! | a failure in a pipeline is told, and keeps no other command | `a_failure_in_a_pipeline_keeps_no_other` |
//! | a pipeline whose deadline has passed posts nothing more | `a_late_pipeline_posts_nothing_more` |
//! | a command that is too long is refused before it is posted | `too_long_is_refused` |
//! | dropping the queue with commands in flight keeps their memory | `a_dropped_queue_keeps_memory_in_flight` |
//! | every command is written down as it was posted and as it came back, whatever became of it | `what_goes_through_the_queue_is_written_down` |
use super::fake::{Fake, Fate, Posted};
use super::*;
use crate::platform::{Deadline, Platform};
use cxddp_trace::{Dump, Fact, Sink, Trace};
use firmware_iface::Status;
use firmware_iface::command::OutHeader;
use firmware_iface::command::device::{ManagePagesIn, NopIn, QueryPagesIn};
use firmware_iface::command::object::{CreateMkeyIn, DestroyCqIn};
use firmware_iface::{Opcode, command};
use hw_regs::command_queue::{CommandEntry, DeliveryStatus, Mailbox};
use hw_regs::layout::{Access, Layout};
use proptest::prelude::*;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

fn start(fake: Fake) -> (Arc<Fake>, CommandQueue<Fake>) {
    let fake = fake.shared();
    let heap = fake.dma_heap();
    let queue = CommandQueue::start(Arc::clone(&fake), &heap, in_ms(&fake, 10)).expect("a command queue");
    (fake, queue)
}

fn in_ms(fake: &Arc<Fake>, ms: u32) -> Deadline {
    Deadline::after(&**fake, MS * ms)
}

fn nop() -> Request {
    Request::new(&NopIn::zeroed())
}

fn manage_pages() -> Request {
    Request::new(&ManagePagesIn::zeroed())
}

/// Answers with the input, so that it can be told whose answer it is.
fn echo(posted: &Posted) -> Fate {
    Fate::ok(&posted.input[8..])
}

fn numbered(n: u32) -> Request {
    Request::new(&command::object::DestroyMkeyIn::zeroed().with(command::object::DestroyMkeyIn::MKEY_INDEX, n))
}

#[test]
fn the_queue_is_given_to_the_device() {
    let (fake, mut queue) = start(Fake::new(echo));
    let writes: Vec<_> = fake.writes.borrow().iter().map(|write| write.0).collect();
    assert_eq!(writes, [0x10, 0x14]);
    assert_eq!(fake.writes.borrow()[1].1 & 0xfff, 0, "the low bits say full driver");
    assert_eq!(queue.slots(), 32);
    assert_eq!(queue.function().to_string(), "fake0 [15b3:1021] firmware 28.39.1002");
    queue.exec(&nop(), in_ms(&fake, 1)).expect("an answer");

    // Two slots of 128 bytes.
    let fake = Fake::new(echo);
    fake.registers.borrow_mut().insert(0x14, 1 << 4 | 7);
    let (fake, mut queue) = start(fake);
    let ticket = queue.post(&manage_pages()).expect("the top slot");
    queue.exec(&nop(), in_ms(&fake, 1)).expect("the other slot");
    queue.wait(ticket, in_ms(&fake, 1)).expect("an answer");
    assert_eq!(fake.posted.borrow().iter().map(|p| p.slot).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn impossible_queues_are_refused() {
    for (log_size, log_stride, possible) in [(0, 6, false), (6, 6, false), (5, 5, false), (5, 8, false), (5, 7, true)] {
        let fake = Fake::new(echo);
        fake.registers.borrow_mut().insert(0x14, log_size << 4 | log_stride);
        let fake = fake.shared();
        match CommandQueue::start(Arc::clone(&fake), &fake.dma_heap(), in_ms(&fake, 10)) {
            Ok(_) => assert!(possible, "{log_size} {log_stride}"),
            Err(StartError::Geometry { .. }) => assert!(!possible, "{log_size} {log_stride}"),
            Err(other) => panic!("{other}"),
        }
    }
    let fake = Fake::new(echo);
    fake.registers.borrow_mut().insert(0x4, 4 << 16);
    let fake = fake.shared();
    let error = CommandQueue::start(Arc::clone(&fake), &fake.dma_heap(), in_ms(&fake, 10)).err().expect("an error");
    assert!(matches!(error, StartError::Revision { found: 4, .. }), "{error}");
}

#[test]
fn a_device_that_is_not_ready_is_an_error() {
    let fake = Fake::new(echo);
    fake.registers.borrow_mut().insert(0x1fc, 1 << 31);
    let fake = fake.shared();
    let error = CommandQueue::start(Arc::clone(&fake), &fake.dma_heap(), in_ms(&fake, 10)).err().expect("an error");
    assert!(matches!(error, StartError::Initializing { waited, .. } if waited >= MS * 10), "{error}");
    fake.gone.set(true);
    let error = CommandQueue::start(Arc::clone(&fake), &fake.dma_heap(), in_ms(&fake, 10)).err().expect("an error");
    assert!(matches!(error, StartError::DeviceGone(_)), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn every_length_arrives_whole(lengths in proptest::collection::vec((0usize..3000, 16usize..3000, any::<u64>()), 1..8)) {
        let (fake, mut queue) = start(Fake::new(|posted| {
            let sum = posted.input.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
            Fate::ok(&vec![sum; posted.output_len - 8])
        }));
        for (tail, output, seed) in lengths {
            let tail: Vec<u8> = (0..tail as u64).map(|n| (seed.wrapping_mul(n * 2 + 1) >> 32) as u8).collect();
            let request = nop().tail(&tail).output_len(output);
            let answer = queue.exec(&request, in_ms(&fake, 1)).expect("an answer");
            let posted = fake.posted.borrow().last().expect("a command").clone();
            prop_assert_eq!(&posted.input, request.input());
            let sum = request.input().iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
            prop_assert_eq!(answer.bytes().len(), output);
            prop_assert!(answer.bytes()[8..].iter().all(|byte| *byte == sum));
        }
        prop_assert_eq!(queue.mailboxes_in_use(), 0);
    }
}

#[test]
fn every_status_is_named() {
    let status = Rc::new(Cell::new(Status::OK));
    let script = Rc::clone(&status);
    let (fake, mut queue) = start(Fake::new(move |_| Fate::Refuse(script.get(), 0xabcd_0001)));
    let request = Request::new(&DestroyCqIn::zeroed()).about(ObjectKind::Cq, 0x12);
    let named = Status::TABLE.1.iter().map(|(_, value)| Status(*value as u8)).filter(|status| *status != Status::OK);
    let mut seen = 0;
    for value in named.chain([Status(0x77)]) {
        status.set(value);
        let error = queue.exec(&request, in_ms(&fake, 1)).expect_err("a refusal");
        assert_eq!(error.status(), Some(value));
        let text = error.to_string();
        let name = value.name().unwrap_or("unknown (0x77)");
        for part in ["fake0", "28.39.1002", "DESTROY_CQ", "CQ 0x12", name, "0xabcd0001"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        assert!(!error.may_still_run());
        seen += 1;
    }
    assert_eq!(seen, Status::TABLE.1.len());
    assert_eq!(queue.in_flight(), 0);
    assert_eq!(queue.counters().failed, seen as u64);
}

#[test]
fn every_delivery_status_is_named() {
    let status = Rc::new(Cell::new(0));
    let script = Rc::clone(&status);
    let (fake, mut queue) = start(Fake::new(move |_| Fate::Undelivered(script.get())));
    for (_, value) in DeliveryStatus::TABLE.1.iter().filter(|(_, value)| *value != 0) {
        let value = DeliveryStatus(*value as u8);
        status.set(value.0);
        let query = QueryPagesIn::zeroed().with(QueryPagesIn::OP_MOD, 1);
        let error = queue.exec(&Request::new(&query), in_ms(&fake, 1)).expect_err("not delivered");
        assert!(matches!(error.fault, Fault::Delivery(found) if found == value), "{error}");
        let text = error.to_string();
        assert!(text.contains(value.name().expect("a name")) && text.contains("BOOT_PAGES"), "{text}");
    }
    assert_eq!(queue.in_flight(), 0);
}

#[test]
fn all_slots_are_used_at_once() {
    let (fake, mut queue) = start(Fake::new(|posted| echo(posted).later(MS)));
    let tickets: Vec<_> = (0..31).map(|n| queue.post(&numbered(n)).expect("a slot")).collect();
    let pages = queue.post(&manage_pages()).expect("its own slot");
    assert_eq!((queue.in_flight(), queue.free_slots()), (32, 0));
    for request in [nop(), manage_pages()] {
        let error = queue.post(&request).expect_err("no slot");
        assert!(matches!(error.fault, Fault::NoSlot { busy: 32, stuck: 0 }), "{error}");
    }
    assert_eq!(fake.posted.borrow().iter().map(|p| p.slot).collect::<std::collections::BTreeSet<_>>().len(), 32);
    let tokens: std::collections::BTreeSet<_> = fake.posted.borrow().iter().map(|p| p.token).collect();
    assert_eq!(tokens.len(), 32);
    // A command that waits for a slot gets one.
    queue.exec(&nop(), in_ms(&fake, 10)).expect("an answer");
    for (n, ticket) in tickets.into_iter().enumerate() {
        let output = queue.wait(ticket, in_ms(&fake, 10)).expect("an answer");
        assert_eq!(output.word(8), n as u32);
    }
    queue.wait(pages, in_ms(&fake, 10)).expect("an answer");
    assert_eq!(queue.in_flight(), 0);
}

#[test]
fn pages_have_their_own_slot() {
    let (fake, mut queue) = start(Fake::new(echo));
    for _ in 0..40 {
        queue.exec(&manage_pages(), in_ms(&fake, 1)).expect("an answer");
        queue.exec(&nop(), in_ms(&fake, 1)).expect("an answer");
    }
    for posted in fake.posted.borrow().iter() {
        assert_eq!(posted.slot == 31, posted.opcode() == Opcode::MANAGE_PAGES);
    }
}

#[test]
fn answers_out_of_order_find_their_command() {
    let (fake, mut queue) = start(Fake::new(|posted| {
        let n = posted.word(8);
        echo(posted).later(MS * (n * 7 % 31 + 1))
    }));
    let tickets: Vec<_> = (0..31).map(|n| (n, queue.post(&numbered(n)).expect("a slot"))).collect();
    for (n, ticket) in tickets {
        let output = queue.wait(ticket, in_ms(&fake, 100)).expect("an answer");
        assert_eq!(output.word(8), n);
    }
}

#[test]
fn no_answer_ends_with_the_deadline() {
    let (fake, mut queue) = start(Fake::new(|_| Fate::Nothing));
    let before = fake.now();
    let error = queue.exec(&nop(), in_ms(&fake, 20)).expect_err("no answer");
    assert!(matches!(error.fault, Fault::TimedOut { waited, slot: 0, busy: 1 } if waited >= MS * 20), "{error}");
    assert!(fake.now() - before < MS * 21);
    assert!(error.may_still_run());
    assert_eq!((queue.stuck(), queue.counters().timed_out), (1, 1));
    for _ in 0..30 {
        queue.exec(&nop(), in_ms(&fake, 1)).expect_err("no answer");
    }
    let error = queue.exec(&nop(), in_ms(&fake, 1)).expect_err("no slot");
    assert!(matches!(error.fault, Fault::NoSlot { busy: 31, stuck: 31 }), "{error}");
    assert!(error.to_string().contains("reset the function"), "{error}");
}

#[test]
fn a_late_completion_frees_its_slot() {
    let (fake, mut queue) = start(Fake::new(|posted| echo(posted).later(MS * 50)));
    let request = numbered(1).output_len(600);
    queue.exec(&request, in_ms(&fake, 10)).expect_err("late");
    assert_eq!((queue.in_flight(), queue.stuck(), queue.mailboxes_in_use()), (1, 1, 2));
    fake.script(echo);
    queue.exec(&numbered(2), in_ms(&fake, 1)).expect("another slot");
    assert_eq!(fake.posted.borrow()[1].slot, 1);
    fake.sleep(MS * 50);
    queue.poll();
    assert_eq!((queue.in_flight(), queue.stuck(), queue.mailboxes_in_use()), (0, 0, 0));
    assert_eq!(queue.counters().late, 1);
    queue.exec(&numbered(3), in_ms(&fake, 1)).expect("the slot is back");
    assert_eq!(fake.posted.borrow()[2].slot, 0);
}

#[test]
fn an_overdue_commands_memory_is_not_reused() {
    let (fake, mut queue) = start(Fake::new(|_| Fate::Nothing));
    let overdue = nop().tail(&[0xaa; 2000]);
    queue.exec(&overdue, in_ms(&fake, 1)).expect_err("no answer");
    fake.script(echo);
    for _ in 0..100 {
        queue.exec(&nop().tail(&[0x55; 2000]).output_len(2000), in_ms(&fake, 1)).expect("an answer");
    }
    // The device reads the overdue command only now.
    let posted = fake.posted.borrow()[0].clone();
    let mut next = posted.entry().get_wide(CommandEntry::IN_PTR);
    let mut blocks = 0;
    while next != 0 {
        let block = Mailbox::from_prefix(&fake.memory.read(next, 576));
        let data = wire::block_of(overdue.input(), blocks);
        assert_eq!(&block.bytes()[..data.len()], data);
        next = block.get_wide(Mailbox::NEXT);
        blocks += 1;
    }
    assert_eq!(blocks, 4);
}

#[test]
fn a_vanished_function_ends_a_wait() {
    let (fake, mut queue) = start(Fake::new(|_| Fate::Nothing));
    let ticket = queue.post(&nop()).expect("a slot");
    fake.gone.set(true);
    let before = fake.now();
    let error = queue.wait(ticket, in_ms(&fake, 60_000)).expect_err("gone");
    assert!(matches!(error.fault, Fault::DeviceGone), "{error}");
    assert!(fake.now() - before < MS * 5, "not after a minute");
    let error = queue.post(&nop()).expect_err("gone");
    assert!(matches!(error.fault, Fault::DeviceGone), "{error}");
    fake.gone.set(false);
    assert!(queue.post(&nop()).is_err(), "what comes back is another function");
}

#[test]
fn foreign_answers_are_errors() {
    type Expected = fn(&Fault) -> bool;
    let cases: [(Fate, Expected); 7] = [
        (Fate::Entry(|e| e.set(CommandEntry::TOKEN, 0)), |f| matches!(f, Fault::Token { place: Place::Entry, .. })),
        (Fate::Block(|b| b.set(Mailbox::TOKEN, 0)), |f| matches!(f, Fault::Token { place: Place::Block(0), .. })),
        (Fate::Entry(|e| e.set(CommandEntry::OUTLEN, 4096)), |f| {
            matches!(f, Fault::Length { expected: 600, found: 4096 })
        }),
        (Fate::Entry(|e| e.set(CommandEntry::OUTLEN, 8)), |f| matches!(f, Fault::Length { .. })),
        (Fate::Block(|b| b.set(Mailbox::BLOCK_NUM, 9)), |f| matches!(f, Fault::Mailbox { number: 9, .. })),
        (Fate::Block(|b| b.set_wide(Mailbox::NEXT, 0)), |f| matches!(f, Fault::Mailbox { next: 0, .. })),
        (Fate::Block(|b| b.set_wide(Mailbox::NEXT, u64::MAX)), |f| matches!(f, Fault::Mailbox { next: u64::MAX, .. })),
    ];
    let (fake, mut queue) = start(Fake::new(echo));
    for (n, (fate, expected)) in cases.into_iter().enumerate() {
        fake.script(move |_| fate.clone());
        let error = queue.exec(&nop().output_len(600), in_ms(&fake, 1)).expect_err("an error");
        assert!(expected(&error.fault), "{error}");
        assert!(error.may_still_run());
        assert_eq!(queue.stuck(), n + 1, "the slot is retired");
    }
    fake.script(echo);
    queue.exec(&nop(), in_ms(&fake, 1)).expect("other slots go on");
    assert_eq!(fake.posted.borrow().last().expect("a command").slot, 7);
}

#[test]
fn a_dropped_ticket_frees_its_slot() {
    let (fake, mut queue) = start(Fake::new(|posted| echo(posted).later(MS)));
    drop(queue.post(&nop()).expect("a slot"));
    assert_eq!(queue.in_flight(), 1);
    fake.sleep(MS * 2);
    queue.poll();
    assert_eq!((queue.in_flight(), queue.counters().abandoned), (0, 1));
}

#[test]
fn events_end_commands() {
    let (fake, mut queue) = start(Fake::new(|posted| echo(posted).later(MS)));
    queue.use_events(true);
    let ticket = queue.post(&numbered(5)).expect("a slot");
    queue.complete(1);
    assert_eq!(queue.counters().early_events, 1);
    fake.sleep(MS * 2);
    queue.poll();
    assert!(!ticket.is_done(), "only its event ends it");
    queue.complete(1 << 31 | 1 << 7 | 1);
    assert!(ticket.is_done());
    assert_eq!(queue.counters().stray_events, 2);
    assert_eq!(queue.wait(ticket, in_ms(&fake, 0)).expect("an answer").word(8), 5);
    assert_eq!(queue.counters().missed_events, 0);
}

#[test]
fn a_lost_event_is_made_up_for() {
    let (fake, mut queue) = start(Fake::new(echo));
    queue.use_events(true);
    let output = queue.exec(&numbered(6), in_ms(&fake, 10)).expect("an answer");
    assert_eq!(output.word(8), 6);
    assert_eq!(queue.counters().missed_events, 1);
}

#[test]
fn a_pipeline_keeps_order_and_slots_busy() {
    let (flying, most) = (Rc::new(Cell::new(0u32)), Rc::new(Cell::new(0u32)));
    let (f, m) = (Rc::clone(&flying), Rc::clone(&most));
    let (fake, mut queue) = start(Fake::new(move |posted| {
        f.set(f.get() + 1);
        m.set(m.get().max(f.get()));
        echo(posted).later(MS / 10 * (posted.word(8) * 5 % 13 + 1))
    }));
    let answers = pipeline(&mut queue, (0..1000).map(numbered), in_ms(&fake, 60_000));
    let numbers: Vec<_> = answers.into_iter().map(|answer| answer.expect("an answer").word(8)).collect();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    // Far fewer waits than commands: 1000 commands of 0.7 ms in sequence would take 700 ms.
    assert!(fake.now() < MS * 70, "{:?}", fake.now());
    assert!(most.get() >= 31);
}

#[test]
fn a_failure_in_a_pipeline_keeps_no_other() {
    let (fake, mut queue) = start(Fake::new(|posted| match posted.word(8) {
        100 => Fate::Refuse(Status::NO_RES_ERR, 1).later(MS),
        _ => echo(posted).later(MS),
    }));
    let answers = pipeline(&mut queue, (0..1000).map(numbered), in_ms(&fake, 60_000));
    assert_eq!(answers.len(), 1000);
    for (n, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(output) => assert_eq!((output.word(8) as usize, n == 100), (n, false)),
            Err(error) => assert_eq!((n, error.status()), (100, Some(Status::NO_RES_ERR))),
        }
    }
    assert_eq!(queue.in_flight(), 0);
}

#[test]
fn a_late_pipeline_posts_nothing_more() {
    let (fake, mut queue) = start(Fake::new(|posted| match posted.word(8) {
        0..50 => echo(posted),
        _ => Fate::Nothing,
    }));
    let answers = pipeline(&mut queue, (0..1000).map(numbered), in_ms(&fake, 10));
    assert!(answers[..50].iter().all(Result::is_ok));
    let late = |fault: &Fault| matches!(fault, Fault::TimedOut { .. });
    let (timed_out, not_posted) = (
        answers[50..].iter().flat_map(|a| a.as_ref().err()).filter(|e| late(&e.fault)).count(),
        answers[50..].iter().flat_map(|a| a.as_ref().err()).filter(|e| !e.may_still_run()).count(),
    );
    assert_eq!((timed_out, timed_out + not_posted), (queue.stuck(), 950));
    assert_eq!(fake.posted.borrow().len(), 50 + timed_out);
}

#[test]
fn too_long_is_refused() {
    let (fake, mut queue) = start(Fake::new(echo));
    let pages = 131_072;
    let most = manage_pages().tail(&vec![1; pages * 8]);
    queue.exec(&most, in_ms(&fake, 100)).expect("512 MiB of pages in one command");
    assert_eq!(fake.posted.borrow()[0].input, most.input());
    for request in [most.tail(&[0; 8]), nop().output_len(usize::MAX), nop().output_len(2 << 20)] {
        let error = queue.exec(&request, in_ms(&fake, 1)).expect_err("too long");
        assert!(matches!(error.fault, Fault::TooLong { .. }), "{error}");
    }
    assert_eq!((fake.posted.borrow().len(), queue.in_flight(), queue.mailboxes_in_use()), (1, 0, 0));
}

#[test]
fn a_dropped_queue_keeps_memory_in_flight() {
    let (fake, queue) = start(Fake::new(echo));
    drop(queue);
    assert_eq!(fake.memory.mappings(), 0, "an idle queue gives its memory back");
    let (fake, mut queue) = start(Fake::new(|_| Fate::Nothing));
    drop(queue.post(&Request::new(&CreateMkeyIn::zeroed())).expect("a slot"));
    drop(queue);
    assert_eq!(fake.memory.mappings(), 1, "the device may still write");
}

/// A file in memory.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_goes_through_the_queue_is_written_down() {
    let (fake, mut queue) = start(Fake::new(|posted| match posted.word(8) {
        1 => Fate::Refuse(Status::BAD_RES_ERR, 0x1234),
        2 => Fate::Nothing,
        _ => echo(posted),
    }));
    let written = Written::default();
    queue.trace(Sink::to(written.clone(), u64::MAX));
    let long = numbered(0).tail(&[7; 900]).output_len(700);
    let mut outcomes = Vec::new();
    for request in [numbered(0), numbered(1), long, numbered(2)] {
        outcomes.push((queue.exec(&request, in_ms(&fake, 10)), request));
    }
    let text = String::from_utf8(written.0.lock().expect("lock").clone()).expect("UTF-8");
    let trace = Trace::parse(&text).expect("a trace");
    assert_eq!(trace.functions(), ["fake0"]);
    assert_eq!(trace.facts[1].1, Fact::Firmware(28, 39, 1002));
    assert_eq!(trace.commands.len(), 4);
    for (n, (exchange, (outcome, request))) in trace.commands.iter().zip(&outcomes).enumerate() {
        let input = exchange.input.as_ref().expect("it was posted");
        assert_eq!(input.input(), request.input(), "{n}");
        assert_eq!(input.entry.bytes(), fake.posted.borrow()[n].entry().bytes(), "{n}");
        let output = exchange.output.as_ref().map(Dump::output);
        match outcome {
            Ok(answer) => assert_eq!(output.as_deref(), Some(answer.bytes()), "{n}"),
            Err(error) => {
                let status = output.map(|bytes| OutHeader::from_prefix(&bytes).status());
                assert_eq!(status, error.status(), "{n}: what came back, if anything did");
            }
        }
    }
}
