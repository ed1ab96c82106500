//! The owner's end: what others want to know is answered between two polls, a little at a time.
//!
//! ```text
//!   Server's threads                          owner loop: poll, Desk::poll, poll, Desk::poll …
//!     ask: question into the slot ─────────►  nothing asked? one load, done
//!     wait, with a deadline                   statistics, events: a copy, at once
//!     answer out of the slot ◄─────────────   a dump: a few commands posted, a few registers read, then on with the next poll
//! ```
//!
//! The device is touched by its owner only. The owner never waits, neither for the slot nor for firmware: a command that got
//! no answer in its time is written down as such, and a dump that nobody waits for any more is dropped.

use super::dump::{Dump, Item, SectionName, Source};
use super::idle::{config_item, read_config};
use super::questions::{self, Question};
use super::registers::Reading;
use super::rings;
use crate::adapter::{Adapter, Capabilities};
use crate::command::{CommandPort, Ticket};
use crate::observe::{Event, RingCounters, Snapshot};
use crate::platform::Platform;
use crate::session::Session;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// Commands of a dump in flight at a time.
const FLYING: usize = 4;
/// Command slots that are left to the driver.
const LEFT_FREE: usize = 8;
/// Registers that are read in one poll; each is a round trip over the bus.
const REGISTERS: usize = 4;
/// How long a command may take, on the platform's clock.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is wanted of the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Every number.
    Statistics,
    /// What happened.
    Events,
    /// A dump of these sections.
    Dump(Vec<SectionName>),
}

/// What it answers.
#[derive(Debug)]
pub(super) enum Answer {
    Statistics(Box<Snapshot>),
    Events(Vec<Event>, RingCounters),
    Dump(Box<Dump>),
}

#[derive(Debug, Default)]
struct Slot {
    /// The question, by its number, until the owner takes it.
    wanted: Option<(u64, Wanted)>,
    /// The answer and the number of its question.
    answer: Option<(u64, Answer)>,
    /// The owner is gone.
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    /// The last question; others than that are not waited for any more.
    last: AtomicU64,
    slot: Mutex<Slot>,
    answered: Condvar,
}

fn lock(shared: &Shared) -> MutexGuard<'_, Slot> {
    // What is in the slot is whole at any time.
    shared.slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The end of those who ask: one at a time.
#[derive(Debug)]
pub(super) struct Asker {
    shared: Arc<Shared>,
    /// Who asks holds it.
    turn: Mutex<()>,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The owner has ended.
    Over,
    /// It did not answer in time.
    Late,
}

