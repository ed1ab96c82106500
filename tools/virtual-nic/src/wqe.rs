//! Control work requests of an ICOSQ: the bytes of a WQE become a typed operation, or an error that names what is wrong
//! (`nvme-tcp-offload.md` §4).
//!
//! ```text
//!  0      16                64            128
//!  | ctrl | UMR control     | mkey        | inline entries (KLM, MTT) or static parameters (64)   opcode 0x25
//!  | ctrl | progress parameters                                                                  opcode 0x20
//!  | ctrl |                                                                                      opcode 0x00
//! ```
//!
//! SEND and its kin are not parsed here: they belong to the send queue. The caller gathers the WQE's bytes, as many as its
//! `ds` field says, in one piece (a WQE never wraps, `nvme-tcp-offload.md` §4).

use hw_regs::cqe::CqeSyndrome;
use hw_regs::layout::{Access, Layout};
use hw_regs::wqe::{ProgressParams, StaticParams, WqeCtrlSeg, WqeDataSeg, WqeMkeySeg, WqeOpcode, WqeUmrCtrlSeg};

/// Bytes of the control segment.
const CTRL: usize = WqeCtrlSeg::SIZE;
/// Where a UMR's mkey segment begins.
const MKEY: usize = CTRL + WqeUmrCtrlSeg::SIZE;
/// Where a UMR's entries begin.
const ENTRIES: usize = MKEY + WqeMkeySeg::SIZE;
/// Bytes of a KLM, and of the octoword that translation entries are counted in.
const OCTOWORD: usize = 16;

/// `opmod` of a UMR WQE (`nvme-tcp-offload.md` §4.1).
mod umr_opmod {
    pub(super) const MKEY: u32 = 0;
    pub(super) const TIR_STATIC: u32 = 2;
}
/// `opmod` of a SET_PSV WQE that carries NVMe/TCP progress parameters of a TIR.
const PSV_NVME_TIR: u32 = 4;
/// `acc_type` of NVMe/TCP static parameters (`nvme-tcp-offload.md` §4.4).
const ACC_TYPE_NVME_TCP: u32 = 2;

/// A parsed control WQE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlWqe<'a> {
    /// Producer counter in WQEBBs, as the driver wrote it.
    pub index: u16,
    /// Send queue number, as the driver wrote it.
    pub sqn: u32,
    /// Size in 16-byte segments.
    pub ds: u32,
    /// When a CQE is asked for: bits 3:2 of `fm_ce_se`; 2 = always, 0 = on error only.
    pub completion: u32,
    /// What is to be done.
    pub operation: Operation<'a>,
}

impl ControlWqe<'_> {
    /// True if a successful completion makes a CQE.
    pub fn signalled(&self) -> bool {
        self.completion & 2 != 0
    }

    /// 64-byte basic blocks that the WQE takes in the ring.
    pub fn basic_blocks(&self) -> u32 {
        self.ds.div_ceil(4)
    }
}

/// What a control WQE asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Nothing; completes like any other.
    Nop,
    /// Change a memory key: translation entries, attributes, free or not (§4.7, §4.8).
    Umr(MkeyUmr<'a>),
    /// Fill entries of the tag buffer table of a TIR (§4.5).
    TagFill(TagFill<'a>),
    /// Static parameters of the offload context of a TIR (§4.4).
    Static {
        /// TIR number.
        tirn: u32,
        /// The parameters; constants and type were checked.
        params: StaticParams,
    },
    /// Progress parameters of the offload context of a TIR (§4.6).
    Progress {
        /// TIR number.
        tirn: u32,
        /// The parameters.
        params: ProgressParams,
    },
}

/// A UMR of a memory key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MkeyUmr<'a> {
    /// Full key: index << 8 | variant.
    pub key: u32,
    /// What the key's state must be before.
    pub check: FreeCheck,
    /// First translation entry to write, in octowords.
    pub offset: u64,
    /// Where the entries are.
    pub entries: Entries<'a>,
    /// Which attributes of `segment` to take; bit numbers from the least significant bit.
    pub mask: u64,
    /// New attributes.
    pub segment: WqeMkeySeg,
}

