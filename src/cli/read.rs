//! `cxddp read`: reads a namespace of an NVMe/TCP controller through a function, into buffers where the NIC places it.

use super::bar::Bar;
use super::device::Work;
use super::options::{BuffersChoice, ReadArgs};
use super::text::{bytes, count, share};
use connectx_ddp::adapter;
use connectx_ddp::demo::Expected;
use connectx_ddp::dma::{DmaError, DmaHeap, IoBuf};
use connectx_ddp::inspect::{self, Desk};
use connectx_ddp::nvme::controller::ControllerConfig;
use connectx_ddp::nvme::fabrics::{HostIdentity, Nqn};
use connectx_ddp::platform::{Identity, Platform};
use connectx_ddp::session::{self, Session};
use connectx_ddp::shard;
use connectx_ddp::transfer::{self, Config, Content, Ends, Outcome, Progress, Sink, Watch};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Namespaces that are looked at in search of the one that is asked for.
const NAMESPACES: usize = 1024;
/// How long a command may take: as long as Linux gives an I/O command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// KATO of a host that has nothing else to say: as Linux has it.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Busy polling after the last work, before a thread that may sleep does.
const BUDGET: Duration = Duration::from_micros(50);
/// Where Linux hosts keep who they are (nvme-cli).
const HOST_NQN: &str = "/etc/nvme/hostnqn";
const HOST_ID: &str = "/etc/nvme/hostid";

/// A file that gets what was read: its first byte is the first of the range.
struct Output {
    file: File,
    offset: u64,
}

impl Sink for Output {
    fn take(&mut self, offset: u64, bytes: &IoBuf) -> io::Result<()> {
        self.file.write_all_at(&bytes.to_vec(), offset - self.offset)
    }
}

/// The bar, and who else watches.
struct Show {
    bar: Bar,
    /// The stats socket.
    socket: Option<(inspect::Server, Desk)>,
}

impl<P: Platform> Watch<P> for Show {
    fn polled(&mut self, session: &mut Session<P>) -> bool {
        self.socket.as_mut().is_some_and(|(_, desk)| desk.poll(session))
    }

    fn progress(&mut self, progress: Progress) {
        self.bar.show(progress.writing, progress.done, progress.total);
        if !progress.writing {
            self.bar.show_placed(|| bytes(progress.placed));
        }
    }

    fn news(&mut self, line: &str) {
        self.bar.tell(&format!("cxddp read: {line}"));
    }
}

/// The transfer, on whatever function it is.
struct Transfer<'a> {
    args: &'a ReadArgs,
    config: Config,
    expected: Option<Expected>,
    output: Option<Output>,
    stop: &'a AtomicBool,
    socket: Option<(inspect::Server, Desk)>,
}

impl Work for Transfer<'_> {
    type Outcome = (Identity, Outcome);

    fn on<P: Platform + 'static>(mut self, platform: Arc<P>) -> Self::Outcome {
        let identity = platform.identity().clone();
        let visible = !self.args.json && io::stderr().is_terminal();
        let mut show = Show { bar: Bar::new(visible), socket: self.socket.take() };
        let mut pinned = pinned;
        let ends = Ends {
            content: self.expected.as_mut().map(|content| content as &mut dyn Content),
            sink: self.output.as_mut().map(|sink| sink as &mut dyn Sink),
            buffers: match self.args.buffers {
                BuffersChoice::Own => None,
                BuffersChoice::Pinned => Some(&mut pinned),
            },
            stop: self.stop,
        };
        let outcome = transfer::run(platform, &self.config, ends, &mut show);
        show.bar.clear();
        (identity, outcome)
    }
}

/// A buffer of pieces of this process's memory, of which none begins or ends with a page or a cache line.
fn pinned(heap: &DmaHeap, len: usize) -> Result<IoBuf, DmaError> {
    const PIECES: usize = 3;
    let mut pieces = Vec::new();
    let mut left = len;
    for n in 0..PIECES {
        let take = if n + 1 == PIECES { left } else { (len / PIECES + 13 * n).min(left) };
        // What is behind and before stays ours, and nobody's of the device.
        let before = 1 + 7 * n;
        let (memory, _) = heap.pin(vec![0; before + take + 1]).map_err(|refused| refused.error)?;
        pieces.push(memory.split_at(before).1.split_at(take).0);
        left -= take;
    }
    Ok(IoBuf::new(pieces))
}

