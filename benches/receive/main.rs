//! What receiving costs, whole: `cargo bench --bench receive`.
//!
//! Reads go through the whole driver: request, binding, completions, rebuild, net, TCP, NVMe/TCP, copy and digest where the
//! device did not, unbinding, acknowledgments, posting. Everything that the driver executes is counted; the device, the
//! wire and the target work [in between](platform). The [wire](wire) loses the same segments with the offload and without.
//!
//! Instructions come from callgrind, where valgrind is installed: the program runs itself under it. Callgrind shows programs
//! no AVX-512, so CRC32C runs as on a CPU without it; what the offload saves besides the digests is printed apart. Without
//! valgrind the runs are still made, and every byte compared.
//!
//! The program fails if receiving costs more instructions with the offload than without, at any rate.

#[allow(dead_code, reason = "shared with the other benchmark, which needs other parts")]
#[path = "../offload/callgrind.rs"]
mod callgrind;
mod platform;
mod run;
mod stages;
mod wire;

use callgrind::{Count, Skipped};
use run::{Done, Load, run};
use std::collections::HashMap;
use std::process::ExitCode;

/// Argument with which the program runs itself under callgrind.
const COUNT: &str = "--count-instructions";
/// Share of lost frames.
const LOSSES: [f64; 6] = [0.0, 0.001, 0.005, 0.01, 0.02, 0.05];
/// Bytes of a read and of its PDU.
const READS: [u32; 2] = [64 << 10, 512 << 10];
/// Bytes per run, and runs per point, each with other losses.
const TOTAL: u64 = 8 << 20;
const SEEDS: u64 = 2;
/// Bytes of a full segment's payload.
const MSS: f64 = 1448.0;

fn load(offload: bool, loss: f64, seed: u64, read: u32) -> Load {
    // As many bytes in flight for either size.
    Load { offload, loss, seed, read, total: TOTAL, queues: 4, depth: ((2 << 20) / read) as u16 }
}

/// Both sizes, all losses.
fn points() -> impl Iterator<Item = (u32, f64)> {
    READS.into_iter().flat_map(|read| LOSSES.into_iter().map(move |loss| (read, loss)))
}

fn name(offload: bool, loss: f64, read: u32) -> String {
    format!("{} {}K {}", if offload { "on" } else { "off" }, read >> 10, loss)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == COUNT) {
        count();
        return ExitCode::SUCCESS;
    }
    // `cargo test --benches` runs benchmarks without this argument, to see that they work.
    let rehearsal = !arguments.iter().any(|argument| argument == "--bench");
    let counts = if rehearsal { Err(Skipped::Rehearsal) } else { callgrind::run(COUNT) };
    let seeds = if rehearsal { 1 } else { SEEDS };
    let rows: Vec<Row> = points().map(|(read, loss)| Row::measure(read, loss, seeds)).collect();
    let dearer = print_losses(&rows, &counts);
    print_stages(&counts);
    print_gates(rehearsal);
    match dearer {
        0 => ExitCode::SUCCESS,
        points => {
            eprintln!("receiving costs more with the offload than without it at {points} points");
            ExitCode::FAILURE
        }
    }
}

/// The part that runs under callgrind: a mark after each run.
fn count() {
    // What is done for the first time: choosing a CRC, mapping memory.
    run(Load { total: 1 << 20, ..load(true, 0.0, 0, READS[0]) }, false);
    callgrind::mark("warm-up", 1);
    for (read, loss) in points() {
        for offload in [true, false] {
            for seed in 0..SEEDS {
                let done = run(load(offload, loss, seed, read), false);
                callgrind::mark(&name(offload, loss, read), done.bytes);
            }
        }
    }
}

/// A size and a loss, with the offload.
struct Row {
    read: u32,
    loss: f64,
    on: Done,
}

impl Row {
    /// Runs without counting, with every byte compared, with the offload and without.
    fn measure(read: u32, loss: f64, seeds: u64) -> Row {
        let mut row = Row { read, loss, on: Done::default() };
        for seed in 0..seeds {
            row.on += run(load(true, loss, seed, read), true);
            run(load(false, loss, seed, read), true);
        }
        row
    }
}

