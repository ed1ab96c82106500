//! Recovery: whatever fails, at whatever moment, with reads and writes under way and the device writing wherever it still may,
//! every request ends, with right bytes if it succeeds, and nothing is left.
//!
//! | property | test |
//! |---|---|
//! | every fault of the device, with and without the offload, at many moments: reads succeed, writes too or say that it is uncertain, nothing is left | `every_fault_is_recovered_from` |
//! | the same with a device that writes into everything it holds, also during the resets | `a_hostile_device_changes_nothing` |
//! | the same for faults that meet each other and the recovery | `faults_during_recovery_are_recovered_from` |
//! | broken connections are made anew, and the offload with them | `broken_connections_are_made_anew` |
//! | a fault leads to what is needed and not more: connections, queues, function | `no_more_is_made_anew_than_needed` |
//! | a buffer that the device may still write comes back after the reset, never before | `a_quarantined_buffer_waits_for_the_reset` |
//! | a function that was reset behind the driver's back is found even if its registers do not tell | `firmware_is_asked_when_nothing_connects` |
//! | a write is never submitted again once a byte of it was sent; one that was not is | `a_write_is_not_repeated_once_it_was_sent` |
//! | a controller that comes back with another disk behind the number is not read, nor written; when the disk is back it is | `another_disk_is_not_taken_for_the_first` |
//! | a namespace without identifiers is served again as long as nothing tells it from what it was | `a_disk_without_a_name_goes_on` |
//! | recovery ends at its deadline: every request with an error, the session with the reason | `recovery_ends_at_its_deadline` |
//! | without recovery the first loss is the end | `without_recovery_the_first_loss_is_the_end` |
//! | waits grow and attempts are counted | `waits_grow` |
//! | a device that fails again and again is reset | `a_device_that_fails_again_and_again_is_reset` |
//! | a request whose every attempt fails ends | `a_request_that_always_fails_ends` |
//! | a session can be shut down, or closed, whatever it is doing | `a_session_can_be_closed_at_any_time` |
//! | `--inject` of every fault: verified, and the outcome says what was made anew | `the_demonstration_recovers` |
//! | a driver that sleeps on interrupts is woken for every packet, also for one that comes while it falls asleep, and by errors and resets | `a_sleeping_driver_misses_nothing` |
//! | requests that cannot be are refused at once | `impossible_requests_are_refused` |
#![cfg(feature = "demo")]

mod rig;

use connectx_ddp::demo::{self, NoTap};
use connectx_ddp::dma::IoBuf;
use connectx_ddp::nvme::command::Request;
use connectx_ddp::platform::Platform;
use connectx_ddp::session::{Difference, Level, Refused, RequestError};
use connectx_ddp::shard::OffloadPolicy;
use hw_regs::init_segment::HealthSyndrome;
use nvme_target::Script;
use nvme_target::script::{At, Fault as TargetFault, Kind, On};
use rig::{BLOCK, Plan, Rig};
use std::ops::Range;
use std::time::Duration;
use virtual_nic::{Fault, Hostile, Role};

/// Every fault of the device.
const FAULTS: [Fault; 12] = [
    Fault::WorkRequest(Role::Receive),
    Fault::WorkRequest(Role::Send),
    Fault::WorkRequest(Role::Control),
    Fault::CqOverrun(Role::Receive),
    Fault::CqOverrun(Role::Send),
    Fault::CqOverrun(Role::Control),
    Fault::Fatal(HealthSyndrome::FW_INTERNAL_ERR),
    Fault::Gone(Duration::from_millis(600)),
    Fault::Gone(Duration::from_millis(4700)),
    Fault::Reset,
    Fault::LostCommand,
    Fault::Hang,
];

fn policy(offload: bool) -> OffloadPolicy {
    if offload { OffloadPolicy::Require } else { OffloadPolicy::Off }
}

/// Requests under way for a random number of steps.
fn work(rig: &mut Rig, most: u64) {
    for _ in 0..=rig.random.below(most) {
        rig.fill();
        rig.step();
    }
}

