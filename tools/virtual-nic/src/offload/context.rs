//! The offload context of one TIR: its parameters, and which packets it looks at.
//!
//! ```text
//!            progress parameters                      gap over a header,
//!                 │                                   header that cannot be
//!                 ▼              ┌──────────────────────────────────────────────────┐
//!        ┌───► START ────────────┘                                                  ▼
//!        │   PDUs followed, data placed,      header that does not match,      SEARCHING ◄─┐
//!        │   gap inside a PDU: a hole         gap over a header          ┌────►  every     │ no match
//!        │                                                               │      packet ────┘
//!        │ confirmation                  TRACKING ───────────────────────┘         │
//!        └────────────────────────────── PLEN followed, ◄──────────────────────────┘
//!                                        nothing placed        match: resync request
//! ```
//!
//! A packet before the expected byte changes nothing in any state. Which of the transitions hardware makes differently is
//! in [`behaviour`](super::behaviour).

use super::behaviour::{
    Behaviour, ConfirmRule, FirstFlag, HoleRule, Inconsistent, Overlap, Repeat, ResumeRule, ResyncByte, TRACKED_HEADERS,
};
use super::episode::Open;
use super::pdu::{DATA_HEADER, DIGEST, DataHeader, LONGEST_HEADER, Rules};
use super::placement::Placement;
use super::walk::Walk;
use super::{Bypass, OffloadCounters, OffloadFault, Unplaced};
use crc_fast::{CrcAlgorithm, Digest};
use hw_regs::layout::Access as _;
use hw_regs::wqe::{ProgressParams, StaticParams};
use std::collections::VecDeque;

/// State of the PDU tracker (`pdu_tracker_state`, `nvme-tcp-offload.md` §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracker {
    /// START (0): the framing is known, payload is placed.
    Offloading,
    /// TRACKING (1): a header was guessed and PLEN is followed, nothing is placed until software confirms.
    Tracking,
    /// SEARCHING (2): the framing is lost.
    Searching,
}

/// Where a context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// TCP sequence number of the next PDU header: of the one being received, if it is not complete. While searching, of
    /// the last that was known.
    pub next_pdu_tcp_sn: u32,
    /// TCP sequence number of the next byte in order.
    pub expected: u32,
    /// State.
    pub tracker: Tracker,
    /// The sequence number whose confirmation is awaited (`hw_resync_tcp_sn`).
    pub awaited: Option<u32>,
}

/// Static parameters, decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) zero_copy: bool,
    pub(super) check_data_digest: bool,
    pub(super) data_digest: bool,
    pub(super) header_digest: bool,
}

impl Options {
    /// What headers are judged by in a state.
    pub(super) fn rules(&self, tracker: Tracker, behaviour: &Behaviour) -> Rules {
        let known = tracker == Tracker::Offloading;
        Rules {
            header_digest: self.header_digest,
            data_digest: self.data_digest,
            tolerant: behaviour.inconsistent == Inconsistent::Deliver,
            pattern: (!known).then_some((behaviour.pattern, behaviour.longest_guess)),
        }
    }
}

/// Place in the current PDU.
#[derive(Clone, Copy, Debug)]
pub(super) enum Position {
    /// In a header that is not complete: the first `have` bytes of it.
    Header { have: usize, bytes: [u8; LONGEST_HEADER] },
    /// Behind the part of the header that matters, `at` bytes from the start of the PDU.
    Body { at: u32, plen: u32, data: Option<Data> },
}

/// Data of the current C2HData PDU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Data {
    pub(super) header: DataHeader,
    /// Bytes of the digest field received so far.
    pub(super) digest: [u8; DIGEST as usize],
}

pub(super) const NEW_PDU: Position = Position::Header { have: 0, bytes: [0; LONGEST_HEADER] };

/// What the CRC covers of the data of the current PDU so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hashed {
    /// All.
    Whole,
    /// All but holes.
    Holes,
    /// Nothing: its header was not known when it came.
    Nothing,
}

/// The end of a packet that may be the start of a header.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    pub(super) len: usize,
    pub(super) bytes: [u8; LONGEST_HEADER],
}

