//! Whether a namespace is still the disk that it was: a controller that comes back after a loss may have another one behind the
//! same number, and a request that is submitted again must not reach it.
//!
//! What the first Identify of a namespace said is what its requests are meant for. Each time that the controller has come up
//! the new pages are compared with that:
//!
//! | | the same disk |
//! |---|---|
//! | NGUID or EUI64 differs (NVM Command Set, Identify Namespace: never reused, and fixed for the namespace's life) | no |
//! | the block size differs: the same numbers would mean other bytes | no |
//! | it has fewer blocks | no: what the caller knows of it is not true any more |
//! | it has more blocks, and an identifier | yes: it was enlarged |
//! | it has another number of blocks, or the controller another serial number, and no identifier | no: nothing says that it is |
//! | the controller does not list it, or what its page says cannot be served | no |
//!
//! A namespace that is itself again with a later connection is served again. One that was not identified (as
//! [`max_namespaces`](crate::nvme::controller::ControllerConfig::max_namespaces) has it) is not compared.

use crate::nvme::controller::{Controller, Namespace};
use crate::nvme::identify::{IdentifyError, NamespacePage};
use std::collections::BTreeMap;
use std::fmt;

/// What is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Its NGUID.
    Nguid {
        /// It was.
        was: [u8; 16],
        /// It is.
        is: [u8; 16],
    },
    /// Its EUI64.
    Eui64 {
        /// It was.
        was: [u8; 8],
        /// It is.
        is: [u8; 8],
    },
    /// Bytes of its blocks.
    BlockSize {
        /// They were.
        was: u32,
        /// They are.
        is: u32,
    },
    /// Its number of blocks.
    Blocks {
        /// It was.
        was: u64,
        /// It is.
        is: u64,
    },
    /// The controller's serial number, and it has no identifier of its own.
    Serial {
        /// It was.
        was: String,
        /// It is.
        is: String,
    },
    /// The controller does not list it any more.
    Missing,
    /// What its page says cannot be served.
    Page(IdentifyError),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Nguid { was, is } => write!(f, "its NGUID was {} and is {}", Hex(was), Hex(is)),
            Difference::Eui64 { was, is } => write!(f, "its EUI64 was {} and is {}", Hex(was), Hex(is)),
            Difference::BlockSize { was, is } => write!(f, "its blocks had {was} bytes and have {is}"),
            Difference::Blocks { was, is } => write!(f, "it had {was} blocks and has {is}"),
            Difference::Serial { was, is } => {
                write!(f, "it has no NGUID or EUI64, and its controller's serial number was {was:?} and is {is:?}")
            }
            Difference::Missing => f.write_str("the controller does not list it any more"),
            Difference::Page(error) => write!(f, "{error}"),
        }
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A namespace as it was identified first.
#[derive(Clone, Debug)]
struct Known {
    page: NamespacePage,
    serial: String,
}

impl Known {
    fn compare(&self, now: &Result<NamespacePage, IdentifyError>, serial: &str) -> Option<Difference> {
        let (was, is) = match now {
            Ok(is) => (&self.page, is),
            Err(error) => return Some(Difference::Page(error.clone())),
        };
        let named = was.nguid != [0; 16] || was.eui64 != [0; 8];
        if was.nguid != is.nguid {
            Some(Difference::Nguid { was: was.nguid, is: is.nguid })
        } else if was.eui64 != is.eui64 {
            Some(Difference::Eui64 { was: was.eui64, is: is.eui64 })
        } else if was.block_size != is.block_size {
            Some(Difference::BlockSize { was: was.block_size, is: is.block_size })
        } else if is.blocks < was.blocks || !named && is.blocks != was.blocks {
            Some(Difference::Blocks { was: was.blocks, is: is.blocks })
        } else if !named && self.serial != serial {
            Some(Difference::Serial { was: self.serial.clone(), is: serial.to_owned() })
        } else {
            None
        }
    }
}

/// Namespaces by number: what each was first, and which are not that now.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    known: BTreeMap<u32, Known>,
    changed: BTreeMap<u32, Difference>,
}

impl Namespaces {
    /// The controller has come up, and its namespaces were identified.
    pub fn identified(&mut self, controller: &Controller, most: usize) {
        let serial = controller.page().map_or("", |page| &page.serial);
        self.compare(controller.namespaces(), serial, most);
    }

    /// Compares with what was known; remembers at most `most`.
    fn compare(&mut self, now: &[Namespace], serial: &str, most: usize) {
        let changed = self.known.iter().filter_map(|(nsid, known)| {
            let page = now.iter().find(|namespace| namespace.id == *nsid).map(|namespace| &namespace.page);
            let difference = page.map_or(Some(Difference::Missing), |page| known.compare(page, serial))?;
            Some((*nsid, difference))
        });
        self.changed = changed.collect();
        for namespace in now {
            if let Ok(page) = namespace.page
                && self.known.len() < most
            {
                let serial = serial.to_owned();
                self.known.entry(namespace.id).or_insert(Known { page, serial });
            }
        }
    }

