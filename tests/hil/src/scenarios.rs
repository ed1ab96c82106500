//! The scenarios.

use crate::debian::{Debian, Kernel};
use crate::guest::{Guest, Outcome};
use crate::{Error, Programs, bring_up, image, instructions, mlx5, mlx5_life, mlx5_receive, own, rdma};
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
    "uio_pci_generic",
];

/// Binds functions to vfio-pci with the kernel's own files, and lets it take those that no IOMMU is in front of.
const BIND: &str = r#"
bind() { echo vfio-pci > /sys/bus/pci/devices/$1/driver_override && echo $1 > /sys/bus/pci/drivers_probe; }
noiommu() { echo 1 > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode; }
set -- $NIC
PF=$1 VF=$2
"#;

/// Reads from the target inside the virtual ConnectX, whose blocks all differ, with what is given besides.
const READ: &str = r#"
read_it() {
    d=$1; shift
    cxddp read --device $d --vfio ${VFIO:-group} --ip 192.168.44.${IP:-10}/24 --target 192.168.44.20 \
        --nqn nqn.2026-01.io.connectx-ddp:target --pattern 1 --json "$@"
}
"#;

/// Waits until the function has interrupted a good many times: reads are in flight.
const TRAFFIC: &str = r#"
traffic() {
    t=0
    while [ $(awk '/vfio/ { n += $2 + $3 } END { print n + 0 }' /proc/interrupts) -lt 60 ] && [ $t -lt 300 ]; do
        sleep 0.1; t=$((t + 1))
    done
}
"#;

