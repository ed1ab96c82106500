//! Where DMA buffers come from: a few large arenas, mapped once, cut up.

use super::pin::{Lent, Pages, Run};
use super::{Arena, DmaBuf, DmaError, Iova, IovaAllocator};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Makes arenas visible to the device: the IOMMU's side of a platform.
pub trait DmaMapper: Send + Sync {
    /// Memory to be mapped. A platform whose device sees physical addresses makes it [contiguous](Arena::contiguous), and
    /// is told to map it where it is.
    fn arena(&self, len: usize) -> Result<Arena, DmaError> {
        Arena::new(len)
    }
    /// Lets the device read and write all of `arena` at `iova`.
    fn map(&self, iova: Iova, arena: &Arena) -> Result<(), DmaError>;
    /// Lets the device read and write memory that is not an arena's, at `iova`: [`DmaHeap::pin`].
    ///
    /// A platform that cannot do so with memory that has no file refuses, which is what this does where it is not overridden.
    fn map_pages(&self, iova: Iova, pages: &Pages) -> Result<(), DmaError> {
        let _ = (iova, pages);
        Err(DmaError::NotLendable {
            cause: "this platform lends memory to the device by its file, and this memory has none",
            advice: "take the buffer from the platform's own memory (DmaHeap::allocate)",
        })
    }
    /// Takes a mapping back; the device must not use it any more.
    fn unmap(&self, iova: Iova, len: u64) -> Result<(), DmaError>;
}

/// Smallest arena: large pages fit, and the IOMMU keeps few entries.
const ARENA_BYTES: usize = 4 << 20;
/// Alignment of arenas in the device's address space.
const ARENA_ALIGN: u64 = 2 << 20;
/// Allocation granularity: a cache line, so that no two owners share one.
const GRAIN: usize = 64;

/// Cuts arenas into buffers. Clones share the same heap; buffers may outlive every clone.
#[derive(Clone)]
pub struct DmaHeap {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub mapper: Arc<dyn DmaMapper>,
    state: Mutex<State>,
}

pub(super) struct State {
    pub space: IovaAllocator,
    arenas: Vec<Arc<Mapped>>,
    /// Memory of callers by first address and bytes.
    pub runs: HashMap<(usize, usize), Weak<Run>>,
}

impl Inner {
    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

struct Mapped {
    mapper: Arc<dyn DmaMapper>,
    arena: Arena,
    iova: Iova,
    /// Free (offset, len), sorted, disjoint, not adjacent.
    free: Mutex<Vec<(usize, usize)>>,
}

/// What a buffer's memory belongs to; released when the last buffer that shares it is dropped.
#[derive(Debug)]
pub(super) enum Keeper {
    /// A piece of an arena.
    Arena(Allocation),
    /// Memory of a caller.
    Caller(Lent),
}

impl Keeper {
    /// Where the memory begins, and its bytes.
    #[inline(always)]
    pub fn memory(&self) -> (*mut u8, usize) {
        match self {
            Keeper::Arena(allocation) => (allocation.mapped.arena.address(), allocation.mapped.arena.len()),
            Keeper::Caller(lent) => lent.memory(),
        }
    }

    /// The same place as the device sees it.
    #[inline(always)]
    pub fn iova(&self) -> Iova {
        match self {
            Keeper::Arena(allocation) => allocation.mapped.iova,
            Keeper::Caller(lent) => lent.iova(),
        }
    }
}

/// A piece taken out of an arena; goes back when it is dropped.
pub(super) struct Allocation {
    mapped: Arc<Mapped>,
    heap: Weak<Inner>,
    offset: usize,
    len: usize,
}

impl std::fmt::Debug for Allocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x} bytes at {}", self.len, self.mapped.iova.offset(self.offset as u64))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves the lists usable: every change is complete before anything can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mapped {
    fn take(&self, len: usize, align: usize) -> Option<usize> {
        let base = self.iova.get() as usize;
        let mut free = lock(&self.free);
        for i in 0..free.len() {
            let (start, size) = free[i];
            let at = (base + start).next_multiple_of(align) - base;
            if at + len > start + size {
                continue;
            }
            let mut rest = Vec::new();
            if at > start {
                rest.push((start, at - start));
            }
            if at + len < start + size {
                rest.push((at + len, start + size - at - len));
            }
            free.splice(i..=i, rest);
            return Some(at);
        }
        None
    }

    fn give(&self, offset: usize, len: usize) {
        let mut free = lock(&self.free);
        let at = free.partition_point(|piece| piece.0 < offset);
        free.insert(at, (offset, len));
        if at + 1 < free.len() && free[at].0 + free[at].1 == free[at + 1].0 {
            free[at].1 += free[at + 1].1;
            free.remove(at + 1);
        }
        if at > 0 && free[at - 1].0 + free[at - 1].1 == free[at].0 {
            free[at - 1].1 += free[at].1;
            free.remove(at);
        }
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if self.heap.strong_count() > 0 {
            self.mapped.give(self.offset, self.len);
        }
    }
}

