//! A dump for people, 100 columns wide.
//!
//! What is 0 is left out and counted, flags that are set are listed together, entries of rings and objects take a few lines
//! each. `zeros` shows all of it; `raw` shows where each field is and the word that it is in.

use crate::apart::{Field, Part, parts};
use crate::entries::UNWRITTEN;
use connectx_ddp::inspect::{Dump, Item, SectionDump, SectionName, Source};
use hw_regs::decode::Content;
use hw_regs::init_segment::InitSegment;
use hw_regs::layout::{Access, Layout};
use std::fmt::Write;

/// Columns of a line.
const WIDTH: usize = 100;
/// Columns of a name at most; longer ones push their value to the right.
const NAME: usize = 56;
/// Flags are listed together from so many on.
const FEW_FLAGS: usize = 4;
/// Bytes of a dump in a line.
const BYTES: usize = 32;

// The comments are the help of the options.
/// How much is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Style {
    /// Show where each field is and the word that it is in.
    #[arg(long)]
    pub raw: bool,
    /// Show fields that are 0 as well. JSON always has all.
    #[arg(long)]
    pub zeros: bool,
}

/// A whole dump.
pub fn dump(dump: &Dump, style: Style) -> String {
    let mut out = String::new();
    let how = match dump.source {
        Source::Idle => "nobody drives it: brought up to be asked, and taken down again",
        Source::Running => "told by the driver that runs on it",
    };
    let _ = writeln!(out, "{} [{:04x}:{:04x}]", dump.device, dump.vendor_id, dump.device_id);
    let _ = writeln!(out, "{how}; dump by {}", dump.taken_by);
    for problem in &dump.problems {
        wrapped(&mut out, "PROBLEM  ", "         ", problem.split(' '));
    }
    for section in &dump.sections {
        self::section(&mut out, section, style);
    }
    out
}

fn section(out: &mut String, section: &SectionDump, style: Style) {
    let _ = writeln!(out, "\n{}  {}", section.section.name().to_uppercase(), section.section.about());
    for note in &section.notes {
        wrapped(out, "  note: ", "        ", note.split(' '));
    }
    for item in &section.items {
        self::item(out, section.section, item, style);
    }
    if section.items.is_empty() && section.notes.is_empty() {
        out.push_str("  nothing was read\n");
    }
}

/// True where there are many alike: fields stand side by side.
fn is_compact(section: SectionName) -> bool {
    matches!(section, SectionName::Objects | SectionName::Rings | SectionName::Doorbells)
}

fn item(out: &mut String, section: SectionName, item: &Item, style: Style) {
    let mut head = item.name.clone();
    if !item.layout.is_empty() && !matches!(&item.layout[..], "pci" | "wqe") {
        let _ = write!(head, " ({})", item.layout);
    }
    // What they are said of is in the name of an object.
    let facts = item.facts.iter().filter(|(name, _)| !matches!(&name[..], "stride" | "first" | "number"));
    let facts: Vec<_> = facts.map(|(name, value)| format!("{name} {value}")).collect();
    if !facts.is_empty() {
        let _ = write!(head, ": {}", facts.join(", "));
    }
    let _ = writeln!(out, "  {head}");
    if let Some(problem) = &item.problem {
        wrapped(out, "    not read: ", "      ", problem.split(' '));
    }
    if item.layout == "hw_health_buffer"
        && let [.., _, synd, _, _] = item.bytes.0[..]
        && synd == 0
    {
        out.push_str("    no syndrome: firmware says that it is well\n");
    }
    if item.layout == InitSegment::NAME {
        let segment = InitSegment::from_prefix(&item.bytes.0);
        let [major, minor, sub] =
            [InitSegment::FW_REV_MAJOR, InitSegment::FW_REV_MINOR, InitSegment::CMDIF_REV_FW_SUB_FW_REV_SUBMINOR]
                .map(|field| segment.get(field));
        let _ = writeln!(out, "    firmware {major}.{minor}.{sub:04}");
    }
    let parts = parts(item);
    let mut at = 0;
    while at < parts.len() {
        let same = if style.zeros { 1 } else { run_of_unwritten(&parts[at..]) };
        if same > 1 {
            let (first, last) = (index(&parts[at].title), index(&parts[at + same - 1].title));
            let why =
                parts[at].title.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches([',', ':', ' ']);
            let _ = writeln!(out, "    {first} to {last}: {why}");
            at += same;
            continue;
        }
        match is_compact(section) {
            true => compact(out, &parts[at], style),
            false => part(out, &parts[at], style),
        }
        at += 1;
    }
    if !item.unread.is_empty() && section != SectionName::Health {
        wrapped(out, "    not read: ", "      ", item.unread.iter().map(String::as_str));
    }
}

