//! | property | test |
//! |---|---|
//! | from wherever it begins, the threshold comes to where both ways cost the same | `it_converges_to_the_break_even` |
//! | when costs change it follows, up and down | `it_follows_changes` |
//! | noise and preemption do not move it | `noise_does_not_move_it` |
//! | a small part of the reads is spent on probes, and none where nothing has to be probed | `probes_are_rare` |
//! | it stays in its range, whatever the costs | `it_stays_in_its_range` |
//! | what is placed counts, not what is bound | `bytes_that_are_not_placed_save_nothing` |
//! | a clock that stands still moves nothing, and the report says so | `a_clock_that_stands_still_moves_nothing` |
//! | where reads must not be copied there is no probe that copies | `no_copy_probe_where_reads_must_be_bound` |
use super::*;
use crate::ddp::fake::Fake;

/// A driver at work, as far as the policy sees it. Reads of `sizes` in turn, 32 of them at a time; costs in nanoseconds.
struct Driver {
    policy: Adaptive,
    bind_ns: f64,
    copy_ns: f64,
    /// Share of a bound read that is placed.
    placed: f64,
    /// Half-width of the noise, as a share; and one measurement of so many takes 50 times as long.
    noise: f64,
    spikes: u64,
    random: u64,
    sizes: Vec<u32>,
    may_copy: bool,
    reads: u64,
    probes: u64,
    moves: Vec<u32>,
}

impl Driver {
    fn new(bind_ns: f64, copy_ns: f64, sizes: &[u32]) -> Driver {
        let script = Script { bind_ns: 0, unbind_ns: 0, copy_ns_per_kib: 0 };
        Driver {
            policy: Adaptive::new(Costs::Scripted(script), &Fake::new()),
            bind_ns,
            copy_ns,
            placed: 1.0,
            noise: 0.0,
            spikes: u64::MAX,
            random: 1,
            sizes: sizes.to_vec(),
            may_copy: true,
            reads: 0,
            probes: 0,
            moves: Vec::new(),
        }
    }

    fn next(&mut self) -> u64 {
        // Numerical Recipes' generator: the high bits are random enough.
        self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.random >> 33
    }

    fn measured(&mut self, ns: f64) -> u64 {
        let noise = 1.0 + self.noise * (self.next() % 2001) as f64 / 1000.0 - self.noise;
        let spike = if self.next().is_multiple_of(self.spikes) { 50.0 } else { 1.0 };
        (ns * noise * spike).round() as u64
    }

    fn run(&mut self, reads: u32) -> u32 {
        for _ in 0..reads {
            let bytes = self.sizes[self.reads as usize % self.sizes.len()];
            self.reads += 1;
            let probe = self.policy.begin(bytes as usize, self.may_copy);
            self.probes += u64::from(probe.is_some());
            let bound = match probe {
                Some(Probe::Bind) => true,
                Some(Probe::Copy) => false,
                None => bytes >= self.policy.threshold(),
            };
            let placed = if bound { (f64::from(bytes) * self.placed) as u32 } else { 0 };
            if bound {
                // A quarter of it each.
                for work in [Work::Bind, Work::Unbind, Work::Doorbells, Work::Reap(1)] {
                    if self.policy.window.open {
                        let ns = self.measured(self.bind_ns / 4.0);
                        self.policy.record(work, ns);
                    }
                }
                self.policy.finished(placed, bytes - placed);
            }
            for packet in (placed..bytes).step_by(1448) {
                let len = 1448.min(bytes - packet);
                if self.policy.times_copy().is_some() {
                    let ns = self.measured(self.copy_ns * f64::from(len));
                    self.policy.record(Work::Copy(len), ns);
                }
            }
            self.moves.extend(self.policy.moved());
        }
        self.policy.threshold()
    }

    #[track_caller]
    fn assert_at(&self, bytes: f64) {
        let at = f64::from(self.policy.threshold());
        assert!(at <= bytes * WRONG + 512.0 && at >= bytes / WRONG, "{at} for {bytes}: {:?}", self.policy.measured());
    }
}

const MIXED: [u32; 5] = [4096, 131_072, 16_384, 512, 65_536];

