//! | property | test |
//! |---|---|
//! | whatever the mode and the lengths, a translation names exactly the bytes that were meant, and a cursor changes nothing | `every_mode_translates_as_a_list_of_bytes_would` |
//! | a read gets what a write put, through any key, and nothing else is touched | `a_write_goes_where_the_key_says_and_nowhere_else` |
//! | nothing is written if any byte cannot be | `a_write_that_fails_touches_nothing` |
//! | variant, free, rights, protection domain and bounds are checked at every use | `each_check_refuses_on_its_own` |
//! | keys that lead in circles or too deep end | `circles_end` |
//! | pages allow what their low bits say | `page_bits_are_checked` |
//! | CREATE_MKEY refuses what could not work, with distinct syndromes | `create_refuses_what_could_not_work` |
//! | an index is not used again soon, and a destroyed key is unknown | `a_destroyed_key_stays_unknown` |
//! | the vectors' setup and invalidate bind and free a tag | `umr_binds_and_frees_a_tag` |
//! | a list longer than one WQE arrives in pieces | `a_long_list_arrives_in_pieces` |
//! | a UMR that is refused changes nothing | `a_refused_umr_changes_nothing` |
//! | entries in memory are fetched through their key | `umr_entries_from_memory` |
//! | query shows the key as UMR left it | `query_shows_what_umr_did` |
use super::*;
use crate::dma::build::memory;
use crate::wqe::{self, Entries, FreeCheck, MkeyUmr, Operation, vectors};
use hw_regs::wqe::{Klm, WqeMkeySeg};
use proptest::prelude::*;

const PD: u32 = 7;
const BASE: u64 = 0x10_0000;

fn mkc(mode: AccessMode) -> Mkc {
    Mkc::zeroed()
        .with(Mkc::ACCESS_MODE_1_0, mode.0.into())
        .with(Mkc::LR, 1)
        .with(Mkc::LW, 1)
        .with(Mkc::QPN, 0xff_ffff)
        .with(Mkc::PD, PD)
}

fn create_in(mkc: &Mkc, actual: usize) -> CreateMkeyIn {
    CreateMkeyIn::zeroed()
        .with_nested(CreateMkeyIn::MEMORY_KEY_MKEY_ENTRY, mkc)
        .with(CreateMkeyIn::TRANSLATIONS_OCTWORD_ACTUAL_SIZE, actual as u32)
}

fn create(keys: &mut Mkeys, mkc: Mkc, tail: &[u8]) -> u32 {
    let octowords = tail.len() / 16;
    let size = mkc.get(Mkc::TRANSLATIONS_OCTWORD_SIZE).max(octowords as u32);
    let mkc = mkc.with(Mkc::TRANSLATIONS_OCTWORD_SIZE, size);
    let index = keys.create(&create_in(&mkc, octowords), tail).unwrap();
    index << 8 | mkc.get(Mkc::MKEY_7_0)
}

fn pa(keys: &mut Mkeys) -> u32 {
    create(keys, mkc(AccessMode::PA).with(Mkc::LENGTH64, 1), &[])
}

fn klm(bcount: u32, key: u32, va: u64) -> Vec<u8> {
    Klm::zeroed().with(Klm::BCOUNT, bcount).with(Klm::KEY, key).with_wide(Klm::VA, va).bytes().to_vec()
}

fn pages(addresses: &[u64]) -> Vec<u8> {
    let mut bytes: Vec<u8> = addresses.iter().flat_map(|page| page.to_be_bytes()).collect();
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    bytes
}

/// A tag: a free KLM key of `size` octowords (`nvme-tcp-offload.md` §3.2).
fn tag(keys: &mut Mkeys, size: u32) -> u32 {
    let mkc = mkc(AccessMode::KLMS)
        .with(Mkc::FREE, 1)
        .with(Mkc::UMR_EN, 1)
        .with(Mkc::TRANSLATIONS_OCTWORD_SIZE, size)
        .with(Mkc::MKEY_7_0, 0x5a);
    create(keys, mkc, &[])
}

