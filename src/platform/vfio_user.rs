//! A function in another process, over vfio-user: the virtual ConnectX of `cxddp-vnic serve`, without a guest.
//!
//! Register writes are posted, as on PCI Express: whatever is read afterwards is read after them. Memory is lent to the
//! server by file descriptor, interrupts are eventfds. A server that is gone, or does not answer in its time, is a
//! function that is gone: all registers read all ones.

use super::{Identity, Platform, PlatformError};
use crate::dma::{Arena, DmaError, DmaHeap, DmaMapper, Iova, IovaAllocator};
use rustix::event::{EventfdFlags, eventfd};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vfio_user::message::{irq, region};
use vfio_user::{Client, ClientError};

/// How long the server may take for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Addresses that a ConnectX can reach: 64 bits, of which the upper half is no use to an allocator.
const IOVA: RangeInclusive<u64> = 0..=(1 << 48) - 1;
/// Offsets in PCI configuration space, and bits of the command register.
const VENDOR_ID: u64 = 0x00;
const COMMAND: u64 = 0x04;
const MEMORY_AND_BUS_MASTER: u16 = 0x6;

/// A function behind a vfio-user socket.
pub struct VfioUserPlatform {
    link: Arc<Link>,
    identity: Identity,
    bar_size: u64,
    interrupts: Vec<OwnedFd>,
    began: Instant,
    heap: DmaHeap,
}

/// The connection, which registers and memory share.
struct Link {
    address: String,
    client: Mutex<Client>,
}

impl Link {
    fn client(&self) -> MutexGuard<'_, Client> {
        // A call that panicked half way has left the connection broken, and every later call says so.
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value, or all ones from a function that is gone.
    fn or_gone<T>(&self, outcome: Result<T, ClientError>, gone: T) -> T {
        outcome.unwrap_or_else(|error| {
            match error {
                // Said once, when it happened.
                ClientError::Broken(_) => log::trace!("{}: {error}", self.address),
                _ => log::error!("{}: {error}", self.address),
            }
            gone
        })
    }
}

impl VfioUserPlatform {
    /// Connects to the server at `path`, resets the function, lets it access memory, and takes its interrupts.
    pub fn open(path: &Path) -> Result<VfioUserPlatform, PlatformError> {
        let address = format!("vfio-user:{}", path.display());
        let refused = |cause: String| PlatformError::Open {
            address: address.clone(),
            cause,
            advice: "start a server there first (cxddp-vnic serve --socket PATH); it serves one client at a time"
                .into(),
        };
        let failed = |error: ClientError| refused(error.to_string());
        let mut client = Client::connect(path, PATIENCE).map_err(failed)?;
        let info = client.device_info().map_err(failed)?;
        if info.regions <= region::CONFIG || info.irqs <= irq::MSIX {
            return Err(refused(format!(
                "it is no PCI function: it has {} regions and {} kinds of interrupts",
                info.regions, info.irqs
            )));
        }
        let bar_size = client.region_size(region::BAR0).map_err(failed)?;
        let vectors = client.irq_count(irq::MSIX).map_err(failed)?.min(u16::MAX.into());
        if bar_size == 0 || vectors == 0 {
            return Err(refused(format!("BAR0 has {bar_size} bytes and MSI-X {vectors} vectors")));
        }
        if info.resettable {
            client.reset().map_err(failed)?;
        }
        let mut ids = [0; 4];
        client.read(region::CONFIG, VENDOR_ID, &mut ids).map_err(failed)?;
        let [v0, v1, d0, d1] = ids;
        let identity = Identity {
            address: address.clone(),
            vendor: u16::from_le_bytes([v0, v1]),
            device: u16::from_le_bytes([d0, d1]),
        };
        let interrupts: Vec<OwnedFd> = (0..vectors)
            .map(|_| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK))
            .collect::<Result<_, _>>()
            .map_err(|error| refused(format!("no eventfd for each of {vectors} vectors: {error}")))?;
        let fds: Vec<_> = interrupts.iter().map(AsFd::as_fd).collect();
        client.set_irqs(irq::MSIX, 0, &fds).map_err(failed)?;
        drop(fds);
        enable(&mut client).map_err(failed)?;
        let link = Arc::new(Link { address, client: Mutex::new(client) });
        let heap = DmaHeap::new(Arc::new(Mapper(Arc::clone(&link))), IovaAllocator::new(&[IOVA]));
        Ok(VfioUserPlatform { link, identity, bar_size, interrupts, began: Instant::now(), heap })
    }

    fn check(&self, offset: u64, size: u64) {
        super::check_register(offset, size, self.bar_size);
    }
}

