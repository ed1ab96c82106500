//! One boot: a virtual ConnectX, a virtual machine that has it on its PCI bus, and a script that runs inside.

use crate::Error;
use crate::image::Archive;
use crate::instructions;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How soon the virtual ConnectX is there, and has ended, even under callgrind on a busy machine.
const PROMPT: Duration = Duration::from_secs(30);

/// What a guest is given.
pub struct Guest<'a> {
    /// Kernel to boot, an ELF file.
    pub kernel: &'a Path,
    /// First file system; what is to run is appended.
    pub base: &'a Path,
    /// Programs by name, in `/payload`, which is in the path.
    pub programs: &'a [(&'a str, &'a Path)],
    /// The script, for busybox's shell. `$NIC` holds the addresses of the functions.
    pub script: &'a str,
    /// Options of `cxddp-vnic serve` besides sockets.
    pub vnic: &'a [&'a str],
    /// Virtual functions beside the physical one.
    pub vfs: usize,
    /// The emulated IOMMU is there and on.
    pub iommu: bool,
    /// Whether the guest has an interface of its own (virtio-net) on the functions' wire.
    pub peer: bool,
    /// Where the virtual ConnectX writes down what drivers ask of it.
    pub trace: Option<&'a Path>,
    /// How long it may take.
    pub patience: Duration,
    /// The virtual ConnectX runs under callgrind.
    pub counted: bool,
}

/// How a boot went.
pub struct Outcome {
    /// Exit status of the script; `None` if the guest did not tell.
    pub status: Option<i32>,
    /// What the script printed.
    pub output: String,
    /// What the virtual ConnectX printed at its end.
    pub vnic: String,
    /// The guest's console.
    pub console: String,
    /// From the start of QEMU to its end.
    pub took: Duration,
}

