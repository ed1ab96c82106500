//! Memory of the caller, lent to the device where it is: any address, any length.
//!
//! ```text
//!   page            page            page            page         this process
//!   │     ┌─────────────────────────────────┐         │
//!   │     │       what the caller lends     │         │
//!   │     └─────────────────────────────────┘         │
//!   ▼ offset                                          ▼
//!   └──────────── mapped at an IOVA with the same offset ┘       the device
//! ```
//!
//! An IOMMU translates whole pages, so the device is let into the pages around what is lent, and the bytes beside it are its
//! to reach as well: a device that is not trusted with a neighbour needs memory that begins and ends with a page. What lies
//! in exactly the pages of something that is lent already shares its mapping, which stays until both are given back; what
//! only overlaps it is mapped once more, at another address, because what was lent first may be given back first.
//!
//! Ownership is taken for as long as the memory is lent, so that no Rust reference points into it; the same vector comes back
//! once the last piece of it is gone ([`Lease`]). Should the platform refuse to take a mapping back, the memory is never given
//! back: the device may still write it.
#![allow(unsafe_code)] // Memory is given away and comes back by address; each block says who has it.

use super::heap::{DmaHeap, DmaMapper, Inner, Keeper};
use super::{DmaBuf, DmaError, Iova};
use std::any::Any;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};
use vm_memory::MmapRegion;

/// From this size on a run keeps its place relative to a large page, so that the IOMMU can use large pages where the kernel
/// backs the memory with them.
const LARGE_PAGE: usize = 2 << 20;

/// Bytes of a page of this machine.
#[cfg(not(miri))]
fn page_bytes() -> usize {
    rustix::param::page_size()
}

/// Miri's machine does not say.
#[cfg(miri)]
fn page_bytes() -> usize {
    4096
}

/// Whole pages of this process that the device is to be let into. They are kept while they are mapped.
#[derive(Debug)]
pub struct Pages {
    region: Arc<MmapRegion>,
}

impl Pages {
    /// The pages around `[address, address + len)`; `None` if there are no such addresses.
    ///
    /// # Safety
    /// The range stays mapped in this process as long as the value is used.
    unsafe fn around(address: NonNull<u8>, len: usize) -> Option<Pages> {
        // Readable and writable, shared with the device: PROT_READ | PROT_WRITE, MAP_SHARED.
        const READ_WRITE: i32 = 1 | 2;
        const SHARED: i32 = 1;
        let page = page_bytes();
        let before = address.addr().get() % page;
        let bytes = before.checked_add(len)?.checked_next_multiple_of(page)?;
        let first = address.as_ptr().wrapping_sub(before);
        first.addr().checked_add(bytes)?;
        // SAFETY: pages exist as a whole if a byte of them does, as the caller promises; the region is a description of them
        // and takes nothing away when it is dropped.
        let region = unsafe { MmapRegion::build_raw(first, bytes, READ_WRITE, SHARED) };
        region.ok().map(|region| Pages { region: Arc::new(region) })
    }

    /// Where they begin; aligned to a page.
    pub fn address(&self) -> *mut u8 {
        self.region.as_ptr()
    }

    /// Bytes: whole pages.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one page")]
    pub fn len(&self) -> usize {
        self.region.size()
    }

    /// The same as memory that a device in this process can use. Whoever keeps it keeps the memory from going back.
    pub fn region(&self) -> &Arc<MmapRegion> {
        &self.region
    }

    fn key(&self) -> (usize, usize) {
        (self.address().addr(), self.len())
    }
}

/// Pages that are mapped for the device, for everything that was lent in exactly these.
pub(super) struct Run {
    mapper: Arc<dyn DmaMapper>,
    heap: Weak<Inner>,
    pages: Pages,
    iova: Iova,
    /// Addresses taken for it: the run, and what is before it in its first large page.
    reserved: (Iova, u64),
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} bytes at {}", self.pages.len(), self.iova)
    }
}

impl Run {
    fn of(heap: &DmaHeap, pages: Pages) -> Result<Arc<Run>, DmaError> {
        let mut state = heap.inner.state();
        let key = pages.key();
        if let Some(run) = state.runs.get(&key).and_then(Weak::upgrade) {
            return Ok(run);
        }
        let align = if pages.len() >= LARGE_PAGE { LARGE_PAGE } else { page_bytes() };
        let lead = (key.0 % align) as u64;
        let bytes = lead + pages.len() as u64;
        let start = state.space.allocate(bytes, align as u64).ok_or(DmaError::NoIova { bytes })?;
        let iova = start.offset(lead);
        if let Err(error) = heap.inner.mapper.map_pages(iova, &pages) {
            state.space.release(start, bytes);
            return Err(error);
        }
        let run = Arc::new(Run {
            mapper: Arc::clone(&heap.inner.mapper),
            heap: Arc::downgrade(&heap.inner),
            pages,
            iova,
            reserved: (start, bytes),
        });
        state.runs.insert(key, Arc::downgrade(&run));
        Ok(run)
    }

