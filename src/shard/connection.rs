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
use crate::frame::{Bypass, Frame};
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

/// Stretches of dropped packets that a connection remembers, to say why they were copied when they came again.
const DROPPED: usize = 16;

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

/// A stretch of the stream that the offload context has seen and that was dropped after that.
#[derive(Clone, Copy, Debug, Default)]
struct Dropped {
    start: u32,
    len: u32,
    why: Bypass,
}

/// What the offload context of a connection has seen of the stream: to say why something was not placed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// End of all that came with the queue's flow tag.
    end: u32,
    /// The last few.
    dropped: [Dropped; DROPPED],
    last: usize,
}

impl Seen {
    /// The context expects the stream to go on at `seq`.
    pub fn start(&mut self, seq: u32) {
        self.end = seq;
    }

    /// `len` bytes at `seq` came, at most `window` behind what was received in order (`next`): the context has seen them.
    /// True if it had seen later ones before: it passes the packet through, even if its end is new.
    #[inline(always)]
    pub fn packet(&mut self, seq: u32, len: u32, next: u32, window: u32) -> bool {
        let late = seq.wrapping_sub(self.end).cast_signed() < 0;
        let end = seq.wrapping_add(len);
        // What lies outside of the window is nobody's word for anything.
        if !late && end.wrapping_sub(next) <= window {
            self.end = end;
        }
        late
    }

    /// A packet with these bytes, which the context has seen, was dropped.
    #[cold]
    pub fn drop(&mut self, seq: u32, len: u32, why: Bypass) {
        let last = &mut self.dropped[self.last];
        if last.why == why && seq == last.start.wrapping_add(last.len) {
            last.len = last.len.saturating_add(len);
            return;
        }
        self.last = (self.last + 1) % DROPPED;
        self.dropped[self.last] = Dropped { start: seq, len, why };
    }

    /// Why a packet with these bytes is late. If the context has not seen all of them before, that it is late says all.
    #[cold]
    pub fn why_late(&self, seq: u32, len: u32) -> Bypass {
        let holds = |dropped: &&Dropped| {
            let offset = seq.wrapping_sub(dropped.start);
            offset < dropped.len && len <= dropped.len - offset
        };
        self.dropped.iter().find(holds).map_or(Bypass::Late, |dropped| dropped.why)
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
    /// Requests, by command identifier, up to the highest that was used.
    pub requests: Vec<Option<Pending>>,
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
            requests: Vec::new(),
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

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | late is what begins before the end of all that was seen, in any part of the sequence space | `late_is_behind_what_was_seen` |
    //! | what was seen and dropped is known when it comes again | `what_was_dropped_is_known` |
    use super::*;

    #[test]
    fn late_is_behind_what_was_seen() {
        for start in [0, 1000, u32::MAX - 1500, 0x7fff_fc00] {
            let at = |offset: u32| start.wrapping_add(offset);
            let mut seen = Seen::default();
            seen.start(start);
            let mut packet = |offset, len| seen.packet(at(offset), len, at(0), 100_000);
            assert!(!packet(0, 1000) && !packet(3000, 1000));
            assert!(packet(1000, 1000) && packet(2000, 1000) && packet(3999, 1000), "the last one ends behind it");
            assert!(!packet(4000, 999), "its end was passed through");
            assert!(!packet(200_000, 1), "outside of the window");
            assert!(!packet(4999, 1), "so it changes nothing");
        }
    }

    #[test]
    fn what_was_dropped_is_known() {
        let mut seen = Seen::default();
        seen.drop(u32::MAX - 99, 100, Bypass::NotKept);
        seen.drop(0, 100, Bypass::NotKept);
        seen.drop(500, 10, Bypass::Refused);
        let why = |seq: u32, len| seen.why_late(seq, len);
        assert_eq!((why(u32::MAX - 99, 200), why(u32::MAX - 100, 2)), (Bypass::NotKept, Bypass::Late));
        assert_eq!((why(99, 1), why(99, 2), why(100, 1)), (Bypass::NotKept, Bypass::Late, Bypass::Late));
        assert_eq!((why(500, 10), why(509, 1), why(510, 1)), (Bypass::Refused, Bypass::Refused, Bypass::Late));
        for n in 0..DROPPED as u32 {
            seen.drop(1000 + 100 * n, 1, Bypass::NotKept);
        }
        assert_eq!(seen.why_late(500, 10), Bypass::Late, "only the last few are remembered");
        assert_eq!(Seen::default().why_late(0, 1), Bypass::Late);
    }
}
