//! The kernel's two ways to a function: group + container, and iommufd + device cdev.
//!
//! `vfio-ioctls` does the calls that it does well. What it swallows or lacks (`ecosystem.md` §1.1) is done here: access to
//! configuration space with its errors, reset with its error, the ranges of addresses that the IOMMU translates, and an end
//! that does not panic when the function has left the bus.
#![allow(unsafe_code)] // Ioctls without a wrapper, and memory that is given to a device.

use super::Options;
use super::noiommu;
use super::sysfs::Function;
use crate::dma::{Arena, DmaError, DmaMapper, Iova, Pages};
use crate::platform::PlatformError;
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_REGION_INFO_FLAG_MMAP,
};
use vfio_ioctls::{VfioContainer, VfioDevice, VfioError, VfioIommufd, VfioOps, VfioRegionInfoCap};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::ioctl::{ioctl, ioctl_with_mut_ptr};

/// Which of the kernel's interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Api {
    /// The newer one if the kernel offers it for this function.
    #[default]
    Auto,
    /// `/dev/vfio/vfio` and `/dev/vfio/<group>`.
    Group,
    /// `/dev/iommu` and `/dev/vfio/devices/vfio<n>`.
    Cdev,
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Api::Auto => "auto",
            Api::Group => "group",
            Api::Cdev => "cdev",
        })
    }
}

enum Memory {
    Group(Arc<VfioContainer>),
    Cdev(Arc<VfioIommufd>),
    /// Nothing is mapped: the device sees physical addresses.
    Physical,
}

/// The function's IOMMU.
pub(super) struct Access {
    memory: Memory,
    ranges: Vec<RangeInclusive<u64>>,
    /// Mappings that the kernel says are left, where it says so.
    available: Option<u32>,
    /// The function is closed. A group that leaves its container takes all mappings along.
    closed: Arc<AtomicBool>,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.memory {
            Memory::Group(_) => f.write_str("group and container"),
            Memory::Cdev(_) => f.write_str("iommufd and cdev"),
            Memory::Physical => f.write_str("group without an IOMMU"),
        }?;
        match self.available {
            Some(available) => write!(f, " ({available} mappings available)"),
            None => Ok(()),
        }
    }
}

/// An open function. It must be dropped before its [`Access`].
pub(super) struct Device {
    opened: Opened,
    sysfs: std::path::PathBuf,
    closed: Arc<AtomicBool>,
}

/// By whom.
enum Opened {
    ByCrate(ManuallyDrop<VfioDevice>),
    WithoutIommu(noiommu::Device),
}

impl Drop for Device {
    fn drop(&mut self) {
        let Opened::ByCrate(device) = &mut self.opened else { return };
        // The crate's own end looks the group up once more and panics if it is gone.
        if self.sysfs.join("iommu_group").exists() {
            // SAFETY: nothing uses the device after this.
            unsafe { ManuallyDrop::drop(device) };
            self.closed.store(true, Ordering::Release);
        } else {
            log::warn!(
                "{}: the function has left the bus; it stays open until this process ends",
                self.sysfs.display()
            );
        }
    }
}

/// BAR0 as the kernel describes it.
pub(super) struct Bar0 {
    /// Bytes.
    pub size: u64,
    /// Where in the device's file it begins.
    pub file_offset: u64,
    /// What may be mapped: offset and bytes.
    pub mappable: Vec<(u64, u64)>,
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.opened {
            // SAFETY: the file is open for as long as the device, which outlives the borrow.
            Opened::ByCrate(device) => unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) },
            Opened::WithoutIommu(device) => device.file().as_fd(),
        }
    }
}

/// An eventfd, for calls that want to see that it is open.
pub(super) fn borrowed(eventfd: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: it is open for as long as its owner, which outlives the borrow.
    unsafe { BorrowedFd::borrow_raw(eventfd.as_raw_fd()) }
}

