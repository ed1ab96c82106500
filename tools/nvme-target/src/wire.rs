//! The way out of the target: frames that wait for the Ethernet wire, and the place where segments are cut.
//!
//! A TCP fills its segments without knowing of PDUs, also when it retransmits. To make every PDU start a segment of its own,
//! what the stack emits is cut at the PDU boundaries, as a segmentation offload in a NIC would:
//!
//! ```text
//! stack     |··tail of PDU 7··|HDR8·····|        seq s, one frame
//! wire      |··tail of PDU 7··|  |HDR8·····|     seq s, and seq s + len(tail): each with its own lengths and checksums
//! ```
//!
//! TCP does not care how a sender cuts its stream, so nothing above is involved, no PDU has to wait for the one before it,
//! and the rule holds for a retransmission that the stack cuts anew. Connections say where their PDUs start
//! ([`Wire::mark`], in bytes of the stream); initial sequence numbers are learnt from the SYNs that pass.

use crate::random::Random;
use crate::script::Segmentation;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, TcpPacket, TcpSeqNumber};
use std::collections::VecDeque;
use std::net::SocketAddrV4;

/// Bytes of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;

/// Bytes of frames that may wait; beyond that a stack keeps the data in its own buffers.
const LIMIT: usize = 4 << 20;

/// Connections whose PDU boundaries are known; more than there can be sockets.
const FLOWS: usize = 2048;

/// Frame buffers kept for reuse.
const POOL: usize = 4096;

/// Where the PDUs of one connection start.
#[derive(Debug)]
struct Flow {
    remote: SocketAddrV4,
    /// Sequence number of the first byte of the stream, once the SYN went out.
    first: Option<u32>,
    /// Bytes of the stream at which PDUs start, ascending.
    starts: VecDeque<u64>,
}

/// Frames for the wire, and how they are cut.
#[derive(Debug)]
pub struct Wire {
    segmentation: Segmentation,
    random: Random,
    flows: Vec<Flow>,
    queue: VecDeque<Vec<u8>>,
    /// Bytes of these.
    bytes: usize,
    pool: Vec<Vec<u8>>,
}

impl Wire {
    pub(crate) fn new(segmentation: Segmentation, seed: u64) -> Wire {
        Wire {
            segmentation,
            random: Random::new(seed, 1),
            flows: Vec::new(),
            queue: VecDeque::new(),
            bytes: 0,
            pool: Vec::new(),
        }
    }

    /// True while so many frames wait that a stack is to keep what it has.
    pub fn is_congested(&self) -> bool {
        self.bytes >= LIMIT
    }

    /// A buffer of `len` bytes for a frame; the first 128 are zero.
    pub fn buffer(&mut self, len: usize) -> Vec<u8> {
        let mut buffer = self.pool.pop().unwrap_or_default();
        // Whoever builds a frame may rely on zeroes only in its headers; clearing the rest would cost a pass over it.
        buffer.truncate(len);
        let headers = buffer.len().min(128);
        buffer[..headers].fill(0);
        buffer.resize(len, 0);
        buffer
    }

    /// Takes the next frame for the wire.
    pub(crate) fn pop(&mut self) -> Option<Vec<u8>> {
        let frame = self.queue.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }

    /// Takes a frame buffer that nobody needs any more.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        recycle(&mut self.pool, buffer);
    }

    /// A PDU of the connection to `remote` starts at byte `start` of its stream; what is before `acknowledged` is done.
    pub(crate) fn mark(&mut self, remote: SocketAddrV4, start: u64, acknowledged: u64) {
        if self.segmentation != Segmentation::AlignPdus {
            return;
        }
        if let Some(flow) = self.flows.iter_mut().find(|flow| flow.remote == remote) {
            while flow.starts.front().is_some_and(|&start| start < acknowledged) {
                flow.starts.pop_front();
            }
            flow.starts.push_back(start);
        }
    }

    /// The connection to `remote` is over.
    pub(crate) fn forget(&mut self, remote: SocketAddrV4) {
        self.flows.retain(|flow| flow.remote != remote);
    }

    fn push(&mut self, frame: Vec<u8>) {
        self.bytes += frame.len();
        self.queue.push_back(frame);
    }

    /// Sends an Ethernet frame (without FCS, checksums filled in), in as many pieces as the script wants.
    pub fn send(&mut self, frame: Vec<u8>) {
        if self.segmentation == Segmentation::Full {
            return self.push(frame);
        }
        let Some(segment) = Segment::of(&frame) else { return self.push(frame) };
        let mut cuts = Vec::new();
        match self.segmentation {
            Segmentation::Full => {}
            Segmentation::AlignPdus => self.cuts_at_pdus(&segment, &mut cuts),
            Segmentation::Random { min, max } => {
                let mut at = 0;
                loop {
                    at += self.random.between(min.max(1).into(), max.max(1).into()) as usize;
                    if at >= segment.payload_len {
                        break;
                    }
                    cuts.push(at);
                }
            }
        }
        if cuts.is_empty() {
            return self.push(frame);
        }
        cuts.push(segment.payload_len);
        let mut from = 0;
        for to in cuts {
            let mut piece = self.buffer(segment.payload + to - from);
            segment.piece(&frame, from, to, &mut piece);
            self.push(piece);
            from = to;
        }
        recycle(&mut self.pool, frame);
    }

    /// Offsets in the payload at which PDUs start, without 0.
    fn cuts_at_pdus(&mut self, segment: &Segment, cuts: &mut Vec<usize>) {
        let flow = match self.flows.iter_mut().position(|flow| flow.remote == segment.remote) {
            Some(index) => &mut self.flows[index],
            None if segment.syn => {
                // Handshakes that come to nothing leave their entry behind: the oldest makes room.
                if self.flows.len() >= FLOWS
                    && let Some(stale) = self.flows.iter().position(|flow| flow.starts.is_empty())
                {
                    self.flows.remove(stale);
                }
                self.flows.push(Flow { remote: segment.remote, first: None, starts: VecDeque::new() });
                self.flows.last_mut().expect("just pushed")
            }
            None => return,
        };
        if segment.syn {
            flow.first = Some(segment.seq.wrapping_add(1));
            flow.starts.clear();
        }
        let (Some(first), Some(&base)) = (flow.first, flow.starts.front()) else { return };
        // Where the segment starts, counted from the oldest PDU start that is kept: negative for a retransmission of what
        // lies before it. Far less than 2^31 bytes are ever under way, so 32 bits of the sequence number tell.
        let start = i64::from(segment.seq.wrapping_sub(first).wrapping_sub(base as u32) as i32);
        let relative = |stream: u64| (stream - base) as i64 - start;
        let skip = flow.starts.partition_point(|&stream| relative(stream) <= 0);
        for &stream in flow.starts.range(skip..) {
            let at = relative(stream);
            if at >= segment.payload_len as i64 {
                break;
            }
            cuts.push(at as usize);
        }
    }
}

/// Keeps a buffer for reuse.
pub(crate) fn recycle(pool: &mut Vec<Vec<u8>>, buffer: Vec<u8>) {
    if pool.len() < POOL {
        pool.push(buffer);
    }
}

/// What cutting needs to know of a TCP/IPv4 frame.
#[derive(Debug)]
struct Segment {
    remote: SocketAddrV4,
    seq: u32,
    syn: bool,
    /// Offset of the IP header's end, and of the payload, in the frame.
    tcp: usize,
    payload: usize,
    payload_len: usize,
}

impl Segment {
    fn of(frame: &[u8]) -> Option<Segment> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        if ethernet.ethertype() != EthernetProtocol::Ipv4 {
            return None;
        }
        let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
        if ip.next_header() != IpProtocol::Tcp {
            return None;
        }
        let tcp = TcpPacket::new_checked(ip.payload()).ok()?;
        let tcp_at = ETHERNET + usize::from(ip.header_len());
        Some(Segment {
            remote: SocketAddrV4::new(ip.dst_addr(), tcp.dst_port()),
            seq: tcp.seq_number().0 as u32,
            syn: tcp.syn(),
            tcp: tcp_at,
            payload: tcp_at + usize::from(tcp.header_len()),
            payload_len: tcp.payload().len(),
        })
    }

    /// Writes the segment with payload bytes `from..to` of `frame` into `out`.
    fn piece(&self, frame: &[u8], from: usize, to: usize, out: &mut [u8]) {
        out[..self.payload].copy_from_slice(&frame[..self.payload]);
        out[self.payload..].copy_from_slice(&frame[self.payload + from..self.payload + to]);
        let mut ip = Ipv4Packet::new_unchecked(&mut out[ETHERNET..]);
        ip.set_total_len((self.payload - ETHERNET + to - from) as u16);
        ip.fill_checksum();
        let (src, dst) = (IpAddress::Ipv4(ip.src_addr()), IpAddress::Ipv4(ip.dst_addr()));
        let mut tcp = TcpPacket::new_unchecked(&mut out[self.tcp..]);
        tcp.set_seq_number(TcpSeqNumber(self.seq.wrapping_add(from as u32) as i32));
        if to < self.payload_len {
            tcp.set_psh(false);
            tcp.set_fin(false);
        }
        tcp.fill_checksum(&src, &dst);
    }
}
