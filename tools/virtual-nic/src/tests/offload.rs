//! The offload through the rings: everything a driver does for one NVMe/TCP queue (`nvme-tcp-offload.md` §7.2 to §7.4)
//! by commands and WQEs, then C2HData from the wire.
//!
//! | property | test |
//! |---|---|
//! | payload of a bound tag lies in its buffer, the hole in the ring is untouched, and CQE + ring + tag are the frame | `payload_is_placed_and_the_hole_is_not_written` |
//! | after the invalidate nothing is placed any more; the packet is whole in the ring | `after_the_invalidate_nothing_is_placed` |
//! | a PDU cut anywhere over packets, with digests, arrives complete, and good digests are vouched for | `pdus_cut_anywhere_arrive_complete` |
//! | with VLAN stripping the hole is where the buffer has it | `the_hole_moves_with_a_stripped_tag` |
//! | a packet that finds no receive buffer places nothing | `without_a_buffer_nothing_is_placed` |
//! | control WQEs with bad numbers fail the queue, each with its own error | `bad_control_requests_fail_the_queue` |

use super::host::{Host, Queue};
use super::traffic::config;
use crate::offload::Behaviour;
use crate::packet::build::Build;
use crc_fast::{CrcAlgorithm, checksum};
use firmware_iface::Opcode;
use firmware_iface::command::{OutHeader, object::*};
use firmware_iface::context::*;
use hw_regs::cqe::{ErrCqe, OffloadCqe};
use hw_regs::layout::{Access, Layout};
use proptest::prelude::*;

const FLOW: u32 = 5;
pub(super) const START: u32 = 0xffff_f000;
/// Bytes of the destination buffer of every tag.
const BUFFER: u64 = 16384;

pub(super) struct Offloaded {
    pub(super) host: Host,
    pub(super) cq: Queue,
    pub(super) rq: Queue,
    pub(super) icosq: Queue,
    pub(super) ico_cq: Queue,
    pub(super) tir: u32,
    pub(super) tags: Vec<u32>,
    /// Destination buffers by tag, each in two pieces.
    pub(super) pieces: Vec<[(u64, u32); 2]>,
}

