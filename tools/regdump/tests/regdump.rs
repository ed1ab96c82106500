//! The tool as people and programs use it.
//!
//! | property | test |
//! |---|---|
//! | a function in another process is shown in full over vfio-user, touches no memory that it was not lent, and is left as it was | `a_function_in_another_process_is_shown` |
//! | a saved dump shows the same as the function did | `a_saved_dump_shows_the_same` |
//! | a driver that runs is asked through its socket, and goes on; between two dumps only fields changed that traffic changes | `traffic_changes_only_what_it_may` |
//! | a device that lies is shown: all ones, all zeros, noise in every answer | `a_device_that_lies_is_shown` |
//! | the recorded commands of a real card are decoded, its capabilities by name, with the bits that nobody has named | `a_real_cards_commands_are_decoded` |
//! | two traces are compared command by command and field by field; what is wrong is said with file and line | `traces_are_compared_by_field` |
//! | work requests and completions of a trace are shown by their kind | `work_requests_and_completions_are_shown` |
//! | a structure in hexadecimal is decoded, and what is none refused with what is wrong | `structures_are_decoded` |
//! | sections are chosen, unknown ones refused with the names that there are; a bad option gets one line | `bad_options_get_one_line` |
//! | help names every section and every command that is executed | `help_teaches` |

