//! What was found and done, for people (text) and for programs (JSON, whose shape `docs/bind.md` documents and which does not
//! change but by growing).

use crate::change::{Planned, Refusal};
use crate::doctor::{Line, Verdict};
use crate::function::{Function, Interface, Link, VFIO_PCI};
use crate::plan::{Action, Failure, Plan, Step};
use crate::root::Root;
use crate::state::{self, Recall};
use crate::uses::{Host, Use};
use connectx_ddp::platform::vfio::Address;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// What changes when the shape changes otherwise than by growing.
const VERSION: u32 = 1;

/// What `status` tells of a function.
pub struct Status {
    function: Function,
    uses: Vec<Use>,
    remembered: Recall,
}

impl Status {
    /// Of one function.
    pub fn new(root: &Root, host: &Host, function: Function) -> Status {
        let uses = host.uses(&function.interfaces);
        let remembered = state::recall(root, &function.address, function.device);
        Status { function, uses, remembered }
    }
}

/// `status` for people.
pub fn status_text(all: &[Status]) -> String {
    if all.is_empty() {
        return "there is no network function of Mellanox or NVIDIA (vendor 15b3) on this machine\n".to_owned();
    }
    let blocks: Vec<_> = all.iter().map(block).collect();
    blocks.join("\n")
}

fn block(status: &Status) -> String {
    let Status { function, uses, remembered } = status;
    let mut text = format!("{}  {} [15b3:{:04x}]\n", function.address, function.name, function.device);
    let mut row = |name: &str, value: &str| _ = writeln!(text, "  {name:<11} {value}");
    let mut driver = function.driver.clone().unwrap_or_else(|| "none".into());
    if let Some(only) = function.driver_override.as_ref().filter(|only| function.driver.as_ref() != Some(only)) {
        driver += &format!(" (only {only} may take it: driver_override)");
    }
    match remembered {
        Recall::Nothing => {}
        Recall::Known(memory) => driver += &format!(" (before: {memory})"),
        Recall::Unusable(why) => driver += &format!(" (what was before is not known: {why})"),
    }
    row("driver", &driver);
    row("IOMMU", &group(function));
    if let Some(node) = function.numa_node {
        row("NUMA node", &node.to_string());
    }
    row("PCIe", &link(&function.link));
    function.interfaces.iter().for_each(|one| row("interface", &interface(one)));
    match (&function.sriov, &function.physical) {
        (Some(sriov), _) => {
            let made = sriov.functions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let colon = if made.is_empty() { "" } else { ": " };
            row("SR-IOV", &format!("{} of {} virtual functions{colon}{made}", sriov.functions.len(), sriov.total));
        }
        (None, Some(physical)) => row("SR-IOV", &format!("a virtual function of {physical}")),
        (None, None) if crate::names::is_virtual(function.device) => row("SR-IOV", "a virtual function"),
        (None, None) => row("SR-IOV", "none"),
    }
    function.users.iter().for_each(|user| row("in use by", &format!("process {} ({})", user.pid, user.name)));
    uses.iter().for_each(|one| row("carries", &format!("{} [{}]", one.what, one.loss.name())));
    if uses.is_empty() && function.driver.as_deref() != Some(VFIO_PCI) {
        row("carries", "nothing that this host needs");
    }
    text
}

fn group(function: &Function) -> String {
    let Some(group) = &function.group else { return "in no group: the IOMMU is off (cxddp-bind doctor)".to_owned() };
    let unprotected = if group.no_iommu { ", which no IOMMU protects" } else { "" };
    let others = group.others.iter().map(|other| {
        let in_the_way = if other.blocks() { ", in VFIO's way" } else { "" };
        format!("{} ({}{in_the_way})", other.name, other.driver.as_deref().unwrap_or("no driver"))
    });
    match others.collect::<Vec<_>>() {
        others if others.is_empty() => format!("group {}{unprotected}, alone", group.id),
        others => format!("group {}{unprotected}, with {}", group.id, others.join(", ")),
    }
}

