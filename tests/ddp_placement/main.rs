//! The offload against the virtual ConnectX: hand-made TCP segments with NVMe/TCP PDUs go into its wire, the payload
//! lands in the reader's buffer, and the driver's frames are the bytes that were on the wire.
//!
//! | property | test |
//! |---|---|
//! | every frame is the wire's bytes; one run of each packet is placed, whichever the device chooses, and the rest is copied; the buffers end up whole | `payload_lands_where_it_belongs` |
//! | the device vouches for digests exactly where no wrong one is in the packet | `a_wrong_digest_is_not_vouched_for` |
//! | a retransmission arrives in the ring, and copying it changes nothing | `a_retransmission_arrives_in_the_ring` |
//! | a packet that comes late is neither placed nor vouched for, and the buffer is complete all the same | `a_late_packet_is_copied` |
//! | a frame of an earlier use of a tag is stale, and the new buffer is not touched by it | `an_earlier_use_is_stale` |
//! | after removal packets arrive by the defaults, and the buffers are the caller's | `a_removed_queue_places_nothing` |
//! | queues come and go without a trace, six commands each, and one per tag that no queue had before | `queues_come_and_go` |
//! | a table can have 65,536 tags, and each of them places | `a_table_has_as_many_tags_as_there_are_identifiers` |
//! | a connection that cannot be offloaded says why, and leaves nothing | `what_cannot_be_added_says_why` |
//!
//! Every test ends by tearing the function down and asking the device what it holds and what it was misused for.
#![cfg(feature = "demo")]

mod host;
mod segment;
mod stream;

use connectx_ddp::ddp::create::CreateError;
use connectx_ddp::ddp::device::AddError;
use connectx_ddp::dma::IoBuf;
use connectx_ddp::frame::{Frame, Range};
use connectx_ddp::nvme::{Delivery, PayloadError, PayloadMemory};
use firmware_iface::caps::groups::NvmeotcpCap;
use host::{BUFFER, Host};
use hw_regs::layout::Access;
use proptest::prelude::*;
use segment::{HEADERS, Wire};
use std::net::SocketAddr;
use stream::{Byte, Stream};
use virtual_nic::Config;
use virtual_nic::offload::WhichRun;

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A buffer of pieces of these lengths, none adjacent to another: of the driver's memory, and of this process's.
fn buffer(host: &Host, lengths: &[usize]) -> IoBuf {
    let memory = |len: &usize| match len % 2 {
        0 => host.base.heap.allocate(len + 64, 64).expect("memory"),
        _ => host.base.heap.pin(vec![0; len + 64]).expect("memory").0,
    };
    let piece = |len: &usize| memory(len).split_at(len % 7 + 1).1;
    IoBuf::new(lengths.iter().map(|len| piece(len).split_at(*len).0).collect())
}

/// An offloaded connection on a function of its own.
struct Connection {
    host: Host,
    wire: Wire,
    queue: u32,
}

impl Connection {
    fn new(config: Config, first: u32, queue_size: u32, data_digest: bool) -> Connection {
        let mut host = Host::new(config);
        let wire = Wire::new(host.adapter.mac(), 1000);
        let (source, destination) = (SocketAddr::V4(wire.source), SocketAddr::V4(wire.destination));
        let queue = host.add(source, destination, first, queue_size, data_digest).expect("added");
        Connection { host, wire, queue }
    }

    /// Sends the bytes `[from, to)` of a stream and returns the frame, which stands for the wire's bytes.
    fn segment(&mut self, stream: &Stream, from: usize, to: usize) -> Frame {
        let sequence = stream.first.wrapping_add(from as u32);
        let sent = self.wire.segment(sequence, &stream.bytes[from..to]);
        let frame = self.host.receive(&sent);
        assert_eq!(frame.queue(), self.queue);
        assert!(frame.checksum_ok());
        assert_eq!(self.host.bytes(&frame), sent, "one truth");
        frame
    }

