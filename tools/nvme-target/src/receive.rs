//! The receiving side of a connection: the host's byte stream becomes checked PDUs.
//!
//! A PDU is taken in three steps, and each one is checked before the next is asked for, so that no value of the host makes
//! the target wait for, or keep, more than one PDU of the size that it allowed: the common header; the rest of the header
//! with its digest; padding, data and data digest.

use crate::errors::Reason;
use crate::pdu::{CH, Common, DIGEST, IC_LEN, PduType, TERM_DATA, TERM_HLEN, crc32c, flag, u32_at};

/// What the connection allows at this point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// True until ICReq came: nothing else may come.
    pub(crate) initializing: bool,
    pub(crate) header_digest: bool,
    pub(crate) data_digest: bool,
    /// Alignment of payload, bytes: 4 × (CPDA + 1).
    pub(crate) align: usize,
    /// Data bytes of a command capsule.
    pub(crate) capsule_limit: u32,
    /// Data bytes of an H2CData PDU.
    pub(crate) h2c_limit: u32,
}

/// A PDU whose common header was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) kind: PduType,
    pub(crate) flags: u8,
    /// Bytes of the header without digest.
    pub(crate) hlen: usize,
    /// Bytes of the header with digest.
    pub(crate) head: usize,
    /// Where the data are in the PDU, and how many; 0 bytes if there are none.
    pub(crate) data: usize,
    pub(crate) data_len: usize,
    /// True if a data digest follows the data.
    pub(crate) data_digest: bool,
    /// Bytes of the whole PDU.
    pub(crate) plen: usize,
}

/// How far the current PDU has come.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Common,
    Header(Shape),
    Body(Shape),
}

/// What the assembler has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// More bytes are needed.
    More,
    /// The header is complete and its digest fits.
    Header(Shape),
    /// The PDU is complete.
    Whole(Shape),
}

/// Collects one PDU after the other.
#[derive(Debug)]
pub(crate) struct Assembler {
    buffer: Vec<u8>,
    stage: Stage,
}

impl Assembler {
    pub(crate) fn new() -> Assembler {
        Assembler { buffer: Vec::new(), stage: Stage::Common }
    }

    /// Bytes of the current PDU so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Takes what the current step still needs from `stream`; returns how many bytes.
    pub(crate) fn take(&mut self, stream: &[u8]) -> usize {
        let need = match self.stage {
            Stage::Common => CH,
            Stage::Header(shape) => shape.head,
            Stage::Body(shape) => shape.plen,
        };
        let take = (need - self.buffer.len()).min(stream.len());
        self.buffer.extend_from_slice(&stream[..take]);
        take
    }

    /// Goes as far as the bytes allow, at most to the next event.
    pub(crate) fn step(&mut self, rules: &Rules) -> Result<Step, Reason> {
        loop {
            match self.stage {
                Stage::Common if self.buffer.len() == CH => {
                    self.stage = Stage::Header(shape(Common::parse(&self.buffer), rules)?);
                }
                Stage::Header(shape) if self.buffer.len() == shape.head => {
                    if shape.head > shape.hlen {
                        let received = u32_at(&self.buffer, shape.hlen);
                        let computed = crc32c(&self.buffer[..shape.hlen]);
                        if received != computed {
                            return Err(Reason::HeaderDigest { pdu: shape.kind, received, computed });
                        }
                    }
                    self.stage = Stage::Body(shape);
                    return Ok(Step::Header(shape));
                }
                Stage::Body(shape) if self.buffer.len() == shape.plen => return Ok(Step::Whole(shape)),
                _ => return Ok(Step::More),
            }
        }
    }

    /// The PDU that [`Step::Whole`] announced is dealt with.
    pub(crate) fn next(&mut self) {
        self.buffer.clear();
        self.stage = Stage::Common;
    }
}

/// Whether the data digest of a whole PDU fits; `None` if it has none.
pub(crate) fn data_digest(pdu: &[u8], shape: &Shape) -> Option<bool> {
    let end = shape.data + shape.data_len;
    shape.data_digest.then(|| u32_at(pdu, end) == crc32c(&pdu[shape.data..end]))
}

