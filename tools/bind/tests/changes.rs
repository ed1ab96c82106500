//! `bind`, `unbind`, `restore` and `vfs` on machines made of files.
//!
//! | property | test |
//! |---|---|
//! | bind gives a function to vfio-pci, and restore puts back driver, override and virtual functions, whatever was done twice | `bind_and_restore` |
//! | the first bind's memory survives a second one, an unbind in between, and a card that somebody else put back is remembered anew | `what_was_is_remembered_once` |
//! | without memory restore clears the override and lets the kernel choose | `restore_without_memory` |
//! | a memory that is broken, or of another card, is not used | `a_memory_that_is_none` |
//! | vfio-pci is loaded if it is missing and that is allowed | `the_module_is_loaded` |
//! | each loss is refused with what it is, and accepted by its name alone | `losses_are_refused_by_name` |
//! | what goes over another card, or nowhere, is nobody's loss; nor are members of a group that VFIO tolerates | `what_goes_elsewhere_is_nobodys_loss` |
//! | what the kernel would refuse or wait for is refused whatever is forced | `what_cannot_be_is_refused` |
//! | both functions of a group can be bound together, and neither alone | `a_group_is_bound_whole` |
//! | whatever step fails, everything is as it was before, or what is not is told | `a_failure_is_taken_back` |
//! | a taking-back that fails is told | `what_is_left_is_told` |
//! | of a kernel that does not answer nothing more is asked, and what may be half done is told | `a_kernel_that_does_not_answer` |
//! | virtual functions are made, changed and taken away | `virtual_functions_are_made` |
//! | a plan that is not carried out changes nothing, and says each write | `a_dry_run_changes_nothing` |

mod support;

use cxddp_bind::change::{Planned, Refusal, Scene};
use cxddp_bind::plan::Plan;
use cxddp_bind::uses::Loss;
use support::{FakeKernel, Fault, Machine, PF, PF2, address};

fn bind(scene: &Scene) -> Planned {
    scene.bind(&[address(PF)])
}

fn unbind(scene: &Scene) -> Planned {
    scene.unbind(&[address(PF)])
}

fn restore(scene: &Scene) -> Planned {
    scene.restore(&[address(PF)])
}

/// Plans and carries out; returns the writes.
#[track_caller]
fn does(machine: &Machine, force: &[Loss], what: fn(&Scene) -> Planned) -> Vec<String> {
    let plan = machine.plan(force, what).expect("nothing stands against it");
    let mut kernel = FakeKernel::new(machine, Fault::None);
    plan.run(&machine.root, &mut kernel).expect("it works");
    kernel.writes
}

#[track_caller]
fn refused(planned: Planned) -> Vec<Refusal> {
    planned.expect_err("it is refused")
}

fn driver(machine: &Machine, at: &str) -> Option<String> {
    machine
        .functions()
        .into_iter()
        .find(|function| function.address == address(at))
        .and_then(|function| function.driver)
}

const MEMORY: &str = "run/cxddp-bind/0000:3b:00.0.json";

#[test]
fn bind_and_restore() {
    let machine = Machine::server();
    machine.virtual_functions(2);
    machine.write(&format!("sys/bus/pci/devices/{PF}/driver_override"), "mlx5_core");
    let before = machine.contents();
    let writes = does(&machine, &[Loss::Vfs], bind);
    assert_eq!(
        writes,
        [
            format!("{PF} > sys/bus/pci/drivers/mlx5_core/unbind"),
            format!("vfio-pci > sys/bus/pci/devices/{PF}/driver_override"),
            format!("{PF} > sys/bus/pci/drivers/vfio-pci/bind"),
        ]
    );
    assert_eq!(driver(&machine, PF).as_deref(), Some("vfio-pci"));
    assert!(does(&machine, &[], bind).is_empty(), "it is bound already");
    does(&machine, &[], restore);
    assert_eq!(machine.contents(), before);
    assert!(does(&machine, &[], restore).is_empty(), "there is nothing to restore");
    assert_eq!(machine.contents(), before);
}

