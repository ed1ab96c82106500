//! What the script does to the wire.
//!
//! | property | test |
//! |---|---|
//! | whatever the script, the host's stacks and digests, reads give the image | `reads_equal_the_image_whatever_the_script` |
//! | the same with frames lost in both directions | `reads_and_writes_survive_loss` |
//! | with `AlignPdus` no segment holds bytes of two PDUs, retransmissions included | `aligned_pdus_share_no_segment` |
//! | without it they do (so the test above can fail) | `unaligned_pdus_do_share_segments` |
//! | `Random` segmentation cuts headers too, within its bounds | `random_segments_keep_to_their_bounds` |
//! | every cut segment has right lengths and checksums | `cut_segments_have_right_checksums` |
//! | data sizes, order, interleaving and padding are as scripted | `sizes_are_as_scripted`, `answers_come_in_the_scripted_order`, `padding_is_as_scripted` |
//! | the same seed gives the same frames | `a_run_repeats_byte_for_byte` |
//! | every kind of fault is really emitted, at the PDU it is for | `every_fault_is_emitted` |
//! | a fault on something that was not negotiated does not count as happened | `a_fault_that_does_not_apply_does_not_happen` |
//! | a stalled, closed or reset connection leaves the others alone | `a_fault_on_one_queue_leaves_the_others_alone` |
mod host;

use host::*;
use nvme_target::script::{At, Fault, Gather, Kind, On, Order, Size, Success};
use nvme_target::{Config, Generated, Reason, Script, Segmentation, Target};
use proptest::prelude::*;
use smoltcp::wire::{EthernetFrame, IpAddress, Ipv4Packet, TcpPacket};
use std::collections::BTreeMap;
use std::time::Duration;

const SEED: u64 = 7;
const LEN: u64 = 16 << 20;

fn net_of(config: Config) -> Net {
    let mtu = config.mtu;
    Net::new(Target::new(config, Box::new(Generated::new(SEED, LEN))).unwrap(), mtu)
}

fn scripted(script: Script) -> Net {
    net_of(Config { script, ..Config::default() })
}

fn image(offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Generated::fill(SEED, offset, &mut bytes);
    bytes
}

fn sizes() -> impl Strategy<Value = Size> {
    prop_oneof![
        Just(Size::Whole),
        (1u32..20_000).prop_map(Size::AtMost),
        (1u32..5000, 1u32..40_000).prop_map(|(min, max)| Size::Between { min, max }),
    ]
}

fn segmentations() -> impl Strategy<Value = Segmentation> {
    prop_oneof![
        Just(Segmentation::Full),
        Just(Segmentation::AlignPdus),
        (1u16..600, 1u16..2000).prop_map(|(min, max)| Segmentation::Random { min, max }),
    ]
}

fn scripts() -> impl Strategy<Value = Script> {
    let order = prop_oneof![Just(Order::InOrder), Just(Order::Shuffled), Just(Order::Interleaved)];
    let success =
        prop_oneof![Just(Success::WhenAllowed), Just(Success::Flag), Just(Success::Capsule), Just(Success::Random)];
    let gather = prop::option::of(
        (1usize..20, 0u64..50).prop_map(|(commands, ms)| Gather { commands, wait: Duration::from_millis(ms) }),
    );
    (any::<u64>(), sizes(), sizes(), 0u32..6, order, gather, success, 0u8..40, segmentations()).prop_map(
        |(seed, c2h_data, r2t, r2t_outstanding, order, gather, success, extra_padding, segmentation)| Script {
            seed,
            c2h_data,
            r2t,
            r2t_outstanding,
            order,
            gather,
            success,
            extra_padding,
            segmentation,
            faults: Vec::new(),
        },
    )
}

fn connects() -> impl Strategy<Value = Connect> {
    (any::<bool>(), any::<bool>(), 0u8..32, 0u32..4, any::<bool>()).prop_map(
        |(header_digest, data_digest, hpda, max_r2t, no_flow_control)| Connect {
            header_digest,
            data_digest,
            hpda,
            max_r2t,
            no_flow_control,
            ..Connect::default()
        },
    )
}

