//! Reading or writing a range of a namespace through a [`Session`], in the time of the platform: what `cxddp read` does, and
//! the demonstration, which is the world around it at the same time ([`Watch::polled`], [`Watch::rest`]).
//!
//! ```text
//!  connect ─► (write the range) ─► read it ─► shut down ─► take the function down
//!                    │                 └► bytes compared, or given to whoever takes them
//!                    └ bytes from whoever has them
//! ```
//!
//! The thread polls. With [`Config::interrupts`] it polls for a while after the last work, then asks for an interrupt
//! ([`Session::arm`]) and sleeps.

mod outcome;

pub use outcome::{Outcome, Queue, Recovered};

use crate::ddp::why::Why;
use crate::dma::{DmaError, DmaHeap, IoBuf};
use crate::nvme::command::{BadLength, Request};
use crate::nvme::identify::NamespacePage;
use crate::platform::{Deadline, Platform};
use crate::session::{self, Completion, Event, Loss, Refused, RequestError, Session, SessionError};
use crate::shard::{self, OffloadRefused};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Problems that are told one by one; of more only the number is known.
const TOLD: usize = 20;
/// Most bytes of buffers at a time.
const MAX_IN_FLIGHT: u64 = 2 << 30;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Config {
    /// With whom, and how.
    pub session: session::Config,
    /// Which namespace.
    pub nsid: u32,
    /// First byte of the range: a multiple of the block.
    pub offset: u64,
    /// Bytes of the range, a multiple of the block; `None` for all that follows.
    pub len: Option<u64>,
    /// Bytes of one request: a multiple of the block.
    pub io_size: u64,
    /// How often the range is read.
    pub passes: u32,
    /// The range is written first.
    pub write: bool,
    /// Sleep when there has been nothing to do for so long; `None`: never.
    pub interrupts: Option<Duration>,
    /// What is lost after the start is made anew; else the first loss is the end.
    pub recover: bool,
    /// A write of which nobody knows what became of it, for a loss, is begun anew: right where nobody else writes there.
    pub repeat_writes: bool,
}

/// What bytes of the namespace are, or are to be.
pub trait Content {
    /// The bytes at `offset` of the namespace.
    fn fill(&mut self, offset: u64, out: &mut [u8]) -> io::Result<()>;
}

/// Takes what was read, in whatever order it comes.
pub trait Sink {
    /// The bytes at `offset` of the namespace.
    fn take(&mut self, offset: u64, bytes: &IoBuf) -> io::Result<()>;
}

/// Makes a buffer of so many bytes.
pub type MakeBuffer<'a> = dyn FnMut(&DmaHeap, usize) -> Result<IoBuf, DmaError> + 'a;

/// Bytes in which two runs of the same length differ, and the first of them; `None` if they do not.
pub(crate) fn difference(found: &[u8], expected: &[u8]) -> Option<(u64, u64)> {
    // Slices are compared many bytes at a time; nearly always that is all.
    if found == expected {
        return None;
    }
    let mut wrong = found.iter().zip(expected).enumerate().filter(|(_, (found, expected))| found != expected);
    let (first, _) = wrong.next()?;
    Some((1 + wrong.count() as u64, first as u64))
}

/// What a transfer works on beside the function.
pub struct Ends<'a> {
    /// What is written, and what reads are compared with.
    pub content: Option<&'a mut dyn Content>,
    /// Who gets what was read.
    pub sink: Option<&'a mut dyn Sink>,
    /// Where the buffers of requests come from, if not from the platform's heap: memory for so many bytes.
    pub buffers: Option<&'a mut MakeBuffer<'a>>,
    /// Ends it early, and in order, once it is true.
    pub stop: &'a AtomicBool,
}

/// How a thread rested that had nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Not yet: it is for the platform to do.
    Platform,
    /// It did.
    Rested,
    /// Nothing will ever happen, or has not for so long that it is given up.
    Never(Duration),
}