/// A setup of a tag as §4.7 has it.
fn bind<'a>(key: u32, len: u64, total: u32, entries: &'a [u8]) -> MkeyUmr<'a> {
    let segment =
        WqeMkeySeg::zeroed().with_wide(WqeMkeySeg::LEN, len).with(WqeMkeySeg::XLT_OCT_SIZE, total.next_multiple_of(4));
    MkeyUmr { key, check: FreeCheck::None, offset: 0, entries: Entries::Inline(entries), mask: 0x2000_0005, segment }
}

/// One kind of key over one run of device addresses, and what it means byte by byte.
#[derive(Clone, Debug)]
enum Shape {
    Pa,
    /// Page shift above 12, and offset of the start in the first page.
    Mtt(u32, u64),
    /// Lengths of the pieces.
    Klm(Vec<u32>),
    /// Block shift.
    Ksm(u32),
    /// A list of pieces over a list of pieces over pages.
    Nested(Vec<u32>),
}

fn shape() -> impl Strategy<Value = Shape> {
    let pieces = || proptest::collection::vec(0u32..700, 1..12);
    prop_oneof![
        Just(Shape::Pa),
        (0u32..2, 0u64..5000).prop_map(|(shift, start)| Shape::Mtt(shift, start)),
        pieces().prop_map(Shape::Klm),
        (3u32..9).prop_map(Shape::Ksm),
        pieces().prop_map(Shape::Nested),
    ]
}

const MEMORY: u64 = 0x2_0000;

/// Makes the key; returns it, the address it begins at, and the device address of each byte.
fn make(keys: &mut Mkeys, shape: &Shape, spread: u64) -> (u32, u64, Vec<u64>) {
    let data = pa(keys);
    // Pieces in memory, none next to another, in an order that is not theirs.
    let place = |index: usize| BASE + (index as u64 * 1000 * spread) % (MEMORY - 1000);
    match shape {
        Shape::Pa => (data, BASE + 5, (BASE + 5..BASE + 5 + 4000).collect()),
        Shape::Mtt(shift, start) => {
            let (size, start) = (1u64 << (12 + shift), start % (1 << (12 + shift)) + 0x7000_0000);
            let count = 5;
            let list: Vec<u64> = (0..count).map(|i| BASE + (i * 3 % count) * size).collect();
            let len = count * size - start % size - 3;
            let mkc = mkc(AccessMode::MTT)
                .with(Mkc::LOG_PAGE_SIZE, 12 + shift)
                .with_wide(Mkc::START_ADDR, start)
                .with_wide(Mkc::LEN, len);
            let key = create(keys, mkc, &pages(&list));
            let first = start % size;
            let bytes = (first..first + len).map(|at| list[(at / size) as usize] + at % size).collect();
            (key, start, bytes)
        }
        Shape::Klm(pieces) => {
            let mut list = Vec::new();
            let mut bytes = Vec::new();
            for (index, len) in pieces.iter().enumerate() {
                list.extend(klm(*len, data, place(index)));
                bytes.extend(place(index)..place(index) + u64::from(*len));
            }
            let mkc = mkc(AccessMode::KLMS).with_wide(Mkc::LEN, bytes.len() as u64);
            (create(keys, mkc, &list), 0, bytes)
        }
        Shape::Ksm(shift) => {
            let (size, count) = (1u64 << shift, 9);
            let list = (0..count).flat_map(|i| klm(0, data, place(i))).collect::<Vec<_>>();
            let bytes: Vec<u64> = (0..count).flat_map(|i| place(i)..place(i) + size).collect();
            let mkc = mkc(AccessMode::KSM).with(Mkc::LOG_PAGE_SIZE, *shift).with_wide(Mkc::LEN, bytes.len() as u64);
            (create(keys, mkc, &list), 0, bytes)
        }
        Shape::Nested(pieces) => {
            let (inner, start, under) = make(keys, &Shape::Mtt(0, 77), spread);
            let (list, start, under) = {
                // A middle list of two halves of the pages, swapped.
                let half = under.len() as u64 / 2;
                let rest = under.len() as u64 - half;
                let list = [klm(rest as u32, inner, start + half), klm(half as u32, inner, start)].concat();
                let swapped = [&under[half as usize..], &under[..half as usize]].concat();
                let mkc = mkc(AccessMode::KLMS).with_wide(Mkc::LEN, under.len() as u64);
                (create(keys, mkc, &list), 0, swapped)
            };
            let mut outer = Vec::new();
            let mut bytes = Vec::new();
            for (index, len) in pieces.iter().enumerate() {
                let from = index as u64 * 997 % (under.len() as u64 - 700);
                outer.extend(klm(*len, list, start + from));
                bytes.extend(&under[from as usize..][..*len as usize]);
            }
            let mkc = mkc(AccessMode::KLMS).with_wide(Mkc::LEN, bytes.len() as u64);
            (create(keys, mkc, &outer), 0, bytes)
        }
    }
}

