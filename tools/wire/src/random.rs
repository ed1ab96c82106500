//! Random numbers that are good enough to lose frames and to draw simulations with, and repeatable: xorshift64*.

/// A generator. The caller mixes its seed; zero is the one state that it never leaves.
pub struct Random(pub u64);

impl Random {
    /// A generator for any seed: those of neighbours have nothing in common (the finalizer of SplitMix64).
    pub fn seeded(seed: u64) -> Random {
        let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Random((state ^ (state >> 31)) | 1)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// True with this probability.
    pub fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && ((self.next_u64() >> 11) as f64) < probability * (1u64 << 53) as f64
    }

    /// A number from `least` to `most`.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        let span = u128::from(most.saturating_sub(least)) + 1;
        least + ((u128::from(self.next_u64()) * span) >> 64) as u64
    }

    /// As [`Random::between`], with every order of magnitude as likely as the others; `least` is not 0.
    pub fn magnitude(&mut self, least: u64, most: u64) -> u64 {
        let (low, high) = ((least.max(1) as f64).ln(), (most.max(1) as f64).ln());
        let share = (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        ((low + (high - low) * share).exp().round() as u64).clamp(least, most)
    }

    /// One of these, which are not none.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.between(0, all.len() as u64 - 1) as usize]
    }
}
