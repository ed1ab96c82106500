//! Commands as values: what is asked, what came back, what it was about.

use crate::dma::DmaBuf;
use firmware_iface::Opcode;
use firmware_iface::command::{Command, InHeader, OutHeader};
use hw_regs::layout::{Access, Layout};
use std::fmt;

/// Bytes that an entry of the command queue carries without a mailbox, in each direction; also the least that every
/// command has.
pub const INLINE_BYTES: usize = 16;

/// Kinds of firmware objects, as a person calls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum ObjectKind {
    Uar,
    Eq,
    Pd,
    TransportDomain,
    Mkey,
    QueueCounter,
    Cq,
    Tis,
    Sq,
    Rq,
    Rqt,
    Tir,
    FlowTable,
    FlowTableRoot,
    FlowGroup,
    FlowTableEntry,
    L2TableEntry,
    TagBufferTable,
}

impl ObjectKind {
    /// The number that firmware gave the object, out of the output of its create command (`firmware-iface`, `*_out`):
    /// 32 bits at bit 64 for general objects, 24 bits at bit 72 for all others (event queues and queue counters have 8
    /// bits with zeros above). Kinds that their creator numbers itself get 0.
    pub fn number(self, output: &Output) -> u32 {
        let word = output.word(8);
        match self {
            ObjectKind::FlowTableRoot | ObjectKind::FlowTableEntry | ObjectKind::L2TableEntry => 0,
            ObjectKind::TagBufferTable => word,
            _ => word & 0xff_ffff,
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ObjectKind::Uar => "UAR",
            ObjectKind::Eq => "EQ",
            ObjectKind::Pd => "PD",
            ObjectKind::TransportDomain => "transport domain",
            ObjectKind::Mkey => "mkey",
            ObjectKind::QueueCounter => "queue counter",
            ObjectKind::Cq => "CQ",
            ObjectKind::Tis => "TIS",
            ObjectKind::Sq => "SQ",
            ObjectKind::Rq => "RQ",
            ObjectKind::Rqt => "RQT",
            ObjectKind::Tir => "TIR",
            ObjectKind::FlowTable => "flow table",
            ObjectKind::FlowTableRoot => "root flow table",
            ObjectKind::FlowGroup => "flow group",
            ObjectKind::FlowTableEntry => "flow table entry",
            ObjectKind::L2TableEntry => "L2 table entry",
            ObjectKind::TagBufferTable => "tag buffer table",
        })
    }
}

/// What a command is about, for messages: an object that exists, or a kind of object to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// Its number, if it has one yet.
    pub number: Option<u32>,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "{} {number:#x}", self.kind),
            None => write!(f, "new {}", self.kind),
        }
    }
}

/// A command to be posted: the bytes of its input, the length of its output.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a request does nothing until it is posted"]
pub struct Request {
    input: Vec<u8>,
    output_len: usize,
    object: Option<Object>,
}

impl Request {
    /// A command with this input and the output that belongs to it. The opcode is filled in.
    pub fn new<C: Command>(input: &C) -> Request {
        let mut bytes = input.bytes().to_vec();
        bytes.resize(bytes.len().max(INLINE_BYTES), 0);
        bytes[..2].copy_from_slice(&C::OPCODE.0.to_be_bytes());
        Request { input: bytes, output_len: C::Output::SIZE.max(INLINE_BYTES), object: None }
    }

    /// A command out of raw bytes, as a record has them. Inputs and outputs shorter than 16 bytes are padded to 16.
    pub fn from_bytes(input: &[u8], output_len: usize) -> Request {
        let mut input = input.to_vec();
        input.resize(input.len().max(INLINE_BYTES), 0);
        Request { input, output_len: output_len.max(INLINE_BYTES), object: None }
    }

    /// Appends to the input: the tail of a layout.
    pub fn tail(mut self, bytes: &[u8]) -> Request {
        self.input.extend_from_slice(bytes);
        self
    }

    /// Appends the 4 KiB pages of `memory` to the input, as big-endian 64-bit addresses (`pas[]` of queue contexts with
    /// a page shift of 12). The memory must begin on a page.
    pub fn pages(mut self, memory: &DmaBuf) -> Request {
        debug_assert!(memory.iova().get().is_multiple_of(4096));
        for at in (0..memory.len()).step_by(4096) {
            self.input.extend_from_slice(&memory.iova_at(at).get().to_be_bytes());
        }
        self
    }

    /// Asks for more output than the layout's fixed part: the tail of an answer.
    pub fn output_len(mut self, bytes: usize) -> Request {
        self.output_len = bytes.max(INLINE_BYTES);
        self
    }

    /// Says which object the command is about.
    pub fn about(mut self, kind: ObjectKind, number: u32) -> Request {
        self.object = Some(Object { kind, number: Some(number) });
        self
    }

    /// Says what kind of object the command creates.
    pub fn creates(mut self, kind: ObjectKind) -> Request {
        self.object = Some(Object { kind, number: None });
        self
    }

    /// The input's bytes.
    pub fn input(&self) -> &[u8] {
        &self.input
    }

    /// Bytes of output that are asked for.
    pub fn expected_output(&self) -> usize {
        self.output_len
    }

    /// What the command is about, if it was said.
    pub fn object(&self) -> Option<Object> {
        self.object
    }

    /// The opcode.
    pub fn opcode(&self) -> Opcode {
        InHeader::from_prefix(&self.input).opcode()
    }

    /// The `op_mod`.
    pub fn op_mod(&self) -> u16 {
        InHeader::from_prefix(&self.input).get(InHeader::OP_MOD) as u16
    }
}

/// The answer to a command whose status was OK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    bytes: Vec<u8>,
}

impl Output {
    /// An answer with these bytes; records and fakes make them, the live queue does for itself.
    pub fn new(bytes: Vec<u8>) -> Output {
        Output { bytes }
    }

    /// The bytes; as many as were asked for.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The fixed part.
    pub fn decode<L: Layout>(&self) -> L {
        L::from_prefix(&self.bytes)
    }

    /// The bytes from `offset` on, none if the answer is shorter: the tail of a layout.
    pub fn tail(&self, offset: usize) -> &[u8] {
        self.bytes.get(offset..).unwrap_or_default()
    }

    /// The big-endian word at byte `offset`, 0 if the answer is shorter.
    pub fn word(&self, offset: usize) -> u32 {
        let word = self.bytes.get(offset..offset + 4).and_then(|b| b.try_into().ok());
        word.map_or(0, u32::from_be_bytes)
    }

    /// Status and syndrome.
    pub fn header(&self) -> OutHeader {
        self.decode()
    }
}
