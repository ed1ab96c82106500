//! A snapshot as OpenMetrics text, version 1.0.0, which Prometheus and others read.
//!
//! | here | there |
//! |---|---|
//! | a family of numbers | a metric family `cxddp_<scope>_<group>_<name>`, of type counter or gauge, with HELP |
//! | bytes, nanoseconds | UNIT `bytes`, `seconds`, and a name that ends with it, as the format wants; counts have no unit |
//! | session, shard, connection, reason | labels `session`, `shard`, `connection` (the serial of [`ConnectionStats`]), `reason` |
//! | what a connection is | an info metric, `cxddp_connection_info` |
//! | when it was counted | a gauge, `cxddp_clock_seconds`: one that stands still is of a driver that has ended or hangs |
//! | the seed's and the kernel's names | families of just these names for shards, `-` written as `_` |
//!
//! A family that exists for shards is a sum over connections, so those of connections have names of their own: adding up
//! never counts anything twice.

use super::counter::{Family, Kind, Reading, Unit};
use super::snapshot::{ConnectionStats, Group, Node, Scope, Snapshot};
use std::collections::BTreeMap;
use std::fmt::Write;

/// MIME type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The function and its shards.
    Shards,
    /// Their connections as well: some 250 lines for each.
    Connections,
}

/// Name of the metric family of a number; a counter's samples have `_total` after it.
pub fn metric_name(scope: Scope, group: Group, family: &Family) -> String {
    let known = matches!(group, Group::Seed | Group::Kernel);
    let mut name = match (scope, known) {
        (Scope::Shard, true) => String::new(),
        (_, true) => format!("cxddp_{}_", scope.name()),
        _ => format!("cxddp_{}_{}_", scope.name(), group.name()),
    };
    match family.unit {
        // "If non-empty, unit MUST be a suffix of the MetricFamily name separated by an underscore".
        Unit::Bytes | Unit::Nanoseconds => {
            let words = family.name.split(['_', '-']).filter(|word| !matches!(*word, "bytes" | "ns"));
            words.for_each(|word| {
                name.push_str(word);
                name.push('_');
            });
            name.push_str(base_unit(family).unwrap_or_default());
        }
        _ => name.push_str(&family.name.replace('-', "_")),
    }
    name
}

/// The unit of a family, for those that have one of the specification's.
fn base_unit(family: &Family) -> Option<&'static str> {
    match family.unit {
        Unit::Bytes => Some("bytes"),
        Unit::Nanoseconds => Some("seconds"),
        _ => None,
    }
}

struct Samples {
    family: Family,
    lines: String,
}

/// The text. With [`Detail::Connections`] it grows with their number.
pub fn render(snapshot: &Snapshot, detail: Detail) -> String {
    let mut families: BTreeMap<String, Samples> = BTreeMap::new();
    let mut info = String::new();
    snapshot.walk(&mut |node, group, set| {
        if node.scope() == Scope::Connection && detail == Detail::Shards {
            return;
        }
        if let (Node::Connection(shard, connection), Group::State) = (node, group) {
            write_info(&mut info, shard, connection);
        }
        set.read(&mut |reading| {
            let name = metric_name(node.scope(), group, reading.family);
            let samples =
                families.entry(name).or_insert_with_key(|_| Samples { family: *reading.family, lines: String::new() });
            samples.lines.push('\n');
            write_labels(&mut samples.lines, node, &reading);
        });
    });
    let mut out = String::new();
    write_header(&mut out, "cxddp_build", "info", None, "Version of the driver.");
    _ = writeln!(out, "cxddp_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    write_header(&mut out, "cxddp_function", "info", None, "Which function, and its firmware.");
    out.push_str("cxddp_function_info{address=\"");
    escape(&mut out, &snapshot.function.address);
    out.push_str("\",firmware=\"");
    escape(&mut out, &snapshot.function.firmware);
    out.push_str("\"} 1\n");
    write_header(
        &mut out,
        "cxddp_clock_seconds",
        "gauge",
        Some("seconds"),
        "The platform's clock when this was counted.",
    );
    _ = writeln!(out, "cxddp_clock_seconds {}.{:09}", snapshot.at.as_secs(), snapshot.at.subsec_nanos());
    if !info.is_empty() {
        write_header(&mut out, "cxddp_connection", "info", None, "What a connection is.");
        out.push_str(&info);
    }
    for (name, Samples { family, lines }) in &families {
        let (kind, suffix) = match family.kind {
            Kind::Counter => ("counter", "_total"),
            Kind::Gauge => ("gauge", ""),
        };
        write_header(&mut out, name, kind, base_unit(family), family.help());
        for labels in lines.lines().skip(1) {
            _ = writeln!(out, "{name}{suffix}{labels}");
        }
    }
    out.push_str("# EOF\n");
    out
}

fn write_header(out: &mut String, name: &str, kind: &str, unit: Option<&str>, help: &str) {
    _ = writeln!(out, "# TYPE {name} {kind}");
    if let Some(unit) = unit {
        _ = writeln!(out, "# UNIT {name} {unit}");
    }
    _ = write!(out, "# HELP {name} ");
    escape(out, help);
    out.push('\n');
}

/// Labels and value of a sample, as they follow its name.
fn write_labels(out: &mut String, node: Node<'_>, reading: &Reading<'_>) {
    let mut labels = match node {
        Node::Function(_) => String::new(),
        Node::Session(session) => format!("session=\"{}\"", session.session),
        Node::Shard(shard) => format!("shard=\"{}\"", shard.shard),
        Node::Connection(shard, connection) => {
            format!("shard=\"{shard}\",connection=\"{}\"", connection.connection)
        }
    };
    if let (Some((reason, _)), Some(label)) = (reading.reason, reading.family.by) {
        if !labels.is_empty() {
            labels.push(',');
        }
        _ = write!(labels, "{label}=\"");
        escape(&mut labels, reason);
        labels.push('"');
    }
    if !labels.is_empty() {
        _ = write!(out, "{{{labels}}}");
    }
    let (value, billion) = (reading.value, 1_000_000_000);
    _ = match reading.family.unit {
        Unit::Nanoseconds => write!(out, " {}.{:09}", value / billion, value % billion),
        _ => write!(out, " {value}"),
    };
}

fn write_info(out: &mut String, shard: u32, connection: &ConnectionStats) {
    let ConnectionStats { connection: serial, role, local, remote, state, offload_queue, .. } = connection;
    let offload = offload_queue.map_or(String::new(), |queue| queue.to_string());
    _ = writeln!(
        out,
        "cxddp_connection_info{{shard=\"{shard}\",connection=\"{serial}\",role=\"{role}\",local=\"{local}\",\
         remote=\"{remote}\",state=\"{state}\",offload_queue=\"{offload}\"}} 1"
    );
}

/// Text of a label value or a HELP line.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}
