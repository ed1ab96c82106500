//! The fuzz targets on stable: every committed input, and a bounded number of changes to them and of random ones, the same in
//! every run. `fuzz/README.md` says how to run them under libFuzzer.
//!
//! | property | test |
//! |---|---|
//! | each target holds for its inputs and for seeded changes of them (`CXDDP_FUZZ`: thousandths of the usual number) | the target's name |
//! | no value of an entry is looked at twice: a device that writes while it is read gets nothing out of bounds | `a_device_that_writes_while_it_is_read` |
//! | every target has a test, inputs and a libFuzzer binary, and every folder of inputs a target | `targets_and_folders_agree` |

#![cfg(feature = "demo")]

mod fuzz_support;

use fuzz_support::{TARGETS, Target};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Executions per unit of a target's share, in thousandths.
const USUAL: u64 = 1000;
/// Longest input that changes grow to.
const LONGEST: usize = 1500;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

fn inputs(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = folder("seeds").join(target.name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("a file"))).collect()
}

/// Says which input it was if the target panics: `what` makes it.
struct OnPanic<'a> {
    target: &'a Target,
    what: String,
    input: &'a [u8],
}

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let path = std::env::temp_dir().join(format!("cxddp-fuzz-{}", self.target.name));
            let written = std::fs::write(&path, self.input).map(|()| path.display().to_string());
            eprintln!("{}: {}; the input is in {:?}", self.target.name, self.what, written);
        }
    }
}

fn run(target: &Target, what: impl Into<String>, input: &[u8]) {
    let _guard = OnPanic { target, what: what.into(), input };
    (target.run)(input);
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }

    /// A committed input with a few changes, or bytes of its own.
    fn input(&mut self, corpus: &[(PathBuf, Vec<u8>)], typical: usize) -> Vec<u8> {
        if corpus.is_empty() || self.below(4) == 0 {
            let len = self.below(2 * typical);
            return self.bytes(len);
        }
        let mut input = corpus[self.below(corpus.len())].1.clone();
        for _ in 0..1 + self.below(6) {
            let at = self.below(input.len() + 1);
            match self.below(5) {
                0 | 1 => {
                    if let Some(byte) = input.get_mut(at) {
                        *byte = self.next() as u8;
                    }
                }
                2 => {
                    let n = self.below(16);
                    input.splice(at..at, self.bytes(n));
                }
                3 => {
                    let end = (at + self.below(16)).min(input.len());
                    input.drain(at..end);
                }
                _ => {
                    let other = &corpus[self.below(corpus.len())].1;
                    input.truncate(at);
                    input.extend(&other[self.below(other.len() + 1)..]);
                }
            }
        }
        input.truncate(LONGEST);
        input
    }
}

/// Runs a target's inputs, and seeded changes of them.
fn hold(name: &str) {
    let target = fuzz_support::target(name);
    let corpus = inputs(target);
    run(target, "the empty input", &[]);
    for (path, input) in &corpus {
        run(target, path.display().to_string(), input);
    }
    let scale = std::env::var("CXDDP_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(USUAL);
    for seed in 0..u64::from(target.share) * scale / 1000 {
        let input = Random(seed).input(&corpus, target.typical);
        run(target, format!("seed {seed}"), &input);
    }
}

/// One test for each target, so that they run side by side.
macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            hold(stringify!($name));
        })*

        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

targets! {
    cqe_to_frame command_output bring_up eqe health capabilities host_pdu target_pdu tcp_segment session
}

#[test]
fn a_device_that_writes_while_it_is_read() {
    fuzz_support::race(500);
}

#[test]
fn targets_and_folders_agree() {
    let names: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names, TESTED.iter().map(|name| (*name).to_owned()).collect());
    let listed = |folder: PathBuf| {
        let entries = std::fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>()
    };
    let stems = |paths: &[PathBuf]| {
        let stem = |path: &PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
        paths.iter().map(stem).collect::<BTreeSet<_>>()
    };
    let folders = listed(folder("seeds"));
    assert_eq!(stems(&folders), names);
    assert!(folders.iter().all(|folder| !listed(folder.clone()).is_empty()), "a target without inputs");
    assert_eq!(stems(&listed(folder("fuzz_targets"))), names);
}
