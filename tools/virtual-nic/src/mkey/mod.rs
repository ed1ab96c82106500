//! Memory keys: what turns {key, address} of a WQE or a tag into device addresses, and the UMR that changes them.
//!
//! ```text
//!  key = index << 8 | variant
//!   PA    address = IOVA
//!   MTT   [start, start + len) → pages of 2^log_page_size
//!   KLM   [start, start + len) → entries {bcount, key, va}, one after the other; each key again any of these
//!   KSM   the same with entries of one size, 2^log_page_size
//!
//!  tag mkey (KLM, empty, free)  ──UMR──►  bound: len and entries, not free  ──UMR──►  free
//! ```
//!
//! A free key translates nothing. A key is checked at every use: variant, free, access rights, protection domain, bounds;
//! a failed check touches no memory. References: `mlx5-bringup.md` §4 and §8.5, `nvme-tcp-offload.md` §3.2, §4.2, §4.7.

mod translate;
mod umr;

use crate::dma::DmaFault;
use crate::reject::{Reject, Syndrome};
use firmware_iface::command::object::{CreateMkeyIn, DestroyMkeyIn, QueryMkeyIn, QueryMkeyOut};
use firmware_iface::context::{AccessMode, Mkc};
use hw_regs::cqe::CqeSyndrome;
use hw_regs::layout::{Access as _, Layout};
use std::collections::{BTreeMap, VecDeque};

pub(crate) use translate::write_segments;
pub use translate::{Access, Cursor, Segment, Span};

/// How many and how large memory keys can be; the capabilities that the device advertises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MkeyLimits {
    /// Memory keys (1 << log_max_mkey).
    pub keys: u32,
    /// KLMs or KSMs of one key (1 << log_max_klm_list_size).
    pub klms: u32,
    /// Octowords of page addresses of one key, two pages each.
    pub mtt_octowords: u32,
}

impl Default for MkeyLimits {
    /// 8 Mi keys, 64 Ki KLMs, 2 Mi pages.
    fn default() -> MkeyLimits {
        MkeyLimits { keys: 1 << 23, klms: 1 << 16, mtt_octowords: 1 << 20 }
    }
}

/// First index given out: keys 0x000 to 0x1ff have meanings of their own (0x100 ends a scatter list,
/// `mlx5-bringup.md` §8.3).
const FIRST_INDEX: u32 = 0x100;

/// How a key translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Pa,
    Mtt,
    Klm,
    Ksm,
}

impl Mode {
    fn of(mkc: &Mkc) -> Option<Mode> {
        let code = mkc.get(Mkc::ACCESS_MODE_4_2) << 2 | mkc.get(Mkc::ACCESS_MODE_1_0);
        Some(match AccessMode(code as u8) {
            AccessMode::PA => Mode::Pa,
            AccessMode::MTT => Mode::Mtt,
            AccessMode::KLMS => Mode::Klm,
            AccessMode::KSM => Mode::Ksm,
            _ => return None,
        })
    }
}

/// One translation entry of 16 bytes, as two host-order words: a KLM is {bcount << 32 | key, va}, an MTT octoword is two
/// page addresses.
type Octoword = [u64; 2];

/// One memory key.
#[derive(Clone, Debug)]
struct Mkey {
    /// The context as query returns it; what follows is decoded from it.
    mkc: Mkc,
    mode: Mode,
    free: bool,
    start: u64,
    /// Bytes from `start`; `None` for all of the address space.
    len: Option<u64>,
    pd: u32,
    shift: u32,
    /// The low bits of page addresses say what is allowed.
    page_access: bool,
    /// Octowords that the key was created with; UMR may use fewer, never more.
    capacity: u32,
    /// Entries; those that were never written are zero and not stored.
    entries: Vec<Octoword>,
    /// Changes whenever the translation may have changed; never repeats in one device.
    generation: u64,
}

