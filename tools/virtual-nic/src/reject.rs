//! How a firmware command is refused: a status as the manual defines it, and a syndrome that says why.
//!
//! Real firmware answers with syndromes that only its makers can read. Here every reason has one code, one status and one
//! line of prose, all in one table, so that a refused command can be explained from its 32 bits alone.
//!
//! Codes are grouped by what they speak of: `0x01..` commands as such, `0x02..` the function and its pages, `0x03..` queues
//! and event queues, `0x04..` memory keys, `0x05..` flow steering, `0x06..` TIRs and the NVMe/TCP offload, `0x07..` vports,
//! ports and registers.

use firmware_iface::Status;
use std::fmt;

/// Why a command was refused: the low 32 bits that firmware returns with a status that is not OK.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Syndrome(pub u32);

macro_rules! syndromes {
    ($($name:ident = $code:literal, $status:ident, $prose:literal;)+) => {
        impl Syndrome {
            $(#[doc = $prose] pub const $name: Syndrome = Syndrome($code);)+

            /// Every syndrome: name, code, the status it comes with, what it means.
            pub const TABLE: &'static [(&'static str, Syndrome, Status, &'static str)] =
                &[$((stringify!($name), Syndrome($code), Status::$status, $prose),)+];
        }
    };
}

syndromes! {
    // Memory keys.
    MKEY_ACCESS_MODE = 0x0401, BAD_PARAM_ERR, "The access mode is none of PA, MTT, KLM and KSM.";
    MKEY_LIST_TOO_LONG = 0x0402, LIM_ERR, "translations_octword_size is above what a memory key can have.";
    MKEY_LIST_EXCEEDS_SIZE = 0x0403, BAD_PARAM_ERR, "translations_octword_actual_size is above translations_octword_size.";
    MKEY_LIST_CUT_SHORT = 0x0404, BAD_INP_LEN_ERR, "The command ends before its translation entries do.";
    MKEY_PAGE_SIZE = 0x0405, BAD_PARAM_ERR, "log_page_size is not an absolute shift of 12 to 63.";
    MKEY_UNKNOWN = 0x0406, BAD_RES_ERR, "No memory key has this index.";
    MKEY_NONE_LEFT = 0x0407, NO_RES_ERR, "Every memory key is in use.";
    MKEY_FREE_WITHOUT_UMR = 0x0408, BAD_PARAM_ERR, "A free memory key without umr_en could never be used.";
    MKEY_RANGE = 0x0409, BAD_PARAM_ERR, "start_addr plus len is beyond 2^64, or the pages do not cover it.";
    MKEY_UMEM = 0x040a, BAD_PARAM_ERR, "Translation entries in a UMEM are not supported.";

    // Flow steering.
    FLOW_TABLE_TYPE = 0x0501, BAD_PARAM_ERR, "The table type is not NIC RX or NIC TX.";
    FLOW_OTHER_VPORT = 0x0502, BAD_PARAM_ERR, "Tables of another vport or eswitch cannot be reached from this function.";
    FLOW_TABLE_LEVEL = 0x0503, BAD_PARAM_ERR, "The level is above max_ft_level.";
    FLOW_TABLE_SIZE = 0x0504, BAD_PARAM_ERR, "log_size is above log_max_ft_size.";
    FLOW_TABLE_FLAGS = 0x0505, BAD_PARAM_ERR, "Software-owned, reformat, decap and termination tables are not supported.";
    FLOW_TABLE_MISS_ACTION = 0x0506, BAD_PARAM_ERR, "table_miss_action is neither default nor forward.";
    FLOW_TABLE_MISS_LEVEL = 0x0507, BAD_PARAM_ERR, "The miss table's level is not above this table's.";
    FLOW_TABLE_UNKNOWN = 0x0508, BAD_RES_ERR, "No flow table of this type has this number.";
    FLOW_TABLE_HAS_GROUPS = 0x0509, BAD_RES_STATE_ERR, "The flow table still has groups.";
    FLOW_TABLE_IS_DESTINATION = 0x050a, BAD_RES_STATE_ERR, "A rule or a miss action still leads to the flow table.";
    FLOW_TABLE_NONE_LEFT = 0x050b, NO_RES_ERR, "There are as many flow tables as log_max_ft_num allows.";
    FLOW_TABLE_MODIFY_FIELD = 0x050c, BAD_PARAM_ERR, "modify_field_select names something other than the miss table.";
    FLOW_GROUP_RANGE = 0x0510, BAD_PARAM_ERR, "The flow indices of the group are not a range inside its table.";
    FLOW_GROUP_OVERLAP = 0x0511, BAD_PARAM_ERR, "Another group of the table has some of these flow indices.";
    FLOW_GROUP_CRITERIA = 0x0512, BAD_PARAM_ERR, "match_criteria_enable names a part other than the outer headers.";
    FLOW_GROUP_FIELD = 0x0513, BAD_PARAM_ERR, "The mask covers a field that cannot be matched.";
    FLOW_GROUP_UNKNOWN = 0x0514, BAD_RES_ERR, "No group of this table has this number.";
    FLOW_GROUP_HAS_ENTRIES = 0x0515, BAD_RES_STATE_ERR, "The group still has entries.";
    FLOW_GROUP_TYPE = 0x0516, BAD_PARAM_ERR, "Only groups that match by mask are supported.";
    FTE_INDEX = 0x0520, BAD_PARAM_ERR, "The flow index is not one of the named group's.";
    FTE_OCCUPIED = 0x0521, BAD_RES_STATE_ERR, "There is an entry at this flow index; op_mod 1 would change it.";
    FTE_UNKNOWN = 0x0522, BAD_RES_ERR, "There is no entry at this flow index.";
    FTE_OP_MOD = 0x0523, BAD_PARAM_ERR, "op_mod is neither 0 (create) nor 1 (modify).";
    FTE_ACTION = 0x0524, BAD_PARAM_ERR, "The action is not exactly one of allow, drop and forward.";
    FTE_DESTINATIONS = 0x0525, BAD_PARAM_ERR, "A rule that forwards needs 1 to 64 destinations, any other none.";
    FTE_LIST_CUT_SHORT = 0x0526, BAD_INP_LEN_ERR, "The command ends before its destination list does.";
    FTE_DESTINATION_TYPE = 0x0527, BAD_PARAM_ERR, "A destination is neither a flow table nor a TIR.";
    FTE_DESTINATION_TABLE = 0x0528, BAD_RES_ERR, "A destination flow table of this type does not exist.";
    FTE_DESTINATION_TIR = 0x0529, BAD_RES_ERR, "A destination TIR does not exist.";
    FTE_DESTINATION_LEVEL = 0x052a, BAD_PARAM_ERR, "A destination table's level is not above this table's.";
    FTE_VALUE_OUTSIDE_MASK = 0x052b, BAD_PARAM_ERR, "match_value has bits that the group's mask hides: it could never match.";
    FTE_MODIFY_MASK = 0x052c, BAD_PARAM_ERR, "modify_enable_mask names something other than action, flow tag and destinations.";
    FTE_COUNTERS = 0x052d, BAD_PARAM_ERR, "Flow counters are not supported.";
    FLOW_ROOT_OP_MOD = 0x0530, BAD_PARAM_ERR, "op_mod is neither 0 (set the root) nor 1 (disconnect it).";

    // TIRs and the NVMe/TCP offload.
    TAG_TABLE_SIZE = 0x0601, BAD_PARAM_ERR, "log_tag_buffer_table_size is above log_max_nvmeotcp_tag_buffer_size.";
    TAG_TABLE_NONE_LEFT = 0x0602, NO_RES_ERR, "Every tag buffer table is in use.";
    TAG_TABLE_UNKNOWN = 0x0603, BAD_RES_ERR, "No tag buffer table has this number.";
    TAG_TABLE_IN_USE = 0x0604, BAD_RES_STATE_ERR, "A TIR still names the tag buffer table.";
    TIR_OFFLOAD_EXCLUDES_LRO = 0x0605, BAD_PARAM_ERR, "A TIR cannot merge packets and place NVMe/TCP payload.";
    TIR_OFFLOAD_EXCLUDES_TLS = 0x0606, BAD_PARAM_ERR, "A TIR cannot have both the TLS and the NVMe/TCP offload.";
    TIR_IS_DESTINATION = 0x0607, BAD_RES_STATE_ERR, "A flow rule still leads to the TIR.";
}

impl Syndrome {
    fn row(self) -> Option<&'static (&'static str, Syndrome, Status, &'static str)> {
        Self::TABLE.iter().chain(crate::refusal::TABLE).find(|row| row.1 == self)
    }

    /// What it means, if it is one of ours: of this table or of [`refusal::TABLE`](crate::refusal::TABLE).
    pub fn prose(self) -> Option<&'static str> {
        self.row().map(|row| row.3)
    }

    /// The status it comes with.
    pub fn status(self) -> Status {
        self.row().map_or(Status::INT_ERR, |row| row.2)
    }
}

impl fmt::Display for Syndrome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row() {
            Some((name, _, _, prose)) => write!(f, "{name} ({:#x}): {prose}", self.0),
            None => write!(f, "unknown ({:#x})", self.0),
        }
    }
}

impl fmt::Debug for Syndrome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A refused command: what its output will say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status}, syndrome {syndrome}")]
pub struct Reject {
    /// First byte of the output.
    pub status: Status,
    /// Bytes 4 to 7 of the output.
    pub syndrome: Syndrome,
}

impl From<Syndrome> for Reject {
    fn from(syndrome: Syndrome) -> Reject {
        Reject { status: syndrome.status(), syndrome }
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | no two reasons share a code, and none says OK | `codes_are_distinct_and_never_ok` |
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_distinct_and_never_ok() {
        let codes: BTreeSet<_> = Syndrome::TABLE.iter().map(|row| row.1).collect();
        assert_eq!(codes.len(), Syndrome::TABLE.len());
        for (name, code, status, prose) in Syndrome::TABLE {
            assert_ne!(*status, Status::OK, "{name}");
            assert!(code.0 != 0 && prose.ends_with('.'), "{name}");
            assert_eq!(Reject::from(*code).status, *status);
        }
    }
}
