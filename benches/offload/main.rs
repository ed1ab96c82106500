//! What the offload's hot paths cost: `cargo bench --bench offload`.
//!
//! * **Time** is a ratio: each operation is timed between two runs of a [floor](floor), on the same machine in the same
//!   moments, and the median of the paired ratios is printed. Nothing is asserted about it.
//! * **Instructions** are exact: the program runs itself under callgrind, where valgrind is installed, with collection
//!   switched on only inside the `region_*` functions below, and divides by the operations done there.
//!
//! The device model works only while completions are [recorded](host) and between the measured regions.

mod callgrind;
mod floor;
mod host;
mod operations;
#[path = "../../tests/ddp_placement/segment.rs"]
mod segment;
#[allow(dead_code, reason = "shared with a test that needs all of it")]
#[path = "../../tests/ddp_placement/stream.rs"]
mod stream;

use callgrind::{Count, Skipped};
use operations::{Bench, ROUNDS, Row, SPREADS};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Timed pairs per operation.
const PAIRS: usize = 41;
/// Argument with which the program runs itself under callgrind.
const COUNT: &str = "--count-instructions";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == COUNT) {
        return count();
    }
    // `cargo test --benches` runs benchmarks without this argument, to see that they work.
    let rehearsal = !arguments.iter().any(|argument| argument == "--bench");
    println!("offload hot paths, built for {} ({})", std::env::consts::ARCH, features());
    let mut bench = Bench::new();
    let mut times = Times::default();
    for _ in 0..if rehearsal { 1 } else { PAIRS } {
        times.pair(&mut bench);
    }
    bench.finish();
    let counts = if rehearsal { Err(Skipped::Rehearsal) } else { callgrind::run(COUNT) };
    print_table(&times, &counts);
}

/// What the compiler may use beyond the base instruction set: counts depend on it.
fn features() -> &'static str {
    if cfg!(target_feature = "avx2") {
        "x86-64-v3"
    } else if cfg!(target_arch = "x86_64") {
        "baseline"
    } else {
        "default features"
    }
}

/// The part that runs under callgrind: every region once, a mark after each.
fn count() {
    let mut bench = Bench::new();
    // Once without looking, so that nothing is done for the first time.
    ROUNDS.iter().for_each(|round| round(&mut bench, &mut |_, _, _| {}));
    callgrind::mark("warm-up", 1);
    for round in ROUNDS {
        round(&mut bench, &mut |row, _, operations| callgrind::mark(row.name(), operations));
    }
    bench.finish();
    for spread in &SPREADS {
        spread.receive(|operations| match operations {
            0 => callgrind::mark("warm-up", 1),
            operations => callgrind::mark(spread.name, operations),
        });
    }
}

/// What was timed.
#[derive(Default)]
struct Times {
    /// Per row: an operation's time as a multiple of the floor's just before and after.
    ratios: [Vec<f64>; Row::ALL.len()],
    /// The floor's own time.
    floor: Vec<f64>,
}

impl Times {
    /// Does every region once, each round between two runs of the floor.
    fn pair(&mut self, bench: &mut Bench) {
        for round in ROUNDS {
            let before = floor(bench);
            let mut parts = Vec::new();
            round(bench, &mut |row, took, operations| parts.push((row, took.as_secs_f64() / operations as f64)));
            let floor = (before + floor(bench)) / 2.0;
            for (row, time) in parts {
                self.ratios[row as usize].push(time / floor);
            }
            self.floor.push(floor);
        }
    }
}

/// Seconds per entry of the floor.
fn floor(bench: &mut Bench) -> f64 {
    let mut time = 0.0;
    bench.floor(&mut |_, took, operations| time = took.as_secs_f64() / operations as f64);
    time
}

/// Lower quartile, median, upper quartile.
fn quartiles(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [0.25, 0.5, 0.75].map(|part| sorted[((sorted.len() - 1) as f64 * part) as usize])
}

fn print_table(times: &Times, counts: &Result<HashMap<String, Count>, Skipped>) {
    println!("\n{:<44} {:>12} {:>6} {:>8}   time / floor [quartiles]", "operation", "instructions", "gate", "stretch");
    for row in Row::ALL {
        let count = counts.as_ref().ok().and_then(|counts| counts.get(row.name()));
        let count = count.map_or("-".into(), |count| format!("{:.1}", count.per_operation()));
        let gate = row.gate().map_or(["-".into(), "-".into()], |gate| [gate.0, gate.1].map(|n| n.to_string()));
        let [low, median, high] = quartiles(&times.ratios[row as usize]);
        println!("{:<44} {count:>12} {:>6} {:>8}   {median:.2} [{low:.2}, {high:.2}]", row.name(), gate[0], gate[1]);
    }
    println!(
        "\ntime: median of {} pairs; the floor took {:.1} ns",
        times.ratios[0].len(),
        quartiles(&times.floor)[1] * 1e9
    );
    if let Ok(counts) = counts {
        println!("\nplaced CQE, each packet a PDU of its own, for");
        for spread in &SPREADS {
            let count = counts.get(spread.name).map_or("-".into(), |count| format!("{:.1}", count.per_operation()));
            println!("  {:<42} {count:>12}", spread.name);
        }
    }
    match counts {
        Ok(_) => println!("instructions: callgrind, exact; gate and stretch: the reference's, all checks included"),
        Err(why) => println!("instructions: SKIPPED: {why}"),
    }
}

/// Runs `region` and says how long it took.
fn timed(region: impl FnOnce()) -> Duration {
    let began = Instant::now();
    region();
    began.elapsed()
}
