//! What a device must do with packets that are missing, doubled, late or cut anew, computed from what each byte of the
//! stream is ([`Stream::what`]) and where something looks like a header ([`Stream::places`]), never by parsing.
//!
//! Positions count from the start of the stream. The rules are those of `nvme-tcp-offload.md` §6.2 and §6.3 and of the
//! switches: a hole costs the framing exactly if a byte of a header is in it.

use super::stream::{Byte, Stream, choose};
use super::*;
use std::collections::VecDeque;

/// What must happen to a packet. A run's `hole` counts from the start of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) placed: Option<Run>,
    /// As if digests were checked.
    pub(super) vouched: bool,
    /// Position that a request names.
    pub(super) resync: Option<usize>,
    pub(super) bypass: Option<Bypass>,
}

impl Expected {
    fn nothing(reason: Bypass) -> Expected {
        Expected { placed: None, vouched: false, resync: None, bypass: Some(reason) }
    }
}

/// The framing is known.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// No byte of data or digest of the current PDU is missing.
    whole: bool,
    /// The header of the current PDU was seen with the framing known.
    begun: bool,
    /// Data of the current PDU may be placed.
    places: bool,
    after_hole: bool,
    flag_due: bool,
    /// A header that was being followed without confirmation has all bytes that matter, but was not judged.
    overdue: bool,
    /// Header bytes before this position were read in a late packet, whether or not they come again.
    read: usize,
}

impl Known {
    /// A header was seen, and nothing of its PDU is missing yet.
    const AT_HEADER: Known =
        Known { whole: true, begun: true, places: true, after_hole: false, flag_due: false, overdue: false, read: 0 };
}

#[derive(Clone, Debug)]
struct Guess {
    first: usize,
    /// The header that is followed, and whether it was judged.
    at: usize,
    judged: bool,
    named: usize,
    headers: u32,
    packets: u32,
    tracked: VecDeque<usize>,
    asks: bool,
}

#[derive(Clone, Debug)]
enum State {
    Known(Known),
    Guess(Guess),
    /// What was kept begins here and ends at the expected byte.
    Lost(Option<usize>),
}

pub(super) struct Oracle<'a> {
    stream: &'a Stream,
    behaviour: Behaviour,
    which: WhichRun,
    expected: usize,
    state: State,
    /// Gaps inside PDUs, framings lost.
    pub(super) holes: u64,
    pub(super) lost: u64,
    /// Confirmations that counted, and those that did not.
    pub(super) confirmed: u64,
    pub(super) stale: u64,
}

/// A byte of data or of its digest.
fn is_data(what: Byte) -> bool {
    !matches!(what, Byte::Plain | Byte::Header | Byte::HeaderEnd)
}

/// What a place looks like, as far as bytes before `to` tell.
enum Looks {
    Header,
    Cut,
    Nothing,
}

