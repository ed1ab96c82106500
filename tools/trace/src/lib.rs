//! Recorded traffic between a driver and a ConnectX: firmware commands and, on request, work requests and completions.
//!
//! The form is that of the debugging messages of Linux `mlx5_core` (`dyndbg="module mlx5_core +p"`), so that what a kernel
//! logged of a real card, what the virtual ConnectX saw, and what our driver did are read by the same code:
//!
//! ```text
//! [  +0.074963] mlx5_core 0000:02:00.0: ...: dump command ENABLE_HCA(0x104) INPUT
//! [  +0.000004] 000: 07000000 00000010 00000000 00000000      the entry of the command queue, 64 bytes
//! [  +0.000001] 010: 01040000 00000000 00000000 00000000
//! ...
//! [  +0.000001] ...: command block:                           a mailbox, 576 bytes, its control part included
//! [  +0.000001] 040: 00000000 00000000 00000000 00000000
//! ...
//! [  +0.009517] mlx5_core 0000:02:00.0: ...: dump command ENABLE_HCA(0x104) OUTPUT
//! ```
//!
//! Newer kernels put `cmd[SLOT]: ` in front of each line. A kernel leaves out mailboxes that its own arithmetic misses; we
//! leave out none. WQEs and CQEs have headlines of our own and the same lines of words.
//!
//! Reading ([`Trace`]) takes a text that anybody may have edited or cut: whatever it is, it is read as far as it goes, or
//! refused by the number of a line. Writing ([`Sink`]) is streamed and bounded, and an error is kept to be told.

mod about;
mod compare;
mod read;
mod write;

pub use about::{Key, addresses, is_address};
pub use compare::{Difference, Structure, differences, first_difference, is_opaque, structures};
pub use read::{BadTrace, Fact, FileError, Trace, read_file};
pub use write::{Incomplete, Sink, Summary};

use firmware_iface::Opcode;
use firmware_iface::command::InHeader;
use hw_regs::command_queue::{CommandEntry, Mailbox};
use hw_regs::layout::{Access, Layout, LayoutInfo};

/// Bytes of input and of output that lie in the entry itself.
const INLINE: usize = 16;
/// Bytes of data in a mailbox.
const DATA: usize = 512;
/// Longest input or output that is believed: 16 MiB are two million pages in one command.
const MAX_LEN: usize = 1 << 24;

/// A table by its name, of either layer.
pub(crate) fn layout(name: &str) -> Option<&'static LayoutInfo> {
    hw_regs::layouts().chain(firmware_iface::layouts()).find(|info| info.name == name)
}

/// One side of a command as it lies in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    /// Its entry in the command queue.
    pub entry: CommandEntry,
    /// Its mailboxes, 576 bytes each, as many as are recorded; the last may be cut.
    pub blocks: Vec<u8>,
}

impl Dump {
    /// An entry and the mailboxes of one direction.
    pub fn new(entry: CommandEntry, blocks: Vec<u8>) -> Dump {
        Dump { entry, blocks }
    }

    /// The mailboxes that are whole.
    pub fn mailboxes(&self) -> impl Iterator<Item = Mailbox> + '_ {
        self.blocks.chunks_exact(Mailbox::SIZE).map(Mailbox::from_prefix)
    }

    /// Which command; of either side, since the entry keeps the first bytes of the input.
    pub fn opcode(&self) -> Opcode {
        InHeader::from_prefix(&self.entry.bytes()[16..32]).opcode()
    }

    /// Bytes of input that the entry tells of.
    pub fn input_len(&self) -> usize {
        (self.entry.get(CommandEntry::INLEN) as usize).min(MAX_LEN)
    }

    /// Bytes of output that the entry tells of.
    pub fn output_len(&self) -> usize {
        (self.entry.get(CommandEntry::OUTLEN) as usize).min(MAX_LEN)
    }

    /// As much of the input as there is.
    pub fn input(&self) -> Vec<u8> {
        self.message(16, self.input_len())
    }

    /// As much of the output as there is.
    pub fn output(&self) -> Vec<u8> {
        self.message(32, self.output_len())
    }

    /// What is inline at byte `at` of the entry, then what the mailboxes have, `len` bytes at most.
    fn message(&self, at: usize, len: usize) -> Vec<u8> {
        let mut bytes = self.entry.bytes()[at..at + INLINE].to_vec();
        for block in self.blocks.chunks(Mailbox::SIZE) {
            bytes.extend_from_slice(&block[..block.len().min(DATA)]);
        }
        bytes.truncate(len);
        bytes
    }

    /// The token that ties both sides together.
    pub fn token(&self) -> u8 {
        self.entry.get(CommandEntry::TOKEN) as u8
    }
}

/// One command: what was asked and what was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The function, as the trace calls it.
    pub function: String,
    /// Number of the line with which it begins, from 1.
    pub line: usize,
    /// As it was posted; `None` if only the answer was recorded.
    pub input: Option<Dump>,
    /// As it was answered; `None` if there is no answer in the trace.
    pub output: Option<Dump>,
}

impl Exchange {
    /// The side that is there, the input rather than the output.
    fn any(&self) -> &Dump {
        const NOTHING: &Dump = &Dump { entry: CommandEntry([0; CommandEntry::SIZE]), blocks: Vec::new() };
        self.input.as_ref().or(self.output.as_ref()).unwrap_or(NOTHING)
    }

    /// Which command.
    pub fn opcode(&self) -> Opcode {
        self.any().opcode()
    }

    /// As much of the input as is known: of an exchange without its input the first 16 bytes, which the answer's entry has.
    pub fn input(&self) -> Vec<u8> {
        match &self.input {
            Some(dump) => dump.input(),
            None => self.any().message(16, INLINE.min(self.input_len())),
        }
    }

    /// Bytes that the input had.
    pub fn input_len(&self) -> usize {
        self.any().input_len()
    }

    /// Bytes that were asked for.
    pub fn output_len(&self) -> usize {
        self.any().output_len()
    }

    /// What it is about.
    pub fn key(&self) -> Key {
        Key::of(&self.input())
    }
}

/// What kind of queue entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryKind {
    /// A work request of a send queue, as the device fetched it.
    SendWqe,
    /// A work request of a receive queue.
    ReceiveWqe,
    /// A completion, as the device wrote it.
    Cqe,
}

impl EntryKind {
    /// What it is called in a headline, and the queue that it is of.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            EntryKind::SendWqe => ("WQE", "SQ"),
            EntryKind::ReceiveWqe => ("WQE", "RQ"),
            EntryKind::Cqe => ("CQE", "CQ"),
        }
    }
}

/// An entry of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    /// The function, as the trace calls it.
    pub function: String,
    /// Number of the line with which it begins, from 1.
    pub line: usize,
    /// What it is.
    pub kind: EntryKind,
    /// Number of its queue.
    pub queue: u32,
    /// Free-running number of the entry in its queue.
    pub index: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

#[cfg(test)]
mod tests;
