//! A function of the card, as sysfs and proc tell of it.

use crate::names::{self, Names, VENDOR};
use crate::root::Root;
use connectx_ddp::platform::vfio::Address;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

const DEVICES: &str = "sys/bus/pci/devices";
/// The kernel's driver that hands functions to user space.
pub const VFIO_PCI: &str = "vfio-pci";

/// Writes an address as its text.
pub(crate) fn as_text<T: ToString, S: Serializer>(value: &T, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&value.to_string())
}

/// Writes addresses as their texts.
pub(crate) fn as_texts<T: ToString, S: Serializer>(values: &[T], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(values.iter().map(ToString::to_string))
}

/// Writes an address as its text, or null.
pub(crate) fn maybe_text<T: ToString, S: Serializer>(value: &Option<T>, out: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => out.serialize_some(&value.to_string()),
        None => out.serialize_none(),
    }
}

/// Another device of an IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its name on its bus; for PCI, the address.
    pub name: String,
    /// Its driver.
    pub driver: Option<String>,
    /// A PCI bridge, which never stands in VFIO's way.
    pub bridge: bool,
}

impl Member {
    /// Whether VFIO refuses the whole group because of it: VFIO tolerates bridges, devices without driver, and drivers that
    /// do no DMA or are its own.
    pub fn blocks(&self) -> bool {
        let tolerated = |driver: &String| driver.contains("vfio") || driver == "pci-stub";
        !self.bridge && self.driver.as_ref().is_some_and(|driver| !tolerated(driver))
    }
}

/// An IOMMU group: what the IOMMU cannot tell apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its number.
    pub id: u32,
    /// VFIO made it up (no-IOMMU mode): nothing is translated, nothing protected.
    pub no_iommu: bool,
    /// The other devices in it.
    pub others: Vec<Member>,
}

/// A PCIe link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Speed now, as the kernel writes it ("16.0 GT/s PCIe").
    pub speed: Option<String>,
    /// Lanes now.
    pub width: Option<u32>,
    /// Highest speed of the function.
    pub max_speed: Option<String>,
    /// Most lanes of the function.
    pub max_width: Option<u32>,
}

/// A network interface that the kernel has on the function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// MAC address.
    pub mac: Option<String>,
    /// `up`, `down`, ... (operstate).
    pub state: Option<String>,
    /// Whether it has a carrier; unknown while it is down.
    pub carrier: Option<bool>,
    /// Mb/s.
    pub speed: Option<u32>,
    /// Bonds, bridges, VLANs and the like above it, nearest first.
    pub uppers: Vec<String>,
}

/// SR-IOV of a physical function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sriov {
    /// Virtual functions that there may be.
    pub total: u32,
    /// Virtual functions that there are.
    #[serde(serialize_with = "as_texts")]
    pub functions: Vec<Address>,
}

/// A process that has the function open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// Process id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// What it has open.
    pub file: String,
}

/// A network function of our vendor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Function {
    /// Where it is.
    #[serde(serialize_with = "as_text")]
    pub address: Address,
    /// PCI device id.
    pub device: u16,
    /// What it is called.
    pub name: String,
    /// The driver knows how to bring such a function up.
    pub supported: bool,
    /// The kernel driver that has it.
    pub driver: Option<String>,
    /// The only driver that may take it, if it is set.
    pub driver_override: Option<String>,
    /// IOMMU group; none while the IOMMU is off.
    pub group: Option<Group>,
    /// NUMA node, where the machine has several.
    pub numa_node: Option<u32>,
    /// PCIe link; a virtual function has that of its physical one.
    pub link: Link,
    /// Interfaces of the kernel.
    pub interfaces: Vec<Interface>,
    /// SR-IOV, of a physical function that has it.
    pub sriov: Option<Sriov>,
    /// The physical function, of a virtual one.
    #[serde(serialize_with = "maybe_text")]
    pub physical: Option<Address>,
    /// Processes that have it open through VFIO.
    pub users: Vec<User>,
    /// Name of its own VFIO device (cdev), where the kernel offers one.
    pub cdev: Option<String>,
}

