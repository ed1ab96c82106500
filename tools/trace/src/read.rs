//! Reading a trace out of a text that may hold anything besides.

use crate::{Dump, EntryKind, Exchange, QueueEntry};
use firmware_iface::Opcode;
use hw_regs::command_queue::{CommandEntry, Mailbox};
use hw_regs::layout::Layout;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;

/// Commands, and entries of queues, of a trace at most.
const MAX_RECORDS: usize = 1 << 20;
/// Commands that wait for their answer; a queue has 32 slots, and a text may lack answers.
const MAX_OPEN: usize = 1024;
/// Functions that are told apart by [`Trace::functions`].
const MAX_FUNCTIONS: usize = 256;
/// Bytes of a dump at most: an entry, and mailboxes for 16 MiB.
const MAX_DUMP: usize = CommandEntry::SIZE + Mailbox::SIZE * (1 << 15);
/// Bytes of an entry of a queue at most: a send WQE of 63 segments.
const MAX_ENTRY: usize = 1008;
/// Bytes of a file at most.
const MAX_FILE: u64 = 256 << 20;

/// What headlines have in common.
const COMMAND: &str = "dump command ";
const DUMP_OF: &str = " DUMP: ";

/// Why a text is no trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTrace {
    /// There is nothing in it.
    #[error(
        "there is no command in it: expected lines with \"dump command\", as cxddp-vnic serve --trace writes them and \
         mlx5_core does into the kernel's log (dyndbg=\"module mlx5_core +p\")"
    )]
    Nothing,
    /// A line is wrong.
    #[error("line {line}: {problem}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system said so.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is packed, and cannot be unpacked.
    #[error("it is packed with gzip, and: {0}")]
    Gzip(io::Error),
    /// It is longer than is believed.
    #[error("it has more than {} MiB", MAX_FILE >> 20)]
    TooLong,
}

/// What a trace says of a function besides its commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Version of its firmware: major, minor, sub-minor. Linux says it too.
    Firmware(u16, u16, u16),
    /// PCI vendor and device id.
    Id(u16, u16),
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::Firmware(major, minor, sub) => write!(f, "firmware version: {major}.{minor}.{sub}"),
            Fact::Id(vendor, device) => write!(f, "PCI id: {vendor:04x}:{device:04x}"),
        }
    }
}

impl Fact {
    /// Out of the end of a line.
    fn find(line: &str) -> Option<(usize, Fact)> {
        const FIRMWARE: &str = "firmware version: ";
        const ID: &str = "PCI id: ";
        if let Some(at) = line.find(FIRMWARE) {
            let mut numbers = line[at + FIRMWARE.len()..].split_whitespace().next()?.split('.').map(u16::from_str);
            let mut next = || numbers.next()?.ok();
            return Some((at, Fact::Firmware(next()?, next()?, next()?)));
        }
        let at = line.find(ID)?;
        let (vendor, device) = line[at + ID.len()..].trim_end().split_once(':')?;
        let hex = |text| u16::from_str_radix(text, 16).ok();
        Some((at, Fact::Id(hex(vendor)?, hex(device)?)))
    }
}

/// A trace that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Commands in the order of their posting.
    pub commands: Vec<Exchange>,
    /// Entries of queues, in their order.
    pub entries: Vec<QueueEntry>,
    /// What is said of functions, by their names.
    pub facts: Vec<(String, Fact)>,
}

/// What a headline begins.
enum Head {
    Command { input: bool, opcode: Opcode },
    Entry { kind: EntryKind, queue: u32, index: u32, len: usize },
}

/// Lines that belong together.
struct Open {
    head: Head,
    function: String,
    line: usize,
    /// `cmd[N]` of the lines of newer kernels.
    slot: Option<u32>,
    bytes: Vec<u8>,
}

impl Open {
    /// Bytes that it must have to be of use.
    fn least(&self) -> usize {
        match self.head {
            Head::Command { .. } => CommandEntry::SIZE,
            Head::Entry { len, .. } => len,
        }
    }
}

/// `line`, without the time in front, and the slot that it names.
fn content(line: &str) -> (Option<u32>, &str) {
    let line = line.trim_end();
    let line = match line.rfind("] ") {
        // The time of the log; of `cmd[3]: ` the bracket is followed by a colon.
        Some(at) if line.trim_start().starts_with('[') || line.contains("kernel: [") => &line[at + 2..],
        _ => line,
    };
    let Some(at) = line.find("cmd[") else { return (None, line) };
    let Some((slot, rest)) = line[at + 4..].split_once("]: ") else { return (None, line) };
    match slot.parse() {
        Ok(slot) => (Some(slot), rest),
        Err(_) => (None, line),
    }
}