/// `CHECK_FREE` and `CHECK_NOT_FREE` of a UMR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeCheck {
    /// Any state.
    None,
    /// The key must be free.
    Free,
    /// The key must not be free.
    NotFree,
}

/// Translation entries of a UMR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entries<'a> {
    /// In the WQE: whole octowords.
    Inline(&'a [u8]),
    /// In memory: `octowords` of them at `va` of the memory key `lkey`.
    Memory {
        /// Memory key.
        lkey: u32,
        /// Address in it.
        va: u64,
        /// Bytes that the data segment names.
        bytes: u32,
        /// Octowords to take.
        octowords: u32,
    },
}

/// A fill of tag buffer table entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagFill<'a> {
    /// TIR whose table is filled.
    pub tirn: u32,
    /// First tag.
    pub first: u64,
    /// KLM-shaped entries {length check, tag mkey, base address}: whole octowords.
    pub entries: &'a [u8],
}

/// Why a WQE was not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WqeFault {
    /// `ds` does not fit what the WQE must hold.
    #[error("{opcode}: a size of {ds} DS, but {needed} are needed")]
    Size {
        /// Opcode.
        opcode: WqeOpcode,
        /// What the control segment says.
        ds: u32,
        /// What it would have to be.
        needed: u32,
    },
    /// No such operation on this queue.
    #[error("{opcode} with opmod {opmod} is no control operation")]
    Opcode {
        /// Opcode.
        opcode: WqeOpcode,
        /// Opcode modifier.
        opmod: u32,
    },
    /// `general_id` of a TIR operation is not a TIR number shifted by 8, or a progress segment's number has more than 24
    /// bits.
    #[error("{value:#x} does not name a TIR")]
    TirNumber {
        /// The field.
        value: u32,
    },
    /// Both or undefined bits of the free check.
    #[error("UMR flags {flags:#04x} make no sense")]
    Flags {
        /// The flags byte.
        flags: u32,
    },
    /// Translation entries that are not a multiple of four octowords, or begin at none.
    #[error("UMR of {octowords} octowords at {offset}: both must be multiples of 4")]
    Alignment {
        /// `xlt_octowords`.
        octowords: u32,
        /// `xlt_offset`.
        offset: u64,
    },
    /// A constant of the static parameters is wrong, or `bsf_octowords` is not 4.
    #[error("static parameters: {field} is {value}, must be {must_be}")]
    StaticParams {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: u32,
        /// What the reference demands.
        must_be: u32,
    },
}

impl WqeFault {
    /// `syndrome` and `vendor_err_synd` of the error CQE. Which syndrome hardware reports is not public; the vendor
    /// syndrome tells the cases apart.
    pub fn syndrome(&self) -> (CqeSyndrome, u8) {
        let vendor = match self {
            WqeFault::Size { .. } => 0x01,
            WqeFault::Opcode { .. } => 0x02,
            WqeFault::TirNumber { .. } => 0x03,
            WqeFault::Flags { .. } => 0x04,
            WqeFault::Alignment { .. } => 0x05,
            WqeFault::StaticParams { .. } => 0x06,
        };
        (CqeSyndrome::LOCAL_QP_OP_ERR, vendor)
    }
}

/// Opcode of a WQE whose first bytes are `bytes`.
pub fn opcode(bytes: &[u8]) -> WqeOpcode {
    WqeOpcode(WqeCtrlSeg::from_prefix(bytes).get(WqeCtrlSeg::OPMOD_IDX_OPCODE_OPCODE) as u8)
}

