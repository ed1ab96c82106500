//! Recorded commands: what a driver asked and what firmware answered, decoded.
//!
//! Two kinds of records are read: what Linux `mlx5_core` writes into the kernel log when its debugging messages are on
//! (`dump command … INPUT` and `OUTPUT`, with the entry of the command queue and its mailboxes), and the driver's own
//! ([`Record`]). The kernel leaves some mailboxes out; what is missing is said.

use crate::apart::{Part, part, part_of};
use crate::text::{self, Style};
use connectx_ddp::command::Record;
use connectx_ddp::command::wire::BLOCK_BYTES;
use connectx_ddp::inspect::{Hex, Item};
use firmware_iface::Opcode;
use firmware_iface::caps::GROUPS;
use firmware_iface::command::{InHeader, OutHeader, describe};
use firmware_iface::register::{AccessRegisterIn, AccessRegisterOut, RegisterId};
use hw_regs::command_queue::{CommandEntry, Mailbox};
use hw_regs::layout::{Access, Layout, LayoutInfo};
use serde_json::{Value, json};
use std::fmt::Write;

/// Bytes of an entry and of a mailbox with its control part.
const ENTRY: usize = CommandEntry::SIZE;
const BLOCK: usize = Mailbox::SIZE;
/// Commands of a record at most.
const MAX_COMMANDS: usize = 100_000;

/// Why a text is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTrace {
    /// Neither kind.
    #[error(
        "there is no command in it: expected a kernel log with \"dump command\" lines of mlx5_core, or lines that begin \
         with \"> \" and \"< \""
    )]
    Nothing,
    /// Nearly one.
    #[error("{0}")]
    Record(String),
    /// Too long.
    #[error("more than {MAX_COMMANDS} commands")]
    TooLong,
}

/// One command and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// As much of the input as the record has.
    pub input: Vec<u8>,
    /// As much of the output, if there is one.
    pub output: Option<Vec<u8>>,
    /// Bytes that the command had, by what it says.
    pub input_len: usize,
    /// Bytes that were asked for.
    pub output_len: usize,
    /// Why there is no output.
    pub problem: Option<String>,
}

/// Reads a record of either kind.
pub fn read(text: &str) -> Result<Vec<Exchange>, BadTrace> {
    let exchanges = match text.contains("dump command ") {
        true => kernel_log(text)?,
        false => {
            let record: Record =
                text.parse().map_err(|error| match text.lines().any(|line| line.starts_with("> ")) {
                    true => BadTrace::Record(format!("{error}")),
                    false => BadTrace::Nothing,
                })?;
            let exchanges = record.exchanges.into_iter();
            let exchanges = exchanges.map(|exchange| Exchange {
                input_len: exchange.input.len(),
                output_len: exchange.output_len,
                problem: exchange.answer.as_ref().err().cloned(),
                output: exchange.answer.ok(),
                input: exchange.input,
            });
            exchanges.collect()
        }
    };
    match exchanges.len() {
        0 => Err(BadTrace::Nothing),
        1..=MAX_COMMANDS => Ok(exchanges),
        _ => Err(BadTrace::TooLong),
    }
}

/// The 16 bytes of a line `… offset: word word word word`.
fn hex_line(line: &str) -> Option<(usize, Vec<u8>)> {
    let (before, words) = line.trim_end().rsplit_once(": ")?;
    let offset = before.rsplit([' ', ']']).next()?;
    let offset = usize::from_str_radix(offset, 16).ok()?;
    let words: Vec<&str> = words.split_whitespace().collect();
    let words = words.iter().map(|word| u32::from_str_radix(word, 16).ok().filter(|_| word.len() == 8));
    let bytes: Vec<u8> = words.collect::<Option<Vec<u32>>>()?.into_iter().flat_map(u32::to_be_bytes).collect();
    (bytes.len() == 16).then_some((offset, bytes))
}

/// One side of a command: its entry, and the data of its mailboxes.
struct Side {
    entry: CommandEntry,
    data: Vec<u8>,
}

impl Side {
    fn new(bytes: &[u8]) -> Side {
        let (entry, blocks) = bytes.split_at(bytes.len().min(ENTRY));
        let data = blocks.chunks(BLOCK).flat_map(|block| &block[..block.len().min(BLOCK_BYTES)]).copied().collect();
        Side { entry: CommandEntry::from_prefix(entry), data }
    }

