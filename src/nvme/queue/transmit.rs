//! From commands to bytes: capsules and H2CData, streamed into whatever room the caller has.
//!
//! A PDU is a head (header, its digest, padding), data that is fetched straight into the caller's buffer, and a tail (data
//! digest). Nothing is held but the head, so a write of any size costs no memory. Commands and the PDUs of an R2T take
//! turns PDU by PDU: a long write does not hold back reads.

use super::commands::{Commands, Kind, State};
use super::{HostQueue, Phase, Reason};
use crate::nvme::crc32c;
use crate::nvme::payload::PayloadMemory;
use crate::nvme::pdu::{CapsuleCmd, DIGEST_LEN, FatalStatus, H2cData, IcReq, Negotiated, TERM_MAX, TermReq};
use crc_fast::{CrcAlgorithm, Digest};
use std::collections::VecDeque;
use zerocopy::IntoBytes;

/// Where the data of the PDU being sent comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Memory,
    Control,
}

pub(super) struct Sender {
    /// Commands with a PDU to be sent: a capsule if Queued, H2CData if Sent. A command is in here at most once.
    turns: VecDeque<u16>,
    icreq: Option<IcReq>,
    /// The command whose PDU is being sent.
    current: Option<u16>,
    head: [u8; TERM_MAX as usize],
    head_len: usize,
    head_at: usize,
    source: Source,
    offset: u32,
    left: u32,
    digest: Option<Digest>,
    tail: [u8; DIGEST_LEN],
    tail_left: usize,
}

impl Sender {
    pub(super) fn new(icreq: IcReq) -> Sender {
        Sender {
            turns: VecDeque::new(),
            icreq: Some(icreq),
            current: None,
            head: [0; TERM_MAX as usize],
            head_len: 0,
            head_at: 0,
            source: Source::Control,
            offset: 0,
            left: 0,
            digest: None,
            tail: [0; DIGEST_LEN],
            tail_left: 0,
        }
    }

    pub(super) fn enqueue(&mut self, cid: u16) {
        self.turns.push_back(cid);
    }

    /// Takes back a command of which no byte was handed out.
    pub(super) fn withdraw(&mut self, cid: u16) -> bool {
        if self.current == Some(cid) {
            return false;
        }
        self.turns.retain(|&other| other != cid);
        true
    }

    /// The command of which some bytes were handed out, but not all.
    pub(super) fn begun(&self) -> Option<u16> {
        self.current
    }

    pub(super) fn is_idle(&self) -> bool {
        self.turns.is_empty() && self.icreq.is_none() && self.at_boundary()
    }

    fn at_boundary(&self) -> bool {
        self.head_at == self.head_len && self.left == 0 && self.tail_left == 0 && self.digest.is_none()
    }

    /// Replaces everything that is not begun by a terminate request about `header`. A PDU that is in the middle of its
    /// data cannot be completed any more, so nothing can follow it.
    pub(super) fn terminate(&mut self, why: Option<(FatalStatus, u32)>, header: &[u8]) {
        self.turns.clear();
        self.icreq = None;
        let data_owed = self.left > 0 || self.tail_left > 0 || self.digest.is_some();
        let head_owed = self.head_len - self.head_at;
        (self.current, self.left, self.tail_left, self.digest) = (None, 0, 0, None);
        let Some((fes, fei)) = why.filter(|_| !data_owed && head_owed <= self.head.len() - 24) else {
            (self.head_at, self.head_len) = (0, 0);
            return;
        };
        // What is left of a head without data still goes out: the controller must see a whole PDU before the next.
        self.head.copy_within(self.head_at..self.head_len, 0);
        let header = &header[..header.len().min(self.head.len() - 24 - head_owed)];
        let term = TermReq::h2c(fes, fei, header.len());
        self.head[head_owed..head_owed + 24].copy_from_slice(term.as_bytes());
        self.head[head_owed + 24..head_owed + 24 + header.len()].copy_from_slice(header);
        (self.head_at, self.head_len) = (0, head_owed + 24 + header.len());
    }

    /// Puts a head together: header, digest, zeros up to the data.
    fn begin(&mut self, header: &[u8], pdo: u8, negotiated: &Negotiated) {
        let mut len = header.len();
        self.head[..len].copy_from_slice(header);
        if negotiated.header_digest {
            self.head[len..len + DIGEST_LEN].copy_from_slice(&crc32c(header).to_le_bytes());
            len += DIGEST_LEN;
        }
        let padded = len.max(usize::from(pdo));
        self.head[len..padded].fill(0);
        (self.head_at, self.head_len) = (0, padded);
    }

