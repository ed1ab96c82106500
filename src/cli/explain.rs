//! `cxddp explain`: why software copied what it copied, queue by queue and reason by reason, or for one read.

use super::demo::{carry_out, config};
use super::options::ExplainArgs;
use super::text::{bytes, count, counted, share, wrap};
use connectx_ddp::ddp::why::Why;
use connectx_ddp::demo::{Config, CopiedFor, Outcome, QueueOutcome, ReadOutcome};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Result, Write};
use std::process::ExitCode;

/// Columns of the lines that are wrapped.
const WIDTH: usize = 110;

/// Runs the demonstration and explains it.
pub fn run(args: &ExplainArgs) -> ExitCode {
    let config = Config { ask: args.read, ..config(&args.demo) };
    carry_out("explain", &config, &args.demo, None, |out, outcome, watch| {
        match (args.demo.json, args.read) {
            (true, _) => {
                let mut object = super::json::of("explain", &as_json(outcome))?;
                watch.add_events(&mut object);
                return writeln!(out, "{object}");
            }
            (false, None) => explain(out, &config, outcome)?,
            (false, Some(read)) => match &outcome.read {
                Some(read) => explain_read(out, &config, outcome, read)?,
                None => writeln!(out, "read {read} was not done: see what stopped the run")?,
            },
        }
        watch.write_events(out)
    })
}

/// The reasons that tables mention, from the most bytes down.
fn by_bytes(copied: &BTreeMap<&'static str, CopiedFor>) -> Vec<(Why, CopiedFor)> {
    let mut rows: Vec<_> = Why::ALL.into_iter().filter_map(|why| Some((why, *copied.get(why.name())?))).collect();
    rows.sort_by_key(|(_, copied)| std::cmp::Reverse((copied.bytes, copied.digests)));
    rows
}

fn as_json(outcome: &Outcome) -> Value {
    let mut mentioned: BTreeSet<_> = outcome.copied.keys().copied().collect();
    mentioned.extend(outcome.read.iter().flat_map(|read| &read.reasons).map(|row| row.reason));
    let told = Why::ALL.into_iter().filter(|why| mentioned.contains(why.name()));
    let reasons: Map<_, _> = told
        .map(|why| (why.name().to_owned(), json!({ "sentence": why.to_string(), "advice": why.advice() })))
        .collect();
    json!({
        "verified": outcome.verified,
        "completed": outcome.completed,
        "bytes": outcome.bytes,
        "bytes_placed": outcome.bytes_placed,
        "bytes_copied": outcome.bytes_copied,
        "threshold": outcome.threshold,
        "copied": outcome.copied,
        "queues": outcome.per_queue,
        "read": outcome.read,
        "reasons": reasons,
        "problems": outcome.problems,
    })
}

/// A sentence and what to do, under a name.
fn sentences(out: &mut impl Write, sentence: &str, advice: &str) -> Result<()> {
    writeln!(out, "{}", wrap(&capitalised(sentence), WIDTH, "      ", "      "))?;
    writeln!(out, "{}", wrap(&capitalised(advice), WIDTH, "    → ", "      "))
}

/// As a sentence stands alone.
fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

fn explain(out: &mut impl Write, config: &Config, o: &Outcome) -> Result<()> {
    let part = |n: u64| format!("{} ({})", bytes(n), share(n, o.bytes));
    let (read, placed, copied) = (bytes(o.bytes), part(o.bytes_placed), part(o.bytes_copied));
    writeln!(out, "{}, {read}: {placed} placed by the NIC, {copied} copied by software", counted(o.reads, "read"))?;
    let threshold = &o.threshold;
    if threshold.auto || threshold.bytes != 0 {
        let text = format!("offload threshold: {}, {}", bytes(threshold.bytes.into()), threshold.why);
        writeln!(out, "{}", wrap(&text, WIDTH, "", "  "))?;
    }
    for queue in &o.per_queue {
        writeln!(out)?;
        explain_queue(out, config, queue)?;
    }
    let mentioned = by_bytes(&o.copied);
    if mentioned.is_empty() {
        return writeln!(out, "\nSoftware copied nothing and computed no digest.");
    }
    writeln!(out, "\nwhat the reasons mean")?;
    for (why, _) in mentioned {
        writeln!(out, "  {}", why.name())?;
        sentences(out, &why.to_string(), why.advice())?;
    }
    Ok(())
}

