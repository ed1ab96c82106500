//! One offload queue at work: packets in, tags bound and unbound, resyncs confirmed. How it comes into being and goes
//! away is in [`create`](super::create).

use super::contract::{Event, Setup, Teardown};
use super::icosq::{Completed, Icosq, NotPosted};
use super::policy::Probe;
use super::rebuild::{self, Attention, Flags, Rebuilt, Rejected};
use super::stats::Stats;
use super::tags::{NotPinned, State, TagError, TagTable};
use super::why::Why;
use super::wqe::{self, ConnectionParams};
use crate::dma::{IoBuf, LIST_GROUP};
use crate::frame::{Arrival, RxBuffer};
use crate::platform::{Deadline, Platform};
use crate::queue::{CompletionQueue, CqeFields, ErrorCompletion, ReceiveQueue};
use hw_regs::cqe::OffloadCqe;
use hw_regs::wqe::Klm;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Most bytes of one read: what a list entry can say in 31 bits, as data segments have them.
const MAX_BYTES: usize = 1 << 31;
/// How long a binding waits for room in the control ring: about as long as the copy takes that it saves.
pub const ROOM_PATIENCE: Duration = Duration::from_micros(20);

/// What binds tags, and what can be bound.
#[derive(Debug)]
pub(super) struct Binding {
    /// The memory key under which the device finds the driver's DMA memory, as lists take it.
    mask: Klm,
    /// Groups of entries that a tag's memory key has room for; 0 if nothing can be bound.
    room: usize,
    /// Reads of fewer bytes are not offloaded; at least 1.
    threshold: usize,
    /// How many more bytes a read may have.
    span: usize,
}

impl Binding {
    /// `room`: entries that a tag's memory key has room for, pads included. `threshold`: bytes of the least read that is
    /// offloaded.
    pub(super) fn new(data_key: u32, room: usize, threshold: u32) -> Binding {
        let (mask, room, threshold) = (wqe::key_mask(data_key), room / LIST_GROUP, threshold.max(1) as usize);
        match MAX_BYTES.checked_sub(threshold) {
            Some(span) => Binding { mask, room, threshold, span },
            None => Binding { mask, room: 0, threshold, span: 0 },
        }
    }

    /// True if a buffer is within the limits.
    #[inline(always)]
    fn takes(&self, buffer: &IoBuf) -> bool {
        // One comparison for both ends: what is below the threshold wraps to a large number.
        buffer.len().wrapping_sub(self.threshold) <= self.span && buffer.device_list().len() <= self.room
    }

    /// The same with another threshold.
    fn with_threshold(&self, threshold: u32) -> Binding {
        let threshold = threshold.max(1) as usize;
        // Room for nothing stays room for nothing.
        let span = MAX_BYTES.saturating_sub(threshold);
        Binding { threshold, span, ..*self }
    }

    /// Why a buffer is not within the limits; `None` if it is.
    fn why_not(&self, buffer: &IoBuf) -> Option<Why> {
        if buffer.len() < self.threshold {
            Some(Why::BelowThreshold)
        } else if buffer.len() - self.threshold > self.span {
            Some(Why::BufferTooLong)
        } else if buffer.device_list().len() > self.room {
            Some(Why::ScatterListTooLong)
        } else {
            None
        }
    }
}

