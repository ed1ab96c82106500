//! What can be seen of a running driver: that every number is there, that all forms say the same, and the metrics server.
//!
//! | property | test |
//! |---|---|
//! | every set of counters that the sources declare is in the tree, and counters are declared in no other way | `no_counter_is_forgotten` |
//! | text, JSON and OpenMetrics of a run have every number of the tree, with the same value | `all_forms_say_the_same` |
//! | OpenMetrics text is what the specification says, whatever a name holds | `the_text_is_openmetrics` |
//! | the page about statistics has every number, with its unit and meaning | `the_page_has_every_number` |
//! | the nine counters have the seed's names, of shards and of connections, and add up | `the_seeds_names_are_there` |
//! | numbers of a run that is watched only grow, and the last ones are all of them | `numbers_only_grow` |
//! | so do they, and the events go on, when connections, queues or the whole function are made anew | `numbers_go_on_through_recovery` |
//! | events tell what happened, in order, and a full ring says what it forgot | `events_tell_the_story` |
//! | a run is scraped while it goes on: numbers grow from scrape to scrape, and the last scrape has all of them | `a_run_can_be_watched` |
//! | shards on threads of their own are one tree, each with its number, and what they share stands once | `shards_are_one_tree` |
//! | the server answers with the right type, and refuses what it does not serve | `the_server_speaks_http` |
//! | a client that is slow, silent, long-winded or one of too many is sent away, and others are served | `bad_clients_are_sent_away` |
//! | the parser is strict | `openmetrics::the_parser_is_strict` |

#![cfg(feature = "demo")]

#[path = "observe_support/openmetrics.rs"]
mod openmetrics;

use connectx_ddp::demo::{self, Impairments, Moment, Tap, WireConfig, scale};
use connectx_ddp::observe::counter::{Reading, Unit};
use connectx_ddp::observe::{
    CONTENT_TYPE, Collector, Detail, Direction, Event, Node, Publisher, RingCounters, Scope, Server, Snapshot, Zeros,
    event_json, metric_name, openmetrics as render, reference, snapshot_json, snapshot_text,
};
use connectx_ddp::platform::virtual_nic::VirtualPlatform;
use connectx_ddp::session::{Level, Session};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Keeps what a run shows.
#[derive(Default)]
struct Watch {
    publisher: Option<Publisher>,
    polls: u64,
    often: Vec<Snapshot>,
    done: Option<Snapshot>,
    last: Option<Snapshot>,
    events: Vec<Event>,
    ring: RingCounters,
}

impl Tap for Watch {
    fn frame(&mut self, _: Duration, _: Direction, _: &[u8]) {}

    fn session(&mut self, session: &mut Session<VirtualPlatform>, moment: Moment) {
        match moment {
            Moment::Polled => {
                self.polls += 1;
                if self.polls % 8 == 1 {
                    self.often.push(session.snapshot());
                }
                if let Some(publisher) = &mut self.publisher {
                    publisher.poll(|| session.snapshot());
                }
            }
            Moment::Done => {
                self.often.push(session.snapshot());
                self.done = self.often.last().cloned();
            }
            Moment::Closing => {
                self.often.push(session.snapshot());
                self.last = self.often.last().cloned();
                self.events = session.event_log().events().cloned().collect();
                self.ring = session.event_log().counters();
            }
        }
    }
}

/// A run over a wire that loses frames: everything that moves, moves.
fn run(loss: f64) -> Watch {
    let lossy = Impairments { loss, ..Impairments::default() };
    let config = demo::Config {
        size: 8 << 20,
        data_digest: true,
        wire: WireConfig { to_host: lossy, ..WireConfig::default() },
        seed: 2,
        ..demo::Config::default()
    };
    let mut watch = Watch::default();
    let outcome = demo::run_watched(&config, &mut watch, &mut |_| {}).expect("good options");
    assert!(outcome.verified, "{:?}", outcome.problems);
    watch
}

