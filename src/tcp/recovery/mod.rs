//! Loss recovery: what was lost, when it is sent again, and how fast.
//!
//! ```text
//!   with SACK                                               without
//!     scoreboard  each segment in flight and its fate         newreno   counts duplicates, one hole per round trip
//!     rack        lost is what was sent before something
//!                 that arrived, and a little time passed
//!     tlp         the tail has nothing after it: a probe
//!     prr         how much is sent per acknowledgment
//!     sack        the above put together
//! ```
//!
//! Which one a connection has is settled by its SYNs: [`Recovery`]. Both reduce the same
//! [`congestion`](super::congestion) window. The retransmission timer is the last resort of both and belongs to the connection.

pub(super) mod newreno;
mod prr;
mod rack;
pub(super) mod sack;
mod scoreboard;
mod tlp;

use newreno::NewReno;
use sack::SackRecovery;

/// How a connection recovers.
#[derive(Debug)]
pub(super) enum Recovery {
    /// The peer does not report what it has.
    NewReno(NewReno),
    /// The peer sends selective acknowledgments.
    Sack(Box<SackRecovery>),
}

impl Recovery {
    /// True if an acknowledgment with data that says once more what the last one said changes nothing here.
    pub(super) fn is_settled(&self) -> bool {
        match self {
            // Without SACK only news and bare duplicates are looked at.
            Recovery::NewReno(_) => true,
            Recovery::Sack(sack) => sack.is_settled(),
        }
    }
}
