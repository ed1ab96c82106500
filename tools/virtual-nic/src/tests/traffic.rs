//! | property | test |
//! |---|---|
//! | every byte of a received frame lands in the posted buffers, in order, around the ring; the CQE describes it | `received_frames_are_stored_and_described` |
//! | a VLAN tag is cut out and reported if the queue strips it, else left alone | `vlan_tags_are_stripped_if_asked` |
//! | a frame is scattered over several segments, up to the terminating key | `frames_are_scattered_over_segments` |
//! | a frame that does not fit, or whose buffer is not there, fails the queue: error, flush, silence, recovery | `a_receive_error_flushes_the_queue` |
//! | frames for others, too long, too short, or without link are dropped, each with its reason | `drops_have_reasons` |
//! | RSS spreads flows over the table by the hash that the CQE reports, a flow stays on its queue | `flows_spread_over_the_table` |
//! | a rule with several destinations copies the packet to each | `a_rule_may_copy_to_many` |
//! | what is sent goes out byte by byte: inline header, segments, inline segments, padding, checksums, VLAN | `sent_frames_are_what_was_posted` |
//! | completions only where asked for, also around the ring's end | `only_signalled_requests_complete` |
//! | each malformed WQE fails the queue with its own error, flushes the rest, and the queue recovers | `a_send_error_flushes_the_queue` |
//! | large sends become segments that carry the same bytes in order | `large_sends_are_segmented` |
//! | a doorbell record beyond the ring is not believed | `a_wild_doorbell_record_is_not_believed` |
//! | the reserved key reaches memory only where the queue may use it | `the_reserved_key_needs_permission` |

use super::host::{Host, Queue, data_segment};
use crate::Config;
use crate::firmware::objects::RESERVED_LKEY;
use crate::packet::build::Build;
use crate::packet::{Packet, fill_checksums, tcp_flag};
use firmware_iface::Opcode;
use firmware_iface::command::{OutHeader, flow::*, queue::*, vport::*};
use firmware_iface::context::*;
use firmware_iface::steering::*;
use firmware_iface::vport::{ModifyNicVportFieldSelect, NicVportContext};
use hw_regs::cqe::{Cqe64, CqeOpcode, ErrCqe};
use hw_regs::layout::{Access, Layout};

pub(crate) fn config() -> Config {
    Config { mac: Build::default().dmac, ..Config::default() }
}

/// A host that receives everything on one queue: the host, its CQ and RQ.
pub(super) fn receiver(log_stride: u32, edit: impl Fn(&mut Rqc)) -> (Host, Queue, Queue) {
    let mut host = Host::running(config());
    let eq = host.create_eq(0, 4, &[]);
    let cq = host.create_cq(eq.number, 5, 64);
    let rq = host.create_rq(cq.number, 3, log_stride, edit);
    let tir = host.create_tir(&Tirc::zeroed().with(Tirc::INLINE_RQN, rq.number));
    host.steer_all(tir, 0xabcdef);
    (host, cq, rq)
}

fn cqe(host: &Host, cq: &mut Queue) -> Cqe64 {
    let bytes = host.next_cqe(cq).expect("a completion");
    Cqe64::from_prefix(&bytes[bytes.len() - 64..])
}