/// Everything ends well: reads in success, writes too unless nobody can know; the session is shut down and nothing is left.
fn expect_recovered(mut rig: Rig, what: &str) {
    rig.finish();
    assert!(rig.ended.is_none(), "{what}: {:?}\nafter {:#?}\n{:?}", rig.ended, rig.losses, rig.recovered);
    for (token, outcome) in &rig.done {
        let good = outcome.result.is_ok() || outcome.write && outcome.result == Err(RequestError::WriteUncertain);
        assert!(good, "{what}: request {token:#x}: {outcome:?}");
    }
    // And it goes on working.
    let done = rig.done.len();
    rig.fill();
    rig.finish();
    assert!(rig.done.len() > done);
    rig.shutdown();
    assert!(rig.down.is_some(), "{what}: {:?}", rig.ended);
    rig.close();
}

#[test]
fn every_fault_is_recovered_from() {
    every_fault(0..36);
}

/// The same in numbers: `cargo test --release --test recovery -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn every_fault_is_recovered_from_hundreds_of_times() {
    every_fault(1000..1600);
}

fn every_fault(seeds: Range<u64>) {
    for seed in seeds {
        let (fault, offload) = (FAULTS[seed as usize % FAULTS.len()], !(seed / 12).is_multiple_of(3));
        let plan = Plan { offload: policy(offload), digests: seed % 2 == 0, ..Plan::new(seed) };
        let mut rig = Rig::live(&plan);
        work(&mut rig, 100);
        let pick = rig.random.below(4);
        rig.world.platform.nic().inject(fault, pick);
        work(&mut rig, 100);
        expect_recovered(rig, &format!("seed {seed}, {fault:?}, offload {offload}"));
    }
}

#[test]
fn a_hostile_device_changes_nothing() {
    hostile(0..24);
}

/// The same in numbers.
#[test]
#[ignore = "takes minutes"]
fn a_hostile_device_changes_nothing_hundreds_of_times() {
    hostile(1000..1360);
}

fn hostile(seeds: Range<u64>) {
    let mut all = 0;
    for seed in seeds {
        let fault = FAULTS[seed as usize % FAULTS.len()];
        // Half of them leave the bytes of reads alone, so that these are compared too.
        let bindings = (seed / 12).is_multiple_of(2);
        let hostile = Hostile { seed, every: 60, bindings, buffers: true, pages: true };
        let mut rig = Rig::live(&Plan { hostile: Some(hostile), ..Plan::new(seed) });
        work(&mut rig, 60);
        rig.world.platform.nic().inject(fault, seed);
        work(&mut rig, 60);
        rig.finish();
        rig.expect_unchanged();
        let written = rig.world.platform.nic().written();
        assert!(written.buffers > 0 && (bindings || written.bindings == 0), "{written:?}");
        all += written.bindings;
        expect_recovered(rig, &format!("seed {seed}, {fault:?}"));
    }
    assert!(all > 1000, "the device hardly ever wrote a bound buffer: {all}");
}

#[test]
fn faults_during_recovery_are_recovered_from() {
    during_recovery(0..24);
}

/// The same in numbers.
#[test]
#[ignore = "takes minutes"]
fn faults_during_recovery_are_recovered_from_hundreds_of_times() {
    during_recovery(1000..1600);
}

fn during_recovery(seeds: Range<u64>) {
    for seed in seeds {
        let mut rig = Rig::live(&Plan { offload: policy(seed % 4 != 0), ..Plan::new(seed) });
        for _ in 0..3 {
            work(&mut rig, 40);
            let (which, pick) = (rig.random.below(FAULTS.len() as u64 + 1), rig.random.below(4));
            match FAULTS.get(which as usize) {
                Some(fault) => drop(rig.world.platform.nic().inject(*fault, pick)),
                None => rig.world.target.break_off(),
            }
            let most = 8 + rig.random.below(14);
            let time = Duration::from_micros(rig.random.below(1 << most));
            rig.run_for(time);
        }
        rig.world.platform.nic().faults().clear();
        expect_recovered(rig, &format!("seed {seed}"));
    }
}

