//! The plot of `docs/loss.svg`: panels of dots (measured) on lines (ceilings).

use super::grid::{LOSSES, MTUS, PUBLISHED, REORDERINGS, RULES, Row, SIZES};
use super::measure::Rules;
use super::model::Disorder;
use super::published;
use std::fmt::Write;

/// Pixels of a panel, and of its surroundings.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 58.0;
const TOP: f64 = 96.0;
const GAP: (f64, f64) = (70.0, 76.0);
/// Colours that people with any colour vision tell apart, also in grey (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#555555"];
const RULE_NAMES: [&str; 6] = [
    "1 published rules",
    "2 late packets bypass the search",
    "3 stop behind a hole",
    "4 headers at packet start only",
    "5 both 3 and 4",
    "6 as 4, aligned target",
];

/// All in percent.
struct Dot {
    across: f64,
    measured: f64,
    ceiling: f64,
    /// What was published, and what is comparable to it.
    published: Option<(f64, f64)>,
}

/// A line with dots.
struct Series<'a> {
    colour: &'a str,
    points: Vec<Dot>,
}

fn disorder_percent(disorder: Disorder) -> (f64, Option<u32>) {
    match disorder {
        Disorder::Loss(share) => (share * 100.0, None),
        Disorder::Reorder { share, distance } => (share * 100.0, Some(distance)),
    }
}

/// What a panel shows of a row.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Placed,
    Digests,
}

fn series<'a>(
    rows: &[Row],
    colour: &'a str,
    rules: Rules,
    (mtu, size, distance): (u16, u32, Option<u32>),
    kind: Kind,
) -> Series<'a> {
    let mut points: Vec<_> = rows
        .iter()
        .filter(|row| row.point.rules == rules && row.point.mtu == mtu && row.point.payload == size << 10)
        .filter(|row| disorder_percent(row.point.disorder).1 == distance)
        .map(|row| {
            let known = published::of(&row.point);
            let across = disorder_percent(row.point.disorder).0;
            let m = &row.measured;
            let (measured, ceiling, published) = match kind {
                Kind::Placed => {
                    let all_runs = (m.placed.value + m.other_runs) * 100.0;
                    (m.placed.value, row.ceiling.placed, known.map(|known| (known.placed, all_runs)))
                }
                Kind::Digests => {
                    let digests = known.and_then(|known| known.digests);
                    (m.digests.value, row.ceiling.digests, digests.map(|digests| (digests, m.digests.value * 100.0)))
                }
            };
            Dot { across, measured: measured * 100.0, ceiling: ceiling * 100.0, published }
        })
        .collect();
    points.sort_by(|a, b| a.across.total_cmp(&b.across));
    Series { colour, points }
}

struct Svg(String);

