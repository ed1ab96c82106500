//! Queues and steering against the virtual ConnectX: frames out, frames in, and which queue gets them.
//!
//! | property | test |
//! |---|---|
//! | what was sent is on the wire, byte for byte, with right checksums, in order, whatever its size | `frames_leave_as_they_were_posted` |
//! | gathered payload leaves from the caller's memory, and its token comes back | `gathered_frames_leave_and_are_given_back` |
//! | what is on the wire arrives, byte for byte, over many laps, with 64- and 128-byte entries | `frames_arrive_as_they_were_sent` |
//! | without buffers packets are dropped and counted, and reception goes on with new ones | `an_empty_queue_drops_and_recovers` |
//! | the Toeplitz hash is the one of the RSS suite, spreads, and keeps a connection on its queue | `hashing_spreads_connections` |
//! | a rule directs its five-tuple, and no other, to its TIR with its tag; without it the defaults do | `rules_direct_connections` |
//! | the MAC filter lets through what it was told to | `the_mac_filter_is_obeyed` |
//! | an armed CQ raises one event, at once if it is late | `arming_raises_one_event` |
//! | after a frame that is too long, and after a stop, all buffers come back and reception goes on | `a_receive_queue_recovers` |
//! | after a work request with a wrong key, sending goes on | `a_send_queue_recovers` |
//! | queues that were destroyed leave no object and no memory | `destroyed_queues_leave_nothing` |
//!
//! Every test ends by destroying all objects and asking the device what it holds and what it was misused for.
#![cfg(feature = "demo")]

mod frames;
mod function;

use connectx_ddp::dma::IoBuf;
use connectx_ddp::frame::RxBuffer;
use connectx_ddp::queue::{
    Arm, Checksums, CompletionFault, CompletionQueue, CqeFormat, FrameQueueParams, ReceiveQueue, RxPool, SendError,
    SendQueue, create_tis,
};
use connectx_ddp::steering::{
    Defaults, FiveTuple, MacFilter, Promiscuous, RssHash, Steering, SteeringCaps, SteeringParams, TOEPLITZ_KEY, Target,
    TirParams, create_rqt, create_tir, set_mac_filter, set_promiscuous,
};
use frames::{bytes, checksum, segment, tcp_header, toeplitz};
use function::{Function, MAC};
use hw_regs::cqe::{Cqe64, CqeSyndrome, OffloadCqe};
use hw_regs::layout::Access;
use proptest::prelude::*;
use std::net::SocketAddr;

/// Bytes of a receive buffer: less than the port's MTU lets through.
const BUFFER: u32 = 1472;

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn remote(port: u16) -> SocketAddr {
    SocketAddr::new(address("10.0.0.2:1").ip(), port)
}

fn local() -> SocketAddr {
    address("10.0.0.1:50000")
}

/// A receive queue with its CQ and its buffers.
struct Receiver<E: CqeFormat> {
    cq: CompletionQueue<E>,
    rq: ReceiveQueue,
    pool: RxPool,
}

impl<E: CqeFormat> Receiver<E> {
    fn new(function: &mut Function, log_wqes: u32, buffers: u32) -> Receiver<E> {
        let (base, eqn, deadline) = (function.base.clone(), function.eqn, function.deadline());
        let objects = &mut function.objects();
        let mut cq = CompletionQueue::create(objects, &base, log_wqes, eqn, deadline).expect("CQ");
        let mut pool = RxPool::new(&base.heap, buffers, BUFFER).expect("memory");
        let mut rq = ReceiveQueue::create(objects, &base, &mut cq, log_wqes, &pool, 0, deadline).expect("RQ");
        rq.post(&mut pool);
        Receiver { cq, rq, pool }
    }

    /// The next packet: its entry and its bytes.
    fn next(&mut self) -> Option<(Cqe64, Vec<u8>)> {
        let cqe = *self.cq.poll()?.base();
        let buffer = self.rq.accept(&cqe).expect("a packet").into_buffer();
        let mut frame = vec![0; cqe.get(Cqe64::BYTE_CNT) as usize];
        let RxBuffer(index) = buffer;
        self.pool.read(index, 0, &mut frame);
        self.pool.give_back(RxBuffer(index));
        Some((cqe, frame))
    }

