//! Command-line options, and the one clear line that a bad value gets.

use super::device::{Device, VfioArgs};
use clap::{Args, Parser, Subcommand, ValueEnum};
use connectx_ddp::ddp::policy::{Costs, Threshold};
use connectx_ddp::demo::Injection;
use connectx_ddp::shard::OffloadPolicy;
use cxddp_manual::bytes as parse_size;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::str::FromStr;

const INSTALLATION: &str = "\
Begin with `cxddp demo`: it needs no card. `cxddp COMMAND --help` has an example of each.
`cxddp --man DIR` writes manual pages, `cxddp --completions bash|zsh|fish` prints completions.";

/// NVMe/TCP direct data placement on a ConnectX, from user space.
#[derive(Debug, Parser)]
#[command(name = "cxddp", version, about, arg_required_else_help = true, after_help = INSTALLATION)]
pub struct Cli {
    /// More messages: -v information, -vv debugging (RUST_LOG overrides).
    #[arg(short, long, action = clap::ArgAction::Count, global = true, display_order = 1000)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read a whole namespace through a virtual ConnectX whose offload places the payload, and verify every byte.
    Demo(DemoArgs),
    /// Measure placement and digests under loss and reordering, next to the ceilings of the offload (several minutes).
    Ceiling(CeilingArgs),
    /// Run the demonstration and tell, for each queue and each kind of read, why software copied what it copied.
    Explain(ExplainArgs),
    /// Bring the function up and tell what it is and whether the offload is possible.
    Probe(ProbeArgs),
    /// Read a namespace of an NVMe/TCP controller through a function that vfio-pci or `cxddp-vnic` has, compare it, or keep it.
    Read(Box<ReadArgs>),
    /// Offload thousands of connections on several shards, a thread each, read on all of them, and tell what each takes.
    Scale(ScaleArgs),
    /// Do what `demo` does and print every number of the driver instead: function, shards, connections.
    Stats(StatsArgs),
    /// Run many random worlds, each from one seed: sizes, digests, losses, every switch of the device, faults at random
    /// moments. Every byte is verified, and nothing may be left.
    Simulate(SimulateArgs),
}

/// Options of `cxddp demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Serve this file; its size must be a multiple of 512 bytes. It is never changed.
    #[arg(long, value_name = "FILE", conflicts_with = "size")]
    pub image: Option<PathBuf>,
    /// Without --image: serve a generated image of this size, whose blocks all differ.
    #[arg(long, value_name = "BYTES", value_parser = parse_size, default_value = "256MiB")]
    pub size: u64,
    /// Bytes of one read or write: a multiple of 512, at most 512KiB.
    #[arg(long, value_name = "BYTES", value_parser = parse_size, default_value = "128KiB")]
    pub io_size: u64,
    /// Requests in flight on each queue (1 to 1024, and not above the device's tag buffer table).
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = |text: &str| number::<u32>(text, "1 to 1024"))]
    pub queue_size: u32,
    /// I/O queues (1 to 8), each a TCP connection with an offload context of its own.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = |text: &str| number::<u32>(text, "1 to 8"))]
    pub queues: u32,
    /// Negotiate header digests.
    #[arg(long)]
    pub hdr_digest: bool,
    /// Negotiate data digests.
    #[arg(long)]
    pub data_digest: bool,
    /// IP MTU of the wire: 1500 or 9000.
    #[arg(long, value_name = "BYTES", default_value_t = 1500, value_parser = |text: &str| number::<u32>(text, "1500 or 9000"))]
    pub mtu: u32,
    /// What to do about the offload.
    #[arg(long, value_enum, default_value_t = OffloadChoice::Prefer)]
    pub offload: OffloadChoice,
    /// Reads of fewer bytes are copied; `auto` follows what binding and copying cost on this machine.
    #[arg(long, value_name = "BYTES|auto", value_parser = parse_threshold, default_value = "0")]
    pub offload_threshold: Threshold,
    /// First write the whole namespace (into a temporary overlay), then read it back.
    #[arg(long)]
    pub write: bool,
    /// Let the target start every PDU in a packet of its own, so that every payload byte can be placed.
    #[arg(long)]
    pub align_pdus: bool,
    /// Share of frames that the wire loses, in percent (0 to 50).
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub loss: f64,
    /// Mean number of frames lost in a row.
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = |text: &str| number::<f64>(text, "1 to 1000"))]
    pub burst: f64,
    /// Share of frames that are overtaken by others, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub reorder: f64,
    /// Frames by which a reordered one is overtaken.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = distance)]
    pub reorder_distance: u32,
    /// Share of frames that arrive twice, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub duplicate: f64,
    /// Share of frames with a flipped bit, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub corrupt: f64,
    /// Time that a frame is under way, in microseconds of simulated time.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0, value_parser = microseconds)]
    pub delay: u64,
    /// Cut what the target sends into segments of random size.
    #[arg(long, conflicts_with = "align_pdus")]
    pub segment: bool,
    /// The target's TCP: smoltcp is the independent judge, which after a loss goes back; ours has selective acknowledgments.
    #[arg(long, value_enum, default_value_t = PeerChoice::Smoltcp)]
    pub peer: PeerChoice,
    /// Which way frames suffer all that.
    #[arg(long, value_enum, default_value_t = Towards::Both)]
    pub towards: Towards,
    /// Let something go wrong while the namespace is read, and recover: when half of it is read, or @100 after 100 reads, or
    /// @5ms or @300us after so much simulated time. FAULT: fatal-health, hang, all-ones, flr, rq-error, sq-error, icosq-error, rq-overrun,
    /// sq-overrun, icosq-overrun, lost-command, target-closes. May be given several times.
    #[arg(long, value_name = "FAULT[@WHEN]")]
    pub inject: Vec<Injection>,
    /// Write every frame on the wire into a pcapng file.
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    pub json: bool,
    /// Seed of everything that is random: the generated image, initial sequence numbers, ports.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = seed)]
    pub seed: u64,
    /// Also print what happened, one by one: connections, offload, resync, failures, recovery.
    #[arg(long)]
    pub events: bool,
    /// Let `cxddp stats --from` and `cxddp-regdump --device socket:PATH` look at the driver while it runs, through a unix
    /// socket of this name that only its owner can use. Nothing can be changed through it.
    #[arg(long, value_name = "PATH")]
    pub stats_socket: Option<PathBuf>,
    /// Metrics.
    #[command(flatten)]
    pub serve: MetricsArgs,
}

