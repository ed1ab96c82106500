//! What one seed draws: a whole world, and what happens in it.
//!
//! Every choice that has names is in [`choices`](super::choices), so that the coverage table shows what was never drawn.

use super::choices;
use crate::ddp::policy::{self, Costs, Threshold};
use crate::demo::peer::Peer;
use crate::demo::world::WireConfig;
use crate::shard::OffloadPolicy;
use ethernet_wire::Impairments;
use ethernet_wire::Random;
use firmware_iface::{Opcode, Status};
use nvme_target::Script;
use nvme_target::script::{At, Fault, Gather, Kind, On, Segmentation, Size};
use std::num::NonZeroU32;
use std::time::Duration;
use virtual_nic::faults::Fault as DeviceFault;
use virtual_nic::offload::Behaviour;
use virtual_nic::{CommandFault, Hostile, Switches};

/// Bytes of a logical block.
pub(super) const BLOCK: u64 = 512;
/// Payload of one seed, bytes, about: small enough for thousands of seeds a minute.
const PAYLOAD: (u64, u64) = (64 << 10, 640 << 10);
/// Most requests of one seed.
const REQUESTS: u64 = 160;
/// Most scatter entries that a tag has room for; a few seeds have more.
const ENTRIES: u64 = 128;

/// Longer than any command needs whose path is not interrupted.
const LONG_TIMEOUT: Duration = Duration::from_secs(600);

/// Everything that one seed draws.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// IP MTU.
    pub mtu: u32,
    /// I/O queues.
    pub queues: u32,
    /// Commands in flight per queue.
    pub depth: u16,
    /// Header digests are negotiated.
    pub header_digest: bool,
    /// Data digests are negotiated.
    pub data_digest: bool,
    /// Bytes of the namespace.
    pub namespace: u64,
    /// Requests in all.
    pub requests: u32,
    /// Blocks of a request, least and most.
    pub blocks: (u32, u32),
    /// Pieces that a buffer is cut into, at most.
    pub pieces: u32,
    /// Share of requests that are writes.
    pub writes: f64,
    /// What to do about the offload.
    pub offload: OffloadPolicy,
    /// Which reads are bound.
    pub threshold: Threshold,
    /// log2 of the control rings' blocks.
    pub log_control_ring: Option<u32>,
    /// log2 of the receive queue, of the send queue.
    pub log_queues: (u32, u32),
    /// TCP receive window of a connection, bytes.
    pub rx_window: u32,
    /// Receive buffers that a connection may hold.
    pub rx_payloads: u32,
    /// How long a command may take.
    pub timeout: Duration,
    /// An I/O queue whose connection was lost is connected again, once.
    pub reopen: bool,
    /// What is not known about the device.
    pub switches: Switches,
    /// A device that writes into every receive buffer and page that it holds.
    pub hostile: Option<Hostile>,
    /// Time that firmware takes for a command, and by how much it varies.
    pub command_latency: (Duration, Duration),
    /// The wire.
    pub wire: WireConfig,
    /// The target's TCP.
    pub peer: Peer,
    /// How the target lays out its PDUs, and what it does wrong.
    pub script: Script,
    /// In-capsule data of the target, bytes.
    pub in_capsule_data: u32,
    /// What else happens.
    pub happenings: Vec<Happening>,
}

/// Something that happens.
#[derive(Clone, Copy, Debug)]
pub struct Happening {
    /// When so many requests have come back; `None` before the I/O queues connect.
    pub after: Option<u32>,
    /// So many polls later.
    pub polls: u32,
    /// What.
    pub what: What,
}

/// What happens.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// The n-th of the requests under way, modulo their number, is cancelled.
    Cancel(u32),
    /// The connection of the n-th I/O queue is closed.
    Close(u32),
    /// After `skip` more of this opcode a command meets a fault.
    Command {
        /// Which command.
        opcode: Opcode,
        /// What happens to it.
        fault: CommandFault,
        /// How many go well before.
        skip: u32,
    },
    /// Something goes wrong with a queue.
    Device {
        /// What.
        fault: DeviceFault,
        /// Chooses one of the queues that it can happen to.
        pick: u64,
    },
}

/// Commands that the data path executes: adding and removing connections, and recovery.
const OPCODES: [Opcode; 16] = [
    Opcode::CREATE_GENERAL_OBJECT,
    Opcode::DESTROY_GENERAL_OBJECT,
    Opcode::CREATE_MKEY,
    Opcode::DESTROY_MKEY,
    Opcode::CREATE_CQ,
    Opcode::DESTROY_CQ,
    Opcode::CREATE_SQ,
    Opcode::MODIFY_SQ,
    Opcode::QUERY_SQ,
    Opcode::DESTROY_SQ,
    Opcode::MODIFY_RQ,
    Opcode::QUERY_RQ,
    Opcode::CREATE_TIR,
    Opcode::DESTROY_TIR,
    Opcode::SET_FLOW_TABLE_ENTRY,
    Opcode::DELETE_FLOW_TABLE_ENTRY,
];

