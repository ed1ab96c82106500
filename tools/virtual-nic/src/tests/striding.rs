//! | property | test |
//! |---|---|
//! | packets lie in strides one behind the other, what does not fit takes a filler, WQEs follow the driver's list | `packets_share_work_requests` |
//! | a WQE's buffer may be a key that UMR filled with pages, which need not follow each other | `a_buffer_may_be_a_key_that_umr_filled` |
//! | without a WQE packets are dropped, and go on when one is posted, even in an order of the driver's | `what_is_given_back_is_used_again` |
//! | a frame longer than a WQE fails the queue, which works again after a reset, from the first WQE on | `a_frame_longer_than_a_work_request_fails_the_queue` |
//! | without the switch such queues do not exist; with it impossible ones do not | `queues_that_cannot_be_are_refused` |

use super::bring_up::answer;
use super::host::{BASE, Host, Queue, data_segment};
use super::traffic::config;
use crate::config::Switches;
use crate::packet::build::Build;
use crate::{Config, refusal};
use firmware_iface::Opcode;
use firmware_iface::command::{object::*, queue::*};
use firmware_iface::context::*;
use hw_regs::cqe::{Cqe64, ErrCqe};
use hw_regs::layout::{Access, Layout};
use hw_regs::wqe::{WqeCtrlSeg, WqeMkeySeg, WqeOpcode, WqeSrqNextSeg, WqeUmrCtrlSeg};

/// A WQE is 8 strides of 256 bytes.
const STRIDE: u32 = 256;
const WQE: u32 = 8 * STRIDE;

fn striding() -> Config {
    Config { initial_mtu: 9022, switches: Switches { striding_rq: true, ..Switches::default() }, ..config() }
}

fn strides(rqc: &mut Rqc) {
    let wq: Wq = rqc.nested(Rqc::WQ);
    let wq = wq
        .with(Wq::WQ_TYPE, u32::from(WqType::LINKED_LIST_STRIDING_RQ.0))
        .with(Wq::LOG_WQE_NUM_OF_STRIDES, 0xa)
        .with(Wq::LOG_WQE_STRIDE_SIZE, 2);
    *rqc = rqc.with_nested(Rqc::WQ, &wq);
}

/// A host that receives everything on one queue of four WQEs, whose buffers lie at `buffer` of `key`; none is posted.
struct Receiver {
    host: Host,
    cq: Queue,
    rq: Queue,
}

impl Receiver {
    fn new() -> Receiver {
        let mut host = Host::running(striding());
        let eq = host.create_eq(0, 4, &[]);
        let cq = host.create_cq(eq.number, 6, 64);
        let rq = host.create_rq(cq.number, 2, 5, strides);
        let tir = host.create_tir(&Tirc::zeroed().with(Tirc::INLINE_RQN, rq.number));
        host.steer_all(tir, 7);
        Receiver { host, cq, rq }
    }

    /// Writes the list as a driver does at first: each WQE names the next.
    fn fill(&mut self, key: u32, buffer: u64) {
        for n in 0..4 {
            self.link(n, n + 1);
            let segment = data_segment(WQE, key, buffer + u64::from(n * WQE));
            self.host.write(self.rq.at(n) + 16, &segment);
        }
    }

    fn link(&mut self, from: u32, to: u32) {
        let head = WqeSrqNextSeg::zeroed().with(WqeSrqNextSeg::NEXT_WQE_INDEX, to);
        self.host.write(self.rq.at(from), head.bytes());
    }

    fn post(&mut self, count: u32) {
        self.rq.counter += count;
        self.host.write32(self.rq.record, self.rq.counter & 0xffff);
    }

    fn receive(&mut self, payload: usize) -> Vec<u8> {
        let bytes: Vec<u8> = (0..payload).map(|at| (at * 3 + payload) as u8).collect();
        let frame = Build::tcp(1, &bytes).frame();
        self.host.nic.receive(&frame);
        frame
    }

    fn cqe(&mut self) -> Cqe64 {
        Cqe64::from_prefix(&self.host.next_cqe(&mut self.cq).expect("a completion"))
    }

    /// WQE, first stride, strides, bytes, filler of the next completion.
    fn place(&mut self) -> (u32, u32, u32, u32, bool) {
        let cqe = self.cqe();
        let [wqe, stride, count, bytes] =
            [Cqe64::WQE_ID, Cqe64::WQE_COUNTER, Cqe64::BYTE_CNT_MPWRQ_CONSUMED_STRIDES, Cqe64::BYTE_CNT_MPWRQ_BYTE_CNT]
                .map(|field| cqe.get(field));
        (wqe, stride, count, bytes, cqe.is_set(Cqe64::BYTE_CNT_MPWRQ_FILLER))
    }
}

