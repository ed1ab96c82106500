//! Queues as firmware objects: created, moved between their states, destroyed (`mlx5-bringup.md` §4, §8.7).
//!
//! ```text
//!                 create          RST → RDY
//!   memory ──────────────► reset ──────────► ready ── error completion ──► error
//!                            ▲                                               │
//!                            └───────────── ERR → RST, then RST → RDY ───────┘
//! ```
//!
//! Everything goes through [`Objects`], so that each object is in the log, with the memory that the device may access
//! because of it, from the moment that firmware knows it.

use super::cq::{CompletionQueue, CqMemory, CqTooSmall, CqeFormat, MAX_LOG_ENTRIES};
use super::pool::RxPool;
use super::ring::{DoorbellRecord, RingMemory};
use super::rq::{MAX_LOG_WQES, ReceiveQueue, WQE_BYTES};
use super::sq::{MAX_LOG_WQEBBS, MIN_LOG_WQEBBS, SendRing, WQEBB};
use crate::adapter::{Adapter, Creation, Handle, Objects};
use crate::command::{CommandError, ObjectKind, Request};
use crate::dma::{DmaBuf, DmaError, DmaHeap};
use crate::platform::{Deadline, Platform};
use firmware_iface::command::object::{CreateCqIn, DestroyCqIn};
use firmware_iface::command::queue::{
    CreateRqIn, CreateSqIn, CreateTisIn, DestroyRqIn, DestroySqIn, DestroyTisIn, ModifyRqIn, ModifySqIn, QueryRqIn,
    QueryRqOut, QuerySqIn, QuerySqOut,
};
use firmware_iface::context::{Cqc, RqState, Rqc, SqState, Sqc, Tisc, Wq, WqType};
use hw_regs::layout::{Access, Layout};
use std::marker::PhantomData;

/// What queues and TIRs are built on.
#[derive(Clone)]
pub struct Base {
    /// Memory for rings and doorbell records.
    pub heap: DmaHeap,
    /// Protection domain.
    pub pd: u32,
    /// UAR page whose doorbells are used.
    pub uar: u32,
    /// Transport domain of TIS and TIR.
    pub transport_domain: u32,
    /// Memory key that translates nothing: an I/O virtual address is the address.
    pub data_mkey: u32,
}

impl Base {
    /// What a function that is up has to build on.
    pub fn of<P: Platform>(adapter: &Adapter<P>) -> Base {
        Base {
            heap: adapter.heap().clone(),
            pd: adapter.pd(),
            uar: adapter.uar(),
            transport_domain: adapter.transport_domain(),
            data_mkey: adapter.data_mkey(),
        }
    }
}

