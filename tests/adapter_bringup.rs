//! The adapter over the virtual ConnectX: bring-up, events, teardown, and what happens when any step fails.
//!
//! | property | test |
//! |---|---|
//! | a function comes up, says what it is, and a teardown leaves nothing | `a_function_comes_up_and_goes_down` |
//! | the same with slow commands that overtake each other, by polling and by events | `slow_commands_make_no_difference` |
//! | a hundred functions live in one process | `a_hundred_functions_live_in_one_process` |
//! | whichever command of the bring-up firmware refuses, the error names it and nothing is left | `a_refused_step_leaves_nothing` |
//! | whichever command is lost, the error says so in time, and a reset makes the function usable again | `a_lost_step_ends_in_time` |
//! | whichever command the function vanishes at, the error says so at once | `a_vanished_function_ends_the_bring_up` |
//! | noise in any answer never panics | `noise_in_any_answer_is_survived` |
//! | a drop without teardown leaves the objects and keeps the memory; a reset frees both | `a_drop_keeps_the_memory_until_a_reset` |
//! | a reset and a second bring-up work, as often as wanted | `reset_and_again` |
//! | a creation whose answer comes too late is reported, and its memory is kept until the function is down | `a_late_creation_is_reported` |
//! | a virtual function comes up as well | `a_virtual_function_comes_up` |
//! | a function that manages the card's switch asks for frames to its own address | `a_switch_manager_claims_its_address` |
//! | thousands of keys are created and destroyed with all slots busy, and firmware's pages follow | `thousands_of_keys` |
//! | a limit on pages ends in an error that names it | `a_page_limit_is_named` |
//! | options that the function does not suit are refused with what is allowed | `unsuitable_options_are_refused` |
//! | a function without cable is reported after the wait, not before | `no_link_is_reported` |
//! | link changes and a destroyed object's refusal reach the caller | `events_reach_the_caller` |
//! | health follows what the function says | `health_is_watched` |
//! | a function without the offload says why | `a_function_without_the_offload_says_why` |
#![cfg(feature = "demo")]

use connectx_ddp::adapter::{Adapter, AdapterError, Config, Creation, Event, Objects};
use connectx_ddp::command::{Fault, ObjectKind, Request};
use connectx_ddp::platform::virtual_nic::{Clock, VirtualPlatform};
use connectx_ddp::platform::{Deadline, Platform};
use firmware_iface::caps::CmdHcaCap;
use firmware_iface::command::object::{AllocPdIn, CreateMkeyIn, DeallocPdIn, DestroyMkeyIn};
use firmware_iface::context::{AccessMode, Mkc};
use firmware_iface::{Opcode, Status};
use hw_regs::eqe::EventType;
use hw_regs::layout::{Access, Layout};
use std::sync::Arc;
use std::time::Duration;
use virtual_nic::{CommandFault, Config as Nic};

fn platform(nic: Nic) -> Arc<VirtualPlatform> {
    Arc::new(VirtualPlatform::new("virtual0", nic))
}

/// Short timeouts: simulated time is cheap, but looks are not free.
fn config() -> Config {
    Config {
        ready_timeout: Duration::from_secs(1),
        command_timeout: Duration::from_millis(20),
        link_timeout: Some(Duration::from_millis(20)),
        ..Config::default()
    }
}

fn soon(platform: &VirtualPlatform) -> Deadline {
    Deadline::after(platform, Duration::from_secs(10))
}

fn up(platform: &Arc<VirtualPlatform>) -> Adapter<VirtualPlatform> {
    Adapter::bring_up(Arc::clone(platform), config()).unwrap_or_else(|error| panic!("{error}"))
}

fn failed(platform: &Arc<VirtualPlatform>, config: Config) -> AdapterError {
    Adapter::bring_up(Arc::clone(platform), config).err().expect("the bring-up fails")
}

fn down(adapter: Adapter<VirtualPlatform>) {
    let platform = Arc::clone(adapter.platform());
    let report = adapter.teardown(soon(&platform));
    assert!(report.is_clean(), "{report}");
    assert_empty(&platform);
}

fn assert_empty(platform: &VirtualPlatform) {
    let inventory = platform.nic().inventory();
    assert!(inventory.is_empty(), "{inventory}");
    let misuse = platform.nic().counters().misuse.clone();
    assert_eq!(misuse, virtual_nic::counters::Misuse::default());
}

