//! The tag table of one NVMe queue: the one place where destination (and source) buffers live while the driver owns them,
//! offloaded or not, indexed by command identifier (CID).
//!
//! Two arrays: what the receive path needs of a tag (8 bytes, so eight tags share a cache line and a packet touches one)
//! and the buffers themselves. See the module [`ddp`](super) for the life of a buffer.
//!
//! A *generation* numbers the uses of a tag. It exists in software only: the device reports a tag, the table knows which
//! use that is, and a range that outlives it is recognized as stale.

use super::icosq::{BindPosted, UnbindCompleted, UnbindPosted};
use super::why::{Reasons, Why};
use crate::adapter::FunctionReset;
use crate::dma::IoBuf;
use crate::frame::Placed;
use crate::platform::{Platform, PlatformError};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Queue depths that CIDs can name: 0-based 16-bit numbers.
pub const DEPTHS: RangeInclusive<u32> = 1..=0x1_0000;

/// A key is its index, of 24 bits, above 8 bits that are the driver's own; it uses 0.
pub(super) const INDEX_SHIFT: u32 = 8;

/// What the receive path needs of a tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hot {
    /// Bytes of the buffer that the device may place into; 0 unless bound.
    pub size: u32,
    /// Which use of the tag this is.
    pub generation: u32,
}

/// Where a tag is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No buffer.
    Free,
    /// The driver holds a buffer of which the device knows nothing.
    Pinned,
    /// The device may write the buffer.
    Bound,
    /// The device was told to forget the buffer and has not said that it did.
    Draining,
    /// The device has forgotten the buffer; it waits to be taken.
    Forgotten,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Free => "free",
            State::Pinned => "pinned",
            State::Bound => "bound",
            State::Draining => "draining",
            State::Forgotten => "forgotten by the device",
        })
    }
}

#[derive(Debug)]
struct Slot {
    state: State,
    /// Present in every state but `Free`.
    buffer: Option<IoBuf>,
    suspect: bool,
    /// Why the buffer is not bound, while it is pinned.
    unbound: Why,
    /// Why payload was copied into the buffer.
    copied: Reasons,
}

impl Slot {
    fn free() -> Slot {
        let (unbound, copied) = (Why::QueueNotOffloaded, Reasons::default());
        Slot { state: State::Free, buffer: None, suspect: false, unbound, copied }
    }
}

/// A step in a tag's life that its state does not allow. The caller's order is wrong; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// The queue has no such tag.
    #[error("tag {tag} of a queue of depth {depth}")]
    NoSuchTag {
        /// The tag.
        tag: u16,
        /// Tags that the queue has.
        depth: u32,
    },
    /// The tag is in a state in which this cannot be done.
    #[error("tag {tag} is {state}: cannot {action}")]
    WrongState {
        /// The tag.
        tag: u16,
        /// Where it is in its life.
        state: State,
        /// What was asked.
        action: &'static str,
    },
    /// A buffer of no bytes, or of more than a range can name (4 GiB).
    #[error("a buffer of {bytes} bytes for tag {tag}")]
    BadLength {
        /// The tag.
        tag: u16,
        /// Bytes.
        bytes: usize,
    },
}

/// A buffer that was not taken, and why.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct NotPinned {
    /// The buffer, for the caller to keep.
    pub buffer: IoBuf,
    /// Why.
    pub why: TagError,
}

/// A buffer that the device cannot write any more: the only way out of the table.
///
/// It cannot be made outside:
///
/// ```compile_fail
/// use connectx_ddp::ddp::tags::Released;
/// let buffer = connectx_ddp::dma::IoBuf::new(vec![]);
/// let released = Released { tag: 1, generation: 1, buffer, suspect: false };
/// ```
///
/// nor can what leads to it:
///
/// ```compile_fail
/// use connectx_ddp::ddp::icosq::UnbindCompleted;
/// let completed = UnbindCompleted { tag: 1 };
/// ```
///
/// ```compile_fail
/// use connectx_ddp::ddp::tags::Quiesced;
/// let quiesced = Quiesced(());
/// ```
#[derive(Debug)]
#[must_use = "the buffer belongs to a caller who waits for it"]
pub struct Released {
    tag: u16,
    generation: u32,
    buffer: IoBuf,
    suspect: bool,
    copied: Reasons,
}

