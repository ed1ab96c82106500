//! What must hold: while a seed runs, of every failure; and at its end, of everything.

use super::host::Sim;
use super::requests::Request;
use super::totals::sum;
use crate::ddp::rebuild::Rejection;
use crate::ddp::why::Why;
use crate::demo::wire::Lane;
use crate::nvme::queue::Reason;
use crate::nvme::status::Status;
use crate::shard::{ConnectionId, Disconnect};
use std::collections::BTreeMap;

/// A request has failed: something that was drawn must have led to it. `kept`: its buffer stays with the device.
pub(super) fn judge_failure(
    sim: &mut Sim<'_>,
    id: ConnectionId,
    token: u64,
    request: &Request,
    status: Status,
    kept: bool,
) {
    sim.path(format!("failed: {status}"), 1);
    let target_wrong = sim.world.target.counters().faults != 0;
    let caused = match status {
        Status::ABORTED_BY_HOST if request.cancelled => true,
        // Ends with the connection, whose own end is judged; the controller never saw it, or may have.
        Status::ABORTED_BY_HOST | Status::HOST_PATHING_ERROR => {
            sim.failed_with.push(id);
            true
        }
        // What the device may still write is no success.
        Status::TRANSIENT_TRANSPORT_ERROR => target_wrong || (kept && sim.plan.device_fails()),
        _ => target_wrong,
    };
    if !caused {
        sim.problem(format!("request {token} failed without a cause: {status}"));
    }
}

/// A connection has ended: something that was drawn must have led to it.
pub(super) fn judge_end(sim: &mut Sim<'_>, queue: u16, asked: bool, again: bool, why: &Disconnect) {
    let target_wrong = sim.world.target.counters().faults != 0;
    let device_wrong = sim.plan.device_fails();
    // A burst of losses is as long in frames, however late these are sent again; and ARP believes a damaged address.
    let unreachable = sim.plan.loses_in_bursts() || sim.plan.corrupts();
    let (name, caused) = match why {
        Disconnect::Closed => ("closed", asked),
        Disconnect::ClosedByPeer => ("closed by the peer", target_wrong || asked),
        Disconnect::Tcp(_) => ("TCP", target_wrong || device_wrong || again || unreachable),
        Disconnect::Protocol(Reason::CommandTimeout { .. } | Reason::Initialization { .. }) => {
            ("time-out", target_wrong || device_wrong || again || sim.plan.may_time_out())
        }
        Disconnect::Protocol(_) => ("protocol", target_wrong || device_wrong || again),
        Disconnect::Offload(_) => ("offload", device_wrong),
        Disconnect::ControlQueue { .. } => ("control queue", device_wrong),
        Disconnect::NotForgotten { .. } => ("not forgotten", device_wrong),
        Disconnect::Function(_) => ("function", device_wrong),
        Disconnect::Controller(_) => ("controller", target_wrong || device_wrong || sim.plan.may_time_out()),
        Disconnect::Queue(_) => ("bad queue", false),
        Disconnect::Unreachable(_) => ("unreachable", device_wrong || unreachable),
        Disconnect::NotConnected { .. } => ("not connected", device_wrong || unreachable),
    };
    sim.path(format!("connection ended: {name}"), 1);
    if !caused {
        sim.problem(format!("queue {queue} ended without a cause: {why}"));
    }
}

/// Takes the world down, and looks at what is left of it.
pub(super) fn close(sim: &mut Sim<'_>) {
    count(sim);
    let Some(shard) = sim.shard.take() else { return };
    let heap = shard.adapter().heap().clone();
    let deadline = shard.adapter().command_deadline();
    let (counters, stats) = (shard.counters(), shard.offload_stats());
    let mut closed = shard.close(deadline);
    for event in std::mem::take(&mut closed.events) {
        if let Err(stop) = sim.on_event(event) {
            sim.problem(stop);
        }
    }
    for (_, buffer) in closed.buffers {
        sim.namespace.give(buffer);
    }
    let device_fails = sim.plan.device_fails();
    // What is left must have been said.
    let said = device_fails && !(closed.problems.is_empty() && closed.teardown.is_clean());
    for problem in closed.problems {
        // What firmware did not do, or what was left open because of it, has been said; nothing else may be.
        if !device_fails {
            sim.problem(format!("closing: {problem}"));
        }
    }
    if !closed.teardown.is_clean() && !device_fails {
        sim.problem(format!("teardown: {}", closed.teardown));
    }
    if !sim.namespace.under_way.is_empty() {
        let tokens: Vec<u64> = sim.namespace.under_way.keys().copied().collect();
        sim.problem(format!("requests {tokens:?} never came back"));
    }
    let ended: Vec<ConnectionId> = sim.ended.iter().map(|(id, _)| *id).collect();
    if let Some(id) = sim.failed_with.iter().find(|id| !ended.contains(id)) {
        sim.problem(format!("requests of {id:?} failed with their connection, which goes on"));
    }
    let changed = sim.namespace.changed();
    if changed != 0 {
        sim.problem(format!("{changed} buffers were written after they had come back"));
    }
    let nic = sim.world.platform.nic();
    let (inventory, device) = (nic.inventory(), nic.counters().clone());
    drop(nic);
    let mut problems = Vec::new();
    if !inventory.is_empty() && !said {
        problems.push(format!("the device still holds {inventory}"));
    }
    if device.misuse != Default::default() && !(device_fails && device.misuse.dma_fault == 0) {
        problems.push(format!("the device was used wrongly: {:?}", device.misuse));
    }
    let held = heap.usage().1;
    if held != 0 && !said {
        problems.push(format!("{held} bytes of DMA memory are still held"));
    }
    // What must add up where nothing of the device failed.
    let whole = counters.queue_errors == 0 && !device_fails;
    let mut equal = |what: &str, a: u64, b: u64| {
        if whole && a != b {
            problems.push(format!("{what}: {a} and {b}"));
        }
    };
    equal("connections added to the offload, taken from it", stats.sk_add, stats.sk_del);
    equal("tags bound, unbound", stats.setup, stats.teardown);
    equal("tags unbound, forgotten", stats.teardown, stats.teardown_done);
    equal("packets of the device, of the driver", device.rx_completions, counters.packets_rx);
    equal("placed packets of the device, of the driver", device.placed_packets, stats.packets);
    equal("placed bytes of the device, of the driver", device.placed_bytes, stats.bytes);
    equal("resync requests of the device, of the driver", device.resync_requests, stats.resync);
    equal("frames not sent, none", counters.not_sent, 0);
    equal("placements for other connections, none", counters.foreign_placements, 0);
    equal("completions not believed, none", counters.bad_completions, 0);
    equal("control ring errors, none", stats.control_errors, 0);
    equal("misplaced runs, none", stats.misplaced, 0);
    if stats.resync_confirmed > stats.resync {
        problems.push(format!("{} resyncs confirmed, {} asked for", stats.resync_confirmed, stats.resync));
    }
    problems.into_iter().for_each(|problem| sim.problem(problem));
}

