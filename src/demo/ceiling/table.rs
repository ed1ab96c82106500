//! The tables of `docs/loss.md`.

use super::grid::{CUBIC_NOTE, DISTANCES, LOSSES, MTUS, REORDERINGS, RULES, Row, SIZES, START, STOP_START};
use super::measure::{CONFIRM, ROUND_TRIP, Sender};
use super::model::{Disorder, Runs, Search};
use super::published;
use super::resync::{BOUNDS, Summary};
use std::fmt::Write;
use virtual_nic::offload::Bypass;

/// Points (percent) between measurement and ceiling that need no explanation.
const NEAR: f64 = 2.0;

fn percent(share: f64) -> f64 {
    share * 100.0
}

/// Everything that was measured, as Markdown.
pub fn markdown(rows: &[Row], cubic: &[Row], seed: u64) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut out, rows, cubic, seed);
    out
}

fn write(out: &mut String, rows: &[Row], cubic: &[Row], seed: u64) -> std::fmt::Result {
    let packets: u64 = rows.iter().chain(cubic).map(|row| row.measured.packets).sum();
    // Where headers are found at the start of packets only, a few long searches decide.
    let worst = |searches: bool, of: fn(&Row) -> f64| {
        let some = rows.iter().filter(|row| matches!(row.point.rules, START | STOP_START) == searches);
        percent(some.map(of).fold(0.0, f64::max))
    };
    let errors = [false, true].map(|searches| {
        (worst(searches, |row| row.measured.placed.error), worst(searches, |row| row.measured.digests.error))
    });
    writeln!(out, "# Placement and digests under loss\n")?;
    writeln!(
        out,
        "Written by `cargo run --release -- ceiling --write docs`, seed {seed}: {} points, {:.0} million packets of payload,\n\
         every byte compared. The plot is [loss.svg](loss.svg).\n",
        rows.len() + cubic.len(),
        packets as f64 / 1e6
    )?;
    writeln!(
        out,
        "Driver, virtual NIC and the target's NVMe/TCP are the real ones of this workspace; the target's TCP is the driver's own,\n\
         with a window of {} segments that losses do not change, so that the stream keeps moving and a round trip is the\n\
         {ROUND_TRIP} packets of the published ceilings (`performance.md` §2.6). Driver and target get their turn every 1 to {} packets, so\n\
         that a header is confirmed {CONFIRM} packets after it is known, in the mean. Losses are independent of each other, on the way to the\n\
         host. Data digests are on. One connection, reads of 512 KiB, eight at a time, cut into C2HData PDUs of the size given.\n",
        super::measure::WINDOW,
        super::measure::PAUSE,
    )?;
    writeln!(
        out,
        "Each cell: **measured** (ceiling), percent. *Placed*: payload bytes that the NIC wrote where they belong; *digests*: data\n\
         digests that software did not compute. The ceiling is a model of its own (`src/demo/ceiling/model.rs`): packets and rules,\n\
         nothing of TCP, device and driver. It is told what is known of device and driver: a completion has room for one run of its\n\
         packet (so small PDUs lose what the second PDU in a packet has, also without loss); the first digest flag after a resync\n\
         is not believed; the driver confirms a header as soon as the length of the PDU before it says that it is there.\n\
         Standard errors, from the spread between batches of reads, are at most {:.1} points for bytes and {:.1} for digests; where\n\
         headers are found at the start of packets only (rules 4 and 5) at most {:.1} and {:.1}, because a few searches of up to\n\
         100 000 packets decide.\n",
        errors[0].0, errors[0].1, errors[1].0, errors[1].1
    )?;
    beside_published(out, rows)?;
    for (number, (rules, name)) in RULES.iter().enumerate() {
        let of: Vec<_> = rows.iter().filter(|row| row.point.rules == *rules).collect();
        if of.is_empty() {
            continue;
        }
        writeln!(out, "## Rules {}: {name}\n", number + 1)?;
        for (what, value) in KINDS {
            for (disorder, columns) in [("lost", true), ("reordered, by 3 and by 64 packets", false)] {
                writeln!(out, "{what}, by share of packets {disorder}:\n")?;
                matrix(out, &of, columns, value)?;
            }
        }
    }
    exceptions(out, rows)?;
    real_sender(out, cubic)?;
    resync(out, rows)
}

