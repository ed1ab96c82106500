//! The `cxddp` binary as people and programs use it: what goes where, and the exit status.
//!
//! | property | test |
//! |---|---|
//! | a bad option gets one line on standard error with option, value and what is allowed, status 2, and no output | `bad_options_get_one_line` |
//! | a run that cannot begin or be told of says why in one line, and fails | `what_cannot_be_done_is_said_in_one_line` |
//! | `--json` prints one object and nothing else, with every field that is promised, and sums that add up | `json_is_one_object_with_every_field` |
//! | a run that fails says so in the object, on standard error and by status 1, and still tells what is left | `a_failed_run_is_told_in_full` |
//! | the nine counters have the seed's names and agree with the rest | `the_nine_counters_agree` |
//! | without a terminal there is no progress bar and nothing on standard error | `without_a_terminal_there_is_only_the_summary` |
//! | a run is repeatable: the same seed gives the same numbers | `a_seed_repeats_a_run` |
//! | `explain` tells for each queue and each reason what was copied, what it means and what to do, and adds up | `explain_tells_why` |
//! | `explain --read` tells of one read, and of none that there is not | `explain_tells_of_one_read` |
//! | `probe` tells what the function is, for people and for programs | `probe_tells_what_the_function_is` |
//! | `stats` prints the numbers for people and for programs, and every number that there is | `stats_prints_the_numbers` |
//! | events come with a run's result when asked for, and only then | `events_come_when_asked_for` |
//! | `--metrics` serves while and after a run | `metrics_are_served` |
//! | `--stats-socket` lets another process look at a run, for people and for programs, and goes with it | `a_run_can_be_looked_at` |
//! | `simulate` tells sums, what was drawn and what was reached, for people and for programs | `simulate_tells_what_was_reached` |
//! | help and version are no errors | `help_and_version_succeed` |
//! | manual pages and completions are written, for every command and option | `pages_and_completions` |

