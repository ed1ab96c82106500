//! The adapter over the virtual ConnectX.
#![cfg(feature = "demo")]
use connectx_ddp::adapter::{Adapter, Config};
use connectx_ddp::platform::Deadline;
use connectx_ddp::platform::virtual_nic::VirtualPlatform;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_function_comes_up_and_goes_down() {
    let platform = Arc::new(VirtualPlatform::new("virtual0", virtual_nic::Config::default()));
    let mut adapter = Adapter::bring_up(Arc::clone(&platform), Config::default()).expect("bring-up");
    let report = adapter.report(adapter.command_deadline()).expect("report");
    println!("{report}");
    let down = adapter.teardown(Deadline::after(&*platform, Duration::from_secs(60)));
    println!("{down}");
    assert!(down.is_clean(), "{down}");
    assert!(platform.nic().inventory().is_empty(), "{}", platform.nic().inventory());
}
