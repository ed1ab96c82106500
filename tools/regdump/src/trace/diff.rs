//! Two traces, step by step: what only one of them does, what both do, and in which fields they differ.

use super::align::{Step, TooLong, align};
use super::problem;
use crate::{json, meaning, text};
use cxddp_trace::{Difference, Exchange, Key, differences, first_difference, is_address};
use hw_regs::decode::Content;
use serde_json::{Value, json};
use std::fmt::Write;

/// How two traces compare.
pub struct Comparison<'a> {
    a: Vec<&'a Exchange>,
    b: Vec<&'a Exchange>,
    rows: Vec<Row>,
}

/// A step and how it differs.
struct Row {
    step: Step,
    key: Key,
    input: Vec<Difference>,
    output: Vec<Difference>,
    /// Bytes that one of the traces lacks were not compared.
    cut: bool,
}

/// How many steps are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// In both, in one order, without a difference.
    pub same: usize,
    /// In both, in one order, with differences.
    pub differ: usize,
    /// In both, in another order.
    pub moved: usize,
    /// In the first only.
    pub only_a: usize,
    /// In the second only.
    pub only_b: usize,
}

/// Both cut to what both have, if one of the traces lacks a part of it.
fn common<'a>(a: &'a [u8], a_len: usize, b: &'a [u8], b_len: usize) -> (&'a [u8], &'a [u8], bool) {
    let mut limit = usize::MAX;
    for (have, of) in [(a.len(), a_len), (b.len(), b_len)] {
        if have < of {
            limit = limit.min(have);
        }
    }
    (&a[..a.len().min(limit)], &b[..b.len().min(limit)], limit != usize::MAX)
}

impl<'a> Comparison<'a> {
    /// Compares.
    pub fn new(a: Vec<&'a Exchange>, b: Vec<&'a Exchange>) -> Result<Comparison<'a>, TooLong> {
        let keys = |commands: &[&Exchange]| commands.iter().map(|command| command.key()).collect::<Vec<_>>();
        let (keys_a, keys_b) = (keys(&a), keys(&b));
        let is_same = |x: usize, y: usize| first_difference(keys_a[x], &a[x].input(), &b[y].input()).is_none();
        let steps = align(&keys_a, &keys_b, is_same)?;
        let rows = steps.into_iter().map(|step| {
            let (x, y) = (step.a.map(|n| a[n]), step.b.map(|n| b[n]));
            let key = step.a.map(|n| keys_a[n]).or(step.b.map(|n| keys_b[n])).unwrap_or_else(|| Key::of(&[]));
            let mut row = Row { step, key, input: Vec::new(), output: Vec::new(), cut: false };
            let (Some(x), Some(y)) = (x, y) else { return row };
            let (input_a, input_b) = (x.input(), y.input());
            let (one, other, cut) = common(&input_a, x.input_len(), &input_b, y.input_len());
            row.input = differences(key, one, other, false);
            row.cut |= cut;
            if let (Some(x), Some(y)) = (&x.output, &y.output) {
                let (output_a, output_b) = (x.output(), y.output());
                let (one, other, cut) = common(&output_a, x.output_len(), &output_b, y.output_len());
                row.output = differences(key, one, other, true);
                row.cut |= cut;
            }
            row
        });
        let rows = rows.collect();
        Ok(Comparison { a, b, rows })
    }

    /// How many steps are where.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for row in &self.rows {
            *match (row.step.a, row.step.b) {
                (Some(_), None) => &mut summary.only_a,
                (None, _) => &mut summary.only_b,
                _ if row.step.moved => &mut summary.moved,
                _ if row.input.is_empty() && row.output.is_empty() => &mut summary.same,
                _ => &mut summary.differ,
            } += 1;
        }
        summary
    }

    /// True if both do the same in the same order.
    pub fn is_same(&self) -> bool {
        let Summary { differ, moved, only_a, only_b, .. } = self.summary();
        differ + moved + only_a + only_b == 0
    }

    /// For people. With `inputs`, what firmware answered is left out.
    pub fn text(&self, inputs: bool) -> String {
        let mut out = String::new();
        for row in &self.rows {
            let place = |name: &str, n: usize, of: &[&Exchange]| {
                let problem = problem(of[n]).map_or_else(String::new, |problem| format!(", {problem}"));
                format!("{name} {n}, line {}{problem}", of[n].line)
            };
            let _ = match (row.step.a, row.step.b) {
                (Some(a), None) => writeln!(out, "- {} (only in {})", row.key, place("A", a, &self.a)),
                (None, Some(b)) => writeln!(out, "+ {} (only in {})", row.key, place("B", b, &self.b)),
                (Some(a), Some(b)) => {
                    let moved = if row.step.moved { "~" } else { " " };
                    let (a, b) = (place("A", a, &self.a), place("B", b, &self.b));
                    let same = if row.input.is_empty() && row.output.is_empty() { ": the same" } else { "" };
                    writeln!(out, "{moved} {} ({a}; {b}){same}", row.key)
                }
                (None, None) => Ok(()),
            };
            for (name, differences) in [("input", &row.input), ("output", &row.output)] {
                for difference in differences.iter().filter(|_| !inputs || name == "input") {
                    let side = |side: &Option<Content>| match side {
                        // Where they are says nothing, only how many.
                        Some(Content::List(list)) if is_address(&difference.field) => {
                            format!("{} addresses", list.len())
                        }
                        Some(content) => {
                            text::content(content, named(difference, content).as_deref(), &difference.field)
                        }
                        None => "not there".to_owned(),
                    };
                    let (a, b) = (side(&difference.a), side(&difference.b));
                    let _ = writeln!(out, "    {name}  {}: {a} -> {b}", difference.field);
                }
            }
            if row.cut {
                out.push_str("    as far as both traces have it\n");
            }
        }
        let Summary { same, differ, moved, only_a, only_b } = self.summary();
        let both = same + differ;
        let _ = writeln!(
            out,
            "{both} in both ({same} the same), {moved} (~) in both in another order, {only_a} (-) only in A, {only_b} (+) \
             only in B"
        );
        out
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let place = |n: Option<usize>, of: &[&Exchange]| n.map(|n| json!({ "number": n, "line": of[n].line }));
            let sides = [("input", &row.input), ("output", &row.output)];
            let differences = sides.into_iter().flat_map(|(name, list)| {
                list.iter().map(move |difference| {
                    let value = |side: &Option<Content>| side.as_ref().map(json::content);
                    let meaning = |side: &Option<Content>| side.as_ref().and_then(|content| named(difference, content));
                    json!({
                        "side": name,
                        "field": difference.field,
                        "a": value(&difference.a),
                        "b": value(&difference.b),
                        "a_means": meaning(&difference.a),
                        "b_means": meaning(&difference.b),
                    })
                })
            });
            json!({
                "command": row.key.to_string(),
                "opcode": row.key.opcode.0,
                "a": place(row.step.a, &self.a),
                "b": place(row.step.b, &self.b),
                "moved": row.step.moved,
                "cut": row.cut,
                "differences": Value::from_iter(differences),
            })
        });
        let Summary { same, differ, moved, only_a, only_b } = self.summary();
        let summary = json!({ "same": same, "differ": differ, "moved": moved, "only_a": only_a, "only_b": only_b });
        json!({ "commands": Value::from_iter(rows), "summary": summary })
    }
}

/// What a value means.
fn named(difference: &Difference, content: &Content) -> Option<String> {
    match content {
        Content::Number(number) => meaning::of(difference.of.0, difference.of.1, *number),
        _ => None,
    }
}