fn protection_domain() -> Creation {
    let destroy = |pd| Request::new(&DeallocPdIn::zeroed().with(DeallocPdIn::PD, pd));
    Creation::new(ObjectKind::Pd, Request::new(&AllocPdIn::zeroed()), destroy)
}

/// So many keys, all or none.
fn keys(adapter: &Adapter<VirtualPlatform>, count: u32) -> Creation {
    let context = Mkc::zeroed()
        .with(Mkc::FREE, 1)
        .with(Mkc::UMR_EN, 1)
        .with(Mkc::LR, 1)
        .with(Mkc::LW, 1)
        .with(Mkc::ACCESS_MODE_1_0, u32::from(AccessMode::KLMS.0))
        .with(Mkc::QPN, Mkc::QPN.max())
        .with(Mkc::PD, adapter.pd())
        .with(Mkc::TRANSLATIONS_OCTWORD_SIZE, 128);
    let input = CreateMkeyIn::zeroed().with_nested(CreateMkeyIn::MEMORY_KEY_MKEY_ENTRY, &context);
    Creation::new(ObjectKind::Mkey, Request::new(&input), destroy_key).times(count)
}

fn destroy_key(index: u32) -> Request {
    Request::new(&DestroyMkeyIn::zeroed().with(DestroyMkeyIn::MKEY_INDEX, index))
}

/// Commands that a bring-up takes.
fn steps() -> u32 {
    let platform = platform(Nic::default());
    let adapter = up(&platform);
    let steps = adapter.commands_executed();
    down(adapter);
    steps as u32
}

#[test]
fn a_function_comes_up_and_goes_down() {
    let platform = platform(Nic::default());
    let mut adapter = up(&platform);
    let report = adapter.report(adapter.command_deadline()).expect("a report");
    assert_eq!(report.firmware.to_string(), "28.39.1002");
    assert_eq!(report.psid, "VNIC000000001");
    assert_eq!(report.mac, [0x02, 0x00, 0x00, 0xc7, 0x00, 0x01]);
    assert_eq!((report.mtu, report.max_mtu), (1500, 10240 - 22));
    assert!(report.link_up && !report.virtual_function && report.why_not.is_empty(), "{report}");
    assert_eq!(report.firmware_pages as u64, platform.nic().inventory().pages);
    assert_eq!(report.firmware_pages, 6 + 256);
    assert_eq!(adapter.completion_eqs(), 16);
    assert_ne!(adapter.completion_eqn(0), adapter.completion_eqn(1));
    assert_eq!(adapter.completion_eqn(0), adapter.completion_eqn(16));
    let held = platform.nic().inventory().held;
    assert_eq!((held.uars, held.pds, held.transport_domains, held.mkeys, held.eqs), (1, 1, 1, 1, 3 + 16));
    assert_eq!(adapter.objects().len() as u64, held.total());
    adapter.check_health().expect("healthy");
    let counters = adapter.command_counters();
    assert_eq!((counters.posted, counters.succeeded), (counters.succeeded, platform.nic().counters().commands));
    assert_eq!((counters.missed_events, counters.early_events, counters.stray_events), (0, 0, 0));
    assert!(adapter.event_counters().entries > 10, "commands end by events");
    down(adapter);
}

#[test]
fn slow_commands_make_no_difference() {
    for command_events in [false, true] {
        let mut nic = Nic::default();
        nic.boot_time = Duration::from_millis(3);
        nic.command_latency = Duration::from_micros(150);
        nic.command_jitter = Duration::from_millis(1);
        let platform = platform(nic);
        let config = Config { command_events, ..config() };
        let mut adapter = Adapter::bring_up(Arc::clone(&platform), config).unwrap_or_else(|e| panic!("{e}"));
        let creation = keys(&adapter, 300);
        let deadline = soon(&platform);
        let made = adapter.create(creation, deadline).expect("keys");
        assert_eq!(made.numbers().len(), 300);
        assert_eq!(platform.nic().inventory().held.mkeys, 301);
        let counters = adapter.command_counters();
        assert_eq!((counters.missed_events, counters.timed_out, counters.failed), (0, 0, 0));
        // 300 keys of 0.65 ms one by one would take 195 ms.
        assert!(platform.now() < Duration::from_millis(100), "{:?}", platform.now());
        down(adapter);
    }
}

