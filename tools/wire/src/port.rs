//! The end of a wire that leads to another process.
//!
//! | written as | what |
//! |---|---|
//! | `dgram:LOCAL,REMOTE` | a unix datagram socket bound to LOCAL, frames to REMOTE: QEMU's `-netdev dgram` with the two turned round; one datagram is one frame, either side may start first (`virtual-hil.md` §9) |
//! | `listen:PATH`, `connect:PATH` | a unix stream socket, 4 bytes of length (big-endian) before each frame: QEMU's `-netdev stream` |
//! | `tap:NAME` | a TAP interface of the kernel |
//!
//! A wire never blocks whoever writes to it: what the other side does not take waits in a queue of bounded size, and beyond
//! that frames are lost, as on a wire, and counted.

use crate::tap;
use rustix::event::{PollFd, PollFlags};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Bytes of the largest frame: QEMU's limit, and more than any MTU.
pub const MAX_FRAME: usize = 65_536;
/// Bytes of frames that wait for the other side.
const BACKLOG: usize = 16 << 20;
/// Bytes before a frame on a stream.
const PREFIX: usize = 4;

/// What a port is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Datagrams from one path to another.
    Datagram {
        /// Where this side listens.
        local: PathBuf,
        /// Where the other does.
        remote: PathBuf,
    },
    /// A stream; this side listens.
    Listen(PathBuf),
    /// A stream; the other side listens.
    Connect(PathBuf),
    /// A TAP interface.
    Tap(String),
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        const HOW: &str = "give dgram:LOCAL,REMOTE or listen:PATH or connect:PATH or tap:NAME";
        let (kind, rest) = text.split_once(':').ok_or_else(|| format!("{text:?} is no wire: {HOW}"))?;
        if rest.is_empty() {
            return Err(format!("{text:?} names nothing: {HOW}"));
        }
        match kind {
            "dgram" => match rest.split_once(',') {
                Some((local, remote)) if !local.is_empty() && !remote.is_empty() => {
                    Ok(Kind::Datagram { local: local.into(), remote: remote.into() })
                }
                _ => Err(format!("{text:?} needs two paths: dgram:LOCAL,REMOTE")),
            },
            "listen" => Ok(Kind::Listen(rest.into())),
            "connect" => Ok(Kind::Connect(rest.into())),
            "tap" => Ok(Kind::Tap(rest.into())),
            _ => Err(format!("{kind:?} is no kind of wire: {HOW}")),
        }
    }
}

/// A port that could not be opened.
#[derive(Debug)]
pub struct PortError {
    what: String,
    error: io::Error,
}

impl std::fmt::Display for PortError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

impl std::error::Error for PortError {}

/// What went through a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Frames sent.
    pub sent: u64,
    /// Frames received.
    pub received: u64,
    /// Frames that the other side did not take in time.
    pub overflowed: u64,
    /// Frames while nobody was at the other end.
    pub nobody: u64,
    /// Messages that are no frame: too long, or empty.
    pub malformed: u64,
    /// Times the other side has gone.
    pub disconnects: u64,
}

#[derive(Debug)]
enum Line {
    Datagram { socket: UnixDatagram, local: PathBuf, remote: PathBuf },
    Stream { listener: Option<(UnixListener, PathBuf)>, stream: Option<Stream> },
    Tap(File),
}

#[derive(Debug)]
struct Stream {
    stream: UnixStream,
    /// What has arrived of frames that are not whole.
    arrived: Vec<u8>,
    /// What was written of the first frame that waits.
    written: usize,
}

/// The end of a wire to another process.
#[derive(Debug)]
pub struct Port {
    line: Line,
    /// Frames that wait for the other side, as they go out.
    backlog: VecDeque<Vec<u8>>,
    backlog_bytes: usize,
    counters: PortCounters,
    /// Where messages arrive: a frame has no more bytes than its message, and these need not be cleared for each.
    message: Box<[u8]>,
}

/// Removes a socket that nobody listens on any more.
fn remove_stale(path: &Path) {
    if UnixStream::connect(path).is_err() && UnixDatagram::unbound().and_then(|s| s.connect(path)).is_err() {
        let _ = std::fs::remove_file(path);
    }
}

