//! | property | test |
//! |---|---|
//! | QUERY_PAGES counts down what MANAGE_PAGES gives, across several commands | `pages_may_be_given_in_parts` |
//! | zero, unaligned, repeated and unreachable pages are refused, and nothing of that command is kept | `bad_pages_are_refused_as_a_whole` |
//! | a page at zero is taken by a firmware that takes it, and the device can reach it | `the_page_at_zero_is_taken_if_firmware_takes_it` |
//! | a function number in the answer must come back | `pages_are_given_for_the_function_that_asked` |
//! | firmware asks for more ahead of need; a driver that gives never sees NO_RES | `more_objects_ask_for_more_pages` |
//! | a driver that cannot give runs into NO_RES, not into a hang | `without_pages_objects_are_refused` |
//! | pages that firmware offers back come back once, the others at teardown | `offered_pages_come_back_once` |
//! | firmware writes to pages it holds and to no other | `firmware_writes_only_to_its_pages` |
//! | DISABLE_HCA without taking pages back leaves them visible | `pages_that_are_not_taken_back_are_reported` |
//! | a function that was disabled and is enabled again needs all its pages again | `a_function_that_starts_again_needs_its_pages` |

use super::bring_up::answer;
use super::host::Host;
use crate::dma::build::file;
use crate::{Config, PageDemand, refusal};
use firmware_iface::command::device::*;
use firmware_iface::command::{OutHeader, object::*};
use firmware_iface::{Opcode, Status};
use hw_regs::eqe::{Eqe, EqePageReq, EventType};
use hw_regs::layout::{Access, Layout};

fn status(output: &[u8]) -> (Status, u32) {
    let header = OutHeader::from_prefix(output);
    (header.status(), header.get(OutHeader::SYNDROME))
}

fn enabled(pages: PageDemand) -> Host {
    let mut host = Host::new(Config { pages, ..Config::default() });
    host.exec::<_, OutHeader>(Opcode::ENABLE_HCA, &EnableHcaIn::zeroed());
    host
}

#[test]
fn pages_may_be_given_in_parts() {
    let mut host = enabled(PageDemand { boot: 5, init: 7, ..PageDemand::default() });
    host.give_pages(3);
    assert_eq!(host.query_pages(QueryPagesOpMod::BOOT_PAGES), 2);
    assert_eq!(host.query_pages(QueryPagesOpMod::INIT_PAGES), 7);
    host.give_pages(4);
    assert_eq!(host.query_pages(QueryPagesOpMod::BOOT_PAGES), 0);
    assert_eq!(host.query_pages(QueryPagesOpMod::INIT_PAGES), 5);
    assert_eq!(host.query_pages(QueryPagesOpMod::REGULAR_PAGES), 0);
    host.give_pages(6);
    assert_eq!(host.nic.counters().misuse.surplus_pages, 1);
    assert_eq!(host.nic.inventory().pages, 13);
}

#[test]
fn bad_pages_are_refused_as_a_whole() {
    let mut host = enabled(PageDemand::default());
    let good = host.alloc(4096, 4096);
    assert_eq!(status(&host.give(&[good, 0])), answer(refusal::PAGE_ZERO));
    assert_eq!(status(&host.give(&[good, good + 512])), answer(refusal::PAGE_UNALIGNED));
    assert_eq!(status(&host.give(&[good, good])), answer(refusal::PAGE_TWICE));
    assert_eq!(status(&host.give(&[good, 0x7000_0000_0000])), answer(refusal::PAGE_UNREACHABLE));
    assert_eq!(host.nic.inventory().pages, 0);
    assert_eq!(status(&host.give(&[good])).0, Status::OK);
    assert_eq!(status(&host.give(&[good])), answer(refusal::PAGE_TWICE));
    assert_eq!(host.nic.inventory().pages, 1);
    // More entries than the input has.
    let input = ManagePagesIn::zeroed()
        .with(ManagePagesIn::OP_MOD, u32::from(ManagePagesOpMod::ALLOCATION_SUCCESS.0))
        .with(ManagePagesIn::INPUT_NUM_ENTRIES, 1000);
    assert_eq!(host.refused(Opcode::MANAGE_PAGES, &input, &[0; 64]), answer(refusal::LIST_CUT_SHORT));
    let input = input.with(ManagePagesIn::OP_MOD, 5);
    assert_eq!(host.refused(Opcode::MANAGE_PAGES, &input, &[]), answer(refusal::OP_MOD));
    let input = QueryPagesIn::zeroed();
    assert_eq!(host.refused(Opcode::QUERY_PAGES, &input, &[]), answer(refusal::OP_MOD));
}

