//! What can be seen of a running driver: its numbers, what happened, and captures of its frames.
//!
//! ```text
//!   layers: plain counters, declared with their help (`counter`)     shard: ring of events (`event`)
//!                     │ when somebody asks                                       │
//!                     ▼                                                          │
//!   Snapshot: function, sessions, shards → connections ─┬► text ─────────────────┤
//!                     │                        (walk)   ├► json (`cxddp stats`) ◄┘
//!                     │ Publisher ─► Collector          └► openmetrics ─► `serve`: HTTP, its own thread
//! ```
//!
//! Nothing is registered and nothing is shared: a counter is a `u64` of the thread that owns it. Who wants to see it asks
//! the owner for a copy ([`Shard::stats`](crate::shard::Shard::stats)); across threads a [`Publisher`] makes one between two
//! polls, only if somebody asked, and never waits. What a number is called and means is said once, where it is declared.

pub mod counter;
mod event;
#[cfg(feature = "demo")]
mod json;
mod openmetrics;
mod pcap;
mod publish;
mod reference;
mod serve;
mod snapshot;
mod text;

pub use event::{Event, EventRing, RingCounters, Value, What, text};
#[cfg(feature = "demo")]
pub use json::{event as event_json, snapshot as snapshot_json};
pub use openmetrics::{CONTENT_TYPE, Detail, metric_name, render as openmetrics};
pub use pcap::{Direction, PcapWriter};
pub use publish::{Collector, Publisher};
pub use reference::reference;
pub use serve::{ServeError, Server};
pub use snapshot::{ConnectionStats, FunctionStats, Group, Node, Role, Scope, SessionStats, ShardStats, Snapshot};
pub use text::{Zeros, render as snapshot_text};
