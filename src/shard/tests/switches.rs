//! The driver under switches of the device that cost more than placement.
//!
//! | property | test |
//! |---|---|
//! | tags that fail the receive queue cost the offload: every read succeeds, also those that were bound, and no connection ends | `dangerous_tags_cost_the_offload_only` |
//! | from then on nothing is offloaded any more, and it is said why | `dangerous_tags_cost_the_offload_only` |
//! | a shard that breaks meanwhile ends as always | `a_shard_that_breaks_falls_back_no_more` |
//! | tags that stop a context cost placement, and nothing else | `a_stopped_context_costs_placement_only` |
//! | a resync is confirmed with the poll that delivered the header, and never is more than one question open | `a_resync_is_answered_in_the_same_poll` |
//! | a batch of setups, invalidates and sends takes one doorbell of the control ring and one of the send queue | `a_batch_takes_two_doorbells` |
use super::world::{World, passes};
use crate::ddp::policy::Threshold;
use crate::ddp::why::WhyNoOffload;
use crate::shard::OffloadRefused;
use virtual_nic::offload::behaviour::Reaction;

/// A device on which a tag that is not bound leads to this.
fn device(reaction: Reaction) -> virtual_nic::Config {
    let mut device = virtual_nic::Config::default();
    device.switches.offload.free_key = reaction;
    device
}

#[test]
fn dangerous_tags_cost_the_offload_only() {
    // Reads of less than 32 KiB are not bound, and those fail the receive queue.
    let mut world =
        World::on(device(Reaction::ErrorCqe), &[], |config| config.offload_threshold = Threshold::Fixed(32 << 10));
    let admin = world.admin();
    let ids = [world.io(admin, 1, 8, true), world.io(admin, 2, 8, true)];
    for token in 0..16 {
        let blocks = if token % 4 == 3 { 16 } else { 256 };
        world.read(ids[token as usize % 2], token * 300, blocks);
    }
    world.until("the reads", 60, |world| world.done.len() == 16);
    assert!(world.done.values().all(|completion| completion.status.is_success()), "{:?}", world.done);
    let in_part = world.done.values().filter(|completion| completion.placed != 0 && completion.copied > 1460).count();
    assert!(in_part > 0, "reads that were bound went on without");
    let counters = world.shard.counters();
    assert_eq!(counters.fallbacks, 2);
    assert!(counters.recoveries >= 3 && counters.queue_errors >= 3 && world.shard.broken().is_none());
    assert!(ids.iter().all(|id| !world.shard.is_offloaded(*id)));
    let why = world.shard.why_no_offload(ids[0]).expect("a reason");
    assert!(why.why == WhyNoOffload::GivenUp && why.detail.contains("receive queue failed"), "{why:?}");
    assert!(matches!(world.shard.offload(ids[0]), Err(OffloadRefused::GivenUp(_))));
    // Nothing is lost from here on.
    for token in 16..32 {
        world.read(ids[token as usize % 2], (token << 32) + token * 200, 64);
    }
    world.until("more reads", 5, |world| world.done.len() == 32);
    assert!(world.done.values().all(|completion| completion.status.is_success()));
    assert_eq!(world.shard.counters().recoveries, counters.recoveries);
    world.close_all(&[ids[0], ids[1], admin]);
    world.close_clean();
}

#[test]
fn a_shard_that_breaks_falls_back_no_more() {
    let mut world =
        World::on(device(Reaction::ErrorCqe), &[], |config| config.offload_threshold = Threshold::Fixed(1 << 20));
    let admin = world.admin();
    let id = world.io(admin, 1, 8, true);
    let mut failed = 0;
    world.until("three failures", 60, |world| {
        if world.under_way < 8 {
            world.read(id, failed * 100, 64);
            failed += 1;
        }
        world.shard.falls_back
    });
    // The oracle of `sleep` sees a deadline that is always now.
    world.shard.fail(world.clock.now(), "a test".to_owned());
    world.until("the end", 20, |world| world.why(id).is_some() && world.why(admin).is_some());
    world.run_for(std::time::Duration::from_secs(3));
    assert!(!world.shard.falls_back && world.shard.counters().fallbacks == 0);
    let (closed, left) = world.close();
    assert!(closed.teardown.is_clean() && left.under_way == 0);
    left.expect_nothing();
}

