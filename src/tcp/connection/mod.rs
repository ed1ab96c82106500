//! The connection state machine (RFC 9293 §3.3.2).
//!
//! ```text
//!  connect ─► SYN-SENT ─► ESTABLISHED ─ close ─► FIN-WAIT-1 ─► FIN-WAIT-2 ─► TIME-WAIT ─► CLOSED
//!                 └► SYN-RECEIVED ─┘   │              └──────► CLOSING ────────┘            ▲
//!  accept ─────────────┘               └ peer's FIN ─► CLOSE-WAIT ─ close ─► LAST-ACK ──────┘
//! ```
//!
//! `input` is everything that a segment does, `output` everything that leaves, `timers` what time does, and `recovery` joins
//! them to loss recovery. Fields are named as in RFC 9293 §3.3.1 where it has a name for them. One thing is ours: `max`, the
//! highest position ever sent; an acknowledgment of anything up to it is good. Without SACK `nxt` goes back to `una` after a
//! timeout, and what is still missing is sent again from there. With SACK it never goes back: the scoreboard knows each
//! segment between `una` and `nxt`, and those that are lost are sent again one by one.

mod input;
mod output;
mod recovery;
mod timers;

use std::time::Duration;

use super::congestion::Congestion;
use super::receive::ReceiveQueue;
use super::recovery::Recovery;
use super::recovery::newreno::NewReno;
use super::recovery::sack::SackRecovery;
use super::rtt::RttEstimator;
use super::segment::Header;
use super::send::SendQueue;
use super::{Config, ConfigError, Counters, Flags, Payload, Position};

/// Segment size that a peer that announces none can take (RFC 9293 §3.7.1, MUST-15).
const DEFAULT_MSS: u16 = 536;
/// A peer that announces less still gets segments of this many bytes: below, the options alone would fill them and a
/// malicious peer could make us send a packet per byte.
const LEAST_MSS: u16 = 88;
/// Bytes of the timestamps option with its padding.
const TIMESTAMPS_LEN: u16 = 12;

/// Connection state, RFC 9293 §3.3.2. There is no LISTEN: see [`Connection::accept`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names of RFC 9293")]
pub enum State {
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
    Closed,
}

impl State {
    /// Its name in RFC 9293.
    pub fn name(self) -> &'static str {
        match self {
            State::SynSent => "SYN-SENT",
            State::SynReceived => "SYN-RECEIVED",
            State::Established => "ESTABLISHED",
            State::FinWait1 => "FIN-WAIT-1",
            State::FinWait2 => "FIN-WAIT-2",
            State::CloseWait => "CLOSE-WAIT",
            State::Closing => "CLOSING",
            State::LastAck => "LAST-ACK",
            State::TimeWait => "TIME-WAIT",
            State::Closed => "CLOSED",
        }
    }
}

/// What the peer failed to send in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The answer to our SYN.
    Handshake,
    /// An acknowledgment of data or of our FIN.
    Acknowledgment,
    /// Any answer to probes of its closed window.
    WindowProbe,
    /// Any answer to keepalive probes.
    Keepalive,
    /// Its FIN, after it had acknowledged ours.
    Fin,
}

impl std::fmt::Display for Waited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Waited::Handshake => "an answer to SYN",
            Waited::Acknowledgment => "an acknowledgment",
            Waited::WindowProbe => "an answer to window probes",
            Waited::Keepalive => "an answer to keepalive probes",
            Waited::Fin => "the peer's FIN",
        })
    }
}

/// Why a connection ended other than by both sides closing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// The peer answered our SYN with a reset: nobody listens on that port.
    #[error("connection refused: no one listens on the peer's port")]
    Refused,
    /// The peer reset the connection.
    #[error("connection reset by the peer")]
    Reset,
    /// [`Connection::abort`] was called.
    #[error("connection aborted by this side")]
    Aborted,
    /// The peer was silent for too long.
    #[error("waited {after:?} for {what}: peer or path is gone")]
    TimedOut {
        /// What was awaited.
        what: Waited,
        /// For how long.
        after: Duration,
    },
}

