//! Writing a trace: a dump at a time, streamed, bounded.

use crate::{Dump, EntryKind, Fact};
use hw_regs::command_queue::{CommandEntry, DeliveryStatus, Mailbox};
use hw_regs::layout::{Access, Layout};
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What became of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Bytes written.
    pub bytes: u64,
    /// Sides of commands and entries of queues in it.
    pub dumps: u64,
    /// The same that would have gone beyond the limit.
    pub left_out: u64,
}

/// A trace could not be written to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the trace ends after {} dumps: {why}", .summary.dumps)]
pub struct Incomplete {
    /// What it has.
    pub summary: Summary,
    /// What the system said.
    pub why: String,
}

struct Writer {
    out: Box<dyn Write + Send>,
    limit: u64,
    summary: Summary,
    last: Duration,
    failed: Option<String>,
    text: String,
}

/// Where a trace goes. Clones write into the same one; everything that one call writes stays together.
///
/// Nothing is written beyond the limit, and nothing after the first error; both are logged once and told by
/// [`Sink::finish`]. So is a dump that is left out: who traces must not fail because of it.
#[derive(Clone)]
pub struct Sink(Arc<Mutex<Writer>>);

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sink").field(&self.lock().summary).finish()
    }
}

impl Sink {
    /// A new file, or one that is overwritten, of at most `limit` bytes.
    pub fn create(path: &Path, limit: u64) -> io::Result<Sink> {
        Ok(Sink::to(BufWriter::with_capacity(1 << 16, File::create(path)?), limit))
    }

    /// Whatever takes bytes, at most `limit` of them.
    pub fn to(out: impl Write + Send + 'static, limit: u64) -> Sink {
        let (summary, last, text) = (Summary::default(), Duration::ZERO, String::new());
        Sink(Arc::new(Mutex::new(Writer { out: Box::new(out), limit, summary, last, failed: None, text })))
    }

    /// A panic of somebody else in the middle of a dump is no reason to lose the rest.
    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something about `function` that commands do not tell. `at` is its clock, as everywhere here.
    pub fn fact(&self, at: Duration, function: &str, fact: &Fact) {
        self.lock().record(at, function, true, |text, stamp| text.line(stamp, format_args!("{function}: {fact}")));
    }

    /// A command that was posted in `slot`.
    pub fn input(&self, at: Duration, function: &str, slot: usize, dump: &Dump) {
        self.lock().record(at, function, true, |text, stamp| {
            text.dump(stamp, function, "INPUT", dump);
            let bit = 1u32.checked_shl(slot as u32).unwrap_or(0);
            text.line(Duration::ZERO, format_args!("{function}: writing {bit:#x} to command doorbell"));
        });
    }

    /// The answer to it.
    pub fn output(&self, at: Duration, function: &str, dump: &Dump) {
        self.lock().record(at, function, true, |text, stamp| {
            text.dump(stamp, function, "OUTPUT", dump);
            let delivery = DeliveryStatus(dump.entry.get(CommandEntry::STATUS_OWN_DELIVERY_STATUS) as u8);
            let name = delivery.name().unwrap_or("unknown");
            let what = format_args!("{function}: command completed. delivery status {name}({:#x})", delivery.0);
            text.line(Duration::ZERO, what);
        });
    }

    /// An entry of a queue. Not written through at once: there are many.
    pub fn entry(&self, at: Duration, function: &str, kind: EntryKind, queue: u32, index: u32, bytes: &[u8]) {
        let (what, of) = kind.names();
        self.lock().record(at, function, false, |text, stamp| {
            let len = bytes.len();
            let head = format_args!("{function}: {what} DUMP: {of} {queue:#x}, {what} index {index:#x}, len: {len}");
            text.line(stamp, head);
            text.words(0, bytes);
            text.0.push('\n');
        });
    }

    /// Writes everything through and tells what the trace has.
    pub fn finish(&self) -> Result<Summary, Incomplete> {
        let mut writer = self.lock();
        if writer.failed.is_none()
            && let Err(error) = writer.out.flush()
        {
            writer.failed = Some(error.to_string());
        }
        match &writer.failed {
            None => Ok(writer.summary),
            Some(why) => Err(Incomplete { summary: writer.summary, why: why.clone() }),
        }
    }
}

impl Writer {
    /// Writes what `fill` makes, all of it or nothing. `fill` gets the time that has passed since the record before.
    fn record(&mut self, at: Duration, function: &str, through: bool, fill: impl FnOnce(&mut Text<'_>, Duration)) {
        if self.failed.is_some() {
            self.summary.left_out += 1;
            return;
        }
        self.text.clear();
        fill(&mut Text(&mut self.text), at.saturating_sub(self.last));
        let bytes = self.text.len() as u64;
        if self.summary.bytes + bytes > self.limit {
            if self.summary.left_out == 0 {
                log::warn!("{function}: the trace has reached its limit of {} bytes", self.limit);
            }
            self.summary.left_out += 1;
            return;
        }
        let mut written = self.out.write_all(self.text.as_bytes());
        if through && written.is_ok() {
            written = self.out.flush();
        }
        match written {
            Ok(()) => {
                self.last = at.max(self.last);
                self.summary.bytes += bytes;
                self.summary.dumps += 1;
            }
            Err(error) => {
                // Whoever finishes the trace learns it as an error; what is said at once is for those who watch.
                log::info!("{function}: the trace ends here: {error}");
                self.failed = Some(error.to_string());
                self.summary.left_out += 1;
            }
        }
    }
}

/// The text of one record.
struct Text<'a>(&'a mut String);

impl Text<'_> {
    /// Writing to a string does not fail.
    fn line(&mut self, stamp: Duration, what: fmt::Arguments<'_>) {
        let _ = writeln!(self.0, "[{:>+11.6}] {what}", stamp.as_secs_f64());
    }

    fn dump(&mut self, stamp: Duration, function: &str, side: &str, dump: &Dump) {
        let opcode = dump.opcode();
        let name = opcode.name().unwrap_or("unknown command opcode");
        self.line(stamp, format_args!("{function}: dump command {name}({:#x}) {side}", opcode.0));
        self.words(0, dump.entry.bytes());
        self.0.push('\n');
        for (number, block) in dump.blocks.chunks(Mailbox::SIZE).enumerate() {
            self.line(Duration::ZERO, format_args!("{function}: command block:"));
            self.words(CommandEntry::SIZE + number * Mailbox::SIZE, block);
            self.0.push('\n');
        }
    }

    /// Lines of four big-endian words; what is missing of the last is zero.
    fn words(&mut self, mut offset: usize, bytes: &[u8]) {
        for line in bytes.chunks(16) {
            let word = |at: usize| {
                (at..at + 4).fold(0, |word, at| word << 8 | u32::from(line.get(at).copied().unwrap_or_default()))
            };
            let words = format_args!("{offset:03x}: {:08x} {:08x} {:08x} {:08x}", word(0), word(4), word(8), word(12));
            self.line(Duration::ZERO, words);
            offset += 16;
        }
    }
}
