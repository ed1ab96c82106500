//! Where the namespace's bytes are: a file, or an image that is computed.

use crate::random::{GOLDEN, mix};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The bytes of a namespace.
///
/// Offsets and lengths are in bytes; the target stays inside `[0, len)` and asks for whole transfers. An error ends the
/// command with a media error, or the connection if the answer has already begun in a way that cannot be taken back.
pub trait Backing: Send {
    /// Bytes.
    fn len(&self) -> u64;

    /// True if there is not one byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// False if every write fails; hosts are told so.
    fn writable(&self) -> bool {
        true
    }

    /// Fills `out` with the bytes at `offset`.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Replaces the bytes at `offset`.
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Returns when everything written is as safe as it gets.
    fn flush(&mut self) -> io::Result<()>;
}

/// A regular file, read and written in place. Nothing of it is kept in memory, and holes stay holes until written.
#[derive(Debug)]
pub struct FileBacking {
    file: File,
    len: u64,
    writable: bool,
}

impl FileBacking {
    /// Opens a file that hosts may read and, if `writable`, write. Its length now is the namespace's length for good.
    pub fn open(path: impl AsRef<Path>, writable: bool) -> io::Result<FileBacking> {
        let file = OpenOptions::new().read(true).write(writable).open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(FileBacking { len: meta.len(), file, writable })
    }
}

impl Backing for FileBacking {
    fn len(&self) -> u64 {
        self.len
    }

    fn writable(&self) -> bool {
        self.writable
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Bytes of the unit that [`Generated`] computes at once.
const SECTOR: usize = 512;

/// An image that is computed from a seed, with writes kept aside.
///
/// Every 512-byte sector starts with a word that is a bijection of its number, so no two sectors are alike. Only sectors
/// that differ from what the seed gives take memory: writing the image's own contents back costs none.
#[derive(Clone, Debug)]
pub struct Generated {
    seed: u64,
    len: u64,
    written: BTreeMap<u64, Box<[u8; SECTOR]>>,
}

impl Generated {
    /// An image of `len` bytes.
    pub fn new(seed: u64, len: u64) -> Generated {
        Generated { seed, len, written: BTreeMap::new() }
    }

    /// The bytes that the image of `seed` has at `offset` before anything is written: for whoever compares.
    pub fn fill(seed: u64, offset: u64, out: &mut [u8]) {
        for (sector, skip, piece) in sectors(offset, out.len()) {
            let out = &mut out[piece.clone()];
            if out.len() == SECTOR {
                fill_sector(seed, sector, out);
            } else {
                let mut whole = [0; SECTOR];
                fill_sector(seed, sector, &mut whole);
                out.copy_from_slice(&whole[skip..skip + piece.len()]);
            }
        }
    }

    /// Sectors that were written and differ from the computed image.
    pub fn sectors_kept(&self) -> usize {
        self.written.len()
    }
}

/// The sectors that `[offset, offset + len)` touches: number, bytes to skip in it, and which part of the buffer it is.
fn sectors(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == len {
            return None;
        }
        let position = offset + at as u64;
        let skip = (position % SECTOR as u64) as usize;
        let end = (at + SECTOR - skip).min(len);
        let piece = at..end;
        at = end;
        Some((position / SECTOR as u64, skip, piece))
    })
}

fn fill_sector(seed: u64, sector: u64, out: &mut [u8]) {
    // `mix` and the addition are bijections, so the first words of two sectors differ.
    let first = mix(sector.wrapping_add(mix(seed)));
    let mut state = first;
    for word in out.chunks_exact_mut(8) {
        word.copy_from_slice(&state.to_le_bytes());
        state = (state ^ (state >> 29)).wrapping_mul(GOLDEN).wrapping_add(first | 1);
    }
}

