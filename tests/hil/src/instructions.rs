//! What a frame costs the virtual ConnectX, in instructions: it runs under callgrind while the guest uses it.

use crate::Error;
use crate::debian;
use std::path::Path;
use std::process::Command;

/// Where the counts go, in the folder of the scenario.
const COUNTS: &str = "callgrind.out";
/// Crates of the process whose functions are shown.
const CRATES: [&str; 4] = ["virtual_nic", "cxddp_vnic", "vfio_user", "ethernet_wire"];
/// Functions that are shown: those with the most inside and below them.
const SHOWN: usize = 16;

/// The program, run under callgrind.
pub fn counted(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--tool=callgrind"]);
    command.arg(format!("--callgrind-out-file={}", folder.join(COUNTS).display())).arg(program);
    command
}

/// A line for all instructions per frame, and one for each of the largest functions, those that it calls included.
pub fn report(folder: &Path, vnic: &str) -> Result<String, Error> {
    // Of all functions: one alone has the frames.
    let counter = |name: &str| -> u64 {
        let counts = vnic.lines().filter_map(|line| line.split_once(": ")?.1.strip_prefix(name)?.strip_prefix(' '));
        counts.filter_map(|count| count.parse::<u64>().ok()).sum()
    };
    let (received, sent) = (counter("rx_frames"), counter("tx_frames"));
    let frames = (received + sent).max(1);
    let mut annotate = Command::new("callgrind_annotate");
    annotate.args(["--inclusive=yes", "--threshold=100"]).arg(folder.join(COUNTS));
    let listing = debian::run(&mut annotate)?;
    let mut out = format!("        instructions per frame ({received} received, {sent} sent)\n");
    let mut shown = Vec::new();
    for (count, name) in listing.lines().filter_map(entry) {
        let known = CRATES.iter().any(|name_of| name.contains(name_of)) || name == "PROGRAM TOTALS";
        // A function has an entry for each file that it was compiled from, the whole of it first.
        if known && shown.len() < SHOWN && !shown.contains(&name) {
            shown.push(name);
            out.push_str(&format!("        {:>10.1}  {name}\n", count as f64 / frames as f64));
        }
    }
    Ok(out)
}

/// Instructions and the function of a line such as `1,234 (5.6%)  file.rs:crate::function [program]`.
fn entry(line: &str) -> Option<(u64, &str)> {
    let (count, rest) = line.trim_start().split_once(' ')?;
    let count = count.replace(',', "").parse().ok()?;
    let name = rest.trim_start();
    let name = name.strip_prefix('(').and_then(|name| name.split_once(')')).map_or(name, |(_, name)| name).trim();
    let name = name.split_once(" [").map_or(name, |(name, _)| name);
    // The file is in front, and may be unknown.
    let name = name.split_once(".rs:").map_or(name, |(_, name)| name);
    Some((count, name.strip_prefix("???:").unwrap_or(name)))
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | counts and functions are read out of callgrind's listing, and nothing else | `lines_of_the_listing_are_read` |
    use super::*;

    #[test]
    fn lines_of_the_listing_are_read() {
        let name = "virtual_nic::receive::<impl virtual_nic::VirtualNic>::receive";
        assert_eq!(entry(&format!("12,345 (6.7%)  /a/b.rs:{name} [/bin/vnic]")), Some((12345, name)));
        assert_eq!(entry("99 ( 0.1%)  ???:memcpy [/lib/libc.so]"), Some((99, "memcpy")));
        assert_eq!(entry("1,000 (100.0%)  PROGRAM TOTALS"), Some((1000, "PROGRAM TOTALS")));
        assert!(["", "Ir", "-----", "Profile data file 'x' (creator: y)"].iter().all(|line| entry(line).is_none()));
    }
}