type Cell = fn(&Row) -> (f64, f64);
const KINDS: [(&str, Cell); 2] = [
    ("Placed", |row| (row.measured.placed.value, row.ceiling.placed)),
    ("Digests", |row| (row.measured.digests.value, row.ceiling.digests)),
];

fn is_loss(row: &Row) -> bool {
    matches!(row.point.disorder, Disorder::Loss(_))
}

fn matrix(out: &mut String, rows: &[&Row], loss: bool, value: Cell) -> std::fmt::Result {
    let heads: Vec<String> = match loss {
        true => LOSSES.iter().map(|share| format!("{share} %")).collect(),
        false => {
            DISTANCES.iter().flat_map(|distance| REORDERINGS.map(|share| format!("{share} % by {distance}"))).collect()
        }
    };
    writeln!(out, "| MTU | PDU | {} |", heads.join(" | "))?;
    writeln!(out, "|---|---|{}", "---|".repeat(heads.len()))?;
    for mtu in MTUS {
        for size in SIZES {
            let cells = rows
                .iter()
                .filter(|row| row.point.mtu == mtu && row.point.payload == size << 10 && is_loss(row) == loss)
                .map(|row| {
                    let (measured, ceiling) = value(row);
                    format!("**{:.1}** ({:.1})", percent(measured), percent(ceiling))
                });
            let cells: Vec<_> = cells.collect();
            if !cells.is_empty() {
                writeln!(out, "| {mtu} | {size}K | {} |", cells.join(" | "))?;
            }
        }
    }
    writeln!(out)
}

fn describe(disorder: Disorder) -> String {
    match disorder {
        Disorder::Loss(share) => format!("{:.1} % lost", percent(share)),
        Disorder::Reorder { share, distance } => format!("{:.1} % reordered by {distance}", percent(share)),
    }
}

/// The points that were published.
fn beside_published(out: &mut String, rows: &[Row]) -> std::fmt::Result {
    writeln!(out, "## Beside the published ceilings\n")?;
    writeln!(
        out,
        "What was published counts all runs of a packet, so *all runs* adds what the NIC left in the ring for want of room in the\n\
         completion. The published numbers follow from the model only if a search looks at late packets too, so that a lost header is\n\
         found when it comes again; the virtual NIC has a switch for that, which is on here where headers are recognised anywhere.\n\
         *Model* is ours with the published rules. Where bytes differ by more than two points, the last column says why.\n"
    )?;
    writeln!(
        out,
        "| MTU | PDU | | placed, all runs | published | model | difference | digests | published | model | difference | why |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|---|---|---|")?;
    for row in rows {
        let Some(known) = published::of(&row.point) else { continue };
        if row.point.rules == super::grid::DEFAULT {
            continue;
        }
        let all = percent(row.measured.placed.value + row.measured.other_runs);
        let (error, digests) = (percent(row.measured.placed.error), percent(row.measured.digests.value));
        write!(out, "| {} | {}K | {} ", row.point.mtu, row.point.payload >> 10, describe(row.point.disorder))?;
        if row.point.rules == super::grid::STOP {
            write!(out, "(stop) ")?;
        } else if row.point.rules == START {
            write!(out, "(start of packet) ")?;
        }
        write!(
            out,
            "| {all:.1} ± {error:.1} | {:.1} | {:.1} | {:+.1} ",
            known.placed,
            percent(row.published_model.placed),
            all - known.placed
        )?;
        match known.digests {
            Some(published) => write!(
                out,
                "| {digests:.1} ± {:.1} | {published:.1} | {:.1} | {:+.1} |",
                percent(row.measured.digests.error),
                percent(row.published_model.digests),
                digests - published
            )?,
            None => write!(out, "| {digests:.1} | | | |")?,
        }
        writeln!(out, " {} |", why_not_published(row, all, known.placed))?;
    }
    writeln!(out)
}

