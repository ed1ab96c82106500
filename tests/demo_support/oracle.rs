//! What the hardware's rule allows to be placed, computed from the frames on the wire and from nothing else.
//!
//! ```text
//!  frame ─► Ethernet, IPv4, TCP ─► stream of its connection ─► PDU after PDU ─► runs of C2HData payload in this packet
//!           (by hand)              (every byte once, in order)                    └─► one of them: first, last or longest
//! ```
//!
//! It shares no code with the driver, the device or the target. Offsets are those of RFC 791, RFC 9293 and the NVMe/TCP
//! specification ("PDU common header", "C2HData", "Connect command"). A stream that is not in order, or a PDU that cannot
//! be, panics: the oracle is for runs in which nothing goes wrong on the wire.

use connectx_ddp::demo::Tap;
use connectx_ddp::observe::Direction;
use std::collections::BTreeMap;
use std::time::Duration;
use virtual_nic::offload::WhichRun;

/// TCP port of the target.
const TARGET: u16 = 4420;
/// PDU types.
const CAPSULE_CMD: u8 = 0x04;
const C2H_DATA: u8 = 0x07;

/// Watches a demonstration and knows what must have been placed of its reads.
pub struct Oracle {
    which: WhichRun,
    /// By the host's TCP port.
    connections: BTreeMap<u16, Connection>,
    /// TCP segments with payload towards the host on I/O queues.
    pub segments: u64,
    /// Packets of these that carry C2HData payload: one run of each can be placed.
    pub packets: u64,
    /// Bytes of the runs that can be placed.
    pub placeable: u64,
    /// Bytes of C2HData payload.
    pub payload: u64,
    /// Packets with more than one run.
    pub crowded: u64,
    /// C2HData PDUs that have ended, and those of them that have a data digest.
    pub data_pdus: u64,
    pub data_digests: u64,
    /// PDUs with a header digest, towards the host.
    pub header_digests: u64,
}

#[derive(Default)]
struct Connection {
    /// From Connect on.
    queue: Option<u16>,
    out: Stream,
    into: Stream,
}

/// One direction of a connection.
#[derive(Default)]
struct Stream {
    /// Sequence number of the next byte.
    next: Option<u32>,
    pdu: Pdu,
}

/// The PDU that the next byte of a stream belongs to.
#[derive(Default)]
struct Pdu {
    /// As much of the header as was needed.
    head: Vec<u8>,
    /// Bytes of the PDU so far.
    at: usize,
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Pdu {
    /// Header bytes that must be known before anything can be said about what follows.
    fn need(&self) -> usize {
        match self.head.first() {
            Some(&C2H_DATA) => 24,
            Some(&CAPSULE_CMD) => 72,
            _ => 8,
        }
    }

    fn plen(&self) -> usize {
        le32(&self.head, 4) as usize
    }

    /// Where the payload of a C2HData PDU is; nowhere in others.
    fn data(&self) -> std::ops::Range<usize> {
        match self.head[0] {
            C2H_DATA => {
                let (pdo, datal) = (usize::from(self.head[3]), le32(&self.head, 16) as usize);
                pdo..pdo + datal
            }
            _ => 0..0,
        }
    }

    /// Takes bytes up to the next border: of the header, of the payload, of the PDU. Returns how many, and whether they
    /// are payload.
    fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        let missing = self.need() - self.head.len();
        if missing > 0 {
            // No further than the common header before the type is known.
            let missing = if self.head.len() < 8 { 8 - self.head.len() } else { missing };
            let n = missing.min(bytes.len());
            self.head.extend(&bytes[..n]);
            self.at += n;
            return (n, false);
        }
        let data = self.data();
        let (end, payload) = if self.at < data.start {
            (data.start, false)
        } else if self.at < data.end {
            (data.end, true)
        } else {
            (self.plen(), false)
        };
        let n = (end - self.at).min(bytes.len());
        self.at += n;
        (n, payload)
    }

    fn is_whole(&self) -> bool {
        self.head.len() == self.need() && self.at == self.plen()
    }
}

