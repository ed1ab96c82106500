//! The namespace as it must be, and the requests under way.

use super::plan::BLOCK;
use crate::dma::{DmaHeap, IoBuf};
use crate::shard::ConnectionId;
use crate::transfer::difference;
use ethernet_wire::Random;
use nvme_target::Generated;
use std::collections::BTreeMap;
use std::ops::Range;

/// What a buffer is filled with when it came back: the device must never touch it again.
const GIVEN: u8 = 0xa5;

/// A request under way.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub connection: ConnectionId,
    pub write: bool,
    pub blocks: Range<u64>,
    pub cancelled: bool,
}

impl Request {
    pub fn bytes(&self) -> u64 {
        (self.blocks.end - self.blocks.start) * BLOCK
    }
}

/// The namespace's bytes, and who is at which of them.
pub(super) struct Namespace {
    image: Vec<u8>,
    /// Blocks that a failed write may or may not have changed.
    unknown: Vec<bool>,
    pub under_way: BTreeMap<u64, Request>,
    next: u64,
    given: Vec<IoBuf>,
}

impl Namespace {
    pub fn new(seed: u64, bytes: u64) -> Namespace {
        let mut image = vec![0; bytes as usize];
        Generated::fill(seed, 0, &mut image);
        let unknown = vec![false; (bytes / BLOCK) as usize];
        Namespace { image, unknown, under_way: BTreeMap::new(), next: 0, given: Vec::new() }
    }

    /// Blocks for a new request that conflict with nobody: a write is alone at its blocks.
    pub fn choose(&self, random: &mut Random, blocks: u64, write: bool) -> Option<Range<u64>> {
        let all = self.unknown.len() as u64;
        for _ in 0..6 {
            let first = random.between(0, all - blocks);
            let range = first..first + blocks;
            let meets = |other: &Request| other.blocks.start < range.end && range.start < other.blocks.end;
            let unknown = write && self.unknown[first as usize..range.end as usize].contains(&true);
            if !unknown && !self.under_way.values().any(|other| (write || other.write) && meets(other)) {
                return Some(range);
            }
        }
        None
    }

    /// Bytes that a write to these blocks brings.
    pub fn content(&self, token: u64, blocks: &Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; ((blocks.end - blocks.start) * BLOCK) as usize];
        Generated::fill(token ^ 0x5752_4954_4521, blocks.start * BLOCK, &mut bytes);
        bytes
    }

    /// Notes a request that has begun; returns its token.
    pub fn begin(&mut self, request: Request) -> u64 {
        let token = self.next;
        self.next += 1;
        self.under_way.insert(token, request);
        token
    }

    /// Gives up on a request that was not taken and never will be.
    pub fn skip(&mut self) {
        self.next += 1;
    }

    /// The token that the next request will have.
    pub fn next_token(&self) -> u64 {
        self.next
    }

    /// Requests that were begun or given up.
    pub fn begun(&self) -> u64 {
        self.next
    }

    /// Takes a buffer back for good.
    pub fn give(&mut self, buffer: IoBuf) {
        buffer.write(0, &vec![GIVEN; buffer.len()]);
        self.given.push(buffer);
    }

    /// A write has ended.
    pub fn written(&mut self, token: u64, blocks: &Range<u64>, success: bool) {
        let (first, end) = (blocks.start as usize, blocks.end as usize);
        if success {
            let content = self.content(token, blocks);
            self.image[first * BLOCK as usize..end * BLOCK as usize].copy_from_slice(&content);
        } else {
            self.unknown[first..end].fill(true);
        }
    }

    /// Bytes of a read that are not what they must be, and the place of the first in the read.
    pub fn wrong(&self, blocks: &Range<u64>, buffer: &IoBuf) -> (u64, u64) {
        let found = buffer.to_vec();
        let (mut wrong, mut first) = (0, 0);
        for (n, block) in (blocks.start..blocks.end).enumerate() {
            let (at, in_image) = (n * BLOCK as usize, (block * BLOCK) as usize);
            let len = BLOCK as usize;
            if self.unknown[block as usize] {
                continue;
            }
            let (a, b) = (&found[at..at + len], &self.image[in_image..in_image + len]);
            if let Some((differ, place)) = difference(a, b) {
                first = if wrong == 0 { at as u64 + place } else { first };
                wrong += differ;
            }
        }
        (wrong, first)
    }

    /// Buffers that changed after they had come back; all are let go.
    pub fn changed(&mut self) -> usize {
        let given = std::mem::take(&mut self.given);
        given.into_iter().filter(|buffer| buffer.to_vec().iter().any(|byte| *byte != GIVEN)).count()
    }

    /// A destination or source buffer: as many pieces as the plan has, or fewer.
    pub fn buffer(heap: &DmaHeap, bytes: u64, pieces: u32, seed: u64) -> Result<IoBuf, crate::dma::DmaError> {
        crate::demo::job::buffer(heap, bytes as usize, pieces.min(bytes as u32), seed)
    }
}
