//! What a demonstration found.

use crate::ddp::policy::Report;
use crate::ddp::stats::{Copied, Stats};
use crate::ddp::why::Why;
use crate::nvme::queue::{Counters, DigestBy};
use crate::session::Completion;
use crate::shard::NoOffload;
use crate::transfer;
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
    /// The offload threshold in the end.
    pub threshold: ThresholdOutcome,
    /// What software copied, and the digests that it computed, by reason ([`Why::name`]). The bytes add up to those of all
    /// reads, the failed ones too.
    pub copied: BTreeMap<&'static str, CopiedFor>,
    /// Each I/O queue.
    pub per_queue: Vec<QueueOutcome>,
    /// Faults that were injected, in order.
    pub injected: Vec<&'static str>,
    /// What was recovered from, in order.
    pub recovered: Vec<Recovered>,
    /// Requests that were submitted again after a loss.
    pub resubmitted: u64,
    /// Writes that were begun anew because nobody could know what became of them.
    pub writes_repeated: u64,
    /// Buffers that waited for a reset of the function, because the device could still write them.
    pub buffers_quarantined: u64,
    /// The read that was asked about ([`Config::ask`](super::Config::ask)), if it is done.
    pub read: Option<ReadOutcome>,
    /// What the virtual device says of its offload, which a real one would not.
    #[serde(skip)]
    pub device: virtual_nic::offload::OffloadCounters,
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

/// A recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recovered {
    /// What was lost first.
    pub lost: String,
    /// The most that was made anew: connections, queues, or the function.
    pub level: String,
    /// Simulated time from the loss until all queues were ready, microseconds.
    pub took_us: u64,
    /// Attempts.
    pub attempts: u32,
}

impl Recovered {
    fn new(recovered: &transfer::Recovered) -> Recovered {
        let recovery = &recovered.recovery;
        Recovered {
            lost: recovered.lost.first().cloned().unwrap_or_default(),
            level: recovery.level.to_string(),
            took_us: recovery.took.as_micros() as u64,
            attempts: recovery.attempts,
        }
    }
}

/// The offload threshold, and why it is what it is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ThresholdOutcome {
    /// Reads of fewer bytes are copied.
    pub bytes: u32,
    /// It follows costs; else it is fixed and the rest means nothing.
    pub auto: bool,
    /// Why it is what it is.
    pub why: String,
    /// Nanoseconds that binding and unbinding a read take, if known.
    pub bind_ns: Option<f64>,
    /// Nanoseconds that copying 1024 bytes takes, if known.
    pub copy_ns_per_kib: Option<f64>,
    /// Times that it was moved.
    pub moves: u64,
    /// Reads that were bound or copied against it, to learn what that costs.
    pub probes: u64,
}

impl From<Report> for ThresholdOutcome {
    fn from(report: Report) -> ThresholdOutcome {
        let measured = report.measured.unwrap_or_default();
        ThresholdOutcome {
            bytes: report.bytes,
            auto: report.measured.is_some(),
            why: report.to_string(),
            bind_ns: measured.bind_ns,
            copy_ns_per_kib: measured.copy_ns.map(|ns| ns * 1024.0),
            moves: measured.moves,
            probes: measured.bind_probes + measured.copy_probes,
        }
    }
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
#[derive(Clone, Debug, Default, Serialize)]
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
    /// Reads that succeeded, all of whose payload the device placed.
    pub reads_placed: u64,
    /// Reads that succeeded, of which it placed a part.
    pub reads_in_part: u64,
    /// Reads that succeeded, of which it placed nothing.
    pub reads_copied: u64,
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
    /// Counts a read that succeeded.
    pub(super) fn count_read(&mut self, completion: &Completion) {
        *match (completion.placed, completion.copied) {
            (_, 0) => &mut self.reads_placed,
            (0, _) => &mut self.reads_copied,
            _ => &mut self.reads_in_part,
        } += 1;
    }

    /// Takes over what the shard knows of the queue.
    pub(super) fn count(&mut self, no: Option<&NoOffload>, counters: &Counters, stats: &Stats) {
        self.offloaded = no.is_none();
        self.reason = no.map(|no| no.why.name());
        self.detail = no.map(|no| no.detail.clone());
        self.advice = no.map(|no| no.why.advice());
        self.bound = stats.setup;
        (self.bytes_placed, self.bytes_copied) = (counters.bytes_placed, counters.bytes_copied);
        (self.digests_hw, self.digests_sw) = (counters.digests_hardware, counters.digests_software);
        (self.resyncs, self.resyncs_confirmed) = (stats.resync, stats.resync_confirmed);
        self.copied = CopiedFor::table(stats);
    }
}

/// What became of one read.
#[derive(Clone, Debug, Serialize)]
pub struct ReadOutcome {
    /// Which, from 0 on in the order of the namespace.
    pub read: u64,
    /// Its first byte in the namespace.
    pub offset: u64,
    /// The I/O queue that it went over, from 1 on.
    pub queue: u32,
    /// How it went.
    pub status: String,
    /// Bytes that the device placed.
    pub placed: u32,
    /// Bytes that software copied.
    pub copied: u32,
    /// Why.
    pub reasons: Vec<ReadReason>,
    /// Who checked its data digests: `none`, `hardware` or `software`.
    pub digests_by: &'static str,
}

/// Why a part of a read was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ReadReason {
    /// [`Why::name`].
    pub reason: &'static str,
    /// Bytes; a read remembers those of [`REMEMBERED`](crate::ddp::why::REMEMBERED) reasons, and of others only that they
    /// were.
    pub bytes: Option<u32>,
}

impl ReadOutcome {
    pub(super) fn new(read: u64, offset: u64, completion: &Completion) -> ReadOutcome {
        let why = &completion.why_copied;
        let bytes = |reason| why.iter().find(|(known, _)| *known == reason).map(|(_, bytes)| bytes);
        ReadOutcome {
            read,
            offset,
            queue: completion.queue.into(),
            status: completion.result.as_ref().map_or_else(ToString::to_string, |()| "Successful Completion".into()),
            placed: completion.placed,
            copied: completion.copied,
            reasons: why.all().map(|reason| ReadReason { reason: reason.name(), bytes: bytes(reason) }).collect(),
            digests_by: match completion.digest_by {
                DigestBy::None => "none",
                DigestBy::Hardware => "hardware",
                DigestBy::Software => "software",
            },
        }
    }
}

impl Outcome {
    /// Nothing has happened, on as many I/O queues.
    pub(super) fn new(queues: u32) -> Outcome {
        let per_queue = (1..=queues).map(|queue| QueueOutcome { queue, ..QueueOutcome::default() }).collect();
        Outcome { queues, per_queue, ..Outcome::default() }
    }

    /// Takes over what the transfer counted.
    pub(super) fn take(&mut self, done: &transfer::Outcome) {
        self.completed = done.completed;
        (self.bytes, self.reads) = (done.bytes, done.reads);
        (self.bytes_written, self.writes) = (done.bytes_written, done.writes);
        (self.writes_repeated, self.failed, self.bytes_wrong) = (done.writes_repeated, done.failed, done.bytes_wrong);
        (self.bytes_placed, self.bytes_copied) = (done.bytes_placed, done.bytes_copied);
        self.queues_offloaded = done.queues_offloaded as u32;
        self.counters = done.totals.offload.seed().into_iter().collect();
        self.copied = CopiedFor::table(&done.totals.offload);
        (self.packets_rx, self.packets_tx) = (done.totals.shard.packets_rx, done.totals.shard.packets_tx);
        self.recovered = done.recovered.iter().map(Recovered::new).collect();
    }

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
