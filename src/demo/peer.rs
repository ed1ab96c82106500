//! Our TCP as the target's, in place of smoltcp: what smoltcp is not as a sender (selective acknowledgments, RACK), and what
//! the measurements under loss need.
//!
//! ```text
//!   frames ─► Interface ─► four-tuple ─► socket's tcp::Connection ─► Socket::recv ─► target
//!   Wire   ◄─ Interface ◄────────────────┘                 ▲───────── Socket::send ◄─┘
//! ```
//!
//! The independent judge of the driver's TCP is smoltcp; with this peer one implementation talks to itself.

use crate::net::{Checksum, HEADROOM, Interface, InterfaceConfig, InterfaceError, MacAddr, Received, Resolution, arp};
use crate::tcp::{self, CongestionControl, FourTuple, IsnSecret, Segment, State};
use nvme_target::{Backing, Socket, Stack, Target, Wire};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddrV4};
use std::ops::Range;
use std::time::Duration;

/// Bytes of received frames that may wait; more are dropped, as a NIC does.
const RX_LIMIT: usize = 64 << 20;
/// Bytes that a socket's owner may write in one go.
const SCRATCH: usize = 64 << 10;
/// Connections that have nothing but TCP left: in TIME-WAIT, or with a reset to send. The oldest makes room.
const LINGERING: usize = 64;
/// Nobody answers for the next hop: tried again after this time.
const UNREACHABLE_PAUSE: Duration = Duration::from_secs(1);

/// Which TCP the target has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Peer {
    /// smoltcp: the independent judge. As a sender it knows no selective acknowledgments.
    #[default]
    Smoltcp,
    /// Ours, with this congestion control.
    Own(CongestionControl),
}

/// A target that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Its configuration.
    #[error(transparent)]
    Target(#[from] nvme_target::ConfigError),
    /// Its addresses or MTU.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// Its buffers.
    #[error(transparent)]
    Tcp(#[from] tcp::ConfigError),
}

impl Peer {
    /// A target with this TCP.
    pub fn target(self, config: nvme_target::Config, backing: Box<dyn Backing>) -> Result<Target, PeerError> {
        Ok(match self {
            Peer::Smoltcp => Target::new(config, backing)?,
            Peer::Own(congestion) => {
                let stack = OwnStack::new(&config, congestion)?;
                Target::with_stack(config, backing, Box::new(stack))?
            }
        })
    }
}

/// The payload of a received frame.
#[derive(Debug)]
struct Bytes {
    frame: Vec<u8>,
    range: Range<usize>,
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        &self.frame[self.range.clone()]
    }
}

impl tcp::Payload for Bytes {
    fn len(&self) -> u32 {
        self.range.len() as u32
    }

    fn trim_front(&mut self, n: u32) {
        self.range.start += n as usize;
    }

    fn trim_back(&mut self, n: u32) {
        self.range.end -= n as usize;
    }
}

/// A connection and its name.
struct Flow {
    tuple: FourTuple,
    tcp: tcp::Connection<Bytes>,
}

/// One socket.
struct Slot {
    listening: bool,
    flow: Option<Flow>,
    /// What was received in order and taken in part.
    current: Option<Bytes>,
    scratch: Box<[u8]>,
}

/// Our TCP with its sockets.
pub struct OwnStack {
    interface: Interface,
    config: tcp::Config,
    secret: IsnSecret,
    port: u16,
    received: VecDeque<Vec<u8>>,
    received_bytes: usize,
    slots: Vec<Slot>,
    lingering: VecDeque<Flow>,
    /// Answers to segments of connections that do not exist.
    resets: Vec<(FourTuple, tcp::Header)>,
    unused: Vec<Bytes>,
}

