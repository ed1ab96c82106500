//! Whole messages over a unix stream socket, with the file descriptors that come beside them.

use crate::message::{HEADER, Header, flags};
use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, IntoBytes};

/// File descriptors that one message may bring. A ConnectX has 64 vectors, and they may be set in one message.
pub const MAX_FDS: usize = 64;

/// Why a message did not come or go. After each of these but [`TransportError::Idle`] the connection is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Nothing has arrived.
    #[error("nothing has arrived within {0:?}")]
    Idle(Duration),
    /// The other side has closed the connection.
    #[error("the connection was closed{}", if *.within { " in the middle of a message" } else { "" })]
    Closed {
        /// A message had begun.
        within: bool,
    },
    /// A message that began did not end, or could not be handed over.
    #[error("a message is not through after {0:?}")]
    Late(Duration),
    /// A header that cannot be.
    #[error("a message of {size} bytes; allowed is {HEADER} to {most}")]
    Size {
        /// What the header says.
        size: u32,
        /// What this side accepts.
        most: usize,
    },
    /// More file descriptors than this side accepts.
    #[error("a message with more than {MAX_FDS} file descriptors")]
    TooManyFds,
    /// The system.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

impl From<Errno> for TransportError {
    fn from(errno: Errno) -> TransportError {
        match errno {
            Errno::PIPE | Errno::CONNRESET => TransportError::Closed { within: false },
            errno => TransportError::System(errno.into()),
        }
    }
}

/// A message that arrived.
#[derive(Debug)]
pub struct Message {
    /// Its header.
    pub header: Header,
    /// What came beside it.
    pub fds: Vec<OwnedFd>,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Socket {
    stream: UnixStream,
    /// How long a message that has begun may take.
    patience: Duration,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Socket {
    /// Wraps a connected socket. A message that has begun must be through within `patience`.
    pub fn new(stream: UnixStream, patience: Duration) -> std::io::Result<Socket> {
        stream.set_nonblocking(true)?;
        Ok(Socket { stream, patience })
    }

    /// Waits until the socket is ready for `what`; false if that took until `deadline`.
    fn wait(&self, what: PollFlags, deadline: Instant) -> Result<bool, TransportError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let time = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let mut fds = [PollFd::new(&self.stream, what)];
            match poll(&mut fds, Some(&time)) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Receives a message whose first byte arrives within `idle`; its payload, of at most `most - 16` bytes, replaces what
    /// is in `payload`.
    pub fn receive(&self, payload: &mut Vec<u8>, most: usize, idle: Duration) -> Result<Message, TransportError> {
        let mut header = [0; HEADER];
        let mut fds = Vec::new();
        let first = Instant::now().checked_add(idle).unwrap_or_else(|| Instant::now() + Duration::from_secs(1 << 30));
        if !self.wait(PollFlags::IN, first)? {
            return Err(TransportError::Idle(idle));
        }
        let deadline = Instant::now() + self.patience;
        self.fill(&mut header, &mut fds, deadline, false)?;
        // The types are unaligned and any bytes are a header.
        let header = Header::read_from_bytes(&header).map_err(|_| TransportError::Closed { within: true })?;
        let size = header.size.get();
        if !(HEADER..=most).contains(&(size as usize)) {
            return Err(TransportError::Size { size, most });
        }
        payload.clear();
        payload.resize(size as usize - HEADER, 0);
        self.fill(payload, &mut fds, deadline, true)?;
        Ok(Message { header, fds })
    }

    fn fill(
        &self,
        out: &mut [u8],
        fds: &mut Vec<OwnedFd>,
        deadline: Instant,
        within: bool,
    ) -> Result<(), TransportError> {
        let mut filled = 0;
        while filled < out.len() {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut out[filled..])];
            let received = match recvmsg(&self.stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => received,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => match self.wait(PollFlags::IN, deadline)? {
                    true => continue,
                    false => return Err(TransportError::Late(self.patience)),
                },
                Err(errno) => return Err(errno.into()),
            };
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    fds.extend(rights);
                }
            }
            if received.flags.contains(rustix::net::ReturnFlags::CTRUNC) || fds.len() > MAX_FDS {
                return Err(TransportError::TooManyFds);
            }
            if received.bytes == 0 {
                return Err(TransportError::Closed { within: within || filled != 0 });
            }
            filled += received.bytes;
        }
        Ok(())
    }

    /// Sends a message: `payload` in two pieces, with `fds` beside it. The header's size is filled in.
    pub fn send(&self, mut header: Header, payload: [&[u8]; 2], fds: &[BorrowedFd<'_>]) -> Result<(), TransportError> {
        let size = HEADER + payload.iter().map(|part| part.len()).sum::<usize>();
        header.size =
            u32::try_from(size).map_err(|_| TransportError::Size { size: u32::MAX, most: u32::MAX as usize })?.into();
        let deadline = Instant::now() + self.patience;
        let header = header.as_bytes();
        let mut sent = 0;
        while sent < size {
            let mut skip = sent;
            let mut parts = [IoSlice::new(&[]), IoSlice::new(&[]), IoSlice::new(&[])];
            for (slot, part) in parts.iter_mut().zip(std::iter::once(&header).chain(&payload)) {
                let cut = skip.min(part.len());
                *slot = IoSlice::new(&part[cut..]);
                skip -= cut;
            }
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            // File descriptors belong to the first byte.
            if sent == 0 && !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
                return Err(TransportError::TooManyFds);
            }
            match sendmsg(&self.stream, &parts, &mut control, SendFlags::NOSIGNAL) {
                Ok(bytes) => sent += bytes,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !self.wait(PollFlags::OUT, deadline)? {
                        return Err(TransportError::Late(self.patience));
                    }
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

impl Header {
    /// The header of the answer to this message.
    pub(crate) fn reply(&self) -> Header {
        Header { flags: flags::REPLY.into(), error: 0.into(), ..*self }
    }
}
