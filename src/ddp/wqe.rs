//! The bytes of the work requests on a queue's control ring (`nvme-tcp-offload.md` §4), written in blocks of 64 bytes
//! (WQEBB) straight to where they go: no WQE is built elsewhere first.
//!
//! ```text
//!             block 0                   block 1               block 2 ...
//!  UMR        | ctrl 16 | UMR ctrl 48 | mkey context 64     | parameters 64, or KLM entries, 4 a block |
//!  SET_PSV    | ctrl 16 | progress 16 |
//! ```
//!
//! No field comes from the device or the peer; what a caller must keep to is said at each function and asserted.

use hw_regs::layout::{Access, Layout};
use hw_regs::wqe::{Klm, ProgressParams, StaticParams, WqeCtrlSeg, WqeMkeySeg, WqeOpcode, WqeUmrCtrlSeg};
use zerocopy::IntoBytes;

/// Bytes of a WQEBB.
pub const BLOCK: usize = 64;
/// KLM entries in a block.
pub const KLMS_PER_BLOCK: usize = crate::dma::LIST_GROUP;
/// Blocks in front of the entries of a UMR.
const HEAD_BLOCKS: usize = 2;
/// A WQE says its size in 6 bits of 16-byte units: 63 units, so 15 whole blocks.
const MAX_BLOCKS: usize = 15;

/// Opcode modifiers of a UMR and a SET_PSV that write a TIR's offload context (§4.1).
const OPMOD_MKEY: u32 = 0;
const OPMOD_TIR_STATIC: u32 = 2;
const OPMOD_TIR_PROGRESS: u32 = 4;

/// `xlt_oct_size` in the mkey mask; the one bit of it that only this offload uses (§4.2).
const MASK_XLT_OCT_SIZE: u64 = 1 << 2;
/// `len` in the mkey mask.
const MASK_LEN: u64 = 1 << 0;
/// `free` in the mkey mask.
const MASK_FREE: u64 = 1 << 29;
/// Completion mode "always": the device writes a CQE.
const CE_ALWAYS: u32 = 2;
/// Length field of a tag buffer table entry: its own check always passes, so only the mkey's length bounds placement
/// (§4.5).
const TAG_ENTRY_LENGTH: u32 = u32::MAX;

/// Blocks of a static parameters WQE.
pub const STATIC_BLOCKS: usize = HEAD_BLOCKS + 1;
/// 16-byte units of a progress parameters WQE.
pub const PROGRESS_DS: u32 = 2;
/// Blocks of an invalidate.
pub const INVALIDATE_BLOCKS: usize = HEAD_BLOCKS;

/// Where a WQE is written: its room in a ring, which holds whatever was there a lap ago.
pub trait Room {
    /// Writes `bytes` at byte `offset` of the WQE, inside the room that the ring gave.
    fn write(&mut self, offset: usize, bytes: &[u8]);

    /// Writes block `n` of a WQE of whole blocks.
    fn write_block(&mut self, n: usize, block: &[u8; BLOCK]);
}

/// What the ring says about the place of a WQE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the send queue, 24 bits.
    pub sqn: u32,
    /// Producer counter in blocks.
    pub index: u16,
    /// Ask for a CQE.
    pub signalled: bool,
}

/// KLM entries that one WQE takes, a multiple of 4, given the capability `max_wqe_sz_sq` in bytes; 52 on all that is
/// known. `None` if not even the static parameters fit, so that the offload is impossible.
pub fn entries_per_wqe(max_wqe_bytes: u32) -> Option<usize> {
    let blocks = MAX_BLOCKS.min(max_wqe_bytes as usize / BLOCK);
    (blocks >= STATIC_BLOCKS).then(|| (blocks - HEAD_BLOCKS) * KLMS_PER_BLOCK)
}

/// Blocks of a UMR with `entries` KLM entries.
pub fn umr_blocks(entries: usize) -> usize {
    HEAD_BLOCKS + entries.div_ceil(KLMS_PER_BLOCK)
}

