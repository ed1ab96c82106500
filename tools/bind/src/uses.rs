//! What of this host goes over a function's interfaces: its way to the world, storage, the session that asks.
//!
//! Everything that has an address of its own (a target, a server, the end of a session) is looked up in the kernel's main
//! routing tables, whatever a route's metric. Other tables, VRFs and network namespaces are not seen, nor any but the first
//! next hop of an IPv4 route with several: `proc` does not show them.

use crate::function::Interface;
use crate::root::Root;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What would be lost with a function. Its name is what `--force` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// A default route of this host.
    DefaultRoute,
    /// Storage that is connected over it: NVMe over Fabrics, iSCSI, NFS and other network file systems.
    Storage,
    /// The SSH session in which the command runs.
    Ssh,
    /// Its virtual functions, which go away with the driver of the physical one.
    Vfs,
    /// The rest of its IOMMU group: VFIO does not hand out a part of one.
    Group,
}

impl Loss {
    /// The word that `--force` takes.
    pub fn name(self) -> &'static str {
        match self {
            Loss::DefaultRoute => "default-route",
            Loss::Storage => "storage",
            Loss::Ssh => "ssh",
            Loss::Vfs => "vfs",
            Loss::Group => "group",
        }
    }
}

/// One thing that goes over a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Use {
    /// Which kind of loss it would be.
    pub loss: Loss,
    /// What it is, and through which interface.
    pub what: String,
}

struct Route {
    interface: String,
    to: IpAddr,
    prefix: u32,
    gateway: Option<IpAddr>,
}

struct Remote {
    loss: Loss,
    what: String,
    /// Any of these ends.
    ends: Vec<IpAddr>,
    /// The interface that it is tied to.
    interface: Option<String>,
}

/// Routes, storage and session of a host.
pub struct Host {
    routes: Vec<Route>,
    remotes: Vec<Remote>,
}

impl Host {
    /// Reads what there is.
    pub fn load(root: &Root) -> Host {
        let mut remotes = fabrics(root);
        remotes.extend(iscsi(root));
        remotes.extend(file_systems(root));
        remotes.extend(session(root));
        let mut routes = routes4(&root.text("proc/net/route").unwrap_or_default());
        routes.extend(routes6(&root.text("proc/net/ipv6_route").unwrap_or_default()));
        Host { routes, remotes }
    }

    /// What goes over these interfaces or what is above them.
    pub fn uses(&self, interfaces: &[Interface]) -> Vec<Use> {
        let mut through = BTreeMap::new();
        for interface in interfaces {
            for upper in &interface.uppers {
                through.insert(upper.as_str(), format!("{upper} over {}", interface.name));
            }
        }
        for interface in interfaces {
            through.insert(interface.name.as_str(), interface.name.clone());
        }
        let mut uses = Vec::new();
        for route in self.routes.iter().filter(|route| route.prefix == 0) {
            if let Some(path) = through.get(route.interface.as_str()) {
                let family = if route.to.is_ipv4() { "IPv4" } else { "IPv6" };
                let gateway = route.gateway.map_or_else(String::new, |gateway| format!(" to {gateway}"));
                let what = format!("the {family} default route{gateway} through {path}");
                uses.push(Use { loss: Loss::DefaultRoute, what });
            }
        }
        for remote in &self.remotes {
            let tied = remote.interface.as_deref().into_iter();
            let routed = remote.ends.iter().flat_map(|end| self.toward(end));
            if let Some(path) = tied.chain(routed).find_map(|interface| through.get(interface)) {
                uses.push(Use { loss: remote.loss, what: format!("{} through {path}", remote.what) });
            }
        }
        uses.dedup();
        uses
    }

    /// Interfaces of the most specific routes to an address.
    fn toward(&self, end: &IpAddr) -> Vec<&str> {
        let fitting = |route: &&Route| match (route.to, end) {
            (IpAddr::V4(to), IpAddr::V4(end)) => {
                let mask = u32::MAX.checked_shl(32 - route.prefix).unwrap_or(0);
                to.to_bits() & mask == end.to_bits() & mask
            }
            (IpAddr::V6(to), IpAddr::V6(end)) => {
                let mask = u128::MAX.checked_shl(128 - route.prefix).unwrap_or(0);
                to.to_bits() & mask == end.to_bits() & mask
            }
            _ => false,
        };
        let best = self.routes.iter().filter(fitting).map(|route| route.prefix).max();
        let routes = self.routes.iter().filter(fitting).filter(|route| Some(route.prefix) == best);
        routes.map(|route| route.interface.as_str()).collect()
    }
}

/// RTF_UP, RTF_REJECT.
const UP: u32 = 0x1;
const REJECT: u32 = 0x200;

/// `/proc/net/route`: addresses are big-endian words, printed as this machine reads them.
fn routes4(text: &str) -> Vec<Route> {
    let lines = text.lines().skip(1);
    let routes = lines.filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let hex = |n: usize| words.get(n).and_then(|word| u32::from_str_radix(word, 16).ok());
        let address = |n: usize| hex(n).map(|word| Ipv4Addr::from(word.to_ne_bytes()));
        let flags = hex(3)?;
        if flags & UP == 0 || flags & REJECT != 0 {
            return None;
        }
        let gateway = address(2).filter(|gateway| !gateway.is_unspecified());
        Some(Route {
            interface: (*words.first()?).to_owned(),
            to: address(1)?.into(),
            prefix: hex(7)?.count_ones(),
            gateway: gateway.map(IpAddr::from),
        })
    });
    routes.collect()
}

