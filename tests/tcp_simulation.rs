//! Our TCP against smoltcp and against itself over a seeded bad wire, in virtual time.
//!
//! | property | test |
//! |---|---|
//! | over any wire, both directions arrive byte for byte, with smoltcp as the peer | `bytes_are_exact_against_smoltcp` |
//! | and through windows of any size, over a wire without loss | `small_windows_against_smoltcp` |
//! | and with ourselves, over any wire, through windows of any size, with both initial sequence numbers just below the wrap | `bytes_are_exact_against_ourselves_across_the_wrap` |
//! | each payload handed in comes back exactly once | both |
//! | a timer that is due does something; time never stands still | both |
//! | a clean wire sees no retransmission, no loss and no timeout | `a_clean_wire_sees_no_retransmission` |
//! | a write of 512 KiB goes through a smaller ring at MTU 9000 | `a_large_write_goes_through` |
//! | all of recovery is reached: losses by RACK, probes, undoing, timeouts, with and without SACK | `bytes_are_exact_against_ourselves_across_the_wrap` |
//! | over paths that lose and reorder, goodput with SACK is at least half as much again as that of NewReno and timeouts are a tenth; the table is printed | `recovery_with_sack_is_faster` |
//! | the same seed sends the same frames at the same times | `the_same_seed_is_the_same_run` |
//!
//! Why smoltcp gets no small window on a bad wire: its fast retransmit (0.14) sends a full segment whatever the window is,
//! and whatever it had sent before. Its sequence number is then beyond the window, so its acknowledgments are not
//! acceptable, and a window update that comes while its window probe timer runs leaves it without any timer.
//!
//! `CXDDP_TCP_SEEDS=10000` runs more seeds than usual (with `--release` some five minutes per 50000),
//! `CXDDP_TCP_SEEDS=187..188` the one that failed. `--nocapture recovery_with_sack_is_faster` prints the comparison.

mod tcp_support;

#[path = "tcp_support/our_host.rs"]
mod our_host;
#[path = "tcp_support/smoltcp_host.rs"]
mod smoltcp_host;
#[path = "tcp_support/wire.rs"]
mod wire;

use std::ops::Range;
use std::time::Duration;

use connectx_ddp::tcp::{Config, CongestionControl, ConnectionError, Counters, State};
use our_host::OurHost;
use smoltcp_host::SmoltcpHost;
use tcp_support::Random;
use wire::{App, Wire};

/// The seeds to run: 0 to `usual`, or what the environment says.
fn seeds(usual: u64) -> Range<u64> {
    let Ok(text) = std::env::var("CXDDP_TCP_SEEDS") else { return 0..usual };
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("CXDDP_TCP_SEEDS={text}: want N or N..M"));
    match text.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => 0..number(&text),
    }
}

/// Names the seed if a run panics.
struct Naming(u64);

