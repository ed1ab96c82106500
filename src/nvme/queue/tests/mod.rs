//! A queue against a scripted controller: its bytes are written down from the specification's numbers and digests come
//! from a bitwise CRC, so nothing here can share a mistake with the code under test.
//!
//! | property | test |
//! |---|---|
//! | the handshake has the specified bytes, and Connect's result reaches the owner | `life::handshake` |
//! | any cut into frames, any placement, any PDU sizes, digests: bytes exact, placed + copied = length | `read::any_layout_delivers_the_bytes` |
//! | a stream cut at any byte is the same stream | `read::a_cut_at_any_byte_changes_nothing` |
//! | the device's digest counts only with credit on every frame of the PDU | `read::credit_must_cover_every_frame` |
//! | a damaged PDU fails its command, not the connection, and only by its own range | `read::damaged_data_fails_its_command` |
//! | a write is the same bytes whatever room it is given | `write::any_room_gives_the_same_bytes` |
//! | each malformed PDU ends the connection, names the field, is answered by H2CTermReq | `refuse::*` |
//! | every submitted command completes once; identifiers come back only by release | `life::*` |
//! | cancelled commands touch no memory | `life::*` |
//! | resync questions are answered from PDU positions | `life::resync_*` |
//! | no input panics | `refuse::random_bytes_never_panic` |

mod life;
mod read;
mod refuse;
mod write;

use super::*;
use crate::frame::{Frame, Placed, Range, RxBuffer};
use crate::nvme::fabrics::Nqn;
use crate::nvme::payload::{Delivery, PayloadError, PayloadMemory};
use std::cell::Cell;
use std::collections::BTreeMap;

