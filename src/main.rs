//! `cxddp`: the demonstration, and tools that need the driver.

mod cli;

use clap::Parser;
use cli::options::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = match cli.verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
    match &cli.command {
        Command::Demo(args) => cli::demo::run(args),
        Command::Probe(args) => cli::probe::run(args),
    }
}
