//! From ranges to PDUs.
//!
//! ```text
//! Header ─┬─► Padding ─► Data ─► Digest ─┐      C2HData
//!    ▲    └─► done                       │      ICResp, CapsuleResp, R2T, C2HTermReq
//!    └───────────────────────────────────┘
//! ```
//!
//! Headers are gathered, wherever ranges cut them, into a buffer of the size of the longest one. Data is handed to the
//! payload memory range by range and never looked at: that is where "source equals destination" saves the copy.

use super::commands::{BadRun, Kind, State};
use super::following::{Device, Told};
use super::{Event, HostQueue, Phase, Reason};
use crate::frame::{Frame, Range};
use crate::nvme::crc32c;
use crate::nvme::payload::{Cause, Delivery, PayloadMemory};
use crate::nvme::pdu::{
    Allowed, C2hData, CapsuleResp, CommonHeader, DIGEST_LEN, FatalStatus, FieldError, HEADER_MAX, HEADER_MIN, IcResp,
    Pdu, PduType, R2t, digest_option, header_len,
};
use crate::nvme::status::Status;
use zerocopy::FromBytes;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Header,
    Padding,
    Data,
    Digest,
}

/// Where the data of the current PDU goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Memory,
    Control,
    /// The command was cancelled: its memory may be somebody else's by now.
    Discard,
}

pub(super) struct Receiver {
    stage: Stage,
    /// Sequence number of the next byte; unknown before the first.
    position: Option<u32>,
    /// Sequence number of the first byte of the current PDU.
    pdu_start: u32,
    /// Sequence number after its last byte, once its header was read.
    pdu_end: u32,
    header: [u8; HEADER_MAX],
    have: usize,
    need: usize,
    padding: u32,
    cid: u16,
    target: Target,
    success: bool,
    /// Where the current PDU's data starts in the command's, how long it is, and how much of it is to come.
    datao: u32,
    datal: u32,
    left: u32,
    /// Every frame with data or digest of the current PDU so far had its digests vouched for by the device.
    credit: bool,
    /// Why not, as long as `credit` is false.
    no_credit: Cause,
    /// The packet in which a PDU without credit ended.
    no_credit_until: Option<u32>,
    digest: [u8; DIGEST_LEN],
    digest_have: usize,
    /// A place of the stream where the device believes that a PDU starts.
    resync: Option<u32>,
    /// Where the device is.
    device: Device,
}

impl Receiver {
    pub(super) fn new() -> Receiver {
        Receiver {
            stage: Stage::Header,
            position: None,
            pdu_start: 0,
            pdu_end: 0,
            header: [0; HEADER_MAX],
            have: 0,
            need: HEADER_MIN,
            padding: 0,
            cid: 0,
            target: Target::Discard,
            success: false,
            datao: 0,
            datal: 0,
            left: 0,
            credit: false,
            no_credit: Cause::Unknown { early: false },
            no_credit_until: None,
            digest: [0; DIGEST_LEN],
            digest_have: 0,
            resync: None,
            device: Device::default(),
        }
    }

    /// The header at fault, without digest.
    pub(super) fn header_so_far(&self) -> &[u8] {
        let hlen = usize::from(self.header[2]).min(self.have);
        &self.header[..if self.have < 8 { self.have } else { hlen }]
    }

    /// Stops delivering the current PDU if it is `cid`'s.
    pub(super) fn discard(&mut self, cid: u16) {
        if self.stage != Stage::Header && self.cid == cid {
            self.target = Target::Discard;
        }
    }

    /// Bytes of the PDU's data or digest come in a packet of this kind.
    #[inline(always)]
    fn take_credit(&mut self, told: &Told) {
        if self.credit && !told.digest_ok {
            self.lose_credit(told);
        }
    }

    #[cold]
    fn lose_credit(&mut self, told: &Told) {
        self.credit = false;
        self.no_credit = match self.device.why_not_checked(self.position.unwrap_or(self.pdu_start), told) {
            // The device's word is for all of a packet, and the PDU before this one had no credit.
            Cause::Unknown { .. } if self.no_credit_until == Some(told.seq) => self.no_credit,
            cause => cause,
        };
    }

