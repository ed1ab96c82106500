//! Every number that there is, as a table: what `cxddp stats --list` prints and `docs/stats.md` holds.

use super::counter::Kind;
use super::openmetrics::metric_name;
use super::snapshot::{Group, Scope, Snapshot};
use std::fmt::Write;

/// Markdown: a section for each place and set, a row for each family, a row for each reason of a family that has some.
pub fn reference() -> String {
    let mut out = String::new();
    let mut place = None;
    Snapshot::empty().walk(&mut |node, group, set| {
        let scope = node.scope();
        if place != Some(scope) {
            place = Some(scope);
            let path = match scope {
                Scope::Function => "`function`",
                Scope::Session => "`sessions[]`",
                Scope::Shard => "`shards[]`",
                Scope::Connection => "`shards[].connections[]`",
            };
            _ = writeln!(out, "## Of a {} ({path})\n", scope.name());
        }
        _ = writeln!(out, "### `{}`: {}\n", group.name(), group.title(scope));
        if scope == Scope::Connection && group != Group::State {
            _ = writeln!(out, "As of a shard; metrics are called `cxddp_connection_…`.\n");
            return;
        }
        out.push_str("| name | unit | metric | meaning |\n|---|---|---|---|\n");
        let mut last = None;
        set.read(&mut |reading| {
            let family = reading.family;
            if last != Some(family.name) {
                last = Some(family.name);
                let metric = metric_name(scope, group, family);
                let suffix = if family.kind == Kind::Counter { "_total" } else { "" };
                let (name, unit) = (family.name, family.unit.name());
                let by = family.by.map_or(String::new(), |by| format!(" By {by}:"));
                _ = writeln!(out, "| `{name}` | {unit} | `{metric}{suffix}` | {}{by} |", family.help());
            }
            if let Some((reason, what)) = reading.reason {
                _ = writeln!(out, "| `{}.{reason}` | | | {what} |", family.name);
            }
        });
        out.push('\n');
    });
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}
