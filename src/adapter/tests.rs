//! | property | test |
//! |---|---|
//! | events are read once, in order, over many laps, and the doorbell names the place | `events_are_read_once_over_many_laps` |
//! | a queue that always has more does not keep its reader | `an_endless_queue_does_not_keep_its_reader` |
//! | events of a type that does not belong on a queue are counted | `unexpected_events_are_counted` |
//! | each asynchronous event is read from the bytes that the reference names | `events_are_read_from_their_bytes` |
//! | firmware's demand for pages is met while the command that needs them is waited for | `pages_are_given_while_a_command_waits` |
//! | pages that firmware offers are taken back | `offered_pages_are_taken_back` |
//! | firmware is told when pages cannot be given | `firmware_is_told_that_pages_cannot_be_given` |
//! | demands of other functions are refused in their name | `demands_of_other_functions_are_refused` |
//! | a gift that firmware refuses is free again; one whose end is unknown is not | `a_refused_gift_is_free_again` |
//! | more pages than asked for, foreign pages and pages returned twice are errors, and free nothing | `wrong_returns_free_nothing` |
//! | startup demands beyond the limit are told to firmware and to the caller | `absurd_startup_demands_are_refused` |
//! | pages that firmware keeps end with the deadline | `kept_pages_end_with_the_deadline` |
//! | objects are destroyed in reverse order of creation | `objects_are_destroyed_in_reverse_order` |
//! | an object whose destruction is refused stays, with its memory, and keeps no other | `a_refused_destruction_keeps_only_itself` |
//! | memory of an object whose creation has no known end is kept | `an_unknown_creation_keeps_its_memory` |
//! | objects that stand or fall together do so, and keep no others | `objects_stand_or_fall_together` |
//! | each ailment is found | `each_ailment_is_found` |
use super::base::{Base, Stage};
use super::eq::EventQueue;
use super::event::Event;
use super::health::{Ailment, Monitor};
use super::pages::PageError;
use super::{AdapterError, Config, Creation, Handle};
use crate::command::fake::{Fake, Fate, Posted};
use crate::command::{CommandError, CommandPort, Fault, ObjectKind, Request};
use crate::dma::DmaBuf;
use crate::platform::Deadline;
use firmware_iface::command::device::{NopIn, QueryPagesOpMod};
use firmware_iface::command::object::{CreateCqIn, CreateMkeyIn, DestroyCqIn, DestroyMkeyIn};
use firmware_iface::{Opcode, Status};
use hw_regs::eqe::{CqErrorSyndrome, EventType};
use hw_regs::layout::{Access, Layout};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const UAR: u32 = 20;
const EQN: u8 = 7;
const EQ_ARM: u64 = 20 * 4096 + 0x40;

fn in_ms(fake: &Arc<Fake>, ms: u32) -> Deadline {
    Deadline::after(&**fake, MS * ms)
}

fn base(script: impl FnMut(&Posted) -> Fate + 'static) -> (Arc<Fake>, Base<Fake>) {
    let fake = Fake::new(script).shared();
    let config = Config { ready_timeout: MS * 10, page_limit: 1000, ..Config::default() };
    let mut base = Base::start(Arc::clone(&fake), &config).expect("a base");
    // Nothing to undo when a test ends.
    base.stage = Stage::Down;
    (fake, base)
}

/// Writes entry `index` (free-running) of a ring of `entries` at `ring`, as the device does: the owner byte last.
fn push(fake: &Fake, ring: u64, entries: u32, index: u32, event: EventType, sub_type: u8, data: &[u8]) {
    let at = ring + u64::from(index % entries) * 64;
    let mut eqe = vec![0; 63];
    eqe[1] = event.0;
    eqe[3] = sub_type;
    eqe[32..32 + data.len()].copy_from_slice(data);
    fake.memory.write(at, &eqe);
    fake.memory.write(at + 63, &[((index / entries) & 1) as u8]);
}

fn eq(base: &Base<Fake>, log_size: u32) -> (EventQueue, u64) {
    let ring = EventQueue::ring(&base.heap, log_size).expect("memory");
    let at = ring.iova().get();
    (EventQueue::new(ring, log_size, EQN, UAR), at)
}

fn page_request(function: u16, pages: i32) -> Vec<u8> {
    let mut data = vec![0; 2];
    data.extend(function.to_be_bytes());
    data.extend(pages.to_be_bytes());
    data
}

