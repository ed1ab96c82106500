//! Several shards on threads over one virtual ConnectX: the run of `cxddp scale`, small.
//!
//! | property | test |
//! |---|---|
//! | shards on threads of their own offload, read the right bytes, keep to their own packets, and leave nothing | `shards_share_a_function_and_nothing_else` |
//! | commands of many connections fill the slots: the set-up takes a small part of their sum | `commands_fill_the_slots` |
//! | a queue as deep as identifiers go is offloaded and read | `a_queue_can_be_as_deep_as_identifiers_go` |
//! | a function that fails under all of its shards: every read ends, every buffer comes back, and all shards work again | `a_function_that_fails_is_recovered_for_all_its_shards` |
//! | impossible wishes get one line that names the option | `impossible_wishes_are_named` |
#![cfg(feature = "demo")]

use connectx_ddp::demo::scale::{self, Config, Report};
use std::time::Duration;

fn run(config: Config) -> Report {
    let report = scale::run(&config).expect("begun");
    assert!(report.verified && report.problems.is_empty(), "{report:?}");
    assert_eq!((report.connections, report.reads), (config.connections, u64::from(config.connections * config.reads)));
    assert_eq!((report.bytes, report.bytes_wrong), (report.reads * config.io_size, 0));
    assert_eq!((report.objects_left, report.pages_left), (0, 0));
    report
}

#[test]
fn shards_share_a_function_and_nothing_else() {
    for shards in [1, 2, 3, 5, 8] {
        let config = Config {
            connections: 3 * shards + 1,
            depth: 16,
            shards,
            reads: 40,
            io_size: 16 << 10,
            batch: 2,
            data_digest: shards % 2 == 1,
            command_time: Duration::from_micros(5),
            ..Config::default()
        };
        let report = run(config.clone());
        // A packet of responses may begin with the end of another PDU's data, which is placed only if it comes first.
        assert!(report.bytes_placed * 10 > report.bytes * 9, "{} of {} bytes", report.bytes_placed, report.bytes);
        let keys = u64::from(config.connections * config.depth);
        assert!(report.commands.total >= keys + 6 * u64::from(config.connections), "{:?}", report.commands);
    }
}

#[test]
fn commands_fill_the_slots() {
    let report = run(Config { connections: 60, depth: 64, shards: 2, ..Config::default() });
    assert!(report.commands.in_flight > 20.0 && report.commands.most_in_flight <= 32, "{:?}", report.commands);
    assert!(report.set_up_us * 20 < report.commands.serial_us, "{} of {:?}", report.set_up_us, report.commands);
    // Keys of queues that are gone serve the next: those of the last wave are there at the end, no more.
    assert!(report.objects["mkey"] > 60 * 64 && report.objects["tag buffer table"] == 60);
    // A ring for two thirds of the tags, a quarter of it completions, two doorbell records; firmware's pages are not exact.
    let ring = 64.0 * 64.0 + 32.0 * 64.0 + 128.0;
    assert!((report.memory.dma - ring).abs() < 4096.0, "{:?}", report.memory);
}

#[test]
fn a_queue_can_be_as_deep_as_identifiers_go() {
    run(Config {
        connections: 1,
        depth: 65_534,
        shards: 1,
        reads: 200,
        command_time: Duration::ZERO,
        ..Config::default()
    });
}

#[test]
fn a_function_that_fails_is_recovered_for_all_its_shards() {
    for (shards, fault) in [(1, "flr"), (2, "fatal-health"), (3, "all-ones"), (3, "flr@0")] {
        let config = Config {
            connections: 3 * shards,
            depth: 16,
            shards,
            reads: 40,
            io_size: 16 << 10,
            command_time: Duration::from_micros(5),
            inject: Some(fault.parse().expect(fault)),
            ..Config::default()
        };
        // `run` asks for the second life what it asks for an only one; in the first, each read ended and each buffer came back, or
        // there is a problem.
        let report = run(config.clone());
        let recovery = report.recovery.expect("what came of the first life");
        assert!(fault.starts_with(recovery.fault), "{recovery:?}");
        assert!(recovery.failed + recovery.reads <= report.reads, "{recovery:?}");
        // A device that only says that it is ill goes on until its driver looks, which may be after the last read.
        let ill = recovery.fault == "fatal-health";
        assert!(ill || recovery.failed > 0 && recovery.quarantined > 0, "{recovery:?}");
        assert!(recovery.quarantined <= recovery.failed, "{recovery:?}");
    }
}

#[test]
fn impossible_wishes_are_named() {
    let ok = Config::default();
    let cases = [
        (Config { shards: 0, ..ok.clone() }, "--shards 0: "),
        (Config { shards: 9, ..ok.clone() }, "--shards 9: "),
        (Config { connections: 0, ..ok.clone() }, "--connections 0: "),
        (Config { connections: 12_401, ..ok.clone() }, "--connections 12401: "),
        (Config { connections: 3, shards: 4, ..ok.clone() }, "--connections 3: "),
        (Config { depth: 0, ..ok.clone() }, "--depth 0: "),
        (Config { depth: 65_535, ..ok.clone() }, "--depth 65535: "),
        (Config { io_size: 1000, ..ok.clone() }, "--io-size 1000: "),
        (Config { batch: 0, ..ok.clone() }, "--batch 0: "),
        (Config { reads: 0, ..ok.clone() }, "--reads 0: "),
        (Config { inject: Some("rq-error".parse().expect("a fault")), ..ok.clone() }, "--inject rq-error: "),
        (Config { command_time: Duration::from_secs(2), ..ok.clone() }, "--command-time 2000000: "),
    ];
    for (config, begins) in cases {
        let line = scale::run(&config).expect_err(begins).to_string();
        assert!(line.starts_with(begins) && !line.contains('\n'), "{line}");
    }
}
