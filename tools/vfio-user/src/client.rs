//! The user's side: calls that return, or fail within their time.

use crate::message::{
    Command, DmaMap, DmaUnmap, GetInfo, HEADER, Header, IrqInfo, RegionAccess, RegionInfo, SetIrqs, flags,
};
use crate::transport::{Message, Socket, TransportError};
use crate::version::{Limits, VersionError};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Why a call failed. After a transport error the connection is of no use, and every later call fails at once.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("cannot connect to {path}: {error}")]
    Connect {
        /// Where.
        path: String,
        /// Why not.
        error: std::io::Error,
    },
    /// A message did not come or go.
    #[error("{command}: {error}")]
    Transport {
        /// The call.
        command: Command,
        /// What happened.
        error: TransportError,
    },
    /// The two sides cannot speak.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The server refused.
    #[error("{command} was refused: {text}", text = std::io::Error::from_raw_os_error(*errno as i32))]
    Refused {
        /// The call.
        command: Command,
        /// The server's error number.
        errno: u32,
    },
    /// The answer is not one to the question.
    #[error("{command}: {what}")]
    Protocol {
        /// The call.
        command: Command,
        /// What is wrong with the answer.
        what: String,
    },
    /// The connection failed before.
    #[error("{0}: the connection has failed before")]
    Broken(Command),
}

/// What the device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// [`Client::reset`] works.
    pub resettable: bool,
    /// Number of regions.
    pub regions: u32,
    /// Number of kinds of interrupts.
    pub irqs: u32,
}

/// A connection to a device.
#[derive(Debug)]
pub struct Client {
    socket: Socket,
    patience: Duration,
    limits: Limits,
    next: u16,
    payload: Vec<u8>,
    broken: bool,
}

impl Client {
    /// Connects to the server at `path` and negotiates. Every call, this one too, takes at most about `patience`.
    pub fn connect(path: &Path, patience: Duration) -> Result<Client, ClientError> {
        let connect = |error| ClientError::Connect { path: path.display().to_string(), error };
        let socket = UnixStream::connect(path).and_then(|stream| Socket::new(stream, patience)).map_err(connect)?;
        let limits = Limits { fds: 1, transfer: 0 };
        let mut client = Client { socket, patience, limits, next: 0, payload: Vec::new(), broken: false };
        client.call(Command::VERSION, &Limits::OURS.encode(), &[], &[])?;
        client.limits = Limits::OURS.common(Limits::decode(&client.payload)?);
        Ok(client)
    }

