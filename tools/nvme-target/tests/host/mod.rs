//! A small NVMe/TCP host over smoltcp for the tests: it encodes and decodes PDUs by hand from the numbers in the
//! specification, checks all that the target sends, and brings its own CRC32C, so that it shares nothing with the target.
#![allow(dead_code)] // each test binary uses its own part

use nvme_target::Target;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub const TARGET_IP: [u8; 4] = [192, 168, 44, 20];
pub const HOST_IP: [u8; 4] = [192, 168, 44, 1];
pub const NQN: &str = "nqn.2026-01.io.connectx-ddp:target";
pub const HOST_NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:0f1e2d3c-0000-4000-8000-000000000001";

/// CRC32C by the reflected polynomial, a bit at a time through a table made here.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256u32)
        .map(|byte| (0..8).fold(byte, |crc, _| if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 }))
        .collect();
    !bytes.iter().fold(!0, |crc, &byte| crc >> 8 ^ table[(crc as u8 ^ byte) as usize])
}

/// Frame queues of the host.
pub struct Nic {
    mtu: usize,
    rx: VecDeque<Vec<u8>>,
    tx: VecDeque<Vec<u8>>,
}

pub struct Rx(Vec<u8>);
pub struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Nic {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        self.rx.pop_front().map(|frame| (Rx(frame), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + 14;
        capabilities
    }
}

/// A TCP segment that the target sent.
#[derive(Clone, Debug)]
pub struct Segment {
    pub host_port: u16,
    pub seq: u32,
    pub syn: bool,
    pub payload: Vec<u8>,
}

/// A connection as the host sees it.
pub struct Line {
    handle: SocketHandle,
    pub port: u16,
    pub stream: Vec<u8>,
    /// Bytes of `stream` that were taken as PDUs.
    at: usize,
    pub header_digest: bool,
    pub data_digest: bool,
    pub hpda: u8,
    pub cpda: u8,
    pub max_h2c_data: usize,
    /// Stream offsets at which PDUs from the target start.
    pub starts: Vec<usize>,
    pub sq_flow_control: bool,
}

/// A PDU from the target, checked for the consistency of its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pdu {
    pub kind: u8,
    pub flags: u8,
    /// Header without digest.
    pub header: Vec<u8>,
    pub pdo: usize,
    pub data: Vec<u8>,
    pub header_digest_ok: bool,
    pub data_digest_ok: bool,
}

impl Pdu {
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.header[at..at + 2].try_into().unwrap())
    }
    pub fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.header[at..at + 4].try_into().unwrap())
    }
    /// Status of a response capsule, without the phase tag, More and DNR.
    pub fn status(&self) -> u16 {
        assert_eq!(self.kind, 5, "not a response: {self:?}");
        self.u16(8 + 14) >> 1 & 0x7ff
    }
    pub fn result(&self) -> u64 {
        u64::from_le_bytes(self.header[8..16].try_into().unwrap())
    }
    pub fn cid(&self) -> u16 {
        self.u16(if self.kind == 5 { 8 + 12 } else { 8 })
    }
}

/// Why the host got no PDU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPdu {
    /// The target closed or reset the connection; so many bytes of a PDU had come.
    Closed(usize),
    /// Nothing came for a long (virtual) time.
    Silence(usize),
}

/// The target, the host, and the wire between them.
pub struct Net {
    pub target: Target,
    interface: Interface,
    sockets: SocketSet<'static>,
    nic: Nic,
    pub lines: Vec<Line>,
    pub now: Duration,
    next_port: u16,
    /// Segments from the target, if kept.
    pub segments: Option<Vec<Segment>>,
    /// Frames of both directions, if kept.
    pub frames: Option<Vec<Vec<u8>>>,
    /// One frame in so many is lost, in each direction; 0: none.
    pub loss: u64,
    random: u64,
    pub host_rx_buffer: usize,
    /// How long the host waits for a PDU.
    pub patience: Duration,
    /// Times in a row that a deadline was now and nothing moved.
    idle_steps: u32,
}