/// The name of the structure that a field is in.
fn inside(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(place, _)| place)
}

fn index(title: &str) -> &str {
    title.split([',', ':']).next().unwrap_or_default()
}

/// How many parts from here on are entries that hold nothing.
fn run_of_unwritten(parts: &[Part]) -> usize {
    let kind = |part: &Part| {
        let zero = part.bytes.iter().all(|byte| *byte == 0);
        if part.title.ends_with(UNWRITTEN) {
            1
        } else if part.title.ends_with("never written") && zero {
            2
        } else {
            0
        }
    };
    let first = parts.first().map_or(0, kind);
    if first == 0 { 1 } else { parts.iter().take_while(|part| kind(part) == first).count() }
}

/// One structure, a field a line.
pub fn part(out: &mut String, part: &Part, style: Style) {
    if !part.title.is_empty() {
        let _ = writeln!(out, "   {}", part.title);
    }
    let shown: Vec<&Field> = part.fields.iter().filter(|field| style.zeros || is_of_interest(field)).collect();
    let is_flag = |field: &&&Field| {
        !style.raw && field.width == 1 && field.content == Content::Number(1) && field.maximum.is_none()
    };
    let flags: Vec<_> = shown.iter().filter(is_flag).map(|field| &field.name[..]).collect();
    let together = flags.len() >= FEW_FLAGS;
    if together {
        // Those of one structure in it stand together.
        for group in flags.chunk_by(|a, b| inside(a) == inside(b)) {
            let (place, skip) = match inside(group[0]) {
                "" => (String::new(), 0),
                place => (format!(" in {place}"), place.len() + 1),
            };
            wrapped(out, &format!("    set{place}: "), "         ", group.iter().map(|name| &name[skip..]));
        }
    }
    let rest: Vec<_> = shown.iter().filter(|field| !together || !is_flag(field)).collect();
    let width = rest.iter().map(|field| field.name.len()).max().unwrap_or_default().min(NAME);
    for field in rest {
        let place = if style.raw { raw(part, field) } else { String::new() };
        let head = format!("    {place}{:width$}  ", field.name);
        let maximum = field.maximum.as_ref().map(|maximum| format!("(maximum {})", content(maximum, None, "").trim()));
        let text = content(&field.content, field.meaning.as_deref(), &field.name);
        wrapped(out, &head, "            ", text.split(' ').chain(maximum.iter().flat_map(|text| text.split(' '))));
    }
    rest_of(out, part, style);
    match part.fields.len() - shown.len() {
        0 => {}
        hidden if hidden == part.fields.len() => _ = writeln!(out, "    all {hidden} are 0"),
        1 => out.push_str("    1 more is 0\n"),
        hidden => _ = writeln!(out, "    {hidden} more are 0"),
    }
}

/// One structure in a few lines.
fn compact(out: &mut String, part: &Part, style: Style) {
    let prefix = common_prefix(part);
    let shown = part.fields.iter().filter(|field| style.zeros || is_of_interest(field));
    let words: Vec<String> = shown
        .map(|field| {
            let place = if style.raw { raw(part, field) } else { String::new() };
            let text = match (&field.content, &field.meaning) {
                (Content::Number(_), Some(meaning)) => meaning.clone(),
                (Content::Number(n), None) if is_quantity(&field.name) => n.to_string(),
                (content, meaning) => self::content(content, meaning.as_deref(), "").replace("  ", "/"),
            };
            let name = prefix.as_ref().and_then(|prefix| field.name.strip_prefix(&prefix[..])).unwrap_or(&field.name);
            format!("{place}{name}={text}")
        })
        .collect();
    let head = match &part.title[..] {
        "" => "    ".to_owned(),
        title => format!("    {title}  "),
    };
    if words.is_empty() {
        let what = if part.fields.is_empty() { "" } else { "all 0" };
        let _ = writeln!(out, "{}", format!("{head}{what}").trim_end());
    } else if style.raw {
        let _ = writeln!(out, "{}", head.trim_end());
        words.iter().for_each(|word| _ = writeln!(out, "      {word}"));
    } else {
        wrapped(out, &head, "      ", words.iter().map(String::as_str));
    }
    rest_of(out, part, style);
}

