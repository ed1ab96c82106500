//! The demonstration does what the hardware's rule allows, to the byte, and verifies every byte, whatever the options.
//!
//! | property | test |
//! |---|---|
//! | in order, exactly one run of each packet is placed, the one that the device's rule takes | `one_run_of_every_packet_is_placed` |
//! | digests are checked by the device only, wherever it sees all of a PDU | `the_device_checks_every_data_digest` |
//! | with 128 KiB reads at MTU 1500 at least 98.5 % are placed | `long_reads_are_placed_almost_whole` |
//! | PDUs that start packets of their own are placed whole | `aligned_pdus_are_placed_whole` |
//! | without the offload nothing is placed, and all is verified | `without_the_offload_software_copies` |
//! | a queue longer than the tag buffer table is refused by name, and nothing stays in the device | `a_queue_longer_than_the_tag_table_is_refused` |
//! | where the offload is impossible, `prefer` copies and says why | `prefer_copies_where_the_offload_is_impossible` |
//! | where the offload is impossible, `require` ends with the reason | `require_fails_where_the_offload_is_impossible` |
//! | a file is served as it is, holes too, and never changed | `a_file_is_served_and_left_alone` |
//! | any combination of options, layouts and buffers is verified, and what is placed is what the oracle says | `any_combination_is_verified` |

#![cfg(feature = "demo")]

mod demo_support;

use connectx_ddp::ddp::why::Why;
use connectx_ddp::demo::{self, Config, DemoError, NoTap, Outcome};
use connectx_ddp::shard::OffloadPolicy;
use demo_support::oracle::Oracle;
use demo_support::{assert_clean, assert_nothing_left, run, scripted, small};
use firmware_iface::caps::CmdHcaCap;
use firmware_iface::caps::groups::NvmeotcpCap;
use hw_regs::layout::Access;
use nvme_target::script::{Gather, Order, Script, Segmentation, Size, Success};
use proptest::prelude::*;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;
use virtual_nic::offload::WhichRun;

/// A device that takes this run of a packet.
fn device(which: WhichRun) -> virtual_nic::Config {
    let mut device = virtual_nic::Config::default();
    device.switches.which_run = which;
    device
}

/// A device without what this edit takes away.
fn lesser(edit: impl Fn(&mut virtual_nic::Capabilities)) -> virtual_nic::Config {
    let mut device = virtual_nic::Config::default();
    edit(&mut device.capabilities);
    device
}

/// Reads that were not bound.
fn unbound(outcome: &Outcome) -> u64 {
    let unbound = Why::ALL.into_iter().filter(|why| why.is_unbound());
    unbound.filter_map(|why| outcome.copied.get(why.name())).map(|copied| copied.reads).sum()
}

const ALL_RUNS: [WhichRun; 3] = [WhichRun::First, WhichRun::Last, WhichRun::Longest];

/// PDUs of many sizes, small ones among them: packets with several runs.
fn crumbs() -> Script {
    Script { seed: 3, c2h_data: Size::Between { min: 4, max: 3000 }, order: Order::Interleaved, ..Script::default() }
}

#[test]
fn one_run_of_every_packet_is_placed() {
    let cases = [
        (Config { io_size: 128 << 10, size: 2 << 20, queues: 2, ..small() }, Script::default()),
        (Config { io_size: 128 << 10, size: 2 << 20, mtu: 9000, ..small() }, Script::default()),
        (Config { io_size: 512, data_digest: true, ..small() }, Script::default()),
        (Config { io_size: 64 << 10, hdr_digest: true, ..small() }, crumbs()),
        (Config { io_size: 64 << 10, mtu: 9000, hdr_digest: true, data_digest: true, pieces: 5, ..small() }, crumbs()),
    ];
    for which in ALL_RUNS {
        let mut crowded = 0;
        for (config, script) in &cases {
            let config = scripted(config.clone(), script.clone());
            let mut oracle = Oracle::new(which);
            let outcome = demo::run_tapped(&config, device(which), &mut oracle, &mut |_| {}).expect("good options");
            assert_clean(&config, &outcome);
            assert_eq!(unbound(&outcome), 0, "{:?}", outcome.copied);
            let second_runs = outcome.copied.get("second-run").map_or(0, |copied| copied.bytes);
            assert_eq!(outcome.bytes_copied, second_runs, "in order, nothing else is copied: {:?}", outcome.copied);
            assert_eq!(oracle.io_queues(), config.queues as usize);
            assert_eq!(oracle.payload, config.size);
            let placed = (outcome.bytes_placed, outcome.packets_placed);
            assert_eq!(placed, (oracle.placeable, oracle.packets), "{which:?} {config:?}");
            crowded += oracle.crowded;
        }
        assert!(crowded > 100, "only {crowded} packets had more than one run: the rule was not tested");
    }
}