impl Net {
    pub fn new(target: Target, mtu: usize) -> Net {
        let mut nic = Nic { mtu, rx: VecDeque::new(), tx: VecDeque::new() };
        let mac = HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 0, 1]));
        let mut interface = Interface::new(Config::new(mac), &mut nic, Instant::ZERO);
        interface.update_ip_addrs(|list| {
            list.push(IpCidr::new(IpAddress::Ipv4(HOST_IP.into()), 24)).unwrap();
        });
        Net {
            target,
            interface,
            sockets: SocketSet::new(Vec::new()),
            nic,
            lines: Vec::new(),
            now: Duration::ZERO,
            next_port: 40000,
            segments: None,
            frames: None,
            loss: 0,
            random: 1,
            host_rx_buffer: 1 << 18,
            patience: Duration::from_secs(100),
            idle_steps: 0,
        }
    }

    fn lost(&mut self) -> bool {
        self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.loss > 0 && (self.random >> 33).is_multiple_of(self.loss)
    }

    /// Moves everything that can move now; true if a frame did.
    fn exchange(&mut self) -> bool {
        let instant = Instant::from_micros(self.now.as_micros() as i64);
        self.interface.poll(instant, &mut self.nic, &mut self.sockets);
        let mut moved = false;
        while let Some(frame) = self.nic.tx.pop_front() {
            moved = true;
            if let Some(frames) = &mut self.frames {
                frames.push(frame.clone());
            }
            if !self.lost() {
                self.target.receive(&frame);
            }
        }
        self.target.poll(self.now);
        while let Some(frame) = self.target.transmit() {
            moved = true;
            self.log(&frame);
            if self.lost() {
                self.target.recycle(frame);
            } else {
                self.nic.rx.push_back(frame);
            }
        }
        for line in &mut self.lines {
            let socket = self.sockets.get_mut::<tcp::Socket>(line.handle);
            while let Ok(n) = socket.recv(|data| {
                line.stream.extend_from_slice(data);
                (data.len(), data.len())
            }) {
                if n == 0 {
                    break;
                }
                moved = true;
            }
        }
        moved
    }

    fn log(&mut self, frame: &[u8]) {
        if let Some(frames) = &mut self.frames {
            frames.push(frame.to_vec());
        }
        let Some(segments) = &mut self.segments else { return };
        if frame[12..14] != [8, 0] || frame[23] != 6 {
            return;
        }
        let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        let tcp = 14 + usize::from(frame[14] & 15) * 4;
        let payload = tcp + usize::from(frame[tcp + 12] >> 4) * 4;
        segments.push(Segment {
            host_port: u16::from_be_bytes([frame[tcp + 2], frame[tcp + 3]]),
            seq: u32::from_be_bytes(frame[tcp + 4..tcp + 8].try_into().unwrap()),
            syn: frame[tcp + 13] & 2 != 0,
            payload: frame[payload..14 + total].to_vec(),
        });
    }

    /// Runs until nothing moves, then lets time pass to the next deadline. False if there is none before `until`.
    pub fn step(&mut self, until: Duration) -> bool {
        if self.exchange() || !self.nic.rx.is_empty() {
            return true;
        }
        let instant = Instant::from_micros(self.now.as_micros() as i64);
        let host = self.interface.poll_at(instant, &self.sockets);
        let host = host.map(|at| Duration::from_micros(at.total_micros().max(0) as u64).max(self.now));
        let target = self.target.next_deadline(self.now);
        match [host, target].into_iter().flatten().min() {
            Some(at) if at <= until => {
                // A deadline now, though nothing moved, must not stop the clock for good.
                self.idle_steps = if at > self.now { 0 } else { self.idle_steps + 1 };
                assert!(self.idle_steps < 1000, "busy at {:?}: host {host:?}, target {target:?}", self.now);
                self.now = at.max(self.now + Duration::from_micros(1));
                true
            }
            _ => false,
        }
    }

    /// Lets `time` pass.
    pub fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
        self.now = until;
        while self.exchange() {}
    }

    /// Opens a TCP connection; its index in `lines`.
    pub fn open(&mut self) -> usize {
        let buffer = || tcp::SocketBuffer::new(vec![0; 1 << 18]);
        let mut socket = tcp::Socket::new(tcp::SocketBuffer::new(vec![0; self.host_rx_buffer]), buffer());
        socket.set_nagle_enabled(false);
        self.next_port += 1;
        let port = self.next_port;
        socket.connect(self.interface.context(), (IpAddress::Ipv4(TARGET_IP.into()), 4420), port).unwrap();
        let handle = self.sockets.add(socket);
        self.lines.push(Line {
            handle,
            port,
            stream: Vec::new(),
            at: 0,
            header_digest: false,
            data_digest: false,
            hpda: 0,
            cpda: 0,
            max_h2c_data: 0,
            starts: Vec::new(),
            sq_flow_control: true,
        });
        self.lines.len() - 1
    }

    pub fn close(&mut self, line: usize) {
        self.sockets.get_mut::<tcp::Socket>(self.lines[line].handle).close();
    }

    pub fn abort(&mut self, line: usize) {
        self.sockets.get_mut::<tcp::Socket>(self.lines[line].handle).abort();
    }

    /// True while the target has not closed its half.
    pub fn is_up(&self, line: usize) -> bool {
        let socket = self.sockets.get::<tcp::Socket>(self.lines[line].handle);
        socket.may_recv() || socket.state() == tcp::State::SynSent
    }

    /// True once TCP is done with the connection.
    pub fn is_gone(&self, line: usize) -> bool {
        let socket = self.sockets.get::<tcp::Socket>(self.lines[line].handle);
        matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait)
    }

    /// Sends bytes, as they are.
    pub fn send(&mut self, line: usize, mut bytes: &[u8]) {
        let until = self.now + self.patience;
        let mut idle = false;
        while !bytes.is_empty() {
            let socket = self.sockets.get_mut::<tcp::Socket>(self.lines[line].handle);
            match socket.send_slice(bytes) {
                // Nothing moved and there is no room: the target takes no more.
                Ok(0) if idle => return,
                Ok(n) => bytes = &bytes[n..],
                Err(_) if socket.state() == tcp::State::SynSent && !idle => {}
                Err(_) => return,
            }
            idle = !bytes.is_empty() && !self.step(until);
        }
    }

    /// Takes bytes off the stream once so many have come.
    fn peek(&mut self, line: usize, n: usize, patience: Duration) -> Result<Vec<u8>, NoPdu> {
        let until = self.now + patience;
        loop {
            let Line { at, stream, .. } = &self.lines[line];
            if stream.len() - at >= n {
                return Ok(stream[*at..at + n].to_vec());
            }
            let have = stream.len() - at;
            if !self.is_up(line) {
                return Err(NoPdu::Closed(have));
            }
            if !self.step(until) {
                return Err(NoPdu::Silence(have));
            }
        }
    }

    /// The next PDU, whatever it says: for PDUs that are wrong on purpose. Needs the true length.
    pub fn raw(&mut self, line: usize, len: usize) -> Result<Vec<u8>, NoPdu> {
        let bytes = self.peek(line, len, self.patience)?;
        self.lines[line].at += len;
        Ok(bytes)
    }

    /// The next PDU.
    pub fn pdu(&mut self, line: usize) -> Result<Pdu, NoPdu> {
        self.pdu_within(line, self.patience)
    }

    pub fn pdu_within(&mut self, line: usize, patience: Duration) -> Result<Pdu, NoPdu> {
        let common = self.peek(line, 8, patience)?;
        let plen = u32::from_le_bytes(common[4..8].try_into().unwrap()) as usize;
        assert!((8..=1 << 24).contains(&plen), "PLEN {plen}");
        let bytes = self.peek(line, plen, patience)?;
        let line = &mut self.lines[line];
        line.starts.push(line.at);
        line.at += plen;
        let (kind, flags, hlen, pdo) = (bytes[0], bytes[1], usize::from(bytes[2]), usize::from(bytes[3]));
        let digested = !matches!(kind, 0..=3);
        assert_eq!(flags & 1 != 0, digested && line.header_digest, "HDGSTF");
        assert_eq!(flags & 2 != 0, kind == 7 && line.data_digest, "DDGSTF");
        let expected = match kind {
            1 => 128,
            3 | 5 | 7 | 9 => 24,
            _ => panic!("PDU type {kind:#x} from a target"),
        };
        assert_eq!(hlen, expected, "HLEN of type {kind}");
        let head = hlen + if flags & 1 != 0 { 4 } else { 0 };
        let digest = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let header_digest_ok = flags & 1 == 0 || digest(hlen) == crc32c(&bytes[..hlen]);
        let tail = if flags & 2 != 0 { 4 } else { 0 };
        let data = if kind == 7 {
            assert!(pdo >= head && pdo % (4 * (usize::from(line.hpda) + 1)) == 0, "PDO {pdo}");
            assert!(bytes[head..pdo].iter().all(|&b| b == 0), "padding");
            bytes[pdo..plen - tail].to_vec()
        } else {
            assert_eq!(pdo, 0, "PDO without data");
            bytes[head..plen].to_vec()
        };
        assert!(kind == 3 || kind == 7 || data.is_empty(), "PLEN of type {kind}");
        let data_digest_ok = tail == 0 || digest(plen - 4) == crc32c(&data);
        Ok(Pdu { kind, flags, header: bytes[..hlen].to_vec(), pdo, data, header_digest_ok, data_digest_ok })
    }

    /// Opens a connection and exchanges ICReq and ICResp.
    pub fn initialize(&mut self, header_digest: bool, data_digest: bool, hpda: u8, max_r2t: u32) -> usize {
        let line = self.open();
        self.send(line, &ic_req(header_digest, data_digest, hpda, max_r2t));
        let resp = self.pdu(line).expect("ICResp");
        assert_eq!((resp.kind, resp.u16(8)), (1, 0), "type and PFV");
        let state = &mut self.lines[line];
        state.hpda = hpda;
        state.cpda = resp.header[10];
        state.header_digest = resp.header[11] & 1 != 0;
        state.data_digest = resp.header[11] & 2 != 0;
        state.max_h2c_data = resp.u32(12) as usize;
        assert!(resp.header[16..].iter().all(|&b| b == 0), "reserved");
        line
    }

    /// A command capsule with in-capsule data.
    pub fn capsule(&self, line: usize, sqe: &[u8; 64], data: &[u8]) -> Vec<u8> {
        let state = &self.lines[line];
        let mut body = vec![0; 8];
        body.extend_from_slice(sqe);
        frame(4, 0, body, data, state)
    }

    pub fn command(&mut self, line: usize, sqe: &[u8; 64], data: &[u8]) {
        let capsule = self.capsule(line, sqe, data);
        self.send(line, &capsule);
    }

    /// Sends a command and takes its response, which must be the next PDU.
    pub fn execute(&mut self, line: usize, sqe: &[u8; 64], data: &[u8]) -> Pdu {
        self.command(line, sqe, data);
        let pdu = self.pdu(line).expect("a response");
        assert_eq!((pdu.kind, pdu.cid()), (5, u16::from_le_bytes([sqe[2], sqe[3]])));
        pdu
    }

    /// Sends a command whose data come from the target; the data.
    pub fn fetch(&mut self, line: usize, sqe: &[u8; 64]) -> Result<Vec<u8>, u16> {
        self.command(line, sqe, &[]);
        let cid = u16::from_le_bytes([sqe[2], sqe[3]]);
        self.collect(line, &[(cid, u32::from_le_bytes(sqe[32..36].try_into().unwrap()) as usize)]).remove(&cid).unwrap()
    }

    /// Takes PDUs until all these commands (CID, bytes) are answered; the data of each, or its status. Checks DATAO, flags
    /// and digests.
    pub fn collect(&mut self, line: usize, commands: &[(u16, usize)]) -> BTreeMap<u16, Result<Vec<u8>, u16>> {
        let mut open: BTreeMap<u16, (Vec<u8>, usize, bool)> =
            commands.iter().map(|&(cid, len)| (cid, (Vec::new(), len, false))).collect();
        let mut done = BTreeMap::new();
        while !open.is_empty() {
            let pdu = self.pdu(line).unwrap_or_else(|e| panic!("{e:?}, open {:?}", open.keys()));
            assert!(pdu.header_digest_ok && pdu.data_digest_ok, "digests");
            let cid = pdu.cid();
            let (data, len, ended) = open.get_mut(&cid).unwrap_or_else(|| panic!("{pdu:?} for no command"));
            match pdu.kind {
                7 => {
                    assert!(!*ended, "data after LAST_PDU");
                    assert_eq!(pdu.u32(12) as usize, data.len(), "DATAO");
                    assert_eq!(pdu.u32(16) as usize, pdu.data.len(), "DATAL");
                    data.extend_from_slice(&pdu.data);
                    assert!(data.len() <= *len);
                    *ended = pdu.flags & 4 != 0;
                    assert_eq!(*ended, data.len() == *len, "LAST_PDU");
                    if pdu.flags & 8 != 0 {
                        assert!(*ended, "SUCCESS without LAST_PDU");
                        let (data, ..) = open.remove(&cid).unwrap();
                        done.insert(cid, Ok(data));
                    }
                }
                5 => {
                    let status = pdu.status();
                    let (data, len, _) = open.remove(&cid).unwrap();
                    assert!(status != 0 || data.len() == len, "{} of {len} bytes", data.len());
                    done.insert(cid, if status == 0 { Ok(data) } else { Err(status) });
                }
                kind => panic!("PDU type {kind} while reading: {pdu:?}"),
            }
        }
        done
    }

    /// Answers R2Ts from `data` until the write `cid` has its response; returns the status and how many R2Ts came.
    pub fn write(&mut self, line: usize, cid: u16, data: &[u8]) -> (u16, usize) {
        let mut r2ts = 0;
        loop {
            let pdu = self.pdu(line).expect("R2T or response");
            assert!(pdu.header_digest_ok);
            if pdu.kind == 5 {
                assert_eq!(pdu.cid(), cid);
                return (pdu.status(), r2ts);
            }
            assert_eq!((pdu.kind, pdu.cid()), (9, cid));
            r2ts += 1;
            let (tag, offset, len) = (pdu.u16(10), pdu.u32(12) as usize, pdu.u32(16) as usize);
            let asked = &data[offset..offset + len];
            let mut at = 0;
            while at < len {
                let piece = (len - at).min(self.lines[line].max_h2c_data);
                let bytes = h2c_data(
                    &self.lines[line],
                    cid,
                    tag,
                    (offset + at) as u32,
                    &asked[at..at + piece],
                    at + piece == len,
                );
                self.send(line, &bytes);
                at += piece;
            }
        }
    }

    /// Connects a queue: ICReq, Connect. Index of the line and the response.
    pub fn connect(&mut self, options: &Connect) -> (usize, Pdu) {
        let line = self.initialize(options.header_digest, options.data_digest, options.hpda, options.max_r2t);
        let response = self.execute(line, &connect_sqe(options), &connect_data(options));
        self.lines[line].sq_flow_control = !options.no_flow_control;
        (line, response)
    }

    /// Connects an admin queue and enables the controller; the line and the controller's identifier.
    pub fn admin(&mut self, options: &Connect) -> (usize, u16) {
        let (line, response) = self.connect(&Connect { queue: 0, controller: 0xffff, ..options.clone() });
        assert_eq!(response.status(), 0);
        let id = response.result() as u16;
        assert_eq!(self.execute(line, &property_set(2, 0x14, 0x0046_0001), &[]).status(), 0);
        let csts = self.execute(line, &property_get(3, 0, 0x1c), &[]);
        assert_eq!(csts.result() & 3, 1, "ready");
        (line, id)
    }

    /// An admin queue and one I/O queue.
    pub fn pair(&mut self, options: &Connect) -> (usize, usize) {
        let (admin, controller) = self.admin(options);
        let (io, response) = self.connect(&Connect { queue: 1, controller, ..options.clone() });
        assert_eq!(response.status(), 0);
        (admin, io)
    }
}

