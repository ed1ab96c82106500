//! The demonstration with a target or a device that does wrong: it ends, says what was wrong, reports no wrong byte as
//! verified, and leaves nothing in the device.
//!
//! | property | test |
//! |---|---|
//! | every fault of the target on an I/O queue ends the run with the field or cause named, with and without the offload | `faults_of_an_io_queue_are_named` |
//! | every fault of the target on the admin queue ends the run with the field or cause named | `faults_of_the_admin_queue_are_named` |
//! | a damaged payload fails its read and nothing else if there are digests, and is found by comparing if there are none | `a_damaged_payload_fails_its_read` |
//! | any fault anywhere: an end, no wrong byte that could have been seen, nothing left | `any_fault_is_survived` |
//! | a completion that does not fit what software knows costs a packet or a read, never a wrong byte | `lies_of_the_device_are_not_believed` |
//! | a device that denies a hole is found out by a digest that it does not vouch for | `a_denied_hole_fails_the_digest` |
//! | any lie in any completion: an end, nothing left, and no wrong byte but by a lie that nobody could see | `any_lie_is_survived` |

#![cfg(feature = "demo")]

mod demo_support;

use connectx_ddp::demo::{Config, NoTap, Outcome, Tap};
use connectx_ddp::observe::Direction;
use connectx_ddp::shard::OffloadPolicy;
use demo_support::{assert_nothing_left, run, scripted, small};
use hw_regs::cqe::OffloadCqe;
use hw_regs::layout::{Access, Field, Layout};
use nvme_target::script::{At, Fault, Kind, On, Order, Script, Segmentation, Size, Success};
use proptest::prelude::*;
use std::time::Duration;

/// Two queues, 16 reads.
fn config() -> Config {
    Config { size: 256 << 10, io_size: 16 << 10, queue_size: 4, queues: 2, ..small() }
}

fn fault(on: On, at: At, kind: Kind) -> Script {
    Script { faults: vec![Fault { on, at, kind }], ..Script::default() }
}

/// Whatever went wrong: the sums hold, what failed is not verified, and the device holds nothing.
#[track_caller]
fn assert_honest(config: &Config, outcome: &Outcome) {
    assert_eq!(outcome.bytes_placed + outcome.bytes_copied, outcome.bytes, "{config:?}");
    assert_eq!(outcome.verified, outcome.problems.is_empty(), "{config:?}\n{:#?}", outcome.problems);
    if outcome.verified {
        assert!(outcome.completed && outcome.bytes == config.size && outcome.bytes_wrong == 0, "{config:?}");
    }
    assert!(outcome.problems.iter().all(|line| !line.contains('\n') && !line.is_empty()), "{:#?}", outcome.problems);
    assert_nothing_left(config, outcome);
}

/// Runs into a fault that must end the demonstration, with every one of `words` in the reason. Returns what it says instead.
fn misnamed(config: &Config, words: &[&str]) -> Option<String> {
    let outcome = run(config, &mut NoTap).expect("good options");
    assert_honest(config, &outcome);
    let faults = &config.script.faults;
    assert!(!outcome.verified && !outcome.completed, "{faults:?} went unnoticed");
    assert_eq!(outcome.bytes_wrong, 0, "{faults:?}");
    let why = &outcome.problems[0];
    let named = words.iter().all(|word| why.contains(word));
    (!named).then(|| format!("{faults:?}: {why:?} does not say {words:?}"))
}