/// Where the kernel tells of a function.
pub fn folder(address: &Address) -> String {
    format!("{DEVICES}/{address}")
}

/// The driver that a PCI function has now.
pub fn driver_of(root: &Root, address: &str) -> Option<String> {
    root.link(&format!("{DEVICES}/{address}/driver"))
}

/// The only driver that may take a function.
pub fn override_of(root: &Root, address: &Address) -> Option<String> {
    let text = root.text(&format!("{}/driver_override", folder(address)))?;
    (!text.is_empty() && text != "(null)").then_some(text)
}

/// What stands at an address that is none of ours.
pub fn foreigner(root: &Root, address: &Address) -> Option<String> {
    let number = |what: &str| root.number(&format!("{}/{what}", folder(address)));
    Some(format!("{:04x}:{:04x}, class {:06x}", number("vendor")?, number("device")?, number("class")?))
}

/// All functions of our vendor that are network functions, by address.
pub fn all(root: &Root) -> Vec<Function> {
    let names = Names::load(root);
    let users = users(root);
    let addresses = root.names(DEVICES).into_iter().filter_map(|name| name.parse().ok());
    addresses.filter_map(|address| read(root, address, &names, &users)).collect()
}

fn read(root: &Root, address: Address, names: &Names, users: &[User]) -> Option<Function> {
    let at = folder(&address);
    let number = |what: &str| root.number(&format!("{at}/{what}"));
    let device = u16::try_from(number("device")?).ok()?;
    const NETWORK: u64 = 0x02;
    if number("vendor")? != u64::from(VENDOR) || number("class")? >> 16 != NETWORK {
        return None;
    }
    let physical = root.link(&format!("{at}/physfn")).and_then(|name| name.parse::<Address>().ok());
    let group = group(root, &address);
    let cdev = root.names(&format!("{at}/vfio-dev")).into_iter().next();
    let mut files = Vec::new();
    if let Some(group) = &group {
        files.push(format!("/dev/vfio/{}", group.id));
        files.push(format!("/dev/vfio/noiommu-{}", group.id));
    }
    files.extend(cdev.iter().map(|name| format!("/dev/vfio/devices/{name}")));
    let sriov = number("sriov_totalvfs").filter(|total| *total > 0).map(|total| Sriov {
        total: u32::try_from(total).unwrap_or(u32::MAX),
        functions: virtual_functions(root, &address),
    });
    Some(Function {
        address,
        device,
        name: names.of(device),
        supported: names::is_mlx5(device),
        driver: driver_of(root, &address.to_string()),
        driver_override: override_of(root, &address),
        group,
        // -1 is the kernel's way to say that there is one.
        numa_node: number("numa_node").and_then(|node| u32::try_from(node).ok()),
        link: link(root, physical.as_ref().unwrap_or(&address)),
        interfaces: interfaces(root, &at),
        sriov,
        physical,
        users: users.iter().filter(|user| files.contains(&user.file)).cloned().collect(),
        cdev,
    })
}

fn group(root: &Root, address: &Address) -> Option<Group> {
    let id: u32 = root.link(&format!("{}/iommu_group", folder(address)))?.parse().ok()?;
    let at = format!("sys/kernel/iommu_groups/{id}");
    let others = root.names(&format!("{at}/devices")).into_iter().filter(|name| *name != address.to_string());
    let others = others.map(|name| {
        let class = root.number(&format!("{DEVICES}/{name}/class"));
        let driver = root.link(&format!("{at}/devices/{name}/driver")).or_else(|| driver_of(root, &name));
        Member { driver, bridge: class.is_some_and(|class| class >> 16 == 0x06), name }
    });
    let no_iommu = root.text(&format!("{at}/name")).as_deref() == Some("vfio-noiommu");
    Some(Group { id, no_iommu, others: others.collect() })
}

