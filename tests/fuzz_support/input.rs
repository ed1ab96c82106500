//! An input as decisions: numbers read off its front. One that has ended says zero for ever.

/// What is left of an input.
#[derive(Clone)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next bytes, fewer at the end.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let taken = self.take(N);
        bytes[..taken.len()].copy_from_slice(taken);
        bytes
    }

    pub fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u32) -> u32 {
        if limit <= 256 { u32::from(self.u8()) % limit } else { self.u32() % limit }
    }

    /// A number: the truth, one near it, one that is often a bound, or any.
    pub fn lie(&mut self, truth: u32) -> u32 {
        match self.u8() {
            0..=63 => truth,
            64..=159 => truth.wrapping_add_signed(i32::from(self.u8().cast_signed())),
            160..=175 => [0, 1, 0x7f, 0xff, 0x100, 0x7fff, 0xffff, 0x1_0000][self.below(8) as usize],
            176..=191 => [0xff_ffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, u32::MAX][self.below(5) as usize],
            192..=223 => self.u16().into(),
            224..=255 => self.u32(),
        }
    }

    /// `bytes` with some of them changed.
    pub fn bend(&mut self, bytes: &mut [u8]) {
        if bytes.is_empty() {
            return;
        }
        for _ in 0..self.below(8) {
            let at = self.below(bytes.len() as u32) as usize;
            match self.u8() {
                0..=127 => bytes[at] = self.u8(),
                128..=191 => bytes[at] ^= 1 << self.below(8),
                192..=223 => bytes[at] = bytes[at].wrapping_add(self.u8()),
                224..=255 => {
                    let n = usize::from(self.u8()).min(bytes.len() - at);
                    let byte = self.u8();
                    bytes[at..at + n].fill(byte);
                }
            }
        }
    }
}

/// A change to bytes that are not there yet.
#[derive(Clone, Copy, Debug)]
pub struct Bend {
    at: u16,
    how: u8,
    value: u8,
}

impl Bend {
    pub fn new(input: &mut Input<'_>) -> Bend {
        Bend { at: input.u16(), how: input.u8(), value: input.u8() }
    }

    /// Which byte it changes, the first if several.
    pub fn byte(&self, len: usize) -> usize {
        usize::from(self.at) % len.max(1)
    }

    pub fn apply(&self, bytes: &mut [u8]) {
        let at = self.byte(bytes.len());
        let Some(byte) = bytes.get_mut(at) else { return };
        match self.how {
            0..=95 => *byte = self.value,
            96..=175 => *byte ^= 1 << (self.value % 8),
            176..=239 => *byte = byte.wrapping_add(self.value),
            240..=255 => {
                let end = bytes.len().min(at + 1 + usize::from(self.value) % 8);
                bytes[at..end].fill(0xff);
            }
        }
    }

    /// True if it changes one byte.
    pub fn is_narrow(&self) -> bool {
        self.how < 240
    }
}