    /// Takes the mapping back; false if the platform does not.
    fn unmap(self) -> bool {
        if let Err(error) = self.mapper.unmap(self.iova, self.pages.len() as u64) {
            log::error!("memory that was lent at {} stays with the device, and is not given back: {error}", self.iova);
            return false;
        }
        let key = self.pages.key();
        if Arc::into_inner(self.pages.region).is_none() {
            log::error!("memory that was lent at {} is still used by the platform, and is not given back", self.iova);
            return false;
        }
        if let Some(heap) = self.heap.upgrade() {
            let mut state = heap.state();
            state.space.release(self.reserved.0, self.reserved.1);
            // The same pages may have been lent again meanwhile.
            if state.runs.get(&key).is_some_and(|run| run.strong_count() == 0) {
                state.runs.remove(&key);
            }
        }
        true
    }
}

/// Who gets the memory back.
enum Owner {
    /// A vector, taken apart: nothing may claim to own its bytes alone while the device has them.
    Vec { bytes: NonNull<u8>, len: usize, capacity: usize },
    /// Somebody who sees to it.
    Other { _owner: Box<dyn Any + Send + Sync> },
}

impl Owner {
    fn of(memory: Vec<u8>) -> Owner {
        let mut memory = ManuallyDrop::new(memory);
        let bytes = NonNull::new(memory.as_mut_ptr()).expect("a vector has an address");
        Owner::Vec { bytes, len: memory.len(), capacity: memory.capacity() }
    }

    /// The vector, or that which somebody else gave.
    fn take(self) -> Option<Vec<u8>> {
        match self {
            // SAFETY: the parts are those of a vector that was taken apart in `of`, and this uses them up.
            Owner::Vec { bytes, len, capacity } => Some(unsafe { Vec::from_raw_parts(bytes.as_ptr(), len, capacity) }),
            Owner::Other { .. } => None,
        }
    }
}

/// Memory that a caller lent.
pub(super) struct Lent {
    /// Until it is given back.
    parts: Option<(Arc<Run>, Owner)>,
    address: NonNull<u8>,
    len: usize,
    iova: Iova,
}

// SAFETY: the addresses make this not `Send` by default. They are a vector's, which would be `Send` and `Sync` itself, or
// memory whose lender promised that any thread may use it; accesses go through `Span`, which allows one thread at a time.
unsafe impl Send for Lent {}
// SAFETY: as above; a shared `Lent` gives out numbers only.
unsafe impl Sync for Lent {}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} bytes lent at {}", self.len, self.iova)
    }
}

impl Lent {
    pub fn memory(&self) -> (*mut u8, usize) {
        (self.address.as_ptr(), self.len)
    }

    pub fn iova(&self) -> Iova {
        self.iova
    }

    /// Ends it. `None` if the device may still reach the memory, which nobody gets then.
    fn release(&mut self) -> Option<Owner> {
        let (run, owner) = self.parts.take()?;
        match Arc::into_inner(run).is_none_or(Run::unmap) {
            true => Some(owner),
            false => {
                // Never freed: the device may write it.
                std::mem::forget(owner);
                None
            }
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        drop(self.release().and_then(Owner::take));
    }
}

/// Memory that is lent to a device, and the way to have it back ([`DmaHeap::pin`]).
///
/// Dropped instead of ended, the memory is freed when the last piece of it is gone.
#[derive(Debug)]
#[must_use = "the memory comes back by ending the lease"]
pub struct Lease(Arc<Keeper>);

/// Why memory does not come back.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Pieces of it are still in use: buffers, or what a firmware object holds. Later, try again.
    #[error("pieces of the memory are still in use: it comes back when the last is dropped")]
    InUse(Lease),
    /// The platform did not take the mapping back, so the device may write the memory for ever; it was leaked on purpose.
    #[error("the platform did not take the memory back from the device: it stays allocated")]
    Stuck,
}

