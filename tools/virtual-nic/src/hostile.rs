//! A device that makes use of every right it has: at moments of its own choosing it writes noise into all memory that it
//! may still write. Whatever changes then outside that memory, or after it came back, was given away too early.
//!
//! | what the device may write | from | until |
//! |---|---|---|
//! | buffers of tags | the UMR that binds the tag's key | the UMR that frees it has executed, or DESTROY_MKEY was answered |
//! | receive buffers | the doorbell record that posts the WQE | its completion; or the answer that the queue is in reset, or gone |
//! | firmware pages | MANAGE_PAGES that gives them | the answer that returns them |
//!
//! What a command takes away ends with its *answer*, not with its execution: a command that is never answered takes nothing
//! away. A reset of the function ends everything. Rings, doorbell records and mailboxes are left alone: what is written there
//! is a lie, and those are told by [`Faults::tamper_completions`](crate::Faults::tamper_completions) and the like.

use crate::VirtualNic;
use crate::command_queue::Noise;
use crate::firmware::objects::RESERVED_LKEY;
use crate::mkey::{Access as Way, Cursor, Segment, Span};
use crate::queue::State;
use crate::queue::rq::Rq;
use firmware_iface::Opcode;
use hw_regs::layout::{Access, Layout};
use hw_regs::wqe::WqeDataSeg;
use std::collections::BTreeSet;

/// Bytes of a firmware page.
const PAGE: u32 = 4096;
/// Bytes of noise that all writes are cut from.
const NOISE: usize = 1 << 16;
/// Largest receive WQE that is looked at.
const MAX_WQE: usize = 512;

/// When a hostile device writes, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hostile {
    /// Seed of the moments and of the noise.
    pub seed: u64,
    /// Occasions between two rounds of writing: a random number from 1 to this (0 counts as 1). Occasions are the beginning
    /// and the end of every command, its answer, every doorbell of a send queue, every frame, and every step of time.
    pub every: u32,
    /// Write buffers of bound tags. Their contents are lost: the reads that are under way cannot be compared any more.
    pub bindings: bool,
    /// Write posted receive buffers.
    pub buffers: bool,
    /// Write the pages that firmware holds.
    pub pages: bool,
}

/// What a hostile device has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Rounds of writing.
    pub rounds: u64,
    /// Runs of tag buffers.
    pub bindings: u64,
    /// Runs of receive buffers.
    pub buffers: u64,
    /// Firmware pages.
    pub pages: u64,
    /// Bytes of all these.
    pub bytes: u64,
    /// Runs that were not mapped: the host took memory from the IOMMU that the device still holds.
    pub unmapped: u64,
}

/// Memory that the device may write, by kind.
#[derive(Debug, Default)]
pub(crate) struct Writable {
    bindings: Vec<Segment>,
    buffers: Vec<Segment>,
    pages: Vec<Segment>,
}

/// A hostile device at work.
pub(crate) struct Writer {
    hostile: Hostile,
    random: Noise,
    /// Occasions that pass before the next round.
    wait: u64,
    noise: Vec<u8>,
    /// What commands that are not answered yet take away, by slot.
    doubtful: Vec<(u32, Box<Writable>)>,
    written: Written,
}

impl Writer {
    fn new(hostile: Hostile) -> Writer {
        let mut random = Noise::new(hostile.seed);
        let noise = (0..NOISE / 8).flat_map(|_| random.next().to_le_bytes()).collect();
        Writer { hostile, random, wait: 0, noise, doubtful: Vec::new(), written: Written::default() }
    }
}

/// Commands after which the device holds less.
fn takes_away(opcode: Opcode) -> bool {
    [
        Opcode::MODIFY_RQ,
        Opcode::DESTROY_RQ,
        Opcode::DESTROY_MKEY,
        Opcode::MANAGE_PAGES,
        Opcode::TEARDOWN_HCA,
        Opcode::DISABLE_HCA,
    ]
    .contains(&opcode)
}

impl VirtualNic {
    /// Makes the device hostile, or ends that. What was written so far is forgotten.
    pub fn set_hostile(&mut self, hostile: Option<Hostile>) {
        self.hostile = hostile.map(|hostile| Box::new(Writer::new(hostile)));
    }

    /// What the device has written since it is hostile.
    pub fn written(&self) -> Written {
        self.hostile.as_ref().map(|writer| writer.written).unwrap_or_default()
    }

    /// Writes a round of noise now, if the device is hostile. Returns what this round wrote.
    pub fn write_everywhere(&mut self) -> Written {
        let Some(mut writer) = self.hostile.take() else { return Written::default() };
        let now = self.writable(&writer.hostile);
        let before = writer.written;
        writer.written.rounds += 1;
        let doubtful = std::mem::take(&mut writer.doubtful);
        for writable in doubtful.iter().map(|(_, writable)| &**writable).chain([&now]) {
            writer.written.bindings += writable.bindings.len() as u64;
            writer.written.buffers += writable.buffers.len() as u64;
            writer.written.pages += writable.pages.len() as u64;
            for segment in [&writable.bindings, &writable.buffers, &writable.pages].into_iter().flatten() {
                self.write_noise(&mut writer, *segment);
            }
        }
        writer.doubtful = doubtful;
        let after = writer.written;
        self.hostile = Some(writer);
        Written {
            rounds: 1,
            bindings: after.bindings - before.bindings,
            buffers: after.buffers - before.buffers,
            pages: after.pages - before.pages,
            bytes: after.bytes - before.bytes,
            unmapped: after.unmapped - before.unmapped,
        }
    }

