//! Every layout and number of `hw-regs` and `firmware-iface` against tables that nobody here wrote.
//!
//! | property | test |
//! |---|---|
//! | every field that we define stands where an independent table has it, with the same width, count and nesting | `every_field_agrees_with_the_reference_tables` |
//! | every field of the offload that the second table has, we have too | `every_offload_field_of_the_second_table_is_defined` |
//! | every named number has the reference's value | `every_number_agrees_with_the_reference_tables` |

mod support;

use hw_regs::layout::{FieldInfo, LayoutInfo};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// A row of a table: offset, width, element count, nested structure.
type Row = (u32, u32, u32, String);
type Table = HashMap<String, BTreeMap<String, Row>>;

/// Structures without a row in any table, and why.
const WITHOUT_REFERENCE: &[(&str, &str)] = &[
    ("cmd_in_header", "the 16 bytes that every command input of the tables begins with, read of any command"),
    ("cmd_out_header", "the 16 bytes that every command output of the tables begins with"),
];

/// Fields that the tables leave reserved. They are where DPDK's description of the interface (`mlx5_prm.h`) and the structures of
/// rdma-core's own tests (`mlx5_prm_structs.py`) have them, independently of each other.
const RESERVED_THERE: &[(&str, &str)] =
    &[("cqc", "dbr_umem_id"), ("create_cq_in", "cq_umem_offset"), ("create_cq_in", "cq_umem_id")];

/// True if the table has nothing but reserved bits where a field is.
fn is_reserved(table: &Table, layout: &LayoutInfo, field: &FieldInfo) -> bool {
    let (from, to) = (field.offset, field.offset + field.width);
    table.get(layout.name).is_some_and(|structure| {
        structure.iter().any(|(name, row)| name.starts_with("reserved") && row.0 <= from && to <= row.0 + row.1)
    })
}

fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut lines = text.lines().filter(|l| !l.starts_with('#'));
    lines.next();
    lines.map(|l| l.split(',').map(str::to_owned).collect()).collect()
}

fn number(text: &str) -> u64 {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.unwrap_or_else(|e| panic!("number {text:?}: {e}"))
}

fn base_table(dir: &Path) -> Table {
    let mut table = Table::new();
    for row in rows(&dir.join("mlx5-layout.csv")) {
        let entry = (number(&row[2]) as u32, number(&row[3]) as u32, number(&row[4]) as u32, row[5].clone());
        table.entry(row[0].clone()).or_default().insert(row[1].clone(), entry);
    }
    table
}

fn offload_table(dir: &Path) -> Table {
    let mut table = Table::new();
    for row in rows(&dir.join("nvme-tcp-offload-layout.csv")) {
        let entry = (number(&row[2]) as u32, number(&row[3]) as u32, 1, String::new());
        table.entry(row[0].clone()).or_default().insert(row[1].clone(), entry);
    }
    table
}

fn layouts() -> impl Iterator<Item = &'static LayoutInfo> {
    hw_regs::layouts().chain(firmware_iface::layouts())
}

/// The row of `field` in either table. The offload table has extra fields of structures that the base table knows.
fn row<'t>(base: &'t Table, offload: &'t Table, layout: &LayoutInfo, field: &FieldInfo) -> Option<&'t Row> {
    let of = |table: &'t Table| table.get(layout.name).and_then(|s| s.get(field.name));
    of(base).or_else(|| of(offload))
}

