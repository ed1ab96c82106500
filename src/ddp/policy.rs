//! Which reads are bound, by size: a threshold that is fixed, or that follows what binding costs against the copy it saves.
//!
//! ```text
//!                bind + unbind [ns]
//!  threshold = ─────────────────────────────────────────────      where a read costs the same either way
//!               copying [ns per byte] × share that is placed
//! ```
//!
//! The data digest is not in it: the device checks it whether or not a read is bound.
//!
//! # How costs are measured
//!
//! The clock is read around the driver's own work, now and then, and never on the path of a placed packet. Binding: in
//! *windows* of a few reads, in which everything is timed that exists because of binding (posting and reaping control work,
//! doorbells). Copying: a packet with a few hundred bytes or more to copy, every so often. Five measurements make one by
//! their median, because a preempted thread measures anything; medians are averaged exponentially, and one that is far off
//! does not weigh more. The threshold moves only if the costs say a few times in a row that it is wrong by a third, and stays
//! within [`RANGE`].
//!
//! What does not happen cannot be measured, so if no read is bound for long a few smaller ones are ([`Probe::Bind`]), and if
//! nothing was copied for long one read is ([`Probe::Copy`]): less than two in a hundred.
//!
//! A simulation has no costs of its own: they are given ([`Costs::Scripted`]), and a run stays repeatable.

use crate::frame::Range;
use crate::nvme::{Cause, Delivery, PayloadError, PayloadMemory};
use crate::platform::Platform;
use std::fmt;
use std::ops::RangeInclusive;

/// Where the adaptive threshold begins, bytes: what Linux has fixed.
pub const START: u32 = 32 << 10;
/// Where the adaptive threshold stays, bytes.
pub const RANGE: RangeInclusive<u32> = 512..=1 << 20;
/// The threshold is a multiple of this.
const STEP: u32 = 512;
/// Reads that are bound, and as many that are unbound, in one window.
const WINDOW: u32 = 8;
/// Reads that are bound between two windows, once the cost is known.
const BETWEEN_WINDOWS: u32 = 56;
/// Packets with something to copy between two that are timed.
const BETWEEN_COPIES: u32 = 31;
/// Fewer bytes than this say more about the call than about copying.
const LEAST_COPY: u32 = 512;
/// Measurements of which the median counts.
const GROUP: usize = 5;
/// The same for the first one, which nothing corrects soon.
const FIRST_GROUP: usize = 15;
/// Weight of the newest median.
const WEIGHT: f64 = 1.0 / 8.0;
/// Factor by which the threshold must be wrong to be moved.
const WRONG: f64 = 4.0 / 3.0;
/// Evaluations in a row that must say so.
const AGREED: u32 = 8;
/// Reads below the threshold, none being bound, before a window of them is to probe; bound reads, nothing being copied, likewise.
const PATIENCE: u32 = 512;
/// Bound reads of which the placed share is taken.
const SHARE_GROUP: u32 = 32;

/// Which reads are bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// Those of at least so many bytes; 0 for all.
    Fixed(u32),
    /// Those for which it pays, by costs that come from here.
    Auto(Costs),
}

/// Where the costs of the driver's work come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Costs {
    /// [`Platform::cost_clock`].
    Clock,
    /// Given: for simulations.
    Scripted(Script),
}

/// Costs that are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script {
    /// Binding one read, nanoseconds.
    pub bind_ns: u32,
    /// Unbinding it.
    pub unbind_ns: u32,
    /// Copying 1024 bytes.
    pub copy_ns_per_kib: u32,
}

/// Work that costs something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Posting the binding of one read.
    Bind,
    /// Posting its unbinding.
    Unbind,
    /// Doorbells of control rings, for all that was posted since the last ones.
    Doorbells,
    /// Reaping so many completions of control rings.
    Reap(u32),
    /// Copying so many bytes.
    Copy(u32),
}

impl Script {
    fn cost(&self, work: Work) -> u64 {
        match work {
            Work::Bind => self.bind_ns.into(),
            Work::Unbind => self.unbind_ns.into(),
            Work::Doorbells | Work::Reap(_) => 0,
            Work::Copy(bytes) => u64::from(self.copy_ns_per_kib) * u64::from(bytes) / 1024,
        }
    }
}

/// What a read is to be against the threshold, to learn what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It is below the threshold, and bound all the same.
    Bind,
    /// It is not, and copied all the same.
    Copy,
}

/// Reading of the clock before some work.
#[derive(Clone, Copy, Debug)]
pub struct Started(u64);

