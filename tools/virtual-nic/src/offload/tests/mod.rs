//! One offloaded connection, and what the tests of its behaviour share.
//!
//! | module | what is tested |
//! |---|---|
//! | `in_order` | everything arrives, and in order |
//! | `lossy` | packets are missing, doubled, late or cut anew: the device against an oracle, under every switch |
//! | `contract` | what the offload may depend on |
//! | `switches` | each switch by itself |
//! | `ceilings` | how much is placed and verified under loss, against the published ceilings |

mod ceilings;
mod contract;
mod in_order;
pub(crate) mod lossy;
mod oracle;
mod stream;
mod switches;

use super::behaviour::*;
use super::*;
use crate::dma::build::memory;
use crate::mkey::MkeyLimits;
use crate::packet::build::Build;
use crate::wqe::{Entries, FreeCheck, MkeyUmr};
use firmware_iface::command::object::CreateMkeyIn;
use firmware_iface::context::{AccessMode, Mkc};
use hw_regs::layout::Layout;
use hw_regs::wqe::{Klm, WqeMkeySeg};
use proptest::prelude::*;
use stream::{Digests, Pdu, Stream, TAGS};

const TIRN: u32 = 0xabc;
const PD: u32 = 3;
const BASE: u64 = 0x4000_0000;

/// A device with one offloaded connection.
struct Nic {
    offload: Offload,
    mkeys: Mkeys,
    dma: DmaSpace,
    data_key: u32,
    tags: Vec<u32>,
    table: u32,
}

fn tirc(table: u32, crc: bool) -> Tirc {
    Tirc::zeroed()
        .with(Tirc::NVMEOTCP_ZERO_COPY_EN, 1)
        .with(Tirc::NVMEOTCP_CRC_EN, crc.into())
        .with(Tirc::NVMEOTCP_TAG_BUFFER_TABLE_ID, table)
}

fn static_params(digests: Digests) -> StaticParams {
    StaticParams::zeroed()
        .with(StaticParams::ZERO_COPY_EN, 1)
        .with(StaticParams::CCCID_TTAG, 1)
        .with(StaticParams::DDGST_OFFLOAD_EN, digests.data.into())
        .with(StaticParams::DDGST_EN, digests.data.into())
        .with(StaticParams::HDDGST_EN, digests.header.into())
}

fn progress(next: u32) -> ProgressParams {
    ProgressParams::zeroed().with(ProgressParams::NEXT_PDU_TCP_SN, next)
}

fn klm(bcount: u32, key: u32, va: u64) -> Vec<u8> {
    Klm::zeroed().with(Klm::BCOUNT, bcount).with(Klm::KEY, key).with_wide(Klm::VA, va).bytes().to_vec()
}

fn create_key(mkeys: &mut Mkeys, mkc: Mkc) -> u32 {
    let mkc = mkc.with(Mkc::LR, 1).with(Mkc::LW, 1).with(Mkc::PD, PD);
    let input = CreateMkeyIn::zeroed().with_nested(CreateMkeyIn::MEMORY_KEY_MKEY_ENTRY, &mkc);
    mkeys.create(&input, &[]).unwrap() << 8
}

impl Nic {
    /// Tag 0 to TAGS - 1 have free mkeys; the table has room for one more that is never filled.
    fn new(digests: Digests, seq: u32, which: WhichRun, memory_len: u64) -> Nic {
        Nic::with(digests, seq, which, Behaviour::default(), memory_len)
    }

    fn with(digests: Digests, seq: u32, which: WhichRun, behaviour: Behaviour, memory_len: u64) -> Nic {
        let mut offload = Offload::new(TagLimits::default(), which, behaviour);
        let mut mkeys = Mkeys::new(MkeyLimits::default());
        let create = CreateTagBufferTableIn::zeroed().with(CreateTagBufferTableIn::OBJ_LOG_TAG_BUFFER_TABLE_SIZE, 3);
        let table = offload.create_table(&create).unwrap();
        offload.create_tir(TIRN, &tirc(table, true)).unwrap();
        let data_key = create_key(&mut mkeys, Mkc::zeroed().with(Mkc::LENGTH64, 1));
        let tag = Mkc::zeroed()
            .with(Mkc::ACCESS_MODE_1_0, AccessMode::KLMS.0.into())
            .with(Mkc::FREE, 1)
            .with(Mkc::UMR_EN, 1)
            .with(Mkc::TRANSLATIONS_OCTWORD_SIZE, 1024);
        let tags: Vec<u32> = (0..TAGS).map(|_| create_key(&mut mkeys, tag)).collect();
        let mut nic = Nic { offload, mkeys, dma: memory(BASE, memory_len), data_key, tags, table };
        nic.offload.static_params(TIRN, &static_params(digests)).unwrap();
        nic.offload.progress_params(TIRN, &progress(seq)).unwrap();
        let mut entries: Vec<u8> = nic.tags.iter().flat_map(|key| klm(u32::MAX, *key, 0)).collect();
        entries.resize(entries.len().next_multiple_of(64), 0);
        nic.offload.tag_fill(&TagFill { tirn: TIRN, first: 0, entries: &entries }).unwrap();
        nic
    }

