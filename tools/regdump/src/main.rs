//! `cxddp-regdump`: everything that can be read of a ConnectX function.

use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand};
use connectx_ddp::inspect::{COMMANDS, Client, Dump, SectionName, take};
use connectx_ddp::platform::Platform;
use connectx_ddp::platform::device::{Device, VfioArgs, Work};
use cxddp_regdump::text::Style;
use cxddp_regdump::trace::diff::Comparison;
use cxddp_regdump::trace::show::records;
use cxddp_regdump::{diff, hex, json, meaning, text, trace};
use cxddp_trace::{Exchange, read_file};
use serde_json::Value;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

/// Show everything that can be read of a ConnectX function, by the names of the programmer's reference.
///
/// It looks and changes nothing. A function that nobody drives is brought up as far as it must be to answer, and taken down
/// again; one that a driver of this project runs on is asked through the driver (--device socket:PATH). What is 0 is left out;
/// bits that no table names are always shown, as "unknown @BYTE.BIT".
#[derive(Parser)]
#[command(name = "cxddp-regdump", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
#[command(after_long_help = after_help())]
struct Cli {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    show: Show,
    /// More messages: -v information, -vv debugging (RUST_LOG overrides).
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
}

#[derive(Args)]
struct Show {
    /// A dump that --save made, to be shown in place of a function.
    #[arg(value_name = "FILE", conflicts_with_all = ["device", "vfio", "unsafe_noiommu", "load"])]
    file: Option<PathBuf>,
    /// Which function: `virtual` (the ConnectX inside this process), `vfio-user:PATH` (one that `cxddp-vnic serve` has), the PCI
    /// address of one that vfio-pci has, such as 0000:3b:00.0, or `socket:PATH` (the one that a running driver has, by its
    /// --stats-socket).
    #[arg(long, value_name = "DEVICE", default_value = "virtual")]
    device: From,
    #[command(flatten)]
    vfio: VfioArgs,
    /// Show a dump that --save made, in place of a function.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["device", "vfio", "unsafe_noiommu"])]
    load: Option<PathBuf>,
    /// Only these sections.
    #[arg(long, value_name = "NAME[,NAME]", value_delimiter = ',')]
    section: Vec<SectionName>,
    #[command(flatten)]
    style: Style,
    /// Print one JSON object (docs/regdump.md) and nothing else on standard output.
    #[arg(long)]
    json: bool,
    /// Keep the dump in a file, bytes and all, to be shown or compared later; nothing is printed then.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["raw", "zeros", "json"])]
    save: Option<PathBuf>,
}

#[derive(Subcommand)]
enum What {
    /// Tell what changed between two saved dumps, by the names of fields. Ends with 1 if anything did.
    Diff {
        /// The first.
        #[arg(value_name = "A")]
        before: PathBuf,
        /// The second.
        #[arg(value_name = "B")]
        after: PathBuf,
        /// Only these sections.
        #[arg(long, value_name = "NAME[,NAME]", value_delimiter = ',')]
        section: Vec<SectionName>,
        /// Print a JSON array of the differences.
        #[arg(long)]
        json: bool,
    },
    /// Decode the bytes of one structure.
    Decode(Decode),
    /// Show or compare recorded commands, WQEs and CQEs.
    #[command(subcommand)]
    Trace(TraceStep),
}

