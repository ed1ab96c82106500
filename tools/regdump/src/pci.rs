//! PCI configuration space: header, capabilities, extended capabilities (PCI Express base specification, chapter 7).
//!
//! It is little-endian and standard, so its tables are here and not with those of the device. Capabilities without a table are
//! shown as bytes; bits that no field names are shown if they are set.

use crate::apart::{Field, Part};
use hw_regs::decode::{Content, Unnamed};

/// A field: name, byte offset of its register, bytes of the register, lowest bit, bits.
type Row = (&'static str, usize, usize, u32, u32);

const HEADER: &[Row] = &[
    ("vendor_id", 0x00, 2, 0, 16),
    ("device_id", 0x02, 2, 0, 16),
    ("command.io_space", 0x04, 2, 0, 1),
    ("command.memory_space", 0x04, 2, 1, 1),
    ("command.bus_master", 0x04, 2, 2, 1),
    ("command.parity_error_response", 0x04, 2, 6, 1),
    ("command.serr_enable", 0x04, 2, 8, 1),
    ("command.intx_disable", 0x04, 2, 10, 1),
    ("status.interrupt", 0x06, 2, 3, 1),
    ("status.capabilities_list", 0x06, 2, 4, 1),
    ("status.master_data_parity_error", 0x06, 2, 8, 1),
    ("status.signaled_target_abort", 0x06, 2, 11, 1),
    ("status.received_target_abort", 0x06, 2, 12, 1),
    ("status.received_master_abort", 0x06, 2, 13, 1),
    ("status.signaled_system_error", 0x06, 2, 14, 1),
    ("status.detected_parity_error", 0x06, 2, 15, 1),
    ("revision_id", 0x08, 1, 0, 8),
    ("class_code", 0x08, 4, 8, 24),
    ("cache_line_size", 0x0c, 1, 0, 8),
    ("latency_timer", 0x0d, 1, 0, 8),
    ("header_type", 0x0e, 1, 0, 7),
    ("multi_function", 0x0e, 1, 7, 1),
    ("bist", 0x0f, 1, 0, 8),
    ("bar0.io", 0x10, 4, 0, 1),
    ("bar0.type", 0x10, 4, 1, 2),
    ("bar0.prefetchable", 0x10, 4, 3, 1),
    ("bar0.address_31_4", 0x10, 4, 4, 28),
    ("bar1_or_bar0_63_32", 0x14, 4, 0, 32),
    ("bar2", 0x18, 4, 0, 32),
    ("bar3", 0x1c, 4, 0, 32),
    ("bar4", 0x20, 4, 0, 32),
    ("bar5", 0x24, 4, 0, 32),
    ("cardbus_cis", 0x28, 4, 0, 32),
    ("subsystem_vendor_id", 0x2c, 2, 0, 16),
    ("subsystem_id", 0x2e, 2, 0, 16),
    ("rom.enable", 0x30, 4, 0, 1),
    ("rom.address_31_11", 0x30, 4, 11, 21),
    ("capabilities_pointer", 0x34, 1, 0, 8),
    ("interrupt_line", 0x3c, 1, 0, 8),
    ("interrupt_pin", 0x3d, 1, 0, 8),
    ("min_gnt", 0x3e, 1, 0, 8),
    ("max_lat", 0x3f, 1, 0, 8),
];

/// The two bytes that every capability begins with.
const HEAD: [Row; 2] = [("id", 0, 1, 0, 8), ("next", 1, 1, 0, 8)];
/// The four of an extended one.
const EXTENDED_HEAD: [Row; 3] = [("id", 0, 4, 0, 16), ("version", 0, 4, 16, 4), ("next", 0, 4, 20, 12)];

const POWER: &[Row] = &[
    ("version", 2, 2, 0, 3),
    ("pme_clock", 2, 2, 3, 1),
    ("immediate_readiness", 2, 2, 4, 1),
    ("dsi", 2, 2, 5, 1),
    ("aux_current", 2, 2, 6, 3),
    ("d1_support", 2, 2, 9, 1),
    ("d2_support", 2, 2, 10, 1),
    ("pme_support", 2, 2, 11, 5),
    ("power_state", 4, 2, 0, 2),
    ("no_soft_reset", 4, 2, 3, 1),
    ("pme_enable", 4, 2, 8, 1),
    ("data_select", 4, 2, 9, 4),
    ("data_scale", 4, 2, 13, 2),
    ("pme_status", 4, 2, 15, 1),
];

const VPD: &[Row] = &[("address", 2, 2, 0, 15), ("flag", 2, 2, 15, 1), ("data", 4, 4, 0, 32)];

const MSI: &[Row] = &[
    ("enable", 2, 2, 0, 1),
    ("multiple_message_capable", 2, 2, 1, 3),
    ("multiple_message_enable", 2, 2, 4, 3),
    ("address_64_bit", 2, 2, 7, 1),
    ("per_vector_masking", 2, 2, 8, 1),
    ("message_address", 4, 4, 0, 32),
];

const EXPRESS: &[Row] = &[
    ("version", 2, 2, 0, 4),
    ("device_port_type", 2, 2, 4, 4),
    ("slot_implemented", 2, 2, 8, 1),
    ("interrupt_message", 2, 2, 9, 5),
    ("device_cap.max_payload_supported", 4, 4, 0, 3),
    ("device_cap.phantom_functions", 4, 4, 3, 2),
    ("device_cap.extended_tag", 4, 4, 5, 1),
    ("device_cap.l0s_latency", 4, 4, 6, 3),
    ("device_cap.l1_latency", 4, 4, 9, 3),
    ("device_cap.role_based_errors", 4, 4, 15, 1),
    ("device_cap.slot_power_limit", 4, 4, 18, 8),
    ("device_cap.slot_power_scale", 4, 4, 26, 2),
    ("device_cap.flr", 4, 4, 28, 1),
    ("device_control.correctable_reporting", 8, 2, 0, 1),
    ("device_control.nonfatal_reporting", 8, 2, 1, 1),
    ("device_control.fatal_reporting", 8, 2, 2, 1),
    ("device_control.unsupported_reporting", 8, 2, 3, 1),
    ("device_control.relaxed_ordering", 8, 2, 4, 1),
    ("device_control.max_payload", 8, 2, 5, 3),
    ("device_control.extended_tag_enable", 8, 2, 8, 1),
    ("device_control.phantom_enable", 8, 2, 9, 1),
    ("device_control.aux_power", 8, 2, 10, 1),
    ("device_control.no_snoop", 8, 2, 11, 1),
    ("device_control.max_read_request", 8, 2, 12, 3),
    ("device_control.initiate_flr", 8, 2, 15, 1),
    ("device_status.correctable_detected", 0xa, 2, 0, 1),
    ("device_status.nonfatal_detected", 0xa, 2, 1, 1),
    ("device_status.fatal_detected", 0xa, 2, 2, 1),
    ("device_status.unsupported_detected", 0xa, 2, 3, 1),
    ("device_status.aux_power", 0xa, 2, 4, 1),
    ("device_status.transactions_pending", 0xa, 2, 5, 1),
    ("link_cap.max_speed", 0xc, 4, 0, 4),
    ("link_cap.max_width", 0xc, 4, 4, 6),
    ("link_cap.aspm", 0xc, 4, 10, 2),
    ("link_cap.l0s_exit_latency", 0xc, 4, 12, 3),
    ("link_cap.l1_exit_latency", 0xc, 4, 15, 3),
    ("link_cap.clock_power_management", 0xc, 4, 18, 1),
    ("link_cap.surprise_down_reporting", 0xc, 4, 19, 1),
    ("link_cap.dll_active_reporting", 0xc, 4, 20, 1),
    ("link_cap.bandwidth_notification", 0xc, 4, 21, 1),
    ("link_cap.aspm_optionality", 0xc, 4, 22, 1),
    ("link_cap.port_number", 0xc, 4, 24, 8),
    ("link_control.aspm", 0x10, 2, 0, 2),
    ("link_control.rcb_128", 0x10, 2, 3, 1),
    ("link_control.disable", 0x10, 2, 4, 1),
    ("link_control.retrain", 0x10, 2, 5, 1),
    ("link_control.common_clock", 0x10, 2, 6, 1),
    ("link_control.extended_synch", 0x10, 2, 7, 1),
    ("link_control.clock_power_management", 0x10, 2, 8, 1),
    ("link_status.speed", 0x12, 2, 0, 4),
    ("link_status.width", 0x12, 2, 4, 6),
    ("link_status.training", 0x12, 2, 11, 1),
    ("link_status.slot_clock", 0x12, 2, 12, 1),
    ("link_status.dll_active", 0x12, 2, 13, 1),
    ("device_cap2.completion_timeout_ranges", 0x24, 4, 0, 4),
    ("device_cap2.completion_timeout_disable", 0x24, 4, 4, 1),
    ("device_cap2.ari_forwarding", 0x24, 4, 5, 1),
    ("device_cap2.atomic_routing", 0x24, 4, 6, 1),
    ("device_cap2.atomic_32", 0x24, 4, 7, 1),
    ("device_cap2.atomic_64", 0x24, 4, 8, 1),
    ("device_cap2.cas_128", 0x24, 4, 9, 1),
    ("device_cap2.ltr", 0x24, 4, 11, 1),
    ("device_cap2.tph_completer", 0x24, 4, 12, 2),
    ("device_cap2.ten_bit_tag_completer", 0x24, 4, 16, 1),
    ("device_cap2.ten_bit_tag_requester", 0x24, 4, 17, 1),
    ("device_cap2.obff", 0x24, 4, 18, 2),
    ("device_cap2.extended_fmt", 0x24, 4, 20, 1),
    ("device_cap2.end_end_tlp_prefix", 0x24, 4, 21, 1),
    ("device_cap2.max_end_end_tlp_prefixes", 0x24, 4, 22, 2),
    ("device_control2.completion_timeout", 0x28, 2, 0, 4),
    ("device_control2.completion_timeout_disable", 0x28, 2, 4, 1),
    ("device_control2.ari_forwarding", 0x28, 2, 5, 1),
    ("device_control2.atomic_requester", 0x28, 2, 6, 1),
    ("device_control2.ltr", 0x28, 2, 10, 1),
    ("device_control2.ten_bit_tag_requester", 0x28, 2, 12, 1),
    ("link_cap2.speeds", 0x2c, 4, 1, 7),
    ("link_cap2.crosslink", 0x2c, 4, 8, 1),
    ("link_cap2.retimer_presence", 0x2c, 4, 23, 1),
    ("link_cap2.two_retimers_presence", 0x2c, 4, 24, 1),
    ("link_control2.target_speed", 0x30, 2, 0, 4),
    ("link_control2.enter_compliance", 0x30, 2, 4, 1),
    ("link_control2.autonomous_speed_disable", 0x30, 2, 5, 1),
    ("link_status2.deemphasis", 0x32, 2, 0, 1),
    ("link_status2.equalization_complete", 0x32, 2, 1, 1),
    ("link_status2.equalization_phase1", 0x32, 2, 2, 1),
    ("link_status2.equalization_phase2", 0x32, 2, 3, 1),
    ("link_status2.equalization_phase3", 0x32, 2, 4, 1),
];

const MSIX: &[Row] = &[
    ("table_size_less_1", 2, 2, 0, 11),
    ("function_mask", 2, 2, 14, 1),
    ("enable", 2, 2, 15, 1),
    ("table.bar", 4, 4, 0, 3),
    ("table.offset_31_3", 4, 4, 3, 29),
    ("pending.bar", 8, 4, 0, 3),
    ("pending.offset_31_3", 8, 4, 3, 29),
];

/// Advanced error reporting; its three sets of uncorrectable errors have the same bits.
const ERRORS: &[Row] = &[
    ("uncorrectable_status", 4, 4, 0, 32),
    ("uncorrectable_mask", 8, 4, 0, 32),
    ("uncorrectable_severity", 0xc, 4, 0, 32),
    ("correctable_status", 0x10, 4, 0, 32),
    ("correctable_mask", 0x14, 4, 0, 32),
    ("first_error_pointer", 0x18, 4, 0, 5),
    ("ecrc_generation_capable", 0x18, 4, 5, 1),
    ("ecrc_generation_enable", 0x18, 4, 6, 1),
    ("ecrc_check_capable", 0x18, 4, 7, 1),
    ("ecrc_check_enable", 0x18, 4, 8, 1),
    ("header_log[0]", 0x1c, 4, 0, 32),
    ("header_log[1]", 0x20, 4, 0, 32),
    ("header_log[2]", 0x24, 4, 0, 32),
    ("header_log[3]", 0x28, 4, 0, 32),
];
/// Names of the bits of uncorrectable and correctable errors.
const UNCORRECTABLE: &[(u32, &str)] = &[
    (4, "DLP"),
    (5, "SURPRISE_DOWN"),
    (12, "POISONED_TLP"),
    (13, "FLOW_CONTROL"),
    (14, "COMPLETION_TIMEOUT"),
    (15, "COMPLETER_ABORT"),
    (16, "UNEXPECTED_COMPLETION"),
    (17, "RECEIVER_OVERFLOW"),
    (18, "MALFORMED_TLP"),
    (19, "ECRC"),
    (20, "UNSUPPORTED_REQUEST"),
    (21, "ACS_VIOLATION"),
    (22, "INTERNAL"),
    (23, "MC_BLOCKED_TLP"),
    (24, "ATOMIC_EGRESS_BLOCKED"),
    (25, "TLP_PREFIX_BLOCKED"),
    (26, "POISONED_TLP_EGRESS_BLOCKED"),
];
const CORRECTABLE: &[(u32, &str)] = &[
    (0, "RECEIVER"),
    (6, "BAD_TLP"),
    (7, "BAD_DLLP"),
    (8, "REPLAY_ROLLOVER"),
    (12, "REPLAY_TIMEOUT"),
    (13, "ADVISORY_NONFATAL"),
    (14, "INTERNAL"),
    (15, "HEADER_LOG_OVERFLOW"),
];

const SERIAL: &[Row] = &[("serial_number_low", 4, 4, 0, 32), ("serial_number_high", 8, 4, 0, 32)];

const ROUTING: &[Row] = &[
    ("mfvc_function_groups", 4, 2, 0, 1),
    ("acs_function_groups", 4, 2, 1, 1),
    ("next_function", 4, 2, 8, 8),
    ("mfvc_function_groups_enable", 6, 2, 0, 1),
    ("acs_function_groups_enable", 6, 2, 1, 1),
    ("function_group", 6, 2, 4, 3),
];

const ACCESS_CONTROL: &[Row] =
    &[("capability", 4, 2, 0, 7), ("egress_control_vector_size", 4, 2, 8, 8), ("control", 6, 2, 0, 7)];

const SRIOV: &[Row] = &[
    ("vf_migration_capable", 4, 4, 0, 1),
    ("ari_capable_hierarchy_preserved", 4, 4, 1, 1),
    ("vf_ten_bit_tag_requester", 4, 4, 2, 1),
    ("vf_migration_interrupt_message", 4, 4, 21, 11),
    ("vf_enable", 8, 2, 0, 1),
    ("vf_migration_enable", 8, 2, 1, 1),
    ("vf_migration_interrupt_enable", 8, 2, 2, 1),
    ("vf_memory_space", 8, 2, 3, 1),
    ("ari_capable_hierarchy", 8, 2, 4, 1),
    ("vf_migration_status", 0xa, 2, 0, 1),
    ("initial_vfs", 0xc, 2, 0, 16),
    ("total_vfs", 0xe, 2, 0, 16),
    ("num_vfs", 0x10, 2, 0, 16),
    ("function_dependency_link", 0x12, 1, 0, 8),
    ("first_vf_offset", 0x14, 2, 0, 16),
    ("vf_stride", 0x16, 2, 0, 16),
    ("vf_device_id", 0x1a, 2, 0, 16),
    ("supported_page_sizes", 0x1c, 4, 0, 32),
    ("system_page_size", 0x20, 4, 0, 32),
    ("vf_bar0", 0x24, 4, 0, 32),
    ("vf_bar1", 0x28, 4, 0, 32),
    ("vf_bar2", 0x2c, 4, 0, 32),
    ("vf_bar3", 0x30, 4, 0, 32),
    ("vf_bar4", 0x34, 4, 0, 32),
    ("vf_bar5", 0x38, 4, 0, 32),
    ("vf_migration_state_array", 0x3c, 4, 0, 32),
];

/// A capability: its number, its name, its table if there is one, and its bytes with that.
struct Known(u16, &'static str, &'static [Row], usize);

const CAPABILITIES: &[Known] = &[
    Known(0x01, "power management", POWER, 8),
    Known(0x03, "vital product data", VPD, 8),
    Known(0x05, "MSI", MSI, 0x18),
    Known(0x09, "vendor-specific", &[], 0),
    Known(0x10, "PCI Express", EXPRESS, 0x3c),
    Known(0x11, "MSI-X", MSIX, 12),
    Known(0x12, "SATA", &[], 0),
    Known(0x13, "advanced features", &[], 0),
    Known(0x14, "enhanced allocation", &[], 0),
];

const EXTENDED: &[Known] = &[
    Known(0x01, "advanced error reporting", ERRORS, 0x2c),
    Known(0x02, "virtual channel", &[], 0),
    Known(0x03, "device serial number", SERIAL, 0xc),
    Known(0x04, "power budgeting", &[], 0),
    Known(0x0b, "vendor-specific", &[], 0),
    Known(0x0d, "access control services", ACCESS_CONTROL, 8),
    Known(0x0e, "alternative routing-ID interpretation", ROUTING, 8),
    Known(0x0f, "address translation services", &[], 0),
    Known(0x10, "SR-IOV", SRIOV, 0x40),
    Known(0x13, "page request", &[], 0),
    Known(0x15, "resizable BAR", &[], 0),
    Known(0x17, "TPH requester", &[], 0),
    Known(0x18, "latency tolerance reporting", &[], 0),
    Known(0x19, "secondary PCI Express", &[], 0),
    Known(0x1b, "process address space", &[], 0),
    Known(0x1d, "downstream port containment", &[], 0),
    Known(0x1e, "L1 PM substates", &[], 0),
    Known(0x1f, "precision time measurement", &[], 0),
    Known(0x23, "designated vendor-specific", &[], 0),
    Known(0x25, "data link feature", &[], 0),
    Known(0x26, "physical layer 16 GT/s", &[], 0),
    Known(0x27, "lane margining", &[], 0),
    Known(0x2a, "physical layer 32 GT/s", &[], 0),
    Known(0x2e, "data object exchange", &[], 0),
];

/// Bytes of the header, and where extended capabilities begin.
const HEADER_BYTES: usize = 0x40;
const EXTENDED_AT: usize = 0x100;
const POINTER: usize = 0x34;
/// Capabilities that are followed at most: a chain that is longer leads in circles.
const MAX_CHAIN: usize = 96;

/// The configuration space, taken apart.
pub fn parts(space: &[u8]) -> Vec<Part> {
    let mut parts = vec![part("header", &space[..space.len().min(HEADER_BYTES)], HEADER)];
    let byte = |at: usize| space.get(at).copied().unwrap_or_default();
    // Where each begins, so that one ends where the next one does.
    let mut found: Vec<(usize, u16, bool)> = Vec::new();
    let mut at = usize::from(byte(POINTER) & !3);
    while (HEADER_BYTES..EXTENDED_AT).contains(&at) && at + 2 <= space.len() && found.len() < MAX_CHAIN {
        if found.iter().any(|(begin, ..)| *begin == at) {
            break;
        }
        found.push((at, u16::from(byte(at)), false));
        at = usize::from(byte(at + 1) & !3);
    }
    let mut at = EXTENDED_AT;
    while at >= EXTENDED_AT && at + 4 <= space.len() && found.len() < MAX_CHAIN {
        let head = u32::from_le_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)]);
        if head == 0 || head == u32::MAX || found.iter().any(|(begin, ..)| *begin == at) {
            break;
        }
        found.push((at, head as u16, true));
        at = (head >> 20) as usize & !3;
    }
    for &(at, id, extended) in &found {
        let end = if extended { space.len() } else { EXTENDED_AT.min(space.len()) };
        let end = found.iter().map(|(begin, ..)| *begin).filter(|begin| *begin > at).min().unwrap_or(end).min(end);
        parts.push(capability(&space[at..end], at, id, extended));
    }
    parts
}