/// Sends all these reads (first block, blocks) at once and compares what comes.
fn read_all(net: &mut Net, io: usize, reads: &[(u64, u32)]) {
    let mut commands = Vec::new();
    for (cid, &(first, blocks)) in reads.iter().enumerate() {
        net.command(io, &rw(2, cid as u16, first, blocks), &[]);
        commands.push((cid as u16, blocks as usize * 512));
    }
    let done = net.collect(io, &commands);
    for (cid, &(first, blocks)) in reads.iter().enumerate() {
        let expected = image(first * 512, blocks as usize * 512);
        assert!(done[&(cid as u16)] == Ok(expected), "read {cid} of {blocks} blocks at {first}");
    }
}

fn reads() -> impl Strategy<Value = Vec<(u64, u32)>> {
    prop::collection::vec((0u64..16_000, 1u32..300), 1..30)
}

/// Fewer bytes, for a wire that loses frames: smoltcp goes back to the first lost byte at each time-out.
fn few_reads() -> impl Strategy<Value = Vec<(u64, u32)>> {
    prop::collection::vec((0u64..16_000, 1u32..100), 1..8)
}

/// A net that waits for as long as back-off takes.
fn patient(script: Script) -> Net {
    let mut net = net_of(Config { patience: Duration::from_secs(3000), tx_buffer: 65536, script, ..Config::default() });
    net.patience = Duration::from_secs(2000);
    net
}

/// Per host port, checks that no segment of the target crosses a start in `starts`; how many segments held payload.
fn shared_segments(net: &Net, line: usize) -> (usize, usize) {
    let line = &net.lines[line];
    let segments = net.segments.as_ref().unwrap();
    let mine = || segments.iter().filter(|segment| segment.host_port == line.port);
    let first = mine().find(|segment| segment.syn).expect("SYN").seq.wrapping_add(1);
    let (mut shared, mut count) = (0, 0);
    for segment in mine().filter(|segment| !segment.payload.is_empty()) {
        let from = segment.seq.wrapping_sub(first) as usize;
        let to = from + segment.payload.len();
        if to > line.stream.len() {
            continue; // a keep-alive or data never taken
        }
        assert_eq!(line.stream[from..to], segment.payload[..], "a retransmission differs");
        count += 1;
        shared += usize::from(line.starts.iter().any(|&start| from < start && start < to));
    }
    (shared, count)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn reads_equal_the_image_whatever_the_script(
        script in scripts(), connect in connects(), reads in reads(), jumbo: bool, cpda in 0u8..32,
        tx_buffer in 16384usize..400_000,
    ) {
        let mtu = if jumbo { 9000 } else { 1500 };
        let mut net = net_of(Config { mtu, script, cpda, tx_buffer, ..Config::default() });
        let (_, io) = net.pair(&connect);
        read_all(&mut net, io, &reads);
        let counters = net.target.counters();
        prop_assert_eq!(counters.reads, reads.len() as u64);
        prop_assert_eq!(counters.bytes_read, reads.iter().map(|read| u64::from(read.1) * 512).sum::<u64>());
        prop_assert_eq!(net.target.errors(), vec![]);
    }

    #[test]
    fn reads_and_writes_survive_loss(
        script in scripts(), connect in connects(), reads in few_reads(), loss in 20u64..100,
        write in (0u64..10_000, 1u32..100, any::<u8>()),
    ) {
        let aligned = script.segmentation == Segmentation::AlignPdus;
        let mut net = patient(script);
        net.segments = Some(Vec::new());
        let (_, io) = net.pair(&connect);
        net.loss = loss;
        read_all(&mut net, io, &reads);
        let data: Vec<u8> = (0..write.1 * 512).map(|i| (i >> 3) as u8 ^ write.2).collect();
        net.command(io, &rw(1, 500, write.0, write.1), &[]);
        prop_assert_eq!(net.write(io, 500, &data).0, 0);
        let mut written = vec![0; data.len()];
        net.target.backing().read_at(write.0 * 512, &mut written).unwrap();
        prop_assert!(written == data);
        prop_assert_eq!(net.target.errors(), vec![]);
        if aligned {
            prop_assert_eq!(shared_segments(&net, io).0, 0);
        }
    }

    #[test]
    fn aligned_pdus_share_no_segment(
        script in scripts(), connect in connects(), reads in few_reads(), loss in prop_oneof![Just(0u64), 20u64..100],
    ) {
        let mut net = patient(Script { segmentation: Segmentation::AlignPdus, ..script });
        net.segments = Some(Vec::new());
        let (admin, io) = net.pair(&connect);
        net.loss = loss;
        read_all(&mut net, io, &reads);
        net.fetch(admin, &identify(3, 1, 0)).unwrap();
        for line in [admin, io] {
            let (shared, count) = shared_segments(&net, line);
            prop_assert_eq!(shared, 0);
            prop_assert!(count >= net.lines[line].starts.len(), "a segment per PDU at least");
        }
    }
}