/// Virtual functions of a physical one, by number.
pub fn virtual_functions(root: &Root, address: &Address) -> Vec<Address> {
    let at = folder(address);
    let numbers = root.names(&at).into_iter().filter_map(|name| name.strip_prefix("virtfn")?.parse::<u32>().ok());
    let found: BTreeMap<u32, Address> = numbers
        .filter_map(|number| Some((number, root.link(&format!("{at}/virtfn{number}"))?.parse().ok()?)))
        .collect();
    found.into_values().collect()
}

fn link(root: &Root, address: &Address) -> Link {
    let at = folder(address);
    let speed = |what: &str| {
        let text = root.text(&format!("{at}/{what}"))?;
        (!text.is_empty() && !text.starts_with("Unknown")).then_some(text)
    };
    // 0 and 255 are the kernel's ways to say that it does not know.
    let width = |what: &str| {
        let width = root.number(&format!("{at}/{what}"))?;
        u32::try_from(width).ok().filter(|width| (1..=32).contains(width))
    };
    Link {
        speed: speed("current_link_speed"),
        width: width("current_link_width"),
        max_speed: speed("max_link_speed"),
        max_width: width("max_link_width"),
    }
}

fn interfaces(root: &Root, at: &str) -> Vec<Interface> {
    // Subfunctions have interfaces of their own and go with the function.
    let parts = root.names(at).into_iter().filter(|name| name.contains(".sf."));
    let folders = parts.map(|part| format!("{at}/{part}/net")).chain([format!("{at}/net")]);
    let names = folders.flat_map(|folder| root.names(&folder));
    let mut found: Vec<_> = names
        .map(|name| {
            let at = format!("sys/class/net/{name}");
            Interface {
                mac: root.text(&format!("{at}/address")),
                state: root.text(&format!("{at}/operstate")),
                carrier: root.number(&format!("{at}/carrier")).map(|carrier| carrier == 1),
                speed: root.number(&format!("{at}/speed")).and_then(|speed| u32::try_from(speed).ok()),
                uppers: uppers(root, &name),
                name,
            }
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Everything above an interface: it is what has the addresses of a bonded, bridged or tagged one.
fn uppers(root: &Root, name: &str) -> Vec<String> {
    let mut found: Vec<String> = vec![name.to_owned()];
    let mut at = 0;
    while let Some(name) = found.get(at).cloned() {
        let folder = format!("sys/class/net/{name}");
        let above = root.names(&folder).into_iter().filter_map(|entry| entry.strip_prefix("upper_").map(str::to_owned));
        let mut above: Vec<_> = above.chain(root.link(&format!("{folder}/master"))).collect();
        if name == "ovs-system" {
            // Open vSwitch does not say which of its own ports its bridges are: all that have nothing below could be.
            above.extend(root.names("sys/class/net").into_iter().filter(|name| name != "lo" && is_bottom(root, name)));
        }
        for name in above {
            if !found.contains(&name) {
                found.push(name);
            }
        }
        at += 1;
    }
    found.remove(0);
    found
}

/// An interface with neither hardware nor another interface below it.
fn is_bottom(root: &Root, name: &str) -> bool {
    let at = format!("sys/class/net/{name}");
    !root.exists(&format!("{at}/device")) && !root.names(&at).iter().any(|entry| entry.starts_with("lower_"))
}

/// Every process that has a VFIO file open. Without rights on other processes it sees its own only.
fn users(root: &Root) -> Vec<User> {
    let pids = root.names("proc").into_iter().filter_map(|name| name.parse::<u32>().ok());
    let files = pids.flat_map(|pid| {
        let fds = root.names(&format!("proc/{pid}/fd")).into_iter();
        let targets = fds.filter_map(move |fd| root.target(&format!("proc/{pid}/fd/{fd}")));
        targets.filter(|path| path.starts_with("/dev/vfio")).map(move |path| (pid, path.display().to_string()))
    });
    let users = files.map(|(pid, file)| {
        let name = root.text(&format!("proc/{pid}/comm")).unwrap_or_else(|| "unknown".into());
        User { pid, name, file }
    });
    users.collect()
}
