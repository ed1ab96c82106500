//! `cxddp-bind`: see the library.

use clap::{Args, CommandFactory, Parser, Subcommand};
use connectx_ddp::platform::vfio::Address;
use cxddp_bind::change::{Consent, Scene};
use cxddp_bind::doctor::{self, Need, Shape};
use cxddp_bind::effects::{self, Kernel, POKE};
use cxddp_bind::function;
use cxddp_bind::report::{self, Change, Status};
use cxddp_bind::root::Root;
use cxddp_bind::state::Lock;
use cxddp_bind::uses::{Host, Loss};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Which driver has a ConnectX, whether that can change, and what is missing before the driver can run.
///
/// cxddp drives a function from user space: the kernel's vfio-pci must have it, and not mlx5_core. `doctor` says what is
/// missing for that, `bind` does it, `restore` takes it back. What the host itself needs (its way to the world, mounted
/// storage, the session that you are in) is not taken away unless you name it.
#[derive(Debug, Parser)]
#[command(name = "cxddp-bind", version, arg_required_else_help = true, max_term_width = 120, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cxddp-bind status                      every function of the machine, and what goes over it
  cxddp-bind doctor 0000:3b:00.0         what is missing before the driver can run, and what mends it
  sudo cxddp-bind bind 0000:3b:00.0      give it to vfio-pci;  prints  0000:3b:00.0: vfio-pci, IOMMU group 42
  sudo cxddp-bind restore 0000:3b:00.0   give it back;         prints  0000:3b:00.0: mlx5_core

Exit status: 0 done, or no problems; 1 refused, failed, or problems; 2 bad options.
A PCI address is domain:bus:device.function; the domain may be left out when it is 0.
`cxddp-bind --man DIR` writes manual pages, `cxddp-bind --completions bash|zsh|fish` prints completions.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Show every function: driver, IOMMU group, link, interfaces, virtual functions, and what of this host goes over it.
    #[command(after_help = STATUS)]
    Status {
        /// PCI addresses; without, all functions of Mellanox and NVIDIA.
        addresses: Vec<Address>,
        /// Print one JSON object and nothing else on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Give functions to vfio-pci, and remember what had them.
    #[command(after_help = BIND)]
    Bind {
        #[command(flatten)]
        what: What,
        /// Do not load vfio-pci if it is missing.
        #[arg(long)]
        no_load: bool,
    },
    /// Take functions from their drivers, and leave them without one.
    #[command(
        after_help = "Example:\n  sudo cxddp-bind unbind 0000:3b:00.0    prints  0000:3b:00.0: no driver\n\n`restore` gives it back to the driver that it had."
    )]
    Unbind {
        #[command(flatten)]
        what: What,
    },
    /// Put functions back to what they were before `bind` or `unbind`: driver, driver_override, virtual functions.
    #[command(after_help = RESTORE)]
    Restore {
        #[command(flatten)]
        what: What,
    },
    /// Give a physical function so many virtual functions.
    #[command(
        after_help = "Example:\n  sudo cxddp-bind vfs 0000:3b:00.0 4     prints  0000:3b:00.0: mlx5_core, virtual functions 0000:3b:00.2, ...\n\nThen `cxddp-bind bind` one of them: the physical function stays with the kernel."
    )]
    Vfs {
        /// PCI address of the physical function.
        address: Address,
        /// How many; 0 takes all away.
        #[arg(value_parser = count)]
        count: u32,
        #[command(flatten)]
        how: How,
    },
    /// Check everything that has to be true before the driver can run, and name the command that mends what is not.
    #[command(after_help = DOCTOR)]
    Doctor {
        /// PCI addresses; without, all functions of Mellanox and NVIDIA.
        addresses: Vec<Address>,
        #[command(flatten)]
        shape: Shape,
        /// Print one JSON object and nothing else on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Write standard input to a file of the kernel: what this program starts itself for, so that it can stop waiting.
    #[command(name = POKE, hide = true)]
    Poke {
        /// The file.
        path: std::path::PathBuf,
    },
}

const STATUS: &str = "\
Example:
  $ cxddp-bind status 3b:00.0
  0000:3b:00.0  MT2910 Family [ConnectX-7] [15b3:1021]
    driver      mlx5_core
    IOMMU       group 42, alone
    NUMA node   1
    PCIe        32.0 GT/s PCIe, 16 lanes (its maximum)
    interface   ens1f0np0, up, carrier, 200000 Mb/s, a0:88:c2:00:00:01, under bond0
    SR-IOV      0 of 8 virtual functions
    carries     the IPv4 default route to 10.0.0.1 through bond0 over ens1f0np0 [default-route]

The word in brackets is what --force of the other commands takes.";

const BIND: &str = "\
Example:
  $ sudo cxddp-bind bind 0000:3b:00.0
  0000:3b:00.0: vfio-pci, IOMMU group 42

Refused, and nothing is changed, if it would take away from this host a default route, mounted storage, the SSH session
that it runs in, virtual functions, or a part of an IOMMU group; --force takes the names of exactly those losses.
If a step fails, those before it are taken back.";

const RESTORE: &str = "\
Example:
  $ sudo cxddp-bind restore 0000:3b:00.0
  0000:3b:00.0: mlx5_core

