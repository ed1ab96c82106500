//! The target: smoltcp below, connections above, frames in and out.

use crate::backing::Backing;
use crate::config::{Config, ConfigError};
use crate::connection::{Connection, Scripted, Shared};
use crate::counters::Counters;
use crate::errors::ConnectionError;
use crate::link::Link;
use crate::subsystem::Subsystem;
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::time::Duration;

/// Connection errors that are kept until somebody fetches them.
pub(crate) const ERRORS_KEPT: usize = 256;

/// Rounds between TCP and the connections in one `poll`. Each one moves at least a byte, and what moves is bounded by the
/// buffers, so this only guards against a mistake in that reasoning.
const ROUNDS: usize = 10_000;

/// An NVMe/TCP target on an Ethernet wire.
///
/// It has no clock and no threads: the caller brings frames and the time, and takes frames away.
///
/// ```no_run
/// # use nvme_target::{Config, Generated, Target};
/// # use std::time::Duration;
/// # fn wire_has() -> Option<Vec<u8>> { None }
/// # fn wire_takes(_: &[u8]) {}
/// let mut target = Target::new(Config::default(), Box::new(Generated::new(1, 1 << 30)))?;
/// let mut now = Duration::ZERO;
/// loop {
///     while let Some(frame) = wire_has() {
///         target.receive(&frame);
///     }
///     target.poll(now);
///     while let Some(frame) = target.transmit() {
///         wire_takes(&frame);
///         target.recycle(frame);
///     }
///     // nothing under way: go on at the next deadline
///     now = target.next_deadline(now).unwrap_or(now + Duration::from_millis(1));
/// #   break;
/// }
/// # Ok::<(), nvme_target::ConfigError>(())
/// ```
pub struct Target {
    link: Link,
    interface: Interface,
    sockets: SocketSet<'static>,
    slots: Vec<Slot>,
    subsystem: Subsystem,
    faults: Vec<Scripted>,
    errors: VecDeque<ConnectionError>,
    /// Work is left over from the last `poll`.
    unfinished: bool,
}

/// A socket and the connection on it.
struct Slot {
    handle: SocketHandle,
    connection: Option<Connection>,
}

impl Target {
    /// A target that listens. Fails if the configuration cannot work with the image.
    pub fn new(config: Config, backing: Box<dyn Backing>) -> Result<Target, ConfigError> {
        config.check(backing.len())?;
        let mut link = Link::new(config.mtu, config.script.segmentation, config.script.seed);
        let mut interface_config = smoltcp::iface::Config::new(HardwareAddress::Ethernet(EthernetAddress(config.mac)));
        interface_config.random_seed = config.seed;
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
        let mut slots = Vec::new();
        for _ in 0..config.connections() {
            let rx = tcp::SocketBuffer::new(vec![0; config.rx_buffer]);
            let tx = tcp::SocketBuffer::new(vec![0; config.tx_buffer]);
            let mut socket = tcp::Socket::new(rx, tx);
            // PDUs are written whole: waiting for more to send only delays them.
            socket.set_nagle_enabled(false);
            slots.push(Slot { handle: sockets.add(socket), connection: None });
        }
        let faults = config.script.faults.iter().map(|&fault| Scripted { fault, happened: false }).collect();
        let subsystem = Subsystem::new(config, backing);
        let errors = VecDeque::new();
        let mut target = Target { link, interface, sockets, slots, subsystem, faults, errors, unfinished: false };
        target.connections(Duration::ZERO);
        Ok(target)
    }

    /// Takes an Ethernet frame (without FCS) from the wire. It is looked at in the next [`poll`](Target::poll).
    pub fn receive(&mut self, frame: &[u8]) {
        self.subsystem.counters.frames_received += 1;
        if !self.link.push(frame) {
            self.subsystem.counters.frames_dropped += 1;
        }
    }

    /// Does all that can be done now. Time must not go backwards.
    pub fn poll(&mut self, now: Duration) {
        let instant = instant(now);
        for _ in 0..ROUNDS {
            self.interface.poll(instant, &mut self.link, &mut self.sockets);
            if !self.connections(now) {
                break;
            }
        }
        self.interface.poll(instant, &mut self.link, &mut self.sockets);
        self.unfinished = self.link.has_received() || self.link.is_congested();
    }

