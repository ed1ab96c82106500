//! Completions that the device writes, of packets and of control work, in any order with what the driver does meanwhile.
//!
//! The oracle reads the entry's bytes by their positions in the reference (`nvme-tcp-offload.md` §5), without the driver's
//! layouts, and says which frame it has to become, or that it has to be refused. What a frame is delivered as is compared
//! with the bytes that the driver itself read before.

use super::input::Input;
use super::machine::{Agreeable, Machine, SendRing, on_machine};
use connectx_ddp::ddp::contract::{Config, Event, Offload, Teardown};
use connectx_ddp::ddp::create::Capacity;
use connectx_ddp::ddp::device::{Offloads, Received, Settings, Socket};
use connectx_ddp::ddp::rebuild::Rebuilt;
use connectx_ddp::ddp::tags::State;
use connectx_ddp::dma::IoBuf;
use connectx_ddp::frame::{Frame, Placed, Range};
use connectx_ddp::nvme::PayloadMemory;
use connectx_ddp::platform::Deadline;
use connectx_ddp::queue::{BadCompletion, Base, CompletionFault, CompletionQueue, ReceiveQueue, RxPool};
use connectx_ddp::steering::{Defaults, FiveTuple, Steering, SteeringCaps, SteeringParams};
use hw_regs::cqe::OffloadCqe;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

const LOG_RING: u32 = 4;
const BUFFERS: u32 = 32;
const BUFFER_BYTES: u32 = 2048;
const TAGS: u16 = 6;
/// Operations of one input at most.
const STEPS: usize = 400;

struct World<'a> {
    machine: &'a Arc<Machine>,
    cq: CompletionQueue<OffloadCqe>,
    rq: ReceiveQueue,
    pool: RxPool,
    offloads: Offloads,
    queue: u32,
    /// Where the receive queue's completions lie, and how many the device wrote.
    entries: u64,
    produced: u32,
    /// The oldest work request that is not complete, and those after it that are.
    next: u16,
    ahead: BTreeSet<u16>,
    control: SendRing,
    held: VecDeque<Frame>,
    /// Tags whose buffers were asked back.
    asked: BTreeSet<u16>,
    /// Buffers that the driver has, by tag.
    lent: usize,
    firmware: Agreeable,
    steering: Steering,
    base: Base,
    deadline: Deadline,
}

pub fn run(data: &[u8]) {
    on_machine(false, |machine| World::new(machine).play(&mut Input::new(data)));
}

