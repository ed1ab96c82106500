//! Firmware's pages: memory that the function keeps its objects in (`mlx5-bringup.md` §3 steps 7, 12, 14; §9).
//!
//! Firmware has no memory of its own: at start it names how many 4 KiB pages it needs, later it asks for more or gives
//! some back by events. It works in a given page at any time, so a page is free again only when firmware has named it in
//! the answer to TAKE.

use crate::command::{CommandError, Output, Request};
use crate::dma::{DmaBuf, DmaError, DmaHeap};
use firmware_iface::command::device::{ManagePagesIn, ManagePagesOpMod, ManagePagesOut};
use hw_regs::layout::{Access, Layout};
use std::collections::BTreeMap;
use std::time::Duration;

/// Bytes of a firmware page.
pub const PAGE_BYTES: usize = 4096;
/// Pages allocated at a time: 2 MiB, one large page of the IOMMU.
const CHUNK_PAGES: usize = 512;
/// Pages taken back with one command.
pub(super) const TAKE_AT_ONCE: u32 = 768;
/// Pages taken back for one event (`mlx5-numbers.md`, "page reclaim").
pub(super) const TAKE_PER_EVENT: u32 = 50_000;

/// Which function pages belong to, as QUERY_PAGES and the events name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageOwner {
    /// Number of the function; 0 is this one for a physical function.
    pub function: u16,
    /// The function of the embedded CPU.
    pub embedded_cpu: bool,
}

/// Why pages could not be given or taken.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// More pages than the configuration allows.
    #[error(
        "firmware asks for {asked} pages and holds {held}; {limit} are allowed ({} MiB): raise Config::page_limit",
        (limit * PAGE_BYTES) >> 20
    )]
    Limit {
        /// Pages asked for.
        asked: usize,
        /// Pages that firmware holds.
        held: usize,
        /// Pages allowed.
        limit: usize,
    },
    /// No memory.
    #[error("no memory for {asked} firmware pages: {error}")]
    Memory {
        /// Pages asked for.
        asked: usize,
        /// Why.
        error: DmaError,
    },
    /// Firmware returned more pages than it was asked for.
    #[error("firmware claims to return {claimed} pages; {asked} were asked for")]
    TooMany {
        /// Pages asked for.
        asked: u32,
        /// Pages claimed.
        claimed: u32,
    },
    /// Firmware returned a page that it does not hold.
    #[error("firmware returned page {address:#x}, which it was not given or has returned before")]
    Foreign {
        /// Its device address.
        address: u64,
    },
    /// Firmware keeps pages that it should return.
    #[error("firmware still holds {held} pages after {waited:?}")]
    Kept {
        /// Pages held.
        held: usize,
        /// How long was waited.
        waited: Duration,
    },
    /// The command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
}

struct Chunk {
    memory: DmaBuf,
    free: Vec<u16>,
    given: Vec<bool>,
}

/// The pages of one function.
pub(super) struct PageStore {
    heap: DmaHeap,
    /// By device address.
    chunks: BTreeMap<u64, Chunk>,
    held: usize,
    limit: usize,
}

/// Pages set aside for firmware until it is known whether it took them.
#[derive(Debug)]
pub(super) struct Gift(Vec<u64>);

impl Gift {
    pub fn len(&self) -> u32 {
        self.0.len() as u32
    }
}

impl PageStore {
    pub fn new(heap: DmaHeap, limit: usize) -> PageStore {
        PageStore { heap, chunks: BTreeMap::new(), held: 0, limit }
    }

    /// Pages that firmware holds, or may hold.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Sets `count` pages aside and returns the command that gives them.
    pub fn give(&mut self, owner: PageOwner, count: usize) -> Result<(Request, Gift), PageError> {
        if count > self.limit.saturating_sub(self.held) {
            return Err(PageError::Limit { asked: count, held: self.held, limit: self.limit });
        }
        let mut pages = Vec::with_capacity(count);
        self.take_free(count, &mut pages);
        while pages.len() < count {
            let size = CHUNK_PAGES.min(count - pages.len());
            match self.heap.allocate(size * PAGE_BYTES, PAGE_BYTES) {
                Ok(memory) => {
                    let base = memory.iova().get();
                    let free = (0..size as u16).rev().collect();
                    self.chunks.insert(base, Chunk { memory, free, given: vec![false; size] });
                    self.take_free(count, &mut pages);
                }
                Err(error) => {
                    self.take_back(&pages);
                    return Err(PageError::Memory { asked: count, error });
                }
            }
        }
        let list: Vec<u8> = pages.iter().flat_map(|page| page.to_be_bytes()).collect();
        let request = manage(ManagePagesOpMod::ALLOCATION_SUCCESS, owner, count as u32).tail(&list);
        Ok((request, Gift(pages)))
    }