/// Parses a control WQE from its bytes; `bytes` holds at least `ds` segments.
pub fn parse(bytes: &[u8]) -> Result<ControlWqe<'_>, WqeFault> {
    let ctrl = WqeCtrlSeg::from_prefix(bytes);
    let ds = ctrl.get(WqeCtrlSeg::QPN_DS_DS);
    let opcode = WqeOpcode(ctrl.get(WqeCtrlSeg::OPMOD_IDX_OPCODE_OPCODE) as u8);
    let opmod = ctrl.get(WqeCtrlSeg::OPMOD_IDX_OPCODE_OPMOD);
    // Everything below reads inside `ds` segments that are really there.
    let size = |needed: u32| WqeFault::Size { opcode, ds, needed };
    let present = (bytes.len() / OCTOWORD) as u32;
    if ds == 0 || ds > present {
        return Err(size(present.max(1)));
    }
    let wqe = &bytes[..ds as usize * OCTOWORD];
    let exactly = |needed: usize| {
        let needed = needed.div_ceil(OCTOWORD) as u32;
        if ds == needed { Ok(()) } else { Err(size(needed)) }
    };
    let id = ctrl.get(WqeCtrlSeg::IMM);
    let operation = match (opcode, opmod) {
        (WqeOpcode::NOP, _) => Operation::Nop,
        (WqeOpcode::UMR, umr_opmod::MKEY) => Operation::Umr(parse_mkey_umr(wqe, id, size)?),
        (WqeOpcode::UMR, umr_opmod::TIR_STATIC) => parse_tir_umr(wqe, id, size)?,
        (WqeOpcode::SET_PSV, PSV_NVME_TIR) => {
            exactly(CTRL + OCTOWORD)?;
            // The segment's first word is the TIR number, not shifted, then the context (§4.6).
            let segment = &wqe[CTRL..];
            let tirn = u32::from_be_bytes([segment[0], segment[1], segment[2], segment[3]]);
            if tirn >> 24 != 0 {
                return Err(WqeFault::TirNumber { value: tirn });
            }
            Operation::Progress { tirn, params: ProgressParams::from_prefix(&segment[4..]) }
        }
        _ => return Err(WqeFault::Opcode { opcode, opmod }),
    };
    Ok(ControlWqe {
        index: ctrl.get(WqeCtrlSeg::OPMOD_IDX_OPCODE_WQE_INDEX) as u16,
        sqn: ctrl.get(WqeCtrlSeg::QPN_DS_QPN),
        ds,
        completion: ctrl.get(WqeCtrlSeg::FM_CE_SE_COMPLETION_MODE),
        operation,
    })
}

/// The UMR control segment, and its offset in octowords (0 unless the flag says that there is one).
fn umr_control(wqe: &[u8], size: impl Fn(u32) -> WqeFault) -> Result<(WqeUmrCtrlSeg, u64), WqeFault> {
    if wqe.len() < ENTRIES {
        return Err(size((ENTRIES / OCTOWORD) as u32));
    }
    let umr = WqeUmrCtrlSeg::from_prefix(&wqe[CTRL..]);
    let offset = match umr.is_set(WqeUmrCtrlSeg::FLAGS_TRANSLATION_OFFSET_EN) {
        true => {
            u64::from(umr.get(WqeUmrCtrlSeg::XLT_OFFSET_47_16)) << 16 | u64::from(umr.get(WqeUmrCtrlSeg::XLT_OFFSET))
        }
        false => 0,
    };
    let octowords = umr.get(WqeUmrCtrlSeg::XLT_OCTOWORDS);
    if !octowords.is_multiple_of(4) || !offset.is_multiple_of(4) {
        return Err(WqeFault::Alignment { octowords, offset });
    }
    Ok((umr, offset))
}

/// The inline entries of a UMR, which must be exactly what is left of the WQE.
fn inline_entries(wqe: &[u8], octowords: u32, size: impl Fn(u32) -> WqeFault) -> Result<&[u8], WqeFault> {
    let entries = &wqe[ENTRIES..];
    match entries.len() == octowords as usize * OCTOWORD {
        true => Ok(entries),
        false => Err(size((ENTRIES / OCTOWORD) as u32 + octowords)),
    }
}