#[test]
fn faults_of_an_io_queue_are_named() {
    let data = At::Data(2);
    let response = At::Response(3);
    let r2t = At::R2t(1);
    let cases: Vec<(At, Kind, &[&str])> = vec![
        (data, Kind::Type(0x42), &["0x42"]),
        (data, Kind::Type(0x00), &["ICReq"]),
        (data, Kind::Flags(0xff), &["C2HData", "FLAGS"]),
        (data, Kind::HeaderLength(0), &["C2HData", "HLEN"]),
        (data, Kind::DataOffset(255), &["C2HData", "PDO"]),
        (data, Kind::PduLength(0), &["C2HData", "PLEN"]),
        (data, Kind::PduLength(u32::MAX), &["C2HData", "PLEN"]),
        (data, Kind::CommandId(0xffff), &["C2HData", "CCCID"]),
        // Moved by four bytes, the data end behind the buffer.
        (data, Kind::Offset(4), &["C2HData", "DATAL"]),
        (data, Kind::Offset(u32::MAX), &["C2HData", "DATAO"]),
        (data, Kind::Length(0), &["C2HData", "DATAL"]),
        (data, Kind::Length(u32::MAX), &["C2HData", "PLEN"]),
        (data, Kind::ExtraData(4), &["C2HData", "DATAL"]),
        (data, Kind::HeaderDigest, &["C2HData", "header digest"]),
        (data, Kind::Drop, &["success after 0 of its 16384 bytes"]),
        (data, Kind::Terminate { fes: 3, fei: 9 }, &["controller ended the connection", "FES 0x3", "FEI 0x9"]),
        (data, Kind::Close { after: 100 }, &["closed"]),
        (data, Kind::Reset { after: 100 }, &["TCP", "reset by the peer"]),
        (data, Kind::Stall { after: 100 }, &["not completed within"]),
        (response, Kind::Type(0x05 ^ 0x80), &["0x85"]),
        (response, Kind::Flags(0xff), &["CapsuleResp", "FLAGS"]),
        (response, Kind::HeaderLength(25), &["CapsuleResp", "HLEN"]),
        (response, Kind::DataOffset(1), &["CapsuleResp", "PDO"]),
        (response, Kind::PduLength(23), &["CapsuleResp", "PLEN"]),
        (response, Kind::CommandId(0xffff), &["CapsuleResp", "CID"]),
        (response, Kind::HeaderDigest, &["CapsuleResp", "header digest"]),
        (response, Kind::Drop, &["not completed within"]),
        (response, Kind::Terminate { fes: 1, fei: 8 }, &["controller ended the connection", "FES 0x1"]),
        (response, Kind::Close { after: 0 }, &["closed"]),
        (response, Kind::Reset { after: 4 }, &["TCP", "reset by the peer"]),
        (response, Kind::Stall { after: 4 }, &["not completed within"]),
        (r2t, Kind::Type(0x06), &["H2CData"]),
        (r2t, Kind::Flags(4), &["R2T", "FLAGS"]),
        (r2t, Kind::HeaderLength(23), &["R2T", "HLEN"]),
        (r2t, Kind::DataOffset(24), &["R2T", "PDO"]),
        (r2t, Kind::PduLength(1 << 20), &["R2T", "PLEN"]),
        (r2t, Kind::CommandId(0xffff), &["R2T", "CCCID"]),
        (r2t, Kind::Offset(4), &["R2T", "R2TO"]),
        (r2t, Kind::Length(0), &["R2T", "R2TL"]),
        (r2t, Kind::Length(u32::MAX), &["R2T", "R2TL"]),
        (r2t, Kind::HeaderDigest, &["R2T", "header digest"]),
        (r2t, Kind::Drop, &["not completed within"]),
        (r2t, Kind::Stall { after: 23 }, &["not completed within"]),
    ];
    let mut misnamed_ones = Vec::new();
    for offload in [OffloadPolicy::Require, OffloadPolicy::Off] {
        for (at, kind, words) in &cases {
            let script = Script { success: Success::Capsule, ..fault(On::Queue(1), *at, *kind) };
            let header = matches!(kind, Kind::HeaderDigest);
            let write = matches!(at, At::R2t(_));
            let config = Config { offload, hdr_digest: header, write, ..scripted(config(), script) };
            misnamed_ones.extend(misnamed(&config, words));
        }
        // Some of the data missing, and success said before the last.
        let script = Script { c2h_data: Size::AtMost(4096), ..fault(On::Queue(1), At::Data(5), Kind::Drop) };
        misnamed_ones.extend(misnamed(
            &Config { offload, ..scripted(config(), script) },
            &["success after 12288 of its 16384 bytes"],
        ));
        let script = Script { c2h_data: Size::AtMost(4096), ..fault(On::Queue(1), At::Data(5), Kind::Flags(0x0c)) };
        let words = ["success", "of its 16384 bytes"];
        misnamed_ones.extend(misnamed(&Config { offload, ..scripted(config(), script) }, &words));
    }
    assert!(misnamed_ones.is_empty(), "{misnamed_ones:#?}");
}

