//! | property | test |
//! |---|---|
//! | what one side writes the other reads, at the IOVA that was mapped | `both_mappings_of_a_file_are_the_same_memory` |
//! | an access that is not mapped to its last byte fails and touches nothing | `an_access_is_all_or_nothing` |
//! | mappings do not overlap, are removed as a whole, and may touch | `mappings_are_made_and_removed_as_a_whole` |
//! | an invalidation takes many mappings, parts of some, or nothing, and no byte more or less | `an_invalidation_is_exact` |
//! | a file that is mapped page by page is one memory, whatever descriptor it comes through | `pages_of_one_file_are_one_memory` |
//! | read-only memory is read and never written | `read_only_memory_is_not_written` |
//! | without bus mastering nothing is accessed | `without_bus_mastering_nothing_moves` |
//! | every refused access is counted and recorded | `refused_accesses_are_recorded` |
//! | a doorbell record is one aligned big-endian word | `words_are_aligned_and_big_endian` |
//! | a published entry is complete | `a_published_entry_is_complete` |
use super::build::file;
use super::*;
use proptest::prelude::*;
use std::os::unix::fs::FileExt;

fn space(mappings: &[(u64, u64)]) -> (DmaSpace, Vec<File>) {
    let mut space = DmaSpace::new();
    let files = mappings.iter().map(|(iova, len)| {
        let file = file(*len);
        space.map(*iova, &file, *len).unwrap();
        file
    });
    let files = files.collect();
    (space, files)
}

#[test]
fn both_mappings_of_a_file_are_the_same_memory() {
    let (space, files) = space(&[(0x10_0000, 0x2000), (0x8000_0000, 0x1000)]);
    files[1].write_all_at(b"from the driver", 0x123).unwrap();
    let mut seen = [0; 15];
    space.read(0x8000_0123, &mut seen).unwrap();
    assert_eq!(&seen, b"from the driver");
    space.write(0x10_1fff, b"!").unwrap();
    let mut byte = [0];
    files[0].read_exact_at(&mut byte, 0x1fff).unwrap();
    assert_eq!(&byte, b"!");
}

proptest! {
    #[test]
    fn an_access_is_all_or_nothing(at in 0u64..0x3800, len in 0usize..0x1800) {
        // Two mappings that touch, then a hole, then another.
        let (space, _files) = space(&[(0x1000, 0x1000), (0x2000, 0x800), (0x3000, 0x400)]);
        let mapped = |from: u64, to: u64| from >= to
            || (from >= 0x1000 && to <= 0x2800) || (from >= 0x3000 && to <= 0x3400);
        let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + 1) as u8 | 1).collect();
        let end = at + len as u64;
        let wrote = space.write(at, &bytes);
        prop_assert!(len == 0 || wrote.is_ok() == mapped(at, end), "{:?}", wrote);
        prop_assert!(len == 0 || space.contains(at, len) == mapped(at, end));
        for (iova, size) in [(0x1000, 0x1800), (0x3000, 0x400)] {
            let mut all = vec![0; size];
            space.read(iova, &mut all).unwrap();
            for (i, byte) in all.iter().enumerate() {
                let here = iova + i as u64;
                let expected = if wrote.is_ok() && (at..end).contains(&here) { bytes[(here - at) as usize] } else { 0 };
                prop_assert_eq!(*byte, expected);
            }
        }
        let mut back = vec![0; len];
        let read = space.read(at, &mut back);
        prop_assert!(len == 0 || read.is_ok() == wrote.is_ok());
        prop_assert!(read.is_err() || back == bytes);
    }
}

