//! The scenarios.

use crate::debian::{Debian, Kernel};
use crate::guest::{Guest, Outcome};
use crate::{Error, Programs, image, own};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Modules of every guest: VFIO, a network interface and a target of the kernel's own.
const MODULES: &[&str] = &[
    "vfio",
    "vfio_iommu_type1",
    "vfio_virqfd",
    "vfio-pci",
    "virtio_pci",
    "virtio_console",
    "virtio_net",
    "configfs",
    "null_blk",
    "nvmet",
    "nvmet-tcp",
];

/// Binds the first function to vfio-pci with the kernel's own files.
const BIND: &str = r#"
bind() { echo vfio-pci > /sys/bus/pci/devices/$1/driver_override && echo $1 > /sys/bus/pci/drivers_probe; }
set -- $NIC
PF=$1
"#;

/// On which kernels a scenario runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Each of them.
    Every,
    /// The newest.
    Newest,
    /// Our own, which offers what Debian's do not.
    Own,
}

/// One thing that must hold, shown by one boot.
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// Where.
    pub on: On,
    /// What runs in the guest.
    pub script: &'static str,
    /// Options of the virtual ConnectX.
    pub vnic: &'static [&'static str],
    /// The guest has an interface on the wire.
    pub peer: bool,
    /// The IOMMU is on.
    pub iommu: bool,
    /// Lines that the output must hold.
    pub expects: &'static [&'static str],
    /// Exit status of the script.
    pub status: i32,
}

const BASIC: Scenario = Scenario {
    name: "",
    about: "",
    on: On::Newest,
    script: "",
    vnic: &[],
    peer: false,
    iommu: true,
    expects: &[],
    status: 0,
};

/// All of them.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "probe-group",
        about: "the function comes up and goes down through group and container, twice, on every kernel",
        on: On::Every,
        script: "bind $PF && cxddp probe --device $PF --vfio group && cxddp probe --device $PF --json",
        expects: &["\"vendor_id\":\"0x15b3\"", "\"link_up\":true", "\"why_not\":[]"],
        ..BASIC
    },
    Scenario {
        name: "probe-cdev",
        about: "the function comes up and goes down through iommufd and its device cdev, which is taken by itself where there is one",
        on: On::Own,
        script: "bind $PF && cxddp probe --device $PF --vfio cdev && RUST_LOG=info cxddp probe --device $PF --json",
        expects: &["iommufd and cdev", "\"link_up\":true", "\"why_not\":[]"],
        ..BASIC
    },
    Scenario {
        name: "probe-unbound",
        about: "a function that vfio-pci does not have is refused, with the command that helps",
        script: "cxddp probe --device $PF",
        expects: &["no kernel driver has it", "cxddp-bind bind"],
        status: 2,
        ..BASIC
    },
    Scenario {
        name: "probe-no-iommu",
        about: "without an IOMMU the function is refused, with what turns it on",
        iommu: false,
        script: "bind $PF; cxddp probe --device $PF",
        expects: &["intel_iommu=on"],
        status: 2,
        ..BASIC
    },
];

/// Everything that the scenarios share.
pub struct Bench {
    cache: PathBuf,
    ready: Option<Ready>,
}

struct Ready {
    debian: Debian,
    programs: Programs,
    /// Debian's, oldest first.
    kernels: Vec<Bootable>,
    /// Ours, if it was built.
    own: Option<Bootable>,
}

/// A kernel that can be booted.
struct Bootable {
    /// What it is called in the lines of scenarios.
    label: String,
    elf: PathBuf,
    /// First file system.
    base: PathBuf,
}

impl Bench {
    /// A bench with its cache in a folder.
    pub fn new(cache: &Path) -> Bench {
        Bench { cache: cache.to_owned(), ready: None }
    }