impl DmaHeap {
    /// A heap over the device addresses of `space`.
    pub fn new(mapper: Arc<dyn DmaMapper>, space: IovaAllocator) -> DmaHeap {
        let state = State { space, arenas: Vec::new(), runs: HashMap::new() };
        DmaHeap { inner: Arc::new(Inner { mapper, state: Mutex::new(state) }) }
    }

    /// Allocates `len` bytes, zeroed, whose device address is a multiple of `align` (a power of two).
    pub fn allocate(&self, len: usize, align: usize) -> Result<DmaBuf, DmaError> {
        if len == 0 || !align.is_power_of_two() || align as u64 > ARENA_ALIGN {
            return Err(DmaError::BadRequest { bytes: len, align });
        }
        let size = len.checked_next_multiple_of(GRAIN).ok_or(DmaError::BadRequest { bytes: len, align })?;
        let align = align.max(GRAIN);
        let mut state = self.inner.state();
        let found = state.arenas.iter().find_map(|m| m.take(size, align).map(|at| (Arc::clone(m), at)));
        let (mapped, offset) = match found {
            Some(found) => found,
            None => {
                let mapped = self.grow(&mut state, size)?;
                let at = mapped.take(size, align).ok_or(DmaError::BadRequest { bytes: len, align })?;
                (mapped, at)
            }
        };
        let allocation = Allocation { mapped, heap: Arc::downgrade(&self.inner), offset, len: size };
        let buffer = DmaBuf::new(Arc::new(Keeper::Arena(allocation)), offset, len);
        buffer.fill(0, len, 0);
        Ok(buffer)
    }

    fn grow(&self, state: &mut State, at_least: usize) -> Result<Arc<Mapped>, DmaError> {
        let least = at_least.checked_next_multiple_of(ARENA_ALIGN as usize);
        let least = least.ok_or(DmaError::BadRequest { bytes: at_least, align: ARENA_ALIGN as usize })?;
        // Doubling keeps the number of mappings logarithmic in the memory used: IOMMU drivers and the model look them up.
        let total: usize = state.arenas.iter().map(|m| m.arena.len()).sum();
        let len = least.max(ARENA_BYTES).max(total.min(256 << 20));
        let mapped = self.add_arena(state, len).or_else(|error| match len > least {
            // What is needed may be had where more is not: locked memory is limited, and so are huge pages.
            true => self.add_arena(state, least),
            false => Err(error),
        })?;
        let mapped = Arc::new(mapped);
        state.arenas.push(Arc::clone(&mapped));
        Ok(mapped)
    }

    fn add_arena(&self, state: &mut State, len: usize) -> Result<Mapped, DmaError> {
        let mapper = &self.inner.mapper;
        let arena = mapper.arena(len)?;
        let iova = match arena.physical() {
            Some(place) => Iova::physical(place),
            None => state.space.allocate(len as u64, ARENA_ALIGN).ok_or(DmaError::NoIova { bytes: len as u64 })?,
        };
        if let Err(error) = mapper.map(iova, &arena) {
            if arena.physical().is_none() {
                state.space.release(iova, len as u64);
            }
            return Err(error);
        }
        log::info!("{} KiB of DMA memory on {} pages", len >> 10, if arena.is_huge() { "huge" } else { "ordinary" });
        Ok(Mapped { mapper: Arc::clone(mapper), arena, iova, free: Mutex::new(vec![(0, len)]) })
    }

    /// Bytes in arenas, and bytes of these handed out.
    pub fn usage(&self) -> (usize, usize) {
        let state = self.inner.state();
        let total = state.arenas.iter().map(|m| m.arena.len()).sum();
        let free: usize = state.arenas.iter().map(|m| lock(&m.free).iter().map(|f| f.1).sum::<usize>()).sum();
        (total, total - free)
    }
}

impl DmaHeap {
    /// Bytes in arenas that are on huge pages.
    pub fn huge(&self) -> usize {
        self.inner.state().arenas.iter().filter(|m| m.arena.is_huge()).map(|m| m.arena.len()).sum()
    }
}

