//! Rings taken apart: completions, events, work requests.
//!
//! A work request of a send queue is a control segment and what its opcode says follows (`mlx5-bringup.md` §8.4,
//! `nvme-tcp-offload.md` §4.1); an event is a header and what its type says is in its data (`mlx5-bringup.md` §7).

use crate::apart::{Field, Part, part_of};
use crate::meaning;
use connectx_ddp::inspect::Item;
use firmware_iface::command::flow::QueryFteOut;
use firmware_iface::steering::{DestFormat, FlowContext};
use hw_regs::cqe::{Cqe64, CqeOpcode, ErrCqe, OffloadCqe};
use hw_regs::decode::Unnamed;
use hw_regs::eqe::{
    Eqe, EqeCmd, EqeComp, EqeCqErr, EqeObjChange, EqePageReq, EqePortModule, EqePortState, EqeQpSrq, EqeTempWarning,
    EqeVportChange, EventType,
};
use hw_regs::layout::{Access, Layout, LayoutInfo};
use hw_regs::wqe::{
    Klm, ProgressParams, StaticParams, WqeCtrlSeg, WqeDataSeg, WqeEthSeg, WqeMkeySeg, WqeOpcode, WqeUmrCtrlSeg,
};

/// Bytes of a basic block of a send queue, and of a data segment.
const BLOCK: usize = 64;
const DS: usize = 16;
/// `opmod` of a UMR that writes static parameters.
const UMR_STATIC: u32 = 2;
/// Bytes of a packet's headers that the Ethernet segment itself has room for.
const INLINE_START: usize = 2;

/// How the title of an entry ends that the device has not written since the ring began anew: what is there is old.
pub const UNWRITTEN: &str = "not written in this lap";

/// Whose an entry is, as far as the driver's counters tell.
fn state(item: &Item, index: u32) -> &'static str {
    let fact = |name| item.facts.get(name).map(|value| *value as u32);
    let before = |limit: u32| (index.wrapping_sub(limit) as i32) < 0;
    match (fact("consumer"), fact("producer")) {
        (Some(consumer), Some(_)) if before(consumer) => ", done",
        (Some(_), Some(producer)) if before(producer) => ", posted",
        (Some(consumer), None) if before(consumer) => ", read",
        (Some(consumer), None) if index == consumer => ", next",
        _ => "",
    }
}

/// Number of the first entry, and of entries in the whole ring.
fn place(item: &Item) -> (u32, u32) {
    let fact = |name| item.facts.get(name).copied().unwrap_or_default() as u32;
    (fact("first"), fact("entries"))
}

/// Entries of `stride` bytes each.
pub fn ring(item: &Item, layout: &str, stride: u64) -> Vec<Part> {
    let stride = usize::try_from(stride).unwrap_or(usize::MAX).clamp(1, item.bytes.0.len().max(1));
    let (first, entries) = place(item);
    let chunks = item.bytes.0.chunks(stride).enumerate();
    chunks
        .map(|(n, bytes)| {
            let index = first.wrapping_add(n as u32);
            let mut part = entry(layout, bytes);
            part.title = format!("{index}{}{}", state(item, index), part.title);
            if matches!(layout, Cqe64::NAME | OffloadCqe::NAME | Eqe::NAME) && !is_written(bytes, index, entries) {
                part.title = format!("{index}, {UNWRITTEN}");
            }
            part
        })
        .collect()
}

/// True if the device has written an entry in this lap: its owner bit flips with each, and an entry that was never written has
/// an opcode that says so.
fn is_written(bytes: &[u8], index: u32, entries: u32) -> bool {
    let lap = index.checked_div(entries).unwrap_or_default() & 1;
    let last = bytes.last().copied().unwrap_or_default();
    u32::from(last & 1) == lap && last >> 4 != CqeOpcode::INVALID.0
}

/// An entry of a queue by its table, in a title what it is.
pub fn entry(layout: &str, bytes: &[u8]) -> Part {
    match layout {
        Eqe::NAME => event(bytes),
        Cqe64::NAME => completion(bytes, 0, &Cqe64::INFO),
        OffloadCqe::NAME => completion(bytes, BLOCK, &OffloadCqe::INFO),
        layout => crate::apart::part(layout, bytes),
    }
}

