//! | property | test |
//! |---|---|
//! | the smallest useful setup: one table, one group without criteria, one entry | `one_entry_takes_everything` |
//! | without a root, a match, or with a drop rule the packet goes nowhere, and why is told | `each_way_to_drop_has_its_reason` |
//! | a five-tuple rule takes exactly its flow, IPv4 and IPv6 | `a_five_tuple_takes_exactly_its_flow` |
//! | the lowest flow index wins, across and inside groups | `the_lowest_index_wins` |
//! | any set of rules classifies like a search by index, one after the other | `classification_is_a_search_by_index` |
//! | levels: forward, miss chain, several destinations, flow tag of the last rule that has one | `a_packet_follows_levels_misses_and_copies` |
//! | levels only go up, unless an entry says otherwise; then circles end | `circles_end_as_drops` |
//! | tables, groups and TIRs in use cannot be destroyed; destroying in order leaves nothing | `what_is_in_use_stays` |
//! | every refusal has its own syndrome and changes nothing | `each_refusal_has_its_syndrome` |
//! | an entry changes in place | `an_entry_is_modified_in_place` |
//! | VLAN, MAC, protocol, flags and fragments are matched | `header_fields_are_matched` |
use super::*;
use crate::packet::build::Build;
use crate::packet::{PROTOCOL_TCP, PROTOCOL_UDP, tcp_flag};
use firmware_iface::steering::FteMatchSetLyr24 as Fields;
use proptest::prelude::*;

struct Tables(FlowTables);

type Outcome = Result<(), Syndrome>;

fn context(level: u32, log_size: u32, miss: Option<u32>) -> FlowTableContext {
    FlowTableContext::zeroed()
        .with(FlowTableContext::LEVEL, level)
        .with(FlowTableContext::LOG_SIZE, log_size)
        .with(FlowTableContext::TABLE_MISS_ACTION, miss.is_some().into())
        .with(FlowTableContext::TABLE_MISS_ID, miss.unwrap_or(0))
}

/// TIRs 1 to 99 exist.
fn tir_exists(tirn: u32) -> bool {
    (1..100).contains(&tirn)
}

impl Tables {
    fn new() -> Tables {
        Tables(FlowTables::new(FlowLimits { max_level: 64, log_max_size: 20, tables: 100 }))
    }

    fn try_table(&mut self, context: FlowTableContext) -> Result<u32, Syndrome> {
        let input = CreateFlowTableIn::zeroed().with_nested(CreateFlowTableIn::FLOW_TABLE_CONTEXT, &context);
        self.0.create_table(&input).map_err(|r| r.syndrome)
    }

    fn table(&mut self, level: u32, miss: Option<u32>) -> u32 {
        self.try_table(context(level, 6, miss)).unwrap()
    }

    fn try_group(&mut self, table: u32, range: (u32, u32), mask: Option<Fields>) -> Result<u32, Syndrome> {
        let mut input = CreateFlowGroupIn::zeroed()
            .with(CreateFlowGroupIn::TABLE_ID, table)
            .with(CreateFlowGroupIn::START_FLOW_INDEX, range.0)
            .with(CreateFlowGroupIn::END_FLOW_INDEX, range.1)
            .with(CreateFlowGroupIn::MATCH_CRITERIA_ENABLE, mask.is_some().into());
        let param = FteMatchParam::zeroed().with_nested(FteMatchParam::OUTER_HEADERS, &mask.unwrap_or_default());
        input.set_nested(CreateFlowGroupIn::MATCH_CRITERIA, &param);
        self.0.create_group(&input).map_err(|r| r.syndrome)
    }

    fn group(&mut self, table: u32, range: (u32, u32), mask: Option<Fields>) -> u32 {
        self.try_group(table, range, mask).unwrap()
    }

    fn try_rule(&mut self, rule: &Rule) -> Outcome {
        let (input, tail) = rule.input();
        self.0.set_fte(&input, &tail, tir_exists).map_err(|r| r.syndrome)
    }

    fn rule(&mut self, rule: Rule) {
        self.try_rule(&rule).unwrap();
    }

    fn delete(&mut self, table: u32, index: u32) -> Outcome {
        let input = DeleteFteIn::zeroed().with(DeleteFteIn::TABLE_ID, table).with(DeleteFteIn::FLOW_INDEX, index);
        self.0.delete_fte(&input).map_err(|r| r.syndrome)
    }

