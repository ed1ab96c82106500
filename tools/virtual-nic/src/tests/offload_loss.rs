//! The offload through the rings when packets are missing, late, doubled, or their tags unusable.
//!
//! | property | test |
//! |---|---|
//! | under any impairment and switches each frame has its one completion before the next frame is taken, in its place, with its bytes; nothing comes later: no packet is held, changed, reordered or dropped | `every_frame_arrives_at_once_and_unchanged` |
//! | a lost header leads to a request in a CQE whose packet is whole in the ring, a confirmation by WQE, and placement again | `a_resync_through_the_rings` |
//! | a tag that cannot be used ends in an error completion and fails the queue, where the switch says so | `an_unusable_tag_can_fail_the_queue` |
//! | with VLAN stripping `hlen` counts the stored bytes or the wire's | `hlen_counts_the_stripped_tag_or_not` |
//! | fields of a CQE that no flag makes valid can hold anything | `fields_without_a_flag_are_noise` |
//! | a binding takes effect when its time has come, and simulated time is the device's | `a_binding_waits_for_simulated_time` |

use super::offload::{Offloaded, START, bytes, c2h_data};
use crate::offload::behaviour::*;
use crate::offload::tests::lossy::{arrivals, behaviour, fate};
use crate::packet::build::Build;
use hw_regs::cqe::{ErrCqe, OffloadCqe};
use hw_regs::layout::{Access, Layout};
use proptest::prelude::*;
use std::time::Duration;

fn frame(at: usize, payload: &[u8]) -> Vec<u8> {
    Build::tcp(START.wrapping_add(at as u32), payload).frame()
}