#[test]
fn faults_of_the_admin_queue_are_named() {
    // ICResp, the answer to Connect, and what follows: properties, then Identify.
    let (icresp, connect, later) = (At::Pdu(0), At::Pdu(1), At::Pdu(3));
    let cases: Vec<(At, Kind, &[&str])> = vec![
        (icresp, Kind::Type(0x07), &["C2HData"]),
        (icresp, Kind::HeaderLength(127), &["ICResp", "HLEN"]),
        (icresp, Kind::PduLength(0), &["ICResp", "PLEN"]),
        (icresp, Kind::Drop, &["ICResp"]),
        (icresp, Kind::Terminate { fes: 4, fei: 0 }, &["controller ended the connection", "FES 0x4"]),
        (icresp, Kind::Close { after: 1 }, &["closed"]),
        (icresp, Kind::Reset { after: 127 }, &["TCP", "reset by the peer"]),
        (icresp, Kind::Stall { after: 64 }, &["ICResp"]),
        (connect, Kind::Type(0x09), &["R2T"]),
        (connect, Kind::Flags(1), &["CapsuleResp", "FLAGS"]),
        (connect, Kind::PduLength(25), &["CapsuleResp", "PLEN"]),
        (connect, Kind::CommandId(7777), &["CapsuleResp", "CID"]),
        (connect, Kind::Drop, &["Connect"]),
        (connect, Kind::Close { after: 23 }, &["closed"]),
        (connect, Kind::Close { after: 24 }, &["closed"]),
        (connect, Kind::Reset { after: 24 }, &["TCP", "reset by the peer"]),
        (later, Kind::Type(0xff), &["0xff"]),
        (later, Kind::HeaderLength(0), &["HLEN"]),
        (later, Kind::CommandId(7777), &["CID"]),
        (later, Kind::Drop, &["not completed within"]),
        (later, Kind::Stall { after: 0 }, &["not completed within"]),
        (At::Data(0), Kind::Length(1), &["C2HData", "PLEN"]),
        (At::Data(0), Kind::Offset(512), &["C2HData", "DATAL"]),
        (At::Data(1), Kind::ExtraData(4), &["C2HData", "DATAL"]),
        (At::Data(1), Kind::HeaderDigest, &["C2HData", "header digest"]),
        (At::Data(1), Kind::DataDigest, &["admin"]),
    ];
    let mut misnamed_ones = Vec::new();
    for (at, kind, words) in &cases {
        let config = Config {
            hdr_digest: matches!(kind, Kind::HeaderDigest),
            data_digest: matches!(kind, Kind::DataDigest),
            ..scripted(config(), fault(On::Connection(0), *at, *kind))
        };
        misnamed_ones.extend(misnamed(&config, &[&["admin queue"], *words].concat()));
    }
    assert!(misnamed_ones.is_empty(), "{misnamed_ones:#?}");
}

#[test]
fn a_damaged_payload_fails_its_read() {
    for offload in [OffloadPolicy::Require, OffloadPolicy::Off] {
        for kind in [Kind::Payload, Kind::DataDigest] {
            let script = fault(On::Queue(2), At::Data(3), kind);
            let config = Config { offload, data_digest: true, ..scripted(config(), script) };
            let outcome = run(&config, &mut NoTap).expect("good options");
            assert_honest(&config, &outcome);
            assert!(outcome.completed && !outcome.verified);
            assert_eq!((outcome.failed, outcome.bytes_wrong), (1, 0));
            assert_eq!((outcome.reads, outcome.bytes), (15, config.size - config.io_size));
            assert_eq!(outcome.problems.len(), 1, "{:#?}", outcome.problems);
            assert!(outcome.problems[0].contains("Transient Transport Error"), "{:?}", outcome.problems);
        }
        let config = Config { offload, ..scripted(config(), fault(On::Queue(2), At::Data(3), Kind::Payload)) };
        let outcome = run(&config, &mut NoTap).expect("good options");
        assert_honest(&config, &outcome);
        assert_eq!((outcome.verified, outcome.failed, outcome.bytes_wrong), (false, 0, 1));
        assert!(outcome.problems[0].contains("wrong, the first at"), "{:?}", outcome.problems);
    }
}

