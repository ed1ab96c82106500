//! | property | test |
//! |---|---|
//! | a FIN that was lost is sent again until the peer has it, while the owner is long gone | `a_lost_fin_is_sent_again` |
//! | after a lost FIN nobody who is silent is waited for for ever | `closing_without_a_peer_ends` |
//! | a late segment of a connection that is over gets a reset, a stranger's gets nothing | `a_late_segment_gets_a_reset` |
//! | a reset in the middle of reads: they fail, buffers come back, and it is said what it was | `a_reset_fails_what_is_under_way` |
//! | the same when the peer closes | `a_peer_that_closes_fails_what_is_under_way` |
//! | a peer that stops answering is noticed in time | `a_silent_target_is_given_up` |
//! | out-of-order packets that are held when the connection ends go back to the pool | `held_packets_come_back` |
//! | nobody answers ARP, SYN is lost, nobody listens: each ends soon and says what it was | `a_connection_that_cannot_be_says_why` |
//! | closing before TCP is connected ends at once | `closing_early_ends_at_once` |
//! | closing with requests under way lets them finish | `closing_waits_for_requests` |
//! | on a wire that loses packets, whenever connections are closed or their peers reset them, nothing is lost but time | `a_lossy_wire_costs_time_only` |
//! | a protocol error is told to the peer, also behind a window that stays closed, and nobody waits for ever | `last_words_do_not_hold_the_end_up` |
use super::world::{Wire, World, lost, passes};
use crate::shard::Disconnect;
use nvme_target::script::{At, Fault, Kind, On};
use proptest::prelude::*;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, TcpPacket};
use std::cell::Cell;
use std::net::SocketAddrV4;
use std::rc::Rc;
use std::time::Duration;

/// Looks at the TCP segment in a frame.
fn tcp<T>(frame: &[u8], look: impl FnOnce(&TcpPacket<&[u8]>) -> T) -> Option<T> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    if ip.next_header() != IpProtocol::Tcp {
        return None;
    }
    Some(look(&TcpPacket::new_checked(ip.payload()).ok()?))
}

fn is_fin(frame: &[u8]) -> bool {
    tcp(frame, |segment| segment.fin()).unwrap_or(false)
}

fn is_reset(frame: &[u8]) -> bool {
    tcp(frame, |segment| segment.rst()).unwrap_or(false)
}

/// The frame with a closed window.
fn close_window(mut frame: Vec<u8>) -> Vec<u8> {
    if tcp(&frame, |segment| !segment.syn()) == Some(true) {
        let mut ip = Ipv4Packet::new_unchecked(&mut frame[14..]);
        let (source, destination) = (IpAddress::Ipv4(ip.src_addr()), IpAddress::Ipv4(ip.dst_addr()));
        let mut segment = TcpPacket::new_unchecked(ip.payload_mut());
        segment.set_window_len(0);
        segment.fill_checksum(&source, &destination);
    }
    frame
}

fn fault(at: At, kind: Kind) -> Fault {
    Fault { on: On::Queue(1), at, kind }
}

#[test]
fn a_lost_fin_is_sent_again() {
    let mut world = World::new();
    let admin = world.admin();
    let id = world.io(admin, 1, 4, true);
    let fins = Rc::new(Cell::new(0));
    let count = Rc::clone(&fins);
    world.to_target = Box::new(move |frame| {
        let fin = is_fin(&frame);
        count.set(count.get() + u32::from(fin));
        (!fin || count.get() > 3).then_some(frame)
    });
    world.close_all(&[id]);
    assert_eq!(world.shard.closing(), 1, "the owner is told at once, TCP goes on");
    let errors = world.target.errors();
    assert!(errors.is_empty(), "{errors:?}");
    world.until("the FIN to arrive", 20, |_| fins.get() >= 4);
    // Both sides have closed: TIME-WAIT, and its end.
    world.until("the end of TIME-WAIT", 90, |world| world.shard.closing() == 0);
    world.close_all(&[admin]);
    world.close_clean();
}

