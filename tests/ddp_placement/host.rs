//! A function brought up with one receive queue of 128-byte entries, steering, and the offload; nothing above.

use connectx_ddp::adapter::{Adapter, Config};
use connectx_ddp::ddp::contract::{self, Event, Offload, Setup, Teardown};
use connectx_ddp::ddp::create::{Capacity, Removed};
use connectx_ddp::ddp::device::{AddError, Device, Offloads, Settings, Socket};
use connectx_ddp::ddp::rebuild::Rebuilt;
use connectx_ddp::dma::IoBuf;
use connectx_ddp::frame::{Frame, Range, RxBuffer};
use connectx_ddp::platform::virtual_nic::VirtualPlatform;
use connectx_ddp::platform::{Deadline, Platform};
use connectx_ddp::queue::{Base, CompletionQueue, ReceiveQueue, RxPool};
use connectx_ddp::steering::{
    Defaults, FiveTuple, Steering, SteeringCaps, SteeringParams, Target, TirParams, create_rqt, create_tir,
};
use firmware_iface::caps::CmdHcaCap;
use hw_regs::cqe::OffloadCqe;
use hw_regs::layout::Access;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a receive buffer.
pub const BUFFER: u32 = 2048;
const LOG_WQES: u32 = 6;

pub struct Host {
    pub platform: Arc<VirtualPlatform>,
    pub adapter: Adapter<VirtualPlatform>,
    pub base: Base,
    pub offloads: Offloads,
    pub pool: RxPool,
    steering: Steering,
    cq: CompletionQueue<OffloadCqe>,
    rq: ReceiveQueue,
    rqtn: u32,
    /// Objects of everything but offload queues.
    objects: usize,
}

impl Host {
    pub fn new(config: virtual_nic::Config) -> Host {
        let platform = Arc::new(VirtualPlatform::new("virtual", config));
        let mut adapter = Adapter::bring_up(Arc::clone(&platform), Config::default()).expect("brought up");
        let base = Base::of(&adapter);
        let deadline = deadline(&platform);
        let eqn = adapter.completion_eqn(0);
        let mut cq = CompletionQueue::create(&mut adapter, &base, LOG_WQES, eqn, deadline).expect("CQ");
        let mut pool = RxPool::new(&base.heap, 512, BUFFER).expect("memory");
        let mut rq = ReceiveQueue::create(&mut adapter, &base, &mut cq, LOG_WQES, &pool, 0, deadline).expect("RQ");
        rq.post(&mut pool);
        let rqtn = create_rqt(&mut adapter, &[rq.rqn()], 1, deadline).expect("RQT").number();
        let tirn = create_tir(&mut adapter, &base, &TirParams::new(Target::First { rqtn }), deadline).expect("TIR");
        let caps = SteeringCaps::new(&adapter.capabilities().receive_flow_tables()).expect("it can steer");
        let params = SteeringParams { connections_ipv4: 64, connections_ipv6: 0 };
        let defaults = Defaults { other: tirn.number(), tcp_ipv4: None, tcp_ipv6: None };
        let steering = Steering::create(&mut adapter, &caps, &params, &defaults, deadline).expect("steering");
        let log_sq = adapter.capabilities().general().get(CmdHcaCap::LOG_MAX_QP_SZ);
        let capacity = Capacity::new(&adapter.capabilities().offload(), log_sq).expect("it can place");
        let offloads = Offloads::new(capacity, Settings::new(eqn));
        let objects = adapter.objects().len();
        Host { platform, adapter, base, offloads, pool, steering, cq, rq, rqtn, objects }
    }