/// Reads, and tells what came of it.
pub fn run(args: &ReadArgs) -> ExitCode {
    let refuse = |why: String| {
        eprintln!("cxddp read: {why}");
        ExitCode::from(2)
    };
    let mut config = match config(args) {
        Ok(config) => config,
        Err(why) => return refuse(why),
    };
    let trace = match super::trace::create(args.trace.as_deref()) {
        Ok(trace) => trace,
        Err(why) => return refuse(why),
    };
    config.session.adapter.trace = trace.clone();
    let (expected, output) = match ends(args) {
        Ok(ends) => ends,
        Err(why) => return refuse(why),
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // A second one ends the process at once: the kernel takes the function back then.
        let registered = signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)));
        if let Err(error) = registered {
            return refuse(format!("signal {signal}: {error}"));
        }
    }
    let socket = match args.stats_socket.as_deref().map(inspect::Server::start).transpose() {
        Ok(socket) => socket,
        Err(error) => return refuse(format!("--stats-socket {error}")),
    };
    let transfer = Transfer { args, config, expected, output, stop: &stop, socket };
    let (identity, outcome) = match args.device.open(args.vfio, transfer) {
        Ok(done) => done,
        Err(error) => return refuse(format!("--device {error}")),
    };
    let traced = super::trace::finish(trace);
    let mut out = io::stdout().lock();
    let written = match args.json {
        true => super::json::write(&mut out, "read", &as_json(args, &identity, &outcome)),
        // Half a summary would look like a whole one.
        false if !outcome.completed && outcome.reads + outcome.writes + outcome.failed == 0 => Ok(()),
        false => summary(&mut out, args, &outcome),
    };
    if let Err(error) = written {
        return refuse(format!("cannot write the result: {error}"));
    }
    for problem in &outcome.problems {
        eprintln!("cxddp read: {problem}");
    }
    if let Err(why) = traced {
        return refuse(why);
    }
    if outcome.more_problems != 0 {
        eprintln!("cxddp read: and {} more", outcome.more_problems);
    }
    match outcome.is_clean() {
        true => ExitCode::SUCCESS,
        false if stop.load(Ordering::Relaxed) => ExitCode::from(130),
        false => ExitCode::FAILURE,
    }
}

fn config(args: &ReadArgs) -> Result<Config, String> {
    if matches!(args.device, super::device::Device::Virtual) {
        return Err(
            "--device virtual: the function inside this process has no wire; cxddp demo has one, with a target, \
                    or start cxddp-vnic serve --wire target and give vfio-user:PATH"
                .into(),
        );
    }
    if matches!(args.device, super::device::Device::Trace(_)) {
        return Err(
            "--device trace: a trace has commands and no packets; cxddp probe --device trace:FILE replays it".into()
        );
    }
    if args.io_size == 0 || args.io_size > u64::from(u32::MAX) {
        return Err(format!("--io-size {}: allowed is 1 byte to 4 GiB less one", args.io_size));
    }
    if args.offset.checked_add(args.size.unwrap_or(0)).is_none() {
        return Err(format!("--offset {}: too large", args.offset));
    }
    let (ip, prefix_len) = args.ip;
    let mut random = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .map_err(|error| format!("/dev/urandom: {error}"))?;
    let (secret, id) = random.split_at(16);
    let mut shard = shard::Config::new(ip, secret.try_into().expect("16 of 32 bytes"));
    shard.prefix_len = prefix_len;
    shard.gateway = args.gateway;
    shard.offload = args.offload.into();
    shard.offload_threshold = args.offload_threshold;
    let identity = identity(args, id.try_into().expect("16 of 32 bytes"))?;
    let controller = ControllerConfig {
        identity,
        header_digest: args.hdr_digest,
        data_digest: args.data_digest,
        io_queues: args.queues,
        max_namespaces: NAMESPACES,
        keep_alive: KEEP_ALIVE,
        timeout: COMMAND_TIMEOUT,
    };
    let mut session = session::Config::new(shard, args.target, controller);
    session.adapter = adapter::Config { mtu: args.mtu, ..adapter::Config::default() };
    session.depth = args.queue_size;
    session.ctrl_loss_timeout = Duration::from_secs(args.ctrl_loss_timeout);
    Ok(Config {
        session,
        nsid: args.nsid,
        offset: args.offset,
        len: args.size,
        io_size: args.io_size,
        passes: args.passes,
        write: args.write,
        interrupts: args.interrupts.then_some(BUDGET),
        recover: args.ctrl_loss_timeout != 0,
        repeat_writes: false,
    })
}