/// Addresses of pages in a MANAGE_PAGES input.
fn pages_of(posted: &Posted) -> Vec<u64> {
    posted.input[16..].chunks(8).map(|page| u64::from_be_bytes(page.try_into().expect("8 bytes"))).collect()
}

/// The answer to TAKE: a count and pages.
fn returned(count: u32, pages: &[u64]) -> Fate {
    let mut rest = count.to_be_bytes().to_vec();
    rest.extend([0; 4]);
    rest.extend(pages.iter().flat_map(|page| page.to_be_bytes()));
    Fate::ok(&rest)
}

fn nop() -> Request {
    Request::new(&NopIn::zeroed())
}

#[test]
fn events_are_read_once_over_many_laps() {
    let (fake, base) = base(|_| Fate::ok(&[]));
    let (mut eq, ring) = eq(&base, 3);
    assert!(eq.next().is_none());
    let (mut written, mut read) = (0u32, 0u32);
    for round in 0..50 {
        for _ in 0..round % 9 {
            push(&fake, ring, 8, written, EventType::COMP, 0, &[written as u8]);
            written += 1;
        }
        while let Some(eqe) = eq.next() {
            assert_eq!(eqe.bytes()[32], read as u8);
            read += 1;
        }
        assert_eq!(read, written);
        eq.arm(&*fake);
        assert_eq!(*fake.writes.borrow().last().expect("a doorbell"), (EQ_ARM, u32::from(EQN) << 24 | read));
    }
    assert!(read > 64, "many laps");
}

#[test]
fn an_endless_queue_does_not_keep_its_reader() {
    let (fake, mut base) = base(|_| Fate::ok(&[]));
    let (eq, ring) = eq(&base, 3);
    base.firmware.command_eq = Some(eq);
    // Both laps' entries look new: each entry is rewritten for the next lap as soon as it could be read.
    for lap in 0..4 {
        for index in 0..8 {
            push(&fake, ring, 8, lap * 8 + index, EventType::CMD, 0, &[0; 4]);
        }
        base.firmware.serve();
        assert_eq!(base.firmware.counters.entries, u64::from(lap + 1) * 8);
    }
}

#[test]
fn unexpected_events_are_counted() {
    let (fake, mut base) = base(|_| Fate::ok(&[]));
    let (commands, ring) = eq(&base, 3);
    let (pages, pages_ring) = eq(&base, 3);
    (base.firmware.command_eq, base.firmware.pages_eq) = (Some(commands), Some(pages));
    base.firmware.queue.use_events(true);
    push(&fake, ring, 8, 0, EventType::PORT_CHANGE, 1, &[]);
    push(&fake, ring, 8, 1, EventType(0xee), 0, &[0xff; 28]);
    push(&fake, ring, 8, 2, EventType::CMD, 0, &[0xff; 4]);
    push(&fake, pages_ring, 8, 0, EventType::CMD, 0, &[0xff; 28]);
    base.firmware.serve();
    assert_eq!((base.firmware.counters.entries, base.firmware.counters.unexpected), (4, 3));
    assert_eq!(base.firmware.queue.counters().stray_events, 32);
    assert!(base.firmware.events.is_empty());
}

#[test]
fn events_are_read_from_their_bytes() {
    let read = |event: EventType, sub_type: u8, data: &[(usize, u8)]| {
        let mut eqe = [0; 64];
        (eqe[1], eqe[3]) = (event.0, sub_type);
        data.iter().for_each(|(at, value)| eqe[32 + at] = *value);
        Event::from_async(&hw_regs::eqe::Eqe(eqe))
    };
    assert!(matches!(read(EventType::PORT_CHANGE, 4, &[(8, 0x10)]), Event::PortUp { port: 1 }));
    assert!(matches!(read(EventType::PORT_CHANGE, 1, &[(8, 0x20)]), Event::PortDown { port: 2 }));
    assert!(matches!(read(EventType::PORT_CHANGE, 6, &[]), Event::PortChange { port: 0, .. }));
    let error = read(EventType::CQ_ERROR, 0, &[(0, 0xff), (1, 1), (2, 2), (3, 3), (11, 1)]);
    let expected = CqErrorSyndrome::CQ_OVERRUN;
    assert!(matches!(error, Event::CqError { cqn: 0x01_0203, syndrome } if syndrome == expected));
    let error = read(EventType::WQ_CATAS_ERROR, 0, &[(20, 2), (24, 0xff), (25, 4), (26, 5), (27, 6)]);
    assert!(matches!(error, Event::QueueError { kind: 2, number: 0x04_0506, .. }));
    assert!(matches!(read(EventType(0xee), 9, &[]), Event::Other { event: EventType(0xee), sub_type: 9 }));
    let mut eqe = [0; 64];
    eqe[32 + 24..32 + 28].copy_from_slice(&[0xff, 1, 2, 3]);
    let completion = Event::from_completion(5, &hw_regs::eqe::Eqe(eqe));
    assert!(matches!(completion, Some(Event::Completion { eq: 5, cqn: 0x01_0203 })));
    eqe[1] = EventType::CMD.0;
    assert!(Event::from_completion(5, &hw_regs::eqe::Eqe(eqe)).is_none());
}

