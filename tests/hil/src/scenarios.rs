//! The scenarios.

use crate::debian::{Debian, Kernel};
use crate::guest::{Guest, Outcome};
use crate::{Error, Programs, image};
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
];

/// The stock driver, which a script loads when it wants it.
const STOCK: &[&str] = &["mlx5_core", "8021q"];

/// Binds the first function to vfio-pci with the kernel's own files.
const BIND: &str = r#"
bind() { echo vfio-pci > /sys/bus/pci/devices/$1/driver_override && echo $1 > /sys/bus/pci/drivers_probe; }
set -- $NIC
PF=$1 VF=$2
"#;

/// Reads from the target inside the virtual ConnectX, whose blocks all differ, with what is given besides.
const READ: &str = r#"
read_it() {
    d=$1; shift
    cxddp read --device $d --vfio group --ip 192.168.44.${IP:-10}/24 --target 192.168.44.20 \
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

/// Linux's own driver of the ConnectX, out of Debian's package: what it says is what the model is judged by. `near` runs
/// beside its interface, `far` beside the peer's, in a network namespace of its own: nothing passes but over the wire.
const MLX5: &str = r#"
mlx5() {
    for m in $(cat /later.load); do insmod /mods/$m || return 1; done
    interface
}
interface() {
    t=0
    while [ ! -d /sys/bus/pci/devices/$PF/net ] && [ $t -lt 100 ]; do sleep 0.1; t=$((t + 1)); done
    MLX=$(ls /sys/bus/pci/devices/$PF/net | head -n 1)
    [ -n "$MLX" ] && ip link set $MLX up && carrier 1
}
carrier() {
    t=0
    while [ "$(cat /sys/class/net/$MLX/carrier)" != $1 ] && [ $t -lt 100 ]; do sleep 0.1; t=$((t + 1)); done
    [ "$(cat /sys/class/net/$MLX/carrier)" = $1 ]
}
near() { "$@"; }
far() { nsenter -t $NS -n "$@"; }
peer() {
    for i in /sys/class/net/*; do
        case "$(readlink $i/device/driver)" in */virtio_net) ETH=$(basename $i);; esac
    done
    unshare -n sleep 100000 &
    NS=$!
    while [ "$(readlink /proc/$NS/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
    ip link set $ETH netns $NS && far ip link set lo up && far ip addr add 10.1.0.2/24 dev $ETH && \
        far ip addr add fd00::2/64 dev $ETH && far ip link set $ETH up && ip addr add 10.1.0.1/24 dev $MLX && \
        ip addr add fd00::1/64 dev $MLX && sleep 2
}
mtu() { ip link set $MLX mtu $1 && far ip link set $ETH mtu $1 && carrier 1; }
tcp() {
    rm -f /tmp/out.$4 /tmp/done.$4
    ( sleep 600 | { $2 nc -l -p $4 > /tmp/out.$4; touch /tmp/done.$4; } ) &
    sleep 0.5
    $1 nc $3 $4 < /tmp/in
    t=0
    while [ ! -e /tmp/done.$4 ] && [ $t -lt 600 ]; do sleep 0.1; t=$((t + 1)); done
    cmp /tmp/in /tmp/out.$4 && rm /tmp/out.$4 && echo "tcp $1 to $3 ok"
}
again() { interface && ip addr add 10.1.0.1/24 dev $MLX && sleep 1 && ping -c 1 10.1.0.2 && echo came again; }
counted() { awk -v name="$1:" '$1 == name { n = $2 } END { exit !(n > 0) }' /tmp/s || { echo "$1 is 0"; return 1; }; }
vlan() {
    vconfig add $MLX 7 && far vconfig add $ETH 7 && ip addr add 10.7.0.1/24 dev $MLX.7 && ip link set $MLX.7 up && \
        far ip addr add 10.7.0.2/24 dev $ETH.7 && far ip link set $ETH.7 up && sleep 1 && ping -c 2 -s 1400 10.7.0.2 && \
        tcp far near 10.7.0.1 6200 && vconfig rem $MLX.7 && echo vlan ok
}
promiscuous() {
    n=$(cat /sys/class/net/$MLX/statistics/rx_packets)
    far arp -s 10.1.0.77 02:00:00:00:77:77 && ip link set $MLX promisc on && sleep 0.5 && \
        { far ping -c 20 -A -W 1 10.1.0.77 > /dev/null; ip link set $MLX promisc off; } && sleep 1 && \
        [ $(($(cat /sys/class/net/$MLX/statistics/rx_packets) - n)) -ge 20 ] && echo promiscuous ok
}
clean() {
    dmesg | grep -iE 'mlx5|warning|bug:|csum|timed out|call trace' > /tmp/log
    ! grep -vE "$KNOWN" /tmp/log
}
KNOWN='firmware version|Flow counters bulk query buffer size increased|clocksource: |available PCIe bandwidth|MLX5E: StrdRq|Link (up|down)|(entered|left) promiscuous mode'
# The model has no vendor-specific capability, no precision time measurement, and no flow counters; the emulated clock is
# late when the machine is busy. The last one is what the driver says of promiscuous mode.
KNOWN="$KNOWN|Failed to get valid vendor specific ID|PTM is not supported|S-tagged traffic will be dropped"
"#;

/// On which kernels a scenario runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Each of them.
    Every,
    /// The newest.
    Newest,
}

