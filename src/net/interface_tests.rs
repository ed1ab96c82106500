//! | property | test |
//! |---|---|
//! | smoltcp reads every frame we build, checksums included, and we read it back | `smoltcp_reads_the_frames_we_build` |
//! | any bytes, any claimed length: no panic, and payload never reaches beyond the frame | `any_frame_is_classified` |
//! | each reason to drop is found and counted | `each_reason_to_drop_is_counted` |
//! | padding of a short frame is not payload; a frame cut short is dropped | `padding_is_not_payload` |
//! | a flipped bit anywhere in a segment is found by the checksum | `a_flipped_bit_is_found` |
//! | ARP: we ask, learn, answer, and remember who asked | `arp_asks_learns_and_answers` |
//! | who is off the link is reached by the gateway, or not at all | `off_link_goes_to_the_gateway` |
//! | configurations that cannot work are refused | `bad_configurations_are_refused` |
use super::*;
use crate::tcp::testing::Bytes;
use crate::tcp::{Flags, Payload};
use proptest::collection::vec;
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{ArpPacket, EthernetFrame, Ipv4Packet, Ipv4Repr, TcpPacket, TcpRepr};

const NOW: Duration = Duration::from_secs(5);
const US: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

fn config(mac: MacAddr, ip: Ipv4Addr) -> InterfaceConfig {
    InterfaceConfig { mac, ip, prefix_len: 24, gateway: None, mtu: 1500 }
}

/// Two interfaces; the second has resolved the first.
fn pair() -> (Interface, Interface) {
    let us = Interface::new(config(OUR_MAC, US)).unwrap();
    let mut peer = Interface::new(config(PEER_MAC, PEER)).unwrap();
    peer.neighbors.learn(US.into(), OUR_MAC, true, NOW);
    (us, peer)
}

fn tuple_of_peer() -> FourTuple {
    FourTuple { local: PEER.into(), local_port: 4420, remote: US.into(), remote_port: 50000 }
}

/// A whole frame from the peer to us.
fn frame(peer: &mut Interface, header: &tcp::Header, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; super::super::HEADROOM];
    let (a, b) = payload.split_at(payload.len() / 3);
    let len = peer.emit_tcp(NOW, &tuple_of_peer(), header, [a, b], Checksum::Software, &mut frame).unwrap();
    frame.truncate(len);
    frame.extend_from_slice(payload);
    frame
}

fn some_header() -> tcp::Header {
    tcp::Header { seq: 1, ack: 2, flags: Flags::ACK | Flags::PSH, window: 3, ..Default::default() }
}

fn receive(us: &mut Interface, frame: &[u8]) -> Received {
    us.receive(NOW, frame.len() as u32, frame, Checksum::Software)
}