fn be(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

impl Offloaded {
    /// A queue of four tags, digests on or off, VLAN stripping or not.
    fn new(digest: bool, strip: bool) -> Offloaded {
        Offloaded::with(Behaviour::default(), digest, strip)
    }

    /// The same on a device of this behaviour.
    pub(super) fn with(behaviour: Behaviour, digest: bool, strip: bool) -> Offloaded {
        let mut config = config();
        config.switches.offload = behaviour;
        let mut host = Host::running(config);
        let eq = host.create_eq(0, 4, &[]);
        let cq = host.create_cq(eq.number, 6, 128);
        let ico_cq = host.create_cq(eq.number, 6, 64);
        let rq = host.create_rq(cq.number, 5, 4, |rqc| rqc.set(Rqc::VSD, u32::from(!strip)));
        let icosq = host.create_sq(ico_cq.number, 7, None);
        let rqt = host.create_rqt(&[rq.number]);
        let input = CreateTagBufferTableIn::zeroed()
            .with(CreateTagBufferTableIn::HDR_OBJ_TYPE, 0x21)
            .with(CreateTagBufferTableIn::OBJ_LOG_TAG_BUFFER_TABLE_SIZE, 2);
        let output: GeneralObjOutCmdHdr = host.exec(Opcode::CREATE_GENERAL_OBJECT, &input);
        let tirc = Tirc::zeroed()
            .with(Tirc::DISP_TYPE, 1)
            .with(Tirc::INDIRECT_TABLE, rqt)
            .with(Tirc::RX_HASH_FN, 1)
            .with(Tirc::NVMEOTCP_ZERO_COPY_EN, 1)
            .with(Tirc::NVMEOTCP_CRC_EN, u32::from(digest))
            .with(Tirc::NVMEOTCP_TAG_BUFFER_TABLE_ID, output.get(GeneralObjOutCmdHdr::OBJ_ID));
        let tir = host.create_tir(&tirc);
        let mkc = Mkc::zeroed()
            .with(Mkc::FREE, 1)
            .with(Mkc::UMR_EN, 1)
            .with(Mkc::LW, 1)
            .with(Mkc::LR, 1)
            .with(Mkc::ACCESS_MODE_1_0, u32::from(AccessMode::KLMS.0))
            .with(Mkc::QPN, 0xff_ffff)
            .with(Mkc::PD, host.pd)
            .with(Mkc::TRANSLATIONS_OCTWORD_SIZE, 128);
        let tags = (0..4).map(|_| host.create_mkey(&mkc)).collect();
        let pieces = (0..4)
            .map(|_| {
                let (first, second) = (host.alloc(BUFFER, 64), host.alloc(BUFFER, 64));
                [(second, 5000), (first, BUFFER as u32 - 5000)]
            })
            .collect();
        let mut this = Offloaded { host, cq, rq, icosq, ico_cq, tir, tags, pieces };
        this.control(&static_params(tir, options(digest)), true);
        this.control(&progress_params(tir, START), true);
        let fill = tag_fill(tir, &this.tags.clone());
        this.control(&fill, true);
        this.host.steer_all(tir, FLOW);
        this
    }

    /// Posts a control WQE, rings, and checks that it completes if it asked for that.
    pub(super) fn control(&mut self, wqe: &[u8], signalled: bool) {
        self.host.post_send(&mut self.icosq, wqe);
        self.host.ring_sq(&self.icosq);
        let cqe = self.host.next_cqe(&mut self.ico_cq);
        assert_eq!(cqe.is_some(), signalled);
        cqe.into_iter().for_each(|cqe| assert_eq!(cqe[63] >> 4, 0, "error syndrome {:#x}", cqe[55]));
    }

    pub(super) fn bind(&mut self, tag: usize) {
        let key = self.host.key;
        let klms: Vec<_> = self.pieces[tag].iter().map(|(at, len)| (*len, key, *at)).collect();
        for (at, len) in self.pieces[tag] {
            self.host.write(at, &vec![0xdd; len as usize]);
        }
        self.control(&ddp_setup(self.tags[tag], &klms), false);
    }

    pub(super) fn unbind(&mut self, tag: usize) {
        let mut wqe = vec![0; 128];
        (wqe[3], wqe[7], wqe[11]) = (0x25, 8, 8);
        wqe[12..16].copy_from_slice(&self.tags[tag].to_be_bytes());
        wqe[16] = 0x80;
        wqe[24..32].copy_from_slice(&(1u64 << 29).to_be_bytes());
        wqe[64] = 0x40;
        self.control(&wqe, true);
    }

    /// The destination buffer of a tag.
    pub(super) fn buffer(&self, tag: usize) -> Vec<u8> {
        self.pieces[tag].iter().flat_map(|(at, len)| self.host.read(*at, *len as usize)).collect()
    }

    /// Sends a frame in and puts it together again from CQE, ring and tags. Returns (frame, placed bytes, digest flag).
    fn receive(&mut self, frame: &[u8]) -> (Vec<u8>, usize, bool) {
        let received = self.receive_cqe(frame);
        (received.whole, received.placed, received.cqe.is_set(OffloadCqe::CQE64_B1_NVMEOTCP_DDGST))
    }

    /// Sends a frame in; it must have its completion when the call returns.
    pub(super) fn receive_cqe(&mut self, frame: &[u8]) -> Received {
        let ring = self.host.post_receives(&mut self.rq, 1, 2048)[0];
        self.host.nic.receive(frame);
        let cqe = self.host.next_cqe(&mut self.cq).expect("a completion");
        let cqe = OffloadCqe::from_prefix(&cqe);
        assert_eq!(cqe.get(OffloadCqe::CQE64_FLOW_TAG), FLOW);
        let len = cqe.get(OffloadCqe::CQE64_BYTE_CNT_BYTES) as usize;
        let mut whole = self.host.read(ring, len);
        let resync = cqe.is_set(OffloadCqe::CQE64_B1_NVMEOTCP_RESYNC);
        let resync = resync.then(|| cqe.get(OffloadCqe::CCOFF_OR_RESYNC_TCP_SN));
        let mut placed = 0;
        if cqe.is_set(OffloadCqe::CQE64_B1_NVMEOTCP_ZC) {
            let (hole, ccid) = (cqe.get(OffloadCqe::HLEN) as usize, cqe.get(OffloadCqe::CCID) as usize);
            let ccoff = cqe.get(OffloadCqe::CCOFF_OR_RESYNC_TCP_SN) as usize;
            placed = cqe.get(OffloadCqe::CCLEN) as usize;
            assert!(whole[hole..hole + placed].iter().all(|byte| *byte == 0xcc), "the hole was written");
            whole[hole..hole + placed].copy_from_slice(&self.buffer(ccid)[ccoff..ccoff + placed]);
        }
        Received { whole, placed, resync, cqe }
    }

    /// Confirms that a PDU begins at a sequence number (test vector F).
    pub(super) fn confirm(&mut self, sequence: u32, digest: bool) {
        let mut wqe = static_params(self.tir, options(digest));
        wqe[168..172].copy_from_slice(&sequence.to_be_bytes());
        self.control(&wqe, true);
    }
}

/// A frame as software sees it.
pub(super) struct Received {
    /// Its bytes, from ring and tag.
    pub(super) whole: Vec<u8>,
    pub(super) placed: usize,
    pub(super) resync: Option<u32>,
    pub(super) cqe: OffloadCqe,
}

/// Options of an initiator with zero copy: word at byte 0x24 of the static parameters.
fn options(digest: bool) -> u32 {
    0x800 | 0x200 | if digest { 0x140 } else { 0 }
}

/// As test vector A of the reference, with these options at byte 0x24 of the parameters.
fn static_params(tir: u32, options: u32) -> Vec<u8> {
    let mut wqe = vec![0; 192];
    (wqe[0], wqe[3], wqe[7], wqe[11]) = (2, 0x25, 12, 8);
    wqe[12..16].copy_from_slice(&(tir << 8).to_be_bytes());
    (wqe[16], wqe[23]) = (0x80, 4);
    wqe[128..132].copy_from_slice(&0x8100_0002u32.to_be_bytes());
    wqe[164..168].copy_from_slice(&options.to_be_bytes());
    wqe
}

/// As test vector B.
fn progress_params(tir: u32, next: u32) -> Vec<u8> {
    be(&[0x0400_0020, 2, 8, 0, tir, next, 0, 0])
}

/// As test vector C: four tags.
fn tag_fill(tir: u32, tags: &[u32]) -> Vec<u8> {
    let mut wqe = vec![0; 128];
    (wqe[0], wqe[3], wqe[7], wqe[11]) = (2, 0x25, 12, 8);
    wqe[12..16].copy_from_slice(&(tir << 8).to_be_bytes());
    (wqe[16], wqe[21]) = (0x90, 4);
    tags.iter().for_each(|tag| wqe.extend(be(&[u32::MAX, *tag, 0, 0])));
    wqe
}

/// As test vector D: up to four entries.
fn ddp_setup(tag: u32, klms: &[(u32, u32, u64)]) -> Vec<u8> {
    let mut wqe = vec![0; 128];
    (wqe[3], wqe[7]) = (0x25, 12);
    wqe[12..16].copy_from_slice(&tag.to_be_bytes());
    (wqe[16], wqe[21]) = (0x90, 4);
    wqe[24..32].copy_from_slice(&0x2000_0005u64.to_be_bytes());
    let len: u64 = klms.iter().map(|klm| u64::from(klm.0)).sum();
    wqe[88..96].copy_from_slice(&len.to_be_bytes());
    wqe[119] = 4;
    for (len, key, va) in klms {
        wqe.extend(be(&[*len, *key, (*va >> 32) as u32, *va as u32]));
    }
    wqe.resize(192, 0);
    wqe
}

/// A C2HData PDU (NVMe/TCP §3.6.2.8): header of 24 bytes, little-endian, then data and digest.
pub(super) fn c2h_data(ccid: u16, offset: u32, data: &[u8], digest: bool) -> Vec<u8> {
    let plen = 24 + data.len() as u32 + if digest { 4 } else { 0 };
    let mut pdu = vec![7, 4 | if digest { 2 } else { 0 }, 24, 24];
    pdu.extend(plen.to_le_bytes());
    pdu.extend(ccid.to_le_bytes());
    pdu.extend([0, 0]);
    pdu.extend(offset.to_le_bytes());
    pdu.extend((data.len() as u32).to_le_bytes());
    pdu.extend([0; 4]);
    pdu.extend(data);
    if digest {
        pdu.extend((checksum(CrcAlgorithm::Crc32Iscsi, data) as u32).to_le_bytes());
    }
    pdu
}

pub(super) fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 256 + seed) as u8).collect()
}

