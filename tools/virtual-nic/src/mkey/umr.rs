//! User-mode memory registration: the work request that rewrites a key (`nvme-tcp-offload.md` §4.2, §4.7, §4.8).

use super::{Mkey, MkeyFault, Mkeys, Mode, Octoword, octowords};
use crate::dma::DmaSpace;
use crate::wqe::{Entries, FreeCheck, MkeyUmr};
use firmware_iface::context::Mkc;
use hw_regs::layout::{Access as _, Layout};
use hw_regs::wqe::WqeMkeySeg;

/// Bits of `mkey_mask`, from the least significant (`umr_mkey_mask`).
mod mask {
    pub(super) const LEN: u64 = 1 << 0;
    pub(super) const PAGE_SIZE: u64 = 1 << 1;
    pub(super) const XLT_OCT_SIZE: u64 = 1 << 2;
    pub(super) const START_ADDR: u64 = 1 << 6;
    pub(super) const PD: u64 = 1 << 7;
    pub(super) const KEY: u64 = 1 << 13;
    pub(super) const QPN: u64 = 1 << 14;
    pub(super) const LR: u64 = 1 << 17;
    pub(super) const LW: u64 = 1 << 18;
    pub(super) const RR: u64 = 1 << 19;
    pub(super) const RW: u64 = 1 << 20;
    pub(super) const A: u64 = 1 << 21;
    pub(super) const RELAXED_ORDERING_WRITE: u64 = 1 << 25;
    pub(super) const FREE: u64 = 1 << 29;
    pub(super) const PAGE_SIZE_5: u64 = 1 << 42;
    pub(super) const RELAXED_ORDERING_READ: u64 = 1 << 47;
    /// What this device changes; the relaxed-ordering bits have no effect on a model that orders everything.
    pub(super) const KNOWN: u64 = LEN
        | PAGE_SIZE
        | XLT_OCT_SIZE
        | START_ADDR
        | PD
        | KEY
        | QPN
        | LR
        | LW
        | RR
        | RW
        | A
        | RELAXED_ORDERING_WRITE
        | FREE
        | PAGE_SIZE_5
        | RELAXED_ORDERING_READ;
}

impl MkeyUmr<'_> {
    /// True if it takes the key's binding away.
    pub fn frees(&self) -> bool {
        self.mask & mask::FREE != 0 && self.segment.is_set(WqeMkeySeg::STATUS_FREE)
    }
}

impl Mkeys {
    /// Executes a UMR; `pd` is the protection domain of the send queue. Nothing changes unless everything can.
    pub fn umr(&mut self, umr: &MkeyUmr<'_>, pd: Option<u32>, dma: &DmaSpace) -> Result<(), MkeyFault> {
        let key = umr.key;
        let target = self.key(key)?;
        if !target.umr_en() {
            return Err(MkeyFault::NotForUmr { key });
        }
        if let Some(expected) = pd.filter(|pd| *pd != target.pd) {
            return Err(MkeyFault::ProtectionDomain { key, pd: target.pd, expected });
        }
        match umr.check {
            FreeCheck::Free if !target.free => return Err(MkeyFault::CheckFailed { key, free: false }),
            FreeCheck::NotFree if target.free => return Err(MkeyFault::CheckFailed { key, free: true }),
            _ => {}
        }
        let mkc = masked(target, umr)?;
        let count = match umr.entries {
            Entries::Inline(bytes) => (bytes.len() / 16) as u32,
            Entries::Memory { octowords, .. } => octowords,
        };
        // The new size counts: setup shrinks or grows the list and fills it in one WQE (§4.7).
        let size = mkc.get(Mkc::TRANSLATIONS_OCTWORD_SIZE);
        let bounds = MkeyFault::ListBounds { key, offset: umr.offset, octowords: count, size };
        let end = umr.offset.checked_add(u64::from(count)).ok_or(bounds)?;
        if count > 0 && (end > u64::from(size) || target.mode == Mode::Pa) {
            return Err(bounds);
        }
        let read;
        let list = match umr.entries {
            Entries::Inline(bytes) => bytes,
            Entries::Memory { lkey, va, bytes, .. } => {
                if u64::from(bytes) < u64::from(count) * 16 {
                    return Err(bounds);
                }
                let mut buffer = vec![0; count as usize * 16];
                self.read(lkey, va, &mut buffer, pd, dma)?;
                read = buffer;
                &read
            }
        };
        let generation = self.next_generation();
        let slot = self.slot(key >> 8).ok_or(MkeyFault::UnknownKey { key })?;
        let Some(target) = self.keys[slot].as_mut() else { return Err(MkeyFault::UnknownKey { key }) };
        let (was_bound, old_pd) = (target.is_bound(), target.pd);
        target.mkc = mkc;
        target.decode();
        target.generation = generation;
        // `end` is inside the list, so it fits; entries between were never written and are zero.
        let (from, to) = (umr.offset as usize, end as usize);
        if count > 0 {
            if target.entries.len() < to {
                target.entries.resize(to, Octoword::default());
            }
            target.entries[from..to].iter_mut().zip(octowords(list)).for_each(|(entry, new)| *entry = new);
        }
        let (is_bound, new_pd) = (target.is_bound(), target.pd);
        self.bound = self.bound - u32::from(was_bound) + u32::from(is_bound);
        if new_pd != old_pd {
            self.leave_pd(old_pd);
            *self.per_pd.entry(new_pd).or_default() += 1;
        }
        Ok(())
    }
}

