//! | property | test |
//! |---|---|
//! | 16 connections, offloaded and not, read at the same time and leave nothing | `sixteen_connections_leave_nothing` |
//! | connections come and go; each has an identifier of its own, and an old one names nobody | `an_identifier_is_never_used_twice` |
//! | what the queue would refuse is refused before anything happens, and costs no identifier | `a_refused_request_costs_nothing` |
//! | a control ring for six tags serves 32: bindings wait for room, and nothing is lost | `a_full_control_ring_loses_nothing` |
//! | a function with 64-byte completions only, and without the offload, serves as well | `a_function_without_the_offload_serves` |
//! | a tag is not given out while completions may lie unread in front of it | `a_tag_waits_for_the_receive_queue` |
//! | what the device placed is read before its tags lose their meaning, also when the connection is removed | `a_removal_reads_what_was_placed` |
//! | an admin connection waits for the controller to be down | `an_admin_connection_closes_when_its_controller_is_down` |
//! | counters do not go back when connections go | `counters_survive_their_connections` |
//! | a target that moves to another MAC address is asked for and found: connections go on, new ones come up | `a_target_that_moves_is_found` |
//! | an idle shard polls about once a second and does nothing | `an_idle_shard_is_idle` |
//! | a shard that cannot be is refused and leaves nothing | `an_impossible_shard_leaves_nothing` |
//! | connections that are open when the shard is closed come back whole | `an_open_connection_is_cut_off_safely` |
use super::world::{BLOCK, World};
use crate::adapter::{self, Adapter};
use crate::ddp::why::{Why, WhyNoOffload};
use crate::nvme::command::Request;
use crate::platform::virtual_nic::VirtualPlatform;
use crate::shard::{Config, ConnectionId, Refused, Shard};
use firmware_iface::caps::CmdHcaCap;
use hw_regs::eqe::EventType;
use hw_regs::layout::Access;
use smoltcp::wire::{IpAddress, Ipv4Packet, TcpPacket};
use std::cell::Cell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn sixteen_connections_leave_nothing() {
    let mut world = World::new();
    let admin = world.admin();
    let queues: Vec<ConnectionId> = (1..16).map(|n| world.io(admin, n, 8, n % 3 != 0)).collect();
    let full = world.shard.connect_admin(world.address, world.controller_config());
    assert!(matches!(full, Err(Refused::TooManyConnections { limit: 16 })));
    for round in 0..3 {
        let mut tokens = Vec::new();
        for (n, id) in queues.iter().enumerate() {
            for k in 0..8 {
                let block = (round * 1000 + n as u64 * 64 + k * 8) % 8000;
                let token = block | (round << 32) | ((n as u64) << 40);
                world.read(*id, token, 1 + (k as u32 * 37) % 60);
                tokens.push(token);
            }
        }
        world.until("all reads", 10, |world| tokens.iter().all(|token| world.is_done(*token)));
        assert!(tokens.iter().all(|token| world.status_is_success(*token)));
        assert_eq!(world.platform.nic().inventory().bound_tags, 0);
    }
    let stats = world.shard.offload_stats();
    assert!(stats.bytes > 0 && stats.rejections() == 0, "{stats:?}");
    world.close_all(&queues);
    world.close_all(&[admin]);
    assert!(world.ended.iter().all(|(_, why)| why.to_string() == "closed"), "{:?}", world.ended);
    assert_eq!(world.shard.frames_held(), 0);
    world.close_clean();
}

#[test]
fn an_identifier_is_never_used_twice() {
    let mut world = World::with(&[], |config| config.max_connections = 2);
    let admin = world.admin();
    let mut old: Vec<ConnectionId> = Vec::new();
    // More than there may be closing ones: the oldest make room.
    for round in 0..6 {
        let id = world.io(admin, 1, 4, round % 2 == 0);
        assert!(!old.contains(&id));
        for &gone in &old {
            assert!(world.shard.queue(gone).is_none() && !world.shard.is_offloaded(gone));
            let request = Request::read(1, 0, 1, BLOCK).expect("a request");
            let refused = world.shard.read(gone, request, world.buffer(BLOCK), 1);
            assert!(matches!(refused, Err((Refused::NotReady, _))));
            world.shard.close_connection(gone);
        }
        world.read(id, round, 40);
        world.until("the read", 5, |world| world.is_done(round));
        world.close_all(&[id]);
        old.push(id);
        assert!(world.shard.closing() <= 2);
    }
    world.close_all(&[admin]);
    world.close_clean();
}

