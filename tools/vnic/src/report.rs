//! What was counted, for people: on SIGUSR1 and at the end.

use crate::function::Function;
use crate::hub::{Hub, Uplink};
use std::fmt::Write;

/// Everything that is not zero, a line each.
pub fn text(hub: &mut Hub) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_all(hub, &mut out);
    out
}

/// Accesses of all functions to memory that their clients had not lent them.
pub fn dma_violations(hub: &mut Hub) -> u64 {
    hub.functions().map(|function| function.nic.dma_faults().0).sum()
}

fn write_all(hub: &mut Hub, out: &mut String) -> std::fmt::Result {
    for function in hub.functions() {
        write_function(function, out)?;
    }
    let (local, lanes) = hub.wire_counters();
    let mut line = |name: &str, count: u64| if count == 0 { Ok(()) } else { writeln!(out, "wire: {name} {count}") };
    line("frames between functions", local)?;
    for (way, lane) in ["out", "in"].into_iter().zip(lanes) {
        line(&format!("{way}: frames"), lane.frames)?;
        line(&format!("{way}: lost"), lane.lost)?;
        line(&format!("{way}: reordered"), lane.reordered)?;
        line(&format!("{way}: duplicated"), lane.duplicated)?;
        line(&format!("{way}: corrupted"), lane.corrupted)?;
    }
    if let Uplink::Port(port) = hub.uplink() {
        let counters = port.counters();
        line("sent to the other side", counters.sent)?;
        line("received from the other side", counters.received)?;
        line("lost because the other side was full", counters.overflowed)?;
        line("sent to nobody", counters.nobody)?;
        line("received and no frame", counters.malformed)?;
        line("ends of the other side", counters.disconnects)?;
    }
    Ok(())
}

fn write_function(function: &mut Function, out: &mut String) -> std::fmt::Result {
    let name = function.name.clone();
    let (refused, last) = function.nic.dma_faults();
    writeln!(out, "{name}: DMA violations {refused}")?;
    for fault in last {
        writeln!(out, "{name}:   {fault}")?;
    }
    let (unreachable, refused_maps) = function.odd_maps();
    let own = [
        ("function-level resets", function.resets()),
        ("maps without a file", unreachable),
        ("maps refused", refused_maps),
    ];
    for (what, count) in own.into_iter().chain(function.nic.counters().named()).filter(|(_, count)| *count != 0) {
        writeln!(out, "{name}: {what} {count}")?;
    }
    for (n, session) in function.nic.sessions().into_iter().enumerate() {
        let steps = [("first frame sent", session.first_sent), ("first frame received", session.first_received)];
        for (step, effort) in steps.into_iter().chain([("in all", Some(session.all))]) {
            match effort {
                Some(effort) => writeln!(out, "{name}: driver {}: {step}: {effort}", n + 1)?,
                None => writeln!(out, "{name}: driver {}: no {step}", n + 1)?,
            }
        }
    }
    let inventory = function.nic.inventory();
    writeln!(out, "{name}: {inventory}")
}
