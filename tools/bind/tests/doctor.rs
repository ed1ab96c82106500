//! `doctor` on machines made of files: each line both ways.
//!
//! | property | test |
//! |---|---|
//! | a machine on which everything is as it should be has no problem, and every check has its line | `a_healthy_machine` |
//! | each check finds its problem, says what it is, and names the command that mends it | `problems_are_found` |
//! | what cannot be known is said to be unknown, and is no problem | `what_cannot_be_told` |
//! | what looks unusual and is in order is in order | `what_is_in_order_all_the_same` |
//! | a function that is not there, and a machine without any, are problems | `no_function` |
//! | each check has its section in the operator's guide, and none is left over | `each_check_has_its_section` |
//! | the mark that a terminal shows and the one for programs agree | `text_and_json_agree` |

mod support;

use cxddp_bind::doctor::{Check, Line, Need, Shape, Verdict, examine};
use cxddp_bind::report;
use std::os::unix::fs::PermissionsExt;
use support::{Machine, PF, address};

const SHAPE: Shape = Shape { queues: 2, queue_size: 32, io_size: 128 << 10, mtu: 1500 };

/// A machine on which the driver can run: everything that it takes, as the kernel shows it.
fn healthy() -> Machine {
    let machine = Machine::server();
    machine.remove(&format!("sys/bus/pci/devices/{PF}/driver"));
    machine.remove(&format!("sys/bus/pci/devices/{PF}/net"));
    machine.attach(PF, "vfio-pci");
    let at = format!("sys/bus/pci/devices/{PF}");
    machine.link(&format!("{at}/iommu"), "../../../virtual/iommu/dmar0");
    for (file, text) in [
        ("proc/sys/kernel/osrelease", "6.12.117+deb13-amd64"),
        ("proc/cmdline", "root=/dev/sda1 intel_iommu=on quiet"),
        ("proc/cpuinfo", "vendor_id\t: GenuineIntel\n"),
        ("sys/firmware/acpi/tables/DMAR", ""),
        ("sys/class/iommu/dmar0/x", ""),
        ("sys/devices/virtual/iommu/dmar0/intel-iommu/cap", "d2008c40660462"),
        ("sys/module/vfio_iommu_type1/parameters/dma_entry_limit", "65535"),
        ("sys/kernel/security/lockdown", "[none] integrity confidentiality"),
        (
            "proc/self/limits",
            "Limit  Soft  Hard  Units\nMax locked memory         unlimited            unlimited            bytes\n",
        ),
        ("proc/meminfo", "HugePages_Total:    1024\nHugePages_Free:     1000\nHugepagesize:       2048 kB\n"),
        ("dev/vfio/42", ""),
        ("dev/vfio/vfio", ""),
        ("sys/devices/pci0000:3a/0000:3a:00.0/max_link_width", "16"),
    ] {
        machine.write(file, text);
    }
    is_user(&machine, rustix::process::getuid().as_raw(), 0);
    machine
}

/// Who asks: a user, with capabilities.
fn is_user(machine: &Machine, user: u32, capabilities: u64) {
    let text = format!(
        "Uid:\t{user}\t{user}\t{user}\t{user}\nGid:\t7\t7\t7\t7\nGroups:\t7 8 \nCapEff:\t{capabilities:016x}\n"
    );
    machine.write("proc/self/status", &text);
}

fn limit(machine: &Machine, bytes: &str) {
    machine.write(
        "proc/self/limits",
        &format!("Max locked memory         {bytes}              {bytes}              bytes\n"),
    );
}

fn lines(machine: &Machine) -> Vec<Line> {
    examine(&machine.root, &machine.functions(), &[], &Need::of(SHAPE))
}

#[track_caller]
fn line(machine: &Machine, check: Check) -> Line {
    lines(machine).into_iter().find(|line| line.check == check).unwrap_or_else(|| panic!("no line about {check}"))
}

#[test]
fn a_healthy_machine() {
    let machine = healthy();
    let lines = lines(&machine);
    for line in &lines {
        assert_eq!(line.verdict, Verdict::Ok, "{line:?}");
        assert_eq!(line.mend, None, "{line:?}");
    }
    assert_eq!(lines.iter().map(|line| line.check).collect::<Vec<_>>(), Check::ALL);
    assert!(report::is_healthy(&lines));
}

/// What is wrong, the check that finds it, words of what it found, words of what mends it.
type Case = (fn(&Machine), Check, &'static str, &'static str);

fn no_groups(machine: &Machine) {
    machine.remove("sys/kernel/iommu_groups");
    machine.remove(&format!("sys/bus/pci/devices/{PF}/iommu_group"));
}

