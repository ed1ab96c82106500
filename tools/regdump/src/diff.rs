//! What changed between two dumps, by the names of fields.

use crate::apart::{Part, parts};
use crate::entries::UNWRITTEN;
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
    let (mut gone, mut new) = (Vec::new(), Vec::new());
    for key in keys(&a, &b) {
        match (a.get(key), b.get(key)) {
            (Some(a), Some(b)) if a.title.ends_with(UNWRITTEN) || b.title.ends_with(UNWRITTEN) => {
                let side = |part: &Part| Side { text: rest(&part.title).into(), value: rest(&part.title).into() };
                let titles = [a, b].map(|part| [("entry".to_owned(), side(part))].into());
                compare(section, name, key, &titles[0], &titles[1], found);
            }
            (Some(a), Some(b)) => compare(section, name, key, &part_fields(a), &part_fields(b), found),
            (Some(_), None) => gone.push(key),
            _ => new.push(key),
        }
    }
    // Entries of a ring come into view and go out of it; other parts are told one by one.
    let is_ring = before.facts.contains_key("stride");
    for (keys, is_before) in [(gone, true), (new, false)] {
        match is_ring && !keys.is_empty() {
            true => found.push(once(section, name, &range(&keys), is_before, !is_before)),
            false => found.extend(keys.iter().map(|key| once(section, name, key, is_before, !is_before))),
        }
    }
}

/// A title without the number that it begins with.
fn rest(title: &str) -> &str {
    title.find([',', ':']).map_or("", |at| title[at..].trim_start_matches([',', ':', ' ']))
}

/// `entries 7 to 12`.
fn range(keys: &[&str]) -> String {
    let numbers = keys.iter().filter_map(|key| key.parse::<u64>().ok());
    match (numbers.clone().min(), numbers.max()) {
        (Some(first), Some(last)) if first < last => format!("entries {first} to {last}"),
        (Some(first), _) => format!("entry {first}"),
        _ => format!("{} entries", keys.len()),
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
        let side = |content: &Content, meaning| Side {
            text: text::content(content, meaning, &field.name),
            value: json::content(content),
        };
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
        fields.insert("bytes".into(), Side { text: text::content(&content, None, ""), value: json::content(&content) });
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

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | fields that changed are named, unknown bits too, and what is there once; nothing else is | `what_changed_is_named` |
    //! | entries that come into view or go out of it are told together, and one that was written by its kind | `entries_of_rings_are_told_together` |
    use super::*;

    fn dump(items: &str) -> Dump {
        let text = format!(
            r#"{{"format":"connectx-ddp dump","version":1,"taken_by":"a test","source":"idle","device":"x","vendor_id":1,
                "device_id":2,"sections":[{{"section":"ports","items":[{items}]}}]}}"#
        );
        Dump::from_json(text.as_bytes()).expect("a dump")
    }

    fn told(before: &str, after: &str) -> Vec<String> {
        differences(&dump(before), &dump(after)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_changed_is_named() {
        let paos = |bytes: &str| format!(r#"{{"name":"PAOS","layout":"paos_reg","bytes":"{bytes}"}}"#);
        let up = paos("00010101000000000000000000000000");
        assert_eq!(told(&up, &up), [""; 0]);
        assert_eq!(
            told(&up, &paos("00010102000000000000000000000000")),
            ["ports / PAOS / oper_status: 1  UP -> 2  DOWN"]
        );
        assert_eq!(
            told(&up, &paos("00010101000000000000000000000300")),
            ["ports / PAOS / unknown @0xc.9:8: only in the second"]
        );
        let more = format!(r#"{up},{{"name":"PTYS","problem":"refused"}}"#);
        assert_eq!(told(&up, &more), ["ports / PTYS: only in the second"]);
        let refused = r#"{"name":"PAOS","problem":"refused"}"#;
        assert!(told(&up, refused).contains(&"ports / PAOS / not read: only in the second".to_owned()));
    }

    #[test]
    fn entries_of_rings_are_told_together() {
        let ring = |first: u32, last: &str| {
            let entry = format!("{}20", "00".repeat(63));
            format!(
                r#"{{"name":"CQ 0x1","layout":"hw_cqe64","bytes":"{entry}{entry}{}{last}",
                    "facts":{{"stride":64,"first":{first},"entries":16,"consumer":3}}}}"#,
                "00".repeat(63)
            )
        };
        assert_eq!(
            told(&ring(1, "f1"), &ring(3, "20")),
            [
                "ports / CQ 0x1 / first: 1 -> 3",
                "ports / CQ 0x1 / 3 / entry: not written in this lap -> next: RESP_SEND",
                "ports / CQ 0x1 / entries 1 to 2: only in the first",
                "ports / CQ 0x1 / entries 4 to 5: only in the second",
            ]
        );
    }
}
