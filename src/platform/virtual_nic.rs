//! The in-process platform: a virtual ConnectX on simulated time.
//!
//! Whoever else lives in the process's world (the wire, the target) shares the [`Clock`] and reaches the device through
//! [`VirtualPlatform::nic`]. Time passes only when somebody lets it: a wait of the driver does, by
//! [`Platform::pause`]; so a run is repeatable, and a timeout of a minute costs no minute.
//!
//! Threads that share the clock [join](Clock::join) it. From then on time passes only while all of them rest, and no further
//! than the first of them asked for: whatever the machine does, a thread that has work is never overtaken by a timeout. The
//! order in which threads reach the device is the machine's, so such a run is not repeatable to the packet.

use super::{Identity, Platform, PlatformError};
use crate::dma::{Arena, DmaError, DmaHeap, DmaMapper, Iova, IovaAllocator, Pages};
use std::cell::Cell;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use virtual_nic::VirtualNic;
use virtual_nic::pci::ConfigSpace;

/// How much time one look of a waiting loop takes.
const STEP: Duration = Duration::from_micros(1);
/// The same while the device has nothing to do: long timeouts then pass in few looks.
const IDLE_STEP: Duration = Duration::from_micros(100);
/// The same where threads share the clock: one may be waiting for an answer of another that has yet to look.
const SHARED_STEP: Duration = Duration::from_micros(10);
/// Device addresses that this platform's IOMMU translates: 48 bits, as common IOMMUs do.
const IOVA: RangeInclusive<u64> = 0..=(1 << 48) - 1;
const VENDOR: u16 = 0x15b3;
/// The command register in configuration space, and the bits that let a function answer and access memory.
const COMMAND: usize = 0x04;
const MEMORY_AND_BUS_MASTER: u16 = 0x6;

thread_local! {
    static IN_DEVICE: Cell<bool> = const { Cell::new(false) };
}

/// True while this thread, which runs the driver, does the virtual device's work: for books that keep the two apart.
pub fn in_device() -> bool {
    IN_DEVICE.try_with(Cell::get).unwrap_or(false)
}

fn inside<R>(work: impl FnOnce() -> R) -> R {
    let before = IN_DEVICE.replace(true);
    let result = work();
    IN_DEVICE.set(before);
    result
}

/// Simulated time; clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    now: AtomicU64,
    rounds: Mutex<Rounds>,
    next_round: Condvar,
}

/// Between two moments of the simulation every thread looks, finds nothing to do, and rests.
#[derive(Debug, Default)]
struct Rounds {
    threads: usize,
    resting: usize,
    /// Earliest moment that one of those who rest waits for, in nanoseconds.
    first: Option<u64>,
    round: u64,
    /// Somebody stirred since all rested: a thread that looked before that, and rests after it, has yet to see it.
    stirred: bool,
}

