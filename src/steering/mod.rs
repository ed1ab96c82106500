//! Which queue a received packet goes to (`mlx5-bringup.md` §4, §5, §6).
//!
//! ```text
//! wire ─► MAC filter (vport, multi-physical-function switch)
//!          └► root flow table, level 0; the lowest index that matches wins
//!               0 ..          TCP five-tuples over IPv4 ─► TIR of one connection, flow tag
//!               ..            TCP five-tuples over IPv6 ─► TIR of one connection, flow tag
//!               ..            TCP over IPv4 to a range of ports ─► TIR of the owner of these ports
//!               last but 2, 1 any TCP over IPv4, IPv6   ─► TIR that hashes ─► RQT ─► RQ
//!               last          everything                ─► default TIR ─► RQ, or a copy for each owner
//! ```
//!
//! Ranges of ports exist only where several owners share the function ([`Steering::create_shares`]): packets of a connection
//! reach the owner of its local port whether there is a rule for them or not. The entries for connections are dealt out to
//! the owners beforehand, so that none has to ask another before it adds a rule.
//!
//! * A group is a range of indices with one mask; an entry is a value under that mask and where packets go.
//! * The flow tag of an entry comes back in the completion of every packet that it matched; it is the only link from a
//!   completion to a connection.
//! * A TIR names one RQ or a table of RQs (RQT) that a hash chooses from, and carries the offload context.
//! * Hashing TIRs get only packets that have the fields that they hash: what anything else would hash to is not written
//!   down anywhere.

mod caps;
mod flow;
mod matching;
mod tir;
mod vport;

pub use caps::{Missing, SteeringCaps};
pub use flow::{Defaults, RuleId, Share, Steering, SteeringParams};
pub use matching::{FiveTuple, Ports};
pub use tir::{
    HashFields, OffloadFields, RssHash, TOEPLITZ_KEY, Target, TirParams, create_rqt, create_tir, modify_rqt,
};
pub use vport::{MacFilter, Promiscuous, add_l2_entry, set_mac_filter, set_promiscuous};

use crate::command::CommandError;
use std::net::SocketAddr;

/// Why steering could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SteeringError {
    /// A command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The function cannot steer as the driver needs it.
    #[error("the function cannot steer: {}", missing.iter().map(Missing::to_string).collect::<Vec<_>>().join("; "))]
    Unsupported {
        /// What it lacks.
        missing: Vec<Missing>,
    },
    /// More rules than the table was made for.
    #[error("all {capacity} entries for {family} connections are in use: create the steering with room for more")]
    Full {
        /// IPv4 or IPv6.
        family: &'static str,
        /// Entries of the group.
        capacity: u32,
    },
    /// A connection has one entry.
    #[error("{0} is steered already")]
    Duplicate(FiveTuple),
    /// Source and destination of different families, or of port 0.
    #[error("{from} to {to} is not a connection")]
    NotAConnection {
        /// Source.
        from: SocketAddr,
        /// Destination.
        to: SocketAddr,
    },
    /// The tag does not fit where the completion carries it, or is 0, which means that there is none.
    #[error("flow tag {0:#x} is not in 1..=0xffffff")]
    FlowTag(u32),
    /// A table of receive queues that the device cannot index.
    #[error("a table of {len} receive queues; 1 to {max} are possible, and a power of two")]
    Rqt {
        /// Queues asked for.
        len: usize,
        /// Largest table.
        max: u32,
    },
}
