//! `cxddp stats`: every number of the driver.

use super::demo::{Bar, config};
use super::options::StatsArgs;
use super::watch::Watch;
use connectx_ddp::demo;
use connectx_ddp::observe::{self, Snapshot, Zeros, snapshot_json, snapshot_text};
use std::io::{self, IsTerminal, Write};
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
        return finish(io::stdout().lock().write_all(observe::reference().as_bytes()), true);
    }
    let mut watch = match Watch::new(&args.demo) {
        Ok(watch) => watch,
        Err(error) => {
            eprintln!("cxddp stats: --metrics: {error}");
            return ExitCode::from(2);
        }
    };
    let form = match (args.demo.json, args.all) {
        (true, _) => Form::Json,
        (false, true) => Form::Text(Zeros::Shown),
        (false, false) => Form::Text(Zeros::Hidden),
    };
    if let Some(seconds) = args.interval {
        // Who closes the pipe does not want the rest either; the last write says so.
        watch.every(seconds, Box::new(move |snapshot| _ = form.write(snapshot, &mut io::stdout().lock())));
    }
    let mut bar = Bar::new(args.interval.is_none() && !args.demo.json && io::stderr().is_terminal());
    let outcome = demo::run_watched(&config(&args.demo), &mut watch, &mut |progress| bar.show(progress));
    drop(bar);
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("cxddp stats: {error}");
            return ExitCode::from(2);
        }
    };
    let code = finish(report(args, form, &watch), outcome.verified);
    for problem in &outcome.problems {
        eprintln!("cxddp stats: {problem}");
    }
    watch.linger("cxddp stats", args.demo.metrics_linger);
    code
}

fn report(args: &StatsArgs, form: Form, watch: &Watch) -> io::Result<()> {
    let Some(snapshot) = watch.snapshot() else { return Ok(()) };
    let mut out = io::stdout().lock();
    match form {
        Form::Json => {
            let mut object = snapshot_json(snapshot);
            if let (true, Some(object)) = (args.demo.events, object.as_object_mut()) {
                object.extend(watch.events_json());
            }
            writeln!(out, "{object}")
        }
        Form::Text(_) => {
            form.write(snapshot, &mut out)?;
            if args.demo.events { watch.write_events(&mut out) } else { Ok(()) }
        }
    }
}

fn finish(written: io::Result<()>, good: bool) -> ExitCode {
    match written {
        Err(error) => {
            eprintln!("cxddp stats: cannot write the result: {error}");
            ExitCode::from(2)
        }
        Ok(()) if good => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
    }
}
