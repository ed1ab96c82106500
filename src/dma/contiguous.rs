//! Memory that is contiguous for a device without an IOMMU: huge pages that follow each other in physical memory.
//!
//! The kernel hands huge pages out in no order that helps. So a few are taken, their physical addresses asked for
//! (`/proc/self/pagemap`, which shows them to `CAP_SYS_ADMIN` only), and those that follow each other mapped in that order.
//!
//! Locked pages of ordinary size would not do: `mlock` keeps a page in memory, not at its place, and the kernel moves it when
//! it compacts memory. A huge page is neither swapped nor compacted; what is left that can move one is taking memory offline
//! and allocating from its region for somebody else (CMA), which hosts of such drivers do not do. Nothing tells the driver if
//! it happens: that, too, is what unsafe means here.
#![allow(unsafe_code)] // Mappings are laid over a reserved range, and taken away.

use super::DmaError;
use super::arena::{HUGE_PAGE, huge_file};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

/// Taken at most to find some that follow each other, in multiples of what is needed.
const TRIES: usize = 4;
/// Bytes that an entry of the page map stands for.
const PAGE: u64 = 4096;

/// A run of addresses in this process, of huge pages in the order of their physical addresses.
pub(super) struct Sorted {
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is not tied to a thread, and the address is only given out, as `MmapRegion`'s is.
unsafe impl Send for Sorted {}
// SAFETY: as above.
unsafe impl Sync for Sorted {}

impl Drop for Sorted {
    fn drop(&mut self) {
        // SAFETY: this is the range that `reserve` made; who has the memory keeps it.
        if let Err(error) = unsafe { munmap(self.address.as_ptr().cast(), self.len) } {
            log::error!("DMA memory stays mapped: {error}");
        }
    }
}

impl Sorted {
    pub fn address(&self) -> *mut u8 {
        self.address.as_ptr()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// A range of addresses with nothing behind it, that begins with a huge page.
    fn reserve(len: usize) -> io::Result<Sorted> {
        let more = len + HUGE_PAGE;
        // SAFETY: a new mapping at an address that the kernel chooses touches no other memory.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), more, ProtFlags::empty(), MapFlags::PRIVATE) }?;
        let start = start.cast::<u8>();
        let before = start.addr().next_multiple_of(HUGE_PAGE) - start.addr();
        let cut = |at: *mut u8, len: usize| match len {
            0 => Ok(()),
            // SAFETY: a part of the mapping made above, which nobody uses.
            _ => unsafe { munmap(at.cast(), len) },
        };
        let first = start.wrapping_add(before);
        cut(start, before)?;
        cut(first.wrapping_add(len), more - before - len)?;
        let address = NonNull::new(first).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Sorted { address, len })
    }

    /// Lays huge page `page` of a file over the n-th place.
    fn put(&self, n: usize, file: &File, page: usize) -> io::Result<()> {
        let at = self.address.as_ptr().wrapping_add(n * HUGE_PAGE);
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: the place lies in the range that was reserved, of which no reference exists.
        let put = unsafe {
            mmap(at.cast(), HUGE_PAGE, ProtFlags::READ | ProtFlags::WRITE, flags, file, (page * HUGE_PAGE) as u64)
        };
        put?;
        // The kernel knows of a place in physical memory once the page was touched.
        // SAFETY: mapped above; the file has the page.
        unsafe { std::ptr::write_volatile(at, 0) };
        Ok(())
    }
}

/// Memory of `len` bytes, its file, and its physical address.
pub(super) fn allocate(len: usize) -> Result<(Sorted, File, u64), DmaError> {
    let failed = |cause: String| DmaError::Memory { bytes: len, cause };
    let need = len.div_ceil(HUGE_PAGE);
    let (mut longest, mut most) = (0, 0);
    for count in (1..=TRIES).map(|times| times * need) {
        let file = match huge_file(count * HUGE_PAGE) {
            Ok(file) => file,
            Err(error) if most == 0 => {
                return Err(failed(format!(
                    "{error}: without an IOMMU it must be huge pages, of which {need} are needed: \
                     echo {} > /proc/sys/vm/nr_hugepages",
                    64.max(2 * need)
                )));
            }
            Err(_) => break,
        };
        most = count;
        let looked = look(&file, count).map_err(|error| failed(error.to_string()))?;
        match adjacent(&looked, need) {
            Ok(pages) => {
                let first = looked[pages[0]];
                let sorted = choose(&file, count, &pages).map_err(|error| failed(error.to_string()))?;
                // Moved between the two looks: it would not be the last time.
                return match frames(&sorted, need).map_err(|error| failed(error.to_string()))? == run(first, need) {
                    true => Ok((sorted, file, first)),
                    false => Err(failed("this kernel moves huge pages: it cannot be used without an IOMMU".into())),
                };
            }
            Err(run) => longest = longest.max(run),
        }
    }
    Err(failed(format!(
        "without an IOMMU it must be contiguous, and of {most} huge pages at most {longest} follow each other, not {need}: \
         reserve more, soon after boot (/proc/sys/vm/nr_hugepages), or use smaller queues"
    )))
}

/// Physical addresses of huge pages that follow each other.
fn run(first: u64, count: usize) -> Vec<u64> {
    (0..count as u64).map(|n| first + n * HUGE_PAGE as u64).collect()
}

/// Physical addresses of all huge pages of a file.
fn look(file: &File, count: usize) -> io::Result<Vec<u64>> {
    let place = Sorted::reserve(count * HUGE_PAGE)?;
    (0..count).try_for_each(|n| place.put(n, file, n))?;
    frames(&place, count)
}

/// Maps these huge pages of a file in this order, and gives the others back.
fn choose(file: &File, count: usize, pages: &[usize]) -> io::Result<Sorted> {
    let place = Sorted::reserve(pages.len() * HUGE_PAGE)?;
    pages.iter().enumerate().try_for_each(|(n, page)| place.put(n, file, *page))?;
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for other in (0..count).filter(|page| !pages.contains(page)) {
        fallocate(file, hole, (other * HUGE_PAGE) as u64, HUGE_PAGE as u64)?;
    }
    Ok(place)
}

/// Physical addresses of the huge pages at a place.
fn frames(place: &Sorted, count: usize) -> io::Result<Vec<u64>> {
    let map = File::open("/proc/self/pagemap")?;
    let address = |n: usize| (place.address().addr() + n * HUGE_PAGE) as u64;
    (0..count)
        .map(|n| {
            let mut entry = [0; 8];
            map.read_exact_at(&mut entry, address(n) / PAGE * 8)?;
            physical(u64::from_ne_bytes(entry)).map_err(io::Error::other)
        })
        .collect()
}

/// Physical address of an entry of `/proc/self/pagemap` (the kernel's `admin-guide/mm/pagemap.rst`).
fn physical(entry: u64) -> Result<u64, &'static str> {
    const PRESENT: u64 = 1 << 63;
    const FRAME: u64 = (1 << 55) - 1;
    match (entry & PRESENT, entry & FRAME) {
        (0, _) => Err("the kernel says that a page that was just written is not in memory"),
        // Page 0 is never a program's: this is how the kernel hides the number.
        (_, 0) => Err("the kernel hides physical addresses: without an IOMMU CAP_SYS_ADMIN is needed (run as root)"),
        (_, frame) => Ok(frame * PAGE),
    }
}

