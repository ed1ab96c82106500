//! The object log: every firmware object that exists, in the order of creation, with the command that destroys it and the
//! memory that the device may use because of it.
//!
//! Firmware objects refer to each other (a TIR to an RQT to an RQ to a CQ to an EQ), so destroying in reverse order of
//! creation never meets one that is in use. An object whose destruction is refused stays in the log and keeps its memory.
//!
//! Objects that come by the hundred and are alike (the memory keys of a queue's tags) are one entry with many numbers.

use super::objects::{Creation, Destroy};
use crate::command::{CommandError, CommandPort, Fault, ObjectKind, Request, pipeline};
use crate::dma::{DmaBuf, DmaHold};
use crate::platform::Deadline;
use std::collections::BTreeMap;
use std::fmt;
use std::iter;
use std::sync::Arc;

/// One entry of the log. Dropping it changes nothing: the object is destroyed at teardown.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    serial: u64,
    kind: ObjectKind,
    numbers: Arc<[u32]>,
}

impl Handle {
    /// What it is.
    pub fn kind(&self) -> ObjectKind {
        self.kind
    }

    /// The number that firmware gave it, or the first of several; 24 bits, except for tag buffer tables.
    pub fn number(&self) -> u32 {
        self.numbers.first().copied().unwrap_or_default()
    }

    /// [`Handle::numbers`], to be kept by somebody else as well.
    pub(crate) fn share_numbers(&self) -> Arc<[u32]> {
        Arc::clone(&self.numbers)
    }

    /// All numbers, if it stands for several objects ([`Creation::times`]).
    pub fn numbers(&self) -> &[u32] {
        &self.numbers
    }
}

struct Entry {
    kind: ObjectKind,
    numbers: Arc<[u32]>,
    destroy: Destroy,
    /// Dropped after the object is gone, never before.
    memory: Box<[DmaHold]>,
}

impl Entry {
    fn destroy(&self, number: u32) -> Request {
        (self.destroy)(number).about(self.kind, number)
    }
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

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:#x} not destroyed: {}", self.kind, self.number, self.error)
    }
}

/// Every firmware object that exists.
#[derive(Default)]
pub struct ObjectLog {
    entries: BTreeMap<u64, Entry>,
    next: u64,
    /// Memory of objects of which it is unknown whether they were created.
    quarantined: Vec<DmaHold>,
    /// Number of these.
    unknown: usize,
}

impl ObjectLog {
    /// Creates objects that do not refer to each other and records them, with as many commands in flight as there are
    /// slots. One outcome per creation, in order. Of a creation of several objects all exist or none.
    ///
    /// If it is unknown whether an object was created (a missed deadline), its memory is kept until [`ObjectLog::forget`].
    pub fn create_each(
        &mut self,
        port: &mut dyn CommandPort,
        creations: Vec<Creation>,
        deadline: Deadline,
    ) -> Vec<Result<Handle, CommandError>> {
        let requests = creations.iter().flat_map(|creation| iter::repeat_n(&creation.request, creation.count as usize));
        let mut answers = pipeline(port, requests, deadline).into_iter();
        let mut halves = Vec::new();
        let mut outcomes = Vec::with_capacity(creations.len());
        for creation in creations {
            let Creation { kind, request, count, destroy, memory } = creation;
            let (mut numbers, mut error) = (Vec::with_capacity(count as usize), None::<CommandError>);
            for answer in answers.by_ref().take(count as usize) {
                match answer {
                    // Kinds that their creator numbers say so in the request.
                    Ok(output) => match request.object() {
                        Some(object) if object.number.is_some() => numbers.push(object.number.unwrap_or_default()),
                        _ => numbers.push(kind.number(&output)),
                    },
                    Err(failed) => {
                        self.unknown += usize::from(failed.may_still_run());
                        // One that may still run decides what becomes of the memory.
                        if error.as_ref().is_none_or(|error| !error.may_still_run()) {
                            error = Some(failed);
                        }
                    }
                }
            }
            match error {
                None => outcomes.push(Ok(self.insert(kind, numbers.into(), destroy, memory))),
                Some(error) => {
                    if error.may_still_run() {
                        self.quarantined.extend(memory.iter().cloned());
                    }
                    if !numbers.is_empty() {
                        halves.push(self.insert(kind, numbers.into(), destroy, memory));
                    }
                    outcomes.push(Err(error));
                }
            }
        }
        for refused in self.destroy_each(port, halves, deadline) {
            log::error!("after a failed creation: {refused}");
        }
        outcomes
    }