fn flat(segments: &[Segment]) -> Vec<u64> {
    segments.iter().flat_map(|s| s.iova..s.iova + u64::from(s.len)).collect()
}

proptest! {
    #[test]
    fn every_mode_translates_as_a_list_of_bytes_would(
        shape in shape(),
        spread in 1u64..9,
        spans in proptest::collection::vec((any::<prop::sample::Index>(), 0u32..900), 1..12),
    ) {
        let mut keys = Mkeys::new(MkeyLimits::default());
        let (key, start, bytes) = make(&mut keys, &shape, spread);
        let mut cursor = Cursor::default();
        let mut out = Vec::new();
        for (at, len) in spans {
            let at = at.index(bytes.len() + 1);
            let span = Span { key, va: start + at as u64, len };
            let expected = bytes.get(at..at + len as usize);
            let done = keys.translate(span, Access::Write, Some(PD), &mut cursor, &mut out);
            match (expected, done) {
                (Some(expected), done) => {
                    done.unwrap();
                    prop_assert_eq!(flat(&out), expected);
                }
                // A whole-memory key has no end.
                (None, done) => prop_assert!(done.is_err() || matches!(shape, Shape::Pa)),
            }
        }
    }

    #[test]
    fn a_write_goes_where_the_key_says_and_nowhere_else(
        shape in shape(),
        at in any::<prop::sample::Index>(),
        len in any::<prop::sample::Index>(),
    ) {
        let mut keys = Mkeys::new(MkeyLimits::default());
        let dma = memory(BASE, MEMORY);
        let (key, start, bytes) = make(&mut keys, &shape, 1);
        let at = at.index(bytes.len() + 1);
        let len = len.index(bytes.len() - at + 1);
        let mut targets = bytes[at..at + len].to_vec();
        targets.sort_unstable();
        targets.dedup();
        // A list may name an address twice; then the later byte wins and there is nothing to compare.
        prop_assume!(targets.len() == len);
        let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8 + 1).collect();
        keys.write(key, start + at as u64, &payload, Some(PD), &dma).unwrap();
        let mut all = vec![0; MEMORY as usize];
        dma.read(BASE, &mut all).unwrap();
        for (byte, target) in payload.iter().zip(&bytes[at..]) {
            prop_assert_eq!(all[(target - BASE) as usize], *byte);
            all[(target - BASE) as usize] = 0;
        }
        prop_assert!(all.iter().all(|byte| *byte == 0));
        let mut back = vec![0; len];
        keys.read(key, start + at as u64, &mut back, Some(PD), &dma).unwrap();
        prop_assert_eq!(back, payload);
    }
}

#[test]
fn a_write_that_fails_touches_nothing() {
    let mut keys = Mkeys::new(MkeyLimits::default());
    let dma = memory(BASE, 0x1000);
    let data = pa(&mut keys);
    let list = [klm(16, data, BASE), klm(16, data, BASE + 0xff8), klm(16, data, BASE + 32)].concat();
    let key = create(&mut keys, mkc(AccessMode::KLMS).with_wide(Mkc::LEN, 48), &list);
    let fault = keys.write(key, 0, &[1; 48], Some(PD), &dma).unwrap_err();
    assert_eq!(fault, MkeyFault::Dma(DmaFault::Unmapped { iova: BASE + 0xff8, len: 16 }));
    let mut all = vec![0; 0x1000];
    dma.read(BASE, &mut all).unwrap();
    assert!(all.iter().all(|byte| *byte == 0));
    keys.write(key, 0, &[1; 24], Some(PD), &dma).unwrap();
}