/// Blocks of a UMR with `groups` blocks of KLM entries.
#[inline(always)]
pub fn list_blocks(groups: usize) -> u32 {
    (HEAD_BLOCKS + groups) as u32
}

/// What fills a memory key in where a list's entry leaves it open: all ones in the place of its key
/// ([`IoBuf::device_list`](crate::dma::IoBuf::device_list)).
pub fn key_mask(data_key: u32) -> Klm {
    Klm([0xff; 16]).with(Klm::KEY, data_key)
}

/// 16-byte units of a UMR with `entries` KLM entries, pads included.
#[inline(always)]
pub fn umr_ds(entries: usize) -> u32 {
    (umr_blocks(entries) * (BLOCK / 16)) as u32
}

/// Blocks of the UMRs that bind a tag to `entries` entries, `per_wqe` in each.
pub fn setup_blocks(entries: usize, per_wqe: usize) -> usize {
    let (full, rest) = (entries / per_wqe, entries % per_wqe);
    full * umr_blocks(per_wqe) + if rest == 0 { 0 } else { umr_blocks(rest) }
}

/// What the static parameters say about a connection (§4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionParams {
    /// Place payload into tag buffers.
    pub zero_copy: bool,
    /// Check data digests.
    pub check_data_digest: bool,
    /// PDUs carry data digests.
    pub data_digest: bool,
    /// PDU headers carry digests.
    pub header_digest: bool,
    /// PDU data alignment (CPDA): dwords, 0-based, at most 31.
    pub pda: u8,
}

#[inline(always)]
fn control(place: Place, opmod: u32, opcode: WqeOpcode, blocks_ds: u32, id: u32) -> WqeCtrlSeg {
    WqeCtrlSeg::zeroed()
        .with(WqeCtrlSeg::OPMOD_IDX_OPCODE, opmod << 24 | u32::from(place.index) << 8 | u32::from(opcode.0))
        .with(WqeCtrlSeg::QPN_DS, place.sqn << 8 | blocks_ds)
        .with(WqeCtrlSeg::FM_CE_SE_COMPLETION_MODE, if place.signalled { CE_ALWAYS } else { 0 })
        .with(WqeCtrlSeg::IMM, id)
}

/// Writes the two blocks that every UMR begins with.
#[inline(always)]
fn write_umr_head(to: &mut impl Room, control: &WqeCtrlSeg, umr: &WqeUmrCtrlSeg, context: &WqeMkeySeg) {
    let mut block = [0; BLOCK];
    block[..16].copy_from_slice(control.bytes());
    block[16..].copy_from_slice(umr.bytes());
    to.write_block(0, &block);
    to.write_block(1, &context.0);
}

/// Writes a static parameters WQE: [`STATIC_BLOCKS`] blocks. `resync` is 0 at first, else the confirmed sequence number of
/// a PDU header's first byte.
pub fn static_params(to: &mut impl Room, place: Place, tirn: u32, params: ConnectionParams, resync: u32) {
    let umr = WqeUmrCtrlSeg::zeroed()
        .with(WqeUmrCtrlSeg::FLAGS_INLINE, 1)
        // In this WQE the field counts the parameters' octowords.
        .with(WqeUmrCtrlSeg::XLT_OFFSET, (StaticParams::SIZE / 16) as u32);
    let ds = umr_ds(KLMS_PER_BLOCK);
    let control = control(place, OPMOD_TIR_STATIC, WqeOpcode::UMR, ds, tirn << 8);
    write_umr_head(to, &control, &umr, &WqeMkeySeg::zeroed());
    let body = StaticParams::zeroed()
        .with(StaticParams::CONST_2, 2)
        .with(StaticParams::CONST_1, 1)
        .with(StaticParams::ACC_TYPE, 2)
        .with(StaticParams::CCCID_TTAG, 1)
        .with(StaticParams::ZERO_COPY_EN, params.zero_copy.into())
        .with(StaticParams::DDGST_OFFLOAD_EN, params.check_data_digest.into())
        .with(StaticParams::DDGST_EN, params.data_digest.into())
        .with(StaticParams::HDDGST_EN, params.header_digest.into())
        .with(StaticParams::PDA, params.pda.into())
        .with(StaticParams::NVME_RESYNC_TCP_SN, resync);
    to.write_block(HEAD_BLOCKS, &body.0);
}

