//! A storage user's session with one controller: it owns the function, the shard, the admin connection and the I/O queues,
//! and brings everything back after a failure.
//!
//! ```text
//!             Level::Function                 Level::Queues            Level::Connections
//!        ┌── reset ─► bring-up ─┐        ┌── new queues ──┐        ┌──── drain ─────┐
//!        │                      ▼        ▼                │        ▼                │
//!        └──────────────────── the shard works ───────────┴── admin ─► I/O queues ─► live
//!               ▲                        ▲                          ▲                │
//!               └── dead ────────────────┴── broken ────────────────┴── disconnected ┘
//! ```
//!
//! | what fails | then | level |
//! |---|---|---|
//! | a connection: TCP, the controller, a control ring or its completion queue | every connection is closed, as the association is over (NVMe-oF), and made anew | `Connections` |
//! | a queue of the shard for good ([`Shard::broken`]); control rings again and again | the shard's queues are made anew on the same function | `Queues` |
//! | the function: fatal health, all ones, commands without answer ([`Shard::is_dead`]); queues again and again; what does not let itself be destroyed | function-level reset, bring-up | `Function` |
//!
//! The first attempt comes at once, the others after growing waits ([`Config::reconnect_delay`]), until
//! [`Config::ctrl_loss_timeout`] is over. Requests stay with the session all the while: reads are submitted again, writes where
//! that is safe (`requests`), and neither to a namespace that is not what it was (`namespaces`). A buffer that the device may still write waits for the reset of the function, and for nothing
//! else.
//!
//! Like the shard, a session never waits, except where it executes firmware commands under deadlines: bring-up, queues,
//! resets. The caller polls it, until [`Session::next_deadline`] or the next packet.

mod config;
mod connect;
mod event;
mod namespaces;
mod observe;
mod recover;
mod requests;

pub use config::{Backoff, Config};
pub use event::{Completion, Event, Level, Loss, Recovery, Refused, RequestError, SessionError};
pub use namespaces::Difference;
pub use observe::{Counters, Gauges};

use crate::adapter::{Adapter, Teardown, Totals as FunctionTotals};
use crate::ddp::tags::Quiesced;
use crate::dma::IoBuf;
use crate::nvme::command::{Data, Request};
use crate::nvme::controller::Controller;
use crate::observe::EventRing;
use crate::platform::{Deadline, Platform};
use crate::shard::{ConnectionId, Quarantine, Shard, Totals};
use namespaces::Namespaces;
use recover::Trouble;
use requests::{Requests, Returned};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The function, as far as the session has it.
enum Function<P: Platform> {
    /// Nobody has brought it up.
    Down,
    /// It must be reset before anything else.
    Sick(Box<Adapter<P>>, Quarantine),
    /// At work.
    Up(Box<Shard<P>>),
}

/// What the session is doing.
#[derive(Debug)]
enum Phase {
    /// The next attempt comes then.
    Waiting(Duration),
    /// The admin connection is being made.
    Admin,
    /// The I/O queues are being made.
    Queues,
    /// All queues take requests, since then.
    Live(Duration),
    /// Connections are closed to be made anew: what is under way may finish until then; `None`: they were cut off.
    Draining(Option<Duration>),
    /// Connections are closed for good; the admin connection last.
    Closing {
        /// It is being closed.
        admin: bool,
    },
    /// They were.
    Down,
    /// Recovery was given up; requests come back.
    Ending(SessionError),
    /// All did.
    Ended,
}

/// An I/O queue.
struct IoQueue {
    /// From 1.
    number: u16,
    id: ConnectionId,
    ready: bool,
}

/// A session with one controller.
pub struct Session<P: Platform> {
    platform: Arc<P>,
    config: Config,
    function: Function<P>,
    phase: Phase,
    admin: Option<ConnectionId>,
    queues: Vec<IoQueue>,
    /// The queue whose turn it is.
    turn: usize,
    requests: Requests,
    /// Namespaces, and whether they are what they were.
    namespaces: Namespaces,
    /// Completions that are on their way to `events`.
    done: VecDeque<Completion>,
    events: VecDeque<Event>,
    /// What is being recovered from; also the first connecting counts.
    trouble: Option<Trouble>,
    /// Failures that the device is to blame for, in the time that began then.
    strikes: (Duration, u32),
    /// Failures in a row that came soon after everything was up.
    relapses: u32,
    was_live: bool,
    /// The caller wants to shut the session down.
    closing: bool,
    controller_down: bool,
    problems: Vec<String>,
    counters: Counters,
    /// The longest recovery.
    longest: Duration,
    /// Events of shards that are gone, while there is none; connections that they had.
    log: Option<EventRing>,
    opened: u32,
    /// What was counted of the function before it was brought up anew.
    past_function: FunctionTotals,
    /// What shards counted that are gone.
    past: Totals,
}