#[test]
fn each_check_refuses_on_its_own() {
    let mut keys = Mkeys::new(MkeyLimits::default());
    let dma = memory(BASE, 0x1000);
    let data = create(&mut keys, mkc(AccessMode::PA).with_wide(Mkc::START_ADDR, BASE).with_wide(Mkc::LEN, 0x100), &[]);
    let write = |key, va, len: usize| keys.write(key, va, &vec![1; len], Some(PD), &dma);
    assert_eq!(write(data, BASE, 0x100), Ok(()));
    assert!(matches!(write(data | 1, BASE, 1), Err(MkeyFault::UnknownKey { .. })), "variant");
    assert!(matches!(write(0x100, BASE, 1), Err(MkeyFault::UnknownKey { .. })));
    assert!(matches!(write(data, BASE - 1, 1), Err(MkeyFault::OutOfBounds { .. })));
    assert!(matches!(write(data, BASE + 1, 0x100), Err(MkeyFault::OutOfBounds { .. })));
    assert!(matches!(write(data, u64::MAX, 2), Err(MkeyFault::OutOfBounds { .. })));
    let fault = keys.write(data, BASE, &[1], Some(PD + 1), &dma).unwrap_err();
    assert_eq!(fault, MkeyFault::ProtectionDomain { key: data, pd: PD, expected: PD + 1 });
    keys.write(data, BASE, &[1], None, &dma).unwrap();
    let deaf = create(&mut keys, mkc(AccessMode::PA).with(Mkc::LENGTH64, 1).with(Mkc::LW, 0), &[]);
    assert!(matches!(keys.write(deaf, BASE, &[1], Some(PD), &dma), Err(MkeyFault::Access { .. })));
    keys.read(deaf, BASE, &mut [0], Some(PD), &dma).unwrap();
    let mute = create(&mut keys, mkc(AccessMode::PA).with(Mkc::LENGTH64, 1).with(Mkc::LR, 0), &[]);
    assert!(matches!(keys.read(mute, BASE, &mut [0], Some(PD), &dma), Err(MkeyFault::Access { .. })));
    let tag = tag(&mut keys, 4);
    assert_eq!(keys.write(tag, 0, &[1], Some(PD), &dma), Err(MkeyFault::Free { key: tag }));
    // A list whose entry belongs to another protection domain, though the queue's matches.
    let foreign = create(&mut keys, mkc(AccessMode::PA).with(Mkc::LENGTH64, 1).with(Mkc::PD, 9), &[]);
    let list = create(&mut keys, mkc(AccessMode::KLMS).with_wide(Mkc::LEN, 64), &klm(32, foreign, BASE));
    assert!(matches!(keys.write(list, 0, &[1], Some(PD), &dma), Err(MkeyFault::ProtectionDomain { pd: 9, .. })));
    // A length beyond the list.
    let list = create(&mut keys, mkc(AccessMode::KLMS).with_wide(Mkc::LEN, 64), &klm(32, data, BASE));
    assert_eq!(keys.write(list, 0, &[1; 32], Some(PD), &dma), Ok(()));
    assert_eq!(keys.write(list, 0, &[1; 33], Some(PD), &dma), Err(MkeyFault::ListTooShort { key: list, offset: 32 }));
}

