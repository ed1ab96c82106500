//! The control ring of an offload queue (ICOSQ): a send ring with a completion queue of its own, on which nothing is sent
//! (`nvme-tcp-offload.md` §3.7, §4, §7.3 to §7.5).
//!
//! * Binding a tag asks for no completion: nobody waits for it. The device executes in order, so a completion of anything
//!   later retires it. Only when a quarter of the ring has gone by without a completion asked for does a binding ask for
//!   one, so that a ring of any size goes on.
//! * Unbinding always asks: its completion is what gives the buffer back.
//! * Whatever does not fit is refused, never dropped and never written over work that the device may still read. The
//!   completion queue has an entry for every completion that was asked for.
//! * Nothing reaches the device before [`Icosq::flush`]: a batch shares one doorbell.

use super::wqe::{self, ConnectionParams, Extent, Place, Room};
use crate::adapter::Handle;
use crate::dma::LIST_GROUP;
use crate::platform::Platform;
use crate::queue::{BadCompletion, CompletionFault, CompletionQueue, ErrorCompletion, RingView, SendRing, Wqe};
use hw_regs::cqe::Cqe64;
use hw_regs::wqe::Klm;

/// Proof that the UMRs that tell the device of a tag's buffer are in the ring.
#[derive(Debug)]
#[must_use = "the tag table must know that the device may write"]
pub struct BindPosted {
    tag: u16,
}

/// Proof that the invalidate of a tag's memory key is in the ring.
#[derive(Debug)]
#[must_use = "the tag table must know that the tag drains"]
pub struct UnbindPosted {
    tag: u16,
}

/// Proof that the device has executed the invalidate of a tag's memory key: it does not use the buffer any more.
#[derive(Debug)]
#[must_use = "a buffer waits for this"]
pub struct UnbindCompleted {
    tag: u16,
}

macro_rules! proof {
    ($($name:ident),+) => {$(
        impl $name {
            pub(super) fn tag(&self) -> u16 {
                self.tag
            }
            #[cfg(test)]
            pub(super) fn for_test(tag: u16) -> $name {
                $name { tag }
            }
        }
    )+};
}
proof!(BindPosted, UnbindPosted, UnbindCompleted);

/// Why a work request was not taken. Nothing was posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPosted {
    /// No room until the device completes earlier work.
    #[error("the control ring is full until the device completes earlier work")]
    Full,
    /// A work request failed: the ring takes nothing any more.
    #[error("the control ring is in error")]
    Failed,
}

/// What completed.
#[derive(Debug)]
pub enum Completed {
    /// The progress parameters were taken: the offload context is ready.
    Ready,
    /// The device has forgotten the buffer of a tag.
    Unbound(UnbindCompleted),
    /// A work request failed; nothing that was posted can be counted on.
    Failed(ErrorCompletion),
    /// The device wrote an entry that cannot be true; it was ignored.
    Bad(BadCompletion),
}

/// What software remembers of a WQE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    kind: Kind,
    signalled: bool,
    tag: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    StaticParams,
    ProgressParams,
    TagFill,
    Bind,
    Unbind,
}

impl Room for Wqe<'_> {
    #[inline(always)]
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        Wqe::write(self, offset, bytes);
    }
    #[inline(always)]
    fn write_block(&mut self, n: usize, block: &[u8; wqe::BLOCK]) {
        Wqe::write_block(self, n, block);
    }
}

/// Blocks of a quarter of a ring.
#[inline(always)]
fn quarter(ring: &SendRing<Work>) -> i32 {
    (ring.capacity() / 4) as i32
}

/// The control ring of one offload queue.
#[derive(Debug)]
pub struct Icosq {
    ring: SendRing<Work>,
    cq: CompletionQueue<Cqe64>,
    /// Groups of KLM entries in one WQE.
    per_wqe: usize,
    /// Blocks until a completion is due: a quarter of the ring, less what was posted since one was asked for.
    until_due: i32,
    /// Completions asked for that have not come.
    awaited: u32,
}

impl Icosq {
    /// A control ring over a send ring and the completion queue that belongs to it alone. `per_wqe`: KLM entries in one
    /// WQE ([`wqe::entries_per_wqe`]).
    pub(super) fn new(ring: SendRing<Work>, cq: CompletionQueue<Cqe64>, per_wqe: usize) -> Icosq {
        Icosq { until_due: quarter(&ring), ring, cq, per_wqe: per_wqe / LIST_GROUP, awaited: 0 }
    }

