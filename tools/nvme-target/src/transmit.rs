//! The sending side of a connection: one PDU at a time is built and written into the socket's send buffer.
//!
//! Payload goes straight from the image into the ring, and its digest is computed there: no copy in between.

use crate::backing::Backing;
use crate::pdu::{CH, DIGEST, IC_LEN, PduType, TERM_HLEN, crc32c, flag, push_common, put};
use crate::script::Kind;
use crate::stack::Socket;
use crate::subsystem::Source;
use crc_fast::{CrcAlgorithm, Digest};

/// What [`Kind::ExtraData`] is made of.
const FILLER: u8 = 0xee;

/// Options of a connection that shape the PDUs sent to the host.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Layout {
    /// Header digest in use.
    pub(crate) header_digest: bool,
    /// Data digest in use.
    pub(crate) data_digest: bool,
    /// Alignment of payload, bytes; 0 before ICReq.
    pub(crate) align: usize,
    /// Further padding, in units of `align`.
    pub(crate) extra_padding: u8,
}

/// A PDU for the host.
#[derive(Debug)]
pub(crate) enum Pdu {
    IcResp { cpda: u8, digests: u8, max_h2c_data: u32 },
    Term { fes: u16, fei: u32, erring: Vec<u8> },
    R2t { cid: u16, tag: u16, offset: u32, len: u32 },
    Response([u8; 16]),
    Data { cid: u16, offset: u32, len: u32, flags: u8, source: Source },
}

impl Pdu {
    pub(crate) fn kind(&self) -> PduType {
        match self {
            Pdu::IcResp { .. } => PduType::IcResp,
            Pdu::Term { .. } => PduType::C2hTermReq,
            Pdu::R2t { .. } => PduType::R2t,
            Pdu::Response(_) => PduType::CapsuleResp,
            Pdu::Data { .. } => PduType::C2hData,
        }
    }

    /// True if `fault` makes a difference to this PDU.
    pub(crate) fn suits(&self, fault: Kind, layout: Layout) -> bool {
        let data = matches!(self, Pdu::Data { .. });
        match fault {
            Kind::HeaderDigest => layout.header_digest && self.kind().digested(),
            Kind::DataDigest => layout.data_digest && data,
            Kind::Payload | Kind::ExtraData(_) => data,
            Kind::CommandId(_) => data || matches!(self, Pdu::R2t { .. } | Pdu::Response(_)),
            Kind::Offset(_) | Kind::Length(_) => data || matches!(self, Pdu::R2t { .. }),
            _ => true,
        }
    }
}

/// Where writing a PDU stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is in the send buffer as a whole.
    Whole,
    /// The send buffer is full.
    Blocked,
    /// The bytes that a fault lets through are in the send buffer.
    Cut,
}

/// The image could not be read.
#[derive(Debug)]
pub(crate) struct ReadFailed {
    pub(crate) offset: u64,
    pub(crate) error: String,
    pub(crate) cid: u16,
    /// True if the PDU's header already says that the command succeeded.
    pub(crate) promised: bool,
}

/// The PDU that is being sent.
#[derive(Default)]
pub(crate) struct Transmitter {
    /// Header, header digest and padding (or a whole PDU without payload).
    head: Vec<u8>,
    head_at: usize,
    source: Option<Source>,
    /// Bytes of the source that are in the send buffer, and that are not.
    data_at: usize,
    data_left: usize,
    filler_left: usize,
    digest: Option<Digest>,
    /// Digest bytes, once the data are complete.
    tail: Option<[u8; DIGEST]>,
    tail_at: usize,
    bad_digest: bool,
    flip: bool,
    cid: u16,
    promised: bool,
    /// Bytes that still go out before a fault strikes.
    budget: Option<usize>,
    /// Bytes put into the send buffer since the connection began.
    pub(crate) enqueued: u64,
    /// Set when the image could not be read; zeroes go out in place of its bytes.
    pub(crate) failed: Option<ReadFailed>,
}

impl Transmitter {
    /// True if no PDU is being sent.
    pub(crate) fn is_idle(&self) -> bool {
        self.head_at == self.head.len()
            && self.data_left + self.filler_left == 0
            && self.digest.is_none()
            && self.tail.is_none()
    }

