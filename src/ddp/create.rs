//! How an offload queue comes into being and goes away (`nvme-tcp-offload.md` §7.2, §7.8).
//!
//! ```text
//! add:     tag buffer table, CQ, memory keys ─► SQ, TIR ─► SQ ready ─► static + progress parameters, table filled
//!          ─► the control ring is idle: the device has taken it all          (then: published, then the steering rule)
//!
//! remove:  (rule, by the owner) ─► tags unbound and drained ─► TIR, SQ ─► table, CQ ─► keys kept ─► buffers released
//! ```
//!
//! Each arrow is one round of commands, and one for all queues that are added together. Memory keys come one per tag, and
//! outlive their queue ([`keys`](super::keys)). Whatever fails while adding, everything that was created is destroyed again.
//! Buffers come out of a removal only if the device has forgotten each, or the TIR and all keys are gone; else they stay
//! quarantined until a reset of the function.

use super::icosq::{Icosq, NotPosted, Work};
use super::keys::KeyPool;
use super::queue::{Binding, OffloadQueue};
use super::stats::Stats;
use super::tags::{INDEX_SHIFT, Quiesced, Released, TagTable};
use super::why::WhyNoOffload;
use super::wqe::{self, ConnectionParams, KLMS_PER_BLOCK};
use crate::adapter::{Creation, Handle, Objects, OffloadCaps, Refused};
use crate::command::{CommandError, Failures, ObjectKind, Request};
use crate::platform::{Deadline, Platform};
use crate::queue::{Base, CompletionQueue, ErrorCompletion, QueueError, SendParams, SendRing, UnknownCq, UnknownSq};
use crate::steering::{OffloadFields, Target, TirParams};
use firmware_iface::Opcode;
use firmware_iface::caps::TAG_BUFFER_TABLE_OBJECT;
use firmware_iface::command::object::{CreateMkeyIn, CreateTagBufferTableIn, DestroyMkeyIn, GeneralObjInCmdHdr};
use firmware_iface::context::{AccessMode, Mkc};
use hw_regs::cqe::Cqe64;
use hw_regs::layout::{Access, Layout};
use std::fmt;

/// Most blocks that padding at the end of a ring takes: one less than a work request.
const MAX_PADDING: usize = 15;
/// Sizes of a send ring, log2 of its blocks ([`SendParams::log_wqebbs`]).
const RING_LOGS: std::ops::RangeInclusive<u32> = 5..=15;

/// What the device's capabilities allow (§2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Pieces of one read's buffer.
    pub max_entries: u16,
    /// Tags of one queue.
    pub max_tags: u32,
    /// KLM entries in one WQE.
    pub per_wqe: usize,
    /// log2 of the largest control ring, in blocks.
    pub max_log_ring: u32,
    /// The device checks data digests.
    pub check_digest: bool,
}

impl Capacity {
    /// What a function with these capabilities, and send queues of at most `1 << log_max_sq` blocks (`log_max_qp_sz`), can
    /// do. `None` if it cannot place anything ([`OffloadCaps::why_not`]).
    pub fn new(caps: &OffloadCaps, log_max_sq: u32) -> Option<Capacity> {
        if !caps.possible() {
            return None;
        }
        Some(Capacity {
            max_entries: caps.max_sgl_entries().min(u32::from(u16::MAX)) as u16,
            max_tags: caps.max_queue_size(),
            per_wqe: wqe::entries_per_wqe(caps.max_wqe_bytes_sq.into())?,
            max_log_ring: log_max_sq.clamp(*RING_LOGS.start(), *RING_LOGS.end()),
            check_digest: caps.crc_rx,
        })
    }

    /// log2 of the blocks of a queue's control ring: what its plan says, or else one for two tags, and what the longest list
    /// takes.
    ///
    /// A binding of one piece takes three blocks and an unbinding two, and each is in the ring for microseconds, not for the
    /// time of its read. So this is enough for a sixth of the tags between two looks at the ring; who finds it full shows it to
    /// the device and waits ([`OffloadQueue::setup`]). A ring that holds every tag with the longest list would be a hundred
    /// times as large.
    pub fn log_ring(&self, plan: &Plan) -> u32 {
        let longest = wqe::setup_blocks(self.max_entries.into(), self.per_wqe) + MAX_PADDING;
        let blocks = longest.max(plan.tags as usize / 2).next_power_of_two();
        let log = plan.log_ring.unwrap_or(blocks.trailing_zeros());
        log.clamp(*RING_LOGS.start(), self.max_log_ring)
    }

