//! `cxddp`: the demonstration, and tools that need the driver.

mod cli;

use clap::Parser;
use clap::error::ErrorKind;
use cli::options::{Cli, Command};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: cli::allocator::Counting = cli::allocator::Counting;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(error),
    };
    let level = match (cli.verbose, &cli.command) {
        // What a simulation breaks on purpose is not worth a message.
        (0, Command::Simulate(_)) => "off",
        (0, _) => "warn",
        (1, _) => "info",
        _ => "debug",
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
    match &cli.command {
        Command::Ceiling(args) => cli::ceiling::run(args),
        Command::Demo(args) => cli::demo::run(args),
        Command::Explain(args) => cli::explain::run(args),
        Command::Probe(args) => cli::probe::run(args),
        Command::Read(args) => cli::read::run(args),
        Command::Scale(args) => cli::scale::run(args),
        Command::Stats(args) => cli::stats::run(args),
        Command::Simulate(args) => cli::simulate::run(args),
    }
}

/// Help and version as they are; a bad option as one line that names the option, the value and what is allowed.
fn refuse(error: clap::Error) -> ExitCode {
    if !error.use_stderr() {
        print!("{error}");
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        eprint!("{error}");
        return ExitCode::from(2);
    }
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("For more information"));
    let lines: Vec<_> = lines.filter(|line| !line.is_empty() && !line.starts_with("Usage:")).collect();
    eprintln!("cxddp: {}", lines.join("; ").trim_start_matches("error: "));
    ExitCode::from(2)
}
