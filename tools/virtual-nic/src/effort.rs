//! How much a driver does until its first frame: commands, register accesses, doorbells, counted by the device.

use crate::counters::Counters;
use std::collections::VecDeque;
use std::fmt;

/// Sessions that are remembered.
const SESSIONS: usize = 16;

/// What a driver has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Commands executed.
    pub commands: u64,
    /// Reads of registers, those of the health registers included.
    pub reads: u64,
    /// Of these, reads of the health buffer and its counter: they follow the driver's timer, not its steps.
    pub health_reads: u64,
    /// Writes of registers, doorbells included.
    pub writes: u64,
    /// Command doorbells.
    pub command_doorbells: u64,
    /// EQ doorbells.
    pub eq_doorbells: u64,
    /// CQ arm doorbells.
    pub cq_doorbells: u64,
    /// Send queue doorbells.
    pub sq_doorbells: u64,
}

impl Effort {
    fn of(counters: &Counters) -> Effort {
        Effort {
            commands: counters.commands,
            reads: counters.register_reads,
            health_reads: counters.health_reads,
            writes: counters.register_writes,
            command_doorbells: counters.command_doorbells,
            eq_doorbells: counters.eq_doorbells,
            cq_doorbells: counters.cq_doorbells,
            sq_doorbells: counters.sq_doorbells,
        }
    }

    fn since(self, begin: Effort) -> Effort {
        Effort {
            commands: self.commands - begin.commands,
            reads: self.reads - begin.reads,
            health_reads: self.health_reads - begin.health_reads,
            writes: self.writes - begin.writes,
            command_doorbells: self.command_doorbells - begin.command_doorbells,
            eq_doorbells: self.eq_doorbells - begin.eq_doorbells,
            cq_doorbells: self.cq_doorbells - begin.cq_doorbells,
            sq_doorbells: self.sq_doorbells - begin.sq_doorbells,
        }
    }
}

impl fmt::Display for Effort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Effort { commands, reads, health_reads, writes, .. } = self;
        write!(
            f,
            "{commands} commands, {reads} register reads ({health_reads} of them health), {writes} register writes"
        )?;
        let Effort { command_doorbells, eq_doorbells, cq_doorbells, sq_doorbells, .. } = self;
        write!(f, " (doorbells: {command_doorbells} command, {eq_doorbells} EQ, {cq_doorbells} CQ, {sq_doorbells} SQ)")
    }
}

/// The time of one driver on the function: from a reset, or from the DISABLE_HCA of the driver before, to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// What was done when the first frame left, the doorbell that sent it included.
    pub first_sent: Option<Effort>,
    /// What was done when the first frame was completed to a receive queue.
    pub first_received: Option<Effort>,
    /// What was done in all.
    pub all: Effort,
}

/// Sessions, the last of which goes on.
#[derive(Default)]
pub(crate) struct Sessions {
    past: VecDeque<Session>,
    now: Session,
    begin: Effort,
}

impl Sessions {
    /// The driver has gone. One that executed no command was none.
    pub(crate) fn end(&mut self, counters: &Counters) {
        let now = Effort::of(counters);
        let session = Session { all: now.since(self.begin), ..self.now };
        if session.all.commands != 0 {
            if self.past.len() == SESSIONS {
                self.past.pop_front();
            }
            self.past.push_back(session);
        }
        (self.now, self.begin) = (Session::default(), now);
    }

    /// A frame leaves.
    #[inline]
    pub(crate) fn sent(&mut self, counters: &Counters) {
        if self.now.first_sent.is_none() {
            self.now.first_sent = Some(Effort::of(counters).since(self.begin));
        }
    }

    /// A frame was completed.
    #[inline]
    pub(crate) fn received(&mut self, counters: &Counters) {
        if self.now.first_received.is_none() {
            self.now.first_received = Some(Effort::of(counters).since(self.begin));
        }
    }

    /// The last of them, oldest first, as they are now.
    pub(crate) fn list(&self, counters: &Counters) -> Vec<Session> {
        let now = Session { all: Effort::of(counters).since(self.begin), ..self.now };
        self.past.iter().copied().chain(Some(now).filter(|session| session.all.commands != 0)).collect()
    }
}