#[test]
fn closing_without_a_peer_ends() {
    let mut world = World::new();
    let admin = world.admin();
    let id = world.io(admin, 1, 4, true);
    (world.to_target, world.to_host) = (lost(), lost());
    world.close_all(&[id]);
    assert_eq!(world.shard.closing(), 1);
    world.until("TCP to give up", 130, |world| world.shard.closing() == 0);
    world.shard.close_connection(admin);
    let why = world.expect_end(admin, 60);
    assert!(why.contains("not completed within") || why.contains("acknowledgment"), "{why}");
    world.until("TCP to give up", 130, |world| world.shard.closing() == 0);
    world.close_clean();
}

#[test]
fn a_late_segment_gets_a_reset() {
    let mut world = World::new();
    let admin = world.admin();
    let id = world.io(admin, 1, 4, true);
    world.read(id, 0, 8);
    world.until("the read", 5, |world| world.is_done(0));
    let late = world.heard.iter().rev().find(|frame| tcp(frame, |s| !s.payload().is_empty()) == Some(true));
    let late = late.expect("data").clone();
    world.close_all(&[id]);
    world.until("the end of TIME-WAIT", 90, |world| world.shard.closing() == 0);
    let resets = Rc::new(Cell::new(0));
    let count = Rc::clone(&resets);
    world.to_target = Box::new(move |frame| {
        count.set(count.get() + u32::from(is_reset(&frame)));
        Some(frame)
    });
    world.platform.nic().receive(&late);
    world.run_for(Duration::from_millis(100));
    let counters = world.shard.counters();
    assert_eq!((resets.get(), counters.resets, counters.no_connection), (1, 1, 1));
    // The same from a port that never had a connection here.
    let mut strange = late.clone();
    let mut ip = Ipv4Packet::new_unchecked(&mut strange[14..]);
    let (source, destination) = (IpAddress::Ipv4(ip.src_addr()), IpAddress::Ipv4(ip.dst_addr()));
    let mut segment = TcpPacket::new_unchecked(ip.payload_mut());
    segment.set_src_port(9);
    segment.fill_checksum(&source, &destination);
    world.platform.nic().receive(&strange);
    world.run_for(Duration::from_millis(100));
    assert_eq!((resets.get(), world.shard.counters().no_connection), (1, 2));
    // And no more than a peer can need.
    for _ in 0..200 {
        world.platform.nic().receive(&late);
    }
    world.run_for(Duration::from_millis(100));
    assert!(resets.get() <= 65 && resets.get() > 1, "{}", resets.get());
    world.close_all(&[admin]);
    world.close_clean();
}

fn fails_what_is_under_way(kind: Kind, expected: &str) {
    for offload in [true, false] {
        let mut world = World::with(&[fault(At::Data(1), kind)], |_| {});
        let admin = world.admin();
        let id = world.io(admin, 1, 4, offload);
        for token in 0..4 {
            world.read(id, token * 200, 128);
        }
        let why = world.expect_end(id, 30);
        assert_eq!(why, expected);
        assert_eq!(world.done.len(), 4, "completions come before the end");
        assert!(world.status_is_success(0) && !world.status_is_success(200));
        assert!(world.done.values().all(|completion| completion.buffer.is_some()));
        assert_eq!(world.shard.frames_held(), 0);
        // The index is free, and the queue can come back.
        let again = world.io(admin, 1, 4, offload);
        world.read(again, 5, 64);
        world.until("the read", 5, |world| world.is_done(5));
        assert!(world.status_is_success(5));
        world.close_all(&[again, admin]);
        world.close_clean();
    }
}

#[test]
fn a_reset_fails_what_is_under_way() {
    fails_what_is_under_way(Kind::Reset { after: 30_000 }, "TCP: connection reset by the peer");
}

#[test]
fn a_peer_that_closes_fails_what_is_under_way() {
    fails_what_is_under_way(Kind::Close { after: 30_000 }, "closed by the peer");
}

