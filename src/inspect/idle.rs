//! A dump of a function that nobody drives.

use super::dump::{Dump, Hex, Item, SectionName, Source};
use super::questions::{self, Question};
use super::registers::Reading;
use crate::adapter::{Config, Inspection};
use crate::command::{CommandPort, Output};
use crate::platform::{Deadline, Platform};
use firmware_iface::Opcode;
use firmware_iface::caps::CmdHcaCap;
use firmware_iface::command::OutHeader;
use hw_regs::layout::Layout;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Every command that [`take`] may execute: first those that bring the function up and down, then those that ask.
pub const COMMANDS: &[Opcode] = &[
    Opcode::ENABLE_HCA,
    Opcode::QUERY_ISSI,
    Opcode::SET_ISSI,
    Opcode::QUERY_PAGES,
    Opcode::MANAGE_PAGES,
    Opcode::INIT_HCA,
    Opcode::TEARDOWN_HCA,
    Opcode::DISABLE_HCA,
    Opcode::QUERY_HCA_CAP,
    Opcode::QUERY_ADAPTER,
    Opcode::QUERY_SPECIAL_CONTEXTS,
    Opcode::ACCESS_REG,
    Opcode::QUERY_NIC_VPORT_CONTEXT,
    Opcode::QUERY_VPORT_STATE,
    Opcode::QUERY_VPORT_COUNTER,
];

/// How long firmware may take to become ready, and for a command: who looks at a function that is ill does not want to wait
/// two minutes.
const READY: Duration = Duration::from_secs(10);
const COMMAND: Duration = Duration::from_secs(5);
/// Bytes of configuration space: of an Express function, and what every function has.
pub(super) const CONFIG_BYTES: usize = 4096;
/// Bytes of it that are read at a time.
pub(super) const CONFIG_STEP: usize = 64;

/// Sections for which a function must be brought up.
fn needs_commands(section: SectionName) -> bool {
    matches!(section, SectionName::Caps | SectionName::Ports | SectionName::Vport | SectionName::Counters)
}

/// Takes a dump of a function that nobody drives. It is brought up as far as it must be to be asked ([`Inspection`]), and
/// taken down again; what cannot be read is in the dump with why.
pub fn take<P: Platform>(platform: Arc<P>, sections: &[SectionName]) -> Dump {
    let mut dump = Dump::new(Source::Idle, platform.identity());
    for section in sections {
        let dump = dump.section_mut(*section);
        let item = match section {
            SectionName::Pci => Some(configuration_space(&*platform)),
            SectionName::Init => Reading::init_segment().step(&*platform, usize::MAX),
            SectionName::Health => Reading::health_buffer().step(&*platform, usize::MAX),
            SectionName::Objects | SectionName::Rings | SectionName::Doorbells => {
                dump.notes.push(format!(
                    "nobody drives the function: there are no {section}; a driver that runs shows its own (--device \
                     socket:PATH)"
                ));
                None
            }
            SectionName::Caps | SectionName::Ports | SectionName::Vport | SectionName::Counters => None,
        };
        dump.items.extend(item);
    }
    if sections.iter().any(|section| needs_commands(*section)) {
        ask(&platform, sections, &mut dump);
    }
    dump
}

fn ask<P: Platform>(platform: &Arc<P>, sections: &[SectionName], dump: &mut Dump) {
    let config = Config { ready_timeout: READY, command_timeout: COMMAND, ..Config::default() };
    let mut inspection = match Inspection::begin(Arc::clone(platform), &config) {
        Ok(inspection) => inspection,
        Err(error) => {
            dump.problems.push(format!("the function cannot be asked anything: {error}"));
            return;
        }
    };
    let mut exec = |question: &Question| {
        let deadline = Deadline::after(&**platform, COMMAND);
        inspection.exec(&question.request, deadline)
    };
    let general = exec(&questions::general());
    let page = general.as_ref().map_or(&[][..], |output: &Output| output.tail(OutHeader::SIZE));
    if let Err(error) = &general {
        dump.problems.push(format!("nobody knows which capability groups there are: {error}"));
    }
    let general = CmdHcaCap::from_prefix(page);
    for question in questions::all(sections, &general, None, dump) {
        question.answered(exec(&question), dump);
    }
    let teardown = inspection.end(&config);
    if !teardown.is_clean() {
        dump.problems.push(format!("the function was not taken down in order, and was reset: {teardown}"));
    }
}

