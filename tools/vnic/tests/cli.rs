//! The `cxddp-vnic` binary's command line.
//!
//! | property | test |
//! |---|---|
//! | a bad option gets one line, status 2, and no output | `bad_options_get_one_line` |
//! | manual pages and completions are written | `pages_and_completions` |

use std::process::{Command, Output, Stdio};

fn vnic(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cxddp-vnic"));
    command.args(arguments).stdin(Stdio::null()).output().expect("the binary runs")
}

#[test]
fn bad_options_get_one_line() {
    for (arguments, word) in [
        (&["serve"][..], "--socket <PATH>"),
        (&["serve", "--socket", "/nonexistent/nic", "--vectors", "0"], "1..=2048"),
        (&["serve", "--socket", "/nonexistent/nic", "--inject", "nonsense"], "--inject"),
        (&["serve", "--socket", "/nonexistent/nic", "--trace", "x", "--trace-what", "packets"], "commands, wqes, cqes"),
        (&["serve", "--socket", "/nonexistent/nic", "--trace-what", "wqes"], "--trace"),
        (&["--completions", "tcsh"], "bash, zsh or fish"),
        (&["--man", "/nonexistent"], "create it first"),
    ] {
        let output = vnic(arguments);
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {line}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(line.starts_with("cxddp-vnic: ") && line.lines().count() == 1, "{arguments:?}: {line:?}");
        assert!(line.contains(word), "{arguments:?}: {line:?} does not say {word:?}");
    }
}

#[test]
fn pages_and_completions() {
    let folder = std::env::temp_dir().join(format!("cxddp-vnic-man-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let output = vnic(&["--man", folder.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{output:?}");
    let page = std::fs::read_to_string(folder.join("cxddp-vnic-serve.1")).expect("a page");
    assert!(page.contains("model\\-switch"), "{page}");
    std::fs::remove_dir_all(&folder).expect("ours");
    for shell in ["bash", "zsh", "fish"] {
        let script = String::from_utf8_lossy(&vnic(&["--completions", shell]).stdout).into_owned();
        assert!(script.contains("model-switch"), "{shell}");
    }
}
