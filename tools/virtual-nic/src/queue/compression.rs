//! Compression of receive completions (`mlx5-bringup.md` §8.6).
//!
//! ```text
//!  slot     ci         ci+1            ci+2 .. ci+7   ci+8            ...     n slots for n completions
//!         | title    | 8 mini CQEs:  | as it was    | 8 mini CQEs:  |
//!         | format 3 | of ci .. ci+7 |              | of ci+8 ..    |
//!         | byte_cnt = n
//! ```
//!
//! Completions that differ only in length, checksum, place and time become one row: the title has what they share, a mini
//! CQE what differs. A row ends when a completion does not fit it, when it is full, and at the latest when time passes or a
//! command comes: the device holds nothing back that is not followed by more at once.

use super::cq::CQE;
use firmware_iface::context::Cqc;
use hw_regs::cqe::{Cqe64, MiniCqe8};
use hw_regs::layout::{Access, Layout};

/// Completions of a row, at most.
const LONGEST: usize = 64;
/// Mini CQEs of a slot.
pub(crate) const ARRAY: usize = CQE / MiniCqe8::SIZE;
/// `cqe_format` of a title.
const COMPRESSED: u32 = 3;

/// What a mini CQE holds besides the length (`mini_cqe_res_format`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// The checksum. Places follow from each other.
    Checksum,
    /// Checksum and stride index.
    ChecksumStride,
}

/// The row of a completion queue.
pub(crate) struct Row {
    format: Format,
    title: Cqe64,
    minis: Vec<MiniCqe8>,
    /// The place that the next completion has if places follow from each other.
    next: u16,
}

impl Row {
    /// Whether a queue compresses: `None` if it asks for what does not exist. `stride_index`: the function can say it in
    /// mini CQEs.
    pub(crate) fn of(context: &Cqc, stride_index: bool) -> Option<Option<Row>> {
        if !context.is_set(Cqc::CQE_COMP_EN) {
            return Some(None);
        }
        let format = match context.get(Cqc::MINI_CQE_RES_FORMAT) {
            1 => Format::Checksum,
            3 if stride_index => Format::ChecksumStride,
            _ => return None,
        };
        let row = Row { format, title: Cqe64::zeroed(), minis: Vec::with_capacity(LONGEST), next: 0 };
        (context.get(Cqc::CQE_COMPRESSION_LAYOUT) == 0).then_some(Some(row))
    }

    /// Completions in the row.
    pub(crate) fn len(&self) -> usize {
        self.minis.len()
    }

    /// True if the completion can be the next of the row. A first one always can.
    pub(crate) fn fits(&self, cqe: &Cqe64) -> bool {
        if self.minis.is_empty() {
            return true;
        }
        let follows = self.format == Format::ChecksumStride || cqe.get(Cqe64::WQE_COUNTER) == u32::from(self.next);
        follows && self.minis.len() < LONGEST && shared(cqe) == shared(&self.title)
    }

    /// Adds a completion that fits. `strided`: its place is a stride.
    pub(crate) fn add(&mut self, cqe: &Cqe64, strided: bool) {
        if self.minis.is_empty() {
            self.title = *cqe;
        }
        let mut mini = MiniCqe8::zeroed()
            .with(MiniCqe8::CHECKSUM, cqe.get(Cqe64::CHECK_SUM))
            .with(MiniCqe8::BYTE_CNT, cqe.get(Cqe64::BYTE_CNT));
        if self.format == Format::ChecksumStride {
            mini.set(MiniCqe8::STRIDX, cqe.get(Cqe64::WQE_COUNTER));
        }
        self.minis.push(mini);
        let step = if strided { cqe.get(Cqe64::BYTE_CNT_MPWRQ_CONSUMED_STRIDES) } else { 1 };
        self.next = (cqe.get(Cqe64::WQE_COUNTER) as u16).wrapping_add(step as u16);
    }

    /// The title, which is the completion itself if it is alone.
    pub(crate) fn title(&self) -> Cqe64 {
        match self.minis.len() {
            0 | 1 => self.title,
            n => self.title.with(Cqe64::OP_OWN_CQE_FORMAT, COMPRESSED).with(Cqe64::BYTE_CNT, n as u32),
        }
    }

    /// The arrays of mini CQEs, each with its slot counted from the title's.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = (u32, [u8; CQE])> + '_ {
        let alone = self.minis.len() < 2;
        self.minis.chunks(ARRAY).filter(move |_| !alone).enumerate().map(|(n, minis)| {
            let mut array = [0; CQE];
            for (place, mini) in array.chunks_exact_mut(MiniCqe8::SIZE).zip(minis) {
                place.copy_from_slice(mini.bytes());
            }
            ((n * ARRAY).max(1) as u32, array)
        })
    }

    /// An empty row again.
    pub(crate) fn clear(&mut self) {
        self.minis.clear();
    }
}