/// Options of whatever can serve metrics.
#[derive(Clone, Debug, Args)]
pub struct MetricsArgs {
    /// Serve the driver's numbers as OpenMetrics text at http://ADDRESS:PORT/metrics. A port alone is on 127.0.0.1.
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = listen_address)]
    pub metrics: Option<SocketAddr>,
    /// Go on serving for so long after the run, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, requires = "metrics", value_parser = linger)]
    pub metrics_linger: u64,
}

/// Options of `cxddp stats`.
#[derive(Clone, Debug, Args)]
pub struct StatsArgs {
    /// What is done meanwhile.
    #[command(flatten)]
    pub demo: DemoArgs,
    /// Do nothing but print the numbers of a driver that runs with --stats-socket PATH, as they are now.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["interval", "list", "stats_socket"])]
    pub from: Option<PathBuf>,
    /// Print the numbers each time that so many seconds have passed, not only at the end. With --json, an object a line.
    #[arg(long, value_name = "SECONDS", value_parser = interval)]
    pub interval: Option<f64>,
    /// Show numbers that are 0 as well. JSON always has all.
    #[arg(long)]
    pub all: bool,
    /// Do nothing but print a table of every number that there is, with unit and meaning (Markdown).
    #[arg(long)]
    pub list: bool,
}

/// Options of `cxddp ceiling`.
#[derive(Clone, Debug, Args)]
pub struct CeilingArgs {
    /// Write loss.md and loss.svg into this folder, in place of printing the tables.
    #[arg(long, value_name = "DIR")]
    pub write: Option<PathBuf>,
    /// Only a few points, in seconds.
    #[arg(long)]
    pub quick: bool,
    /// Threads; the result does not depend on them.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = |text: &str| number::<usize>(text, "1 to 64"))]
    pub threads: usize,
    /// Seed of everything that is random.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = seed)]
    pub seed: u64,
}

/// Options of `cxddp explain`: those of `cxddp demo`, and which read.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// The demonstration.
    #[command(flatten)]
    pub demo: DemoArgs,
    /// Tell about this read only: 0 is the first of the namespace.
    #[arg(long, value_name = "N", value_parser = |text: &str| number::<u64>(text, "the number of a read, from 0 on"))]
    pub read: Option<u64>,
}

