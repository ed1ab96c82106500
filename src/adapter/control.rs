//! How the owner of queues reaches the function: it owns the adapter, or somebody else does.
//!
//! One shard alone owns the adapter and executes its commands itself: one thread, repeatable. Several shards have a
//! [`Remote`] each, and the adapter lives with a [`Host`](super::Host). What they ask for is the same.

use super::{Adapter, AdapterError, Capabilities, Creation, Event, Handle, Objects, Refused, Remote};
use crate::command::{CommandError, Function, Output, Request};
use crate::dma::DmaHeap;
use crate::platform::{Deadline, Platform};
use firmware_iface::command::device::NopIn;
use hw_regs::layout::Layout;
use std::sync::Arc;

/// The function, as the owner of queues on it sees it.
pub enum Control<P> {
    /// Its adapter.
    Own(Box<Adapter<P>>),
    /// The far end of a channel to whoever owns the adapter.
    Shared(Box<Remote<P>>),
}

impl<P: Platform> Control<P> {
    /// The adapter, if it is this owner's.
    pub fn own(&self) -> Option<&Adapter<P>> {
        match self {
            Control::Own(adapter) => Some(adapter),
            Control::Shared(_) => None,
        }
    }

    /// The adapter, if it is this owner's, to execute commands.
    #[cfg(feature = "demo")]
    pub(crate) fn own_mut(&mut self) -> Option<&mut Adapter<P>> {
        match self {
            Control::Own(adapter) => Some(adapter),
            Control::Shared(_) => None,
        }
    }

    /// The adapter, if it is this owner's.
    pub fn into_own(self) -> Option<Adapter<P>> {
        match self {
            Control::Own(adapter) => Some(*adapter),
            Control::Shared(_) => None,
        }
    }

    /// The PCI function.
    pub fn platform(&self) -> &Arc<P> {
        match self {
            Control::Own(adapter) => adapter.platform(),
            Control::Shared(remote) => remote.platform(),
        }
    }

    /// Memory that the function can access.
    pub fn heap(&self) -> &DmaHeap {
        match self {
            Control::Own(adapter) => adapter.heap(),
            Control::Shared(remote) => remote.heap(),
        }
    }

    /// Who the function is, for messages.
    pub fn function(&self) -> Arc<Function> {
        match self {
            Control::Own(adapter) => adapter.function(),
            Control::Shared(remote) => remote.function(),
        }
    }

    /// What the function can do.
    pub fn capabilities(&self) -> &Capabilities {
        match self {
            Control::Own(adapter) => adapter.capabilities(),
            Control::Shared(remote) => remote.capabilities(),
        }
    }

    /// MAC address in use.
    pub fn mac(&self) -> [u8; 6] {
        match self {
            Control::Own(adapter) => adapter.mac(),
            Control::Shared(remote) => remote.mac(),
        }
    }

    /// The deadline of a command that is asked for now.
    pub fn command_deadline(&self) -> Deadline {
        match self {
            Control::Own(adapter) => adapter.command_deadline(),
            Control::Shared(remote) => remote.command_deadline(),
        }
    }

    /// Takes the next event of the function; of a shared one, only what concerns this owner's queues or everybody. Never
    /// waits.
    pub fn poll(&mut self) -> Option<Event> {
        match self {
            Control::Own(adapter) => adapter.poll(),
            Control::Shared(remote) => remote.poll(),
        }
    }

    /// Looks at the function's health; call it every second or so.
    pub fn check_health(&mut self) -> Result<(), AdapterError> {
        match self {
            Control::Own(adapter) => adapter.check_health(),
            Control::Shared(remote) => remote.check_health(),
        }
    }

    /// Commands of the function that missed their deadline, whoever asked for them: nobody knows what became of them.
    pub fn commands_timed_out(&self) -> u64 {
        match self {
            Control::Own(adapter) => adapter.command_counters().timed_out,
            Control::Shared(remote) => remote.commands_timed_out(),
        }
    }

    /// Asks firmware for a sign of life.
    pub fn ask_firmware(&mut self, deadline: Deadline) -> Result<(), AdapterError> {
        match self {
            Control::Own(adapter) => adapter.link_is_up(deadline).map(drop),
            Control::Shared(remote) => Ok(remote.exec(Request::new(&NopIn::zeroed()), deadline).map(drop)?),
        }
    }
}

impl<P: Platform> Objects for Control<P> {
    fn create_each(&mut self, creations: Vec<Creation>, deadline: Deadline) -> Vec<Result<Handle, CommandError>> {
        match self {
            Control::Own(adapter) => adapter.create_each(creations, deadline),
            Control::Shared(remote) => remote.create_each(creations, deadline),
        }
    }
    fn destroy_each(&mut self, handles: Vec<Handle>, deadline: Deadline) -> Vec<Refused> {
        match self {
            Control::Own(adapter) => adapter.destroy_each(handles, deadline),
            Control::Shared(remote) => remote.destroy_each(handles, deadline),
        }
    }
    fn exec_each(&mut self, requests: Vec<Request>, deadline: Deadline) -> Vec<Result<Output, CommandError>> {
        match self {
            Control::Own(adapter) => adapter.exec_each(requests, deadline),
            Control::Shared(remote) => remote.exec_each(requests, deadline),
        }
    }
}
