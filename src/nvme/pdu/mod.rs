//! The nine NVMe/TCP PDUs (NVMe/TCP 3.6): their layouts, and what each field may hold.
//!
//! ```text
//! 0              8            HLEN        +4              PDO                PLEN-4   PLEN
//! | common header | rest of it | [HDGST]   | [padding]     | data             | [DDGST] |
//! ```
//!
//! A PDU is a plain structure that is its bytes ([`CommonHeader`], [`C2hData`] …). [`header_len`] looks at the common
//! header and says how many bytes to gather; [`Pdu::parse`] then checks every field against what is legal by itself. What
//! is legal in a context (is the CCCID known, does the data fit its command) is checked by the queue. Every refusal is a
//! [`FieldError`] that names PDU, field, place, value and what is allowed, and carries what a terminate request has to say.
//!
//! Tolerated although the specification asks for more: DATAO, DATAL, R2TO and R2TL that are not multiples of 4, and more
//! padding than the alignment needs; neither makes a PDU ambiguous. Reserved fields other than flags and PDO are ignored.

mod error;

pub use error::{Allowed, FatalStatus, FieldError};

use super::command::{Cqe, Sqe};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a digest.
pub const DIGEST_LEN: usize = 4;
/// Bytes of the longest header with its digest.
pub const HEADER_MAX: usize = 128 + DIGEST_LEN;
/// Bytes of the shortest header: what can be gathered before anything is known about a PDU.
pub const HEADER_MIN: usize = 24;
/// Bytes of the longest terminate request (NVMe/TCP 3.6.2.4).
pub const TERM_MAX: u32 = 152;

/// PDU types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PduType {
    /// Initialize Connection Request.
    IcReq = 0x00,
    /// Initialize Connection Response.
    IcResp = 0x01,
    /// Host to Controller Terminate Connection Request.
    H2cTermReq = 0x02,
    /// Controller to Host Terminate Connection Request.
    C2hTermReq = 0x03,
    /// Command Capsule.
    CapsuleCmd = 0x04,
    /// Response Capsule.
    CapsuleResp = 0x05,
    /// Host to Controller Data Transfer.
    H2cData = 0x06,
    /// Controller to Host Data Transfer.
    C2hData = 0x07,
    /// Ready to Transfer.
    R2t = 0x09,
}

/// What a type's header looks like.
struct Shape {
    hlen: u8,
    /// Flags that may be set; HDGSTF and DDGSTF follow from what was negotiated.
    flags: u8,
    header_digest: bool,
    data: bool,
}

impl PduType {
    /// From the first byte of a PDU.
    pub fn from_byte(byte: u8) -> Option<PduType> {
        use PduType::*;
        [IcReq, IcResp, H2cTermReq, C2hTermReq, CapsuleCmd, CapsuleResp, H2cData, C2hData, R2t]
            .into_iter()
            .find(|&t| t as u8 == byte)
    }

    /// The specification's name.
    pub const fn name(self) -> &'static str {
        match self {
            PduType::IcReq => "ICReq",
            PduType::IcResp => "ICResp",
            PduType::H2cTermReq => "H2CTermReq",
            PduType::C2hTermReq => "C2HTermReq",
            PduType::CapsuleCmd => "CapsuleCmd",
            PduType::CapsuleResp => "CapsuleResp",
            PduType::H2cData => "H2CData",
            PduType::C2hData => "C2HData",
            PduType::R2t => "R2T",
        }
    }

    const fn shape(self) -> Shape {
        use PduType::*;
        match self {
            IcReq | IcResp => Shape { hlen: 128, flags: 0, header_digest: false, data: false },
            H2cTermReq | C2hTermReq => Shape { hlen: 24, flags: 0, header_digest: false, data: false },
            CapsuleCmd => Shape { hlen: 72, flags: flags::HDGST | flags::DDGST, header_digest: true, data: true },
            CapsuleResp | R2t => Shape { hlen: 24, flags: flags::HDGST, header_digest: true, data: false },
            H2cData => {
                Shape { hlen: 24, flags: flags::HDGST | flags::DDGST | flags::LAST, header_digest: true, data: true }
            }
            C2hData => Shape {
                hlen: 24,
                flags: flags::HDGST | flags::DDGST | flags::LAST | flags::SUCCESS,
                header_digest: true,
                data: true,
            },
        }
    }
}

