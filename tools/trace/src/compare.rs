//! The structures that a command consists of, and where two commands of the same kind differ.

use crate::{Key, addresses, is_address, layout};
use firmware_iface::Opcode;
use firmware_iface::caps::GROUPS;
use firmware_iface::command::{InHeader, OutHeader, describe};
use firmware_iface::register::{AccessRegisterIn, AccessRegisterOut, RegisterId};
use hw_regs::decode::{Content, Decoded, decode};
use hw_regs::layout::{Layout, LayoutInfo};
use std::fmt;
use std::ops::Range;

/// A table, and the bytes of a message that it describes.
pub type Structure = (&'static LayoutInfo, Range<usize>);

/// The structures of an input, or of an output. If there are two, the second is what the first only has as bytes: the
/// capability group, the register.
pub fn structures(key: Key, bytes: &[u8], is_output: bool) -> Vec<Structure> {
    let whole = match describe(key.opcode) {
        Some(info) if is_output => info.output,
        Some(info) => info.input,
        None if is_output => &OutHeader::INFO,
        None => &InHeader::INFO,
    };
    match inner(key, bytes.len(), is_output) {
        Some((info, inner)) => vec![(whole, 0..inner.start.min(OutHeader::SIZE)), (info, inner)],
        None => vec![(whole, 0..bytes.len())],
    }
}

/// Fields of the first structure that a second one describes.
pub fn is_opaque(field: &str) -> bool {
    matches!(field, "capability" | "register_data")
}

fn inner(key: Key, len: usize, is_output: bool) -> Option<Structure> {
    match (key.opcode, is_output) {
        (Opcode::QUERY_HCA_CAP, true) | (Opcode::SET_HCA_CAP, false) => {
            let group = GROUPS.iter().find(|info| info.group.0 == key.op_mod >> 1)?;
            (len > OutHeader::SIZE).then_some((group.layout?, OutHeader::SIZE..len))
        }
        (Opcode::ACCESS_REG, _) => {
            let name = RegisterId(key.kind as u16).name()?.to_lowercase();
            let info = layout(&format!("{name}_reg")).or_else(|| layout(&format!("register_{name}")))?;
            let at = if is_output { AccessRegisterOut::REGISTER_DATA } else { AccessRegisterIn::REGISTER_DATA };
            (len > at).then_some((info, at..len))
        }
        _ => None,
    }
}

/// A field that two messages of one kind do not have alike. Addresses of the driver's memory differ only if one of them is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name: `eq_context_entry.log_eq_size`; bits without a name are `unknown @0x1c.5`.
    pub field: String,
    /// The structure that it is in, and its name there, for whoever knows names of values; empty if it has no name.
    pub of: (&'static str, &'static str),
    /// In the first message; `None` if that ends before.
    pub a: Option<Content>,
    /// In the second.
    pub b: Option<Content>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |side: &Option<Content>| match side {
            None => "nothing".to_owned(),
            Some(Content::Number(number)) => format!("{number:#x}"),
            Some(Content::List(list)) => format!("{list:x?}"),
            Some(Content::Bytes(bytes)) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        write!(f, "{} is {} and {}", self.field, text(&self.a), text(&self.b))
    }
}

/// A field: its name, its table and its name there, its content.
type Named = (String, (&'static str, &'static str), Content);

fn fields(key: Key, bytes: &[u8], is_output: bool) -> Vec<Named> {
    let structures = structures(key, bytes, is_output);
    let two = structures.len() > 1;
    let mut fields = Vec::new();
    for (number, (info, range)) in structures.into_iter().enumerate() {
        let Decoded { values, unnamed, .. } = decode(info, &bytes[range.clone()], &layout);
        let shown = values.into_iter().filter(|value| number != 0 || !two || !is_opaque(&value.name));
        fields.extend(shown.map(|value| (value.name, (value.layout, value.field), value.content)));
        let word = |at: u32| {
            let at = range.start + at as usize;
            (at..at + 4).fold(0, |word, at| word << 8 | u64::from(bytes.get(at).copied().unwrap_or_default()))
        };
        fields.extend(unnamed.into_iter().map(|bits| {
            let mask = (1u64 << (bits.high - bits.low + 1)) - 1;
            (format!("unknown {bits}"), ("", ""), Content::Number(word(bits.word) >> bits.low & mask))
        }));
    }
    fields
}

/// True if two values of a field are the same as far as two runs can be the same.
fn is_same(field: &str, a: &Content, b: &Content) -> bool {
    let zeros = |content: &Content| match content {
        Content::Number(n) => vec![*n == 0],
        Content::List(list) => list.iter().map(|n| *n == 0).collect(),
        Content::Bytes(bytes) => bytes.chunks(8).map(|chunk| chunk.iter().all(|byte| *byte == 0)).collect(),
    };
    a == b || is_address(field) && zeros(a) == zeros(b)
}

/// Every field that two inputs (or outputs) of one kind do not have alike, in the order of the first.
pub fn differences(key: Key, a: &[u8], b: &[u8], is_output: bool) -> Vec<Difference> {
    if a == b {
        return Vec::new();
    }
    let (a, b) = (fields(key, a, is_output), fields(key, b, is_output));
    let mut found = Vec::new();
    let mut at = 0;
    for (field, of, content) in &a {
        // Both have the same tables, so the next one is nearly always it.
        let other = b[at..].iter().position(|(name, ..)| name == field).map(|n| at + n);
        at = other.map_or(at, |n| n + 1);
        let other = other.map(|n| b[n].2.clone());
        if other.as_ref().is_none_or(|other| !is_same(field, content, other)) {
            found.push(Difference { field: field.clone(), of: *of, a: Some(content.clone()), b: other });
        }
    }
    let mut names: Vec<&str> = a.iter().map(|(name, ..)| &name[..]).collect();
    names.sort_unstable();
    let new = b.into_iter().filter(|(name, ..)| names.binary_search(&&name[..]).is_err());
    found.extend(new.map(|(field, of, content)| Difference { field, of, a: None, b: Some(content) }));
    found
}

/// The first difference of two inputs, if they are not the same step: `None` if only addresses of memory differ.
pub fn first_difference(key: Key, a: &[u8], b: &[u8]) -> Option<String> {
    if a == b {
        return None;
    }
    if let Some(difference) = differences(key, a, b, false).first() {
        return Some(difference.to_string());
    }
    if a.len() != b.len() {
        return Some(format!("it has {} and {} bytes", a.len(), b.len()));
    }
    // What the tables do not reach.
    let skip = addresses(key.opcode, a, false);
    let other = (0..a.len()).find(|at| a[*at] != b[*at] && !skip.iter().any(|range| range.contains(at)));
    other.map(|at| format!("byte {at:#x} is {:#04x} and {:#04x}", a[at], b[at]))
}