/// Where a number stands: labels of its place, its set, name and reason.
type Place = (Scope, Option<u32>, Option<u32>, &'static str, String, Option<String>);

fn place(node: Node<'_>, group: &'static str, reading: &Reading<'_>) -> Place {
    let (first, second) = match node {
        Node::Function(_) => (None, None),
        Node::Session(session) => (Some(session.session), None),
        Node::Shard(shard) => (Some(shard.shard), None),
        Node::Connection(shard, connection) => (Some(shard), Some(connection.connection)),
    };
    let reason = reading.reason.map(|(reason, _)| reason.to_owned());
    (node.scope(), first, second, group, reading.family.name.to_owned(), reason)
}

/// Every number of the tree.
fn numbers(snapshot: &Snapshot) -> BTreeMap<Place, u64> {
    let mut all = BTreeMap::new();
    snapshot.walk(&mut |node, group, set| {
        set.read(&mut |reading| {
            let at = place(node, group.name(), &reading);
            assert_eq!(all.insert(at.clone(), reading.value), None, "{at:?} twice");
        });
    });
    all
}

fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => sources(&path, found),
            false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
            false => {}
        }
    }
}

#[test]
fn no_counter_is_forgotten() {
    let mut shown = BTreeSet::new();
    Snapshot::empty().walk(&mut |_, _, set| _ = shown.insert(set.path().to_owned()));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut declared = BTreeSet::new();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("a source");
        let relative = path.strip_prefix(&root).expect("below it").with_extension("");
        let module: Vec<_> = relative.iter().filter_map(|part| part.to_str()).filter(|part| *part != "mod").collect();
        if module == ["observe", "counter"] || module.first() == Some(&"demo") {
            continue;
        }
        let mut open = false;
        for line in text.lines() {
            open |= line == "counters! {" || line == "gauges! {";
            let word = |line: &str| line.split([' ', '{', ';']).next().unwrap_or_default().to_owned();
            match (open, line.trim_start().strip_prefix("pub struct ")) {
                (true, Some(name)) => {
                    declared.insert(format!("connectx_ddp::{}::{}", module.join("::"), word(name)));
                    open = false;
                }
                (false, Some(name)) => {
                    let name = word(name);
                    let looks = ["Counters", "Rejections"].iter().any(|end| name.ends_with(end)) || name == "Stats";
                    assert!(!looks, "{name} of {} is not declared with counters!", path.display());
                }
                _ => {}
            }
        }
    }
    assert!(declared.len() > 10, "{declared:?}");
    let derived = |path: &&String| path.ends_with("::SeedNames") || path.ends_with("::KernelNames");
    let shown: BTreeSet<String> = shown.iter().filter(|path| !derived(path)).cloned().collect();
    assert_eq!(declared, shown, "declared and shown differ: see Snapshot::walk");
}

