//! One connection: TCP, the L5P above it, and the requests under way.
//!
//! ```text
//!  connect ─► waiting (TCP) ─► at work ─► ended: why is known, nothing new begins
//!                                            │ every request has come back, or the device is no longer asked
//!                                            │ the L5P's last words are with TCP, or have waited long enough
//!                                            ▼
//!                        off the offload, Disconnected; TCP goes on alone (`linger`) until the peer knows
//! ```
//!
//! Every wait ends: see [`Connection::deadline`].

use super::error::{Disconnect, NoOffload};
use crate::ddp::stats::Stats;
use crate::ddp::tags::TagTable;
use crate::ddp::why::WhyNoOffload;
use crate::frame::Frame;
use crate::nvme::controller::{Controller, ControllerConfig};
use crate::nvme::queue::{self, HostQueue, QueueConfig};
use crate::tcp::{self, FourTuple, State};
use std::time::Duration;

/// How long a connection may take until TCP is connected, the next hop's address included. TCP's own limit is shorter and
/// says more; this one holds where TCP is not even asked.
pub(super) const CONNECT_PATIENCE: Duration = Duration::from_secs(20);
/// How long the device may take to forget a buffer. It takes microseconds; what takes seconds is lost.
pub(super) const FORGET_PATIENCE: Duration = Duration::from_secs(3);
/// How long the L5P's last words (H2CTermReq) may wait for room in TCP's send buffer.
pub(super) const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(2);

/// Packets whose completion was refused that a connection remembers, to say why they were copied when they came again.
const REFUSED_PACKETS: usize = 8;

/// Names a connection of a shard; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    pub(super) index: u32,
    /// Which use of the index; wraps after 4 Gi connections.
    pub(super) serial: u32,
}

/// What a connection is for.
#[derive(Clone, Debug)]
pub(super) enum Role {
    /// The admin queue.
    Admin(Box<ControllerConfig>),
    /// An I/O queue.
    Io(Box<QueueConfig>),
}

/// The protocol above TCP.
pub(super) enum L5p {
    /// TCP has not connected.
    Waiting(Role),
    Admin(Box<Controller>),
    Io(Box<HostQueue>),
}

/// A request under way, by command identifier.
pub(super) struct Pending {
    pub token: u64,
    /// The controller's answer, while the device has not forgotten the buffer.
    pub done: Option<queue::Completion>,
}

/// What the offload context of a connection has seen of the stream: to say why something was not placed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// End of all that came with the queue's flow tag.
    end: u32,
    /// Packets whose completion was refused, the last few: first sequence number and bytes.
    refused: [(u32, u32); REFUSED_PACKETS],
    next_refused: usize,
}

impl Seen {
    /// The context expects the stream to go on at `seq`.
    pub fn start(&mut self, seq: u32) {
        self.end = seq;
    }

    /// `len` bytes at `seq` came, at most `window` behind what was received in order (`next`): the context has seen them.
    /// True if it had seen later ones before.
    #[inline(always)]
    pub fn packet(&mut self, seq: u32, len: u32, next: u32, window: u32) -> bool {
        let late = seq.wrapping_sub(self.end).cast_signed() < 0;
        let end = seq.wrapping_add(len);
        // What lies outside of the window is nobody's word for anything.
        if end.wrapping_sub(self.end).cast_signed() > 0 && end.wrapping_sub(next) <= window {
            self.end = end;
        }
        late
    }

    /// A packet with these bytes was dropped because what the device said of it could not be true.
    pub fn refuse(&mut self, seq: u32, len: u32) {
        self.refused[self.next_refused] = (seq, len);
        self.next_refused = (self.next_refused + 1) % REFUSED_PACKETS;
    }

    /// True if any of these bytes was in a packet that was refused.
    #[cold]
    pub fn was_refused(&self, seq: u32, len: u32) -> bool {
        // Each begins behind the start of the other by less than that has.
        self.refused
            .iter()
            .any(|&(start, bytes)| bytes != 0 && (seq.wrapping_sub(start) < bytes || start.wrapping_sub(seq) < len))
    }
}

pub(super) struct Connection {
    pub id: ConnectionId,
    pub tuple: FourTuple,
    pub tcp: tcp::Connection<Frame>,
    pub l5p: L5p,
    /// Number of the offload queue.
    pub offload: Option<u32>,
    /// Why there is none, if so.
    pub no_offload: NoOffload,
    /// Buffers of requests without an offload queue.
    pub tags: TagTable,
    pub stats: Stats,
    /// Counters of offload queues that it had; they are in the offload's own sums already.
    pub past: Stats,
    pub seen: Seen,
    pub requests: Box<[Option<Pending>]>,
    /// Requests that have not come back.
    pub under_way: u32,
    /// Of these, the answered ones that wait for the device to forget their buffers.
    pub draining: u32,
    /// Since when `draining` has not gone down.
    pub draining_since: Duration,
    pub opened: Duration,
    /// In the shard's list of what is to be run, of what is to be sent.
    pub busy: bool,
    pub sending: bool,
    /// TCP could not be asked for segments: its timers wait.
    pub blocked: bool,
    /// The caller wants it closed.
    pub closing: bool,
    /// The controller was asked to shut down; it is down, or has failed to go down.
    pub shutting_down: bool,
    pub down: bool,
    /// Why it ends, once it does, and since when.
    pub ended: Option<Disconnect>,
    pub ended_at: Duration,
}