fn link(link: &Link) -> String {
    let part = |speed: &Option<String>, width: Option<u32>| Some(format!("{}, {} lanes", speed.as_ref()?, width?));
    match (part(&link.speed, link.width), part(&link.max_speed, link.max_width)) {
        (Some(now), Some(most)) if now == most => format!("{now} (its maximum)"),
        (Some(now), Some(most)) => format!("{now} (of {most})"),
        (Some(now), None) => now,
        (None, _) => "not told by the kernel".to_owned(),
    }
}

fn interface(interface: &Interface) -> String {
    let mut text = format!("{}, {}", interface.name, interface.state.as_deref().unwrap_or("state unknown"));
    match interface.carrier {
        Some(true) => text += ", carrier",
        Some(false) => text += ", no carrier",
        None => {}
    }
    if let Some(speed) = interface.speed {
        text += &format!(", {speed} Mb/s");
    }
    if let Some(mac) = &interface.mac {
        text += &format!(", {mac}");
    }
    if !interface.uppers.is_empty() {
        text += &format!(", under {}", interface.uppers.join(", "));
    }
    text
}

/// `status` for programs.
pub fn status_json(all: &[Status]) -> Value {
    let functions = all.iter().map(|Status { function, uses, remembered }| {
        let mut value = serde_json::to_value(function).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.remove("device");
            object.insert("vendor_id".into(), format!("{:#06x}", crate::names::VENDOR).into());
            object.insert("device_id".into(), format!("{:#06x}", function.device).into());
            object.insert("virtual_function".into(), is_virtual(function).into());
            object.insert("uses".into(), json!(uses));
            let before = match remembered {
                Recall::Known(memory) => json!({
                    "driver": memory.driver, "driver_override": memory.driver_override, "vfs": memory.vfs,
                }),
                Recall::Nothing | Recall::Unusable(_) => Value::Null,
            };
            object.insert("before".into(), before);
        }
        value
    });
    json!({ "version": VERSION, "command": "status", "functions": functions.collect::<Vec<_>>() })
}

fn is_virtual(function: &Function) -> bool {
    function.physical.is_some() || crate::names::is_virtual(function.device)
}

/// How a change went.
pub enum Change {
    /// Something stands against it.
    Refused(Vec<Refusal>),
    /// It would be so.
    Planned(Plan),
    /// It was done.
    Done(Plan),
    /// It was begun, and stopped.
    Failed(Plan, Box<Failure>),
}

impl Change {
    /// What was planned, before anything is done.
    pub fn planned(planned: Planned) -> Change {
        match planned {
            Ok(plan) => Change::Planned(plan),
            Err(refusals) => Change::Refused(refusals),
        }
    }

    /// Whether it is what was asked for.
    pub fn is_ok(&self) -> bool {
        matches!(self, Change::Planned(_) | Change::Done(_))
    }

    fn steps(&self) -> &[Step] {
        match self {
            Change::Refused(_) => &[],
            Change::Planned(plan) | Change::Done(plan) | Change::Failed(plan, _) => &plan.steps,
        }
    }
}

/// A change for people: what goes to standard output, and to standard error.
pub fn change_text(change: &Change, addresses: &[Address], after: &[Function]) -> (String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    match change {
        Change::Refused(refusals) => {
            refusals.iter().for_each(|refusal| _ = writeln!(err, "cxddp-bind: {refusal}"));
            err += "cxddp-bind: nothing was changed\n";
        }
        Change::Planned(plan) if plan.steps.is_empty() => out += "nothing would be done: it is so already\n",
        Change::Planned(plan) => plan.steps.iter().for_each(|step| _ = writeln!(out, "{}", step.action)),
        Change::Done(plan) => {
            let unchanged = if plan.steps.is_empty() { " already" } else { "" };
            for function in after.iter().filter(|function| addresses.contains(&function.address)) {
                let driver = function.driver.as_deref().unwrap_or("no driver");
                _ = writeln!(out, "{}: {driver}{unchanged}{}", function.address, made(function));
            }
        }
        Change::Failed(_, failure) => _ = writeln!(err, "cxddp-bind: {failure}"),
    }
    (out, err)
}