    /// Binds a tag to pieces of memory.
    fn bind(&mut self, tag: u16, pieces: &[(u64, u32)]) {
        let mut entries: Vec<u8> = pieces.iter().flat_map(|(iova, len)| klm(*len, self.data_key, *iova)).collect();
        entries.resize(entries.len().next_multiple_of(64), 0);
        let total: u64 = pieces.iter().map(|(_, len)| u64::from(*len)).sum();
        let segment = WqeMkeySeg::zeroed()
            .with_wide(WqeMkeySeg::LEN, total)
            .with(WqeMkeySeg::XLT_OCT_SIZE, (entries.len() / 16) as u32);
        let umr = MkeyUmr {
            key: self.tags[usize::from(tag)],
            check: FreeCheck::None,
            offset: 0,
            entries: Entries::Inline(&entries),
            mask: 0x2000_0005,
            segment,
        };
        self.mkeys.umr(&umr, Some(PD), &self.dma).unwrap();
        self.offload.key_changed(umr.key, umr.frees());
    }

    fn free(&mut self, tag: u16) {
        let umr = MkeyUmr {
            key: self.tags[usize::from(tag)],
            check: FreeCheck::None,
            offset: 0,
            entries: Entries::Inline(&[]),
            mask: 0x2000_0000,
            segment: WqeMkeySeg::zeroed().with(WqeMkeySeg::STATUS_FREE, 1),
        };
        self.mkeys.umr(&umr, Some(PD), &self.dma).unwrap();
        self.offload.key_changed(umr.key, umr.frees());
    }

    fn receive(&mut self, build: &Build) -> Outcome {
        let frame = build.frame();
        self.offload.receive(TIRN, &Packet::parse(&frame).unwrap(), &self.mkeys, &self.dma)
    }

    fn segment(&mut self, seq: u32, payload: &[u8]) -> Outcome {
        self.receive(&Build::tcp(seq, payload))
    }

    fn memory(&self, len: u64) -> Vec<u8> {
        let mut all = vec![0; len as usize];
        self.dma.read(BASE, &mut all).unwrap();
        all
    }
}

const NO_DIGESTS: Digests = Digests { header: false, data: false };
const DATA_DIGEST: Digests = Digests { header: false, data: true };

fn data(cid: u16, offset: u32, len: u32) -> Pdu {
    Pdu::Data { cid, offset, len, padding: 0, good_digest: true, decoy: None }
}

fn stream(pdus: &[Pdu], digests: Digests) -> Stream {
    let mut stream = Stream::default();
    pdus.iter().for_each(|pdu| stream.push(pdu, digests));
    stream
}

/// How the segments of a test look around their payload.
fn envelope() -> impl Strategy<Value = Build> {
    let vlans = proptest::collection::vec((any::<bool>(), any::<u16>()), 0..3);
    (vlans, any::<bool>(), 0usize..3, 0usize..11, proptest::collection::vec(any::<u8>(), 0..7)).prop_map(
        |(vlans, v6, ip_options, tcp_options, padding)| Build {
            vlans,
            v6,
            ip_options,
            tcp_options,
            padding,
            ..Build::default()
        },
    )
}

/// Buffers of the tags in pieces that lie scattered over the memory, with gaps of odd lengths, the first tag's last piece
/// first; a tag without pieces stays free. Returns the addresses of each buffer's bytes.
fn bind_scattered(nic: &mut Nic, buffers: &[Vec<u32>], memory_len: u64) -> Vec<Vec<u64>> {
    let mut place = memory_len;
    let mut address = Vec::new();
    for (tag, pieces) in buffers.iter().enumerate() {
        let placed: Vec<(u64, u32)> = pieces
            .iter()
            .map(|len| {
                place -= u64::from(*len) + 7;
                (BASE + place, *len)
            })
            .collect();
        if !placed.is_empty() {
            nic.bind(tag as u16, &placed);
        }
        address.push(placed.iter().flat_map(|(iova, len)| *iova..*iova + u64::from(*len)).collect());
    }
    address
}

/// Pieces of each tag's buffer.
fn buffers(longest: u32) -> impl Strategy<Value = Vec<Vec<u32>>> {
    proptest::collection::vec(proptest::collection::vec(1u32..longest, 0..12), usize::from(TAGS))
}

/// Any rule.
fn which() -> impl Strategy<Value = WhichRun> {
    prop_oneof![Just(WhichRun::First), Just(WhichRun::Last), Just(WhichRun::Longest)]
}

/// The first sequence number of a stream: often one that wraps.
fn first_sequence() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), (0u32..20_000).prop_map(|back| 0u32.wrapping_sub(back))]
}

/// Sizes of packets: often tiny, so that headers and digests are cut everywhere.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(prop_oneof![1usize..12, 1usize..200, 1usize..1461, Just(1448)], 1..200)
}
