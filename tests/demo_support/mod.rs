//! What the tests of the demonstration share: the oracle, and how a demonstration is run under it.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod oracle;

use connectx_ddp::demo::{self, Config, CopiedFor, DemoError, Outcome, QueueOutcome, Tap};
use nvme_target::script::Script;
use std::collections::BTreeMap;

/// A demonstration that is over quickly: 1 MiB in 4 KiB reads, one queue of 8.
pub fn small() -> Config {
    Config { size: 1 << 20, io_size: 4096, queue_size: 8, queues: 1, seed: 7, ..Config::default() }
}

/// A target with this script.
pub fn scripted(config: Config, script: Script) -> Config {
    Config { script, ..config }
}

/// Carries a demonstration out on the default device.
pub fn run(config: &Config, tap: &mut dyn Tap) -> Result<Outcome, DemoError> {
    demo::run_tapped(config, virtual_nic::Config::default(), tap, &mut |_| {})
}

/// Everything that must hold of a demonstration that went well, whatever its options.
#[track_caller]
pub fn assert_clean(config: &Config, outcome: &Outcome) {
    assert!(outcome.verified && outcome.completed, "{config:?}\n{:#?}", outcome.problems);
    assert_eq!(outcome.problems, [] as [String; 0], "{config:?}");
    assert_eq!(outcome.bytes_placed + outcome.bytes_copied, outcome.bytes, "{config:?}");
    assert_eq!((outcome.failed, outcome.bytes_wrong), (0, 0), "{config:?}");
    assert_explained(config, outcome);
    assert_nothing_left(config, outcome);
}

/// Every byte that software copied and every digest that it computed has a reason, on each queue and in all; every queue
/// without an offload has one.
#[track_caller]
pub fn assert_explained(config: &Config, outcome: &Outcome) {
    let sum = |copied: &BTreeMap<&str, CopiedFor>| {
        copied.values().fold((0, 0), |(bytes, digests), row| (bytes + row.bytes, digests + row.digests))
    };
    let (all, told) = (&outcome.copied, (outcome.bytes_copied, outcome.digests_sw));
    assert_eq!(sum(all), told, "{config:?}\n{all:#?}");
    assert_eq!(outcome.per_queue.len(), config.queues as usize);
    for queue in &outcome.per_queue {
        assert_eq!(sum(&queue.copied), (queue.bytes_copied, queue.digests_sw), "{config:?}\n{queue:#?}");
        assert_eq!(queue.offloaded, queue.reason.is_none(), "{config:?}\n{queue:#?}");
    }
    let queues = |of: fn(&QueueOutcome) -> u64| outcome.per_queue.iter().map(of).sum::<u64>();
    assert_eq!(queues(|queue| queue.bytes_placed), outcome.bytes_placed, "{config:?}");
    assert_eq!(queues(|queue| queue.bytes_copied), outcome.bytes_copied, "{config:?}");
}

/// The device holds nothing any more, and nobody can write into a buffer of the caller.
#[track_caller]
pub fn assert_nothing_left(config: &Config, outcome: &Outcome) {
    let left = (outcome.objects_left, outcome.pages_left, outcome.bindings_left);
    assert_eq!(left, (0, 0, 0), "objects, pages, bindings left by {config:?}\n{:#?}", outcome.problems);
}