impl Asker {
    /// Asks, and waits at most `patience`, others' turns included.
    pub fn ask(&self, wanted: Wanted, patience: Duration) -> Result<Answer, NoAnswer> {
        let until = Instant::now() + patience;
        let _turn = loop {
            match self.turn.try_lock() {
                Ok(turn) => break turn,
                Err(TryLockError::Poisoned(turn)) => break turn.into_inner(),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => return Err(NoAnswer::Late),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let mut slot = lock(&self.shared);
        let number = self.shared.last.load(Ordering::Relaxed) + 1;
        (slot.wanted, slot.answer) = (Some((number, wanted)), None);
        self.shared.last.store(number, Ordering::Relaxed);
        loop {
            match slot.answer.take() {
                Some((answers, answer)) if answers == number => return Ok(answer),
                _ if slot.closed => return Err(NoAnswer::Over),
                _ => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Nobody waits for it: the owner need not go on.
                slot.wanted = None;
                self.shared.last.store(number + 1, Ordering::Relaxed);
                return Err(NoAnswer::Late);
            }
            slot = self.shared.answered.wait_timeout(slot, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The owner's end.
#[derive(Debug)]
pub struct Desk {
    shared: Arc<Shared>,
    /// The last question that was seen.
    seen: u64,
    job: Option<Job>,
    /// An answer that found the slot locked.
    waiting: Option<(u64, Answer)>,
}

impl Desk {
    pub(super) fn new() -> (Desk, Asker) {
        let shared = Arc::<Shared>::default();
        let asker = Asker { shared: Arc::clone(&shared), turn: Mutex::new(()) };
        (Desk { shared, seen: 0, job: None, waiting: None }, asker)
    }

    /// Answers a little of what was asked. To be called between two polls of the session; never waits. Returns true while
    /// there is more to do.
    #[inline]
    pub fn poll<P: Platform>(&mut self, session: &mut Session<P>) -> bool {
        // Relaxed: it is a hint, and the slot's lock orders what is in it.
        let last = self.shared.last.load(Ordering::Relaxed);
        if last == self.seen && self.job.is_none() && self.waiting.is_none() {
            return false;
        }
        self.work(last, session);
        self.job.is_some() || self.waiting.is_some()
    }

    #[cold]
    fn work<P: Platform>(&mut self, last: u64, session: &mut Session<P>) {
        if last != self.seen {
            self.take_question(last, session);
        }
        if let Some(mut job) = self.job.take() {
            match job.step(session) {
                false => self.job = Some(job),
                true => self.waiting = Some((job.number, Answer::Dump(Box::new(job.dump)))),
            }
        }
        let Some(answer) = self.waiting.take() else { return };
        let shared = Arc::clone(&self.shared);
        let mut slot = match shared.slot.try_lock() {
            Err(TryLockError::WouldBlock) => return self.waiting = Some(answer),
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(slot)) => slot.into_inner(),
        };
        slot.answer = Some(answer);
        drop(slot);
        shared.answered.notify_all();
    }

    fn take_question<P: Platform>(&mut self, last: u64, session: &mut Session<P>) {
        let wanted = match self.shared.slot.try_lock() {
            Err(TryLockError::WouldBlock) => return,
            Ok(mut slot) => slot.wanted.take(),
            Err(TryLockError::Poisoned(slot)) => slot.into_inner().wanted.take(),
        };
        // Whoever asked before does not wait any more.
        (self.seen, self.job, self.waiting) = (last, None, None);
        match wanted {
            None => {}
            Some((number, Wanted::Statistics)) => {
                self.waiting = Some((number, Answer::Statistics(Box::new(session.snapshot()))));
            }
            Some((number, Wanted::Events)) => {
                let log = session.event_log();
                self.waiting = Some((number, Answer::Events(log.events().cloned().collect(), log.counters())));
            }
            Some((number, Wanted::Dump(sections))) => self.job = Some(Job::new(number, sections, session)),
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        lock(&self.shared).closed = true;
        self.shared.answered.notify_all();
    }
}

/// A piece of a dump.
enum Task {
    Registers(SectionName, Reading),
    Config(Vec<u8>),
    /// Capabilities are asked for, and then what they say there is.
    Plan,
    Rings,
}

/// A dump that is being made.
struct Job {
    number: u64,
    sections: Vec<SectionName>,
    dump: Dump,
    tasks: VecDeque<Task>,
    questions: VecDeque<Question>,
    flying: Vec<(Question, Ticket, Duration)>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "dump {} of {:?}: {} questions to go", self.number, self.sections, self.questions.len())
    }
}

impl Job {
    fn new<P: Platform>(number: u64, sections: Vec<SectionName>, session: &Session<P>) -> Job {
        let mut dump = Dump::new(Source::Running, session.platform().identity());
        let mut tasks = VecDeque::new();
        for section in &sections {
            dump.section_mut(*section);
            match section {
                SectionName::Pci => tasks.push_back(Task::Config(Vec::new())),
                SectionName::Init => tasks.push_back(Task::Registers(*section, Reading::init_segment())),
                SectionName::Health => tasks.push_back(Task::Registers(*section, Reading::health_buffer())),
                _ => {}
            }
        }
        tasks.extend([Task::Plan, Task::Rings]);
        Job { number, sections, dump, tasks, questions: VecDeque::new(), flying: Vec::new() }
    }

    /// Goes on for a little; true once the dump is whole.
    fn step<P: Platform>(&mut self, session: &mut Session<P>) -> bool {
        match self.tasks.pop_front() {
            Some(Task::Registers(section, mut reading)) => match reading.step(&**session.platform(), REGISTERS) {
                Some(item) => self.dump.section_mut(section).items.push(item),
                None => self.tasks.push_front(Task::Registers(section, reading)),
            },
            Some(Task::Config(bytes)) => self.read_config(bytes, &**session.platform()),
            Some(Task::Plan) => self.plan(session),
            Some(Task::Rings) => {
                if let Some(shard) = session.shard() {
                    rings::collect(shard, &mut self.dump, &self.sections);
                }
            }
            None => {}
        }
        let now = session.platform().now();
        match session.shard_mut().and_then(|shard| shard.adapter_mut().own_mut()) {
            Some(adapter) => self.ask(adapter, now),
            None => {
                let left = self.questions.drain(..).map(|question| question.name);
                for name in left.chain(self.flying.drain(..).map(|(question, ..)| question.name)) {
                    self.dump.problems.push(format!("{name}: the function went down before it could answer"));
                }
            }
        }
        self.tasks.is_empty() && self.questions.is_empty() && self.flying.is_empty()
    }

    fn read_config(&mut self, mut bytes: Vec<u8>, platform: &impl Platform) {
        let outcome: io::Result<bool> = read_config(platform, &mut bytes);
        match outcome {
            Ok(true) => self.tasks.push_front(Task::Config(bytes)),
            outcome => self.dump.section_mut(SectionName::Pci).items.push(config_item(bytes, outcome.err())),
        }
    }

    fn plan<P: Platform>(&mut self, session: &Session<P>) {
        let adapter = session.shard().and_then(|shard| shard.adapter().own());
        let Some(adapter) = adapter else {
            self.dump.problems.push("the function is down: it is not asked anything".into());
            return;
        };
        let general = Capabilities::general(adapter.capabilities());
        self.questions = questions::all(&self.sections, &general, Some(adapter.objects()), &mut self.dump).into();
    }

    fn ask<P: Platform>(&mut self, adapter: &mut Adapter<P>, now: Duration) {
        adapter.look_at_commands();
        for (question, ticket, posted) in std::mem::take(&mut self.flying) {
            match ticket.take() {
                Ok(outcome) => question.answered(outcome, &mut self.dump),
                // Whoever posted it is not waited for: the command queue keeps the slot until firmware is done with it.
                Err(_) if now.saturating_sub(posted) > PATIENCE => {
                    let problem = format!("no answer within {PATIENCE:?}");
                    self.dump.section_mut(question.section).items.push(Item::failed(&question.name, problem));
                }
                Err(ticket) => self.flying.push((question, ticket, posted)),
            }
        }
        while self.flying.len() < FLYING
            && adapter.free_slots() > LEFT_FREE
            && let Some(question) = self.questions.pop_front()
        {
            match adapter.post(&question.request) {
                Ok(ticket) => self.flying.push((question, ticket, now)),
                Err(error) => question.answered(Err(error), &mut self.dump),
            }
        }
    }
}