#[test]
fn the_page_at_zero_is_taken_if_firmware_takes_it() {
    let mut config = Config::default();
    config.switches.take_page_zero = true;
    let mut host = Host::new(config);
    host.exec::<_, OutHeader>(Opcode::ENABLE_HCA, &EnableHcaIn::zeroed());
    assert_eq!(status(&host.give(&[0])), answer(refusal::PAGE_UNREACHABLE));
    host.nic.dma_map(0, &file(4096), 4096).unwrap();
    assert_eq!(status(&host.give(&[0])).0, Status::OK);
    assert_eq!(host.nic.inventory().pages, 1);
}

#[test]
fn pages_are_given_for_the_function_that_asked() {
    let mut host = enabled(PageDemand { function_id: 9, ..PageDemand::default() });
    let input = QueryPagesIn::zeroed().with(QueryPagesIn::OP_MOD, 1);
    let output: QueryPagesOut = host.exec(Opcode::QUERY_PAGES, &input);
    assert_eq!(output.get(QueryPagesOut::FUNCTION_ID), 9);
    let page = host.alloc(4096, 4096);
    assert_eq!(status(&host.give(&[page])), answer(refusal::OTHER_FUNCTION));
}

fn small() -> PageDemand {
    PageDemand { objects_per_page: 4, reserve: 2, batch: 2, ..PageDemand::default() }
}

fn alloc_pd(host: &mut Host) -> (Status, u32) {
    host.refused(Opcode::ALLOC_PD, &AllocPdIn::zeroed(), &[])
}

#[test]
fn more_objects_ask_for_more_pages() {
    let mut host = Host::running(Config { pages: small(), ..Config::default() });
    let mut eq = host.create_eq(0, 6, &[EventType::PAGE_REQUEST]);
    let before = host.nic.inventory().pages;
    let mut given = 0;
    for _ in 0..50 {
        assert_eq!(alloc_pd(&mut host).0, Status::OK);
        while let Some(event) = host.next_event(&mut eq) {
            assert_eq!(event.get(Eqe::TYPE), u32::from(EventType::PAGE_REQUEST.0));
            let wanted = EqePageReq::from_prefix(event.blob(Eqe::DATA)).get(EqePageReq::NUM_PAGES);
            given += wanted as u64;
            host.give_pages(wanted as usize);
        }
    }
    assert!(given >= 10);
    assert_eq!(host.nic.inventory().pages, before + given);
    assert_eq!(host.nic.counters().misuse.surplus_pages, 0);
}

