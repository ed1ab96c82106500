//! | property | test |
//! |---|---|
//! | vector A: static parameters | `vector_a_is_static_params` |
//! | vector B: progress parameters | `vector_b_is_progress_params` |
//! | vector C: fill of four tags | `vector_c_fills_four_tags` |
//! | vector D: setup of a tag with three entries | `vector_d_binds_a_tag` |
//! | vector E: invalidation of a tag | `vector_e_frees_a_tag` |
//! | vector F: differs from A in what the reference says | `vector_f_is_a_with_a_confirmed_sequence` |
//! | every constant that must be is checked, and named | `wrong_static_params_are_named` |
//! | a WQE whose size does not fit its contents is refused | `sizes_must_fit` |
//! | operations that are none are refused | `unknown_operations_are_refused` |
//! | entries in memory are named by a data segment | `entries_in_memory` |
//! | arbitrary bytes never panic | `arbitrary_bytes_never_panic` |
use super::vectors::{self, INVALIDATE, PROGRESS_PARAMS, RESYNC, SETUP, STATIC_PARAMS, TAG_FILL};
use super::*;
use proptest::prelude::*;

fn with(vector: &str, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = vectors::bytes(vector);
    change(&mut bytes);
    bytes
}

fn fault(vector: &str, change: impl FnOnce(&mut [u8])) -> WqeFault {
    parse(&with(vector, change)).unwrap_err()
}

#[test]
fn vector_a_is_static_params() {
    let bytes = vectors::bytes(STATIC_PARAMS);
    let wqe = parse(&bytes).unwrap();
    assert_eq!((wqe.index, wqe.sqn, wqe.ds, wqe.basic_blocks(), wqe.signalled()), (0, 0x1234, 12, 3, true));
    let Operation::Static { tirn, params } = wqe.operation else { panic!("{wqe:?}") };
    assert_eq!(tirn, 0xabc);
    let on = [
        StaticParams::CCCID_TTAG,
        StaticParams::ZERO_COPY_EN,
        StaticParams::DDGST_OFFLOAD_EN,
        StaticParams::DDGST_EN,
        StaticParams::HDDGST_EN,
    ];
    assert!(on.into_iter().all(|flag| params.is_set(flag)));
    let off = [StaticParams::TI, StaticParams::HDGST_OFFLOAD_EN, StaticParams::PDA, StaticParams::NVME_RESYNC_TCP_SN];
    assert!(off.into_iter().all(|flag| !params.is_set(flag)));
}

#[test]
fn vector_b_is_progress_params() {
    let bytes = vectors::bytes(PROGRESS_PARAMS);
    let wqe = parse(&bytes).unwrap();
    assert_eq!((wqe.index, wqe.sqn, wqe.ds, wqe.basic_blocks(), wqe.signalled()), (3, 0x1234, 2, 1, true));
    let Operation::Progress { tirn, params } = wqe.operation else { panic!("{wqe:?}") };
    assert_eq!(tirn, 0xabc);
    assert_eq!(params.get(ProgressParams::NEXT_PDU_TCP_SN), 0x1122_3344);
    assert_eq!(params.get(ProgressParams::PDU_TRACKER_STATE), 0);
}

#[test]
fn vector_c_fills_four_tags() {
    let bytes = vectors::bytes(TAG_FILL);
    let wqe = parse(&bytes).unwrap();
    assert_eq!((wqe.index, wqe.sqn, wqe.ds, wqe.signalled()), (4, 0x1234, 12, true));
    let Operation::TagFill(fill) = wqe.operation else { panic!("{wqe:?}") };
    assert_eq!((fill.tirn, fill.first), (0xabc, 0));
    let keys: Vec<u32> = fill
        .entries
        .chunks(16)
        .map(|entry| {
            let klm = hw_regs::wqe::Klm::from_prefix(entry);
            assert_eq!(klm.get(hw_regs::wqe::Klm::BCOUNT), u32::MAX);
            klm.get(hw_regs::wqe::Klm::KEY)
        })
        .collect();
    assert_eq!(keys, [0x50_0000, 0x50_0100, 0x50_0200, 0x50_0300]);
}

