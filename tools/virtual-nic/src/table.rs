//! Numbered objects of one kind, with what refers to them.
//!
//! Numbers start at a base of the kind's own, so that a driver which mixes up two kinds is found out, and a number that
//! was given back is not given out again until many others were: use after destroy then hits nothing.

use std::collections::VecDeque;

/// Numbers that rest before one is given out again.
const RESTING: usize = 1024;

/// Why an object cannot be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// There is no such object.
    Missing,
    /// Other objects refer to it.
    InUse,
}

struct Slot<T> {
    references: u32,
    value: Option<T>,
}

/// The objects of one kind.
pub(crate) struct Table<T> {
    base: u32,
    limit: u32,
    slots: Vec<Slot<T>>,
    resting: VecDeque<u32>,
    live: usize,
}

impl<T> Table<T> {
    /// No objects; numbers will be `base .. base + limit`.
    pub(crate) fn new(base: u32, limit: u32) -> Table<T> {
        Table { base, limit, slots: Vec::new(), resting: VecDeque::new(), live: 0 }
    }

    /// Objects held.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Adds an object and returns its number; `None` if all numbers are taken.
    pub(crate) fn insert(&mut self, value: T) -> Option<u32> {
        let full = self.slots.len() >= self.limit as usize;
        let index = if full || self.resting.len() > RESTING { self.resting.pop_front() } else { None };
        let index = match index {
            Some(index) => index,
            None if full => return None,
            None => {
                self.slots.push(Slot { references: 0, value: None });
                self.slots.len() as u32 - 1
            }
        };
        self.slots[index as usize] = Slot { references: 0, value: Some(value) };
        self.live += 1;
        Some(self.base + index)
    }

    fn slot(&self, number: u32) -> Option<&Slot<T>> {
        self.slots.get(number.checked_sub(self.base)? as usize)
    }

    fn slot_mut(&mut self, number: u32) -> Option<&mut Slot<T>> {
        self.slots.get_mut(number.checked_sub(self.base)? as usize)
    }

    /// The object with this number.
    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.slot(number)?.value.as_ref()
    }

    /// The object with this number, to be changed.
    #[inline]
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.slot_mut(number)?.value.as_mut()
    }

    /// True if there is such an object.
    pub(crate) fn contains(&self, number: u32) -> bool {
        self.get(number).is_some()
    }

    /// Counts one more reference to an object, if there is one.
    pub(crate) fn hold(&mut self, number: u32) {
        if let Some(slot) = self.slot_mut(number) {
            slot.references += 1;
        }
    }

    /// Counts one reference less.
    pub(crate) fn release(&mut self, number: u32) {
        if let Some(slot) = self.slot_mut(number) {
            slot.references = slot.references.saturating_sub(1);
        }
    }

    /// Removes an object that nothing refers to.
    pub(crate) fn remove(&mut self, number: u32) -> Result<T, Kept> {
        let base = self.base;
        let slot = self.slot_mut(number).ok_or(Kept::Missing)?;
        if slot.value.is_some() && slot.references > 0 {
            return Err(Kept::InUse);
        }
        let value = slot.value.take().ok_or(Kept::Missing)?;
        self.live -= 1;
        self.resting.push_back(number - base);
        Ok(value)
    }

    /// Every object with its number, in the order of the numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots.iter().zip(self.base..).filter_map(|(slot, number)| Some((number, slot.value.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | a number that was given back rests while others are free | `a_freed_number_is_not_given_out_again_soon` |
    //! | a small kind gives numbers out again rather than running dry | `a_small_table_reuses_the_oldest_number` |
    //! | an object that is referred to stays | `a_referenced_object_cannot_be_removed` |
    use super::*;

    #[test]
    fn a_freed_number_is_not_given_out_again_soon() {
        let mut table = Table::new(0x100, 1 << 16);
        let first = table.insert(()).unwrap();
        table.remove(first).unwrap();
        for _ in 0..RESTING {
            let next = table.insert(()).unwrap();
            assert_ne!(next, first);
            table.remove(next).unwrap();
        }
        assert_eq!(table.insert(()), Some(first));
    }

    #[test]
    fn a_small_table_reuses_the_oldest_number() {
        let mut table = Table::new(1, 2);
        let (a, b) = (table.insert('a').unwrap(), table.insert('b').unwrap());
        assert_eq!(table.insert('c'), None);
        table.remove(b).unwrap();
        table.remove(a).unwrap();
        assert_eq!(table.insert('c'), Some(b));
        assert_eq!(table.get(b), Some(&'c'));
        assert_eq!(table.get(a), None);
        assert_eq!(table.remove(a), Err(Kept::Missing));
    }

    #[test]
    fn a_referenced_object_cannot_be_removed() {
        let mut table = Table::new(0, 4);
        let a = table.insert(()).unwrap();
        table.hold(a);
        table.hold(a);
        table.release(a);
        assert_eq!(table.remove(a), Err(Kept::InUse));
        table.release(a);
        assert_eq!(table.remove(a), Ok(()));
        assert_eq!(table.len(), 0);
    }
}