    /// What is inline, then what the mailboxes have, at most `len` bytes.
    fn bytes(&self, at: usize, len: usize) -> Vec<u8> {
        let mut bytes = self.entry.bytes()[at..at + 16].to_vec();
        bytes.extend_from_slice(&self.data);
        bytes.truncate(len);
        bytes
    }
}

fn kernel_log(text: &str) -> Result<Vec<Exchange>, BadTrace> {
    let mut sides: Vec<(bool, Vec<u8>)> = Vec::new();
    for line in text.lines() {
        if line.contains("dump command ") {
            if sides.len() >= 2 * MAX_COMMANDS {
                return Err(BadTrace::TooLong);
            }
            sides.push((line.trim_end().ends_with("INPUT"), Vec::new()));
        } else if let Some((offset, bytes)) = hex_line(line)
            && let Some((_, side)) = sides.last_mut()
            // Lines of other messages that look alike are not at the place that is next.
            && offset == side.len()
        {
            side.extend(bytes);
        }
    }
    let mut exchanges: Vec<Exchange> = Vec::new();
    for (is_input, bytes) in sides {
        let side = Side::new(&bytes);
        let (input_len, output_len) =
            (side.entry.get(CommandEntry::INLEN) as usize, side.entry.get(CommandEntry::OUTLEN) as usize);
        let token = |exchange: &Exchange| {
            exchange.output.is_none() && exchange.input.get(..2) == Some(&side.entry.bytes()[16..18])
        };
        match is_input {
            true => exchanges.push(Exchange {
                input: side.bytes(16, input_len),
                output: None,
                input_len,
                output_len,
                problem: None,
            }),
            // Commands overlap: the answer belongs to the last one of its opcode that has none.
            false => match exchanges.iter_mut().rev().find(|exchange| token(exchange)) {
                Some(exchange) => exchange.output = Some(side.bytes(32, output_len)),
                None => exchanges.push(Exchange {
                    input: side.bytes(16, input_len),
                    output: Some(side.bytes(32, output_len)),
                    input_len,
                    output_len,
                    problem: Some("its input is not in the record".into()),
                }),
            },
        }
    }
    Ok(exchanges)
}

impl Exchange {
    /// Which command.
    pub fn opcode(&self) -> Opcode {
        InHeader::from_prefix(&self.input).opcode()
    }

    /// Its name, with what it is about: the capability group, the register.
    pub fn name(&self) -> String {
        let header = InHeader::from_prefix(&self.input);
        let op_mod = header.get(InHeader::OP_MOD);
        let opcode = header.opcode().name().map_or_else(|| format!("command {:#x}", header.opcode().0), str::to_owned);
        match header.opcode() {
            Opcode::QUERY_HCA_CAP | Opcode::SET_HCA_CAP => {
                let group = GROUPS.iter().find(|info| u32::from(info.group.0) == op_mod >> 1);
                let group = group.map_or_else(|| format!("group {:#x}", op_mod >> 1), |info| info.name().to_owned());
                let which = match (header.opcode(), op_mod & 1) {
                    (Opcode::SET_HCA_CAP, _) => "",
                    (_, 0) => ", maximum",
                    _ => ", current",
                };
                format!("{opcode} {group}{which}")
            }
            Opcode::ACCESS_REG => {
                let register =
                    RegisterId(AccessRegisterIn::from_prefix(&self.input).get(AccessRegisterIn::REGISTER_ID) as u16);
                format!("{opcode} {} {register}", if op_mod & 1 == 0 { "write" } else { "read" })
            }
            _ if op_mod != 0 => format!("{opcode}, op_mod {op_mod:#x}"),
            _ => opcode,
        }
    }