impl Stream {
    /// Puts a segment behind the ones before it.
    fn follow(&mut self, seq: u32, syn: bool, payload: &[u8]) {
        if syn {
            *self = Stream { next: Some(seq.wrapping_add(1)), pdu: Pdu::default() };
        } else if !payload.is_empty() {
            assert_eq!(self.next, Some(seq), "a segment out of order or sent twice");
            self.next = Some(seq.wrapping_add(payload.len() as u32));
        }
    }
}

impl Oracle {
    pub fn new(which: WhichRun) -> Oracle {
        Oracle {
            which,
            connections: BTreeMap::new(),
            segments: 0,
            packets: 0,
            placeable: 0,
            payload: 0,
            crowded: 0,
            data_pdus: 0,
            data_digests: 0,
            header_digests: 0,
        }
    }

    /// I/O queues that were connected.
    pub fn io_queues(&self) -> usize {
        self.connections.values().filter(|connection| connection.queue.is_some_and(|id| id != 0)).count()
    }

    fn outbound(&mut self, port: u16, seq: u32, syn: bool, mut payload: &[u8]) {
        let Connection { queue, out, .. } = self.connections.entry(port).or_default();
        out.follow(seq, syn, payload);
        while !payload.is_empty() {
            let (n, _) = out.pdu.take(payload);
            payload = &payload[n..];
            if out.pdu.is_whole() {
                let head = std::mem::take(&mut out.pdu).head;
                // Fabrics (0x7f) Connect (FCTYPE 0x01): QID is in bytes 42 and 43 of the command.
                if head[0] == CAPSULE_CMD && head[8] == 0x7f && head[8 + 4] == 0x01 {
                    *queue = Some(le16(&head, 8 + 42));
                }
            }
        }
    }

    fn inbound(&mut self, port: u16, seq: u32, syn: bool, mut payload: &[u8]) {
        let Connection { queue, into, .. } = self.connections.entry(port).or_default();
        into.follow(seq, syn, payload);
        let io = queue.is_some_and(|id| id != 0);
        if !payload.is_empty() && io {
            self.segments += 1;
        }
        let mut runs = Vec::new();
        while !payload.is_empty() {
            let (n, data) = into.pdu.take(payload);
            payload = &payload[n..];
            if data {
                runs.push(n as u64);
            }
            if into.pdu.is_whole() {
                let pdu = std::mem::take(&mut into.pdu);
                let flags = pdu.head[1];
                if io {
                    self.header_digests += u64::from(flags & 1);
                }
                if io && pdu.head[0] == C2H_DATA {
                    let digest = if flags & 2 != 0 { 4 } else { 0 };
                    assert_eq!(pdu.data().end + digest, pdu.plen(), "PLEN, PDO, DATAL and DDGSTF disagree");
                    self.data_pdus += 1;
                    self.data_digests += u64::from(flags >> 1 & 1);
                }
            }
        }
        if !io || runs.is_empty() {
            return;
        }
        let placed = match self.which {
            WhichRun::First => runs.first(),
            WhichRun::Last => runs.last(),
            WhichRun::Longest => runs.iter().max(),
        };
        self.packets += 1;
        self.placeable += placed.copied().unwrap_or_default();
        self.payload += runs.iter().sum::<u64>();
        self.crowded += u64::from(runs.len() > 1);
    }
}

impl Tap for Oracle {
    fn frame(&mut self, _: Duration, direction: Direction, frame: &[u8]) {
        // Ethernet without a VLAN tag, IPv4, TCP.
        if be16(frame, 12) != 0x0800 || frame[14 + 9] != 6 {
            return;
        }
        let packet = &frame[14..14 + usize::from(be16(frame, 14 + 2))];
        let segment = &packet[usize::from(packet[0] & 15) * 4..];
        let (source, destination) = (be16(segment, 0), be16(segment, 2));
        let seq = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]);
        let syn = segment[13] & 2 != 0;
        let payload = &segment[usize::from(segment[12] >> 4) * 4..];
        match direction {
            Direction::Outbound => {
                assert_eq!(destination, TARGET);
                self.outbound(source, seq, syn, payload);
            }
            Direction::Inbound => {
                assert_eq!(source, TARGET);
                self.inbound(destination, seq, syn, payload);
            }
        }
    }
}
