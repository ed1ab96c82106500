//! What receiving costs, whole: `cargo bench --bench receive`.
//!
//! Reads go through the whole driver: request, binding, completions, rebuild, net, TCP, NVMe/TCP, copy and digest where the
//! device did not, unbinding, acknowledgments, posting. Everything that the driver executes is counted; the device, the
//! wire and the target work [in between](platform). The wire loses frames by seed, so both sides of a comparison lose the
//! same share.
//!
//! * **Instructions** by callgrind, where valgrind is installed: the program runs itself under it. Callgrind shows no
//!   AVX-512, so CRC32C runs as on a CPU without it.
//! * **Time** inside the same regions, as the ratio of two runs done one after the other.

#[allow(dead_code, reason = "shared with the other benchmark, which needs other parts")]
#[path = "../offload/callgrind.rs"]
mod callgrind;
mod platform;
mod run;
mod stages;

use callgrind::{Count, Skipped};
use run::{Done, Load, run};
use std::collections::{BTreeMap, HashMap};

/// Argument with which the program runs itself under callgrind.
const COUNT: &str = "--count-instructions";
/// Share of lost frames.
const LOSSES: [f64; 6] = [0.0, 0.001, 0.005, 0.01, 0.02, 0.05];
/// Bytes of a read and of its PDU.
const READS: [u32; 2] = [64 << 10, 512 << 10];
/// Bytes per run.
const TOTAL: u64 = 16 << 20;
/// Pairs of runs that are timed.
const PAIRS: usize = 5;
/// Bytes of a full segment's payload.
const MSS: f64 = 1448.0;

fn load(offload: bool, loss: f64, read: u32) -> Load {
    // As many bytes in flight for either size.
    Load { offload, loss, read, total: TOTAL, queues: 4, depth: ((2 << 20) / read) as u16 }
}

/// Both sizes, all losses.
fn points() -> impl Iterator<Item = (u32, f64)> {
    READS.into_iter().flat_map(|read| LOSSES.into_iter().map(move |loss| (read, loss)))
}

fn name(load: &Load) -> String {
    let Load { offload, loss, read, .. } = load;
    format!("{} {}K {}", if *offload { "on" } else { "off" }, read >> 10, loss)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == COUNT) {
        return count();
    }
    // `cargo test --benches` runs benchmarks without this argument, to see that they work.
    let rehearsal = !arguments.iter().any(|argument| argument == "--bench");
    let counts = if rehearsal { Err(Skipped::Rehearsal) } else { callgrind::run(COUNT) };
    let mut rows = BTreeMap::new();
    for (index, (read, loss)) in points().enumerate() {
        rows.insert(index, Row::measure(read, loss, if rehearsal { 1 } else { PAIRS }));
    }
    print_losses(rows.values(), &counts);
    print_stages(&counts, &rows);
    print_gates(rehearsal);
}

/// The part that runs under callgrind: a mark after each run.
fn count() {
    // What is done for the first time: choosing a CRC, mapping memory.
    run(Load { total: 1 << 20, ..load(true, 0.0, READS[0]) }, false);
    callgrind::mark("warm-up", 1);
    for (read, loss) in points() {
        for offload in [true, false] {
            let load = load(offload, loss, read);
            let done = run(load, false);
            callgrind::mark(&name(&load), done.bytes);
        }
    }
}

/// A size and a loss, with the offload and without.
struct Row {
    on: (Load, Done),
    off: (Load, Done),
    /// Time with the offload as a share of that without, of each pair.
    ratios: Vec<f64>,
}

impl Row {
    fn measure(read: u32, loss: f64, pairs: usize) -> Row {
        let (on, off) = (load(true, loss, read), load(false, loss, read));
        let mut ratios = Vec::new();
        let mut done = (run(on, true), run(off, true));
        for pair in 0..pairs {
            // ABBA: what drifts hits both alike.
            match pair % 2 {
                0 => done = (run(on, false), run(off, false)),
                _ => (done.1, done.0) = (run(off, false), run(on, false)),
            }
            ratios.push(done.0.time.as_secs_f64() / done.1.time.as_secs_f64());
        }
        ratios.sort_by(f64::total_cmp);
        Row { on: (on, done.0), off: (off, done.1), ratios }
    }
}