impl Mkey {
    fn new(mkc: Mkc, mode: Mode, page_access: bool, entries: Vec<Octoword>, generation: u64) -> Mkey {
        let capacity = mkc.get(Mkc::TRANSLATIONS_OCTWORD_SIZE);
        let mut key = Mkey {
            mkc,
            mode,
            free: false,
            start: 0,
            len: None,
            pd: 0,
            shift: 0,
            page_access,
            capacity,
            entries,
            generation,
        };
        key.decode();
        key
    }

    /// Takes over what the context says.
    fn decode(&mut self) {
        self.free = self.mkc.is_set(Mkc::FREE);
        self.start = self.mkc.get_wide(Mkc::START_ADDR);
        self.len = (!self.mkc.is_set(Mkc::LENGTH64)).then(|| self.mkc.get_wide(Mkc::LEN));
        self.pd = self.mkc.get(Mkc::PD);
        self.shift = self.mkc.get(Mkc::LOG_PAGE_SIZE);
    }

    fn variant(&self) -> u32 {
        self.mkc.get(Mkc::MKEY_7_0)
    }

    /// Octowords in use.
    fn size(&self) -> u32 {
        self.mkc.get(Mkc::TRANSLATIONS_OCTWORD_SIZE)
    }

    fn umr_en(&self) -> bool {
        self.mkc.is_set(Mkc::UMR_EN)
    }

    /// True for an indirect key that UMR made usable: a tag with a buffer.
    fn is_bound(&self) -> bool {
        self.umr_en() && !self.free && self.mode != Mode::Pa
    }

    fn octoword(&self, index: u32) -> Option<Octoword> {
        (index < self.size()).then(|| self.entries.get(index as usize).copied().unwrap_or_default())
    }

    /// Page address `index` of an MTT key.
    fn page(&self, index: u64) -> Option<u64> {
        let octoword = self.octoword(u32::try_from(index / 2).ok()?)?;
        Some(octoword[(index % 2) as usize])
    }
}

fn octowords(bytes: &[u8]) -> impl Iterator<Item = Octoword> {
    bytes.as_chunks::<16>().0.iter().map(|entry| {
        let word = |half: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&entry[half * 8..half * 8 + 8]);
            u64::from_be_bytes(word)
        };
        [word(0), word(1)]
    })
}

/// The memory keys of a device.
#[derive(Debug)]
pub struct Mkeys {
    limits: MkeyLimits,
    /// By index, less [`FIRST_INDEX`].
    keys: Vec<Option<Mkey>>,
    /// Indices to use again, longest unused first, so that a stale key is noticed as long as possible.
    unused: VecDeque<u32>,
    /// Keys per protection domain.
    per_pd: BTreeMap<u32, u32>,
    count: u32,
    bound: u32,
    generation: u64,
    scratch: std::cell::RefCell<Vec<Segment>>,
}

impl Mkeys {
    /// No keys yet.
    pub fn new(limits: MkeyLimits) -> Mkeys {
        Mkeys {
            limits,
            keys: Vec::new(),
            unused: VecDeque::new(),
            per_pd: BTreeMap::new(),
            count: 0,
            bound: 0,
            generation: 0,
            scratch: std::cell::RefCell::default(),
        }
    }

    /// Keys that exist.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// True if there is no key.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Indirect keys with `umr_en` that are not free: tags that have a buffer.
    pub fn bound(&self) -> usize {
        self.bound as usize
    }

    /// The memory that bound keys lead to and that the device may write through them.
    pub(crate) fn bound_memory(&self) -> Vec<Segment> {
        let (mut all, mut segments) = (Vec::new(), Vec::new());
        for (slot, mkey) in self.keys.iter().enumerate() {
            let Some(mkey) = mkey.as_ref().filter(|mkey| mkey.is_bound()) else { continue };
            let key = (FIRST_INDEX + slot as u32) << 8 | mkey.variant();
            // A key without bounds leads nowhere by itself, and a tag's has no more than 32 bits of bytes.
            let Some(len) = mkey.len.and_then(|len| u32::try_from(len).ok()) else { continue };
            let span = Span { key, va: mkey.start, len };
            if self.translate(span, Access::Write, None, &mut Cursor::default(), &mut segments).is_ok() {
                all.append(&mut segments);
            }
        }
        all
    }