/// How many random runs: `CXDDP_CASES`.
fn cases() -> u32 {
    std::env::var("CXDDP_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(96)
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        prop_oneof![0u8..12, any::<u8>()].prop_map(Kind::Type),
        any::<u8>().prop_map(Kind::Flags),
        any::<u8>().prop_map(Kind::HeaderLength),
        any::<u8>().prop_map(Kind::DataOffset),
        prop_oneof![0u32..200, any::<u32>()].prop_map(Kind::PduLength),
        prop_oneof![0u16..8, any::<u16>()].prop_map(Kind::CommandId),
        prop_oneof![0u32..20_000, any::<u32>()].prop_map(Kind::Offset),
        prop_oneof![0u32..20_000, any::<u32>()].prop_map(Kind::Length),
        (1u32..20_000).prop_map(Kind::ExtraData),
        Just(Kind::HeaderDigest),
        Just(Kind::DataDigest),
        Just(Kind::Payload),
        Just(Kind::Drop),
        (any::<u16>(), any::<u32>()).prop_map(|(fes, fei)| Kind::Terminate { fes, fei }),
        (0u32..20_000).prop_map(|after| Kind::Close { after }),
        (0u32..20_000).prop_map(|after| Kind::Reset { after }),
        (0u32..20_000).prop_map(|after| Kind::Stall { after }),
    ]
}

fn faults() -> impl Strategy<Value = Fault> {
    let on = prop_oneof![
        3 => (1u16..3).prop_map(On::Queue),
        1 => Just(On::Queue(0)),
        2 => (0u64..3).prop_map(On::Connection),
    ];
    let at = prop_oneof![
        (0u64..20).prop_map(At::Pdu),
        (0u64..20).prop_map(At::Data),
        (0u64..12).prop_map(At::Response),
        (0u64..12).prop_map(At::R2t),
    ];
    (on, at, kinds()).prop_map(|(on, at, kind)| Fault { on, at, kind })
}

fn unkind() -> impl Strategy<Value = Config> {
    let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.3), any::<bool>(), prop::bool::weighted(0.2));
    let size = prop_oneof![Just(Size::Whole), (512u32..9000).prop_map(Size::AtMost)];
    let order = prop_oneof![Just(Order::InOrder), Just(Order::Shuffled), Just(Order::Interleaved)];
    let success = prop_oneof![Just(Success::WhenAllowed), Just(Success::Capsule), Just(Success::Random)];
    let cut = prop_oneof![
        3 => Just(Segmentation::Full),
        1 => Just(Segmentation::AlignPdus),
        1 => Just(Segmentation::Random { min: 1, max: 1400 }),
    ];
    let script = (any::<u64>(), size, order, success, cut, prop::collection::vec(faults(), 1..4));
    (flags, script, any::<u64>(), 1u32..40).prop_map(
        |(
            (hdr_digest, data_digest, write, jumbo, off),
            (script_seed, c2h_data, order, success, segmentation, faults),
            seed,
            blocks,
        )| {
            let script =
                Script { seed: script_seed, c2h_data, order, success, segmentation, faults, ..Script::default() };
            Config {
                hdr_digest,
                data_digest,
                write,
                seed,
                io_size: u64::from(blocks) * 512,
                size: 128 << 10,
                mtu: if jumbo { 9000 } else { 1500 },
                offload: if off { OffloadPolicy::Off } else { OffloadPolicy::Prefer },
                ..scripted(config(), script)
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_fault_is_survived(config in unkind()) {
        let outcome = run(&config, &mut NoTap);
        let outcome = outcome.map_err(|error| TestCaseError::fail(format!("{error}\n{config:?}")))?;
        assert_honest(&config, &outcome);
        // Without a digest nobody can see damage, and data under the identifier of another read is that read's data.
        let unseen = config.script.faults.iter().any(|fault| {
            matches!(fault.kind, Kind::Payload if !config.data_digest) || matches!(fault.kind, Kind::CommandId(_))
        });
        prop_assert!(outcome.bytes_wrong == 0 || unseen, "{:?}\n{:#?}", config, outcome.problems);
    }
}

// --- the device --------------------------------------------------------------------------------------------------------

/// Byte 65 of the 128: the offload's flags.
const PLACED: Field<OffloadCqe> = OffloadCqe::CQE64_B1_NVMEOTCP_ZC;
const DIGEST_OK: Field<OffloadCqe> = OffloadCqe::CQE64_B1_NVMEOTCP_DDGST;

/// A field of a completion, its name and its width in bits.
type Named = (&'static str, Field<OffloadCqe>, u32);

const CCID: Named = ("ccid", OffloadCqe::CCID, 16);
const CCOFF: Named = ("ccoff", OffloadCqe::CCOFF_OR_RESYNC_TCP_SN, 32);
const CCLEN: Named = ("cclen", OffloadCqe::CCLEN, 16);
const HLEN: Named = ("hlen", OffloadCqe::HLEN, 16);
const BYTES: Named = ("byte_cnt", OffloadCqe::CQE64_BYTE_CNT_BYTES, 16);
const FLOW_TAG: Named = ("flow_tag", OffloadCqe::CQE64_FLOW_TAG, 24);
const COUNTER: Named = ("wqe_counter", OffloadCqe::CQE64_WQE_COUNTER, 16);
const CHECKSUMS: Named = ("hds_ip_ext", OffloadCqe::CQE64_HDS_IP_EXT, 8);
const HEADER_TYPE: Named = ("l4_l3_hdr_type", OffloadCqe::CQE64_L4_L3_HDR_TYPE, 8);
const OPCODE: Named = ("opcode", OffloadCqe::CQE64_OP_OWN_OPCODE, 4);
const FORMAT: Named = ("format", OffloadCqe::CQE64_OP_OWN_FORMAT, 2);
const RESYNC: Named = ("resync", OffloadCqe::CQE64_B1_NVMEOTCP_RESYNC, 1);
const FIELDS: [Named; 14] = [
    CCID,
    CCOFF,
    CCLEN,
    HLEN,
    BYTES,
    FLOW_TAG,
    COUNTER,
    CHECKSUMS,
    HEADER_TYPE,
    OPCODE,
    FORMAT,
    RESYNC,
    ("zc", PLACED, 1),
    ("ddgst", DIGEST_OK, 1),
];

/// What is written in place of the truth.
#[derive(Clone, Copy, Debug)]
enum Change {
    Set(u32),
    Add(u32),
}

/// One lie: in completion number `at` of those that the device puts into the receive queue.
#[derive(Clone, Copy)]
struct Lie {
    at: u64,
    field: Named,
    change: Change,
}

impl std::fmt::Debug for Lie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "completion {}: {} {:x?}", self.at, self.field.0, self.change)
    }
}

