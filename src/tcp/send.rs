//! The send queue: bytes between the application and the last acknowledgment, in one ring.

use super::seq::Position;

/// Bytes of the first ring.
const LEAST: usize = 256;

/// A ring of bytes that remembers which position its first byte has. It grows to what was ever in it at a time: most
/// connections send little, and a function has thousands.
pub(super) struct SendQueue {
    /// Most bytes.
    capacity: usize,
    ring: Box<[u8]>,
    /// Where in the ring the first byte is.
    head: usize,
    len: usize,
    /// Position of the first byte.
    start: Position,
}

impl SendQueue {
    /// An empty queue for `capacity` bytes whose first byte will have position `start`.
    pub(super) fn new(capacity: usize, start: Position) -> SendQueue {
        SendQueue { capacity, ring: Box::default(), head: 0, len: 0, start }
    }

    /// Position after the last byte.
    pub(super) fn end(&self) -> Position {
        // The ring is smaller than the largest window, 1 GiB: see `Config`.
        self.start + self.len as u32
    }

    /// Bytes that still fit.
    pub(super) fn room(&self) -> usize {
        self.capacity - self.len
    }

    /// Appends what fits of `bytes`; returns how many did.
    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room());
        if n == 0 {
            return 0;
        }
        if self.len + n > self.ring.len() {
            self.grow(self.len + n);
        }
        let tail = (self.head + self.len) % self.ring.len();
        let first = n.min(self.ring.len() - tail);
        self.ring[tail..tail + first].copy_from_slice(&bytes[..first]);
        self.ring[..n - first].copy_from_slice(&bytes[first..n]);
        self.len += n;
        n
    }

    /// Makes room for so many bytes together, not more than the capacity.
    #[cold]
    fn grow(&mut self, bytes: usize) {
        let size = bytes.next_power_of_two().max(LEAST).min(self.capacity);
        let mut ring = vec![0; size].into_boxed_slice();
        let [first, rest] = self.slices(self.start, self.len as u32);
        ring[..first.len()].copy_from_slice(first);
        ring[first.len()..self.len].copy_from_slice(rest);
        (self.ring, self.head) = (ring, 0);
    }

    /// Forgets everything before `to`; more than is held forgets all that is held.
    pub(super) fn forget_before(&mut self, to: Position) {
        let n = (to.window_since(self.start) as usize).min(self.len);
        if n > 0 {
            self.head = (self.head + n) % self.ring.len();
            self.len -= n;
            self.start += n as u32;
        }
    }

    /// Up to `len` bytes from `from` on, as the two runs that the ring's end may cut them into.
    pub(super) fn slices(&self, from: Position, len: u32) -> [&[u8]; 2] {
        let skip = (from.window_since(self.start) as usize).min(self.len);
        let len = (len as usize).min(self.len - skip);
        if len == 0 {
            return [&[], &[]];
        }
        let at = (self.head + skip) % self.ring.len();
        let first = len.min(self.ring.len() - at);
        [&self.ring[at..at + first], &self.ring[..len - first]]
    }
}

impl std::fmt::Debug for SendQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SendQueue({:?}..{:?} of {})", self.start, self.end(), self.capacity)
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the ring is a queue of bytes with positions: as a plain vector is, for any sequence of operations | `the_ring_is_a_queue` |
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_ring_is_a_queue(
            capacity in prop_oneof![0usize..50, 200usize..1000], start in any::<u32>(), steps in vec((vec(any::<u8>(), 0..90), 0usize..100), 0..60),
        ) {
            let start = Position::initial(start);
            let mut queue = SendQueue::new(capacity, start);
            // Everything ever written, and how much of it was forgotten.
            let (mut all, mut gone) = (Vec::new(), 0);
            for (bytes, forget) in steps {
                let n = queue.write(&bytes);
                prop_assert_eq!(n, bytes.len().min(capacity - (all.len() - gone)));
                all.extend_from_slice(&bytes[..n]);
                for from in gone..=all.len() {
                    let [a, b] = queue.slices(start + from as u32, 7);
                    let expected = &all[from..(from + 7).min(all.len())];
                    prop_assert_eq!([a, b].concat(), expected);
                }
                gone = (gone + forget).min(all.len());
                queue.forget_before(start + gone as u32);
                queue.forget_before(start);
                prop_assert_eq!(queue.len, all.len() - gone);
                prop_assert_eq!(queue.end(), start + all.len() as u32);
                prop_assert_eq!(queue.room(), capacity - queue.len);
            }
        }
    }
}
