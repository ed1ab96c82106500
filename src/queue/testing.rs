//! A function without hardware for the tests of queues: memory that nothing is mapped to, registers that only remember.

use crate::adapter::{Handle, ObjectLog};
use crate::command::{ObjectKind, Request};
use crate::dma::{Arena, DmaError, DmaHeap, DmaMapper, Iova, IovaAllocator};
use crate::platform::{Identity, Platform, PlatformError};
use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

struct NoMapper;

impl DmaMapper for NoMapper {
    fn map(&self, _: Iova, _: &Arena) -> Result<(), DmaError> {
        Ok(())
    }
    fn unmap(&self, _: Iova, _: u64) -> Result<(), DmaError> {
        Ok(())
    }
}

/// DMA memory that no device sees.
pub(crate) fn heap() -> DmaHeap {
    DmaHeap::new(Arc::new(NoMapper), IovaAllocator::new(&[0..=u64::MAX >> 16]))
}

/// The handle of an object that no firmware knows.
pub(crate) fn handle(kind: ObjectKind, number: u32) -> Handle {
    ObjectLog::default().record(kind, number, Request::from_bytes(&[], 0), &[])
}

/// A function whose registers remember what was written.
pub(crate) struct TestPlatform {
    identity: Identity,
    /// (offset, value) of every register write, in order.
    pub(crate) writes: RefCell<Vec<(u64, u64)>>,
    now: Cell<Duration>,
}

impl TestPlatform {
    pub(crate) fn new() -> TestPlatform {
        let identity = Identity { address: "test".into(), vendor: 0x15b3, device: 0x1021 };
        TestPlatform { identity, writes: RefCell::default(), now: Cell::default() }
    }
}

impl Platform for TestPlatform {
    fn identity(&self) -> &Identity {
        &self.identity
    }
    fn bar_size(&self) -> u64 {
        32 << 20
    }
    fn read32(&self, _: u64) -> u32 {
        0
    }
    fn write32(&self, offset: u64, value: u32) {
        self.writes.borrow_mut().push((offset, u64::from(value)));
    }
    fn write64(&self, offset: u64, value: u64) {
        self.writes.borrow_mut().push((offset, value));
    }
    fn dma_mapper(&self) -> Arc<dyn DmaMapper> {
        Arc::new(NoMapper)
    }
    fn iova_ranges(&self) -> Vec<RangeInclusive<u64>> {
        vec![0..=u64::MAX >> 16]
    }
    fn reset(&self) -> Result<(), PlatformError> {
        Ok(())
    }
    fn vectors(&self) -> u16 {
        0
    }
    fn take_interrupt(&self, _: u16) -> bool {
        false
    }
    fn now(&self) -> Duration {
        self.now.get()
    }
    fn pause(&self) {
        self.now.set(self.now.get() + Duration::from_micros(1));
    }
}