/// Parameters of a queue's connection.
#[derive(Clone, Debug)]
pub struct Connect {
    pub header_digest: bool,
    pub data_digest: bool,
    pub hpda: u8,
    pub max_r2t: u32,
    pub queue: u16,
    pub controller: u16,
    pub sqsize: u16,
    pub kato: u32,
    pub no_flow_control: bool,
    pub subsystem: String,
    pub host: String,
}

impl Default for Connect {
    fn default() -> Connect {
        Connect {
            header_digest: false,
            data_digest: false,
            hpda: 0,
            max_r2t: 0,
            queue: 0,
            controller: 0xffff,
            sqsize: 127,
            kato: 0,
            no_flow_control: false,
            subsystem: NQN.into(),
            host: HOST_NQN.into(),
        }
    }
}

pub fn ic_req(header_digest: bool, data_digest: bool, hpda: u8, max_r2t: u32) -> Vec<u8> {
    let mut pdu = vec![0; 128];
    pdu[..8].copy_from_slice(&[0, 0, 128, 0, 128, 0, 0, 0]);
    pdu[10] = hpda;
    pdu[11] = u8::from(header_digest) | u8::from(data_digest) << 1;
    pdu[12..16].copy_from_slice(&max_r2t.to_le_bytes());
    pdu
}

