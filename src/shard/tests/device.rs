//! | property | test |
//! |---|---|
//! | a send queue in the error state is taken back to work; nothing but time is lost | `a_failed_send_queue_recovers` |
//! | so is a receive queue | `a_failed_receive_queue_recovers` |
//! | so is a receive queue whose completions cannot be believed | `a_starved_receive_queue_recovers` |
//! | a queue that fails again and again breaks the shard, which says so and gives everything back | `a_queue_that_keeps_failing_breaks_the_shard` |
//! | an empty pool is not the end of reception | `an_empty_pool_is_filled_again` |
//! | an error on the control ring ends its connection; buffers come back when the keys are gone | `a_failed_control_ring_ends_its_connection` |
//! | a completion of the control ring that never comes is waited for for seconds only | `an_unbind_that_never_completes_is_given_up` |
//! | keys that firmware does not destroy keep their buffers until the function is reset | `undestroyed_keys_keep_their_buffers` |
//! | so do rules and TIRs that it does not destroy, although firmware refuses in any order | `refused_destruction_is_survived` |
//! | a failed completion queue of the shard ends everything in order | `a_failed_completion_queue_breaks_the_shard` |
//! | one of a control ring ends its connection only | `a_failed_control_completion_queue_ends_its_connection` |
//! | a function that is gone, or ill: every request ends soon; bound buffers come back after a reset, never before | `a_dead_function_keeps_bound_buffers` |
//! | a function that stays away keeps them for ever, and the shard can still be closed | `a_function_that_stays_away` |
//! | a send ring that stands still is noticed | `a_send_queue_that_stands_still_breaks_the_shard` |
//! | no event of the device, of any kind and content, harms the shard | `any_event_is_survived` |
//! | completions with any damage: no panic, no endless wait, every buffer comes back, none while it is bound | `damaged_completions_lose_nothing` |
use super::world::{World, lost, passes};
use crate::adapter::Objects;
use crate::command::{ObjectKind, Request};
use crate::platform::Platform;
use crate::shard::{ConnectionId, Disconnect, Refused};
use firmware_iface::command::queue::ModifySqIn;
use firmware_iface::context::{SqState, Sqc};
use firmware_iface::{Opcode, Status};
use hw_regs::eqe::EventType;
use hw_regs::init_segment::HealthSyndrome;
use hw_regs::layout::{Access, Layout};
use proptest::prelude::*;
use std::time::Duration;
use virtual_nic::CommandFault;

/// An admin connection and an offloaded I/O queue.
fn connected(world: &mut World) -> (ConnectionId, ConnectionId) {
    let admin = world.admin();
    let id = world.io(admin, 1, 8, true);
    (admin, id)
}

fn reads(world: &mut World, id: ConnectionId, first: u64, count: u64) {
    for token in first..first + count {
        world.read(id, token * 97 % 7000, 128);
    }
}

/// Puts the send queue into the error state, as an error of the device would.
fn fail_send_queue(world: &mut World) {
    let sqn = world.shard.tx.sqn();
    let deadline = world.shard.adapter.command_deadline();
    let input = ModifySqIn::zeroed()
        .with(ModifySqIn::SQ_STATE, u32::from(SqState::RDY.0))
        .with(ModifySqIn::SQN, sqn)
        .with_nested(ModifySqIn::CTX, &Sqc::zeroed().with(Sqc::STATE, u32::from(SqState::ERR.0)));
    world.shard.adapter.exec(Request::new(&input).about(ObjectKind::Sq, sqn), deadline).expect("in error");
}

fn fail_receive_queue(world: &mut World) {
    let deadline = world.shard.adapter.command_deadline();
    world.shard.rq.stop(&mut world.shard.adapter, deadline).expect("in error");
}

/// Number of the control ring's send queue, and of its completion queue.
fn control_ring(world: &World) -> (u32, u32) {
    let offloads = world.shard.offloads.as_ref().expect("possible");
    let flow = *world.shard.by_queue.keys().next().expect("an offload queue");
    let icosq = offloads.queue(flow).expect("known").icosq();
    (icosq.sqn(), icosq.cqn())
}