    fn destroy_group(&mut self, table: u32, group: u32) -> Outcome {
        let input = DestroyFlowGroupIn::zeroed()
            .with(DestroyFlowGroupIn::TABLE_ID, table)
            .with(DestroyFlowGroupIn::GROUP_ID, group);
        self.0.destroy_group(&input).map_err(|r| r.syndrome)
    }

    fn destroy_table(&mut self, table: u32) -> Outcome {
        let input = DestroyFlowTableIn::zeroed().with(DestroyFlowTableIn::TABLE_ID, table);
        self.0.destroy_table(&input).map_err(|r| r.syndrome)
    }

    fn modify_miss(&mut self, table: u32, select: u32, context: FlowTableContext) -> Outcome {
        let input = ModifyFlowTableIn::zeroed()
            .with(ModifyFlowTableIn::TABLE_ID, table)
            .with(ModifyFlowTableIn::MODIFY_FIELD_SELECT, select)
            .with_nested(ModifyFlowTableIn::FLOW_TABLE_CONTEXT, &context);
        self.0.modify_table(&input).map_err(|r| r.syndrome)
    }

    fn root(&mut self, op_mod: u32, table: u32) -> Outcome {
        let input = SetFlowTableRootIn::zeroed()
            .with(SetFlowTableRootIn::OP_MOD, op_mod)
            .with(SetFlowTableRootIn::TABLE_ID, table);
        self.0.set_root(&input).map_err(|r| r.syndrome)
    }

    fn classify(&self, build: &Build) -> Result<Vec<(u32, u32)>, DropReason> {
        let mut out = Vec::new();
        self.0.classify(&Packet::parse(&build.frame()).unwrap(), &mut out)?;
        Ok(out.into_iter().map(|d| (d.tirn, d.flow_tag)).collect())
    }
}

#[derive(Clone)]
struct Rule {
    table: u32,
    group: u32,
    index: u32,
    value: Fields,
    action: FlowAction,
    flow_tag: u32,
    destinations: Vec<(FlowDestinationType, u32)>,
    op_mod: u32,
    modify: u32,
    ignore_level: bool,
}

impl Rule {
    fn to(table: u32, group: u32, index: u32, destinations: &[(FlowDestinationType, u32)]) -> Rule {
        Rule {
            table,
            group,
            index,
            value: Fields::zeroed(),
            action: FlowAction::FWD_DEST,
            flow_tag: 0,
            destinations: destinations.to_vec(),
            op_mod: 0,
            modify: 0,
            ignore_level: false,
        }
    }

    fn tir(table: u32, group: u32, index: u32, tirn: u32) -> Rule {
        Rule::to(table, group, index, &[(FlowDestinationType::TIR, tirn)])
    }

    fn input(&self) -> (SetFteIn, Vec<u8>) {
        let param = FteMatchParam::zeroed().with_nested(FteMatchParam::OUTER_HEADERS, &self.value);
        let context = FlowContext::zeroed()
            .with(FlowContext::GROUP_ID, self.group)
            .with(FlowContext::FLOW_TAG, self.flow_tag)
            .with(FlowContext::ACTION, self.action.0)
            .with(FlowContext::DESTINATION_LIST_SIZE, self.destinations.len() as u32)
            .with_nested(FlowContext::MATCH_VALUE, &param);
        let input = SetFteIn::zeroed()
            .with(SetFteIn::OP_MOD, self.op_mod)
            .with(SetFteIn::TABLE_ID, self.table)
            .with(SetFteIn::FLOW_INDEX, self.index)
            .with(SetFteIn::MODIFY_ENABLE_MASK, self.modify)
            .with(SetFteIn::IGNORE_FLOW_LEVEL, self.ignore_level.into())
            .with_nested(SetFteIn::FLOW_CONTEXT, &context);
        let tail = self.destinations.iter().flat_map(|(kind, id)| {
            let entry = DestFormat::zeroed()
                .with(DestFormat::DESTINATION_TYPE, kind.0.into())
                .with(DestFormat::DESTINATION_ID, *id);
            entry.bytes().to_vec()
        });
        (input, tail.collect())
    }
}