    /// Delivers the payload of a frame that stands for `[from, to)` of a stream. Returns bytes in place, bytes copied.
    fn deliver(&mut self, stream: &Stream, from: usize, frame: Frame) -> Result<(u32, u32), PayloadError> {
        let mut moved = (0, 0);
        let mut at = from;
        let mut ranges = frame.ranges();
        // Past the headers, which always lie in the ring.
        let mut range = ranges.next().expect("headers").slice(HEADERS as u32, u32::MAX);
        loop {
            let mut done = 0;
            while done < range.len() {
                let run = range.slice(done, u32::MAX);
                let len = match stream.map[at] {
                    Byte::Other => 1,
                    Byte::Data(tag, offset) => {
                        let same =
                            (0..run.len()).take_while(|n| stream.map[at + *n as usize] == Byte::Data(tag, offset + n));
                        let len = same.count() as u32;
                        let mut memory = self.host.offloads.memory(self.queue, &self.host.pool).expect("a queue");
                        match memory.deliver(tag, offset, run.slice(0, len))? {
                            Delivery::InPlace => moved.0 += len,
                            Delivery::Copied => moved.1 += len,
                        }
                        len
                    }
                };
                (at, done) = (at + len as usize, done + len);
            }
            match ranges.next() {
                Some(next) => range = next,
                None => break,
            }
        }
        self.host.give_back(frame);
        Ok(moved)
    }

    fn finish(mut self) {
        let removed = self.host.del(self.queue);
        assert!(removed.errors.is_empty() && removed.quarantined.is_none(), "{removed}");
        drop(removed);
        self.host.finish();
    }
}

/// Reads of one stream: (pieces of the buffer, lengths of its C2HData PDUs in thousandths of what is left, offloaded).
type Reads = Vec<(Vec<usize>, Vec<u16>, bool)>;

