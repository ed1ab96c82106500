//! Which commands are executed for a dump, and what of their answers is kept. All of them only ask.

use super::dump::{Dump, Item, SectionName, trimmed};
use crate::adapter::ObjectLog;
use crate::command::{CommandError, ObjectKind, Output, Request};
use firmware_iface::caps::{CapGroup, CapMode, CmdHcaCap, GROUPS};
use firmware_iface::command::device::{
    QueryAdapterIn, QueryHcaCapIn, QueryHcaCapOut, QueryIssiIn, QuerySpecialContextsIn,
};
use firmware_iface::command::flow::{
    DeleteFteIn, DestroyFlowGroupIn, DestroyFlowTableIn, QueryFlowGroupIn, QueryFlowTableIn, QueryFteIn, QueryFteOut,
};
use firmware_iface::command::object::{QueryCqIn, QueryEqIn, QueryMkeyIn, QueryQCounterIn};
use firmware_iface::command::queue::{QueryRqIn, QueryRqtIn, QueryRqtOut, QuerySqIn, QueryTirIn, QueryTisIn};
use firmware_iface::command::vport::{
    QueryNicVportContextIn, QueryNicVportContextOut, QueryVportCounterIn, QueryVportStateIn,
};
use firmware_iface::command::{Command, OutHeader};
use firmware_iface::context::RqNum;
use firmware_iface::port_counters::PpcntGroup;
use firmware_iface::register::{
    AccessRegisterIn, AccessRegisterOut, MtmpReg, PaosReg, PcapReg, PcmrReg, PddrReg, PmtuReg, PpcntReg, PtysReg,
    RegisterId,
};
use firmware_iface::steering::DestFormat;
use firmware_iface::vport::{MacAddressLayout, VportListType};
use hw_regs::layout::{Access, Layout, LayoutInfo};
use std::collections::BTreeMap;

/// The only port of a function.
const LOCAL_PORT: u32 = 1;
/// `PTYS.proto_mask`: Ethernet.
const PTYS_ETHERNET: u32 = 1 << 2;
/// `PDDR.page_select`: what is wrong with the link.
const PDDR_TROUBLESHOOTING: u32 = 1;
/// Objects of a kind that are asked about; of memory keys, of which there are a hundred for each connection, fewer.
const PER_KIND: usize = 32;
const MKEYS: usize = 8;
/// Entries of a list behind a structure that are asked for at most.
const LIST: usize = 64;
/// log2 of it.
const LOG_LIST: u32 = 6;

/// A command, and where its answer goes.
#[derive(Debug)]
pub(super) struct Question {
    pub section: SectionName,
    pub name: String,
    pub request: Request,
    /// Byte of the answer at which what is kept begins.
    at: usize,
    layout: &'static LayoutInfo,
    /// It is the maximum of a capability group, whose current values are an item already.
    maximum: bool,
}

impl Question {
    /// One whose whole answer is kept.
    fn new<C: Command>(section: SectionName, name: impl Into<String>, input: &C) -> Question {
        let (name, request) = (name.into(), Request::new(input));
        Question { section, name, request, at: 0, layout: &C::Output::INFO, maximum: false }
    }

    /// With a list of `count` entries of `bytes` bytes behind the answer.
    fn with_list<C: Command>(self, count: usize, bytes: usize) -> Question {
        Question { request: self.request.output_len(C::Output::SIZE + count * bytes), ..self }
    }

    /// A register of the port.
    fn register<R: Layout>(section: SectionName, name: impl Into<String>, id: RegisterId, ask: &R) -> Question {
        let input = AccessRegisterIn::zeroed()
            .with(AccessRegisterIn::OP_MOD, 1)
            .with(AccessRegisterIn::REGISTER_ID, u32::from(id.0));
        let request = Request::new(&input).tail(ask.bytes()).output_len(AccessRegisterOut::SIZE + R::SIZE);
        let (name, at) = (name.into(), AccessRegisterOut::REGISTER_DATA);
        Question { section, name, request, at, layout: &R::INFO, maximum: false }
    }

    /// Keeps the answer, or why there is none.
    pub fn answered(&self, outcome: Result<Output, CommandError>, dump: &mut Dump) {
        let items = &mut dump.section_mut(self.section).items;
        match outcome {
            Ok(output) if self.maximum => {
                let bytes = trimmed(self.layout.size, output.tail(self.at));
                if let Some(item) = items.iter_mut().find(|item| item.name == self.name) {
                    item.maximum = Some(bytes);
                }
            }
            Ok(output) => items.push(Item::new(&self.name, self.layout.name, self.layout.size, output.tail(self.at))),
            Err(error) => {
                let what = if self.maximum { format!("{}, maximum", self.name) } else { self.name.clone() };
                items.push(Item::failed(what, refusal(&error)));
            }
        }
    }
}

