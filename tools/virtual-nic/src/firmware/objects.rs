//! Objects without a ring of their own, and the queues of events and completions (`mlx5-bringup.md` §4): UAR, PD,
//! transport domain, queue counters, EQ, CQ, memory keys, tag buffer tables. Umems are in [`umem`](super::umem).
//!
//! Who refers to whom: what is referred to cannot be destroyed.
//!
//! ```text
//!  UAR ◄── EQ ◄── CQ ◄── SQ ──► TIS ──► transport domain
//!   ▲▲─────────────┘▲     └──► PD ◄── memory key        ▲
//!   └── SQ          └── RQ ──► PD, queue counters       │
//!                       ▲▲── RQT ◄── TIR ───────────────┘◄── flow rule
//!                       └─────────── TIR ──► tag buffer table
//! ```

use super::{Command, Outcome, Reply};
use crate::config::Config;
use crate::inventory::{Inventory, Objects as Counts};
use crate::mkey::{MkeyLimits, Mkeys};
use crate::offload::{Offload, TagLimits};
use crate::queue::compression::Row;
use crate::queue::cq::{CQE, Completions, Cq};
use crate::queue::eq::{Eq, EventQueues};
use crate::queue::rq::{Rq, Rqt, Tir};
use crate::queue::sq::{Sq, Tis};
use crate::queue::umem::{Umem, Umems, Use};
use crate::refusal;
use crate::reject::Reject;
use crate::steering::{FlowLimits, FlowTables};
use crate::table::{Kept, Table};
use crate::{Capabilities, VirtualNic};
use firmware_iface::caps::groups::{FlowTableNicCap, FlowTablePropLayout, NvmeotcpCap};
use firmware_iface::caps::{CmdHcaCap, TAG_BUFFER_TABLE_OBJECT};
use firmware_iface::command::object::*;
use firmware_iface::context::{Cqc, Eqc, Mkc};
use hw_regs::eqe::{Eqe, EventType};
use hw_regs::layout::{Access, Layout};

/// First UAR that is given out: the initialization segment and the interrupt table lie below (`mlx5-numbers.md`).
pub(crate) const FIRST_UAR: u32 = 16;
/// The reserved lkey: all of device-visible memory, for work queues with `rlky`.
pub(crate) const RESERVED_LKEY: u32 = 0x0200;

/// Queue counters (`mlx5-bringup.md` §8.3): what a set counts here.
#[derive(Default)]
pub(crate) struct QueueCounters {
    pub(crate) out_of_buffer: u32,
}

/// All objects of the function.
pub(crate) struct Objects {
    pub(crate) uars: Table<()>,
    pub(crate) pds: Table<()>,
    pub(crate) transport_domains: Table<()>,
    pub(crate) q_counters: Table<QueueCounters>,
    pub(crate) completions: Completions,
    pub(crate) mkeys: Mkeys,
    pub(crate) umems: Table<Umem>,
    pub(crate) tiss: Table<Tis>,
    pub(crate) sqs: Table<Sq>,
    pub(crate) rqs: Table<Rq>,
    pub(crate) rqts: Table<Rqt>,
    pub(crate) tirs: Table<Tir>,
    pub(crate) flows: FlowTables,
    pub(crate) offload: Offload,
}

