//! Which part of the driver an instruction belongs to.

use crate::callgrind::{Count, Place};
use std::collections::BTreeMap;

/// Parts, in the order in which a packet goes through them.
pub const ORDER: [&str; 12] =
    ["queue", "dma", "ddp", "frame", "net", "tcp", "nvme", "shard", "copy", "crc32c", "library", "bench"];

/// What a part is, in the words of the table.
pub fn describe(stage: &str) -> &str {
    match stage {
        "queue" => "queue: completions, posting, sending",
        "dma" => "dma: loads and stores of shared memory",
        "ddp" => "ddp: rebuild, bind, unbind",
        "net" => "net: Ethernet, IPv4, headers to send",
        "tcp" => "tcp: segments in, acknowledgments out",
        "nvme" => "nvme: PDUs, commands",
        "shard" => "shard: from one to the other, timers",
        "copy" => "memcpy, memmove, memset",
        "crc32c" => "CRC32C",
        "library" => "standard library and others",
        other => other,
    }
}

/// The part of a place: the folder of the source, or for code of libraries that of the function it was compiled into.
fn stage(place: &Place) -> String {
    let Place { file, function } = place;
    if file.contains("crc-fast") || function.contains("crc_fast") {
        return "crc32c".into();
    }
    if ["memcpy", "memmove", "memset"].iter().any(|name| function.contains(name)) {
        return "copy".into();
    }
    let file = file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(file).trim_start_matches('/');
    if file.starts_with("benches/") {
        return "bench".into();
    }
    if file.starts_with("hw-regs/") || file.starts_with("firmware-iface/") {
        return "queue".into();
    }
    // Simulated time and registers are read through it.
    if file.starts_with("src/platform") {
        return "bench".into();
    }
    let module = match file.strip_prefix("src/") {
        Some(inside) => inside.split('/').next(),
        None => function.split_once("connectx_ddp::").and_then(|(_, path)| path.split("::").next()),
    };
    module.filter(|module| ORDER.contains(module)).unwrap_or("library").to_owned()
}

/// Instructions by part.
pub fn by_stage(count: &Count) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (place, instructions) in &count.places {
        *sums.entry(stage(place)).or_default() += instructions;
    }
    sums
}
