//! | property | test |
//! |---|---|
//! | headers, payload and padding are told apart whatever tags, options and versions there are | `every_frame_is_parsed_as_it_was_built` |
//! | the checksums that are filled in are those of another implementation | `filled_checksums_satisfy_smoltcp` |
//! | what a checksum field held before makes no difference | `filling_checksums_ignores_what_was_there` |
//! | one wrong bit in a segment or header is noticed | `a_flipped_bit_is_never_good` |
//! | `check_sum` is the plain sum of the bytes from L3 on, padding included | `the_sum_is_that_of_all_bytes_from_l3_on` |
//! | arbitrary and cut-off bytes never panic, and ranges stay inside the frame | `nothing_from_the_wire_panics` |
//! | a fragment has no transport layer, an atomic IPv6 fragment has | `fragments_have_no_transport` |
//! | a UDP checksum of zero is sent as all ones, and a received zero means none | `udp_zero_checksum` |
//! | the CQE's header bytes name what was parsed | `cqe_bytes_name_the_headers` |
use super::build::Build;
use super::*;
use proptest::prelude::*;
use smoltcp::wire::{IpAddress, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket};

fn build() -> impl Strategy<Value = Build> {
    let vlans = proptest::collection::vec((any::<bool>(), any::<u16>()), 0..3);
    let headers = (any::<bool>(), 0usize..4, any::<bool>(), 0usize..11, any::<[u8; 16]>(), any::<[u8; 16]>());
    let bytes = || proptest::collection::vec(any::<u8>(), 0..80);
    (vlans, headers, any::<(u16, u16, u32)>(), 0u16..0x200, bytes(), bytes()).prop_map(
        |(vlans, (v6, ip_options, tcp, tcp_options, src, dst), (src_port, dst_port, seq), flags, payload, padding)| {
            let protocol = if tcp { PROTOCOL_TCP } else { PROTOCOL_UDP };
            Build {
                vlans,
                v6,
                src,
                dst,
                ip_options,
                protocol,
                src_port,
                dst_port,
                seq,
                flags,
                tcp_options,
                payload,
                padding,
                ..Build::default()
            }
        },
    )
}

/// Sum by the book: one 16-bit word after the other, end-around carry at each.
fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | word.get(1).copied().map_or(0, u32::from);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

proptest! {
    #[test]
    fn every_frame_is_parsed_as_it_was_built(b in build()) {
        let frame = b.frame();
        let p = Packet::parse(&frame).unwrap();
        prop_assert_eq!(p.dmac, &b.dmac);
        prop_assert_eq!(p.vlan, b.vlans.first().map(|(service, tci)| Vlan { service: *service, tci: *tci }));
        let ip = p.ip.unwrap();
        prop_assert_eq!(ip.options, b.ip_options > 0);
        prop_assert_eq!((ip.protocol, ip.fragment), (b.protocol, false));
        match ip.address {
            Address::V4 { src, dst } => {
                prop_assert!(!b.v6);
                prop_assert_eq!((&src[..], &dst[..]), (&b.src[..4], &b.dst[..4]));
            }
            Address::V6 { src, dst } => {
                prop_assert!(b.v6);
                prop_assert_eq!((src, dst), (&b.src, &b.dst));
            }
        }
        let t = p.transport.unwrap();
        prop_assert_eq!((t.src_port, t.dst_port), (b.src_port, b.dst_port));
        prop_assert_eq!(t.tcp.map(|t| (t.seq, t.flags)), (b.protocol == PROTOCOL_TCP).then_some((b.seq, b.flags)));
        prop_assert_eq!(p.payload.start, b.header_len());
        prop_assert_eq!(p.payload_bytes(), &b.payload[..]);
        prop_assert_eq!(p.ok_bits(), 7);
    }

    #[test]
    fn filled_checksums_satisfy_smoltcp(b in build()) {
        let frame = b.frame();
        let l3 = &frame[14 + 4 * b.vlans.len()..];
        let (l4, src, dst): (&[u8], IpAddress, IpAddress) = if b.v6 {
            let ip = Ipv6Packet::new_checked(l3).unwrap();
            let end = 40 + usize::from(ip.payload_len());
            (&l3[40 + 8 * b.ip_options..end], ip.src_addr().into(), ip.dst_addr().into())
        } else {
            let ip = Ipv4Packet::new_checked(l3).unwrap();
            prop_assert!(ip.verify_checksum());
            let range = usize::from(ip.header_len())..usize::from(ip.total_len());
            (&l3[range], ip.src_addr().into(), ip.dst_addr().into())
        };
        if b.protocol == PROTOCOL_TCP {
            prop_assert!(TcpPacket::new_checked(l4).unwrap().verify_checksum(&src, &dst));
        } else {
            prop_assert!(UdpPacket::new_checked(l4).unwrap().verify_checksum(&src, &dst));
        }
    }

    #[test]
    fn filling_checksums_ignores_what_was_there(b in build(), junk in any::<u16>()) {
        let good = b.frame();
        let mut frame = good.clone();
        let p = Packet::parse(&good).unwrap();
        let (ip, t) = (p.ip.unwrap(), p.transport.unwrap());
        let field = t.offset + if t.tcp.is_some() { 16 } else { 6 };
        frame[field..field + 2].copy_from_slice(&junk.to_be_bytes());
        if !b.v6 {
            frame[ip.offset + 10..ip.offset + 12].copy_from_slice(&junk.to_be_bytes());
        }
        prop_assert!(fill_checksums(&mut frame, !b.v6, true));
        prop_assert_eq!(frame, good);
    }

    #[test]
    fn a_flipped_bit_is_never_good(b in build(), bit in any::<prop::sample::Index>()) {
        let mut frame = b.frame();
        let l3 = 14 + 4 * b.vlans.len();
        let end = b.header_len() + b.payload.len();
        // Bytes that no checksum covers: an IPv6 header up to its addresses, and extension headers.
        let uncovered = if b.v6 { (l3..l3 + 8).chain(l3 + 40..l3 + 40 + 8 * b.ip_options) } else { (0..0).chain(0..0) };
        let covered: Vec<usize> = (l3..end).filter(|at| !uncovered.clone().any(|u| u == *at)).collect();
        let bit = bit.index(covered.len() * 8);
        frame[covered[bit / 8]] ^= 1 << (bit % 8);
        let p = Packet::parse(&frame).unwrap();
        // A UDP checksum that became zero over IPv4 says "none": the one case that no receiver can notice.
        let silenced = p.transport.is_some_and(|t| t.checksum == Checksum::Absent);
        prop_assert!(silenced || !(p.l3_ok() && p.l4_ok()));
    }

    #[test]
    fn the_sum_is_that_of_all_bytes_from_l3_on(b in build()) {
        let frame = b.frame();
        let sum = Packet::parse(&frame).unwrap().sum;
        let naive = naive_sum(&frame[14 + 4 * b.vlans.len()..]);
        // Both are sums modulo 0xffff; zero and 0xffff are the same number.
        prop_assert_eq!(sum % 0xffff, naive % 0xffff);
    }

    #[test]
    fn nothing_from_the_wire_panics(
        b in build(),
        noise in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        raw in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let mut frame = b.frame();
        noise.iter().for_each(|(at, byte)| { let at = at.index(frame.len()); frame[at] = *byte });
        frame.truncate(cut.index(frame.len() + 1));
        for mut frame in [frame, raw] {
            match Packet::parse(&frame) {
                Err(Runt(len)) => prop_assert!(len < 14),
                Ok(p) => {
                    prop_assert!(p.payload.start <= p.payload.end && p.payload.end <= frame.len());
                    p.header_type(true);
                }
            }
            fill_checksums(&mut frame, true, true);
        }
    }
}