#[test]
fn all_forms_say_the_same() {
    let snapshot = run(0.02).done.expect("done");
    assert_eq!(snapshot.shards[0].connections.len(), 3);
    let all = numbers(&snapshot);
    assert!(all.values().filter(|n| **n != 0).count() > 100);

    // JSON: a number at its path, and none beside them.
    let json = snapshot_json(&snapshot);
    let mut count = 0;
    for ((scope, _, connection, group, name, reason), value) in &all {
        let node = match (scope, connection) {
            (Scope::Function, _) => &json["function"],
            (Scope::Session, _) => &json["sessions"][0],
            (_, None) => &json["shards"][0],
            (_, Some(serial)) => {
                let all = json["shards"][0]["connections"].as_array().expect("connections");
                all.iter().find(|c| c["connection"] == *serial).expect("this one")
            }
        };
        let found = &node[*group][name];
        let found = reason.as_ref().map_or(found, |reason| &found[reason]);
        assert_eq!(found.as_u64(), Some(*value), "{scope:?} {group} {name} {reason:?}");
        count += 1;
    }
    let in_groups = |node: &serde_json::Value| -> usize {
        let groups = node.as_object().expect("an object").values().filter_map(|group| group.as_object());
        groups.flat_map(|group| group.values()).map(|n| n.as_object().map_or(1, |reasons| reasons.len())).sum()
    };
    let connections = json["shards"][0]["connections"].as_array().expect("connections");
    let in_json = in_groups(&json["function"])
        + in_groups(&json["sessions"][0])
        + in_groups(&json["shards"][0])
        + connections.iter().map(in_groups).sum::<usize>();
    assert_eq!(in_json, count);

    // OpenMetrics: a sample with its labels, and none beside them but what says who is who.
    let families = openmetrics::parse(&render(&snapshot, Detail::Connections)).expect("strict");
    let mut expected = 0;
    snapshot.walk(&mut |node, group, set| {
        set.read(&mut |reading| {
            let (scope, first, connection, _, _, reason) = place(node, group.name(), &reading);
            let label = reading.family.by.unwrap_or("reason");
            let name = metric_name(node.scope(), group, reading.family);
            let family = &families[&name];
            let suffix = if family.kind == "counter" { "_total" } else { "" };
            let pairs = [
                (if scope == Scope::Session { "session" } else { "shard" }, first.map(|n| n.to_string())),
                ("connection", connection.map(|n| n.to_string())),
                (label, reason),
            ];
            let labels: BTreeMap<String, String> =
                pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
            let found = family.samples.get(&(format!("{name}{suffix}"), labels));
            let scale = if reading.family.unit == Unit::Nanoseconds { 1e9 } else { 1.0 };
            assert_eq!(found, Some(&(reading.value as f64 / scale)), "{name}");
            assert_eq!(family.help.as_deref(), Some(reading.family.help()), "{name}");
            expected += 1;
        });
    });
    let samples = |families: &BTreeMap<String, openmetrics::Family>| -> usize {
        let counted = families.values().filter(|family| family.kind != "info");
        counted.map(|family| family.samples.len()).sum::<usize>()
    };
    assert_eq!(samples(&families), expected + 1, "and the clock");
    assert_eq!(families["cxddp_connection"].samples.len(), 3);
    // Without connections: all the rest.
    let fewer = openmetrics::parse(&render(&snapshot, Detail::Shards)).expect("strict");
    assert!(fewer.keys().all(|name| !name.starts_with("cxddp_connection")));
    let of_connections = all.keys().filter(|place| place.2.is_some()).count();
    assert_eq!(samples(&fewer), expected + 1 - of_connections);

    // Text: a line for each number, or for those that are not 0.
    let lines = |zeros| snapshot_text(&snapshot, zeros).lines().map(str::trim).map(str::to_owned).collect::<Vec<_>>();
    let shown = lines(Zeros::Shown);
    for ((.., name, reason), value) in &all {
        let begins = reason.as_ref().map_or(name.clone(), |reason| format!("{name} {reason}"));
        let found = shown.iter().any(|line| {
            let mut words = line.strip_prefix(&begins).unwrap_or_default().split_whitespace();
            words.next().and_then(|n| n.parse().ok()) == Some(*value)
        });
        assert!(found, "{begins} {value}");
    }
    assert!(shown.len() > all.len() && lines(Zeros::Hidden).len() < all.len());
}

