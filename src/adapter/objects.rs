//! Firmware objects as values: what is to be created, and who creates, changes and destroys it.
//!
//! Everything above the adapter asks through [`Objects`]: the adapter itself, a command port and a log side by side
//! ([`Logged`]), or the far end of a channel to the thread that owns the adapter
//! ([`Remote`](super::Remote)). Requests come by the list, because a command takes firmware tens of microseconds and the
//! command queue has 31 slots: what does not depend on each other goes together.

use super::Adapter;
use super::log::{Handle, ObjectLog, Refused};
use crate::command::{CommandError, CommandPort, ObjectKind, Output, Request, pipeline};
use crate::dma::{DmaBuf, DmaHold};
use crate::platform::{Deadline, Platform};
use std::fmt;

/// Makes the command that destroys an object, out of its number.
pub(super) type Destroy = Box<dyn Fn(u32) -> Request + Send>;

/// An object that is to be created, or several that are alike and stand or fall together.
#[must_use = "nothing is created until it is passed on"]
pub struct Creation {
    pub(super) kind: ObjectKind,
    pub(super) request: Request,
    pub(super) count: u32,
    pub(super) destroy: Destroy,
    pub(super) memory: Vec<DmaHold>,
}

impl Creation {
    /// An object that `request` creates. `destroy` makes the command that destroys it, out of its number.
    pub fn new(kind: ObjectKind, request: Request, destroy: impl Fn(u32) -> Request + Send + 'static) -> Creation {
        let request = if request.object().is_none() { request.creates(kind) } else { request };
        Creation { kind, request, count: 1, destroy: Box::new(destroy), memory: Vec::new() }
    }

    /// Says what the device may access because the object exists: all of it, and for as long. It is kept from reuse until
    /// the object is gone, whoever drops the buffers.
    pub fn holding(mut self, memory: &[&DmaBuf]) -> Creation {
        self.memory.extend(memory.iter().map(|buffer| buffer.hold()));
        self
    }

    /// The command that creates it.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Not one but `count` of them, all or none, under one handle: objects that come by the hundred, such as memory keys.
    pub fn times(self, count: u32) -> Creation {
        Creation { count, ..self }
    }
}

impl fmt::Debug for Creation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} by {}", self.count, self.kind, self.request.opcode())
    }
}

/// Creates, asks about and destroys firmware objects.
pub trait Objects {
    /// Creates objects that do not refer to each other, with as many commands in flight as there are slots, and records
    /// each with the command that destroys it and its memory. One outcome per creation, in order.
    ///
    /// If it is unknown whether an object was created (a missed deadline), its memory is kept until the function is reset.
    fn create_each(&mut self, creations: Vec<Creation>, deadline: Deadline) -> Vec<Result<Handle, CommandError>>;

    /// Destroys objects that do not refer to each other, with as many commands in flight as there are slots. Returns those
    /// that firmware refused: they stay in the log, with their memory, and are tried again at teardown.
    fn destroy_each(&mut self, handles: Vec<Handle>, deadline: Deadline) -> Vec<Refused>;

    /// Executes commands that create nothing and do not depend on each other, with as many in flight as there are slots.
    /// One outcome per request, in order.
    fn exec_each(&mut self, requests: Vec<Request>, deadline: Deadline) -> Vec<Result<Output, CommandError>>;

    /// [`Objects::create_each`] of one.
    fn create(&mut self, creation: Creation, deadline: Deadline) -> Result<Handle, CommandError> {
        self.create_each(vec![creation], deadline).pop().expect("one outcome per creation")
    }

    /// [`Objects::destroy_each`] of one.
    fn destroy(&mut self, handle: Handle, deadline: Deadline) -> Result<(), CommandError> {
        self.destroy_each(vec![handle], deadline).pop().map_or(Ok(()), |refused| Err(refused.error))
    }

    /// [`Objects::exec_each`] of one.
    fn exec(&mut self, request: Request, deadline: Deadline) -> Result<Output, CommandError> {
        self.exec_each(vec![request], deadline).pop().expect("one outcome per request")
    }
}

/// A command port and an object log, together.
pub struct Logged<'a> {
    /// Executes the commands.
    pub port: &'a mut dyn CommandPort,
    /// Remembers the objects.
    pub log: &'a mut ObjectLog,
}

impl Objects for Logged<'_> {
    fn create_each(&mut self, creations: Vec<Creation>, deadline: Deadline) -> Vec<Result<Handle, CommandError>> {
        self.log.create_each(self.port, creations, deadline)
    }
    fn destroy_each(&mut self, handles: Vec<Handle>, deadline: Deadline) -> Vec<Refused> {
        self.log.destroy_each(self.port, handles, deadline)
    }
    fn exec_each(&mut self, requests: Vec<Request>, deadline: Deadline) -> Vec<Result<Output, CommandError>> {
        pipeline(self.port, requests, deadline)
    }
}

impl<P: Platform> Objects for Adapter<P> {
    fn create_each(&mut self, creations: Vec<Creation>, deadline: Deadline) -> Vec<Result<Handle, CommandError>> {
        self.logged().create_each(creations, deadline)
    }
    fn destroy_each(&mut self, handles: Vec<Handle>, deadline: Deadline) -> Vec<Refused> {
        self.logged().destroy_each(handles, deadline)
    }
    fn exec_each(&mut self, requests: Vec<Request>, deadline: Deadline) -> Vec<Result<Output, CommandError>> {
        self.logged().exec_each(requests, deadline)
    }
}
