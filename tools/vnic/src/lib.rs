//! A virtual ConnectX as a process of its own.
//!
//! ```text
//!   QEMU, or the driver ──vfio-user──► Function ─┐
//!   another of them     ──vfio-user──► Function ─┼─ Hub ── wire: unix socket, TAP, or a target inside
//!                                                ┘
//! ```
//!
//! One thread does everything, in turns ([`Hub::turn`]): messages of the clients, frames, and what became due. The
//! devices' time is the machine's. Nothing here blocks: whoever a client is waiting for must not wait for the client
//! (`virtual-hil.md` §6).
//!
//! | module | |
//! |---|---|
//! | [`function`] | a virtual NIC with its PCI configuration space and interrupts, as a vfio-user device |
//! | [`hub`] | functions, wire and impairments, on one clock |
//! | [`inject`] | faults at a moment |
//! | [`report`] | what was counted, for people |

pub mod function;
pub mod hub;
pub mod inject;
pub mod report;

pub use function::Function;
pub use hub::{Hub, HubConfig, Uplink};