    fn write_noise(&self, writer: &mut Writer, segment: Segment) {
        let mut at = segment.iova;
        let mut left = segment.len as usize;
        while left > 0 {
            let from = writer.random.next() as usize % (NOISE / 2);
            let len = left.min(NOISE / 2);
            match self.host.dma.write(at, &writer.noise[from..from + len]) {
                Ok(()) => writer.written.bytes += len as u64,
                Err(_) => writer.written.unmapped += 1,
            }
            (at, left) = (at + len as u64, left - len);
        }
    }

    /// A moment at which a hostile device may choose to write.
    #[inline]
    pub(crate) fn occasion(&mut self) {
        let Some(writer) = &mut self.hostile else { return };
        if writer.wait > 0 {
            writer.wait -= 1;
            return;
        }
        writer.wait = writer.random.next() % u64::from(writer.hostile.every.max(1));
        // Nothing is written by a function that cannot reach the bus.
        if !self.host.faults.is_gone() {
            self.write_everywhere();
        }
    }

    /// What the device may write before a command that takes something away.
    pub(crate) fn before(&self, opcode: Opcode) -> Option<Box<Writable>> {
        let writer = self.hostile.as_ref().filter(|_| takes_away(opcode))?;
        Some(Box::new(self.writable(&writer.hostile)))
    }

    /// A command was executed: what it took away stays with the device until it is answered.
    pub(crate) fn doubt(&mut self, slot: u32, before: Option<Box<Writable>>) {
        let (Some(mut taken), Some(hostile)) = (before, self.hostile.as_ref().map(|writer| writer.hostile)) else {
            return;
        };
        let after = self.writable(&hostile);
        let without = |taken: &mut Vec<Segment>, kept: Vec<Segment>| {
            let kept: BTreeSet<_> = kept.into_iter().map(|segment| (segment.iova, segment.len)).collect();
            taken.retain(|segment| !kept.contains(&(segment.iova, segment.len)));
        };
        without(&mut taken.bindings, after.bindings);
        without(&mut taken.buffers, after.buffers);
        without(&mut taken.pages, after.pages);
        if let Some(writer) = &mut self.hostile {
            writer.doubtful.push((slot, taken));
        }
    }

    /// The command in a slot is being answered.
    pub(crate) fn trust(&mut self, slot: u32) {
        if let Some(writer) = &mut self.hostile {
            writer.doubtful.retain(|(doubted, _)| *doubted != slot);
        }
    }

    /// The function was reset: it holds nothing.
    pub(crate) fn trust_all(&mut self) {
        if let Some(writer) = &mut self.hostile {
            writer.doubtful.clear();
        }
    }

    /// Everything that the device may write at this moment.
    fn writable(&self, hostile: &Hostile) -> Writable {
        let mut writable = Writable::default();
        if hostile.bindings {
            writable.bindings = self.objects.mkeys.bound_memory();
        }
        if hostile.buffers {
            let queues = self.objects.rqs.iter().filter(|(_, rq)| rq.state != State::Reset);
            queues.for_each(|(_, rq)| self.posted_memory(rq, &mut writable.buffers));
        }
        if hostile.pages {
            let pages = self.firmware.pages.held().iter();
            writable.pages = pages.map(|page| Segment { iova: *page, len: PAGE }).collect();
        }
        writable
    }

    /// The buffers of a receive queue's posted WQEs.
    fn posted_memory(&self, rq: &Rq, out: &mut Vec<Segment>) {
        let Ok(record) = self.host.dma.load_be32(rq.record) else { return };
        let posted = record.wrapping_sub(rq.head) & 0xffff;
        if posted > 1 << rq.log_size {
            return;
        }
        let (mut wqe, mut segments) = ([0; MAX_WQE], Vec::new());
        let wqe = &mut wqe[..(1usize << rq.log_stride).min(MAX_WQE)];
        for index in 0..posted {
            let at = rq.ring.iova(u64::from(rq.head.wrapping_add(index)) << rq.log_stride);
            if self.host.dma.read(at, wqe).is_err() {
                continue;
            }
            for segment in wqe.chunks_exact(WqeDataSeg::SIZE).map(WqeDataSeg::from_prefix) {
                let (key, va) = (segment.get(WqeDataSeg::LKEY), segment.get_wide(WqeDataSeg::ADDR));
                let len = segment.get(WqeDataSeg::BYTE_COUNT_LENGTH);
                if rq.reserved_key && key == RESERVED_LKEY {
                    out.push(Segment { iova: va, len });
                    continue;
                }
                // What cannot be translated (the key that ends a list, for one) cannot be written either.
                let span = Span { key, va, len };
                let mkeys = &self.objects.mkeys;
                if mkeys.translate(span, Way::Write, Some(rq.pd), &mut Cursor::default(), &mut segments).is_ok() {
                    out.append(&mut segments);
                }
            }
        }
    }
}
