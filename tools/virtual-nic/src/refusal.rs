//! The refusals of the device shell: which status and syndrome answers which mistake. Groups of codes as in
//! [`reject`](crate::reject); memory keys, steering and the offload have theirs there.

use crate::reject::{Reject, Syndrome};
use firmware_iface::Status;

macro_rules! refusals {
    ($($name:ident = $code:literal, $status:ident, $prose:literal;)+) => {
        $(#[doc = $prose] pub const $name: Reject = Reject { status: Status::$status, syndrome: Syndrome($code) };)+

        /// Every refusal of the shell: name, syndrome, the status it comes with, what it means.
        pub const TABLE: &[(&str, Syndrome, Status, &str)] =
            &[$((stringify!($name), Syndrome($code), Status::$status, $prose),)+];
    };
}

refusals! {
    // Commands as such.
    OPCODE = 0x0101, BAD_OP_ERR, "The model does not know this opcode.";
    LIST_CUT_SHORT = 0x0102, BAD_INP_LEN_ERR, "The input ends before its list of addresses or numbers does.";
    OP_MOD = 0x0103, BAD_PARAM_ERR, "The opcode has no such op_mod.";
    OTHER_FUNCTION = 0x0104, BAD_PARAM_ERR, "The command is about another function than the one it came through.";

    // The function and its pages.
    NOT_ENABLED = 0x0201, BAD_SYS_STATE_ERR, "ENABLE_HCA comes first.";
    ALREADY_ENABLED = 0x0202, BAD_SYS_STATE_ERR, "The function is enabled already.";
    NOT_INITIALIZED = 0x0203, BAD_SYS_STATE_ERR, "INIT_HCA comes first.";
    ALREADY_INITIALIZED = 0x0204, BAD_SYS_STATE_ERR, "The function is initialized already.";
    TORN_DOWN = 0x0205, BAD_SYS_STATE_ERR, "After TEARDOWN_HCA pages are taken back and DISABLE_HCA follows.";
    BOOT_PAGES_MISSING = 0x0206, BAD_SYS_STATE_ERR, "The boot pages were not all given.";
    INIT_PAGES_MISSING = 0x0207, BAD_SYS_STATE_ERR, "The init pages were not all given.";
    STILL_INITIALIZED = 0x0208, BAD_SYS_STATE_ERR, "TEARDOWN_HCA comes before DISABLE_HCA.";
    ISSI_UNSUPPORTED = 0x0209, BAD_PARAM_ERR, "The function supports ISSI 0 and 1.";
    ISSI_TOO_LATE = 0x020a, BAD_SYS_STATE_ERR, "SET_ISSI comes before INIT_HCA.";
    ISSI_REQUIRED = 0x020b, BAD_SYS_STATE_ERR, "Ethernet queue objects exist from ISSI 1 on.";
    CAP_GROUP = 0x020c, BAD_PARAM_ERR, "The function does not have this capability group.";
    CAP_BEYOND_MAXIMUM = 0x020d, BAD_PARAM_ERR, "A capability is asked for that is beyond the group's maximum.";
    CAP_TOO_LATE = 0x020e, BAD_SYS_STATE_ERR, "SET_HCA_CAP comes before INIT_HCA.";
    TEARDOWN_PROFILE = 0x020f, BAD_PARAM_ERR, "The function does not have this teardown profile.";
    PAGE_ZERO = 0x0210, BAD_PARAM_ERR, "Firmware does not take the page at address 0.";
    PAGE_UNALIGNED = 0x0211, BAD_PARAM_ERR, "A page address is not a multiple of 4096.";
    PAGE_TWICE = 0x0212, BAD_PARAM_ERR, "Firmware holds this page already.";
    PAGE_UNREACHABLE = 0x0213, BAD_PARAM_ERR, "Firmware cannot write to a page that it was given.";
    PAGES_SHORT = 0x0214, NO_RES_ERR, "Firmware was not given the pages that one more object needs.";

    // Queues and what they are made of.
    UAR_UNKNOWN = 0x0301, BAD_RES_ERR, "No UAR has this number.";
    UAR_IN_USE = 0x0302, BAD_RES_STATE_ERR, "A queue still rings its doorbells in this UAR.";
    UAR_NONE_LEFT = 0x0303, NO_RES_ERR, "Every UAR of the BAR is allocated.";
    PD_UNKNOWN = 0x0304, BAD_RES_ERR, "No protection domain has this number.";
    PD_IN_USE = 0x0305, BAD_RES_STATE_ERR, "A queue or memory key still belongs to this protection domain.";
    PD_NONE_LEFT = 0x0306, NO_RES_ERR, "Every protection domain is allocated.";
    TD_UNKNOWN = 0x0307, BAD_RES_ERR, "No transport domain has this number.";
    TD_IN_USE = 0x0308, BAD_RES_STATE_ERR, "A TIS or TIR still belongs to this transport domain.";
    TD_NONE_LEFT = 0x0309, NO_RES_ERR, "Every transport domain is allocated.";
    Q_COUNTER_UNKNOWN = 0x030a, BAD_RES_ERR, "No queue counter set has this number.";
    Q_COUNTER_IN_USE = 0x030b, BAD_RES_STATE_ERR, "A receive queue still counts in this set.";
    Q_COUNTER_NONE_LEFT = 0x030c, NO_RES_ERR, "Every queue counter set is allocated.";
    EQ_UNKNOWN = 0x0310, BAD_RES_ERR, "No event queue has this number.";
    EQ_IN_USE = 0x0311, BAD_RES_STATE_ERR, "A completion queue still reports to this event queue.";
    EQ_NONE_LEFT = 0x0312, NO_RES_ERR, "Every event queue is in use.";
    EQ_VECTOR = 0x0313, BAD_PARAM_ERR, "The function does not have this interrupt vector.";
    CQ_UNKNOWN = 0x0318, BAD_RES_ERR, "No completion queue has this number.";
    CQ_IN_USE = 0x0319, BAD_RES_STATE_ERR, "A work queue still completes to this completion queue.";
    CQ_NONE_LEFT = 0x031a, NO_RES_ERR, "Every completion queue is in use.";
    CQE_SIZE = 0x031b, BAD_PARAM_ERR, "cqe_sz is neither 0 (64 bytes) nor, with cqe_128_always, 2 (64 in 128 bytes).";
    CQE_COMPRESSION = 0x031c, BAD_PARAM_ERR, "The function does not compress CQEs in this way.";
    CQ_MODIFY_FIELD = 0x031d, BAD_PARAM_ERR, "modify_field_select names something other than moderation, overrun ignore and EQ.";
    RING_SIZE = 0x0320, BAD_PARAM_ERR, "The queue is larger than the capabilities allow.";
    RING_PAGE_SIZE = 0x0321, BAD_PARAM_ERR, "The page size of the queue's buffer is above what the model translates.";
    RING_ADDRESS = 0x0322, BAD_PARAM_ERR, "A page of the queue's buffer is at address 0 or not aligned to 4096.";
    RING_OFFSET = 0x0323, BAD_PARAM_ERR, "The model needs queues to begin at the start of their first page.";
    DOORBELL_RECORD = 0x0324, BAD_PARAM_ERR, "The doorbell record is at address 0 or not aligned to 8.";
    WQ_TYPE = 0x0325, BAD_PARAM_ERR, "The function does not have work queues of this type.";
    WQ_STRIDE = 0x0326, BAD_PARAM_ERR, "The stride of the work queue is not one that the capabilities allow.";
    WQ_STRIDES = 0x032e, BAD_PARAM_ERR, "A WQE cannot have so many strides, or so few, or be so small.";
    RQ_MEMORY = 0x0327, BAD_PARAM_ERR, "Only receive queues with a buffer of their own are supported.";
    INITIAL_STATE = 0x0328, BAD_PARAM_ERR, "A queue begins in the reset state.";
    STATE_MISMATCH = 0x0329, BAD_RES_STATE_ERR, "The queue is not in the state that the command says it is in.";
    STATE_TRANSITION = 0x032a, BAD_RES_STATE_ERR, "There is no way from the queue's state to the one asked for.";
    UMR_SQ = 0x032b, BAD_PARAM_ERR, "reg_umr needs the Ethernet capability reg_umr_sq.";
    TIS_UNKNOWN = 0x0330, BAD_RES_ERR, "No TIS has this number.";
    TIS_IN_USE = 0x0331, BAD_RES_STATE_ERR, "A send queue still sends through this TIS.";
    TIS_NONE_LEFT = 0x0332, NO_RES_ERR, "Every TIS is in use.";
    TIS_LIST = 0x0333, BAD_PARAM_ERR, "A send queue has one TIS, or none if it only registers memory.";
    SQ_UNKNOWN = 0x0338, BAD_RES_ERR, "No send queue has this number.";
    SQ_NONE_LEFT = 0x0339, NO_RES_ERR, "Every send queue is in use.";
    RQ_UNKNOWN = 0x033c, BAD_RES_ERR, "No receive queue has this number.";
    RQ_IN_USE = 0x033d, BAD_RES_STATE_ERR, "An RQT or a TIR still leads to this receive queue.";
    RQ_NONE_LEFT = 0x033e, NO_RES_ERR, "Every receive queue is in use.";
    RQT_UNKNOWN = 0x0340, BAD_RES_ERR, "No receive queue table has this number.";
    RQT_IN_USE = 0x0341, BAD_RES_STATE_ERR, "A TIR still leads to this receive queue table.";
    RQT_NONE_LEFT = 0x0342, NO_RES_ERR, "Every receive queue table is in use.";
    RQT_SIZE = 0x0343, BAD_PARAM_ERR, "The actual size is not 1 to the maximum size, or that is above log_max_rqt_size.";
    RQT_FORMAT = 0x0344, BAD_PARAM_ERR, "A receive queue table lists receive queues of its own function.";
    RQT_BITMASK = 0x0345, BAD_PARAM_ERR, "Only the list of queues can be changed.";
    UMEM_UNKNOWN = 0x0348, BAD_RES_ERR, "No umem has this number.";
    UMEM_IN_USE = 0x0349, BAD_RES_STATE_ERR, "A queue or its doorbell record is still in this umem.";
    UMEM_NONE_LEFT = 0x034a, NO_RES_ERR, "Every umem is in use.";
    UMEM_PAGE_SIZE = 0x034b, BAD_PARAM_ERR, "The umem's pages are above 2 GiB, or it begins behind its first page.";
    UMEM_PAGES = 0x034c, BAD_PARAM_ERR, "A umem has pages, each at a multiple of 4096.";
    UMEM_RANGE = 0x034d, BAD_PARAM_ERR, "What is to be in the umem is not inside it.";
    UMEM_RIGHTS = 0x034e, BAD_PARAM_ERR, "The umem may not be written, or read, as the queue needs it.";
    OBJECT_TYPE = 0x0350, BAD_PARAM_ERR, "The function has no general objects of this type.";
    OBJECT_FIELDS = 0x0351, BAD_PARAM_ERR, "A new general object has no fields to be modified, no number and no tunnel.";

    // TIRs.
    TIR_UNKNOWN = 0x0610, BAD_RES_ERR, "No TIR has this number.";
    TIR_NONE_LEFT = 0x0611, NO_RES_ERR, "Every TIR is in use.";
    TIR_DISPATCH = 0x0612, BAD_PARAM_ERR, "disp_type is neither 0 (one queue) nor 1 (receive queue table).";
    TIR_HASH = 0x0613, BAD_PARAM_ERR, "rx_hash_fn is none of no hash, inverted XOR8 and Toeplitz.";
    TIR_MERGE = 0x0614, BAD_PARAM_ERR, "Packet merging (LRO) is not supported.";
    TIR_TLS = 0x0615, BAD_PARAM_ERR, "The TLS offload is not supported.";
    TIR_OFFLOAD = 0x0616, BAD_PARAM_ERR, "The function does not have the NVMe/TCP offload that the TIR asks for.";
    TIR_OFFLOAD_CQE = 0x0617, BAD_PARAM_ERR, "An offload TIR leads to a receive queue whose CQ has no 128-byte CQEs.";
    TIR_BITMASK = 0x0618, BAD_PARAM_ERR, "modify_tir_bitmask names something other than self loopback, hash and merging.";

    // Vports, ports and registers.
    OTHER_VPORT = 0x0701, BAD_PARAM_ERR, "The function reaches its own vport only.";
    VPORT_LIST_TYPE = 0x0702, BAD_PARAM_ERR, "The list type is none of unicast, multicast and VLAN.";
    VPORT_LIST_SIZE = 0x0703, BAD_PARAM_ERR, "The address list is longer than the capabilities allow.";
    VPORT_MTU = 0x0704, BAD_PARAM_ERR, "The MTU is 0 or above the port's maximum.";
    VPORT_ADDRESS = 0x0705, BAD_PARAM_ERR, "The permanent address is zero or a group address.";
    VPORT_FIELD = 0x0706, BAD_PARAM_ERR, "field_select names a field that this function cannot change.";
    L2_TABLE_INDEX = 0x0707, BAD_PARAM_ERR, "The L2 table has no such entry.";
    REGISTER_UNKNOWN = 0x0710, BAD_PARAM_ERR, "The model does not have this register.";
    REGISTER_READ_ONLY = 0x0711, BAD_PARAM_ERR, "The register cannot be written.";
    REGISTER_PORT = 0x0712, BAD_PARAM_ERR, "The function has one port, number 1.";
    REGISTER_VALUE = 0x0713, BAD_PARAM_ERR, "A field of the register does not take this value.";
    PORT_MTU = 0x0714, BAD_PARAM_ERR, "admin_mtu is 0 or above max_mtu.";
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | no two refusals share a syndrome, here or in the engine, none says OK, and each explains itself | `syndromes_are_distinct_and_never_ok` |
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn syndromes_are_distinct_and_never_ok() {
        let all: Vec<_> = TABLE.iter().chain(Syndrome::TABLE).collect();
        let codes: BTreeSet<_> = all.iter().map(|row| row.1.0).collect();
        assert_eq!(codes.len(), all.len());
        for (name, syndrome, status, prose) in all {
            assert!(*status != Status::OK && syndrome.0 != 0 && prose.ends_with('.'), "{name}");
            assert_eq!((syndrome.status(), syndrome.prose()), (*status, Some(*prose)));
        }
    }
}
