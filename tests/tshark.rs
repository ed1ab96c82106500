//! The capture of a demonstration, judged by Wireshark's dissectors: an implementation of every protocol on the wire that is
//! not ours.
//!
//! | property | test |
//! |---|---|
//! | no frame is malformed, every checksum and digest is good, and the PDUs are those that were sent | `wireshark_finds_nothing_wrong` |
//! | a digest that is wrong is found: the judge looks | `wireshark_finds_what_is_wrong` |

#![cfg(feature = "demo")]

mod demo_support;
#[allow(dead_code, reason = "this test needs no reference tables")]
mod support;

use connectx_ddp::demo::{self, Config};
use demo_support::oracle::Oracle;
use demo_support::{assert_clean, run, scripted, small};
use nvme_target::script::{At, Fault, Kind, On, Order, Script, Size};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use virtual_nic::offload::WhichRun;

/// Status of a checksum or digest that is right, and of one that is wrong (`proto_checksum_vals` of Wireshark).
const GOOD: &str = "1";
const BAD: &str = "0";

/// A file that is gone when the test is.
struct Capture(PathBuf);

impl Capture {
    fn new(name: &str) -> Capture {
        Capture(std::env::temp_dir().join(format!("cxddp-tshark-{name}-{}.pcapng", std::process::id())))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn is_missing(test: &str) -> bool {
    let found = Command::new("tshark").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let missing = !found.is_ok_and(|status| status.success());
    if missing {
        support::skip(test, "tshark is not installed");
    }
    missing
}

/// What the dissectors say about one frame: the values of each field, in order.
type Judged = BTreeMap<&'static str, Vec<String>>;

const FIELDS: [&str; 12] = [
    "tcp.stream",
    "tcp.dstport",
    "tcp.checksum.status",
    "ip.checksum.status",
    "nvme-tcp.type",
    "nvme-tcp.hdgst.status",
    "nvme-tcp.ddgst.status",
    "nvme-tcp.data.length",
    "_ws.malformed",
    "_ws.expert.severity",
    "tcp.analysis.retransmission",
    "tcp.analysis.lost_segment",
];

/// Severity of Wireshark's expert information from which on something is wrong: PI_ERROR.
const ERROR: u64 = 0x0080_0000;

fn judge(capture: &Path) -> Vec<Judged> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(capture).args(["-T", "fields", "-E", "separator=/t", "-E", "aggregator=,"]);
    for preference in [
        "ip.check_checksum:TRUE",
        "tcp.check_checksum:TRUE",
        "tcp.desegment_tcp_streams:TRUE",
        "nvme-tcp.check_hdgst:TRUE",
        "nvme-tcp.check_ddgst:TRUE",
    ] {
        tshark.args(["-o", preference]);
    }
    tshark.args(["-d", "tcp.port==4420,nvme-tcp"]);
    for field in FIELDS {
        tshark.args(["-e", field]);
    }
    let output = tshark.output().expect("tshark runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let values = |column: &str| column.split(',').filter(|value| !value.is_empty()).map(str::to_owned).collect();
    text.lines().map(|line| FIELDS.into_iter().zip(line.split('\t').map(values)).collect()).collect()
}

/// All values of a field in frames that `take` takes.
fn all<'a>(frames: &'a [Judged], field: &str, take: impl Fn(&Judged) -> bool) -> Vec<&'a str> {
    frames.iter().filter(|frame| take(frame)).flat_map(|frame| frame[field].iter().map(String::as_str)).collect()
}

fn count(values: &[&str], value: &str) -> u64 {
    values.iter().filter(|v| **v == value).count() as u64
}

/// Number that Wireshark prints in decimal or, with 0x, in hexadecimal.
fn number(text: &str) -> u64 {
    let hex = text.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16));
    hex.unwrap_or_else(|| text.parse()).unwrap_or_else(|_| panic!("{text:?} is no number"))
}

/// A frame to the host on a connection of an I/O queue: the admin queue's is the first.
fn is_io(frame: &Judged) -> bool {
    frame["tcp.stream"].first().is_some_and(|stream| stream != "0") && frame["tcp.dstport"] != ["4420"]
}

