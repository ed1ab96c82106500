//! The layer-5 protocol: an NVMe/TCP host, sans-IO.
//!
//! ```text
//!             owner (one thread: connection, tags, this queue)
//!   submit │        ▲ Event: Ready, Completed, Resync, Failed
//!          ▼        │
//!   HostQueue ── one TCP connection = one NVMe queue
//!     commands  CID → state, bytes received, deadlines
//!     transmit  capsules and H2CData, cut where the caller's buffer ends ──► bytes for TCP
//!     receive   PDU headers gathered, payload never touched              ◄── ranges of frames
//!          │        │
//!          ▼        ▼
//!   PayloadMemory: peek (headers), deliver (payload, moved only if it is not there yet), digest, fetch (writes)
//! ```
//!
//! * [`pdu`]: the nine PDUs and what each of their fields may hold. [`command`], [`fabrics`], [`identify`], [`status`]:
//!   what travels inside capsules.
//! * [`queue`]: [`HostQueue`], the protocol of one connection: initialization, Fabrics Connect, commands, data both ways.
//! * [`controller`]: the admin queue's procedure on top of it: enable, identify, number of queues, keep-alive, shutdown.
//!
//! Nothing here knows a socket, a clock or the NIC. Bytes come in as [`frame::Range`](crate::frame::Range)s and go out
//! into the caller's buffer; time is a parameter; what happened is an event to be polled. The offload shows only in three
//! places: payload may already lie where it belongs ([`Delivery::InPlace`]), a frame may vouch for data digests, and the
//! device may ask whether a PDU starts at some place of the stream ([`HostQueue::resync_request`]).
//!
//! Sections cited as "NVMe/TCP" are those of the NVM Express TCP Transport Specification 1.0, "Fabrics" of NVMe over
//! Fabrics 1.1, "Base" of the NVM Express Base Specification 2.0; where no number is given, the topic is. All multi-byte fields are little-endian.

pub mod command;
pub mod controller;
pub mod fabrics;
pub mod identify;
mod payload;
pub mod pdu;
pub mod queue;
pub mod status;

pub use controller::{Controller, ControllerConfig, ControllerError, ControllerEvent};
pub use payload::{Cause, Delivery, PayloadError, PayloadMemory};
pub use queue::{Completion, DigestBy, Event, HostQueue, QueueConfig, Reason};
pub use status::Status;

use crc_fast::{CrcAlgorithm, Digest};

/// CRC32C of a header or of control data, as both digests are computed (NVMe/TCP, digests). On the wire the number is
/// little-endian.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(bytes);
    digest.finalize() as u32
}
