//! | property | test |
//! |---|---|
//! | packets of a flow that come together are completed as one row, which the driver expands to what they were | `a_burst_is_one_row` |
//! | what differs ends the row; order stays, around the ring's end too | `rows_keep_the_order` |
//! | a row is held back no longer than until time passes or a command comes, and an armed queue hears of it | `a_row_is_not_held_back` |
//! | a row for which there is no room is an overrun, and touches nothing | `a_row_needs_room_for_all_of_it` |
//! | without the switch, and in formats that do not exist, compression is refused | `compression_needs_its_capability` |

use super::bring_up::answer;
use super::host::{Host, Queue};
use super::traffic::config;
use crate::config::Switches;
use crate::packet::build::Build;
use crate::{Config, refusal};
use firmware_iface::Opcode;
use firmware_iface::command::{InHeader, object::*};
use firmware_iface::context::*;
use hw_regs::cqe::{Cqe64, MiniCqe8};
use hw_regs::eqe::Eqe;
use hw_regs::layout::{Access, Layout};
use std::time::Duration;

struct Receiver {
    host: Host,
    eq: Queue,
    cq: Queue,
    rq: Queue,
}

fn compressing() -> Config {
    Config { switches: Switches { cqe_compression: true, ..Switches::default() }, ..config() }
}

fn receiver(log_cq: u32) -> Receiver {
    let mut host = Host::running(compressing());
    let eq = host.create_eq(0, 4, &[]);
    let cq = host.create_cq_with(eq.number, log_cq, 64, |cqc| {
        *cqc = cqc.with(Cqc::CQE_COMP_EN, 1).with(Cqc::MINI_CQE_RES_FORMAT, 1);
    });
    let rq = host.create_rq(cq.number, 6, 4, |_| {});
    let tir = host.create_tir(&Tirc::zeroed().with(Tirc::INLINE_RQN, rq.number));
    host.steer_all(tir, 7);
    Receiver { host, eq, cq, rq }
}

impl Receiver {
    fn receive(&mut self, sizes: &[usize]) {
        self.host.post_receives(&mut self.rq, sizes.len() as u32, 2048);
        for size in sizes {
            self.host.nic.receive(&Build::tcp(1, &vec![7; *size]).frame());
        }
    }

    fn time_passes(&mut self) {
        self.host.nic.advance(Duration::ZERO);
    }

    fn read(&self, counter: u32) -> Vec<u8> {
        self.host.read(self.cq.at(counter), 64)
    }

    /// Lengths and places of what was completed, expanded as a driver does, and the rows' lengths.
    fn completed(&mut self) -> (Vec<(u32, u32)>, Vec<u32>) {
        let (mut all, mut rows) = (Vec::new(), Vec::new());
        while let Some(bytes) = self.host.next_cqe(&mut self.cq) {
            let cqe = Cqe64::from_prefix(&bytes);
            let place = cqe.get(Cqe64::WQE_COUNTER);
            if cqe.get(Cqe64::OP_OWN_CQE_FORMAT) != 3 {
                all.push((cqe.get(Cqe64::BYTE_CNT), place));
                rows.push(1);
                continue;
            }
            let (first, n) = (self.cq.counter - 1, cqe.get(Cqe64::BYTE_CNT));
            for at in 0..n {
                let array = self.read(first + if at < 8 { 1 } else { at / 8 * 8 });
                let mini = MiniCqe8::from_prefix(&array[(at % 8) as usize * 8..]);
                all.push((mini.get(MiniCqe8::BYTE_CNT), place + at));
            }
            // What a driver does with the owner bits: the slots are used.
            for at in first..first + n {
                let owner = at >> self.cq.log_size & 1;
                self.host.write(self.cq.at(at) + 63, &[owner as u8]);
            }
            self.cq.counter = first + n;
            self.host.write32(self.cq.record, self.cq.counter);
            rows.push(n);
        }
        (all, rows)
    }
}