#[test]
fn the_device_checks_every_data_digest() {
    for (mtu, hdr_digest, script) in [(1500, false, Script::default()), (1500, true, crumbs()), (9000, true, crumbs())]
    {
        let config = Config { mtu, hdr_digest, data_digest: true, io_size: 32 << 10, ..scripted(small(), script) };
        let mut oracle = Oracle::new(WhichRun::First);
        let outcome = run(&config, &mut oracle).expect("good options");
        assert_clean(&config, &outcome);
        assert!(oracle.data_digests >= outcome.reads);
        assert_eq!((outcome.digests_hw, outcome.digests_sw), (oracle.data_digests, 0), "{config:?}");
        let off = Config { offload: OffloadPolicy::Off, ..config };
        let outcome = run(&off, &mut NoTap).expect("good options");
        assert_clean(&off, &outcome);
        assert_eq!(outcome.digests_hw, 0);
        assert!(outcome.digests_sw >= outcome.reads);
    }
}

#[test]
fn long_reads_are_placed_almost_whole() {
    let config = Config { size: 16 << 20, io_size: 128 << 10, mtu: 1500, ..Config::default() };
    let outcome = run(&config, &mut NoTap).expect("good options");
    assert_clean(&config, &outcome);
    let share = outcome.bytes_placed as f64 / outcome.bytes as f64;
    assert!(share >= 0.985, "{share}");
}

#[test]
fn aligned_pdus_are_placed_whole() {
    for (mtu, script) in [(1500, Script::default()), (9000, crumbs())] {
        let script = Script { segmentation: Segmentation::AlignPdus, ..script };
        let config = Config { mtu, io_size: 16 << 10, data_digest: true, ..scripted(small(), script) };
        let mut oracle = Oracle::new(WhichRun::First);
        let outcome = run(&config, &mut oracle).expect("good options");
        assert_clean(&config, &outcome);
        assert_eq!((outcome.bytes_placed, outcome.bytes_copied), (config.size, 0));
        assert_eq!((oracle.crowded, oracle.placeable), (0, config.size));
    }
}

#[test]
fn without_the_offload_software_copies() {
    for write in [false, true] {
        let config = Config { offload: OffloadPolicy::Off, write, queues: 2, ..small() };
        let outcome = run(&config, &mut NoTap).expect("good options");
        assert_clean(&config, &outcome);
        assert_eq!((outcome.bytes_placed, outcome.packets_placed, outcome.queues_offloaded), (0, 0, 0));
        assert_eq!(outcome.bytes_copied, config.size);
        assert_eq!(outcome.bytes_written, if write { config.size } else { 0 });
        assert!(outcome.counters.values().all(|count| *count == 0), "{:?}", outcome.counters);
    }
}

#[test]
fn a_queue_longer_than_the_tag_table_is_refused() {
    let device =
        || lesser(|caps| caps.edit(|c: &mut NvmeotcpCap| c.set(NvmeotcpCap::LOG_MAX_NVMEOTCP_TAG_BUFFER_SIZE, 6)));
    let config = Config { queue_size: 65, ..small() };
    let error = demo::run_tapped(&config, device(), &mut NoTap, &mut |_| {}).expect_err("65 is more than 64");
    let line = error.to_string();
    assert!(matches!(error, DemoError::Option(_)) && !line.contains('\n'), "{line}");
    assert!(
        line.starts_with("--queue-size 65: ") && line.contains("1 to 64") && line.contains("--offload off"),
        "{line}"
    );
    for fits in [Config { queue_size: 64, ..config.clone() }, Config { offload: OffloadPolicy::Off, ..config }] {
        let outcome = demo::run_tapped(&fits, device(), &mut NoTap, &mut |_| {}).expect("64, or no table");
        assert_clean(&fits, &outcome);
    }
}