#[test]
fn fragments_have_no_transport() {
    for (v6, field, whole) in
        [(false, 0x2000, false), (false, 0x0010, false), (true, 0x0001, false), (true, 0x0010, false), (true, 0, true)]
    {
        let frame = Build { v6, fragment: Some(field), payload: vec![1; 16], ..Build::default() }.frame();
        let p = Packet::parse(&frame).unwrap();
        assert_eq!(p.ip.unwrap().fragment, !whole, "{v6} {field:#x}");
        assert_eq!(p.transport.is_some(), whole, "{v6} {field:#x}");
        assert_eq!(p.payload.is_empty(), !whole);
        assert!(whole || !p.l4_ok());
    }
}

#[test]
fn udp_zero_checksum() {
    let mut b = Build { protocol: PROTOCOL_UDP, payload: vec![0, 0], ..Build::default() };
    // Make the sum of everything else all ones, so that the computed checksum is zero.
    let frame = b.frame();
    let sum = u16::from_be_bytes([frame[40], frame[41]]);
    b.payload = sum.to_be_bytes().to_vec();
    let mut frame = b.frame();
    assert_eq!(frame[40..42], [0xff, 0xff]);
    assert_eq!(Packet::parse(&frame).unwrap().transport.unwrap().checksum, Checksum::Good);
    frame[40..42].fill(0);
    let p = Packet::parse(&frame).unwrap();
    assert_eq!(p.transport.unwrap().checksum, Checksum::Absent);
    assert!(p.l4_ok());
}

#[test]
fn cqe_bytes_name_the_headers() {
    let kind = |b: Build, stripped| Packet::parse(&b.frame()).unwrap().header_type(stripped);
    let data = vec![1, 2, 3];
    // [7] fragment, [6:4] L4, [3:2] L3, [1] options, [0] VLAN stripped.
    assert_eq!(kind(Build { payload: data.clone(), ..Build::default() }, false), 4 << 4 | 2 << 2);
    assert_eq!(kind(Build::default(), true), 3 << 4 | 2 << 2 | 1);
    assert_eq!(kind(Build { flags: tcp_flag::SYN, v6: true, ..Build::default() }, false), 1 << 4 | 1 << 2);
    assert_eq!(kind(Build { protocol: PROTOCOL_UDP, ip_options: 1, ..Build::default() }, false), 2 << 4 | 2 << 2 | 2);
    assert_eq!(kind(Build { fragment: Some(0x2000), ..Build::default() }, false), 1 << 7 | 2 << 2);
    let mut frame = Build::default().frame();
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    let arp = Packet::parse(&frame).unwrap();
    assert_eq!((arp.header_type(false), arp.ok_bits()), (0, 1));
}