    pub fn device<R>(
        &mut self,
        each: impl FnOnce(&mut Device<'_, Adapter<VirtualPlatform>, VirtualPlatform>) -> R,
    ) -> R {
        each(&mut self.offloads.with(&mut self.adapter, &mut self.steering, &*self.platform, &self.base))
    }

    /// Offloads the connection from `source` to `destination`.
    pub fn add(
        &mut self,
        source: SocketAddr,
        destination: SocketAddr,
        next_pdu: u32,
        queue_size: u32,
        data_digest: bool,
    ) -> Result<u32, AddError> {
        let socket = Socket { tuple: FiveTuple { source, destination }, next_pdu };
        let config = contract::Config { cpda: 0, header_digest: false, data_digest, queue_size, rqtn: self.rqtn };
        self.device(|device| device.sk_add(&socket, &config))
    }

    pub fn del(&mut self, queue: u32) -> Removed {
        self.device(|device| device.sk_del(queue)).expect("a queue")
    }

    /// Binds a buffer and lets the device know.
    pub fn bind(&mut self, queue: u32, tag: u16, buffer: IoBuf) {
        assert_eq!(self.offloads.setup(queue, tag, buffer, &*self.platform).expect("free"), Setup::Offloaded);
        self.flush();
    }

    pub fn flush(&mut self) {
        self.offloads.flush(&*self.platform);
        self.platform.pause();
    }

    /// Puts a frame on the wire and returns what the driver makes of it.
    pub fn receive(&mut self, frame: &[u8]) -> Frame {
        let Rebuilt { frame, resync } = self.try_receive(frame).expect("one packet");
        assert_eq!(resync, None);
        frame
    }

    pub fn try_receive(&mut self, frame: &[u8]) -> Option<Rebuilt> {
        self.platform.nic().receive(frame);
        self.platform.pause();
        let entry = self.cq.poll()?;
        let arrival = self.rq.accept(&entry).expect("a packet");
        let rebuilt = self.offloads.receive(&entry, arrival);
        self.cq.update();
        self.rq.post(&mut self.pool);
        Some(rebuilt.expect("the device tells the truth"))
    }

    /// The bytes that a frame stands for.
    pub fn bytes(&self, frame: &Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        for range in frame.ranges() {
            let from = bytes.len();
            bytes.resize(from + range.len() as usize, 0);
            match range {
                Range::Ring { buffer, offset, .. } => self.pool.read(buffer, offset, &mut bytes[from..]),
                Range::Placed { at, .. } => {
                    let tags = self.offloads.queue(frame.queue()).expect("its queue").tags();
                    tags.placed_in(at).expect("bound").read(at.offset as usize, &mut bytes[from..]);
                }
            }
        }
        bytes
    }

    pub fn give_back(&mut self, frame: Frame) {
        let buffer: RxBuffer = frame.into_buffer();
        self.pool.give_back(buffer);
    }

    /// Asks for a buffer back and waits until the device has forgotten it.
    pub fn unbind(&mut self, queue: u32, tag: u16) -> IoBuf {
        assert!(matches!(self.offloads.teardown(queue, tag), Ok(Teardown::Pending)));
        self.flush();
        let event = deadline(&self.platform).wait(&*self.platform, || {
            self.offloads.poll();
            // What waited for room in the control ring is posted by now, and not shown.
            self.offloads.flush(&*self.platform);
            self.offloads.next_event()
        });
        match event {
            Some((from, Event::TeardownDone(released))) if from == queue && released.tag() == tag => {
                assert!(!released.is_suspect());
                released.into_buffer()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Nothing of the offload is left.
    pub fn assert_no_queue(&self) {
        assert!(self.offloads.is_empty());
        let objects = self.objects + self.offloads.spare_keys();
        assert_eq!((self.adapter.objects().len(), self.steering.rules()), (objects, 0));
        assert_eq!(self.platform.nic().inventory().bound_tags, 0);
    }

    /// Tears everything down, and asks the device what is left and what it was misused for.
    pub fn finish(mut self) {
        self.assert_no_queue();
        let deadline = deadline(&self.platform);
        self.steering.destroy(&mut self.adapter, deadline).expect("destroyed");
        assert_eq!(self.pool.outstanding(), self.rq.posted(), "every frame gave its buffer back");
        let platform = self.platform;
        let report = self.adapter.teardown(deadline);
        assert!(report.is_clean(), "{report:?}");
        drop((self.cq, self.rq, self.pool));
        let nic = platform.nic();
        assert!(nic.inventory().is_empty(), "{}", nic.inventory());
        assert_eq!(nic.counters().misuse, Default::default());
        assert_eq!(nic.counters().commands_refused, 0);
    }
}

pub fn deadline(platform: &Arc<VirtualPlatform>) -> Deadline {
    Deadline::after(&**platform, Duration::from_secs(3))
}