impl Objects {
    /// No objects, and as many as the capabilities allow. Each kind has its own range of numbers.
    pub(crate) fn new(config: &Config) -> Objects {
        let caps = config.capabilities.maximum::<CmdHcaCap>();
        let most = |log: u32| 1u32 << log.min(23);
        let flow = config.capabilities.maximum::<FlowTableNicCap>();
        let flow: FlowTablePropLayout = flow.nested(FlowTableNicCap::FLOW_TABLE_PROPERTIES_NIC_RECEIVE);
        let offload = config.capabilities.maximum::<NvmeotcpCap>();
        Objects {
            uars: Table::new(FIRST_UAR, (config.bar_size / 4096).saturating_sub(u64::from(FIRST_UAR)) as u32),
            pds: Table::new(1, most(caps.get(CmdHcaCap::LOG_MAX_PD))),
            transport_domains: Table::new(0x100, most(caps.get(CmdHcaCap::LOG_MAX_TRANSPORT_DOMAIN))),
            q_counters: Table::new(1, 255),
            completions: Completions::new(
                Table::new(0x400, most(caps.get(CmdHcaCap::LOG_MAX_CQ))),
                // The number must fit the 8 bits of the doorbell.
                EventQueues { table: Table::new(0x10, most(caps.get(CmdHcaCap::LOG_MAX_EQ)).min(0xf0)) },
            ),
            mkeys: Mkeys::new(MkeyLimits {
                keys: most(caps.get(CmdHcaCap::LOG_MAX_MKEY)),
                klms: 1 << caps.get(CmdHcaCap::LOG_MAX_KLM_LIST_SIZE).min(24),
                ..MkeyLimits::default()
            }),
            umems: Table::new(0x800, most(caps.get(CmdHcaCap::LOG_MAX_UMEM))),
            tiss: Table::new(0x1000, most(caps.get(CmdHcaCap::LOG_MAX_TIS))),
            sqs: Table::new(0x1_0000, most(caps.get(CmdHcaCap::LOG_MAX_SQ))),
            rqs: Table::new(0x3_0000, most(caps.get(CmdHcaCap::LOG_MAX_RQ))),
            rqts: Table::new(0x2000, most(caps.get(CmdHcaCap::LOG_MAX_RQT))),
            tirs: Table::new(0x5_0000, most(caps.get(CmdHcaCap::LOG_MAX_TIR))),
            flows: FlowTables::new(FlowLimits {
                max_level: flow.get(FlowTablePropLayout::MAX_FT_LEVEL),
                log_max_size: flow.get(FlowTablePropLayout::LOG_MAX_FT_SIZE),
                tables: most(flow.get(FlowTablePropLayout::LOG_MAX_FT_NUM)),
            }),
            offload: Offload::new(
                TagLimits {
                    tables: most(offload.get(NvmeotcpCap::LOG_MAX_NVMEOTCP_TAG_BUFFER_TABLE)),
                    log_entries: offload.get(NvmeotcpCap::LOG_MAX_NVMEOTCP_TAG_BUFFER_SIZE),
                },
                config.switches.which_run,
                config.switches.offload,
            ),
        }
    }

    /// How many there are of each kind.
    pub(crate) fn counts(&self) -> Counts {
        let flows = self.flows.counts();
        Counts {
            uars: self.uars.len() as u64,
            pds: self.pds.len() as u64,
            transport_domains: self.transport_domains.len() as u64,
            q_counters: self.q_counters.len() as u64,
            eqs: self.completions.eqs.table.len() as u64,
            cqs: self.completions.cqs.len() as u64,
            mkeys: self.mkeys.len() as u64,
            tiss: self.tiss.len() as u64,
            sqs: self.sqs.len() as u64,
            rqs: self.rqs.len() as u64,
            rqts: self.rqts.len() as u64,
            tirs: self.tirs.len() as u64,
            umems: self.umems.len() as u64,
            tag_buffer_tables: self.offload.tables() as u64,
            flow_tables: flows.tables as u64,
            flow_groups: flows.groups as u64,
            flow_rules: flows.entries as u64,
        }
    }
}

/// The refusal of a removal.
pub(super) fn removed<T>(removal: Result<T, Kept>, missing: Reject, in_use: Reject) -> Result<T, Reject> {
    removal.map_err(|kept| match kept {
        Kept::Missing => missing,
        Kept::InUse => in_use,
    })
}

