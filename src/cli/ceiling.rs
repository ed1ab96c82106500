//! `cxddp ceiling`: placement and digests under loss, as tables and as a plot.

use super::options::CeilingArgs;
use connectx_ddp::demo::ceiling::grid::{self, RULES, Row};
use connectx_ddp::demo::ceiling::measure::PointError;
use connectx_ddp::demo::ceiling::{plot, table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

/// Of how many points `--quick` takes one.
const QUICK: usize = 24;

/// Measures, and prints or writes what was found.
pub fn run(args: &CeilingArgs) -> ExitCode {
    match measure_and_tell(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("cxddp ceiling: {line}");
            ExitCode::from(2)
        }
    }
}

fn measure_and_tell(args: &CeilingArgs) -> Result<(), String> {
    if !(1..=64).contains(&args.threads) {
        return Err(format!("--threads {}: allowed is 1 to 64", args.threads));
    }
    if let Some(folder) = &args.write
        && !folder.is_dir()
    {
        return Err(format!("--write {}: is not a folder; create it first", folder.display()));
    }
    let (rows, cubic) = measure(args).map_err(|error| error.to_string())?;
    let text = table::markdown(&rows, &cubic, args.seed);
    let Some(folder) = &args.write else {
        return std::io::stdout().lock().write_all(text.as_bytes()).map_err(|error| format!("cannot write: {error}"));
    };
    let write = |name: &str, text: &str| {
        let path: &Path = &folder.join(name);
        std::fs::write(path, text).map_err(|error| format!("--write: {}: {error}", path.display()))
    };
    write("loss.md", &text)?;
    write("loss.svg", &plot::svg(&rows))
}

fn measure(args: &CeilingArgs) -> Result<(Vec<Row>, Vec<Row>), PointError> {
    let mut points: Vec<_> = RULES.iter().flat_map(|(rules, _)| grid::points(*rules, args.seed)).collect();
    let main = points.len();
    points.extend(grid::cubic(args.seed));
    let cut = if args.quick { main / QUICK } else { main };
    if args.quick {
        points = points.into_iter().step_by(QUICK).take(cut).collect();
    }
    let target = match std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr_with_hz(2),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(Some(points.len() as u64), target);
    if let Ok(style) = ProgressStyle::with_template("[{bar:32}] {pos} of {len} points, {eta} left") {
        bar.set_style(style.progress_chars("=> "));
    }
    let rows = grid::run(&points, args.threads, &|done| bar.set_position(done as u64));
    bar.finish_and_clear();
    let mut rows = rows?;
    let cubic = rows.split_off(cut);
    Ok((rows, cubic))
}
