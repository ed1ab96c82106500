//! The driver on a virtual ConnectX in another process, as far as a thread is one: the two share a socket and nothing else.
//!
//! | property | test |
//! |---|---|
//! | a function comes up over the socket, is asked what it is, and goes down with nothing left, again and again on one server | `a_function_comes_and_goes` |
//! | a physical and a virtual function of one server serve two drivers at once | `two_functions_serve_two_drivers` |
//! | a server that is gone is a function that is gone: an error with its name, no hang | `a_server_that_is_gone_is_a_function_that_is_gone` |
//! | a namespace is written and read, polling and sleeping, with and without digests, and placed; the function that vanishes in the middle is reset and the reads go on | `a_namespace_is_read` |
//! | what is not as it should be ends with what it is: a subsystem, a namespace, an address, a port that are not there | `what_is_not_there_is_named` |
//! | memory that has no file cannot be lent to another process: it is refused, comes back, and what to do is said | `memory_without_a_file_is_refused` |
//! | a path where nobody listens is refused with what to do | `nobody_listens` |

use connectx_ddp::adapter::{Adapter, Config, Report};
use connectx_ddp::demo::Expected;
use connectx_ddp::nvme::controller::ControllerConfig;
use connectx_ddp::nvme::fabrics::{HostIdentity, Nqn};
use connectx_ddp::platform::Platform;
use connectx_ddp::platform::vfio_user::VfioUserPlatform;
use connectx_ddp::transfer::{self, Ends, Outcome, Progress, Unwatched, Watch};
use connectx_ddp::{session, shard};
use cxddp_vnic::{Function, Hub, HubConfig, Uplink, report};
use nvme_target::Generated;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A hub in a thread.
struct Serving {
    paths: Vec<PathBuf>,
    stop: Arc<AtomicBool>,
    /// Takes the functions off the bus.
    gone: Arc<AtomicBool>,
    thread: Option<JoinHandle<Hub>>,
}

impl Serving {
    fn start(ids: &[u16]) -> Serving {
        Serving::with(ids, Uplink::None)
    }

    fn with(ids: &[u16], uplink: Uplink) -> Serving {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mut hub = Hub::new(&HubConfig::default(), uplink).expect("no capture");
        let paths = ids.iter().map(|id| {
            let name = format!("cxddp-{}-{}.sock", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            let mut config = virtual_nic::Config::default();
            config.device_id = *id;
            hub.add(Function::new(&format!("{id:04x}"), config), &path).expect("a path of our own");
            path
        });
        let paths = paths.collect();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, gone) = (Arc::clone(&stop), Arc::new(AtomicBool::new(false)));
        let off = Arc::clone(&gone);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                hub.turn(Duration::from_millis(10));
                hub.functions().for_each(|function| function.nic.faults().set_gone(off.load(Ordering::Acquire)));
            }
            hub
        });
        Serving { paths, stop, gone, thread: Some(thread) }
    }

    fn end(mut self) -> Hub {
        self.stop.store(true, Ordering::Release);
        self.thread.take().expect("once").join().expect("the server panicked")
    }
}

/// Brings a function up and takes it down.
fn visit(path: &std::path::Path) -> Report {
    let platform = Arc::new(VfioUserPlatform::open(path).expect("it listens"));
    let mut adapter = Adapter::bring_up(platform, Config::default()).expect("it comes up");
    let deadline = adapter.command_deadline();
    let report = adapter.report(deadline).expect("it answers");
    let teardown = adapter.teardown(deadline);
    assert!(teardown.is_clean(), "{teardown}");
    report
}

#[test]
fn a_function_comes_and_goes() {
    let serving = Serving::start(&[0x1021]);
    for _ in 0..3 {
        let report = visit(&serving.paths[0]);
        assert_eq!((report.identity.vendor, report.identity.device, report.vectors), (0x15b3, 0x1021, 64));
        assert!(report.link_up && report.why_not.is_empty(), "{report}");
    }
    let mut hub = serving.end();
    assert_eq!(report::dma_violations(&mut hub), 0, "{}", report::Report::of(&mut hub).text());
    let function = hub.functions().next().expect("one");
    assert_eq!(function.resets(), 3);
    let misuse = function.nic.counters().misuse.clone();
    assert_eq!(misuse, Default::default(), "what a driver never should");
}