#[test]
fn pages_are_given_while_a_command_waits() {
    let given = Rc::new(RefCell::new(Vec::new()));
    let script = Rc::clone(&given);
    let (fake, mut base) = base(move |posted| match posted.opcode() {
        Opcode::MANAGE_PAGES => {
            script.borrow_mut().extend(pages_of(posted));
            Fate::ok(&[])
        }
        // The command completes after the pages were given, and only then.
        _ => Fate::ok(&[]).later(MS * 20),
    });
    let (eq, ring) = eq(&base, 3);
    base.firmware.pages_eq = Some(eq);
    push(&fake, ring, 8, 0, EventType::PAGE_REQUEST, 0, &page_request(0, 700));
    push(&fake, ring, 8, 1, EventType::PAGE_REQUEST, 0, &page_request(0, 5));
    base.firmware.exec(&nop(), in_ms(&fake, 100)).expect("an answer");
    assert_eq!(given.borrow().len(), 705);
    assert_eq!(base.firmware.pages.held(), 705);
    let unique: std::collections::BTreeSet<_> = given.borrow().iter().copied().collect();
    assert_eq!(unique.len(), 705);
    assert!(unique.iter().all(|page| page.is_multiple_of(4096) && *page != 0));
    let events: Vec<_> = base.firmware.events.drain(..).collect();
    assert!(matches!(events[..], [Event::PagesGiven { pages: 700 }, Event::PagesGiven { pages: 5 }]), "{events:?}");
    // The device can write all of them.
    unique.iter().for_each(|page| fake.memory.write(*page, &[0xee; 4096]));
}

#[test]
fn offered_pages_are_taken_back() {
    let held = Rc::new(RefCell::new(Vec::new()));
    let script = Rc::clone(&held);
    let (fake, mut base) = base(move |posted| match posted.op_mod() {
        1 => {
            script.borrow_mut().extend(pages_of(posted));
            Fate::ok(&[])
        }
        _ => {
            let asked = posted.word(12) as usize;
            let mut held = script.borrow_mut();
            let n = asked.min(held.len());
            let pages: Vec<_> = held.drain(..n).collect();
            returned(n as u32, &pages)
        }
    });
    let (eq, ring) = eq(&base, 3);
    base.firmware.pages_eq = Some(eq);
    // So that mailboxes exist.
    base.firmware.exec(&nop().tail(&[0; 20_000]), in_ms(&fake, 10)).expect("an answer");
    let before = base.heap.usage().1;
    push(&fake, ring, 8, 0, EventType::PAGE_REQUEST, 0, &page_request(0, 1000));
    push(&fake, ring, 8, 1, EventType::PAGE_REQUEST, 0, &page_request(0, -900));
    (0..20).for_each(|_| {
        base.firmware.queue.poll();
        base.firmware.serve();
    });
    assert_eq!((base.firmware.pages.held(), held.borrow().len()), (100, 100));
    // 768 and 132: what one command carries, and the rest.
    let asked: Vec<_> = fake.posted.borrow().iter().filter(|p| p.op_mod() == 2).map(|p| p.word(12)).collect();
    assert_eq!(asked, [768, 132]);
    // The most negative number is a number; firmware has less, and says so with an empty answer.
    push(&fake, ring, 8, 2, EventType::PAGE_REQUEST, 0, &page_request(0, i32::MIN));
    (0..20).for_each(|_| {
        base.firmware.queue.poll();
        base.firmware.serve();
    });
    assert_eq!(base.firmware.pages.held(), 0);
    let taken = base.firmware.events.iter().map(|event| match event {
        Event::PagesTaken { pages } => *pages,
        _ => 0,
    });
    assert_eq!(taken.collect::<Vec<_>>(), [0, 900, 100]);
    assert_eq!(base.heap.usage().1, before, "page memory went back to the heap");
}