impl Released {
    /// The tag it was held under, which may be used again.
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// Which use of the tag this was.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// True if the device placed something into this buffer, or beside it, that does not belong there: the bytes cannot
    /// be vouched for and the read has to fail.
    pub fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// Why payload was copied into the buffer.
    pub fn copied(&self) -> &Reasons {
        &self.copied
    }

    /// The buffer.
    pub fn into_buffer(self) -> IoBuf {
        self.buffer
    }
}

/// Proof that no memory key of a queue's tags exists any more in the device.
#[derive(Debug)]
pub struct Quiesced(());

impl Quiesced {
    /// The queue's TIR, tag buffer table and tag memory keys were destroyed, each confirmed by firmware.
    pub(super) fn keys_destroyed() -> Quiesced {
        Quiesced(())
    }

    /// The function was reset: it has forgotten every object.
    pub fn after(_: &FunctionReset) -> Quiesced {
        Quiesced(())
    }

    /// Resets the function: it forgets every object.
    pub fn by_reset(platform: &impl Platform) -> Result<Quiesced, PlatformError> {
        platform.reset().map(|()| Quiesced(()))
    }
}

/// A tag whose buffer was pinned a moment ago, to be bound if the device can be told of it.
pub(super) struct Pinned<'a> {
    state: &'a mut State,
    hot: &'a mut Hot,
    known: &'a mut u32,
    /// The buffer.
    pub buffer: &'a IoBuf,
    /// Memory key through which the device finds it.
    pub key: u32,
}

impl Pinned<'_> {
    /// `Pinned` → `Bound`: the device was told of the buffer, of which this is the tag.
    #[inline(always)]
    pub(super) fn bind(self, _posted: BindPosted) {
        *self.state = State::Bound;
        self.hot.size = self.buffer.len() as u32;
        *self.known += 1;
    }
}

/// The buffers of one NVMe queue, by CID.
///
/// There is memory for the tags up to the highest that was used: most queues never fill their depth, and a function has
/// thousands.
pub struct TagTable {
    depth: u32,
    hot: Vec<Hot>,
    slots: Vec<Slot>,
    /// Index of the memory key through which the device finds the buffer of each tag; none where nothing is bound.
    keys: Arc<[u32]>,
    held: u32,
    known: u32,
}

impl fmt::Debug for TagTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TagTable").field("depth", &self.depth).field("held", &self.held).finish()
    }
}

impl TagTable {
    /// A table for CIDs 0 to `depth - 1`.
    ///
    /// # Panics
    /// If `depth` is not in [`DEPTHS`].
    pub fn new(depth: u32) -> TagTable {
        assert!(DEPTHS.contains(&depth), "a queue of depth {depth}");
        TagTable { depth, hot: Vec::new(), slots: Vec::new(), keys: Arc::default(), held: 0, known: 0 }
    }

    /// A table for CIDs 0 to `depth - 1`, whose buffers the device finds through memory keys with these indices, at least one
    /// for each. Panics as [`TagTable::new`].
    pub(super) fn with_keys(depth: u32, keys: Arc<[u32]>) -> TagTable {
        let mut table = TagTable::new(depth);
        table.keys = keys;
        table
    }

    /// Number of tags.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Buffers in the table.
    pub fn held(&self) -> u32 {
        self.held
    }

    /// Buffers that the device may write: bound or draining.
    pub fn known_to_device(&self) -> u32 {
        self.known
    }

    /// What the receive path needs.
    #[inline(always)]
    pub(super) fn hot(&self) -> &[Hot] {
        &self.hot
    }

    /// Makes room for a tag, if the queue has it.
    #[cold]
    #[inline(never)]
    fn first_use(&mut self, tag: u16) -> Result<(), TagError> {
        let at = usize::from(tag);
        if u32::from(tag) >= self.depth {
            return Err(TagError::NoSuchTag { tag, depth: self.depth });
        }
        if at >= self.slots.len() {
            self.slots.resize_with(at + 1, Slot::free);
            self.hot.resize(at + 1, Hot::default());
        }
        Ok(())
    }