    fn refill(&mut self) {
        self.cq.update();
        self.rq.post(&mut self.pool);
    }

    fn destroy(mut self, function: &mut Function) {
        let deadline = function.deadline();
        let objects = &mut function.objects();
        self.rq.destroy(objects, &mut self.cq, &mut self.pool, deadline).expect("destroyed");
        assert_eq!(self.pool.outstanding(), 0);
        self.cq.destroy(objects, deadline).expect("destroyed");
    }
}

/// Steering with rules for a few connections.
fn steer(function: &mut Function, defaults: Defaults) -> Steering {
    let caps = SteeringCaps::new(&function.receive_tables).expect("the model can steer");
    let params = SteeringParams { connections_ipv4: 8, connections_ipv6: 8 };
    let deadline = function.deadline();
    Steering::create(&mut function.objects(), &caps, &params, &defaults, deadline).expect("steering")
}

fn direct(function: &mut Function, rqn: u32) -> u32 {
    let (base, deadline) = (function.base.clone(), function.deadline());
    let params = TirParams::new(Target::Queue(rqn));
    create_tir(&mut function.objects(), &base, &params, deadline).expect("TIR").number()
}

/// Everything to one receiver.
fn one_receiver<E: CqeFormat>(function: &mut Function, log_wqes: u32, buffers: u32) -> Receiver<E> {
    let receiver = Receiver::new(function, log_wqes, buffers);
    let tirn = direct(function, receiver.rq.rqn());
    steer(function, Defaults { other: tirn, tcp_ipv4: None, tcp_ipv6: None });
    receiver
}

fn sender(function: &mut Function, log_wqebbs: u32, slots: u32) -> SendQueue {
    let (base, eqn, deadline) = (function.base.clone(), function.eqn, function.deadline());
    let objects = &mut function.objects();
    let tisn = create_tis(objects, &base, deadline).expect("TIS").number();
    let params = FrameQueueParams { log_wqebbs, tisn, eqn, slots, slot_size: 1500, min_inline_mode: 0 };
    SendQueue::create(objects, &base, &params, deadline).expect("SQ")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn frames_leave_as_they_were_posted(
        log in 5u32..9, slots in 1u32..40, batch in 1usize..20, seed: u64,
        sizes in prop::collection::vec((0usize..1400, any::<bool>()), 1..120),
    ) {
        let mut function = Function::new();
        let mut queue = sender(&mut function, log, slots);
        let mut expected = Vec::new();
        let mut sent = 0;
        for (n, (len, ipv6)) in sizes.iter().enumerate() {
            let (from, to) = match ipv6 {
                false => (local(), remote(4420)),
                true => (address("[2001:db8::1]:50000"), address("[2001:db8::2]:4420")),
            };
            let header = tcp_header(from, to, *len);
            let payload = bytes(*len, seed ^ n as u64);
            let mut tries = 0;
            while let Err(error) =
                queue.send(&header, *len, Checksums::IpAndTransport, |slot| slot.write(0, &payload))
            {
                prop_assert_eq!(error, SendError::Full);
                tries += 1;
                prop_assert!(tries < 2, "stuck");
                queue.ring_doorbell(&*function.platform);
                sent += queue.poll(|_| ()).frames;
            }
            let mut frame = [header, payload].concat();
            checksum(&mut frame);
            frame.resize(frame.len().max(60), 0);
            expected.push(frame);
            if n % batch == 0 {
                queue.ring_doorbell(&*function.platform);
            }
        }
        queue.ring_doorbell(&*function.platform);
        sent += queue.poll(|_| ()).frames;
        let wire: Vec<_> = std::iter::from_fn(|| function.nic().transmit()).collect();
        prop_assert_eq!(wire.len(), expected.len());
        for (n, (got, wanted)) in wire.iter().zip(&expected).enumerate() {
            prop_assert!(got == wanted, "frame {}", n);
        }
        prop_assert_eq!(function.nic().counters().sq_doorbells, queue.doorbells());
        prop_assert!(sent as usize <= expected.len() && queue.rejected().total() == 0);
        let deadline = function.deadline();
        queue.destroy(&mut function.objects(), deadline).expect("destroyed");
        function.finish();
    }

    #[test]
    fn frames_arrive_as_they_were_sent(
        log in 0u32..6, spare in 0u32..4, seed: u64, sizes in prop::collection::vec(0usize..1400, 1..100),
    ) {
        let mut function = Function::new();
        let mut receiver = one_receiver::<OffloadCqe>(&mut function, log, (1 << log) + spare);
        let mut narrow = Receiver::<Cqe64>::new(&mut function, log, 1 << log);
        let narrow_tir = direct(&mut function, narrow.rq.rqn());
        let caps = SteeringCaps::new(&function.receive_tables).expect("the model can steer");
        prop_assert!(caps.ip_version && caps.max_level > 0);
        for (n, len) in sizes.iter().enumerate() {
            let frame = segment(remote(4420), local(), *len, seed ^ n as u64);
            function.receive(&frame);
            let (cqe, got) = receiver.next().expect("it arrived");
            prop_assert_eq!(&got[..frame.len()], &frame[..]);
            prop_assert_eq!(got.len(), frame.len().max(60));
            prop_assert_eq!(cqe.get(Cqe64::HDS_IP_EXT) & 7, 7, "all checksums are right");
            prop_assert!(receiver.next().is_none());
            receiver.refill();
        }
        // The same with 64-byte entries: another root table takes over.
        let deadline = function.deadline();
        let mut damaged = segment(remote(4420), local(), 100, seed);
        damaged[60] ^= 1;
        function.receive(&damaged);
        let (cqe, _) = receiver.next().expect("it arrived");
        prop_assert_eq!(cqe.get(Cqe64::HDS_IP_EXT) & 7, 3, "the L4 checksum is wrong");
        prop_assert_eq!(receiver.rq.rejected().total(), 0);
        let defaults = Defaults { other: narrow_tir, tcp_ipv4: None, tcp_ipv6: None };
        let params = SteeringParams { connections_ipv4: 0, connections_ipv6: 0 };
        Steering::create(&mut function.objects(), &caps, &params, &defaults, deadline).expect("steering");
        for (n, len) in sizes.iter().enumerate() {
            let frame = segment(remote(4420), local(), *len, seed ^ n as u64);
            function.receive(&frame);
            let (_, got) = narrow.next().expect("it arrived");
            prop_assert_eq!(&got[..frame.len()], &frame[..]);
            narrow.refill();
        }
        function.finish();
    }
}