/// Lets the function answer at its BAR, and access memory.
fn enable(client: &mut Client) -> Result<(), ClientError> {
    let mut command = [0; 2];
    client.read(region::CONFIG, COMMAND, &mut command)?;
    let command = u16::from_le_bytes(command) | MEMORY_AND_BUS_MASTER;
    client.write(region::CONFIG, COMMAND, &command.to_le_bytes())
}

impl Platform for VfioUserPlatform {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn bar_size(&self) -> u64 {
        self.bar_size
    }

    fn read32(&self, offset: u64) -> u32 {
        self.check(offset, 4);
        let mut bytes = [0; 4];
        let read = self.link.client().read(region::BAR0, offset, &mut bytes);
        self.link.or_gone(read.map(|()| u32::from_be_bytes(bytes)), u32::MAX)
    }

    fn write32(&self, offset: u64, value: u32) {
        self.check(offset, 4);
        let posted = self.link.client().post(region::BAR0, offset, &value.to_be_bytes());
        self.link.or_gone(posted, ());
    }

    fn write64(&self, offset: u64, value: u64) {
        self.check(offset, 8);
        let posted = self.link.client().post(region::BAR0, offset, &value.to_be_bytes());
        self.link.or_gone(posted, ());
    }

    fn dma_mapper(&self) -> Arc<dyn DmaMapper> {
        Arc::new(Mapper(Arc::clone(&self.link)))
    }

    fn iova_ranges(&self) -> Vec<RangeInclusive<u64>> {
        vec![IOVA]
    }

    fn dma_heap(&self) -> DmaHeap {
        self.heap.clone()
    }

    fn read_config(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let read = self.link.client().read(region::CONFIG, offset, out);
        read.map_err(std::io::Error::other)
    }

    fn reset(&self) -> Result<(), PlatformError> {
        let mut client = self.link.client();
        let reset = client.reset().and_then(|()| enable(&mut client));
        drop(client);
        for vector in 0..self.vectors() {
            let _ = self.take_interrupt(vector);
        }
        reset.map_err(|error| PlatformError::Reset { function: self.identity.clone(), cause: error.to_string() })
    }

    fn vectors(&self) -> u16 {
        self.interrupts.len() as u16
    }

    fn take_interrupt(&self, vector: u16) -> bool {
        let mut count = [0; 8];
        // An eventfd that was not written would block.
        self.interrupts.get(usize::from(vector)).is_some_and(|fd| rustix::io::read(fd, &mut count).is_ok())
    }

    fn sleep(&self, until: Option<Duration>) {
        let most = until.map_or(Duration::MAX, |until| until.saturating_sub(self.now()));
        super::interrupts::sleep(&self.interrupts, most);
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn pause(&self) {
        // The device is a process that may want this CPU.
        std::thread::yield_now();
    }
}

/// Memory of this process, lent to the server.
struct Mapper(Arc<Link>);

impl DmaMapper for Mapper {
    fn map(&self, iova: Iova, arena: &Arena) -> Result<(), DmaError> {
        let bytes = arena.len() as u64;
        self.0.client().map(iova.get(), bytes, arena.file().as_fd(), 0).map_err(|error| DmaError::Map {
            iova,
            bytes,
            cause: error.to_string(),
            advice: "see what the server says",
        })
    }

    fn unmap(&self, iova: Iova, len: u64) -> Result<(), DmaError> {
        match self.0.client().unmap(iova.get(), len) {
            // A server that is gone maps nothing.
            Ok(()) | Err(ClientError::Broken(_)) => Ok(()),
            Err(error) => {
                let advice = "the server may still write it";
                Err(DmaError::Map { iova, bytes: len, cause: error.to_string(), advice })
            }
        }
    }
}