impl Lie {
    fn tell(&self, cqe: &mut OffloadCqe) {
        let (_, field, width) = self.field;
        let value = match self.change {
            Change::Set(value) => value,
            Change::Add(by) => cqe.get(field).wrapping_add(by),
        };
        cqe.set(field, value & (u32::MAX >> (32 - width)));
    }
}

/// A device that lies in completions of 128 bytes, of which the receive queue has the only ones.
struct Liar {
    lies: Vec<Lie>,
    /// Count, and lie in, only those of packets of which a run was placed.
    placed_only: bool,
}

impl Tap for Liar {
    fn frame(&mut self, _: Duration, _: Direction, _: &[u8]) {}

    fn device(&mut self, nic: &mut virtual_nic::VirtualNic) {
        let (lies, placed_only) = (self.lies.clone(), self.placed_only);
        let mut number = 0;
        nic.faults().tamper_completions(Some(Box::new(move |bytes| {
            if bytes.len() != OffloadCqe::SIZE {
                return;
            }
            let mut cqe = OffloadCqe::from_prefix(bytes);
            if placed_only && !cqe.is_set(PLACED) {
                return;
            }
            lies.iter().filter(|lie| lie.at == number).for_each(|lie| lie.tell(&mut cqe));
            number += 1;
            bytes.copy_from_slice(cqe.bytes());
        })));
    }
}

