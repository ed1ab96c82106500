//! Linux's own driver of the ConnectX, out of Debian's package, as the judge of the model: what its log says, and whether its
//! interface carries what it is given (docs/conformance.md).

use crate::scenarios::{BASIC, On, Scenario};

/// What a script loads when it wants it.
pub const MODULES: &[&str] = &["mlx5_core", "8021q"];

/// Functions for the scripts: `near` runs
/// beside its interface, `far` beside the peer's, in a network namespace of its own: nothing passes but over the wire.
pub const SCRIPT: &str = r#"
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
KNOWN='firmware version|Flow counters bulk query buffer size increased|clocksource: |available PCIe bandwidth|MLX5E: StrdRq|Link (up|down)|(entered|left) (promiscuous|allmulticast) mode'
# The model has no precision time measurement, and no flow counters; the emulated clock is
# late when the machine is busy. The last one is what the driver says of promiscuous mode.
KNOWN="$KNOWN|PTM is not supported|S-tagged traffic will be dropped"
"#;

/// The scenarios.
pub const ALL: &[Scenario] = &[
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
