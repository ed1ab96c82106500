//! Choices that have names: what a plan draws from, and what the coverage table shows, drawn or not.

use super::plan::{Plan, What};
use crate::ddp::policy::Threshold;
use crate::demo::peer::Peer;
use crate::shard::OffloadPolicy;
use crate::tcp::CongestionControl;
use hw_regs::init_segment::HealthSyndrome;
use nvme_target::script::{Order, Segmentation, Size, Success};
use std::time::Duration;
use virtual_nic::CommandFault;
use virtual_nic::faults::{Fault, Role};
use virtual_nic::offload::WhichRun;
use virtual_nic::offload::behaviour::{
    ConfirmRule, DataOffset, FirstFlag, FirstHalf, HeaderPacket, HoleRule, Inconsistent, Overlap, Pattern, Reaction,
    Repeat, ResumeRule, ResyncByte, SearchRule, Unverified, VlanHlen,
};

/// A choice: the names of its values.
pub(super) type Named<T> = &'static [(&'static str, T)];

macro_rules! named {
    ($($choice:ident: $type:ident { $($value:ident),+ })+) => {$(
        pub(super) const $choice: Named<$type> = &[$((stringify!($value), $type::$value)),+];
    )+};
}

named! {
    WHICH_RUN: WhichRun { First, Last, Longest }
    HOLE: HoleRule { Continue, Stop }
    HEADER_PACKET: HeaderPacket { Placed, Ring }
    OVERLAP: Overlap { Bypass, NewTail }
    SEARCH: SearchRule { Anywhere, StartOfPacket }
    PATTERN: Pattern { TypeAndLength, Lengths, HeaderDigest }
    RESYNC_BYTE: ResyncByte { First, Last }
    CONFIRM: ConfirmRule { Remembered, Tracked }
    RESUME: ResumeRule { NextPdu, NextPacket }
    FIRST_FLAG: FirstFlag { Right, WronglySet }
    UNVERIFIED: Unverified { LatePacket, DigestPacket, EveryPacket }
    INCONSISTENT: Inconsistent { LoseFraming, Deliver }
    DATA_OFFSET: DataOffset { AsSaid, Contiguous }
    REACTION: Reaction { Ring, RestOfPdu, ErrorCqe, ContextError }
    VLAN_HLEN: VlanHlen { AsStored, AsOnWire }
    FIRST_HALF: FirstHalf { Zero, Noise }
    ORDER: Order { InOrder, Shuffled, Interleaved }
    SUCCESS: Success { WhenAllowed, Flag, Capsule, Random }
    POLICY: OffloadPolicy { Prefer, Require, Off }
}
/// The target's TCP.
pub(super) const PEER: Named<Peer> = &[
    ("smoltcp", Peer::Smoltcp),
    ("ours, CUBIC", Peer::Own(CongestionControl::Cubic)),
    ("ours, NewReno", Peer::Own(CongestionControl::NewReno)),
];
/// What can go wrong with queues and with the function.
pub(super) const QUEUE_FAULT: Named<Fault> = &[
    ("receive queue fails", Fault::WorkRequest(Role::Receive)),
    ("send queue fails", Fault::WorkRequest(Role::Send)),
    ("control ring fails", Fault::WorkRequest(Role::Control)),
    ("receive CQ overruns", Fault::CqOverrun(Role::Receive)),
    ("send CQ overruns", Fault::CqOverrun(Role::Send)),
    ("control CQ overruns", Fault::CqOverrun(Role::Control)),
    ("function is ill", Fault::Fatal(HealthSyndrome::FW_INTERNAL_ERR)),
    ("function is gone for 50 ms", Fault::Gone(Duration::from_millis(50))),
    ("function is gone for 5 s", Fault::Gone(Duration::from_secs(5))),
    ("function is reset", Fault::Reset),
    ("firmware hangs", Fault::Hang),
];
pub(super) const BOOL: Named<bool> = &[("no", false), ("yes", true)];

/// What can go wrong with a command.
const COMMAND_FAULTS: &[&str] = &[
    "command refused",
    "command late",
    "command never answered",
    "command lost",
    "answer with wrong token",
    "answer truncated",
    "answer garbled",
];

fn name_of(fault: &CommandFault) -> &'static str {
    match fault {
        CommandFault::Refuse { .. } => "command refused",
        CommandFault::Late(_) => "command late",
        CommandFault::NeverAnswered => "command never answered",
        CommandFault::Lost => "command lost",
        CommandFault::WrongToken => "answer with wrong token",
        CommandFault::Truncated(_) => "answer truncated",
        CommandFault::Garbage(_) => "answer garbled",
        _ => "another fault of a command",
    }
}

/// What a plan has chosen: question, all answers, the answer.
pub(super) struct Choice {
    pub question: &'static str,
    pub answers: Vec<&'static str>,
    pub answer: usize,
}

fn of<T: PartialEq>(question: &'static str, all: Named<T>, value: &T) -> Choice {
    let answer = all.iter().position(|(_, one)| one == value).unwrap_or_default();
    Choice { question, answers: all.iter().map(|(name, _)| *name).collect(), answer }
}

/// One of several ranges or shapes.
fn one(question: &'static str, answers: &[&'static str], answer: usize) -> Choice {
    Choice { question, answers: answers.to_vec(), answer }
}

fn size(question: &'static str, size: Size) -> Choice {
    let answer = match size {
        Size::Whole => 0,
        Size::AtMost(_) => 1,
        Size::Between { .. } => 2,
    };
    one(question, &["Whole", "AtMost", "Between"], answer)
}

