//! One offload queue at work: packets in, tags bound and unbound, resyncs confirmed. How it comes into being and goes
//! away is in [`create`](super::create).

use super::contract::{Event, Setup, Teardown};
use super::icosq::{Completed, Icosq, NotPosted};
use super::rebuild::{self, Flags, Rebuilt, Rejected};
use super::stats::{NotOffloaded, Stats};
use super::tags::{NotPinned, State, TagError, TagTable};
use super::wqe::{ConnectionParams, KLMS_PER_BLOCK};
use crate::dma::IoBuf;
use crate::frame::RxBuffer;
use crate::platform::Platform;
use crate::queue::ErrorCompletion;
use hw_regs::cqe::OffloadCqe;
use hw_regs::layout::{Access, Layout};
use hw_regs::wqe::Klm;
use std::collections::VecDeque;

/// Most bytes of one read: what a list entry can say in 31 bits, as data segments have them.
const MAX_BYTES: usize = 1 << 31;

/// What binds a tag: limits and keys.
#[derive(Debug)]
pub(super) struct Binding {
    /// Memory key of each tag.
    pub keys: Box<[u32]>,
    /// Memory key under which the device finds the driver's DMA memory.
    pub data_key: u32,
    /// Entries that a tag's memory key has room for.
    pub max_entries: u16,
    /// Reads of fewer bytes are not offloaded.
    pub threshold: u32,
}

/// One NVMe I/O queue = one TCP connection = one offload context.
#[derive(Debug)]
pub struct OffloadQueue {
    pub(super) tags: TagTable,
    pub(super) stats: Stats,
    /// The device checks data digests, and they were negotiated.
    check_digest: bool,
    /// A resync was confirmed: the next digest mark may be wrong (§6.3).
    distrust_next: bool,
    pub(super) icosq: Icosq,
    pub(super) tirn: u32,
    params: ConnectionParams,
    pub(super) binding: Binding,
    /// Room for one list.
    entries: Box<[Klm]>,
    /// Tags to be unbound as soon as the control ring has room.
    unbind_later: VecDeque<u16>,
    /// Resync to be confirmed as soon as the control ring has room; a newer one replaces it.
    resync_later: Option<u32>,
    /// Tags that the device has forgotten, in order.
    forgotten: VecDeque<u16>,
    /// The control ring failed and this was not told yet.
    failure: Option<ErrorCompletion>,
}

impl OffloadQueue {
    pub(super) fn new(icosq: Icosq, tirn: u32, params: ConnectionParams, binding: Binding) -> OffloadQueue {
        let depth = binding.keys.len();
        OffloadQueue {
            tags: TagTable::new(depth as u32),
            stats: Stats::default(),
            check_digest: params.check_data_digest,
            distrust_next: false,
            icosq,
            tirn,
            params,
            entries: vec![Klm::zeroed(); usize::from(binding.max_entries).next_multiple_of(KLMS_PER_BLOCK)].into(),
            binding,
            unbind_later: VecDeque::with_capacity(depth),
            resync_later: None,
            forgotten: VecDeque::with_capacity(depth),
            failure: None,
        }
    }

    /// Number of the TIR that carries the offload context.
    pub fn tirn(&self) -> u32 {
        self.tirn
    }

    /// The buffers of this queue.
    pub fn tags(&self) -> &TagTable {
        &self.tags
    }

    /// The buffers and the counters of this queue, for [`Memory`](super::memory::Memory).
    pub fn tags_and_stats(&mut self) -> (&mut TagTable, &mut Stats) {
        (&mut self.tags, &mut self.stats)
    }

    /// Counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The control ring.
    pub fn icosq(&self) -> &Icosq {
        &self.icosq
    }

    /// True if the control ring failed: the queue must be removed.
    pub fn has_failed(&self) -> bool {
        self.icosq.has_failed()
    }

    /// A completion entry with an offload flag and this queue's flow tag, of a packet in a receive buffer of `capacity`
    /// bytes. An entry that cannot be true is counted, and its buffer comes back with the reason.
    #[inline(always)]
    pub fn receive(&mut self, entry: &OffloadCqe, buffer: RxBuffer, capacity: u32) -> Result<Rebuilt, Rejected> {
        let Flags { placed, digest_ok, resync: false } = rebuild::flags(entry) else {
            return self.receive_resync(entry, buffer, capacity);
        };
        if !placed {
            return self.receive_plain(entry, buffer, capacity, digest_ok);
        }
        let (frame, bytes) = match rebuild::placed(entry, buffer, capacity, &self.tags) {
            Ok(placed) => placed,
            Err(rejected) => return Err(self.count(rejected)),
        };
        self.stats.packets += 1;
        self.stats.bytes += u64::from(bytes);
        let digest_ok = self.credit(digest_ok);
        Ok(Rebuilt { frame: frame.with_digest_ok(digest_ok), resync: None })
    }