    /// Fetches and builds what is missing.
    pub fn prepare(&mut self, build: impl FnOnce() -> Result<Programs, Error>) -> Result<(), Error> {
        std::fs::create_dir_all(&self.cache)?;
        let debian = Debian::fetch(&self.cache)?;
        let kernels = debian.kernels.iter().map(|kernel| {
            let elf = image::elf_kernel(&debian, kernel, &self.cache)?;
            let base = image::base(&debian, kernel, MODULES, &self.cache)?;
            Ok(Bootable { label: kernel.generation(), elf, base })
        });
        let kernels = kernels.collect::<Result<Vec<_>, Error>>()?;
        let own = own::find(&self.cache).map(|(version, elf)| {
            let kernel = Kernel { version: format!("own-{version}"), folder: PathBuf::new() };
            let base = image::base(&debian, &kernel, &[], &self.cache)?;
            Ok::<_, Error>(Bootable { label: "own".into(), elf, base })
        });
        let own = own.transpose()?;
        self.ready = Some(Ready { debian, kernels, own, programs: build()? });
        Ok(())
    }

    /// What was fetched.
    pub fn resolved(&self) -> &str {
        self.ready.as_ref().map_or("nothing", |ready| &ready.debian.resolved)
    }

    /// Runs a scenario on its kernels, prints a line for each, and returns how many failed. One whose kernel is missing is
    /// skipped, with a line that says so.
    pub fn run(&self, scenario: &Scenario, keep: bool) -> Result<u32, Error> {
        let ready = self.ready.as_ref().ok_or_else(|| Error::of("the bench is not prepared"))?;
        let kernels = match scenario.on {
            On::Every => &ready.kernels[..],
            On::Newest => &ready.kernels[ready.kernels.len().saturating_sub(1)..],
            On::Own => ready.own.as_slice(),
        };
        if kernels.is_empty() {
            println!("SKIPPED {}: its kernel is not built (cargo hil kernel)", scenario.name);
        }
        let mut failed = 0;
        for Bootable { label, elf, base } in kernels {
            let folder = self.cache.join("runs").join(format!("{}-{label}", scenario.name));
            let _ = std::fs::remove_dir_all(&folder);
            let guest = Guest {
                kernel: elf,
                base,
                programs: &[("cxddp", &ready.programs.cxddp)],
                script: &format!("{BIND}\n{}\n", scenario.script),
                vnic: scenario.vnic,
                vfs: 0,
                iommu: scenario.iommu,
                peer: scenario.peer,
                patience: Duration::from_secs(240),
            };
            let mut qemu = ready.debian.program("usr/bin/qemu-system-x86_64");
            qemu.arg("-L")
                .arg(ready.debian.file("usr/share/qemu"))
                .arg("-L")
                .arg(ready.debian.file("usr/share/seabios"));
            let outcome = guest.run(qemu, &ready.programs.vnic, &folder)?;
            let took = outcome.took.as_secs_f64();
            match verdict(scenario, &outcome) {
                Ok(()) => {
                    println!("ok      {:<24} {label:<5} {took:>6.1} s", scenario.name);
                    if !keep {
                        let _ = std::fs::remove_dir_all(&folder);
                    }
                }
                Err(why) => {
                    failed += 1;
                    println!(
                        "FAILED  {:<24} {label:<5} {took:>6.1} s  {why} (see {})",
                        scenario.name,
                        folder.display()
                    );
                }
            }
        }
        Ok(failed)
    }
}

/// Whether a boot showed what it was to show; and what holds of every one: the device touched no memory that it was not lent.
fn verdict(scenario: &Scenario, outcome: &Outcome) -> Result<(), String> {
    let tail = |text: &str| text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
    match outcome.status {
        None => return Err(format!("the guest did not come to its end: {}", tail(&outcome.console))),
        Some(status) if status != scenario.status => {
            return Err(format!("ended with {status}, not {}: {}", scenario.status, tail(&outcome.output)));
        }
        Some(_) => {}
    }
    if let Some(missing) = scenario.expects.iter().find(|expected| !outcome.output.contains(*expected)) {
        return Err(format!("its output lacks {missing:?}"));
    }
    let violations = outcome.vnic.lines().filter(|line| line.contains("DMA violations"));
    match violations.into_iter().all(|line| line.ends_with("violations 0")) && outcome.vnic.contains("DMA violations 0")
    {
        true => Ok(()),
        false => Err("the device was sent to memory that it was not lent".into()),
    }
}
