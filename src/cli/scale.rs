//! `cxddp scale`: the summary, and the JSON object.

use super::options::ScaleArgs;
use super::text::{bytes, count, share};
use super::watch::Serving;
use connectx_ddp::demo::scale::{self, Config, Report};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

fn config(args: &ScaleArgs) -> Config {
    Config {
        connections: args.connections,
        depth: args.depth,
        shards: args.shards,
        command_time: Duration::from_micros(args.command_time),
        batch: args.batch,
        reads: args.reads,
        io_size: args.io_size,
        data_digest: args.data_digest,
        seed: args.seed,
        inject: args.inject,
    }
}

/// Runs it and tells what came of it.
pub fn run(args: &ScaleArgs) -> ExitCode {
    connectx_ddp::demo::heap::installed();
    let config = config(args);
    // The host's, then one for each shard.
    let (serving, publishers) = match Serving::start(&args.serve, 1 + config.shards as usize) {
        Ok(serving) => serving,
        Err(error) => {
            eprintln!("cxddp scale: --metrics: {error}");
            return ExitCode::from(2);
        }
    };
    let report = match scale::run_published(&config, publishers) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("cxddp scale: {error}");
            return ExitCode::from(2);
        }
    };
    let mut out = std::io::stdout().lock();
    let written = match args.json {
        true => super::json::write(&mut out, "scale", &report),
        false => summary(&mut out, &report),
    };
    if let Err(error) = written {
        eprintln!("cxddp scale: cannot write the result: {error}");
        return ExitCode::from(2);
    }
    for problem in &report.problems {
        eprintln!("cxddp scale: {problem}");
    }
    drop(out);
    serving.linger("scale", &args.serve);
    if report.verified { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn seconds(microseconds: u64) -> String {
    format!("{:.3} s", microseconds as f64 / 1e6)
}

fn summary(out: &mut impl Write, r: &Report) -> std::io::Result<()> {
    let mut row = |name: &str, value: String| writeln!(out, "  {name:<13} {value}");
    let verdict = match r.verified {
        true => "every byte verified, nothing left behind".to_owned(),
        false => format!("FAILED: {} bytes wrong, {} problems", count(r.bytes_wrong), r.problems.len()),
    };
    row("result", verdict)?;
    let (connections, shards) = (count(r.connections.into()), r.shards);
    row("connections", format!("{connections} offloaded at the same time, {} tags each, on {shards} shards", r.depth))?;
    let c = &r.commands;
    row(
        "commands",
        format!("{} to set them up, {:.1} each; {} in all", count(c.total), c.per_connection, count(r.commands_in_all)),
    )?;
    row("  in flight", format!("{:.1} on average, {} at most", c.in_flight, c.most_in_flight))?;
    row(
        "set up in",
        format!(
            "{} of simulated time; one command after the other would take {}",
            seconds(r.set_up_us),
            seconds(c.serial_us)
        ),
    )?;
    if let Some(what) = &r.recovery {
        row(
            "recovered",
            format!(
                "from {} in {}: {} reads had ended well, {} failed, of which {} had their buffers back after the reset",
                what.fault,
                seconds(what.recovered_us),
                count(what.reads),
                count(what.failed),
                count(what.quarantined)
            ),
        )?;
        row("", "then everything anew, as above and below".to_owned())?;
    }
    row("closed in", seconds(r.close_us))?;
    let placed = share(r.bytes_placed, r.bytes);
    let busy =
        if r.busy == 0 { String::new() } else { format!(", {} for want of room in a control ring not", count(r.busy)) };
    row(
        "read",
        format!(
            "{} in {} reads on all, in {}; {placed} placed by the NIC{busy}",
            bytes(r.bytes),
            count(r.reads),
            seconds(r.read_us)
        ),
    )?;
    let m = &r.memory;
    let size = |n: f64| bytes(n.max(0.0) as u64);
    match (m.total, m.heap) {
        (Some(total), Some(heap)) => {
            row("memory", format!("{} for each connection in the driver, destination buffers left out:", size(total)))?;
            let used = m.heap_used.map_or_else(String::new, |used| format!(" ({} after the reads)", size(used)));
            row("", format!("{:>10}  heap{used}", size(heap)))?;
        }
        _ => row("memory", "for each connection in the driver, heap not counted:".to_owned())?,
    }
    row("", format!("{:>10}  DMA: control ring, completions, doorbell records", size(m.dma)))?;
    row("", format!("{:>10}  DMA: share of the receive buffers", size(m.receive_buffers)))?;
    row("", format!("{:>10}  resident memory of the process: model and targets included", size(m.resident)))?;
    let objects: Vec<_> = r.objects.iter().map(|(kind, n)| format!("{} {kind}", count(*n as u64))).collect();
    row("objects", objects.join(", "))?;
    row("left", format!("{} objects, {} pages", r.objects_left, r.pages_left))?;
    row("time", format!("{:.2} s", r.elapsed_s))
}
