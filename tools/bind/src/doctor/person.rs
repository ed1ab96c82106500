//! Who asks: the rights and limits of this process, which a driver started from the same place would have.

use crate::root::Root;
use rustix::fs::Stat;

/// CAP_DAC_OVERRIDE, CAP_IPC_LOCK.
const DAC_OVERRIDE: u32 = 1;
const IPC_LOCK: u32 = 14;

/// A user with rights.
#[derive(Debug, Default)]
pub(super) struct Person {
    user: Option<u32>,
    groups: Vec<u32>,
    capabilities: u64,
    /// Bytes that may be locked; `u64::MAX` without limit.
    pub lockable: Option<u64>,
}

impl Person {
    pub fn load(root: &Root) -> Person {
        let status = root.text("proc/self/status").unwrap_or_default();
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let numbers = |name| line(name).unwrap_or_default().split_whitespace().filter_map(|n| n.parse().ok());
        // Of real, effective, saved and file system's the last decides about files.
        let mut groups: Vec<u32> = numbers("Groups").collect();
        groups.extend(numbers("Gid").nth(3));
        let limits = root.text("proc/self/limits").unwrap_or_default();
        let limit = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
        let lockable = limit.and_then(|line| match line.split_whitespace().next()? {
            "unlimited" => Some(u64::MAX),
            bytes => bytes.parse().ok(),
        });
        Person {
            user: numbers("Uid").nth(3),
            groups,
            capabilities: line("CapEff").and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0),
            lockable,
        }
    }

    fn can(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }

    /// Limits on locked memory are not for this one.
    pub fn locks_freely(&self) -> bool {
        self.can(IPC_LOCK)
    }

    /// Whether a file may be read and written; access lists beyond the mode are not looked at. `None` if it is not known who
    /// asks.
    pub fn may_use(&self, file: &Stat) -> Option<bool> {
        let wanted = match self.user? {
            _ if self.can(DAC_OVERRIDE) => return Some(true),
            user if user == file.st_uid => 0o600,
            _ if self.groups.contains(&file.st_gid) => 0o060,
            _ => 0o006,
        };
        Some(file.st_mode & wanted == wanted)
    }
}