#[test]
fn vector_d_binds_a_tag() {
    let bytes = vectors::bytes(SETUP);
    let wqe = parse(&bytes).unwrap();
    assert_eq!((wqe.index, wqe.sqn, wqe.ds, wqe.signalled()), (7, 0x1234, 12, false));
    let Operation::Umr(umr) = wqe.operation else { panic!("{wqe:?}") };
    assert_eq!((umr.key, umr.check, umr.offset, umr.mask), (0x50_0100, FreeCheck::None, 0, 0x2000_0005));
    assert_eq!(umr.segment.get_wide(WqeMkeySeg::LEN), 12288 + 4096 + 512);
    assert_eq!(umr.segment.get(WqeMkeySeg::XLT_OCT_SIZE), 4);
    assert!(!umr.segment.is_set(WqeMkeySeg::STATUS_FREE));
    let Entries::Inline(entries) = umr.entries else { panic!("{umr:?}") };
    let klms: Vec<_> = entries
        .chunks(16)
        .map(|entry| {
            use hw_regs::wqe::Klm;
            let klm = Klm::from_prefix(entry);
            (klm.get(Klm::BCOUNT), klm.get(Klm::KEY), klm.get_wide(Klm::VA))
        })
        .collect();
    let expected =
        [(12288, 0x600, 0x1_0000_1000), (4096, 0x600, 0x1_0001_0000), (512, 0x600, 0x1_0002_0000), (0, 0, 0)];
    assert_eq!(klms, expected);
}

#[test]
fn vector_e_frees_a_tag() {
    let bytes = vectors::bytes(INVALIDATE);
    let wqe = parse(&bytes).unwrap();
    assert_eq!((wqe.index, wqe.sqn, wqe.ds, wqe.basic_blocks(), wqe.signalled()), (10, 0x1234, 8, 2, true));
    let Operation::Umr(umr) = wqe.operation else { panic!("{wqe:?}") };
    assert_eq!((umr.key, umr.mask, umr.entries), (0x50_0100, 0x2000_0000, Entries::Inline(&[])));
    assert!(umr.segment.is_set(WqeMkeySeg::STATUS_FREE));
}

#[test]
fn vector_f_is_a_with_a_confirmed_sequence() {
    let (a, f) = (vectors::bytes(STATIC_PARAMS), vectors::bytes(RESYNC));
    let (a, f) = (parse(&a).unwrap(), parse(&f).unwrap());
    assert_eq!(f.index, 12);
    let (Operation::Static { params: a, .. }, Operation::Static { tirn, params: f }) = (a.operation, f.operation)
    else {
        panic!("not static params")
    };
    assert_eq!(tirn, 0xabc);
    assert_eq!(f, a.with(StaticParams::NVME_RESYNC_TCP_SN, 0x1122_9999));
}

#[test]
fn wrong_static_params_are_named() {
    let field = |fault| match fault {
        WqeFault::StaticParams { field, .. } => field,
        other => panic!("{other}"),
    };
    assert_eq!(field(fault(STATIC_PARAMS, |b| b[0x80] = 0x01)), "const_2");
    assert_eq!(field(fault(STATIC_PARAMS, |b| b[0x80] = 0x80)), "const_1");
    assert_eq!(field(fault(STATIC_PARAMS, |b| b[0x80] |= 0x04)), "tls_version");
    assert_eq!(field(fault(STATIC_PARAMS, |b| b[0x83] = 3)), "acc_type");
    assert_eq!(field(fault(STATIC_PARAMS, |b| b[0xa6] &= !0x08)), "cccid_ttag");
    assert_eq!(field(fault(STATIC_PARAMS, |b| b[0x17] = 3)), "bsf_octowords");
    assert_eq!(fault(STATIC_PARAMS, |b| b[0x0f] = 1), WqeFault::TirNumber { value: 0xa_bc01 });
    assert_eq!(fault(PROGRESS_PARAMS, |b| b[0x10] = 1), WqeFault::TirNumber { value: 0x100_0abc });
}

