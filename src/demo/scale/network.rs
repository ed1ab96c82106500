//! The world of the threads: a wire, and targets at its other end, on a thread of their own.

use super::Progress;
use crate::platform::virtual_nic::{Clock, VirtualPlatform};
use nvme_target::Target;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Frames that reach the host between two moments in which every shard looks: not more than a receive queue holds.
const BURST: usize = 512;

/// A target, and when it has something to do.
struct End {
    mac: [u8; 6],
    target: Target,
    deadline: Option<Duration>,
    /// A frame came in.
    touched: bool,
}

/// The wire with everything behind it.
pub(super) struct Network {
    platform: Arc<VirtualPlatform>,
    ends: Vec<End>,
    by_mac: HashMap<[u8; 6], usize>,
    /// Frames for the host that wait for the next burst.
    waiting: std::collections::VecDeque<Vec<u8>>,
}

impl Network {
    pub fn new(platform: Arc<VirtualPlatform>, targets: Vec<([u8; 6], Target)>) -> Network {
        let by_mac = targets.iter().enumerate().map(|(index, (mac, _))| (*mac, index)).collect();
        let end = |(mac, target)| End { mac, target, deadline: Some(Duration::ZERO), touched: true };
        let ends = targets.into_iter().map(end).collect();
        Network { platform, ends, by_mac, waiting: Default::default() }
    }

    /// Moves frames until every shard has ended. The targets come back.
    pub fn run(mut self, clock: &Clock, progress: &Progress) -> Vec<([u8; 6], Target)> {
        let _seat = clock.join();
        progress.wait_for_all();
        while !progress.shards_ended() {
            let moved = self.step(clock.now());
            if moved {
                clock.stir();
            }
            // After a burst only until everybody has looked; else until the first deadline.
            let now = clock.now();
            let deadlines = self.ends.iter().filter_map(|end| end.deadline);
            let until = if moved { Some(now) } else { deadlines.min() };
            self.platform.rest(until);
        }
        self.ends.into_iter().map(|end| (end.mac, end.target)).collect()
    }

    /// True if any frame moved.
    fn step(&mut self, now: Duration) -> bool {
        let mut moved = false;
        loop {
            let frame = self.platform.nic().transmit();
            let Some(frame) = frame else { break };
            moved = true;
            let to: [u8; 6] = frame.first_chunk().copied().unwrap_or_default();
            match self.by_mac.get(&to) {
                Some(&index) => self.ends[index].take(&frame),
                // ARP asks everybody.
                None if to[0] & 1 != 0 => self.ends.iter_mut().for_each(|end| end.take(&frame)),
                None => {}
            }
        }
        for end in &mut self.ends {
            if !end.touched && end.deadline.is_none_or(|deadline| deadline > now) {
                continue;
            }
            end.touched = false;
            end.target.poll(now);
            while let Some(frame) = end.target.transmit() {
                self.waiting.push_back(frame);
            }
            end.deadline = end.target.next_deadline(now);
        }
        let burst = self.waiting.len().min(BURST);
        for frame in self.waiting.drain(..burst) {
            self.platform.nic().receive(&frame);
            moved = true;
        }
        moved
    }
}

impl End {
    fn take(&mut self, frame: &[u8]) {
        self.target.receive(frame);
        self.touched = true;
    }
}
