//! Device, wire and target on one simulated clock, with losses that do not depend on timing.
//!
//! Whether a segment is lost is decided by its connection, its sequence number and how often it was sent before, so runs
//! that differ in what the driver does lose the same segments.

use connectx_ddp::platform::virtual_nic::{Clock, VirtualPlatform};
use nvme_target::Target;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Frames to the host in one step: what the driver takes in one poll.
const BURST: usize = 256;
/// Time that passes while a frame is worked on.
const STEP: Duration = Duration::from_micros(1);
/// One-way delay.
const DELAY: Duration = Duration::from_micros(10);

/// See the [module](self).
pub struct World {
    pub platform: Arc<VirtualPlatform>,
    pub target: Target,
    clock: Clock,
    /// Share of the segments towards the host that are lost.
    loss: f64,
    seed: u64,
    to_target: VecDeque<(Duration, Vec<u8>)>,
    to_host: VecDeque<(Duration, Vec<u8>)>,
    /// How often each segment was sent: by the host's port and the sequence number.
    sent: HashMap<(u16, u32), u32>,
}

impl World {
    pub fn new(target: Target, loss: f64, seed: u64) -> World {
        let clock = Clock::default();
        let platform = VirtualPlatform::on_clock("virtual", virtual_nic::Config::default(), clock.clone());
        World {
            platform: Arc::new(platform),
            target,
            clock,
            loss,
            seed,
            to_target: VecDeque::new(),
            to_host: VecDeque::new(),
            sent: HashMap::new(),
        }
    }

    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Lets frames cross the wire, and the target work on them. True if any did.
    pub fn step(&mut self) -> bool {
        let now = self.clock.now();
        let mut moved = false;
        while let Some(frame) = self.platform.nic().transmit() {
            self.to_target.push_back((now + DELAY, frame));
            moved = true;
        }
        while let Some(frame) = due(&mut self.to_target, now) {
            self.target.receive(&frame);
            moved = true;
        }
        self.target.poll(now);
        while let Some(frame) = self.target.transmit() {
            if !self.is_lost(&frame) {
                self.to_host.push_back((now + DELAY, frame));
            }
            moved = true;
        }
        for _ in 0..BURST {
            let Some(frame) = due(&mut self.to_host, now) else { break };
            self.platform.nic().receive(&frame);
            self.target.recycle(frame);
            moved = true;
        }
        if moved {
            let now = self.clock.advance(STEP);
            self.platform.nic().advance(now);
        }
        moved
    }

    /// Nothing has anything to do: time passes until somebody has. False if that will never be.
    pub fn sleep(&mut self, driver: Option<Duration>) -> bool {
        let now = self.clock.now();
        let wire = [&self.to_target, &self.to_host].map(|lane| lane.front().map(|(due, _)| *due));
        let nic = self.platform.nic().next_event();
        let others = [driver, nic, self.target.next_deadline(now)];
        let Some(next) = others.into_iter().chain(wire).flatten().min() else { return false };
        let now = self.clock.advance(next.saturating_sub(now).max(STEP));
        self.platform.nic().advance(now);
        true
    }

    /// TCP over IPv4 without IP options; other frames are never lost.
    fn is_lost(&mut self, frame: &[u8]) -> bool {
        let field =
            |at: usize| frame.get(at..at + 4).map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let (Some(protocol), Some(ports), Some(sequence)) = (frame.get(23), field(34), field(38)) else { return false };
        if self.loss == 0.0 || *protocol != 6 {
            return false;
        }
        let times = self.sent.entry((ports as u16, sequence)).or_default();
        *times += 1;
        let key = u64::from(ports) << 40 ^ u64::from(sequence) << 8 ^ u64::from(*times) ^ self.seed.rotate_left(23);
        (mix(key) >> 11) as f64 / (1u64 << 53) as f64 <= self.loss
    }
}

fn due(lane: &mut VecDeque<(Duration, Vec<u8>)>, now: Duration) -> Option<Vec<u8>> {
    lane.front().filter(|(due, _)| *due <= now)?;
    lane.pop_front().map(|(_, frame)| frame)
}

/// The finalizer of SplitMix64.
fn mix(mut key: u64) -> u64 {
    key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}
