//! smoltcp, a TCP that is not ours, as a host on a [`wire`](crate::wire).

use std::collections::VecDeque;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

use crate::our_host::address;
use crate::wire::{App, Host};

struct Queues {
    rx: VecDeque<Vec<u8>>,
    tx: VecDeque<Vec<u8>>,
    mtu: usize,
}

struct RxToken(Vec<u8>);
struct TxToken<'a>(&'a mut VecDeque<Vec<u8>>);

impl smoltcp::phy::RxToken for RxToken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl smoltcp::phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = RxToken;
    type TxToken<'a> = TxToken<'a>;

    fn receive(&mut self, _: Instant) -> Option<(RxToken, TxToken<'_>)> {
        self.rx.pop_front().map(|frame| (RxToken(frame), TxToken(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<TxToken<'_>> {
        Some(TxToken(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + 14;
        capabilities
    }
}

pub struct SmoltcpHost {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    device: Queues,
    pub app: App,
}

fn instant(now: Duration) -> Instant {
    Instant::from_micros(now.as_micros() as i64)
}

impl SmoltcpHost {
    /// Host 2: it listens.
    pub fn new(app: App, mtu: u16, buffer: usize, timestamps: bool) -> SmoltcpHost {
        let (mac, ip) = address(2);
        let mut device = Queues { rx: VecDeque::new(), tx: VecDeque::new(), mtu: usize::from(mtu) };
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac.0)));
        config.random_seed = app.seed;
        let mut interface = Interface::new(config, &mut device, Instant::from_secs(1));
        interface.update_ip_addrs(|all| all.push(IpCidr::new(ip.into(), 24)).unwrap());
        let buffers = || tcp::SocketBuffer::new(vec![0; buffer]);
        let mut socket = tcp::Socket::new(buffers(), buffers());
        socket.set_timeout(None);
        socket.set_nagle_enabled(false);
        if timestamps {
            socket.set_tsval_generator(Some(|| 1));
        }
        socket.listen(4420).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        SmoltcpHost { interface, sockets, handle, device, app }
    }

    fn application(&mut self, now: Duration) {
        let socket = self.sockets.get_mut::<tcp::Socket>(self.handle);
        if !self.app.awake(now) {
            return;
        }
        while socket.can_recv() {
            let mut bytes = [0; 2000];
            let most = if self.app.eager >= 1000 { 2000 } else { 1 + self.app.random.below(2000) as usize };
            let n = socket.recv_slice(&mut bytes[..most]).unwrap();
            self.app.take(&bytes[..n]);
            if !self.app.random.chance(self.app.eager) {
                break;
            }
        }
        if socket.can_send() && !self.app.all_sent() {
            let n = socket.send_slice(self.app.next_bytes()).unwrap();
            self.app.sent += n;
        }
        if self.app.all_sent() && socket.may_send() {
            socket.close();
        }
    }
}

impl Host for SmoltcpHost {
    fn receive(&mut self, now: Duration, frame: &[u8]) {
        self.device.rx.push_back(frame.to_vec());
        self.interface.poll(instant(now), &mut self.device, &mut self.sockets);
    }

    fn transmit(&mut self, now: Duration) -> Option<Vec<u8>> {
        self.application(now);
        self.interface.poll(instant(now), &mut self.device, &mut self.sockets);
        self.device.tx.pop_front()
    }

    fn deadline(&mut self, now: Duration) -> Option<Duration> {
        let socket = self.sockets.get::<tcp::Socket>(self.handle);
        let writes = !self.app.all_sent() && socket.can_send();
        let closes = self.app.all_sent() && socket.may_send();
        let wake = self.app.wakes(now, socket.can_recv() || writes || closes);
        let timer = self.interface.poll_delay(instant(now), &self.sockets);
        let timer = timer.map(|delay| now + Duration::from_micros(delay.total_micros().max(1)));
        [wake, timer].into_iter().flatten().min()
    }

    fn describe(&self) -> String {
        let app = (self.app.sent, self.app.to_send.len(), self.app.received.len(), self.app.expected.len());
        let socket = self.sockets.get::<tcp::Socket>(self.handle);
        format!("smoltcp {:?}: sent, of, received, of {app:?}", socket.state())
    }

    fn done(&self) -> bool {
        let socket = self.sockets.get::<tcp::Socket>(self.handle);
        let over = matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait);
        self.app.all_received() && self.app.all_sent() && over
    }
}