/// `/proc/net/ipv6_route`.
fn routes6(text: &str) -> Vec<Route> {
    let routes = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let address = |n: usize| u128::from_str_radix(words.get(n)?, 16).ok().map(Ipv6Addr::from_bits);
        let hex = |n: usize| words.get(n).and_then(|word| u32::from_str_radix(word, 16).ok());
        let (flags, interface) = (hex(8)?, *words.get(9)?);
        if flags & UP == 0 || flags & REJECT != 0 || interface == "lo" {
            return None;
        }
        let gateway = address(4).filter(|gateway| !gateway.is_unspecified());
        Some(Route {
            interface: interface.to_owned(),
            to: address(0)?.into(),
            prefix: hex(1).filter(|prefix| *prefix <= 128)?,
            gateway: gateway.map(IpAddr::from),
        })
    });
    routes.collect()
}

/// An address, in brackets or not, and the interface that a link-local one names.
fn end(text: &str) -> (Option<IpAddr>, Option<String>) {
    let text = text.trim_start_matches('[').trim_end_matches(']');
    match text.split_once('%') {
        Some((address, interface)) => (address.parse().ok(), Some(interface.to_owned())),
        None => (text.parse().ok(), None),
    }
}

/// Mounts: what, where, kind, options.
fn mounts(root: &Root) -> Vec<[String; 4]> {
    let text = root.text("proc/mounts").unwrap_or_default();
    let mounts = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().map(str::to_owned);
        Some([words.next()?, words.next()?, words.next()?, words.next()?])
    });
    mounts.collect()
}

/// NVMe over Fabrics controllers.
fn fabrics(root: &Root) -> Vec<Remote> {
    let mounts = mounts(root);
    let controllers = root.names("sys/class/nvme").into_iter().filter_map(|name| {
        let at = format!("sys/class/nvme/{name}");
        let transport = root.text(&format!("{at}/transport")).filter(|transport| transport != "pcie")?;
        let text = root.text(&format!("{at}/address"))?;
        let field = |key: &str| text.split(',').find_map(|part| part.trim().strip_prefix(key)?.strip_prefix('='));
        let (address, scope) = end(field("traddr")?);
        let disk = format!("/dev/{name}n");
        let places = mounts.iter().filter(|[what, ..]| what.starts_with(&disk)).map(|[_, place, ..]| place.as_str());
        let places: Vec<_> = places.collect();
        let mounted = if places.is_empty() { String::new() } else { format!(", mounted at {}", places.join(", ")) };
        Some(Remote {
            loss: Loss::Storage,
            what: format!("NVMe/{} controller {name} at {}{mounted}", transport.to_uppercase(), field("traddr")?),
            ends: address.into_iter().collect(),
            interface: field("host_iface").map(str::to_owned).or(scope),
        })
    });
    controllers.collect()
}

/// iSCSI connections.
fn iscsi(root: &Root) -> Vec<Remote> {
    let folder = "sys/class/iscsi_connection";
    let connections = root.names(folder).into_iter().filter_map(|name| {
        let text = |what: &str| root.text(&format!("{folder}/{name}/{what}")).filter(|text| !text.is_empty());
        let portal = text("address").or_else(|| text("persistent_address"))?;
        let (address, interface) = end(&portal);
        let what = format!("iSCSI {name} to {portal}");
        Some(Remote { loss: Loss::Storage, what, ends: address.into_iter().collect(), interface })
    });
    connections.collect()
}

/// Network file systems that are mounted.
fn file_systems(root: &Root) -> Vec<Remote> {
    const KINDS: [&str; 5] = ["nfs", "nfs4", "cifs", "smb3", "ceph"];
    let mounted = mounts(root).into_iter().filter(|[_, _, kind, _]| KINDS.contains(&kind.as_str()));
    let remotes = mounted.map(|[what, place, kind, options]| {
        let named = options.split(',').filter_map(|option| option.strip_prefix("addr=")).map(end);
        // Ceph names its monitors, with ports, before the path.
        let monitors = what.split_once(":/").map_or("", |(hosts, _)| hosts).split(',');
        let monitors = monitors.filter(|_| kind == "ceph");
        let monitors = monitors.map(|host| end(host.rsplit_once(':').map_or(host, |(address, _)| address)));
        let (ends, scopes): (Vec<_>, Vec<_>) = named.chain(monitors).unzip();
        let root = if place == "/" { ", the root file system," } else { "" };
        Remote {
            loss: Loss::Storage,
            what: format!("{} mount of {what} at {place}{root}", kind.to_uppercase()),
            ends: ends.into_iter().flatten().collect(),
            interface: scopes.into_iter().flatten().next(),
        }
    });
    remotes.collect()
}

/// The SSH session in which this runs, which `sudo` hides but the shell before it still has in its environment.
fn session(root: &Root) -> Option<Remote> {
    const MOST_ANCESTORS: u32 = 64;
    let mut process = "self".to_owned();
    for _ in 0..MOST_ANCESTORS {
        let environment = root.bytes(&format!("proc/{process}/environ")).unwrap_or_default();
        let variables = environment.split(|byte| *byte == 0);
        let connection =
            variables.filter_map(|text| std::str::from_utf8(text).ok()?.strip_prefix("SSH_CONNECTION=")).next();
        if let Some(connection) = connection {
            // Client address, client port, server address, server port.
            let words: Vec<&str> = connection.split(' ').collect();
            let client = end(words.first()?);
            let server = words.get(2).map_or((None, None), |text| end(text));
            return Some(Remote {
                loss: Loss::Ssh,
                what: format!("this SSH session, from {}", words.first()?),
                ends: client.0.into_iter().chain(server.0).collect(),
                interface: client.1.or(server.1),
            });
        }
        let status = root.text(&format!("proc/{process}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).map(|pid| pid.trim().to_owned());
        process = parent.filter(|pid| pid != "0")?;
    }
    None
}
