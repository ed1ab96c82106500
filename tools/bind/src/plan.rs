//! What is to be done, step by step, each with what must be true afterwards and what takes it back.
//!
//! A plan is made from what was read, and changes nothing. Carrying it out stops at the first step whose outcome is not
//! there in time, and then takes back what was done, last first; what cannot be taken back is told.

use crate::effects::Effects;
use crate::root::Root;
use crate::state::Memory;
use connectx_ddp::platform::vfio::Address;
use serde::Serialize;
use std::fmt;
use std::io;
use std::time::Duration;

/// A driver may have queues to drain and firmware to wait for.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a step has done should show at once; the kernel makes some things a moment later.
const SHOWS_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What must be true when a step is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A file of the kernel reads so.
    Reads(String, String),
    /// The function has this driver, or none.
    Driver(Address, Option<String>),
    /// There is such a file.
    Exists(String),
    /// Nothing can be told from outside.
    Unknown,
}

impl Outcome {
    fn holds(&self, root: &Root) -> Result<(), String> {
        let says = |text: Option<String>| text.map_or_else(|| "nothing".to_owned(), |text| format!("{text:?}"));
        match self {
            Outcome::Unknown => Ok(()),
            Outcome::Exists(path) if root.exists(path) => Ok(()),
            Outcome::Exists(path) => Err(format!("there is no {}", Root::shown(path))),
            Outcome::Reads(path, wanted) => match root.text(path) {
                Some(text) if text == *wanted => Ok(()),
                text => Err(format!("{} reads {}, not {wanted:?}", Root::shown(path), says(text))),
            },
            Outcome::Driver(address, wanted) => {
                let driver = crate::function::driver_of(root, &address.to_string());
                let name = |driver: &Option<String>| driver.clone().unwrap_or_else(|| "no driver".into());
                match driver == *wanted {
                    true => Ok(()),
                    false => Err(format!("{} has it, not {}", name(&driver), name(wanted))),
                }
            }
        }
    }
}

/// One write to a file of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Write {
    /// The file, without the leading slash.
    #[serde(serialize_with = "shown")]
    pub path: String,
    /// What is written.
    pub value: String,
}

fn shown<S: serde::Serializer>(path: &str, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&Root::shown(path))
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.trim_end() {
            "" => write!(f, "echo > {}", Root::shown(&self.path)),
            value => write!(f, "echo {value} > {}", Root::shown(&self.path)),
        }
    }
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Loads a module.
    Load(&'static str),
    /// Writes to the kernel.
    Write(Write),
    /// Remembers how a function is now, in place of what was remembered before.
    Remember(Memory, Option<Memory>),
    /// Forgets it.
    Forget(Memory),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Load(module) => write!(f, "modprobe {module}"),
            Action::Write(write) => write.fmt(f),
            Action::Remember(memory, _) => write!(f, "write {} ({memory})", Root::shown(&memory.file())),
            Action::Forget(memory) => write!(f, "rm {}", Root::shown(&memory.file())),
        }
    }
}

/// One step.
#[derive(Clone, Debug)]
pub struct Step {
    /// The function that it is for.
    pub address: Address,
    /// What it does.
    pub action: Action,
    /// What must be true afterwards.
    pub outcome: Outcome,
    /// What takes it back.
    pub undo: Option<Write>,
}

/// Why a plan was not carried out.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// The function whose step failed.
    #[serde(serialize_with = "crate::function::as_text")]
    pub address: Address,
    /// The step.
    pub step: String,
    /// What went wrong.
    pub cause: String,
    /// What helps, where that is known.
    pub advice: Option<String>,
    /// Steps that were taken back.
    pub undone: Vec<String>,
    /// What could not be taken back, and why.
    pub left: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.address, self.step, self.cause)?;
        if let Some(advice) = &self.advice {
            write!(f, "; {advice}")?;
        }
        match (self.undone.is_empty(), self.left.is_empty()) {
            (_, false) => write!(f, "; what is left and could not be taken back: {}", self.left.join(", ")),
            (false, true) => f.write_str("; everything is as it was before"),
            (true, true) => f.write_str("; nothing was changed"),
        }
    }
}

