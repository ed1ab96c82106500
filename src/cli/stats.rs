//! `cxddp stats`: every number of the driver: of one that a demonstration runs, or of one that runs elsewhere.

use super::demo::{carry_out, config};
use super::options::StatsArgs;
use super::watch::Interval;
use connectx_ddp::inspect::{Client, ClientError};
use connectx_ddp::observe::{self, Snapshot, Zeros, snapshot_json, snapshot_text};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// How numbers are printed.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Text(Zeros),
}

impl Form {
    fn write(self, snapshot: &Snapshot, out: &mut impl Write) -> io::Result<()> {
        match self {
            Form::Json => writeln!(out, "{}", snapshot_json(snapshot)),
            Form::Text(zeros) => out.write_all(snapshot_text(snapshot, zeros).as_bytes()),
        }
    }
}

/// Runs a demonstration and prints the driver's numbers.
pub fn run(args: &StatsArgs) -> ExitCode {
    if args.list {
        let written = io::stdout().lock().write_all(observe::reference().as_bytes());
        return match written {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("cxddp stats: cannot write the result: {error}");
                ExitCode::from(2)
            }
        };
    }
    if let Some(path) = &args.from {
        return print_from(path, args);
    }
    let form = match (args.demo.json, args.all) {
        (true, _) => Form::Json,
        (false, true) => Form::Text(Zeros::Shown),
        (false, false) => Form::Text(Zeros::Hidden),
    };
    // Who closes the pipe does not want the rest either; the last write says so.
    let print = move |snapshot: &Snapshot| _ = form.write(snapshot, &mut io::stdout().lock());
    let interval = args.interval.map(|seconds| Interval::new(seconds, Box::new(print)));
    carry_out("stats", &config(&args.demo), &args.demo, interval, |out, _, watch| {
        let Some(snapshot) = watch.snapshot() else { return Ok(()) };
        match form {
            Form::Json => {
                let mut object = snapshot_json(snapshot);
                watch.add_events(&mut object);
                writeln!(out, "{object}")
            }
            Form::Text(_) => {
                form.write(snapshot, out)?;
                watch.write_events(out)
            }
        }
    })
}

/// Prints the numbers of a driver that runs elsewhere.
fn print_from(path: &Path, args: &StatsArgs) -> ExitCode {
    let text = Client::connect(path).and_then(|mut driver| numbers_of(&mut driver, args));
    let text = match text {
        Ok(text) => text,
        Err(error) => {
            eprintln!("cxddp stats: --from {error}");
            return ExitCode::from(2);
        }
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cxddp stats: cannot write the result: {error}");
            ExitCode::from(2)
        }
    }
}

fn numbers_of(driver: &mut Client, args: &StatsArgs) -> Result<String, ClientError> {
    if args.demo.json {
        let mut object = driver.statistics()?;
        if args.demo.events {
            object["events"] = driver.events()?.into();
        }
        return Ok(format!("{object}\n"));
    }
    let mut text = driver.text(args.all)?;
    if args.demo.events {
        text.push_str("events\n");
        driver.event_lines()?.iter().for_each(|event| text.push_str(&format!("  {event}\n")));
    }
    Ok(text)
}