fn five_tuple_mask() -> Fields {
    let mut mask = Fields::zeroed();
    for field in [Fields::IP_PROTOCOL, Fields::IP_VERSION, Fields::TCP_SPORT, Fields::TCP_DPORT] {
        mask.set(field, field.max());
    }
    mask.blob_mut(Fields::SRC_IPV4_SRC_IPV6).fill(0xff);
    mask.blob_mut(Fields::DST_IPV4_DST_IPV6).fill(0xff);
    mask
}

/// The rule of a driver: remote address and port as source, local as destination (`nvme-tcp-offload.md` §3.6).
fn five_tuple(build: &Build) -> Fields {
    let mut value = Fields::zeroed()
        .with(Fields::IP_PROTOCOL, PROTOCOL_TCP.into())
        .with(Fields::IP_VERSION, if build.v6 { 6 } else { 4 })
        .with(Fields::TCP_SPORT, build.src_port.into())
        .with(Fields::TCP_DPORT, build.dst_port.into());
    let (skip, len) = if build.v6 { (0, 16) } else { (12, 4) };
    value.blob_mut(Fields::SRC_IPV4_SRC_IPV6)[skip..].copy_from_slice(&build.src[..len]);
    value.blob_mut(Fields::DST_IPV4_DST_IPV6)[skip..].copy_from_slice(&build.dst[..len]);
    value
}

#[test]
fn one_entry_takes_everything() {
    let mut t = Tables::new();
    let table = t.try_table(context(0, 0, None)).unwrap();
    let group = t.group(table, (0, 0), None);
    t.rule(Rule::tir(table, group, 0, 5));
    t.root(0, table).unwrap();
    let mut arp = Build::default().frame();
    arp[12..14].copy_from_slice(&[8, 6]);
    let mut out = Vec::new();
    t.0.classify(&Packet::parse(&arp).unwrap(), &mut out).unwrap();
    assert_eq!(out, [Delivery { tirn: 5, flow_tag: 0 }]);
    assert_eq!(t.classify(&Build { v6: true, ..Build::default() }), Ok(vec![(5, 0)]));
    assert_eq!(t.0.counts(), FlowCounts { tables: 1, groups: 1, entries: 1 });
}

#[test]
fn each_way_to_drop_has_its_reason() {
    let mut t = Tables::new();
    assert_eq!(t.classify(&Build::default()), Err(DropReason::NoRoot));
    let end = t.table(9, None);
    let table = t.table(0, Some(end));
    t.root(0, table).unwrap();
    assert_eq!(t.classify(&Build::default()), Err(DropReason::NoMatch));
    let group = t.group(table, (0, 0), None);
    t.rule(Rule { action: FlowAction::DROP, ..Rule::to(table, group, 0, &[]) });
    assert_eq!(t.classify(&Build::default()), Err(DropReason::Rule));
    t.root(1, table).unwrap();
    assert_eq!(t.classify(&Build::default()), Err(DropReason::NoRoot));
}

#[test]
fn a_five_tuple_takes_exactly_its_flow() {
    for v6 in [false, true] {
        let flow = Build { v6, ..Build::tcp(1, b"x") };
        let mut t = Tables::new();
        let table = t.table(0, None);
        let group = t.group(table, (0, 62), Some(five_tuple_mask()));
        let rest = t.group(table, (63, 63), None);
        t.rule(Rule { value: five_tuple(&flow), flow_tag: 0x12_3456, ..Rule::tir(table, group, 17, 8) });
        t.rule(Rule::tir(table, rest, 63, 1));
        t.root(0, table).unwrap();
        assert_eq!(t.classify(&flow), Ok(vec![(8, 0x12_3456)]));
        let mut others = vec![
            Build { src_port: 1, ..flow.clone() },
            Build { dst_port: 1, ..flow.clone() },
            Build { v6: !v6, ..flow.clone() },
            Build { protocol: PROTOCOL_UDP, ..flow.clone() },
            // A later fragment has no ports that could match.
            Build { fragment: Some(0x2000 >> if v6 { 13 } else { 0 }), ..flow.clone() },
            // The other direction.
            Build { src: flow.dst, dst: flow.src, src_port: flow.dst_port, dst_port: flow.src_port, ..flow.clone() },
        ];
        let last = if v6 { 15 } else { 3 };
        for side in 0..2 {
            let mut other = flow.clone();
            if side == 0 {
                other.src[last] ^= 1
            } else {
                other.dst[last] ^= 1
            }
            others.push(other);
        }
        for other in others {
            assert_eq!(t.classify(&other), Ok(vec![(1, 0)]), "{other:?}");
        }
    }
}

