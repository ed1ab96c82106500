//! Segments with any header and options, at any time, for a connection in any state; and frames of any bytes.
//!
//! The payload of a segment is a function of its sequence numbers, so whatever overlaps whatever, the bytes that come out
//! must be those of their positions, in order, each once. What goes out must parse again and say nothing that was not sent.

use super::input::Input;
use connectx_ddp::net::{Checksum, HEADROOM, Interface, InterfaceConfig, MacAddr, Received, arp};
use connectx_ddp::tcp::{
    Config, Connection, Flags, Header, Keepalive, Options, Payload, Position, SackBlock, Segment, State, Timestamps,
};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Operations of one input at most.
const STEPS: usize = 400;
const PAYLOADS: u32 = 24;
const IRS: u32 = 0xffff_f000;

/// Payload that is named by the sequence number of its first byte.
#[derive(Debug)]
struct Run {
    seq: u32,
    len: u32,
}

impl Payload for Run {
    fn len(&self) -> u32 {
        self.len
    }
    fn trim_front(&mut self, n: u32) {
        assert!(n <= self.len);
        (self.seq, self.len) = (self.seq.wrapping_add(n), self.len - n);
    }
    fn trim_back(&mut self, n: u32) {
        assert!(n <= self.len);
        self.len -= n;
    }
}

struct World {
    tcp: Connection<Run>,
    now: Duration,
    /// Payloads handed in and not given back.
    out: u32,
    unused: Vec<Run>,
    /// Where the next byte that is delivered must be.
    next: Option<Position>,
    sent: u64,
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.u8() < 40 {
        return frames(&mut input);
    }
    let options = input.u8();
    let config = Config {
        mss: if options & 1 == 0 { 1460 } else { 88 },
        receive_bytes: if options & 2 == 0 { 1 << 16 } else { 3000 },
        receive_payloads: PAYLOADS,
        send_bytes: 20_000,
        initial_sequence: 0xffff_ff00,
        timestamps: options & 4 == 0,
        sack: options & 8 == 0,
        keepalive: (options & 16 != 0).then_some(Keepalive {
            idle: Duration::from_secs(2),
            interval: Duration::from_secs(1),
            probes: 3,
        }),
        ..Config::default()
    };
    let now = Duration::from_secs(1);
    let tcp = match options & 32 == 0 {
        true => Connection::connect(config, now).expect("a good configuration"),
        false => {
            let mut syn = header(&mut input, IRS, 0);
            syn.flags = Flags::SYN;
            match Connection::accept(config, &syn, now).expect("a good configuration") {
                Some(tcp) => tcp,
                None => return,
            }
        }
    };
    let mut world = World { tcp, now, out: 0, unused: Vec::new(), next: None, sent: 0 };
    // Most often the handshake is honest, or nothing else would be reached.
    world.flush();
    if options & 192 != 0 {
        world.handshake(&mut input);
    }
    world.play(&mut input);
}

/// A header near what the connection expects, with anything wrong.
fn header(input: &mut Input<'_>, seq: u32, ack: u32) -> Header {
    let lies = input.u8();
    let mut options = Options::default();
    if lies & 1 != 0 {
        options.mss = Some(input.u16());
        options.window_scale = Some(input.u8());
        options.sack_permitted = input.u8() & 1 != 0;
    }
    if lies & 2 != 0 {
        options.timestamps = Some(Timestamps { value: input.lie(1000), echo: input.lie(1000) });
    }
    if lies & 4 != 0 {
        for _ in 0..input.below(5) {
            let start = input.lie(ack);
            options.sack.push(SackBlock { start, end: input.lie(start.wrapping_add(100)) });
        }
    }
    let flags = match lies & 24 {
        0 => Flags::ACK,
        8 => Flags::ACK | Flags::PSH,
        _ => Flags::from_bits_truncate(input.u8()),
    };
    Header { seq, ack, flags, window: if lies & 32 == 0 { 0xffff } else { input.u16() }, options }
}