/// Writes a progress parameters WQE: [`PROGRESS_DS`] units. `next_pdu` is the sequence number of the first PDU header
/// that the device will see.
pub fn progress_params(to: &mut impl Room, place: Place, tirn: u32, next_pdu: u32) {
    let mut block = [0; 32];
    let control = control(place, OPMOD_TIR_PROGRESS, WqeOpcode::SET_PSV, PROGRESS_DS, 0);
    block[..16].copy_from_slice(control.bytes());
    // The TIR number stands right-justified here, not shifted as in the control segment.
    block[16..20].copy_from_slice(&tirn.to_be_bytes());
    let context = ProgressParams::zeroed().with(ProgressParams::NEXT_PDU_TCP_SN, next_pdu);
    block[20..32].copy_from_slice(&context.bytes()[..12]);
    to.write(0, &block);
}

/// Writes entries `first ..` of a TIR's tag buffer table: `umr_blocks(keys.len())` blocks. `first` is a multiple of 4.
pub fn tag_fill(to: &mut impl Room, place: Place, tirn: u32, first: u16, keys: &[u32]) {
    debug_assert!(first.is_multiple_of(KLMS_PER_BLOCK as u16));
    let umr = WqeUmrCtrlSeg::zeroed()
        .with(WqeUmrCtrlSeg::FLAGS_INLINE, 1)
        .with(WqeUmrCtrlSeg::FLAGS_TRANSLATION_OFFSET_EN, 1)
        .with(WqeUmrCtrlSeg::XLT_OCTOWORDS, keys.len().next_multiple_of(KLMS_PER_BLOCK) as u32)
        .with(WqeUmrCtrlSeg::XLT_OFFSET, first.into());
    let ds = umr_ds(keys.len());
    let control = control(place, OPMOD_TIR_STATIC, WqeOpcode::UMR, ds, tirn << 8);
    write_umr_head(to, &control, &umr, &WqeMkeySeg::zeroed());
    for (n, keys) in keys.chunks(KLMS_PER_BLOCK).enumerate() {
        let mut block = [0; BLOCK];
        for (to, key) in block.chunks_exact_mut(16).zip(keys) {
            to[..4].copy_from_slice(&TAG_ENTRY_LENGTH.to_be_bytes());
            to[4..8].copy_from_slice(&key.to_be_bytes());
        }
        to.write_block(HEAD_BLOCKS + n, &block);
    }
}