/// A guessed header, and what followed it.
#[derive(Debug, Default)]
struct Guess {
    /// The header that was guessed first.
    first: u32,
    /// The sequence number that the last request named.
    remembered: u32,
    /// Headers behind the first.
    headers: u32,
    /// Packets since the last request.
    packets: u32,
    /// What a request for each header since the first would name, for [`ConfirmRule::Tracked`].
    tracked: VecDeque<u32>,
    /// The packet at hand makes a request.
    asks: bool,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) tracker: Tracker,
    pub(super) expected: u32,
    /// TCP sequence number of the first byte of the current PDU.
    pub(super) pdu_start: u32,
    pub(super) position: Position,
    /// Why the data of the current PDU stays in the ring.
    pub(super) unplaced: Option<Unplaced>,
    pub(super) hashed: Hashed,
    /// No header was complete since the last hole.
    pub(super) after_hole: bool,
    /// The next packet has its digest flag set whatever the digests are.
    pub(super) flag_due: bool,
    pub(super) kept: Kept,
    guess: Guess,
}

impl Stream {
    fn new(tracker: Tracker, next: u32) -> Stream {
        Stream {
            tracker,
            expected: next,
            pdu_start: next,
            position: NEW_PDU,
            unplaced: None,
            hashed: Hashed::Nothing,
            after_hole: false,
            flag_due: false,
            kept: Kept::default(),
            guess: Guess::default(),
        }
    }

    /// `gap` bytes are missing. Inside a PDU the next header is known by length; anywhere else the framing is lost.
    #[cold]
    fn skip(&mut self, gap: u32, behaviour: &Behaviour, counters: &mut OffloadCounters) {
        match &mut self.position {
            _ if self.tracker == Tracker::Searching => self.kept.len = 0,
            Position::Body { at, plen, data } if gap <= *plen - *at => {
                *at += gap;
                // Software may take data as verified if no byte of data or digest was late: header digest and padding,
                // which it does not ask about, must not cost the verification.
                let costs_data = data.as_ref().is_some_and(|data| *at > data.header.pdo);
                if costs_data && self.hashed == Hashed::Whole {
                    self.hashed = Hashed::Holes;
                }
                if self.tracker == Tracker::Offloading {
                    counters.holes += 1;
                    self.after_hole = true;
                    if behaviour.hole == HoleRule::Stop {
                        self.unplaced.get_or_insert(Unplaced::Hole);
                    }
                }
                self.end_pdu(counters);
            }
            _ => self.lose(counters),
        }
    }

    /// Goes on to the next PDU if this one is complete.
    #[inline]
    pub(super) fn end_pdu(&mut self, counters: &mut OffloadCounters) {
        if let Position::Body { at, plen, .. } = self.position
            && at == plen
        {
            self.pdu_start = self.pdu_start.wrapping_add(plen);
            self.position = NEW_PDU;
            counters.pdus += u64::from(self.tracker == Tracker::Offloading);
        }
    }

    /// The framing is lost.
    #[cold]
    pub(super) fn lose(&mut self, counters: &mut OffloadCounters) {
        match self.tracker {
            Tracker::Offloading => counters.lost += 1,
            Tracker::Tracking => counters.guesses_dropped += 1,
            Tracker::Searching => {}
        }
        *self = Stream { expected: self.expected, ..Stream::new(Tracker::Searching, self.pdu_start) };
    }

    /// One more packet comes without confirmation.
    fn wait(&mut self, behaviour: &Behaviour, counters: &mut OffloadCounters) {
        self.guess.packets = self.guess.packets.saturating_add(1);
        if behaviour.request_limit.is_some_and(|limit| self.guess.packets >= limit.get()) {
            self.lose(counters);
        }
    }

    /// A header was guessed at `start`.
    pub(super) fn guess(&mut self, start: u32, behaviour: &Behaviour, counters: &mut OffloadCounters) {
        counters.guesses += 1;
        self.tracker = Tracker::Tracking;
        self.pdu_start = start;
        self.guess = Guess { first: start, ..Guess::default() };
        self.ask(behaviour);
    }

