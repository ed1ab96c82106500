//! Scripted faults: what a device does on a bad day, one at a time and on purpose.

use firmware_iface::{Opcode, Status};
use hw_regs::command_queue::DeliveryStatus;
use std::collections::VecDeque;
use std::time::Duration;

/// What happens to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandFault {
    /// The command is not executed and answered with this status and syndrome.
    Refuse {
        /// Status of the answer.
        status: Status,
        /// Syndrome of the answer.
        syndrome: u32,
    },
    /// The descriptor is answered with this delivery status; the command is not executed.
    Undelivered(DeliveryStatus),
    /// The command is executed; the answer comes this much later. Long enough, and it comes after the driver gave up.
    Late(Duration),
    /// The command is executed and never answered: the slot stays with the device until a reset.
    NeverAnswered,
    /// The command is neither executed nor answered.
    Lost,
    /// The command is executed; entry and output mailboxes come back with another token than they were sent with.
    WrongToken,
    /// The command is executed; only this many bytes of the output are written, the rest keeps what the host had there.
    Truncated(usize),
    /// The command is executed; the output after status and syndrome is noise made from this seed.
    Garbage(u64),
}

/// A change made to a completion before it is written: its bytes, 64 or 128, as they will lie in memory, without the
/// ownership bit.
pub type CompletionTamper = Box<dyn FnMut(&mut [u8]) + Send>;

/// A change made to an event before it is written: the 64 bytes of the entry, without the ownership bit.
pub type EventTamper = Box<dyn FnMut(&mut [u8]) + Send>;

/// A change made to a command's output before it is written: status, syndrome and what follows, as long as the host asked
/// for.
pub type AnswerTamper = Box<dyn FnMut(Opcode, &mut [u8]) + Send>;

/// The faults that are scheduled.
#[derive(Default)]
pub struct Faults {
    commands: VecDeque<Scheduled>,
    tamper: Option<CompletionTamper>,
    tamper_event: Option<EventTamper>,
    tamper_answer: Option<AnswerTamper>,
    gone: bool,
}

struct Scheduled {
    opcode: Option<Opcode>,
    fault: CommandFault,
    skip: u32,
    times: u32,
}

impl Faults {
    /// The next command of `opcode` meets `fault`.
    pub fn next(&mut self, opcode: Opcode, fault: CommandFault) {
        self.schedule(Some(opcode), fault, 0, 1);
    }

    /// After `skip` commands of `opcode` (of any, if `None`), the following `times` meet `fault`. Faults scheduled
    /// earlier go first; a command meets at most one.
    pub fn schedule(&mut self, opcode: Option<Opcode>, fault: CommandFault, skip: u32, times: u32) {
        self.commands.push_back(Scheduled { opcode, fault, skip, times });
    }

    /// Every completion passes through `tamper` before it is written; `None` ends that.
    pub fn tamper_completions(&mut self, tamper: Option<CompletionTamper>) {
        self.tamper = tamper;
    }

    /// Every event passes through `tamper` before it is written; `None` ends that.
    pub fn tamper_events(&mut self, tamper: Option<EventTamper>) {
        self.tamper_event = tamper;
    }

    /// The output of every command that was delivered passes through `tamper` before it is written; `None` ends that.
    pub fn tamper_answers(&mut self, tamper: Option<AnswerTamper>) {
        self.tamper_answer = tamper;
    }

    /// The function falls off the bus: every register reads all ones, nothing is written, nothing moves. `false` puts it
    /// back as it was.
    pub fn set_gone(&mut self, gone: bool) {
        self.gone = gone;
    }

    /// True while the function is off the bus.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Command faults that have not happened yet.
    pub fn pending(&self) -> u64 {
        self.commands.iter().map(|s| u64::from(s.times)).sum()
    }

    /// Forgets all scheduled faults.
    pub fn clear(&mut self) {
        *self = Faults::default();
    }

    /// The fault that a command of `opcode` meets now.
    pub(crate) fn take(&mut self, opcode: Opcode) -> Option<CommandFault> {
        let mut found = None;
        for (index, scheduled) in self.commands.iter_mut().enumerate() {
            if scheduled.opcode.is_some_and(|wanted| wanted != opcode) {
                continue;
            }
            if scheduled.skip > 0 {
                scheduled.skip -= 1;
                continue;
            }
            scheduled.times = scheduled.times.saturating_sub(1);
            found = Some((index, scheduled.fault, scheduled.times));
            break;
        }
        let (index, fault, left) = found?;
        if left == 0 {
            self.commands.remove(index);
        }
        Some(fault)
    }

    pub(crate) fn tamper(&mut self, completion: &mut [u8]) {
        if let Some(tamper) = &mut self.tamper {
            tamper(completion);
        }
    }

    pub(crate) fn tamper_event(&mut self, event: &mut [u8]) {
        if let Some(tamper) = &mut self.tamper_event {
            tamper(event);
        }
    }

    pub(crate) fn tamper_answer(&mut self, opcode: Opcode, output: &mut [u8]) {
        if let Some(tamper) = &mut self.tamper_answer {
            tamper(opcode, output);
        }
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | a fault hits the command it names, after the ones it skips, as often as asked | `a_fault_hits_only_what_it_was_scheduled_for` |
    use super::*;

    #[test]
    fn a_fault_hits_only_what_it_was_scheduled_for() {
        let mut faults = Faults::default();
        faults.schedule(Some(Opcode::CREATE_CQ), CommandFault::Lost, 1, 2);
        faults.schedule(None, CommandFault::WrongToken, 0, 1);
        assert_eq!(faults.pending(), 3);
        assert_eq!(faults.take(Opcode::NOP), Some(CommandFault::WrongToken));
        assert_eq!(faults.take(Opcode::CREATE_CQ), None);
        assert_eq!(faults.take(Opcode::NOP), None);
        assert_eq!(faults.take(Opcode::CREATE_CQ), Some(CommandFault::Lost));
        assert_eq!(faults.take(Opcode::CREATE_CQ), Some(CommandFault::Lost));
        assert_eq!(faults.take(Opcode::CREATE_CQ), None);
        assert_eq!(faults.pending(), 0);
    }
}