/// What no field shows: bits without a name, bytes without a table, an end that came early.
fn rest_of(out: &mut String, part: &Part, style: Style) {
    let undescribed = part.fields.is_empty() && part.bytes.iter().any(|byte| *byte != 0);
    if undescribed || style.raw {
        hex(out, &part.bytes);
    }
    if !part.unnamed.is_empty() && !undescribed {
        let places: Vec<String> = part.unnamed.iter().map(ToString::to_string).collect();
        wrapped(out, "    unknown ", "            ", places.iter().map(String::as_str));
    }
    if part.short {
        let _ = writeln!(out, "    only {} bytes are here: the structure has more", part.bytes.len());
    }
}

fn is_of_interest(field: &Field) -> bool {
    !field.content.is_zero() || field.maximum.is_some()
}

/// The dotted prefix of the context in an answer, if names are told apart without it.
fn common_prefix(part: &Part) -> Option<String> {
    let (prefix, _) = part.fields.iter().find_map(|field| field.name.split_once('.'))?;
    let prefix = format!("{prefix}.");
    let bare = part.fields.iter().filter(|field| is_of_interest(field) && !field.name.starts_with(&prefix));
    let bare: Vec<&str> = bare.map(|field| &field.name[..]).collect();
    let clash = |field: &Field| field.name.strip_prefix(&prefix[..]).is_some_and(|name| bare.contains(&name));
    (part.layout.starts_with("query_") && !part.fields.iter().any(clash)).then_some(prefix)
}

/// Where a field is, and the word: `@0x1c.31:24 00000540 `.
fn raw(part: &Part, field: &Field) -> String {
    let word = field.offset as usize / 32 * 4;
    let bytes: Vec<u8> = (0..4).map(|n| part.bytes.get(word + n).copied().unwrap_or_default()).collect();
    let value = match part.little_endian {
        true => u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        false => u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
    };
    let first = field.offset % 32;
    let (high, low) = match part.little_endian {
        true => ((first + field.width - 1).min(31), first),
        false => (31 - first, 32u32.saturating_sub(first + field.width)),
    };
    let bits = if high == low { format!("{high}") } else { format!("{high}:{low}") };
    format!("{:<13} {value:08x}  ", format!("@{word:#x}.{bits}"))
}

/// True for what people count; numbers of things, keys, addresses and masks are read in hexadecimal.
fn is_quantity(name: &str) -> bool {
    const WORDS: [&str; 26] = [
        "log",
        "size",
        "sz",
        "count",
        "counter",
        "max",
        "min",
        "mtu",
        "len",
        "length",
        "hlen",
        "cclen",
        "level",
        "index",
        "entries",
        "octets",
        "frames",
        "pkts",
        "errors",
        "bytes",
        "width",
        "ci",
        "time",
        "timestamp",
        "cnt",
        "vfs",
    ];
    let last = name.rsplit('.').next().unwrap_or(name);
    last.starts_with("num_") || last.split(['_', '|']).any(|word| WORDS.contains(&word))
}

/// A value: hexadecimal, decimal where that says more, and its meaning.
pub fn content(content: &Content, meaning: Option<&str>, name: &str) -> String {
    let text = match content {
        Content::Number(n @ 0..=9) => format!("{n}"),
        Content::Number(n) => format!("{n:#x}"),
        Content::List(list) => list_text(list),
        Content::Bytes(bytes) => bytes_text(bytes),
    };
    match (meaning, content) {
        (Some(meaning), _) => format!("{text}  {meaning}"),
        (None, Content::Number(n @ 10..)) if is_quantity(name) => format!("{text}  {n}"),
        (None, _) => text,
    }
}

