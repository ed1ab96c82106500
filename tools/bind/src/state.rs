//! How a function was before it was given to VFIO, in a small file that a restart of the machine takes away, as it takes
//! away what it describes.

use crate::root::Root;
use connectx_ddp::platform::vfio::Address;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::io;

const FOLDER: &str = "run/cxddp-bind";
const VERSION: u32 = 1;

/// How a function was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    version: u32,
    address: String,
    /// Its device id: another card in the same slot has nothing to do with it.
    pub device: u16,
    /// Its driver.
    pub driver: Option<String>,
    /// Its `driver_override`.
    pub driver_override: Option<String>,
    /// How many virtual functions it had.
    pub vfs: u32,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = "none".to_owned();
        write!(f, "driver {}", self.driver.as_ref().unwrap_or(&none))?;
        if let Some(driver) = &self.driver_override {
            write!(f, ", driver_override {driver}")?;
        }
        match self.vfs {
            0 => Ok(()),
            vfs => write!(f, ", {vfs} virtual functions"),
        }
    }
}

/// What is remembered of a function.
#[derive(Debug, PartialEq, Eq)]
pub enum Recall {
    /// Nothing.
    Nothing,
    /// This.
    Known(Memory),
    /// A file that says nothing about this function: why.
    Unusable(String),
}

impl Memory {
    /// What a function is now.
    pub fn new(
        address: &Address,
        device: u16,
        driver: Option<String>,
        driver_override: Option<String>,
        vfs: u32,
    ) -> Memory {
        Memory { version: VERSION, address: address.to_string(), device, driver, driver_override, vfs }
    }

    /// Where it is kept.
    pub fn file(&self) -> String {
        file(&self.address)
    }

    /// Keeps it, in place of what was kept.
    pub fn save(&self, root: &Root) -> io::Result<()> {
        fs::create_dir_all(root.path(FOLDER))?;
        let unfinished = root.path(&format!("{}.new", self.file()));
        fs::write(&unfinished, serde_json::to_vec(self)?)?;
        fs::rename(&unfinished, root.path(&self.file()))
    }

    /// Forgets it.
    pub fn forget(&self, root: &Root) -> io::Result<()> {
        fs::remove_file(root.path(&self.file()))
    }
}

fn file(address: &str) -> String {
    format!("{FOLDER}/{address}.json")
}

/// What is remembered of a function.
pub fn recall(root: &Root, address: &Address, device: u16) -> Recall {
    let name = file(&address.to_string());
    let bytes = match root.bytes(&name) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Recall::Nothing,
        Err(error) => return Recall::Unusable(format!("{} cannot be read: {error}", Root::shown(&name))),
    };
    match serde_json::from_slice::<Memory>(&bytes) {
        // What is in it is written to the kernel: a driver's name and nothing else.
        Ok(memory) if [&memory.driver, &memory.driver_override].into_iter().flatten().any(|name| !is_name(name)) => {
            Recall::Unusable(format!("{} names no driver", Root::shown(&name)))
        }
        Ok(memory) if memory.version != VERSION => {
            Recall::Unusable(format!("{} is of another version of this tool", Root::shown(&name)))
        }
        Ok(memory) if memory.address != address.to_string() || memory.device != device => {
            Recall::Unusable(format!("{} is about another function", Root::shown(&name)))
        }
        Ok(memory) => Recall::Known(memory),
        Err(error) => Recall::Unusable(format!("{}: {error}", Root::shown(&name))),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// Held while functions change hands: two of these commands at once would undo each other.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not used")] fs::File);

impl Lock {
    /// Takes it, or says who is in the way.
    pub fn take(root: &Root) -> Result<Lock, String> {
        let name = format!("{FOLDER}/lock");
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                format!("{}: {error}; it takes root: run it with sudo", Root::shown(&name))
            }
            _ => format!("{}: {error}", Root::shown(&name)),
        };
        fs::create_dir_all(root.path(FOLDER)).map_err(failed)?;
        let file = fs::File::create(root.path(&name)).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(fs::TryLockError::WouldBlock) => {
                Err("another cxddp-bind is at work; try again when it has ended".into())
            }
            Err(fs::TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}
