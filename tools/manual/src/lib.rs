//! What every tool does alike on its command line: manual pages and completions, made from the same options as its help, how
//! sizes are given, and the one clear line that a bad option gets.

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

/// A number of bytes on a command line, with an optional binary suffix: 4096, 128KiB, 256M, 4GiB.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let shift = match suffix.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err(format!("unknown suffix {suffix:?}; use bytes or K, M, G, T, KiB, MiB, GiB, TiB (1024 each)")),
    };
    let number: u64 =
        number.parse().map_err(|_| "expected a number of bytes, such as 4096, 128KiB or 4GiB".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | sizes are read with and without suffix, and nonsense is refused | `sizes_are_read` |
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("128KiB"), Ok(128 << 10));
        assert_eq!(bytes("4g"), Ok(4 << 30));
        for bad in ["", "KiB", "12Q", "-1", "1.5G", "99999999999T"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