#[test]
fn every_field_agrees_with_the_reference_tables() {
    let Some(dir) = support::reference("every_field_agrees_with_the_reference_tables") else { return };
    let (base, offload) = (base_table(&dir), offload_table(&dir));
    let (mut compared, mut structures, mut wrong) = (0, 0, Vec::new());
    for layout in layouts() {
        if let Some((_, why)) = WITHOUT_REFERENCE.iter().find(|(name, _)| *name == layout.name) {
            assert!(!base.contains_key(layout.name) && !offload.contains_key(layout.name) && !why.is_empty());
            continue;
        }
        structures += 1;
        if let Some((_, bits, _, _)) = base.get(layout.name).and_then(|s| s.get("@size"))
            && *bits as usize != layout.size * 8
        {
            wrong.push(format!("{}: {} bytes here, {} there", layout.name, layout.size, bits / 8));
        }
        for field in layout.fields {
            let ours = (field.offset, field.width, field.count, field.nested.to_owned());
            match row(&base, &offload, layout, field) {
                // A nested structure without a table of ours keeps its width but loses its name.
                Some(r) if (r.0, r.1, r.2) == (ours.0, ours.1, ours.2) && (ours.3.is_empty() || ours.3 == r.3) => {
                    compared += 1;
                }
                Some(theirs) => wrong.push(format!("{}.{}: {ours:?} here, {theirs:?} there", layout.name, field.name)),
                None if RESERVED_THERE.contains(&(layout.name, field.name)) && is_reserved(&base, layout, field) => {}
                None => wrong.push(format!("{}.{}: in no table", layout.name, field.name)),
            }
            if field.count > 0 && (field.offset + field.width * field.count) as usize > layout.size * 8 {
                wrong.push(format!("{}.{}: ends outside its structure", layout.name, field.name));
            }
        }
    }
    println!("{compared} fields of {structures} structures agree with the reference tables");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 1500 && structures > 150, "only {compared} fields of {structures} structures were compared");
}

#[test]
fn every_offload_field_of_the_second_table_is_defined() {
    let Some(dir) = support::reference("every_offload_field_of_the_second_table_is_defined") else { return };
    let offload = offload_table(&dir);
    // Structure of the second table, and ours that covers it.
    let covers = [
        ("cmd_hca_cap", "cmd_hca_cap"),
        ("nvmeotcp_cap", "nvmeotcp_cap"),
        ("nvmeotcp_tag_buf_table_obj", "nvmeotcp_tag_buf_table_obj"),
        ("tirc", "tirc"),
        ("mkc", "mkc"),
        ("cqc", "cqc"),
        ("sqc", "sqc"),
        ("klm", "hw_klm"),
        ("cqe128_nvmeotcp", "cqe128_nvmeotcp"),
        ("wqe_ctrl_seg", "hw_wqe_ctrl_seg"),
        ("wqe_umr_ctrl_seg", "hw_wqe_umr_ctrl_seg"),
        ("wqe_mkey_seg", "hw_wqe_mkey_seg"),
        ("transport_static_params", "transport_static_params"),
        ("nvmeotcp_progress_params", "nvmeotcp_progress_params"),
        ("general_obj_in_cmd_hdr", "general_obj_in_cmd_hdr"),
    ];
    // Reserved bits, words that only group fields, and the inside of a parameter word that the offload leaves zero.
    let except = |name: &str| {
        ["reserved", "rsvd", "unused", "const_", "lro_or_shampo", "op_param_"].iter().any(|p| name.contains(p))
    };
    let (mut found, mut missing) = (0, Vec::new());
    for (theirs, ours) in covers {
        let layout = layouts().find(|l| l.name == ours).unwrap_or_else(|| panic!("no structure {ours}"));
        for (name, &(offset, width, _, _)) in &offload[theirs] {
            let same = |f: &FieldInfo| {
                (f.offset, f.width) == (offset, width)
                    || (f.count > 1 && (f.offset..f.offset + f.width * f.count).contains(&offset))
            };
            if layout.fields.iter().any(same) {
                found += 1;
            } else if !except(name) {
                missing.push(format!("{theirs}.{name} ({offset}, {width})"));
            }
        }
    }
    println!("{found} fields of {} offload structures are defined", covers.len());
    assert!(missing.is_empty(), "not defined: {}", missing.join(", "));
    assert!(found > 150);
}

#[test]
fn every_number_agrees_with_the_reference_tables() {
    let Some(dir) = support::reference("every_number_agrees_with_the_reference_tables") else { return };
    let mut table: HashMap<(String, String), u64> = HashMap::new();
    for file in ["mlx5-enums.csv", "nvme-tcp-offload-enums.csv"] {
        for row in rows(&dir.join(file)) {
            table.insert((row[0].clone(), row[1].clone()), number(&row[2]));
        }
    }
    let (mut compared, mut wrong) = (0, Vec::new());
    for &(set, values) in hw_regs::codes().chain(firmware_iface::codes()) {
        for &(name, ours) in values {
            match table.get(&(set.to_owned(), name.to_owned())) {
                Some(&theirs) if theirs == ours => compared += 1,
                theirs => wrong.push(format!("{set}.{name}: {ours:#x} here, {theirs:x?} there")),
            }
        }
    }
    println!("{compared} numbers agree with the reference tables");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 300, "only {compared} numbers were compared");
}