/// ALLOC and DEALLOC of objects that are nothing but a number.
macro_rules! numbered {
    ($alloc:ident, $dealloc:ident, $table:ident, $out:ident.$out_field:ident, $in:ident.$in_field:ident,
     $unknown:ident, $in_use:ident, $none_left:ident) => {
        pub(super) fn $alloc(&mut self) -> Outcome {
            self.room_for_object()?;
            let number = self.objects.$table.insert(Default::default()).ok_or(refusal::$none_left)?;
            self.ask_for_pages_if_short();
            Ok(Reply::of(&$out::zeroed().with($out::$out_field, number)))
        }

        pub(super) fn $dealloc(&mut self, command: &Command<'_>) -> Outcome {
            let number = command.view::<$in>().get($in::$in_field);
            removed(self.objects.$table.remove(number), refusal::$unknown, refusal::$in_use)?;
            Ok(Reply::ok())
        }
    };
}

impl VirtualNic {
    /// Objects held.
    pub(crate) fn object_count(&self) -> u64 {
        self.objects.counts().total()
    }

    /// What the device holds.
    pub fn inventory(&self) -> Inventory {
        Inventory {
            held: self.objects.counts(),
            abandoned: self.abandoned.clone(),
            pages: self.firmware.pages.held().len() as u64,
            bound_tags: self.objects.mkeys.bound() as u64,
        }
    }

    /// Forgets all objects and remembers that they were there.
    pub(super) fn abandon_objects(&mut self) {
        self.abandoned.add(&self.objects.counts());
        self.objects = Objects::new(&self.config);
    }

    pub(crate) fn reserved_lkey(&self) -> u32 {
        RESERVED_LKEY
    }

    /// The current GENERAL capabilities.
    pub(super) fn caps(&self) -> CmdHcaCap {
        self.firmware.capabilities.current()
    }

    numbered!(alloc_uar, dealloc_uar, uars, AllocUarOut.UAR, DeallocUarIn.UAR, UAR_UNKNOWN, UAR_IN_USE, UAR_NONE_LEFT);
    numbered!(alloc_pd, dealloc_unused_pd, pds, AllocPdOut.PD, DeallocPdIn.PD, PD_UNKNOWN, PD_IN_USE, PD_NONE_LEFT);
    numbered!(
        alloc_transport_domain,
        dealloc_transport_domain,
        transport_domains,
        AllocTransportDomainOut.TRANSPORT_DOMAIN,
        DeallocTransportDomainIn.TRANSPORT_DOMAIN,
        TD_UNKNOWN,
        TD_IN_USE,
        TD_NONE_LEFT
    );
    numbered!(
        alloc_q_counter,
        dealloc_q_counter,
        q_counters,
        AllocQCounterOut.COUNTER_SET_ID,
        DeallocQCounterIn.COUNTER_SET_ID,
        Q_COUNTER_UNKNOWN,
        Q_COUNTER_IN_USE,
        Q_COUNTER_NONE_LEFT
    );

    pub(super) fn dealloc_pd(&mut self, command: &Command<'_>) -> Outcome {
        if self.objects.mkeys.uses_pd(command.view::<DeallocPdIn>().get(DeallocPdIn::PD)) {
            return Err(refusal::PD_IN_USE);
        }
        self.dealloc_unused_pd(command)
    }

    pub(super) fn query_q_counter(&mut self, command: &Command<'_>) -> Outcome {
        let input = command.view::<QueryQCounterIn>();
        let set = self.objects.q_counters.get_mut(input.get(QueryQCounterIn::COUNTER_SET_ID));
        let set = set.ok_or(refusal::Q_COUNTER_UNKNOWN)?;
        let output = QueryQCounterOut::zeroed().with(QueryQCounterOut::OUT_OF_BUFFER, set.out_of_buffer);
        if input.is_set(QueryQCounterIn::CLEAR) {
            *set = QueueCounters::default();
        }
        Ok(Reply::of(&output))
    }

