//! The offload context of one TIR: where it is in the TCP stream and in the PDU, and what it does with the bytes.

use super::pdu::{COMMON_HEADER, CommonHeader, DATA_HEADER, DIGEST, DataHeader, Malformed};
use super::{Bypass, OffloadCounters, OffloadFault, Run, TagBufferTables, Unplaced, WhichRun};
use crate::dma::DmaSpace;
use crate::mkey::{Mkeys, Segment, write_segments};
use crc_fast::{CrcAlgorithm, Digest};
use hw_regs::layout::Access as _;
use hw_regs::wqe::{ProgressParams, StaticParams};

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
    /// TCP sequence number of the next PDU header: of the one being received, if it is not complete.
    pub next_pdu_tcp_sn: u32,
    /// TCP sequence number of the next byte in order.
    pub expected: u32,
    /// State.
    pub tracker: Tracker,
}

/// Static parameters, decoded.
#[derive(Clone, Copy, Debug)]
struct Options {
    zero_copy: bool,
    check_data_digest: bool,
    data_digest: bool,
    header_digest: bool,
}

/// Place in the current PDU.
#[derive(Clone, Copy, Debug)]
enum Position {
    /// In a header that is not complete: the first `have` bytes of it.
    Header { have: usize, bytes: [u8; DATA_HEADER] },
    /// Behind the part of the header that matters, `at` bytes from the start of the PDU.
    Body { at: u32, plen: u32, data: Option<Data> },
}

/// Data of the current C2HData PDU.
#[derive(Clone, Copy, Debug)]
struct Data {
    header: DataHeader,
    /// Bytes of the digest field received so far.
    digest: [u8; DIGEST as usize],
}

const NEW_PDU: Position = Position::Header { have: 0, bytes: [0; DATA_HEADER] };

#[derive(Debug)]
struct Stream {
    tracker: Tracker,
    expected: u32,
    /// TCP sequence number of the first byte of the current PDU.
    pdu_start: u32,
    position: Position,
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
    /// CRC32C of the data of the current PDU so far.
    crc: Digest,
}

impl Context {
    pub(super) fn new(table: Option<u32>, crc_en: bool) -> Context {
        Context { table, crc_en, options: None, stream: None, crc: Digest::new(CrcAlgorithm::Crc32Iscsi) }
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
        Some(Progress { next_pdu_tcp_sn, expected: stream.expected, tracker: stream.tracker })
    }

    pub(super) fn set_static(&mut self, params: &StaticParams) -> Result<(), OffloadFault> {
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
        Ok(())
    }

    pub(super) fn set_progress(&mut self, params: &ProgressParams) -> Result<(), OffloadFault> {
        let tracker = match params.get(ProgressParams::PDU_TRACKER_STATE) {
            0 => Tracker::Offloading,
            1 => Tracker::Tracking,
            2 => Tracker::Searching,
            value => return Err(OffloadFault::Unsupported { field: "pdu_tracker_state", value }),
        };
        let next = params.get(ProgressParams::NEXT_PDU_TCP_SN);
        self.stream = Some(Stream { tracker, expected: next, pdu_start: next, position: NEW_PDU });
        Ok(())
    }

    /// Decides by the sequence number alone whether the context looks at a segment; if so, the sequence has advanced.
    pub(super) fn accept<'a>(
        &mut self,
        seq: u32,
        payload: &'a [u8],
        counters: &mut OffloadCounters,
    ) -> Result<&'a [u8], Bypass> {
        let (Some(_), Some(stream)) = (self.options, self.stream.as_mut()) else { return Err(Bypass::Inactive) };
        match stream.tracker {
            Tracker::Searching => return Err(Bypass::Searching),
            Tracker::Tracking => return Err(Bypass::Unconfirmed),
            Tracker::Offloading => {}
        }
        // Serial number arithmetic (RFC 9293 §3.4).
        let ahead = seq.wrapping_sub(stream.expected).cast_signed();
        if ahead < 0 {
            return Err(Bypass::Early);
        }
        if ahead > 0 {
            stream.tracker = Tracker::Searching;
            counters.lost += 1;
            return Err(Bypass::Searching);
        }
        stream.expected = seq.wrapping_add(payload.len() as u32);
        Ok(payload)
    }

    /// Walks an accepted payload PDU by PDU. True if all of it was understood and no digest in it was wrong.
    pub(super) fn process(
        &mut self,
        payload: &[u8],
        placement: &mut Placement<'_>,
        counters: &mut OffloadCounters,
    ) -> bool {
        let (Some(options), Some(stream)) = (self.options, self.stream.as_mut()) else { return false };
        let check_digest = self.crc_en && options.data_digest && options.check_data_digest;
        let (mut at, mut clean) = (0, true);
        while at < payload.len() {
            let rest = &payload[at..];
            let taken = match &mut stream.position {
                Position::Header { have, bytes } => match take_header(have, bytes, rest, &options) {
                    Err(Malformed) => {
                        stream.tracker = Tracker::Searching;
                        counters.lost += 1;
                        return false;
                    }
                    Ok((taken, None)) => taken,
                    Ok((taken, Some(body))) => {
                        stream.position = body;
                        self.crc.reset();
                        taken
                    }
                },
                Position::Body { at: pdu_at, plen, data } => {
                    let (kind, len) = piece(*pdu_at, *plen, data.as_ref());
                    let taken = rest.len().min(len as usize);
                    let bytes = &rest[..taken];
                    match (kind, data) {
                        (Piece::Data(offset), Some(data)) => {
                            if check_digest {
                                self.crc.update(bytes);
                            }
                            let run = Run {
                                hole: at as u32,
                                len: taken as u32,
                                ccid: data.header.cccid,
                                ccoff: data.header.datao + offset,
                            };
                            let table = self.table.filter(|_| options.zero_copy);
                            placement.offer(run, table, counters);
                        }
                        (Piece::Digest(offset), Some(data)) => {
                            data.digest[offset as usize..][..taken].copy_from_slice(bytes);
                            if check_digest && taken == len as usize {
                                // The digest is sent least significant byte first.
                                let good = u32::from_le_bytes(data.digest) == self.crc.finalize() as u32;
                                clean &= good;
                                counters.digests_good += u64::from(good);
                                counters.digests_bad += u64::from(!good);
                            }
                        }
                        _ => {}
                    }
                    *pdu_at += taken as u32;
                    taken
                }
            };
            at += taken;
            if let Position::Body { at: pdu_at, plen, .. } = stream.position
                && pdu_at == plen
            {
                stream.pdu_start = stream.pdu_start.wrapping_add(plen);
                stream.position = NEW_PDU;
                counters.pdus += 1;
            }
        }
        clean
    }
}

