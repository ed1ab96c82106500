//! Event queues: rings that the device writes (`mlx5-bringup.md` §7).

use crate::command::Request;
use crate::dma::{DmaBuf, DmaError, DmaHeap};
use crate::platform::Platform;
use crate::queue::{RingKind, RingView};
use firmware_iface::command::object::{CreateEqIn, DestroyEqIn};
use firmware_iface::context::Eqc;
use hw_regs::barrier;
use hw_regs::doorbell::EqDoorbellMmio;
use hw_regs::eqe::{Eqe, EventType};
use hw_regs::layout::{Access, Layout};
use hw_regs::uar;

const EQE_BYTES: usize = Eqe::SIZE;
/// Byte of an entry whose lowest bit says whose it is.
const OWNER: usize = EQE_BYTES - 1;
/// Page shift that `log_page_size` counts from.
const PAGE_SHIFT: u32 = 12;

/// An event queue: its ring and how far it was read.
#[derive(Debug)]
pub(super) struct EventQueue {
    ring: DmaBuf,
    log_size: u32,
    /// Entries consumed; free-running, its bit `log_size` is the lap.
    consumed: u32,
    number: u8,
    uar: u32,
}

impl EventQueue {
    /// Memory of a ring of 2^`log_size` entries, all of them owned by the device: the owner bit of lap 0 is 0.
    pub fn ring(heap: &DmaHeap, log_size: u32) -> Result<DmaBuf, DmaError> {
        let bytes = (EQE_BYTES << log_size).max(1 << PAGE_SHIFT);
        let ring = heap.allocate(bytes, 1 << PAGE_SHIFT)?;
        for entry in 0..1 << log_size {
            ring.store_release(entry * EQE_BYTES + OWNER, 1);
        }
        Ok(ring)
    }

    /// The command that creates a queue in `ring`, of 2^`log_size` entries, that gets `events` and fires `vector`.
    pub fn create(ring: &DmaBuf, log_size: u32, uar: u32, vector: u16, events: &[EventType]) -> Request {
        let context = Eqc::zeroed()
            .with(Eqc::LOG_EQ_SIZE, log_size)
            .with(Eqc::UAR_PAGE, uar)
            .with(Eqc::INTR, u32::from(vector))
            .with(Eqc::LOG_PAGE_SIZE, 0);
        let mut mask = [0u64; 4];
        for event in events {
            mask[usize::from(event.0 / 64)] |= 1 << (event.0 % 64);
        }
        let mut input = CreateEqIn::zeroed().with_nested(CreateEqIn::EQ_CONTEXT_ENTRY, &context);
        for (index, word) in mask.into_iter().enumerate() {
            input.set_at(CreateEqIn::EVENT_BITMASK, index, word);
        }
        Request::new(&input).pages(ring)
    }

    /// The command that destroys queue `number`.
    pub fn destroy(number: u32) -> Request {
        Request::new(&DestroyEqIn::zeroed().with(DestroyEqIn::EQ_NUMBER, number & 0xff))
    }

    pub fn new(ring: DmaBuf, log_size: u32, number: u8, uar: u32) -> EventQueue {
        EventQueue { ring, log_size, consumed: 0, number, uar }
    }

    pub fn number(&self) -> u8 {
        self.number
    }

    /// The next event, copied out of the ring. The caller bounds how many it takes at a time.
    pub fn next(&mut self) -> Option<Eqe> {
        let at = (self.consumed as usize & ((1 << self.log_size) - 1)) * EQE_BYTES;
        let owner = u32::from(self.ring.load_acquire(at + OWNER)) & 1;
        if owner != self.consumed >> self.log_size & 1 {
            return None;
        }
        barrier::dma_read();
        self.consumed = self.consumed.wrapping_add(1);
        Some(Eqe(self.ring.read_array(at)))
    }

    /// The ring, for whoever looks at it.
    pub fn view(&self) -> RingView<'_> {
        RingView {
            kind: RingKind::Eq,
            number: self.number.into(),
            memory: &self.ring,
            stride: EQE_BYTES,
            producer: None,
            consumer: self.consumed,
            record: None,
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        1 << self.log_size
    }

    /// Tells the device how far the queue was read, and asks for one interrupt when there is more.
    pub fn arm(&self, platform: &impl Platform) {
        barrier::before_doorbell();
        let doorbell = EqDoorbellMmio::zeroed()
            .with(EqDoorbellMmio::EQN_CI_EQN, u32::from(self.number))
            .with(EqDoorbellMmio::EQN_CI_CI, self.consumed & EqDoorbellMmio::EQN_CI_CI.max());
        platform.write32(uar::offset(self.uar, uar::EQ_ARM), doorbell.get(EqDoorbellMmio::EQN_CI));
    }
}