#[test]
fn circles_end() {
    let mut keys = Mkeys::new(MkeyLimits::default());
    let dma = memory(BASE, 0x1000);
    let tag = tag(&mut keys, 4);
    let entries = [klm(64, tag, 0), vec![0; 48]].concat();
    keys.umr(&bind(tag, 64, 1, &entries), Some(PD), &dma).unwrap();
    assert_eq!(keys.write(tag, 0, &[1], Some(PD), &dma), Err(MkeyFault::TooComplex { key: tag }));
    // Lists of entries without bytes, each led to again and again by the list above it.
    let data = pa(&mut keys);
    let mut inner = data;
    let mut va = BASE;
    for depth in 0..3 {
        let mut list = vec![0; 16 * 8000];
        (0..400).for_each(|_| list.extend(klm(1, inner, va)));
        let mkc = mkc(AccessMode::KLMS).with_wide(Mkc::LEN, 400).with_wide(Mkc::START_ADDR, depth);
        inner = create(&mut keys, mkc, &list);
        va = depth;
    }
    assert_eq!(keys.write(inner, 2, &[1; 400], Some(PD), &dma), Err(MkeyFault::TooComplex { key: inner }));
}

#[test]
fn page_bits_are_checked() {
    let mut keys = Mkeys::new(MkeyLimits::default());
    let dma = memory(BASE, 0x4000);
    let mkc = mkc(AccessMode::MTT)
        .with(Mkc::LOG_PAGE_SIZE, 12)
        .with_wide(Mkc::START_ADDR, 0x5000)
        .with_wide(Mkc::LEN, 0x3000)
        .with(Mkc::TRANSLATIONS_OCTWORD_SIZE, 2);
    let list = pages(&[BASE | 3, (BASE + 0x1000) | 1, (BASE + 0x2000) | 2]);
    let input = create_in(&mkc, 2).with(CreateMkeyIn::PG_ACCESS, 1);
    let key = keys.create(&input, &list).unwrap() << 8;
    keys.write(key, 0x5ffe, &[1, 2], Some(PD), &dma).unwrap();
    assert!(matches!(keys.write(key, 0x5fff, &[1, 2], Some(PD), &dma), Err(MkeyFault::Page { .. })));
    keys.read(key, 0x6fff, &mut [0], Some(PD), &dma).unwrap();
    assert!(matches!(keys.read(key, 0x6fff, &mut [0, 0], Some(PD), &dma), Err(MkeyFault::Page { .. })));
    keys.write(key, 0x7000, &[1], Some(PD), &dma).unwrap();
}

#[test]
fn create_refuses_what_could_not_work() {
    let limits = MkeyLimits { keys: 2, klms: 8, mtt_octowords: 16 };
    let mut keys = Mkeys::new(limits);
    let mut refuse = |mkc: Mkc, actual: usize, tail: usize| {
        keys.create(&create_in(&mkc, actual), &vec![0; tail]).map_err(|reject| reject.syndrome)
    };
    let klms = mkc(AccessMode::KLMS);
    let size = |n| klms.with(Mkc::TRANSLATIONS_OCTWORD_SIZE, n);
    assert_eq!(refuse(mkc(AccessMode::MTT).with(Mkc::ACCESS_MODE_4_2, 1), 0, 0), Err(Syndrome::MKEY_ACCESS_MODE));
    assert_eq!(refuse(size(9), 0, 0), Err(Syndrome::MKEY_LIST_TOO_LONG));
    assert_eq!(refuse(size(4), 5, 80), Err(Syndrome::MKEY_LIST_EXCEEDS_SIZE));
    assert_eq!(refuse(size(4), 4, 63), Err(Syndrome::MKEY_LIST_CUT_SHORT));
    assert_eq!(refuse(size(4).with(Mkc::FREE, 1), 0, 0), Err(Syndrome::MKEY_FREE_WITHOUT_UMR));
    let far = klms.with_wide(Mkc::START_ADDR, u64::MAX).with_wide(Mkc::LEN, 2);
    assert_eq!(refuse(far, 0, 0), Err(Syndrome::MKEY_RANGE));
    let mtt = mkc(AccessMode::MTT).with(Mkc::TRANSLATIONS_OCTWORD_SIZE, 2);
    // The page size is an absolute shift: 0 is the classic mistake.
    assert_eq!(refuse(mtt.with_wide(Mkc::LEN, 0x1000), 2, 32), Err(Syndrome::MKEY_PAGE_SIZE));
    let mtt = mtt.with(Mkc::LOG_PAGE_SIZE, 12).with_wide(Mkc::START_ADDR, 0x800);
    assert_eq!(refuse(mtt.with_wide(Mkc::LEN, 0x3801), 2, 32), Err(Syndrome::MKEY_RANGE));
    assert!(refuse(mtt.with_wide(Mkc::LEN, 0x3800), 2, 32).is_ok());
    assert!(refuse(klms, 0, 0).is_ok());
    assert_eq!(refuse(klms, 0, 0), Err(Syndrome::MKEY_NONE_LEFT));
}

