//! A seeded bad wire between two hosts, in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::tcp_support::Random;

/// One end of the wire.
pub trait Host {
    fn receive(&mut self, now: Duration, frame: &[u8]);
    /// The next frame to send; the application's reading and writing happens here too.
    fn transmit(&mut self, now: Duration) -> Option<Vec<u8>>;
    /// When to ask again although nothing came in.
    fn deadline(&mut self, now: Duration) -> Option<Duration>;
    fn done(&self) -> bool;
    /// For a failure's message.
    fn describe(&self) -> String;
}

/// What a wire does to frames; chances in 1/10000.
#[derive(Debug, Clone, Copy)]
pub struct Wire {
    pub drop: u64,
    /// How many frames a drop takes at most, one after the other.
    pub burst: u64,
    pub duplicate: u64,
    pub reorder: u64,
    pub corrupt: u64,
    /// One way. A frame that is reordered takes up to four times as long in addition.
    pub delay: Duration,
    /// Bytes in a second each way; 0: all at once.
    pub rate: u64,
    /// How long frames may wait for that; who would wait longer is dropped.
    pub queue: Duration,
}

impl Wire {
    pub const CLEAN: Wire = Wire {
        drop: 0,
        burst: 1,
        duplicate: 0,
        reorder: 0,
        corrupt: 0,
        delay: Duration::from_micros(50),
        rate: 0,
        queue: Duration::ZERO,
    };

    /// Anything from harmless to dreadful.
    pub fn random(random: &mut Random) -> Wire {
        let mut some = |most| if random.chance(400) { random.below(most) } else { 0 };
        Wire {
            drop: some(1500),
            burst: 1,
            duplicate: some(1000),
            reorder: some(3000),
            corrupt: some(500),
            delay: Duration::from_micros(1 + some(20_000)),
            rate: some(1000) * 1_000_000,
            queue: Duration::from_micros(300 + some(50_000)),
        }
        .bursting(random)
    }

    /// In a third of the cases fewer drops, which take several frames each.
    fn bursting(self, random: &mut Random) -> Wire {
        match random.chance(333) {
            true => Wire { drop: self.drop / 8, burst: 2 + random.below(30), ..self },
            false => self,
        }
    }

    /// Runs until both hosts are done; returns how long it took and a digest of every frame that was sent and when.
    ///
    /// # Panics
    /// If they are not done within an hour of virtual time, or do not let time pass.
    pub fn run(&self, random: &mut Random, mut hosts: [&mut dyn Host; 2]) -> (Duration, u64) {
        let mut now = Duration::from_secs(1);
        let mut digest = 0xcbf2_9ce4_8422_2325u64;
        // When, in which order, to whom, what.
        type Flying = Reverse<(Duration, u64, usize, Vec<u8>)>;
        let mut in_flight = BinaryHeap::<Flying>::new();
        let mut number = 0;
        let mut idle_rounds = 0;
        // Per direction: frames that a burst still takes, and until when the wire is busy.
        let mut taken = [0; 2];
        let mut busy = [now; 2];
        loop {
            for (side, host) in hosts.iter_mut().enumerate() {
                let mut burst = 0;
                while let Some(frame) = host.transmit(now) {
                    burst += 1;
                    assert!(burst < 100_000, "host {side} never stops sending");
                    for &byte in now.as_nanos().to_le_bytes().iter().chain(&frame) {
                        digest = (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
                    }
                    let chance = |random: &mut Random, of: u64| random.below(10_000) < of;
                    if chance(random, self.drop) {
                        taken[side] = 1 + random.below(self.burst);
                    }
                    let waits = busy[side].saturating_sub(now);
                    let copies = match (taken[side] > 0 || waits > self.queue, chance(random, self.duplicate)) {
                        (true, _) => 0,
                        (false, duplicate) => 1 + u64::from(duplicate),
                    };
                    taken[side] = taken[side].saturating_sub(1);
                    if copies > 0 && self.rate > 0 {
                        busy[side] = now + waits + Duration::from_nanos(frame.len() as u64 * 1_000_000_000 / self.rate);
                    }
                    let leaves = busy[side].max(now);
                    for _ in 0..copies {
                        let mut frame = frame.clone();
                        // Behind the Ethernet header: its FCS would tell, and ARP has no checksum of its own.
                        if chance(random, self.corrupt) && frame[12..14] == [8, 0] {
                            let bit = random.below((frame.len() as u64 - 14) * 8) as usize;
                            frame[14 + bit / 8] ^= 1 << (bit % 8);
                        }
                        let extra = if chance(random, self.reorder) { random.below(5) as u32 } else { 0 };
                        number += 1;
                        in_flight.push(Reverse((leaves + self.delay * (1 + extra), number, 1 - side, frame)));
                    }
                }
            }
            if hosts.iter().all(|host| host.done()) {
                return (now, digest);
            }
            let next_frame = in_flight.peek().map(|Reverse((at, ..))| *at);
            let deadlines = [hosts[0].deadline(now), hosts[1].deadline(now), next_frame];
            let states = || format!("at {now:?}\n{}\n{}", hosts[0].describe(), hosts[1].describe());
            let next = deadlines.into_iter().flatten().min();
            let next = next.unwrap_or_else(|| panic!("nothing will ever happen again, {}", states()));
            idle_rounds = if next > now { 0 } else { idle_rounds + 1 };
            assert!(idle_rounds < 1000, "time stands still {}", states());
            assert!(next < Duration::from_secs(3600), "not done within an hour, {}", states());
            now = now.max(next);
            while in_flight.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
                let Some(Reverse((_, _, side, frame))) = in_flight.pop() else { break };
                hosts[side].receive(now, &frame);
            }
        }
    }
}