/// A segment to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxSegment<'a> {
    /// Its header.
    pub header: Header,
    /// Its payload: the second run is not empty only where the send ring wraps.
    pub payload: [&'a [u8]; 2],
}

impl TxSegment<'_> {
    /// Bytes of payload.
    pub fn payload_len(&self) -> usize {
        self.payload[0].len() + self.payload[1].len()
    }
}

/// A TCP connection. See the [module](crate::tcp) for how it is driven.
#[derive(Debug)]
pub struct Connection<P> {
    config: Config,
    state: State,
    error: Option<ConnectionError>,
    counters: Counters,

    send: SendQueue,
    /// `close` was called: a FIN follows the last byte.
    fin_queued: bool,
    iss: Position,
    una: Position,
    nxt: Position,
    max: Position,
    /// SND.WND, scaled, and the largest it ever was.
    window: u32,
    max_window: u32,
    wl1: Position,
    wl2: Position,
    window_shift: u8,
    /// Payload bytes of a full segment with its usual options.
    mss: u32,

    receive: ReceiveQueue<P>,
    /// Position of the peer's FIN, once one was seen.
    peer_fin: Option<Position>,
    /// The FIN is in order: RCV.NXT is one beyond the data.
    fin_received: bool,
    /// The right edge of the window that the peer was told: it never moves left.
    edge: Position,
    receive_shift: u8,
    last_ack_sent: Position,

    timestamps: bool,
    ts_recent: u32,
    ts_recent_at: Duration,
    sack: bool,

    congestion: Congestion,
    recovery: Recovery,
    /// What was sent up to here was all that the congestion window allowed.
    limited_until: Position,
    rtt: RttEstimator,
    /// The segment whose round trip is being measured without timestamps: its end, and when it was sent.
    timing: Option<(Position, Duration)>,
    /// Everything before this position may have been sent again, the last time at this tick of the timestamp clock.
    sent_again: Option<(Position, u32)>,

    /// Send the first unacknowledged segment again.
    retransmit: bool,
    /// The retransmission timer expired before for the same data.
    timed_out_before: bool,
    syn_lost: bool,
    /// Acknowledge now.
    ack_now: bool,
    /// Duplicate acknowledgments to send: one for every out-of-order segment, also if many are handed in between two
    /// polls, because the peer counts to three.
    duplicate_acks: u32,
    /// In-order segments that were not acknowledged.
    unacked_segments: u32,
    /// Reset this connection at the peer.
    reset_pending: bool,
    /// A reset that answers a segment which does not belong to this connection.
    stray_reset: Option<Header>,
    probe_window: bool,
    probe_keepalive: bool,
    /// Send a tail loss probe.
    probe_tail: bool,
    /// Sender's silly window avoidance is overridden once.
    send_small: bool,

    retransmit_at: Option<Duration>,
    /// Then something will be lost if nothing arrives (RFC 8985 §6.2, the reordering timer).
    loss_at: Option<Duration>,
    /// Then the tail is probed (RFC 8985 §7.2, PTO).
    probe_at: Option<Duration>,
    persist_at: Option<Duration>,
    persist_backoff: u32,
    ack_at: Option<Duration>,
    /// End of TIME-WAIT, or of the patience in FIN-WAIT-2.
    linger_at: Option<Duration>,
    keepalive_sent: u32,
    last_keepalive: Duration,
    /// Since when something is outstanding without progress.
    stalled_since: Duration,
    last_heard: Duration,
    last_sent: Duration,
    /// Challenge acknowledgments in the second that began then.
    challenges: (Duration, u32),
}

impl<P: Payload> Connection<P> {
    /// Opens a connection actively: `poll_tx` gives the SYN out.
    pub fn connect(config: Config, now: Duration) -> Result<Connection<P>, ConfigError> {
        Connection::new(config, State::SynSent, now)
    }