/// Why a measurement differs from what was published.
fn why_not_published(row: &Row, all: f64, published: f64) -> String {
    if (all - published).abs() <= NEAR {
        return String::new();
    }
    let episodes = row.measured.episodes.len();
    if row.point.rules.search == Search::StartOfPacket && episodes < 60 {
        return format!("{episodes} searches came to their end: no sample, here or there");
    }
    let ours = percent(row.as_measured(Runs::All).placed);
    let moving = if times_sent(row) > 1.5 { "; the TCP takes what is overtaken for lost" } else { "" };
    format!("confirmed by length; with that, delays and turns as they were, the model gives {ours:.1}{moving}")
}

/// A cell beyond what counts as near, and why.
pub struct Exception {
    /// What it is about.
    pub what: String,
    /// Why, as far as it was measured.
    pub reason: String,
    /// True if nothing explains it.
    pub unexplained: bool,
}

/// The cells that differ from their ceilings by more than two points.
pub fn find_exceptions(rows: &[Row]) -> Vec<Exception> {
    let mut found = Vec::new();
    for row in rows {
        let measured = [row.measured.placed, row.measured.digests];
        let ceilings = [row.ceiling.placed, row.ceiling.digests];
        for (i, kind) in ["placed", "digests"].into_iter().enumerate() {
            let difference = percent(measured[i].value - ceilings[i]);
            if difference.abs() <= NEAR {
                continue;
            }
            let error = percent(measured[i].error);
            let name = RULES.iter().position(|(rules, _)| *rules == row.point.rules).map_or(0, |at| at + 1);
            let what = format!(
                "rules {name}, MTU {}, {}K, {}: {kind} {:.1} ± {error:.1}, ceiling {:.1} ({difference:+.1})",
                row.point.mtu,
                row.point.payload >> 10,
                describe(row.point.disorder),
                percent(measured[i].value),
                percent(ceilings[i])
            );
            let again = row.as_measured(Runs::First);
            let at_measured = percent([again.placed, again.digests][i]);
            let episodes = row.measured.episodes.len();
            let chance = 3.0 * error * row.error_factor();
            // Few long searches are no sample: their spread tells less than their number does.
            let (reason, unexplained) = if difference.abs() <= chance {
                (format!("within three standard errors ({episodes} episodes without framing)"), false)
            } else if episodes < 60 && row.point.rules.search == Search::StartOfPacket {
                (
                    format!(
                        "{episodes} episodes without framing came to their end, each of thousands of packets: no sample"
                    ),
                    false,
                )
            } else if (percent(measured[i].value) - at_measured).abs() <= NEAR.max(chance) {
                (as_measured(row, at_measured), false)
            } else if times_sent(row) > 1.5 {
                (
                    format!(
                        "the TCP does not keep the stream moving: it takes what is overtaken for lost; {}",
                        as_measured(row, at_measured)
                    ),
                    false,
                )
            } else {
                (format!("not explained; {}", as_measured(row, at_measured)), true)
            };
            found.push(Exception { what, reason, unexplained });
        }
    }
    found
}

/// How often what was missing came.
fn times_sent(row: &Row) -> f64 {
    let m = &row.measured;
    m.bypassed(Bypass::Early) as f64 / (m.packets as f64 * m.late / (1.0 - m.late)).max(1.0)
}

fn as_measured(row: &Row, ceiling: f64) -> String {
    let (m, early) = (&row.measured, times_sent(row));
    format!(
        "what was missing came after {} packets in the median, and {early:.1} times; with delays and turns as they were the ceiling is {ceiling:.1}",
        m.round_trip
    )
}

fn exceptions(out: &mut String, rows: &[Row]) -> std::fmt::Result {
    let all = find_exceptions(rows);
    writeln!(out, "## More than two points from the ceiling\n")?;
    writeln!(out, "Of {} numbers {} are; rules are numbered in the order above.\n", 2 * rows.len(), all.len())?;
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out, "| number | reason |\n|---|---|")?;
    for Exception { what, reason, .. } in all {
        writeln!(out, "| {what} | {reason} |")?;
    }
    writeln!(out)
}

