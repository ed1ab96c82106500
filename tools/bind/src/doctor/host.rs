//! The machine: kernel, IOMMU, modules, limits.

use super::person::Person;
use super::{Check, Line, Need, size};
use crate::root::Root;

/// `no_iommu`: a function is to be driven without.
pub(super) fn lines(root: &Root, person: &Person, need: &Need, no_iommu: bool) -> Vec<Line> {
    vec![
        kernel(root),
        iommu(root),
        modules(root),
        lockdown(root),
        memlock(person, need),
        dma_entries(root, need),
        huge_pages(root, need, no_iommu),
    ]
}

/// The IOMMU tells which addresses it translates since this version, and the driver asks.
const OLDEST: (u32, u32) = (5, 4);

fn kernel(root: &Root) -> Line {
    let release = root.text("proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    match numbers.next().zip(numbers.next()) {
        Some(version) if version >= OLDEST => Line::ok(Check::Kernel, format!("Linux {release}")),
        Some(_) => Line::problem(
            Check::Kernel,
            format!("Linux {release} does not tell which addresses the IOMMU translates"),
            format!("install a kernel from {}.{} on; 6.1 and later are tested", OLDEST.0, OLDEST.1),
        ),
        None => Line::cannot_tell(
            Check::Kernel,
            "the kernel's version cannot be read",
            "uname -r shows it; 5.4 or later is needed",
        ),
    }
}

/// What the processor's maker calls it, the firmware's table of it, the kernel's option, whether the option is needed.
struct Maker {
    name: &'static str,
    table: &'static str,
    option: Option<&'static str>,
}

fn maker(root: &Root) -> Option<Maker> {
    let cpu = root.text("proc/cpuinfo").unwrap_or_default();
    let tables = root.names("sys/firmware/acpi/tables");
    let is = |text: &str| cpu.contains(text);
    let has = |table: &str| tables.iter().any(|name| name == table);
    match () {
        () if is("GenuineIntel") || has("DMAR") => {
            Some(Maker { name: "Intel VT-d", table: "DMAR", option: Some("intel_iommu=on") })
        }
        () if is("AuthenticAMD") || is("HygonGenuine") || has("IVRS") => {
            Some(Maker { name: "AMD-Vi (IOMMU)", table: "IVRS", option: None })
        }
        () if is("CPU implementer") || has("IORT") => Some(Maker { name: "SMMU", table: "IORT", option: None }),
        () => None,
    }
}

fn iommu(root: &Root) -> Line {
    let groups = root.names("sys/kernel/iommu_groups");
    let real = groups
        .iter()
        .filter(|id| root.text(&format!("sys/kernel/iommu_groups/{id}/name")).as_deref() != Some("vfio-noiommu"));
    let (real, units) = (real.count(), root.names("sys/class/iommu"));
    if real > 0 {
        let units = if units.is_empty() { String::new() } else { format!(" ({})", units.join(", ")) };
        return Line::ok(Check::Iommu, format!("on{units}, {real} groups"));
    }
    const HOW: &str = "add it to the kernel's command line (Debian, Ubuntu: GRUB_CMDLINE_LINUX in /etc/default/grub, then \
                       update-grub; Fedora, RHEL: grubby --update-kernel=ALL --args=OPTION), and restart the machine";
    let options = root.text("proc/cmdline").unwrap_or_default();
    let off = options.split_whitespace().find(|option| {
        ["intel_iommu=off", "amd_iommu=off", "iommu=off", "iommu=0", "arm-smmu.disable_bypass=0"].contains(option)
    });
    if let Some(option) = off {
        let mend = format!(
            "take {option} off the kernel's command line (`cat /proc/cmdline` shows it), and restart the machine"
        );
        return Line::problem(Check::Iommu, format!("off, by {option} on the kernel's command line"), mend);
    }
    match maker(root) {
        Some(Maker { name, table, option }) => {
            let in_firmware = root.exists(&format!("sys/firmware/acpi/tables/{table}"));
            let asked = option.is_some_and(|option| options.split_whitespace().any(|word| word == option));
            match (option, in_firmware) {
                (Some(option), true) if !asked => {
                    let what =
                        format!("off: firmware offers {name}, and the kernel was not asked to use it ({option})");
                    Line::problem(Check::Iommu, what, format!("{option}: {}", HOW.replace("OPTION", option)))
                }
                (_, true) => Line::problem(
                    Check::Iommu,
                    format!("off, although firmware offers {name}"),
                    "see why: dmesg | grep -i -e iommu -e dmar -e amd-vi -e smmu",
                ),
                (option, false) => {
                    let first = format!("turn {name} on in the firmware setup");
                    let mend = match option.filter(|_| !asked) {
                        Some(option) => format!("{first}; then {option}: {}", HOW.replace("OPTION", option)),
                        None => format!("{first}, and restart the machine"),
                    };
                    let what = format!(
                        "off: firmware offers none (there is no ACPI table {table}); a virtual machine needs one, too"
                    );
                    Line::problem(Check::Iommu, what, mend)
                }
            }
        }
        None => Line::problem(
            Check::Iommu,
            "off, and this processor's kind is not known here",
            "turn the IOMMU (VT-d, AMD-Vi, SMMU) on in the firmware setup; see dmesg | grep -i iommu",
        ),
    }
}