#[test]
fn sizes_must_fit() {
    for vector in [STATIC_PARAMS, PROGRESS_PARAMS, TAG_FILL, SETUP, INVALIDATE] {
        let ds = vectors::bytes(vector)[7];
        for wrong in [0, 1, ds - 1, ds + 1] {
            let fault = fault(vector, |b| b[7] = wrong);
            assert!(matches!(fault, WqeFault::Size { ds, .. } if ds == u32::from(wrong)), "{fault}");
        }
        // Fewer bytes than the WQE says it has.
        let bytes = vectors::bytes(vector);
        assert!(matches!(parse(&bytes[..bytes.len() - 16]), Err(WqeFault::Size { .. })));
    }
    // One octoword more or less than there are entries; then counts that are no multiple of four.
    assert!(matches!(fault(SETUP, |b| b[0x15] = 8), WqeFault::Size { needed: 16, .. }));
    assert!(matches!(fault(SETUP, |b| b[0x15] = 3), WqeFault::Alignment { octowords: 3, offset: 0 }));
    assert!(matches!(fault(SETUP, |b| b[0x17] = 2), WqeFault::Alignment { octowords: 4, offset: 2 }));
}

#[test]
fn unknown_operations_are_refused() {
    for (opcode, opmod) in [(0x25, 1), (0x25, 3), (0x20, 3), (0x20, 2), (0x21, 4), (0x0a, 0)] {
        let wqe = with(SETUP, |b| {
            b[0] = opmod;
            b[3] = opcode;
        });
        let expected = WqeFault::Opcode { opcode: WqeOpcode(opcode), opmod: opmod.into() };
        assert_eq!(parse(&wqe), Err(expected));
    }
    assert_eq!(fault(SETUP, |b| b[0x10] |= 0x60), WqeFault::Flags { flags: 0xf0 });
    assert_eq!(fault(STATIC_PARAMS, |b| b[0x10] = 0), WqeFault::Flags { flags: 0 });
    let nop = [[0, 0, 9, 0, 0, 0x12, 0x34, 1], [0, 0, 0, 8, 0, 0, 0, 0]].concat();
    let nop = parse(&nop).unwrap();
    assert_eq!((nop.operation.clone(), nop.index, nop.signalled()), (Operation::Nop, 9, true));
}

#[test]
fn entries_in_memory() {
    // Without the inline flag: a data segment in place of the entries.
    let mut bytes = with(SETUP, |b| {
        b[0x10] = 0x10;
        b[7] = 9;
    });
    bytes.truncate(9 * 16);
    bytes[0x80..].copy_from_slice(&[0, 0, 0, 64, 0, 0, 6, 0, 0, 0, 0, 1, 0, 0, 0x10, 0]);
    let wqe = parse(&bytes).unwrap();
    let Operation::Umr(umr) = wqe.operation else { panic!("{wqe:?}") };
    assert_eq!(umr.entries, Entries::Memory { lkey: 0x600, va: 0x1_0000_1000, bytes: 64, octowords: 4 });
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        which in 0usize..5,
        noise in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        raw in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let vector = [STATIC_PARAMS, PROGRESS_PARAMS, TAG_FILL, SETUP, INVALIDATE][which];
        let mut bytes = vectors::bytes(vector);
        noise.iter().for_each(|(at, byte)| { let at = at.index(bytes.len()); bytes[at] = *byte });
        bytes.truncate(cut.index(bytes.len() + 1));
        for bytes in [&bytes, &raw] {
            match parse(bytes) {
                Ok(wqe) => prop_assert!(wqe.ds as usize * 16 <= bytes.len()),
                Err(fault) => prop_assert!(!fault.to_string().is_empty()),
            }
        }
    }
}
