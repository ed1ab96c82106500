//! What is done about a failure: how much has to be made anew, when the next attempt comes, and when it is the end.

use super::event::{Event, Level, Loss, SessionError};
use super::requests::Returned;
use super::{Function, Phase, Session};
use crate::adapter::{Adapter, AdapterError};
use crate::ddp::tags::Quiesced;
use crate::observe::What;
use crate::platform::{Deadline, Platform};
use crate::shard::{Retired, Shard};
use std::sync::Arc;
use std::time::Duration;

/// How long what is under way on other connections may go on when one was lost.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);
/// Failures of the device in [`STRIKE_WINDOW`] after which more is made anew than what failed.
const STRIKES: u32 = 3;
const STRIKE_WINDOW: Duration = Duration::from_secs(60);

/// Attempts that fail one after the other before firmware is asked whether it is still there.
const FAILED_CONNECTS: u32 = 3;

/// What is being recovered from.
#[derive(Debug)]
pub(super) struct Trouble {
    /// Since when.
    pub since: Duration,
    /// When recovery is given up.
    pub until: Duration,
    /// When the next attempt comes.
    next: Duration,
    /// The most that had to be made anew.
    pub level: Level,
    /// Attempts begun.
    pub attempts: u32,
    /// Attempts that failed one after the other.
    failed: u32,
    /// What failed last.
    why: Option<Loss>,
}

impl Trouble {
    /// When it is the end; `None` while nothing has failed.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.why.is_some().then_some(self.until)
    }

    fn new(now: Duration, patience: Duration) -> Trouble {
        let level = Level::Connections;
        Trouble { since: now, until: now + patience, next: now, level, attempts: 0, failed: 0, why: None }
    }
}

impl<P: Platform> Session<P> {
    fn trouble(&mut self, now: Duration) -> &mut Trouble {
        let patience = self.config.ctrl_loss_timeout;
        self.trouble.get_or_insert_with(|| Trouble::new(now, patience))
    }