/// Adds bytes to a header: how many were taken, and the body that follows once enough of it is there.
fn take_header(
    have: &mut usize,
    bytes: &mut [u8; DATA_HEADER],
    rest: &[u8],
    options: &Options,
) -> Result<(usize, Option<Position>), Malformed> {
    let mut taken = 0;
    let mut fill = |have: &mut usize, bytes: &mut [u8; DATA_HEADER], to: usize| {
        let n = to.saturating_sub(*have).min(rest.len() - taken);
        bytes[*have..*have + n].copy_from_slice(&rest[taken..taken + n]);
        *have += n;
        taken += n;
        *have >= to
    };
    if !fill(have, bytes, COMMON_HEADER) {
        return Ok((taken, None));
    }
    let common = bytes.first_chunk().ok_or(Malformed)?;
    let common = CommonHeader::parse(common, options.header_digest)?;
    if !common.is_data {
        let body = Position::Body { at: COMMON_HEADER as u32, plen: common.plen, data: None };
        return Ok((taken, Some(body)));
    }
    if !fill(have, bytes, DATA_HEADER) {
        return Ok((taken, None));
    }
    let header = DataHeader::parse(bytes, common.plen, options.header_digest, options.data_digest)?;
    let data = Some(Data { header, digest: [0; DIGEST as usize] });
    Ok((taken, Some(Position::Body { at: DATA_HEADER as u32, plen: common.plen, data })))
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

/// The choice of the run of one packet that is placed, and the placing.
pub(super) struct Placement<'a> {
    pub(super) which: WhichRun,
    pub(super) tables: &'a mut TagBufferTables,
    pub(super) mkeys: &'a Mkeys,
    pub(super) dma: &'a DmaSpace,
    /// The run chosen so far; `chosen` holds where it goes.
    pub(super) best: Option<Run>,
    pub(super) chosen: &'a mut Vec<Segment>,
    pub(super) candidate: &'a mut Vec<Segment>,
}

impl Placement<'_> {
    /// Offers a run of C2HData payload (`hole` counted from the start of the payload).
    fn offer(&mut self, run: Run, table: Option<u32>, counters: &mut OffloadCounters) {
        let mut leave = |reason: Unplaced, len: u32| {
            *counters.bytes_unplaced.entry(reason).or_default() += u64::from(len);
        };
        let Some(table) = table else { return leave(Unplaced::Disabled, run.len) };
        let better = match (self.which, &self.best) {
            (_, None) | (WhichRun::Last, _) => true,
            (WhichRun::First, Some(_)) => false,
            (WhichRun::Longest, Some(best)) => run.len > best.len,
        };
        if !better {
            return leave(Unplaced::OtherRun, run.len);
        }
        let translated = self.tables.translate(table, run.ccid, run.ccoff, run.len, self.mkeys, self.candidate);
        if let Err(reason) = translated {
            return leave(reason, run.len);
        }
        // All of it must be reachable before any of it is written: what is not reported as placed is not touched.
        if !self.candidate.iter().all(|s| self.dma.contains(s.iova, s.len as usize)) {
            return leave(Unplaced::Unmapped, run.len);
        }
        if let Some(old) = self.best.replace(run) {
            leave(Unplaced::OtherRun, old.len);
        }
        std::mem::swap(self.chosen, self.candidate);
    }

    /// Writes the chosen run.
    pub(super) fn finish(self, payload: &[u8], counters: &mut OffloadCounters) -> Option<Run> {
        let run = self.best?;
        let bytes = &payload[run.hole as usize..][..run.len as usize];
        if write_segments(self.chosen, bytes, self.dma).is_err() {
            *counters.bytes_unplaced.entry(Unplaced::Unmapped).or_default() += u64::from(run.len);
            return None;
        }
        counters.packets_placed += 1;
        counters.bytes_placed += u64::from(run.len);
        Some(run)
    }
}