How it was is kept in /run/cxddp-bind until then. If that is gone, driver_override is cleared and the kernel asked to find
a driver.";

const DOCTOR: &str = "\
Example:
  $ cxddp-bind doctor
  ok           kernel         Linux 6.12.117+deb13-amd64
  problem      iommu          off: firmware offers Intel VT-d, and the kernel was not asked to use it (intel_iommu=on)
                        mend: intel_iommu=on: add it to the kernel's command line ...
                        more: docs/operator.md#iommu
  ...
  1 problem

Run it as the user, and from the place (shell, unit), that will start the driver: limits and rights are those of the caller.
Exit status: 0 without problems, 1 with. What cannot be told is no problem.";

#[derive(Debug, Args)]
struct What {
    /// PCI addresses of the functions.
    #[arg(required = true)]
    addresses: Vec<Address>,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct How {
    /// Losses that are accepted, by name.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LOSS")]
    force: Vec<Loss>,
    /// Print what would be written, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    json: bool,
}

fn count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "give a number; 0 takes all away".to_owned())
}

fn main() -> ExitCode {
    if let Some(code) = cxddp_manual::answer(Cli::command()) {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cxddp_manual::refuse("cxddp-bind", &error),
    };
    let root = Root::system();
    match cli.command {
        Command::Status { addresses, json } => status(&root, &addresses, json),
        Command::Bind { what, no_load } => {
            change(&root, "bind", &what.addresses, &what.how, !no_load, |scene, all| scene.bind(all))
        }
        Command::Unbind { what } => {
            change(&root, "unbind", &what.addresses, &what.how, false, |scene, all| scene.unbind(all))
        }
        Command::Restore { what } => {
            change(&root, "restore", &what.addresses, &what.how, false, |scene, all| scene.restore(all))
        }
        Command::Vfs { address, count, how } => {
            change(&root, "vfs", &[address], &how, false, |scene, _| scene.vfs(address, count))
        }
        Command::Doctor { addresses, shape, json } => examine(&root, &addresses, &Need::of(shape), json),
        Command::Poke { path } => ExitCode::from(poke(&path)),
    }
}

fn poke(path: &Path) -> u8 {
    effects::poke(path)
}

/// Prints, and returns the status: what cannot be written was not told.
fn print(out: &str, err: &str, ok: bool) -> ExitCode {
    eprint!("{err}");
    match std::io::stdout().lock().write_all(out.as_bytes()) {
        Ok(()) if ok => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cxddp-bind: cannot write the result: {error}");
            ExitCode::from(2)
        }
    }
}

fn status(root: &Root, addresses: &[Address], json: bool) -> ExitCode {
    let (host, all) = (Host::load(root), function::all(root));
    let missing = addresses.iter().find(|address| !all.iter().any(|function| function.address == **address));
    if let Some(address) = missing {
        let what = function::foreigner(root, address);
        let what =
            what.map_or_else(|| "there is no such PCI function".into(), |what| format!("it is none of ours ({what})"));
        return print(
            "",
            &format!("cxddp-bind: {address}: {what}; `cxddp-bind status` lists those that there are\n"),
            false,
        );
    }
    let chosen = all.into_iter().filter(|function| addresses.is_empty() || addresses.contains(&function.address));
    let all: Vec<_> = chosen.map(|function| Status::new(root, &host, function)).collect();
    match json {
        true => print(&format!("{}\n", report::status_json(&all)), "", true),
        false => print(&report::status_text(&all), "", true),
    }
}

fn examine(root: &Root, addresses: &[Address], need: &Need, json: bool) -> ExitCode {
    let lines = doctor::examine(root, &function::all(root), addresses, need);
    let text = match json {
        true => format!("{}\n", report::doctor_json(&lines)),
        false => report::doctor_text(&lines),
    };
    print(&text, "", report::is_healthy(&lines))
}

fn change(
    root: &Root,
    command: &str,
    addresses: &[Address],
    how: &How,
    load: bool,
    plan: impl Fn(&Scene, &[Address]) -> cxddp_bind::change::Planned,
) -> ExitCode {
    // Held until this ends.
    let _lock = match (!how.dry_run).then(|| Lock::take(root)).transpose() {
        Ok(lock) => lock,
        Err(why) => return print("", &format!("cxddp-bind: {why}\n"), false),
    };
    let functions = function::all(root);
    let consent = Consent { force: how.force.clone(), load };
    let scene = Scene { root, functions: &functions, host: &Host::load(root), consent: &consent };
    let change = match Change::planned(plan(&scene, addresses)) {
        Change::Planned(plan) if !how.dry_run => match plan.run(root, &mut Kernel) {
            Ok(()) => Change::Done(plan),
            Err(failure) => Change::Failed(plan, failure),
        },
        change => change,
    };
    let after = function::all(root);
    match how.json {
        true => print(
            &format!("{}\n", report::change_json(command, how.dry_run, &change, addresses, &after)),
            "",
            change.is_ok(),
        ),
        false => {
            let (out, err) = report::change_text(&change, addresses, &after);
            print(&out, &err, change.is_ok())
        }
    }
}