/// CRC32C by its definition: reflected polynomial 0x82f63b78, one bit at a time.
fn bitwise_crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn the_bitwise_crc_gives_the_published_check_value() {
    assert_eq!(bitwise_crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(crate::nvme::crc32c(b"123456789"), 0xe306_9283);
}

/// Payload memory of plain vectors.
#[derive(Default)]
pub(in crate::nvme) struct Memory {
    pub(in crate::nvme) ring: Vec<Vec<u8>>,
    tags: BTreeMap<u16, (u32, Vec<u8>)>,
    digests: Cell<u32>,
}

impl Memory {
    fn source(&self, range: Range) -> Result<&[u8], PayloadError> {
        let (bytes, offset, len) = match range {
            Range::Ring { buffer, offset, len } => (&self.ring[buffer as usize], offset, len),
            Range::Placed { at, len } => match self.tags.get(&at.tag) {
                Some((generation, bytes)) if *generation == at.generation => (bytes, at.offset, len),
                _ => return Err(PayloadError::Stale { tag: at.tag, generation: at.generation }),
            },
        };
        Ok(&bytes[offset as usize..(offset + len) as usize])
    }

    fn tag(&self, tag: u16, offset: u32, len: u32) -> Result<&[u8], PayloadError> {
        let (_, bytes) = self.tags.get(&tag).ok_or(PayloadError::NoBuffer { tag })?;
        let size = bytes.len() as u32;
        bytes.get(offset as usize..(offset + len) as usize).ok_or(PayloadError::OutOfRange { tag, offset, len, size })
    }
}

impl PayloadMemory for Memory {
    fn peek(&self, range: Range, out: &mut [u8]) -> Result<(), PayloadError> {
        out.copy_from_slice(&self.source(range)?[..out.len()]);
        Ok(())
    }

    fn deliver(&mut self, tag: u16, offset: u32, range: Range) -> Result<Delivery, PayloadError> {
        self.tag(tag, offset, range.len())?;
        if let Range::Placed { at, .. } = range
            && at == (Placed { tag, generation: self.tags[&tag].0, offset })
        {
            return Ok(Delivery::InPlace);
        }
        let bytes = self.source(range)?.to_vec();
        let (_, to) = self.tags.get_mut(&tag).ok_or(PayloadError::NoBuffer { tag })?;
        to[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        Ok(Delivery::Copied)
    }

    fn digest(&self, tag: u16, offset: u32, len: u32) -> Result<u32, PayloadError> {
        self.digests.set(self.digests.get() + 1);
        Ok(bitwise_crc32c(self.tag(tag, offset, len)?))
    }

    fn fetch(&self, tag: u16, offset: u32, out: &mut [u8]) -> Result<(), PayloadError> {
        out.copy_from_slice(self.tag(tag, offset, out.len() as u32)?);
        Ok(())
    }
}

/// A run of a read's payload in the stream.
#[derive(Clone, Copy, Debug)]
struct Payload {
    at: usize,
    len: usize,
    cid: u16,
    offset: u32,
}

/// What the controller says, byte by byte.
#[derive(Clone, Default)]
pub(in crate::nvme) struct Script {
    pub(in crate::nvme) header_digest: bool,
    pub(in crate::nvme) data_digest: bool,
    pub(in crate::nvme) stream: Vec<u8>,
    payload: Vec<Payload>,
    /// The same with the data digests.
    digested: Vec<Payload>,
}

impl Script {
    pub(in crate::nvme) fn new(header_digest: bool, data_digest: bool) -> Script {
        Script { header_digest, data_digest, ..Script::default() }
    }

    /// Common header, the rest of the header, header digest if `digest`.
    fn pdu(&mut self, start: [u8; 4], plen: u32, rest: &[u8], digest: bool) {
        let mut header = start.to_vec();
        header.extend(plen.to_le_bytes());
        header.extend(rest);
        if digest {
            header.extend(bitwise_crc32c(&header).to_le_bytes());
        }
        self.stream.extend(header);
    }

    pub(in crate::nvme) fn icresp(&mut self, cpda: u8, maxh2cdata: u32) {
        let dgst = u8::from(self.header_digest) + 2 * u8::from(self.data_digest);
        let mut rest = vec![0, 0, cpda, dgst];
        rest.extend(maxh2cdata.to_le_bytes());
        rest.resize(120, 0);
        self.pdu([1, 0, 128, 0], 128, &rest, false);
    }

    pub(in crate::nvme) fn response(&mut self, cid: u16, status: u16, result: u64) {
        let mut cqe = result.to_le_bytes().to_vec();
        cqe.extend([0xff, 0xff, 0, 0]);
        cqe.extend(cid.to_le_bytes());
        cqe.extend((status << 1).to_le_bytes());
        let digest = self.header_digest;
        self.pdu([5, u8::from(digest), 24, 0], 24 + 4 * u32::from(digest), &cqe, digest);
    }

    /// C2HData with `flags` (LAST 4, SUCCESS 8) and its data at `pdo` bytes, 0 for right after the header.
    pub(in crate::nvme) fn data(&mut self, cid: u16, datao: u32, bytes: &[u8], flags: u8, pdo: u8) {
        let (hd, dd) = (u32::from(self.header_digest), u32::from(self.data_digest));
        let pdo = if pdo == 0 { 24 + 4 * hd as u8 } else { pdo };
        let flags = flags + hd as u8 + 2 * dd as u8;
        let mut rest = cid.to_le_bytes().to_vec();
        rest.extend([0, 0]);
        rest.extend(datao.to_le_bytes());
        rest.extend((bytes.len() as u32).to_le_bytes());
        rest.extend([0; 4]);
        let start = self.stream.len();
        self.pdu([7, flags, 24, pdo], u32::from(pdo) + bytes.len() as u32 + 4 * dd, &rest, hd == 1);
        self.stream.resize(start + usize::from(pdo), 0xda);
        let run = Payload { at: self.stream.len(), len: bytes.len(), cid, offset: datao };
        self.payload.push(run);
        self.digested.push(Payload { len: run.len + 4 * dd as usize, ..run });
        self.stream.extend(bytes);
        if dd == 1 {
            self.stream.extend(bitwise_crc32c(bytes).to_le_bytes());
        }
    }

    fn r2t(&mut self, cid: u16, ttag: u16, r2to: u32, r2tl: u32) {
        let mut rest = cid.to_le_bytes().to_vec();
        rest.extend(ttag.to_le_bytes());
        rest.extend(r2to.to_le_bytes());
        rest.extend(r2tl.to_le_bytes());
        rest.extend([0; 4]);
        let digest = self.header_digest;
        self.pdu([9, u8::from(digest), 24, 0], 24 + 4 * u32::from(digest), &rest, digest);
    }
}

/// A queue with its memory and its peer.
struct Rig {
    queue: HostQueue,
    memory: Memory,
    peer: Script,
    /// Sequence number of the first byte of `peer.stream`.
    seq: u32,
    now: Duration,
}

fn config(header_digest: bool, data_digest: bool) -> QueueConfig {
    let nqn = |name| Nqn::new(name).expect("a name");
    QueueConfig {
        identity: HostIdentity { host_id: [7; 16], host_nqn: nqn("nqn.h"), subsystem_nqn: nqn("nqn.s") },
        controller_id: 1,
        queue_id: 2,
        depth: 8,
        keep_alive_ms: 0,
        header_digest,
        data_digest,
        hpda: 0,
        in_capsule_bytes: 4096,
        max_transfer: 1 << 20,
        initialize_timeout: Duration::from_secs(5),
        command_timeout: Duration::from_secs(30),
    }
}

impl Rig {
    fn new(config: QueueConfig) -> Rig {
        let peer = Script::new(config.header_digest, config.data_digest);
        let queue = HostQueue::new(config, Duration::ZERO).expect("a legal queue");
        // Shortly before the sequence space wraps.
        Rig { queue, memory: Memory::default(), peer, seq: 0xffff_ff00, now: Duration::ZERO }
    }

    /// Initialized and connected.
    fn ready(config: QueueConfig) -> Rig {
        Rig::ready_with(config, 0, 8192)
    }

    fn ready_with(config: QueueConfig, cpda: u8, maxh2cdata: u32) -> Rig {
        let mut rig = Rig::new(config);
        assert_eq!(rig.sent().len(), 128);
        rig.peer.icresp(cpda, maxh2cdata);
        rig.hear();
        rig.sent();
        rig.peer.response(0, 0, 1);
        rig.hear();
        assert_eq!(rig.events(), [Event::Ready { controller_id: 1 }]);
        rig
    }

    /// Everything that the queue sends now.
    fn sent(&mut self) -> Vec<u8> {
        let (mut all, mut out) = (Vec::new(), [0; 333]);
        loop {
            let n = self.queue.transmit(&self.memory, &mut out);
            all.extend(&out[..n]);
            if n == 0 {
                assert!(!self.queue.has_output());
                return all;
            }
            assert!(all.len() < 1 << 24, "output without end");
        }
    }

    /// Gives the queue the next frame of `len` bytes of the peer's stream, of which `placed` lies in its destination.
    fn frame(&mut self, len: usize, placed: Option<Payload>, digest_ok: bool) {
        let mut bytes: Vec<u8> = self.peer.stream.drain(..len).collect();
        let buffer = self.memory.ring.len() as u32;
        let mut frame = Frame::new(RxBuffer(buffer), len as u32).with_digest_ok(digest_ok);
        if let Some(run) = placed {
            let (generation, to) = self.memory.tags.get_mut(&run.cid).expect("a bound tag");
            let hole = &mut bytes[run.at..run.at + run.len];
            to[run.offset as usize..][..run.len].copy_from_slice(hole);
            hole.fill(0xee);
            let at = Placed { tag: run.cid, generation: *generation, offset: run.offset };
            frame = frame.with_placed(run.at as u32, run.len as u32, at);
        }
        self.memory.ring.push(bytes);
        self.queue.receive_frame(self.seq, &frame, &mut self.memory);
        let _ = frame.into_buffer();
        self.seq = self.seq.wrapping_add(len as u32);
        for runs in [&mut self.peer.payload, &mut self.peer.digested] {
            for run in runs.iter_mut() {
                let gone = len.saturating_sub(run.at).min(run.len);
                run.at = (run.at + gone).saturating_sub(len);
                run.len -= gone;
                run.offset = run.offset.wrapping_add(gone as u32);
            }
            runs.retain(|run| run.len > 0);
        }
    }

    /// Gives the queue the peer's whole stream as one frame without placement.
    fn hear(&mut self) {
        self.frame(self.peer.stream.len(), None, false);
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.queue.poll_event()).collect()
    }

    /// The only event, a completion.
    fn completion(&mut self) -> Completion {
        match self.events().as_slice() {
            [Event::Completed(completion)] => *completion,
            other => panic!("expected one completion, found {other:?}"),
        }
    }

    fn submit(&mut self, request: Request) -> u16 {
        let cid = self.queue.allocate_cid().expect("a free identifier");
        let len = request.data.len() as usize;
        let generation = self.memory.tags.get(&cid).map_or(1, |(generation, _)| generation + 1);
        self.memory.tags.insert(cid, (generation, vec![0xaa; len]));
        self.queue.submit(cid, request, self.now).expect("a legal request");
        cid
    }

    /// A read of `len` bytes whose capsule is out.
    fn read(&mut self, len: u32) -> u16 {
        let cid = self.submit(Request::read(1, 0, len, 1).expect("legal"));
        self.sent();
        cid
    }

    /// The reason of the only failure, and the H2CTermReq that follows it: (FES, FEI, header at fault).
    fn failure(&mut self) -> (Reason, Option<(u16, u32, Vec<u8>)>) {
        let events = self.events();
        let mut failures = events.iter().filter_map(|event| match event {
            Event::Failed(reason) => Some(reason.clone()),
            _ => None,
        });
        let reason = failures.next().unwrap_or_else(|| panic!("no failure in {events:?}"));
        assert_eq!(failures.next(), None);
        let sent = self.sent();
        if sent.is_empty() {
            return (reason, None);
        }
        assert_eq!(sent[..4], [2, 0, 24, 0], "H2CTermReq");
        assert_eq!(sent[4..8], (sent.len() as u32).to_le_bytes());
        let fei = u32::from_le_bytes([sent[10], sent[11], sent[12], sent[13]]);
        (reason, Some((u16::from_le_bytes([sent[8], sent[9]]), fei, sent[24..].to_vec())))
    }
}

/// Bytes that differ from their neighbours.
fn pattern(len: usize, salt: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(7).wrapping_add((i >> 8) as u8).wrapping_add(salt)).collect()
}