    fn next_pdu(&mut self) {
        (self.stage, self.have, self.need) = (Stage::Header, 0, HEADER_MIN);
    }
}

/// True if `a` comes before `b` in the sequence space (RFC 9293 3.4).
pub(super) fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

impl HostQueue {
    /// Takes the next bytes of the stream: those of a received frame, in order. The frame's buffer may be given back when
    /// this returns. `seq` is the TCP sequence number of its first byte.
    pub fn receive_frame<M: PayloadMemory + ?Sized>(&mut self, seq: u32, frame: &Frame, memory: &mut M) {
        self.receive_told(Told::of(seq, frame), frame.ranges(), memory);
    }

    /// Takes the next bytes of the stream. `digest_ok` says that the device vouches for every data digest, or part of one,
    /// of these bytes. Does nothing once the queue has failed.
    pub fn receive<M: PayloadMemory + ?Sized>(
        &mut self,
        seq: u32,
        digest_ok: bool,
        ranges: impl IntoIterator<Item = Range>,
        memory: &mut M,
    ) {
        self.receive_told(Told { seq, digest_ok, ..Told::default() }, ranges, memory);
    }

    #[inline]
    fn receive_told<M: PayloadMemory + ?Sized>(
        &mut self,
        told: Told,
        ranges: impl IntoIterator<Item = Range>,
        memory: &mut M,
    ) {
        if self.phase == Phase::Failed {
            self.counters.bytes_after_failure += ranges.into_iter().map(|range| u64::from(range.len())).sum::<u64>();
            return;
        }
        self.receiver.device.packet(&told);
        if let Err(reason) = self.consume(&told, ranges, memory) {
            self.fail(reason);
        }
    }

    fn consume<M: PayloadMemory + ?Sized>(
        &mut self,
        told: &Told,
        ranges: impl IntoIterator<Item = Range>,
        memory: &mut M,
    ) -> Result<(), Reason> {
        let mut position = match self.receiver.position {
            Some(expected) if expected != told.seq => return Err(Reason::Gap { expected, got: told.seq }),
            _ => told.seq,
        };
        for range in ranges {
            let (mut at, len) = (0, range.len());
            while at < len {
                // A range mostly holds nothing but data of one PDU: it is passed on as it is.
                let rest = if at == 0 { range } else { range.slice(at, len - at) };
                let n = match self.receiver.stage {
                    Stage::Data => self.take_data(rest, told, memory)?,
                    Stage::Header => self.take_header(rest, position, told, memory)?,
                    Stage::Padding => self.take_padding(rest),
                    Stage::Digest => self.take_digest(rest, told, memory)?,
                };
                at += n;
                position = position.wrapping_add(n);
                self.receiver.position = Some(position);
            }
        }
        self.receiver.position = Some(position);
        Ok(())
    }

    fn take_header<M: PayloadMemory + ?Sized>(
        &mut self,
        range: Range,
        position: u32,
        told: &Told,
        memory: &mut M,
    ) -> Result<u32, Reason> {
        let rx = &mut self.receiver;
        if rx.have == 0 {
            rx.pdu_start = position;
        }
        rx.device.header(position, told);
        let n = (rx.need - rx.have).min(range.len() as usize);
        memory.peek(range.slice(0, n as u32), &mut rx.header[rx.have..rx.have + n])?;
        rx.have += n;
        if rx.have < rx.need {
            return Ok(n as u32);
        }
        if rx.need == HEADER_MIN {
            let Ok((common, _)) = CommonHeader::read_from_prefix(&rx.header) else { return Ok(n as u32) };
            self.check_expected(&common)?;
            let rx = &mut self.receiver;
            rx.need = header_len(&common, &self.negotiated)?;
            if rx.have < rx.need {
                return Ok(n as u32);
            }
        }
        self.header_complete()?;
        self.receiver.device.header_complete(told);
        Ok(n as u32)
    }

