//! | property | test |
//! |---|---|
//! | what the host sends has the bytes that the specification gives it | `what_the_host_sends_has_the_specified_bytes` |
//! | padding follows the controller's alignment, digests take their room | `padding_and_digests_take_their_room` |
//! | legal PDUs are taken apart | `legal_pdus_are_taken_apart` |
//! | each illegal field is refused by name | `each_illegal_field_is_refused_by_name` |
//! | no bytes make the parser panic, and what it accepts is consistent | `no_bytes_panic` |
use super::*;
use proptest::prelude::*;

const PLAIN: Negotiated = Negotiated { header_digest: false, data_digest: false, hpda: 0, cpda: 0 };
const DIGESTS: Negotiated = Negotiated { header_digest: true, data_digest: true, hpda: 0, cpda: 0 };

/// A header of `len` bytes that starts with these.
fn header(start: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = start.to_vec();
    bytes.resize(len, 0);
    bytes
}

#[test]
fn what_the_host_sends_has_the_specified_bytes() {
    let icreq = IcReq::new(0, true, true);
    assert_eq!(icreq.as_bytes(), header(&[0, 0, 128, 0, 128, 0, 0, 0, 0, 0, 0, 3], 128));
    let capsule = CapsuleCmd::new(Sqe::default(), 0, &PLAIN);
    assert_eq!(capsule.as_bytes(), header(&[4, 0, 72, 0, 72], 72));
    let capsule = CapsuleCmd::new(Sqe::default(), 1024, &DIGESTS);
    assert_eq!(capsule.as_bytes()[..8], [4, 3, 72, 76, 80, 4, 0, 0]);
    let data = H2cData::new(0x0102, 0x0304, 0x1000, 0x2000, true, &PLAIN);
    let expected = [6, 4, 24, 24, 24, 0x20, 0, 0, 2, 1, 4, 3, 0, 0x10, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0];
    assert_eq!(data.as_bytes(), expected);
    let term = TermReq::h2c(FatalStatus::HeaderDigestError, 0x0a0b_0c0d, 24);
    assert_eq!(term.as_bytes(), header(&[2, 0, 24, 0, 48, 0, 0, 0, 3, 0, 0x0d, 0x0c, 0x0b, 0x0a], 24));
}

#[test]
fn padding_and_digests_take_their_room() {
    let aligned = Negotiated { cpda: 31, ..DIGESTS };
    let capsule = CapsuleCmd::new(Sqe::default(), 512, &aligned).common;
    assert_eq!((capsule.pdo, capsule.plen.get()), (128, 128 + 512 + 4));
    let data = H2cData::new(0, 0, 0, 4096, false, &Negotiated { cpda: 8, ..PLAIN }).common;
    assert_eq!((data.pdo, data.plen.get(), data.flags), (36, 36 + 4096, 0));
    for negotiated in [PLAIN, DIGESTS, aligned] {
        let data = H2cData::new(1, 2, 3, 4, true, &negotiated);
        let bytes = header(data.as_bytes(), 28);
        assert_eq!(Pdu::parse(&bytes, &negotiated), Ok(Pdu::H2cData(data)));
    }
}