impl Device {
    /// The crate counts regions by position and skips one that fails, which shifts the others: configuration space is
    /// where it should be, or nothing is believed.
    pub fn check(&self) -> Result<(), String> {
        let (_, size) = self.config().map_err(|error| format!("its configuration space: {error}"))?;
        match size {
            0x100 | 0x1000 => Ok(()),
            _ => Err(format!("its configuration space has {size:#x} bytes, not 0x100 or 0x1000")),
        }
    }

    /// Where configuration space is in the device's file, and its bytes.
    fn config(&self) -> io::Result<(u64, u64)> {
        let index = VFIO_PCI_CONFIG_REGION_INDEX;
        match &self.opened {
            Opened::ByCrate(device) => Ok((device.get_region_offset(index), device.get_region_size(index))),
            Opened::WithoutIommu(device) => device.region(index).map(|region| (region.offset, region.size)),
        }
    }

    fn file(&self) -> io::Result<std::fs::File> {
        self.as_fd().try_clone_to_owned().map(std::fs::File::from)
    }

    pub fn read_config(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file()?.read_exact_at(out, self.config()?.0 + offset)
    }

    pub fn write_config(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file()?.write_all_at(data, self.config()?.0 + offset)
    }

    /// `VFIO_DEVICE_RESET`: function-level reset.
    pub fn reset(&self) -> io::Result<()> {
        const VFIO_DEVICE_RESET: u64 = 0x3b6f;
        // SAFETY: the call takes no argument and touches no memory of this process.
        match unsafe { ioctl(&self.as_fd(), VFIO_DEVICE_RESET) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub fn vectors(&self) -> u32 {
        match &self.opened {
            Opened::ByCrate(device) => device.get_irq_info(VFIO_PCI_MSIX_IRQ_INDEX).map_or(0, |info| info.count),
            Opened::WithoutIommu(device) => device.vectors().unwrap_or_else(|error| {
                log::error!("{}: its MSI-X interrupts: {error}", self.sysfs.display());
                0
            }),
        }
    }

    /// Has vector n signalled through the n-th eventfd.
    pub fn signal(&self, eventfds: &[EventFd]) -> Result<(), String> {
        let failed = |cause: String| format!("{} MSI-X interrupts cannot be set: {cause}", eventfds.len());
        match &self.opened {
            // The crate keeps the error number to itself; the kernel's is still there.
            Opened::ByCrate(device) => device
                .enable_msix(eventfds.iter().collect())
                .map_err(|error| failed(format!("{error} ({})", io::Error::last_os_error()))),
            Opened::WithoutIommu(device) => device.signal(eventfds).map_err(|error| failed(error.to_string())),
        }
    }

    pub fn bar0(&self) -> Result<Bar0, String> {
        let device = match &self.opened {
            Opened::ByCrate(device) => device,
            Opened::WithoutIommu(device) => return device.bar0(),
        };
        let index = VFIO_PCI_BAR0_REGION_INDEX;
        let size = device.get_region_size(index);
        if size == 0 || device.get_region_flags(index) & VFIO_REGION_INFO_FLAG_MMAP == 0 {
            return Err(format!("its BAR0 ({size:#x} bytes) cannot be mapped"));
        }
        // With no list of areas all of it may be mapped.
        let sparse = device.get_region_caps(index).into_iter().find_map(|cap| match cap {
            VfioRegionInfoCap::SparseMmap(sparse) => Some(sparse.areas),
            _ => None,
        });
        let mappable = match sparse {
            None => vec![(0, size)],
            Some(areas) => areas.iter().filter(|area| area.size != 0).map(|area| (area.offset, area.size)).collect(),
        };
        Ok(Bar0 { size, file_offset: device.get_region_offset(index), mappable })
    }
}

impl Access {
    /// Opens the function through the interface that is asked for.
    pub fn open(function: &Function, options: Options) -> Result<(Access, Device), PlatformError> {
        if function.no_iommu {
            return Access::open_without_iommu(function, options);
        }
        let iommufd = Path::new("/dev/iommu").exists() && function.has_cdev;
        match options.api {
            Api::Cdev => Access::open_cdev(function),
            Api::Auto if iommufd => Access::open_cdev(function),
            Api::Auto | Api::Group => Access::open_group(function),
        }
    }

    fn open_without_iommu(function: &Function, options: Options) -> Result<(Access, Device), PlatformError> {
        let refused = |cause: &str, advice: &str| {
            let (address, cause, advice) = (function.address.to_string(), cause.to_owned(), advice.to_owned());
            Err(PlatformError::Open { address, cause, advice })
        };
        if !options.unsafe_noiommu {
            let cause = "no IOMMU stands in front of it: whatever memory it is told to write, it writes";
            let advice = "turn the IOMMU on in the firmware setup, and boot with intel_iommu=on (AMD needs nothing); or take \
                          the risk with --unsafe-noiommu";
            return refused(cause, advice);
        }
        if options.api == Api::Cdev {
            return refused("without an IOMMU it is reached through its group only", "leave --vfio cdev away");
        }
        log::warn!("{}: {}", function.address, noiommu::WARNING);
        let opened = Opened::WithoutIommu(noiommu::Device::open(function)?);
        let closed = Arc::new(AtomicBool::new(false));
        let device = Device { opened, sysfs: function.path.clone(), closed: Arc::clone(&closed) };
        Ok((Access { memory: Memory::Physical, ranges: Vec::new(), available: None, closed }, device))
    }

    fn open_group(function: &Function) -> Result<(Access, Device), PlatformError> {
        let refused = |cause: String, advice: String| PlatformError::Open {
            address: function.address.to_string(),
            cause,
            advice,
        };
        let group = function.group;
        let failed = |error: VfioError| {
            let cause = io::Error::last_os_error();
            let advice = advice(&error, &cause, group);
            refused(format!("{error} ({cause})"), advice)
        };
        let container = Arc::new(VfioContainer::new(None).map_err(failed)?);
        let ops: Arc<dyn VfioOps> = Arc::clone(&container) as _;
        let device = VfioDevice::new(&function.path, ops, false).map_err(failed)?;
        let closed = Arc::new(AtomicBool::new(false));
        let opened = Opened::ByCrate(ManuallyDrop::new(device));
        let device = Device { opened, sysfs: function.path.clone(), closed: Arc::clone(&closed) };
        let (ranges, available) = group_ranges(&container).map_err(|error| {
            refused(format!("the IOMMU does not say what it translates: {error}"), "a kernel from 5.4 on does".into())
        })?;
        Ok((Access { memory: Memory::Group(container), ranges, available, closed }, device))
    }

    fn open_cdev(function: &Function) -> Result<(Access, Device), PlatformError> {
        let refused = |cause: String, advice: &str| PlatformError::Open {
            address: function.address.to_string(),
            cause,
            advice: advice.to_owned(),
        };
        let failed = |error: VfioError| {
            let cause = io::Error::last_os_error();
            let advice = "give this user access to /dev/iommu and /dev/vfio/devices, or use --vfio group";
            refused(format!("{error} ({cause})"), advice)
        };
        if !function.has_cdev {
            let advice = "the kernel needs CONFIG_VFIO_DEVICE_CDEV (6.6 or later); or use --vfio group";
            return Err(refused("the kernel offers no device cdev for it".into(), advice));
        }
        let iommufd = iommufd_ioctls::IommuFd::new().map_err(|error| {
            let advice = "the kernel needs CONFIG_IOMMUFD, and this user access to /dev/iommu; or use --vfio group";
            refused(format!("/dev/iommu: {error:?}"), advice)
        })?;
        let iommufd = Arc::new(VfioIommufd::new(Arc::new(iommufd), None, None).map_err(failed)?);
        let ops: Arc<dyn VfioOps> = Arc::clone(&iommufd) as _;
        let device = VfioDevice::new(&function.path, ops, true).map_err(failed)?;
        let closed = Arc::new(AtomicBool::new(false));
        let opened = Opened::ByCrate(ManuallyDrop::new(device));
        let device = Device { opened, sysfs: function.path.clone(), closed: Arc::clone(&closed) };
        let ranges = ioas_ranges(&iommufd).map_err(|error| {
            refused(format!("the IOMMU does not say what it translates: {error}"), "see what the kernel says (dmesg)")
        })?;
        Ok((Access { memory: Memory::Cdev(iommufd), ranges, available: None, closed }, device))
    }

    pub fn api(&self) -> Api {
        match self.memory {
            Memory::Group(_) | Memory::Physical => Api::Group,
            Memory::Cdev(_) => Api::Cdev,
        }
    }

    /// Addresses that the IOMMU translates; none without one.
    pub fn ranges(&self) -> &[RangeInclusive<u64>] {
        &self.ranges
    }
}

/// What to do about a function that could not be taken.
fn advice(error: &VfioError, cause: &io::Error, group: u32) -> String {
    let permission = cause.kind() == io::ErrorKind::PermissionDenied;
    match error {
        VfioError::OpenContainer(_) if permission => "give this user access to /dev/vfio/vfio".into(),
        VfioError::OpenContainer(_) => "load the module: modprobe vfio-pci".into(),
        VfioError::OpenGroup(..) if permission => format!("give this user access to /dev/vfio/{group}"),
        VfioError::OpenGroup(..) if cause.kind() == io::ErrorKind::ResourceBusy => {
            format!("another process has group {group}: `fuser /dev/vfio/{group}` shows which")
        }
        VfioError::GroupViable => {
            format!(
                "another process has group {group}, or a kernel driver has one of its functions: see cxddp-bind status"
            )
        }
        _ => "see cxddp-bind doctor".into(),
    }
}

/// "Bad address".
const EFAULT: i32 = 14;
/// Bytes that answers about address ranges are read into at first.
const INFO_BYTES: usize = 4096;
/// More than any IOMMU has to say.
pub(super) const INFO_MOST: usize = 1 << 20;

/// `VFIO_IOMMU_GET_INFO`: ranges that are translated, and mappings that are left.
fn group_ranges(container: &VfioContainer) -> io::Result<(Vec<RangeInclusive<u64>>, Option<u32>)> {
    const VFIO_IOMMU_GET_INFO: u64 = 0x3b70;
    let mut bytes = vec![0u8; INFO_BYTES];
    loop {
        let len = bytes.len() as u32;
        bytes[..4].copy_from_slice(&len.to_ne_bytes());
        // SAFETY: the kernel writes at most `argsz` bytes, the first four, which is the length of the buffer.
        if unsafe { ioctl_with_mut_ptr(container, VFIO_IOMMU_GET_INFO, bytes.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let wanted = word(&bytes, 0) as usize;
        match wanted <= bytes.len() || wanted > INFO_MOST {
            true => return parse_info(&bytes),
            false => bytes = vec![0; wanted],
        }
    }
}

pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

pub(super) fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

/// Calls `each` with id and place of every capability in an answer, the first of which is at `first`; 0 is none.
pub(super) fn capabilities(bytes: &[u8], first: u32, mut each: impl FnMut(u16, usize)) {
    let mut at = first as usize;
    // Each capability is at least a header behind the last one: a chain that turns back is no chain.
    while at != 0 && at < bytes.len() {
        each(word(bytes, at) as u16, at);
        let next = word(bytes, at + 4) as usize;
        at = if next > at { next } else { 0 };
    }
}

/// Reads a `struct vfio_iommu_type1_info` and the capabilities behind it.
fn parse_info(bytes: &[u8]) -> io::Result<(Vec<RangeInclusive<u64>>, Option<u32>)> {
    const HAS_CAPABILITIES: u32 = 2;
    const IOVA_RANGE: u16 = 1;
    const DMA_AVAILABLE: u16 = 3;
    let (mut ranges, mut available) = (Vec::new(), None);
    let first = if word(bytes, 4) & HAS_CAPABILITIES != 0 { word(bytes, 16) } else { 0 };
    capabilities(bytes, first, |id, at| match id {
        IOVA_RANGE => {
            let count = (word(bytes, at + 8) as usize).min(bytes.len() / 16);
            ranges = (0..count).map(|n| long(bytes, at + 16 + 16 * n)..=long(bytes, at + 24 + 16 * n)).collect();
        }
        DMA_AVAILABLE => available = Some(word(bytes, at + 8)),
        _ => {}
    });
    ranges.retain(|range| !range.is_empty());
    match ranges.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::Unsupported, "it lists no ranges of addresses")),
        false => Ok((ranges, available)),
    }
}

/// `IOMMU_IOAS_IOVA_RANGES`.
fn ioas_ranges(iommufd: &VfioIommufd) -> io::Result<Vec<RangeInclusive<u64>>> {
    const IOMMU_IOAS_IOVA_RANGES: u64 = 0x3b84;
    #[repr(C)]
    struct Ranges {
        size: u32,
        ioas: u32,
        count: u32,
        reserved: u32,
        list: u64,
        alignment: u64,
    }
    let mut list = vec![[0u64; 2]; 64];
    let mut ask = Ranges {
        size: size_of::<Ranges>() as u32,
        ioas: iommufd.ioas().id(),
        count: list.len() as u32,
        reserved: 0,
        list: list.as_mut_ptr() as u64,
        alignment: 0,
    };
    // SAFETY: the kernel writes into `ask`, and at most `count` pairs of numbers into `list`.
    if unsafe { ioctl_with_mut_ptr(&**iommufd.iommufd(), IOMMU_IOAS_IOVA_RANGES, &raw mut ask) } != 0 {
        return Err(io::Error::last_os_error());
    }
    list.truncate(ask.count as usize);
    Ok(list.into_iter().map(|[first, last]| first..=last).filter(|range| !range.is_empty()).collect())
}

impl Access {
    /// Lets the device into whole pages of this process.
    ///
    /// # Safety
    /// They are mapped for reading and writing, and stay so until they are unmapped for the device; no reference to them is
    /// made meanwhile.
    unsafe fn map_memory(&self, iova: Iova, address: *mut u8, len: usize) -> Result<(), DmaError> {
        // SAFETY: as the caller promises.
        let mapped = unsafe {
            match &self.memory {
                Memory::Group(container) => container.vfio_dma_map(iova.get(), len, address),
                Memory::Cdev(iommufd) => iommufd.vfio_dma_map(iova.get(), len, address),
                Memory::Physical => Ok(()),
            }
        };
        mapped.map_err(|error| {
            let cause = io::Error::last_os_error();
            let advice = match cause.kind() {
                io::ErrorKind::OutOfMemory => "raise the limit of locked memory (ulimit -l, LimitMEMLOCK=)",
                io::ErrorKind::StorageFull => "raise vfio_iommu_type1.dma_entry_limit",
                _ if cause.raw_os_error() == Some(EFAULT) => "memory that is lent must be mapped, and writable",
                _ => "see what the kernel says (dmesg)",
            };
            DmaError::Map { iova, bytes: len as u64, cause: format!("{error} ({cause})"), advice }
        })
    }
}

impl DmaMapper for Access {
    fn arena(&self, len: usize) -> Result<Arena, DmaError> {
        match self.memory {
            Memory::Physical => Arena::contiguous(len),
            Memory::Group(_) | Memory::Cdev(_) => Arena::huge_if_possible(len),
        }
    }

