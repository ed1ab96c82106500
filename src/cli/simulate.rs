//! `cxddp simulate`: seeds that failed, totals, and what was reached.

use super::options::SimulateArgs;
use super::text::{bytes, count, share};
use connectx_ddp::demo::simulate::{Run, Totals, run_seeds};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

/// Runs the seeds and tells what came of them.
pub fn run(args: &SimulateArgs) -> ExitCode {
    let (first, end) = (args.seeds.first, args.seeds.end);
    let visible = !args.json && std::io::stderr().is_terminal();
    let target = if visible { ProgressDrawTarget::stderr_with_hz(5) } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(end - first), target);
    if let Ok(style) = ProgressStyle::with_template("{prefix:>7} [{bar:32}] {pos}/{len} seeds, {eta} left") {
        bar.set_style(style.progress_chars("=> "));
    }
    let began = Instant::now();
    let each = |run: &Run| {
        for problem in &run.problems {
            bar.suspend(|| eprintln!("cxddp simulate: seed {}: {problem}", run.plan.seed));
        }
        bar.inc(1);
    };
    let totals = run_seeds(first..end, args.threads, &each);
    bar.finish_and_clear();
    let elapsed = began.elapsed().as_secs_f64();
    let mut out = std::io::stdout().lock();
    let written = match args.json {
        true => {
            let object = json!({ "first_seed": first, "end_seed": end, "elapsed_s": elapsed, "totals": totals });
            super::json::write(&mut out, "simulate", &object)
        }
        false => summary(&mut out, &totals, elapsed),
    };
    if let Err(error) = written {
        eprintln!("cxddp simulate: cannot write the result: {error}");
        return ExitCode::from(2);
    }
    if totals.seeds_failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn summary(out: &mut impl Write, totals: &Totals, elapsed: f64) -> std::io::Result<()> {
    for failure in &totals.failures {
        writeln!(out, "seed {} FAILED; it runs alone with: {}", failure.seed, failure.replay)?;
        for problem in &failure.problems {
            writeln!(out, "  {problem}")?;
        }
        writeln!(out, "it drew {}\n", failure.drawn)?;
    }
    writeln!(out, "how many seeds drew what")?;
    for (question, answers) in &totals.drawn {
        let row: Vec<String> = answers.iter().map(|(answer, seeds)| format!("{answer} {}", count(*seeds))).collect();
        writeln!(out, "  {question:<24} {}", row.join(", "))?;
    }
    let never: Vec<String> = totals.never_drawn().map(|(question, answer)| format!("{question} {answer}")).collect();
    if !never.is_empty() {
        writeln!(out, "  never drawn: {}", never.join(", "))?;
    }
    writeln!(out, "\nwhat was reached{:<44} {:>8} {:>16}", "", "seeds", "times")?;
    for (path, reached) in &totals.paths {
        let never = if reached.times == 0 { "  never" } else { "" };
        writeln!(out, "  {path:<58} {:>8} {:>16}{never}", count(reached.seeds), count(reached.times))?;
    }
    let sum = |name: &str| count(totals.sum(name));
    let size = |name: &str| bytes(totals.sum(name));
    let part = |name: &str, whole: &str| share(totals.sum(name), totals.sum(whole));
    let verdict = match totals.seeds_failed {
        0 => "every seed is good: 0 wrong bytes, 0 hangs, 0 leaks".to_owned(),
        n => format!("FAILED: {} of {} seeds", count(n), count(totals.seeds)),
    };
    writeln!(out)?;
    let mut row = |name: &str, value: String| writeln!(out, "  {name:<13} {value}");
    row("result", verdict)?;
    row("seeds", format!("{} in {elapsed:.1} s", count(totals.seeds)))?;
    row("reads", format!("{} of {} in all", sum("reads"), size("bytes")))?;
    row("  placed", format!("{} ({})", size("placed"), part("placed", "bytes")))?;
    row("  copied", format!("{} ({})", size("copied"), part("copied", "bytes")))?;
    row("writes", format!("{} of {} in all", sum("writes"), size("bytes_written")))?;
    let failed = ["cancelled", "target_faults", "device_faults", "connections_lost"].map(sum);
    let [cancelled, target, device, lost] = failed;
    row("failed", format!("{} requests, each with a cause: {cancelled} cancelled", sum("failed")))?;
    row("injected", format!("{target} faults of the target, {device} errors of queues; {lost} connections lost"))?;
    row(
        "data digests",
        format!("{} checked by the NIC, {} by software", sum("digests_hardware"), sum("digests_software")),
    )?;
    row("resyncs", format!("{} asked, {} confirmed", sum("resyncs_asked"), sum("resyncs_confirmed")))?;
    let wire = ["frames_lost", "frames_reordered", "frames_duplicated", "frames_corrupted"].map(sum);
    let [gone, reordered, duplicated, corrupted] = wire;
    row("wire", format!("{gone} lost, {reordered} reordered, {duplicated} duplicated, {corrupted} corrupted"))?;
    row(
        "sent again",
        format!("{} segments; {} heard again or late", sum("segments_sent_again"), sum("segments_heard_again_or_late")),
    )?;
    row("recoveries", format!("{} of queues", sum("recoveries")))?;
    row("I/O queues", format!("{} of {} offloaded", sum("queues_offloaded"), sum("queues")))
}