#[test]
fn a_refused_request_costs_nothing() {
    let mut world = World::new();
    let admin = world.admin();
    let id = world.io(admin, 1, 2, true);
    let read = |blocks| Request::read(1, 0, blocks, BLOCK).expect("a request");
    for _ in 0..10 {
        let refused = world.shard.read(admin, read(1), world.buffer(BLOCK), 1);
        assert!(matches!(refused, Err((Refused::NotReady, _))));
        let refused = world.shard.write(id, read(1), world.buffer(BLOCK), 1);
        assert!(matches!(refused, Err((Refused::Direction, _))));
        let refused = world.shard.read(id, Request::flush(1), world.buffer(BLOCK), 1);
        assert!(matches!(refused, Err((Refused::Direction, _))));
        let refused = world.shard.read(id, read(2), world.buffer(BLOCK), 1);
        assert!(matches!(refused, Err((Refused::Length { buffer: 512, request: 1024 }, _))));
        // MDTS of the target is 1 MiB.
        let refused = world.shard.read(id, read(4096), world.buffer(4096 * BLOCK), 1);
        assert!(matches!(refused, Err((Refused::Submit(_), buffer)) if buffer.len() == 2 << 20));
    }
    let setups = world.shard.offload_stats().setup;
    assert_eq!((setups, world.platform.nic().inventory().bound_tags), (0, 0), "the device heard of none");
    world.read(id, 1, 1);
    world.read(id, 2, 1);
    let refused = world.shard.read(id, read(1), world.buffer(BLOCK), 3).map_err(|(why, _)| why);
    assert!(matches!(refused, Err(Refused::Busy)));
    world.until("both", 5, |world| world.is_done(1) && world.is_done(2));
    world.close_all(&[id, admin]);
    world.close_clean();
}

#[test]
fn a_full_control_ring_loses_nothing() {
    // 32 blocks: six or seven tags, bound and unbound.
    let mut device = virtual_nic::Config::default();
    device.capabilities.edit::<CmdHcaCap>(|caps| caps.set(CmdHcaCap::LOG_MAX_QP_SZ, 5));
    let mut world = World::on(device, &[], |config| config.log_tx = 5);
    let admin = world.admin();
    let id = world.io(admin, 1, 32, true);
    let mut token = 0;
    world.until("300 reads", 2, |world| {
        // Right after a poll: unbinds have completed that nobody has looked at.
        while token < 300 && world.under_way < 32 {
            world.read(id, token * 7, 1 + token as u32 % 5);
            token += 1;
        }
        world.done.len() == 300
    });
    assert!(world.done.values().all(|completion| completion.status.is_success()));
    let stats = world.shard.offload_stats();
    assert_eq!((stats.setup, stats.not_offloaded(Why::ControlRingFull)), (300, 0), "bindings wait for room: {stats:?}");
    world.close_all(&[id, admin]);
    world.close_clean();
}

#[test]
fn a_function_without_the_offload_serves() {
    let mut device = virtual_nic::Config::default();
    device.capabilities.edit::<CmdHcaCap>(|caps| {
        caps.set(CmdHcaCap::NVMEOTCP, 0);
        caps.set(CmdHcaCap::CQE_128_ALWAYS, 0);
    });
    let mut world = World::on(device, &[], |_| {});
    let admin = world.admin();
    let id = world.io(admin, 1, 8, false);
    let why = |world: &World| world.shard.why_no_offload(id).map(|no| no.why);
    assert_eq!(why(&world), Some(WhyNoOffload::NotAsked));
    assert!(world.shard.offload(id).is_err());
    assert_eq!(why(&world), Some(WhyNoOffload::NotCapable));
    let detail = &world.shard.why_no_offload(id).expect("a reason").detail;
    assert!(detail.contains("cmd_hca_cap.nvmeotcp"), "{detail}");
    for token in 0..8 {
        world.read(id, token * 100, 100);
    }
    world.until("reads", 5, |world| world.done.len() == 8);
    assert!(world.done.values().all(|completion| completion.status.is_success() && completion.placed == 0));
    let deadline = world.shard.adapter.command_deadline();
    world.shard.rq.stop(&mut world.shard.adapter, deadline).expect("in error");
    world.read(id, 1000, 100);
    world.until("the read", 5, |world| world.is_done(1000));
    assert_eq!(world.shard.counters().recoveries, 1);
    world.close_all(&[id, admin]);
    world.close_clean();
}