    /// True if a key belongs to the protection domain: it cannot be deallocated.
    pub fn uses_pd(&self, pd: u32) -> bool {
        self.per_pd.contains_key(&pd)
    }

    fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// CREATE_MKEY: `tail` is what follows the 272 bytes of the input. Returns the index; the key is
    /// `index << 8 | mkey_7_0`. That the protection domain exists is for the caller to check.
    pub fn create(&mut self, input: &CreateMkeyIn, tail: &[u8]) -> Result<u32, Reject> {
        let mkc: Mkc = input.nested(CreateMkeyIn::MEMORY_KEY_MKEY_ENTRY);
        let mode = Mode::of(&mkc).ok_or(Syndrome::MKEY_ACCESS_MODE)?;
        let size = mkc.get(Mkc::TRANSLATIONS_OCTWORD_SIZE);
        let actual = input.get(CreateMkeyIn::TRANSLATIONS_OCTWORD_ACTUAL_SIZE);
        let most = if mode == Mode::Mtt { self.limits.mtt_octowords } else { self.limits.klms };
        if input.is_set(CreateMkeyIn::MKEY_UMEM_VALID) {
            return Err(Syndrome::MKEY_UMEM.into());
        }
        if size > most {
            return Err(Syndrome::MKEY_LIST_TOO_LONG.into());
        }
        if actual > size {
            return Err(Syndrome::MKEY_LIST_EXCEEDS_SIZE.into());
        }
        let list = tail.get(..actual as usize * 16).ok_or(Syndrome::MKEY_LIST_CUT_SHORT)?;
        let free = mkc.is_set(Mkc::FREE);
        if free && !mkc.is_set(Mkc::UMR_EN) {
            return Err(Syndrome::MKEY_FREE_WITHOUT_UMR.into());
        }
        let (start, len) = (mkc.get_wide(Mkc::START_ADDR), mkc.get_wide(Mkc::LEN));
        if start.checked_add(len).is_none() {
            return Err(Syndrome::MKEY_RANGE.into());
        }
        if mode == Mode::Mtt && actual > 0 && !free {
            let shift = mkc.get(Mkc::LOG_PAGE_SIZE);
            if shift < 12 {
                return Err(Syndrome::MKEY_PAGE_SIZE.into());
            }
            let pages = u128::from(actual) * 2;
            let first_page = u128::from(start & ((1 << shift) - 1));
            if !mkc.is_set(Mkc::LENGTH64) && pages << shift < first_page + u128::from(len) {
                return Err(Syndrome::MKEY_RANGE.into());
            }
        }
        if self.count >= self.limits.keys {
            return Err(Syndrome::MKEY_NONE_LEFT.into());
        }
        let generation = self.next_generation();
        let page_access = input.is_set(CreateMkeyIn::PG_ACCESS);
        let key = Mkey::new(mkc, mode, page_access, octowords(list).collect(), generation);
        self.bound += u32::from(key.is_bound());
        *self.per_pd.entry(key.pd).or_default() += 1;
        self.count += 1;
        let grown = self.keys.len() as u32;
        // Fresh indices first: an index is used again only when no other is left.
        let slot = if grown < self.limits.keys { grown } else { self.unused.pop_front().unwrap_or(grown) };
        if slot == grown {
            self.keys.push(Some(key));
        } else {
            self.keys[slot as usize] = Some(key);
        }
        Ok(FIRST_INDEX + slot)
    }

    fn slot(&self, index: u32) -> Option<usize> {
        let slot = index.checked_sub(FIRST_INDEX)? as usize;
        self.keys.get(slot)?.is_some().then_some(slot)
    }