#[test]
fn broken_connections_are_made_anew() {
    for offload in [true, false] {
        let mut rig = Rig::live(&Plan { offload: policy(offload), ..Plan::new(1) });
        for round in 0..4 {
            work(&mut rig, 60);
            rig.fill();
            rig.world.target.break_off();
            rig.until("the loss", 10, |rig| rig.losses.len() > round);
            rig.finish();
            rig.until("recovery", 60, |rig| rig.recovered.len() == round + 1);
            assert_eq!(rig.session.offloaded(), if offload { 2 } else { 0 });
        }
        assert!(rig.recovered.iter().all(|recovery| recovery.level == Level::Connections));
        assert!(rig.recovered[0].took < Duration::from_millis(100), "{:?}", rig.recovered[0]);
        assert_eq!(rig.counters().recovered, [4, 0, 0]);
        assert!(rig.counters().resubmitted > 0);
        if offload {
            let placed: u64 = rig.done.values().map(|outcome| u64::from(outcome.placed)).sum();
            assert!(placed > 0);
        }
        expect_recovered(rig, "broken connections");
    }
}

#[test]
fn no_more_is_made_anew_than_needed() {
    let cases = [
        // Taken back to work by the shard itself.
        (Fault::WorkRequest(Role::Receive), None),
        (Fault::WorkRequest(Role::Send), None),
        (Fault::WorkRequest(Role::Control), Some(Level::Connections)),
        (Fault::CqOverrun(Role::Control), Some(Level::Connections)),
        (Fault::CqOverrun(Role::Receive), Some(Level::Queues)),
        (Fault::CqOverrun(Role::Send), Some(Level::Queues)),
        (Fault::Fatal(HealthSyndrome::FW_INTERNAL_ERR), Some(Level::Function)),
        (Fault::Gone(Duration::from_secs(3)), Some(Level::Function)),
        (Fault::Reset, Some(Level::Function)),
    ];
    for (fault, level) in cases {
        let mut rig = Rig::live(&Plan::new(3));
        rig.fill();
        rig.step();
        assert!(rig.world.platform.nic().inject(fault, 0));
        rig.fill();
        rig.until("the answers", 60, |rig| rig.open.is_empty() && (level.is_none() || !rig.recovered.is_empty()));
        let levels: Vec<_> = rig.recovered.iter().map(|recovery| recovery.level).collect();
        assert_eq!(levels, level.into_iter().collect::<Vec<_>>(), "{fault:?}: {:?}", rig.losses);
        let recoveries = rig.session.totals().shard.recoveries;
        assert_eq!(recoveries, u64::from(level.is_none()), "{fault:?}");
        assert_eq!(rig.session.offloaded(), 2, "{fault:?}");
        expect_recovered(rig, &format!("{fault:?}"));
    }
}

#[test]
fn a_quarantined_buffer_waits_for_the_reset() {
    for seed in 0..6 {
        let hostile = Hostile { seed, every: 30, bindings: true, buffers: true, pages: true };
        let mut rig = Rig::live(&Plan { hostile: Some(hostile), ..Plan::new(seed) });
        while rig.begin(false) {}
        rig.until("bindings", 1, |rig| rig.world.platform.nic().inventory().bound_tags > 4);
        // Nothing can be asked of a function that is gone, and it cannot be reset either.
        rig.world.platform.nic().faults().set_gone(true);
        rig.run_for(Duration::from_secs(30));
        let kept = rig.counters().quarantined;
        assert!(kept > 0 && rig.open.len() as u64 >= kept, "{kept}");
        assert!(rig.session.shard().is_none() && rig.counters().attempts > 3);
        // It is back, and writes into everything that it was told of before it was reset.
        rig.world.platform.nic().faults().set_gone(false);
        rig.world.platform.nic().write_everywhere();
        rig.finish();
        assert!(rig.done.values().all(|outcome| outcome.result.is_ok() && outcome.returned));
        assert!(rig.recovered.iter().any(|recovery| recovery.level == Level::Function));
        expect_recovered(rig, &format!("seed {seed}"));
    }
}