#[test]
fn unaligned_pdus_do_share_segments() {
    let mut net = scripted(Script { c2h_data: Size::AtMost(2000), ..Script::default() });
    net.segments = Some(Vec::new());
    let (_, io) = net.pair(&Connect::default());
    read_all(&mut net, io, &[(0, 256), (1000, 256)]);
    assert!(shared_segments(&net, io).0 > 50);
}

#[test]
fn random_segments_keep_to_their_bounds() {
    let mut net = scripted(Script { segmentation: Segmentation::Random { min: 5, max: 40 }, ..Script::default() });
    net.segments = Some(Vec::new());
    let (_, io) = net.pair(&Connect { header_digest: true, ..Connect::default() });
    read_all(&mut net, io, &[(0, 30), (100, 30)]);
    let port = net.lines[io].port;
    let sizes = net.segments.as_ref().unwrap().iter().filter(|s| s.host_port == port).map(|s| s.payload.len());
    let sizes: Vec<usize> = sizes.filter(|&size| size > 0).collect();
    assert!(sizes.iter().all(|&size| size <= 40));
    let small = sizes.iter().filter(|&&size| size < 5).count();
    assert!(small * 20 < sizes.len(), "only at the end of what smoltcp sent: {small} of {}", sizes.len());
    let distinct: std::collections::BTreeSet<_> = sizes.iter().collect();
    assert!(distinct.len() > 30);
}

#[test]
fn cut_segments_have_right_checksums() {
    for segmentation in [Segmentation::AlignPdus, Segmentation::Random { min: 1, max: 900 }] {
        let mut net = scripted(Script { segmentation, c2h_data: Size::AtMost(1000), ..Script::default() });
        net.frames = Some(Vec::new());
        let (_, io) = net.pair(&Connect::default());
        read_all(&mut net, io, &[(0, 100)]);
        let mut checked = 0;
        for frame in net.frames.as_ref().unwrap() {
            let ethernet = EthernetFrame::new_checked(&frame[..]).unwrap();
            if ethernet.ethertype() != smoltcp::wire::EthernetProtocol::Ipv4 {
                continue;
            }
            let ip = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
            assert!(ip.verify_checksum());
            assert_eq!(usize::from(ip.total_len()), frame.len() - 14);
            let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
            assert!(tcp.verify_checksum(&IpAddress::Ipv4(ip.src_addr()), &IpAddress::Ipv4(ip.dst_addr())));
            checked += 1;
        }
        assert!(checked > 60);
    }
}

#[test]
fn sizes_are_as_scripted() {
    let mut net = scripted(Script { c2h_data: Size::AtMost(5002), ..Script::default() });
    let (admin, io) = net.pair(&Connect::default());
    net.command(io, &rw(2, 1, 0, 40), &[]);
    let sizes: Vec<u32> = (0..5).map(|_| net.pdu(io).unwrap().u32(16)).collect();
    assert_eq!(sizes, [5000, 5000, 5000, 5000, 480]);
    assert_eq!(net.pdu(io).unwrap().status(), 0);
    // the pages of the admin queue are cut as well
    let mut net2 = scripted(Script { c2h_data: Size::AtMost(3000), ..Script::default() });
    let (line, _) = net2.admin(&Connect::default());
    net2.command(line, &identify(4, 1, 0), &[]);
    assert_eq!([net2.pdu(line).unwrap().u32(16), net2.pdu(line).unwrap().u32(16)], [3000, 1096]);
    assert_eq!(net.fetch(admin, &identify(4, 1, 0)).unwrap().len(), 4096);
}