impl Drop for Naming {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

fn config(random: &mut Random, seed: u64) -> Config {
    Config {
        receive_bytes: [700, 3000, 20_000, 70_000, 1 << 20][random.below(5) as usize],
        receive_payloads: [4, 16, 1024][random.below(3) as usize],
        send_bytes: [100, 5000, 100_000][random.below(3) as usize],
        initial_sequence: u32::MAX - random.below(30_000) as u32,
        timestamp_offset: random.next() as u32,
        timestamps: random.chance(600),
        sack: random.chance(750),
        congestion: if random.chance(500) { CongestionControl::Cubic } else { CongestionControl::NewReno },
        // The wire may be worse than what a data centre should wait for.
        connect_timeout: Duration::from_secs(1000),
        user_timeout: Duration::from_secs(3000),
        // A last acknowledgment may be lost many times, with a timeout that has grown to a minute.
        msl: Duration::from_secs(200),
        ack_delay: Duration::from_millis(seed % 50),
        ..Config::default()
    }
}

fn size(random: &mut Random) -> usize {
    let most = [1, 2000, 60_000, 200_000][random.below(4) as usize];
    random.below(most) as usize
}

fn check(host: &mut OurHost) {
    let tcp = host.tcp.as_mut().unwrap();
    assert_eq!(tcp.error(), None);
    assert!(matches!(tcp.state(), State::TimeWait | State::Closed));
    let left = tcp.drain().count() as u64;
    assert_eq!(left, 0, "everything was read");
    assert_eq!(host.given, host.returned, "each payload comes back once");
}

#[test]
fn bytes_are_exact_against_smoltcp() {
    for seed in seeds(150) {
        let _naming = Naming(seed);
        let mut random = Random(seed);
        let wire = Wire::random(&mut random);
        let (there, back) = (size(&mut random), size(&mut random));
        let mtu = [576, 1500, 9000][random.below(3) as usize];
        // More than is ever sent: the window does not close.
        let large = Config { receive_bytes: 1 << 20, receive_payloads: 1024, ..config(&mut random, seed) };
        against_smoltcp(seed, &mut random, wire, [there, back], mtu, large);
    }
}

#[test]
fn small_windows_against_smoltcp() {
    for seed in seeds(150) {
        let _naming = Naming(seed);
        let mut random = Random(seed ^ 0x5a5a);
        let wire = Wire { delay: Wire::random(&mut random).delay, ..Wire::CLEAN };
        let (there, back) = (size(&mut random), size(&mut random));
        let mtu = [576, 1500, 9000][random.below(3) as usize];
        let mut config = config(&mut random, seed);
        // With room for four segments most are dropped, and smoltcp finds each again by a timeout that doubles to a minute.
        config.receive_payloads = config.receive_payloads.max(16);
        against_smoltcp(seed, &mut random, wire, [there, back], mtu, config);
    }
}

fn against_smoltcp(seed: u64, random: &mut Random, wire: Wire, [there, back]: [usize; 2], mtu: u16, config: Config) {
    let eager = [300, 900, 1000][random.below(3) as usize];
    let buffer = [600, 10_000, 100_000][random.below(3) as usize];
    let mut ours = OurHost::new(1, config, App::new(seed, there, back, eager, true), mtu);
    let timestamps = random.chance(500);
    let mut theirs = SmoltcpHost::new(App::new(seed, back, there, eager, false), mtu, buffer, timestamps);
    wire.run(random, [&mut ours, &mut theirs]);
    // smoltcp's TIME-WAIT lasts 10 s. If all its acknowledgments of our last segment were lost and the timeout has grown
    // beyond that, it answers with a reset, and we cannot know that it had everything.
    if ours.tcp.as_ref().unwrap().error() == Some(ConnectionError::Reset) {
        assert!(ours.app.all_received() && theirs.app.all_received());
        return;
    }
    check(&mut ours);
}

#[test]
fn bytes_are_exact_against_ourselves_across_the_wrap() {
    let seeds = seeds(150);
    let many = seeds.end - seeds.start >= 150;
    let mut all = Counters::default();
    for seed in seeds {
        let _naming = Naming(seed);
        let mut random = Random(seed ^ 0xa5a5);
        let wire = Wire::random(&mut random);
        let (there, back) = (size(&mut random), size(&mut random));
        let mtu = [576, 1500, 9000][random.below(3) as usize];
        let configs = [config(&mut random, seed), config(&mut random, seed)];
        let eager = [300, 900, 1000][random.below(3) as usize];
        let [first, second] = configs;
        let mut first = OurHost::new(1, first, App::new(seed, there, back, eager, true), mtu);
        let mut second = OurHost::new(2, second, App::new(seed, back, there, eager, false), mtu);
        wire.run(&mut random, [&mut first, &mut second]);
        for host in [&mut first, &mut second] {
            check(host);
            add(&mut all, host.tcp.as_ref().unwrap().counters());
        }
    }
    let reached = [
        all.fast_retransmits,
        all.lost_segments,
        all.tail_loss_probes,
        all.rescues,
        all.spurious_recoveries,
        all.dsacks_in,
        all.timeouts,
    ];
    assert!(!many || reached.iter().all(|&count| count > 0), "{reached:?}");
    // Our receiver never reports what it did not get, and never throws away what it did.
    assert_eq!((all.bad_sack_blocks, all.sack_reneges), (0, 0));
}

/// What recovery counts.
fn add(all: &mut Counters, of: &Counters) {
    all.fast_retransmits += of.fast_retransmits;
    all.lost_segments += of.lost_segments;
    all.tail_loss_probes += of.tail_loss_probes;
    all.probes_mended += of.probes_mended;
    all.rescues += of.rescues;
    all.spurious_recoveries += of.spurious_recoveries;
    all.dsacks_in += of.dsacks_in;
    all.bad_sack_blocks += of.bad_sack_blocks;
    all.sack_reneges += of.sack_reneges;
    all.timeouts += of.timeouts;
    all.retransmitted_segments += of.retransmitted_segments;
}

#[test]
fn a_clean_wire_sees_no_retransmission() {
    for (timestamps, mtu) in [(true, 1500), (false, 1500), (true, 9000)] {
        let config = |initial_sequence| Config {
            timestamps,
            initial_sequence,
            receive_bytes: 1 << 18,
            send_bytes: 1 << 18,
            ..Config::default()
        };
        let n = 3 << 20;
        let mut first = OurHost::new(1, config(u32::MAX), App::new(1, n, n, 1000, true), mtu);
        let mut second = OurHost::new(2, config(7), App::new(1, n, n, 1000, false), mtu);
        Wire::CLEAN.run(&mut Random(1), [&mut first, &mut second]);
        for host in [&mut first, &mut second] {
            check(host);
            let counters = host.tcp.as_ref().unwrap().counters();
            assert_eq!((counters.retransmitted_segments, counters.timeouts), (0, 0));
            assert_eq!((counters.out_of_order, counters.duplicate_segments, counters.dropped_no_room), (0, 0, 0));
            assert_eq!((counters.dropped_out_of_window, counters.trimmed_back), (0, 0));
            assert_eq!((counters.bytes_in, counters.bytes_out), (n as u64, n as u64));
            let full = u64::from(mtu - if timestamps { 52 } else { 40 });
            assert!(counters.segments_out < 2 * (n as u64 / full) + 100, "{counters:?}");
        }
    }
}

#[test]
fn a_large_write_goes_through() {
    let n = 512 << 10;
    let config = Config { send_bytes: 256 << 10, ..Config::default() };
    let mut ours = OurHost::new(1, config, App::new(3, n, 0, 1000, true), 9000);
    let mut theirs = SmoltcpHost::new(App::new(3, 0, n, 1000, false), 9000, 1 << 20, false);
    Wire::CLEAN.run(&mut Random(3), [&mut ours, &mut theirs]);
    check(&mut ours);
    let counters = ours.tcp.as_ref().unwrap().counters();
    assert_eq!((counters.bytes_out, counters.retransmitted_bytes), (n as u64, 0));
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = |seed| {
        let delay = Duration::from_micros(300);
        let wire = Wire { drop: 300, duplicate: 200, reorder: 1000, corrupt: 100, delay, ..Wire::CLEAN };
        let mut random = Random(seed);
        let app = |first| App::new(9, 50_000, 50_000, 700, first);
        let mut first = OurHost::new(1, Config::default(), app(true), 1500);
        let mut second = OurHost::new(2, Config::default(), app(false), 1500);
        wire.run(&mut random, [&mut first, &mut second])
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

/// Loss recovery of a sender.
#[derive(Clone, Copy, PartialEq)]
enum Sender {
    NewReno,
    SackNewReno,
    SackCubic,
}

/// Bytes of one transfer of the comparison, and how many transfers are averaged.
const TRANSFER: usize = 1 << 20;
const TRANSFERS: u64 = 4;

/// The simulated time that a transfer takes over the wire, in seconds, and what the senders counted.
fn transfer(wire: Wire, sender: Sender) -> (f64, Counters) {
    let congestion = match sender {
        Sender::SackCubic => CongestionControl::Cubic,
        _ => CongestionControl::NewReno,
    };
    let (mut time, mut counters) = (Duration::ZERO, Counters::default());
    for seed in 0..TRANSFERS {
        let config = Config { sack: sender != Sender::NewReno, congestion, ..Config::default() };
        let mut first = OurHost::new(1, config.clone(), App::new(seed, TRANSFER, 0, 1000, true), 1500);
        let mut second = OurHost::new(2, config, App::new(seed, 0, TRANSFER, 1000, false), 1500);
        wire.run(&mut Random(seed), [&mut first, &mut second]);
        // Without the handshake: a lost SYN or ARP request costs everyone a second.
        time += second.received.unwrap() - first.opened.unwrap();
        add(&mut counters, first.tcp.as_ref().unwrap().counters());
    }
    (time.as_secs_f64() / TRANSFERS as f64, counters)
}

/// The paths of the comparison.
fn paths() -> Vec<(String, Wire)> {
    let near = Wire { rate: 10_000_000_000 / 8, queue: Duration::from_millis(1), ..Wire::CLEAN };
    let (delay, queue) = (Duration::from_millis(5), Duration::from_millis(10));
    let far = Wire { delay, rate: 1_000_000_000 / 8, queue, ..Wire::CLEAN };
    let mut all = Vec::new();
    for (name, path) in [("10 Gbit/s 0.1 ms", near), ("1 Gbit/s 10 ms", far)] {
        all.push((format!("{name}, clean"), path));
        for drop in [10, 50, 100, 200, 500] {
            all.push((format!("{name}, loss {} %", drop as f64 / 100.0), Wire { drop, ..path }));
        }
        all.push((
            format!("{name}, bursts of up to 20 us, 0.05 %"),
            Wire { drop: 5, burst: Duration::from_micros(20), ..path },
        ));
        for reorder in [100, 1000] {
            all.push((format!("{name}, reordering {} %", reorder / 100), Wire { reorder, ..path }));
        }
        all.push((format!("{name}, loss 1 %, reordering 10 %"), Wire { drop: 100, reorder: 1000, ..path }));
    }
    all
}

#[test]
fn recovery_with_sack_is_faster() {
    let (mut timeouts, mut gain, mut lossy) = ([0; 3], [0.0; 3], 0);
    println!("Goodput of {TRANSFERS} x {TRANSFER} bytes in Mbit/s (timeouts, segments sent again), in simulated time:");
    println!("{:48} {:>20} {:>20} {:>20}", "path", "NewReno, no SACK", "SACK, NewReno", "SACK, CUBIC");
    for (name, wire) in paths() {
        let runs = [Sender::NewReno, Sender::SackNewReno, Sender::SackCubic].map(|sender| transfer(wire, sender));
        let cells = runs.map(|(time, counters)| {
            let goodput = TRANSFER as f64 * 8.0 / time / 1e6;
            format!("{goodput:.1} ({}, {})", counters.timeouts, counters.retransmitted_segments)
        });
        println!("{name:48} {:>20} {:>20} {:>20}", cells[0], cells[1], cells[2]);
        if wire.drop + wire.reorder == 0 {
            assert!(runs.iter().all(|(_, counters)| counters.retransmitted_segments == 0), "{name}: nothing was lost");
            continue;
        }
        lossy += 1;
        for (i, (time, counters)) in runs.iter().enumerate() {
            timeouts[i] += counters.timeouts;
            gain[i] += (runs[0].0 / time).ln();
        }
    }
    let gain = gain.map(|sum: f64| (sum / f64::from(lossy)).exp());
    // Of one row little follows: it depends on which segments the draw takes.
    println!("With losses: goodput times {:.2}, {:.2}, {:.2}; timeouts {timeouts:?}", gain[0], gain[1], gain[2]);
    assert!(gain[1] > 1.5 && gain[2] > 1.5, "{gain:?}");
    assert!(10 * timeouts[1].max(timeouts[2]) < timeouts[0], "{timeouts:?}");
}