#[test]
fn a_hundred_functions_live_in_one_process() {
    let clock = Clock::default();
    let functions: Vec<_> = (0..100u8)
        .map(|n| {
            let mut nic = Nic::default();
            nic.mac[5] = n;
            nic.vectors = 3;
            Arc::new(VirtualPlatform::on_clock(&format!("virtual{n}"), nic, clock.clone()))
        })
        .collect();
    let adapters: Vec<_> = functions.iter().map(up).collect();
    for (n, adapter) in adapters.iter().enumerate() {
        assert_eq!(adapter.mac()[5], n as u8);
        assert_eq!(adapter.completion_eqs(), 2);
    }
    adapters.into_iter().for_each(down);
}

#[test]
fn a_refused_step_leaves_nothing() {
    let steps = steps();
    let mut refused = 0;
    for step in 0..steps {
        let platform = platform(Nic::default());
        let fault = CommandFault::Refuse { status: Status::INT_ERR, syndrome: 0xabc0_0000 | step };
        platform.nic().faults().schedule(None, fault, step, 1);
        let error = failed(&platform, config());
        assert_eq!(platform.nic().faults().pending(), 0);
        let text = error.to_string();
        assert!(
            text.contains(&format!("{:#x}", 0xabc0_0000 | step)) && text.contains("INT_ERR"),
            "step {step}: {text}"
        );
        assert_empty(&platform);
        // And the function is as good as new.
        down(up(&platform));
        refused += 1;
    }
    assert!(refused > 40, "{refused} steps");
}

#[test]
fn a_lost_step_ends_in_time() {
    for (fault, seldom) in [(CommandFault::Lost, 1), (CommandFault::NeverAnswered, 3), (CommandFault::WrongToken, 2)] {
        for step in (0..steps()).step_by(seldom) {
            let platform = platform(Nic::default());
            platform.nic().faults().schedule(None, fault, step, 1);
            let error = failed(&platform, config());
            assert!(platform.now() < Duration::from_secs(1), "{error}");
            let commanded = match &error {
                AdapterError::Command(error) => error.clone(),
                other => panic!("step {step}: {other}"),
            };
            let expected = match fault {
                CommandFault::WrongToken => matches!(commanded.fault, Fault::Token { .. }),
                _ => matches!(commanded.fault, Fault::TimedOut { .. }),
            };
            assert!(expected, "step {step}: {error}");
            // Whatever could not be undone in order, a reset did.
            assert_empty(&platform);
            down(up(&platform));
        }
    }
}

#[test]
fn a_vanished_function_ends_the_bring_up() {
    let steps = steps();
    for step in 0..steps {
        let mut nic = Nic::default();
        nic.command_latency = Duration::from_micros(10);
        let platform = platform(nic);
        // The answer of this step is still under way when the function vanishes.
        platform.nic().faults().schedule(None, CommandFault::Lost, step, 1);
        let vanish = Arc::clone(&platform);
        let before = Duration::from_micros(10) * step;
        let config = Config { command_timeout: Duration::from_secs(3600), ..config() };
        let vanisher = Vanishing { inner: vanish, at: before + Duration::from_millis(5) };
        let error = Adapter::bring_up(Arc::new(vanisher), config).err().expect("the bring-up fails");
        assert!(matches!(&error, AdapterError::Command(e) if matches!(e.fault, Fault::DeviceGone)), "{step}: {error}");
        assert!(platform.now() < Duration::from_secs(1), "an hour was not waited for");
    }
}

/// A function that falls off the bus at a moment.
struct Vanishing {
    inner: Arc<VirtualPlatform>,
    at: Duration,
}

impl Platform for Vanishing {
    fn identity(&self) -> &connectx_ddp::platform::Identity {
        self.inner.identity()
    }
    fn bar_size(&self) -> u64 {
        self.inner.bar_size()
    }
    fn read32(&self, offset: u64) -> u32 {
        self.inner.read32(offset)
    }
    fn write32(&self, offset: u64, value: u32) {
        self.inner.write32(offset, value);
    }
    fn write64(&self, offset: u64, value: u64) {
        self.inner.write64(offset, value);
    }
    fn dma_mapper(&self) -> Arc<dyn connectx_ddp::dma::DmaMapper> {
        self.inner.dma_mapper()
    }
    fn iova_ranges(&self) -> Vec<std::ops::RangeInclusive<u64>> {
        self.inner.iova_ranges()
    }
    fn reset(&self) -> Result<(), connectx_ddp::platform::PlatformError> {
        self.inner.reset()
    }
    fn vectors(&self) -> u16 {
        self.inner.vectors()
    }
    fn take_interrupt(&self, vector: u16) -> bool {
        self.inner.take_interrupt(vector)
    }
    fn now(&self) -> Duration {
        self.inner.now()
    }
    fn pause(&self) {
        self.inner.pause();
        if self.inner.now() >= self.at {
            self.inner.nic().faults().set_gone(true);
        }
    }
}

