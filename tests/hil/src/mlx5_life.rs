//! How Linux's own driver of the ConnectX gets over what happens to the function: requests for pages, reloads, firmware that
//! is ill (docs/conformance.md).

use crate::scenarios::{BASIC, On, Scenario};

/// Functions for the scripts, behind those of [`mlx5`](crate::mlx5).
pub const SCRIPT: &str = r#"
pages() { cat /sys/kernel/debug/mlx5/$PF/pages/fw_pages_total; }
pages_are() {
    t=0
    while [ "$(pages)" != $1 ] && [ $t -lt 60 ]; do ping -c 5 -A -s 1400 10.1.0.2 > /dev/null; t=$((t + 1)); done
    [ "$(pages)" = $1 ] && echo "firmware has $1 pages"
}
# Sends and receives until a health reporter of the driver has something to say.
reports() {
    t=0
    while ! devlink health show pci/$PF reporter $1 | grep -q "$2" && [ $t -lt 100 ]; do
        ping -c 5 -A -W 1 -s 1400 10.1.0.2 > /dev/null; sleep 0.2; t=$((t + 1))
    done
    devlink health show pci/$PF reporter $1 && [ $t -lt 100 ]
}
# What the driver says of firmware that asks to be reset: what it saw, what it does, that it is well again.
RECOVERY='Fatal error 5 detected|print_health_info|handling bad device here|Expected to see disabled NIC but it is full driver'
RECOVERY="$RECOVERY|mlx5_error_sw_reset.*(start|end)|Issuing FW Reset|Skipping wait for vf pages stage"
RECOVERY="$RECOVERY|starting health recovery flow|mlx5_pci_slot_reset|wait vital counter value|health recovery succeeded"
"#;

/// The scenarios.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "mlx5-reload",
        about: "the kernel's own driver gives firmware pages that it asks for while traffic runs, takes them back, and is made \
                anew by devlink",
        on: On::Every,
        long: true,
        script: "mount -t debugfs debug /sys/kernel/debug; mlx5 && peer && pages_are 262 && \
                 pages_are 326 && pages_are 262 && devlink dev reload pci/$PF && again && devlink -s dev show pci/$PF | grep -A 4 stats: && pages_are 262 && \
                 rmmod mlx5_core; s=$?; clean && exit $s",
        iommu: false,
        peer: true,
        vnic: &["--inject", "ask-pages@64KiB", "--inject", "offer-pages@128KiB"],
        expects: &["firmware has 326 pages", "driver_reinit:\n            unspecified 1\n", "came again"],
        reports: &[
            "pf: pages.asked 64\n",
            "pf: pages.offered 64\n",
            "pf: pages.given 588\n",
            "pf: pages.returned 588\n",
            "pf: nothing held\n",
        ],
        ..BASIC
    },
    Scenario {
        name: "mlx5-recovery",
        about: "firmware reports a syndrome and goes on, then one that asks for a reset: the kernel's own driver says the first, \
                has firmware reset after the second, and carries traffic again",
        on: On::Every,
        long: true,
        script: "mlx5 && peer && reports fw 'error 1' && ping -c 2 10.1.0.2 && reports fw_fatal 'recover 1' && \
                 again && dd if=/dev/urandom of=/tmp/in bs=1M count=2 2>/dev/null && tcp near far 10.1.0.2 5001 && \
                 tcp far near 10.1.0.1 5002; s=$?; KNOWN=\"$KNOWN|$RECOVERY\"; clean && exit $s",
        iommu: false,
        peer: true,
        vnic: &["--inject", "ill@16KiB", "--inject", "healthy@+8", "--inject", "fatal@+8"],
        expects: &["came again", "recover 1", "tcp near to 10.1.0.2 ok", "tcp far to 10.1.0.1 ok"],
        ..BASIC
    },
];
