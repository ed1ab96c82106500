//! An offload queue against a small device ([`fake`](super::fake)).
//!
//! | property | test |
//! |---|---|
//! | a created queue is what its plan says, in the device's eyes | `a_created_queue_is_as_planned` |
//! | any tag count is filled in whole, also through the smallest ring | `every_tag_is_in_the_table` |
//! | a failure at any command leaves nothing behind | `a_failure_at_any_step_leaves_nothing` |
//! | a device that does not answer in time, or refuses a work request, leaves nothing behind | `a_device_that_does_not_answer_leaves_nothing` |
//! | any scatter list of 1 to 128 pieces places every byte where it belongs; adjacent pieces share an entry | `any_scatter_list_is_placed_exactly` |
//! | the pads of a list are zero, whatever list was written before | `pads_are_zero` |
//! | a list too long for the device is not offloaded, and its buffer is held | `what_cannot_be_offloaded_is_held` |
//! | a buffer comes back only after the device has forgotten it | `a_buffer_comes_back_when_it_is_forgotten` |
//! | a full ring that stands still refuses bindings after a while, delays unbindings and loses neither | `a_full_ring_loses_nothing` |
//! | bindings alone never block a ring for good, however small it is | `bindings_alone_never_block_the_ring` |
//! | any order of work on any ring size keeps the books and gives every buffer back | `the_books_balance_under_any_order` |
//! | a batch shares one doorbell; bindings ask for no completion | `a_batch_shares_one_doorbell` |
//! | resync rewrites the static parameters and distrusts the next digest mark | `a_resync_distrusts_one_digest` |
//! | a failed ring is told once; removal gives the buffers back | `a_failed_ring_is_told_and_removed` |
//! | removal gives every buffer back and leaves nothing, whatever the tags' states | `removal_gives_everything_back` |
//! | keys that stay keep their buffers until a reset | `refused_keys_keep_their_buffers` |
//! | false claims are counted by reason and change nothing else | `false_claims_are_counted` |
//! | keys of a queue that is gone serve one of about its size, up to a limit | `keys_serve_the_next_queue` |
//! | keys that a table still names, or that may still point somewhere, serve nobody | `keys_in_doubt_serve_nobody` |
//! | queues that are created together share the rounds of commands, and no fate | `queues_are_created_together` |
use super::contract::{Event, Setup, Teardown};
use super::create::{CreateError, Created, Plan, Removed, create_each};
use super::fake::Fake;
use super::fixture::{capacity, io};
use super::keys::KeyPool;
use super::queue::OffloadQueue;
use super::rebuild::Rejection;
use super::tags::{Quiesced, State};
use super::why::Why;
use super::wqe::ConnectionParams;
use crate::adapter::ObjectLog;
use crate::dma::{DmaHeap, IoBuf};
use crate::frame::RxBuffer;
use crate::platform::{Deadline, Platform};
use crate::queue::{Base, Logged};
use firmware_iface::Opcode;
use hw_regs::cqe::OffloadCqe;
use hw_regs::layout::{Access, Layout};
use hw_regs::wqe::{Klm, StaticParams};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::time::Duration;

struct World {
    fake: Fake,
    log: ObjectLog,
    heap: DmaHeap,
    spare: KeyPool,
}

const PARAMS: ConnectionParams =
    ConnectionParams { zero_copy: true, check_data_digest: true, data_digest: true, header_digest: false, pda: 0 };

fn plan(tags: u32) -> Plan {
    Plan { tags, params: PARAMS, next_pdu: 0x1122_3344, rqtn: 0x77, eqn: 5, log_ring: None, threshold: 0 }
}

impl World {
    fn new() -> World {
        let fake = Fake::new();
        let heap = fake.heap();
        World { fake, log: ObjectLog::default(), heap, spare: KeyPool::new(0) }
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(&self.fake, Duration::from_secs(3))
    }

    fn create(&mut self, plan: &Plan) -> Result<Created, CreateError> {
        let deadline = self.deadline();
        let mut port = self.fake.clone();
        let mut objects = Logged { port: &mut port, log: &mut self.log };
        let base = Base { heap: self.heap.clone(), pd: 3, uar: 16, transport_domain: 9, data_mkey: 0x600 };
        let plans = std::slice::from_ref(plan);
        let created = create_each(&mut objects, &self.fake, &base, &capacity(), &mut self.spare, plans, deadline).pop();
        created.expect("one outcome per plan")
    }

