//! Whose a packet is: from the four-tuple to the connection.
//!
//! Only connections that the shard has opened are here, so nobody outside chooses what is hashed, and a cheap hash will do.
//! Whom the last packets belonged to is remembered by a hint: the flow tag that the device found, so that each offloaded
//! connection has a place of its own, or nearly so. A hint is not believed; the four-tuple is compared.

use super::linger::Party;
use crate::tcp::FourTuple;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;

/// 2^64 divided by the golden ratio: odd, and without a pattern in its bits.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiplies and folds words.
#[derive(Default)]
struct Fold(u64);

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    #[inline]
    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(GOLDEN);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// A four-tuple whose hash is made of two words where the addresses are IPv4's.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key(FourTuple);

impl std::hash::Hash for Key {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let FourTuple { local, local_port, remote, remote_port } = self.0;
        state.write_u64(u64::from(local_port) << 16 | u64::from(remote_port));
        match (local, remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                state.write_u64(u64::from(local.to_bits()) << 32 | u64::from(remote.to_bits()));
            }
            (local, remote) => (local, remote).hash(state),
        }
    }
}

/// Places for hints; more connections than this share some.
const HINTS: usize = 256;

/// The connections of a shard, living and closing, by four-tuple.
pub(super) struct Parties {
    all: HashMap<Key, Party, BuildHasherDefault<Fold>>,
    /// Whom the last packet with each hint belonged to, as long as that is so.
    last: Box<[Option<(FourTuple, Party)>; HINTS]>,
}

impl Default for Parties {
    fn default() -> Parties {
        Parties { all: HashMap::default(), last: Box::new([None; HINTS]) }
    }
}

impl Parties {
    /// Whose a packet is. `hint`: any number that packets of the same connection mostly have in common.
    #[inline]
    pub fn find(&mut self, tuple: &FourTuple, hint: u32) -> Option<Party> {
        match &self.last[hint as usize % HINTS] {
            Some((last, party)) if last == tuple => Some(*party),
            _ => self.look_up(tuple, hint),
        }
    }

    #[inline(never)]
    fn look_up(&mut self, tuple: &FourTuple, hint: u32) -> Option<Party> {
        let party = *self.all.get(&Key(*tuple))?;
        self.last[hint as usize % HINTS] = Some((*tuple, party));
        Some(party)
    }

    /// True if a connection has this four-tuple.
    pub fn contains(&self, tuple: &FourTuple) -> bool {
        self.all.contains_key(&Key(*tuple))
    }

    /// A four-tuple belongs to `party` from now on.
    pub fn insert(&mut self, tuple: FourTuple, party: Party) {
        self.forget(&tuple);
        self.all.insert(Key(tuple), party);
    }

    /// A four-tuple is free.
    pub fn remove(&mut self, tuple: &FourTuple) {
        self.forget(tuple);
        self.all.remove(&Key(*tuple));
    }

    fn forget(&mut self, tuple: &FourTuple) {
        let of_tuple = |last: &&mut Option<(FourTuple, Party)>| last.is_some_and(|(last, _)| last == *tuple);
        self.last.iter_mut().filter(of_tuple).for_each(|last| *last = None);
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | what is found is what was put in last, whatever was found before | `what_is_found_is_what_is_there` |
    //! | tuples that differ in their ports only spread over all hashes, high bits and low | `neighbours_spread` |
    use super::*;
    use proptest::prelude::*;
    use std::hash::BuildHasher;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn tuple(n: u8, port: u16) -> FourTuple {
        let local: IpAddr = match n & 4 {
            0 => Ipv4Addr::new(10, 0, 0, n & 1).into(),
            _ => Ipv6Addr::from(u128::from(n & 1)).into(),
        };
        let remote: IpAddr = match n & 8 {
            0 => Ipv4Addr::new(10, 0, 1, n & 2).into(),
            _ => Ipv6Addr::from(u128::from(n & 2)).into(),
        };
        FourTuple { local, local_port: port, remote, remote_port: 4420 }
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_is_there(steps in prop::collection::vec((0u8..4, 0u8..16, 0u16..3, any::<u32>()), 0..300)) {
            let (mut parties, mut model) = (Parties::default(), HashMap::new());
            for (what, n, port, index) in steps {
                let tuple = tuple(n, port);
                match what {
                    0 => {
                        let party = if index & 1 == 0 { Party::Live(index) } else { Party::Lingering(index) };
                        parties.insert(tuple, party);
                        model.insert(tuple, party);
                    }
                    1 => {
                        parties.remove(&tuple);
                        model.remove(&tuple);
                    }
                    _ => {
                        prop_assert_eq!(parties.contains(&tuple), model.contains_key(&tuple));
                        prop_assert_eq!(parties.find(&tuple, index % 3), model.get(&tuple).copied());
                        prop_assert_eq!(parties.find(&tuple, index % 3), model.get(&tuple).copied());
                    }
                }
            }
        }
    }

    #[test]
    fn neighbours_spread() {
        let hash = |port| BuildHasherDefault::<Fold>::default().hash_one(Key(tuple(0, port)));
        for shift in [0, 52] {
            let mut taken = [0u32; 4096];
            (0..4096).for_each(|port| taken[(hash(40_000 + port) >> shift) as usize % 4096] += 1);
            let most = taken.iter().max().copied().unwrap_or_default();
            assert!(most <= 12, "{most} of 4096 share one of 4096 places at bit {shift}");
        }
    }
}
