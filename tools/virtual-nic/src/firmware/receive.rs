//! What leads received packets to a queue: receive queue tables, TIRs, flow steering, and the offload's tag buffer tables
//! (`mlx5-bringup.md` §4, §6, `nvme-tcp-offload.md` §3).

use super::objects::removed;
use super::{Command, Outcome, Reply};
use crate::VirtualNic;
use crate::queue::cq::CQE;
use crate::queue::rq::{Rqt, Target, Tir};
use crate::refusal;
use crate::reject::{Reject, Syndrome};
use crate::rss::Rss;
use firmware_iface::caps::CmdHcaCap;
use firmware_iface::caps::groups::NvmeotcpCap;
use firmware_iface::command::flow::*;
use firmware_iface::command::object::CreateTagBufferTableIn;
use firmware_iface::command::queue::*;
use firmware_iface::context::{RqNum, Rqtc, RxHashFn, Tirc};
use hw_regs::layout::{Access, Layout};

/// Where a context's list of queues begins in CREATE_RQT and MODIFY_RQT.
const RQT_LIST: usize = CreateRqtIn::RQT_CONTEXT.byte_offset() + Rqtc::RQ_NUM;

impl VirtualNic {
    /// The list of a receive queue table, checked: every queue exists.
    fn queue_list(&self, command: &Command<'_>, context: &Rqtc) -> Result<Vec<u32>, Reject> {
        let count = context.get(Rqtc::RQT_ACTUAL_SIZE) as usize;
        if context.is_set(Rqtc::RQ_VHCA_ID_FORMAT) || context.get(Rqtc::LIST_Q_TYPE) != 0 {
            return Err(refusal::RQT_FORMAT);
        }
        let list = command.tail(RQT_LIST, count * RqNum::SIZE)?;
        let queues: Vec<u32> =
            list.chunks_exact(RqNum::SIZE).map(|entry| RqNum::from_prefix(entry).get(RqNum::RQ_NUM)).collect();
        match queues.iter().all(|rqn| self.objects.rqs.contains(*rqn)) {
            true => Ok(queues),
            false => Err(refusal::RQ_UNKNOWN),
        }
    }

    pub(super) fn create_rqt(&mut self, command: &Command<'_>) -> Outcome {
        self.ethernet_objects()?;
        let context: Rqtc = command.view::<CreateRqtIn>().nested(CreateRqtIn::RQT_CONTEXT);
        let (max_size, size) = (context.get(Rqtc::RQT_MAX_SIZE), context.get(Rqtc::RQT_ACTUAL_SIZE));
        if size == 0 || size > max_size || max_size > 1 << self.caps().get(CmdHcaCap::LOG_MAX_RQT_SIZE) {
            return Err(refusal::RQT_SIZE);
        }
        let queues = self.queue_list(command, &context)?;
        self.room_for_object()?;
        queues.iter().for_each(|rqn| self.objects.rqs.hold(*rqn));
        let number = self.objects.rqts.insert(Rqt { max_size, queues }).ok_or(refusal::RQT_NONE_LEFT)?;
        self.ask_for_pages_if_short();
        Ok(Reply::of(&CreateRqtOut::zeroed().with(CreateRqtOut::RQTN, number)))
    }

    pub(super) fn modify_rqt(&mut self, command: &Command<'_>) -> Outcome {
        let input = command.view::<ModifyRqtIn>();
        let context: Rqtc = input.nested(ModifyRqtIn::CTX);
        let number = input.get(ModifyRqtIn::RQTN);
        let rqt = self.objects.rqts.get(number).ok_or(refusal::RQT_UNKNOWN)?;
        if !input.nested(ModifyRqtIn::BITMASK).is_set(RqtBitmask::RQN_LIST) {
            return Err(refusal::RQT_BITMASK);
        }
        let size = context.get(Rqtc::RQT_ACTUAL_SIZE);
        if size == 0 || size > rqt.max_size {
            return Err(refusal::RQT_SIZE);
        }
        let queues = self.queue_list(command, &context)?;
        queues.iter().for_each(|rqn| self.objects.rqs.hold(*rqn));
        if let Some(rqt) = self.objects.rqts.get_mut(number) {
            let old = std::mem::replace(&mut rqt.queues, queues);
            old.iter().for_each(|rqn| self.objects.rqs.release(*rqn));
        }
        Ok(Reply::ok())
    }