    fn begin_data(&mut self, source: Source, offset: u32, len: u32, negotiated: &Negotiated) {
        (self.source, self.offset, self.left) = (source, offset, len);
        self.digest = negotiated.data_digest.then(|| Digest::new(CrcAlgorithm::Crc32Iscsi));
    }

    /// Begins the next PDU, if there is one.
    fn next(&mut self, commands: &mut Commands, negotiated: &Negotiated, limits: &Limits) -> bool {
        if let Some(icreq) = self.icreq.take() {
            self.begin(icreq.as_bytes(), 0, &Negotiated::default());
            return true;
        }
        let Some(cid) = self.turns.pop_front() else { return false };
        let Some(command) = commands.get(cid) else { return false };
        self.current = Some(cid);
        if command.state == State::Queued {
            let in_capsule = match command.kind {
                Kind::ControlWrite => Some((Source::Control, command.len)),
                Kind::Write if command.len <= limits.in_capsule => Some((Source::Memory, command.len)),
                _ => None,
            };
            let pdu = CapsuleCmd::new(*commands.sqe(cid), in_capsule.map_or(0, |(_, len)| len), negotiated);
            self.begin(pdu.as_bytes(), pdu.common.pdo, negotiated);
            if let Some((source, len)) = in_capsule {
                self.begin_data(source, 0, len, negotiated);
            }
        } else {
            let len = (command.r2t_end - command.r2t_at).min(limits.max_h2c_data);
            let last = command.r2t_at + len == command.r2t_end;
            let pdu = H2cData::new(cid, command.ttag, command.r2t_at, len, last, negotiated);
            self.begin(pdu.as_bytes(), pdu.common.pdo, negotiated);
            self.begin_data(Source::Memory, command.r2t_at, len, negotiated);
        }
        true
    }

    /// The current PDU has been handed out whole.
    fn end(&mut self, commands: &mut Commands) {
        let Some(cid) = self.current.take() else { return };
        let Some(command) = commands.get_mut(cid) else { return };
        if command.state == State::Queued {
            command.state = State::Sent;
            return;
        }
        command.r2t_at = self.offset;
        if command.r2t_at < command.r2t_end {
            self.turns.push_back(cid);
        }
    }
}

/// What the controller takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of data in a command capsule.
    pub(super) in_capsule: u32,
    /// MAXH2CDATA.
    pub(super) max_h2c_data: u32,
}

impl HostQueue {
    /// True if there are bytes to be sent.
    pub fn has_output(&self) -> bool {
        !self.sender.is_idle()
    }

    /// Writes the next bytes for the controller to `out`; returns how many. They count as sent: the caller gives all of
    /// them to the connection, in order. A PDU is cut wherever `out` ends and goes on with the next call.
    pub fn transmit<M: PayloadMemory + ?Sized>(&mut self, memory: &M, out: &mut [u8]) -> usize {
        let mut done = 0;
        while done < out.len() {
            if self.sender.at_boundary() && !self.sender.next(&mut self.commands, &self.negotiated, &self.limits) {
                break;
            }
            let sender = &mut self.sender;
            let n = (sender.head_len - sender.head_at).min(out.len() - done);
            out[done..done + n].copy_from_slice(&sender.head[sender.head_at..sender.head_at + n]);
            sender.head_at += n;
            done += n;
            let n = (sender.left as usize).min(out.len() - done);
            if n > 0 && sender.head_at == sender.head_len {
                let (part, cid) = (&mut out[done..done + n], sender.current.unwrap_or(u16::MAX));
                let from = sender.offset as usize;
                match (sender.source, self.commands.control(cid).get(from..from + n)) {
                    (Source::Control, Some(bytes)) => part.copy_from_slice(bytes),
                    (Source::Control, None) => part.fill(0),
                    (Source::Memory, _) => {
                        if let Err(error) = memory.fetch(cid, sender.offset, part) {
                            self.fail(Reason::Memory(error));
                            break;
                        }
                    }
                }
                if let Some(digest) = &mut sender.digest {
                    digest.update(part);
                }
                sender.offset += n as u32;
                sender.left -= n as u32;
                done += n;
            }
            if sender.left == 0
                && let Some(digest) = sender.digest.take()
            {
                sender.tail = (digest.finalize() as u32).to_le_bytes();
                sender.tail_left = DIGEST_LEN;
            }
            let n = sender.tail_left.min(out.len() - done);
            let at = DIGEST_LEN - sender.tail_left;
            out[done..done + n].copy_from_slice(&sender.tail[at..at + n]);
            sender.tail_left -= n;
            done += n;
            if sender.at_boundary() {
                sender.end(&mut self.commands);
                self.counters.pdus_sent += 1;
            }
        }
        debug_assert!(self.phase != Phase::Failed || self.sender.turns.is_empty());
        done
    }
}
