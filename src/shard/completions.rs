//! The completion queue of received packets, in the form that the function has.
//!
//! The offload describes what it placed in the first half of a 128-byte entry. A function without it may have entries of 64
//! bytes only (`cqe_128_always`, `nvme-tcp-offload.md` §2.1): there the half that says nothing is added while reading.

use crate::adapter::Objects;
use crate::command::CommandError;
use crate::platform::{Deadline, Platform};
use crate::queue::{Arm, Base, CompletionQueue, QueueError, ReceiveQueue, RingView, RxPool};
use hw_regs::cqe::{Cqe64, OffloadCqe};
use hw_regs::layout::Layout;

/// A completion queue whose entries are read as 128 bytes, whatever the device writes.
pub(super) enum RxCompletions {
    /// 128 bytes: what was placed, and the entry.
    Offload(CompletionQueue<OffloadCqe>),
    /// 64 bytes: nothing is ever placed.
    Plain(CompletionQueue<Cqe64>),
}

impl RxCompletions {
    /// A queue of `1 << log_entries` entries that reports to `eqn`, and a receive queue as long on it. `offload`: the
    /// function can place payload.
    pub fn create(
        objects: &mut impl Objects,
        base: &Base,
        log_entries: u32,
        eqn: u32,
        offload: bool,
        pool: &RxPool,
        deadline: Deadline,
    ) -> Result<(RxCompletions, ReceiveQueue), QueueError> {
        if offload {
            let mut cq = CompletionQueue::create(objects, base, log_entries, eqn, deadline)?;
            let rq = ReceiveQueue::create(objects, base, &mut cq, log_entries, pool, 0, deadline)?;
            Ok((RxCompletions::Offload(cq), rq))
        } else {
            let mut cq = CompletionQueue::create(objects, base, log_entries, eqn, deadline)?;
            let rq = ReceiveQueue::create(objects, base, &mut cq, log_entries, pool, 0, deadline)?;
            Ok((RxCompletions::Plain(cq), rq))
        }
    }

    /// Number by which firmware knows the queue.
    pub fn cqn(&self) -> u32 {
        match self {
            RxCompletions::Offload(cq) => cq.cqn(),
            RxCompletions::Plain(cq) => cq.cqn(),
        }
    }

    /// The ring, for whoever looks at it.
    pub fn view(&self) -> RingView<'_> {
        match self {
            RxCompletions::Offload(cq) => cq.view(),
            RxCompletions::Plain(cq) => cq.view(),
        }
    }

    /// Entries of the ring.
    pub fn entries(&self) -> u32 {
        match self {
            RxCompletions::Offload(cq) => cq.entries(),
            RxCompletions::Plain(cq) => cq.entries(),
        }
    }

    /// Takes the receive queue from the error state to ready and empty; entries that are there are dropped
    /// ([`ReceiveQueue::recover`]).
    pub fn recover(
        &mut self,
        rq: &mut ReceiveQueue,
        objects: &mut impl Objects,
        pool: &mut RxPool,
        deadline: Deadline,
    ) -> Result<(), QueueError> {
        match self {
            RxCompletions::Offload(cq) => rq.recover(objects, cq, pool, deadline),
            RxCompletions::Plain(cq) => rq.recover(objects, cq, pool, deadline),
        }
    }

    /// Entries that recoveries have dropped so far.
    pub fn discarded(&self) -> u64 {
        match self {
            RxCompletions::Offload(cq) => cq.discarded(),
            RxCompletions::Plain(cq) => cq.discarded(),
        }
    }

    /// Destroys both queues; the buffers of the receive queue go back to `pool`. What firmware refuses to destroy stays
    /// logged, and keeps its memory.
    pub fn destroy(
        self,
        rq: ReceiveQueue,
        objects: &mut impl Objects,
        pool: &mut RxPool,
        deadline: Deadline,
    ) -> Result<(), CommandError> {
        match self {
            RxCompletions::Offload(mut cq) => {
                rq.destroy(objects, &mut cq, pool, deadline).and_then(|()| cq.destroy(objects, deadline))
            }
            RxCompletions::Plain(mut cq) => {
                rq.destroy(objects, &mut cq, pool, deadline).and_then(|()| cq.destroy(objects, deadline))
            }
        }
    }

    /// The next entry into `entry`, if there is one. The first half must be zero before and stays so where the device has
    /// none.
    #[inline(always)]
    pub fn poll_into(&mut self, entry: &mut OffloadCqe) -> bool {
        match self {
            RxCompletions::Offload(cq) => cq.poll_into(entry),
            RxCompletions::Plain(cq) => {
                let mut plain = Cqe64::zeroed();
                let found = cq.poll_into(&mut plain);
                if found {
                    entry.0[OffloadCqe::SIZE - Cqe64::SIZE..].copy_from_slice(&plain.0);
                }
                found
            }
        }
    }

    /// Entries read so far; free-running.
    pub fn consumer(&self) -> u32 {
        match self {
            RxCompletions::Offload(cq) => cq.consumer(),
            RxCompletions::Plain(cq) => cq.consumer(),
        }
    }

    /// Asks for one event when there is an entry that was not read, at once if there is one already.
    pub fn arm(&self, platform: &impl Platform) {
        match self {
            RxCompletions::Offload(cq) => cq.arm(platform, Arm::Next),
            RxCompletions::Plain(cq) => cq.arm(platform, Arm::Next),
        }
    }

    /// The event that was asked for has come.
    pub fn on_event(&mut self) {
        match self {
            RxCompletions::Offload(cq) => cq.on_event(),
            RxCompletions::Plain(cq) => cq.on_event(),
        }
    }

    /// Tells the device how far entries were read.
    #[inline]
    pub fn update(&self) {
        match self {
            RxCompletions::Offload(cq) => cq.update(),
            RxCompletions::Plain(cq) => cq.update(),
        }
    }
}
