//! An NVMe/TCP target: Ethernet frames in, Ethernet frames out.
//!
//! It stands at the far end of the wire when the driver is tested or shown: one subsystem with one namespace, backed by a
//! file or by an image that is computed. Its TCP is smoltcp (or another one: [`Stack`]) and its NVMe/TCP was written from the
//! specifications alone, sharing nothing with the driver: two readings of the same text that have to agree on the wire. It is
//! deterministic: no clock, no threads, no randomness but from seeds, so a test that failed fails again.
//!
//! ```text
//!   receive(frame) ──────────────► Stack ─► Connection ─► Subsystem ─► Backing
//!   transmit() ◄─ Wire: cuts segments ◄─┘ ◄─ Transmitter ◄─ Answers ◄──┘
//! ```
//!
//! * [`Config`] says what the target is; its [`Script`] says how it behaves: sizes and order of C2HData PDUs, SUCCESS flag or
//!   response capsule, padding, where TCP segments begin ([`Segmentation::AlignPdus`] gives every PDU segments of its own),
//!   and faults of every kind.
//! * What the host does wrong ends its connection with a C2HTermReq that names the field, and is reported by
//!   [`Target::errors`]. Nothing that comes from the wire makes the target panic, wait without end, or keep more than one PDU
//!   and one queue of commands per connection.
//!
//! Spoken: ICReq/ICResp (PFV 0, both digests, HPDA, CPDA, MAXH2CDATA, MAXR2T), Connect, Property Get and Set, Identify (CNS 0
//! to 3), Get Log Page (1, 2, 3, 5), Set and Get Features (06h get only, 07h, 0Bh, 0Fh), Asynchronous Event Request (held),
//! Keep Alive with its timer, Abort (never finds anything), Read, Write (in-capsule and R2T), Flush. Not spoken: discovery
//! subsystem, authentication, TLS, metadata, reservations, more than one namespace.
//!
//! References: NVM Express Base 1.4, NVMe over Fabrics 1.1, NVMe/TCP Transport 1.0.

mod answers;
mod backing;
mod config;
mod connection;
mod controller;
mod counters;
mod errors;
mod nvme;
mod pdu;
mod random;
mod receive;
pub mod script;
mod smoltcp_stack;
mod stack;
mod subsystem;
mod target;
mod transmit;
mod wire;

pub use backing::{Backing, FileBacking, Generated};
pub use config::{Config, ConfigError};
pub use counters::Counters;
pub use errors::{ConnectionError, Reason};
pub use pdu::PduType;
pub use script::{Script, Segmentation};
pub use smoltcp_stack::SmoltcpStack;
pub use stack::{Socket, Stack};
pub use target::Target;
pub use wire::Wire;