    /// What both sides accept.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    fn header(&mut self, command: Command, flags: u32) -> Header {
        self.next = self.next.wrapping_add(1);
        Header { id: self.next.into(), command: command.0.into(), size: 0.into(), flags: flags.into(), error: 0.into() }
    }

    /// Asks, and waits for the answer, whose payload is then in `self.payload`.
    fn call(&mut self, command: Command, fixed: &[u8], data: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        if self.broken {
            return Err(ClientError::Broken(command));
        }
        let outcome = self.exchange(command, fixed, data, fds);
        self.broken |= matches!(outcome, Err(ClientError::Transport { .. } | ClientError::Protocol { .. }));
        outcome
    }

    fn exchange(
        &mut self,
        command: Command,
        fixed: &[u8],
        data: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ClientError> {
        let failed = |error| ClientError::Transport { command, error };
        let question = self.header(command, flags::COMMAND);
        self.socket.send(question, [fixed, data], fds).map_err(failed)?;
        let deadline = Instant::now() + self.patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let most = Limits::OURS.message();
            let Message { header, fds } = self.socket.receive(&mut self.payload, most, left).map_err(failed)?;
            drop(fds);
            if header.flags.get() & flags::TYPE == flags::COMMAND {
                // A server may ask to have memory read or written for it. All memory here comes with its file, so it is
                // told that this is not offered.
                let refusal = Header {
                    flags: (flags::REPLY | flags::ERROR).into(),
                    error: crate::Errno::OPNOTSUPP.0.into(),
                    ..header
                };
                self.socket.send(refusal, [&[], &[]], &[]).map_err(failed)?;
                continue;
            }
            if (header.id, header.command) != (question.id, question.command) {
                let what = format!("an answer to {} number {}", Command(header.command.get()), header.id);
                return Err(ClientError::Protocol { command, what });
            }
            return match header.flags.get() & flags::ERROR {
                0 => Ok(()),
                _ => Err(ClientError::Refused { command, errno: header.error.get() }),
            };
        }
    }

    /// The fixed part of the last answer.
    fn fixed<T: FromBytes + KnownLayout + Immutable + Unaligned>(&self, command: Command) -> Result<T, ClientError> {
        T::read_from_prefix(&self.payload).map(|(fixed, _)| fixed).map_err(|_| {
            let what = format!("an answer of {} bytes", HEADER + self.payload.len());
            ClientError::Protocol { command, what }
        })
    }

    /// What the device is.
    pub fn device_info(&mut self) -> Result<DeviceInfo, ClientError> {
        let size = (size_of::<GetInfo>() as u32).into();
        let ask = GetInfo { argsz: size, flags: 0.into(), regions: 0.into(), irqs: 0.into() };
        self.call(Command::DEVICE_GET_INFO, ask.as_bytes(), &[], &[])?;
        let info: GetInfo = self.fixed(Command::DEVICE_GET_INFO)?;
        let resettable = info.flags.get() & GetInfo::RESET != 0;
        Ok(DeviceInfo { resettable, regions: info.regions.get(), irqs: info.irqs.get() })
    }

    /// Bytes of a region; 0 if there is none.
    pub fn region_size(&mut self, index: u32) -> Result<u64, ClientError> {
        let ask = RegionInfo {
            argsz: (size_of::<RegionInfo>() as u32).into(),
            flags: 0.into(),
            index: index.into(),
            cap_offset: 0.into(),
            size: 0.into(),
            offset: 0.into(),
        };
        self.call(Command::DEVICE_GET_REGION_INFO, ask.as_bytes(), &[], &[])?;
        Ok(self.fixed::<RegionInfo>(Command::DEVICE_GET_REGION_INFO)?.size.get())
    }

    /// Vectors of a kind of interrupts.
    pub fn irq_count(&mut self, index: u32) -> Result<u32, ClientError> {
        let size = (size_of::<IrqInfo>() as u32).into();
        let ask = IrqInfo { argsz: size, flags: 0.into(), index: index.into(), count: 0.into() };
        self.call(Command::DEVICE_GET_IRQ_INFO, ask.as_bytes(), &[], &[])?;
        Ok(self.fixed::<IrqInfo>(Command::DEVICE_GET_IRQ_INFO)?.count.get())
    }

    /// Reads `data.len()` bytes of a region.
    pub fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), ClientError> {
        let command = Command::REGION_READ;
        let ask = RegionAccess { offset: offset.into(), region: region.into(), count: (data.len() as u32).into() };
        self.call(command, ask.as_bytes(), &[], &[])?;
        match self.payload.get(size_of::<RegionAccess>()..) {
            Some(read) if read.len() == data.len() => {
                data.copy_from_slice(read);
                Ok(())
            }
            _ => {
                self.broken = true;
                let what = format!("an answer of {} bytes to a read of {}", HEADER + self.payload.len(), data.len());
                Err(ClientError::Protocol { command, what })
            }
        }
    }

    /// Writes bytes of a region, and waits until they are written.
    pub fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        let ask = RegionAccess { offset: offset.into(), region: region.into(), count: (data.len() as u32).into() };
        self.call(Command::REGION_WRITE, ask.as_bytes(), data, &[])
    }

    /// Writes bytes of a region without waiting, as a posted write of PCIe: whatever is read later is read after it.
    pub fn post(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        let command = Command::REGION_WRITE;
        if self.broken {
            return Err(ClientError::Broken(command));
        }
        let ask = RegionAccess { offset: offset.into(), region: region.into(), count: (data.len() as u32).into() };
        let header = self.header(command, flags::COMMAND | flags::NO_REPLY);
        let sent = self.socket.send(header, [ask.as_bytes(), data], &[]);
        self.broken |= sent.is_err();
        sent.map_err(|error| ClientError::Transport { command, error })
    }

    /// Lends memory to the device, for reading and writing: `len` bytes of `file` from `offset`, at `iova`.
    pub fn map(&mut self, iova: u64, len: u64, file: BorrowedFd<'_>, offset: u64) -> Result<(), ClientError> {
        let map = DmaMap {
            argsz: (size_of::<DmaMap>() as u32).into(),
            flags: (DmaMap::READ | DmaMap::WRITE).into(),
            offset: offset.into(),
            address: iova.into(),
            size: len.into(),
        };
        self.call(Command::DMA_MAP, map.as_bytes(), &[], &[file])
    }

    /// Takes memory back; when this returns, the device does not touch it any more.
    pub fn unmap(&mut self, iova: u64, len: u64) -> Result<(), ClientError> {
        let size = (size_of::<DmaUnmap>() as u32).into();
        let unmap = DmaUnmap { argsz: size, flags: 0.into(), address: iova.into(), size: len.into() };
        self.call(Command::DMA_UNMAP, unmap.as_bytes(), &[], &[])
    }

    /// Has vectors `start..` of a kind signalled through `eventfds`, in as many messages as the server's limit asks for.
    pub fn set_irqs(&mut self, index: u32, start: u32, eventfds: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        let mut first = start;
        for part in eventfds.chunks(self.limits().fds.max(1)) {
            let set = SetIrqs {
                argsz: (size_of::<SetIrqs>() as u32).into(),
                flags: (SetIrqs::ACTION_TRIGGER | SetIrqs::DATA_EVENTFD).into(),
                index: index.into(),
                start: first.into(),
                count: (part.len() as u32).into(),
            };
            self.call(Command::DEVICE_SET_IRQS, set.as_bytes(), &[], part)?;
            first += part.len() as u32;
        }
        Ok(())
    }

    /// Takes all vectors of a kind back.
    pub fn clear_irqs(&mut self, index: u32) -> Result<(), ClientError> {
        let set = SetIrqs {
            argsz: (size_of::<SetIrqs>() as u32).into(),
            flags: (SetIrqs::ACTION_TRIGGER | SetIrqs::DATA_NONE).into(),
            index: index.into(),
            start: 0.into(),
            count: 0.into(),
        };
        self.call(Command::DEVICE_SET_IRQS, set.as_bytes(), &[], &[])
    }

    /// Function-level reset.
    pub fn reset(&mut self) -> Result<(), ClientError> {
        self.call(Command::DEVICE_RESET, &[], &[], &[])
    }
}