/// Reads of these commands and lengths, one PDU each; where each begins.
fn reads(sizes: &[(u16, usize)], digest: bool) -> (Vec<u8>, Vec<usize>) {
    let (mut stream, mut starts) = (Vec::new(), Vec::new());
    for (number, (ccid, len)) in sizes.iter().enumerate() {
        starts.push(stream.len());
        stream.extend(c2h_data(*ccid, 0, &bytes(*len, number), digest));
    }
    (stream, starts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn every_frame_arrives_at_once_and_unchanged(
        digest in any::<bool>(),
        behaviour in behaviour(),
        noise in any::<bool>(),
        sizes in prop::collection::vec((0..4u16, 1..4000usize), 2..10),
        cuts in prop::collection::vec(1..1400usize, 1..8),
        fates in prop::collection::vec(fate(), 1..30),
        confirm in any::<bool>(),
    ) {
        let first_half = if noise { FirstHalf::Noise } else { FirstHalf::Zero };
        let mut queue = Offloaded::with(Behaviour { first_half, ..behaviour }, digest, false);
        (0..3).for_each(|tag| queue.bind(tag));
        let (stream, starts) = reads(&sizes, digest);
        let mut sent = 0;
        for (from, to) in arrivals(stream.len(), &cuts, &fates) {
            // What is sent again can be longer than the MTU.
            let to = to.min(from + 1400);
            let frame = frame(from, &stream[from..to]);
            let received = queue.receive_cqe(&frame);
            prop_assert!(received.whole[..frame.len()] == frame);
            prop_assert!(received.whole.len() == frame.len().max(60));
            sent += 1;
            // Software knows where PDUs begin, and says yes at once.
            let asked = received.resync.map(|sequence| sequence.wrapping_sub(START) as usize);
            if let Some(start) = asked.filter(|asked| confirm && starts.contains(asked)) {
                queue.confirm(START.wrapping_add(start as u32), digest);
            }
        }
        queue.host.nic.advance(Duration::from_secs(100));
        prop_assert!(queue.host.next_cqe(&mut queue.cq).is_none());
        let counters = queue.host.nic.counters();
        prop_assert_eq!((counters.rx_frames, counters.rx_completions, counters.drops.received()), (sent, sent, 0));
        prop_assert_eq!(&counters.misuse, &crate::counters::Misuse::default());
        prop_assert_eq!(counters.resync_requests, queue.host.nic.offload_counters().requests);
    }
}

#[test]
fn a_resync_through_the_rings() {
    let mut queue = Offloaded::with(Behaviour::default(), true, false);
    (0..4).for_each(|tag| queue.bind(tag));
    // Headers at 0, 1028, 2056, 3084.
    let (stream, _) = reads(&[(0, 1000), (1, 1000), (2, 1000), (3, 1000)], true);
    let send = |queue: &mut Offloaded, from: usize, to: usize| {
        let frame = frame(from, &stream[from..to]);
        let received = queue.receive_cqe(&frame);
        assert_eq!(received.whole, frame);
        received
    };
    assert_eq!(send(&mut queue, 0, 800).placed, 776);
    let request = send(&mut queue, 2000, 2600);
    let header = START.wrapping_add(2056);
    assert_eq!((request.placed, request.resync), (0, Some(header)));
    assert!(!request.cqe.is_set(OffloadCqe::CQE64_B1_NVMEOTCP_ZC));
    assert!(!request.cqe.is_set(OffloadCqe::CQE64_B1_NVMEOTCP_DDGST));
    let late = send(&mut queue, 800, 2000);
    assert_eq!((late.placed, late.resync), (0, None));
    queue.confirm(header, true);
    let resumed = send(&mut queue, 2600, 3500);
    assert_eq!(resumed.placed, 3500 - 3084 - 24);
    assert!(!resumed.cqe.is_set(OffloadCqe::CQE64_B1_NVMEOTCP_DDGST));
    let last = send(&mut queue, 3500, 4112);
    assert!(last.cqe.is_set(OffloadCqe::CQE64_B1_NVMEOTCP_DDGST));
    assert_eq!(queue.buffer(3)[..1000], bytes(1000, 3));
    let counters = queue.host.nic.counters();
    assert_eq!((counters.resync_requests, counters.work_requests.static_params), (1, 2));
}

#[test]
fn an_unusable_tag_can_fail_the_queue() {
    let behaviour = Behaviour { free_key: Reaction::ErrorCqe, ..Behaviour::default() };
    let mut queue = Offloaded::with(behaviour, false, false);
    queue.host.post_receives(&mut queue.rq, 2, 2048);
    queue.host.nic.receive(&frame(0, &c2h_data(0, 0, &bytes(500, 1), false)));
    let error = ErrCqe::from_prefix(&queue.host.next_cqe(&mut queue.cq).unwrap()[64..]);
    assert_eq!((error.get(ErrCqe::OP_OWN_OPCODE), error.get(ErrCqe::VENDOR_ERR_SYND)), (0xe, 0x85));
    let flushed = ErrCqe::from_prefix(&queue.host.next_cqe(&mut queue.cq).unwrap()[64..]);
    assert_eq!((flushed.get(ErrCqe::OP_OWN_OPCODE), flushed.get(ErrCqe::SYNDROME)), (0xe, 5));
    assert_eq!(queue.host.nic.counters().drops.queue_error, 1);
}

#[test]
fn hlen_counts_the_stripped_tag_or_not() {
    for (vlan_hlen, hlen) in [(VlanHlen::AsStored, 78), (VlanHlen::AsOnWire, 82)] {
        let mut queue = Offloaded::with(Behaviour { vlan_hlen, ..Behaviour::default() }, false, true);
        queue.bind(0);
        let pdu = c2h_data(0, 0, &bytes(900, 4), false);
        queue.host.post_receives(&mut queue.rq, 1, 2048);
        queue.host.nic.receive(&Build { vlans: vec![(false, 7)], ..Build::tcp(START, &pdu) }.frame());
        let cqe = OffloadCqe::from_prefix(&queue.host.next_cqe(&mut queue.cq).unwrap());
        assert_eq!((cqe.get(OffloadCqe::HLEN), cqe.get(OffloadCqe::CCLEN)), (hlen, 900));
    }
}

#[test]
fn fields_without_a_flag_are_noise() {
    let mut queue = Offloaded::with(Behaviour { first_half: FirstHalf::Noise, ..Behaviour::default() }, false, false);
    queue.bind(1);
    let mut halves = Vec::new();
    let (stream, _) = reads(&[(0, 400), (1, 400), (0, 400)], false);
    for from in (0..stream.len()).step_by(424) {
        let received = queue.receive_cqe(&frame(from, &stream[from..from + 424]));
        halves.push((received.placed, received.cqe.bytes()[..64].to_vec()));
    }
    let [first, placed, last] = &halves[..] else { panic!() };
    assert_eq!((first.0, placed.0, last.0), (0, 400, 0));
    assert!(first.1 != last.1 && first.1.iter().filter(|byte| **byte != 0).count() > 48);
}

#[test]
fn a_binding_waits_for_simulated_time() {
    let time = Duration::from_micros(10);
    let mut queue = Offloaded::with(Behaviour { umr_time: time, ..Behaviour::default() }, false, false);
    queue.host.nic.advance(Duration::from_secs(1));
    queue.bind(0);
    let (stream, _) = reads(&[(0, 1000)], false);
    let mut at = 24;
    assert_eq!(queue.receive_cqe(&frame(0, &stream[..at])).placed, 0);
    for (now, placed) in [(0, 0), (9, 0), (10, 100), (10, 100)] {
        queue.host.nic.advance(Duration::from_secs(1) + Duration::from_micros(now));
        assert_eq!(queue.receive_cqe(&frame(at, &stream[at..at + 100])).placed, placed, "{now} us");
        at += 100;
    }
    queue.unbind(0);
    assert_eq!(queue.receive_cqe(&frame(at, &stream[at..at + 100])).placed, 0);
}