impl Port {
    /// Opens a port.
    pub fn open(kind: &Kind) -> Result<Port, PortError> {
        let named = |what: String| move |error| PortError { what, error };
        let line = match kind {
            Kind::Datagram { local, remote } => {
                remove_stale(local);
                let socket =
                    UnixDatagram::bind(local).map_err(named(format!("cannot listen on {}", local.display())))?;
                socket.set_nonblocking(true).map_err(named("a socket".into()))?;
                Line::Datagram { socket, local: local.clone(), remote: remote.clone() }
            }
            Kind::Listen(path) => {
                remove_stale(path);
                let listener =
                    UnixListener::bind(path).map_err(named(format!("cannot listen on {}", path.display())))?;
                listener.set_nonblocking(true).map_err(named("a socket".into()))?;
                Line::Stream { listener: Some((listener, path.clone())), stream: None }
            }
            Kind::Connect(path) => {
                let stream =
                    UnixStream::connect(path).map_err(named(format!("cannot connect to {}", path.display())))?;
                Line::Stream { listener: None, stream: Some(Stream::new(stream).map_err(named("a socket".into()))?) }
            }
            Kind::Tap(name) => Line::Tap(tap::open(name).map_err(named(format!(
                "cannot open TAP interface {name} (it needs CAP_NET_ADMIN, or an interface that was made for this user)"
            )))?),
        };
        let message = vec![0; MAX_FRAME + 1].into();
        Ok(Port { line, backlog: VecDeque::new(), backlog_bytes: 0, counters: PortCounters::default(), message })
    }

    /// What to poll for: input always, output while frames wait.
    pub fn poll_fd(&self) -> Option<PollFd<'_>> {
        let mut events = PollFlags::IN;
        // A full datagram socket cannot be polled for the other side's room; whoever polls looks again soon.
        if !self.backlog.is_empty() && !matches!(self.line, Line::Datagram { .. }) {
            events |= PollFlags::OUT;
        }
        let fd = match &self.line {
            Line::Datagram { socket, .. } => socket.as_fd(),
            Line::Stream { stream: Some(stream), .. } => stream.stream.as_fd(),
            Line::Stream { listener: Some((listener, _)), stream: None } => listener.as_fd(),
            Line::Stream { listener: None, stream: None } => return None,
            Line::Tap(file) => file.as_fd(),
        };
        Some(PollFd::from_borrowed_fd(fd, events))
    }

    /// True if frames wait for the other side.
    pub fn is_congested(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// What went through so far.
    pub fn counters(&self) -> PortCounters {
        self.counters
    }

    /// Sends a frame, now or when the other side takes it.
    pub fn send(&mut self, frame: &[u8]) {
        if frame.is_empty() || frame.len() > MAX_FRAME {
            self.counters.malformed += 1;
            return;
        }
        if let Line::Stream { stream: None, .. } = self.line {
            self.counters.nobody += 1;
            return;
        }
        if self.backlog_bytes + frame.len() > BACKLOG {
            self.flush();
        }
        if self.backlog_bytes + frame.len() > BACKLOG {
            self.counters.overflowed += 1;
            return;
        }
        let mut bytes = Vec::with_capacity(PREFIX + frame.len());
        if matches!(self.line, Line::Stream { .. }) {
            bytes.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        }
        bytes.extend_from_slice(frame);
        self.backlog_bytes += bytes.len();
        self.backlog.push_back(bytes);
        self.flush();
    }

    /// Hands over what the other side takes now.
    pub fn flush(&mut self) {
        while let Some(bytes) = self.backlog.front() {
            let sent = match &mut self.line {
                Line::Datagram { socket, remote, .. } => socket.send_to(bytes, remote).map(|_| true),
                Line::Tap(file) => file.write(bytes).map(|_| true),
                Line::Stream { stream: Some(stream), .. } => stream.write(bytes),
                Line::Stream { stream: None, .. } => Err(ErrorKind::NotConnected.into()),
            };
            match sent {
                Ok(true) => self.counters.sent += 1,
                Ok(false) => continue,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock) || error.raw_os_error() == Some(ENOBUFS) =>
                {
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // A datagram's other side that is not there yet is a cable that is not plugged in.
                Err(error) => {
                    log::trace!("a frame has nowhere to go: {error}");
                    self.counters.nobody += 1;
                    if matches!(self.line, Line::Stream { .. }) {
                        return self.disconnected();
                    }
                }
            }
            if let Some(bytes) = self.backlog.pop_front() {
                self.backlog_bytes -= bytes.len();
            }
        }
    }

    fn disconnected(&mut self) {
        if let Line::Stream { stream, .. } = &mut self.line
            && stream.take().is_some()
        {
            self.counters.disconnects += 1;
        }
        self.backlog.clear();
        self.backlog_bytes = 0;
    }

    /// Takes the next frame that has arrived into `frame`; false if there is none.
    pub fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        loop {
            let received = match &mut self.line {
                Line::Datagram { socket, .. } => whole(&mut self.message, frame, |bytes| socket.recv(bytes)),
                Line::Tap(file) => whole(&mut self.message, frame, |bytes| file.read(bytes)),
                Line::Stream { listener, stream: slot @ None } => {
                    let Some((listener, _)) = listener else { return false };
                    match listener.accept().and_then(|(stream, _)| Stream::new(stream)) {
                        Ok(stream) => *slot = Some(stream),
                        Err(error) => {
                            if error.kind() != ErrorKind::WouldBlock {
                                log::warn!("a wire's other end could not be accepted: {error}");
                            }
                            return false;
                        }
                    }
                    continue;
                }
                Line::Stream { stream: Some(stream), .. } => stream.read(frame),
            };
            match received {
                Ok(true) => {
                    self.counters.received += 1;
                    return true;
                }
                Ok(false) => self.counters.malformed += 1,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => {
                    log::debug!("a wire's other end is gone: {error}");
                    let was_connected = matches!(self.line, Line::Stream { stream: Some(_), .. });
                    self.disconnected();
                    if !was_connected {
                        return false;
                    }
                }
            }
        }
    }
}