impl Plan {
    /// What this seed draws.
    pub fn draw(seed: u64) -> Plan {
        let mut random = Random::seeded(seed);
        let r = &mut random;
        let mtu = match r.between(0, 7) {
            0..4 => 1500,
            4..6 => 9000,
            _ => r.between(576, 9000) as u32,
        };
        let most = r.magnitude(1, 1024) as u32;
        let least = if r.happens(0.5) { most } else { r.magnitude(1, u64::from(most)) as u32 };
        let mean = u64::from(least + most) * BLOCK / 2;
        let payload = r.between(PAYLOAD.0, PAYLOAD.1);
        let queues = r.between(1, 8) as u32;
        let pieces = match r.between(0, 19) {
            0..8 => 1,
            8..14 => r.between(2, 8),
            14..19 => r.between(9, ENTRIES),
            _ => r.between(ENTRIES + 1, 400),
        };
        let data_digest = r.happens(0.5);
        let (header_digest, writes) = (r.happens(0.5), [0.0, 0.0, 0.1, 0.5][r.between(0, 3) as usize]);
        let wire = wire(r, seed);
        let log_queues = (r.between(7, 11) as u32, r.between(5, 11) as u32);
        let requests = (payload / mean).clamp(2, REQUESTS) as u32;
        Plan {
            seed,
            mtu,
            queues,
            depth: r.magnitude(1, 32) as u16,
            header_digest,
            data_digest,
            namespace: (u64::from(most) * BLOCK * 2).max(256 << 10),
            requests,
            blocks: (least, most),
            pieces: pieces as u32,
            writes,
            offload: r.of(&[OffloadPolicy::Prefer, OffloadPolicy::Prefer, OffloadPolicy::Require, OffloadPolicy::Off]),
            threshold: threshold(r),
            log_control_ring: r.happens(0.3).then(|| r.between(5, 8) as u32),
            log_queues,
            rx_window: r.magnitude(16 << 10, 1 << 20) as u32,
            rx_payloads: r.between(16, 256) as u32,
            timeout: if r.happens(0.2) { Duration::from_secs(30) } else { LONG_TIMEOUT },
            reopen: r.happens(0.5),
            switches: switches(r),
            // Not into bindings: the reads there could not be compared.
            hostile: r.happens(0.08).then(|| Hostile {
                seed: r.next_u64(),
                every: r.between(100, 1000) as u32,
                bindings: false,
                buffers: true,
                pages: true,
            }),
            command_latency: match r.happens(0.5) {
                true => (Duration::ZERO, Duration::ZERO),
                false => (Duration::from_nanos(r.magnitude(1, 200_000)), Duration::from_nanos(r.between(0, 100_000))),
            },
            script: script(
                r,
                queues,
                header_digest,
                data_digest,
                wire.to_host != Impairments::default() || log_queues.0 < 9,
            ),
            wire,
            peer: r.of(choices::PEER).1,
            in_capsule_data: r.of(&[0, 4096, 8192]),
            happenings: happenings(r, queues, requests),
        }
    }

    /// True if something about the device goes wrong on purpose.
    pub fn device_fails(&self) -> bool {
        self.happenings.iter().any(|h| matches!(h.what, What::Command { .. } | What::Device { .. }))
    }

    /// True if several frames may be lost in a row, however far apart they are in time.
    pub fn loses_in_bursts(&self) -> bool {
        [self.wire.to_target, self.wire.to_host].iter().any(|lane| lane.loss > 0.0 && lane.burst > 1.0)
    }

    /// True if frames are damaged.
    pub fn corrupts(&self) -> bool {
        self.wire.to_target.corrupt > 0.0 || self.wire.to_host.corrupt > 0.0
    }

    /// True if a command may take longer than it is given: smoltcp needs a second and more for most losses.
    pub fn may_time_out(&self) -> bool {
        let loses = |lane: &Impairments| lane.loss > 0.0 || lane.corrupt > 0.0;
        let lossy = loses(&self.wire.to_target) || loses(&self.wire.to_host) || self.tags_are_dangerous();
        // Bursts of the wire that the receive queue cannot hold, and segments of which the driver holds few.
        let crumbs = self.peer == Peer::Smoltcp && self.script.segmentation != Segmentation::Full && lossy;
        let overflows = self.log_queues.0 < 8 || crumbs;
        overflows || self.loses_in_bursts() || (self.timeout < LONG_TIMEOUT && lossy)
    }