fn reads() -> impl Strategy<Value = Reads> {
    let pieces = prop_oneof![
        prop::collection::vec(1usize..5000, 1..8),
        prop::collection::vec(1usize..300, 1..=128),
        prop::collection::vec(20_000usize..60_000, 1..3),
    ];
    prop::collection::vec((pieces, prop::collection::vec(0u16..1000, 0..4), prop::bool::weighted(0.8)), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn payload_lands_where_it_belongs(
        first: u32, digest: bool, reads in reads(), interleave: bool, seed: u64,
        rule in prop::sample::select(vec![WhichRun::First, WhichRun::Last, WhichRun::Longest]),
        cuts in prop::collection::vec(prop_oneof![3 => Just(1448usize), 1 => 1usize..1448], 1..12),
    ) {
        let mut config = Config::default();
        config.switches.which_run = rule;
        let mut c = Connection::new(config, first, 8, digest);
        let mut stream = Stream::new(first, digest);
        let mut contents = Vec::new();
        let mut pdus = Vec::new();
        for (tag, (pieces, cut, offloaded)) in reads.iter().enumerate() {
            let tag = tag as u16;
            let buffer = buffer(&c.host, pieces);
            let content = bytes(buffer.len(), seed ^ u64::from(tag));
            match offloaded {
                true => c.host.bind(c.queue, tag, buffer),
                false => c.host.offloads.hold(c.queue, tag, buffer).expect("free"),
            }
            let mut from = 0;
            let lengths = cut.iter().map(|part| usize::from(*part)).chain([1000]);
            for (round, part) in lengths.enumerate() {
                let len = (content.len() - from) * part / 1000;
                if len != 0 {
                    pdus.push((if interleave { round } else { 0 }, tag, from, len));
                }
                from += len;
            }
            contents.push(content);
        }
        pdus.sort_by_key(|(round, ..)| *round);
        for (_, tag, from, len) in pdus {
            stream.data(tag, from as u32, &contents[usize::from(tag)][from..from + len]);
            if from + len == contents[usize::from(tag)].len() {
                stream.response(tag);
            }
        }
        let bound = |tag: u16| reads[usize::from(tag)].2;
        let (mut placed, mut copied, mut from, mut expected) = (0, 0, 0, 0);
        for cut in cuts.iter().cycle() {
            if from == stream.bytes.len() {
                break;
            }
            let to = (from + cut).min(stream.bytes.len());
            let frame = c.segment(&stream, from, to);
            // One run of each packet that has one, which and where the stream says.
            let runs: Vec<_> = stream.runs(from, to).into_iter().filter(|run| bound(run.1)).collect();
            let longest = runs.iter().map(|run| run.3).max();
            let run = match rule {
                WhichRun::First => runs.first(),
                WhichRun::Last => runs.last(),
                WhichRun::Longest => runs.iter().find(|run| Some(run.3) == longest),
            };
            let placed_run =
                frame.placed().map(|(hole, len, at)| (hole as usize - HEADERS, at.tag, at.offset, len as usize));
            prop_assert_eq!(placed_run, run.copied());
            expected += frame.placed_len();
            prop_assert_eq!(frame.digest_ok(), digest);
            let (in_place, by_hand) = c.deliver(&stream, from, frame).expect("deliverable");
            (placed, copied) = (placed + in_place, copied + by_hand);
            from = to;
        }
        let total: usize = contents.iter().map(Vec::len).sum();
        prop_assert_eq!((placed, (placed + copied) as usize), (expected, total));
        let stats = c.host.offloads.stats();
        prop_assert_eq!((stats.bytes, stats.rejections(), stats.misplaced), (u64::from(placed), 0, 0));
        prop_assert_eq!(c.host.platform.nic().counters().placed_bytes, u64::from(placed));
        for (tag, content) in contents.iter().enumerate() {
            let tag = tag as u16;
            let buffer = match bound(tag) {
                true => c.host.unbind(c.queue, tag),
                false => match c.host.offloads.teardown(c.queue, tag).expect("held") {
                    connectx_ddp::ddp::contract::Teardown::Done(released) => released.into_buffer(),
                    pending => panic!("{pending:?}"),
                },
            };
            prop_assert!(buffer.to_vec() == *content, "tag {}", tag);
        }
        prop_assert_eq!(c.host.platform.nic().inventory().bound_tags, 0);
        c.finish();
    }
}

#[test]
fn a_wrong_digest_is_not_vouched_for() {
    let mut c = Connection::new(Config::default(), 7, 4, true);
    let mut stream = Stream::new(7, true);
    let content = bytes(6000, 1);
    let target = buffer(&c.host, &[6000]);
    c.host.bind(c.queue, 2, target);
    let wrong = stream.data(2, 0, &content[..3000]);
    stream.data(2, 3000, &content[3000..]);
    stream.bytes[wrong + 2] ^= 4;
    let mut from = 0;
    while from < stream.bytes.len() {
        let to = (from + 1000).min(stream.bytes.len());
        let frame = c.segment(&stream, from, to);
        // Until the digest comes nothing is known to be wrong.
        assert_eq!(frame.digest_ok(), !(from..to).contains(&(wrong + 2)), "bytes {from} to {to}");
        c.deliver(&stream, from, frame).expect("deliverable");
        from = to;
    }
    assert_eq!(c.host.unbind(c.queue, 2).to_vec(), content);
    c.finish();
}

#[test]
fn a_retransmission_arrives_in_the_ring() {
    let mut c = Connection::new(Config::default(), u32::MAX - 2000, 4, false);
    let mut stream = Stream::new(u32::MAX - 2000, false);
    let content = bytes(5000, 3);
    let target = buffer(&c.host, &[1000, 4000]);
    c.host.bind(c.queue, 0, target);
    stream.data(0, 0, &content);
    let spans: Vec<_> = (0..stream.bytes.len()).step_by(1000).map(|at| (at, (at + 1000).min(5024))).collect();
    for (n, (from, to)) in spans.iter().enumerate() {
        let frame = c.segment(&stream, *from, *to);
        assert_ne!(frame.placed_len(), 0);
        c.deliver(&stream, *from, frame).expect("deliverable");
        // The one before comes again, over the sequence wrap as well.
        let (from, to) = spans[n.saturating_sub(1)];
        let frame = c.segment(&stream, from, to);
        assert_eq!(frame.placed(), None);
        let (in_place, _) = c.deliver(&stream, from, frame).expect("deliverable");
        assert_eq!(in_place, 0);
    }
    assert_eq!(c.host.unbind(c.queue, 0).to_vec(), content);
    c.finish();
}

#[test]
fn a_late_packet_is_copied() {
    let mut c = Connection::new(Config::default(), 100, 4, true);
    let mut stream = Stream::new(100, true);
    let content = bytes(8000, 5);
    let target = buffer(&c.host, &[8000]);
    c.host.bind(c.queue, 3, target);
    stream.data(3, 0, &content);
    let spans: Vec<_> = (0..stream.bytes.len()).step_by(1000).map(|at| (at, (at + 1000).min(8028))).collect();
    // The third is late; what TCP holds back until then it delivers after it.
    let order = [0, 1, 3, 4, 2, 5, 6, 7, 8];
    let mut kept = Vec::new();
    for n in order {
        let (from, to) = spans[n];
        kept.push((n, from, c.segment(&stream, from, to)));
    }
    // Whether the device vouches for the others or not: one packet without its word, and software checks the PDU.
    let late = &kept.iter().find(|k| k.0 == 2).expect("kept").2;
    assert_eq!((late.placed(), late.digest_ok()), (None, false));
    kept.sort_by_key(|k| k.0);
    for (_, from, frame) in kept {
        c.deliver(&stream, from, frame).expect("deliverable");
    }
    assert_eq!(c.host.unbind(c.queue, 3).to_vec(), content);
    c.finish();
}

#[test]
fn an_earlier_use_is_stale() {
    let mut c = Connection::new(Config::default(), 0, 4, false);
    let mut stream = Stream::new(0, false);
    let content = bytes(1400, 6);
    stream.data(1, 0, &content);
    let target = buffer(&c.host, &[1400]);
    c.host.bind(c.queue, 1, target);
    let late = c.segment(&stream, 0, stream.bytes.len());
    assert_eq!(late.placed_len(), 1400);
    let target = c.host.unbind(c.queue, 1);
    assert_eq!(target.to_vec(), content);
    // The tag's next use begins; the frame of the last one was not delivered yet.
    target.write(0, &[0; 1400]);
    c.host.bind(c.queue, 1, target);
    let at = late.placed().expect("placed").2;
    let range = late.ranges().find(|r| matches!(r, Range::Placed { .. })).expect("placed");
    let stale = PayloadError::Stale { tag: 1, generation: at.generation };
    let mut memory = c.host.offloads.memory(c.queue, &c.host.pool).expect("a queue");
    assert_eq!(memory.deliver(1, 0, range), Err(stale.clone()));
    assert_eq!(memory.peek(range, &mut [0; 8]), Err(stale));
    c.host.give_back(late);
    assert_eq!(c.host.unbind(c.queue, 1).to_vec(), [0; 1400]);
    c.finish();
}

#[test]
fn a_removed_queue_places_nothing() {
    let mut c = Connection::new(Config::default(), 0, 8, false);
    let mut stream = Stream::new(0, false);
    let content = bytes(2800, 8);
    stream.data(5, 0, &content);
    let target = buffer(&c.host, &[2800]);
    c.host.bind(c.queue, 5, target);
    let frame = c.segment(&stream, 0, 1424);
    assert_eq!(frame.placed_len(), 1400);
    c.host.give_back(frame);
    let mut removed = c.host.del(c.queue);
    assert!(removed.errors.is_empty(), "{removed}");
    let released = removed.released.pop().expect("bound when it was removed");
    assert_eq!((released.tag(), released.is_suspect()), (5, false));
    let target = released.into_buffer();
    let sent = c.wire.segment(1424, &stream.bytes[1424..]);
    let frame = c.host.receive(&sent);
    assert_eq!((frame.queue(), frame.placed(), c.host.bytes(&frame)), (0, None, sent));
    c.host.give_back(frame);
    assert_eq!(target.to_vec(), [&content[..1400], &[0; 1400]].concat(), "written before, untouched since");
    drop((target, removed));
    c.host.finish();
}

#[test]
fn queues_come_and_go() {
    let mut host = Host::new(Config::default());
    for round in 0..2 {
        let mut queues = Vec::new();
        for (n, size) in [1, 4, 53, 128, 1024].into_iter().enumerate() {
            let wire = Wire::new(host.adapter.mac(), 1000 + n as u16);
            let (source, destination) = (SocketAddr::V4(wire.source), SocketAddr::V4(wire.destination));
            let before = host.adapter.commands_executed();
            let queue = host.add(source, destination, 5, size, true).expect("added");
            // Table, CQ, SQ and its state, TIR, rule; pages for firmware as it needs them. The keys of the first round serve
            // the second.
            let keys = if round == 0 { u64::from(size) } else { 0 };
            let commands = host.adapter.commands_executed() - before;
            assert!((keys + 6..keys + 6 + 16).contains(&commands), "{commands} commands for {size} tags");
            // Each carries a packet at once.
            let mut stream = Stream::new(5, true);
            let tag = (size - 1) as u16;
            let target = buffer(&host, &[700, 700]);
            host.bind(queue, tag, target);
            stream.data(tag, 0, &bytes(1400, 9));
            let frame = host.receive(&wire.segment(5, &stream.bytes));
            assert_eq!((frame.queue(), frame.placed_len(), frame.digest_ok()), (queue, 1400, true), "{size} tags");
            host.give_back(frame);
            queues.push(queue);
        }
        assert_eq!(host.offloads.len(), 5);
        for queue in queues {
            let removed = host.del(queue);
            assert!(removed.errors.is_empty() && removed.released.len() == 1, "{removed}");
        }
        host.assert_no_queue();
        let stats = host.offloads.stats();
        assert_eq!((stats.sk_add, stats.sk_del, stats.packets), (5 * (round + 1), 5 * (round + 1), 5 * (round + 1)));
    }
    host.finish();
}

#[test]
fn a_table_has_as_many_tags_as_there_are_identifiers() {
    let mut config = Config::default();
    config.capabilities.edit::<NvmeotcpCap>(|caps| caps.set(NvmeotcpCap::LOG_MAX_NVMEOTCP_TAG_BUFFER_SIZE, 16));
    let mut host = Host::new(config);
    let wire = Wire::new(host.adapter.mac(), 1000);
    let (source, destination) = (SocketAddr::V4(wire.source), SocketAddr::V4(wire.destination));
    let queue = host.add(source, destination, 5, 65_536, true).expect("added");
    let mut stream = Stream::new(5, true);
    let mut from = 5;
    for (n, tag) in [65_535, 0, 1, 32_767, 32_768, 65_534].into_iter().enumerate() {
        let target = buffer(&host, &[700, 700]);
        host.bind(queue, tag, target);
        let content = bytes(1400, n as u64);
        stream.data(tag, 0, &content);
        let frame = host.receive(&wire.segment(from, &stream.bytes[from as usize - 5..]));
        from = 5 + stream.bytes.len() as u32;
        assert_eq!((frame.queue(), frame.placed_len(), frame.digest_ok()), (queue, 1400, true), "tag {tag}");
        host.give_back(frame);
        assert_eq!(host.unbind(queue, tag).to_vec(), content);
    }
    let removed = host.del(queue);
    assert!(removed.errors.is_empty() && removed.released.is_empty(), "{removed}");
    host.finish();
}

#[test]
fn what_cannot_be_added_says_why() {
    let mut host = Host::new(Config::default());
    let max = host.device(|device| connectx_ddp::ddp::contract::Offload::limits(device)).max_queue_size;
    let wire = Wire::new(host.adapter.mac(), 1000);
    let (source, destination) = (SocketAddr::V4(wire.source), SocketAddr::V4(wire.destination));
    let error = host.add(source, destination, 0, max + 1, true).expect_err("too large");
    assert!(matches!(error, AddError::Create(CreateError::Tags { .. })), "{error}");
    assert!(error.to_string().contains("queue size"), "{error}");
    let error = host.add("[::1]:1".parse().expect("an address"), destination, 0, 4, true).expect_err("two families");
    assert!(error.to_string().contains("is not a connection"), "{error}");
    host.assert_no_queue();
    assert_eq!(host.offloads.stats().sk_add_fail, 2);
    const { assert!(BUFFER > 1514) };
    host.finish();
}
