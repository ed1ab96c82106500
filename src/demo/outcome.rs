//! What a demonstration found.

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
    /// Why queues or reads were not offloaded, and how often.
    pub not_offloaded: BTreeMap<String, u64>,
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
