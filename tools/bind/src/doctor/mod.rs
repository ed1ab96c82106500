//! `doctor`: everything that has to be true before the driver can run, one line each.
//!
//! ```text
//!  host      the kernel, the IOMMU, VFIO's modules, limits of this process
//!  function  one function: its driver, its group, who may open it, its BAR, its link, how far its addresses reach
//!  need      what the driver will pin and map
//! ```
//!
//! A line says what was found, whether that is a problem, and the command that mends it. What cannot be known from here is
//! said to be unknown, never guessed. Each check has a section in `docs/operator.md`, named like it.

mod function;
mod host;
mod need;
mod person;

pub use need::{Need, Shape};

use crate::function::{Function, as_text, maybe_text};
use crate::root::Root;
use connectx_ddp::platform::vfio::Address;
use person::Person;
use serde::Serialize;
use std::fmt;

/// One thing that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// The kernel's version.
    Kernel,
    /// The IOMMU is on.
    Iommu,
    /// VFIO's modules are loaded.
    Modules,
    /// Lockdown and Secure Boot.
    Lockdown,
    /// Memory that this process may lock, against what will be pinned.
    Memlock,
    /// Mappings that VFIO allows, against what will be mapped.
    DmaEntries,
    /// Huge pages.
    HugePages,
    /// There is a function at all.
    Function,
    /// vfio-pci has it.
    Driver,
    /// Its IOMMU group is VFIO's alone.
    Group,
    /// This user may open it.
    Permissions,
    /// BAR0 has its place.
    Bar,
    /// The PCIe link is as wide and fast as it can be.
    Pcie,
    /// Addresses that the IOMMU translates.
    AddressWidth,
}

impl Check {
    /// Every check, in the order of the lines.
    pub const ALL: [Check; 14] = [
        Check::Kernel,
        Check::Iommu,
        Check::Modules,
        Check::Lockdown,
        Check::Memlock,
        Check::DmaEntries,
        Check::HugePages,
        Check::Function,
        Check::Driver,
        Check::Group,
        Check::Permissions,
        Check::Bar,
        Check::Pcie,
        Check::AddressWidth,
    ];

    /// Its name, which is that of its section, too.
    pub fn name(self) -> &'static str {
        match self {
            Check::Kernel => "kernel",
            Check::Iommu => "iommu",
            Check::Modules => "vfio-modules",
            Check::Lockdown => "lockdown",
            Check::Memlock => "memlock",
            Check::DmaEntries => "dma-entries",
            Check::HugePages => "huge-pages",
            Check::Function => "function",
            Check::Driver => "driver",
            Check::Group => "group",
            Check::Permissions => "permissions",
            Check::Bar => "bar",
            Check::Pcie => "pcie",
            Check::AddressWidth => "address-width",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// The driver cannot run, or not as it could.
    Problem,
    /// Nothing here says.
    CannotTell,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Ok => "ok",
            Verdict::Problem => "problem",
            Verdict::CannotTell => "cannot tell",
        })
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What was looked at.
    #[serde(serialize_with = "as_text")]
    pub check: Check,
    /// The function, unless it is about the machine.
    #[serde(serialize_with = "maybe_text")]
    pub function: Option<Address>,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What mends it, or makes it known.
    pub mend: Option<String>,
}

impl Line {
    fn ok(check: Check, found: impl Into<String>) -> Line {
        Line { check, function: None, verdict: Verdict::Ok, found: found.into(), mend: None }
    }

    fn problem(check: Check, found: impl Into<String>, mend: impl Into<String>) -> Line {
        Line { check, function: None, verdict: Verdict::Problem, found: found.into(), mend: Some(mend.into()) }
    }

    fn cannot_tell(check: Check, found: impl Into<String>, mend: impl Into<String>) -> Line {
        Line { check, function: None, verdict: Verdict::CannotTell, found: found.into(), mend: Some(mend.into()) }
    }

    fn of(mut self, address: Address) -> Line {
        self.function = Some(address);
        self
    }
}

/// Looks at the machine, and at these functions; all that there are, if none is named.
pub fn examine(root: &Root, functions: &[Function], named: &[Address], need: &Need) -> Vec<Line> {
    let person = Person::load(root);
    let chosen = || functions.iter().filter(|function| named.is_empty() || named.contains(&function.address));
    let no_iommu = chosen().any(|function| function.group.as_ref().is_some_and(|group| group.no_iommu));
    let mut lines = host::lines(root, &person, need, no_iommu);
    let missing = named.iter().filter(|address| !functions.iter().any(|function| function.address == **address));
    for address in missing {
        let what = match crate::function::foreigner(root, address) {
            Some(what) => format!("it is no network function of Mellanox or NVIDIA ({what})"),
            None => "there is no such PCI function".to_owned(),
        };
        lines.push(Line::problem(Check::Function, what, "cxddp-bind status lists those that there are").of(*address));
    }
    if named.is_empty() && functions.is_empty() {
        let what = "there is no network function of Mellanox or NVIDIA";
        let mend = "lspci -D -d 15b3: shows what the machine sees; a card that it does not show sits badly, or has no power, \
                    or its slot is off in the firmware setup";
        lines.push(Line::problem(Check::Function, what, mend));
    }
    for function in chosen() {
        lines.extend(function::lines(root, &person, function).into_iter().map(|line| line.of(function.address)));
    }
    lines
}

/// Bytes as a person reads them.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes.div_ceil(1_048_576)),
    }
}