fn print_losses<'a>(rows: impl Iterator<Item = &'a Row>, counts: &Result<HashMap<String, Count>, Skipped>) {
    println!(
        "\nreceive cost, MTU 1500, data digests, {} MiB per run over 4 queues; whole driver, per payload byte",
        TOTAL >> 20
    );
    println!(
        "{:>5} {:>7} {:>8} {:>8} {:>9} {:>9} {:>7}   time on/off [min, max]",
        "PDU", "loss", "placed", "digests", "on Ir/B", "off Ir/B", "on/off"
    );
    for row in rows {
        let (load, on) = &row.on;
        let cost = |load: &Load| counts.as_ref().ok().and_then(|counts| Some(counts.get(&name(load))?.per_operation()));
        let (cost_on, cost_off) = (cost(load), cost(&row.off.0));
        let show = |cost: Option<f64>| cost.map_or("-".into(), |cost| format!("{cost:.4}"));
        let ratio = cost_on.zip(cost_off).map_or("-".into(), |(on, off)| format!("{:.3}", on / off));
        let digests = 100.0 * on.digests[1] as f64 / (on.digests[0] + on.digests[1]).max(1) as f64;
        println!(
            "{:>4}K {:>5.1} % {:>6.1} % {:>6.1} % {:>9} {:>9} {:>7}   {:.2} [{:.2}, {:.2}]",
            load.read >> 10,
            100.0 * load.loss,
            100.0 * on.placed as f64 / on.bytes as f64,
            digests,
            show(cost_on),
            show(cost_off),
            ratio,
            row.ratios[row.ratios.len() / 2],
            row.ratios[0],
            row.ratios[row.ratios.len() - 1],
        );
    }
    match counts {
        Ok(_) => println!("instructions: callgrind; placed and digests: share done by the device"),
        Err(why) => println!("instructions: SKIPPED: {why}"),
    }
}

/// Where the instructions of a packet go, where nothing is lost.
fn print_stages(counts: &Result<HashMap<String, Count>, Skipped>, rows: &BTreeMap<usize, Row>) {
    let Ok(counts) = counts else { return };
    for row in rows.values().filter(|row| row.on.0.loss == 0.0) {
        let Some((on, off)) = counts.get(&name(&row.on.0)).zip(counts.get(&name(&row.off.0))) else { continue };
        println!(
            "\ninstructions per {MSS} bytes of payload, {}K reads, nothing lost{:>24} {:>9}",
            row.on.0.read >> 10,
            "on",
            "off"
        );
        let per = |instructions: u64, count: &Count| instructions as f64 * MSS / count.operations as f64;
        let off_stages: BTreeMap<String, u64> = stages::by_stage(off).into_iter().collect();
        for (stage, instructions) in stages::by_stage(on) {
            let without = off_stages.get(&stage).copied().unwrap_or_default();
            println!("{:<68} {:>9.1} {:>9.1}", stages::describe(&stage), per(instructions, on), per(without, off));
        }
        println!(
            "{:<68} {:>9.1} {:>9.1}",
            "all (gate 300, stretch 145)",
            per(on.instructions, on),
            per(off.instructions, off)
        );
    }
}

/// What is counted without callgrind.
fn print_gates(rehearsal: bool) {
    println!("\n{:<68} {:>9} {:>9}", "one queue of depth 64, nothing lost", "gate", "stretch");
    for read in [4 << 10, 64 << 10] {
        let total = if rehearsal { 64 * u64::from(read) } else { 1024 * u64::from(read) };
        let done = run(Load { offload: true, loss: 0.0, read, total, queues: 1, depth: 64 }, true);
        println!(
            "{:<56} {:>11.3} {:>9} {:>9}",
            format!("doorbells per read of {}K", read >> 10),
            done.doorbells as f64 / done.reads as f64,
            "0.5",
            "0.1"
        );
        println!(
            "{:<56} {:>11} {:>9} {:>9}",
            format!("firmware commands until the first placed byte, {}K", read >> 10),
            done.commands.map_or("-".into(), |commands| commands.to_string()),
            "60",
            "40"
        );
    }
}
