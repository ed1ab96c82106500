//! The in-process platform: a virtual ConnectX on simulated time.
//!
//! Whoever else lives in the process's world (the wire, the target) shares the [`Clock`] and reaches the device through
//! [`VirtualPlatform::nic`]. Time passes only when somebody lets it: a wait of the driver does, by
//! [`Platform::pause`]; so a run is repeatable, and a timeout of a minute costs no minute.

use super::{Identity, Platform, PlatformError};
use crate::dma::{Arena, DmaError, DmaHeap, DmaMapper, Iova, IovaAllocator};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use virtual_nic::VirtualNic;

/// How much time one look of a waiting loop takes.
const STEP: Duration = Duration::from_micros(1);
/// The same while the device has nothing to do: long timeouts then pass in few looks.
const IDLE_STEP: Duration = Duration::from_micros(100);
/// Device addresses that this platform's IOMMU translates: 48 bits, as common IOMMUs do.
const IOVA: RangeInclusive<u64> = 0..=(1 << 48) - 1;
const VENDOR: u16 = 0x15b3;

/// Simulated time; clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    /// Time since the start of the simulation.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Acquire))
    }

    /// Lets time pass; returns the new time.
    pub fn advance(&self, by: Duration) -> Duration {
        let by = by.as_nanos() as u64;
        Duration::from_nanos(self.0.fetch_add(by, Ordering::AcqRel) + by)
    }
}

/// A virtual function in this process.
pub struct VirtualPlatform {
    nic: Arc<Mutex<VirtualNic>>,
    clock: Clock,
    identity: Identity,
    bar_size: u64,
    fired: Arc<[AtomicBool]>,
    heap: DmaHeap,
    /// Since when the driver's costs are measured in real time, and nanoseconds that the device had of it.
    measured: OnceLock<Instant>,
    in_device: AtomicU64,
}

fn lock(nic: &Mutex<VirtualNic>) -> MutexGuard<'_, VirtualNic> {
    // A panic of another thread inside the device leaves it as a crashed device: still there to be looked at.
    nic.lock().unwrap_or_else(PoisonError::into_inner)
}

impl VirtualPlatform {
    /// A function on a clock of its own, called `name` in messages.
    pub fn new(name: &str, config: virtual_nic::Config) -> VirtualPlatform {
        VirtualPlatform::on_clock(name, config, Clock::default())
    }

    /// A function on a clock that others share.
    pub fn on_clock(name: &str, config: virtual_nic::Config, clock: Clock) -> VirtualPlatform {
        let mut nic = VirtualNic::new(config);
        let fired: Arc<[AtomicBool]> = (0..nic.vectors()).map(|_| AtomicBool::new(false)).collect();
        let flags = Arc::clone(&fired);
        nic.on_interrupt(Box::new(move |vector| {
            if let Some(flag) = flags.get(usize::from(vector)) {
                flag.store(true, Ordering::Release);
            }
        }));
        let identity = Identity { address: name.to_owned(), vendor: VENDOR, device: nic.device_id() };
        let bar_size = nic.bar_size();
        nic.advance(clock.now());
        let nic = Arc::new(Mutex::new(nic));
        let heap = DmaHeap::new(Arc::new(Mapper(Arc::clone(&nic))), IovaAllocator::new(&[IOVA]));
        VirtualPlatform {
            nic,
            clock,
            identity,
            bar_size,
            fired,
            heap,
            measured: OnceLock::new(),
            in_device: AtomicU64::new(0),
        }
    }

