//! What the device holds: the question a test asks after a teardown.

use std::fmt;

/// Objects held, by kind, and memory that firmware was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inventory {
    /// Objects held now.
    pub held: Objects,
    /// Objects that were still held when TEARDOWN_HCA came: what the driver forgot to destroy. FLR clears it.
    pub abandoned: Objects,
    /// Firmware pages held, 4 KiB each.
    pub pages: u64,
    /// Tag memory keys that are not free: destination buffers bound now.
    pub bound_tags: u64,
}

impl Inventory {
    /// True if nothing is held and nothing was forgotten.
    pub fn is_empty(&self) -> bool {
        self.held.total() == 0 && self.abandoned.total() == 0 && self.pages == 0
    }
}

impl fmt::Display for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing held");
        }
        let mut separator = "";
        let mut part = |f: &mut fmt::Formatter<'_>, count: u64, name: &str, state: &str| {
            if count == 0 {
                return Ok(());
            }
            write!(f, "{separator}{count} {name}{state}")?;
            separator = ", ";
            Ok(())
        };
        for (count, name) in self.held.by_kind() {
            part(f, count, name, "")?;
        }
        for (count, name) in self.abandoned.by_kind() {
            part(f, count, name, " abandoned at teardown")?;
        }
        part(f, self.pages, "firmware page(s)", "")
    }
}

macro_rules! objects {
    ($($(#[$doc:meta])* $field:ident: $name:literal,)*) => {
        /// Numbers of objects, by kind.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Objects {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Objects {
            /// Number and name of each kind.
            pub fn by_kind(&self) -> impl Iterator<Item = (u64, &'static str)> + use<> {
                [$((self.$field, $name)),*].into_iter()
            }

            /// Objects of all kinds.
            pub fn total(&self) -> u64 {
                0 $(+ self.$field)*
            }

            /// Adds another count to this one.
            pub(crate) fn add(&mut self, other: &Objects) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

objects! {
    /// User access regions.
    uars: "UAR(s)",
    /// Protection domains.
    pds: "PD(s)",
    /// Transport domains.
    transport_domains: "transport domain(s)",
    /// Queue counter sets.
    q_counters: "queue counter set(s)",
    /// Event queues.
    eqs: "EQ(s)",
    /// Completion queues.
    cqs: "CQ(s)",
    /// Memory keys.
    mkeys: "mkey(s)",
    /// Transport interface send objects.
    tiss: "TIS(s)",
    /// Send queues.
    sqs: "SQ(s)",
    /// Receive queues.
    rqs: "RQ(s)",
    /// Receive queue tables.
    rqts: "RQT(s)",
    /// Transport interface receive objects.
    tirs: "TIR(s)",
    /// User memory objects.
    umems: "umem(s)",
    /// NVMe/TCP tag buffer tables.
    tag_buffer_tables: "tag buffer table(s)",
    /// Flow tables.
    flow_tables: "flow table(s)",
    /// Flow groups.
    flow_groups: "flow group(s)",
    /// Flow table entries.
    flow_rules: "flow rule(s)",
}