#[test]
fn packets_share_work_requests() {
    let mut r = Receiver::new();
    let buffer = r.host.alloc(u64::from(4 * WQE), 4096);
    let key = r.host.key;
    r.fill(key, buffer);
    r.post(3);
    let headers = Build::tcp(1, &[]).frame().len();
    // One, two and three strides; two are left, which three do not fit into; then a whole one.
    let mut places = Vec::new();
    for bytes in [60, 257, 700, 600, 1280, 2048] {
        let frame = r.receive(bytes - headers);
        let place = r.place();
        let place = if place.4 {
            places.push(place);
            r.place()
        } else {
            place
        };
        let at = buffer + u64::from(place.0 * WQE + place.1 * STRIDE);
        assert_eq!(r.host.read(at, frame.len()), frame);
        places.push(place);
    }
    assert_eq!(
        places,
        [
            (0, 0, 1, 60, false),
            (0, 1, 2, 257, false),
            (0, 3, 3, 700, false),
            (0, 6, 2, 0, true),
            (1, 0, 3, 600, false),
            (1, 3, 5, 1280, false),
            (2, 0, 8, 2048, false),
        ]
    );
    let counters = r.host.nic.counters();
    assert_eq!((counters.rx_completions, counters.rx_fillers, counters.drops.received()), (6, 1, 0));
}

#[test]
fn a_buffer_may_be_a_key_that_umr_filled() {
    let mut r = Receiver::new();
    // Two pages, the second in front of the first in memory; the entries of a UMR come in fours of octowords.
    let (second, first) = (r.host.alloc(4096, 4096), r.host.alloc(4096, 4096));
    let mkc = Mkc::zeroed()
        .with(Mkc::FREE, 1)
        .with(Mkc::UMR_EN, 1)
        .with(Mkc::LW, 1)
        .with(Mkc::ACCESS_MODE_1_0, u32::from(AccessMode::MTT.0))
        .with(Mkc::QPN, 0xff_ffff)
        .with(Mkc::PD, r.host.pd)
        .with(Mkc::LOG_PAGE_SIZE, 12)
        .with(Mkc::TRANSLATIONS_OCTWORD_SIZE, 4)
        .with_wide(Mkc::LEN, 8 * 4096);
    let key = r.host.create_mkey(&mkc);
    r.fill(key, 0);
    r.post(1);
    // A free key translates nothing: the queue would fail. So first the UMR.
    let cq = r.cq.number;
    let mut sq = r.host.create_sq(cq, 4, None);
    let umr = WqeUmrCtrlSeg::zeroed()
        .with(WqeUmrCtrlSeg::FLAGS_INLINE, 1)
        .with(WqeUmrCtrlSeg::FLAGS_TRANSLATION_OFFSET_EN, 1)
        .with(WqeUmrCtrlSeg::XLT_OCTOWORDS, 4)
        .with_wide(WqeUmrCtrlSeg::MKEY_MASK, 1 << 29);
    let control = WqeCtrlSeg::zeroed()
        .with(WqeCtrlSeg::OPMOD_IDX_OPCODE_OPCODE, u32::from(WqeOpcode::UMR.0))
        .with(WqeCtrlSeg::QPN_DS_DS, 12)
        .with(WqeCtrlSeg::FM_CE_SE_COMPLETION_MODE, 2)
        .with(WqeCtrlSeg::IMM, key);
    let pages = [first, second].into_iter().chain(std::iter::repeat(first)).take(8);
    let pages: Vec<u8> = pages.flat_map(|page| (page | 2).to_be_bytes()).collect();
    let wqe = [control.bytes(), umr.bytes(), WqeMkeySeg::zeroed().bytes(), &pages].concat();
    r.host.post_send(&mut sq, &wqe);
    r.host.ring_sq(&sq);
    assert_eq!(r.cqe().get(Cqe64::OP_OWN_OPCODE), 0, "the UMR is done");
    // WQEs of two kilobytes: the third begins in the second page.
    r.post(2);
    let headers = Build::tcp(1, &[]).frame().len();
    for (wqe, at) in [(0, first), (1, first + 2048), (2, second)] {
        let frame = r.receive(2048 - headers);
        assert_eq!(r.place(), (wqe, 0, 8, 2048, false));
        assert_eq!(r.host.read(at, 2048), frame);
    }
    assert_eq!(r.host.nic.counters().work_requests.umr, 1);
}