#[test]
fn gathered_frames_leave_and_are_given_back() {
    let mut function = Function::new();
    let mut queue = sender(&mut function, 6, 2);
    let heap = function.base.heap.clone();
    let memory: Vec<_> = [1, 700, 33].map(|len| heap.allocate(len, 1).expect("memory")).into();
    let buffer = IoBuf::new(memory);
    buffer.write(0, &bytes(734, 7));
    let pieces: Vec<_> = buffer.segments().collect();
    let header = tcp_header(local(), remote(4420), 734);
    for token in 0..200 {
        queue.send_gather(&header, &pieces, token, Checksums::IpAndTransport).expect("room");
        queue.ring_doorbell(&*function.platform);
        let mut tokens = Vec::new();
        assert_eq!(queue.poll(|token| tokens.push(token)).frames, 1);
        assert_eq!(tokens, [token]);
        let mut frame = [&header[..], &bytes(734, 7)].concat();
        checksum(&mut frame);
        let sent = function.nic().transmit();
        assert_eq!(sent, Some(frame));
    }
    let deadline = function.deadline();
    queue.destroy(&mut function.objects(), deadline).expect("destroyed");
    function.finish();
}

#[test]
fn an_empty_queue_drops_and_recovers() {
    let mut function = Function::new();
    let mut receiver = one_receiver::<OffloadCqe>(&mut function, 2, 6);
    for n in 0..7 {
        function.receive(&segment(remote(4420), local(), 10, n));
    }
    assert_eq!(function.nic().counters().drops.out_of_buffer, 3);
    let arrived = std::iter::from_fn(|| receiver.next()).count();
    assert_eq!(arrived, 4);
    for n in 0..50 {
        receiver.refill();
        let frame = segment(remote(4420), local(), 10, n);
        function.receive(&frame);
        assert_eq!(receiver.next().map(|(_, got)| got[..frame.len()].to_vec()), Some(frame));
    }
    assert_eq!(function.nic().counters().drops.out_of_buffer, 3);
    function.finish();
}

