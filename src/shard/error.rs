//! What can be refused, and why connections end.

use super::MAX_SHARDS;
use crate::adapter::{AdapterError, Reason as Lack};
use crate::command::CommandError;
use crate::ddp::device::AddError;
use crate::ddp::why::{Why, WhyNoOffload};
use crate::dma::DmaError;
use crate::net::InterfaceError;
use crate::nvme::controller::ControllerError;
use crate::nvme::queue::{BadQueue, Reason, SubmitError};
use crate::observe::counter::reasons;
use crate::queue::{ErrorCompletion, QueueError};
use crate::steering::{Missing, SteeringError};
use crate::tcp::{ConfigError, ConnectionError};
use hw_regs::eqe::CqErrorSyndrome;
use std::net::{IpAddr, SocketAddrV4};
use std::time::Duration;

/// Why a shard could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// The address cannot be.
    #[error("network interface: {0}")]
    Interface(#[from] InterfaceError),
    /// No memory.
    #[error(transparent)]
    Memory(#[from] DmaError),
    /// A queue could not be created.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// Steering could not be set up.
    #[error("receive steering: {0}")]
    Steering(#[from] SteeringError),
    /// Firmware refused a command.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The adapter has no page of doorbell registers for it.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// No shard, or more than there are ranges of ports.
    #[error("{0} shards; 1 to {MAX_SHARDS} are possible")]
    Shards(u32),
}

impl NotOpened {
    pub(super) fn steering(missing: Vec<Missing>) -> NotOpened {
        NotOpened::Steering(SteeringError::Unsupported { missing })
    }
}

/// Why a connection or a request was not begun. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The shard is broken.
    #[error("the function has failed: {0}")]
    Broken(String),
    /// All connections are in use.
    #[error("all {limit} connections are in use")]
    TooManyConnections {
        /// How many there are.
        limit: u32,
    },
    /// A TCP parameter cannot be.
    #[error("TCP: {0}")]
    Tcp(#[from] ConfigError),
    /// Every port is in use by a connection to that peer, living or closing.
    #[error("every local port is in use by a connection to {0}: wait until some have closed")]
    NoPort(SocketAddrV4),
    /// The connection is no ready I/O queue.
    #[error("the connection is not a ready I/O queue")]
    NotReady,
    /// Every command identifier is in use: poll, and try again.
    #[error("every command identifier of the queue is in use")]
    Busy,
    /// A request that moves its data otherwise than the call says, or that has none.
    #[error("the request does not move data from or to a caller's buffer in the direction that the call says")]
    Direction,
    /// The buffer does not fit the request.
    #[error("a buffer of {buffer} bytes for a request of {request}")]
    Length {
        /// Bytes of the buffer.
        buffer: usize,
        /// Bytes of the request.
        request: u64,
    },
    /// The queue does not take the command.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The read cannot be bound, and the offload is required ([`OffloadPolicy::Require`](super::OffloadPolicy::Require)).
    /// If the reason passes ([`Why::passes`]) poll, and try again.
    #[error("the offload is required, and {0}")]
    NotBound(Why),
    /// The tag table does not take the buffer.
    #[error(transparent)]
    Tag(#[from] crate::ddp::tags::TagError),
}

/// Why a queue was not offloaded. It goes on without.
#[derive(Debug, thiserror::Error)]
pub enum OffloadRefused {
    /// The shard is not to use the offload ([`OffloadPolicy::Off`](super::OffloadPolicy::Off)).
    #[error("the offload is switched off")]
    Off,
    /// The function cannot.
    #[error("the function cannot offload NVMe/TCP: {}", .0.iter().map(Lack::to_string).collect::<Vec<_>>().join("; "))]
    NotPossible(Vec<Lack>),
    /// The function, or a queue that all connections share, has failed.
    #[error("the function has failed: {0}")]
    Failed(String),
    /// The shard gave the offload up, because the device failed again and again with it.
    #[error("the offload was given up: {0}")]
    GivenUp(String),
    /// The connection is not a ready I/O queue at a PDU boundary without outstanding requests.
    #[error("the connection is not a ready I/O queue without outstanding requests")]
    NotReady,
    /// Firmware or steering refused.
    #[error(transparent)]
    Refused(#[from] Box<AddError>),
}

impl OffloadRefused {
    /// The same in a word.
    pub fn why(&self) -> WhyNoOffload {
        match self {
            OffloadRefused::Off => WhyNoOffload::PolicyOff,
            OffloadRefused::NotPossible(_) => WhyNoOffload::NotCapable,
            OffloadRefused::Failed(_) => WhyNoOffload::FunctionFailed,
            OffloadRefused::GivenUp(_) => WhyNoOffload::GivenUp,
            OffloadRefused::NotReady => WhyNoOffload::NotReady,
            OffloadRefused::Refused(error) => error.why(),
        }
    }
}

/// Why a connection has no offload, to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoOffload {
    /// In a word.
    pub why: WhyNoOffload,
    /// What exactly: the missing capability, firmware's status and syndrome ...
    pub detail: String,
}

impl From<&OffloadRefused> for NoOffload {
    fn from(error: &OffloadRefused) -> NoOffload {
        NoOffload { why: error.why(), detail: error.to_string() }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Disconnect {
    /// It was closed on request.
    #[error("closed")]
    Closed,
    /// The peer closed it.
    #[error("closed by the peer")]
    ClosedByPeer,
    /// TCP failed.
    #[error("TCP: {0}")]
    Tcp(ConnectionError),
    /// The NVMe queue could not be made.
    #[error("NVMe queue: {0}")]
    Queue(BadQueue),
    /// No packet can reach the peer.
    #[error("{0} cannot be reached: it, or the gateway to it, does not answer ARP, or there is no gateway")]
    Unreachable(IpAddr),
    /// TCP did not connect in time.
    #[error("not connected after {waited:?}")]
    NotConnected {
        /// How long was waited.
        waited: Duration,
    },
    /// The protocol failed.
    #[error("NVMe/TCP: {0}")]
    Protocol(Reason),
    /// The controller failed.
    #[error("controller: {0}")]
    Controller(ControllerError),
    /// The control ring of its offload failed.
    #[error("offload: {0}")]
    Offload(ErrorCompletion),
    /// The completion queue of its offload's control ring failed.
    #[error("offload: completion queue {cqn:#x} of its control ring failed: {syndrome}")]
    ControlQueue {
        /// Number of the completion queue.
        cqn: u32,
        /// Why.
        syndrome: CqErrorSyndrome,
    },
    /// The device did not say in time that it has forgotten buffers.
    #[error("offload: {buffers} buffers wait for the device to forget them, the last one came {waited:?} ago")]
    NotForgotten {
        /// How many.
        buffers: u32,
        /// How long none has come.
        waited: Duration,
    },
    /// The function failed.
    #[error("function: {0}")]
    Function(String),
}

reasons! {
    /// What kind of [`Disconnect`].
    pub enum DisconnectKind {
        /// Closed on request.
        Closed "closed",
        /// Closed by the peer.
        ClosedByPeer "closed-by-peer",
        /// TCP failed.
        Tcp "tcp",
        /// The NVMe queue could not be made.
        Queue "queue",
        /// No packet can reach the peer.
        Unreachable "unreachable",
        /// TCP did not connect in time.
        NotConnected "not-connected",
        /// The protocol failed.
        Protocol "protocol",
        /// The controller failed.
        Controller "controller",
        /// The control ring of its offload failed.
        Offload "offload",
        /// The completion queue of its offload's control ring failed.
        ControlQueue "control-queue",
        /// The device did not say in time that it has forgotten buffers.
        NotForgotten "not-forgotten",
        /// The function failed.
        Function "function",
    }
}

impl Disconnect {
    /// Its kind, for counters.
    pub fn kind(&self) -> DisconnectKind {
        match self {
            Disconnect::Closed => DisconnectKind::Closed,
            Disconnect::ClosedByPeer => DisconnectKind::ClosedByPeer,
            Disconnect::Tcp(_) => DisconnectKind::Tcp,
            Disconnect::Queue(_) => DisconnectKind::Queue,
            Disconnect::Unreachable(_) => DisconnectKind::Unreachable,
            Disconnect::NotConnected { .. } => DisconnectKind::NotConnected,
            Disconnect::Protocol(_) => DisconnectKind::Protocol,
            Disconnect::Controller(_) => DisconnectKind::Controller,
            Disconnect::Offload(_) => DisconnectKind::Offload,
            Disconnect::ControlQueue { .. } => DisconnectKind::ControlQueue,
            Disconnect::NotForgotten { .. } => DisconnectKind::NotForgotten,
            Disconnect::Function(_) => DisconnectKind::Function,
        }
    }

    /// True if the device cannot be relied on to say that it has forgotten the connection's buffers.
    pub fn is_of_device(&self) -> bool {
        use Disconnect::{ControlQueue, Function, NotForgotten, Offload};
        matches!(self, Offload(_) | ControlQueue { .. } | NotForgotten { .. } | Function(_))
    }
}
