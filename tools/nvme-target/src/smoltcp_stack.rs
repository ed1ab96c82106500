//! smoltcp as the target's TCP.

use crate::config::Config;
use crate::stack::{Socket, Stack};
use crate::wire::{ETHERNET, Wire, recycle};
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::time::Duration;

/// Bytes of received frames that may wait; more are dropped, as a NIC does.
const RX_LIMIT: usize = 64 << 20;

/// smoltcp with its sockets: no selective acknowledgments as a sender (0.14), so after a loss it goes back.
pub struct SmoltcpStack {
    received: Received,
    interface: Interface,
    sockets: SocketSet<'static>,
    handles: Vec<SocketHandle>,
    port: u16,
}

impl SmoltcpStack {
    /// The stack of a target with this configuration; its sockets do not listen yet.
    pub fn new(config: &Config) -> SmoltcpStack {
        let mut received = Received { mtu: config.mtu, frames: VecDeque::new(), bytes: 0, pool: Vec::new() };
        let mut interface_config = smoltcp::iface::Config::new(HardwareAddress::Ethernet(EthernetAddress(config.mac)));
        interface_config.random_seed = config.seed;
        let mut nowhere = Wire::new(config.script.segmentation, 0);
        let mut link = Link { received: &mut received, wire: &mut nowhere };
        let mut interface = Interface::new(interface_config, &mut link, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // The list has room for at least one: it was empty.
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(config.ip), config.prefix_len));
        });
        if let Some(gateway) = config.gateway {
            // Likewise.
            let _ = interface.routes_mut().add_default_ipv4_route(gateway);
        }
        let mut sockets = SocketSet::new(Vec::new());
        let handles = (0..config.connections()).map(|_| {
            let rx = tcp::SocketBuffer::new(vec![0; config.rx_buffer]);
            let tx = tcp::SocketBuffer::new(vec![0; config.tx_buffer]);
            let mut socket = tcp::Socket::new(rx, tx);
            // PDUs are written whole: waiting for more to send only delays them.
            socket.set_nagle_enabled(false);
            sockets.add(socket)
        });
        let handles = handles.collect();
        SmoltcpStack { received, interface, sockets, handles, port: config.port }
    }
}

impl Stack for SmoltcpStack {
    fn receive(&mut self, frame: &[u8]) -> bool {
        self.received.push(frame)
    }

    fn poll(&mut self, now: Duration, wire: &mut Wire) {
        let mut link = Link { received: &mut self.received, wire };
        self.interface.poll(instant(now), &mut link, &mut self.sockets);
    }

    fn next_deadline(&mut self, now: Duration) -> Option<Duration> {
        let at = self.interface.poll_at(instant(now), &self.sockets)?;
        Some(Duration::from_micros(at.total_micros().max(0) as u64))
    }

    fn has_received(&self) -> bool {
        !self.received.frames.is_empty()
    }

    fn sockets(&self) -> usize {
        self.handles.len()
    }

    fn socket(&mut self, index: usize) -> &mut dyn Socket {
        self.sockets.get_mut::<tcp::Socket>(self.handles[index])
    }

    fn listen(&mut self, index: usize) {
        let socket = self.sockets.get_mut::<tcp::Socket>(self.handles[index]);
        let free = match socket.state() {
            // An aborted socket has a RST to send first.
            tcp::State::Closed => socket.remote_endpoint().is_none(),
            tcp::State::TimeWait => true,
            _ => false,
        };
        if free && let Err(error) = socket.listen(self.port) {
            log::error!("cannot listen on port {}: {error}", self.port);
        }
    }
}

impl Socket for tcp::Socket<'static> {
    fn peer(&self) -> Option<SocketAddrV4> {
        match self.state() {
            tcp::State::Closed
            | tcp::State::TimeWait
            | tcp::State::Listen
            | tcp::State::SynReceived
            | tcp::State::SynSent => return None,
            _ => {}
        }
        let peer = self.remote_endpoint()?;
        // Irrefutable only while no other crate of the build turns smoltcp's IPv6 on.
        #[allow(irrefutable_let_patterns)]
        let IpAddress::Ipv4(address) = peer.addr else { return None };
        Some(SocketAddrV4::new(address, peer.port))
    }

    fn recv(&mut self, take: &mut dyn FnMut(&[u8]) -> usize) -> Option<usize> {
        let taken = tcp::Socket::recv(self, |stream| {
            let taken = take(stream);
            (taken, taken)
        });
        taken.ok()
    }

    fn send(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> usize) -> usize {
        if !self.can_send() {
            return 0;
        }
        let written = tcp::Socket::send(self, |room| {
            let written = fill(room);
            (written, written)
        });
        written.unwrap_or(0)
    }

    fn unacknowledged(&self) -> usize {
        self.send_queue()
    }

    fn close(&mut self) {
        tcp::Socket::close(self);
    }

    fn abort(&mut self) {
        tcp::Socket::abort(self);
    }
}

fn instant(now: Duration) -> Instant {
    Instant::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}

/// Frames from the wire.
#[derive(Debug)]
struct Received {
    mtu: usize,
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Buffers of frames that smoltcp is done with.
    pool: Vec<Vec<u8>>,
}

impl Received {
    /// Queues a frame; false if it was dropped.
    fn push(&mut self, frame: &[u8]) -> bool {
        if frame.len() > self.mtu + ETHERNET + 4 || self.bytes + frame.len() > RX_LIMIT {
            return false;
        }
        let mut buffer = self.pool.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(frame);
        self.bytes += frame.len();
        self.frames.push_back(buffer);
        true
    }
}

/// The Ethernet link below smoltcp.
struct Link<'a> {
    received: &'a mut Received,
    wire: &'a mut Wire,
}

impl Device for Link<'_> {
    type RxToken<'a>
        = Frame<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Sender<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Frame<'_>, Sender<'_>)> {
        if self.wire.is_congested() {
            return None;
        }
        let frame = self.received.frames.pop_front()?;
        self.received.bytes -= frame.len();
        Some((Frame { frame, pool: &mut self.received.pool }, Sender(self.wire)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sender<'_>> {
        (!self.wire.is_congested()).then_some(Sender(self.wire))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        // Checksums stay with smoltcp, in both directions: the NIC at the other end verifies them.
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.received.mtu + ETHERNET;
        capabilities
    }
}

/// A frame on its way into smoltcp.
struct Frame<'a> {
    frame: Vec<u8>,
    pool: &'a mut Vec<Vec<u8>>,
}

impl RxToken for Frame<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let result = f(&self.frame);
        recycle(self.pool, self.frame);
        result
    }
}

/// Room for a frame on its way out.
struct Sender<'a>(&'a mut Wire);

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = self.0.buffer(len);
        let result = f(&mut frame);
        self.0.send(frame);
        result
    }
}
