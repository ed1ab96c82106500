//! TIR and RQT: the objects that steering ends in.

use super::SteeringError;
use crate::adapter::{Creation, Handle, Objects};
use crate::command::{CommandError, ObjectKind, Request};
use crate::platform::Deadline;
use crate::queue::Base;
use bitflags::bitflags;
use firmware_iface::command::queue::{CreateRqtIn, CreateTirIn, DestroyRqtIn, DestroyTirIn, ModifyRqtIn, RqtBitmask};
use firmware_iface::context::{Rqtc, RxHashFieldSelect, RxHashFn, Tirc};
use hw_regs::layout::{Access, Layout};

/// A Toeplitz key that spreads well and that everybody uses, so that hashes can be compared with other tools: the one of
/// the RSS specification's verification suite.
pub const TOEPLITZ_KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b,
    0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac,
    0x01, 0xfa,
];

bitflags! {
    /// What a TIR hashes: `rx_hash_field_select.selected_fields`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct HashFields: u32 {
        /// Source address.
        const SOURCE_IP = 1;
        /// Destination address.
        const DESTINATION_IP = 1 << 1;
        /// Source port.
        const SOURCE_PORT = 1 << 2;
        /// Destination port.
        const DESTINATION_PORT = 1 << 3;
    }
}

/// How a TIR spreads packets over a table of queues.
#[derive(Clone, Copy, Debug)]
pub struct RssHash {
    /// Key of the Toeplitz hash.
    pub key: [u8; 40],
    /// Fields that are hashed; only packets that have them should reach the TIR.
    pub fields: HashFields,
    /// True for IPv6 packets, false for IPv4 packets.
    pub ipv6: bool,
}

impl RssHash {
    /// Addresses and ports of TCP over IPv4, or over IPv6, with [`TOEPLITZ_KEY`].
    pub fn tcp(ipv6: bool) -> RssHash {
        RssHash { key: TOEPLITZ_KEY, fields: HashFields::all(), ipv6 }
    }
}

/// Where a TIR sends packets.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// To one receive queue, by its RQN.
    Queue(u32),
    /// To the only, or the first, queue of a table: the queue can be replaced without touching the TIR.
    First {
        /// RQT number.
        rqtn: u32,
    },
    /// To the queue of a table that the hash chooses.
    Spread {
        /// RQT number.
        rqtn: u32,
        /// How.
        hash: RssHash,
    },
}

/// The offload context of a TIR (`nvme-tcp-offload.md` §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffloadFields {
    /// Place payload.
    pub zero_copy: bool,
    /// Check data digests.
    pub crc: bool,
    /// Tag buffer table whose entries are the destinations.
    pub tag_buffer_table: u32,
}

/// How a TIR is to be.
#[derive(Clone, Copy, Debug)]
pub struct TirParams {
    /// Where packets go.
    pub target: Target,
    /// Offload context, if any.
    pub offload: Option<OffloadFields>,
    /// Never receive what this function sent itself, unicast or multicast.
    pub block_loopback: bool,
}

impl TirParams {
    /// A TIR without offload that does not hear itself.
    pub fn new(target: Target) -> TirParams {
        TirParams { target, offload: None, block_loopback: true }
    }

    /// What creates such a TIR.
    pub(crate) fn creation(&self, base: &Base) -> Creation {
        let input = CreateTirIn::zeroed().with_nested(CreateTirIn::CTX, &self.context(base));
        let destroy = |tirn| Request::new(&DestroyTirIn::zeroed().with(DestroyTirIn::TIRN, tirn));
        Creation::new(ObjectKind::Tir, Request::new(&input), destroy)
    }