/// Returns at how many points the offload costs more than it saves.
fn print_losses(rows: &[Row], counts: &Result<HashMap<String, Count>, Skipped>) -> usize {
    let mut dearer = 0;
    println!(
        "\nreceive cost, MTU 1500, data digests, {} MiB per point over 4 queues; whole driver, per payload byte",
        (SEEDS * TOTAL) >> 20
    );
    println!(
        "{:>5} {:>7} {:>9} {:>8} {:>8} {:>9} {:>9} {:>7} {:>17}",
        "PDU", "loss", "received", "placed", "digests", "on Ir/B", "off Ir/B", "on/off", "same, no CRC32C"
    );
    for Row { read, loss, on } in rows {
        let count = |offload| counts.as_ref().ok()?.get(&name(offload, *loss, *read));
        let cost = |offload| count(offload).map(Count::per_operation);
        let digest = |count: &Count| stages::by_stage(count).get("crc32c").copied().unwrap_or_default();
        let rest =
            |offload| count(offload).map(|count| (count.instructions - digest(count)) as f64 / count.operations as f64);
        let ratio = |[on, off]: [Option<f64>; 2]| on.zip(off).map(|(on, off)| on / off);
        dearer += usize::from(ratio([true, false].map(cost)).is_some_and(|ratio| ratio > 1.0));
        let show = |cost: Option<f64>| cost.map_or("-".into(), |cost| format!("{cost:.3}"));
        let digests = 100.0 * on.digests[1] as f64 / (on.digests[0] + on.digests[1]).max(1) as f64;
        println!(
            "{:>4}K {:>5.1} % {:>9.2} {:>6.1} % {:>6.1} % {:>9} {:>9} {:>7} {:>17}",
            read >> 10,
            100.0 * loss,
            on.packets as f64 * MSS / on.bytes as f64,
            100.0 * on.placed as f64 / on.bytes as f64,
            digests,
            show(cost(true)),
            show(cost(false)),
            show(ratio([true, false].map(cost))),
            show(ratio([true, false].map(rest))),
        );
    }
    println!("received: packets per {MSS} bytes, with the offload on; placed, digests: share that the device has done");
    match counts {
        Ok(_) => println!("instructions: callgrind"),
        Err(why) => println!("instructions: SKIPPED: {why}"),
    }
    dearer
}

/// Where the instructions of a packet go, where nothing is lost.
fn print_stages(counts: &Result<HashMap<String, Count>, Skipped>) {
    let Ok(counts) = counts else { return };
    for read in READS {
        let of = |offload| counts.get(&name(offload, 0.0, read));
        let Some((on, off)) = of(true).zip(of(false)) else { continue };
        println!(
            "\n{:<60} {:>9} {:>9}",
            format!("instructions per {MSS} bytes of payload, {}K reads, nothing lost", read >> 10),
            "on",
            "off"
        );
        let per = |instructions: u64, count: &Count| instructions as f64 * MSS / count.operations as f64;
        let (stages_on, stages_off) = (stages::by_stage(on), stages::by_stage(off));
        for stage in stages::ORDER {
            let [on, off] = [(&stages_on, on), (&stages_off, off)]
                .map(|(stages, count)| per(stages.get(stage).copied().unwrap_or_default(), count));
            println!("{:<60} {on:>9.1} {off:>9.1}", stages::describe(stage));
        }
        println!(
            "{:<60} {:>9.1} {:>9.1}",
            "all (gate 300, stretch 145)",
            per(on.instructions, on),
            per(off.instructions, off)
        );
    }
}

/// What is counted without callgrind.
fn print_gates(rehearsal: bool) {
    println!("\n{:<60} {:>9} {:>9} {:>9}", "one queue of depth 64, nothing lost", "", "gate", "stretch");
    for read in [4 << 10, 64 << 10] {
        let total = if rehearsal { 64 * u64::from(read) } else { 1024 * u64::from(read) };
        let done = run(Load { total, queues: 1, depth: 64, ..load(true, 0.0, 0, read) }, true);
        println!(
            "{:<60} {:>9.3} {:>9} {:>9}   {:.2} polls per read",
            format!("doorbells per read of {}K", read >> 10),
            done.doorbells as f64 / done.reads as f64,
            "0.5",
            "0.1",
            done.polls as f64 / done.reads as f64
        );
        let commands = done.commands.map_or("-".into(), |commands| commands.to_string());
        println!("{:<60} {commands:>9} {:>9} {:>9}", "firmware commands until the first placed byte", "60", "40");
    }
}
