//! What Linux's own driver of the ConnectX receives, and by which means: datagrams and fragments, groups and VLANs that it
//! joined and no others (docs/conformance.md).

use crate::scenarios::{BASIC, On, Scenario};

/// Functions for the scripts, behind those of [`mlx5`](crate::mlx5). A peer answers datagrams at either end.
pub const SCRIPT: &str = r#"
echoes() { far ip link set $ETH mtu 1500; near datagrams echo 0.0.0.0:7 & far datagrams echo 0.0.0.0:7 & sleep 0.5; }
SIZES='0 1 17 18 19 700 1400 1472 1473 1480 2953 8972 20000 65507'
datagrams_both_ways() { near datagrams exchange $2:7 $SIZES && far datagrams exchange $1:7 $SIZES; }
received() { cat /sys/class/net/$MLX/statistics/rx_packets; }
# Whether it received what came while the rest ran: at least 20 frames; or hardly any.
receives() { n=$(received); "$@"; sleep 1; [ $(($(received) - n)) -ge 20 ]; }
ignores() { n=$(received); "$@"; sleep 1; [ $(($(received) - n)) -lt 10 ]; }
joins() {
    datagrams count $1:7000 10.1.0.1 20 > /tmp/group.$1 & G=$!
    t=0
    while ! grep -q joined /tmp/group.$1 && [ $t -lt 100 ]; do sleep 0.1; t=$((t + 1)); done
    sleep 0.5
}
send='far datagrams send'
groups() {
    far ip route add 239.0.0.0/8 dev $ETH && joins 239.1.1.1 && ignores $send 239.1.1.2:7000 20 && \
        receives $send 239.1.1.1:7000 20 && wait $G && cat /tmp/group.239.1.1.1 && \
        ignores $send 239.1.1.1:7000 20 && ifconfig $MLX allmulti && sleep 0.5 && receives $send 239.1.1.2:7000 20 && \
        ifconfig $MLX -allmulti && sleep 0.5 && ignores $send 239.1.1.2:7000 20 && echo groups ok
}
vlans() {
    for v in 7 8 2049 4094; do
        h=10.77.$((v % 250))
        vconfig add $MLX $v && far vconfig add $ETH $v && ip addr add $h.1/24 dev $MLX.$v && ip link set $MLX.$v up && \
            far ip addr add $h.2/24 dev $ETH.$v && far ip link set $ETH.$v up && sleep 0.5 && ping -c 1 $h.2 && \
            datagrams_both_ways $h.1 $h.2 || return 1
    done
    far vconfig add $ETH 9 && far ip addr add 10.78.0.2/24 dev $ETH.9 && far ip link set $ETH.9 up && \
        far arp -s 10.78.0.1 $(cat /sys/class/net/$MLX/address) && ignores $send 10.78.0.1:7 20 && \
        vconfig rem $MLX.8 && ignores $send 10.77.8.1:7 20 && ping -c 1 10.77.7.2 && echo vlans ok
}
compressed() {
    ethtool --set-priv-flags $MLX rx_cqe_compress on && carrier 1 && sleep 1 && ethtool --show-priv-flags $MLX && \
        datagrams_both_ways 10.1.0.1 10.1.0.2 && tcp far near 10.1.0.1 $1 && tcp near far 10.1.0.2 $(($1 + 1)) && \
        ethtool -S $MLX > /tmp/s && grep -E ' rx_(cqe_compress|packets)' /tmp/s && counted rx_cqe_compress_pkts && \
        dmesg | grep 'StrdRq' | tail -n 1 && echo "$1 compressed"
}
"#;

/// The scenarios.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "mlx5-datagrams",
        about: "the kernel's own driver: datagrams of many sizes both ways, fragments too, contents compared; of groups and VLANs \
            those that it joined, and no others",
        on: On::Every,
        long: true,
        script: "mlx5 && peer && ping -c 1 10.1.0.2 && echoes && datagrams_both_ways 10.1.0.1 10.1.0.2 && groups && vlans; \
             s=$?; clean && exit $s",
        iommu: false,
        peer: true,
        expects: &[
            "14 datagrams came back from 10.1.0.1:7 as they were",
            "20 datagrams came to 239.1.1.1:7000",
            "vlans ok",
        ],
        reports: &["pf: drops.address ", "pf: drops.steering "],
        ..BASIC
    },
    Scenario {
        name: "mlx5-striding",
        about: "the kernel's own driver receives into striding queues, whose keys it fills by UMRs: datagrams and TCP both ways, \
                contents compared, frames of 1500 and 9000 bytes, the queues made anew by MTU and by link",
        on: On::Every,
        long: true,
        script: "mlx5 && peer && dmesg | grep 'StrdRq(1)' && echoes && datagrams_both_ways 10.1.0.1 10.1.0.2 && \
                 dd if=/dev/urandom of=/tmp/in bs=1M count=8 2>/dev/null && tcp far near 10.1.0.1 5001 && mtu 9000 && \
                 datagrams_both_ways 10.1.0.1 10.1.0.2 && tcp far near 10.1.0.1 5002 && tcp near far 10.1.0.2 5003 && \
                 ip link set $MLX down && ip link set $MLX up && carrier 1 && ping -c 2 -s 8900 10.1.0.2 && \
                 ethtool -S $MLX > /tmp/s && grep -E ' rx_(mpwqe|packets|wqe_err|buff)' /tmp/s && \
                 counted rx_mpwqe_filler_cqes; s=$?; clean && exit $s",
        iommu: false,
        vnic: &["--model-switch", "striding-rq=on"],
        peer: true,
        expects: &["MLX5E: StrdRq(1)", "tcp far to 10.1.0.1 ok", "tcp near to 10.1.0.2 ok"],
        reports: &["pf: rx_fillers ", "pf: work_requests.umr "],
        ..BASIC
    },
    Scenario {
        name: "mlx5-compression",
        about: "the kernel's own driver has receive completions compressed, with striding queues and with cyclic ones: datagrams \
                and TCP both ways, contents compared",
        on: On::Every,
        long: true,
        script: "mlx5 && peer && echoes && dd if=/dev/urandom of=/tmp/in bs=1M count=8 2>/dev/null && \
                 compressed 5001 && ethtool --set-priv-flags $MLX rx_striding_rq off && carrier 1 && sleep 1 && \
                 compressed 5003; s=$?; KNOWN=\"$KNOWN|Disabling rxhash, not supported when CQE compress is active\"; clean && exit $s",
        iommu: false,
        vnic: &["--model-switch", "striding-rq=on", "--model-switch", "cqe-compression=on"],
        peer: true,
        expects: &[
            "StrdRq(1)",
            "tcp far to 10.1.0.1 ok",
            "tcp near to 10.1.0.2 ok",
            "5001 compressed",
            "5003 compressed",
        ],
        reports: &["pf: rx_compressed "],
        ..BASIC
    },
];
