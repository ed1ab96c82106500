//! What seeds add up to, and what they reached.

use super::choices;
use super::plan::Plan;
use serde::Serialize;
use std::collections::BTreeMap;

/// What one seed did.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// Every number by its name; the names are those of [`Sums::NAMES`].
    values: BTreeMap<&'static str, u64>,
}

macro_rules! sums {
    ($($name:ident = $text:literal),+ $(,)?) => {
        /// Names of what is summed up.
        pub(super) mod sum {
            $(pub const $name: &str = $text;)+
        }
        impl Sums {
            /// All names, in the order in which they are shown.
            pub const NAMES: &'static [&'static str] = &[$($text),+];
        }
    };
}

sums! {
    READS = "reads", WRITES = "writes", FAILED = "failed", BYTES = "bytes", PLACED = "placed", COPIED = "copied",
    WRITTEN = "bytes_written", WRONG = "bytes_wrong",
    DIGESTS_HW = "digests_hardware", DIGESTS_SW = "digests_software",
    QUEUES = "queues", OFFLOADED = "queues_offloaded", PACKETS = "packets_received", PLACED_PACKETS = "packets_placed",
    RESYNCS = "resyncs_asked", CONFIRMED = "resyncs_confirmed",
    LOST = "frames_lost", REORDERED = "frames_reordered", DUPLICATED = "frames_duplicated", CORRUPTED = "frames_corrupted",
    SENT_AGAIN = "segments_sent_again", HEARD_AGAIN = "segments_heard_again_or_late",
    TARGET_FAULTS = "target_faults", DEVICE_FAULTS = "device_faults", CANCELLED = "cancelled", RECOVERIES = "recoveries",
    DISCONNECTS = "connections_lost",
}

impl Sums {
    /// Adds to a number.
    pub(super) fn add(&mut self, name: &'static str, n: u64) {
        *self.values.entry(name).or_default() += n;
    }

    /// A number.
    pub fn get(&self, name: &str) -> u64 {
        self.values.get(name).copied().unwrap_or_default()
    }
}

/// One seed, run to its end.
#[derive(Clone, Debug)]
pub struct Run {
    /// What was drawn.
    pub plan: Plan,
    /// What was counted.
    pub sums: Sums,
    /// How often interesting paths were taken, in driver and device.
    pub paths: BTreeMap<String, u64>,
    /// What must not be, a line each; empty for a good run.
    pub problems: Vec<String>,
    /// A number that two runs of a seed share if they went the same way: every frame at the host's end, with its time.
    pub trace: u32,
}

/// How many seeds took a path, and how often in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// Seeds.
    pub seeds: u64,
    /// Times.
    pub times: u64,
}

/// A seed that went wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// Runs it alone.
    pub replay: String,
    /// What was wrong.
    pub problems: Vec<String>,
    /// Everything that it drew.
    pub drawn: String,
}

/// What many seeds did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Seeds.
    pub seeds: u64,
    /// Seeds with problems: all are counted.
    pub seeds_failed: u64,
    /// The first of them by number, at most [`Totals::FAILURES`].
    pub failures: Vec<Failure>,
    /// Sums over all seeds.
    pub sums: BTreeMap<&'static str, u64>,
    /// How many seeds drew which answer to which question.
    pub drawn: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    /// Paths that were taken.
    pub paths: BTreeMap<String, Reached>,
}

impl Totals {
    /// Failures that are kept.
    pub const FAILURES: usize = 10;

    /// Adds a seed.
    pub fn add(&mut self, run: &Run) {
        self.seeds += 1;
        for name in Sums::NAMES {
            *self.sums.entry(name).or_default() += run.sums.get(name);
        }
        for choice in choices::of_plan(&run.plan) {
            let answers = self.drawn.entry(choice.question).or_default();
            for (n, answer) in choice.answers.into_iter().enumerate() {
                *answers.entry(answer).or_default() += u64::from(n == choice.answer);
            }
        }
        for (name, times) in &run.paths {
            let reached = self.paths.entry(name.clone()).or_default();
            reached.seeds += u64::from(*times != 0);
            reached.times += times;
        }
        if run.problems.is_empty() {
            return;
        }
        self.seeds_failed += 1;
        let seed = run.plan.seed;
        let at = self.failures.partition_point(|failure| failure.seed < seed);
        let failure =
            Failure { seed, replay: replay(seed), problems: run.problems.clone(), drawn: format!("{:#?}", run.plan) };
        self.failures.insert(at, failure);
        self.failures.truncate(Totals::FAILURES);
    }

    /// A sum.
    pub fn sum(&self, name: &str) -> u64 {
        self.sums.get(name).copied().unwrap_or_default()
    }

    /// Answers that no seed drew: (question, answer).
    pub fn never_drawn(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        let rows = self.drawn.iter().flat_map(|(question, answers)| answers.iter().map(move |row| (*question, row)));
        rows.filter(|(_, (_, seeds))| **seeds == 0).map(|(question, (answer, _))| (question, *answer))
    }
}

/// The command that runs one seed alone.
pub fn replay(seed: u64) -> String {
    format!("cargo run --release -- simulate --seeds {seed}..{}", seed.saturating_add(1))
}