#[test]
fn firmware_is_asked_when_nothing_connects() {
    let mut rig = Rig::live(&Plan { offload: OffloadPolicy::Off, queue_address_reads_back: false, ..Plan::new(12) });
    rig.fill();
    rig.world.platform.nic().inject(Fault::Reset, 0);
    rig.until("recovery", 300, |rig| !rig.recovered.is_empty());
    assert_eq!(rig.recovered[0].level, Level::Function);
    expect_recovered(rig, "a silent reset");
}

#[test]
fn a_write_is_not_repeated_once_it_was_sent() {
    let (mut uncertain, mut repeated) = (0, 0);
    for seed in 0..30 {
        let mut rig = Rig::live(&Plan { offload: policy(seed % 2 == 0), ..Plan::new(seed) });
        for _ in 0..3 {
            let sent = rig.random.below(13);
            rig.begin(true);
            for _ in 0..sent {
                rig.step();
            }
            rig.world.target.break_off();
            // What is begun now meets the reset before it is sent.
            rig.world.step(&mut NoTap);
            while rig.begin(true) {}
            rig.finish();
        }
        for outcome in rig.done.values() {
            match &outcome.result {
                Ok(()) => repeated += u64::from(outcome.attempts > 1),
                Err(RequestError::WriteUncertain) => uncertain += 1,
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        // Each write that the target has answered was answered once; it may have executed some that nobody heard of.
        let succeeded = rig.done.values().filter(|outcome| outcome.result.is_ok()).count() as u64;
        let executed = rig.world.target.counters().writes;
        let lost = rig.done.values().filter(|outcome| outcome.result.is_err()).count() as u64;
        assert!((succeeded..=succeeded + lost).contains(&executed), "{succeeded} succeeded, {executed} were executed");
        assert_eq!(rig.counters().uncertain_writes, lost);
        expect_recovered(rig, &format!("seed {seed}"));
    }
    assert!(uncertain > 10 && repeated > 10, "{uncertain} uncertain, {repeated} repeated");
}

#[test]
fn another_disk_is_not_taken_for_the_first() {
    for seed in 0..6 {
        let plan = Plan { offload: policy(seed % 2 == 0), ..Plan::new(seed) };
        let mut rig = Rig::live(&plan);
        work(&mut rig, 60);
        rig.fill();
        rig.world.target = rig::target(&plan, Some(1));
        rig.until("recovery", 120, |rig| !rig.recovered.is_empty() && rig.open.is_empty());
        let changed = |error: &RequestError| match error {
            RequestError::NamespaceChanged { nsid: 1, what } => matches!(what, Difference::Nguid { .. }),
            error => *error == RequestError::WriteUncertain,
        };
        assert!(rig.done.values().all(|outcome| outcome.returned && outcome.result.as_ref().err().is_none_or(changed)));
        // What is begun now is told at once.
        let done = rig.done.len();
        (0..20).for_each(|n| assert!(rig.begin(n % 4 == 0)));
        rig.finish();
        assert_eq!(rig.done.len(), done + 20);
        let told = |outcome: &rig::Outcome| matches!(outcome.result, Err(RequestError::NamespaceChanged { .. }));
        let failed = rig.done.values().filter(|outcome| told(outcome)).count();
        assert!(failed >= rig.done.len() - done, "seed {seed}");
        assert_eq!(rig.counters().namespace_changed, failed as u64);
        let counters = rig.world.target.counters();
        assert_eq!((counters.reads, counters.writes), (0, 0), "seed {seed}: the other disk");
        let what = RequestError::NamespaceChanged { nsid: 1, what: Difference::Missing }.to_string();
        assert!(what.contains("namespace 1") && what.contains("A new session"), "{what}");
        let events = rig.session.event_log().events().filter(|event| event.what.name() == "namespace-changed");
        assert_eq!(events.count(), 1);
        rig.done.clear();
        rig.world.target = rig::target(&plan, Some(0));
        rig.until("recovery", 120, |rig| rig.recovered.len() == 2);
        expect_recovered(rig, &format!("seed {seed}"));
    }
}

#[test]
fn a_disk_without_a_name_goes_on() {
    let plan = Plan::new(4);
    let mut rig = Rig::new(&plan);
    rig.world.target = rig::target(&plan, None);
    rig.until("the session to be ready", 60, |rig| rig.ready);
    rig.fill();
    rig.world.target.break_off();
    rig.until("recovery", 120, |rig| !rig.recovered.is_empty());
    expect_recovered(rig, "no identifiers");
}

#[test]
fn recovery_ends_at_its_deadline() {
    for (seed, gone) in [(1, true), (2, false), (3, true), (4, false)] {
        let ctrl_loss_timeout = Duration::from_secs(25);
        let mut rig = Rig::live(&Plan { ctrl_loss_timeout, offload: policy(seed < 3), ..Plan::new(seed) });
        work(&mut rig, 20);
        rig.fill();
        let began = rig.world.now();
        // The function is gone, or firmware refuses to make queues.
        if gone {
            rig.world.platform.nic().faults().set_gone(true);
        } else {
            let refuse = virtual_nic::CommandFault::Refuse { status: firmware_iface::Status::NO_RES_ERR, syndrome: 1 };
            rig.world.platform.nic().faults().schedule(Some(firmware_iface::Opcode::CREATE_RQ), refuse, 0, u32::MAX);
            rig.world.platform.nic().inject(Fault::CqOverrun(Role::Receive), 0);
        }
        rig.until("the end", 200, |rig| rig.ended.is_some());
        let took = rig.world.now() - began;
        assert!(took >= ctrl_loss_timeout && took < ctrl_loss_timeout + Duration::from_secs(40), "{took:?}");
        let why = rig.ended.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(why.contains("given up after") && why.contains("attempts"), "{why}");
        assert!(why.contains(if gone { "off the bus" } else { "NO_RES" }), "{why}");
        assert!(rig.done.values().any(|outcome| outcome.result == Err(RequestError::GivenUp)));
        assert!(rig.done.values().all(|outcome| outcome.returned || gone && outcome.result.is_err()));
        assert!(!rig.begin(false), "nothing is taken any more");
        rig.run_for(Duration::from_secs(5));
        rig.world.platform.nic().faults().clear();
        rig.close();
    }
}

#[test]
fn without_recovery_the_first_loss_is_the_end() {
    let mut rig = Rig::live(&Plan { ctrl_loss_timeout: Duration::ZERO, ..Plan::new(5) });
    work(&mut rig, 20);
    rig.fill();
    rig.world.target.break_off();
    rig.until("the end", 10, |rig| rig.ended.is_some());
    let why = rig.ended.as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(why.contains("disconnected: ") && !why.contains("given up"), "{why}");
    assert_eq!(rig.counters().recovered, [0; 3]);
    assert!(rig.done.values().any(|outcome| outcome.result.is_err()));
    rig.close();
    // The same where nothing was ever connected.
    let mut rig = Rig::new(&Plan { ctrl_loss_timeout: Duration::ZERO, ..Plan::new(6) });
    rig.world.platform.nic().faults().set_gone(true);
    rig.until("the end", 300, |rig| rig.ended.is_some());
    rig.close();
}

#[test]
fn waits_grow() {
    let mut rig = Rig::live(&Plan::new(6));
    rig.world.platform.nic().faults().set_gone(true);
    rig.until("the loss", 10, |rig| rig.losses.len() == 1);
    // The first attempt came at once.
    let mut times = vec![rig.world.now()];
    let mut seen = rig.counters().attempts;
    while times.len() < 7 {
        rig.until("an attempt", 20, |rig| rig.counters().attempts > seen);
        seen = rig.counters().attempts;
        times.push(rig.world.now());
    }
    let waits: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64().round() as u64).collect();
    assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
    rig.world.platform.nic().faults().set_gone(false);
    rig.until("recovery", 30, |rig| rig.recovered.len() == 1);
    assert_eq!(u64::from(rig.recovered[0].attempts), rig.counters().attempts - 1, "the first connecting aside");
    expect_recovered(rig, "waits");
}

#[test]
fn a_device_that_fails_again_and_again_is_reset() {
    let mut rig = Rig::live(&Plan::new(8));
    let mut levels = Vec::new();
    for round in 0..7 {
        rig.fill();
        rig.world.platform.nic().inject(Fault::WorkRequest(Role::Control), 0);
        rig.until("recovery", 60, |rig| rig.recovered.len() > round);
        rig.finish();
        levels.push(rig.recovered[round].level);
    }
    let (connections, queues) = (Level::Connections, Level::Queues);
    assert_eq!(levels, [connections, connections, connections, queues, queues, queues, Level::Function]);
    expect_recovered(rig, "again and again");
}

#[test]
fn a_request_that_always_fails_ends() {
    // Every data digest of the first reads is wrong.
    let faults = (0..40).map(|n| TargetFault { on: On::Queue(1), at: At::Data(n), kind: Kind::DataDigest }).collect();
    let script = Script { faults, ..Script::default() };
    let mut rig = Rig::live(&Plan { script, digests: true, queues: 1, depth: 2, ..Plan::new(9) });
    assert!(rig.begin(false) && rig.begin(false));
    rig.finish();
    for outcome in rig.done.values() {
        assert!(matches!(outcome.result, Err(RequestError::Status { attempts: 6, .. })), "{outcome:?}");
    }
    rig.shutdown();
    rig.close();
    // The connection breaks with every attempt: each queue's first response is the reset.
    let fault = |n| TargetFault { on: On::Connection(n), at: At::Data(0), kind: Kind::Reset { after: 100 } };
    let script = Script { faults: (0..60).map(fault).collect(), ..Script::default() };
    let mut rig = Rig::new(&Plan { script, queues: 1, depth: 2, ..Plan::new(10) });
    // The admin queue reads data too.
    rig.run_for(Duration::from_secs(900));
    assert!(rig.ended.is_some() || rig.counters().attempts > 20);
    rig.close();
}

#[test]
fn a_session_can_be_closed_at_any_time() {
    for seed in 0..40 {
        let mut rig = Rig::new(&Plan { offload: policy(seed % 4 != 0), ..Plan::new(seed) });
        rig.fill();
        for _ in 0..rig.random.below(150) {
            rig.step();
        }
        let which = rig.random.below(2 * FAULTS.len() as u64);
        if let Some(fault) = FAULTS.get(which as usize) {
            rig.world.platform.nic().inject(*fault, seed);
        }
        for _ in 0..rig.random.below(60) {
            rig.step();
        }
        if seed % 2 == 0 {
            rig.shutdown();
        }
        rig.close();
    }
}

#[test]
fn the_demonstration_recovers() {
    let whole = [
        ("fatal-health", Some("function")),
        ("hang", Some("function")),
        ("all-ones", Some("function")),
        ("flr", Some("function")),
        ("rq-error", None),
        ("sq-error", None),
        ("icosq-error", Some("connections")),
        ("rq-overrun", Some("queues")),
        ("sq-overrun", Some("queues")),
        ("icosq-overrun", Some("connections")),
        ("lost-command", Some("function")),
        ("target-closes", Some("connections")),
    ];
    for (name, level) in whole {
        for offload in [OffloadPolicy::Require, OffloadPolicy::Off] {
            let inject = vec![format!("{name}@5").parse().expect(name)];
            let config = demo::Config { size: 1 << 20, io_size: 32 << 10, queue_size: 4, inject, ..Default::default() };
            let config = demo::Config { offload, write: true, data_digest: true, ..config };
            let outcome = demo::run(&config, &mut |_| {}).expect("good options");
            if name.starts_with("icosq") && offload == OffloadPolicy::Off {
                assert!(outcome.problems[0].contains("nothing that it could happen to"), "{:?}", outcome.problems);
                continue;
            }
            assert!(outcome.verified, "{name}: {:#?}", outcome.problems);
            assert_eq!((outcome.injected.as_slice(), outcome.bytes), (&[name][..], 1 << 20));
            let levels: Vec<_> = outcome.recovered.iter().map(|recovered| recovered.level.as_str()).collect();
            assert_eq!(levels, level.into_iter().collect::<Vec<_>>(), "{name}: {:?}", outcome.recovered);
        }
    }
    let late = demo::Config { size: 1 << 20, inject: vec!["flr@9999ms".parse().expect("good")], ..Default::default() };
    let outcome = demo::run(&late, &mut |_| {}).expect("good options");
    assert!(!outcome.verified && outcome.problems[0].contains("reading was over before"), "{:?}", outcome.problems);
}

#[test]
fn impossible_requests_are_refused() {
    let mut rig = Rig::live(&Plan::new(11));
    let memory =
        |rig: &Rig, bytes| IoBuf::new(vec![rig.world.platform.dma_heap().allocate(bytes, 64).expect("memory")]);
    let read = |blocks| Request::read(1, 0, blocks, BLOCK).expect("a request");
    let buffer = memory(&rig, 512);
    let refused = rig.session.write(read(1), buffer, 0).expect_err("a read");
    assert_eq!((refused.0, refused.1.len()), (Refused::Direction, 512));
    let refused = rig.session.read(read(2), refused.1, 0).expect_err("too short");
    assert_eq!(refused.0, Refused::Length { buffer: 512, request: 1024 });
    while rig.begin(false) {}
    let refused = rig.session.read(read(1), refused.1, 0).expect_err("too many");
    assert_eq!(refused.0, Refused::Busy { capacity: 12 });
    rig.finish();
    rig.session.shutdown();
    let refused = rig.session.read(read(1), refused.1, 0).expect_err("over");
    assert_eq!(refused.0, Refused::Over);
    drop(refused);
    rig.shutdown();
    assert_eq!(rig.down.as_deref(), Some(&[][..]));
    assert_eq!(rig.close(), [] as [String; 0]);
}

#[test]
fn a_sleeping_driver_misses_nothing() {
    for seed in 0..24 {
        // Doorbells that take time make a packet at the deadline look missed; they are judged by what still works.
        let latency = seed % 2 == 1;
        let plan = Plan { sleeps: true, latency, digests: seed % 3 == 0, ..Plan::new(seed) };
        let mut rig = Rig::live(&plan);
        for round in 0..60 {
            match round % 10 {
                0 => rig.fill(),
                _ => drop(rig.begin(round % 7 == 0)),
            }
            rig.finish();
            let pause = Duration::from_micros(rig.random.below(3000));
            rig.run_for(pause);
        }
        assert!(rig.slept > 50, "{}", rig.slept);
        let counted = rig.session.totals().shard;
        assert!(counted.armed > 20 && counted.completion_events.abs_diff(counted.armed) <= 1, "{counted:?}");
        assert!(latency || rig.overslept == 0, "seed {seed}: {} of {} sleeps", rig.overslept, rig.slept);
        if seed % 4 == 3 {
            rig.fill();
            let fault = FAULTS[seed as usize / 4 % FAULTS.len()];
            rig.world.platform.nic().inject(fault, seed);
            expect_recovered(rig, "asleep");
        } else {
            rig.shutdown();
            assert_eq!(rig.close(), [] as [String; 0]);
        }
    }
}
