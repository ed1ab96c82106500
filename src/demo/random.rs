//! The demonstration's random numbers: xorshift64*, enough to cut buffers and to lose frames with, and repeatable.

/// A generator. The caller mixes its seed; zero is the one state that it never leaves.
pub(super) struct Random(pub(super) u64);

impl Random {
    /// The next 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