#[test]
fn firmware_is_told_that_pages_cannot_be_given() {
    let (fake, mut base) = base(|_| Fate::ok(&[]));
    let (eq, ring) = eq(&base, 3);
    base.firmware.pages_eq = Some(eq);
    push(&fake, ring, 8, 0, EventType::PAGE_REQUEST, 0, &page_request(0, 1001));
    push(&fake, ring, 8, 1, EventType::PAGE_REQUEST, 0, &page_request(0, i32::MAX));
    push(&fake, ring, 8, 2, EventType::PAGE_REQUEST, 0, &page_request(0, 1000));
    base.firmware.exec(&nop(), in_ms(&fake, 100)).expect("an answer");
    base.firmware.exec(&nop(), in_ms(&fake, 100)).expect("an answer");
    (0..4).for_each(|_| {
        base.firmware.queue.poll();
        base.firmware.serve();
    });
    let posted: Vec<_> = fake
        .posted
        .borrow()
        .iter()
        .filter(|p| p.opcode() == Opcode::MANAGE_PAGES)
        .map(|p| (p.op_mod(), p.word(12), p.input.len()))
        .collect();
    assert_eq!(posted, [(0, 0, 16), (0, 0, 16), (1, 1000, 8016)]);
    assert_eq!((base.firmware.pages.held(), base.firmware.counters.failed_page_requests), (1000, 2));
    let text = match base.firmware.events.pop_front() {
        Some(Event::PagesFailed { error }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(text.contains("1001 pages") && text.contains("Config::page_limit"), "{text}");
}

#[test]
fn demands_of_other_functions_are_refused() {
    let (fake, mut base) = base(|_| Fate::ok(&[]));
    let (eq, ring) = eq(&base, 3);
    base.firmware.pages_eq = Some(eq);
    push(&fake, ring, 8, 0, EventType::PAGE_REQUEST, 0, &page_request(3, 10));
    base.firmware.serve();
    let posted = fake.posted.borrow()[0].clone();
    assert_eq!((posted.op_mod(), posted.word(8), posted.word(12)), (0, 3, 0));
    assert_eq!(base.firmware.counters.foreign_page_requests, 1);
    assert_eq!(base.firmware.pages.held(), 0);
}

#[test]
fn a_refused_gift_is_free_again() {
    let (fake, mut base) = base(|posted| match posted.opcode() {
        Opcode::QUERY_PAGES => Fate::ok(&[0, 0, 0, 0, 0, 0, 0, 9]),
        _ => Fate::Refuse(Status::BAD_PARAM_ERR, 1),
    });
    let stage = QueryPagesOpMod::BOOT_PAGES;
    let error = base.firmware.give_startup_pages(stage, in_ms(&fake, 10)).expect_err("refused");
    assert!(matches!(&error, PageError::Command(e) if e.status() == Some(Status::BAD_PARAM_ERR)), "{error}");
    assert_eq!(base.firmware.pages.held(), 0);
    fake.script(|posted| match posted.opcode() {
        Opcode::QUERY_PAGES => Fate::ok(&[0, 0, 0, 0, 0, 0, 0, 9]),
        _ => Fate::Nothing,
    });
    base.firmware.give_startup_pages(stage, in_ms(&fake, 10)).expect_err("no answer");
    assert_eq!(base.firmware.pages.held(), 9, "firmware may have them");
}

#[test]
fn wrong_returns_free_nothing() {
    type Change = fn(&mut Vec<u64>) -> u32;
    let cases: [(Change, bool, usize); 6] = [
        // More than asked for: nothing is believed.
        (|pages| pages.len() as u32 + 1, false, 10),
        (|_| u32::MAX, false, 10),
        // Foreign, misaligned or repeated pages: the good ones beside them are free.
        (
            |pages| {
                pages[3] = 0x1000;
                10
            },
            true,
            1,
        ),
        (
            |pages| {
                pages[3] = u64::MAX;
                10
            },
            true,
            1,
        ),
        (
            |pages| {
                pages[3] += 8;
                10
            },
            true,
            1,
        ),
        (
            |pages| {
                pages[3] = pages[2];
                10
            },
            true,
            1,
        ),
    ];
    for (change, foreign, left) in cases {
        let held = Rc::new(RefCell::new(Vec::new()));
        let script = Rc::clone(&held);
        let (fake, mut base) = base(move |posted| match (posted.opcode(), posted.op_mod()) {
            (Opcode::QUERY_PAGES, _) => Fate::ok(&[0, 0, 0, 0, 0, 0, 0, 10]),
            (_, 1) => {
                *script.borrow_mut() = pages_of(posted);
                Fate::ok(&[])
            }
            _ => {
                let mut pages = script.borrow().clone();
                let count = change(&mut pages);
                returned(count, &pages)
            }
        });
        base.firmware.give_startup_pages(QueryPagesOpMod::BOOT_PAGES, in_ms(&fake, 10)).expect("given");
        let request = base.firmware.pages.take(base.firmware.owner, 10);
        let output = base.firmware.exec(&request, in_ms(&fake, 10)).expect("an answer");
        let error = base.firmware.pages.taken(10, &output).expect_err("a wrong return");
        match error {
            PageError::Foreign { .. } => assert!(foreign),
            PageError::TooMany { asked: 10, .. } => assert!(!foreign),
            other => panic!("{other}"),
        }
        assert_eq!(base.firmware.pages.held(), left);
    }
}

#[test]
fn absurd_startup_demands_are_refused() {
    for (count, fails) in [(0x7fff_ffffu32, true), (1001, true), (0x8000_0000, false), (u32::MAX, false), (0, false)] {
        let (fake, mut base) = base(move |posted| match posted.opcode() {
            Opcode::QUERY_PAGES => Fate::ok(&[[0; 4], count.to_be_bytes()].concat()),
            _ => Fate::ok(&[]),
        });
        let outcome = base.firmware.give_startup_pages(QueryPagesOpMod::INIT_PAGES, in_ms(&fake, 10));
        let told = fake.posted.borrow().iter().any(|p| p.opcode() == Opcode::MANAGE_PAGES && p.op_mod() == 0);
        assert_eq!((outcome.is_err(), told), (fails, fails), "{count:#x}: {outcome:?}");
        assert_eq!(base.firmware.pages.held(), 0);
    }
}

#[test]
fn kept_pages_end_with_the_deadline() {
    let (fake, mut base) = base(|posted| match posted.opcode() {
        Opcode::QUERY_PAGES => Fate::ok(&[0, 0, 0, 0, 0, 0, 0, 10]),
        _ => Fate::ok(&[]),
    });
    base.firmware.give_startup_pages(QueryPagesOpMod::BOOT_PAGES, in_ms(&fake, 10)).expect("given");
    let (came, errors) = base.firmware.take_all_pages(in_ms(&fake, 30));
    assert_eq!(came, 0);
    assert!(matches!(errors[..], [PageError::Kept { held: 10, waited }] if waited >= MS * 30), "{errors:?}");
}

/// Numbers of objects in the order of their destruction.
type Order = Rc<RefCell<Vec<u32>>>;

/// A base whose objects are numbered from 1, and which keeps the order of destruction.
fn numbering() -> (Arc<Fake>, Base<Fake>, Order, Rc<Cell<u32>>) {
    let destroyed = Order::default();
    let (refuse, next) = (Rc::new(Cell::new(0)), Cell::new(0u32));
    let (order, refused) = (Rc::clone(&destroyed), Rc::clone(&refuse));
    let (fake, base) = base(move |posted| match posted.opcode() {
        Opcode::DESTROY_MKEY | Opcode::DESTROY_CQ => {
            let number = posted.word(8);
            if number == refused.get() {
                return Fate::Refuse(Status::BAD_RES_STATE_ERR, 5);
            }
            order.borrow_mut().push(number);
            Fate::ok(&[])
        }
        _ => {
            next.set(next.get() + 1);
            Fate::ok(&next.get().to_be_bytes())
        }
    });
    (fake, base, destroyed, refuse)
}

fn create_cq(base: &mut Base<Fake>, memory: &[&DmaBuf], deadline: Deadline) -> Result<Handle, AdapterError> {
    let destroy = |cqn| Request::new(&DestroyCqIn::zeroed().with(DestroyCqIn::CQN, cqn));
    let creation = Creation::new(ObjectKind::Cq, Request::new(&CreateCqIn::zeroed()), destroy);
    base.create(creation.holding(memory), deadline)
}

fn mkeys(n: u32) -> Creation {
    Creation::new(ObjectKind::Mkey, Request::new(&CreateMkeyIn::zeroed()), destroy_mkey).times(n)
}

/// Creates so many keys, all or none.
fn create_mkeys(base: &mut Base<Fake>, n: u32, deadline: Deadline) -> Result<Handle, CommandError> {
    base.log.create_each(&mut base.firmware, vec![mkeys(n)], deadline).pop().expect("one outcome")
}

fn destroy_mkey(index: u32) -> Request {
    Request::new(&DestroyMkeyIn::zeroed().with(DestroyMkeyIn::MKEY_INDEX, index))
}

#[test]
fn objects_are_destroyed_in_reverse_order() {
    let (fake, mut base, destroyed, _) = numbering();
    let deadline = in_ms(&fake, 1000);
    create_cq(&mut base, &[], deadline).expect("1");
    let two = create_cq(&mut base, &[], deadline).expect("2");
    let keys = create_mkeys(&mut base, 100, deadline).expect("3 to 102");
    assert_eq!(keys.numbers(), (3..=102).collect::<Vec<_>>());
    create_cq(&mut base, &[], deadline).expect("103");
    let four = create_cq(&mut base, &[], deadline).expect("104");
    assert_eq!((four.kind(), four.number()), (ObjectKind::Cq, 104));
    assert!(base.log.destroy_each(&mut base.firmware, vec![two], deadline).is_empty());
    assert_eq!(base.log.by_kind(), [(ObjectKind::Mkey, 100), (ObjectKind::Cq, 3)]);
    assert!(base.log.destroy_all(&mut base.firmware, deadline).is_empty());
    // Keys are alike and refer to nothing: their own order does not matter.
    let expected: Vec<_> = [2, 104, 103].into_iter().chain(3..=102).chain([1]).collect();
    assert_eq!(*destroyed.borrow(), expected);
    assert!(base.log.is_empty());
}

#[test]
fn a_refused_destruction_keeps_only_itself() {
    let (fake, mut base, destroyed, refuse) = numbering();
    let deadline = in_ms(&fake, 1000);
    let memory = base.heap.allocate(1 << 20, 4096).expect("memory");
    create_cq(&mut base, &[], deadline).expect("1");
    create_cq(&mut base, &[&memory], deadline).expect("2");
    create_cq(&mut base, &[], deadline).expect("3");
    let used = base.heap.usage().1;
    drop(memory);
    assert_eq!(base.heap.usage().1, used, "the object holds its memory");
    refuse.set(2);
    let refused = base.log.destroy_all(&mut base.firmware, deadline);
    assert_eq!(*destroyed.borrow(), [3, 1]);
    assert_eq!(refused.iter().map(|r| (r.kind, r.number)).collect::<Vec<_>>(), [(ObjectKind::Cq, 2)]);
    assert!(refused[0].error.to_string().contains("CQ 0x2"), "{}", refused[0].error);
    assert_eq!((base.log.len(), base.heap.usage().1), (1, used));
    refuse.set(0);
    assert!(base.log.destroy_all(&mut base.firmware, deadline).is_empty());
    assert_eq!(base.heap.usage().1, used - (1 << 20));

    // Among many as well.
    let keys = create_mkeys(&mut base, 100, deadline).expect("keys");
    refuse.set(50);
    let refused = base.log.destroy_each(&mut base.firmware, vec![keys], deadline);
    assert_eq!(refused.iter().map(|r| r.number).collect::<Vec<_>>(), [50]);
    assert_eq!(base.log.len(), 1);
    refuse.set(0);
    assert!(base.log.destroy_all(&mut base.firmware, deadline).is_empty() && base.log.is_empty());
}

#[test]
fn an_unknown_creation_keeps_its_memory() {
    let (fake, mut base) = base(|_| Fate::Nothing);
    let memory = base.heap.allocate(1 << 20, 4096).expect("memory");
    let deadline = in_ms(&fake, 5);
    let error = create_cq(&mut base, &[&memory], deadline).expect_err("no answer");
    assert!(matches!(&error, AdapterError::Command(e) if matches!(e.fault, Fault::TimedOut { .. })), "{error}");
    drop(memory);
    assert!(base.heap.usage().1 >= 1 << 20, "the device may use it");
    // A refusal has a known end.
    fake.script(|_| Fate::Refuse(Status::LIM_ERR, 1));
    let memory = base.heap.allocate(1 << 19, 4096).expect("memory");
    let used = base.heap.usage().1;
    create_cq(&mut base, &[&memory], in_ms(&fake, 5)).expect_err("refused");
    drop(memory);
    assert_eq!(base.heap.usage().1, used - (1 << 19));
    base.log.forget();
    assert!(base.heap.usage().1 < 1 << 19, "after a reset all is free");
}

#[test]
fn objects_stand_or_fall_together() {
    let live = Rc::new(RefCell::new(BTreeMap::new()));
    let (script, next) = (Rc::clone(&live), Cell::new(0u32));
    let (fake, mut base) = base(move |posted| {
        let mut live = script.borrow_mut();
        if posted.opcode() == Opcode::DESTROY_MKEY {
            assert!(live.remove(&posted.word(8)).is_some(), "destroyed twice or never created");
            return Fate::ok(&[]);
        }
        next.set(next.get() + 1);
        if next.get() == 500 {
            return Fate::Refuse(Status::NO_RES_ERR, 1).later(MS);
        }
        live.insert(next.get(), ());
        Fate::ok(&next.get().to_be_bytes()).later(MS / 10 * (next.get() * 7 % 11))
    });
    let deadline = in_ms(&fake, 60_000);
    let creations = vec![mkeys(300), mkeys(400), mkeys(300)];
    let mut outcomes = base.log.create_each(&mut base.firmware, creations, deadline).into_iter();
    let mut next = || outcomes.next().expect("one outcome per creation");
    let before = next().expect("the first 300");
    assert_eq!(before.numbers(), (1..=300).collect::<Vec<_>>());
    assert_eq!(next().expect_err("refused").status(), Some(Status::NO_RES_ERR));
    assert_eq!(next().expect("the last 300").numbers(), (701..=1000).collect::<Vec<_>>());
    let others: Vec<u32> = (1..=300).chain(701..=1000).collect();
    assert_eq!((live.borrow().keys().copied().collect::<Vec<_>>(), base.log.len()), (others, 600));
}

#[test]
fn each_ailment_is_found() {
    let (fake, _base) = base(|_| Fate::ok(&[]));
    let mut monitor = Monitor::default();
    let set = |at: u64, value: u32| fake.registers.borrow_mut().insert(at, value);
    monitor.look(&*fake).expect("well");
    fake.sleep(MS * 5000);
    monitor.look(&*fake).expect("still for five seconds");
    set(0x1010, 2);
    fake.sleep(MS * 5000);
    monitor.look(&*fake).expect("it moved");
    fake.sleep(MS * 7000);
    let still = monitor.look(&*fake).expect_err("still");
    assert!(matches!(still, Ailment::Still { counter: 2, .. }), "{still}");
    // The upper byte is not part of the counter.
    set(0x1010, 0xff00_0002);
    assert!(monitor.look(&*fake).is_err());
    set(0x1010, 3);
    // Health buffer at 0x200: syndrome at byte 61, extended at 62, reset request in bit 7 of byte 56.
    set(0x23c, 0x00_0d_12_34);
    set(0x238, 0x8000_0000);
    let sick = monitor.look(&*fake).expect_err("sick");
    assert!(sick.to_string().contains("EQ_IN_ERR (0xd)") && sick.to_string().contains("0x1234"), "{sick}");
    assert!(matches!(sick, Ailment::Syndrome { reset_needed: true, .. }));
    set(0x23c, 0);
    for state in [1, 7] {
        set(0x14, state << 8 | 0x56);
        let sick = monitor.look(&*fake).expect_err("not ours");
        assert!(matches!(sick, Ailment::Interface(s) if u32::from(s.0) == state), "{sick}");
    }
    set(0x14, 0x56);
    monitor.look(&*fake).expect("well again");
    for register in [0x10, 0x14] {
        let was = fake.registers.borrow()[&register];
        set(register, was ^ 0x1000);
        let reset = monitor.look(&*fake).expect_err("the command queue is elsewhere");
        assert!(matches!(reset, Ailment::Reset { .. }), "{reset}");
        set(register, was);
    }
    set(0x230, u32::MAX);
    assert_eq!(monitor.look(&*fake), Err(Ailment::Gone));
    set(0x230, 1);
    fake.gone.set(true);
    assert_eq!(monitor.look(&*fake), Err(Ailment::Gone));
}