/// A list without the zeros at its end.
fn list_text(list: &[u64]) -> String {
    let used = list.iter().rposition(|n| *n != 0).map_or(0, |last| last + 1);
    let shown: Vec<_> = list[..used].iter().map(|n| format!("{n:#x}")).collect();
    match list.len() - used {
        0 => format!("[{}]", shown.join(", ")),
        zeros => format!("[{}{}{zeros} zeros]", shown.join(", "), if shown.is_empty() { "" } else { ", " }),
    }
}

/// Bytes without the zeros at their end.
fn bytes_text(bytes: &[u8]) -> String {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let hex: Vec<String> =
        bytes[..used].chunks(BYTES).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    match bytes.len() - used {
        0 => hex.join(" "),
        _ if bytes.len() <= 8 => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        zeros => format!("{} {zeros} zeros", hex.join(" ")).trim_start().to_owned(),
    }
}

/// Bytes as they are; lines of zeros are left out.
pub fn hex(out: &mut String, bytes: &[u8]) {
    for (n, line) in bytes.chunks(BYTES).enumerate().filter(|(_, line)| line.iter().any(|byte| *byte != 0)) {
        let words: Vec<String> =
            line.chunks(4).map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
        let _ = writeln!(out, "    {:04x}: {}", n * BYTES, words.join(" "));
    }
}

/// Words on lines of at most 100 columns, as long as no word is longer; `head` in front of the first line, `indent` in front of
/// the others.
fn wrapped<'a>(out: &mut String, head: &str, indent: &str, words: impl Iterator<Item = &'a str>) {
    let mut line = head.to_owned();
    let mut empty = true;
    for word in words {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{}", line.trim_end());
            line = indent.to_owned();
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(out, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | fields have their names and meaning, flags are listed, zeros counted, unknown bits shown | `a_structure_reads_well` |
    //! | raw text says where a field is and shows its word | `raw_text_shows_words` |
    //! | no line is longer than 100 columns but for a word that is | `lines_are_short` |
    use super::*;
    use connectx_ddp::inspect::Hex;

    fn show(layout: &str, bytes: Vec<u8>, style: Style) -> String {
        let item = Item { name: "it".into(), layout: layout.into(), bytes: Hex(bytes), ..Item::default() };
        let mut out = String::new();
        super::item(&mut out, SectionName::Caps, &item, style);
        out
    }

    #[test]
    fn a_structure_reads_well() {
        let mut bytes = vec![0; 64];
        (bytes[61], bytes[56], bytes[40]) = (0x08, 0x80, 1);
        let text = show("hw_health_buffer", bytes, Style::default());
        assert!(text.contains("synd") && text.contains("8  HW_FATAL_ERR"), "{text}");
        assert!(text.contains("rfr_severity.rfr") && text.contains("unknown @0x28.24"), "{text}");
        assert!(text.contains("more are 0") && !text.contains("irisc_index"), "{text}");
        let text = show("hw_health_buffer", vec![0; 64], Style { zeros: true, ..Style::default() });
        assert!(text.contains("irisc_index") && text.contains("firmware says that it is well"), "{text}");
        let text = show("tls_cap", vec![0xf0; 4], Style::default());
        assert!(text.contains("set: tls_1_2_aes_gcm_128 tls_1_3_aes_gcm_128"), "{text}");
        assert!(text.contains("only 4 bytes are here"), "{text}");
        let text = show("no such table", vec![0, 1, 2, 3, 4], Style::default());
        assert!(text.contains("0000: 00010203 04"), "{text}");
    }

    #[test]
    fn raw_text_shows_words() {
        let text = show("pmtu_reg", vec![0, 1, 0, 0, 0x27, 0x10, 0, 0], Style { raw: true, ..Style::default() });
        assert!(text.contains("@0x4.31:16    27100000  max_mtu     0x2710  10000"), "{text}");
        assert!(text.contains("0000: 00010000 27100000"), "{text}");
    }

    #[test]
    fn lines_are_short() {
        for style in [Style::default(), Style { zeros: true, raw: false }] {
            for info in crate::meaning::layouts().filter(|info| info.size < 600) {
                let text = show(info.name, vec![0xa5; info.size], style);
                for line in text.lines().filter(|line| line.chars().count() > WIDTH) {
                    let longest = line.split(' ').map(str::len).max().unwrap_or_default();
                    assert!(longest > 40, "{line}");
                }
            }
        }
    }
}
