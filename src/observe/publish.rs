//! Numbers from the threads that own them to a thread that shows them.
//!
//! ```text
//!   Collector::collect ── wanted += 1 ──► Publisher::poll, between two polls of the shard: nothing wanted? one load, done
//!        ▲                                     │ wanted: a copy of the numbers is made
//!        └── waits, with a deadline ◄── slot ◄─┘ put there if the lock is free, else at the next poll
//! ```
//!
//! The owner never waits, and makes a copy at most once for each time that somebody asks, which is limited. The asker waits
//! no longer than it said and takes the last copy that there is.

use super::snapshot::Snapshot;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// A copy younger than this is not made anew: however often somebody asks, the owners lose little time.
const FRESH: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct Slot {
    /// The number of the request that it answers.
    answers: u64,
    part: Option<Arc<Snapshot>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Requests so far.
    wanted: AtomicU64,
    /// The publisher is gone: nothing new comes.
    closed: AtomicBool,
    slot: Mutex<Slot>,
    arrived: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in a slot is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread's end.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    /// Requests that were answered.
    answered: u64,
    /// A copy that found the slot locked, and the request that it answers.
    waiting: Option<(u64, Snapshot)>,
}

impl Publisher {
    /// Makes a copy of the numbers and shows it, if somebody asked since the last time. To be called between two polls;
    /// never waits.
    #[inline]
    pub fn poll(&mut self, make: impl FnOnce() -> Snapshot) {
        // Relaxed: it is a hint, and the slot's lock orders what is put there.
        let wanted = self.shared.wanted.load(Ordering::Relaxed);
        if wanted != self.answered {
            self.answer(wanted, make);
        }
    }

    #[cold]
    fn answer(&mut self, wanted: u64, make: impl FnOnce() -> Snapshot) {
        let (answers, part) = self.waiting.take().unwrap_or_else(|| (wanted, make()));
        let shared = Arc::clone(&self.shared);
        let mut slot = match shared.slot.try_lock() {
            Err(TryLockError::WouldBlock) => return self.waiting = Some((answers, part)),
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(slot)) => slot.into_inner(),
        };
        *slot = Slot { answers, part: Some(Arc::new(part)) };
        drop(slot);
        self.answered = answers;
        shared.arrived.notify_all();
    }

    /// Shows the last numbers that there will be, asked for or not. May wait for a reader, which holds the lock for the
    /// time of a copied pointer.
    pub fn finish(self, part: Snapshot) {
        let mut slot = lock(&self.shared.slot);
        *slot = Slot { answers: u64::MAX, part: Some(Arc::new(part)) };
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.arrived.notify_all();
    }
}

/// The end of whoever shows the numbers.
#[derive(Debug)]
pub struct Collector {
    parts: Vec<Arc<Shared>>,
    /// When copies were last asked for; one asks at a time.
    asked: Mutex<Option<Instant>>,
}

impl Collector {
    /// A collector and the ends of `publishers` threads.
    pub fn new(publishers: usize) -> (Collector, Vec<Publisher>) {
        let parts: Vec<Arc<Shared>> = (0..publishers).map(|_| Arc::default()).collect();
        let ends = parts.iter().map(|shared| Publisher { shared: Arc::clone(shared), answered: 0, waiting: None });
        let ends = ends.collect();
        (Collector { parts, asked: Mutex::new(None) }, ends)
    }

    /// Asks every thread for its numbers and puts them together. Waits at most `patience`; of a thread that does not
    /// answer, the last numbers that it has shown are taken.
    pub fn collect(&self, patience: Duration) -> Snapshot {
        let mut asked = lock(&self.asked);
        let now = Instant::now();
        if asked.is_none_or(|last| now.saturating_duration_since(last) >= FRESH) {
            *asked = Some(now);
            self.parts.iter().for_each(|shared| _ = shared.wanted.fetch_add(1, Ordering::Relaxed));
        }
        let until = now + patience;
        let mut snapshot = Snapshot::default();
        for shared in &self.parts {
            if let Some(part) = shared.await_part(until) {
                snapshot.merge(Snapshot::clone(&part));
            }
        }
        snapshot
    }
}

