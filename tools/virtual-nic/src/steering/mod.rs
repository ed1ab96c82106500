//! Flow steering: tables, groups and entries as firmware commands make them, and where a packet goes
//! (`mlx5-bringup.md` §6).
//!
//! ```text
//!  root table (lowest level)                table of a higher level
//!  ┌ group: flow indices 0..=3, mask ┐      ┌ ... ┐
//!  │  entry: value → forward ────────┼────► │     │ ──► TIR(s), flow tag
//!  ├ group: flow indices 4..=4, {}   ┤      └ ... ┘
//!  │  entry: anything → drop         │
//!  └ no entry matches ───────────────┴────► miss: another table, or the end: drop
//! ```
//!
//! An entry matches if `(packet & mask of its group) == its value`. In a table the lowest flow index that matches wins.
//! Levels only go up (unless an entry says `ignore_flow_level`), so a packet's way ends; a limit on the number of tables
//! visited ends it in any case. The flow tag of the last entry on the way that has one is the packet's.

mod key;

use crate::packet::Packet;
use crate::reject::{Reject, Syndrome};
use firmware_iface::command::flow::{
    CreateFlowGroupIn, CreateFlowTableIn, DeleteFteIn, DestroyFlowGroupIn, DestroyFlowTableIn, ModifyFlowTableIn,
    QueryFlowGroupIn, QueryFlowGroupOut, QueryFlowTableIn, QueryFlowTableOut, QueryFteIn, QueryFteOut,
    SetFlowTableRootIn, SetFteIn,
};
use firmware_iface::steering::{
    DestFormat, FlowAction, FlowContext, FlowDestinationType, FlowTableContext, FlowTableType, FteMatchParam,
    MatchCriteria, MissAction,
};
use hw_regs::layout::{Access, Layout};
use std::collections::{BTreeMap, BTreeSet};

pub use key::MatchKey;

/// Tables that one packet may visit. More than there can be levels, so only `ignore_flow_level` reaches it.
const MAX_VISITS: u32 = 512;

/// Destinations of one entry.
const MAX_DESTINATIONS: u32 = 64;

/// What flow tables can be; the capabilities that the device advertises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowLimits {
    /// Levels are below this (`max_ft_level`).
    pub max_level: u32,
    /// log2 of the most entries of a table (`log_max_ft_size`).
    pub log_max_size: u32,
    /// Most tables (1 << `log_max_ft_num`).
    pub tables: u32,
}

impl Default for FlowLimits {
    fn default() -> FlowLimits {
        FlowLimits { max_level: 128, log_max_size: 22, tables: 1 << 16 }
    }
}

/// Where one copy of a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// TIR number.
    pub tirn: u32,
    /// Flow tag for the CQE, 0 for none.
    pub flow_tag: u32,
}

/// Why a packet goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// There is no root table.
    NoRoot,
    /// No entry matched and the last table's miss action is the default.
    NoMatch,
    /// An entry says so.
    Rule,
    /// The rules lead in circles.
    Loop,
}

