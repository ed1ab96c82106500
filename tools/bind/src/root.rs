//! Where files are read: the machine's own tree, or one that a test has made.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// More than any file has that is read here (`pci.ids` has about 1.5 MB).
const MOST_BYTES: u64 = 16 << 20;

/// The folder under which `sys`, `proc`, `dev`, `run` and `usr` are. Paths are given without a leading slash.
#[derive(Clone, Debug)]
pub struct Root {
    base: PathBuf,
}

impl Root {
    /// This machine.
    pub fn system() -> Root {
        Root::at("/")
    }

    /// Another tree.
    pub fn at(base: impl Into<PathBuf>) -> Root {
        Root { base: base.into() }
    }

    /// Where something is.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.base.join(relative)
    }

    /// A file's bytes.
    pub fn bytes(&self, relative: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(relative))?.take(MOST_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A file's text without the white space around it; `None` if it cannot be read.
    pub fn text(&self, relative: &str) -> Option<String> {
        Some(String::from_utf8_lossy(&self.bytes(relative).ok()?).trim().to_owned())
    }

    /// A number, hexadecimal after `0x`.
    pub fn number(&self, relative: &str) -> Option<u64> {
        let text = self.text(relative)?;
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    }

    /// The last part of where a link leads.
    pub fn link(&self, relative: &str) -> Option<String> {
        self.target(relative)?.file_name().map(|name| name.to_string_lossy().into_owned())
    }

    /// Where a link leads, as it is written.
    pub fn target(&self, relative: &str) -> Option<PathBuf> {
        std::fs::read_link(self.path(relative)).ok()
    }

    /// What is in a folder, sorted; nothing if there is none.
    pub fn names(&self, relative: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(relative)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Whether there is such a file or folder.
    pub fn exists(&self, relative: &str) -> bool {
        self.path(relative).exists()
    }

    /// The path as a person on the machine would write it.
    pub fn shown(relative: &str) -> String {
        Path::new("/").join(relative).display().to_string()
    }
}
