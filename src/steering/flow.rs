//! The root flow table: its groups, its default entries, and a rule per connection.

use super::{SteeringCaps, SteeringError};
use crate::adapter::Handle;
use crate::command::{CommandError, ObjectKind, Request};
use crate::platform::Deadline;
use crate::queue::Objects;
use firmware_iface::command::flow::{
    CreateFlowGroupIn, CreateFlowTableIn, DeleteFteIn, DestroyFlowGroupIn, DestroyFlowTableIn, SetFlowTableRootIn,
    SetFteIn,
};
use firmware_iface::steering::{
    DestFormat, FlowAction, FlowContext, FlowDestinationType, FlowTableContext, FlowTableType, FteMatchParam,
    FteMatchSetLyr24, MatchCriteria,
};
use hw_regs::layout::{Access, Layout};
use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// IP protocol number of TCP.
const TCP: u32 = 6;
/// Entries for TCP over each IP version that no five-tuple matched.
const TCP_DEFAULTS: u32 = 2;

/// A TCP connection as received packets show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FiveTuple {
    /// Where packets come from: the remote end.
    pub source: SocketAddr,
    /// Where they go to: this end.
    pub destination: SocketAddr,
}

impl fmt::Display for FiveTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TCP {} to {}", self.source, self.destination)
    }
}

/// Addresses as the match fields carry them: IPv4 in the last 4 of 16 bytes.
fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[12..].copy_from_slice(&ip.octets());
            bytes
        }
    }
}

/// What an entry or a group of the table matches on.
#[derive(Clone, Copy, Debug)]
enum Match {
    Connection(FiveTuple),
    Tcp { ipv6: bool },
    Anything,
}

impl Match {
    fn value(self, caps: &SteeringCaps) -> FteMatchSetLyr24 {
        let tcp = |ipv6: bool| {
            let outer = FteMatchSetLyr24::zeroed().with(FteMatchSetLyr24::IP_PROTOCOL, TCP);
            match caps.ip_version {
                true => outer.with(FteMatchSetLyr24::IP_VERSION, if ipv6 { 6 } else { 4 }),
                false => outer.with(FteMatchSetLyr24::ETHERTYPE, if ipv6 { 0x86dd } else { 0x0800 }),
            }
        };
        match self {
            Match::Anything => FteMatchSetLyr24::zeroed(),
            Match::Tcp { ipv6 } => tcp(ipv6),
            Match::Connection(tuple) => {
                let mut outer = tcp(tuple.source.is_ipv6())
                    .with(FteMatchSetLyr24::TCP_SPORT, tuple.source.port().into())
                    .with(FteMatchSetLyr24::TCP_DPORT, tuple.destination.port().into());
                let source = address(tuple.source.ip());
                let destination = address(tuple.destination.ip());
                outer.blob_mut(FteMatchSetLyr24::SRC_IPV4_SRC_IPV6).copy_from_slice(&source);
                outer.blob_mut(FteMatchSetLyr24::DST_IPV4_DST_IPV6).copy_from_slice(&destination);
                outer
            }
        }
    }
}

/// Masks of the groups: which bits of a packet are compared.
#[derive(Clone, Copy, Debug)]
enum Mask {
    Connections { ipv6: bool },
    Tcp,
    Nothing,
}

impl Mask {
    fn outer(self, caps: &SteeringCaps) -> FteMatchSetLyr24 {
        let tcp = || {
            let outer = FteMatchSetLyr24::zeroed().with(FteMatchSetLyr24::IP_PROTOCOL, 0xff);
            match caps.ip_version {
                true => outer.with(FteMatchSetLyr24::IP_VERSION, 0xf),
                false => outer.with(FteMatchSetLyr24::ETHERTYPE, 0xffff),
            }
        };
        match self {
            Mask::Nothing => FteMatchSetLyr24::zeroed(),
            Mask::Tcp => tcp(),
            Mask::Connections { ipv6 } => {
                let mut outer =
                    tcp().with(FteMatchSetLyr24::TCP_SPORT, 0xffff).with(FteMatchSetLyr24::TCP_DPORT, 0xffff);
                let from = if ipv6 { 0 } else { 12 };
                outer.blob_mut(FteMatchSetLyr24::SRC_IPV4_SRC_IPV6)[from..].fill(0xff);
                outer.blob_mut(FteMatchSetLyr24::DST_IPV4_DST_IPV6)[from..].fill(0xff);
                outer
            }
        }
    }

