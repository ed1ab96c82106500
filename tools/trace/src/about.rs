//! What a command is about, so that the same step of two drivers is found; and which bytes of it are the driver's memory,
//! which no two runs have at the same place.

use crate::layout;
use firmware_iface::caps::GROUPS;
use firmware_iface::command::device::{ManagePagesOpMod, QueryPagesOpMod};
use firmware_iface::command::flow::{CreateFlowTableIn, DeleteFteIn, SetFlowTableRootIn, SetFteIn};
use firmware_iface::command::object::{CreateEqIn, CreateMkeyIn};
use firmware_iface::command::queue::{CreateTirIn, ModifyRqIn, ModifySqIn};
use firmware_iface::command::vport::{ModifyNicVportContextIn, QueryNicVportContextIn};
use firmware_iface::command::{InHeader, describe};
use firmware_iface::context::{Mkc, Rqc, Sqc, Tirc};
use firmware_iface::register::{AccessRegisterIn, RegisterId};
use firmware_iface::vport::ModifyNicVportFieldSelect;
use firmware_iface::{Opcode, context};
use hw_regs::decode::{Content, decode};
use hw_regs::eqe::EventType;
use hw_regs::layout::{Access, Layout};
use std::fmt;
use std::ops::Range;

/// What a command is about: its opcode, `op_mod`, and the kind of thing where one opcode has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The opcode.
    pub opcode: Opcode,
    /// The `op_mod`; of general objects the type of the object.
    pub op_mod: u16,
    /// Register, event queue's purpose, table's type and so on; 0 where the opcode says all.
    pub kind: u32,
}

/// What an event queue is for.
const EQ_COMPLETIONS: u32 = 1;
const EQ_COMMANDS: u32 = 2;
const EQ_PAGES: u32 = 3;
const EQ_ASYNC: u32 = 4;

impl Key {
    /// Of an input; what is missing of it counts as zero.
    pub fn of(input: &[u8]) -> Key {
        let header = InHeader::from_prefix(input);
        let opcode = header.opcode();
        let kind = match opcode {
            Opcode::ACCESS_REG => AccessRegisterIn::from_prefix(input).get(AccessRegisterIn::REGISTER_ID),
            Opcode::CREATE_EQ => {
                let input = CreateEqIn::from_prefix(input);
                let has = |event: EventType| {
                    input.get_at(CreateEqIn::EVENT_BITMASK, usize::from(event.0 / 64)) >> (event.0 % 64) & 1 != 0
                };
                let empty =
                    (0..CreateEqIn::EVENT_BITMASK.len()).all(|n| input.get_at(CreateEqIn::EVENT_BITMASK, n) == 0);
                match () {
                    () if empty => EQ_COMPLETIONS,
                    () if has(EventType::CMD) => EQ_COMMANDS,
                    () if has(EventType::PAGE_REQUEST) => EQ_PAGES,
                    () => EQ_ASYNC,
                }
            }
            Opcode::CREATE_MKEY => {
                let context = CreateMkeyIn::from_prefix(input).nested(CreateMkeyIn::MEMORY_KEY_MKEY_ENTRY);
                context.get(Mkc::ACCESS_MODE_1_0)
            }
            Opcode::CREATE_TIR => CreateTirIn::from_prefix(input).nested(CreateTirIn::CTX).get(Tirc::DISP_TYPE),
            Opcode::MODIFY_RQ => {
                let input = ModifyRqIn::from_prefix(input);
                input.get(ModifyRqIn::RQ_STATE) << 4 | input.nested(ModifyRqIn::CTX).get(Rqc::STATE)
            }
            Opcode::MODIFY_SQ => {
                let input = ModifySqIn::from_prefix(input);
                input.get(ModifySqIn::SQ_STATE) << 4 | input.nested(ModifySqIn::CTX).get(Sqc::STATE)
            }
            Opcode::CREATE_FLOW_TABLE => CreateFlowTableIn::from_prefix(input).get(CreateFlowTableIn::TABLE_TYPE),
            Opcode::SET_FLOW_TABLE_ROOT => SetFlowTableRootIn::from_prefix(input).get(SetFlowTableRootIn::TABLE_TYPE),
            Opcode::SET_FLOW_TABLE_ENTRY => SetFteIn::from_prefix(input).get(SetFteIn::TABLE_TYPE),
            Opcode::DELETE_FLOW_TABLE_ENTRY => DeleteFteIn::from_prefix(input).get(DeleteFteIn::TABLE_TYPE),
            Opcode::QUERY_NIC_VPORT_CONTEXT => {
                QueryNicVportContextIn::from_prefix(input).get(QueryNicVportContextIn::ALLOWED_LIST_TYPE)
            }
            Opcode::MODIFY_NIC_VPORT_CONTEXT => {
                let select = ModifyNicVportContextIn::from_prefix(input).nested(ModifyNicVportContextIn::FIELD_SELECT);
                select
                    .bytes()
                    .chunks(4)
                    .fold(0, |sum, word| sum | word.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)))
            }
            _ => 0,
        };
        Key { opcode, op_mod: header.get(InHeader::OP_MOD) as u16, kind }
    }
}