#[test]
fn a_stopped_context_costs_placement_only() {
    let mut world =
        World::on(device(Reaction::ContextError), &[], |config| config.offload_threshold = Threshold::Fixed(32 << 10));
    let admin = world.admin();
    let id = world.io(admin, 1, 8, true);
    for token in 0..8 {
        world.read(id, token * 300, if token == 2 { 8 } else { 256 });
    }
    world.until("the reads", 5, |world| world.done.len() == 8);
    assert!(world.done.values().all(|completion| completion.status.is_success()));
    assert_eq!(world.platform.nic().offload_counters().stopped, 1);
    world.close_all(&[id, admin]);
    world.close_clean();
}

#[test]
fn a_resync_is_answered_in_the_same_poll() {
    let mut world = World::new();
    let admin = world.admin();
    let id = world.io(admin, 1, 16, true);
    // Every 97th large frame is lost: holes, and now and then a header.
    let mut number = 0;
    world.to_host = Box::new(move |frame| {
        number += u64::from(frame.len() > 1000);
        (frame.len() <= 1000 || number % 97 != 0).then_some(frame)
    });
    let mut token = 0;
    let mut answered = 0;
    let params = |world: &World| world.platform.nic().counters().work_requests.static_params;
    world.until("600 reads", 600, |world| {
        while token < 600 && world.under_way < 16 {
            world.read(id, token * 13, 20);
            token += 1;
        }
        let (before, posted) = (world.shard.offload_stats().resync_confirmed, params(world));
        world.shard.poll();
        let confirmed = world.shard.offload_stats().resync_confirmed - before;
        assert_eq!(params(world) - posted, confirmed, "confirmed, and in the device's hands");
        answered += confirmed;
        let nic = world.platform.nic();
        let device = nic.offload_counters();
        let open = device.requests - device.confirmations - device.guesses_dropped;
        drop(nic);
        assert!(open <= 1, "{open} questions are open");
        world.done.len() == 600
    });
    assert!(answered > 3, "{answered} resyncs");
    assert!(world.done.values().all(|completion| completion.status.is_success()));
    world.to_host = passes();
    world.close_all(&[id, admin]);
    world.close_clean();
}

#[test]
fn a_batch_takes_two_doorbells() {
    let mut world = World::new();
    let admin = world.admin();
    let id = world.io(admin, 1, 32, true);
    let mut batches = 0;
    for round in 0..10 {
        for n in 0..16 {
            world.read(id, (round * 16 + n) * 20, 8);
        }
        let requests = |world: &World| {
            let nic = world.platform.nic();
            let counters = nic.counters();
            (
                counters.work_requests.umr,
                counters.work_requests.send + counters.work_requests.lso,
                counters.sq_doorbells,
            )
        };
        // The batch before is unbound while this one is bound and sent.
        world.until("the batch", 5, |world| {
            let (umr, sent, rung) = requests(world);
            world.shard.poll();
            world.collect();
            let (umr, sent, rung) = (requests(world).0 - umr, requests(world).1 - sent, requests(world).2 - rung);
            let queues = u64::from(umr != 0) + u64::from(sent != 0);
            assert_eq!(rung, queues, "{umr} UMRs and {sent} sends with {rung} doorbells");
            batches += u64::from(umr >= 16 && sent != 0);
            world.under_way < 16
        });
    }
    assert!(batches >= 10, "{batches}");
    world.until("the rest", 5, |world| world.under_way == 0);
    world.close_all(&[id, admin]);
    world.close_clean();
}
