//! `bind`, `unbind`, `restore` and `vfs`: what stands against them, and the plan if nothing does.
//!
//! Nothing here changes anything. A change that would take away what the host needs is refused, with what it is, unless the
//! loss is named; what the kernel would refuse, or wait for without end, is refused whatever is named.

use crate::function::{self, Function, VFIO_PCI, folder};
use crate::plan::{Action, Outcome, Plan, Step, Write};
use crate::root::Root;
use crate::state::{self, Memory, Recall};
use crate::uses::{Host, Loss, Use};
use connectx_ddp::platform::vfio::Address;
use serde::Serialize;
use std::fmt;

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The function.
    #[serde(serialize_with = "function::as_text")]
    pub address: Address,
    /// A word for programs: a loss by its name, or `not-there`, `not-ours`, `in-use`, `no-iommu`, `no-driver`,
    /// `no-sr-iov`, `too-many`.
    pub reason: &'static str,
    /// What it is.
    pub what: String,
    /// What to do.
    pub advice: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.address, self.what, self.advice)
    }
}

/// What may be lost, and done, for a change.
#[derive(Clone, Debug)]
pub struct Consent {
    /// Losses that were named.
    pub force: Vec<Loss>,
    /// Modules may be loaded.
    pub load: bool,
}

/// Everything that a change is planned from.
pub struct Scene<'a> {
    /// Where files are.
    pub root: &'a Root,
    /// All functions.
    pub functions: &'a [Function],
    /// What goes over them.
    pub host: &'a Host,
    /// What was agreed to.
    pub consent: &'a Consent,
}

/// A plan, or everything that stands against it.
pub type Planned = Result<Plan, Vec<Refusal>>;