/// Who watches, and may be the world that the device is in.
pub trait Watch<P: Platform> {
    /// The session was polled. True if the watcher has more to do with it: then it is polled again at once.
    fn polled(&mut self, session: &mut Session<P>) -> bool {
        let _ = session;
        false
    }
    /// There is nothing to do until [`Session::next_deadline`] or the next packet.
    fn rest(&mut self, session: &mut Session<P>) -> Rest {
        let _ = session;
        Rest::Platform
    }
    /// A request succeeded.
    fn completed(&mut self, completion: &Completion, writing: bool) {
        let _ = (completion, writing);
    }
    /// Everything was transferred. False if there is something that is to be waited for all the same.
    fn is_settled(&mut self, session: &mut Session<P>) -> bool {
        let _ = session;
        true
    }
    /// Everything was transferred, or it came to grief, and nothing is closed yet.
    fn done(&mut self, session: &mut Session<P>) {
        let _ = session;
    }
    /// The function is about to be taken down.
    fn closing(&mut self, session: &mut Session<P>) {
        let _ = session;
    }
    /// So much of a pass is done, by bytes.
    fn progress(&mut self, progress: Progress) {
        let _ = progress;
    }
    /// Something was lost, or has recovered: a line for people.
    fn news(&mut self, line: &str) {
        log::warn!("{line}");
    }
}

/// Nobody watches.
pub struct Unwatched;
impl<P: Platform> Watch<P> for Unwatched {}

/// How far a pass is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// It writes.
    pub writing: bool,
    /// Bytes done.
    pub done: u64,
    /// Bytes of the pass.
    pub total: u64,
    /// Bytes of reads, over all passes, that the device had put in place.
    pub placed: u64,
}