/// An average that one bad measurement does not move.
#[derive(Clone, Copy, Debug, Default)]
struct Estimate {
    group: [f64; FIRST_GROUP],
    have: usize,
    average: Option<f64>,
}

impl Estimate {
    /// True if the average is a new one.
    fn add(&mut self, measured: f64) -> bool {
        self.group[self.have] = measured;
        self.have += 1;
        let needed = if self.average.is_some() { GROUP } else { FIRST_GROUP };
        if self.have < needed {
            return false;
        }
        self.have = 0;
        let group = &mut self.group[..needed];
        group.sort_by(f64::total_cmp);
        let median = group[needed / 2];
        self.average = Some(match self.average {
            // A median that is far off moves the average as one that is half as much or twice: most are accidents.
            Some(average) if average > 0.0 => average + (median.clamp(average / 2.0, average * 2.0) - average) * WEIGHT,
            _ => median,
        });
        true
    }
}

/// When work for bindings is timed.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    open: bool,
    /// Bound reads until the next one opens.
    wait: u32,
    /// Timed so far.
    binds: u32,
    unbinds: u32,
    /// Of these, since the last doorbells.
    posted: u32,
}

/// What it costs to bind and unbind, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Binding {
    bind: Estimate,
    unbind: Estimate,
    /// Doorbells, for each binding and unbinding.
    doorbells: Estimate,
    /// Each completion.
    reap: Estimate,
}

impl Binding {
    /// Of one read, if it is known.
    fn cost(&self) -> Option<f64> {
        let rest = self.doorbells.average.unwrap_or(0.0) * 2.0 + self.reap.average.unwrap_or(0.0);
        Some(self.bind.average? + self.unbind.average? + rest)
    }
}

/// The threshold that follows costs.
#[derive(Clone, Copy, Debug)]
pub struct Adaptive {
    costs: Costs,
    /// Nanoseconds between two readings of the clock with nothing between them.
    overhead: u64,
    window: Window,
    binding: Binding,
    /// Nanoseconds to copy a byte.
    copy: Estimate,
    /// Packets with something to copy until one is timed; then so many in a row.
    copy_wait: u32,
    copy_row: u32,
    /// Placed bytes of bound reads, of all their bytes, so far in the group; and the average share.
    share: (u64, u64, u32),
    placed: f64,
    threshold: u32,
    /// Evaluations in a row that wanted more (positive) or less.
    urge: i32,
    /// Since the last read was bound, since the last byte was copied.
    reads_unbound: u32,
    reads_uncopied: u32,
    /// The threshold was moved, and this was not told yet.
    moved: bool,
    report: Measured,
}

/// What the adaptive threshold knows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Nanoseconds to bind and unbind a read.
    pub bind_ns: Option<f64>,
    /// Nanoseconds to copy a byte.
    pub copy_ns: Option<f64>,
    /// Share of the bytes of bound reads that is placed, 0 to 1.
    pub placed: f64,
    /// Times that the threshold was moved.
    pub moves: u64,
    /// Reads bound to probe.
    pub bind_probes: u64,
    /// Reads copied to probe.
    pub copy_probes: u64,
}

/// The threshold now, and why it is what it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Reads of fewer bytes are copied.
    pub bytes: u32,
    /// If it is not fixed.
    pub measured: Option<Measured>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(measured) = self.measured else { return write!(f, "fixed") };
        let Measured { bind_ns, copy_ns, placed, moves, .. } = measured;
        let moved = match moves {
            0 => "not moved".to_owned(),
            1 => "moved once".to_owned(),
            _ => format!("moved {moves} times"),
        };
        match (bind_ns, copy_ns) {
            (Some(bind), Some(copy)) if bind + copy > 0.0 => write!(
                f,
                "binding costs {bind:.0} ns a read, copying {:.1} ns a KiB, {:.1} % of what is bound is placed; {moved}",
                copy * 1024.0,
                placed * 100.0
            ),
            (Some(_), Some(_)) => {
                write!(f, "not moved: the clock stands still while the driver works (simulated time)")
            }
            (None, Some(_)) => write!(f, "{moved}: what binding costs is not known yet"),
            (Some(_), None) => write!(f, "{moved}: what copying costs is not known yet"),
            (None, None) => write!(f, "not moved: no cost is known yet"),
        }
    }
}