    /// Whether a PDU of this type may come now. Unknown types are left to the parser.
    fn check_expected(&self, common: &CommonHeader) -> Result<(), FieldError> {
        let Some(pdu_type) = PduType::from_byte(common.pdu_type) else { return Ok(()) };
        let error = |allowed| FieldError::new(pdu_type.name(), "PDU-Type", 0, common.pdu_type.into(), allowed);
        match (pdu_type, self.phase == Phase::Initializing) {
            (PduType::C2hTermReq, _) | (PduType::IcResp, true) => Ok(()),
            (PduType::CapsuleResp | PduType::C2hData | PduType::R2t, false) => Ok(()),
            (PduType::IcResp, false) => {
                let allowed = Allowed::Text("no second ICResp");
                Err(error(allowed).with_status(FatalStatus::SequenceError))
            }
            (PduType::CapsuleResp | PduType::C2hData | PduType::R2t, true) => {
                let allowed = Allowed::Text("ICResp first");
                Err(error(allowed).with_status(FatalStatus::SequenceError))
            }
            _ => Err(error(Allowed::Text("a PDU that controllers send"))),
        }
    }

    fn header_complete(&mut self) -> Result<(), Reason> {
        let rx = &self.receiver;
        let (header, hlen) = (&rx.header[..rx.need], usize::from(rx.header[2]));
        if rx.need > hlen {
            let computed = crc32c(&header[..hlen]);
            let received = header[hlen..].try_into().map(u32::from_le_bytes).unwrap_or(!computed);
            if received != computed {
                let pdu = PduType::from_byte(header[0]).map_or("unknown", PduType::name);
                return Err(Reason::HeaderDigest { pdu, received, computed });
            }
        }
        let pdu = Pdu::parse(header, &self.negotiated)?;
        let plen = CommonHeader::read_from_prefix(header).map_or(0, |(common, _)| common.plen.get());
        let end = rx.pdu_start.wrapping_add(plen);
        self.receiver.pdu_end = end;
        self.counters.pdus_received += 1;
        if self.receiver.resync.is_some() {
            self.answer_resync(end, end);
        }
        match pdu {
            Pdu::C2hData(pdu) => return self.begin_data(&pdu),
            Pdu::CapsuleResp(pdu) => self.take_response(&pdu)?,
            Pdu::R2t(pdu) => self.take_r2t(&pdu)?,
            Pdu::IcResp(pdu) => self.take_icresp(&pdu)?,
            Pdu::C2hTermReq(pdu) => return Err(Reason::Terminated { fes: pdu.fes.get(), fei: pdu.fei.get() }),
            // `check_expected` lets none of these through.
            Pdu::IcReq(_) | Pdu::H2cTermReq(_) | Pdu::CapsuleCmd(_) | Pdu::H2cData(_) => {}
        }
        self.receiver.next_pdu();
        Ok(())
    }