#[test]
fn without_pages_objects_are_refused() {
    let mut host = Host::running(Config { pages: small(), ..Config::default() });
    let mut refused = None;
    for _ in 0..20 {
        let outcome = alloc_pd(&mut host);
        if outcome.0 != Status::OK {
            refused = Some(outcome);
            break;
        }
    }
    assert_eq!(refused, Some(answer(refusal::PAGES_SHORT)));
    // Without an event queue the demand is in QUERY_PAGES.
    let wanted = host.query_pages(QueryPagesOpMod::REGULAR_PAGES);
    assert_eq!(wanted, 2);
    host.give_pages(wanted as usize);
    assert_eq!(alloc_pd(&mut host).0, Status::OK);
    // A driver that cannot give says so, and is asked again later.
    let mut eq = host.create_eq(0, 6, &[EventType::PAGE_REQUEST]);
    while host.next_event(&mut eq).is_some() {}
    let fail = ManagePagesIn::zeroed();
    host.exec::<_, ManagePagesOut>(Opcode::MANAGE_PAGES, &fail);
    while alloc_pd(&mut host).0 == Status::OK {}
    assert!(host.nic.request_pages(1 << 20));
    assert_eq!(host.query_pages(QueryPagesOpMod::REGULAR_PAGES), (1 << 20) + 2);
    host.exec::<_, ManagePagesOut>(Opcode::MANAGE_PAGES, &fail);
    assert_eq!(host.query_pages(QueryPagesOpMod::REGULAR_PAGES), 2);
}

#[test]
fn offered_pages_come_back_once() {
    let mut host = Host::running(Config::default());
    assert!(!host.nic.request_pages(-3), "nobody listens");
    let mut eq = host.create_eq(0, 4, &[EventType::PAGE_REQUEST]);
    assert_eq!(host.take(10), [0u64; 0], "firmware gives nothing that it did not offer");
    assert!(host.nic.request_pages(-3));
    let event = host.next_event(&mut eq).unwrap();
    assert_eq!(EqePageReq::from_prefix(event.blob(Eqe::DATA)).get(EqePageReq::NUM_PAGES) as i32, -3);
    let taken = host.take(10);
    assert_eq!(taken.len(), 3);
    assert_eq!(host.take(10), [0u64; 0]);
    assert_eq!(host.nic.inventory().pages, 259);
    host.exec::<_, TeardownHcaOut>(Opcode::TEARDOWN_HCA, &TeardownHcaIn::zeroed());
    assert_eq!(host.query_pages(QueryPagesOpMod::REGULAR_PAGES), -259);
    let rest = host.take(1000);
    assert_eq!(rest.len(), 259);
    assert!(rest.iter().all(|page| !taken.contains(page)));
}

#[test]
fn firmware_writes_only_to_its_pages() {
    let mut host = enabled(PageDemand { boot: 2, ..PageDemand::default() });
    let pages = host.give_pages(2);
    let other = host.alloc(4096, 4096);
    host.write(other, &[0x55; 4096]);
    for page in &pages {
        assert_ne!(host.read(*page, 16), [0; 16]);
        host.write(*page, &[0; 16]);
    }
    host.nic.touch_firmware_pages();
    assert!(pages.iter().all(|page| host.read(*page, 16) != [0; 16]));
    assert!(host.read(other, 4096).iter().all(|byte| *byte == 0x55));
}

#[test]
fn pages_that_are_not_taken_back_are_reported() {
    let mut host = Host::running(Config::default());
    host.exec::<_, TeardownHcaOut>(Opcode::TEARDOWN_HCA, &TeardownHcaIn::zeroed());
    host.take(200);
    host.exec::<_, OutHeader>(Opcode::DISABLE_HCA, &DisableHcaIn::zeroed());
    assert_eq!(host.nic.inventory().pages, 62);
}

#[test]
fn a_function_that_starts_again_needs_its_pages() {
    let mut host = Host::running(Config::default());
    host.exec::<_, TeardownHcaOut>(Opcode::TEARDOWN_HCA, &TeardownHcaIn::zeroed());
    assert_eq!(host.take(1000).len(), 262);
    host.exec::<_, OutHeader>(Opcode::DISABLE_HCA, &DisableHcaIn::zeroed());
    host.exec::<_, OutHeader>(Opcode::ENABLE_HCA, &EnableHcaIn::zeroed());
    assert_eq!(host.query_pages(QueryPagesOpMod::BOOT_PAGES), 6);
    assert_eq!(host.query_pages(QueryPagesOpMod::INIT_PAGES), 256);
    let counters = &host.nic.counters().pages;
    assert_eq!((counters.given, counters.returned), (262, 262));
}