    pub(super) fn query_rqt(&mut self, command: &Command<'_>) -> Outcome {
        let number = command.view::<QueryRqtIn>().get(QueryRqtIn::RQTN);
        let rqt = self.objects.rqts.get(number).ok_or(refusal::RQT_UNKNOWN)?;
        let context =
            Rqtc::zeroed().with(Rqtc::RQT_MAX_SIZE, rqt.max_size).with(Rqtc::RQT_ACTUAL_SIZE, rqt.queues.len() as u32);
        let list: Vec<u8> = rqt.queues.iter().flat_map(|rqn| RqNum::zeroed().with(RqNum::RQ_NUM, *rqn).0).collect();
        Ok(Reply::of(&QueryRqtOut::zeroed().with_nested(QueryRqtOut::RQT_CONTEXT, &context)).and(&list))
    }

    pub(super) fn destroy_rqt(&mut self, command: &Command<'_>) -> Outcome {
        let number = command.view::<DestroyRqtIn>().get(DestroyRqtIn::RQTN);
        let rqt = removed(self.objects.rqts.remove(number), refusal::RQT_UNKNOWN, refusal::RQT_IN_USE)?;
        rqt.queues.iter().for_each(|rqn| self.objects.rqs.release(*rqn));
        Ok(Reply::ok())
    }

    pub(super) fn create_tir(&mut self, command: &Command<'_>) -> Outcome {
        self.ethernet_objects()?;
        let context: Tirc = command.view::<CreateTirIn>().nested(CreateTirIn::CTX);
        let domain = context.get(Tirc::TRANSPORT_DOMAIN);
        if !self.objects.transport_domains.contains(domain) {
            return Err(refusal::TD_UNKNOWN);
        }
        if !matches!(
            RxHashFn(context.get(Tirc::RX_HASH_FN) as u8),
            RxHashFn::NONE | RxHashFn::INVERTED_XOR8 | RxHashFn::TOEPLITZ
        ) {
            return Err(refusal::TIR_HASH);
        }
        let target = match context.get(Tirc::DISP_TYPE) {
            0 if self.objects.rqs.contains(context.get(Tirc::INLINE_RQN)) => {
                Target::Queue(context.get(Tirc::INLINE_RQN))
            }
            0 => return Err(refusal::RQ_UNKNOWN),
            1 if self.objects.rqts.contains(context.get(Tirc::INDIRECT_TABLE)) => {
                Target::Table(context.get(Tirc::INDIRECT_TABLE))
            }
            1 => return Err(refusal::RQT_UNKNOWN),
            _ => return Err(refusal::TIR_DISPATCH),
        };
        if context.is_set(Tirc::TLS_EN) {
            return Err(refusal::TIR_TLS);
        }
        let offload = context.is_set(Tirc::NVMEOTCP_ZERO_COPY_EN) || context.is_set(Tirc::NVMEOTCP_CRC_EN);
        if offload {
            self.check_offload(&context, target)?;
        }
        self.room_for_object()?;
        let tir = Tir { target, rss: Rss::from_tirc(&context), transport_domain: domain, offload, context };
        let number = self.objects.tirs.insert(tir).ok_or(refusal::TIR_NONE_LEFT)?;
        if let Err(reject) = self.objects.offload.create_tir(number, &context) {
            // Nothing refers to it yet.
            let _ = self.objects.tirs.remove(number);
            return Err(reject);
        }
        if context.get(Tirc::PACKET_MERGE_MASK) != 0 {
            self.objects.offload.destroy_tir(number);
            let _ = self.objects.tirs.remove(number);
            return Err(refusal::TIR_MERGE);
        }
        self.objects.transport_domains.hold(domain);
        match target {
            Target::Queue(rqn) => self.objects.rqs.hold(rqn),
            Target::Table(rqtn) => self.objects.rqts.hold(rqtn),
        }
        self.ask_for_pages_if_short();
        Ok(Reply::of(&CreateTirOut::zeroed().with(CreateTirOut::TIRN, number)))
    }