impl Clock {
    /// Time since the start of the simulation.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.0.now.load(Ordering::Acquire))
    }

    /// True if threads have joined.
    fn is_shared(&self) -> bool {
        self.rounds().threads != 0
    }

    /// Lets time pass; returns the new time.
    pub fn advance(&self, by: Duration) -> Duration {
        let by = by.as_nanos() as u64;
        Duration::from_nanos(self.0.now.fetch_add(by, Ordering::AcqRel) + by)
    }

    /// This thread takes part in the simulation: time waits for it until it [rests](Clock::rest) or its seat is dropped.
    pub fn join(&self) -> Seat {
        self.rounds().threads += 1;
        Seat(self.clone())
    }

    /// Nothing can be done before `until`, or ever: rests. Returns when time has passed or somebody has
    /// [stirred](Clock::stir): look again. The new time is returned.
    ///
    /// Without threads that have joined, time passes at once.
    pub fn rest(&self, until: Option<Duration>) -> Duration {
        let until = until.map(|until| until.as_nanos() as u64);
        let mut rounds = self.rounds();
        rounds.first = [rounds.first, until].into_iter().flatten().min();
        rounds.resting += 1;
        if rounds.resting >= rounds.threads {
            let unseen = std::mem::take(&mut rounds.stirred);
            self.end_round(&mut rounds, !unseen);
        } else {
            let round = rounds.round;
            while rounds.round == round {
                rounds = self.0.next_round.wait(rounds).unwrap_or_else(PoisonError::into_inner);
            }
        }
        drop(rounds);
        self.now()
    }

    /// Something was done that may concern others: whoever rests looks again before time passes.
    pub fn stir(&self) {
        let mut rounds = self.rounds();
        rounds.stirred = rounds.threads != 0;
        if rounds.resting != 0 {
            self.end_round(&mut rounds, false);
        }
    }

    fn rounds(&self) -> MutexGuard<'_, Rounds> {
        self.0.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_round(&self, rounds: &mut Rounds, time_passes: bool) {
        if time_passes && let Some(first) = rounds.first {
            // Never back, whoever advanced it meanwhile.
            self.0.now.fetch_max(first, Ordering::AcqRel);
        }
        (rounds.resting, rounds.first) = (0, None);
        rounds.round = rounds.round.wrapping_add(1);
        self.0.next_round.notify_all();
    }
}

/// A thread's part in the simulation ([`Clock::join`]).
#[derive(Debug)]
#[must_use = "time does not wait for a thread without a seat"]
pub struct Seat(Clock);