const PROBLEMS: &[Case] = &[
    (|m| m.write("proc/sys/kernel/osrelease", "4.18.0-553.el8"), Check::Kernel, "4.18.0", "from 5.4 on"),
    (
        |m| {
            no_groups(m);
            m.write("proc/cmdline", "quiet");
        },
        Check::Iommu,
        "firmware offers Intel VT-d, and the kernel was not asked",
        "intel_iommu=on",
    ),
    (
        |m| {
            no_groups(m);
            m.write("proc/cmdline", "quiet intel_iommu=off");
        },
        Check::Iommu,
        "off, by intel_iommu=off",
        "take intel_iommu=off off",
    ),
    (
        |m| {
            no_groups(m);
            m.remove("sys/firmware/acpi/tables/DMAR");
        },
        Check::Iommu,
        "there is no ACPI table DMAR",
        "turn Intel VT-d on in the firmware setup",
    ),
    (no_groups, Check::Iommu, "although firmware offers Intel VT-d", "dmesg"),
    (
        |m| {
            no_groups(m);
            m.write("proc/cpuinfo", "vendor_id\t: AuthenticAMD\n");
            m.remove("sys/firmware/acpi/tables/DMAR");
        },
        Check::Iommu,
        "there is no ACPI table IVRS",
        "turn AMD-Vi (IOMMU) on in the firmware setup, and restart",
    ),
    (
        |m| {
            no_groups(m);
            m.write("proc/cpuinfo", "CPU implementer\t: 0x41\n");
            m.remove("sys/firmware/acpi/tables/DMAR");
        },
        Check::Iommu,
        "there is no ACPI table IORT",
        "turn SMMU on in the firmware setup",
    ),
    (
        |m| {
            no_groups(m);
            m.write("proc/cpuinfo", "");
            m.remove("sys/firmware/acpi/tables/DMAR");
        },
        Check::Iommu,
        "this processor's kind is not known",
        "firmware setup",
    ),
    (|m| m.write("sys/kernel/iommu_groups/42/name", "vfio-noiommu"), Check::Iommu, "off", "dmesg"),
    (
        |m| m.write("sys/kernel/iommu_groups/42/name", "vfio-noiommu"),
        Check::Group,
        "can write any memory",
        "enable_unsafe_noiommu_mode",
    ),
    (
        |m| {
            m.write("sys/kernel/iommu_groups/42/name", "vfio-noiommu");
            m.write("proc/meminfo", "HugePages_Total: 9\nHugePages_Free: 1\nHugepagesize: 2048 kB\n");
        },
        Check::HugePages,
        "1 of 9 are free, of 2048 KiB each; without an IOMMU the driver needs up to 75",
        "echo 83 > /proc/sys/vm/nr_hugepages",
    ),
    (|m| m.remove("sys/bus/pci/drivers/vfio-pci"), Check::Modules, "vfio-pci is not loaded", "modprobe vfio-pci"),
    (
        |m| m.remove("sys/module/vfio_iommu_type1"),
        Check::Modules,
        "vfio_iommu_type1 is not loaded",
        "modprobe vfio_iommu_type1",
    ),
    (|m| limit(m, "8388608"), Check::Memlock, "this process may lock 8 MiB", "ulimit -l "),
    (
        |m| m.write("sys/module/vfio_iommu_type1/parameters/dma_entry_limit", "3"),
        Check::DmaEntries,
        "3 mappings are allowed",
        "dma_entry_limit",
    ),
    (|m| m.attach(PF, "mlx5_core"), Check::Driver, "the kernel's mlx5_core has it", "cxddp-bind bind 0000:3b:00.0"),
    (
        |m| m.remove(&format!("sys/bus/pci/devices/{PF}/driver")),
        Check::Driver,
        "no driver has it",
        "cxddp-bind bind 0000:3b:00.0",
    ),
    (|m| m.opens(4711, "cxddp", "/dev/vfio/42"), Check::Driver, "process 4711 (cxddp)", "kill 4711"),
    (
        |m| {
            m.pci("0000:3b:00.1", "0x15b3", "0x1021", "0x020000");
            m.driver("mlx5_core");
            m.group("0000:3b:00.1", 42);
            m.attach("0000:3b:00.1", "mlx5_core");
        },
        Check::Group,
        "group 42 also holds 0000:3b:00.1 (mlx5_core)",
        "cxddp-bind bind 0000:3b:00.0 0000:3b:00.1",
    ),
    (|m| is_user(m, 54_321, 0), Check::Permissions, "may not read and write /dev/vfio/42", "70-vfio.rules"),
    (
        |m| m.write(&format!("sys/bus/pci/devices/{PF}/resource"), "0x0000000000000000 0x0000000000000000 0x0"),
        Check::Bar,
        "no place in the address space",
        "Above 4G Decoding",
    ),
    (
        |m| m.write(&format!("sys/bus/pci/devices/{PF}/resource"), "0x00000000f0000000 0x00000000f0003fff 0x0"),
        Check::Bar,
        "16 KiB only",
        "dmesg",
    ),
    (
        |m| m.write(&format!("sys/bus/pci/devices/{PF}/current_link_width"), "8"),
        Check::Pcie,
        "8 lanes, of 32.0 GT/s",
        "another slot",
    ),
    (
        |m| {
            m.write(&format!("sys/bus/pci/devices/{PF}/current_link_width"), "8");
            m.write("sys/devices/pci0000:3a/0000:3a:00.0/max_link_width", "8");
        },
        Check::Pcie,
        "8 lanes",
        "the slot has 8 lanes",
    ),
    (
        |m| m.write(&format!("sys/bus/pci/devices/{PF}/current_link_speed"), "8.0 GT/s PCIe"),
        Check::Pcie,
        "8.0 GT/s",
        "another slot",
    ),
    (
        |m| m.write("sys/devices/virtual/iommu/dmar0/intel-iommu/cap", "1f0000"),
        Check::AddressWidth,
        "translates 32 bits",
        "aw-bits=48",
    ),
];