    /// DESTROY_MKEY.
    pub fn destroy(&mut self, input: &DestroyMkeyIn) -> Result<(), Reject> {
        let index = input.get(DestroyMkeyIn::MKEY_INDEX);
        let slot = self.slot(index).ok_or(Syndrome::MKEY_UNKNOWN)?;
        if let Some(key) = self.keys[slot].take() {
            self.bound -= u32::from(key.is_bound());
            self.count -= 1;
            self.leave_pd(key.pd);
        }
        self.unused.push_back(slot as u32);
        Ok(())
    }

    fn leave_pd(&mut self, pd: u32) {
        if let Some(count) = self.per_pd.get_mut(&pd) {
            *count -= 1;
            if *count == 0 {
                self.per_pd.remove(&pd);
            }
        }
    }

    /// QUERY_MKEY: the context as it is now and, with `pg_access`, the first two octowords of translation entries.
    pub fn query(&self, input: &QueryMkeyIn) -> Result<QueryMkeyOut, Reject> {
        let slot = self.slot(input.get(QueryMkeyIn::MKEY_INDEX)).ok_or(Syndrome::MKEY_UNKNOWN)?;
        let key = self.keys[slot].as_ref().ok_or(Syndrome::MKEY_UNKNOWN)?;
        let mut out = QueryMkeyOut::zeroed().with_nested(QueryMkeyOut::MEMORY_KEY_MKEY_ENTRY, &key.mkc);
        if input.is_set(QueryMkeyIn::PG_ACCESS) {
            let fields = [QueryMkeyOut::BSF0_KLM0_PAS_MTT0_1, QueryMkeyOut::BSF1_KLM1_PAS_MTT2_3];
            for (entry, field) in key.entries.iter().zip(fields) {
                let bytes = entry.iter().flat_map(|word| word.to_be_bytes());
                bytes.enumerate().for_each(|(at, byte)| out.set_at(field, at, byte.into()));
            }
        }
        Ok(out)
    }

    /// The key, if its index and variant are right.
    fn key(&self, key: u32) -> Result<&Mkey, MkeyFault> {
        self.slot(key >> 8)
            .and_then(|slot| self.keys[slot].as_ref())
            .filter(|found| found.variant() == key & 0xff)
            .ok_or(MkeyFault::UnknownKey { key })
    }
}