    fn context(&self, base: &Base) -> Tirc {
        let mut tirc = Tirc::zeroed()
            .with(Tirc::SELF_LB_BLOCK, if self.block_loopback { 3 } else { 0 })
            .with(Tirc::TRANSPORT_DOMAIN, base.transport_domain);
        match self.target {
            Target::Queue(rqn) => tirc.set(Tirc::INLINE_RQN, rqn),
            Target::First { rqtn } => {
                // The hash of no fields is the same for every packet. Kernel drivers use this function for tables of one.
                tirc = tirc
                    .with(Tirc::DISP_TYPE, 1)
                    .with(Tirc::INDIRECT_TABLE, rqtn)
                    .with(Tirc::RX_HASH_FN, u32::from(RxHashFn::INVERTED_XOR8.0));
            }
            Target::Spread { rqtn, hash } => {
                let select = RxHashFieldSelect::zeroed()
                    .with(RxHashFieldSelect::L3_PROT_TYPE, u32::from(hash.ipv6))
                    .with(RxHashFieldSelect::SELECTED_FIELDS, hash.fields.bits());
                tirc = tirc
                    .with(Tirc::DISP_TYPE, 1)
                    .with(Tirc::INDIRECT_TABLE, rqtn)
                    .with(Tirc::RX_HASH_FN, u32::from(RxHashFn::TOEPLITZ.0))
                    .with_nested(Tirc::RX_HASH_FIELD_SELECTOR_OUTER, &select);
                for (n, word) in hash.key.chunks_exact(4).enumerate() {
                    let word = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
                    tirc.set_at(Tirc::RX_HASH_TOEPLITZ_KEY, n, u64::from(word));
                }
            }
        }
        if let Some(offload) = self.offload {
            tirc = tirc
                .with(Tirc::NVMEOTCP_ZERO_COPY_EN, u32::from(offload.zero_copy))
                .with(Tirc::NVMEOTCP_CRC_EN, u32::from(offload.crc))
                .with(Tirc::NVMEOTCP_TAG_BUFFER_TABLE_ID, offload.tag_buffer_table);
        }
        tirc
    }
}

/// Creates a TIR.
pub fn create_tir(
    objects: &mut impl Objects,
    base: &Base,
    params: &TirParams,
    deadline: Deadline,
) -> Result<Handle, CommandError> {
    objects.create(params.creation(base), deadline)
}

fn rqt(rqns: &[u32], max_size: u32) -> Result<(Rqtc, Vec<u8>), SteeringError> {
    // A hash picks by its low bits: other sizes are not documented (`mlx5-bringup.md` §4).
    if !rqns.len().is_power_of_two() || rqns.len() as u64 > u64::from(max_size) || max_size > 0xffff {
        return Err(SteeringError::Rqt { len: rqns.len(), max: max_size.min(0xffff) });
    }
    let context = Rqtc::zeroed().with(Rqtc::RQT_MAX_SIZE, max_size).with(Rqtc::RQT_ACTUAL_SIZE, rqns.len() as u32);
    Ok((context, rqns.iter().flat_map(|rqn| (rqn & 0xff_ffff).to_be_bytes()).collect()))
}

/// Creates a table of receive queues that can grow to `max_size` entries. The number of queues is a power of two.
pub fn create_rqt(
    objects: &mut impl Objects,
    rqns: &[u32],
    max_size: u32,
    deadline: Deadline,
) -> Result<Handle, SteeringError> {
    let (context, list) = rqt(rqns, max_size)?;
    let request = Request::new(&CreateRqtIn::zeroed().with_nested(CreateRqtIn::RQT_CONTEXT, &context)).tail(&list);
    let destroy = |rqtn| Request::new(&DestroyRqtIn::zeroed().with(DestroyRqtIn::RQTN, rqtn));
    Ok(objects.create(Creation::new(ObjectKind::Rqt, request, destroy), deadline)?)
}