#[test]
fn mappings_are_made_and_removed_as_a_whole() {
    let (mut space, files) = space(&[(0x1000, 0x1000), (0x2000, 0x1000)]);
    assert!(matches!(space.map(0x1800, &files[0], 0x1000), Err(DmaError::Overlap { .. })));
    assert!(matches!(space.map(0x9000, &files[0], 0x2000), Err(DmaError::Map { .. })), "longer than the file");
    assert!(matches!(space.map(0x9000, &files[0], 0), Err(DmaError::BadRange { .. })));
    assert!(matches!(space.map(u64::MAX - 0xfff, &files[0], 0x1001), Err(DmaError::BadRange { .. })));
    assert!(matches!(space.unmap(0x1800, 0x1000), Err(DmaError::NotMapped { .. })));
    assert!(matches!(space.unmap(0x5000, 0x1000), Err(DmaError::NotMapped { .. })));
    assert_eq!(space.mappings(), 2);
    space.write(0x1ffc, &[7; 8]).unwrap();
    space.unmap(0x2000, 0x1000).unwrap();
    assert!(space.write(0x2000, &[1]).is_err());
    assert!(space.write(0x1fff, &[1, 2]).is_err());
    space.write(0x1fff, &[1]).unwrap();
    space.unmap(0x0, 0x10_0000).unwrap();
    assert_eq!(space.mappings(), 0);
    assert!(space.read(0x1000, &mut [0]).is_err());
    space.map(0x1000, &files[0], 0x1000).unwrap();
    assert_eq!(space.mappings(), 1);
}

proptest! {
    #[test]
    fn an_invalidation_is_exact(
        maps in prop::collection::vec((0u64..60, 1u64..8), 1..12),
        revokes in prop::collection::vec((0u64..64, 0u64..20), 1..6),
    ) {
        const UNIT: u64 = 0x1000;
        let file = file(64 * UNIT);
        let mut space = DmaSpace::new();
        // What each unit of addresses leads to: the unit of the file.
        let mut model = [None; 80];
        for (at, len) in maps {
            let units = at as usize..(at + len) as usize;
            let free = model[units.clone()].iter().all(Option::is_none);
            let offset = (at * 7) % 50;
            let mapped = space.map_at(at * UNIT, &file, offset * UNIT, len * UNIT, true);
            prop_assert_eq!(mapped.is_ok(), free);
            if free {
                units.enumerate().for_each(|(n, unit)| model[unit] = Some(offset + n as u64));
            }
        }
        for (at, len) in revokes {
            space.revoke(at * UNIT, len * UNIT);
            model[at as usize..(at + len).min(80) as usize].fill(None);
        }
        for unit in 0..64 {
            file.write_all_at(&[unit as u8 + 1], unit * UNIT).unwrap();
        }
        for (unit, leads) in model.iter().enumerate() {
            let mut byte = [0];
            let read = space.read(unit as u64 * UNIT, &mut byte);
            prop_assert_eq!(read.is_ok().then_some(byte[0]), leads.map(|to| to as u8 + 1));
            prop_assert_eq!(space.contains(unit as u64 * UNIT + UNIT - 1, 1), leads.is_some());
        }
    }
}

