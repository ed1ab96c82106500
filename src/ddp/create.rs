//! How an offload queue comes into being and goes away (`nvme-tcp-offload.md` §7.2, §7.8).
//!
//! ```text
//! add:     tag buffer table ─► CQ, SQ ─► TIR ─► static + progress parameters ─► a memory key per tag ─► table filled
//!          ─► the control ring is idle: the device has taken it all          (then: published, then the steering rule)
//!
//! remove:  (rule, by the owner) ─► tags unbound and drained ─► TIR ─► table ─► memory keys ─► SQ, CQ ─► buffers released
//! ```
//!
//! Memory keys come one per tag and are created and destroyed with all command slots busy. Whatever fails while adding,
//! everything that was created is destroyed again. Buffers come out of a removal only if the device has forgotten each, or
//! the TIR and all keys are gone; else they stay quarantined until a reset of the function.

use super::icosq::{Icosq, NotPosted};
use super::queue::{Binding, OffloadQueue};
use super::stats::Stats;
use super::tags::{Quiesced, Released, TagTable};
use super::why::WhyNoOffload;
use super::wqe::{self, ConnectionParams, KLMS_PER_BLOCK};
use crate::adapter::{Adapter, Handle, OffloadCaps};
use crate::command::{CommandError, ObjectKind, Request};
use crate::platform::{Deadline, Platform};
use crate::queue::{Base, CompletionQueue, ErrorCompletion, Logged, Objects, QueueError, SendParams, SendRing};
use crate::steering::{OffloadFields, Target, TirParams, create_tir};
use firmware_iface::Opcode;
use firmware_iface::caps::TAG_BUFFER_TABLE_OBJECT;
use firmware_iface::command::object::{CreateMkeyIn, CreateTagBufferTableIn, DestroyMkeyIn, GeneralObjInCmdHdr};
use firmware_iface::context::{AccessMode, Mkc};
use hw_regs::cqe::Cqe64;
use hw_regs::layout::{Access, Layout};
use std::fmt;

/// Completions that the control ring may await besides one invalidate per tag: parameters, table fill, and the bindings
/// that ask for one because a quarter of the ring went by.
const OTHER_COMPLETIONS: u32 = 16;
/// Blocks of the control ring besides bindings and invalidates: parameters, and NOPs at the end.
const OTHER_BLOCKS: usize = 32;
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

    /// log2 of the blocks of a control ring that never runs out: every tag bound with the longest list and unbound at the
    /// same time. Smaller rings work too, with un-offloaded reads when they are full.
    pub fn log_ring(&self, tags: u32) -> u32 {
        let per_tag = wqe::setup_blocks(self.max_entries.into(), self.per_wqe) + wqe::INVALIDATE_BLOCKS;
        let blocks = per_tag * tags as usize + OTHER_BLOCKS;
        blocks.next_power_of_two().trailing_zeros().clamp(*RING_LOGS.start(), self.max_log_ring)
    }
}

/// Entries of a list, pads included, that a memory key for `max_entries` has room for. A UMR says the size in 16 bits.
fn list_room(max_entries: u16) -> usize {
    usize::from(max_entries).next_multiple_of(KLMS_PER_BLOCK).min(usize::from(u16::MAX) + 1 - KLMS_PER_BLOCK)
}

/// Creation and destruction of many objects of one kind at once.
pub trait ManyObjects: Objects {
    /// Creates objects that hold no memory, with as many commands in flight as there are slots: all or none
    /// ([`ObjectLog::create_many`](crate::adapter::ObjectLog::create_many)).
    fn create_many(
        &mut self,
        kind: ObjectKind,
        requests: impl IntoIterator<Item = Request>,
        destroy: impl Fn(u32) -> Request,
        deadline: Deadline,
    ) -> Result<Vec<Handle>, CommandError>;

    /// Destroys objects that do not refer to each other, with as many commands in flight as there are slots. Returns why
    /// those that stay do.
    fn destroy_many(&mut self, handles: Vec<Handle>, deadline: Deadline) -> Vec<CommandError>;
}

impl ManyObjects for Logged<'_> {
    fn create_many(
        &mut self,
        kind: ObjectKind,
        requests: impl IntoIterator<Item = Request>,
        destroy: impl Fn(u32) -> Request,
        deadline: Deadline,
    ) -> Result<Vec<Handle>, CommandError> {
        self.log.create_many(self.port, kind, requests, destroy, deadline)
    }
    fn destroy_many(&mut self, handles: Vec<Handle>, deadline: Deadline) -> Vec<CommandError> {
        self.log.destroy_many(self.port, handles, deadline).into_iter().map(|refused| refused.error).collect()
    }
}