impl Connection {
    pub fn new(
        id: ConnectionId,
        tuple: FourTuple,
        tcp: tcp::Connection<Frame>,
        role: Role,
        now: Duration,
    ) -> Connection {
        let depth = match &role {
            Role::Admin(_) => 1,
            Role::Io(config) => u32::from(config.depth.max(1)),
        };
        Connection {
            id,
            tuple,
            tcp,
            l5p: L5p::Waiting(role),
            offload: None,
            no_offload: NoOffload { why: WhyNoOffload::NotAsked, detail: WhyNoOffload::NotAsked.to_string() },
            tags: TagTable::new(depth),
            stats: Stats::default(),
            past: Stats::default(),
            seen: Seen::default(),
            requests: (0..depth).map(|_| None).collect(),
            under_way: 0,
            draining: 0,
            draining_since: now,
            opened: now,
            busy: false,
            sending: false,
            blocked: false,
            closing: false,
            shutting_down: false,
            down: false,
            ended: None,
            ended_at: now,
        }
    }

    pub fn controller(&self) -> Option<&Controller> {
        match &self.l5p {
            L5p::Admin(controller) => Some(controller),
            _ => None,
        }
    }

    pub fn io_queue(&self) -> Option<&HostQueue> {
        match &self.l5p {
            L5p::Io(queue) => Some(queue),
            _ => None,
        }
    }

    /// The NVMe queue, admin or I/O.
    pub fn host_queue(&mut self) -> Option<&mut HostQueue> {
        self.l5p.host_queue()
    }

    /// When the connection must be run although nothing came in.
    pub fn deadline(&self) -> Option<Duration> {
        let tcp = self.tcp.next_deadline().filter(|_| !self.blocked);
        if self.ended.is_some() {
            // What the L5P waits for does not matter any more.
            return [tcp, Some(self.ending_until())].into_iter().flatten().min();
        }
        let l5p = match &self.l5p {
            L5p::Waiting(_) => Some(self.opened + CONNECT_PATIENCE),
            L5p::Admin(controller) => controller.next_deadline(),
            L5p::Io(queue) => queue.next_deadline(),
        };
        let forget = (self.draining != 0).then(|| self.draining_since + FORGET_PATIENCE);
        [l5p, tcp, forget].into_iter().flatten().min()
    }

    /// When a connection that has ended waits no longer, for buffers or for room for its last words.
    pub fn ending_until(&self) -> Duration {
        self.ended_at + if self.under_way != 0 { FORGET_PATIENCE } else { LAST_WORDS_PATIENCE }
    }

    /// Notes why the connection ends. The first reason counts: what follows are its consequences.
    pub fn end(&mut self, why: Disconnect, now: Duration) {
        if self.ended.is_none() {
            (self.ended, self.ended_at) = (Some(why), now);
        }
    }

    /// TCP has connected: makes the L5P.
    pub fn start(&mut self, now: Duration) {
        let L5p::Waiting(role) = &self.l5p else { return };
        let made = match role.clone() {
            Role::Admin(config) => Controller::new(*config, now).map(|c| L5p::Admin(Box::new(c))),
            Role::Io(config) => HostQueue::new(*config, now).map(|q| L5p::Io(Box::new(q))),
        };
        match made {
            Ok(l5p) => self.l5p = l5p,
            Err(error) => self.end(Disconnect::Queue(error), now),
        }
    }

    /// Starts the L5P as soon as TCP has connected: bytes may come with the segment that says so.
    #[inline]
    pub fn start_if_connected(&mut self, now: Duration) {
        if !matches!(self.l5p, L5p::Waiting(_)) {
            return;
        }
        let connected = !matches!(self.tcp.state(), State::SynSent | State::SynReceived | State::Closed);
        if connected && self.ended.is_none() {
            self.start(now);
        }
    }

    /// Why the connection is over as far as TCP and time are concerned.
    pub fn look_for_end(&mut self, now: Duration) {
        if self.ended.is_some() {
            return;
        }
        if let Some(error) = self.tcp.error() {
            self.end(Disconnect::Tcp(error), now);
        } else if self.tcp.at_end() || self.tcp.state() == State::Closed {
            self.end(Disconnect::ClosedByPeer, now);
        } else if self.draining != 0 && now >= self.draining_since + FORGET_PATIENCE {
            let waited = now.saturating_sub(self.draining_since);
            self.end(Disconnect::NotForgotten { buffers: self.draining, waited }, now);
        } else if matches!(self.l5p, L5p::Waiting(_)) && now >= self.opened + CONNECT_PATIENCE {
            self.end(Disconnect::NotConnected { waited: now.saturating_sub(self.opened) }, now);
        }
    }

    /// Whether a connection that the caller wants closed can be: its requests are done, its controller is down. One that
    /// is not connected yet, or not ready, has nothing to wait for.
    pub fn may_close(&mut self, now: Duration) -> bool {
        match &mut self.l5p {
            L5p::Waiting(_) => true,
            L5p::Io(queue) => !queue.is_ready() || queue.outstanding() == 0,
            L5p::Admin(controller) => {
                if controller.is_ready() && !std::mem::replace(&mut self.shutting_down, true) {
                    controller.shutdown(now);
                }
                self.down || !self.shutting_down
            }
        }
    }
}

impl L5p {
    /// The NVMe queue, admin or I/O.
    pub fn host_queue(&mut self) -> Option<&mut HostQueue> {
        match self {
            L5p::Waiting(_) => None,
            L5p::Admin(controller) => Some(controller.queue()),
            L5p::Io(queue) => Some(queue),
        }
    }

    /// Nothing more will come: every command that is outstanding completes.
    pub fn connection_closed(&mut self) {
        match self {
            L5p::Waiting(_) => {}
            L5p::Admin(controller) => controller.connection_closed(),
            L5p::Io(queue) => queue.connection_closed(),
        }
    }
}