/// A UUID's bytes from its text form.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 || !digits.is_ascii() {
        return None;
    }
    let mut id = [0; 16];
    for (n, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * n..2 * n + 2], 16).ok()?;
    }
    Some(id)
}

/// Who this host is: as the options say, as the files of nvme-cli say, or somebody new.
fn identity(args: &ReadArgs, mut random: [u8; 16]) -> Result<HostIdentity, String> {
    // A random UUID (RFC 9562, version 4).
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let file = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let host_id = match (&args.host_id, file(HOST_ID)) {
        (Some(text), _) => uuid(text).ok_or_else(|| format!("--host-id {text}: give a UUID"))?,
        (None, Some(text)) => uuid(&text).ok_or_else(|| format!("{HOST_ID}: {text:?} is no UUID; give --host-id"))?,
        (None, None) => random,
    };
    let name = |option: &str, name: &str| Nqn::new(name).map_err(|error| format!("{option} {name}: {error}"));
    let host_nqn = match args.host_nqn.clone().or_else(|| file(HOST_NQN)) {
        Some(text) => name("--host-nqn", &text)?,
        None => {
            let hex: String = host_id.iter().map(|byte| format!("{byte:02x}")).collect();
            let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
            name("--host-nqn", &format!("nqn.2014-08.org.nvmexpress:uuid:{}", parts.join("-")))?
        }
    };
    Ok(HostIdentity { host_id, host_nqn, subsystem_nqn: name("--nqn", &args.nqn)? })
}

fn ends(args: &ReadArgs) -> Result<(Option<Expected>, Option<Output>), String> {
    let expected = match (&args.content, args.pattern) {
        (Some(path), _) => {
            Some(Expected::file(path).map_err(|error| format!("--content {}: {error}", path.display()))?)
        }
        (None, Some(seed)) => Some(Expected::Generated(seed)),
        (None, None) => None,
    };
    if args.write && expected.is_none() {
        return Err("--write: say what is to be written: --content FILE or --pattern SEED".into());
    }
    let output = match &args.output {
        None => None,
        Some(path) => {
            let file = File::create(path).map_err(|error| format!("--output {}: {error}", path.display()))?;
            Some(Output { file, offset: args.offset })
        }
    };
    Ok((expected, output))
}

fn rate(amount: u64, time: Duration) -> String {
    match time.is_zero() {
        true => "-".into(),
        false => format!("{}/s", bytes((amount as f64 / time.as_secs_f64()) as u64)),
    }
}

fn summary(out: &mut impl Write, args: &ReadArgs, o: &Outcome) -> io::Result<()> {
    let mut row = |name: &str, value: String| writeln!(out, "  {name:<13} {value}");
    let verdict = match (o.is_clean(), o.bytes_compared == o.bytes && o.bytes != 0) {
        (true, true) => "every byte verified".to_owned(),
        (true, false) => "every request succeeded (bytes are compared with --content or --pattern)".to_owned(),
        (false, _) => format!("FAILED: {} bytes wrong, {} requests failed", count(o.bytes_wrong), count(o.failed)),
    };
    row("result", verdict)?;
    if o.writes != 0 {
        let rate = rate(o.bytes_written, o.writing);
        row("written", format!("{:>10}            in {} writes, {rate}", bytes(o.bytes_written), count(o.writes)))?;
    }
    let rate = rate(o.bytes, o.reading);
    row("read", format!("{:>10}            in {} reads, {rate}", bytes(o.bytes), count(o.reads)))?;
    let part = |n: u64, whom: &str| format!("{:>10}  {:>8}  {whom}", bytes(n), share(n, o.bytes));
    row("  placed", part(o.bytes_placed, "by the NIC, into the reader's buffer"))?;
    row("  copied", part(o.bytes_copied, "by software"))?;
    for (reason, copied) in o.totals.offload.by_reason() {
        if copied.bytes != 0 {
            row("", format!("{:>10}  {:>8}  {}", bytes(copied.bytes), share(copied.bytes, o.bytes), reason.name()))?;
        }
    }
    let nvme = &o.totals.nvme;
    row(
        "data digests",
        match (nvme.digests_hardware, nvme.digests_software) {
            (0, 0) if args.data_digest => "none".to_owned(),
            (0, 0) => "not negotiated (--data-digest)".to_owned(),
            (hw, sw) => format!("{} checked by the NIC, {} by software", count(hw), count(sw)),
        },
    )?;
    let (shard, offload) = (&o.totals.shard, &o.totals.offload);
    let (rx, placed, tx) = (count(shard.packets_rx), count(offload.packets), count(shard.packets_tx));
    row("packets", format!("{rx} received, {placed} of them with placed payload; {tx} sent"))?;
    row(
        "doorbells",
        format!(
            "{}, {:.2} per request",
            count(shard.doorbells),
            shard.doorbells as f64 / (o.reads + o.writes).max(1) as f64
        ),
    )?;
    row("I/O queues", format!("{} of {} offloaded", o.queues_offloaded, o.queues.len()))?;
    for (number, queue) in (1..).zip(&o.queues) {
        if let Some((reason, detail)) = queue.why_not.as_ref().filter(|_| !queue.offloaded) {
            row("", format!("queue {number}: {reason}: {detail}"))?;
        }
    }
    if args.interrupts {
        row("interrupts", format!("{} sleeps, {} interrupts", count(o.sleeps), count(o.interrupts)))?;
    }
    for recovered in &o.recovered {
        let (level, ms) = (recovered.recovery.level, recovered.recovery.took.as_secs_f64() * 1e3);
        row("recovered", format!("{level} made anew in {ms:.1} ms: {}", recovered.lost.join("; ")))?;
    }
    let connected = o.connected.as_secs_f64();
    row("time", format!("{:.2} s, of which {connected:.2} s to connect", o.elapsed.as_secs_f64()))
}