#[test]
fn legal_pdus_are_taken_apart() {
    let bytes = [7, 0x0c, 24, 24, 24, 2, 0, 0, 5, 0, 0, 0, 0, 16, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0];
    let Ok(Pdu::C2hData(data)) = Pdu::parse(&bytes, &PLAIN) else { panic!("a legal C2HData") };
    assert_eq!((data.cccid.get(), data.datao.get(), data.datal.get()), (5, 4096, 512));
    assert!(data.is_last() && data.is_success());
    let bytes = [9, 1, 24, 0, 28, 0, 0, 0, 5, 0, 7, 0, 0, 16, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    let Ok(Pdu::R2t(r2t)) = Pdu::parse(&bytes, &DIGESTS) else { panic!("a legal R2T") };
    assert_eq!((r2t.cccid.get(), r2t.ttag.get(), r2t.r2to.get(), r2t.r2tl.get()), (5, 7, 4096, 512));
    let icresp = header(&[1, 0, 128, 0, 128, 0, 0, 0, 0, 0, 3, 1, 0, 0, 4, 0], 128);
    let Ok(Pdu::IcResp(icresp)) = Pdu::parse(&icresp, &DIGESTS) else { panic!("a legal ICResp") };
    assert_eq!((icresp.cpda, icresp.dgst, icresp.maxh2cdata.get()), (3, 1, 0x4_0000));
}

#[test]
fn each_illegal_field_is_refused_by_name() {
    let c2h = [7, 4, 24, 24, 24, 2, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0];
    let resp = header(&[5, 0, 24, 0, 24], 24);
    let r2t = header(&[9, 0, 24, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 24);
    let icresp = header(&[1, 0, 128, 0, 128, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], 128);
    let term = header(&[3, 0, 24, 0, 24, 0, 0, 0, 1], 24);
    for (good, name) in
        [(&c2h[..], "C2HData"), (&resp, "CapsuleResp"), (&r2t, "R2T"), (&icresp, "ICResp"), (&term, "T")]
    {
        assert!(Pdu::parse(good, &PLAIN).is_ok(), "{name} is legal before it is broken");
    }
    // (PDU, byte to change, new value, name of the field at fault)
    let cases: &[(&[u8], usize, u8, &str)] = &[
        (&c2h, 0, 8, "PDU-Type"),
        (&c2h, 0, 10, "PDU-Type"),
        (&c2h, 1, 4 | 1, "FLAGS"),
        (&c2h, 1, 4 | 2, "FLAGS"),
        (&c2h, 1, 8, "FLAGS"),
        (&c2h, 1, 0x84, "FLAGS"),
        (&c2h, 2, 25, "HLEN"),
        (&c2h, 3, 0, "PDO"),
        (&c2h, 3, 20, "PDO"),
        (&c2h, 3, 26, "PDO"),
        (&c2h, 4, 25, "PLEN"),
        (&c2h, 5, 0, "PLEN"),
        (&c2h, 7, 1, "PLEN"),
        (&c2h, 17, 0, "DATAL"),
        (&resp, 1, 4, "FLAGS"),
        (&resp, 2, 16, "HLEN"),
        (&resp, 3, 24, "PDO"),
        (&resp, 4, 28, "PLEN"),
        (&r2t, 1, 8, "FLAGS"),
        (&r2t, 3, 24, "PDO"),
        (&r2t, 4, 32, "PLEN"),
        (&r2t, 16, 0, "R2TL"),
        (&icresp, 2, 24, "HLEN"),
        (&icresp, 1, 1, "FLAGS"),
        (&icresp, 4, 132, "PLEN"),
        (&icresp, 8, 1, "PFV"),
        (&icresp, 10, 32, "CPDA"),
        (&icresp, 11, 4, "DGST"),
        (&icresp, 12, 2, "MAXH2CDATA"),
        (&icresp, 13, 15, "MAXH2CDATA"),
        (&term, 4, 153, "PLEN"),
        (&term, 4, 23, "PLEN"),
    ];
    for &(pdu, at, value, field) in cases {
        let mut bytes = pdu.to_vec();
        bytes[at] = value;
        let error = Pdu::parse(&bytes, &PLAIN).expect_err("refused");
        assert_eq!(error.field, field, "byte {at} = {value:#x}: {error}");
        assert!(error.to_string().contains(field));
    }
    let digestless = Pdu::parse(&c2h, &DIGESTS).expect_err("digests were negotiated");
    assert_eq!((digestless.field, digestless.allowed), ("FLAGS", Allowed::Text("HDGSTF (bit 0) set")));
    assert_eq!(Pdu::parse(&c2h[..20], &PLAIN).expect_err("short").field, "header");
    assert_eq!(Pdu::parse(&[], &PLAIN).expect_err("empty").field, "header");
}

proptest! {
    #[test]
    fn no_bytes_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..140),
        pdu_type in 0u8..10, header_digest: bool, data_digest: bool, hpda in 0u8..32, cpda in 0u8..32, plausible: bool,
    ) {
        let negotiated = Negotiated { header_digest, data_digest, hpda, cpda };
        if plausible && bytes.len() >= 8 {
            bytes[0] = pdu_type;
            bytes[2] = match pdu_type { 0 | 1 => 128, 4 => 72, _ => 24 };
            bytes[1] &= 0x0f;
            bytes[6..8].fill(0);
        }
        if let Ok(pdu) = Pdu::parse(&bytes, &negotiated) {
            let common = CommonHeader::read_from_prefix(&bytes).expect("parsed").0;
            prop_assert_eq!(pdu.pdu_type() as u8, common.pdu_type);
            if let Pdu::C2hData(data) = pdu {
                let digest = if data_digest { 4 } else { 0 };
                prop_assert_eq!(common.plen.get(), u32::from(common.pdo) + data.datal.get() + digest);
                prop_assert!(usize::from(common.pdo) >= header_len(&common, &negotiated).expect("parsed"));
            }
        }
    }
}
