//! Counting instructions: the program runs itself under callgrind, once, and reads one count per operation out of what
//! callgrind dumps at each [`mark`].

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why nothing was counted.
#[derive(Debug)]
pub enum Skipped {
    /// Only a look whether everything works.
    Rehearsal,
    /// No valgrind.
    NoValgrind(std::io::Error),
    /// It did not do what it should.
    Failed(String),
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Skipped::Rehearsal => f.write_str("this was a rehearsal; run `cargo bench --bench offload`"),
            Skipped::NoValgrind(error) => {
                write!(f, "valgrind cannot be run ({error}); install it to count instructions")
            }
            Skipped::Failed(why) => write!(f, "callgrind: {why}"),
        }
    }
}

/// Says under callgrind what was done since the last mark, and how often.
pub fn mark(name: &str, operations: u64) {
    println!("operations {operations} {name}");
    end_of_operation();
}

/// Callgrind dumps its counters, and sets them to zero, when this returns.
#[inline(never)]
fn end_of_operation() {
    std::hint::black_box(());
}

/// Runs the program again with `argument` and returns instructions per operation, by the names that were marked.
pub fn run(argument: &str) -> Result<HashMap<String, f64>, Skipped> {
    let program = std::env::current_exe().map_err(|error| Skipped::Failed(error.to_string()))?;
    let directory = std::env::temp_dir().join(format!("connectx-ddp-callgrind-{}", std::process::id()));
    std::fs::create_dir_all(&directory).map_err(|error| Skipped::Failed(error.to_string()))?;
    let counted = count(&program, argument, &directory);
    // What cannot be removed from a temporary directory is in nobody's way.
    let _ = std::fs::remove_dir_all(&directory);
    counted
}

fn count(program: &Path, argument: &str, directory: &Path) -> Result<HashMap<String, f64>, Skipped> {
    let file = directory.join("out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*::region_*"])
        .arg("--dump-after=*::end_of_operation*")
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .arg(argument)
        .stdin(Stdio::null())
        .output()
        .map_err(Skipped::NoValgrind)?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = log.lines().rev().take(3).collect();
        return Err(Skipped::Failed(format!("{}: {}", output.status, last.join(" / "))));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let marks = text.lines().filter_map(|line| line.strip_prefix("operations ")?.split_once(' '));
    let mut sums: HashMap<String, (u64, u64)> = HashMap::new();
    for (n, (operations, name)) in marks.enumerate() {
        let operations: u64 = operations.parse().map_err(|_| Skipped::Failed(format!("{operations} operations")))?;
        let sum = sums.entry(name.to_owned()).or_default();
        *sum = (sum.0 + instructions(&dump(directory, n + 1))?, sum.1 + operations);
    }
    Ok(sums
        .into_iter()
        .map(|(name, (instructions, operations))| (name, instructions as f64 / operations as f64))
        .collect())
}

/// The n-th dump, from 1 on.
fn dump(directory: &Path, n: usize) -> PathBuf {
    directory.join(format!("out.{n}"))
}

/// The sum of a dump: its `totals` line.
fn instructions(dump: &Path) -> Result<u64, Skipped> {
    let failed = |why: String| Skipped::Failed(format!("{}: {why}", dump.display()));
    let text = std::fs::read_to_string(dump).map_err(|error| failed(error.to_string()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals:")?.trim().parse().ok());
    match total.ok_or_else(|| failed("no totals".into()))? {
        0 => Err(failed("nothing was collected: the binary has no symbols".into())),
        total => Ok(total),
    }
}