/// The kernel's own target on the interface of the guest, with a disk in memory behind it, and reads from it.
const NVMET: &str = r#"
nvmet() {
    n=/sys/kernel/config/nullb/nullb0
    mkdir $n && echo 1 > $n/memory_backed && echo ${DISK_MB:-8} > $n/size && echo 512 > $n/blocksize && echo 1 > $n/power
    DISK=/dev/nullb0
    for i in /sys/class/net/*; do [ $(basename $i) = lo ] || ETH=$(basename $i); done
    ip link set $ETH mtu ${MTU:-1500} && ip addr add 192.168.44.20/24 dev $ETH && ip link set $ETH up
    c=/sys/kernel/config/nvmet
    s=$c/subsystems/nqn.2026-01.io.connectx-ddp:linux
    mkdir $s && echo 1 > $s/attr_allow_any_host && mkdir $s/namespaces/1
    echo -n $DISK > $s/namespaces/1/device_path && echo 1 > $s/namespaces/1/enable
    mkdir $c/ports/1 && cd $c/ports/1
    echo tcp > addr_trtype; echo ipv4 > addr_adrfam; echo 192.168.44.20 > addr_traddr; echo 4420 > addr_trsvcid
    ln -s $s subsystems/ && cd /payload
}
read_linux() {
    cxddp read --device $PF --vfio group --ip 192.168.44.10/24 --target 192.168.44.20 --mtu ${MTU:-1500} \
        --nqn nqn.2026-01.io.connectx-ddp:linux --json "$@"
}
"#;

/// What an operator does: gives the function a driver that is not VFIO's, asks for its driver, and works as a user without
/// rights.
const OPERATOR: &str = r#"
other_driver() {
    echo uio_pci_generic > /sys/bus/pci/devices/$1/driver_override && echo $1 > /sys/bus/pci/drivers_probe
}
driver_of() { basename $(readlink /sys/bus/pci/devices/$1/driver); }
echo 'op:x:1000:1000::/tmp:/bin/sh' > /etc/passwd
as_user() { /bin/busybox su op -c "$*"; }
"#;

/// What every script may use.
const SCRIPTS: [&str; 8] =
    [BIND, READ, TRAFFIC, NVMET, OPERATOR, mlx5::SCRIPT, mlx5_receive::SCRIPT, mlx5_life::SCRIPT];

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
    /// It takes long: a short run has it on the newest kernel only.
    pub long: bool,
    /// What the driver does until its first frames is told: what the scenario is for.
    pub counted: bool,
    /// What runs in the guest.
    pub script: &'static str,
    /// Options of the virtual ConnectX.
    pub vnic: &'static [&'static str],
    /// The guest has an interface on the wire.
    pub peer: bool,
    /// Virtual functions.
    pub vfs: usize,
    /// The device is sent to memory that it was not lent, on purpose.
    pub strays: bool,
    /// The IOMMU is on.
    pub iommu: bool,
    /// What the output must hold.
    pub expects: &'static [&'static str],
    /// What the report of the virtual ConnectX must hold.
    pub reports: &'static [&'static str],
    /// Exit status of the script.
    pub status: i32,
}

/// What most have in common.
pub const BASIC: Scenario = Scenario {
    name: "",
    about: "",
    on: On::Newest,
    long: false,
    counted: false,
    script: "",
    vnic: &[],
    peer: false,
    vfs: 0,
    strays: false,
    iommu: true,
    expects: &[],
    reports: &[],
    status: 0,
};

/// All of them, those of others' drivers last.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    ALL.iter().chain(rdma::ALL).chain(bring_up::ALL).chain(mlx5::ALL).chain(mlx5_receive::ALL).chain(mlx5_life::ALL)
}

const ALL: &[Scenario] = &[
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
        name: "regdump",
        about: "everything that can be read of the function is shown through group and container, before and after a probe",
        on: On::Every,
        script: "bind $PF && cxddp-regdump --device $PF --vfio group --save /a && cxddp probe --device $PF && \
                 cxddp-regdump --device $PF --vfio group --save /b && cxddp-regdump diff /a /b --section pci,caps,ports && \
                 cxddp-regdump /b --json",
        expects: &[
            r#""format":"connectx-ddp regdump""#,
            r#""problems":[]"#,
            "MSI-X (capability 0x11",
            r#""meanings":{"admin_status":"UP","oper_status":"UP"}"#,
            r#""zerocopy":1"#,
        ],
        ..BASIC
    },
    Scenario {
        name: "regdump-cdev",
        about: "the same through iommufd and its device cdev",
        on: On::Own,
        script: "bind $PF && cxddp-regdump --device $PF --vfio cdev --json",
        expects: &[r#""problems":[]"#, "MSI-X (capability 0x11", r#""zerocopy":1"#],
        ..BASIC
    },
    Scenario {
        name: "regdump-running",
        about: "a driver that has the function, and sleeps on its interrupts, shows it through its socket and goes on",
        script: "bind $PF; read_it $PF --interrupts --passes 1000 --stats-socket /tmp/s > /tmp/o & traffic; \
                 cxddp-regdump --device socket:/tmp/s && cxddp stats --from /tmp/s; kill $(pidof cxddp); wait $!; cat /tmp/o",
        vnic: &["--wire", "target", "--size", "8388608"],
        expects: &[
            "told by the driver that runs on it",
            "nvmeotcp_zero_copy_en=1",
            "RESP_SEND",
            "session 0: live",
            r#""bytes_wrong":0"#,
        ],
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
    Scenario {
        name: "noiommu-refused",
        about: "a function in the kernel's no-IOMMU mode is refused unless that is asked for, with what it risks",
        on: On::Own,
        iommu: false,
        script: "noiommu && bind $PF && cxddp probe --device $PF",
        expects: &["no IOMMU stands in front of it", "--unsafe-noiommu"],
        status: 2,
        ..BASIC
    },
    Scenario {
        name: "noiommu",
        about: "with its flag the function comes up without an IOMMU, warns, and places a namespace by physical addresses",
        on: On::Own,
        iommu: false,
        script: "echo 64 > /proc/sys/vm/nr_hugepages; noiommu && bind $PF && cxddp probe --device $PF --unsafe-noiommu && \
                 read_it $PF --unsafe-noiommu --offload require --data-digest",
        vnic: &["--wire", "target", "--size", "8388608"],
        expects: &["can read and write all memory", "all of it on huge pages", r#""verified":true"#],
        ..BASIC
    },
    Scenario {
        name: "noiommu-without-huge-pages",
        about: "without huge pages there is no contiguous memory: refused with the command that reserves them",
        on: On::Own,
        iommu: false,
        script: "noiommu && bind $PF && cxddp probe --device $PF --unsafe-noiommu",
        expects: &["can read and write all memory", "/proc/sys/vm/nr_hugepages"],
        status: 1,
        ..BASIC
    },
    Scenario {
        name: "huge-pages",
        about: "DMA memory is on huge pages where some are free, and on ordinary ones where they run out",
        script: "bind $PF && cxddp probe --device $PF && echo 64 > /proc/sys/vm/nr_hugepages && cxddp probe --device $PF && \
                 echo 1 > /proc/sys/vm/nr_hugepages && cxddp probe --device $PF --json",
        expects: &["none of it on huge pages", "all of it on huge pages", r#""dma_huge_bytes":0"#],
        ..BASIC
    },
    Scenario {
        name: "pinned",
        about: "reads are placed into memory of the process, lent in pieces that begin and end anywhere",
        on: On::Every,
        script: "bind $PF && read_it $PF --offload require --buffers pinned --size 2M",
        vnic: &["--wire", "target", "--size", "8388608"],
        expects: &[r#""verified":true"#, r#""queues_offloaded":2"#],
        ..BASIC
    },
    Scenario {
        name: "pinned-cdev",
        about: "the same through iommufd",
        on: On::Own,
        script: "bind $PF && VFIO=cdev read_it $PF --offload require --buffers pinned --size 2M",
        vnic: &["--wire", "target", "--size", "8388608"],
        expects: &[r#""verified":true"#, r#""queues_offloaded":2"#],
        ..BASIC
    },
    Scenario {
        name: "read-polling",
        about: "a namespace is read through the kernel's vfio-pci and placed by the device, every byte verified, by polling",
        script: "bind $PF && read_it $PF --offload require --data-digest",
        vnic: &["--wire", "target", "--size", "8388608"],
        expects: &[r#""verified":true"#, r#""queues_offloaded":2"#, r#""digests_sw":0"#, r#""sleeps":0"#],
        ..BASIC
    },
    Scenario {
        name: "read-interrupts",
        about: "the same asleep on MSI-X interrupts, with both digests, on every kernel",
        on: On::Every,
        script: "bind $PF && read_it $PF --offload require --interrupts --data-digest --hdr-digest --size 2M > /tmp/o && \
                 cat /tmp/o && ! grep -q '\"interrupts\":0' /tmp/o",
        vnic: &["--wire", "target", "--size", "8388608"],
        expects: &[r#""verified":true"#, r#""queues_offloaded":2"#],
        ..BASIC
    },
    Scenario {
        name: "read-loss",
        about: "the same by polling over a wire that loses and reorders frames both ways: the target's TCP has no SACK and waits a second",
        script: "bind $PF && read_it $PF --offload require --data-digest --hdr-digest",
        vnic: &["--wire", "target", "--size", "8388608", "--loss", "0.2", "--reorder", "1"],
        expects: &[r#""verified":true"#, r#""queues_offloaded":2"#],
        ..BASIC
    },
    Scenario {
        name: "linux-target",
        about: "the kernel's NVMe/TCP target: written by us and compared with its disk, then its disk changed and read by us",
        script: "bind $PF && nvmet && read_linux --interrupts --write --pattern 9 --output /tmp/read && cmp /tmp/read $DISK && \
                 dd if=/dev/urandom of=$DISK bs=1M count=8 2>/dev/null && sync && \
                 read_linux --interrupts --content $DISK",
        peer: true,
        expects: &[r#""bytes_written":8388608"#, r#""verified":true"#],
        ..BASIC
    },
    Scenario {
        name: "linux-target-digests",
        about: "the same with both digests and jumbo frames, the device checking the data digests, all reads placed",
        script: "export MTU=9000; bind $PF && nvmet && \
                 read_linux --interrupts --offload require --data-digest --hdr-digest --write --pattern 9",
        peer: true,
        expects: &[r#""verified":true"#, r#""queues_offloaded":2"#],
        ..BASIC
    },
    Scenario {
        name: "linux-target-loss",
        about: "the same over a wire that loses and reorders frames both ways",
        script: "bind $PF && nvmet && \
                 read_linux --interrupts --offload require --data-digest --hdr-digest --write --pattern 9",
        vnic: &["--loss", "1", "--reorder", "1"],
        peer: true,
        expects: &[r#""verified":true"#, r#""queues_offloaded":2"#],
        ..BASIC
    },
    Scenario {
        name: "flr",
        about: "a function-level reset by the kernel while reads are in flight: everything is made anew, every byte is right",
        script: "bind $PF; read_it $PF --interrupts --passes 12 > /tmp/o & \
                 j=$!; traffic; echo 1 > /sys/bus/pci/devices/$PF/reset; wait $j; s=$?; cat /tmp/o; exit $s",
        vnic: &["--wire", "target", "--size", "8388608"],
        expects: &[r#""verified":true"#, r#""level":"function""#],
        ..BASIC
    },
    Scenario {
        name: "removal",
        about: "the function falls silent while reads are in flight, and is back later: it is reset and the reads go on",
        script: "bind $PF && read_it $PF --interrupts",
        vnic: &["--wire", "target", "--size", "8388608", "--inject", "gone@4MiB", "--inject", "back@+4"],
        expects: &[r#""verified":true"#, r#""level":"function""#],
        ..BASIC
    },
    Scenario {
        name: "removal-for-good",
        about: "the function falls silent and stays so: every read ends in an error, nothing hangs",
        script: "bind $PF && read_it $PF --interrupts --ctrl-loss-timeout 5",
        vnic: &["--wire", "target", "--size", "8388608", "--inject", "gone@4MiB"],
        expects: &[r#""verified":false"#, "all ones"],
        status: 1,
        ..BASIC
    },
    Scenario {
        name: "killed",
        about: "the driver is killed while reads are in flight; a new one starts on the same function",
        script: "bind $PF; read_it $PF --interrupts --passes 1000 > /dev/null & traffic; kill -9 $(pidof cxddp) && wait; \
                 read_it $PF --size 2M",
        vnic: &["--wire", "target", "--size", "8388608"],
        expects: &[r#""verified":true"#],
        ..BASIC
    },
    Scenario {
        name: "pf-and-vf",
        about: "a physical and a virtual function at the same time, two drivers",
        script: "bind $PF && bind $VF && { read_it $PF --interrupts --queues 1 --size 4M > /tmp/pf & } && \
                 IP=11 read_it $VF --interrupts --queues 1 --size 4M > /tmp/vf; s=$?; wait $! && cat /tmp/pf /tmp/vf && \
                 grep -q '\"verified\":true' /tmp/pf && exit $s",
        vnic: &["--wire", "target", "--size", "8388608"],
        vfs: 1,
        expects: &["[15b3:1021]", "[15b3:101e]", r#""verified":true"#],
        ..BASIC
    },
    Scenario {
        name: "wild-dma",
        about: "a device that writes where it has no business is refused and reported, and nothing is corrupted",
        script: "bind $PF && read_it $PF",
        vnic: &["--wire", "target", "--size", "8388608", "--inject", "wild-write@2MiB"],
        strays: true,
        expects: &[r#""verified":true"#],
        ..BASIC
    },
    Scenario {
        name: "bind",
        about: "cxddp-bind: status, doctor, bind, use, restore; what it had before is what it has again, on every kernel",
        on: On::Every,
        script: "set -e; other_driver $PF; cxddp-bind status; ! cxddp-bind doctor $PF; cxddp-bind bind --dry-run $PF; \
                 [ $(driver_of $PF) = uio_pci_generic ]; cxddp-bind bind $PF; cxddp-bind bind $PF; cxddp-bind status; \
                 cxddp-bind doctor $PF; cxddp probe --device $PF --vfio group --json; cxddp-bind unbind $PF; \
                 cxddp-bind bind --json $PF; cxddp-bind restore $PF; [ $(driver_of $PF) = uio_pci_generic ]; \
                 ls /run/cxddp-bind; cxddp-bind restore --json $PF",
        expects: &[
            "problem      driver         the kernel's uio_pci_generic has it",
            ": vfio-pci, IOMMU group ",
            ": vfio-pci already, IOMMU group ",
            "(before: driver uio_pci_generic, driver_override uio_pci_generic)",
            "no problems",
            r#""vendor_id":"0x15b3""#,
            ": no driver",
            ": uio_pci_generic\n",
        ],
        ..BASIC
    },
    Scenario {
        name: "three-commands",
        about: "what the operator's guide says, as a new user types it: doctor, bind, read; and restore",
        script: "other_driver $PF; cxddp-bind doctor $PF; cxddp-bind bind $PF && \
                 cxddp read --device $PF --ip 192.168.44.10/24 --target 192.168.44.20 \
                 --nqn nqn.2026-01.io.connectx-ddp:target --pattern 1 --data-digest --interrupts --offload require && \
                 cxddp-bind restore $PF",
        vnic: &["--wire", "target", "--size", "8388608"],
        expects: &[
            "mend: cxddp-bind bind 0000:01:00.0",
            "0000:01:00.0: vfio-pci, IOMMU group",
            "every byte verified",
            "0000:01:00.0: uio_pci_generic",
        ],
        ..BASIC
    },
    Scenario {
        name: "bind-in-use",
        about: "a function that a driver has open is not taken from it: the kernel would wait without end",
        script: "cxddp-bind bind $PF && { read_it $PF --interrupts --passes 1000 > /dev/null & } && traffic && \
                 ! cxddp-bind restore $PF && cxddp-bind doctor $PF > /tmp/o; cat /tmp/o; \
                 $(sed -n 's/^ *mend: \\(kill [0-9]*\\)$/\\1/p' /tmp/o) && sleep 2 && cxddp-bind restore $PF",
        vnic: &["--wire", "target", "--size", "8388608"],
        expects: &["(cxddp) has it open (/dev/vfio/", "(cxddp) has the function open already", ": no driver"],
        ..BASIC
    },
    Scenario {
        name: "doctor-no-iommu",
        about: "without an IOMMU doctor says so and how to turn it on, and bind refuses",
        iommu: false,
        script: "cxddp-bind doctor --json; cxddp-bind bind $PF; cxddp-bind doctor",
        expects: &[
            r#""check":"iommu","found":"off, by intel_iommu=off on the kernel's command line""#,
            "mend: take intel_iommu=off off the kernel's command line",
            "it is in no IOMMU group: the IOMMU is off",
        ],
        status: 1,
        ..BASIC
    },
    Scenario {
        name: "doctor-memlock",
        about: "a user with little memory to lock and no rights: doctor names both, and with what it says mended the driver runs",
        script: "cxddp-bind bind $PF || exit 9; G=$(basename $(readlink /sys/bus/pci/devices/$PF/iommu_group)); \
                 (ulimit -l 1024; as_user cxddp-bind doctor $PF; as_user cxddp-bind restore $PF; \
                  chown 1000 /dev/vfio/$G; as_user cxddp probe --device $PF --vfio group) 2>&1; \
                 K=$(as_user 'ulimit -l 1024; cxddp-bind doctor --json' | sed -n 's/.*\"ulimit -l \\([0-9]*\\) .*/\\1/p'); \
                 (ulimit -l $K; as_user cxddp-bind doctor $PF && as_user cxddp probe --device $PF --vfio group --json)",
        expects: &[
            "problem      memlock        this process may lock 1 MiB",
            "problem      permissions    this user may not read and write /dev/vfio/",
            "it takes root: run it with sudo",
            "memlock",
            "no problems",
            r#""why_not":[]"#,
        ],
        ..BASIC
    },
];

