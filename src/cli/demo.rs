//! `cxddp demo`: the progress bar, the summary, and the JSON object.

use super::bar::Bar;
use super::options::{DemoArgs, PeerChoice, Towards};
use super::text::{bytes, count, share};
use super::watch::{Interval, Watch};
use connectx_ddp::demo::{self, Config, Impairments, Outcome, Peer, WireConfig};
use connectx_ddp::tcp::CongestionControl;
use connectx_ddp::transfer::Progress;
use nvme_target::{Script, Segmentation};
use std::io::{IsTerminal, StdoutLock, Write};
use std::process::ExitCode;
use std::time::Duration;

/// What the options ask for.
pub fn config(args: &DemoArgs) -> Config {
    let segmentation = match (args.align_pdus, args.segment) {
        (true, _) => Segmentation::AlignPdus,
        (_, true) => Segmentation::Random { min: 1, max: 1460 },
        _ => Segmentation::Full,
    };
    let bad = Impairments {
        loss: args.loss / 100.0,
        burst: args.burst,
        reorder: args.reorder / 100.0,
        distance: args.reorder_distance,
        duplicate: args.duplicate / 100.0,
        corrupt: args.corrupt / 100.0,
        delay: Duration::from_micros(args.delay),
    };
    let lane = |suffers: bool| if suffers { bad } else { Impairments::default() };
    Config {
        image: args.image.clone(),
        size: args.size,
        io_size: args.io_size,
        queue_size: args.queue_size,
        queues: args.queues,
        hdr_digest: args.hdr_digest,
        data_digest: args.data_digest,
        mtu: args.mtu,
        offload: args.offload.into(),
        threshold: args.offload_threshold,
        write: args.write,
        pcap: args.pcap.clone(),
        seed: args.seed,
        peer: match args.peer {
            PeerChoice::Smoltcp => Peer::Smoltcp,
            PeerChoice::Own => Peer::Own(CongestionControl::default()),
        },
        script: Script { segmentation, seed: args.seed, ..Script::default() },
        wire: WireConfig {
            to_target: lane(args.towards != Towards::Host),
            to_host: lane(args.towards != Towards::Target),
            seed: args.seed,
        },
        pieces: 1,
        inject: args.inject.clone(),
        ask: None,
    }
}

fn show(bar: &mut Bar, progress: Progress) {
    bar.show(progress.writing, progress.done, progress.total);
    if !progress.writing {
        bar.show_placed(|| share(progress.placed, progress.done));
    }
}

/// Runs the demonstration and tells what came of it.
pub fn run(args: &DemoArgs) -> ExitCode {
    let config = config(args);
    carry_out("demo", &config, args, None, |out, outcome, watch| match args.json {
        true => {
            let mut object = super::json::of("demo", outcome)?;
            watch.add_events(&mut object);
            writeln!(out, "{object}")
        }
        false => {
            // Half a summary would look like a whole one.
            if outcome.completed {
                summary(out, &config, outcome)?;
            }
            watch.write_events(out)
        }
    })
}