#[test]
fn payload_is_placed_and_the_hole_is_not_written() {
    let mut queue = Offloaded::new(false, false);
    queue.bind(2);
    assert_eq!(queue.host.nic.inventory().bound_tags, 1);
    let data = bytes(1200, 1);
    let frame = Build::tcp(START, &c2h_data(2, 4500, &data, false)).frame();
    assert_eq!(queue.receive(&frame), (frame.clone(), 1200, false));
    let buffer = queue.buffer(2);
    assert_eq!(buffer[4500..5700], data);
    assert!(buffer[..4500].iter().chain(&buffer[5700..]).all(|byte| *byte == 0xdd));
    let counters = queue.host.nic.counters();
    assert_eq!((counters.placed_packets, counters.placed_bytes), (1, 1200));
    assert_eq!(counters.work_requests.umr, 1);
    assert_eq!(counters.misuse, crate::counters::Misuse::default());
}

#[test]
fn after_the_invalidate_nothing_is_placed() {
    let mut queue = Offloaded::new(false, false);
    queue.bind(1);
    queue.unbind(1);
    assert_eq!(queue.host.nic.inventory().bound_tags, 0);
    let pdu = c2h_data(1, 0, &bytes(1000, 2), false);
    let frame = Build::tcp(START, &pdu).frame();
    assert_eq!(queue.receive(&frame), (frame.clone(), 0, false));
    assert!(queue.buffer(1).iter().all(|byte| *byte == 0xdd));
    // The context went on: the next PDU of a bound tag is placed.
    queue.bind(3);
    let frame = Build::tcp(START.wrapping_add(pdu.len() as u32), &c2h_data(3, 0, &bytes(700, 3), false)).frame();
    assert_eq!(queue.receive(&frame).1, 700);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn pdus_cut_anywhere_arrive_complete(
        digest in any::<bool>(),
        sizes in prop::collection::vec((0..4u16, 1..4000usize), 1..6),
        cuts in prop::collection::vec(1..1400usize, 1..8),
    ) {
        let mut queue = Offloaded::new(digest, false);
        (0..3).for_each(|tag| queue.bind(tag));
        let mut stream = Vec::new();
        // Where in the stream payload of bound tags lies; tag 3 is not bound.
        let mut runs = Vec::new();
        for (number, (ccid, len)) in sizes.iter().enumerate() {
            if *ccid < 3 {
                runs.push(stream.len() + 24..stream.len() + 24 + len);
            }
            stream.extend(c2h_data(*ccid, number as u32 * 1000, &bytes(*len, number), digest));
        }
        let (mut at, mut placed) = (0, 0);
        let mut cuts = cuts.iter().cycle();
        while at < stream.len() {
            let end = (at + cuts.next().unwrap()).min(stream.len());
            let frame = Build::tcp(START.wrapping_add(at as u32), &stream[at..end]).frame();
            let (whole, now, vouched) = queue.receive(&frame);
            prop_assert_eq!(&whole[..frame.len()], &frame[..]);
            prop_assert_eq!(vouched, digest);
            // One run per packet, the first.
            let first = runs.iter().map(|run| run.end.min(end).saturating_sub(run.start.max(at))).find(|len| *len > 0);
            prop_assert_eq!(now, first.unwrap_or(0));
            placed += now;
            at = end;
        }
        prop_assert_eq!(queue.host.nic.counters().placed_bytes, placed as u64);
        prop_assert!(queue.buffer(3).iter().all(|byte| *byte == 0));
    }
}