impl Lease {
    /// The vector that was lent, once no piece of it is left: the device cannot reach it any more.
    pub fn end(self) -> Result<Vec<u8>, LeaseError> {
        match Arc::try_unwrap(self.0) {
            Err(keeper) => Err(LeaseError::InUse(Lease(keeper))),
            Ok(Keeper::Caller(mut lent)) => lent.release().and_then(Owner::take).ok_or(LeaseError::Stuck),
            Ok(Keeper::Arena(_)) => Err(LeaseError::Stuck),
        }
    }
}

/// Memory that could not be lent, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct PinError {
    /// The memory, as it was.
    pub memory: Vec<u8>,
    /// Why.
    #[source]
    pub error: DmaError,
}

impl DmaHeap {
    /// Lends a vector to the device: its bytes, not what is behind them in its capacity, with what they hold.
    ///
    /// The buffer can be split, and its pieces put into an [`IoBuf`](super::IoBuf), at any byte. Each call is a mapping in
    /// the IOMMU, and the memory is locked: lend what is used often for long, not each read anew.
    pub fn pin(&self, memory: Vec<u8>) -> Result<(DmaBuf, Lease), PinError> {
        if memory.is_empty() {
            return Err(PinError { memory, error: DmaError::BadRequest { bytes: 0, align: 1 } });
        }
        let len = memory.len();
        let owner = Owner::of(memory);
        let Owner::Vec { bytes, .. } = &owner else { unreachable!("it was made of a vector") };
        // SAFETY: the vector was taken apart: its bytes are nobody's but the owner's, which `Lent` keeps.
        match unsafe { self.lend(*bytes, len, owner) } {
            Ok(keeper) => Ok((DmaBuf::new(Arc::clone(&keeper), 0, len), Lease(keeper))),
            Err((error, owner)) => Err(PinError { memory: owner.take().unwrap_or_default(), error }),
        }
    }

    /// Lends any memory of this process to the device: `len` bytes from `address` on. `owner` is dropped when the device
    /// cannot reach the memory any more: after the last piece of the buffer, and never if the device keeps one for good.
    ///
    /// # Safety
    /// Until `owner` is dropped, the memory is valid for reads and writes by any thread and stays at its address; no Rust
    /// reference to it exists, and nobody but the holders of the buffer's pieces accesses it, other buffers over the same
    /// bytes included. Memory that is only readable must not be lent.
    pub unsafe fn pin_raw(
        &self,
        address: NonNull<u8>,
        len: usize,
        owner: impl Any + Send + Sync,
    ) -> Result<DmaBuf, DmaError> {
        let owner = Owner::Other { _owner: Box::new(owner) };
        // SAFETY: as the caller promises.
        let keeper = unsafe { self.lend(address, len, owner) }.map_err(|(error, _)| error)?;
        Ok(DmaBuf::new(keeper, 0, len))
    }

    /// # Safety
    /// The memory is valid, and accessed by nobody else, until `owner` is dropped.
    unsafe fn lend(&self, address: NonNull<u8>, len: usize, owner: Owner) -> Result<Arc<Keeper>, (DmaError, Owner)> {
        let bad = DmaError::BadRequest { bytes: len, align: 1 };
        // SAFETY: `Lent` keeps the owner for as long as it keeps the run.
        let pages = match unsafe { Pages::around(address, len) }.filter(|_| len != 0) {
            Some(pages) => pages,
            None => return Err((bad, owner)),
        };
        let offset = address.addr().get() - pages.address().addr();
        let run = match Run::of(self, pages) {
            Ok(run) => run,
            Err(error) => return Err((error, owner)),
        };
        let iova = run.iova.offset(offset as u64);
        Ok(Arc::new(Keeper::Caller(Lent { parts: Some((run, owner)), address, len, iova })))
    }

