//! The demonstration: reads through a virtual ConnectX whose offload places the payload, every byte verified.
//!
//! ```text
//! job ── session ── shard ── adapter ── VirtualPlatform ── virtual ConnectX ── wire (tap) ── target (smoltcp or ours) ── image
//!  └─────────────────────── compares every buffer with ───────────────────────────────────────────────────────────┘
//! ```
//!
//! [`simulate`] draws whole worlds at random, with everything in them going wrong, and judges them.
//!
//! One thread, one simulated clock, one seed: a run is repeatable to the last packet. Timeouts of minutes cost no time.

pub mod ceiling;
mod config;
pub mod heap;
mod image;
mod inject;
mod job;
mod outcome;
mod peer;
mod random;
pub mod scale;
pub mod simulate;
mod wire;
mod world;

pub use config::{BLOCK, BadOption, Config, MAX_IO};
pub use inject::Injection;
pub use job::{DemoError, Phase, Progress, run, run_tapped, run_watched};
pub use outcome::{CopiedFor, Outcome, QueueOutcome, ReadOutcome, ReadReason, Recovered, ThresholdOutcome, peak_rss};
pub use peer::{OwnStack, Peer, PeerError};
pub use wire::{Impairments, Lane, LaneCounters};
pub use world::{Both, Moment, NoTap, PcapTap, Tap, WireConfig, World};

use crate::adapter::{Adapter, AdapterError, Report};
use crate::platform::virtual_nic::VirtualPlatform;
use std::sync::Arc;

/// Brings a virtual function up, asks what it is, and takes it down again.
pub fn probe() -> Result<Report, AdapterError> {
    let platform = VirtualPlatform::new("virtual", virtual_nic::Config::default());
    let mut adapter = Adapter::bring_up(Arc::new(platform), crate::adapter::Config::default())?;
    let deadline = adapter.command_deadline();
    let report = adapter.report(deadline);
    let teardown = adapter.teardown(deadline);
    if !teardown.is_clean() {
        log::error!("{teardown}");
    }
    report
}
