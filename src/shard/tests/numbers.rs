//! | property | test |
//! |---|---|
//! | what a completion of the device says that cannot be, or is none of its packet's business, has its own counter and event | `a_refused_completion_has_a_name` |
//! | so has what is said about the stream of another connection, which is not believed | `what_is_said_about_another_queue_has_a_name` |
//! | so has an event of the device about a queue that is not there, or about nothing that matters | `a_refused_event_has_a_name` |
//! | what comes for a connection that closes is counted | `what_comes_too_late_is_counted` |
//! | the ring keeps as many events as it was told, and says how many it forgot | `the_ring_is_as_long_as_it_was_told` |
//! | a connection's counters are in the shard's sums while it is open, while it closes, and when it is gone | `nothing_is_lost_with_a_connection` |
use super::world::{World, lost, passes};
use crate::ddp::rebuild::Rejection;
use crate::observe::ShardStats;
use crate::observe::counter::Readings;
use crate::shard::ConnectionId;
use hw_regs::cqe::OffloadCqe;
use hw_regs::eqe::EventType;
use hw_regs::layout::{Access, Layout};
use std::time::Duration;

/// An admin connection and two offloaded I/O queues.
fn connected(world: &mut World) -> [ConnectionId; 3] {
    let admin = world.admin();
    [admin, world.io(admin, 1, 8, true), world.io(admin, 2, 8, true)]
}

/// Changes the n-th receive completion of those that `which` picks, from 0.
fn tamper(
    world: &World,
    n: u32,
    which: impl Fn(&[u8]) -> bool + Send + 'static,
    change: impl Fn(&mut OffloadCqe) + Send + 'static,
) {
    let mut seen = 0;
    let tamper = move |entry: &mut [u8]| {
        if entry.len() == 128 && which(entry) {
            if seen == n {
                let mut cqe = OffloadCqe::from_prefix(entry);
                change(&mut cqe);
                entry.copy_from_slice(&cqe.0);
            }
            seen += 1;
        }
    };
    world.platform.nic().faults().tamper_completions(Some(Box::new(tamper)));
}

/// Numbers of a set that are not 0, by name.
fn nonzero(set: &dyn Readings) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    set.read(&mut |reading| {
        let reason = reading.reason.map_or(String::new(), |(reason, _)| format!(".{reason}"));
        if reading.value != 0 {
            found.push((format!("{}{reason}", reading.family.name), reading.value));
        }
    });
    found
}

/// Events of this name that are in the ring.
fn noted(world: &World, name: &str) -> usize {
    world.shard.event_log().events().filter(|event| event.what.name() == name).count()
}

/// How often something was refused by the offload for a reason.
fn rejected(stats: &ShardStats, why: Rejection) -> u64 {
    stats.totals.offload.rejected(why)
}

#[test]
fn a_refused_completion_has_a_name() {
    type Change = fn(&mut OffloadCqe);
    type Count = fn(&ShardStats) -> u64;
    let cases: [(&str, Change, Count); 8] = [
        ("completion-refused", |e| e.0[127] = e.0[127] & 1 | 0x70, |s| s.totals.receive_queue.opcode),
        ("completion-refused", |e| e.set(OffloadCqe::CQE64_WQE_COUNTER, 0xfff0), |s| s.totals.receive_queue.not_posted),
        ("completion-refused", |e| e.0[108..112].fill(0xff), |s| s.totals.receive_queue.length),
        ("completion-refused", |e| e.set(OffloadCqe::CQE64_FLOW_TAG, 77), |s| rejected(s, Rejection::NoQueue)),
        ("completion-refused", |e| e.set(OffloadCqe::CCID, 8), |s| rejected(s, Rejection::TagOutOfRange)),
        ("completion-refused", |e| e.set(OffloadCqe::CCID, 7), |s| rejected(s, Rejection::TagNotBound)),
        ("completion-refused", |e| e.0[65] |= 0x40, |s| rejected(s, Rejection::ResyncAndPlaced)),
        // The other queue's tag of the same number is bound too.
        ("foreign-placement", |e| e.set(OffloadCqe::CQE64_FLOW_TAG, 2), |s| s.totals.shard.foreign_placements),
    ];
    for (n, (event, change, count)) in cases.into_iter().enumerate() {
        let mut world = World::new();
        let [admin, first, second] = connected(&mut world);
        assert_eq!(world.shard.connection(second).and_then(|c| c.offload), Some(2), "as the last case has it");
        tamper(&world, 3, |entry| entry[65] & 0x10 != 0 && entry[123] == 1, change);
        world.read(second, 4000, 64);
        world.read(first, 0, 64);
        world.until("the reads", 60, |world| world.done.len() == 2);
        let stats = world.shard.stats(0);
        assert_eq!(count(&stats), 1, "case {n}: {:?}", nonzero(&stats.totals.shard));
        assert_eq!(noted(&world, event), 1, "case {n}");
        world.platform.nic().faults().tamper_completions(None);
        world.close_all(&[first, second, admin]);
        world.close_clean();
    }
}

