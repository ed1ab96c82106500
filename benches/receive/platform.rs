//! The virtual function as the measured driver sees it: nothing of the model runs while the driver does.
//!
//! A doorbell that the driver writes inside a measured region is kept, and reaches the device when the region is over
//! ([`Deferred::deliver`]); a register that it reads there has the value that it had when the region began. So what is
//! counted is the driver, and what the device does of it is done in between, as by hardware that works on its own.

use connectx_ddp::dma::{DmaHeap, DmaMapper};
use connectx_ddp::platform::virtual_nic::VirtualPlatform;
use connectx_ddp::platform::{Identity, Platform, PlatformError};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A write of the driver.
#[derive(Clone, Copy)]
enum Doorbell {
    Word(u64, u32),
    Wide(u64, u64),
}

/// A platform whose device works only between regions.
pub struct Deferred {
    inner: Arc<VirtualPlatform>,
    measuring: AtomicBool,
    doorbells: Mutex<Vec<Doorbell>>,
    /// Every register that was ever read, and its value.
    registers: Mutex<Vec<(u64, u32)>>,
    /// Times that a region needed the model all the same.
    leaks: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Deferred {
    /// The driver's view of `inner`.
    pub fn new(inner: Arc<VirtualPlatform>) -> Deferred {
        Deferred {
            inner,
            measuring: AtomicBool::new(false),
            doorbells: Mutex::new(Vec::with_capacity(64)),
            registers: Mutex::new(Vec::new()),
            leaks: AtomicU64::new(0),
        }
    }

    /// A measured region begins.
    pub fn begin(&self) {
        for (offset, value) in lock(&self.registers).iter_mut() {
            *value = self.inner.read32(*offset);
        }
        self.measuring.store(true, Ordering::Relaxed);
    }

    /// It is over: what the driver wrote reaches the device.
    pub fn deliver(&self) {
        self.measuring.store(false, Ordering::Relaxed);
        for doorbell in lock(&self.doorbells).drain(..) {
            match doorbell {
                Doorbell::Word(offset, value) => self.inner.write32(offset, value),
                Doorbell::Wide(offset, value) => self.inner.write64(offset, value),
            }
        }
    }

    /// How often a measured region ran the model: 0, or its counts mean nothing.
    pub fn leaks(&self) -> u64 {
        self.leaks.load(Ordering::Relaxed)
    }

    fn is_measuring(&self) -> bool {
        self.measuring.load(Ordering::Relaxed)
    }
}

impl Platform for Deferred {
    fn identity(&self) -> &Identity {
        self.inner.identity()
    }
    fn bar_size(&self) -> u64 {
        self.inner.bar_size()
    }
    fn read32(&self, offset: u64) -> u32 {
        let mut registers = lock(&self.registers);
        let known = registers.iter().position(|(at, _)| *at == offset);
        if self.is_measuring() {
            match known {
                Some(known) => return registers[known].1,
                None => self.leaks.fetch_add(1, Ordering::Relaxed),
            };
        } else if known.is_none() {
            registers.push((offset, 0));
        }
        self.inner.read32(offset)
    }
    fn write32(&self, offset: u64, value: u32) {
        match self.is_measuring() {
            true => lock(&self.doorbells).push(Doorbell::Word(offset, value)),
            false => self.inner.write32(offset, value),
        }
    }
    fn write64(&self, offset: u64, value: u64) {
        match self.is_measuring() {
            true => lock(&self.doorbells).push(Doorbell::Wide(offset, value)),
            false => self.inner.write64(offset, value),
        }
    }
    fn dma_mapper(&self) -> Arc<dyn DmaMapper> {
        self.inner.dma_mapper()
    }
    fn iova_ranges(&self) -> Vec<RangeInclusive<u64>> {
        self.inner.iova_ranges()
    }
    fn dma_heap(&self) -> DmaHeap {
        self.inner.dma_heap()
    }
    fn reset(&self) -> Result<(), PlatformError> {
        self.inner.reset()
    }
    fn vectors(&self) -> u16 {
        self.inner.vectors()
    }
    fn take_interrupt(&self, vector: u16) -> bool {
        self.inner.take_interrupt(vector)
    }
    fn now(&self) -> Duration {
        self.inner.now()
    }
    fn pause(&self) {
        if self.is_measuring() {
            self.leaks.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.pause();
    }
}