/// An error about a field of a header.
pub(crate) fn field(
    pdu: impl ToString,
    field: &'static str,
    offset: u32,
    value: impl Into<u64>,
    expected: impl ToString,
) -> Reason {
    Reason::Field { pdu: pdu.to_string(), field, offset, value: value.into(), expected: expected.to_string() }
}

/// Checks a common header.
fn shape(common: Common, rules: &Rules) -> Result<Shape, Reason> {
    let Common { kind: value, flags, hlen, pdo, plen } = common;
    let kind = match PduType::of(value) {
        Some(kind @ (PduType::IcReq | PduType::H2cTermReq | PduType::CapsuleCmd | PduType::H2cData)) => kind,
        Some(kind) => return Err(field(kind, "PDU-Type", 0, value, "a type that hosts send")),
        None => return Err(field(format!("PDU of type {value:#04x}"), "PDU-Type", 0, value, "a known type")),
    };
    match (kind, rules.initializing) {
        (PduType::H2cTermReq, _) | (PduType::IcReq, true) => {}
        (PduType::IcReq, false) => return Err(Reason::Sequence { pdu: kind, why: "came twice" }),
        (_, true) => return Err(Reason::Sequence { pdu: kind, why: "came before ICReq" }),
        (_, false) => {}
    }
    if usize::from(hlen) != kind.hlen() {
        return Err(field(kind, "HLEN", 2, hlen, kind.hlen()));
    }
    let hlen = kind.hlen();
    let length = |expected: String| Err(field(kind, "PLEN", 4, plen, expected));
    if !kind.digested() {
        if flags & (flag::HDGSTF | flag::DDGSTF) != 0 {
            return Err(field(kind, "FLAGS", 1, flags, "no digests"));
        }
        let (least, most) = match kind {
            PduType::IcReq => (IC_LEN, IC_LEN),
            _ => (TERM_HLEN, TERM_HLEN + TERM_DATA),
        };
        if !(least..=most).contains(&(plen as usize)) {
            return length(format!("{least} to {most}"));
        }
        let plen = plen as usize;
        return Ok(Shape { kind, flags, hlen, head: hlen, data: hlen, data_len: 0, data_digest: false, plen });
    }

    if (flags & flag::HDGSTF != 0) != rules.header_digest {
        return Err(field(kind, "FLAGS", 1, flags, format!("HDGSTF {}", u8::from(rules.header_digest))));
    }
    let head = hlen + if rules.header_digest { DIGEST } else { 0 };
    let digest = flags & flag::DDGSTF != 0;
    if kind == PduType::CapsuleCmd && plen as usize == head {
        if digest {
            return Err(field(kind, "FLAGS", 1, flags, "DDGSTF 0 without data"));
        }
        return Ok(Shape { kind, flags, hlen, head, data: head, data_len: 0, data_digest: false, plen: head });
    }
    let tail = if digest { DIGEST } else { 0 };
    let pdo = usize::from(pdo);
    if digest != rules.data_digest && plen as usize > head {
        return Err(field(kind, "FLAGS", 1, flags, format!("DDGSTF {}", u8::from(rules.data_digest))));
    }
    if plen as usize <= head + tail {
        return length(format!("more than {}", head + tail));
    }
    if pdo < head || !pdo.is_multiple_of(rules.align) {
        let expected = format!("a multiple of {} from {head}", rules.align);
        return Err(field(kind, "PDO", 3, pdo as u64, expected));
    }
    let Some(data_len) = (plen as usize).checked_sub(pdo + tail).filter(|&len| len > 0) else {
        return length(format!("more than {}", pdo + tail));
    };
    let limit = if kind == PduType::CapsuleCmd { rules.capsule_limit } else { rules.h2c_limit };
    if data_len > limit as usize {
        return Err(Reason::Limit { pdu: kind, len: data_len as u32, limit });
    }
    Ok(Shape { kind, flags, hlen, head, data: pdo, data_len, data_digest: digest, plen: plen as usize })
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | no bytes make the assembler panic or hold more than one allowed PDU | `any_bytes_are_a_bounded_pdu_or_an_error` |
    //! | how the stream is cut does not matter | `a_pdu_is_the_same_however_it_is_cut` |
    use super::*;
    use proptest::prelude::*;

    fn rules() -> impl Strategy<Value = Rules> {
        (any::<bool>(), any::<bool>(), any::<bool>(), 0usize..32).prop_map(|(initializing, header, data, cpda)| Rules {
            initializing,
            header_digest: header,
            data_digest: data,
            align: 4 * (cpda + 1),
            capsule_limit: 8192,
            h2c_limit: 16384,
        })
    }

    /// Feeds a stream in pieces; the PDUs that came out, and the error that ended it.
    fn run(stream: &[u8], rules: &Rules, cut: usize) -> (Vec<Vec<u8>>, Option<Reason>) {
        let (mut assembler, mut pdus) = (Assembler::new(), Vec::new());
        for mut piece in stream.chunks(cut.max(1)) {
            while !piece.is_empty() {
                let taken = assembler.take(piece);
                piece = &piece[taken..];
                loop {
                    match assembler.step(rules) {
                        Ok(Step::More) => break,
                        Ok(Step::Header(_)) => {}
                        Ok(Step::Whole(_)) => {
                            pdus.push(assembler.bytes().to_vec());
                            assembler.next();
                        }
                        Err(reason) => return (pdus, Some(reason)),
                    }
                    assert!(assembler.bytes().len() <= 255 + 16384 + 4);
                }
                assert!(taken > 0 || piece.is_empty());
            }
        }
        (pdus, None)
    }

    /// A PDU that is nearly right, so that the checks after the first one are reached.
    fn nearly() -> impl Strategy<Value = Vec<u8>> {
        let header = (0u8..10, any::<u8>(), prop_oneof![Just(24u8), Just(72), Just(128), any::<u8>()], any::<u8>());
        (header, 0u32..20000, prop::collection::vec(any::<u8>(), 0..400)).prop_map(
            |((kind, flags, hlen, pdo), plen, rest)| {
                let mut pdu = vec![kind, flags & 0xf, hlen, pdo & !3];
                pdu.extend_from_slice(&plen.to_le_bytes());
                pdu.extend_from_slice(&rest);
                pdu
            },
        )
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_bounded_pdu_or_an_error(rules in rules(), stream in nearly(), cut in 1usize..50) {
            run(&stream, &rules, cut);
        }

        #[test]
        fn a_pdu_is_the_same_however_it_is_cut(
            header_digest: bool, data_digest: bool, align in 1usize..8, len in 0usize..3000, cut in 1usize..200,
        ) {
            let rules = Rules {
                initializing: false, header_digest, data_digest, align: 4 * align, capsule_limit: 8192, h2c_limit: 0,
            };
            let head = 72usize + if header_digest { 4 } else { 0 };
            let pdo = if len > 0 { head.next_multiple_of(4 * align) } else { 0 };
            let tail = if data_digest && len > 0 { 4 } else { 0 };
            let plen = if len > 0 { pdo + len + tail } else { head };
            let mut pdu = vec![0; plen];
            pdu[0] = 4;
            pdu[1] = u8::from(header_digest) | u8::from(tail > 0) << 1;
            (pdu[2], pdu[3]) = (72, pdo as u8);
            pdu[4..8].copy_from_slice(&(plen as u32).to_le_bytes());
            if header_digest {
                let digest = crc32c(&pdu[..72]);
                pdu[72..76].copy_from_slice(&digest.to_le_bytes());
            }
            let two = [pdu.clone(), pdu.clone()].concat();
            prop_assert_eq!(run(&two, &rules, cut), (vec![pdu.clone(), pdu], None));
        }
    }
}