    fn remove(&mut self, created: Created) -> Removed {
        let deadline = self.deadline();
        let mut port = self.fake.clone();
        let mut objects = Logged { port: &mut port, log: &mut self.log };
        created.remove(&mut objects, &self.fake, &mut self.spare, deadline)
    }

    /// Nothing is left: neither in the device, nor in the log, nor of memory.
    fn assert_empty(&self) {
        assert_eq!(self.fake.state.borrow().objects(), 0);
        assert!(self.log.is_empty());
        assert_eq!(self.heap.usage().1, 0);
    }

    fn settle(&self, queue: &mut OffloadQueue) {
        queue.flush(&self.fake);
        self.fake.pause();
        queue.poll();
    }
}

fn teardown_done(event: Option<Event>) -> (u16, IoBuf) {
    match event {
        Some(Event::TeardownDone(released)) => (released.tag(), released.into_buffer()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_created_queue_is_as_planned() {
    let mut world = World::new();
    let created = world.create(&plan(6)).expect("created");
    {
        let state = world.fake.state.borrow();
        let tir = &state.tirs[&created.queue.tirn()];
        assert!(tir.zero_copy && tir.crc);
        assert_eq!(tir.rqtn, 0x77);
        let [params] = tir.static_params[..] else { panic!("{} static parameters", tir.static_params.len()) };
        let params = StaticParams(params);
        assert_eq!((params.get(StaticParams::NVME_RESYNC_TCP_SN), params.get(StaticParams::DDGST_OFFLOAD_EN)), (0, 1));
        assert_eq!(tir.progress.len(), 1);
        assert_eq!(tir.progress[0][4..8], 0x1122_3344u32.to_be_bytes());
        assert!(state.keys.values().all(|key| key.free && key.room == 128));
        assert_eq!(state.commands.iter().filter(|c| **c == Opcode::CREATE_MKEY).count(), 6);
    }
    // Parameters and table share a doorbell.
    assert_eq!(world.fake.state.borrow().doorbells, 1);
    let removed = world.remove(created);
    assert!(removed.errors.is_empty() && removed.released.is_empty() && removed.quarantined.is_none());
    drop(removed);
    world.assert_empty();
}

#[test]
fn every_tag_is_in_the_table() {
    for (tags, log_ring) in
        [(1, None), (4, None), (51, Some(5)), (53, Some(5)), (128, Some(6)), (1024, Some(5)), (300, None)]
    {
        let mut world = World::new();
        let created = world.create(&Plan { log_ring, ..plan(tags) }).expect("created");
        {
            let state = world.fake.state.borrow();
            let table = &state.tirs[&created.queue.tirn()].tags;
            assert_eq!(table.len() as u32, tags);
            for (n, (tag, key)) in table.iter().enumerate() {
                assert_eq!((n, *key), (usize::from(*tag), created.queue.tags.key(n as u16).expect("a tag")));
                assert!(state.keys.contains_key(&(key >> 8)));
            }
        }
        drop(world.remove(created));
        world.assert_empty();
    }
    let mut world = World::new();
    for tags in [0, 1025] {
        assert!(matches!(world.create(&plan(tags)), Err(CreateError::Tags { max: 1024, .. })));
    }
    let params = ConnectionParams { pda: 32, ..PARAMS };
    assert!(matches!(world.create(&Plan { params, ..plan(1) }), Err(CreateError::Alignment(32))));
    world.assert_empty();
}

#[test]
fn a_failure_at_any_step_leaves_nothing() {
    let steps = [
        (Opcode::CREATE_GENERAL_OBJECT, 0),
        (Opcode::CREATE_CQ, 0),
        (Opcode::CREATE_SQ, 0),
        (Opcode::MODIFY_SQ, 0),
        (Opcode::CREATE_TIR, 0),
        (Opcode::CREATE_MKEY, 0),
        (Opcode::CREATE_MKEY, 40),
        (Opcode::CREATE_MKEY, 63),
    ];
    for (opcode, after) in steps {
        let mut world = World::new();
        world.fake.state.borrow_mut().refuse = Some((opcode, after));
        let error = world.create(&plan(64)).expect_err("refused");
        assert!(error.to_string().contains("NO_RES_ERR"), "{error}");
        world.assert_empty();
    }
}

#[test]
fn a_device_that_does_not_answer_leaves_nothing() {
    let mut world = World::new();
    world.fake.state.borrow_mut().stalled = true;
    let error = world.create(&plan(64)).expect_err("no answer");
    assert!(matches!(error, CreateError::TimedOut { awaited: 3, .. }), "{error}");
    world.assert_empty();
    for failing in 0..4 {
        let mut world = World::new();
        world.fake.state.borrow_mut().fail_wqe = Some((failing, 4));
        let error = world.create(&plan(64)).expect_err("refused");
        assert!(matches!(error, CreateError::Refused(_)), "{error}");
        world.assert_empty();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_scatter_list_is_placed_exactly(
        pieces in prop::collection::vec((1usize..5000, any::<bool>()), 1..=128),
        runs in prop::collection::vec((any::<u32>(), 1usize..3000), 1..8),
    ) {
        let mut world = World::new();
        let mut created = world.create(&plan(4)).expect("created");
        let queue = &mut created.queue;
        // A piece is adjacent to the one before or lies elsewhere.
        let mut segments = Vec::new();
        let mut adjacent_runs = 0;
        let mut rest: Option<crate::dma::DmaBuf> = None;
        for (len, adjacent) in &pieces {
            let from = match rest.take() {
                Some(rest) if *adjacent && rest.len() > *len => rest,
                _ => {
                    adjacent_runs += 1;
                    // Offset by an odd number of bytes, so that nothing is aligned.
                    world.heap.allocate(700_000, 64).expect("memory").split_at(len % 61 + 1).1
                }
            };
            let (piece, more) = from.split_at(*len);
            segments.push(piece);
            rest = Some(more);
        }
        drop(rest);
        let buffer = IoBuf::new(segments);
        let size = buffer.len();
        prop_assert_eq!(queue.setup(2, buffer, &world.fake).expect("free"), Setup::Offloaded);
        world.settle(queue);
        let mut expected = vec![0; size];
        for (n, (at, len)) in runs.iter().enumerate() {
            let at = *at as usize % size;
            let bytes = vec![n as u8 + 1; (*len).min(size - at)];
            expected[at..at + bytes.len()].copy_from_slice(&bytes);
            prop_assert!(world.fake.place(queue.tirn(), 2, at, &bytes));
        }
        prop_assert!(!world.fake.place(queue.tirn(), 2, size, &[0]), "beyond the buffer");
        prop_assert!(!world.fake.place(queue.tirn(), 1, 0, &[0]), "another tag");
        {
            let state = world.fake.state.borrow();
            let key = &state.keys[&(queue.tags.key(2).expect("a tag") >> 8)];
            let used = key.list.iter().filter(|e| e.get(Klm::BCOUNT) != 0).count();
            prop_assert!(used <= adjacent_runs, "{} entries for {} runs", used, adjacent_runs);
        }
        let Teardown::Pending = queue.teardown(2).expect("bound") else { panic!("at once") };
        world.settle(queue);
        prop_assert!(!world.fake.place(queue.tirn(), 2, 0, &[9]), "forgotten");
        let (tag, buffer) = teardown_done(queue.next_event());
        prop_assert_eq!(tag, 2);
        prop_assert_eq!(buffer.to_vec(), expected);
        drop(buffer);
        drop(world.remove(created));
        world.assert_empty();
    }
}

#[test]
fn pads_are_zero() {
    let mut world = World::new();
    let mut created = world.create(&plan(4)).expect("created");
    let queue = &mut created.queue;
    for (tag, pieces) in [(0, 127), (1, 53), (2, 5), (3, 1)] {
        queue.setup(tag, io(&world.heap, &vec![64; pieces]), &world.fake).expect("free");
    }
    world.settle(queue);
    for (tag, pieces) in [(0, 127), (1, 53), (2, 5), (3, 1)] {
        let state = world.fake.state.borrow();
        let list = &state.keys[&(queue.tags.key(tag as u16).expect("a tag") >> 8)].list;
        let used = list.iter().take_while(|entry| **entry != Klm::zeroed()).count();
        assert_eq!(used, pieces);
        assert!(list[used..].iter().all(|entry| *entry == Klm::zeroed()), "{pieces} pieces");
    }
    drop(world.remove(created));
    world.assert_empty();
}

#[test]
fn what_cannot_be_offloaded_is_held() {
    let mut world = World::new();
    let mut created = world.create(&Plan { threshold: 4096, ..plan(4) }).expect("created");
    let queue = &mut created.queue;
    let buffer = io(&world.heap, &[40; 128]);
    assert_eq!(queue.setup(0, buffer, &world.fake).expect("free"), Setup::Offloaded, "128 pieces");
    let buffer = io(&world.heap, &[40; 129]);
    assert_eq!(queue.setup(1, buffer, &world.fake).expect("free"), Setup::NotOffloaded(Why::ScatterListTooLong));
    let buffer = io(&world.heap, &[4095]);
    assert_eq!(queue.setup(2, buffer, &world.fake).expect("free"), Setup::NotOffloaded(Why::BelowThreshold));
    let stats = queue.stats();
    assert_eq!((stats.setup, stats.setup_fail()), (1, 1));
    assert_eq!(queue.tags().state(1), Ok(State::Pinned));
    let Teardown::Done(released) = queue.teardown(1).expect("pinned") else { panic!("the device never knew of it") };
    assert_eq!(released.into_buffer().len(), 129 * 40);
    let refused = queue.setup(2, io(&world.heap, &[8192]), &world.fake).expect_err("in use");
    assert_eq!(refused.buffer.len(), 8192);
    drop(refused);
    assert_eq!(world.remove(created).released.len(), 2);
    world.assert_empty();
}

#[test]
fn a_buffer_comes_back_when_it_is_forgotten() {
    let mut world = World::new();
    let mut created = world.create(&plan(4)).expect("created");
    let queue = &mut created.queue;
    queue.setup(3, io(&world.heap, &[8192]), &world.fake).expect("free");
    world.settle(queue);
    assert!(matches!(queue.teardown(3), Ok(Teardown::Pending)));
    assert!(queue.teardown(3).is_err(), "once");
    assert!(queue.next_event().is_none(), "not posted to the device");
    world.fake.state.borrow_mut().stalled = true;
    world.settle(queue);
    assert!(queue.next_event().is_none(), "not executed");
    assert_eq!(queue.tags().state(3), Ok(State::Draining));
    world.fake.state.borrow_mut().stalled = false;
    world.settle(queue);
    // Until the event is taken, packets that were placed before still mean this buffer.
    let entry = placed(3, 0, 100);
    let rebuilt = queue.receive(&entry, RxBuffer(1), 2048).expect("still known");
    let generation = rebuilt.frame.placed().expect("placed").2.generation;
    let _ = rebuilt.frame.into_buffer();
    let (tag, buffer) = teardown_done(queue.next_event());
    assert_eq!((tag, buffer.len()), (3, 8192));
    let rejected = queue.receive(&entry, RxBuffer(1), 2048).expect_err("unknown now");
    assert_eq!(rejected.why, Rejection::TagNotBound);
    queue.setup(3, buffer, &world.fake).expect("free again");
    let rebuilt = queue.receive(&entry, RxBuffer(1), 2048).expect("the next use");
    assert_eq!(rebuilt.frame.placed().expect("placed").2.generation, generation + 1);
    let _ = rebuilt.frame.into_buffer();
    drop(world.remove(created));
    world.assert_empty();
}

/// An entry that claims `len` bytes placed at `offset` of `tag`, behind 78 bytes of headers, with a digest mark.
fn placed(tag: u16, offset: u32, len: u32) -> OffloadCqe {
    OffloadCqe::zeroed()
        .with(OffloadCqe::CCID, u32::from(tag))
        .with(OffloadCqe::CCOFF_OR_RESYNC_TCP_SN, offset)
        .with(OffloadCqe::CCLEN, len)
        .with(OffloadCqe::HLEN, 78)
        .with(OffloadCqe::CQE64_B1_NVMEOTCP_ZC, 1)
        .with(OffloadCqe::CQE64_B1_NVMEOTCP_DDGST, 1)
        .with(OffloadCqe::CQE64_BYTE_CNT_BYTES, 78 + len + 4)
}

#[test]
fn a_full_ring_loses_nothing() {
    let mut world = World::new();
    let mut created = world.create(&Plan { log_ring: Some(5), ..plan(32) }).expect("created");
    let queue = &mut created.queue;
    world.fake.state.borrow_mut().stalled = true;
    let began = world.fake.now();
    let outcomes: Vec<_> =
        (0..32).map(|tag| queue.setup(tag, io(&world.heap, &[4096]), &world.fake).expect("free")).collect();
    let bound = outcomes.iter().filter(|o| **o == Setup::Offloaded).count();
    assert!(
        bound > 0 && outcomes[bound..].iter().all(|o| *o == Setup::NotOffloaded(Why::ControlRingFull)),
        "{outcomes:?}"
    );
    assert_eq!(queue.stats().not_offloaded(Why::ControlRingFull), 32 - bound as u64);
    // One look of the fake's clock is longer than a binding's patience.
    assert_eq!(world.fake.now() - began, (32 - bound as u32) * Duration::from_micros(50), "each waits once");
    // All are asked back while nothing moves.
    for tag in 0..32 {
        let at_once = matches!(queue.teardown(tag).expect("held"), Teardown::Done(_));
        assert_eq!(at_once, usize::from(tag) >= bound);
    }
    queue.resync(77);
    world.fake.state.borrow_mut().stalled = false;
    let mut back = Vec::new();
    for _ in 0..40 {
        world.settle(queue);
        back.extend(std::iter::from_fn(|| queue.next_event()).map(|e| teardown_done(Some(e)).0));
    }
    assert_eq!(back, (0..bound as u16).collect::<Vec<_>>(), "in order, each once");
    assert!(queue.is_drained() && queue.icosq().is_idle());
    let params = StaticParams(*world.fake.state.borrow().tirs[&queue.tirn()].static_params.last().expect("some"));
    assert_eq!(params.get(StaticParams::NVME_RESYNC_TCP_SN), 77, "delayed, not lost");
    drop(world.remove(created));
    world.assert_empty();
}

#[test]
fn bindings_alone_never_block_the_ring() {
    let mut world = World::new();
    let mut created = world.create(&Plan { log_ring: Some(5), ..plan(64) }).expect("created");
    let queue = &mut created.queue;
    for tag in 0..64 {
        let buffer = io(&world.heap, &vec![64; usize::from(tag) % 7 + 1]);
        assert_eq!(queue.setup(tag, buffer, &world.fake).expect("free"), Setup::Offloaded, "tag {tag}");
        world.settle(queue);
    }
    drop(world.remove(created));
    world.assert_empty();
}

#[derive(Clone, Debug)]
enum Step {
    Setup(u16, usize),
    Teardown(u16),
    Flush,
    Run,
    Poll,
    Events,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u16..8, prop_oneof![1usize..4, 50usize..=128]).prop_map(|(t, n)| Step::Setup(t, n)),
        4 => (0u16..8).prop_map(Step::Teardown),
        2 => Just(Step::Flush),
        2 => Just(Step::Run),
        2 => Just(Step::Poll),
        2 => Just(Step::Events),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_books_balance_under_any_order(log_ring in 5u32..9, steps in steps()) {
        let mut world = World::new();
        let mut created = world.create(&Plan { log_ring: Some(log_ring), ..plan(8) }).expect("created");
        let queue = &mut created.queue;
        world.fake.state.borrow_mut().stalled = true;
        // The model: which tags hold a buffer, which of these were asked back.
        let mut held = [false; 8];
        let mut asked: VecDeque<u16> = VecDeque::new();
        for step in steps {
            match step {
                Step::Setup(tag, pieces) => {
                    let result = queue.setup(tag, io(&world.heap, &vec![33; pieces]), &world.fake);
                    prop_assert_eq!(result.is_ok(), !held[usize::from(tag)]);
                    held[usize::from(tag)] = true;
                }
                Step::Teardown(tag) => match queue.teardown(tag) {
                    Ok(Teardown::Pending) => {
                        prop_assert!(held[usize::from(tag)] && !asked.contains(&tag));
                        asked.push_back(tag);
                    }
                    Ok(Teardown::Done(released)) => {
                        prop_assert!(held[usize::from(tag)]);
                        prop_assert_eq!(released.tag(), tag);
                        held[usize::from(tag)] = false;
                    }
                    Err(_) => prop_assert!(!held[usize::from(tag)] || asked.contains(&tag)),
                },
                Step::Flush => {
                    queue.flush(&world.fake);
                }
                Step::Run => {
                    world.fake.state.borrow_mut().stalled = false;
                    world.fake.pause();
                    world.fake.state.borrow_mut().stalled = true;
                }
                Step::Poll => {
                    queue.poll();
                }
                Step::Events => while let Some(event) = queue.next_event() {
                    let (tag, _) = teardown_done(Some(event));
                    prop_assert_eq!(asked.pop_front(), Some(tag), "in the order asked");
                    prop_assert!(!world.fake.place(queue.tirn(), tag, 0, &[1]), "the device still knows it");
                    held[usize::from(tag)] = false;
                },
            }
            prop_assert_eq!(queue.tags().held() as usize, held.iter().filter(|h| **h).count());
        }
        world.fake.state.borrow_mut().stalled = false;
        let removed = world.remove(created);
        prop_assert_eq!(removed.released.len(), held.iter().filter(|h| **h).count());
        prop_assert!(removed.errors.is_empty() && removed.quarantined.is_none());
        drop(removed);
        world.assert_empty();
    }
}

#[test]
fn a_batch_shares_one_doorbell() {
    let mut world = World::new();
    let mut created = world.create(&Plan { log_ring: Some(10), ..plan(64) }).expect("created");
    let queue = &mut created.queue;
    let before = (world.fake.state.borrow().doorbells, world.fake.state.borrow().wqes.0);
    for tag in 0..64 {
        queue.setup(tag, io(&world.heap, &[4096]), &world.fake).expect("free");
    }
    assert!(queue.flush(&world.fake) && !queue.flush(&world.fake));
    assert_eq!((world.fake.state.borrow().doorbells, world.fake.state.borrow().wqes.0), (before.0 + 1, before.1));
    for tag in 0..64 {
        queue.teardown(tag).map(drop).expect("bound");
    }
    queue.flush(&world.fake);
    assert_eq!((world.fake.state.borrow().doorbells, world.fake.state.borrow().wqes.0), (before.0 + 2, before.1 + 64));
    assert_eq!(queue.poll(), 64);
    assert_eq!(queue.events().count(), 64);
    let stats = queue.stats();
    assert_eq!((stats.setup, stats.teardown, stats.teardown_done), (64, 64, 64));
    drop(world.remove(created));
    world.assert_empty();
}

#[test]
fn a_resync_distrusts_one_digest() {
    let mut world = World::new();
    let mut created = world.create(&plan(4)).expect("created");
    let queue = &mut created.queue;
    queue.setup(1, io(&world.heap, &[8192]), &world.fake).expect("free");
    let digest_ok = |queue: &mut OffloadQueue, entry: &OffloadCqe| {
        let rebuilt = queue.receive(entry, RxBuffer(0), 2048).expect("true");
        let ok = rebuilt.frame.digest_ok();
        let _ = rebuilt.frame.into_buffer();
        ok
    };
    let marked = placed(1, 0, 500);
    let unmarked = marked.with(OffloadCqe::CQE64_B1_NVMEOTCP_DDGST, 0);
    assert!(digest_ok(queue, &marked) && !digest_ok(queue, &unmarked));
    queue.resync(0xaabb_ccdd);
    assert!(!digest_ok(queue, &unmarked), "no mark to distrust");
    assert!(!digest_ok(queue, &marked), "the first mark after a resync");
    assert!(digest_ok(queue, &marked));
    world.settle(queue);
    {
        let state = world.fake.state.borrow();
        let params = &state.tirs[&queue.tirn()].static_params;
        assert_eq!(params.len(), 2);
        let (first, second) = (StaticParams(params[0]), StaticParams(params[1]));
        assert_eq!(second.get(StaticParams::NVME_RESYNC_TCP_SN), 0xaabb_ccdd);
        assert_eq!(second.with(StaticParams::NVME_RESYNC_TCP_SN, 0), first, "else identical");
        assert_eq!(state.tirs[&queue.tirn()].progress.len(), 1, "written once in a queue's life");
    }
    let stats = *queue.stats();
    assert_eq!((stats.digest_ok, stats.resync_confirmed, stats.packets, stats.bytes), (2, 1, 5, 2500));
    drop(world.remove(created));
    // Without negotiated digests no mark counts.
    let params = ConnectionParams { check_data_digest: false, data_digest: false, ..PARAMS };
    let mut created = world.create(&Plan { params, ..plan(4) }).expect("created");
    created.queue.setup(1, io(&world.heap, &[8192]), &world.fake).expect("free");
    assert!(!digest_ok(&mut created.queue, &marked));
    drop(world.remove(created));
    world.assert_empty();
}

#[test]
fn a_failed_ring_is_told_and_removed() {
    let mut world = World::new();
    let mut created = world.create(&plan(8)).expect("created");
    let queue = &mut created.queue;
    for tag in 0..4 {
        queue.setup(tag, io(&world.heap, &[8192]), &world.fake).expect("free");
    }
    world.fake.state.borrow_mut().fail_wqe = Some((2, 4));
    world.settle(queue);
    assert!(matches!(queue.next_event(), Some(Event::Failed(error)) if error.send));
    assert!(queue.next_event().is_none(), "told once");
    assert!(queue.has_failed());
    assert_eq!(
        queue.setup(5, io(&world.heap, &[64]), &world.fake).expect("free"),
        Setup::NotOffloaded(Why::ControlRingFailed),
        "reads go on un-offloaded"
    );
    assert!(matches!(queue.teardown(1), Ok(Teardown::Pending)));
    world.settle(queue);
    assert!(queue.next_event().is_none(), "the device never said that it forgot");
    let began = world.fake.now();
    let removed = world.remove(created);
    assert!(world.fake.now() - began < Duration::from_secs(1), "nothing is waited for that cannot come");
    assert_eq!((removed.released.len(), removed.errors.len()), (5, 0));
    drop(removed);
    world.assert_empty();
}

#[test]
fn removal_gives_everything_back() {
    for stalled in [false, true] {
        let mut world = World::new();
        let mut created = world.create(&Plan { threshold: 4096, ..plan(8) }).expect("created");
        let queue = &mut created.queue;
        for tag in 0..6 {
            queue.setup(tag, io(&world.heap, &[8192]), &world.fake).expect("free");
        }
        queue.setup(6, io(&world.heap, &[64]), &world.fake).expect("free"); // pinned
        world.settle(queue);
        for tag in 0..2 {
            queue.teardown(tag).map(drop).expect("bound");
        }
        world.settle(queue);
        let _ = teardown_done(queue.next_event()); // 0 is free, 1 forgotten
        queue.teardown(2).map(drop).expect("bound"); // draining
        world.fake.state.borrow_mut().stalled = stalled;
        let removed = world.remove(created);
        // Even a ring that stands still holds nobody up for ever: the keys are destroyed.
        assert_eq!(removed.released.iter().map(|r| r.tag()).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert!(removed.errors.is_empty() && removed.quarantined.is_none());
        drop(removed);
        world.assert_empty();
    }
}

#[test]
fn refused_keys_keep_their_buffers() {
    let mut world = World::new();
    let mut created = world.create(&plan(8)).expect("created");
    for tag in 0..3 {
        created.queue.setup(tag, io(&world.heap, &[8192]), &world.fake).expect("free");
    }
    world.settle(&mut created.queue);
    world.fake.state.borrow_mut().stalled = true;
    world.fake.state.borrow_mut().refuse = Some((Opcode::DESTROY_MKEY, 5));
    let removed = world.remove(created);
    assert!(!removed.errors.is_empty());
    assert!(removed.released.is_empty());
    let tags = removed.quarantined.expect("kept");
    assert_eq!(tags.held(), 3);
    let proof = Quiesced::by_reset(&world.fake).expect("reset");
    world.log.forget();
    assert_eq!(tags.quiesce(&proof).len(), 3);
    world.assert_empty();
}

#[test]
fn false_claims_are_counted() {
    let mut world = World::new();
    let mut created = world.create(&plan(4)).expect("created");
    let queue = &mut created.queue;
    queue.setup(1, io(&world.heap, &[8192]), &world.fake).expect("free");
    for (entry, why) in [
        (placed(2, 0, 100), Rejection::TagNotBound),
        (placed(4, 0, 100), Rejection::TagOutOfRange),
        (placed(1, 8100, 100), Rejection::RunBeyondBuffer),
        (placed(1, 0, 100).with(OffloadCqe::HLEN, 83), Rejection::RunBeyondPacket),
    ] {
        let rejected = queue.receive(&entry, RxBuffer(4), 2048).expect_err("false");
        assert_eq!((rejected.why, rejected.buffer), (why, RxBuffer(4)));
        assert_eq!(queue.stats().rejected(why), 1);
    }
    assert_eq!((queue.stats().rejections(), queue.stats().packets, queue.stats().bytes), (4, 0, 0));
    drop(world.remove(created));
    world.assert_empty();
}

#[test]
fn keys_serve_the_next_queue() {
    let mut world = World::new();
    world.spare = KeyPool::new(100);
    let created =
        |world: &World| world.fake.state.borrow().commands.iter().filter(|c| **c == Opcode::CREATE_MKEY).count();
    let mut first = world.create(&plan(40)).expect("created");
    for tag in 0..40 {
        first.queue.setup(tag, io(&world.heap, &[4096]), &world.fake).map(drop).expect("free");
    }
    drop(world.remove(first));
    assert_eq!((world.spare.len(), created(&world)), (40, 40));
    assert!(world.fake.state.borrow().keys.values().all(|key| key.free), "what waits points nowhere");
    // Larger than need be, but not twice: taken; its tags are those of the plan.
    let next = world.create(&plan(21)).expect("created");
    assert_eq!((world.spare.len(), created(&world), next.queue.tags().depth()), (0, 40, 21));
    let other = world.create(&plan(40)).expect("created");
    assert_eq!(created(&world), 80);
    drop((world.remove(next), world.remove(other)));
    assert_eq!(world.spare.len(), 80);
    // Blocks of 40 keys are too large for 20 tags, and too small for 41.
    let created_before = created(&world);
    let (small, large) = (world.create(&plan(20)).expect("created"), world.create(&plan(41)).expect("created"));
    assert_eq!((created(&world) - created_before, world.spare.len()), (61, 80));
    drop(world.remove(small));
    assert_eq!(world.spare.len(), 100, "as many as may be kept");
    drop(world.remove(large));
    assert_eq!((world.spare.len(), world.fake.state.borrow().keys.len()), (100, 100), "the rest is destroyed");
}

#[test]
fn keys_in_doubt_serve_nobody() {
    // The table stays: late packets could still come through it.
    let mut world = World::new();
    world.spare = KeyPool::new(100);
    let created = world.create(&plan(8)).expect("created");
    world.fake.state.borrow_mut().refuse = Some((Opcode::DESTROY_GENERAL_OBJECT, 0));
    let removed = world.remove(created);
    assert_eq!((removed.errors.len(), world.spare.len()), (1, 0));
    assert!(world.fake.state.borrow().keys.is_empty());
    // The device has not said that it forgot a buffer: its key must be gone before the buffer is given back.
    let mut world = World::new();
    world.spare = KeyPool::new(100);
    let mut created = world.create(&plan(8)).expect("created");
    created.queue.setup(3, io(&world.heap, &[4096]), &world.fake).map(drop).expect("free");
    world.settle(&mut created.queue);
    created.queue.on_cq_error(1);
    let removed = world.remove(created);
    assert_eq!((removed.released.len(), world.spare.len()), (1, 0));
    assert!(removed.quarantined.is_none() && world.fake.state.borrow().keys.is_empty());
}

#[test]
fn queues_are_created_together() {
    let mut world = World::new();
    let plans: Vec<Plan> = [8, 2000, 64, 16].into_iter().map(plan).collect();
    let deadline = world.deadline();
    let mut port = world.fake.clone();
    let base = Base { heap: world.heap.clone(), pd: 3, uar: 16, transport_domain: 9, data_mkey: 0x600 };
    let (fake, spare) = (world.fake.clone(), &mut world.spare);
    let outcomes = {
        let mut objects = Logged { port: &mut port, log: &mut world.log };
        create_each(&mut objects, &fake, &base, &capacity(), spare, &plans, deadline)
    };
    let mut queues = Vec::new();
    for (outcome, plan) in outcomes.into_iter().zip(&plans) {
        match outcome {
            Ok(created) => {
                assert_eq!(created.queue.tags().depth(), plan.tags);
                queues.push(created);
            }
            Err(error) => assert!(plan.tags == 2000 && matches!(error, CreateError::Tags { .. }), "{error}"),
        }
    }
    assert_eq!(queues.len(), 3, "what one cannot be keeps no other");
    // What refers to nothing comes before everything that does.
    let commands = world.fake.state.borrow().commands.clone();
    let last = |opcode| commands.iter().rposition(|c| *c == opcode).expect("executed");
    let first = |opcode| commands.iter().position(|c| *c == opcode).expect("executed");
    for before in [Opcode::CREATE_CQ, Opcode::CREATE_GENERAL_OBJECT, Opcode::CREATE_MKEY] {
        assert!(last(before) < first(Opcode::CREATE_SQ) && last(before) < first(Opcode::CREATE_TIR), "{before}");
    }
    drop(base);
    queues.into_iter().for_each(|created| drop(world.remove(created)));
    world.assert_empty();
}