    /// Builds the next PDU, with a fault if one strikes it.
    pub(crate) fn start(&mut self, pdu: Pdu, layout: Layout, fault: Option<Kind>) {
        debug_assert!(self.is_idle());
        let kind = pdu.kind();
        let digested = layout.header_digest && kind.digested();
        let head_digest = if digested { DIGEST } else { 0 };
        let digest_flag = if digested { flag::HDGSTF } else { 0 };
        let plain = (kind.hlen() + head_digest) as u32;
        self.head.clear();
        (self.head_at, self.data_at, self.data_left, self.filler_left) = (0, 0, 0, 0);
        (self.tail, self.tail_at, self.digest, self.source) = (None, 0, None, None);
        (self.bad_digest, self.flip, self.promised, self.budget) = (false, false, false, None);
        let head = &mut self.head;
        match pdu {
            Pdu::IcResp { cpda, digests, max_h2c_data } => {
                push_common(head, kind, 0, 0, IC_LEN as u32);
                head.extend_from_slice(&[0, 0, cpda, digests]);
                head.extend_from_slice(&max_h2c_data.to_le_bytes());
                head.resize(IC_LEN, 0);
            }
            Pdu::Term { fes, fei, erring } => {
                push_common(head, kind, 0, 0, (TERM_HLEN + erring.len()) as u32);
                head.extend_from_slice(&fes.to_le_bytes());
                head.extend_from_slice(&fei.to_le_bytes());
                head.resize(TERM_HLEN, 0);
                head.extend_from_slice(&erring);
            }
            Pdu::R2t { cid, tag, offset, len } => {
                push_common(head, kind, digest_flag, 0, plain);
                push_transfer(head, cid, tag, offset, len);
            }
            Pdu::Response(entry) => {
                push_common(head, kind, digest_flag, 0, plain);
                head.extend_from_slice(&entry);
            }
            Pdu::Data { cid, offset, len, flags, source } => {
                let pdo = data_offset(plain as usize, layout);
                let extra = match fault {
                    Some(Kind::ExtraData(extra)) => extra.min(1 << 20),
                    _ => 0,
                };
                let tail = if layout.data_digest { DIGEST as u32 } else { 0 };
                let tail_flag = if layout.data_digest { flag::DDGSTF } else { 0 };
                push_common(head, kind, flags | digest_flag | tail_flag, pdo, u32::from(pdo) + len + extra + tail);
                push_transfer(head, cid, 0, offset, len + extra);
                (self.data_left, self.filler_left) = (len as usize, extra as usize);
                self.source = Some(source);
                self.digest = layout.data_digest.then(|| Digest::new(CrcAlgorithm::Crc32Iscsi));
                (self.cid, self.promised) = (cid, flags & flag::SUCCESS != 0);
            }
        }
        if let Some(fault) = fault {
            self.spoil(kind, fault);
        }
        if digested {
            let mut digest = crc32c(&self.head);
            if fault == Some(Kind::HeaderDigest) {
                digest ^= 1;
            }
            self.head.extend_from_slice(&digest.to_le_bytes());
        }
        if kind == PduType::C2hData {
            // Padding goes where the true PDO is, whatever a fault wrote into the header.
            let pdo = data_offset(self.head.len(), layout);
            self.head.resize(usize::from(pdo), 0);
        }
    }

    /// Changes the header, or remembers what to change later. Offsets are those of the fields in the header.
    fn spoil(&mut self, kind: PduType, fault: Kind) {
        let head = &mut self.head;
        match fault {
            Kind::Type(value) => head[0] = value,
            Kind::Flags(value) => head[1] = value,
            Kind::HeaderLength(value) => head[2] = value,
            Kind::DataOffset(value) => head[3] = value,
            Kind::PduLength(value) => put(head, 4, &value.to_le_bytes()),
            // CID is in the last dword of the completion queue entry, CCCID in the first one after the common header.
            Kind::CommandId(value) if kind == PduType::CapsuleResp => put(head, CH + 12, &value.to_le_bytes()),
            Kind::CommandId(value) => put(head, CH, &value.to_le_bytes()),
            Kind::Offset(value) => put(head, CH + 4, &value.to_le_bytes()),
            Kind::Length(value) => put(head, CH + 8, &value.to_le_bytes()),
            Kind::DataDigest => self.bad_digest = true,
            Kind::Payload => self.flip = true,
            Kind::Close { after } | Kind::Reset { after } | Kind::Stall { after } => self.budget = Some(after as usize),
            Kind::ExtraData(_) | Kind::HeaderDigest | Kind::Drop | Kind::Terminate { .. } => {}
        }
    }