#[test]
fn the_lowest_index_wins() {
    let mut t = Tables::new();
    let table = t.table(0, None);
    t.root(0, table).unwrap();
    // Created in an order that is not that of the indices.
    let high = t.group(table, (32, 63), Some(five_tuple_mask()));
    let low = t.group(table, (0, 31), None);
    let flow = Build::tcp(1, b"x");
    t.rule(Rule { value: five_tuple(&flow), ..Rule::tir(table, high, 40, 40) });
    t.rule(Rule { value: five_tuple(&flow), ..Rule::tir(table, high, 33, 33) });
    assert_eq!(t.classify(&flow), Ok(vec![(33, 0)]));
    t.rule(Rule::tir(table, low, 31, 31));
    assert_eq!(t.classify(&flow), Ok(vec![(31, 0)]));
    t.rule(Rule::tir(table, low, 3, 3));
    assert_eq!(t.classify(&flow), Ok(vec![(3, 0)]));
    for (index, next) in [(3, 31), (31, 33), (33, 40)] {
        t.delete(table, index).unwrap();
        assert_eq!(t.classify(&flow), Ok(vec![(next, 0)]));
    }
}

/// Masks of the property test, over few values so that rules overlap.
fn masks() -> Vec<Fields> {
    let none = Fields::zeroed();
    vec![
        none.with(Fields::TCP_DPORT, 0xffff),
        none.with(Fields::TCP_DPORT, 0x0001),
        none.with(Fields::TCP_SPORT, 0x0003).with(Fields::IP_VERSION, 0xf),
        none.with(Fields::TCP_SPORT, 0x0003).with(Fields::TCP_DPORT, 0x0003),
    ]
}

proptest! {
    #[test]
    fn classification_is_a_search_by_index(
        order in Just([0usize, 1, 2, 3]).prop_shuffle(),
        rules in proptest::collection::vec((0usize..4, 0u32..8, 0u32..4, 0u32..4, any::<bool>()), 0..20),
        removed in proptest::collection::vec(any::<bool>(), 20),
        packets in proptest::collection::vec((0u16..4, 0u16..4, any::<bool>()), 1..10),
    ) {
        let mut t = Tables::new();
        let table = t.table(0, None);
        t.root(0, table).unwrap();
        let masks = masks();
        // Group i has indices 8 i to 8 i + 7, created in any order, with any of the masks.
        let mut groups = [0; 4];
        for i in order {
            groups[i] = t.group(table, (8 * i as u32, 8 * i as u32 + 7), Some(masks[(i + order[0]) % 4]));
        }
        let mut model: BTreeMap<u32, (Fields, Fields, u32)> = BTreeMap::new();
        for ((g, offset, sport, dport, v6), remove) in rules.into_iter().zip(removed) {
            let index = 8 * g as u32 + offset;
            let mask = masks[(g + order[0]) % 4];
            let mut value = Fields::zeroed()
                .with(Fields::TCP_SPORT, sport)
                .with(Fields::TCP_DPORT, dport)
                .with(Fields::IP_VERSION, if v6 { 6 } else { 4 });
            value.bytes_mut().iter_mut().zip(mask.bytes()).for_each(|(v, m)| *v &= m);
            let done = t.try_rule(&Rule { value, ..Rule::tir(table, groups[g], index, index + 1) });
            prop_assert_eq!(done.is_err(), model.contains_key(&index));
            model.entry(index).or_insert((mask, value, index + 1));
            if remove {
                t.delete(table, index).unwrap();
                model.remove(&index);
            }
        }
        for (sport, dport, v6) in packets {
            let build = Build { src_port: sport, dst_port: dport, v6, ..Build::default() };
            let field = |mask: &Fields, field, value: u32| mask.get(field) & value;
            let expected = model.values().find(|(mask, value, _)| {
                field(mask, Fields::TCP_SPORT, sport.into()) == value.get(Fields::TCP_SPORT)
                    && field(mask, Fields::TCP_DPORT, dport.into()) == value.get(Fields::TCP_DPORT)
                    && field(mask, Fields::IP_VERSION, if v6 { 6 } else { 4 }) == value.get(Fields::IP_VERSION)
            });
            let expected = expected.map(|(.., tirn)| vec![(*tirn, 0)]).ok_or(DropReason::NoMatch);
            prop_assert_eq!(t.classify(&build), expected);
        }
    }
}