fn as_json(args: &ReadArgs, identity: &Identity, o: &Outcome) -> Value {
    let counters: serde_json::Map<String, Value> =
        o.totals.offload.seed().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let queues = o.queues.iter().zip(1u32..).map(|(queue, number)| {
        json!({
            "queue": number,
            "offloaded": queue.offloaded,
            "reason": queue.why_not.as_ref().map(|(reason, _)| *reason),
            "detail": queue.why_not.as_ref().map(|(_, detail)| detail),
        })
    });
    let copied: serde_json::Map<String, Value> = o
        .totals
        .offload
        .by_reason()
        .filter(|(_, copied)| copied.bytes != 0)
        .map(|(reason, copied)| (reason.name().to_owned(), copied.bytes.into()))
        .collect();
    let recovered = o.recovered.iter().map(|recovered| {
        json!({
            "lost": recovered.lost,
            "level": recovered.recovery.level.name(),
            "took_ms": recovered.recovery.took.as_secs_f64() * 1e3,
            "attempts": recovered.recovery.attempts,
        })
    });
    json!({
        "device": identity.to_string(),
        "target": args.target.to_string(),
        "completed": o.completed,
        "clean": o.is_clean(),
        "verified": o.is_clean() && o.bytes_compared == o.bytes,
        "bytes": o.bytes,
        "reads": o.reads,
        "bytes_written": o.bytes_written,
        "writes": o.writes,
        "failed": o.failed,
        "bytes_compared": o.bytes_compared,
        "bytes_wrong": o.bytes_wrong,
        "bytes_placed": o.bytes_placed,
        "bytes_copied": o.bytes_copied,
        "copied": copied,
        "digests_hw": o.totals.nvme.digests_hardware,
        "digests_sw": o.totals.nvme.digests_software,
        "packets_rx": o.totals.shard.packets_rx,
        "packets_placed": o.totals.offload.packets,
        "packets_tx": o.totals.shard.packets_tx,
        "doorbells": o.totals.shard.doorbells,
        "queues_offloaded": o.queues_offloaded,
        "queues": queues.collect::<Vec<_>>(),
        "sleeps": o.sleeps,
        "interrupts": o.interrupts,
        "recovered": recovered.collect::<Vec<_>>(),
        "counters": counters,
        "connect_s": o.connected.as_secs_f64(),
        "write_s": o.writing.as_secs_f64(),
        "read_s": o.reading.as_secs_f64(),
        "elapsed_s": o.elapsed.as_secs_f64(),
        "problems": o.problems,
        "more_problems": o.more_problems,
    })
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | a UUID is read in its usual form, and nothing else is | `uuids_are_read` |
    use super::*;

    #[test]
    fn uuids_are_read() {
        let id = uuid("00112233-4455-6677-8899-aabbccddeeff\n").expect("a UUID");
        assert_eq!((id[0], id[1], id[15]), (0x00, 0x11, 0xff));
        for bad in ["", "0011", "00112233-4455-6677-8899-aabbccddeefg", "00112233-4455-6677-8899-aabbccddee\u{e9}"] {
            assert_eq!(uuid(bad), None, "{bad}");
        }
    }
}
