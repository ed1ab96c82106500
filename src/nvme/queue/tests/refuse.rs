use super::*;
use crate::nvme::pdu::FieldError;
use proptest::prelude::*;

/// What a rig is given, and which field must be blamed: (PDU, field, offset, FES).
type Case = (&'static str, fn(&mut Rig), (&'static str, &'static str, u8, u16));

/// One outstanding read of 100 bytes (0) and one write of 10,000 bytes (1); 2 is a flush, 3 is not outstanding.
fn loaded() -> Rig {
    let mut rig = Rig::ready(config(false, false));
    assert_eq!(rig.read(100), 0);
    rig.submit(Request::write(1, 0, 10_000, 1).expect("legal"));
    rig.submit(Request::flush(1));
    rig.sent();
    rig
}

fn blame(rig: &mut Rig) -> (FieldError, (u16, u32, Vec<u8>)) {
    match rig.failure() {
        (Reason::Field(error), Some(term)) => (error, term),
        other => panic!("expected a field and H2CTermReq, found {other:?}"),
    }
}

#[test]
fn each_malformed_pdu_names_its_field() {
    let cases: &[Case] = &[
        ("unknown type", |r| r.peer.pdu([8, 0, 24, 0], 24, &[0; 16], false), ("unknown", "PDU-Type", 0, 1)),
        ("a host's PDU", |r| r.peer.pdu([4, 0, 72, 0], 72, &[0; 64], false), ("CapsuleCmd", "PDU-Type", 0, 1)),
        ("a second ICResp", |r| r.peer.icresp(0, 4096), ("ICResp", "PDU-Type", 0, 2)),
        ("header length", |r| r.peer.pdu([7, 4, 32, 32], 64, &[0; 24], false), ("C2HData", "HLEN", 2, 1)),
        ("digest flag", |r| r.peer.pdu([5, 1, 24, 0], 28, &[0; 16], false), ("CapsuleResp", "FLAGS", 1, 1)),
        ("reserved flag", |r| r.peer.pdu([5, 0x40, 24, 0], 24, &[0; 16], false), ("CapsuleResp", "FLAGS", 1, 1)),
        ("SUCCESS alone", |r| r.peer.data(0, 0, &[0; 100], 8, 0), ("C2HData", "FLAGS", 1, 1)),
        ("PDO in header", |r| r.peer.data_at(0, 0, 100, 20, 120), ("C2HData", "PDO", 3, 1)),
        ("PDO unaligned", |r| r.peer.data_at(0, 0, 100, 27, 127), ("C2HData", "PDO", 3, 1)),
        ("PDO of a response", |r| r.peer.pdu([5, 0, 24, 24], 24, &[0; 16], false), ("CapsuleResp", "PDO", 3, 1)),
        ("PLEN short", |r| r.peer.data_at(0, 0, 100, 24, 123), ("C2HData", "PLEN", 4, 1)),
        ("PLEN long", |r| r.peer.data_at(0, 0, 100, 24, u32::MAX), ("C2HData", "PLEN", 4, 1)),
        ("PLEN of a response", |r| r.peer.pdu([5, 0, 24, 0], 25, &[0; 16], false), ("CapsuleResp", "PLEN", 4, 1)),
        ("no data", |r| r.peer.data_at(0, 0, 0, 24, 25), ("C2HData", "DATAL", 16, 1)),
        ("unknown CCCID", |r| r.peer.data(3, 0, &[0; 4], 0, 0), ("C2HData", "CCCID", 8, 1)),
        ("CCCID beyond the depth", |r| r.peer.data(0xffff, 0, &[0; 4], 0, 0), ("C2HData", "CCCID", 8, 1)),
        ("data for a write", |r| r.peer.data(1, 0, &[0; 4], 0, 0), ("C2HData", "CCCID", 8, 1)),
        ("data for a flush", |r| r.peer.data(2, 0, &[0; 4], 0, 0), ("C2HData", "CCCID", 8, 1)),
        ("DATAO beyond", |r| r.peer.data(0, 100, &[0; 4], 0, 0), ("C2HData", "DATAO", 12, 4)),
        ("DATAO near 2^32", |r| r.peer.data(0, u32::MAX - 1, &[0; 4], 0, 0), ("C2HData", "DATAO", 12, 4)),
        ("DATAL beyond", |r| r.peer.data(0, 99, &[0; 2], 0, 0), ("C2HData", "DATAL", 16, 4)),
        ("too much data", |r| r.peer.data(0, 0, &[0; 101], 0, 0), ("C2HData", "DATAL", 16, 4)),
        (
            "data twice",
            |r| {
                r.peer.data(0, 0, &[0; 60], 0, 0);
                r.peer.data(0, 40, &[0; 60], 0, 0);
            },
            ("C2HData", "DATAO", 12, 1),
        ),
        (
            "data after LAST_PDU",
            |r| {
                r.peer.data(0, 0, &[0; 60], 4, 0);
                r.peer.data(0, 60, &[0; 40], 4, 0);
            },
            ("C2HData", "CCCID", 8, 2),
        ),
        ("response to nothing", |r| r.peer.response(3, 0, 0), ("CapsuleResp", "CQE.CID", 20, 1)),
        (
            "two responses",
            |r| {
                r.peer.response(2, 0, 0);
                r.peer.response(2, 0, 0);
            },
            ("CapsuleResp", "CQE.CID", 20, 1),
        ),
        (
            "response after SUCCESS",
            |r| {
                r.peer.data(0, 0, &[0; 100], 12, 0);
                r.peer.response(0, 0, 0);
            },
            ("CapsuleResp", "CQE.CID", 20, 1),
        ),
        ("R2T for a read", |r| r.peer.r2t(0, 0, 0, 10), ("R2T", "CCCID", 8, 1)),
        ("R2T for nothing", |r| r.peer.r2t(3, 0, 0, 10), ("R2T", "CCCID", 8, 1)),
        ("R2T elsewhere", |r| r.peer.r2t(1, 0, 4, 10), ("R2T", "R2TO", 12, 1)),
        ("R2T beyond", |r| r.peer.r2t(1, 0, 0, 10_001), ("R2T", "R2TL", 16, 4)),
        ("R2T of nothing", |r| r.peer.r2t(1, 0, 0, 0), ("R2T", "R2TL", 16, 1)),
        (
            "two R2Ts",
            |r| {
                r.peer.r2t(1, 0, 0, 10);
                r.peer.r2t(1, 0, 10, 10);
            },
            ("R2T", "CCCID", 8, 5),
        ),
        (
            "response before the data of an R2T",
            |r| {
                r.peer.r2t(1, 0, 0, 10);
                r.peer.response(1, 2, 0);
            },
            ("CapsuleResp", "CQE.CID", 20, 2),
        ),
        ("C2HTermReq length", |r| r.peer.pdu([3, 0, 24, 0], 153, &[0; 16], false), ("C2HTermReq", "PLEN", 4, 1)),
    ];
    for (name, break_it, (pdu, field, offset, fes)) in cases {
        let mut rig = loaded();
        let before = rig.queue.outstanding();
        break_it(&mut rig);
        let all = rig.peer.stream.clone();
        rig.hear();
        let outstanding = rig.queue.outstanding();
        let (error, term) = blame(&mut rig);
        assert_eq!((error.pdu, error.field, error.offset), (*pdu, *field, *offset), "{name}: {error}");
        assert_eq!((term.0, term.1), (*fes, u32::from(*offset)), "{name}: FES and FEI");
        assert!(!term.2.is_empty() && all.windows(term.2.len()).any(|bytes| bytes == term.2), "{name}: the header");
        assert_eq!((before, outstanding), (3, 0), "{name}: every command has completed");
    }
}

impl Script {
    /// C2HData with any PDO and PLEN.
    fn data_at(&mut self, cid: u16, datao: u32, datal: u32, pdo: u8, plen: u32) {
        let rest = [u32::from(cid), datao, datal, 0].map(u32::to_le_bytes).concat();
        self.pdu([7, 4, 24, pdo], plen, &rest, false);
        self.stream.resize(self.stream.len() + datal as usize, 0);
    }
}

#[test]
fn each_bad_icresp_names_its_field() {
    // (byte, value, field, FES)
    for (at, value, field, fes) in [
        (0, 5, "PDU-Type", 2),
        (1, 1, "FLAGS", 1),
        (2, 24, "HLEN", 1),
        (3, 1, "PDO", 1),
        (4, 127, "PLEN", 1),
        (8, 1, "PFV", 6),
        (10, 32, "CPDA", 1),
        (11, 8, "DGST", 1),
        (12, 1, "MAXH2CDATA", 1),
        (13, 0, "MAXH2CDATA", 1),
    ] {
        let mut rig = Rig::new(config(false, false));
        rig.sent();
        rig.peer.icresp(0, 4096);
        rig.peer.stream[at] = value;
        rig.hear();
        let (error, term) = blame(&mut rig);
        assert_eq!((error.field, term.0), (field, fes), "{error}");
    }
}

#[test]
fn digests_must_be_granted_as_asked() {
    for (asked, granted) in [((true, true), 1), ((true, false), 0), ((false, false), 2)] {
        let mut rig = Rig::new(config(asked.0, asked.1));
        rig.sent();
        rig.peer.icresp(0, 4096);
        rig.peer.stream[11] = granted;
        rig.hear();
        let (reason, term) = rig.failure();
        assert!(matches!(reason, Reason::Digests { granted: g, .. } if g == granted), "{reason}");
        assert_eq!(term.map(|t| (t.0, t.1)), Some((6, 11)));
    }
}

#[test]
fn a_damaged_header_ends_the_connection() {
    for bit in 0..28 * 8 {
        // A changed type, HLEN or HDGSTF is noticed before the digest can be found.
        if bit < 24 {
            continue;
        }
        let mut rig = Rig::ready(config(true, false));
        let cid = rig.read(100);
        rig.peer.data(cid, 0, &[1; 100], 12, 0);
        rig.peer.stream[bit / 8] ^= 1 << (bit % 8);
        let header = rig.peer.stream[..28].to_vec();
        rig.hear();
        let (reason, term) = rig.failure();
        let received = u32::from_le_bytes([header[24], header[25], header[26], header[27]]);
        let computed = bitwise_crc32c(&header[..24]);
        assert_eq!(reason, Reason::HeaderDigest { pdu: "C2HData", received, computed });
        assert_eq!(term, Some((3, received, header[..24].to_vec())));
        assert_eq!(rig.memory.tags[&cid].1, vec![0xaa; 100], "nothing was delivered");
    }
}

#[test]
fn success_needs_all_data() {
    let mut rig = loaded();
    rig.peer.data(0, 0, &[0; 60], 4, 0);
    rig.peer.response(0, 0, 0);
    rig.hear();
    let (reason, term) = rig.failure();
    assert_eq!(reason, Reason::MissingData { cid: 0, moved: 60, expected: 100 });
    assert_eq!(term.map(|t| t.0), Some(2));

    let mut rig = loaded();
    rig.peer.data(0, 40, &[0; 60], 12, 0);
    rig.hear();
    assert_eq!(rig.failure().0, Reason::MissingData { cid: 0, moved: 60, expected: 100 });

    let mut rig = loaded();
    rig.peer.r2t(1, 0, 0, 5000);
    rig.hear();
    rig.sent();
    rig.peer.response(1, 0, 0);
    rig.hear();
    assert_eq!(rig.failure().0, Reason::MissingData { cid: 1, moved: 5000, expected: 10_000 });
}

#[test]
fn data_before_the_command_was_sent_is_refused() {
    let mut rig = Rig::ready(config(false, false));
    let cid = rig.submit(Request::read(1, 0, 1, 512).expect("legal"));
    rig.peer.data(cid, 0, &[0; 512], 12, 0);
    rig.hear();
    assert_eq!(blame(&mut rig).0.field, "CCCID");
}

#[test]
fn a_terminate_request_is_not_answered() {
    let mut rig = loaded();
    rig.peer.pdu([3, 0, 24, 0], 48, &[[4, 0, 16, 0].as_slice(), &[0; 12]].concat(), false);
    rig.peer.stream.extend([0; 24]);
    rig.hear();
    assert_eq!(rig.failure(), (Reason::Terminated { fes: 4, fei: 16 }, None));
    assert!(Reason::Terminated { fes: 4, fei: 16 }.to_string().contains("Data Transfer Out of Range"));
}

#[test]
fn a_gap_in_the_stream_is_refused() {
    let mut rig = loaded();
    rig.peer.response(2, 0, 0);
    rig.seq = rig.seq.wrapping_add(1);
    let got = rig.seq;
    rig.hear();
    assert_eq!(rig.failure(), (Reason::Gap { expected: got.wrapping_sub(1), got }, None));
}

#[test]
fn stale_bytes_end_the_connection() {
    let mut rig = loaded();
    rig.peer.data(0, 0, &[5; 100], 12, 0);
    let stale = Frame::new(RxBuffer(0), 124).with_placed(24, 100, Placed { tag: 0, generation: 99, offset: 0 });
    rig.memory.ring = vec![rig.peer.stream.clone()];
    rig.queue.receive_frame(rig.seq, &stale, &mut rig.memory);
    let _ = stale.into_buffer();
    assert_eq!(rig.failure(), (Reason::Memory(PayloadError::Stale { tag: 0, generation: 99 }), None));
}

#[test]
fn no_terminate_request_inside_a_pdu() {
    let mut rig = loaded();
    rig.peer.r2t(1, 0, 0, 10_000);
    rig.hear();
    let mut out = [0; 1000];
    assert_eq!(rig.queue.transmit(&rig.memory, &mut out), 1000);
    rig.peer.response(3, 0, 0);
    rig.hear();
    let (reason, term) = rig.failure();
    assert!(matches!(reason, Reason::Field(_)));
    assert_eq!(term, None, "the controller would take it for data");

    // A capsule without data is finished first.
    let mut rig = loaded();
    rig.submit(Request::flush(0x0504_0302));
    let mut out = [0; 11];
    assert_eq!(rig.queue.transmit(&rig.memory, &mut out), 11);
    rig.peer.response(7, 0, 0);
    rig.hear();
    let sent = rig.sent();
    assert_eq!(sent.len(), 61 + 48);
    assert_eq!(sent[..7], [0, 2, 3, 4, 5, 0, 0], "the entry goes on with its CID's high byte and NSID");
    assert_eq!(sent[61..65], [2, 0, 24, 0]);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 1..600),
        starts in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..6), 0..8),
        cuts in proptest::collection::vec(1usize..80, 1..8),
        ready: bool, header_digest: bool, data_digest: bool,
    ) {
        let config = config(header_digest, data_digest);
        let mut rig = if ready { Rig::ready(config) } else { Rig::new(config) };
        if ready {
            for len in [100, 8, 3000] {
                rig.read(len);
            }
            rig.submit(Request::write(1, 0, 10_000, 1).expect("legal"));
            rig.sent();
        }
        // Plausible headers here and there, so that the deeper checks are reached.
        let flags = u8::from(header_digest) + 2 * u8::from(data_digest);
        for (at, kind) in starts {
            let mut plausible = Script::new(header_digest, data_digest);
            match kind {
                0 => plausible.icresp(0, 4096),
                1 => plausible.response(u16::from(bytes[0] % 8), 0, 0),
                2 => plausible.data(u16::from(bytes[0] % 8), u32::from(bytes[0]), &[1; 60], 4 * (flags & 1), 0),
                3 => plausible.r2t(3, 0, u32::from(bytes[0]), 5000),
                4 => plausible.data(0, 0, &[1; 100], 12, 0),
                _ => plausible.pdu([7, flags, 24, 28], 0x1_0000, &[0; 16], header_digest),
            }
            let at = at.index(bytes.len());
            bytes.splice(at..at, plausible.stream);
        }
        rig.peer.stream = bytes;
        let mut cuts = cuts.iter().cycle();
        while !rig.peer.stream.is_empty() {
            let n = cuts.next().map_or(1, |&n| n.min(rig.peer.stream.len()));
            rig.frame(n, None, n % 2 == 0);
            rig.queue.resync_request(rig.seq.wrapping_add(n as u32));
            rig.sent();
        }
        let failures = rig.events().iter().filter(|event| matches!(event, Event::Failed(_))).count();
        prop_assert!(failures <= 1);
    }
}
