//! The least that a safe loop can do with a ring of 128-byte completions: see whose an entry is, read what was placed, add
//! it up per tag. It believes the device, owns no buffer and tells nobody anything.

/// Bytes of an entry.
const ENTRY: usize = 128;

/// Consumes a whole ring whose owner bits are `owner`. Returns how many entries were its own.
#[inline(never)]
pub fn region_floor(ring: &[u8], owner: u8, placed: &mut [u64; 128]) -> u64 {
    let mut consumed = 0;
    for entry in ring.as_chunks::<ENTRY>().0 {
        if entry[127] & 1 != owner || entry[127] >= 0xf0 {
            break;
        }
        if entry[65] & 0x10 != 0 {
            let cclen = u16::from_be_bytes([entry[0], entry[1]]);
            let ccid = u16::from_be_bytes([entry[8], entry[9]]);
            placed[usize::from(ccid) & 127] += u64::from(cclen);
        }
        consumed += 1;
    }
    consumed
}
