//! I/O virtual addresses and who hands them out.

use std::fmt;
use std::ops::RangeInclusive;

/// An address as the device sees it: what the IOMMU translates. Bytes, host order.
///
/// There is no `From<u64>`: addresses come from [`IovaAllocator`] through a mapping, so a number that the device or the
/// network sent cannot become one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iova(u64);

impl Iova {
    /// The number, to be put into a command or a work request.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Memory of this process where the device sees it without an IOMMU.
    pub(in crate::dma) const fn physical(address: u64) -> Iova {
        Iova(address)
    }

    pub(in crate::dma) const fn offset(self, bytes: u64) -> Iova {
        Iova(self.0 + bytes)
    }
}

impl fmt::Display for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The window that x86 interrupt remapping takes out of the address space (`virtual-hil.md`; `ecosystem.md` V6).
const MSI_WINDOW: RangeInclusive<u64> = 0xfee0_0000..=0xfeef_ffff;
/// Addresses below are never used: firmware refuses page 0, and low addresses meet the reserved regions of many
/// platforms.
const LOWEST: u64 = 1 << 32;

/// Hands out device addresses inside the ranges that the IOMMU reports.
#[derive(Debug)]
pub struct IovaAllocator {
    /// Free ranges, inclusive, sorted, disjoint.
    free: Vec<(u64, u64)>,
}

impl IovaAllocator {
    /// Takes the ranges that the platform translates. Address 0 and the MSI window are taken out even if reported, and
    /// addresses from 4 GiB up are preferred.
    pub fn new(ranges: &[RangeInclusive<u64>]) -> IovaAllocator {
        let mut free = Vec::new();
        for range in ranges {
            let (start, end) = (*range.start().max(&0x1000), *range.end());
            if start > end {
                continue;
            }
            if start < *MSI_WINDOW.start() && end > *MSI_WINDOW.end() {
                free.push((start, MSI_WINDOW.start() - 1));
                free.push((MSI_WINDOW.end() + 1, end));
            } else if end < *MSI_WINDOW.start() || start > *MSI_WINDOW.end() {
                free.push((start, end));
            } else if start < *MSI_WINDOW.start() {
                free.push((start, MSI_WINDOW.start() - 1));
            } else if end > *MSI_WINDOW.end() {
                free.push((MSI_WINDOW.end() + 1, end));
            }
        }
        free.sort_unstable();
        IovaAllocator { free }
    }

    /// Takes `len` bytes aligned to `align` (a power of two), from 4 GiB up if possible.
    pub fn allocate(&mut self, len: u64, align: u64) -> Option<Iova> {
        debug_assert!(align.is_power_of_two() && len > 0);
        self.allocate_from(LOWEST, len, align).or_else(|| self.allocate_from(0, len, align))
    }

    fn allocate_from(&mut self, lowest: u64, len: u64, align: u64) -> Option<Iova> {
        for i in 0..self.free.len() {
            let (start, end) = self.free[i];
            let at = start.max(lowest).checked_next_multiple_of(align)?;
            let Some(last) = at.checked_add(len - 1) else { continue };
            if at < start || last > end {
                continue;
            }
            let mut rest = Vec::new();
            if at > start {
                rest.push((start, at - 1));
            }
            if last < end {
                rest.push((last + 1, end));
            }
            self.free.splice(i..=i, rest);
            return Some(Iova(at));
        }
        None
    }

    /// Gives a range back.
    pub fn release(&mut self, iova: Iova, len: u64) {
        let (start, end) = (iova.0, iova.0 + (len - 1));
        let at = self.free.partition_point(|range| range.0 < start);
        self.free.insert(at, (start, end));
        if at + 1 < self.free.len() && self.free[at + 1].0 == end + 1 {
            self.free[at].1 = self.free[at + 1].1;
            self.free.remove(at + 1);
        }
        if at > 0 && self.free[at - 1].1 + 1 == start {
            self.free[at - 1].1 = self.free[at].1;
            self.free.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | page 0 and the MSI window are never handed out | `reserved_addresses_are_never_handed_out` |
    //! | what is given back can be had again | `released_ranges_merge` |
    //! | a full space says so | `a_full_space_says_so` |
    //! | whatever is handed out lies in the ranges that the platform reports, aligned, and nobody else has it | `addresses_lie_in_the_ranges` |
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn addresses_lie_in_the_ranges(
            bounds in prop::collection::btree_set(0u64..1 << 40, 2..10),
            asked in prop::collection::vec((1u64..1 << 34, 0u32..22), 1..20),
        ) {
            let bounds: Vec<u64> = bounds.into_iter().collect();
            let ranges: Vec<_> = bounds.chunks_exact(2).map(|pair| pair[0]..=pair[1]).collect();
            let mut space = IovaAllocator::new(&ranges);
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for (len, shift) in asked {
                let Some(iova) = space.allocate(len, 1 << shift) else { continue };
                let (first, last) = (iova.get(), iova.get() + len - 1);
                prop_assert!(first.is_multiple_of(1 << shift));
                prop_assert!(ranges.iter().any(|range| range.contains(&first) && range.contains(&last)));
                prop_assert!(taken.iter().all(|(a, b)| last < *a || first > *b));
                taken.push((first, last));
            }
        }
    }

    #[test]
    fn reserved_addresses_are_never_handed_out() {
        let mut space = IovaAllocator::new(&[0..=0x1_0000_0000 - 1]);
        let mut seen = Vec::new();
        while let Some(iova) = space.allocate(0x100_0000, 0x1000) {
            let range = iova.get()..=iova.get() + 0xff_ffff;
            assert!(*range.start() >= 0x1000);
            assert!(range.end() < MSI_WINDOW.start() || range.start() > MSI_WINDOW.end(), "{range:x?}");
            seen.push(iova);
        }
        assert_eq!(seen.len(), 254 + 1, "16 MiB pieces below the window, and one above");
    }

    #[test]
    fn released_ranges_merge() {
        let mut space = IovaAllocator::new(&[LOWEST..=LOWEST + 0x2fff]);
        let all: Vec<_> = (0..3).map(|_| space.allocate(0x1000, 0x1000).expect("room")).collect();
        assert!(space.allocate(0x1000, 0x1000).is_none());
        for i in [1, 0, 2] {
            space.release(all[i], 0x1000);
        }
        assert_eq!(space.allocate(0x3000, 0x1000), Some(all[0]));
    }

    #[test]
    fn a_full_space_says_so() {
        let mut space = IovaAllocator::new(&[0x10_0000..=0x10_0fff]);
        assert!(space.allocate(0x2000, 0x1000).is_none());
        assert_eq!(space.allocate(0x1000, 0x1000), Some(Iova(0x10_0000)), "low addresses serve where nothing else is");
    }
}