    /// True if a tag that cannot be used fails a receive queue or stops a context.
    pub fn tags_are_dangerous(&self) -> bool {
        use virtual_nic::offload::behaviour::Reaction;
        let Behaviour { free_key, unknown_tag, overflow, .. } = self.switches.offload;
        [free_key, unknown_tag, overflow].contains(&Reaction::ErrorCqe)
    }
}

/// The default half of the time, for each switch on its own, and for all at once in some seeds: combinations of few are
/// reached as well as combinations of many.
fn switches(r: &mut Random) -> Switches {
    let mut switches = Switches::default();
    let plain = [1.0, 0.5, 0.0][r.between(0, 2) as usize];
    switches.sign_answers = !r.happens(0.3);
    switches.strict_arm_sequence = !r.happens(0.3);
    switches.queue_address_reads_back = !r.happens(0.3);
    let draw = |r: &mut Random| r.happens(1.0 - plain);
    if draw(r) {
        switches.which_run = r.of(choices::WHICH_RUN).1;
    }
    let b = &mut switches.offload;
    macro_rules! choose {
        ($($field:ident: $all:ident),+ $(,)?) => {$(
            if draw(r) {
                b.$field = r.of(choices::$all).1;
            }
        )+};
    }
    choose! {
        hole: HOLE, header_packet: HEADER_PACKET, overlap: OVERLAP, search: SEARCH, pattern: PATTERN,
        keep_partial_header: BOOL, search_late: BOOL, resync_byte: RESYNC_BYTE, confirm: CONFIRM, resume: RESUME, first_flag: FIRST_FLAG,
        unverified: UNVERIFIED, flag_without_data: BOOL, inconsistent: INCONSISTENT, data_offset: DATA_OFFSET,
        free_key: REACTION, unknown_tag: REACTION, overflow: REACTION, vlan_hlen: VLAN_HLEN, first_half: FIRST_HALF,
    }
    use virtual_nic::offload::behaviour::Repeat;
    if draw(r) {
        b.repeat = match r.between(0, 2) {
            0 => Repeat::Once,
            1 => Repeat::EveryHeader,
            _ => NonZeroU32::new(r.between(1, 5) as u32).map_or(Repeat::Once, Repeat::EveryN),
        };
    }
    if draw(r) {
        b.request_limit = NonZeroU32::new(r.between(0, 12) as u32);
    }
    if draw(r) {
        b.longest_guess = r.magnitude(4096, u64::from(u32::MAX)) as u32;
    }
    if draw(r) {
        b.umr_packets = r.magnitude(1, 40) as u32;
    }
    if draw(r) {
        b.umr_time = Duration::from_nanos(r.magnitude(100, 2_000_000));
    }
    switches
}

fn threshold(r: &mut Random) -> Threshold {
    match r.between(0, 9) {
        0..6 => Threshold::Fixed(0),
        6..9 => Threshold::Fixed(r.magnitude(512, 64 << 10) as u32),
        _ => Threshold::Auto(Costs::Scripted(policy::Script {
            bind_ns: r.magnitude(10, 10_000) as u32,
            unbind_ns: r.magnitude(10, 10_000) as u32,
            copy_ns_per_kib: r.magnitude(10, 1000) as u32,
        })),
    }
}

fn lane(r: &mut Random) -> Impairments {
    let mut share = |most: f64| if r.happens(0.4) { most * r.magnitude(10, 1000) as f64 / 1000.0 } else { 0.0 };
    let (loss, reorder, duplicate, corrupt) = (share(0.05), share(0.05), share(0.05), share(0.02));
    Impairments {
        loss,
        reorder,
        duplicate,
        corrupt,
        burst: if r.happens(0.5) { 1.0 } else { r.between(2, 8) as f64 },
        distance: r.magnitude(1, 24) as u32,
        delay: Duration::from_nanos(if r.happens(0.5) { 0 } else { r.magnitude(100, 500_000) }),
    }
}

fn wire(r: &mut Random, seed: u64) -> WireConfig {
    let mut maybe = |probability| if r.happens(probability) { lane(r) } else { Impairments::default() };
    WireConfig { to_target: maybe(0.4), to_host: maybe(0.65), seed }
}

fn size(r: &mut Random) -> Size {
    match r.between(0, 3) {
        0 | 1 => Size::Whole,
        2 => Size::AtMost(r.magnitude(512, 64 << 10) as u32),
        _ => {
            let min = r.magnitude(64, 16 << 10) as u32;
            Size::Between { min, max: min + r.magnitude(4, 32 << 10) as u32 }
        }
    }
}

