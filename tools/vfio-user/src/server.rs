//! The device's side: one client at a time.

use crate::message::{
    Command, DmaMap, DmaUnmap, GetInfo, Header, IrqInfo, RegionAccess, RegionInfo, SetIrqs, flags, irq, region,
};
use crate::transport::{Message, Socket, TransportError};
use crate::version::{Limits, VersionError};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// How long a message that has begun may take: QEMU itself waits 5 s for an answer (`virtual-hil.md` §6).
const PATIENCE: Duration = Duration::from_secs(5);

/// An error number, as the kernel's VFIO gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub u32);

impl Errno {
    /// No such region, vector or mapping.
    pub const NOENT: Errno = Errno(2);
    /// The device failed.
    pub const IO: Errno = Errno(5);
    /// No memory.
    pub const NOMEM: Errno = Errno(12);
    /// It is there already.
    pub const EXIST: Errno = Errno(17);
    /// The request cannot be.
    pub const INVAL: Errno = Errno(22);
    /// Not offered.
    pub const OPNOTSUPP: Errno = Errno(95);
}

/// A region as the client sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// Bytes; 0 if there is none.
    pub size: u64,
    /// It can be written too.
    pub writable: bool,
}

/// Interrupts of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Irq {
    /// How many; 0 if the device has none of this kind.
    pub count: u32,
}

/// What a device has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// By index ([`region`]).
    pub regions: [Region; region::COUNT as usize],
    /// By index ([`irq`]).
    pub irqs: [Irq; irq::COUNT as usize],
}

/// Memory that the client lends.
#[derive(Debug)]
pub struct Mapping {
    /// First I/O virtual address.
    pub iova: u64,
    /// Bytes; not 0, and the last address exists.
    pub len: u64,
    /// The file that it is in. `None`: the client gives no access to it.
    pub file: Option<File>,
    /// Where in the file it begins, bytes.
    pub offset: u64,
    /// The device may read.
    pub readable: bool,
    /// The device may write.
    pub writable: bool,
}

/// What is to become of interrupts.
#[derive(Debug)]
pub enum IrqAction {
    /// Vector `start + n` is signalled through the n-th eventfd from now on.
    Set(Vec<OwnedFd>),
    /// The vectors are signalled to nobody.
    Clear,
    /// Fire the vectors, as if the device had: a test of the client's.
    Fire,
    /// Mask or unmask them; devices here do not.
    Mask(bool),
}

/// A change to interrupts of one kind; the range lies within their number.
#[derive(Debug)]
pub struct IrqChange {
    /// Which kind.
    pub index: u32,
    /// First vector.
    pub start: u32,
    /// Vectors.
    pub count: u32,
    /// What.
    pub action: IrqAction,
}

/// A device that a [`Server`] serves. Everything that arrives here was checked against its [`Shape`].
pub trait Device {
    /// What it has; the same at every call.
    fn shape(&self) -> Shape;

    /// Reads `data.len()` bytes of a region, all inside it.
    fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno>;

    /// Writes bytes of a region, all inside it.
    fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), Errno>;

    /// The client lends memory.
    fn map(&mut self, mapping: Mapping) -> Result<(), Errno>;

    /// The client takes a range of addresses back: many mappings, parts of some, or none.
    fn unmap(&mut self, iova: u64, len: u64) -> Result<(), Errno>;

    /// The client takes all memory back.
    fn unmap_all(&mut self);

    /// Where interrupts go.
    fn set_irqs(&mut self, change: IrqChange) -> Result<(), Errno>;

    /// Function-level reset.
    fn reset(&mut self) -> Result<(), Errno>;
}

/// What came of looking for a message.
#[derive(Debug)]
#[must_use = "a client may have gone"]
pub enum Served {
    /// Nothing arrived within the time.
    Idle,
    /// A message was served.
    Message(Command),
    /// A client has connected.
    Connected,
    /// The client is gone: because it closed the connection, or for this reason. Its memory and its interrupts were
    /// taken from the device; another may connect.
    Gone(Option<ServeError>),
}

/// Why a client was given up.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A message did not come or go.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The two sides cannot speak.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// A message that cannot be answered.
    #[error("{0}")]
    Protocol(String),
}

/// Serves one device on a unix socket, to one client after the other.
///
/// It has no thread: poll [`Server::as_fd`](AsFd) for input, and call [`Server::serve`].
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    client: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    socket: Socket,
    /// What both sides accept, once the client has said what it does.
    limits: Option<Limits>,
    payload: Vec<u8>,
    answer: Vec<u8>,
}

impl AsFd for Server {
    /// What becomes readable when there is something to serve.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.client {
            Some(client) => client.socket.as_fd(),
            None => self.listener.as_fd(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}

impl Server {
    /// Listens on `path`. A socket that nobody listens on any more is replaced.
    pub fn bind(path: &Path) -> std::io::Result<Server> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && UnixStream::connect(path).is_err() => {
                std::fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            bound => bound?,
        };
        listener.set_nonblocking(true)?;
        Ok(Server { listener, path: path.to_owned(), client: None })
    }