#[test]
fn hashing_spreads_connections() {
    let mut function = Function::new();
    let mut receivers: Vec<_> = (0..4).map(|_| Receiver::<Cqe64>::new(&mut function, 8, 256)).collect();
    let rqns: Vec<_> = receivers.iter().map(|receiver| receiver.rq.rqn()).collect();
    let deadline = function.deadline();
    let rqt = create_rqt(&mut function.objects(), &rqns, 8, deadline).expect("RQT");
    let base = function.base.clone();
    let spread = [false, true].map(|ipv6| {
        let target = Target::Spread { rqtn: rqt.number(), hash: RssHash::tcp(ipv6) };
        create_tir(&mut function.objects(), &base, &TirParams::new(target), deadline).expect("TIR").number()
    });
    let other = direct(&mut function, rqns[0]);
    steer(&mut function, Defaults { other, tcp_ipv4: Some(spread[0]), tcp_ipv6: Some(spread[1]) });
    let mut counts = [0u32; 4];
    for port in 1000..1400 {
        let (from, to) = match port % 2 {
            0 => (remote(port), local()),
            _ => (SocketAddr::new(address("[2001:db8::2]:1").ip(), port), address("[2001:db8::1]:50000")),
        };
        let hash = toeplitz(&TOEPLITZ_KEY, from, to);
        for n in 0..2 {
            function.receive(&segment(from, to, 20, n));
            let found: Vec<_> = receivers.iter_mut().enumerate().filter_map(|(n, r)| Some((n, r.next()?.0))).collect();
            let [(queue, cqe)] = found[..] else { panic!("{} packets", found.len()) };
            assert_eq!(cqe.get(Cqe64::RSS_HASH_RESULT), hash);
            assert_eq!(queue, hash as usize % 4);
            counts[queue] += 1;
            receivers[queue].refill();
        }
    }
    assert!(counts.iter().all(|count| (100..300).contains(count)), "{counts:?}");
    // The known answer of the RSS verification suite (TCP over IPv4).
    let (from, to) = (address("66.9.149.187:2794"), address("161.142.100.80:1766"));
    assert_eq!(toeplitz(&TOEPLITZ_KEY, from, to), 0x51cc_c178);
    function.finish();
}

#[test]
fn rules_direct_connections() {
    let mut function = Function::new();
    let mut rest = Receiver::<OffloadCqe>::new(&mut function, 4, 16);
    let mut own = Receiver::<OffloadCqe>::new(&mut function, 4, 16);
    let other = direct(&mut function, rest.rq.rqn());
    let (base, deadline) = (function.base.clone(), function.deadline());
    // As the offload does it: through a table of one queue.
    let rqt = create_rqt(&mut function.objects(), &[own.rq.rqn()], 1, deadline).expect("RQT");
    let target = Target::First { rqtn: rqt.number() };
    let tirn = create_tir(&mut function.objects(), &base, &TirParams::new(target), deadline).expect("TIR").number();
    let mut steering = steer(&mut function, Defaults { other, tcp_ipv4: Some(other), tcp_ipv6: None });
    let connections = [
        (remote(4420), local()),
        (address("10.0.0.3:4420"), local()),
        (address("[2001:db8::2]:4420"), address("[2001:db8::1]:50000")),
    ];
    let mut rules = Vec::new();
    for (n, (source, destination)) in connections.into_iter().enumerate() {
        let tuple = FiveTuple { source, destination };
        let tag = 0xabc000 + n as u32;
        rules.push(steering.add_rule(&mut function.objects(), tuple, tirn, tag, deadline).expect("room"));
    }
    let mut expect = |function: &Function, from, to, tag: Option<u32>| {
        function.receive(&segment(from, to, 9, 1));
        let (hit, miss) = (own.next(), rest.next());
        own.refill();
        rest.refill();
        assert_eq!(hit.map(|(cqe, _)| cqe.get(Cqe64::SOP_DROP_QPN_QPN_OR_FLOW_TAG)), tag, "{from} to {to}");
        let untagged = miss.map(|(cqe, _)| cqe.get(Cqe64::SOP_DROP_QPN_QPN_OR_FLOW_TAG));
        assert_eq!(untagged, tag.is_none().then_some(0), "{from} to {to}");
    };
    for (n, (from, to)) in connections.into_iter().enumerate() {
        expect(&function, from, to, Some(0xabc000 + n as u32));
        // One field off, each in turn.
        expect(&function, SocketAddr::new(from.ip(), 4421), to, None);
        expect(&function, from, SocketAddr::new(to.ip(), 50001), None);
    }
    expect(&function, address("10.0.0.4:4420"), local(), None);
    expect(&function, remote(4420), address("10.0.0.9:50000"), None);
    let second = rules.remove(1);
    steering.remove_rule(&mut function.objects(), second, deadline).expect("removed");
    expect(&function, address("10.0.0.3:4420"), local(), None);
    expect(&function, remote(4420), local(), Some(0xabc000));
    for rule in rules {
        steering.remove_rule(&mut function.objects(), rule, deadline).expect("removed");
    }
    expect(&function, remote(4420), local(), None);
    steering.destroy(&mut function.objects(), deadline).expect("destroyed");
    function.receive(&segment(remote(4420), local(), 9, 1));
    assert_eq!(function.nic().counters().drops.steering, 1);
    function.finish();
}