fn error(host: &Host, cq: &mut Queue) -> (u8, u8, u16) {
    let cqe = ErrCqe::from_prefix(cqe(host, cq).bytes());
    let opcode = CqeOpcode(cqe.get(ErrCqe::OP_OWN_OPCODE) as u8);
    assert!(opcode == CqeOpcode::REQ_ERR || opcode == CqeOpcode::RESP_ERR, "{opcode}");
    let (syndrome, vendor) = (cqe.get(ErrCqe::SYNDROME), cqe.get(ErrCqe::VENDOR_ERR_SYND));
    (syndrome as u8, vendor as u8, cqe.get(ErrCqe::WQE_COUNTER) as u16)
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn received_frames_are_stored_and_described() {
    let (mut host, mut cq, mut rq) = receiver(4, |rqc| rqc.set(Rqc::USER_INDEX, 0x321));
    let frames = [
        Build::tcp(1, &payload(1400)),
        Build { v6: true, ..Build::tcp(2, &payload(99)) },
        Build { protocol: 17, ..Build::tcp(0, &payload(33)) },
        Build { vlans: vec![(false, 0x2064)], ..Build::tcp(3, &payload(500)) },
        Build::tcp(4, &[]),
    ];
    for round in 0..5u32 {
        for (number, build) in frames.iter().enumerate() {
            let frame = build.frame();
            let buffer = host.post_receives(&mut rq, 1, 2048)[0];
            host.nic.receive(&frame);
            let cqe = cqe(&host, &mut cq);
            let len = frame.len().max(60);
            assert_eq!(cqe.get(Cqe64::BYTE_CNT) as usize, len);
            assert_eq!(host.read(buffer, frame.len()), frame);
            assert!(host.read(buffer + frame.len() as u64, len - frame.len()).iter().all(|byte| *byte == 0));
            assert!(host.read(buffer + len as u64, 2048 - len).iter().all(|byte| *byte == 0xcc));
            assert_eq!(cqe.get(Cqe64::OP_OWN_OPCODE), u32::from(CqeOpcode::RESP_SEND.0));
            assert_eq!(cqe.get(Cqe64::WQE_COUNTER), round * 5 + number as u32);
            assert_eq!(cqe.get(Cqe64::SOP_DROP_QPN_QPN_OR_FLOW_TAG), 0xabcdef);
            assert_eq!(cqe.get(Cqe64::USER_INDEX), 0x321);
            assert_eq!(cqe.get(Cqe64::HDS_IP_EXT), 7, "L2, L3 and L4 are right");
            let l3 = if build.v6 { 1 } else { 2 };
            assert_eq!(cqe.get(Cqe64::L4_L3_HDR_TYPE_L3_HDR_TYPE), l3);
            assert_eq!(cqe.get(Cqe64::L4_L3_HDR_TYPE_CV_VLAN), 0);
            // An independent sum of everything behind the tags.
            let l3 = 14 + 4 * build.vlans.len();
            let mut sum = 0u32;
            for word in frame[l3..].chunks(2) {
                sum += u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0));
            }
            let folded = (0..2).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16));
            assert_eq!(cqe.get(Cqe64::CHECK_SUM), folded);
        }
    }
    let counters = host.nic.counters();
    assert_eq!((counters.rx_frames, counters.rx_completions, counters.drops.received()), (25, 25, 0));
}

#[test]
fn vlan_tags_are_stripped_if_asked() {
    for strip in [true, false] {
        let (mut host, mut cq, mut rq) = receiver(4, |rqc| rqc.set(Rqc::VSD, u32::from(!strip)));
        let buffers = host.post_receives(&mut rq, 3, 2048);
        let tagged = Build { vlans: vec![(false, 0x2064)], ..Build::tcp(3, &payload(500)) }.frame();
        let plain = [&tagged[..12], &tagged[16..]].concat();
        let service = Build { vlans: vec![(true, 5)], ..Build::tcp(3, &payload(500)) }.frame();
        for (frame, expected, stripped, buffer) in [
            (&tagged, if strip { &plain } else { &tagged }, strip, buffers[0]),
            (&plain, &plain, false, buffers[1]),
            (&service, &service, false, buffers[2]),
        ] {
            host.nic.receive(frame);
            let cqe = cqe(&host, &mut cq);
            assert_eq!(host.read(buffer, expected.len()), *expected);
            assert_eq!(cqe.get(Cqe64::BYTE_CNT) as usize, expected.len());
            assert_eq!(cqe.get(Cqe64::L4_L3_HDR_TYPE_CV_VLAN), u32::from(stripped));
            assert_eq!(cqe.get(Cqe64::VLAN_INFO), if stripped { 0x2064 } else { 0 });
        }
    }
}

