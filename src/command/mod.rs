//! The command interface: how the driver talks to firmware (`mlx5-bringup.md` §2).
//!
//! ```text
//! Request ─► CommandQueue: slot 0..30 ─► entry + input mailboxes ─► doorbell ─► firmware
//!                          slot 31: MANAGE_PAGES only                          │ any order
//! Output  ◄─ checked: delivery, token, length, mailbox chain, status ◄─ owner bit, or the command EQ's bitmask
//! ```
//!
//! Commands are posted without waiting and may complete in any order ([`CommandPort::post`], [`pipeline`]). Every wait
//! has a deadline. A command that misses it keeps its slot and its mailboxes until its late completion arrives, because
//! firmware may still read and write them. The slot of MANAGE_PAGES is its own, because firmware may need pages to finish
//! the very commands that fill the other slots.
//!
//! [`CommandPort`] is the seam: the live queue ([`CommandQueue`], and [`Adapter`](crate::adapter::Adapter), which also
//! serves events while it waits). What goes through the queue can be written down ([`CommandQueue::trace`]) and played back
//! ([`Replay`](crate::platform::replay::Replay)).

mod error;
#[cfg(test)]
pub(crate) mod fake;
mod mailbox;
mod queue;
mod request;
#[cfg(test)]
mod tests;
pub mod wire;

pub use error::{CommandError, Failures, Fault, FaultKind, FirmwareVersion, Function, Place, op_mod_name};
pub use queue::{CMDIF_REVISION, CommandCounters, CommandQueue, StartError};
pub(crate) use queue::{field_of, is_gone, register, wait_ready};
pub use request::{INLINE_BYTES, Object, ObjectKind, Output, Request};

use crate::platform::Deadline;
use firmware_iface::command::Command;
use std::borrow::Borrow;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};

type Outcome = Result<Output, CommandError>;

/// A command that was posted. Its answer arrives here; who drops it abandons the answer, not the command.
#[derive(Debug)]
#[must_use = "a ticket that is dropped abandons the command's answer"]
pub struct Ticket {
    answer: Arc<OnceLock<Outcome>>,
}

impl Ticket {
    /// A ticket, and the end into which its answer goes.
    pub(crate) fn new() -> (Ticket, Weak<OnceLock<Outcome>>) {
        let answer = Arc::new(OnceLock::new());
        let end = Arc::downgrade(&answer);
        (Ticket { answer }, end)
    }

    /// A ticket whose answer is known, for ports that answer at once; fakes do.
    pub fn answered(outcome: Result<Output, CommandError>) -> Ticket {
        Ticket { answer: Arc::new(OnceLock::from(outcome)) }
    }

    /// True if the answer that comes out of `end` arrives here.
    fn answers(&self, end: &Weak<OnceLock<Outcome>>) -> bool {
        std::ptr::eq(end.as_ptr(), Arc::as_ptr(&self.answer))
    }

    /// True once the command has completed.
    pub fn is_done(&self) -> bool {
        self.answer.get().is_some()
    }

    /// The answer, or the ticket if there is none yet.
    pub fn take(self) -> Result<Outcome, Ticket> {
        if !self.is_done() {
            return Err(self);
        }
        // The other end holds it only while it puts the answer in.
        Arc::try_unwrap(self.answer)
            .map_err(|answer| Ticket { answer })
            .map(|answer| answer.into_inner().unwrap_or_else(|| unreachable!("an answer does not go away")))
    }
}

/// Something that executes commands.
pub trait CommandPort {
    /// Starts a command. Never waits: without a free slot it fails with [`Fault::NoSlot`].
    fn post(&mut self, request: &Request) -> Result<Ticket, CommandError>;

    /// Waits for a command's answer until `deadline`.
    fn wait(&mut self, ticket: Ticket, deadline: Deadline) -> Result<Output, CommandError>;

    /// Executes one command: waits for a slot, then for its answer, until `deadline`.
    fn exec(&mut self, request: &Request, deadline: Deadline) -> Result<Output, CommandError>;

    /// Commands (other than MANAGE_PAGES) that could be posted now.
    fn free_slots(&self) -> usize;
}

/// Executes a command that has a fixed layout in both directions.
pub fn call<C: Command>(port: &mut dyn CommandPort, input: &C, deadline: Deadline) -> Result<C::Output, CommandError> {
    Ok(port.exec(&Request::new(input), deadline)?.decode())
}

/// Executes commands that do not depend on each other, with as many in flight as there are slots, and returns their
/// answers, one per command, in their order.
///
/// A failure does not keep the others from being executed: each answer is told, so that the caller knows of every object
/// that exists. Once the deadline has passed nothing more is posted: the rest fails with [`Fault::NoSlot`].
pub fn pipeline<R: Borrow<Request>>(
    port: &mut dyn CommandPort,
    requests: impl IntoIterator<Item = R>,
    deadline: Deadline,
) -> Vec<Result<Output, CommandError>> {
    let mut outcomes: Vec<Option<Outcome>> = Vec::new();
    let mut flying: VecDeque<(usize, Ticket)> = VecDeque::new();
    for (index, request) in requests.into_iter().enumerate() {
        outcomes.push(None);
        let request = request.borrow();
        while port.free_slots() == 0 {
            let Some((first, ticket)) = flying.pop_front() else { break };
            outcomes[first] = Some(port.wait(ticket, deadline));
            // Whatever else has completed meanwhile.
            for (index, ticket) in std::mem::take(&mut flying) {
                match ticket.take() {
                    Ok(outcome) => outcomes[index] = Some(outcome),
                    Err(ticket) => flying.push_back((index, ticket)),
                }
            }
        }
        let posted = match port.free_slots() {
            // Others hold all slots: wait for one.
            0 => Err(port.exec(request, deadline)),
            _ => port.post(request).map_err(Err),
        };
        match posted {
            Ok(ticket) => flying.push_back((index, ticket)),
            Err(outcome) => outcomes[index] = Some(outcome),
        }
    }
    for (index, ticket) in flying {
        outcomes[index] = Some(port.wait(ticket, deadline));
    }
    outcomes.into_iter().map(|outcome| outcome.expect("every command was posted and waited for")).collect()
}