impl<'a> Oracle<'a> {
    pub(super) fn new(stream: &'a Stream, behaviour: Behaviour, which: WhichRun) -> Oracle<'a> {
        Oracle {
            stream,
            behaviour,
            which,
            expected: 0,
            state: State::Known(Known::AT_HEADER),
            holes: 0,
            lost: 0,
            confirmed: 0,
            stale: 0,
        }
    }

    /// The next byte in order.
    pub(super) fn expected(&self) -> usize {
        self.expected
    }

    pub(super) fn tracker(&self) -> Tracker {
        match self.state {
            State::Known(_) => Tracker::Offloading,
            State::Guess(_) => Tracker::Tracking,
            State::Lost(_) => Tracker::Searching,
        }
    }

    fn lose(&mut self) {
        self.lost += u64::from(matches!(self.state, State::Known(_)));
        self.state = State::Lost(None);
    }

    /// The packet that carries `[from, to)` arrives. `fits` tells if a run can be placed.
    pub(super) fn receive(&mut self, from: usize, to: usize, fits: impl Fn(&Run) -> bool) -> Expected {
        let begin = if from >= self.expected {
            from
        } else if self.behaviour.overlap == Overlap::NewTail && to > self.expected {
            self.expected
        } else {
            if self.behaviour.search_late && matches!(self.state, State::Lost(_)) {
                self.look_back(from, to);
            }
            return Expected { resync: self.request(), ..Expected::nothing(Bypass::Early) };
        };
        if begin > self.expected {
            self.gap(begin);
        }
        self.expected = to;
        if let State::Guess(guess) = &mut self.state {
            guess.packets += 1;
            if self.behaviour.request_limit.is_some_and(|limit| guess.packets >= limit.get()) {
                self.lose();
            }
        }
        match self.state.clone() {
            State::Known(known) => self.process(known, from, begin, to, fits),
            State::Guess(_) => {
                self.follow(begin, to);
                Expected { resync: self.request(), ..Expected::nothing(Bypass::Unconfirmed) }
            }
            State::Lost(kept) => {
                self.search(kept, begin, to);
                self.follow(begin, to);
                Expected { resync: self.request(), ..Expected::nothing(Bypass::Searching) }
            }
        }
    }

    fn gap(&mut self, to: usize) {
        let from = self.expected;
        let missing = &self.stream.what[from..to];
        let read = if let State::Known(known) = &self.state { known.read } else { 0 };
        let unread = &self.stream.what[from.max(read).min(to)..to];
        let headers = unread.iter().any(|what| matches!(what, Byte::Header | Byte::HeaderEnd));
        match &mut self.state {
            State::Known(known) if !headers && !known.overdue => {
                known.whole &= !missing.iter().any(|what| is_data(*what));
                known.after_hole = true;
                known.places &= self.behaviour.hole == HoleRule::Continue;
                self.holes += 1;
            }
            State::Guess(guess) if guess.judged && to <= guess.at + self.stream.places[&guess.at].plen as usize => {
                let end = guess.at + self.stream.places[&guess.at].plen as usize;
                if to == end {
                    (guess.at, guess.judged) = (end, false);
                }
            }
            _ => self.lose(),
        }
    }

    /// Bytes with the framing known.
    fn process(
        &mut self,
        mut known: Known,
        from: usize,
        begin: usize,
        to: usize,
        fits: impl Fn(&Run) -> bool,
    ) -> Expected {
        let mut clean = begin == from;
        let forced = std::mem::take(&mut known.flag_due);
        let (mut has_data, mut skipped) = (false, false);
        // PDUs whose data may be placed.
        let mut places = Vec::new();
        for at in begin..to {
            let what = self.stream.what[at];
            let ends_header = what == Byte::HeaderEnd && at >= known.read;
            if ends_header || std::mem::take(&mut known.overdue) {
                skipped |= known.after_hole && self.behaviour.header_packet == HeaderPacket::Ring;
                known = Known::AT_HEADER;
            }
            match what {
                Byte::Plain | Byte::Header | Byte::HeaderEnd => continue,
                Byte::Data { pdu, .. } if known.places => places.push(pdu),
                Byte::Data { .. } | Byte::Digest => {}
                Byte::RightDigest | Byte::WrongDigest if known.whole => clean &= what == Byte::RightDigest,
                Byte::RightDigest | Byte::WrongDigest => clean &= self.behaviour.unverified == Unverified::LatePacket,
            }
            has_data = true;
            clean &= known.begun && (known.whole || self.behaviour.unverified != Unverified::EveryPacket);
        }
        self.state = State::Known(known);
        let runs = self.stream.runs(begin, to).into_iter().filter(|(pdu, _)| places.contains(pdu));
        let runs = runs.map(|(_, run)| run).filter(|run| !skipped && fits(run));
        let placed = choose(runs, self.which).map(|run| Run { hole: run.hole + (begin - from) as u32, ..run });
        let clean = clean && !skipped && (has_data || self.behaviour.flag_without_data);
        Expected { placed, vouched: clean || forced, resync: None, bypass: None }
    }

    /// Headers up to `to`, without confirmation.
    fn follow(&mut self, begin: usize, to: usize) {
        while let State::Guess(guess) = &mut self.state {
            let place = self.stream.places.get(&guess.at);
            let (needs, good) = place.map_or((8, false), |place| place.judged(self.behaviour.pattern));
            if !guess.judged && guess.at + needs > to {
                return;
            }
            let (Some(place), true) = (place, good) else {
                let next = begin.max(guess.at + 1);
                self.lose();
                if self.behaviour.search == SearchRule::Anywhere {
                    self.search(None, next, to);
                }
                continue;
            };
            if !std::mem::replace(&mut guess.judged, true) {
                let named = self.behaviour.named(guess.at);
                guess.tracked.push_front(named);
                guess.tracked.truncate(TRACKED_HEADERS);
                if guess.at != guess.first {
                    guess.headers += 1;
                    let again = match self.behaviour.repeat {
                        Repeat::Once => false,
                        Repeat::EveryHeader => true,
                        Repeat::EveryN(n) => guess.headers % n.get() == 0,
                    };
                    if again {
                        (guess.named, guess.packets, guess.asks) = (named, 0, true);
                    }
                }
            }
            let end = guess.at + place.plen as usize;
            if end > to {
                return;
            }
            (guess.at, guess.judged) = (end, false);
        }
    }

    fn looks(&self, at: usize, to: usize) -> Looks {
        match self.stream.places.get(&at) {
            Some(place) => {
                let (needs, good) = place.judged(self.behaviour.pattern);
                let needs = if self.behaviour.pattern == Pattern::TypeAndLength { 8 } else { needs };
                match (at + needs <= to, good) {
                    (false, _) => Looks::Cut,
                    (true, true) => Looks::Header,
                    (true, false) => Looks::Nothing,
                }
            }
            None => {
                let bytes = &self.stream.bytes[at..to.min(at + 8)];
                let hlen = match bytes.first() {
                    Some(1) => 128,
                    Some(3 | 5 | 7 | 9) => 24,
                    _ => return Looks::Nothing,
                };
                let possible = bytes.len() < 8 && bytes.get(2).is_none_or(|byte| *byte == hlen);
                if possible { Looks::Cut } else { Looks::Nothing }
            }
        }
    }

    fn search(&mut self, kept: Option<usize>, begin: usize, to: usize) {
        let mut cut = None;
        let candidates: Vec<usize> = match self.behaviour.search {
            SearchRule::Anywhere => (kept.unwrap_or(begin)..to).collect(),
            SearchRule::StartOfPacket => kept.into_iter().chain((begin < to).then_some(begin)).collect(),
        };
        for at in candidates {
            match self.looks(at, to) {
                Looks::Nothing => {}
                Looks::Cut => cut = cut.or(Some(at)),
                Looks::Header => {
                    self.state = State::Guess(Guess {
                        first: at,
                        at,
                        judged: false,
                        named: self.behaviour.named(at),
                        headers: 0,
                        packets: 0,
                        tracked: VecDeque::new(),
                        asks: true,
                    });
                    return;
                }
            }
        }
        self.state = State::Lost(cut.filter(|_| self.behaviour.keep_partial_header));
    }

    /// A late packet is searched for the header of a PDU that has begun and is not over.
    fn look_back(&mut self, from: usize, to: usize) {
        let places = if self.behaviour.search == SearchRule::Anywhere { from..to } else { from..(from + 1).min(to) };
        for first in places {
            let Some(place) = self.stream.places.get(&first) else { continue };
            let (needs, good) = place.judged(self.behaviour.pattern);
            let end = first + place.plen as usize;
            if !good || first + needs > to || first > self.expected || end < self.expected {
                continue;
            }
            let named = self.behaviour.named(first);
            let judged = end > self.expected;
            let at = if judged { first } else { end };
            let (tracked, asks) = (VecDeque::from([named]), true);
            self.state = State::Guess(Guess { first, at, judged, named, headers: 0, packets: 0, tracked, asks });
            return;
        }
    }

    fn request(&mut self) -> Option<usize> {
        match &mut self.state {
            State::Guess(guess) => std::mem::take(&mut guess.asks).then_some(guess.named),
            _ => None,
        }
    }

    /// Software confirms a position, which is not the start of the sequence space.
    pub(super) fn confirm(&mut self, position: usize) {
        let State::Guess(guess) = &self.state else {
            self.stale += 1;
            return;
        };
        let any = self.behaviour.confirm == ConfirmRule::Tracked;
        if position != guess.named && !(any && guess.tracked.contains(&position)) {
            self.stale += 1;
            return;
        }
        self.confirmed += 1;
        let overdue = !guess.judged
            && self.stream.places.get(&guess.at).is_some_and(|place| self.expected >= guess.at + place.header);
        self.state = State::Known(Known {
            whole: false,
            begun: false,
            places: self.behaviour.resume == ResumeRule::NextPacket,
            after_hole: false,
            flag_due: self.behaviour.first_flag == FirstFlag::WronglySet,
            overdue,
            read: if guess.judged { guess.at + self.stream.places[&guess.at].header } else { 0 },
        });
    }
}

impl Behaviour {
    /// Which byte a request for a header names.
    fn named(&self, header: usize) -> usize {
        header + if self.resync_byte == ResyncByte::Last { 23 } else { 0 }
    }
}