    /// log2 of the entries of its completion queue: what asks for a completion has two blocks or more, but for one.
    fn log_cq(&self, plan: &Plan) -> u32 {
        self.log_ring(plan) - 1
    }

    /// Checks that a queue can be as planned.
    fn check(&self, plan: &Plan) -> Result<(), CreateError> {
        if plan.tags == 0 || plan.tags > self.max_tags {
            return Err(CreateError::Tags { tags: plan.tags, max: self.max_tags });
        }
        if plan.params.pda > 31 {
            return Err(CreateError::Alignment(plan.params.pda));
        }
        Ok(())
    }
}

/// Entries of a list, pads included, that a memory key for `max_entries` has room for. A UMR says the size in 16 bits.
fn list_room(max_entries: u16) -> usize {
    usize::from(max_entries).next_multiple_of(KLMS_PER_BLOCK).min(usize::from(u16::MAX) + 1 - KLMS_PER_BLOCK)
}

impl CreateError {
    /// The same in a word.
    pub fn why(&self) -> WhyNoOffload {
        match self {
            CreateError::Tags { .. } => WhyNoOffload::TagsAboveTable,
            CreateError::Alignment(_) => WhyNoOffload::Alignment,
            CreateError::Command { what: Part::TagBufferTable, .. } => WhyNoOffload::TableRefused,
            CreateError::Command { what: Part::Tir, .. } => WhyNoOffload::TirRefused,
            CreateError::Command { what: Part::MemoryKeys, .. } => WhyNoOffload::KeysRefused,
            CreateError::Queue(_) => WhyNoOffload::ControlRingRefused,
            CreateError::Refused(_) => WhyNoOffload::ContextRefused,
            CreateError::TimedOut { .. } => WhyNoOffload::TimedOut,
        }
    }
}

/// What a queue is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Tags.
    pub tags: u32,
    /// What was negotiated.
    pub params: ConnectionParams,
    /// Sequence number of the first PDU header that the device will see.
    pub next_pdu: u32,
    /// RQT with the one receive queue of the connection.
    pub rqtn: u32,
    /// Event queue of the control ring's completions.
    pub eqn: u32,
    /// log2 of the control ring's blocks; `None` for what suits the tags ([`Capacity::log_ring`]).
    pub log_ring: Option<u32>,
    /// Reads of fewer bytes are not offloaded.
    pub threshold: u32,
}

/// Firmware objects of a queue, but for its control ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Where the device finds the memory key of each tag.
    TagBufferTable,
    /// The TIR with the offload context.
    Tir,
    /// One key per tag.
    MemoryKeys,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::TagBufferTable => "tag buffer table",
            Part::Tir => "TIR",
            Part::MemoryKeys => "tag memory keys",
        })
    }
}

/// Why a queue could not be created. Nothing is left behind, unless the log says so.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// More tags than the device has, or none.
    #[error(
        "a queue of {tags} tags; the device can have 1 to {max} (log_max_nvmeotcp_tag_buffer_size): use a smaller queue size"
    )]
    Tags {
        /// Asked for.
        tags: u32,
        /// Possible.
        max: u32,
    },
    /// An alignment that the field cannot say.
    #[error("a PDU data alignment of {0} dwords (0-based); at most 31 is possible")]
    Alignment(u8),
    /// A command failed.
    #[error("{what}: {error}")]
    Command {
        /// What was to be created.
        what: Part,
        /// Why not.
        error: CommandError,
    },
    /// The control ring could not be created.
    #[error("control ring: {0}")]
    Queue(#[from] QueueError),
    /// A work request that writes the offload context failed.
    #[error("offload context: {0}")]
    Refused(ErrorCompletion),
    /// The device did not take the offload context in time.
    #[error("the device has not taken {what} after {waited:?}: {awaited} completions of the control ring are missing")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// How long.
        waited: std::time::Duration,
        /// Completions that did not come.
        awaited: u32,
    },
}

/// Firmware objects of a queue beside its control ring.
#[derive(Debug)]
struct Held {
    tir: Handle,
    table: Handle,
    keys: Handle,
}

/// A queue and its firmware objects.
#[derive(Debug)]
pub struct Created {
    /// The queue at work.
    pub queue: OffloadQueue,
    held: Held,
}