/// What a session left behind.
#[derive(Debug)]
#[must_use = "buffers come back with it"]
pub struct Closed {
    /// The function's teardown; empty if it was down already or had to be reset instead, which `problems` says then.
    pub teardown: Teardown,
    /// What went wrong, a line each.
    pub problems: Vec<String>,
    /// What the caller had not taken, and the end of requests that were open.
    pub events: Vec<Event>,
    /// Buffers that came back after their requests had ended, because the device could write them until the function was
    /// reset: with the caller's tokens.
    pub buffers: Vec<(u64, IoBuf)>,
    /// Everything that was counted.
    pub totals: Totals,
}

impl<P: Platform> Session<P> {
    /// A session that brings the function up and connects with its first poll. [`Event::Ready`] or [`Event::Ended`] follows.
    pub fn new(platform: Arc<P>, config: Config) -> Session<P> {
        let now = platform.now();
        Session {
            function: Function::Down,
            phase: Phase::Waiting(now),
            admin: None,
            queues: Vec::new(),
            turn: 0,
            requests: Requests::new(config.max_attempts),
            namespaces: Namespaces::default(),
            done: VecDeque::new(),
            events: VecDeque::new(),
            trouble: None,
            strikes: Default::default(),
            relapses: 0,
            was_live: false,
            closing: false,
            controller_down: false,
            problems: Vec::new(),
            counters: Counters::default(),
            longest: Duration::ZERO,
            log: None,
            opened: 0,
            past_function: FunctionTotals::default(),
            past: Totals::default(),
            platform,
            config,
        }
    }

    /// A session on a function that is up already.
    pub fn on(adapter: Adapter<P>, config: Config) -> Result<Session<P>, Loss> {
        let mut session = Session::new(Arc::clone(adapter.platform()), config);
        let shard = Shard::open(adapter, session.config.shard.clone()).map_err(Box::new)?;
        session.put_to_work(shard);
        Ok(session)
    }

    /// Takes a read into `buffer`, whose length is that of `request` ([`Request::read`]). [`Event::Completed`] with `token`
    /// gives the buffer back. It may be called at any time; requests wait for the controller.
    pub fn read(&mut self, request: Request, buffer: IoBuf, token: u64) -> Result<(), (Refused, IoBuf)> {
        self.take(request, buffer, token, false)
    }

    /// Takes a write from `buffer`, whose length is that of `request` ([`Request::write`]). As [`Session::read`].
    pub fn write(&mut self, request: Request, buffer: IoBuf, token: u64) -> Result<(), (Refused, IoBuf)> {
        self.take(request, buffer, token, true)
    }

    fn take(&mut self, request: Request, buffer: IoBuf, token: u64, write: bool) -> Result<(), (Refused, IoBuf)> {
        let capacity = self.config.capacity();
        if self.closing || matches!(self.phase, Phase::Ending(_) | Phase::Ended) {
            return Err((Refused::Over, buffer));
        }
        match (&request.data, write) {
            (Data::Read { .. }, false) | (Data::Write { .. }, true) => {}
            _ => return Err((Refused::Direction, buffer)),
        }
        let len = request.data.len();
        if buffer.len() as u64 != u64::from(len) {
            return Err((Refused::Length { buffer: buffer.len(), request: len }, buffer));
        }
        if self.requests.open() >= capacity {
            return Err((Refused::Busy { capacity }, buffer));
        }
        self.requests.add(token, request, write, buffer);
        self.submit();
        Ok(())
    }

    /// Gives the queues what waits, in turns, as long as they take it.
    fn submit(&mut self) -> bool {
        let (Phase::Live(_), Function::Up(shard)) = (&self.phase, &mut self.function) else { return false };
        let (queues, turn) = (&self.queues, &mut self.turn);
        let changed = |nsid| self.namespaces.difference(nsid).cloned();
        let any = self.requests.submit(changed, &mut self.counters, &mut self.done, |request, write, buffer, token| {
            let mut left = (crate::shard::Refused::Busy, buffer);
            for _ in 0..queues.len() {
                *turn = (*turn + 1) % queues.len();
                let id = queues[*turn].id;
                let begun = match write {
                    true => shard.write(id, request.clone(), left.1, token),
                    false => shard.read(id, request.clone(), left.1, token),
                };
                match begun {
                    Ok(()) => return Ok(()),
                    Err((why, buffer)) if requests::passes(&why) => left.1 = buffer,
                    Err(refused) => return Err(refused),
                }
            }
            Err(left)
        });
        self.tell();
        any
    }

    fn tell(&mut self) {
        self.events.extend(self.done.drain(..).map(Event::Completed));
    }

    /// Does everything that can be done now. Returns true if anything was done: poll again; else nothing happens before
    /// [`Session::next_deadline`] or the next packet.
    pub fn poll(&mut self) -> bool {
        let mut worked = false;
        if let Function::Up(shard) = &mut self.function {
            worked |= shard.poll();
            // First: what its connections say are consequences.
            worked |= self.look_at_shard();
            while let Function::Up(shard) = &mut self.function
                && let Some(event) = shard.next_event()
            {
                worked = true;
                self.on_event(event);
            }
        }
        let now = self.platform.now();
        worked |= self.look_at_shard();
        worked |= self.advance(now);
        worked |= self.submit();
        worked
    }

