//! Everything that software does in the device's place has a reason, and it is the right one.
//!
//! | property | test |
//! |---|---|
//! | on a wire that loses and reorders, under every way in which a device may behave, bytes and digests add up over the reasons, and all are known | `every_copied_byte_has_a_known_reason` |
//! | each thing that a device or a wire can do shows as its reason, and as no other of its kind | `each_cause_shows_as_its_reason` |
//! | a completion that cannot be true costs its packet a copy, and is named | `a_refused_completion_is_named` |
//! | a run placed elsewhere is named | `a_misplaced_run_is_named` |
//! | `require` fails where one read cannot be bound, and names it; `prefer` copies it and says why | `require_means_every_read` |
//! | under `require` a full control ring delays reads and copies none | `require_waits_for_the_control_ring` |
//! | a queue that firmware refuses says what was refused, with the status | `a_refused_queue_says_why` |
//! | below a fixed threshold reads are copied, under `require` too, and say so | `a_threshold_is_a_reason` |
//! | an adaptive threshold comes to where scripted costs say, the same in every run, and its probes are named | `scripted_costs_set_the_threshold` |
//! | one read can be asked about, and its parts add up | `one_read_can_be_asked_about` |

#![cfg(feature = "demo")]

mod demo_support;

use connectx_ddp::ddp;
use connectx_ddp::ddp::policy::{Costs, Threshold};
use connectx_ddp::ddp::why::Why;
use connectx_ddp::demo::{self, Config, Impairments, NoTap, Outcome, Tap, WireConfig};
use connectx_ddp::observe::Direction;
use connectx_ddp::shard::OffloadPolicy;
use demo_support::{assert_clean, assert_explained, assert_nothing_left, small};
use firmware_iface::caps::CmdHcaCap;
use firmware_iface::caps::groups::NvmeotcpCap;
use firmware_iface::{Opcode, Status};
use hw_regs::cqe::OffloadCqe;
use hw_regs::layout::{Access, Layout};
use nvme_target::script::{Script, Segmentation, Size};
use proptest::prelude::*;
use std::time::Duration;
use virtual_nic::CommandFault;
use virtual_nic::offload::WhichRun;
use virtual_nic::offload::behaviour::{
    Behaviour, FirstFlag, HeaderPacket, HoleRule, Overlap, Reaction, ResumeRule, ResyncByte, SearchRule, Unverified,
};

fn wire(loss: f64, reorder: f64, seed: u64) -> WireConfig {
    let to_host = Impairments { loss, reorder, ..Impairments::default() };
    WireConfig { to_host, to_target: Impairments::default(), seed }
}

/// 2 MiB in reads of 64 KiB over two queues.
fn config() -> Config {
    Config { size: 2 << 20, io_size: 64 << 10, queues: 2, data_digest: true, ..small() }
}

fn run(config: &Config, device: virtual_nic::Config) -> Outcome {
    let outcome = demo::run_tapped(config, device, &mut NoTap, &mut |_| {}).expect("good options");
    assert_clean(config, &outcome);
    outcome
}

fn bytes(outcome: &Outcome, why: Why) -> u64 {
    outcome.copied.get(why.name()).map_or(0, |copied| copied.bytes)
}

fn digests(outcome: &Outcome, why: Why) -> u64 {
    outcome.copied.get(why.name()).map_or(0, |copied| copied.digests)
}

fn device(edit: impl FnOnce(&mut virtual_nic::Config)) -> virtual_nic::Config {
    let mut device = virtual_nic::Config::default();
    edit(&mut device);
    device
}