#[test]
fn the_text_is_openmetrics() {
    for detail in [Detail::Shards, Detail::Connections] {
        assert!(openmetrics::parse(&render(&Snapshot::default(), detail)).is_ok(), "of a driver that says nothing");
        let mut snapshot = Snapshot::empty();
        let address = "0000:01:00.0 \"quoted\" \\ and\na second line é";
        snapshot.function.address = address.to_owned();
        snapshot.shards[0].totals.tcp.bytes_in = u64::MAX;
        let families = openmetrics::parse(&render(&snapshot, detail)).expect("strict");
        let (_, labels) = families["cxddp_function"].samples.keys().next().expect("one");
        assert_eq!(labels["address"], address);
        assert_eq!(families["cxddp_shard_tcp_in_bytes"].unit.as_deref(), Some("bytes"));
        for (name, family) in &families {
            let unit = ["bytes", "seconds"].into_iter().find(|unit| name.ends_with(&format!("_{unit}")));
            assert_eq!(family.unit.as_deref(), unit, "{name}");
        }
        assert!(families.values().all(|family| family.help.as_ref().is_some_and(|help| help.ends_with('.'))));
    }
}

#[test]
fn the_page_has_every_number() {
    let page = include_str!("../docs/stats.md");
    assert!(
        page.contains(reference().trim()),
        "docs/stats.md is not what is declared: replace its tables with the output of `cargo run -- stats --list`"
    );
}

