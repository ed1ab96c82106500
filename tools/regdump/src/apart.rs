//! Items taken apart: what text, JSON and differences are made of.

use crate::{entries, meaning, pci};
use connectx_ddp::inspect::Item;
use firmware_iface::command::flow::QueryFteOut;
use hw_regs::decode::{Content, Decoded, Unnamed, Value, decode};
use hw_regs::layout::{Layout, LayoutInfo};
use std::net::Ipv4Addr;

/// A field and what is known of its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name; fields that are the same bits are joined by `|`.
    pub name: String,
    /// First bit, counted from the most significant bit of byte 0 of the part.
    pub offset: u32,
    /// Bits; of one element of a list.
    pub width: u32,
    /// The value.
    pub content: Content,
    /// What the value means.
    pub meaning: Option<String>,
    /// What it could be at most, if that is something else; of capabilities.
    pub maximum: Option<Content>,
}

/// A structure, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Which of several; empty if there is one.
    pub title: String,
    /// Its table; empty for bytes that nobody has described.
    pub layout: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its fields.
    pub fields: Vec<Field>,
    /// Set bits that no field names.
    pub unnamed: Vec<Unnamed>,
    /// It ends before its table does.
    pub short: bool,
    /// Bits are numbered inside of 32-bit words that begin with their least significant byte; of PCI.
    pub little_endian: bool,
}

/// Takes an item apart.
pub fn parts(item: &Item) -> Vec<Part> {
    let bytes = &item.bytes.0;
    match (&item.layout[..], item.facts.get("stride")) {
        ("", _) if bytes.is_empty() => Vec::new(),
        ("pci", _) => pci::parts(bytes),
        ("wqe", _) => entries::send_queue(item),
        (QueryFteOut::NAME, _) => vec![entries::flow_table_entry(bytes)],
        (layout, Some(stride)) => entries::ring(item, layout, *stride),
        (layout, None) => {
            let mut part = part(layout, bytes);
            part.fields.retain(|field| !is_unread(item, &field.name));
            // The list behind a receive queue table is one of two kinds.
            let both =
                part.fields.iter().any(|field| field.name.ends_with(".rq_vhca_id_format") && field.content.is_zero());
            part.fields.retain(|field| !both || !field.name.ends_with(".rq_vhca"));
            if let Some(maximum) = &item.maximum {
                add_maximum(&mut part, layout, &maximum.0);
            }
            vec![part]
        }
    }
}

/// True if a field, or what it is a part of, was not read.
fn is_unread(item: &Item, name: &str) -> bool {
    item.unread
        .iter()
        .any(|unread| name.strip_prefix(&unread[..]).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// Bytes by a table; without one they are bytes.
pub fn part(layout: &str, bytes: &[u8]) -> Part {
    let Some(info) = meaning::layout(layout) else {
        return Part { layout: layout.to_owned(), bytes: bytes.to_vec(), ..Part::default() };
    };
    part_of(info, bytes)
}

/// Bytes by a table.
pub fn part_of(info: &LayoutInfo, bytes: &[u8]) -> Part {
    let Decoded { values, unnamed, short } = decode(info, bytes, &meaning::layout);
    Part {
        layout: info.name.to_owned(),
        bytes: bytes.to_vec(),
        fields: fields(values),
        unnamed,
        short,
        ..Part::default()
    }
}

/// Adds what differs in the maximum, as far as the two have the same fields.
fn add_maximum(part: &mut Part, layout: &str, maximum: &[u8]) {
    let other = self::part(layout, maximum);
    for (field, other) in part.fields.iter_mut().zip(other.fields) {
        if field.name == other.name && field.content != other.content {
            field.maximum = Some(other.content);
        }
    }
}

/// Halves of a number, by the ends of their names.
const HALVES: [(&str, &str); 3] = [("_high", "_low"), ("_h", "_l"), ("_47_32", "_31_0")];

/// Values as fields: halves are put together, fields that are the same bits are one.
pub fn fields(values: Vec<Value>) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::with_capacity(values.len());
    for value in values {
        if let Some(last) = fields.last_mut()
            && join_halves(last, &value)
        {
            continue;
        }
        let meaning = meaning_of(&value);
        let Value { name, offset, width, content, .. } = value;
        match fields.iter_mut().rev().take(32).find(|f| (f.offset, f.width) == (offset, width) && f.content == content)
        {
            Some(same) => {
                same.name = format!("{}|{name}", same.name);
                same.meaning = same.meaning.take().or(meaning);
            }
            None => fields.push(Field { name, offset, width, content, meaning, maximum: None }),
        }
    }
    fields
}

/// Makes a number of its upper half, which is there, and its lower half.
fn join_halves(upper: &mut Field, lower: &Value) -> bool {
    let (Content::Number(high), Content::Number(low)) = (&upper.content, &lower.content) else { return false };
    if lower.width != 32 || lower.offset != upper.offset + upper.width {
        return false;
    }
    let base = HALVES.iter().find_map(|(first, second)| {
        let base = upper.name.strip_suffix(first)?;
        (lower.name.strip_suffix(second)? == base).then(|| base.to_owned())
    });
    let Some(base) = base else { return false };
    let number = high << 32 | low;
    if upper.width == 16 {
        let [_, _, bytes @ ..] = number.to_be_bytes();
        upper.meaning = Some(bytes.map(|byte| format!("{byte:02x}")).join(":"));
    }
    (upper.name, upper.width, upper.content) = (base, upper.width + 32, Content::Number(number));
    true
}

fn meaning_of(value: &Value) -> Option<String> {
    match &value.content {
        Content::Number(number) => meaning::of(value.layout, value.field, *number),
        Content::Bytes(bytes) if value.field.contains("ipv4") => match bytes[..] {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] if [a, b, c, d] != [0; 4] => {
                Some(Ipv4Addr::new(a, b, c, d).to_string())
            }
            _ => None,
        },
        Content::Bytes(bytes) => printable(bytes),
        Content::List(_) => None,
    }
}

