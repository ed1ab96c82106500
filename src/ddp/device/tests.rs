//! | property | test |
//! |---|---|
//! | a connection gets objects, a rule with its number as flow tag, and loses all of it again | `a_connection_comes_and_goes` |
//! | a failure at any step leaves nothing and is counted | `a_failure_leaves_nothing` |
//! | packets reach the queue that their flow tag names; flags without a queue are dropped and counted | `flow_tags_name_queues` |
//! | work of many queues: a doorbell for each that has some, events in the order of completion | `queues_share_the_loop` |
//! | a rule that firmware will not give up keeps the number from reuse | `a_number_in_use_is_not_used_again` |
//! | unknown queues are errors, and buffers come back | `unknown_queues_are_errors` |
mod burst;

use super::super::fake::Fake;
use super::super::fixture::io;
use super::*;
use crate::adapter::ObjectLog;
use crate::dma::DmaHeap;
use crate::frame::RxBuffer;
use crate::queue::Logged;
use crate::steering::{Defaults, SteeringCaps, SteeringParams};
use firmware_iface::Opcode;
use hw_regs::layout::{Access, Layout};

struct World {
    fake: Fake,
    port: Fake,
    log: ObjectLog,
    base: Base,
    steering: Steering,
    offloads: Offloads,
    heap: DmaHeap,
    /// Objects of the log that are not the offload's.
    others: usize,
}

impl World {
    fn new() -> World {
        let fake = Fake::new();
        let (mut port, mut log, heap) = (fake.clone(), ObjectLog::default(), fake.heap());
        let base = Base { heap: heap.clone(), pd: 3, uar: 16, transport_domain: 9, data_mkey: 0x600 };
        let caps = SteeringCaps { log_max_table_size: 16, log_max_rules: 16, max_level: 64, ip_version: true };
        let deadline = Deadline::after(&fake, Duration::from_secs(1));
        let steering = Steering::create(
            &mut Logged { port: &mut port, log: &mut log },
            &caps,
            &SteeringParams { connections_ipv4: 16, connections_ipv6: 0 },
            &Defaults { other: 1, tcp_ipv4: None, tcp_ipv6: None },
            deadline,
        );
        let capacity = super::super::fixture::capacity();
        let offloads = Offloads::new(capacity, Settings { ids: 10..=20, spare_keys: 0, ..Settings::new(5) });
        let others = log.len();
        World { fake, port, log, base, steering: steering.expect("created"), offloads, heap, others }
    }

    fn device<R>(&mut self, each: impl FnOnce(&mut Device<'_, Logged<'_>, Fake>) -> R) -> R {
        let mut objects = Logged { port: &mut self.port, log: &mut self.log };
        each(&mut self.offloads.with(&mut objects, &mut self.steering, &self.fake, &self.base))
    }

    fn add(&mut self, port: u16) -> Result<u32, AddError> {
        let source = ([10, 0, 0, 2], 4420).into();
        let tuple = FiveTuple { source, destination: ([10, 0, 0, 1], port).into() };
        let config = Config { cpda: 0, header_digest: true, data_digest: true, queue_size: 8, rqtn: 0x77 };
        self.device(|device| device.sk_add(&Socket { tuple, next_pdu: 99 }, &config))
    }

    fn del(&mut self, queue: u32) -> Removed {
        self.device(|device| device.sk_del(queue)).expect("a queue")
    }

    fn assert_no_queue(&self) {
        assert!(self.offloads.is_empty());
        assert_eq!((self.fake.state.borrow().objects(), self.log.len()), (0, self.others));
        assert_eq!(self.fake.state.borrow().rules.len(), 1, "the default entry");
        assert_eq!(self.heap.usage().1, 0);
    }
}

fn placed(queue: u32, tag: u16) -> OffloadCqe {
    OffloadCqe::zeroed()
        .with(OffloadCqe::CQE64_FLOW_TAG, queue)
        .with(OffloadCqe::CCID, u32::from(tag))
        .with(OffloadCqe::CCLEN, 100)
        .with(OffloadCqe::HLEN, 78)
        .with(OffloadCqe::CQE64_B1_NVMEOTCP_ZC, 1)
        .with(OffloadCqe::CQE64_BYTE_CNT_BYTES, 200)
}