/// A completion without what mini CQEs hold, and without its time, which is the title's.
fn shared(cqe: &Cqe64) -> Cqe64 {
    let fields = [Cqe64::CHECK_SUM, Cqe64::BYTE_CNT, Cqe64::WQE_COUNTER, Cqe64::TIMESTAMP_H, Cqe64::TIMESTAMP_L];
    fields.into_iter().fold(*cqe, |cqe, field| cqe.with(field, 0))
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | what a driver expands out of a row is what was put in, whatever its length and format | `a_row_is_what_was_put_in` |
    //! | a completion that differs, does not follow, or is one too many, does not fit | `what_differs_does_not_fit` |
    //! | formats and layouts that the function does not have are refused | `unknown_formats_are_refused` |
    use super::*;

    fn context(format: u32) -> Cqc {
        Cqc::zeroed().with(Cqc::CQE_COMP_EN, 1).with(Cqc::MINI_CQE_RES_FORMAT, format)
    }

    fn row(format: u32) -> Row {
        Row::of(&context(format), true).unwrap().unwrap()
    }

    fn cqe(place: u32, len: u32) -> Cqe64 {
        Cqe64::zeroed()
            .with(Cqe64::OP_OWN_OPCODE, 2)
            .with(Cqe64::RSS_HASH_RESULT, 0x1234)
            .with(Cqe64::WQE_COUNTER, place)
            .with(Cqe64::BYTE_CNT, len)
            .with(Cqe64::CHECK_SUM, (len * 3) & 0xffff)
            .with(Cqe64::TIMESTAMP_L, len)
    }

    /// What a driver does (§8.6): length, checksum and place of each.
    fn expanded(row: &Row, format: u32) -> Vec<(u32, u32, u32)> {
        let (title, arrays): (_, Vec<_>) = (row.title(), row.arrays().collect());
        if title.get(Cqe64::OP_OWN_CQE_FORMAT) == 0 {
            assert!(arrays.is_empty());
            return vec![(title.get(Cqe64::BYTE_CNT), title.get(Cqe64::CHECK_SUM), title.get(Cqe64::WQE_COUNTER))];
        }
        let mut place = title.get(Cqe64::WQE_COUNTER);
        let one = |n: u32| {
            let slot = if n < 8 { 1 } else { n / 8 * 8 };
            let array = arrays.iter().find(|(at, _)| *at == slot).expect("an array at its slot").1;
            let mini = MiniCqe8::from_prefix(&array[(n % 8) as usize * 8..]);
            let at = if format == 3 { mini.get(MiniCqe8::STRIDX) } else { place };
            place += 1;
            (mini.get(MiniCqe8::BYTE_CNT), mini.get(MiniCqe8::CHECKSUM), at)
        };
        (0..title.get(Cqe64::BYTE_CNT)).map(one).collect()
    }

    #[test]
    fn a_row_is_what_was_put_in() {
        for format in [1, 3] {
            for len in [1, 2, 7, 8, 9, 16, 17, 63, 64] {
                let mut row = row(format);
                let step = if format == 3 { 3 } else { 1 };
                let all: Vec<_> = (0..len).map(|n| cqe(100 + n * step, 60 + n)).collect();
                for cqe in &all {
                    assert!(row.fits(cqe));
                    row.add(cqe, false);
                }
                let what = |cqe: &Cqe64| [Cqe64::BYTE_CNT, Cqe64::CHECK_SUM, Cqe64::WQE_COUNTER].map(|f| cqe.get(f));
                let expected: Vec<_> = all.iter().map(what).map(|[a, b, c]| (a, b, c)).collect();
                assert_eq!(expanded(&row, format), expected, "format {format}, {len}");
                assert!(row.arrays().all(|(slot, _)| slot < len), "inside its slots");
                row.clear();
                assert_eq!(row.len(), 0);
            }
        }
    }

    #[test]
    fn what_differs_does_not_fit() {
        let mut one = row(1);
        one.add(&cqe(7, 60), false);
        assert!(one.fits(&cqe(8, 99)) && !one.fits(&cqe(9, 60)) && !one.fits(&cqe(7, 60)));
        assert!(!one.fits(&cqe(8, 60).with(Cqe64::RSS_HASH_RESULT, 5)));
        assert!(!one.fits(&cqe(8, 60).with(Cqe64::WQE_ID, 1)));
        let mut strided = row(1);
        let first = cqe(0, 0).with(Cqe64::BYTE_CNT_MPWRQ_CONSUMED_STRIDES, 4);
        strided.add(&first, true);
        assert!(strided.fits(&cqe(4, 1)) && !strided.fits(&cqe(1, 1)));
        let mut full = row(3);
        for n in 0..64 {
            assert!(full.fits(&cqe(n, 60)));
            full.add(&cqe(n, 60), true);
        }
        assert!(!full.fits(&cqe(64, 60)));
    }

    #[test]
    fn unknown_formats_are_refused() {
        assert!(Row::of(&Cqc::zeroed(), true).is_some_and(|row| row.is_none()));
        assert!(Row::of(&context(0), true).is_none() && Row::of(&context(2), true).is_none());
        assert!(Row::of(&context(3), false).is_none() && Row::of(&context(1), false).is_some());
        assert!(Row::of(&context(1).with(Cqc::CQE_COMPRESSION_LAYOUT, 1), true).is_none());
    }
}