use connectx_ddp::adapter;
use connectx_ddp::demo::{Config, Moment, Tap, run_watched};
use connectx_ddp::inspect::{COMMANDS, Client, Desk, Dump, SectionName, Server, take};
use connectx_ddp::observe::Direction;
use connectx_ddp::platform::virtual_nic::VirtualPlatform;
use connectx_ddp::session::Session;
use cxddp_regdump::{diff, json, text};
use cxddp_trace::{EntryKind, Sink};
use cxddp_vnic::{Function, Hub, HubConfig, Uplink, report};
use hw_regs::cqe::Cqe64;
use hw_regs::layout::{Access, Layout};
use hw_regs::wqe::WqeDataSeg;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// A path of our own that nothing has.
fn path(what: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("cxddp-regdump-{}-{}-{what}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    std::env::temp_dir().join(name)
}

/// A file that is gone when the test is.
struct Temporary(PathBuf);

impl Temporary {
    fn new(what: &str) -> Temporary {
        Temporary(path(what))
    }
    fn name(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn regdump(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cxddp-regdump"));
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null()).output().expect("the binary runs")
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

#[track_caller]
fn succeeded(output: &Output) -> &str {
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    out(output)
}

fn object(text: &str) -> Value {
    serde_json::from_str(text).expect("one JSON value")
}

/// Field `field` of item `item` of a section.
fn field<'a>(dump: &'a Value, section: &str, item: &str, field: &str) -> &'a Value {
    let items = dump["sections"][section]["items"].as_array().unwrap_or_else(|| panic!("no section {section}"));
    let item = items.iter().find(|other| other["name"] == item).unwrap_or_else(|| panic!("no item {item}: {items:?}"));
    let parts = item["parts"].as_array().expect("an array");
    parts
        .iter()
        .map(|part| &part["fields"][field])
        .find(|value| !value.is_null())
        .unwrap_or_else(|| panic!("no field {field}: {parts:?}"))
}

#[test]
fn a_function_in_another_process_is_shown() {
    let socket = path("nic.sock");
    let mut hub = Hub::new(&HubConfig::default(), Uplink::None).expect("no capture");
    hub.add(Function::new("one", virtual_nic::Config::default()), &socket).expect("a path of our own");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let serving = std::thread::spawn(move || {
        while !stopped.load(Ordering::Acquire) {
            hub.turn(Duration::from_millis(10));
        }
        hub
    });
    let device = format!("vfio-user:{}", socket.display());
    let output = regdump(&["--device", &device, "--json"]);
    let second = regdump(&["--device", &device]);
    stop.store(true, Ordering::Release);
    let mut hub = serving.join().expect("the server panicked");
    let dump = object(succeeded(&output));
    assert_eq!((&dump["format"], &dump["version"]), (&"connectx-ddp regdump".into(), &1.into()));
    assert_eq!(dump["problems"], Value::Array(Vec::new()));
    assert_eq!(dump["sections"].as_object().expect("an object").len(), SectionName::ALL.len());
    assert_eq!(field(&dump, "pci", "configuration space", "device_id"), 0x1021);
    assert_eq!(field(&dump, "pci", "configuration space", "link_status.width"), 16);
    assert_eq!(field(&dump, "init", "initialization segment", "fw_rev.major"), 28);
    assert_eq!(field(&dump, "health", "health buffer", "synd"), 0);
    assert_eq!(field(&dump, "caps", "GENERAL", "log_max_cq"), 24);
    assert_eq!(field(&dump, "caps", "NVMEOTCP", "zerocopy"), 1);
    assert_eq!(field(&dump, "ports", "PAOS", "oper_status"), 1);
    assert_eq!(field(&dump, "vport", "state", "state"), 1);
    let text = succeeded(&second);
    assert!(text.contains("MSI-X (capability 0x11 at 0x9c)") && text.contains("64 vectors"), "{text}");
    assert_eq!(report::dma_violations(&mut hub), 0, "{}", report::Report::of(&mut hub).text());
    let function = hub.functions().next().expect("one");
    assert_eq!(function.nic.counters().misuse.clone(), Default::default(), "what a driver never should");
    assert!(function.nic.inventory().is_empty(), "{}", function.nic.inventory());
}

#[test]
fn a_saved_dump_shows_the_same() {
    let file = Temporary::new("dump.json");
    assert_eq!(succeeded(&regdump(&["--save", file.name()])), "");
    for style in [&["--json"][..], &["--raw"], &["--zeros"], &["--section", "caps,pci"], &["--json", "--raw"]] {
        let shown = regdump(style);
        let loaded = regdump(&[style, &["--load", file.name()]].concat());
        let positional = regdump(&[style, &[file.name()]].concat());
        assert_eq!(succeeded(&loaded), succeeded(&shown), "{style:?}");
        assert_eq!(succeeded(&positional), succeeded(&shown), "{style:?}");
    }
    let nothing = regdump(&["diff", file.name(), file.name()]);
    assert_eq!(succeeded(&nothing), "");
}

/// Shows a running driver to whoever asks.
struct Served {
    server: Option<Server>,
    desk: Desk,
    /// The others have seen enough.
    enough: Arc<AtomicBool>,
}

impl Tap for Served {
    fn frame(&mut self, _: Duration, _: Direction, _: &[u8]) {}

    fn session(&mut self, session: &mut Session<VirtualPlatform>, moment: Moment) {
        self.desk.poll(session);
        // The connections stay until everybody has looked.
        while moment == Moment::Done && !self.enough.load(Ordering::Acquire) {
            session.poll();
            self.desk.poll(session);
            std::thread::yield_now();
        }
        if moment == Moment::Closing {
            self.server = None;
        }
    }
}

/// Runs a demonstration while `look` looks at it through the socket.
fn while_it_runs<R>(config: &Config, look: impl FnOnce(&Path) -> R) -> R {
    let socket = path("stats.sock");
    let (server, desk) = Server::start(&socket).expect("a path of our own");
    let enough = Arc::new(AtomicBool::new(false));
    let mut served = Served { server: Some(server), desk, enough: Arc::clone(&enough) };
    std::thread::scope(|scope| {
        let run = scope.spawn(move || run_watched(config, &mut served, &mut |_| {}));
        // Whatever becomes of it, the run ends.
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(&socket)));
        enough.store(true, Ordering::Release);
        let outcome = run.join().expect("the run panicked").expect("it begins");
        assert!(outcome.verified, "{:?}", outcome.problems);
        assert!(!socket.exists(), "the socket goes with its server");
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Fields that traffic changes, by how their names end.
const MOVES: [&str; 17] = [
    "counter",
    "counter_24",
    "timer",
    "real_time",
    "octets",
    "packets",
    "consumer",
    "producer",
    "first",
    "ci",
    "_ok",
    "free",
    "entry",
    "len",
    "octword_size",
    "hw_counter",
    "start_addr",
];

#[test]
fn traffic_changes_only_what_it_may() {
    let config = Config { size: 48 << 20, ..Config::default() };
    let (before, after) = (Temporary::new("before.json"), Temporary::new("after.json"));
    let (first, listed) = while_it_runs(&config, |socket| {
        let device = format!("socket:{}", socket.display());
        let mut driver = Client::connect(socket).expect("it runs");
        // Until the connections are there.
        let first = loop {
            let dump = driver.dump(&[SectionName::Objects, SectionName::Rings]).expect("it answers");
            if dump.section(SectionName::Rings).is_some_and(|rings| rings.items.len() > 25) {
                break dump;
            }
        };
        succeeded(&regdump(&["--device", &device, "--save", before.name()]));
        let placed = |numbers: Value| numbers["shards"][0]["offload"]["bytes"].as_u64().expect("a number");
        let start = placed(driver.statistics().expect("it answers"));
        while placed(driver.statistics().expect("it answers")) < (start + (4 << 20)).min(40 << 20) {}
        succeeded(&regdump(&["--device", &device, "--save", after.name()]));
        (first, driver.events().expect("it answers"))
    });
    assert!(listed.iter().any(|event| event["event"] == "offload-added"), "{listed:?}");
    // Everything that the driver has is there.
    let objects = first.section(SectionName::Objects).expect("asked for");
    for kind in [
        "EQ",
        "CQ",
        "RQ",
        "SQ",
        "TIR",
        "TIS",
        "RQT",
        "mkey",
        "flow table",
        "flow group",
        "flow table entry",
        "tag buffer table",
    ] {
        let of_kind: Vec<_> =
            objects.items.iter().filter(|item| item.name.starts_with(&format!("{kind} 0x"))).collect();
        assert!(!of_kind.is_empty(), "no {kind}: {objects:?}");
        assert!(of_kind.iter().all(|item| item.problem.is_none()), "{of_kind:?}");
    }
    let load = |file: &Temporary| Dump::from_json(&std::fs::read(&file.0).expect("it was saved")).expect("a dump");
    let (a, b) = (load(&before), load(&after));
    let shown = [&a, &b].map(|dump| text::dump(dump, text::Style::default())).concat();
    for word in
        ["RESP_SEND", ": UMR", ": SEND", "destination_type=TIR", "nvmeotcp_zero_copy_en=1", "access_mode_1_0=KLMS"]
    {
        assert!(shown.contains(word), "no {word}: {shown}");
    }
    let found = diff::differences(&a, &b);
    assert!(found.iter().any(|difference| difference.field.ends_with("packets")), "{found:?}");
    for difference in &found {
        // What is in the rings is the traffic itself.
        if difference.section == SectionName::Rings {
            continue;
        }
        let last = difference.field.rsplit('.').next().unwrap_or_default();
        let may = MOVES.iter().any(|end| last.ends_with(end));
        assert!(may, "{difference}");
        assert!(
            !matches!(difference.section, SectionName::Caps | SectionName::Pci | SectionName::Ports),
            "{difference}"
        );
    }
    let told = regdump(&["diff", before.name(), after.name()]);
    assert_eq!(told.status.code(), Some(1));
    assert!(out(&told).contains("vport / counters / received_eth_unicast.packets: "), "{}", out(&told));
    assert_eq!(
        object(out(&regdump(&["diff", "--json", before.name(), after.name()]))).as_array().map(Vec::len),
        Some(found.len())
    );
}

/// Shows a dump in every way; whatever is in it, that ends.
fn show_in_every_way(dump: &Dump) -> String {
    for (raw, zeros) in [(true, true), (true, false), (false, true)] {
        text::dump(dump, text::Style { raw, zeros });
    }
    json::dump(dump, true);
    assert!(diff::differences(dump, dump).is_empty());
    text::dump(dump, text::Style::default())
}

#[test]
fn a_device_that_lies_is_shown() {
    let platform = Arc::new(VirtualPlatform::new("gone", virtual_nic::Config::default()));
    platform.nic().faults().set_gone(true);
    let dump = take(Arc::clone(&platform), SectionName::ALL);
    let shown = show_in_every_way(&dump);
    assert!(shown.contains("PROBLEM") && shown.contains("gone") && shown.contains("0xff"), "{shown}");

    // Answers that begin well, so that the function comes up, and go on with ones, zeros or noise.
    for seed in 0..40u32 {
        let platform = Arc::new(VirtualPlatform::new("liar", virtual_nic::Config::default()));
        let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
        platform.nic().faults().tamper_answers(Some(Box::new(move |opcode, answer| {
            let name = opcode.name().unwrap_or_default();
            if !name.starts_with("QUERY_") && name != "ACCESS_REG" || matches!(name, "QUERY_ISSI" | "QUERY_PAGES") {
                return;
            }
            for byte in answer.iter_mut().skip(8) {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                *byte = match seed % 4 {
                    0 => 0xff,
                    1 => 0,
                    _ => state as u8,
                };
            }
        })));
        let dump = take(Arc::clone(&platform), SectionName::ALL);
        let shown = show_in_every_way(&dump);
        if seed % 4 == 0 {
            // All ones announce every group, and every bit that nobody named is there to be seen.
            assert!(dump.section(SectionName::Caps).expect("asked for").items.len() > 20, "{shown}");
            assert!(shown.contains("unknown @"), "{shown}");
        }
        assert!(platform.nic().inventory().is_empty());
    }
}

/// The recorded commands of a real card, where they are.
fn recorded(test: &str) -> Option<PathBuf> {
    const NAME: &str = "traces/mlx5_core-connectx4-commands.txt.gz";
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference");
    let folder = std::env::var_os("CXDDP_REFERENCE").map_or(beside, PathBuf::from);
    let trace = folder.join(NAME);
    let gzip = Command::new("gzip").arg("--version").output().is_ok_and(|output| output.status.success());
    if trace.is_file() && gzip {
        return Some(trace);
    }
    let reason = format!("{NAME} is not beside the checkout (set CXDDP_REFERENCE to its folder), or there is no gzip");
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
    None
}

#[test]
fn a_real_cards_commands_are_decoded() {
    let Some(trace) = recorded("a_real_cards_commands_are_decoded") else { return };
    let trace = trace.to_str().expect("UTF-8");
    let all = regdump(&["trace", "show", trace]);
    let all = succeeded(&all);
    for line in [
        "QUERY_HCA_CAP GENERAL, current",
        "QUERY_HCA_CAP FLOW_TABLE, current",
        "ACCESS_REG write HOST_ENDIANNESS (0x7004)",
        "CREATE_EQ for commands",
        "QUERY_PAGES BOOT_PAGES",
        "    set: end_pad cc_query_allowed",
        "    max_wqe_sz_sq             0x400  1024",
        "    the trace has 16 of its 32 bytes",
        // What a ConnectX-4 has and the tables have no name for.
        "    unknown @0x40.18:17 @0x44.22",
    ] {
        assert!(all.lines().any(|other| other.starts_with(line)), "no {line:?}");
    }
    let commands = object(succeeded(&regdump(&["trace", "show", trace, "--json"])));
    let commands = commands.as_array().expect("an array");
    assert_eq!(commands.len(), 42);
    for command in commands {
        let name = command["command"].as_str().expect("a name");
        assert!(!name.contains("0x") || name.contains("op_mod") || name.contains("HOST_ENDIANNESS"), "{name}");
        assert_eq!(command["output"]["parts"][0]["fields"]["status"], 0, "{name}");
    }
    let groups = regdump(&["trace", "show", trace, "--command", "QUERY_HCA_CAP"]);
    let groups: std::collections::BTreeSet<_> =
        succeeded(&groups).lines().filter_map(|line| line.strip_prefix("QUERY_HCA_CAP ")).collect();
    assert!(groups.len() >= 10 && groups.contains("ATOMIC, current"), "{groups:?}");
    let checksum = |name: &str| {
        let found = commands.iter().find(|command| command["command"] == name).expect("it is in the record");
        &found["output"]["parts"][1]["fields"]["cmdif_checksum"]
    };
    assert_eq!(
        (checksum("QUERY_HCA_CAP GENERAL, maximum"), checksum("QUERY_HCA_CAP GENERAL, current")),
        (&3.into(), &0.into())
    );
}

/// A trace of `cxddp probe` on the virtual ConnectX, with what a configuration changes.
fn probed(config: adapter::Config) -> Temporary {
    let file = Temporary::new("trace");
    let trace = Some(Sink::create(&file.0, 1 << 30).expect("a file"));
    let platform = Arc::new(VirtualPlatform::new("nic", virtual_nic::Config::default()));
    let adapter = adapter::Adapter::bring_up(platform, adapter::Config { trace, ..config }).expect("it comes up");
    let deadline = adapter.command_deadline();
    assert!(adapter.teardown(deadline).is_clean());
    file
}

#[test]
fn traces_are_compared_by_field() {
    let (one, same, other) = (
        probed(adapter::Config::default()),
        probed(adapter::Config::default()),
        probed(adapter::Config { mtu: 4000, command_events: false, ..adapter::Config::default() }),
    );
    let compared = regdump(&["trace", "diff", one.name(), same.name()]);
    assert!(
        succeeded(&compared).ends_with("0 (~) in both in another order, 0 (-) only in A, 0 (+) only in B\n"),
        "{compared:?}"
    );
    let compared = regdump(&["trace", "diff", one.name(), other.name()]);
    assert_eq!(compared.status.code(), Some(1));
    for line in [
        "- CREATE_EQ for commands (only in A ",
        "    input  admin_mtu: 0x5f2  1522 -> 0xfb6  4022",
        "    input  nic_vport_context.mtu: 0x5f2  1522 -> 0xfb6  4022",
        "  ENABLE_HCA (A 0, line ",
    ] {
        assert!(out(&compared).lines().any(|other| other.starts_with(line)), "no {line:?} in {}", out(&compared));
    }
    let compared = regdump(&["trace", "diff", one.name(), other.name(), "--command", "PMTU", "--json"]);
    let found = object(out(&compared));
    assert_eq!(found["summary"]["differ"], 1, "{found}");
    let command = &found["commands"][1];
    assert_eq!((&command["command"], &command["a"]["number"]), (&"ACCESS_REG write PMTU (0x5003)".into(), &1.into()));
    let field = &command["differences"][0];
    assert_eq!(
        (&field["side"], &field["field"], &field["a"], &field["b"]),
        (&"input".into(), &"admin_mtu".into(), &1522.into(), &4022.into())
    );
    let firsts = regdump(&["trace", "diff", one.name(), other.name(), "--first", "5"]);
    assert!(succeeded(&firsts).contains("5 in both (5 the same)"), "{firsts:?}");

    // What is wrong is said with the file, and the line.
    let text = std::fs::read_to_string(&one.0).expect("a file");
    let bad = Temporary::new("bad");
    std::fs::write(&bad.0, text.replacen("000: 07", "000: 0z", 1)).expect("a file");
    refused(&["trace", "diff", one.name(), bad.name()], &[bad.name(), "line 4: expected four words"]);
    std::fs::write(&bad.0, format!("{text}{}", text.replace("nic: ", "cin: "))).expect("a file");
    refused(&["trace", "diff", one.name(), bad.name()], &[bad.name(), "2 functions", "--function: nic, cin"]);
    refused(&["trace", "show", one.name(), "--function", "x"], &[one.name(), "no function \"x\"; it has nic"]);
    let chosen = regdump(&["trace", "diff", bad.name(), bad.name(), "--function", "nic", "--function-b", "cin"]);
    succeeded(&chosen);
}

#[test]
fn work_requests_and_completions_are_shown() {
    let file = Temporary::new("trace");
    let config = virtual_nic::Config::default();
    let sink = Sink::create(&file.0, 1 << 30).expect("a file");
    let mut nic = virtual_nic::VirtualNic::new(config);
    nic.trace(virtual_nic::Tracing {
        sink: sink.clone(),
        function: "pf".into(),
        commands: true,
        wqes: true,
        cqes: true,
    });
    let cqe = Cqe64::zeroed().with(Cqe64::OP_OWN_OPCODE, 2).with(Cqe64::BYTE_CNT, 77);
    let wqe = WqeDataSeg::zeroed().with(WqeDataSeg::BYTE_COUNT_LENGTH, 1460);
    sink.entry(Duration::ZERO, "pf", EntryKind::ReceiveWqe, 0x12, 9, wqe.bytes());
    sink.entry(Duration::ZERO, "pf", EntryKind::Cqe, 0x400, 5, cqe.bytes());
    sink.finish().expect("it is written");
    let shown = regdump(&["trace", "show", file.name()]);
    let shown = succeeded(&shown);
    for line in ["WQE of RQ 0x12", "   9, segment 0", "CQE of CQ 0x400", "   5: RESP_SEND"] {
        assert!(shown.lines().any(|other| other == line), "no {line:?} in {shown}");
    }
    assert!(shown.contains("1460") && shown.contains("77"), "{shown}");
    let all = object(succeeded(&regdump(&["trace", "show", file.name(), "--json"])));
    assert_eq!((&all[1]["entry"], &all[1]["index"]), (&"CQE of CQ 0x400".into(), &5.into()));
}

#[test]
fn structures_are_decoded() {
    let file = Temporary::new("pmtu.hex");
    std::fs::write(&file.0, "# a register\n0000: 00010000 27100000\n0008: 05f2 0000 0x05f20000\n").expect("a file");
    let shown = regdump(&["decode", "--layout", "pmtu_reg", file.name()]);
    assert!(succeeded(&shown).contains("max_mtu     0x2710  10000"), "{shown:?}");
    let shown = regdump(&["decode", "--layout", "pmtu_reg", file.name(), "--json"]);
    assert_eq!(object(succeeded(&shown))["fields"]["oper_mtu"], 0x5f2);
    let list = regdump(&["decode", "--list"]);
    assert!(succeeded(&list).lines().any(|line| line.starts_with("cmd_hca_cap ") && line.contains("256 bytes")));
    std::fs::write(&file.0, "12 3").expect("a file");
    for (arguments, words) in [
        (&["decode", "--layout", "pmtu_reg", file.name()][..], &["\"3\"", "even number of hexadecimal digits"][..]),
        (&["decode", "--layout", "nothing", file.name()], &["\"nothing\"", "decode --list"]),
        (&["trace", "show", file.name()], &[file.name(), "there is no command in it", "dump command"]),
        (&["decode"], &["--layout", "--list"]),
        (&["trace", "show", "/nonexistent"], &["/nonexistent"]),
        (&["diff", file.name(), file.name()], &["it is no dump"]),
        (&["--load", file.name()], &["it is no dump"]),
    ] {
        refused(arguments, words);
    }
}

/// Exit status 2, nothing on standard output, one line on standard error that has all of `words`.
#[track_caller]
fn refused(arguments: &[&str], words: &[&str]) {
    let output = regdump(arguments);
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), out(&output)), (Some(2), ""), "{arguments:?}: {line}");
    assert!(line.lines().count() == 1 && line.starts_with("cxddp-regdump: "), "{arguments:?}: {line:?}");
    for word in words {
        assert!(line.contains(word), "{arguments:?}: {line:?} does not say {word:?}");
    }
}