#[test]
fn frames_are_scattered_over_segments() {
    let (mut host, mut cq, mut rq) = receiver(6, |_| {});
    let buffer = host.alloc(4096, 4096);
    host.write(buffer, &[0xcc; 4096]);
    // 64, 100 and (of 1000) the rest, far apart; the top bit of the length has no meaning here. Then the end.
    let wqe = [
        data_segment(64, host.key, buffer + 2048),
        data_segment(1 << 31 | 100, host.key, buffer),
        data_segment(1000, host.key, buffer + 1000),
        data_segment(0, 0x100, 0),
    ];
    host.write(rq.at(0), &wqe.concat());
    rq.counter = 1;
    host.write32(rq.record, 1);
    let frame = Build::tcp(1, &payload(246)).frame();
    assert_eq!(frame.len(), 300);
    host.nic.receive(&frame);
    assert_eq!(cqe(&host, &mut cq).get(Cqe64::BYTE_CNT), 300);
    assert_eq!(host.read(buffer + 2048, 64), frame[..64]);
    assert_eq!(host.read(buffer, 100), frame[64..164]);
    assert_eq!(host.read(buffer + 1000, 136), frame[164..]);
    assert_eq!(host.read(buffer + 1136, 8), [0xcc; 8]);
    assert_eq!(host.read(buffer + 100, 8), [0xcc; 8]);
}

#[test]
fn a_receive_error_flushes_the_queue() {
    // A frame longer than the WQE; a key that does not exist; an address that is not mapped; a WQE that ends early.
    let frame = Build::tcp(1, &payload(600)).frame();
    type Segment = fn(u32, u64) -> [u8; 16];
    let spoil: [(Segment, u8, u8); 4] = [
        (|key, at| data_segment(500, key, at), 1, 0xa9),
        (|_, at| data_segment(2048, 0x7777_7700, at), 4, 0x41),
        (|key, _| data_segment(2048, key, 0x6_0000_0000), 4, 0x49),
        (|_, at| data_segment(2048, 0x100, at), 1, 0xa9),
    ];
    for (segment, syndrome, vendor) in spoil {
        let (mut host, mut cq, mut rq) = receiver(4, |_| {});
        let buffers = host.post_receives(&mut rq, 4, 2048);
        host.write(rq.at(1), &segment(host.key, buffers[1]));
        host.nic.receive(&frame);
        assert_eq!(cqe(&host, &mut cq).get(Cqe64::WQE_COUNTER), 0);
        host.nic.receive(&frame);
        assert_eq!(error(&host, &mut cq), (syndrome, vendor, 1));
        assert_eq!(error(&host, &mut cq), (5, 0, 2));
        assert_eq!(error(&host, &mut cq), (5, 0, 3));
        host.nic.receive(&frame);
        assert_eq!(host.next_cqe(&mut cq), None);
        assert_eq!(host.nic.counters().drops.queue_not_ready, 1);
        let query = QueryRqIn::zeroed().with(QueryRqIn::RQN, rq.number);
        let output: QueryRqOut = host.exec(Opcode::QUERY_RQ, &query);
        assert_eq!(output.nested(QueryRqOut::RQ_CONTEXT).get(Rqc::STATE), 3);
        host.modify_rq(rq.number, 3, 0);
        rq.counter = 0;
        host.write32(rq.record, 0);
        host.modify_rq(rq.number, 0, 1);
        host.post_receives(&mut rq, 1, 2048);
        host.nic.receive(&frame);
        assert_eq!(cqe(&host, &mut cq).get(Cqe64::WQE_COUNTER), 0);
        // By command, too: what is posted is flushed.
        host.post_receives(&mut rq, 2, 2048);
        host.modify_rq(rq.number, 1, 3);
        assert_eq!((error(&host, &mut cq).0, error(&host, &mut cq).0), (5, 5));
    }
}