#[test]
fn a_destroyed_key_stays_unknown() {
    let mut keys = Mkeys::new(MkeyLimits { keys: 4, ..MkeyLimits::default() });
    let destroy = |keys: &mut Mkeys, key: u32| {
        keys.destroy(&DestroyMkeyIn::zeroed().with(DestroyMkeyIn::MKEY_INDEX, key >> 8)).map_err(|r| r.syndrome)
    };
    let first = pa(&mut keys);
    assert!(keys.uses_pd(PD));
    destroy(&mut keys, first).unwrap();
    assert!(!keys.uses_pd(PD));
    assert_eq!(destroy(&mut keys, first), Err(Syndrome::MKEY_UNKNOWN));
    let dma = memory(BASE, 0x1000);
    assert_eq!(keys.write(first, BASE, &[1], None, &dma), Err(MkeyFault::UnknownKey { key: first }));
    let next: Vec<u32> = (0..3).map(|_| pa(&mut keys)).collect();
    assert!(!next.contains(&first), "an index came back while others were unused");
    assert_eq!((keys.len(), pa(&mut keys)), (3, first));
}

#[test]
fn umr_binds_and_frees_a_tag() {
    let mut keys = Mkeys::new(MkeyLimits { keys: 0x10_0000, ..MkeyLimits::default() });
    let dma = memory(0x1_0000_0000, 0x3_0000);
    // The reference's keys: data 0x600, tag 0x500100. Here they are what the device gives out; the WQE is patched.
    let data = pa(&mut keys);
    let tag = tag(&mut keys, 128);
    let mut setup = vectors::bytes(vectors::SETUP);
    setup[12..16].copy_from_slice(&tag.to_be_bytes());
    (0..3).for_each(|i| setup[0x84 + 16 * i..][..4].copy_from_slice(&data.to_be_bytes()));
    let Operation::Umr(umr) = wqe::parse(&setup).unwrap().operation else { panic!() };
    keys.umr(&umr, Some(PD), &dma).unwrap();
    assert_eq!(keys.bound(), 1);
    let mut out = Vec::new();
    let mut translate = |keys: &Mkeys, va, len| {
        let span = Span { key: tag, va, len };
        keys.translate(span, Access::Write, None, &mut Cursor::default(), &mut out).map(|()| out.clone())
    };
    let whole = translate(&keys, 0, 12288 + 4096 + 512).unwrap();
    assert_eq!(
        whole,
        [
            Segment { iova: 0x1_0000_1000, len: 12288 },
            Segment { iova: 0x1_0001_0000, len: 4096 },
            Segment { iova: 0x1_0002_0000, len: 512 },
        ]
    );
    assert_eq!(translate(&keys, 12287, 2).unwrap().len(), 2);
    assert!(matches!(translate(&keys, 16895, 2), Err(MkeyFault::OutOfBounds { .. })));
    let mut invalidate = vectors::bytes(vectors::INVALIDATE);
    invalidate[12..16].copy_from_slice(&tag.to_be_bytes());
    let Operation::Umr(umr) = wqe::parse(&invalidate).unwrap().operation else { panic!() };
    keys.umr(&umr, Some(PD), &dma).unwrap();
    assert_eq!(keys.bound(), 0);
    assert_eq!(translate(&keys, 0, 1), Err(MkeyFault::Free { key: tag }));
}

