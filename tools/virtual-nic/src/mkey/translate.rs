//! From {key, address, length} to device addresses.

use super::{Mkey, MkeyFault, Mkeys, Mode};
use crate::dma::{DmaFault, DmaSpace};
use firmware_iface::context::Mkc;
use hw_regs::layout::Access as _;

/// Keys that may lead to keys: a tag's list, a list it names, and the pages below.
const MAX_DEPTH: u32 = 4;

/// List entries that one translation may look at; entries of no bytes are the reason that the length is no bound.
const MAX_VISITS: u32 = 1 << 18;

/// What an access wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The device reads memory: needs `lr`.
    Read,
    /// The device writes memory: needs `lw`.
    Write,
}

/// A run of bytes as a work request or a tag names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Memory key.
    pub key: u32,
    /// First address in it.
    pub va: u64,
    /// Bytes.
    pub len: u32,
}

/// A run of device addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First address.
    pub iova: u64,
    /// Bytes.
    pub len: u32,
}

/// Where in a KLM list the last translation ended, so that the next one need not begin at the front. It stays right
/// whatever happens to the key: a change of the key makes it start over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    generation: u64,
    index: u32,
    before: u64,
}

/// One translation under way.
struct Walk<'a> {
    access: Access,
    outermost: u32,
    visits: u32,
    out: &'a mut Vec<Segment>,
}

impl Walk<'_> {
    /// Counts a list entry or page that is looked at.
    fn visit(&mut self) -> Result<(), MkeyFault> {
        self.visits = self.visits.checked_sub(1).ok_or(MkeyFault::TooComplex { key: self.outermost })?;
        Ok(())
    }

    fn push(&mut self, iova: u64, len: u32) {
        match self.out.last_mut() {
            Some(last) if last.iova.wrapping_add(u64::from(last.len)) == iova => last.len += len,
            _ => self.out.push(Segment { iova, len }),
        }
    }
}

impl Mkeys {
    /// Translates `span` into `out`, which is emptied first. `pd` is the protection domain of the queue that uses the
    /// key, `None` where the device itself does. With an error `out` holds nothing of use.
    pub fn translate(
        &self,
        span: Span,
        access: Access,
        pd: Option<u32>,
        cursor: &mut Cursor,
        out: &mut Vec<Segment>,
    ) -> Result<(), MkeyFault> {
        out.clear();
        let mut walk = Walk { access, outermost: span.key, visits: MAX_VISITS, out };
        self.walk(&mut walk, span, pd, Some(cursor), MAX_DEPTH)
    }

    /// Copies memory out through a key; all of it or nothing.
    pub fn read(&self, key: u32, va: u64, out: &mut [u8], pd: Option<u32>, dma: &DmaSpace) -> Result<(), MkeyFault> {
        let span = Span::of(key, va, out.len())?;
        self.with_segments(span, Access::Read, pd, |segments| {
            check_mapped(segments, dma, Access::Read)?;
            let mut rest = out;
            for segment in segments {
                let (part, after) = rest.split_at_mut(segment.len as usize);
                dma.read(segment.iova, part)?;
                rest = after;
            }
            Ok(())
        })
    }

    /// Copies `bytes` to memory through a key; all of them or none.
    pub fn write(&self, key: u32, va: u64, bytes: &[u8], pd: Option<u32>, dma: &DmaSpace) -> Result<(), MkeyFault> {
        let span = Span::of(key, va, bytes.len())?;
        self.with_segments(span, Access::Write, pd, |segments| {
            check_mapped(segments, dma, Access::Write)?;
            write_segments(segments, bytes, dma)
        })
    }

    fn with_segments(
        &self,
        span: Span,
        access: Access,
        pd: Option<u32>,
        then: impl FnOnce(&[Segment]) -> Result<(), DmaFault>,
    ) -> Result<(), MkeyFault> {
        let mut segments = self.scratch.take();
        let translated = self.translate(span, access, pd, &mut Cursor::default(), &mut segments);
        let done = translated.and_then(|()| then(&segments).map_err(MkeyFault::from));
        self.scratch.replace(segments);
        done
    }

    fn walk(
        &self,
        walk: &mut Walk<'_>,
        span: Span,
        pd: Option<u32>,
        cursor: Option<&mut Cursor>,
        depth: u32,
    ) -> Result<(), MkeyFault> {
        let Span { key, va, len } = span;
        if depth == 0 {
            return Err(MkeyFault::TooComplex { key: walk.outermost });
        }
        let mkey = self.key(key)?;
        let access = walk.access;
        if mkey.free {
            return Err(MkeyFault::Free { key });
        }
        let right = if access == Access::Read { Mkc::LR } else { Mkc::LW };
        if !mkey.mkc.is_set(right) {
            return Err(MkeyFault::Access { key, access });
        }
        if let Some(expected) = pd.filter(|pd| *pd != mkey.pd) {
            return Err(MkeyFault::ProtectionDomain { key, pd: mkey.pd, expected });
        }
        let outside = MkeyFault::OutOfBounds { key, va, len };
        va.checked_add(u64::from(len)).ok_or(outside)?;
        let offset = va.checked_sub(mkey.start).ok_or(outside)?;
        if mkey.len.is_some_and(|size| offset + u64::from(len) > size) {
            return Err(outside);
        }
        if len == 0 {
            return Ok(());
        }
        match mkey.mode {
            Mode::Pa => {
                walk.push(va, len);
                Ok(())
            }
            Mode::Mtt => walk_pages(walk, mkey, key, offset, len),
            Mode::Klm => self.walk_list(walk, mkey, span, cursor, depth),
            Mode::Ksm => self.walk_blocks(walk, mkey, span, depth),
        }
    }