#[test]
fn a_silent_target_is_given_up() {
    let mut world = World::with(&[fault(At::Data(0), Kind::Stall { after: 30_000 })], |_| {});
    let admin = world.admin();
    let id = world.io(admin, 1, 4, true);
    world.read(id, 0, 128);
    let began = world.now();
    let why = world.expect_end(id, 30);
    assert!(why.contains("was not completed within 10s"), "{why}");
    assert!(world.now() - began < Duration::from_secs(11));
    assert_eq!(world.shard.frames_held(), 0);
    // The wire is cut for good: what is left ends by itself.
    (world.to_target, world.to_host) = (lost(), lost());
    world.abandon(admin);
    world.until("TCP to give up", 130, |world| world.shard.closing() == 0);
    world.close_clean();
}

#[test]
fn held_packets_come_back() {
    let mut world = World::new();
    let admin = world.admin();
    let id = world.io(admin, 1, 4, true);
    // The second full packet never arrives, however often it is sent; everything behind it does.
    let mut full = Vec::new();
    world.to_host = Box::new(move |frame| {
        let sequence = tcp(&frame, |segment| (segment.payload().len() > 1000).then_some(segment.seq_number().0))?;
        if let Some(sequence) = sequence.filter(|_| full.len() < 2) {
            full.push(sequence);
        }
        (full.len() < 2 || sequence != Some(full[1])).then_some(frame)
    });
    world.read(id, 0, 200);
    world.until("packets out of order", 5, |world| world.shard.frames_held() > 20);
    world.to_host = lost();
    world.expect_end(id, 60);
    assert_eq!(world.shard.frames_held(), 0);
    world.abandon(admin);
    world.until("TCP to give up", 130, |world| world.shard.closing() == 0);
    world.close_clean();
}

#[test]
fn a_connection_that_cannot_be_says_why() {
    let mut world = World::new();
    let config = world.controller_config();
    let began = world.now();
    let nobody = SocketAddrV4::new([192, 168, 44, 99].into(), 4420);
    let id = world.shard.connect_admin(nobody, config.clone()).expect("begun");
    let why = world.expect_end(id, 30);
    assert!(why.contains("192.168.44.99 cannot be reached"), "{why}");
    assert!(world.now() - began < Duration::from_secs(5));
    let far = SocketAddrV4::new([10, 1, 1, 1].into(), 4420);
    let id = world.shard.connect_admin(far, config.clone()).expect("begun");
    assert!(world.expect_end(id, 1).contains("no gateway"));
    let closed = SocketAddrV4::new(*world.address.ip(), 1);
    let id = world.shard.connect_admin(closed, config.clone()).expect("begun");
    assert!(world.expect_end(id, 5).contains("no one listens"));
    world.to_target = Box::new(|frame| (tcp(&frame, |_| ()).is_none()).then_some(frame));
    let id = world.shard.connect_admin(world.address, config).expect("begun");
    let began = world.now();
    let why = world.expect_end(id, 30);
    assert!(why.contains("an answer to SYN"), "{why}");
    assert!(world.now() - began < Duration::from_secs(11));
    assert_eq!(world.shard.closing(), 0, "there is nothing to close");
    world.close_clean();
}

#[test]
fn closing_early_ends_at_once() {
    let mut world = World::new();
    // Before the address is known, and before TCP has connected.
    for steps in 0..6 {
        let config = world.controller_config();
        let id = world.shard.connect_admin(world.address, config).expect("begun");
        for _ in 0..steps {
            world.step();
        }
        world.shard.close_connection(id);
        let began = world.now();
        assert_eq!(world.expect_end(id, 5), "closed");
        assert!(world.now() - began < Duration::from_millis(100));
    }
    world.close_clean();
}

#[test]
fn closing_waits_for_requests() {
    let mut world = World::new();
    let admin = world.admin();
    let id = world.io(admin, 1, 8, true);
    for token in 0..8 {
        world.read(id, token * 200, 200);
    }
    world.step();
    world.shard.close_connection(id);
    assert_eq!(world.expect_end(id, 10), "closed");
    assert_eq!(world.done.len(), 8);
    assert!((0..8).all(|token| world.status_is_success(token * 200)));
    world.close_all(&[admin]);
    world.close_clean();
}

