//! Counting instructions: the program runs itself under callgrind, once, and reads one count per operation out of what
//! callgrind dumps at each [`mark`], by the places of the code where they were spent.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
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

/// What was counted between two marks.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// Instructions, all of them.
    pub instructions: u64,
    /// Operations, as marked.
    pub operations: u64,
    /// Instructions by where their source stands.
    pub places: HashMap<Place, u64>,
}

/// Where an instruction's source stands, as the line tables say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// File; code that was compiled into another function has its own. `???` where there are no line tables.
    pub file: String,
    /// The function that it was compiled into.
    pub function: String,
}

impl Count {
    /// Instructions per operation.
    pub fn per_operation(&self) -> f64 {
        self.instructions as f64 / self.operations as f64
    }
}

/// Runs the program again with `argument` and returns what was counted, by the names that were marked.
pub fn run(argument: &str) -> Result<HashMap<String, Count>, Skipped> {
    let program = std::env::current_exe().map_err(|error| Skipped::Failed(error.to_string()))?;
    let directory = std::env::temp_dir().join(format!("connectx-ddp-callgrind-{}", std::process::id()));
    std::fs::create_dir_all(&directory).map_err(|error| Skipped::Failed(error.to_string()))?;
    let counted = count(&program, argument, &directory);
    // What cannot be removed from a temporary directory is in nobody's way.
    let _ = std::fs::remove_dir_all(&directory);
    counted
}

fn count(program: &Path, argument: &str, directory: &Path) -> Result<HashMap<String, Count>, Skipped> {
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
    let mut counts: HashMap<String, Count> = HashMap::new();
    for (n, (operations, name)) in marks.enumerate() {
        let operations: u64 = operations.parse().map_err(|_| Skipped::Failed(format!("{operations} operations")))?;
        let count = counts.entry(name.to_owned()).or_default();
        count.operations += operations;
        add_dump(&directory.join(format!("out.{}", n + 1)), count)?;
    }
    Ok(counts)
}

/// Adds a dump to a count: its `totals` line, and what each place cost by itself.
fn add_dump(dump: &Path, count: &mut Count) -> Result<(), Skipped> {
    let failed = |why: String| Skipped::Failed(format!("{}: {why}", dump.display()));
    let text = std::fs::read_to_string(dump).map_err(|error| failed(error.to_string()))?;
    let (mut total, mut names) = (None, HashMap::new());
    let mut place = Place::default();
    // The line behind `calls=` is the cost of the callee, which has lines of its own.
    let mut of_callee = false;
    for line in text.lines() {
        if let Some(sum) = line.strip_prefix("totals:") {
            total = sum.trim().parse::<u64>().ok();
        } else if let Some((key, value)) = line.split_once('=') {
            match key {
                "fl" | "fi" | "fe" => place.file = name(&mut names, 'f', value),
                "fn" => place.function = name(&mut names, 'n', value),
                // Named here for the first time, perhaps.
                "cfi" | "cfl" => drop(name(&mut names, 'f', value)),
                "cfn" => drop(name(&mut names, 'n', value)),
                "calls" => of_callee = true,
                _ => {}
            }
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
            && !std::mem::take(&mut of_callee)
        {
            let cost = line.split_whitespace().nth(1).and_then(|cost| cost.parse::<u64>().ok());
            *count.places.entry(place.clone()).or_default() += cost.unwrap_or_default();
        }
    }
    match total.ok_or_else(|| failed("no totals".into()))? {
        0 => Err(failed("nothing was collected: the binary has no symbols".into())),
        total => {
            count.instructions += total;
            Ok(())
        }
    }
}

/// A name, which is written out once, `(4) name`, and `(4)` from then on.
fn name(names: &mut HashMap<(char, String), String>, of: char, value: &str) -> String {
    let (number, rest) = value.split_once(' ').unwrap_or((value, ""));
    let known = names.entry((of, number.to_owned())).or_insert_with(|| rest.to_owned());
    known.clone()
}
