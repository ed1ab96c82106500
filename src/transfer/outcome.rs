//! What came of a transfer.

use crate::session::{Completion, Recovery};
use crate::shard::Totals;
use std::time::Duration;

/// Everything that a transfer measured.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// It came to its end. If not, the first of `problems` says what stopped it.
    pub completed: bool,
    /// Payload of all reads that succeeded, bytes, and how many.
    pub bytes: u64,
    /// Reads that succeeded.
    pub reads: u64,
    /// Payload of all writes that succeeded, bytes.
    pub bytes_written: u64,
    /// Writes that succeeded.
    pub writes: u64,
    /// Writes that were begun anew because nobody could know what became of them.
    pub writes_repeated: u64,
    /// Requests that ended in an error.
    pub failed: u64,
    /// Bytes read that were compared.
    pub bytes_compared: u64,
    /// Those of them that were wrong.
    pub bytes_wrong: u64,
    /// Read payload that the device wrote where it belongs, bytes.
    pub bytes_placed: u64,
    /// Read payload that software moved, bytes.
    pub bytes_copied: u64,
    /// I/O queues with the offload.
    pub queues_offloaded: u64,
    /// Each I/O queue, from number 1 on.
    pub queues: Vec<Queue>,
    /// What was lost and not recovered.
    pub lost: Vec<String>,
    /// What was recovered from, in order.
    pub recovered: Vec<Recovered>,
    /// Times that the thread slept.
    pub sleeps: u64,
    /// Interrupts that were seen after a sleep.
    pub interrupts: u64,
    /// On the platform's clock: from the start until all queues were ready.
    pub connected: Duration,
    /// Time of the writes.
    pub writing: Duration,
    /// Time of the reads.
    pub reading: Duration,
    /// Time of all, teardown included.
    pub elapsed: Duration,
    /// Everything that the driver counted.
    pub totals: Totals,
    /// What went wrong, a line each; of more, the number.
    pub problems: Vec<String>,
    /// See `problems`.
    pub more_problems: u64,
}

/// What is known of an I/O queue in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// It has the offload.
    pub offloaded: bool,
    /// Why not: the reason's name, and details.
    pub why_not: Option<(&'static str, String)>,
}

impl Queue {
    pub(super) fn all(queues: u16) -> Vec<Queue> {
        vec![Queue::default(); queues.into()]
    }
}

/// A recovery.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// What had been lost.
    pub lost: Vec<String>,
    /// What was made anew, and how long it took.
    pub recovery: Recovery,
}

impl Outcome {
    pub(super) fn read(&mut self, completion: &Completion, len: u64) {
        self.reads += 1;
        self.bytes += len;
        self.bytes_placed += u64::from(completion.placed);
        self.bytes_copied += u64::from(completion.copied);
    }

    pub(super) fn count(&mut self, totals: &Totals) {
        self.totals = *totals;
    }

    /// It came to its end, nothing failed, and no byte that was compared is wrong.
    pub fn is_clean(&self) -> bool {
        self.completed && self.problems.is_empty() && self.failed == 0 && self.bytes_wrong == 0
    }
}
