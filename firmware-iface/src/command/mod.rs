//! Commands: the input and output of each opcode, grouped by what they act on.
//!
//! Every input begins with the opcode (16 bits at bit 0) and `op_mod` (16 bits at bit 48); every output with the status
//! (8 bits at bit 0) and the syndrome (32 bits at bit 32) (`mlx5-bringup.md` §2). [`InHeader`] and [`OutHeader`] read
//! these of any command.

pub mod device;
pub mod flow;
pub mod object;
pub mod queue;
pub mod table;
pub mod vport;

pub use table::{COMMANDS, Command, CommandInfo, describe};

use crate::{Opcode, Status};
use hw_regs::layout;
use hw_regs::layout::Access;

layout! {
    /// First 16 bytes of every command input.
    pub struct InHeader("cmd_in_header", 16) {
        "opcode" OPCODE: bits(0, 16);
        "uid" UID: bits(16, 16);
        "op_mod" OP_MOD: bits(48, 16);
    }

    /// First 16 bytes of every command output.
    pub struct OutHeader("cmd_out_header", 16) {
        "status" STATUS: bits(0, 8);
        "syndrome" SYNDROME: bits(32, 32);
    }
}

impl InHeader {
    /// The opcode.
    pub fn opcode(&self) -> Opcode {
        Opcode(self.get(InHeader::OPCODE) as u16)
    }
}

impl OutHeader {
    /// The status.
    pub fn status(&self) -> Status {
        Status(self.get(OutHeader::STATUS) as u8)
    }
}