    /// The send ring, with the completions that it was promised, and its completion queue, to be destroyed in this order.
    pub(super) fn into_handles(self) -> ((Handle, u32), Handle) {
        (self.ring.into_handle(), self.cq.into_handle())
    }

    /// Number of the send queue.
    pub fn sqn(&self) -> u32 {
        self.ring.sqn()
    }

    /// The control ring and its completion ring, for whoever looks at them.
    pub fn views(&self) -> [RingView<'_>; 2] {
        [self.ring.view(), self.cq.view()]
    }

    /// Number of its completion queue.
    pub fn cqn(&self) -> u32 {
        self.cq.cqn()
    }

    /// KLM entries in one WQE.
    pub fn per_wqe(&self) -> usize {
        self.per_wqe * LIST_GROUP
    }

    /// Blocks that are free.
    pub fn room(&self) -> u32 {
        self.ring.room()
    }

    /// True if nothing is posted or in flight.
    pub fn is_idle(&self) -> bool {
        self.ring.is_idle()
    }

    /// Completions asked for that have not come.
    pub fn awaited(&self) -> u32 {
        self.awaited
    }

    /// True once a work request failed.
    #[inline(always)]
    pub fn has_failed(&self) -> bool {
        self.ring.has_failed()
    }

    /// Doorbells written since the beginning.
    pub fn doorbells(&self) -> u64 {
        self.ring.doorbells()
    }

    /// A CQ error event named the completion queue (`mlx5-bringup.md` §7).
    pub fn on_cq_error(&mut self, syndrome: u8) {
        self.cq.on_error(syndrome);
        self.ring.fail();
    }

    /// True if too much of the ring goes by without a completion asked for, with a WQE of these blocks.
    #[inline(always)]
    fn is_due(&self, blocks: u32) -> bool {
        self.until_due <= blocks as i32
    }