#[test]
fn bad_options_get_one_line() {
    refused(&["--section", "nothing"], &["--section", "\"nothing\"", "pci, init, health"]);
    refused(&["--device", "nothing"], &["--device", "vfio-user:PATH", "socket:PATH"]);
    refused(&["--device", "socket:"], &["--device", "a path is missing"]);
    refused(&["--device", "socket:/nonexistent/socket"], &["/nonexistent/socket", "--stats-socket"]);
    refused(&["--device", "vfio-user:/nonexistent/nic"], &["/nonexistent/nic", "cxddp-vnic serve"]);
    refused(&["--save", "/nonexistent/dump"], &["--save /nonexistent/dump"]);
    refused(&["--save", "x", "--json"], &["--save", "--json"]);
    refused(&["/nonexistent/dump"], &["/nonexistent/dump"]);
    refused(&["--load", "x", "y"], &["--load"]);
    let chosen = regdump(&["--section", "health,init", "--json"]);
    let chosen = object(succeeded(&chosen));
    let names: Vec<_> = chosen["sections"].as_object().expect("an object").keys().collect();
    assert_eq!(names, ["health", "init"]);
}

#[test]
fn help_teaches() {
    let help = regdump(&["--help"]);
    let help = succeeded(&help);
    for section in SectionName::ALL {
        assert!(help.contains(&format!("  {:<11}{}", section.name(), section.about())), "{help}");
    }
    for opcode in COMMANDS {
        assert!(help.contains(opcode.name().expect("a name")), "{help}");
    }
    let (_, own) = help.split_once("Sections:").expect("after the options");
    assert!(own.lines().all(|line| line.chars().count() <= 100), "{own}");
}