#[test]
fn it_converges_to_the_break_even() {
    for (bind, copy) in [(400.0, 0.1), (100.0, 0.1), (3000.0, 0.05), (2000.0, 0.25), (900.0, 0.9), (6000.0, 0.08)] {
        let mut driver = Driver::new(bind, copy, &MIXED);
        driver.run(4000);
        driver.assert_at(bind / copy);
        let settled = driver.policy.threshold();
        assert_eq!(driver.run(20_000), settled);
        assert!(driver.moves.len() <= 2, "{:?}", driver.moves);
    }
    // Reads of one size, below what it begins with and above.
    for size in [4096, 131_072] {
        let mut driver = Driver::new(800.0, 0.1, &[size]);
        driver.placed = 0.99;
        driver.run(60_000);
        driver.assert_at(800.0 / 0.099);
    }
}

#[test]
fn it_follows_changes() {
    let mut driver = Driver::new(400.0, 0.1, &MIXED);
    (driver.noise, driver.spikes) = (0.1, 100);
    for (bind, copy) in [(400.0, 0.1), (4000.0, 0.1), (4000.0, 0.4), (300.0, 0.3), (30_000.0, 0.05), (400.0, 0.1)] {
        (driver.bind_ns, driver.copy_ns) = (bind, copy);
        driver.run(100_000);
        driver.assert_at((bind / copy).min(f64::from(*RANGE.end())));
    }
}

#[test]
fn noise_does_not_move_it() {
    for seed in 1..=20 {
        let mut driver = Driver::new(700.0, 0.1, &MIXED);
        (driver.noise, driver.spikes, driver.random) = (0.3, 20, seed);
        driver.run(10_000);
        driver.assert_at(7000.0);
        let moves = driver.moves.len();
        driver.run(200_000);
        assert!(driver.moves.len() - moves <= 1, "seed {seed}: {:?}", driver.moves);
    }
}

#[test]
fn probes_are_rare() {
    let mut driver = Driver::new(400.0, 0.1, &[131_072]);
    driver.placed = 0.98;
    driver.run(50_000);
    assert_eq!(driver.probes, 0, "what is not placed is copied: there is nothing to probe");
    // All is placed: only a probe copies. All is below: only a probe binds.
    for (sizes, bind) in [([131_072], 400.0), ([4096], 4000.0)] {
        let mut driver = Driver::new(bind, 0.1, &sizes);
        driver.run(50_000);
        driver.assert_at(bind / 0.1);
        let share = driver.probes as f64 / driver.reads as f64;
        assert!(share > 0.0 && share < 0.02, "{share}");
    }
}

#[test]
fn it_stays_in_its_range() {
    let mut dear = Driver::new(1e9, 0.0001, &MIXED);
    let mut cheap = Driver::new(1.0, 10.0, &MIXED);
    let mut free = Driver::new(500.0, 0.0, &MIXED);
    for driver in [&mut dear, &mut cheap, &mut free] {
        driver.run(100_000);
        assert!(driver.moves.iter().all(|bytes| RANGE.contains(bytes)), "{:?}", driver.moves);
    }
    let ends = [&dear, &cheap, &free].map(|driver| driver.policy.threshold());
    assert_eq!(ends, [*RANGE.end(), *RANGE.start(), *RANGE.end()]);
    // And comes back.
    (dear.bind_ns, dear.copy_ns) = (400.0, 0.1);
    dear.run(400_000);
    dear.assert_at(4000.0);
}

#[test]
fn bytes_that_are_not_placed_save_nothing() {
    let mut driver = Driver::new(400.0, 0.1, &MIXED);
    driver.placed = 0.25;
    driver.run(50_000);
    driver.assert_at(16_000.0);
    driver.placed = 0.0;
    driver.run(100_000);
    assert!(driver.policy.threshold() > 131_072, "a device that places nothing gets nothing but probes");
}

#[test]
fn a_clock_that_stands_still_moves_nothing() {
    let mut driver = Driver::new(0.0, 0.0, &MIXED);
    assert_eq!(driver.run(10_000), START);
    let report = Report { bytes: START, measured: Some(driver.policy.measured()) };
    assert!(report.to_string().contains("clock stands still"), "{report}");
    assert!(driver.moves.is_empty());
}

#[test]
fn no_copy_probe_where_reads_must_be_bound() {
    let mut driver = Driver::new(40_000.0, 0.1, &[131_072]);
    driver.may_copy = false;
    driver.run(50_000);
    assert_eq!((driver.probes, driver.policy.threshold()), (0, START));
    assert!(driver.policy.measured().copy_ns.is_none());
}
