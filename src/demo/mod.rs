//! The demonstration: reads through a virtual ConnectX whose offload places the payload, every byte verified.
//!
//! ```text
//! job ── shard ── adapter ── VirtualPlatform ── virtual ConnectX ── wire (tap) ── target (smoltcp or ours) ── image
//!  └──────────────── compares every buffer with ────────────────────────────────────────────────────────┘
//! ```
//!
//! One thread, one simulated clock, one seed: a run is repeatable to the last packet. Timeouts of minutes cost no time.

mod config;
mod image;
mod job;
mod outcome;
mod peer;
pub mod simulate;
mod world;

pub use config::{BLOCK, BadOption, Config, MAX_IO};
pub use ethernet_wire::{Impairments, Lane, LaneCounters};
pub use job::{DemoError, Phase, Progress, run, run_tapped};
pub use outcome::{CopiedFor, Outcome, QueueOutcome, peak_rss};
pub use peer::{OwnStack, Peer, PeerError};
pub use world::{NoTap, PcapTap, Tap, WireConfig, World};