    /// The current PDU's header is what software is to confirm.
    fn ask(&mut self, behaviour: &Behaviour) {
        self.guess.remembered = named(self.pdu_start, behaviour);
        self.guess.packets = 0;
        self.guess.asks = true;
    }

    /// The header of the current PDU, which nobody has confirmed, is complete.
    pub(super) fn tracked(&mut self, behaviour: &Behaviour) {
        if behaviour.confirm == ConfirmRule::Tracked {
            self.guess.tracked.truncate(TRACKED_HEADERS - 1);
            self.guess.tracked.push_front(named(self.pdu_start, behaviour));
        }
        if self.pdu_start == self.guess.first {
            return;
        }
        self.guess.headers = self.guess.headers.wrapping_add(1);
        let again = match behaviour.repeat {
            Repeat::Once => false,
            Repeat::EveryHeader => true,
            Repeat::EveryN(n) => self.guess.headers.is_multiple_of(n.get()),
        };
        if again {
            self.ask(behaviour);
        }
    }

    /// The request that the packet at hand makes: not one whose guess it has itself proved wrong.
    pub(super) fn request(&mut self) -> Option<u32> {
        let asks = self.tracker == Tracker::Tracking && std::mem::take(&mut self.guess.asks);
        asks.then_some(self.guess.remembered)
    }

    /// Software says that a header begins at `sequence`. True if that is what was asked.
    fn confirm(&mut self, sequence: u32, behaviour: &Behaviour, counters: &mut OffloadCounters) -> bool {
        let awaited = self.tracker == Tracker::Tracking
            && (self.guess.remembered == sequence
                || behaviour.confirm == ConfirmRule::Tracked && self.guess.tracked.contains(&sequence));
        if !awaited {
            // Zero is what parameters hold that confirm nothing.
            counters.confirmations_stale += u64::from(sequence != 0);
            return false;
        }
        counters.confirmations += 1;
        self.tracker = Tracker::Offloading;
        self.guess = Guess::default();
        self.hashed = Hashed::Nothing;
        self.flag_due = behaviour.first_flag == FirstFlag::WronglySet;
        self.unplaced = (behaviour.resume == ResumeRule::NextPdu).then_some(Unplaced::Resuming);
        true
    }
}

/// What a request for a header at `start` names.
fn named(start: u32, behaviour: &Behaviour) -> u32 {
    match behaviour.resync_byte {
        ResyncByte::First => start,
        ResyncByte::Last => start.wrapping_add(DATA_HEADER as u32 - 1),
    }
}

/// What a context did with a packet, besides placing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// All of it was understood and every digest in it is right.
    pub(super) clean: bool,
    pub(super) request: Option<u32>,
    pub(super) bypass: Option<Bypass>,
    /// The packet is to be completed with an error.
    pub(super) error: Option<Unplaced>,
}

impl Look {
    pub(super) fn bypassed(reason: Bypass) -> Look {
        Look { clean: false, request: None, bypass: Some(reason), error: None }
    }
}

/// One context.
#[derive(Debug)]
pub(super) struct Context {
    /// Tag buffer table; `None` if the TIR has no zero copy.
    table: Option<u32>,
    /// The TIR has `nvmeotcp_crc_en`.
    crc_en: bool,
    options: Option<Options>,
    stream: Option<Stream>,
    /// An unusable tag stopped it.
    stopped: bool,
    /// CRC32C of the data of the current PDU so far.
    crc: Digest,
    pub(super) episode: Open,
}

impl Context {
    pub(super) fn new(table: Option<u32>, crc_en: bool) -> Context {
        let crc = Digest::new(CrcAlgorithm::Crc32Iscsi);
        Context { table, crc_en, options: None, stream: None, stopped: false, crc, episode: Open::default() }
    }

    pub(super) fn table(&self) -> Option<u32> {
        self.table
    }

    pub(super) fn checks_digests(&self) -> bool {
        self.crc_en && self.options.is_some_and(|o| o.data_digest && o.check_data_digest)
    }

    pub(super) fn progress(&self) -> Option<Progress> {
        let stream = self.stream.as_ref()?;
        let next_pdu_tcp_sn = match stream.position {
            Position::Header { .. } => stream.pdu_start,
            Position::Body { plen, .. } => stream.pdu_start.wrapping_add(plen),
        };
        let awaited = (stream.tracker == Tracker::Tracking).then_some(stream.guess.remembered);
        Some(Progress { next_pdu_tcp_sn, expected: stream.expected, tracker: stream.tracker, awaited })
    }