/// Completes a PDU: `body` is the header with eight bytes of room in front.
fn frame(kind: u8, flags: u8, mut body: Vec<u8>, data: &[u8], line: &Line) -> Vec<u8> {
    let hlen = body.len();
    let head = hlen + if line.header_digest { 4 } else { 0 };
    let align = 4 * (usize::from(line.cpda) + 1);
    let pdo = if data.is_empty() { 0 } else { head.div_ceil(align) * align };
    let tail = if line.data_digest && !data.is_empty() { 4 } else { 0 };
    let plen = if data.is_empty() { head } else { pdo + data.len() + tail };
    body[0] = kind;
    body[1] = flags | u8::from(line.header_digest) | u8::from(tail > 0) << 1;
    body[2] = hlen as u8;
    body[3] = pdo as u8;
    body[4..8].copy_from_slice(&(plen as u32).to_le_bytes());
    if line.header_digest {
        let digest = crc32c(&body);
        body.extend_from_slice(&digest.to_le_bytes());
    }
    if !data.is_empty() {
        body.resize(pdo, 0);
        body.extend_from_slice(data);
        if tail > 0 {
            body.extend_from_slice(&crc32c(data).to_le_bytes());
        }
    }
    body
}

pub fn h2c_data(line: &Line, cid: u16, tag: u16, offset: u32, data: &[u8], last: bool) -> Vec<u8> {
    let mut body = vec![0; 24];
    body[8..10].copy_from_slice(&cid.to_le_bytes());
    body[10..12].copy_from_slice(&tag.to_le_bytes());
    body[12..16].copy_from_slice(&offset.to_le_bytes());
    body[16..20].copy_from_slice(&(data.len() as u32).to_le_bytes());
    frame(6, u8::from(last) << 2, body, data, line)
}