/// Options of `cxddp probe`.
#[derive(Clone, Debug, Args)]
pub struct ProbeArgs {
    /// Which function: `virtual` (the ConnectX inside this process), `vfio-user:PATH` (one that `cxddp-vnic serve` has),
    /// `trace:FILE` (none: commands are answered as --trace has recorded them, and the first that differs is told), or the PCI
    /// address of one that vfio-pci has, such as 0000:3b:00.0.
    #[arg(long, value_name = "DEVICE", default_value = "virtual")]
    pub device: Device,
    #[command(flatten)]
    pub vfio: VfioArgs,
    /// Write down every firmware command, input and output, in the form of mlx5_core's own debugging messages; `cxddp-regdump
    /// trace` shows and compares such files, and --device trace:FILE answers as one says.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    pub json: bool,
}

/// `--buffers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BuffersChoice {
    /// Memory of the driver.
    #[default]
    Own,
    /// Memory of this process.
    Pinned,
}

/// Options of `cxddp read`.
#[derive(Clone, Debug, Args)]
pub struct ReadArgs {
    /// Which function: `vfio-user:PATH` (one that `cxddp-vnic serve` has), or the PCI address of one that vfio-pci has, such as
    /// 0000:3b:00.0.
    #[arg(long, value_name = "DEVICE")]
    pub device: Device,
    #[command(flatten)]
    pub vfio: VfioArgs,
    /// IPv4 address that the function is to have on its wire, with the length of the prefix: nobody else may have it.
    #[arg(long, value_name = "ADDRESS/PREFIX", value_parser = interface)]
    pub ip: (Ipv4Addr, u8),
    /// Where packets for other networks go.
    #[arg(long, value_name = "ADDRESS")]
    pub gateway: Option<Ipv4Addr>,
    /// The NVMe/TCP controller. Without a port: 4420.
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = controller)]
    pub target: SocketAddrV4,
    /// Its subsystem.
    #[arg(long, value_name = "NQN")]
    pub nqn: String,
    /// Namespace.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub nsid: u32,
    /// First byte of the range: a multiple of the namespace's block.
    #[arg(long, value_name = "BYTES", value_parser = parse_size, default_value = "0")]
    pub offset: u64,
    /// Bytes of the range; without it, all that follows.
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub size: Option<u64>,
    /// Bytes of one request.
    #[arg(long, value_name = "BYTES", value_parser = parse_size, default_value = "128KiB")]
    pub io_size: u64,
    /// Requests in flight on each queue.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub queue_size: u16,
    /// I/O queues.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=15))]
    pub queues: u16,
    /// How often the range is read.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub passes: u32,
    /// Negotiate header digests.
    #[arg(long)]
    pub hdr_digest: bool,
    /// Negotiate data digests.
    #[arg(long)]
    pub data_digest: bool,
    /// IP MTU of the wire.
    #[arg(long, value_name = "BYTES", default_value_t = 1500, value_parser = clap::value_parser!(u16).range(576..=9978))]
    pub mtu: u16,
    /// What to do about the offload.
    #[arg(long, value_enum, default_value_t = OffloadChoice::Prefer)]
    pub offload: OffloadChoice,
    /// Reads of fewer bytes are copied; `auto` follows what binding and copying cost on this machine.
    #[arg(long, value_name = "BYTES|auto", value_parser = parse_threshold, default_value = "0")]
    pub offload_threshold: Threshold,
    /// Where reads are placed: in the driver's own memory, or in memory of this process that is lent to the device, in pieces
    /// that begin and end anywhere (not over vfio-user, and not without an IOMMU).
    #[arg(long, value_enum, default_value_t = BuffersChoice::Own)]
    pub buffers: BuffersChoice,
    /// Sleep on interrupts when there is nothing to do. Without it a CPU polls all the time.
    #[arg(long)]
    pub interrupts: bool,
    /// Compare what is read with this file, whose first byte is the namespace's.
    #[arg(long, value_name = "FILE", conflicts_with = "pattern")]
    pub content: Option<PathBuf>,
    /// Compare what is read with the blocks that all differ, as generated from this seed (cxddp-vnic serve --wire target has
    /// those of seed 1).
    #[arg(long, value_name = "SEED", value_parser = seed)]
    pub pattern: Option<u64>,
    /// First WRITE the range, with what it is compared with. What is there is lost.
    #[arg(long)]
    pub write: bool,
    /// Write what is read into this file.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// After a loss, try for so many seconds to reset, reconnect and go on; 0: the first loss is the end.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub ctrl_loss_timeout: u64,
    /// Write down every firmware command, input and output, in the form of mlx5_core's own debugging messages.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Name of this host; without it, the one in /etc/nvme/hostnqn, or one made of the host's identifier.
    #[arg(long, value_name = "NQN")]
    pub host_nqn: Option<String>,
    /// Identifier of this host; without it, the one in /etc/nvme/hostid, or a random one.
    #[arg(long, value_name = "UUID")]
    pub host_id: Option<String>,
    /// Let `cxddp stats --from` and `cxddp-regdump --device socket:PATH` look at the driver while it runs, through a unix
    /// socket of this name that only its owner can use. Nothing can be changed through it.
    #[arg(long, value_name = "PATH")]
    pub stats_socket: Option<PathBuf>,
    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    pub json: bool,
}