#[test]
fn drops_have_reasons() {
    let (mut host, mut cq, mut rq) = receiver(4, |_| {});
    host.post_receives(&mut rq, 4, 4096);
    let to = |dmac: [u8; 6]| Build { dmac, ..Build::tcp(1, &payload(10)) }.frame();
    host.nic.receive(&[0; 13]);
    host.nic.receive(&to([2, 0, 0, 0, 0, 9]));
    host.nic.receive(&to([1, 0, 0x5e, 0, 0, 9]));
    host.nic.receive(&Build::tcp(1, &payload(1465)).frame());
    host.nic.set_cable(false);
    host.nic.receive(&to([2, 0, 0, 0, 0, 1]));
    host.nic.set_cable(true);
    let drops = host.nic.counters().drops.clone();
    assert_eq!((drops.runt, drops.address, drops.oversize, drops.link_down), (1, 2, 1, 1));
    assert_eq!(host.next_cqe(&mut cq), None);
    // Broadcast, the longest frame, then promiscuous modes.
    host.nic.receive(&to([0xff; 6]));
    host.nic.receive(&Build::tcp(1, &payload(1464)).frame());
    let select = ModifyNicVportFieldSelect::zeroed().with(ModifyNicVportFieldSelect::PROMISC, 1);
    let wanted = NicVportContext::zeroed().with(NicVportContext::PROMISC_ALL, 1);
    let input = ModifyNicVportContextIn::zeroed()
        .with_nested(ModifyNicVportContextIn::FIELD_SELECT, &select)
        .with_nested(ModifyNicVportContextIn::NIC_VPORT_CONTEXT, &wanted);
    host.exec::<_, OutHeader>(Opcode::MODIFY_NIC_VPORT_CONTEXT, &input);
    host.nic.receive(&to([2, 0, 0, 0, 0, 9]));
    host.nic.receive(&to([1, 0, 0x5e, 0, 0, 9]));
    for _ in 0..4 {
        cqe(&host, &mut cq);
    }
    host.nic.receive(&to([0xff; 6]));
    assert_eq!(host.nic.counters().drops.out_of_buffer, 1);
    // No root table: steering drops.
    let root = SetFlowTableRootIn::zeroed().with(SetFlowTableRootIn::OP_MOD, 1);
    host.exec::<_, OutHeader>(Opcode::SET_FLOW_TABLE_ROOT, &root);
    host.nic.receive(&to([0xff; 6]));
    assert_eq!(host.nic.counters().drops.steering, 1);
    let input = QueryVportCounterIn::zeroed();
    let output: QueryVportCounterOut = host.exec(Opcode::QUERY_VPORT_COUNTER, &input);
    let broadcast = output.nested(QueryVportCounterOut::RECEIVED_ETH_BROADCAST);
    assert_eq!((broadcast.get_wide(TrafficCounter::PACKETS), broadcast.get_wide(TrafficCounter::OCTETS)), (3, 192));
}

#[test]
fn flows_spread_over_the_table() {
    for function in [RxHashFn::TOEPLITZ, RxHashFn::INVERTED_XOR8] {
        let mut host = Host::running(config());
        let eq = host.create_eq(0, 4, &[]);
        let mut cqs = Vec::new();
        let mut rqs = Vec::new();
        for _ in 0..4 {
            let cq = host.create_cq(eq.number, 8, 64);
            let mut rq = host.create_rq(cq.number, 7, 4, |_| {});
            host.post_receives(&mut rq, 128, 256);
            cqs.push(cq);
            rqs.push(rq.number);
        }
        let rqt = host.create_rqt(&[rqs[2], rqs[0], rqs[3], rqs[1]]);
        let select = RxHashFieldSelect::zeroed().with(RxHashFieldSelect::SELECTED_FIELDS, 0xf);
        let mut tirc = Tirc::zeroed()
            .with(Tirc::DISP_TYPE, 1)
            .with(Tirc::INDIRECT_TABLE, rqt)
            .with(Tirc::RX_HASH_FN, u32::from(function.0))
            .with_nested(Tirc::RX_HASH_FIELD_SELECTOR_OUTER, &select);
        (0..10).for_each(|word| tirc.set_at(Tirc::RX_HASH_TOEPLITZ_KEY, word, 0x6d5a_56da_255b_0ec2 >> word));
        let tir = host.create_tir(&tirc);
        host.steer_all(tir, 1);
        let mut hits = [0; 4];
        for port in 0..64 {
            for packet in 0..2 {
                let build = Build { src_port: 1000 + port * 37, ..Build::tcp(packet, &payload(20)) };
                host.nic.receive(&build.frame());
                let mut found = Vec::new();
                for (queue, cq) in cqs.iter_mut().enumerate() {
                    if let Some(cqe) = host.next_cqe(cq) {
                        found.push((queue, Cqe64::from_prefix(&cqe)));
                    }
                }
                let [(queue, cqe)] = &found[..] else { panic!("{} completions", found.len()) };
                let hash = cqe.get(Cqe64::RSS_HASH_RESULT);
                assert_eq!(rqs[*queue], [rqs[2], rqs[0], rqs[3], rqs[1]][hash as usize & 3]);
                assert_eq!(cqe.get(Cqe64::RSS_HASH_TYPE_L4_SEL), 1);
                hits[*queue] += 1;
            }
        }
        assert!(hits.iter().all(|hits| *hits >= 8 && hits % 2 == 0), "{hits:?}");
    }
}