/// Text that fills its field up to zeros.
fn printable(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at(end);
    let is_text = text.len() >= 3 && text.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    (is_text && rest.iter().all(|byte| *byte == 0)).then(|| format!("{:?}", String::from_utf8_lossy(text)))
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | halves become one number, the same bits one field, and numbers get their meaning | `numbers_are_put_together` |
    //! | a maximum is shown where it differs; what was not read is not shown | `maxima_and_gaps_are_seen` |
    //! | bytes without a table stay bytes; any bytes by any table are no trouble | `anything_can_be_taken_apart` |
    use super::*;
    use connectx_ddp::inspect::Hex;

    fn field<'a>(part: &'a Part, name: &str) -> &'a Field {
        part.fields.iter().find(|field| field.name == name).unwrap_or_else(|| panic!("no {name} in {:?}", part.fields))
    }

    #[test]
    fn numbers_are_put_together() {
        let mut bytes = vec![0; 248];
        bytes[3] = 1;
        bytes[7] = 2;
        let counters = part("eth_802_3_cntrs_grp_data_layout", &bytes);
        let frames = field(&counters, "a_frames_transmitted_ok");
        assert_eq!((&frames.content, frames.width), (&Content::Number(1 << 32 | 2), 64));
        let mac = part("mac_address_layout", &[0, 0, 2, 0x15, 0xb3, 0, 0, 0xff]);
        assert_eq!(field(&mac, "mac_addr").meaning.as_deref(), Some("02:15:b3:00:00:ff"));
        let cqe = part("hw_cqe64", &[0x20; 64]);
        assert_eq!(field(&cqe, "op_own.opcode").meaning.as_deref(), Some("RESP_SEND"));
        assert!(cqe.fields.iter().any(|field| field.name == "lro_ack_seq_num|shampo_data_offset"), "{:?}", cqe.fields);
        let mut psid = vec![0; 256];
        psid[240..250].copy_from_slice(b"MT_0000001");
        let psid = part("query_adapter_param_block", &psid);
        assert_eq!(field(&psid, "vsd_contd_psid").meaning.as_deref(), Some("\"MT_0000001\""));
    }

    #[test]
    fn maxima_and_gaps_are_seen() {
        let mut item = Item { layout: "nvmeotcp_cap".into(), ..Item::default() };
        item.bytes = Hex([&[0x80, 0, 0, 1][..], &[0; 28]].concat());
        item.maximum = Some(Hex([&[0x80, 0, 0, 3][..], &[0; 28]].concat()));
        let parts = parts(&item);
        assert_eq!(field(&parts[0], "version").maximum, Some(Content::Number(3)));
        assert_eq!(field(&parts[0], "zerocopy").maximum, None);
        let item = Item { unread: vec!["zerocopy".into()], ..item };
        assert!(super::parts(&item)[0].fields.iter().all(|field| field.name != "zerocopy"));
    }

    #[test]
    fn anything_can_be_taken_apart() {
        let bytes = part("nobody knows", &[1, 2, 3]);
        assert!(bytes.fields.is_empty() && bytes.bytes == [1, 2, 3]);
        for info in meaning::layouts() {
            for len in [0, 1, 17, info.size, info.size + 3] {
                for byte in [0, 0xff, 0x5a] {
                    part_of(info, &vec![byte; len]);
                }
            }
        }
        for layout in ["pci", "wqe", "hw_eqe", "hw_cqe64", "x", ""] {
            for stride in [None, Some(0), Some(1), Some(16), Some(64), Some(u64::MAX)] {
                for byte in [0, 0xff, 0x25] {
                    let mut item = Item { layout: layout.into(), bytes: Hex(vec![byte; 1000]), ..Item::default() };
                    item.facts.extend(stride.map(|stride| ("stride".to_owned(), stride)));
                    item.facts.insert("first".into(), u64::MAX);
                    item.facts.insert("entries".into(), 0);
                    parts(&item);
                }
            }
        }
    }
}
