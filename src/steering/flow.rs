//! The root flow table: its groups, its default entries, and a rule per connection.

use super::matching::{FiveTuple, Mask, Match, Ports};
use super::{SteeringCaps, SteeringError};
use crate::adapter::{Creation, Handle, Objects};
use crate::command::{CommandError, ObjectKind, Request};
use crate::platform::Deadline;
use firmware_iface::command::flow::{
    CreateFlowGroupIn, CreateFlowTableIn, DeleteFteIn, DestroyFlowGroupIn, DestroyFlowTableIn, SetFlowTableRootIn,
    SetFteIn,
};
use firmware_iface::steering::{
    DestFormat, FlowAction, FlowContext, FlowDestinationType, FlowTableContext, FlowTableType, FteMatchParam,
};
use hw_regs::layout::{Access, Layout};
use std::collections::HashSet;

/// Entries for TCP over each IP version that no five-tuple matched.
const TCP_DEFAULTS: u32 = 2;

/// Where packets go that no rule matched.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// TIR of everything that the others do not take: ARP, ICMP, UDP ...
    pub other: u32,
    /// TIR of TCP over IPv4; usually one that hashes.
    pub tcp_ipv4: Option<u32>,
    /// TIR of TCP over IPv6.
    pub tcp_ipv6: Option<u32>,
}

/// How large the table is to be.
#[derive(Clone, Copy, Debug)]
pub struct SteeringParams {
    /// Rules for connections over IPv4.
    pub connections_ipv4: u32,
    /// Rules for connections over IPv6; 0 for none.
    pub connections_ipv6: u32,
}

/// One of several owners who receive on the same function: each has its own ports and its own rules.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// TIR of everything that no rule directs elsewhere.
    pub tirn: u32,
    /// Packets to these ports, TCP over IPv4, are this owner's; all shares have as many.
    pub ports: Ports,
}

/// What a table is made for.
struct Plan<'a> {
    params: SteeringParams,
    defaults: Defaults,
    /// Owners, if there is more than one.
    shares: &'a [Share],
}

/// Entries with one mask.
#[derive(Debug)]
struct Group {
    number: u32,
    family: &'static str,
    capacity: u32,
    free: Vec<u32>,
}

/// The table and everything in it but the rules of connections.
#[derive(Debug)]
struct Root {
    table: Handle,
    /// Groups of connections.
    groups: Vec<Handle>,
    /// Everything else that was created, in that order: default groups and their entries, the root.
    rest: Vec<Handle>,
}

/// A rule that is in force.
#[derive(Debug)]
#[must_use = "without it the rule stays until teardown"]
pub struct RuleId {
    handle: Handle,
    index: u32,
    tuple: FiveTuple,
}

impl RuleId {
    /// The connection that it steers.
    pub fn tuple(&self) -> FiveTuple {
        self.tuple
    }
}

/// Receive steering of a function, or one owner's share of it ([`Steering::create_shares`]).
#[derive(Debug)]
pub struct Steering {
    caps: SteeringCaps,
    table: u32,
    /// Of the first share.
    root: Option<Root>,
    ipv4: Option<Group>,
    ipv6: Option<Group>,
    steered: HashSet<FiveTuple>,
}

impl Steering {
    /// Creates the table with its groups and default entries, then makes it the root: from then on packets arrive.
    pub fn create(
        objects: &mut impl Objects,
        caps: &SteeringCaps,
        params: &SteeringParams,
        defaults: &Defaults,
        deadline: Deadline,
    ) -> Result<Steering, SteeringError> {
        let plan = Plan { params: *params, defaults: *defaults, shares: &[] };
        Steering::build(objects, caps, &plan, deadline)
    }

