//! What numbers mean: which set of names a field takes its values from.
//!
//! The tables of fields and the sets of numbers exist; only which belongs to which is said here.

use hw_regs::layout::LayoutInfo;
use std::sync::OnceLock;

/// Structure, field, set of its values. A field of an input or output that is not listed here goes by [`everywhere`].
const SETS: &[(&str, &str, &str)] = &[
    ("hw_health_buffer", "synd", "mlx5_initial_seg_health_syndrome"),
    ("hw_init_seg", "cmdq_addr_l_sz.nic_interface", "mlx5_initial_seg_nic_interface"),
    ("hw_cqe64", "op_own.opcode", "cqe_opcode"),
    ("hw_cqe64", "sop_drop_qpn.send_wqe_opcode", "wqe_opcode"),
    ("hw_err_cqe", "op_own.opcode", "cqe_opcode"),
    ("hw_err_cqe", "syndrome", "cqe_syndrome"),
    ("hw_err_cqe", "s_wqe_opcode_qpn.s_wqe_opcode", "wqe_opcode"),
    ("cqe128_nvmeotcp", "cqe64.op_own.opcode", "cqe_opcode"),
    ("hw_eqe", "type", "mlx5_event"),
    ("hw_eqe_cq_err", "syndrome", "mlx5_cq_error_syndrome_cq"),
    ("hw_wqe_ctrl_seg", "opmod_idx_opcode.opcode", "wqe_opcode"),
    ("mkc", "access_mode_1_0", "mlx5_mkc_access_mode"),
    ("rqc", "state", "mlx5_rqc_state"),
    ("sqc", "state", "mlx5_sqc_state"),
    ("wq", "wq_type", "mlx5_wq_type"),
    ("tirc", "rx_hash_fn", "mlx5_rx_hash_fn"),
    ("paos_reg", "admin_status", "paos_status"),
    ("paos_reg", "oper_status", "paos_status"),
    ("ptys_reg", "eth_proto_capability", "mlx5e_link_mode"),
    ("ptys_reg", "eth_proto_admin", "mlx5e_link_mode"),
    ("ptys_reg", "eth_proto_oper", "mlx5e_link_mode"),
    ("ptys_reg", "eth_proto_lp_advertise", "mlx5e_link_mode"),
    ("ptys_reg", "ext_eth_proto_capability", "mlx5e_ext_link_mode"),
    ("ptys_reg", "ext_eth_proto_admin", "mlx5e_ext_link_mode"),
    ("ptys_reg", "ext_eth_proto_oper", "mlx5e_ext_link_mode"),
    ("ppcnt_reg", "grp", "ppcnt_group"),
    ("query_vport_state_out", "state", "vport_state"),
    ("dest_format", "destination_type", "flow_destination_type"),
    ("flow_context", "action", "mlx5_flow_context_action"),
    ("flow_table_context", "table_miss_action", "mlx5_flow_table_miss_action"),
    ("nic_vport_context", "allowed_list_type", "mlx5_list_type"),
    ("query_nic_vport_context_in", "allowed_list_type", "mlx5_list_type"),
    ("access_register_in", "register_id", "register_id"),
    ("query_pages_in", "op_mod", "mlx5_query_pages_in_op_mod"),
    ("manage_pages_in", "op_mod", "mlx5_manage_pages_in_op_mod"),
    ("teardown_hca_in", "profile", "mlx5_teardown_hca_in_profile"),
    ("query_flow_group_out", "match_criteria_enable", "match_criteria_enable"),
    ("create_flow_group_in", "match_criteria_enable", "match_criteria_enable"),
];
/// Sets whose numbers are bits.
const BITS: &[&str] = &["mlx5_flow_context_action", "match_criteria_enable"];
/// Sets whose numbers are those of bits.
const POSITIONS: &[&str] = &["mlx5e_link_mode", "mlx5e_ext_link_mode"];

type Set = &'static [(&'static str, u64)];

fn set(name: &str) -> Option<Set> {
    hw_regs::codes().chain(firmware_iface::codes()).find(|(set, _)| *set == name).map(|(_, values)| *values)
}