fn parse_mkey_umr<'a>(wqe: &'a [u8], key: u32, size: impl Fn(u32) -> WqeFault + Copy) -> Result<MkeyUmr<'a>, WqeFault> {
    let (umr, offset) = umr_control(wqe, size)?;
    let check = match umr.get(WqeUmrCtrlSeg::FLAGS_CHECK_MODE_2FREE_1NOTFREE) {
        0 => FreeCheck::None,
        1 => FreeCheck::NotFree,
        2 => FreeCheck::Free,
        _ => return Err(WqeFault::Flags { flags: umr.get(WqeUmrCtrlSeg::FLAGS) }),
    };
    let octowords = umr.get(WqeUmrCtrlSeg::XLT_OCTOWORDS);
    let entries = if umr.is_set(WqeUmrCtrlSeg::FLAGS_INLINE) || octowords == 0 {
        Entries::Inline(inline_entries(wqe, octowords, size)?)
    } else {
        let needed = ENTRIES + WqeDataSeg::SIZE;
        if wqe.len() != needed {
            return Err(size((needed / OCTOWORD) as u32));
        }
        let data = WqeDataSeg::from_prefix(&wqe[ENTRIES..]);
        Entries::Memory {
            lkey: data.get(WqeDataSeg::LKEY),
            va: data.get_wide(WqeDataSeg::ADDR),
            bytes: data.get(WqeDataSeg::BYTE_COUNT_LENGTH),
            octowords,
        }
    };
    let segment = WqeMkeySeg::from_prefix(&wqe[MKEY..]);
    Ok(MkeyUmr { key, check, offset, entries, mask: umr.get_wide(WqeUmrCtrlSeg::MKEY_MASK), segment })
}

/// UMR with opmod 2: a translation offset means a tag table fill (§4.5), none means static parameters (§4.4).
fn parse_tir_umr<'a>(wqe: &'a [u8], id: u32, size: impl Fn(u32) -> WqeFault + Copy) -> Result<Operation<'a>, WqeFault> {
    if wqe.len() < ENTRIES {
        return Err(size((ENTRIES / OCTOWORD) as u32));
    }
    let umr = WqeUmrCtrlSeg::from_prefix(&wqe[CTRL..]);
    let fill = umr.is_set(WqeUmrCtrlSeg::FLAGS_TRANSLATION_OFFSET_EN);
    if !umr.is_set(WqeUmrCtrlSeg::FLAGS_INLINE) {
        return Err(WqeFault::Flags { flags: umr.get(WqeUmrCtrlSeg::FLAGS) });
    }
    if id & 0xff != 0 {
        return Err(WqeFault::TirNumber { value: id });
    }
    let tirn = id >> 8;
    if fill {
        let (umr, first) = umr_control(wqe, size)?;
        let octowords = umr.get(WqeUmrCtrlSeg::XLT_OCTOWORDS);
        return Ok(Operation::TagFill(TagFill { tirn, first, entries: inline_entries(wqe, octowords, size)? }));
    }
    if wqe.len() != ENTRIES + StaticParams::SIZE {
        return Err(size(((ENTRIES + StaticParams::SIZE) / OCTOWORD) as u32));
    }
    let params = StaticParams::from_prefix(&wqe[ENTRIES..]);
    let must = |field: &'static str, value: u32, must_be: u32| match value == must_be {
        true => Ok(()),
        false => Err(WqeFault::StaticParams { field, value, must_be }),
    };
    must("bsf_octowords", umr.get(WqeUmrCtrlSeg::XLT_OFFSET), 4)?;
    must("const_2", params.get(StaticParams::CONST_2), 2)?;
    must("const_1", params.get(StaticParams::CONST_1), 1)?;
    must("tls_version", params.get(StaticParams::TLS_VERSION), 0)?;
    must("cccid_ttag", params.get(StaticParams::CCCID_TTAG), 1)?;
    must("acc_type", params.get(StaticParams::ACC_TYPE), ACC_TYPE_NVME_TCP)?;
    Ok(Operation::Static { tirn, params })
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod vectors;