    /// Creates one table for several owners, who need not know of each other from then on: each has `params` entries of its
    /// own for connections. TCP that no rule matched goes by its destination port, and to the first share if the port is
    /// nobody's; all the rest (ARP, ICMP) goes to everyone.
    ///
    /// # Panics
    /// If there is no share, or their ports are not alike in number.
    pub fn create_shares(
        objects: &mut impl Objects,
        caps: &SteeringCaps,
        params: &SteeringParams,
        shares: &[Share],
        deadline: Deadline,
    ) -> Result<Vec<Steering>, SteeringError> {
        let (first, count) = (shares[0], shares.len() as u32);
        assert!(shares.iter().all(|share| share.ports.log_len == first.ports.log_len), "ports of different number");
        let all = SteeringParams {
            connections_ipv4: params.connections_ipv4.saturating_mul(count),
            connections_ipv6: params.connections_ipv6.saturating_mul(count),
        };
        let defaults = Defaults { other: first.tirn, tcp_ipv4: Some(first.tirn), tcp_ipv6: Some(first.tirn) };
        let mut whole = Steering::build(objects, caps, &Plan { params: all, defaults, shares }, deadline)?;
        let mut steerings: Vec<Steering> = Vec::new();
        for _ in shares {
            steerings.push(Steering {
                caps: *caps,
                table: whole.table,
                root: whole.root.take(),
                ipv4: whole.ipv4.as_mut().map(|group| group.split_off(params.connections_ipv4)),
                ipv6: whole.ipv6.as_mut().map(|group| group.split_off(params.connections_ipv6)),
                steered: HashSet::new(),
            });
        }
        Ok(steerings)
    }

    fn build(
        objects: &mut impl Objects,
        caps: &SteeringCaps,
        plan: &Plan<'_>,
        deadline: Deadline,
    ) -> Result<Steering, SteeringError> {
        let SteeringParams { connections_ipv4, connections_ipv6 } = plan.params;
        let fixed = TCP_DEFAULTS + 1 + plan.shares.len() as u32;
        let rules = connections_ipv4.saturating_add(connections_ipv6).saturating_add(fixed);
        let log_size = rules.checked_next_power_of_two().map_or(32, u32::trailing_zeros);
        caps.check(log_size, rules).map_err(|missing| SteeringError::Unsupported { missing })?;
        let table = create_table(objects, log_size, deadline)?;
        let number = table.number();
        let root = Some(Root { table, groups: Vec::new(), rest: Vec::new() });
        let mut steering =
            Steering { caps: *caps, table: number, root, ipv4: None, ipv6: None, steered: HashSet::new() };
        match steering.populate(objects, plan, deadline) {
            Ok(()) => Ok(steering),
            Err(error) => {
                // The first error is the one that says what went wrong; what stays is destroyed at teardown.
                if let Err(second) = steering.destroy(objects, deadline) {
                    log::error!("{second}");
                }
                Err(error)
            }
        }
    }

    fn populate(
        &mut self,
        objects: &mut impl Objects,
        plan: &Plan<'_>,
        deadline: Deadline,
    ) -> Result<(), SteeringError> {
        let (params, defaults) = (&plan.params, &plan.defaults);
        let mut next = 0;
        for (ipv6, family, capacity) in
            [(false, "IPv4", params.connections_ipv4), (true, "IPv6", params.connections_ipv6)]
        {
            if capacity == 0 {
                continue;
            }
            let handle = self.create_group(objects, Mask::Connections { ipv6 }, next, capacity, deadline)?;
            // The lowest index first.
            let free = (next..next + capacity).rev().collect();
            let group = Group { number: handle.number(), family, capacity, free };
            if let Some(root) = &mut self.root {
                root.groups.push(handle);
            }
            *(if ipv6 { &mut self.ipv6 } else { &mut self.ipv4 }) = Some(group);
            next += capacity;
        }
        if let Some(first) = plan.shares.first() {
            let len = plan.shares.len() as u32;
            let group = self.create_group(objects, Mask::Ports(first.ports.mask()), next, len, deadline)?;
            let number = group.number();
            self.keep(group);
            for (index, share) in (next..).zip(plan.shares) {
                let entry = Entry { group: number, index, tirn: share.tirn, flow_tag: 0 };
                let handle = objects.create(self.entry(&entry, Match::Ports(share.ports), &[]), deadline)?;
                self.keep(handle);
            }
            next += len;
        }
        let tcp = [(false, defaults.tcp_ipv4), (true, defaults.tcp_ipv6)];
        if tcp.iter().any(|(_, tirn)| tirn.is_some()) {
            let group = self.create_group(objects, Mask::Tcp, next, TCP_DEFAULTS, deadline)?;
            let number = group.number();
            self.keep(group);
            for (index, (ipv6, tirn)) in tcp.into_iter().enumerate() {
                if let Some(tirn) = tirn {
                    let entry = Entry { group: number, index: next + index as u32, tirn, flow_tag: 0 };
                    let handle = objects.create(self.entry(&entry, Match::Tcp { ipv6 }, &[]), deadline)?;
                    self.keep(handle);
                }
            }
            next += TCP_DEFAULTS;
        }
        let group = self.create_group(objects, Mask::Nothing, next, 1, deadline)?;
        let entry = Entry { group: group.number(), index: next, tirn: defaults.other, flow_tag: 0 };
        self.keep(group);
        let copies: Vec<u32> = plan.shares.iter().skip(1).map(|share| share.tirn).collect();
        let handle = objects.create(self.entry(&entry, Match::Anything, &copies), deadline)?;
        self.keep(handle);
        let root = self.set_root(objects, deadline)?;
        self.keep(root);
        Ok(())
    }