/// An address of this end: 192.168.44.10/24.
fn interface(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let how = || "give an IPv4 address and the length of the prefix, such as 192.168.44.10/24".to_owned();
    let (address, prefix) = text.split_once('/').ok_or_else(how)?;
    let address: Ipv4Addr = address.parse().map_err(|_| how())?;
    let prefix: u8 = prefix.parse().ok().filter(|prefix| (1..=32).contains(prefix)).ok_or_else(how)?;
    match address.is_unspecified() || address.is_multicast() || address.is_broadcast() || address.is_loopback() {
        true => Err(format!("no interface has this address; {}", how())),
        false => Ok((address, prefix)),
    }
}

/// A controller: an address, with or without a port.
fn controller(text: &str) -> Result<SocketAddrV4, String> {
    const NVME_TCP: u16 = 4420;
    match text.parse::<Ipv4Addr>() {
        Ok(address) => Ok(SocketAddrV4::new(address, NVME_TCP)),
        Err(_) => text.parse().map_err(|_| {
            "give an IPv4 address, with or without a port, such as 192.168.44.20 or 192.168.44.20:4420".to_owned()
        }),
    }
}

/// Options of `cxddp scale`.
#[derive(Clone, Debug, Args)]
pub struct ScaleArgs {
    /// Connections, each with an offload context.
    #[arg(long, value_name = "N", default_value_t = 4000, value_parser = |text: &str| number::<u32>(text, "1 to 12400"))]
    pub connections: u32,
    /// Tags of each connection: commands that it can have in flight (1 to 65534).
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = |text: &str| number::<u32>(text, "1 to 65534"))]
    pub depth: u32,
    /// Shards (1 to 8), a thread each.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = |text: &str| number::<u32>(text, "1 to 8"))]
    pub shards: u32,
    /// Time that firmware takes for a command, in microseconds of simulated time.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 50, value_parser = microseconds)]
    pub command_time: u64,
    /// Connections that a shard adds to the offload at a time.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = |text: &str| number::<u32>(text, "1 to 1024"))]
    pub batch: u32,
    /// Reads on each connection.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = |text: &str| number::<u32>(text, "1 to 1024"))]
    pub reads: u32,
    /// Bytes of one read: a multiple of 512, at most 512KiB.
    #[arg(long, value_name = "BYTES", value_parser = parse_size, default_value = "4KiB")]
    pub io_size: u64,
    /// Negotiate data digests.
    #[arg(long)]
    pub data_digest: bool,
    /// Let the function fail while all shards read, and recover for all of them: when half of the reads are done, or @100 after
    /// 100 reads of the first shard, or @5ms or @300us after so much simulated time. FAULT: fatal-health, all-ones, flr.
    #[arg(long, value_name = "FAULT[@WHEN]")]
    pub inject: Option<Injection>,
    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    pub json: bool,
    /// Seed of the generated image, initial sequence numbers and ports.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = seed)]
    pub seed: u64,
    /// Metrics.
    #[command(flatten)]
    pub serve: MetricsArgs,
}

/// Options of `cxddp simulate`.
#[derive(Clone, Debug, Args)]
pub struct SimulateArgs {
    /// How many seeds, from 0 on, or which: 187..188 is seed 187 alone.
    #[arg(long, value_name = "N|A..B", default_value = "1000", value_parser = seeds)]
    pub seeds: Seeds,
    /// Threads (1 to 1024); seeds share nothing.
    #[arg(long, value_name = "N", default_value_t = default_threads(), value_parser = threads)]
    pub threads: usize,
    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Seeds from `first` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// The first.
    pub first: u64,
    /// Behind the last.
    pub end: u64,
}