/// Runs a demonstration for the subcommand `name`, lets `tell` say what came of it, and lists what went wrong. `interval`:
/// what is done with the driver's numbers now and then.
pub fn carry_out(
    name: &str,
    config: &Config,
    args: &DemoArgs,
    interval: Option<Interval>,
    tell: impl FnOnce(&mut StdoutLock<'_>, &Outcome, &Watch) -> std::io::Result<()>,
) -> ExitCode {
    let visible = !args.json && interval.is_none() && std::io::stderr().is_terminal();
    let mut watch = match Watch::new(args, interval) {
        Ok(watch) => watch,
        Err(error) => {
            eprintln!("cxddp {name}: {error}");
            return ExitCode::from(2);
        }
    };
    let mut bar = Bar::new(visible);
    let outcome = demo::run_watched(config, &mut watch, &mut |progress| show(&mut bar, progress));
    bar.clear();
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("cxddp {name}: {error}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = tell(&mut std::io::stdout().lock(), &outcome, &watch) {
        eprintln!("cxddp {name}: cannot write the result: {error}");
        return ExitCode::from(2);
    }
    for problem in &outcome.problems {
        eprintln!("cxddp {name}: {problem}");
    }
    watch.into_serving().linger(name, &args.serve);
    if outcome.verified { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn summary(out: &mut impl Write, config: &Config, o: &Outcome) -> std::io::Result<()> {
    let verdict = match o.verified {
        true => "every byte verified, nothing left behind".to_owned(),
        false => format!("FAILED: {} bytes wrong, {} requests failed", count(o.bytes_wrong), count(o.failed)),
    };
    let rate = if o.read_s > 0.0 { format!("{}/s", bytes((o.bytes as f64 / o.read_s) as u64)) } else { "-".into() };
    let part = |n: u64, whom: &str| format!("{:>10}  {:>8}  {whom}", bytes(n), share(n, o.bytes));
    let mut row = |name: &str, value: String| writeln!(out, "  {name:<13} {value}");
    row("result", verdict)?;
    if o.writes > 0 {
        row("written", format!("{:>10}            in {} writes", bytes(o.bytes_written), count(o.writes)))?;
    }
    row(
        "read",
        format!("{:>10}            in {} reads, {rate} (the model's work included)", bytes(o.bytes), count(o.reads)),
    )?;
    row("  placed", part(o.bytes_placed, "by the NIC, into the reader's buffer"))?;
    row("  copied", part(o.bytes_copied, "by software"))?;
    for (reason, copied) in o.copied.iter().filter(|(_, copied)| copied.bytes != 0) {
        row("", format!("{:>10}  {:>8}  {reason}", bytes(copied.bytes), share(copied.bytes, o.bytes)))?;
    }
    let digests = match (o.digests_hw, o.digests_sw) {
        (0, 0) if config.data_digest => "none".to_owned(),
        (0, 0) => "not negotiated (--data-digest)".to_owned(),
        (hw, sw) => format!("{} checked by the NIC, {} by software", count(hw), count(sw)),
    };
    row("data digests", digests)?;
    let (rx, placed, tx) = (count(o.packets_rx), count(o.packets_placed), count(o.packets_tx));
    row("packets", format!("{rx} received, {placed} of them with placed payload; {tx} sent"))?;
    let wire = [
        (o.frames_lost, "lost"),
        (o.frames_reordered, "reordered"),
        (o.frames_duplicated, "duplicated"),
        (o.frames_corrupted, "corrupted"),
    ];
    if wire.iter().any(|(n, _)| *n != 0) {
        let text: Vec<_> =
            wire.iter().filter(|(n, _)| *n != 0).map(|(n, what)| format!("{} {what}", count(*n))).collect();
        row("wire", text.join(", "))?;
    }
    row("PDUs", format!("{} received, {} sent", count(o.pdus_rx), count(o.pdus_tx)))?;
    let requests = (o.reads + o.writes).max(1);
    row("doorbells", format!("{}, {:.2} per request", count(o.doorbells), o.doorbells as f64 / requests as f64))?;
    row(
        "firmware",
        format!("{} commands; left: {} objects, {} pages", count(o.commands), o.objects_left, o.pages_left),
    )?;
    row("I/O queues", format!("{} of {} offloaded", o.queues_offloaded, o.queues))?;
    if !o.injected.is_empty() {
        row("injected", o.injected.join(", "))?;
        for recovered in &o.recovered {
            let (ms, level) = (recovered.took_us as f64 / 1000.0, &recovered.level);
            row("  recovered", format!("{level} made anew in {ms:.3} ms of simulated time: {}", recovered.lost))?;
        }
        let again = o.resubmitted + o.writes_repeated;
        let kept = count(o.buffers_quarantined);
        row("  requests", format!("{} begun again; {kept} buffers waited for a reset", count(again)))?;
    }
    let threshold = &o.threshold;
    if threshold.auto || threshold.bytes != 0 {
        row("threshold", format!("{}, {}", bytes(threshold.bytes.into()), threshold.why))?;
    }
    for queue in &o.per_queue {
        if let (Some(reason), Some(detail)) = (queue.reason, &queue.detail) {
            row("", format!("queue {}: {reason}: {detail}", queue.queue))?;
        }
    }
    for (n, (name, value)) in o.counters.iter().enumerate() {
        row(if n == 0 { "counters" } else { "" }, format!("{name:<28} {:>14}", count(*value)))?;
    }
    row("time", format!("{:.2} s, peak memory {}", o.elapsed_s, bytes(o.peak_rss_bytes)))
}