#[test]
fn a_long_list_arrives_in_pieces() {
    let mut keys = Mkeys::new(MkeyLimits::default());
    let dma = memory(BASE, 0x1000);
    let data = pa(&mut keys);
    let tag = tag(&mut keys, 128);
    let list: Vec<u8> = (0..128).flat_map(|i| klm(3, data, BASE + 8 * i)).collect();
    // 52 + 52 + 24, the later ones with mask 0 and a growing offset (§4.7).
    keys.umr(&bind(tag, 384, 128, &list[..52 * 16]), Some(PD), &dma).unwrap();
    for (offset, count) in [(52, 52), (104, 24)] {
        let entries = &list[offset * 16..][..count * 16];
        let more = MkeyUmr { offset: offset as u64, mask: 0, ..bind(tag, 0, 0, entries) };
        keys.umr(&more, Some(PD), &dma).unwrap();
    }
    let payload: Vec<u8> = (0..384).map(|i| i as u8 | 1).collect();
    keys.write(tag, 0, &payload, None, &dma).unwrap();
    let mut all = vec![0; 0x1000];
    dma.read(BASE, &mut all).unwrap();
    for (index, byte) in payload.iter().enumerate() {
        assert_eq!(all[index / 3 * 8 + index % 3], *byte);
    }
    // A shorter list afterwards: what was behind it does not count any more.
    keys.umr(&bind(tag, 384, 4, &list[..64]), Some(PD), &dma).unwrap();
    assert!(matches!(keys.write(tag, 0, &[1; 13], None, &dma), Err(MkeyFault::ListTooShort { .. })));
}

#[test]
fn a_refused_umr_changes_nothing() {
    let mut keys = Mkeys::new(MkeyLimits::default());
    let dma = memory(BASE, 0x1000);
    let data = pa(&mut keys);
    let tag = tag(&mut keys, 8);
    let list: Vec<u8> = (0..8).flat_map(|i| klm(16, data, BASE + 64 * i)).collect();
    keys.umr(&bind(tag, 128, 8, &list), Some(PD), &dma).unwrap();
    let query = QueryMkeyIn::zeroed().with(QueryMkeyIn::MKEY_INDEX, tag >> 8).with(QueryMkeyIn::PG_ACCESS, 1);
    let before = keys.query(&query).unwrap();
    let other: Vec<u8> = (0..12).flat_map(|_| klm(1, data, BASE)).collect();
    let good = bind(tag, 4, 4, &other[..64]);
    let cases: Vec<(MkeyUmr<'_>, Option<u32>, MkeyFault)> = vec![
        (MkeyUmr { key: tag | 1 << 7, ..good.clone() }, Some(PD), MkeyFault::UnknownKey { key: tag | 1 << 7 }),
        (MkeyUmr { key: data, ..good.clone() }, Some(PD), MkeyFault::NotForUmr { key: data }),
        (good.clone(), Some(8), MkeyFault::ProtectionDomain { key: tag, pd: PD, expected: 8 }),
        (
            MkeyUmr { check: FreeCheck::Free, ..good.clone() },
            Some(PD),
            MkeyFault::CheckFailed { key: tag, free: false },
        ),
        (bind(tag, 4, 12, &other), Some(PD), MkeyFault::ListSize { key: tag, size: 12, capacity: 8 }),
        (
            bind(tag, 4, 4, &other[..128]),
            Some(PD),
            MkeyFault::ListBounds { key: tag, offset: 0, octowords: 8, size: 4 },
        ),
        (
            MkeyUmr { mask: 0, offset: 8, ..good.clone() },
            Some(PD),
            MkeyFault::ListBounds { key: tag, offset: 8, octowords: 4, size: 8 },
        ),
        (
            MkeyUmr { mask: 0, offset: u64::MAX - 3, ..good.clone() },
            Some(PD),
            MkeyFault::ListBounds { key: tag, offset: u64::MAX - 3, octowords: 4, size: 8 },
        ),
        (MkeyUmr { mask: 1 << 12, ..good.clone() }, Some(PD), MkeyFault::Mask { key: tag, mask: 1 << 12 }),
        (
            MkeyUmr { mask: 0x41, segment: good.segment.with_wide(WqeMkeySeg::START_ADDR, u64::MAX), ..good.clone() },
            Some(PD),
            MkeyFault::Mask { key: tag, mask: 0x41 },
        ),
    ];
    for (umr, pd, fault) in cases {
        assert_eq!(keys.umr(&umr, pd, &dma), Err(fault));
        assert_eq!(keys.query(&query).unwrap(), before, "{fault}");
        assert_eq!(keys.bound(), 1);
    }
    keys.umr(&MkeyUmr { check: FreeCheck::NotFree, ..good }, Some(PD), &dma).unwrap();
    assert_ne!(keys.query(&query).unwrap(), before);
}

