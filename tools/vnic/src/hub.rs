//! Functions, their wire, and the turns in which all of them move.

use crate::function::Function;
use crate::inject::{Injection, When};
use ethernet_wire::{Direction, Impairments, Lane, PcapWriter, Port, PortError, port};
use nvme_target::{Backing, Target};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{self, BufWriter};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vfio_user::{Served, Server};

/// Messages of one client that one turn takes: registers of a driver that polls must not keep frames waiting.
const MESSAGES: u32 = 64;
/// Frames from one source that one turn takes.
const FRAMES: u32 = 256;
/// How soon to look again at a wire whose other side is full.
const CONGESTED: Duration = Duration::from_millis(1);
/// Longest sleep: a signal may have come between two looks.
const SLEEP: Duration = Duration::from_millis(100);

/// Where the wire leads.
pub enum Uplink {
    /// Nowhere: functions see each other only.
    None,
    /// To another process.
    Port(Box<Port>),
    /// To a target in this one.
    Target(Box<Target>),
}

impl Uplink {
    /// A wire to another process.
    pub fn port(kind: &port::Kind) -> Result<Uplink, PortError> {
        Port::open(kind).map(|port| Uplink::Port(Box::new(port)))
    }

    /// An NVMe/TCP target with this image.
    pub fn target(config: nvme_target::Config, image: Box<dyn Backing>) -> Result<Uplink, nvme_target::ConfigError> {
        Target::new(config, image).map(|target| Uplink::Target(Box::new(target)))
    }
}

/// How a hub is built.
#[derive(Clone, Debug, Default)]
pub struct HubConfig {
    /// What the wire does to frames towards it.
    pub outbound: Impairments,
    /// What it does to frames from it.
    pub inbound: Impairments,
    /// Seed of both.
    pub seed: u64,
    /// Where frames of the wire are written to.
    pub pcap: Option<PathBuf>,
}

/// A capture file.
struct Capture {
    writer: PcapWriter<BufWriter<File>>,
    failed: bool,
}

impl Capture {
    fn frame(&mut self, at: Duration, direction: Direction, frame: &[u8]) {
        if !self.failed
            && let Err(error) = self.writer.frame(at, direction, frame)
        {
            log::error!("the capture ends here: {error}");
            self.failed = true;
        }
    }
}

struct Member {
    server: Server,
    function: Function,
}

/// Functions on one wire.
pub struct Hub {
    members: Vec<Member>,
    uplink: Uplink,
    outbound: Lane,
    inbound: Lane,
    capture: Option<Capture>,
    injections: Vec<Injection>,
    /// When the last of them happened.
    injected_at: Duration,
    began: Instant,
    /// Frames between functions that never saw the wire.
    local_frames: u64,
    clients: u64,
    scratch: Vec<u8>,
}

impl Hub {
    /// A hub without functions.
    pub fn new(config: &HubConfig, uplink: Uplink) -> io::Result<Hub> {
        let capture = match &config.pcap {
            None => None,
            Some(path) => {
                let file = BufWriter::with_capacity(1 << 20, File::create(path)?);
                Some(Capture { writer: PcapWriter::new(file, "wire")?, failed: false })
            }
        };
        Ok(Hub {
            members: Vec::new(),
            uplink,
            outbound: Lane::new(config.outbound, config.seed),
            inbound: Lane::new(config.inbound, config.seed.rotate_left(32) ^ 1),
            capture,
            injections: Vec::new(),
            injected_at: Duration::ZERO,
            began: Instant::now(),
            local_frames: 0,
            clients: 0,
            scratch: Vec::new(),
        })
    }

    /// Adds a function that is served at `path`.
    pub fn add(&mut self, function: Function, path: &Path) -> io::Result<()> {
        let server = Server::bind(path)?;
        self.members.push(Member { server, function });
        Ok(())
    }

    /// Has a fault happen.
    pub fn inject(&mut self, injection: Injection) {
        self.injections.push(injection);
    }

    /// The functions.
    pub fn functions(&mut self) -> impl Iterator<Item = &mut Function> {
        self.members.iter_mut().map(|member| &mut member.function)
    }

    /// The wire.
    pub fn uplink(&self) -> &Uplink {
        &self.uplink
    }

    /// Frames that went from function to function, and what the wire did to the others: towards it, from it.
    pub fn wire_counters(&self) -> (u64, [ethernet_wire::LaneCounters; 2]) {
        (self.local_frames, [self.outbound.counters(), self.inbound.counters()])
    }

    /// Clients that have come so far.
    pub fn clients(&self) -> u64 {
        self.clients
    }

    /// True if somebody is connected to any function.
    pub fn has_client(&self) -> bool {
        self.members.iter().any(|member| member.server.has_client())
    }

    /// Time since the hub was made: that of its devices.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Ends the capture; everything is written through.
    pub fn finish(&mut self) -> io::Result<()> {
        match self.capture.take() {
            Some(capture) if !capture.failed => capture.writer.finish().map(drop),
            _ => Ok(()),
        }
    }