/// Damages the completions of one send queue.
fn tamper_send(world: &World, sqn: u32, change: impl Fn(&mut [u8]) + Send + 'static) {
    let change = move |entry: &mut [u8]| {
        let of = u32::from_be_bytes([0, entry[57], entry[58], entry[59]]);
        if entry.len() == 64 && of == sqn {
            change(entry);
        }
    };
    world.platform.nic().faults().tamper_completions(Some(Box::new(change)));
}

fn whole(world: &World, count: usize) {
    assert_eq!(world.done.len(), count);
    assert!(world.done.values().all(|completion| completion.status.is_success()), "{:?}", world.done);
}

#[test]
fn a_failed_send_queue_recovers() {
    let mut world = World::new();
    let (admin, id) = connected(&mut world);
    for round in 0..3 {
        reads(&mut world, id, round * 8, 4);
        world.step();
        fail_send_queue(&mut world);
        reads(&mut world, id, round * 8 + 4, 4);
        world.until("reads", 20, |world| world.done.len() as u64 == (round + 1) * 8);
    }
    whole(&world, 24);
    assert_eq!(world.shard.counters().recoveries, 3);
    world.close_all(&[id, admin]);
    world.close_clean();
}

#[test]
fn a_failed_receive_queue_recovers() {
    let mut world = World::new();
    let (admin, id) = connected(&mut world);
    for round in 0..3 {
        reads(&mut world, id, round * 8, 8);
        world.step();
        world.wire();
        fail_receive_queue(&mut world);
        world.until("reads", 20, |world| world.done.len() as u64 == (round + 1) * 8);
    }
    whole(&world, 24);
    assert_eq!(world.shard.counters().recoveries, 3);
    world.close_all(&[id, admin]);
    world.close_clean();
}

#[test]
fn a_starved_receive_queue_recovers() {
    let mut world = World::with(&[], |config| config.log_rx = 6);
    let (admin, id) = connected(&mut world);
    // A few entries with an opcode that no queue has: the work requests they belong to never complete.
    let mut count = 0;
    let change = move |entry: &mut [u8]| {
        count += u32::from(entry.len() == 128);
        if entry.len() == 128 && count == 20 {
            entry[127] = 0x70;
        }
    };
    world.platform.nic().faults().tamper_completions(Some(Box::new(change)));
    reads(&mut world, id, 0, 8);
    world.until("reads", 60, |world| world.done.len() == 8);
    whole(&world, 8);
    let counters = world.shard.counters();
    assert_eq!((counters.bad_completions, counters.recoveries), (1, 1));
    world.close_all(&[id, admin]);
    world.close_clean();
}

#[test]
fn a_queue_that_keeps_failing_breaks_the_shard() {
    let mut world = World::new();
    let (admin, id) = connected(&mut world);
    reads(&mut world, id, 0, 8);
    for _ in 0..5 {
        assert!(world.shard.broken().is_none());
        fail_receive_queue(&mut world);
        // More flushed entries than one poll takes.
        for _ in 0..3 {
            world.shard.poll();
            world.collect();
        }
    }
    let why = world.shard.broken().expect("broken").to_owned();
    assert!(why.contains("receive queue failed for the 5 time"), "{why}");
    world.until("the ends", 1, |world| world.ended.len() == 2);
    assert!(world.ended.iter().all(|(_, why)| matches!(why, Disconnect::Function(_))));
    assert_eq!((world.done.len(), world.under_way), (8, 0));
    assert_eq!(world.platform.nic().inventory().bound_tags, 0);
    let refused = world.shard.connect_admin(world.address, world.controller_config());
    assert!(matches!(refused, Err(Refused::Broken(_))));
    assert!(world.shard.offload(id).is_err() && world.why(admin).is_some());
    world.close_clean();
}