    /// What is not as it was, by namespace.
    pub fn changed(&self) -> impl Iterator<Item = (u32, &Difference)> {
        self.changed.iter().map(|(nsid, difference)| (*nsid, difference))
    }

    /// What is not as it was with this one.
    pub fn difference(&self, nsid: u32) -> Option<&Difference> {
        self.changed.get(&nsid)
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | every field that tells one disk from another is compared, and only these | `another_disk_is_told_by_any_of_its_fields` |
    //! | what was first is what counts, however often it changes, and it may come back | `the_first_is_what_counts` |
    //! | a controller cannot fill the memory with namespaces | `no_more_are_remembered_than_asked_for` |
    use super::*;

    const PAGE: NamespacePage = NamespacePage { blocks: 1000, block_size: 512, nguid: [7; 16], eui64: [8; 8] };
    const NAMELESS: NamespacePage = NamespacePage { nguid: [0; 16], eui64: [0; 8], ..PAGE };

    fn list(id: u32, page: NamespacePage) -> Vec<Namespace> {
        vec![Namespace { id, page: Ok(page) }]
    }

    fn after(first: NamespacePage, then: NamespacePage, serial: &str) -> Option<String> {
        let mut all = Namespaces::default();
        all.compare(&list(1, first), "S1", 4);
        assert_eq!(all.changed().count(), 0);
        all.compare(&list(1, then), serial, 4);
        all.difference(1).map(ToString::to_string)
    }

    #[test]
    fn another_disk_is_told_by_any_of_its_fields() {
        let says = |first, then, serial, what: &str| {
            let why = after(first, then, serial);
            assert!(why.as_deref().is_some_and(|why| why.contains(what)), "{why:?}, expected {what}");
        };
        assert_eq!(after(PAGE, PAGE, "S1"), None);
        assert_eq!(after(NAMELESS, NAMELESS, "S1"), None);
        says(PAGE, NamespacePage { nguid: [6; 16], ..PAGE }, "S1", "NGUID was 0707070707070707");
        says(PAGE, NamespacePage { nguid: [0; 16], ..PAGE }, "S1", "NGUID");
        says(NAMELESS, PAGE, "S1", "NGUID");
        says(PAGE, NamespacePage { eui64: [9; 8], ..PAGE }, "S1", "EUI64 was 0808080808080808 and is 0909090909090909");
        says(PAGE, NamespacePage { block_size: 4096, ..PAGE }, "S1", "had 512 bytes and have 4096");
        says(PAGE, NamespacePage { blocks: 999, ..PAGE }, "S1", "had 1000 blocks and has 999");
        assert_eq!(after(PAGE, NamespacePage { blocks: 1001, ..PAGE }, "S1"), None, "it was enlarged");
        says(NAMELESS, NamespacePage { blocks: 1001, ..NAMELESS }, "S1", "had 1000 blocks and has 1001");
        assert_eq!(after(PAGE, PAGE, "S2"), None, "another controller of the same disk");
        says(NAMELESS, NAMELESS, "S2", "serial number was \"S1\" and is \"S2\"");
    }

    #[test]
    fn the_first_is_what_counts() {
        let other = NamespacePage { nguid: [6; 16], ..PAGE };
        let mut all = Namespaces::default();
        all.compare(&list(1, PAGE), "S1", 4);
        for _ in 0..2 {
            all.compare(&list(1, other), "S1", 4);
            assert!(
                matches!(all.difference(1), Some(Difference::Nguid { was, is }) if *was == [7; 16] && *is == [6; 16])
            );
        }
        all.compare(&list(2, other), "S1", 4);
        assert_eq!((all.difference(1), all.difference(2)), (Some(&Difference::Missing), None));
        let bad = IdentifyError::Length { len: 0 };
        all.compare(&[Namespace { id: 1, page: Err(bad.clone()) }], "S1", 4);
        assert_eq!(all.difference(1), Some(&Difference::Page(bad)));
        assert_eq!(all.difference(2), Some(&Difference::Missing));
        all.compare(&[list(1, PAGE), list(2, other)].concat(), "S1", 4);
        assert_eq!(all.changed().count(), 0);
    }

    #[test]
    fn no_more_are_remembered_than_asked_for() {
        let mut all = Namespaces::default();
        for id in 1..100 {
            all.compare(&list(id, PAGE), "S1", 4);
        }
        assert_eq!((all.known.len(), all.changed.len()), (4, 4));
    }
}