fn seeds(text: &str) -> Result<Seeds, String> {
    let allowed = "give a number of seeds, such as 1000, or a range that is not empty, such as 187..188";
    let (first, end) = match text.split_once("..") {
        Some((first, end)) => (first.parse().ok(), end.parse().ok()),
        None => (Some(0), text.parse().ok()),
    };
    match (first, end) {
        (Some(first), Some(end)) if first < end => Ok(Seeds { first, end }),
        _ => Err(allowed.to_owned()),
    }
}

fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn threads(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=1024).contains(n)).ok_or_else(|| "allowed is 1 to 1024".to_owned())
}

/// `--towards`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Towards {
    /// Frames to the host.
    Host,
    /// Frames to the target.
    Target,
    /// All.
    Both,
}

/// `--peer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PeerChoice {
    /// smoltcp.
    Smoltcp,
    /// The driver's own TCP, as the target's.
    Own,
}

/// `--offload`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OffloadChoice {
    /// Use it where possible.
    Prefer,
    /// Fail if it is not possible on every I/O queue.
    Require,
    /// Do not use it.
    Off,
}

impl From<OffloadChoice> for OffloadPolicy {
    fn from(choice: OffloadChoice) -> OffloadPolicy {
        match choice {
            OffloadChoice::Prefer => OffloadPolicy::Prefer,
            OffloadChoice::Require => OffloadPolicy::Require,
            OffloadChoice::Off => OffloadPolicy::Off,
        }
    }
}

/// A number; its range is checked with the rest of the configuration.
fn number<T: FromStr>(text: &str, allowed: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("allowed is {allowed}"))
}

/// Where to listen: a port, which is on loopback, or an address and a port.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    match text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
        Ok(port) => Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        Err(_) => text.parse().map_err(|_| {
            "expected a port (9100, on 127.0.0.1), or an address and a port (0.0.0.0:9100, [::1]:9100)".to_owned()
        }),
    }
}

fn linger(text: &str) -> Result<u64, String> {
    number(text, "0 to 86400").and_then(|seconds: u64| match seconds {
        0..=86_400 => Ok(seconds),
        _ => Err("allowed is 0 to 86400".into()),
    })
}

fn interval(text: &str) -> Result<f64, String> {
    number(text, "0.1 to 86400").and_then(|seconds: f64| match (0.1..=86_400.0).contains(&seconds) {
        true => Ok(seconds),
        false => Err("allowed is 0.1 to 86400".into()),
    })
}

fn percent(text: &str) -> Result<f64, String> {
    number(text, "0 to 50")
}

fn distance(text: &str) -> Result<u32, String> {
    number(text, "0 to 4294967295")
}

fn microseconds(text: &str) -> Result<u64, String> {
    number(text, "0 to 1000000")
}

fn seed(text: &str) -> Result<u64, String> {
    number(text, "0 to 18446744073709551615")
}

/// `auto`, or bytes up to 2 GiB: more no read has.
fn parse_threshold(text: &str) -> Result<Threshold, String> {
    if text == "auto" {
        return Ok(Threshold::Auto(Costs::Clock));
    }
    let bytes = parse_size(text).map_err(|why| format!("{why}; allowed is auto, or a number of bytes"))?;
    match u32::try_from(bytes) {
        Ok(bytes) if bytes <= 1 << 31 => Ok(Threshold::Fixed(bytes)),
        _ => Err("allowed is auto, or 0 to 2GiB".into()),
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | a port alone is on loopback, an address is taken as it is, nonsense is refused | `a_port_alone_is_on_loopback` |
    //! | seeds are a number or a range, and nonsense is refused | `seeds_are_read` |
    use super::*;

    #[test]
    fn a_port_alone_is_on_loopback() {
        for port in ["9100", ":9100"] {
            assert_eq!(listen_address(port), Ok("127.0.0.1:9100".parse().expect("an address")));
        }
        assert_eq!(listen_address("0.0.0.0:1"), Ok("0.0.0.0:1".parse().expect("an address")));
        assert_eq!(listen_address("[::1]:80"), Ok("[::1]:80".parse().expect("an address")));
        for bad in ["", ":", "65536", "localhost", "1.2.3.4", "::1", "1.2.3.4:x"] {
            assert!(listen_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn seeds_are_read() {
        assert_eq!(seeds("7"), Ok(Seeds { first: 0, end: 7 }));
        assert_eq!(seeds("187..188"), Ok(Seeds { first: 187, end: 188 }));
        for bad in ["", "0", "5..5", "6..5", "..", "1..", "..1", "-1", "1..2..3", "x"] {
            assert!(seeds(bad).is_err(), "{bad}");
        }
    }
}