#[test]
fn the_seeds_names_are_there() {
    const SEED: [&str; 9] = [
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
    let watch = run(0.02);
    let snapshot = watch.done.expect("done");
    let families = openmetrics::parse(&render(&snapshot, Detail::Shards)).expect("strict");
    let json = snapshot_json(&snapshot);
    let connections = json["shards"][0]["connections"].as_array().expect("connections");
    for name in SEED {
        let of_shard = json["shards"][0]["seed"][name].as_u64().expect("a number");
        let of_connections: u64 = connections.iter().map(|c| c["seed"][name].as_u64().expect("a number")).sum();
        assert_eq!(of_shard, of_connections, "{name}: nothing has ended yet");
        assert!(families[name].samples.values().all(|n| *n == of_shard as f64));
    }
    for (name, at_least) in [("rx_nvmeotcp_queue_init", 2), ("rx_nvmeotcp_offload_bytes", 1 << 20)] {
        assert!(json["shards"][0]["seed"][name].as_u64().expect("a number") >= at_least, "{name}");
    }
    assert_eq!(json["shards"][0]["kernel"].as_object().expect("an object").len(), 10);
    let last = snapshot_json(&watch.last.expect("closing"));
    assert_eq!(last["shards"][0]["seed"]["rx_nvmeotcp_queue_teardown"], 2);
}

/// No counter of a function, session or shard goes back. Returns how many were compared.
fn expect_growth(snapshots: &[Snapshot]) -> usize {
    let mut before: BTreeMap<Place, u64> = BTreeMap::new();
    let mut compared = 0;
    for snapshot in snapshots {
        snapshot.walk(&mut |node, group, set| {
            if node.scope() == Scope::Connection || group.name() == "state" {
                return;
            }
            set.read(&mut |reading| {
                let at = place(node, group.name(), &reading);
                let last = before.insert(at.clone(), reading.value);
                assert!(last.is_none_or(|last| last <= reading.value), "{at:?} went back to {}", reading.value);
                compared += 1;
            });
        });
    }
    compared
}

#[test]
fn numbers_go_on_through_recovery() {
    for (fault, level, reset) in [
        ("target-closes", Level::Connections, false),
        ("sq-overrun", Level::Queues, false),
        ("fatal-health", Level::Function, true),
    ] {
        let inject = vec![fault.parse().expect("a fault")];
        let config = demo::Config { size: 8 << 20, inject, ..demo::Config::default() };
        let mut watch = Watch::default();
        let outcome = demo::run_watched(&config, &mut watch, &mut |_| {}).expect("good options");
        assert!(outcome.verified, "{fault}: {:?}", outcome.problems);
        expect_growth(&watch.often);
        let last = watch.last.expect("closing");
        let [session] = &last.sessions[..] else { panic!("one session") };
        assert_eq!((session.counters.recovered.get(level), session.counters.losses), (1, 1), "{fault}");
        assert!(session.gauges.longest_recovery_ns > 0);
        let totals = &last.shards[0].totals;
        assert_eq!(totals.shard.connections_opened, 6, "{fault}: an admin and two I/O queues, twice");
        assert_eq!(totals.shard.connections_ended.total(), 6, "{fault}");
        let named = |name: &str| watch.events.iter().filter(|event| event.what.name() == name).count();
        assert_eq!((named("lost"), named("recovered"), named("session-ended")), (1, 1, 0), "{fault}");
        assert_eq!(named("function-reset"), usize::from(reset), "{fault}");
        assert_eq!((named("connection-opened"), named("connection-ended")), (6, 6), "{fault}");
        // Every connection has a number of its own, over all shards.
        let opened = watch.events.iter().filter(|event| event.what.name() == "connection-opened");
        assert!(opened.map(|event| event.connection).eq((0..6).map(Some)), "{fault}");
        assert!(watch.events.is_sorted_by(|a, b| a.sequence + 1 == b.sequence && a.at <= b.at), "{fault}");
        assert_eq!(watch.ring, RingCounters { noted: watch.events.len() as u64, forgotten: 0 });
    }
}

#[test]
fn numbers_only_grow() {
    let watch = run(0.02);
    let compared = expect_growth(&watch.often);
    assert!(watch.often.len() > 20 && compared > 1000, "{} looks, {compared} numbers", watch.often.len());
    let last = watch.last.expect("closing");
    let shard = &last.shards[0];
    assert!(shard.connections.is_empty(), "all have ended");
    let totals = &shard.totals;
    assert_eq!(totals.shard.connections_opened, totals.shard.connections_ended.total());
    assert_eq!(totals.tcp.segments_in, totals.interface.tcp_in - totals.shard.no_connection);
    assert_eq!(
        totals.nvme.bytes_placed + totals.nvme.bytes_copied,
        8 << 20,
        "all of the image, of connections that ended"
    );
    assert_eq!(totals.nvme.submitted, totals.nvme.completed);
}

#[test]
fn events_tell_the_story() {
    let watch = run(0.02);
    let names: Vec<&str> = watch.events.iter().map(|event| event.what.name()).collect();
    let count = |name: &str| names.iter().filter(|n| **n == name).count();
    assert_eq!((count("connection-opened"), count("connection-ready"), count("connection-ended")), (3, 3, 3));
    assert_eq!((count("offload-added"), count("offload-removed")), (2, 2));
    let last = watch.last.expect("closing");
    let offload = &last.shards[0].totals.offload;
    assert!(offload.resync > 0 && count("resync-asked") as u64 == offload.resync, "{}", offload.resync);
    assert_eq!(count("resync-confirmed") as u64, offload.resync_confirmed);
    assert_eq!(watch.ring, RingCounters { noted: names.len() as u64, forgotten: 0 });
    assert!(watch.events.is_sorted_by_key(|event| event.sequence) && watch.events.is_sorted_by_key(|event| event.at));
    // Of one connection, in order.
    let of_first: Vec<&str> =
        watch.events.iter().filter(|event| event.connection == Some(1)).map(|event| event.what.name()).collect();
    let order = ["connection-opened", "connection-ready", "offload-added", "offload-removed", "connection-ended"];
    let mut at = of_first.iter();
    assert!(order.iter().all(|name| at.any(|found| found == name)), "{of_first:?}");
    for event in &watch.events {
        let json = event_json(0, event);
        assert_eq!(
            (json["sequence"].as_u64(), json["event"].as_str()),
            (Some(event.sequence), Some(event.what.name()))
        );
        let line = event.to_string();
        assert!(line.contains(event.what.name()) && !line.contains('\n'), "{line}");
    }
}

fn server(publishers: usize) -> (Server, Vec<Publisher>) {
    let (collector, ends) = Collector::new(publishers);
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    (Server::start(address, collector).expect("a free port"), ends)
}

#[test]
fn a_run_can_be_watched() {
    let (server, mut ends) = server(1);
    let address = server.address();
    let stop = AtomicBool::new(false);
    let metric = "cxddp_shard_loop_packets_rx";
    std::thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let mut seen = Vec::new();
            loop {
                let over = stop.load(Ordering::Acquire);
                let (_, _, body) = ask(address, b"GET /metrics?connections HTTP/1.1\r\n\r\n");
                let families = openmetrics::parse(&body).expect("strict");
                // Nothing before the first numbers come.
                if let Some(family) = families.get(metric) {
                    seen.extend(family.samples.values());
                }
                if over {
                    return seen;
                }
            }
        });
        let mut watch = Watch { publisher: ends.pop(), ..Watch::default() };
        let config = demo::Config { size: 32 << 20, ..demo::Config::default() };
        let outcome = demo::run_watched(&config, &mut watch, &mut |_| {}).expect("good options");
        assert!(outcome.verified);
        let last = watch.last.expect("closing");
        let packets = last.shards[0].totals.shard.packets_rx;
        watch.publisher.expect("still there").finish(last);
        stop.store(true, Ordering::Release);
        let seen = scraper.join().expect("no panic");
        assert!(seen.is_sorted(), "{seen:?}");
        assert_eq!(seen.last(), Some(&(packets as f64)));
        assert!(seen.len() > 1 && seen[0] < packets as f64, "{seen:?} while it went on");
    });
}