fn buffer(rebuilt: Result<Rebuilt, Rejected>) -> u32 {
    rebuilt.map_or_else(|rejected| rejected.buffer, |rebuilt| rebuilt.frame.into_buffer()).0
}

#[test]
fn a_connection_comes_and_goes() {
    let mut world = World::new();
    assert_eq!(world.offloads.limits().max_queues, 11);
    let queue = world.add(1000).expect("added");
    assert_eq!(queue, 10);
    let tirn = world.offloads.queue(queue).expect("published").tirn();
    assert_eq!(world.fake.state.borrow().rules.values().filter(|rule| **rule == (tirn, queue)).count(), 1);
    assert!(matches!(world.add(1000), Err(AddError::Rule(SteeringError::Duplicate(_)))));
    world.offloads.setup(queue, 3, io(&world.heap, &[8192]), &world.fake).expect("free");
    let stopped = world.device(|device| device.stop(queue));
    assert!(stopped.expect("removed") && world.steering.rules() == 0);
    let mut removed = world.del(queue);
    assert!(removed.errors.is_empty() && removed.quarantined.is_none());
    assert_eq!(removed.released.pop().expect("one").tag(), 3);
    world.assert_no_queue();
    let stats = world.offloads.stats();
    assert_eq!((stats.sk_add, stats.sk_add_fail, stats.sk_del, stats.setup), (1, 1, 1, 1));
    assert_eq!(world.add(1000).expect("added"), 12, "numbers are used again as late as possible");
    drop(world.del(12));
    world.assert_no_queue();
}

/// A packet of 200 bytes in receive buffer `index`.
fn arrival(index: u32) -> Arrival {
    Arrival::check(RxBuffer(index), 200, 2048).expect("it fits")
}

#[test]
fn a_failure_leaves_nothing() {
    for opcode in [Opcode::CREATE_TIR, Opcode::CREATE_MKEY, Opcode::SET_FLOW_TABLE_ENTRY] {
        let mut world = World::new();
        world.fake.state.borrow_mut().refuse = Some((opcode, 0));
        let error = world.add(1000).expect_err("refused");
        assert!(error.to_string().contains("NO_RES_ERR"), "{error}");
        world.assert_no_queue();
        assert_eq!(world.offloads.stats().sk_add_fail, 1);
        // Nothing is used up either.
        world.fake.state.borrow_mut().refuse = None;
        for n in 0..11 {
            world.add(1000 + n).expect("added");
        }
        assert!(matches!(world.add(2000), Err(AddError::NoId(NoQueueId(11)))));
    }
}

#[test]
fn flow_tags_name_queues() {
    let mut world = World::new();
    let (a, b) = (world.add(1000).expect("added"), world.add(1001).expect("added"));
    world.offloads.setup(b, 1, io(&world.heap, &[8192]), &world.fake).expect("free");
    let rebuilt = world.offloads.receive(&placed(b, 1), arrival(4)).expect("true");
    assert_eq!((rebuilt.frame.queue(), rebuilt.frame.placed_len()), (b, 100));
    let _ = rebuilt.frame.into_buffer();
    for (queue, why) in [(a, Rejection::TagNotBound), (0, Rejection::NoQueue), (0xff_ffff, Rejection::NoQueue)] {
        let rejected = world.offloads.receive(&placed(queue, 1), arrival(4)).expect_err("false");
        assert_eq!((rejected.why, rejected.buffer), (why, RxBuffer(4)));
    }
    // An ordinary packet needs no queue.
    let plain = placed(0, 1).with(OffloadCqe::CQE64_B1_NVMEOTCP_ZC, 0);
    let rebuilt = world.offloads.receive(&plain, arrival(4)).expect("ordinary");
    assert_eq!((rebuilt.frame.queue(), rebuilt.frame.placed_len(), rebuilt.frame.len()), (0, 0, 200));
    let _ = rebuilt.frame.into_buffer();
    let stats = world.offloads.stats();
    assert_eq!((stats.rejected(Rejection::NoQueue), stats.rejections(), stats.packets), (2, 3, 1));
    assert_eq!(stats.seed()[5], ("rx_nvmeotcp_drop", 3));
    let removed = world.del(b);
    assert_eq!(removed.stats.packets, 1);
    assert_eq!(buffer(world.offloads.receive(&placed(b, 1), arrival(9))), 9, "a late packet is dropped");
    assert_eq!(world.offloads.stats().packets, 1, "counted on after the removal");
    drop((removed, world.del(a)));
    world.assert_no_queue();
}