#[test]
fn two_functions_serve_two_drivers() {
    let serving = Serving::start(&[0x1021, 0x101e]);
    let drivers: Vec<_> = serving.paths.iter().cloned().map(|path| std::thread::spawn(move || visit(&path))).collect();
    let reports: Vec<Report> = drivers.into_iter().map(|driver| driver.join().expect("it came up")).collect();
    assert_eq!(reports.iter().map(|report| report.virtual_function).collect::<Vec<_>>(), [false, true]);
    let mut hub = serving.end();
    assert_eq!(report::dma_violations(&mut hub), 0);
}

#[test]
fn a_server_that_is_gone_is_a_function_that_is_gone() {
    let serving = Serving::start(&[0x1021]);
    let platform = Arc::new(VfioUserPlatform::open(&serving.paths[0]).expect("it listens"));
    let mut adapter = Adapter::bring_up(Arc::clone(&platform), Config::default()).expect("it comes up");
    drop(serving.end());
    assert_eq!(platform.read32(0), u32::MAX);
    let error = adapter.check_health().expect_err("it is gone").to_string();
    assert!(error.contains("vfio-user:"), "{error}");
    let teardown = adapter.teardown(connectx_ddp::platform::Deadline::after(&*platform, Duration::from_secs(2)));
    assert!(!teardown.is_clean());
}

#[test]
fn memory_without_a_file_is_refused() {
    let serving = Serving::start(&[0x1021]);
    let platform = VfioUserPlatform::open(&serving.paths[0]).expect("it listens");
    let heap = platform.dma_heap();
    let refused = heap.pin(vec![7; 5000]).expect_err("refused");
    assert_eq!(refused.memory, [7; 5000]);
    assert!(refused.error.to_string().contains("DmaHeap::allocate"), "{refused}");
    assert!(heap.allocate(5000, 64).is_ok(), "as it says");
    assert_eq!(heap.pinned(), 0);
    drop((heap, platform));
    assert_eq!(report::dma_violations(&mut serving.end()), 0);
}

#[test]
fn nobody_listens() {
    let error = VfioUserPlatform::open("/nonexistent/nic.sock".as_ref()).err().expect("nobody").to_string();
    assert!(error.contains("vfio-user:/nonexistent/nic.sock") && error.contains("cxddp-vnic serve"), "{error}");
}

const SUBSYSTEM: &str = "nqn.2026-01.io.connectx-ddp:target";
const TARGET: Ipv4Addr = Ipv4Addr::new(192, 168, 44, 20);

fn target(size: u64) -> Uplink {
    Uplink::target(nvme_target::Config::default(), Box::new(Generated::new(5, size))).expect("a target")
}

fn config(subsystem: &str, target: SocketAddrV4) -> transfer::Config {
    let controller = ControllerConfig {
        identity: HostIdentity {
            host_id: [0x80; 16],
            host_nqn: Nqn::new("nqn.2026-01.io.connectx-ddp:test").expect("a name"),
            subsystem_nqn: Nqn::new(subsystem).expect("a name"),
        },
        header_digest: false,
        data_digest: false,
        io_queues: 2,
        max_namespaces: 4,
        keep_alive: Duration::from_secs(5),
        timeout: Duration::from_secs(30),
    };
    let shard = shard::Config::new(Ipv4Addr::new(192, 168, 44, 10), [3; 16]);
    transfer::Config {
        session: session::Config::new(shard, target, controller),
        nsid: 1,
        offset: 0,
        len: None,
        io_size: 64 << 10,
        passes: 1,
        write: false,
        interrupts: None,
        recover: true,
        repeat_writes: false,
    }
}

fn transfer(
    path: &std::path::Path,
    config: &transfer::Config,
    mut content: Expected,
    watch: &mut dyn Watch<VfioUserPlatform>,
) -> Outcome {
    let platform = Arc::new(VfioUserPlatform::open(path).expect("it listens"));
    let stop = AtomicBool::new(false);
    let ends = Ends { content: Some(&mut content), sink: None, buffers: None, stop: &stop };
    transfer::run(platform, config, ends, watch)
}

fn ours() -> SocketAddrV4 {
    SocketAddrV4::new(TARGET, nvme_target::Config::default().port)
}

