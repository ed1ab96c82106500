//! Bindings that were asked for and have no effect yet ([`Behaviour::umr_packets`](super::Behaviour::umr_packets),
//! [`Behaviour::umr_time`](super::Behaviour::umr_time)).
//!
//! A UMR changes its key at once; what settles is the offload's view of it. Until then the tag is as good as free. A UMR
//! that frees a key has effect at once: its completion promises that the buffer is no longer used.

use std::collections::BTreeMap;
use std::time::Duration;

/// Keys whose binding has no effect yet. Bounded by the keys that exist.
#[derive(Debug, Default)]
pub(super) struct Settling {
    packets: u64,
    now: Duration,
    due: BTreeMap<u32, (u64, Duration)>,
}

impl Settling {
    /// A packet of an offloaded connection came.
    pub(super) fn packet(&mut self) {
        self.packets += 1;
    }

    pub(super) fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// A key was bound; it has effect when both have passed.
    pub(super) fn bound(&mut self, key: u32, packets: u32, time: Duration) {
        self.due.insert(key, (self.packets + u64::from(packets), self.now + time));
    }

    pub(super) fn freed(&mut self, key: u32) {
        self.due.remove(&key);
    }

    /// True while a binding has no effect. The packet that is being looked at was counted: with a delay of one, the first
    /// packet after the UMR does not see it.
    pub(super) fn holds(&mut self, key: u32) -> bool {
        let Some((packets, time)) = self.due.get(&key) else { return false };
        let holds = self.packets <= *packets || self.now < *time;
        if !holds {
            self.due.remove(&key);
        }
        holds
    }
}