/// The key's context with the masked attributes replaced.
fn masked(target: &Mkey, umr: &MkeyUmr<'_>) -> Result<Mkc, MkeyFault> {
    let unknown = umr.mask & !mask::KNOWN;
    if unknown != 0 {
        return Err(MkeyFault::Mask { key: umr.key, mask: unknown });
    }
    let (mut mkc, new) = (target.mkc, &umr.segment);
    let has = |bit: u64| umr.mask & bit != 0;
    if has(mask::LEN) {
        mkc.set_wide(Mkc::LEN, new.get_wide(WqeMkeySeg::LEN));
        mkc.set(Mkc::LENGTH64, 0);
    }
    if has(mask::START_ADDR) {
        mkc.set_wide(Mkc::START_ADDR, new.get_wide(WqeMkeySeg::START_ADDR));
    }
    if mkc.get_wide(Mkc::START_ADDR).checked_add(mkc.get_wide(Mkc::LEN)).is_none() {
        return Err(MkeyFault::Mask { key: umr.key, mask: umr.mask & (mask::LEN | mask::START_ADDR) });
    }
    if has(mask::PAGE_SIZE) || has(mask::PAGE_SIZE_5) {
        let shift = new.get(WqeMkeySeg::LOG2_PAGE_SIZE);
        if shift > Mkc::LOG_PAGE_SIZE.max() {
            return Err(MkeyFault::Mask { key: umr.key, mask: mask::PAGE_SIZE });
        }
        mkc.set(Mkc::LOG_PAGE_SIZE, shift);
    }
    if has(mask::XLT_OCT_SIZE) {
        let size = new.get(WqeMkeySeg::XLT_OCT_SIZE);
        if size > target.capacity {
            return Err(MkeyFault::ListSize { key: umr.key, size, capacity: target.capacity });
        }
        mkc.set(Mkc::TRANSLATIONS_OCTWORD_SIZE, size);
    }
    let bits = [
        (mask::FREE, Mkc::FREE, new.get(WqeMkeySeg::STATUS_FREE)),
        (mask::PD, Mkc::PD, new.get(WqeMkeySeg::FLAGS_PD_PD)),
        (mask::KEY, Mkc::MKEY_7_0, new.get(WqeMkeySeg::QPN_MKEY7_0_MKEY_7_0)),
        (mask::QPN, Mkc::QPN, new.get(WqeMkeySeg::QPN_MKEY7_0_QPN)),
        (mask::LR, Mkc::LR, new.get(WqeMkeySeg::FLAGS_LR)),
        (mask::LW, Mkc::LW, new.get(WqeMkeySeg::FLAGS_LW)),
        (mask::RR, Mkc::RR, new.get(WqeMkeySeg::FLAGS_RR)),
        (mask::RW, Mkc::RW, new.get(WqeMkeySeg::FLAGS_RW)),
        (mask::A, Mkc::A, new.get(WqeMkeySeg::FLAGS_ATOMIC)),
    ];
    for (_, field, value) in bits.into_iter().filter(|(bit, ..)| has(*bit)) {
        mkc.set(field, value);
    }
    Ok(mkc)
}

const _: () = assert!(WqeMkeySeg::SIZE == 64 && Mkc::SIZE == 64);
