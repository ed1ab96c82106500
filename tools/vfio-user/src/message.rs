//! Messages of the protocol: a header of 16 bytes, then a payload. All numbers are little-endian.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a header.
pub const HEADER: usize = size_of::<Header>();

/// What begins every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Chosen by who asks, repeated by who answers.
    pub id: U16,
    /// [`Command`].
    pub command: U16,
    /// Bytes of the message, header included.
    pub size: U32,
    /// [`flags`].
    pub flags: U32,
    /// Error number (`errno`) of an answer with [`flags::ERROR`], else 0.
    pub error: U32,
}

/// Bits of [`Header::flags`].
pub mod flags {
    /// The type of a message, of which two values exist.
    pub const TYPE: u32 = 0xf;
    /// A question.
    pub const COMMAND: u32 = 0;
    /// An answer.
    pub const REPLY: u32 = 1;
    /// No answer is wanted.
    pub const NO_REPLY: u32 = 1 << 4;
    /// The answer is an error, and nothing follows the header.
    pub const ERROR: u32 = 1 << 5;
}

/// Numbers of the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command(pub u16);

impl Command {
    /// First message: versions and limits.
    pub const VERSION: Command = Command(1);
    /// The client lends memory.
    pub const DMA_MAP: Command = Command(2);
    /// And takes it back.
    pub const DMA_UNMAP: Command = Command(3);
    /// What the device has.
    pub const DEVICE_GET_INFO: Command = Command(4);
    /// One of its regions.
    pub const DEVICE_GET_REGION_INFO: Command = Command(5);
    /// One of its kinds of interrupts.
    pub const DEVICE_GET_IRQ_INFO: Command = Command(7);
    /// Where interrupts go.
    pub const DEVICE_SET_IRQS: Command = Command(8);
    /// Reads registers or configuration space.
    pub const REGION_READ: Command = Command(9);
    /// Writes them.
    pub const REGION_WRITE: Command = Command(10);
    /// Function-level reset.
    pub const DEVICE_RESET: Command = Command(13);
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match *self {
            Command::VERSION => "VERSION",
            Command::DMA_MAP => "DMA_MAP",
            Command::DMA_UNMAP => "DMA_UNMAP",
            Command::DEVICE_GET_INFO => "DEVICE_GET_INFO",
            Command::DEVICE_GET_REGION_INFO => "DEVICE_GET_REGION_INFO",
            Command::DEVICE_GET_IRQ_INFO => "DEVICE_GET_IRQ_INFO",
            Command::DEVICE_SET_IRQS => "DEVICE_SET_IRQS",
            Command::REGION_READ => "REGION_READ",
            Command::REGION_WRITE => "REGION_WRITE",
            Command::DEVICE_RESET => "DEVICE_RESET",
            Command(number) => return write!(f, "command {number}"),
        };
        f.write_str(name)
    }
}

/// Begins the payload of [`Command::VERSION`]; a JSON object that ends with a zero byte follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Version {
    /// 0.
    pub major: U16,
    /// 0.
    pub minor: U16,
}

/// Payload of [`Command::DMA_MAP`]; the file comes beside it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DmaMap {
    /// Bytes of this payload.
    pub argsz: U32,
    /// [`DmaMap::READ`] and [`DmaMap::WRITE`]: what the device may do.
    pub flags: U32,
    /// Where in the file the memory begins, bytes.
    pub offset: U64,
    /// First I/O virtual address.
    pub address: U64,
    /// Bytes.
    pub size: U64,
}

impl DmaMap {
    /// The device may read.
    pub const READ: u32 = 1;
    /// The device may write.
    pub const WRITE: u32 = 2;
}

/// Payload of [`Command::DMA_UNMAP`], and of its answer.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DmaUnmap {
    /// Bytes of this payload.
    pub argsz: U32,
    /// [`DmaUnmap::DIRTY_BITMAP`], [`DmaUnmap::ALL`].
    pub flags: U32,
    /// First I/O virtual address.
    pub address: U64,
    /// Bytes.
    pub size: U64,
}

impl DmaUnmap {
    /// The client wants to know what the device wrote; not offered here.
    pub const DIRTY_BITMAP: u32 = 1;
    /// Everything, whatever address and size say.
    pub const ALL: u32 = 2;
}