/// The command identifiers of the PDUs that answer eight reads of eight pieces each, all held back first.
fn order(script: Script) -> Vec<(u8, u16)> {
    let gather = Some(Gather { commands: 8, wait: Duration::from_secs(1000) });
    let mut net = scripted(Script { gather, c2h_data: Size::AtMost(1024), success: Success::Capsule, ..script });
    let (_, io) = net.pair(&Connect::default());
    for cid in 0..7 {
        net.command(io, &rw(2, cid, 0, 16), &[]);
    }
    assert_eq!(net.pdu(io), Err(NoPdu::Silence(0)), "seven wait for the eighth");
    net.command(io, &rw(2, 7, 0, 16), &[]);
    (0..8 * 9).map(|_| net.pdu(io).unwrap()).map(|pdu| (pdu.kind, pdu.cid())).collect()
}

#[test]
fn answers_come_in_the_scripted_order() {
    let runs = |order: &[(u8, u16)]| 1 + order.windows(2).filter(|pair| pair[0].1 != pair[1].1).count();
    let responses = |order: &[(u8, u16)]| -> Vec<u16> { order.iter().filter(|p| p.0 == 5).map(|p| p.1).collect() };
    let in_order = order(Script::default());
    assert_eq!((runs(&in_order), responses(&in_order)), (8, (0..8).collect()));
    let shuffled = order(Script { order: Order::Shuffled, seed: 3, ..Script::default() });
    assert_eq!(runs(&shuffled), 8);
    assert_ne!(responses(&shuffled), (0..8).collect::<Vec<_>>());
    let interleaved = order(Script { order: Order::Interleaved, seed: 3, ..Script::default() });
    assert!(runs(&interleaved) > 40, "{interleaved:?}");
    assert_ne!(order(Script { order: Order::Shuffled, seed: 4, ..Script::default() }), shuffled, "seeds matter");

    // A queue that never gets eight commands waits for the time-out instead.
    let gather = Some(Gather { commands: 8, wait: Duration::from_millis(30) });
    let mut net = scripted(Script { gather, ..Script::default() });
    let (_, io) = net.pair(&Connect::default());
    let before = net.now;
    read_all(&mut net, io, &[(0, 8)]);
    assert!(net.now >= before + Duration::from_millis(30));
}

#[test]
fn padding_is_as_scripted() {
    for (hpda, header_digest, extra_padding, pdo) in [
        (0, false, 0, 24),
        (0, true, 0, 28),
        (3, false, 0, 32),
        (31, true, 0, 128),
        (0, false, 5, 44),
        (7, false, 99, 224),
    ] {
        let mut net = scripted(Script { extra_padding, ..Script::default() });
        let (_, io) = net.pair(&Connect { hpda, header_digest, data_digest: true, ..Connect::default() });
        net.command(io, &rw(2, 1, 5, 4), &[]);
        let pdu = net.pdu(io).unwrap();
        assert_eq!((pdu.kind, pdu.pdo), (7, pdo));
        assert_eq!(pdu.data, image(5 * 512, 2048));
    }
}

#[test]
fn a_run_repeats_byte_for_byte() {
    let run = |seed| {
        let script = Script {
            seed,
            order: Order::Interleaved,
            c2h_data: Size::Between { min: 100, max: 9000 },
            segmentation: Segmentation::Random { min: 20, max: 1400 },
            success: Success::Random,
            ..Script::default()
        };
        let mut net = scripted(script);
        net.frames = Some(Vec::new());
        net.loss = 30;
        let (_, io) = net.pair(&Connect { no_flow_control: true, ..Connect::default() });
        read_all(&mut net, io, &[(0, 200), (500, 100), (77, 3), (9000, 256)]);
        (net.frames.unwrap(), net.now)
    };
    let (first, second, other) = (run(5), run(5), run(6));
    assert!(first == second);
    assert!(first.0 != other.0);
}