/// The offset and the words of `010: 01040000 ...`, if that is what the line is.
fn words(content: &str) -> Option<(usize, &str)> {
    let (offset, words) = content.trim_start().split_once(": ")?;
    let offset = usize::from_str_radix(offset, 16).ok().filter(|_| offset.len() >= 3)?;
    Some((offset, words))
}

/// Four words.
fn bytes_of(words: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    let mut words = words.split_whitespace();
    for chunk in bytes.chunks_exact_mut(4) {
        let word = words.next().filter(|word| word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        chunk.copy_from_slice(&u32::from_str_radix(word, 16).ok()?.to_be_bytes());
    }
    words.next().is_none().then_some(bytes)
}

/// The name of the function in what a headline begins with: `[time] mlx5_core 0000:02:00.0: ...`.
fn function(before: &str) -> String {
    const DRIVER: &str = "mlx5_core ";
    let name = match before.find(DRIVER) {
        Some(at) => before[at + DRIVER.len()..].split_whitespace().next(),
        None => before.split(": ").next().and_then(|head| head.split_whitespace().next_back()),
    };
    name.unwrap_or_default().trim_end_matches(':').to_owned()
}

fn head(line: &str, number: usize) -> Result<Option<(String, Head)>, BadTrace> {
    let bad = |problem: String| BadTrace::Line { line: number, problem };
    if let Some(at) = line.find(COMMAND) {
        let rest = line[at + COMMAND.len()..].trim_end();
        let rest = rest.strip_prefix("data ").unwrap_or(rest);
        let wrong = || bad("expected \"dump command NAME(0xOPCODE) INPUT\" or \"OUTPUT\"".to_owned());
        let (name, side) = rest.rsplit_once(' ').ok_or_else(wrong)?;
        let opcode = name.strip_suffix(')').and_then(|name| name.rsplit_once("(0x")).ok_or_else(wrong)?.1;
        let opcode = Opcode(u16::from_str_radix(opcode, 16).map_err(|_| wrong())?);
        let input = match side {
            "INPUT" => true,
            "OUTPUT" => false,
            _ => return Err(wrong()),
        };
        return Ok(Some((function(&line[..at]), Head::Command { input, opcode })));
    }
    let Some(at) = line.find(DUMP_OF) else { return Ok(None) };
    let (before, what) = line[..at].rsplit_once(' ').unwrap_or_default();
    let rest = &line[at + DUMP_OF.len()..];
    let kinds = [EntryKind::SendWqe, EntryKind::ReceiveWqe, EntryKind::Cqe];
    let Some(kind) = kinds.into_iter().find(|kind| kind.names().0 == what && rest.starts_with(kind.names().1)) else {
        return Ok(None);
    };
    let mut parts = rest.split(", ");
    let mut number_after = |name: &str| {
        let text = parts.next()?.trim_end().strip_prefix(name)?.trim_start_matches([' ', ':']);
        match text.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        }
    };
    let index = format!("{what} index");
    let numbers = (number_after(kind.names().1), number_after(&index), number_after("len"));
    match numbers {
        (Some(queue), Some(index), Some(len)) if (1..=MAX_ENTRY).contains(&(len as usize)) => {
            Ok(Some((function(before), Head::Entry { kind, queue, index, len: len as usize })))
        }
        _ => Err(bad(format!(
            "expected \"{what} DUMP: {} NUMBER, {index} NUMBER, len: BYTES\" with at most {MAX_ENTRY} bytes",
            kind.names().1
        ))),
    }
}