    fn take_free(&mut self, count: usize, pages: &mut Vec<u64>) {
        for (base, chunk) in &mut self.chunks {
            while pages.len() < count {
                let Some(index) = chunk.free.pop() else { break };
                chunk.given[usize::from(index)] = true;
                pages.push(base + u64::from(index) * PAGE_BYTES as u64);
                self.held += 1;
            }
        }
    }

    /// Firmware refused a gift, so the pages are free again.
    pub fn refused(&mut self, gift: Gift) {
        self.take_back(&gift.0);
    }

    fn take_back(&mut self, pages: &[u64]) {
        for page in pages {
            // Set aside above, so known.
            _ = self.release(*page);
        }
    }

    /// The command that asks for up to `count` pages back.
    pub fn take(&self, owner: PageOwner, count: u32) -> Request {
        manage(ManagePagesOpMod::HCA_RETURN_PAGES, owner, count)
            .output_len(ManagePagesOut::SIZE + count as usize * size_of::<u64>())
    }

    /// Frees the pages that the answer to [`PageStore::take`] names; returns how many. Pages that it names wrongly are
    /// not freed; the good ones beside them are.
    pub fn taken(&mut self, asked: u32, output: &Output) -> Result<u32, PageError> {
        let claimed = output.decode::<ManagePagesOut>().get(ManagePagesOut::OUTPUT_NUM_ENTRIES);
        if claimed > asked {
            return Err(PageError::TooMany { asked, claimed });
        }
        let mut result = Ok(claimed);
        let pages = output.tail(ManagePagesOut::PAS).chunks_exact(size_of::<u64>()).take(claimed as usize);
        for page in pages {
            let address = page.try_into().map_or(0, u64::from_be_bytes);
            if let Err(error) = self.release(address) {
                result = Err(error);
            }
        }
        result
    }

    fn release(&mut self, address: u64) -> Result<(), PageError> {
        let foreign = PageError::Foreign { address };
        let Some((base, chunk)) = self.chunks.range_mut(..=address).next_back() else { return Err(foreign) };
        let (base, offset) = (*base, (address - base) as usize);
        let index = offset / PAGE_BYTES;
        match chunk.given.get_mut(index) {
            Some(given) if *given && offset.is_multiple_of(PAGE_BYTES) => *given = false,
            _ => return Err(foreign),
        }
        chunk.free.push(index as u16);
        self.held -= 1;
        if chunk.free.len() == chunk.given.len() {
            self.chunks.remove(&base);
        }
        Ok(())
    }

    /// The command that says that no page can be given.
    pub fn cannot_give(&self, owner: PageOwner) -> Request {
        manage(ManagePagesOpMod::ALLOCATION_FAIL, owner, 0)
    }

    /// The device was reset: firmware has forgotten all pages.
    pub fn forget(&mut self) {
        self.chunks.clear();
        self.held = 0;
    }

    /// Keeps the memory of all pages from ever being used again. Returns how many pages firmware held.
    pub fn leak(&mut self) -> usize {
        for chunk in self.chunks.values() {
            std::mem::forget(chunk.memory.hold());
        }
        self.chunks.clear();
        std::mem::take(&mut self.held)
    }
}

fn manage(op_mod: ManagePagesOpMod, owner: PageOwner, count: u32) -> Request {
    Request::new(
        &ManagePagesIn::zeroed()
            .with(ManagePagesIn::OP_MOD, u32::from(op_mod.0))
            .with(ManagePagesIn::EMBEDDED_CPU_FUNCTION, u32::from(owner.embedded_cpu))
            .with(ManagePagesIn::FUNCTION_ID, u32::from(owner.function))
            .with(ManagePagesIn::INPUT_NUM_ENTRIES, count),
    )
}
