//! What a controller says to a host queue: PDUs with any field wrong, noise, cut anywhere; payload that the device placed
//! where it belongs, or elsewhere.
//!
//! The oracle walks the same bytes by the positions of NVMe/TCP 3.6.2 and notes what belongs into which read: a read that
//! succeeds must hold exactly that, all of it. The stream is played twice, cut as the input says and not cut at all, and
//! must come to the same.

use super::input::Input;
use connectx_ddp::frame::{Placed, Range};
use connectx_ddp::nvme::command::Request;
use connectx_ddp::nvme::fabrics::{HostIdentity, Nqn};
use connectx_ddp::nvme::queue::{Cancelled, Counters};
use connectx_ddp::nvme::{Delivery, Event, HostQueue, PayloadError, PayloadMemory, QueueConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const NOW: Duration = Duration::from_secs(1);
/// First sequence number of the stream.
const FIRST: u32 = 0xffff_fc00;
const DEPTH: u16 = 6;
/// Small, so that a stream has many PDUs.
const BLOCK: u32 = 64;
/// PDUs of one input at most.
const PDUS: usize = 60;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let digests = input.u8();
    let (header_digest, data_digest) = (digests & 1 != 0, digests & 2 != 0);
    let script = Script::new(&mut input, header_digest, data_digest);
    let cuts: Vec<u16> = (0..input.below(12)).map(|_| input.u16()).collect();
    let whole = script.play(&[]);
    let cut = script.play(&cuts);
    // What a device overwrote elsewhere is lost; the driver's memory marks that (`ddp::memory`), the one here does not. The same
    // if a controller says a byte twice and the device has placed the second before anybody looked at the first.
    if script.placed.iter().all(|(at, len, to)| script.belongs(*at, to) && script.said_once(*len, to)) {
        assert_eq!(whole.events, cut.events, "cuts change what happens");
        assert_eq!(whole.counters, cut.counters, "cuts change what is counted");
        script.check(&whole);
        script.check(&cut);
    }
}

/// The bytes of a controller, and what the host does before it hears them.
struct Script {
    config: QueueConfig,
    header_digest: bool,
    data_digest: bool,
    stream: Vec<u8>,
    /// Where the device placed payload: position in the stream, length, and where to.
    placed: Vec<(u32, u32, Placed)>,
    /// Commands, submitted once the queue is ready: blocks of a read (of a write if negative), cancelled or not.
    commands: Vec<(i8, bool)>,
    /// Resync questions: asked when the stream is at this position.
    questions: Vec<(u32, u32)>,
    vouched: bool,
}

struct Played {
    events: Vec<Event>,
    counters: Counters,
    buffers: BTreeMap<u16, Vec<u8>>,
    reads: BTreeSet<u16>,
}

impl Script {
    fn new(input: &mut Input<'_>, header_digest: bool, data_digest: bool) -> Script {
        let name = |name| Nqn::new(name).expect("a name");
        let config = QueueConfig {
            identity: HostIdentity {
                host_id: [0x80; 16],
                host_nqn: name("nqn.2026-01.io.connectx-ddp:fuzz"),
                subsystem_nqn: name("nqn.2026-01.io.connectx-ddp:target"),
            },
            controller_id: 1,
            queue_id: 1,
            depth: DEPTH,
            keep_alive_ms: 0,
            header_digest,
            data_digest,
            hpda: 0,
            in_capsule_bytes: if input.u8() < 128 { 0 } else { 4096 },
            max_transfer: 1 << 20,
            initialize_timeout: Duration::from_secs(10),
            command_timeout: Duration::from_secs(10),
        };
        let mut script = Script {
            config,
            header_digest,
            data_digest,
            stream: Vec::new(),
            placed: Vec::new(),
            commands: Vec::new(),
            questions: Vec::new(),
            vouched: input.u8() < 64,
        };
        for _ in 0..input.below(u32::from(DEPTH)) {
            let blocks = i8::try_from(1 + input.below(8)).expect("small");
            let kind = input.u8();
            script.commands.push((if kind & 1 == 0 { blocks } else { -blocks }, kind & 0x30 == 0x30));
        }
        // The beginning is honest most of the time, or nothing else would be reached.
        if input.u8() < 240 {
            script.icresp(u8::from(header_digest) | u8::from(data_digest) << 1);
            let connected = script.response(0, 0, 1);
            script.pdu(connected, &[], input, false);
        }
        for _ in 0..PDUS {
            if input.is_empty() {
                break;
            }
            script.next(input);
        }
        script
    }