/// A process that is ended with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Waits for a process; false if it had to be killed.
fn wait(child: &mut Running, until: Instant) -> Result<bool, Error> {
    loop {
        if child.0.try_wait()?.is_some() {
            return Ok(true);
        }
        if Instant::now() >= until {
            child.0.kill()?;
            child.0.wait()?;
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A socket's path has at most 107 bytes.
fn socket(folder: &Path, name: &str) -> Result<String, Error> {
    let path = folder.join(name).display().to_string();
    match path.len() < 108 {
        true => Ok(path),
        false => Err(Error::of(format!("{path} is too long for a socket: use a shorter --cache"))),
    }
}

impl Guest<'_> {
    /// Boots it in `folder`, which keeps everything that is written.
    pub fn run(&self, qemu: Command, vnic: &Path, folder: &Path) -> Result<Outcome, Error> {
        fs::create_dir_all(folder)?;
        let folder = std::path::absolute(folder)?;
        let initrd = self.initrd(&folder)?;
        let pf = socket(&folder, "pf")?;
        let vfs = (0..self.vfs).map(|n| socket(&folder, &format!("vf{n}"))).collect::<Result<Vec<_>, _>>()?;
        let (near, far) = (socket(&folder, "near")?, socket(&folder, "far")?);
        for path in vfs.iter().chain([&pf, &near, &far]) {
            let _ = fs::remove_file(path);
        }

        let mut command = if self.counted { instructions::counted(vnic, &folder) } else { Command::new(vnic) };
        command.args(["serve", "--socket", &pf]);
        for path in &vfs {
            command.args(["--vf", path]);
        }
        if self.peer {
            command.args(["--wire", &format!("dgram:{near},{far}")]);
        }
        if let Some(trace) = self.trace {
            command.arg("--trace").arg(trace);
        }
        command.args(self.vnic).stdin(Stdio::null());
        command.stdout(fs::File::create(folder.join("vnic.out"))?).stderr(fs::File::create(folder.join("vnic.err"))?);
        let mut server = Running(command.spawn()?);
        let ready = Instant::now() + PROMPT;
        while !vfs.iter().chain([&pf]).all(|path| Path::new(path).exists()) {
            if Instant::now() >= ready || server.0.try_wait()?.is_some() {
                let why = fs::read_to_string(folder.join("vnic.err")).unwrap_or_default();
                return Err(Error::of(format!("the virtual ConnectX did not start: {why}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }

        let began = Instant::now();
        let mut machine = Running(self.machine(qemu, &folder, &initrd, &pf, &vfs, &near, &far)?.spawn()?);
        let ended = wait(&mut machine, began + self.patience)?;
        let took = began.elapsed();
        drop(machine);
        // The server goes last: QEMU aborts if it loses it.
        let stop = Command::new("kill").arg("-TERM").arg(server.0.id().to_string()).status()?;
        if !stop.success() || !wait(&mut server, Instant::now() + PROMPT)? {
            return Err(Error::of("the virtual ConnectX did not end when it was asked to"));
        }
        let read = |name: &str| String::from_utf8_lossy(&fs::read(folder.join(name)).unwrap_or_default()).into_owned();
        let status = read("status").trim().parse().ok().filter(|_| ended);
        let vnic = read("vnic.out");
        Ok(Outcome { status, output: read("output"), vnic, console: read("console"), took })
    }

    fn initrd(&self, folder: &Path) -> Result<PathBuf, Error> {
        let mut payload = Archive::default();
        payload.file("payload/run", false, self.script.as_bytes());
        for (name, path) in self.programs {
            payload.file(&format!("payload/{name}"), true, &fs::read(path)?);
        }
        let mut bytes = fs::read(self.base)?;
        bytes.extend_from_slice(&payload.finish());
        let initrd = folder.join("initrd");
        fs::write(&initrd, bytes)?;
        Ok(initrd)
    }

    #[expect(clippy::too_many_arguments, reason = "the paths of one folder")]
    fn machine(
        &self,
        mut qemu: Command,
        folder: &Path,
        initrd: &Path,
        pf: &str,
        vfs: &[String],
        near: &str,
        far: &str,
    ) -> Result<Command, Error> {
        let file = |name: &str| folder.join(name).display().to_string();
        for name in ["output", "status", "console"] {
            fs::write(folder.join(name), "")?;
        }
        qemu.args(["-nodefaults", "-no-reboot", "-display", "none"]);
        qemu.args(["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"]);
        // Memory that the device's process can map.
        qemu.args(["-object", "memory-backend-memfd,id=ram,size=1024M,share=on", "-machine", "memory-backend=ram"]);
        if self.iommu {
            // Without caching mode QEMU does not hear of mappings.
            qemu.args(["-device", "intel-iommu,caching-mode=on"]);
        }
        for (n, path) in std::iter::once(pf).chain(vfs.iter().map(String::as_str)).enumerate() {
            let (chassis, slot) = (n + 1, n + 1);
            qemu.args(["-device", &format!("pcie-root-port,id=rp{n},chassis={chassis},slot={slot}")]);
            let device = format!(
                "{{\"driver\":\"vfio-user-pci\",\"id\":\"nic{n}\",\"bus\":\"rp{n}\",\"x-msg-timeout\":60000,\
                 \"socket\":{{\"type\":\"unix\",\"path\":\"{path}\"}}}}"
            );
            qemu.args(["-device", &device]);
        }
        if self.peer {
            qemu.args(["-device", "pcie-root-port,id=rpn,chassis=30,slot=30", "-netdev"]);
            qemu.arg(format!("dgram,id=net,local.type=unix,local.path={far},remote.type=unix,remote.path={near}"));
            qemu.args(["-device", "virtio-net-pci,bus=rpn,netdev=net,host_mtu=9000,mac=52:54:00:12:34:02,romfile="]);
        }
        // Files: what ends with a terminal's input blocks a guest.
        qemu.args(["-serial", &format!("file:{}", file("console"))]);
        qemu.args(["-device", "virtio-serial-pci"]);
        for (id, name) in [("io", "output"), ("rc", "status")] {
            qemu.args(["-chardev", &format!("file,id={id},path={}", file(name))]);
            qemu.args(["-device", &format!("virtserialport,chardev={id},name={id}")]);
        }
        // On a busy machine the emulated timer is late for the kernel's test of it, which panics.
        let iommu = if self.iommu { "intel_iommu=on" } else { "intel_iommu=off" };
        qemu.arg("-kernel").arg(self.kernel).arg("-initrd").arg(initrd);
        qemu.args([
            "-append",
            &format!("console=ttyS0 loglevel=5 panic=-1 no_timer_check null_blk.nr_devices=0 {iommu}"),
        ]);
        qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(folder.join("qemu.err"))?);
        Ok(qemu)
    }
}