impl Scene<'_> {
    /// The functions at these addresses.
    fn chosen(&self, addresses: &[Address]) -> Result<Vec<&Function>, Vec<Refusal>> {
        let (mut found, mut refusals) = (Vec::<&Function>::new(), Vec::new());
        for address in addresses {
            match self.functions.iter().find(|function| function.address == *address) {
                // Named twice is named once.
                Some(function) if found.iter().any(|other| other.address == function.address) => {}
                Some(function) => found.push(function),
                None => refusals.push(match function::foreigner(self.root, address) {
                    Some(what) => Refusal {
                        address: *address,
                        reason: "not-ours",
                        what: format!("it is no network function of Mellanox or NVIDIA ({what})"),
                        advice: "`cxddp-bind status` lists those".into(),
                    },
                    None => Refusal {
                        address: *address,
                        reason: "not-there",
                        what: "there is no such PCI function".into(),
                        advice: "`cxddp-bind status` lists those that there are".into(),
                    },
                }),
            }
        }
        if refusals.is_empty() { Ok(found) } else { Err(refusals) }
    }

    /// What would be lost if the function lost its driver, and who is in the way.
    fn against(&self, function: &Function, chosen: &[&Function], to_vfio: bool, refusals: &mut Vec<Refusal>) {
        let mut lost = self.host.uses(&function.interfaces);
        let mut users = vec![function];
        let vfs = function.sriov.as_ref().map_or(&[][..], |sriov| &sriov.functions);
        if !vfs.is_empty() {
            let list = vfs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            lost.push(Use {
                loss: Loss::Vfs,
                what: format!("its virtual functions, which go with its driver: {list}"),
            });
            for vf in self.functions.iter().filter(|other| vfs.contains(&other.address)) {
                lost.extend(self.host.uses(&vf.interfaces));
                users.push(vf);
            }
        }
        for other in function.group.iter().flat_map(|group| &group.others).filter(|other| to_vfio && other.blocks()) {
            if !chosen.iter().any(|function| function.address.to_string() == other.name) {
                let driver = other.driver.as_deref().unwrap_or("no driver");
                let id = function.group.as_ref().map_or(0, |group| group.id);
                let what = format!(
                    "IOMMU group {id} holds {} ({driver}) too, and VFIO hands out a group whole or not at all",
                    other.name
                );
                lost.push(Use { loss: Loss::Group, what });
            }
        }
        self.refuse_losses(function, lost, refusals);
        users.into_iter().for_each(|function| in_use(function, refusals));
    }

    fn refuse_losses(&self, function: &Function, lost: Vec<Use>, refusals: &mut Vec<Refusal>) {
        for Use { loss, what } in lost.into_iter().filter(|lost| !self.consent.force.contains(&lost.loss)) {
            let name = loss.name();
            let (what, advice) = match loss {
                Loss::Group => {
                    let advice = format!(
                        "bind all of it in one command, or move the card to a slot of its own group; \
                         `--force {name}` binds it all the same, and VFIO will not open it"
                    );
                    (what, advice)
                }
                _ => (
                    format!("it carries {what}"),
                    format!("move that elsewhere first, or lose it with `--force {name}`"),
                ),
            };
            refusals.push(Refusal { address: function.address, reason: name, what, advice });
        }
    }

    /// What is remembered, or what is to be remembered if nothing is.
    fn remember(&self, function: &Function) -> Option<Step> {
        let recalled = match state::recall(self.root, &function.address, function.device) {
            Recall::Known(memory) => Some(memory),
            Recall::Nothing | Recall::Unusable(_) => None,
        };
        // Between the first bind and the restore a function is with vfio-pci, or nobody: that is not how it was. With any
        // other driver somebody has put it back without us.
        let between = function.driver.as_deref().is_none_or(|driver| driver == VFIO_PCI);
        if between && recalled.is_some() {
            return None;
        }
        let memory = now(function);
        let outcome = Outcome::Exists(memory.file());
        Some(Step { address: function.address, action: Action::Remember(memory, recalled), outcome, undo: None })
    }

    /// Gives functions to vfio-pci.
    pub fn bind(&self, addresses: &[Address]) -> Planned {
        let chosen = self.chosen(addresses)?;
        let mut refusals = Vec::new();
        let mut plan = Plan::default();
        let module = format!("sys/bus/pci/drivers/{VFIO_PCI}");
        for function in chosen.iter().filter(|function| function.driver.as_deref() != Some(VFIO_PCI)) {
            let address = function.address;
            self.against(function, &chosen, true, &mut refusals);
            let unsafe_mode = self.root.text("sys/module/vfio/parameters/enable_unsafe_noiommu_mode");
            if function.group.is_none() && unsafe_mode.as_deref() != Some("Y") {
                refusals.push(Refusal {
                    address,
                    reason: "no-iommu",
                    what: "it is in no IOMMU group: the IOMMU is off, and vfio-pci takes nothing without".into(),
                    advice: "`cxddp-bind doctor` says how to turn it on".into(),
                });
            }
            if plan.steps.is_empty() && !self.root.exists(&module) {
                match self.consent.load {
                    true => plan.steps.push(Step {
                        address,
                        action: Action::Load(VFIO_PCI),
                        outcome: Outcome::Exists(module.clone()),
                        undo: None,
                    }),
                    false => refusals.push(Refusal {
                        address,
                        reason: "no-driver",
                        what: "the module vfio-pci is not loaded".into(),
                        advice: "modprobe vfio-pci, or leave out --no-load".into(),
                    }),
                }
            }
            plan.steps.extend(self.remember(function));
            plan.steps.extend(leave(function));
            plan.steps.extend(set_override(function, Some(VFIO_PCI)));
            plan.steps.push(enter(function, VFIO_PCI));
        }
        if refusals.is_empty() { Ok(plan) } else { Err(refusals) }
    }

    /// Takes functions from their drivers, and leaves them without.
    pub fn unbind(&self, addresses: &[Address]) -> Planned {
        let chosen = self.chosen(addresses)?;
        let mut refusals = Vec::new();
        let mut plan = Plan::default();
        for function in chosen.iter().filter(|function| function.driver.is_some()) {
            self.against(function, &chosen, false, &mut refusals);
            plan.steps.extend(self.remember(function));
            plan.steps.extend(leave(function));
        }
        if refusals.is_empty() { Ok(plan) } else { Err(refusals) }
    }

    /// Puts functions back to what they were, or, where nobody remembers, to what the kernel makes of them.
    pub fn restore(&self, addresses: &[Address]) -> Planned {
        let chosen = self.chosen(addresses)?;
        let mut refusals = Vec::new();
        let mut plan = Plan::default();
        for function in &chosen {
            let address = function.address;
            let memory = match state::recall(self.root, &address, function.device) {
                Recall::Known(memory) => Some(memory),
                Recall::Nothing | Recall::Unusable(_) => None,
            };
            let ours = function.driver.as_deref().is_none_or(|driver| driver == VFIO_PCI);
            // A driver that somebody else has given it meanwhile stays.
            if ours {
                self.put_back(function, memory.as_ref(), &chosen, &mut plan, &mut refusals);
            }
            if let Some(memory) = memory {
                plan.steps.push(Step {
                    address,
                    action: Action::Forget(memory),
                    outcome: Outcome::Unknown,
                    undo: None,
                });
            }
        }
        if refusals.is_empty() { Ok(plan) } else { Err(refusals) }
    }

    fn put_back(
        &self,
        function: &Function,
        memory: Option<&Memory>,
        chosen: &[&Function],
        plan: &mut Plan,
        refusals: &mut Vec<Refusal>,
    ) {
        let address = function.address;
        let before = memory.and_then(|memory| memory.driver_override.as_deref());
        // Nobody knows: the kernel chooses.
        let wanted = memory.map(|memory| memory.driver.as_deref());
        let changes = wanted != Some(function.driver.as_deref());
        if changes && function.driver.is_some() {
            self.against(function, chosen, false, refusals);
            plan.steps.extend(leave(function));
        }
        plan.steps.extend(set_override(function, before));
        match wanted {
            Some(Some(driver)) if changes => {
                if !self.root.exists(&format!("sys/bus/pci/drivers/{driver}")) {
                    refusals.push(Refusal {
                        address,
                        reason: "no-driver",
                        what: format!("its driver {driver} is not loaded"),
                        advice: "load the driver's module with modprobe, and try again".into(),
                    });
                }
                plan.steps.push(enter(function, driver));
                let vfs = memory.map_or(0, |memory| memory.vfs);
                plan.steps.extend((vfs > 0).then(|| set_vfs(function, vfs, 0)));
            }
            Some(_) => {}
            None => {
                let action =
                    Action::Write(Write { path: "sys/bus/pci/drivers_probe".into(), value: address.to_string() });
                plan.steps.push(Step { address, action, outcome: Outcome::Unknown, undo: None });
            }
        }
    }

    /// Gives a physical function so many virtual functions.
    pub fn vfs(&self, address: Address, count: u32) -> Planned {
        let chosen = self.chosen(&[address])?;
        let [function] = chosen[..] else { return Ok(Plan::default()) };
        let refuse = |reason, what: String, advice: String| Err(vec![Refusal { address, reason, what, advice }]);
        let Some(sriov) = &function.sriov else {
            return match function.physical {
                Some(physical) => {
                    let advice =
                        format!("give the address of its physical function: cxddp-bind vfs {physical} {count}");
                    refuse("no-sr-iov", "it is a virtual function itself".into(), advice)
                }
                None => {
                    let advice = format!(
                        "turn it on in the card's firmware, and restart the machine: \
                         mlxconfig -d {address} set SRIOV_EN=1 NUM_OF_VFS={count}"
                    );
                    refuse("no-sr-iov", "it has no SR-IOV".into(), advice)
                }
            };
        };
        if count > sriov.total {
            let advice = format!("allow more in the card's firmware: mlxconfig -d {address} set NUM_OF_VFS={count}");
            return refuse("too-many", format!("it has {} virtual functions at most", sriov.total), advice);
        }
        let old = sriov.functions.len() as u32;
        if count == old {
            return Ok(Plan::default());
        }
        match function.driver.as_deref() {
            None => {
                let advice = format!("give it back to its driver: cxddp-bind restore {address}");
                return refuse(
                    "no-driver",
                    "it has no driver, and the kernel asks one for virtual functions".into(),
                    advice,
                );
            }
            Some(VFIO_PCI) if self.root.text("sys/module/vfio_pci/parameters/enable_sriov").as_deref() != Some("Y") => {
                let advice = format!(
                    "make them while mlx5_core has it (cxddp-bind restore {address}), \
                     or echo Y > /sys/module/vfio_pci/parameters/enable_sriov"
                );
                return refuse("no-driver", "vfio-pci has it, and makes no virtual functions".into(), advice);
            }
            Some(_) => {}
        }
        let mut refusals = Vec::new();
        let mut lost = Vec::new();
        if old > 0 && count > 0 {
            let what = format!("{old} virtual functions; the kernel takes all away before it makes {count}");
            lost.push(Use { loss: Loss::Vfs, what });
        }
        for vf in self.functions.iter().filter(|other| sriov.functions.contains(&other.address)) {
            lost.extend(self.host.uses(&vf.interfaces));
            in_use(vf, &mut refusals);
        }
        self.refuse_losses(function, lost, &mut refusals);
        if !refusals.is_empty() {
            return Err(refusals);
        }
        let mut plan = Plan::default();
        if old > 0 {
            plan.steps.push(set_vfs(function, 0, old));
        }
        if count > 0 {
            plan.steps.push(set_vfs(function, count, 0));
        }
        Ok(plan)
    }
}

