//! Rings and doorbell records out of a running driver.

use super::dump::{Dump, Hex, Item, SectionName};
use crate::platform::Platform;
use crate::queue::{RingKind, RingView};
use crate::shard::Shard;
use hw_regs::cqe::{Cqe64, OffloadCqe};
use hw_regs::doorbell::{CqDoorbellRecord, WqDoorbellRecord};
use hw_regs::eqe::Eqe;
use hw_regs::layout::Layout;
use hw_regs::wqe::WqeDataSeg;

/// Rings at most: of 4000 connections nobody wants to see 8000.
const MAX_RINGS: usize = 64;
/// Entries before and after the place where software is.
const AROUND: u32 = 8;

/// Adds the rings' entries, their doorbell records, or both.
pub(super) fn collect<P: Platform>(shard: &Shard<P>, dump: &mut Dump, sections: &[SectionName]) {
    let events = shard.adapter().own().into_iter().flat_map(|adapter| adapter.event_rings());
    let all = shard.rings().chain(events.map(|(what, view)| (what.to_owned(), view)));
    let mut left_out = 0;
    for (n, (what, view)) in all.enumerate() {
        if n >= MAX_RINGS {
            left_out += 1;
            continue;
        }
        let name = format!("{} {:#x}", view.kind.name(), view.number);
        if sections.contains(&SectionName::Rings) {
            let items = &mut dump.section_mut(SectionName::Rings).items;
            items.push(entries(format!("{name}, {what}"), &view));
        }
        if sections.contains(&SectionName::Doorbells)
            && let Some(record) = view.record
        {
            let layout = match view.kind {
                RingKind::Cq => CqDoorbellRecord::NAME,
                RingKind::Rq | RingKind::Sq | RingKind::Eq => WqDoorbellRecord::NAME,
            };
            let mut bytes = [0; WqDoorbellRecord::SIZE];
            record.read(0, &mut bytes);
            let mut item = Item::new(format!("{name}, {what}"), layout, bytes.len(), &bytes);
            item.facts = facts(&view);
            dump.section_mut(SectionName::Doorbells).items.push(item);
        }
    }
    for section in [SectionName::Rings, SectionName::Doorbells] {
        if left_out != 0 && sections.contains(&section) {
            dump.section_mut(section).notes.push(format!("{left_out} more rings are left out"));
        }
    }
}

fn facts(view: &RingView<'_>) -> std::collections::BTreeMap<String, u64> {
    let mut facts: std::collections::BTreeMap<String, u64> =
        [("entries".into(), view.entries().into()), ("consumer".into(), view.consumer.into())].into();
    if let Some(producer) = view.producer {
        facts.insert("producer".into(), producer.into());
    }
    facts
}

/// The entries around the place where software is: it reads completions and events, so there; it writes work requests, so
/// those that it wrote last.
fn entries(name: String, view: &RingView<'_>) -> Item {
    let count = view.entries().min(2 * AROUND);
    let first = match view.producer {
        Some(producer) => producer.wrapping_sub(count.min(producer)),
        None => view.consumer.wrapping_sub(count.min(AROUND).min(view.consumer)),
    };
    let mut bytes = vec![0; count as usize * view.stride];
    for (n, entry) in bytes.chunks_exact_mut(view.stride).enumerate() {
        let index = first.wrapping_add(n as u32) % view.entries();
        view.memory.read(index as usize * view.stride, entry);
    }
    let layout = match (view.kind, view.stride) {
        (RingKind::Eq, _) => Eqe::NAME,
        (RingKind::Cq, Cqe64::SIZE) => Cqe64::NAME,
        (RingKind::Cq, _) => OffloadCqe::NAME,
        (RingKind::Rq, _) => WqeDataSeg::NAME,
        (RingKind::Sq, _) => "wqe",
    };
    let mut facts = facts(view);
    facts.insert("stride".into(), view.stride as u64);
    facts.insert("first".into(), first.into());
    Item { name, layout: layout.into(), bytes: Hex(bytes), facts, ..Item::default() }
}