fn explain_queue(out: &mut impl Write, config: &Config, q: &QueueOutcome) -> Result<()> {
    match (q.offloaded, q.reason) {
        (true, _) => writeln!(out, "queue {}: offloaded, {} bound", q.queue, counted(q.bound, "read"))?,
        (false, Some(reason)) => {
            writeln!(out, "queue {}: NOT offloaded: {reason}", q.queue)?;
            sentences(out, q.detail.as_deref().unwrap_or(reason), q.advice.unwrap_or("see the log"))?;
        }
        (false, None) => return writeln!(out, "queue {}: never came to work", q.queue),
    }
    let all = q.bytes_placed + q.bytes_copied;
    let mut classes = vec![];
    for (reads, class) in
        [(q.reads_placed, "placed whole"), (q.reads_in_part, "placed in part"), (q.reads_copied, "copied whole")]
    {
        if reads != 0 {
            classes.push(format!("{} {class}", count(reads)));
        }
    }
    writeln!(out, "  reads     {}", if classes.is_empty() { "none".to_owned() } else { classes.join(", ") })?;
    writeln!(out, "  placed    {:>10}  {:>8}", bytes(q.bytes_placed), share(q.bytes_placed, all))?;
    writeln!(out, "  copied    {:>10}  {:>8}", bytes(q.bytes_copied), share(q.bytes_copied, all))?;
    let rows = by_bytes(&q.copied);
    for (why, CopiedFor { reads, bytes: n, .. }) in rows.iter().filter(|(_, copied)| copied.bytes != 0) {
        let of = format!("in {}", counted(*reads, "read"));
        writeln!(out, "            {:>10}  {:>8}  {:<22} {of}", bytes(*n), share(*n, all), why.name())?;
    }
    if config.data_digest {
        writeln!(out, "  digests   {} checked by the NIC, {} by software", count(q.digests_hw), count(q.digests_sw))?;
    }
    for (why, CopiedFor { digests, .. }) in rows.iter().filter(|(_, copied)| copied.digests != 0) {
        writeln!(out, "            {:>10}            {}", count(*digests), why.name())?;
    }
    if q.resyncs != 0 {
        let (asked, confirmed) = (count(q.resyncs), count(q.resyncs_confirmed));
        writeln!(
            out,
            "  resync    the NIC lost the PDU framing and asked {asked} times, {confirmed} guesses were right"
        )?;
    }
    Ok(())
}

fn explain_read(out: &mut impl Write, config: &Config, o: &Outcome, read: &ReadOutcome) -> Result<()> {
    let all = u64::from(read.placed) + u64::from(read.copied);
    writeln!(out, "read {}: {} at byte {}, over queue {}", read.read, bytes(all), count(read.offset), read.queue)?;
    if read.status != connectx_ddp::nvme::Status::SUCCESS.to_string() {
        writeln!(out, "  status    {}", read.status)?;
    }
    let why = |name: &str| Why::ALL.into_iter().find(|why| why.name() == name);
    let unbound = read.reasons.iter().filter_map(|row| why(row.reason)).find(|why| why.is_unbound());
    let binding = match unbound {
        Some(_) => "no: the NIC was never told of the buffer",
        None => "yes: the NIC could place into the buffer before the command was sent",
    };
    writeln!(out, "  bound     {binding}")?;
    let part = |n: u32| format!("{:>10}  {:>8}", bytes(n.into()), share(n.into(), all));
    writeln!(out, "  placed    {}  by the NIC", part(read.placed))?;
    writeln!(out, "  copied    {}  by software", part(read.copied))?;
    for row in &read.reasons {
        let n = row.bytes.map_or_else(|| format!("{:>20}", "some"), part);
        writeln!(out, "            {n}  {}", row.reason)?;
    }
    if config.data_digest {
        writeln!(out, "  digests   checked by {}", read.digests_by)?;
    }
    for why in read.reasons.iter().filter_map(|row| why(row.reason)) {
        writeln!(out, "\n  {}", why.name())?;
        sentences(out, &why.to_string(), why.advice())?;
        let queue = o.per_queue.iter().find(|queue| queue.queue == read.queue);
        if let (Why::QueueNotOffloaded, Some(QueueOutcome { reason: Some(reason), detail, advice, .. })) = (why, queue)
        {
            writeln!(out, "  {reason} (queue {})", read.queue)?;
            sentences(out, detail.as_deref().unwrap_or(reason), advice.unwrap_or("see the log"))?;
        }
    }
    Ok(())
}
