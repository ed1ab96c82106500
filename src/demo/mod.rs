//! The demonstration: reads through a virtual ConnectX whose offload places the payload, every byte verified.
//!
//! ```text
//! job ── transfer ── session ── shard ── adapter ── VirtualPlatform ── virtual ConnectX ── wire (tap) ── target (smoltcp or ours) ── image
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
pub mod scale;
pub mod simulate;
mod world;

pub use config::{BLOCK, BadOption, Config, MAX_IO};
pub use ethernet_wire::{Impairments, Lane, LaneCounters};
pub use image::Expected;
pub use inject::Injection;
pub use job::{DemoError, run, run_tapped, run_watched};
pub use outcome::{CopiedFor, Outcome, QueueOutcome, ReadOutcome, ReadReason, Recovered, ThresholdOutcome, peak_rss};
pub use peer::{OwnStack, Peer, PeerError};
pub use world::{Both, Moment, NoTap, PcapTap, Tap, WireConfig, World};