#[test]
fn an_empty_pool_is_filled_again() {
    let mut world = World::new();
    let (admin, id) = connected(&mut world);
    // Somebody takes every buffer; what the queue has left is used up.
    let mut taken: Vec<_> = std::iter::from_fn(|| world.shard.buffers.pool.lend()).collect();
    reads(&mut world, id, 0, 8);
    while world.shard.rq.posted() != 0 {
        let mut worked = world.wire();
        let mut entry = hw_regs::cqe::OffloadCqe::zeroed();
        while world.shard.cq.poll_into(&mut entry) {
            taken.extend(world.shard.rq.accept(&entry).ok().map(crate::frame::Arrival::into_buffer));
            worked = true;
        }
        world.shard.cq.update();
        worked |= world.shard.poll();
        if !worked {
            world.sleep();
        }
        taken.extend(std::iter::from_fn(|| world.shard.buffers.pool.lend()));
    }
    for buffer in taken {
        world.shard.buffers.pool.give_back(buffer);
    }
    world.until("reads", 30, |world| world.done.len() == 8);
    whole(&world, 8);
    assert_eq!(world.shard.counters().recoveries, 0);
    world.close_all(&[id, admin]);
    world.close_clean();
}

#[test]
fn a_failed_control_ring_ends_its_connection() {
    let mut world = World::new();
    let (admin, id) = connected(&mut world);
    let other = world.io(admin, 2, 8, true);
    reads(&mut world, other, 50, 2);
    world.until("reads", 5, |world| world.done.len() == 2);
    let (sqn, _) = {
        let flow = world.shard.connections[id.index as usize].as_ref().and_then(|c| c.offload).expect("offloaded");
        let icosq = world.shard.offloads.as_ref().and_then(|o| o.queue(flow)).expect("known").icosq();
        (icosq.sqn(), icosq.cqn())
    };
    tamper_send(&world, sqn, |entry| {
        // REQ_ERR, LOCAL_PROT_ERR.
        entry[63] = 0xd0 | entry[63] & 1;
        entry[55] = 4;
    });
    reads(&mut world, id, 0, 8);
    let why = world.expect_end(id, 10);
    assert!(matches!(world.why(id), Some(Disconnect::Offload(_))) && why.contains("LOCAL_PROT_ERR"), "{why}");
    assert_eq!((world.done.len(), world.under_way), (10, 0), "every buffer is back: its keys are gone");
    assert_eq!(world.platform.nic().inventory().bound_tags, 0);
    world.platform.nic().faults().tamper_completions(None);
    reads(&mut world, other, 60, 8);
    world.until("reads of the other", 5, |world| world.done.len() == 18);
    world.close_all(&[other, admin]);
    world.close_clean();
}

#[test]
fn an_unbind_that_never_completes_is_given_up() {
    let mut world = World::new();
    let (admin, id) = connected(&mut world);
    let (sqn, _) = control_ring(&world);
    // An opcode that says nothing: the entry is ignored.
    tamper_send(&world, sqn, |entry| entry[63] = 0x70 | entry[63] & 1);
    world.read(id, 0, 100);
    let began = world.now();
    let why = world.expect_end(id, 10);
    assert!(why.contains("1 buffers wait for the device to forget them"), "{why}");
    assert!(world.now() - began < Duration::from_secs(7));
    // The controller had answered, the bytes are right (the oracle has looked), and the keys are gone.
    assert!(world.status_is_success(0));
    assert_eq!((world.under_way, world.platform.nic().inventory().bound_tags), (0, 0));
    world.platform.nic().faults().tamper_completions(None);
    world.close_all(&[admin]);
    world.close_clean();
}

/// Reads that are under way when the connection breaks and `fault` meets each command of `opcode`.
fn refuse(opcode: Opcode) -> World {
    let mut world = World::new();
    let (_, id) = connected(&mut world);
    let (sqn, _) = control_ring(&world);
    tamper_send(&world, sqn, |entry| entry[63] = 0x70 | entry[63] & 1);
    reads(&mut world, id, 0, 8);
    world.step();
    let fault = CommandFault::Refuse { status: Status::RES_BUSY, syndrome: 0x77 };
    world.platform.nic().faults().schedule(Some(opcode), fault, 0, 1000);
    world.expect_end(id, 20);
    assert_eq!(world.done.len(), 8);
    world
}

#[test]
fn undestroyed_keys_keep_their_buffers() {
    let world = refuse(Opcode::DESTROY_MKEY);
    let kept = world.done.values().filter(|completion| completion.buffer.is_none()).count() as u64;
    assert!(kept > 0 && kept == world.under_way, "{kept}");
    assert!(world.done.values().all(|c| c.buffer.is_some() || !c.status.is_success()), "no buffer, no success");
    world.platform.nic().faults().clear();
    let (closed, left) = world.close();
    assert_eq!(closed.buffers.len() as u64, kept);
    for (token, buffer) in &closed.buffers {
        assert!(left.done[token].buffer.is_none() && buffer.len() == 128 * 512);
    }
    drop(closed);
    assert_eq!(left.platform.dma_heap().usage().1, 0);
}

