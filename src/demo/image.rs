//! The image that the target serves, and what every byte of it has to be.

use crate::transfer::Content;
use nvme_target::{Backing, FileBacking, Generated};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a unit that is copied aside when it is written.
const UNIT: u64 = 4096;

/// An image that nobody changes, with writes kept in a temporary file.
///
/// The demonstration may write a whole namespace; the user's file stays as it is, and memory does not grow with the size.
pub struct Overlay {
    base: Box<dyn Backing>,
    file: File,
    /// One bit per unit that lies in the overlay.
    written: Vec<u64>,
}

impl Overlay {
    /// Keeps writes to `base` in an unnamed file of the system's folder for temporary files.
    pub fn new(base: Box<dyn Backing>) -> io::Result<Overlay> {
        let file = unnamed_file()?;
        file.set_len(base.len())?;
        let units = base.len().div_ceil(UNIT).div_ceil(64) as usize;
        Ok(Overlay { base, file, written: vec![0; units] })
    }

    fn is_written(&self, unit: u64) -> bool {
        self.written[(unit / 64) as usize] >> (unit % 64) & 1 != 0
    }

    /// The units that `[offset, offset + len)` touches: (unit, first byte, bytes), in order.
    fn units(offset: u64, len: usize) -> impl Iterator<Item = (u64, u64, usize)> {
        let end = offset + len as u64;
        (offset / UNIT..end.div_ceil(UNIT)).map(move |unit| {
            let (from, to) = (offset.max(unit * UNIT), end.min((unit + 1) * UNIT));
            (unit, from, (to - from) as usize)
        })
    }
}

fn unnamed_file() -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, open};
    let folder = std::env::temp_dir();
    let unnamed = open(&folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    if let Ok(fd) = unnamed {
        return Ok(File::from(fd));
    }
    // Some file systems have no unnamed files: make one with a name and take the name away.
    let path = folder.join(format!("cxddp-overlay-{}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

impl Backing for Overlay {
    fn len(&self) -> u64 {
        self.base.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        for (unit, from, n) in Overlay::units(offset, out.len()) {
            let part = &mut out[(from - offset) as usize..][..n];
            match self.is_written(unit) {
                true => self.file.read_exact_at(part, from)?,
                false => self.base.read_at(from, part)?,
            }
        }
        Ok(())
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        for (unit, from, n) in Overlay::units(offset, data.len()) {
            let part = &data[(from - offset) as usize..][..n];
            if !self.is_written(unit) && n < UNIT as usize {
                let start = unit * UNIT;
                let mut whole = vec![0; UNIT.min(self.len() - start) as usize];
                self.base.read_at(start, &mut whole)?;
                self.file.write_all_at(&whole, start)?;
            }
            self.file.write_all_at(part, from)?;
            self.written[(unit / 64) as usize] |= 1 << (unit % 64);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// What the namespace must contain: an independent view of the image, for comparison.
pub enum Expected {
    /// The file that is served.
    File(File),
    /// The image generated from a seed, or the pattern that was written.
    Generated(u64),
}

impl Expected {
    /// The contents of the file at `path`.
    pub fn file(path: &Path) -> io::Result<Expected> {
        File::open(path).map(Expected::File)
    }

    /// Fills `out` with what must be at `offset`.
    pub fn fill(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self {
            Expected::File(file) => file.read_exact_at(out, offset),
            Expected::Generated(seed) => {
                Generated::fill(*seed, offset, out);
                Ok(())
            }
        }
    }
}

impl Content for Expected {
    fn fill(&mut self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        Expected::fill(self, offset, out)
    }
}

/// The image of a demonstration: the file at `path`, or one generated from `seed`.
pub fn open(path: Option<&Path>, seed: u64, size: u64) -> io::Result<(Box<dyn Backing>, Expected)> {
    Ok(match path {
        Some(path) => (Box::new(FileBacking::open(path, false)?), Expected::file(path)?),
        None => (Box::new(Generated::new(seed, size)), Expected::Generated(seed)),
    })
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | what was written is read, the rest is the image, and the image is not changed | `writes_cover_the_image_and_leave_it_alone` |
    use super::*;

    #[test]
    fn writes_cover_the_image_and_leave_it_alone() {
        let size = 10 * UNIT + 512;
        let mut overlay = Overlay::new(Box::new(Generated::new(5, size))).expect("a temporary file");
        let mut expected = vec![0; size as usize];
        Generated::fill(5, 0, &mut expected);
        for (offset, len, byte) in [(512, 512, 1), (3 * UNIT - 512, 2 * UNIT as usize + 512, 2), (size - 512, 512, 3)] {
            overlay.write_at(offset, &vec![byte; len]).expect("room");
            expected[offset as usize..][..len].fill(byte);
        }
        let mut found = vec![0; size as usize];
        overlay.read_at(0, &mut found).expect("inside");
        assert!(found == expected);
        overlay.base.read_at(0, &mut found).expect("inside");
        Generated::fill(5, 0, &mut expected);
        assert!(found == expected);
    }
}
