//! Structures as names and numbers: the value of every field of a layout, and every bit that no field names.
//!
//! It goes by the tables ([`Layout::FIELDS`](crate::layout::Layout::FIELDS)) and nothing else, so it shows whatever has
//! one. A field that only groups others of its structure ("fw_rev" of "fw_rev.minor") is not shown itself; bits of it that
//! none of them names count as unnamed.

use crate::layout::{FieldInfo, LayoutInfo};
use std::fmt;

/// Structures inside of structures at most; the tables have three.
const MAX_DEPTH: u32 = 8;

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A number of up to 64 bits.
    Number(u64),
    /// The elements of an array, or of the tail that follows a structure.
    List(Vec<u64>),
    /// Bytes without a table of their own.
    Bytes(Vec<u8>),
}

impl Content {
    /// True if every bit is 0.
    pub fn is_zero(&self) -> bool {
        match self {
            Content::Number(n) => *n == 0,
            Content::List(list) => list.iter().all(|n| *n == 0),
            Content::Bytes(bytes) => bytes.iter().all(|byte| *byte == 0),
        }
    }
}

/// One field and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Name from the outermost structure on: `health.synd`, `rq_num[3].rq_num`.
    pub name: String,
    /// The structure that the field is in, and its name there.
    pub layout: &'static str,
    /// See `layout`.
    pub field: &'static str,
    /// Bits from the most significant bit of byte 0 of the outermost structure.
    pub offset: u32,
    /// Bits of the field; of one element of a list.
    pub width: u32,
    /// The value.
    pub content: Content,
}

/// Set bits that no field names, next to each other in one 32-bit word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unnamed {
    /// Byte offset of the word.
    pub word: u32,
    /// First bit, as the manual counts inside of a word: 31 is the most significant.
    pub high: u32,
    /// Last bit.
    pub low: u32,
}

impl fmt::Display for Unnamed {
    /// `@0x1c.5`, or `@0x1c.7:5` for several.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{:#x}.{}", self.word, self.high)?;
        if self.low == self.high { Ok(()) } else { write!(f, ":{}", self.low) }
    }
}

/// A structure, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The fields that the bytes hold in full, in the order of their tables.
    pub values: Vec<Value>,
    /// Set bits that no field names.
    pub unnamed: Vec<Unnamed>,
    /// The bytes end before the structure does.
    pub short: bool,
}

/// Takes a structure apart. `layouts` finds the table of a nested structure by its name.
pub fn decode(info: &LayoutInfo, bytes: &[u8], layouts: &dyn Fn(&str) -> Option<&'static LayoutInfo>) -> Decoded {
    let mut work = Work { bytes, layouts, named: vec![0; bytes.len()], values: Vec::new() };
    work.structure(info, "", 0, 0);
    let Work { named, values, .. } = work;
    let rest: Vec<u8> = bytes.iter().zip(named).map(|(byte, named)| byte & !named).collect();
    Decoded { values, unnamed: runs(&rest), short: bytes.len() < info.size }
}

/// Set bits that no field names, as [`decode`] finds them.
pub fn unnamed(info: &LayoutInfo, bytes: &[u8], layouts: &dyn Fn(&str) -> Option<&'static LayoutInfo>) -> Vec<Unnamed> {
    decode(info, bytes, layouts).unnamed
}

/// The set bits of `rest`, each run of neighbours in a word once.
fn runs(rest: &[u8]) -> Vec<Unnamed> {
    let mut runs: Vec<Unnamed> = Vec::new();
    for (byte, bits) in rest.iter().enumerate().filter(|(_, bits)| **bits != 0) {
        for bit in (0..8).filter(|bit| bits & 0x80 >> bit != 0) {
            let word = byte as u32 / 4 * 4;
            let at = 31 - (byte as u32 % 4 * 8 + bit);
            match runs.last_mut() {
                Some(run) if run.word == word && run.low == at + 1 => run.low = at,
                _ => runs.push(Unnamed { word, high: at, low: at }),
            }
        }
    }
    runs
}