#[test]
fn noise_in_any_answer_is_survived() {
    let (mut survived, mut refused) = (0, 0);
    for step in 0..steps() {
        for seed in 0..3 {
            let platform = platform(Nic::default());
            platform.nic().faults().schedule(None, CommandFault::Garbage(seed), step, 1);
            match Adapter::bring_up(Arc::clone(&platform), config()) {
                Ok(adapter) => {
                    survived += 1;
                    drop(adapter.teardown(soon(&platform)));
                }
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().is_empty());
                }
            }
            platform.reset().expect("a reset");
            down(up(&platform));
        }
    }
    assert!(survived > 0 && refused > 0, "{survived} survived, {refused} refused");
}

#[test]
fn a_drop_keeps_the_memory_until_a_reset() {
    let platform = platform(Nic::default());
    let mut adapter = up(&platform);
    let ring = adapter.heap().allocate(1 << 16, 4096).expect("memory");
    let iova = ring.iova();
    let deadline = soon(&platform);
    adapter.create(protection_domain().holding(&[&ring]), deadline).expect("an object with memory");
    let heap = adapter.heap().clone();
    let used = heap.usage().1;
    drop((adapter, ring));
    assert_eq!(platform.nic().inventory().held.pds, 2, "the objects are still there");
    // Rings, pages, queue and the object's memory: all that the device knows stays allocated.
    assert!(heap.usage().1 + 64 * 1024 >= used, "{} of {used} bytes are kept", heap.usage().1);
    for _ in 0..100 {
        let other = heap.allocate(1 << 16, 4096).expect("memory");
        assert_ne!(other.iova(), iova, "memory that the device knows is not reused");
        std::mem::forget(other);
    }
    // A reset, and somebody else brings it up.
    platform.reset().expect("a reset");
    assert_empty(&platform);
    down(up(&platform));
}

#[test]
fn reset_and_again() {
    let platform = platform(Nic::default());
    for _ in 0..5 {
        let mut adapter = up(&platform);
        let heap = adapter.heap().clone();
        assert!(heap.usage().1 > 256 * 4096);
        adapter.reset(soon(&platform)).expect("a reset");
        drop(adapter);
        assert_eq!(heap.usage().1, 0, "firmware has forgotten everything, so all memory is free");
        assert_empty(&platform);
    }
    down(up(&platform));
}

#[test]
fn a_late_creation_is_reported() {
    let platform = platform(Nic::default());
    let mut adapter = up(&platform);
    let fault = CommandFault::Late(Duration::from_millis(50));
    platform.nic().faults().next(Opcode::ALLOC_PD, fault);
    let memory = adapter.heap().allocate(1 << 20, 4096).expect("memory");
    let heap = adapter.heap().clone();
    let deadline = Deadline::after(&*platform, Duration::from_millis(20));
    let error = adapter.create(protection_domain().holding(&[&memory]), deadline).expect_err("too late");
    assert!(error.to_string().contains("new PD: no completion within"), "{error}");
    let used = heap.usage().1;
    drop(memory);
    assert_eq!(heap.usage().1, used);
    let later = Deadline::after(&*platform, Duration::from_millis(100));
    _ = later.wait(&*platform, || adapter.poll().map(drop).filter(|()| false));
    assert_eq!(adapter.command_counters().late, 1);
    // Its slot works again.
    let deadline = soon(&platform);
    let handle = adapter.create(protection_domain(), deadline).expect("a PD");
    adapter.destroy(handle, deadline).expect("destroyed");
    let report = adapter.teardown(soon(&platform));
    assert_eq!((report.objects_unknown, report.commands_stuck, report.pages_kept), (1, 0, 0));
    assert!(!report.is_clean() && report.to_string().contains("1 creations got no answer"), "{report}");
    assert_eq!(platform.nic().inventory().abandoned.pds, 1);
    assert_eq!(heap.usage().1, 0, "the function is down: nothing can use the memory");
}

