//! `cxddp-vnic`: a virtual ConnectX for QEMU, or for the driver in another process.

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use cxddp_trace::Sink;
use cxddp_vnic::inject::Injection;
use cxddp_vnic::{Function, Hub, HubConfig, Uplink, report};
use ethernet_wire::{Impairments, port};
use nvme_target::{Backing, FileBacking, Generated};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use virtual_nic::{Config, Switches, Tracing, switches};

/// PCI device ids (`mlx5-numbers.md`).
const CONNECTX7: u16 = 0x1021;
const CONNECTX_VF: u16 = 0x101e;

const EXAMPLES: &str = "\
Example: a ConnectX with a target on its wire, and a driver in another process:
  cxddp-vnic serve --socket /tmp/nic.sock --wire target &
  cxddp probe --device vfio-user:/tmp/nic.sock
SIGUSR1 prints its counters, and so does its end (SIGINT, SIGTERM).
`cxddp-vnic --man DIR` writes manual pages, `cxddp-vnic --completions bash|zsh|fish` prints completions.";

/// A virtual ConnectX-7 as a process of its own.
#[derive(Parser)]
#[command(name = "cxddp-vnic", version, about, max_term_width = 120, after_help = EXAMPLES)]
struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Serve functions over vfio-user until a signal ends it
    ///
    /// QEMU (10.1 or later) takes a function with
    ///   -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"PATH"}}'
    /// and needs memory that can be shared: -object memory-backend-memfd,id=m,share=on,size=... -machine memory-backend=m.
    /// The driver takes one with --device vfio-user:PATH.
    #[command(verbatim_doc_comment)]
    Serve(Box<Serve>),
    /// List the switches of the model: what is not known about the hardware.
    Switches,
}

/// What a trace may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Traced {
    Commands,
    Wqes,
    Cqes,
}

#[derive(Args)]
struct Serve {
    /// Socket of the physical function (15b3:1021).
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Socket of a virtual function (15b3:101e); may be given again.
    #[arg(long, value_name = "PATH")]
    vf: Vec<PathBuf>,
    /// The wire: dgram:LOCAL,REMOTE, listen:PATH or connect:PATH (unix sockets as QEMU's -netdev dgram and stream speak
    /// them), tap:NAME, target (an NVMe/TCP target inside, at 192.168.44.20), or none.
    #[arg(long, value_name = "WIRE", default_value = "none")]
    wire: String,
    /// File that the target inside serves; without it, blocks that all differ.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Bytes of the target's namespace without --image.
    #[arg(long, value_name = "BYTES", value_parser = cxddp_manual::bytes, default_value = "64MiB")]
    size: u64,
    /// Largest IP packet of the target inside.
    #[arg(long, value_name = "BYTES", default_value_t = 1500)]
    mtu: usize,
    /// Interrupt vectors of each function.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=2048))]
    vectors: u16,
    /// Set a switch of the model (see `cxddp-vnic switches`); may be given again.
    #[arg(long, value_name = "NAME=VALUE")]
    model_switch: Vec<String>,
    /// Have something happen to every function: gone, back, fatal, ill, healthy, lost-command, wild-write, ask-pages,
    /// offer-pages; may be given again. WHEN: so many seconds after the start, +seconds after the one before, or when so much
    /// was received, as in gone@8MiB.
    #[arg(long, value_name = "FAULT[@WHEN]")]
    inject: Vec<Injection>,
    /// Write the frames of the wire into a pcapng file.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Write down what drivers ask of the functions, in the form of mlx5_core's own debugging messages: every firmware command,
    /// input and output. `cxddp-regdump trace` shows and compares such files.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// What is written down: commands, wqes (work requests as they are executed), cqes (completions).
    #[arg(
        long,
        value_name = "KIND[,KIND]",
        value_enum,
        value_delimiter = ',',
        default_value = "commands",
        requires = "trace"
    )]
    trace_what: Vec<Traced>,
    /// Bytes of that file at most; what comes later is left out, and said.
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20, requires = "trace")]
    trace_limit: u64,
    /// Share of frames that the wire loses, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    loss: f64,
    /// Share of frames that three others overtake, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    reorder: f64,
    /// Share of frames that arrive twice, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    duplicate: f64,
    /// Share of frames with a flipped bit, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    corrupt: f64,
    /// Seed of everything random.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// End when the last client has gone.
    #[arg(long)]
    once: bool,
    /// Print what was counted as one JSON object on a line.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_timestamp_millis()
        .init();
    if let Some(code) = cxddp_manual::answer(Options::command()) {
        return code;
    }
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => return cxddp_manual::refuse("cxddp-vnic", &error),
    };
    let ended = match options.what {
        What::Switches => {
            print!("{}", switches::help());
            Ok(())
        }
        What::Serve(serve) => run(&serve),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("cxddp-vnic: {why}");
            ExitCode::FAILURE
        }
    }
}