/// What can be missing, and the word by which the reason must be known.
fn impossible() -> [(virtual_nic::Config, &'static str); 3] {
    [
        (lesser(|caps| caps.edit(|c: &mut CmdHcaCap| c.set(CmdHcaCap::NVMEOTCP, 0))), "cmd_hca_cap.nvmeotcp"),
        (lesser(|caps| caps.edit(|c: &mut NvmeotcpCap| c.set(NvmeotcpCap::ZEROCOPY, 0))), "nvmeotcp_cap.zerocopy"),
        (
            lesser(|caps| caps.edit(|c: &mut CmdHcaCap| c.set(CmdHcaCap::CQE_128_ALWAYS, 0))),
            "cmd_hca_cap.cqe_128_always",
        ),
    ]
}

#[test]
fn prefer_copies_where_the_offload_is_impossible() {
    for (device, word) in impossible() {
        let config = Config { queues: 2, data_digest: true, write: true, ..small() };
        let outcome = demo::run_tapped(&config, device, &mut NoTap, &mut |_| {}).expect("good options");
        assert_clean(&config, &outcome);
        assert_eq!((outcome.bytes_placed, outcome.bytes_copied, outcome.queues_offloaded), (0, config.size, 0));
        assert_eq!((outcome.digests_hw, outcome.digests_sw), (0, outcome.reads));
        for queue in &outcome.per_queue {
            assert_eq!((queue.offloaded, queue.reason), (false, Some("not-capable")));
            assert!(queue.detail.as_ref().is_some_and(|detail| detail.contains(word)), "{queue:?}");
        }
        let copied = &outcome.copied["queue-not-offloaded"];
        assert_eq!((copied.reads, copied.bytes), (outcome.reads, config.size));
    }
}

#[test]
fn require_fails_where_the_offload_is_impossible() {
    for (device, word) in impossible() {
        let config = Config { offload: OffloadPolicy::Require, ..small() };
        let outcome = demo::run_tapped(&config, device, &mut NoTap, &mut |_| {}).expect("good options");
        assert!(!outcome.verified && !outcome.completed && outcome.reads == 0);
        let why = &outcome.problems[0];
        assert!(why.starts_with("--offload require: queue 1: ") && why.contains(word), "{why}");
        assert_nothing_left(&config, &outcome);
    }
    let config = Config { offload: OffloadPolicy::Require, queues: 3, ..small() };
    let outcome = run(&config, &mut NoTap).expect("good options");
    assert_clean(&config, &outcome);
    assert_eq!(outcome.queues_offloaded, 3);
}

#[test]
fn a_file_is_served_and_left_alone() {
    let path = std::env::temp_dir().join(format!("cxddp-image-{}", std::process::id()));
    let contents = |path: &std::path::Path| std::fs::read(path).expect("the image");
    // Data at the start and across the last blocks, a hole of 3 MiB between, and a size that is no multiple of a read's.
    let size = (3 << 20) + 5 * 512;
    let file = File::create(&path).expect("a temporary file");
    file.set_len(size).expect("a sparse file");
    file.write_all_at(&(0..10_000u32).flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>(), 100).expect("room");
    file.write_all_at(&[0xa5; 2000], size - 2000).expect("room");
    let before = contents(&path);
    for write in [false, true] {
        let config = Config { image: Some(path.clone()), io_size: 12 << 10, queues: 3, write, ..small() };
        let mut oracle = Oracle::new(WhichRun::First);
        let outcome = run(&config, &mut oracle).expect("good options");
        assert_clean(&config, &outcome);
        assert_eq!((outcome.bytes, outcome.reads), (size, size.div_ceil(12 << 10)));
        assert_eq!((outcome.bytes_placed, outcome.packets_placed), (oracle.placeable, oracle.packets));
        assert!(contents(&path) == before, "the image was changed");
    }
    std::fs::remove_file(&path).expect("the image");
}

/// How many random demonstrations are carried out: `CXDDP_CASES`.
fn cases() -> u32 {
    std::env::var("CXDDP_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64)
}

fn scripts() -> impl Strategy<Value = Script> {
    let size = || {
        prop_oneof![
            2 => Just(Size::Whole),
            1 => (512u32..20_000).prop_map(Size::AtMost),
            2 => (4u32..3000, 4u32..3000).prop_map(|(a, b)| Size::Between { min: a.min(b), max: a.max(b) }),
        ]
    };
    let order = prop_oneof![Just(Order::InOrder), Just(Order::Shuffled), Just(Order::Interleaved)];
    let success = prop_oneof![Just(Success::WhenAllowed), Just(Success::Capsule), Just(Success::Random)];
    let gather = (1usize..20).prop_map(|commands| Gather { commands, wait: Duration::from_micros(50) });
    let segmentation = prop_oneof![
        2 => Just(Segmentation::Full),
        1 => Just(Segmentation::AlignPdus),
        1 => (1u16..2000, 1u16..2000).prop_map(|(a, b)| Segmentation::Random { min: a.min(b), max: a.max(b) }),
    ];
    let rest = (any::<u64>(), 0u32..4, prop_oneof![3 => Just(0u8), 1 => 0u8..=64]);
    (size(), size(), order, success, proptest::option::of(gather), segmentation, rest).prop_map(
        |(c2h_data, r2t, order, success, gather, segmentation, (seed, r2t_outstanding, extra_padding))| Script {
            seed,
            c2h_data,
            r2t,
            r2t_outstanding,
            order,
            gather,
            success,
            extra_padding,
            segmentation,
            faults: Vec::new(),
        },
    )
}

/// A number between 1 and `most`, mostly small, sometimes one of the ends.
fn mostly_small(most: u32) -> impl Strategy<Value = u32> {
    prop_oneof![4 => 1..=most.min(16), 2 => 1..=most, 1 => Just(1), 1 => Just(most)]
}

fn configs() -> impl Strategy<Value = Config> {
    let shape = (mostly_small(1024), mostly_small(1024), mostly_small(8), mostly_small(128), 1u64..300);
    let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.3), any::<bool>(), prop::bool::weighted(0.2));
    (shape, flags, scripts(), any::<u64>()).prop_map(
        |((blocks, queue_size, queues, pieces, reads), (hdr_digest, data_digest, write, jumbo, off), script, seed)| {
            let io_size = u64::from(blocks) * 512;
            // As many reads as fit in 1.5 MiB, and the last one rarely whole.
            let size = (io_size * reads).clamp(512, 3 << 19) - seed % io_size / 512 * 512 % 4096;
            Config {
                size,
                io_size,
                queue_size,
                queues,
                hdr_digest,
                data_digest,
                mtu: if jumbo { 9000 } else { 1500 },
                offload: if off { OffloadPolicy::Off } else { OffloadPolicy::Prefer },
                write,
                seed,
                pieces,
                script,
                ..Config::default()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_combination_is_verified(config in configs(), which in prop::sample::select(ALL_RUNS.to_vec())) {
        let mut oracle = Oracle::new(which);
        let outcome = demo::run_tapped(&config, device(which), &mut oracle, &mut |_| {});
        let outcome = outcome.map_err(|error| TestCaseError::fail(format!("{error}\n{config:?}")))?;
        assert_clean(&config, &outcome);
        prop_assert_eq!(outcome.bytes, config.size);
        prop_assert_eq!(oracle.payload, config.size);
        prop_assert_eq!(outcome.reads, config.size.div_ceil(config.io_size));
        prop_assert_eq!(outcome.bytes_written, if config.write { config.size } else { 0 });
        let digests = if config.data_digest { oracle.data_pdus } else { 0 };
        prop_assert_eq!(oracle.data_digests, digests);
        prop_assert_eq!(outcome.digests_hw + outcome.digests_sw, digests);
        if config.offload == OffloadPolicy::Off {
            prop_assert_eq!((outcome.bytes_placed, outcome.packets_placed, outcome.digests_hw), (0, 0, 0));
            return Ok(());
        }
        prop_assert_eq!(outcome.queues_offloaded, config.queues);
        prop_assert_eq!(outcome.digests_sw, 0);
        // A read that the control ring had no room for is copied, and said to be.
        match unbound(&outcome) == 0 {
            true => prop_assert_eq!((outcome.bytes_placed, outcome.packets_placed), (oracle.placeable, oracle.packets)),
            false => prop_assert!(outcome.bytes_placed < oracle.placeable, "{:?}", outcome.copied),
        }
        let setups = outcome.counters["rx_nvmeotcp_ddp_setup"] + outcome.counters["rx_nvmeotcp_ddp_setup_fail"];
        prop_assert_eq!(setups, outcome.reads);
        prop_assert_eq!(outcome.counters["rx_nvmeotcp_ddp_setup"], outcome.counters["rx_nvmeotcp_ddp_teardown"]);
        prop_assert_eq!(outcome.counters["rx_nvmeotcp_offload_packets"], outcome.packets_placed);
    }
}
