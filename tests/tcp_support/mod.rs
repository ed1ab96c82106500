//! What the TCP tests share: a payload of plain bytes and a seeded generator.
#![allow(dead_code, reason = "each test binary uses a part")]

use connectx_ddp::tcp::Payload;

/// A payload of plain bytes with a number that stands for the receive buffer it owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes {
    bytes: Vec<u8>,
    range: std::ops::Range<usize>,
    pub buffer: u32,
}

impl Bytes {
    pub fn new(bytes: &[u8], buffer: u32) -> Bytes {
        Bytes { bytes: bytes.to_vec(), range: 0..bytes.len(), buffer }
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }
}

impl Payload for Bytes {
    fn len(&self) -> u32 {
        self.range.len() as u32
    }

    fn trim_front(&mut self, n: u32) {
        assert!(n <= self.len());
        self.range.start += n as usize;
    }

    fn trim_back(&mut self, n: u32) {
        assert!(n <= self.len());
        self.range.end -= n as usize;
    }
}

/// SplitMix64: every run of a seed is the same.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True in `per_mille` of 1000 cases.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}