    /// KLM: entries of any size, one after the other; entries of no bytes pad. `span` is inside the key.
    fn walk_list(
        &self,
        walk: &mut Walk<'_>,
        mkey: &Mkey,
        span: Span,
        mut cursor: Option<&mut Cursor>,
        depth: u32,
    ) -> Result<(), MkeyFault> {
        let (mut at, mut left) = (span.va - mkey.start, span.len);
        let (mut index, mut before) = match &cursor {
            Some(c) if c.generation == mkey.generation && c.before <= at => (c.index, c.before),
            _ => (0, 0),
        };
        while left > 0 {
            walk.visit()?;
            let [head, va] = mkey.octoword(index).ok_or(MkeyFault::ListTooShort { key: span.key, offset: at })?;
            let bcount = head >> 32;
            if at - before >= bcount {
                (index, before) = (index + 1, before + bcount);
                continue;
            }
            let inner = at - before;
            let take = (bcount - inner).min(u64::from(left)) as u32;
            self.walk(walk, Span::inside(head as u32, va, inner, take)?, Some(mkey.pd), None, depth - 1)?;
            (at, left) = (at + u64::from(take), left - take);
            if let Some(cursor) = cursor.as_deref_mut() {
                *cursor = Cursor { generation: mkey.generation, index, before };
            }
        }
        Ok(())
    }

    /// KSM: entries of one size, so the entry follows from the offset. `span` is inside the key.
    fn walk_blocks(&self, walk: &mut Walk<'_>, mkey: &Mkey, span: Span, depth: u32) -> Result<(), MkeyFault> {
        let size = 1u64 << mkey.shift;
        let (mut at, mut left) = (span.va - mkey.start, span.len);
        while left > 0 {
            walk.visit()?;
            let too_short = MkeyFault::ListTooShort { key: span.key, offset: at };
            let index = u32::try_from(at >> mkey.shift).map_err(|_| too_short)?;
            let [head, va] = mkey.octoword(index).ok_or(too_short)?;
            let inner = at & (size - 1);
            let take = (size - inner).min(u64::from(left)) as u32;
            self.walk(walk, Span::inside(head as u32, va, inner, take)?, Some(mkey.pd), None, depth - 1)?;
            (at, left) = (at + u64::from(take), left - take);
        }
        Ok(())
    }
}

impl Span {
    fn of(key: u32, va: u64, len: usize) -> Result<Span, MkeyFault> {
        let len = u32::try_from(len).map_err(|_| MkeyFault::OutOfBounds { key, va, len: u32::MAX })?;
        Ok(Span { key, va, len })
    }

    /// `len` bytes, `inner` bytes behind the address of a list entry.
    fn inside(key: u32, va: u64, inner: u64, len: u32) -> Result<Span, MkeyFault> {
        let va = va.checked_add(inner).ok_or(MkeyFault::OutOfBounds { key, va, len })?;
        Ok(Span { key, va, len })
    }
}

/// MTT: pages of one size; the first holds the key's start at the same offset in the page.
fn walk_pages(walk: &mut Walk<'_>, mkey: &Mkey, key: u32, offset: u64, len: u32) -> Result<(), MkeyFault> {
    let size = 1u64 << mkey.shift;
    let too_short = MkeyFault::ListTooShort { key, offset };
    let mut at = offset.checked_add(mkey.start & (size - 1)).ok_or(too_short)?;
    let mut left = len;
    while left > 0 {
        walk.visit()?;
        let ptag = mkey.page(at >> mkey.shift).ok_or(too_short)?;
        // Low bits of a page address: bit 0 read, bit 1 write (`mlx5-bringup.md` §4).
        let allowed = match walk.access {
            Access::Read => ptag & 1 != 0,
            Access::Write => ptag & 2 != 0,
        };
        if mkey.page_access && !allowed {
            return Err(MkeyFault::Page { key, offset, access: walk.access });
        }
        let inner = at & (size - 1);
        let take = (size - inner).min(u64::from(left)) as u32;
        let iova = (ptag & !(size - 1)).checked_add(inner).ok_or(too_short)?;
        walk.push(iova, take);
        left -= take;
        at += u64::from(take);
    }
    Ok(())
}

/// Refuses an access of which any part is not mapped, before it touches anything.
fn check_mapped(segments: &[Segment], dma: &DmaSpace, access: Access) -> Result<(), DmaFault> {
    segments.iter().try_for_each(|segment| match access {
        Access::Read => dma.check_read(segment.iova, segment.len as usize),
        Access::Write => dma.check_write(segment.iova, segment.len as usize),
    })
}

/// Writes `bytes` over segments that were translated for exactly as many, and are mapped.
pub(crate) fn write_segments(segments: &[Segment], bytes: &[u8], dma: &DmaSpace) -> Result<(), DmaFault> {
    let mut rest = bytes;
    for segment in segments {
        let (part, after) = rest.split_at(segment.len as usize);
        dma.write(segment.iova, part)?;
        rest = after;
    }
    Ok(())
}