    fn begin_data(&mut self, pdu: &C2hData) -> Result<(), Reason> {
        let (cid, datao, datal) = (pdu.cccid.get(), pdu.datao.get(), pdu.datal.get());
        let error = |field, offset, value, allowed| FieldError::new("C2HData", field, offset, value, allowed);
        let command = match self.commands.get(cid) {
            Some(command) if command.state == State::Sent => *command,
            _ => return Err(error("CCCID", 8, cid.into(), Allowed::Text("the id of an outstanding command")).into()),
        };
        if !matches!(command.kind, Kind::Read | Kind::ControlRead) {
            return Err(error("CCCID", 8, cid.into(), Allowed::Text("the id of a command that reads")).into());
        }
        if command.last_seen {
            let error = error("CCCID", 8, cid.into(), Allowed::Text("no data after LAST_PDU"));
            return Err(error.with_status(FatalStatus::SequenceError).into());
        }
        if let Err(bad) = self.commands.announce(cid, datao, datal) {
            let len = command.len;
            let error = match bad {
                BadRun::OutOfRange if datao >= len => {
                    error("DATAO", 12, datao.into(), Allowed::Between(0, u64::from(len) - 1))
                        .with_status(FatalStatus::DataOutOfRange)
                }
                BadRun::OutOfRange => error("DATAL", 16, datal.into(), Allowed::Between(1, u64::from(len - datao)))
                    .with_status(FatalStatus::DataOutOfRange),
                BadRun::Repeated => error("DATAO", 12, datao.into(), Allowed::Text("data that has not come before")),
                BadRun::Scattered => error("DATAO", 12, datao.into(), Allowed::Text("data in order, or nearly so")),
            };
            return Err(error.into());
        }
        let rx = &mut self.receiver;
        rx.target = match command.kind {
            _ if command.cancelled => Target::Discard,
            Kind::Read => Target::Memory,
            _ => Target::Control,
        };
        (rx.cid, rx.datao, rx.datal, rx.left) = (cid, datao, datal, datal);
        (rx.success, rx.credit, rx.digest_have) = (pdu.is_success(), true, 0);
        rx.padding = u32::from(pdu.common.pdo) - rx.need as u32;
        rx.stage = if rx.padding > 0 { Stage::Padding } else { Stage::Data };
        if let Some(command) = self.commands.get_mut(cid) {
            command.last_seen = pdu.is_last();
        }
        Ok(())
    }

    fn take_padding(&mut self, range: Range) -> u32 {
        let rx = &mut self.receiver;
        let n = rx.padding.min(range.len());
        rx.padding -= n;
        if rx.padding == 0 {
            rx.stage = Stage::Data;
        }
        n
    }

    #[inline]
    fn take_data<M: PayloadMemory + ?Sized>(
        &mut self,
        range: Range,
        told: &Told,
        memory: &mut M,
    ) -> Result<u32, Reason> {
        let rx = &mut self.receiver;
        let n = rx.left.min(range.len());
        let (cid, offset) = (rx.cid, rx.datao + (rx.datal - rx.left));
        let range = if n == range.len() { range } else { range.slice(0, n) };
        rx.take_credit(told);
        match rx.target {
            Target::Memory => {
                let delivery = memory.deliver(cid, offset, range)?;
                if let Some(command) = self.commands.get_mut(cid) {
                    match delivery {
                        Delivery::InPlace => command.placed += n,
                        Delivery::Copied => {
                            let early = command.placed == 0;
                            command.copied += n;
                            let cause = match range {
                                Range::Placed { .. } => Cause::Misplaced,
                                Range::Ring { .. } => {
                                    let position = rx.position.unwrap_or(rx.pdu_start);
                                    rx.device.why_not_placed(position, told, early)
                                }
                            };
                            memory.copied(cid, n, cause);
                        }
                    }
                }
            }
            Target::Control => {
                let out = self.commands.control_mut(cid);
                if let Some(out) = out.get_mut(offset as usize..(offset + n) as usize) {
                    memory.peek(range, out)?;
                }
                self.counters.bytes_control += u64::from(n);
            }
            Target::Discard => self.counters.bytes_discarded += u64::from(n),
        }
        let rx = &mut self.receiver;
        rx.left -= n;
        if rx.left == 0 {
            if self.negotiated.data_digest {
                rx.stage = Stage::Digest;
            } else {
                self.end_data()?;
            }
        }
        Ok(n)
    }

    fn take_digest<M: PayloadMemory + ?Sized>(
        &mut self,
        range: Range,
        told: &Told,
        memory: &mut M,
    ) -> Result<u32, Reason> {
        let rx = &mut self.receiver;
        let n = (DIGEST_LEN - rx.digest_have).min(range.len() as usize);
        rx.take_credit(told);
        // A whole digest that the device has checked need not be read.
        if n < DIGEST_LEN || !rx.credit {
            memory.peek(range.slice(0, n as u32), &mut rx.digest[rx.digest_have..rx.digest_have + n])?;
        }
        rx.digest_have += n;
        if rx.digest_have == DIGEST_LEN {
            self.check_digest(told, memory)?;
            self.end_data()?;
        }
        Ok(n as u32)
    }

