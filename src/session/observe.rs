//! A session as it looks from outside: what it counts, what it notes, and the numbers of everything below it. Shards and
//! functions come and go under a session; their numbers, their events and the numbers of their connections go on.

use super::{Function, Level, Phase, Session};
use crate::observe::counter::{Reason, counters, gauges};
use crate::observe::{EventRing, FunctionStats, SessionStats, ShardStats, Snapshot, What};
use crate::platform::Platform;
use crate::shard::Shard;

/// Number of a session's only shard.
const SHARD: u32 = 0;

impl Reason for Level {
    const LABEL: &'static str = "level";

    fn all() -> &'static [Level] {
        &Level::ALL
    }
    fn index(self) -> usize {
        self as usize
    }
    fn name(self) -> &'static str {
        Level::name(self)
    }
}

counters! {
    /// What a session has counted.
    pub struct Counters {
        /// Times that something was lost.
        pub losses: Times,
        /// Attempts to recover, the first connecting included.
        pub attempts: Times,
        /// Recoveries, by the most that had to be made anew.
        pub recovered: Times by Level,
        /// Requests that were submitted again.
        pub resubmitted: Requests,
        /// Writes that ended without an answer, so that nobody knows whether they were executed.
        pub uncertain_writes: Requests,
        /// Requests that were not answered before the session ended.
        pub given_up: Requests,
        /// Requests that were not submitted because their namespace is not what it was when it was identified first.
        pub namespace_changed: Requests,
        /// Buffers that waited for a reset of the function, because the device could still write them.
        pub quarantined: Buffers,
    }
}

gauges! {
    /// What a session has at the moment.
    pub struct Gauges {
        /// 1 if all I/O queues take requests.
        pub live: Times,
        /// Requests that are open.
        pub requests: Requests,
        /// I/O queues that are offloaded.
        pub offloaded: Queues,
        /// The longest recovery so far.
        pub longest_recovery_ns: Nanoseconds,
    }
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Phase::Waiting(_) => "waiting",
            Phase::Admin => "connecting the admin queue",
            Phase::Queues => "connecting the I/O queues",
            Phase::Live(_) => "live",
            Phase::Draining(_) => "draining",
            Phase::Closing { .. } => "closing",
            Phase::Down => "down",
            Phase::Ending(_) | Phase::Ended => "ended",
        }
    }
}

impl<P: Platform> Session<P> {
    /// Takes a new shard to work. Its events and connections are counted on from where those of the last one ended.
    pub(super) fn put_to_work(&mut self, mut shard: Shard<P>) {
        if let Some(before) = self.log.take() {
            shard.continue_log(before, self.opened);
        }
        self.function = Function::Up(Box::new(shard));
    }

    /// Notes an event: with the shard if there is one, else until there is.
    pub(super) fn note(&mut self, what: What) {
        let now = self.platform.now();
        match &mut self.function {
            Function::Up(shard) => shard.note(now, None, what),
            Function::Down | Function::Sick(..) => {
                let capacity = self.config.shard.events;
                self.log.get_or_insert_with(|| EventRing::new(capacity)).note(now, None, what);
            }
        }
    }

    /// The last things that happened; empty before anything has.
    pub fn event_log(&self) -> &EventRing {
        const NONE: &EventRing = &EventRing::NONE;
        match &self.function {
            Function::Up(shard) => shard.event_log(),
            Function::Down | Function::Sick(..) => self.log.as_ref().unwrap_or(NONE),
        }
    }

    /// All numbers: the session's, its shard's and the function's, those of shards and functions that are gone included.
    pub fn snapshot(&self) -> Snapshot {
        let mut function = match &self.function {
            Function::Up(shard) => shard.function_stats().unwrap_or_default(),
            Function::Sick(adapter, _) => adapter.stats(),
            Function::Down => FunctionStats {
                address: self.platform.identity().address.clone(),
                firmware: "down".into(),
                ..FunctionStats::default()
            },
        };
        function.totals += &self.past_function;
        let none = || ShardStats { shard: SHARD, ..ShardStats::default() };
        let mut shard = self.shard().map_or_else(none, |shard| shard.stats(SHARD));
        shard.totals += &self.past;
        shard.events = self.event_log().counters();
        let session = SessionStats {
            session: 0,
            phase: self.phase.name(),
            gauges: Gauges {
                live: self.is_live().into(),
                requests: self.requests.open() as u64,
                offloaded: self.offloaded() as u64,
                longest_recovery_ns: self.longest.as_nanos() as u64,
            },
            counters: self.counters,
        };
        Snapshot { at: self.platform.now(), function, sessions: vec![session], shards: vec![shard] }
    }
}