#[test]
fn what_was_is_remembered_once() {
    let machine = Machine::server();
    does(&machine, &[], bind);
    does(&machine, &[], unbind);
    assert_eq!(driver(&machine, PF), None);
    does(&machine, &[], bind);
    does(&machine, &[], restore);
    assert_eq!(driver(&machine, PF).as_deref(), Some("mlx5_core"));
    assert!(!machine.root.exists(MEMORY));

    // What had no driver gets none back, and no trace of ours.
    let bare = Machine::server();
    bare.remove(&format!("sys/bus/pci/devices/{PF}/driver"));
    bare.remove(&format!("sys/bus/pci/drivers/mlx5_core/{PF}"));
    let before = bare.contents();
    for steps in
        [&[bind as fn(&Scene) -> Planned, restore][..], &[bind, unbind, restore], &[bind, unbind, bind, restore]]
    {
        steps.iter().for_each(|step| _ = does(&bare, &[], *step));
        assert_eq!(bare.contents(), before);
    }

    // Bound, put back by hand with virtual functions, bound again: what was before the last bind counts.
    does(&machine, &[], bind);
    let mut kernel = FakeKernel::new(&machine, Fault::None);
    use cxddp_bind::effects::Effects;
    for (file, value) in
        [("drivers/vfio-pci/unbind", PF), (&format!("devices/{PF}/driver_override"), "\n"), ("drivers_probe", PF)]
    {
        kernel
            .write(&machine.root.path(&format!("sys/bus/pci/{file}")), value, std::time::Duration::ZERO)
            .expect("it works");
    }
    machine.virtual_functions(3);
    does(&machine, &[Loss::Vfs], bind);
    assert!(machine.text(MEMORY).contains("\"vfs\":3"), "{}", machine.text(MEMORY));
    does(&machine, &[], restore);
    assert_eq!(machine.text(&format!("sys/bus/pci/devices/{PF}/sriov_numvfs")), "3");
}

#[test]
fn restore_without_memory() {
    let machine = Machine::server();
    let before = machine.contents();
    does(&machine, &[], bind);
    machine.remove("run/cxddp-bind");
    let writes = does(&machine, &[], restore);
    assert_eq!(writes.last(), Some(&format!("{PF} > sys/bus/pci/drivers_probe")));
    assert_eq!(machine.contents(), before);
}

#[test]
fn a_memory_that_is_none() {
    for text in [
        "",
        "nonsense",
        r#"{"version":2,"address":"0000:3b:00.0","device":4129,"driver":"other","driver_override":null,"vfs":0}"#,
        r#"{"version":1,"address":"0000:3b:00.1","device":4129,"driver":"other","driver_override":null,"vfs":0}"#,
        r#"{"version":1,"address":"0000:3b:00.0","device":4125,"driver":"other","driver_override":null,"vfs":0}"#,
        r#"{"version":1,"address":"0000:3b:00.0","device":4129,"driver":"../../etc","driver_override":null,"vfs":0}"#,
    ] {
        let machine = Machine::server();
        does(&machine, &[], bind);
        machine.write(MEMORY, text);
        does(&machine, &[], restore);
        assert_eq!(driver(&machine, PF).as_deref(), Some("mlx5_core"), "{text}");
    }
}

#[test]
fn the_module_is_loaded() {
    let machine = Machine::server();
    machine.remove("sys/bus/pci/drivers/vfio-pci");
    let writes = does(&machine, &[], bind);
    assert_eq!(writes[0], "modprobe vfio-pci");
    let machine = Machine::server();
    machine.remove("sys/bus/pci/drivers/vfio-pci");
    let before = machine.contents();
    let plan = machine.plan(&[], bind).expect("a plan");
    let failure =
        plan.run(&machine.root, &mut FakeKernel::new(&machine, Fault::Refuses("modprobe", 1))).expect_err("it fails");
    assert!(failure.to_string().contains("modprobe vfio-pci: modprobe ended with 1; nothing was changed"), "{failure}");
    assert_eq!(machine.contents(), before);
}

/// A machine on which something goes over the function, the loss, and words of the refusal.
type Carrying = (fn(&Machine), Loss, &'static [&'static str]);

