//! A function that is brought up to be asked and for nothing else.
//!
//! ```text
//! Adapter     ENABLE_HCA ─ ISSI ─ pages ─ SET_HCA_CAP ─ pages ─ INIT_HCA ─ pages ─ objects ─ MAC, MTU, port up
//! Inspection  ENABLE_HCA ─ ISSI ─ pages ─────────────── pages ─ INIT_HCA ─ pages
//! ```
//!
//! No object is created, no setting of the function or of its port is changed; TEARDOWN_HCA and DISABLE_HCA leave it as it
//! was. Capabilities are those in force, whatever firmware begins with: SET_HCA_CAP is optional (`mlx5-bringup.md` §3,
//! step 10). Completions of commands are looked for, since there is no event queue.

use super::base::{Base, Teardown};
use super::bring_up::{enable, initialize};
use super::{AdapterError, Config};
use crate::command::{CommandError, CommandPort, Function, Output, Request, Ticket};
use crate::platform::{Deadline, Platform};
use std::sync::Arc;

/// A function that answers questions.
pub struct Inspection<P> {
    base: Base<P>,
}

impl<P: Platform> Inspection<P> {
    /// Brings the function up as far as it must be to be asked. On failure what was done is undone, by a reset if it cannot be
    /// done in order.
    pub fn begin(platform: Arc<P>, config: &Config) -> Result<Inspection<P>, AdapterError> {
        let mut base = Base::start(Arc::clone(&platform), config)?;
        let deadline = || Deadline::after(&*platform, config.command_timeout);
        match enable(&mut base, &deadline).and_then(|()| initialize(&mut base, &deadline)) {
            Ok(()) => Ok(Inspection { base }),
            Err(error) => {
                base.undo(config);
                Err(error)
            }
        }
    }

    /// Who the function is, for messages.
    pub fn function(&self) -> Arc<Function> {
        self.base.function()
    }

    /// Takes firmware's pages back and disables the function; what could not be undone is in the report, and then the function
    /// is reset.
    pub fn end(mut self, config: &Config) -> Teardown {
        self.base.undo(config)
    }
}

impl<P: Platform> CommandPort for Inspection<P> {
    fn post(&mut self, request: &Request) -> Result<Ticket, CommandError> {
        self.base.firmware.post(request)
    }

    fn wait(&mut self, ticket: Ticket, deadline: Deadline) -> Result<Output, CommandError> {
        self.base.firmware.wait(ticket, deadline)
    }

    fn exec(&mut self, request: &Request, deadline: Deadline) -> Result<Output, CommandError> {
        self.base.firmware.exec(request, deadline)
    }

    fn free_slots(&self) -> usize {
        self.base.firmware.free_slots()
    }
}
