//! Reproducible choices: everything random in this crate comes from a seed that the caller gave.

/// The finalizer of splitmix64: a bijection on 64 bits that spreads every input bit over the output.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Distance between two states of splitmix64 (the odd integer next to 2^64 divided by the golden ratio).
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A splitmix64 generator.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence of `seed`; `stream` separates sequences that must not depend on each other.
    pub(crate) fn new(seed: u64, stream: u64) -> Random {
        Random(mix(seed.wrapping_add(GOLDEN)) ^ mix(stream))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `n`; 0 when `n` is 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u32, high: u32) -> u32 {
        let (low, high) = (low.min(high), low.max(high));
        low + self.below(u64::from(high - low) + 1) as u32
    }
}