impl World {
    fn handshake(&mut self, input: &mut Input<'_>) {
        let ack = self.tcp.snd_nxt().wire();
        let options = Options {
            mss: Some(1460),
            window_scale: (input.u8() & 1 == 0).then_some(4),
            sack_permitted: input.u8() & 1 == 0,
            timestamps: (input.u8() & 1 == 0).then_some(Timestamps { value: 1000, echo: 0 }),
            ..Options::default()
        };
        let (seq, flags) = match self.tcp.state() {
            State::SynSent => (IRS, Flags::SYN | Flags::ACK),
            _ => (IRS.wrapping_add(1), Flags::ACK),
        };
        self.give(Header { seq, ack, flags, window: 0xffff, options }, 0);
        self.flush();
    }

    fn play(mut self, input: &mut Input<'_>) {
        for _ in 0..STEPS {
            if input.is_empty() {
                break;
            }
            match input.u8() {
                0..=149 => {
                    let (seq, ack) = (self.tcp.rcv_nxt().wire(), self.tcp.snd_una().wire());
                    let max = self.tcp.snd_nxt().wire();
                    // In front of, at and behind what is expected, by bytes or by segments.
                    let shift = match input.u8() {
                        0..=127 => 0,
                        128..=159 => i32::from(input.u8().cast_signed()),
                        160..=223 => i32::from(input.u8().cast_signed()) * 500,
                        224..=255 => input.u32().cast_signed(),
                    };
                    let ack = match input.u8() {
                        0..=63 => ack,
                        64..=159 => max,
                        160..=223 => ack.wrapping_add(input.below(max.wrapping_sub(ack).clamp(1, 1 << 20))),
                        224..=255 => input.lie(max),
                    };
                    let header = header(input, seq.wrapping_add_signed(shift), ack);
                    let len = match input.u8() {
                        0..=63 => 0,
                        64..=191 => 1 + input.below(1460),
                        192..=223 => 1,
                        224..=255 => input.u16().into(),
                    };
                    self.give(header, len);
                }
                150..=169 => self.take(usize::from(input.u8())),
                170..=199 => {
                    let bytes = vec![0x77; usize::from(input.u16() % 6000)];
                    self.sent += self.tcp.send(&bytes) as u64;
                }
                200..=224 => self.now += Duration::from_millis(input.u8().into()),
                225..=244 => {
                    if let Some(at) = self.tcp.next_deadline() {
                        self.now = self.now.max(at);
                    }
                }
                245..=252 => self.tcp.close(),
                253..=255 => {
                    if input.u8() < 64 {
                        self.tcp.abort();
                    }
                }
            }
            if input.u8() >= 48 {
                self.flush();
            }
            self.check();
        }
        self.flush();
        self.take(usize::MAX);
        self.out -= self.tcp.drain().count() as u32;
        assert_eq!(self.out, 0, "a payload is lost");
        // Left alone, it comes to rest.
        for _ in 0..200 {
            let Some(at) = self.tcp.next_deadline() else { return };
            assert!(at > self.now, "a timer that is due does nothing");
            self.now = at;
            self.flush();
        }
        assert!(self.tcp.next_deadline().is_none() || self.tcp.state() == State::Established, "{:?}", self.tcp.state());
    }

    fn give(&mut self, header: Header, len: u32) {
        let first = header.seq.wrapping_add(u32::from(header.flags.contains(Flags::SYN)));
        self.out += 1;
        let segment = Segment { header, payload: Run { seq: first, len } };
        self.tcp.on_segment(self.now, segment, &mut self.unused);
        self.out -= self.unused.drain(..).count() as u32;
    }

    fn take(&mut self, most: usize) {
        for _ in 0..most {
            let Some((at, run)) = self.tcp.recv() else { break };
            self.out -= 1;
            assert_eq!(at.wire(), run.seq, "bytes of another place");
            assert!(run.len != 0, "nothing was delivered");
            assert!(self.next.is_none_or(|next| next == at), "a gap, or the same again");
            self.next = Some(at + run.len);
            assert_eq!(self.next, Some(self.tcp.recv_position()));
        }
    }