    /// Opens a connection passively: `syn` is the header of a SYN that nobody else wanted, and was not checked yet.
    ///
    /// `None` if it is not a SYN. There is no listener: who wants one calls this for each SYN with an unknown four-tuple.
    pub fn accept(config: Config, syn: &Header, now: Duration) -> Result<Option<Connection<P>>, ConfigError> {
        if syn.flags & (Flags::SYN | Flags::ACK | Flags::RST) != Flags::SYN {
            return Ok(None);
        }
        let mut connection = Connection::new(config, State::SynReceived, now)?;
        connection.synchronize(syn, now);
        Ok(Some(connection))
    }

    fn new(config: Config, state: State, now: Duration) -> Result<Connection<P>, ConfigError> {
        config.check()?;
        let iss = Position::initial(config.initial_sequence);
        let unknown = Position::initial(0);
        Ok(Connection {
            state,
            error: None,
            counters: Counters::default(),
            send: SendQueue::new(config.send_bytes as usize, iss + 1),
            fin_queued: false,
            iss,
            una: iss,
            nxt: iss,
            max: iss,
            window: 0,
            max_window: 0,
            wl1: unknown,
            wl2: iss,
            window_shift: 0,
            mss: u32::from(DEFAULT_MSS),
            receive: ReceiveQueue::new(unknown, config.receive_payloads as usize),
            peer_fin: None,
            fin_received: false,
            edge: unknown,
            receive_shift: config.window_shift(),
            last_ack_sent: unknown,
            timestamps: config.timestamps,
            ts_recent: 0,
            ts_recent_at: now,
            sack: config.sack,
            congestion: Congestion::new(config.congestion),
            recovery: Recovery::NewReno(NewReno::new(iss)),
            limited_until: iss,
            rtt: RttEstimator::new(config.min_rto),
            timing: None,
            sent_again: None,
            retransmit: false,
            timed_out_before: false,
            syn_lost: false,
            ack_now: false,
            duplicate_acks: 0,
            unacked_segments: 0,
            reset_pending: false,
            stray_reset: None,
            probe_window: false,
            probe_keepalive: false,
            probe_tail: false,
            send_small: false,
            retransmit_at: None,
            loss_at: None,
            probe_at: None,
            persist_at: None,
            persist_backoff: 0,
            ack_at: None,
            linger_at: None,
            keepalive_sent: 0,
            last_keepalive: now,
            stalled_since: now,
            last_heard: now,
            last_sent: now,
            challenges: (now, 0),
            config,
        })
    }

    /// Takes over what the peer's SYN says: its sequence number, window and options.
    fn synchronize(&mut self, syn: &Header, now: Duration) {
        let next = Position::initial(syn.seq) + 1;
        self.receive.start_at(next);
        self.last_ack_sent = next;
        // RFC 7323 §2.2: the window of a SYN is not scaled, neither the peer's nor ours.
        self.edge = next + self.receive_budget().min(u32::from(u16::MAX));
        let options = &syn.options;
        match options.window_scale {
            // RFC 7323 §2.3: larger shifts count as 14.
            Some(shift) => self.window_shift = shift.min(14),
            None => (self.window_shift, self.receive_shift) = (0, 0),
        }
        let clamped =
            options.window_scale.is_some_and(|shift| shift > 14) || options.mss.is_some_and(|mss| mss < LEAST_MSS);
        self.counters.clamped_options += u64::from(clamped);
        self.timestamps = self.timestamps && options.timestamps.is_some();
        self.sack = self.sack && options.sack_permitted;
        if let Some(timestamps) = options.timestamps {
            (self.ts_recent, self.ts_recent_at) = (timestamps.value, now);
        }
        let announced = options.mss.unwrap_or(DEFAULT_MSS).max(LEAST_MSS);
        // RFC 6691: the announced size does not count options, what is sent must.
        let room = if self.timestamps { TIMESTAMPS_LEN } else { 0 };
        self.mss = u32::from(announced.min(self.config.mss) - room);
        if self.sack {
            let first = self.iss + 1;
            self.recovery = Recovery::Sack(Box::new(SackRecovery::new(first, self.config.send_bytes, self.mss)));
        }
        self.window = u32::from(syn.window);
        self.max_window = self.window;
        (self.wl1, self.wl2) = (next.back(1), self.una);
    }

