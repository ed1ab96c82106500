//! The commands of a queue: one slot per command identifier, 0 to depth - 1.
//!
//! ```text
//! Free ─allocate─► Allocated ─submit─► Queued ─last byte handed out─► Sent ─response─► Done ─release─► Free
//!                      └──────────────────────────────release──────────────────────────────────────────┘
//! ```
//!
//! Identifiers are linear without generation bits because the device indexes its tag table with them; what protects
//! against late PDUs is that an identifier is free only after the controller completed the command and the owner
//! released it.

use super::reason::SubmitError;
use crate::nvme::command::{Data, Sqe};
use std::time::Duration;

const NONE: u16 = u16::MAX;
/// Most identifiers: one value marks the end of lists.
pub(super) const DEPTH_MAX: u16 = u16::MAX - 1;
/// Runs of data ahead of a gap that are remembered per command. Controllers send in order; a few runs are generous.
const RUNS_AHEAD_MAX: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Free,
    Allocated,
    Queued,
    Sent,
    Done,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            State::Free => "free",
            State::Allocated => "allocated but not submitted",
            State::Queued => "submitted but not sent",
            State::Sent => "outstanding",
            State::Done => "completed but not released",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    None,
    Read,
    Write,
    ControlRead,
    ControlWrite,
}

/// One slot. What the receive path needs fits one cache line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command {
    pub(super) state: State,
    pub(super) kind: Kind,
    pub(super) cancelled: bool,
    /// The LAST_PDU flag was seen.
    pub(super) last_seen: bool,
    /// A data digest did not match.
    pub(super) digest_bad: bool,
    /// At least one data digest was checked, and by whom.
    pub(super) digest_hardware: bool,
    pub(super) digest_software: bool,
    /// Bytes of data.
    pub(super) len: u32,
    /// Read: bytes from the start without a gap that C2HData announced. Write: bytes that R2Ts asked for.
    pub(super) prefix: u32,
    pub(super) placed: u32,
    pub(super) copied: u32,
    /// R2T being served: next byte and end; equal if there is none.
    pub(super) r2t_at: u32,
    pub(super) r2t_end: u32,
    pub(super) ttag: u16,
    older: u16,
    newer: u16,
    submitted: Duration,
}

const _: () = assert!(size_of::<Command>() <= 64);

const FREE: Command = Command {
    state: State::Free,
    kind: Kind::None,
    cancelled: false,
    last_seen: false,
    digest_bad: false,
    digest_hardware: false,
    digest_software: false,
    len: 0,
    prefix: 0,
    placed: 0,
    copied: 0,
    r2t_at: 0,
    r2t_end: 0,
    ttag: 0,
    older: NONE,
    newer: NONE,
    submitted: Duration::ZERO,
};

/// Why a run of data is not acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadRun {
    /// It does not fit the command's data.
    OutOfRange,
    /// Some of it came before.
    Repeated,
    /// Too many gaps.
    Scattered,
}

/// The commands of a queue, by identifier. There is memory for as many as were outstanding at a time: most queues never fill
/// their depth, and a function has thousands.
pub(super) struct Commands {
    depth: u16,
    slots: Vec<Command>,
    sqes: Vec<Sqe>,
    control: Vec<Vec<u8>>,
    /// Per command: runs of announced data beyond `prefix`, (start, end), sorted, disjoint, not touching.
    ahead: Vec<Vec<(u32, u32)>>,
    /// Identifiers that were used and are free; those from `slots.len()` on were never used.
    free: Vec<u16>,
    /// Submitted commands, in that order, as a list through the slots: the oldest one has the next deadline.
    oldest: u16,
    newest: u16,
    outstanding: u16,
}

impl Commands {
    pub(super) fn new(depth: u16) -> Commands {
        Commands {
            depth,
            slots: Vec::new(),
            sqes: Vec::new(),
            control: Vec::new(),
            ahead: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            outstanding: 0,
        }
    }

