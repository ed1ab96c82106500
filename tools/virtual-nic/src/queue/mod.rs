//! The rings that device and driver share: event, completion, send and receive queues.
//!
//! ```text
//!  driver ─ doorbell record ─► RQ ─┐                       ┌─► EQ ─► interrupt
//!  driver ─ UAR doorbell ────► SQ ─┴─► completion ─► CQ ───┘ (one event per arm)
//! ```
//!
//! Counters run free and wrap; the bit above the ring's size is the lap, which decides the ownership bit of an entry.

pub(crate) mod compression;
pub(crate) mod cq;
pub(crate) mod eq;
pub(crate) mod lso;
pub(crate) mod ring;
pub(crate) mod rq;
pub(crate) mod sq;
pub(crate) mod strides;
pub(crate) mod umem;

use hw_regs::cqe::{CqeOpcode, CqeSyndrome, ErrCqe};
use hw_regs::layout::{Access, Layout};

/// Bytes of a send queue's basic block.
pub(crate) const WQEBB: usize = 64;

/// State of a send or receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Reset,
    Ready,
    Error,
}

impl State {
    /// The state of a context's code.
    pub(crate) fn of(code: u32) -> Option<State> {
        match code {
            0 => Some(State::Reset),
            1 => Some(State::Ready),
            3 => Some(State::Error),
            _ => None,
        }
    }

    /// The code of the state.
    pub(crate) fn code(self) -> u32 {
        match self {
            State::Reset => 0,
            State::Ready => 1,
            State::Error => 3,
        }
    }
}

/// Why a work request failed: `syndrome` and `vendor_err_synd` of its completion. Which vendor codes hardware uses is not
/// public; here they tell causes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkError {
    pub(crate) syndrome: CqeSyndrome,
    pub(crate) vendor: u8,
}

impl WorkError {
    /// The queue was in error: the request was not executed.
    pub(crate) const FLUSHED: WorkError = WorkError { syndrome: CqeSyndrome::WR_FLUSH_ERR, vendor: 0 };
    /// The WQE cannot be read.
    pub(crate) const UNREADABLE: WorkError = WorkError { syndrome: CqeSyndrome::LOCAL_QP_OP_ERR, vendor: 0xa0 };
    /// `ds` is 0, or more than the ring or the producer counter leaves: the WQE wraps or is not all there.
    pub(crate) const SIZE: WorkError = WorkError { syndrome: CqeSyndrome::LOCAL_QP_OP_ERR, vendor: 0xa1 };
    /// The control segment names another queue or another index than the WQE's.
    pub(crate) const IDENTITY: WorkError = WorkError { syndrome: CqeSyndrome::LOCAL_QP_OP_ERR, vendor: 0xa2 };
    /// The queue does not execute this opcode.
    pub(crate) const OPCODE: WorkError = WorkError { syndrome: CqeSyndrome::LOCAL_QP_OP_ERR, vendor: 0xa3 };
    /// A segment does not fit the WQE.
    pub(crate) const SEGMENT: WorkError = WorkError { syndrome: CqeSyndrome::LOCAL_QP_OP_ERR, vendor: 0xa4 };
    /// Fewer inline header bytes than the function needs.
    pub(crate) const INLINE: WorkError = WorkError { syndrome: CqeSyndrome::LOCAL_QP_OP_ERR, vendor: 0xa5 };
    /// A frame shorter than an Ethernet header or longer than the MTU.
    pub(crate) const FRAME_LENGTH: WorkError = WorkError { syndrome: CqeSyndrome::LOCAL_LENGTH_ERR, vendor: 0xa6 };
    /// Headers that cannot be segmented.
    pub(crate) const LSO: WorkError = WorkError { syndrome: CqeSyndrome::LOCAL_QP_OP_ERR, vendor: 0xa7 };
    /// The doorbell record claims more than the ring holds.
    pub(crate) const OVERFLOW: WorkError = WorkError { syndrome: CqeSyndrome::LOCAL_QP_OP_ERR, vendor: 0xa8 };
    /// A received frame does not fit the receive WQE.
    pub(crate) const RECEIVE_LENGTH: WorkError = WorkError { syndrome: CqeSyndrome::LOCAL_LENGTH_ERR, vendor: 0xa9 };
    /// The list of receive WQEs leads out of the ring.
    pub(crate) const LINK: WorkError = WorkError { syndrome: CqeSyndrome::LOCAL_QP_OP_ERR, vendor: 0xaa };

    /// Memory that is not mapped, reached through the reserved key.
    pub(crate) const UNMAPPED: WorkError = WorkError { syndrome: CqeSyndrome::LOCAL_PROT_ERR, vendor: 0x49 };

    pub(crate) fn of((syndrome, vendor): (CqeSyndrome, u8)) -> WorkError {
        WorkError { syndrome, vendor }
    }

    /// The error completion of a queue's WQE.
    pub(crate) fn completion(self, opcode: CqeOpcode, queue: u32, wqe_opcode: u8, index: u16) -> cq::Completion {
        let cqe = ErrCqe::zeroed()
            .with(ErrCqe::SYNDROME, u32::from(self.syndrome.0))
            .with(ErrCqe::VENDOR_ERR_SYND, u32::from(self.vendor))
            .with(ErrCqe::S_WQE_OPCODE_QPN_S_WQE_OPCODE, u32::from(wqe_opcode))
            .with(ErrCqe::S_WQE_OPCODE_QPN_QPN, queue)
            .with(ErrCqe::WQE_COUNTER, u32::from(index))
            .with(ErrCqe::OP_OWN_OPCODE, u32::from(opcode.0));
        cq::Completion::new(&cqe.0)
    }
}