    /// The next thing that happened.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Session::poll`] has something to do although nothing arrives.
    pub fn next_deadline(&self) -> Option<Duration> {
        let shard = self.shard().and_then(Shard::next_deadline);
        let own = match &self.phase {
            Phase::Waiting(at) => Some(*at),
            Phase::Draining(until) => *until,
            _ => None,
        };
        let over = match self.phase {
            Phase::Ending(_) | Phase::Ended | Phase::Down | Phase::Closing { .. } => None,
            _ => self.trouble.as_ref().and_then(Trouble::deadline),
        };
        [shard, own, over].into_iter().flatten().min()
    }

    /// Asks for an interrupt at the next packet ([`Shard::arm`]): then the caller may sleep until
    /// [`Session::next_deadline`]. False if there is something to be done: poll first.
    pub fn arm(&mut self) -> bool {
        match &mut self.function {
            Function::Up(shard) => shard.arm(),
            Function::Down | Function::Sick(..) => true,
        }
    }

    /// Shuts the session down: requests that are under way are waited for, then the I/O queues are closed and the controller
    /// is shut down. [`Event::Down`] or [`Event::Ended`] follows.
    pub fn shutdown(&mut self) {
        self.closing = true;
    }

    /// True if all queues take requests.
    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live(_))
    }

    /// The controller, while it is connected.
    pub fn controller(&self) -> Option<&Controller> {
        self.shard()?.controller(self.admin?)
    }

    /// The shard, while the function is up.
    pub fn shard(&self) -> Option<&Shard<P>> {
        match &self.function {
            Function::Up(shard) => Some(shard),
            Function::Down | Function::Sick(..) => None,
        }
    }

    /// The shard, while the function is up, for whoever looks at it between two polls.
    #[cfg(feature = "demo")]
    pub(crate) fn shard_mut(&mut self) -> Option<&mut Shard<P>> {
        match &mut self.function {
            Function::Up(shard) => Some(shard),
            Function::Down | Function::Sick(..) => None,
        }
    }

    /// The I/O queues that are connected: number, from 1, and connection.
    pub fn io_queues(&self) -> impl Iterator<Item = (u16, ConnectionId)> + '_ {
        self.queues.iter().map(|queue| (queue.number, queue.id))
    }

    /// Number of an I/O queue; 0 if the connection is none.
    fn queue_number(&self, id: ConnectionId) -> u16 {
        self.io_queues().find(|(_, of)| *of == id).map_or(0, |(number, _)| number)
    }

    /// I/O queues that have the offload now.
    pub fn offloaded(&self) -> usize {
        let Some(shard) = self.shard() else { return 0 };
        self.io_queues().filter(|(_, id)| shard.is_offloaded(*id)).count()
    }

    /// The platform.
    pub fn platform(&self) -> &Arc<P> {
        &self.platform
    }

    /// What the session has counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What its shards have counted, those that are gone included.
    pub fn totals(&self) -> Totals {
        let mut sum = self.past;
        self.shard().into_iter().for_each(|shard| sum += &shard.totals());
        sum
    }

    /// Takes everything down, whatever the session is doing, and disables the function or resets it. Connections should have
    /// been closed before ([`Session::shutdown`]); those that are not are cut off.
    pub fn close(mut self, deadline: Deadline) -> Closed {
        let mut totals = self.totals();
        let mut closed = Closed {
            teardown: Teardown::default(),
            problems: std::mem::take(&mut self.problems),
            events: Vec::new(),
            buffers: Vec::new(),
            totals,
        };
        let mut safe = Vec::new();
        match std::mem::replace(&mut self.function, Function::Down) {
            Function::Down => {}
            Function::Up(shard) => {
                let left = shard.close(deadline);
                totals = self.past;
                totals += &left.totals;
                closed.totals = totals;
                closed.teardown = left.teardown;
                closed.problems.extend(left.problems);
                for event in left.events {
                    if let crate::shard::Event::Completed(id, completion) = event {
                        let queue = self.queue_number(id);
                        self.done.extend(self.requests.completed(completion, queue, &mut self.counters));
                    }
                }
                safe = left.buffers;
            }
            Function::Sick(mut adapter, quarantine) => match adapter.reset(deadline) {
                Ok(proof) => safe = quarantine.release(&Quiesced::after(&proof)),
                Err(error) => {
                    closed.problems.push(error.to_string());
                    if !quarantine.is_empty() {
                        closed.problems.push(format!("{} buffers stay with the device for ever", quarantine.len()));
                    }
                }
            },
        }
        for (index, buffer) in safe {
            match self.requests.returned(index, buffer, &mut self.counters) {
                Some(Returned::Completed(completion)) => self.done.push_back(completion),
                Some(Returned::Buffer(token, buffer)) => closed.buffers.push((token, buffer)),
                None => {}
            }
        }
        self.requests.give_up(&mut self.counters, &mut self.done);
        self.tell();
        closed.events = self.events.into();
        closed
    }
}
