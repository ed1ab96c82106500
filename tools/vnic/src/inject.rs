//! Faults that happen at a moment: `--inject NAME[@SECONDS]`.

use hw_regs::init_segment::HealthSyndrome;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use virtual_nic::{CommandFault, VirtualNic};

/// What happens to every function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It falls off the bus: all ones, silence.
    Gone,
    /// It is back as it was.
    Back,
    /// Its health buffer shows a fatal syndrome.
    Fatal,
    /// Its health buffer is clean again.
    Healthy,
    /// The next command is never answered.
    LostCommand,
}

const NAMES: [(&str, What); 5] = [
    ("gone", What::Gone),
    ("back", What::Back),
    ("fatal", What::Fatal),
    ("healthy", What::Healthy),
    ("lost-command", What::LostCommand),
];

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, what)| what == self).map_or("?", |(name, _)| name);
        write!(f, "injected fault: {name}")
    }
}

/// A fault and its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injection {
    /// What.
    pub what: What,
    /// When, since the start.
    pub at: Duration,
}

impl FromStr for Injection {
    type Err = String;

    fn from_str(text: &str) -> Result<Injection, String> {
        let (name, at) = text.split_once('@').unwrap_or((text, "0"));
        let known = || NAMES.map(|(name, _)| name).join(", ");
        let (_, what) = NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| format!("no fault {name:?}; there are {}", known()))?;
        let seconds: f64 = at
            .parse()
            .ok()
            .filter(|at: &f64| (0.0..1e9).contains(at))
            .ok_or_else(|| format!("{at:?} is no time: give seconds, as in {name}@1.5"))?;
        Ok(Injection { what: *what, at: Duration::from_secs_f64(seconds) })
    }
}

impl What {
    /// Makes it happen.
    pub fn happen(self, nic: &mut VirtualNic) {
        match self {
            What::Gone => nic.faults().set_gone(true),
            What::Back => nic.faults().set_gone(false),
            What::Fatal => nic.set_health(HealthSyndrome::FW_INTERNAL_ERR),
            What::Healthy => nic.set_health(HealthSyndrome(0)),
            What::LostCommand => nic.faults().schedule(None, CommandFault::NeverAnswered, 0, 1),
        }
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | faults are named with their moment, and what is none is refused with what is | `faults_are_named` |
    use super::*;

    #[test]
    fn faults_are_named() {
        assert_eq!("gone".parse(), Ok(Injection { what: What::Gone, at: Duration::ZERO }));
        assert_eq!("fatal@1.5".parse(), Ok(Injection { what: What::Fatal, at: Duration::from_millis(1500) }));
        for bad in ["", "gnoe", "gone@", "gone@-1", "gone@nan", "gone@1e99"] {
            let why = Injection::from_str(bad).expect_err(bad);
            assert!(why.contains("gone"), "{why}");
        }
    }
}