/// Writes one of the UMRs that bind a tag's memory key `key`, with entries `first ..` of the list (a multiple of 4):
/// [`list_blocks`]`(part.len())` blocks. The entries' memory keys are filled in with `mask` ([`key_mask`]). The first UMR
/// of a list also sets the length, the size of the list and "not free".
#[inline(always)]
pub fn setup(
    to: &mut impl Room,
    place: Place,
    key: u32,
    list: Extent,
    first: u16,
    part: &[[Klm; KLMS_PER_BLOCK]],
    mask: Klm,
) {
    debug_assert!(first.is_multiple_of(KLMS_PER_BLOCK as u16) && !part.is_empty());
    let head = first == 0;
    let umr = WqeUmrCtrlSeg::zeroed()
        .with(WqeUmrCtrlSeg::FLAGS_INLINE, 1)
        .with(WqeUmrCtrlSeg::FLAGS_TRANSLATION_OFFSET_EN, 1)
        .with(WqeUmrCtrlSeg::XLT_OCTOWORDS, (part.len() * KLMS_PER_BLOCK) as u32)
        .with(WqeUmrCtrlSeg::XLT_OFFSET, first.into())
        .with_wide(WqeUmrCtrlSeg::MKEY_MASK, if head { MASK_LEN | MASK_XLT_OCT_SIZE | MASK_FREE } else { 0 });
    let context = WqeMkeySeg::zeroed()
        .with_wide(WqeMkeySeg::LEN, if head { list.bytes.into() } else { 0 })
        .with(WqeMkeySeg::XLT_OCT_SIZE, if head { list.entries.into() } else { 0 });
    let control = control(place, OPMOD_MKEY, WqeOpcode::UMR, list_blocks(part.len()) * 4, key);
    write_umr_head(to, &control, &umr, &context);
    let mask = [mask; KLMS_PER_BLOCK];
    for (n, entries) in part.iter().enumerate() {
        let mut block = [0; BLOCK];
        for ((to, entry), mask) in block.iter_mut().zip(entries.as_bytes()).zip(mask.as_bytes()) {
            *to = entry & mask;
        }
        to.write_block(HEAD_BLOCKS + n, &block);
    }
}

/// A whole KLM list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes that the list describes.
    pub bytes: u32,
    /// Entries, rounded up to a multiple of 4.
    pub entries: u16,
}