    fn keep(&mut self, handle: Handle) {
        if let Some(root) = &mut self.root {
            root.rest.push(handle);
        }
    }

    /// Directs a connection to TIR `tirn`; every packet's completion carries `flow_tag` (24 bits, not 0).
    pub fn add_rule(
        &mut self,
        objects: &mut impl Objects,
        tuple: FiveTuple,
        tirn: u32,
        flow_tag: u32,
        deadline: Deadline,
    ) -> Result<RuleId, SteeringError> {
        self.add_rules(objects, &[(tuple, tirn, flow_tag)], deadline).pop().expect("one outcome per rule")
    }

    /// [`Steering::add_rule`] of many (connection, TIR, flow tag) at once: one outcome for each, in order.
    pub fn add_rules(
        &mut self,
        objects: &mut impl Objects,
        rules: &[(FiveTuple, u32, u32)],
        deadline: Deadline,
    ) -> Vec<Result<RuleId, SteeringError>> {
        let mut creations = Vec::with_capacity(rules.len());
        let places = rules.iter().map(|&(tuple, tirn, flow_tag)| {
            let entry = self.reserve(tuple, tirn, flow_tag)?;
            creations.push(self.entry(&entry, Match::Connection(tuple), &[]));
            Ok(entry.index)
        });
        let places: Vec<Result<u32, SteeringError>> = places.collect();
        let mut created = objects.create_each(creations, deadline).into_iter();
        let outcomes = rules.iter().zip(places).map(|(&(tuple, ..), place)| {
            let index = place?;
            match created.next().expect("one outcome per creation") {
                Ok(handle) => Ok(RuleId { handle, index, tuple }),
                Err(error) => {
                    // After a missed deadline the entry may exist: its index is not used again.
                    match error.may_still_run() {
                        true => _ = self.steered.remove(&tuple),
                        false => self.release(tuple, index),
                    }
                    Err(error.into())
                }
            }
        });
        outcomes.collect()
    }

    /// Takes a free entry for a connection.
    fn reserve(&mut self, tuple: FiveTuple, tirn: u32, flow_tag: u32) -> Result<Entry, SteeringError> {
        let FiveTuple { source, destination } = tuple;
        if source.is_ipv6() != destination.is_ipv6() || source.port() == 0 || destination.port() == 0 {
            return Err(SteeringError::NotAConnection { from: source, to: destination });
        }
        if !(1..=0xff_ffff).contains(&flow_tag) {
            return Err(SteeringError::FlowTag(flow_tag));
        }
        if self.steered.contains(&tuple) {
            return Err(SteeringError::Duplicate(tuple));
        }
        let (group, family) = match source.is_ipv6() {
            false => (&mut self.ipv4, "IPv4"),
            true => (&mut self.ipv6, "IPv6"),
        };
        let group = group.as_mut().ok_or(SteeringError::Full { family, capacity: 0 })?;
        let full = SteeringError::Full { family: group.family, capacity: group.capacity };
        let index = group.free.pop().ok_or(full)?;
        self.steered.insert(tuple);
        Ok(Entry { group: group.number, index, tirn, flow_tag })
    }

    /// Takes a rule back. Packets that were on their way may still arrive by it; those that follow go to the defaults. If
    /// firmware refuses, the rule stays until teardown and its entry is not used again.
    pub fn remove_rule(
        &mut self,
        objects: &mut impl Objects,
        rule: RuleId,
        deadline: Deadline,
    ) -> Result<(), CommandError> {
        let RuleId { handle, index, tuple } = rule;
        objects.destroy(handle, deadline)?;
        self.release(tuple, index);
        Ok(())
    }

