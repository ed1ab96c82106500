//! The binary as people and programs use it, on this machine, where it changes nothing.
//!
//! | property | test |
//! |---|---|
//! | without a card `status` says so, and `doctor` finds a problem: for people and for programs | `without_a_card` |
//! | a bad option gets one line with what is allowed, status 2, and no output | `bad_options_get_one_line` |
//! | an address that is none of ours is refused, with status 1, whatever is asked | `other_peoples_cards_are_refused` |
//! | every command's help shows an example | `help_teaches` |
//! | manual pages and completions are written, and name every option | `pages_and_completions` |
//! | the kernel's files are written through another process, which tells errors, and is not waited for without end | `writes_have_a_deadline` |

use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn bind(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cxddp-bind"));
    command.args(arguments).stdin(Stdio::null()).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// Whether this machine has a card after all, in which case it is left alone.
fn has_card() -> bool {
    let output = bind(&["status", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    !value["functions"].as_array().expect("a list").is_empty()
}

#[test]
fn without_a_card() {
    if has_card() {
        println!("SKIPPED without_a_card: this machine has one");
        return;
    }
    let output = bind(&["status"]);
    assert!(text(&output.stdout).contains("no network function of Mellanox or NVIDIA"), "{output:?}");
    let output = bind(&["doctor"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains("problem      function       there is no network function"), "{output:?}");
    let output = bind(&["doctor", "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((output.status.code(), &value["ok"]), (Some(1), &Value::Bool(false)));
}

#[test]
fn bad_options_get_one_line() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["bind"], &["required", "ADDRESS"]),
        (&["bind", "x"], &["\"x\" is no PCI address", "0000:3b:00.0"]),
        (
            &["bind", "3b:00.0", "--force", "all"],
            &["--force", "all", "default-route", "storage", "ssh", "vfs", "group"],
        ),
        (&["vfs", "3b:00.0"], &["required", "COUNT"]),
        (&["vfs", "3b:00.0", "-1"], &["-1"]),
        (&["doctor", "--queues", "0"], &["--queues", "0", "1..=65535"]),
        (&["doctor", "--mtu", "10"], &["--mtu", "68..=10240"]),
        (&["take"], &["take"]),
        (&["--completions", "tcsh"], &["bash, zsh or fish"]),
        (&["--man"], &["takes a folder"]),
        (&["--man", "/nonexistent"], &["/nonexistent", "create it first"]),
    ];
    for (arguments, words) in cases {
        let output = bind(arguments);
        let line = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {line}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(line.starts_with("cxddp-bind: ") && line.lines().count() == 1, "{arguments:?}: {line:?}");
        words.iter().for_each(|word| assert!(line.contains(word), "{arguments:?}: {line:?} does not say {word:?}"));
    }
}

#[test]
fn other_peoples_cards_are_refused() {
    const NOBODY: &str = "ffff:ff:1f.7";
    for command in [
        &["bind", "--dry-run", NOBODY][..],
        &["unbind", "--dry-run", NOBODY],
        &["restore", "--dry-run", NOBODY],
        &["vfs", NOBODY, "1", "--dry-run"],
        &["status", NOBODY],
    ] {
        let output = bind(command);
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        assert!(
            text(&output.stderr).starts_with("cxddp-bind: ffff:ff:1f.7: there is no such PCI function"),
            "{output:?}"
        );
    }
    let output = bind(&["bind", "--dry-run", "--json", NOBODY]);
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for (field, expected) in
        [("version", Value::from(1)), ("command", "bind".into()), ("ok", false.into()), ("dry_run", true.into())]
    {
        assert_eq!(value[field], expected, "{value}");
    }
    assert_eq!(value["refusals"][0]["reason"], "not-there");
}

#[test]
fn help_teaches() {
    for command in ["status", "bind", "unbind", "restore", "vfs", "doctor"] {
        let output = bind(&[command, "--help"]);
        assert!(output.status.success());
        let help = text(&output.stdout);
        assert!(help.contains("Example:") && help.contains(&format!("cxddp-bind {command}")), "{help}");
    }
    let output = bind(&["--help"]);
    assert!(text(&output.stdout).contains("Exit status:"), "{output:?}");
    assert!(!text(&output.stdout).contains("poke"), "{output:?}");
}

/// A folder that is gone when the test is.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("cxddp-bind-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn pages_and_completions() {
    let folder = Folder::new("man");
    let output = bind(&["--man", folder.0.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{output:?}");
    let page = |name: &str| std::fs::read_to_string(folder.0.join(name)).expect("a page");
    assert!(page("cxddp-bind.1").contains(".TH cxddp-bind 1"));
    let bind_page = page("cxddp-bind-bind.1");
    for word in ["dry\\-run", "force", "no\\-load", "default\\-route"] {
        assert!(bind_page.contains(word), "{bind_page}");
    }
    let names: Vec<_> =
        std::fs::read_dir(&folder.0).expect("the folder").map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(!names.iter().any(|name| name == "cxddp-bind-poke.1"), "{names:?}");
    for shell in ["bash", "zsh", "fish"] {
        let output = bind(&["--completions", shell]);
        let script = text(&output.stdout);
        for word in ["doctor", "dry-run", "default-route"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn writes_have_a_deadline() {
    use std::io::Write;
    let folder = Folder::new("poke");
    let poke = |path: &std::path::Path, input: &[u8]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cxddp-bind"))
            .arg("poke")
            .arg(path)
            .stdin(Stdio::piped())
            .spawn()
            .expect("it runs");
        child.stdin.take().expect("its input").write_all(input).expect("it reads");
        child.wait().expect("it ends").code()
    };
    let file = folder.0.join("file");
    assert_eq!(poke(&file, b"x"), Some(2), "ENOENT: files are never created");
    assert_eq!(poke(&folder.0, b"x"), Some(21), "EISDIR");
    std::fs::write(&file, "abc").expect("a file");
    assert_eq!(poke(&file, b"x"), Some(0));
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "xbc", "nothing is cut off");
    assert_eq!(poke(std::path::Path::new("/dev/full"), b"x"), Some(28), "ENOSPC");
}