/// Indices of `need` huge pages whose physical addresses follow each other, in that order; the longest run if there are none.
fn adjacent(frames: &[u64], need: usize) -> Result<Vec<usize>, usize> {
    let mut order: Vec<usize> = (0..frames.len()).collect();
    order.sort_by_key(|n| frames[*n]);
    let runs = order.chunk_by(|a, b| frames[*a].checked_add(HUGE_PAGE as u64) == Some(frames[*b]));
    let longest = runs.max_by_key(|run| run.len()).unwrap_or_default();
    match longest.len() >= need {
        true => Ok(longest[..need].to_vec()),
        false => Err(longest.len()),
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | pages are chosen that follow each other, if there are any | `adjacent_pages_are_found` |
    //! | a page map entry is a place, hidden, or absent | `page_map_entries` |
    //! | a reserved range begins with a huge page and is as long as asked | `a_range_is_reserved` |
    //! | without huge pages, or without the right to see where they are, it fails and says what to do | `contiguous_memory_or_what_to_do` |
    use super::*;
    use proptest::prelude::*;

    const HUGE: u64 = HUGE_PAGE as u64;

    proptest! {
        #[test]
        fn adjacent_pages_are_found(places in prop::collection::hash_set(1u64..40, 1..30), need in 1usize..8) {
            let frames: Vec<u64> = places.iter().map(|place| place * HUGE).collect();
            let longest = (1..40).map(|from| (from..).take_while(|place| places.contains(place)).count()).max();
            match adjacent(&frames, need) {
                Ok(pages) => {
                    let chosen: Vec<u64> = pages.iter().map(|page| frames[*page]).collect();
                    prop_assert_eq!(&chosen, &run(chosen[0], need));
                }
                Err(found) => {
                    prop_assert!(found < need);
                    prop_assert_eq!(Some(found), longest);
                }
            }
        }
    }

    #[test]
    fn page_map_entries() {
        assert_eq!(physical(1 << 63 | 0x12345), Ok(0x1234_5000));
        assert_eq!(physical(1 << 63 | 1 << 62 | 1 << 56 | 7), Ok(0x7000), "other bits are not of the address");
        assert!(physical(1 << 63).is_err_and(|why| why.contains("CAP_SYS_ADMIN")));
        assert!(physical(0x12345).is_err());
    }

    #[test]
    fn a_range_is_reserved() {
        for count in 1..4 {
            let place = Sorted::reserve(count * HUGE_PAGE).expect("addresses");
            assert_eq!((place.address().addr() % HUGE_PAGE, place.len()), (0, count * HUGE_PAGE));
        }
    }

    #[test]
    fn contiguous_memory_or_what_to_do() {
        match allocate(HUGE_PAGE) {
            Ok((place, _, physical)) => {
                assert_eq!(place.len(), HUGE_PAGE);
                assert!(physical.is_multiple_of(HUGE) && physical != 0);
            }
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("nr_hugepages") || error.contains("CAP_SYS_ADMIN"), "{error}");
            }
        }
    }
}
