//! The `cxddp-vnic` binary's command line.
//!
//! | property | test |
//! |---|---|
//! | a bad option gets one line, status 2, and no output | `bad_options_get_one_line` |
//! | what was counted is printed as one object that has what `docs/json.md` says of it | `what_was_counted_is_for_programs_too` |
//! | manual pages and completions are written | `pages_and_completions` |

use cxddp_vnic::report::Report;
use cxddp_vnic::{Function, Hub, HubConfig, Uplink};
use std::process::{Command, Output, Stdio};
use virtual_nic::Config;

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
fn what_was_counted_is_for_programs_too() {
    let mut hub = Hub::new(&HubConfig::default(), Uplink::None).expect("no capture");
    let socket = std::env::temp_dir().join(format!("cxddp-vnic-json-{}.sock", std::process::id()));
    hub.add(Function::new("pf", Config::default()), &socket).expect("a path of our own");
    // A driver is one that was there.
    hub.functions().for_each(|function| _ = function.nic.read32(0));
    let object = Report::of(&mut hub).json();
    let function = &object["functions"][0];
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/json.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let section = page.split("## cxddp-vnic serve --json").nth(1).expect("its section");
    let driver = &function["drivers"][0];
    for (at, names) in [
        ("", &object),
        ("functions[].", function),
        ("functions[].drivers[].", driver),
        ("functions[].drivers[].<when>.", &driver["all"]),
    ] {
        let names = names.as_object().expect("an object");
        assert!(!names.is_empty());
        for name in names.keys() {
            assert!(section.contains(&format!("`{at}{name}`")), "{at}{name} is not in docs/json.md");
        }
    }
    assert_eq!(
        (&object["version"], &function["function"], &function["dma_violations"]),
        (&1.into(), &"pf".into(), &0.into())
    );
    assert!(function["counters"]["commands"].is_u64() && object["wire"]["in: frames"].is_u64(), "{object}");
    assert!(Report::of(&mut hub).text().contains("pf: DMA violations 0"));
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