    fn icresp(&mut self, digests: u8) {
        let mut pdu = [0; 128];
        pdu[..8].copy_from_slice(&[1, 0, 128, 0, 128, 0, 0, 0]);
        pdu[11] = digests;
        pdu[12..16].copy_from_slice(&65_536u32.to_le_bytes());
        self.stream.extend(pdu);
    }

    fn response(&self, cid: u16, status: u16, result: u32) -> Vec<u8> {
        let mut pdu = vec![0; 24];
        pdu[..8].copy_from_slice(&[5, 0, 24, 0, 24, 0, 0, 0]);
        pdu[8..12].copy_from_slice(&result.to_le_bytes());
        pdu[20..22].copy_from_slice(&cid.to_le_bytes());
        pdu[22..24].copy_from_slice(&(status << 1).to_le_bytes());
        pdu
    }

    /// Adds a PDU of this header and data, with digests; `bend` changes bytes of the header before its digest is computed.
    fn pdu(&mut self, mut header: Vec<u8>, data: &[u8], input: &mut Input<'_>, bend: bool) {
        let digest = |bytes: &[u8]| crc32c(bytes).to_le_bytes();
        let mut len = header.len() + data.len();
        if self.header_digest {
            header[1] |= 1;
            len += 4;
        }
        if !data.is_empty() {
            header[3] = (header.len() + if self.header_digest { 4 } else { 0 }) as u8;
            if self.data_digest {
                header[1] |= 2;
                len += 4;
            }
        }
        header[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        if bend {
            input.bend(&mut header);
        }
        let (header_sum, data_sum) = (digest(&header), digest(data));
        self.stream.extend(&header);
        if self.header_digest {
            self.stream.extend(header_sum);
        }
        self.stream.extend(data);
        if self.data_digest && !data.is_empty() {
            self.stream.extend(data_sum);
        }
        // Bytes that no digest covers any more.
        if bend && input.u8() < 16 {
            let from = self.stream.len() - len.min(self.stream.len());
            input.bend(&mut self.stream[from..]);
        }
    }

    fn next(&mut self, input: &mut Input<'_>) {
        let kind = input.u8();
        let cid = input.below(u32::from(DEPTH) + 1) as u16;
        let bend = input.u8() < 64;
        let words = |pdu: &mut Vec<u8>, input: &mut Input<'_>| {
            let (offset, len) = (input.below(9) * BLOCK, input.below(5) * BLOCK);
            pdu[8..10].copy_from_slice(&cid.to_le_bytes());
            pdu[12..16].copy_from_slice(&offset.to_le_bytes());
            pdu[16..20].copy_from_slice(&len.to_le_bytes());
            (offset, len)
        };
        match kind {
            0..=139 => {
                let mut header = vec![0; 24];
                header[..3].copy_from_slice(&[7, [0, 4, 12, 4][usize::from(kind % 4)], 24]);
                let (offset, len) = words(&mut header, input);
                let first = input.u8();
                let data: Vec<u8> = (0..len).map(|n| first.wrapping_add((n / 3) as u8)).collect();
                let at = self.stream.len() as u32 + 24 + if self.header_digest { 4 } else { 0 };
                self.pdu(header, &data, input, bend);
                // What the device says of it: nothing, the truth, or another place.
                let place = input.u8();
                if place >= 128 && len != 0 {
                    let skip = input.below(len);
                    let run = 1 + input.below(len - skip);
                    let (tag, shift) = if place >= 240 { (input.below(8) as u16, input.below(300)) } else { (cid, 0) };
                    let to = Placed { tag, generation: 0, offset: (offset + skip).wrapping_add(shift) };
                    self.placed.push((at + skip, run, to));
                }
            }
            140..=189 => {
                let status = if input.u8() < 200 { 0 } else { input.u16() & 0x7fff };
                let header = self.response(cid, status, input.u16().into());
                self.pdu(header, &[], input, bend);
            }
            190..=209 => {
                let mut header = vec![0; 24];
                header[..3].copy_from_slice(&[9, 0, 24]);
                words(&mut header, input);
                header[10] = input.u8();
                self.pdu(header, &[], input, bend);
            }
            210..=219 => {
                let mut header = vec![0; 24];
                header[..3].copy_from_slice(&[input.u8() % 12, 0, 24]);
                input.bend(&mut header[8..]);
                self.pdu(header, &[], input, bend);
            }
            220..=229 => self.icresp(input.u8()),
            230..=244 => {
                let noise = input.take(usize::from(input.clone().u8() % 64));
                self.stream.extend(noise);
            }
            245..=255 => {
                let at = self.stream.len() as u32;
                let about = FIRST.wrapping_add(at).wrapping_add_signed(i32::from(input.u8().cast_signed()));
                self.questions.push((at, about));
            }
        }
    }