#[test]
fn wireshark_finds_nothing_wrong() {
    if is_missing("wireshark_finds_nothing_wrong") {
        return;
    }
    // No padding: Wireshark looks for the data digest of a PDU without regard to PDO.
    let crumbs = Script {
        seed: 5,
        c2h_data: Size::Between { min: 64, max: 6000 },
        r2t: Size::AtMost(10_000),
        order: Order::Interleaved,
        ..Script::default()
    };
    for (name, mtu, script) in
        [("plain", 1500, Script::default()), ("crumbs", 1500, crumbs.clone()), ("jumbo", 9000, crumbs)]
    {
        let capture = Capture::new(name);
        let config = Config {
            mtu,
            io_size: 24 << 10,
            queues: 2,
            hdr_digest: true,
            data_digest: true,
            write: true,
            pcap: Some(capture.0.clone()),
            ..scripted(small(), script)
        };
        let outcome = demo::run(&config, &mut |_| {}).expect("good options");
        assert_clean(&config, &outcome);
        // The same run again: what it sends is known to the oracle.
        let mut oracle = Oracle::new(WhichRun::First);
        assert_clean(&config, &run(&config, &mut oracle).expect("good options"));

        let frames = judge(&capture.0);
        let every = |field: &str| all(&frames, field, |_| true);
        assert_eq!(every("_ws.malformed"), [] as [&str; 0]);
        assert!(every("_ws.expert.severity").iter().all(|severity| number(severity) < ERROR));
        assert_eq!((every("tcp.analysis.retransmission").len(), every("tcp.analysis.lost_segment").len()), (0, 0));
        for checksum in ["ip.checksum.status", "tcp.checksum.status"] {
            let statuses = every(checksum);
            assert!(statuses.len() as u64 >= outcome.packets_rx && statuses.iter().all(|status| *status == GOOD));
        }
        let (types, headers, data) =
            (every("nvme-tcp.type"), every("nvme-tcp.hdgst.status"), every("nvme-tcp.ddgst.status"));
        assert!(headers.iter().chain(&data).all(|status| *status == GOOD), "{headers:?} {data:?}");
        // All PDUs but ICReq and ICResp have a header digest; all with data, a data digest.
        let initial = count(&types, "0") + count(&types, "1");
        assert_eq!((initial, headers.len() as u64), (2 * 3, types.len() as u64 - initial));
        assert!(data.len() as u64 >= count(&types, "6") + count(&types, "7"));
        // I/O queues, towards the host: the C2HData PDUs that were sent, each with a good digest, and all the data.
        let types = all(&frames, "nvme-tcp.type", is_io);
        assert_eq!(count(&types, "7"), oracle.data_pdus);
        assert_eq!(all(&frames, "nvme-tcp.ddgst.status", is_io).len() as u64, oracle.data_digests);
        assert_eq!(all(&frames, "nvme-tcp.hdgst.status", is_io).len() as u64, oracle.header_digests);
        let lengths = frames.iter().filter(|frame| is_io(frame) && frame["nvme-tcp.type"].contains(&"7".into()));
        let lengths: u64 = lengths.flat_map(|frame| &frame["nvme-tcp.data.length"]).map(|length| number(length)).sum();
        assert_eq!(lengths, config.size);
        assert!(count(&types, "9") > 0, "writes of 24 KiB need R2Ts");
    }
}

#[test]
fn wireshark_finds_what_is_wrong() {
    if is_missing("wireshark_finds_what_is_wrong") {
        return;
    }
    for (name, kind, field) in [
        ("hdgst", Kind::HeaderDigest, "nvme-tcp.hdgst.status"),
        ("ddgst", Kind::DataDigest, "nvme-tcp.ddgst.status"),
        ("payload", Kind::Payload, "nvme-tcp.ddgst.status"),
    ] {
        let capture = Capture::new(name);
        let script = Script { faults: vec![Fault { on: On::Queue(1), at: At::Data(9), kind }], ..Script::default() };
        let config =
            Config { hdr_digest: true, data_digest: true, pcap: Some(capture.0.clone()), ..scripted(small(), script) };
        let outcome = demo::run(&config, &mut |_| {}).expect("good options");
        assert!(!outcome.verified);
        let frames = judge(&capture.0);
        assert_eq!(count(&all(&frames, field, |_| true), BAD), 1, "{kind:?}");
    }
}