/// What came of a removal.
#[derive(Debug)]
#[must_use = "released buffers wait for their callers"]
pub struct Removed {
    /// Buffers that the queue held.
    pub released: Vec<Released>,
    /// Objects that stay, and why.
    pub errors: Vec<CommandError>,
    /// Buffers that the device may still write: [`TagTable::quiesce`] after a reset of the function gives them back.
    /// Dropping it keeps the memory from reuse for ever.
    pub quarantined: Option<TagTable>,
    /// The queue's counters.
    pub stats: Stats,
}

impl Created {
    /// Takes everything down. The steering rule is gone and the receive queue was drained. Buffers that the device cannot
    /// write any more are released; keys through which it can write nothing go to `spare`.
    pub fn remove(
        mut self,
        objects: &mut impl Objects,
        platform: &impl Platform,
        spare: &mut KeyPool,
        deadline: Deadline,
    ) -> Removed {
        let queue = &mut self.queue;
        // A drained tag is the device's own word that it has forgotten the buffer; without it the keys' end must do.
        queue.unbind_all();
        queue.flush(platform);
        let drained = deadline.wait(platform, || {
            queue.poll();
            queue.flush(platform);
            (queue.is_drained() || queue.has_failed()).then_some(())
        });
        if drained.is_none() {
            log::warn!("{} tags of an offload queue did not drain in time", queue.tags().known_to_device());
        }
        let (mut tags, stats, icosq) = self.queue.into_parts();
        let Held { tir, table, keys } = self.held;
        let ((ring, _), cq) = icosq.into_handles();
        // TIR and ring refer to table and CQ.
        let mut refused = objects.destroy_each(vec![tir, ring], deadline);
        refused.extend(objects.destroy_each(vec![table, cq], deadline));
        let gone = |kind| !refused.iter().any(|refused: &Refused| refused.kind == kind);
        let (tir_gone, table_gone) = (gone(ObjectKind::Tir), gone(ObjectKind::TagBufferTable));
        let forgotten = tags.known_to_device() == 0;
        let mut proof = None;
        // A table that stays would lead late packets of this connection into buffers of the next.
        match forgotten && tir_gone && table_gone {
            true => refused.extend(spare.give(objects, keys, deadline)),
            false => {
                let stay = objects.destroy_each(vec![keys], deadline);
                proof = (tir_gone && stay.is_empty()).then(Quiesced::keys_destroyed);
                refused.extend(stay);
            }
        }
        let errors = refused.into_iter().map(|refused| refused.error).collect();
        let mut removed = Removed { released: Vec::new(), errors, quarantined: None, stats };
        match proof {
            Some(proof) => removed.released = tags.quiesce(&proof),
            None => {
                removed.released =
                    (0..=u16::MAX).take(tags.depth() as usize).filter_map(|t| tags.release(t).ok()).collect();
                removed.quarantined = (tags.held() != 0).then_some(tags);
            }
        }
        removed
    }
}

/// A queue on its way: what exists of it, and why it came no further.
struct Site<'a> {
    plan: &'a Plan,
    keys: Option<Handle>,
    table: Option<Handle>,
    tir: Option<Handle>,
    cq: Option<CompletionQueue<Cqe64>>,
    ring: Option<SendRing<Work>>,
    icosq: Option<Icosq>,
    error: Option<CreateError>,
}

impl Site<'_> {
    fn fail(&mut self, error: impl Into<CreateError>) {
        self.error.get_or_insert(error.into());
    }

    /// Notes the outcome of a creation.
    fn take(&mut self, what: Part, outcome: Result<Handle, CommandError>) -> Option<Handle> {
        outcome.map_err(|error| self.fail(CreateError::Command { what, error })).ok()
    }

    /// Notes the outcome of a command of the control ring.
    fn take_queue<T>(&mut self, outcome: Result<T, CommandError>) -> Option<T> {
        outcome.map_err(|error| self.fail(QueueError::from(error))).ok()
    }
}

/// What a stage creates or executes: items for the sites that are still on their way, and what each is for.
struct Stage<T, F> {
    items: Vec<T>,
    /// (site, what for) of each item.
    whose: Vec<(usize, F)>,
}

impl<T, F> Stage<T, F> {
    fn new() -> Stage<T, F> {
        Stage { items: Vec::new(), whose: Vec::new() }
    }
    fn add(&mut self, site: usize, what: F, item: T) {
        self.items.push(item);
        self.whose.push((site, what));
    }
}