    /// The device's word counts only if it covers every frame with data or digest of this PDU; otherwise software checks
    /// the PDU's own part of the destination.
    fn check_digest<M: PayloadMemory + ?Sized>(&mut self, told: &Told, memory: &mut M) -> Result<(), Reason> {
        let rx = &self.receiver;
        let (cid, datao, datal) = (rx.cid, rx.datao, rx.datal);
        let good = match rx.target {
            Target::Discard => return Ok(()),
            _ if rx.credit => {
                self.counters.digests_hardware += 1;
                true
            }
            target => {
                let computed = match target {
                    Target::Memory => memory.digest(cid, datao, datal)?,
                    _ => {
                        let control = self.commands.control(cid);
                        crc32c(control.get(datao as usize..(datao + datal) as usize).unwrap_or(&[]))
                    }
                };
                self.counters.digests_software += 1;
                let good = computed == u32::from_le_bytes(rx.digest);
                if target == Target::Memory {
                    let cause = if good { rx.no_credit } else { Cause::Mismatch };
                    memory.digested(cid, cause);
                }
                good
            }
        };
        if let Some(command) = self.commands.get_mut(cid) {
            if rx.credit {
                command.digest_hardware = true;
            } else {
                command.digest_software = true;
            }
            command.digest_bad |= !good;
        }
        if !rx.credit {
            self.receiver.no_credit_until = Some(told.seq);
        }
        self.counters.digest_errors += u64::from(!good);
        Ok(())
    }

    fn end_data(&mut self) -> Result<(), Reason> {
        let (cid, success) = (self.receiver.cid, self.receiver.success);
        if success {
            self.check_all_data(cid)?;
            self.complete(cid, Status::SUCCESS, 0)?;
        }
        self.receiver.next_pdu();
        Ok(())
    }

    /// A read that is said to have succeeded has all of its data; a write's was all asked for.
    fn check_all_data(&self, cid: u16) -> Result<(), Reason> {
        let Some(command) = self.commands.get(cid) else { return Ok(()) };
        let moved = match command.kind {
            Kind::Read | Kind::ControlRead => self.commands.announced(cid),
            Kind::Write if command.len > self.limits.in_capsule => command.prefix,
            _ => return Ok(()),
        };
        // A cancelled write's R2Ts are still served, so nothing differs for it.
        if moved < command.len { Err(Reason::MissingData { cid, moved, expected: command.len }) } else { Ok(()) }
    }

    fn take_response(&mut self, pdu: &CapsuleResp) -> Result<(), Reason> {
        let (cqe, cid) = (&pdu.cqe, pdu.cqe.cid.get());
        let error = |allowed| FieldError::new("CapsuleResp", "CQE.CID", 20, cid.into(), Allowed::Text(allowed));
        match self.commands.get(cid) {
            Some(command) if command.state == State::Sent => {
                if command.r2t_at < command.r2t_end {
                    let error = error("no response before the data that an R2T asked for");
                    return Err(error.with_status(FatalStatus::SequenceError).into());
                }
            }
            _ => return Err(error("the id of an outstanding command").into()),
        }
        if cqe.status().is_success() {
            self.check_all_data(cid)?;
        }
        self.complete(cid, cqe.status(), cqe.result.get())
    }