    /// Bytes of callers' memory that are mapped for the device: whole pages.
    pub fn pinned(&self) -> usize {
        let state = self.inner.state();
        state.runs.iter().filter(|(_, run)| run.strong_count() != 0).map(|(key, _)| key.1).sum()
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the device's address has the offset in its page that the memory has, and leads to the same byte | `addresses_keep_their_offset` |
    //! | what is lent in the same pages shares a mapping, which goes with the last; what overlaps has its own | `pages_are_mapped_once` |
    //! | the same vector comes back, with what was written, and only when no piece is left | `the_same_vector_comes_back` |
    //! | a lease that is dropped frees the memory with its last piece | `a_dropped_lease_frees_with_the_last_piece` |
    //! | memory that cannot be lent comes back at once, and leaves no address taken | `a_refusal_gives_the_memory_back` |
    //! | memory that the platform does not take back, or keeps, never goes back | `what_stays_mapped_is_never_freed` |
    use super::*;
    use crate::dma::{Arena, IoBuf, IovaAllocator};
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// An IOMMU that remembers.
    #[derive(Default)]
    struct Iommu {
        mapped: Mutex<BTreeMap<u64, (usize, usize)>>,
        refuses: AtomicBool,
        keeps: Mutex<Vec<Arc<MmapRegion>>>,
    }

    impl DmaMapper for Iommu {
        fn map(&self, _: Iova, _: &Arena) -> Result<(), DmaError> {
            Ok(())
        }
        fn map_pages(&self, iova: Iova, pages: &Pages) -> Result<(), DmaError> {
            if self.refuses.load(Ordering::Relaxed) {
                return Err(DmaError::NotLendable { cause: "no", advice: "none" });
            }
            let before = self.mapped.lock().expect("a lock").insert(iova.get(), (pages.address().addr(), pages.len()));
            assert!(before.is_none());
            Ok(())
        }
        fn unmap(&self, iova: Iova, len: u64) -> Result<(), DmaError> {
            if self.refuses.load(Ordering::Relaxed) {
                return Err(DmaError::Map { iova, bytes: len, cause: "no".into(), advice: "none" });
            }
            let was = self.mapped.lock().expect("a lock").remove(&iova.get());
            assert_eq!(was.map(|(_, bytes)| bytes as u64), Some(len));
            Ok(())
        }
    }

    impl Iommu {
        /// Address in this process of what the device sees at an address.
        fn translate(&self, iova: Iova) -> usize {
            let mapped = self.mapped.lock().expect("a lock");
            let (start, (address, len)) = mapped.range(..=iova.get()).next_back().expect("mapped");
            let at = (iova.get() - start) as usize;
            assert!(at < *len, "{iova} is mapped");
            address + at
        }
        fn mappings(&self) -> usize {
            self.mapped.lock().expect("a lock").len()
        }
    }

    fn heap() -> (Arc<Iommu>, DmaHeap) {
        let iommu = Arc::new(Iommu::default());
        let heap = DmaHeap::new(Arc::clone(&iommu) as Arc<dyn DmaMapper>, IovaAllocator::new(&[0..=(1 << 40) - 1]));
        (iommu, heap)
    }

    /// Memory for a test, which accesses it through buffers only, and frees it when they are gone.
    fn memory(len: usize) -> (ManuallyDrop<Vec<u8>>, NonNull<u8>) {
        let mut memory = ManuallyDrop::new(vec![0; len]);
        let address = NonNull::new(memory.as_mut_ptr()).expect("an address");
        (memory, address)
    }

    /// Lends a part of such memory.
    fn lend<O: Send + Sync + 'static>(heap: &DmaHeap, memory: NonNull<u8>, part: (usize, usize), owner: O) -> DmaBuf {
        // SAFETY: see `memory`.
        unsafe { heap.pin_raw(memory.add(part.0), part.1, owner) }.expect("lent")
    }

    #[test]
    fn addresses_keep_their_offset() {
        let (iommu, heap) = heap();
        for len in [1, 2, 63, 4095, 4096, 4097, 12_345, 3 << 20] {
            let memory = vec![0u8; len];
            let address = memory.as_ptr().addr();
            let (buffer, lease) = heap.pin(memory).expect("lent");
            assert_eq!(iommu.translate(buffer.iova()), address);
            assert_eq!(iommu.translate(buffer.iova_at(len - 1)), address + len - 1);
            if len >= LARGE_PAGE {
                assert_eq!(buffer.iova().get() % LARGE_PAGE as u64, (address % LARGE_PAGE) as u64);
            }
            let (first, rest) = buffer.split_at(len / 3);
            assert_eq!(iommu.translate(rest.iova()), address + len / 3);
            let list = IoBuf::new(vec![rest, first]);
            assert_eq!(list.len(), len);
            drop(list);
            assert!(lease.end().is_ok());
        }
        assert_eq!((iommu.mappings(), heap.pinned()), (0, 0));
    }

