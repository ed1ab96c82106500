//! Episodes without framing: from the packet that reveals that a header is missing to the next byte placed. For whoever
//! measures; nothing in the device depends on it.

use super::Tracker;
use std::collections::VecDeque;

/// Episodes that are kept until somebody takes them; then the oldest makes room.
const KEPT: usize = 1 << 16;

/// One episode of one context. Packets are those of the connection that carry payload, retransmissions among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Episode {
    /// TIR of the context.
    pub tirn: u32,
    /// Packets from the one that revealed the loss, that one included, until one of which a run was placed.
    pub packets: u32,
    /// Of these, those until the last request was made, that one included.
    pub asked: u32,
    /// Of these, those until the confirmation that counted.
    pub confirmed: u32,
    /// Requests for confirmation.
    pub requests: u32,
    /// Requests that were made while an earlier one was neither confirmed nor dropped.
    pub overlapping: u32,
}

/// The episode of a context, while there is one.
#[derive(Debug, Default)]
pub(super) struct Open {
    episode: Option<Episode>,
    /// A request was made, and its guess has not been dropped.
    waiting: bool,
}

impl Open {
    /// A packet was processed that left the tracker in this state. `drops`: it proved a guess wrong or worthless.
    #[inline]
    pub(super) fn packet(&mut self, after: Tracker, drops: bool, asks: bool) {
        if after == Tracker::Offloading && self.episode.is_none() {
            return;
        }
        self.count(drops, asks);
    }

    #[cold]
    fn count(&mut self, drops: bool, asks: bool) {
        // The loss of a header after the confirmation and before a byte was placed belongs to the same episode.
        let episode = self.episode.get_or_insert_default();
        episode.packets += 1;
        self.waiting &= !drops;
        if asks {
            (episode.asked, episode.confirmed) = (episode.packets, 0);
            episode.requests += 1;
            episode.overlapping += u32::from(std::mem::replace(&mut self.waiting, true));
        }
    }

    /// A confirmation counted.
    pub(super) fn confirmed(&mut self) {
        self.waiting = false;
        if let Some(episode) = &mut self.episode {
            episode.confirmed = episode.packets;
        }
    }

    /// A run was placed.
    #[inline]
    pub(super) fn placed(&mut self) -> Option<Episode> {
        self.episode.take()
    }
}

/// Episodes that are over.
#[derive(Debug, Default)]
pub(super) struct Log {
    episodes: VecDeque<Episode>,
    /// Those that nobody took in time.
    forgotten: u64,
}

impl Log {
    #[cold]
    pub(super) fn push(&mut self, tirn: u32, episode: Episode) {
        if self.episodes.len() >= KEPT {
            self.episodes.pop_front();
            self.forgotten += 1;
        }
        self.episodes.push_back(Episode { tirn, ..episode });
    }

    /// The episodes that ended since the last call, oldest first, and how many were forgotten since the beginning.
    pub(super) fn take(&mut self) -> (Vec<Episode>, u64) {
        (self.episodes.drain(..).collect(), self.forgotten)
    }
}
