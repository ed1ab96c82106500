//! Receive queues whose work requests hold many packets: striding RQs (`mlx5-bringup.md` §8.3).
//!
//! ```text
//!  WQE   | stride 0 | stride 1 | stride 2 | stride 3 | ... | the last
//!        | packet A .......... | packet B | packet C ............    each begins where a stride does
//! ```
//!
//! A completion names the WQE, the packet's first stride, and how many strides it took. A WQE is done when all its strides
//! are taken; a packet that does not fit into what is left of it goes to the next one, and a completion without a packet
//! (a filler) takes the rest. WQEs follow each other in the ring, or in a list in which each names the next: a driver gives
//! them back in any order.

use super::ring::Ring;
use crate::dma::DmaSpace;
use crate::queue::WorkError;
use firmware_iface::context::{Wq, WqType};
use hw_regs::layout::{Access, Layout};
use hw_regs::wqe::WqeSrqNextSeg;

/// `log_wqe_num_of_strides` is a signed number from here.
const COUNT_BASE: i32 = 9;
/// The least of it without and with `ext_stride_num_range`, and the most.
const COUNT: (i32, i32, i32) = (9, 3, 16);
/// `log_wqe_stride_size` is a number from here; with its three bits that is 64 to 8192 bytes.
const SIZE_BASE: u32 = 6;

/// Strides of the WQE that is being filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strides {
    /// log2 of the strides of a WQE.
    log_count: u32,
    /// log2 of the bytes of a stride.
    log_bytes: u32,
    /// WQEs form a list.
    linked: bool,
    /// Place of the WQE in the ring.
    wqe: u16,
    /// Strides of it that are taken.
    taken: u32,
    /// It is done: the next one follows when it is needed, since a list may not go on yet.
    done: bool,
}

/// Strides for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Place of the WQE in the ring.
    pub(crate) wqe: u16,
    /// First stride.
    pub(crate) first: u32,
    /// How many.
    pub(crate) count: u32,
}

impl Strides {
    /// What a work queue asks for: no strides if it is of another type. `None` if a WQE cannot have so many. `extended`: few
    /// are allowed (`ext_stride_num_range`).
    pub(crate) fn of(wq: &Wq, extended: bool) -> Option<Option<Strides>> {
        let linked = match WqType(wq.get(Wq::WQ_TYPE) as u8) {
            WqType::LINKED_LIST_STRIDING_RQ => true,
            WqType::CYCLIC_STRIDING_RQ => false,
            _ => return Some(None),
        };
        // Four bits, signed.
        let above = wq.get(Wq::LOG_WQE_NUM_OF_STRIDES) as i32;
        let log_count = COUNT_BASE + if above >= 8 { above - 16 } else { above };
        let (plain, few, most) = COUNT;
        if !(if extended { few } else { plain }..=most).contains(&log_count) {
            return None;
        }
        let log_bytes = SIZE_BASE + wq.get(Wq::LOG_WQE_STRIDE_SIZE);
        let log_count = log_count.unsigned_abs();
        Some(Some(Strides { log_count, log_bytes, linked, wqe: 0, taken: 0, done: false }))
    }

    /// Bytes in front of a WQE's data segments.
    pub(crate) fn head(&self) -> usize {
        if self.linked { WqeSrqNextSeg::SIZE } else { 0 }
    }

    /// Offset of a stride in the WQE's buffer.
    pub(crate) fn offset(&self, stride: u32) -> usize {
        (stride as usize) << self.log_bytes
    }

    /// Goes to the next WQE if this one is done. Called when one is posted.
    pub(crate) fn follow(&mut self, ring: &Ring, log_size: u32, log_wqe: u32, dma: &DmaSpace) -> Result<(), WorkError> {
        if !self.done {
            return Ok(());
        }
        let next = match self.linked {
            false => (u32::from(self.wqe) + 1) & ((1 << log_size) - 1),
            true => {
                let mut head = WqeSrqNextSeg::zeroed();
                let at = ring.iova(u64::from(self.wqe) << log_wqe);
                dma.read(at, head.bytes_mut()).map_err(|_| WorkError::UNREADABLE)?;
                head.get(WqeSrqNextSeg::NEXT_WQE_INDEX)
            }
        };
        if next >> log_size != 0 {
            return Err(WorkError::LINK);
        }
        (self.wqe, self.taken, self.done) = (next as u16, 0, false);
        Ok(())
    }

    /// Takes strides for `len` bytes. `Err`: they do not fit into what is left, which is taken instead, and the WQE is done.
    /// More than a whole WQE holds takes a whole one: the buffer is then too short.
    pub(crate) fn take(&mut self, len: usize) -> Result<Run, Run> {
        let all = 1 << self.log_count;
        let needed = (len.div_ceil(1 << self.log_bytes) as u32).clamp(1, all);
        let left = all - self.taken;
        let run = Run { wqe: self.wqe, first: self.taken, count: needed.min(left) };
        self.taken += run.count;
        self.done = self.taken == all;
        if needed > left { Err(run) } else { Ok(run) }
    }

