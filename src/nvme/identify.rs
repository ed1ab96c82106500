//! Identify pages: what the host needs of them.
//!
//! Offsets are those of the pages in Base 5.17.2 and of the NVM command set's namespace page.

use zerocopy::FromBytes;
use zerocopy::little_endian::{U16, U32, U64};

/// Bytes of every Identify page.
pub const PAGE: usize = 4096;

/// CNS values.
pub mod cns {
    /// One namespace.
    pub const NAMESPACE: u8 = 0x00;
    /// The controller.
    pub const CONTROLLER: u8 = 0x01;
    /// Identifiers of active namespaces above the one given.
    pub const ACTIVE_NAMESPACES: u8 = 0x02;
}

/// An Identify page that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifyError {
    /// The page is not 4096 bytes.
    #[error("an Identify page of {len} bytes, expected {PAGE}")]
    Length {
        /// Bytes.
        len: usize,
    },
    /// A field holds a value that the specification does not allow or that this driver cannot serve.
    #[error("Identify {page} page: {field} (byte {offset}) is {value}, supported: {supported}")]
    Field {
        /// Which page.
        page: &'static str,
        /// Which field.
        field: &'static str,
        /// Where in the page.
        offset: usize,
        /// What it holds.
        value: u64,
        /// What would do.
        supported: &'static str,
    },
}

/// What the Identify Controller page says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerPage {
    /// SN, serial number.
    pub serial: String,
    /// MN, model number.
    pub model: String,
    /// FR, firmware revision.
    pub firmware: String,
    /// SUBNQN.
    pub subsystem_nqn: String,
    /// CNTLID.
    pub controller_id: u16,
    /// VER: major in bits 31:16, minor in 15:8, tertiary in 7:0.
    pub version: u32,
    /// MDTS: log2 of the longest transfer in smallest pages, 0 for no limit.
    pub mdts: u8,
    /// KAS: granularity of the keep-alive timer in 100 ms, 0 if there is none.
    pub keep_alive_granularity: u16,
    /// MAXCMD: most commands outstanding per I/O queue, 0 if it does not say.
    pub max_commands: u16,
    /// RTD3E: longest normal shutdown in microseconds, 0 if it does not say.
    pub shutdown_us: u32,
    /// VWC bit 0: there is a volatile write cache, so Flush means something.
    pub volatile_write_cache: bool,
    /// Bytes of data that an I/O command capsule may carry, from IOCCSZ.
    pub in_capsule_bytes: u32,
}

impl ControllerPage {
    /// Takes a page apart.
    pub fn parse(page: &[u8]) -> Result<ControllerPage, IdentifyError> {
        let page = whole(page)?;
        let capsule = u32(page, 1792);
        // IOCCSZ counts 16 bytes and includes the 64 bytes of the entry (Fabrics, Identify Controller).
        let in_capsule_bytes = capsule.checked_mul(16).and_then(|bytes| bytes.checked_sub(64)).ok_or({
            IdentifyError::Field {
                page: "Controller",
                field: "IOCCSZ",
                offset: 1792,
                value: capsule.into(),
                supported: "4 to 2^28 - 1 units of 16 bytes",
            }
        })?;
        let icdoff = u16(page, 1800);
        if icdoff != 0 {
            return Err(IdentifyError::Field {
                page: "Controller",
                field: "ICDOFF",
                offset: 1800,
                value: icdoff.into(),
                supported: "0 with NVMe/TCP",
            });
        }
        Ok(ControllerPage {
            serial: text(&page[4..24]),
            model: text(&page[24..64]),
            firmware: text(&page[64..72]),
            subsystem_nqn: text(&page[768..1024]),
            controller_id: u16(page, 78),
            version: u32(page, 80),
            mdts: page[77],
            keep_alive_granularity: u16(page, 320),
            max_commands: u16(page, 514),
            shutdown_us: u32(page, 88),
            volatile_write_cache: page[525] & 1 != 0,
            in_capsule_bytes,
        })
    }

    /// Bytes of the longest transfer when the smallest page has `1 << log_page` bytes.
    pub fn max_transfer(&self, log_page: u32) -> u32 {
        match self.mdts {
            0 => u32::MAX,
            mdts => 1u32.checked_shl(u32::from(mdts) + log_page).unwrap_or(u32::MAX),
        }
    }
}

/// What the Identify Namespace page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespacePage {
    /// NSZE: logical blocks.
    pub blocks: u64,
    /// Bytes per logical block.
    pub block_size: u32,
    /// NGUID, zero if it has none.
    pub nguid: [u8; 16],
    /// EUI64, zero if it has none.
    pub eui64: [u8; 8],
}

impl NamespacePage {
    /// Takes a page apart. Formats with metadata or protection information are not supported.
    pub fn parse(page: &[u8]) -> Result<NamespacePage, IdentifyError> {
        let page = whole(page)?;
        let refuse = |field, offset, value: u64, supported| {
            Err(IdentifyError::Field { page: "Namespace", field, offset, value, supported })
        };
        let flbas = page[26];
        let format = usize::from(flbas & 0xf | flbas >> 1 & 0x30);
        if format > usize::from(page[25]) {
            return refuse("FLBAS", 26, flbas.into(), "an index up to NLBAF");
        }
        let offset = 128 + 4 * format;
        let lbaf = u32(page, offset);
        if lbaf & 0xffff != 0 {
            return refuse("LBAF.MS", offset, (lbaf & 0xffff).into(), "0 bytes of metadata");
        }
        let lbads = lbaf >> 16 & 0xff;
        if !(9..=16).contains(&lbads) {
            return refuse("LBAF.LBADS", offset, lbads.into(), "9 (512 bytes) to 16 (64 KiB)");
        }
        let (blocks, block_size) = (u64(page, 0), 1 << lbads);
        if blocks.checked_mul(u64::from(block_size)).is_none() {
            return refuse("NSZE", 0, blocks, "a size below 2^64 bytes");
        }
        let (mut nguid, mut eui64) = ([0; 16], [0; 8]);
        nguid.copy_from_slice(&page[104..120]);
        eui64.copy_from_slice(&page[120..128]);
        Ok(NamespacePage { blocks, block_size, nguid, eui64 })
    }

