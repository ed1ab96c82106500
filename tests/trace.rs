//! Commands that Linux posted to a real ConnectX-4, and the answers of its firmware, through our layouts and our encoder.
//!
//! The log shows of each command the entry, and mailbox blocks as long as their bytes, control parts included, fit the
//! command's length; so short mailboxes are missing, and of the longest input (12,868 pages) the last 23 blocks are.
//!
//! | property | test |
//! |---|---|
//! | every recorded command has layouts, and no bit of its input lies outside their fields | `every_recorded_input_decodes` |
//! | our encoder makes the recorded entries and mailboxes of it, byte for byte | `encoding_gives_the_recorded_bytes` |
//! | every recorded answer decodes, with status OK and the command's token | `every_recorded_answer_decodes` |
//! | capabilities of a real card read plausibly | `a_real_cards_capabilities_read_plausibly` |

mod support;

use connectx_ddp::adapter::Capabilities;
use connectx_ddp::command::wire::{self, EntryFields};
use connectx_ddp::command::{Output, Request};
use firmware_iface::caps::groups::{FlowTablePropLayout, PerProtocolNetworkingOffloadCaps};
use firmware_iface::caps::{CapGroup, CmdHcaCap};
use firmware_iface::command::device::{QueryHcaCapOut, QueryPagesOut};
use firmware_iface::command::object::{AllocUarOut, CreateEqIn, CreateEqOut};
use firmware_iface::command::{CommandInfo, describe};
use firmware_iface::context::Eqc;
use firmware_iface::{Opcode, Status};
use hw_regs::command_queue::{CommandEntry, Mailbox};
use hw_regs::layout::{Access, Layout, LayoutInfo};
use std::process::Command;

const ENTRY: usize = CommandEntry::SIZE;
const BLOCK: usize = Mailbox::SIZE;

/// One side of a command as the log has it.
#[derive(Clone, Debug, Default)]
struct Dump {
    entry: CommandEntry,
    blocks: Vec<Mailbox>,
}

impl Dump {
    /// The bytes that are shown: `inline`, then the data of the blocks, at most `len`.
    fn bytes(&self, inline: &[u8], len: usize) -> Vec<u8> {
        let mut bytes = inline.to_vec();
        self.blocks.iter().for_each(|block| bytes.extend_from_slice(&block.bytes()[..wire::BLOCK_BYTES]));
        bytes.truncate(len);
        bytes
    }

    fn input_len(&self) -> usize {
        self.entry.get(CommandEntry::INLEN) as usize
    }

    fn output_len(&self) -> usize {
        self.entry.get(CommandEntry::OUTLEN) as usize
    }

    fn input(&self) -> Vec<u8> {
        self.bytes(&self.entry.bytes()[16..32], self.input_len())
    }

    fn output(&self) -> Vec<u8> {
        self.bytes(&self.entry.bytes()[32..48], self.output_len())
    }

    fn token(&self) -> u8 {
        self.entry.get(CommandEntry::TOKEN) as u8
    }
}

#[derive(Clone, Debug)]
struct Recorded {
    input: Dump,
    output: Dump,
}

impl Recorded {
    fn request(&self) -> Request {
        Request::from_bytes(&self.input.input(), self.input.output_len())
    }

    fn opcode(&self) -> Opcode {
        self.request().opcode()
    }

    fn layouts(&self) -> &'static CommandInfo {
        describe(self.opcode()).unwrap_or_else(|| panic!("no layouts of {}", self.opcode()))
    }
}

fn log(test: &str) -> Option<String> {
    let path = support::reference(test)?.join("traces/mlx5_core-connectx4-commands.txt.gz");
    if !path.is_file() {
        support::skip(test, &format!("{} is absent", path.display()));
        return None;
    }
    let unpacked = Command::new("gzip").arg("-dc").arg(&path).output();
    match unpacked {
        Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        _ => {
            support::skip(test, "gzip cannot unpack the trace");
            None
        }
    }
}