#[test]
fn refused_destruction_is_survived() {
    for opcode in [Opcode::DELETE_FLOW_TABLE_ENTRY, Opcode::DESTROY_TIR, Opcode::DESTROY_SQ, Opcode::DESTROY_CQ] {
        let world = refuse(opcode);
        world.platform.nic().faults().clear();
        let (closed, left) = world.close();
        assert_eq!(closed.buffers.len() as u64, left.under_way, "{opcode}");
        assert!(closed.teardown.is_clean(), "{opcode}: {}", closed.teardown);
        drop(closed);
        assert_eq!(left.platform.dma_heap().usage().1, 0, "{opcode}");
    }
}

fn cq_error(cqn: u32) -> [u8; 28] {
    let mut data = [0; 28];
    data[..4].copy_from_slice(&cqn.to_be_bytes());
    data[11] = 1;
    data
}

#[test]
fn a_failed_completion_queue_breaks_the_shard() {
    for send in [false, true] {
        let mut world = World::new();
        let (_, id) = connected(&mut world);
        reads(&mut world, id, 0, 8);
        world.step();
        let cqn = if send { world.shard.tx.cq().cqn() } else { world.shard.cq.cqn() };
        assert!(world.platform.nic().inject_event(EventType::CQ_ERROR, 0, &cq_error(cqn)));
        world.until("the ends", 1, |world| world.ended.len() == 2);
        let why = world.why(id).map(ToString::to_string).unwrap_or_default();
        assert!(why.starts_with("function: ") && why.contains("completion queue"), "{why}");
        assert_eq!((world.done.len(), world.under_way), (8, 0));
        world.close_clean();
    }
}

#[test]
fn a_failed_control_completion_queue_ends_its_connection() {
    let mut world = World::new();
    let (admin, id) = connected(&mut world);
    reads(&mut world, id, 0, 8);
    world.step();
    let (_, cqn) = control_ring(&world);
    assert!(world.platform.nic().inject_event(EventType::CQ_ERROR, 0, &cq_error(cqn)));
    let why = world.expect_end(id, 1);
    assert!(why.contains("completion queue of its control ring") || why.contains("control ring failed"), "{why}");
    assert_eq!((world.done.len(), world.under_way), (8, 0));
    world.close_all(&[admin]);
    world.close_clean();
}

#[test]
fn a_dead_function_keeps_bound_buffers() {
    for gone in [true, false] {
        let mut world = World::new();
        let (_, id) = connected(&mut world);
        reads(&mut world, id, 0, 8);
        world.step();
        let bound = world.platform.nic().inventory().bound_tags;
        assert_eq!(bound, 8);
        match gone {
            true => world.platform.nic().faults().set_gone(true),
            false => world.platform.nic().set_health(HealthSyndrome::FW_INTERNAL_ERR),
        }
        // Nothing moves any more, so the shard has to find out by itself.
        let began = world.now();
        world.to_target = lost();
        world.to_host = lost();
        world.until("the ends", 5, |world| world.ended.len() == 2);
        assert!(world.now() - began < Duration::from_secs(2));
        let why = world.shard.broken().expect("broken").to_owned();
        assert!(why.contains("gone") || why.contains("firmware reports"), "{why}");
        // One that is ill may still say that it has forgotten buffers.
        let kept = world.under_way;
        assert!(world.done.len() == 8 && (kept == 8 || !gone), "{kept}");
        assert!(world.done.values().all(|c| c.buffer.is_some() || !c.status.is_success()), "no buffer, no success");
        world.platform.nic().faults().set_gone(false);
        let (closed, left) = world.close();
        assert!(closed.problems.iter().any(|problem| problem.contains("was reset")), "{:?}", closed.problems);
        assert_eq!(closed.buffers.len() as u64, kept);
        drop(closed);
        left.expect_nothing();
    }
}

