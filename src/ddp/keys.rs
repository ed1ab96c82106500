//! Memory keys of tags that no queue has at the moment.
//!
//! A key is made to be pointed elsewhere by every binding, so it need not be of one connection: keys are by far the most of
//! a queue's commands, and a reconnected queue finds those of its predecessor. What is here is free in the device: a key
//! comes in only when the device has said that it forgot the last buffer, and when the tag buffer table that named the key
//! is gone, so that no late packet of the old connection finds a buffer of the new one.

use crate::adapter::{Handle, Objects, Refused};
use crate::platform::Deadline;

/// Blocks of keys, each for all tags of a queue.
#[derive(Debug)]
pub struct KeyPool {
    blocks: Vec<Handle>,
    keys: usize,
    limit: usize,
}

impl KeyPool {
    /// An empty pool that keeps at most `limit` keys.
    pub fn new(limit: u32) -> KeyPool {
        KeyPool { blocks: Vec::new(), keys: 0, limit: limit as usize }
    }

    /// Keys that wait for a queue.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// True if no key waits.
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// The smallest block for so many tags that is less than twice as large as need be.
    pub(super) fn take(&mut self, tags: u32) -> Option<Handle> {
        let tags = tags as usize;
        let fits = |block: &Handle| (tags..2 * tags).contains(&block.numbers().len());
        let fitting = self.blocks.iter().enumerate().filter(|(_, block)| fits(block));
        let (index, _) = fitting.min_by_key(|(_, block)| block.numbers().len())?;
        let block = self.blocks.swap_remove(index);
        self.keys -= block.numbers().len();
        Some(block)
    }

    /// Keeps keys that are free in the device and that no table names, or destroys them if there are too many. Returns what
    /// firmware refused to destroy.
    pub(super) fn give(&mut self, objects: &mut impl Objects, keys: Handle, deadline: Deadline) -> Vec<Refused> {
        let sum = self.keys + keys.numbers().len();
        if sum > self.limit {
            return objects.destroy_each(vec![keys], deadline);
        }
        self.keys = sum;
        self.blocks.push(keys);
        Vec::new()
    }

    /// Destroys all keys. Returns what firmware refused.
    pub(super) fn destroy(self, objects: &mut impl Objects, deadline: Deadline) -> Vec<Refused> {
        objects.destroy_each(self.blocks, deadline)
    }
}