/// Runs one read of two C2HData PDUs of 4096 bytes (or a write) with a fault; the raw bytes of the PDU it strikes.
fn struck(at: At, kind: Kind, digests: bool, plen: usize) -> (Net, usize, Result<Vec<u8>, NoPdu>) {
    let faults = vec![Fault { on: On::Queue(1), at, kind }];
    let script = Script { c2h_data: Size::AtMost(4096), faults, ..Script::default() };
    let mut net = scripted(script);
    let (_, io) = net.pair(&Connect { header_digest: digests, data_digest: digests, ..Connect::default() });
    match at {
        At::R2t(_) => net.command(io, &rw(1, 6, 0, 16), &[]),
        _ => net.command(io, &rw(2, 6, 0, 16), &[]),
    }
    let skipped = match at {
        At::Data(n) => n,
        At::Response(1) => 2,
        _ => 0,
    };
    for _ in 0..skipped {
        assert_eq!(net.pdu(io).unwrap().kind, 7);
    }
    let bytes = net.raw(io, plen);
    assert_eq!(net.target.counters().faults, 1);
    (net, io, bytes)
}

#[test]
fn every_fault_is_emitted() {
    let header = |at, kind, len| struck(at, kind, false, len).2.unwrap();
    let u16 = |b: &[u8], at: usize| u16::from_le_bytes(b[at..at + 2].try_into().unwrap());
    let u32 = |b: &[u8], at: usize| u32::from_le_bytes(b[at..at + 4].try_into().unwrap());
    let (data, plen) = (At::Data(1), 24 + 4096);
    assert_eq!(header(data, Kind::Type(0x55), plen)[0], 0x55);
    assert_eq!(header(data, Kind::Flags(0xf0), plen)[1], 0xf0);
    assert_eq!(header(data, Kind::HeaderLength(28), plen)[2], 28);
    assert_eq!(header(data, Kind::DataOffset(20), plen)[3], 20);
    assert_eq!(u32(&header(data, Kind::PduLength(7), plen), 4), 7);
    assert_eq!(u16(&header(data, Kind::CommandId(0x999), plen), 8), 0x999);
    assert_eq!(u32(&header(data, Kind::Offset(9000), plen), 12), 9000);
    assert_eq!(u32(&header(data, Kind::Length(5000), plen), 16), 5000);
    assert_eq!(u16(&header(At::R2t(0), Kind::CommandId(0x999), 24), 8), 0x999);
    assert_eq!(u32(&header(At::R2t(0), Kind::Offset(1 << 20), 24), 12), 1 << 20);
    assert_eq!(u32(&header(At::R2t(0), Kind::Length(0), 24), 16), 0);
    // Response 0 of the queue is the answer to Connect, which the fault does not know as one of queue 1.
    assert_eq!(u16(&header(At::Response(1), Kind::CommandId(0x999), 24), 20), 0x999);

    // More data than asked for: lengths agree with what is sent.
    let extra = header(data, Kind::ExtraData(100), plen + 100);
    assert_eq!((u32(&extra, 4) as usize, u32(&extra, 16)), (plen + 100, 4196));
    assert_eq!(extra[24..24 + 4096], image(4096, 4096));
    assert_eq!(extra[24 + 4096..], [0xee; 100]);

    // Digests: everything else in the PDU is right.
    let plen = 28 + 4096 + 4;
    let bytes = struck(data, Kind::HeaderDigest, true, plen).2.unwrap();
    assert_ne!(u32(&bytes, 24), crc32c(&bytes[..24]));
    assert_eq!(u32(&bytes, plen - 4), crc32c(&bytes[28..plen - 4]));
    let bytes = struck(data, Kind::DataDigest, true, plen).2.unwrap();
    assert_eq!(u32(&bytes, 24), crc32c(&bytes[..24]));
    assert_eq!(bytes[28..plen - 4], image(4096, 4096));
    assert_ne!(u32(&bytes, plen - 4), crc32c(&bytes[28..plen - 4]));
    let bytes = struck(data, Kind::Payload, true, plen).2.unwrap();
    assert_ne!(bytes[28..plen - 4], image(4096, 4096));
    assert_eq!(u32(&bytes, plen - 4), crc32c(&image(4096, 4096)));
    // A header fault under a header digest: the digest is right, so that the field is what is found.
    let bytes = struck(data, Kind::Offset(9000), true, plen).2.unwrap();
    assert_eq!(u32(&bytes, 24), crc32c(&bytes[..24]));

    // The first piece left out: the second one comes at once.
    let bytes = struck(At::Data(0), Kind::Drop, false, 24 + 4096).2.unwrap();
    assert_eq!(u32(&bytes, 12), 4096);
    // Terminated by the target.
    let (mut net, io, term) = struck(data, Kind::Terminate { fes: 4, fei: 0x1234 }, false, 24);
    let term = term.unwrap();
    assert_eq!((term[0], term[2], u32(&term, 4), u16(&term, 8), u32(&term, 10)), (3, 24, 24, 4, 0x1234));
    assert_eq!(net.pdu(io), Err(NoPdu::Closed(0)));
    assert!(matches!(net.target.errors()[0].reason, Reason::Scripted { .. }));
    // Ended or stalled inside a PDU, inside its header, at its end.
    for after in [0, 10, 500, 24 + 4096] {
        let (_, _, bytes) = struck(data, Kind::Close { after }, false, 1 << 20);
        assert_eq!(bytes, Err(NoPdu::Closed(after as usize)));
        let (net, io, bytes) = struck(data, Kind::Stall { after }, false, 1 << 20);
        assert_eq!(bytes, Err(NoPdu::Silence(after as usize)));
        assert!(net.is_up(io));
        let (net, io, bytes) = struck(data, Kind::Reset { after }, false, 1 << 20);
        assert_eq!(bytes, Err(NoPdu::Closed(after as usize)));
        assert!(net.is_gone(io));
    }

    // ICResp and the answer to Connect are reached by the number of the connection.
    let ic = |kind| {
        let faults = vec![Fault { on: On::Connection(0), at: At::Pdu(0), kind }];
        let mut net = scripted(Script { faults, ..Script::default() });
        let line = net.open();
        net.send(line, &ic_req(false, false, 0, 0));
        net.raw(line, if matches!(kind, Kind::Terminate { .. }) { 24 } else { 128 }).unwrap()
    };
    assert_eq!(ic(Kind::PduLength(4))[4], 4);
    assert_eq!(ic(Kind::Type(5))[0], 5);
    assert_eq!(ic(Kind::Terminate { fes: 6, fei: 8 })[..9], [3, 0, 24, 0, 24, 0, 0, 0, 6]);
    let faults = vec![Fault { on: On::Connection(0), at: At::Response(0), kind: Kind::CommandId(77) }];
    let mut net = scripted(Script { faults, ..Script::default() });
    let line = net.initialize(false, false, 0, 0);
    let options = Connect::default();
    net.command(line, &connect_sqe(&options), &connect_data(&options));
    assert_eq!(net.pdu(line).unwrap().cid(), 77);
}