/// `ENOBUFS`: a datagram socket's other side is full.
const ENOBUFS: i32 = 105;

/// Reads one message as a frame; false if it cannot be one.
fn whole(
    message: &mut [u8],
    frame: &mut Vec<u8>,
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> io::Result<bool> {
    let len = read(message)?;
    frame.clear();
    frame.extend_from_slice(&message[..len]);
    Ok((1..=MAX_FRAME).contains(&len))
}

impl Stream {
    fn new(stream: UnixStream) -> io::Result<Stream> {
        stream.set_nonblocking(true)?;
        Ok(Stream { stream, arrived: Vec::new(), written: 0 })
    }

    /// True once all of it is written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<bool> {
        self.written += self.stream.write(&bytes[self.written..])?;
        let all = self.written >= bytes.len();
        if all {
            self.written = 0;
        }
        Ok(all)
    }

    /// The next whole frame. A length that cannot be ends the stream: what follows has no frames any more.
    fn read(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            if let Some((prefix, rest)) = self.arrived.split_first_chunk::<PREFIX>() {
                let len = u32::from_be_bytes(*prefix) as usize;
                if len == 0 || len > MAX_FRAME {
                    return Err(io::Error::new(ErrorKind::InvalidData, format!("a frame of {len} bytes")));
                }
                if rest.len() >= len {
                    frame.clear();
                    frame.extend_from_slice(&rest[..len]);
                    self.arrived.drain(..PREFIX + len);
                    return Ok(true);
                }
            }
            let mut piece = [0; 16 << 10];
            match self.stream.read(&mut piece)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => self.arrived.extend_from_slice(&piece[..n]),
            }
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let path = match &self.line {
            Line::Datagram { local, .. } => local,
            Line::Stream { listener: Some((_, path)), .. } => path,
            _ => return,
        };
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | frames arrive whole and in order, over datagrams and streams, in both directions | `frames_arrive_whole_and_in_order` |
    //! | nothing is lost that the queue can hold while the other side is busy | `a_busy_peer_loses_nothing` |
    //! | a listening end takes one peer after the other, and counts what had nowhere to go | `a_peer_may_come_back` |
    //! | a stream with an impossible length ends | `an_impossible_length_ends_the_stream` |
    //! | a wire that cannot be is refused with what to give | `wires_that_cannot_be` |
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn path() -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("wire-{}-{}.sock", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        std::env::temp_dir().join(name)
    }

    fn frame(n: u32) -> Vec<u8> {
        let mut frame = n.to_be_bytes().to_vec();
        frame.resize(60 + (n as usize * 977) % 9000, n as u8);
        frame
    }

    fn pair(stream: bool) -> (Port, Port) {
        let (a, b) = (path(), path());
        if stream {
            let listening = Port::open(&Kind::Listen(a.clone())).expect("a path of our own");
            return (Port::open(&Kind::Connect(a)).expect("it listens"), listening);
        }
        let one = Kind::Datagram { local: a.clone(), remote: b.clone() };
        let other = Kind::Datagram { local: b, remote: a };
        (Port::open(&one).expect("a path of our own"), Port::open(&other).expect("a path of our own"))
    }

    #[test]
    fn frames_arrive_whole_and_in_order() {
        for stream in [false, true] {
            let (mut one, mut other) = pair(stream);
            let mut got = Vec::new();
            for n in 0..200 {
                one.send(&frame(n));
                assert!(other.receive(&mut got), "{n}");
                assert_eq!(got, frame(n));
                other.send(&got);
                assert!(one.receive(&mut got));
                assert_eq!(got, frame(n));
            }
            assert!(!one.receive(&mut got) && !other.receive(&mut got));
            assert_eq!(one.counters(), PortCounters { sent: 200, received: 200, ..PortCounters::default() });
        }
    }

    #[test]
    fn a_busy_peer_loses_nothing() {
        for stream in [false, true] {
            let (mut one, mut other) = pair(stream);
            let mut got = Vec::new();
            assert!(!other.receive(&mut got), "the stream is accepted");
            (0..1000).for_each(|n| one.send(&frame(n)));
            assert!(one.is_congested());
            for n in 0..1000 {
                while !other.receive(&mut got) {
                    one.flush();
                }
                assert_eq!(got, frame(n));
            }
            one.flush();
            assert!(!one.is_congested());
            assert_eq!(one.counters().overflowed, 0);
        }
    }

    #[test]
    fn a_peer_may_come_back() {
        let at = path();
        let mut listening = Port::open(&Kind::Listen(at.clone())).expect("a path of our own");
        listening.send(&frame(1));
        let mut got = Vec::new();
        for n in 1..=3 {
            let mut peer = Port::open(&Kind::Connect(at.clone())).expect("it listens");
            peer.send(&frame(n));
            assert!(listening.receive(&mut got) && got == frame(n));
            drop(peer);
            assert!(!listening.receive(&mut got));
            assert_eq!(listening.counters().disconnects, u64::from(n));
        }
        assert_eq!(listening.counters().nobody, 1);
        let (mut one, other) = pair(false);
        drop(other);
        one.send(&frame(1));
        assert_eq!((one.counters().nobody, one.counters().sent), (1, 0));
    }

    #[test]
    fn an_impossible_length_ends_the_stream() {
        for len in [0u32, MAX_FRAME as u32 + 1, u32::MAX] {
            let at = path();
            let mut listening = Port::open(&Kind::Listen(at.clone())).expect("a path of our own");
            let mut peer = UnixStream::connect(&at).expect("it listens");
            peer.write_all(&len.to_be_bytes()).expect("sent");
            peer.write_all(&[0; 100]).expect("sent");
            assert!(!listening.receive(&mut Vec::new()));
            assert_eq!(listening.counters().disconnects, 1);
        }
    }

    #[test]
    fn wires_that_cannot_be() {
        for text in ["", "dgram", "dgram:", "dgram:/a", "dgram:/a,", "dgram:,/b", "stream:/a", "tap:"] {
            let error = Kind::from_str(text).expect_err(text);
            assert!(!error.contains('\n') && error.contains(':'), "{error}");
        }
        assert_eq!("tap:vnic0".parse(), Ok(Kind::Tap("vnic0".into())));
        assert_eq!("dgram:/a,/b".parse(), Ok(Kind::Datagram { local: "/a".into(), remote: "/b".into() }));
        assert!(Port::open(&Kind::Connect("/nonexistent/wire".into())).is_err());
    }
}