    /// The structure that the answer, or the input of a command that sets something, is about: its table and its bytes.
    fn inner<'a>(&self, bytes: &'a [u8], is_output: bool) -> Option<(&'static LayoutInfo, &'a [u8])> {
        let header = InHeader::from_prefix(&self.input);
        match (header.opcode(), is_output) {
            (Opcode::QUERY_HCA_CAP, true) | (Opcode::SET_HCA_CAP, false) => {
                let op_mod = header.get(InHeader::OP_MOD);
                let group = GROUPS.iter().find(|info| u32::from(info.group.0) == op_mod >> 1)?;
                let bytes = bytes.get(OutHeader::SIZE..).filter(|bytes| !bytes.is_empty())?;
                let layout = group.layout?;
                // Zeros behind a group say nothing.
                let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                Some((layout, &bytes[..used.max(layout.size).min(bytes.len())]))
            }
            (Opcode::ACCESS_REG, _) => {
                let id = AccessRegisterIn::from_prefix(&self.input).get(AccessRegisterIn::REGISTER_ID);
                let name = RegisterId(id as u16).name()?.to_lowercase();
                let layout = crate::meaning::layout(&format!("{name}_reg"))
                    .or_else(|| crate::meaning::layout(&format!("register_{name}")))?;
                let at = if is_output { AccessRegisterOut::REGISTER_DATA } else { AccessRegisterIn::REGISTER_DATA };
                Some((layout, bytes.get(at..).filter(|bytes| !bytes.is_empty())?))
            }
            _ => None,
        }
    }

    /// A side of the command, taken apart.
    fn parts(&self, bytes: &[u8], is_output: bool) -> Vec<Part> {
        let whole = describe(self.opcode()).map(|info| if is_output { info.output } else { info.input });
        let inner = self.inner(bytes, is_output);
        let header = match inner {
            Some((_, inner)) => &bytes[..bytes.len().saturating_sub(inner.len()).min(OutHeader::SIZE)],
            None => bytes,
        };
        let mut parts = vec![match whole {
            // Only the header: what follows has a table of its own.
            Some(info) => Part { short: false, ..part_of(info, header) },
            None => part(if is_output { OutHeader::NAME } else { InHeader::NAME }, header),
        }];
        if inner.is_some() {
            parts[0].fields.retain(|field| !matches!(&field.name[..], "capability" | "register_data"));
        }
        if let Some((layout, bytes)) = inner {
            parts.push(Part { title: layout.name.to_owned(), ..part_of(layout, bytes) });
        }
        parts
    }

    /// What is missing of a side.
    fn missing(have: usize, of: usize) -> Option<String> {
        (have < of).then(|| format!("the record has {have} of its {of} bytes"))
    }

    /// For people.
    pub fn text(&self, style: Style) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{}", self.name());
        let mut side = |name: &str, bytes: &[u8], len: usize, is_output: bool| {
            let status = match is_output {
                true => format!(": {}", OutHeader::from_prefix(bytes).status()),
                false => String::new(),
            };
            let _ = writeln!(out, "  {name}, {len} bytes{status}");
            for part in self.parts(bytes, is_output) {
                text::part(&mut out, &part, style);
            }
            if let Some(missing) = Exchange::missing(bytes.len(), len) {
                let _ = writeln!(out, "    {missing}");
            }
        };
        side("input", &self.input, self.input_len, false);
        if let Some(output) = &self.output {
            side("output", output, self.output_len, true);
        }
        if let Some(problem) = &self.problem {
            let _ = writeln!(out, "  {problem}");
        }
        out
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let side = |bytes: &[u8], len: usize, is_output: bool| {
            let parts: Vec<Value> =
                self.parts(bytes, is_output).iter().map(|part| crate::json::part(part, false)).collect();
            json!({ "bytes": len, "missing": len.saturating_sub(bytes.len()), "parts": parts })
        };
        json!({
            "command": self.name(),
            "opcode": self.opcode().0,
            "input": side(&self.input, self.input_len, false),
            "output": self.output.as_ref().map(|output| side(output, self.output_len, true)),
            "problem": self.problem,
        })
    }

    /// Bits of the answer that no field names.
    pub fn unknown_in_output(&self) -> usize {
        let parts = self.output.as_ref().map(|output| self.parts(output, true)).unwrap_or_default();
        parts.iter().map(|part| part.unnamed.len()).sum()
    }
}