#[test]
fn the_hole_moves_with_a_stripped_tag() {
    let mut queue = Offloaded::new(false, true);
    queue.bind(0);
    let pdu = c2h_data(0, 0, &bytes(900, 4), false);
    let frame = Build { vlans: vec![(false, 7)], ..Build::tcp(START, &pdu) }.frame();
    let plain = [&frame[..12], &frame[16..]].concat();
    assert_eq!(queue.receive(&frame), (plain, 900, false));
}

#[test]
fn without_a_buffer_nothing_is_placed() {
    let mut queue = Offloaded::new(false, false);
    queue.bind(0);
    let frame = Build::tcp(START, &c2h_data(0, 0, &bytes(900, 4), false)).frame();
    queue.host.nic.receive(&frame);
    assert_eq!(queue.host.nic.counters().drops.out_of_buffer, 1);
    assert!(queue.buffer(0).iter().all(|byte| *byte == 0xdd));
    // The retransmission finds the context where it was.
    assert_eq!(queue.receive(&frame).1, 900);
}

#[test]
fn bad_control_requests_fail_the_queue() {
    type Wqe = fn(&Offloaded) -> Vec<u8>;
    let cases: [(Wqe, u32, u32); 5] = [
        (|q| static_params(q.tir + 1, 0xa00), 2, 0x81),
        (|q| progress_params(q.tir + 1, 0), 2, 0x81),
        (|q| ddp_setup(q.tags[0] + 1, &[]), 4, 0x41),
        (|q| ddp_setup(q.host.key, &[]), 6, 0x61),
        (|q| static_params(q.tir, 0xa00)[..128].to_vec(), 2, 0x01),
    ];
    for (wqe, syndrome, vendor) in cases {
        let mut queue = Offloaded::new(false, false);
        let mut wqe = wqe(&queue);
        wqe[7] = (wqe.len() / 16) as u8;
        queue.host.post_send(&mut queue.icosq, &wqe);
        queue.host.ring_sq(&queue.icosq);
        let cqe = ErrCqe::from_prefix(&queue.host.next_cqe(&mut queue.ico_cq).unwrap());
        assert_eq!(cqe.get(ErrCqe::OP_OWN_OPCODE), 0xd);
        assert_eq!((cqe.get(ErrCqe::SYNDROME), cqe.get(ErrCqe::VENDOR_ERR_SYND)), (syndrome, vendor));
        // The key in use can be destroyed nonetheless: firmware does not wait for the queue.
        let input = DestroyMkeyIn::zeroed().with(DestroyMkeyIn::MKEY_INDEX, queue.tags[0] >> 8);
        queue.host.exec::<_, OutHeader>(Opcode::DESTROY_MKEY, &input);
    }
}