    /// Refuses an offload that the function does not have, or whose results would find no room in the CQEs.
    fn check_offload(&self, context: &Tirc, target: Target) -> Result<(), Reject> {
        let caps = self.firmware.capabilities.current::<NvmeotcpCap>();
        let able = self.caps().is_set(CmdHcaCap::NVMEOTCP)
            && (!context.is_set(Tirc::NVMEOTCP_ZERO_COPY_EN) || caps.is_set(NvmeotcpCap::ZEROCOPY))
            && (!context.is_set(Tirc::NVMEOTCP_CRC_EN) || caps.is_set(NvmeotcpCap::CRC_RX));
        if !able {
            return Err(refusal::TIR_OFFLOAD);
        }
        let queues = match &target {
            Target::Queue(rqn) => std::slice::from_ref(rqn),
            Target::Table(rqtn) => self.objects.rqts.get(*rqtn).map_or(&[][..], |rqt| &rqt.queues),
        };
        let wide = |rqn: &u32| {
            let rq = self.objects.rqs.get(*rqn)?;
            Some(self.objects.completions.cqs.get(rq.cqn)?.stride == 2 * CQE)
        };
        if queues.iter().all(|rqn| wide(rqn) == Some(true)) { Ok(()) } else { Err(refusal::TIR_OFFLOAD_CQE) }
    }

    pub(super) fn modify_tir(&mut self, command: &Command<'_>) -> Outcome {
        let input = command.view::<ModifyTirIn>();
        let (wanted, fields): (Tirc, _) = (input.nested(ModifyTirIn::CTX), input.nested(ModifyTirIn::BITMASK));
        let tir = self.objects.tirs.get_mut(input.get(ModifyTirIn::TIRN)).ok_or(refusal::TIR_UNKNOWN)?;
        let known = ModifyTirBitmask::zeroed()
            .with(ModifyTirBitmask::SELF_LB_EN, 1)
            .with(ModifyTirBitmask::HASH, 1)
            .with(ModifyTirBitmask::PACKET_MERGE, 1);
        if fields.0.iter().zip(known.0).any(|(asked, known)| asked & !known != 0) {
            return Err(refusal::TIR_BITMASK);
        }
        if fields.is_set(ModifyTirBitmask::PACKET_MERGE) && wanted.get(Tirc::PACKET_MERGE_MASK) != 0 {
            return Err(refusal::TIR_MERGE);
        }
        if fields.is_set(ModifyTirBitmask::SELF_LB_EN) {
            tir.context.set(Tirc::SELF_LB_BLOCK, wanted.get(Tirc::SELF_LB_BLOCK));
        }
        if fields.is_set(ModifyTirBitmask::HASH) {
            if wanted.get(Tirc::RX_HASH_FN) > u32::from(RxHashFn::TOEPLITZ.0) {
                return Err(refusal::TIR_HASH);
            }
            tir.rss = Rss::from_tirc(&wanted);
        }
        Ok(Reply::ok())
    }

    pub(super) fn query_tir(&mut self, command: &Command<'_>) -> Outcome {
        let number = command.view::<QueryTirIn>().get(QueryTirIn::TIRN);
        let tir = self.objects.tirs.get(number).ok_or(refusal::TIR_UNKNOWN)?;
        Ok(Reply::of(&QueryTirOut::zeroed().with_nested(QueryTirOut::TIR_CONTEXT, &tir.context)))
    }

