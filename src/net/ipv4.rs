//! IPv4 (RFC 791). Fragments are recognized, not put together: TCP sends with "don't fragment".

use std::net::Ipv4Addr;

use super::checksum::Sum;

/// Bytes of a header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Protocol number of TCP.
pub const TCP: u8 = 6;

/// The fields of a header that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Sender.
    pub source: Ipv4Addr,
    /// Receiver.
    pub destination: Ipv4Addr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Bytes of the header, 20 to 60.
    pub header_len: u8,
    /// Bytes of header and payload, at least `header_len`.
    pub total_len: u16,
    /// Part of a fragmented packet: "more fragments" is set or the offset is not 0.
    pub fragment: bool,
}

/// Why bytes are not an IPv4 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Fewer bytes than the header has.
    #[error("{have} bytes of an IPv4 header of {need}")]
    Truncated {
        /// Bytes there.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// The version is not 4.
    #[error("IP version {0} in a frame of type IPv4")]
    Version(u8),
    /// The header length is below five words, or above the total length.
    #[error("IPv4 header length {header_len}, total length {total_len}")]
    Length {
        /// Bytes of the header.
        header_len: u8,
        /// Bytes in all.
        total_len: u16,
    },
    /// The header checksum is wrong.
    #[error("IPv4 header checksum")]
    Checksum,
}

impl Header {
    /// Reads a header from the front of `packet`, which may end with the header. `verify`: check its checksum, which the
    /// NIC may have done.
    #[inline]
    pub fn parse(packet: &[u8], verify: bool) -> Result<Header, ParseError> {
        let have = packet.len();
        let Some(fixed) = super::bytes::<MIN_HEADER_LEN>(packet, 0) else {
            return Err(ParseError::Truncated { have, need: MIN_HEADER_LEN });
        };
        if fixed[0] >> 4 != 4 {
            return Err(ParseError::Version(fixed[0] >> 4));
        }
        let header_len = (fixed[0] & 0xf) * 4;
        let total_len = u16::from_be_bytes([fixed[2], fixed[3]]);
        let need = usize::from(header_len);
        if need < MIN_HEADER_LEN || usize::from(total_len) < need {
            return Err(ParseError::Length { header_len, total_len });
        }
        let header = packet.get(..need).ok_or(ParseError::Truncated { have, need })?;
        if verify {
            let mut sum = Sum::default();
            sum.add(header);
            if sum.finish() != 0 {
                return Err(ParseError::Checksum);
            }
        }
        let [.., s0, s1, s2, s3, d0, d1, d2, d3] = fixed;
        Ok(Header {
            source: Ipv4Addr::new(s0, s1, s2, s3),
            destination: Ipv4Addr::new(d0, d1, d2, d3),
            protocol: fixed[9],
            header_len,
            total_len,
            // "More fragments" and the 13 bits of the offset.
            fragment: u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff != 0,
        })
    }

    /// Writes a header without options that must not be fragmented, with its checksum. `header_len` and `fragment` are
    /// not used.
    ///
    /// The identification is 0, which RFC 6864 §4.1 allows for packets that are never fragmented.
    pub fn emit(&self, out: &mut [u8; MIN_HEADER_LEN]) {
        const TIME_TO_LIVE: u8 = 64;
        const DONT_FRAGMENT: u8 = 0x40;
        out.fill(0);
        out[0] = 0x45;
        out[2..4].copy_from_slice(&self.total_len.to_be_bytes());
        out[6] = DONT_FRAGMENT;
        out[8] = TIME_TO_LIVE;
        out[9] = self.protocol;
        out[12..16].copy_from_slice(&self.source.octets());
        out[16..20].copy_from_slice(&self.destination.octets());
        let mut sum = Sum::default();
        sum.add(out);
        out[10..12].copy_from_slice(&sum.finish().to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | smoltcp reads what we emit, checksum included, and so do we | `smoltcp_reads_what_we_emit` |
    //! | any bytes: no panic; where smoltcp sees a valid header we agree | `any_bytes_are_parsed_or_refused` |
    //! | each bad length is refused | `bad_lengths_are_refused` |
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use smoltcp::wire::Ipv4Packet;

    proptest! {
        #[test]
        fn smoltcp_reads_what_we_emit(
            source in any::<[u8; 4]>(), destination in any::<[u8; 4]>(), protocol in any::<u8>(), payload in 0u16..100,
        ) {
            let header = Header {
                source: source.into(),
                destination: destination.into(),
                protocol,
                header_len: 20,
                total_len: 20 + payload,
                fragment: false,
            };
            let mut bytes = vec![0; usize::from(header.total_len)];
            header.emit(bytes.first_chunk_mut().unwrap());
            let packet = Ipv4Packet::new_checked(&bytes[..]).unwrap();
            prop_assert!(packet.verify_checksum() && packet.dont_frag());
            prop_assert_eq!((packet.src_addr(), packet.dst_addr()), (header.source, header.destination));
            prop_assert_eq!(u8::from(packet.next_header()), protocol);
            prop_assert_eq!(packet.payload().len(), usize::from(payload));
            prop_assert_eq!(Header::parse(&bytes[..20], true), Ok(header));
            bytes[15] ^= 1;
            prop_assert_eq!(Header::parse(&bytes, true), Err(ParseError::Checksum));
            prop_assert!(Header::parse(&bytes, false).is_ok());
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(mut bytes in vec(any::<u8>(), 0..70), plausible in any::<bool>()) {
            if plausible && bytes.len() > 4 {
                (bytes[0], bytes[2], bytes[3]) = (0x45 + bytes[0] % 11, 0, bytes[3] % 80);
            }
            let ours = Header::parse(&bytes, false);
            // smoltcp wants the whole packet; we do not.
            if let Ok(packet) = Ipv4Packet::new_checked(&bytes[..]) && packet.version() == 4 && bytes[0] & 0xf >= 5 {
                let header = ours.unwrap();
                prop_assert_eq!(usize::from(header.header_len), usize::from(packet.header_len()));
                prop_assert_eq!(header.total_len, packet.total_len());
                prop_assert_eq!(header.fragment, packet.more_frags() || packet.frag_offset() != 0);
                prop_assert_eq!((header.source, header.destination), (packet.src_addr(), packet.dst_addr()));
            }
        }
    }

    #[test]
    fn bad_lengths_are_refused() {
        let mut bytes = [0u8; 60];
        let check = |bytes: &[u8]| Header::parse(bytes, false);
        bytes[0] = 0x65;
        assert_eq!(check(&bytes), Err(ParseError::Version(6)));
        bytes[0] = 0x44;
        assert_eq!(check(&bytes), Err(ParseError::Length { header_len: 16, total_len: 0 }));
        (bytes[0], bytes[3]) = (0x46, 23);
        assert_eq!(check(&bytes), Err(ParseError::Length { header_len: 24, total_len: 23 }));
        (bytes[0], bytes[3]) = (0x4f, 60);
        assert!(check(&bytes).is_ok());
        assert_eq!(check(&bytes[..59]), Err(ParseError::Truncated { have: 59, need: 60 }));
        assert_eq!(check(&bytes[..19]), Err(ParseError::Truncated { have: 19, need: 20 }));
    }
}
