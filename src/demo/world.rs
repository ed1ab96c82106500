//! The world around the driver: a virtual ConnectX, a wire, and the target at its other end, on one simulated clock.

use crate::observe::{Direction, PcapWriter};
use crate::platform::Platform;
use crate::platform::virtual_nic::{Clock, VirtualPlatform};
use crate::session::Session;
use ethernet_wire::{Impairments, Lane};
use nvme_target::Target;
use std::fs::File;
use std::io::{self, BufWriter};
use std::sync::Arc;
use std::time::Duration;
use virtual_nic::VirtualNic;

/// Frames that cross the wire in one step towards the host: not more than the driver takes in one poll, so that the receive
/// queue never overflows. On a real link flow control sees to that.
const BURST: usize = 256;
/// Time that passes while a frame is worked on.
const STEP: Duration = Duration::from_micros(1);

/// What the wire does to frames.
#[derive(Clone, Copy, Debug, Default)]
pub struct WireConfig {
    /// On the way to the target.
    pub to_target: Impairments,
    /// On the way to the host.
    pub to_host: Impairments,
    /// Seed of both lanes.
    pub seed: u64,
}

/// When a demonstration's session is shown to its [`Tap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It has been polled.
    Polled,
    /// All requests are done, or it came to grief; the connections are still there.
    Done,
    /// It is about to be closed, for the last time.
    Closing,
}

/// Sees every frame at the host's end of the wire, what it sends and what reaches it, the device before the driver does, and
/// the driver's numbers.
pub trait Tap {
    /// A frame crossed the wire at `at`.
    fn frame(&mut self, at: Duration, direction: Direction, frame: &[u8]);

    /// The device was powered on and nobody has touched it: the place to schedule its faults.
    fn device(&mut self, nic: &mut VirtualNic) {
        let _ = nic;
    }

    /// The driver as it is now, between two polls: the place to look at its numbers.
    fn session(&mut self, session: &mut Session<VirtualPlatform>, moment: Moment) {
        let _ = (session, moment);
    }
}

/// Writes every frame into a file.
pub struct PcapTap {
    writer: PcapWriter<BufWriter<File>>,
    error: Option<io::Error>,
}

impl PcapTap {
    /// Starts a capture.
    pub fn create(path: &std::path::Path) -> io::Result<PcapTap> {
        let file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        Ok(PcapTap { writer: PcapWriter::new(file, "wire")?, error: None })
    }

    /// Ends the capture; an error of any frame comes out here.
    pub fn finish(self) -> io::Result<()> {
        match self.error {
            Some(error) => Err(error),
            None => self.writer.finish().map(drop),
        }
    }
}

impl Tap for PcapTap {
    fn frame(&mut self, at: Duration, direction: Direction, frame: &[u8]) {
        if self.error.is_none() {
            self.error = self.writer.frame(at, direction, frame).err();
        }
    }
}

/// Two taps on one wire.
pub struct Both<'a, 'b>(pub &'a mut dyn Tap, pub &'b mut dyn Tap);

impl Tap for Both<'_, '_> {
    fn frame(&mut self, at: Duration, direction: Direction, frame: &[u8]) {
        self.0.frame(at, direction, frame);
        self.1.frame(at, direction, frame);
    }
    fn device(&mut self, nic: &mut VirtualNic) {
        self.0.device(nic);
        self.1.device(nic);
    }
    fn session(&mut self, session: &mut Session<VirtualPlatform>, moment: Moment) {
        self.0.session(session, moment);
        self.1.session(session, moment);
    }
}

/// Looks at nothing.
pub struct NoTap;

impl Tap for NoTap {
    fn frame(&mut self, _: Duration, _: Direction, _: &[u8]) {}
}

/// Device, wire and target.
pub struct World {
    /// The platform that the driver runs on.
    pub platform: Arc<VirtualPlatform>,
    /// The target.
    pub target: Target,
    clock: Clock,
    to_target: Lane,
    to_host: Lane,
}

impl World {
    /// A device of this configuration, and `target` at the other end of its wire.
    pub fn new(config: virtual_nic::Config, target: Target, wire: WireConfig) -> World {
        let clock = Clock::default();
        let platform = VirtualPlatform::on_clock("virtual", config, clock.clone());
        World {
            platform: Arc::new(platform),
            target,
            clock,
            to_target: Lane::new(wire.to_target, wire.seed),
            to_host: Lane::new(wire.to_host, wire.seed.rotate_left(32) ^ 1),
        }
    }

    /// The two lanes of the wire: towards the target, towards the host.
    pub fn lanes(&self) -> [&Lane; 2] {
        [&self.to_target, &self.to_host]
    }

    /// The simulated time.
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Lets frames cross the wire in both directions, and the target work on them. Returns true if any did.
    pub fn step(&mut self, tap: &mut dyn Tap) -> bool {
        let now = self.clock.now();
        let mut moved = false;
        while let Some(frame) = self.platform.nic().transmit() {
            tap.frame(now, Direction::Outbound, &frame);
            self.to_target.push(now, frame);
            moved = true;
        }
        while let Some(frame) = self.to_target.pop(now) {
            self.target.receive(&frame);
            moved = true;
        }
        self.target.poll(now);
        while let Some(frame) = self.target.transmit() {
            self.to_host.push(now, frame);
            moved = true;
        }
        let mut nic = self.platform.nic();
        for _ in 0..BURST {
            let Some(frame) = self.to_host.pop(now) else { break };
            tap.frame(now, Direction::Inbound, &frame);
            nic.receive(&frame);
            self.target.recycle(frame);
            moved = true;
        }
        drop(nic);
        if moved {
            let now = self.clock.advance(STEP);
            self.platform.nic().advance(now);
        }
        moved
    }

    /// Nothing has anything to do: lets time pass until the first of the driver's and everybody else's deadlines. False if
    /// there is none: nothing will ever happen.
    pub fn sleep(&mut self, driver: Option<Duration>) -> bool {
        let now = self.platform.now();
        let nic = self.platform.nic().next_event();
        let wire = [self.to_target.next_due(), self.to_host.next_due()];
        let others = [driver, nic, self.target.next_deadline(now)];
        let Some(next) = others.into_iter().chain(wire).flatten().min() else {
            return false;
        };
        let now = self.clock.advance(next.saturating_sub(now).max(STEP));
        self.platform.nic().advance(now);
        true
    }
}
