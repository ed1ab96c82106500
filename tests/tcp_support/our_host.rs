//! Our TCP and our network layer as a host on a [`wire`](crate::wire).

use std::net::Ipv4Addr;
use std::time::Duration;

use connectx_ddp::net::{Checksum, HEADROOM, Interface, InterfaceConfig, MacAddr, Received, Resolution, arp};
use connectx_ddp::tcp::{Config, Connection, FourTuple, Segment, State};

use crate::tcp_support::Bytes;
use crate::wire::{App, Host};

pub struct OurHost {
    pub interface: Interface,
    pub tcp: Option<Connection<Bytes>>,
    pub config: Config,
    pub tuple: FourTuple,
    pub app: App,
    unused: Vec<Bytes>,
    /// Payloads handed in, and payloads that came back or were taken.
    pub given: u64,
    pub returned: u64,
    /// When the connection was open, and when everything had arrived.
    pub opened: Option<Duration>,
    pub received: Option<Duration>,
}

pub fn address(host: u8) -> (MacAddr, Ipv4Addr) {
    (MacAddr([2, 0, 0, 0, 0, host]), Ipv4Addr::new(10, 0, 0, host))
}

impl OurHost {
    /// Host 1 or 2. The first connects, the second waits for a SYN.
    pub fn new(host: u8, config: Config, app: App, mtu: u16) -> OurHost {
        let (mac, ip) = address(host);
        let (_, peer) = address(3 - host);
        let interface = Interface::new(InterfaceConfig { mac, ip, prefix_len: 24, gateway: None, mtu }).unwrap();
        let config = Config { mss: interface.mss(), ..config };
        let ports = if host == 1 { (50000, 4420) } else { (4420, 50000) };
        let tuple = FourTuple { local: ip.into(), local_port: ports.0, remote: peer.into(), remote_port: ports.1 };
        let tcp = (host == 1).then(|| Connection::connect(config.clone(), Duration::from_secs(1)).unwrap());
        OurHost {
            interface,
            tcp,
            config,
            tuple,
            app,
            unused: Vec::new(),
            given: 0,
            returned: 0,
            opened: None,
            received: None,
        }
    }

    fn application(&mut self, now: Duration) {
        let Some(tcp) = &mut self.tcp else { return };
        if !matches!(tcp.state(), State::SynSent | State::SynReceived) {
            self.opened.get_or_insert(now);
        }
        if !self.app.awake(now) {
            return;
        }
        while let Some((at, payload)) = tcp.recv() {
            assert_eq!(at + connectx_ddp::tcp::Payload::len(&payload), tcp.recv_position());
            self.returned += 1;
            self.app.take(payload.as_slice());
            if !self.app.random.chance(self.app.eager) {
                break;
            }
        }
        if self.app.all_received() {
            self.received.get_or_insert(now);
        }
        let n = tcp.send(self.app.next_bytes());
        self.app.sent += n;
        if self.app.all_sent() && tcp.state() != State::SynSent {
            tcp.close();
        }
    }
}

impl Host for OurHost {
    fn receive(&mut self, now: Duration, frame: &[u8]) {
        // As a NIC would have it: the front copied out, the rest wherever it is.
        let head = &frame[..frame.len().min(HEADROOM)];
        let Received::Tcp(found) = self.interface.receive(now, frame.len() as u32, head, Checksum::Software) else {
            return;
        };
        let end = (found.payload_offset + found.payload_len) as usize;
        let l4 = &frame[found.l4_offset as usize..end];
        if !self.interface.verify_tcp(&found, [l4]) || found.tuple != self.tuple {
            return;
        }
        if self.tcp.is_none() {
            self.tcp = Connection::accept(self.config.clone(), &found.header, now).unwrap();
            return;
        }
        let Some(tcp) = &mut self.tcp else { return };
        let mut payload = Bytes::new(frame, 0);
        found.trim(&mut payload);
        self.given += 1;
        tcp.on_segment(now, Segment { header: found.header, payload }, &mut self.unused);
        self.returned += self.unused.drain(..).count() as u64;
    }

    fn transmit(&mut self, now: Duration) -> Option<Vec<u8>> {
        let mut request = [0; arp::FRAME_LEN];
        self.application(now);
        if let Some(tcp) = &mut self.tcp
            && let Resolution::Ready(_) = self.interface.resolve(now, self.tuple.remote)
            && let Some(segment) = tcp.poll_tx(now)
        {
            let mut frame = vec![0; HEADROOM];
            let len = self
                .interface
                .emit_tcp(now, &self.tuple, &segment.header, segment.payload, Checksum::Software, &mut frame)
                .unwrap();
            frame.truncate(len);
            segment.payload.iter().for_each(|run| frame.extend_from_slice(run));
            return Some(frame);
        }
        let len = self.interface.poll_tx(now, &mut request)?;
        Some(request[..len].to_vec())
    }

    fn deadline(&mut self, now: Duration) -> Option<Duration> {
        let tcp = self.tcp.as_ref();
        let work = tcp.is_some_and(|tcp| {
            let readable = tcp.recv_position() + u32::from(tcp.at_end()) < tcp.rcv_nxt();
            let closable = self.app.all_sent() && matches!(tcp.state(), State::Established | State::CloseWait);
            readable || closable || (!self.app.all_sent() && tcp.send_room() > 0)
        });
        let wake = self.app.wakes(now, work);
        let ready = matches!(self.interface.resolve(now, self.tuple.remote), Resolution::Ready(_));
        let timers = match (tcp, ready) {
            (Some(tcp), true) => {
                let at = tcp.next_deadline();
                assert!(at.is_none_or(|at| at > now), "seed {}: a timer that is due does nothing", self.app.seed);
                at
            }
            // Unreachable for a while after three lost requests: asked again when somebody wants it again.
            (Some(_), false) => self.interface.next_deadline().or(Some(now + Duration::from_secs(1))),
            (None, _) => None,
        };
        [wake, timers].into_iter().flatten().min()
    }

    fn describe(&self) -> String {
        let app = (self.app.sent, self.app.to_send.len(), self.app.received.len(), self.app.expected.len());
        format!("ours: sent, of, received, of {app:?}\n{:#?}", self.tcp)
    }

    fn done(&self) -> bool {
        let over = |tcp: &Connection<Bytes>| matches!(tcp.state(), State::Closed | State::TimeWait) && tcp.at_end();
        self.app.all_received() && self.tcp.as_ref().is_some_and(over)
    }
}
