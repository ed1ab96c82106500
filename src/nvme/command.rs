//! Submission and completion queue entries, SGL descriptors, and the commands that the host sends.

use super::status::Status;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Opcodes of I/O commands.
pub mod io_opcode {
    /// Commit everything written before.
    pub const FLUSH: u8 = 0x00;
    /// Write logical blocks.
    pub const WRITE: u8 = 0x01;
    /// Read logical blocks.
    pub const READ: u8 = 0x02;
}

/// Opcodes of admin commands, and the one of all Fabrics commands.
pub mod admin_opcode {
    /// Identify.
    pub const IDENTIFY: u8 = 0x06;
    /// Set Features.
    pub const SET_FEATURES: u8 = 0x09;
    /// Keep Alive.
    pub const KEEP_ALIVE: u8 = 0x18;
    /// Connect, Property Get, Property Set.
    pub const FABRICS: u8 = 0x7f;
}

/// SGL descriptor (Base 4.1.2): 16 bytes that say where a command's data is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SglDescriptor {
    /// Address, or offset in the capsule's data.
    pub address: U64,
    /// Bytes.
    pub length: U32,
    reserved: [u8; 3],
    /// Type in bits 7:4, subtype in bits 3:0.
    pub identifier: u8,
}

impl SglDescriptor {
    /// Data Block, subtype Offset: data in the command capsule (Fabrics, SGLs).
    pub const IN_CAPSULE: u8 = 0x01;
    /// Transport SGL Data Block, subtype transport A: data goes in C2HData and H2CData PDUs (NVMe/TCP, data transfers).
    pub const TRANSPORT: u8 = 0x5a;

    /// `length` bytes at `offset` of the data that the command capsule carries.
    pub fn in_capsule(offset: u64, length: u32) -> SglDescriptor {
        SglDescriptor { address: offset.into(), length: length.into(), reserved: [0; 3], identifier: Self::IN_CAPSULE }
    }

    /// `length` bytes in data PDUs; 0 for a command without data.
    pub fn transport(length: u32) -> SglDescriptor {
        SglDescriptor { address: 0.into(), length: length.into(), reserved: [0; 3], identifier: Self::TRANSPORT }
    }
}

/// Submission queue entry (Base 3.3.3.1), 64 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Sqe {
    /// Opcode.
    pub opcode: u8,
    /// Bits 7:6 PSDT, 1:0 fused operation.
    pub flags: u8,
    /// Command identifier; [`HostQueue`](super::HostQueue) sets it.
    pub cid: U16,
    /// Namespace; bytes 4..8 of Fabrics commands hold FCTYPE instead.
    pub nsid: U32,
    /// Command dwords 2 and 3.
    pub cdw2: [U32; 2],
    /// Metadata pointer; unused.
    pub mptr: U64,
    /// Data; [`HostQueue`](super::HostQueue) sets it.
    pub sgl: SglDescriptor,
    /// Command dwords 10 to 15.
    pub cdw10: [U32; 6],
}

/// PSDT 01b: SGLs are used, as every Fabrics transport wants (Fabrics, command capsules).
pub const FLAGS_SGL: u8 = 0x40;

/// Completion queue entry (Base 3.3.3.2), 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Cqe {
    /// Command specific result, dwords 0 and 1.
    pub result: U64,
    /// Submission queue head; 0xffff in a Connect response if flow control is off.
    pub sqhd: U16,
    /// Submission queue; reserved in Fabrics.
    pub sqid: U16,
    /// Command identifier.
    pub cid: U16,
    /// Status and phase tag.
    pub status: U16,
}

impl Cqe {
    /// The status.
    pub fn status(&self) -> Status {
        Status::from_cqe(self.status.get())
    }
}

/// Which way a command's data goes and where it is in the host's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// The command has no data.
    None,
    /// To the host: into the [`PayloadMemory`](super::PayloadMemory) buffer of the command identifier.
    Read {
        /// Bytes.
        len: u32,
    },
    /// To the controller: from the [`PayloadMemory`](super::PayloadMemory) buffer of the command identifier.
    Write {
        /// Bytes.
        len: u32,
    },
    /// To the host, into memory of the queue: Identify pages. Taken with
    /// [`HostQueue::take_control_data`](super::HostQueue::take_control_data).
    ControlRead {
        /// Bytes, at most [`CONTROL_DATA_MAX`].
        len: u32,
    },
    /// To the controller inside the command capsule, from here: Connect data. At most [`CONTROL_DATA_MAX`] bytes.
    ControlWrite(Vec<u8>),
}

/// Most data of a command that goes through the queue's own memory: what admin and Fabrics capsules may carry
/// (NVMe/TCP, command capsules).
pub const CONTROL_DATA_MAX: u32 = 8192;

impl Data {
    /// Bytes.
    pub fn len(&self) -> u32 {
        match self {
            Data::None => 0,
            Data::Read { len } | Data::Write { len } | Data::ControlRead { len } => *len,
            Data::ControlWrite(bytes) => u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        }
    }

    /// True if the command has no data.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A command that has no identifier yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The entry without CID and SGL.
    pub sqe: Sqe,
    /// Its data.
    pub data: Data,
}

/// Most logical blocks of one read or write: NLB has 16 bits and counts from 0.
pub const BLOCKS_MAX: u32 = 1 << 16;

