//! From the flow tag in a completion entry to the queue: O(1), checked.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// Flow tags that an offload queue may have: 0 means "no tag", and hardware goes to 64 Ki connections
/// (`nvme-tcp-offload.md` §2.3, where Linux stops at 3999).
pub const QUEUE_IDS: RangeInclusive<u16> = 1..=u16::MAX;

/// Number of an offload queue: the flow tag of its steering rule. Cannot be copied: whoever holds it owns the number.
#[derive(Debug, PartialEq, Eq, Hash)]
#[must_use = "a queue id that is not given back is lost"]
pub struct QueueId(u16);

impl QueueId {
    /// The flow tag, 24 bits in the device.
    #[inline]
    pub fn flow_tag(&self) -> u32 {
        u32::from(self.0)
    }
}

/// All queue ids of a lookup are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {0} offload queue ids are in use")]
pub struct NoQueueId(pub usize);

/// The queues of one owner by flow tag. Owners that share a device take disjoint ranges of ids.
#[derive(Debug)]
pub struct Lookup<T> {
    /// By flow tag; those below the first id stay empty.
    queues: Box<[Option<T>]>,
    /// Ids that there are.
    ids: usize,
    free: VecDeque<u16>,
}

impl<T> Lookup<T> {
    /// An empty lookup that gives out `ids`.
    ///
    /// # Panics
    /// If `ids` is empty or reaches outside [`QUEUE_IDS`].
    pub fn new(ids: RangeInclusive<u16>) -> Lookup<T> {
        assert!(!ids.is_empty() && QUEUE_IDS.contains(ids.start()) && QUEUE_IDS.contains(ids.end()), "ids {ids:?}");
        Lookup {
            queues: (0..=*ids.end()).map(|_| None).collect(),
            ids: ids.len(),
            // In ascending order, so that few queues share few cache lines; an id that comes back waits longest, so that a
            // late completion of its last queue does not meet the next.
            free: ids.collect(),
        }
    }

    /// Takes an id. Nothing is found under it until [`Lookup::publish`].
    pub fn reserve(&mut self) -> Result<QueueId, NoQueueId> {
        self.free.pop_front().map(QueueId).ok_or(NoQueueId(self.ids))
    }

    /// Gives an id back that was reserved and not published, or that [`Lookup::remove`] returned.
    pub fn release(&mut self, id: QueueId) {
        debug_assert!(self.get(id.flow_tag()).is_none(), "an id is given back while its queue is published");
        self.free.push_back(id.0);
    }

    /// Makes a queue known under its id. To be done before the steering rule exists, or flagged completions in between
    /// find nobody.
    ///
    /// # Panics
    /// If `flow_tag` is not that of an id that this lookup gave out.
    pub fn publish(&mut self, flow_tag: u32, queue: T) {
        self.queues[flow_tag as usize] = Some(queue);
    }

    /// The queue of a flow tag that the device reported.
    #[inline(always)]
    pub fn get(&self, flow_tag: u32) -> Option<&T> {
        self.queues.get(flow_tag as usize)?.as_ref()
    }

    /// The queue of a flow tag that the device reported.
    #[inline(always)]
    pub fn get_mut(&mut self, flow_tag: u32) -> Option<&mut T> {
        self.queues.get_mut(flow_tag as usize)?.as_mut()
    }

    /// Takes the queue out.
    pub fn remove(&mut self, flow_tag: u32) -> Option<T> {
        self.queues.get_mut(flow_tag as usize)?.take()
    }

    /// Every queue, by ascending id.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.queues.iter_mut().flatten()
    }

    /// Every queue, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.queues.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | 65535 ids, none twice, none 0; then it says so; a returned id can be had again | `ids_are_given_out_once` |
    //! | an id that comes back is used last | `a_returned_id_is_used_last` |
    //! | no flow tag of the device indexes outside, or finds what is not published | `any_flow_tag_is_safe` |
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_given_out_once() {
        let mut lookup = Lookup::<u32>::new(QUEUE_IDS);
        let mut ids: Vec<_> = (0..65535).map(|_| lookup.reserve().expect("an id")).collect();
        let distinct: HashSet<_> = ids.iter().map(QueueId::flow_tag).collect();
        assert_eq!(distinct.len(), 65535);
        assert!(!distinct.contains(&0) && distinct.iter().all(|t| *t <= 65535));
        assert_eq!(lookup.reserve(), Err(NoQueueId(65535)));
        let back = ids.swap_remove(12345);
        let tag = back.flow_tag();
        lookup.release(back);
        assert_eq!(lookup.reserve().map(|id| id.flow_tag()), Ok(tag));
    }

    #[test]
    fn a_returned_id_is_used_last() {
        let mut lookup = Lookup::<u32>::new(7..=10);
        for _ in 0..3 {
            let id = lookup.reserve().expect("an id");
            lookup.release(id);
        }
        let order: Vec<_> = std::iter::from_fn(|| lookup.reserve().ok()).map(|id| id.flow_tag()).collect();
        assert_eq!(order, [10, 7, 8, 9]);
    }

    #[test]
    fn any_flow_tag_is_safe() {
        let mut lookup = Lookup::new(100..=199);
        let id = lookup.reserve().expect("an id");
        assert_eq!(id.flow_tag(), 100);
        assert!(lookup.get(100).is_none(), "reserved is not published");
        lookup.publish(id.flow_tag(), "queue");
        for tag in [0, 1, 99, 101, 199, 200, 3999, 0xff_ffff, u32::MAX] {
            assert!(lookup.get(tag).is_none() && lookup.get_mut(tag).is_none() && lookup.remove(tag).is_none());
        }
        assert_eq!(lookup.iter().copied().collect::<Vec<_>>(), ["queue"]);
        assert_eq!(lookup.remove(100), Some("queue"));
        assert!(lookup.get(100).is_none());
        lookup.release(id);
    }
}