proptest! {
    #[test]
    fn smoltcp_reads_the_frames_we_build(
        seq in any::<u32>(), ack in any::<u32>(), window in any::<u16>(), ts in any::<Option<(u32, u32)>>(),
        payload in vec(any::<u8>(), 0..200), copied in 0usize..300,
    ) {
        let (mut us, mut peer) = pair();
        let mut header = tcp::Header { seq, ack, window, ..some_header() };
        header.options.timestamps = ts.map(|(value, echo)| tcp::Timestamps { value, echo });
        let frame = frame(&mut peer, &header, &payload);

        let ethernet = EthernetFrame::new_checked(&frame[..]).unwrap();
        let ip = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
        let ip_repr = Ipv4Repr::parse(&ip, &ChecksumCapabilities::default()).unwrap();
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        let (source, destination) = (ip_repr.src_addr.into(), ip_repr.dst_addr.into());
        let repr = TcpRepr::parse(&tcp, &source, &destination, &ChecksumCapabilities::default()).unwrap();
        prop_assert_eq!(repr.payload, &payload[..]);

        // All of the frame, or as much as the headers need.
        let copied = copied.max(super::super::HEADROOM).min(frame.len());
        let received = us.receive(NOW, frame.len() as u32, &frame[..copied], Checksum::Software);
        let Received::Tcp(found) = received else { panic!("{received:?}") };
        prop_assert_eq!(found.header, header);
        prop_assert_eq!((found.tuple.local_port, found.tuple.remote_port), (50000, 4420));
        prop_assert_eq!((found.tuple.local, found.tuple.remote), (IpAddr::V4(US), IpAddr::V4(PEER)));
        let mut bytes = Bytes::new(&frame);
        found.trim(&mut bytes);
        prop_assert_eq!(bytes.to_vec(), payload);
        prop_assert!(us.verify_tcp(&found, [&frame[found.l4_offset as usize..]]));
    }

    #[test]
    fn any_frame_is_classified(
        mut bytes in vec(any::<u8>(), 0..150), plausible in 0u8..4, frame_len in 0u32..200, ihl in 5u8..16,
    ) {
        let (mut us, _) = pair();
        if plausible > 0 && bytes.len() >= 54 {
            bytes[..6].copy_from_slice(&OUR_MAC.0);
            (bytes[12], bytes[13]) = (8, if plausible == 1 { 6 } else { 0 });
            if plausible > 1 {
                (bytes[14], bytes[16], bytes[20], bytes[21], bytes[23]) = (0x40 | ihl, 0, 0x40, 0, 6);
                bytes[26..30].copy_from_slice(&PEER.octets());
                bytes[30..34].copy_from_slice(&US.octets());
            }
            if plausible > 2 {
                let at = 14 + usize::from(ihl) * 4 + 12;
                if at < bytes.len() {
                    bytes[at] = 0x50;
                }
            }
        }
        match us.receive(NOW, frame_len, &bytes, Checksum::Device) {
            Received::Tcp(found) => {
                prop_assert!(found.payload_offset + found.payload_len <= frame_len);
                prop_assert_eq!(us.counters().tcp_in, 1);
            }
            Received::Arp => prop_assert_eq!(us.counters().arp_in, 1),
            Received::Dropped(why) => {
                let mut expected = Counters { arp_conflicts: us.counters().arp_conflicts, ..Counters::default() };
                expected.dropped.count(why);
                prop_assert_eq!(*us.counters(), expected);
            }
        }
    }
}

#[test]
fn each_reason_to_drop_is_counted() {
    let (mut us, mut peer) = pair();
    let good = frame(&mut peer, &some_header(), b"payload");
    assert!(matches!(receive(&mut us, &good), Received::Tcp(_)));
    let fix = |bytes: &mut [u8]| {
        bytes[24..26].fill(0);
        let mut sum = Sum::default();
        sum.add(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&sum.finish().to_be_bytes());
    };
    type Change = fn(&mut Vec<u8>);
    let changes: [(DropReason, Change); 12] = [
        (DropReason::Truncated, |f| f.truncate(13)),
        (DropReason::Truncated, |f| f.truncate(60)),
        (DropReason::OtherStation, |f| f[5] = 9),
        (DropReason::EtherType, |f| f[12] = 0x81),
        (DropReason::Ipv4, |f| f[14] = 0x65),
        (DropReason::Ipv4, |f| f[17] = 19),
        (DropReason::Fragment, |f| f[20] = 0x20),
        (DropReason::Fragment, |f| f[21] = 1),
        (DropReason::OtherHost, |f| f[33] = 9),
        (DropReason::OtherHost, |f| f[26] = 224),
        (DropReason::Protocol, |f| f[23] = 17),
        (DropReason::Tcp, |f| f[46] = 0x40),
    ];
    for (why, change) in changes {
        let mut bytes = good.clone();
        change(&mut bytes);
        if bytes.len() >= 34 {
            fix(&mut bytes);
        }
        let before = *us.counters();
        assert_eq!(receive(&mut us, &bytes), Received::Dropped(why));
        let mut expected = before;
        expected.dropped.count(why);
        assert_eq!(*us.counters(), expected);
    }
    let mut bytes = good.clone();
    bytes[24] ^= 1;
    assert_eq!(receive(&mut us, &bytes), Received::Dropped(DropReason::Ipv4Checksum));
    // The data offset reaches beyond the packet, although the frame is padded.
    let mut bytes = frame(&mut peer, &some_header(), b"");
    bytes[46] = 0xf0;
    bytes.resize(100, 0);
    assert_eq!(receive(&mut us, &bytes), Received::Dropped(DropReason::Tcp));
    // The caller copied less than the headers.
    assert_eq!(
        us.receive(NOW, good.len() as u32, &good[..50], Checksum::Device),
        Received::Dropped(DropReason::Truncated)
    );
}