#[test]
fn shards_are_one_tree() {
    let (collector, ends) = Collector::new(3);
    let config = scale::Config { connections: 40, depth: 8, shards: 2, ..scale::Config::default() };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            let mut seen = Vec::new();
            while !over.load(Ordering::Acquire) {
                seen.push(collector.collect(Duration::from_secs(60)));
            }
            seen
        });
        let report = scale::run_published(&config, ends).expect("good options");
        over.store(true, Ordering::Release);
        assert!(report.verified, "{:?}", report.problems);
        let seen = looker.join().expect("no panic");
        let whole: Vec<Snapshot> = seen.into_iter().filter(|seen| seen.shards.len() == 2).collect();
        expect_growth(&whole);
    });
    let last = collector.collect(Duration::ZERO);
    let [first, second] = &last.shards[..] else { panic!("two shards") };
    assert_eq!((first.shard, second.shard), (0, 1));
    // 20 I/O connections each, and an admin connection.
    assert_eq!([first, second].map(|shard| shard.totals.shard.connections_opened), [21, 21]);
    assert_eq!([first, second].map(|shard| shard.totals.offload.sk_add), [20, 20]);
    assert!(last.function.totals.commands.posted > 40 && last.function.totals.host.lists > 2);
    let families = openmetrics::parse(&render(&last, Detail::Shards)).expect("strict");
    assert_eq!(families["rx_nvmeotcp_queue_init"].samples.len(), 2);
    assert_eq!(families["cxddp_function_commands_posted"].samples.len(), 1);
}

/// Sends a request as it is and returns status line, headers and body.
fn ask(address: SocketAddr, request: &[u8]) -> (String, String, String) {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    stream.write_all(request).expect("it takes the request");
    split(&mut stream)
}

fn split(stream: &mut TcpStream) -> (String, String, String) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let (status, headers) = head.split_once("\r\n").expect("headers");
    (status.to_owned(), headers.to_owned(), body.to_owned())
}

