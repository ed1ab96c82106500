//! A snapshot for people.

use super::counter::Reading;
use super::snapshot::{Node, Scope, Snapshot};
use std::fmt::Write;

/// Whether numbers that are 0 are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeros {
    /// They are.
    Shown,
    /// Only those of a shard under the names that people know, and of what there is at the moment; a set without anything
    /// else is left out.
    Hidden,
}

/// The text: a heading for each place of the tree, the name of each set, and a line for each number.
pub fn render(snapshot: &Snapshot, zeros: Zeros) -> String {
    let mut out = String::new();
    let mut place = None;
    snapshot.walk(&mut |node, group, set| {
        use super::snapshot::Group::{Kernel, Seed, State};
        let here = key(node);
        if place != Some(here) {
            place = Some(here);
            heading(&mut out, snapshot, node);
        }
        let indent = if matches!(node, Node::Connection(..)) { "    " } else { "  " };
        let known = matches!(group, Seed | Kernel | State) && node.scope() != Scope::Connection;
        let all = zeros == Zeros::Shown || known;
        let mut lines = String::new();
        set.read(&mut |reading| {
            if all || reading.value != 0 {
                line(&mut lines, indent, &reading);
            }
        });
        if !lines.is_empty() {
            _ = writeln!(out, "{indent}{}", group.title(node.scope()));
            out.push_str(&lines);
        }
    });
    out
}

fn key(node: Node<'_>) -> (u32, u32, u32) {
    match node {
        Node::Function(_) => (0, 0, 0),
        Node::Session(session) => (1, session.session, 0),
        Node::Shard(shard) => (2, shard.shard, 0),
        Node::Connection(shard, connection) => (3, shard, connection.connection),
    }
}

fn heading(out: &mut String, snapshot: &Snapshot, node: Node<'_>) {
    _ = match node {
        Node::Function(function) => {
            let at = snapshot.at.as_secs_f64();
            writeln!(out, "function {}, firmware {}, at {at:.6} s", function.address, function.firmware)
        }
        Node::Session(session) => writeln!(out, "session {}: {}", session.session, session.phase),
        Node::Shard(shard) => writeln!(out, "shard {}", shard.shard),
        Node::Connection(_, connection) => {
            let c = connection;
            let offload = c.offload_queue.map_or("not offloaded".into(), |queue| format!("offload queue {queue}"));
            let (number, role, local, remote, state) = (c.connection, c.role, c.local, c.remote, c.state);
            writeln!(out, "  connection {number}: {role}, {local} to {remote}, {state}, {offload}")
        }
    };
}

fn line(out: &mut String, indent: &str, reading: &Reading<'_>) {
    let family = reading.family;
    let name = match reading.reason {
        Some((reason, _)) => format!("{} {reason}", family.name),
        None => family.name.to_owned(),
    };
    let width = 46 - indent.len();
    _ = writeln!(out, "{indent}  {name:<width$} {:>20} {}", reading.value, family.unit.name());
}