    /// The next Ethernet frame (without FCS) for the wire.
    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        let frame = self.link.pop()?;
        self.subsystem.counters.frames_sent += 1;
        Some(frame)
    }

    /// Gives a frame that came from [`transmit`](Target::transmit) back, so that its memory is used again. Not needed, but
    /// it spares an allocation per frame.
    pub fn recycle(&mut self, frame: Vec<u8>) {
        self.link.recycle(frame);
    }

    /// When [`poll`](Target::poll) has work even if no frame arrives: the time of the nearest timer, not before `now`.
    /// `None` if it is only waiting for frames.
    pub fn next_deadline(&mut self, now: Duration) -> Option<Duration> {
        if self.unfinished || self.link.has_received() {
            return Some(now);
        }
        let tcp = self.interface.poll_at(instant(now), &self.sockets);
        let mut nearest = tcp.map(|at| Duration::from_micros(at.total_micros().max(0) as u64));
        for slot in &self.slots {
            if let Some(connection) = &slot.connection {
                let socket = self.sockets.get::<tcp::Socket>(slot.handle);
                let deadline = connection.deadline(socket, &self.subsystem);
                nearest = [nearest, deadline].into_iter().flatten().min();
            }
        }
        nearest.map(|at| at.max(now))
    }

    /// Breaks every connection off: the hosts get resets. New ones are accepted as before.
    pub fn break_off(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| slot.connection.is_some()) {
            self.sockets.get_mut::<tcp::Socket>(slot.handle).abort();
        }
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.subsystem.counters.clone()
    }

    /// The connections that ended badly since the last call, oldest first; at most 256 are remembered.
    pub fn errors(&mut self) -> Vec<ConnectionError> {
        self.errors.drain(..).collect()
    }

    /// The image, as hosts see it now.
    pub fn backing(&self) -> &dyn Backing {
        &*self.subsystem.backing
    }

    /// Runs every connection once. True if anything moved.
    fn connections(&mut self, now: Duration) -> bool {
        let mut moved = false;
        let mut shared = Shared {
            subsystem: &mut self.subsystem,
            link: &mut self.link,
            faults: &mut self.faults,
            errors: &mut self.errors,
            now,
        };
        for slot in &mut self.slots {
            let socket = self.sockets.get_mut::<tcp::Socket>(slot.handle);
            match socket.state() {
                tcp::State::Closed | tcp::State::TimeWait => {
                    if let Some(connection) = slot.connection.take() {
                        connection.closed(socket, &mut shared);
                        moved = true;
                    }
                    // An aborted socket has a RST to send first.
                    if socket.remote_endpoint().is_none() || socket.state() == tcp::State::TimeWait {
                        let port = shared.subsystem.config.port;
                        if let Err(error) = socket.listen(port) {
                            log::error!("cannot listen on port {port}: {error}");
                        }
                    }
                    continue;
                }
                // A listening socket whose connection vanished in the handshake (RST) is back here too.
                tcp::State::Listen => {
                    if let Some(connection) = slot.connection.take() {
                        connection.closed(socket, &mut shared);
                        moved = true;
                    }
                    continue;
                }
                tcp::State::SynReceived | tcp::State::SynSent => continue,
                _ => {}
            }
            if slot.connection.is_none() {
                let Some(peer) = socket.remote_endpoint() else { continue };
                // Irrefutable only while no other crate of the build turns smoltcp's IPv6 on.
                #[allow(irrefutable_let_patterns)]
                let IpAddress::Ipv4(address) = peer.addr else { continue };
                let peer = SocketAddrV4::new(address, peer.port);
                let number = shared.subsystem.counters.connections;
                shared.subsystem.counters.connections += 1;
                let seed = shared.subsystem.config.script.seed;
                slot.connection = Some(Connection::new(number, peer, seed, now));
                moved = true;
            }
            if let Some(connection) = &mut slot.connection {
                moved |= connection.poll(socket, &mut shared);
            }
        }
        for controller in std::mem::take(&mut shared.subsystem.ended) {
            for slot in &mut self.slots {
                let connection = slot.connection.as_mut();
                let member = connection.filter(|c| c.queue().is_some_and(|queue| queue.controller == controller));
                if let Some(connection) = member {
                    connection.controller_ended(self.sockets.get_mut(slot.handle), &mut shared);
                    moved = true;
                }
            }
        }
        moved
    }
}

fn instant(now: Duration) -> Instant {
    Instant::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}
