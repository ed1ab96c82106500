//! What the fuzz targets do: a device, a firmware, a target and a network that lie, each driven by the bytes of a file.
//!
//! The bodies are here so that everybody runs the same: libFuzzer (`fuzz/`, nightly), and `tests/fuzz_corpus.rs` on stable,
//! which runs the committed inputs and seeded changes to them. A body is a function of its input alone and must not fail
//! whatever that is. It asserts what holds in spite of every lie: no panic and no access out of bounds; an end after a
//! number of steps that the input does not choose; every refused value counted once; every buffer given back; and bytes
//! that are delivered as good are the bytes that were sent.
//!
//! | target | who lies | where |
//! |---|---|---|
//! | `cqe_to_frame` | the device, in completions of packets and of control work | rings → queues → rebuild → frame → payload memory |
//! | `command_output` | firmware, in command entries and mailboxes | command queue → answer → every layout |
//! | `bring_up` | firmware, in answers and registers while the function comes up | bring-up, report, teardown |
//! | `eqe` | the device, in events of every queue | event queues → adapter |
//! | `health` | the device, in initialization segment and health buffer | command queue's start, health monitor |
//! | `capabilities` | firmware, in capability pages | limits, offload and steering |
//! | `host_pdu` | the controller, in a stream of PDUs cut anywhere | host queue → payload memory |
//! | `target_pdu` | the host, in a stream of PDUs cut anywhere | TCP → embedded target |
//! | `tcp_segment` | the peer and the network, in frames | interface → TCP, both ends |
//! | `session` | the device, anywhere, while a shard reads | a whole small world |
#![allow(dead_code, reason = "each user takes a part")]

mod bring_up;
mod capabilities;
mod command_output;
mod cqe_to_frame;
mod eqe;
mod health;
mod host_pdu;
mod input;
mod liar;
mod machine;
mod session;
mod target_pdu;
mod tcp_segment;

pub use cqe_to_frame::race;

/// A fuzz target.
pub struct Target {
    /// Its name: of the binary in `fuzz/`, and of its folder of inputs.
    pub name: &'static str,
    /// What it does with an input. Panics if something does not hold.
    pub run: fn(&[u8]),
    /// Length of a random input that reaches everything.
    pub typical: usize,
    /// Random inputs of `tests/fuzz_corpus.rs`, in thousands of executions that take about as long: the slow ones have few.
    pub share: u32,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "cqe_to_frame", run: cqe_to_frame::run, typical: 400, share: 300 },
    Target { name: "command_output", run: command_output::run, typical: 300, share: 300 },
    Target { name: "bring_up", run: bring_up::run, typical: 60, share: 10 },
    Target { name: "eqe", run: eqe::run, typical: 200, share: 300 },
    Target { name: "health", run: health::run, typical: 100, share: 300 },
    Target { name: "capabilities", run: capabilities::run, typical: 200, share: 1000 },
    Target { name: "host_pdu", run: host_pdu::run, typical: 400, share: 1000 },
    Target { name: "target_pdu", run: target_pdu::run, typical: 200, share: 100 },
    Target { name: "tcp_segment", run: tcp_segment::run, typical: 500, share: 1000 },
    Target { name: "session", run: session::run, typical: 120, share: 10 },
];

/// A target by its name.
///
/// # Panics
/// If there is none.
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("a target of this name")
}
