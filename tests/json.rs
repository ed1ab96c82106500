//! What programs read has the shape that `docs/json.md` documents: nothing is there that is not in it, and nothing in it is
//! missing.
//!
//! | property | test |
//! |---|---|
//! | each command prints what its table says | `probe`, `read_and_serve`, `demo`, `explain`, `scale`, `simulate` |

#![cfg(feature = "demo")]

use cxddp_vnic::inject::Injection;
use cxddp_vnic::report::Report;
use cxddp_vnic::{Function, Hub, HubConfig, Uplink};
use nvme_target::Generated;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What only a failure brings, and none is at hand.
const NOT_SEEN: [&str; 4] =
    ["totals.failures[].seed", "totals.failures[].replay", "totals.failures[].problems", "totals.failures[].drawn"];

/// What `cxddp` prints.
fn cxddp(arguments: &str) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cxddp"));
    let output = command.args(arguments.split_whitespace()).env_remove("RUST_LOG").output().expect("the binary runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments}: {error}: {errors}"))
}

/// Every path in it: the names on the way, with `[]` behind that of a list whose entries are meant.
fn paths(value: &Value, at: &[String], into: &mut BTreeSet<Vec<String>>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = [at, std::slice::from_ref(name)].concat();
                paths(member, &path, into);
                into.insert(path);
            }
        }
        Value::Array(entries) => {
            let mut path = at.to_vec();
            path.last_mut().expect("no object is a list").push_str("[]");
            entries.iter().for_each(|entry| paths(entry, &path, into));
        }
        _ => {}
    }
}

/// The paths of a command's table.
fn documented(program: &str, command: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let section = page.split(&format!("## {program} {command} --json")).nth(1).expect("a section").to_owned();
    let rows = section.lines().take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| `"));
    // Odd parts are in backticks.
    let names = |row: &str| {
        row.split(" | ").next().unwrap_or_default().split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    };
    rows.flat_map(names).collect()
}

fn fits(path: &[String], row: &str) -> bool {
    let names: Vec<_> = row.split('.').collect();
    names.len() == path.len() && names.iter().zip(path).all(|(name, found)| name.starts_with('<') || name == found)
}

/// What of these objects comes below a documented member that another page describes.
fn elsewhere(path: &[String]) -> bool {
    path.first().is_some_and(|name| name == "events[]")
}

#[track_caller]
fn assert_documented(command: &str, objects: &[Value]) {
    assert_documented_of("cxddp", command, objects);
}

#[track_caller]
fn assert_documented_of(program: &str, command: &str, objects: &[Value]) {
    let rows = documented(program, command);
    let mut found = BTreeSet::new();
    for object in objects {
        assert_eq!((&object["version"], &object["command"]), (&1.into(), &command.into()));
        paths(object, &[], &mut found);
    }
    found.retain(|path| !elsewhere(path));
    for path in &found {
        assert!(rows.iter().any(|row| fits(path, row)), "{command}: {} is in no row", path.join("."));
    }
    for row in rows.iter().filter(|row| !NOT_SEEN.contains(&row.as_str())) {
        assert!(found.iter().any(|path| fits(path, row)), "{command}: {row} was not printed");
    }
}

#[test]
fn probe() {
    assert_documented("probe", &[cxddp("probe --json")]);
}

#[test]
fn demo() {
    let lossy = cxddp("demo --size 2MiB --data-digest --loss 1 --json");
    assert_documented("demo", &[lossy, cxddp("demo --size 2MiB --inject flr --events --json")]);
}

#[test]
fn explain() {
    assert_documented("explain", &[cxddp("explain --size 1MiB --read 3 --json")]);
}

#[test]
fn scale() {
    let failing = cxddp("scale --connections 4 --depth 8 --reads 40 --io-size 16KiB --inject flr --json");
    assert_documented("scale", &[cxddp("scale --connections 110 --depth 8 --json"), failing]);
}

#[test]
fn simulate() {
    assert_documented("simulate", &[cxddp("simulate --seeds 2 --json")]);
}

#[test]
fn read_and_serve() {
    let target = nvme_target::Config::default();
    let nqn = target.subsystem_nqn.clone();
    let uplink = Uplink::target(target, Box::new(Generated::new(1, 4 << 20))).expect("a target");
    let mut hub = Hub::new(&HubConfig::default(), uplink).expect("no capture");
    let socket = std::env::temp_dir().join(format!("cxddp-json-{}.sock", std::process::id()));
    hub.add(Function::new("pf", virtual_nic::Config::default()), &socket).expect("a path of our own");
    // A recovery is to be told of.
    for fault in ["gone@1MiB", "back@+1"] {
        hub.inject(fault.parse::<Injection>().expect("a fault"));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let serving = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            hub.turn(Duration::from_millis(50));
        }
        Report::of(&mut hub).json()
    });
    let object = cxddp(&format!(
        "read --device vfio-user:{} --ip 192.168.44.10/24 --target 192.168.44.20 --nqn {nqn} --pattern 1 --json",
        socket.display()
    ));
    stop.store(true, Ordering::Relaxed);
    let served = serving.join().expect("the server ends");
    assert_ne!(object["recovered"], serde_json::json!([]), "nothing was recovered from");
    assert_documented("read", &[object]);
    assert_eq!(served["functions"][0]["dma_violations"], 0);
    assert_documented_of("cxddp-vnic", "serve", &[served]);
}