#[test]
fn a_tag_waits_for_the_receive_queue() {
    let mut world = World::new();
    let admin = world.admin();
    let id = world.io(admin, 1, 4, true);
    world.read(id, 64, 8);
    // Until the unbind was posted, and so executed.
    let found = world.find(Duration::from_secs(5), |world| {
        let unbound = world.shard.offload_stats().teardown == 1;
        (unbound && !world.is_done(64)).then_some(())
    });
    assert!(found.is_some());
    // Packets for nobody, more than one poll takes.
    let mut frame = vec![0; 60];
    frame[..6].copy_from_slice(&world.shard.adapter().mac());
    frame[6..14].copy_from_slice(&[2, 0, 0, 0, 0, 9, 0x12, 0x34]);
    for _ in 0..400 {
        world.platform.nic().receive(&frame);
    }
    assert!(world.shard.poll());
    world.collect();
    assert!(!world.is_done(64), "144 entries are unread, any could be of a packet that was placed");
    assert!(world.shard.poll());
    world.collect();
    assert!(world.is_done(64) && world.status_is_success(64));
    world.close_all(&[id, admin]);
    world.close_clean();
}

#[test]
fn a_removal_reads_what_was_placed() {
    let mut world = World::with(&[], |config| config.rx_payloads_per_connection = 600);
    let admin = world.admin();
    let id = world.io(admin, 1, 8, true);
    for token in 0..8 {
        world.read(id, token * 100, 100);
    }
    world.shard.poll();
    // More packets than one poll reads, and a reason to end before they are read.
    while world.platform.nic().counters().placed_packets < 270 {
        assert!(world.wire());
    }
    let flow = *world.shard.by_queue.keys().next().expect("an offload queue");
    let cqn = world.shard.offloads.as_ref().and_then(|o| o.queue(flow)).expect("known").icosq().cqn();
    let mut data = [0; 28];
    data[..4].copy_from_slice(&cqn.to_be_bytes());
    data[11] = 1;
    assert!(world.platform.nic().inject_event(EventType::CQ_ERROR, 0, &data));
    world.expect_end(id, 1);
    let (stats, counters) = (world.shard.offload_stats(), world.shard.counters());
    assert_eq!((stats.rejections(), counters.bad_completions), (0, 0));
    assert_eq!(stats.packets, world.platform.nic().counters().placed_packets, "every placed packet was understood");
    world.close_all(&[admin]);
    world.close_clean();
}

/// The frame, with a response that says that the shutdown goes on.
fn still_shutting_down(mut frame: Vec<u8>) -> Vec<u8> {
    let header = 14 + 20 + usize::from(frame[46] >> 4) * 4;
    if frame[12..14] != [8, 0] || frame.len() < header + 24 || frame[header] != 5 || frame[header + 8] & 0xc != 8 {
        return frame;
    }
    // CSTS.SHST, bits 3:2 of the first dword: 01b, occurring.
    frame[header + 8] ^= 0xc;
    let mut ip = Ipv4Packet::new_unchecked(&mut frame[14..]);
    let (source, destination) = (IpAddress::Ipv4(ip.src_addr()), IpAddress::Ipv4(ip.dst_addr()));
    TcpPacket::new_unchecked(ip.payload_mut()).fill_checksum(&source, &destination);
    frame
}

#[test]
fn an_admin_connection_closes_when_its_controller_is_down() {
    let mut world = World::new();
    let admin = world.admin();
    let mut left = 3;
    world.to_host = Box::new(move |frame| {
        let before = frame.clone();
        let changed = if left > 0 { still_shutting_down(frame) } else { frame };
        left -= u32::from(before != changed);
        Some(changed)
    });
    let began = world.now();
    world.shard.close_connection(admin);
    assert_eq!(world.expect_end(admin, 10), "closed");
    assert_eq!(world.down, [admin], "down before the end");
    assert!(world.now() - began >= Duration::from_millis(30), "three looks were in vain");
    world.close_clean();
}

#[test]
fn counters_survive_their_connections() {
    let mut world = World::new();
    let admin = world.admin();
    let id = world.io(admin, 1, 4, true);
    for token in 0..4 {
        world.read(id, token * 100, 64);
    }
    world.until("reads", 5, |world| world.done.len() == 4);
    let (doorbells, stats) = (world.shard.doorbells(), world.shard.offload_stats());
    assert!(stats.setup == 4 && stats.teardown_done == 4 && stats.bytes > 0);
    world.close_all(&[id, admin]);
    assert!(world.shard.doorbells() >= doorbells, "{} < {doorbells}", world.shard.doorbells());
    let after = world.shard.offload_stats();
    assert_eq!((after.setup, after.teardown_done, after.bytes), (stats.setup, stats.teardown_done, stats.bytes));
    let seen = world.platform.nic().counters().sq_doorbells;
    assert_eq!(world.shard.doorbells(), seen, "the device has seen as many");
    world.close_clean();
}

