//! A function that no IOMMU stands in front of: the kernel's "unsafe no-IOMMU" mode.
//!
//! The device sees physical addresses and can reach all memory, so a wrong address, from a bug here or in firmware, destroys
//! whatever lies there, the kernel included. The kernel is tainted by it, and asks for `CAP_SYS_RAWIO`. It is for machines
//! that cannot do otherwise, and nothing chooses it by itself.
//!
//! `vfio-ioctls` refuses such a group, so the few calls are made here: the container takes `VFIO_NOIOMMU_IOMMU`, maps nothing
//! and pins nothing. Memory is the driver's to keep at its place ([`Arena::contiguous`](crate::dma::Arena::contiguous)).
#![allow(unsafe_code)] // Ioctls; each names what the kernel reads and writes.

use super::access::{self, Bar0, INFO_MOST, capabilities};
use super::sysfs::Function;
use crate::platform::PlatformError;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use vfio_bindings::bindings::vfio::{VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_REGION_INFO_FLAG_MMAP};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::ioctl::{ioctl_with_mut_ptr, ioctl_with_ptr, ioctl_with_val};

/// What stands on standard error whenever it is used.
pub(super) const WARNING: &str = "no IOMMU: this device can read and write all memory of the machine. A bug in this \
     driver, in the card's firmware, or a card that is not trusted can corrupt or leak anything, the kernel included; \
     memory that a killed driver used may be written until the card is reset. Use it for tests on machines that you can lose";

/// Calls of `linux/vfio.h`.
const CHECK_EXTENSION: u64 = 0x3b65;
const SET_IOMMU: u64 = 0x3b66;
const GROUP_SET_CONTAINER: u64 = 0x3b68;
const GROUP_GET_DEVICE_FD: u64 = 0x3b6a;
const DEVICE_GET_REGION_INFO: u64 = 0x3b6c;
const DEVICE_GET_IRQ_INFO: u64 = 0x3b6d;
const DEVICE_SET_IRQS: u64 = 0x3b6e;
/// The container that translates nothing.
const NOIOMMU_IOMMU: u64 = 8;

/// An open function. The kernel takes everything back when its files are closed.
pub(super) struct Device {
    // Declared in the order in which they must go.
    file: File,
    _group: File,
    _container: File,
}

/// A region as the kernel describes it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Region {
    pub flags: u32,
    /// Bytes.
    pub size: u64,
    /// Where in the device's file.
    pub offset: u64,
    /// What may be mapped, if not all of it: offset and bytes.
    pub areas: Option<Vec<(u64, u64)>>,
}

/// Reads a `struct vfio_region_info` and the capabilities behind it.
fn parse_region(bytes: &[u8]) -> Region {
    const HAS_CAPABILITIES: u32 = 1 << 3;
    const SPARSE_MMAP: u16 = 1;
    let flags = access::word(bytes, 4);
    let first = if flags & HAS_CAPABILITIES != 0 { access::word(bytes, 12) } else { 0 };
    let mut region = Region { flags, size: access::long(bytes, 16), offset: access::long(bytes, 24), areas: None };
    capabilities(bytes, first, |id, at| {
        if id == SPARSE_MMAP {
            let count = (access::word(bytes, at + 8) as usize).min(bytes.len() / 16);
            let area = |n: usize| (access::long(bytes, at + 16 + 16 * n), access::long(bytes, at + 24 + 16 * n));
            region.areas = Some((0..count).map(area).collect());
        }
    });
    region
}