    fn slot_in(&mut self, tag: u16, states: &[State], action: &'static str) -> Result<&mut Slot, TagError> {
        self.first_use(tag)?;
        let slot = &mut self.slots[usize::from(tag)];
        match states.contains(&slot.state) {
            true => Ok(slot),
            false => Err(TagError::WrongState { tag, state: slot.state, action }),
        }
    }

    /// Where a tag is in its life.
    #[inline]
    pub fn state(&self, tag: u16) -> Result<State, TagError> {
        match self.slots.get(usize::from(tag)) {
            Some(slot) => Ok(slot.state),
            None if u32::from(tag) < self.depth => Ok(State::Free),
            None => Err(TagError::NoSuchTag { tag, depth: self.depth }),
        }
    }

    /// The present use of a tag; the one that begins next if it is free.
    pub fn generation(&self, tag: u16) -> Result<u32, TagError> {
        self.state(tag)?;
        Ok(self.hot.get(usize::from(tag)).map_or(0, |hot| hot.generation))
    }

    /// The buffer held for a tag.
    #[inline]
    pub fn buffer(&self, tag: u16) -> Option<&IoBuf> {
        self.slots.get(usize::from(tag))?.buffer.as_ref()
    }

    /// The buffer that a placed range lies in, if the tag is still in that use.
    #[inline]
    pub fn placed_in(&self, at: Placed) -> Option<&IoBuf> {
        let hot = self.hot.get(usize::from(at.tag))?;
        if hot.generation != at.generation {
            return None;
        }
        self.buffer(at.tag)
    }

    /// Takes a buffer for a tag: `Free` → `Pinned`.
    pub fn pin(&mut self, tag: u16, buffer: IoBuf) -> Result<(), NotPinned> {
        if buffer.is_empty() || u32::try_from(buffer.len()).is_err() {
            return Err(self.not_pinned(tag, buffer));
        }
        match self.pin_to_bind(tag, buffer) {
            Ok(_) => Ok(()),
            Err(buffer) => Err(self.not_pinned(tag, buffer)),
        }
    }