    #[inline]
    pub(super) fn get(&self, cid: u16) -> Option<&Command> {
        match self.slots.get(usize::from(cid)) {
            Some(command) => Some(command),
            None => (cid < self.depth).then_some(&FREE),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, cid: u16) -> Option<&mut Command> {
        self.slots.get_mut(usize::from(cid))
    }

    pub(super) fn sqe(&self, cid: u16) -> &Sqe {
        &self.sqes[usize::from(cid)]
    }

    pub(super) fn control(&self, cid: u16) -> &[u8] {
        self.control.get(usize::from(cid)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn control_mut(&mut self, cid: u16) -> &mut Vec<u8> {
        &mut self.control[usize::from(cid)]
    }

    pub(super) fn outstanding(&self) -> u16 {
        self.outstanding
    }

    pub(super) fn allocate(&mut self) -> Option<u16> {
        let cid = match self.free.pop() {
            Some(cid) => cid,
            None => self.first_use()?,
        };
        self.slots[usize::from(cid)].state = State::Allocated;
        Some(cid)
    }

    /// An identifier that was never used; the lowest.
    #[cold]
    fn first_use(&mut self) -> Option<u16> {
        let cid = u16::try_from(self.slots.len()).ok().filter(|cid| *cid < self.depth)?;
        self.slots.push(FREE);
        self.sqes.push(Sqe::default());
        self.control.push(Vec::new());
        self.ahead.push(Vec::new());
        Some(cid)
    }

    /// The slot, if it is in one of these states.
    pub(super) fn expect(&self, cid: u16, states: &[State], expected: &'static str) -> Result<&Command, SubmitError> {
        match self.get(cid) {
            Some(command) if states.contains(&command.state) => Ok(command),
            Some(command) => Err(SubmitError::WrongState { cid, state: command.state.name(), expected }),
            None => Err(SubmitError::WrongState { cid, state: "beyond the queue's depth", expected }),
        }
    }

    pub(super) fn release(&mut self, cid: u16) -> Result<(), SubmitError> {
        self.expect(cid, &[State::Allocated, State::Done], "allocated or completed")?;
        let at = usize::from(cid);
        self.slots[at].state = State::Free;
        self.control[at] = Vec::new();
        self.free.push(cid);
        Ok(())
    }

    /// Allocated becomes Queued; the caller has checked the state.
    pub(super) fn submit(&mut self, cid: u16, sqe: Sqe, data: Data, now: Duration) {
        let at = usize::from(cid);
        let len = data.len();
        let kind = match data {
            Data::None => Kind::None,
            Data::Read { .. } => Kind::Read,
            Data::Write { .. } => Kind::Write,
            Data::ControlRead { .. } => {
                self.control[at] = vec![0; len as usize];
                Kind::ControlRead
            }
            Data::ControlWrite(bytes) => {
                self.control[at] = bytes;
                Kind::ControlWrite
            }
        };
        self.ahead[at].clear();
        self.sqes[at] = sqe;
        self.slots[at] = Command { state: State::Queued, kind, len, older: self.newest, submitted: now, ..FREE };
        match self.newest {
            NONE => self.oldest = cid,
            newest => self.slots[usize::from(newest)].newer = cid,
        }
        self.newest = cid;
        self.outstanding += 1;
    }

    /// Queued or Sent becomes Done.
    pub(super) fn finish(&mut self, cid: u16) -> Command {
        let command = &mut self.slots[usize::from(cid)];
        command.state = State::Done;
        let done = *command;
        match done.older {
            NONE => self.oldest = done.newer,
            older => self.slots[usize::from(older)].newer = done.newer,
        }
        match done.newer {
            NONE => self.newest = done.older,
            newer => self.slots[usize::from(newer)].older = done.older,
        }
        self.outstanding -= 1;
        done
    }

    /// The command submitted first of those that are not complete, and when.
    pub(super) fn oldest(&self) -> Option<(u16, Duration)> {
        (self.oldest != NONE).then(|| (self.oldest, self.slots[usize::from(self.oldest)].submitted))
    }

    /// Notes that data PDU bytes `[offset, offset + len)` of a read are about to arrive.
    #[inline]
    pub(super) fn announce(&mut self, cid: u16, offset: u32, len: u32) -> Result<(), BadRun> {
        let at = usize::from(cid);
        let command = &mut self.slots[at];
        let end = offset.checked_add(len).filter(|&end| end <= command.len).ok_or(BadRun::OutOfRange)?;
        if offset == command.prefix && self.ahead[at].is_empty() {
            command.prefix = end;
            return Ok(());
        }
        self.announce_ahead(cid, offset, end)
    }

    #[cold]
    fn announce_ahead(&mut self, cid: u16, offset: u32, end: u32) -> Result<(), BadRun> {
        let at = usize::from(cid);
        let (command, ahead) = (&mut self.slots[at], &mut self.ahead[at]);
        let i = ahead.partition_point(|run| run.0 < offset);
        let before = i.checked_sub(1).map(|i| ahead[i].1);
        if offset < command.prefix
            || before.is_some_and(|before| before > offset)
            || ahead.get(i).is_some_and(|run| run.0 < end)
        {
            return Err(BadRun::Repeated);
        }
        match (before == Some(offset), ahead.get(i).is_some_and(|run| run.0 == end)) {
            (true, true) => ahead[i - 1].1 = ahead.remove(i).1,
            (true, false) => ahead[i - 1].1 = end,
            (false, true) => ahead[i].0 = offset,
            (false, false) if ahead.len() == RUNS_AHEAD_MAX => return Err(BadRun::Scattered),
            (false, false) => ahead.insert(i, (offset, end)),
        }
        if ahead[0].0 == command.prefix {
            command.prefix = ahead.remove(0).1;
        }
        Ok(())
    }

    /// Bytes of a read's data that were announced.
    pub(super) fn announced(&self, cid: u16) -> u32 {
        let at = usize::from(cid);
        self.slots[at].prefix + self.ahead[at].iter().map(|run| run.1 - run.0).sum::<u32>()
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | runs in any order are counted once, and exactly the illegal ones are refused | `runs_are_counted_once_in_any_order` |
    //! | the oldest command is the one submitted first, whatever completes | `the_oldest_is_the_first_submitted` |
    //! | an identifier is never handed out twice | `an_identifier_is_never_handed_out_twice` |
    //! | a command remembers a bounded number of gaps | `scattered_runs_are_bounded` |
    use super::*;
    use proptest::prelude::*;

    fn read(len: u32) -> (Commands, u16) {
        let mut commands = Commands::new(1);
        let cid = commands.allocate().expect("free");
        commands.submit(cid, Sqe::default(), Data::Read { len }, Duration::ZERO);
        (commands, cid)
    }

    proptest! {
        #[test]
        fn runs_are_counted_once_in_any_order(runs in proptest::collection::vec((0u32..40, 1u32..12), 0..40)) {
            let (mut commands, cid) = read(32);
            let mut seen = [false; 64];
            for (offset, len) in runs {
                let bytes = offset as usize..(offset + len) as usize;
                let expected = if offset + len > 32 {
                    Err(BadRun::OutOfRange)
                } else if seen[bytes.clone()].contains(&true) {
                    Err(BadRun::Repeated)
                } else {
                    Ok(())
                };
                prop_assert_eq!(commands.announce(cid, offset, len), expected);
                if expected.is_ok() {
                    seen[bytes].fill(true);
                }
                prop_assert_eq!(commands.announced(cid) as usize, seen.iter().filter(|&&s| s).count());
            }
        }

        #[test]
        fn the_oldest_is_the_first_submitted(picks in proptest::collection::vec((any::<bool>(), 0usize..8), 0..200)) {
            let mut commands = Commands::new(8);
            let mut live: Vec<(u16, Duration)> = Vec::new();
            for (step, (submit, pick)) in picks.into_iter().enumerate() {
                let now = Duration::from_secs(step as u64);
                if submit {
                    if let Some(cid) = commands.allocate() {
                        commands.submit(cid, Sqe::default(), Data::None, now);
                        live.push((cid, now));
                    }
                } else if !live.is_empty() {
                    let (cid, _) = live.remove(pick % live.len());
                    commands.finish(cid);
                    commands.release(cid).expect("done");
                }
                prop_assert_eq!(commands.oldest(), live.first().copied());
                prop_assert_eq!(usize::from(commands.outstanding()), live.len());
            }
        }
    }

    #[test]
    fn an_identifier_is_never_handed_out_twice() {
        let mut commands = Commands::new(3);
        let cids: Vec<_> = std::iter::from_fn(|| commands.allocate()).collect();
        assert_eq!(cids, [0, 1, 2]);
        commands.release(1).expect("allocated");
        assert!(commands.release(1).is_err(), "free already");
        assert!(commands.release(3).is_err(), "beyond the depth");
        assert_eq!((commands.allocate(), commands.allocate()), (Some(1), None));
    }

    #[test]
    fn scattered_runs_are_bounded() {
        let (mut commands, cid) = read(1000);
        for i in 0..RUNS_AHEAD_MAX as u32 {
            assert_eq!(commands.announce(cid, 10 * i + 5, 1), Ok(()));
        }
        assert_eq!(commands.announce(cid, 900, 1), Err(BadRun::Scattered));
    }
}