fn check(result: i32) -> io::Result<i32> {
    match result {
        0.. => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Device {
    pub fn open(function: &Function) -> Result<Device, PlatformError> {
        let group = format!("/dev/vfio/noiommu-{}", function.group);
        let refused = |cause: String, advice: String| PlatformError::Open {
            address: function.address.to_string(),
            cause,
            advice,
        };
        let open = |path: &str| {
            OpenOptions::new().read(true).write(true).open(path).map_err(|error| {
                let advice = match error.kind() {
                    io::ErrorKind::PermissionDenied => {
                        "without an IOMMU it takes CAP_SYS_RAWIO and CAP_SYS_ADMIN: run as root".into()
                    }
                    io::ErrorKind::ResourceBusy => format!("another process has it: `fuser {path}` shows which"),
                    _ => "load vfio-pci with vfio.enable_unsafe_noiommu_mode=1, and bind the function again".into(),
                };
                refused(format!("{path}: {error}"), advice)
            })
        };
        let container = open("/dev/vfio/vfio")?;
        let group_file = open(&group)?;
        let step = |what: &str, result: i32| {
            check(result)
                .map_err(|error| refused(format!("{what}: {error}"), "see what the kernel says (dmesg)".into()))
        };
        // SAFETY: the call takes a number.
        let offered = unsafe { ioctl_with_val(&container, CHECK_EXTENSION, NOIOMMU_IOMMU) };
        if step("VFIO_CHECK_EXTENSION", offered)? == 0 {
            let advice = "echo 1 > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode, and bind the function again";
            return Err(refused("the kernel's no-IOMMU mode is off".into(), advice.into()));
        }
        let fd = container.as_raw_fd();
        // SAFETY: the kernel reads one number, a file descriptor.
        step("VFIO_GROUP_SET_CONTAINER", unsafe { ioctl_with_ptr(&group_file, GROUP_SET_CONTAINER, &raw const fd) })?;
        // SAFETY: the call takes a number.
        step("VFIO_SET_IOMMU", unsafe { ioctl_with_val(&container, SET_IOMMU, NOIOMMU_IOMMU) })?;
        let name = format!("{}\0", function.address);
        // SAFETY: the kernel reads a string that ends with zero.
        let fd = step("VFIO_GROUP_GET_DEVICE_FD", unsafe {
            ioctl_with_ptr(&group_file, GROUP_GET_DEVICE_FD, name.as_ptr())
        })?;
        // SAFETY: the kernel has just made the descriptor for this call, and nobody else knows it.
        let file = unsafe { File::from_raw_fd(fd) };
        Ok(Device { file, _group: group_file, _container: container })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// `VFIO_DEVICE_GET_REGION_INFO`.
    pub fn region(&self, index: u32) -> io::Result<Region> {
        let mut bytes = vec![0u8; 4096];
        loop {
            let len = bytes.len() as u32;
            bytes.fill(0);
            bytes[..4].copy_from_slice(&len.to_ne_bytes());
            bytes[8..12].copy_from_slice(&index.to_ne_bytes());
            // SAFETY: the kernel writes at most `argsz` bytes, the first four, which is the length of the buffer.
            check(unsafe { ioctl_with_mut_ptr(&self.file, DEVICE_GET_REGION_INFO, bytes.as_mut_ptr()) })?;
            let wanted = access::word(&bytes, 0) as usize;
            match wanted <= bytes.len() || wanted > INFO_MOST {
                true => return Ok(parse_region(&bytes)),
                false => bytes = vec![0; wanted],
            }
        }
    }

    pub fn bar0(&self) -> Result<Bar0, String> {
        let region = self.region(VFIO_PCI_BAR0_REGION_INDEX).map_err(|error| format!("its BAR0: {error}"))?;
        if region.size == 0 || region.flags & VFIO_REGION_INFO_FLAG_MMAP == 0 {
            return Err(format!("its BAR0 ({:#x} bytes) cannot be mapped", region.size));
        }
        let mut mappable = region.areas.unwrap_or_else(|| vec![(0, region.size)]);
        mappable.retain(|(_, len)| *len != 0);
        Ok(Bar0 { size: region.size, file_offset: region.offset, mappable })
    }

    /// Number of MSI-X vectors.
    pub fn vectors(&self) -> io::Result<u32> {
        // struct vfio_irq_info: argsz, flags, index, count.
        let mut info = [16, 0, VFIO_PCI_MSIX_IRQ_INDEX, 0u32];
        // SAFETY: the kernel writes at most the 16 bytes that it is told of.
        check(unsafe { ioctl_with_mut_ptr(&self.file, DEVICE_GET_IRQ_INFO, info.as_mut_ptr()) })?;
        Ok(info[3])
    }

    /// Has MSI-X vector n signalled through the n-th eventfd.
    pub fn signal(&self, eventfds: &[EventFd]) -> io::Result<()> {
        const DATA_EVENTFD: u32 = 1 << 2;
        const ACTION_TRIGGER: u32 = 1 << 5;
        // struct vfio_irq_set: argsz, flags, index, start, count, and a descriptor for each.
        let len = (20 + 4 * eventfds.len()) as u32;
        let head = [len, DATA_EVENTFD | ACTION_TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 0, eventfds.len() as u32];
        let set: Vec<u32> = head.into_iter().chain(eventfds.iter().map(|fd| fd.as_raw_fd() as u32)).collect();
        // SAFETY: the kernel reads `argsz` bytes, the length of the list.
        check(unsafe { ioctl_with_ptr(&self.file, DEVICE_SET_IRQS, set.as_ptr()) }).map(drop)
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | a region is read with its sparse areas, among other capabilities, or without any | `a_region_is_read` |
    //! | whatever the bytes are, the walk ends and reads nothing beyond them | `any_answer_is_survived` |
    use super::*;
    use proptest::prelude::*;

    fn region(flags: u32, caps: &[(u16, &[u64])]) -> Vec<u8> {
        let mut bytes = vec![0; 32];
        bytes[4..8].copy_from_slice(&flags.to_ne_bytes());
        bytes[12..16].copy_from_slice(&32u32.to_ne_bytes());
        bytes[16..24].copy_from_slice(&0x200_0000u64.to_ne_bytes());
        bytes[24..32].copy_from_slice(&(7u64 << 40).to_ne_bytes());
        for (n, (id, body)) in caps.iter().enumerate() {
            let next = if n + 1 == caps.len() { 0 } else { bytes.len() + 8 + 8 * body.len() };
            bytes.extend_from_slice(&id.to_ne_bytes());
            bytes.extend_from_slice(&1u16.to_ne_bytes());
            bytes.extend_from_slice(&(next as u32).to_ne_bytes());
            bytes.extend(body.iter().flat_map(|n| n.to_ne_bytes()));
        }
        bytes
    }

    #[test]
    fn a_region_is_read() {
        let whole = parse_region(&region(7, &[(1, &[2, 0, 0, 0])]));
        let expected = Region { flags: 7, size: 0x200_0000, offset: 7 << 40, areas: None };
        assert_eq!(whole, expected, "without the flag there are no capabilities");
        let sparse: (u16, &[u64]) = (1, &[2, 0, 0x2000, 0x4000, 0x1ff_c000]);
        for caps in [&[sparse][..], &[(3, &[]), sparse], &[(2, &[5]), sparse, (9, &[1])]] {
            let areas = Some(vec![(0, 0x2000), (0x4000, 0x1ff_c000)]);
            assert_eq!(parse_region(&region(0xf, caps)).areas, areas);
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(mut bytes in prop::collection::vec(any::<u8>(), 32..200), at in 0u32..200) {
            bytes[4] |= 8;
            bytes[12..16].copy_from_slice(&at.to_ne_bytes());
            prop_assert!(parse_region(&bytes).areas.unwrap_or_default().len() <= bytes.len() / 16);
        }
    }
}