    pub(super) fn create_eq(&mut self, command: &Command<'_>) -> Outcome {
        let input = command.view::<CreateEqIn>();
        let context: Eqc = input.nested(CreateEqIn::EQ_CONTEXT_ENTRY);
        let (log_size, uar) = (context.get(Eqc::LOG_EQ_SIZE), context.get(Eqc::UAR_PAGE));
        let vector = context.get(Eqc::INTR) as u16;
        if log_size > self.caps().get(CmdHcaCap::LOG_MAX_EQ_SZ).min(22) {
            return Err(refusal::RING_SIZE);
        }
        if context.get(Eqc::PAGE_OFFSET) != 0 {
            return Err(refusal::RING_OFFSET);
        }
        if !self.objects.uars.contains(uar) {
            return Err(refusal::UAR_UNKNOWN);
        }
        if vector >= self.config.vectors {
            return Err(refusal::EQ_VECTOR);
        }
        let bytes = (Eqe::SIZE as u64) << log_size;
        let ring = command.ring(CreateEqIn::PAS, bytes, context.get(Eqc::LOG_PAGE_SIZE))?;
        self.room_for_object()?;
        let mut subscribed = [0; 4];
        for (word, bits) in subscribed.iter_mut().enumerate() {
            *bits = input.get_at(CreateEqIn::EVENT_BITMASK, word);
        }
        let eq = Eq { context, ring, log_size, vector, subscribed, producer: 0, consumer: 0, armed: false };
        let number = self.objects.completions.eqs.table.insert(eq).ok_or(refusal::EQ_NONE_LEFT)?;
        self.objects.uars.hold(uar);
        self.ask_for_pages_if_short();
        Ok(Reply::of(&CreateEqOut::zeroed().with(CreateEqOut::EQ_NUMBER, number)))
    }

    pub(super) fn destroy_eq(&mut self, command: &Command<'_>) -> Outcome {
        let number = command.view::<DestroyEqIn>().get(DestroyEqIn::EQ_NUMBER);
        let removal = self.objects.completions.eqs.table.remove(number);
        let eq = removed(removal, refusal::EQ_UNKNOWN, refusal::EQ_IN_USE)?;
        self.objects.uars.release(eq.context.get(Eqc::UAR_PAGE));
        Ok(Reply::ok())
    }

    pub(super) fn query_eq(&mut self, command: &Command<'_>) -> Outcome {
        let number = command.view::<QueryEqIn>().get(QueryEqIn::EQ_NUMBER);
        let eq = self.objects.completions.eqs.table.get(number).ok_or(refusal::EQ_UNKNOWN)?;
        let mut output = QueryEqOut::zeroed().with_nested(QueryEqOut::EQ_CONTEXT_ENTRY, &eq.query());
        output.set_wide(QueryEqOut::EVENT_BITMASK, eq.subscribed[0]);
        Ok(Reply::of(&output))
    }

    /// True if a command EQ exists: answers are announced by events.
    pub(crate) fn command_events(&self) -> bool {
        self.objects.completions.eqs.subscriber(EventType::CMD).is_some()
    }