#[test]
fn a_packet_follows_levels_misses_and_copies() {
    let mut t = Tables::new();
    let last = t.table(5, None);
    let last_group = t.group(last, (0, 0), None);
    t.rule(Rule::tir(last, last_group, 0, 50));
    let middle = t.table(3, Some(last));
    let middle_group = t.group(middle, (0, 3), Some(five_tuple_mask()));
    let flow = Build::tcp(1, b"x");
    t.rule(Rule { value: five_tuple(&flow), flow_tag: 7, ..Rule::tir(middle, middle_group, 2, 30) });
    let root = t.table(0, None);
    let root_group = t.group(root, (0, 0), None);
    let table_kind = FlowDestinationType::FLOW_TABLE;
    t.rule(Rule { flow_tag: 1, ..Rule::to(root, root_group, 0, &[(table_kind, middle)]) });
    t.root(0, root).unwrap();
    assert_eq!(t.classify(&flow), Ok(vec![(30, 7)]), "the last tag on the way");
    let other = Build { src_port: 1, ..flow.clone() };
    assert_eq!(t.classify(&other), Ok(vec![(50, 1)]), "missed to the last table, tag kept");
    t.delete(root, 0).unwrap();
    let copies =
        [(FlowDestinationType::TIR, 1), (table_kind, middle), (FlowDestinationType::TIR, 2), (table_kind, last)];
    t.rule(Rule::to(root, root_group, 0, &copies));
    assert_eq!(t.classify(&flow), Ok(vec![(1, 0), (30, 7), (2, 0), (50, 0)]));
    t.modify_miss(middle, 1, context(3, 6, None)).unwrap();
    assert_eq!(t.classify(&other), Ok(vec![(1, 0), (2, 0), (50, 0)]), "one copy missed");
    t.delete(root, 0).unwrap();
    t.rule(Rule::to(root, root_group, 0, &[(table_kind, middle)]));
    assert_eq!(t.classify(&other), Err(DropReason::NoMatch));
    t.delete(root, 0).unwrap();
    t.rule(Rule { action: FlowAction::ALLOW, ..Rule::to(root, root_group, 0, &[]) });
    assert_eq!(t.classify(&flow), Err(DropReason::NoMatch), "allowed, and nothing behind");
}

#[test]
fn circles_end_as_drops() {
    let mut t = Tables::new();
    let (a, b) = (t.table(1, None), t.table(2, None));
    let (ga, gb) = (t.group(a, (0, 0), None), t.group(b, (0, 0), None));
    let to = |table, group, target| Rule::to(table, group, 0, &[(FlowDestinationType::FLOW_TABLE, target)]);
    t.rule(to(a, ga, b));
    assert_eq!(t.try_rule(&to(b, gb, a)), Err(Syndrome::FTE_DESTINATION_LEVEL));
    assert_eq!(t.try_rule(&to(b, gb, b)), Err(Syndrome::FTE_DESTINATION_LEVEL));
    t.rule(Rule { ignore_level: true, ..to(b, gb, a) });
    t.root(0, a).unwrap();
    assert_eq!(t.classify(&Build::default()), Err(DropReason::Loop));
    // The same with a copy on every round: still an end, and not more copies than tables visited.
    t.delete(b, 0).unwrap();
    let both = [(FlowDestinationType::TIR, 1), (FlowDestinationType::FLOW_TABLE, a)];
    t.rule(Rule { ignore_level: true, ..Rule::to(b, gb, 0, &both) });
    let copies = t.classify(&Build::default()).unwrap().len();
    assert!((1..=MAX_VISITS as usize).contains(&copies), "{copies}");
}

