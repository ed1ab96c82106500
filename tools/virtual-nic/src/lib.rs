//! A ConnectX in software.

pub mod dma;
pub mod mkey;
pub mod offload;
pub mod packet;
pub mod reject;
pub mod rss;
pub mod steering;
pub mod wqe;
