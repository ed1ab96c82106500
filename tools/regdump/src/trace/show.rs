//! A trace for people and for programs: each command with its input and output, each entry of a queue.

use super::{missing, parts, problem};
use crate::apart::Part;
use crate::text::{self, Style};
use crate::{entries, json};
use connectx_ddp::inspect::{Hex, Item};
use cxddp_trace::{EntryKind, Exchange, QueueEntry, Trace};
use firmware_iface::command::OutHeader;
use hw_regs::cqe::{Cqe64, OffloadCqe};
use hw_regs::layout::Layout;
use hw_regs::wqe::WqeDataSeg;
use serde_json::{Value, json};
use std::fmt::Write;

/// One thing of a trace.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// A command.
    Command(&'a Exchange),
    /// An entry of a queue.
    Entry(&'a QueueEntry),
}

/// All of a trace, in the order of its lines.
pub fn records(trace: &Trace) -> Vec<Record<'_>> {
    let commands = trace.commands.iter().map(Record::Command);
    let mut all: Vec<_> = commands.chain(trace.entries.iter().map(Record::Entry)).collect();
    all.sort_by_key(Record::line);
    all
}

impl Record<'_> {
    fn line(&self) -> usize {
        match self {
            Record::Command(command) => command.line,
            Record::Entry(entry) => entry.line,
        }
    }

    /// What it is: `QUERY_HCA_CAP GENERAL, current`, `WQE of SQ 0x11`.
    pub fn name(&self) -> String {
        match self {
            Record::Command(command) => command.key().to_string(),
            Record::Entry(entry) => format!("{} {:#x}", queue_of(entry.kind), entry.queue),
        }
    }

    /// For people. `function` says whose it is.
    pub fn text(&self, function: bool, style: Style) -> String {
        let whose = match self {
            _ if !function => String::new(),
            Record::Command(command) => format!("{}: ", command.function),
            Record::Entry(entry) => format!("{}: ", entry.function),
        };
        let mut out = format!("{whose}{}\n", self.name());
        match self {
            Record::Command(command) => self::command(&mut out, command, style),
            Record::Entry(entry) => taken_apart(entry).iter().for_each(|part| text::part(&mut out, part, style)),
        }
        out
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        match self {
            Record::Command(command) => {
                let key = command.key();
                let side = |bytes: &[u8], len: usize, is_output: bool| {
                    let parts: Vec<Value> =
                        parts(key, bytes, is_output).iter().map(|part| json::part(part, false)).collect();
                    json!({ "bytes": len, "missing": len.saturating_sub(bytes.len()), "parts": parts })
                };
                json!({
                    "function": command.function,
                    "line": command.line,
                    "command": key.to_string(),
                    "opcode": key.opcode.0,
                    "input": side(&command.input(), command.input_len(), false),
                    "output": command.output.as_ref().map(|dump| side(&dump.output(), dump.output_len(), true)),
                    "problem": problem(command),
                })
            }
            Record::Entry(entry) => {
                let parts: Vec<Value> = taken_apart(entry).iter().map(|part| json::part(part, false)).collect();
                json!({
                    "function": entry.function,
                    "line": entry.line,
                    "entry": self.name(),
                    "queue": entry.queue,
                    "index": entry.index,
                    "parts": parts,
                })
            }
        }
    }
}

fn command(out: &mut String, command: &Exchange, style: Style) {
    let key = command.key();
    let mut side = |name: &str, bytes: &[u8], len: usize, is_output: bool| {
        let status = match is_output {
            true => format!(": {}", OutHeader::from_prefix(bytes).status()),
            false => String::new(),
        };
        let _ = writeln!(out, "  {name}, {len} bytes{status}");
        parts(key, bytes, is_output).iter().for_each(|part| text::part(out, part, style));
        if let Some(missing) = missing(bytes.len(), len) {
            let _ = writeln!(out, "    {missing}");
        }
    };
    side("input", &command.input(), command.input_len(), false);
    if let Some(dump) = &command.output {
        side("output", &dump.output(), dump.output_len(), true);
    }
    if let Some(problem) = problem(command) {
        let _ = writeln!(out, "  {problem}");
    }
}

fn queue_of(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::SendWqe => "WQE of SQ",
        EntryKind::ReceiveWqe => "WQE of RQ",
        EntryKind::Cqe => "CQE of CQ",
    }
}

fn taken_apart(entry: &QueueEntry) -> Vec<Part> {
    let numbered = |mut part: Part, number: String| {
        part.title = format!("{number}{}", part.title);
        part
    };
    match entry.kind {
        EntryKind::SendWqe => {
            let mut item = Item { layout: "wqe".into(), bytes: Hex(entry.bytes.clone()), ..Item::default() };
            item.facts.insert("first".into(), entry.index.into());
            entries::send_queue(&item)
        }
        EntryKind::ReceiveWqe => {
            let segments = entry.bytes.chunks(WqeDataSeg::SIZE).enumerate();
            let number = |n: usize| format!("{}, segment {n}", entry.index);
            segments.map(|(n, bytes)| numbered(entries::entry(WqeDataSeg::NAME, bytes), number(n))).collect()
        }
        EntryKind::Cqe => {
            let layout = if entry.bytes.len() == OffloadCqe::SIZE { OffloadCqe::NAME } else { Cqe64::NAME };
            vec![numbered(entries::entry(layout, &entry.bytes), entry.index.to_string())]
        }
    }
}