impl World<'_> {
    fn new(machine: &Arc<Machine>) -> World<'_> {
        let mut firmware = Agreeable::new(machine);
        let deadline = Deadline::after(&**machine, Duration::from_secs(1));
        let heap = machine.heap().clone();
        let base = Base { heap, pd: 3, uar: 16, transport_domain: 9, data_mkey: 0x600 };
        let mut cq = CompletionQueue::create(&mut firmware, &base, LOG_RING, 5, deadline).expect("a queue");
        let entries = firmware.rings[&cq.cqn()].0;
        let mut pool = RxPool::new(&base.heap, BUFFERS, BUFFER_BYTES).expect("memory");
        let mut rq =
            ReceiveQueue::create(&mut firmware, &base, &mut cq, LOG_RING, &pool, 0, deadline).expect("a queue");
        rq.post(&mut pool);
        let caps = SteeringCaps { log_max_table_size: 8, log_max_rules: 8, max_level: 64, ip_version: true };
        let params = SteeringParams { connections_ipv4: 2, connections_ipv6: 0 };
        let defaults = Defaults { other: 1, tcp_ipv4: None, tcp_ipv6: None };
        let mut steering = Steering::create(&mut firmware, &caps, &params, &defaults, deadline).expect("steering");
        let capacity = Capacity { max_entries: 8, max_tags: 64, per_wqe: 8, max_log_ring: 6, check_digest: true };
        let patience = Duration::from_millis(2);
        let settings = Settings { ids: 7..=10, log_ring: Some(6), patience, ..Settings::new(5) };
        let mut offloads = Offloads::new(capacity, settings);
        let (source, destination) = (([10, 0, 0, 2], 4420).into(), ([10, 0, 0, 1], 50_000).into());
        let socket = Socket { tuple: FiveTuple { source, destination }, next_pdu: 0 };
        let config = Config { cpda: 0, header_digest: false, data_digest: true, queue_size: TAGS.into(), rqtn: 0x77 };
        let added = offloads.with(&mut firmware, &mut steering, &**machine, &base).sk_add(&socket, &config);
        let queue = added.expect("an offload queue");
        let control = machine.served.borrow_mut().pop().expect("the control ring");
        World {
            machine,
            cq,
            rq,
            pool,
            offloads,
            queue,
            entries,
            produced: 0,
            next: 0,
            ahead: BTreeSet::new(),
            control,
            held: VecDeque::new(),
            asked: BTreeSet::new(),
            lent: 0,
            firmware,
            steering,
            base,
            deadline,
        }
    }

    fn play(mut self, input: &mut Input<'_>) {
        for _ in 0..STEPS {
            if input.is_empty() {
                break;
            }
            match input.u8() {
                0..=111 => self.packets(input),
                112..=143 => self.setup(input),
                144..=167 => self.teardown(input),
                168..=199 => self.control(input),
                200..=219 => self.reap(),
                220..=229 => self.resync(input),
                230..=249 => self.use_oldest(input),
                250..=255 => self.recover(),
            }
            self.check();
        }
        while let Some(frame) = self.held.pop_front() {
            self.pool.give_back(frame.into_buffer());
        }
        self.check();
        // The queue goes: every buffer comes back, because its memory keys are gone.
        self.machine.served.borrow_mut().push(self.control);
        let machine = &**self.machine;
        let mut device = self.offloads.with(&mut self.firmware, &mut self.steering, machine, &self.base);
        let removed = device.sk_del(self.queue).expect("a queue");
        assert!(removed.errors.is_empty() && removed.quarantined.is_none());
        assert_eq!(removed.released.len(), self.lent, "a destination buffer is lost");
        drop(removed);
        self.rq.destroy(&mut self.firmware, &mut self.cq, &mut self.pool, self.deadline).expect("agreed");
        assert_eq!(self.pool.outstanding(), 0, "a buffer is lost");
        self.firmware.forget();
    }

    fn check(&self) {
        // A slot whose buffer was given to no frame although its work request is over keeps it (`ReceiveQueue`).
        let held = self.held.len() as u32;
        assert!(self.pool.outstanding() >= self.rq.posted() + held || self.rq.has_failed());
        assert!(self.pool.outstanding() <= self.rq.capacity() + held, "more buffers out than there are places");
        assert!(self.offloads.queue(self.queue).is_some_and(|queue| queue.tags().held() as usize == self.lent));
    }

    /// The device writes completions of packets, and the driver reads them as it does at work: in a burst.
    fn packets(&mut self, input: &mut Input<'_>) {
        let mut written = VecDeque::new();
        // One kind of lie for all of them, or one for each: a run of packets that are alike takes another way.
        let alike = input.u8() < 128;
        let tag = input.below(u32::from(TAGS)) as u16;
        let lies = input.u8();
        let mut offset = input.below(4) * 1000;
        for n in 0..1 + input.below(8) as u16 {
            let lies = if alike { lies & input.u8() } else { input.u8() };
            let mut entry = self.entry(input, tag, self.next.wrapping_add(n), offset, lies);
            offset += 1000;
            entry[127] = entry[127] & !1 | (self.produced >> LOG_RING & 1) as u8;
            let at = self.entries + u64::from(self.produced & ((1 << LOG_RING) - 1)) * 128;
            self.machine.memory.write(at, &entry);
            // What says "never written" is not read; the device may write it anew.
            if entry[127] >> 4 == 0xf {
                break;
            }
            self.produced += 1;
            written.push_back(entry);
        }
        let (limit, count) = (1 + input.below(16), written.len());
        let (refused, rejections) = (self.rq.rejected().total(), self.offloads.stats().rejections());
        let (mut bad, mut rejected) = (0, 0);
        let mut read = 0;
        while read < count {
            let mut received = Vec::new();
            let n = self.offloads.receive_burst(&mut self.cq, &mut self.rq, limit, |one| received.push(one));
            assert!(n != 0 && n <= limit && n as usize == received.len(), "an entry was overlooked");
            read += n as usize;
            for one in received {
                let entry = written.pop_front().expect("as many as were written");
                bad += u64::from(matches!(one, Received::Fault(CompletionFault::Bad(_))));
                rejected += u64::from(matches!(one, Received::Rejected(_)));
                self.received(&entry, one);
            }
        }
        assert_eq!(self.rq.rejected().total(), refused + bad, "every refused value is counted");
        assert_eq!(self.offloads.stats().rejections(), rejections + rejected, "every refused value is counted");
        assert_eq!(self.offloads.receive_burst(&mut self.cq, &mut self.rq, 1, |_| ()), 0, "an entry of nobody");
        self.cq.update();
        self.rq.post(&mut self.pool);
    }

    /// A completion: of a packet with a placed run at `offset` of `tag`, with some lies.
    fn entry(&self, input: &mut Input<'_>, tag: u16, counter: u16, offset: u32, lies: u8) -> [u8; 128] {
        let mut entry = [0; 128];
        self.honest(&mut entry, tag, counter.into());
        put32(&mut entry, 4, offset);
        if lies & 1 != 0 {
            put16(&mut entry, 8, input.lie(tag.into()) as u16); // ccid
        }
        if lies & 4 != 0 {
            put16(&mut entry, 0, input.lie(1000) as u16); // cclen
        }
        let cclen = u32::from(be16(&entry, 0));
        if lies & 2 != 0 {
            // About the end of the buffer; or a resync_tcp_sn.
            let tags = self.offloads.queue(self.queue).map(|queue| queue.tags());
            let size = tags.and_then(|tags| tags.buffer(tag)).map_or(0, |buffer| buffer.len() as u32);
            put32(&mut entry, 4, input.lie(size.saturating_sub(cclen))); // ccoff
        }
        if lies & 8 != 0 {
            let headers = input.lie(if entry[93] & 4 == 0 { 54 } else { 74 });
            put16(&mut entry, 2, headers as u16); // hlen
        }
        if lies & 16 != 0 {
            let end = u32::from(be16(&entry, 2)) + cclen;
            put32(&mut entry, 108, input.lie(end)); // byte_cnt
        }
        if lies & 32 != 0 {
            entry[65] = input.u8(); // flags of the offload
            entry[93] = input.u8(); // header types
        }
        if lies & 64 != 0 {
            put16(&mut entry, 124, input.lie(counter.into()) as u16); // wqe_counter
        }
        if lies & 128 != 0 {
            input.bend(&mut entry);
        }
        entry
    }

    /// What the driver made of an entry.
    fn received(&mut self, entry: &[u8; 128], received: Received) {
        let (name, len) = (be16(entry, 124), be32(entry, 108));
        match received {
            Received::Fault(CompletionFault::Bad(bad)) => {
                assert!(!bad.to_string().is_empty());
                if let BadCompletion::Length(_) = bad {
                    assert!(len == 0 || len > BUFFER_BYTES);
                    self.completed(name);
                }
            }
            Received::Fault(CompletionFault::Failed(error)) => {
                assert!(matches!(entry[127] >> 4, 0xd | 0xe), "{error}");
                assert!(self.rq.has_failed());
            }
            Received::Rejected(rejected) => {
                assert!(self.expected(entry, len).is_none(), "{} refused: {entry:02x?}", rejected.why);
                self.completed(name);
                self.pool.give_back(rejected.buffer);
            }
            Received::Packet(Rebuilt { frame, resync }) => {
                assert_eq!(entry[127] & 0xfc, 0x20);
                let (ranges, question) = self.expected(entry, len).unwrap_or_else(|| panic!("believed: {entry:02x?}"));
                assert_eq!((frame.len(), resync), (len, question));
                let buffer = frame.buffer();
                let found: Vec<_> = frame.ranges().collect();
                let wanted: Vec<_> = ranges.into_iter().map(|range| in_buffer(range, buffer)).collect();
                assert_eq!(found, wanted);
                assert!(self.held.iter().all(|held| held.buffer() != buffer), "a buffer was handed out twice");
                assert_eq!(frame.queue(), be32(entry, 120) & 0xff_ffff);
                assert!(!frame.digest_ok() || entry[65] & 0x20 != 0);
                assert_eq!(frame.checksum_ok(), entry[92] & 6 == 6);
                self.completed(name);
                self.held.push_back(frame);
                if self.held.len() > 8
                    && let Some(frame) = self.held.pop_front()
                {
                    self.pool.give_back(frame.into_buffer());
                }
            }
        }
    }

    /// A work request is complete, named by its counter or by its place in the ring.
    fn completed(&mut self, name: u16) {
        let place = name.wrapping_sub(self.next) & ((1 << LOG_RING) - 1);
        self.ahead.insert(self.next.wrapping_add(place));
        while self.ahead.remove(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
    }

    /// What an honest device says of a packet with a placed run.
    fn honest(&self, entry: &mut [u8; 128], tag: u16, counter: u32) {
        put16(entry, 0, 1000); // cclen
        put16(entry, 2, 90); // hlen
        put16(entry, 8, tag);
        entry[65] = 0x30; // zero copy, digest
        entry[92] = 0x6; // checksums
        entry[93] = 0x8; // IPv4
        put32(entry, 108, 1514);
        put32(entry, 120, self.queue);
        put16(entry, 124, counter as u16);
        entry[127] = 0x20;
    }

    /// The ranges that the frame must have (in any buffer), and the device's question; `None` if the entry cannot be true.
    fn expected(&self, entry: &[u8; 128], len: u32) -> Option<(Vec<Range>, Option<u32>)> {
        let ring = |offset, len| Range::Ring { buffer: 0, offset, len };
        let (flags, flow) = (entry[65] & 0x70, be32(entry, 120) & 0xff_ffff);
        if flags == 0 {
            return Some((vec![ring(0, len)], None));
        }
        let queue = self.offloads.queue(flow)?;
        let question = (flags & 0x40 != 0).then(|| be32(entry, 4));
        if flags & 0x10 == 0 {
            return Some((vec![ring(0, len)], question));
        }
        if question.is_some() {
            return None;
        }
        let (tag, offset) = (be16(entry, 8), be32(entry, 4));
        let (cclen, hlen) = (u32::from(be16(entry, 0)), u32::from(be16(entry, 2)));
        let headers = if entry[93] & 0x4 == 0 { 54 } else { 74 };
        let known = matches!(queue.tags().state(tag).ok()?, State::Bound | State::Draining | State::Forgotten);
        let size = queue.tags().buffer(tag)?.len() as u64;
        let inside = u64::from(offset) + u64::from(cclen) <= size && hlen >= headers && hlen + cclen <= len;
        if !known || cclen == 0 || !inside {
            return None;
        }
        let at = Placed { tag, generation: queue.tags().generation(tag).ok()?, offset };
        let mut ranges = vec![ring(0, hlen), Range::Placed { at, len: cclen }];
        ranges.extend((hlen + cclen < len).then(|| ring(hlen + cclen, len - hlen - cclen)));
        Some((ranges, None))
    }

    fn setup(&mut self, input: &mut Input<'_>) {
        let tag = input.below(u32::from(TAGS) + 2) as u16;
        let pieces = 1 + input.below(10) as usize;
        let bytes = 1 + input.below(3000) as usize;
        let heap = self.machine.heap();
        let piece = |n: usize| {
            let piece = heap.allocate(bytes + 64, 64).expect("memory").split_at(bytes).0;
            piece.fill(0, bytes, n as u8);
            piece
        };
        let buffer = IoBuf::new((0..pieces).map(piece).collect());
        self.lent += usize::from(self.offloads.setup(self.queue, tag, buffer, &**self.machine).is_ok());
    }

    fn teardown(&mut self, input: &mut Input<'_>) {
        let tag = input.below(u32::from(TAGS) + 2) as u16;
        match self.offloads.teardown(self.queue, tag) {
            Ok(Teardown::Done(released)) => {
                assert_eq!(released.tag(), tag);
                self.lent -= 1;
                drop(released.into_buffer());
            }
            Ok(Teardown::Pending) => assert!(self.asked.insert(tag)),
            Err(_) => {}
        }
    }

    /// The device completes control work, truly or not.
    fn control(&mut self, input: &mut Input<'_>) {
        self.offloads.flush(&**self.machine);
        let next = self.control.next(&self.machine.memory);
        let lies = input.u8();
        let Some(index) = next.or((lies & 1 != 0).then_some(0)) else { return };
        let mut entry = self.control.honest(index);
        if lies & 2 != 0 {
            put16(&mut entry, 60, input.lie(index.into()) as u16);
        }
        if lies & 4 != 0 {
            put32(&mut entry, 56, input.lie(self.control.sqn));
        }
        if lies & 8 != 0 {
            entry[63] = input.u8();
            entry[55] = input.u8();
        }
        if lies & 16 != 0 {
            input.bend(&mut entry);
        }
        // "Never written" would stop the ring: that is silence, which deadlines are for.
        if entry[63] >> 4 != 0xf {
            self.control.complete(&self.machine.memory, entry);
        }
    }

    fn reap(&mut self) {
        self.offloads.poll();
        while let Some((queue, event)) = self.offloads.next_event() {
            assert_eq!(queue, self.queue);
            match event {
                Event::TeardownDone(released) => {
                    assert!(self.asked.remove(&released.tag()), "tag {} came back unasked", released.tag());
                    self.lent -= 1;
                    drop(released.into_buffer());
                }
                Event::Failed(error) => {
                    assert!(self.offloads.queue(self.queue).is_some_and(|queue| queue.has_failed()), "{error}");
                }
            }
        }
    }

    fn resync(&mut self, input: &mut Input<'_>) {
        self.offloads.resync(self.queue, input.u32());
        self.offloads.flush(&**self.machine);
    }

    /// The layer above takes the oldest frame: each range is delivered somewhere, and must be there as it was.
    fn use_oldest(&mut self, input: &mut Input<'_>) {
        let Some(mut frame) = self.held.pop_front() else { return };
        let front = input.below(frame.len() + 1);
        frame.trim_front(front);
        let back = input.below(frame.len() + 1);
        frame.trim_back(back);
        let mut memory = self.offloads.memory(self.queue, &self.pool).expect("a queue");
        for range in frame.ranges() {
            let (tag, offset) = (input.below(u32::from(TAGS) + 1) as u16, input.below(4000));
            let mut bytes = vec![0; range.len() as usize];
            let found = memory.peek(range, &mut bytes);
            let delivered = memory.deliver(tag, offset, range);
            if delivered.is_ok() {
                assert!(found.is_ok());
                let mut there = vec![0; bytes.len()];
                memory.fetch(tag, offset, &mut there).expect("just delivered");
                assert_eq!(there, bytes, "delivered bytes are not the packet's");
            }
        }
        self.pool.give_back(frame.into_buffer());
    }

    /// After an error completion the receive queue is taken back to work.
    fn recover(&mut self) {
        if self.rq.has_failed() {
            self.rq.recover(&mut self.firmware, &mut self.cq, &mut self.pool, self.deadline).expect("agreed");
            assert_eq!(self.rq.posted(), 0);
            (self.next, self.ahead) = (0, BTreeSet::new());
            self.rq.post(&mut self.pool);
        }
    }
}