#[test]
fn a_virtual_function_comes_up() {
    let mut nic = Nic::default();
    nic.device_id = 0x101e;
    let platform = platform(nic);
    let mut adapter = up(&platform);
    // It may not say which byte order the host has, so it does not try.
    assert_eq!(adapter.commands_executed(), u64::from(steps()) - 1);
    let report = adapter.report(adapter.command_deadline()).expect("a report");
    assert!(report.virtual_function && report.to_string().contains("virtual function"), "{report}");
    down(adapter);
}

#[test]
fn a_switch_manager_claims_its_address() {
    let mut nic = Nic::default();
    nic.capabilities.edit(|general: &mut CmdHcaCap| {
        general.set(CmdHcaCap::ESWITCH_MANAGER, 1);
        general.set(CmdHcaCap::LOG_MAX_L2_TABLE, 12);
    });
    let platform = platform(nic);
    let adapter = up(&platform);
    assert!(adapter.objects().by_kind().contains(&(ObjectKind::L2TableEntry, 1)));
    down(adapter);
}

#[test]
fn thousands_of_keys() {
    let mut nic = Nic::default();
    nic.command_latency = Duration::from_micros(20);
    let platform = platform(nic);
    let mut adapter = up(&platform);
    let pages = adapter.firmware_pages();
    let creation = keys(&adapter, 10_000);
    let deadline = Deadline::after(&*platform, Duration::from_secs(100));
    let started = platform.now();
    let made = adapter.create(creation, deadline).expect("keys");
    assert!(platform.now() - started < Duration::from_millis(50), "one by one takes at least 200 ms");
    let unique: std::collections::BTreeSet<_> = made.numbers().iter().collect();
    assert_eq!(unique.len(), 10_000);
    assert!(adapter.firmware_pages() > pages, "firmware asked for pages meanwhile");
    let mut given = 0;
    while let Some(event) = adapter.poll() {
        if let Event::PagesGiven { pages } = event {
            given += pages as usize;
        }
    }
    assert_eq!(adapter.firmware_pages(), pages + given);
    let more = adapter.create(keys(&adapter, 5_000), deadline).expect("keys");
    assert!(adapter.destroy_each(vec![made], deadline).is_empty());
    assert_eq!(platform.nic().inventory().held.mkeys, 5_001);
    assert_eq!(adapter.objects().by_kind().iter().find(|k| k.0 == ObjectKind::Mkey).expect("keys").1, 5_001);
    assert_eq!(more.numbers().len(), 5_000);
    down(adapter);
}

#[test]
fn a_page_limit_is_named() {
    for page_limit in [0, 5, 6, 261] {
        let platform = platform(Nic::default());
        let error = failed(&platform, Config { page_limit, ..config() }).to_string();
        assert!(error.contains("raise Config::page_limit"), "{page_limit}: {error}");
        assert_empty(&platform);
    }
    // Enough to start, not enough to go on: commands fail, and the reason is an event.
    let platform = platform(Nic::default());
    let config = Config { page_limit: 262, ..config() };
    let mut adapter = Adapter::bring_up(Arc::clone(&platform), config).unwrap_or_else(|e| panic!("{e}"));
    let creation = keys(&adapter, 10_000);
    let deadline = soon(&platform);
    let error = adapter.create(creation, deadline).expect_err("no memory");
    assert_eq!(error.status(), Some(Status::NO_RES_ERR), "{error}");
    assert_eq!(platform.nic().inventory().held.mkeys, 1, "all or none");
    let mut reasons = Vec::new();
    while let Some(event) = adapter.poll() {
        if let Event::PagesFailed { error } = event {
            reasons.push(error.to_string());
        }
    }
    assert!(reasons.iter().any(|reason| reason.contains("Config::page_limit")), "{reasons:?}");
    down(adapter);
}

#[test]
fn unsuitable_options_are_refused() {
    let platform = platform(Nic::default());
    for (config, parts) in [
        (Config { mtu: 10_219, ..config() }, ["mtu 10219", "68 to 10218"]),
        (Config { mtu: 67, ..config() }, ["mtu 67", "68 to 10218"]),
        (Config { mac: Some([1, 0, 0, 0, 0, 1]), ..config() }, ["mac", "unicast"]),
    ] {
        let text = failed(&platform, config).to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        assert_empty(&platform);
    }
    let mac = [2, 1, 2, 3, 4, 5];
    let config = Config { mtu: 10_218, mac: Some(mac), ..config() };
    let adapter = Adapter::bring_up(Arc::clone(&platform), config).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((adapter.mac(), adapter.mtu()), (mac, 10_218));
    down(adapter);
}

