//! Our driver and Linux's own on the same function as far as their first packets both ways: what each needs for that is counted,
//! and with `--trace` the two are compared command by command (docs/conformance.md).

use crate::scenarios::{BASIC, On, Scenario};

/// The scenarios.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "bring-up-driver",
        about: "our driver brings the function up and reads a little: what that takes until the first packets is counted",
        on: On::Every,
        long: true,
        counted: true,
        script: "bind $PF && read_it $PF --queues 1 --queue-size 4",
        vnic: &["--wire", "target", "--size", "1048576"],
        expects: &[r#""verified":true"#],
        ..BASIC
    },
    Scenario {
        name: "bring-up-mlx5",
        about: "the kernel's own driver probes the function and pings: what that takes until the first packets is counted",
        on: On::Every,
        long: true,
        counted: true,
        script: "mlx5 && peer && ping -c 2 10.1.0.2; s=$?; clean && exit $s",
        iommu: false,
        peer: true,
        ..BASIC
    },
];