    /// Bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks * u64::from(self.block_size)
    }
}

/// Identifiers of the Active Namespace ID list: ascending, up to the first 0.
pub fn namespace_list(page: &[u8]) -> Result<Vec<u32>, IdentifyError> {
    let page = whole(page)?;
    let mut list = Vec::new();
    for at in (0..PAGE).step_by(4) {
        match u32(page, at) {
            0 => break,
            id if list.last().is_none_or(|&last| id > last) => list.push(id),
            id => {
                return Err(IdentifyError::Field {
                    page: "Active Namespace ID list",
                    field: "identifier",
                    offset: at,
                    value: id.into(),
                    supported: "more than the one before",
                });
            }
        }
    }
    Ok(list)
}

fn whole(page: &[u8]) -> Result<&[u8; PAGE], IdentifyError> {
    page.try_into().map_err(|_| IdentifyError::Length { len: page.len() })
}

fn u16(page: &[u8; PAGE], at: usize) -> u16 {
    U16::ref_from_bytes(&page[at..at + 2]).map_or(0, |field| field.get())
}

fn u32(page: &[u8; PAGE], at: usize) -> u32 {
    U32::ref_from_bytes(&page[at..at + 4]).map_or(0, |field| field.get())
}

fn u64(page: &[u8; PAGE], at: usize) -> u64 {
    U64::ref_from_bytes(&page[at..at + 8]).map_or(0, |field| field.get())
}

/// ASCII padded with spaces or NULs; whatever else the controller sent is shown as such.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches(['\0', ' ']).to_owned()
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | fields are read at the specified offsets | `fields_are_where_the_specification_has_them` |
    //! | pages that cannot be served are refused, naming the field | `pages_that_cannot_be_served_name_the_field` |
    //! | no page makes the parsers panic | `no_page_panics` |
    use super::*;
    use proptest::prelude::*;

    fn controller() -> Vec<u8> {
        let mut page = vec![0; PAGE];
        page[4..24].copy_from_slice(b"S1                  ");
        page[24..26].copy_from_slice(b"M2");
        page[77] = 5;
        page[78..80].copy_from_slice(&[1, 2]);
        page[80..84].copy_from_slice(&[0, 4, 1, 0]);
        page[514..516].copy_from_slice(&[128, 0]);
        page[1792..1796].copy_from_slice(&[4 + 16, 2, 0, 0]);
        page
    }

    fn namespace() -> Vec<u8> {
        let mut page = vec![0; PAGE];
        page[..8].copy_from_slice(&1000u64.to_le_bytes());
        page[25] = 1;
        page[26] = 1;
        page[132..136].copy_from_slice(&[0, 0, 12, 0]);
        page
    }

    #[test]
    fn fields_are_where_the_specification_has_them() {
        let page = ControllerPage::parse(&controller()).expect("good page");
        assert_eq!((page.serial.as_str(), page.model.as_str()), ("S1", "M2"));
        assert_eq!((page.controller_id, page.version, page.max_commands), (0x201, 0x1_0400, 128));
        assert_eq!(page.in_capsule_bytes, (0x200 + 20) * 16 - 64);
        assert_eq!(page.max_transfer(12), 1 << 17);
        let page = NamespacePage::parse(&namespace()).expect("good page");
        assert_eq!((page.blocks, page.block_size, page.bytes()), (1000, 4096, 4_096_000));
        let mut list = vec![0; PAGE];
        (list[0], list[4]) = (1, 9);
        assert_eq!(namespace_list(&list), Ok(vec![1, 9]));
    }

    #[test]
    fn pages_that_cannot_be_served_name_the_field() {
        let field = |error: IdentifyError| match error {
            IdentifyError::Field { field, .. } => field,
            IdentifyError::Length { .. } => "length",
        };
        let mut page = controller();
        page[1792..1796].copy_from_slice(&[3, 0, 0, 0]);
        assert_eq!(ControllerPage::parse(&page).map_err(field), Err("IOCCSZ"));
        let mut page = controller();
        page[1800] = 1;
        assert_eq!(ControllerPage::parse(&page).map_err(field), Err("ICDOFF"));
        assert_eq!(ControllerPage::parse(&[0; 100]).map_err(field), Err("length"));
        for (at, value, name) in
            [(26, 2, "FLBAS"), (132, 8, "LBAF.MS"), (134, 8, "LBAF.LBADS"), (134, 17, "LBAF.LBADS"), (7, 1, "NSZE")]
        {
            let mut page = namespace();
            page[at] = value;
            assert_eq!(NamespacePage::parse(&page).map_err(field), Err(name));
        }
        let mut list = vec![0; PAGE];
        (list[0], list[4]) = (9, 9);
        assert_eq!(namespace_list(&list).map_err(field), Err("identifier"));
    }

    proptest! {
        #[test]
        fn no_page_panics(bytes in proptest::collection::vec(any::<u8>(), PAGE)) {
            let _ = ControllerPage::parse(&bytes).map(|page| page.max_transfer(27));
            let _ = NamespacePage::parse(&bytes).map(|page| page.bytes());
            let _ = namespace_list(&bytes);
        }
    }
}