fn fraction(option: &str, percent: f64) -> Result<f64, String> {
    match (0.0..=50.0).contains(&percent) {
        true => Ok(percent / 100.0),
        false => Err(format!("{option} {percent}: allowed is 0 to 50")),
    }
}

fn uplink(serve: &Serve) -> Result<Uplink, String> {
    match serve.wire.as_str() {
        "none" => Ok(Uplink::None),
        "target" => {
            let image: Box<dyn Backing> = match &serve.image {
                None => Box::new(Generated::new(serve.seed, serve.size)),
                Some(path) => Box::new(
                    FileBacking::open(path, false).map_err(|error| format!("--image {}: {error}", path.display()))?,
                ),
            };
            let config = nvme_target::Config { mtu: serve.mtu, seed: serve.seed, ..nvme_target::Config::default() };
            Uplink::target(config, image).map_err(|error| error.to_string())
        }
        wire => {
            let kind: port::Kind = wire.parse().map_err(|why| format!("--wire: {why}; or target, or none"))?;
            Uplink::port(&kind).map_err(|error| error.to_string())
        }
    }
}

/// Prints what was counted.
fn tell(serve: &Serve, hub: &mut Hub) -> Result<(), String> {
    let report = report::Report::of(hub);
    let mut out = std::io::stdout().lock();
    let written = match serve.json {
        true => writeln!(out, "{}", report.json()),
        false => write!(out, "{}", report.text()),
    };
    written.and_then(|()| out.flush()).map_err(|error| format!("cannot write what was counted: {error}"))
}

fn run(serve: &Serve) -> Result<(), String> {
    let mut switches = Switches::default();
    for text in &serve.model_switch {
        switches.set(text).map_err(|why| format!("--model-switch: {why}"))?;
    }
    let impairments = Impairments {
        loss: fraction("--loss", serve.loss)?,
        reorder: fraction("--reorder", serve.reorder)?,
        duplicate: fraction("--duplicate", serve.duplicate)?,
        corrupt: fraction("--corrupt", serve.corrupt)?,
        ..Impairments::default()
    };
    let hub_config =
        HubConfig { outbound: impairments, inbound: impairments, seed: serve.seed, pcap: serve.pcap.clone() };
    let mut hub = Hub::new(&hub_config, uplink(serve)?).map_err(|error| format!("--pcap: {error}"))?;
    let trace = serve.trace.as_ref().map(|path| {
        Sink::create(path, serve.trace_limit).map_err(|error| format!("--trace {}: {error}", path.display()))
    });
    let trace = trace.transpose()?;
    for (n, path) in std::iter::once(&serve.socket).chain(&serve.vf).enumerate() {
        let mut config = Config::default();
        config.device_id = if n == 0 { CONNECTX7 } else { CONNECTX_VF };
        config.vectors = serve.vectors;
        config.seed = serve.seed.wrapping_add(n as u64);
        config.mac[5] = config.mac[5].wrapping_add(n as u8);
        config.switches = switches.clone();
        let name = if n == 0 { "pf".to_owned() } else { format!("vf{}", n - 1) };
        let mut function = Function::new(&name, config);
        if let Some(sink) = &trace {
            let has = |what| serve.trace_what.contains(&what);
            let (commands, wqes, cqes) = (has(Traced::Commands), has(Traced::Wqes), has(Traced::Cqes));
            function.nic.trace(Tracing { sink: sink.clone(), function: name.clone(), commands, wqes, cqes });
        }
        hub.add(function, path).map_err(|error| format!("cannot serve at {}: {error}", path.display()))?;
        log::info!("{name} is served at {}", path.display());
    }
    serve.inject.iter().for_each(|injection| hub.inject(*injection));

    let signal = |signals: &[i32]| -> Result<Arc<AtomicBool>, String> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in signals {
            signal_hook::flag::register(*signal, Arc::clone(&flag))
                .map_err(|error| format!("signal {signal}: {error}"))?;
        }
        Ok(flag)
    };
    let stop = signal(&[signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM])?;
    let show = signal(&[signal_hook::consts::SIGUSR1])?;
    let alone = |hub: &Hub| serve.once && hub.clients() > 0 && !hub.has_client();
    while !stop.load(Ordering::Relaxed) && !alone(&hub) {
        hub.turn(Duration::from_secs(1));
        if show.swap(false, Ordering::Relaxed) {
            tell(serve, &mut hub)?;
        }
    }
    tell(serve, &mut hub)?;
    let traced = match trace.map(|sink| sink.finish()).transpose() {
        Ok(summary) => {
            if let Some(left_out) = summary.map(|summary| summary.left_out).filter(|count| *count != 0) {
                println!("trace: {left_out} dumps beyond --trace-limit left out");
            }
            Ok(())
        }
        Err(error) => Err(format!("--trace: {error}")),
    };
    hub.finish().map_err(|error| format!("--pcap: {error}")).and(traced)
}
