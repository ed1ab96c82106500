//! `status` on machines made of files, and the names of functions.
//!
//! | property | test |
//! |---|---|
//! | a function is told in full, for people | `a_function_is_told` |
//! | and for programs, in the shape that `docs/bind.md` documents | `the_shape_is_documented` |
//! | names come from the system's list, else from ours, else are unknown | `names_are_looked_up` |
//! | only network functions of our vendor are shown, whoever has them | `only_ours_are_shown` |
//! | a virtual function is told with its physical one, and its link | `a_virtual_function` |
//! | files that hold nonsense are nothing, not a panic | `nonsense_is_nothing` |

mod support;

use cxddp_bind::report::{Status, status_json, status_text};
use cxddp_bind::uses::Host;
use serde_json::Value;
use support::{Machine, PF, PF2};

fn status(machine: &Machine) -> Vec<Status> {
    let host = Host::load(&machine.root);
    machine.functions().into_iter().map(|function| Status::new(&machine.root, &host, function)).collect()
}

fn busy() -> Machine {
    let machine = Machine::server();
    machine.upper("ens1f0np0", "bond0");
    machine.write("proc/net/route", "head\nbond0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
    machine.virtual_functions(1);
    machine
}

#[test]
fn a_function_is_told() {
    let text = status_text(&status(&busy()));
    let expected = "\
0000:3b:00.0  ConnectX-7 [15b3:1021]
  driver      mlx5_core
  IOMMU       group 42, alone
  NUMA node   1
  PCIe        32.0 GT/s PCIe, 16 lanes (its maximum)
  interface   ens1f0np0, up, carrier, 200000 Mb/s, a0:88:c2:00:00:01, under bond0
  SR-IOV      1 of 8 virtual functions: 0000:3b:00.2
  carries     the IPv4 default route to 10.0.0.1 through bond0 over ens1f0np0 [default-route]

";
    assert!(text.starts_with(expected), "{text}");
    assert!(status_text(&[]).contains("no network function of Mellanox or NVIDIA"));
}

/// Every path of a JSON value: `functions[].group.id`.
fn paths(value: &Value, at: &str, into: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                into.push(at.clone());
                paths(value, &at, into);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| paths(value, &format!("{at}[]"), into)),
        _ => {}
    }
}

#[test]
fn the_shape_is_documented() {
    let machine = busy();
    machine.pci(PF2, "0x15b3", "0x1021", "0x020000");
    machine.group(PF2, 42);
    machine.attach(PF2, "vfio-pci");
    machine.opens(7, "cxddp", "/dev/vfio/42");
    machine.write(
        "run/cxddp-bind/0000:3b:00.1.json",
        r#"{"version":1,"address":"0000:3b:00.1","device":4129,"driver":"mlx5_core","driver_override":null,"vfs":0}"#,
    );
    let mut found = Vec::new();
    paths(&status_json(&status(&machine)), "", &mut found);
    found.sort();
    found.dedup();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/bind.md");
    let text = std::fs::read_to_string(path).expect("the page");
    let part = text.split("### status --json").nth(1).expect("its section");
    let rows = part.lines().take_while(|line| !line.starts_with("### ")).filter_map(|line| line.strip_prefix("| `"));
    let mut documented: Vec<_> = rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned())).collect();
    documented.sort();
    assert_eq!(found, documented);
}

#[test]
fn names_are_looked_up() {
    let machine = Machine::server();
    let name = |machine: &Machine| machine.functions()[0].name.clone();
    assert_eq!(name(&machine), "ConnectX-7");
    let list = "# comment\n8086  Intel\n\t1021  Not ours\n15b3  Mellanox Technologies\n\t1021  MT2910 Family [ConnectX-7]\n\t\t15b3 0023  A board\n\t9999  New\n1af4  Red Hat\n\t1021  Not ours either\n";
    machine.write("usr/share/misc/pci.ids", list);
    assert_eq!(name(&machine), "MT2910 Family [ConnectX-7]");
    let at = format!("sys/bus/pci/devices/{PF}/device");
    machine.write(&at, "0x9999");
    assert_eq!(name(&machine), "New");
    assert!(!machine.functions()[0].supported);
    machine.write(&at, "0x1023");
    assert_eq!(name(&machine), "ConnectX-8");
    machine.write(&at, "0x8888");
    assert_eq!(name(&machine), "unknown");
}

#[test]
fn only_ours_are_shown() {
    let machine = Machine::server();
    machine.pci("0000:01:00.0", "0x8086", "0x1021", "0x020000");
    machine.pci("0000:3c:00.0", "0x15b3", "0x197b", "0x060400");
    machine.pci("0000:3d:00.0", "0x15b3", "0x1021", "0x020700");
    machine.attach("0000:3d:00.0", "vfio-pci");
    let addresses: Vec<_> = machine.functions().iter().map(|function| function.address.to_string()).collect();
    assert_eq!(addresses, [PF, "0000:3d:00.0"]);
}

#[test]
fn a_virtual_function() {
    let machine = busy();
    let text = status_text(&status(&machine));
    let text = text.split("\n\n").nth(1).expect("a second block");
    assert!(text.contains("0000:3b:00.2  ConnectX virtual function"), "{text}");
    assert!(text.contains("a virtual function of 0000:3b:00.0"), "{text}");
    assert!(text.contains("32.0 GT/s PCIe, 16 lanes (its maximum)"), "{text}");
    assert!(text.contains("carries     nothing that this host needs"), "{text}");
}

#[test]
fn nonsense_is_nothing() {
    let machine = busy();
    let at = format!("sys/bus/pci/devices/{PF}");
    for file in [
        "numa_node",
        "current_link_width",
        "max_link_width",
        "sriov_totalvfs",
        "sriov_numvfs",
        "resource",
        "driver_override",
    ] {
        machine.write(&format!("{at}/{file}"), "\u{fffd}-99999999999999999999 \0");
    }
    for file in ["carrier", "speed", "operstate", "address"] {
        machine.write(&format!("sys/class/net/ens1f0np0/{file}"), "\0\u{1}99999999999999999999");
    }
    for text in ["", "\n\n\n", "x", "a b c d e f g h i j", "00000000 zz\nens1f0np0 00000000 0 ffffffff 0 0 0 0", "\0\0"]
    {
        machine.write("proc/net/route", text);
        machine.write("proc/net/ipv6_route", text);
        machine.write("proc/mounts", text);
        machine.write("proc/self/environ", &format!("SSH_CONNECTION={text}"));
        machine.write("proc/self/status", text);
        machine.write("proc/self/limits", text);
        machine.write("sys/class/nvme/nvme0/transport", "tcp");
        machine.write("sys/class/nvme/nvme0/address", text);
        let _ = (status_text(&status(&machine)), status_json(&status(&machine)));
    }
    // An IPv6 prefix beyond any address, and a process that is its own parent.
    let zeros = "0".repeat(32);
    machine.write("proc/net/ipv6_route", &format!("{zeros} ff {zeros} 00 {zeros} 0 1 0 00000001 ens1f0np0\n"));
    machine.write("proc/self/status", "PPid:\t5\n");
    machine.write("proc/5/status", "PPid:\t5\n");
    let _ = status_text(&status(&machine));
}