/// One thing that must hold, shown by one boot.
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// Where.
    pub on: On,
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
    /// Lines that the output must hold.
    pub expects: &'static [&'static str],
    /// Exit status of the script.
    pub status: i32,
}

const BASIC: Scenario = Scenario {
    name: "",
    about: "",
    on: On::Newest,
    script: "",
    vnic: &[],
    peer: false,
    vfs: 0,
    strays: false,
    iommu: true,
    expects: &[],
    status: 0,
};

/// All of them.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "probe-group",
        about: "the function comes up and goes down through group and container, twice, on every kernel",
        on: On::Every,
        script: "bind $PF && cxddp probe --device $PF --vfio group && cxddp probe --device $PF --json",
        expects: &["\"vendor_id\":\"0x15b3\"", "\"link_up\":true", "\"why_not\":[]"],
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
        name: "mlx5-probe",
        about: "the kernel's own driver probes the physical function, its interface comes up, the kernel's log is clean",
        on: On::Every,
        script: "mlx5 && ip addr show $MLX && clean",
        iommu: false,
        expects: &["LOWER_UP"],
        ..BASIC
    },
    Scenario {
        name: "mlx5-traffic",
        about: "the kernel's own driver: ping and TCP both ways, contents compared, IPv4 and IPv6, frames of 1500 and 9000 bytes",
        on: On::Every,
        script: "mlx5 && peer && ping -c 3 10.1.0.2 && far ping -c 3 -s 1400 10.1.0.1 && ping -c 2 fd00::2 && \
                 dd if=/dev/urandom of=/tmp/in bs=1M count=64 2>/dev/null && tcp near far 10.1.0.2 5001 && \
                 tcp far near 10.1.0.1 5002 && mtu 9000 && ping -c 2 -s 8900 10.1.0.2 && tcp near far 10.1.0.2 5003 && \
                 tcp far near 10.1.0.1 5004; s=$?; clean && exit $s",
        iommu: false,
        peer: true,
        expects: &["tcp near to 10.1.0.2 ok", "tcp far to 10.1.0.1 ok"],
        ..BASIC
    },
    Scenario {
        name: "mlx5-offloads",
        about: "the kernel's own driver: checksums by the device both ways, TSO, receive side scaling over its channels, VLANs, \
                promiscuous mode, an MTU that is undone, the link taken down and up, moderation",
        on: On::Every,
        script: "mlx5 && peer && ethtool -i $MLX && ethtool -k $MLX > /tmp/k && ethtool -l $MLX && ethtool -g $MLX && \
                 ethtool -T $MLX && ethtool -C $MLX rx-usecs 16 && ethtool $MLX && \
                 dd if=/dev/urandom of=/tmp/in bs=1M count=2 2>/dev/null && \
                 for n in 1 2 3 4 5 6 7 8; do tcp far near 10.1.0.1 600$n || exit 1; tcp near far 10.1.0.2 610$n || exit 1; done && \
                 ethtool -S $MLX > /tmp/s && grep -E '(csum|tso|rx[01]_packets)' /tmp/s && counted rx_csum_complete && \
                 counted tx_csum_partial && counted tx_tso_packets && counted rx0_packets && counted rx1_packets && \
                 vlan && promiscuous && ip link set $MLX down && ip link set $MLX up && carrier 1 && sleep 1 && \
                 ping -c 2 10.1.0.2 && mtu 9000 && mtu 1500 && ping -c 2 10.1.0.2; s=$?; clean && exit $s",
        iommu: false,
        peer: true,
        expects: &["tcp far to 10.1.0.1 ok", "driver: mlx5_core", "vlan ok", "promiscuous ok"],
        ..BASIC
    },
    Scenario {
        name: "mlx5-life",
        about: "the kernel's own driver is unloaded and loaded, and the function reset by the kernel between two drivers' times",
        on: On::Every,
        script: "mlx5 && peer && ping -c 1 10.1.0.2 && rmmod mlx5_core && insmod /mods/mlx5_core.ko && again && \
                 d=/sys/bus/pci/drivers/mlx5_core && echo $PF > $d/unbind && echo 1 > /sys/bus/pci/devices/$PF/reset && \
                 echo $PF > $d/bind && again; s=$?; clean && exit $s",
        peer: true,
        expects: &["came again"],
        ..BASIC
    },
    Scenario {
        name: "mlx5-vf",
        about: "the kernel's own driver has a virtual function too, and talks through it",
        on: On::Every,
        script: "PF=$VF && mlx5 && peer && ping -c 2 10.1.0.2 && \
                 dd if=/dev/urandom of=/tmp/in bs=1M count=8 2>/dev/null && tcp near far 10.1.0.2 5001 && \
                 tcp far near 10.1.0.1 5002; s=$?; clean && exit $s",
        iommu: false,
        peer: true,
        vfs: 1,
        expects: &["tcp near to 10.1.0.2 ok", "tcp far to 10.1.0.1 ok"],
        ..BASIC
    },
];