    /// True if a client is connected.
    pub fn has_client(&self) -> bool {
        self.client.is_some()
    }

    /// Serves one message if it begins to arrive within `idle`, or takes a client if there is none.
    pub fn serve(&mut self, device: &mut impl Device, idle: Duration) -> Served {
        let Some(client) = &mut self.client else { return self.accept(idle) };
        match client.serve(device, idle) {
            Ok(command) => Served::Message(command),
            Err(ServeError::Transport(TransportError::Idle(_))) => Served::Idle,
            Err(why) => {
                self.client = None;
                device.unmap_all();
                for (index, irq) in device.shape().irqs.iter().enumerate().filter(|(_, irq)| irq.count != 0) {
                    let change =
                        IrqChange { index: index as u32, start: 0, count: irq.count, action: IrqAction::Clear };
                    if let Err(errno) = device.set_irqs(change) {
                        log::warn!("interrupts of a client that is gone: error {}", errno.0);
                    }
                }
                let orderly = matches!(why, ServeError::Transport(TransportError::Closed { within: false }));
                Served::Gone((!orderly).then_some(why))
            }
        }
    }

    fn accept(&mut self, idle: Duration) -> Served {
        let time = rustix::event::Timespec { tv_sec: idle.as_secs() as i64, tv_nsec: idle.subsec_nanos().into() };
        let mut fds = [rustix::event::PollFd::new(&self.listener, rustix::event::PollFlags::IN)];
        if !matches!(rustix::event::poll(&mut fds, Some(&time)), Ok(1..)) {
            return Served::Idle;
        }
        let socket = self.listener.accept().and_then(|(stream, _)| Socket::new(stream, PATIENCE));
        match socket {
            Ok(socket) => {
                self.client = Some(Connection { socket, limits: None, payload: Vec::new(), answer: Vec::new() });
                Served::Connected
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Served::Idle,
            Err(error) => Served::Gone(Some(TransportError::System(error).into())),
        }
    }
}

impl Connection {
    fn serve(&mut self, device: &mut impl Device, idle: Duration) -> Result<Command, ServeError> {
        let most = Limits::OURS.message();
        let Message { header, fds } = self.socket.receive(&mut self.payload, most, idle)?;
        let command = Command(header.command.get());
        if header.flags.get() & flags::TYPE != flags::COMMAND {
            return Err(ServeError::Protocol(format!("an answer to {command}, which nobody asked")));
        }
        let Some(limits) = self.limits else {
            if command != Command::VERSION {
                return Err(ServeError::Protocol(format!("{command} before VERSION")));
            }
            let limits = Limits::OURS.common(Limits::decode(&self.payload)?);
            self.limits = Some(limits);
            self.socket.send(header.reply(), [&limits.encode(), &[]], &[])?;
            return Ok(command);
        };
        self.answer.clear();
        let outcome = answer(device, command, &self.payload, fds, limits, &mut self.answer);
        if let Err(errno) = outcome {
            log::debug!("{command}: refused with error {}", errno.0);
        }
        if header.flags.get() & flags::NO_REPLY != 0 {
            return Ok(command);
        }
        match outcome {
            Ok(()) => self.socket.send(header.reply(), [&self.answer, &[]], &[])?,
            Err(errno) => {
                let flags = (flags::REPLY | flags::ERROR).into();
                self.socket.send(Header { flags, error: errno.0.into(), ..header }, [&[], &[]], &[])?;
            }
        }
        Ok(command)
    }
}

/// The fixed part of a payload, and what follows.
fn split<T: FromBytes + KnownLayout + Immutable + Unaligned>(payload: &[u8]) -> Result<(T, &[u8]), Errno> {
    T::read_from_prefix(payload).map_err(|_| Errno::INVAL)
}

/// Carries a command out and appends the payload of its answer.
fn answer(
    device: &mut impl Device,
    command: Command,
    payload: &[u8],
    fds: Vec<OwnedFd>,
    limits: Limits,
    out: &mut Vec<u8>,
) -> Result<(), Errno> {
    match command {
        Command::DMA_MAP => {
            let (map, _) = split::<DmaMap>(payload)?;
            let (iova, len) = (map.address.get(), map.size.get());
            let known = DmaMap::READ | DmaMap::WRITE;
            let whole = len != 0 && iova.checked_add(len - 1).is_some() && map.offset.get().checked_add(len).is_some();
            if !whole || map.flags.get() & !known != 0 || fds.len() > 1 {
                return Err(Errno::INVAL);
            }
            device.map(Mapping {
                iova,
                len,
                file: fds.into_iter().next().map(File::from),
                offset: map.offset.get(),
                readable: map.flags.get() & DmaMap::READ != 0,
                writable: map.flags.get() & DmaMap::WRITE != 0,
            })
        }
        Command::DMA_UNMAP => {
            let (unmap, _) = split::<DmaUnmap>(payload)?;
            match unmap.flags.get() {
                0 if unmap.size.get() == 0 => return Err(Errno::INVAL),
                0 => device.unmap(unmap.address.get(), unmap.size.get())?,
                DmaUnmap::ALL => device.unmap_all(),
                _ => return Err(Errno::OPNOTSUPP),
            }
            out.extend_from_slice(unmap.as_bytes());
            Ok(())
        }
        Command::DEVICE_GET_INFO => {
            let size = size_of::<GetInfo>() as u32;
            let flags = (GetInfo::RESET | GetInfo::PCI).into();
            let info = GetInfo { argsz: size.into(), flags, regions: region::COUNT.into(), irqs: irq::COUNT.into() };
            out.extend_from_slice(info.as_bytes());
            Ok(())
        }
        Command::DEVICE_GET_REGION_INFO => {
            let (asked, _) = split::<RegionInfo>(payload)?;
            let shape = device.shape();
            let region = shape.regions.get(asked.index.get() as usize).ok_or(Errno::INVAL)?;
            let read = if region.size != 0 { RegionInfo::READ } else { 0 };
            let write = if region.writable { RegionInfo::WRITE } else { 0 };
            let info = RegionInfo {
                argsz: (size_of::<RegionInfo>() as u32).into(),
                flags: (read | write).into(),
                index: asked.index,
                cap_offset: 0.into(),
                size: region.size.into(),
                offset: 0.into(),
            };
            out.extend_from_slice(info.as_bytes());
            Ok(())
        }
        Command::DEVICE_GET_IRQ_INFO => {
            let (asked, _) = split::<IrqInfo>(payload)?;
            let shape = device.shape();
            let irq = shape.irqs.get(asked.index.get() as usize).ok_or(Errno::INVAL)?;
            let flags = if irq.count != 0 { IrqInfo::EVENTFD } else { 0 };
            let info = IrqInfo { argsz: asked.argsz, flags: flags.into(), index: asked.index, count: irq.count.into() };
            out.extend_from_slice(info.as_bytes());
            Ok(())
        }
        Command::DEVICE_SET_IRQS => set_irqs(device, payload, fds),
        Command::REGION_READ => {
            let (access, _) = split::<RegionAccess>(payload)?;
            check(device, &access, false)?;
            if access.count.get() as usize > limits.transfer {
                return Err(Errno::INVAL);
            }
            out.extend_from_slice(access.as_bytes());
            let at = out.len();
            out.resize(at + access.count.get() as usize, 0);
            device.read(access.region.get(), access.offset.get(), &mut out[at..])
        }
        Command::REGION_WRITE => {
            let (access, data) = split::<RegionAccess>(payload)?;
            check(device, &access, true)?;
            if data.len() != access.count.get() as usize {
                return Err(Errno::INVAL);
            }
            out.extend_from_slice(access.as_bytes());
            device.write(access.region.get(), access.offset.get(), data)
        }
        Command::DEVICE_RESET => device.reset(),
        _ => Err(Errno::OPNOTSUPP),
    }
}

/// An access that is not inside its region never reaches the device.
fn check(device: &impl Device, access: &RegionAccess, write: bool) -> Result<(), Errno> {
    let shape = device.shape();
    let region = shape.regions.get(access.region.get() as usize).ok_or(Errno::INVAL)?;
    let end = access.offset.get().checked_add(access.count.get().into()).ok_or(Errno::INVAL)?;
    if access.count.get() == 0 || end > region.size || (write && !region.writable) {
        return Err(Errno::INVAL);
    }
    Ok(())
}

fn set_irqs(device: &mut impl Device, payload: &[u8], fds: Vec<OwnedFd>) -> Result<(), Errno> {
    let (set, _) = split::<SetIrqs>(payload)?;
    let (index, start, count) = (set.index.get(), set.start.get(), set.count.get());
    let shape = device.shape();
    let all = shape.irqs.get(index as usize).ok_or(Errno::INVAL)?.count;
    if start.checked_add(count).is_none_or(|end| end > all) {
        return Err(Errno::INVAL);
    }
    const DATA: u32 = SetIrqs::DATA_NONE | SetIrqs::DATA_BOOL | SetIrqs::DATA_EVENTFD;
    const TRIGGER_FD: u32 = SetIrqs::ACTION_TRIGGER | SetIrqs::DATA_EVENTFD;
    const TRIGGER_NONE: u32 = SetIrqs::ACTION_TRIGGER | SetIrqs::DATA_NONE;
    let action = match set.flags.get() {
        TRIGGER_NONE if count == 0 => {
            return device.set_irqs(IrqChange { index, start: 0, count: all, action: IrqAction::Clear });
        }
        TRIGGER_NONE => IrqAction::Fire,
        TRIGGER_FD if fds.is_empty() => IrqAction::Clear,
        TRIGGER_FD if fds.len() == count as usize => IrqAction::Set(fds),
        flags if flags & !DATA == SetIrqs::ACTION_MASK => IrqAction::Mask(true),
        flags if flags & !DATA == SetIrqs::ACTION_UNMASK => IrqAction::Mask(false),
        _ => return Err(Errno::INVAL),
    };
    device.set_irqs(IrqChange { index, start, count, action })
}
