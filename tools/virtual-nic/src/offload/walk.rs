//! What a context does with the bytes of a packet: from PDU to PDU, or in search of one.

use super::behaviour::{Behaviour, DataOffset, HeaderPacket, Pattern, Reaction, SearchRule, Unverified};
use super::context::{Data, Hashed, Kept, Look, NEW_PDU, Options, Position, Stream, Tracker};
use super::pdu::{COMMON_HEADER, DIGEST, DataHeader, Header, LONGEST_HEADER, Malformed, Rules, examine};
use super::placement::{Placement, leave};
use super::{Bypass, OffloadCounters, Run, Unplaced};
use crc_fast::Digest;

/// A packet's way through a context.
pub(super) struct Walk<'a, 'p> {
    pub(super) stream: &'a mut Stream,
    pub(super) crc: &'a mut Digest,
    pub(super) options: &'a Options,
    /// Tag buffer table; `None` where nothing is to be placed.
    pub(super) table: Option<u32>,
    /// Data digests are to be checked.
    pub(super) check_digest: bool,
    pub(super) placement: &'a mut Placement<'p>,
    pub(super) counters: &'a mut OffloadCounters,
}

/// What was found on the way.
struct Found {
    /// All was understood, and no digest is wrong or could not be verified.
    clean: bool,
    /// There were bytes of data or of its digest.
    has_data: bool,
    error: Option<Unplaced>,
}

impl Walk<'_, '_> {
    /// Walks `payload[from..]`, which follows what was seen before, or a gap that the stream knows of.
    pub(super) fn run(mut self, payload: &[u8], from: usize) -> Look {
        if self.stream.tracker != Tracker::Offloading {
            return self.follow(payload, from);
        }
        let mut found = Found { clean: from == 0, has_data: false, error: None };
        let forced = std::mem::take(&mut self.stream.flag_due);
        let behaviour = self.placement.behaviour;
        let rules = self.options.rules(Tracker::Offloading, behaviour);
        let mut at = from;
        while at < payload.len() {
            let rest = &payload[at..];
            at += match &mut self.stream.position {
                Position::Header { have, bytes } => match take_header(have, bytes, rest, &rules) {
                    Ok((taken, None)) => taken,
                    Ok((taken, Some(body))) => {
                        self.stream.position = body;
                        self.begin_pdu(&mut found);
                        taken
                    }
                    Err(Malformed) => {
                        // The search begins with the next packet: this one may have been placed in part.
                        self.stream.lose(self.counters);
                        found.clean = false;
                        break;
                    }
                },
                Position::Body { at: pdu_at, plen, data } => {
                    let (piece, len) = piece(*pdu_at, *plen, data.as_ref());
                    let taken = rest.len().min(len as usize);
                    *pdu_at += taken as u32;
                    match (piece, data) {
                        (Piece::Data(offset), Some(Data { header, .. })) => {
                            let run = Run {
                                hole: at as u32,
                                len: taken as u32,
                                ccid: header.cccid,
                                ccoff: header.datao + offset,
                            };
                            if self.data(run, &rest[..taken], &mut found).is_stopped() {
                                return Look::bypassed(Bypass::Stopped);
                            }
                        }
                        (Piece::Digest(offset), Some(Data { digest, .. })) => {
                            digest[offset as usize..][..taken].copy_from_slice(&rest[..taken]);
                            let whole = (taken == len as usize).then_some(*digest);
                            self.digest(whole, &mut found);
                        }
                        _ => {}
                    }
                    taken
                }
            };
            self.stream.end_pdu(self.counters);
        }
        let clean = found.clean && (found.has_data || behaviour.flag_without_data);
        Look { clean: clean || forced, request: None, bypass: None, error: found.error }
    }

    /// The header of the current PDU is complete.
    fn begin_pdu(&mut self, found: &mut Found) {
        self.crc.reset();
        let stream = &mut *self.stream;
        let behaviour = self.placement.behaviour;
        stream.unplaced = None;
        stream.hashed = Hashed::Whole;
        if behaviour.data_offset == DataOffset::Contiguous
            && let (Some(table), Position::Body { data: Some(data), .. }) = (self.table, &stream.position)
        {
            let DataHeader { cccid, datao, datal, .. } = data.header;
            if !self.placement.tables.continues(table, cccid, datao, datal) {
                stream.unplaced = Some(Unplaced::NotContiguous);
            }
        }
        if std::mem::take(&mut stream.after_hole) && behaviour.header_packet == HeaderPacket::Ring {
            self.placement.close(Unplaced::HeaderPacket, self.counters);
            found.clean = false;
        }
    }

