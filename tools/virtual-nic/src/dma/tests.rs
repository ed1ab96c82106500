//! | property | test |
//! |---|---|
//! | what one side writes the other reads, at the IOVA that was mapped | `both_mappings_of_a_file_are_the_same_memory` |
//! | an access that is not mapped to its last byte fails and touches nothing | `an_access_is_all_or_nothing` |
//! | mappings do not overlap, are removed as a whole, and may touch | `mappings_are_made_and_removed_as_a_whole` |
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
