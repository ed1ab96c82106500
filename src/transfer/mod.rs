//! Reading or writing a range of a namespace through a [`Session`], in the time of the platform: what `cxddp read` does.
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

use crate::dma::{DmaError, DmaHeap, IoBuf};
use crate::nvme::command::{BadLength, Request};
use crate::nvme::identify::NamespacePage;
use crate::platform::{Deadline, Platform};
use crate::session::{self, Completion, Event, Refused, Session, SessionError};
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
pub type MakeBuffer = dyn FnMut(&DmaHeap, usize) -> Result<IoBuf, DmaError>;

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
    pub buffers: Option<&'a mut MakeBuffer>,
    /// Ends it early, and in order, once it is true.
    pub stop: &'a AtomicBool,
}

/// Who watches.
pub trait Watch<P: Platform> {
    /// The session was polled. True if the watcher has more to do with it: then it is polled again at once.
    fn polled(&mut self, session: &mut Session<P>) -> bool {
        let _ = session;
        false
    }
    /// Everything was transferred, and nothing is closed yet.
    fn done(&mut self, session: &Session<P>) {
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
    Session(#[from] SessionError),
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
}

/// Carries a transfer out on a function. What stops it once it has begun is the first of [`Outcome::problems`].
pub fn run<'a, P: Platform>(platform: Arc<P>, config: &'a Config, ends: Ends<'a>, watch: &mut dyn Watch<P>) -> Outcome {
    let began = platform.now();
    let session = Session::new(Arc::clone(&platform), config.session.clone());
    let outcome = Outcome { queues: Queue::all(config.session.controller.io_queues), ..Outcome::default() };
    let mut job =
        Job { config, ends, watch, session, outcome, free: Vec::new(), ready: false, down: false, idle_since: began };
    let worked = job.work();
    if let Err(error) = &worked {
        job.outcome.problems.insert(0, error.to_string());
    }
    let Job { session, mut outcome, free, .. } = job;
    drop(free);
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
        while !self.ready {
            self.turn(None)?;
        }
        self.outcome.connected = self.now();
        let passed = self.range().and_then(|(range, block)| self.passes(range, block));
        self.watch.done(&self.session);
        self.note_queues();
        // Whatever it was, a controller that is there is told that its host goes.
        if self.session.is_live() {
            self.session.shutdown();
            while !self.down {
                match self.turn(None) {
                    Err(error) if passed.is_ok() => return Err(error),
                    Err(_) => break,
                    Ok(()) => {}
                }
            }
        }
        passed
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
                false => format!("there is none of that number; there are {}", ids.join(", ")),
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
        let mut pass = Pass { writing, next: from, end, block, open: 0, done: 0 };
        let total = end - from;
        self.show(&pass, total);
        while pass.next < pass.end || pass.open != 0 {
            let stopped = self.ends.stop.load(Ordering::Relaxed);
            if stopped {
                // What is under way comes back first.
                pass.next = pass.end;
                if pass.open == 0 {
                    return Err(TransferError::Stopped);
                }
            }
            self.submit(&mut pass)?;
            let before = pass.done;
            self.turn(Some(&mut pass))?;
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
    fn turn(&mut self, mut pass: Option<&mut Pass>) -> Result<(), TransferError> {
        let mut worked = self.session.poll();
        worked |= self.watch.polled(&mut self.session);
        while let Some(event) = self.session.next_event() {
            worked = true;
            self.on_event(pass.as_deref_mut(), event)?;
        }
        if worked {
            self.idle_since = self.now();
        } else {
            self.rest();
            if pass.is_none() && !self.ready && self.ends.stop.load(Ordering::Relaxed) {
                return Err(TransferError::Stopped);
            }
        }
        Ok(())
    }

    fn rest(&mut self) {
        let now = self.now();
        let long = self.config.interrupts.is_some_and(|budget| now - self.idle_since >= budget);
        if !long {
            self.session.platform().pause();
            return;
        }
        if !self.session.arm() {
            return;
        }
        self.outcome.sleeps += 1;
        let until = self.session.next_deadline();
        let platform = self.session.platform();
        platform.sleep(until);
        // Taken before the queues are looked at: what fires later is there for the next sleep.
        let fired = (0..platform.vectors()).filter(|vector| platform.take_interrupt(*vector)).count();
        self.outcome.interrupts += fired as u64;
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
            Event::Completed(completion) => {
                if let Some(pass) = pass {
                    self.complete(pass, completion)?;
                }
            }
            Event::Lost { why, .. } if !self.ready => return Err(TransferError::NotConnected(why)),
            Event::Lost { level, why } => {
                if !self.config.recover {
                    return Err(TransferError::Lost(why));
                }
                self.watch.news(&format!("lost, {level} are made anew: {why}"));
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
            Event::Ended(SessionError::Lost { why, .. }) if !self.ready => {
                return Err(TransferError::NotConnected(why.to_string()));
            }
            Event::Ended(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Begins requests until the session takes no more.
    fn submit(&mut self, pass: &mut Pass) -> Result<(), TransferError> {
        while pass.next < pass.end && (pass.open + 1) * self.config.io_size <= MAX_IN_FLIGHT.max(self.config.io_size) {
            let offset = pass.next;
            let len = self.config.io_size.min(pass.end - offset);
            let buffer = self.buffer(len as usize)?;
            let (lba, blocks) = (offset / pass.block, (len / pass.block) as u32);
            let begun = match pass.writing {
                true => {
                    if let Some(content) = &mut self.ends.content {
                        let mut bytes = vec![0; len as usize];
                        content
                            .fill(offset, &mut bytes)
                            .map_err(|error| TransferError::Io { what: "what is to be written", error })?;
                        buffer.write(0, &bytes);
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
                    pass.next += len;
                    pass.open += 1;
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
        pass.done += len;
        let kind = if pass.writing { "write" } else { "read" };
        match &completion.result {
            Err(error) => {
                self.outcome.failed += 1;
                let stays = if completion.buffer.is_none() { "; its buffer stays with the device" } else { "" };
                self.problem(format!("the {kind} of {len} bytes at byte {offset}: {error}{stays}"));
            }
            Ok(()) if pass.writing => {
                self.outcome.writes += 1;
                self.outcome.bytes_written += len;
            }
            Ok(()) => {
                self.outcome.read(&completion, len);
                if let Some(buffer) = &completion.buffer {
                    self.look_at(offset, buffer)?;
                }
            }
        }
        completion.buffer.into_iter().for_each(|buffer| self.keep(buffer));
        Ok(())
    }

    /// Compares what was read, and passes it on.
    fn look_at(&mut self, offset: u64, buffer: &IoBuf) -> Result<(), TransferError> {
        if let Some(content) = &mut self.ends.content {
            let found = buffer.to_vec();
            let mut expected = vec![0; found.len()];
            content
                .fill(offset, &mut expected)
                .map_err(|error| TransferError::Io { what: "what reads are compared with", error })?;
            self.outcome.bytes_compared += found.len() as u64;
            if let Some((wrong, first)) = difference(&found, &expected) {
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