    /// Data of the current PDU.
    #[inline]
    fn data(&mut self, run: Run, bytes: &[u8], found: &mut Found) -> Flow {
        found.has_data = true;
        found.clean &= self.may_vouch(false);
        if self.check_digest && self.stream.hashed == Hashed::Whole {
            self.crc.update(bytes);
        }
        if let Some(reason) = self.stream.unplaced {
            leave(self.counters, reason, run.len);
            return Flow::GoesOn;
        }
        let Some((reason, reaction)) = self.placement.offer(run, self.table, self.counters) else {
            return Flow::GoesOn;
        };
        match reaction {
            Reaction::Ring => {}
            Reaction::RestOfPdu => self.stream.unplaced = Some(Unplaced::RestOfPdu),
            Reaction::ErrorCqe => {
                self.placement.close(reason, self.counters);
                found.error = Some(reason);
            }
            Reaction::ContextError => {
                self.placement.close(reason, self.counters);
                self.counters.stopped += 1;
                return Flow::Stops;
            }
        }
        Flow::GoesOn
    }

    /// Bytes of the current PDU's data digest; `whole` once all of it is there. It is sent least significant byte first.
    fn digest(&mut self, whole: Option<[u8; DIGEST as usize]>, found: &mut Found) {
        found.has_data = true;
        found.clean &= self.may_vouch(whole.is_some());
        let Some(digest) = whole.filter(|_| self.check_digest) else { return };
        if self.stream.hashed != Hashed::Whole {
            self.counters.digests_unverified += 1;
            return;
        }
        let good = u32::from_le_bytes(digest) == self.crc.finalize() as u32;
        found.clean &= good;
        self.counters.digests_good += u64::from(good);
        self.counters.digests_bad += u64::from(!good);
    }

    /// Whether a packet with data of the current PDU, or with the end of its digest, can have the digest flag.
    #[inline]
    fn may_vouch(&self, digest_ends: bool) -> bool {
        match self.stream.hashed {
            Hashed::Whole => true,
            Hashed::Nothing => false,
            Hashed::Holes => match self.placement.behaviour.unverified {
                Unverified::LatePacket => true,
                Unverified::DigestPacket => !digest_ends,
                Unverified::EveryPacket => false,
            },
        }
    }

    /// TRACKING and SEARCHING: nothing is placed, nothing vouched for.
    fn follow(self, payload: &[u8], from: usize) -> Look {
        let behaviour = self.placement.behaviour;
        let rules = self.options.rules(Tracker::Searching, behaviour);
        let stream = self.stream;
        let searched = stream.tracker == Tracker::Searching;
        let mut at = if searched { stream.find(payload, from, &rules, behaviour, self.counters) } else { Some(from) };
        while let Some(start) = at.filter(|at| *at < payload.len()) {
            let rest = &payload[start..];
            let taken = match &mut stream.position {
                Position::Header { have, bytes } => {
                    let before = *have;
                    match take_header(have, bytes, rest, &rules) {
                        Ok((taken, None)) => taken,
                        Ok((taken, Some(body))) => {
                            stream.position = body;
                            stream.tracked(behaviour);
                            taken
                        }
                        Err(Malformed) => {
                            stream.lose(self.counters);
                            // The guess was worth no more than any other place behind it.
                            let next = (start + 1).saturating_sub(before).max(from);
                            at = match behaviour.search {
                                SearchRule::Anywhere => stream.find(payload, next, &rules, behaviour, self.counters),
                                SearchRule::StartOfPacket => None,
                            };
                            continue;
                        }
                    }
                }
                Position::Body { at: pdu_at, plen, .. } => {
                    let taken = rest.len().min((*plen - *pdu_at) as usize);
                    *pdu_at += taken as u32;
                    taken
                }
            };
            at = Some(start + taken);
            stream.end_pdu(self.counters);
        }
        let request = stream.request();
        self.counters.requests += u64::from(request.is_some());
        let bypass = if searched { Bypass::Searching } else { Bypass::Unconfirmed };
        Look { request, ..Look::bypassed(bypass) }
    }
}

/// Whether a context goes on after a piece of data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    GoesOn,
    Stops,
}

impl Flow {
    fn is_stopped(self) -> bool {
        self == Flow::Stops
    }
}

/// What a place in a stream whose framing is lost may be.
enum Place {
    /// No header.
    No,
    /// A header, as far as the pattern can tell.
    Header,
    /// The bytes end too early to tell.
    Cut,
}

#[inline]
fn judge(bytes: &[u8], rules: &Rules) -> Place {
    match examine(bytes, rules) {
        Err(Malformed) => Place::No,
        Ok(Header::Complete { .. }) => Place::Header,
        // This pattern ends there; the rest is looked at to know where the data goes.
        Ok(Header::Needs(_)) if matches!(rules.pattern, Some((Pattern::TypeAndLength, _))) => {
            if bytes.len() < COMMON_HEADER { Place::Cut } else { Place::Header }
        }
        Ok(Header::Needs(_)) => Place::Cut,
    }
}