    /// The device: its wire side, its counters, its faults.
    ///
    /// Hold the guard only for the call: the driver's own accesses wait for it.
    pub fn nic(&self) -> MutexGuard<'_, VirtualNic> {
        lock(&self.nic)
    }

    /// From now on [`Platform::cost_clock`] is real time, less what the device took of it, which works inside of the
    /// driver's register accesses. Runs are not repeatable any more as far as something is decided by costs.
    pub fn measure_costs(&self) {
        self.measured.get_or_init(Instant::now);
    }

    /// An access of the driver's, behind which the device works.
    fn access<T>(&self, access: impl FnOnce(&mut VirtualNic) -> T) -> T {
        let began = self.measured.get().map(|_| Instant::now());
        let result = access(&mut self.nic());
        if let Some(began) = began {
            self.in_device.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
        result
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    fn check(&self, offset: u64, size: u64) {
        assert!(
            offset.is_multiple_of(size) && offset.checked_add(size).is_some_and(|end| end <= self.bar_size),
            "register {offset:#x} of {size} bytes is outside a BAR of {:#x} bytes or not aligned",
            self.bar_size
        );
    }
}

impl Platform for VirtualPlatform {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn bar_size(&self) -> u64 {
        self.bar_size
    }

    fn read32(&self, offset: u64) -> u32 {
        self.check(offset, 4);
        self.access(|nic| nic.read32(offset))
    }

    fn write32(&self, offset: u64, value: u32) {
        self.check(offset, 4);
        self.access(|nic| nic.write32(offset, value));
    }

    fn write64(&self, offset: u64, value: u64) {
        self.check(offset, 8);
        self.access(|nic| nic.write64(offset, value));
    }

    fn dma_mapper(&self) -> Arc<dyn DmaMapper> {
        Arc::new(Mapper(Arc::clone(&self.nic)))
    }

    fn iova_ranges(&self) -> Vec<RangeInclusive<u64>> {
        vec![IOVA]
    }

    fn dma_heap(&self) -> DmaHeap {
        self.heap.clone()
    }

    fn reset(&self) -> Result<(), PlatformError> {
        let mut nic = self.nic();
        if nic.faults().is_gone() {
            let cause = "it does not answer: it is off the bus".to_owned();
            return Err(PlatformError::Reset { function: self.identity.clone(), cause });
        }
        nic.reset();
        drop(nic);
        self.fired.iter().for_each(|flag| flag.store(false, Ordering::Release));
        Ok(())
    }

    fn vectors(&self) -> u16 {
        self.fired.len() as u16
    }

    fn take_interrupt(&self, vector: u16) -> bool {
        self.fired.get(usize::from(vector)).is_some_and(|flag| flag.swap(false, Ordering::AcqRel))
    }

    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn cost_clock(&self) -> Duration {
        match self.measured.get() {
            Some(since) => since.elapsed().saturating_sub(Duration::from_nanos(self.in_device.load(Ordering::Relaxed))),
            None => self.now(),
        }
    }

    fn pause(&self) {
        let mut nic = self.nic();
        let now = self.clock.now();
        let due = nic.next_event().map_or(IDLE_STEP, |at| at.saturating_sub(now));
        let now = self.clock.advance(due.clamp(STEP, IDLE_STEP));
        nic.advance(now);
    }
}

/// The device's own IOMMU.
struct Mapper(Arc<Mutex<VirtualNic>>);

impl DmaMapper for Mapper {
    fn map(&self, iova: Iova, arena: &Arena) -> Result<(), DmaError> {
        let bytes = arena.len() as u64;
        lock(&self.0).dma_map(iova.get(), arena.file(), bytes).map_err(|error| DmaError::Map {
            iova,
            bytes,
            cause: error.to_string(),
            advice: "the virtual device cannot map it a second time: check the limit of mappings (vm.max_map_count)",
        })
    }

    fn unmap(&self, iova: Iova, len: u64) -> Result<(), DmaError> {
        lock(&self.0).dma_unmap(iova.get(), len).map_err(|error| DmaError::Map {
            iova,
            bytes: len,
            cause: error.to_string(),
            advice: "the range was not mapped as one",
        })
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | device and driver see the same memory while it is mapped | `memory_is_shared_while_mapped` |
    //! | waiting lets time pass, never further than what is due next | `waiting_stops_at_what_is_due` |
    //! | costs are simulated time, or real time without the device's | `costs_are_measured_without_the_device` |
    //! | an access outside the BAR never reaches the device | `an_access_outside_the_bar_is_a_bug` |
    use super::*;
    use crate::platform::Deadline;

    #[test]
    fn memory_is_shared_while_mapped() {
        let platform = VirtualPlatform::new("virtual", virtual_nic::Config::default());
        let nic = Arc::clone(&platform.nic);
        let buffer = platform.dma_heap().allocate(4096, 4096).expect("memory");
        let iova = buffer.iova().get();
        // A second mapping of the same address is refused, so the first exists.
        let arena = Arena::new(4096).expect("memory");
        assert!(lock(&nic).dma_map(iova, arena.file(), 4096).is_err());
        drop((buffer, platform));
        assert!(lock(&nic).dma_map(iova, arena.file(), 4096).is_ok(), "unmapped with its heap");
    }

    #[test]
    fn waiting_stops_at_what_is_due() {
        let mut config = virtual_nic::Config::default();
        config.boot_time = Duration::from_micros(250);
        let platform = VirtualPlatform::new("virtual", config);
        let busy = || platform.read32(0x1fc) >> 31 != 0;
        assert!(busy());
        let deadline = Deadline::after(&platform, Duration::from_secs(1));
        assert!(deadline.wait(&platform, || (!busy()).then_some(())).is_some());
        assert_eq!(platform.now(), Duration::from_micros(250));
        assert!(deadline.wait(&platform, || None::<()>).is_none());
        assert!(platform.now() >= Duration::from_secs(1));
    }

    #[test]
    fn costs_are_measured_without_the_device() {
        let platform = VirtualPlatform::new("virtual", virtual_nic::Config::default());
        platform.clock().advance(Duration::from_secs(7));
        assert_eq!(platform.cost_clock(), Duration::from_secs(7));
        platform.measure_costs();
        let before = platform.cost_clock();
        let slow = Duration::from_millis(20);
        platform.access(|_| std::thread::sleep(slow));
        let device = Duration::from_nanos(platform.in_device.load(Ordering::Relaxed));
        assert!(before < Duration::from_secs(7) && device >= slow);
        let since = platform.measured.get().expect("measured").elapsed();
        assert!(platform.cost_clock() + device >= since, "nothing else is taken off");
    }

    #[test]
    #[should_panic(expected = "outside a BAR")]
    fn an_access_outside_the_bar_is_a_bug() {
        let platform = VirtualPlatform::new("virtual", virtual_nic::Config::default());
        platform.read32(platform.bar_size());
    }
}
