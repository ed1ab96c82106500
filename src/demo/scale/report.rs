//! What came of it, in numbers.

use super::worker::Outcome;
use super::{Config, Hosted, Progress, Sample, shard_config};
use crate::platform::virtual_nic::VirtualPlatform;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use virtual_nic::Misuse;

/// Connections from which on memory is measured: what the first ones take is also what shards and tables begin with.
const FIRST: u32 = 100;

/// Firmware commands of the set-up: every connection opened and offloaded.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CommandUse {
    /// Commands executed.
    pub total: u64,
    /// For each connection.
    pub per_connection: f64,
    /// Command slots that were busy on average: the time of all commands by the time that the set-up took.
    pub in_flight: f64,
    /// Most in flight; 31 slots are for all commands but one.
    pub most_in_flight: usize,
    /// Time of as many commands one by one, microseconds.
    pub serial_us: u64,
}

/// Memory of one connection in the driver, bytes, destination buffers left out: the slope from 100 connections to all.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MemoryUse {
    /// On the heap; `None` if the program does not count.
    pub heap: Option<f64>,
    /// On the heap after the reads, which have used as many tags at a time as there was room for.
    pub heap_used: Option<f64>,
    /// DMA memory of its own: control ring with completions and doorbell records.
    pub dma: f64,
    /// Its share of the receive buffers that all connections of a shard have together.
    pub receive_buffers: f64,
    /// All of these.
    pub total: Option<f64>,
    /// Resident memory of the process, model and targets included.
    pub resident: f64,
}

/// What the shards had under way when the function failed, and what became of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Recovery {
    /// What was injected.
    pub fault: &'static str,
    /// Reads that had ended well, every byte of them compared.
    pub reads: u64,
    /// Reads that ended in an error.
    pub failed: u64,
    /// Buffers of these that the device could write until the function was reset, and that came back then.
    pub quarantined: u64,
    /// Simulated time from when the last shard was gone until every shard was there again, without connections, microseconds.
    pub recovered_us: u64,
}

/// The report. Serialized, it is the object of `--json`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Every byte was right, nothing went wrong and nothing is left.
    pub verified: bool,
    /// Connections with an offload context at the same time.
    pub connections: u32,
    /// Tags of each.
    pub depth: u32,
    /// Shards.
    pub shards: u32,
    /// Simulated time from the first connection until the last was offloaded, microseconds.
    pub set_up_us: u64,
    /// Simulated time of the reads, microseconds.
    pub read_us: u64,
    /// Simulated time until every connection was closed, microseconds.
    pub close_us: u64,
    /// Commands of the set-up.
    pub commands: CommandUse,
    /// Commands from bring-up to teardown.
    pub commands_in_all: u64,
    /// Memory of one connection.
    pub memory: MemoryUse,
    /// Objects that the device had when all was set up, by kind.
    pub objects: BTreeMap<String, usize>,
    /// Reads.
    pub reads: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Bytes of these that the device placed.
    pub bytes_placed: u64,
    /// Bytes that differed from the image.
    pub bytes_wrong: u64,
    /// Reads that were not placed because the control ring had no room.
    pub busy: u64,
    /// The recovery, if a fault was injected: all other numbers are of what came after it.
    pub recovery: Option<Recovery>,
    /// Objects and pages that the device holds at the end.
    pub objects_left: u64,
    /// Pages that firmware holds at the end.
    pub pages_left: u64,
    /// Seconds of real time.
    pub elapsed_s: f64,
    /// What went wrong, a line each.
    pub problems: Vec<String>,
}

impl Report {
    pub(super) fn new(config: &Config, progress: &Progress, hosted: &Hosted) -> Report {
        let (before, after) = (hosted.before, hosted.set_up);
        let total = after.posted - before.posted;
        let connections = f64::from(config.connections);
        let commands = CommandUse {
            total,
            per_connection: total as f64 / connections,
            in_flight: 0.0,
            most_in_flight: hosted.most_in_flight,
            serial_us: total * config.command_time.as_micros() as u64,
        };
        let samples = progress.samples.lock().map(|samples| samples.clone()).unwrap_or_default();
        Report {
            depth: config.depth,
            shards: config.shards,
            commands,
            memory: memory(config, &samples, &progress.used.lock().map(|used| used.clone()).unwrap_or_default()),
            objects: hosted.objects.iter().map(|(kind, count)| (kind.to_string(), *count)).collect(),
            ..Report::default()
        }
    }

    pub(super) fn problem(&mut self, what: impl Into<String>) {
        if self.problems.len() < 20 {
            self.problems.push(what.into());
        }
    }

    /// Adds what a shard did.
    pub(super) fn add(&mut self, shard: &Outcome) {
        self.connections += shard.connections;
        self.reads += shard.reads;
        self.bytes += shard.bytes;
        self.bytes_placed += shard.placed;
        self.bytes_wrong += shard.wrong;
        self.busy += shard.busy;
        shard.problems.iter().for_each(|problem| self.problem(problem.clone()));
        let longest = |so_far: &mut u64, time: Duration| *so_far = (*so_far).max(time.as_micros() as u64);
        longest(&mut self.set_up_us, shard.set_up);
        self.commands.in_flight = self.commands.serial_us as f64 / self.set_up_us.max(1) as f64;
        longest(&mut self.read_us, shard.reading);
        longest(&mut self.close_us, shard.closing);
    }

    /// Asks the device what it still holds, and what was done to it that should not have been, `before` left out.
    pub(super) fn device(&mut self, platform: &VirtualPlatform, before: &Misuse) {
        let nic = platform.nic();
        let inventory = nic.inventory();
        self.commands_in_all = nic.counters().commands;
        self.objects_left = inventory.held.total() + inventory.abandoned.total();
        self.pages_left = inventory.pages;
        if !inventory.is_empty() {
            self.problem(format!("the device still holds {inventory}"));
        }
        let misuse = &nic.counters().misuse;
        if misuse != before {
            self.problem(format!("the device was used wrongly: {misuse:?}"));
        }
        self.verified = self.problems.is_empty() && self.bytes_wrong == 0;
    }
}

fn memory(config: &Config, samples: &[Sample], used: &[Sample]) -> MemoryUse {
    let few = samples.iter().filter(|sample| sample.connections >= FIRST).min_by_key(|sample| sample.connections);
    let none = samples.iter().min_by_key(|sample| sample.connections);
    let Some((first, last)) = few.or(none).zip(samples.iter().max_by_key(|sample| sample.connections)) else {
        return MemoryUse::default();
    };
    // Too few for a slope from there: from the beginning.
    let first = if last.connections > 2 * first.connections { first } else { none.unwrap_or(first) };
    let n = f64::from(last.connections.saturating_sub(first.connections).max(1));
    let heap = first.heap.zip(last.heap).map(|(first, last)| (last - first) as f64 / n);
    let dma = (last.dma as f64 - first.dma as f64) / n;
    let shard = shard_config(config, 0);
    let frame = f64::from(1518u32.next_multiple_of(64));
    let receive_buffers = f64::from(shard.rx_payloads_per_connection) * frame;
    // The last shard to finish has seen what all of them took.
    let more = used.last().and_then(|used| Some((used.heap? - last.heap?) as f64 / f64::from(used.connections.max(1))));
    MemoryUse {
        heap,
        heap_used: heap.zip(more).map(|(heap, more)| heap + more),
        dma,
        receive_buffers,
        total: heap.map(|heap| heap + dma + receive_buffers),
        resident: (last.resident as f64 - first.resident as f64) / n,
    }
}

/// Resident memory of this process now, bytes; 0 if the system does not tell.
pub(super) fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}