/// The kernel would wait, without end, for a process to let go.
fn in_use(function: &Function, refusals: &mut Vec<Refusal>) {
    for user in &function.users {
        refusals.push(Refusal {
            address: function.address,
            reason: "in-use",
            what: format!("process {} ({}) has it open ({})", user.pid, user.name, user.file),
            advice: "end that first: the kernel would wait for it without end".into(),
        });
    }
}

fn now(function: &Function) -> Memory {
    let vfs = function.sriov.as_ref().map_or(0, |sriov| sriov.functions.len() as u32);
    Memory::new(&function.address, function.device, function.driver.clone(), function.driver_override.clone(), vfs)
}

fn leave(function: &Function) -> Option<Step> {
    let driver = function.driver.as_ref()?;
    let write = |file: &str| Write {
        path: format!("sys/bus/pci/drivers/{driver}/{file}"),
        value: function.address.to_string(),
    };
    Some(Step {
        address: function.address,
        action: Action::Write(write("unbind")),
        outcome: Outcome::Driver(function.address, None),
        undo: Some(write("bind")),
    })
}

fn enter(function: &Function, driver: &str) -> Step {
    let write = |file: &str| Write {
        path: format!("sys/bus/pci/drivers/{driver}/{file}"),
        value: function.address.to_string(),
    };
    Step {
        address: function.address,
        action: Action::Write(write("bind")),
        outcome: Outcome::Driver(function.address, Some(driver.to_owned())),
        undo: Some(write("unbind")),
    }
}

/// `driver_override`: an empty line takes it away, and then it reads "(null)".
fn set_override(function: &Function, wanted: Option<&str>) -> Option<Step> {
    let before = function.driver_override.as_deref();
    if before == wanted {
        return None;
    }
    let path = format!("{}/driver_override", folder(&function.address));
    let write = |value: Option<&str>| Write { path: path.clone(), value: value.unwrap_or("\n").to_owned() };
    Some(Step {
        address: function.address,
        action: Action::Write(write(wanted)),
        outcome: Outcome::Reads(path.clone(), wanted.unwrap_or("(null)").to_owned()),
        undo: Some(write(before)),
    })
}

fn set_vfs(function: &Function, count: u32, before: u32) -> Step {
    let path = format!("{}/sriov_numvfs", folder(&function.address));
    let write = |count: u32| Write { path: path.clone(), value: count.to_string() };
    Step {
        address: function.address,
        action: Action::Write(write(count)),
        outcome: Outcome::Reads(path.clone(), count.to_string()),
        undo: Some(write(before)),
    }
}
