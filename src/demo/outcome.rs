//! What a demonstration found.

use crate::ddp::stats::{Copied, Stats};
use crate::ddp::why::Why;
use crate::nvme::queue::Counters;
use crate::shard::NoOffload;
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything that a demonstration measured. Serialized, it is the object of `--json`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// Every byte read was compared and equal, no request failed, and nothing is left in the device.
    pub verified: bool,
    /// The demonstration came to its end. If not, the first of `problems` says what stopped it, and the rest of the numbers
    /// is what was counted until then.
    pub completed: bool,
    /// Payload bytes of all reads that succeeded.
    pub bytes: u64,
    /// Reads that succeeded.
    pub reads: u64,
    /// Payload bytes of all writes that succeeded.
    pub bytes_written: u64,
    /// Writes that succeeded.
    pub writes: u64,
    /// Requests that ended in an error.
    pub failed: u64,
    /// Bytes that differed from the image.
    pub bytes_wrong: u64,
    /// Read payload that the device wrote where it belongs.
    pub bytes_placed: u64,
    /// Read payload that software moved. With `bytes_placed` it adds up to `bytes`.
    pub bytes_copied: u64,
    /// Data digests that the device checked.
    pub digests_hw: u64,
    /// Data digests that software checked.
    pub digests_sw: u64,
    /// Packets received.
    pub packets_rx: u64,
    /// Packets of these of which the device placed a part.
    pub packets_placed: u64,
    /// Packets sent.
    pub packets_tx: u64,
    /// Frames that the wire lost, both directions.
    pub frames_lost: u64,
    /// Frames that others overtook.
    pub frames_reordered: u64,
    /// Frames that arrived twice.
    pub frames_duplicated: u64,
    /// Frames with a flipped bit.
    pub frames_corrupted: u64,
    /// PDUs received on all queues.
    pub pdus_rx: u64,
    /// PDUs sent on all queues.
    pub pdus_tx: u64,
    /// Doorbell registers written.
    pub doorbells: u64,
    /// Firmware commands executed.
    pub commands: u64,
    /// I/O queues with an offload context.
    pub queues_offloaded: u32,
    /// I/O queues.
    pub queues: u32,
    /// What software copied, and the digests that it computed, by reason ([`Why::name`]). The bytes add up to those of all
    /// reads, the failed ones too.
    pub copied: BTreeMap<&'static str, CopiedFor>,
    /// Each I/O queue.
    pub per_queue: Vec<QueueOutcome>,
    /// Firmware objects that the device still holds after teardown.
    pub objects_left: u64,
    /// Pages that firmware still holds after teardown.
    pub pages_left: u64,
    /// Memory keys that still point at a buffer after teardown.
    pub bindings_left: u64,
    /// Seconds, from before bring-up until after teardown.
    pub elapsed_s: f64,
    /// Seconds of the reads alone.
    pub read_s: f64,
    /// Largest resident memory of the process, bytes; 0 if the system does not tell.
    pub peak_rss_bytes: u64,
    /// The seed document's nine counters, by name (`nvme-tcp-offload.md` §9).
    pub counters: BTreeMap<&'static str, u64>,
    /// What went wrong, a line each.
    pub problems: Vec<String>,
}

/// What software did for one reason in the device's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CopiedFor {
    /// Reads of which something was copied for this reason.
    pub reads: u64,
    /// Bytes copied.
    pub bytes: u64,
    /// Data digests computed.
    pub digests: u64,
}

impl CopiedFor {
    /// All reasons for which software did something.
    pub fn table(stats: &Stats) -> BTreeMap<&'static str, CopiedFor> {
        let row =
            |(why, Copied { reads, bytes, digests }): (Why, Copied)| (why.name(), CopiedFor { reads, bytes, digests });
        stats.by_reason().map(row).collect()
    }
}

/// What became of one I/O queue.
#[derive(Clone, Debug, Serialize)]
pub struct QueueOutcome {
    /// Which, from 1 on.
    pub queue: u32,
    /// It has an offload context.
    pub offloaded: bool,
    /// Why not, if so ([`WhyNoOffload::name`](crate::ddp::why::WhyNoOffload::name)).
    pub reason: Option<&'static str>,
    /// The same in full: the missing capability, or firmware's status and syndrome.
    pub detail: Option<String>,
    /// What to do about it.
    pub advice: Option<&'static str>,
    /// Reads that were bound.
    pub bound: u64,
    /// Payload of completed reads that the device placed.
    pub bytes_placed: u64,
    /// Payload of completed reads that software copied.
    pub bytes_copied: u64,
    /// Data digests that the device checked.
    pub digests_hw: u64,
    /// Data digests that software checked.
    pub digests_sw: u64,
    /// Resync requests of the device.
    pub resyncs: u64,
    /// Of these, the ones that the stream confirmed.
    pub resyncs_confirmed: u64,
    /// As [`Outcome::copied`].
    pub copied: BTreeMap<&'static str, CopiedFor>,
}

impl QueueOutcome {
    /// Queue number `queue`, from what the shard knows of it.
    pub fn new(queue: u32, no: Option<&NoOffload>, counters: &Counters, stats: &Stats) -> QueueOutcome {
        QueueOutcome {
            queue,
            offloaded: no.is_none(),
            reason: no.map(|no| no.why.name()),
            detail: no.map(|no| no.detail.clone()),
            advice: no.map(|no| no.why.advice()),
            bound: stats.setup,
            bytes_placed: counters.bytes_placed,
            bytes_copied: counters.bytes_copied,
            digests_hw: counters.digests_hardware,
            digests_sw: counters.digests_software,
            resyncs: stats.resync,
            resyncs_confirmed: stats.resync_confirmed,
            copied: CopiedFor::table(stats),
        }
    }
}

impl Outcome {
    /// True if nothing went wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
            && self.failed == 0
            && self.bytes_wrong == 0
            && self.objects_left == 0
            && self.pages_left == 0
            && self.bindings_left == 0
    }
}

/// Largest resident memory of this process so far, bytes.
pub fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}