/// Replaces the queues of a table that was created with `max_size`.
pub fn modify_rqt(
    objects: &mut impl Objects,
    table: &Handle,
    rqns: &[u32],
    max_size: u32,
    deadline: Deadline,
) -> Result<(), SteeringError> {
    let (context, list) = rqt(rqns, max_size)?;
    let input = ModifyRqtIn::zeroed()
        .with(ModifyRqtIn::RQTN, table.number())
        .with_nested(ModifyRqtIn::BITMASK, &RqtBitmask::zeroed().with(RqtBitmask::RQN_LIST, 1))
        .with_nested(ModifyRqtIn::CTX, &context);
    objects.exec(Request::new(&input).tail(&list).about(ObjectKind::Rqt, table.number()), deadline)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | each kind of target sets its own fields | `targets_set_their_fields` |
    //! | the offload context is where the reference has it | `the_offload_context_is_in_its_place` |
    //! | tables list their queues; sizes that no hash can index are refused | `tables_list_their_queues` |
    use super::*;
    use crate::queue::testing::{TestObjects, base, deadline};

    fn context(params: &TirParams) -> Tirc {
        let objects = &mut TestObjects::default();
        let handle = create_tir(objects, &base(), params, deadline()).expect("created");
        assert_eq!(handle.kind(), ObjectKind::Tir);
        CreateTirIn::from_prefix(objects.firmware.requests[0].input()).nested(CreateTirIn::CTX)
    }

    #[test]
    fn targets_set_their_fields() {
        let direct = context(&TirParams::new(Target::Queue(0x123)));
        assert_eq!((direct.get(Tirc::DISP_TYPE), direct.get(Tirc::INLINE_RQN)), (0, 0x123));
        assert_eq!((direct.get(Tirc::TRANSPORT_DOMAIN), direct.get(Tirc::SELF_LB_BLOCK)), (0x22, 3));
        let first = context(&TirParams::new(Target::First { rqtn: 0x456 }));
        let fields = (first.get(Tirc::DISP_TYPE), first.get(Tirc::INDIRECT_TABLE), first.get(Tirc::RX_HASH_FN));
        assert_eq!(fields, (1, 0x456, 1));
        for ipv6 in [false, true] {
            let spread = context(&TirParams::new(Target::Spread { rqtn: 7, hash: RssHash::tcp(ipv6) }));
            assert_eq!(spread.get(Tirc::RX_HASH_FN), 2);
            assert_eq!(spread.bytes()[40..80], TOEPLITZ_KEY);
            let word = u32::from_be_bytes(spread.nested(Tirc::RX_HASH_FIELD_SELECTOR_OUTER).0);
            assert_eq!(word, if ipv6 { 0x8000_000f } else { 0xf });
        }
    }

    #[test]
    fn the_offload_context_is_in_its_place() {
        let offload = OffloadFields { zero_copy: true, crc: false, tag_buffer_table: 0x0102_0304 };
        let params = TirParams { offload: Some(offload), ..TirParams::new(Target::First { rqtn: 1 }) };
        let bytes = context(&params).0;
        assert_eq!(bytes[4], 0x14, "indirect, zero copy");
        assert_eq!(bytes[0x58..0x5c], [1, 2, 3, 4]);
        let crc = OffloadFields { zero_copy: false, crc: true, ..offload };
        assert_eq!(context(&TirParams { offload: Some(crc), ..params }).0[4], 0x12);
    }

    #[test]
    fn tables_list_their_queues() {
        let objects = &mut TestObjects::default();
        let table = create_rqt(objects, &[0x11, 0x22], 8, deadline()).expect("created");
        modify_rqt(objects, &table, &[0x33, 0x44, 0x55, 0x66], 8, deadline()).expect("modified");
        let [create, modify] = &objects.firmware.requests[..] else { panic!("two commands") };
        assert_eq!(create.input()[CreateRqtIn::SIZE..], [0, 0, 0, 0x11, 0, 0, 0, 0x22]);
        let context = CreateRqtIn::from_prefix(create.input()).nested(CreateRqtIn::RQT_CONTEXT);
        assert_eq!((context.get(Rqtc::RQT_MAX_SIZE), context.get(Rqtc::RQT_ACTUAL_SIZE)), (8, 2));
        let input = ModifyRqtIn::from_prefix(modify.input());
        let bitmask = input.nested(ModifyRqtIn::BITMASK).get(RqtBitmask::RQN_LIST);
        assert_eq!((input.get(ModifyRqtIn::RQTN), bitmask), (table.number(), 1));
        assert_eq!(modify.input().len(), ModifyRqtIn::SIZE + 16);
        for bad in [&[][..], &[1, 2, 3], &[1; 16]] {
            let refused = create_rqt(objects, bad, 8, deadline());
            assert!(matches!(refused, Err(SteeringError::Rqt { max: 8, .. })), "{} queues", bad.len());
        }
    }
}