impl Adaptive {
    /// Begins at [`START`].
    pub fn new(costs: Costs, platform: &impl Platform) -> Adaptive {
        let mut policy = Adaptive {
            costs,
            overhead: 0,
            window: Window { open: true, ..Window::default() },
            binding: Binding::default(),
            copy: Estimate::default(),
            copy_wait: 0,
            copy_row: FIRST_GROUP as u32,
            share: (0, 0, 0),
            placed: 1.0,
            threshold: START,
            urge: 0,
            reads_unbound: 0,
            reads_uncopied: 0,
            moved: false,
            report: Measured::default(),
        };
        let reading = || policy.now(platform).wrapping_sub(policy.now(platform)).wrapping_neg();
        policy.overhead = (0..GROUP).map(|_| reading()).min().unwrap_or_default();
        policy
    }

    /// Reads of fewer bytes are copied.
    pub fn threshold(&self) -> u32 {
        self.threshold
    }

    /// The threshold, if it was moved since the last time.
    #[inline]
    pub fn moved(&mut self) -> Option<u32> {
        std::mem::take(&mut self.moved).then_some(self.threshold)
    }

    /// What is known.
    pub fn measured(&self) -> Measured {
        Measured { bind_ns: self.binding.cost(), copy_ns: self.copy.average, placed: self.placed, ..self.report }
    }

    fn now(&self, platform: &impl Platform) -> u64 {
        match self.costs {
            Costs::Clock => platform.cost_clock().as_nanos() as u64,
            Costs::Scripted(_) => 0,
        }
    }

    /// Reads the clock, if work for bindings is timed at present.
    #[inline]
    pub fn start(&self, platform: &impl Platform) -> Option<Started> {
        self.window.open.then(|| Started(self.now(platform)))
    }

    /// The work that began then is done.
    #[inline]
    pub fn stop(&mut self, platform: &impl Platform, started: Option<Started>, work: Work) {
        if let Some(started) = started {
            let ns = self.since(platform, started, work);
            self.record(work, ns);
        }
    }

    fn since(&self, platform: &impl Platform, started: Started, work: Work) -> u64 {
        match self.costs {
            Costs::Clock => self.now(platform).saturating_sub(started.0).saturating_sub(self.overhead),
            Costs::Scripted(script) => script.cost(work),
        }
    }

    /// Work of a window, or a copy, took so long.
    fn record(&mut self, work: Work, ns: u64) {
        let (window, binding, ns) = (&mut self.window, &mut self.binding, ns as f64);
        let new = match work {
            Work::Copy(bytes) if bytes >= LEAST_COPY => {
                self.reads_uncopied = 0;
                self.copy_row = self.copy_row.saturating_sub(1);
                self.copy_wait = if self.copy_row == 0 { BETWEEN_COPIES } else { 0 };
                self.copy.add(ns / f64::from(bytes))
            }
            Work::Copy(_) => false,
            Work::Bind => {
                (window.binds, window.posted) = (window.binds + 1, window.posted + 1);
                binding.bind.add(ns)
            }
            Work::Unbind => {
                (window.unbinds, window.posted) = (window.unbinds + 1, window.posted + 1);
                binding.unbind.add(ns)
            }
            Work::Doorbells => match std::mem::take(&mut window.posted) {
                0 => false,
                posted => binding.doorbells.add(ns / f64::from(posted)),
            },
            Work::Reap(0) => false,
            Work::Reap(completions) => binding.reap.add(ns / f64::from(completions)),
        };
        if window.binds >= WINDOW && window.unbinds >= WINDOW {
            // Until the cost is known one window follows the other.
            *window = Window { open: binding.cost().is_none(), wait: BETWEEN_WINDOWS, ..Window::default() };
        }
        if new {
            self.evaluate();
        }
    }

    /// A read of so many bytes begins, that could be bound. What it is to be, if that is not what the threshold says.
    /// `may_copy`: it may be copied to probe.
    #[inline]
    pub fn begin(&mut self, bytes: usize, may_copy: bool) -> Option<Probe> {
        let bound = bytes >= self.threshold as usize;
        if !self.window.open && bound {
            self.window.wait = self.window.wait.saturating_sub(1);
            self.window.open = self.window.wait == 0;
        }
        match bound {
            true => {
                (self.reads_unbound, self.reads_uncopied) = (0, self.reads_uncopied + 1);
                (may_copy && self.reads_uncopied > PATIENCE).then(|| self.probe(Probe::Copy))
            }
            false => {
                self.reads_unbound += 1;
                (self.reads_unbound > PATIENCE && bytes >= *RANGE.start() as usize).then(|| self.probe(Probe::Bind))
            }
        }
    }