/// One NVMe I/O queue = one TCP connection = one offload context.
#[derive(Debug)]
pub struct OffloadQueue {
    pub(super) tags: TagTable,
    pub(super) stats: Stats,
    /// The device checks data digests, and they were negotiated.
    check_digest: bool,
    /// After a resync was confirmed the next digest mark may be wrong (§6.3).
    attention: Attention,
    pub(super) icosq: Icosq,
    pub(super) tirn: u32,
    params: ConnectionParams,
    pub(super) binding: Binding,
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
    /// `keys`: the indices of the tags' memory keys, at least `depth`.
    pub(super) fn new(
        icosq: Icosq,
        tirn: u32,
        params: ConnectionParams,
        binding: Binding,
        depth: u32,
        keys: Arc<[u32]>,
    ) -> OffloadQueue {
        OffloadQueue {
            tags: TagTable::with_keys(depth, keys),
            stats: Stats::default(),
            check_digest: params.check_data_digest,
            attention: Attention::NONE,
            icosq,
            tirn,
            params,
            binding,
            unbind_later: VecDeque::new(),
            resync_later: None,
            forgotten: VecDeque::new(),
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

    /// True if the device checks data digests, and they were negotiated.
    pub fn checks_digests(&self) -> bool {
        self.check_digest
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
    pub fn receive(
        &mut self,
        entry: &impl CqeFields<OffloadCqe>,
        buffer: RxBuffer,
        capacity: u32,
    ) -> Result<Rebuilt, Rejected> {
        match rebuild::arrival(entry, buffer, capacity) {
            Ok(arrival) => self.receive_flagged(entry, Flags::of(entry), rebuild::flow_tag(entry), arrival),
            Err(rejected) => Err(self.count(rejected)),
        }
    }

    /// [`OffloadQueue::receive`] of a packet whose length was checked, where flags and flow tag were read before.
    #[inline(always)]
    pub(super) fn receive_flagged(
        &mut self,
        entry: &impl CqeFields<OffloadCqe>,
        flags: Flags,
        flow_tag: u32,
        arrival: Arrival,
    ) -> Result<Rebuilt, Rejected> {
        if !flags.is_just_placed(self.attention) {
            return self.receive_odd(entry, flags, flow_tag, arrival);
        }
        match rebuild::placed(entry, flow_tag, arrival, &self.tags) {
            Ok((frame, bytes)) => {
                self.stats.packets += 1;
                self.stats.bytes += u64::from(bytes);
                let digest_ok = self.believe(flags.digest_ok());
                Ok(Rebuilt { frame: frame.with_digest_ok(digest_ok), resync: None })
            }
            Err(rejected) => Err(self.count(rejected)),
        }
    }

    /// Takes packets of this queue, whose flow tag is `flow_tag`, for as long as they are the middle of reads that go well:
    /// a run was placed where it can be, and nothing else is to be said. At most `limit`; what is not like this stays in
    /// its ring ([`ReceiveQueue::accept_run`]), and so stays uncounted. Returns how many were taken.
    #[inline(never)]
    pub(super) fn receive_run(
        &mut self,
        cq: &mut CompletionQueue<OffloadCqe>,
        rq: &mut ReceiveQueue,
        flow_tag: u32,
        limit: u32,
        mut each: impl FnMut(Rebuilt),
    ) -> u32 {
        let digest_ok = self.check_digest;
        if self.attention.distrusts_digest() {
            return 0;
        }
        let mut series = rebuild::Series::new(flow_tag, digest_ok, rq.buffer_size(), &self.tags);
        let mut bytes = 0;
        let taken = rq.accept_run(cq, flow_tag, limit, |entry, buffer| {
            let (frame, len) = series.next(entry, buffer)?;
            bytes += u64::from(len);
            each(Rebuilt { frame, resync: None });
            Ok(())
        });
        self.stats.bytes += bytes;
        self.stats.packets += u64::from(taken);
        self.stats.digest_ok += if digest_ok { u64::from(taken) } else { 0 };
        taken
    }

    /// Everything but a placed run whose digest mark can be taken as it is.
    ///
    // Inline, as everything that returns a frame: one that is returned through memory would have to be kept in memory.
    #[inline(always)]
    fn receive_odd(
        &mut self,
        entry: &impl CqeFields<OffloadCqe>,
        flags: Flags,
        flow_tag: u32,
        arrival: Arrival,
    ) -> Result<Rebuilt, Rejected> {
        let rebuilt = match flags.placed() && !flags.resync() {
            true => rebuild::placed(entry, flow_tag, arrival, &self.tags).map(|(frame, bytes)| {
                self.stats.packets += 1;
                self.stats.bytes += u64::from(bytes);
                Rebuilt { frame, resync: None }
            }),
            false => rebuild::in_ring(entry, flags, flow_tag, arrival),
        };
        match rebuilt {
            Ok(Rebuilt { frame, resync }) => {
                self.stats.resync += u64::from(resync.is_some());
                let claimed = flags.digest_ok() && resync.is_none();
                let digest_ok = self.credit(claimed);
                let doubted = claimed && !digest_ok && self.check_digest;
                Ok(Rebuilt { frame: frame.with_digest_ok(digest_ok).with_digest_doubted(doubted), resync })
            }
            Err(rejected) => Err(self.count(rejected)),
        }
    }

    #[cold]
    #[inline(never)]
    fn count(&mut self, rejected: Rejected) -> Rejected {
        self.stats.count_rejection(rejected.why);
        rejected
    }

    /// Whether the device's word for a packet's digests is believed.
    #[inline(always)]
    fn credit(&mut self, claimed: bool) -> bool {
        if claimed && self.attention.distrusts_digest() {
            self.attention = Attention::NONE;
            self.stats.digest_distrusted += 1;
            return false;
        }
        self.believe(claimed)
    }

    #[inline(always)]
    fn believe(&mut self, claimed: bool) -> bool {
        let ok = claimed & self.check_digest;
        self.stats.digest_ok += u64::from(ok);
        ok
    }

    /// Takes the buffer of a read for its tag and tells the device of it if it can; see
    /// [`Offload::setup`](super::contract::Offload::setup).
    ///
    /// If the control ring is full, the device is shown what is in it and is given [`ROOM_PATIENCE`] to make room: a binding
    /// costs it less than a microsecond, a read that is not placed costs a copy. Then the read goes un-offloaded.
    #[inline(always)]
    pub fn setup(&mut self, tag: u16, buffer: IoBuf, platform: &impl Platform) -> Result<Setup, NotPinned> {
        // What waits for room goes first.
        if !self.binding.takes(&buffer) || !self.unbind_later.is_empty() {
            return self.setup_late(tag, buffer, platform);
        }
        let pinned = match self.tags.pin_to_bind(tag, buffer) {
            Ok(pinned) => pinned,
            Err(buffer) => return Err(self.tags.not_pinned(tag, buffer)),
        };
        let (bytes, list) = (pinned.buffer.len() as u32, pinned.buffer.device_list());
        match self.icosq.bind(tag, pinned.key, bytes, list, self.binding.mask) {
            Ok(posted) => {
                pinned.bind(posted);
                self.stats.setup += 1;
                Ok(Setup::Offloaded)
            }
            Err(_) => Ok(self.bind_late(tag, platform)),
        }
    }

    /// Takes the buffer of a read for its tag against the threshold: one that is below is bound all the same, another is not.
    #[cold]
    pub fn probe(
        &mut self,
        tag: u16,
        buffer: IoBuf,
        probe: Probe,
        platform: &impl Platform,
    ) -> Result<Setup, NotPinned> {
        match probe {
            Probe::Bind => {
                let threshold = self.binding.threshold as u32;
                self.binding = self.binding.with_threshold(1);
                let setup = self.setup(tag, buffer, platform);
                self.binding = self.binding.with_threshold(threshold);
                setup
            }
            Probe::Copy => {
                self.tags.pin(tag, buffer)?;
                Ok(self.not_offloaded(tag, Why::Probe))
            }
        }
    }

    /// From now on reads of fewer bytes are not offloaded.
    pub fn set_threshold(&mut self, bytes: u32) {
        self.binding = self.binding.with_threshold(bytes);
    }

    /// Holds a buffer that cannot be bound at once; says and counts why not, if it cannot be bound at all.
    #[cold]
    #[inline(never)]
    fn setup_late(&mut self, tag: u16, buffer: IoBuf, platform: &impl Platform) -> Result<Setup, NotPinned> {
        let why = self.binding.why_not(&buffer);
        self.tags.pin(tag, buffer)?;
        match why {
            Some(why) => Ok(self.not_offloaded(tag, why)),
            None => Ok(self.bind_late(tag, platform)),
        }
    }

    fn not_offloaded(&mut self, tag: u16, why: Why) -> Setup {
        self.tags.not_bound(tag, why);
        self.stats.count_not_offloaded(why);
        Setup::NotOffloaded(why)
    }

    /// The control ring has no room for the binding of a pinned buffer: waits until it has.
    #[cold]
    #[inline(never)]
    fn bind_late(&mut self, tag: u16, platform: &impl Platform) -> Setup {
        let deadline = Deadline::after(platform, ROOM_PATIENCE);
        let bound = deadline.wait(platform, || {
            self.poll();
            let bound = if self.unbind_later.is_empty() { self.bind_pinned(tag) } else { Err(NotPosted::Full) };
            match bound {
                Err(NotPosted::Full) => {
                    self.icosq.flush(platform);
                    None
                }
                bound => Some(bound),
            }
        });
        match bound {
            Some(Ok(())) => {
                self.stats.setup += 1;
                Setup::Offloaded
            }
            Some(Err(_)) => self.not_offloaded(tag, Why::ControlRingFailed),
            None if self.unbind_later.is_empty() => self.not_offloaded(tag, Why::ControlRingFull),
            None => self.not_offloaded(tag, Why::Draining),
        }
    }

    fn bind_pinned(&mut self, tag: u16) -> Result<(), NotPosted> {
        let (Some(buffer), Some(key)) = (self.tags.buffer(tag), self.tags.key(tag)) else {
            return Err(NotPosted::Failed);
        };
        let (bytes, list) = (buffer.len() as u32, buffer.device_list());
        let posted = self.icosq.bind(tag, key, bytes, list, self.binding.mask)?;
        self.tags.bind(posted).map_err(|error| {
            log::error!("{error}");
            NotPosted::Failed
        })
    }

    /// Holds the buffer of a command that is not to be offloaded, such as the source of a write.
    pub fn hold(&mut self, tag: u16, buffer: IoBuf) -> Result<(), NotPinned> {
        self.tags.pin(tag, buffer)
    }

    /// Asks for the buffer of a tag back; see [`Offload::teardown`](super::contract::Offload::teardown).
    #[inline]
    pub fn teardown(&mut self, tag: u16) -> Result<Teardown, TagError> {
        match self.tags.state(tag)? {
            State::Pinned => self.tags.release(tag).map(Teardown::Done),
            State::Bound if self.unbind_later.is_empty() => {
                if !self.unbind(tag)? {
                    self.unbind_later.push_back(tag);
                }
                Ok(Teardown::Pending)
            }
            // Those that wait for room go first.
            State::Bound if !self.unbind_later.contains(&tag) => {
                self.unbind_later.push_back(tag);
                Ok(Teardown::Pending)
            }
            state => Err(TagError::WrongState { tag, state, action: "be torn down" }),
        }
    }

    /// Posts the invalidate of a bound tag. False if there is no room.
    #[inline(always)]
    fn unbind(&mut self, tag: u16) -> Result<bool, TagError> {
        let Some(key) = self.tags.key(tag) else {
            return Err(TagError::NoSuchTag { tag, depth: self.tags.depth() });
        };
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
        self.attention = Attention::NEXT_DIGEST;
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
            Completed::Bad(bad) => stats.control_rejected.count(bad.into()),
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
    #[inline]
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
