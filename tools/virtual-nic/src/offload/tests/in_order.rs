//! | property | test |
//! |---|---|
//! | random PDUs in random packets: the right run of each packet is placed at the right bytes, nothing else is written, digests are judged right | `what_is_placed_is_what_the_stream_says` |
//! | the CRC of these tests is the published one | `crc32c_is_the_published_one` |
//! | the CQE of vector G is what its packet gives | `vector_g_is_what_its_packet_gives` |
//! | 128 KiB reads at MTU 1500: everything but what shares a packet with another run is placed | `a_long_read_is_placed_almost_entirely` |
//! | a packet before the expected sequence changes nothing, across the wrap too | `a_retransmission_bypasses` |
//! | no packet that cannot be trusted is looked at | `untrusted_packets_bypass` |
//! | each contradiction in a header loses the framing; what was placed before stays reported | `each_malformed_header_loses_the_framing` |
//! | of several runs in one packet the rule takes one, of equals the first | `each_rule_takes_its_run` |
//! | a tag bound anew in the middle of a PDU is walked from the front | `a_tag_bound_anew_forgets_where_it_was` |
//! | a tag freed in the middle of a PDU ends its placing, not the parsing | `a_tag_freed_on_the_way` |
//! | nothing is placed and nothing vouched for without the switch that allows it | `each_switch_counts` |
//! | a context starts with both parameters and restarts with new progress | `parameters_start_and_restart_a_context` |
//! | parameters that the device does not support are refused | `unsupported_parameters_are_refused` |
//! | tables and TIRs: limits, in-use refusal, exclusions | `objects_are_checked` |
//! | tag fills are bounded by the table, padding entries aside | `tag_fills_are_bounded` |
//! | the entry's length check bounds placement | `the_length_check_of_an_entry_counts` |
//! | payload for memory that is not mapped stays in the ring, and none of it is written | `unmapped_memory_gets_nothing` |
//! | arbitrary payload never panics and never writes outside bound buffers | `arbitrary_payload_is_harmless` |
use super::stream::{Digests, Pdu, crc32c, pdu};
use super::*;
use crate::wqe::{self, Operation, vectors};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn what_is_placed_is_what_the_stream_says(
        (header, data) in any::<(bool, bool)>(),
        pdus in proptest::collection::vec(pdu(5000), 1..14),
        cuts in cuts(),
        buffers in buffers(900),
        seq in first_sequence(),
        envelope in envelope(),
        which in which(),
    ) {
        const MEMORY: u64 = 0x4_0000;
        let digests = Digests { header, data };
        let mut nic = Nic::new(digests, seq, which, MEMORY);
        let address = bind_scattered(&mut nic, &buffers, MEMORY);
        let fits = |run: &Run| {
            address.get(usize::from(run.ccid)).is_some_and(|buffer| (run.ccoff + run.len) as usize <= buffer.len())
        };

        let stream = stream(&pdus, digests);
        let mut expected_memory = vec![0; MEMORY as usize];
        let (mut from, mut placed_bytes, mut placed_packets, mut packets) = (0, 0, 0, 0);
        let mut cuts = cuts.iter().cycle();
        while from < stream.bytes.len() {
            let to = stream.bytes.len().min(from + cuts.next().unwrap());
            let (run, clean) = stream.expect(from, to, which, fits);
            let build = Build {
                seq: seq.wrapping_add(from as u32),
                payload: stream.bytes[from..to].to_vec(),
                ..envelope.clone()
            };
            let base = build.header_len() as u32;
            let outcome = nic.receive(&build);
            let placed = run.map(|run| Run { hole: base + run.hole, ..run });
            prop_assert_eq!(outcome, Outcome { placed, ddgst_ok: clean && data, resync: None, bypass: None, error: None });
            if let Some(run) = run {
                for i in 0..run.len {
                    let target = address[usize::from(run.ccid)][(run.ccoff + i) as usize];
                    expected_memory[(target - BASE) as usize] = stream.bytes[from + (run.hole + i) as usize];
                }
                placed_bytes += u64::from(run.len);
                placed_packets += 1;
            }
            packets += 1;
            from = to;
        }
        prop_assert!(nic.memory(MEMORY) == expected_memory, "memory differs");
        let c = nic.offload.counters();
        prop_assert_eq!((c.packets, c.packets_placed, c.bytes_placed), (packets, placed_packets, placed_bytes));
        let total: u64 = pdus.iter().map(|p| if let Pdu::Data { len, .. } = p { u64::from(*len) } else { 0 }).sum();
        prop_assert_eq!(c.bytes_placed + c.bytes_unplaced.values().sum::<u64>(), total);
        prop_assert_eq!((c.digests_good, c.digests_bad), if data { stream.digests() } else { (0, 0) });
        prop_assert_eq!((c.pdus, c.lost), (stream.pdus(), 0));
        let end = seq.wrapping_add(stream.bytes.len() as u32);
        let progress = Progress { next_pdu_tcp_sn: end, expected: end, tracker: Tracker::Offloading, awaited: None };
        prop_assert_eq!(nic.offload.progress(TIRN), Some(progress));
    }

    #[test]
    fn arbitrary_payload_is_harmless(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..200), 1..6),
        // A header that is nearly right.
        header in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut nic = Nic::new(NO_DIGESTS, 0, WhichRun::First, 0x1000);
        nic.bind(0, &[(BASE + 0x100, 50), (BASE + 0x200, 50)]);
        let mut first = stream(&[data(0, 10, 60)], NO_DIGESTS).bytes;
        header.iter().for_each(|(at, byte)| { let at = at.index(24); first[at] = *byte });
        let mut seq = 0u32;
        for payload in std::iter::once(&first).chain(&payloads) {
            let outcome = nic.segment(seq, payload);
            if let Some(run) = outcome.placed {
                prop_assert!(run.hole >= 54 && (run.hole + run.len) as usize <= 54 + payload.len());
                prop_assert!(run.ccid == 0 && run.ccoff + run.len <= 100);
            }
            seq += payload.len() as u32;
        }
        let memory = nic.memory(0x1000);
        let outside = |at: &usize| !(0x100..0x132).contains(at) && !(0x200..0x232).contains(at);
        prop_assert!((0..0x1000).filter(outside).all(|at| memory[at] == 0));
    }
}