/// How many objects there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounts {
    /// Flow tables.
    pub tables: usize,
    /// Flow groups.
    pub groups: usize,
    /// Flow table entries.
    pub entries: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Destination {
    Table(u32),
    Tir(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Leave this domain as it is: on receive there is nothing behind it, so the packet misses.
    Allow,
    Drop,
    Forward,
}

#[derive(Clone, Debug)]
struct Entry {
    group: u32,
    value: MatchKey,
    action: Action,
    flow_tag: u32,
    destinations: Vec<Destination>,
    /// As QUERY_FLOW_TABLE_ENTRY shows it.
    context: Box<FlowContext>,
    list: Box<[u8]>,
}

#[derive(Debug)]
struct Group {
    start: u32,
    end: u32,
    mask: MatchKey,
    /// Flow indices by value, lowest first.
    values: BTreeMap<MatchKey, BTreeSet<u32>>,
    /// As QUERY_FLOW_GROUP shows it.
    created: Box<CreateFlowGroupIn>,
}

#[derive(Debug)]
struct Table {
    kind: FlowTableType,
    level: u32,
    log_size: u32,
    miss: Option<u32>,
    groups: BTreeMap<u32, Group>,
    /// Group ids in the order of their flow indices: the first that matches has the lowest index.
    order: Vec<u32>,
    entries: BTreeMap<u32, Entry>,
    /// Entries and miss actions of other tables that lead here.
    references: u32,
}

/// Flow tables of a function.
#[derive(Debug)]
pub struct FlowTables {
    limits: FlowLimits,
    tables: BTreeMap<u32, Table>,
    next_table: u32,
    next_group: u32,
    roots: BTreeMap<u8, u32>,
    /// Entries that lead to each TIR.
    tirs: BTreeMap<u32, u32>,
}

/// `other_vport`, `other_eswitch` and `table_type` lie at the same place in every flow command.
macro_rules! own_table_type {
    ($input:expr, $command:ident) => {{
        if $input.is_set($command::OTHER_VPORT) || $input.is_set($command::OTHER_ESWITCH) {
            return Err(Syndrome::FLOW_OTHER_VPORT.into());
        }
        match FlowTableType($input.get($command::TABLE_TYPE) as u8) {
            kind @ (FlowTableType::NIC_RX | FlowTableType::NIC_TX) => kind,
            _ => return Err(Syndrome::FLOW_TABLE_TYPE.into()),
        }
    }};
}

impl FlowTables {
    /// No tables: every packet is dropped.
    pub fn new(limits: FlowLimits) -> FlowTables {
        FlowTables {
            limits,
            tables: BTreeMap::new(),
            next_table: 1,
            next_group: 1,
            roots: BTreeMap::new(),
            tirs: BTreeMap::new(),
        }
    }

    /// How many objects there are.
    pub fn counts(&self) -> FlowCounts {
        FlowCounts {
            tables: self.tables.len(),
            groups: self.tables.values().map(|t| t.groups.len()).sum(),
            entries: self.tables.values().map(|t| t.entries.len()).sum(),
        }
    }

    /// True if an entry leads to the TIR: it cannot be destroyed.
    pub fn tir_in_use(&self, tirn: u32) -> bool {
        self.tirs.contains_key(&tirn)
    }

    fn table(&self, id: u32, kind: FlowTableType) -> Result<&Table, Reject> {
        self.tables.get(&id).filter(|t| t.kind == kind).ok_or(Syndrome::FLOW_TABLE_UNKNOWN.into())
    }

    fn table_mut(&mut self, id: u32, kind: FlowTableType) -> Result<&mut Table, Reject> {
        self.tables.get_mut(&id).filter(|t| t.kind == kind).ok_or(Syndrome::FLOW_TABLE_UNKNOWN.into())
    }

    /// The miss table that a context asks for, checked against the table's own level.
    fn miss_of(&self, context: &FlowTableContext, kind: FlowTableType, level: u32) -> Result<Option<u32>, Reject> {
        match MissAction(context.get(FlowTableContext::TABLE_MISS_ACTION) as u8) {
            MissAction::DEF => Ok(None),
            MissAction::FWD => {
                let id = context.get(FlowTableContext::TABLE_MISS_ID);
                if self.table(id, kind)?.level <= level {
                    return Err(Syndrome::FLOW_TABLE_MISS_LEVEL.into());
                }
                Ok(Some(id))
            }
            _ => Err(Syndrome::FLOW_TABLE_MISS_ACTION.into()),
        }
    }

    fn refer(&mut self, destination: Destination, by: i32) {
        match destination {
            Destination::Table(id) => {
                if let Some(table) = self.tables.get_mut(&id) {
                    table.references = table.references.saturating_add_signed(by);
                }
            }
            Destination::Tir(tirn) => {
                let count = self.tirs.entry(tirn).or_default();
                *count = count.saturating_add_signed(by);
                if *count == 0 {
                    self.tirs.remove(&tirn);
                }
            }
        }
    }

    /// CREATE_FLOW_TABLE. Returns the table id.
    pub fn create_table(&mut self, input: &CreateFlowTableIn) -> Result<u32, Reject> {
        let kind = own_table_type!(input, CreateFlowTableIn);
        let context: FlowTableContext = input.nested(CreateFlowTableIn::FLOW_TABLE_CONTEXT);
        let flags = [
            FlowTableContext::REFORMAT_EN,
            FlowTableContext::DECAP_EN,
            FlowTableContext::SW_OWNER,
            FlowTableContext::TERMINATION_TABLE,
        ];
        if flags.into_iter().any(|flag| context.is_set(flag)) {
            return Err(Syndrome::FLOW_TABLE_FLAGS.into());
        }
        let (level, log_size) = (context.get(FlowTableContext::LEVEL), context.get(FlowTableContext::LOG_SIZE));
        if level >= self.limits.max_level {
            return Err(Syndrome::FLOW_TABLE_LEVEL.into());
        }
        if log_size > self.limits.log_max_size.min(31) {
            return Err(Syndrome::FLOW_TABLE_SIZE.into());
        }
        if self.tables.len() as u32 >= self.limits.tables {
            return Err(Syndrome::FLOW_TABLE_NONE_LEFT.into());
        }
        let miss = self.miss_of(&context, kind, level)?;
        let id = fresh_id(&mut self.next_table, |id| self.tables.contains_key(&id));
        let table = Table {
            kind,
            level,
            log_size,
            miss,
            groups: BTreeMap::new(),
            order: Vec::new(),
            entries: BTreeMap::new(),
            references: 0,
        };
        self.tables.insert(id, table);
        miss.into_iter().for_each(|miss| self.refer(Destination::Table(miss), 1));
        Ok(id)
    }

    /// MODIFY_FLOW_TABLE: only the miss action can change (`modify_field_select` bit 0).
    pub fn modify_table(&mut self, input: &ModifyFlowTableIn) -> Result<(), Reject> {
        let kind = own_table_type!(input, ModifyFlowTableIn);
        let id = input.get(ModifyFlowTableIn::TABLE_ID);
        let (level, old) = self.table(id, kind).map(|t| (t.level, t.miss))?;
        if input.get(ModifyFlowTableIn::MODIFY_FIELD_SELECT) & !1 != 0 {
            return Err(Syndrome::FLOW_TABLE_MODIFY_FIELD.into());
        }
        if input.get(ModifyFlowTableIn::MODIFY_FIELD_SELECT) == 0 {
            return Ok(());
        }
        let context = input.nested(ModifyFlowTableIn::FLOW_TABLE_CONTEXT);
        let new = self.miss_of(&context, kind, level)?;
        self.table_mut(id, kind)?.miss = new;
        old.into_iter().for_each(|miss| self.refer(Destination::Table(miss), -1));
        new.into_iter().for_each(|miss| self.refer(Destination::Table(miss), 1));
        Ok(())
    }

    /// QUERY_FLOW_TABLE.
    pub fn query_table(&self, input: &QueryFlowTableIn) -> Result<QueryFlowTableOut, Reject> {
        let kind = FlowTableType(input.get(QueryFlowTableIn::TABLE_TYPE) as u8);
        let table = self.table(input.get(QueryFlowTableIn::TABLE_ID), kind)?;
        let action = if table.miss.is_some() { MissAction::FWD } else { MissAction::DEF };
        let context = FlowTableContext::zeroed()
            .with(FlowTableContext::LEVEL, table.level)
            .with(FlowTableContext::LOG_SIZE, table.log_size)
            .with(FlowTableContext::TABLE_MISS_ACTION, u32::from(action.0))
            .with(FlowTableContext::TABLE_MISS_ID, table.miss.unwrap_or_default());
        Ok(QueryFlowTableOut::zeroed().with_nested(QueryFlowTableOut::FLOW_TABLE_CONTEXT, &context))
    }

    /// QUERY_FLOW_GROUP.
    pub fn query_group(&self, input: &QueryFlowGroupIn) -> Result<QueryFlowGroupOut, Reject> {
        let kind = FlowTableType(input.get(QueryFlowGroupIn::TABLE_TYPE) as u8);
        let table = self.table(input.get(QueryFlowGroupIn::TABLE_ID), kind)?;
        let group = table.groups.get(&input.get(QueryFlowGroupIn::GROUP_ID)).ok_or(Syndrome::FLOW_GROUP_UNKNOWN)?;
        let criteria = group.created.get(CreateFlowGroupIn::MATCH_CRITERIA_ENABLE);
        let mask = group.created.nested(CreateFlowGroupIn::MATCH_CRITERIA);
        Ok(QueryFlowGroupOut::zeroed()
            .with(QueryFlowGroupOut::START_FLOW_INDEX, group.start)
            .with(QueryFlowGroupOut::END_FLOW_INDEX, group.end)
            .with(QueryFlowGroupOut::MATCH_CRITERIA_ENABLE, criteria)
            .with_nested(QueryFlowGroupOut::MATCH_CRITERIA, &mask))
    }

    /// QUERY_FLOW_TABLE_ENTRY: the fixed part, and the destination list behind it.
    pub fn query_fte(&self, input: &QueryFteIn) -> Result<(QueryFteOut, &[u8]), Reject> {
        let kind = FlowTableType(input.get(QueryFteIn::TABLE_TYPE) as u8);
        let table = self.table(input.get(QueryFteIn::TABLE_ID), kind)?;
        let entry = table.entries.get(&input.get(QueryFteIn::FLOW_INDEX)).ok_or(Syndrome::FTE_UNKNOWN)?;
        Ok((QueryFteOut::zeroed().with_nested(QueryFteOut::FLOW_CONTEXT, &entry.context), &entry.list))
    }

    /// DESTROY_FLOW_TABLE. Refused while it has groups or anything leads to it; if it is the root, there is none
    /// afterwards.
    pub fn destroy_table(&mut self, input: &DestroyFlowTableIn) -> Result<(), Reject> {
        let kind = own_table_type!(input, DestroyFlowTableIn);
        let id = input.get(DestroyFlowTableIn::TABLE_ID);
        let table = self.table(id, kind)?;
        if !table.groups.is_empty() {
            return Err(Syndrome::FLOW_TABLE_HAS_GROUPS.into());
        }
        if table.references > 0 {
            return Err(Syndrome::FLOW_TABLE_IS_DESTINATION.into());
        }
        let miss = table.miss;
        self.tables.remove(&id);
        self.roots.retain(|_, root| *root != id);
        miss.into_iter().for_each(|miss| self.refer(Destination::Table(miss), -1));
        Ok(())
    }

    /// CREATE_FLOW_GROUP. Returns the group id.
    pub fn create_group(&mut self, input: &CreateFlowGroupIn) -> Result<u32, Reject> {
        let kind = own_table_type!(input, CreateFlowGroupIn);
        let table_id = input.get(CreateFlowGroupIn::TABLE_ID);
        let table = self.table(table_id, kind)?;
        if input.get(CreateFlowGroupIn::GROUP_TYPE) != 0 {
            return Err(Syndrome::FLOW_GROUP_TYPE.into());
        }
        let start = input.get(CreateFlowGroupIn::START_FLOW_INDEX);
        let end = input.get(CreateFlowGroupIn::END_FLOW_INDEX);
        if start > end || end >= 1 << table.log_size {
            return Err(Syndrome::FLOW_GROUP_RANGE.into());
        }
        if table.groups.values().any(|g| g.start <= end && start <= g.end) {
            return Err(Syndrome::FLOW_GROUP_OVERLAP.into());
        }
        let criteria = input.get(CreateFlowGroupIn::MATCH_CRITERIA_ENABLE) as u8;
        if criteria & !MatchCriteria::OUTER_HEADERS.0 != 0 {
            return Err(Syndrome::FLOW_GROUP_CRITERIA.into());
        }
        let mask = match criteria {
            // Without a criterion the group matches everything, whatever the mask says.
            0 => MatchKey::default(),
            _ => outer(&input.nested(CreateFlowGroupIn::MATCH_CRITERIA)),
        };
        if !mask.is_within(&MatchKey::matchable()) {
            return Err(Syndrome::FLOW_GROUP_FIELD.into());
        }
        let id = fresh_id(&mut self.next_group, |id| self.tables.values().any(|t| t.groups.contains_key(&id)));
        let table = self.table_mut(table_id, kind)?;
        table.groups.insert(id, Group { start, end, mask, values: BTreeMap::new(), created: Box::new(*input) });
        table.order = table.groups.keys().copied().collect();
        table.order.sort_by_key(|id| table.groups[id].start);
        Ok(id)
    }

    /// DESTROY_FLOW_GROUP. Refused while it has entries.
    pub fn destroy_group(&mut self, input: &DestroyFlowGroupIn) -> Result<(), Reject> {
        let kind = own_table_type!(input, DestroyFlowGroupIn);
        let table = self.table_mut(input.get(DestroyFlowGroupIn::TABLE_ID), kind)?;
        let id = input.get(DestroyFlowGroupIn::GROUP_ID);
        let group = table.groups.get(&id).ok_or(Syndrome::FLOW_GROUP_UNKNOWN)?;
        if !group.values.is_empty() {
            return Err(Syndrome::FLOW_GROUP_HAS_ENTRIES.into());
        }
        table.groups.remove(&id);
        table.order.retain(|other| *other != id);
        Ok(())
    }

    /// SET_FLOW_TABLE_ENTRY: `tail` is what follows the 832 bytes of the input, the destination list; `tir_exists`
    /// tells whether a TIR number is valid. `op_mod` 0 creates, 1 changes what `modify_enable_mask` names (bit 0 action,
    /// 1 flow tag, 2 destinations).
    pub fn set_fte(&mut self, input: &SetFteIn, tail: &[u8], tir_exists: impl Fn(u32) -> bool) -> Result<(), Reject> {
        let kind = own_table_type!(input, SetFteIn);
        let id = input.get(SetFteIn::TABLE_ID);
        let index = input.get(SetFteIn::FLOW_INDEX);
        let context: FlowContext = input.nested(SetFteIn::FLOW_CONTEXT);
        let table = self.table(id, kind)?;
        let old = table.entries.get(&index);
        let modify = match input.get(SetFteIn::OP_MOD) {
            0 if old.is_some() => return Err(Syndrome::FTE_OCCUPIED.into()),
            0 => 0b111,
            1 => input.get(SetFteIn::MODIFY_ENABLE_MASK),
            _ => return Err(Syndrome::FTE_OP_MOD.into()),
        };
        if modify & !0b111 != 0 {
            return Err(Syndrome::FTE_MODIFY_MASK.into());
        }
        let group_id = context.get(FlowContext::GROUP_ID);
        let mut entry = match (old, input.get(SetFteIn::OP_MOD)) {
            (Some(old), _) => old.clone(),
            (None, 0) => {
                let group = table.groups.get(&group_id).ok_or(Syndrome::FLOW_GROUP_UNKNOWN)?;
                if index < group.start || index > group.end {
                    return Err(Syndrome::FTE_INDEX.into());
                }
                let value = match group.mask == MatchKey::default() {
                    true => MatchKey::default(),
                    false => outer(&context.nested(FlowContext::MATCH_VALUE)),
                };
                if !value.is_within(&group.mask) {
                    return Err(Syndrome::FTE_VALUE_OUTSIDE_MASK.into());
                }
                let (context, list) = (Box::new(context), Box::default());
                Entry {
                    group: group_id,
                    value,
                    action: Action::Drop,
                    flow_tag: 0,
                    destinations: Vec::new(),
                    context,
                    list,
                }
            }
            (None, _) => return Err(Syndrome::FTE_UNKNOWN.into()),
        };
        if modify & 0b001 != 0 {
            entry.action = match FlowAction(context.get(FlowContext::ACTION)) {
                FlowAction::ALLOW => Action::Allow,
                FlowAction::DROP => Action::Drop,
                FlowAction::FWD_DEST => Action::Forward,
                _ => return Err(Syndrome::FTE_ACTION.into()),
            };
            entry.context.set(FlowContext::ACTION, context.get(FlowContext::ACTION));
        }
        if modify & 0b010 != 0 {
            entry.flow_tag = context.get(FlowContext::FLOW_TAG);
            entry.context.set(FlowContext::FLOW_TAG, entry.flow_tag);
        }
        if context.get(FlowContext::FLOW_COUNTER_LIST_SIZE) != 0 {
            return Err(Syndrome::FTE_COUNTERS.into());
        }
        if modify & 0b100 != 0 {
            let any_level = input.is_set(SetFteIn::IGNORE_FLOW_LEVEL);
            let level = (!any_level).then_some(table.level);
            entry.destinations = self.destinations(&context, tail, kind, level, tir_exists)?;
            entry.context.set(FlowContext::DESTINATION_LIST_SIZE, entry.destinations.len() as u32);
            entry.list = tail[..entry.destinations.len() * DestFormat::SIZE].into();
        }
        if (entry.action == Action::Forward) == entry.destinations.is_empty() {
            return Err(Syndrome::FTE_DESTINATIONS.into());
        }
        let (added, value, group) = (entry.destinations.clone(), entry.value, entry.group);
        let table = self.table_mut(id, kind)?;
        let replaced = table.entries.insert(index, entry);
        if replaced.is_none()
            && let Some(group) = table.groups.get_mut(&group)
        {
            group.values.entry(value).or_default().insert(index);
        }
        added.into_iter().for_each(|destination| self.refer(destination, 1));
        replaced.into_iter().flat_map(|e| e.destinations).for_each(|destination| self.refer(destination, -1));
        Ok(())
    }

    /// The destination list of an entry in a table of `level`; `None` for any level.
    fn destinations(
        &self,
        context: &FlowContext,
        tail: &[u8],
        kind: FlowTableType,
        level: Option<u32>,
        tir_exists: impl Fn(u32) -> bool,
    ) -> Result<Vec<Destination>, Reject> {
        let count = context.get(FlowContext::DESTINATION_LIST_SIZE);
        if count > MAX_DESTINATIONS {
            return Err(Syndrome::FTE_DESTINATIONS.into());
        }
        let list = tail.get(..count as usize * DestFormat::SIZE).ok_or(Syndrome::FTE_LIST_CUT_SHORT)?;
        list.chunks_exact(DestFormat::SIZE)
            .map(|bytes| {
                let destination = DestFormat::from_prefix(bytes);
                let id = destination.get(DestFormat::DESTINATION_ID);
                match FlowDestinationType(destination.get(DestFormat::DESTINATION_TYPE) as u8) {
                    FlowDestinationType::FLOW_TABLE => {
                        let target = self.table(id, kind).map_err(|_| Syndrome::FTE_DESTINATION_TABLE)?;
                        if level.is_some_and(|level| target.level <= level) {
                            return Err(Syndrome::FTE_DESTINATION_LEVEL.into());
                        }
                        Ok(Destination::Table(id))
                    }
                    FlowDestinationType::TIR if !tir_exists(id) => Err(Syndrome::FTE_DESTINATION_TIR.into()),
                    FlowDestinationType::TIR => Ok(Destination::Tir(id)),
                    _ => Err(Syndrome::FTE_DESTINATION_TYPE.into()),
                }
            })
            .collect()
    }

    /// DELETE_FLOW_TABLE_ENTRY.
    pub fn delete_fte(&mut self, input: &DeleteFteIn) -> Result<(), Reject> {
        let kind = own_table_type!(input, DeleteFteIn);
        let index = input.get(DeleteFteIn::FLOW_INDEX);
        let table = self.table_mut(input.get(DeleteFteIn::TABLE_ID), kind)?;
        let entry = table.entries.remove(&index).ok_or(Syndrome::FTE_UNKNOWN)?;
        if let Some(group) = table.groups.get_mut(&entry.group)
            && let Some(indices) = group.values.get_mut(&entry.value)
        {
            indices.remove(&index);
            if indices.is_empty() {
                group.values.remove(&entry.value);
            }
        }
        entry.destinations.into_iter().for_each(|destination| self.refer(destination, -1));
        Ok(())
    }

    /// SET_FLOW_TABLE_ROOT: `op_mod` 0 makes the table the root of its type, 1 leaves the type without one.
    pub fn set_root(&mut self, input: &SetFlowTableRootIn) -> Result<(), Reject> {
        let kind = own_table_type!(input, SetFlowTableRootIn);
        match input.get(SetFlowTableRootIn::OP_MOD) {
            0 => {
                let id = input.get(SetFlowTableRootIn::TABLE_ID);
                self.table(id, kind)?;
                self.roots.insert(kind.0, id);
                Ok(())
            }
            1 => {
                self.roots.remove(&kind.0);
                Ok(())
            }
            _ => Err(Syndrome::FLOW_ROOT_OP_MOD.into()),
        }
    }

    /// Where a received packet goes: `out` is emptied, then holds every TIR that gets a copy, in the order of the
    /// destinations. With an error it is empty.
    pub fn classify(&self, packet: &Packet<'_>, out: &mut Vec<Delivery>) -> Result<(), DropReason> {
        out.clear();
        let root = *self.roots.get(&FlowTableType::NIC_RX.0).ok_or(DropReason::NoRoot)?;
        let key = MatchKey::from_packet(packet);
        let mut visits = MAX_VISITS;
        let end = self.follow(root, &key, 0, &mut visits, out);
        // A packet that some destination took was not dropped, whatever became of its other copies.
        if out.is_empty() { end } else { Ok(()) }
    }

    fn follow(
        &self,
        table: u32,
        key: &MatchKey,
        mut flow_tag: u32,
        visits: &mut u32,
        out: &mut Vec<Delivery>,
    ) -> Result<(), DropReason> {
        let mut id = table;
        loop {
            *visits = visits.checked_sub(1).ok_or(DropReason::Loop)?;
            let table = self.tables.get(&id).ok_or(DropReason::NoMatch)?;
            let hit = table.order.iter().find_map(|group| {
                let group = table.groups.get(group)?;
                group.values.get(&key.masked(&group.mask))?.first()
            });
            let Some(entry) = hit.and_then(|index| table.entries.get(index)) else {
                id = table.miss.ok_or(DropReason::NoMatch)?;
                continue;
            };
            if entry.flow_tag != 0 {
                flow_tag = entry.flow_tag;
            }
            match (entry.action, &entry.destinations[..]) {
                (Action::Drop, _) => return Err(DropReason::Rule),
                (Action::Allow, _) => id = table.miss.ok_or(DropReason::NoMatch)?,
                // The common way, without recursion.
                (Action::Forward, [Destination::Table(next)]) => id = *next,
                (Action::Forward, destinations) => {
                    let mut end = Err(DropReason::NoMatch);
                    for destination in destinations {
                        match destination {
                            Destination::Tir(tirn) => {
                                out.push(Delivery { tirn: *tirn, flow_tag });
                                end = Ok(());
                            }
                            Destination::Table(next) => end = self.follow(*next, key, flow_tag, visits, out).or(end),
                        }
                    }
                    return end;
                }
            }
        }
    }
}

/// The outer headers of match parameters.
fn outer(param: &FteMatchParam) -> MatchKey {
    MatchKey::from_fields(&param.nested(FteMatchParam::OUTER_HEADERS))
}

/// A 24-bit id that is not in use, not 0, and not one of the last ones given out.
fn fresh_id(next: &mut u32, in_use: impl Fn(u32) -> bool) -> u32 {
    loop {
        let id = *next;
        *next = if id >= 0xff_ffff { 1 } else { id + 1 };
        if !in_use(id) {
            return id;
        }
    }
}

#[cfg(test)]
mod tests;
