//! One function.

use super::person::Person;
use super::{Check, Line, size};
use crate::function::{Function, VFIO_PCI, folder};
use crate::root::Root;

pub(super) fn lines(root: &Root, person: &Person, function: &Function) -> Vec<Line> {
    let mut lines = vec![identity(function), driver(function)];
    lines.extend(function.group.as_ref().map(|_| group(function)));
    lines.extend([
        permissions(root, person, function),
        bar(root, function),
        pcie(root, function),
        address_width(root, function),
    ]);
    lines
}

fn identity(function: &Function) -> Line {
    let found = format!("{} [15b3:{:04x}]", function.name, function.device);
    match function.supported {
        true => Line::ok(Check::Function, found),
        false => Line::cannot_tell(
            Check::Function,
            format!("{found} is none that the driver is known to bring up"),
            format!("cxddp probe --device {} asks its firmware", function.address),
        ),
    }
}

fn driver(function: &Function) -> Line {
    let address = function.address;
    let mend = format!("cxddp-bind bind {address}");
    match function.driver.as_deref() {
        Some(VFIO_PCI) => match function.users.first() {
            None => Line::ok(Check::Driver, VFIO_PCI),
            Some(user) => Line::problem(
                Check::Driver,
                format!("{VFIO_PCI}, and process {} ({}) has the function open already", user.pid, user.name),
                format!("kill {}", user.pid),
            ),
        },
        Some(driver) => Line::problem(Check::Driver, format!("the kernel's {driver} has it"), mend),
        None => Line::problem(Check::Driver, "no driver has it", mend),
    }
}

fn group(function: &Function) -> Line {
    let Some(group) = &function.group else { return Line::ok(Check::Group, "none") };
    let id = group.id;
    if group.no_iommu {
        return Line::problem(
            Check::Group,
            format!("group {id} was made up by VFIO's no-IOMMU mode: the card can write any memory of this machine"),
            "turn the IOMMU on (see iommu), and off with that mode: echo N > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
        );
    }
    let blocking: Vec<_> = group.others.iter().filter(|other| other.blocks()).collect();
    let shown = |name: &str, driver: &Option<String>| format!("{name} ({})", driver.as_deref().unwrap_or("no driver"));
    if blocking.is_empty() {
        let others: Vec<_> = group.others.iter().map(|other| shown(&other.name, &other.driver)).collect();
        return Line::ok(
            Check::Group,
            match others.is_empty() {
                true => format!("alone in group {id}"),
                false => format!("group {id}, with {}, none of which is in the way", others.join(", ")),
            },
        );
    }
    let names: Vec<_> = blocking.iter().map(|other| shown(&other.name, &other.driver)).collect();
    let addresses: Vec<_> = blocking.iter().map(|other| other.name.as_str()).collect();
    Line::problem(
        Check::Group,
        format!("group {id} also holds {}, and VFIO hands out a group whole or not at all", names.join(", ")),
        format!(
            "functions of the same card: cxddp-bind bind {} {}; anything else: another slot, or ACS in the firmware setup",
            function.address,
            addresses.join(" ")
        ),
    )
}

fn permissions(root: &Root, person: &Person, function: &Function) -> Line {
    let cannot = |what: String| {
        let mend = format!("bind it first: cxddp-bind bind {}", function.address);
        Line::cannot_tell(Check::Permissions, what, mend)
    };
    let by_cdev = function.cdev.as_ref().map(|name| format!("dev/vfio/devices/{name}"));
    let by_cdev =
        by_cdev.filter(|path| root.exists(path) && root.exists("dev/iommu")).map(|path| [path, "dev/iommu".into()]);
    let by_group = function.group.as_ref().map(|group| {
        let noiommu = if group.no_iommu { "noiommu-" } else { "" };
        [format!("dev/vfio/{noiommu}{}", group.id), "dev/vfio/vfio".to_owned()]
    });
    let by_group = by_group.filter(|[path, _]| root.exists(path));
    // The driver takes the newer way where there is one.
    let Some(files) = by_cdev.or(by_group) else { return cannot("there is no file of it in /dev/vfio yet".into()) };
    for file in &files {
        let shown = Root::shown(file);
        let stat = match rustix::fs::stat(root.path(file)) {
            Ok(stat) => stat,
            Err(error) => return cannot(format!("{shown}: {error}")),
        };
        match person.may_use(&stat) {
            Some(true) => {}
            None => return cannot("it is not known who asks (/proc/self/status)".into()),
            Some(false) => {
                let mode = stat.st_mode & 0o777;
                return Line::problem(
                    Check::Permissions,
                    format!(
                        "this user may not read and write {shown} (user {}, group {}, mode {mode:03o})",
                        stat.st_uid, stat.st_gid
                    ),
                    format!(
                        "chown \"$USER\" {shown} as root; for good, in /etc/udev/rules.d/70-vfio.rules: \
                         SUBSYSTEM==\"vfio\", GROUP=\"vfio\", MODE=\"0660\""
                    ),
                );
            }
        }
    }
    Line::ok(Check::Permissions, format!("this user may open {}", files.map(|file| Root::shown(&file)).join(" and ")))
}