impl Drop for Seat {
    fn drop(&mut self) {
        let mut rounds = self.0.rounds();
        rounds.threads -= 1;
        rounds.stirred = rounds.threads != 0;
        // Those who rest may have waited for this thread only; they look again.
        if rounds.resting != 0 {
            self.0.end_round(&mut rounds, false);
        }
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
        let result = inside(|| access(&mut lock(&self.nic)));
        if let Some(began) = began {
            self.in_device.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
        result
    }

    /// Nothing can be done before `until`, or before what the device does next: rests ([`Clock::rest`]).
    pub fn rest(&self, until: Option<Duration>) {
        let next = self.access(|nic| nic.next_event());
        let now = self.clock.rest([until, next].into_iter().flatten().min());
        self.access(|nic| nic.advance(now));
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    fn check(&self, offset: u64, size: u64) {
        super::check_register(offset, size, self.bar_size);
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

    /// That of the function after power-on, with its BAR and its memory enabled: nobody has put it on a bus.
    fn read_config(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let mut space = ConfigSpace::new(self.nic().config());
        space.write(COMMAND, &MEMORY_AND_BUS_MASTER.to_le_bytes());
        space.read(usize::try_from(offset).unwrap_or(usize::MAX), out);
        Ok(())
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

    fn sleep(&self, until: Option<Duration>) {
        if !self.fired.iter().any(|flag| flag.load(Ordering::Acquire)) {
            self.rest(until);
        }
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
        let shared = self.clock.is_shared();
        // Others may have been given work a moment ago.
        let idle = if shared { SHARED_STEP } else { IDLE_STEP };
        let now = self.clock.now();
        let due = self.access(|nic| nic.next_event()).map_or(idle, |at| at.saturating_sub(now)).clamp(STEP, idle);
        let now = match shared {
            true => self.clock.rest(Some(now + due)),
            false => self.clock.advance(due),
        };
        self.access(|nic| nic.advance(now));
    }
}

/// The device's own IOMMU.
struct Mapper(Arc<Mutex<VirtualNic>>);

impl DmaMapper for Mapper {
    fn map(&self, iova: Iova, arena: &Arena) -> Result<(), DmaError> {
        let bytes = arena.len() as u64;
        let mapped = inside(|| lock(&self.0).dma_map(iova.get(), arena.file(), bytes));
        mapped.map_err(|error| DmaError::Map {
            iova,
            bytes,
            cause: error.to_string(),
            advice: "the virtual device cannot map it a second time: check the limit of mappings (vm.max_map_count)",
        })
    }

    fn map_pages(&self, iova: Iova, pages: &Pages) -> Result<(), DmaError> {
        let mapped = inside(|| lock(&self.0).dma_map_region(iova.get(), Arc::clone(pages.region())));
        mapped.map_err(|error| DmaError::Map {
            iova,
            bytes: pages.len() as u64,
            cause: error.to_string(),
            advice: "the range is in use",
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
    //! | memory of the caller is the device's while it is lent | `memory_is_lent_to_the_device` |
    //! | waiting lets time pass, never further than what is due next | `waiting_stops_at_what_is_due` |
    //! | costs are simulated time, or real time without the device's | `costs_are_measured_without_the_device` |
    //! | an access outside the BAR never reaches the device | `an_access_outside_the_bar_is_a_bug` |
    //! | with threads, time passes only while all rest, and no further than the first asked for | `time_waits_for_every_thread` |
    //! | who stirs wakes the others before time passes; who leaves is not waited for | `a_stir_comes_before_time` |
    use super::*;
    use crate::platform::Deadline;

    #[test]
    fn memory_is_lent_to_the_device() {
        let platform = VirtualPlatform::new("virtual", virtual_nic::Config::default());
        let (buffer, lease) = platform.dma_heap().pin(vec![7; 10_000]).expect("memory");
        let page = buffer.iova().get() & !0xfff;
        // A second mapping of the same address is refused, so the first exists.
        let arena = Arena::new(4096).expect("memory");
        assert!(lock(&platform.nic).dma_map(page, arena.file(), 4096).is_err());
        drop(buffer);
        assert_eq!(lease.end().expect("no piece is left"), [7; 10_000]);
        assert!(lock(&platform.nic).dma_map(page, arena.file(), 4096).is_ok(), "given back");
    }

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
    fn time_waits_for_who_looked_before_something_was_done() {
        let clock = Clock::default();
        let seats = (clock.join(), clock.join());
        // Nobody rests yet. The other has looked already, and found nothing.
        clock.stir();
        let due = Duration::from_micros(5);
        std::thread::scope(|scope| {
            let clock = &clock;
            let rounds = || {
                let seen = [clock.rest(Some(due)), clock.rest(Some(due))];
                assert_eq!(seen, [Duration::ZERO, due], "it looks again before time passes");
            };
            scope.spawn(rounds);
            rounds();
        });
        drop(seats);
    }

    #[test]
    fn time_waits_for_every_thread() {
        let clock = Clock::default();
        let seats: Vec<_> = (0..3).map(|_| clock.join()).collect();
        // Each thread wakes at multiples of its own pace, and at no other time.
        std::thread::scope(|scope| {
            for (seat, pace) in seats.into_iter().zip([3u64, 5, 7]) {
                let clock = clock.clone();
                scope.spawn(move || {
                    let _seat = seat;
                    let mut next = pace;
                    while next < 1000 {
                        let now = clock.rest(Some(Duration::from_micros(next))).as_micros() as u64;
                        assert!(now <= next, "{now} of a thread that asked for {next}");
                        if now == next {
                            next += pace;
                        }
                    }
                });
            }
        });
        assert!(clock.now() < Duration::from_millis(1) && !clock.is_shared());
    }

    #[test]
    fn a_stir_comes_before_time() {
        let clock = Clock::default();
        let (worker, waiter) = (clock.join(), clock.join());
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let waits = clock.clone();
            let thread = scope.spawn(move || {
                let _seat = waiter;
                loop {
                    match receiver.try_recv() {
                        Ok(sent) => return (sent, waits.now()),
                        Err(_) => _ = waits.rest(Some(Duration::from_secs(10))),
                    }
                }
            });
            sender.send(7).expect("somebody waits");
            clock.stir();
            drop(worker);
            assert_eq!(thread.join().expect("no panic"), (7, Duration::ZERO));
        });
        assert_eq!(clock.rest(Some(Duration::from_secs(3))), Duration::from_secs(3), "alone, time passes at once");
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
