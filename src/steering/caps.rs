//! What the function must be able to do, checked before the first table is created.

use firmware_iface::caps::groups::{FlowTableFieldsSupported, FlowTablePropLayout};
use hw_regs::layout::{Access, Field};

/// Something that the function lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// No receive steering at all.
    #[error("no flow tables for reception (flow_table_properties_nic_receive.ft_support is 0)")]
    FlowTables,
    /// A field that rules match on.
    #[error("rules cannot match {field} (ft_field_support)")]
    Field {
        /// Name in the capability.
        field: &'static str,
    },
    /// Neither way of telling IPv4 from IPv6.
    #[error("rules can match neither ip_version nor the EtherType (ft_field_support)")]
    IpVersion,
    /// The table does not fit.
    #[error("a flow table of 2^{wanted} entries; log_max_ft_size is {max}")]
    TableSize {
        /// log2 of the entries.
        wanted: u32,
        /// log2 of the largest table.
        max: u32,
    },
    /// Too many rules.
    #[error("{wanted} flow rules; log_max_flow is {max}")]
    Rules {
        /// Rules asked for.
        wanted: u32,
        /// log2 of the most.
        max: u32,
    },
}

/// Limits of receive steering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SteeringCaps {
    /// log2 of the largest table.
    pub log_max_table_size: u32,
    /// log2 of the most rules of the function; 0 if it does not say.
    pub log_max_rules: u32,
    /// Highest level of a table; the root is level 0.
    pub max_level: u32,
    /// True if rules match `ip_version`; otherwise they match the EtherType.
    pub ip_version: bool,
}

/// Fields without which no five-tuple can be matched.
const FIELDS: [(&str, Field<FlowTableFieldsSupported>); 5] = [
    ("outer_sip", FlowTableFieldsSupported::OUTER_SIP),
    ("outer_dip", FlowTableFieldsSupported::OUTER_DIP),
    ("outer_ip_protocol", FlowTableFieldsSupported::OUTER_IP_PROTOCOL),
    ("outer_tcp_sport", FlowTableFieldsSupported::OUTER_TCP_SPORT),
    ("outer_tcp_dport", FlowTableFieldsSupported::OUTER_TCP_DPORT),
];

impl SteeringCaps {
    /// Reads the properties of NIC receive tables (`FlowTableNicCap::FLOW_TABLE_PROPERTIES_NIC_RECEIVE` of capability group
    /// FLOW_TABLE). The error lists everything that is missing.
    pub fn new(receive: &FlowTablePropLayout) -> Result<SteeringCaps, Vec<Missing>> {
        if !receive.is_set(FlowTablePropLayout::FT_SUPPORT) {
            return Err(vec![Missing::FlowTables]);
        }
        let fields = receive.nested(FlowTablePropLayout::FT_FIELD_SUPPORT);
        let mut missing: Vec<_> = FIELDS
            .iter()
            .filter(|(_, field)| !fields.is_set(*field))
            .map(|(field, _)| Missing::Field { field })
            .collect();
        let ip_version = fields.is_set(FlowTableFieldsSupported::OUTER_IP_VERSION);
        if !ip_version && !fields.is_set(FlowTableFieldsSupported::OUTER_ETHER_TYPE) {
            missing.push(Missing::IpVersion);
        }
        match missing.is_empty() {
            false => Err(missing),
            true => Ok(SteeringCaps {
                log_max_table_size: receive.get(FlowTablePropLayout::LOG_MAX_FT_SIZE),
                log_max_rules: receive.get(FlowTablePropLayout::LOG_MAX_FLOW),
                max_level: receive.get(FlowTablePropLayout::MAX_FT_LEVEL),
                ip_version,
            }),
        }
    }

    /// Checks that a table of `1 << log_size` entries with `rules` rules is possible.
    pub(super) fn check(&self, log_size: u32, rules: u32) -> Result<(), Vec<Missing>> {
        let mut missing = Vec::new();
        if log_size > self.log_max_table_size {
            missing.push(Missing::TableSize { wanted: log_size, max: self.log_max_table_size });
        }
        if self.log_max_rules != 0 && u64::from(rules) > 1u64 << self.log_max_rules.min(32) {
            missing.push(Missing::Rules { wanted: rules, max: self.log_max_rules });
        }
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }
}

#[cfg(test)]
pub(super) mod tests {
    //! | property | test |
    //! |---|---|
    //! | every missing field is named | `what_is_missing_is_named` |
    //! | the EtherType stands in for the IP version | `the_ethertype_is_enough` |
    //! | sizes are checked before firmware refuses them | `sizes_are_checked` |
    use super::*;
    use hw_regs::layout::Layout;

    /// A function that can do what ConnectX-7 does.
    pub(crate) fn full() -> FlowTablePropLayout {
        let mut fields = FlowTableFieldsSupported::zeroed().with(FlowTableFieldsSupported::OUTER_IP_VERSION, 1);
        for (_, field) in FIELDS {
            fields.set(field, 1);
        }
        with(fields)
    }

    fn with(fields: FlowTableFieldsSupported) -> FlowTablePropLayout {
        FlowTablePropLayout::zeroed()
            .with(FlowTablePropLayout::FT_SUPPORT, 1)
            .with(FlowTablePropLayout::LOG_MAX_FT_SIZE, 16)
            .with(FlowTablePropLayout::MAX_FT_LEVEL, 64)
            .with_nested(FlowTablePropLayout::FT_FIELD_SUPPORT, &fields)
    }

    #[test]
    fn what_is_missing_is_named() {
        let caps = SteeringCaps { log_max_table_size: 16, log_max_rules: 0, max_level: 64, ip_version: true };
        assert_eq!(SteeringCaps::new(&full()), Ok(caps));
        assert_eq!(SteeringCaps::new(&FlowTablePropLayout::zeroed()), Err(vec![Missing::FlowTables]));
        let missing = SteeringCaps::new(&with(FlowTableFieldsSupported::zeroed())).expect_err("nothing can be matched");
        assert_eq!(missing.len(), 6);
        let text = crate::steering::SteeringError::Unsupported { missing }.to_string();
        for (name, _) in FIELDS {
            assert!(text.contains(name), "{text}");
        }
    }

    #[test]
    fn the_ethertype_is_enough() {
        let mut fields = FlowTableFieldsSupported::zeroed().with(FlowTableFieldsSupported::OUTER_ETHER_TYPE, 1);
        for (_, field) in FIELDS {
            fields.set(field, 1);
        }
        assert!(SteeringCaps::new(&with(fields)).is_ok_and(|caps| !caps.ip_version));
    }

    #[test]
    fn sizes_are_checked() {
        let caps = SteeringCaps { log_max_rules: 10, ..SteeringCaps::new(&full()).expect("all there") };
        assert_eq!(caps.check(16, 1024), Ok(()));
        let missing = vec![Missing::TableSize { wanted: 17, max: 16 }, Missing::Rules { wanted: 1025, max: 10 }];
        assert_eq!(caps.check(17, 1025), Err(missing));
    }
}
