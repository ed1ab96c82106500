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
use cxddp_trace::{Dump, Trace};
use firmware_iface::caps::groups::{FlowTablePropLayout, PerProtocolNetworkingOffloadCaps};
use firmware_iface::caps::{CapGroup, CmdHcaCap};
use firmware_iface::command::device::{QueryHcaCapOut, QueryPagesOut};
use firmware_iface::command::object::{AllocUarOut, CreateEqIn, CreateEqOut};
use firmware_iface::command::{CommandInfo, describe};
use firmware_iface::context::Eqc;
use firmware_iface::{Opcode, Status};
use hw_regs::command_queue::{CommandEntry, Mailbox};
use hw_regs::layout::{Access, Layout, LayoutInfo};

/// A command whose two sides are in the log.
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

fn recorded(test: &str) -> Option<Vec<Recorded>> {
    let path = support::reference(test)?.join("traces/mlx5_core-connectx4-commands.txt.gz");
    if !path.is_file() {
        support::skip(test, &format!("{} is absent", path.display()));
        return None;
    }
    let text = match cxddp_trace::read_file(&path) {
        Ok(text) => text,
        Err(error) => {
            support::skip(test, &format!("{}: {error}", path.display()));
            return None;
        }
    };
    let trace = Trace::parse(&text).expect("a trace");
    let commands: Vec<Recorded> = trace
        .commands
        .into_iter()
        .map(|exchange| Recorded { input: exchange.input.expect("asked"), output: exchange.output.expect("answered") })
        .collect();
    for dump in commands.iter().flat_map(|command| [&command.input, &command.output]) {
        assert!(dump.blocks.len().is_multiple_of(Mailbox::SIZE), "{} bytes of blocks", dump.blocks.len());
    }
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
        assert!(dump.mailboxes().count() <= wire::blocks(input.len()));
        for (number, recorded) in dump.mailboxes().enumerate() {
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
        for (number, block) in output.mailboxes().enumerate() {
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
