//! A command as it lies in memory: the 64-byte entry and the 576-byte mailbox blocks (`mlx5-bringup.md` §2).
//!
//! Pure functions over bytes: the live queue writes what they return, and the record tests compare it with what another
//! driver posted.

use super::INLINE_BYTES;
use hw_regs::command_queue::{CommandEntry, Mailbox};
use hw_regs::layout::{Access, Layout};

/// Payload bytes of one mailbox block.
pub const BLOCK_BYTES: usize = 512;
/// Bytes of one mailbox block with its control part.
pub const MAILBOX_BYTES: usize = Mailbox::SIZE;
/// First byte of the control part.
const CONTROL_AT: usize = BLOCK_BYTES;
/// Transport type of an entry: PCIe.
const TYPE_PCIE: u32 = 7;

/// Mailbox blocks that `len` bytes of input or output need.
pub const fn blocks(len: usize) -> usize {
    len.saturating_sub(INLINE_BYTES).div_ceil(BLOCK_BYTES)
}

/// What goes into an entry.
#[derive(Clone, Copy, Debug)]
pub struct EntryFields<'a> {
    /// The whole input; the first 16 bytes are carried inline.
    pub input: &'a [u8],
    /// Device address of the first input block, 0 if there is none.
    pub input_mailbox: u64,
    /// Bytes of output asked for.
    pub output_len: usize,
    /// Device address of the first output block, 0 if there is none.
    pub output_mailbox: u64,
    /// Token, repeated in every block.
    pub token: u8,
}

fn inverted_xor(bytes: &[u8]) -> u8 {
    !bytes.iter().fold(0, |sum, byte| sum ^ byte)
}

/// An entry owned by hardware, signed. The signature covers the owner bit.
pub fn entry(fields: &EntryFields<'_>) -> CommandEntry {
    let mut entry = CommandEntry::zeroed()
        .with(CommandEntry::TYPE, TYPE_PCIE)
        .with(CommandEntry::INLEN, fields.input.len() as u32)
        .with_wide(CommandEntry::IN_PTR, fields.input_mailbox)
        .with_wide(CommandEntry::OUT_PTR, fields.output_mailbox)
        .with(CommandEntry::OUTLEN, fields.output_len as u32)
        .with(CommandEntry::TOKEN, u32::from(fields.token))
        .with(CommandEntry::STATUS_OWN_OWNER, 1);
    let mut inline = [0; INLINE_BYTES];
    let n = fields.input.len().min(INLINE_BYTES);
    inline[..n].copy_from_slice(&fields.input[..n]);
    for (index, word) in inline.chunks_exact(4).enumerate() {
        let word = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
        entry.set_at(CommandEntry::IN, index, u64::from(word));
    }
    let signature = inverted_xor(entry.bytes());
    entry.with(CommandEntry::SIG, u32::from(signature))
}

/// Block `number` of a chain: at most 512 bytes, padded with zeros. `next` is 0 for the last. Unsigned.
pub fn mailbox(data: &[u8], number: usize, next: u64, token: u8) -> Mailbox {
    let mut block = Mailbox::zeroed()
        .with_wide(Mailbox::NEXT, next)
        .with(Mailbox::BLOCK_NUM, number as u32)
        .with(Mailbox::TOKEN, u32::from(token));
    block.bytes_mut()[..data.len()].copy_from_slice(data);
    block
}

/// Signs a block. Firmware looks at it only while its capability `cmdif_checksum` is not 0.
pub fn sign(mut block: Mailbox) -> Mailbox {
    let control = inverted_xor(&block.bytes()[CONTROL_AT..MAILBOX_BYTES - 2]);
    block.set(Mailbox::CTRL_SIG, u32::from(control));
    let all = inverted_xor(&block.bytes()[..MAILBOX_BYTES - 1]);
    block.with(Mailbox::SIG, u32::from(all))
}

/// The part of `bytes` that goes into block `number`.
pub fn block_of(bytes: &[u8], number: usize) -> &[u8] {
    let start = INLINE_BYTES + number * BLOCK_BYTES;
    let end = (start + BLOCK_BYTES).min(bytes.len());
    bytes.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | an entry is byte for byte what a recorded driver posted | `an_entry_is_what_a_recorded_driver_posted` |
    //! | a signature makes the exclusive or of what it covers all ones | `signatures_cover_what_the_reference_says` |
    //! | the blocks of an input are its bytes after the inline ones | `blocks_are_the_bytes_after_the_inline_ones` |
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_is_what_a_recorded_driver_posted() {
        // ENABLE_HCA with token 1 (`reference/traces`, first command).
        let mut input = [0; 16];
        input[..2].copy_from_slice(&[0x01, 0x04]);
        let fields = EntryFields { input: &input, input_mailbox: 0, output_len: 16, output_mailbox: 0, token: 1 };
        let mut expected = [0; 64];
        expected[0] = 7;
        expected[7] = 0x10;
        expected[16..18].copy_from_slice(&[0x01, 0x04]);
        expected[59..].copy_from_slice(&[0x10, 0x01, 0xfd, 0x00, 0x01]);
        assert_eq!(entry(&fields).bytes(), expected);
    }

    proptest! {
        #[test]
        fn signatures_cover_what_the_reference_says(
            data in proptest::collection::vec(any::<u8>(), 0..=512), number in 0usize..1000, next: u64, token: u8,
        ) {
            let block = sign(mailbox(&data, number, next, token));
            let xor = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum ^ byte);
            prop_assert_eq!(xor(&block.bytes()[512..=574]), 0xff);
            prop_assert_eq!(xor(block.bytes()), 0xff);
            let fields = EntryFields { input: &[9; 16], input_mailbox: next, output_len: 16, output_mailbox: 0, token };
            prop_assert_eq!(xor(entry(&fields).bytes()), 0xff);
        }

        #[test]
        fn blocks_are_the_bytes_after_the_inline_ones(bytes in proptest::collection::vec(any::<u8>(), 16..3000)) {
            let mut joined = bytes[..16].to_vec();
            for number in 0..blocks(bytes.len()) {
                prop_assert!(!block_of(&bytes, number).is_empty());
                joined.extend(block_of(&bytes, number));
            }
            prop_assert_eq!(joined, bytes.clone());
            prop_assert!(block_of(&bytes, blocks(bytes.len())).is_empty());
        }
    }
}