const CARRYING: &[Carrying] = &[
    (
        |machine| {
            machine.write("proc/net/route", "head\nens1f0np0\t00000000\t0101010A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n")
        },
        Loss::DefaultRoute,
        &["the IPv4 default route to 10.1.1.1 through ens1f0np0"],
    ),
    (
        |machine| {
            machine.upper("ens1f0np0", "bond0");
            machine.upper("bond0", "bond0.7");
            machine.upper("bond0.7", "br7");
            let zeros = "0".repeat(32);
            let line = format!("{zeros} 00 {zeros} 00 fe800000000000000000000000000001 00000064 1 0 00000003 br7\n");
            machine.write("proc/net/ipv6_route", &line);
        },
        Loss::DefaultRoute,
        &["the IPv6 default route to fe80::1 through br7 over ens1f0np0"],
    ),
    (
        |machine| {
            machine.upper("ens1f0np0", "ovs-system");
            machine.folder("sys/class/net/br-ex");
            machine.write("proc/net/route", "head\nbr-ex\t00000000\t0101010A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
        },
        Loss::DefaultRoute,
        &["through br-ex over ens1f0np0"],
    ),
    (
        |machine| {
            machine.write("sys/class/nvme/nvme3/transport", "tcp");
            machine.write("sys/class/nvme/nvme3/address", "traddr=10.1.0.9,trsvcid=4420,src_addr=10.1.0.2");
            machine.write("proc/mounts", "/dev/nvme3n1 /data xfs rw 0 0\n");
        },
        Loss::Storage,
        &["NVMe/TCP controller nvme3 at 10.1.0.9, mounted at /data through ens1f0np0"],
    ),
    (
        |machine| {
            machine.write("sys/class/nvme/nvme4/transport", "rdma");
            machine.write("sys/class/nvme/nvme4/address", "traddr=192.0.2.1,trsvcid=4420,host_iface=ens1f0np0");
        },
        Loss::Storage,
        &["NVMe/RDMA controller nvme4 at 192.0.2.1 through ens1f0np0"],
    ),
    (
        |machine| {
            machine.write("proc/mounts", "10.1.3.4:/export / nfs4 rw,vers=4.2,addr=10.1.3.4,clientaddr=10.1.0.2 0 0\n")
        },
        Loss::Storage,
        &["NFS4 mount of 10.1.3.4:/export at /, the root file system, through ens1f0np0"],
    ),
    (
        |machine| machine.write("proc/mounts", "10.1.3.4:6789,10.0.0.5:6789:/ /ceph ceph rw,name=a 0 0\n"),
        Loss::Storage,
        &["CEPH mount", "through ens1f0np0"],
    ),
    (
        |machine| machine.write("sys/class/iscsi_connection/connection1:0/address", "10.1.0.77"),
        Loss::Storage,
        &["iSCSI connection1:0 to 10.1.0.77 through ens1f0np0"],
    ),
    (
        |machine| {
            machine.write("proc/self/status", "Name:\tcxddp-bind\nPPid:\t800\n");
            machine.write("proc/800/status", "Name:\tsudo\nPPid:\t700\n");
            machine.write("proc/700/status", "Name:\tbash\nPPid:\t1\n");
            machine.write("proc/700/environ", "A=1\0SSH_CONNECTION=10.1.9.9 51514 10.1.0.2 22\0B=2\0");
        },
        Loss::Ssh,
        &["this SSH session, from 10.1.9.9 through ens1f0np0"],
    ),
    (|machine| machine.virtual_functions(2), Loss::Vfs, &["0000:3b:00.2, 0000:3b:00.3"]),
    (
        |machine| {
            machine.pci("0000:3b:00.7", "0x8086", "0x1572", "0x020000");
            machine.driver("i40e");
            machine.group("0000:3b:00.7", 42);
            machine.attach("0000:3b:00.7", "i40e");
        },
        Loss::Group,
        &["IOMMU group 42 holds 0000:3b:00.7 (i40e) too", "whole or not at all"],
    ),
];

#[test]
fn losses_are_refused_by_name() {
    for (make, loss, words) in CARRYING {
        let machine = Machine::server();
        make(&machine);
        let before = machine.contents();
        let refusals = refused(machine.plan(&[], bind));
        assert_eq!(refusals.iter().map(|refusal| refusal.reason).collect::<Vec<_>>(), [loss.name()], "{words:?}");
        let text = refusals[0].to_string();
        assert!(text.starts_with(PF) && text.contains(&format!("--force {}", loss.name())), "{text}");
        words.iter().for_each(|word| assert!(text.contains(word), "{text} does not say {word:?}"));
        let others = [Loss::DefaultRoute, Loss::Storage, Loss::Ssh, Loss::Vfs, Loss::Group];
        let others: Vec<_> = others.into_iter().filter(|other| other != loss).collect();
        assert_eq!(refused(machine.plan(&others, bind)).len(), 1, "forced by another name: {words:?}");
        assert_eq!(machine.contents(), before);
        does(&machine, &[*loss], bind);
        assert_eq!(driver(&machine, PF).as_deref(), Some("vfio-pci"));
    }
}

#[test]
fn what_goes_elsewhere_is_nobodys_loss() {
    let machine = Machine::server();
    // A broader route that is ours does not count where a narrower one is another card's.
    let broad = "ens1f0np0\t0000000A\t00000000\t0001\t0\t0\t1\t000000FF\t0\t0\t0\n";
    machine.write("proc/net/route", &format!("{}{broad}", support::ROUTES));
    machine.write("sys/class/nvme/nvme0/transport", "pcie");
    machine.write("sys/class/nvme/nvme1/transport", "tcp");
    machine.write("sys/class/nvme/nvme1/address", "traddr=10.0.0.9,trsvcid=4420");
    machine.write("proc/mounts", "10.0.0.4:/export /mnt nfs4 rw,addr=10.0.0.4 0 0\n/dev/sda1 / ext4 rw 0 0\n");
    machine.write("proc/self/environ", "SSH_CONNECTION=10.0.0.8 51514 10.0.0.2 22\0");
    // Rejected routes lead nowhere.
    let zeros = "0".repeat(32);
    machine.write("proc/net/ipv6_route", &format!("{zeros} 00 {zeros} 00 {zeros} ffffffff 1 0 00200201 ens1f0np0\n"));
    // A bridge, a device without driver and one of VFIO's own do not spoil a group.
    for (at, class, driver) in [
        ("0000:3b:00.4", "0x060400", Some("pcieport")),
        ("0000:3b:00.5", "0x010802", None),
        ("0000:3b:00.6", "0x020000", Some("vfio-pci")),
    ] {
        machine.pci(at, "0x8086", "0x1", class);
        machine.group(at, 42);
        if let Some(driver) = driver {
            machine.driver(driver);
            machine.attach(at, driver);
        }
    }
    does(&machine, &[], bind);
}

#[test]
fn what_cannot_be_is_refused() {
    const ALL: [Loss; 5] = [Loss::DefaultRoute, Loss::Storage, Loss::Ssh, Loss::Vfs, Loss::Group];
    let reason = |planned: Planned| {
        let refusals = refused(planned);
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        (refusals[0].reason, refusals[0].to_string())
    };
    let machine = Machine::server();
    machine.pci("0000:01:00.0", "0x8086", "0x1572", "0x020000");
    let (why, text) = reason(machine.plan(&ALL, |scene| scene.bind(&[address("0000:01:00.0")])));
    assert!(why == "not-ours" && text.contains("8086:1572"), "{text}");
    let (why, text) = reason(machine.plan(&ALL, |scene| scene.bind(&[address("0000:02:00.0")])));
    assert!(why == "not-there" && text.contains("cxddp-bind status"), "{text}");

    machine.remove(&format!("sys/devices/pci0000:3a/0000:3a:00.0/{PF}/iommu_group"));
    let (why, text) = reason(machine.plan(&ALL, bind));
    assert!(why == "no-iommu" && text.contains("cxddp-bind doctor"), "{text}");
    machine.write("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y");
    assert!(machine.plan(&ALL, bind).is_ok(), "no-IOMMU mode is on");

    let machine = Machine::server();
    does(&machine, &[], bind);
    machine.opens(4711, "cxddp", "/dev/vfio/42");
    for what in [restore, unbind] {
        let (why, text) = reason(machine.plan(&ALL, what));
        assert!(why == "in-use" && text.contains("process 4711 (cxddp)"), "{text}");
    }
}

#[test]
fn a_group_is_bound_whole() {
    let machine = Machine::server();
    machine.pci(PF2, "0x15b3", "0x1021", "0x020000");
    machine.group(PF2, 42);
    machine.attach(PF2, "mlx5_core");
    assert_eq!(refused(machine.plan(&[], bind))[0].reason, "group");
    let both = |scene: &Scene| scene.bind(&[address(PF), address(PF2), address(PF)]);
    does(&machine, &[], both);
    for at in [PF, PF2] {
        assert_eq!(driver(&machine, at).as_deref(), Some("vfio-pci"));
    }
    does(&machine, &[], |scene| scene.restore(&[address(PF), address(PF2)]));
    assert_eq!(driver(&machine, PF2).as_deref(), Some("mlx5_core"));
}

#[test]
fn a_failure_is_taken_back() {
    let two = |machine: &Machine| {
        machine.pci(PF2, "0x15b3", "0x1021", "0x020000");
        machine.group(PF2, 43);
        machine.attach(PF2, "mlx5_core");
    };
    let faults = [
        Fault::Refuses("mlx5_core/unbind", 16),
        Fault::Refuses("vfio-pci/bind", 22),
        Fault::Ignores("mlx5_core/unbind"),
        Fault::Ignores("vfio-pci/bind"),
        Fault::ActsAndFails("vfio-pci/bind", 5),
        Fault::ActsAndFails("mlx5_core/unbind", 5),
        // Of two functions the second fails.
        Fault::Refuses("3b:00.1/driver_override", 1),
        Fault::Ignores("3b:00.1/driver_override"),
    ];
    for fault in faults {
        let machine = Machine::server();
        two(&machine);
        let before = machine.contents();
        let plan = machine.plan(&[], |scene| scene.bind(&[address(PF), address(PF2)])).expect("a plan");
        let mut kernel = FakeKernel::new(&machine, fault);
        let failure = plan.run(&machine.root, &mut kernel).expect_err("it fails");
        assert_eq!(machine.contents(), before, "{fault:?}: {failure}");
        assert!(
            failure.left.is_empty() && failure.to_string().ends_with("everything is as it was before"),
            "{failure}"
        );
        assert!(kernel.paused <= std::time::Duration::from_secs(10), "the wait ends");
    }
    // So is a restore.
    for fault in
        [Fault::Refuses("mlx5_core/bind", 5), Fault::Ignores("vfio-pci/unbind"), Fault::Refuses("sriov_numvfs", 16)]
    {
        let machine = Machine::server();
        machine.virtual_functions(1);
        does(&machine, &[Loss::Vfs], bind);
        let before = machine.contents();
        let plan = machine.plan(&[], restore).expect("a plan");
        let failure = plan.run(&machine.root, &mut FakeKernel::new(&machine, fault)).expect_err("it fails");
        assert_eq!(machine.contents(), before, "{fault:?}: {failure}");
    }
}

#[test]
fn what_is_left_is_told() {
    let machine = Machine::server();
    let plan = machine.plan(&[], bind).expect("a plan");
    struct Dead<'a>(FakeKernel<'a>);
    impl cxddp_bind::effects::Effects for Dead<'_> {
        fn write(&mut self, path: &std::path::Path, value: &str, patience: std::time::Duration) -> std::io::Result<()> {
            // vfio-pci does not take it, and mlx5_core does not take it back.
            match path.ends_with("bind") {
                true => Err(std::io::Error::from_raw_os_error(5)),
                false => self.0.write(path, value, patience),
            }
        }
        fn load(&mut self, module: &str, patience: std::time::Duration) -> std::io::Result<()> {
            self.0.load(module, patience)
        }
        fn pause(&mut self, time: std::time::Duration) {
            self.0.pause(time);
        }
    }
    let failure = plan.run(&machine.root, &mut Dead(FakeKernel::new(&machine, Fault::None))).expect_err("it fails");
    assert_eq!(failure.left.len(), 1, "{failure}");
    let text = failure.to_string();
    assert!(text.contains(&format!("echo {PF} > /sys/bus/pci/drivers/vfio-pci/bind")), "{text}");
    assert!(
        text.contains(&format!(
            "what is left and could not be taken back: `echo {PF} > /sys/bus/pci/drivers/mlx5_core/unbind`"
        )),
        "{text}"
    );
    assert!(text.contains("dmesg"), "{text}");
}