#[test]
fn lies_of_the_device_are_not_believed() {
    let set = |field, value| (field, Change::Set(value));
    let add = |field, by: i32| (field, Change::Add(by.cast_unsigned()));
    let lies = [
        set(CCID, 0xffff),
        set(CCID, 100),
        add(CCID, 1),
        add(CCOFF, 1),
        add(CCOFF, -4),
        set(CCOFF, u32::MAX),
        set(CCOFF, 16 << 10),
        set(CCLEN, 0),
        set(CCLEN, 0xffff),
        add(CCLEN, 1),
        set(HLEN, 0),
        set(HLEN, 53),
        set(HLEN, 0xffff),
        add(HLEN, 1),
        add(HLEN, -1),
        set(BYTES, 0),
        set(BYTES, 60),
        set(BYTES, 0xffff),
        add(BYTES, -1),
        add(BYTES, 1),
        set(FLOW_TAG, 0),
        add(FLOW_TAG, 1),
        set(FLOW_TAG, 0xff_ffff),
        set(RESYNC, 1),
        set(CHECKSUMS, 0),
        add(COUNTER, 1),
        add(COUNTER, -1),
        set(COUNTER, 0xffff),
        set(OPCODE, 0),
        set(OPCODE, 0xd),
        set(OPCODE, 0xe),
        set(FORMAT, 3),
    ];
    for data_digest in [false, true] {
        for (field, change) in lies {
            for at in [0, 17] {
                let lie = Lie { at, field, change };
                let config = Config { data_digest, ..config() };
                let mut liar = Liar { lies: vec![lie], placed_only: true };
                let outcome = run(&config, &mut liar).expect("good options");
                assert_honest(&config, &outcome);
                assert_eq!(outcome.bytes_wrong, 0, "{lie:?}");
                // One byte more is cut off by the length of the IP packet; a counter may be that of a ring slot, and then
                // the packet is lost like any other. All else is seen for what it is.
                let harmless = matches!((field.0, change), ("byte_cnt", Change::Add(1)))
                    || matches!((field.0, change), ("wqe_counter", Change::Add(u32::MAX)));
                assert!(harmless || !outcome.verified, "{lie:?} was believed");
            }
        }
    }
    // The tags of both queues are bound, so only the connection tells that the run is not its own.
    let lie = Lie { at: 0, field: FLOW_TAG, change: Change::Add(1) };
    let outcome = run(&config(), &mut Liar { lies: vec![lie], placed_only: true }).expect("good options");
    assert_eq!(outcome.problems, ["1 packets were placed for another connection"]);
    assert!(outcome.completed && outcome.failed == 0 && outcome.bytes_wrong == 0);
}

#[test]
fn a_denied_hole_fails_the_digest() {
    // The device placed a run, says that it did not, or that it was shorter, and does not vouch for the digest: what is in
    // the ring where the hole was is whatever was there before.
    let lies = [(("zc", PLACED, 1), Change::Set(0)), (CCLEN, Change::Add(u32::MAX)), (CCLEN, Change::Set(1))];
    for (field, change) in lies {
        let config = Config { data_digest: true, ..config() };
        let unvouched = Lie { at: 20, field: ("ddgst", DIGEST_OK, 1), change: Change::Set(0) };
        let mut liar = Liar { lies: vec![Lie { at: 20, field, change }, unvouched], placed_only: true };
        let outcome = run(&config, &mut liar).expect("good options");
        assert_honest(&config, &outcome);
        assert_eq!((outcome.failed, outcome.bytes_wrong, outcome.digests_sw), (1, 0, 1), "{} {change:?}", field.0);
    }
}

fn lies() -> impl Strategy<Value = Lie> {
    let change = prop_oneof![
        any::<u32>().prop_map(Change::Set),
        (0u32..64).prop_map(Change::Set),
        (1u32..2000).prop_map(Change::Add),
        (1u32..2000).prop_map(|by| Change::Add(by.wrapping_neg())),
    ];
    (0u64..260, 0..FIELDS.len(), change).prop_map(|(at, field, change)| Lie { at, field: FIELDS[field], change })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_lie_is_survived(
        lies in prop::collection::vec(lies(), 1..5), placed_only: bool, data_digest: bool, hdr_digest: bool,
        write in prop::bool::weighted(0.2), seed: u64, pieces in 1u32..9,
    ) {
        let config = Config { data_digest, hdr_digest, write, seed, pieces, ..config() };
        let mut liar = Liar { lies: lies.clone(), placed_only };
        let outcome = run(&config, &mut liar);
        let outcome = outcome.map_err(|error| TestCaseError::fail(format!("{error}\n{config:?}")))?;
        assert_honest(&config, &outcome);
        // A hole that is denied, or said to be shorter than it is, looks like payload in the ring; only a digest tells.
        let unseen = lies.iter().any(|lie| [CCLEN.0, "zc"].contains(&lie.field.0));
        prop_assert!(outcome.bytes_wrong == 0 || unseen, "{:?}\n{:?}\n{:#?}", config, lies, outcome.problems);
    }
}
