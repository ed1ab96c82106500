//! vfio-user: a PCI device lives in one process, whoever uses it in another, and a unix socket is between them.
//!
//! ```text
//!   client (QEMU, or the driver itself)             server (the virtual ConnectX)
//!     VERSION            ──────────────────────────►  negotiate
//!     DEVICE_GET_*_INFO  ──────────────────────────►  regions, interrupts
//!     DMA_MAP + file     ──────────────────────────►  the device maps the same file: DMA is a memory copy
//!     DEVICE_SET_IRQS + eventfds  ─────────────────►  an interrupt is a write to an eventfd
//!     REGION_READ, REGION_WRITE   ─────────────────►  registers and PCI configuration space
//!     DEVICE_RESET       ──────────────────────────►  function-level reset
//! ```
//!
//! The messages are those of the libvfio-user specification, version 0.0, little-endian, as QEMU 10.1 and later speaks
//! them (`virtual-hil.md` §6). The server asks nothing of the client: memory without a file descriptor cannot be reached,
//! which for a device here is memory that is not mapped.
//!
//! | module | |
//! |---|---|
//! | [`message`] | headers and payloads, and what each number means |
//! | [`transport`] | whole messages with their file descriptors over a socket, each within a deadline |
//! | [`server`] | one client at a time, driven by whoever polls |
//! | [`client`] | calls that return or fail within their time |
//!
//! Nothing that arrives is trusted: lengths are bounded before memory is allocated, numbers are checked before they are
//! used, and what cannot be served is answered with an error number, never with silence.

pub mod client;
pub mod message;
pub mod server;
pub mod transport;
mod version;

pub use client::{Client, ClientError, DeviceInfo};
pub use server::{Device, Errno, Irq, IrqAction, IrqChange, Mapping, Region, Served, Server, Shape};
pub use transport::{Socket, TransportError};
pub use version::{Limits, VersionError};
