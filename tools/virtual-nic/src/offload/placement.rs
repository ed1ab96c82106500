//! Which run of a packet is placed, and the placing.

use super::behaviour::{Behaviour, Reaction};
use super::settle::Settling;
use super::{OffloadCounters, Run, TagBufferTables, Unplaced, WhichRun};
use crate::dma::DmaSpace;
use crate::mkey::{Mkeys, Segment, write_segments};

/// The choice of the run of one packet that is placed, and the placing.
pub(super) struct Placement<'a> {
    pub(super) which: WhichRun,
    pub(super) behaviour: &'a Behaviour,
    pub(super) tables: &'a mut TagBufferTables,
    pub(super) settling: &'a mut Settling,
    pub(super) mkeys: &'a Mkeys,
    pub(super) dma: &'a DmaSpace,
    /// The run chosen so far; `chosen` holds where it goes.
    pub(super) best: Option<Run>,
    /// Why no run of this packet is placed.
    pub(super) closed: Option<Unplaced>,
    pub(super) chosen: &'a mut Vec<Segment>,
    pub(super) candidate: &'a mut Vec<Segment>,
}

impl Placement<'_> {
    /// Offers a run of C2HData payload (`hole` counted from the start of the payload). Returns what an unusable tag
    /// leads to beyond this run, with the reason.
    #[inline]
    pub(super) fn offer(
        &mut self,
        run: Run,
        table: Option<u32>,
        counters: &mut OffloadCounters,
    ) -> Option<(Unplaced, Reaction)> {
        if let Some(reason) = self.closed {
            leave(counters, reason, run.len);
            return None;
        }
        let Some(table) = table else {
            leave(counters, Unplaced::Disabled, run.len);
            return None;
        };
        let better = match (self.which, &self.best) {
            (_, None) | (WhichRun::Last, _) => true,
            (WhichRun::First, Some(_)) => false,
            (WhichRun::Longest, Some(best)) => run.len > best.len,
        };
        if !better {
            leave(counters, Unplaced::OtherRun, run.len);
            return None;
        }
        let translated = self.tables.translate(table, &run, self.settling, self.mkeys, self.candidate);
        if let Err(reason) = translated {
            leave(counters, reason, run.len);
            let reaction = self.reaction(reason);
            return (reaction != Reaction::Ring).then_some((reason, reaction));
        }
        // All of it must be reachable before any of it is written: what is not reported as placed is not touched.
        if self.candidate.iter().any(|s| self.dma.check_write(s.iova, s.len as usize).is_err()) {
            leave(counters, Unplaced::Unmapped, run.len);
            return None;
        }
        if let Some(old) = self.best.replace(run) {
            leave(counters, Unplaced::OtherRun, old.len);
        }
        std::mem::swap(self.chosen, self.candidate);
        None
    }

    /// Nothing of this packet is placed, what was chosen neither.
    pub(super) fn close(&mut self, reason: Unplaced, counters: &mut OffloadCounters) {
        if let Some(old) = self.best.take() {
            leave(counters, reason, old.len);
        }
        self.closed = Some(reason);
    }

    /// Writes the chosen run.
    pub(super) fn finish(self, payload: &[u8], counters: &mut OffloadCounters) -> Option<Run> {
        let run = self.best?;
        let bytes = &payload[run.hole as usize..][..run.len as usize];
        if write_segments(self.chosen, bytes, self.dma).is_err() {
            leave(counters, Unplaced::Unmapped, run.len);
            return None;
        }
        counters.packets_placed += 1;
        counters.bytes_placed += u64::from(run.len);
        Some(run)
    }

    fn reaction(&self, reason: Unplaced) -> Reaction {
        match reason {
            Unplaced::Free | Unplaced::Settling => self.behaviour.free_key,
            Unplaced::NoTag => self.behaviour.unknown_tag,
            Unplaced::TagLength | Unplaced::KeyLength => self.behaviour.overflow,
            _ => Reaction::Ring,
        }
    }
}

/// Counts data that stays in the ring.
pub(super) fn leave(counters: &mut OffloadCounters, reason: Unplaced, len: u32) {
    *counters.bytes_unplaced.entry(reason).or_default() += u64::from(len);
}