#[test]
fn a_kernel_that_does_not_answer() {
    let machine = Machine::server();
    let plan = machine.plan(&[], bind).expect("a plan");
    let mut kernel = FakeKernel::new(&machine, Fault::NeverAnswers("mlx5_core/unbind"));
    let failure = plan.run(&machine.root, &mut kernel).expect_err("it fails");
    assert_eq!(kernel.writes.len(), 1, "{:?}", kernel.writes);
    assert_eq!(failure.left.len(), 2, "{failure}");
    assert!(failure.to_string().contains("cxddp-bind restore"), "{failure}");
    does(&machine, &[], restore);
    assert_eq!(driver(&machine, PF).as_deref(), Some("mlx5_core"));
}

#[test]
fn virtual_functions_are_made() {
    let machine = Machine::server();
    let vfs = |count: u32| move |scene: &Scene| scene.vfs(address(PF), count);
    let run = |plan: Plan| plan.run(&machine.root, &mut FakeKernel::new(&machine, Fault::None)).expect("it works");
    let count = || machine.functions().iter().filter(|function| function.physical.is_some()).count();
    run(machine.plan(&[], vfs(3)).expect("a plan"));
    assert_eq!(count(), 3);
    assert!(machine.plan(&[], vfs(3)).expect("a plan").steps.is_empty());
    let refusals = refused(machine.plan(&[], vfs(5)));
    assert_eq!((refusals.len(), refusals[0].reason), (1, "vfs"), "those that there are go away meanwhile");
    run(machine.plan(&[Loss::Vfs], vfs(5)).expect("a plan"));
    assert_eq!(count(), 5);
    let refusals = refused(machine.plan(&[], vfs(9)));
    assert!(refusals[0].reason == "too-many" && refusals[0].advice.contains("NUM_OF_VFS=9"), "{refusals:?}");
    let refusals = refused(machine.plan(&[], |scene| scene.vfs(address("0000:3b:00.2"), 1)));
    assert!(refusals[0].reason == "no-sr-iov" && refusals[0].advice.contains(PF), "{refusals:?}");
    machine.interface("0000:3b:00.3", "ens1f0v1");
    machine.write("proc/net/route", "head\nens1f0v1\t00000000\t0101010A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
    assert_eq!(refused(machine.plan(&[], vfs(0)))[0].reason, "default-route");
    machine.write("proc/net/route", "");
    machine.opens(99, "qemu", "/dev/vfio/51");
    assert_eq!(refused(machine.plan(&[], vfs(0)))[0].reason, "in-use");
    machine.remove("proc/99");
    run(machine.plan(&[], vfs(0)).expect("a plan"));
    assert_eq!(count(), 0);
    machine.write(&format!("sys/bus/pci/devices/{PF}/sriov_totalvfs"), "0");
    assert!(refused(machine.plan(&[], vfs(1)))[0].advice.contains("mlxconfig"));
}

#[test]
fn a_dry_run_changes_nothing() {
    let machine = Machine::server();
    let before = machine.contents();
    let plan = machine.plan(&[], bind).expect("a plan");
    let shown: Vec<_> = plan.steps.iter().map(|step| step.action.to_string()).collect();
    assert_eq!(
        shown,
        [
            format!("write /{MEMORY} (driver mlx5_core)"),
            format!("echo {PF} > /sys/bus/pci/drivers/mlx5_core/unbind"),
            format!("echo vfio-pci > /sys/bus/pci/devices/{PF}/driver_override"),
            format!("echo {PF} > /sys/bus/pci/drivers/vfio-pci/bind"),
        ]
    );
    assert_eq!(machine.contents(), before);
}