    fn play(&self, cuts: &[u16]) -> Played {
        let mut queue = HostQueue::new(self.config.clone(), NOW).expect("a good configuration");
        let mut memory = Memory::new(&self.stream);
        let mut events = Vec::new();
        let (mut at, mut turn, mut submitted, mut failed) = (0, 0, false, false);
        let mut edges: Vec<u32> = self.placed.iter().flat_map(|placed| [placed.0, placed.0 + placed.1]).collect();
        edges.sort_unstable();
        edges.dedup();
        // In the order of the stream, as placed runs are.
        let mut questions = self.questions.iter().peekable();
        let mut answers =
            self.pdus().filter(|pdu| pdu.0.0[0] == 9).map(|pdu| u32::try_from(pdu.2).unwrap_or(u32::MAX)).peekable();
        self.send(&mut queue, &memory);
        loop {
            while let Some(event) = queue.poll_event() {
                failed |= matches!(event, Event::Failed(_));
                events.push(event);
            }
            if queue.is_ready() && !std::mem::replace(&mut submitted, true) {
                self.submit(&mut queue, &mut memory);
            }
            self.send(&mut queue, &memory);
            while let Some((_, about)) = questions.next_if(|question| question.0 <= at) {
                queue.resync_request(*about);
            }
            if at as usize >= self.stream.len() {
                break;
            }
            // Both ways of cutting stop where something happens beside the stream: a question, an answer to an R2T, or the queue
            // may become ready.
            let question = questions.peek().map_or(u32::MAX, |question| question.0);
            while answers.next_if(|answer| *answer <= at).is_some() {}
            let answer = answers.peek().copied().unwrap_or(u32::MAX);
            let ready = if submitted || failed { u32::MAX } else { at + 1 };
            let end = question.min(answer).min(ready).min(self.stream.len() as u32);
            let cut = match cuts.get(turn % cuts.len().max(1)) {
                Some(cut) => (at + 1 + u32::from(*cut) % 200).min(end),
                None => end,
            };
            turn += 1;
            let mut from = at;
            let inner = &edges[edges.partition_point(|edge| *edge <= at)..edges.partition_point(|edge| *edge < cut)];
            let ranges: Vec<_> = inner
                .iter()
                .chain([&cut])
                .map(|to| self.range(&mut memory, std::mem::replace(&mut from, *to), *to))
                .collect();
            queue.receive(FIRST.wrapping_add(at), self.vouched, ranges, &mut memory);
            at = cut;
        }
        queue.connection_closed();
        events.extend(std::iter::from_fn(|| queue.poll_event()));
        assert_eq!(queue.outstanding(), 0, "a command never completed");
        // What came in the same packet as the failure is not counted as coming after it.
        let counters = Counters { bytes_after_failure: 0, ..*queue.counters() };
        Played { events, counters, buffers: memory.buffers, reads: memory.reads }
    }