#![cfg(feature = "demo")]

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn command(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cxddp"));
    command.args(arguments.split_whitespace()).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn cxddp(arguments: &str) -> Output {
    command(arguments).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// A file of `bytes` zeros that is gone when the test is.
struct Image(PathBuf);

impl Image {
    fn new(name: &str, bytes: u64) -> Image {
        let path = std::env::temp_dir().join(format!("cxddp-cli-{name}-{}", std::process::id()));
        std::fs::File::create(&path).and_then(|file| file.set_len(bytes)).expect("a temporary file");
        Image(path)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Exit status 2, nothing on standard output, one line on standard error that has all of `words`.
#[track_caller]
fn assert_refused(arguments: &str, output: &Output, words: &[&str]) {
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments}: {line}");
    assert_eq!(text(&output.stdout), "", "{arguments}");
    assert!(line.ends_with('\n') && line.lines().count() == 1, "{arguments}: {line:?}");
    assert!(line.starts_with("cxddp"), "{arguments}: {line:?} does not say who speaks");
    for word in words {
        assert!(line.contains(word), "{arguments}: {line:?} does not say {word:?}");
    }
}

#[test]
fn bad_options_get_one_line() {
    let (empty, odd) = (Image::new("empty", 0), Image::new("odd", 1000));
    let (empty, odd) = (empty.0.to_str().expect("UTF-8"), odd.0.to_str().expect("UTF-8"));
    let (serve_empty, serve_odd) = (format!("demo --image {empty}"), format!("demo --image {odd}"));
    let cases: &[(&str, &[&str])] = &[
        ("demo --image /nonexistent", &["--image", "/nonexistent", "cannot be opened", "file that can be read"]),
        ("demo --image /", &["--image /", "is not a regular file"]),
        (&serve_empty, &["--image", empty, "has 0 bytes", "positive multiple of the 512-byte block"]),
        (&serve_odd, &["--image", odd, "has 1000 bytes", "positive multiple of the 512-byte block"]),
        ("ceiling --threads 0", &["--threads 0", "1 to 64"]),
        ("ceiling --threads many", &["--threads", "many", "1 to 64"]),
        ("ceiling --write /nonexistent", &["--write /nonexistent", "is not a folder", "create it first"]),
        ("demo --peer none", &["--peer", "none", "smoltcp", "own"]),
        ("demo --metrics nowhere", &["--metrics", "nowhere", "expected a port"]),
        (
            "demo --metrics 192.0.2.1:1",
            &["--metrics", "192.0.2.1:1", "choose another port, or an address of this machine"],
        ),
        (
            "demo --stats-socket /nonexistent/socket",
            &["--stats-socket /nonexistent/socket", "no socket can be made there"],
        ),
        ("stats --from /nonexistent/socket", &["--from /nonexistent/socket", "--stats-socket"]),
        ("stats --from x --interval 1", &["--from", "--interval"]),
        ("demo --metrics-linger 5", &["--metrics"]),
        ("demo --metrics 1 --metrics-linger 99999", &["--metrics-linger", "0 to 86400"]),
        ("stats --interval 0", &["--interval", "0.1 to 86400"]),
        ("stats --size 1000", &["--size 1000", "positive multiple of the 512-byte block"]),
        ("simulate --seeds 0", &["--seeds", "0", "187..188"]),
        ("simulate --seeds 9..9", &["--seeds", "9..9", "a range that is not empty"]),
        ("simulate --threads 0", &["--threads", "0", "1 to 1024"]),
        ("demo --size 0", &["--size 0", "positive multiple of the 512-byte block"]),
        ("demo --size 1000", &["--size 1000", "positive multiple of the 512-byte block"]),
        ("demo --size 12Q", &["--size", "12Q", "KiB, MiB, GiB"]),
        ("demo --size", &["--size", "value is required"]),
        ("demo --size 99999999T", &["--size", "99999999T", "too large"]),
        ("demo --size 1MiB --image /etc/passwd", &["--size", "--image"]),
        ("demo --io-size 0", &["--io-size 0", "multiple of the 512-byte block", "512 to 524288"]),
        ("demo --io-size 513", &["--io-size 513", "512 to 524288"]),
        ("demo --io-size 1MiB", &["--io-size 1048576", "512 to 524288"]),
        ("demo --queue-size 0", &["--queue-size 0", "1 to 1024"]),
        ("demo --queue-size 1025", &["--queue-size 1025", "1 to 1024"]),
        ("demo --queue-size many", &["--queue-size", "many", "1 to 1024"]),
        ("demo --queue-size -1", &["-1"]),
        (
            "demo --queue-size 1024 --queues 8 --io-size 512KiB --size 64GiB",
            &["--queue-size 1024", "--queues 8", "--io-size 524288", "2147483648 bytes"],
        ),
        ("demo --queues 0", &["--queues 0", "1 to 8"]),
        ("demo --queues 9", &["--queues 9", "1 to 8"]),
        ("demo --queues 1.5", &["--queues", "1.5", "1 to 8"]),
        ("demo --mtu 1400", &["--mtu 1400", "1500 or 9000"]),
        ("demo --mtu jumbo", &["--mtu", "jumbo", "1500 or 9000"]),
        ("demo --inject flood", &["--inject", "flood", "fatal-health", "target-closes"]),
        ("demo --inject flr@soon", &["--inject", "flr@soon", "100", "5ms"]),
        ("demo --offload maybe", &["--offload", "maybe", "prefer, require, off"]),
        ("demo --offload-threshold many", &["--offload-threshold", "many", "auto, or a number of bytes"]),
        ("demo --offload-threshold 3GiB", &["--offload-threshold", "3GiB", "auto, or 0 to 2GiB"]),
        ("demo --pcap /nonexistent/a.pcapng", &["--pcap /nonexistent/a.pcapng", "folder does not exist"]),
        ("demo --pcap /", &["--pcap /", "is a folder"]),
        ("demo --seed x", &["--seed", "x", "0 to 18446744073709551615"]),
        ("demo --loss 51", &["--loss 51", "0 to 50"]),
        ("demo --loss some", &["--loss", "some", "0 to 50"]),
        ("demo --loss NaN", &["--loss NaN", "0 to 50"]),
        ("demo --burst 0", &["--burst 0", "1 to 1000"]),
        ("demo --delay 1000001", &["--delay 1000001", "0 to 1000000"]),
        ("demo --frobnicate", &["--frobnicate"]),
        ("demo --json=yes", &["--json", "yes"]),
        ("demo more", &["more"]),
        ("dome", &["dome"]),
        ("probe --device ffff:ff:1f.7", &["--device ffff:ff:1f.7", "lspci"]),
        ("probe --device nonsense", &["--device", "vfio-user:PATH"]),
        ("probe --device vfio-user:/nonexistent/nic.sock", &["/nonexistent/nic.sock", "cxddp-vnic serve"]),
        ("probe --queues 1", &["--queues"]),
        ("probe --trace /nonexistent/trace", &["--trace /nonexistent/trace", "No such file"]),
        ("probe --trace /dev/full", &["--trace", "No space left", "ends after 0 dumps"]),
        ("probe --device trace:", &["--device", "a file is missing", "trace:FILE"]),
        ("probe --device trace:/nonexistent/trace", &["/nonexistent/trace", "cxddp probe --trace FILE"]),
    ];
    for (arguments, words) in cases {
        assert_refused(arguments, &cxddp(arguments), words);
        // Programs get the same.
        if arguments.starts_with("demo") && !arguments.contains("json") && !arguments.ends_with("--size") {
            let arguments = format!("{arguments} --json");
            assert_refused(&arguments, &cxddp(&arguments), words);
        }
    }
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    // Nothing can be written here, which shows only when the capture or the result is.
    let full = "demo --size 64KiB --pcap /dev/full";
    assert_refused(full, &cxddp(full), &["--pcap /dev/full", "No space left"]);
    let mut overlay = command("demo --size 64KiB --write");
    let overlay = overlay.env("TMPDIR", "/nonexistent").output().expect("the binary runs");
    assert_refused("demo --write", &overlay, &["temporary file for --write", "No such file"]);
    for arguments in ["demo --size 64KiB", "demo --size 64KiB --json", "probe", "probe --json"] {
        let sink = std::fs::File::options().write(true).open("/dev/full").expect("a full device");
        let output = command(arguments).stdout(sink).output().expect("the binary runs");
        assert_refused(arguments, &output, &["cannot write the result", "No space left"]);
    }
}

/// Runs with `--json`, which must succeed: the object, with nothing before or behind it.
#[track_caller]
fn json(arguments: &str) -> Value {
    let output = cxddp(&format!("{arguments} --json"));
    assert_eq!(output.status.code(), Some(0), "{arguments}: {}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "{arguments}");
    let stdout = text(&output.stdout);
    assert!(stdout.starts_with('{') && stdout.ends_with("}\n"), "{stdout:?}");
    serde_json::from_str(stdout).expect("one JSON value")
}

#[track_caller]
fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("{field} is {:?}", value[field]))
}

const COUNTERS: [&str; 9] = [
    "rx_nvmeotcp_queue_init",
    "rx_nvmeotcp_queue_teardown",
    "rx_nvmeotcp_ddp_setup",
    "rx_nvmeotcp_ddp_setup_fail",
    "rx_nvmeotcp_ddp_teardown",
    "rx_nvmeotcp_drop",
    "rx_nvmeotcp_resync",
    "rx_nvmeotcp_offload_packets",
    "rx_nvmeotcp_offload_bytes",
];

#[test]
fn json_is_one_object_with_every_field() {
    for (offload, digest) in [("require", " --data-digest"), ("prefer", ""), ("off", " --data-digest --hdr-digest")] {
        let outcome = json(&format!("demo --size 1MiB --io-size 32KiB --offload {offload}{digest}"));
        assert_eq!(outcome["verified"], true);
        assert_eq!((number(&outcome, "bytes"), number(&outcome, "reads")), (1 << 20, 32));
        let (placed, copied) = (number(&outcome, "bytes_placed"), number(&outcome, "bytes_copied"));
        assert_eq!(placed + copied, 1 << 20);
        assert_eq!(placed == 0, offload == "off");
        let digests = (number(&outcome, "digests_hw"), number(&outcome, "digests_sw"));
        assert_eq!(
            digests,
            if digest.is_empty() {
                (0, 0)
            } else if offload == "off" {
                (0, 32)
            } else {
                (32, 0)
            }
        );
        assert!(number(&outcome, "packets_placed") <= number(&outcome, "packets_rx"));
        assert!(number(&outcome, "doorbells") > 0 && number(&outcome, "commands") > 0);
        assert_eq!((number(&outcome, "objects_left"), number(&outcome, "pages_left")), (0, 0));
        assert!(outcome["elapsed_s"].as_f64().is_some_and(|seconds| seconds > 0.0));
        let counters = outcome["counters"].as_object().expect("an object");
        assert_eq!(counters.len(), COUNTERS.len());
        assert!(COUNTERS.iter().all(|name| counters[*name].is_u64()), "{counters:?}");
    }
}

#[test]
fn a_failed_run_is_told_in_full() {
    // A wire that is dead for long times: which runs survive is a matter of the seed.
    let mut failed = 0;
    for seed in 1..=8 {
        let arguments = format!("demo --size 64KiB --loss 50 --burst 1000 --corrupt 20 --seed {seed} --json");
        let output = cxddp(&arguments);
        let outcome: Value = serde_json::from_slice(&output.stdout).expect("one JSON value");
        let verified = outcome["verified"].as_bool().expect("true or false");
        assert_eq!(output.status.code(), Some(if verified { 0 } else { 1 }), "{arguments}");
        let problems = outcome["problems"].as_array().expect("an array").iter().filter_map(Value::as_str);
        let lines: Vec<_> = problems.map(|problem| format!("cxddp demo: {problem}")).collect();
        assert_eq!(lines.is_empty(), verified, "{arguments}");
        let stderr: Vec<_> = text(&output.stderr).lines().filter(|line| line.starts_with("cxddp")).collect();
        assert_eq!(stderr, lines, "{arguments}");
        assert_eq!((number(&outcome, "objects_left"), number(&outcome, "pages_left")), (0, 0), "{arguments}");
        assert!(number(&outcome, "frames_lost") + number(&outcome, "frames_corrupted") > 0, "{arguments}");
        failed += u32::from(!verified);
        if !verified {
            let people = cxddp(arguments.trim_end_matches("--json"));
            assert_eq!(people.status.code(), Some(1), "{arguments}");
            assert!(!text(&people.stdout).contains("every byte verified"), "{arguments}");
        }
    }
    assert!(failed > 0, "every run survived: the wire was too kind for this test");
}

#[test]
fn the_nine_counters_agree() {
    let outcome = json("demo --size 1MiB --io-size 64KiB --queues 3 --offload require");
    let counter = |name: &str| number(&outcome["counters"], name);
    assert_eq!((counter("rx_nvmeotcp_queue_init"), counter("rx_nvmeotcp_queue_teardown")), (3, 3));
    assert_eq!((counter("rx_nvmeotcp_ddp_setup"), counter("rx_nvmeotcp_ddp_teardown")), (16, 16));
    let trouble = ["rx_nvmeotcp_ddp_setup_fail", "rx_nvmeotcp_drop", "rx_nvmeotcp_resync"].map(counter);
    assert_eq!(trouble, [0; 3]);
    assert_eq!(counter("rx_nvmeotcp_offload_packets"), number(&outcome, "packets_placed"));
    assert_eq!(counter("rx_nvmeotcp_offload_bytes"), number(&outcome, "bytes_placed"));
}

#[test]
fn without_a_terminal_there_is_only_the_summary() {
    let output = cxddp("demo --size 1MiB --data-digest --write");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
    let summary = text(&output.stdout);
    assert!(!summary.contains(['\x1b', '\r']), "{summary:?}");
    for word in ["every byte verified", "1.00 MiB", "by the NIC", "by software", "doorbells", "packets", "PDUs"] {
        assert!(summary.contains(word), "{summary} does not say {word:?}");
    }
    assert!(COUNTERS.iter().all(|name| summary.contains(name)), "{summary}");
}

#[test]
fn a_seed_repeats_a_run() {
    let run = |seed: u32| {
        let mut outcome = json(&format!("demo --size 1MiB --io-size 8KiB --write --seed {seed}"));
        let fields = outcome.as_object_mut().expect("an object");
        fields.retain(|name, _| !name.ends_with("_s") && name != "peak_rss_bytes");
        outcome
    };
    assert_eq!(run(5), run(5));
}

#[test]
fn explain_tells_why() {
    let lossy = "explain --size 4MiB --io-size 64KiB --loss 2 --data-digest";
    let output = cxddp(lossy);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let people = text(&output.stdout);
    let explained = json(lossy);
    let reasons = explained["reasons"].as_object().expect("an object");
    assert!(reasons.contains_key("late-packet") && reasons.contains_key("second-run"), "{reasons:?}");
    for (name, reason) in reasons {
        // Sentences are wrapped: their first words are enough.
        let words =
            |field: &str| reason[field].as_str().expect("a sentence").split(' ').skip(1).take(4).collect::<Vec<_>>();
        for text in [name.clone(), words("sentence").join(" "), words("advice").join(" ")] {
            assert!(people.contains(&text), "{people}\ndoes not say {text:?}");
        }
    }
    let copied = explained["copied"].as_object().expect("an object").values();
    assert_eq!(copied.map(|row| number(row, "bytes")).sum::<u64>(), number(&explained, "bytes_copied"));
    let queues = explained["queues"].as_array().expect("an array");
    assert_eq!(
        queues.iter().map(|queue| number(queue, "bytes_copied")).sum::<u64>(),
        number(&explained, "bytes_copied")
    );
    assert!(queues.iter().all(|queue| queue["offloaded"] == true && queue["reason"].is_null()));

    let off = text(&cxddp("explain --size 1MiB --offload off").stdout).to_owned();
    for words in ["queue 1: NOT offloaded: policy-off", "queue 2: NOT", "queue-not-offloaded", "use --offload prefer"] {
        assert!(off.to_lowercase().contains(&words.to_lowercase()), "{off}");
    }
    let auto = json("explain --size 8MiB --io-size 4KiB --offload-threshold auto");
    assert_eq!((&auto["threshold"]["auto"], &auto["verified"]), (&true.into(), &true.into()));
    let fixed = text(&cxddp("explain --size 1MiB --offload-threshold 1MiB").stdout).to_owned();
    assert!(fixed.contains("offload threshold: 1.00 MiB, fixed") && fixed.contains("below-threshold"), "{fixed}");
    let whole = text(&cxddp("explain --size 1MiB --align-pdus").stdout).to_owned();
    assert!(whole.contains("4 placed whole") && whole.contains("Software copied nothing"), "{whole}");
}

#[test]
fn explain_tells_of_one_read() {
    let run = "explain --size 1MiB --io-size 64KiB";
    let people = text(&cxddp(&format!("{run} --read 15 --offload off")).stdout).to_owned();
    for words in ["read 15: 64.0 KiB at byte 983 040", "bound     no", "queue-not-offloaded", "policy-off (queue"] {
        assert!(people.contains(words), "{people}");
    }
    let read = &json(&format!("{run} --read 3"))["read"];
    assert_eq!((number(read, "read"), number(read, "offset")), (3, 3 << 16));
    let reasons = read["reasons"].as_array().expect("an array");
    assert_eq!(reasons.iter().map(|reason| number(reason, "bytes")).sum::<u64>(), number(read, "copied"));
    assert_refused(run, &cxddp(&format!("{run} --read 16")), &["--read 16", "16 reads", "0 to 15"]);
    assert_refused(run, &cxddp(&format!("{run} --read x")), &["--read", "x", "from 0 on"]);
}

#[test]
fn simulate_tells_what_was_reached() {
    let output = cxddp("simulate --seeds 5..9 --threads 1 --json");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let object: Value = serde_json::from_slice(&output.stdout).expect("one object");
    let totals = &object["totals"];
    let number = |name: &str| totals["sums"][name].as_u64().unwrap_or_else(|| panic!("no {name}"));
    assert_eq!((totals["seeds"].as_u64(), totals["seeds_failed"].as_u64()), (Some(4), Some(0)));
    assert_eq!(number("placed") + number("copied"), number("bytes"));
    assert!(number("reads") > 0 && number("bytes_wrong") == 0);
    let hole = totals["drawn"]["hole"].as_object().expect("answers");
    assert_eq!(hole.values().filter_map(Value::as_u64).sum::<u64>(), 4);
    assert!(!totals["paths"]["device: framing lost"].is_null());
    let people = cxddp("simulate --seeds 5..9");
    assert_eq!((people.status.code(), text(&people.stderr)), (Some(0), ""));
    let lines = text(&people.stdout);
    for words in ["which_run", "device: framing lost", "every seed is good", "placed"] {
        assert!(lines.contains(words), "{words}");
    }
}

#[test]
fn probe_tells_what_the_function_is() {
    let output = cxddp("probe");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let people = text(&output.stdout);
    for words in [
        "15b3:1021",
        "ConnectX-7; this driver was tested on a virtual one only",
        "28.39.1002",
        "possible",
        "none of it on huge",
    ] {
        assert!(people.contains(words), "{words}: {people}");
    }
    let function = json("probe --device virtual");
    assert_eq!((&function["vendor_id"], &function["device_id"]), (&"0x15b3".into(), &"0x1021".into()));
    assert_eq!((&function["firmware"], &function["link_up"]), (&"28.39.1002".into(), &true.into()));
    assert_eq!((&function["model"], &function["tested"]), (&"ConnectX-7".into(), &"virtual".into()));
    assert!(number(&function, "dma_bytes") >= 1 << 20 && number(&function, "dma_huge_bytes") == 0);
    let offload = &function["offload"];
    assert_eq!((&offload["possible"], &offload["why_not"]), (&true.into(), &Value::Array(Vec::new())));
    assert_eq!((number(offload, "max_queue_size"), number(offload, "max_sgl_entries")), (1024, 128));
}

#[test]
fn stats_prints_the_numbers() {
    let output = cxddp("stats --size 1MiB");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let shown = text(&output.stdout);
    for line in
        ["function virtual", "shard 0", "rx_nvmeotcp_offload_bytes", "rx-nvme-tcp-bytes", "connection 1: I/O queue 1"]
    {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(!shown.contains("dropped_paws"), "it is 0");
    assert!(text(&cxddp("stats --size 1MiB --all").stdout).contains("dropped_paws"));
    let output = cxddp("stats --size 1MiB --json --events --interval 0.1");
    let lines: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    let last = lines.last().expect("one at least");
    assert_eq!(last["version"], 1);
    assert_eq!(
        last["shards"][0]["nvme"]["bytes_placed"]
            .as_u64()
            .zip(last["shards"][0]["nvme"]["bytes_copied"].as_u64())
            .map(|(a, b)| a + b),
        Some(1 << 20)
    );
    assert_eq!(last["shards"][0]["connections"][1]["queue_id"], 1);
    assert_eq!(last["events_forgotten"], 0);
    let output = cxddp("stats --list");
    assert_eq!(output.status.code(), Some(0));
    assert!(include_str!("../docs/stats.md").contains(text(&output.stdout).trim()));
}

#[test]
fn events_come_when_asked_for() {
    let object = |arguments: &str| -> Value { serde_json::from_slice(&cxddp(arguments).stdout).expect("an object") };
    let (without, with) = (object("demo --size 1MiB --json"), object("demo --size 1MiB --json --events"));
    assert!(without.get("events").is_none());
    let events = with["events"].as_array().expect("a list");
    assert!(events.iter().any(|event| event["event"] == "offload-added" && event["details"]["queue"] == 1));
    assert_eq!(with["events_forgotten"], 0);
    let shown = cxddp("demo --size 1MiB --events");
    assert!(text(&shown.stdout).contains("offload-added       connection 1  queue 1"), "{}", text(&shown.stdout));
}

#[test]
fn a_run_can_be_looked_at() {
    let socket = std::env::temp_dir().join(format!("cxddp-cli-stats-{}.sock", std::process::id()));
    let name = socket.to_str().expect("UTF-8");
    let mut child = command(&format!("demo --size 8GiB --json --stats-socket {name}"))
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let look = |arguments: &str| loop {
        let output = cxddp(&format!("stats --from {name} {arguments}"));
        if output.status.success() || std::time::Instant::now() > patience {
            break output;
        }
    };
    let (people, programs) = (look("--events"), look("--json --events"));
    child.kill().expect("it was there");
    child.wait().expect("it ends");
    let people_text = text(&people.stdout);
    assert!(people_text.starts_with("function virtual, firmware ") && people_text.contains("\nevents\n"), "{people:?}");
    let numbers: Value = serde_json::from_slice(&programs.stdout).expect("one JSON object");
    assert_eq!((&numbers["version"], numbers["events"].is_array()), (&1.into(), true), "{numbers}");
    // A process that was killed leaves its socket: the next one takes it.
    assert!(socket.exists());
    assert!(cxddp(&format!("demo --size 1MiB --stats-socket {name}")).status.success());
    assert!(!socket.exists());
}

#[test]
fn metrics_are_served() {
    let mut child = command("demo --size 1MiB --metrics 127.0.0.1:0 --metrics-linger 600")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut line = || lines.next().expect("it goes on").expect("UTF-8");
    let first = line();
    let address = first.strip_prefix("metrics at http://").and_then(|rest| rest.strip_suffix("/metrics"));
    // The run is over when it says how long it stays.
    let second = line();
    assert!(second.contains("for 600 s"), "{second}");
    let mut stream = TcpStream::connect(address.expect("an address")).expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("it takes it");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    child.kill().expect("it was there");
    child.wait().expect("it ends");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("# EOF\n"), "{answer}");
    assert!(answer.contains("rx_nvmeotcp_queue_teardown_total{shard=\"0\"} 2"), "{answer}");
}

#[test]
fn help_and_version_succeed() {
    for (arguments, word) in [("--help", "demo"), ("demo --help", "--queue-size"), ("--version", "cxddp")] {
        let output = cxddp(arguments);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{arguments}");
        assert!(text(&output.stdout).contains(word), "{arguments}");
    }
    // No command at all: help, but not as if that were a success.
    let output = cxddp("");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""));
    assert!(text(&output.stderr).contains("Usage"));
}

#[test]
fn pages_and_completions() {
    let folder = std::env::temp_dir().join(format!("cxddp-cli-man-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let output = cxddp(&format!("--man {}", folder.display()));
    assert!(output.status.success(), "{output:?}");
    let page = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a page");
    assert!(page("cxddp.1").contains(".TH cxddp 1"));
    for command in ["ceiling", "demo", "explain", "probe", "read", "scale", "simulate", "stats"] {
        assert!(page(&format!("cxddp-{command}.1")).contains("$ cxddp"), "{command} has an example");
    }
    assert!(page("cxddp-demo.1").contains("offload\\-threshold"));
    std::fs::remove_dir_all(&folder).expect("ours");
    for shell in ["bash", "zsh", "fish"] {
        let output = cxddp(&format!("--completions {shell}"));
        assert!(output.status.success() && text(&output.stdout).contains("offload-threshold"), "{shell}");
    }
    let arguments = "--completions tcsh";
    assert_refused(arguments, &cxddp(arguments), &["bash, zsh or fish"]);
}
