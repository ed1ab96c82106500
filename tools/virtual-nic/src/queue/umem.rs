//! User memory objects (umem): memory that a driver registers once and names by number and offset where a queue, or its
//! doorbell record, is to be (`mlx5-bringup.md` §12, §13).

use super::ring::Ring;
use crate::refusal;
use crate::reject::Reject;
use firmware_iface::command::object::{Mtt, Umem as Context};
use hw_regs::layout::{Access, Layout};

/// Largest page shift, as large as rdma-core's VFIO driver makes it.
const MAX_SHIFT: u32 = 31;
/// Bytes of a page of a queue's ring.
const PAGE: u64 = 4096;

/// What the device is to do with memory of a umem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    Write,
}

/// The umems that a queue is in: its ring's, and its doorbell record's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Umems {
    pub(crate) ring: Option<u32>,
    pub(crate) record: Option<u32>,
}

impl Umems {
    /// Their numbers; one that both are in counts twice.
    pub(crate) fn iter(self) -> impl Iterator<Item = u32> {
        self.ring.into_iter().chain(self.record)
    }
}

/// Where a queue is.
pub(crate) struct Place {
    pub(crate) ring: Ring,
    /// Address of the doorbell record.
    pub(crate) record: u64,
    pub(crate) umems: Umems,
}

/// A umem.
pub(crate) struct Umem {
    pages: Box<[Mtt]>,
    shift: u32,
    /// Bytes of the first page that are not part of it.
    offset: u64,
}

impl Umem {
    /// A umem of the pages that `list` names, in the form of `mtt`.
    pub(crate) fn new(context: &Context, list: &[u8]) -> Result<Umem, Reject> {
        let shift = 12 + context.get(Context::LOG_PAGE_SIZE);
        let offset = u64::from(context.get(Context::PAGE_OFFSET));
        if shift > MAX_SHIFT || offset >> shift != 0 {
            return Err(refusal::UMEM_PAGE_SIZE);
        }
        let pages: Box<[Mtt]> = list.chunks_exact(Mtt::SIZE).map(Mtt::from_prefix).collect();
        if pages.is_empty() || pages.iter().any(|page| !page_address(page).is_multiple_of(PAGE)) {
            return Err(refusal::UMEM_PAGES);
        }
        Ok(Umem { pages, shift, offset })
    }

    /// Device address of `len` bytes at `offset`, which are in one page and may be used like this.
    pub(crate) fn address(&self, offset: u64, len: u64, wanted: Use) -> Result<u64, Reject> {
        let at = self.offset.checked_add(offset).ok_or(refusal::UMEM_RANGE)?;
        let page = usize::try_from(at >> self.shift).ok().and_then(|index| self.pages.get(index));
        let page = page.ok_or(refusal::UMEM_RANGE)?;
        let inside = at & ((1 << self.shift) - 1);
        if inside + len > 1 << self.shift {
            return Err(refusal::UMEM_RANGE);
        }
        let right = match wanted {
            Use::Read => Mtt::RD_EN,
            Use::Write => Mtt::WR_EN,
        };
        match page.is_set(right) {
            true => Ok(page_address(page) + inside),
            false => Err(refusal::UMEM_RIGHTS),
        }
    }

    /// A ring of `bytes` bytes (a power of two) that begins at `offset`, where a page of 4 KiB begins.
    pub(crate) fn ring(&self, offset: u64, bytes: u64, wanted: Use) -> Result<Ring, Reject> {
        let mut pages = Vec::new();
        for done in (0..bytes).step_by(PAGE as usize) {
            let at = offset.checked_add(done).ok_or(refusal::UMEM_RANGE)?;
            pages.push(self.address(at, PAGE.min(bytes - done), wanted)?);
        }
        Ring::new(bytes, 0, pages.into())
    }
}

fn page_address(page: &Mtt) -> u64 {
    u64::from(page.get(Mtt::PTAG_63_32)) << 32 | u64::from(page.get(Mtt::PTAG_31_8)) << 8
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | an offset leads to the page that holds it, from where the umem begins inside its first page | `offsets_count_from_where_the_umem_begins` |
    //! | what is outside, may not be used like this, or is no list of pages, is refused | `what_is_outside_or_forbidden_is_refused` |
    use super::*;

    fn umem(log_page_size: u32, offset: u32, entries: &[u64]) -> Result<Umem, Reject> {
        let context = Context::zeroed().with(Context::LOG_PAGE_SIZE, log_page_size).with(Context::PAGE_OFFSET, offset);
        let list: Vec<u8> = entries.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        Umem::new(&context, &list)
    }

    #[test]
    fn offsets_count_from_where_the_umem_begins() {
        let umem = umem(1, 0x1000, &[0x8_0000_0000 | 3, 0x4000 | 3]).unwrap();
        assert_eq!(umem.address(8, 8, Use::Read), Ok(0x8_0000_1008));
        assert_eq!(umem.address(0x1000, 8, Use::Write), Ok(0x4000));
        let ring = umem.ring(0, 0x2000, Use::Write).unwrap();
        assert_eq!(
            [0, 0xfff, 0x1000, 0x2040].map(|at| ring.iova(at)),
            [0x8_0000_1000, 0x8_0000_1fff, 0x4000, 0x8_0000_1040]
        );
    }

    #[test]
    fn what_is_outside_or_forbidden_is_refused() {
        let whole = umem(0, 0, &[0x4000 | 1, 0x9000 | 2]).unwrap();
        assert_eq!(whole.address(0x2000, 8, Use::Read), Err(refusal::UMEM_RANGE));
        assert_eq!(whole.address(u64::MAX, 8, Use::Read), Err(refusal::UMEM_RANGE));
        assert_eq!(whole.address(0xffc, 8, Use::Read), Err(refusal::UMEM_RANGE));
        assert_eq!(whole.address(0, 8, Use::Write), Err(refusal::UMEM_RIGHTS));
        assert_eq!(whole.address(0x1000, 8, Use::Read), Err(refusal::UMEM_RIGHTS));
        assert_eq!(whole.ring(0, 0x2000, Use::Write).unwrap_err(), refusal::UMEM_RIGHTS);
        assert_eq!(whole.ring(64, 64, Use::Read).unwrap_err(), refusal::RING_ADDRESS);
        assert_eq!(umem(20, 0, &[0x4003]).err(), Some(refusal::UMEM_PAGE_SIZE));
        assert_eq!(umem(0, 0x1000, &[0x4003]).err(), Some(refusal::UMEM_PAGE_SIZE));
        assert_eq!(umem(0, 0, &[]).err(), Some(refusal::UMEM_PAGES));
        assert_eq!(umem(0, 0, &[0x4103]).err(), Some(refusal::UMEM_PAGES));
    }
}