#[test]
fn no_link_is_reported() {
    let mut nic = Nic::default();
    nic.cable = false;
    let platform = platform(nic);
    let error = failed(&platform, config());
    assert!(matches!(error, AdapterError::NoLink { waited, .. } if waited >= Duration::from_millis(20)), "{error}");
    assert_empty(&platform);
    let config = Config { link_timeout: None, ..config() };
    let mut adapter = Adapter::bring_up(Arc::clone(&platform), config).unwrap_or_else(|e| panic!("{e}"));
    let report = adapter.report(adapter.command_deadline()).expect("a report");
    assert!(!report.link_up && report.to_string().contains("link down"), "{report}");
    down(adapter);
}

#[test]
fn events_reach_the_caller() {
    let platform = platform(Nic::default());
    let mut adapter = up(&platform);
    while adapter.poll().is_some() {}
    assert!(platform.take_interrupt(0), "events raise their vector");
    let mut data = [0; 28];
    data[8] = 1 << 4;
    assert!(platform.nic().inject_event(EventType::PORT_CHANGE, 1, &data));
    assert!(platform.take_interrupt(0));
    assert!(matches!(adapter.poll(), Some(Event::PortDown { port: 1 })));
    assert!(adapter.poll().is_none());
    assert!(platform.nic().inject_event(EventType::PORT_CHANGE, 4, &data));
    assert!(platform.take_interrupt(0), "armed again");
    assert!(matches!(adapter.poll(), Some(Event::PortUp { port: 1 })));
    assert!(!platform.nic().inject_event(EventType::DCT_DRAINED, 0, &data), "nobody asked for it");
    // More events than an EQ has entries, over laps, none lost as long as they are read.
    for lap in 0..40 {
        for _ in 0..100 {
            assert!(platform.nic().inject_event(EventType::CQ_ERROR, 0, &[0, 0, 0, lap]));
        }
        for _ in 0..100 {
            assert!(matches!(adapter.poll(), Some(Event::CqError { cqn, .. }) if cqn == u32::from(lap)));
        }
    }

    // A destruction that firmware refuses is an error now and is tried again at teardown.
    let deadline = soon(&platform);
    let handle = adapter.create(protection_domain(), deadline).expect("a PD");
    let fault = CommandFault::Refuse { status: Status::BAD_RES_STATE_ERR, syndrome: 7 };
    platform.nic().faults().next(Opcode::DEALLOC_PD, fault);
    let error = adapter.destroy(handle, deadline).expect_err("refused");
    assert!(error.to_string().contains("PD") && error.to_string().contains("still in use"), "{error}");
    down(adapter);
}

#[test]
fn health_is_watched() {
    let platform = platform(Nic::default());
    let mut adapter = up(&platform);
    for _ in 0..20 {
        platform.clock().advance(Duration::from_secs(2));
        platform.pause();
        adapter.check_health().expect("healthy");
    }
    platform.nic().faults().set_gone(true);
    let error = adapter.check_health().expect_err("gone");
    assert!(matches!(error, AdapterError::Unhealthy { .. }), "{error}");
    // A teardown of a function that is gone ends at once, reports, and keeps the memory.
    let heap = adapter.heap().clone();
    let before = platform.now();
    let report = adapter.teardown(Deadline::after(&*platform, Duration::from_secs(3600)));
    assert!(!report.is_clean() && platform.now() - before < Duration::from_secs(1));
    assert!(heap.usage().1 > 0);
}

#[test]
fn a_function_without_the_offload_says_why() {
    let mut nic = Nic::default();
    nic.capabilities.edit(|general: &mut CmdHcaCap| general.set(CmdHcaCap::NVMEOTCP, 0));
    let platform = platform(nic);
    let mut adapter = up(&platform);
    let report = adapter.report(adapter.command_deadline()).expect("a report");
    assert_eq!(report.why_not.len(), 1);
    assert!(report.to_string().contains("it needs a ConnectX-7"), "{report}");
    down(adapter);
}