fn modules(root: &Root) -> Line {
    let vfio_pci = root.exists("sys/bus/pci/drivers/vfio-pci");
    let type1 = root.exists("sys/module/vfio_iommu_type1");
    let iommufd = root.exists("dev/iommu") && root.exists("sys/class/vfio-dev");
    if vfio_pci && (type1 || iommufd) {
        let ways: Vec<_> = [(type1, "group and container"), (iommufd, "iommufd")]
            .into_iter()
            .filter_map(|(is, way)| is.then_some(way))
            .collect();
        return Line::ok(Check::Modules, format!("vfio-pci is loaded; ways in: {}", ways.join(", ")));
    }
    let missing = if vfio_pci { "vfio_iommu_type1" } else { "vfio-pci" };
    let mend = format!("modprobe {missing} (for good: echo {missing} > /etc/modules-load.d/vfio.conf)");
    Line::problem(Check::Modules, format!("{missing} is not loaded"), mend)
}

fn lockdown(root: &Root) -> Line {
    const SECURE_BOOT: &str = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    // Four bytes of attributes come before the value.
    let secure = root.bytes(SECURE_BOOT).ok().and_then(|bytes| bytes.get(4).copied());
    let secure = match secure {
        Some(1) => "Secure Boot is on",
        Some(_) => "Secure Boot is off",
        None => "no word of Secure Boot",
    };
    let text = root.text("sys/kernel/security/lockdown").unwrap_or_default();
    let mode = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    let loaded = root.exists("sys/bus/pci/drivers/vfio-pci");
    match mode {
        Some("none") => Line::ok(Check::Lockdown, format!("none; {secure}")),
        Some(mode) if loaded => {
            Line::ok(Check::Lockdown, format!("{mode}; {secure}; vfio-pci is loaded, and works behind an IOMMU"))
        }
        Some(mode) => Line::cannot_tell(
            Check::Lockdown,
            format!("{mode}; {secure}; only signed modules load, and vfio-pci is not loaded yet"),
            "modprobe vfio-pci: if it is refused, install the distribution's own kernel modules, or enroll the key that signed yours",
        ),
        None if loaded => {
            Line::ok(Check::Lockdown, format!("this kernel has none, or does not tell; {secure}; vfio-pci is loaded"))
        }
        None => Line::cannot_tell(
            Check::Lockdown,
            format!("the kernel does not tell; {secure}"),
            "mount -t securityfs none /sys/kernel/security; or modprobe vfio-pci, and see whether it loads",
        ),
    }
}

fn memlock(person: &Person, need: &Need) -> Line {
    let bytes = need.bytes();
    let wanted = format!("{need} will be pinned");
    match person.lockable {
        _ if person.locks_freely() => {
            Line::ok(Check::Memlock, format!("no limit for this user (CAP_IPC_LOCK); {wanted}"))
        }
        Some(u64::MAX) => Line::ok(Check::Memlock, format!("unlimited; {wanted}")),
        Some(limit) if limit >= bytes => Line::ok(Check::Memlock, format!("{}; {wanted}", size(limit))),
        Some(limit) => Line::problem(
            Check::Memlock,
            format!("this process may lock {}, and {wanted}", size(limit)),
            format!(
                "ulimit -l {} in the shell that starts the driver; above its hard limit: `USER - memlock {0}` in \
                 /etc/security/limits.conf and a new login, or LimitMEMLOCK={bytes} in the unit",
                bytes.div_ceil(1024)
            ),
        ),
        None => Line::cannot_tell(
            Check::Memlock,
            format!("the limit cannot be read; {wanted}"),
            "ulimit -l shows it, in KiB",
        ),
    }
}

fn dma_entries(root: &Root, need: &Need) -> Line {
    let mappings = need.mappings();
    match root.number("sys/module/vfio_iommu_type1/parameters/dma_entry_limit") {
        Some(limit) if limit >= mappings => {
            Line::ok(Check::DmaEntries, format!("{limit} mappings are allowed; at most {mappings} are made"))
        }
        Some(limit) => Line::problem(
            Check::DmaEntries,
            format!("{limit} mappings are allowed, and up to {mappings} are made"),
            "echo 65535 > /sys/module/vfio_iommu_type1/parameters/dma_entry_limit \
             (for good: options vfio_iommu_type1 dma_entry_limit=65535 in /etc/modprobe.d/vfio.conf)",
        ),
        None => Line::cannot_tell(
            Check::DmaEntries,
            format!("vfio_iommu_type1 is not loaded; at most {mappings} mappings are made"),
            "modprobe vfio_iommu_type1; iommufd has no such limit",
        ),
    }
}

fn huge_pages(root: &Root, need: &Need, no_iommu: bool) -> Line {
    let text = root.text("proc/meminfo").unwrap_or_default();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let Some((total, page)) = value("HugePages_Total").zip(value("Hugepagesize")).filter(|(_, page)| *page > 0) else {
        return Line::cannot_tell(
            Check::HugePages,
            "the kernel does not tell of any; behind an IOMMU the driver does not need them",
            "grep Huge /proc/meminfo",
        );
    };
    let wanted = need.bytes().div_ceil(page * 1024);
    let free = value("HugePages_Free").unwrap_or(0);
    let found = match total {
        0 => "none are set aside".to_owned(),
        _ => format!("{free} of {total} are free, of {page} KiB each"),
    };
    let enough = free >= wanted;
    let command = format!("echo {} > /proc/sys/vm/nr_hugepages", total - free.min(total) + wanted);
    // Behind an IOMMU the driver takes huge pages where there are any, and ordinary ones where not. Without one a device needs
    // memory whose pages follow each other.
    match no_iommu {
        true if !enough => {
            let found = format!("{found}; without an IOMMU the driver needs up to {wanted}");
            Line::problem(Check::HugePages, found, command)
        }
        true => Line::ok(Check::HugePages, found),
        false => {
            let mut line = Line::ok(Check::HugePages, format!("{found}; the driver does not need them"));
            line.mend = (!enough).then(|| format!("fewer entries of the IOMMU: {command}"));
            line
        }
    }
}
