//! Metrics over HTTP: one small server, in threads of its own.
//!
//! It answers `GET /metrics` (and `HEAD`) with [`Detail::Shards`], `GET /metrics?connections` with [`Detail::Connections`],
//! and nothing else. It trusts nobody who connects: a request has 8 KiB and two seconds, an answer five, eight clients are
//! served at once and who comes beyond them is turned away, and a connection carries one request. The threads that own the
//! numbers are asked through the [`Collector`] and never wait.

use super::openmetrics::{CONTENT_TYPE, Detail, render};
use super::publish::Collector;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Bytes of a request's head.
const MAX_HEAD: usize = 8 << 10;
/// How long a request may take to come.
const REQUEST_PATIENCE: Duration = Duration::from_secs(2);
/// How long the owners of the numbers may take.
const COLLECT_PATIENCE: Duration = Duration::from_secs(1);
/// How long the client may take to read the answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// How long the client may take to notice that it was refused, and how much of what it still says is read.
const REFUSAL_PATIENCE: Duration = Duration::from_millis(200);
const REFUSAL_BYTES: usize = 64 << 10;
/// Clients served at once.
const MAX_CLIENTS: usize = 8;
/// Between two looks at the listening socket.
const PACE: Duration = Duration::from_millis(20);

/// Why the server could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}; choose another port, or an address of this machine")]
pub struct ServeError {
    /// Where.
    pub address: SocketAddr,
    /// Why not.
    pub error: io::Error,
}

/// A server, until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `address` (port 0: any that is free) and serves what `collector` collects. Whoever reaches the address
    /// can read it: it should be a loopback one unless the network is trusted.
    pub fn start(address: SocketAddr, collector: Collector) -> Result<Server, ServeError> {
        let failed = |error| ServeError { address, error };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || accept(&listener, &Arc::new(collector), &stopped);
        let thread = thread::Builder::new().name("metrics".into()).spawn(work).map_err(failed)?;
        Ok(Server { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the metrics server has panicked");
        }
    }
}

fn accept(listener: &TcpListener, collector: &Arc<Collector>, stop: &AtomicBool) {
    let clients = Arc::new(AtomicUsize::new(0));
    while !stop.load(Ordering::Acquire) {
        let (stream, peer) = match listener.accept() {
            Ok(client) => client,
            Err(error) => {
                if error.kind() != ErrorKind::WouldBlock {
                    log::debug!("metrics: {error}");
                }
                thread::sleep(PACE);
                continue;
            }
        };
        if clients.fetch_add(1, Ordering::AcqRel) >= MAX_CLIENTS {
            clients.fetch_sub(1, Ordering::AcqRel);
            turn_away(stream);
            continue;
        }
        let (collector, taken) = (Arc::clone(collector), Client(Arc::clone(&clients)));
        let work = move || {
            let _taken = taken;
            if let Err(error) = serve(stream, &collector) {
                log::debug!("metrics: {peer}: {error}");
            }
        };
        if let Err(error) = thread::Builder::new().name("metrics client".into()).spawn(work) {
            log::warn!("metrics: no thread for {peer}: {error}");
        }
    }
}

/// A place among the clients that are served.
struct Client(Arc<AtomicUsize>);

impl Drop for Client {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What is said to a client that is not answered.
struct Refusal {
    status: &'static str,
    why: &'static str,
}

const BAD_REQUEST: Refusal = Refusal { status: "400 Bad Request", why: "this is not an HTTP/1 request" };
const NOT_FOUND: Refusal = Refusal { status: "404 Not Found", why: "there is /metrics and /metrics?connections" };
const BAD_METHOD: Refusal = Refusal { status: "405 Method Not Allowed\r\nAllow: GET, HEAD", why: "use GET" };
const TOO_SLOW: Refusal = Refusal { status: "408 Request Timeout", why: "the request took too long" };
const TOO_LONG: Refusal = Refusal { status: "431 Request Header Fields Too Large", why: "at most 8 KiB are read" };
const BUSY: Refusal = Refusal { status: "503 Service Unavailable", why: "too many clients; try again" };

/// One that is not even read: what fits the socket's buffer is said, without waiting.
fn turn_away(mut stream: TcpStream) {
    _ = stream.set_nonblocking(true);
    _ = stream.write(refusal_text(&BUSY).as_bytes());
    _ = stream.shutdown(Shutdown::Both);
}

fn refusal_text(Refusal { status, why }: &Refusal) -> String {
    let head = "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: ";
    format!("HTTP/1.1 {status}\r\n{head}{}\r\n\r\n{why}\n", why.len() + 1)
}

fn serve(mut stream: TcpStream, collector: &Collector) -> io::Result<()> {
    // Some systems pass the listener's mode on.
    stream.set_nonblocking(false)?;
    let head = match read_head(&mut stream, Instant::now() + REQUEST_PATIENCE)? {
        Ok(head) => head,
        Err(refusal) => return refuse(stream, &refusal),
    };
    let (detail, with_body) = match parse(&head) {
        Ok(request) => request,
        Err(refusal) => return refuse(stream, &refusal),
    };
    let body = render(&collector.collect(COLLECT_PATIENCE), detail);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {CONTENT_TYPE}\r\nCache-Control: no-store\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let until = Instant::now() + ANSWER_PATIENCE;
    write_all(&mut stream, head.as_bytes(), until)?;
    if with_body {
        write_all(&mut stream, body.as_bytes(), until)?;
    }
    stream.shutdown(Shutdown::Write)
}

/// Reads until the empty line; `None` in time is a refusal, whatever the pieces in which the client sends.
fn read_head(stream: &mut TcpStream, until: Instant) -> io::Result<Result<Vec<u8>, Refusal>> {
    let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Err(TOO_SLOW));
        }
        stream.set_read_timeout(Some(left))?;
        let n = match stream.read(&mut chunk) {
            Ok(0) => return Ok(Err(BAD_REQUEST)),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(Err(TOO_SLOW));
            }
            Err(error) => return Err(error),
        };
        head.extend_from_slice(&chunk[..n]);
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            return Ok(Ok(head));
        }
        if head.len() > MAX_HEAD {
            return Ok(Err(TOO_LONG));
        }
    }
}

/// What is asked for, and whether with its body.
fn parse(head: &[u8]) -> Result<(Detail, bool), Refusal> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| BAD_REQUEST)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(BAD_REQUEST);
    };
    if !version.starts_with("HTTP/1.") || method.is_empty() {
        return Err(BAD_REQUEST);
    }
    let with_body = match method {
        "GET" => true,
        "HEAD" => false,
        _ => return Err(BAD_METHOD),
    };
    match target {
        "/metrics" => Ok((Detail::Shards, with_body)),
        "/metrics?connections" | "/metrics?connections=1" => Ok((Detail::Connections, with_body)),
        _ => Err(NOT_FOUND),
    }
}

fn refuse(mut stream: TcpStream, refusal: &Refusal) -> io::Result<()> {
    let until = Instant::now() + REFUSAL_PATIENCE;
    write_all(&mut stream, refusal_text(refusal).as_bytes(), until)?;
    stream.shutdown(Shutdown::Write)?;
    // Closing with bytes unread would reset the connection, and the client might not see why.
    let (mut chunk, mut read) = ([0; 1024], 0);
    while read < REFUSAL_BYTES {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(n) => read += n,
        }
    }
    Ok(())
}

/// Writes all of it, or fails when the time is over.
fn write_all(stream: &mut TcpStream, mut bytes: &[u8], until: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_write_timeout(Some(left))?;
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
