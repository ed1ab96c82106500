//! The object log: every firmware object that exists, in the order of creation, with the command that destroys it and the
//! memory that the device may use because of it.
//!
//! Firmware objects refer to each other (a TIR to an RQT to an RQ to a CQ to an EQ), so destroying in reverse order of
//! creation never meets one that is in use. An object whose destruction is refused stays in the log and keeps its memory.

use crate::command::{CommandError, CommandPort, Fault, ObjectKind, Output, Request, pipeline};
use crate::dma::{DmaBuf, DmaHold};
use crate::platform::Deadline;
use std::collections::{BTreeMap, VecDeque};

/// One object of the log. Dropping it changes nothing: the object is destroyed at teardown.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    serial: u64,
    kind: ObjectKind,
    number: u32,
}

impl Handle {
    /// What it is.
    pub fn kind(&self) -> ObjectKind {
        self.kind
    }

    /// The number that firmware gave it; 24 bits, except for tag buffer tables.
    pub fn number(&self) -> u32 {
        self.number
    }
}

#[derive(Debug)]
struct Entry {
    kind: ObjectKind,
    number: u32,
    destroy: Request,
    /// Dropped after the object is gone, never before.
    memory: Vec<DmaHold>,
}

/// An object that could not be destroyed.
#[derive(Clone, Debug)]
pub struct Refused {
    /// What it is.
    pub kind: ObjectKind,
    /// Its number.
    pub number: u32,
    /// Why it stayed.
    pub error: CommandError,
}

/// Every firmware object that exists.
#[derive(Debug, Default)]
pub struct ObjectLog {
    entries: BTreeMap<u64, Entry>,
    next: u64,
    /// Memory of objects of which it is unknown whether they were created.
    quarantined: Vec<DmaHold>,
    /// Number of these.
    unknown: usize,
}

impl ObjectLog {
    /// Creates an object and records it.
    ///
    /// `destroy` makes the command that destroys it, out of its number. `memory` is all that the device may access because
    /// the object exists; it is kept from reuse until the object is gone, whoever drops the buffers. If it is unknown
    /// whether the object was created (a missed deadline), its memory is kept until [`ObjectLog::forget`].
    pub fn create(
        &mut self,
        port: &mut dyn CommandPort,
        kind: ObjectKind,
        request: &Request,
        destroy: impl FnOnce(u32) -> Request,
        memory: &[&DmaBuf],
        deadline: Deadline,
    ) -> Result<(Handle, Output), CommandError> {
        let output = port.exec(request, deadline).inspect_err(|error| {
            if error.may_still_run() {
                self.unknown += 1;
                self.quarantined.extend(memory.iter().map(|buffer| buffer.hold()));
            }
        })?;
        let number = match request.object() {
            // Kinds that their creator numbers say so in the request.
            Some(object) if object.number.is_some() => object.number.unwrap_or_default(),
            _ => kind.number(&output),
        };
        let handle = self.record(kind, number, destroy(number), memory);
        Ok((handle, output))
    }

    /// Creates many objects of one kind without memory, with as many commands in flight as there are slots. All or none:
    /// when one fails, those that were created are destroyed again and the first error is returned.
    pub fn create_many(
        &mut self,
        port: &mut dyn CommandPort,
        kind: ObjectKind,
        requests: impl IntoIterator<Item = Request>,
        destroy: impl Fn(u32) -> Request,
        deadline: Deadline,
    ) -> Result<Vec<Handle>, CommandError> {
        let result = pipeline(port, requests, deadline);
        let unknown = result.failed.iter().filter(|(_, error)| error.may_still_run()).count();
        let handles: Vec<_> = result
            .done
            .iter()
            .map(|(_, output)| {
                let number = kind.number(output);
                self.record(kind, number, destroy(number), &[])
            })
            .collect();
        match result.failed.into_iter().next() {
            None => Ok(handles),
            Some((_, error)) => {
                self.unknown += unknown;
                for refused in self.destroy_many(port, handles, deadline) {
                    log::error!(
                        "{} {:#x} stays after a failed creation: {}",
                        refused.kind,
                        refused.number,
                        refused.error
                    );
                }
                Err(error)
            }
        }
    }

    /// Records an object that was created by other means.
    pub fn record(&mut self, kind: ObjectKind, number: u32, destroy: Request, memory: &[&DmaBuf]) -> Handle {
        let serial = self.next;
        self.next += 1;
        let memory = memory.iter().map(|buffer| buffer.hold()).collect();
        self.entries.insert(serial, Entry { kind, number, destroy: destroy.about(kind, number), memory });
        Handle { serial, kind, number }
    }