    /// [`TagTable::pin`], to go on with, for a buffer whose length was checked: some bytes, and no more than 32 bits say.
    /// Gives it back if the tag is not free, for [`TagTable::not_pinned`] to say why.
    #[inline(always)]
    pub(super) fn pin_to_bind(&mut self, tag: u16, buffer: IoBuf) -> Result<Pinned<'_>, IoBuf> {
        let at = usize::from(tag);
        if at >= self.slots.len() && self.first_use(tag).is_err() {
            return Err(buffer);
        }
        match (self.slots.get_mut(at), self.hot.get_mut(at)) {
            // Only a free tag has no buffer.
            (Some(Slot { buffer: place @ None, state, suspect, .. }), Some(hot)) => {
                debug_assert!(!buffer.is_empty() && u32::try_from(buffer.len()).is_ok());
                let buffer = place.insert(buffer);
                (*state, *suspect) = (State::Pinned, false);
                self.held += 1;
                let key = self.keys.get(at).map_or(0, |index| index << INDEX_SHIFT);
                Ok(Pinned { state, hot, known: &mut self.known, buffer, key })
            }
            _ => Err(buffer),
        }
    }

    /// Takes over a buffer that another table has released while its command goes on: `Free` → `Pinned`, in the same use,
    /// so that packets which the device placed there before keep their meaning.
    pub fn adopt(&mut self, released: Released) -> Result<(), NotPinned> {
        let Released { tag, generation, buffer, suspect, copied } = released;
        self.pin(tag, buffer)?;
        self.hot[usize::from(tag)].generation = generation;
        let slot = &mut self.slots[usize::from(tag)];
        (slot.suspect, slot.copied) = (suspect, copied);
        Ok(())
    }

    /// Memory key of a tag.
    #[inline(always)]
    pub(super) fn key(&self, tag: u16) -> Option<u32> {
        self.keys.get(usize::from(tag)).map(|index| index << INDEX_SHIFT)
    }

    /// Why a tag takes no buffer, or not this one.
    #[cold]
    #[inline(never)]
    pub(super) fn not_pinned(&mut self, tag: u16, buffer: IoBuf) -> NotPinned {
        let bad_length = TagError::BadLength { tag, bytes: buffer.len() };
        let why = self.slot_in(tag, &[State::Free], "take another buffer").err().unwrap_or(bad_length);
        NotPinned { buffer, why }
    }

    /// The device was told of the buffer: `Pinned` → `Bound`.
    pub(super) fn bind(&mut self, posted: BindPosted) -> Result<(), TagError> {
        let tag = posted.tag();
        match (self.slots.get_mut(usize::from(tag)), self.hot.get_mut(usize::from(tag))) {
            (Some(Slot { state: state @ State::Pinned, buffer: Some(buffer), .. }), Some(hot)) => {
                *state = State::Bound;
                // `pin` has checked that the length fits.
                hot.size = buffer.len() as u32;
                self.known += 1;
                Ok(())
            }
            _ => Err(self.wrong_state(tag, &[State::Pinned], "be bound")),
        }
    }

    /// Why a tag is in none of these states.
    #[cold]
    #[inline(never)]
    fn wrong_state(&mut self, tag: u16, states: &[State], action: &'static str) -> TagError {
        let none = TagError::WrongState { tag, state: State::Free, action };
        self.slot_in(tag, states, action).err().unwrap_or(none)
    }

    /// The device was told to forget the buffer: `Bound` → `Draining`. Packets that it placed before keep their meaning.
    #[inline(always)]
    pub(super) fn unbind(&mut self, posted: UnbindPosted) -> Result<(), TagError> {
        match self.slots.get_mut(usize::from(posted.tag())) {
            Some(Slot { state: state @ State::Bound, .. }) => {
                *state = State::Draining;
                Ok(())
            }
            _ => Err(self.wrong_state(posted.tag(), &[State::Bound], "be unbound")),
        }
    }

    /// The device has forgotten the buffer: `Draining` → `Forgotten`.
    #[inline(always)]
    pub(super) fn forgotten(&mut self, completed: UnbindCompleted) -> Result<(), TagError> {
        match self.slots.get_mut(usize::from(completed.tag())) {
            Some(Slot { state: state @ State::Draining, .. }) => {
                *state = State::Forgotten;
                self.known -= 1;
                Ok(())
            }
            _ => Err(self.wrong_state(completed.tag(), &[State::Draining], "complete an unbind")),
        }
    }

    /// Gives a buffer up that the device does not know, or not any more: `Pinned` or `Forgotten` → `Free`. From here on
    /// the tag is in its next use.
    #[inline]
    pub fn release(&mut self, tag: u16) -> Result<Released, TagError> {
        let given_back = [State::Pinned, State::Forgotten];
        match self.slots.get(usize::from(tag)) {
            Some(slot) if given_back.contains(&slot.state) => {
                Ok(self.take(tag).expect("a pinned or forgotten tag has a buffer"))
            }
            _ => Err(self.wrong_state(tag, &given_back, "give its buffer back")),
        }
    }

    #[inline]
    fn take(&mut self, tag: u16) -> Option<Released> {
        let slot = &mut self.slots[usize::from(tag)];
        let hot = &mut self.hot[usize::from(tag)];
        let buffer = slot.buffer.take()?;
        self.known -= u32::from(matches!(slot.state, State::Bound | State::Draining));
        slot.state = State::Free;
        let generation = hot.generation;
        // Wraps after 4 Gi uses of one tag; a range that old cannot exist, because the stream delivers in order.
        *hot = Hot { size: 0, generation: generation.wrapping_add(1) };
        self.held -= 1;
        slot.unbound = Why::QueueNotOffloaded;
        let copied = std::mem::take(&mut slot.copied);
        Some(Released { tag, generation, buffer, suspect: slot.suspect, copied })
    }

    /// Notes that the device wrote where it should not have: the buffer of this tag cannot be trusted.
    pub(super) fn suspect(&mut self, tag: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(tag)) {
            slot.suspect = true;
        }
    }

    /// Notes why a pinned buffer is not bound.
    pub(super) fn not_bound(&mut self, tag: u16, why: Why) {
        if let Some(slot) = self.slots.get_mut(usize::from(tag)) {
            slot.unbound = why;
        }
    }

    /// Why the device could not place into a tag's buffer; `None` if it could.
    pub(super) fn why_unbound(&self, tag: u16) -> Option<Why> {
        let slot = self.slots.get(usize::from(tag))?;
        (slot.state == State::Pinned).then_some(slot.unbound)
    }

    /// Why payload was copied into a tag's buffer, to be added to.
    pub(super) fn copied_mut(&mut self, tag: u16) -> Option<&mut Reasons> {
        self.slots.get_mut(usize::from(tag)).map(|slot| &mut slot.copied)
    }

    /// Gives all buffers up at once: nothing is left in the device that could write them.
    pub fn quiesce(mut self, _proof: &Quiesced) -> Vec<Released> {
        (0..=u16::MAX).take(self.slots.len()).filter_map(|tag| self.take(tag)).collect()
    }
}

