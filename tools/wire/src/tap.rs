//! A TAP interface: the kernel's end of the wire.
#![allow(unsafe_code)] // One ioctl, which says which interface a file descriptor is.

use rustix::ioctl::{Opcode, Setter, ioctl};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;

/// `TUNSETIFF`.
const SET_INTERFACE: Opcode = 0x4004_54ca;
/// `IFF_TAP | IFF_NO_PI`: Ethernet frames and nothing before them.
const TAP_FRAMES_ONLY: i16 = 0x1002;
const NAME_BYTES: usize = 16;

/// `struct ifreq`: a name, and as much of its union as this call reads.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_BYTES],
    flags: i16,
    rest: [u8; 22],
}

/// Opens the interface `name`, and creates it if there is none and this process may. Reads and writes never block.
pub(crate) fn open(name: &str) -> io::Result<File> {
    if name.len() >= NAME_BYTES || name.contains(['/', '\0', ' ']) {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            format!("a name has at most {} bytes, none of them / or space", NAME_BYTES - 1),
        ));
    }
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open("/dev/net/tun")?;
    let mut request = InterfaceRequest { name: [0; NAME_BYTES], flags: TAP_FRAMES_ONLY, rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the kernel reads a `struct ifreq` of 40 bytes through the pointer, which is what `InterfaceRequest` is; what
    // it writes back goes to the copy that `Setter` holds.
    unsafe { ioctl(&file, Setter::<SET_INTERFACE, InterfaceRequest>::new(request)) }?;
    Ok(file)
}

const _: () = assert!(size_of::<InterfaceRequest>() == 40);
