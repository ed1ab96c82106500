//! What changed between two dumps, by the names of fields.

use crate::apart::{Part, parts};
use crate::{json, text};
use connectx_ddp::inspect::{Dump, Item, SectionName};
use hw_regs::decode::Content;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// One thing that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Section.
    pub section: SectionName,
    /// Item of it; empty for the section itself.
    pub item: String,
    /// Which part of the item: of rings the number of the entry; empty if there is one.
    pub part: String,
    /// Name of the field; empty if the whole part is there once only.
    pub field: String,
    /// In the first dump; `None` if it is not there.
    pub before: Option<Side>,
    /// In the second.
    pub after: Option<Side>,
}

/// What one of the dumps has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// For people.
    pub text: String,
    /// For programs.
    pub value: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.section)?;
        for name in [&self.item, &self.part, &self.field].into_iter().filter(|name| !name.is_empty()) {
            write!(f, " / {name}")?;
        }
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, ": {} -> {}", before.text, after.text),
            (Some(_), None) => f.write_str(": only in the first"),
            (None, Some(_)) => f.write_str(": only in the second"),
            (None, None) => Ok(()),
        }
    }
}

impl Difference {
    /// For programs.
    pub fn to_json(&self) -> Value {
        let side = |side: &Option<Side>| side.as_ref().map(|side| side.value.clone());
        json!({
            "section": self.section,
            "item": self.item,
            "part": self.part,
            "field": self.field,
            "before": side(&self.before),
            "after": side(&self.after),
        })
    }
}

type Fields = BTreeMap<String, Side>;

/// Everything that is not the same, in the order of sections and names.
pub fn differences(before: &Dump, after: &Dump) -> Vec<Difference> {
    let mut found = Vec::new();
    for section in SectionName::ALL {
        let (a, b) = (before.section(*section), after.section(*section));
        let (a, b) = match (a, b) {
            (None, None) => continue,
            (Some(a), Some(b)) => (a, b),
            (a, b) => {
                found.push(once(*section, "", "", a.is_some(), b.is_some()));
                continue;
            }
        };
        let (a, b) = (by_name(&a.items), by_name(&b.items));
        for name in keys(&a, &b) {
            match (a.get(name), b.get(name)) {
                (Some(a), Some(b)) => items(*section, a, b, &mut found),
                (a, b) => found.push(once(*section, name, "", a.is_some(), b.is_some())),
            }
        }
    }
    found
}

fn once(section: SectionName, item: &str, part: &str, before: bool, after: bool) -> Difference {
    let side = |there: bool| there.then(|| Side { text: String::new(), value: true.into() });
    Difference {
        section,
        item: item.to_owned(),
        part: part.to_owned(),
        field: String::new(),
        before: side(before),
        after: side(after),
    }
}

fn by_name(items: &[Item]) -> BTreeMap<&str, &Item> {
    items.iter().map(|item| (&item.name[..], item)).collect()
}

/// The keys of both, each once.
fn keys<'a, V>(a: &'a BTreeMap<&str, V>, b: &'a BTreeMap<&str, V>) -> Vec<&'a str> {
    let mut keys: Vec<&str> = a.keys().chain(b.keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn items(section: SectionName, before: &Item, after: &Item, found: &mut Vec<Difference>) {
    let name = &before.name;
    compare(section, name, "", &own_fields(before), &own_fields(after), found);
    let (a, b) = (parts(before), parts(after));
    let (a, b) = (by_key(&a), by_key(&b));
    for key in keys(&a, &b) {
        match (a.get(key), b.get(key)) {
            (Some(a), Some(b)) => compare(section, name, key, &part_fields(a), &part_fields(b), found),
            // Entries of a ring come into view and go out of it.
            (a, b) => found.push(once(section, name, key, a.is_some(), b.is_some())),
        }
    }
}

/// Parts by what stays the same of their titles.
fn by_key(parts: &[Part]) -> BTreeMap<&str, &Part> {
    let key = |part: &'_ Part| part.title.find([',', ':']).unwrap_or(part.title.len());
    parts.iter().map(|part| (&part.title[..key(part)], part)).collect()
}

/// What an item says of itself.
fn own_fields(item: &Item) -> Fields {
    let problem = item.problem.iter().map(|problem| ("not read".to_owned(), problem.clone().into()));
    let facts = item.facts.iter().map(|(name, value)| (name.clone(), Value::from(*value)));
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    problem.chain(facts).map(|(name, value)| (name, Side { text: text(&value), value })).collect()
}

fn part_fields(part: &Part) -> Fields {
    let mut fields = Fields::new();
    for field in &part.fields {
        let side =
            |content: &Content, meaning| Side { text: text::content(content, meaning), value: json::content(content) };
        fields.insert(field.name.clone(), side(&field.content, field.meaning.as_deref()));
        if let Some(maximum) = &field.maximum {
            fields.insert(format!("{}, maximum", field.name), side(maximum, None));
        }
    }
    for bits in &part.unnamed {
        // Several bits have a value.
        let value = bit_range(part, bits.word, bits.high, bits.low);
        fields.insert(format!("unknown {bits}"), Side { text: format!("{value:#x}"), value: value.into() });
    }
    if part.fields.is_empty() && !part.bytes.is_empty() {
        let content = Content::Bytes(part.bytes.clone());
        fields.insert("bytes".into(), Side { text: text::content(&content, None), value: json::content(&content) });
    }
    fields
}

fn bit_range(part: &Part, word: u32, high: u32, low: u32) -> u32 {
    let byte = |n: usize| part.bytes.get(word as usize + n).copied().unwrap_or_default();
    let bytes = [byte(0), byte(1), byte(2), byte(3)];
    let word = if part.little_endian { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) };
    word >> low & u32::MAX >> (31 - (high - low).min(31))
}

fn compare(section: SectionName, item: &str, part: &str, a: &Fields, b: &Fields, found: &mut Vec<Difference>) {
    let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for name in names {
        let (before, after) = (a.get(name), b.get(name));
        if before == after {
            continue;
        }
        found.push(Difference {
            section,
            item: item.to_owned(),
            part: part.to_owned(),
            field: name.clone(),
            before: before.cloned(),
            after: after.cloned(),
        });
    }
}