/// Why there is no answer, without the function, which the dump names once.
fn refusal(error: &CommandError) -> String {
    format!("{}: {}", error.opcode, error.fault)
}

/// The question that says what else can be asked.
pub(super) fn general() -> Question {
    capability(CapGroup::GENERAL, "GENERAL", &CmdHcaCap::INFO, CapMode::Current)
}

fn capability(group: CapGroup, name: &str, layout: &'static LayoutInfo, mode: CapMode) -> Question {
    let input = QueryHcaCapIn::zeroed().with(QueryHcaCapIn::OP_MOD, u32::from(group.query_op_mod(mode)));
    let mut question = Question::new(SectionName::Caps, name, &input);
    (question.at, question.layout) = (OutHeader::SIZE, layout);
    question.maximum = mode == CapMode::Maximum;
    question
}

/// Everything that is asked of a function with these general capabilities, `objects` being those of the driver that runs.
/// What is not asked is noted in the dump.
pub(super) fn all(
    sections: &[SectionName],
    general: &CmdHcaCap,
    objects: Option<&ObjectLog>,
    dump: &mut Dump,
) -> Vec<Question> {
    let mut questions = Vec::new();
    for section in sections {
        match section {
            SectionName::Caps => capabilities(general, dump, &mut questions),
            SectionName::Ports => ports(&mut questions),
            SectionName::Vport => vport(general, &mut questions),
            SectionName::Counters => counters(objects, dump, &mut questions),
            SectionName::Objects => {
                if let Some(objects) = objects {
                    known_objects(objects, dump, &mut questions);
                }
            }
            SectionName::Pci
            | SectionName::Init
            | SectionName::Health
            | SectionName::Rings
            | SectionName::Doorbells => {}
        }
    }
    questions
}

fn capabilities(general: &CmdHcaCap, dump: &mut Dump, questions: &mut Vec<Question>) {
    const SECTION: SectionName = SectionName::Caps;
    questions.push(Question::new(SECTION, "ISSI", &QueryIssiIn::zeroed()));
    questions.push(Question::new(SECTION, "adapter", &QueryAdapterIn::zeroed()));
    questions.push(Question::new(SECTION, "special contexts", &QuerySpecialContextsIn::zeroed()));
    let mut absent = Vec::new();
    for info in GROUPS {
        if !info.is_advertised(general) {
            absent.push(info.name());
            continue;
        }
        // Without a table the bytes are shown.
        let layout = info.layout.unwrap_or(&QueryHcaCapOut::INFO);
        for mode in [CapMode::Current, CapMode::Maximum] {
            let mut question = capability(info.group, info.name(), layout, mode);
            if info.layout.is_none() {
                question.at = 0;
            }
            questions.push(question);
        }
    }
    if !absent.is_empty() {
        dump.section_mut(SECTION)
            .notes
            .push(format!("groups that the function does not announce: {}", absent.join(", ")));
    }
}

fn ports(questions: &mut Vec<Question>) {
    const SECTION: SectionName = SectionName::Ports;
    let paos = PaosReg::zeroed().with(PaosReg::LOCAL_PORT, LOCAL_PORT);
    let pmtu = PmtuReg::zeroed().with(PmtuReg::LOCAL_PORT, LOCAL_PORT);
    let ptys = PtysReg::zeroed().with(PtysReg::LOCAL_PORT, LOCAL_PORT).with(PtysReg::PROTO_MASK, PTYS_ETHERNET);
    let pcap = PcapReg::zeroed().with(PcapReg::LOCAL_PORT, LOCAL_PORT);
    let pcmr = PcmrReg::zeroed().with(PcmrReg::LOCAL_PORT, LOCAL_PORT);
    let pddr = PddrReg::zeroed().with(PddrReg::LOCAL_PORT, LOCAL_PORT).with(PddrReg::PAGE_SELECT, PDDR_TROUBLESHOOTING);
    questions.extend([
        Question::register(SECTION, "PAOS", RegisterId::PAOS, &paos),
        Question::register(SECTION, "PMTU", RegisterId::PMTU, &pmtu),
        Question::register(SECTION, "PTYS", RegisterId::PTYS, &ptys),
        Question::register(SECTION, "PCAP", RegisterId::PCAP, &pcap),
        Question::register(SECTION, "PCMR", RegisterId::PCMR, &pcmr),
        Question::register(SECTION, "PDDR, troubleshooting page", RegisterId::PDDR, &pddr),
        Question::register(SECTION, "MTMP, sensor 0", RegisterId::MTMP, &MtmpReg::zeroed()),
    ]);
}