/// A submission queue entry with an SGL for `len` bytes moved by the transport.
pub fn sqe(opcode: u8, cid: u16, nsid: u32, len: u32) -> [u8; 64] {
    let mut sqe = [0; 64];
    (sqe[0], sqe[1]) = (opcode, 0x40);
    sqe[2..4].copy_from_slice(&cid.to_le_bytes());
    sqe[4..8].copy_from_slice(&nsid.to_le_bytes());
    sqe[32..36].copy_from_slice(&len.to_le_bytes());
    sqe[39] = 0x5a;
    sqe
}

/// Sets command dword `n`.
pub fn with(mut sqe: [u8; 64], n: usize, value: u32) -> [u8; 64] {
    sqe[n * 4..n * 4 + 4].copy_from_slice(&value.to_le_bytes());
    sqe
}

/// Makes the SGL point into the capsule.
pub fn in_capsule(mut sqe: [u8; 64], offset: u64) -> [u8; 64] {
    sqe[24..32].copy_from_slice(&offset.to_le_bytes());
    sqe[39] = 0x01;
    sqe
}

/// Read (02h) or Write (01h) of blocks of 512 bytes.
pub fn rw(opcode: u8, cid: u16, first: u64, blocks: u32) -> [u8; 64] {
    let mut sqe = sqe(opcode, cid, 1, blocks * 512);
    sqe[40..48].copy_from_slice(&first.to_le_bytes());
    with(sqe, 12, blocks - 1)
}