impl OwnStack {
    /// The stack of a target with this configuration.
    pub fn new(target: &nvme_target::Config, congestion: CongestionControl) -> Result<OwnStack, PeerError> {
        let interface = Interface::new(InterfaceConfig {
            mac: MacAddr(target.mac),
            ip: target.ip,
            prefix_len: target.prefix_len,
            gateway: target.gateway,
            mtu: target.mtu as u16,
        })?;
        let config = tcp::Config {
            mss: interface.mss(),
            receive_bytes: target.rx_buffer as u32,
            receive_payloads: 4096,
            send_bytes: target.tx_buffer as u32,
            congestion,
            connect_timeout: target.patience,
            user_timeout: target.patience,
            ..tcp::Config::default()
        };
        config.check()?;
        let mut key = [0; 16];
        key[..8].copy_from_slice(&target.seed.to_be_bytes());
        let slot = || Slot { listening: false, flow: None, current: None, scratch: vec![0; SCRATCH].into() };
        Ok(OwnStack {
            interface,
            config,
            secret: IsnSecret::new(key),
            port: target.port,
            received: VecDeque::new(),
            received_bytes: 0,
            slots: (0..target.connections()).map(|_| slot()).collect(),
            lingering: VecDeque::new(),
            resets: Vec::new(),
            unused: Vec::new(),
        })
    }

    fn on_frame(&mut self, now: Duration, frame: Vec<u8>) {
        let head = &frame[..frame.len().min(HEADROOM)];
        let Received::Tcp(found) = self.interface.receive(now, frame.len() as u32, head, Checksum::Software) else {
            return;
        };
        let end = (found.payload_offset + found.payload_len) as usize;
        if !self.interface.verify_tcp(&found, [&frame[found.l4_offset as usize..end]]) {
            return;
        }
        let payload = Bytes { frame, range: found.payload_offset as usize..end };
        let segment = Segment { header: found.header, payload };
        let flows = self.slots.iter_mut().filter_map(|slot| slot.flow.as_mut()).chain(&mut self.lingering);
        if let Some(flow) = { flows }.find(|flow| flow.tuple == found.tuple) {
            flow.tcp.on_segment(now, segment, &mut self.unused);
            return self.unused.clear();
        }
        let free = self.slots.iter_mut().find(|slot| slot.listening && slot.flow.is_none());
        let config = tcp::Config {
            initial_sequence: self.secret.initial_sequence(&found.tuple, now),
            timestamp_offset: self.secret.timestamp_offset(&found.tuple),
            ..self.config.clone()
        };
        let ours = found.tuple.local_port == self.port;
        match free.filter(|_| ours).map(|slot| (slot, tcp::Connection::accept(config, &found.header, now))) {
            Some((slot, Ok(Some(tcp)))) => {
                slot.listening = false;
                slot.flow = Some(Flow { tuple: found.tuple, tcp });
            }
            _ => self.resets.extend(found.header.reset_reply(found.payload_len).map(|reset| (found.tuple, reset))),
        }
    }
}

/// Sends what a connection has to send now.
fn drain(interface: &mut Interface, flow: &mut Flow, now: Duration, wire: &mut Wire) {
    // What TCP gives out counts as sent, so it is asked only if the next hop is known.
    while !wire.is_congested()
        && let Resolution::Ready(_) = interface.resolve(now, flow.tuple.remote)
        && let Some(segment) = flow.tcp.poll_tx(now)
    {
        emit(interface, &flow.tuple, &segment.header, segment.payload, now, wire);
    }
}

fn emit(
    interface: &mut Interface,
    tuple: &FourTuple,
    header: &tcp::Header,
    payload: [&[u8]; 2],
    now: Duration,
    wire: &mut Wire,
) {
    let mut headers = [0; HEADROOM];
    let built = interface.emit_tcp(now, tuple, header, payload, Checksum::Software, &mut headers);
    match built {
        Ok(len) => {
            let mut frame = wire.buffer(len + payload[0].len() + payload[1].len());
            let (front, rest) = frame.split_at_mut(len);
            front.copy_from_slice(&headers[..len]);
            let (first, second) = rest.split_at_mut(payload[0].len());
            first.copy_from_slice(payload[0]);
            second.copy_from_slice(payload[1]);
            wire.send(frame);
        }
        Err(error) => log::debug!("segment not built: {error}"),
    }
}

impl Stack for OwnStack {
    fn receive(&mut self, frame: &[u8]) -> bool {
        if self.received_bytes + frame.len() > RX_LIMIT {
            return false;
        }
        self.received_bytes += frame.len();
        self.received.push_back(frame.to_vec());
        true
    }

