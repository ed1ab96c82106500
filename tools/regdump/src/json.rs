//! A dump for programs. The shape is documented in `docs/regdump.md` and does not change but by growing.

use crate::apart::{Part, parts};
use connectx_ddp::inspect::{Dump, Hex, Item};
use hw_regs::decode::Content;
use serde_json::{Map, Value, json};

/// What an object begins with.
pub const FORMAT: &str = "connectx-ddp regdump";
/// What changes when the shape changes otherwise than by growing.
pub const VERSION: u32 = 1;

/// A whole dump. With `raw`, each part has its bytes.
pub fn dump(dump: &Dump, raw: bool) -> Value {
    let sections: Map<String, Value> = dump
        .sections
        .iter()
        .map(|section| {
            let items: Vec<Value> = section.items.iter().map(|item| self::item(item, raw)).collect();
            (section.section.name().to_owned(), json!({ "notes": section.notes, "items": items }))
        })
        .collect();
    json!({
        "format": FORMAT,
        "version": VERSION,
        "taken_by": dump.taken_by,
        "source": dump.source,
        "device": dump.device,
        "vendor_id": format!("{:#06x}", dump.vendor_id),
        "device_id": format!("{:#06x}", dump.device_id),
        "problems": dump.problems,
        "sections": sections,
    })
}

fn item(item: &Item, raw: bool) -> Value {
    let parts: Vec<Value> = parts(item).iter().map(|part| self::part(part, raw)).collect();
    let mut object = json!({ "name": item.name, "layout": item.layout, "parts": parts });
    if !item.facts.is_empty() {
        object["facts"] = json!(item.facts);
    }
    if !item.unread.is_empty() {
        object["unread"] = json!(item.unread);
    }
    if let Some(problem) = &item.problem {
        object["problem"] = problem.clone().into();
    }
    object
}

/// One structure.
pub fn part(part: &Part, raw: bool) -> Value {
    let (mut fields, mut meanings, mut maxima) = (Map::new(), Map::new(), Map::new());
    for field in &part.fields {
        fields.insert(field.name.clone(), content(&field.content));
        if let Some(meaning) = &field.meaning {
            meanings.insert(field.name.clone(), meaning.clone().into());
        }
        if let Some(maximum) = &field.maximum {
            maxima.insert(field.name.clone(), content(maximum));
        }
    }
    let unknown: Vec<String> = part.unnamed.iter().map(ToString::to_string).collect();
    let mut object = json!({ "fields": fields, "meanings": meanings, "maximum": maxima, "unknown": unknown });
    if !part.title.is_empty() {
        object["title"] = part.title.clone().into();
    }
    if part.short {
        object["short"] = true.into();
    }
    // Bytes that nobody has described are all that there is.
    if raw || part.fields.is_empty() {
        object["raw"] = json!(Hex(part.bytes.clone()));
    }
    object
}

/// A number, an array of numbers, or a string of hexadecimal digits.
pub fn content(content: &Content) -> Value {
    match content {
        Content::Number(n) => (*n).into(),
        Content::List(list) => list.clone().into(),
        Content::Bytes(bytes) => json!(Hex(bytes.clone())),
    }
}