    fn criteria(self) -> u8 {
        match self {
            Mask::Nothing => 0,
            _ => MatchCriteria::OUTER_HEADERS.0,
        }
    }
}

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

/// A range of entries with one mask.
#[derive(Debug)]
struct Group {
    handle: Handle,
    family: &'static str,
    capacity: u32,
    free: Vec<u32>,
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

/// Receive steering of a function.
#[derive(Debug)]
pub struct Steering {
    caps: SteeringCaps,
    table: Handle,
    /// Everything else that was created, in that order: default groups and their entries, the root.
    rest: Vec<Handle>,
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
        let rules = params.connections_ipv4.saturating_add(params.connections_ipv6).saturating_add(TCP_DEFAULTS + 1);
        let log_size = rules.checked_next_power_of_two().map_or(32, u32::trailing_zeros);
        caps.check(log_size, rules).map_err(|missing| SteeringError::Unsupported { missing })?;
        let table = create_table(objects, log_size, deadline)?;
        let empty = HashSet::new();
        let mut steering = Steering { caps: *caps, table, rest: Vec::new(), ipv4: None, ipv6: None, steered: empty };
        match steering.populate(objects, params, defaults, deadline) {
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
        params: &SteeringParams,
        defaults: &Defaults,
        deadline: Deadline,
    ) -> Result<(), SteeringError> {
        let mut next = 0;
        for (ipv6, family, capacity) in
            [(false, "IPv4", params.connections_ipv4), (true, "IPv6", params.connections_ipv6)]
        {
            if capacity == 0 {
                continue;
            }
            let handle = self.create_group(objects, Mask::Connections { ipv6 }, next, capacity, deadline)?;
            // The lowest index first.
            let group = Group { handle, family, capacity, free: (next..next + capacity).rev().collect() };
            *(if ipv6 { &mut self.ipv6 } else { &mut self.ipv4 }) = Some(group);
            next += capacity;
        }
        let tcp = [(false, defaults.tcp_ipv4), (true, defaults.tcp_ipv6)];
        if tcp.iter().any(|(_, tirn)| tirn.is_some()) {
            let group = self.create_group(objects, Mask::Tcp, next, TCP_DEFAULTS, deadline)?;
            let number = group.number();
            self.rest.push(group);
            for (index, (ipv6, tirn)) in tcp.into_iter().enumerate() {
                if let Some(tirn) = tirn {
                    let entry = Entry { group: number, index: next + index as u32, tirn, flow_tag: 0 };
                    let handle = self.set_entry(objects, &entry, Match::Tcp { ipv6 }, deadline)?;
                    self.rest.push(handle);
                }
            }
            next += TCP_DEFAULTS;
        }
        let group = self.create_group(objects, Mask::Nothing, next, 1, deadline)?;
        let entry = Entry { group: group.number(), index: next, tirn: defaults.other, flow_tag: 0 };
        self.rest.push(group);
        let handle = self.set_entry(objects, &entry, Match::Anything, deadline)?;
        self.rest.push(handle);
        let root = self.set_root(objects, deadline)?;
        self.rest.push(root);
        Ok(())
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
        let entry = Entry { group: group.handle.number(), index, tirn, flow_tag };
        match self.set_entry(objects, &entry, Match::Connection(tuple), deadline) {
            Ok(handle) => {
                self.steered.insert(tuple);
                Ok(RuleId { handle, index, tuple })
            }
            Err(error) => {
                // After a missed deadline the entry may exist: its index is not used again.
                if !error.may_still_run() {
                    self.release(tuple, index);
                }
                Err(error.into())
            }
        }
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
        self.steered.remove(&tuple);
        self.release(tuple, index);
        Ok(())
    }

    /// Rules in force.
    pub fn rules(&self) -> usize {
        self.steered.len()
    }

    /// Makes the entry of a connection available again.
    fn release(&mut self, tuple: FiveTuple, index: u32) {
        let group = if tuple.source.is_ipv6() { &mut self.ipv6 } else { &mut self.ipv4 };
        if let Some(group) = group {
            group.free.push(index);
        }
    }

