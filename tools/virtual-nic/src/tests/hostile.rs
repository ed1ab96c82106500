//! A device that writes wherever it may, and faults that happen to a queue or to the whole function.
//!
//! | property | test |
//! |---|---|
//! | a hostile device writes all of what it holds (tag buffers, posted receive buffers, firmware pages) and not a byte more | `it_writes_what_it_holds_and_nothing_else` |
//! | what it gave back it leaves alone: a received packet, an unbound tag, a returned page | `what_was_given_back_is_left_alone` |
//! | what a command takes away ends with its answer, not with its execution | `an_unanswered_command_takes_nothing_away` |
//! | after a reset it holds nothing | `a_reset_takes_everything_away` |
//! | moments and bytes follow from the seed | `it_is_repeatable` |
//! | it never writes while it is off the bus | `it_is_silent_off_the_bus` |
//! | a send queue that was rung is looked at when its time has come, in order | `doorbells_take_their_time` |
//! | a failed work request is completed with an error, the rest is flushed | `work_requests_fail_on_demand` |
//! | a completion queue overruns on demand, and says so once | `completion_queues_overrun_on_demand` |
//! | firmware that died executes nothing until a reset | `dead_firmware_executes_nothing` |
//! | a function that is gone comes back by itself | `a_function_that_is_gone_comes_back` |

use super::host::{BASE, Host, MEMORY};
use super::offload::{Offloaded, START};
use crate::packet::build::Build;
use crate::{CommandFault, Config, Fault, Hostile, Role, Written};
use firmware_iface::Opcode;
use firmware_iface::command::{InHeader, OutHeader, device::*, object::*};
use hw_regs::cqe::{CqeSyndrome, ErrCqe};
use hw_regs::eqe::{CqErrorSyndrome, Eqe, EqeCqErr, EventType};
use hw_regs::init_segment::{HealthSyndrome, InitSegment};
use hw_regs::layout::{Access, Layout};
use std::time::Duration;

const EVERYTHING: Hostile = Hostile { seed: 5, every: u32::MAX, bindings: true, buffers: true, pages: true };

/// An offloaded queue on a device that writes when it is told to.
fn hostile() -> Offloaded {
    let mut offloaded = Offloaded::with(Default::default(), false, false);
    offloaded.host.nic.set_hostile(Some(EVERYTHING));
    offloaded
}

/// Writes a round; returns what changed, as runs of addresses, and what the device says about it.
fn round(host: &mut Host) -> (Vec<(u64, u64)>, Written) {
    let before = host.read(BASE, MEMORY as usize);
    let written = host.nic.write_everywhere();
    let after = host.read(BASE, MEMORY as usize);
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (at, (old, new)) in before.iter().zip(&after).enumerate() {
        let at = BASE + at as u64;
        match runs.last_mut() {
            _ if old == new => {}
            // Noise may repeat what was there, here and there.
            Some((_, end)) if at - *end < 8 => *end = at + 1,
            _ => runs.push((at, at + 1)),
        }
    }
    (runs, written)
}

/// True if every run lies in one of `places`, and every place is covered but for a few bytes at its ends.
fn covers(runs: &[(u64, u64)], places: &[(u64, u64)]) -> bool {
    let inside = |run: &(u64, u64)| places.iter().any(|place| place.0 <= run.0 && run.1 <= place.1);
    let covered = |place: &(u64, u64)| {
        let bytes: u64 = runs.iter().filter(|run| place.0 <= run.0 && run.1 <= place.1).map(|run| run.1 - run.0).sum();
        bytes + 64 > place.1 - place.0
    };
    runs.iter().all(inside) && places.iter().all(covered)
}

/// Places that touch, as one.
fn merged(mut places: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    places.sort_unstable();
    let mut out: Vec<(u64, u64)> = Vec::new();
    for place in places {
        match out.last_mut() {
            Some(last) if place.0 - last.1 < 8 => last.1 = place.1,
            _ => out.push(place),
        }
    }
    out
}

fn places(offloaded: &Offloaded, tags: &[usize]) -> Vec<(u64, u64)> {
    let pieces = tags.iter().flat_map(|tag| offloaded.pieces[*tag]);
    pieces.map(|(at, len)| (at, at + u64::from(len))).collect()
}