#[test]
fn what_is_said_about_another_queue_has_a_name() {
    for (flag, data_digest) in [(0x20, true), (0x40, false)] {
        let mut world = World::new();
        world.data_digest = data_digest;
        let admin = world.admin();
        let (plain, other) = (world.io(admin, 1, 8, false), world.io(admin, 2, 8, true));
        // A packet of the connection that is not offloaded, as if the other one's queue had looked at it.
        tamper(
            &world,
            3,
            |entry| entry[121..124] == [0; 3],
            move |entry| {
                entry.0[65] |= flag;
                entry.set(OffloadCqe::CQE64_FLOW_TAG, 1);
            },
        );
        world.read(plain, 0, 64);
        world.until("the read", 60, |world| world.done.len() == 1);
        assert!(world.status_is_success(0));
        let stats = world.shard.stats(0);
        let expected = if data_digest { (1, 0) } else { (0, 1) };
        assert_eq!((stats.totals.shard.foreign_digest_marks, stats.totals.shard.foreign_resyncs), expected);
        assert_eq!(noted(&world, "resync-asked"), 0, "nobody was asked");
        world.platform.nic().faults().tamper_completions(None);
        world.close_all(&[plain, other, admin]);
        world.close_clean();
    }
}

#[test]
fn a_refused_event_has_a_name() {
    let mut world = World::new();
    let [admin, first, second] = connected(&mut world);
    let before = world.shard.counters();
    let number = |at: usize| {
        let mut data = [0; 28];
        data[at..at + 4].copy_from_slice(&0x00ab_cdefu32.to_be_bytes());
        data
    };
    for (event, sub_type, data) in [
        (EventType::CQ_ERROR, 0, number(0)),
        (EventType::WQ_CATAS_ERROR, 0, number(24)),
        (EventType::PORT_CHANGE, 1, [0x10; 28]),
        (EventType::PORT_CHANGE, 9, [0x10; 28]),
    ] {
        assert!(world.platform.nic().inject_event(event, sub_type, &data));
    }
    world.run_for(Duration::from_millis(1));
    let after = world.shard.counters();
    assert_eq!(after.unknown_queue_events - before.unknown_queue_events, 2);
    assert_eq!(after.queue_errors - before.queue_errors, 2);
    assert_eq!((after.cq_errors, after.port_down, after.other_events - before.other_events), (1, 1, 1));
    assert_eq!((noted(&world, "unknown-queue"), noted(&world, "port-down"), noted(&world, "queue-failed")), (2, 1, 2));
    world.close_all(&[first, second, admin]);
    world.close_clean();
}

#[test]
fn what_comes_too_late_is_counted() {
    let mut world = World::new();
    let [admin, first, second] = connected(&mut world);
    world.to_host = lost();
    world.read(first, 0, 200);
    for _ in 0..3 {
        world.step();
    }
    // The controller is cut off in the middle of its answer, which it says again.
    world.shard.finish(first.index, world.clock.now());
    world.to_host = passes();
    world.run_for(Duration::from_secs(10));
    let stats = world.shard.stats(0);
    assert!(stats.totals.shard.closing_discarded > 0, "{:?}", nonzero(&stats.totals.shard));
    assert_eq!(stats.totals.shard.connections_ended.total(), 1);
    world.run_for(Duration::from_secs(200));
    world.close_all(&[second, admin]);
    world.close_clean();
}

#[test]
fn the_ring_is_as_long_as_it_was_told() {
    let mut world = World::with(&[], |config| config.events = 4);
    let [admin, first, second] = connected(&mut world);
    world.close_all(&[first, second, admin]);
    let ring = world.shard.event_log();
    let counters = ring.counters();
    assert_eq!((ring.events().len(), counters.noted - counters.forgotten), (4, 4));
    assert!(counters.forgotten > 5);
    assert_eq!(noted(&world, "connection-ended"), 3, "the last that happened");
    assert_eq!(world.shard.stats(0).events, counters);
    world.close_clean();
}

#[test]
fn nothing_is_lost_with_a_connection() {
    let mut world = World::new();
    let [admin, first, second] = connected(&mut world);
    for token in 0..8 {
        world.read(first, token * 200, 100);
        world.read(second, token * 200 + 100, 100);
    }
    world.until("the reads", 10, |world| world.done.len() == 16);
    let open = world.shard.stats(0);
    let of = |pick: fn(&crate::observe::ConnectionStats) -> u64| -> u64 { open.connections.iter().map(pick).sum() };
    assert_eq!(of(|c| c.tcp.bytes_in), open.totals.tcp.bytes_in);
    assert_eq!(of(|c| c.nvme.bytes_placed), open.totals.nvme.bytes_placed);
    assert_eq!(of(|c| c.offload.bytes), open.totals.offload.bytes);
    assert_eq!(open.totals.nvme.bytes_placed + open.totals.nvme.bytes_copied, 16 * 100 * 512);
    (world.to_target, world.to_host) = (lost(), lost());
    world.close_all(&[first, second]);
    let closing = world.shard.stats(0);
    assert_eq!((closing.gauges.closing, closing.connections.len()), (2, 1));
    (world.to_target, world.to_host) = (passes(), passes());
    world.close_all(&[admin]);
    world.until("TCP to be done", 200, |world| world.shard.closing() == 0);
    let gone = world.shard.stats(0);
    assert_eq!(gone.gauges, crate::shard::Gauges { rx_posted: gone.gauges.rx_posted, ..Default::default() });
    for later in [&closing, &gone] {
        assert!(later.totals.tcp.bytes_in >= open.totals.tcp.bytes_in);
        assert_eq!(later.totals.offload.bytes, open.totals.offload.bytes);
        assert_eq!(later.totals.nvme.bytes_placed, open.totals.nvme.bytes_placed);
        assert!(later.totals.tcp.segments_out > open.totals.tcp.segments_out, "the FINs");
    }
    assert_eq!((gone.totals.offload.sk_add, gone.totals.offload.sk_del), (2, 2));
    world.close_clean();
}
