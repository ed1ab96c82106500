//! The dump itself: a value that can be kept in a file. Its shape is documented in `docs/regdump.md`.

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// What a file begins with.
pub const FORMAT: &str = "connectx-ddp dump";
/// What changes when the shape changes otherwise than by growing.
pub const VERSION: u32 = 1;
/// Bytes of one item at most; the largest is a capability group.
const MAX_BYTES: usize = 1 << 16;

/// Bytes that are written in hexadecimal.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Hex(pub Vec<u8>);

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hex, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() > 2 * MAX_BYTES || !text.len().is_multiple_of(2) {
            return Err(D::Error::custom(format!(
                "{} hexadecimal digits: an even number up to {}",
                text.len(),
                2 * MAX_BYTES
            )));
        }
        let digits = text.bytes().map(|byte| char::from(byte).to_digit(16).map(|digit| digit as u8));
        let digits: Vec<u8> = digits.collect::<Option<_>>().ok_or_else(|| D::Error::custom("not hexadecimal"))?;
        Ok(Hex(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()))
    }
}

macro_rules! sections {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal;)+) => {
        /// A part of a dump.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum SectionName {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl SectionName {
            /// All of them, in the order in which they are shown.
            pub const ALL: &[SectionName] = &[$(SectionName::$variant),+];

            /// As it is called on the command line and in JSON.
            pub fn name(self) -> &'static str {
                match self {
                    $(SectionName::$variant => $name,)+
                }
            }

            /// What it holds, in a line.
            pub fn about(self) -> &'static str {
                match self {
                    $(SectionName::$variant => concat!($($doc),+).trim(),)+
                }
            }
        }
    };
}

sections! {
    /// PCI configuration space and its capabilities.
    Pci "pci";
    /// Initialization segment: firmware version, command queue, timers.
    Init "init";
    /// Health buffer and its syndrome.
    Health "health";
    /// Capability groups, current and maximum, and what the function is.
    Caps "caps";
    /// Registers of the port: link, MTU, speeds, temperature.
    Ports "ports";
    /// NIC vport: addresses, state, counters.
    Vport "vport";
    /// Counters of the port and of queues.
    Counters "counters";
    /// Firmware objects of the driver, as firmware describes them.
    Objects "objects";
    /// Rings around the place where the driver is.
    Rings "rings";
    /// Doorbell records.
    Doorbells "doorbells";
}

impl fmt::Display for SectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SectionName {
    type Err = String;

    fn from_str(text: &str) -> Result<SectionName, String> {
        SectionName::ALL.iter().find(|section| section.name() == text).copied().ok_or_else(|| {
            let names: Vec<_> = SectionName::ALL.iter().map(|section| section.name()).collect();
            format!("there is no section {text:?}; there are {}", names.join(", "))
        })
    }
}

/// Who took a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Whoever brought the function up for it and took it down again.
    Idle,
    /// The driver that runs on the function.
    Running,
}

/// Everything that was read of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Version of the driver or tool that took it.
    pub taken_by: String,
    /// How it was taken.
    pub source: Source,
    /// PCI address, or what the function is called instead.
    pub device: String,
    /// PCI vendor id.
    pub vendor_id: u16,
    /// PCI device id.
    pub device_id: u16,
    /// What went wrong as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// The sections that were asked for.
    pub sections: Vec<SectionDump>,
}

/// One section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectionDump {
    /// Which.
    pub section: SectionName,
    /// What is not there, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What was read.
    pub items: Vec<Item>,
}

/// One structure, or several alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What it is; each name is there once in a section.
    pub name: String,
    /// Name of the layout table of the bytes, or of one entry of them. "wqe" and "pci" are taken apart by other rules.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub layout: String,
    /// The bytes, as the device has them.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub bytes: Hex,
    /// The same structure with what the function could do at most; of capability groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<Hex>,
    /// Fields of the layout that were not read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
    /// Numbers that the driver knows of it. Of rings: `entries`, `stride` (bytes of one), `first` (number of the first entry in
    /// `bytes`), `consumer`, `producer`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, u64>,
    /// Why it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

fn is_empty(hex: &Hex) -> bool {
    hex.0.is_empty()
}

impl Item {
    /// Bytes of a structure. Zeros beyond its end are left out.
    pub(super) fn new(name: impl Into<String>, layout: &str, size: usize, bytes: &[u8]) -> Item {
        Item { name: name.into(), layout: layout.into(), bytes: trimmed(size, bytes), ..Item::default() }
    }

    /// Something that could not be read.
    pub(super) fn failed(name: impl Into<String>, problem: impl fmt::Display) -> Item {
        Item { name: name.into(), problem: Some(problem.to_string()), ..Item::default() }
    }
}

/// Bytes without the zeros that follow a structure of `size` bytes, and not more than an item may have.
pub(super) fn trimmed(size: usize, bytes: &[u8]) -> Hex {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    // Not in the middle of an entry of a list behind the structure.
    let used = if used > size { used.next_multiple_of(16) } else { size };
    Hex(bytes[..used.min(bytes.len()).min(MAX_BYTES)].to_vec())
}