#[test]
fn it_writes_what_it_holds_and_nothing_else() {
    let mut offloaded = hostile();
    offloaded.bind(0);
    offloaded.bind(2);
    let (receives, pages) = {
        let Offloaded { host, rq, .. } = &mut offloaded;
        (host.post_receives(rq, 3, 2048), host.give_pages(2))
    };
    let held = offloaded.host.nic.inventory().pages;
    let (runs, written) = round(&mut offloaded.host);
    let mut expected = places(&offloaded, &[0, 2]);
    expected.extend(receives.iter().map(|at| (*at, at + 2048)));
    let first = merged(expected.clone());
    // The other pages of firmware are the host's first allocations.
    let outside: Vec<_> = runs.iter().filter(|run| first.iter().all(|at| run.1 <= at.0 || at.1 <= run.0)).collect();
    let bytes: u64 = outside.iter().map(|run| run.1 - run.0).sum();
    assert!(bytes.abs_diff(held * 4096) < held * 8, "{bytes} bytes of {held} pages");
    assert!(pages.iter().all(|page| outside.iter().any(|run| run.0 <= page + 8 && page + 4088 <= run.1)));
    let inside: Vec<_> = runs.iter().filter(|run| !outside.contains(run)).copied().collect();
    assert!(covers(&inside, &first), "{inside:x?} is not {first:x?}");
    assert_eq!((written.bindings, written.buffers, written.pages, written.unmapped), (4, 3, held, 0));
    assert_eq!(written.bytes, 2 * 16384 + 3 * 2048 + held * 4096);
}

#[test]
fn what_was_given_back_is_left_alone() {
    let mut offloaded = hostile();
    offloaded.host.nic.set_hostile(Some(Hostile { pages: false, ..EVERYTHING }));
    offloaded.bind(1);
    offloaded.bind(3);
    let receives = {
        let Offloaded { host, rq, .. } = &mut offloaded;
        host.post_receives(rq, 2, 2048)
    };
    offloaded.host.nic.receive(&Build::tcp(START.wrapping_sub(5000), &[7; 500]).frame());
    offloaded.unbind(1);
    let (runs, _) = round(&mut offloaded.host);
    let mut left = places(&offloaded, &[3]);
    left.push((receives[1], receives[1] + 2048));
    assert!(covers(&runs, &merged(left.clone())), "{runs:x?} is not {left:x?}");
    offloaded.unbind(3);
    offloaded.host.modify_rq(offloaded.rq.number, 1, 3);
    assert_eq!(round(&mut offloaded.host).0, [], "flushed and unbound");
    offloaded.host.nic.set_hostile(Some(Hostile { bindings: false, buffers: false, ..EVERYTHING }));
    offloaded.host.exec::<_, OutHeader>(Opcode::TEARDOWN_HCA, &TeardownHcaIn::zeroed());
    let pages = offloaded.host.nic.inventory().pages;
    let back = offloaded.host.take(40);
    let (runs, written) = round(&mut offloaded.host);
    assert_eq!((back.len(), written.pages), (40, pages - 40));
    assert!(back.iter().all(|page| runs.iter().all(|run| run.1 <= *page || page + 4096 <= run.0)));
}

#[test]
fn an_unanswered_command_takes_nothing_away() {
    let mut offloaded = hostile();
    offloaded.host.nic.set_hostile(Some(Hostile { pages: false, ..EVERYTHING }));
    offloaded.bind(0);
    offloaded.bind(1);
    let destroy = |offloaded: &Offloaded, tag: usize| {
        let index = offloaded.tags[tag] >> 8;
        let input = DestroyMkeyIn::zeroed().with(DestroyMkeyIn::MKEY_INDEX, index);
        input.with(DestroyMkeyIn::OPCODE, u32::from(Opcode::DESTROY_MKEY.0))
    };
    let late = CommandFault::Late(Duration::from_millis(5));
    offloaded.host.nic.faults().next(Opcode::DESTROY_MKEY, late);
    offloaded.host.nic.faults().next(Opcode::DESTROY_MKEY, CommandFault::NeverAnswered);
    for tag in 0..2 {
        let input = destroy(&offloaded, tag);
        offloaded.host.post(tag as u32 + 1, input.bytes(), 16);
        offloaded.host.ring(1 << (tag + 1));
    }
    assert_eq!(offloaded.host.nic.inventory().bound_tags, 0, "executed");
    let both = merged(places(&offloaded, &[0, 1]));
    assert!(covers(&round(&mut offloaded.host).0, &both));
    offloaded.host.nic.advance(Duration::from_millis(5));
    let second = merged(places(&offloaded, &[1]));
    assert!(covers(&round(&mut offloaded.host).0, &second), "the first was answered");
    offloaded.host.nic.reset();
    assert_eq!(round(&mut offloaded.host).0, []);
}