fn capability(bytes: &[u8], at: usize, id: u16, extended: bool) -> Part {
    let (known, head): (_, &[Row]) = if extended { (EXTENDED, &EXTENDED_HEAD) } else { (CAPABILITIES, &HEAD) };
    let kind = if extended { "extended capability" } else { "capability" };
    let known = known.iter().find(|Known(number, ..)| *number == id);
    let name = known.map_or("unknown", |Known(_, name, ..)| name);
    let title = format!("{name} ({kind} {id:#x} at {at:#x})");
    match known {
        Some(Known(_, _, rows, size)) if !rows.is_empty() => {
            let rows: Vec<Row> = head.iter().chain(*rows).copied().collect();
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            // What lies behind it and is set belongs to nobody.
            part(&title, &bytes[..used.max(*size).min(bytes.len())], &rows)
        }
        _ => {
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            Part { title, layout: "pci".into(), bytes: bytes[..used].to_vec(), little_endian: true, ..Part::default() }
        }
    }
}

/// A register, as far as it is there.
fn register(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + len)?;
    Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

fn part(title: &str, bytes: &[u8], rows: &[Row]) -> Part {
    let mut fields = Vec::new();
    let mut named = vec![0u8; bytes.len()];
    for &(name, at, len, low, width) in rows {
        let Some(register) = register(bytes, at, len) else { continue };
        let mask = u64::MAX >> (64 - width);
        for (n, byte) in ((mask << low).to_le_bytes()).into_iter().enumerate().take(len) {
            named[at + n] |= byte;
        }
        let number = register >> low & mask;
        fields.push(Field {
            name: name.to_owned(),
            offset: at as u32 * 8 + low,
            width,
            content: Content::Number(number),
            meaning: meaning(name, number),
            maximum: None,
        });
    }
    let size = rows.iter().map(|(_, at, len, ..)| at + len).max().unwrap_or_default();
    Part {
        title: title.to_owned(),
        layout: "pci".into(),
        bytes: bytes.to_vec(),
        fields,
        unnamed: unnamed(bytes, &named),
        short: bytes.len() < size,
        little_endian: true,
    }
}