    pub(super) fn set_static(
        &mut self,
        params: &StaticParams,
        behaviour: &Behaviour,
        counters: &mut OffloadCounters,
    ) -> Result<(), OffloadFault> {
        for (name, field) in [("ti", StaticParams::TI), ("hdgst_offload_en", StaticParams::HDGST_OFFLOAD_EN)] {
            if params.is_set(field) {
                return Err(OffloadFault::Unsupported { field: name, value: 1 });
            }
        }
        // `pda` needs no place here: PDO of every PDU says where its data begins.
        self.options = Some(Options {
            zero_copy: params.is_set(StaticParams::ZERO_COPY_EN),
            check_data_digest: params.is_set(StaticParams::DDGST_OFFLOAD_EN),
            data_digest: params.is_set(StaticParams::DDGST_EN),
            header_digest: params.is_set(StaticParams::HDDGST_EN),
        });
        if let Some(stream) = &mut self.stream
            && stream.confirm(params.get(StaticParams::NVME_RESYNC_TCP_SN), behaviour, counters)
        {
            self.episode.confirmed();
        }
        Ok(())
    }

    pub(super) fn set_progress(&mut self, params: &ProgressParams) -> Result<(), OffloadFault> {
        let tracker = match params.get(ProgressParams::PDU_TRACKER_STATE) {
            0 => Tracker::Offloading,
            1 => Tracker::Tracking,
            2 => Tracker::Searching,
            value => return Err(OffloadFault::Unsupported { field: "pdu_tracker_state", value }),
        };
        let mut stream = Stream::new(tracker, params.get(ProgressParams::NEXT_PDU_TCP_SN));
        stream.guess = Guess {
            first: stream.pdu_start,
            remembered: params.get(ProgressParams::HW_RESYNC_TCP_SN),
            ..Guess::default()
        };
        self.stream = Some(stream);
        self.stopped = false;
        Ok(())
    }

    /// Looks at a segment: its sequence number decides which of its bytes matter.
    pub(super) fn receive(
        &mut self,
        seq: u32,
        payload: &[u8],
        placement: &mut Placement<'_>,
        counters: &mut OffloadCounters,
    ) -> Look {
        let check_digest = self.checks_digests();
        let Context { table, options: Some(options), stream: Some(stream), stopped, crc, episode, .. } = self else {
            return Look::bypassed(Bypass::Inactive);
        };
        if *stopped {
            return Look::bypassed(Bypass::Stopped);
        }
        let behaviour = placement.behaviour;
        let dropped = counters.guesses_dropped;
        // Serial number arithmetic (RFC 9293 §3.4).
        let ahead = seq.wrapping_sub(stream.expected).cast_signed();
        let mut from = 0;
        if ahead < 0 {
            from = ahead.unsigned_abs() as usize;
            if behaviour.overlap == Overlap::Bypass || from >= payload.len() {
                let searches = behaviour.search_late && stream.tracker == Tracker::Searching;
                let rules = options.rules(Tracker::Searching, behaviour);
                let request = if searches { stream.look_back(seq, payload, &rules, behaviour, counters) } else { None };
                episode.packet(stream.tracker, false, request.is_some());
                return Look { request, ..Look::bypassed(Bypass::Early) };
            }
        }
        stream.expected = seq.wrapping_add(payload.len() as u32);
        if ahead > 0 {
            stream.skip(ahead.cast_unsigned(), behaviour, counters);
        }
        if stream.tracker == Tracker::Tracking {
            stream.wait(behaviour, counters);
        }
        let table = table.filter(|_| options.zero_copy);
        let walk =
            Walk { stream: &mut *stream, crc, options, table, check_digest, placement, counters: &mut *counters };
        let look = walk.run(payload, from);
        episode.packet(stream.tracker, counters.guesses_dropped != dropped, look.request.is_some());
        *stopped = look.bypass == Some(Bypass::Stopped);
        look
    }
}