/// Creates queues up to the filled tag buffer table; what remains is to publish each and to add its rule. One outcome per
/// plan, in order; the failure of one does not keep the others. `deadline` is for all of it.
///
/// Commands of all queues go together, stage by stage, so that the time is that of the stages and not of the queues as
/// long as there are fewer commands than slots.
pub fn create_each(
    objects: &mut impl Objects,
    platform: &impl Platform,
    base: &Base,
    capacity: &Capacity,
    spare: &mut KeyPool,
    plans: &[Plan],
    deadline: Deadline,
) -> Vec<Result<Created, CreateError>> {
    let began = platform.now();
    let site = |plan| Site { plan, keys: None, table: None, tir: None, cq: None, ring: None, icosq: None, error: None };
    let mut sites: Vec<Site<'_>> = plans.iter().map(site).collect();

    // What refers to nothing: table, completion queue, keys.
    let mut stage = Stage::new();
    for (n, site) in sites.iter_mut().enumerate() {
        let plan = site.plan;
        if let Err(error) = capacity.check(plan) {
            site.fail(error);
            continue;
        }
        match CompletionQueue::<Cqe64>::prepare(base, capacity.log_cq(plan), plan.eqn) {
            Ok((cq, creation)) => {
                stage.add(n, First::Cq(cq), creation);
                stage.add(n, First::Table, table(plan.tags));
                site.keys = spare.take(plan.tags);
                if site.keys.is_none() {
                    stage.add(n, First::Keys, keys(base, capacity.max_entries).times(plan.tags));
                }
            }
            Err(error) => site.fail(error),
        }
    }
    let outcomes = objects.create_each(stage.items, deadline);
    for ((n, what), outcome) in stage.whose.into_iter().zip(outcomes) {
        let site = &mut sites[n];
        match what {
            First::Cq(cq) => {
                site.cq = site.take_queue(outcome).map(|handle| cq.created(handle));
            }
            First::Table => site.table = site.take(Part::TagBufferTable, outcome),
            First::Keys => site.keys = site.take(Part::MemoryKeys, outcome),
        }
    }

    // What refers to these: control ring and TIR.
    let mut stage = Stage::new();
    for (n, site) in sites.iter_mut().enumerate().filter(|(_, site)| site.error.is_none()) {
        let (Some(cq), Some(table)) = (&mut site.cq, &site.table) else { continue };
        // Fewer completions than blocks: the ring asks for as many as the CQ holds. After an error, when every work request
        // reports, the ring is out of use and its CQ may overrun.
        let log_ring = capacity.log_ring(site.plan);
        let params = SendParams { completions: cq.entries(), ..SendParams::new(log_ring, None) };
        match UnknownSq::prepare(base, cq, &params, &[]) {
            Ok((ring, creation)) => {
                stage.add(n, Second::Ring(ring), creation);
                stage.add(n, Second::Tir, tir(base, site.plan, table.number()));
            }
            Err(error) => site.fail(error),
        }
    }
    let outcomes = objects.create_each(stage.items, deadline);
    for ((n, what), outcome) in stage.whose.into_iter().zip(outcomes) {
        let site = &mut sites[n];
        match what {
            Second::Ring(ring) => site.ring = site.take_queue(outcome).map(|handle| ring.created(handle)),
            Second::Tir => site.tir = site.take(Part::Tir, outcome),
        }
    }

    let mut stage = Stage::new();
    for (n, site) in sites.iter_mut().enumerate().filter(|(_, site)| site.error.is_none()) {
        if let Some(ring) = &site.ring {
            stage.add(n, (), ring.start());
        }
    }
    let outcomes = objects.exec_each(stage.items, deadline);
    for ((n, ()), outcome) in stage.whose.into_iter().zip(outcomes) {
        sites[n].take_queue(outcome);
    }

    // The contexts are written by all rings at the same time.
    let wait = Wait { platform, deadline, began };
    for site in sites.iter_mut().filter(|site| site.error.is_none()) {
        if let Err(error) = write_context(site, capacity, &wait) {
            site.fail(error);
        }
    }
    for site in sites.iter_mut().filter(|site| site.error.is_none()) {
        let idle = site.icosq.as_mut().map_or(Ok(()), |icosq| wait.idle(icosq));
        if let Err(error) = idle {
            site.fail(error);
        }
    }

    let mut outcomes = Vec::with_capacity(sites.len());
    let mut failed = Vec::new();
    for site in sites {
        match site {
            Site {
                plan,
                keys: Some(keys),
                table: Some(table),
                tir: Some(tir),
                icosq: Some(icosq),
                error: None,
                ..
            } => {
                let binding = Binding::new(base.data_mkey, list_room(capacity.max_entries), plan.threshold);
                let numbers = keys.share_numbers();
                let queue = OffloadQueue::new(icosq, tir.number(), plan.params, binding, plan.tags, numbers);
                outcomes.push(Ok(Created { queue, held: Held { tir, table, keys } }));
            }
            mut site => {
                let error = site.error.take();
                outcomes.push(Err(error.expect("a queue that is not complete has a reason")));
                failed.push(site);
            }
        }
    }
    undo(objects, spare, failed, deadline);
    outcomes
}