fn cases() -> u32 {
    std::env::var("CXDDP_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64)
}

/// Which run of a packet is placed, and how the device behaves otherwise.
fn behaviours() -> impl Strategy<Value = (WhichRun, Behaviour)> {
    let rules = (
        prop::sample::select(vec![HoleRule::Continue, HoleRule::Stop]),
        prop::sample::select(vec![HeaderPacket::Placed, HeaderPacket::Ring]),
        prop::sample::select(vec![Overlap::Bypass, Overlap::NewTail]),
        prop::sample::select(vec![SearchRule::Anywhere, SearchRule::StartOfPacket]),
        prop::sample::select(vec![ResumeRule::NextPdu, ResumeRule::NextPacket]),
        prop::sample::select(vec![Unverified::LatePacket, Unverified::DigestPacket, Unverified::EveryPacket]),
    );
    let which_run = prop::sample::select(vec![WhichRun::First, WhichRun::Last, WhichRun::Longest]);
    (which_run, rules).prop_map(|(which_run, (hole, header_packet, overlap, search, resume, unverified))| {
        let mut rules = Behaviour::default();
        (rules.hole, rules.header_packet, rules.overlap) = (hole, header_packet, overlap);
        (rules.search, rules.resume, rules.unverified) = (search, resume, unverified);
        (which_run, rules)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn every_copied_byte_has_a_known_reason(
        (which_run, offload_rules) in behaviours(), seed: u64, loss in 0.0..0.05, reorder in 0.0..0.05, jumbo: bool, header: bool, crumbs: bool,
        offload in prop::sample::select(vec![OffloadPolicy::Prefer, OffloadPolicy::Require, OffloadPolicy::Off]),
    ) {
        let c2h_data = if crumbs { Size::Between { min: 512, max: 20_000 } } else { Size::Whole };
        let config = Config {
            hdr_digest: header, mtu: if jumbo { 9000 } else { 1500 }, seed, offload,
            wire: wire(loss, reorder, seed), script: Script { c2h_data, seed, ..Script::default() }, ..config()
        };
        let outcome = run(&config, device(|d| (d.switches.which_run, d.switches.offload) = (which_run, offload_rules)));
        for (why, possible) in [
            (Why::QueueNotOffloaded, offload == OffloadPolicy::Off),
            (Why::NotTold, false),
            (Why::BindingLate, false),
            (Why::Misplaced, false),
            (Why::RefusedCompletion, false),
            (Why::NotSteered, false),
        ] {
            let found = outcome.copied.get(why.name());
            prop_assert!(possible || found.is_none(), "{}: {:?}\n{:?}\n{:?}", why.name(), outcome.copied, outcome.device, config);
        }
        // The device's own books, where every packet that it processed was kept, and none was old in part. It may also have
        // processed bytes that had come before in a late packet.
        if bytes(&outcome, Why::NotKept) == 0 && offload_rules.overlap == Overlap::Bypass {
            let told: u64 = outcome.device.bytes_unplaced.values().sum();
            let least = bytes(&outcome, Why::SecondRun) + bytes(&outcome, Why::Hole);
            let unclear = match outcome.device.lost {
                0 => 0,
                _ => bytes(&outcome, Why::ResyncPending) + bytes(&outcome, Why::FramingLost),
            };
            let most = least + unclear + bytes(&outcome, Why::LatePacket);
            prop_assert!((least..=most).contains(&told), "{:?}\n{:?}", outcome.copied, outcome.device);
        }
        let classes = |of: &demo::QueueOutcome| of.reads_placed + of.reads_in_part + of.reads_copied;
        prop_assert_eq!(outcome.per_queue.iter().map(classes).sum::<u64>(), outcome.reads);
    }
}

#[test]
fn each_cause_shows_as_its_reason() {
    let losses = Config { wire: wire(0.02, 0.0, 5), size: 8 << 20, ..config() };
    let small_pdus = Config { script: Script { c2h_data: Size::AtMost(8192), ..Script::default() }, ..losses.clone() };
    let aligned = Script { segmentation: Segmentation::AlignPdus, ..Script::default() };
    let quiet = Config { script: aligned, ..config() };
    let plain = virtual_nic::Config::default;
    let behaviour = |edit: &dyn Fn(&mut Behaviour)| device(|d| edit(&mut d.switches.offload));

    let outcome = run(&quiet, plain());
    assert_eq!((outcome.bytes_copied, outcome.copied.len()), (0, 0), "{:?}", outcome.copied);

    // A hole: what the device does with the rest of the PDU is its rule.
    let goes_on = run(&losses, plain());
    assert!(bytes(&goes_on, Why::LatePacket) > 0 && digests(&goes_on, Why::LatePacket) > 0);
    assert_eq!(bytes(&goes_on, Why::Hole), 0, "{:?}", goes_on.copied);
    let stops = run(&losses, behaviour(&|b| b.hole = HoleRule::Stop));
    assert!(bytes(&stops, Why::Hole) > bytes(&stops, Why::LatePacket), "{:?}", stops.copied);

    // A lost header: the device searches, asks, waits.
    let searches = run(&small_pdus, plain());
    assert!(bytes(&searches, Why::FramingLost) > 0 && bytes(&searches, Why::ResyncPending) > 0);
    let never_right = run(&small_pdus, behaviour(&|b| b.resync_byte = ResyncByte::Last));
    assert!(bytes(&never_right, Why::ResyncPending) > bytes(&searches, Why::ResyncPending));
    assert!(never_right.per_queue.iter().all(|queue| queue.resyncs > 0 && queue.resyncs_confirmed == 0));
    let wrong_flag = FirstFlag::WronglySet;
    let doubted = run(&small_pdus, behaviour(&|b| (b.first_flag, b.resume) = (wrong_flag, ResumeRule::NextPacket)));
    assert!(digests(&doubted, Why::DigestAfterResync) > 0, "{:?}", doubted.copied);

    // Bindings that take effect too late.
    let late = run(&quiet, behaviour(&|b| b.umr_packets = 20));
    assert!(bytes(&late, Why::BindingLate) > 0 && bytes(&late, Why::NotTold) == 0, "{:?}", late.copied);
    assert_eq!(bytes(&late, Why::BindingLate), late.bytes_copied, "{:#?}\n{:?}", late.copied, late.device);
    // In the end of the PDU the device does not ask the tag again: nothing of the read is placed, and nobody says why.
    let never = run(&quiet, behaviour(&|b| (b.umr_packets, b.free_key) = (20, Reaction::RestOfPdu)));
    assert!(bytes(&never, Why::NotTold) > 0 && bytes(&never, Why::BindingLate) == 0, "{:?}", never.copied);

    // A device that checks no digests.
    let unchecked = device(|d| {
        d.capabilities.edit(|c: &mut NvmeotcpCap| c.set(NvmeotcpCap::CRC_RX, 0));
    });
    let outcome = run(&quiet, unchecked);
    assert_eq!(digests(&outcome, Why::DigestNotOffloaded), outcome.digests_sw);
    assert!(outcome.digests_sw == outcome.reads && outcome.bytes_copied == 0);
}

/// Changes the completions of placed packets, one of so many.
struct Liar(u64, fn(&mut OffloadCqe));

impl Tap for Liar {
    fn frame(&mut self, _: Duration, _: Direction, _: &[u8]) {}

    fn device(&mut self, nic: &mut virtual_nic::VirtualNic) {
        let (every, lie) = (self.0, self.1);
        let mut number = 0;
        nic.faults().tamper_completions(Some(Box::new(move |bytes| {
            let mut cqe = OffloadCqe::from_prefix(bytes);
            if bytes.len() == OffloadCqe::SIZE && cqe.is_set(OffloadCqe::CQE64_B1_NVMEOTCP_ZC) {
                number += 1;
                if number % every == 0 {
                    lie(&mut cqe);
                    bytes.copy_from_slice(cqe.bytes());
                }
            }
        })));
    }
}

#[test]
fn a_refused_completion_is_named() {
    for lie in [
        (|cqe| cqe.set(OffloadCqe::CCID, 0xffff)) as fn(&mut OffloadCqe),
        |cqe| cqe.set(OffloadCqe::CCOFF_OR_RESYNC_TCP_SN, u32::MAX),
        |cqe| cqe.set(OffloadCqe::CQE64_FLOW_TAG, 0xff_ffff),
    ] {
        let config = config();
        let outcome = demo::run_tapped(&config, virtual_nic::Config::default(), &mut Liar(101, lie), &mut |_| {});
        let outcome = outcome.expect("good options");
        assert!(outcome.completed && outcome.failed == 0 && outcome.bytes_wrong == 0, "{:?}", outcome.problems);
        assert_explained(&config, &outcome);
        assert!(bytes(&outcome, Why::RefusedCompletion) > 0, "{:?}", outcome.copied);
        assert_eq!(bytes(&outcome, Why::NotTold) + bytes(&outcome, Why::Hole), 0, "{:?}", outcome.copied);
    }
}

#[test]
fn a_misplaced_run_is_named() {
    let config = Config { size: 256 << 10, ..config() };
    let mut liar = Liar(150, |cqe| {
        let offset = cqe.get(OffloadCqe::CCOFF_OR_RESYNC_TCP_SN);
        cqe.set(OffloadCqe::CCOFF_OR_RESYNC_TCP_SN, offset - 4);
    });
    let outcome =
        demo::run_tapped(&config, virtual_nic::Config::default(), &mut liar, &mut |_| {}).expect("good options");
    assert!(outcome.completed && outcome.failed == 1 && outcome.bytes_wrong == 0, "{:?}", outcome.problems);
    assert!(bytes(&outcome, Why::Misplaced) > 0, "{:?}", outcome.copied);
}

#[test]
fn require_means_every_read() {
    // Lists of 16 pieces at most, and buffers of 40.
    let short = || device(|d| d.capabilities.edit(|c: &mut CmdHcaCap| c.set(CmdHcaCap::LOG_MAX_KLM_LIST_SIZE, 4)));
    let config = Config { pieces: 40, data_digest: false, ..config() };
    let preferred = run(&config, short());
    assert_eq!(preferred.queues_offloaded, 2);
    let all = preferred.copied["scatter-list-too-long"];
    assert_eq!((all.reads, all.bytes, preferred.copied.len()), (preferred.reads, config.size, 1));
    let required = Config { offload: OffloadPolicy::Require, ..config.clone() };
    let outcome = demo::run_tapped(&required, short(), &mut NoTap, &mut |_| {}).expect("good options");
    assert!(!outcome.verified && !outcome.completed && outcome.reads == 0);
    let line = &outcome.problems[0];
    for words in ["--offload require", "65536 bytes at byte 0", "more device-contiguous pieces", "larger pieces"] {
        assert!(line.contains(words), "{line}");
    }
    assert_nothing_left(&required, &outcome);
    // With room for the lists it is met.
    let outcome = run(&required, virtual_nic::Config::default());
    assert!(outcome.per_queue.iter().all(|queue| queue.bound > 0 && queue.reads_copied == 0));
}

#[test]
fn require_waits_for_the_control_ring() {
    // Control rings of 32 blocks, for 64 reads at a time.
    let small_rings = || device(|d| d.capabilities.edit(|c: &mut CmdHcaCap| c.set(CmdHcaCap::LOG_MAX_QP_SZ, 11)));
    let config = Config { queue_size: 256, io_size: 4096, pieces: 100, queues: 1, ..config() };
    let preferred = run(&config, small_rings());
    let unbound = bytes(&preferred, Why::ControlRingFull) + bytes(&preferred, Why::Draining);
    assert!(unbound > 0, "the ring is too large for this test: {:?}", preferred.copied);
    let required = run(&Config { offload: OffloadPolicy::Require, ..config }, small_rings());
    assert!(
        Why::ALL.iter().filter(|why| why.is_unbound()).all(|why| bytes(&required, *why) == 0),
        "{:?}",
        required.copied
    );
    assert_eq!(required.per_queue[0].bound, required.reads);
}

/// A device whose firmware refuses one command.
struct Refusing {
    opcode: Opcode,
    skip: u32,
}

impl Tap for Refusing {
    fn frame(&mut self, _: Duration, _: Direction, _: &[u8]) {}

    fn device(&mut self, nic: &mut virtual_nic::VirtualNic) {
        let fault = CommandFault::Refuse { status: Status::NO_RES_ERR, syndrome: 0xabc };
        nic.faults().schedule(Some(self.opcode), fault, self.skip, 1);
    }
}

#[test]
fn a_refused_queue_says_why() {
    // How many of these commands come before the first of an offload queue.
    let cases = [
        (Opcode::CREATE_GENERAL_OBJECT, 0, "tag-table-refused"),
        (Opcode::CREATE_SQ, 1, "control-ring-refused"),
        (Opcode::CREATE_TIR, 1, "tir-refused"),
        (Opcode::CREATE_MKEY, 1, "memory-keys-refused"),
        (Opcode::SET_FLOW_TABLE_ENTRY, 1, "steering-refused"),
    ];
    for (opcode, skip, name) in cases {
        let config = config();
        let refusing = &mut Refusing { opcode, skip };
        let outcome = demo::run_tapped(&config, virtual_nic::Config::default(), refusing, &mut |_| {});
        let outcome = outcome.expect("good options");
        assert_clean(&config, &outcome);
        let [first, second] = &outcome.per_queue[..] else { panic!("two queues") };
        assert_eq!((first.reason, second.reason), (Some(name), None), "{opcode:?}");
        let detail = first.detail.as_ref().expect("told");
        assert!(detail.contains("NO_RES_ERR") && detail.contains("0x00000abc"), "{name}: {detail}");
        assert!(first.reads_copied > 0 && second.bound > 0, "{name}: {:?}", outcome.per_queue);
        assert_eq!(bytes(&outcome, Why::QueueNotOffloaded), first.bytes_copied);
        let required = Config { offload: OffloadPolicy::Require, ..config };
        let refusing = &mut Refusing { opcode, skip };
        let outcome = demo::run_tapped(&required, virtual_nic::Config::default(), refusing, &mut |_| {});
        let outcome = outcome.expect("good options");
        let problem = &outcome.problems[0];
        assert!(
            !outcome.completed && problem.contains("the offload is required, but I/O queue 1 has none"),
            "{problem}"
        );
        assert!(outcome.problems[0].contains("0x00000abc"), "{:?}", outcome.problems);
        assert_nothing_left(&required, &outcome);
    }
}

#[test]
fn a_threshold_is_a_reason() {
    for offload in [OffloadPolicy::Prefer, OffloadPolicy::Require] {
        let config = Config { offload, ..config() };
        let above = Config { threshold: Threshold::Fixed(config.io_size as u32), ..config.clone() };
        assert_eq!(bytes(&run(&above, virtual_nic::Config::default()), Why::BelowThreshold), 0);
        let below = Config { threshold: Threshold::Fixed(config.io_size as u32 + 1), ..config };
        let outcome = run(&below, virtual_nic::Config::default());
        assert_eq!(bytes(&outcome, Why::BelowThreshold), below.size, "{:?}", outcome.copied);
        // The device checks digests of what it does not place.
        assert_eq!((outcome.digests_hw, outcome.digests_sw), (outcome.reads, 0));
    }
}

#[test]
fn scripted_costs_set_the_threshold() {
    let aligned = Script { segmentation: Segmentation::AlignPdus, ..Script::default() };
    let config = |bind_ns, io_size| Config {
        size: 24 << 20,
        io_size,
        threshold: Threshold::Auto(Costs::Scripted(ddp::policy::Script {
            bind_ns,
            unbind_ns: 300,
            copy_ns_per_kib: 100,
        })),
        script: aligned.clone(),
        data_digest: false,
        ..config()
    };
    // (300 + 100) ns over 100 ns per KiB are 4 KiB, and nanoseconds are whole numbers: reads of 8 KiB are copied at first, until probes say that binding is cheap.
    let cheap = config(100, 8192);
    let outcome = run(&cheap, virtual_nic::Config::default());
    assert!(outcome.threshold.auto && (4096..=5120).contains(&outcome.threshold.bytes), "{:?}", outcome.threshold);
    assert!(
        outcome.threshold.probes > 0
            && bytes(&outcome, Why::BelowThreshold) > 0
            && outcome.bytes_placed > cheap.size / 2
    );
    let again = run(&cheap, virtual_nic::Config::default());
    assert_eq!((again.copied, again.threshold.why), (outcome.copied, outcome.threshold.why));
    // 100 KiB: reads of 32 KiB are bound at first, until a probe says that copying is cheap.
    let dear = run(&config(9_700, 32 << 10), virtual_nic::Config::default());
    assert!((90 << 10..=110 << 10).contains(&dear.threshold.bytes), "{:?}", dear.threshold);
    let probes = dear.copied["threshold-probe"];
    assert!(probes.reads > 0 && probes.bytes == probes.reads * (32 << 10) && bytes(&dear, Why::BelowThreshold) > 0);
    // Nothing may be copied to probe where every read must be bound.
    let required = Config { offload: OffloadPolicy::Require, ..config(9_700, 32 << 10) };
    let outcome = run(&required, virtual_nic::Config::default());
    assert_eq!((outcome.bytes_copied, outcome.threshold.bytes), (0, ddp::policy::START));
    assert!(outcome.threshold.why.contains("what copying costs is not known"), "{:?}", outcome.threshold);
}

#[test]
fn one_read_can_be_asked_about() {
    let config = Config { wire: wire(0.03, 0.0, 9), ..config() };
    let (mut placed, mut copied, mut table) = (0, 0, 0);
    for ask in 0..32 {
        let outcome = run(&Config { ask: Some(ask), ..config.clone() }, virtual_nic::Config::default());
        let read = outcome.read.expect("it was done");
        assert_eq!((read.read, read.offset, read.placed + read.copied), (ask, ask << 16, 64 << 10));
        let told: u32 = read.reasons.iter().filter_map(|reason| reason.bytes).sum();
        assert!(told == read.copied || read.reasons.len() > 4, "{read:?}");
        (placed, copied) = (placed + u64::from(read.placed), copied + u64::from(read.copied));
        table += u64::from(told);
        if ask == 31 {
            assert_eq!((placed, copied, table), (outcome.bytes_placed, outcome.bytes_copied, outcome.bytes_copied));
        }
    }
}
