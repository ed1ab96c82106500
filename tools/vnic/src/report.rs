//! What was counted, on SIGUSR1 and at the end: for people, and for programs (`docs/json.md`).

use crate::function::Function;
use crate::hub::{Hub, Uplink};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use virtual_nic::{Effort, Session};

/// Of the shape of [`json`](Report::json).
const VERSION: u32 = 1;

/// Numbers by name.
type Numbers = Vec<(String, u64)>;

/// Everything that was counted.
pub struct Report {
    functions: Vec<Counted>,
    wire: Numbers,
}

/// Of one function.
struct Counted {
    name: String,
    dma_violations: u64,
    /// The last of them.
    dma_faults: Vec<String>,
    numbers: Numbers,
    sessions: Vec<Session>,
    held: String,
    objects: Numbers,
}

impl Report {
    /// What is counted until now.
    pub fn of(hub: &mut Hub) -> Report {
        let functions = hub.functions().map(Counted::of).collect();
        let (local, lanes) = hub.wire_counters();
        let mut wire = vec![("frames between functions".to_owned(), local)];
        for (way, lane) in ["out", "in"].into_iter().zip(lanes) {
            let numbers = [
                ("frames", lane.frames),
                ("lost", lane.lost),
                ("reordered", lane.reordered),
                ("duplicated", lane.duplicated),
                ("corrupted", lane.corrupted),
            ];
            wire.extend(numbers.map(|(name, count)| (format!("{way}: {name}"), count)));
        }
        if let Uplink::Port(port) = hub.uplink() {
            let counters = port.counters();
            let numbers = [
                ("sent to the other side", counters.sent),
                ("received from the other side", counters.received),
                ("lost because the other side was full", counters.overflowed),
                ("sent to nobody", counters.nobody),
                ("received and no frame", counters.malformed),
                ("ends of the other side", counters.disconnects),
            ];
            wire.extend(numbers.map(|(name, count)| (name.to_owned(), count)));
        }
        Report { functions, wire }
    }

    /// Everything that is not zero, a line each.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        for function in &self.functions {
            function.write(out)?;
        }
        for (name, count) in self.wire.iter().filter(|(_, count)| *count != 0) {
            writeln!(out, "wire: {name} {count}")?;
        }
        Ok(())
    }

    /// Everything, zeros too.
    pub fn json(&self) -> Value {
        json!({
            "version": VERSION,
            "command": "serve",
            "functions": self.functions.iter().map(Counted::json).collect::<Vec<_>>(),
            "wire": object(&self.wire),
        })
    }
}

/// Accesses of all functions to memory that their clients had not lent them.
pub fn dma_violations(hub: &mut Hub) -> u64 {
    hub.functions().map(|function| function.nic.dma_faults().0).sum()
}

fn object(numbers: &Numbers) -> Map<String, Value> {
    numbers.iter().map(|(name, count)| (name.clone(), (*count).into())).collect()
}

fn effort(effort: Effort) -> Value {
    json!({
        "commands": effort.commands,
        "register_reads": effort.reads,
        "health_reads": effort.health_reads,
        "register_writes": effort.writes,
        "command_doorbells": effort.command_doorbells,
        "eq_doorbells": effort.eq_doorbells,
        "cq_doorbells": effort.cq_doorbells,
        "sq_doorbells": effort.sq_doorbells,
    })
}

impl Counted {
    fn of(function: &mut Function) -> Counted {
        let (dma_violations, faults) = function.nic.dma_faults();
        let dma_faults = faults.into_iter().map(|fault| fault.to_string()).collect();
        let (unreachable, refused_maps) = function.odd_maps();
        let own = [
            ("function-level resets", function.resets()),
            ("maps without a file", unreachable),
            ("maps refused", refused_maps),
            ("DMA not begun, as bus mastering was off", function.nic.dma_blocked()),
        ];
        let numbers = own.into_iter().map(|(name, count)| (name.to_owned(), count));
        let numbers =
            numbers.chain(function.nic.counters().named().into_iter().map(|(name, count)| (name.into(), count)));
        let inventory = function.nic.inventory();
        let mut objects: Numbers = inventory
            .held
            .by_kind()
            .filter(|(count, _)| *count != 0)
            .map(|(count, kind)| (kind.to_owned(), count))
            .collect();
        objects.push(("firmware page(s)".into(), inventory.pages));
        Counted {
            name: function.name.clone(),
            dma_violations,
            dma_faults,
            numbers: numbers.collect(),
            sessions: function.nic.sessions().into_iter().collect(),
            held: inventory.to_string(),
            objects,
        }
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let name = &self.name;
        writeln!(out, "{name}: DMA violations {}", self.dma_violations)?;
        for fault in &self.dma_faults {
            writeln!(out, "{name}:   {fault}")?;
        }
        for (what, count) in self.numbers.iter().filter(|(_, count)| *count != 0) {
            writeln!(out, "{name}: {what} {count}")?;
        }
        for (session, n) in self.sessions.iter().zip(1..) {
            let steps = [("first frame sent", session.first_sent), ("first frame received", session.first_received)];
            for (step, effort) in steps.into_iter().chain([("in all", Some(session.all))]) {
                match effort {
                    Some(effort) => writeln!(out, "{name}: driver {n}: {step}: {effort}")?,
                    None => writeln!(out, "{name}: driver {n}: no {step}")?,
                }
            }
        }
        writeln!(out, "{name}: {}", self.held)
    }

    fn json(&self) -> Value {
        let driver = |session: &Session| {
            json!({
                "first_sent": session.first_sent.map(effort),
                "first_received": session.first_received.map(effort),
                "all": effort(session.all),
            })
        };
        json!({
            "function": self.name,
            "dma_violations": self.dma_violations,
            "dma_faults": self.dma_faults,
            "counters": object(&self.numbers),
            "drivers": self.sessions.iter().map(driver).collect::<Vec<_>>(),
            "held": object(&self.objects),
        })
    }
}