/// What an application sends, and what it got.
#[derive(Debug)]
pub struct App {
    pub seed: u64,
    pub to_send: Vec<u8>,
    pub sent: usize,
    pub received: Vec<u8>,
    pub expected: Vec<u8>,
    /// Reads and writes only sometimes, in 1/1000 of the chances.
    pub eager: u64,
    pub random: Random,
    pub wake: Duration,
}

impl App {
    pub fn new(seed: u64, send: usize, receive: usize, eager: u64, first: bool) -> App {
        let stream = |side: u64, n: usize| {
            let mut random = Random(seed ^ side << 32);
            (0..n).map(|_| random.next() as u8).collect()
        };
        let (out, back) = if first { (1, 2) } else { (2, 1) };
        App {
            seed,
            to_send: stream(out, send),
            sent: 0,
            received: Vec::new(),
            expected: stream(back, receive),
            eager,
            random: Random(seed ^ out),
            wake: Duration::ZERO,
        }
    }

    /// True if the application does something now; otherwise it wakes up later.
    pub fn awake(&mut self, now: Duration) -> bool {
        if now < self.wake {
            return false;
        }
        if self.random.chance(self.eager) {
            return true;
        }
        self.wake = now + Duration::from_micros(1 + self.random.below(5000));
        false
    }

    /// When the application goes on, if it has something to do.
    pub fn wakes(&self, now: Duration, work: bool) -> Option<Duration> {
        work.then(|| self.wake.max(now + Duration::from_micros(10)))
    }

    /// Some of the bytes that are still to be sent.
    pub fn next_bytes(&mut self) -> &[u8] {
        let left = &self.to_send[self.sent..];
        let some = if self.eager >= 1000 { left.len() } else { self.random.below(4000) as usize + 1 };
        &left[..some.min(left.len())]
    }

    #[track_caller]
    pub fn take(&mut self, bytes: &[u8]) {
        let at = self.received.len();
        let expected = self.expected.get(at..at + bytes.len());
        assert!(expected == Some(bytes), "seed {}: wrong bytes at {at}", self.seed);
        self.received.extend_from_slice(bytes);
    }

    pub fn all_sent(&self) -> bool {
        self.sent == self.to_send.len()
    }

    pub fn all_received(&self) -> bool {
        self.received.len() == self.expected.len()
    }
}