#[test]
fn what_is_in_use_stays() {
    let mut t = Tables::new();
    let last = t.table(5, None);
    let first = t.table(0, Some(last));
    let group = t.group(first, (0, 3), None);
    t.rule(Rule::to(first, group, 1, &[(FlowDestinationType::TIR, 9), (FlowDestinationType::FLOW_TABLE, last)]));
    t.rule(Rule::tir(first, group, 2, 9));
    t.root(0, first).unwrap();
    assert!(t.0.tir_in_use(9));
    assert_eq!(t.destroy_table(first), Err(Syndrome::FLOW_TABLE_HAS_GROUPS));
    assert_eq!(t.destroy_group(first, group), Err(Syndrome::FLOW_GROUP_HAS_ENTRIES));
    assert_eq!(t.destroy_table(last), Err(Syndrome::FLOW_TABLE_IS_DESTINATION));
    assert_eq!(Reject::from(Syndrome::FLOW_TABLE_IS_DESTINATION).status, firmware_iface::Status::BAD_RES_STATE_ERR);
    t.delete(first, 1).unwrap();
    assert!(t.0.tir_in_use(9), "the second entry still leads there");
    t.delete(first, 2).unwrap();
    assert!(!t.0.tir_in_use(9));
    assert_eq!(t.destroy_table(last), Err(Syndrome::FLOW_TABLE_IS_DESTINATION), "a miss action still does");
    t.destroy_group(first, group).unwrap();
    t.destroy_table(first).unwrap();
    t.destroy_table(last).unwrap();
    assert_eq!(t.0.counts(), FlowCounts::default());
    assert_eq!(t.classify(&Build::default()), Err(DropReason::NoRoot));
    assert_eq!(t.destroy_table(first), Err(Syndrome::FLOW_TABLE_UNKNOWN));
    assert_ne!(t.table(0, None), first, "an id does not come back at once");
}

