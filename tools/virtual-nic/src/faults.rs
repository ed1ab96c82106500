//! Scripted faults: what a device does on a bad day, one at a time and on purpose.
//!
//! Faults of commands and completions are scheduled ([`Faults`]); those of a queue or of the whole function happen when
//! [`VirtualNic::inject`] is called. A device that writes wherever it may is in [`hostile`](crate::hostile).

use crate::VirtualNic;
use crate::queue::{State, WorkError};
use firmware_iface::{Opcode, Status};
use hw_regs::command_queue::DeliveryStatus;
use hw_regs::cqe::CqeSyndrome;
use hw_regs::eqe::CqErrorSyndrome;
use hw_regs::init_segment::HealthSyndrome;
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

/// What a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Received packets.
    Receive,
    /// Frames to the wire: a send queue with a TIS.
    Send,
    /// Control work requests: a send queue without one (ICOSQ).
    Control,
}

/// Something that goes wrong with a queue or with the whole function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A work request of a queue fails: of a receive queue the oldest posted one, at once; of a send queue the next one.
    /// The queue goes to the error state, and everything that is posted is flushed.
    WorkRequest(Role),
    /// The completion queue of a queue overruns: nothing is completed on it any more. The work queue does not notice.
    CqOverrun(Role),
    /// Firmware reports this syndrome and executes nothing until a reset. Queues go on.
    Fatal(HealthSyndrome),
    /// Firmware executes nothing until a reset, and does not say so. Queues go on.
    Hang,
    /// The function is off the bus for so long: registers read all ones, nothing is written, nothing moves, and it cannot
    /// be reset. Then it is back as it was, but what was on its way is lost.
    Gone(Duration),
    /// Somebody resets the function behind the driver's back.
    Reset,
    /// The next command is neither executed nor answered.
    LostCommand,
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
    /// When a function that is gone for a while comes back.
    back_at: Option<Duration>,
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
        (self.gone, self.back_at) = (gone, None);
    }

    /// True while the function is off the bus.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// When a function that is gone comes back by itself, if it does.
    pub(crate) fn back_at(&self) -> Option<Duration> {
        self.back_at
    }

    pub(crate) fn advance(&mut self, now: Duration) {
        if self.back_at.is_some_and(|at| at <= now) {
            self.set_gone(false);
        }
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

impl VirtualNic {
    /// Lets something go wrong now. Of several queues of a role that work, `pick` chooses one. False if there is nothing
    /// that it could happen to.
    pub fn inject(&mut self, fault: Fault, pick: u64) -> bool {
        match fault {
            Fault::WorkRequest(role) => match self.pick_queue(role, pick) {
                Some((number, _)) if role == Role::Receive => self.fail_oldest_receive(number),
                Some((number, _)) => self.objects.sqs.get_mut(number).map(|sq| sq.poisoned = true).is_some(),
                None => false,
            },
            Fault::CqOverrun(role) => {
                let Some((_, cqn)) = self.pick_queue(role, pick) else { return false };
                self.objects.completions.fail(&mut self.host, cqn, CqErrorSyndrome::CQ_OVERRUN);
                true
            }
            Fault::Fatal(syndrome) => {
                self.set_health(syndrome);
                self.registers.stop();
                true
            }
            Fault::Hang => {
                self.registers.stop();
                true
            }
            Fault::Gone(time) => {
                self.host.faults.set_gone(true);
                self.host.faults.back_at = Some(self.host.now + time);
                true
            }
            Fault::Reset => {
                self.reset();
                true
            }
            Fault::LostCommand => {
                self.host.faults.schedule(None, CommandFault::Lost, 0, 1);
                true
            }
        }
    }

    /// Numbers of a ready queue of this role and of its completion queue.
    fn pick_queue(&self, role: Role, pick: u64) -> Option<(u32, u32)> {
        let queues: Vec<_> = match role {
            Role::Receive => {
                let ready = self.objects.rqs.iter().filter(|(_, rq)| rq.state == State::Ready);
                ready.map(|(number, rq)| (number, rq.cqn)).collect()
            }
            Role::Send | Role::Control => {
                let wanted = |tis: Option<u32>| tis.is_some() == (role == Role::Send);
                let ready = self.objects.sqs.iter().filter(|(_, sq)| sq.state == State::Ready && wanted(sq.tis));
                ready.map(|(number, sq)| (number, sq.cqn)).collect()
            }
        };
        let index = pick.checked_rem(queues.len() as u64)?;
        queues.get(index as usize).copied()
    }
}

impl WorkError {
    /// A work request failed for no reason of the driver's ([`Fault::WorkRequest`]).
    pub(crate) const INJECTED: WorkError = WorkError { syndrome: CqeSyndrome::LOCAL_QP_OP_ERR, vendor: 0xfa };
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