impl Svg {
    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.0.write_fmt(text);
        self.0.push('\n');
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, size: u32, text: &str) {
        self.add(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}">{text}</text>"#
        ));
    }

    /// A panel with its axes; `ticks` in percent, on a logarithmic axis.
    fn panel(&mut self, (x, y): (f64, f64), title: &str, across: &str, ticks: &[f64], all: &[Series<'_>]) {
        let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
        let place = |value: f64| x + WIDTH * (0.03 + 0.94 * (value / low).ln() / (high / low).ln());
        let level = |value: f64| y + HEIGHT * (1.0 - value / 100.0);
        self.text(x + WIDTH / 2.0, y - 8.0, "middle", 13, title);
        for value in [0.0, 20.0, 40.0, 60.0, 80.0, 100.0] {
            let at = level(value);
            self.add(format_args!(
                r##"<line x1="{x:.1}" y1="{at:.1}" x2="{:.1}" y2="{at:.1}" stroke="#ddd"/>"##,
                x + WIDTH
            ));
            self.text(x - 6.0, at + 4.0, "end", 11, &format!("{value} %"));
        }
        for tick in ticks {
            let at = place(*tick);
            self.add(format_args!(
                r##"<line x1="{at:.1}" y1="{y:.1}" x2="{at:.1}" y2="{:.1}" stroke="#eee"/>"##,
                y + HEIGHT
            ));
            self.text(at, y + HEIGHT + 15.0, "middle", 11, &tick.to_string());
        }
        self.text(x + WIDTH / 2.0, y + HEIGHT + 31.0, "middle", 11, across);
        self.add(format_args!(
            r##"<rect x="{x:.1}" y="{y:.1}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#888"/>"##
        ));
        for Series { colour, points, .. } in all {
            let line: Vec<_> =
                points.iter().map(|p| format!("{:.1},{:.1}", place(p.across), level(p.ceiling))).collect();
            self.add(format_args!(
                r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="1.3"/>"#,
                line.join(" ")
            ));
            for Dot { across, measured, published, .. } in points {
                let (cx, cy) = (place(*across), level(*measured));
                self.add(format_args!(r#"<circle cx="{cx:.1}" cy="{cy:.1}" r="3" fill="{colour}"/>"#));
                let Some((known, comparable)) = published else { continue };
                let (a, b, known, comparable) = (cx - 6.0, cx + 6.0, level(*known), level(*comparable));
                self.add(format_args!(
                    r#"<line x1="{a:.1}" y1="{known:.1}" x2="{b:.1}" y2="{known:.1}" stroke="{colour}" stroke-width="2"/>"#
                ));
                self.add(format_args!(
                    r#"<ellipse cx="{cx:.1}" cy="{comparable:.1}" rx="4" ry="4" fill="none" stroke="{colour}"/>"#
                ));
            }
        }
    }

    fn legend(&mut self, x: f64, y: f64, entries: &[(String, &str)], step: f64) {
        for (i, (name, colour)) in entries.iter().enumerate() {
            let at = x + step * i as f64;
            self.add(format_args!(r#"<circle cx="{at:.1}" cy="{:.1}" r="4" fill="{colour}"/>"#, y - 4.0));
            self.text(at + 9.0, y, "start", 12, name);
        }
    }
}

/// The plot.
pub fn svg(rows: &[Row]) -> String {
    let panels: [(&str, &str, Option<u32>, Kind); 5] = [
        ("Placed", "packets lost, percent", None, Kind::Placed),
        ("Digests checked by the NIC", "packets lost, percent", None, Kind::Digests),
        ("Placed", "packets overtaken by 3 others, percent", Some(3), Kind::Placed),
        ("Placed", "packets overtaken by 64 others, percent", Some(64), Kind::Placed),
        ("Digests checked by the NIC", "packets overtaken by 64 others, percent", Some(64), Kind::Digests),
    ];
    let rows_of_panels = panels.len() + 1;
    let (width, height) = (LEFT + 2.0 * WIDTH + GAP.0 + 20.0, TOP + rows_of_panels as f64 * (HEIGHT + GAP.1) + 40.0);
    let mut svg = Svg(String::new());
    svg.add(format_args!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" font-family="sans-serif">"#
    ));
    svg.add(format_args!(r#"<rect width="100%" height="100%" fill="white"/>"#));
    svg.text(LEFT, 24.0, "start", 17, "Placement and digests under loss and reordering");
    svg.text(
        LEFT,
        44.0,
        "start",
        12,
        "dots: measured, on lines: ceiling (a completion has room for one run of its packet); \
         rings: all runs counted, on bars: published ceiling. Published rules.",
    );
    let sizes: Vec<_> = SIZES.iter().zip(COLOURS).map(|(size, colour)| (format!("{size} KiB PDUs"), colour)).collect();
    svg.legend(LEFT + 5.0, 66.0, &sizes, 120.0);
    let left = |column: usize| LEFT + column as f64 * (WIDTH + GAP.0);
    let mut top = TOP;
    for (what, across, distance, kind) in panels {
        for (column, mtu) in MTUS.into_iter().enumerate() {
            let all: Vec<_> = SIZES
                .iter()
                .zip(COLOURS)
                .map(|(size, colour)| series(rows, colour, PUBLISHED, (mtu, *size, distance), kind))
                .collect();
            let ticks: &[f64] = if distance.is_none() { &LOSSES } else { &REORDERINGS };
            svg.panel((left(column), top), &format!("{what}, MTU {mtu}"), across, ticks, &all);
        }
        top += HEIGHT + GAP.1;
    }
    let names: Vec<_> = RULE_NAMES.iter().zip(COLOURS).map(|(name, colour)| ((*name).to_owned(), colour)).collect();
    for (half, part) in names.chunks(3).enumerate() {
        svg.legend(LEFT + 5.0, top + 18.0 * half as f64, part, 260.0);
    }
    top += 44.0;
    for (column, size) in [64, 512].into_iter().enumerate() {
        let all: Vec<_> = RULES
            .iter()
            .zip(COLOURS)
            .map(|((rules, _), colour)| series(rows, colour, *rules, (1500, size, None), Kind::Placed))
            .collect();
        let title = format!("Placed by rules, {size} KiB PDUs, MTU 1500");
        svg.panel((left(column), top), &title, "packets lost, percent", &LOSSES, &all);
    }
    svg.add(format_args!("</svg>"));
    svg.0
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | every point is a dot in its panels, inside the picture; every line is closed | `every_point_is_a_dot` |
    use super::super::grid;
    use super::super::measure::{Measured, Share};
    use super::super::model::Ceiling;
    use super::*;

    #[test]
    fn every_point_is_a_dot() {
        let row = |point| Row {
            point,
            measured: Measured { placed: Share { value: 0.5, error: 0.0 }, ..Measured::default() },
            published_model: Ceiling { placed: 0.5, digests: 0.5 },
            ceiling: Ceiling { placed: 1.0, digests: 0.0 },
        };
        let rows: Vec<_> = RULES.iter().flat_map(|(rules, _)| grid::points(*rules, 1)).map(row).collect();
        let svg = svg(&rows);
        // Two panels of loss and three of reordering for five sizes and two MTUs, and six rules at two sizes; legends.
        let dots = 2 * 5 * (2 * 6 + 3 * 4) + 2 * 6 * 6;
        assert_eq!(svg.matches("<circle").count(), dots + 5 + 6);
        assert_eq!(svg.matches("<polyline").count(), 5 * 5 * 2 + 12);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert_eq!(svg.matches('<').count(), svg.matches('>').count());
        assert!(svg.trim_end().ends_with("</svg>"));
    }
}
