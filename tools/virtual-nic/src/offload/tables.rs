//! Tag buffer tables: command identifier → {length check, tag mkey, base address} (`nvme-tcp-offload.md` §3.1, §4.5).

use super::settle::Settling;
use super::{OffloadFault, Run, Unplaced};
use crate::mkey::{Access, Cursor, MkeyFault, Mkeys, Segment, Span};
use crate::reject::{Reject, Syndrome};
use hw_regs::layout::{Access as _, Layout};
use hw_regs::wqe::Klm;
use std::collections::BTreeMap;

/// How many and how large tag buffer tables can be; the capabilities that the device advertises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagLimits {
    /// Tables (1 << `log_max_nvmeotcp_tag_buffer_table`).
    pub tables: u32,
    /// log2 of the most entries of a table (`log_max_nvmeotcp_tag_buffer_size`).
    pub log_entries: u32,
}

impl Default for TagLimits {
    fn default() -> TagLimits {
        TagLimits { tables: 1 << 12, log_entries: 11 }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Tag {
    bcount: u32,
    key: u32,
    va: u64,
    /// Where the last placement into this tag ended; payload comes in order.
    cursor: Cursor,
    /// Where the data of the command ended that the last header announced.
    next_offset: u32,
}

#[derive(Debug)]
struct Table {
    tags: Vec<Tag>,
    /// TIRs that name it.
    users: u32,
}

/// The tag buffer tables of a device.
#[derive(Debug)]
pub struct TagBufferTables {
    limits: TagLimits,
    tables: BTreeMap<u32, Table>,
    next: u32,
}

impl TagBufferTables {
    /// No tables.
    pub fn new(limits: TagLimits) -> TagBufferTables {
        TagBufferTables { limits, tables: BTreeMap::new(), next: 1 }
    }

    /// Tables that exist.
    pub fn len(&self) -> usize {
        self.tables.len()
    }

    /// True if there is no table.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Makes a table of `1 << log_size` entries, none filled. Returns its id.
    pub(super) fn create(&mut self, log_size: u32) -> Result<u32, Reject> {
        if log_size > self.limits.log_entries.min(16) {
            return Err(Syndrome::TAG_TABLE_SIZE.into());
        }
        if self.tables.len() as u32 >= self.limits.tables {
            return Err(Syndrome::TAG_TABLE_NONE_LEFT.into());
        }
        let id = self.next;
        self.next += 1;
        self.tables.insert(id, Table { tags: vec![Tag::default(); 1 << log_size], users: 0 });
        Ok(id)
    }

    /// Removes a table that no TIR names.
    pub(super) fn destroy(&mut self, id: u32) -> Result<(), Reject> {
        match self.tables.get(&id) {
            None => Err(Syndrome::TAG_TABLE_UNKNOWN.into()),
            Some(table) if table.users > 0 => Err(Syndrome::TAG_TABLE_IN_USE.into()),
            Some(_) => {
                self.tables.remove(&id);
                Ok(())
            }
        }
    }

    pub(super) fn attach(&mut self, id: u32) -> Result<(), Reject> {
        self.tables.get_mut(&id).ok_or(Syndrome::TAG_TABLE_UNKNOWN)?.users += 1;
        Ok(())
    }

    pub(super) fn detach(&mut self, id: u32) {
        if let Some(table) = self.tables.get_mut(&id) {
            table.users -= 1;
        }
    }

    /// Writes entries from tag `first` on; `None` if the table does not exist. Fills come in multiples of four, so those
    /// of a smaller table may reach past its end up to the next multiple; what lies there has no effect.
    pub(super) fn fill(&mut self, id: u32, first: u64, entries: &[u8]) -> Option<Result<(), OffloadFault>> {
        let table = self.tables.get_mut(&id)?;
        let (count, size) = ((entries.len() / Klm::SIZE) as u32, table.tags.len() as u32);
        if first.saturating_add(count.into()) > u64::from(size.next_multiple_of(4)) {
            return Some(Err(OffloadFault::TagBounds { first, count, size }));
        }
        let targets = table.tags.iter_mut().skip(first as usize);
        for (tag, bytes) in targets.zip(entries.chunks_exact(Klm::SIZE)) {
            let klm = Klm::from_prefix(bytes);
            *tag = Tag {
                bcount: klm.get(Klm::BCOUNT),
                key: klm.get(Klm::KEY),
                va: klm.get_wide(Klm::VA),
                ..Tag::default()
            };
        }
        Some(Ok(()))
    }

    /// Translates the place of a run in the buffer of its tag into `out`.
    pub(super) fn translate(
        &mut self,
        id: u32,
        run: &Run,
        settling: &mut Settling,
        mkeys: &Mkeys,
        out: &mut Vec<Segment>,
    ) -> Result<(), Unplaced> {
        let tag = self.tag(id, run.ccid).ok_or(Unplaced::NoTag)?;
        if settling.holds(tag.key) {
            return Err(Unplaced::Settling);
        }
        if run.ccoff.checked_add(run.len).is_none_or(|end| end > tag.bcount) {
            return Err(Unplaced::TagLength);
        }
        let va = tag.va.checked_add(run.ccoff.into()).ok_or(Unplaced::Key)?;
        let span = Span { key: tag.key, va, len: run.len };
        mkeys.translate(span, Access::Write, None, &mut tag.cursor, out).map_err(|fault| match fault {
            MkeyFault::Free { key } if key == span.key => Unplaced::Free,
            MkeyFault::OutOfBounds { key, .. } if key == span.key => Unplaced::KeyLength,
            _ => Unplaced::Key,
        })
    }

    /// A header announced data of a command: true if it begins where the last ended, or at the start.
    pub(super) fn continues(&mut self, id: u32, ccid: u16, datao: u32, datal: u32) -> bool {
        let Some(tag) = self.tag(id, ccid) else { return true };
        let continues = datao == 0 || datao == tag.next_offset;
        tag.next_offset = datao.wrapping_add(datal);
        continues
    }

    /// An entry that was filled.
    fn tag(&mut self, id: u32, ccid: u16) -> Option<&mut Tag> {
        self.tables.get_mut(&id)?.tags.get_mut(usize::from(ccid)).filter(|tag| tag.key != 0)
    }
}