/// Collects what was counted, while everything is still there.
fn count(sim: &mut Sim<'_>) {
    let lanes = sim.world.lanes().map(Lane::counters);
    let mut paths = BTreeMap::new();
    let sums = &mut sim.sums;
    for lane in lanes {
        sums.add(sum::LOST, lane.lost);
        sums.add(sum::REORDERED, lane.reordered);
        sums.add(sum::DUPLICATED, lane.duplicated);
        sums.add(sum::CORRUPTED, lane.corrupted);
    }
    sums.add(sum::SENT_AGAIN, sim.watch.sent_again);
    sums.add(sum::HEARD_AGAIN, sim.watch.heard_again);
    sums.add(sum::TARGET_FAULTS, sim.world.target.counters().faults);
    for counters in sim.counters.values() {
        sums.add(sum::DIGESTS_HW, counters.digests_hardware);
        sums.add(sum::DIGESTS_SW, counters.digests_software);
        for (name, n) in [
            ("driver: data digest wrong", counters.digest_errors),
            ("driver: resync refuted", counters.resync_refuted),
            ("driver: data of cancelled reads (bytes)", counters.bytes_discarded),
        ] {
            *paths.entry(name.to_owned()).or_default() += n;
        }
    }
    let nic = sim.world.platform.nic();
    let offload = nic.offload_counters().clone();
    let drops = nic.counters().drops.clone();
    let misses = nic.counters().commands_refused;
    drop(nic);
    if let Some(shard) = &sim.shard {
        let (stats, counters) = (shard.offload_stats(), shard.counters());
        sums.add(sum::PACKETS, counters.packets_rx);
        sums.add(sum::PLACED_PACKETS, stats.packets);
        sums.add(sum::RESYNCS, stats.resync);
        sums.add(sum::CONFIRMED, stats.resync_confirmed);
        sums.add(sum::RECOVERIES, counters.recoveries);
        sums.add(sum::DEVICE_FAULTS, counters.queue_errors);
        for why in Why::ALL {
            paths.insert(format!("driver: not offloaded: {}", why.name()), stats.not_offloaded(why));
            paths.insert(format!("driver: copied: {}", why.name()), stats.copied(why).bytes);
        }
        for why in Rejection::ALL {
            paths.insert(format!("driver: refused: {why}"), stats.rejected(why));
        }
        for (name, n) in [
            ("driver: wrong checksum", counters.bad_checksums),
            ("driver: completion not believed", counters.bad_completions),
            ("driver: placed for another connection", counters.foreign_placements),
            ("driver: no connection", counters.no_connection),
            ("driver: reset sent", counters.resets),
            ("driver: taken off the offload", counters.fallbacks),
            ("driver: misplaced run", stats.misplaced),
            ("driver: control ring error", stats.control_errors),
            ("driver: shard broken", u64::from(shard.broken().is_some())),
        ] {
            paths.insert(name.to_owned(), n);
        }
    }
    for (name, n) in [
        ("device: hole inside a PDU", offload.holes),
        ("device: framing lost", offload.lost),
        ("device: header guessed", offload.guesses),
        ("device: guess dropped", offload.guesses_dropped),
        ("device: resync asked", offload.requests),
        ("device: confirmed", offload.confirmations),
        ("device: confirmed too late or otherwise", offload.confirmations_stale),
        ("device: digest right", offload.digests_good),
        ("device: digest wrong", offload.digests_bad),
        ("device: digest unverified", offload.digests_unverified),
        ("device: context stopped", offload.stopped),
        ("device: no receive buffer", drops.out_of_buffer),
        ("device: receive queue not ready", drops.queue_not_ready),
        ("device: packet completed with error", drops.queue_error),
        ("device: command refused", misses),
    ] {
        paths.insert(name.to_owned(), n);
    }
    for (why, bytes) in offload.bytes_unplaced {
        paths.insert(format!("device: left in the ring: {why:?} (bytes)"), bytes);
    }
    for (why, packets) in offload.bypassed {
        paths.insert(format!("device: bypassed: {why:?}"), packets);
    }
    for (name, n) in paths {
        sim.path(name, n);
    }
}
