//! Faults that happen at a moment: `--inject NAME[@MOMENT]`.

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
    /// Its health buffer shows a fatal syndrome: firmware asks to be reset.
    Fatal,
    /// Its health buffer shows a syndrome, and firmware goes on.
    Ill,
    /// Its health buffer is clean again.
    Healthy,
    /// The next command is never answered.
    LostCommand,
    /// It writes to an address that it was never given.
    WildWrite,
    /// Firmware asks for 64 pages more.
    AskPages,
    /// Firmware has no use for 64 pages any more.
    OfferPages,
}

/// Pages that firmware asks for or offers.
const PAGES: i32 = 64;

/// An address that no driver hands out: ranges are given out from their lower end.
const WILD: u64 = 0x7ead_beef_f000;

const NAMES: [(&str, What); 9] = [
    ("gone", What::Gone),
    ("back", What::Back),
    ("fatal", What::Fatal),
    ("ill", What::Ill),
    ("healthy", What::Healthy),
    ("lost-command", What::LostCommand),
    ("wild-write", What::WildWrite),
    ("ask-pages", What::AskPages),
    ("offer-pages", What::OfferPages),
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
    /// When.
    pub when: When,
}

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// So long after the start.
    At(Duration),
    /// When the functions have received so many bytes.
    Bytes(u64),
    /// So long after the fault before it.
    Later(Duration),
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<When, String> {
        let bad = || {
            format!(
                "{text:?} is no moment: give seconds, +seconds after the fault before, or bytes received with KiB or MiB"
            )
        };
        let seconds = |text: &str| {
            let seconds: f64 = text.parse().ok().filter(|at: &f64| (0.0..1e9).contains(at)).ok_or_else(bad)?;
            Ok::<_, String>(Duration::from_secs_f64(seconds))
        };
        let bytes = |number: &str, unit: u64| {
            number.parse().ok().and_then(|n: u64| n.checked_mul(unit)).map(When::Bytes).ok_or_else(bad)
        };
        match (text.strip_prefix('+'), text.strip_suffix("KiB"), text.strip_suffix("MiB")) {
            (Some(later), ..) => seconds(later).map(When::Later),
            (_, Some(number), _) => bytes(number, 1 << 10),
            (.., Some(number)) => bytes(number, 1 << 20),
            _ => seconds(text).map(When::At),
        }
    }
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
        Ok(Injection { what: *what, when: at.parse().map_err(|why| format!("{name}@{at}: {why}"))? })
    }
}

impl What {
    /// Makes it happen.
    pub fn happen(self, nic: &mut VirtualNic) {
        match self {
            What::Gone => nic.faults().set_gone(true),
            What::Back => nic.faults().set_gone(false),
            What::Fatal => nic.set_health(HealthSyndrome::FW_INTERNAL_ERR),
            What::Ill => nic.report_syndrome(HealthSyndrome::HIGH_TEMP_ERR),
            What::Healthy => nic.set_health(HealthSyndrome(0)),
            // Refused and recorded by the device's own view of memory.
            What::WildWrite => drop(nic.dma_write(WILD, &[0xdb; 64])),
            // A driver that does not listen for requests finds them in QUERY_PAGES.
            What::AskPages => drop(nic.request_pages(PAGES)),
            What::OfferPages => drop(nic.request_pages(-PAGES)),
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
        let at = |when| Ok(Injection { what: What::Gone, when });
        assert_eq!("gone".parse(), at(When::At(Duration::ZERO)));
        assert_eq!("gone@1.5".parse(), at(When::At(Duration::from_millis(1500))));
        assert_eq!("gone@+2".parse(), at(When::Later(Duration::from_secs(2))));
        assert_eq!("gone@32MiB".parse(), at(When::Bytes(32 << 20)));
        for bad in ["", "gnoe", "gone@", "gone@-1", "gone@nan", "gone@1e99", "gone@+", "gone@KiB", "gone@1.5MiB"] {
            let why = Injection::from_str(bad).expect_err(bad);
            assert!(why.contains("gone"), "{why}");
        }
    }
}
