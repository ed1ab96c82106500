//! Send and receive queues and their states (`mlx5-bringup.md` §4, §8.7).
//!
//! ```text
//!        ┌──────────┐ (attributes)
//!  RST ──► RDY ─────┘
//!   ▲       │ error, or by command
//!   └─ ERR ◄┘          destroyed in any state
//! ```

use super::objects::removed;
use super::{Command, Outcome, Reply};
use crate::VirtualNic;
use crate::queue::rq::Rq;
use crate::queue::sq::{Sq, Tis};
use crate::queue::strides::Strides;
use crate::queue::umem::{Place, Umems, Use};
use crate::queue::{State, WQEBB};
use crate::refusal;
use crate::reject::Reject;
use firmware_iface::caps::CmdHcaCap;
use firmware_iface::caps::groups::PerProtocolNetworkingOffloadCaps as EthernetCaps;
use firmware_iface::command::queue::*;
use firmware_iface::context::{Rqc, Sqc, Tisc, Wq, WqType};
use hw_regs::layout::{Access, Layout};
use hw_regs::wqe::WqeDataSeg;

/// Bits of `modify_bitmask` of MODIFY_RQ.
mod modify_rq {
    pub(super) const VLAN_STRIP_DISABLE: u64 = 1 << 1;
    pub(super) const SCATTER_FCS: u64 = 1 << 2;
    pub(super) const COUNTER_SET: u64 = 1 << 3;
}

/// The state that a context's 4-bit field names.
fn state(code: u32) -> Result<State, Reject> {
    State::of(code).ok_or(refusal::STATE_TRANSITION)
}

/// Refuses a change of state that does not exist, or that starts from another state than the queue's.
fn transition(is: State, claimed: u32, next: u32) -> Result<State, Reject> {
    if state(claimed).ok() != Some(is) {
        return Err(refusal::STATE_MISMATCH);
    }
    let next = state(next)?;
    match (is, next) {
        (State::Reset, State::Ready) | (State::Ready, State::Ready | State::Error) | (State::Error, State::Reset) => {
            Ok(next)
        }
        _ => Err(refusal::STATE_TRANSITION),
    }
}

impl VirtualNic {
    pub(super) fn create_tis(&mut self, command: &Command<'_>) -> Outcome {
        self.ethernet_objects()?;
        let context: Tisc = command.view::<CreateTisIn>().nested(CreateTisIn::CTX);
        let domain = context.get(Tisc::TRANSPORT_DOMAIN);
        if !self.objects.transport_domains.contains(domain) {
            return Err(refusal::TD_UNKNOWN);
        }
        self.room_for_object()?;
        let number =
            self.objects.tiss.insert(Tis { transport_domain: domain, context }).ok_or(refusal::TIS_NONE_LEFT)?;
        self.objects.transport_domains.hold(domain);
        self.ask_for_pages_if_short();
        Ok(Reply::of(&CreateTisOut::zeroed().with(CreateTisOut::TISN, number)))
    }

    pub(super) fn query_tis(&mut self, command: &Command<'_>) -> Outcome {
        let number = command.view::<QueryTisIn>().get(QueryTisIn::TISN);
        let tis = self.objects.tiss.get(number).ok_or(refusal::TIS_UNKNOWN)?;
        Ok(Reply::of(&QueryTisOut::zeroed().with_nested(QueryTisOut::TIS_CONTEXT, &tis.context)))
    }

    pub(super) fn destroy_tis(&mut self, command: &Command<'_>) -> Outcome {
        let number = command.view::<DestroyTisIn>().get(DestroyTisIn::TISN);
        let tis = removed(self.objects.tiss.remove(number), refusal::TIS_UNKNOWN, refusal::TIS_IN_USE)?;
        self.objects.transport_domains.release(tis.transport_domain);
        Ok(Reply::ok())
    }

    /// Checks what send and receive queues have in common and returns where the queue is. `stride` is in bytes.
    fn work_queue(&self, command: &Command<'_>, wq: &Wq, pas: usize, stride: u64) -> Result<Place, Reject> {
        let log_size = wq.get(Wq::LOG_WQ_SZ);
        if log_size > self.caps().get(CmdHcaCap::LOG_MAX_WQ_SZ).clamp(1, 16) {
            return Err(refusal::RING_SIZE);
        }
        if wq.get(Wq::PAGE_OFFSET) != 0 {
            return Err(refusal::RING_OFFSET);
        }
        let umems = Umems {
            ring: wq.is_set(Wq::WQ_UMEM_VALID).then(|| wq.get(Wq::WQ_UMEM_ID)),
            record: wq.is_set(Wq::DBR_UMEM_VALID).then(|| wq.get(Wq::DBR_UMEM_ID)),
        };
        let bytes = stride << log_size;
        let in_umem = (wq.get_wide(Wq::WQ_UMEM_OFFSET), bytes, Use::Read);
        self.place(umems, wq.get_wide(Wq::DBR_ADDR), in_umem, || command.ring(pas, bytes, wq.get(Wq::LOG_WQ_PG_SZ)))
    }