/// Bits of the FLAGS byte.
pub mod flags {
    /// HDGSTF: a header digest follows the header.
    pub const HDGST: u8 = 0x01;
    /// DDGSTF: a data digest follows the data.
    pub const DDGST: u8 = 0x02;
    /// LAST_PDU: no more data for this command, or this R2T.
    pub const LAST: u8 = 0x04;
    /// SUCCESS: the command succeeded and no response capsule follows.
    pub const SUCCESS: u8 = 0x08;
}

/// Bits of the DGST byte of ICReq and ICResp.
pub mod digest_option {
    /// Header digests.
    pub const HEADER: u8 = 0x01;
    /// Data digests.
    pub const DATA: u8 = 0x02;

    /// The byte that asks for these.
    pub const fn byte(header: bool, data: bool) -> u8 {
        header as u8 | (data as u8) << 1
    }
}

/// What the connection's two ends agreed on, which decides what a PDU looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Negotiated {
    /// Every header but those of ICReq, ICResp and terminate requests has a digest.
    pub header_digest: bool,
    /// Every PDU with data has a data digest.
    pub data_digest: bool,
    /// HPDA: data of C2HData starts at a multiple of `4 * (hpda + 1)` bytes.
    pub hpda: u8,
    /// CPDA: the same for CapsuleCmd and H2CData.
    pub cpda: u8,
}

