//! `cargo hil`: the driver in a virtual machine, on the kernel's own vfio-pci, behind an emulated IOMMU, with a virtual
//! ConnectX outside.
//!
//! ```text
//!   guest (QEMU, emulated CPU)                              this machine
//!     cxddp, cxddp-bind ... static binaries
//!     /dev/vfio: genuine vfio-pci, type 1 IOMMU
//!     intel-iommu (emulated)
//!     PCI 15b3:1021  ◄──────── vfio-user-pci ─────────────► cxddp-vnic
//!     virtio-net, nvmet-tcp ◄── datagrams (the wire) ─────► cxddp-vnic
//! ```
//!
//! Everything is fetched as Debian packages into a folder; nothing is installed, nothing needs root or KVM. Each scenario
//! is one boot and prints one line; what failed leaves its folder behind.

mod bring_up;
mod debian;
mod guest;
mod image;
mod instructions;
mod mlx5;
mod mlx5_life;
mod mlx5_receive;
mod own;
mod rdma;
mod scenarios;

use clap::{Parser, Subcommand};
use std::fmt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Why the suite could not run, or a scenario not begin.
#[derive(Debug)]
pub struct Error(String);

impl Error {
    fn of(text: impl Into<String>) -> Error {
        Error(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error(error.to_string())
    }
}

/// Hardware in the loop: the driver in a virtual machine, on the kernel's VFIO.
#[derive(Parser)]
#[command(name = "hil", max_term_width = 120, args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    step: Option<Step>,
    /// Run only scenarios whose name contains this; may be given again.
    only: Vec<String>,
    /// List the scenarios and end.
    #[arg(long)]
    list: bool,
    /// Folder for packages and images, which later runs use again.
    #[arg(long, global = true, value_name = "DIR", default_value = "target/hil")]
    cache: PathBuf,
    /// Keep the folder of every scenario, not only of those that failed.
    #[arg(long)]
    keep: bool,
    /// Write what drivers ask of the virtual ConnectX into this folder, a file NAME-KERNEL.trace for each scenario
    /// (`cxddp-regdump trace` shows and compares them).
    #[arg(long, value_name = "DIR")]
    trace: Option<PathBuf>,
    /// Run only on the kernel of this version, as in 6.12.
    #[arg(long, value_name = "VERSION")]
    kernel: Option<String>,
    /// Run the virtual ConnectX under callgrind (valgrind), which takes several times as long, and print how many instructions
    /// a frame costs it.
    #[arg(long)]
    callgrind: bool,
    /// Run scenarios that take long on the newest kernel only.
    #[arg(long)]
    short: bool,
    /// Take the programs as they were built last.
    #[arg(long)]
    built: bool,
}

/// What else can be done.
#[derive(Subcommand)]
enum Step {
    /// Build the kernel that scenarios of iommufd and of no IOMMU need, some ten minutes once; without it they are skipped.
    Kernel,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            println!("{failed} scenarios failed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("hil: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Programs that the scenarios use.
pub struct Programs {
    /// The driver's binary, for the guest.
    pub cxddp: PathBuf,
    /// What shows all that can be read of a function, for the guest.
    pub regdump: PathBuf,
    /// The operator's tool, for the guest.
    pub bind: PathBuf,
    /// What exchanges datagrams of known content, for the guest.
    pub datagrams: PathBuf,
    /// What drives a function through rdma-core, for the guest.
    pub rdma: PathBuf,
    /// The virtual ConnectX, for this machine.
    pub vnic: PathBuf,
}

/// Builds what runs in the guest (static: most of what it needs is not there) and what runs here; and one program of the guest that
/// loads libraries, which a static one cannot.
fn build(as_they_are: bool) -> Result<Programs, Error> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let build = |arguments: &[&str], flags: &str| -> Result<(), Error> {
        let mut command = Command::new(&cargo);
        command.args(["build", "--quiet", "--release"]).args(arguments);
        if !flags.is_empty() {
            command.env("RUSTFLAGS", flags);
        }
        match command.status()?.success() {
            true => Ok(()),
            false => Err(Error::of(format!("{command:?} failed"))),
        }
    };
    // A target that is named keeps build scripts ordinary.
    let tools = ["cxddp", "cxddp-regdump", "cxddp-bind", "datagrams"];
    let mut guest = vec!["--target", TARGET];
    for (package, tool) in ["connectx-ddp", "cxddp-regdump", "cxddp-bind", "hil"].into_iter().zip(tools) {
        guest.extend(["-p", package, "--bin", tool]);
    }
    if !as_they_are {
        build(&guest, "-C target-feature=+crt-static")?;
        build(&["--package", "cxddp-vnic", "--package", "hil-rdma"], "")?;
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let [cxddp, regdump, bind, datagrams] = tools.map(|tool| target.join(TARGET).join("release").join(tool));
    let release = target.join("release");
    let (rdma, vnic) = (release.join("rdma-probe"), release.join("cxddp-vnic"));
    for program in [&cxddp, &regdump, &bind, &datagrams, &rdma, &vnic] {
        if !program.exists() {
            return Err(Error::of(format!("{} is not there: run once without --built", program.display())));
        }
    }
    Ok(Programs { cxddp, regdump, bind, datagrams, rdma, vnic })
}

fn run(options: &Options) -> Result<u32, Error> {
    let began = Instant::now();
    let mut bench = scenarios::Bench::new(&options.cache);
    let chosen = |name: &str| options.only.is_empty() || options.only.iter().any(|part| name.contains(part.as_str()));
    if options.list {
        scenarios::all().for_each(|scenario| println!("{:<28} {}", scenario.name, scenario.about));
        return Ok(0);
    }
    if let Some(Step::Kernel) = options.step {
        let kernel = own::build(&options.cache)?;
        println!("{} ({:.1} s)", kernel.display(), began.elapsed().as_secs_f64());
        return Ok(0);
    }
    bench.prepare(|| build(options.built))?;
    println!("{} ({:.1} s to prepare)", bench.resolved(), began.elapsed().as_secs_f64());
    let mut failed = 0;
    if let Some(folder) = &options.trace {
        std::fs::create_dir_all(folder).map_err(|error| Error::of(format!("--trace {}: {error}", folder.display())))?;
    }
    let how = scenarios::How {
        only: options.kernel.as_deref(),
        keep: options.keep,
        trace: options.trace.as_deref(),
        short: options.short,
        callgrind: options.callgrind,
    };
    for scenario in scenarios::all().filter(|scenario| chosen(scenario.name)) {
        failed += bench.run(scenario, &how)?;
    }
    println!("{:.1} s in all", began.elapsed().as_secs_f64());
    Ok(failed)
}