    /// Waits until there is something to do, at most `most`, and does it.
    pub fn turn(&mut self, most: Duration) {
        let now = self.now();
        self.advance(now);
        let moved = self.move_frames(now);
        let wait = match moved {
            true => Duration::ZERO,
            false => self.next_due(now).map_or(most, |due| due.saturating_sub(now)).min(most).min(SLEEP),
        };
        self.sleep(wait);
        for Member { server, function } in &mut self.members {
            for _ in 0..MESSAGES {
                match server.serve(function, Duration::ZERO) {
                    Served::Idle => break,
                    Served::Message(_) => {}
                    Served::Connected => {
                        self.clients += 1;
                        log::info!("{}: a client has connected", function.name);
                    }
                    Served::Gone(None) => log::info!("{}: the client has gone", function.name),
                    Served::Gone(Some(why)) => log::warn!("{}: the client was given up: {why}", function.name),
                }
            }
        }
    }

    fn advance(&mut self, now: Duration) {
        if !self.injections.is_empty() {
            self.inject_what_is_due(now);
        }
        for member in &mut self.members {
            member.function.nic.advance(now);
        }
    }

    /// A fault that follows another one waits until that one, and all before it, have happened.
    fn inject_what_is_due(&mut self, now: Duration) {
        let received: u64 = self.members.iter().map(|member| member.function.nic.counters().rx_bytes).sum();
        let mut at = 0;
        while let Some(injection) = self.injections.get(at).copied() {
            let due = match injection.when {
                When::At(moment) => moment <= now,
                When::Bytes(bytes) => bytes <= received,
                When::Later(after) => at == 0 && self.injected_at + after <= now,
            };
            if !due {
                at += 1;
                continue;
            }
            self.injections.remove(at);
            self.injected_at = now;
            for member in &mut self.members {
                log::warn!("{}: {}", member.function.name, injection.what);
                injection.what.happen(&mut member.function.nic);
            }
        }
    }

    fn next_due(&mut self, now: Duration) -> Option<Duration> {
        let nics = self.members.iter().filter_map(|member| member.function.nic.next_event());
        let wire = [self.outbound.next_due(), self.inbound.next_due()];
        let uplink = match &mut self.uplink {
            Uplink::None => None,
            Uplink::Port(port) => port.is_congested().then_some(now + CONGESTED),
            Uplink::Target(target) => target.next_deadline(now),
        };
        let faults = self.injections.iter().enumerate().filter_map(|(n, injection)| match injection.when {
            When::At(moment) => Some(moment),
            When::Later(after) if n == 0 => Some(self.injected_at + after),
            When::Later(_) | When::Bytes(_) => None,
        });
        nics.chain(faults).chain(wire.into_iter().flatten()).chain(uplink).min()
    }

    fn sleep(&mut self, wait: Duration) {
        let mut fds: Vec<PollFd<'_>> =
            self.members.iter().map(|member| PollFd::from_borrowed_fd(member.server.as_fd(), PollFlags::IN)).collect();
        if let Uplink::Port(port) = &self.uplink {
            fds.extend(port.poll_fd());
        }
        let time = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        // A signal ends the wait, which is what it is for.
        if let Err(error) = poll(&mut fds, Some(&time))
            && error != rustix::io::Errno::INTR
        {
            log::error!("poll: {error}");
        }
    }

    /// Lets frames move. True if any did.
    fn move_frames(&mut self, now: Duration) -> bool {
        let mut moved = false;
        for from in 0..self.members.len() {
            for _ in 0..FRAMES {
                let Some(frame) = self.members[from].function.nic.transmit() else { break };
                moved = true;
                self.forward(now, from, frame);
            }
        }
        moved |= self.exchange(now);
        for _ in 0..FRAMES {
            let Some(frame) = self.inbound.pop(now) else { break };
            moved = true;
            if let Some(capture) = &mut self.capture {
                capture.frame(now, Direction::Inbound, &frame);
            }
            // Each function looks at the address itself.
            for member in &mut self.members {
                member.function.nic.receive(&frame);
            }
        }
        moved
    }

    /// A frame leaves a function: to the function whose address it bears, else to the wire, and to all if it is for many.
    fn forward(&mut self, now: Duration, from: usize, frame: Vec<u8>) {
        let many = frame.first().is_some_and(|byte| byte & 1 != 0);
        let owner =
            self.members.iter().position(|member| frame.starts_with(&member.function.mac)).filter(|to| *to != from);
        for (to, member) in self.members.iter_mut().enumerate() {
            if to != from && (many || owner == Some(to)) {
                self.local_frames += 1;
                member.function.nic.receive(&frame);
            }
        }
        if owner.is_none() {
            if let Some(capture) = &mut self.capture {
                capture.frame(now, Direction::Outbound, &frame);
            }
            self.outbound.push(now, frame);
        }
    }

    /// Frames of the wire: those of the functions out, those of others in.
    fn exchange(&mut self, now: Duration) -> bool {
        let mut moved = false;
        while let Some(frame) = self.outbound.pop(now) {
            moved = true;
            match &mut self.uplink {
                Uplink::None => {}
                Uplink::Port(port) => port.send(&frame),
                Uplink::Target(target) => target.receive(&frame),
            }
        }
        match &mut self.uplink {
            Uplink::None => {}
            Uplink::Port(port) => {
                port.flush();
                for _ in 0..FRAMES {
                    if !port.receive(&mut self.scratch) {
                        break;
                    }
                    moved = true;
                    self.inbound.push(now, self.scratch.clone());
                }
            }
            Uplink::Target(target) => {
                target.poll(now);
                for _ in 0..FRAMES {
                    let Some(frame) = target.transmit() else { break };
                    moved = true;
                    self.inbound.push(now, frame);
                }
            }
        }
        moved
    }
}
