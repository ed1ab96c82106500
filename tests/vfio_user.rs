//! The driver on a virtual ConnectX in another process, as far as a thread is one: the two share a socket and nothing else.
//!
//! | property | test |
//! |---|---|
//! | a function comes up over the socket, is asked what it is, and goes down with nothing left, again and again on one server | `a_function_comes_and_goes` |
//! | a physical and a virtual function of one server serve two drivers at once | `two_functions_serve_two_drivers` |
//! | a server that is gone is a function that is gone: an error with its name, no hang | `a_server_that_is_gone_is_a_function_that_is_gone` |
//! | a path where nobody listens is refused with what to do | `nobody_listens` |

use connectx_ddp::adapter::{Adapter, Config, Report};
use connectx_ddp::platform::Platform;
use connectx_ddp::platform::vfio_user::VfioUserPlatform;
use cxddp_vnic::{Function, Hub, HubConfig, Uplink, report};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A hub in a thread.
struct Serving {
    paths: Vec<PathBuf>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Hub>>,
}

impl Serving {
    fn start(ids: &[u16]) -> Serving {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mut hub = Hub::new(&HubConfig::default(), Uplink::None).expect("no capture");
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
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                hub.turn(Duration::from_millis(10));
            }
            hub
        });
        Serving { paths, stop, thread: Some(thread) }
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
    assert_eq!(report::dma_violations(&mut hub), 0, "{}", report::text(&mut hub));
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
fn nobody_listens() {
    let error = VfioUserPlatform::open("/nonexistent/nic.sock".as_ref()).err().expect("nobody").to_string();
    assert!(error.contains("vfio-user:/nonexistent/nic.sock") && error.contains("cxddp-vnic serve"), "{error}");
}