    pub(super) fn create_sq(&mut self, command: &Command<'_>) -> Outcome {
        self.ethernet_objects()?;
        let context: Sqc = command.view::<CreateSqIn>().nested(CreateSqIn::CTX);
        let wq: Wq = context.nested(Sqc::WQ);
        let (cqn, pd, uar) = (context.get(Sqc::CQN), wq.get(Wq::PD), wq.get(Wq::UAR_PAGE));
        if state(context.get(Sqc::STATE)).ok() != Some(State::Reset) {
            return Err(refusal::INITIAL_STATE);
        }
        if context.is_set(Sqc::HAIRPIN) || WqType(wq.get(Wq::WQ_TYPE) as u8) != WqType::CYCLIC {
            return Err(refusal::WQ_TYPE);
        }
        let reg_umr = context.is_set(Sqc::REG_UMR);
        let ethernet = self.firmware.capabilities.current::<EthernetCaps>();
        if reg_umr && !ethernet.is_set(EthernetCaps::REG_UMR_SQ) {
            return Err(refusal::UMR_SQ);
        }
        let tis = match context.get(Sqc::TIS_LST_SZ) {
            0 if reg_umr => None,
            1 => Some(context.get(Sqc::TIS_NUM_0)),
            _ => return Err(refusal::TIS_LIST),
        };
        if 1 << wq.get(Wq::LOG_WQ_STRIDE) != WQEBB {
            return Err(refusal::WQ_STRIDE);
        }
        if !self.objects.completions.cqs.contains(cqn) {
            return Err(refusal::CQ_UNKNOWN);
        }
        // A queue that uses nothing but the reserved key needs no domain of its own.
        if !self.objects.pds.contains(pd) {
            return Err(refusal::PD_UNKNOWN);
        }
        if !self.objects.uars.contains(uar) {
            return Err(refusal::UAR_UNKNOWN);
        }
        if tis.is_some_and(|tis| !self.objects.tiss.contains(tis)) {
            return Err(refusal::TIS_UNKNOWN);
        }
        let pas = CreateSqIn::CTX.byte_offset() + Sqc::WQ.byte_offset() + Wq::PAS;
        let place = self.work_queue(command, &wq, pas, WQEBB as u64)?;
        let umems = place.umems;
        self.room_for_object()?;
        let number = self.objects.sqs.insert(Sq::new(context, place, tis)).ok_or(refusal::SQ_NONE_LEFT)?;
        self.objects.completions.cqs.hold(cqn);
        self.objects.pds.hold(pd);
        self.objects.uars.hold(uar);
        tis.into_iter().for_each(|tis| self.objects.tiss.hold(tis));
        self.hold_umems(umems);
        self.ask_for_pages_if_short();
        Ok(Reply::of(&CreateSqOut::zeroed().with(CreateSqOut::SQN, number)))
    }

    pub(super) fn modify_sq(&mut self, command: &Command<'_>) -> Outcome {
        let input = command.view::<ModifySqIn>();
        let wanted: Sqc = input.nested(ModifySqIn::CTX);
        let number = input.get(ModifySqIn::SQN);
        let sq = self.objects.sqs.get_mut(number).ok_or(refusal::SQ_UNKNOWN)?;
        let next = transition(sq.state, input.get(ModifySqIn::SQ_STATE), wanted.get(Sqc::STATE))?;
        let was = std::mem::replace(&mut sq.state, next);
        match (was, next) {
            (State::Error, State::Reset) => sq.consumer = 0,
            (State::Ready, State::Error) => self.flush_sq(number),
            _ => {}
        }
        Ok(Reply::ok())
    }

    pub(super) fn query_sq(&mut self, command: &Command<'_>) -> Outcome {
        let number = command.view::<QuerySqIn>().get(QuerySqIn::SQN);
        let sq = self.objects.sqs.get(number).ok_or(refusal::SQ_UNKNOWN)?;
        Ok(Reply::of(&QuerySqOut::zeroed().with_nested(QuerySqOut::SQ_CONTEXT, &sq.query())))
    }

    pub(super) fn destroy_sq(&mut self, command: &Command<'_>) -> Outcome {
        let number = command.view::<DestroySqIn>().get(DestroySqIn::SQN);
        // Nothing refers to a send queue.
        let sq = removed(self.objects.sqs.remove(number), refusal::SQ_UNKNOWN, refusal::SQ_UNKNOWN)?;
        self.objects.completions.cqs.release(sq.cqn);
        self.objects.pds.release(sq.pd);
        self.objects.uars.release(sq.uar);
        sq.tis.into_iter().for_each(|tis| self.objects.tiss.release(tis));
        self.release_umems(sq.umems);
        Ok(Reply::ok())
    }