impl Drop for Mapped {
    /// The heap and every buffer of the arena are gone. A buffer that was quarantined never goes, so what the device may
    /// still write stays mapped.
    fn drop(&mut self) {
        if let Err(error) = self.mapper.unmap(self.iova, self.arena.len() as u64) {
            log::warn!("DMA memory at {} stays mapped: {error}", self.iova);
        }
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | two buffers never share a cache line | `buffers_do_not_overlap` |
    //! | memory comes back when the last part of a split is dropped | `memory_comes_back` |
    //! | where a large arena is refused, a small one serves | `a_small_arena_serves` |
    //! | memory stays mapped as long as somebody holds a piece of it | `held_memory_stays_mapped` |
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Counting {
        mapped: AtomicUsize,
        unmapped: AtomicUsize,
    }

    impl DmaMapper for Counting {
        fn map(&self, _: Iova, _: &Arena) -> Result<(), DmaError> {
            self.mapped.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        fn unmap(&self, _: Iova, _: u64) -> Result<(), DmaError> {
            self.unmapped.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    fn heap(mapper: &Arc<Counting>) -> DmaHeap {
        DmaHeap::new(Arc::clone(mapper) as Arc<dyn DmaMapper>, IovaAllocator::new(&[0..=u64::MAX >> 16]))
    }

    #[test]
    fn buffers_do_not_overlap() {
        let heap = heap(&Arc::default());
        // Every pair is compared: Miri takes a minute for two hundred.
        let count = if cfg!(miri) { 40 } else { 200 };
        let all: Vec<_> = (1..count).map(|n| heap.allocate(n, 1 << (n % 13)).expect("memory")).collect();
        for (n, a) in all.iter().enumerate() {
            assert!(a.iova().get().is_multiple_of(1 << ((n + 1) % 13)));
            for b in &all[..n] {
                let (a0, a1) = (a.iova().get(), a.iova().get() + a.len() as u64);
                let (b0, b1) = (b.iova().get(), b.iova().get() + b.len() as u64);
                assert!(a1.next_multiple_of(64) <= b0 || b1.next_multiple_of(64) <= a0);
            }
        }
    }

    #[test]
    fn memory_comes_back() {
        let mapper = Arc::default();
        let heap = heap(&mapper);
        let (a, b) = heap.allocate(100_000, 4096).expect("memory").split_at(333);
        a.write(0, &[7; 333]);
        assert_eq!(b.read_array::<4>(0), [0; 4]);
        drop(a);
        assert_ne!(heap.usage().1, 0);
        drop(b);
        assert_eq!(heap.usage().1, 0);
        assert!(heap.allocate(9 << 20, 4096).is_ok(), "larger than the first arena");
        drop(heap);
        assert_eq!(mapper.unmapped.load(Ordering::Relaxed), mapper.mapped.load(Ordering::Relaxed));
    }

    /// Has huge pages, but few of them.
    struct Poor;

    impl DmaMapper for Poor {
        fn arena(&self, len: usize) -> Result<Arena, DmaError> {
            match len > 2 << 20 {
                true => Err(DmaError::Memory { bytes: len, cause: "so much is not there".into() }),
                false => Arena::new(len),
            }
        }
        fn map(&self, _: Iova, _: &Arena) -> Result<(), DmaError> {
            Ok(())
        }
        fn unmap(&self, _: Iova, _: u64) -> Result<(), DmaError> {
            Ok(())
        }
    }

    #[test]
    fn a_small_arena_serves() {
        let heap = DmaHeap::new(Arc::new(Poor), IovaAllocator::new(&[0..=u64::MAX >> 16]));
        assert!(heap.allocate(1 << 20, 64).is_ok());
        assert_eq!((heap.usage().0, heap.huge()), (2 << 20, 0));
        let error = heap.allocate(3 << 20, 64).expect_err("too much").to_string();
        assert!(error.contains("4194304"), "what was needed: {error}");
    }

    #[test]
    fn held_memory_stays_mapped() {
        let mapper = Arc::default();
        let heap = heap(&mapper);
        let buffer = heap.allocate(64, 64).expect("memory");
        drop(heap);
        assert_eq!(mapper.unmapped.load(Ordering::Relaxed), 0);
        buffer.write(0, &[1]);
        drop(buffer);
        assert_eq!(mapper.unmapped.load(Ordering::Relaxed), 1);
    }
}