struct Work<'a> {
    bytes: &'a [u8],
    layouts: &'a dyn Fn(&str) -> Option<&'static LayoutInfo>,
    /// Bits that some field names.
    named: Vec<u8>,
    values: Vec<Value>,
}

impl Work<'_> {
    fn bits(&self) -> u64 {
        self.bytes.len() as u64 * 8
    }

    /// `width` bits from `at` on, at most 64; the caller has checked that they are there.
    fn number(&self, at: u64, width: u32) -> u64 {
        (at..at + u64::from(width)).fold(0, |sum, bit| {
            let set = self.bytes[(bit / 8) as usize] & 0x80 >> (bit % 8) != 0;
            sum << 1 | u64::from(set)
        })
    }

    fn name(&mut self, at: u64, width: u64) {
        let end = (at + width).min(self.bits());
        let mut bit = at;
        while bit < end {
            if bit.is_multiple_of(8) && end - bit >= 8 {
                self.named[(bit / 8) as usize] = 0xff;
                bit += 8;
            } else {
                self.named[(bit / 8) as usize] |= 0x80 >> (bit % 8);
                bit += 1;
            }
        }
    }

    fn structure(&mut self, info: &LayoutInfo, prefix: &str, base: u64, depth: u32) {
        for field in info.fields {
            if groups(info, field) {
                continue;
            }
            let name = match prefix {
                "" => field.name.to_owned(),
                prefix => format!("{prefix}.{}", field.name),
            };
            let inner = (self.layouts)(field.nested).filter(|_| !field.nested.is_empty() && depth < MAX_DEPTH);
            let at = base + u64::from(field.offset);
            match inner {
                Some(inner) if field.count == 1 => {
                    if at < self.bits() {
                        self.structure(inner, &name, at, depth + 1);
                    }
                }
                // They lie side by side; a tail takes what there is.
                Some(inner) => {
                    let width = u64::from(field.width.max(8));
                    let count = if field.count == 0 { u64::MAX } else { u64::from(field.count) };
                    for index in 0..count.min(self.bits().saturating_sub(at).div_ceil(width)) {
                        self.structure(inner, &format!("{name}[{index}]"), at + index * width, depth + 1);
                    }
                }
                None => self.leaf(info, field, name, at),
            }
        }
    }

    fn leaf(&mut self, info: &LayoutInfo, field: &FieldInfo, name: String, at: u64) {
        let left = self.bits().saturating_sub(at);
        let width = u64::from(field.width.max(1));
        // A tail takes what there is.
        let count = if field.count == 0 { left.div_ceil(width) } else { u64::from(field.count) };
        // Part of a field says nothing, but its bits have a name.
        self.name(at, count * width);
        let count = if field.count == 0 { left / width } else { count };
        if count * width > left || count == 0 {
            return;
        }
        let bytes = |from: u64, bits: u64| self.bytes[(from / 8) as usize..((from + bits) / 8) as usize].to_vec();
        let content = match (count, field.width) {
            (1, 0..=64) if field.count == 1 => Content::Number(self.number(at, field.width)),
            (_, 9..=64) | (0..=16, 1..=7) => {
                Content::List((0..count).map(|n| self.number(at + n * width, field.width)).collect())
            }
            _ => Content::Bytes(bytes(at, count * width)),
        };
        self.values.push(Value {
            name,
            layout: info.name,
            field: field.name,
            offset: at as u32,
            width: field.width,
            content,
        });
    }
}