#[test]
fn a_rule_may_copy_to_many() {
    let mut host = Host::running(config());
    let eq = host.create_eq(0, 4, &[]);
    let mut cq = host.create_cq(eq.number, 5, 64);
    let tirs: Vec<_> = (0..3)
        .map(|_| {
            let mut rq = host.create_rq(cq.number, 3, 4, |_| {});
            host.post_receives(&mut rq, 1, 256);
            host.create_tir(&Tirc::zeroed().with(Tirc::INLINE_RQN, rq.number))
        })
        .collect();
    let (table, group) = host.steer_all(tirs[0], 1);
    let context = FlowContext::zeroed()
        .with(FlowContext::GROUP_ID, group)
        .with(FlowContext::FLOW_TAG, 5)
        .with(FlowContext::ACTION, FlowAction::FWD_DEST.0)
        .with(FlowContext::DESTINATION_LIST_SIZE, 3);
    let input = SetFteIn::zeroed()
        .with(SetFteIn::OP_MOD, 1)
        .with(SetFteIn::MODIFY_ENABLE_MASK, 0b111)
        .with(SetFteIn::TABLE_ID, table)
        .with_nested(SetFteIn::FLOW_CONTEXT, &context);
    let list: Vec<u8> = tirs
        .iter()
        .flat_map(|tir| {
            let to = DestFormat::zeroed().with(DestFormat::DESTINATION_TYPE, 2).with(DestFormat::DESTINATION_ID, *tir);
            to.bytes().to_vec()
        })
        .collect();
    host.exec_with::<_, SetFteOut>(Opcode::SET_FLOW_TABLE_ENTRY, &input, &list);
    host.nic.receive(&Build::tcp(1, &payload(20)).frame());
    for _ in 0..3 {
        assert_eq!(cqe(&host, &mut cq).get(Cqe64::SOP_DROP_QPN_QPN_OR_FLOW_TAG), 5);
    }
    assert_eq!(host.next_cqe(&mut cq), None);
}

/// A host that sends: the host, its CQ and SQ.
fn sender(log_size: u32) -> (Host, Queue, Queue) {
    let mut host = Host::running(config());
    let eq = host.create_eq(0, 4, &[]);
    let cq = host.create_cq(eq.number, 7, 64);
    let tis = host.create_tis();
    let sq = host.create_sq(cq.number, log_size, Some(tis));
    (host, cq, sq)
}

/// A send WQE. `word` is the inline header's size with its first two bytes, or the VLAN to insert.
struct Send {
    opcode: u8,
    signalled: bool,
    checksums: u8,
    mss: u16,
    inline: Vec<u8>,
    vlan: Option<u16>,
    segments: Vec<u8>,
}

impl Default for Send {
    fn default() -> Send {
        Send { opcode: 0x0a, signalled: true, checksums: 0, mss: 0, inline: vec![], vlan: None, segments: vec![] }
    }
}

impl Send {
    fn wqe(&self) -> Vec<u8> {
        let mut wqe = vec![0; 32];
        wqe[3] = self.opcode;
        wqe[11] = if self.signalled { 8 } else { 0 };
        wqe[20] = self.checksums;
        wqe[22..24].copy_from_slice(&self.mss.to_be_bytes());
        wqe[28..30].copy_from_slice(&(self.inline.len() as u16).to_be_bytes());
        if let Some(tci) = self.vlan {
            wqe[28..32].copy_from_slice(&(1 << 31 | u32::from(tci)).to_be_bytes());
        }
        wqe.truncate(30 + usize::from(self.inline.is_empty()) * 2);
        wqe.extend(&self.inline);
        wqe.resize(wqe.len().next_multiple_of(16), 0);
        wqe.extend(&self.segments);
        wqe[7] = (wqe.len() / 16) as u8;
        wqe
    }
}