    /// Rules in force.
    pub fn rules(&self) -> usize {
        self.steered.len()
    }

    /// Makes the entry of a connection available again.
    fn release(&mut self, tuple: FiveTuple, index: u32) {
        self.steered.remove(&tuple);
        let group = if tuple.source.is_ipv6() { &mut self.ipv6 } else { &mut self.ipv4 };
        if let Some(group) = group {
            group.free.push(index);
        }
    }

    /// Disconnects the table and destroys it, if this is the first share. Rules of all shares must be gone; the first refusal
    /// is returned, and what was refused stays in the log.
    pub fn destroy(self, objects: &mut impl Objects, deadline: Deadline) -> Result<(), CommandError> {
        let Some(Root { table, groups, rest }) = self.root else { return Ok(()) };
        let handles = rest.into_iter().rev().chain(groups.into_iter().rev()).chain([table]);
        let mut first = Ok(());
        for handle in handles {
            if let Err(error) = objects.destroy(handle, deadline) {
                first = first.and(Err(error));
            }
        }
        first
    }

    fn create_group(
        &self,
        objects: &mut impl Objects,
        mask: Mask,
        start: u32,
        len: u32,
        deadline: Deadline,
    ) -> Result<Handle, CommandError> {
        let criteria = FteMatchParam::zeroed().with_nested(FteMatchParam::OUTER_HEADERS, &mask.outer(&self.caps));
        let input = CreateFlowGroupIn::zeroed()
            .with(CreateFlowGroupIn::TABLE_TYPE, FlowTableType::NIC_RX.0.into())
            .with(CreateFlowGroupIn::TABLE_ID, self.table)
            .with(CreateFlowGroupIn::START_FLOW_INDEX, start)
            .with(CreateFlowGroupIn::END_FLOW_INDEX, start + len - 1)
            .with(CreateFlowGroupIn::MATCH_CRITERIA_ENABLE, mask.criteria().into())
            .with_nested(CreateFlowGroupIn::MATCH_CRITERIA, &criteria);
        let table = self.table;
        let destroy = move |group| {
            let input = DestroyFlowGroupIn::zeroed()
                .with(DestroyFlowGroupIn::TABLE_TYPE, FlowTableType::NIC_RX.0.into())
                .with(DestroyFlowGroupIn::TABLE_ID, table)
                .with(DestroyFlowGroupIn::GROUP_ID, group);
            Request::new(&input)
        };
        let request = Request::new(&input);
        objects.create(Creation::new(ObjectKind::FlowGroup, request, destroy), deadline)
    }

    /// What makes an entry. Each of `copies` is a TIR that gets a copy of its packets.
    fn entry(&self, entry: &Entry, packets: Match, copies: &[u32]) -> Creation {
        let value = FteMatchParam::zeroed().with_nested(FteMatchParam::OUTER_HEADERS, &packets.value(&self.caps));
        let context = FlowContext::zeroed()
            .with(FlowContext::GROUP_ID, entry.group)
            .with(FlowContext::FLOW_TAG, entry.flow_tag)
            .with(FlowContext::ACTION, FlowAction::FWD_DEST.0)
            .with(FlowContext::DESTINATION_LIST_SIZE, 1 + copies.len() as u32)
            .with_nested(FlowContext::MATCH_VALUE, &value);
        let destinations = std::iter::once(entry.tirn).chain(copies.iter().copied()).flat_map(|tirn| {
            let destination = DestFormat::zeroed()
                .with(DestFormat::DESTINATION_TYPE, FlowDestinationType::TIR.0.into())
                .with(DestFormat::DESTINATION_ID, tirn);
            destination.0
        });
        let destinations: Vec<u8> = destinations.collect();
        let input = SetFteIn::zeroed()
            .with(SetFteIn::TABLE_TYPE, FlowTableType::NIC_RX.0.into())
            .with(SetFteIn::TABLE_ID, self.table)
            .with(SetFteIn::FLOW_INDEX, entry.index)
            .with_nested(SetFteIn::FLOW_CONTEXT, &context);
        let delete = DeleteFteIn::zeroed()
            .with(DeleteFteIn::TABLE_TYPE, FlowTableType::NIC_RX.0.into())
            .with(DeleteFteIn::TABLE_ID, self.table)
            .with(DeleteFteIn::FLOW_INDEX, entry.index);
        let request = Request::new(&input).tail(&destinations).about(ObjectKind::FlowTableEntry, entry.index);
        let destroy = move |_| Request::new(&delete);
        Creation::new(ObjectKind::FlowTableEntry, request, destroy)
    }

