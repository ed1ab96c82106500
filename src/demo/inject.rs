//! Faults that a demonstration injects while it reads: `--inject FAULT[@WHEN]`.

use super::world::World;
use hw_regs::init_segment::HealthSyndrome;
use std::str::FromStr;
use std::time::Duration;
use virtual_nic::{Fault, Role};

/// How long a function that falls off the bus stays away.
const AWAY: Duration = Duration::from_secs(2);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Device(Fault),
    /// The same, which only a command can show: a receive error makes the driver send one.
    Commands(Fault),
    TargetCloses,
}

/// Every fault, by the name that the command line has for it.
const FAULTS: [(&str, What); 12] = [
    ("fatal-health", What::Device(Fault::Fatal(HealthSyndrome::FW_INTERNAL_ERR))),
    ("hang", What::Commands(Fault::Hang)),
    ("all-ones", What::Device(Fault::Gone(AWAY))),
    ("flr", What::Device(Fault::Reset)),
    ("rq-error", What::Device(Fault::WorkRequest(Role::Receive))),
    ("sq-error", What::Device(Fault::WorkRequest(Role::Send))),
    ("icosq-error", What::Device(Fault::WorkRequest(Role::Control))),
    ("rq-overrun", What::Device(Fault::CqOverrun(Role::Receive))),
    ("sq-overrun", What::Device(Fault::CqOverrun(Role::Send))),
    ("icosq-overrun", What::Device(Fault::CqOverrun(Role::Control))),
    ("lost-command", What::Commands(Fault::LostCommand)),
    ("target-closes", What::TargetCloses),
];

/// When it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// When half of the reads are done.
    Middle,
    /// When so many reads are done.
    Reads(u64),
    /// So long after reading began, simulated time.
    Time(Duration),
}

/// A fault and its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injection {
    name: &'static str,
    what: What,
    when: When,
}

impl Injection {
    /// The fault's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The fault, if it is one that takes the whole function down.
    pub(super) fn of_function(&self) -> Option<Fault> {
        match self.what {
            What::Device(fault @ (Fault::Fatal(_) | Fault::Gone(_) | Fault::Reset)) => Some(fault),
            What::Device(_) | What::Commands(_) | What::TargetCloses => None,
        }
    }

    /// True if its moment has come: `done` of `total` reads are done, `time` after reading began.
    pub(super) fn is_due(&self, done: u64, total: u64, time: Duration) -> bool {
        match self.when {
            When::Middle => 2 * done >= total,
            When::Reads(reads) => done >= reads.min(total),
            When::Time(at) => time >= at,
        }
    }

    /// When it happens after reading began, if time decides.
    pub(super) fn time(&self) -> Option<Duration> {
        match self.when {
            When::Time(at) => Some(at),
            When::Middle | When::Reads(_) => None,
        }
    }

    /// Lets it happen. False if there is nothing that it could happen to.
    pub(super) fn inject(&self, world: &mut World) -> bool {
        match self.what {
            What::Device(fault) => world.platform.nic().inject(fault, 0),
            What::Commands(fault) => {
                let mut nic = world.platform.nic();
                nic.inject(fault, 0) && nic.inject(Fault::WorkRequest(Role::Receive), 0)
            }
            What::TargetCloses => {
                world.target.break_off();
                true
            }
        }
    }
}

/// The names of all faults, for messages.
fn names() -> String {
    FAULTS.map(|(name, _)| name).join(", ")
}

impl FromStr for Injection {
    type Err = String;

    fn from_str(text: &str) -> Result<Injection, String> {
        let (name, when) = text.split_once('@').map_or((text, None), |(name, when)| (name, Some(when)));
        let fault = FAULTS.iter().find(|(known, _)| *known == name);
        let &(name, what) = fault.ok_or_else(|| format!("unknown fault {name:?}; there are {}", names()))?;
        let bad = |_| "allowed behind @ is a number of reads, such as 100, or a time, such as 5ms or 300us".to_owned();
        let when = match when.map(|when| (when, when.strip_suffix("ms"), when.strip_suffix("us"))) {
            None => When::Middle,
            Some((_, Some(ms), _)) => When::Time(Duration::from_millis(ms.parse().map_err(bad)?)),
            Some((_, _, Some(us))) => When::Time(Duration::from_micros(us.parse().map_err(bad)?)),
            Some((reads, None, None)) => When::Reads(reads.parse().map_err(bad)?),
        };
        Ok(Injection { name, what, when })
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | faults and moments are read as they are written, and nonsense is refused with what is allowed | `injections_are_read` |
    use super::*;

    #[test]
    fn injections_are_read() {
        for (name, what) in FAULTS {
            let parsed: Injection = name.parse().expect(name);
            assert_eq!((parsed.name(), parsed.what, parsed.when), (name, what, When::Middle));
        }
        let at = |text: &str| text.parse::<Injection>().map(|injection| injection.when);
        assert_eq!(at("flr@17"), Ok(When::Reads(17)));
        assert_eq!(at("flr@250ms"), Ok(When::Time(Duration::from_millis(250))));
        assert_eq!(at("flr@7us"), Ok(When::Time(Duration::from_micros(7))));
        for bad in ["", "flood", "flr@", "flr@ms", "flr@-1", "flr@1s", "flr@1@2"] {
            let error = at(bad).expect_err(bad);
            assert!(error.contains("rq-error, sq-error") || error.contains("such as 5ms"), "{error}");
        }
        let due =
            |text: &str, done, ms| text.parse::<Injection>().expect(text).is_due(done, 10, Duration::from_millis(ms));
        assert_eq!([due("flr", 4, 99), due("flr", 5, 0)], [false, true]);
        assert_eq!([due("flr@3", 2, 99), due("flr@3", 3, 0), due("flr@99", 10, 0)], [false, true, true]);
        assert_eq!([due("flr@3ms", 9, 2), due("flr@3ms", 0, 3)], [false, true]);
    }
}