    /// Destroys one object. If that fails it stays in the log, with its memory.
    pub fn destroy(
        &mut self,
        port: &mut dyn CommandPort,
        handle: Handle,
        deadline: Deadline,
    ) -> Result<(), CommandError> {
        match self.destroy_many(port, [handle], deadline).pop() {
            None => Ok(()),
            Some(refused) => Err(refused.error),
        }
    }

    /// Destroys objects that do not refer to each other, with as many commands in flight as there are slots. Returns those
    /// that were refused; they stay in the log, with their memory.
    ///
    /// # Panics
    /// If a handle belongs to another log.
    pub fn destroy_many(
        &mut self,
        port: &mut dyn CommandPort,
        handles: impl IntoIterator<Item = Handle>,
        deadline: Deadline,
    ) -> Vec<Refused> {
        let serials = handles.into_iter().map(|handle| {
            let entry = self.entries.get(&handle.serial);
            assert!(
                entry.is_some_and(|entry| entry.kind == handle.kind && entry.number == handle.number),
                "{} {:#x} belongs to another object log",
                handle.kind,
                handle.number
            );
            handle.serial
        });
        let serials = serials.collect();
        self.destroy_serials(port, serials, deadline)
    }

    /// Destroys everything in reverse order of creation. Returns those that were refused; they stay in the log, with their
    /// memory.
    pub fn destroy_all(&mut self, port: &mut dyn CommandPort, deadline: Deadline) -> Vec<Refused> {
        let mut refused = Vec::new();
        let mut rest: VecDeque<(u64, ObjectKind)> = self.entries.iter().rev().map(|(s, e)| (*s, e.kind)).collect();
        while let Some((serial, kind)) = rest.pop_front() {
            let mut run = vec![serial];
            // Memory keys come by the thousand and refer to nothing: one run keeps every slot busy. Other kinds may refer
            // to their like.
            while kind == ObjectKind::Mkey && rest.front().is_some_and(|next| next.1 == kind) {
                run.extend(rest.pop_front().map(|next| next.0));
            }
            refused.extend(self.destroy_serials(port, run, deadline));
            if refused.last().is_some_and(|last| matches!(last.error.fault, Fault::DeviceGone)) {
                break;
            }
        }
        refused
    }

    fn destroy_serials(&mut self, port: &mut dyn CommandPort, serials: Vec<u64>, deadline: Deadline) -> Vec<Refused> {
        let mut refused = Vec::new();
        let mut rest = &serials[..];
        // One refusal does not keep the others: go on behind it.
        while !rest.is_empty() {
            let requests = rest.iter().map(|serial| self.entries[serial].destroy.clone());
            let result = pipeline(port, requests, deadline);
            let gone = result.failed.iter().any(|(_, error)| matches!(error.fault, Fault::DeviceGone));
            let tried = result.done.iter().map(|d| d.0).chain(result.failed.iter().map(|f| f.0)).max();
            for (index, _) in &result.done {
                self.entries.remove(&rest[*index]);
            }
            for (index, error) in result.failed {
                if let Some(entry) = self.entries.get(&rest[index]) {
                    refused.push(Refused { kind: entry.kind, number: entry.number, error });
                }
            }
            if gone {
                break;
            }
            rest = &rest[tried.map_or(rest.len(), |last| last + 1)..];
        }
        refused
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if no object exists.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of objects of each kind, in the order of kinds.
    pub fn by_kind(&self) -> Vec<(ObjectKind, usize)> {
        let mut counts = BTreeMap::new();
        for entry in self.entries.values() {
            *counts.entry(entry.kind).or_default() += 1;
        }
        counts.into_iter().collect()
    }

    /// Creations that ended without an answer: such an object may exist, and nobody knows its number.
    pub fn unknown(&self) -> usize {
        self.unknown
    }

    /// Forgets every object and lets go of all memory: the device was reset or has torn the function down.
    pub fn forget(&mut self) {
        self.entries.clear();
        self.quarantined.clear();
        self.unknown = 0;
    }

    /// Takes every hold, so that the memory is never reused: the device may still access it.
    pub(crate) fn leak(&mut self) -> usize {
        let holds =
            self.entries.values_mut().flat_map(|entry| entry.memory.drain(..)).chain(self.quarantined.drain(..));
        holds.map(std::mem::forget).count()
    }
}