#[test]
fn an_idle_shard_is_idle() {
    let mut world = World::new();
    let admin = world.admin();
    let id = world.io(admin, 1, 4, true);
    world.run_for(Duration::from_secs(2));
    let (mut polls, until) = (0, world.now() + Duration::from_secs(10));
    let packets = world.shard.counters().packets_tx;
    while world.now() < until {
        assert!(!world.shard.poll(), "there is nothing to do");
        polls += 1;
        world.sleep();
    }
    assert!((10..50).contains(&polls), "{polls} polls in 10 s");
    assert_eq!(world.shard.counters().packets_tx, packets);
    world.close_all(&[id, admin]);
    world.close_clean();
}

#[test]
fn an_impossible_shard_leaves_nothing() {
    let changes: [fn(&mut Config); 6] = [
        |config| config.log_rx = 40,
        |config| config.log_rx = 16,
        |config| config.log_tx = 4,
        |config| config.log_tx = 64,
        |config| config.max_connections = u32::MAX,
        |config| config.prefix_len = 33,
    ];
    for change in changes {
        let platform = Arc::new(VirtualPlatform::new("test", virtual_nic::Config::default()));
        let adapter = Adapter::bring_up(Arc::clone(&platform), adapter::Config::default()).expect("up");
        let mut config = Config::new(Ipv4Addr::new(10, 0, 0, 1), [0; 16]);
        change(&mut config);
        assert!(Shard::open(adapter, config).is_err());
        assert!(platform.nic().inventory().is_empty(), "{}", platform.nic().inventory());
    }
}

#[test]
fn an_open_connection_is_cut_off_safely() {
    for offload in [false, true] {
        let mut world = World::new();
        let admin = world.admin();
        let id = world.io(admin, 1, 4, offload);
        for token in 0..4 {
            world.read(id, token * 1000, 1000);
        }
        for _ in 0..3 {
            world.step();
        }
        assert!(world.done.len() < 4, "some are under way");
        let (closed, left) = world.close();
        let open = closed.problems.iter().filter(|problem| problem.contains("was still open")).count();
        assert_eq!((open, closed.problems.len()), (2, 2), "{:?}", closed.problems);
        assert!(closed.teardown.is_clean(), "{}", closed.teardown);
        assert_eq!((left.under_way, left.done.len()), (0, 4));
        left.expect_nothing();
    }
}

/// While `moved` is set the target is at another MAC address. It says so only if it is asked, and hears nothing that is sent to
/// where it is not.
fn may_move(world: &mut World, moved: &Rc<Cell<bool>>) {
    const NEW: [u8; 6] = [0x02, 0, 0, 0, 0x44, 0x99];
    let old = nvme_target::Config::default().mac;
    let there = Rc::clone(moved);
    world.to_target = Box::new(move |mut frame| {
        let (here, gone) = if there.get() { (NEW, old) } else { (old, NEW) };
        if frame[..6] == gone {
            return None;
        }
        if frame[..6] == here {
            frame[..6].copy_from_slice(&old);
        }
        Some(frame)
    });
    let there = Rc::clone(moved);
    world.to_host = Box::new(move |mut frame| {
        if there.get() {
            frame[6..12].copy_from_slice(&NEW);
            // The sender's address in an answer (RFC 826); the target does not ask, it answers where it was asked from.
            if frame[12..14] == [8, 6] {
                frame[22..28].copy_from_slice(&NEW);
            }
        }
        Some(frame)
    });
}

#[test]
fn a_target_that_moves_is_found() {
    let mut world = World::new();
    let moved = Rc::new(Cell::new(false));
    may_move(&mut world, &moved);
    let admin = world.admin();
    let id = world.io(admin, 1, 4, true);
    world.run_for(Duration::from_secs(2));
    moved.set(true);
    // Three timeouts, of 0.2, 0.4 and 0.8 s; what the fourth sends reaches it, before commands time out and long before the
    // lifetime of what was known is over.
    world.read(id, 0, 64);
    world.until("the read", 5, |world| world.is_done(0));
    assert!(world.status_is_success(0));
    assert_eq!(world.shard.interface_counters().neighbors_doubted, 2, "with the third and the fourth");
    assert_eq!(world.shard.totals().tcp.timeouts, 4);
    world.run_for(Duration::from_secs(2));
    moved.set(false);
    let began = world.now();
    // A new connection asks with the first SYN that is not answered, and its third arrives.
    let other = world.io(admin, 2, 4, true);
    assert!(world.now() - began < Duration::from_secs(10));
    world.read(other, 1, 64);
    world.read(id, 2, 64);
    world.until("the reads", 5, |world| world.is_done(1) && world.is_done(2));
    assert!(world.status_is_success(1) && world.status_is_success(2));
    assert_eq!(world.shard.interface_counters().neighbors_doubted, 4);
    world.close_all(&[id, other, admin]);
    world.close_clean();
}