#[test]
fn padding_is_not_payload() {
    let (mut us, mut peer) = pair();
    let mut bytes = frame(&mut peer, &some_header(), b"abc");
    bytes.resize(60, 0xee);
    let Received::Tcp(found) = receive(&mut us, &bytes) else { panic!() };
    assert_eq!((found.payload_offset, found.payload_len), (54, 3));
    let mut payload = Bytes::new(&bytes);
    found.trim(&mut payload);
    assert_eq!(payload.to_vec(), b"abc");
    assert_eq!(payload.len(), 3);
    assert!(us.verify_tcp(&found, [&bytes[34..57]]));
    assert_eq!(us.receive(NOW, 56, &bytes, Checksum::Software), Received::Dropped(DropReason::Truncated));
}

#[test]
fn a_flipped_bit_is_found() {
    let (mut us, mut peer) = pair();
    let good = frame(&mut peer, &some_header(), b"some payload bytes");
    let Received::Tcp(found) = receive(&mut us, &good) else { panic!() };
    assert!(us.verify_tcp(&found, [&good[34..41], &good[41..]]));
    for bit in 34 * 8..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!us.verify_tcp(&found, [&bytes[34..]]), "bit {bit}");
    }
    assert_eq!(us.counters().dropped.get(DropReason::TcpChecksum), ((good.len() - 34) * 8) as u64);
}

#[test]
fn arp_asks_learns_and_answers() {
    let mut us = Interface::new(config(OUR_MAC, US)).unwrap();
    let mut peer = Interface::new(config(PEER_MAC, PEER)).unwrap();
    let mut bytes = [0; arp::FRAME_LEN];
    assert_eq!(us.poll_tx(NOW, &mut bytes), None);
    assert_eq!(us.resolve(NOW, PEER.into()), Resolution::Pending);
    assert_eq!(us.poll_tx(NOW, &mut bytes), Some(42));
    assert_eq!(us.poll_tx(NOW, &mut [0; 42]), None);
    assert_eq!(us.next_deadline(), Some(NOW + Duration::from_secs(1)));
    assert!(ArpPacket::new_checked(&bytes[14..]).is_ok());

    assert_eq!(receive(&mut peer, &bytes), Received::Arp);
    // Who asked for us is known without asking.
    assert_eq!(peer.resolve(NOW, US.into()), Resolution::Ready(OUR_MAC));
    assert_eq!(peer.poll_tx(NOW, &mut bytes), Some(42));
    assert_eq!(receive(&mut us, &bytes), Received::Arp);
    assert_eq!(us.resolve(NOW, PEER.into()), Resolution::Ready(PEER_MAC));

    // Somebody else with our address.
    bytes[28..32].copy_from_slice(&US.octets());
    assert_eq!(receive(&mut us, &bytes), Received::Dropped(DropReason::Arp));
    assert_eq!(us.counters().arp_conflicts, 1);
    // A request for us, over and over: a bounded number of answers waits.
    assert_eq!(peer.resolve(NOW, Ipv4Addr::new(10, 0, 0, 77).into()), Resolution::Pending);
    peer.poll_tx(NOW, &mut bytes).unwrap();
    bytes[38..42].copy_from_slice(&US.octets());
    (0..20).for_each(|_| assert_eq!(receive(&mut us, &bytes), Received::Arp));
    assert_eq!(std::iter::from_fn(|| us.poll_tx(NOW, &mut bytes)).count(), REPLIES);
    assert_eq!(us.counters().arp_replies_skipped, 4);
}