    pub(super) fn destroy_tir(&mut self, command: &Command<'_>) -> Outcome {
        let number = command.view::<DestroyTirIn>().get(DestroyTirIn::TIRN);
        if self.objects.flows.tir_in_use(number) {
            return Err(Syndrome::TIR_IS_DESTINATION.into());
        }
        let tir = removed(self.objects.tirs.remove(number), refusal::TIR_UNKNOWN, refusal::TIR_UNKNOWN)?;
        self.objects.offload.destroy_tir(number);
        self.objects.transport_domains.release(tir.transport_domain);
        match tir.target {
            Target::Queue(rqn) => self.objects.rqs.release(rqn),
            Target::Table(rqtn) => self.objects.rqts.release(rqtn),
        }
        Ok(Reply::ok())
    }

    pub(super) fn create_tag_buffer_table(&mut self, input: &CreateTagBufferTableIn) -> Result<u32, Reject> {
        self.objects.offload.create_table(input)
    }

    pub(super) fn destroy_tag_buffer_table(&mut self, id: u32) -> Result<(), Reject> {
        self.objects.offload.destroy_table(id)
    }

    pub(super) fn create_flow_table(&mut self, command: &Command<'_>) -> Outcome {
        self.room_for_object()?;
        let id = self.objects.flows.create_table(&command.view())?;
        self.ask_for_pages_if_short();
        Ok(Reply::of(&CreateFlowTableOut::zeroed().with(CreateFlowTableOut::TABLE_ID, id)))
    }

    pub(super) fn modify_flow_table(&mut self, command: &Command<'_>) -> Outcome {
        self.objects.flows.modify_table(&command.view())?;
        Ok(Reply::ok())
    }

    pub(super) fn destroy_flow_table(&mut self, command: &Command<'_>) -> Outcome {
        self.objects.flows.destroy_table(&command.view())?;
        Ok(Reply::ok())
    }

    pub(super) fn create_flow_group(&mut self, command: &Command<'_>) -> Outcome {
        self.room_for_object()?;
        let id = self.objects.flows.create_group(&command.view())?;
        self.ask_for_pages_if_short();
        Ok(Reply::of(&CreateFlowGroupOut::zeroed().with(CreateFlowGroupOut::GROUP_ID, id)))
    }

    pub(super) fn destroy_flow_group(&mut self, command: &Command<'_>) -> Outcome {
        self.objects.flows.destroy_group(&command.view())?;
        Ok(Reply::ok())
    }

    pub(super) fn set_fte(&mut self, command: &Command<'_>) -> Outcome {
        self.room_for_object()?;
        let tail = command.bytes().get(SetFteIn::SIZE..).unwrap_or_default();
        let tirs = &self.objects.tirs;
        self.objects.flows.set_fte(&command.view(), tail, |tirn| tirs.contains(tirn))?;
        self.ask_for_pages_if_short();
        Ok(Reply::ok())
    }

    pub(super) fn delete_fte(&mut self, command: &Command<'_>) -> Outcome {
        self.objects.flows.delete_fte(&command.view())?;
        Ok(Reply::ok())
    }

    pub(super) fn query_flow_table(&mut self, command: &Command<'_>) -> Outcome {
        Ok(Reply::of(&self.objects.flows.query_table(&command.view())?))
    }

    pub(super) fn query_flow_group(&mut self, command: &Command<'_>) -> Outcome {
        Ok(Reply::of(&self.objects.flows.query_group(&command.view())?))
    }

    pub(super) fn query_fte(&mut self, command: &Command<'_>) -> Outcome {
        let (output, list) = self.objects.flows.query_fte(&command.view())?;
        Ok(Reply::of(&output).and(list))
    }

    pub(super) fn set_flow_table_root(&mut self, command: &Command<'_>) -> Outcome {
        self.objects.flows.set_root(&command.view())?;
        Ok(Reply::ok())
    }
}
