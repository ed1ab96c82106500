//! The operations that are measured, each a `region_*` function that callgrind finds by its name.

use crate::host::{Host, RING, Recorded, Replay};
use crate::{floor, timed};
use connectx_ddp::ddp::contract::{Event, Setup, Teardown};
use connectx_ddp::ddp::device::{Offloads, Received};
use connectx_ddp::dma::IoBuf;
use connectx_ddp::frame::RxBuffer;
use connectx_ddp::queue::{CompletionQueue, ReceiveQueue, RxPool};
use hw_regs::cqe::OffloadCqe;
use std::time::Duration;

/// Completions that are polled before anything else is done, as an owner loop does.
const BURST: usize = 64;
/// Tags that are bound and unbound at a time.
const BATCH: u16 = 32;
/// First of them: those below are the recorded reads'.
const FIRST: u16 = 32;
/// Bytes of a piece of a scatter list.
const PIECE: usize = 4096;

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    Placed,
    Plain,
    GiveBack,
    Post,
    Setup1,
    Setup8,
    Setup32,
    Setup128,
    Teardown,
    Reap,
    Floor,
}

impl Row {
    /// All of them, in the order of the table.
    pub const ALL: [Row; 11] = [
        Row::Placed,
        Row::Plain,
        Row::GiveBack,
        Row::Post,
        Row::Setup1,
        Row::Setup8,
        Row::Setup32,
        Row::Setup128,
        Row::Teardown,
        Row::Reap,
        Row::Floor,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Row::Placed => "placed CQE: poll to \"bytes of tag k\"",
            Row::Plain => "plain CQE of 128 B: poll to \"bytes received\"",
            Row::GiveBack => "receive buffer given back to its pool",
            Row::Post => "receive buffer posted again",
            Row::Setup1 => "setup, 1 entry",
            Row::Setup8 => "setup, 8 entries",
            Row::Setup32 => "setup, 32 entries",
            Row::Setup128 => "setup, 128 entries",
            Row::Teardown => "teardown: invalidate posted",
            Row::Reap => "teardown: completion to buffer",
            Row::Floor => "floor: look, add up",
        }
    }

    /// Instructions: the reference's gate, and what it hopes for (`performance.md` §4).
    pub fn gate(self) -> Option<(u32, u32)> {
        match self {
            Row::Placed => Some((60, 40)),
            Row::Setup1 => Some((200, 110)),
            Row::Setup128 => Some((1200, 750)),
            _ => None,
        }
    }
}

/// Takes what a region did: its row, its time, how many operations it did.
pub type Sink<'a> = &'a mut dyn FnMut(Row, Duration, u64);