    /// Writes as much of the PDU as the send buffer takes.
    pub(crate) fn write(&mut self, socket: &mut dyn Socket, backing: &dyn Backing) -> Written {
        loop {
            if self.budget == Some(0) {
                return Written::Cut;
            }
            if self.is_idle() {
                // A fault that lets more bytes through than the PDU has strikes at its end.
                return if self.budget.is_some() { Written::Cut } else { Written::Whole };
            }
            let limit = self.budget.unwrap_or(usize::MAX);
            // The socket refuses data when the connection is going down, which its owner notices.
            let written = socket.send(&mut |room| {
                let limit = limit.min(room.len());
                self.fill(&mut room[..limit], backing)
            });
            if written == 0 {
                return Written::Blocked;
            }
            self.enqueued += written as u64;
            if let Some(budget) = &mut self.budget {
                *budget -= written;
            }
        }
    }

    /// Puts the next bytes of the PDU into `room`; returns how many.
    fn fill(&mut self, room: &mut [u8], backing: &dyn Backing) -> usize {
        let take = (self.head.len() - self.head_at).min(room.len());
        room[..take].copy_from_slice(&self.head[self.head_at..self.head_at + take]);
        self.head_at += take;
        let mut at = take;

        let take = self.data_left.min(room.len() - at);
        if take > 0 {
            let part = &mut room[at..at + take];
            self.read(part, backing);
            self.seal(part);
            self.data_at += take;
            self.data_left -= take;
            at += take;
        }
        let take = self.filler_left.min(room.len() - at);
        if take > 0 && self.data_left == 0 {
            let part = &mut room[at..at + take];
            part.fill(FILLER);
            self.seal(part);
            self.filler_left -= take;
            at += take;
        }
        if self.head_at < self.head.len() || self.data_left + self.filler_left > 0 {
            return at;
        }
        if let Some(digest) = self.digest.take() {
            let digest = digest.finalize() as u32 ^ u32::from(self.bad_digest);
            self.tail = Some(digest.to_le_bytes());
        }
        if let Some(tail) = self.tail {
            let take = (DIGEST - self.tail_at).min(room.len() - at);
            room[at..at + take].copy_from_slice(&tail[self.tail_at..self.tail_at + take]);
            self.tail_at += take;
            at += take;
            if self.tail_at == DIGEST {
                self.tail = None;
            }
        }
        at
    }

    fn read(&mut self, part: &mut [u8], backing: &dyn Backing) {
        match &self.source {
            Some(Source::Image(start)) => {
                let offset = start + self.data_at as u64;
                if self.failed.is_none()
                    && let Err(error) = backing.read_at(offset, part)
                {
                    let (cid, promised) = (self.cid, self.promised);
                    self.failed = Some(ReadFailed { offset, error: error.to_string(), cid, promised });
                }
                if self.failed.is_some() {
                    part.fill(0);
                }
            }
            Some(Source::Bytes(bytes)) => {
                part.copy_from_slice(&bytes[self.data_at..self.data_at + part.len()]);
            }
            None => part.fill(0),
        }
    }

    /// Accounts payload for the digest, then spoils it if a fault says so.
    fn seal(&mut self, part: &mut [u8]) {
        if let Some(digest) = &mut self.digest {
            digest.update(part);
        }
        if std::mem::take(&mut self.flip) {
            part[0] ^= 1;
        }
    }
}

/// Appends CCCID, TTAG, offset, length and the reserved dword: the rest of a C2HData or R2T header.
fn push_transfer(head: &mut Vec<u8>, cid: u16, tag: u16, offset: u32, len: u32) {
    head.extend_from_slice(&cid.to_le_bytes());
    head.extend_from_slice(&tag.to_le_bytes());
    head.extend_from_slice(&offset.to_le_bytes());
    head.extend_from_slice(&len.to_le_bytes());
    head.extend_from_slice(&[0; 4]);
}

/// PDO for a header (with digest) of `head` bytes: aligned as the host asked, with the script's padding as far as PDO holds it.
fn data_offset(head: usize, layout: Layout) -> u8 {
    let align = layout.align.max(4);
    let least = head.next_multiple_of(align);
    let extra = (255 - least.min(255)) / align;
    (least + extra.min(usize::from(layout.extra_padding)) * align) as u8
}