    fn submit(&self, queue: &mut HostQueue, memory: &mut Memory<'_>) {
        for (blocks, cancelled) in &self.commands {
            let Some(cid) = queue.allocate_cid() else { break };
            let count = u32::from(blocks.unsigned_abs());
            let request = match *blocks > 0 {
                true => Request::read(1, 0, count, BLOCK),
                false => Request::write(1, 0, count, BLOCK),
            };
            if *blocks > 0 {
                memory.reads.insert(cid);
            }
            memory.buffers.insert(cid, vec![0xee; (count * BLOCK) as usize]);
            queue.submit(cid, request.expect("a few blocks"), NOW).expect("ready");
            if *cancelled {
                if cid % 2 == 0 {
                    self.send(queue, memory);
                }
                if let Ok(Cancelled::NotSent | Cancelled::Discarding) = queue.cancel(cid) {
                    memory.gone.insert(cid);
                }
            }
        }
    }

    fn send(&self, queue: &mut HostQueue, memory: &Memory<'_>) {
        let mut out = [0; 300];
        for _ in 0..10_000 {
            if queue.transmit(memory, &mut out) == 0 {
                return;
            }
        }
        panic!("output without end");
    }

    /// A run of the stream as the device left it: the payload that it placed lies in a buffer.
    fn range(&self, memory: &mut Memory<'_>, from: u32, to: u32) -> Range {
        let len = to - from;
        let last = self.placed.partition_point(|placed| placed.0 <= from).checked_sub(1);
        let placed = last.map(|last| &self.placed[last]).filter(|placed| to <= placed.0 + placed.1);
        if let Some((at, _, place)) = placed {
            let offset = place.offset.wrapping_add(from - at);
            let bytes = &self.stream[from as usize..to as usize];
            if memory.place(place.tag, offset, bytes) {
                return Range::Placed { at: Placed { offset, ..*place }, len };
            }
        }
        Range::Ring { buffer: 0, offset: from, len }
    }

    /// What succeeded holds what the stream said, byte by byte.
    fn check(&self, played: &Played) {
        let none = |buffer: &Vec<u8>| vec![None; buffer.len()];
        let mut expected: BTreeMap<u16, Vec<Option<u8>>> =
            played.buffers.iter().map(|(cid, buffer)| (*cid, none(buffer))).collect();
        for (header, data, _) in self.pdus().filter(|(header, ..)| header.0[0] == 7) {
            let (cid, offset, len) = (header.word(8) as u16, header.word(12), header.word(16) as usize);
            if let Some(bytes) = self.stream.get(data..data.saturating_add(len))
                && let Some(buffer) = expected.get_mut(&cid)
            {
                // The first counts: a host that lived on has taken nothing twice.
                for (to, byte) in buffer.iter_mut().skip(offset as usize).zip(bytes) {
                    to.get_or_insert(*byte);
                }
            }
        }
        for event in &played.events {
            if let Event::Completed(done) = event
                && done.status.is_success()
                && !done.cancelled
                && played.reads.contains(&done.cid)
            {
                let buffer = &played.buffers[&done.cid];
                assert_eq!(done.placed + done.copied, buffer.len() as u32);
                let wrong = expected[&done.cid].iter().zip(buffer).position(|(said, byte)| *said != Some(*byte));
                assert_eq!(wrong, None, "first wrong byte of command {}", done.cid);
            }
        }
    }

    /// The PDUs as a host finds them: header, and where data and PDU end.
    fn pdus(&self) -> impl Iterator<Item = (Header<'_>, usize, usize)> {
        let mut at = 128;
        std::iter::from_fn(move || {
            let header = Header(self.stream.get(at..at + 24)?);
            let data = at + usize::from(header.0[3]);
            at += (header.word(4) as usize).max(24);
            Some((header, data, at))
        })
    }