/// Everything that is measured: each does its regions once and tells the sink after each.
pub const ROUNDS: [fn(&mut Bench, Sink<'_>); 7] = [
    |bench, sink| bench.receive(Row::Placed, sink),
    |bench, sink| bench.receive(Row::Plain, sink),
    |bench, sink| bench.setup(Row::Setup1, 1, sink),
    |bench, sink| bench.setup(Row::Setup8, 8, sink),
    |bench, sink| bench.setup(Row::Setup32, 32, sink),
    |bench, sink| bench.setup(Row::Setup128, 128, sink),
    |bench, sink| bench.floor(sink),
];

/// Queues and tags that packets are for, in turns, of how many: what it costs to find them must not depend on that.
pub struct Spread {
    pub name: &'static str,
    queues: u16,
    tags: u32,
    used_queues: usize,
    used_tags: usize,
}

/// What is compared: each packet for the same queue and tag as the one before, for the other of two, and for another of many.
pub const SPREADS: [Spread; 7] = [
    Spread { name: "1 queue, 1 tag", queues: 1, tags: 1, used_queues: 1, used_tags: 1 },
    Spread { name: "2 queues in turns, of 2", queues: 2, tags: 1, used_queues: 2, used_tags: 1 },
    Spread { name: "2 queues in turns, of 3999", queues: 3999, tags: 1, used_queues: 2, used_tags: 1 },
    Spread { name: "1000 queues in turns, of 3999", queues: 3999, tags: 1, used_queues: 1000, used_tags: 1 },
    Spread { name: "2 tags in turns, of 2", queues: 1, tags: 2, used_queues: 1, used_tags: 2 },
    Spread { name: "2 tags in turns, of 65536", queues: 1, tags: 1 << 16, used_queues: 1, used_tags: 2 },
    Spread { name: "1024 tags in turns, of 65536", queues: 1, tags: 1 << 16, used_queues: 1, used_tags: 1024 },
];

impl Spread {
    /// A ring of completions of such packets, received twice; `mark` is called after each step with the operations of the
    /// second time, 0 if it was another.
    pub fn receive(&self, mut mark: impl FnMut(u64)) {
        let mut host = Host::with(self.queues, self.tags);
        let entries = host.record_spread(self.used_queues, self.used_tags, self.tags as usize);
        let replay = Replay::new(&entries);
        let mut consumed = Consumed::new();
        for operations in [0, RING as u64] {
            replay.produce(&mut host);
            let mut buffers = [[0; BURST]; RING / BURST];
            let mut took = 0;
            for burst in &mut buffers {
                took += region_receive(&mut host.cq, &mut host.rq, &mut host.offloads, &mut consumed, burst);
            }
            mark(operations);
            assert_eq!((took as usize, consumed.bad, consumed.other), (RING, 0, 0), "every entry is good, and placed");
            region_give_back(&mut host.pool, &buffers);
            region_post(&host.cq, &mut host.rq, &mut host.pool);
            mark(0);
        }
        host.finish();
    }
}

/// A function, and what was recorded on it.
pub struct Bench {
    host: Host,
    placed: Replay,
    plain: Replay,
    consumed: Consumed,
    floor: [u64; 128],
}

/// What the consumer of frames keeps.
struct Consumed {
    /// Bytes placed for each tag.
    of_tag: [u64; 128],
    /// Bytes that arrived in the ring.
    other: u64,
    /// Entries that were not believed.
    bad: u64,
}

/// Reads up to a burst of completions: checks each, makes its frame, and consumes that.
#[inline(never)]
fn region_receive(
    cq: &mut CompletionQueue<OffloadCqe>,
    rq: &mut ReceiveQueue,
    offloads: &mut Offloads,
    consumed: &mut Consumed,
    buffers: &mut [u32; BURST],
) -> u32 {
    let mut kept = buffers.iter_mut();
    offloads.receive_burst(cq, rq, BURST as u32, |received| {
        let Received::Packet(rebuilt) = received else {
            consumed.bad += 1;
            return;
        };
        match rebuilt.frame.placed() {
            Some((_, len, at)) => consumed.of_tag[usize::from(at.tag) % 128] += u64::from(len),
            None => consumed.other += u64::from(rebuilt.frame.len()),
        }
        let buffer = rebuilt.frame.into_buffer().0;
        if let Some(place) = kept.next() {
            *place = buffer;
        }
    })
}

#[inline(never)]
fn region_give_back(pool: &mut RxPool, buffers: &[[u32; BURST]]) {
    for buffer in buffers.as_flattened() {
        pool.give_back(RxBuffer(*buffer));
    }
}

#[inline(never)]
fn region_post(cq: &CompletionQueue<OffloadCqe>, rq: &mut ReceiveQueue, pool: &mut RxPool) -> u32 {
    cq.update();
    rq.post(pool)
}

#[inline(never)]
fn region_setup(offloads: &mut Offloads, queue: u32, buffers: &mut Vec<IoBuf>, platform: &Recorded) -> u32 {
    let (mut tag, mut offloaded) = (FIRST, 0);
    while let Some(buffer) = buffers.pop() {
        offloaded += u32::from(matches!(offloads.setup(queue, tag, buffer, platform), Ok(Setup::Offloaded)));
        tag += 1;
    }
    offloaded
}

#[inline(never)]
fn region_teardown(offloads: &mut Offloads, queue: u32) -> u32 {
    (FIRST..FIRST + BATCH).filter(|tag| matches!(offloads.teardown(queue, *tag), Ok(Teardown::Pending))).count() as u32
}

#[inline(never)]
fn region_reap(offloads: &mut Offloads, buffers: &mut Vec<IoBuf>) {
    offloads.poll();
    while let Some((_, event)) = offloads.next_event() {
        if let Event::TeardownDone(released) = event {
            buffers.push(released.into_buffer());
        }
    }
}

impl Bench {
    /// Brings a function up and records on it.
    pub fn new() -> Bench {
        let mut host = Host::new();
        let (placed, plain) = (host.record(true), host.record(false));
        let (placed, plain) = (Replay::new(&placed), Replay::new(&plain));
        Bench { host, placed, plain, consumed: Consumed::new(), floor: [0; 128] }
    }

    /// One ring of completions: received, their buffers given back, and these posted again.
    fn receive(&mut self, row: Row, sink: Sink<'_>) {
        let Bench { host, consumed, .. } = self;
        let replay = if row == Row::Placed { &self.placed } else { &self.plain };
        replay.produce(host);
        let before = consumed.of_tag.iter().sum::<u64>();
        let mut buffers = [[0; BURST]; RING / BURST];
        let mut took = 0;
        let time = timed(|| {
            for burst in &mut buffers {
                took += region_receive(&mut host.cq, &mut host.rq, &mut host.offloads, consumed, burst);
            }
        });
        sink(row, time, RING as u64);
        assert_eq!((took as usize, consumed.bad), (RING, 0), "every entry is good");
        assert_eq!(consumed.of_tag.iter().sum::<u64>() != before, row == Row::Placed);
        let time = timed(|| region_give_back(&mut host.pool, &buffers));
        sink(Row::GiveBack, time, RING as u64);
        let mut posted = 0;
        let took = timed(|| posted = region_post(&host.cq, &mut host.rq, &mut host.pool));
        sink(Row::Post, took, RING as u64);
        assert_eq!(posted as usize, RING);
    }

    /// A batch of tags: bound with lists of `entries`, unbound, buffers taken back.
    fn setup(&mut self, row: Row, entries: usize, sink: Sink<'_>) {
        let Bench { host, .. } = self;
        let queue = host.queue;
        let mut buffers: Vec<IoBuf> = (0..BATCH).map(|_| host.buffer(entries, PIECE)).collect();
        let mut done = 0;
        let took = timed(|| done = region_setup(&mut host.offloads, queue, &mut buffers, &host.platform));
        sink(row, took, BATCH.into());
        assert_eq!(done, u32::from(BATCH), "the device knows all of them");
        host.let_device_work();
        let took = timed(|| done = region_teardown(&mut host.offloads, queue));
        sink(Row::Teardown, took, BATCH.into());
        assert_eq!(done, u32::from(BATCH));
        host.let_device_work();
        let took = timed(|| region_reap(&mut host.offloads, &mut buffers));
        sink(Row::Reap, took, BATCH.into());
        assert_eq!(buffers.len(), usize::from(BATCH));
    }

    /// The floor over the same entries, two laps.
    pub fn floor(&mut self, sink: Sink<'_>) {
        let Bench { placed, floor, .. } = self;
        let mut consumed = 0;
        let took = timed(|| {
            for odd in [false, true] {
                consumed += floor::region_floor(placed.lap(odd), u8::from(odd), floor);
            }
        });
        sink(Row::Floor, took, consumed);
        assert_eq!(consumed as usize, 2 * RING);
    }

    /// Takes everything down.
    pub fn finish(self) {
        self.host.finish();
    }
}

impl Consumed {
    fn new() -> Consumed {
        Consumed { of_tag: [0; 128], other: 0, bad: 0 }
    }
}