#[test]
fn a_reset_takes_everything_away() {
    let mut offloaded = hostile();
    (0..4).for_each(|tag| offloaded.bind(tag));
    let Offloaded { host, rq, .. } = &mut offloaded;
    host.post_receives(rq, 8, 2048);
    assert!(host.nic.write_everywhere().bytes > 0);
    host.nic.reset();
    let (runs, written) = round(host);
    assert_eq!((runs.len(), written), (0, Written { rounds: 1, ..Written::default() }));
}

#[test]
fn it_is_repeatable() {
    let run = |seed| {
        let mut offloaded = hostile();
        offloaded.host.nic.set_hostile(Some(Hostile { seed, every: 3, ..EVERYTHING }));
        for round in 0..20 {
            offloaded.bind(round % 4);
            offloaded.unbind(round % 4);
        }
        let pages = offloaded.host.read(BASE, 1 << 20);
        (offloaded.host.nic.written(), pages)
    };
    let (written, memory) = run(1);
    assert!(written.rounds > 10 && written.bindings > 0);
    assert!((written, memory.clone()) == run(1) && memory != run(2).1);
}

#[test]
fn it_is_silent_off_the_bus() {
    let mut offloaded = hostile();
    offloaded.host.nic.set_hostile(Some(Hostile { every: 1, ..EVERYTHING }));
    offloaded.host.nic.advance(Duration::from_micros(1));
    let before = offloaded.host.nic.written();
    assert_eq!(before.rounds, 1);
    offloaded.host.nic.faults().set_gone(true);
    offloaded.host.nic.advance(Duration::from_micros(2));
    offloaded.host.nic.receive(&[0; 60]);
    assert_eq!(offloaded.host.nic.written(), before);
}

#[test]
fn doorbells_take_their_time() {
    let mut host = Host::running(Config { doorbell_latency: Duration::from_micros(3), ..super::traffic::config() });
    let eq = host.create_eq(0, 4, &[]);
    let mut cq = host.create_cq(eq.number, 4, 64);
    let mut first = host.create_sq(cq.number, 4, None);
    let mut second = host.create_sq(cq.number, 4, None);
    let mut nop = vec![0; 64];
    (nop[7], nop[11]) = (1, 8);
    for sq in [&mut second, &mut first] {
        host.post_send(sq, &nop);
        host.ring_sq(sq);
    }
    assert_eq!((host.next_cqe(&mut cq), host.nic.next_event()), (None, Some(Duration::from_micros(3))));
    host.nic.advance(Duration::from_micros(2));
    assert_eq!(host.next_cqe(&mut cq), None);
    host.nic.advance(Duration::from_micros(3));
    for sq in [&second, &first] {
        let cqe = host.next_cqe(&mut cq).expect("a completion");
        assert_eq!(cqe[57..60], sq.number.to_be_bytes()[1..]);
    }
    assert_eq!(host.nic.next_event(), None);
    host.post_send(&mut first, &nop);
    host.ring_sq(&first);
    host.nic.reset();
    host.nic.advance(Duration::from_micros(9));
    assert_eq!(host.next_cqe(&mut cq), None, "a reset forgets what was rung");
}

#[test]
fn work_requests_fail_on_demand() {
    let mut offloaded = Offloaded::with(Default::default(), false, false);
    let Offloaded { host, cq, rq, icosq, ico_cq, .. } = &mut offloaded;
    assert!(!host.nic.inject(Fault::WorkRequest(Role::Receive), 0), "no buffer is posted");
    assert!(!host.nic.inject(Fault::WorkRequest(Role::Send), 0), "there is no such queue");
    host.post_receives(rq, 3, 2048);
    assert!(host.nic.inject(Fault::WorkRequest(Role::Receive), 7));
    assert!(!host.nic.inject(Fault::WorkRequest(Role::Receive), 0), "it failed already");
    let mut syndromes = Vec::new();
    while let Some(cqe) = host.next_cqe(cq) {
        syndromes.push(CqeSyndrome(ErrCqe::from_prefix(&cqe[64..]).get(ErrCqe::SYNDROME) as u8));
    }
    let flushed = CqeSyndrome::WR_FLUSH_ERR;
    assert_eq!(syndromes, [CqeSyndrome::LOCAL_QP_OP_ERR, flushed, flushed]);

    assert!(host.nic.inject(Fault::WorkRequest(Role::Control), 0));
    assert_eq!(host.next_cqe(ico_cq), None, "the next one fails, and there is none");
    let mut nop = vec![0; 64];
    (nop[7], nop[11]) = (1, 8);
    host.post_send(icosq, &nop);
    host.ring_sq(icosq);
    let cqe = host.next_cqe(ico_cq).expect("an error");
    assert_eq!(cqe[63] >> 4, 0xd);
    assert!(!host.nic.inject(Fault::WorkRequest(Role::Control), 0));
}