    /// Posts one WQE, if there is room in the ring and, should it ask for a completion, in the completion queue.
    #[inline(always)]
    fn put(&mut self, blocks: u32, work: Work, write: impl FnOnce(&mut Wqe<'_>, Place)) -> Result<(), NotPosted> {
        if work.signalled && self.awaited >= self.cq.entries() {
            return Err(self.not_posted());
        }
        let posted = self.ring.post_blocks(blocks, work, |wqe| {
            let place = Place { sqn: wqe.sqn(), index: wqe.index(), signalled: work.signalled };
            write(wqe, place);
        });
        if posted.is_err() {
            return Err(self.not_posted());
        }
        if work.signalled {
            self.until_due = quarter(&self.ring);
            self.awaited += 1;
        } else {
            self.until_due -= blocks as i32;
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn not_posted(&self) -> NotPosted {
        if self.has_failed() { NotPosted::Failed } else { NotPosted::Full }
    }

    /// Posts static parameters: at first (`resync` 0), or to confirm that a PDU header begins at `resync`.
    pub fn static_params(&mut self, tirn: u32, params: ConnectionParams, resync: u32) -> Result<(), NotPosted> {
        let work = Work { kind: Kind::StaticParams, signalled: true, tag: 0 };
        self.put(wqe::STATIC_BLOCKS as u32, work, |wqe, place| wqe::static_params(wqe, place, tirn, params, resync))
    }

    /// Posts progress parameters; their completion is [`Completed::Ready`].
    pub fn progress_params(&mut self, tirn: u32, next_pdu: u32) -> Result<(), NotPosted> {
        let work = Work { kind: Kind::ProgressParams, signalled: true, tag: 0 };
        self.put(wqe::PROGRESS_DS.div_ceil(4), work, |wqe, place| wqe::progress_params(wqe, place, tirn, next_pdu))
    }

    /// Posts one WQE that fills the tag buffer table from entry `first` (a multiple of 4) on, with at most
    /// [`Icosq::per_wqe`] keys. Asks for a completion if it is the `last`.
    pub fn tag_fill(&mut self, tirn: u32, first: u16, keys: &[u32], last: bool) -> Result<(), NotPosted> {
        let blocks = wqe::umr_blocks(keys.len()) as u32;
        let work = Work { kind: Kind::TagFill, signalled: last || self.is_due(blocks), tag: first };
        self.put(blocks, work, |wqe, place| wqe::tag_fill(wqe, place, tirn, first, keys))
    }

    /// Posts the UMRs that point `key`, the memory key of `tag`, at a list of together `bytes` bytes: all of them or none.
    /// The list is a buffer's [`device_list`](crate::dma::IoBuf::device_list), not empty; `mask` fills its keys in
    /// ([`wqe::key_mask`]).
    #[inline(always)]
    pub fn bind(
        &mut self,
        tag: u16,
        key: u32,
        bytes: u32,
        list: &[[Klm; LIST_GROUP]],
        mask: Klm,
    ) -> Result<BindPosted, NotPosted> {
        let whole = Extent { bytes, entries: (list.len() * LIST_GROUP) as u16 };
        let work = Work { kind: Kind::Bind, signalled: false, tag };
        let blocks = wqe::list_blocks(list.len());
        match list.len() <= self.per_wqe && !self.is_due(blocks) {
            true => self.put(blocks, work, |wqe, place| wqe::setup(wqe, place, key, whole, 0, list, mask))?,
            false => self.bind_parts(work, key, whole, list, mask)?,
        }
        Ok(BindPosted { tag })
    }

    /// A list that takes more than one WQE, or asks for a completion.
    #[inline(never)]
    fn bind_parts(
        &mut self,
        work: Work,
        key: u32,
        whole: Extent,
        list: &[[Klm; LIST_GROUP]],
        mask: Klm,
    ) -> Result<(), NotPosted> {
        let sizes = list.chunks(self.per_wqe).map(|part| wqe::list_blocks(part.len()) * 4);
        if self.awaited >= self.cq.entries() || !self.ring.fits(sizes) {
            return Err(self.not_posted());
        }
        for (n, part) in list.chunks(self.per_wqe).enumerate() {
            let first = n * self.per_wqe;
            let blocks = wqe::list_blocks(part.len());
            let signalled = first + part.len() == list.len() && self.is_due(blocks);
            self.put(blocks, Work { signalled, ..work }, |wqe, place| {
                wqe::setup(wqe, place, key, whole, (first * LIST_GROUP) as u16, part, mask);
            })?;
        }
        Ok(())
    }

    /// Posts the invalidate of `key`, the memory key of `tag`; its completion is [`Completed::Unbound`].
    #[inline(always)]
    pub fn unbind(&mut self, tag: u16, key: u32) -> Result<UnbindPosted, NotPosted> {
        let work = Work { kind: Kind::Unbind, signalled: true, tag };
        self.put(wqe::INVALIDATE_BLOCKS as u32, work, |wqe, place| wqe::invalidate(wqe, place, key))?;
        Ok(UnbindPosted { tag })
    }

    /// Shows the device everything that was posted, with one doorbell. False if there was nothing new.
    pub fn flush(&mut self, platform: &impl Platform) -> bool {
        self.ring.ring_doorbell(platform)
    }

    /// Reaps completions, at most one lap of the completion queue, and says what they mean, in order. Returns how many
    /// entries were read.
    pub fn poll(&mut self, mut each: impl FnMut(Completed)) -> u32 {
        let mut read = 0;
        while read < self.cq.entries() {
            let Some(entry) = self.cq.poll() else { break };
            read += 1;
            let retired = self.ring.check(&entry).and_then(|index| {
                let awaited = &mut self.awaited;
                let retired = self.ring.retire(index, |work| {
                    *awaited -= u32::from(work.signalled);
                    match work.kind {
                        Kind::ProgressParams => each(Completed::Ready),
                        Kind::Unbind => each(Completed::Unbound(UnbindCompleted { tag: work.tag })),
                        Kind::StaticParams | Kind::TagFill | Kind::Bind => {}
                    }
                });
                retired.map_err(CompletionFault::from)
            });
            match retired {
                Ok(()) => {}
                Err(CompletionFault::Failed(error)) => each(Completed::Failed(error)),
                Err(CompletionFault::Bad(error)) => {
                    log::warn!("control ring of an offload queue: {error}");
                    each(Completed::Bad(error));
                }
            }
        }
        if read != 0 {
            self.cq.update();
        }
        read
    }

    /// Turns on interrupts: the next completion raises an event.
    pub fn arm(&self, platform: &impl Platform) {
        self.cq.arm(platform, crate::queue::Arm::Next);
    }

    /// A completion event named the completion queue.
    pub fn on_event(&mut self) {
        self.cq.on_event();
    }
}
