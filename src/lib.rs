//! A user-space driver for the NVIDIA/Mellanox ConnectX over VFIO, whose reason to exist is NVMe/TCP direct data
//! placement: the NIC writes the payload of NVMe/TCP reads straight into the reader's buffer and checks the data digest.
//!
//! ```text
//! frame on the wire
//!   └► NIC: steering → offload context → payload DMA'd into the reader's buffer, rest into the receive ring
//!        └► CQE (128 B)
//!             └► ddp: CQE + ring slot + tag table ─► Frame (headers | placed range | ring range = the bytes on the wire)
//!                  └► tcp: in-order frames, no copy
//!                       └► nvme (the L5P): PDU by PDU; source equals destination → already there; else copy
//!                            └► completion to the caller, only after the tag is unbound
//!
//! caller's read ─► bind tag (KLM UMR) ─► command capsule ─► TCP ─► SQ ─► wire
//! ```
//!
//! One direction down, one direction up. A module may call the one below it; what comes up is a value or an event
//! returned from a `poll`, never a stored callback.

pub mod adapter;
pub mod command;
pub mod ddp;
#[cfg(feature = "demo")]
pub mod demo;
pub mod dma;
pub mod frame;
#[cfg(feature = "demo")]
pub mod inspect;
pub mod net;
pub mod nvme;
pub mod observe;
pub mod platform;
pub mod queue;
pub mod session;
pub mod shard;
pub mod steering;
pub mod tcp;
pub mod transfer;
