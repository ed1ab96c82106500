//! Reading in bursts is reading one by one.
//!
//! | property | test |
//! |---|---|
//! | a burst makes of any entries what one look at each makes, counts the same, and leaves the rings the same | `a_burst_is_one_by_one` |
//! | a burst takes no more than its limit, and none of the entries that were not written | `a_burst_ends_where_it_should` |
use super::*;
use crate::queue::testing::{self, Producer};
use crate::queue::{CompletionQueue, ReceiveQueue, RxPool};
use hw_regs::cqe::CqeOpcode;
use proptest::prelude::*;

const LOG: u32 = 5;
const SIZE: u32 = 2048;

/// A receive queue on an owner with two offload queues, tags 1 and 2 of each bound to 8192 bytes.
struct Receiver {
    world: World,
    cq: CompletionQueue<OffloadCqe>,
    rq: ReceiveQueue,
    pool: RxPool,
    device: Producer,
    queues: [u32; 2],
    held: Vec<RxBuffer>,
}

/// All that can be seen of what an entry came to.
#[derive(Debug, PartialEq)]
enum Seen {
    Packet { ranges: String, buffer: u32, queue: u32, digest: bool, checksum: bool, resync: Option<u32> },
    Rejected(u32, Rejection),
    Fault(CompletionFault),
}

impl Receiver {
    fn new() -> Receiver {
        let mut world = World::new();
        let queues = [1000, 1001].map(|port| world.add(port).expect("added"));
        for queue in queues {
            for tag in [1, 2] {
                world.offloads.setup(queue, tag, io(&world.heap, &[5000, 3192]), &world.fake).expect("free");
            }
        }
        let cq = testing::cq(LOG);
        let (mut rq, mut pool) = testing::rq(LOG, 1 << LOG, SIZE);
        rq.post(&mut pool);
        Receiver { world, cq, rq, pool, device: Producer(0), queues, held: Vec::new() }
    }

    fn see(&mut self, received: Received) -> Seen {
        match received {
            Received::Packet(Rebuilt { frame, resync }) => {
                let (ranges, queue) = (format!("{:?}", frame.ranges().collect::<Vec<_>>()), frame.queue());
                let (digest, checksum) = (frame.digest_ok(), frame.checksum_ok());
                let buffer = frame.into_buffer();
                let index = buffer.0;
                self.held.push(buffer);
                Seen::Packet { ranges, buffer: index, queue, digest, checksum, resync }
            }
            Received::Rejected(Rejected { buffer, why }) => {
                let index = buffer.0;
                self.held.push(buffer);
                Seen::Rejected(index, why)
            }
            Received::Fault(fault) => Seen::Fault(fault),
        }
    }

    fn one_by_one(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        while let Some(entry) = self.cq.poll() {
            let received = match self.rq.accept(&entry) {
                Err(fault) => Received::Fault(fault),
                Ok(arrival) => match self.world.offloads.receive(&entry, arrival) {
                    Ok(rebuilt) => Received::Packet(rebuilt),
                    Err(rejected) => Received::Rejected(rejected),
                },
            };
            seen.push(self.see(received));
        }
        seen
    }

    fn in_bursts(&mut self, limit: u32) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            let mut burst = Vec::new();
            let taken =
                self.world.offloads.receive_burst(&mut self.cq, &mut self.rq, limit, |received| burst.push(received));
            assert_eq!(taken as usize, burst.len());
            assert!(taken <= limit);
            if taken == 0 {
                return seen;
            }
            for received in burst {
                seen.push(self.see(received));
            }
        }
    }

    fn recycle(&mut self) {
        self.cq.update();
        self.held.drain(..).for_each(|buffer| self.pool.give_back(buffer));
        self.rq.post(&mut self.pool);
    }
}

/// What the device says of a packet: (queue, tag, run's offset, run's length, header length, length, flags, marks), and what
/// it gets wrong about the work request: (counter, last byte).
type Claim = ((usize, u32, u32, u32, u32, u32, u32, u32), (u32, u32));