impl<P: Platform> ManyObjects for Adapter<P> {
    fn create_many(
        &mut self,
        kind: ObjectKind,
        requests: impl IntoIterator<Item = Request>,
        destroy: impl Fn(u32) -> Request,
        deadline: Deadline,
    ) -> Result<Vec<Handle>, CommandError> {
        Adapter::create_many(self, kind, requests, destroy, deadline)
    }
    fn destroy_many(&mut self, handles: Vec<Handle>, deadline: Deadline) -> Vec<CommandError> {
        Adapter::destroy_many(self, handles, deadline).into_iter().map(|refused| refused.error).collect()
    }
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
    /// log2 of the control ring's blocks; `None` for one that never runs out.
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

fn command(what: Part) -> impl FnOnce(CommandError) -> CreateError {
    move |error| CreateError::Command { what, error }
}

/// Firmware objects of a queue.
#[derive(Debug, Default)]
pub(super) struct Handles {
    table: Option<Handle>,
    tir: Option<Handle>,
    keys: Vec<Handle>,
}

impl Handles {
    /// Destroys TIR, table and keys in this order. Returns what went wrong, and proof if the device has nothing left to
    /// write tag buffers through.
    fn destroy(&mut self, objects: &mut impl ManyObjects, deadline: Deadline) -> (Vec<CommandError>, Option<Quiesced>) {
        let mut errors = Vec::new();
        let tir = self.tir.take().map_or(Ok(()), |tir| objects.destroy(tir, deadline));
        let tir_gone = tir.is_ok();
        errors.extend(tir.err());
        errors.extend(self.table.take().and_then(|table| objects.destroy(table, deadline).err()));
        let refused = objects.destroy_many(std::mem::take(&mut self.keys), deadline);
        let proof = (tir_gone && refused.is_empty()).then(Quiesced::keys_destroyed);
        errors.extend(refused);
        (errors, proof)
    }
}

/// A queue and its firmware objects.
#[derive(Debug)]
pub struct Created {
    /// The queue at work.
    pub queue: OffloadQueue,
    handles: Handles,
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
    /// Creates everything up to the filled tag buffer table; what remains is to publish the queue and to add its rule.
    /// `deadline` is for all of it.
    pub fn create(
        objects: &mut impl ManyObjects,
        platform: &impl Platform,
        base: &Base,
        capacity: &Capacity,
        plan: &Plan,
        deadline: Deadline,
    ) -> Result<Created, CreateError> {
        if plan.tags == 0 || plan.tags > capacity.max_tags {
            return Err(CreateError::Tags { tags: plan.tags, max: capacity.max_tags });
        }
        if plan.params.pda > 31 {
            return Err(CreateError::Alignment(plan.params.pda));
        }
        let mut handles = Handles::default();
        let mut ring = None;
        match build(objects, platform, base, capacity, plan, deadline, &mut handles, &mut ring) {
            Ok(queue) => Ok(Created { queue, handles }),
            Err(error) => {
                // The first error is the one that matters; what stays is destroyed at teardown.
                let (mut errors, _) = handles.destroy(objects, deadline);
                errors.extend(ring.and_then(|ring| destroy_ring(objects, ring, deadline)));
                for stays in errors {
                    log::error!("after a failed creation of an offload queue: {stays}");
                }
                Err(error)
            }
        }
    }