pub fn identify(cid: u16, cns: u32, nsid: u32) -> [u8; 64] {
    with(sqe(6, cid, nsid, 4096), 10, cns)
}

pub fn property_set(cid: u16, offset: u32, value: u64) -> [u8; 64] {
    let mut sqe = with(sqe(0x7f, cid, 0, 0), 11, offset);
    sqe[48..56].copy_from_slice(&value.to_le_bytes());
    sqe
}

pub fn property_get(cid: u16, attributes: u8, offset: u32) -> [u8; 64] {
    let mut sqe = with(sqe(0x7f, cid, 4, 0), 11, offset);
    sqe[40] = attributes;
    sqe
}

pub fn connect_sqe(options: &Connect) -> [u8; 64] {
    let mut sqe = in_capsule(sqe(0x7f, 1, 1, 1024), 0);
    sqe[42..44].copy_from_slice(&options.queue.to_le_bytes());
    sqe[44..46].copy_from_slice(&options.sqsize.to_le_bytes());
    sqe[46] = u8::from(options.no_flow_control) << 2;
    with(sqe, 12, options.kato)
}

pub fn connect_data(options: &Connect) -> Vec<u8> {
    let mut data = vec![0; 1024];
    data[..16].copy_from_slice(&[7; 16]);
    data[16..18].copy_from_slice(&options.controller.to_le_bytes());
    data[256..256 + options.subsystem.len()].copy_from_slice(options.subsystem.as_bytes());
    data[512..512 + options.host.len()].copy_from_slice(options.host.as_bytes());
    data
}
