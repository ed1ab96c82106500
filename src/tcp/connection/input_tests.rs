//! | property | test |
//! |---|---|
//! | to deliver is to take in and give out, to the last bit of state, whatever network and peer | `the_short_way_is_the_long_way` |
//! | most segments of a stream are delivered, also while requests wait for their acknowledgment | `a_stream_goes_the_short_way` |
use super::*;
use crate::tcp::testing::Bytes;
use crate::tcp::{Config, SackBlock};
use proptest::prelude::*;

const MSS: u16 = 1000;

fn config(sack: bool, timestamps: bool) -> Config {
    let initial_sequence = u32::MAX - 5000;
    Config { mss: MSS, sack, timestamps, initial_sequence, receive_bytes: 20_000, ..Config::default() }
}

/// A segment that a connection sends, as its peer receives it.
fn sent(connection: &mut Connection<Bytes>, now: Duration) -> Option<(Header, Vec<u8>)> {
    connection.poll_tx(now).map(|segment| (segment.header, segment.payload.concat()))
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The peer sends so many bytes.
    Stream(usize),
    /// We do.
    Request(usize),
    /// So many microseconds pass.
    Pass(u64),
    /// We take so many payloads.
    Take(usize),
    /// The next segments to us are lost; one is kept for later; the one that was kept comes; the last comes again.
    Lose(usize),
    Keep,
    Late,
    Again,
    /// Ours to the peer are lost.
    Deaf(usize),
    /// The last comes again, with this changed.
    Lie(u8, u32),
    Close(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1usize..9000).prop_map(Step::Stream),
        4 => (1usize..2000).prop_map(Step::Request),
        6 => prop_oneof![1u64..2000, 1u64..2_000_000].prop_map(Step::Pass),
        6 => (1usize..12).prop_map(Step::Take),
        2 => (1usize..4).prop_map(Step::Lose),
        1 => Just(Step::Keep),
        1 => Just(Step::Late),
        1 => Just(Step::Again),
        1 => (1usize..4).prop_map(Step::Deaf),
        2 => (0u8..8, any::<u32>()).prop_map(|(what, by)| Step::Lie(what, by)),
        1 => prop::bool::weighted(0.1).prop_map(Step::Close),
    ];
    prop::collection::vec(step, 1..120)
}

/// Two connections that get the same, one by each way, and their peer.
struct Pair {
    short: Connection<Bytes>,
    long: Connection<Bytes>,
    peer: Connection<Bytes>,
    now: Duration,
    unused: [Vec<Bytes>; 2],
    lose: usize,
    deaf: usize,
    keep: bool,
    kept: Option<(Header, Vec<u8>)>,
    last: Option<(Header, Vec<u8>)>,
    /// Segments that came, and those that were delivered.
    came: [u32; 2],
}

impl Pair {
    fn new(sack: bool, timestamps: bool) -> Pair {
        let now = Duration::from_secs(1);
        let ours = || Connection::<Bytes>::connect(config(sack, timestamps), now).expect("a good configuration");
        let (mut short, mut long) = (ours(), ours());
        let (syn, _) = sent(&mut short, now).expect("a SYN");
        assert_eq!(sent(&mut long, now).map(|(header, _)| header), Some(syn));
        let peer = Connection::accept(config(true, true), &syn, now).expect("a good configuration").expect("a SYN");
        let (unused, came) = Default::default();
        Pair { short, long, peer, now, unused, lose: 0, deaf: 0, keep: false, kept: None, last: None, came }
    }

    fn hand_in(&mut self, (header, bytes): (Header, Vec<u8>)) {
        let segment = || Segment { header, payload: Bytes::new(&bytes) };
        self.came[0] += 1;
        let [unused_short, unused_long] = &mut self.unused;
        let delivered = self.short.deliver(self.now, &header, segment().payload);
        self.long.on_segment(self.now, segment(), unused_long);
        match delivered {
            Ok(delivered) => {
                self.came[1] += 1;
                assert_eq!(self.long.recv(), Some(delivered));
            }
            Err(payload) => self.short.on_segment(self.now, Segment { header, payload }, unused_short),
        }
        self.last = Some((header, bytes));
        self.compare();
    }

    fn compare(&self) {
        assert_eq!(format!("{:?}", self.short), format!("{:?}", self.long));
        assert_eq!(self.unused[0], self.unused[1]);
    }