#[test]
fn a_namespace_is_read() {
    const SIZE: u64 = 4 << 20;
    let mut base = config(SUBSYSTEM, ours());
    let mut digests = base.clone();
    (digests.session.controller.header_digest, digests.session.controller.data_digest) = (true, true);
    base.interrupts = Some(Duration::ZERO);
    let mut written = base.clone();
    (written.write, written.offset, written.len) = (true, 1 << 20, Some(1 << 20));
    for (config, seed, reads) in [(&base, 5, SIZE), (&digests, 5, SIZE), (&written, 6, 1 << 20)] {
        let serving = Serving::with(&[0x1021], target(SIZE));
        let outcome = transfer(&serving.paths[0], config, Expected::Generated(seed), &mut Unwatched);
        assert!(outcome.is_clean(), "{outcome:?}");
        assert_eq!((outcome.bytes, outcome.bytes_compared, outcome.queues_offloaded), (reads, reads, 2));
        assert!(outcome.bytes_placed * 10 > reads * 9, "{} of {reads} placed", outcome.bytes_placed);
        assert_eq!(outcome.sleeps != 0, config.interrupts.is_some());
        let mut hub = serving.end();
        let mut misuse = hub.functions().next().expect("one").nic.counters().misuse.clone();
        // Where a thread is not run for long, an event is taken for lost and asked for again: the device ignores that.
        misuse.stale_arm = 0;
        assert_eq!(misuse, Default::default(), "what a driver never should");
        assert_eq!(report::dma_violations(&mut hub), 0, "{}", report::Report::of(&mut hub).text());
    }
    let wrong = {
        let serving = Serving::with(&[0x1021], target(SIZE));
        let outcome = transfer(&serving.paths[0], &base, Expected::Generated(7), &mut Unwatched);
        drop(serving.end());
        outcome
    };
    assert!(wrong.completed && !wrong.is_clean() && wrong.bytes_wrong > SIZE / 2, "{wrong:?}");
    assert_eq!(wrong.problems.len() as u64 + wrong.more_problems, SIZE / base.io_size, "{wrong:?}");

    // Gone for long enough to be noticed, and for so short that only doorbells were lost.
    for (pause, recovers) in [(Duration::from_millis(1500), true), (Duration::from_millis(20), false)] {
        let serving = Serving::with(&[0x1021], target(SIZE));
        let mut watch = Vanish { gone: Arc::clone(&serving.gone), pause: Some(pause) };
        let outcome = transfer(&serving.paths[0], &base, Expected::Generated(5), &mut watch);
        assert!(outcome.is_clean() && outcome.bytes == SIZE && watch.pause.is_none(), "{outcome:?}");
        assert!(!recovers || outcome.recovered.len() == 1, "{outcome:?}");
        assert_eq!(report::dma_violations(&mut serving.end()), 0);
    }
}

/// Takes the function off the bus when half is read, for so long.
struct Vanish {
    gone: Arc<AtomicBool>,
    pause: Option<Duration>,
}

impl<P: Platform> Watch<P> for Vanish {
    fn progress(&mut self, progress: Progress) {
        if progress.done >= progress.total / 2
            && let Some(pause) = self.pause.take()
        {
            self.gone.store(true, Ordering::Release);
            let gone = Arc::clone(&self.gone);
            std::thread::spawn(move || {
                std::thread::sleep(pause);
                gone.store(false, Ordering::Release);
            });
        }
    }
}

#[test]
fn what_is_not_there_is_named() {
    let serving = Serving::with(&[0x1021], target(1 << 20));
    let try_it = |config: &transfer::Config, names: &str| {
        let outcome = transfer(&serving.paths[0], config, Expected::Generated(5), &mut Unwatched);
        assert!(!outcome.completed && outcome.bytes == 0 && outcome.problems.len() == 1, "{outcome:?}");
        assert!(outcome.problems[0].contains(names), "{:?} does not name {names}", outcome.problems);
    };
    let good = config(SUBSYSTEM, ours());
    try_it(&config("nqn.2026-01.io.connectx-ddp:other", ours()), "was refused");
    try_it(&config(SUBSYSTEM, SocketAddrV4::new(TARGET, 9)), "connection refused");
    try_it(
        &config(SUBSYSTEM, SocketAddrV4::new(Ipv4Addr::new(192, 168, 44, 99), 4420)),
        "192.168.44.99 cannot be reached",
    );
    try_it(&transfer::Config { nsid: 3, ..good.clone() }, "namespace 3: there is none");
    try_it(&transfer::Config { offset: 100, ..good.clone() }, "--offset 100");
    try_it(&transfer::Config { len: Some(2 << 20), ..good.clone() }, "which has 1048576");
    try_it(&transfer::Config { io_size: 1000, ..good.clone() }, "--io-size 1000");
    drop(serving.end());
}
