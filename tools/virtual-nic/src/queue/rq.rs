//! Receive queues, and what leads to them: tables of queues and TIRs (`mlx5-bringup.md` §4, §8.3).

use super::cq::Completion;
use super::ring::Ring;
use super::strides::Strides;
use super::umem::{Place, Umems};
use super::{State, WorkError};
use crate::rss::Rss;
use firmware_iface::context::{Rqc, Wq};
use hw_regs::cqe::{Cqe64, CqeOpcode};
use hw_regs::layout::Access;

/// A receive queue, driven by its doorbell record alone.
pub(crate) struct Rq {
    pub(crate) context: Rqc,
    pub(crate) ring: Ring,
    pub(crate) log_size: u32,
    /// log2 of the bytes of a WQE.
    pub(crate) log_stride: u32,
    pub(crate) record: u64,
    pub(crate) umems: Umems,
    pub(crate) cqn: u32,
    pub(crate) pd: u32,
    pub(crate) counter_set: u32,
    pub(crate) state: State,
    pub(crate) strip_vlan: bool,
    pub(crate) flush: bool,
    /// The reserved lkey may be used.
    pub(crate) reserved_key: bool,
    pub(crate) user_index: u32,
    /// WQEs consumed, free-running; its low 16 bits are compared with the record.
    pub(crate) head: u32,
    /// Of a queue whose WQEs hold many packets.
    pub(crate) strides: Option<Strides>,
}

impl Rq {
    pub(crate) fn new(context: Rqc, place: Place, strides: Option<Strides>) -> Rq {
        let wq: Wq = context.nested(Rqc::WQ);
        Rq {
            ring: place.ring,
            log_size: wq.get(Wq::LOG_WQ_SZ),
            log_stride: wq.get(Wq::LOG_WQ_STRIDE),
            record: place.record,
            umems: place.umems,
            cqn: context.get(Rqc::CQN),
            pd: wq.get(Wq::PD),
            counter_set: context.get(Rqc::COUNTER_SET_ID),
            state: State::Reset,
            strip_vlan: !context.is_set(Rqc::VSD),
            flush: context.is_set(Rqc::FLUSH_IN_ERROR_EN),
            reserved_key: context.is_set(Rqc::RLKY),
            user_index: context.get(Rqc::USER_INDEX),
            head: 0,
            strides,
            context,
        }
    }

    /// Ends the WQE at the head, whatever it holds, and returns its place in the ring.
    pub(crate) fn end_wqe(&mut self) -> u16 {
        let index = self.strides.as_mut().map_or(self.head as u16, Strides::end);
        self.head = self.head.wrapping_add(1);
        index
    }

    /// The error completion of a WQE, which is named by its place where WQEs have strides.
    pub(crate) fn failed(&self, rqn: u32, index: u16, error: WorkError) -> Completion {
        let mut completion = error.completion(CqeOpcode::RESP_ERR, rqn, 0, index);
        if self.strides.is_some() {
            completion.edit(|cqe| cqe.set(Cqe64::WQE_ID, u32::from(index)));
        }
        completion
    }

    /// Begins anew.
    pub(crate) fn rewind(&mut self) {
        self.head = 0;
        self.strides.iter_mut().for_each(Strides::reset);
    }

    /// The context as QUERY_RQ shows it.
    pub(crate) fn query(&self) -> Rqc {
        let wq = self.context.nested(Rqc::WQ).with(Wq::HW_COUNTER, self.head & 0xffff);
        self.context
            .with(Rqc::STATE, self.state.code())
            .with(Rqc::VSD, u32::from(!self.strip_vlan))
            .with(Rqc::COUNTER_SET_ID, self.counter_set)
            .with_nested(Rqc::WQ, &wq)
    }
}

/// A receive queue table: numbers of receive queues, by hash.
pub(crate) struct Rqt {
    pub(crate) max_size: u32,
    /// Never empty.
    pub(crate) queues: Vec<u32>,
}

impl Rqt {
    /// The queue of a hash.
    #[inline]
    pub(crate) fn queue(&self, hash: u32) -> u32 {
        let size = self.queues.len();
        // Sizes are powers of two in practice; others are spread by the remainder.
        let index = if size.is_power_of_two() { hash as usize & (size - 1) } else { hash as usize % size };
        self.queues[index]
    }
}

/// Where a TIR leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// One receive queue.
    Queue(u32),
    /// A receive queue table.
    Table(u32),
}

/// A TIR.
pub(crate) struct Tir {
    pub(crate) target: Target,
    pub(crate) rss: Rss,
    pub(crate) transport_domain: u32,
    /// The TIR has an offload context.
    pub(crate) offload: bool,
    pub(crate) context: firmware_iface::context::Tirc,
}
