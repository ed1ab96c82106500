//! Deadlines of many connections: the next one in no time, a change in O(log n), nothing allocated once every key was seen.
//!
//! A binary heap that knows where each key is, so a key has one deadline, exactly the one that was set last. A heap with
//! stale entries would be simpler, but a connection's deadline moves with every acknowledgment.

use std::time::Duration;

/// No place in the heap.
const NONE: u32 = u32::MAX;

/// At most one deadline for each key. Keys are small numbers: memory grows with the largest.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// No entry is due before its parent, which is at `(n - 1) / 2`.
    heap: Vec<(Duration, u32)>,
    /// Where each key is in `heap`.
    places: Vec<u32>,
}

impl Timers {
    /// Sets the deadline of a key, or takes it away.
    pub fn set(&mut self, key: u32, deadline: Option<Duration>) {
        let slot = key as usize;
        if slot >= self.places.len() {
            if deadline.is_none() {
                return;
            }
            self.places.resize(slot + 1, NONE);
        }
        match (self.places[slot], deadline) {
            (NONE, None) => {}
            (NONE, Some(at)) => {
                self.heap.push((at, key));
                self.rise(self.heap.len() - 1);
            }
            (place, None) => self.remove(place as usize),
            (place, Some(at)) => {
                let place = place as usize;
                let before = std::mem::replace(&mut self.heap[place].0, at);
                match at < before {
                    true => self.rise(place),
                    false => self.sink(place),
                }
            }
        }
    }

    /// The first deadline.
    pub fn next(&self) -> Option<Duration> {
        self.heap.first().map(|(at, _)| *at)
    }

    /// Takes a key whose deadline has come.
    pub fn pop_due(&mut self, now: Duration) -> Option<u32> {
        let &(at, key) = self.heap.first()?;
        if at > now {
            return None;
        }
        self.remove(0);
        Some(key)
    }

    fn remove(&mut self, place: usize) {
        let (_, key) = self.heap.swap_remove(place);
        self.places[key as usize] = NONE;
        if place < self.heap.len() {
            // What came from the end may belong further up or further down.
            let moved = self.heap[place].1;
            self.sink(place);
            self.rise(self.places[moved as usize] as usize);
        }
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent].0 <= self.heap[place].0 {
                break;
            }
            self.heap.swap(parent, place);
            self.note(place);
            place = parent;
        }
        self.note(place);
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            let mut first = place;
            for child in [left, right] {
                if child < self.heap.len() && self.heap[child].0 < self.heap[first].0 {
                    first = child;
                }
            }
            if first == place {
                break;
            }
            self.heap.swap(first, place);
            self.note(place);
            place = first;
        }
        self.note(place);
    }

    fn note(&mut self, place: usize) {
        self.places[self.heap[place].1 as usize] = place as u32;
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | keys come due in the order of their deadlines, each with the one set last, whatever was set and taken away | `timers_are_a_sorted_map` |
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn timers_are_a_sorted_map(steps in prop::collection::vec((0u32..12, prop::option::of(0u64..50), 0u64..50), 1..200)) {
            let (mut timers, mut model) = (Timers::default(), BTreeMap::new());
            for (key, at, now) in steps {
                let (at, now) = (at.map(Duration::from_nanos), Duration::from_nanos(now));
                timers.set(key, at);
                match at {
                    Some(at) => model.insert(key, at),
                    None => model.remove(&key),
                };
                prop_assert_eq!(timers.next(), model.values().min().copied());
                if now.as_nanos() % 3 == 0 {
                    let mut last = Duration::ZERO;
                    while let Some(key) = timers.pop_due(now) {
                        let at = model.remove(&key);
                        prop_assert!(at.is_some_and(|at| at <= now && at >= last), "{:?}", at);
                        last = at.unwrap_or_default();
                    }
                    prop_assert!(model.values().all(|at| *at > now));
                    prop_assert_eq!(timers.heap.len(), model.len());
                }
            }
        }
    }
}
