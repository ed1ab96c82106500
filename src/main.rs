//! `cxddp`: the demonstration, and tools that need the driver.

mod cli;

use clap::FromArgMatches;
use cli::options::{Cli, Command};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: cli::allocator::Counting = cli::allocator::Counting;

fn main() -> ExitCode {
    let options = cli::help::taught();
    if let Some(code) = cxddp_manual::answer(options.clone()) {
        return code;
    }
    let matches = options.try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match matches {
        Ok(cli) => cli,
        Err(error) => return cxddp_manual::refuse("cxddp", &error),
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