fn in_memory(host: &mut Host, bytes: &[u8]) -> [u8; 16] {
    let at = host.alloc(bytes.len() as u64, 64);
    host.write(at, bytes);
    data_segment(bytes.len() as u32, host.key, at)
}

#[test]
fn sent_frames_are_what_was_posted() {
    let (mut host, mut cq, mut sq) = sender(6);
    let frame = Build::tcp(77, &payload(700)).frame();
    let whole = in_memory(&mut host, &frame);
    let (first, rest) = (in_memory(&mut host, &frame[54..60]), in_memory(&mut host, &frame[60..]));
    let (tail, middle) = (in_memory(&mut host, &frame[74..]), &frame[54..74]);
    let mut inline = (1u32 << 31 | 20).to_be_bytes().to_vec();
    inline.extend(middle);
    inline.resize(32, 0);
    let mut broken = frame.clone();
    (broken[24], broken[50]) = (0xff, 0xff);
    let broken_segment = in_memory(&mut host, &broken);
    let mut half = broken.clone();
    fill_checksums(&mut half, true, false);
    let tagged = [&frame[..12], &[0x81, 0, 0x20, 0x64], &frame[12..]].concat();
    let short = Build::tcp(1, &[]).frame();
    let short_segment = in_memory(&mut host, &short);
    let mut padded = short.clone();
    padded.resize(60, 0);
    let cases = [
        (Send { segments: whole.to_vec(), ..Send::default() }, frame.clone()),
        (Send { inline: frame[..54].into(), segments: [first, rest].concat(), ..Send::default() }, frame.clone()),
        (
            Send { inline: frame[..54].into(), segments: [&inline[..], &tail].concat(), ..Send::default() },
            frame.clone(),
        ),
        (
            Send { inline: frame[..2].into(), segments: data_segment_of(&mut host, &frame[2..]), ..Send::default() },
            frame.clone(),
        ),
        (Send { segments: broken_segment.to_vec(), ..Send::default() }, broken),
        (Send { checksums: 0xc0, segments: broken_segment.to_vec(), ..Send::default() }, frame.clone()),
        (Send { checksums: 0x40, segments: broken_segment.to_vec(), ..Send::default() }, half),
        (Send { vlan: Some(0x2064), segments: whole.to_vec(), ..Send::default() }, tagged),
        (Send { segments: short_segment.to_vec(), ..Send::default() }, padded),
    ];
    for (number, (send, expected)) in cases.iter().enumerate() {
        let index = host.post_send(&mut sq, &send.wqe());
        host.ring_sq(&sq);
        assert_eq!(host.nic.transmit().as_ref(), Some(expected), "case {number}");
        assert_eq!(host.nic.transmit(), None);
        let cqe = cqe(&host, &mut cq);
        assert_eq!(cqe.get(Cqe64::WQE_COUNTER), u32::from(index));
        assert_eq!(cqe.get(Cqe64::SOP_DROP_QPN_QPN_OR_FLOW_TAG), sq.number);
        assert_eq!(cqe.get(Cqe64::SOP_DROP_QPN_SEND_WQE_OPCODE), 0x0a);
    }
    host.nic.set_cable(false);
    host.post_send(&mut sq, &cases[0].0.wqe());
    host.ring_sq(&sq);
    assert_eq!(cqe(&host, &mut cq).get(Cqe64::OP_OWN_OPCODE), 0, "without a link a send completes all the same");
    assert_eq!(host.nic.transmit(), None);
    assert_eq!(host.nic.counters().drops.tx_link_down, 1);
}

fn data_segment_of(host: &mut Host, bytes: &[u8]) -> Vec<u8> {
    in_memory(host, bytes).to_vec()
}