    fn poll(&mut self, now: Duration, wire: &mut Wire) {
        while let Some(frame) = self.received.pop_front() {
            self.received_bytes -= frame.len();
            self.on_frame(now, frame);
        }
        for (tuple, reset) in self.resets.drain(..) {
            emit(&mut self.interface, &tuple, &reset, [&[], &[]], now, wire);
        }
        let flows = self.slots.iter_mut().filter_map(|slot| slot.flow.as_mut()).chain(&mut self.lingering);
        for flow in flows {
            drain(&mut self.interface, flow, now, wire);
        }
        self.lingering.retain(|flow| flow.tcp.state() != State::Closed || wire.is_congested());
        let mut request = [0; arp::FRAME_LEN];
        while let Some(len) = self.interface.poll_tx(now, &mut request) {
            let mut frame = wire.buffer(len);
            frame.copy_from_slice(&request[..len]);
            wire.send(frame);
        }
    }

    fn next_deadline(&mut self, now: Duration) -> Option<Duration> {
        let OwnStack { interface, slots, lingering, .. } = self;
        let flows = slots.iter().filter_map(|slot| slot.flow.as_ref()).chain(&*lingering);
        let deadlines = flows.filter_map(|flow| match interface.resolve(now, flow.tuple.remote) {
            Resolution::Ready(_) => flow.tcp.next_deadline(),
            Resolution::Pending => None,
            Resolution::Unreachable => Some(now + UNREACHABLE_PAUSE),
        });
        let tcp = deadlines.min();
        [tcp, self.interface.next_deadline()].into_iter().flatten().min()
    }

    fn has_received(&self) -> bool {
        !self.received.is_empty()
    }

    fn sockets(&self) -> usize {
        self.slots.len()
    }

    fn socket(&mut self, index: usize) -> &mut dyn Socket {
        &mut self.slots[index]
    }

    fn listen(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let over = |flow: &mut Flow| matches!(flow.tcp.state(), State::Closed | State::TimeWait);
        if let Some(mut flow) = slot.flow.take_if(over) {
            flow.tcp.drain().for_each(drop);
            slot.current = None;
            if self.lingering.len() >= LINGERING {
                self.lingering.pop_front();
            }
            self.lingering.push_back(flow);
        }
        slot.listening = slot.flow.is_none();
    }
}

impl Socket for Slot {
    fn peer(&self) -> Option<SocketAddrV4> {
        let flow = self.flow.as_ref()?;
        let IpAddr::V4(address) = flow.tuple.remote else { return None };
        match flow.tcp.state() {
            State::Closed | State::TimeWait | State::SynSent | State::SynReceived => None,
            _ => Some(SocketAddrV4::new(address, flow.tuple.remote_port)),
        }
    }

    fn recv(&mut self, take: &mut dyn FnMut(&[u8]) -> usize) -> Option<usize> {
        let tcp = &mut self.flow.as_mut()?.tcp;
        if self.current.is_none() {
            self.current = tcp.recv().map(|(_, payload)| payload);
        }
        let Some(current) = &mut self.current else {
            return (!tcp.at_end() && tcp.error().is_none()).then_some(0);
        };
        let taken = take(current.as_slice());
        current.range.start += taken;
        self.current.take_if(|current| current.range.is_empty());
        Some(taken)
    }

    fn send(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> usize) -> usize {
        let Some(Flow { tcp, .. }) = &mut self.flow else { return 0 };
        let room = tcp.send_room().min(self.scratch.len());
        if room == 0 {
            return 0;
        }
        let written = fill(&mut self.scratch[..room]);
        tcp.send(&self.scratch[..written])
    }

    fn unacknowledged(&self) -> usize {
        self.flow.as_ref().map_or(0, |flow| flow.tcp.send_position().since(flow.tcp.snd_una()) as usize)
    }

    fn close(&mut self) {
        if let Some(flow) = &mut self.flow {
            flow.tcp.close();
        }
    }

    fn abort(&mut self) {
        if let Some(flow) = &mut self.flow {
            flow.tcp.abort();
        }
    }
}