    /// Records an object that was created by other means.
    pub fn record(
        &mut self,
        kind: ObjectKind,
        number: u32,
        destroy: impl Fn(u32) -> Request + Send + 'static,
        memory: &[&DmaBuf],
    ) -> Handle {
        let memory = memory.iter().map(|buffer| buffer.hold()).collect();
        self.insert(kind, Arc::new([number]), Box::new(destroy), memory)
    }

    fn insert(&mut self, kind: ObjectKind, numbers: Arc<[u32]>, destroy: Destroy, memory: Vec<DmaHold>) -> Handle {
        let serial = self.next;
        self.next += 1;
        let entry = Entry { kind, numbers: Arc::clone(&numbers), destroy, memory: memory.into() };
        self.entries.insert(serial, entry);
        Handle { serial, kind, numbers }
    }

    /// Destroys objects that do not refer to each other, with as many commands in flight as there are slots. Returns those
    /// that were refused; they stay in the log, with their memory.
    ///
    /// # Panics
    /// If a handle belongs to another log.
    pub fn destroy_each(
        &mut self,
        port: &mut dyn CommandPort,
        handles: Vec<Handle>,
        deadline: Deadline,
    ) -> Vec<Refused> {
        let serials = handles.into_iter().map(|handle| {
            let entry = self.entries.get(&handle.serial);
            assert!(
                entry.is_some_and(|entry| entry.kind == handle.kind && entry.numbers == handle.numbers),
                "{} {:#x} belongs to another object log",
                handle.kind,
                handle.number()
            );
            handle.serial
        });
        let serials: Vec<u64> = serials.collect();
        self.destroy_serials(port, &serials, deadline)
    }

    /// Destroys everything in reverse order of creation. Returns those that were refused; they stay in the log, with their
    /// memory.
    pub fn destroy_all(&mut self, port: &mut dyn CommandPort, deadline: Deadline) -> Vec<Refused> {
        let mut refused = Vec::new();
        let order: Vec<(u64, ObjectKind)> = self.entries.iter().rev().map(|(s, e)| (*s, e.kind)).collect();
        // Neighbours of a kind do not refer to each other and keep every slot busy; only flow tables lead to their like.
        for run in order.chunk_by(|a, b| a.1 == b.1 && a.1 != ObjectKind::FlowTable) {
            let serials: Vec<u64> = run.iter().map(|(serial, _)| *serial).collect();
            refused.extend(self.destroy_serials(port, &serials, deadline));
            if refused.last().is_some_and(|last| matches!(last.error.fault, Fault::DeviceGone)) {
                break;
            }
        }
        refused
    }

    fn destroy_serials(&mut self, port: &mut dyn CommandPort, serials: &[u64], deadline: Deadline) -> Vec<Refused> {
        let entries = &self.entries;
        let requests = serials.iter().flat_map(|serial| {
            let entry = &entries[serial];
            entry.numbers.iter().map(|number| entry.destroy(*number))
        });
        let mut answers = pipeline(port, requests, deadline).into_iter();
        let mut refused = Vec::new();
        for serial in serials {
            let Some(entry) = self.entries.get_mut(serial) else { continue };
            let before = refused.len();
            for (number, answer) in entry.numbers.iter().zip(answers.by_ref()) {
                if let Err(error) = answer {
                    refused.push(Refused { kind: entry.kind, number: *number, error });
                }
            }
            match &refused[before..] {
                [] => drop(self.entries.remove(serial)),
                stay => entry.numbers = stay.iter().map(|refused| refused.number).collect(),
            }
        }
        refused
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.entries.values().map(|entry| entry.numbers.len()).sum()
    }

    /// True if no object exists.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every object: what it is, its number, and the command that would destroy it, which names all that it belongs to.
    pub fn iter(&self) -> impl Iterator<Item = (ObjectKind, u32, Request)> + '_ {
        self.entries
            .values()
            .flat_map(|entry| entry.numbers.iter().map(|number| (entry.kind, *number, entry.destroy(*number))))
    }

    /// Number of objects of each kind, in the order of kinds.
    pub fn by_kind(&self) -> Vec<(ObjectKind, usize)> {
        let mut counts = BTreeMap::new();
        for entry in self.entries.values() {
            *counts.entry(entry.kind).or_default() += entry.numbers.len();
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
        let held = self.entries.values_mut().flat_map(|entry| std::mem::take(&mut entry.memory));
        held.chain(self.quarantined.drain(..)).map(std::mem::forget).count()
    }
}

impl fmt::Debug for ObjectLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {} unknown", self.by_kind(), self.unknown)
    }
}