#[test]
fn only_signalled_requests_complete() {
    let (mut host, mut cq, mut sq) = sender(2);
    let frame = Build::tcp(77, &payload(100)).frame();
    let segment = in_memory(&mut host, &frame);
    let mut expected = Vec::new();
    for number in 0..50 {
        let signalled = number % 3 == 0;
        let send = Send { signalled, segments: segment.to_vec(), ..Send::default() };
        let index = host.post_send(&mut sq, &send.wqe());
        if signalled {
            expected.push(u32::from(index));
        }
        // Sometimes two with one doorbell.
        if number % 2 == 1 {
            host.ring_sq(&sq);
        }
    }
    for index in expected {
        assert_eq!(cqe(&host, &mut cq).get(Cqe64::WQE_COUNTER), index);
    }
    assert_eq!(host.next_cqe(&mut cq), None);
    assert_eq!(std::iter::from_fn(|| host.nic.transmit()).count(), 50);
    // A WQE of two blocks may end at the ring's end, but not wrap.
    let long = Send { inline: frame[..60].into(), ..Send::default() }.wqe();
    let one = Send { segments: segment.to_vec(), ..Send::default() }.wqe();
    assert_eq!((long.len().div_ceil(64), one.len().div_ceil(64)), (2, 1));
    for (wqe, at, works) in [(&long, 2, true), (&one, 0, true), (&long, 1, true), (&long, 3, false)] {
        assert_eq!(sq.counter % 4, at);
        let index = host.post_send(&mut sq, wqe);
        host.ring_sq(&sq);
        if works {
            assert_eq!(cqe(&host, &mut cq).get(Cqe64::WQE_COUNTER), u32::from(index));
        } else {
            assert_eq!(error(&host, &mut cq), (2, 0xa1, index));
        }
        assert_eq!(host.nic.transmit().is_some(), works);
    }
}

#[test]
fn a_send_error_flushes_the_queue() {
    let frame = Build::tcp(77, &payload(100)).frame();
    type Spoil = fn(&mut Vec<u8>);
    let cases: [(Spoil, u8, u8); 9] = [
        (|wqe| wqe[7] = 0, 2, 0xa1),
        (|wqe| wqe[7] = 63, 2, 0xa1),
        (|wqe| wqe[3] = 0x2d, 2, 0xa3),
        (|wqe| wqe[3] = 0x25, 2, 0xa3),
        (|wqe| wqe[7] = 1, 2, 0xa4),
        (|wqe| wqe[28] = 2, 2, 0xa4),
        (|wqe| wqe[36..40].fill(0x77), 4, 0x41),
        (|wqe| wqe[40] = 0x66, 4, 0x49),
        (|wqe| wqe[32..36].copy_from_slice(&3000u32.to_be_bytes()), 1, 0xa6),
    ];
    for (spoil, syndrome, vendor) in cases {
        let (mut host, mut cq, mut sq) = sender(3);
        let segment = in_memory(&mut host, &frame);
        host.alloc(4096, 64);
        let good = Send { signalled: false, segments: segment.to_vec(), ..Send::default() }.wqe();
        let mut bad = good.clone();
        host.post_send(&mut sq, &good);
        spoil(&mut bad);
        host.post_send(&mut sq, &bad);
        host.post_send(&mut sq, &good);
        host.post_send(&mut sq, &good);
        host.ring_sq(&sq);
        assert_eq!(error(&host, &mut cq), (syndrome, vendor, 1));
        assert_eq!(error(&host, &mut cq), (5, 0, 2));
        assert_eq!(error(&host, &mut cq), (5, 0, 3));
        assert_eq!(std::iter::from_fn(|| host.nic.transmit()).count(), 1, "the one before the error");
        // In error everything is flushed at once.
        host.post_send(&mut sq, &good);
        host.ring_sq(&sq);
        assert_eq!(error(&host, &mut cq), (5, 0, 4));
        host.modify_sq(sq.number, 3, 0);
        sq.counter = 0;
        host.write32(sq.record + 4, 0);
        host.modify_sq(sq.number, 0, 1);
        host.post_send(&mut sq, &Send { segments: segment.to_vec(), ..Send::default() }.wqe());
        host.ring_sq(&sq);
        assert_eq!(cqe(&host, &mut cq).get(Cqe64::OP_OWN_OPCODE), 0);
        assert_eq!(host.nic.transmit(), Some(frame.clone()));
    }
    // A WQE that names another queue, or another index.
    for byte in [2, 6] {
        let (mut host, mut cq, mut sq) = sender(3);
        let segment = in_memory(&mut host, &frame);
        host.post_send(&mut sq, &Send { segments: segment.to_vec(), ..Send::default() }.wqe());
        host.write(sq.at(0) + byte, &[9]);
        host.ring_sq(&sq);
        assert_eq!(error(&host, &mut cq), (2, 0xa2, 0));
    }
}

