//! Initial sequence numbers that an off-path attacker cannot guess, without randomness of our own (RFC 6528).
//!
//! `ISN = M + F(local address, local port, remote address, remote port, secret)`, with M a clock of 4 µs and F SipHash-2-4
//! under a secret that the caller supplies once. The timestamp clock of a connection gets an offset the same way, so that
//! it does not tell the uptime (RFC 7323 §7.1).

use std::net::IpAddr;
use std::time::Duration;

use super::FourTuple;

/// The secret key of a host. The caller fills it with random bytes (tests: with a seed) and keeps it while it runs.
#[derive(Clone, Copy)]
pub struct IsnSecret([u64; 2]);

impl IsnSecret {
    /// A key of 16 bytes.
    pub fn new(key: [u8; 16]) -> IsnSecret {
        let key = u128::from_le_bytes(key);
        IsnSecret([key as u64, (key >> 64) as u64])
    }

    /// The initial sequence number of a connection opened at `now`, RFC 6528 §3.
    pub fn initial_sequence(&self, tuple: &FourTuple, now: Duration) -> u32 {
        // RFC 9293 §3.4.1 (MUST-8): the clock ticks about every 4 µs.
        let clock = (now.as_micros() / 4) as u32;
        clock.wrapping_add(self.hash(tuple, 0) as u32)
    }

    /// The offset of the connection's timestamp clock, RFC 7323 §7.1.
    pub fn timestamp_offset(&self, tuple: &FourTuple) -> u32 {
        self.hash(tuple, 1) as u32
    }

    fn hash(&self, tuple: &FourTuple, purpose: u8) -> u64 {
        // 2 addresses of 16 bytes, 2 ports, purpose: IPv4 addresses in their IPv6-mapped form.
        let mut message = [0; 37];
        let mapped = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        message[..16].copy_from_slice(&mapped(tuple.local));
        message[16..32].copy_from_slice(&mapped(tuple.remote));
        message[32..34].copy_from_slice(&tuple.local_port.to_be_bytes());
        message[34..36].copy_from_slice(&tuple.remote_port.to_be_bytes());
        message[36] = purpose;
        siphash24(self.0, &message)
    }
}

impl std::fmt::Debug for IsnSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IsnSecret(..)")
    }
}

/// SipHash-2-4 (Aumasson and Bernstein 2012), the keyed hash behind F.
fn siphash24([k0, k1]: [u64; 2], message: &[u8]) -> u64 {
    fn round(v: &mut [u64; 4]) {
        v[0] = v[0].wrapping_add(v[1]);
        v[2] = v[2].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[1]);
        v[0] = v[0].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].rotate_left(32);
    }
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let absorb = |v: &mut [u64; 4], word: u64| {
        v[3] ^= word;
        round(v);
        round(v);
        v[0] ^= word;
    };
    let mut words = message.chunks_exact(8);
    for word in &mut words {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        absorb(&mut v, u64::from_le_bytes(bytes));
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    last[7] = message.len() as u8;
    absorb(&mut v, u64::from_le_bytes(last));
    v[2] ^= 0xff;
    (0..4).for_each(|_| round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the hash is SipHash-2-4: the standard library's agrees on every length | `the_hash_is_siphash_2_4` |
    //! | the hash gives the published vectors | `the_hash_gives_the_published_vectors` |
    //! | a connection's number moves with the clock, 4 µs a step, and wraps | `the_number_follows_the_clock` |
    //! | another port, another peer, another key, another purpose: another number | `numbers_of_different_connections_differ` |
    use super::*;
    use std::net::Ipv4Addr;

    fn tuple(port: u16) -> FourTuple {
        FourTuple {
            local: Ipv4Addr::new(10, 0, 0, 1).into(),
            local_port: port,
            remote: Ipv4Addr::new(10, 0, 0, 2).into(),
            remote_port: 4420,
        }
    }

    #[test]
    #[allow(deprecated)]
    fn the_hash_is_siphash_2_4() {
        use std::hash::Hasher;
        let bytes: Vec<u8> = (0..100).map(|i| (i * 7 + 3) as u8).collect();
        for len in 0..bytes.len() {
            let mut theirs = std::hash::SipHasher::new_with_keys(0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);
            theirs.write(&bytes[..len]);
            assert_eq!(
                siphash24([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210], &bytes[..len]),
                theirs.finish(),
                "{len}"
            );
        }
    }

    #[test]
    fn the_hash_gives_the_published_vectors() {
        let key = IsnSecret::new(std::array::from_fn(|i| i as u8)).0;
        assert_eq!(siphash24(key, &[]), 0x726f_db47_dd0e_0e31);
        let fifteen: Vec<u8> = (0..15).collect();
        assert_eq!(siphash24(key, &fifteen), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn the_number_follows_the_clock() {
        let secret = IsnSecret::new([7; 16]);
        let at = |micros| secret.initial_sequence(&tuple(1), Duration::from_micros(micros));
        assert_eq!(at(3), at(0));
        assert_eq!(at(4), at(0).wrapping_add(1));
        assert_eq!(at(4 << 32), at(0), "4.77 hours make one round");
    }

    #[test]
    fn numbers_of_different_connections_differ() {
        let now = Duration::from_secs(9);
        let secret = IsnSecret::new([7; 16]);
        let mut other = tuple(1);
        other.remote = Ipv4Addr::new(10, 0, 0, 3).into();
        let all = [
            secret.initial_sequence(&tuple(1), now),
            secret.initial_sequence(&tuple(2), now),
            secret.initial_sequence(&other, now),
            IsnSecret::new([8; 16]).initial_sequence(&tuple(1), now),
            secret.timestamp_offset(&tuple(1)),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(!all[..i].contains(a));
        }
    }
}