impl Trace {
    /// Reads a text. Lines of others between those of a dump do no harm.
    pub fn parse(text: &str) -> Result<Trace, BadTrace> {
        let mut trace = Trace::default();
        let mut open: Vec<Open> = Vec::new();
        let mut unanswered: Vec<usize> = Vec::new();
        for (number, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line)) {
            let (slot, content) = content(line);
            if let Some((function, head)) = head(line, number)? {
                // What the same slot had open is over; without slots one dump is open at a time.
                let ended = open.extract_if(.., |other| other.slot == slot).collect::<Vec<_>>();
                ended.into_iter().try_for_each(|open| trace.close(open, &mut unanswered, false))?;
                if trace.commands.len() + trace.entries.len() + open.len() >= MAX_RECORDS || open.len() >= MAX_OPEN {
                    let problem = format!("more than {MAX_RECORDS} commands and queue entries");
                    return Err(BadTrace::Line { line: number, problem });
                }
                let function = trace.known_function(function);
                open.push(Open { head, function, line: number, slot, bytes: Vec::new() });
            } else if let Some((offset, words)) = words(content) {
                let Some(open) = open.iter_mut().rev().find(|open| open.slot == slot && open.bytes.len() == offset)
                else {
                    continue;
                };
                let bytes = bytes_of(words).ok_or_else(|| BadTrace::Line {
                    line: number,
                    problem: format!("expected four words of eight hexadecimal digits after {offset:03x}:"),
                })?;
                if open.bytes.len() + 16 > MAX_DUMP {
                    let problem = format!("a dump of more than {MAX_DUMP} bytes");
                    return Err(BadTrace::Line { line: number, problem });
                }
                open.bytes.extend(bytes);
            } else if let Some((at, fact)) = Fact::find(line) {
                let function = function(&line[..at]);
                trace.facts.push((function, fact));
            }
        }
        open.into_iter().try_for_each(|open| trace.close(open, &mut unanswered, true))?;
        match trace.commands.is_empty() && trace.entries.is_empty() {
            true => Err(BadTrace::Nothing),
            false => Ok(trace),
        }
    }

    /// A name of a function that is not kept twice; a line without one is of the function before.
    fn known_function(&self, name: String) -> String {
        match (name.is_empty(), self.commands.last()) {
            (true, Some(last)) => last.function.clone(),
            _ => name,
        }
    }

    /// A dump is complete, or the text ends in the middle of it.
    fn close(&mut self, open: Open, unanswered: &mut Vec<usize>, at_end: bool) -> Result<(), BadTrace> {
        let least = open.least();
        let Open { head, function, line, mut bytes, .. } = open;
        let bad = |problem: String| BadTrace::Line { line, problem };
        if bytes.len() < least {
            // Who wrote it ended in the middle of it.
            return match at_end {
                true => Ok(()),
                false => Err(bad(format!("the dump that begins here has {} of its {least} bytes", bytes.len()))),
            };
        }
        let (input, opcode) = match head {
            Head::Entry { kind, queue, index, len } => {
                bytes.truncate(len);
                self.entries.push(QueueEntry { function, line, kind, queue, index, bytes });
                return Ok(());
            }
            Head::Command { input, opcode } => (input, opcode),
        };
        let blocks = bytes.split_off(CommandEntry::SIZE);
        let dump = Dump::new(CommandEntry::from_prefix(&bytes), blocks);
        if dump.opcode() != opcode {
            let found = dump.opcode().0;
            return Err(bad(format!("the entry is of command {found:#x}, and its headline says {:#x}", opcode.0)));
        }
        let new = |input, output| Exchange { function: function.clone(), line, input, output };
        if input {
            if unanswered.len() == MAX_OPEN {
                unanswered.remove(0);
            }
            unanswered.push(self.commands.len());
            self.commands.push(new(Some(dump), None));
            return Ok(());
        }
        // Commands overlap: the answer belongs to the last one of its function, opcode and token that has none.
        let asked = unanswered.iter().rposition(|n| {
            let command = &self.commands[*n];
            command.function == function && command.opcode() == opcode && command.any().token() == dump.token()
        });
        match asked {
            Some(at) => self.commands[unanswered.remove(at)].output = Some(dump),
            None => self.commands.push(new(None, Some(dump))),
        }
        Ok(())
    }

    /// The functions that are in it, each once, in the order of their first line.
    pub fn functions(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        let commands = self.commands.iter().map(|command| &command.function[..]);
        for name in commands.chain(self.entries.iter().map(|entry| &entry.function[..])) {
            if names.len() < MAX_FUNCTIONS && !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// What is of one function.
    pub fn of(mut self, function: &str) -> Trace {
        self.commands.retain(|command| command.function == function);
        self.entries.retain(|entry| entry.function == function);
        self.facts.retain(|(name, _)| name == function);
        self
    }
}

/// The text of a file, `-` for standard input, unpacked if gzip has packed it. What is no UTF-8 is replaced.
pub fn read_file(path: &Path) -> Result<String, FileError> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let mut bytes = Vec::new();
    match path.as_os_str() == "-" {
        true => io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes)?,
        false => File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?,
    };
    if bytes.starts_with(&GZIP) {
        bytes = unpack(bytes).map_err(FileError::Gzip)?;
    }
    match bytes.len() as u64 > MAX_FILE {
        true => Err(FileError::TooLong),
        false => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

fn unpack(packed: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut gzip =
        Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut input = gzip.stdin.take().ok_or_else(|| io::Error::other("no pipe"))?;
    let feeder = std::thread::spawn(move || input.write_all(&packed));
    let mut bytes = Vec::new();
    if let Some(output) = gzip.stdout.take() {
        output.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    }
    let fed = feeder.join().map_err(|_| io::Error::other("the pipe broke"))?;
    match gzip.wait()?.success() {
        true => fed.map(|()| bytes),
        // It may have had enough: what is too long was not read to its end.
        false if bytes.len() as u64 > MAX_FILE => Ok(bytes),
        false => Err(io::Error::other("it cannot be unpacked")),
    }
}