fn script(r: &mut Random, queues: u32, header_digest: bool, data_digest: bool, lossy: bool) -> Script {
    Script {
        seed: r.next_u64(),
        c2h_data: size(r),
        r2t: size(r),
        r2t_outstanding: r.between(0, 4) as u32,
        order: r.of(choices::ORDER).1,
        gather: r.happens(0.3).then(|| Gather {
            commands: r.between(2, 8) as usize,
            wait: Duration::from_micros(r.magnitude(10, 10_000)),
        }),
        success: r.of(choices::SUCCESS).1,
        extra_padding: if r.happens(0.2) { r.between(1, 20) as u8 } else { 0 },
        segmentation: match r.between(0, 4) {
            0..3 => Segmentation::Full,
            3 => Segmentation::AlignPdus,
            _ => {
                // smoltcp sends a whole window again for a loss: where frames are lost, small ones take for ever.
                let min = r.magnitude(if lossy { 300 } else { 1 }, 600) as u16;
                Segmentation::Random { min, max: min + r.magnitude(1, 2000) as u16 }
            }
        },
        faults: match r.between(0, 9) {
            0..8 => Vec::new(),
            n => (8..=n).map(|_| fault(r, queues, header_digest, data_digest)).collect(),
        },
    }
}

/// A fault of the target on an I/O queue. Not among them are those that nobody can see: data under the identifier of
/// another read, and damaged data without a digest.
fn fault(r: &mut Random, queues: u32, header_digest: bool, data_digest: bool) -> Fault {
    let after = r.between(0, 20_000) as u32;
    let any = r.next_u64() as u32;
    let small = r.between(0, 20_000) as u32;
    let kind = match r.between(0, 15) {
        0 => Kind::Type(any as u8),
        1 => Kind::Flags(any as u8),
        2 => Kind::HeaderLength(any as u8),
        3 => Kind::DataOffset(any as u8),
        4 => Kind::PduLength(if any & 1 == 0 { any } else { small }),
        5 => Kind::Offset(if any & 1 == 0 { any } else { small }),
        6 => Kind::Length(if any & 1 == 0 { any } else { small }),
        7 => Kind::ExtraData(small.max(1)),
        8 if header_digest => Kind::HeaderDigest,
        9 if data_digest => Kind::DataDigest,
        10 if data_digest => Kind::Payload,
        11 => Kind::Drop,
        12 => Kind::Terminate { fes: any as u16, fei: small },
        13 => Kind::Reset { after },
        14 => Kind::Stall { after },
        _ => Kind::Close { after },
    };
    let at = match r.between(0, 5) {
        0..3 => At::Data(r.between(0, 20)),
        3 => At::Response(r.between(0, 12)),
        4 => At::R2t(r.between(0, 6)),
        _ => At::Pdu(r.between(1, 20)),
    };
    Fault { on: On::Queue(r.between(1, u64::from(queues)) as u16), at, kind }
}

fn happenings(r: &mut Random, queues: u32, requests: u32) -> Vec<Happening> {
    let mut all = Vec::new();
    let mut add = |r: &mut Random, probability: f64, most: u64, draw: &dyn Fn(&mut Random) -> What| {
        let count = if r.happens(probability) { r.between(1, most) } else { 0 };
        for _ in 0..count {
            let after = Some(r.between(0, u64::from(requests)) as u32);
            all.push(Happening { after, polls: r.magnitude(1, 40) as u32 - 1, what: draw(r) });
        }
    };
    add(r, 0.4, 8, &|r| What::Cancel(r.next_u64() as u32));
    add(r, 0.25, 3, &|r| What::Close(r.between(0, u64::from(queues) - 1) as u32));
    add(r, 0.12, 3, &|r| What::Device { fault: r.of(choices::QUEUE_FAULT).1, pick: r.next_u64() });
    add(r, 0.12, 3, &|r| What::Command {
        opcode: r.of(&OPCODES),
        fault: command_fault(r),
        skip: r.between(0, 6) as u32,
    });
    // Half of the commands' faults meet connections that come, the others what is done later.
    for happening in &mut all {
        if matches!(happening.what, What::Command { .. }) && r.happens(0.5) {
            happening.after = None;
        }
    }
    all
}

fn command_fault(r: &mut Random) -> CommandFault {
    match r.between(0, 6) {
        0 => CommandFault::Refuse { status: Status::NO_RES_ERR, syndrome: r.next_u64() as u32 },
        1 => CommandFault::Late(Duration::from_micros(r.magnitude(1, 5_000_000))),
        2 => CommandFault::NeverAnswered,
        3 => CommandFault::Lost,
        4 => CommandFault::WrongToken,
        5 => CommandFault::Truncated(r.between(0, 15) as usize),
        _ => CommandFault::Garbage(r.next_u64()),
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | a seed draws the same every time, another one something else | `a_seed_draws_the_same` |
    use super::*;

    #[test]
    fn a_seed_draws_the_same() {
        let text = |seed| format!("{:?}", Plan::draw(seed));
        assert_eq!(text(5), text(5));
        assert_ne!(text(5).replace("seed: 5", ""), text(6).replace("seed: 6", ""));
    }
}