/// Virtual functions, and what opens one that VFIO has.
fn made(function: &Function) -> String {
    let mut text = String::new();
    if let Some(group) = function.group.as_ref().filter(|_| function.driver.as_deref() == Some(VFIO_PCI)) {
        text += &format!(", IOMMU group {}", group.id);
    }
    let vfs = function.sriov.as_ref().map_or(&[][..], |sriov| &sriov.functions);
    if !vfs.is_empty() {
        let vfs: Vec<_> = vfs.iter().map(ToString::to_string).collect();
        text += &format!(", virtual functions {}", vfs.join(", "));
    }
    text
}

/// A change for programs.
pub fn change_json(command: &str, dry_run: bool, change: &Change, addresses: &[Address], after: &[Function]) -> Value {
    let steps = change.steps().iter().map(|step| {
        let (action, path, value) = match &step.action {
            Action::Load(module) => ("load", None, Some((*module).to_owned())),
            Action::Write(write) => ("write", Some(Root::shown(&write.path)), Some(write.value.trim_end().to_owned())),
            Action::Remember(memory, _) => ("remember", Some(Root::shown(&memory.file())), None),
            Action::Forget(memory) => ("forget", Some(Root::shown(&memory.file())), None),
        };
        json!({ "address": step.address.to_string(), "action": action, "path": path, "value": value })
    });
    let functions = after.iter().filter(|function| addresses.contains(&function.address)).map(|function| {
        let vfs = function.sriov.as_ref().map_or(&[][..], |sriov| &sriov.functions);
        json!({
            "address": function.address.to_string(),
            "driver": function.driver,
            "driver_override": function.driver_override,
            "iommu_group": function.group.as_ref().map(|group| group.id),
            "virtual_functions": vfs.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    });
    let empty = Vec::new();
    let (refusals, failure) = match change {
        Change::Refused(refusals) => (refusals, None),
        Change::Failed(_, failure) => (&empty, Some(failure)),
        _ => (&empty, None),
    };
    json!({
        "version": VERSION,
        "command": command,
        "dry_run": dry_run,
        "ok": change.is_ok(),
        "steps": steps.collect::<Vec<_>>(),
        "refusals": refusals,
        "failure": failure,
        "functions": functions.collect::<Vec<_>>(),
    })
}

/// Where a check's section is.
fn section(line: &Line) -> String {
    format!("docs/operator.md#{}", line.check.name())
}

fn problems(lines: &[Line]) -> usize {
    lines.iter().filter(|line| line.verdict == Verdict::Problem).count()
}

/// `doctor` for people.
pub fn doctor_text(lines: &[Line]) -> String {
    let mut text = String::new();
    let mut about = None;
    for line in lines {
        if line.function != about {
            about = line.function;
            about.iter().for_each(|address| _ = writeln!(text, "{address}"));
        }
        _ = writeln!(text, "{:<12} {:<14} {}", line.verdict, line.check, line.found);
        if let Some(mend) = &line.mend {
            let word = if line.verdict == Verdict::Problem { "mend" } else { "hint" };
            _ = writeln!(text, "{:<12} {word:>14}: {mend}", "");
        }
        if line.verdict == Verdict::Problem {
            _ = writeln!(text, "{:<12} {:>14}: {}", "", "more", section(line));
        }
    }
    match problems(lines) {
        0 => text += "no problems\n",
        1 => text += "1 problem\n",
        count => _ = writeln!(text, "{count} problems"),
    }
    text
}

/// `doctor` for programs.
pub fn doctor_json(lines: &[Line]) -> Value {
    let values = lines.iter().map(|line| {
        let mut value = serde_json::to_value(line).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.insert("section".into(), section(line).into());
        }
        value
    });
    let count = problems(lines);
    json!({
        "version": VERSION,
        "command": "doctor",
        "ok": count == 0,
        "problems": count,
        "lines": values.collect::<Vec<_>>(),
    })
}

/// Whether the doctor found no problem.
pub fn is_healthy(lines: &[Line]) -> bool {
    problems(lines) == 0
}
