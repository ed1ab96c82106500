//! Mailboxes: where input and output beyond the first 16 bytes of a command lie.

use super::wire::{self, BLOCK_BYTES, MAILBOX_BYTES};
use super::{Fault, INLINE_BYTES, Place};
use crate::dma::{DmaBuf, DmaError, DmaHeap};
use hw_regs::command_queue::Mailbox;
use hw_regs::layout::{Access, Layout};

/// Alignment and spacing of blocks; the device ignores the low 9 bits of their addresses (`mlx5-bringup.md` §2).
const SPACING: usize = 1024;
/// Blocks allocated at a time.
const BATCH: usize = 64;
/// Blocks that a queue may own: enough for two commands of the greatest length.
const LIMIT: usize = 2 * wire::blocks(MAX_BYTES);
/// Greatest input or output: MANAGE_PAGES with 512 MiB of pages.
pub(super) const MAX_BYTES: usize = INLINE_BYTES + 131_072 * size_of::<u64>();

/// Blocks that no command uses. Blocks go back after a command's completion, never earlier.
pub(super) struct Pool {
    heap: DmaHeap,
    free: Vec<DmaBuf>,
    total: usize,
}

/// The blocks of one direction of one command.
#[derive(Debug, Default)]
pub(super) struct Chain {
    blocks: Vec<DmaBuf>,
}

impl Chain {
    /// Device address of the first block, 0 without one.
    pub fn address(&self) -> u64 {
        self.next_of(0)
    }

    fn next_of(&self, number: usize) -> u64 {
        self.blocks.get(number).map_or(0, |block| block.iova().get())
    }

    /// Writes the blocks: data of an input, zeros for an output.
    pub fn fill(&self, bytes: &[u8], token: u8) {
        for (number, block) in self.blocks.iter().enumerate() {
            let mailbox = wire::mailbox(wire::block_of(bytes, number), number, self.next_of(number + 1), token);
            block.write(0, wire::sign(mailbox).bytes());
        }
    }

    /// Appends the data of the blocks to `out` until it has `len` bytes. The control part must be as it was written: the
    /// device owns only the data.
    pub fn collect(&self, out: &mut Vec<u8>, len: usize, token: u8) -> Result<(), Fault> {
        for (number, block) in self.blocks.iter().enumerate() {
            let mailbox = Mailbox(block.read_array::<MAILBOX_BYTES>(0));
            let place = Place::Block(number);
            let found = mailbox.get(Mailbox::TOKEN) as u8;
            if found != token {
                return Err(Fault::Token { place, expected: token, found });
            }
            let (block_num, next) = (mailbox.get(Mailbox::BLOCK_NUM), mailbox.get_wide(Mailbox::NEXT));
            if block_num as usize != number || next != self.next_of(number + 1) {
                return Err(Fault::Mailbox { place, number: block_num, next });
            }
            let n = BLOCK_BYTES.min(len - out.len());
            out.extend_from_slice(&mailbox.bytes()[..n]);
        }
        Ok(())
    }

    /// The blocks as they are, one after the other.
    pub fn bytes(&self) -> Vec<u8> {
        self.blocks.iter().flat_map(|block| block.read_array::<MAILBOX_BYTES>(0)).collect()
    }

    /// Takes the blocks, so that nobody uses them again.
    pub fn leak(self) -> usize {
        self.blocks.into_iter().map(std::mem::forget).count()
    }
}

impl Pool {
    pub fn new(heap: DmaHeap) -> Pool {
        Pool { heap, free: Vec::new(), total: 0 }
    }

    /// The blocks for `len` bytes of input or output.
    pub fn take(&mut self, len: usize) -> Result<Chain, Fault> {
        let count = wire::blocks(len);
        if len > MAX_BYTES || (count > self.free.len() && self.total - self.free.len() + count > LIMIT) {
            return Err(Fault::TooLong { bytes: len, limit: MAX_BYTES.min(self.room()) });
        }
        while self.free.len() < count {
            self.grow().map_err(|error| Fault::Memory(error.into()))?;
        }
        Ok(Chain { blocks: self.free.split_off(self.free.len() - count) })
    }

    /// Bytes that one command could carry now.
    fn room(&self) -> usize {
        INLINE_BYTES + (LIMIT - (self.total - self.free.len())) * BLOCK_BYTES
    }

    fn grow(&mut self) -> Result<(), DmaError> {
        let mut rest = self.heap.allocate(BATCH * SPACING, SPACING)?;
        for _ in 0..BATCH {
            let (block, others) = rest.split_at(SPACING);
            self.free.push(block);
            rest = others;
        }
        self.total += BATCH;
        Ok(())
    }

    /// Gives the blocks of a completed command back.
    pub fn give(&mut self, chain: Chain) {
        self.free.extend(chain.blocks);
    }

    /// Blocks that commands hold now.
    pub fn in_use(&self) -> usize {
        self.total - self.free.len()
    }
}