    /// Everything that wants to be sent is sent.
    fn flush(&mut self) {
        for _ in 0..2000 {
            let (nxt_before, limit) = (self.tcp.snd_nxt(), self.tcp.send_position());
            let (una, rcv) = (self.tcp.snd_una(), self.tcp.rcv_nxt());
            let Some(segment) = self.tcp.poll_tx(self.now) else {
                assert!(self.tcp.next_deadline().is_none_or(|at| at > self.now), "a timer that is due does nothing");
                return;
            };
            let (header, len) = (segment.header, segment.payload_len());
            assert!(segment.payload.iter().all(|run| run.iter().all(|byte| *byte == 0x77)), "bytes nobody sent");
            let mut bytes = [0; 60];
            let size = header.emit(1, 2, &mut bytes).expect("a header fits 60 bytes");
            let parsed = Header::parse(&bytes[..size]).expect("what we send parses");
            assert_eq!((parsed.header, parsed.header_len as usize), (header, size));
            if header.flags.contains(Flags::RST) {
                continue;
            }
            let seq = nxt_before.nearest(header.seq);
            assert!(seq + len as u32 <= limit + 1 && seq + 1 >= una, "sent what was never queued, or was acknowledged");
            if header.flags.contains(Flags::ACK) {
                assert_eq!(header.ack, rcv.wire(), "acknowledges what has not come");
            }
        }
        panic!("segments without end in {:?}", self.tcp.state());
    }

    fn check(&self) {
        assert!(self.out <= PAYLOADS, "{} payloads are held", self.out);
        let (una, nxt) = (self.tcp.snd_una(), self.tcp.snd_nxt());
        assert!(una <= nxt && nxt <= self.tcp.send_position() + 1);
        assert!(self.tcp.recv_position() <= self.tcp.rcv_nxt());
        assert!(self.tcp.congestion_window() > 0 && self.tcp.mss() >= 88 - 12);
    }
}

/// Bytes as they come from a wire.
fn frames(input: &mut Input<'_>) {
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    let config = InterfaceConfig { mac, ip: Ipv4Addr::new(10, 0, 0, 1), prefix_len: 24, gateway: None, mtu: 1500 };
    let mut interface = Interface::new(config).expect("an interface");
    for _ in 0..64 {
        if input.is_empty() {
            break;
        }
        let mut frame = good_frame(input.u8() & 1 != 0);
        if input.u8() & 1 != 0 {
            frame.extend(input.take(40));
        }
        input.bend(&mut frame);
        let cut = match input.u8() {
            0..=199 => frame.len(),
            200..=255 => usize::from(input.u8()).min(frame.len()),
        };
        let claimed = input.lie(cut as u32).min(1 << 16);
        let checksum = if input.u8() & 1 == 0 { Checksum::Device } else { Checksum::Software };
        let before = *interface.counters();
        let head = &frame[..cut.min(HEADROOM)];
        match interface.receive(Duration::from_secs(1), claimed, head, checksum) {
            Received::Tcp(found) => {
                assert!(found.l4_offset < found.payload_offset);
                assert!(found.payload_offset + found.payload_len <= claimed, "more payload than the frame has");
                assert_eq!(interface.counters().tcp_in, before.tcp_in + 1);
                let end = (found.payload_offset + found.payload_len) as usize;
                if let Some(l4) = frame.get(found.l4_offset as usize..end) {
                    let _ = interface.verify_tcp(&found, [l4]);
                }
                let mut run = Run { seq: 0, len: claimed };
                found.trim(&mut run);
                assert_eq!(run.len, found.payload_len);
            }
            Received::Arp => assert_eq!(interface.counters().arp_in, before.arp_in + 1),
            Received::Dropped(why) => {
                assert!(!why.to_string().is_empty());
                assert_ne!(*interface.counters(), before, "a dropped frame is counted");
            }
        }
        let mut out = [0; arp::FRAME_LEN];
        let _ = interface.poll_tx(Duration::from_secs(1), &mut out);
    }
}

/// An ARP request, or an IPv4 packet with a TCP segment, for us.
fn good_frame(arp: bool) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if arp {
        frame.extend([0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0]);
        frame.extend([10, 0, 0, 1]);
        return frame;
    }
    frame.extend([0x08, 0x00, 0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 6, 0x26, 0xae, 10, 0, 0, 2, 10, 0, 0, 1]);
    frame.extend([0x11, 0x44, 0xc3, 0x50, 0, 0, 0, 1, 0, 0, 0, 2, 0xa0, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend([2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7]);
    frame
}
