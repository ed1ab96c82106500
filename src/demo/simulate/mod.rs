//! Simulation: one seed is one world, drawn at random and run to its end.
//!
//! ```text
//! seed ─► plan: sizes, queues, digests, offload policy ·· every switch of the device ·· impairments of each direction
//!               ·· the target's script ·· what happens at random moments (cancel, close, faults of queues and firmware)
//!      ─► run:  bring-up, connections, reads and writes, disconnecting, teardown, on one simulated clock
//!      ─► oracle: no wrong byte, no hang, nothing left, every buffer back once and never written again, sums that add up,
//!                 and no failure without a cause that was drawn
//! ```
//!
//! The same seed is the same run, to the last frame. Seeds share nothing, so they run on as many threads as wanted.

mod choices;
mod host;
mod oracle;
mod plan;
mod requests;
mod totals;
mod watch;

pub use plan::{Happening, Plan, What};
pub use totals::{Failure, Reached, Run, Sums, Totals, replay};

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Runs one seed.
pub fn run_seed(seed: u64) -> Run {
    run_plan(Plan::draw(seed))
}

/// Runs what was drawn, or what was made of it. A panic on the way is a problem like any other.
pub fn run_plan(plan: Plan) -> Run {
    let ran = catch_unwind(AssertUnwindSafe(|| host::run(plan.clone())));
    ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Run {
            plan,
            sums: Sums::default(),
            paths: Default::default(),
            problems: vec![format!("panic: {text}")],
            trace: 0,
        }
    })
}

/// Runs all seeds of a range on `threads` threads. `each` sees every run as it ends, in no particular order.
pub fn run_seeds(seeds: Range<u64>, threads: usize, each: &(dyn Fn(&Run) + Sync)) -> Totals {
    let next = AtomicU64::new(seeds.start);
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let run = run_seed(seed);
                    each(&run);
                    totals.lock().unwrap_or_else(PoisonError::into_inner).add(&run);
                }
            });
        }
    });
    totals.into_inner().unwrap_or_else(PoisonError::into_inner)
}