#[test]
fn a_burst_is_one_row() {
    let mut r = receiver(7);
    let sizes: Vec<usize> = (0..21).map(|n| 100 + n).collect();
    r.receive(&sizes);
    assert!(r.completed().1.is_empty(), "held back");
    r.time_passes();
    let (all, rows) = r.completed();
    let expected: Vec<_> = sizes.iter().enumerate().map(|(n, size)| (*size as u32 + 54, n as u32)).collect();
    assert_eq!((all, rows), (expected, vec![21]));
    r.receive(&[500]);
    r.time_passes();
    assert_eq!(r.completed(), (vec![(554, 21)], vec![1]), "alone it is an ordinary one");
    assert_eq!(r.host.nic.counters().rx_compressed, 21);
}

#[test]
fn rows_keep_the_order() {
    let mut r = receiver(5);
    for round in 0..20u32 {
        r.host.post_receives(&mut r.rq, 6, 2048);
        for (n, size) in [10, 20, 30, 40, 50, 60].into_iter().enumerate() {
            let build = Build { v6: n == 3, ..Build::tcp(1, &vec![7; size + 60]) };
            r.host.nic.receive(&build.frame());
        }
        r.time_passes();
        let (all, rows) = r.completed();
        let lengths: Vec<u32> = all.iter().map(|(len, _)| *len).collect();
        assert_eq!(lengths, [124, 134, 144, 174, 164, 174], "round {round}");
        assert_eq!(rows, [3, 1, 2]);
        let places: Vec<u32> = all.iter().map(|(_, place)| *place - round * 6).collect();
        assert_eq!(places, [0, 1, 2, 3, 4, 5]);
    }
}

#[test]
fn a_row_is_not_held_back() {
    let mut r = receiver(5);
    r.host.arm_eq(&r.eq);
    r.host.arm_cq(&r.cq, 0);
    assert_eq!(r.host.nic.next_event(), None);
    r.receive(&[100, 100]);
    assert_eq!(r.host.nic.next_event(), Some(Duration::ZERO), "something is due at once");
    assert!(r.host.next_event(&mut r.eq).is_none());
    let _ = r.host.refused(Opcode::NOP, &InHeader::zeroed(), &[]);
    assert!(r.host.next_event(&mut r.eq).is_some_and(|eqe: Eqe| eqe.get(Eqe::TYPE) == 0));
    assert_eq!(r.completed().1, [2]);
    assert_eq!(r.host.nic.next_event(), None);
}

#[test]
fn a_row_needs_room_for_all_of_it() {
    let mut r = receiver(4);
    r.receive(&[100; 10]);
    r.time_passes();
    // Nothing is consumed: six slots are left.
    r.host.write32(r.cq.record, 0);
    let before = r.host.read(r.cq.buffer, 16 * 64);
    r.receive(&[100; 7]);
    r.time_passes();
    assert_eq!(r.host.nic.counters().misuse.cq_overrun, 1);
    assert_eq!(r.host.read(r.cq.buffer, 16 * 64), before);
}

#[test]
fn compression_needs_its_capability() {
    let asks = |host: &mut Host, format: u32| {
        let eq = host.create_eq(0, 4, &[]);
        let record = host.alloc(64, 64);
        let cqc = Cqc::zeroed()
            .with(Cqc::LOG_CQ_SIZE, 4)
            .with(Cqc::UAR_PAGE, host.uar)
            .with(Cqc::C_EQN_OR_APU_ELEMENT, eq.number)
            .with(Cqc::CQE_COMP_EN, 1)
            .with(Cqc::MINI_CQE_RES_FORMAT, format)
            .with_wide(Cqc::DBR_ADDR, record);
        let input = CreateCqIn::zeroed().with_nested(CreateCqIn::CQ_CONTEXT, &cqc);
        let buffer = host.alloc(4096, 4096);
        host.refused(Opcode::CREATE_CQ, &input, &buffer.to_be_bytes())
    };
    assert_eq!(asks(&mut Host::running(config()), 1), answer(refusal::CQE_COMPRESSION));
    let mut host = Host::running(compressing());
    assert_eq!([asks(&mut host, 1), asks(&mut host, 3)].map(|(status, _)| status), [firmware_iface::Status::OK; 2]);
    assert_eq!(asks(&mut host, 0), answer(refusal::CQE_COMPRESSION));
}
