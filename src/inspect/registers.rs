//! The initialization segment, word by word.
//!
//! Only words that some field covers are read: nobody knows what reading the others does. Of those with a field, words that
//! are there to be written are left alone.

use super::dump::Item;
use crate::platform::Platform;
use hw_regs::init_segment::{HealthBuffer, InitSegment};
use hw_regs::layout::{FieldInfo, Layout};

/// Fields that start something when they are written; what reading them does is not documented (`mlx5-bringup.md` §1).
const WRITE_ONLY: [&str; 2] = ["cmd_dbell", "clr_intx"];
/// Registers from here on are left alone too: the MSI-X table may lie there (`mlx5-numbers.md`).
const END: u32 = 0x2000;
/// Bytes of a register.
const WORD: usize = 4;

/// A part of the segment, read in steps.
pub(super) struct Reading {
    name: &'static str,
    layout: &'static str,
    /// Byte offset in BAR0 of the first byte.
    base: usize,
    bytes: Vec<u8>,
    /// Offsets in `bytes` of words that are still to be read, the last one first.
    words: Vec<usize>,
    unread: Vec<String>,
}

impl Reading {
    /// The segment but for the health buffer.
    pub fn init_segment() -> Reading {
        let fields = InitSegment::FIELDS.iter().filter(|field| field.nested.is_empty());
        let (skipped, fields): (Vec<&FieldInfo>, Vec<&FieldInfo>) =
            fields.partition(|field| WRITE_ONLY.contains(&field.name) || field.offset >= END * 8);
        let health = HealthBuffer::NAME;
        let unread = skipped.iter().map(|field| field.name.to_owned());
        let unread = unread.chain(InitSegment::FIELDS.iter().filter(|f| f.nested == health).map(|f| f.name.to_owned()));
        Reading::new("initialization segment", InitSegment::NAME, 0, InitSegment::SIZE, &fields, unread.collect())
    }

    /// The health buffer.
    pub fn health_buffer() -> Reading {
        let fields: Vec<_> = HealthBuffer::FIELDS.iter().collect();
        let base = InitSegment::HEALTH.byte_offset();
        Reading::new("health buffer", HealthBuffer::NAME, base, HealthBuffer::SIZE, &fields, Vec::new())
    }

    fn new(
        name: &'static str,
        layout: &'static str,
        base: usize,
        size: usize,
        fields: &[&FieldInfo],
        unread: Vec<String>,
    ) -> Reading {
        let mut words: Vec<usize> = fields
            .iter()
            .flat_map(|field| {
                let end = field.offset + field.width * field.count;
                (field.offset / 32..end.div_ceil(32)).map(|word| word as usize * WORD)
            })
            .collect();
        words.sort_unstable_by(|a, b| b.cmp(a));
        words.dedup();
        Reading { name, layout, base, bytes: vec![0; size], words, unread }
    }

    /// Reads at most `limit` words. Returns the whole once it is.
    pub fn step(&mut self, platform: &impl Platform, limit: usize) -> Option<Item> {
        for _ in 0..limit {
            let Some(at) = self.words.pop() else { break };
            let offset = (self.base + at) as u64;
            // A BAR that ends earlier has no such register.
            if offset + WORD as u64 <= platform.bar_size() {
                self.bytes[at..at + WORD].copy_from_slice(&platform.read32(offset).to_be_bytes());
            }
        }
        self.words.is_empty().then(|| Item {
            unread: std::mem::take(&mut self.unread),
            ..Item::new(self.name, self.layout, self.bytes.len(), &self.bytes)
        })
    }
}
