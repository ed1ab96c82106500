//! What a session tells its caller.

use super::namespaces::Difference;
use crate::adapter::AdapterError;
use crate::ddp::why::Reasons;
use crate::dma::IoBuf;
use crate::nvme::controller::QueueRefused;
use crate::nvme::queue::DigestBy;
use crate::nvme::status::Status;
use crate::shard::{self, Disconnect, NotOpened, OffloadRefused};
use std::time::Duration;

/// What happened.
#[derive(Debug)]
#[must_use = "buffers come back with events"]
pub enum Event {
    /// The controller is up for the first time, with all I/O queues.
    Ready,
    /// An I/O queue goes without the offload. Queues are numbered from 1.
    NotOffloaded {
        /// Which.
        queue: u16,
        /// Why.
        why: OffloadRefused,
    },
    /// A request is over.
    Completed(Completion),
    /// Something failed and recovery begins, or has to make more anew than it seemed.
    Lost {
        /// What has to be made anew.
        level: Level,
        /// What failed.
        why: String,
    },
    /// The controller is up again; requests that could not be answered meanwhile are submitted again.
    Recovered(Recovery),
    /// The session was [shut down](super::Session::shutdown). What did not go as it should is in `problems`, a line each.
    Down {
        /// What went wrong.
        problems: Vec<String>,
    },
    /// The session is over; all requests have completed before.
    Ended(SessionError),
}

/// A request that is over.
#[derive(Debug)]
pub struct Completion {
    /// What the caller gave with the request.
    pub token: u64,
    /// How it went.
    pub result: Result<(), RequestError>,
    /// Bytes of a read that the device had put in place.
    pub placed: u32,
    /// Bytes of a read that software copied.
    pub copied: u32,
    /// Why software copied them.
    pub why_copied: Reasons,
    /// Who checked the data digests.
    pub digest_by: DigestBy,
    /// The I/O queue that it came back from, from 1 on; 0 if from none.
    pub queue: u16,
    /// How often the request was submitted.
    pub attempts: u32,
    /// The caller's buffer. `None` only if the session is over and the device may still write it: it comes back with
    /// [`Closed::buffers`](super::Closed::buffers) if a reset makes it safe.
    pub buffer: Option<IoBuf>,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The controller, or the transport, says so, and trying again does not help.
    #[error("{status}, after {attempts} attempts")]
    Status {
        /// The last status.
        status: Status,
        /// How often it was tried.
        attempts: u32,
    },
    /// The connection was lost after the write had gone out, at least in part, and before the controller answered. The
    /// controller may have executed it, or may still do so (it need not have noticed the loss), so it was not submitted again:
    /// a second execution could come after later writes (NVMe Base 2.1, communication loss handling).
    #[error(
        "the connection was lost before the write was answered: it may have been executed, in part or as a whole, or may still be"
    )]
    WriteUncertain,
    /// After a loss the controller came back with another disk, or none, behind the namespace's number. The request was not
    /// submitted, or not again. Only a new session takes the other one.
    #[error(
        "namespace {nsid} is not what it was before the connection was lost: {what}. A new session would read it as it is now"
    )]
    NamespaceChanged {
        /// Which.
        nsid: u32,
        /// What is different.
        what: Difference,
    },
    /// The session ended before the request was answered.
    #[error("not answered before the session ended")]
    GivenUp,
    /// The queue does not take such a request.
    #[error(transparent)]
    Refused(shard::Refused),
}

/// What has to be made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The connections to the controller.
    Connections,
    /// The queues of the function, and the connections.
    Queues,
    /// The function: reset, bring-up, queues, connections.
    Function,
}

impl Level {
    /// All of them, from the least to the most.
    pub const ALL: [Level; 3] = [Level::Connections, Level::Queues, Level::Function];

    /// In a word, for programs too.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Connections => "connections",
            Level::Queues => "queues",
            Level::Function => "function",
        }
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A recovery that worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The most that had to be made anew.
    pub level: Level,
    /// From the first sign of trouble until all I/O queues were ready.
    pub took: Duration,
    /// Attempts.
    pub attempts: u32,
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum Loss {
    /// A connection ended. Queue 0 is the admin queue.
    #[error("{} disconnected: {why}", name(*queue))]
    Connection {
        /// Of which queue.
        queue: u16,
        /// Why.
        why: Disconnect,
    },
    /// A queue of the shard failed for good.
    #[error("{0}")]
    Queues(String),
    /// The function does not work any more.
    #[error("{0}")]
    Function(String),
    /// The function did not come up, or could not be reset.
    #[error(transparent)]
    Adapter(#[from] Box<AdapterError>),
    /// The queues could not be created.
    #[error(transparent)]
    NotOpened(#[from] Box<NotOpened>),
    /// A connection could not be begun.
    #[error(transparent)]
    Refused(#[from] shard::Refused),
    /// The offload is required, and firmware refused it.
    #[error("the offload is required, but I/O queue {queue} has none: {why}")]
    Offload {
        /// Which queue, from 1.
        queue: u16,
        /// Why not.
        why: OffloadRefused,
    },
    /// The controller does not offer an I/O queue.
    #[error("controller: {0}")]
    Queue(#[from] QueueRefused),
}

/// What the queue's connection is called in messages.
fn name(queue: u16) -> String {
    match queue {
        0 => "admin queue".to_owned(),
        queue => format!("I/O queue {queue}"),
    }
}

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// It could not be recovered in time.
    #[error("{why}{}", tried(*.waited, *.attempts))]
    Lost {
        /// What failed last.
        why: Loss,
        /// How long was tried.
        waited: Duration,
        /// How often.
        attempts: u32,
    },
    /// The offload is required, and the function cannot.
    #[error("the offload is required, but not possible on I/O queue {queue}: {why}")]
    Offload {
        /// Which queue, from 1.
        queue: u16,
        /// Why not.
        why: OffloadRefused,
    },
}

fn tried(waited: Duration, attempts: u32) -> String {
    match attempts {
        0 => String::new(),
        _ => format!(" (given up after {waited:?} and {attempts} attempts)"),
    }
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many requests are under way as all I/O queues together take.
    #[error("all {capacity} requests are under way")]
    Busy {
        /// How many there are.
        capacity: usize,
    },
    /// The session is being shut down, or is over.
    #[error("the session takes no more requests")]
    Over,
    /// A request that moves its data otherwise than the call says, or that has none.
    #[error("the request does not move data from or to a caller's buffer in the direction that the call says")]
    Direction,
    /// The buffer does not fit the request.
    #[error("a buffer of {buffer} bytes for a request of {request}")]
    Length {
        /// Bytes of the buffer.
        buffer: usize,
        /// Bytes of the request.
        request: u32,
    },
}