/// Set bits without a name; bits are numbered in little-endian words.
fn unnamed(bytes: &[u8], named: &[u8]) -> Vec<Unnamed> {
    let mut runs: Vec<Unnamed> = Vec::new();
    for word in (0..bytes.len()).step_by(4) {
        let rest = (word..bytes.len().min(word + 4))
            .fold(0u32, |sum, at| sum | u32::from(bytes[at] & !named[at]) << ((at - word) * 8));
        for bit in (0..32).rev().filter(|bit| rest >> bit & 1 != 0) {
            match runs.last_mut() {
                Some(run) if run.word == word as u32 && run.low == bit + 1 => run.low = bit,
                _ => runs.push(Unnamed { word: word as u32, high: bit, low: bit }),
            }
        }
    }
    runs
}

fn meaning(name: &str, number: u64) -> Option<String> {
    let bits = |names: &[(u32, &str)]| {
        let set: Vec<_> = names.iter().filter(|(bit, _)| number >> bit & 1 != 0).map(|(_, name)| *name).collect();
        (!set.is_empty()).then(|| set.join("|"))
    };
    match name {
        "vendor_id" | "subsystem_vendor_id" if number == 0x15b3 => Some("Mellanox".into()),
        "class_code" if number == 0x02_0000 => Some("Ethernet controller".into()),
        "class_code" if number == 0x02_0700 => Some("InfiniBand controller".into()),
        "bar0.type" if number == 2 => Some("64 bits".into()),
        "table_size_less_1" => Some(format!("{} vectors", number + 1)),
        "table.offset_31_3" | "pending.offset_31_3" => Some(format!("byte {:#x} of the BAR", number << 3)),
        "device_cap.max_payload_supported" | "device_control.max_payload" | "device_control.max_read_request" => {
            (number < 6).then(|| format!("{} bytes", 128 << number))
        }
        "device_port_type" => Some(match number {
            0 => "endpoint".into(),
            1 => "legacy endpoint".into(),
            9 => "root complex integrated endpoint".into(),
            _ => return None,
        }),
        "link_cap.max_speed" | "link_status.speed" | "link_control2.target_speed" => {
            const SPEEDS: [&str; 6] = ["2.5", "5", "8", "16", "32", "64"];
            Some(format!("{} GT/s", SPEEDS.get((number as usize).checked_sub(1)?)?))
        }
        "link_cap.max_width" | "link_status.width" => Some(format!("x{number}")),
        "power_state" => Some(format!("D{number}")),
        "uncorrectable_status" | "uncorrectable_mask" | "uncorrectable_severity" => bits(UNCORRECTABLE),
        "correctable_status" | "correctable_mask" => bits(CORRECTABLE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | every capability of the virtual function is found and named, with values that people know | `capabilities_are_found` |
    //! | set bits without a name are shown; unknown capabilities are bytes | `nothing_is_hidden` |
    //! | chains that lead in circles or out of the space end | `chains_end` |
    use super::*;
    use virtual_nic::pci::ConfigSpace;

    fn space() -> Vec<u8> {
        let mut bytes = vec![0; virtual_nic::pci::CONFIG_BYTES];
        ConfigSpace::new(&virtual_nic::Config::default()).read(0, &mut bytes);
        bytes
    }

    fn value<'a>(parts: &'a [Part], title: &str, name: &str) -> (&'a Field, String) {
        let part = parts.iter().find(|part| part.title.starts_with(title)).unwrap_or_else(|| panic!("no {title}"));
        let field = part.fields.iter().find(|field| field.name == name).unwrap_or_else(|| panic!("no {name}"));
        (field, field.meaning.clone().unwrap_or_default())
    }

    #[test]
    fn capabilities_are_found() {
        let parts = parts(&space());
        let titles: Vec<_> = parts.iter().map(|part| &part.title[..]).collect();
        assert_eq!(
            titles,
            [
                "header",
                "PCI Express (capability 0x10 at 0x60)",
                "MSI-X (capability 0x11 at 0x9c)",
                "vendor-specific (capability 0x9 at 0xc0)",
                "power management (capability 0x1 at 0x40)",
                "advanced error reporting (extended capability 0x1 at 0x100)",
                "alternative routing-ID interpretation (extended capability 0xe at 0x150)",
            ]
        );
        assert_eq!(value(&parts, "header", "device_id").0.content, Content::Number(0x1021));
        assert_eq!(value(&parts, "PCI Express", "link_status.speed").1, "32 GT/s");
        assert_eq!(value(&parts, "PCI Express", "link_status.width").1, "x16");
        assert_eq!(value(&parts, "MSI-X", "table_size_less_1").1, "64 vectors");
        assert_eq!(value(&parts, "MSI-X", "table.offset_31_3").1, "byte 0x2000 of the BAR");
        assert!(parts.iter().all(|part| part.unnamed.is_empty() && !part.short), "{parts:?}");
    }

    #[test]
    fn nothing_is_hidden() {
        let mut bytes = space();
        bytes[0x36] = 0x81;
        // Power management leads on to a capability that nobody knows.
        bytes[0x41] = 0x50;
        bytes[0x50..0x58].copy_from_slice(&[0x7e, 0, 1, 2, 3, 4, 5, 6]);
        let parts = parts(&bytes);
        assert_eq!(parts[0].unnamed.iter().map(ToString::to_string).collect::<Vec<_>>(), ["@0x34.23", "@0x34.16"]);
        let unknown = parts.iter().find(|part| part.title.starts_with("unknown")).expect("it is shown");
        assert_eq!(unknown.bytes, [0x7e, 0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn chains_end() {
        let mut bytes = space();
        (bytes[0x41], bytes[0x151 + 1]) = (0x60, 0x00);
        assert_eq!(parts(&bytes).len(), 7, "back to the first");
        assert!(parts(&[0xff; 4096]).len() < MAX_CHAIN);
        for len in 0..0x130 {
            parts(&bytes[..len]);
            parts(&vec![0xff; len]);
        }
    }
}