/// Sets of fields that many structures have.
fn everywhere(layout: &str, field: &str) -> Option<&'static str> {
    match field {
        "opcode" if layout.ends_with("_in") => Some("cmd_opcode"),
        "status" if layout.ends_with("_out") || layout == "cmd_out_header" => Some("cmd_status"),
        "table_type" if layout.ends_with("_in") => Some("mlx5_flow_table_type"),
        _ => None,
    }
}

/// The value's name, without what all names of its set begin with; none if the field has no names or the value has not.
pub fn of(layout: &str, field: &str, value: u64) -> Option<String> {
    let listed = SETS.iter().find(|(of, name, _)| (*of, *name) == (layout, field)).map(|(.., set)| *set);
    let name = listed.or_else(|| everywhere(layout, field))?;
    named(name, value)
}

/// The name of a number of a set.
pub fn named(name: &str, value: u64) -> Option<String> {
    let values = set(name)?;
    let prefix = prefix(values);
    let short = |name: &'static str| name.strip_prefix(prefix).unwrap_or(name).to_owned();
    if BITS.contains(&name) || POSITIONS.contains(&name) {
        let mask =
            |number: u64| if BITS.contains(&name) { number } else { 1u64.checked_shl(number as u32).unwrap_or(0) };
        let bits: Vec<_> =
            values.iter().filter(|(_, bit)| value & mask(*bit) != 0).map(|(name, _)| short(name)).collect();
        return (!bits.is_empty()).then(|| bits.join("|"));
    }
    values.iter().find(|(_, number)| *number == value).map(|(name, _)| short(name))
}

/// What names of the set begin with, up to an underscore: all of them but for a few that break the rule.
fn prefix(values: Set) -> &'static str {
    let Some((first, _)) = values.first() else { return "" };
    let ends = first.char_indices().filter(|(_, c)| *c == '_').map(|(at, _)| &first[..=at]);
    let enough = |prefix: &&str| {
        let sharing = values.iter().filter(|(name, _)| name.len() > prefix.len() && name.starts_with(*prefix)).count();
        sharing * 10 >= values.len() * 9
    };
    ends.take_while(enough).last().unwrap_or_default()
}

/// The table of a structure.
pub fn layout(name: &str) -> Option<&'static LayoutInfo> {
    static ALL: OnceLock<std::collections::HashMap<&'static str, &'static LayoutInfo>> = OnceLock::new();
    let all = ALL.get_or_init(|| layouts().map(|info| (info.name, info)).collect());
    all.get(name).copied()
}

/// Every table that there is.
pub fn layouts() -> impl Iterator<Item = &'static LayoutInfo> {
    hw_regs::layouts().chain(firmware_iface::layouts())
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | every row names a field and a set that exist | `every_row_names_something` |
    //! | numbers have short names, bits are joined, unknown ones have none | `numbers_have_names` |
    use super::*;

    #[test]
    fn every_row_names_something() {
        for (of, field, values) in SETS {
            let info = layout(of).unwrap_or_else(|| panic!("no layout {of}"));
            assert!(info.fields.iter().any(|other| other.name == *field), "no field {of}.{field}");
            assert!(set(values).is_some_and(|set| !set.is_empty()), "no set {values}");
        }
        for values in BITS.iter().chain(POSITIONS) {
            assert!(set(values).is_some(), "no set {values}");
        }
    }

    #[test]
    fn numbers_have_names() {
        let is = |layout, field, value, name: &str| assert_eq!(of(layout, field, value).as_deref(), Some(name));
        is("hw_health_buffer", "synd", 8, "HW_FATAL_ERR");
        is("query_cq_in", "opcode", 0x402, "QUERY_CQ");
        is("query_cq_out", "status", 3, "BAD_PARAM_ERR");
        is("hw_cqe64", "op_own.opcode", 2, "RESP_SEND");
        is("flow_context", "action", 0xc, "FWD_DEST|COUNT");
        is("paos_reg", "oper_status", 1, "UP");
        is("ptys_reg", "eth_proto_oper", 0x10_0000, "100GBASE_CR4");
        is("rqc", "state", 1, "RDY");
        assert_eq!(of("hw_health_buffer", "synd", 0xee), None);
        assert_eq!(of("cqc", "cqe_sz", 2), None);
    }
}