/// What the first stage creates.
enum First {
    Cq(UnknownCq<Cqe64>),
    Table,
    Keys,
}

/// What the second stage creates.
enum Second {
    Ring(UnknownSq),
    Tir,
}

/// Destroys what exists of queues that did not come to be. The first error is the one that matters, and was told; what
/// stays is destroyed at teardown.
fn undo(objects: &mut impl Objects, spare: &mut KeyPool, failed: Vec<Site<'_>>, deadline: Deadline) {
    let (mut first, mut then, mut free) = (Vec::new(), Vec::new(), Vec::new());
    for site in failed {
        let (ring, cq) = match site.icosq {
            Some(icosq) => {
                let ((ring, _), cq) = icosq.into_handles();
                (Some(ring), Some(cq))
            }
            None => (site.ring.map(|ring| ring.into_handle().0), site.cq.map(CompletionQueue::into_handle)),
        };
        first.extend(site.tir.into_iter().chain(ring));
        then.extend(site.table.into_iter().chain(cq));
        free.extend(site.keys);
    }
    let mut refused = objects.destroy_each(first, deadline);
    refused.extend(objects.destroy_each(then, deadline));
    let leads_to_keys = |kind| matches!(kind, ObjectKind::Tir | ObjectKind::TagBufferTable);
    match refused.iter().any(|refused| leads_to_keys(refused.kind)) {
        true => refused.extend(objects.destroy_each(free, deadline)),
        false => free.into_iter().for_each(|keys| refused.extend(spare.give(objects, keys, deadline))),
    }
    for stays in refused {
        log::error!("after a failed creation of an offload queue: {stays}");
    }
}

/// Posts everything that writes a queue's offload context.
fn write_context(site: &mut Site<'_>, capacity: &Capacity, wait: &Wait<'_, impl Platform>) -> Result<(), CreateError> {
    let plan = site.plan;
    let (Some(ring), Some(cq), Some(tir), Some(keys)) = (site.ring.take(), site.cq.take(), &site.tir, &site.keys)
    else {
        return Ok(());
    };
    let icosq = site.icosq.insert(Icosq::new(ring, cq, capacity.per_wqe));
    let tirn = tir.number();
    wait.post(icosq, "the static parameters", |ring| ring.static_params(tirn, plan.params, 0))?;
    wait.post(icosq, "the progress parameters", |ring| ring.progress_params(tirn, plan.next_pdu))?;
    let numbers: Vec<u32> = key_numbers(keys, plan.tags).collect();
    let chunks = numbers.chunks(capacity.per_wqe);
    let last = chunks.len() - 1;
    for (n, part) in chunks.enumerate() {
        let first = (n * capacity.per_wqe) as u16;
        wait.post(icosq, "the tag buffer table", |ring| ring.tag_fill(tirn, first, part, n == last))?;
    }
    icosq.flush(wait.platform);
    Ok(())
}

/// The keys of tags, as work requests carry them.
fn key_numbers(keys: &Handle, tags: u32) -> impl Iterator<Item = u32> + '_ {
    keys.numbers().iter().take(tags as usize).map(|index| index << INDEX_SHIFT)
}

/// Waiting for the control ring while a queue is created.
struct Wait<'a, P> {
    platform: &'a P,
    deadline: Deadline,
    began: std::time::Duration,
}