#[derive(Args)]
#[command(group(ArgGroup::new("what").required(true).args(["layout", "list"])))]
struct Decode {
    /// One structure, by the name of its table; its bytes in hexadecimal are read from FILE.
    #[arg(long, value_name = "NAME", requires = "file")]
    layout: Option<String>,
    /// Where the bytes are; `-` is standard input.
    #[arg(value_name = "FILE", requires = "layout")]
    file: Option<PathBuf>,
    /// List every layout: name, bytes, fields.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    style: Style,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is done with traces. A trace is what `cxddp-vnic serve --trace`, `cxddp probe --trace` and `cargo hil --trace` write,
/// or a kernel log of mlx5_core with its debugging messages on (dyndbg="module mlx5_core +p"). gzip is unpacked, `-` is standard
/// input.
#[derive(Subcommand)]
enum TraceStep {
    /// Decode every command, input and output, and every WQE and CQE.
    Show {
        /// The trace.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        choose: Choose,
        #[command(flatten)]
        style: Style,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Compare two traces, command by command and field by field. Commands are aligned by opcode, op_mod and kind of object,
    /// in their order. Addresses of the driver's memory count as the same. Ends with 1 if anything differs.
    Diff {
        /// The first.
        #[arg(value_name = "A")]
        a: PathBuf,
        /// The second.
        #[arg(value_name = "B")]
        b: PathBuf,
        #[command(flatten)]
        choose: Choose,
        /// Of traces with several functions, that of the second, if it has another name than that of the first.
        #[arg(long, value_name = "NAME", requires = "function")]
        function_b: Option<String>,
        /// Only what drivers ask, not what firmware answers.
        #[arg(long)]
        inputs: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Which of a trace.
#[derive(Args)]
struct Choose {
    /// Only of this function, of a trace with several.
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Only commands whose name contains this, such as QUERY_HCA_CAP.
    #[arg(long, value_name = "TEXT")]
    command: Option<String>,
    /// Only so many, from the first on.
    #[arg(long, value_name = "N")]
    first: Option<usize>,
}

/// What `--help` says around the commands.
const BEFORE_COMMANDS: &str = "
To read caps, ports, vport and counters of a function that nobody drives, these commands are
executed and no others (ACCESS_REG only reads):
";
const AFTER_COMMANDS: &str = "
Pages are given to firmware and taken back. No object is created, no setting of the function or
its port is changed. For pci, init and health no command is executed. Whoever opens a function
through VFIO resets it (FLR), and the kernel does so anyway.

A running driver executes the QUERY commands of these and those of its own objects, a few at a
time between its polls.

Exit status: 0; 1 if the function could not be asked, or if a `diff` found something; 2 if nothing
could be done.

`cxddp-regdump --man DIR` writes manual pages, `--completions bash|zsh|fish` prints completions.";

/// Sections, and which commands are executed.
fn after_help() -> String {
    let mut help = String::from("Sections:\n");
    for section in SectionName::ALL {
        help.push_str(&format!("  {:<11}{}\n", section.name(), section.about()));
    }
    let names: Vec<&str> = COMMANDS.iter().filter_map(|opcode| opcode.name()).collect();
    let lines: Vec<String> = names.chunks(4).map(|names| format!("  {}", names.join(", "))).collect();
    help.push_str(&format!("{BEFORE_COMMANDS}{}{AFTER_COMMANDS}", lines.join(",\n")));
    help
}

/// Where a dump comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum From {
    Socket(PathBuf),
    Function(Device),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<From, String> {
        match text.split_once(':') {
            Some(("socket", "")) => Err("a path is missing: give socket:PATH".into()),
            Some(("socket", path)) => Ok(From::Socket(path.into())),
            _ => text.parse().map(From::Function).map_err(|error: String| format!("{error}; or socket:PATH")),
        }
    }
}

/// Takes a dump of a function that nobody drives.
struct Take<'a>(&'a [SectionName]);

impl Work for Take<'_> {
    type Outcome = Dump;

    fn on<P: Platform + 'static>(self, platform: Arc<P>) -> Dump {
        take(platform, self.0)
    }
}

/// One line that says what is wrong, and the exit status.
struct Failure(String);

impl<T: std::fmt::Display> std::convert::From<T> for Failure {
    fn from(error: T) -> Failure {
        Failure(error.to_string())
    }
}

fn main() -> ExitCode {
    if let Some(code) = cxddp_manual::answer(Cli::command()) {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cxddp_manual::refuse("cxddp-regdump", &error),
    };
    let level = ["warn", "info", "debug"][usize::from(cli.verbose).min(2)];
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
    let outcome = match &cli.what {
        None => show(&cli.show),
        Some(What::Diff { before, after, section, json }) => compare(before, after, section, *json),
        Some(What::Decode(args)) => decode(args),
        Some(What::Trace(TraceStep::Show { file, choose, style, json })) => show_trace(file, choose, *style, *json),
        Some(What::Trace(TraceStep::Diff { a, b, choose, function_b, inputs, json })) => {
            let functions = (choose.function.as_deref(), function_b.as_ref().or(choose.function.as_ref()));
            compare_traces((a, functions.0), (b, functions.1.map(String::as_str)), choose, *inputs, *json)
        }
    };
    outcome.unwrap_or_else(|Failure(why)| {
        eprintln!("cxddp-regdump: {why}");
        ExitCode::from(2)
    })
}

/// All sections, if none is named; each once, in their order.
fn sections(named: &[SectionName]) -> Vec<SectionName> {
    let mut sections = if named.is_empty() { SectionName::ALL.to_vec() } else { named.to_vec() };
    sections.sort_unstable();
    sections.dedup();
    sections
}