/// Why bytes are no dump.
#[derive(Debug, thiserror::Error)]
pub enum Bad {
    /// Not JSON of the shape.
    #[error("it is no dump: {0}")]
    Shape(#[from] serde_json::Error),
    /// Some other JSON.
    #[error("it is no dump: its format is {0:?}, not {FORMAT:?}")]
    Format(String),
    /// Of a later program.
    #[error("it is a dump of version {0}, this program reads version {VERSION}: take a newer program")]
    Version(u32),
}

impl Dump {
    /// A dump without sections.
    pub(super) fn new(source: Source, identity: &crate::platform::Identity) -> Dump {
        Dump {
            format: FORMAT.into(),
            version: VERSION,
            taken_by: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into(),
            source,
            device: identity.address.clone(),
            vendor_id: identity.vendor,
            device_id: identity.device,
            problems: Vec::new(),
            sections: Vec::new(),
        }
    }

    /// A dump out of the bytes of a file.
    pub fn from_json(bytes: &[u8]) -> Result<Dump, Bad> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            format: String,
            #[serde(default)]
            version: u32,
        }
        // What it is comes first: a later version may have another shape.
        let Head { format, version } = serde_json::from_slice(bytes)?;
        match (&format[..], version) {
            (FORMAT, VERSION) => Ok(serde_json::from_slice(bytes)?),
            (FORMAT, version) => Err(Bad::Version(version)),
            _ => Err(Bad::Format(format)),
        }
    }

    /// A section, if the dump has it.
    pub fn section(&self, section: SectionName) -> Option<&SectionDump> {
        self.sections.iter().find(|dump| dump.section == section)
    }

    /// A section, to be filled.
    pub(super) fn section_mut(&mut self, section: SectionName) -> &mut SectionDump {
        let at = match self.sections.iter().position(|dump| dump.section == section) {
            Some(at) => at,
            None => {
                self.sections.push(SectionDump { section, notes: Vec::new(), items: Vec::new() });
                self.sections.len() - 1
            }
        };
        &mut self.sections[at]
    }
}

impl SectionDump {
    /// An item, by its name.
    pub fn item(&self, name: &str) -> Option<&Item> {
        self.items.iter().find(|item| item.name == name)
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | a dump comes back from its file as it was | `a_dump_comes_back` |
    //! | what is no dump, or one of another version, is refused with what it is | `other_files_are_refused` |
    //! | zeros behind a structure are left out, anything else is kept | `only_zeros_are_left_out` |
    use super::*;
    use crate::platform::Identity;

    fn dump() -> Dump {
        let identity = Identity { address: "0000:3b:00.0".into(), vendor: 0x15b3, device: 0x1021 };
        let mut dump = Dump::new(Source::Running, &identity);
        dump.problems.push("a problem".into());
        let section = dump.section_mut(SectionName::Caps);
        section.notes.push("a note".into());
        section.items.push(Item {
            maximum: Some(Hex(vec![1, 2])),
            facts: [("entries".to_owned(), 7)].into(),
            unread: vec!["x".into()],
            ..Item::new("GENERAL", "cmd_hca_cap", 2, &[0xab, 0, 0])
        });
        section.items.push(Item::failed("ATOMIC", "refused"));
        dump.section_mut(SectionName::Pci);
        dump
    }

    #[test]
    fn a_dump_comes_back() {
        let text = serde_json::to_vec(&dump()).expect("JSON");
        assert_eq!(Dump::from_json(&text).expect("a dump"), dump());
        assert!(String::from_utf8_lossy(&text).contains("\"ab00\""));
        for section in SectionName::ALL {
            assert_eq!(section.name().parse(), Ok(*section));
            assert_eq!(serde_json::to_value(section).expect("JSON"), section.name());
        }
        assert!("everything".parse::<SectionName>().expect_err("none").contains("pci, init"));
    }

    #[test]
    fn other_files_are_refused() {
        let with = |from: &str, to: &str| {
            let text = serde_json::to_string(&dump()).expect("JSON");
            assert!(text.contains(from), "{text}");
            Dump::from_json(text.replacen(from, to, 1).as_bytes()).expect_err(to).to_string()
        };
        assert!(with("\"version\":1", "\"version\":2").contains("version 2"));
        assert!(with(FORMAT, "something else").contains("something else"));
        assert!(with("\"ab00\"", "\"ab0\"").contains("3 hexadecimal digits"));
        assert!(with("\"ab00\"", "\"abxy\"").contains("not hexadecimal"));
        assert!(with("\"sections\"", "\"others\"").contains("missing field `sections`"));
        for other in [&b"{}"[..], b"", b"\x7fELF", b"[]", b"{\"format\": 1}"] {
            assert!(Dump::from_json(other).is_err());
        }
    }

    #[test]
    fn only_zeros_are_left_out() {
        let bytes = |last: usize| (0..64).map(|n| u8::from(n == last)).collect::<Vec<u8>>();
        assert_eq!(trimmed(20, &bytes(0)).0, bytes(0)[..20]);
        assert_eq!(trimmed(20, &bytes(21)).0, bytes(21)[..32]);
        assert_eq!(trimmed(20, &bytes(63)).0, bytes(63));
        assert_eq!(trimmed(8, &[1, 0]).0, [1, 0]);
        assert_eq!(trimmed(1, &[0; 3]).0, [0]);
    }
}