    fn receive_plain(
        &mut self,
        entry: &OffloadCqe,
        buffer: RxBuffer,
        capacity: u32,
        digest_ok: bool,
    ) -> Result<Rebuilt, Rejected> {
        let frame = rebuild::plain(entry, buffer, capacity).map_err(|rejected| self.count(rejected))?;
        let digest_ok = self.credit(digest_ok);
        Ok(Rebuilt { frame: frame.with_digest_ok(digest_ok), resync: None })
    }

    #[cold]
    fn receive_resync(&mut self, entry: &OffloadCqe, buffer: RxBuffer, capacity: u32) -> Result<Rebuilt, Rejected> {
        let rebuilt = rebuild::resync(entry, buffer, capacity).map_err(|rejected| self.count(rejected))?;
        self.stats.resync += 1;
        Ok(rebuilt)
    }

    #[cold]
    fn count(&mut self, rejected: Rejected) -> Rejected {
        self.stats.count_rejection(rejected.why);
        rejected
    }

    /// Whether the device's word for a packet's digests is believed.
    #[inline(always)]
    fn credit(&mut self, claimed: bool) -> bool {
        if claimed & self.distrust_next {
            self.distrust();
            return false;
        }
        let ok = claimed & self.check_digest;
        self.stats.digest_ok += u64::from(ok);
        ok
    }

    #[cold]
    fn distrust(&mut self) {
        self.distrust_next = false;
    }

    /// Takes the buffer of a read for its tag and tells the device of it if it can; see
    /// [`Offload::setup`](super::contract::Offload::setup).
    #[inline]
    pub fn setup(&mut self, tag: u16, buffer: IoBuf) -> Result<Setup, NotPinned> {
        self.tags.pin(tag, buffer)?;
        match self.bind(tag) {
            Ok(()) => {
                self.stats.setup += 1;
                Ok(Setup::Offloaded)
            }
            Err(why) => {
                self.stats.count_not_offloaded(why);
                Ok(Setup::NotOffloaded(why))
            }
        }
    }

    /// Holds the buffer of a command that is not to be offloaded, such as the source of a write.
    pub fn hold(&mut self, tag: u16, buffer: IoBuf) -> Result<(), NotPinned> {
        self.tags.pin(tag, buffer)
    }

    #[inline]
    fn bind(&mut self, tag: u16) -> Result<(), NotOffloaded> {
        let (Some(buffer), Some(&key)) = (self.tags.buffer(tag), self.binding.keys.get(usize::from(tag))) else {
            return Err(NotOffloaded::QueueError);
        };
        let bytes = buffer.len();
        if bytes < self.binding.threshold as usize {
            return Err(NotOffloaded::BelowThreshold);
        }
        if bytes > MAX_BYTES {
            return Err(NotOffloaded::TooLong);
        }
        let Some(count) = list(buffer, self.binding.data_key, &mut self.entries) else {
            return Err(NotOffloaded::TooManyEntries);
        };
        // What waits for room goes first.
        if !self.unbind_later.is_empty() {
            return Err(NotOffloaded::Busy);
        }
        let bytes = bytes as u32;
        let mut posted = self.icosq.bind(tag, key, bytes, &self.entries[..count]);
        if let Err(NotPosted::Full) = posted {
            self.poll();
            posted = self.icosq.bind(tag, key, bytes, &self.entries[..count]);
        }
        let posted = posted.map_err(|why| match why {
            NotPosted::Full => NotOffloaded::Busy,
            NotPosted::Failed => NotOffloaded::QueueError,
        })?;
        self.tags.bind(posted).map_err(|error| {
            log::error!("{error}");
            NotOffloaded::QueueError
        })
    }

    /// Asks for the buffer of a tag back; see [`Offload::teardown`](super::contract::Offload::teardown).
    #[inline]
    pub fn teardown(&mut self, tag: u16) -> Result<Teardown, TagError> {
        match self.tags.state(tag)? {
            State::Pinned => self.tags.release(tag).map(Teardown::Done),
            State::Bound if !self.unbind_later.contains(&tag) => {
                if !self.unbind_later.is_empty() || !self.unbind(tag)? {
                    self.unbind_later.push_back(tag);
                }
                Ok(Teardown::Pending)
            }
            state => Err(TagError::WrongState { tag, state, action: "be torn down" }),
        }
    }

    /// Posts the invalidate of a bound tag. False if there is no room.
    fn unbind(&mut self, tag: u16) -> Result<bool, TagError> {
        let key = self.binding.keys[usize::from(tag)];
        match self.icosq.unbind(tag, key) {
            Ok(posted) => {
                self.stats.teardown += 1;
                self.tags.unbind(posted).map(|()| true)
            }
            Err(NotPosted::Full | NotPosted::Failed) => Ok(false),
        }
    }

    /// Confirms that a PDU header begins at `sequence`, as the device guessed.
    pub fn resync(&mut self, sequence: u32) {
        self.distrust_next = true;
        self.stats.resync_confirmed += 1;
        self.resync_later = match self.icosq.static_params(self.tirn, self.params, sequence) {
            Ok(()) => None,
            Err(NotPosted::Full | NotPosted::Failed) => Some(sequence),
        };
    }