/// Why a memory key did not translate, or a UMR was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MkeyFault {
    /// No key has this index, or its low byte is another.
    #[error("memory key {key:#x} does not exist")]
    UnknownKey {
        /// The key.
        key: u32,
    },
    /// The key is free: UMR has not made it usable, or took it away.
    #[error("memory key {key:#x} is free")]
    Free {
        /// The key.
        key: u32,
    },
    /// The key does not allow this access.
    #[error("memory key {key:#x} does not allow a local {access:?}")]
    Access {
        /// The key.
        key: u32,
        /// What was tried.
        access: Access,
    },
    /// The key belongs to another protection domain than the queue or the key that led to it.
    #[error("memory key {key:#x} is of protection domain {pd}, not {expected}")]
    ProtectionDomain {
        /// The key.
        key: u32,
        /// Its protection domain.
        pd: u32,
        /// The one that was needed.
        expected: u32,
    },
    /// The range is outside the key's.
    #[error("{len} bytes at {va:#x} are outside memory key {key:#x}")]
    OutOfBounds {
        /// The key.
        key: u32,
        /// First address.
        va: u64,
        /// Bytes.
        len: u32,
    },
    /// The key's length says that there is memory, but its list ends before.
    #[error("the entries of memory key {key:#x} end before offset {offset:#x}")]
    ListTooShort {
        /// The key.
        key: u32,
        /// Offset from the start of the key.
        offset: u64,
    },
    /// A page address lacks the permission bit.
    #[error("page at offset {offset:#x} of memory key {key:#x} does not allow a {access:?}")]
    Page {
        /// The key.
        key: u32,
        /// Offset from the start of the key.
        offset: u64,
        /// What was tried.
        access: Access,
    },
    /// Keys that lead to keys too deeply, or through too many entries.
    #[error("memory key {key:#x} leads through too many keys or entries")]
    TooComplex {
        /// The outermost key.
        key: u32,
    },
    /// The addresses are not mapped.
    #[error(transparent)]
    Dma(#[from] DmaFault),
    /// UMR of a key that was not created for it.
    #[error("memory key {key:#x} has no umr_en")]
    NotForUmr {
        /// The key.
        key: u32,
    },
    /// A CHECK_FREE or CHECK_NOT_FREE that did not hold.
    #[error("UMR expected memory key {key:#x} to be {}, it is {}", free_word(!*.free), free_word(*.free))]
    CheckFailed {
        /// The key.
        key: u32,
        /// What it is.
        free: bool,
    },
    /// Entries beyond the key's list.
    #[error("UMR of {octowords} octowords at {offset} of memory key {key:#x}, which has {size}")]
    ListBounds {
        /// The key.
        key: u32,
        /// First octoword.
        offset: u64,
        /// Octowords to write.
        octowords: u32,
        /// Octowords of the key.
        size: u32,
    },
    /// A new list size above what the key was created with.
    #[error("UMR sets xlt_oct_size {size} of memory key {key:#x}, which was created with {capacity}")]
    ListSize {
        /// The key.
        key: u32,
        /// What was asked for.
        size: u32,
        /// What the key was created with.
        capacity: u32,
    },
    /// A mask bit that this device does not know, or a value that cannot be.
    #[error("UMR of memory key {key:#x}: mask {mask:#x} or the value that it selects is not supported")]
    Mask {
        /// The key.
        key: u32,
        /// The mask, or the bits of it that are wrong.
        mask: u64,
    },
}

fn free_word(free: bool) -> &'static str {
    if free { "free" } else { "not free" }
}

impl MkeyFault {
    /// `syndrome` and `vendor_err_synd` of the error CQE. Which syndrome hardware reports is not public; the vendor
    /// syndrome tells the cases apart.
    pub fn syndrome(&self) -> (CqeSyndrome, u8) {
        match self {
            MkeyFault::UnknownKey { .. } => (CqeSyndrome::LOCAL_PROT_ERR, 0x41),
            MkeyFault::Free { .. } => (CqeSyndrome::LOCAL_PROT_ERR, 0x42),
            MkeyFault::Access { .. } => (CqeSyndrome::LOCAL_PROT_ERR, 0x43),
            MkeyFault::ProtectionDomain { .. } => (CqeSyndrome::LOCAL_PROT_ERR, 0x44),
            MkeyFault::OutOfBounds { .. } => (CqeSyndrome::LOCAL_PROT_ERR, 0x45),
            MkeyFault::ListTooShort { .. } => (CqeSyndrome::LOCAL_PROT_ERR, 0x46),
            MkeyFault::Page { .. } => (CqeSyndrome::LOCAL_PROT_ERR, 0x47),
            MkeyFault::TooComplex { .. } => (CqeSyndrome::LOCAL_PROT_ERR, 0x48),
            MkeyFault::Dma(_) => (CqeSyndrome::LOCAL_PROT_ERR, 0x49),
            MkeyFault::NotForUmr { .. } => (CqeSyndrome::MW_BIND_ERR, 0x61),
            MkeyFault::CheckFailed { .. } => (CqeSyndrome::MW_BIND_ERR, 0x62),
            MkeyFault::ListBounds { .. } => (CqeSyndrome::MW_BIND_ERR, 0x63),
            MkeyFault::ListSize { .. } => (CqeSyndrome::MW_BIND_ERR, 0x64),
            MkeyFault::Mask { .. } => (CqeSyndrome::MW_BIND_ERR, 0x65),
        }
    }
}

#[cfg(test)]
mod tests;