    fn map(&self, iova: Iova, arena: &Arena) -> Result<(), DmaError> {
        // SAFETY: no reference to an arena's memory is ever made (see `dma`), and the heap unmaps it for the device before
        // the mapping of this process goes.
        unsafe { self.map_memory(iova, arena.address(), arena.len()) }
    }

    fn map_pages(&self, iova: Iova, pages: &Pages) -> Result<(), DmaError> {
        if matches!(self.memory, Memory::Physical) {
            return Err(DmaError::NotLendable {
                cause: "without an IOMMU memory must be contiguous and stay at its place",
                advice: "take the buffer from the platform's own memory (DmaHeap::allocate)",
            });
        }
        // SAFETY: who lent the memory keeps it, and makes no reference to it, until it is unmapped for the device.
        unsafe { self.map_memory(iova, pages.address(), pages.len()) }
    }

    fn unmap(&self, iova: Iova, len: u64) -> Result<(), DmaError> {
        let unmapped = match &self.memory {
            Memory::Group(_) if self.closed.load(Ordering::Acquire) => return Ok(()),
            Memory::Group(container) => container.vfio_dma_unmap(iova.get(), len as usize),
            Memory::Cdev(iommufd) => iommufd.vfio_dma_unmap(iova.get(), len as usize),
            Memory::Physical => return Ok(()),
        };
        unmapped.map_err(|error| {
            let cause = format!("{error} ({})", io::Error::last_os_error());
            DmaError::Map { iova, bytes: len, cause, advice: "the device may still access it" }
        })
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | ranges and mappings left are found among other capabilities | `ranges_are_found` |
    //! | whatever the bytes are, the walk ends and reads nothing beyond them | `any_answer_is_survived` |
    use super::*;
    use proptest::prelude::*;

    fn info(caps: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = vec![0; 24];
        bytes[4..8].copy_from_slice(&2u32.to_ne_bytes());
        bytes[16..20].copy_from_slice(&24u32.to_ne_bytes());
        for (n, (id, body)) in caps.iter().enumerate() {
            let next = if n + 1 == caps.len() { 0 } else { bytes.len() + 8 + body.len() };
            bytes.extend_from_slice(&id.to_ne_bytes());
            bytes.extend_from_slice(&1u16.to_ne_bytes());
            bytes.extend_from_slice(&(next as u32).to_ne_bytes());
            bytes.extend_from_slice(body);
        }
        let len = bytes.len() as u32;
        bytes[..4].copy_from_slice(&len.to_ne_bytes());
        bytes
    }

    fn longs(numbers: &[u64]) -> Vec<u8> {
        numbers.iter().flat_map(|n| n.to_ne_bytes()).collect()
    }

    #[test]
    fn ranges_are_found() {
        let two = longs(&[2, 0, 0xfedf_ffff, 0xfef0_0000, (1 << 39) - 1]);
        let bytes = info(&[(2, longs(&[0, 0])), (1, two), (3, longs(&[65535]))]);
        let (ranges, available) = parse_info(&bytes).expect("it lists ranges");
        assert_eq!(ranges, [0..=0xfedf_ffff, 0xfef0_0000..=(1 << 39) - 1]);
        assert_eq!(available, Some(65535));
        assert!(parse_info(&info(&[(3, longs(&[1]))])).is_err());
        assert!(parse_info(&[0; 24]).is_err());
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(mut bytes in prop::collection::vec(any::<u8>(), 24..200), at in 0u32..200, next in 0u32..200) {
            bytes[4] |= 2;
            bytes[16..20].copy_from_slice(&at.to_ne_bytes());
            if let Some(slot) = bytes.get_mut(at as usize + 4..at as usize + 8) {
                slot.copy_from_slice(&next.to_ne_bytes());
            }
            if let Ok((ranges, _)) = parse_info(&bytes) {
                prop_assert!(ranges.len() <= bytes.len() / 16);
            }
        }
    }
}