    /// Counts a failure that the device is to blame for; says how much to make anew.
    pub(super) fn strike(&mut self, level: Level) -> Level {
        let now = self.platform.now();
        let (since, count) = &mut self.strikes;
        if now.saturating_sub(*since) >= STRIKE_WINDOW {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        match *count {
            0..=STRIKES => level,
            n if n <= 2 * STRIKES => level.max(Level::Queues),
            _ => Level::Function,
        }
    }

    /// Something failed: what has to be made anew is taken down.
    pub(super) fn lose(&mut self, level: Level, why: Loss) {
        let now = self.platform.now();
        log::warn!("{why}: {level} to be made anew");
        // Attempts that fail lose nothing that was not lost before, unless more has to be made anew.
        if self.trouble.as_ref().is_none_or(|trouble| trouble.why.is_none() || level > trouble.level) {
            self.counters.losses += 1;
            self.note(What::Lost { level: level.name(), why: crate::observe::text(&why) });
            self.events.push_back(Event::Lost { level, why: why.to_string() });
        } else {
            self.note(What::AttemptFailed { why: crate::observe::text(&why) });
        }
        // The first attempt comes at once, unless what was recovered fails again and again.
        let wait = match self.phase {
            Phase::Live(since) => {
                let soon = now.saturating_sub(since) < self.config.reconnect_delay.most;
                self.relapses = if soon { self.relapses + 1 } else { 0 };
                let relapses = self.relapses;
                self.trouble(now).failed = relapses.saturating_sub(2);
                relapses > 1
            }
            _ => true,
        };
        let trouble = self.trouble(now);
        trouble.level = trouble.level.max(level);
        trouble.why = Some(why);
        if wait {
            self.back_off(now);
        }
        match level {
            Level::Connections if self.admin.is_some() => {
                self.close_queues();
                self.phase = Phase::Draining(Some(now + DRAIN_PATIENCE));
            }
            // The controller ends the association with the admin connection.
            Level::Connections => {
                self.abort();
                self.phase = Phase::Draining(None);
            }
            Level::Queues | Level::Function => {
                // Noted first: an event of a connection that goes with the shard is no loss of its own.
                self.phase = Phase::Draining(None);
                self.retire(level);
                self.wait(now);
            }
        }
        self.look_for_end(now);
    }

    /// An attempt failed before there was anything to take down.
    pub(super) fn attempt_failed(&mut self, why: Loss) {
        let now = self.platform.now();
        log::warn!("{why}");
        self.note(What::AttemptFailed { why: crate::observe::text(&why) });
        self.trouble(now).why = Some(why);
        self.back_off(now);
        self.wait(now);
        self.look_for_end(now);
    }

    /// The next attempt comes later.
    fn back_off(&mut self, now: Duration) {
        let backoff = self.config.reconnect_delay;
        let trouble = self.trouble(now);
        trouble.failed += 1;
        trouble.next = (now + backoff.after(trouble.failed)).min(trouble.until);
    }

    fn wait(&mut self, now: Duration) {
        self.phase = Phase::Waiting(self.trouble(now).next);
    }

    /// Ends the session if recovery took too long.
    fn look_for_end(&mut self, now: Duration) {
        if !matches!(self.phase, Phase::Waiting(_) | Phase::Admin | Phase::Queues | Phase::Draining(_)) {
            return;
        }
        let Some(trouble) = self.trouble.take_if(|trouble| trouble.deadline().is_some_and(|at| now >= at)) else {
            return;
        };
        if let Some(why) = trouble.why {
            let waited = now.saturating_sub(trouble.since);
            // Without recovery there were no attempts, only the one that failed.
            let attempts = if self.config.ctrl_loss_timeout.is_zero() { 0 } else { trouble.attempts };
            self.end(SessionError::Lost { why, waited, attempts });
        }
    }

    /// The session is over as soon as its requests are.
    pub(super) fn end(&mut self, why: SessionError) {
        log::error!("{why}");
        self.note(What::SessionEnded { why: crate::observe::text(&why) });
        self.abort();
        self.phase = Phase::Ending(why);
    }

    /// Does the shard still work? True if something was done about it.
    pub(super) fn look_at_shard(&mut self) -> bool {
        let Function::Up(shard) = &self.function else { return false };
        let Some(why) = shard.broken().map(str::to_owned) else { return false };
        let dead = shard.is_dead();
        let level = self.strike(if dead { Level::Function } else { Level::Queues });
        let why = if dead { Loss::Function(why) } else { Loss::Queues(why) };
        match self.phase {
            Phase::Waiting(_) | Phase::Admin | Phase::Queues | Phase::Live(_) | Phase::Draining(_) => {
                self.lose(level, why);
            }
            // Nothing is made anew any more.
            Phase::Closing { .. } | Phase::Down | Phase::Ending(_) | Phase::Ended => {
                self.problems.push(why.to_string());
                self.retire(Level::Function);
            }
        }
        true
    }

    /// Takes the shard off its function; new queues are made at once if that is enough.
    fn retire(&mut self, level: Level) {
        let Function::Up(shard) = std::mem::replace(&mut self.function, Function::Down) else { return };
        let deadline = shard.adapter().command_deadline();
        let retired = shard.retire(deadline);
        let Retired { adapter, works, problems, events, quarantine, totals, next_port, log, opened } = retired;
        let Some(adapter) = adapter.into_own() else { unreachable!("a session opens its shards on its own adapter") };
        self.past += &totals;
        (self.log, self.opened) = (Some(log), opened);
        self.config.shard.first_port = Some(next_port);
        problems.iter().for_each(|problem| log::warn!("{problem}"));
        // The connections are gone, whatever their events say.
        (self.admin, self.queues) = (None, Vec::new());
        events.into_iter().for_each(|event| self.on_event(event));
        if works && level != Level::Function {
            let counted = adapter.stats().totals;
            match Shard::open(adapter, self.config.shard.clone()) {
                Ok(shard) => self.put_to_work(shard),
                // It was taken down, so the next attempt begins with bring-up.
                Err(error) => {
                    self.past_function += &counted;
                    log::warn!("{error}");
                }
            }
        } else {
            self.function = Function::Sick(Box::new(adapter), quarantine);
        }
        if let (Some(trouble), Function::Sick(..) | Function::Down) = (&mut self.trouble, &self.function) {
            trouble.level = Level::Function;
        }
    }

    /// Does what is due. True if there was anything.
    pub(super) fn advance(&mut self, now: Duration) -> bool {
        if self.closing && self.requests.open() == 0 && self.close_step() {
            return true;
        }
        self.look_for_end(now);
        match self.phase {
            Phase::Waiting(at) if now >= at => {
                self.attempt(now);
                true
            }
            Phase::Draining(until) => self.drain(now, until),
            Phase::Ending(_) => self.ending(),
            _ => false,
        }
    }

    /// Connections go away.
    fn drain(&mut self, now: Duration, until: Option<Duration>) -> bool {
        if self.admin.is_none() && self.queues.is_empty() {
            self.wait(now);
            return true;
        }
        match until {
            Some(until) if now >= until || self.admin.is_none() || self.queues.is_empty() => {
                self.abort();
                self.phase = Phase::Draining(None);
                true
            }
            // The shard's own deadlines end it.
            _ => false,
        }
    }

    /// One attempt to bring everything back.
    fn attempt(&mut self, now: Duration) {
        self.counters.attempts += 1;
        self.trouble(now).attempts += 1;
        if let Function::Sick(..) = &self.function
            && let Err(error) = self.reset()
        {
            return self.attempt_failed(Loss::Adapter(Box::new(error)));
        }
        if let Function::Down = &self.function {
            let adapter = match Adapter::bring_up(Arc::clone(&self.platform), self.config.adapter.clone()) {
                Ok(adapter) => adapter,
                Err(error) => return self.attempt_failed(Loss::Adapter(Box::new(error))),
            };
            let counted = adapter.stats().totals;
            match Shard::open(adapter, self.config.shard.clone()) {
                Ok(shard) => self.put_to_work(shard),
                Err(error) => {
                    self.past_function += &counted;
                    return self.attempt_failed(Loss::NotOpened(Box::new(error)));
                }
            }
        }
        // It may be the function that keeps packets from their way, without saying so.
        if self.trouble(now).failed.is_multiple_of(FAILED_CONNECTS)
            && self.trouble(now).failed != 0
            && let Function::Up(shard) = &mut self.function
        {
            shard.ask_firmware(now);
            if self.look_at_shard() {
                return;
            }
        }
        self.connect_admin();
    }

    /// Resets the function; buffers that only waited for that come back.
    fn reset(&mut self) -> Result<(), AdapterError> {
        let deadline = Deadline::after(&*self.platform, self.config.adapter.ready_timeout);
        let Function::Sick(adapter, _) = &mut self.function else { return Ok(()) };
        let proof = Quiesced::after(&adapter.reset(deadline)?);
        self.past_function += &adapter.stats().totals;
        self.note(What::FunctionReset);
        if let Function::Sick(_, quarantine) = std::mem::replace(&mut self.function, Function::Down) {
            for (index, buffer) in quarantine.release(&proof) {
                if let Some(Returned::Completed(completion)) = self.requests.returned(index, buffer, &mut self.counters)
                {
                    self.events.push_back(Event::Completed(completion));
                }
            }
        }
        Ok(())
    }

    /// The end: what comes back is told, then that it is over.
    fn ending(&mut self) -> bool {
        self.requests.give_up(&mut self.counters, &mut self.done);
        self.tell();
        if self.requests.open() != 0 {
            return false;
        }
        if let Phase::Ending(why) = std::mem::replace(&mut self.phase, Phase::Ended) {
            self.events.push_back(Event::Ended(why));
        }
        true
    }

    /// The caller wants the session closed, and nothing is under way. True if anything was done.
    fn close_step(&mut self) -> bool {
        match self.phase {
            // What was being recovered is not needed any more.
            Phase::Waiting(_) => {
                if let Some(why) = self.trouble.as_ref().and_then(|trouble| trouble.why.as_ref()) {
                    self.problems.push(format!("the controller was not shut down: {why}"));
                }
                self.down();
            }
            Phase::Admin | Phase::Queues => {
                self.abort();
                self.phase = Phase::Draining(None);
            }
            Phase::Live(_) => {
                self.close_queues();
                self.phase = Phase::Closing { admin: false };
            }
            Phase::Closing { .. } if !self.queues.is_empty() => return false,
            Phase::Closing { admin } => match self.admin {
                Some(id) if !admin => self.close_admin(id),
                Some(_) => return false,
                None => {
                    if !self.controller_down {
                        self.problems.push("the controller did not confirm its shutdown".into());
                    }
                    self.down();
                }
            },
            Phase::Draining(_) | Phase::Down | Phase::Ending(_) | Phase::Ended => return false,
        }
        true
    }

    fn down(&mut self) {
        self.trouble = None;
        self.phase = Phase::Down;
        self.events.push_back(Event::Down { problems: std::mem::take(&mut self.problems) });
    }
}