#[test]
fn umr_entries_from_memory() {
    let mut keys = Mkeys::new(MkeyLimits::default());
    let dma = memory(BASE, 0x1000);
    let data = pa(&mut keys);
    let tag = tag(&mut keys, 4);
    let list: Vec<u8> = [klm(8, data, BASE + 0x100), vec![0; 48]].concat();
    dma.write(BASE + 0x800, &list).unwrap();
    let entries = Entries::Memory { lkey: data, va: BASE + 0x800, bytes: 64, octowords: 4 };
    let umr = MkeyUmr { entries, ..bind(tag, 8, 4, &[]) };
    keys.umr(&umr, Some(PD), &dma).unwrap();
    keys.write(tag, 0, b"payload!", None, &dma).unwrap();
    let mut seen = [0; 8];
    dma.read(BASE + 0x100, &mut seen).unwrap();
    assert_eq!(&seen, b"payload!");
    let short = Entries::Memory { lkey: data, va: BASE + 0x800, bytes: 63, octowords: 4 };
    assert!(matches!(
        keys.umr(&MkeyUmr { entries: short, ..umr.clone() }, Some(PD), &dma),
        Err(MkeyFault::ListBounds { .. })
    ));
    let nowhere = Entries::Memory { lkey: data, va: 8, bytes: 64, octowords: 4 };
    let fault = keys.umr(&MkeyUmr { entries: nowhere, ..umr }, Some(PD), &dma).unwrap_err();
    assert_eq!(fault, MkeyFault::Dma(DmaFault::Unmapped { iova: 8, len: 64 }));
}

#[test]
fn query_shows_what_umr_did() {
    let mut keys = Mkeys::new(MkeyLimits::default());
    let dma = memory(BASE, 0x1000);
    let data = pa(&mut keys);
    let tag = tag(&mut keys, 4);
    let list = [klm(8, data, BASE), klm(9, data, BASE + 16), vec![0; 32]].concat();
    keys.umr(&bind(tag, 17, 2, &list), Some(PD), &dma).unwrap();
    let query = QueryMkeyIn::zeroed().with(QueryMkeyIn::MKEY_INDEX, tag >> 8).with(QueryMkeyIn::PG_ACCESS, 1);
    let out = keys.query(&query).unwrap();
    let mkc: Mkc = out.nested(QueryMkeyOut::MEMORY_KEY_MKEY_ENTRY);
    assert_eq!((mkc.get_wide(Mkc::LEN), mkc.get(Mkc::FREE), mkc.get(Mkc::PD)), (17, 0, PD));
    let entry = |field| (0..16).map(|i| out.get_at(field, i) as u8).collect::<Vec<_>>();
    assert_eq!(entry(QueryMkeyOut::BSF0_KLM0_PAS_MTT0_1), list[..16]);
    assert_eq!(entry(QueryMkeyOut::BSF1_KLM1_PAS_MTT2_3), list[16..32]);
    let unknown = QueryMkeyIn::zeroed().with(QueryMkeyIn::MKEY_INDEX, 0x77_7777);
    assert_eq!(keys.query(&unknown).map_err(|r| r.syndrome), Err(Syndrome::MKEY_UNKNOWN));
}