/// The 16 bytes of a line `[time] offset: word word word word`.
fn hex_line(line: &str) -> Option<(usize, Vec<u8>)> {
    let (offset, words) = line.split_once("] ")?.1.split_once(": ")?;
    let offset = usize::from_str_radix(offset, 16).ok()?;
    let words: Vec<&str> = words.split_whitespace().collect();
    let bytes = words.iter().map(|word| u32::from_str_radix(word, 16).ok().filter(|_| word.len() == 8));
    let bytes: Vec<u8> = bytes.collect::<Option<Vec<u32>>>()?.into_iter().flat_map(u32::to_be_bytes).collect();
    (bytes.len() == 16).then_some((offset, bytes))
}

fn recorded(test: &str) -> Option<Vec<Recorded>> {
    let text = log(test)?;
    let mut dumps: Vec<(bool, Vec<u8>)> = Vec::new();
    for line in text.lines() {
        if line.contains("dump_command") && line.contains("dump command ") {
            dumps.push((line.trim_end().ends_with("INPUT"), Vec::new()));
        } else if let Some((offset, bytes)) = hex_line(line)
            && let Some((_, dump)) = dumps.last_mut()
        {
            assert_eq!(offset, dump.len(), "no line is missing");
            dump.extend(bytes);
        }
    }
    let mut commands = Vec::new();
    let mut input = None;
    for (is_input, bytes) in dumps {
        let (entry, blocks) = bytes.split_at(ENTRY);
        assert!(blocks.len().is_multiple_of(BLOCK), "{} bytes of blocks", blocks.len());
        let blocks = blocks.chunks(BLOCK).map(Mailbox::from_prefix).collect();
        let dump = Dump { entry: CommandEntry::from_prefix(entry), blocks };
        if is_input {
            assert!(input.replace(dump).is_none(), "commands do not overlap");
        } else {
            let input = input.take().expect("an input before the output");
            commands.push(Recorded { input, output: dump });
        }
    }
    assert!(input.is_none());
    assert_eq!(commands.len(), 42);
    Some(commands)
}

fn find(name: &str) -> Option<&'static LayoutInfo> {
    hw_regs::layouts().chain(firmware_iface::layouts()).find(|info| info.name == name)
}

/// Set bits that no field names.
fn unnamed(info: &LayoutInfo, bytes: &[u8]) -> Vec<hw_regs::decode::Unnamed> {
    hw_regs::decode::unnamed(info, bytes, &find)
}

#[test]
fn every_recorded_input_decodes() {
    let Some(commands) = recorded("every_recorded_input_decodes") else { return };
    for command in &commands {
        let input = command.input.input();
        assert!(unnamed(command.layouts().input, &input).is_empty(), "{} {input:02x?}", command.opcode());
    }
    let eqs: Vec<_> = commands.iter().filter(|command| command.opcode() == Opcode::CREATE_EQ).collect();
    let first = CreateEqIn::from_prefix(&eqs[0].input.input());
    let context = first.nested(CreateEqIn::EQ_CONTEXT_ENTRY);
    assert_eq!(context.get(Eqc::LOG_EQ_SIZE), 8);
    assert_eq!(first.get_at(CreateEqIn::EVENT_BITMASK, 0), 1 << 0xa, "the command EQ comes first");
    assert_eq!(eqs[0].output.output().len(), CreateEqOut::SIZE);
    let uar = commands.iter().find(|command| command.opcode() == Opcode::ALLOC_UAR).expect("a UAR");
    let uar = AllocUarOut::from_prefix(&uar.output.output()).get(AllocUarOut::UAR);
    assert_eq!(context.get(Eqc::UAR_PAGE), uar, "the first EQ uses the first UAR");
}

