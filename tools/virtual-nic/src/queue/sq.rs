//! Send queues (`mlx5-bringup.md` §8.4).

use super::ring::Ring;
use super::umem::{Place, Umems};
use super::{State, WQEBB, WorkError};
use crate::dma::DmaSpace;
use firmware_iface::context::{Sqc, Tisc, Wq};
use hw_regs::layout::{Access, Layout};
use hw_regs::wqe::{WqeCtrlSeg, WqeOpcode};

/// Bytes of a WQE's segment.
pub(crate) const DS: usize = 16;
/// Largest WQE that `ds`, 6 bits, can describe.
pub(crate) const MAX_WQE: usize = 64 * DS;

/// A transport interface send object.
pub(crate) struct Tis {
    pub(crate) transport_domain: u32,
    /// As QUERY_TIS shows it.
    pub(crate) context: Tisc,
}

/// A send queue.
pub(crate) struct Sq {
    context: Sqc,
    ring: Ring,
    log_size: u32,
    /// Address of the word of the doorbell record that holds the producer counter.
    pub(crate) record: u64,
    pub(crate) umems: Umems,
    pub(crate) cqn: u32,
    pub(crate) pd: u32,
    pub(crate) uar: u32,
    pub(crate) tis: Option<u32>,
    pub(crate) state: State,
    pub(crate) reg_umr: bool,
    pub(crate) flush: bool,
    /// The reserved lkey may be used.
    pub(crate) reserved_key: bool,
    /// WQEBBs consumed, modulo 2^16.
    pub(crate) consumer: u16,
    /// The next work request fails ([`Fault::WorkRequest`](crate::faults::Fault::WorkRequest)).
    pub(crate) poisoned: bool,
}

/// A WQE, gathered from the ring.
pub(crate) struct Wqe {
    pub(crate) bytes: [u8; MAX_WQE],
    /// Bytes of it.
    pub(crate) len: usize,
    /// WQEBBs that it takes.
    pub(crate) blocks: u16,
    pub(crate) control: WqeCtrlSeg,
}

impl Wqe {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(crate) fn opcode(&self) -> WqeOpcode {
        WqeOpcode(self.control.get(WqeCtrlSeg::OPMOD_IDX_OPCODE_OPCODE) as u8)
    }

    /// True if its success is to be completed.
    pub(crate) fn signalled(&self) -> bool {
        self.control.get(WqeCtrlSeg::FM_CE_SE_COMPLETION_MODE) & 2 != 0
    }
}

impl Sq {
    pub(crate) fn new(context: Sqc, place: Place, tis: Option<u32>) -> Sq {
        let wq: Wq = context.nested(Sqc::WQ);
        Sq {
            ring: place.ring,
            log_size: wq.get(Wq::LOG_WQ_SZ),
            record: place.record + 4,
            umems: place.umems,
            cqn: context.get(Sqc::CQN),
            pd: wq.get(Wq::PD),
            uar: wq.get(Wq::UAR_PAGE),
            tis,
            state: State::Reset,
            reg_umr: context.is_set(Sqc::REG_UMR),
            flush: context.is_set(Sqc::FLUSH_IN_ERROR_EN),
            reserved_key: context.is_set(Sqc::RLKY),
            consumer: 0,
            poisoned: false,
            context,
        }
    }

    /// The context as QUERY_SQ shows it.
    pub(crate) fn query(&self) -> Sqc {
        let wq = self.context.nested(Sqc::WQ).with(Wq::HW_COUNTER, u32::from(self.consumer));
        self.context.with(Sqc::STATE, self.state.code()).with_nested(Sqc::WQ, &wq)
    }

    /// True if the ring can hold `pending` WQEBBs.
    pub(crate) fn holds(&self, pending: u16) -> bool {
        u32::from(pending) <= 1 << self.log_size
    }

    /// Gathers the WQE at the consumer counter, of which at most `pending` WQEBBs are there. On failure says how many
    /// WQEBBs to skip and which opcode it had.
    pub(crate) fn fetch(&self, dma: &DmaSpace, sqn: u32, pending: u16, wqe: &mut Wqe) -> Result<(), WorkError> {
        let at = u64::from(self.consumer) * WQEBB as u64;
        (wqe.blocks, wqe.len, wqe.control) = (1, 0, WqeCtrlSeg::zeroed());
        self.ring.read(dma, at, &mut wqe.bytes[..WQEBB]).map_err(|_| WorkError::UNREADABLE)?;
        wqe.control = WqeCtrlSeg::from_prefix(&wqe.bytes);
        let ds = wqe.control.get(WqeCtrlSeg::QPN_DS_DS) as usize;
        let blocks = ds.div_ceil(WQEBB / DS) as u16;
        let before_end = (1u32 << self.log_size) - (u32::from(self.consumer) & ((1 << self.log_size) - 1));
        if ds == 0 || blocks > pending || u32::from(blocks) > before_end {
            return Err(WorkError::SIZE);
        }
        (wqe.blocks, wqe.len) = (blocks, ds * DS);
        if wqe.len > WQEBB {
            let rest = &mut wqe.bytes[WQEBB..usize::from(blocks) * WQEBB];
            self.ring.read(dma, at + WQEBB as u64, rest).map_err(|_| WorkError::UNREADABLE)?;
        }
        let index = wqe.control.get(WqeCtrlSeg::OPMOD_IDX_OPCODE_WQE_INDEX) as u16;
        if wqe.control.get(WqeCtrlSeg::QPN_DS_QPN) != sqn || index != self.consumer {
            return Err(WorkError::IDENTITY);
        }
        Ok(())
    }
}
