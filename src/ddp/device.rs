//! All offload queues of one owner, and the [`Offload`] contract over them.
//!
//! [`Offloads`] is what the receive path and the polling loop use; it needs nothing but itself. Adding and removing queues
//! needs firmware and steering as well, which the owner lends for the time: [`Offloads::with`] makes a [`Device`], and that
//! is what the layer-5 protocol knows as the driver.
//!
//! A queue is published in the lookup before its steering rule exists, so no flagged completion ever meets a flow tag that
//! nobody knows, and it is taken out after the rule and the firmware objects are gone.

use super::contract::{Config, Event, Limits, Offload, Setup, SetupError, Teardown, TeardownError};
use super::create::{Capacity, CreateError, Created, Plan, Removed, create_each};
use super::keys::KeyPool;
use super::lookup::{Lookup, NoQueueId, QueueId};
use super::memory::{Memory, RingBytes};
use super::policy::Probe;
use super::queue::OffloadQueue;
use super::rebuild::{self, Flags, Rebuilt, Rejected, Rejection};
use super::stats::Stats;
use super::why::WhyNoOffload;
use super::wqe::ConnectionParams;
use crate::adapter::{Objects, Refused};
use crate::command::CommandError;
use crate::dma::IoBuf;
use crate::frame::Arrival;
use crate::platform::{Deadline, Platform};
use crate::queue::{Base, CompletionFault, CompletionQueue, CqeFields, ReceiveQueue};
use crate::steering::{FiveTuple, RuleId, Steering, SteeringError};
use hw_regs::cqe::OffloadCqe;
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Memory keys kept for the next queue: of 32 queues of 128 tags, 8 MiB in the device.
const SPARE_KEYS: u32 = 4096;

/// How the offload is to be used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Queue ids of this owner, disjoint from those of others on the same device.
    pub ids: RangeInclusive<u16>,
    /// Reads of fewer bytes are not offloaded; 0 for none. Linux has 32 KiB.
    pub threshold: u32,
    /// log2 of the control ring's blocks (5 to 15); `None` for what suits the queue's tags ([`Capacity::log_ring`]).
    pub log_ring: Option<u32>,
    /// Memory keys that may wait for a queue while no queue has them. One costs the device what its longest list takes, 2
    /// KiB with lists of 128 pieces.
    pub spare_keys: u32,
    /// Event queue of the control rings' completions.
    pub eqn: u32,
    /// How long adding or removing a queue may take.
    pub patience: Duration,
}

impl Settings {
    /// As many ids as Linux has, every read, rings that suit their queues, and 3 seconds, as long as Linux waits for an
    /// offload context.
    pub fn new(eqn: u32) -> Settings {
        let patience = Duration::from_secs(3);
        Settings { ids: 1..=3999, threshold: 0, log_ring: None, spare_keys: SPARE_KEYS, eqn, patience }
    }
}

/// A connection to be offloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its addresses, as received packets show them.
    pub tuple: FiveTuple,
    /// Sequence number of the next PDU header that the device will see: the end of everything that was consumed. No packet
    /// may be on its way that the owner has not taken into account.
    pub next_pdu: u32,
}