#[test]
fn encoding_gives_the_recorded_bytes() {
    let Some(commands) = recorded("encoding_gives_the_recorded_bytes") else { return };
    let (mut blocks, mut cut) = (0, 0);
    for command in &commands {
        let (dump, token) = (&command.input, command.input.token());
        let mut input = command.request().input().to_vec();
        cut += usize::from(input.len() < dump.input_len());
        input.resize(dump.input_len(), 0);
        let entry = wire::entry(&EntryFields {
            input: &input,
            input_mailbox: dump.entry.get_wide(CommandEntry::IN_PTR),
            output_len: dump.output_len(),
            output_mailbox: dump.entry.get_wide(CommandEntry::OUT_PTR),
            token,
        });
        assert_eq!(entry.bytes(), dump.entry.bytes(), "{}", command.opcode());
        assert!(dump.blocks.len() <= wire::blocks(input.len()));
        for (number, recorded) in dump.blocks.iter().enumerate() {
            // Linux signs no blocks; addresses are its own, and its chains may be longer than the input.
            let next = recorded.get_wide(Mailbox::NEXT);
            let last = number + 1 == wire::blocks(input.len());
            assert!(last || next != 0, "block {number} of {}", command.opcode());
            let block = wire::mailbox(wire::block_of(&input, number), number, next, token);
            assert_eq!(block.bytes(), recorded.bytes(), "block {number} of {}", command.opcode());
            blocks += 1;
        }
    }
    assert!(blocks > 180, "{blocks} blocks");
    assert_eq!(cut, 3, "HOST_ENDIANNESS, and pages twice");
}

#[test]
fn every_recorded_answer_decodes() {
    let Some(commands) = recorded("every_recorded_answer_decodes") else { return };
    for command in &commands {
        let (input, output) = (&command.input, &command.output);
        assert_eq!(output.entry.get(CommandEntry::STATUS_OWN), 0, "delivered and given back");
        // What our queue relies on: firmware leaves token, lengths and the chain as they were.
        assert_eq!(output.token(), input.token());
        assert_eq!(output.output_len(), input.output_len());
        for (number, block) in output.blocks.iter().enumerate() {
            assert_eq!(block.get(Mailbox::TOKEN) as u8, input.token());
            assert_eq!(block.get(Mailbox::BLOCK_NUM) as usize, number);
        }
        let bytes = output.output();
        assert_eq!(Output::new(bytes.clone()).header().status(), Status::OK, "{}", command.opcode());
        assert!(unnamed(command.layouts().output, &bytes).is_empty(), "{} {bytes:02x?}", command.opcode());
    }
    let demands = commands.iter().filter(|command| command.opcode() == Opcode::QUERY_PAGES);
    let demands = demands.map(|c| QueryPagesOut::from_prefix(&c.output.output()).get(QueryPagesOut::NUM_PAGES));
    assert_eq!(demands.collect::<Vec<_>>(), [6, 12_868]);
}

#[test]
fn a_real_cards_capabilities_read_plausibly() {
    let Some(commands) = recorded("a_real_cards_capabilities_read_plausibly") else { return };
    // The last current page of each group is what the driver works with.
    let pages =
        commands.iter().filter(|c| c.opcode() == Opcode::QUERY_HCA_CAP && c.request().op_mod() & 1 == 1).map(|c| {
            let page = QueryHcaCapOut::from_prefix(&c.output.output()).blob(QueryHcaCapOut::CAPABILITY).to_vec();
            (CapGroup(c.request().op_mod() >> 1), page)
        });
    let capabilities = Capabilities::from_pages(pages);
    let groups: Vec<_> = capabilities.groups().collect();
    assert!(groups.contains(&CapGroup::ETHERNET_OFFLOADS) && groups.contains(&CapGroup::FLOW_TABLE), "{groups:?}");
    let general = capabilities.general();
    assert_eq!(general.get(CmdHcaCap::PORT_TYPE), 1, "Ethernet");
    assert_eq!(general.get(CmdHcaCap::MAX_WQE_SZ_SQ), 1024);
    assert_eq!(general.get(CmdHcaCap::LOG_MAX_EQ), 8);
    assert_eq!(general.get(CmdHcaCap::CMDIF_CHECKSUM), 0, "as SET_HCA_CAP left it");
    assert!(capabilities.ethernet().is_set(PerProtocolNetworkingOffloadCaps::CSUM_CAP));
    assert!(capabilities.receive_flow_tables().is_set(FlowTablePropLayout::FT_SUPPORT));
    let offload = capabilities.offload();
    assert!(!offload.possible());
    let why: Vec<_> = offload.why_not().iter().map(|reason| reason.capability).collect();
    assert_eq!(why, ["cmd_hca_cap.nvmeotcp"], "a ConnectX-4 has no NVMe/TCP offload");
}