/// The configuration space as far as it can be read.
fn configuration_space(platform: &impl Platform) -> Item {
    let mut bytes = Vec::new();
    let mut outcome = Ok(true);
    while let Ok(true) = outcome {
        outcome = read_config(platform, &mut bytes);
    }
    config_item(bytes, outcome.err())
}

/// Reads the next piece; false once there is no more.
pub(super) fn read_config(platform: &impl Platform, bytes: &mut Vec<u8>) -> io::Result<bool> {
    if bytes.len() >= CONFIG_BYTES {
        return Ok(false);
    }
    let mut piece = [0; CONFIG_STEP];
    platform.read_config(bytes.len() as u64, &mut piece)?;
    bytes.extend(piece);
    Ok(true)
}

/// What was read, and why no more.
pub(super) fn config_item(bytes: Vec<u8>, error: Option<io::Error>) -> Item {
    let problem = match error {
        // Conventional functions have 256 bytes.
        Some(_) if bytes.len() >= 256 => None,
        Some(error) if error.kind() == io::ErrorKind::Unsupported => Some("the function is not on a bus".to_owned()),
        other => other.map(|error| error.to_string()),
    };
    Item { name: "configuration space".into(), layout: "pci".into(), bytes: Hex(bytes), problem, ..Item::default() }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | an idle function is shown in full, and left as it was found: no object, no page, no setting of the port | `an_idle_function_is_shown_and_left_alone` |
    //! | the commands that are executed are those that people are told of; registers alone take none | `the_commands_are_those_that_are_told` |
    //! | a function whose registers read all ones is shown as it is, and why it cannot be asked | `a_function_that_is_gone_is_shown` |
    use super::*;
    use crate::platform::virtual_nic::VirtualPlatform;
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    #[test]
    fn an_idle_function_is_shown_and_left_alone() {
        let platform = Arc::new(VirtualPlatform::new("test", virtual_nic::Config::default()));
        let dump = take(Arc::clone(&platform), SectionName::ALL);
        assert!(dump.problems.is_empty(), "{:?}", dump.problems);
        let names: Vec<_> = dump.sections.iter().map(|section| section.section).collect();
        assert_eq!(names, SectionName::ALL);
        let items = |section| dump.section(section).map_or(0, |dump| dump.items.len());
        assert_eq!((items(SectionName::Pci), items(SectionName::Init), items(SectionName::Health)), (1, 1, 1));
        assert!(items(SectionName::Caps) >= 7 && items(SectionName::Ports) == 7 && items(SectionName::Counters) >= 6);
        let caps = dump.section(SectionName::Caps).expect("asked for");
        let general = caps.item("GENERAL").expect("every function has it");
        assert!(general.bytes.0.len() >= 256 && general.maximum.is_some() && general.problem.is_none());
        assert!(caps.item("NVMEOTCP").is_some());
        let nic = platform.nic();
        assert!(nic.inventory().is_empty(), "{}", nic.inventory());
        assert_eq!(nic.counters().misuse, Default::default());
        drop(nic);
        // It can be done again, and it says the same but for what moves.
        let again = take(platform, SectionName::ALL);
        assert_eq!(again.section(SectionName::Caps), dump.section(SectionName::Caps));
        assert_eq!(again.section(SectionName::Ports), dump.section(SectionName::Ports));
    }

    #[test]
    fn the_commands_are_those_that_are_told() {
        for (sections, expected) in [(SectionName::ALL, COMMANDS), (&[SectionName::Pci, SectionName::Health], &[])] {
            let platform = Arc::new(VirtualPlatform::new("test", virtual_nic::Config::default()));
            let seen = Arc::new(Mutex::new(BTreeSet::new()));
            let sees = Arc::clone(&seen);
            platform.nic().faults().tamper_answers(Some(Box::new(move |opcode, _| {
                sees.lock().expect("nobody panics").insert(opcode);
            })));
            take(platform, sections);
            assert_eq!(*seen.lock().expect("nobody panics"), expected.iter().copied().collect());
        }
    }

    #[test]
    fn a_function_that_is_gone_is_shown() {
        let platform = Arc::new(VirtualPlatform::new("test", virtual_nic::Config::default()));
        platform.nic().faults().set_gone(true);
        let dump = take(platform, SectionName::ALL);
        assert!(dump.problems[0].contains("gone"), "{:?}", dump.problems);
        let health = &dump.section(SectionName::Health).expect("asked for").items[0];
        assert!(health.bytes.0.iter().filter(|byte| **byte == 0xff).count() > 40, "{health:?}");
    }
}