/// How scenarios are run.
pub struct How<'a> {
    /// On the kernel of this version only.
    pub only: Option<&'a str>,
    /// Folders of scenarios that went well are kept.
    pub keep: bool,
    /// Folder for traces.
    pub trace: Option<&'a Path>,
    /// Scenarios that take long run on the newest kernel only.
    pub short: bool,
    /// The virtual ConnectX runs under callgrind.
    pub callgrind: bool,
}

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
            let base = image::base(&debian, kernel, MODULES, mlx5::MODULES, &self.cache)?;
            Ok(Bootable { label: kernel.generation(), elf, base })
        });
        let kernels = kernels.collect::<Result<Vec<_>, Error>>()?;
        let own = own::find(&self.cache).map(|(version, elf)| {
            let kernel = Kernel { version: format!("own-{version}"), folder: PathBuf::new() };
            let base = image::base(&debian, &kernel, &[], &[], &self.cache)?;
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

    /// Runs a scenario on its kernels, or on the one of them that is named, prints a line for each, and returns how many
    /// failed. One whose kernel is missing is skipped, with a line that says so.
    pub fn run(&self, scenario: &Scenario, how: &How<'_>) -> Result<u32, Error> {
        let ready = self.ready.as_ref().ok_or_else(|| Error::of("the bench is not prepared"))?;
        let kernels = match scenario.on {
            On::Every if !(scenario.long && how.short) => &ready.kernels[..],
            On::Every | On::Newest => &ready.kernels[ready.kernels.len().saturating_sub(1)..],
            On::Own => ready.own.as_slice(),
        };
        if kernels.is_empty() {
            println!("SKIPPED {}: its kernel is not built (cargo hil kernel)", scenario.name);
        }
        let mut failed = 0;
        let named = |kernel: &&Bootable| how.only.is_none_or(|version| version == kernel.label);
        for Bootable { label, elf, base } in kernels.iter().filter(named) {
            let folder = self.cache.join("runs").join(format!("{}-{label}", scenario.name));
            let _ = std::fs::remove_dir_all(&folder);
            let trace = how.trace.map(|folder| folder.join(format!("{}-{label}.trace", scenario.name)));
            let guest = Guest {
                kernel: elf,
                base,
                programs: &[
                    ("cxddp", &ready.programs.cxddp),
                    ("cxddp-regdump", &ready.programs.regdump),
                    ("cxddp-bind", &ready.programs.bind),
                    ("datagrams", &ready.programs.datagrams),
                    ("rdma-probe", &ready.programs.rdma),
                ],
                script: &[SCRIPTS.concat().as_str(), scenario.script, "\n"].concat(),
                vnic: scenario.vnic,
                vfs: scenario.vfs,
                iommu: scenario.iommu,
                peer: scenario.peer,
                trace: trace.as_deref(),
                patience: Duration::from_secs(if how.callgrind { 1500 } else { 240 }),
                counted: how.callgrind,
            };
            let mut qemu = ready.debian.program("usr/bin/qemu-system-x86_64");
            qemu.arg("-L")
                .arg(ready.debian.file("usr/share/qemu"))
                .arg("-L")
                .arg(ready.debian.file("usr/share/seabios"));
            let outcome = guest.run(qemu, &ready.programs.vnic, &folder)?;
            let took = outcome.took.as_secs_f64();
            if how.callgrind {
                print!("{}", instructions::report(&folder, &outcome.vnic)?);
            }
            match verdict(scenario, &outcome) {
                Ok(()) => {
                    println!("ok      {:<24} {label:<5} {took:>6.1} s", scenario.name);
                    if scenario.counted {
                        efforts(&outcome.vnic).for_each(|line| println!("        {line}"));
                    }
                    if !how.keep {
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

/// What the first driver that sent a frame did until then, as the virtual ConnectX counted it, and until one came.
fn efforts(vnic: &str) -> impl Iterator<Item = &str> {
    let mut sent = vnic.lines().filter(|line| line.contains(": first frame sent: "));
    let driver = sent.next().and_then(|line| line.split_once(": first frame sent: "));
    let of = move |line: &&str| {
        driver.is_some_and(|(name, _)| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(": first frame ")))
    };
    vnic.lines().filter(of)
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
    if let Some(missing) = scenario.reports.iter().find(|expected| !outcome.vnic.contains(*expected)) {
        return Err(format!("the report of the virtual ConnectX lacks {missing:?}"));
    }
    let violations = outcome.vnic.lines().filter(|line| line.contains("DMA violations"));
    let strayed = violations.into_iter().any(|line| !line.ends_with("violations 0"));
    match (outcome.vnic.contains("DMA violations"), strayed) {
        (false, _) => Err("the virtual ConnectX did not say where the device had been".into()),
        (true, true) if !scenario.strays => Err("the device was sent to memory that it was not lent".into()),
        (true, false) if scenario.strays => {
            Err("nobody noticed that the device was sent where it had no business".into())
        }
        (true, _) => Ok(()),
    }
}