/// Writes an invalidate: [`INVALIDATE_BLOCKS`] blocks. Its CQE means that the device does not use the buffer any more.
#[inline(always)]
pub fn invalidate(to: &mut impl Room, place: Place, key: u32) {
    let umr =
        WqeUmrCtrlSeg::zeroed().with(WqeUmrCtrlSeg::FLAGS_INLINE, 1).with_wide(WqeUmrCtrlSeg::MKEY_MASK, MASK_FREE);
    let control = control(place, OPMOD_MKEY, WqeOpcode::UMR, umr_ds(0), key);
    write_umr_head(to, &control, &umr, &WqeMkeySeg::zeroed().with(WqeMkeySeg::STATUS_FREE, 1));
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | reference vectors A to F come out byte for byte | `vector_a_static_params` … `vector_f_resync` |
    //! | 52 entries fit a WQE of 1 KiB, and no capability makes one that its size field cannot say | `entries_follow_the_capability` |
    //! | setups in parts describe the same list, every part fits, pads are zero | `a_split_list_is_the_list` |
    //! | the blocks announced are the blocks written | `a_split_list_is_the_list` |
    use super::*;
    use proptest::prelude::*;

    /// Room of a WQE in a ring that remembers which bytes were written.
    struct Ring(Vec<Option<u8>>);

    impl Ring {
        fn new() -> Ring {
            Ring(vec![None; 64 * BLOCK])
        }

        fn bytes(&self) -> Vec<u8> {
            let written = self.0.iter().take_while(|b| b.is_some()).count();
            assert!(self.0[written..].iter().all(Option::is_none), "a hole in the WQE");
            self.0[..written].iter().flatten().copied().collect()
        }
    }

    impl Room for Ring {
        fn write_block(&mut self, n: usize, block: &[u8; BLOCK]) {
            self.write(n * BLOCK, block);
        }

        fn write(&mut self, offset: usize, bytes: &[u8]) {
            for (n, byte) in bytes.iter().enumerate() {
                assert!(self.0[offset + n].replace(*byte).is_none(), "byte {} written twice", offset + n);
            }
        }
    }

    /// (byte offset, dwords), all else zero, of a WQE of `len` bytes.
    fn expected(len: usize, lines: &[(usize, [u32; 4])]) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for (at, words) in lines {
            for (n, word) in words.iter().enumerate() {
                bytes[at + 4 * n..][..4].copy_from_slice(&word.to_be_bytes());
            }
        }
        bytes
    }

    fn place(index: u16, signalled: bool) -> Place {
        Place { sqn: 0x1234, index, signalled }
    }

    const PARAMS: ConnectionParams =
        ConnectionParams { zero_copy: true, check_data_digest: true, data_digest: true, header_digest: true, pda: 0 };

    fn klm(bytes: u32, va: u64) -> Klm {
        Klm::zeroed().with(Klm::BCOUNT, bytes).with(Klm::KEY, 0x600).with_wide(Klm::VA, va)
    }

    #[test]
    fn vector_a_static_params() {
        let mut ring = Ring::new();
        static_params(&mut ring, place(0, true), 0xabc, PARAMS, 0);
        let vector = [
            (0x00, [0x02000025, 0x0012340c, 0x00000008, 0x000abc00]),
            (0x10, [0x80000000, 0x00000004, 0, 0]),
            (0x80, [0x81000002, 0, 0, 0]),
            (0xa0, [0, 0x00000b60, 0, 0]),
        ];
        assert_eq!(ring.bytes(), expected(192, &vector));
    }

    #[test]
    fn vector_b_progress_params() {
        let mut ring = Ring::new();
        progress_params(&mut ring, place(3, true), 0xabc, 0x11223344);
        let vector = [(0, [0x04000320, 0x00123402, 0x00000008, 0]), (0x10, [0x00000abc, 0x11223344, 0, 0])];
        assert_eq!(ring.bytes(), expected(32, &vector));
    }

    #[test]
    fn vector_c_tag_fill() {
        let mut ring = Ring::new();
        tag_fill(&mut ring, place(4, true), 0xabc, 0, &[0x500000, 0x500100, 0x500200, 0x500300]);
        let vector = [
            (0x00, [0x02000425, 0x0012340c, 0x00000008, 0x000abc00]),
            (0x10, [0x90000000, 0x00040000, 0, 0]),
            (0x80, [0xffffffff, 0x00500000, 0, 0]),
            (0x90, [0xffffffff, 0x00500100, 0, 0]),
            (0xa0, [0xffffffff, 0x00500200, 0, 0]),
            (0xb0, [0xffffffff, 0x00500300, 0, 0]),
        ];
        assert_eq!(ring.bytes(), expected(192, &vector));
    }

    #[test]
    fn vector_d_setup() {
        let mut ring = Ring::new();
        let entries = [klm(12288, 0x100001000), klm(4096, 0x100010000), klm(512, 0x100020000), Klm::zeroed()];
        setup(
            &mut ring,
            place(7, false),
            0x500100,
            Extent { bytes: 16896, entries: 4 },
            0,
            &[entries],
            key_mask(u32::MAX),
        );
        let vector = [
            (0x00, [0x00000725, 0x0012340c, 0x00000000, 0x00500100]),
            (0x10, [0x90000000, 0x00040000, 0, 0x20000005]),
            (0x50, [0, 0, 0, 0x00004200]),
            (0x70, [0, 0x00000004, 0, 0]),
            (0x80, [0x00003000, 0x00000600, 0x00000001, 0x00001000]),
            (0x90, [0x00001000, 0x00000600, 0x00000001, 0x00010000]),
            (0xa0, [0x00000200, 0x00000600, 0x00000001, 0x00020000]),
        ];
        assert_eq!(ring.bytes(), expected(192, &vector));
    }

    #[test]
    fn vector_e_invalidate() {
        let mut ring = Ring::new();
        invalidate(&mut ring, place(10, true), 0x500100);
        let vector = [
            (0x00, [0x00000a25, 0x00123408, 0x00000008, 0x00500100]),
            (0x10, [0x80000000, 0, 0, 0x20000000]),
            (0x40, [0x40000000, 0, 0, 0]),
        ];
        assert_eq!(ring.bytes(), expected(128, &vector));
    }

    #[test]
    fn vector_f_resync() {
        let mut ring = Ring::new();
        static_params(&mut ring, place(12, true), 0xabc, PARAMS, 0x11229999);
        let vector = [
            (0x00, [0x02000c25, 0x0012340c, 0x00000008, 0x000abc00]),
            (0x10, [0x80000000, 0x00000004, 0, 0]),
            (0x80, [0x81000002, 0, 0, 0]),
            (0xa0, [0, 0x00000b60, 0x11229999, 0]),
        ];
        assert_eq!(ring.bytes(), expected(192, &vector));
    }

    #[test]
    fn entries_follow_the_capability() {
        assert_eq!(entries_per_wqe(1024), Some(52));
        assert_eq!(entries_per_wqe(u32::MAX), Some(52), "the size field has 6 bits");
        assert_eq!(entries_per_wqe(512), Some(24));
        assert_eq!(entries_per_wqe(192), Some(4));
        assert_eq!((entries_per_wqe(191), entries_per_wqe(0)), (None, None));
        // §3.7: 52 + 52 + 24 entries are 15 + 15 + 8 blocks.
        assert_eq!(setup_blocks(128, 52), 38);
        assert_eq!((setup_blocks(1, 52), setup_blocks(52, 52), setup_blocks(53, 52)), (3, 15, 18));
    }

    proptest! {
        #[test]
        fn a_split_list_is_the_list(lengths in prop::collection::vec(1u32..9000, 1..=128), wqe_bytes in 192u32..2000) {
            let per_wqe = entries_per_wqe(wqe_bytes).expect("large enough");
            let list: Vec<_> = lengths.iter().enumerate().map(|(n, l)| klm(*l, 0x1_0000_0000 + 0x10_0000 * n as u64)).collect();
            let mut padded = list.clone();
            padded.resize(list.len().next_multiple_of(KLMS_PER_BLOCK), Klm::zeroed());
            let extent = Extent { bytes: lengths.iter().sum(), entries: padded.len() as u16 };
            let (mut seen, mut blocks) = (Vec::new(), 0);
            for (n, part) in padded.chunks(per_wqe).enumerate() {
                let mut ring = Ring::new();
                setup(&mut ring, place(7, false), 0x500100, extent, (n * per_wqe) as u16, part.as_chunks().0, key_mask(u32::MAX));
                let bytes = ring.bytes();
                prop_assert!(bytes.len() <= wqe_bytes as usize && bytes.len() / 16 <= 63);
                prop_assert_eq!(bytes.len(), umr_blocks(part.len()) * BLOCK);
                blocks += bytes.len() / BLOCK;
                let control = WqeCtrlSeg::from_prefix(&bytes);
                let umr = WqeUmrCtrlSeg::from_prefix(&bytes[16..]);
                let context = WqeMkeySeg::from_prefix(&bytes[64..]);
                prop_assert_eq!(control.get(WqeCtrlSeg::QPN_DS_DS) as usize * 16, bytes.len());
                let octowords = umr.get(WqeUmrCtrlSeg::XLT_OCTOWORDS) as usize;
                prop_assert_eq!(128 + octowords * 16, bytes.len());
                prop_assert_eq!(umr.get(WqeUmrCtrlSeg::XLT_OFFSET) as usize, seen.len());
                prop_assert_eq!(umr.get_wide(WqeUmrCtrlSeg::MKEY_MASK), if n == 0 { 0x2000_0005 } else { 0 });
                if n == 0 {
                    prop_assert_eq!(context.get_wide(WqeMkeySeg::LEN), u64::from(extent.bytes));
                    prop_assert_eq!(context.get(WqeMkeySeg::XLT_OCT_SIZE) as usize, list.len().next_multiple_of(4));
                } else {
                    prop_assert_eq!(context, WqeMkeySeg::zeroed());
                }
                seen.extend(bytes[128..].chunks(16).map(Klm::from_prefix));
            }
            prop_assert_eq!(seen, padded);
            prop_assert_eq!(blocks, setup_blocks(lengths.len(), per_wqe));
        }
    }
}