#[test]
fn pages_of_one_file_are_one_memory() {
    let file = file(0x10_0000);
    let mut space = DmaSpace::new();
    for page in 0..256 {
        let other = file.try_clone().unwrap();
        // Addresses and pages of the file run against each other.
        space.map_at(0x1_0000_0000 + page * 0x1000, &other, (255 - page) * 0x1000, 0x1000, true).unwrap();
    }
    assert_eq!((space.mappings(), space.memories.len()), (256, 1));
    space.write(0x1_0000_0ffc, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    let mut seen = [0; 4];
    file.read_exact_at(&mut seen, 0xf_fffc).unwrap();
    assert_eq!(seen, [1, 2, 3, 4]);
    file.read_exact_at(&mut seen, 0xf_e000).unwrap();
    assert_eq!(seen, [5, 6, 7, 8], "the next page of addresses is the page before in the file");
    space.revoke(0, u64::MAX);
    assert_eq!(space.mappings(), 0);
    assert!(space.memories.iter().all(|memory| memory.region.strong_count() == 0), "not held any more");
}

#[test]
fn read_only_memory_is_not_written() {
    let file = file(0x2000);
    let mut space = DmaSpace::new();
    space.map_at(0x1000, &file, 0, 0x1000, true).unwrap();
    space.map_at(0x2000, &file, 0x1000, 0x1000, false).unwrap();
    assert!(space.read(0x1ff0, &mut [0; 32]).is_ok());
    assert_eq!(space.write(0x1ff0, &[9; 32]), Err(DmaFault::ReadOnly { iova: 0x1ff0, len: 32 }));
    assert!(matches!(space.store_be32(0x2000, 1), Err(DmaFault::ReadOnly { .. })));
    assert!(space.publish(0x2040, &[7; 64]).is_err());
    assert!(space.check_write(0x2000, 1).is_err() && space.check_read(0x2000, 1).is_ok());
    let mut all = [1; 0x2000];
    file.read_exact_at(&mut all, 0).unwrap();
    assert!(all.iter().all(|byte| *byte == 0));
}

#[test]
fn without_bus_mastering_nothing_moves() {
    let (mut space, _files) = space(&[(0x1000, 0x1000)]);
    space.set_enabled(false);
    assert_eq!(space.write(0x1000, &[1]), Err(DmaFault::Disabled { iova: 0x1000, len: 1 }));
    assert!(space.read(0x1000, &mut [0]).is_err() && space.load_be32(0x1000).is_err());
    assert!(space.publish(0x1000, &[1; 64]).is_err());
    // Nothing that an IOMMU could report.
    assert_eq!((space.refused(), space.faults(), space.blocked()), (0, vec![], 4));
    space.set_enabled(true);
    let mut seen = [9; 64];
    space.read(0x1000, &mut seen).unwrap();
    assert_eq!(seen, [0; 64]);
}

#[test]
fn refused_accesses_are_recorded() {
    let (space, _files) = space(&[(0x1000, 0x1000)]);
    assert!(!space.contains(0x5000, 4), "a question is no access");
    assert_eq!(space.refused(), 0);
    assert!(space.read(0x5000, &mut [0; 4]).is_err());
    assert!(space.load_be32(0x1002).is_err());
    assert!(space.write(u64::MAX, &[1, 2]).is_err());
    let expected = [
        DmaFault::Unmapped { iova: 0x5000, len: 4 },
        DmaFault::Misaligned { iova: 0x1002, align: 4 },
        DmaFault::Unmapped { iova: u64::MAX, len: 2 },
    ];
    assert_eq!((space.refused(), space.faults()), (3, expected.to_vec()));
    for n in 0..100 {
        assert!(space.write(n, &[1]).is_err());
    }
    let last = space.faults();
    assert_eq!((space.refused(), last.len()), (103, FAULTS_KEPT));
    assert_eq!(last.last(), Some(&DmaFault::Unmapped { iova: 99, len: 1 }));
    assert!(space.faults().is_empty());
}

#[test]
fn words_are_aligned_and_big_endian() {
    let (space, _files) = space(&[(0x1000, 0x1000)]);
    space.store_be32(0x1008, 0x0102_0304).unwrap();
    let mut bytes = [0; 4];
    space.read(0x1008, &mut bytes).unwrap();
    assert_eq!(bytes, [1, 2, 3, 4]);
    assert_eq!(space.load_be32(0x1008), Ok(0x0102_0304));
    assert!(matches!(space.load_be32(0x100a), Err(DmaFault::Misaligned { .. })));
    assert!(matches!(space.store_be32(0x2000, 1), Err(DmaFault::Unmapped { .. })));
}

#[test]
fn a_published_entry_is_complete() {
    let (space, _files) = space(&[(0x1000, 0x1000)]);
    let entry: Vec<u8> = (1..=64).collect();
    space.publish(0x1040, &entry).unwrap();
    let mut seen = [0; 64];
    space.read(0x1040, &mut seen).unwrap();
    assert_eq!(seen[..], entry[..]);
    assert!(space.publish(0x1fe0, &entry).is_err());
    let mut untouched = [9; 32];
    space.read(0x1fe0, &mut untouched).unwrap();
    assert_eq!(untouched, [0; 32]);
}