    pub(super) fn create_cq(&mut self, command: &Command<'_>) -> Outcome {
        let input = command.view::<CreateCqIn>();
        let context: Cqc = input.nested(CreateCqIn::CQ_CONTEXT);
        let (log_size, uar) = (context.get(Cqc::LOG_CQ_SIZE), context.get(Cqc::UAR_PAGE));
        let eqn = context.get(Cqc::C_EQN_OR_APU_ELEMENT);
        let caps = self.caps();
        let umems = Umems {
            ring: input.is_set(CreateCqIn::CQ_UMEM_VALID).then(|| input.get(CreateCqIn::CQ_UMEM_ID)),
            record: context.is_set(Cqc::DBR_UMEM_VALID).then(|| context.get(Cqc::DBR_UMEM_ID)),
        };
        let stride = match context.get(Cqc::CQE_SZ) {
            0 => CQE,
            2 if caps.is_set(CmdHcaCap::CQE_128_ALWAYS) => 2 * CQE,
            _ => return Err(refusal::CQE_SIZE),
        };
        let row = Row::of(&context, caps.is_set(CmdHcaCap::MINI_CQE_RESP_STRIDE_INDEX));
        let row = row.filter(|row| row.is_none() || caps.is_set(CmdHcaCap::CQE_COMPRESSION) && stride == CQE);
        let row = row.ok_or(refusal::CQE_COMPRESSION)?;
        if log_size > caps.get(CmdHcaCap::LOG_MAX_CQ_SZ).min(22) {
            return Err(refusal::RING_SIZE);
        }
        if context.get(Cqc::PAGE_OFFSET) != 0 {
            return Err(refusal::RING_OFFSET);
        }
        if !self.objects.uars.contains(uar) {
            return Err(refusal::UAR_UNKNOWN);
        }
        if !self.objects.completions.eqs.table.contains(eqn) {
            return Err(refusal::EQ_UNKNOWN);
        }
        let bytes = (stride as u64) << log_size;
        let in_umem = (input.get_wide(CreateCqIn::CQ_UMEM_OFFSET), bytes, Use::Write);
        let place = self.place(umems, context.get_wide(Cqc::DBR_ADDR), in_umem, || {
            command.ring(CreateCqIn::PAS, bytes, context.get(Cqc::LOG_PAGE_SIZE))
        })?;
        self.room_for_object()?;
        let cq = Cq::new(context, place, stride, row);
        let number = self.objects.completions.cqs.insert(cq).ok_or(refusal::CQ_NONE_LEFT)?;
        self.objects.uars.hold(uar);
        self.objects.completions.eqs.table.hold(eqn);
        self.hold_umems(umems);
        self.ask_for_pages_if_short();
        Ok(Reply::of(&CreateCqOut::zeroed().with(CreateCqOut::CQN, number)))
    }

    pub(super) fn destroy_cq(&mut self, command: &Command<'_>) -> Outcome {
        let number = command.view::<DestroyCqIn>().get(DestroyCqIn::CQN);
        let completions = &mut self.objects.completions;
        let cq = removed(completions.cqs.remove(number), refusal::CQ_UNKNOWN, refusal::CQ_IN_USE)?;
        completions.eqs.table.release(cq.eqn);
        self.objects.uars.release(cq.uar);
        self.release_umems(cq.umems);
        Ok(Reply::ok())
    }

    pub(super) fn query_cq(&mut self, command: &Command<'_>) -> Outcome {
        let number = command.view::<QueryCqIn>().get(QueryCqIn::CQN);
        let cq = self.objects.completions.cqs.get(number).ok_or(refusal::CQ_UNKNOWN)?;
        Ok(Reply::of(&QueryCqOut::zeroed().with_nested(QueryCqOut::CQ_CONTEXT, &cq.query())))
    }

    /// Moderation is stored and has no effect: events are raised at once.
    pub(super) fn modify_cq(&mut self, command: &Command<'_>) -> Outcome {
        const PERIOD: u32 = 1 << 0;
        const MAX_COUNT: u32 = 1 << 1;
        const OVERRUN_IGNORE: u32 = 1 << 2;
        const EQN: u32 = 1 << 3;
        const PERIOD_MODE: u32 = 1 << 4;
        let input = command.view::<ModifyCqIn>();
        let wanted: Cqc = input.nested(ModifyCqIn::CQ_CONTEXT);
        let fields = input.get(ModifyCqIn::MODIFY_FIELD_SELECT_RESIZE_FIELD_SELECT);
        if command.op_mod() != 0 {
            return Err(refusal::OP_MOD);
        }
        let completions = &mut self.objects.completions;
        let cq = completions.cqs.get_mut(input.get(ModifyCqIn::CQN)).ok_or(refusal::CQ_UNKNOWN)?;
        if fields & !(PERIOD | MAX_COUNT | OVERRUN_IGNORE | EQN | PERIOD_MODE) != 0 {
            return Err(refusal::CQ_MODIFY_FIELD);
        }
        if fields & EQN != 0 {
            let eqn = wanted.get(Cqc::C_EQN_OR_APU_ELEMENT);
            if !completions.eqs.table.contains(eqn) {
                return Err(refusal::EQ_UNKNOWN);
            }
            completions.eqs.table.release(cq.eqn);
            completions.eqs.table.hold(eqn);
            cq.eqn = eqn;
        }
        if fields & OVERRUN_IGNORE != 0 {
            cq.ignore_overrun = wanted.is_set(Cqc::OI);
        }
        for (bit, field) in
            [(PERIOD, Cqc::CQ_PERIOD), (MAX_COUNT, Cqc::CQ_MAX_COUNT), (PERIOD_MODE, Cqc::CQ_PERIOD_MODE)]
        {
            if fields & bit != 0 {
                cq.context.set(field, wanted.get(field));
            }
        }
        Ok(Reply::ok())
    }