#[test]
fn the_server_speaks_http() {
    let (server, mut ends) = server(1);
    let snapshot = run(0.0).done.expect("done");
    ends.remove(0).finish(snapshot.clone());
    let address = server.address();
    for (target, detail) in [("/metrics", Detail::Shards), ("/metrics?connections", Detail::Connections)] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: here\r\nAccept: text/plain\r\n\r\n");
        let (status, headers, body) = ask(address, request.as_bytes());
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(headers.contains(&format!("Content-Type: {CONTENT_TYPE}")), "{headers}");
        assert!(headers.contains(&format!("Content-Length: {}", body.len())), "{headers}");
        assert_eq!(body, render(&snapshot, detail));
        let (status, headers, nothing) = ask(address, request.replace("GET", "HEAD").as_bytes());
        assert_eq!((status.as_str(), nothing.as_str()), ("HTTP/1.1 200 OK", ""));
        assert!(headers.contains(&format!("Content-Length: {}", body.len())), "{headers}");
    }
    let cases: [(&[u8], &str); 9] = [
        (b"GET / HTTP/1.1\r\n\r\n", "404"),
        (b"GET /metrics/ HTTP/1.1\r\n\r\n", "404"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405"),
        (b"get /metrics HTTP/1.1\r\n\r\n", "405"),
        (b"GET /metrics HTTP/2\r\n\r\n", "400"),
        (b"GET /metrics\r\n\r\n", "400"),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", "400"),
        (b"\xff\xfe\r\n\r\n", "400"),
        (b"\r\n\r\n", "400"),
    ];
    for (request, expected) in cases {
        let (status, headers, body) = ask(address, request);
        let request = String::from_utf8_lossy(request);
        assert!(status.starts_with(&format!("HTTP/1.1 {expected} ")), "{request:?}: {status}");
        assert!(headers.contains(&format!("Content-Length: {}", body.len())) && body.ends_with('\n'), "{headers}");
    }
    // A request in pieces is a request.
    let mut stream = TcpStream::connect(address).expect("the server listens");
    for piece in ["GET /met", "rics HTTP/1.0\r", "\n\r", "\n"] {
        stream.write_all(piece.as_bytes()).expect("it takes it");
        stream.flush().expect("sent");
    }
    assert_eq!(split(&mut stream).0, "HTTP/1.1 200 OK");
}

#[test]
fn bad_clients_are_sent_away() {
    // Nobody publishes: the text is about nothing, and comes all the same.
    let (server, ends) = server(1);
    drop(ends);
    let address = server.address();
    let (status, ..) = ask(address, &[b"GET /metrics HTTP/1.1\r\n".to_vec(), vec![b'x'; 9 << 10]].concat());
    assert!(status.starts_with("HTTP/1.1 431 "), "{status}");
    // One that hangs up, one that says half of it and waits.
    drop(TcpStream::connect(address).expect("the server listens"));
    let mut half = TcpStream::connect(address).expect("the server listens");
    half.write_all(b"GET /metr").expect("it takes it");
    half.shutdown(Shutdown::Write).expect("a FIN");
    assert!(split(&mut half).0.starts_with("HTTP/1.1 400 "));
    // Eight silent ones take all places: another one is sent away at once, until their time is over.
    let silent: Vec<_> = (0..8).map(|_| TcpStream::connect(address).expect("the server listens")).collect();
    let mut refused = 0;
    loop {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        let (status, ..) = split_or_busy(&mut stream);
        match status.as_str() {
            "HTTP/1.1 503 Service Unavailable" => refused += 1,
            "HTTP/1.1 200 OK" => break,
            other => panic!("{other}"),
        }
    }
    assert!(refused > 0);
    for mut stream in silent {
        assert!(split(&mut stream).0.starts_with("HTTP/1.1 408 "));
    }
}

/// Asks, and takes an answer that came before the question was read.
fn split_or_busy(stream: &mut TcpStream) -> (String, String, String) {
    // The server may have closed already.
    _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n");
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut chunk) {
        answer.extend_from_slice(&chunk[..n]);
    }
    let answer = String::from_utf8(answer).expect("UTF-8");
    match answer.split_once("\r\n") {
        Some((status, rest)) => (status.to_owned(), String::new(), rest.to_owned()),
        // The reset that follows may overtake it.
        None => ("HTTP/1.1 503 Service Unavailable".into(), String::new(), String::new()),
    }
}