/// A completion whose 64-byte entry begins at `base`; one of a failed work request has another table.
fn completion(bytes: &[u8], base: usize, info: &'static LayoutInfo) -> Part {
    let cqe = Cqe64::from_prefix(bytes.get(base..).unwrap_or_default());
    let opcode = CqeOpcode(cqe.get(Cqe64::OP_OWN_OPCODE) as u8);
    let mut part = match opcode {
        CqeOpcode::REQ_ERR | CqeOpcode::RESP_ERR => {
            let mut whole = Composite::new(info.name, bytes);
            whole.add("", base, &ErrCqe::INFO, ErrCqe::SIZE);
            whole.end()
        }
        _ => part_of(info, bytes),
    };
    part.title = format!(": {}", name_of("cqe_opcode", opcode.0));
    part
}

fn event(bytes: &[u8]) -> Part {
    let eqe = Eqe::from_prefix(bytes);
    let kind = EventType(eqe.get(Eqe::TYPE) as u8);
    let data: Option<&LayoutInfo> = match kind {
        EventType::CMD => Some(&EqeCmd::INFO),
        EventType::COMP => Some(&EqeComp::INFO),
        EventType::CQ_ERROR => Some(&EqeCqErr::INFO),
        EventType::SQ_DRAINED
        | EventType::WQ_CATAS_ERROR
        | EventType::WQ_INVAL_REQ_ERROR
        | EventType::WQ_ACCESS_ERROR
        | EventType::SRQ_CATAS_ERROR => Some(&EqeQpSrq::INFO),
        EventType::PORT_CHANGE => Some(&EqePortState::INFO),
        EventType::PAGE_REQUEST => Some(&EqePageReq::INFO),
        EventType::NIC_VPORT_CHANGE => Some(&EqeVportChange::INFO),
        EventType::PORT_MODULE_EVENT => Some(&EqePortModule::INFO),
        EventType::TEMP_WARN_EVENT => Some(&EqeTempWarning::INFO),
        EventType::OBJECT_CHANGE => Some(&EqeObjChange::INFO),
        _ => None,
    };
    let mut part = part_of(&Eqe::INFO, bytes);
    if let (Some(info), Some(at)) = (data, part.fields.iter().position(|field| field.name == "data")) {
        let offset = part.fields[at].offset;
        let begin = offset as usize / 8;
        let inner = part_of(info, bytes.get(begin..begin + info.size).unwrap_or_default());
        let unknown = inner.unnamed.iter().map(|bits| Unnamed { word: bits.word + begin as u32, ..*bits });
        part.unnamed.extend(unknown);
        part.fields.splice(at..=at, inner.fields.into_iter().map(|field| moved(field, "data.", offset)));
    }
    part.title = format!(": {}", name_of("mlx5_event", kind.0));
    part
}

fn name_of(set: &str, value: u8) -> String {
    meaning::named(set, value.into()).unwrap_or_else(|| format!("unknown {value:#x}"))
}

fn moved(field: Field, prefix: &str, offset: u32) -> Field {
    Field { name: format!("{prefix}{}", field.name), offset: field.offset + offset, ..field }
}

/// The answer about a flow table entry: its context, and behind it where packets go.
pub fn flow_table_entry(bytes: &[u8]) -> Part {
    let (context, _) = bytes.split_at(bytes.len().min(QueryFteOut::SIZE));
    let mut whole = Composite::new(QueryFteOut::NAME, bytes);
    whole.add("", 0, &QueryFteOut::INFO, context.len());
    let listed = QueryFteOut::from_prefix(context).nested(QueryFteOut::FLOW_CONTEXT);
    let listed = listed.get(FlowContext::DESTINATION_LIST_SIZE) as usize;
    let there = (bytes.len() - context.len()) / DestFormat::SIZE;
    for n in 0..listed.min(there) {
        let at = QueryFteOut::SIZE + n * DestFormat::SIZE;
        whole.add(&format!("destination[{n}]."), at, &DestFormat::INFO, DestFormat::SIZE);
    }
    whole.end()
}