#[test]
fn each_refusal_has_its_syndrome() {
    let mut t = Tables::new();
    let low = t.table(2, None);
    let bad = |field, value| context(1, 1, None).with(field, value);
    for (context, syndrome) in [
        (context(64, 1, None), Syndrome::FLOW_TABLE_LEVEL),
        (context(1, 21, None), Syndrome::FLOW_TABLE_SIZE),
        (context(2, 1, Some(low)), Syndrome::FLOW_TABLE_MISS_LEVEL),
        (context(2, 1, Some(77)), Syndrome::FLOW_TABLE_UNKNOWN),
        (bad(FlowTableContext::TABLE_MISS_ACTION, 2), Syndrome::FLOW_TABLE_MISS_ACTION),
        (bad(FlowTableContext::SW_OWNER, 1), Syndrome::FLOW_TABLE_FLAGS),
    ] {
        assert_eq!(t.try_table(context), Err(syndrome));
    }
    let create = |field, value| CreateFlowTableIn::zeroed().with(field, value);
    let created = t.0.create_table(&create(CreateFlowTableIn::TABLE_TYPE, 4));
    assert_eq!(created.map_err(|r| r.syndrome), Err(Syndrome::FLOW_TABLE_TYPE));
    let created = t.0.create_table(&create(CreateFlowTableIn::OTHER_VPORT, 1));
    assert_eq!(created.map_err(|r| r.syndrome), Err(Syndrome::FLOW_OTHER_VPORT));
    let of_another_type = DestroyFlowTableIn::zeroed()
        .with(DestroyFlowTableIn::TABLE_ID, low)
        .with(DestroyFlowTableIn::TABLE_TYPE, FlowTableType::NIC_TX.0.into());
    let destroyed = t.0.destroy_table(&of_another_type);
    assert_eq!(destroyed.map_err(|r| r.syndrome), Err(Syndrome::FLOW_TABLE_UNKNOWN));
    assert_eq!(t.modify_miss(low, 0x8001, context(0, 0, None)), Err(Syndrome::FLOW_TABLE_MODIFY_FIELD));
    assert_eq!(t.modify_miss(low, 1, context(0, 0, Some(low))), Err(Syndrome::FLOW_TABLE_MISS_LEVEL));

    let mask = Fields::zeroed().with(Fields::TCP_DPORT, 0xff);
    let group = t.group(low, (8, 15), Some(mask));
    for (range, mask, syndrome) in [
        ((5, 4), None, Syndrome::FLOW_GROUP_RANGE),
        ((0, 64), None, Syndrome::FLOW_GROUP_RANGE),
        ((0, 8), None, Syndrome::FLOW_GROUP_OVERLAP),
        ((9, 10), None, Syndrome::FLOW_GROUP_OVERLAP),
        ((15, 63), None, Syndrome::FLOW_GROUP_OVERLAP),
    ] {
        assert_eq!(t.try_group(low, range, mask), Err(syndrome), "{range:?}");
    }
    // A bit of the outer headers that no field covers.
    let mut hidden = Fields::zeroed();
    hidden.bytes_mut()[26] = 0xff;
    assert_eq!(t.try_group(low, (0, 1), Some(hidden)), Err(Syndrome::FLOW_GROUP_FIELD));
    let misc = CreateFlowGroupIn::zeroed()
        .with(CreateFlowGroupIn::TABLE_ID, low)
        .with(CreateFlowGroupIn::MATCH_CRITERIA_ENABLE, 3);
    assert_eq!(t.0.create_group(&misc).map_err(|r| r.syndrome), Err(Syndrome::FLOW_GROUP_CRITERIA));
    assert_eq!(t.destroy_group(low, group + 1), Err(Syndrome::FLOW_GROUP_UNKNOWN));

    let good = Rule { value: Fields::zeroed().with(Fields::TCP_DPORT, 1), ..Rule::tir(low, group, 9, 1) };
    let tir = |tirn| vec![(FlowDestinationType::TIR, tirn)];
    let table = |id| vec![(FlowDestinationType::FLOW_TABLE, id)];
    for (rule, syndrome) in [
        (Rule { table: 77, ..good.clone() }, Syndrome::FLOW_TABLE_UNKNOWN),
        (Rule { group: group + 1, ..good.clone() }, Syndrome::FLOW_GROUP_UNKNOWN),
        (Rule { index: 7, ..good.clone() }, Syndrome::FTE_INDEX),
        (Rule { index: 16, ..good.clone() }, Syndrome::FTE_INDEX),
        (
            Rule { value: Fields::zeroed().with(Fields::TCP_DPORT, 0x100), ..good.clone() },
            Syndrome::FTE_VALUE_OUTSIDE_MASK,
        ),
        (Rule { action: FlowAction(6), ..good.clone() }, Syndrome::FTE_ACTION),
        (Rule { action: FlowAction::COUNT, ..good.clone() }, Syndrome::FTE_ACTION),
        (Rule { action: FlowAction::DROP, ..good.clone() }, Syndrome::FTE_DESTINATIONS),
        (Rule { destinations: vec![], ..good.clone() }, Syndrome::FTE_DESTINATIONS),
        (Rule { destinations: tir(1).repeat(65), ..good.clone() }, Syndrome::FTE_DESTINATIONS),
        (Rule { destinations: tir(100), ..good.clone() }, Syndrome::FTE_DESTINATION_TIR),
        (Rule { destinations: table(77), ..good.clone() }, Syndrome::FTE_DESTINATION_TABLE),
        (Rule { destinations: vec![(FlowDestinationType::VPORT, 1)], ..good.clone() }, Syndrome::FTE_DESTINATION_TYPE),
        (Rule { op_mod: 2, ..good.clone() }, Syndrome::FTE_OP_MOD),
        (Rule { op_mod: 1, modify: 1, ..good.clone() }, Syndrome::FTE_UNKNOWN),
        (Rule { op_mod: 1, modify: 8, ..good.clone() }, Syndrome::FTE_MODIFY_MASK),
    ] {
        assert_eq!(t.try_rule(&rule), Err(syndrome));
    }
    let (input, tail) = good.input();
    let short = t.0.set_fte(&input, &tail[..7], tir_exists).map_err(|r| r.syndrome);
    assert_eq!(short, Err(Syndrome::FTE_LIST_CUT_SHORT));
    assert_eq!(t.0.counts().entries, 0);
    assert!(!t.0.tir_in_use(1));
    t.rule(good.clone());
    assert_eq!(t.try_rule(&good), Err(Syndrome::FTE_OCCUPIED));
    assert_eq!(t.delete(low, 10), Err(Syndrome::FTE_UNKNOWN));
    assert_eq!(t.root(0, 77), Err(Syndrome::FLOW_TABLE_UNKNOWN));
    assert_eq!(t.root(2, low), Err(Syndrome::FLOW_ROOT_OP_MOD));
    for level in 0..99 {
        t.table(level % 64, None);
    }
    assert_eq!(t.try_table(context(0, 0, None)), Err(Syndrome::FLOW_TABLE_NONE_LEFT));
}

