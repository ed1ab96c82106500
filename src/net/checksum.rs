//! The Internet checksum (RFC 1071) and the pseudo-header of TCP (RFC 9293 §3.1), for when the NIC did not do it.

use std::net::IpAddr;

/// A running one's complement sum over runs of bytes of any length.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    sum: u64,
    /// An odd number of bytes was added: the next byte is the low half of a word.
    odd: bool,
}

impl Sum {
    /// Adds bytes that follow those added before.
    pub fn add(&mut self, mut bytes: &[u8]) {
        if self.odd
            && let Some((&low, rest)) = bytes.split_first()
        {
            self.sum += u64::from(low);
            self.odd = false;
            bytes = rest;
        }
        // RFC 1071 §2 (B), (C): the sum may be taken over wider words and folded at the end. 32-bit words in 64 bits do
        // not overflow below 16 GiB.
        let mut words = bytes.chunks_exact(4);
        for word in &mut words {
            self.sum += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
        }
        let mut halves = words.remainder().chunks_exact(2);
        for half in &mut halves {
            self.sum += u64::from(u16::from_be_bytes([half[0], half[1]]));
        }
        if let &[high] = halves.remainder() {
            self.sum += u64::from(high) << 8;
            self.odd = true;
        }
    }

    /// Adds the pseudo-header of a segment of `len` bytes (header and payload) between two addresses of one family; IPv4
    /// (RFC 9293 §3.1) or IPv6 (RFC 8200 §8.1).
    pub fn add_pseudo_header(&mut self, source: IpAddr, destination: IpAddr, protocol: u8, len: u32) {
        for address in [source, destination] {
            match address {
                IpAddr::V4(v4) => self.add(&v4.octets()),
                IpAddr::V6(v6) => self.add(&v6.octets()),
            }
        }
        self.sum += u64::from(protocol) + u64::from(len);
    }

    /// The one's complement of the sum: the value for a checksum field, or 0 if the field was included and is right.
    pub fn finish(self) -> u16 {
        let mut sum = self.sum;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the sum does not depend on how the bytes are cut into runs, and is smoltcp's | `any_cut_gives_the_sum_of_smoltcp` |
    //! | the example of RFC 1071 §3 | `the_example_of_rfc_1071` |
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_cut_gives_the_sum_of_smoltcp(bytes in vec(any::<u8>(), 0..300), cuts in vec(0usize..300, 0..5)) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut sum = Sum::default();
            cuts.windows(2).for_each(|cut| sum.add(&bytes[cut[0]..cut[1]]));
            prop_assert_eq!(!sum.finish(), smoltcp::wire::checksum::data(&bytes));
        }
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let mut sum = Sum::default();
        sum.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.finish(), !0xddf2);
    }
}