impl fmt::Display for Key {
    /// `QUERY_HCA_CAP GENERAL, current`, `CREATE_EQ for completions`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.opcode.name() {
            Some(name) => f.write_str(name)?,
            None => write!(f, "command {:#x}", self.opcode.0)?,
        }
        let (op_mod, kind) = (self.op_mod, self.kind);
        match self.opcode {
            Opcode::QUERY_HCA_CAP | Opcode::SET_HCA_CAP => {
                match GROUPS.iter().find(|info| info.group.0 == op_mod >> 1) {
                    Some(info) => write!(f, " {}", info.name())?,
                    None => write!(f, " group {:#x}", op_mod >> 1)?,
                }
                return match (self.opcode, op_mod & 1) {
                    (Opcode::SET_HCA_CAP, _) => Ok(()),
                    (_, 0) => f.write_str(", maximum"),
                    _ => f.write_str(", current"),
                };
            }
            Opcode::ACCESS_REG => {
                let way = if op_mod & 1 == 0 { "write" } else { "read" };
                return write!(f, " {way} {}", RegisterId(kind as u16));
            }
            Opcode::QUERY_PAGES => {
                return match QueryPagesOpMod(op_mod).name() {
                    Some(name) => write!(f, " {name}"),
                    None => write!(f, ", op_mod {op_mod:#x}"),
                };
            }
            Opcode::MANAGE_PAGES => {
                return match ManagePagesOpMod(op_mod).name() {
                    Some(name) => write!(f, " {name}"),
                    None => write!(f, ", op_mod {op_mod:#x}"),
                };
            }
            Opcode::CREATE_GENERAL_OBJECT
            | Opcode::MODIFY_GENERAL_OBJECT
            | Opcode::QUERY_GENERAL_OBJECT
            | Opcode::DESTROY_GENERAL_OBJECT => return write!(f, " of type {op_mod:#x}"),
            _ => {}
        }
        match self.opcode {
            Opcode::CREATE_EQ => f.write_str(match kind {
                EQ_COMPLETIONS => " for completions",
                EQ_COMMANDS => " for commands",
                EQ_PAGES => " for page requests",
                _ => " for asynchronous events",
            })?,
            Opcode::CREATE_MKEY => {
                let mode = context::AccessMode(kind as u8);
                write!(f, " of mode {}", mode.name().map_or_else(|| format!("{kind:#x}"), str::to_owned))?;
            }
            Opcode::CREATE_TIR => f.write_str(if kind == 0 { " to a queue" } else { " to a table" })?,
            Opcode::MODIFY_RQ | Opcode::MODIFY_SQ => write!(f, " from state {} to {}", kind >> 4, kind & 0xf)?,
            Opcode::CREATE_FLOW_TABLE
            | Opcode::SET_FLOW_TABLE_ROOT
            | Opcode::SET_FLOW_TABLE_ENTRY
            | Opcode::DELETE_FLOW_TABLE_ENTRY => write!(f, " of table type {kind:#x}")?,
            Opcode::QUERY_NIC_VPORT_CONTEXT => write!(f, " list {kind}")?,
            Opcode::MODIFY_NIC_VPORT_CONTEXT => {
                let select = kind.to_be_bytes();
                let info = &ModifyNicVportFieldSelect::INFO;
                let fields = decode(info, &select, &layout).values;
                let chosen = fields.iter().filter(|value| !value.content.is_zero());
                let chosen: Vec<_> = chosen.map(|value| &value.name[..]).collect();
                write!(f, " {}", chosen.join(" "))?;
            }
            _ => {}
        }
        if op_mod != 0 { write!(f, ", op_mod {op_mod:#x}") } else { Ok(()) }
    }
}

/// Fields that hold addresses of the driver's memory, by the last part of their name.
const ADDRESSES: [&str; 4] = ["pas", "dbr_addr", "start_addr", "klm_pas_mtt"];

/// True if a field of a command holds an address of the driver's memory.
pub fn is_address(field: &str) -> bool {
    field.split('.').any(|part| ADDRESSES.contains(&part.split('[').next().unwrap_or(part)))
}

/// Bytes of an input (or, with `is_output`, of an output) that are addresses of the driver's memory.
pub fn addresses(opcode: Opcode, bytes: &[u8], is_output: bool) -> Vec<Range<usize>> {
    let Some(info) = describe(opcode) else { return Vec::new() };
    let info = if is_output { info.output } else { info.input };
    let ranges = decode(info, bytes, &layout).values.into_iter().filter(|value| is_address(&value.name)).map(|value| {
        let count = match &value.content {
            Content::List(list) => list.len(),
            _ => 1,
        };
        let begin = value.offset as usize / 8;
        begin..begin + (value.width as usize * count).div_ceil(8)
    });
    ranges.collect()
}
