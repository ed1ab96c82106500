//! Why a connection ended, and why a command was not taken.

use crate::nvme::payload::PayloadError;
use crate::nvme::pdu::{FatalStatus, FieldError};
use crate::nvme::status::Status;
use crate::observe::counter::reasons;
use std::time::Duration;

/// Why a queue failed. Every command that was outstanding completes after this, with [`Status::ABORTED_BY_HOST`] if no byte
/// of it was sent, else with [`Status::HOST_PATHING_ERROR`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A PDU broke the protocol.
    #[error("the controller broke the protocol: {0}")]
    Field(#[from] FieldError),
    /// A header was damaged on its way.
    #[error("{pdu} PDU: header digest {received:#010x}, computed {computed:#010x}")]
    HeaderDigest {
        /// Name of the PDU as its first byte has it.
        pdu: &'static str,
        /// The digest in the PDU.
        received: u32,
        /// The digest of the bytes before it.
        computed: u32,
    },
    /// A command was said to have succeeded although data is missing.
    #[error("command {cid} was completed with success after {moved} of its {expected} bytes of data")]
    MissingData {
        /// The command.
        cid: u16,
        /// Bytes that arrived, or that the controller asked for.
        moved: u32,
        /// Bytes of the command.
        expected: u32,
    },
    /// The controller ended the connection.
    #[error("the controller ended the connection: {} (FES {fes:#x}, FEI {fei:#x})", FatalStatus::name(*fes))]
    Terminated {
        /// Fatal error status.
        fes: u16,
        /// Fatal error information.
        fei: u32,
    },
    /// Payload could not be read or delivered.
    #[error("payload memory: {0}")]
    Memory(#[from] PayloadError),
    /// The caller skipped or repeated bytes of the stream.
    #[error("the next byte of the stream is {expected:#x}, the caller gave {got:#x}")]
    Gap {
        /// Sequence number of the next byte.
        expected: u32,
        /// What came.
        got: u32,
    },
    /// The controller refused the digests that were asked for, or forces some that were not.
    #[error("ICResp PDU: DGST (byte 11) is {granted:#x}, allowed: exactly {asked:#x} as asked for")]
    Digests {
        /// Digests asked for.
        asked: u8,
        /// Digests granted.
        granted: u8,
    },
    /// Fabrics Connect failed.
    #[error("Connect of queue {queue_id} to {subsystem} was refused: {status}{}", refused(*status, parameter))]
    ConnectRefused {
        /// Queue.
        queue_id: u16,
        /// Subsystem NQN.
        subsystem: String,
        /// The status.
        status: Status,
        /// The parameter that it points at, if the status is about one.
        parameter: &'static str,
    },
    /// The subsystem wants in-band authentication, which this driver does not have.
    #[error("{subsystem} wants in-band authentication of queue {queue_id}, which this driver does not support")]
    AuthenticationRequired {
        /// Queue.
        queue_id: u16,
        /// Subsystem NQN.
        subsystem: String,
    },
    /// The connection was not initialized in time.
    #[error("no {awaited} within {waited:?}")]
    Initialization {
        /// What was awaited.
        awaited: &'static str,
        /// For how long.
        waited: Duration,
    },
    /// A command was not completed in time.
    #[error("command {cid} (opcode {opcode:#04x}) was not completed within {waited:?}")]
    CommandTimeout {
        /// The command.
        cid: u16,
        /// Its opcode.
        opcode: u8,
        /// The time-out.
        waited: Duration,
    },
    /// The TCP connection is gone.
    #[error("the TCP connection closed")]
    Closed,
}

fn refused(status: Status, parameter: &'static str) -> String {
    if status.is(Status::CONNECT_INVALID_PARAMETERS) { format!("; it points at {parameter}") } else { String::new() }
}

reasons! {
    /// What kind of [`Reason`].
    pub enum ReasonKind {
        /// A PDU broke the protocol.
        Field "field",
        /// A header digest did not match.
        HeaderDigest "header-digest",
        /// Success without all of the data.
        MissingData "missing-data",
        /// The controller ended the connection.
        Terminated "terminated",
        /// Payload could not be read or delivered, because a placed range means nothing any more or lies outside its buffer.
        Memory "memory",
        /// Bytes of the stream were skipped or repeated.
        Gap "gap",
        /// The controller did not grant the digests exactly as asked for.
        Digests "digests",
        /// Fabrics Connect was refused.
        ConnectRefused "connect-refused",
        /// The subsystem wants in-band authentication.
        Authentication "authentication",
        /// The connection was not initialized in time.
        Initialization "initialization",
        /// A command was not completed in time.
        CommandTimeout "command-timeout",
        /// The TCP connection closed, by whomever.
        Closed "closed",
    }
}

impl Reason {
    /// Its kind, for counters.
    pub fn kind(&self) -> ReasonKind {
        match self {
            Reason::Field(_) => ReasonKind::Field,
            Reason::HeaderDigest { .. } => ReasonKind::HeaderDigest,
            Reason::MissingData { .. } => ReasonKind::MissingData,
            Reason::Terminated { .. } => ReasonKind::Terminated,
            Reason::Memory(_) => ReasonKind::Memory,
            Reason::Gap { .. } => ReasonKind::Gap,
            Reason::Digests { .. } => ReasonKind::Digests,
            Reason::ConnectRefused { .. } => ReasonKind::ConnectRefused,
            Reason::AuthenticationRequired { .. } => ReasonKind::Authentication,
            Reason::Initialization { .. } => ReasonKind::Initialization,
            Reason::CommandTimeout { .. } => ReasonKind::CommandTimeout,
            Reason::Closed => ReasonKind::Closed,
        }
    }

    /// FES and FEI of the H2CTermReq that this calls for (NVMe/TCP, error handling), if any.
    pub(super) fn terminate(&self) -> Option<(FatalStatus, u32)> {
        match self {
            Reason::Field(error) => Some((error.status, error.offset.into())),
            Reason::HeaderDigest { received, .. } => Some((FatalStatus::HeaderDigestError, *received)),
            Reason::MissingData { .. } => Some((FatalStatus::SequenceError, 0)),
            Reason::Digests { .. } => Some((FatalStatus::UnsupportedParameter, 11)),
            _ => None,
        }
    }
}

/// Why a command was not taken. Its identifier stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is not ready, or has failed.
    #[error("the queue takes no commands: it is not connected yet or has failed")]
    NotReady,
    /// The identifier is not in the state that the call wants.
    #[error("command identifier {cid} is {state}, expected {expected}")]
    WrongState {
        /// The identifier.
        cid: u16,
        /// Its state.
        state: &'static str,
        /// What the call wants.
        expected: &'static str,
    },
    /// The command has more data than the controller takes at once, or none where there must be some.
    #[error("{len} bytes of data, allowed: {least} to {most}")]
    Length {
        /// Bytes.
        len: u32,
        /// Least.
        least: u32,
        /// Most.
        most: u32,
    },
}

/// A queue that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, allowed: {least} to {most}")]
pub struct BadQueue {
    /// Which field of the configuration.
    pub field: &'static str,
    /// What it is.
    pub value: u64,
    /// Least.
    pub least: u64,
    /// Most.
    pub most: u64,
}