#[test]
fn crc32c_is_the_published_one() {
    // RFC 3720 appendix B.4.
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn vector_g_is_what_its_packet_gives() {
    // Queue id 5, 1420 bytes for tag 1 at buffer offset 2840, 90 header bytes, 4 trailing bytes, CRC ok.
    let mut nic = Nic::new(DATA_DIGEST, 1000, WhichRun::First, 0x2000);
    nic.bind(1, &[(BASE, 0x2000)]);
    let stream = stream(&[data(1, 2840, 1420)], DATA_DIGEST);
    let build = Build { tcp_options: 3, ..Build::tcp(1000, &stream.bytes) };
    assert_eq!(build.frame().len(), 0x5ea);
    let outcome = nic.receive(&build);
    let g = OffloadCqe::from_prefix(&vectors::bytes(
        "058c005a 00000b18 00010000 00000000 00000000 00000000 00000000 00000000
         00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00300000",
    ));
    use hw_regs::cqe::OffloadCqe;
    let run = Run {
        hole: g.get(OffloadCqe::HLEN),
        len: g.get(OffloadCqe::CCLEN),
        ccid: g.get(OffloadCqe::CCID) as u16,
        ccoff: g.get(OffloadCqe::CCOFF_OR_RESYNC_TCP_SN),
    };
    assert!(g.is_set(OffloadCqe::CQE64_B1_NVMEOTCP_DDGST) && g.is_set(OffloadCqe::CQE64_B1_NVMEOTCP_ZC));
    assert_eq!(outcome, Outcome { placed: Some(run), ddgst_ok: true, resync: None, bypass: None, error: None });
}

#[test]
fn a_long_read_is_placed_almost_entirely() {
    const LEN: u32 = 128 << 10;
    let digests = Digests { header: true, data: true };
    let mut nic = Nic::new(digests, 7, WhichRun::First, 4 * u64::from(LEN));
    let page = |i: u32| BASE + u64::from(i.reverse_bits() >> 25) * 4096;
    let pdus: Vec<Pdu> = (0..4).flat_map(|cid| [data(cid, 0, LEN), Pdu::Other { kind: 0x05, more: 0 }]).collect();
    for cid in 0..4 {
        let pieces: Vec<_> = (0..32).map(|i| (page(i + 32 * u32::from(cid)), 4096)).collect();
        nic.bind(cid, &pieces);
    }
    let stream = stream(&pdus, digests);
    for (index, payload) in stream.bytes.chunks(1448).enumerate() {
        let outcome = nic.segment(7 + index as u32 * 1448, payload);
        assert!(outcome.ddgst_ok);
    }
    let c = nic.offload.counters();
    // Three packets carry data of two PDUs; only the second part of those is not placed.
    assert_eq!(c.bytes_placed + c.bytes_unplaced[&Unplaced::OtherRun], 4 * u64::from(LEN));
    assert!(c.bytes_unplaced[&Unplaced::OtherRun] <= 3 * 1448);
    assert_eq!(c.bytes_unplaced.len(), 1);
    assert_eq!((c.digests_good, c.digests_bad, c.lost), (4, 0, 0));
}

#[test]
fn a_retransmission_bypasses() {
    let stream = stream(&[data(0, 0, 1000)], DATA_DIGEST);
    let start = 0u32.wrapping_sub(500);
    let mut nic = Nic::new(DATA_DIGEST, start, WhichRun::First, 0x1000);
    nic.bind(0, &[(BASE, 0x1000)]);
    let part = |from: usize, to: usize| (start.wrapping_add(from as u32), &stream.bytes[from..to]);
    let mut send = |from, to| {
        let (seq, payload) = part(from, to);
        (nic.segment(seq, payload), nic.offload.progress(TIRN).unwrap())
    };
    assert!(send(0, 400).0.placed.is_some());
    let (_, before) = send(400, 700);
    for (from, to) in [(0, 400), (399, 400), (400, 900), (699, 1028)] {
        let (outcome, progress) = send(from, to);
        assert_eq!(outcome, Outcome::bypassed(Bypass::Early), "{from}..{to}");
        assert_eq!(progress, before);
    }
    let (outcome, progress) = send(700, 1028);
    assert_eq!(outcome.placed.unwrap(), Run { hole: 54, len: 324, ccid: 0, ccoff: 676 });
    assert!(outcome.ddgst_ok, "the digest of everything in order is right");
    assert_eq!(progress.expected, 528);
    assert_eq!(nic.offload.counters().bypassed[&Bypass::Early], 4);
}

#[test]
fn untrusted_packets_bypass() {
    let stream = stream(&[data(0, 0, 1000)], NO_DIGESTS);
    let mut nic = Nic::new(NO_DIGESTS, 0, WhichRun::First, 0x1000);
    nic.bind(0, &[(BASE, 0x1000)]);
    let good = Build::tcp(0, &stream.bytes[..500]);
    let before = nic.offload.progress(TIRN);
    let mut check = |frame: &[u8], reason| {
        let outcome = nic.offload.receive(TIRN, &Packet::parse(frame).unwrap(), &nic.mkeys, &nic.dma);
        assert_eq!(outcome, Outcome::bypassed(reason));
        assert_eq!(nic.offload.progress(TIRN), before);
    };
    let flipped = |at: usize| {
        let mut frame = good.frame();
        frame[at] ^= 1;
        frame
    };
    check(&flipped(22), Bypass::Checksum); // time to live: header checksum
    check(&flipped(51), Bypass::Checksum); // TCP checksum itself
    check(&flipped(100), Bypass::Checksum); // payload
    check(&Build { fragment: Some(0x2000), ..good.clone() }.frame(), Bypass::NotTcp);
    check(&Build { protocol: 17, ..good.clone() }.frame(), Bypass::NotTcp);
    check(&Build { flags: tcp_flag::SYN, ..good.clone() }.frame(), Bypass::Control);
    check(&Build { flags: tcp_flag::RST | tcp_flag::ACK, ..good.clone() }.frame(), Bypass::Control);
    // No payload, but padding up to the shortest frame: padding is never payload.
    check(&Build { padding: vec![7; 6], ..Build::tcp(0, &[]) }.frame(), Bypass::Empty);
    check(&Build { flags: tcp_flag::FIN | tcp_flag::ACK, ..Build::tcp(900, &[]) }.frame(), Bypass::Empty);
    assert_eq!(nic.memory(0x1000), vec![0; 0x1000]);
    let frame = good.frame();
    let elsewhere = nic.offload.receive(TIRN + 1, &Packet::parse(&frame).unwrap(), &nic.mkeys, &nic.dma);
    assert_eq!(elsewhere, Outcome::bypassed(Bypass::Inactive));
    let short = Build { padding: vec![7; 30], ..Build::tcp(0, &stream.bytes[..30]) };
    assert_eq!(nic.receive(&short).placed, Some(Run { hole: 78, len: 6, ccid: 0, ccoff: 0 }));
    let fin = Build { flags: tcp_flag::FIN | tcp_flag::ACK, ..Build::tcp(30, &stream.bytes[30..]) };
    assert_eq!(nic.receive(&fin).placed, Some(Run { hole: 54, len: 994, ccid: 0, ccoff: 6 }));
}

#[test]
fn each_malformed_header_loses_the_framing() {
    let digests = Digests { header: true, data: true };
    let first = stream(&[data(0, 0, 40)], digests).bytes;
    let good = stream(&[data(1, 0, 100)], digests).bytes;
    let response = stream(&[Pdu::Other { kind: 0x05, more: 0 }], digests).bytes;
    // (what, bytes of the second PDU, place, byte)
    let cases: &[(&str, &[u8], usize, u8)] = &[
        ("type 0", &good, 0, 0),
        ("type of a host's PDU", &good, 0, 0x06),
        ("unknown type", &good, 0, 0x0a),
        ("HLEN", &good, 2, 23),
        ("HLEN of a response", &response, 2, 128),
        ("PDO inside the header", &good, 3, 27),
        ("PDO that leaves less than DATAL", &good, 3, 29),
        ("PLEN one less", &good, 4, good[4] - 1),
        ("PLEN one more", &good, 4, good[4] + 1),
        ("PLEN below the header", &response, 4, 27),
        ("DATAL one less", &good, 16, 99),
        ("DATAL huge", &good, 19, 0xff),
        ("DATAO + DATAL beyond 32 bits", &good, 15, 0xff),
    ];
    for (what, second, at, byte) in cases {
        let mut bytes = [&first[..], second].concat();
        bytes[first.len() + at] = *byte;
        if *what == "DATAO + DATAL beyond 32 bits" {
            bytes[first.len() + 12..first.len() + 16].fill(0xff);
        }
        let mut nic = Nic::new(digests, 0, WhichRun::First, 0x1000);
        nic.bind(0, &[(BASE, 0x100)]);
        nic.bind(1, &[(BASE + 0x100, 0x100)]);
        let outcome = nic.segment(0, &bytes);
        let placed = Some(Run { hole: 54 + 28, len: 40, ccid: 0, ccoff: 0 });
        assert_eq!(outcome, Outcome { placed, ddgst_ok: false, resync: None, bypass: None, error: None }, "{what}");
        assert_eq!(nic.offload.progress(TIRN).unwrap().tracker, Tracker::Searching, "{what}");
        // The search begins with the next packet.
        let next = nic.segment(bytes.len() as u32, &first);
        let asked = Outcome { resync: Some(bytes.len() as u32), ..Outcome::bypassed(Bypass::Searching) };
        assert_eq!(next, asked, "{what}");
        assert!(nic.memory(0x1000)[0x100..].iter().all(|byte| *byte == 0), "{what}");
    }
    // No data at all: PLEN and DATAL agree, but nothing says where the digest would be.
    let mut nic = Nic::new(NO_DIGESTS, 0, WhichRun::First, 0x1000);
    let mut empty = stream(&[data(0, 0, 1)], NO_DIGESTS).bytes;
    empty.truncate(24);
    (empty[4], empty[16]) = (24, 0);
    assert!(!nic.segment(0, &empty).ddgst_ok);
    assert_eq!(nic.offload.progress(TIRN).unwrap().tracker, Tracker::Searching);
}

#[test]
fn each_rule_takes_its_run() {
    // Lengths 10, 30, 30, 20, and one first that cannot be placed.
    let lengths = [(9, 40), (0, 10), (1, 30), (2, 30), (3, 20)];
    let pdus: Vec<Pdu> = lengths.iter().map(|(cid, len)| data(*cid, 0, *len)).collect();
    let stream = stream(&pdus, NO_DIGESTS);
    for (which, ccid) in [(WhichRun::First, 0), (WhichRun::Last, 3), (WhichRun::Longest, 1)] {
        let mut nic = Nic::new(NO_DIGESTS, 0, which, 0x1000);
        (0..4).for_each(|tag| nic.bind(tag, &[(BASE + 0x100 * u64::from(tag), 0x100)]));
        let run = nic.segment(0, &stream.bytes).placed.unwrap();
        assert_eq!((run.ccid, run.len), (ccid, lengths[usize::from(ccid) + 1].1), "{which:?}");
        let written = nic.memory(0x1000).iter().filter(|byte| **byte != 0).count();
        assert_eq!(written as u32, run.len, "one run and nothing else");
        let c = nic.offload.counters();
        let expected = BTreeMap::from([(Unplaced::NoTag, 40), (Unplaced::OtherRun, 90 - u64::from(run.len))]);
        assert_eq!(c.bytes_unplaced, expected);
    }
}

#[test]
fn a_tag_bound_anew_forgets_where_it_was() {
    let stream = stream(&[data(0, 0, 300)], NO_DIGESTS);
    let mut nic = Nic::new(NO_DIGESTS, 0, WhichRun::First, 0x1000);
    nic.bind(0, &[(BASE, 50), (BASE + 0x100, 50), (BASE + 0x200, 200)]);
    assert!(nic.segment(0, &stream.bytes[..224]).placed.is_some());
    // The offset that follows was in the third piece and is now in the first.
    nic.bind(0, &[(BASE + 0x400, 250), (BASE + 0x600, 25), (BASE + 0x700, 25)]);
    assert!(nic.segment(224, &stream.bytes[224..]).placed.is_some());
    let memory = nic.memory(0x1000);
    assert_eq!(memory[0x400 + 200..0x400 + 250], stream.bytes[224..274]);
    assert_eq!(memory[0x600..0x600 + 25], stream.bytes[274..299]);
    assert_eq!(memory[0x700..0x700 + 25], stream.bytes[299..]);
}

#[test]
fn a_tag_freed_on_the_way() {
    let stream = stream(&[data(0, 0, 3000), data(1, 0, 100)], DATA_DIGEST);
    let mut nic = Nic::new(DATA_DIGEST, 0, WhichRun::First, 0x2000);
    nic.bind(0, &[(BASE, 3000)]);
    nic.bind(1, &[(BASE + 0x1000, 100)]);
    let whole = stream.bytes.len();
    assert_eq!(nic.segment(0, &stream.bytes[..1024]).placed.unwrap().len, 1000);
    nic.free(0);
    let outcome = nic.segment(1024, &stream.bytes[1024..2024]);
    assert_eq!((outcome.placed, outcome.ddgst_ok), (None, true));
    // Bound again, elsewhere: placing goes on at the right offset.
    nic.bind(0, &[(BASE + 0x1800, 0x100), (BASE, 3000)]);
    let outcome = nic.segment(2024, &stream.bytes[2024..2524]);
    assert_eq!(outcome.placed, Some(Run { hole: 54, len: 500, ccid: 0, ccoff: 2000 }));
    nic.free(0);
    // The rest of it stays in the ring, so the next PDU's is the first run that can be placed.
    let outcome = nic.segment(2524, &stream.bytes[2524..whole]);
    let hole = 54 + (3000 - 2500) + 4 + 24;
    assert_eq!(outcome.placed, Some(Run { hole, len: 100, ccid: 1, ccoff: 0 }));
    assert!(outcome.ddgst_ok);
    let c = nic.offload.counters();
    assert_eq!(c.bytes_unplaced, BTreeMap::from([(Unplaced::Free, 1500)]));
    assert_eq!((c.digests_good, c.pdus), (2, 2));
    let memory = nic.memory(0x2000);
    assert_eq!(memory[..1000], stream.bytes[24..1024]);
    assert_eq!(memory[2000 - 0x100..2500 - 0x100], stream.bytes[2024..2524]);
}

#[test]
fn each_switch_counts() {
    let good = stream(&[data(0, 0, 100)], DATA_DIGEST);
    let outcome = |tirc: Tirc, params: StaticParams| {
        let mut nic = Nic::new(DATA_DIGEST, 0, WhichRun::First, 0x1000);
        nic.bind(0, &[(BASE, 0x100)]);
        nic.offload.destroy_tir(TIRN);
        nic.offload.create_tir(TIRN, &tirc).unwrap();
        // Without zero copy there is no table to fill; the one that the tags are in stays as it is.
        nic.offload.static_params(TIRN, &params).unwrap();
        nic.offload.progress_params(TIRN, &progress(0)).unwrap();
        let outcome = nic.segment(0, &good.bytes);
        let written = nic.memory(0x1000).iter().any(|byte| *byte != 0);
        assert_eq!(outcome.placed.is_some(), written);
        (written, outcome.ddgst_ok)
    };
    let (tir, params) = (tirc(1, true), static_params(DATA_DIGEST));
    assert_eq!(outcome(tir, params), (true, true));
    assert_eq!(outcome(tir.with(Tirc::NVMEOTCP_ZERO_COPY_EN, 0), params), (false, true));
    assert_eq!(outcome(tir.with(Tirc::NVMEOTCP_CRC_EN, 0), params), (true, false));
    assert_eq!(outcome(tir, params.with(StaticParams::ZERO_COPY_EN, 0)), (false, true));
    assert_eq!(outcome(tir, params.with(StaticParams::DDGST_OFFLOAD_EN, 0)), (true, false));
    // Without the digest in the options the PDU's length contradicts itself.
    assert_eq!(outcome(tir, params.with(StaticParams::DDGST_EN, 0)), (false, false));
}

#[test]
fn parameters_start_and_restart_a_context() {
    let stream = stream(&[data(0, 0, 100)], NO_DIGESTS);
    let mut nic = Nic::new(NO_DIGESTS, 0, WhichRun::First, 0x1000);
    nic.bind(0, &[(BASE, 0x100)]);
    nic.offload.destroy_tir(TIRN);
    nic.offload.create_tir(TIRN, &tirc(nic.table, true)).unwrap();
    assert_eq!(nic.segment(0, &stream.bytes).bypass, Some(Bypass::Inactive));
    nic.offload.progress_params(TIRN, &progress(0)).unwrap();
    assert_eq!(nic.segment(0, &stream.bytes).bypass, Some(Bypass::Inactive));
    nic.offload.static_params(TIRN, &static_params(NO_DIGESTS)).unwrap();
    assert!(nic.segment(0, &stream.bytes[..60]).placed.is_some());
    let header = Progress { next_pdu_tcp_sn: 124, expected: 60, tracker: Tracker::Offloading, awaited: None };
    assert_eq!(nic.offload.progress(TIRN), Some(header));
    nic.offload.progress_params(TIRN, &progress(5000)).unwrap();
    assert_eq!(nic.segment(60, &stream.bytes[60..]).bypass, Some(Bypass::Early));
    assert!(nic.segment(5000, &stream.bytes).placed.is_some());
    // A state in which headers are only followed places nothing.
    let tracking = progress(0).with(ProgressParams::PDU_TRACKER_STATE, 1);
    nic.offload.progress_params(TIRN, &tracking).unwrap();
    assert_eq!(nic.segment(0, &stream.bytes).bypass, Some(Bypass::Unconfirmed));
}

#[test]
fn unsupported_parameters_are_refused() {
    let mut nic = Nic::new(NO_DIGESTS, 0, WhichRun::First, 0x1000);
    let params = static_params(NO_DIGESTS);
    let target = OffloadFault::Unsupported { field: "ti", value: 1 };
    assert_eq!(nic.offload.static_params(TIRN, &params.with(StaticParams::TI, 1)), Err(target));
    let header = OffloadFault::Unsupported { field: "hdgst_offload_en", value: 1 };
    assert_eq!(nic.offload.static_params(TIRN, &params.with(StaticParams::HDGST_OFFLOAD_EN, 1)), Err(header));
    let state = OffloadFault::Unsupported { field: "pdu_tracker_state", value: 3 };
    let bad = progress(0).with(ProgressParams::PDU_TRACKER_STATE, 3);
    assert_eq!(nic.offload.progress_params(TIRN, &bad), Err(state));
    let nobody = OffloadFault::NoContext { tirn: 1 };
    assert_eq!(nic.offload.static_params(1, &params), Err(nobody));
    assert_eq!(nic.offload.progress_params(1, &progress(0)), Err(nobody));
    assert_eq!(nic.offload.tag_fill(&TagFill { tirn: 1, first: 0, entries: &[] }), Err(nobody));
}

#[test]
fn objects_are_checked() {
    let mut offload = Offload::new(TagLimits { tables: 2, log_entries: 4 }, WhichRun::First, Behaviour::default());
    let create = |offload: &mut Offload, log: u32| {
        let field = CreateTagBufferTableIn::OBJ_LOG_TAG_BUFFER_TABLE_SIZE;
        offload.create_table(&CreateTagBufferTableIn::zeroed().with(field, log)).map_err(|r| r.syndrome)
    };
    let refused = |r: Result<(), Reject>| r.map_err(|r| r.syndrome);
    assert_eq!(create(&mut offload, 5), Err(Syndrome::TAG_TABLE_SIZE));
    let table = create(&mut offload, 4).unwrap();
    let other = create(&mut offload, 0).unwrap();
    assert_eq!(create(&mut offload, 0), Err(Syndrome::TAG_TABLE_NONE_LEFT));
    assert_eq!(refused(offload.create_tir(1, &tirc(99, true))), Err(Syndrome::TAG_TABLE_UNKNOWN));
    let lro = tirc(table, true).with(Tirc::PACKET_MERGE_MASK, 1);
    assert_eq!(refused(offload.create_tir(1, &lro)), Err(Syndrome::TIR_OFFLOAD_EXCLUDES_LRO));
    let tls = tirc(table, true).with(Tirc::TLS_EN, 1);
    assert_eq!(refused(offload.create_tir(1, &tls)), Err(Syndrome::TIR_OFFLOAD_EXCLUDES_TLS));
    offload.create_tir(1, &Tirc::zeroed().with(Tirc::PACKET_MERGE_MASK, 1)).unwrap();
    assert_eq!(offload.contexts(), 0, "an ordinary TIR");
    offload.create_tir(2, &tirc(table, true)).unwrap();
    offload.create_tir(3, &tirc(table, false)).unwrap();
    for tirn in [2, 3] {
        assert_eq!(refused(offload.destroy_table(table)), Err(Syndrome::TAG_TABLE_IN_USE));
        offload.destroy_tir(tirn);
    }
    offload.destroy_table(table).unwrap();
    offload.destroy_table(other).unwrap();
    assert_eq!(refused(offload.destroy_table(table)), Err(Syndrome::TAG_TABLE_UNKNOWN));
    assert_eq!((offload.tables(), offload.contexts()), (0, 0));
}

#[test]
fn tag_fills_are_bounded() {
    let mut nic = Nic::new(NO_DIGESTS, 0, WhichRun::First, 0x1000);
    let entries = [0; 64];
    let mut fill = |first| nic.offload.tag_fill(&TagFill { tirn: TIRN, first, entries: &entries });
    assert_eq!(fill(4), Ok(()));
    assert_eq!(fill(8), Err(OffloadFault::TagBounds { first: 8, count: 4, size: 8 }));
    assert_eq!(fill(u64::MAX), Err(OffloadFault::TagBounds { first: u64::MAX, count: 4, size: 8 }));
    // A queue of one: its fill has three entries of padding behind the table (§4.5).
    let create = CreateTagBufferTableIn::zeroed();
    let table = nic.offload.create_table(&create).unwrap();
    nic.offload.create_tir(9, &tirc(table, false)).unwrap();
    let bytes = vectors::bytes(vectors::TAG_FILL);
    let Operation::TagFill(fill) = wqe::parse(&bytes).unwrap().operation else { panic!() };
    nic.offload.tag_fill(&TagFill { tirn: 9, ..fill }).unwrap();
    let beyond = TagFill { tirn: 9, first: 4, ..fill };
    assert_eq!(nic.offload.tag_fill(&beyond), Err(OffloadFault::TagBounds { first: 4, count: 4, size: 1 }));
}

#[test]
fn the_length_check_of_an_entry_counts() {
    let stream = stream(&[data(0, 0, 100), data(0, 0, 2), data(0, 0, 1)], NO_DIGESTS);
    let mut nic = Nic::new(NO_DIGESTS, 0, WhichRun::First, 0x1000);
    nic.bind(0, &[(BASE, 0x200)]);
    // bcount 1 as the first drivers wrote it, and a base address inside the tag's buffer.
    let entries = [klm(1, nic.tags[0], 0x10), vec![0; 48]].concat();
    nic.offload.tag_fill(&TagFill { tirn: TIRN, first: 0, entries: &entries }).unwrap();
    let outcome = nic.segment(0, &stream.bytes);
    assert_eq!(outcome.placed, Some(Run { hole: 54 + 124 + 26 + 24, len: 1, ccid: 0, ccoff: 0 }));
    assert_eq!(nic.memory(0x1000)[0x10], stream.bytes[124 + 26 + 24]);
    assert_eq!(nic.offload.counters().bytes_unplaced, BTreeMap::from([(Unplaced::TagLength, 102)]));
}

#[test]
fn unmapped_memory_gets_nothing() {
    let stream = stream(&[data(0, 0, 100)], DATA_DIGEST);
    let mut nic = Nic::new(DATA_DIGEST, 0, WhichRun::First, 0x1000);
    // The first piece could be written, the second only in part.
    nic.bind(0, &[(BASE, 40), (BASE + 0xfe0, 60)]);
    let outcome = nic.segment(0, &stream.bytes);
    assert_eq!((outcome.placed, outcome.ddgst_ok), (None, true));
    assert_eq!(nic.memory(0x1000), vec![0; 0x1000]);
    assert_eq!(nic.offload.counters().bytes_unplaced, BTreeMap::from([(Unplaced::Unmapped, 100)]));
}