impl Backing for Generated {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        Generated::fill(self.seed, offset, out);
        if out.is_empty() || self.written.is_empty() {
            return Ok(());
        }
        let (first, last) = (offset / SECTOR as u64, (offset + out.len() as u64 - 1) / SECTOR as u64);
        for (&sector, kept) in self.written.range(first..=last) {
            let start = sector * SECTOR as u64;
            let (from, to) = (start.max(offset), (start + SECTOR as u64).min(offset + out.len() as u64));
            out[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&kept[(from - start) as usize..(to - start) as usize]);
        }
        Ok(())
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        for (sector, skip, piece) in sectors(offset, data.len()) {
            let mut computed = [0; SECTOR];
            fill_sector(self.seed, sector, &mut computed);
            let mut new = self.written.get(&sector).map_or(computed, |kept| **kept);
            new[skip..skip + piece.len()].copy_from_slice(&data[piece]);
            if new == computed {
                self.written.remove(&sector);
            } else {
                self.written.insert(sector, Box::new(new));
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | no two sectors of a generated image are alike, and seeds differ | `sectors_differ_from_each_other_and_between_seeds` |
    //! | reading any range gives the same bytes as reading everything | `a_part_reads_like_the_same_part_of_the_whole` |
    //! | writes at odd offsets are read back, what is around them stays | `writes_change_what_they_cover_and_nothing_else` |
    //! | writing back what was computed takes no memory | `the_own_contents_written_back_take_no_memory` |
    //! | a sparse file is served at its far end | `the_end_of_a_sparse_file_is_read_and_written` |
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn sectors_differ_from_each_other_and_between_seeds() {
        let mut seen = HashSet::new();
        for seed in 0..4 {
            let mut image = vec![0; 4096 * SECTOR];
            Generated::fill(seed, 0, &mut image);
            assert!(image.chunks(SECTOR).all(|sector| seen.insert(sector.to_vec())));
        }
    }

    proptest! {
        #[test]
        fn a_part_reads_like_the_same_part_of_the_whole(seed: u64, offset in 0usize..4096, len in 0usize..4096) {
            let mut whole = vec![0; 8192];
            Generated::fill(seed, 0, &mut whole);
            let mut part = vec![0; len];
            Generated::fill(seed, offset as u64, &mut part);
            prop_assert_eq!(&part[..], &whole[offset..offset + len]);
        }

        #[test]
        fn writes_change_what_they_cover_and_nothing_else(
            seed: u64, writes in prop::collection::vec((0usize..4000, 0usize..1500, any::<u8>()), 1..8),
            read in (0usize..4000, 0usize..4000),
        ) {
            let mut model = vec![0; 8192];
            Generated::fill(seed, 0, &mut model);
            let mut image = Generated::new(seed, 8192);
            for (offset, len, value) in writes {
                model[offset..offset + len].fill(value);
                image.write_at(offset as u64, &vec![value; len]).unwrap();
            }
            let mut out = vec![0; read.1];
            image.read_at(read.0 as u64, &mut out).unwrap();
            prop_assert_eq!(&out[..], &model[read.0..read.0 + read.1]);
        }
    }

    #[test]
    fn the_own_contents_written_back_take_no_memory() {
        let mut image = Generated::new(7, 1 << 20);
        image.write_at(100, &[0xaa; 2000]).unwrap();
        assert_eq!(image.sectors_kept(), 5);
        let mut own = vec![0; 4096];
        Generated::fill(7, 0, &mut own);
        image.write_at(0, &own).unwrap();
        assert_eq!(image.sectors_kept(), 0);
    }

    #[test]
    fn the_end_of_a_sparse_file_is_read_and_written() {
        let path = std::env::temp_dir().join(format!("nvme-target-sparse-{}", std::process::id()));
        File::create(&path).unwrap().set_len(4 << 30).unwrap();
        let mut backing = FileBacking::open(&path, true).unwrap();
        assert_eq!(backing.len(), 4 << 30);
        let end = (4 << 30) - 512;
        backing.write_at(end, &[0x5a; 512]).unwrap();
        let mut out = [1; 1024];
        backing.read_at(end - 512, &mut out).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((&out[..512], &out[512..]), (&[0; 512][..], &[0x5a; 512][..]));
        assert!(backing.read_at(end + 1, &mut [0; 512]).is_err());
    }
}