/// A read or write that no command can express.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{blocks} blocks of {block_size} bytes: a command moves 1 to {BLOCKS_MAX} blocks and less than 4 GiB")]
pub struct BadLength {
    /// Blocks asked for.
    pub blocks: u32,
    /// Bytes per block.
    pub block_size: u32,
}

impl Request {
    /// Reads `blocks` logical blocks from `lba` of namespace `nsid` into the buffer of the command identifier.
    pub fn read(nsid: u32, lba: u64, blocks: u32, block_size: u32) -> Result<Request, BadLength> {
        let len = bytes(blocks, block_size)?;
        Ok(Request { sqe: blocks_sqe(io_opcode::READ, nsid, lba, blocks), data: Data::Read { len } })
    }

    /// Writes `blocks` logical blocks at `lba` of namespace `nsid` from the buffer of the command identifier.
    pub fn write(nsid: u32, lba: u64, blocks: u32, block_size: u32) -> Result<Request, BadLength> {
        let len = bytes(blocks, block_size)?;
        Ok(Request { sqe: blocks_sqe(io_opcode::WRITE, nsid, lba, blocks), data: Data::Write { len } })
    }

    /// Commits what was written to namespace `nsid`.
    pub fn flush(nsid: u32) -> Request {
        Request { sqe: Sqe { opcode: io_opcode::FLUSH, nsid: nsid.into(), ..Sqe::default() }, data: Data::None }
    }

    /// Restarts the controller's keep-alive timer.
    pub fn keep_alive() -> Request {
        Request { sqe: Sqe { opcode: admin_opcode::KEEP_ALIVE, ..Sqe::default() }, data: Data::None }
    }

    /// Identify (Base 5.17): one page of what `cns` selects, into the queue's own memory.
    pub fn identify(cns: u8, nsid: u32) -> Request {
        let mut sqe = Sqe { opcode: admin_opcode::IDENTIFY, nsid: nsid.into(), ..Sqe::default() };
        sqe.cdw10[0] = u32::from(cns).into();
        Request { sqe, data: Data::ControlRead { len: super::identify::PAGE as u32 } }
    }

    /// Set Features, Number of Queues (Base 5.27.1.5): asks for `queues` (1 to 65,535) I/O queue pairs.
    pub fn number_of_queues(queues: u16) -> Request {
        let mut sqe = Sqe { opcode: admin_opcode::SET_FEATURES, ..Sqe::default() };
        let count = u32::from(queues.saturating_sub(1));
        sqe.cdw10[0] = 0x07.into();
        sqe.cdw10[1] = (count << 16 | count).into();
        Request { sqe, data: Data::None }
    }
}

fn bytes(blocks: u32, block_size: u32) -> Result<u32, BadLength> {
    let len = blocks.checked_mul(block_size).filter(|&len| len > 0 && blocks <= BLOCKS_MAX);
    len.ok_or(BadLength { blocks, block_size })
}

fn blocks_sqe(opcode: u8, nsid: u32, lba: u64, blocks: u32) -> Sqe {
    let mut sqe = Sqe { opcode, nsid: nsid.into(), ..Sqe::default() };
    sqe.cdw10[0] = (lba as u32).into();
    sqe.cdw10[1] = ((lba >> 32) as u32).into();
    sqe.cdw10[2] = (blocks - 1).into();
    sqe
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | entries have the bytes that the specification gives them | `entries_have_the_specified_bytes` |
    //! | lengths that a command cannot express are refused | `impossible_lengths_are_refused` |
    use super::*;

    #[test]
    fn entries_have_the_specified_bytes() {
        let mut sqe = Request::read(7, 0x1_0203_0405, 256, 512).expect("legal").sqe;
        sqe.cid = 0xabcd.into();
        sqe.flags = FLAGS_SGL;
        sqe.sgl = SglDescriptor::transport(131_072);
        let mut expected = [0u8; 64];
        expected[..8].copy_from_slice(&[0x02, 0x40, 0xcd, 0xab, 7, 0, 0, 0]);
        expected[32..40].copy_from_slice(&[0, 0, 2, 0, 0, 0, 0, 0x5a]);
        expected[40..52].copy_from_slice(&[5, 4, 3, 2, 1, 0, 0, 0, 255, 0, 0, 0]);
        assert_eq!(sqe.as_bytes(), expected);

        let queues = Request::number_of_queues(8).sqe;
        assert_eq!(queues.as_bytes()[40..48], [7, 0, 0, 0, 7, 0, 7, 0]);
        assert_eq!(SglDescriptor::in_capsule(0, 1024).as_bytes(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 1]);

        let cqe = Cqe::read_from_bytes(&[1, 2, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 9, 0, 4, 0]).expect("16 bytes");
        assert_eq!((cqe.result.get(), cqe.sqhd.get(), cqe.cid.get()), (0x201, 0xffff, 9));
        assert_eq!(cqe.status().code(), 2);
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for (blocks, size) in [(0, 512), (BLOCKS_MAX + 1, 512), (BLOCKS_MAX, 1 << 16), (1, 0)] {
            assert_eq!(Request::read(1, 0, blocks, size), Err(BadLength { blocks, block_size: size }));
        }
        assert_eq!(Request::write(1, 0, BLOCKS_MAX, 4096).map(|r| r.data.len()), Ok(1 << 28));
    }
}