/// Why a connection could not be offloaded. Nothing is left behind, unless the log says so.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// No queue id is free.
    #[error(transparent)]
    NoId(#[from] NoQueueId),
    /// The queue could not be created.
    #[error("offload queue: {0}")]
    Create(#[from] CreateError),
    /// The connection could not be steered.
    #[error("steering rule of the offload queue: {0}")]
    Rule(#[from] SteeringError),
}

impl AddError {
    /// The same in a word.
    pub fn why(&self) -> WhyNoOffload {
        match self {
            AddError::NoId(_) => WhyNoOffload::QueueLimit,
            AddError::Create(error) => error.why(),
            AddError::Rule(SteeringError::Full { .. }) => WhyNoOffload::SteeringFull,
            AddError::Rule(_) => WhyNoOffload::SteeringRefused,
        }
    }
}

#[derive(Debug)]
struct Entry {
    created: Created,
    id: QueueId,
    rule: Option<RuleId>,
    /// Listed in `unflushed`, in `waiting`, in `eventful`.
    unflushed: bool,
    waiting: bool,
    eventful: bool,
}

/// What a completion of the receive queue came to.
#[derive(Debug)]
#[must_use = "receive buffers must go back to their pool"]
pub enum Received {
    /// A packet.
    Packet(Rebuilt),
    /// An entry that cannot be true, counted, and the buffer to be given back.
    Rejected(Rejected),
    /// No packet: the receive queue failed, or the entry cannot be one of its.
    Fault(CompletionFault),
}

/// The offload queues of one owner, by flow tag.
#[derive(Debug)]
pub struct Offloads {
    capacity: Capacity,
    settings: Settings,
    queues: Lookup<Box<Entry>>,
    /// Keys of queues that are gone.
    keys: KeyPool,
    /// Counters of what belongs to no queue, and of queues that are gone.
    past: Stats,
    /// Queues with work that the device was not told of.
    unflushed: Vec<u32>,
    /// Queues whose control rings have completions or room to wait for.
    waiting: Vec<u32>,
    /// Queues with events, each once.
    eventful: VecDeque<u32>,
}

impl Entry {
    fn new(created: Created, id: QueueId) -> Entry {
        Entry { created, id, rule: None, unflushed: false, waiting: false, eventful: false }
    }
}

impl Offloads {
    /// No queues.
    ///
    /// # Panics
    /// If the settings' ids are empty or out of range.
    pub fn new(capacity: Capacity, settings: Settings) -> Offloads {
        Offloads {
            queues: Lookup::new(settings.ids.clone()),
            keys: KeyPool::new(settings.spare_keys),
            capacity,
            settings,
            past: Stats::default(),
            unflushed: Vec::new(),
            waiting: Vec::new(),
            eventful: VecDeque::new(),
        }
    }

    /// The driver as the layer-5 protocol sees it, with firmware and steering lent.
    pub fn with<'a, O: Objects, P: Platform>(
        &'a mut self,
        objects: &'a mut O,
        steering: &'a mut Steering,
        platform: &'a P,
        base: &'a Base,
    ) -> Device<'a, O, P> {
        Device { offloads: self, objects, steering, platform, base }
    }

    /// What the device can do.
    pub fn limits(&self) -> Limits {
        let (first, last) = (self.settings.ids.start(), self.settings.ids.end());
        Limits {
            max_ddp_sgl_len: self.capacity.max_entries,
            max_queue_size: self.capacity.max_tags,
            max_queues: last - first + 1,
            io_threshold: self.settings.threshold,
            tls: false,
            full_ccid_range: false,
        }
    }

    /// A completion entry of a receive queue of 128-byte entries, and the packet that the queue found for it
    /// ([`ReceiveQueue::accept`](crate::queue::ReceiveQueue::accept)). The frame names its offload queue; an entry that
    /// cannot be true is counted, and its buffer comes back with the reason.
    #[inline(always)]
    pub fn receive(&mut self, entry: &impl CqeFields<OffloadCqe>, arrival: Arrival) -> Result<Rebuilt, Rejected> {
        let flags = Flags::of(entry);
        if !flags.any() {
            return Ok(Rebuilt { frame: rebuild::plain(entry, arrival), resync: None });
        }
        let flow_tag = rebuild::flow_tag(entry);
        match self.queues.get_mut(flow_tag) {
            Some(published) => published.created.queue.receive_flagged(entry, flags, flow_tag, arrival),
            None => Err(self.count(rebuild::refuse(arrival.into_buffer(), Rejection::NoQueue))),
        }
    }

    /// Reads completions and makes frames of them, at most `limit`: [`CompletionQueue::poll_in_place`],
    /// [`ReceiveQueue::accept`] and [`Offloads::receive`] for each, with the same checks, but such that what is true of many
    /// packets in a row is asked once. Returns how many entries were read; the owner then posts buffers anew.
    #[inline(always)]
    pub fn receive_burst(
        &mut self,
        cq: &mut CompletionQueue<OffloadCqe>,
        rq: &mut ReceiveQueue,
        limit: u32,
        mut each: impl FnMut(Received),
    ) -> u32 {
        let mut taken = 0;
        while taken < limit {
            let Some(entry) = cq.poll_in_place() else { break };
            taken += 1;
            let rebuilt = match rq.accept(&entry) {
                Ok(arrival) => self.receive(&entry, arrival),
                Err(fault) => {
                    each(Received::Fault(fault));
                    continue;
                }
            };
            let rebuilt = match rebuilt {
                Ok(rebuilt) => rebuilt,
                Err(rejected) => {
                    each(Received::Rejected(rejected));
                    continue;
                }
            };
            let (queue, placed) = (rebuilt.frame.queue(), rebuilt.frame.placed().is_some());
            each(Received::Packet(rebuilt));
            // More of the same read, probably.
            if placed && let Some(published) = self.queues.get_mut(queue) {
                let queue = &mut published.created.queue;
                let flow_tag = published.id.flow_tag();
                taken += queue.receive_run(cq, rq, flow_tag, limit - taken, |rebuilt| each(Received::Packet(rebuilt)));
            }
        }
        taken
    }

    #[cold]
    #[inline(never)]
    fn count(&mut self, rejected: Rejected) -> Rejected {
        self.past.count_rejection(rejected.why);
        rejected
    }

    fn plan(&self, socket: &Socket, config: &Config) -> Plan {
        Plan {
            tags: config.queue_size,
            params: ConnectionParams {
                zero_copy: true,
                check_data_digest: config.data_digest && self.capacity.check_digest,
                data_digest: config.data_digest,
                header_digest: config.header_digest,
                pda: config.cpda,
            },
            next_pdu: socket.next_pdu,
            rqtn: config.rqtn,
            eqn: self.settings.eqn,
            log_ring: self.settings.log_ring,
            threshold: self.settings.threshold,
        }
    }

    /// Memory keys that wait for a queue.
    pub fn spare_keys(&self) -> usize {
        self.keys.len()
    }

    /// A queue, to be looked at.
    pub fn queue(&self, queue: u32) -> Option<&OffloadQueue> {
        Some(&self.queues.get(queue)?.created.queue)
    }

    /// Every queue and its number.
    pub fn queues(&self) -> impl Iterator<Item = (u32, &OffloadQueue)> {
        self.queues.iter().map(|entry| (entry.id.flow_tag(), &entry.created.queue))
    }

    /// Number of queues.
    pub fn len(&self) -> usize {
        self.queues.iter().count()
    }

    /// True if there is no queue.
    pub fn is_empty(&self) -> bool {
        self.queues.iter().next().is_none()
    }

    /// The memory of a queue's payload: what arrived in `ring` and what the device placed.
    pub fn memory<'a, R: RingBytes>(&'a mut self, queue: u32, ring: &'a R) -> Option<Memory<'a, R>> {
        let queue = &mut self.queues.get_mut(queue)?.created.queue;
        let digests = queue.checks_digests();
        let (tags, stats) = queue.tags_and_stats();
        Some(Memory::new(ring, tags, stats).with_digests(digests))
    }

    #[inline(always)]
    fn touch(&mut self, queue: u32) -> Option<&mut OffloadQueue> {
        let entry = self.queues.get_mut(queue)?;
        if !std::mem::replace(&mut entry.unflushed, true) {
            self.unflushed.push(queue);
        }
        Some(&mut entry.created.queue)
    }

    /// Takes the buffer of a read; see [`Offload::setup`].
    #[inline]
    pub fn setup(
        &mut self,
        queue: u32,
        tag: u16,
        buffer: IoBuf,
        platform: &impl Platform,
    ) -> Result<Setup, SetupError> {
        match self.touch(queue) {
            Some(q) => Ok(q.setup(tag, buffer, platform)?),
            None => Err(SetupError::NoSuchQueue { queue, buffer }),
        }
    }

    /// [`Offloads::setup`] against the threshold.
    pub fn probe(
        &mut self,
        queue: u32,
        tag: u16,
        buffer: IoBuf,
        probe: Probe,
        platform: &impl Platform,
    ) -> Result<Setup, SetupError> {
        match self.touch(queue) {
            Some(q) => Ok(q.probe(tag, buffer, probe, platform)?),
            None => Err(SetupError::NoSuchQueue { queue, buffer }),
        }
    }

    /// From now on reads of fewer bytes are not offloaded, on any queue.
    pub fn set_threshold(&mut self, bytes: u32) {
        self.settings.threshold = bytes;
        self.queues.iter_mut().for_each(|entry| entry.created.queue.set_threshold(bytes));
    }

    /// True if binding made room in a queue's control ring, so that tags are known to be forgotten: [`Offloads::next_event`]
    /// has them, and is to be asked after the receive queue was drained.
    #[inline]
    pub fn has_events(&mut self, queue: u32) -> bool {
        let Some(entry) = self.queues.get_mut(queue).filter(|entry| entry.created.queue.has_events()) else {
            return false;
        };
        if !std::mem::replace(&mut entry.eventful, true) {
            self.eventful.push_back(queue);
        }
        true
    }

    /// Holds the buffer of a command that is not to be offloaded, such as the source of a write.
    pub fn hold(&mut self, queue: u32, tag: u16, buffer: IoBuf) -> Result<(), SetupError> {
        match self.queues.get_mut(queue) {
            Some(entry) => Ok(entry.created.queue.hold(tag, buffer)?),
            None => Err(SetupError::NoSuchQueue { queue, buffer }),
        }
    }

    /// Asks for the buffer of a tag back; see [`Offload::teardown`].
    #[inline]
    pub fn teardown(&mut self, queue: u32, tag: u16) -> Result<Teardown, TeardownError> {
        Ok(self.touch(queue).ok_or(TeardownError::NoSuchQueue(queue))?.teardown(tag)?)
    }

    /// Confirms a PDU header; see [`Offload::resync`].
    pub fn resync(&mut self, queue: u32, sequence: u32) -> bool {
        self.touch(queue).map(|q| q.resync(sequence)).is_some()
    }

    /// Shows the device all work of all queues, one doorbell for each that has some. Returns how many.
    pub fn flush(&mut self, platform: &impl Platform) -> u32 {
        let mut doorbells = 0;
        for queue in self.unflushed.drain(..) {
            let Some(entry) = self.queues.get_mut(queue) else { continue };
            entry.unflushed = false;
            doorbells += u32::from(entry.created.queue.flush(platform));
            if entry.created.queue.is_waiting() && !std::mem::replace(&mut entry.waiting, true) {
                self.waiting.push(queue);
            }
        }
        doorbells
    }

    /// Reaps the control rings that have something to wait for. Returns the number of completions. What they mean comes
    /// with [`Offloads::next_event`], after the receive queue was drained (see the module [`ddp`](super)).
    pub fn poll(&mut self) -> u32 {
        let mut read = 0;
        let (queues, unflushed, eventful) = (&mut self.queues, &mut self.unflushed, &mut self.eventful);
        self.waiting.retain(|queue| {
            let Some(entry) = queues.get_mut(*queue) else { return false };
            let completions = entry.created.queue.poll();
            read += completions;
            // Also of completions that were reaped since the last time, to make room for a binding.
            if entry.created.queue.has_events() && !std::mem::replace(&mut entry.eventful, true) {
                eventful.push_back(*queue);
            }
            // Room may have let work through that waited for it.
            if completions != 0 && !std::mem::replace(&mut entry.unflushed, true) {
                unflushed.push(*queue);
            }
            entry.waiting = entry.created.queue.is_waiting() && !entry.created.queue.has_failed();
            entry.waiting
        });
        read
    }

    /// The next thing that the L5P of a queue (first of the pair) has to know.
    #[inline]
    pub fn next_event(&mut self) -> Option<(u32, Event)> {
        while let Some(&queue) = self.eventful.front() {
            if let Some(entry) = self.queues.get_mut(queue) {
                if let Some(event) = entry.created.queue.next_event() {
                    return Some((queue, event));
                }
                entry.eventful = false;
            }
            self.eventful.pop_front();
        }
        None
    }

    /// A CQ error event named completion queue `cqn`. False if it belongs to no control ring.
    pub fn on_cq_error(&mut self, cqn: u32, syndrome: u8) -> bool {
        let entry = self.queues.iter_mut().find(|entry| entry.created.queue.icosq().cqn() == cqn);
        entry.map(|entry| entry.created.queue.on_cq_error(syndrome)).is_some()
    }

    /// The owner goes: destroys the keys that wait for a queue. Returns what firmware refused.
    pub fn let_go(self, objects: &mut impl Objects, deadline: Deadline) -> Vec<Refused> {
        self.keys.destroy(objects, deadline)
    }

    /// Counters over all queues, those that are gone included.
    pub fn stats(&self) -> Stats {
        let mut sum = self.past;
        self.queues.iter().for_each(|entry| sum += entry.created.queue.stats());
        sum
    }

    /// Doorbells of all control rings.
    pub fn doorbells(&self) -> u64 {
        self.queues.iter().map(|entry| entry.created.queue.icosq().doorbells()).sum()
    }
}

