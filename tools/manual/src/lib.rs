//! What every tool does alike on its command line: manual pages and completions, made from the same options as its help, and
//! the one clear line that a bad option gets.

use clap::error::ErrorKind;
use clap_complete::Shell;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

const MAN: &str = "--man";
const COMPLETIONS: &str = "--completions";

/// Does what `--man DIR` or `--completions SHELL` ask, if one of them is the first argument. Neither is among the options that
/// a tool documents: they are for who installs it.
pub fn answer(command: clap::Command) -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let (option, value) = (arguments.next()?, arguments.next());
    let name = command.get_name().to_owned();
    let done = match option.to_str()? {
        MAN => pages(command, value),
        COMPLETIONS => completions(command, value, &mut io::stdout().lock()),
        _ => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{name}: {why}");
            ExitCode::from(2)
        }
    })
}

/// A page for the tool and one for each of its subcommands, as `git` has them.
fn pages(command: clap::Command, folder: Option<OsString>) -> Result<(), String> {
    let folder = folder
        .ok_or_else(|| format!("{MAN} takes a folder to write the pages into, such as /usr/local/share/man/man1"))?;
    let path = Path::new(&folder);
    if !path.is_dir() {
        return Err(format!("{MAN} {}: this is no folder; create it first", path.display()));
    }
    let made = clap_mangen::generate_to(command.disable_help_subcommand(true), path);
    made.map_err(|error| format!("{MAN} {}: {error}", path.display()))
}

fn completions(mut command: clap::Command, shell: Option<OsString>, out: &mut dyn Write) -> Result<(), String> {
    let shell = shell.as_deref().and_then(|shell| shell.to_str()).and_then(|shell| shell.parse::<Shell>().ok());
    let shell = shell.ok_or_else(|| format!("{COMPLETIONS} takes a shell: bash, zsh or fish"))?;
    let name = command.get_name().to_owned();
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut text);
    out.write_all(&text).map_err(|error| format!("{COMPLETIONS}: {error}"))
}

/// Help and version as they are; a bad option as one line that names the option, the value and what is allowed.
pub fn refuse(name: &str, error: &clap::Error) -> ExitCode {
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
    let line = lines.join("; ").replace(":; ", ": ");
    eprintln!("{name}: {}", line.trim_start_matches("error: "));
    ExitCode::from(2)
}
