//! The simulation, with as many seeds as a test may take; `CXDDP_SIM_SEEDS` asks for more (`1000`, or a range `187..188`).
//!
//! | property | test |
//! |---|---|
//! | every seed: no wrong byte, no hang, nothing left, no failure without a cause | `every_seed_is_good` |
//! | what makes seeds worth running is reached: placement, loss, resyncs, recoveries, failures of all kinds | `every_seed_is_good` |
//! | the same seed is the same run, to the last frame | `a_seed_repeats` |
//! | the oracle sees: what goes wrong without having been drawn is a problem | `the_oracle_is_not_blind` |

#![cfg(feature = "demo")]

use connectx_ddp::demo::simulate::{Plan, Totals, run_plan, run_seed, run_seeds};
use nvme_target::script::{At, Fault, Kind, On};
use std::ops::Range;
use std::time::Duration;

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("CXDDP_SIM_SEEDS") else { return 0..150 };
    let range = match text.split_once("..") {
        Some((first, end)) => first.parse().ok().zip(end.parse().ok()).map(|(first, end)| first..end),
        None => text.parse().ok().map(|end| 0..end),
    };
    range.unwrap_or_else(|| {
        panic!("CXDDP_SIM_SEEDS={text:?}: give a number, such as 1000, or a range, such as 187..188")
    })
}

#[test]
fn every_seed_is_good() {
    let seeds = seeds();
    let many = seeds.end - seeds.start >= 150;
    let totals = run_seeds(seeds, 2, &|_| {});
    for failure in &totals.failures {
        eprintln!("{}\n{:#?}\nit drew {}", failure.replay, failure.problems, failure.drawn);
    }
    assert_eq!(totals.seeds_failed, 0, "of {} seeds", totals.seeds);
    if many {
        reached(&totals);
    }
}

/// What so many seeds cannot but reach. Simulated worlds do not change with the machine, so neither does this.
fn reached(totals: &Totals) {
    for name in [
        "reads",
        "writes",
        "placed",
        "copied",
        "digests_hardware",
        "digests_software",
        "resyncs_asked",
        "resyncs_confirmed",
        "frames_lost",
        "frames_reordered",
        "frames_duplicated",
        "frames_corrupted",
        "segments_sent_again",
        "target_faults",
        "device_faults",
        "cancelled",
        "recoveries",
        "connections_lost",
    ] {
        assert_ne!(totals.sum(name), 0, "{name} was never reached");
    }
    let times = |path: &str| totals.paths.get(path).map_or(0, |reached| reached.times);
    for path in [
        "device: hole inside a PDU",
        "device: framing lost",
        "device: confirmed",
        "device: context stopped",
        "device: packet completed with error",
        "driver: taken off the offload",
        "closed with requests under way",
    ] {
        assert_ne!(times(path), 0, "{path} was never reached");
    }
}

#[test]
fn a_seed_repeats() {
    for seed in [3, 40, 1_000_000_007] {
        let (a, b) = (run_seed(seed), run_seed(seed));
        assert_eq!((a.trace, a.paths, a.problems), (b.trace, b.paths, b.problems), "seed {seed}");
    }
    assert_ne!(run_seed(3).trace, run_seed(4).trace);
}

/// A plan in which nothing goes wrong, and reads are checked by nobody but the oracle.
fn kind() -> Plan {
    let mut plan = Plan::draw(0);
    plan.happenings.clear();
    plan.script = Default::default();
    plan.wire = Default::default();
    plan.switches = Default::default();
    plan.hostile = None;
    (plan.header_digest, plan.data_digest, plan.writes) = (false, false, 0.0);
    (plan.queues, plan.depth, plan.requests, plan.blocks) = (2, 4, 20, (8, 32));
    plan
}

#[test]
fn the_oracle_is_not_blind() {
    assert_eq!(run_plan(kind()).problems, [] as [String; 0]);
    let mut plan = kind();
    // Damaged data, and no digest by which anybody but the oracle could see it.
    plan.script.faults = vec![Fault { on: On::Queue(1), at: At::Data(2), kind: Kind::Payload }];
    let run = run_plan(plan);
    assert_eq!((run.problems.len(), run.sums.get("bytes_wrong")), (1, 1), "{:?}", run.problems);
    assert!(run.problems[0].contains("bytes of the read are wrong"));
    // A target that falls silent is a cause for requests to fail; a command that has too little time is none.
    let mut plan = kind();
    plan.script.faults = vec![Fault { on: On::Queue(2), at: At::Data(0), kind: Kind::Stall { after: 0 } }];
    let run = run_plan(plan);
    assert!(run.problems.is_empty() && run.sums.get("failed") != 0, "{:?}", run.problems);
    let mut plan = kind();
    plan.timeout = Duration::from_micros(1);
    let run = run_plan(plan);
    assert!(run.problems.iter().any(|problem| problem.contains("without a cause")), "{:?}", run.problems);
}
