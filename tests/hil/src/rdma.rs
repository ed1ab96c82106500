//! rdma-core's user-space driver over VFIO, out of Debian's package, as a judge of the model (docs/conformance.md). The program
//! that calls it is `tests/hil/rdma`.

use crate::scenarios::{BASIC, On, Scenario};

/// The scenarios.
pub const ALL: &[Scenario] = &[Scenario {
    name: "rdma-core",
    about: "rdma-core's driver opens both functions over VFIO, registers memory, makes queues in it, sends frames between them, \
            closes them, and all of it again; then ours comes up",
    on: On::Every,
    counted: true,
    script: "bind $PF && bind $VF && timeout 100 rdma-probe $PF $VF && cxddp probe --device $PF --vfio group --json",
    // Its first page is at the first address that the IOMMU offers, which is 0.
    vnic: &["--model-switch", "take-page-zero=on"],
    vfs: 1,
    expects: &["frames both ways ok", "round 2 ok", r#""why_not":[]"#],
    ..BASIC
}];