#[test]
fn an_entry_is_modified_in_place() {
    let mut t = Tables::new();
    let table = t.table(0, None);
    let group = t.group(table, (0, 0), None);
    t.rule(Rule { flow_tag: 5, ..Rule::tir(table, group, 0, 1) });
    t.root(0, table).unwrap();
    let change = |modify, tirn, flow_tag| Rule { op_mod: 1, modify, flow_tag, ..Rule::tir(table, group, 0, tirn) };
    t.rule(change(0b100, 2, 9));
    assert_eq!(t.classify(&Build::default()), Ok(vec![(2, 5)]));
    assert!(!t.0.tir_in_use(1) && t.0.tir_in_use(2));
    t.rule(change(0b010, 3, 9));
    assert_eq!(t.classify(&Build::default()), Ok(vec![(2, 9)]));
    t.rule(Rule { action: FlowAction::DROP, destinations: vec![], ..change(0b101, 0, 0) });
    assert_eq!(t.classify(&Build::default()), Err(DropReason::Rule));
    assert!(!t.0.tir_in_use(2));
    assert_eq!(t.0.counts().entries, 1);
}

#[test]
fn header_fields_are_matched() {
    let none = Fields::zeroed();
    let plain = Build::tcp(1, b"x");
    let tagged = Build { vlans: vec![(false, 0xa123)], ..plain.clone() };
    let service = Build { vlans: vec![(true, 0x0005), (false, 0x0006)], ..plain.clone() };
    let syn = Build { flags: tcp_flag::SYN, ..Build::default() };
    let udp = Build { protocol: PROTOCOL_UDP, ..plain.clone() };
    let fragment = Build { fragment: Some(0x2000), ..plain.clone() };
    let broadcast = Build { dmac: [0xff; 6], ..plain.clone() };
    let all = [&plain, &tagged, &service, &syn, &udp, &fragment, &broadcast];
    // (mask, value, which of the packets above match)
    let cases: Vec<(Fields, Fields, Vec<usize>)> = vec![
        (none.with(Fields::CVLAN_TAG, 1), none, vec![0, 2, 3, 4, 5, 6]),
        (none.with(Fields::CVLAN_TAG, 1), none.with(Fields::CVLAN_TAG, 1), vec![1]),
        (none.with(Fields::SVLAN_TAG, 1), none.with(Fields::SVLAN_TAG, 1), vec![2]),
        (none.with(Fields::FIRST_VID, 0xfff), none.with(Fields::FIRST_VID, 0x123), vec![1]),
        (none.with(Fields::FIRST_PRIO, 7), none.with(Fields::FIRST_PRIO, 5), vec![1]),
        (none.with(Fields::DMAC_47_16, 0x0100_0000), none.with(Fields::DMAC_47_16, 0x0100_0000), vec![6]),
        (none.with(Fields::DMAC_15_0, 0xffff), none.with(Fields::DMAC_15_0, 1), vec![0, 1, 2, 3, 4, 5]),
        (none.with(Fields::SMAC_15_0, 0xffff), none.with(Fields::SMAC_15_0, 2), vec![0, 1, 2, 3, 4, 5, 6]),
        (none.with(Fields::ETHERTYPE, 0xffff), none.with(Fields::ETHERTYPE, 0x0800), vec![0, 1, 2, 3, 4, 5, 6]),
        (none.with(Fields::IP_PROTOCOL, 0xff), none.with(Fields::IP_PROTOCOL, 17), vec![4]),
        (none.with(Fields::L4_TYPE, 3), none.with(Fields::L4_TYPE, 2), vec![4]),
        (none.with(Fields::UDP_DPORT, 0xffff), none.with(Fields::UDP_DPORT, 50000), vec![4]),
        (none.with(Fields::FRAG, 1), none.with(Fields::FRAG, 1), vec![5]),
        (none.with(Fields::TCP_FLAGS, 0x2), none.with(Fields::TCP_FLAGS, 0x2), vec![3]),
        (none.with(Fields::TTL_HOPLIMIT, 0xff), none.with(Fields::TTL_HOPLIMIT, 64), vec![0, 1, 2, 3, 4, 5, 6]),
        (none.with(Fields::IPV4_IHL, 0xf), none.with(Fields::IPV4_IHL, 6), vec![]),
    ];
    for (case, (mask, value, expected)) in cases.into_iter().enumerate() {
        let mut t = Tables::new();
        let table = t.table(0, None);
        let group = t.group(table, (0, 0), Some(mask));
        t.rule(Rule { value, ..Rule::tir(table, group, 0, 1) });
        t.root(0, table).unwrap();
        let hits: Vec<usize> = (0..all.len()).filter(|i| t.classify(all[*i]).is_ok()).collect();
        assert_eq!(hits, expected, "case {case}");
    }
}
