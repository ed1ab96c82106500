//! Traces of what a driver asked and what firmware answered (`cxddp-trace`), decoded and compared.

pub mod align;
pub mod diff;
pub mod show;

use crate::apart::{Part, part_of};
use cxddp_trace::{Exchange, Key, Trace, is_opaque, structures};
use std::path::{Path, PathBuf};

/// Why a trace cannot be had, with the name of its file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", .path.display())]
pub struct Unreadable {
    path: PathBuf,
    why: String,
}

/// Reads a trace, packed or not. Of several functions one must be named.
pub fn load(path: &Path, function: Option<&str>) -> Result<Trace, Unreadable> {
    let bad = |why: String| Unreadable { path: path.to_owned(), why };
    let text = cxddp_trace::read_file(path).map_err(|error| bad(error.to_string()))?;
    let trace = Trace::parse(&text).map_err(|error| bad(error.to_string()))?;
    let Some(function) = function else { return Ok(trace) };
    let names = trace.functions().join(", ");
    let trace = trace.of(function);
    match trace.commands.is_empty() && trace.entries.is_empty() {
        true => Err(bad(format!("there is no function {function:?}; it has {names}"))),
        false => Ok(trace),
    }
}

/// A trace of one function only.
pub fn load_one(path: &Path, function: Option<&str>) -> Result<Trace, Unreadable> {
    let trace = load(path, function)?;
    match &trace.functions()[..] {
        [_] => Ok(trace),
        names => {
            let why = format!("it has {} functions, choose one with --function: {}", names.len(), names.join(", "));
            Err(Unreadable { path: path.to_owned(), why })
        }
    }
}

/// A side of a command, taken apart.
fn parts(key: Key, bytes: &[u8], is_output: bool) -> Vec<Part> {
    let structures = structures(key, bytes, is_output);
    let two = structures.len() > 1;
    let mut parts = Vec::new();
    for (number, (info, range)) in structures.into_iter().enumerate() {
        let mut bytes = &bytes[range];
        if number == 1 {
            // Zeros behind a capability group say nothing.
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes = &bytes[..used.max(info.size).min(bytes.len())];
        }
        let mut part = part_of(info, bytes);
        match number {
            // Only the header of two: what follows has a table of its own.
            0 if two => {
                part.short = false;
                part.fields.retain(|field| !is_opaque(&field.name));
            }
            0 => part.short = false,
            _ => part.title = info.name.to_owned(),
        }
        parts.push(part);
    }
    parts
}

/// What is missing of a side.
fn missing(have: usize, of: usize) -> Option<String> {
    (have < of).then(|| format!("the trace has {have} of its {of} bytes"))
}

/// Why a command is not whole.
fn problem(exchange: &Exchange) -> Option<&'static str> {
    match (&exchange.input, &exchange.output) {
        (None, _) => Some("its input is not in the trace"),
        (_, None) => Some("it has no answer in the trace"),
        _ => None,
    }
}