/// Why a queue could not be created or recovered.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// A command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// No memory for the ring.
    #[error(transparent)]
    Memory(#[from] DmaError),
    /// The completion queue is promised to others.
    #[error(transparent)]
    CqTooSmall(#[from] CqTooSmall),
    /// A size that the device's counters cannot express.
    #[error("a {what} of 2^{log} entries; 2^{min} to 2^{max} are possible")]
    Size {
        /// Which ring.
        what: &'static str,
        /// log2 of the entries asked for.
        log: u32,
        /// log2 of the least.
        min: u32,
        /// log2 of the most.
        max: u32,
    },
    /// The device does not agree that the queue failed.
    #[error("{what} {number:#x} is in state {state}, not in the error state: recovery would lose work")]
    NotFailed {
        /// SQ or RQ.
        what: ObjectKind,
        /// Its number.
        number: u32,
        /// State that the device reports: 0 reset, 1 ready.
        state: u32,
    },
}

fn check_size(what: &'static str, log: u32, min: u32, max: u32) -> Result<(), QueueError> {
    match (min..=max).contains(&log) {
        true => Ok(()),
        false => Err(QueueError::Size { what, log, min, max }),
    }
}

/// The part of a queue context that describes its ring.
fn wq(base: &Base, ring: &RingMemory, record: &DoorbellRecord, log_stride: u32, log_size: u32) -> Wq {
    Wq::zeroed()
        .with(Wq::WQ_TYPE, u32::from(WqType::CYCLIC.0))
        .with(Wq::PD, base.pd)
        .with_wide(Wq::DBR_ADDR, record.buffer().iova().get())
        .with(Wq::LOG_WQ_STRIDE, log_stride)
        .with(Wq::LOG_WQ_PG_SZ, ring.log_page_size())
        .with(Wq::LOG_WQ_SZ, log_size)
}

impl<E: CqeFormat> CompletionQueue<E> {
    /// Creates a queue of `1 << log_entries` entries whose events go to event queue `eqn`.
    pub fn create(
        objects: &mut impl Objects,
        base: &Base,
        log_entries: u32,
        eqn: u32,
        deadline: Deadline,
    ) -> Result<Self, QueueError> {
        let (queue, creation) = Self::prepare(base, log_entries, eqn)?;
        Ok(queue.created(objects.create(creation, deadline)?))
    }

    /// A queue whose memory is there, and what makes firmware know it: for many that are created together.
    pub(crate) fn prepare(base: &Base, log_entries: u32, eqn: u32) -> Result<(UnknownCq<E>, Creation), QueueError> {
        check_size("CQ", log_entries, 0, MAX_LOG_ENTRIES)?;
        let memory = CqMemory::allocate::<E>(&base.heap, log_entries)?;
        Self::initialize(memory.ring.buffer());
        let context = Cqc::zeroed()
            .with(Cqc::CQE_SZ, E::CQE_SZ)
            .with(Cqc::LOG_CQ_SIZE, log_entries)
            .with(Cqc::UAR_PAGE, base.uar)
            .with(Cqc::C_EQN_OR_APU_ELEMENT, eqn)
            .with(Cqc::LOG_PAGE_SIZE, memory.ring.log_page_size())
            .with_wide(Cqc::DBR_ADDR, memory.record.buffer().iova().get());
        let request = Request::new(&CreateCqIn::zeroed().with_nested(CreateCqIn::CQ_CONTEXT, &context))
            .tail(&memory.ring.page_list());
        let destroy = |cqn| Request::new(&DestroyCqIn::zeroed().with(DestroyCqIn::CQN, cqn));
        let held = [memory.ring.buffer(), memory.record.buffer()];
        let creation = Creation::new(ObjectKind::Cq, request, destroy).holding(&held);
        Ok((UnknownCq { memory, log_entries, uar: base.uar, entry: PhantomData }, creation))
    }

    /// Destroys the queue. Every queue that completes here must be gone.
    pub fn destroy(self, objects: &mut impl Objects, deadline: Deadline) -> Result<(), CommandError> {
        objects.destroy(self.into_handle(), deadline)
    }
}

/// A completion queue that firmware does not know yet.
pub(crate) struct UnknownCq<E> {
    memory: CqMemory,
    log_entries: u32,
    uar: u32,
    entry: PhantomData<fn() -> E>,
}

impl<E: CqeFormat> UnknownCq<E> {
    /// Firmware knows it by `handle`.
    pub(crate) fn created(self, handle: Handle) -> CompletionQueue<E> {
        CompletionQueue::new(self.memory.ring.into_buffer(), self.memory.record, self.log_entries, handle, self.uar)
    }
}

/// How a send queue is to be.
#[derive(Clone, Copy, Debug)]
pub struct SendParams {
    /// log2 of the basic blocks: 5 to 15.
    pub log_wqebbs: u32,
    /// The TIS through which frames leave; `None` for a queue that sends none (UMR, SET_PSV).
    pub tisn: Option<u32>,
    /// May it carry UMR work requests?
    pub reg_umr: bool,
    /// `sqc.min_wqe_inline_mode`: only where the Ethernet capability `wqe_inline_mode` says that the vport decides.
    pub min_inline_mode: u32,
    /// Most completion entries that it may have outstanding, promised by its CQ. With less than one per block, errors,
    /// which report every work request, can overrun the CQ.
    pub completions: u32,
}

impl SendParams {
    /// A queue for frames through `tisn`, or for control work requests without one, where every block may complete.
    pub fn new(log_wqebbs: u32, tisn: Option<u32>) -> SendParams {
        let completions = 1 << log_wqebbs.min(MAX_LOG_WQEBBS);
        SendParams { log_wqebbs, tisn, reg_umr: tisn.is_none(), min_inline_mode: 0, completions }
    }
}

/// A send queue that firmware does not know yet; its completions are promised.
pub(crate) struct UnknownSq {
    ring: RingMemory,
    record: DoorbellRecord,
    uar: u32,
    completions: u32,
}

impl UnknownSq {
    /// A queue whose memory is there, and what makes firmware know it: for many that are created together. Whoever fails to
    /// create it takes its promise back ([`CompletionQueue::detach`]).
    pub(crate) fn prepare<E: CqeFormat>(
        base: &Base,
        cq: &mut CompletionQueue<E>,
        params: &SendParams,
        memory: &[&DmaBuf],
    ) -> Result<(UnknownSq, Creation), QueueError> {
        check_size("SQ", params.log_wqebbs, MIN_LOG_WQEBBS, MAX_LOG_WQEBBS)?;
        let ring = RingMemory::allocate(&base.heap, WQEBB << params.log_wqebbs)?;
        let record = DoorbellRecord::allocate(&base.heap)?;
        let wq = wq(base, &ring, &record, WQEBB.trailing_zeros(), params.log_wqebbs).with(Wq::UAR_PAGE, base.uar);
        let context = Sqc::zeroed()
            .with(Sqc::FLUSH_IN_ERROR_EN, 1)
            .with(Sqc::MIN_WQE_INLINE_MODE, params.min_inline_mode)
            .with(Sqc::REG_UMR, u32::from(params.reg_umr))
            .with(Sqc::CQN, cq.cqn())
            .with(Sqc::TIS_LST_SZ, u32::from(params.tisn.is_some()))
            .with(Sqc::TIS_NUM_0, params.tisn.unwrap_or(0))
            .with_nested(Sqc::WQ, &wq);
        let request =
            Request::new(&CreateSqIn::zeroed().with_nested(CreateSqIn::CTX, &context)).tail(&ring.page_list());
        let destroy = |sqn| Request::new(&DestroySqIn::zeroed().with(DestroySqIn::SQN, sqn));
        cq.attach(params.completions)?;
        let held: Vec<_> = [ring.buffer(), record.buffer()].into_iter().chain(memory.iter().copied()).collect();
        let creation = Creation::new(ObjectKind::Sq, request, destroy).holding(&held);
        Ok((UnknownSq { ring, record, uar: base.uar, completions: params.completions }, creation))
    }

    /// Firmware knows it by `handle`; it is to be made ready ([`SendRing::start`]).
    pub(crate) fn created<R>(self, handle: Handle) -> SendRing<R> {
        SendRing::new(self.ring.into_buffer(), self.record, handle, self.uar, self.completions)
    }
}

impl<R> SendRing<R> {
    /// Creates a queue that completes in `cq` and makes it ready. `memory` is what its work requests may name beside the
    /// ring itself: it is kept allocated for as long as the queue exists.
    pub fn create<E: CqeFormat>(
        objects: &mut impl Objects,
        base: &Base,
        cq: &mut CompletionQueue<E>,
        params: &SendParams,
        memory: &[&DmaBuf],
        deadline: Deadline,
    ) -> Result<Self, QueueError> {
        let (ring, creation) = UnknownSq::prepare(base, cq, params, memory)?;
        let created = objects.create(creation, deadline);
        let handle = created.inspect_err(|_| cq.detach(params.completions))?;
        let queue = ring.created(handle);
        match objects.exec(queue.start(), deadline) {
            Ok(_) => Ok(queue),
            Err(error) => {
                // The first error is the one that says what went wrong; a queue that stays is destroyed at teardown.
                if let Err(second) = queue.destroy(objects, cq, deadline) {
                    log::error!("{second}");
                }
                Err(error.into())
            }
        }
    }

    /// The command that makes a queue that was just created ready.
    pub(crate) fn start(&self) -> Request {
        modify_sq(self.sqn(), SqState::RST, SqState::RDY)
    }

    /// Destroys the queue, whatever it was doing. Records that were still in it are dropped; entries in `cq` that name it
    /// stay there.
    pub fn destroy<E: CqeFormat>(
        self,
        objects: &mut impl Objects,
        cq: &mut CompletionQueue<E>,
        deadline: Deadline,
    ) -> Result<(), CommandError> {
        let (handle, completions) = self.into_handle();
        objects.destroy(handle, deadline)?;
        cq.detach(completions);
        Ok(())
    }

    /// Takes the queue from the error state to ready and empty. `each` gets the records of what was in it: none of it is
    /// executing any more.
    ///
    /// The queue must be the only one that completes in `cq`, whose entries are dropped. Whether flushed work requests
    /// were waited for does not matter: the reset ends them.
    pub fn recover<E: CqeFormat>(
        &mut self,
        objects: &mut impl Objects,
        cq: &mut CompletionQueue<E>,
        each: impl FnMut(R),
        deadline: Deadline,
    ) -> Result<(), QueueError> {
        let query = QuerySqIn::zeroed().with(QuerySqIn::SQN, self.sqn());
        let output = objects.exec(Request::new(&query).about(ObjectKind::Sq, self.sqn()), deadline)?;
        let state = output.decode::<QuerySqOut>().nested(QuerySqOut::SQ_CONTEXT).get(Sqc::STATE);
        if state != u32::from(SqState::ERR.0) {
            return Err(QueueError::NotFailed { what: ObjectKind::Sq, number: self.sqn(), state });
        }
        objects.exec(modify_sq(self.sqn(), SqState::ERR, SqState::RST), deadline)?;
        cq.discard();
        self.reset(each);
        objects.exec(self.start(), deadline)?;
        Ok(())
    }
}

fn modify_sq(sqn: u32, from: SqState, to: SqState) -> Request {
    let input = ModifySqIn::zeroed()
        .with(ModifySqIn::SQ_STATE, u32::from(from.0))
        .with(ModifySqIn::SQN, sqn)
        .with_nested(ModifySqIn::CTX, &Sqc::zeroed().with(Sqc::STATE, u32::from(to.0)));
    Request::new(&input).about(ObjectKind::Sq, sqn)
}

impl ReceiveQueue {
    /// Creates a queue of `1 << log_wqes` buffers out of `pool` that completes in `cq`, and makes it ready; it is empty until
    /// [`ReceiveQueue::post`]. `counter_set` counts what found no buffer, 0 for the function's default counter.
    pub fn create<E: CqeFormat>(
        objects: &mut impl Objects,
        base: &Base,
        cq: &mut CompletionQueue<E>,
        log_wqes: u32,
        pool: &RxPool,
        counter_set: u8,
        deadline: Deadline,
    ) -> Result<Self, QueueError> {
        check_size("RQ", log_wqes, 0, MAX_LOG_WQES)?;
        let ring = RingMemory::allocate(&base.heap, WQE_BYTES << log_wqes)?;
        let record = DoorbellRecord::allocate(&base.heap)?;
        let context = Rqc::zeroed()
            .with(Rqc::VSD, 1)
            .with(Rqc::FLUSH_IN_ERROR_EN, 1)
            .with(Rqc::CQN, cq.cqn())
            .with(Rqc::COUNTER_SET_ID, u32::from(counter_set))
            .with_nested(Rqc::WQ, &wq(base, &ring, &record, WQE_BYTES.trailing_zeros(), log_wqes));
        let request =
            Request::new(&CreateRqIn::zeroed().with_nested(CreateRqIn::CTX, &context)).tail(&ring.page_list());
        let destroy = |rqn| Request::new(&DestroyRqIn::zeroed().with(DestroyRqIn::RQN, rqn));
        cq.attach(1 << log_wqes)?;
        let held = [ring.buffer(), record.buffer(), pool.memory()];
        let created = objects.create(Creation::new(ObjectKind::Rq, request, destroy).holding(&held), deadline);
        let handle = created.inspect_err(|_| cq.detach(1 << log_wqes))?;
        let rqn = handle.number();
        let queue = ReceiveQueue::new(ring.into_buffer(), record, handle, pool.buffer_size(), base.data_mkey);
        match modify_rq(objects, rqn, RqState::RST, RqState::RDY, deadline) {
            Ok(()) => Ok(queue),
            Err(error) => {
                if let Err(second) = objects.destroy(queue.into_handle(), deadline) {
                    log::error!("{second}");
                }
                cq.detach(1 << log_wqes);
                Err(error.into())
            }
        }
    }

    /// Destroys the queue and gives its buffers back to `pool`. If that fails the buffers stay lent: the device may still
    /// write into them.
    pub fn destroy<E: CqeFormat>(
        mut self,
        objects: &mut impl Objects,
        cq: &mut CompletionQueue<E>,
        pool: &mut RxPool,
        deadline: Deadline,
    ) -> Result<(), CommandError> {
        let wqes = self.capacity();
        let handle = self.take_handle();
        objects.destroy(handle, deadline)?;
        cq.detach(wqes);
        self.reset(pool);
        Ok(())
    }

    /// Takes the queue from the error state to ready and empty; its buffers go back to `pool` and it must be
    /// [filled](ReceiveQueue::post) again. The queue must be the only one that completes in `cq`, whose entries are
    /// dropped.
    pub fn recover<E: CqeFormat>(
        &mut self,
        objects: &mut impl Objects,
        cq: &mut CompletionQueue<E>,
        pool: &mut RxPool,
        deadline: Deadline,
    ) -> Result<(), QueueError> {
        let rqn = self.rqn();
        let query = QueryRqIn::zeroed().with(QueryRqIn::RQN, rqn);
        let output = objects.exec(Request::new(&query).about(ObjectKind::Rq, rqn), deadline)?;
        let state = output.decode::<QueryRqOut>().nested(QueryRqOut::RQ_CONTEXT).get(Rqc::STATE);
        if state != u32::from(RqState::ERR.0) {
            return Err(QueueError::NotFailed { what: ObjectKind::Rq, number: rqn, state });
        }
        modify_rq(objects, rqn, RqState::ERR, RqState::RST, deadline)?;
        cq.discard();
        self.reset(pool);
        modify_rq(objects, rqn, RqState::RST, RqState::RDY, deadline)?;
        Ok(())
    }

    /// Stops reception: from ready to the error state. What was posted comes back as flushed completions, or with
    /// [`ReceiveQueue::recover`] and [`ReceiveQueue::destroy`].
    pub fn stop(&mut self, objects: &mut impl Objects, deadline: Deadline) -> Result<(), CommandError> {
        modify_rq(objects, self.rqn(), RqState::RDY, RqState::ERR, deadline)
    }
}

fn modify_rq(
    objects: &mut impl Objects,
    rqn: u32,
    from: RqState,
    to: RqState,
    deadline: Deadline,
) -> Result<(), CommandError> {
    let input = ModifyRqIn::zeroed()
        .with(ModifyRqIn::RQ_STATE, u32::from(from.0))
        .with(ModifyRqIn::RQN, rqn)
        .with_nested(ModifyRqIn::CTX, &Rqc::zeroed().with(Rqc::STATE, u32::from(to.0)));
    objects.exec(Request::new(&input).about(ObjectKind::Rq, rqn), deadline).map(drop)
}

/// Creates a TIS: what binds send queues to the port. Priority 0.
pub fn create_tis(objects: &mut impl Objects, base: &Base, deadline: Deadline) -> Result<Handle, CommandError> {
    let context = Tisc::zeroed().with(Tisc::TRANSPORT_DOMAIN, base.transport_domain);
    let request = Request::new(&CreateTisIn::zeroed().with_nested(CreateTisIn::CTX, &context));
    let destroy = |tisn| Request::new(&DestroyTisIn::zeroed().with(DestroyTisIn::TISN, tisn));
    objects.create(Creation::new(ObjectKind::Tis, request, destroy), deadline)
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | create commands describe the ring that was made, and its memory is held while the object exists | `create_commands_describe_the_ring` |
    //! | whichever command is refused, nothing is left: no object, no promise, no memory | `a_refusal_leaves_nothing` |
    //! | the log alone can destroy what queues created, in reverse order | `the_log_knows_how_to_destroy_everything` |
    //! | recovery goes by the states, and only from the error state | `recovery_goes_through_reset` |
    //! | sizes that counters cannot express are refused | `impossible_sizes_are_refused` |
    use super::*;
    use crate::queue::testing::{TestObjects, base, deadline};
    use crate::queue::{FrameQueueParams, SendQueue};
    use firmware_iface::Opcode;
    use hw_regs::cqe::{Cqe64, OffloadCqe};

    #[test]
    fn create_commands_describe_the_ring() {
        let (objects, base) = (&mut TestObjects::default(), base());
        let mut cq = CompletionQueue::<OffloadCqe>::create(objects, &base, 9, 7, deadline()).expect("created");
        let input = objects.firmware.requests[0].input().to_vec();
        let cqc = CreateCqIn::from_prefix(&input).nested(CreateCqIn::CQ_CONTEXT);
        assert_eq!((cqc.get(Cqc::CQE_SZ), cqc.get(Cqc::LOG_CQ_SIZE), cqc.get(Cqc::LOG_PAGE_SIZE)), (2, 9, 4));
        assert_eq!((cqc.get(Cqc::C_EQN_OR_APU_ELEMENT), cqc.get(Cqc::UAR_PAGE), cqc.get(Cqc::CQE_COMP_EN)), (7, 16, 0));
        assert!(cqc.get_wide(Cqc::DBR_ADDR).is_multiple_of(64));
        assert_eq!(input.len(), CreateCqIn::SIZE + 8, "a ring of 64 KiB is one page of 64 KiB");

        let mut pool = RxPool::new(&base.heap, 100, 2048).expect("memory");
        let rq = ReceiveQueue::create(objects, &base, &mut cq, 6, &pool, 3, deadline()).expect("created");
        let rqc = CreateRqIn::from_prefix(objects.firmware.requests[1].input()).nested(CreateRqIn::CTX);
        let wq = rqc.nested(Rqc::WQ);
        assert_eq!((rqc.get(Rqc::CQN), rqc.get(Rqc::COUNTER_SET_ID), rqc.get(Rqc::STATE)), (cq.cqn(), 3, 0));
        assert_eq!((wq.get(Wq::LOG_WQ_STRIDE), wq.get(Wq::LOG_WQ_SZ), wq.get(Wq::LOG_WQ_PG_SZ)), (4, 6, 0));
        assert_eq!((wq.get(Wq::WQ_TYPE), wq.get(Wq::PD)), (1, 0x11));
        let ready = ModifyRqIn::from_prefix(objects.firmware.requests[2].input());
        let next = ready.nested(ModifyRqIn::CTX).get(Rqc::STATE);
        assert_eq!((ready.get(ModifyRqIn::RQ_STATE), ready.get(ModifyRqIn::RQN), next), (0, rq.rqn(), 1));

        let mut small = CompletionQueue::<Cqe64>::create(objects, &base, 5, 7, deadline()).expect("created");
        let params = SendParams::new(5, None);
        let ring = SendRing::<u32>::create(objects, &base, &mut small, &params, &[], deadline()).expect("created");
        let sqc = CreateSqIn::from_prefix(objects.firmware.requests[4].input()).nested(CreateSqIn::CTX);
        assert_eq!((sqc.get(Sqc::REG_UMR), sqc.get(Sqc::TIS_LST_SZ), sqc.get(Sqc::CQN)), (1, 0, small.cqn()));
        let wq = sqc.nested(Sqc::WQ);
        assert_eq!((wq.get(Wq::LOG_WQ_STRIDE), wq.get(Wq::LOG_WQ_SZ), wq.get(Wq::UAR_PAGE)), (6, 5, 16));

        // Memory outlives the queues for as long as firmware knows it.
        let used = base.heap.usage().1;
        drop((ring, small));
        assert_eq!(base.heap.usage().1, used);
        rq.destroy(objects, &mut cq, &mut pool, deadline()).expect("destroyed");
        assert!(base.heap.usage().1 < used);
    }

    #[test]
    fn a_refusal_leaves_nothing() {
        for refuse in 0.. {
            let (mut objects, base) = (TestObjects::default(), base());
            objects.firmware.refuse = Some(refuse);
            let params =
                FrameQueueParams { log_wqebbs: 6, tisn: 1, eqn: 2, slots: 8, slot_size: 64, min_inline_mode: 0 };
            match SendQueue::create(&mut objects, &base, &params, deadline()) {
                Ok(queue) => {
                    assert_eq!(refuse, 3, "CQ, SQ, and SQ ready are three commands");
                    queue.destroy(&mut objects, deadline()).expect_err("the fourth command is refused");
                    assert_eq!(objects.log.len(), 2);
                    break;
                }
                Err(error) => assert!(error.to_string().contains("LIM_ERR"), "{error}"),
            }
            assert!(objects.log.is_empty(), "command {refuse}: {:?}", objects.log.by_kind());
            assert_eq!(base.heap.usage().1, 0);
        }
        for refuse in 1..3 {
            let (mut objects, base) = (TestObjects::default(), base());
            objects.firmware.refuse = Some(refuse);
            let mut cq = CompletionQueue::<Cqe64>::create(&mut objects, &base, 4, 7, deadline()).expect("created");
            let pool = RxPool::new(&base.heap, 4, 64).expect("memory");
            ReceiveQueue::create(&mut objects, &base, &mut cq, 4, &pool, 0, deadline()).expect_err("refused");
            assert_eq!(objects.log.len(), 1, "only the CQ");
            assert_eq!(cq.attach(16), Ok(()), "the promise was taken back");
        }
    }

    #[test]
    fn the_log_knows_how_to_destroy_everything() {
        let (objects, base) = (&mut TestObjects::default(), base());
        let tis = create_tis(objects, &base, deadline()).expect("created");
        let params =
            FrameQueueParams { log_wqebbs: 6, tisn: tis.number(), eqn: 2, slots: 8, slot_size: 64, min_inline_mode: 0 };
        let queue = SendQueue::create(objects, &base, &params, deadline()).expect("created");
        let mut cq = CompletionQueue::<Cqe64>::create(objects, &base, 4, 7, deadline()).expect("created");
        let pool = RxPool::new(&base.heap, 4, 64).expect("memory");
        let rq = ReceiveQueue::create(objects, &base, &mut cq, 4, &pool, 0, deadline()).expect("created");
        let created = objects.firmware.requests.len();
        drop((queue, rq, cq));
        let TestObjects { firmware, log } = objects;
        assert!(log.destroy_all(firmware, deadline()).is_empty());
        let destroyed =
            [Opcode::DESTROY_RQ, Opcode::DESTROY_CQ, Opcode::DESTROY_SQ, Opcode::DESTROY_CQ, Opcode::DESTROY_TIS];
        assert_eq!(firmware.opcodes()[created..], destroyed);
        assert_eq!(base.heap.usage().1, pool.memory().len());
    }

    #[test]
    fn recovery_goes_through_reset() {
        let (objects, base) = (&mut TestObjects::default(), base());
        let mut cq = CompletionQueue::<Cqe64>::create(objects, &base, 4, 7, deadline()).expect("created");
        let mut pool = RxPool::new(&base.heap, 4, 64).expect("memory");
        let mut rq = ReceiveQueue::create(objects, &base, &mut cq, 2, &pool, 0, deadline()).expect("created");
        rq.post(&mut pool);
        objects.firmware.queue_state = RqState::RDY.0;
        let refused = rq.recover(objects, &mut cq, &mut pool, deadline());
        assert!(matches!(refused, Err(QueueError::NotFailed { what: ObjectKind::Rq, state: 1, .. })));
        assert_eq!(pool.outstanding(), 4, "nothing was touched");
        rq.stop(objects, deadline()).expect("stopped");
        objects.firmware.queue_state = RqState::ERR.0;
        let before = objects.firmware.requests.len();
        rq.recover(objects, &mut cq, &mut pool, deadline()).expect("recovered");
        let steps: Vec<_> = objects.firmware.requests[before..]
            .iter()
            .filter(|request| request.opcode() == Opcode::MODIFY_RQ)
            .map(|request| {
                let input = ModifyRqIn::from_prefix(request.input());
                (input.get(ModifyRqIn::RQ_STATE), input.nested(ModifyRqIn::CTX).get(Rqc::STATE))
            })
            .collect();
        assert_eq!(steps, [(3, 0), (0, 1)]);
        assert_eq!((pool.outstanding(), rq.post(&mut pool)), (0, 4));
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let (objects, base) = (&mut TestObjects::default(), base());
        let refused = CompletionQueue::<Cqe64>::create(objects, &base, 23, 7, deadline());
        assert!(matches!(refused, Err(QueueError::Size { log: 23, max: 22, .. })));
        let mut cq = CompletionQueue::<Cqe64>::create(objects, &base, 4, 7, deadline()).expect("created");
        for log in [4, 16, 40] {
            let params = SendParams::new(log, None);
            let refused = SendRing::<()>::create(objects, &base, &mut cq, &params, &[], deadline());
            assert!(matches!(refused, Err(QueueError::Size { .. })), "{log}");
        }
        let params = SendParams::new(5, None);
        let refused = SendRing::<()>::create(objects, &base, &mut cq, &params, &[], deadline());
        assert!(matches!(refused, Err(QueueError::CqTooSmall(CqTooSmall { entries: 16, wanted: 32, .. }))));
        assert_eq!(objects.log.len(), 1);
    }
}
