//! What a demonstration is to do, and the one clear line that an impossible wish gets.

use super::inject::Injection;
use super::peer::Peer;
use super::world::WireConfig;
#[cfg(doc)]
use crate::ddp::policy::Costs;
use crate::ddp::policy::Threshold;
use crate::shard::OffloadPolicy;
use std::path::PathBuf;

/// Bytes of a logical block of the namespace.
pub const BLOCK: u64 = 512;
/// Largest read or write of the demonstration, bytes: what 128 scatter entries of 4 KiB hold (`nvme-tcp-offload.md` §2.3).
pub const MAX_IO: u64 = 512 << 10;

/// Longest one-way delay of the wire.
const MAX_DELAY: std::time::Duration = std::time::Duration::from_secs(1);

/// A demonstration. [`Config::default`] is what `cxddp demo` does without options.
#[derive(Clone, Debug)]
pub struct Config {
    /// File to serve; without it an image is generated.
    pub image: Option<PathBuf>,
    /// Bytes of the generated image.
    pub size: u64,
    /// Bytes of one request.
    pub io_size: u64,
    /// Requests in flight on each queue.
    pub queue_size: u32,
    /// I/O queues.
    pub queues: u32,
    /// Negotiate header digests.
    pub hdr_digest: bool,
    /// Negotiate data digests.
    pub data_digest: bool,
    /// IP MTU.
    pub mtu: u32,
    /// What to do about the offload.
    pub offload: OffloadPolicy,
    /// Which reads are bound, by size. With [`Costs::Clock`] costs are measured in real time, and the run is not repeatable.
    pub threshold: Threshold,
    /// Write the namespace before reading it.
    pub write: bool,
    /// Where frames are written to.
    pub pcap: Option<PathBuf>,
    /// Seed of everything random.
    pub seed: u64,
    /// Which TCP the target has.
    pub peer: Peer,
    /// How the target lays out its PDUs.
    pub script: nvme_target::Script,
    /// What the wire does to frames; its seed is [`Config::seed`].
    pub wire: WireConfig,
    /// Pieces that a destination buffer is cut into, 1 to 128: of odd lengths and at odd offsets if more than one.
    pub pieces: u32,
    /// What goes wrong while the namespace is read. If anything is to, what was lost is made anew, and requests are submitted
    /// again; else the first loss is the end.
    pub inject: Vec<Injection>,
    /// A read of which [`Outcome::read`](super::Outcome::read) shall tell, from 0 on in the order of the namespace.
    pub ask: Option<u64>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            image: None,
            size: 256 << 20,
            io_size: 128 << 10,
            queue_size: 32,
            queues: 2,
            hdr_digest: false,
            data_digest: false,
            mtu: 1500,
            offload: OffloadPolicy::Prefer,
            threshold: Threshold::Fixed(0),
            write: false,
            pcap: None,
            seed: 1,
            peer: Peer::default(),
            script: nvme_target::Script::default(),
            wire: WireConfig::default(),
            pieces: 1,
            inject: Vec::new(),
            ask: None,
        }
    }
}

/// An option whose value cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option} {value}: {allowed}")]
pub struct BadOption {
    /// The option as it is spelt on the command line.
    pub option: &'static str,
    /// What was given.
    pub value: String,
    /// What is wrong with it, and what is allowed.
    pub allowed: String,
}

impl BadOption {
    pub(super) fn new(option: &'static str, value: impl ToString, allowed: impl Into<String>) -> BadOption {
        BadOption { option, value: value.to_string(), allowed: allowed.into() }
    }
}

fn within(option: &'static str, value: u32, range: std::ops::RangeInclusive<u32>) -> Result<(), BadOption> {
    match range.contains(&value) {
        true => Ok(()),
        false => Err(BadOption::new(option, value, format!("allowed is {} to {}", range.start(), range.end()))),
    }
}