impl Stream {
    /// Searches `payload[from..]`, and what was kept of the packet before. Returns where to go on if there is a header.
    fn find(
        &mut self,
        payload: &[u8],
        from: usize,
        rules: &Rules,
        behaviour: &Behaviour,
        counters: &mut OffloadCounters,
    ) -> Option<usize> {
        let fresh = &payload[from..];
        let sequence = self.expected.wrapping_sub(fresh.len() as u32);
        let places = if behaviour.search == SearchRule::Anywhere { usize::MAX } else { 1 };
        let kept = std::mem::take(&mut self.kept);
        let mut cut = None;
        for at in 0..kept.len.min(places) {
            let start = Kept::of(&kept.bytes[at..kept.len], fresh);
            let before = kept.len - at;
            match judge(&start.bytes[..start.len], rules) {
                Place::No => {}
                Place::Cut => cut = cut.or(Some(start)),
                Place::Header => {
                    self.guess(sequence.wrapping_sub(before as u32), behaviour, counters);
                    self.position = Position::Header { have: before, bytes: start.bytes };
                    return Some(from);
                }
            }
        }
        for at in 0..fresh.len().min(places) {
            let rest = &fresh[at..];
            match judge(&rest[..rest.len().min(LONGEST_HEADER)], rules) {
                Place::No => {}
                Place::Cut => cut = cut.or(Some(Kept::of(rest, &[]))),
                Place::Header => {
                    self.guess(sequence.wrapping_add(at as u32), behaviour, counters);
                    self.position = NEW_PDU;
                    return Some(from + at);
                }
            }
        }
        self.kept = cut.filter(|_| behaviour.keep_partial_header).unwrap_or_default();
        None
    }

    /// Searches a packet that lies before what is expected. A header in it is of use if its PDU reaches up to there: the one
    /// behind it can still be followed. Returns what the packet asks.
    #[cold]
    pub(super) fn look_back(
        &mut self,
        seq: u32,
        payload: &[u8],
        rules: &Rules,
        behaviour: &Behaviour,
        counters: &mut OffloadCounters,
    ) -> Option<u32> {
        let places = if behaviour.search == SearchRule::Anywhere { payload.len() } else { 1 };
        for at in 0..places.min(payload.len()) {
            let rest = &payload[at..];
            let header = examine(&rest[..rest.len().min(LONGEST_HEADER)], rules);
            let Ok(Header::Complete { plen, data }) = header else { continue };
            let start = seq.wrapping_add(at as u32);
            // Serial number arithmetic, as everywhere; a PDU is shorter than 2 GiB by far. A header that begins behind what
            // is expected comes again: it is as far off as one that is long over.
            let passed = self.expected.wrapping_sub(start);
            if passed > plen {
                continue;
            }
            self.guess(start, behaviour, counters);
            let data = data.map(|header| Data { header, digest: [0; DIGEST as usize] });
            self.position = Position::Body { at: passed, plen, data };
            self.tracked(behaviour);
            self.end_pdu(counters);
            let request = self.request();
            counters.requests += u64::from(request.is_some());
            return request;
        }
        None
    }
}

impl Kept {
    /// The first bytes of `first` followed by `second`.
    fn of(first: &[u8], second: &[u8]) -> Kept {
        let mut kept = Kept::default();
        for part in [first, second] {
            let take = part.len().min(LONGEST_HEADER - kept.len);
            kept.bytes[kept.len..][..take].copy_from_slice(&part[..take]);
            kept.len += take;
        }
        kept
    }
}

/// Adds bytes to a header: how many were taken, and the body that follows once enough of it is there.
fn take_header(
    have: &mut usize,
    bytes: &mut [u8; LONGEST_HEADER],
    rest: &[u8],
    rules: &Rules,
) -> Result<(usize, Option<Position>), Malformed> {
    let (mut taken, mut needed) = (0, COMMON_HEADER);
    loop {
        let n = needed.saturating_sub(*have).min(rest.len() - taken);
        bytes[*have..*have + n].copy_from_slice(&rest[taken..taken + n]);
        *have += n;
        taken += n;
        if *have < needed {
            return Ok((taken, None));
        }
        match examine(&bytes[..*have], rules)? {
            Header::Needs(more) => needed = more,
            Header::Complete { plen, data } => {
                let data = data.map(|header| Data { header, digest: [0; DIGEST as usize] });
                return Ok((taken, Some(Position::Body { at: *have as u32, plen, data })));
            }
        }
    }
}

/// What the next bytes of a PDU are.
enum Piece {
    /// Nothing to look at: header digest, padding, PDUs without data.
    Other,
    /// Data, this many bytes behind its start.
    Data(u32),
    /// Data digest, this many bytes behind its start.
    Digest(u32),
}

/// What lies `at` bytes behind the start of a PDU, and how many bytes of it follow. Never none: `at < plen`.
#[inline]
fn piece(at: u32, plen: u32, data: Option<&Data>) -> (Piece, u32) {
    let Some(Data { header, .. }) = data else { return (Piece::Other, plen - at) };
    let end = header.pdo + header.datal;
    if at < header.pdo {
        (Piece::Other, header.pdo - at)
    } else if at < end {
        (Piece::Data(at - header.pdo), end - at)
    } else {
        (Piece::Digest(at - end), plen - at)
    }
}