    /// Takes the next payload in order, and the position of its first byte. The window opens by its length.
    ///
    /// Nothing after an error (RFC 9293 §3.10.7.4: all queues are flushed): see [`drain`](Self::drain).
    pub fn recv(&mut self) -> Option<(Position, P)> {
        if self.error.is_some() {
            return None;
        }
        let taken = self.receive.take();
        if taken.is_some() {
            self.on_taken();
        }
        taken
    }

    /// The window may open.
    #[inline]
    fn on_taken(&mut self) {
        if !self.ack_now && self.may_receive() && self.edge_if_opened() > self.edge {
            self.ack_now = true;
        }
    }

    /// Queues bytes to be sent; returns how many fitted, 0 once the connection is closing.
    pub fn send(&mut self, bytes: &[u8]) -> usize {
        match self.state {
            State::SynSent | State::SynReceived | State::Established | State::CloseWait if !self.fin_queued => {
                self.send.write(bytes)
            }
            _ => 0,
        }
    }

    /// Bytes that [`send`](Self::send) would take.
    pub fn send_room(&self) -> usize {
        match self.state {
            State::SynSent | State::SynReceived | State::Established | State::CloseWait if !self.fin_queued => {
                self.send.room()
            }
            _ => 0,
        }
    }

    /// Ends our direction: a FIN follows what is queued (RFC 9293 §3.10.4). What the peer still sends is delivered.
    /// In SYN-SENT the attempt is given up, with what was queued.
    pub fn close(&mut self) {
        match self.state {
            State::SynSent => self.state = State::Closed,
            State::SynReceived => self.fin_queued = true,
            State::Established => (self.fin_queued, self.state) = (true, State::FinWait1),
            State::CloseWait => (self.fin_queued, self.state) = (true, State::LastAck),
            _ => {}
        }
        if self.state == State::Closed {
            self.stop_timers();
        }
    }

    /// Ends the connection at once (RFC 9293 §3.10.5): `poll_tx` gives out a reset, queued bytes are forgotten, and what
    /// was received comes back with [`drain`](Self::drain).
    pub fn abort(&mut self) {
        if self.state != State::Closed {
            self.fail(ConnectionError::Aborted);
        }
    }

