//! | property | test |
//! |---|---|
//! | the model answers every command that a kernel once sent to a real ConnectX-4 with OK | `the_model_answers_recorded_commands` |
//!
//! The recording (`reference/traces`) is not part of the project: the test looks for it beside the workspace, or in the
//! directory that `CXDDP_REFERENCE` names, and is skipped, saying so, where it is absent.

use super::host::Host;
use crate::{Capabilities, Config, PageDemand};
use cxddp_trace::Trace;
use firmware_iface::caps::CapGroup;
use firmware_iface::command::{InHeader, OutHeader};
use firmware_iface::{Opcode, Status};
use hw_regs::layout::{Access, Layout};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

const TRACE: &str = "traces/mlx5_core-connectx4-commands.txt.gz";

/// A command as it was recorded.
struct Recorded {
    input: Vec<u8>,
    inlen: usize,
    output: Vec<u8>,
    outlen: usize,
}

fn find() -> Option<PathBuf> {
    let beside = |up: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(up).join("shared/reference");
    // tools/virtual-nic, the workspace, its parent, and that one's.
    let places = std::env::var_os("CXDDP_REFERENCE").map(PathBuf::from).into_iter();
    places.chain(["../../..", "../../../.."].map(beside)).map(|place| place.join(TRACE)).find(|path| path.exists())
}

fn parse(text: &str) -> Vec<Recorded> {
    let commands = Trace::parse(text).unwrap().commands.into_iter().map(|command| {
        let (input, output) = (command.input.unwrap(), command.output.unwrap());
        let (inlen, outlen) = (input.input_len(), output.output_len());
        Recorded { input: input.input(), inlen, output: output.output(), outlen }
    });
    commands.collect()
}

/// The log lost blocks and lines of the page lists: addresses that are missing, or garbled by it, are made up. Returns how
/// many; `given` remembers all.
fn complete_pages(input: &mut Vec<u8>, inlen: usize, given: &mut BTreeSet<u64>) -> usize {
    let mut made_up = 0;
    input.resize(inlen, 0);
    for entry in input[16..].chunks_exact_mut(8) {
        let page = u64::from_be_bytes((&*entry).try_into().unwrap());
        if page == 0 || page % 4096 != 0 || !given.insert(page) {
            made_up += 1;
            let page = (given.len() as u64 + 1) << 40;
            given.insert(page);
            entry.copy_from_slice(&page.to_be_bytes());
        }
    }
    made_up
}

#[test]
fn the_model_answers_recorded_commands() {
    let Some(path) = find() else {
        println!("skipped: no {TRACE} beside the workspace or in $CXDDP_REFERENCE");
        return;
    };
    let text = match cxddp_trace::read_file(&path) {
        Ok(text) => text,
        Err(error) => {
            println!("skipped: {TRACE}: {error}");
            return;
        }
    };
    let commands = parse(&text);
    assert!(commands.len() >= 38, "{} commands found", commands.len());

    // The card that was recorded: its capabilities, and its demand for pages at addresses that do not exist here.
    let mut capabilities = Capabilities::empty();
    let mut images = BTreeMap::new();
    for command in &commands {
        let header = InHeader::from_prefix(&command.input);
        if header.opcode() == Opcode::QUERY_HCA_CAP {
            let op_mod = header.get(InHeader::OP_MOD) as u16;
            // The first answer of a group is what a fresh card says.
            images.entry(op_mod).or_insert_with(|| command.output[16..].to_vec());
        }
    }
    for (op_mod, image) in &images {
        let (maximum, current) =
            (images.get(&(op_mod & !1)).unwrap_or(image), images.get(&(op_mod | 1)).unwrap_or(image));
        capabilities.set_images(CapGroup(op_mod >> 1), maximum, current);
    }
    let mut config = Config { capabilities, ..Config::default() };
    config.pages = PageDemand { boot: 6, init: 12868, ..PageDemand::default() };
    config.switches.touch_pages = false;
    let mut host = Host::new(config);

    let (mut made_up, mut given) = (0, BTreeSet::new());
    let mut seen = BTreeMap::<_, u32>::new();
    for command in &commands {
        let opcode = InHeader::from_prefix(&command.input).opcode();
        let recorded = OutHeader::from_prefix(&command.output);
        assert_eq!(recorded.status(), Status::OK, "the recording of {opcode}");
        let mut input = command.input.clone();
        if opcode == Opcode::MANAGE_PAGES {
            made_up += complete_pages(&mut input, command.inlen, &mut given);
        }
        if opcode == Opcode::ACCESS_REG && input.len() < command.inlen {
            // HOST_ENDIANNESS of a little-endian host is all zero.
            input.resize(command.inlen, 0);
        }
        assert_eq!(input.len(), command.inlen, "{opcode} is recorded whole");
        let output = host.send(opcode, &input, command.outlen);
        let header = OutHeader::from_prefix(&output);
        assert_eq!(header.status(), Status::OK, "{opcode}: syndrome {:#x}", header.get(OutHeader::SYNDROME));
        match opcode {
            // What the card's configuration decides is answered as the card did.
            Opcode::QUERY_HCA_CAP | Opcode::QUERY_PAGES | Opcode::MANAGE_PAGES => {
                assert_eq!(command.output.len(), command.outlen, "{opcode} is recorded whole");
                let same = output == command.output;
                let op_mod = InHeader::from_prefix(&command.input).get(InHeader::OP_MOD);
                // After SET_HCA_CAP the card changed more of GENERAL than it was told to.
                assert!(same || opcode == Opcode::QUERY_HCA_CAP && op_mod == 1, "{opcode} op_mod {op_mod}");
            }
            Opcode::QUERY_ISSI => assert_eq!(output[108..112], command.output[108..112]),
            _ => {}
        }
        *seen.entry(opcode.0).or_default() += 1;
    }
    println!("replayed {} commands of {} opcodes, {made_up} pages made up", commands.len(), seen.len());
    assert_eq!(host.nic.inventory().pages, 6 + 12868);
}