#[test]
fn a_function_that_stays_away() {
    let mut world = World::new();
    let (_, id) = connected(&mut world);
    reads(&mut world, id, 0, 4);
    world.step();
    world.platform.nic().faults().set_gone(true);
    world.until("the ends", 5, |world| world.ended.len() == 2);
    let (closed, _) = world.close();
    assert!(closed.problems.len() >= 2, "{:?}", closed.problems);
}

#[test]
fn a_send_queue_that_stands_still_breaks_the_shard() {
    let mut world = World::with(&[], |config| config.log_tx = 6);
    let (_, id) = connected(&mut world);
    let sqn = world.shard.tx.sqn();
    tamper_send(&world, sqn, |entry| entry[63] = 0x70 | entry[63] & 1);
    let began = world.now();
    let mut token = 0;
    world.until("the shard to break", 60, |world| {
        if world.shard.queue(id).is_some_and(|queue| queue.is_ready() && queue.outstanding() < 4) {
            world.read(id, (token * 50 % 7000) | (token << 32), 50);
            token += 1;
        }
        world.shard.broken().is_some()
    });
    let why = world.shard.broken().expect("broken").to_owned();
    assert!(why.contains("has completed nothing"), "{why}");
    assert!(world.now() - began < Duration::from_secs(20));
    world.until("the ends", 1, |world| world.ended.len() == 2);
    assert_eq!(world.under_way, 0);
    world.close_clean();
}

#[test]
fn any_event_is_survived() {
    let mut world = World::new();
    let (admin, id) = connected(&mut world);
    let mut token = 0;
    for event in 0..=255u8 {
        // Those would be believed, and are tested above.
        if [EventType::CQ_ERROR.0, EventType::CMD.0, EventType::PAGE_REQUEST.0].contains(&event) {
            continue;
        }
        for number in [0, world.shard.rq.rqn(), world.shard.tx.sqn(), 0xff_ffff] {
            let mut data = [0xff; 28];
            data[24..28].copy_from_slice(&number.to_be_bytes());
            world.platform.nic().inject_event(EventType(event), event, &data);
        }
        if event % 16 == 0 {
            // Recoveries are counted per time.
            world.run_for(Duration::from_secs(11));
            world.read(id, token * 100, 64);
            token += 1;
        }
    }
    world.until("reads", 10, |world| world.done.len() as u64 == token);
    whole(&world, token as usize);
    assert!(world.shard.broken().is_none());
    world.close_all(&[id, admin]);
    world.close_clean();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn damaged_completions_lose_nothing(
        seed in any::<u64>(), every in 3u64..40, receive in any::<bool>(), at in 0usize..64, bit in 0u32..8,
    ) {
        let mut world = World::new();
        let (_, id) = connected(&mut world);
        let (control, send) = (control_ring(&world).0, world.shard.tx.sqn());
        let mut count = seed % every;
        let change = move |entry: &mut [u8]| {
            count += 1;
            if !count.is_multiple_of(every) {
                return;
            }
            let of = u32::from_be_bytes([0, entry[57], entry[58], entry[59]]);
            match entry.len() {
                // The first bytes of the offload's half, or anything of the other.
                128 if receive => entry[if seed % 2 == 0 { at / 4 } else { 64 + at }] ^= 1 << bit,
                64 if !receive && (of == control || of == send) => entry[at] ^= 1 << bit,
                _ => {}
            }
        };
        world.platform.nic().faults().tamper_completions(Some(Box::new(change)));
        reads(&mut world, id, 0, 8);
        // A plausible lie about what was placed cannot be told from the truth, so bytes are not compared.
        world.compare = false;
        world.until("the reads, one way or another", 120, |world| world.done.len() == 8);
        world.platform.nic().faults().tamper_completions(None);
        (world.to_target, world.to_host) = (passes(), passes());
        let open: Vec<_> = world.ready.clone();
        for id in open.into_iter().rev() {
            world.shard.close_connection(id);
            if world.shard.broken().is_none() {
                world.until("the end", 120, |world| world.why(id).is_some());
            }
        }
        world.until("all ends", 120, |world| world.ended.len() == 2);
        let (closed, left) = world.close();
        prop_assert_eq!(closed.buffers.len() as u64, left.under_way);
        prop_assert!(closed.teardown.is_clean(), "{}", closed.teardown);
    }
}