    #[cold]
    fn probe(&mut self, probe: Probe) -> Probe {
        match probe {
            Probe::Bind => {
                // A window of them in a row: one alone finds nothing in the caches, and costs several times as much.
                if self.reads_unbound >= PATIENCE + WINDOW {
                    self.reads_unbound = 0;
                }
                self.window.open = true;
                self.report.bind_probes += 1;
            }
            Probe::Copy => {
                let row = if self.copy.average.is_some() { GROUP } else { FIRST_GROUP };
                (self.reads_uncopied, self.copy_wait, self.copy_row) = (0, 0, row as u32);
                self.report.copy_probes += 1;
            }
        }
        probe
    }

    /// A packet comes without a placed run. This policy, if its copies are to be timed, by [`TimedCopies`].
    #[inline]
    pub fn times_copy(&mut self) -> Option<&mut Adaptive> {
        match self.copy_wait.checked_sub(1) {
            Some(left) => {
                self.copy_wait = left;
                None
            }
            None => Some(self),
        }
    }

    /// A bound read is done.
    #[inline]
    pub fn finished(&mut self, placed: u32, copied: u32) {
        let (sum, all, reads) = &mut self.share;
        *sum += u64::from(placed);
        *all += u64::from(placed) + u64::from(copied);
        *reads += 1;
        if *reads == SHARE_GROUP {
            self.share_measured();
        }
    }

    #[cold]
    fn share_measured(&mut self) {
        let (sum, all, _) = std::mem::take(&mut self.share);
        if all != 0 {
            self.placed += (sum as f64 / all as f64 - self.placed) * WEIGHT;
            self.evaluate();
        }
    }

    /// Moves the threshold if the costs have said a few times in a row that it is wrong.
    #[cold]
    fn evaluate(&mut self) {
        let (Some(bind), Some(copy)) = (self.binding.cost(), self.copy.average) else { return };
        if bind <= 0.0 && copy <= 0.0 {
            return;
        }
        let (least, most) = (f64::from(*RANGE.start()), f64::from(*RANGE.end()));
        // Division by zero is infinite here, and infinitely much is the most.
        let even = (bind / (copy * self.placed)).clamp(least, most);
        let now = f64::from(self.threshold);
        self.urge = match even {
            _ if even > now * WRONG => self.urge.max(0) + 1,
            _ if even < now / WRONG => self.urge.min(0) - 1,
            _ => 0,
        };
        if self.urge.unsigned_abs() >= AGREED {
            self.threshold = (even as u32).next_multiple_of(STEP).clamp(*RANGE.start(), *RANGE.end());
            (self.urge, self.moved) = (0, true);
            self.report.moves += 1;
        }
    }
}

/// Payload memory that times its copies, for one packet.
pub struct TimedCopies<'a, M, P> {
    memory: M,
    policy: &'a mut Adaptive,
    platform: &'a P,
}

impl<'a, M: PayloadMemory, P: Platform> TimedCopies<'a, M, P> {
    /// Times the copies of `memory` for `policy`.
    pub fn new(memory: M, policy: &'a mut Adaptive, platform: &'a P) -> TimedCopies<'a, M, P> {
        TimedCopies { memory, policy, platform }
    }
}

impl<M: PayloadMemory, P: Platform> PayloadMemory for TimedCopies<'_, M, P> {
    fn peek(&self, range: Range, out: &mut [u8]) -> Result<(), PayloadError> {
        self.memory.peek(range, out)
    }

    fn deliver(&mut self, tag: u16, offset: u32, range: Range) -> Result<Delivery, PayloadError> {
        let started = Started(self.policy.now(self.platform));
        let delivery = self.memory.deliver(tag, offset, range)?;
        if delivery == Delivery::Copied {
            self.policy.stop(self.platform, Some(started), Work::Copy(range.len()));
        }
        Ok(delivery)
    }

    fn copied(&mut self, tag: u16, len: u32, cause: Cause) {
        self.memory.copied(tag, len, cause);
    }

    fn digested(&mut self, tag: u16, cause: Cause) {
        self.memory.digested(tag, cause);
    }

    fn digest(&self, tag: u16, offset: u32, len: u32) -> Result<u32, PayloadError> {
        self.memory.digest(tag, offset, len)
    }

    fn fetch(&self, tag: u16, offset: u32, out: &mut [u8]) -> Result<(), PayloadError> {
        self.memory.fetch(tag, offset, out)
    }
}

#[cfg(test)]
mod tests;