/// Why a transfer did not begin, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The connection could not be made.
    #[error("not connected: {0}")]
    NotConnected(String),
    /// What was lost was not made anew, or could not be.
    #[error(transparent)]
    Session(SessionError),
    /// The offload is required and is not possible.
    #[error("--offload require: queue {queue}: {why}")]
    Offload {
        /// Which I/O queue.
        queue: u16,
        /// Why not.
        why: OffloadRefused,
    },
    /// The offload is required, and a read cannot be bound.
    #[error("--offload require: the read of {bytes} bytes at byte {offset}: {why}; {}", .why.advice())]
    NotBound {
        /// First byte of the read in the namespace.
        offset: u64,
        /// Bytes of the read.
        bytes: u64,
        /// Why not.
        why: Why,
    },
    /// A loss, and no recovery is wanted.
    #[error("{0}")]
    Lost(String),
    /// The namespace is not there, or is not one that the driver can use.
    #[error("namespace {nsid}: {why}")]
    Namespace {
        /// Which.
        nsid: u32,
        /// Why not.
        why: String,
    },
    /// The range or the size of requests does not suit the namespace.
    #[error("{0}")]
    Range(String),
    /// A request that cannot be.
    #[error(transparent)]
    Length(#[from] BadLength),
    /// No memory for the buffers.
    #[error(transparent)]
    Memory(#[from] DmaError),
    /// What is to be written or compared, or the place for what was read.
    #[error("{what}: {error}")]
    Io {
        /// Which.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The session does not take a request.
    #[error("{0}")]
    Refused(Refused),
    /// It was stopped.
    #[error("stopped")]
    Stopped,
    /// Nothing happens any more ([`Rest::Never`]).
    #[error("nothing has happened for {0:?}, waiting for {1}")]
    Stuck(Duration, &'static str),
}

impl From<SessionError> for TransferError {
    fn from(error: SessionError) -> TransferError {
        match error {
            SessionError::Offload { queue, why } => TransferError::Offload { queue, why },
            SessionError::Lost { why: Loss::Offload { queue, why }, .. } => TransferError::Offload { queue, why },
            error => TransferError::Session(error),
        }
    }
}

/// Carries a transfer out on a function. What stops it once it has begun is the first of [`Outcome::problems`].
pub fn run<'a, P: Platform>(platform: Arc<P>, config: &'a Config, ends: Ends<'a>, watch: &mut dyn Watch<P>) -> Outcome {
    run_on(Session::new(platform, config.session.clone()), config, ends, watch)
}

/// [`run`], on a session that was begun.
pub fn run_on<'a, P: Platform>(
    session: Session<P>,
    config: &'a Config,
    ends: Ends<'a>,
    watch: &mut dyn Watch<P>,
) -> Outcome {
    let platform = Arc::clone(session.platform());
    let began = platform.now();
    let outcome = Outcome { queues: Queue::all(config.session.controller.io_queues), ..Outcome::default() };
    let mut job = Job {
        config,
        ends,
        watch,
        session,
        outcome,
        free: Vec::new(),
        scratch: Vec::new(),
        ready: false,
        down: false,
        idle_since: began,
    };
    let worked = job.work();
    if let Err(error) = &worked {
        job.outcome.problems.insert(0, error.to_string());
    }
    let Job { mut session, mut outcome, free, watch, .. } = job;
    drop(free);
    watch.closing(&mut session);
    let deadline = Deadline::after(&*platform, config.session.adapter.command_timeout);
    let closed = session.close(deadline);
    outcome.count(&closed.totals);
    outcome.problems.extend(closed.problems);
    if !closed.teardown.is_clean() {
        outcome.problems.push(format!("teardown: {}", closed.teardown));
    }
    outcome.completed = worked.is_ok();
    outcome.elapsed = platform.now() - began;
    outcome
}

/// One way over the range.
struct Pass {
    writing: bool,
    /// The first byte that was never begun, and the end.
    next: u64,
    end: u64,
    /// Requests, by their first byte, that are to be begun anew.
    again: Vec<u64>,
    block: u64,
    /// Requests under way.
    open: u64,
    done: u64,
}

struct Job<'a, 'b, P: Platform> {
    config: &'a Config,
    ends: Ends<'a>,
    watch: &'b mut dyn Watch<P>,
    session: Session<P>,
    outcome: Outcome,
    /// Buffers of a whole request that are not in use.
    free: Vec<IoBuf>,
    scratch: Vec<u8>,
    ready: bool,
    down: bool,
    /// Since when there is nothing to do.
    idle_since: Duration,
}

impl<P: Platform> Job<'_, '_, P> {
    fn now(&self) -> Duration {
        self.session.platform().now()
    }

    fn work(&mut self) -> Result<(), TransferError> {
        let passed = self.connect().and_then(|()| self.range()).and_then(|(range, block)| self.passes(range, block));
        self.watch.done(&mut self.session);
        self.note_queues();
        // Whatever it was, a controller that is there is told that its host goes.
        if self.ready && self.session.is_live() {
            self.session.shutdown();
            while !self.down {
                match self.turn("the controller to shut down", None) {
                    Err(error) if passed.is_ok() => return Err(error),
                    Err(_) => break,
                    Ok(()) => {}
                }
            }
        }
        passed
    }

    fn connect(&mut self) -> Result<(), TransferError> {
        while !self.ready {
            self.turn("the controller and its queues to become ready", None)?;
        }
        self.outcome.connected = self.now();
        Ok(())
    }

    fn passes(&mut self, range: (u64, u64), block: u64) -> Result<(), TransferError> {
        if self.config.write {
            let began = self.now();
            self.pass(true, range, block)?;
            self.outcome.writing = self.now() - began;
        }
        let began = self.now();
        for _ in 0..self.config.passes {
            let passed = self.pass(false, range, block);
            self.outcome.reading = self.now() - began;
            passed?;
        }
        while !self.watch.is_settled(&mut self.session) {
            self.turn("what was lost to be made anew", None)?;
        }
        Ok(())
    }

    /// The range by its first byte and its end, and the bytes of a block.
    fn range(&self) -> Result<((u64, u64), u64), TransferError> {
        let nsid = self.config.nsid;
        let refused = |why: String| TransferError::Namespace { nsid, why };
        let controller = self.session.controller().ok_or_else(|| refused("the controller is gone".into()))?;
        let namespaces = controller.namespaces();
        let Some(namespace) = namespaces.iter().find(|namespace| namespace.id == nsid) else {
            let ids: Vec<_> = namespaces.iter().map(|namespace| namespace.id.to_string()).collect();
            return Err(refused(match ids.is_empty() {
                true => "the subsystem shows this host no namespace".into(),
                false => format!("there is none of that number; the controller has {}", ids.join(", ")),
            }));
        };
        let page: &NamespacePage = namespace.page.as_ref().map_err(|error| refused(error.to_string()))?;
        let (block, size) = (u64::from(page.block_size), page.blocks * u64::from(page.block_size));
        let Config { offset, len, io_size, .. } = *self.config;
        let most = controller.limits().map_or(u64::MAX, |limits| limits.max_transfer.into());
        let aligned = |name: &str, value: u64| match value.is_multiple_of(block) {
            true => Ok(()),
            false => Err(TransferError::Range(format!("{name} {value}: namespace {nsid} has blocks of {block} bytes"))),
        };
        aligned("--offset", offset)?;
        aligned("--io-size", io_size)?;
        if io_size > most {
            let text = format!("--io-size {io_size}: the controller moves at most {most} bytes with a command");
            return Err(TransferError::Range(text));
        }
        let end = match len {
            None => Some(size),
            Some(len) => {
                aligned("--size", len)?;
                offset.checked_add(len)
            }
        };
        match end.filter(|end| *end <= size && offset < *end) {
            Some(end) => Ok(((offset, end), block)),
            None => Err(TransferError::Range(format!(
                "bytes {offset} to {} are not all in namespace {nsid}, which has {size}",
                len.map_or(size, |len| offset.saturating_add(len))
            ))),
        }
    }

    fn pass(&mut self, writing: bool, (from, end): (u64, u64), block: u64) -> Result<(), TransferError> {
        let mut pass = Pass { writing, next: from, end, again: Vec::new(), block, open: 0, done: 0 };
        let total = end - from;
        self.show(&pass, total);
        while pass.next < pass.end || pass.open != 0 || !pass.again.is_empty() {
            let stopped = self.ends.stop.load(Ordering::Relaxed);
            if stopped {
                // What is under way comes back first.
                pass.next = pass.end;
                pass.again.clear();
                if pass.open == 0 {
                    return Err(TransferError::Stopped);
                }
            }
            self.submit(&mut pass)?;
            let before = pass.done;
            self.turn("a request to complete", Some(&mut pass))?;
            if pass.done != before {
                self.show(&pass, total);
            }
        }
        match self.ends.stop.load(Ordering::Relaxed) && pass.done < total {
            true => Err(TransferError::Stopped),
            false => Ok(()),
        }
    }

    fn show(&mut self, pass: &Pass, total: u64) {
        let placed = self.outcome.bytes_placed;
        self.watch.progress(Progress { writing: pass.writing, done: pass.done, total, placed });
    }

    /// Lets the driver do what it can, and looks at what happened; waits a little, or sleeps, if there was nothing.
    fn turn(&mut self, awaited: &'static str, mut pass: Option<&mut Pass>) -> Result<(), TransferError> {
        let mut worked = self.session.poll();
        worked |= self.watch.polled(&mut self.session);
        while let Some(event) = self.session.next_event() {
            worked = true;
            self.on_event(pass.as_deref_mut(), event)?;
        }
        if worked {
            self.idle_since = self.now();
        } else {
            self.rest(awaited)?;
            if pass.is_none() && !self.ready && self.ends.stop.load(Ordering::Relaxed) {
                return Err(TransferError::Stopped);
            }
        }
        Ok(())
    }

    fn rest(&mut self, awaited: &'static str) -> Result<(), TransferError> {
        match self.watch.rest(&mut self.session) {
            Rest::Platform => {}
            Rest::Rested => return Ok(()),
            Rest::Never(waited) => return Err(TransferError::Stuck(waited, awaited)),
        }
        let now = self.now();
        let long = self.config.interrupts.is_some_and(|budget| now - self.idle_since >= budget);
        if !long {
            self.session.platform().pause();
            return Ok(());
        }
        if !self.session.arm() {
            return Ok(());
        }
        self.outcome.sleeps += 1;
        let until = self.session.next_deadline();
        let platform = self.session.platform();
        platform.sleep(until);
        // Taken before the queues are looked at: what fires later is there for the next sleep.
        let fired = (0..platform.vectors()).filter(|vector| platform.take_interrupt(*vector)).count();
        self.outcome.interrupts += fired as u64;
        Ok(())
    }

    fn on_event(&mut self, pass: Option<&mut Pass>, event: Event) -> Result<(), TransferError> {
        match event {
            Event::Ready => {
                self.ready = true;
                self.outcome.queues_offloaded = self.session.offloaded() as u64;
            }
            Event::NotOffloaded { queue, why } => {
                self.watch.news(&format!("I/O queue {queue} goes without the offload: {why}"));
            }
            Event::Completed(completion) => match pass {
                Some(pass) => self.complete(pass, completion)?,
                None => self.problem(format!("a request that nobody waits for is over: {:?}", completion.result)),
            },
            Event::Lost { why, .. } if !self.ready => return Err(TransferError::NotConnected(why)),
            Event::Lost { level, why } => {
                if !self.config.recover {
                    return Err(TransferError::Lost(why));
                }
                self.watch.news(&format!("lost: {why}; {level} to be made anew"));
                self.outcome.lost.push(why);
            }
            Event::Recovered(recovery) => {
                let ms = recovery.took.as_secs_f64() * 1e3;
                self.watch.news(&format!("recovered: {} made anew in {ms:.1} ms", recovery.level));
                let lost = std::mem::take(&mut self.outcome.lost);
                self.outcome.recovered.push(Recovered { lost, recovery });
                self.outcome.queues_offloaded = self.session.offloaded() as u64;
            }
            Event::Down { problems } => {
                self.down = true;
                problems.into_iter().for_each(|problem| self.problem(problem));
            }
            Event::Ended(error) => {
                return Err(match error.into() {
                    TransferError::Session(SessionError::Lost { why, .. }) if !self.ready => {
                        TransferError::NotConnected(why.to_string())
                    }
                    error => error,
                });
            }
        }
        Ok(())
    }

    /// Begins requests until the session takes no more.
    fn submit(&mut self, pass: &mut Pass) -> Result<(), TransferError> {
        while (pass.open + 1) * self.config.io_size <= MAX_IN_FLIGHT.max(self.config.io_size) {
            let offset = pass.again.last().copied().unwrap_or(pass.next);
            if offset >= pass.end {
                break;
            }
            let len = self.config.io_size.min(pass.end - offset);
            let buffer = self.buffer(len as usize)?;
            let (lba, blocks) = (offset / pass.block, (len / pass.block) as u32);
            let begun = match pass.writing {
                true => {
                    if self.fill(offset, len as usize, "what is to be written")? {
                        buffer.write(0, &self.scratch);
                    }
                    let request = Request::write(self.config.nsid, lba, blocks, pass.block as u32)?;
                    self.session.write(request, buffer, offset)
                }
                false => {
                    let request = Request::read(self.config.nsid, lba, blocks, pass.block as u32)?;
                    self.session.read(request, buffer, offset)
                }
            };
            match begun {
                Ok(()) => {
                    pass.open += 1;
                    if pass.again.pop().is_none() {
                        pass.next += len;
                    }
                }
                // Room comes with a completion; that there will be none any more, with an event.
                Err((Refused::Busy { .. } | Refused::Over, buffer)) => {
                    self.keep(buffer);
                    break;
                }
                Err((why, _)) => return Err(TransferError::Refused(why)),
            }
        }
        Ok(())
    }

    /// Puts what belongs at `offset` into the scratch memory; false if nobody knows it.
    fn fill(&mut self, offset: u64, len: usize, what: &'static str) -> Result<bool, TransferError> {
        let Some(content) = &mut self.ends.content else { return Ok(false) };
        self.scratch.resize(len, 0);
        content.fill(offset, &mut self.scratch).map_err(|error| TransferError::Io { what, error })?;
        Ok(true)
    }

    fn buffer(&mut self, len: usize) -> Result<IoBuf, DmaError> {
        if len as u64 == self.config.io_size
            && let Some(buffer) = self.free.pop()
        {
            return Ok(buffer);
        }
        let heap = self.session.platform().dma_heap();
        match &mut self.ends.buffers {
            Some(make) => make(&heap, len),
            None => Ok(IoBuf::new(vec![heap.allocate(len, 4096)?])),
        }
    }

    /// Keeps a buffer for the next request.
    fn keep(&mut self, buffer: IoBuf) {
        if buffer.len() as u64 == self.config.io_size {
            self.free.push(buffer);
        }
    }

    fn complete(&mut self, pass: &mut Pass, completion: Completion) -> Result<(), TransferError> {
        let offset = completion.token;
        let len = self.config.io_size.min(pass.end - offset);
        pass.open -= 1;
        let kind = if pass.writing { "write" } else { "read" };
        match &completion.result {
            Err(RequestError::WriteUncertain) if self.config.repeat_writes => {
                self.outcome.writes_repeated += 1;
                pass.again.push(offset);
                completion.buffer.into_iter().for_each(|buffer| self.keep(buffer));
                return Ok(());
            }
            Err(RequestError::Refused(shard::Refused::NotBound(why))) => {
                return Err(TransferError::NotBound { offset, bytes: len, why: *why });
            }
            Err(error) => {
                self.outcome.failed += 1;
                let stays = if completion.buffer.is_none() { "; its buffer stays with the device" } else { "" };
                self.problem(format!("the {kind} of {len} bytes at byte {offset}: {error}{stays}"));
            }
            Ok(()) if pass.writing => {
                self.watch.completed(&completion, true);
                self.outcome.writes += 1;
                self.outcome.bytes_written += len;
            }
            Ok(()) => {
                self.watch.completed(&completion, false);
                self.outcome.read(&completion, len);
                if let Some(buffer) = &completion.buffer {
                    self.look_at(offset, buffer)?;
                }
            }
        }
        pass.done += len;
        completion.buffer.into_iter().for_each(|buffer| self.keep(buffer));
        Ok(())
    }

    /// Compares what was read, and passes it on.
    fn look_at(&mut self, offset: u64, buffer: &IoBuf) -> Result<(), TransferError> {
        if self.fill(offset, buffer.len(), "what reads are compared with")? {
            let found = buffer.to_vec();
            self.outcome.bytes_compared += found.len() as u64;
            if let Some((wrong, first)) = difference(&found, &self.scratch) {
                self.outcome.bytes_wrong += wrong;
                self.problem(format!(
                    "{wrong} bytes of the read at byte {offset} are wrong, the first at {}",
                    offset + first
                ));
            }
        }
        if let Some(sink) = &mut self.ends.sink {
            sink.take(offset, buffer).map_err(|error| TransferError::Io { what: "what was read", error })?;
        }
        Ok(())
    }

    fn problem(&mut self, what: String) {
        match self.outcome.problems.len() < TOLD {
            true => self.outcome.problems.push(what),
            false => self.outcome.more_problems += 1,
        }
    }

    /// Why queues have no offload, while they are there.
    fn note_queues(&mut self) {
        let Some(shard) = self.session.shard() else { return };
        for (number, id) in self.session.io_queues() {
            if let Some(queue) = self.outcome.queues.get_mut(usize::from(number).wrapping_sub(1)) {
                queue.offloaded = shard.is_offloaded(id);
                queue.why_not = shard.why_no_offload(id).map(|why| (why.why.name(), why.detail.clone()));
            }
        }
    }
}