#[test]
fn large_sends_are_segmented() {
    for v6 in [false, true] {
        let (mut host, mut cq, mut sq) = sender(6);
        let data = payload(5000);
        let flags = tcp_flag::ACK | tcp_flag::PSH | tcp_flag::FIN;
        let template = Build { v6, flags, vlans: vec![(false, 9)], seq: u32::MAX - 2000, ..Build::default() };
        let header = template.frame();
        let segment = in_memory(&mut host, &data);
        let send =
            Send { opcode: 0x0e, mss: 1400, inline: header.clone(), segments: segment.to_vec(), ..Send::default() };
        host.post_send(&mut sq, &send.wqe());
        host.ring_sq(&sq);
        assert_eq!(cqe(&host, &mut cq).get(Cqe64::SOP_DROP_QPN_SEND_WQE_OPCODE), 0x0e);
        let frames: Vec<_> = std::iter::from_fn(|| host.nic.transmit()).collect();
        assert_eq!(frames.len(), 4);
        let mut sent: Vec<u8> = Vec::new();
        for (number, frame) in frames.iter().enumerate() {
            let packet = Packet::parse(frame).unwrap();
            assert!(packet.l3_ok() && packet.l4_ok(), "checksums of segment {number}");
            let tcp = packet.tcp().unwrap();
            assert_eq!(tcp.seq, (u32::MAX - 2000).wrapping_add(sent.len() as u32));
            assert_eq!(tcp.flags, if number == 3 { flags } else { tcp_flag::ACK });
            sent.extend(packet.payload_bytes());
            assert_eq!(packet.payload.end, frame.len());
        }
        assert_eq!(sent, data);
    }
    // Not TCP: the request fails.
    let (mut host, mut cq, mut sq) = sender(6);
    let header = Build { protocol: 17, ..Build::default() }.frame();
    let segment = in_memory(&mut host, &payload(3000));
    let send = Send { opcode: 0x0e, mss: 1400, inline: header, segments: segment.to_vec(), ..Send::default() };
    host.post_send(&mut sq, &send.wqe());
    host.ring_sq(&sq);
    assert_eq!(error(&host, &mut cq), (2, 0xa7, 0));
}

#[test]
fn a_wild_doorbell_record_is_not_believed() {
    let (mut host, mut cq, mut rq) = receiver(4, |_| {});
    host.post_receives(&mut rq, 1, 2048);
    host.write32(rq.record, 9);
    host.nic.receive(&Build::tcp(1, &[]).frame());
    assert_eq!(host.next_cqe(&mut cq), None);
    assert_eq!((host.nic.counters().misuse.doorbell_record, host.nic.counters().drops.out_of_buffer), (1, 1));
    let (mut host, mut cq, mut sq) = sender(3);
    sq.counter = 9;
    host.ring_sq(&sq);
    assert_eq!(error(&host, &mut cq), (2, 0xa8, 0));
    assert_eq!(host.nic.counters().misuse.doorbell_record, 1);
    assert_eq!(host.next_cqe(&mut cq), None);
}

#[test]
fn the_reserved_key_needs_permission() {
    for allowed in [true, false] {
        let (mut host, mut cq, mut rq) = receiver(4, |rqc| rqc.set(Rqc::RLKY, u32::from(allowed)));
        let buffer = host.post_receives(&mut rq, 1, 2048)[0];
        host.write(rq.at(0), &data_segment(2048, RESERVED_LKEY, buffer));
        let frame = Build::tcp(1, &payload(100)).frame();
        host.nic.receive(&frame);
        if allowed {
            assert_eq!(cqe(&host, &mut cq).get(Cqe64::BYTE_CNT) as usize, frame.len());
            assert_eq!(host.read(buffer, frame.len()), frame);
        } else {
            assert_eq!(error(&host, &mut cq), (4, 0x41, 0));
        }
    }
}