    /// Gives back the payloads that are still held, and forgets them. For a connection that is over.
    pub fn drain(&mut self) -> impl Iterator<Item = P> + '_ {
        std::iter::from_fn(|| self.receive.drain_one())
    }

    /// State.
    pub fn state(&self) -> State {
        self.state
    }

    /// Why the connection ended; `None` while it lives and after an orderly end.
    pub fn error(&self) -> Option<ConnectionError> {
        self.error
    }

    /// True once the peer's FIN came in order and everything before it was taken: the end of its stream.
    pub fn at_end(&self) -> bool {
        self.fin_received && self.receive.ready_bytes() == 0
    }

    /// Counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// RCV.NXT: what the peer is told to send next.
    pub fn rcv_nxt(&self) -> Position {
        self.receive.next() + u32::from(self.fin_received)
    }

    /// The position of the next byte that [`recv`](Self::recv) will return: everything before it was consumed.
    pub fn recv_position(&self) -> Position {
        self.receive.next().back(self.receive.ready_bytes())
    }

    /// The position that a sequence number of the peer's direction means: the nearest to RCV.NXT, 2 GiB to both sides.
    pub fn resolve_received(&self, seq: u32) -> Position {
        self.rcv_nxt().nearest(seq)
    }

    /// SND.UNA: the first position that the peer did not acknowledge.
    pub fn snd_una(&self) -> Position {
        self.una
    }

    /// SND.NXT: one beyond the highest position sent.
    pub fn snd_nxt(&self) -> Position {
        self.max
    }

    /// The position of the next byte given to [`send`](Self::send).
    pub fn send_position(&self) -> Position {
        self.send.end()
    }

    /// The position that a sequence number of our direction means: the nearest to SND.NXT.
    pub fn resolve_sent(&self, seq: u32) -> Position {
        self.max.nearest(seq)
    }

    /// Payload bytes of a full segment.
    pub fn mss(&self) -> u32 {
        self.mss
    }

    /// Smoothed round-trip time, once measured.
    pub fn smoothed_rtt(&self) -> Option<Duration> {
        self.rtt.smoothed()
    }

    /// How often in a row the peer owed an answer and none came: retransmission timeouts since the last round trip was measured, or
    /// keepalive probes. Zero-window probes do not count.
    pub fn unanswered(&self) -> u32 {
        self.rtt.backoff().max(self.keepalive_sent)
    }

    /// Congestion window, in bytes.
    pub fn congestion_window(&self) -> u32 {
        self.congestion.window()
    }

    /// When `poll_tx` must be called next although nothing came in and nothing was queued; `None`: never.
    ///
    /// After `poll_tx` returned `None` this is later than the `now` it was given.
    pub fn next_deadline(&self) -> Option<Duration> {
        let sending = [self.retransmit_at, self.loss_at, self.probe_at, self.persist_at];
        let others = [self.ack_at, self.linger_at, self.keepalive_at()];
        sending.into_iter().chain(others).flatten().min()
    }

    /// Bytes that may be ready and unread, as far as both budgets allow.
    fn receive_budget(&self) -> u32 {
        let free = self.receive.free_payloads().saturating_mul(u32::from(self.config.mss));
        self.config.receive_bytes.saturating_sub(self.receive.ready_bytes()).min(free)
    }

    /// Where the right edge of the window would be if it were announced now.
    fn edge_if_opened(&self) -> Position {
        let target = self.receive.next() + self.receive_budget();
        // RFC 9293 §3.8.6.2.2 (MUST-39): no small steps, or the peer sends small segments.
        let step = (self.config.receive_bytes / 2).min(u32::from(self.config.mss)).max(1);
        if target.since(self.edge) >= u64::from(step) { target } else { self.edge }
    }

    /// True in the states in which data from the peer is taken.
    fn may_receive(&self) -> bool {
        matches!(self.state, State::Established | State::FinWait1 | State::FinWait2)
    }

    /// One beyond everything that is queued to be sent, our FIN included.
    fn send_limit(&self) -> Position {
        self.send.end() + u32::from(self.fin_queued)
    }

    /// Ends the connection with an error, with a reset for the peer if it may believe in the connection.
    fn fail(&mut self, error: ConnectionError) {
        let told = matches!(error, ConnectionError::Refused | ConnectionError::Reset);
        self.reset_pending = !told && !matches!(self.state, State::SynSent | State::TimeWait | State::Closed);
        self.error = Some(error);
        self.state = State::Closed;
        self.stop_timers();
    }

    fn stop_timers(&mut self) {
        self.stop_sending_timers();
        (self.ack_at, self.linger_at) = (None, None);
        (self.retransmit, self.ack_now, self.duplicate_acks) = (false, false, 0);
        (self.probe_window, self.probe_keepalive, self.send_small) = (false, false, false);
    }

    /// Nothing is left to be acknowledged.
    fn stop_sending_timers(&mut self) {
        (self.retransmit_at, self.loss_at, self.probe_at, self.persist_at) = (None, None, None, None);
        self.probe_tail = false;
    }
}