    pub(super) fn create_mkey(&mut self, command: &Command<'_>) -> Outcome {
        let input = command.view::<CreateMkeyIn>();
        let context: Mkc = input.nested(CreateMkeyIn::MEMORY_KEY_MKEY_ENTRY);
        if !self.objects.pds.contains(context.get(Mkc::PD)) {
            return Err(refusal::PD_UNKNOWN);
        }
        self.room_for_object()?;
        let tail = command.bytes().get(CreateMkeyIn::SIZE..).unwrap_or_default();
        let index = self.objects.mkeys.create(&input, tail)?;
        self.ask_for_pages_if_short();
        Ok(Reply::of(&CreateMkeyOut::zeroed().with(CreateMkeyOut::MKEY_INDEX, index)))
    }

    pub(super) fn destroy_mkey(&mut self, command: &Command<'_>) -> Outcome {
        self.objects.mkeys.destroy(&command.view())?;
        Ok(Reply::ok())
    }

    pub(super) fn query_mkey(&mut self, command: &Command<'_>) -> Outcome {
        Ok(Reply::of(&self.objects.mkeys.query(&command.view())?))
    }

    /// The header fields of a general object command, checked.
    fn general_object(&self, command: &Command<'_>) -> Result<GeneralObjInCmdHdr, Reject> {
        let header = command.view::<GeneralObjInCmdHdr>();
        let kind = header.get(GeneralObjInCmdHdr::OBJ_TYPE);
        let known =
            kind == u32::from(TAG_BUFFER_TABLE_OBJECT) && self.caps().is_set(CmdHcaCap::GENERAL_OBJ_TYPES_BIT_0X21);
        if known { Ok(header) } else { Err(refusal::OBJECT_TYPE) }
    }

    pub(super) fn create_general_object(&mut self, command: &Command<'_>) -> Outcome {
        let header = self.general_object(command)?;
        let input = command.view::<CreateTagBufferTableIn>();
        let clear = header.get(GeneralObjInCmdHdr::OBJ_ID) == 0
            && header.get(GeneralObjInCmdHdr::VHCA_TUNNEL_ID) == 0
            && input.get_wide(CreateTagBufferTableIn::OBJ_MODIFY_FIELD_SELECT) == 0;
        if !clear {
            return Err(refusal::OBJECT_FIELDS);
        }
        self.room_for_object()?;
        let id = self.create_tag_buffer_table(&input)?;
        self.ask_for_pages_if_short();
        Ok(Reply::of(&GeneralObjOutCmdHdr::zeroed().with(GeneralObjOutCmdHdr::OBJ_ID, id)))
    }

    pub(super) fn destroy_general_object(&mut self, command: &Command<'_>) -> Outcome {
        let header = self.general_object(command)?;
        self.destroy_tag_buffer_table(header.get(GeneralObjInCmdHdr::OBJ_ID))?;
        Ok(Reply::ok())
    }

    /// The capabilities in force.
    pub fn capabilities(&self) -> &Capabilities {
        &self.firmware.capabilities
    }
}
