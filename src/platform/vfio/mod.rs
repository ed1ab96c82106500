//! A function that is bound to the kernel's vfio-pci.
//!
//! ```text
//!  sysfs    who the function is, which driver has it, which IOMMU group it is in
//!  access   the way in: group + container (type 1 v2), or iommufd + device cdev; memory and its ranges
//!  noiommu  the way in where there is no IOMMU, for who asks for it
//!  bar      BAR0, mapped whole or around the MSI-X table
//! ```
//!
//! [`VfioPlatform::open`] takes the function, resets it, lets it access memory and has its interrupts signalled through
//! eventfds. The kernel takes everything back when the process ends, however it ends.

mod access;
mod bar;
mod noiommu;
mod sysfs;

pub use access::Api;
pub use sysfs::{Address, BadAddress};

use super::{Identity, Platform, PlatformError};
use crate::dma::{DmaHeap, DmaMapper, IovaAllocator};
use access::Access;
use bar::Bar;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Interrupt vectors that are taken at most: a function may have thousands, and each costs an eventfd.
const MOST_VECTORS: u32 = 64;
/// A reset that the kernel refuses for the moment is tried again this often, and this long after.
const RESET_TRIES: u32 = 10;
/// `ENOTTY`.
const NO_RESET: i32 = 25;
const RESET_PAUSE: Duration = Duration::from_millis(100);
/// Command register in configuration space, and the bits that let a function answer and access memory.
const COMMAND: u64 = 0x04;
const MEMORY_AND_BUS_MASTER: u16 = 0x6;

/// How a function is to be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Which of the kernel's interfaces.
    pub api: Api,
    /// Take a function also where no IOMMU keeps it from the rest of the machine's memory. Changes nothing where one does.
    pub unsafe_noiommu: bool,
}

/// A function behind the kernel's vfio-pci.
pub struct VfioPlatform {
    // Declared in the order in which they must go: a mapped BAR keeps the device open, an open device keeps its group.
    bar: Bar,
    device: access::Device,
    interrupts: Vec<EventFd>,
    access: Arc<Access>,
    heap: DmaHeap,
    identity: Identity,
    began: Instant,
}

impl VfioPlatform {
    /// Takes the function at `address`.
    pub fn open(address: &Address, options: Options) -> Result<VfioPlatform, PlatformError> {
        let function = sysfs::Function::find(address)?;
        let (access, device) = Access::open(&function, options)?;
        let failed = |cause: String| PlatformError::Open {
            address: address.to_string(),
            cause,
            advice: "see what the kernel says (dmesg)".into(),
        };
        let identity = Identity { address: address.to_string(), vendor: function.vendor, device: function.device };
        device.check().map_err(failed)?;
        reset(&device, &identity)?;
        enable(&device).map_err(|error| failed(format!("its command register cannot be written: {error}")))?;
        let bar = device.bar0().and_then(|region| Bar::map(&region, &device)).map_err(failed)?;
        let count = device.vectors().min(MOST_VECTORS);
        if count == 0 {
            return Err(failed("it has no MSI-X interrupts".into()));
        }
        let interrupts: Vec<EventFd> = (0..count)
            .map(|_| EventFd::new(EFD_NONBLOCK))
            .collect::<Result<_, _>>()
            .map_err(|error| failed(format!("no eventfd for each of {count} vectors: {error}")))?;
        device.signal(&interrupts).map_err(failed)?;
        let access = Arc::new(access);
        let heap = DmaHeap::new(Arc::clone(&access) as Arc<dyn DmaMapper>, IovaAllocator::new(access.ranges()));
        log::info!(
            "{identity}: taken through {access}, {count} vectors, BAR0 {} KiB in {} parts",
            bar.size() >> 10,
            bar.parts()
        );
        Ok(VfioPlatform { bar, device, interrupts, access, heap, identity, began: Instant::now() })
    }

    /// Which of the kernel's interfaces it was taken through.
    pub fn api(&self) -> Api {
        self.access.api()
    }
}

/// Lets the function answer at its BAR, and access memory.
fn enable(device: &access::Device) -> std::io::Result<()> {
    let mut command = [0; 2];
    device.read_config(COMMAND, &mut command)?;
    let command = u16::from_le_bytes(command) | MEMORY_AND_BUS_MASTER;
    device.write_config(COMMAND, &command.to_le_bytes())
}

fn reset(device: &access::Device, identity: &Identity) -> Result<(), PlatformError> {
    let failed = |cause: String| PlatformError::Reset { function: identity.clone(), cause };
    for _ in 1..RESET_TRIES {
        match device.reset() {
            Ok(()) => return Ok(()),
            // Another function of the same card is being reset, or the kernel is saving its state.
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::ResourceBusy) => {
                log::debug!("{identity}: {error}");
                std::thread::sleep(RESET_PAUSE);
            }
            // The kernel asks the function itself how it can be reset.
            Err(error) if error.raw_os_error() == Some(NO_RESET) => {
                return Err(failed(format!("it has no way to be reset, or is off the bus and does not say ({error})")));
            }
            Err(error) => return Err(failed(error.to_string())),
        }
    }
    device.reset().map_err(|error| failed(format!("{error} (after {RESET_TRIES} tries)")))
}

impl Platform for VfioPlatform {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn bar_size(&self) -> u64 {
        self.bar.size()
    }

    #[inline]
    fn read32(&self, offset: u64) -> u32 {
        self.bar.read32(offset)
    }

    #[inline]
    fn write32(&self, offset: u64, value: u32) {
        self.bar.write32(offset, value);
    }

    #[inline]
    fn write64(&self, offset: u64, value: u64) {
        self.bar.write64(offset, value);
    }

    fn dma_mapper(&self) -> Arc<dyn DmaMapper> {
        Arc::clone(&self.access) as Arc<dyn DmaMapper>
    }

    fn iova_ranges(&self) -> Vec<RangeInclusive<u64>> {
        self.access.ranges().to_vec()
    }

    fn dma_heap(&self) -> DmaHeap {
        self.heap.clone()
    }

    fn read_config(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        out.fill(0xff);
        self.device.read_config(offset, out)
    }

    fn reset(&self) -> Result<(), PlatformError> {
        reset(&self.device, &self.identity)?;
        for vector in 0..self.vectors() {
            let _ = self.take_interrupt(vector);
        }
        enable(&self.device).map_err(|error| PlatformError::Reset {
            function: self.identity.clone(),
            cause: format!("its command register cannot be written afterwards: {error}"),
        })
    }

    fn vectors(&self) -> u16 {
        self.interrupts.len() as u16
    }

    fn take_interrupt(&self, vector: u16) -> bool {
        // An eventfd that was not written would block.
        self.interrupts.get(usize::from(vector)).is_some_and(|fd| fd.read().is_ok())
    }

    fn sleep(&self, until: Option<Duration>) {
        let most = until.map_or(Duration::MAX, |until| until.saturating_sub(self.now()));
        super::interrupts::sleep(&self.interrupts.iter().map(access::borrowed).collect::<Vec<_>>(), most);
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn pause(&self) {
        std::hint::spin_loop();
    }
}