/// A part that is made of several structures.
struct Composite<'a> {
    part: Part,
    bytes: &'a [u8],
    /// Bytes that some structure covers.
    covered: Vec<bool>,
}

impl<'a> Composite<'a> {
    fn new(layout: &str, bytes: &'a [u8]) -> Composite<'a> {
        let part = Part { layout: layout.to_owned(), bytes: bytes.to_vec(), ..Part::default() };
        Composite { part, bytes, covered: vec![false; bytes.len()] }
    }

    /// Adds a structure of `len` bytes at `at`, as far as it is there. Returns where it ends.
    fn add(&mut self, prefix: &str, at: usize, info: &LayoutInfo, len: usize) -> usize {
        let end = at.saturating_add(len).min(self.bytes.len());
        let Some(bytes) = self.bytes.get(at..end) else { return end };
        self.covered[at..end].fill(true);
        let inner = part_of(info, bytes);
        self.part.short |= inner.short;
        self.part.unnamed.extend(inner.unnamed.iter().map(|bits| Unnamed { word: bits.word + at as u32, ..*bits }));
        self.part.fields.extend(inner.fields.into_iter().map(|field| moved(field, prefix, at as u32 * 8)));
        end
    }

    /// Adds bytes that have no structure.
    fn bytes(&mut self, name: &str, at: usize, end: usize) -> usize {
        let end = end.min(self.bytes.len());
        let Some(bytes) = self.bytes.get(at..end).filter(|bytes| !bytes.is_empty()) else { return at };
        self.covered[at..end].fill(true);
        self.part.fields.push(Field {
            name: name.to_owned(),
            offset: at as u32 * 8,
            width: bytes.len() as u32 * 8,
            content: hw_regs::decode::Content::Bytes(bytes.to_vec()),
            meaning: None,
            maximum: None,
        });
        end
    }

    /// The part, with whatever is set and no structure covers as bits without a name.
    fn end(mut self) -> Part {
        for (at, byte) in self.bytes.iter().enumerate().filter(|(at, _)| !self.covered[*at]) {
            let word = at as u32 / 4 * 4;
            for bit in (0..8).rev().filter(|bit| byte >> bit & 1 != 0) {
                let bit = (3 - at as u32 % 4) * 8 + bit;
                match self.part.unnamed.last_mut() {
                    Some(run) if run.word == word && run.low == bit + 1 => run.low = bit,
                    _ => self.part.unnamed.push(Unnamed { word, high: bit, low: bit }),
                }
            }
        }
        self.part
    }
}

/// Work requests of a send queue. One begins at a block whose control segment names that very block; the blocks before the
/// first such one belong to one that began earlier.
pub fn send_queue(item: &Item) -> Vec<Part> {
    let (first, _) = place(item);
    let blocks = item.bytes.0.len().div_ceil(BLOCK);
    let mut parts = Vec::new();
    let mut block = 0;
    while block < blocks {
        let index = first.wrapping_add(block as u32);
        let rest = item.bytes.0.get(block * BLOCK..).unwrap_or_default();
        let control = WqeCtrlSeg::from_prefix(rest);
        let ds = control.get(WqeCtrlSeg::QPN_DS_DS) as usize;
        let begins = control.get(WqeCtrlSeg::OPMOD_IDX_OPCODE_WQE_INDEX) == index & 0xffff && ds != 0;
        if !begins {
            let bytes = &rest[..rest.len().min(BLOCK)];
            let title = format!("{index}{}: continued, or never written", state(item, index));
            parts.push(Part { title, bytes: bytes.to_vec(), ..Part::default() });
            block += 1;
            continue;
        }
        let bytes = &rest[..rest.len().min(ds * DS)];
        let mut part = work_request(bytes, &control);
        part.short |= bytes.len() < ds * DS;
        part.title = format!("{index}{}: {}", state(item, index), part.title);
        parts.push(part);
        block += ds.div_ceil(BLOCK / DS);
    }
    parts
}

/// One work request.
fn work_request(bytes: &[u8], control: &WqeCtrlSeg) -> Part {
    let opcode = WqeOpcode(control.get(WqeCtrlSeg::OPMOD_IDX_OPCODE_OPCODE) as u8);
    let opmod = control.get(WqeCtrlSeg::OPMOD_IDX_OPCODE_OPMOD);
    let mut whole = Composite::new("wqe", bytes);
    let mut at = whole.add("ctrl.", 0, &WqeCtrlSeg::INFO, WqeCtrlSeg::SIZE);
    match opcode {
        WqeOpcode::SEND | WqeOpcode::SEND_IMM | WqeOpcode::SEND_INVAL | WqeOpcode::LSO => {
            let eth = WqeEthSeg::from_prefix(bytes.get(at..).unwrap_or_default());
            at = whole.add("eth.", at, &WqeEthSeg::INFO, WqeEthSeg::SIZE);
            // The same bits are headers, or a tag that is put in, or a trailer.
            let tag = eth.is_set(WqeEthSeg::INSERT_VLAN_VLAN_INSERT_ENABLE);
            let others = if tag { ["eth.inline_", "eth.trailer"] } else { ["eth.insert_vlan", "eth.trailer"] };
            whole.part.fields.retain(|field| !others.iter().any(|other| field.name.starts_with(other)));
            let inline = eth.get(WqeEthSeg::INLINE_HDR_SZ_SZ_10) as usize;
            let headers = inline.saturating_sub(INLINE_START).next_multiple_of(DS);
            at = whole.bytes("inline_headers", at, at + headers);
            list(&mut whole, "data", at, &WqeDataSeg::INFO);
        }
        WqeOpcode::UMR => {
            at = whole.add("umr.", at, &WqeUmrCtrlSeg::INFO, WqeUmrCtrlSeg::SIZE);
            at = whole.add("mkey.", at, &WqeMkeySeg::INFO, WqeMkeySeg::SIZE);
            match opmod {
                UMR_STATIC => _ = whole.add("static.", at, &StaticParams::INFO, StaticParams::SIZE),
                _ => list(&mut whole, "klm", at, &Klm::INFO),
            }
        }
        WqeOpcode::SET_PSV => _ = whole.add("progress.", at, &ProgressParams::INFO, ProgressParams::SIZE),
        WqeOpcode::NOP => {}
        _ => _ = whole.bytes("segments", at, bytes.len()),
    }
    let mut part = whole.end();
    part.title = name_of("wqe_opcode", opcode.0);
    part
}

/// Structures one after the other up to the end.
fn list(whole: &mut Composite<'_>, name: &str, mut at: usize, info: &LayoutInfo) {
    let mut n = 0;
    while at < whole.bytes.len() {
        at = whole.add(&format!("{name}[{n}]."), at, info, info.size);
        n += 1;
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | a send ring is cut into its work requests, each by the structures of its opcode | `work_requests_are_found` |
    //! | events and completions get the table of their kind, and entries of another lap say so | `entries_have_their_kind` |
    use super::*;
    use connectx_ddp::inspect::Hex;

    fn item(layout: &str, stride: u64, bytes: Vec<u8>, facts: &[(&str, u64)]) -> Item {
        let mut item = Item { layout: layout.into(), bytes: Hex(bytes), ..Item::default() };
        item.facts.insert("stride".into(), stride);
        item.facts.extend(facts.iter().map(|(name, value)| ((*name).to_owned(), *value)));
        item
    }

    fn control(index: u32, opcode: WqeOpcode, opmod: u32, ds: u32) -> [u8; 16] {
        WqeCtrlSeg::zeroed()
            .with(WqeCtrlSeg::OPMOD_IDX_OPCODE, opmod << 24 | index << 8 | u32::from(opcode.0))
            .with(WqeCtrlSeg::QPN_DS, 0x77 << 8 | ds)
            .0
    }

    fn value(part: &Part, name: &str) -> String {
        let field = part.fields.iter().find(|field| field.name == name);
        format!("{:?}", field.unwrap_or_else(|| panic!("no {name}: {part:?}")).content)
    }

    #[test]
    fn work_requests_are_found() {
        let mut ring = vec![0; 8 * BLOCK];
        let mut put = |block: usize, at: usize, bytes: &[u8]| {
            ring[block * BLOCK + at..][..bytes.len()].copy_from_slice(bytes);
        };
        // Block 10 continues something; 11 sends with 18 bytes of headers and a data segment; 12 binds two pieces; 15 is new.
        put(0, 0, &[0xaa; 64]);
        put(1, 0, &control(11, WqeOpcode::SEND, 0, 4));
        put(1, 16, &WqeEthSeg::zeroed().with(WqeEthSeg::INLINE_HDR_SZ, 18).0);
        put(1, 32, &[0xbb; 16]);
        put(1, 48, &WqeDataSeg::zeroed().with(WqeDataSeg::BYTE_COUNT_LENGTH, 1460).0);
        put(2, 0, &control(12, WqeOpcode::UMR, 0, 10));
        put(2, 128, &Klm::zeroed().with(Klm::BCOUNT, 4096).0);
        put(2, 144, &Klm::zeroed().with(Klm::BCOUNT, 512).0);
        put(5, 0, &control(15, WqeOpcode::SET_PSV, 4, 2));
        put(5, 16, &ProgressParams::zeroed().with(ProgressParams::NEXT_PDU_TCP_SN, 7).0);
        put(6, 0, &control(16, WqeOpcode::UMR, 2, 12));
        let item = item("wqe", 64, ring, &[("first", 10), ("consumer", 12), ("producer", 17)]);
        let parts = send_queue(&item);
        let titles: Vec<_> = parts.iter().map(|part| &part.title[..]).collect();
        assert_eq!(
            titles,
            [
                "10, done: continued, or never written",
                "11, done: SEND",
                "12, posted: UMR",
                "15, posted: SET_PSV",
                "16, posted: UMR"
            ]
        );
        assert_eq!(value(&parts[1], "data[0].byte_count.length"), "Number(1460)");
        assert_eq!(value(&parts[1], "inline_headers"), format!("Bytes({:?})", [0xbb; 16]));
        assert_eq!(value(&parts[2], "klm[1].bcount"), "Number(512)");
        assert_eq!(value(&parts[3], "progress.next_pdu_tcp_sn"), "Number(7)");
        assert!(parts[4].short, "the ring's part ends before it does");
        assert!(parts[1..].iter().all(|part| part.unnamed.is_empty()), "{parts:?}");
    }

    #[test]
    fn entries_have_their_kind() {
        let mut entries = vec![0; 3 * 64];
        entries[..64].copy_from_slice(&Cqe64::zeroed().with(Cqe64::OP_OWN_OPCODE, 2).0);
        entries[64..128]
            .copy_from_slice(&ErrCqe::zeroed().with(ErrCqe::OP_OWN_OPCODE, 0xd).with(ErrCqe::SYNDROME, 4).0);
        entries[2 * 64 + 63] = 0xf1;
        let cq = item(Cqe64::NAME, 64, entries, &[("first", 0), ("entries", 4), ("consumer", 1)]);
        let parts = ring(&cq, Cqe64::NAME, 64);
        let titles: Vec<_> = parts.iter().map(|part| &part.title[..]).collect();
        assert_eq!(titles, ["0, read: RESP_SEND", "1, next: REQ_ERR", "2, not written in this lap"]);
        let syndrome = parts[1].fields.iter().find(|field| field.name == "syndrome").expect("it has one");
        assert_eq!(syndrome.meaning.as_deref(), Some("LOCAL_PROT_ERR"));

        let mut page = EqePageReq::zeroed().with(EqePageReq::NUM_PAGES, 9).0.to_vec();
        page.resize(28, 0);
        let mut eqe = Eqe::zeroed().with(Eqe::TYPE, u32::from(EventType::PAGE_REQUEST.0));
        eqe.blob_mut(Eqe::DATA).copy_from_slice(&page);
        let eq = item(Eqe::NAME, 64, eqe.0.to_vec(), &[("first", 4), ("entries", 4), ("consumer", 4)]);
        assert_eq!(ring(&eq, Eqe::NAME, 64)[0].title, "4, not written in this lap");
        let eq = Item { facts: [("first".to_owned(), 8), ("entries".to_owned(), 4)].into(), ..eq };
        let parts = ring(&eq, Eqe::NAME, 64);
        assert_eq!(parts[0].title, "8: PAGE_REQUEST");
        assert_eq!(value(&parts[0], "data.num_pages"), "Number(9)");
    }
}