#[test]
fn what_is_given_back_is_used_again() {
    let mut r = Receiver::new();
    let buffer = r.host.alloc(u64::from(4 * WQE), 4096);
    let key = r.host.key;
    r.fill(key, buffer);
    r.receive(1000);
    assert_eq!(r.host.nic.counters().drops.out_of_buffer, 1);
    let headers = Build::tcp(1, &[]).frame().len();
    r.post(4);
    (0..4).for_each(|_| drop(r.receive(2048 - headers)));
    let used: Vec<u32> = (0..4).map(|_| r.place().0).collect();
    assert_eq!(used, [0, 1, 2, 3]);
    r.receive(1000);
    assert_eq!(r.host.nic.counters().drops.out_of_buffer, 2);
    // Given back in another order, behind the last.
    for (from, to) in [(3, 2), (2, 0), (0, 3), (3, 1)] {
        r.link(from, to);
        r.post(1);
        r.receive(2048 - headers);
        assert_eq!(r.place().0, to);
    }
    // A list that leads out of the ring.
    r.link(1, 4);
    r.post(1);
    r.receive(1000);
    let cqe = ErrCqe::from_prefix(r.cqe().bytes());
    assert_eq!((cqe.get(ErrCqe::VENDOR_ERR_SYND), cqe.get(ErrCqe::WQE_ID)), (0xaa, 1));
}

#[test]
fn a_frame_longer_than_a_work_request_fails_the_queue() {
    let mut r = Receiver::new();
    let buffer = r.host.alloc(u64::from(4 * WQE), 4096);
    let key = r.host.key;
    r.fill(key, buffer);
    r.post(3);
    r.receive(100);
    assert_eq!(r.place(), (0, 0, 1, 100 + 54, false));
    r.receive(3000);
    assert_eq!(r.place(), (0, 1, 7, 0, true), "what is left of the first");
    let failed = |r: &mut Receiver| {
        let cqe = ErrCqe::from_prefix(r.cqe().bytes());
        (cqe.get(ErrCqe::SYNDROME), cqe.get(ErrCqe::WQE_ID))
    };
    assert_eq!(failed(&mut r), (1, 1), "too long");
    assert_eq!(failed(&mut r).0, 5, "flushed");
    assert_eq!(r.host.next_cqe(&mut r.cq), None);
    r.host.modify_rq(r.rq.number, 3, 0);
    r.rq.counter = 0;
    r.post(1);
    r.host.modify_rq(r.rq.number, 0, 1);
    r.receive(100);
    assert_eq!(r.place(), (0, 0, 1, 100 + 54, false));
}

#[test]
fn queues_that_cannot_be_are_refused() {
    let asks = |host: &mut Host, edit: &dyn Fn(Wq) -> Wq| {
        let eq = host.create_eq(0, 4, &[]);
        let cq = host.create_cq(eq.number, 4, 64);
        let wq = Wq::zeroed()
            .with(Wq::WQ_TYPE, u32::from(WqType::LINKED_LIST_STRIDING_RQ.0))
            .with(Wq::PD, host.pd)
            .with_wide(Wq::DBR_ADDR, BASE + 4096)
            .with(Wq::LOG_WQ_STRIDE, 5)
            .with(Wq::LOG_WQ_SZ, 2);
        let rqc = Rqc::zeroed().with(Rqc::CQN, cq.number).with_nested(Rqc::WQ, &edit(wq));
        let input = CreateRqIn::zeroed().with_nested(CreateRqIn::CTX, &rqc);
        let buffer = host.alloc(4096, 4096);
        host.refused(Opcode::CREATE_RQ, &input, &buffer.to_be_bytes())
    };
    assert_eq!(asks(&mut Host::running(config()), &|wq| wq), answer(refusal::WQ_TYPE));
    let mut host = Host::running(striding());
    assert_eq!(asks(&mut host, &|wq| wq).0, firmware_iface::Status::OK);
    assert_eq!(asks(&mut host, &|wq| wq.with(Wq::LOG_WQE_NUM_OF_STRIDES, 8)), answer(refusal::WQ_STRIDES));
    assert_eq!(asks(&mut host, &|wq| wq.with(Wq::LOG_WQ_STRIDE, 4)), answer(refusal::WQ_STRIDE));
    assert_eq!(asks(&mut host, &|wq| wq.with(Wq::WQ_TYPE, 0)), answer(refusal::WQ_TYPE));
    let _ = CreateMkeyIn::zeroed();
}