#[test]
fn the_mac_filter_is_obeyed() {
    let mut function = Function::new();
    let mut receiver = one_receiver::<Cqe64>(&mut function, 4, 16);
    let deadline = function.deadline();
    let mut arrives = |function: &Function, mac: [u8; 6]| {
        let mut frame = segment(remote(1), local(), 9, 1);
        frame[..6].copy_from_slice(&mac);
        function.receive(&frame);
        let arrived = receiver.next().is_some();
        receiver.refill();
        arrived
    };
    let (other, group) = ([2, 0, 0, 0, 0, 0x77], [1, 0, 0x5e, 0, 0, 1]);
    let all = [MAC, [0xff; 6], other, group];
    let arrivals = |function: &Function, arrives: &mut dyn FnMut(&Function, [u8; 6]) -> bool| {
        all.map(|mac| arrives(function, mac))
    };
    assert_eq!(arrivals(&function, &mut arrives), [true, true, false, false]);
    set_mac_filter(&mut function.objects(), MacFilter::Unicast, &[MAC, other], deadline).expect("set");
    assert_eq!(arrivals(&function, &mut arrives), [true, true, true, false]);
    set_mac_filter(&mut function.objects(), MacFilter::Unicast, &[MAC], deadline).expect("set");
    set_mac_filter(&mut function.objects(), MacFilter::Multicast, &[group], deadline).expect("set");
    assert_eq!(arrivals(&function, &mut arrives), [true, true, false, true]);
    set_mac_filter(&mut function.objects(), MacFilter::Multicast, &[], deadline).expect("set");
    let promiscuous = Promiscuous { all: true, ..Promiscuous::default() };
    set_promiscuous(&mut function.objects(), promiscuous, deadline).expect("set");
    assert_eq!(arrivals(&function, &mut arrives), [true; 4]);
    set_promiscuous(&mut function.objects(), Promiscuous::default(), deadline).expect("set");
    assert_eq!(arrivals(&function, &mut arrives), [true, true, false, false]);
    function.finish();
}

#[test]
fn arming_raises_one_event() {
    let mut function = Function::new();
    let mut receiver = one_receiver::<OffloadCqe>(&mut function, 4, 16);
    let cqn = receiver.cq.cqn();
    for round in 0..10 {
        let frame = segment(remote(4420), local(), 10, round);
        function.receive(&frame);
        assert!(function.events().is_empty(), "not armed");
        if round % 2 == 0 {
            // Late: the packet came before the arming and was not read.
            receiver.cq.arm(&*function.platform, Arm::Next);
        } else {
            receiver.next().expect("it arrived");
            receiver.cq.arm(&*function.platform, Arm::Next);
            assert!(function.events().is_empty(), "nothing new");
            function.receive(&frame);
        }
        function.receive(&frame);
        assert_eq!(function.events(), [cqn], "round {round}");
        receiver.cq.on_event();
        assert_eq!(std::iter::from_fn(|| receiver.next()).count(), 2);
        receiver.refill();
    }
    function.finish();
}