#[test]
fn last_words_do_not_hold_the_end_up() {
    // Open window: the target hears what it did wrong.
    let mut world = World::with(&[fault(At::Data(0), Kind::DataOffset(200))], |_| {});
    let admin = world.admin();
    let id = world.io(admin, 1, 4, true);
    world.read(id, 0, 16);
    let why = world.expect_end(id, 5);
    assert!(matches!(world.why(id), Some(Disconnect::Protocol(_))), "{why}");
    world.run_for(Duration::from_secs(1));
    let heard = format!("{:?}", world.target.errors());
    assert!(heard.contains("Term"), "{heard}");
    world.close_all(&[admin]);
    world.close_clean();

    // A window that closes in front of a write and stays closed: TCP's buffer is full when the end comes.
    let mut world = World::with(&[], |config| config.tx_buffer = 4096);
    let admin = world.admin();
    let id = world.io(admin, 1, 4, false);
    world.to_host = Box::new(|frame| Some(close_window(frame)));
    world.write(id, 0, 15);
    world.write(id, 100, 15);
    let why = world.expect_end(id, 60);
    assert!(why.contains("was not completed within 10s"), "{why}");
    assert_eq!(world.done.len(), 2);
    world.until("TCP to give up", 130, |world| world.shard.closing() == 0);
    world.to_host = passes();
    world.close_all(&[admin]);
    world.close_clean();
}

/// A wire that loses one frame in `one_in`.
fn lossy(mut state: u64, one_in: u64) -> Wire {
    state |= 1;
    Box::new(move |frame| {
        // xorshift64: the seed decides.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (!(state >> 20).is_multiple_of(one_in)).then_some(frame)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn a_lossy_wire_costs_time_only(
        seed in any::<u64>(), one_in in 10u64..200, reset in prop::option::of(0u64..12), early in 0u64..30,
    ) {
        let faults: Vec<Fault> = reset.map(|n| fault(At::Data(n), Kind::Reset { after: 9_000 })).into_iter().collect();
        let mut world = World::with(&faults, |_| {});
        let admin = world.admin();
        let ids = [world.io(admin, 1, 8, true), world.io(admin, 2, 8, false), world.io(admin, 3, 8, true)];
        (world.to_target, world.to_host) = (lossy(seed, one_in), lossy(!seed, one_in));
        let mut begun = 0;
        for round in 0..early {
            for (n, &id) in ids.iter().enumerate() {
                let room = world.shard.queue(id).is_some_and(|queue| queue.is_ready() && queue.outstanding() < 6);
                if room && world.why(id).is_none() {
                    world.read(id, (round * 3 + n as u64) * 61, 1 + (seed >> 9) as u32 % 90);
                    begun += 1;
                }
            }
            world.run_for(Duration::from_micros(300));
        }
        ids.iter().for_each(|&id| world.shard.close_connection(id));
        for id in ids {
            world.expect_end(id, 120);
        }
        prop_assert_eq!(world.done.len(), begun);
        // A wire that loses every tenth packet may take longer for a command than the command may take.
        let in_order = ids.iter().all(|&id| matches!(world.why(id), Some(Disconnect::Closed)));
        let whole = world.done.values().all(|completion| completion.status.is_success());
        prop_assert!(whole || !in_order);
        let reasons = [Disconnect::Closed.to_string(), "TCP: connection reset by the peer".into()];
        for &id in &ids {
            let why = world.why(id).map(ToString::to_string).unwrap_or_default();
            prop_assert!(reasons.contains(&why) || why.contains("was not completed within 10s"), "{}", why);
        }
        world.shard.close_connection(admin);
        world.expect_end(admin, 120);
        world.until("TCP to be done", 200, |world| world.shard.closing() == 0);
        world.close_clean();
    }
}