fn in_buffer(range: Range, index: u32) -> Range {
    match range {
        Range::Ring { offset, len, .. } => Range::Ring { buffer: index, offset, len },
        placed => placed,
    }
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// A device that writes into entries while the driver reads them: whatever a value was when it was looked at, it is used as it
/// was looked at. What comes out stays in bounds, however often `rounds` says.
pub fn race(rounds: u32) {
    on_machine(false, |machine| {
        let mut world = World::new(machine);
        world.setup(&mut Input::new(&[0, 1, 0xd0, 0x07, 0, 0]));
        let honest = {
            let mut entry = [0; 128];
            world.honest(&mut entry, 0, 0);
            entry
        };
        let (entries, memory) = (world.entries, Arc::clone(&machine.memory));
        let (stop, read) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, next) = (Arc::clone(&stop), Arc::clone(&read));
        let device = std::thread::spawn(move || {
            let mut n = 0u64;
            while !stopped.load(Ordering::Relaxed) {
                // Any of the entries that the driver reads now or next, again and again.
                n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let place = next.load(Ordering::Relaxed) + (n >> 33 & 3) as u32;
                let slot = u64::from(place & ((1 << LOG_RING) - 1));
                let mut entry = honest;
                // One value is wrong, now this, now that, now none.
                match n >> 40 & 15 {
                    0 => put16(&mut entry, 8, 0xffff),
                    1 => put32(&mut entry, 4, u32::MAX),
                    2 => put16(&mut entry, 0, 0xffff),
                    3 => put16(&mut entry, 2, 0),
                    4 => put32(&mut entry, 108, u32::MAX),
                    5 => entry[65] = 0x70,
                    _ => {}
                }
                put16(&mut entry, 124, slot as u16);
                entry[127] = 0x20 | (place >> LOG_RING & 1) as u8;
                memory.write(entries + slot * 128, &entry);
            }
        });
        for _ in 0..rounds {
            let World { offloads, cq, rq, pool, queue, .. } = &mut world;
            let mut received = Vec::new();
            let taken = offloads.receive_burst(cq, rq, 1 << LOG_RING, |one| received.push(one));
            read.fetch_add(taken, Ordering::Relaxed);
            if taken == 0 {
                std::thread::yield_now();
            }
            for one in received {
                match one {
                    Received::Fault(_) => {}
                    Received::Rejected(rejected) => pool.give_back(rejected.buffer),
                    Received::Packet(Rebuilt { frame, .. }) => {
                        for range in frame.ranges() {
                            match range {
                                Range::Ring { offset, len, .. } => assert!(offset + len <= BUFFER_BYTES),
                                Range::Placed { at, len } => {
                                    let tags = offloads.queue(*queue).map(|queue| queue.tags()).expect("a queue");
                                    let size = tags.placed_in(at).expect("bound").len() as u64;
                                    assert!(u64::from(at.offset) + u64::from(len) <= size, "{range:?} of {size}");
                                }
                            }
                        }
                        pool.give_back(frame.into_buffer());
                    }
                }
            }
            cq.update();
            rq.post(pool);
        }
        stop.store(true, Ordering::Relaxed);
        device.join().expect("a device does not panic");
        world.play(&mut Input::new(&[]));
    });
}