    /// True if the payload at position `at` of the stream belongs to where the device put it.
    fn belongs(&self, position: u32, to: &Placed) -> bool {
        let within = |pdu: &(Header<'_>, usize, usize)| (pdu.1..pdu.2).contains(&(position as usize));
        self.pdus().find(within).is_some_and(|(header, data, _)| {
            header.is_of(to.tag) && header.word(12).wrapping_add(position - data as u32) == to.offset
        })
    }

    /// True if no more than one PDU has these bytes of the tag.
    fn said_once(&self, len: u32, to: &Placed) -> bool {
        let (start, end) = (u64::from(to.offset), u64::from(to.offset) + u64::from(len));
        let has = |header: &Header<'_>| {
            let (from, len) = (u64::from(header.word(12)), u64::from(header.word(16)));
            header.is_of(to.tag) && from < end && start < from + len
        };
        self.pdus().filter(|(header, ..)| has(header)).count() <= 1
    }
}

/// A common and a specific header (NVMe/TCP 3.6.2).
struct Header<'a>(&'a [u8]);

impl Header<'_> {
    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// C2HData of this command.
    fn is_of(&self, cid: u16) -> bool {
        self.0[0] == 7 && self.word(8) as u16 == cid
    }
}

/// Receive buffers, which are the stream, and the buffers of commands.
struct Memory<'a> {
    stream: &'a [u8],
    buffers: BTreeMap<u16, Vec<u8>>,
    reads: BTreeSet<u16>,
    /// Cancelled: nobody may touch these.
    gone: BTreeSet<u16>,
}

impl<'a> Memory<'a> {
    fn new(stream: &'a [u8]) -> Memory<'a> {
        Memory { stream, buffers: BTreeMap::new(), reads: BTreeSet::new(), gone: BTreeSet::new() }
    }

    fn place(&mut self, tag: u16, offset: u32, bytes: &[u8]) -> bool {
        let buffer = self.buffers.get_mut(&tag);
        let room = buffer.and_then(|buffer| buffer.get_mut(offset as usize..offset as usize + bytes.len()));
        room.map(|room| room.copy_from_slice(bytes)).is_some()
    }

    fn part(&self, tag: u16, offset: u32, len: u32) -> Result<&[u8], PayloadError> {
        let buffer = self.buffers.get(&tag).ok_or(PayloadError::NoBuffer { tag })?;
        let end = offset as usize + len as usize;
        let size = buffer.len() as u32;
        buffer.get(offset as usize..end).ok_or(PayloadError::OutOfRange { tag, offset, len, size })
    }

    fn source(&self, range: Range) -> Result<&[u8], PayloadError> {
        match range {
            Range::Ring { offset, len, .. } => Ok(&self.stream[offset as usize..(offset + len) as usize]),
            Range::Placed { at, len } => self.part(at.tag, at.offset, len),
        }
    }
}

impl PayloadMemory for Memory<'_> {
    fn peek(&self, range: Range, out: &mut [u8]) -> Result<(), PayloadError> {
        out.copy_from_slice(&self.source(range)?[..out.len()]);
        Ok(())
    }

    fn deliver(&mut self, tag: u16, offset: u32, range: Range) -> Result<Delivery, PayloadError> {
        assert!(!self.gone.contains(&tag), "the memory of a cancelled command is touched");
        let size = self.buffers.get(&tag).map_or(0, Vec::len);
        // The protocol checks what a controller claims; the memory only what a device does.
        assert!(offset as usize + range.len() as usize <= size, "{range:?} for {offset} of {size} bytes of {tag}");
        if matches!(range, Range::Placed { at, .. } if at.tag == tag && at.offset == offset) {
            return Ok(Delivery::InPlace);
        }
        let bytes = self.source(range)?.to_vec();
        self.place(tag, offset, &bytes);
        Ok(Delivery::Copied)
    }

    fn digest(&self, tag: u16, offset: u32, len: u32) -> Result<u32, PayloadError> {
        Ok(crc32c(self.part(tag, offset, len)?))
    }

    fn fetch(&self, tag: u16, offset: u32, out: &mut [u8]) -> Result<(), PayloadError> {
        out.copy_from_slice(self.part(tag, offset, out.len() as u32)?);
        Ok(())
    }
}

/// CRC32C by its definition (RFC 3720 §12.1): reflected, a bit at a time by a table of bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let (mut crc, mut bit) = (n as u32, 0);
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
                bit += 1;
            }
            table[n] = crc;
            n += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, byte| crc >> 8 ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}