    /// Takes everything down. The steering rule is gone and the receive queue was drained. Buffers that the device cannot
    /// write any more are released.
    pub fn remove(mut self, objects: &mut impl ManyObjects, platform: &impl Platform, deadline: Deadline) -> Removed {
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
        let (mut errors, proof) = self.handles.destroy(objects, deadline);
        let (mut tags, stats, icosq) = self.queue.into_parts();
        errors.extend(destroy_ring(objects, icosq, deadline));
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

/// Destroys the control ring; it is out of use, so entries that are still in its CQ do not matter.
fn destroy_ring(objects: &mut impl Objects, icosq: Icosq, deadline: Deadline) -> Option<CommandError> {
    let (ring, mut cq) = icosq.into_parts();
    ring.destroy(objects, &mut cq, deadline).and_then(|()| cq.destroy(objects, deadline)).err()
}

#[expect(clippy::too_many_arguments, reason = "the caller's arguments, and where what exists is noted")]
fn build(
    objects: &mut impl ManyObjects,
    platform: &impl Platform,
    base: &Base,
    capacity: &Capacity,
    plan: &Plan,
    deadline: Deadline,
    handles: &mut Handles,
    ring: &mut Option<Icosq>,
) -> Result<OffloadQueue, CreateError> {
    let began = platform.now();
    let table = create_table(objects, plan.tags, deadline).map_err(command(Part::TagBufferTable))?;
    let table_id = table.number();
    handles.table = Some(table);

    let log_cq = (plan.tags + OTHER_COMPLETIONS).next_power_of_two().trailing_zeros();
    let mut cq = CompletionQueue::<Cqe64>::create(objects, base, log_cq, plan.eqn, deadline)?;
    let log_ring = plan.log_ring.unwrap_or_else(|| capacity.log_ring(plan.tags));
    // Fewer completions than blocks: the ring asks for as many as the CQ holds. After an error, when every work request
    // reports, the ring is out of use and its CQ may overrun.
    let params = SendParams { completions: 1 << log_cq, ..SendParams::new(log_ring, None) };
    let sq = match SendRing::create(objects, base, &mut cq, &params, &[], deadline) {
        Ok(sq) => sq,
        Err(error) => {
            if let Err(stays) = cq.destroy(objects, deadline) {
                log::error!("after a failed creation of a control ring: {stays}");
            }
            return Err(error.into());
        }
    };
    let icosq = ring.insert(Icosq::new(sq, cq, capacity.per_wqe));

    let offload = OffloadFields {
        zero_copy: plan.params.zero_copy,
        crc: plan.params.check_data_digest,
        tag_buffer_table: table_id,
    };
    // Through an RQT, so that the receive queue can be replaced without touching the TIR (§3.3).
    let params = TirParams { offload: Some(offload), ..TirParams::new(Target::First { rqtn: plan.rqtn }) };
    let tir = create_tir(objects, base, &params, deadline).map_err(command(Part::Tir))?;
    let tirn = tir.number();
    handles.tir = Some(tir);

    let wait = Wait { platform, deadline, began };
    wait.post(icosq, "the static parameters", |ring| ring.static_params(tirn, plan.params, 0))?;
    wait.post(icosq, "the progress parameters", |ring| ring.progress_params(tirn, plan.next_pdu))?;
    icosq.flush(platform);

    handles.keys =
        create_keys(objects, base, plan.tags, capacity.max_entries, deadline).map_err(command(Part::MemoryKeys))?;
    // An index has 24 bits and the low 8 bits of a key are the driver's own; it uses 0.
    let keys: Box<[u32]> = handles.keys.iter().map(|key| key.number() << 8).collect();
    let chunks = keys.chunks(capacity.per_wqe);
    let last = chunks.len() - 1;
    for (n, part) in chunks.enumerate() {
        let first = (n * capacity.per_wqe) as u16;
        wait.post(icosq, "the tag buffer table", |ring| ring.tag_fill(tirn, first, part, n == last))?;
    }
    icosq.flush(platform);
    wait.idle(icosq)?;

    let binding = Binding::new(base.data_mkey, list_room(capacity.max_entries), plan.threshold);
    let icosq = ring.take().expect("inserted above");
    Ok(OffloadQueue::new(icosq, tirn, plan.params, binding, &keys))
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

fn create_table(objects: &mut impl Objects, tags: u32, deadline: Deadline) -> Result<Handle, CommandError> {
    let object = u32::from(TAG_BUFFER_TABLE_OBJECT);
    let input = CreateTagBufferTableIn::zeroed()
        .with(CreateTagBufferTableIn::HDR_OBJ_TYPE, object)
        .with(CreateTagBufferTableIn::OBJ_LOG_TAG_BUFFER_TABLE_SIZE, tags.next_power_of_two().trailing_zeros());
    let destroy = |id| {
        let input = GeneralObjInCmdHdr::zeroed()
            .with(GeneralObjInCmdHdr::OPCODE, u32::from(Opcode::DESTROY_GENERAL_OBJECT.0))
            .with(GeneralObjInCmdHdr::OBJ_TYPE, object)
            .with(GeneralObjInCmdHdr::OBJ_ID, id);
        Request::new(&input)
    };
    let request = Request::new(&input).creates(ObjectKind::TagBufferTable);
    objects.create(ObjectKind::TagBufferTable, &request, destroy, &[], deadline)
}

/// One KLM key per tag, free and without a list: bindings write both (§3.2).
fn create_keys(
    objects: &mut impl ManyObjects,
    base: &Base,
    tags: u32,
    max_entries: u16,
    deadline: Deadline,
) -> Result<Vec<Handle>, CommandError> {
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
    let request = Request::new(&input).creates(ObjectKind::Mkey);
    let destroy = |index| Request::new(&DestroyMkeyIn::zeroed().with(DestroyMkeyIn::MKEY_INDEX, index));
    objects.create_many(ObjectKind::Mkey, (0..tags).map(|_| request.clone()), destroy, deadline)
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} buffers released", self.released.len())?;
        if let Some(tags) = &self.quarantined {
            write!(f, ", {} kept because the device may still write them", tags.held())?;
        }
        self.errors.iter().try_for_each(|error| write!(f, "; {error}"))
    }
}