impl Shared {
    fn await_part(&self, until: Instant) -> Option<Arc<Snapshot>> {
        let wanted = self.wanted.load(Ordering::Relaxed);
        let mut slot = lock(&self.slot);
        while slot.answers < wanted && !self.closed.load(Ordering::Acquire) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            slot = self.arrived.wait_timeout(slot, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        slot.part.clone()
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | nothing is copied unless somebody asked, and once for each time | `copies_are_made_when_asked_for` |
    //! | an owner that finds the lock taken goes on, and shows its copy later | `an_owner_never_waits` |
    //! | an asker does not wait for an owner that is silent or gone, and gets what was last shown | `an_asker_does_not_hang` |
    //! | the parts of several threads become one tree, in order | `parts_become_a_tree` |
    use super::super::snapshot::{FunctionStats, ShardStats};
    use super::*;
    use std::thread;

    fn part(seconds: u64, shard: u32) -> Snapshot {
        let shards = vec![ShardStats { shard, ..ShardStats::default() }];
        Snapshot { at: Duration::from_secs(seconds), shards, ..Snapshot::default() }
    }

    fn ask(collector: &Collector) {
        collector.parts.iter().for_each(|shared| _ = shared.wanted.fetch_add(1, Ordering::Relaxed));
    }

    #[test]
    fn copies_are_made_when_asked_for() {
        let (collector, mut ends) = Collector::new(1);
        ends[0].poll(|| unreachable!("nobody asked"));
        ask(&collector);
        let mut copies = 0;
        for _ in 0..3 {
            ends[0].poll(|| {
                copies += 1;
                part(1, 0)
            });
        }
        assert_eq!(copies, 1);
        // Asking twice in a moment asks once.
        thread::scope(|scope| {
            let asker = scope.spawn(|| {
                let first = collector.collect(Duration::from_secs(20));
                (first, collector.collect(Duration::from_secs(20)))
            });
            while !asker.is_finished() {
                ends[0].poll(|| {
                    copies += 1;
                    part(2, 0)
                });
            }
            let (first, second) = asker.join().expect("no panic");
            assert_eq!((first.at, second.at), (Duration::from_secs(2), Duration::from_secs(2)));
        });
        // Two, if the machine stood still between the two calls.
        assert!((2..=3).contains(&copies), "{copies}");
    }

    #[test]
    fn an_owner_never_waits() {
        let (collector, mut ends) = Collector::new(1);
        ask(&collector);
        let held = lock(&collector.parts[0].slot);
        ends[0].poll(|| part(1, 0));
        ends[0].poll(|| unreachable!("the copy that waits is shown first"));
        assert!(held.part.is_none());
        drop(held);
        ends[0].poll(|| unreachable!("as above"));
        assert_eq!(lock(&collector.parts[0].slot).part.as_deref(), Some(&part(1, 0)));
    }

    #[test]
    fn an_asker_does_not_hang() {
        let (collector, mut ends) = Collector::new(2);
        let silent = collector.collect(Duration::from_millis(1));
        assert!(silent.shards.is_empty());
        ends[0].poll(|| part(3, 0));
        assert_eq!(collector.collect(Duration::ZERO).shards.len(), 1, "the other one is silent");
        ends.pop().expect("two").finish(part(9, 1));
        drop(ends);
        let last = collector.collect(Duration::from_secs(3600));
        assert_eq!((last.at, last.shards.len()), (Duration::from_secs(9), 2));
    }

    #[test]
    fn parts_become_a_tree() {
        let (collector, mut ends) = Collector::new(3);
        let function = FunctionStats { address: "0000:01:00.0".into(), ..FunctionStats::default() };
        ends.pop().expect("three").finish(Snapshot { function, ..part(1, 0) });
        ends.pop().expect("two").finish(part(2, 2));
        ends.pop().expect("one").finish(part(3, 1));
        let tree = collector.collect(Duration::ZERO);
        assert_eq!(tree.shards.iter().map(|shard| shard.shard).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((tree.function.address.as_str(), tree.at), ("0000:01:00.0", Duration::from_secs(3)));
    }
}