/// The offload queues with what it takes to add and remove them.
pub struct Device<'a, O, P> {
    offloads: &'a mut Offloads,
    objects: &'a mut O,
    steering: &'a mut Steering,
    platform: &'a P,
    base: &'a Base,
}

impl<O: Objects, P: Platform> Device<'_, O, P> {
    fn deadline(&self) -> Deadline {
        Deadline::after(self.platform, self.offloads.settings.patience)
    }

    /// Takes a queue's steering rule back, so that its packets go to the defaults. To be done before [`Offload::sk_del`]
    /// where the owner wants to read what the device had already placed; `sk_del` does it otherwise. False if there is no
    /// such queue.
    pub fn stop(&mut self, queue: u32) -> Result<bool, CommandError> {
        let deadline = self.deadline();
        let Some(entry) = self.offloads.queues.get_mut(queue) else { return Ok(false) };
        match entry.rule.take() {
            Some(rule) => self.steering.remove_rule(self.objects, rule, deadline).map(|()| true),
            None => Ok(true),
        }
    }

    /// [`Offload::sk_add`] of many connections, whose commands keep every slot busy: one outcome for each, in order. The
    /// owner waits for all of them, so it says how many at a time: a hundred queues of 128 tags take some 20 ms.
    pub fn add_each(&mut self, wanted: &[(Socket, Config)]) -> Vec<Result<u32, AddError>> {
        let deadline = self.deadline();
        let ids: Vec<_> = wanted.iter().map(|_| self.offloads.queues.reserve()).collect();
        let possible = wanted.iter().zip(&ids).filter(|(_, id)| id.is_ok());
        let plans: Vec<Plan> = possible.map(|((socket, config), _)| self.offloads.plan(socket, config)).collect();
        let (capacity, spare) = (self.offloads.capacity, &mut self.offloads.keys);
        let created = create_each(self.objects, self.platform, self.base, &capacity, spare, &plans, deadline);
        let mut created = created.into_iter();
        let mut outcomes = Vec::with_capacity(wanted.len());
        let mut rules = Vec::new();
        for ((socket, _), id) in wanted.iter().zip(ids) {
            outcomes.push(match id {
                Ok(id) => match created.next().expect("one outcome per plan") {
                    Ok(created) => {
                        let (queue, tirn) = (id.flow_tag(), created.queue.tirn());
                        self.offloads.queues.publish(queue, Box::new(Entry::new(created, id)));
                        rules.push((socket.tuple, tirn, queue));
                        Ok(queue)
                    }
                    Err(error) => {
                        self.offloads.queues.release(id);
                        Err(error.into())
                    }
                },
                Err(none) => Err(none.into()),
            });
        }
        let mut steered = self.steering.add_rules(self.objects, &rules, deadline).into_iter();
        for outcome in &mut outcomes {
            let Ok(queue) = *outcome else { continue };
            match steered.next().expect("one outcome per rule") {
                Ok(rule) => {
                    if let Some(entry) = self.offloads.queues.get_mut(queue) {
                        entry.rule = Some(rule);
                    }
                }
                Err(error) => {
                    if let Some(removed) = self.remove(queue)
                        && !removed.errors.is_empty()
                    {
                        log::error!("after a failed steering rule: {removed}");
                    }
                    *outcome = Err(error.into());
                }
            }
        }
        for outcome in &outcomes {
            match outcome.as_ref().ok().and_then(|queue| self.offloads.queues.get_mut(*queue)) {
                Some(entry) => entry.created.queue.stats.sk_add += 1,
                None => self.offloads.past.sk_add_fail += 1,
            }
        }
        outcomes
    }

    fn remove(&mut self, queue: u32) -> Option<Removed> {
        let stopped = self.stop(queue);
        let deadline = self.deadline();
        let entry = *self.offloads.queues.remove(queue)?;
        let mut removed = entry.created.remove(self.objects, self.platform, &mut self.offloads.keys, deadline);
        removed.errors.extend(stopped.err());
        self.offloads.past += &removed.stats;
        match removed.errors.is_empty() {
            true => self.offloads.queues.release(entry.id),
            // Packets may still come with this flow tag: nobody else may have it.
            false => log::error!("offload queue {queue}: {removed}; its id is not used again"),
        }
        Some(removed)
    }
}

impl<O: Objects, P: Platform> Offload for Device<'_, O, P> {
    type Socket = Socket;
    type AddError = AddError;
    type Removed = Removed;

    fn limits(&self) -> Limits {
        self.offloads.limits()
    }

    fn sk_add(&mut self, socket: &Socket, config: &Config) -> Result<u32, AddError> {
        self.add_each(&[(*socket, *config)]).pop().expect("one outcome per connection")
    }

    fn sk_del(&mut self, queue: u32) -> Option<Removed> {
        self.offloads.queues.get_mut(queue)?.created.queue.stats.sk_del += 1;
        self.remove(queue)
    }

    fn setup(&mut self, queue: u32, tag: u16, buffer: IoBuf) -> Result<Setup, SetupError> {
        self.offloads.setup(queue, tag, buffer, self.platform)
    }

    fn teardown(&mut self, queue: u32, tag: u16) -> Result<Teardown, TeardownError> {
        self.offloads.teardown(queue, tag)
    }

    fn resync(&mut self, queue: u32, sequence: u32) -> bool {
        self.offloads.resync(queue, sequence)
    }
}

#[cfg(test)]
mod tests;
