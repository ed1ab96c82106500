//! Why a controller could not be brought up, used or shut down.

use crate::nvme::identify::IdentifyError;
use crate::nvme::queue::Reason;
use crate::nvme::status::Status;
use std::time::Duration;

/// Why the admin procedure ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControllerError {
    /// The admin queue failed.
    #[error("admin queue: {0}")]
    Queue(#[from] Reason),
    /// A command was refused.
    #[error("{command} was refused: {status}")]
    Command {
        /// Which one.
        command: String,
        /// The status.
        status: Status,
    },
    /// CSTS.CFS is set.
    #[error("the controller reports a fatal status (CSTS {csts:#x}); only a reset of the controller helps")]
    Fatal {
        /// CSTS.
        csts: u32,
    },
    /// CSTS did not become what was awaited.
    #[error("CSTS is {csts:#x} after {waited:?}, waiting for {awaited}")]
    Status {
        /// What was awaited.
        awaited: &'static str,
        /// CSTS when the time was up.
        csts: u32,
        /// How long.
        waited: Duration,
    },
    /// A property holds a value that this driver cannot serve.
    #[error("property {property} is {value:#x}: {problem}")]
    Property {
        /// Which.
        property: &'static str,
        /// What it holds.
        value: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An Identify page cannot be used.
    #[error(transparent)]
    Identify(#[from] IdentifyError),
}

/// An I/O queue that the controller does not offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueRefused {
    /// The controller is not ready.
    #[error("the controller is not ready")]
    NotReady,
    /// No such queue.
    #[error("I/O queue {queue_id}: the controller granted queues 1 to {most}")]
    Id {
        /// The queue.
        queue_id: u16,
        /// Highest id.
        most: u16,
    },
    /// More commands than the controller takes.
    #[error(
        "queue depth {depth}: the controller takes 1 to {most} outstanding commands (MQES {mqes}, MAXCMD {maxcmd})"
    )]
    Depth {
        /// What was asked for.
        depth: u16,
        /// What would do.
        most: u16,
        /// CAP.MQES.
        mqes: u16,
        /// MAXCMD of Identify Controller, 0 if it does not say.
        maxcmd: u16,
    },
}