fn real_sender(out: &mut String, cubic: &[Row]) -> std::fmt::Result {
    if cubic.is_empty() {
        return Ok(());
    }
    debug_assert!(cubic.iter().all(|row| row.point.sender == Sender::Cubic));
    writeln!(out, "## With congestion control\n")?;
    writeln!(out, "{CUBIC_NOTE}\n")?;
    writeln!(
        out,
        "| PDU | lost | round trip, packets | idle | placed | ceiling at that round trip | at {ROUND_TRIP} packets, published rules | digests | ceiling |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|")?;
    for row in cubic {
        let Disorder::Loss(share) = row.point.disorder else { continue };
        let m = &row.measured;
        let known = published::of(&row.point).map_or_else(String::new, |known| format!("{:.1}", known.placed));
        writeln!(
            out,
            "| {}K | {:.1} % | {} | {:.0} % | {:.1} ± {:.1} | {:.1} | {known} | {:.1} ± {:.1} | {:.1} |",
            row.point.payload >> 10,
            percent(share),
            m.round_trip,
            percent(m.idle.as_secs_f64() / m.time.as_secs_f64().max(1e-9)),
            percent(m.placed.value),
            percent(m.placed.error),
            percent(row.ceiling.placed),
            percent(m.digests.value),
            percent(m.digests.error),
            percent(row.ceiling.digests),
        )?;
    }
    writeln!(out)
}

fn resync(out: &mut String, rows: &[Row]) -> std::fmt::Result {
    writeln!(out, "## Resync\n")?;
    writeln!(
        out,
        "Packets with payload, from the one that reveals that a header is missing to the first of which a byte is placed again, both counted.\n\
         What has to pass: a round trip until the header comes again (or the rest of a PDU until the next is found, if that is more), the\n\
         confirmation, and the rest of the PDU at hand.\n"
    )?;
    let all = Summary::of(rows.iter().map(|row| &row.measured));
    let framed = rows.iter().map(|row| row.measured.device.guesses_dropped).sum::<u64>();
    writeln!(
        out,
        "All points: {} episodes, {} requests, at most one outstanding at a time ({} were made while another was; a guess that another lost\n\
         header makes worthless is dropped and makes room for the next: {framed} were, up to {} requests in an episode). Requests not\n\
         confirmed by the end of the poll that was given their header: {}.\n",
        all.packets.len(),
        all.requests,
        all.overlapping,
        all.most_requests,
        all.late
    )?;
    let bounds = BOUNDS.map(|bound| if bound == u32::MAX { "more".to_owned() } else { format!("≤ {bound}") });
    writeln!(
        out,
        "| rules | MTU | PDU | episodes | min | median | p90 | p99 | max | requests | {} |",
        bounds.join(" | ")
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|---|{}", "---|".repeat(BOUNDS.len()))?;
    for (number, (rules, _)) in RULES.iter().enumerate() {
        for mtu in MTUS {
            for size in SIZES {
                let of = rows.iter().filter(|row| {
                    row.point.rules == *rules && row.point.mtu == mtu && row.point.payload == size << 10 && is_loss(row)
                });
                let s = Summary::of(of.map(|row| &row.measured));
                if s.packets.is_empty() {
                    continue;
                }
                let quantiles = [0.0, 0.5, 0.9, 0.99, 1.0].map(|share| s.packets.quantile(share).to_string());
                let histogram = s.packets.histogram().map(|n| n.to_string());
                writeln!(
                    out,
                    "| {} | {mtu} | {size}K | {} | {} | {} | {} |",
                    number + 1,
                    s.packets.len(),
                    quantiles.join(" | "),
                    s.requests,
                    histogram.join(" | ")
                )?;
            }
        }
    }
    writeln!(out, "\nAll loss rates together.")
}