fn vport(general: &CmdHcaCap, questions: &mut Vec<Question>) {
    const SECTION: SectionName = SectionName::Vport;
    let list = 1 << general.get(CmdHcaCap::LOG_MAX_CURRENT_UC_LIST).min(LOG_LIST);
    let context = QueryNicVportContextIn::zeroed()
        .with(QueryNicVportContextIn::ALLOWED_LIST_TYPE, u32::from(VportListType::UC.0));
    let mut context = Question::new(SECTION, "NIC vport context", &context)
        .with_list::<QueryNicVportContextIn>(list, MacAddressLayout::SIZE);
    context.at = QueryNicVportContextOut::NIC_VPORT_CONTEXT.byte_offset();
    context.layout = &firmware_iface::vport::NicVportContext::INFO;
    questions.extend([
        context,
        Question::new(SECTION, "state", &QueryVportStateIn::zeroed()),
        Question::new(SECTION, "counters", &QueryVportCounterIn::zeroed()),
    ]);
}

fn counters(objects: Option<&ObjectLog>, dump: &mut Dump, questions: &mut Vec<Question>) {
    const SECTION: SectionName = SectionName::Counters;
    for (group, layout) in PpcntGroup::DESCRIBED {
        let ask = PpcntReg::zeroed().with(PpcntReg::LOCAL_PORT, LOCAL_PORT).with(PpcntReg::GRP, u32::from(group.0));
        let name = format!("PPCNT {}", group.name().unwrap_or("unknown"));
        let mut question = Question::register(SECTION, name, RegisterId::PPCNT, &ask);
        question.at += PpcntReg::SIZE - layout.size;
        question.layout = layout;
        questions.push(question);
    }
    let sets = objects.into_iter().flat_map(ObjectLog::iter).filter(|(kind, ..)| *kind == ObjectKind::QueueCounter);
    let before = questions.len();
    questions.extend(sets.take(PER_KIND).map(|(kind, number, _)| {
        let input = QueryQCounterIn::zeroed().with(QueryQCounterIn::COUNTER_SET_ID, number);
        Question::new(SECTION, format!("{kind} {number:#x}"), &input)
    }));
    if questions.len() == before {
        dump.section_mut(SECTION).notes.push("there is no queue counter: nobody has allocated one".into());
    }
}

/// What the driver has, in the order of creation; the first of each kind.
fn known_objects(objects: &ObjectLog, dump: &mut Dump, questions: &mut Vec<Question>) {
    let mut seen: BTreeMap<ObjectKind, usize> = BTreeMap::new();
    for (kind, number, destroy) in objects.iter() {
        let seen = seen.entry(kind).or_default();
        *seen += 1;
        if *seen > most(kind) {
            continue;
        }
        match about(kind, number, &destroy) {
            Some(question) => questions.push(question),
            // Firmware cannot be asked about it, or nobody has described how.
            None => {
                let mut item = Item { name: format!("{kind} {number:#x}"), ..Item::default() };
                item.facts.insert("number".into(), number.into());
                dump.section_mut(SectionName::Objects).items.push(item);
            }
        }
    }
    let notes = &mut dump.section_mut(SectionName::Objects).notes;
    for (kind, seen) in seen {
        if seen > most(kind) {
            notes.push(format!("{kind}: the first {} of {seen} are shown", most(kind)));
        }
    }
    if objects.unknown() != 0 {
        notes.push(format!("{} creations got no answer: such an object may exist", objects.unknown()));
    }
}

fn most(kind: ObjectKind) -> usize {
    if kind == ObjectKind::Mkey { MKEYS } else { PER_KIND }
}

