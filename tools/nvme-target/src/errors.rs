//! Why a connection ended otherwise than by the host closing an idle one.

use crate::pdu::{PduType, fes};
use crate::script::{At, Kind};
use std::net::SocketAddrV4;
use std::time::Duration;

/// A connection that ended badly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection {connection} from {peer}, {}: {reason}", queue_name(*.queue))]
pub struct ConnectionError {
    /// Which connection, counted from 0 in the order of acceptance.
    pub connection: u64,
    /// The host's address and port.
    pub peer: SocketAddrV4,
    /// Queue that it carried, if Connect had succeeded.
    pub queue: Option<u16>,
    /// Why.
    pub reason: Reason,
}

fn queue_name(queue: Option<u16>) -> String {
    queue.map_or("not a queue yet".into(), |queue| format!("queue {queue}"))
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A PDU header field that cannot be; answered with FES 1.
    #[error("{pdu}: {field} (byte {offset}) is {value:#x}, expected {expected}")]
    Field {
        /// Type of the PDU, as text: it may not be a known one.
        pdu: String,
        /// Name of the field.
        field: &'static str,
        /// Its byte offset in the PDU.
        offset: u32,
        /// What it was.
        value: u64,
        /// What it should have been.
        expected: String,
    },
    /// A PDU that may not come now; answered with FES 2.
    #[error("{pdu} {why}")]
    Sequence {
        /// Type of the PDU.
        pdu: PduType,
        /// What is wrong with it coming now.
        why: &'static str,
    },
    /// A header digest that does not fit; answered with FES 3.
    #[error("header digest of {pdu} is {received:#010x}, computed {computed:#010x}")]
    HeaderDigest {
        /// Type of the PDU.
        pdu: PduType,
        /// From the wire.
        received: u32,
        /// Over the header.
        computed: u32,
    },
    /// Data for a place that nobody asked for; answered with FES 4.
    #[error("H2CData for command {cid:#x} has bytes {offset}+{len}, awaited are {awaited_offset}+{awaited_len}")]
    OutOfRange {
        /// CCCID.
        cid: u16,
        /// DATAO.
        offset: u32,
        /// DATAL.
        len: u32,
        /// Offset that the R2T still awaits.
        awaited_offset: u32,
        /// Bytes that the R2T still awaits.
        awaited_len: u32,
    },
    /// More data in one PDU than allowed; answered with FES 5.
    #[error("{pdu} has {len} bytes of data, allowed are {limit}")]
    Limit {
        /// Type of the PDU.
        pdu: PduType,
        /// Bytes.
        len: u32,
        /// Limit that the target told the host.
        limit: u32,
    },
    /// A parameter that the target does not support; answered with FES 6.
    #[error("ICReq: {field} (byte {offset}) is {value}, supported is {supported}")]
    Unsupported {
        /// Name of the parameter.
        field: &'static str,
        /// Its byte offset.
        offset: u32,
        /// What it was.
        value: u32,
        /// What is supported.
        supported: &'static str,
    },
    /// The host sent H2CTermReq.
    #[error("the host terminated it: FES {fes}, FEI {fei:#x}")]
    HostTerminated {
        /// Fatal Error Status.
        fes: u16,
        /// Fatal Error Information.
        fei: u32,
    },
    /// The host closed it inside a PDU.
    #[error("the host closed it {received} bytes into a PDU")]
    ClosedInsidePdu {
        /// Bytes of the PDU that had come.
        received: usize,
    },
    /// The host closed it while commands had no answer.
    #[error("the host closed or reset it with {commands} commands unanswered")]
    ClosedWithCommands {
        /// How many.
        commands: u32,
    },
    /// Something did not come in time.
    #[error("no {awaited} for {after:?}")]
    TimedOut {
        /// What was awaited.
        awaited: &'static str,
        /// How long.
        after: Duration,
    },
    /// The controller that it belongs to is gone or was reset.
    #[error("its controller {0} is gone")]
    ControllerGone(u16),
    /// The backing failed after the answer had promised success.
    #[error("the image failed at byte {offset} after success was announced: {error}")]
    Backing {
        /// Byte of the image.
        offset: u64,
        /// What the backing said.
        error: String,
    },
    /// The script wanted it.
    #[error("scripted: {kind:?} at {at:?}")]
    Scripted {
        /// At which PDU.
        at: At,
        /// What.
        kind: Kind,
    },
}

impl Reason {
    /// FES and FEI of the C2HTermReq that tells the host, if it is told.
    pub(crate) fn termination(&self) -> Option<(u16, u32)> {
        match *self {
            Reason::Field { offset, .. } => Some((fes::HEADER_FIELD, offset)),
            Reason::Sequence { .. } => Some((fes::SEQUENCE, 0)),
            Reason::HeaderDigest { received, .. } => Some((fes::HEADER_DIGEST, received)),
            Reason::OutOfRange { .. } => Some((fes::OUT_OF_RANGE, 0)),
            Reason::Limit { .. } => Some((fes::LIMIT, 0)),
            Reason::Unsupported { offset, .. } => Some((fes::UNSUPPORTED, offset)),
            Reason::Scripted { kind: Kind::Terminate { fes, fei }, .. } => Some((fes, fei)),
            _ => None,
        }
    }
}