    fn take_r2t(&mut self, pdu: &R2t) -> Result<(), Reason> {
        let (cid, r2to, r2tl) = (pdu.cccid.get(), pdu.r2to.get(), pdu.r2tl.get());
        let error = |field, offset, value: u32, allowed| FieldError::new("R2T", field, offset, value.into(), allowed);
        let in_capsule = self.limits.in_capsule;
        let Some(command) = self.commands.get_mut(cid).filter(|command| command.state == State::Sent) else {
            return Err(error("CCCID", 8, cid.into(), Allowed::Text("the id of an outstanding command")).into());
        };
        if command.kind != Kind::Write || command.len <= in_capsule {
            let allowed = Allowed::Text("the id of a write whose data was not in the capsule");
            return Err(error("CCCID", 8, cid.into(), allowed).into());
        }
        if command.r2t_at < command.r2t_end {
            let error = error("CCCID", 8, cid.into(), Allowed::Text("one R2T at a time (MAXR2T was 0)"));
            return Err(error.with_status(FatalStatus::LimitExceeded).into());
        }
        if r2to != command.prefix {
            return Err(error("R2TO", 12, r2to, Allowed::Exactly(command.prefix.into())).into());
        }
        let left = command.len - command.prefix;
        if r2tl > left {
            let error = error("R2TL", 16, r2tl, Allowed::Between(1, left.into()));
            return Err(error.with_status(FatalStatus::DataOutOfRange).into());
        }
        (command.r2t_at, command.r2t_end, command.ttag) = (r2to, r2to + r2tl, pdu.ttag.get());
        command.prefix += r2tl;
        self.sender.enqueue(cid);
        Ok(())
    }

    fn take_icresp(&mut self, pdu: &IcResp) -> Result<(), Reason> {
        let asked = self.asked_digests();
        if pdu.dgst != asked {
            return Err(Reason::Digests { asked, granted: pdu.dgst });
        }
        self.negotiated.header_digest = asked & digest_option::HEADER != 0;
        self.negotiated.data_digest = asked & digest_option::DATA != 0;
        self.negotiated.cpda = pdu.cpda;
        self.limits.max_h2c_data = pdu.maxh2cdata.get();
        self.connect();
        Ok(())
    }

    /// The device asks whether a PDU starts at `seq` (`nvme-tcp-offload.md` §8.1). A later question replaces an earlier
    /// one. If it does, [`Event::Resync`] comes as soon as that is known: when the header before it has been read. If
    /// `seq` turns out to be inside a PDU, or lies before the current one, the question is dropped: the device goes on
    /// searching by itself.
    pub fn resync_request(&mut self, seq: u32) {
        self.counters.resync_asked += 1;
        if self.phase == Phase::Failed {
            self.counters.resync_ignored += 1;
            return;
        }
        self.counters.resync_replaced += u64::from(self.receiver.resync.replace(seq).is_some());
        self.receiver.device.asks(seq);
        let rx = &self.receiver;
        match (rx.stage, rx.position) {
            (_, None) => {}
            (Stage::Header, Some(position)) => {
                self.answer_resync(if rx.have == 0 { position } else { rx.pdu_start }, position)
            }
            _ => self.answer_resync(rx.pdu_start, rx.pdu_end),
        }
    }

    /// PDUs start at `start` and `next` and nowhere between; nothing is known beyond `next`.
    fn answer_resync(&mut self, start: u32, next: u32) {
        let rx = &mut self.receiver;
        let Some(seq) = rx.resync else { return };
        // With a header partly read, `next` is the stream position, which is no PDU's start.
        let is_start = seq == start || (seq == next && (rx.stage != Stage::Header || rx.have == rx.need));
        if is_start {
            rx.resync = None;
            self.counters.resync_confirmed += 1;
            self.events.push_back(Event::Resync { seq });
        } else if before(seq, next) {
            rx.resync = None;
            self.counters.resync_refuted += 1;
        }
    }

    /// Sequence number of the next PDU whose header has not been touched, for adding the offload to a connection in use.
    /// `None` before the first byte, and while a header has been received in part.
    pub fn next_pdu_seq(&self) -> Option<u32> {
        let rx = &self.receiver;
        match rx.stage {
            Stage::Header if rx.have == 0 => rx.position,
            Stage::Header => None,
            _ => Some(rx.pdu_end),
        }
    }

    /// Sequence number of the start of the PDU that was read last, or is being read. `None` before the first byte.
    pub fn pdu_seq(&self) -> Option<u32> {
        self.receiver.position.map(|_| self.receiver.pdu_start)
    }
}