#[test]
fn queues_share_the_loop() {
    let mut world = World::new();
    let queues: Vec<u32> = (0..3).map(|n| world.add(1000 + n).expect("added")).collect();
    let doorbells = world.offloads.doorbells();
    for queue in [queues[0], queues[2]] {
        for tag in 0..4 {
            world.offloads.setup(queue, tag, io(&world.heap, &[4096]), &world.fake).expect("free");
        }
    }
    assert_eq!((world.offloads.flush(&world.fake), world.offloads.flush(&world.fake)), (2, 0));
    assert_eq!(world.offloads.poll(), 0, "bindings ask for no completion");
    for (queue, tag) in [(queues[2], 1), (queues[0], 2), (queues[2], 0)] {
        assert!(matches!(world.offloads.teardown(queue, tag), Ok(Teardown::Pending)));
    }
    assert!(world.offloads.next_event().is_none());
    assert_eq!(world.offloads.flush(&world.fake), 2);
    assert_eq!(world.offloads.poll(), 3);
    let mut events = Vec::new();
    while let Some((queue, event)) = world.offloads.next_event() {
        let Event::TeardownDone(released) = event else { panic!("{event:?}") };
        events.push((queue, released.tag()));
    }
    assert_eq!(events, [(queues[2], 1), (queues[2], 0), (queues[0], 2)]);
    assert_eq!(world.offloads.doorbells() - doorbells, 4);
    assert!(world.offloads.resync(queues[1], 5) && !world.offloads.resync(19, 5));
    assert_eq!(world.offloads.flush(&world.fake), 1);
    assert_eq!((world.offloads.poll(), world.offloads.poll()), (1, 0));
    let cqn = world.offloads.queue(queues[1]).expect("a queue").icosq().cqn();
    assert!(world.offloads.on_cq_error(cqn, 1) && !world.offloads.on_cq_error(0x123, 1));
    assert!(world.offloads.queue(queues[1]).expect("a queue").has_failed());
    for queue in queues {
        drop(world.del(queue));
    }
    world.assert_no_queue();
}

#[test]
fn a_number_in_use_is_not_used_again() {
    let mut world = World::new();
    let queue = world.add(1000).expect("added");
    world.fake.state.borrow_mut().refuse = Some((Opcode::DELETE_FLOW_TABLE_ENTRY, 0));
    let removed = world.del(queue);
    assert_eq!(removed.errors.len(), 3, "rule, TIR, table: {removed}");
    world.fake.state.borrow_mut().refuse = None;
    let rest: Vec<u32> = std::iter::from_fn(|| world.add(2000 + world.offloads.len() as u16).ok()).collect();
    assert_eq!(rest, (11..=20).collect::<Vec<_>>());
}

#[test]
fn unknown_queues_are_errors() {
    let mut world = World::new();
    match world.offloads.setup(10, 0, io(&world.heap, &[77]), &world.fake) {
        Err(SetupError::NoSuchQueue { queue: 10, buffer }) => assert_eq!(buffer.len(), 77),
        other => panic!("{other:?}"),
    }
    assert!(matches!(world.offloads.teardown(10, 0), Err(TeardownError::NoSuchQueue(10))));
    assert!(world.device(|device| device.sk_del(10)).is_none());
    assert!(matches!(world.device(|device| device.stop(10)), Ok(false)));
    let queue = world.add(1000).expect("added");
    assert!(matches!(world.offloads.teardown(queue, 0), Err(TeardownError::Tag(_))));
    world.offloads.hold(queue, 0, io(&world.heap, &[77])).expect("free");
    assert!(matches!(
        world.offloads.setup(queue, 0, io(&world.heap, &[7]), &world.fake),
        Err(SetupError::NotPinned(_))
    ));
    assert!(matches!(world.offloads.teardown(queue, 0), Ok(Teardown::Done(_))));
    drop(world.del(queue));
    world.assert_no_queue();
}