#[test]
fn a_fault_that_does_not_apply_does_not_happen() {
    let faults = vec![Fault { on: On::Queue(1), at: At::Data(0), kind: Kind::DataDigest }];
    let mut net = scripted(Script { faults, ..Script::default() });
    let (_, io) = net.pair(&Connect::default());
    read_all(&mut net, io, &[(0, 8)]);
    assert_eq!(net.target.counters().faults, 0);
}

#[test]
fn a_fault_on_one_queue_leaves_the_others_alone() {
    for kind in [Kind::Stall { after: 100 }, Kind::Close { after: 0 }, Kind::Reset { after: 3 }, Kind::Type(0xff)] {
        let faults = vec![Fault { on: On::Queue(1), at: At::Data(0), kind }];
        let mut net = scripted(Script { faults, ..Script::default() });
        let (_, controller) = net.admin(&Connect::default());
        let mut lines = BTreeMap::new();
        for queue in 1..=8 {
            let (line, response) = net.connect(&Connect { queue, controller, ..Connect::default() });
            assert_eq!(response.status(), 0);
            lines.insert(queue, line);
        }
        for (&queue, &line) in &lines {
            for cid in 0..4 {
                net.command(line, &rw(2, cid, u64::from(queue) * 100, 64), &[]);
            }
        }
        for (&queue, &line) in lines.iter().filter(|line| *line.0 != 1) {
            let done = net.collect(line, &(0..4).map(|cid| (cid, 64 * 512)).collect::<Vec<_>>());
            assert!(done.values().all(|data| *data == Ok(image(u64::from(queue) * 100 * 512, 64 * 512))));
        }
    }
}