/// Payload of [`Command::DEVICE_GET_INFO`] and of its answer.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct GetInfo {
    /// Bytes of this payload.
    pub argsz: U32,
    /// [`GetInfo::RESET`], [`GetInfo::PCI`].
    pub flags: U32,
    /// Number of regions; a PCI device has at least 8.
    pub regions: U32,
    /// Number of kinds of interrupts; a PCI device has at least 3.
    pub irqs: U32,
}

impl GetInfo {
    /// [`Command::DEVICE_RESET`] works.
    pub const RESET: u32 = 1;
    /// It is a PCI device.
    pub const PCI: u32 = 2;
}

/// Payload of [`Command::DEVICE_GET_REGION_INFO`] and of its answer.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RegionInfo {
    /// Bytes of this payload.
    pub argsz: U32,
    /// [`RegionInfo::READ`], [`RegionInfo::WRITE`].
    pub flags: U32,
    /// Which; [`region`].
    pub index: U32,
    /// Where capabilities of the region follow; 0 for none.
    pub cap_offset: U32,
    /// Bytes; 0 if there is no such region.
    pub size: U64,
    /// Where in the file the region begins, if it can be mapped. None here can.
    pub offset: U64,
}

impl RegionInfo {
    /// Can be read.
    pub const READ: u32 = 1;
    /// Can be written.
    pub const WRITE: u32 = 2;
}

/// Numbers of a PCI device's regions.
pub mod region {
    /// Base address register 0.
    pub const BAR0: u32 = 0;
    /// Configuration space.
    pub const CONFIG: u32 = 7;
    /// How many a PCI device has: six BARs, ROM, configuration space, VGA.
    pub const COUNT: u32 = 9;
}

/// Payload of [`Command::DEVICE_GET_IRQ_INFO`] and of its answer.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IrqInfo {
    /// Bytes of this payload.
    pub argsz: U32,
    /// [`IrqInfo::EVENTFD`], [`IrqInfo::NORESIZE`].
    pub flags: U32,
    /// Which kind; [`irq`].
    pub index: U32,
    /// How many.
    pub count: U32,
}

impl IrqInfo {
    /// They are signalled through eventfds.
    pub const EVENTFD: u32 = 1;
    /// They can only be set all at once.
    pub const NORESIZE: u32 = 8;
}

/// Numbers of a PCI device's kinds of interrupts.
pub mod irq {
    /// MSI-X.
    pub const MSIX: u32 = 2;
    /// Errors of the bus.
    pub const ERR: u32 = 3;
    /// How many kinds a PCI device has: INTx, MSI, MSI-X, errors, requests.
    pub const COUNT: u32 = 5;
}

/// Begins the payload of [`Command::DEVICE_SET_IRQS`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SetIrqs {
    /// Bytes of this payload, data included.
    pub argsz: U32,
    /// One `DATA_*` and one `ACTION_*`.
    pub flags: U32,
    /// Which kind; [`irq`].
    pub index: U32,
    /// First vector.
    pub start: U32,
    /// Vectors. 0 with [`SetIrqs::DATA_NONE`] and [`SetIrqs::ACTION_TRIGGER`] takes all vectors back.
    pub count: U32,
}

impl SetIrqs {
    /// No data: for all vectors of the range.
    pub const DATA_NONE: u32 = 1;
    /// A byte per vector.
    pub const DATA_BOOL: u32 = 2;
    /// Eventfds beside the message, one per vector; none at all takes the range back.
    pub const DATA_EVENTFD: u32 = 4;
    /// Mask.
    pub const ACTION_MASK: u32 = 8;
    /// Unmask.
    pub const ACTION_UNMASK: u32 = 16;
    /// Set or fire.
    pub const ACTION_TRIGGER: u32 = 32;
}

/// Begins the payload of [`Command::REGION_READ`] and [`Command::REGION_WRITE`] and of their answers; data follow a write
/// and the answer to a read.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RegionAccess {
    /// Where in the region, bytes.
    pub offset: U64,
    /// Which; [`region`].
    pub region: U32,
    /// Bytes.
    pub count: U32,
}