#[test]
fn completion_queues_overrun_on_demand() {
    let mut offloaded = Offloaded::with(Default::default(), false, false);
    let Offloaded { host, cq, rq, .. } = &mut offloaded;
    let mut events = host.create_eq(1, 4, &[EventType::CQ_ERROR]);
    host.post_receives(rq, 2, 2048);
    assert!(!host.nic.inject(Fault::CqOverrun(Role::Send), 0));
    assert!(host.nic.inject(Fault::CqOverrun(Role::Receive), 0));
    let event = host.next_event(&mut events).expect("an event");
    let error = EqeCqErr::from_prefix(event.blob(Eqe::DATA));
    assert_eq!(error.get(EqeCqErr::CQN_CQN_24), cq.number);
    assert_eq!(error.get(EqeCqErr::SYNDROME), u32::from(CqErrorSyndrome::CQ_OVERRUN.0));
    host.nic.receive(&Build::tcp(START, &[1; 100]).frame());
    assert_eq!((host.next_cqe(cq), host.next_event(&mut events)), (None, None));
}

#[test]
fn dead_firmware_executes_nothing() {
    let mut host = Host::running(Config::default());
    assert!(host.nic.inject(Fault::Fatal(HealthSyndrome::FW_INTERNAL_ERR), 0));
    let nop = InHeader::zeroed().with(InHeader::OPCODE, u32::from(Opcode::NOP.0));
    let posted = host.post(0, nop.bytes(), 16);
    host.ring(1);
    host.nic.advance(Duration::from_secs(100));
    assert!(!host.done(&posted));
    let health = InitSegment::HEALTH.byte_offset() as u64;
    let said = |host: &mut Host| (0..16).map(|word| host.nic.read32(health + 4 * word)).collect::<Vec<_>>();
    let ill = said(&mut host);
    host.nic.reset();
    assert_ne!(said(&mut host), ill, "the health buffer said why");
    host.start_command_queue();
    host.exec::<_, OutHeader>(Opcode::ENABLE_HCA, &EnableHcaIn::zeroed());

    let well = said(&mut host);
    assert!(host.nic.inject(Fault::Hang, 0));
    let posted = host.post(3, nop.bytes(), 16);
    host.ring(8);
    assert!(!host.done(&posted) && said(&mut host) == well, "silent");
    host.nic.reset();
    host.start_command_queue();
    host.exec::<_, OutHeader>(Opcode::ENABLE_HCA, &EnableHcaIn::zeroed());

    assert!(host.nic.inject(Fault::LostCommand, 0));
    let posted = host.post(1, nop.bytes(), 16);
    host.ring(2);
    assert!(!host.done(&posted));
    let posted = host.post(2, nop.bytes(), 16);
    host.ring(4);
    assert!(host.done(&posted), "one command only");
}

#[test]
fn a_function_that_is_gone_comes_back() {
    let mut host = Host::running(Config::default());
    assert!(host.nic.inject(Fault::Gone(Duration::from_millis(20)), 0));
    assert_eq!((host.nic.read32(0), host.nic.next_event()), (u32::MAX, Some(Duration::from_millis(20))));
    host.nic.advance(Duration::from_millis(19));
    assert_eq!(host.nic.read32(0), u32::MAX);
    host.nic.advance(Duration::from_millis(20));
    assert_ne!(host.nic.read32(0), u32::MAX);
    assert_eq!(host.nic.next_event(), None);
    host.exec::<_, OutHeader>(Opcode::NOP, &InHeader::zeroed());
    assert!(host.nic.inject(Fault::Reset, 0));
    assert!(host.nic.inventory().is_empty());
}