#[test]
fn problems_are_found() {
    for (spoil, check, found, mend) in PROBLEMS {
        let machine = healthy();
        spoil(&machine);
        let line = line(&machine, *check);
        assert_eq!(line.verdict, Verdict::Problem, "{line:?}");
        assert!(line.found.contains(found), "{line:?} does not say {found:?}");
        assert!(line.mend.as_ref().is_some_and(|text| text.contains(mend)), "{line:?} does not say {mend:?}");
        assert!(!report::is_healthy(&lines(&machine)));
    }
}

/// What is changed, the check that is asked, words that it says.
type Change = (fn(&Machine), Check, &'static str);

const UNKNOWN: &[Change] = &[
    (|m| m.write("proc/sys/kernel/osrelease", "custom"), Check::Kernel, "uname"),
    (
        |m| {
            m.remove("sys/kernel/security/lockdown");
            m.remove("sys/bus/pci/drivers/vfio-pci");
        },
        Check::Lockdown,
        "securityfs",
    ),
    (
        |m| {
            m.write("sys/kernel/security/lockdown", "none [integrity] confidentiality");
            m.remove("sys/bus/pci/drivers/vfio-pci");
        },
        Check::Lockdown,
        "modprobe vfio-pci",
    ),
    (|m| m.remove("proc/self/limits"), Check::Memlock, "ulimit"),
    (|m| m.remove("sys/module/vfio_iommu_type1"), Check::DmaEntries, "iommufd has no such limit"),
    (|m| m.remove("proc/meminfo"), Check::HugePages, "meminfo"),
    (|m| m.write(&format!("sys/bus/pci/devices/{PF}/device"), "0x9999"), Check::Function, "cxddp probe"),
    (|m| m.remove("dev/vfio/42"), Check::Permissions, "cxddp-bind bind"),
    (|m| m.remove("proc/self/status"), Check::Permissions, ""),
    (|m| m.remove(&format!("sys/bus/pci/devices/{PF}/resource")), Check::Bar, "lspci"),
    (|m| m.write(&format!("sys/bus/pci/devices/{PF}/max_link_speed"), "Unknown"), Check::Pcie, "lspci"),
    (|m| m.write(&format!("sys/bus/pci/devices/{PF}/current_link_width"), "0"), Check::Pcie, "lspci"),
    (|m| m.remove(&format!("sys/bus/pci/devices/{PF}/iommu")), Check::AddressWidth, "cxddp probe"),
];

#[test]
fn what_cannot_be_told() {
    for (hide, check, hint) in UNKNOWN {
        let machine = healthy();
        hide(&machine);
        let line = line(&machine, *check);
        assert_eq!(line.verdict, Verdict::CannotTell, "{line:?}");
        assert!(line.mend.as_ref().is_some_and(|text| text.contains(hint)), "{line:?} does not say {hint:?}");
    }
}

const IN_ORDER: &[Change] = &[
    (
        |m| {
            limit(m, "8388608");
            is_user(m, 0, 1 << 14);
        },
        Check::Memlock,
        "CAP_IPC_LOCK",
    ),
    (|m| limit(m, "1073741824"), Check::Memlock, "1024 MiB"),
    (
        |m| m.write("proc/meminfo", "HugePages_Total: 0\nHugePages_Free: 0\nHugepagesize: 2048 kB\n"),
        Check::HugePages,
        "does not need",
    ),
    (
        |m| m.write("proc/meminfo", "HugePages_Total: 9\nHugePages_Free: 0\nHugepagesize: 2048 kB\n"),
        Check::HugePages,
        "0 of 9",
    ),
    (|m| m.write("sys/kernel/iommu_groups/42/name", "vfio-noiommu"), Check::HugePages, "1000 of 1024"),
    (|m| m.write("sys/kernel/security/lockdown", "none [integrity] confidentiality"), Check::Lockdown, "integrity"),
    (|m| m.remove("sys/kernel/security/lockdown"), Check::Lockdown, "does not tell"),
    (
        |m| {
            is_user(m, 54_321, 1 << 1);
        },
        Check::Permissions,
        "/dev/vfio/42 and /dev/vfio/vfio",
    ),
    (
        |m| {
            is_user(m, 54_321, 0);
            for file in ["dev/vfio/42", "dev/vfio/vfio"] {
                std::fs::set_permissions(m.root.path(file), std::fs::Permissions::from_mode(0o666)).expect("ours");
            }
        },
        Check::Permissions,
        "/dev/vfio/42",
    ),
    (
        |m| {
            m.folder(&format!("sys/bus/pci/devices/{PF}/vfio-dev/vfio0"));
            m.write("dev/vfio/devices/vfio0", "");
            m.write("dev/iommu", "");
        },
        Check::Permissions,
        "/dev/vfio/devices/vfio0 and /dev/iommu",
    ),
    (
        |m| {
            m.remove("sys/module/vfio_iommu_type1");
            m.write("dev/iommu", "");
            m.folder("sys/class/vfio-dev");
        },
        Check::Modules,
        "iommufd",
    ),
    (
        |m| {
            m.remove("sys/devices/virtual/iommu/dmar0/intel-iommu");
            m.write("sys/devices/virtual/iommu/dmar0/amd-iommu/features", "58f77ef22294ade:0");
        },
        Check::AddressWidth,
        "translates",
    ),
    (
        |m| {
            m.pci("0000:3b:00.1", "0x15b3", "0x1021", "0x020000");
            m.group("0000:3b:00.1", 42);
        },
        Check::Group,
        "0000:3b:00.1 (no driver), none of which is in the way",
    ),
];

#[test]
fn what_is_in_order_all_the_same() {
    for (change, check, found) in IN_ORDER {
        let machine = healthy();
        change(&machine);
        let line = line(&machine, *check);
        assert_eq!(line.verdict, Verdict::Ok, "{line:?}");
        assert!(line.found.contains(found), "{line:?} does not say {found:?}");
    }
}

#[test]
fn no_function() {
    let machine = healthy();
    let found = examine(&machine.root, &machine.functions(), &[address("0000:99:00.0")], &Need::of(SHAPE));
    let line = found.last().expect("a line");
    assert_eq!(
        (line.check, line.verdict, line.function),
        (Check::Function, Verdict::Problem, Some(address("0000:99:00.0")))
    );
    machine.remove(&format!("sys/bus/pci/devices/{PF}"));
    let line = self::line(&machine, Check::Function);
    assert_eq!((line.verdict, line.function), (Verdict::Problem, None));
    assert!(line.mend.is_some_and(|mend| mend.contains("lspci -D -d 15b3:")));
}

#[test]
fn each_check_has_its_section() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operator.md");
    let text = std::fs::read_to_string(path).expect("the guide");
    let start = text.find("## What doctor names").expect("the part about doctor");
    let part = text[start..].lines().skip(1).take_while(|line| !line.starts_with("## "));
    let sections: Vec<_> = part.filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(sections, Check::ALL.map(Check::name));
}

#[test]
fn text_and_json_agree() {
    let machine = healthy();
    machine.attach(PF, "mlx5_core");
    machine.remove("proc/meminfo");
    let lines = lines(&machine);
    let (text, json) = (report::doctor_text(&lines), report::doctor_json(&lines));
    assert_eq!(json["problems"], 1);
    assert_eq!(json["ok"], false);
    let listed = json["lines"].as_array().expect("lines");
    assert_eq!(listed.len(), lines.len());
    for (value, line) in listed.iter().zip(&lines) {
        let verdict = value["verdict"].as_str().expect("a word").replace('-', " ");
        let found = value["found"].as_str().expect("text");
        assert!(text.contains(&format!("{verdict:<12} {:<14} {found}\n", line.check.name())), "{text}");
        assert_eq!(value["section"], format!("docs/operator.md#{}", line.check.name()));
        assert_eq!(value["function"].is_null(), line.function.is_none());
    }
    assert!(text.contains(&format!("\n{PF}\nok           function       ")), "{text}");
    assert!(text.ends_with("\n1 problem\n"), "{text}");
}