    /// Disconnects the table and destroys it. Rules must be gone; the first refusal is returned, and what was refused
    /// stays in the log.
    pub fn destroy(mut self, objects: &mut impl Objects, deadline: Deadline) -> Result<(), CommandError> {
        let groups = [self.ipv6.take(), self.ipv4.take()].into_iter().flatten().map(|group| group.handle);
        let handles = self.rest.into_iter().rev().chain(groups).chain([self.table]);
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
            .with(CreateFlowGroupIn::TABLE_ID, self.table.number())
            .with(CreateFlowGroupIn::START_FLOW_INDEX, start)
            .with(CreateFlowGroupIn::END_FLOW_INDEX, start + len - 1)
            .with(CreateFlowGroupIn::MATCH_CRITERIA_ENABLE, mask.criteria().into())
            .with_nested(CreateFlowGroupIn::MATCH_CRITERIA, &criteria);
        let table = self.table.number();
        let destroy = |group| {
            let input = DestroyFlowGroupIn::zeroed()
                .with(DestroyFlowGroupIn::TABLE_TYPE, FlowTableType::NIC_RX.0.into())
                .with(DestroyFlowGroupIn::TABLE_ID, table)
                .with(DestroyFlowGroupIn::GROUP_ID, group);
            Request::new(&input)
        };
        let request = Request::new(&input).creates(ObjectKind::FlowGroup);
        Ok(objects.create(ObjectKind::FlowGroup, &request, destroy, &[], deadline)?.0)
    }

    fn set_entry(
        &self,
        objects: &mut impl Objects,
        entry: &Entry,
        packets: Match,
        deadline: Deadline,
    ) -> Result<Handle, CommandError> {
        let value = FteMatchParam::zeroed().with_nested(FteMatchParam::OUTER_HEADERS, &packets.value(&self.caps));
        let context = FlowContext::zeroed()
            .with(FlowContext::GROUP_ID, entry.group)
            .with(FlowContext::FLOW_TAG, entry.flow_tag)
            .with(FlowContext::ACTION, FlowAction::FWD_DEST.0)
            .with(FlowContext::DESTINATION_LIST_SIZE, 1)
            .with_nested(FlowContext::MATCH_VALUE, &value);
        let destination = DestFormat::zeroed()
            .with(DestFormat::DESTINATION_TYPE, FlowDestinationType::TIR.0.into())
            .with(DestFormat::DESTINATION_ID, entry.tirn);
        let input = SetFteIn::zeroed()
            .with(SetFteIn::TABLE_TYPE, FlowTableType::NIC_RX.0.into())
            .with(SetFteIn::TABLE_ID, self.table.number())
            .with(SetFteIn::FLOW_INDEX, entry.index)
            .with_nested(SetFteIn::FLOW_CONTEXT, &context);
        let delete = DeleteFteIn::zeroed()
            .with(DeleteFteIn::TABLE_TYPE, FlowTableType::NIC_RX.0.into())
            .with(DeleteFteIn::TABLE_ID, self.table.number())
            .with(DeleteFteIn::FLOW_INDEX, entry.index);
        let request = Request::new(&input).tail(destination.bytes()).about(ObjectKind::FlowTableEntry, entry.index);
        let destroy = |_| Request::new(&delete);
        Ok(objects.create(ObjectKind::FlowTableEntry, &request, destroy, &[], deadline)?.0)
    }

    fn set_root(&self, objects: &mut impl Objects, deadline: Deadline) -> Result<Handle, CommandError> {
        let root = SetFlowTableRootIn::zeroed()
            .with(SetFlowTableRootIn::TABLE_TYPE, FlowTableType::NIC_RX.0.into())
            .with(SetFlowTableRootIn::TABLE_ID, self.table.number());
        let disconnect = root.with(SetFlowTableRootIn::OP_MOD, 1);
        let request = Request::new(&root).about(ObjectKind::FlowTableRoot, self.table.number());
        let destroy = |_| Request::new(&disconnect);
        Ok(objects.create(ObjectKind::FlowTableRoot, &request, destroy, &[], deadline)?.0)
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
    let request = Request::new(&input).creates(ObjectKind::FlowTable);
    Ok(objects.create(ObjectKind::FlowTable, &request, destroy, &[], deadline)?.0)
}