/// Steps in their order.
#[derive(Debug, Default)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Carries it out.
    pub fn run(&self, root: &Root, effects: &mut dyn Effects) -> Result<(), Box<Failure>> {
        for (at, step) in self.steps.iter().enumerate() {
            let acted = act(root, effects, &step.action);
            let late = acted.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut);
            let acted = acted.map_err(|error| (error.to_string(), advice(&error)));
            let result = acted.and_then(|()| {
                let told = |cause| (format!("the kernel took it, but {cause}"), Some("see dmesg | tail".to_owned()));
                shows(root, effects, &step.outcome).map_err(told)
            });
            if let Err((cause, advice)) = result {
                let steps = &self.steps[..=at];
                let (undone, left) = match late {
                    // The kernel still has the function locked: whatever is written now would wait as well.
                    true => (Vec::new(), steps.iter().map(|step| format!("`{}`", step.action)).collect()),
                    false => take_back(root, effects, steps),
                };
                let (address, step) = (step.address, step.action.to_string());
                return Err(Box::new(Failure { address, step, cause, advice, undone, left }));
            }
        }
        Ok(())
    }
}

fn act(root: &Root, effects: &mut dyn Effects, action: &Action) -> io::Result<()> {
    match action {
        Action::Load(module) => effects.load(module, PATIENCE),
        Action::Write(write) => effects.write(&root.path(&write.path), &write.value, PATIENCE),
        Action::Remember(memory, _) => memory.save(root),
        Action::Forget(memory) => memory.forget(root),
    }
}

fn advice(error: &io::Error) -> Option<String> {
    let text = match error.kind() {
        io::ErrorKind::PermissionDenied => "it takes root: run it with sudo",
        io::ErrorKind::TimedOut => {
            "see what the kernel says (dmesg | tail); when it has let go, `cxddp-bind restore` puts the function back"
        }
        io::ErrorKind::ResourceBusy => "something has it in use; see what the kernel says: dmesg | tail",
        io::ErrorKind::ReadOnlyFilesystem => "this system (a container?) has it mounted read-only",
        _ if error.raw_os_error().is_some() => "see what the kernel says: dmesg | tail",
        _ => return None,
    };
    Some(text.to_owned())
}

/// Waits until an outcome shows.
fn shows(root: &Root, effects: &mut dyn Effects, outcome: &Outcome) -> Result<(), String> {
    let looks = (SHOWS_WITHIN.as_millis() / LOOK_EVERY.as_millis()) as u32;
    for _ in 0..looks {
        if outcome.holds(root).is_ok() {
            return Ok(());
        }
        effects.pause(LOOK_EVERY);
    }
    outcome.holds(root)
}

/// Takes steps back, last first. The last one has failed, and is taken back only if it has acted all the same.
fn take_back(root: &Root, effects: &mut dyn Effects, steps: &[Step]) -> (Vec<String>, Vec<String>) {
    let (mut undone, mut left) = (Vec::new(), Vec::new());
    for (at, step) in steps.iter().enumerate().rev() {
        let failed = at + 1 == steps.len();
        let result = match &step.action {
            // A module that is loaded disturbs nobody.
            Action::Load(_) => continue,
            Action::Remember(..) | Action::Forget(_) if failed => continue,
            Action::Write(_) if failed && step.outcome.holds(root).is_err() => continue,
            Action::Remember(_, Some(before)) | Action::Forget(before) => before.save(root),
            Action::Remember(memory, None) => memory.forget(root),
            Action::Write(_) => match &step.undo {
                Some(undo) => effects.write(&root.path(&undo.path), &undo.value, PATIENCE),
                None => Err(io::Error::other("nothing takes it back")),
            },
        };
        match result {
            Ok(()) => undone.push(step.action.to_string()),
            Err(error) => left.push(format!("`{}` ({error})", step.action)),
        }
    }
    (undone, left)
}