    #[test]
    fn pages_are_mapped_once() {
        let (iommu, heap) = heap();
        let page = page_bytes();
        let (owned, memory) = memory(4 * page);
        let start = page - memory.addr().get() % page;
        let a = lend(&heap, memory, (start + 1, 100), ());
        let b = lend(&heap, memory, (start + 200, page - 200), ());
        assert_eq!((iommu.mappings(), heap.pinned()), (1, page));
        assert_eq!(b.iova().get() - a.iova().get(), 199);
        // Over the end of that page.
        let c = lend(&heap, memory, (start + page - 10, 20), ());
        assert_eq!((iommu.mappings(), heap.pinned()), (2, 3 * page));
        a.write(0, &[1; 100]);
        drop(a);
        assert_eq!(iommu.mappings(), 2, "the other is in the same page");
        assert_eq!(iommu.translate(b.iova()), memory.addr().get() + start + 200);
        drop(b);
        assert_eq!((iommu.mappings(), heap.pinned()), (1, 2 * page));
        let again = lend(&heap, memory, (start, 1), ());
        assert_eq!(iommu.mappings(), 2);
        drop((again, c));
        drop(ManuallyDrop::into_inner(owned));
        assert_eq!((iommu.mappings(), heap.pinned()), (0, 0));
    }

    #[test]
    fn the_same_vector_comes_back() {
        let (_, heap) = heap();
        let mut memory = Vec::with_capacity(1000);
        memory.extend(0..100u8);
        let was = (memory.as_ptr().addr(), memory.capacity());
        let (buffer, lease) = heap.pin(memory).expect("lent");
        assert_eq!(buffer.to_vec(), (0..100).collect::<Vec<u8>>());
        let (first, second) = buffer.split_at(7);
        let hold = second.hold();
        second.write(1, &[200, 201]);
        drop(first);
        let Err(LeaseError::InUse(lease)) = lease.end() else { panic!("a piece is left") };
        drop(second);
        let Err(LeaseError::InUse(lease)) = lease.end() else { panic!("a hold is left") };
        drop((hold, heap));
        let memory = lease.end().expect("nothing is left");
        assert_eq!((memory.as_ptr().addr(), memory.capacity(), memory.len()), (was.0, was.1, 100));
        assert_eq!(memory[6..11], [6, 7, 200, 201, 10]);
    }

    #[test]
    fn a_dropped_lease_frees_with_the_last_piece() {
        let (iommu, heap) = heap();
        let (buffer, lease) = heap.pin(vec![0; 10]).expect("lent");
        drop(lease);
        buffer.write(9, &[1]);
        assert_eq!(iommu.mappings(), 1);
        drop(buffer);
        assert_eq!(iommu.mappings(), 0);
        // Whoever else owns memory hears of its end.
        let owner = Arc::new(());
        let (owned, memory) = memory(10);
        let buffer = lend(&heap, memory, (0, 10), Arc::clone(&owner));
        assert_eq!(Arc::strong_count(&owner), 2);
        drop(buffer);
        assert_eq!(Arc::strong_count(&owner), 1);
        drop(ManuallyDrop::into_inner(owned));
    }

    #[test]
    fn a_refusal_gives_the_memory_back() {
        let (iommu, heap) = heap();
        iommu.refuses.store(true, Ordering::Relaxed);
        let refused = heap.pin(vec![5; 10]).expect_err("refused");
        assert_eq!(refused.memory, [5; 10]);
        assert!(matches!(refused.error, DmaError::NotLendable { .. }));
        assert!(heap.pin(Vec::new()).expect_err("nothing to lend").memory.is_empty());
        let first = |heap: &DmaHeap| heap.pin(vec![0; 10]).expect("lent").0.iova().get() & !0xfff;
        iommu.refuses.store(false, Ordering::Relaxed);
        assert_eq!(first(&heap), first(&heap), "the address is free again");
    }

    #[test]
    #[cfg_attr(miri, ignore = "it leaks on purpose")]
    fn what_stays_mapped_is_never_freed() {
        let (iommu, heap) = heap();
        let owner = Arc::new(());
        let (_, memory) = memory(10);
        let buffer = lend(&heap, memory, (0, 10), Arc::clone(&owner));
        let kept = heap.inner.state().runs.values().find_map(Weak::upgrade).expect("a run");
        iommu.keeps.lock().expect("a lock").push(Arc::clone(kept.pages.region()));
        drop(kept);
        drop(buffer);
        assert_eq!(Arc::strong_count(&owner), 2, "the platform keeps the region");
        let (buffer, lease) = heap.pin(vec![0; 1 << 20]).expect("lent");
        iommu.refuses.store(true, Ordering::Relaxed);
        drop(buffer);
        assert!(matches!(lease.end(), Err(LeaseError::Stuck)));
    }
}