macro_rules! wire {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $vis:vis $field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        pub struct $name { $($(#[$field_doc])* $vis $field: $ty,)* }
    };
}

wire! {
    /// What every PDU starts with (NVMe/TCP 3.6.1), 8 bytes.
    CommonHeader {
        /// PDU-Type; see [`PduType`].
        pub pdu_type: u8,
        /// FLAGS; see [`flags`].
        pub flags: u8,
        /// HLEN: bytes of the header without its digest.
        pub hlen: u8,
        /// PDO: where the data starts, from the start of the PDU; 0 without data.
        pub pdo: u8,
        /// PLEN: bytes of the whole PDU.
        pub plen: U32,
    }
}

wire! {
    /// ICReq (NVMe/TCP 3.6.2.2), 128 bytes.
    IcReq {
        /// Common header.
        pub common: CommonHeader,
        /// PFV: version of the PDU format, 0.
        pub pfv: U16,
        /// HPDA: alignment of data to the host, dwords minus 1, at most 31.
        pub hpda: u8,
        /// DGST: digests asked for.
        pub dgst: u8,
        /// MAXR2T: R2Ts that may be outstanding per command, minus 1.
        pub maxr2t: U32,
        reserved: [u8; 112],
    }
}

wire! {
    /// ICResp (NVMe/TCP 3.6.2.3), 128 bytes.
    IcResp {
        /// Common header.
        pub common: CommonHeader,
        /// PFV: version of the PDU format, 0.
        pub pfv: U16,
        /// CPDA: alignment of data to the controller, dwords minus 1, at most 31.
        pub cpda: u8,
        /// DGST: digests granted.
        pub dgst: u8,
        /// MAXH2CDATA: most bytes of data per H2CData; a multiple of 4, at least 4096.
        pub maxh2cdata: U32,
        reserved: [u8; 112],
    }
}

wire! {
    /// H2CTermReq and C2HTermReq (NVMe/TCP 3.6.2.4, 3.6.2.5), 24 bytes; the header at fault follows.
    TermReq {
        /// Common header.
        pub common: CommonHeader,
        /// FES: fatal error status.
        pub fes: U16,
        /// FEI: a byte offset or the received digest, by FES.
        pub fei: U32,
        reserved: [u8; 10],
    }
}

wire! {
    /// CapsuleCmd (NVMe/TCP 3.6.2.6), 72 bytes.
    CapsuleCmd {
        /// Common header.
        pub common: CommonHeader,
        /// The command.
        pub sqe: Sqe,
    }
}

wire! {
    /// CapsuleResp (NVMe/TCP 3.6.2.7), 24 bytes.
    CapsuleResp {
        /// Common header.
        pub common: CommonHeader,
        /// The completion.
        pub cqe: Cqe,
    }
}

wire! {
    /// H2CData (NVMe/TCP 3.6.2.8), 24 bytes.
    H2cData {
        /// Common header.
        pub common: CommonHeader,
        /// CCCID: the command.
        pub cccid: U16,
        /// TTAG: from the R2T.
        pub ttag: U16,
        /// DATAO: where in the command's data this starts.
        pub datao: U32,
        /// DATAL: bytes.
        pub datal: U32,
        reserved: [u8; 4],
    }
}

wire! {
    /// C2HData (NVMe/TCP 3.6.2.9), 24 bytes.
    C2hData {
        /// Common header.
        pub common: CommonHeader,
        /// CCCID: the command; what the device calls the tag.
        pub cccid: U16,
        reserved10: [u8; 2],
        /// DATAO: where in the command's data this starts.
        pub datao: U32,
        /// DATAL: bytes.
        pub datal: U32,
        reserved20: [u8; 4],
    }
}

wire! {
    /// R2T (NVMe/TCP 3.6.2.10), 24 bytes.
    R2t {
        /// Common header.
        pub common: CommonHeader,
        /// CCCID: the command.
        pub cccid: U16,
        /// TTAG: to be returned in the H2CData.
        pub ttag: U16,
        /// R2TO: where in the command's data the controller wants to start.
        pub r2to: U32,
        /// R2TL: how many bytes it wants.
        pub r2tl: U32,
        reserved: [u8; 4],
    }
}

/// Common header of a PDU of `pdu_type` without data.
fn common(pdu_type: PduType, negotiated: &Negotiated) -> CommonHeader {
    let shape = pdu_type.shape();
    let digest = negotiated.header_digest && shape.header_digest;
    CommonHeader {
        pdu_type: pdu_type as u8,
        flags: if digest { flags::HDGST } else { 0 },
        hlen: shape.hlen,
        pdo: 0,
        plen: (u32::from(shape.hlen) + if digest { DIGEST_LEN as u32 } else { 0 }).into(),
    }
}

/// The same with `len` bytes of data to the controller. PLEN saturates: callers cut data into PDUs far shorter.
fn common_with_data(pdu_type: PduType, negotiated: &Negotiated, len: u32) -> CommonHeader {
    let mut header = common(pdu_type, negotiated);
    let align = alignment(negotiated.cpda);
    // 76 bytes at most before the data and 128 at most for the alignment: PDO stays within its byte.
    let pdo = header.plen.get().next_multiple_of(align);
    header.pdo = pdo as u8;
    let digest = if negotiated.data_digest { DIGEST_LEN as u32 } else { 0 };
    header.flags |= if negotiated.data_digest { flags::DDGST } else { 0 };
    header.plen = len.saturating_add(pdo + digest).into();
    header
}

fn alignment(pda: u8) -> u32 {
    4 * (u32::from(pda & 31) + 1)
}

impl IcReq {
    /// Asks for digests, with data to the host aligned by `hpda` and one R2T at a time.
    pub fn new(hpda: u8, header_digest: bool, data_digest: bool) -> IcReq {
        let dgst = digest_option::byte(header_digest, data_digest);
        let common = common(PduType::IcReq, &Negotiated::default());
        IcReq { common, pfv: 0.into(), hpda, dgst, maxr2t: 0.into(), reserved: [0; 112] }
    }
}

impl CapsuleCmd {
    /// A command with `data_len` bytes of data in the capsule.
    pub fn new(sqe: Sqe, data_len: u32, negotiated: &Negotiated) -> CapsuleCmd {
        let common = match data_len {
            0 => common(PduType::CapsuleCmd, negotiated),
            len => common_with_data(PduType::CapsuleCmd, negotiated, len),
        };
        CapsuleCmd { common, sqe }
    }
}

impl H2cData {
    /// `datal` bytes at `datao` of the data of command `cccid`, asked for with `ttag`.
    pub fn new(cccid: u16, ttag: u16, datao: u32, datal: u32, last: bool, negotiated: &Negotiated) -> H2cData {
        let mut common = common_with_data(PduType::H2cData, negotiated, datal);
        common.flags |= if last { flags::LAST } else { 0 };
        H2cData {
            common,
            cccid: cccid.into(),
            ttag: ttag.into(),
            datao: datao.into(),
            datal: datal.into(),
            reserved: [0; 4],
        }
    }
}

impl TermReq {
    /// H2CTermReq about a header of `header_len` bytes, which follows it (at most 128).
    pub fn h2c(fes: FatalStatus, fei: u32, header_len: usize) -> TermReq {
        let mut common = common(PduType::H2cTermReq, &Negotiated::default());
        common.plen = (HEADER_MIN as u32 + header_len as u32).into();
        TermReq { common, fes: (fes as u16).into(), fei: fei.into(), reserved: [0; 10] }
    }
}

impl C2hData {
    /// True if no more data follows for the command.
    pub fn is_last(&self) -> bool {
        self.common.flags & flags::LAST != 0
    }

    /// True if the command has succeeded with this PDU.
    pub fn is_success(&self) -> bool {
        self.common.flags & flags::SUCCESS != 0
    }
}

/// A PDU whose fields are legal by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pdu {
    /// ICReq.
    IcReq(IcReq),
    /// ICResp.
    IcResp(IcResp),
    /// H2CTermReq.
    H2cTermReq(TermReq),
    /// C2HTermReq.
    C2hTermReq(TermReq),
    /// CapsuleCmd.
    CapsuleCmd(CapsuleCmd),
    /// CapsuleResp.
    CapsuleResp(CapsuleResp),
    /// H2CData.
    H2cData(H2cData),
    /// C2HData.
    C2hData(C2hData),
    /// R2T.
    R2t(R2t),
}

/// Bytes to gather before [`Pdu::parse`]: header and header digest. Looks at PDU-Type, HLEN and HDGSTF only.
pub fn header_len(header: &CommonHeader, negotiated: &Negotiated) -> Result<usize, FieldError> {
    let Some(pdu_type) = PduType::from_byte(header.pdu_type) else {
        let allowed = Allowed::Text("0x0 to 0x7 or 0x9");
        return Err(FieldError::new("unknown", "PDU-Type", 0, header.pdu_type.into(), allowed));
    };
    let (name, shape) = (pdu_type.name(), pdu_type.shape());
    if header.hlen != shape.hlen {
        return Err(FieldError::new(name, "HLEN", 2, header.hlen.into(), Allowed::Exactly(shape.hlen.into())));
    }
    let digest = negotiated.header_digest && shape.header_digest;
    if (header.flags & flags::HDGST != 0) != digest {
        let allowed = Allowed::Text(if digest { "HDGSTF (bit 0) set" } else { "HDGSTF (bit 0) clear" });
        return Err(FieldError::new(name, "FLAGS", 1, header.flags.into(), allowed));
    }
    Ok(usize::from(shape.hlen) + if digest { DIGEST_LEN } else { 0 })
}

impl Pdu {
    /// Checks and takes apart a header of the length that [`header_len`] returned, digest included but not looked at.
    pub fn parse(header: &[u8], negotiated: &Negotiated) -> Result<Pdu, FieldError> {
        let Ok((common, _)) = CommonHeader::ref_from_prefix(header) else {
            return Err(short("PDU", 8, header));
        };
        let len = header_len(common, negotiated)?;
        let Some(pdu_type) = PduType::from_byte(common.pdu_type).filter(|_| header.len() >= len) else {
            return Err(short("PDU", len, header));
        };
        check_lengths(pdu_type, common, len as u32, negotiated)?;
        Ok(match pdu_type {
            PduType::IcReq => {
                let pdu: IcReq = read(header)?;
                check_initialization(pdu_type.name(), pdu.pfv.get(), "HPDA", pdu.hpda, pdu.dgst)?;
                Pdu::IcReq(pdu)
            }
            PduType::IcResp => {
                let pdu: IcResp = read(header)?;
                check_initialization(pdu_type.name(), pdu.pfv.get(), "CPDA", pdu.cpda, pdu.dgst)?;
                let max = pdu.maxh2cdata.get();
                if max < 4096 || !max.is_multiple_of(4) {
                    let allowed = Allowed::Text("a multiple of 4, at least 4096");
                    return Err(FieldError::new("ICResp", "MAXH2CDATA", 12, max.into(), allowed));
                }
                Pdu::IcResp(pdu)
            }
            PduType::H2cTermReq => Pdu::H2cTermReq(read(header)?),
            PduType::C2hTermReq => Pdu::C2hTermReq(read(header)?),
            PduType::CapsuleCmd => Pdu::CapsuleCmd(read(header)?),
            PduType::CapsuleResp => Pdu::CapsuleResp(read(header)?),
            PduType::H2cData => {
                let pdu: H2cData = read(header)?;
                check_data(pdu_type, common, negotiated, pdu.datal.get())?;
                Pdu::H2cData(pdu)
            }
            PduType::C2hData => {
                let pdu: C2hData = read(header)?;
                check_data(pdu_type, common, negotiated, pdu.datal.get())?;
                if pdu.is_success() && !pdu.is_last() {
                    let allowed = Allowed::Text("SUCCESS (bit 3) only together with LAST_PDU (bit 2)");
                    return Err(FieldError::new("C2HData", "FLAGS", 1, common.flags.into(), allowed));
                }
                Pdu::C2hData(pdu)
            }
            PduType::R2t => {
                let pdu: R2t = read(header)?;
                if pdu.r2tl.get() == 0 {
                    return Err(FieldError::new("R2T", "R2TL", 16, 0, Allowed::AtLeast(1)));
                }
                Pdu::R2t(pdu)
            }
        })
    }

    /// Its type.
    pub fn pdu_type(&self) -> PduType {
        match self {
            Pdu::IcReq(_) => PduType::IcReq,
            Pdu::IcResp(_) => PduType::IcResp,
            Pdu::H2cTermReq(_) => PduType::H2cTermReq,
            Pdu::C2hTermReq(_) => PduType::C2hTermReq,
            Pdu::CapsuleCmd(_) => PduType::CapsuleCmd,
            Pdu::CapsuleResp(_) => PduType::CapsuleResp,
            Pdu::H2cData(_) => PduType::H2cData,
            Pdu::C2hData(_) => PduType::C2hData,
            Pdu::R2t(_) => PduType::R2t,
        }
    }
}

#[cold]
fn short(name: &'static str, expected: usize, header: &[u8]) -> FieldError {
    FieldError::new(name, "header", 0, header.len() as u64, Allowed::AtLeast(expected as u64))
}

fn read<T: FromBytes + KnownLayout + Immutable>(header: &[u8]) -> Result<T, FieldError> {
    T::read_from_prefix(header).map(|(pdu, _)| pdu).map_err(|_| short("PDU", size_of::<T>(), header))
}

/// FLAGS, PDO and PLEN, as far as they follow from the type. `header` includes the header digest.
fn check_lengths(
    pdu_type: PduType,
    common: &CommonHeader,
    header: u32,
    negotiated: &Negotiated,
) -> Result<(), FieldError> {
    let (name, shape, plen) = (pdu_type.name(), pdu_type.shape(), common.plen.get());
    let error = |field, offset, value: u64, allowed| Err(FieldError::new(name, field, offset, value, allowed));
    if common.flags & !shape.flags != 0 {
        return error("FLAGS", 1, common.flags.into(), Allowed::Mask(shape.flags));
    }
    if matches!(pdu_type, PduType::H2cTermReq | PduType::C2hTermReq) {
        return match plen {
            // PDO is not looked at: peers differ, and the connection ends either way.
            24..=TERM_MAX => Ok(()),
            _ => error("PLEN", 4, plen.into(), Allowed::Between(24, TERM_MAX.into())),
        };
    }
    let has_data = shape.data && (pdu_type != PduType::CapsuleCmd || plen != header);
    if !has_data {
        if common.pdo != 0 {
            return error("PDO", 3, common.pdo.into(), Allowed::Exactly(0));
        }
        if common.flags & flags::DDGST != 0 {
            return error("FLAGS", 1, common.flags.into(), Allowed::Text("DDGSTF (bit 1) only with data"));
        }
        if plen != header {
            return error("PLEN", 4, plen.into(), Allowed::Exactly(header.into()));
        }
        return Ok(());
    }
    if (common.flags & flags::DDGST != 0) != negotiated.data_digest {
        let text = if negotiated.data_digest { "DDGSTF (bit 1) set" } else { "DDGSTF (bit 1) clear" };
        return error("FLAGS", 1, common.flags.into(), Allowed::Text(text));
    }
    let align = alignment(if pdu_type == PduType::C2hData { negotiated.hpda } else { negotiated.cpda });
    if u32::from(common.pdo) < header || !u32::from(common.pdo).is_multiple_of(align) {
        return error("PDO", 3, common.pdo.into(), Allowed::MultipleFrom(align.into(), header.into()));
    }
    let least = u32::from(common.pdo) + 1 + if negotiated.data_digest { DIGEST_LEN as u32 } else { 0 };
    if plen < least {
        return error("PLEN", 4, plen.into(), Allowed::AtLeast(least.into()));
    }
    Ok(())
}

/// DATAL against PLEN.
fn check_data(pdu_type: PduType, common: &CommonHeader, negotiated: &Negotiated, datal: u32) -> Result<(), FieldError> {
    if datal == 0 {
        return Err(FieldError::new(pdu_type.name(), "DATAL", 16, 0, Allowed::AtLeast(1)));
    }
    let digest = if negotiated.data_digest { DIGEST_LEN as u64 } else { 0 };
    let expected = u64::from(common.pdo) + u64::from(datal) + digest;
    if u64::from(common.plen.get()) != expected {
        let error = FieldError::new(pdu_type.name(), "PLEN", 4, common.plen.get().into(), Allowed::Exactly(expected));
        return Err(error);
    }
    Ok(())
}

fn check_initialization(
    name: &'static str,
    pfv: u16,
    alignment: &'static str,
    pda: u8,
    dgst: u8,
) -> Result<(), FieldError> {
    if pfv != 0 {
        let error = FieldError::new(name, "PFV", 8, pfv.into(), Allowed::Exactly(0));
        return Err(error.with_status(FatalStatus::UnsupportedParameter));
    }
    if pda > 31 {
        return Err(FieldError::new(name, alignment, 10, pda.into(), Allowed::Between(0, 31)));
    }
    if dgst & !(digest_option::HEADER | digest_option::DATA) != 0 {
        return Err(FieldError::new(name, "DGST", 11, dgst.into(), Allowed::Mask(3)));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