/// Everything that the scenarios share.
pub struct Bench {
    cache: PathBuf,
    ready: Option<Ready>,
}

struct Ready {
    debian: Debian,
    programs: Programs,
    /// Kernel, ELF file, first file system.
    kernels: Vec<(Kernel, PathBuf, PathBuf)>,
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
            Ok((kernel.clone(), elf, image::base(&debian, kernel, MODULES, STOCK, &self.cache)?))
        });
        let kernels = kernels.collect::<Result<Vec<_>, Error>>()?;
        self.ready = Some(Ready { debian, kernels, programs: build()? });
        Ok(())
    }

    /// What was fetched.
    pub fn resolved(&self) -> &str {
        self.ready.as_ref().map_or("nothing", |ready| &ready.debian.resolved)
    }

    /// Runs a scenario on its kernels, or on the one of them that is named, prints a line for each, and returns how many
    /// failed.
    pub fn run(&self, scenario: &Scenario, only: Option<&str>, keep: bool) -> Result<u32, Error> {
        let ready = self.ready.as_ref().ok_or_else(|| Error::of("the bench is not prepared"))?;
        let kernels = match scenario.on {
            On::Every => &ready.kernels[..],
            On::Newest => &ready.kernels[ready.kernels.len().saturating_sub(1)..],
        };
        let mut failed = 0;
        let named = |kernel: &Kernel| only.is_none_or(|version| version == kernel.generation());
        for (kernel, elf, base) in kernels.iter().filter(|(kernel, ..)| named(kernel)) {
            let folder = self.cache.join("runs").join(format!("{}-{}", scenario.name, kernel.generation()));
            let _ = std::fs::remove_dir_all(&folder);
            let guest = Guest {
                kernel: elf,
                base,
                programs: &[("cxddp", &ready.programs.cxddp)],
                script: &format!("{BIND}{READ}{TRAFFIC}{NVMET}{MLX5}{}\n", scenario.script),
                vnic: scenario.vnic,
                vfs: scenario.vfs,
                iommu: scenario.iommu,
                peer: scenario.peer,
                patience: Duration::from_secs(240),
            };
            let mut qemu = ready.debian.program("usr/bin/qemu-system-x86_64");
            qemu.arg("-L")
                .arg(ready.debian.file("usr/share/qemu"))
                .arg("-L")
                .arg(ready.debian.file("usr/share/seabios"));
            let outcome = guest.run(qemu, &ready.programs.vnic, &folder)?;
            let took = outcome.took.as_secs_f64();
            let generation = kernel.generation();
            match verdict(scenario, &outcome) {
                Ok(()) => {
                    println!("ok      {:<24} {generation:<5} {took:>6.1} s", scenario.name);
                    if !keep {
                        let _ = std::fs::remove_dir_all(&folder);
                    }
                }
                Err(why) => {
                    failed += 1;
                    println!(
                        "FAILED  {:<24} {generation:<5} {took:>6.1} s  {why} (see {})",
                        scenario.name,
                        folder.display()
                    );
                }
            }
        }
        Ok(failed)
    }
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