/// Everything with a name that a plan has drawn.
pub(super) fn of_plan(plan: &Plan) -> Vec<Choice> {
    let s = &plan.switches;
    let b = &s.offload;
    let has = |question, yes: bool| of(question, BOOL, &yes);
    let happens = |question, wanted: &dyn Fn(&What) -> bool| {
        has(question, plan.happenings.iter().any(|happening| wanted(&happening.what)))
    };
    let mut all = vec![
        of("which_run", WHICH_RUN, &s.which_run),
        of("hole", HOLE, &b.hole),
        of("header_packet", HEADER_PACKET, &b.header_packet),
        of("overlap", OVERLAP, &b.overlap),
        of("search", SEARCH, &b.search),
        of("pattern", PATTERN, &b.pattern),
        one(
            "longest_guess",
            &["at most 64 KiB", "at most 16 MiB", "more"],
            match b.longest_guess {
                0..=0x1_0000 => 0,
                0x1_0001..=0x100_0000 => 1,
                _ => 2,
            },
        ),
        of("search_late", BOOL, &b.search_late),
        of("keep_partial_header", BOOL, &b.keep_partial_header),
        one(
            "repeat",
            &["Once", "EveryHeader", "EveryN"],
            match b.repeat {
                Repeat::Once => 0,
                Repeat::EveryHeader => 1,
                Repeat::EveryN(_) => 2,
            },
        ),
        one(
            "request_limit",
            &["none", "1 to 3", "more"],
            match b.request_limit.map_or(0, u32::from) {
                0 => 0,
                1..=3 => 1,
                _ => 2,
            },
        ),
        of("resync_byte", RESYNC_BYTE, &b.resync_byte),
        of("confirm", CONFIRM, &b.confirm),
        of("resume", RESUME, &b.resume),
        of("first_flag", FIRST_FLAG, &b.first_flag),
        of("unverified", UNVERIFIED, &b.unverified),
        of("flag_without_data", BOOL, &b.flag_without_data),
        of("inconsistent", INCONSISTENT, &b.inconsistent),
        of("data_offset", DATA_OFFSET, &b.data_offset),
        of("free_key", REACTION, &b.free_key),
        of("unknown_tag", REACTION, &b.unknown_tag),
        of("overflow", REACTION, &b.overflow),
        has("umr_packets", b.umr_packets != 0),
        has("umr_time", !b.umr_time.is_zero()),
        of("vlan_hlen", VLAN_HLEN, &b.vlan_hlen),
        of("first_half", FIRST_HALF, &b.first_half),
        has("sign_answers", s.sign_answers),
        has("strict_arm_sequence", s.strict_arm_sequence),
        has("queue_address_reads_back", s.queue_address_reads_back),
        of("target's TCP", PEER, &plan.peer),
        of("offload policy", POLICY, &plan.offload),
        one(
            "threshold",
            &["none", "fixed", "adaptive"],
            match plan.threshold {
                Threshold::Fixed(0) => 0,
                Threshold::Fixed(_) => 1,
                Threshold::Auto(_) => 2,
            },
        ),
        one(
            "control ring",
            &["never runs out", "32 blocks", "64 to 256"],
            match plan.log_control_ring {
                None => 0,
                Some(5) => 1,
                Some(_) => 2,
            },
        ),
        one(
            "MTU",
            &["1500", "9000", "another"],
            match plan.mtu {
                1500 => 0,
                9000 => 1,
                _ => 2,
            },
        ),
        has("header digest", plan.header_digest),
        has("data digest", plan.data_digest),
        one("queues", &["1", "2", "3", "4", "5", "6", "7", "8"], plan.queues.clamp(1, 8) as usize - 1),
        one(
            "pieces",
            &["1", "2 to 8", "9 to 128", "more"],
            match plan.pieces {
                0..=1 => 0,
                2..=8 => 1,
                9..=128 => 2,
                _ => 3,
            },
        ),
        one(
            "largest request",
            &["below 4 KiB", "below 64 KiB", "up to 512 KiB"],
            match plan.blocks.1 {
                0..8 => 0,
                8..128 => 1,
                _ => 2,
            },
        ),
        has("writes", plan.writes > 0.0),
        size("C2HData", plan.script.c2h_data),
        size("R2T", plan.script.r2t),
        of("order", ORDER, &plan.script.order),
        of("success", SUCCESS, &plan.script.success),
        has("answers held back", plan.script.gather.is_some()),
        has("extra padding", plan.script.extra_padding != 0),
        one(
            "segmentation",
            &["Full", "AlignPdus", "Random"],
            match plan.script.segmentation {
                Segmentation::Full => 0,
                Segmentation::AlignPdus => 1,
                Segmentation::Random { .. } => 2,
            },
        ),
        has("faults of the target", !plan.script.faults.is_empty()),
        happens("cancel", &|what| matches!(what, What::Cancel(_))),
        has("hostile device", plan.hostile.is_some()),
        happens("close", &|what| matches!(what, What::Close(_))),
    ];
    for (question, fault) in QUEUE_FAULT {
        all.push(happens(question, &|what| matches!(what, What::Device { fault: kind, .. } if kind == fault)));
    }
    for question in COMMAND_FAULTS {
        let is = |what: &What| matches!(what, What::Command { fault, .. } if name_of(fault) == *question);
        all.push(happens(question, &is));
    }
    for (lane, names) in [
        (&plan.wire.to_target, ["loss →", "reorder →", "duplicate →", "corrupt →", "delay →"]),
        (&plan.wire.to_host, ["loss ←", "reorder ←", "duplicate ←", "corrupt ←", "delay ←"]),
    ] {
        let drawn =
            [lane.loss > 0.0, lane.reorder > 0.0, lane.duplicate > 0.0, lane.corrupt > 0.0, !lane.delay.is_zero()];
        all.extend(names.into_iter().zip(drawn).map(|(question, drawn)| has(question, drawn)));
    }
    all
}