/// True if other fields of the structure are parts of this one: it only groups them.
fn groups(info: &LayoutInfo, field: &FieldInfo) -> bool {
    info.fields.iter().any(|other| other.name.strip_prefix(field.name).is_some_and(|rest| rest.starts_with('.')))
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | every field has its name and value, those of nested structures, arrays and tails too | `fields_are_named` |
    //! | set bits that no field names are found, and those that only a grouping field has | `unnamed_bits_are_found` |
    //! | bytes that end early give the fields that are whole, and say so | `short_bytes_are_no_error` |
    //! | every table of the crate decodes noise of any length, and loses no bit of it | `no_bit_is_lost` |
    #![allow(dead_code, reason = "the fields are read by name")]
    use super::*;
    use crate::layout::Layout;

    crate::layout! {
        /// An inner structure.
        pub struct Inner("inner", 4) {
            "low" LOW: bits(24, 8);
        }
        /// An outer one.
        pub struct Outer("outer", 24) {
            "word" WORD: bits(0, 32);
            "word.flag" WORD_FLAG: bits(3, 1);
            "wide" WIDE: wide(32, 48);
            "list" LIST: array(96, 16, 2);
            "inner" INNER: nested(128, 32, 2, Inner, "inner");
            "tail" TAIL: tail(192, 64, "");
        }
    }

    fn find(name: &str) -> Option<&'static LayoutInfo> {
        (name == "inner").then_some(&<Inner as Layout>::INFO)
    }

    fn of(bytes: &[u8]) -> Decoded {
        decode(&Outer::INFO, bytes, &find)
    }

    #[test]
    fn fields_are_named() {
        let mut bytes = vec![0; 40];
        bytes[0] = 0x10;
        bytes[4..10].copy_from_slice(&[1, 2, 3, 4, 5, 6]);
        bytes[13] = 7;
        bytes[23] = 9;
        bytes[31] = 1;
        bytes[39] = 2;
        let decoded = of(&bytes);
        let text = |value: &Value| format!("{} {:?}", value.name, value.content);
        assert_eq!(
            decoded.values.iter().map(text).collect::<Vec<_>>(),
            [
                "word.flag Number(1)",
                "wide Number(1108152157446)",
                "list List([7, 0])",
                "inner[0].low Number(0)",
                "inner[1].low Number(9)",
                "tail List([1, 2])",
            ]
        );
        assert!(decoded.unnamed.is_empty() && !decoded.short, "{decoded:?}");
        assert_eq!(
            (decoded.values[4].layout, decoded.values[4].field, decoded.values[4].offset),
            ("inner", "low", 184)
        );
    }

    #[test]
    fn unnamed_bits_are_found() {
        let mut bytes = [0; 24];
        bytes[0] = 0x18;
        bytes[3] = 1;
        bytes[10] = 0xff;
        bytes[17] = 0x3c;
        let found: Vec<String> = of(&bytes).unnamed.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["@0x0.27", "@0x0.0", "@0x8.15:8", "@0x10.21:18"]);
    }

    #[test]
    fn short_bytes_are_no_error() {
        let decoded = of(&[0xff; 11]);
        assert!(decoded.short);
        assert_eq!(decoded.values.iter().map(|v| &v.name[..]).collect::<Vec<_>>(), ["word.flag", "wide"]);
        assert!(of(&[]).values.is_empty());
    }

    #[test]
    fn no_bit_is_lost() {
        let find = |name: &str| crate::layouts().find(|info| info.name == name);
        for info in crate::layouts() {
            for len in [0, 1, 3, info.size / 2, info.size.saturating_sub(1), info.size, info.size + 5] {
                let decoded = decode(info, &vec![0xff; len], &find);
                assert_eq!(decoded.short, len < info.size, "{}", info.name);
                let mut seen = vec![0u8; len];
                let mut see = |at: u64, bits: u64| {
                    (at..at + bits).for_each(|bit| seen[(bit / 8) as usize] |= 0x80 >> (bit % 8));
                };
                for value in &decoded.values {
                    let bits = match &value.content {
                        Content::Number(n) => {
                            assert_eq!(*n, u64::MAX >> (64 - value.width), "{} {}", info.name, value.name);
                            u64::from(value.width)
                        }
                        Content::List(list) => list.len() as u64 * u64::from(value.width),
                        Content::Bytes(bytes) => bytes.len() as u64 * 8,
                    };
                    see(value.offset.into(), bits);
                }
                for Unnamed { word, high, low } in decoded.unnamed {
                    see(u64::from(word) * 8 + u64::from(31 - high), u64::from(high - low + 1));
                }
                if len >= info.size {
                    assert!(seen.iter().all(|byte| *byte == 0xff), "{} {len}", info.name);
                }
            }
        }
    }
}