#[test]
fn a_receive_queue_recovers() {
    let mut function = Function::new();
    let mut receiver = one_receiver::<OffloadCqe>(&mut function, 2, 6);
    let deadline = function.deadline();
    let frame = segment(remote(4420), local(), 100, 1);
    // The port lets larger frames through than the buffers hold.
    let long = segment(remote(4420), local(), BUFFER as usize - 53, 1);
    for by_command in [false, true] {
        function.receive(&frame);
        receiver.next().expect("it arrived");
        match by_command {
            true => receiver.rq.stop(&mut function.objects(), deadline).expect("stopped"),
            false => {
                function.receive(&long);
                let first = receiver.cq.poll().expect("an error entry");
                let Err(CompletionFault::Failed(error)) = receiver.rq.accept(&first) else { panic!("{first:?}") };
                assert_eq!(error.syndrome, CqeSyndrome::LOCAL_LENGTH_ERR);
            }
        }
        while let Some(cqe) = receiver.cq.poll() {
            let fault = receiver.rq.accept(&cqe);
            assert!(matches!(fault, Err(CompletionFault::Failed(error)) if error.is_flush()), "{fault:?}");
        }
        assert_eq!((receiver.rq.posted(), receiver.rq.rejected().total()), (0, 0), "all were flushed");
        let Receiver { cq, rq, pool } = &mut receiver;
        rq.recover(&mut function.objects(), cq, pool, deadline).expect("recovered");
        assert_eq!(receiver.pool.outstanding(), 0);
        receiver.refill();
        for _ in 0..9 {
            function.receive(&frame);
            assert_eq!(receiver.next().expect("it arrived").1, frame);
            receiver.refill();
        }
    }
    function.finish();
}

#[test]
fn a_send_queue_recovers() {
    let mut function = Function::new();
    let base = function.base.clone();
    function.base.data_mkey ^= 0x100;
    let mut queue = sender(&mut function, 5, 4);
    function.base = base;
    let deadline = function.deadline();
    let header = tcp_header(local(), remote(4420), 5);
    let post = |queue: &mut SendQueue, len: usize| {
        queue.send(&header, len, Checksums::None, |slot| slot.write(0, &bytes(len, 1)))
    };
    for _ in 0..3 {
        post(&mut queue, 5).expect("room");
    }
    queue.ring_doorbell(&*function.platform);
    let failure = queue.poll(|_| ()).failure.expect("the key is wrong");
    assert_eq!((failure.wqe_counter, failure.syndrome), (0, CqeSyndrome::LOCAL_PROT_ERR));
    assert_eq!(post(&mut queue, 0), Err(SendError::Failed));
    queue.recover(&mut function.objects(), |_| (), deadline).expect("recovered");
    post(&mut queue, 0).expect("a frame that needs no key");
    queue.ring_doorbell(&*function.platform);
    let sent = function.nic().transmit();
    assert_eq!(sent.map(|frame| frame[..54].to_vec()), Some(header.clone()));
    queue.destroy(&mut function.objects(), deadline).expect("destroyed");
    function.finish();
}

#[test]
fn destroyed_queues_leave_nothing() {
    let mut function = Function::new();
    let used = function.base.heap.usage().1;
    let held = function.nic().inventory().held;
    let receiver = Receiver::<OffloadCqe>::new(&mut function, 6, 100);
    let queue = sender(&mut function, 7, 20);
    assert!(function.nic().inventory().held.total() == held.total() + 5, "two CQs, RQ, SQ, TIS");
    let deadline = function.deadline();
    queue.destroy(&mut function.objects(), deadline).expect("destroyed");
    receiver.destroy(&mut function);
    let after = function.nic().inventory().held;
    assert_eq!(after.total(), held.total() + 1, "only the TIS: {after:?}");
    assert_eq!(function.base.heap.usage().1, used);
    function.finish();
}
