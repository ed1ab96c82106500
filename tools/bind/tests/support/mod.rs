//! A machine made of files, and a kernel that reacts to writes as the real one does.
#![allow(dead_code)] // Each test uses its part.

use connectx_ddp::platform::vfio::Address;
use cxddp_bind::change::{Consent, Planned, Scene};
use cxddp_bind::effects::Effects;
use cxddp_bind::function::{self, Function};
use cxddp_bind::root::Root;
use cxddp_bind::uses::{Host, Loss};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A ConnectX-7 with two ports: physical functions 0 and 1.
pub const PF: &str = "0000:3b:00.0";
pub const PF2: &str = "0000:3b:00.1";

pub fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

/// A folder that is gone when the test is.
pub struct Machine {
    pub folder: PathBuf,
    pub root: Root,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Machine {
    /// Nothing but empty folders.
    pub fn empty() -> Machine {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cxddp-bind-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        let machine = Machine { root: Root::at(&folder), folder };
        for name in ["sys/bus/pci/devices", "sys/bus/pci/drivers", "sys/class/net", "proc/net", "run", "dev"] {
            machine.folder(name);
        }
        machine
    }

    /// A server with an IOMMU and one ConnectX-7 whose first port is up and carries nothing.
    pub fn server() -> Machine {
        let machine = Machine::empty();
        machine.driver("mlx5_core");
        machine.driver("vfio-pci");
        machine.pci(PF, "0x15b3", "0x1021", "0x020000");
        machine.group(PF, 42);
        machine.attach(PF, "mlx5_core");
        machine.interface(PF, "ens1f0np0");
        let at = format!("sys/bus/pci/devices/{PF}");
        for (file, text) in [
            ("numa_node", "1"),
            ("current_link_speed", "32.0 GT/s PCIe"),
            ("current_link_width", "16"),
            ("max_link_speed", "32.0 GT/s PCIe"),
            ("max_link_width", "16"),
            ("sriov_totalvfs", "8"),
            ("sriov_numvfs", "0"),
            ("resource", "0x0000010000000000 0x0000010001ffffff 0x000000000014220c\n0x0 0x0 0x0"),
        ] {
            machine.write(&format!("{at}/{file}"), text);
        }
        machine.write("proc/net/route", ROUTES);
        machine
    }

    pub fn folder(&self, name: &str) {
        fs::create_dir_all(self.root.path(name)).expect("a folder");
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.root.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    pub fn link(&self, name: &str, to: &str) {
        let path = self.root.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        let _ = fs::remove_file(&path);
        symlink(to, path).expect("a link");
    }

    pub fn remove(&self, name: &str) {
        let path = self.root.path(name);
        match path.is_dir() && !path.is_symlink() {
            true => fs::remove_dir_all(path).expect("a folder"),
            false => fs::remove_file(path).expect("a file"),
        }
    }

    pub fn text(&self, name: &str) -> String {
        self.root.text(name).unwrap_or_else(|| panic!("{name} can be read"))
    }

    pub fn driver(&self, name: &str) {
        self.folder(&format!("sys/bus/pci/drivers/{name}"));
    }

    /// A PCI function, behind a root port of its own as in sysfs.
    pub fn pci(&self, address: &str, vendor: &str, device: &str, class: &str) {
        let real = format!("sys/devices/pci0000:3a/0000:3a:00.0/{address}");
        for (file, text) in [
            ("vendor", vendor),
            ("device", device),
            ("class", class),
            ("driver_override", "(null)"),
            ("numa_node", "-1"),
        ] {
            self.write(&format!("{real}/{file}"), text);
        }
        self.link(
            &format!("sys/bus/pci/devices/{address}"),
            &format!("../../../devices/pci0000:3a/0000:3a:00.0/{address}"),
        );
    }

    pub fn group(&self, address: &str, id: u32) {
        self.folder(&format!("sys/kernel/iommu_groups/{id}/devices"));
        self.link(
            &format!("sys/kernel/iommu_groups/{id}/devices/{address}"),
            &format!("../../../../devices/pci0000:3a/0000:3a:00.0/{address}"),
        );
        let real = format!("sys/devices/pci0000:3a/0000:3a:00.0/{address}");
        self.link(&format!("{real}/iommu_group"), &format!("../../../../kernel/iommu_groups/{id}"));
    }

    pub fn attach(&self, address: &str, driver: &str) {
        let real = format!("sys/devices/pci0000:3a/0000:3a:00.0/{address}");
        self.link(&format!("{real}/driver"), &format!("../../../../bus/pci/drivers/{driver}"));
        self.link(
            &format!("sys/bus/pci/drivers/{driver}/{address}"),
            &format!("../../../../devices/pci0000:3a/0000:3a:00.0/{address}"),
        );
    }

    pub fn interface(&self, address: &str, name: &str) {
        self.folder(&format!("sys/bus/pci/devices/{address}/net/{name}"));
        for (file, text) in
            [("address", "a0:88:c2:00:00:01"), ("operstate", "up"), ("carrier", "1"), ("speed", "200000")]
        {
            self.write(&format!("sys/class/net/{name}/{file}"), text);
        }
        self.link(&format!("sys/class/net/{name}/device"), &format!("../../../bus/pci/devices/{address}"));
    }

    /// An interface above another one.
    pub fn upper(&self, lower: &str, upper: &str) {
        self.folder(&format!("sys/class/net/{upper}"));
        self.link(&format!("sys/class/net/{lower}/upper_{upper}"), &format!("../{upper}"));
        self.link(&format!("sys/class/net/{upper}/lower_{lower}"), &format!("../{lower}"));
    }

    /// Virtual functions 3b:00.2 and on.
    pub fn virtual_functions(&self, count: u32) {
        let at = format!("sys/bus/pci/devices/{PF}");
        let old = function::virtual_functions(&self.root, &address(PF));
        for (number, vf) in old.iter().enumerate() {
            self.remove(&format!("{at}/virtfn{number}"));
            self.remove(&format!("sys/bus/pci/devices/{vf}"));
            self.remove(&format!("sys/devices/pci0000:3a/0000:3a:00.0/{vf}"));
        }
        for number in 0..count {
            let vf = format!("0000:3b:00.{}", number + 2);
            self.pci(&vf, "0x15b3", "0x101e", "0x020000");
            self.group(&vf, 50 + number);
            self.attach(&vf, "mlx5_core");
            self.link(&format!("{at}/virtfn{number}"), &format!("../{vf}"));
            self.link(&format!("sys/bus/pci/devices/{vf}/physfn"), &format!("../{PF}"));
        }
        self.write(&format!("{at}/sriov_numvfs"), &count.to_string());
    }

    /// A process that has a file open.
    pub fn opens(&self, pid: u32, name: &str, file: &str) {
        self.write(&format!("proc/{pid}/comm"), name);
        self.link(&format!("proc/{pid}/fd/7"), file);
    }

    pub fn functions(&self) -> Vec<Function> {
        function::all(&self.root)
    }

    /// Plans with some consent.
    pub fn plan(&self, force: &[Loss], plan: impl Fn(&Scene) -> Planned) -> Planned {
        let (functions, host) = (self.functions(), Host::load(&self.root));
        let consent = Consent { force: force.to_vec(), load: true };
        plan(&Scene { root: &self.root, functions: &functions, host: &host, consent: &consent })
    }

    /// Everything under sys and run, to be compared.
    pub fn contents(&self) -> Vec<String> {
        fn walk(at: &Path, into: &mut Vec<String>) {
            let mut entries: Vec<_> =
                fs::read_dir(at).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
            entries.sort();
            for path in entries {
                let name = path.display().to_string();
                match fs::read_link(&path) {
                    Ok(target) => into.push(format!("{name} -> {}", target.display())),
                    Err(_) if path.is_dir() => walk(&path, into),
                    Err(_) => into.push(format!("{name}: {}", fs::read_to_string(&path).expect("text"))),
                }
            }
        }
        let mut all = Vec::new();
        walk(&self.root.path("sys"), &mut all);
        walk(&self.root.path("run"), &mut all);
        all.retain(|line| !line.contains("/lock: "));
        all
    }
}

/// `/proc/net/route` of a host whose default route is on another card; 10.1.0.0/16 is on ens1f0np0.
pub const ROUTES: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eno1\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0
eno1\t0000000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
ens1f0np0\t0000010A\t00000000\t0001\t0\t0\t101\t0000FFFF\t0\t0\t0
";

/// What the fake kernel does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// A write to a path that ends so fails.
    Refuses(&'static str, i32),
    /// It succeeds, and nothing happens.
    Ignores(&'static str),
    /// It acts, and fails all the same.
    ActsAndFails(&'static str, i32),
    /// It blocks until nobody waits any more.
    NeverAnswers(&'static str),
}

/// The kernel's side of the files.
pub struct FakeKernel<'a> {
    pub machine: &'a Machine,
    pub fault: Fault,
    /// Every write that was made.
    pub writes: Vec<String>,
    pub paused: Duration,
}

impl<'a> FakeKernel<'a> {
    pub fn new(machine: &'a Machine, fault: Fault) -> FakeKernel<'a> {
        FakeKernel { machine, fault, writes: Vec::new(), paused: Duration::ZERO }
    }

    fn detach(&mut self, address: &str) -> io::Result<()> {
        let at = format!("sys/bus/pci/devices/{address}");
        let driver = self.machine.root.link(&format!("{at}/driver")).ok_or(io::Error::from_raw_os_error(19))?;
        self.machine.remove(&format!("{at}/driver"));
        self.machine.remove(&format!("sys/bus/pci/drivers/{driver}/{address}"));
        if self.machine.root.exists(&format!("{at}/net")) {
            self.machine.remove(&format!("{at}/net"));
        }
        // mlx5_core takes its virtual functions along.
        if self.machine.root.exists(&format!("{at}/virtfn0")) {
            self.machine.virtual_functions(0);
        }
        Ok(())
    }

    fn attach(&mut self, address: &str, driver: &str) -> io::Result<()> {
        let at = format!("sys/bus/pci/devices/{address}");
        let only = self.machine.text(&format!("{at}/driver_override"));
        if !self.machine.root.exists(&at)
            || (only != "(null)" && only != driver)
            || self.machine.root.exists(&format!("{at}/driver"))
        {
            return Err(io::Error::from_raw_os_error(19));
        }
        // Its table names no Mellanox card: it takes what is told to be its own.
        if driver == "vfio-pci" && only != driver {
            return Err(io::Error::from_raw_os_error(19));
        }
        self.machine.attach(address, driver);
        if driver == "mlx5_core" && address == PF {
            self.machine.interface(address, "ens1f0np0");
        }
        Ok(())
    }

    fn act(&mut self, path: &str, value: &str) -> io::Result<()> {
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            [.., "drivers", _, "unbind"] => self.detach(value),
            [.., "drivers", driver, "bind"] => self.attach(value, driver),
            [.., "drivers_probe"] => {
                let only = self.machine.text(&format!("sys/bus/pci/devices/{value}/driver_override"));
                let driver = if only == "(null)" { "mlx5_core".to_owned() } else { only };
                self.attach(value, &driver)
            }
            [.., "driver_override"] => {
                let text = if value.trim().is_empty() { "(null)" } else { value };
                self.machine.write(path, text);
                Ok(())
            }
            [.., "sriov_numvfs"] => {
                if value != "0" && self.machine.text(path) != "0" {
                    return Err(io::Error::from_raw_os_error(16));
                }
                self.machine.virtual_functions(value.parse().expect("a number"));
                Ok(())
            }
            _ => panic!("nothing should be written to {path}"),
        }
    }
}

impl Effects for FakeKernel<'_> {
    fn write(&mut self, path: &Path, value: &str, _: Duration) -> io::Result<()> {
        let path = path.strip_prefix(&self.machine.folder).expect("inside").display().to_string();
        self.writes.push(format!("{} > {path}", value.trim_end()));
        match self.fault {
            Fault::Refuses(end, code) if path.ends_with(end) => Err(io::Error::from_raw_os_error(code)),
            Fault::NeverAnswers(end) if path.ends_with(end) => Err(io::ErrorKind::TimedOut.into()),
            Fault::Ignores(end) if path.ends_with(end) => Ok(()),
            Fault::ActsAndFails(end, code) if path.ends_with(end) => {
                self.act(&path, value)?;
                Err(io::Error::from_raw_os_error(code))
            }
            _ => self.act(&path, value),
        }
    }

    fn load(&mut self, module: &str, _: Duration) -> io::Result<()> {
        self.writes.push(format!("modprobe {module}"));
        if self.fault == Fault::Refuses("modprobe", 1) {
            return Err(io::Error::other("modprobe ended with 1"));
        }
        self.machine.driver(module);
        Ok(())
    }

    fn pause(&mut self, time: Duration) {
        self.paused += time;
    }
}