fn claims() -> impl Strategy<Value = Vec<Claim>> {
    // Mostly the middle of a read that goes well, so that there are runs to be interrupted.
    // Mostly each says what the one before said but for the offset, now and then one that does not fit.
    let len = || prop_oneof![4 => Just(1400u32), 1 => 1u32..1400];
    let at = || prop_oneof![20 => 0u32..6792, 1 => 6790u32..6796];
    let usual = || (at(), len()).prop_map(|(at, len)| (0, 1, at, len, 66, 1466, 0x30, 0x0608));
    // One thing differs.
    let nearly = (usual(), 0usize..4, 0u32..4, prop_oneof![8000u32..9000, Just(u32::MAX)], 40u32..90, 0usize..8)
        .prop_map(|((queue, tag, at, run, hlen, len, flags, marks), other_queue, other_tag, far, short, which)| {
            match which {
                0 => (other_queue, tag, at, run, hlen, len, flags, marks),
                1 => (queue, other_tag, at, run, hlen, len, flags, marks),
                2 => (queue, tag, far, run, hlen, len, flags, marks),
                3 => (queue, tag, at, 0, hlen, len, flags, marks),
                4 => (queue, tag, at, run, short, len, flags, marks),
                // Longer than a receive buffer, or empty.
                5 => (queue, tag, at, run, hlen, if far == u32::MAX { 0 } else { SIZE + other_tag }, flags, marks),
                6 => (queue, tag, at, run, hlen, len, (far & 7) << 4, marks),
                _ => (queue, tag, at, run, short, len, flags, 0x0604),
            }
        });
    // A packet of the read whose digests the device does not vouch for.
    let unvouched =
        usual().prop_map(|(queue, tag, at, run, hlen, len, _, marks)| (queue, tag, at, run, hlen, len, 0x10, marks));
    let other = (
        0usize..4,
        0u32..4,
        prop_oneof![0u32..9000, Just(u32::MAX)],
        0u32..2100,
        40u32..90,
        prop_oneof![0u32..2200, Just(u32::MAX)],
        (0u32..8).prop_map(|flags| flags << 4),
        prop::sample::select(vec![0x0608, 0x0604, 0x0008, 0x0708]),
    );
    let wrong = prop_oneof![
        30 => Just((0, 0x20)),
        1 => (1u32..40).prop_map(|ahead| (ahead, 0x20)),
        // Solicited, inline, an error, a send.
        1 => prop::sample::select(vec![(0, 0x22), (0, 0x24), (0, 0xe0), (0, 0x00)]),
    ];
    // Says nothing at all.
    let nothing = Just((0, 0, 0, 0, 0, 0, 0, 0));
    let any = prop_oneof![24 => usual(), 6 => nearly, 4 => unvouched, 2 => other, 1 => nothing];
    prop::collection::vec((any, wrong), 1..=(1 << LOG))
}

fn entry(claim: &Claim, queues: &[u32; 2], counter: u32) -> OffloadCqe {
    let ((queue, tag, at, run, hlen, len, flags, marks), (ahead, op_own)) = *claim;
    let queue = *[queues[0], queues[1], 0, 17].get(queue).expect("four");
    let mut entry = OffloadCqe::zeroed()
        .with(OffloadCqe::CCID, tag)
        .with(OffloadCqe::CCLEN, run)
        .with(OffloadCqe::HLEN, hlen)
        .with(OffloadCqe::CCOFF_OR_RESYNC_TCP_SN, at)
        .with(OffloadCqe::CQE64_FLOW_TAG, queue)
        .with(OffloadCqe::CQE64_WQE_COUNTER, counter.wrapping_add(ahead) & 0xffff);
    entry.0[65] = flags as u8;
    entry.0[92..94].copy_from_slice(&(marks as u16).to_be_bytes());
    entry.0[108..112].copy_from_slice(&len.to_be_bytes());
    entry.0[127] = op_own as u8;
    entry
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_burst_is_one_by_one(
        rounds in prop::collection::vec((claims(), 1u32..40, prop::bool::weighted(0.2)), 1..8),
    ) {
        let (mut a, mut b) = (Receiver::new(), Receiver::new());
        prop_assert_eq!(a.queues, b.queues);
        for (claims, limit, resync) in rounds {
            for receiver in [&mut a, &mut b] {
                if resync {
                    // From here on the next digest mark is not believed.
                    receiver.world.offloads.resync(receiver.queues[0], 7);
                }
                let counter = receiver.rq.next_counter();
                for (n, claim) in claims.iter().take(receiver.rq.posted() as usize).enumerate() {
                    let entry = entry(claim, &receiver.queues, counter + n as u32);
                    receiver.device.write(&receiver.cq, &entry);
                }
            }
            let (one, many) = (a.one_by_one(), b.in_bursts(limit));
            prop_assert_eq!(one, many);
            prop_assert_eq!(a.world.offloads.stats(), b.world.offloads.stats());
            prop_assert_eq!(a.rq.rejected(), b.rq.rejected());
            prop_assert_eq!((a.rq.posted(), a.rq.has_failed()), (b.rq.posted(), b.rq.has_failed()));
            a.recycle();
            b.recycle();
            prop_assert_eq!(a.rq.posted(), b.rq.posted());
        }
    }
}

#[test]
fn a_burst_ends_where_it_should() {
    let mut receiver = Receiver::new();
    let usual = ((0, 1, 0, 1400, 66, 1466, 0x30, 0x0608), (0, 0x20));
    // Over the ring's end, again and again.
    let mut written = 0;
    for (write, limit, taken) in [(20, 8, 8), (0, 8, 8), (0, 8, 4), (0, 8, 0), (30, 64, 30), (31, 1, 1), (0, 64, 30)] {
        for n in written..written + write {
            let entry = entry(&usual, &receiver.queues, n);
            receiver.device.write(&receiver.cq, &entry);
        }
        written += write;
        let mut got = Vec::new();
        let (cq, rq) = (&mut receiver.cq, &mut receiver.rq);
        assert_eq!(receiver.world.offloads.receive_burst(cq, rq, limit, |received| got.push(received)), taken);
        assert_eq!(got.len(), taken as usize);
        for received in got {
            assert!(matches!(receiver.see(received), Seen::Packet { digest: true, checksum: true, .. }));
        }
        receiver.recycle();
    }
    let stats = receiver.world.offloads.stats();
    assert_eq!((stats.packets, stats.bytes, stats.digest_ok, written), (81, 81 * 1400, 81, 81));
    assert_eq!(CqeOpcode::RESP_SEND.0 << 4, 0x20);
}