    /// The WQE is done; the last completion said so.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// The queue begins anew.
    pub(crate) fn reset(&mut self) {
        (self.wqe, self.taken, self.done) = (0, 0, false);
    }

    /// Ends the WQE, whatever is left of it: it was flushed, or failed.
    pub(crate) fn end(&mut self) -> u16 {
        self.done = true;
        self.wqe
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | numbers and sizes of strides are decoded, signed and from their bases; others are refused | `counts_and_sizes_are_decoded` |
    //! | packets take whole strides one behind the other; what does not fit takes the rest as a filler | `strides_are_taken_in_order` |
    //! | WQEs follow each other by the list, or by the ring; a list that leads out of the ring is refused | `the_list_leads_on` |
    use super::*;
    use crate::dma::DmaSpace;
    use std::sync::Arc;
    use vm_memory::MmapRegion;

    fn wq(kind: WqType, count: u32, size: u32) -> Wq {
        Wq::zeroed()
            .with(Wq::WQ_TYPE, u32::from(kind.0))
            .with(Wq::LOG_WQE_NUM_OF_STRIDES, count)
            .with(Wq::LOG_WQE_STRIDE_SIZE, size)
    }

    fn strides(kind: WqType, count: u32, size: u32) -> Strides {
        Strides::of(&wq(kind, count, size), true).unwrap().unwrap()
    }

    #[test]
    fn counts_and_sizes_are_decoded() {
        let linked = WqType::LINKED_LIST_STRIDING_RQ;
        assert_eq!(Strides::of(&wq(WqType::CYCLIC, 0, 0), true), Some(None));
        let decoded = |count, size| {
            let strides = strides(linked, count, size);
            (strides.log_count, strides.log_bytes)
        };
        assert_eq!([decoded(0, 0), decoded(7, 7), decoded(0xa, 5)], [(9, 6), (16, 13), (3, 11)]);
        // Six below the base is the least, and only where few are allowed at all.
        assert_eq!(Strides::of(&wq(linked, 0x9, 0), true), None);
        assert_eq!(Strides::of(&wq(linked, 0xf, 0), false), None);
        assert!(Strides::of(&wq(linked, 0, 0), false).is_some());
    }

    #[test]
    fn strides_are_taken_in_order() {
        // Eight strides of 64 bytes.
        let mut s = strides(WqType::CYCLIC_STRIDING_RQ, 0xa, 0);
        let run = |first, count| Run { wqe: 0, first, count };
        assert_eq!(s.take(0), Ok(run(0, 1)));
        assert_eq!(s.take(64), Ok(run(1, 1)));
        assert_eq!(s.take(65), Ok(run(2, 2)));
        assert_eq!(s.take(128), Ok(run(4, 2)));
        assert!(!s.is_done());
        assert_eq!(s.take(129), Err(run(6, 2)), "a filler");
        assert!(s.is_done());
        s.reset();
        assert_eq!(s.take(512), Ok(run(0, 8)));
        assert!(s.is_done());
        s.reset();
        assert_eq!(s.take(513), Ok(run(0, 8)), "too long for any: the buffer is too short");
        assert_eq!((s.offset(3), s.head()), (192, 0));
    }

    #[test]
    fn the_list_leads_on() {
        let region = Arc::new(MmapRegion::new(0x1000).unwrap());
        let mut dma = DmaSpace::default();
        dma.map_region(0x10000, region).unwrap();
        let ring = Ring::new(256, 0, Box::new([0x10000])).unwrap();
        let link = |from: u64, to: u32| {
            let head = WqeSrqNextSeg::zeroed().with(WqeSrqNextSeg::NEXT_WQE_INDEX, to);
            dma.write(0x10000 + from * 32, head.bytes()).unwrap();
        };
        link(0, 5);
        link(5, 2);
        link(2, 8);
        let mut s = strides(WqType::LINKED_LIST_STRIDING_RQ, 0xa, 0);
        let next = |s: &mut Strides| {
            let moved = s.follow(&ring, 3, 5, &dma);
            moved.map(|()| s.end())
        };
        assert_eq!(s.head(), 16);
        assert_eq!([next(&mut s), next(&mut s), next(&mut s)], [Ok(0), Ok(5), Ok(2)]);
        assert_eq!(next(&mut s), Err(WorkError::LINK));
        let mut s = strides(WqType::CYCLIC_STRIDING_RQ, 0xa, 0);
        let order: Vec<_> = (0..9).map(|_| next(&mut s).unwrap()).collect();
        assert_eq!(order, [0, 1, 2, 3, 4, 5, 6, 7, 0]);
    }
}