impl Drop for TagTable {
    fn drop(&mut self) {
        let with_the_device = |slot: &&mut Slot| matches!(slot.state, State::Bound | State::Draining);
        let mut kept = 0;
        for slot in self.slots.iter_mut().filter(with_the_device) {
            std::mem::forget(slot.buffer.take());
            kept += 1;
        }
        if kept > 0 {
            log::error!("buffers of {kept} tags are kept for ever, because the device may still write them");
        }
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | no state can be skipped, and a refused step changes nothing | `no_step_can_be_skipped` |
    //! | each use of a tag has its own generation, and the old one is stale | `a_tag_used_again_has_a_new_generation` |
    //! | placed packets keep their meaning until the buffer is given out | `a_draining_tag_still_names_its_buffer` |
    //! | a dropped table keeps memory that the device may write | `a_dropped_table_keeps_what_the_device_may_write` |
    //! | a refused buffer comes back to its caller | `a_refused_buffer_comes_back` |
    //! | proof that the keys are gone frees every state | `quiescence_frees_every_state` |
    //! | a buffer that moves to another table stays in its use, with what is known of it | `an_adopted_buffer_stays_in_its_use` |
    use super::super::fixture::{heap, io};
    use super::*;

    fn at(state: State) -> TagTable {
        let heap = heap();
        let mut tags = TagTable::new(2);
        let to = [State::Free, State::Pinned, State::Bound, State::Draining, State::Forgotten];
        let steps = to.iter().position(|s| *s == state).expect("a state");
        for step in &to[1..=steps] {
            step_to(&mut tags, *step, &heap).expect("in order");
        }
        assert_eq!(tags.state(1), Ok(state));
        tags
    }

    fn step_to(tags: &mut TagTable, state: State, heap: &crate::dma::DmaHeap) -> Result<(), TagError> {
        match state {
            State::Free => tags.release(1).map(drop),
            State::Pinned => tags.pin(1, io(heap, &[100])).map_err(|e| e.why),
            State::Bound => tags.bind(BindPosted::for_test(1)),
            State::Draining => tags.unbind(UnbindPosted::for_test(1)),
            State::Forgotten => tags.forgotten(UnbindCompleted::for_test(1)),
        }
    }

    #[test]
    fn no_step_can_be_skipped() {
        use State::*;
        let heap = heap();
        let allowed = [
            (Free, Pinned),
            (Pinned, Bound),
            (Pinned, Free),
            (Bound, Draining),
            (Draining, Forgotten),
            (Forgotten, Free),
        ];
        for from in [Free, Pinned, Bound, Draining, Forgotten] {
            for to in [Free, Pinned, Bound, Draining, Forgotten] {
                let mut tags = at(from);
                let generation = tags.generation(1);
                match step_to(&mut tags, to, &heap) {
                    Ok(()) => {
                        assert!(allowed.contains(&(from, to)), "{from} → {to}");
                        assert_eq!(tags.state(1), Ok(to));
                    }
                    Err(error) => {
                        assert!(!allowed.contains(&(from, to)), "{from} → {to}: {error}");
                        assert!(matches!(error, TagError::WrongState { tag: 1, state, .. } if state == from));
                        assert_eq!((tags.state(1), tags.generation(1)), (Ok(from), generation));
                    }
                }
            }
        }
    }

    #[test]
    fn a_tag_used_again_has_a_new_generation() {
        let mut tags = at(State::Bound);
        let first = Placed { tag: 1, generation: tags.generation(1).expect("a tag"), offset: 0 };
        assert!(tags.placed_in(first).is_some());
        let heap = heap();
        for state in [State::Draining, State::Forgotten, State::Free] {
            step_to(&mut tags, state, &heap).expect("in order");
        }
        assert!(tags.placed_in(first).is_none());
        for state in [State::Pinned, State::Bound] {
            step_to(&mut tags, state, &heap).expect("in order");
            assert!(tags.placed_in(first).is_none(), "the buffer of the next use is not the old one");
        }
        assert!(tags.placed_in(Placed { generation: first.generation + 1, ..first }).is_some());
    }

    #[test]
    fn an_adopted_buffer_stays_in_its_use() {
        let (mut from, mut to) = (at(State::Pinned), TagTable::new(2));
        drop(from.release(1).expect("pinned"));
        from.pin(1, io(&heap(), &[100])).expect("free");
        from.bind(BindPosted::for_test(1)).expect("pinned");
        from.suspect(1);
        let placed = Placed { tag: 1, generation: from.generation(1).expect("a tag"), offset: 0 };
        let released = from.quiesce(&Quiesced::keys_destroyed()).pop().expect("one");
        to.adopt(released).expect("free");
        assert_eq!((to.state(1), to.held(), to.known_to_device()), (Ok(State::Pinned), 1, 0));
        assert!(to.placed_in(placed).is_some(), "what was placed there before is there");
        assert!(to.placed_in(Placed { generation: 0, ..placed }).is_none(), "an older use is not");
        let again = to.release(1).expect("pinned");
        assert!(again.is_suspect());
        assert!(to.pin(1, again.into_buffer()).is_ok());
        let other = at(State::Pinned).release(1).expect("pinned");
        assert_eq!(to.adopt(other).expect_err("in use").buffer.len(), 100);
    }

    #[test]
    fn a_draining_tag_still_names_its_buffer() {
        for state in [State::Bound, State::Draining, State::Forgotten] {
            let tags = at(state);
            assert_eq!(tags.hot()[1].size, 100, "{state}");
        }
        for state in [State::Free, State::Pinned] {
            assert_eq!(at(state).hot().get(1).map_or(0, |hot| hot.size), 0, "{state}");
        }
    }

    #[test]
    fn a_dropped_table_keeps_what_the_device_may_write() {
        for (state, kept) in
            [(State::Pinned, false), (State::Bound, true), (State::Draining, true), (State::Forgotten, false)]
        {
            let heap = heap();
            let mut tags = TagTable::new(2);
            for step in [State::Pinned, State::Bound, State::Draining, State::Forgotten] {
                step_to(&mut tags, step, &heap).expect("in order");
                if step == state {
                    break;
                }
            }
            drop(tags);
            assert_eq!(heap.usage().1 != 0, kept, "{state}");
        }
    }

    #[test]
    fn a_refused_buffer_comes_back() {
        let heap = heap();
        let mut tags = at(State::Pinned);
        for (tag, bytes) in [(2, 10), (u16::MAX, 10), (1, 10)] {
            let refused = tags.pin(tag, io(&heap, &[bytes])).expect_err("no such tag, or in use");
            assert_eq!(refused.buffer.len(), bytes);
        }
        let refused = tags.pin(0, IoBuf::new(vec![])).expect_err("empty");
        assert_eq!(refused.why, TagError::BadLength { tag: 0, bytes: 0 });
        assert_eq!(tags.held(), 1);
    }

    #[test]
    fn quiescence_frees_every_state() {
        for state in [State::Free, State::Pinned, State::Bound, State::Draining, State::Forgotten] {
            let released = at(state).quiesce(&Quiesced::keys_destroyed());
            assert_eq!(released.len(), usize::from(state != State::Free), "{state}");
            for r in released {
                assert_eq!((r.tag(), r.is_suspect(), r.into_buffer().len()), (1, false, 100));
            }
        }
    }
}