    /// Everybody sends what he has, for as long as there is anything.
    fn exchange(&mut self) {
        for _ in 0..200 {
            let mut quiet = true;
            while let Some((header, bytes)) = sent(&mut self.short, self.now) {
                quiet = false;
                assert_eq!(sent(&mut self.long, self.now), Some((header, bytes.clone())));
                if self.deaf > 0 {
                    self.deaf -= 1;
                } else {
                    let segment = Segment { header, payload: Bytes::new(&bytes) };
                    self.peer.on_segment(self.now, segment, &mut Vec::new());
                    while self.peer.recv().is_some() {}
                }
            }
            assert_eq!(sent(&mut self.long, self.now), None);
            while let Some(segment) = sent(&mut self.peer, self.now) {
                quiet = false;
                if self.lose > 0 {
                    self.lose -= 1;
                } else if std::mem::take(&mut self.keep) {
                    self.kept = Some(segment);
                } else {
                    self.hand_in(segment);
                }
            }
            self.compare();
            if quiet {
                return;
            }
        }
        panic!("they talk for ever");
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Stream(bytes) => drop(self.peer.send(&vec![7; bytes])),
            Step::Request(bytes) => {
                let request = vec![8; bytes];
                assert_eq!(self.short.send(&request), self.long.send(&request));
            }
            Step::Pass(time) => self.now += Duration::from_micros(time),
            Step::Take(payloads) => (0..payloads).for_each(|_| assert_eq!(self.short.recv(), self.long.recv())),
            Step::Lose(segments) => self.lose += segments,
            Step::Deaf(segments) => self.deaf += segments,
            Step::Keep => self.keep = true,
            Step::Late => {
                if let Some(kept) = self.kept.take() {
                    self.hand_in(kept);
                }
            }
            Step::Again => {
                if let Some(last) = self.last.clone() {
                    self.hand_in(last);
                }
            }
            Step::Lie(what, by) => {
                let Some((mut header, bytes)) = self.last.clone() else { return };
                match what {
                    0 => header.seq = header.seq.wrapping_add(by % 4000),
                    1 => header.ack = header.ack.wrapping_sub(by % 4),
                    2 => header.window = by as u16,
                    3 => header.flags = Flags::from_bits_retain(by as u8),
                    4 => header.options.timestamps = None,
                    5 => {
                        let start = header.ack.wrapping_add(by % 3000);
                        header.options.sack.push(SackBlock { start, end: start.wrapping_add(1000) });
                    }
                    6 => header.seq = self.short.rcv_nxt().wire(),
                    _ => header.ack = header.ack.wrapping_add(by),
                }
                self.hand_in((header, bytes));
            }
            Step::Close(ours) => match ours {
                true => (self.short.close(), self.long.close()).0,
                false => self.peer.close(),
            },
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_short_way_is_the_long_way(steps in steps(), sack in any::<bool>(), timestamps in any::<bool>()) {
        let mut pair = Pair::new(sack, timestamps);
        pair.exchange();
        for step in steps {
            pair.step(step);
            pair.exchange();
        }
    }
}

#[test]
fn a_stream_goes_the_short_way() {
    for (sack, timestamps) in [(true, true), (true, false), (false, true)] {
        let mut pair = Pair::new(sack, timestamps);
        pair.exchange();
        for _ in 0..100 {
            pair.step(Step::Stream(16_000));
            let under_way: Vec<_> = std::iter::from_fn(|| sent(&mut pair.peer, pair.now)).collect();
            // Sent while these are under way, so none of them acknowledges it.
            pair.step(Step::Request(72));
            let request = sent(&mut pair.short, pair.now);
            assert!(request.is_some() && request == sent(&mut pair.long, pair.now));
            for segment in under_way {
                pair.hand_in(segment);
                pair.step(Step::Take(100));
            }
            if let Some((header, bytes)) = request {
                pair.peer.on_segment(pair.now, Segment { header, payload: Bytes::new(&bytes) }, &mut Vec::new());
            }
            pair.exchange();
            pair.step(Step::Take(100));
            pair.step(Step::Pass(1000));
            pair.exchange();
        }
        let [came, delivered] = pair.came;
        assert!(came > 1500 && delivered * 10 > came * 7, "{delivered} of {came} were delivered");
    }
}