impl Config {
    /// Checks everything that can be checked without a device, and returns the bytes of the namespace.
    pub fn check(&self) -> Result<u64, BadOption> {
        if self.io_size == 0 || !self.io_size.is_multiple_of(BLOCK) || self.io_size > MAX_IO {
            let allowed = format!("allowed is a multiple of the {BLOCK}-byte block, from {BLOCK} to {MAX_IO} bytes");
            return Err(BadOption::new("--io-size", self.io_size, allowed));
        }
        within("--queue-size", self.queue_size, 1..=1024)?;
        within("--queues", self.queues, 1..=8)?;
        if !matches!(self.mtu, 1500 | 9000) {
            return Err(BadOption::new("--mtu", self.mtu, "allowed is 1500 or 9000"));
        }
        for lane in [&self.wire.to_target, &self.wire.to_host] {
            let rates = [
                ("--loss", lane.loss),
                ("--reorder", lane.reorder),
                ("--duplicate", lane.duplicate),
                ("--corrupt", lane.corrupt),
            ];
            for (option, rate) in rates {
                if !(0.0..=0.5).contains(&rate) {
                    return Err(BadOption::new(option, format!("{} %", rate * 100.0), "allowed is 0 to 50 %"));
                }
            }
            if !(1.0..=1000.0).contains(&lane.burst) {
                return Err(BadOption::new("--burst", lane.burst, "allowed is 1 to 1000"));
            }
            if lane.delay > MAX_DELAY {
                return Err(BadOption::new("--delay", lane.delay.as_micros(), "allowed is 0 to 1000000 microseconds"));
            }
        }
        if self.pieces == 0 || self.pieces > 128 || u64::from(self.pieces) > self.io_size {
            return Err(BadOption::new(
                "pieces",
                self.pieces,
                "allowed is 1 to 128, and not more than bytes of a request",
            ));
        }
        let size = match &self.image {
            None => self.size,
            Some(path) => {
                let bad = |what: String| BadOption::new("--image", path.display(), what);
                let meta = std::fs::metadata(path)
                    .map_err(|e| bad(format!("cannot be opened ({e}); give a file that can be read")))?;
                if !meta.is_file() {
                    return Err(bad("is not a regular file; give a file".into()));
                }
                meta.len()
            }
        };
        if size == 0 || !size.is_multiple_of(BLOCK) {
            let allowed = format!("allowed is a positive multiple of the {BLOCK}-byte block");
            return Err(match &self.image {
                None => BadOption::new("--size", size, allowed),
                Some(path) => {
                    let what = format!("has {size} bytes; {allowed} (truncate -s %{BLOCK} extends a file)");
                    BadOption::new("--image", path.display(), what)
                }
            });
        }
        let reads = size.div_ceil(self.io_size);
        if let Some(read) = self.ask.filter(|read| *read >= reads) {
            let allowed = format!("the namespace has {reads} reads of this size; allowed is 0 to {}", reads - 1);
            return Err(BadOption::new("--read", read, allowed));
        }
        if let Some(path) = &self.pcap {
            let bad = |what: &str| BadOption::new("--pcap", path.display(), what);
            if path.is_dir() {
                return Err(bad("is a folder; give a file"));
            }
            if let Some(parent) = path.parent()
                && !parent.as_os_str().is_empty()
                && !parent.is_dir()
            {
                return Err(bad("its folder does not exist; create it first"));
            }
        }
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | every impossible value is refused by a line that names the option and the value | `impossible_values_are_named` |
    use super::*;

    #[test]
    fn impossible_values_are_named() {
        let ok = Config::default();
        assert_eq!(ok.check(), Ok(256 << 20));
        let cases: Vec<(Config, &str)> = vec![
            (Config { io_size: 0, ..ok.clone() }, "--io-size 0: "),
            (Config { io_size: 1000, ..ok.clone() }, "--io-size 1000: "),
            (Config { io_size: 1 << 20, ..ok.clone() }, "--io-size 1048576: "),
            (Config { queue_size: 0, ..ok.clone() }, "--queue-size 0: "),
            (Config { queue_size: 1025, ..ok.clone() }, "--queue-size 1025: "),
            (Config { queues: 0, ..ok.clone() }, "--queues 0: "),
            (Config { queues: 9, ..ok.clone() }, "--queues 9: "),
            (Config { mtu: 1400, ..ok.clone() }, "--mtu 1400: "),
            (Config { size: 0, ..ok.clone() }, "--size 0: "),
            (Config { size: 513, ..ok.clone() }, "--size 513: "),
            (
                Config { image: Some("/nonexistent/image".into()), ..ok.clone() },
                "--image /nonexistent/image: cannot be",
            ),
            (Config { image: Some("/".into()), ..ok.clone() }, "--image /: is not a regular file"),
            (Config { ask: Some(2048), ..ok.clone() }, "--read 2048: the namespace has 2048 reads"),
            (Config { pcap: Some("/".into()), ..ok.clone() }, "--pcap /: is a folder"),
            (Config { pcap: Some("/nonexistent/a.pcapng".into()), ..ok.clone() }, "--pcap /nonexistent/a.pcapng: "),
        ];
        for (config, begins) in cases {
            let line = config.check().expect_err(begins).to_string();
            assert!(line.starts_with(begins) && !line.contains('\n'), "{line}");
        }
    }
}