fn show(args: &Show) -> Result<ExitCode, Failure> {
    let sections = sections(&args.section);
    let mut dump = match (args.file.as_ref().or(args.load.as_ref()), &args.device) {
        (Some(path), _) => load(path)?,
        (None, From::Socket(path)) => Client::connect(path)?.dump(&sections)?,
        (None, From::Function(device)) => {
            device.open(args.vfio, Take(&sections)).map_err(|error| format!("--device {error}"))?
        }
    };
    dump.sections.retain(|dump| sections.contains(&dump.section));
    let status = match dump.problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    };
    if let Some(path) = &args.save {
        let text = serde_json::to_string(&dump)? + "\n";
        std::fs::write(path, text).map_err(|error| format!("--save {}: {error}", path.display()))?;
        dump.problems.iter().for_each(|problem| eprintln!("cxddp-regdump: {problem}"));
        return Ok(status);
    }
    match args.json {
        true => print(&format!("{}\n", json::dump(&dump, args.style.raw)))?,
        false => print(&text::dump(&dump, args.style))?,
    }
    Ok(status)
}

fn compare(before: &Path, after: &Path, named: &[SectionName], as_json: bool) -> Result<ExitCode, Failure> {
    let (a, b) = (load(before)?, load(after)?);
    let sections = sections(named);
    let found = diff::differences(&a, &b);
    let found: Vec<_> = found.iter().filter(|difference| sections.contains(&difference.section)).collect();
    match as_json {
        true => print(&format!("{}\n", Value::from_iter(found.iter().map(|difference| difference.to_json()))))?,
        false => {
            if (&a.device, a.vendor_id, a.device_id) != (&b.device, b.vendor_id, b.device_id) {
                print(&format!("these are two functions: {} and {}\n", a.device, b.device))?;
            }
            print(&found.iter().map(|difference| format!("{difference}\n")).collect::<String>())?;
        }
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn decode(args: &Decode) -> Result<ExitCode, Failure> {
    if args.list {
        let mut layouts: Vec<_> = meaning::layouts().collect();
        layouts.sort_by_key(|info| info.name);
        let lines = layouts
            .iter()
            .map(|info| format!("{:<44}{:>6} bytes{:>6} fields\n", info.name, info.size, info.fields.len()));
        print(&lines.collect::<String>())?;
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(layout), Some(file)) = (&args.layout, &args.file) {
        let text = text_of(file)?;
        let item = hex::structure(layout, &text).map_err(|error| format!("{}: {error}", file.display()))?;
        let parts = cxddp_regdump::apart::parts(&item);
        let mut out = String::new();
        for part in &parts {
            match args.json {
                true => out.push_str(&format!("{}\n", json::part(part, args.style.raw))),
                false => text::part(&mut out, part, args.style),
            }
        }
        print(&out)?;
        return Ok(ExitCode::SUCCESS);
    }
    Err("there is nothing to decode: give --layout or --list".into())
}

fn show_trace(file: &Path, choose: &Choose, style: Style, as_json: bool) -> Result<ExitCode, Failure> {
    let trace = trace::load(file, choose.function.as_deref())?;
    let wanted = |name: &str| choose.command.as_ref().is_none_or(|part| name.contains(&part[..]));
    let records = records(&trace).into_iter().filter(|record| wanted(&record.name()));
    let records: Vec<_> = records.take(choose.first.unwrap_or(usize::MAX)).collect();
    let several = trace.functions().len() > 1;
    match as_json {
        true => print(&format!("{}\n", Value::from_iter(records.iter().map(|record| record.to_json()))))?,
        false => records.iter().try_for_each(|record| print(&record.text(several, style)))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn compare_traces(
    a: (&Path, Option<&str>),
    b: (&Path, Option<&str>),
    choose: &Choose,
    inputs: bool,
    as_json: bool,
) -> Result<ExitCode, Failure> {
    let (a, b) = (trace::load_one(a.0, a.1)?, trace::load_one(b.0, b.1)?);
    let wanted =
        |command: &&Exchange| choose.command.as_ref().is_none_or(|part| command.key().to_string().contains(&part[..]));
    let first = choose.first.unwrap_or(usize::MAX);
    let comparison = Comparison::new(
        a.commands.iter().filter(wanted).take(first).collect(),
        b.commands.iter().filter(wanted).take(first).collect(),
    )?;
    match as_json {
        true => print(&format!("{}\n", comparison.to_json()))?,
        false => print(&comparison.text(inputs))?,
    }
    Ok(if comparison.is_same() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn load(path: &Path) -> Result<Dump, Failure> {
    Dump::from_json(text_of(path)?.as_bytes()).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// The text of a file, unpacked if it is packed.
fn text_of(path: &Path) -> Result<String, Failure> {
    read_file(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Prints text. Who closes the pipe does not want the rest.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write the result: {error}").into())
        }
        _ => Ok(()),
    }
}