    pub(super) fn create_rq(&mut self, command: &Command<'_>) -> Outcome {
        self.ethernet_objects()?;
        let context: Rqc = command.view::<CreateRqIn>().nested(CreateRqIn::CTX);
        let wq: Wq = context.nested(Rqc::WQ);
        let (cqn, pd, counters) = (context.get(Rqc::CQN), wq.get(Wq::PD), context.get(Rqc::COUNTER_SET_ID));
        if state(context.get(Rqc::STATE)).ok() != Some(State::Reset) {
            return Err(refusal::INITIAL_STATE);
        }
        if context.get(Rqc::MEM_RQ_TYPE) != 0 || context.is_set(Rqc::HAIRPIN) {
            return Err(refusal::RQ_MEMORY);
        }
        let stride = wq.get(Wq::LOG_WQ_STRIDE);
        let caps = self.caps();
        let strides = Strides::of(&wq, caps.is_set(CmdHcaCap::EXT_STRIDE_NUM_RANGE)).ok_or(refusal::WQ_STRIDES)?;
        let known = match strides {
            None => WqType(wq.get(Wq::WQ_TYPE) as u8) == WqType::CYCLIC,
            Some(_) => caps.is_set(CmdHcaCap::STRIDING_RQ),
        };
        if !known {
            return Err(refusal::WQ_TYPE);
        }
        let least = strides.map_or(0, |strides| strides.head()) + WqeDataSeg::SIZE;
        if 1 << stride < least || 1 << stride > caps.get(CmdHcaCap::MAX_WQE_SZ_RQ) {
            return Err(refusal::WQ_STRIDE);
        }
        if !self.objects.completions.cqs.contains(cqn) {
            return Err(refusal::CQ_UNKNOWN);
        }
        // Linux makes a queue that never holds a buffer in domain 0, which nobody allocated: no key belongs to it.
        if pd != 0 && !self.objects.pds.contains(pd) {
            return Err(refusal::PD_UNKNOWN);
        }
        if counters != 0 && !self.objects.q_counters.contains(counters) {
            return Err(refusal::Q_COUNTER_UNKNOWN);
        }
        let pas = CreateRqIn::CTX.byte_offset() + Rqc::WQ.byte_offset() + Wq::PAS;
        let place = self.work_queue(command, &wq, pas, 1 << stride)?;
        let umems = place.umems;
        self.room_for_object()?;
        let number = self.objects.rqs.insert(Rq::new(context, place, strides)).ok_or(refusal::RQ_NONE_LEFT)?;
        self.objects.completions.cqs.hold(cqn);
        self.objects.pds.hold(pd);
        self.objects.q_counters.hold(counters);
        self.hold_umems(umems);
        self.ask_for_pages_if_short();
        Ok(Reply::of(&CreateRqOut::zeroed().with(CreateRqOut::RQN, number)))
    }

    pub(super) fn modify_rq(&mut self, command: &Command<'_>) -> Outcome {
        let input = command.view::<ModifyRqIn>();
        let wanted: Rqc = input.nested(ModifyRqIn::CTX);
        let number = input.get(ModifyRqIn::RQN);
        let fields = input.get_wide(ModifyRqIn::MODIFY_BITMASK);
        let counters = wanted.get(Rqc::COUNTER_SET_ID);
        let rq = self.objects.rqs.get_mut(number).ok_or(refusal::RQ_UNKNOWN)?;
        let next = transition(rq.state, input.get(ModifyRqIn::RQ_STATE), wanted.get(Rqc::STATE))?;
        if fields & modify_rq::COUNTER_SET != 0 {
            if counters != 0 && !self.objects.q_counters.contains(counters) {
                return Err(refusal::Q_COUNTER_UNKNOWN);
            }
            self.objects.q_counters.release(rq.counter_set);
            self.objects.q_counters.hold(counters);
            rq.counter_set = counters;
        }
        if fields & modify_rq::VLAN_STRIP_DISABLE != 0 {
            rq.strip_vlan = !wanted.is_set(Rqc::VSD);
        }
        if fields & modify_rq::SCATTER_FCS != 0 {
            rq.context.set(Rqc::SCATTER_FCS, wanted.get(Rqc::SCATTER_FCS));
        }
        let was = std::mem::replace(&mut rq.state, next);
        match (was, next) {
            (State::Error, State::Reset) => rq.rewind(),
            (State::Ready, State::Error) => self.flush_rq(number),
            _ => {}
        }
        Ok(Reply::ok())
    }

    pub(super) fn query_rq(&mut self, command: &Command<'_>) -> Outcome {
        let number = command.view::<QueryRqIn>().get(QueryRqIn::RQN);
        let rq = self.objects.rqs.get(number).ok_or(refusal::RQ_UNKNOWN)?;
        Ok(Reply::of(&QueryRqOut::zeroed().with_nested(QueryRqOut::RQ_CONTEXT, &rq.query())))
    }

    pub(super) fn destroy_rq(&mut self, command: &Command<'_>) -> Outcome {
        let number = command.view::<DestroyRqIn>().get(DestroyRqIn::RQN);
        let rq = removed(self.objects.rqs.remove(number), refusal::RQ_UNKNOWN, refusal::RQ_IN_USE)?;
        self.objects.completions.cqs.release(rq.cqn);
        self.objects.pds.release(rq.pd);
        self.objects.q_counters.release(rq.counter_set);
        self.release_umems(rq.umems);
        Ok(Reply::ok())
    }
}