/// Registers that the driver writes begin with the second page, and firmware hands out doorbell pages behind the interrupt
/// table (`mlx5-numbers.md`): less than this holds none.
const SMALLEST_BAR: u64 = 64 << 10;

fn bar(root: &Root, function: &Function) -> Line {
    let text = root.text(&format!("{}/resource", folder(&function.address))).unwrap_or_default();
    let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    let words: Vec<u64> = text.lines().next().unwrap_or_default().split_whitespace().filter_map(hex).collect();
    let mend = "in the firmware setup: Above 4G Decoding on (and SR-IOV support for virtual functions); or boot with pci=realloc";
    match words[..] {
        [0, 0, ..] => Line::problem(Check::Bar, "BAR0 has no place in the address space", mend),
        [start, end, _] if end > start && end - start < SMALLEST_BAR - 1 => {
            let found = format!("BAR0 has {} only, which leaves no room for doorbells", size(end - start + 1));
            Line::problem(Check::Bar, found, "see what the kernel says of it: dmesg | grep -i BAR")
        }
        [start, end, _] if end > start => {
            Line::ok(Check::Bar, format!("BAR0 has {} at {start:#x}", size(end - start + 1)))
        }
        _ => Line::cannot_tell(
            Check::Bar,
            "BAR0's size cannot be read",
            format!("lspci -vs {} shows it", function.address),
        ),
    }
}

/// Gigatransfers per second out of "16.0 GT/s PCIe".
fn rate(speed: &str) -> Option<f64> {
    speed.split_whitespace().next()?.parse().ok()
}

fn pcie(root: &Root, function: &Function) -> Line {
    let link = &function.link;
    let known = || Some((link.speed.as_ref()?, link.width?, link.max_speed.as_ref()?, link.max_width?));
    let Some((speed, width, max_speed, max_width)) = known() else {
        let mend = format!("lspci -vvs {} | grep Lnk, as root", function.address);
        return Line::cannot_tell(Check::Pcie, "the kernel does not tell of the link", mend);
    };
    let slow = rate(speed).zip(rate(max_speed)).is_none_or(|(now, most)| now < most);
    if !slow && width >= max_width {
        return Line::ok(Check::Pcie, format!("{speed}, {width} lanes, the card's maximum"));
    }
    // What is on the other side of the link says whether another slot would help.
    let address = function.physical.as_ref().unwrap_or(&function.address);
    let above = std::fs::canonicalize(root.path(&folder(address))).ok();
    let above = above.and_then(|path| Some(path.parent()?.join("max_link_width")));
    let lanes = above.and_then(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u32>().ok());
    let mend = match lanes {
        Some(lanes) if lanes < max_width => format!("the slot has {lanes} lanes: move the card to one with {max_width}"),
        _ => "the slot may be slower than the card, or the card sits badly: try another slot, and see its speed in the firmware setup"
            .to_owned(),
    };
    let found = format!(
        "{speed}, {width} lanes, of {max_speed}, {max_width} lanes, which the card has: placement will be limited"
    );
    Line::problem(Check::Pcie, found, mend)
}

/// The driver takes addresses from 4 GiB up; this leaves it room for more than any machine has memory to pin.
const ENOUGH_BITS: u32 = 39;

fn address_width(root: &Root, function: &Function) -> Line {
    let at = format!("{}/iommu", folder(&function.address));
    let cap = root.text(&format!("{at}/intel-iommu/cap"));
    // Intel tells in its capability register (maximum guest address width); AMD has four levels of tables, or more.
    let intel = cap.and_then(|text| u64::from_str_radix(&text, 16).ok()).map(|cap| (cap >> 16 & 0x3f) as u32 + 1);
    let amd = root.exists(&format!("{at}/amd-iommu")).then_some(48);
    match intel.or(amd) {
        Some(bits) if bits >= ENOUGH_BITS => Line::ok(Check::AddressWidth, format!("the IOMMU translates {bits} bits")),
        Some(bits) => Line::problem(
            Check::AddressWidth,
            format!("the IOMMU translates {bits} bits, which leaves the driver little room above 4 GiB"),
            "in a virtual machine: QEMU's -device intel-iommu,aw-bits=48; else a firmware update",
        ),
        None => Line::cannot_tell(
            Check::AddressWidth,
            "the kernel does not tell how many bits the IOMMU translates",
            format!("cxddp probe --device {} -v uses the ranges that VFIO reports", function.address),
        ),
    }
}