    /// Reaps the control ring's completions and posts what waited for room. Returns how many entries were read; what they
    /// mean for the L5P comes with [`OffloadQueue::events`], *after* the receive queue was drained (see the module
    /// [`ddp`](super)).
    pub fn poll(&mut self) -> u32 {
        let (tags, stats, forgotten) = (&mut self.tags, &mut self.stats, &mut self.forgotten);
        let failure = &mut self.failure;
        let read = self.icosq.poll(|completed| match completed {
            // Waited for when the queue was created.
            Completed::Ready => {}
            Completed::Unbound(completed) => {
                let tag = completed.tag();
                stats.teardown_done += 1;
                match tags.forgotten(completed) {
                    Ok(()) => forgotten.push_back(tag),
                    Err(error) => log::error!("{error}"),
                }
            }
            Completed::Failed(error) => {
                stats.control_errors += 1;
                // The first failure is the cause; what follows was swept out with it.
                failure.get_or_insert(error);
            }
            Completed::Bad => stats.control_errors += 1,
        });
        self.post_what_waited();
        read
    }

    fn post_what_waited(&mut self) {
        while let Some(&tag) = self.unbind_later.front() {
            match self.unbind(tag) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => log::error!("{error}"),
            }
            self.unbind_later.pop_front();
        }
        if let Some(sequence) = self.resync_later
            && self.icosq.static_params(self.tirn, self.params, sequence).is_ok()
        {
            self.resync_later = None;
        }
    }

    /// The next thing that the L5P has to know.
    pub fn next_event(&mut self) -> Option<Event> {
        while let Some(tag) = self.forgotten.pop_front() {
            match self.tags.release(tag) {
                Ok(released) => return Some(Event::TeardownDone(released)),
                Err(error) => log::error!("{error}"),
            }
        }
        self.failure.take().map(Event::Failed)
    }

    /// Everything that the L5P has to know.
    pub fn events(&mut self) -> impl Iterator<Item = Event> + '_ {
        std::iter::from_fn(|| self.next_event())
    }

    /// Shows the device everything that was posted since the last time, with one doorbell.
    pub fn flush(&mut self, platform: &impl Platform) -> bool {
        self.icosq.flush(platform)
    }

    /// True if [`OffloadQueue::next_event`] has something.
    pub fn has_events(&self) -> bool {
        self.failure.is_some() || !self.forgotten.is_empty()
    }

    /// True if completions or room are waited for.
    pub fn is_waiting(&self) -> bool {
        self.icosq.awaited() != 0 || !self.unbind_later.is_empty() || self.resync_later.is_some()
    }

    /// A CQ error event named the control ring's completion queue.
    pub fn on_cq_error(&mut self, syndrome: u8) {
        self.icosq.on_cq_error(syndrome);
    }

    /// True if the device has nothing more to say about any tag: none is bound, draining or waiting to be unbound.
    pub fn is_drained(&self) -> bool {
        self.unbind_later.is_empty() && self.tags.known_to_device() == 0
    }

    /// What is left when the queue's work is over.
    pub(super) fn into_parts(self) -> (TagTable, Stats, Icosq) {
        (self.tags, self.stats, self.icosq)
    }

    /// Asks for every bound buffer back.
    pub(super) fn unbind_all(&mut self) {
        for tag in (0..=u16::MAX).take(self.tags.depth() as usize) {
            if self.tags.state(tag) == Ok(State::Bound)
                && let Err(error) = self.teardown(tag)
            {
                // Already on its way.
                log::debug!("{error}");
            }
        }
    }
}

/// Writes a buffer as a KLM list, pieces that are adjacent for the device as one entry, padded with zero entries to a
/// multiple of 4. Returns its length, pads included; `None` if `entries` (itself a multiple of 4) is too short.
#[inline]
fn list(buffer: &IoBuf, key: u32, entries: &mut [Klm]) -> Option<usize> {
    let mut pieces = buffer.segments();
    let (first, len) = pieces.next()?;
    let (mut start, mut bytes) = (first.get(), len as u64);
    let entry = |start: u64, bytes: u64| {
        Klm::zeroed().with(Klm::BCOUNT, bytes as u32).with(Klm::KEY, key).with_wide(Klm::VA, start)
    };
    let mut room = entries.iter_mut();
    for (iova, len) in pieces {
        if start + bytes == iova.get() {
            bytes += len as u64;
        } else {
            *room.next()? = entry(start, bytes);
            (start, bytes) = (iova.get(), len as u64);
        }
    }
    *room.next()? = entry(start, bytes);
    let rest = room.into_slice();
    let pads = rest.len() % KLMS_PER_BLOCK;
    rest[..pads].fill(Klm::zeroed());
    let unused = rest.len() - pads;
    Some(entries.len() - unused)
}