    fn set_root(&self, objects: &mut impl Objects, deadline: Deadline) -> Result<Handle, CommandError> {
        let root = SetFlowTableRootIn::zeroed()
            .with(SetFlowTableRootIn::TABLE_TYPE, FlowTableType::NIC_RX.0.into())
            .with(SetFlowTableRootIn::TABLE_ID, self.table);
        let disconnect = root.with(SetFlowTableRootIn::OP_MOD, 1);
        let request = Request::new(&root).about(ObjectKind::FlowTableRoot, self.table);
        let destroy = move |_| Request::new(&disconnect);
        objects.create(Creation::new(ObjectKind::FlowTableRoot, request, destroy), deadline)
    }
}

impl Group {
    /// A group of `count` of the free entries.
    fn split_off(&mut self, count: u32) -> Group {
        let free = self.free.split_off(self.free.len().saturating_sub(count as usize));
        Group { number: self.number, family: self.family, capacity: count, free }
    }
}

/// An entry of the table, without what it matches.
#[derive(Clone, Copy, Debug)]
struct Entry {
    group: u32,
    index: u32,
    tirn: u32,
    flow_tag: u32,
}

fn create_table(objects: &mut impl Objects, log_size: u32, deadline: Deadline) -> Result<Handle, CommandError> {
    let context = FlowTableContext::zeroed().with(FlowTableContext::LOG_SIZE, log_size);
    let input = CreateFlowTableIn::zeroed()
        .with(CreateFlowTableIn::TABLE_TYPE, FlowTableType::NIC_RX.0.into())
        .with_nested(CreateFlowTableIn::FLOW_TABLE_CONTEXT, &context);
    let destroy = |table| {
        let input = DestroyFlowTableIn::zeroed()
            .with(DestroyFlowTableIn::TABLE_TYPE, FlowTableType::NIC_RX.0.into())
            .with(DestroyFlowTableIn::TABLE_ID, table);
        Request::new(&input)
    };
    let request = Request::new(&input);
    objects.create(Creation::new(ObjectKind::FlowTable, request, destroy), deadline)
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | owners that share a table have entries and ports of their own | `shares_have_their_own_entries_and_ports` |
    //! | groups do not overlap, cover the table from specific to general, and the root comes last | `the_table_goes_from_specific_to_general` |
    //! | a rule matches its five-tuple under its group's mask, and nothing else | `a_rule_matches_one_connection` |
    //! | indices are used once at a time, given back, and run out with a clear error | `entries_are_used_once_at_a_time` |
    //! | impossible rules are refused before firmware sees them | `impossible_rules_are_refused` |
    //! | whichever command is refused, nothing is left | `a_refusal_leaves_nothing` |
    use super::super::matching::address;
    use super::*;
    use crate::queue::testing::{TestObjects, deadline};
    use crate::steering::caps::tests::full;
    use firmware_iface::Opcode;
    use firmware_iface::steering::FteMatchSetLyr24;

    const PARAMS: SteeringParams = SteeringParams { connections_ipv4: 5, connections_ipv6: 4 };
    const DEFAULTS: Defaults = Defaults { other: 0x91, tcp_ipv4: Some(0x92), tcp_ipv6: None };

    fn caps() -> SteeringCaps {
        SteeringCaps::new(&full()).expect("all there")
    }

    fn steering(objects: &mut TestObjects) -> Steering {
        Steering::create(objects, &caps(), &PARAMS, &DEFAULTS, deadline()).expect("created")
    }

    fn tuple(source: &str, destination: &str) -> FiveTuple {
        FiveTuple { source: source.parse().expect("address"), destination: destination.parse().expect("address") }
    }

    fn groups(objects: &TestObjects) -> Vec<(u32, u32, u32, FteMatchSetLyr24)> {
        let requests = objects.firmware.requests.iter().enumerate();
        requests
            .filter(|(_, request)| request.opcode() == Opcode::CREATE_FLOW_GROUP)
            .map(|(n, request)| {
                let input = CreateFlowGroupIn::from_prefix(request.input());
                let mask = input.nested(CreateFlowGroupIn::MATCH_CRITERIA).nested(FteMatchParam::OUTER_HEADERS);
                let enabled = input.get(CreateFlowGroupIn::MATCH_CRITERIA_ENABLE) == 1;
                assert_eq!(enabled, mask != FteMatchSetLyr24::zeroed());
                let (start, end) = (CreateFlowGroupIn::START_FLOW_INDEX, CreateFlowGroupIn::END_FLOW_INDEX);
                (0x100 + n as u32, input.get(start), input.get(end), mask)
            })
            .collect()
    }

    /// (index, group, flow tag, destination, value) of every entry that was set.
    fn entries(objects: &TestObjects) -> Vec<(u32, u32, u32, [u8; 8], FteMatchSetLyr24)> {
        let requests =
            objects.firmware.requests.iter().filter(|request| request.opcode() == Opcode::SET_FLOW_TABLE_ENTRY);
        requests
            .map(|request| {
                let input = SetFteIn::from_prefix(request.input());
                let context = input.nested(SetFteIn::FLOW_CONTEXT);
                assert_eq!((context.get(FlowContext::ACTION), context.get(FlowContext::DESTINATION_LIST_SIZE)), (4, 1));
                let value = context.nested(FlowContext::MATCH_VALUE).nested(FteMatchParam::OUTER_HEADERS);
                let destination = request.input()[SetFteIn::SIZE..].try_into().expect("one destination");
                let (group, tag) = (context.get(FlowContext::GROUP_ID), context.get(FlowContext::FLOW_TAG));
                (input.get(SetFteIn::FLOW_INDEX), group, tag, destination, value)
            })
            .collect()
    }

    #[test]
    fn the_table_goes_from_specific_to_general() {
        let objects = &mut TestObjects::default();
        let steering = steering(objects);
        let ranges: Vec<_> = groups(objects).iter().map(|(_, start, end, _)| (*start, *end)).collect();
        assert_eq!(ranges, [(0, 4), (5, 8), (9, 10), (11, 11)]);
        let table = CreateFlowTableIn::from_prefix(objects.firmware.requests[0].input());
        let context = table.nested(CreateFlowTableIn::FLOW_TABLE_CONTEXT);
        assert_eq!((context.get(FlowTableContext::LOG_SIZE), context.get(FlowTableContext::LEVEL)), (4, 0));
        let defaults = entries(objects);
        assert_eq!(defaults.len(), 2);
        assert_eq!((defaults[0].0, defaults[0].3), (9, [2, 0, 0, 0x92, 0, 0, 0, 0]));
        assert_eq!((defaults[1].0, defaults[1].3), (11, [2, 0, 0, 0x91, 0, 0, 0, 0]));
        assert_eq!(defaults[1].4, FteMatchSetLyr24::zeroed());
        assert_eq!(objects.firmware.opcodes().last(), Some(&Opcode::SET_FLOW_TABLE_ROOT));
        let created = objects.firmware.requests.len();
        steering.destroy(objects, deadline()).expect("destroyed");
        assert!(objects.log.is_empty());
        // Disconnected first.
        let disconnect = &objects.firmware.requests[created];
        assert_eq!((disconnect.opcode(), disconnect.op_mod()), (Opcode::SET_FLOW_TABLE_ROOT, 1));
        assert_eq!(objects.firmware.opcodes().last(), Some(&Opcode::DESTROY_FLOW_TABLE));
    }

    #[test]
    fn a_rule_matches_one_connection() {
        for ip_version in [true, false] {
            let objects = &mut TestObjects::default();
            let caps = SteeringCaps { ip_version, ..caps() };
            let mut steering = Steering::create(objects, &caps, &PARAMS, &DEFAULTS, deadline()).expect("created");
            let v4 = tuple("10.0.0.2:4420", "10.0.0.1:50000");
            let v6 = tuple("[2001:db8::2]:4420", "[2001:db8::1]:50001");
            let rules = [v4, v6].map(|t| steering.add_rule(objects, t, 0x77, 0xabcdef, deadline()).expect("room"));
            assert_eq!(rules[0].tuple(), v4);
            let (all, groups) = (entries(objects), groups(objects));
            for ((n, tuple), group) in [(2, v4), (3, v6)].into_iter().zip(&groups) {
                let (index, number, tag, destination, value) = all[n];
                assert_eq!((number, tag, destination), (group.0, 0xabcdef, [2, 0, 0, 0x77, 0, 0, 0, 0]));
                assert!((group.1..=group.2).contains(&index));
                let mask = group.3;
                let outside = value.bytes().iter().zip(mask.bytes()).filter(|(v, m)| **v & !**m != 0).count();
                assert_eq!(outside, 0, "a value outside its mask never matches");
                let ports = (value.get(FteMatchSetLyr24::TCP_SPORT), value.get(FteMatchSetLyr24::TCP_DPORT));
                assert_eq!(ports, (4420, u32::from(tuple.destination.port())));
                let v6 = tuple.source.is_ipv6();
                let version = (value.get(FteMatchSetLyr24::IP_VERSION), value.get(FteMatchSetLyr24::ETHERTYPE));
                assert_eq!(
                    version,
                    match (ip_version, v6) {
                        (true, false) => (4, 0),
                        (true, true) => (6, 0),
                        (false, false) => (0, 0x0800),
                        (false, true) => (0, 0x86dd),
                    }
                );
                assert_eq!(value.blob(FteMatchSetLyr24::SRC_IPV4_SRC_IPV6), address(tuple.source.ip()));
                assert_eq!(value.blob(FteMatchSetLyr24::DST_IPV4_DST_IPV6), address(tuple.destination.ip()));
                let bits: u32 = mask.bytes().iter().map(|b| b.count_ones()).sum();
                let version_bits = if ip_version { 4 } else { 16 };
                assert_eq!(bits, 8 + 32 + version_bits + if v6 { 256 } else { 64 });
            }
        }
    }

    #[test]
    fn entries_are_used_once_at_a_time() {
        let objects = &mut TestObjects::default();
        let mut steering = steering(objects);
        let connection = |port: u16| tuple("10.0.0.2:4420", &format!("10.0.0.1:{port}"));
        let mut rules: Vec<_> = (1..=5)
            .map(|port| steering.add_rule(objects, connection(port), 0x77, 1, deadline()).expect("room"))
            .collect();
        let mut indices: Vec<_> = rules.iter().map(|rule| rule.index).collect();
        indices.sort_unstable();
        assert_eq!(indices, [0, 1, 2, 3, 4]);
        let full = steering.add_rule(objects, connection(6), 0x77, 1, deadline()).expect_err("full");
        assert!(matches!(full, SteeringError::Full { family: "IPv4", capacity: 5 }), "{full}");
        let gone = rules.remove(2);
        let index = gone.index;
        steering.remove_rule(objects, gone, deadline()).expect("removed");
        assert_eq!(steering.rules(), 4);
        // A rule that firmware refuses leaves its index free and the connection without a rule.
        objects.firmware.refuse = Some(objects.firmware.requests.len());
        steering.add_rule(objects, connection(6), 0x77, 1, deadline()).expect_err("refused");
        assert_eq!(steering.rules(), 4);
        let again = steering.add_rule(objects, connection(6), 0x77, 1, deadline()).expect("room");
        assert_eq!(again.index, index);
        let duplicate = steering.add_rule(objects, connection(1), 0x77, 1, deadline()).expect_err("steered");
        assert!(matches!(duplicate, SteeringError::Duplicate(t) if t == connection(1)));
        // A removal that firmware refuses keeps the index: the entry is still there.
        objects.firmware.refuse = Some(objects.firmware.requests.len());
        steering.remove_rule(objects, again, deadline()).expect_err("refused");
        let full = steering.add_rule(objects, connection(7), 0x77, 1, deadline());
        assert!(matches!(full, Err(SteeringError::Full { .. })));
    }

    #[test]
    fn impossible_rules_are_refused() {
        let objects = &mut TestObjects::default();
        let mut steering = steering(objects);
        let before = objects.firmware.requests.len();
        for (from, to) in [("10.0.0.2:1", "[::1]:2"), ("[::1]:2", "10.0.0.2:1"), ("10.0.0.2:0", "10.0.0.1:1")] {
            let error = steering.add_rule(objects, tuple(from, to), 1, 1, deadline()).expect_err("no connection");
            assert!(matches!(error, SteeringError::NotAConnection { .. }));
        }
        for tag in [0, 0x100_0000] {
            let error = steering.add_rule(objects, tuple("10.0.0.2:1", "10.0.0.1:2"), 1, tag, deadline());
            assert!(matches!(error, Err(SteeringError::FlowTag(t)) if t == tag));
        }
        assert_eq!(objects.firmware.requests.len(), before);
        let huge = SteeringParams { connections_ipv4: 1 << 16, connections_ipv6: 0 };
        let error = Steering::create(objects, &caps(), &huge, &DEFAULTS, deadline()).expect_err("too large");
        assert!(error.to_string().contains("log_max_ft_size is 16"), "{error}");
    }

    #[test]
    fn a_refusal_leaves_nothing() {
        let commands = {
            let objects = &mut TestObjects::default();
            let _ = steering(objects);
            objects.firmware.requests.len()
        };
        for refuse in 0..commands {
            let objects = &mut TestObjects::default();
            objects.firmware.refuse = Some(refuse);
            Steering::create(objects, &caps(), &PARAMS, &DEFAULTS, deadline()).expect_err("refused");
            assert!(objects.log.is_empty(), "command {refuse}: {:?}", objects.log.by_kind());
        }
    }

    #[test]
    fn shares_have_their_own_entries_and_ports() {
        let objects = &mut TestObjects::default();
        let params = SteeringParams { connections_ipv4: 4, connections_ipv6: 0 };
        let share =
            |n: u16| Share { tirn: 0x80 + u32::from(n), ports: Ports { first: 0xc000 + n * 0x1000, log_len: 12 } };
        let shares = [share(0), share(1), share(2)];
        let caps = SteeringCaps::new(&full()).expect("all there");
        let mut steerings = Steering::create_shares(objects, &caps, &params, &shares, deadline()).expect("created");
        let ftes = |objects: &TestObjects| -> Vec<(SetFteIn, Vec<u8>)> {
            let requests = objects.firmware.requests.iter().filter(|r| r.opcode() == Opcode::SET_FLOW_TABLE_ENTRY);
            requests.map(|r| (SetFteIn::from_prefix(r.input()), r.input()[SetFteIn::SIZE..].to_vec())).collect()
        };
        let tirs = |tail: &[u8]| -> Vec<u32> {
            tail.chunks(DestFormat::SIZE).map(|d| DestFormat::from_prefix(d).get(DestFormat::DESTINATION_ID)).collect()
        };
        let port = |fte: &SetFteIn| {
            let value = fte.nested(SetFteIn::FLOW_CONTEXT).nested(FlowContext::MATCH_VALUE);
            value.nested(FteMatchParam::OUTER_HEADERS).get(FteMatchSetLyr24::TCP_DPORT)
        };
        let made = ftes(objects);
        let by_port: Vec<_> = made[..3].iter().map(|(fte, tail)| (port(fte), tirs(tail))).collect();
        assert_eq!(by_port, [(0xc000, vec![0x80]), (0xd000, vec![0x81]), (0xe000, vec![0x82])]);
        // TCP to nobody's port is the first share's; everything else is everybody's.
        assert_eq!(tirs(&made[3].1), [0x80]);
        assert_eq!(tirs(&made.last().expect("the default").1), [0x80, 0x81, 0x82]);
        // Each share fills up on its own, in entries that no other has.
        let mut indices = Vec::new();
        for (n, steering) in steerings.iter_mut().enumerate() {
            for connection in 0..5u16 {
                let tuple = FiveTuple {
                    source: ([10, 0, 0, 2], 4420).into(),
                    destination: ([10, 0, 0, 1], shares[n].ports.first + connection).into(),
                };
                match steering.add_rule(objects, tuple, 0x90, 7, deadline()) {
                    Ok(rule) => indices.push(rule.index),
                    Err(error) => assert!(connection == 4 && matches!(error, SteeringError::Full { capacity: 4, .. })),
                }
            }
        }
        indices.sort_unstable();
        assert_eq!(indices, (0..12).collect::<Vec<_>>());
        assert!(steerings.pop().expect("a share").destroy(objects, deadline()).is_ok(), "the table is not its own");
        assert!(objects.log.len() > 12);
    }
}