/// Bytes in hexadecimal by a table: words and bytes in any grouping, offsets in front of lines (`0010:`), and `0x` are
/// understood.
pub fn structure(layout: &str, text: &str) -> Result<Item, String> {
    let Some(info) = crate::meaning::layout(layout) else {
        return Err(format!("there is no layout {layout:?}; `cxddp-regdump decode --list` lists them"));
    };
    let mut digits = String::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let data = line.split_once(": ").map_or(line, |(_, data)| data);
        for word in data.split([' ', '\t', ',']) {
            let word = word.trim().trim_start_matches("0x");
            if !word.bytes().all(|byte| byte.is_ascii_hexdigit()) || word.len() % 2 != 0 {
                return Err(format!("{word:?} is no even number of hexadecimal digits"));
            }
            digits.push_str(word);
        }
    }
    let bytes: Hex = serde_json::from_value(digits.into()).map_err(|error| error.to_string())?;
    if bytes.0.is_empty() {
        return Err("there are no bytes".into());
    }
    Ok(Item { name: format!("{} bytes", bytes.0.len()), layout: info.name.into(), bytes, ..Item::default() })
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | a kernel log and the driver's own record of the same command read the same, other lines between notwithstanding | `both_kinds_of_records_are_read` |
    //! | a record that is cut anywhere is read as far as it goes, or refused | `torn_records_are_no_trouble` |
    //! | hexadecimal is read in whatever grouping | `hexadecimal_is_read` |
    use super::*;

    /// QUERY_ISSI, whose answer of 112 bytes is in a mailbox.
    fn log() -> String {
        let mut mailbox = vec![0u8; BLOCK];
        mailbox[112 - 16 - 1] = 2;
        let mut text = String::from("[ +0.1] mlx5_core 0000:02:00.0: dump command QUERY_ISSI(0x10a) INPUT\n");
        let entry = |out: bool| {
            let mut entry = [0u8; ENTRY];
            (entry[0], entry[7], entry[16], entry[17], entry[59]) = (7, 16, 0x01, 0x0a, 112);
            entry[63] = u8::from(!out);
            entry
        };
        let dump = |text: &mut String, bytes: &[u8]| {
            for (n, line) in bytes.chunks(16).enumerate() {
                let words: Vec<String> =
                    line.chunks(4).map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
                let _ = writeln!(text, "[ +0.000001] {:03x}: {}", n * 16, words.join(" "));
            }
        };
        dump(&mut text, &entry(false));
        text.push_str(
            "\n[ +0.2] mlx5_core: writing 0x1 to command doorbell\n[ +0.1] dump command QUERY_ISSI(0x10a) OUTPUT\n",
        );
        dump(&mut text, &[&entry(true)[..], &mailbox].concat());
        text
    }

    #[test]
    fn both_kinds_of_records_are_read() {
        let logged = read(&log()).expect("a log");
        assert_eq!(logged.len(), 1);
        assert_eq!((logged[0].name(), logged[0].output_len), ("QUERY_ISSI".to_owned(), 112));
        let text = logged[0].text(Style::default());
        assert!(text.contains("output, 112 bytes: OK") && text.contains("supported_issi_dw0  2"), "{text}");
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let output = logged[0].output.as_ref().expect("it has one");
        let record = format!("# ours\n> 112 {}\n< {}\n", hex(&logged[0].input), hex(output));
        assert_eq!(read(&record).expect("a record"), logged);
        let lost = read("> 16 01040000000000000000000000000000\n! no completion within 60s\n").expect("a record");
        assert!(lost[0].text(Style::default()).contains("no completion within 60s"));
    }

    #[test]
    fn torn_records_are_no_trouble() {
        let log = log();
        for end in 0..log.len() {
            if let Ok(exchanges) = read(&log[..end]) {
                for exchange in exchanges {
                    exchange.text(Style { raw: true, zeros: true });
                    exchange.to_json();
                }
            }
        }
        assert_eq!(read(""), Err(BadTrace::Nothing));
        assert_eq!(read("no record\nat all"), Err(BadTrace::Nothing));
        assert!(matches!(read("> 16 01\nx"), Err(BadTrace::Record(_))));
    }

    #[test]
    fn hexadecimal_is_read() {
        let item = structure("pmtu_reg", "0000: 0001 0000, 0x27100000 # max\n0008: 05f20000\n").expect("bytes");
        assert_eq!(item.bytes.0, [0, 1, 0, 0, 0x27, 0x10, 0, 0, 5, 0xf2, 0, 0]);
        for (layout, text, word) in [("x", "00", "no layout"), ("pmtu_reg", "", "no bytes"), ("pmtu_reg", "0g", "0g")] {
            assert!(structure(layout, text).expect_err(text).contains(word));
        }
    }
}