/// The command that asks about an object. What it belongs to is in the command that would destroy it.
fn about(kind: ObjectKind, number: u32, destroy: &Request) -> Option<Question> {
    const SECTION: SectionName = SectionName::Objects;
    let name = format!("{kind} {number:#x}");
    Some(match kind {
        ObjectKind::Eq => Question::new(SECTION, name, &QueryEqIn::zeroed().with(QueryEqIn::EQ_NUMBER, number & 0xff)),
        ObjectKind::Cq => Question::new(SECTION, name, &QueryCqIn::zeroed().with(QueryCqIn::CQN, number)),
        ObjectKind::Mkey => Question::new(SECTION, name, &QueryMkeyIn::zeroed().with(QueryMkeyIn::MKEY_INDEX, number)),
        ObjectKind::Tis => Question::new(SECTION, name, &QueryTisIn::zeroed().with(QueryTisIn::TISN, number)),
        ObjectKind::Sq => Question::new(SECTION, name, &QuerySqIn::zeroed().with(QuerySqIn::SQN, number)),
        ObjectKind::Rq => Question::new(SECTION, name, &QueryRqIn::zeroed().with(QueryRqIn::RQN, number)),
        ObjectKind::Tir => Question::new(SECTION, name, &QueryTirIn::zeroed().with(QueryTirIn::TIRN, number)),
        ObjectKind::Rqt => {
            let question = Question::new(SECTION, name, &QueryRqtIn::zeroed().with(QueryRqtIn::RQTN, number));
            let request = question.request.output_len(QueryRqtOut::SIZE + LIST * RqNum::SIZE);
            Question { request, ..question }
        }
        ObjectKind::QueueCounter => {
            let input = QueryQCounterIn::zeroed().with(QueryQCounterIn::COUNTER_SET_ID, number);
            Question::new(SECTION, name, &input)
        }
        ObjectKind::FlowTable => {
            let of = DestroyFlowTableIn::from_prefix(destroy.input());
            let input = QueryFlowTableIn::zeroed()
                .with(QueryFlowTableIn::TABLE_TYPE, of.get(DestroyFlowTableIn::TABLE_TYPE))
                .with(QueryFlowTableIn::TABLE_ID, number);
            Question::new(SECTION, name, &input)
        }
        ObjectKind::FlowGroup => {
            let of = DestroyFlowGroupIn::from_prefix(destroy.input());
            let table = of.get(DestroyFlowGroupIn::TABLE_ID);
            let input = QueryFlowGroupIn::zeroed()
                .with(QueryFlowGroupIn::TABLE_TYPE, of.get(DestroyFlowGroupIn::TABLE_TYPE))
                .with(QueryFlowGroupIn::TABLE_ID, table)
                .with(QueryFlowGroupIn::GROUP_ID, number);
            Question::new(SECTION, format!("{name} of table {table:#x}"), &input)
        }
        ObjectKind::FlowTableEntry => {
            let of = DeleteFteIn::from_prefix(destroy.input());
            let table = of.get(DeleteFteIn::TABLE_ID);
            let input = QueryFteIn::zeroed()
                .with(QueryFteIn::TABLE_TYPE, of.get(DeleteFteIn::TABLE_TYPE))
                .with(QueryFteIn::TABLE_ID, table)
                .with(QueryFteIn::FLOW_INDEX, of.get(DeleteFteIn::FLOW_INDEX));
            let question = Question::new(SECTION, format!("{name} of table {table:#x}"), &input);
            let request = question.request.output_len(QueryFteOut::SIZE + 8 * DestFormat::SIZE);
            Question { request, ..question }
        }
        ObjectKind::Uar
        | ObjectKind::Pd
        | ObjectKind::TransportDomain
        | ObjectKind::FlowTableRoot
        | ObjectKind::L2TableEntry
        | ObjectKind::TagBufferTable => return None,
    })
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | a dump executes the commands that it is said to execute and no other, and none that changes anything | `only_questions_are_asked` |
    use super::*;
    use crate::inspect::COMMANDS;
    use crate::inspect::dump::Source;
    use crate::platform::Identity;
    use firmware_iface::Opcode;
    use firmware_iface::command::InHeader;

    #[test]
    fn only_questions_are_asked() {
        let identity = Identity { address: "test".into(), vendor: 0, device: 0 };
        let mut dump = Dump::new(Source::Idle, &identity);
        let everything = CmdHcaCap([0xff; CmdHcaCap::SIZE]);
        let questions = all(SectionName::ALL, &everything, Some(&ObjectLog::default()), &mut dump);
        assert!(questions.len() > 60, "{}", questions.len());
        for question in questions.iter().chain([&general()]) {
            let request = &question.request;
            let name = request.opcode().name().expect("a name");
            assert!(COMMANDS.contains(&request.opcode()), "{name} is not in the list that people are told");
            match request.opcode() {
                Opcode::ACCESS_REG => {
                    assert_eq!(InHeader::from_prefix(request.input()).get(InHeader::OP_MOD), 1, "reads");
                }
                _ => assert!(name.starts_with("QUERY_"), "{name}"),
            }
        }
    }
}