impl<P: Platform> Wait<'_, P> {
    fn timed_out(&self, what: &'static str, ring: &Icosq) -> CreateError {
        CreateError::TimedOut { what, waited: self.platform.now().saturating_sub(self.began), awaited: ring.awaited() }
    }

    /// Posts, waiting for room if there is none.
    fn post(
        &self,
        ring: &mut Icosq,
        what: &'static str,
        mut post: impl FnMut(&mut Icosq) -> Result<(), NotPosted>,
    ) -> Result<(), CreateError> {
        let posted = self.deadline.wait(self.platform, || match post(ring) {
            Ok(()) => Some(Ok(())),
            Err(_) => {
                ring.flush(self.platform);
                reap(ring).err().map(Err)
            }
        });
        posted.unwrap_or_else(|| Err(self.timed_out(what, ring)))
    }

    /// Waits until the device has executed everything, the progress parameters among it: the context is ready.
    fn idle(&self, ring: &mut Icosq) -> Result<(), CreateError> {
        let idle = self.deadline.wait(self.platform, || match reap(ring) {
            Ok(()) => ring.is_idle().then_some(Ok(())),
            Err(error) => Some(Err(error)),
        });
        idle.unwrap_or_else(|| Err(self.timed_out("the offload context", ring)))
    }
}

fn reap(ring: &mut Icosq) -> Result<(), CreateError> {
    let mut failed = None;
    ring.poll(|completed| {
        if let super::icosq::Completed::Failed(error) = completed {
            failed.get_or_insert(error);
        }
    });
    failed.map_or(Ok(()), |error| Err(CreateError::Refused(error)))
}

/// A tag buffer table for so many tags (§3.1).
fn table(tags: u32) -> Creation {
    let object = u32::from(TAG_BUFFER_TABLE_OBJECT);
    let input = CreateTagBufferTableIn::zeroed()
        .with(CreateTagBufferTableIn::HDR_OBJ_TYPE, object)
        .with(CreateTagBufferTableIn::OBJ_LOG_TAG_BUFFER_TABLE_SIZE, tags.next_power_of_two().trailing_zeros());
    let destroy = move |id| {
        let input = GeneralObjInCmdHdr::zeroed()
            .with(GeneralObjInCmdHdr::OPCODE, u32::from(Opcode::DESTROY_GENERAL_OBJECT.0))
            .with(GeneralObjInCmdHdr::OBJ_TYPE, object)
            .with(GeneralObjInCmdHdr::OBJ_ID, id);
        Request::new(&input)
    };
    Creation::new(ObjectKind::TagBufferTable, Request::new(&input), destroy)
}

/// The TIR of a queue with the offload context (§3.3). Through an RQT, so that the receive queue can be replaced without
/// touching it.
fn tir(base: &Base, plan: &Plan, tag_buffer_table: u32) -> Creation {
    let (zero_copy, crc) = (plan.params.zero_copy, plan.params.check_data_digest);
    let offload = Some(OffloadFields { zero_copy, crc, tag_buffer_table });
    TirParams { offload, ..TirParams::new(Target::First { rqtn: plan.rqtn }) }.creation(base)
}

/// A KLM key for a tag, free and without a list: bindings write both (§3.2).
fn keys(base: &Base, max_entries: u16) -> Creation {
    let context = Mkc::zeroed()
        .with(Mkc::FREE, 1)
        .with(Mkc::UMR_EN, 1)
        .with(Mkc::LW, 1)
        .with(Mkc::LR, 1)
        .with(Mkc::ACCESS_MODE_1_0, u32::from(AccessMode::KLMS.0))
        .with(Mkc::QPN, 0xff_ffff)
        .with(Mkc::PD, base.pd)
        .with(Mkc::TRANSLATIONS_OCTWORD_SIZE, list_room(max_entries) as u32);
    let input = CreateMkeyIn::zeroed().with_nested(CreateMkeyIn::MEMORY_KEY_MKEY_ENTRY, &context);
    let destroy = |index| Request::new(&DestroyMkeyIn::zeroed().with(DestroyMkeyIn::MKEY_INDEX, index));
    Creation::new(ObjectKind::Mkey, Request::new(&input), destroy)
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} buffers released", self.released.len())?;
        if let Some(tags) = &self.quarantined {
            write!(f, ", {} kept because the device may still write them", tags.held())?;
        }
        match self.errors.is_empty() {
            true => Ok(()),
            false => write!(f, "; {}", Failures::of(&self.errors)),
        }
    }
}
