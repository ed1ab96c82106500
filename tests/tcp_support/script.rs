//! A small script language for one connection: what comes in, what must go out, virtual time. The peer is the script.
//!
//! Sequence numbers are relative: ours to our ISN, the peer's to its ISN, so a test reads as the RFC does.

use std::fmt::Write;
use std::time::Duration;

use connectx_ddp::tcp::{
    Config, CongestionControl, Connection, Flags, Header, Options, Position, SackBlock, Segment, State, Timestamps,
};

use crate::tcp_support::Bytes;

pub const OUR_ISN: u32 = 0xffff_f000;
pub const PEER_ISN: u32 = 0xffff_ff00;
pub const MS: Duration = Duration::from_millis(1);

/// A segment of the peer.
#[derive(Clone)]
pub struct In {
    header: Header,
    payload: Vec<u8>,
}

/// A segment of the peer with flags written as in tcpdump: `S F R P .`, the dot for ACK.
pub fn seg(flags: &str) -> In {
    let mut set = Flags::empty();
    for flag in flags.chars() {
        set |= match flag {
            'S' => Flags::SYN,
            'F' => Flags::FIN,
            'R' => Flags::RST,
            'P' => Flags::PSH,
            '.' => Flags::ACK,
            other => panic!("no flag {other}"),
        };
    }
    let header = Header { seq: PEER_ISN, ack: OUR_ISN, flags: set, window: 1000, options: Options::default() };
    In { header, payload: Vec::new() }
}

impl In {
    pub fn seq(mut self, seq: i64) -> In {
        self.header.seq = PEER_ISN.wrapping_add(seq as u32);
        self
    }

    pub fn ack(mut self, ack: i64) -> In {
        self.header.ack = OUR_ISN.wrapping_add(ack as u32);
        self
    }

    /// As in the field: not scaled.
    pub fn window(mut self, window: u16) -> In {
        self.header.window = window;
        self
    }

    /// `n` bytes of the peer's stream: what they are follows from their position.
    pub fn data(mut self, n: u32) -> In {
        let first = self.header.seq.wrapping_sub(PEER_ISN);
        self.payload = (0..n).map(|i| stream(first.wrapping_add(i))).collect();
        self
    }

    pub fn ts(mut self, value: u32, echo: u32) -> In {
        self.header.options.timestamps = Some(Timestamps { value, echo });
        self
    }

    /// Blocks of our stream that the peer has.
    pub fn sack(mut self, blocks: &[(i64, i64)]) -> In {
        let wire = |at: i64| OUR_ISN.wrapping_add(at as u32);
        for &(start, end) in blocks {
            assert!(self.header.options.sack.push(SackBlock { start: wire(start), end: wire(end) }));
        }
        self
    }

    pub fn options(mut self, change: impl Fn(&mut Options)) -> In {
        change(&mut self.header.options);
        self
    }
}

/// The byte at a relative position of the peer's stream.
pub fn stream(position: u32) -> u8 {
    (position ^ position >> 8).wrapping_mul(37) as u8
}

/// The connection under test.
pub struct Script {
    pub tcp: Connection<Bytes>,
    pub now: Duration,
    pub unused: Vec<Bytes>,
    pub last: Header,
    buffers: u32,
    received: u32,
}

impl Script {
    /// A connection in SYN-SENT; nothing was polled.
    pub fn connect(config: Config) -> Script {
        let now = Duration::from_secs(100);
        let config = Config { initial_sequence: OUR_ISN, ..config };
        let tcp = Connection::connect(config, now).expect("a good configuration");
        Script { tcp, now, unused: Vec::new(), last: Header::default(), buffers: 0, received: 1 }
    }

    /// An established connection without options: MSS 1000, window 60000 from the peer and to it, or less if there is less
    /// budget.
    pub fn established(config: Config) -> Script {
        let config = plain(config);
        let window = config.receive_bytes;
        let mut script = Script::connect(config);
        script.expect(&format!("S 0 win {window} <mss 1000,wscale 0>"));
        script.inject(seg("S.").ack(1).window(60000).options(|o| o.mss = Some(1000)));
        script.expect(&format!(". 1 ack 1 win {window}"));
        script
    }

    /// As [`established`](Self::established), with SACK and, if asked for, timestamps, over a path of 40 ms.
    pub fn established_with_sack(config: Config) -> Script {
        let timestamps = config.timestamps;
        let mut script = Script::connect(Config { sack: true, timestamps, ..plain(config) });
        let ts = |text: &str| if timestamps { format!("{text},ts") } else { text.to_string() };
        assert!(script.poll().expect("a SYN").contains(&ts("sackOK,wscale 0")));
        script.pass(40 * MS);
        let mut answer = seg("S.").ack(1).window(60000).options(|o| (o.mss, o.sack_permitted) = (Some(1000), true));
        if timestamps {
            answer = answer.ts(7, 100_000);
        }
        script.inject(answer);
        script.poll().expect("an acknowledgment");
        script.expect_nothing();
        script
    }