#[test]
fn off_link_goes_to_the_gateway() {
    let far = Ipv4Addr::new(192, 0, 2, 1);
    let mut us = Interface::new(config(OUR_MAC, US)).unwrap();
    assert_eq!(us.resolve(NOW, far.into()), Resolution::Unreachable);
    assert_eq!(us.resolve(NOW, US.into()), Resolution::Unreachable);
    assert_eq!(us.resolve(NOW, "::1".parse().unwrap()), Resolution::Unreachable);
    let mut us = Interface::new(InterfaceConfig { gateway: Some(PEER), ..config(OUR_MAC, US) }).unwrap();
    assert_eq!(us.resolve(NOW, far.into()), Resolution::Pending);
    let mut bytes = [0; arp::FRAME_LEN];
    us.poll_tx(NOW, &mut bytes).unwrap();
    assert_eq!(Packet::parse(&bytes[14..]).unwrap().target_ip, PEER);
    let tuple = FourTuple { local: US.into(), local_port: 1, remote: far.into(), remote_port: 2 };
    let mut out = [0; super::super::HEADROOM];
    let emit = |us: &mut Interface, tuple: &FourTuple, payload: &[u8], out: &mut [u8]| {
        us.emit_tcp(NOW, tuple, &some_header(), [payload, &[]], Checksum::Device, out)
    };
    assert_eq!(emit(&mut us, &tuple, &[], &mut out), Err(EmitError::Pending));
    us.neighbors.learn(PEER.into(), PEER_MAC, false, NOW);
    assert_eq!(emit(&mut us, &tuple, &[], &mut out), Ok(54));
    assert_eq!(out[..6], PEER_MAC.0);
    assert_eq!(out[50..52], [0, 0], "the device fills the checksum in");
    assert!(matches!(emit(&mut us, &tuple, &[], &mut out[..53]), Err(EmitError::Buffer(_))));
    assert_eq!(emit(&mut us, &tuple, &[0; 1461], &mut out), Err(EmitError::TooLong { len: 1501, mtu: 1500 }));
    assert_eq!(emit(&mut us, &tuple, &[0; 1460], &mut out), Ok(54));
    let other = FourTuple { local: PEER.into(), ..tuple };
    assert_eq!(emit(&mut us, &other, &[], &mut out), Err(EmitError::Address));
}

#[test]
fn bad_configurations_are_refused() {
    let good = config(OUR_MAC, US);
    let far = Ipv4Addr::new(10, 0, 1, 1);
    let cases = [
        (InterfaceConfig { mac: MacAddr::BROADCAST, ..good }, InterfaceError::Mac(MacAddr::BROADCAST)),
        (InterfaceConfig { ip: Ipv4Addr::UNSPECIFIED, ..good }, InterfaceError::Ip(Ipv4Addr::UNSPECIFIED)),
        (InterfaceConfig { prefix_len: 33, ..good }, InterfaceError::PrefixLen(33)),
        (InterfaceConfig { mtu: 575, ..good }, InterfaceError::Mtu(575)),
        (InterfaceConfig { gateway: Some(far), ..good }, InterfaceError::Gateway(far)),
    ];
    for (config, error) in cases {
        assert_eq!(Interface::new(config).unwrap_err(), error);
    }
    let all = Interface::new(InterfaceConfig { prefix_len: 0, gateway: Some(far), ..good }).unwrap();
    assert_eq!(all.mss(), 1460);
}