    pub fn inject(&mut self, segment: In) {
        self.buffers += 1;
        let payload = Bytes::new(&segment.payload, self.buffers);
        let mut unused = Vec::new();
        self.tcp.on_segment(self.now, Segment { header: segment.header, payload }, &mut unused);
        self.unused.extend(unused);
    }

    /// The next segment out must read like this: `FLAGS SEQ[:LEN] [ack N] win N [<options>]`.
    #[track_caller]
    pub fn expect(&mut self, expected: &str) {
        let found = self.poll().unwrap_or_else(|| panic!("nothing is sent, expected: {expected}"));
        assert_eq!(found, expected);
    }

    /// Exactly these segments leave now, named by their first byte.
    #[track_caller]
    pub fn expect_sent(&mut self, expected: &[i64]) {
        let sent = std::iter::from_fn(|| {
            let segment = self.tcp.poll_tx(self.now)?;
            Some(i64::from(segment.header.seq.wrapping_sub(OUR_ISN) as i32))
        });
        assert_eq!(sent.collect::<Vec<_>>(), expected);
        assert!(self.tcp.next_deadline().is_none_or(|at| at > self.now), "a timer that is due does nothing");
    }

    /// Nothing more is sent now, and no timer is due.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        assert_eq!(self.poll(), None);
        assert!(self.tcp.next_deadline().is_none_or(|at| at > self.now), "a timer that is due does nothing");
    }

    /// Nothing is sent, and the next timer is exactly `after` from now; time moves there.
    #[track_caller]
    pub fn wait(&mut self, after: Duration) {
        self.expect_nothing();
        let at = self.tcp.next_deadline().expect("no timer runs");
        assert_eq!(at - self.now, after, "until the next timer");
        self.now = at;
    }

    /// Time moves; nothing is polled.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    #[track_caller]
    pub fn expect_state(&mut self, state: State) {
        assert_eq!(self.tcp.state(), state);
    }

    /// The next `n` bytes are delivered in order, whatever payloads they are in, and no more.
    #[track_caller]
    pub fn expect_delivered(&mut self, n: u32) {
        let end = self.received + n;
        while let Some((at, payload)) = self.tcp.recv() {
            let start = Position::initial(PEER_ISN) + self.received;
            assert_eq!(at, start);
            assert!(!payload.as_slice().is_empty());
            for &byte in payload.as_slice() {
                assert_eq!(byte, stream(self.received), "byte {}", self.received);
                self.received += 1;
            }
        }
        assert_eq!(self.received, end);
    }

    /// How many payloads came back unused since the last call.
    pub fn unused(&mut self) -> usize {
        std::mem::take(&mut self.unused).len()
    }

    fn poll(&mut self) -> Option<String> {
        let segment = self.tcp.poll_tx(self.now)?;
        let header = segment.header;
        self.last = header;
        let mut text = String::new();
        let names = [(Flags::SYN, 'S'), (Flags::FIN, 'F'), (Flags::RST, 'R'), (Flags::PSH, 'P'), (Flags::ACK, '.')];
        text.extend(names.iter().filter(|(flag, _)| header.flags.contains(*flag)).map(|(_, name)| *name));
        write!(text, " {}", header.seq.wrapping_sub(OUR_ISN) as i32).unwrap();
        if segment.payload_len() > 0 {
            write!(text, ":{}", segment.payload_len()).unwrap();
        }
        if header.flags.contains(Flags::ACK) {
            write!(text, " ack {}", header.ack.wrapping_sub(PEER_ISN) as i32).unwrap();
        }
        write!(text, " win {}", header.window).unwrap();
        let mut options = Vec::new();
        if let Some(mss) = header.options.mss {
            options.push(format!("mss {mss}"));
        }
        if header.options.sack_permitted {
            options.push("sackOK".to_string());
        }
        if let Some(shift) = header.options.window_scale {
            options.push(format!("wscale {shift}"));
        }
        if let Some(ts) = header.options.timestamps {
            options.push(format!("ts {} {}", ts.value, ts.echo));
        }
        for &SackBlock { start, end } in header.options.sack.as_slice() {
            options.push(format!("sack {}-{}", start.wrapping_sub(PEER_ISN), end.wrapping_sub(PEER_ISN)));
        }
        if !options.is_empty() {
            write!(text, " <{}>", options.join(",")).unwrap();
        }
        Some(text)
    }
}

/// The configuration without timestamps and SACK, with NewReno and round numbers.
pub fn plain(config: Config) -> Config {
    let receive_bytes = config.receive_bytes.min(60000);
    let congestion = CongestionControl::NewReno;
    Config { timestamps: false, sack: false, congestion, mss: 1000, receive_bytes, ..config }
}
