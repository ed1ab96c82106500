//! What a function is and whether it can offload NVMe/TCP, as a plain value.

use super::capabilities::{OffloadCaps, Reason};
use super::model::{self, Model, Tested};
use super::{Adapter, AdapterError};
use crate::command::FirmwareVersion;
use crate::platform::{Deadline, Identity, Platform};
use std::fmt;

/// What `cxddp probe` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which function.
    pub identity: Identity,
    /// What it is, if its id is known.
    pub model: Option<&'static Model>,
    /// How far this driver was tried on such a device.
    pub tested: Tested,
    /// True for a virtual function.
    pub virtual_function: bool,
    /// Its firmware.
    pub firmware: FirmwareVersion,
    /// Parameter set id of the board; empty if it has none.
    pub psid: String,
    /// MAC address in use.
    pub mac: [u8; 6],
    /// IP MTU in use.
    pub mtu: u16,
    /// Greatest IP MTU of the port.
    pub max_mtu: u16,
    /// True if the link is up.
    pub link_up: bool,
    /// Interrupt vectors.
    pub vectors: u16,
    /// Pages of 4 KiB that firmware holds.
    pub firmware_pages: usize,
    /// Bytes of DMA memory.
    pub dma_bytes: usize,
    /// Bytes of it that are on huge pages.
    pub dma_huge_bytes: usize,
    /// Commands that the bring-up took, and those since.
    pub commands: u64,
    /// What matters for the offload.
    pub offload: OffloadCaps,
    /// Why NVMe/TCP cannot be offloaded; empty if it can.
    pub why_not: Vec<Reason>,
}

impl Report {
    pub(super) fn new<P: Platform>(adapter: &mut Adapter<P>, deadline: Deadline) -> Result<Report, AdapterError> {
        let link_up = adapter.link_is_up(deadline)?;
        let offload = adapter.capabilities().offload();
        let identity = adapter.platform().identity().clone();
        let heap = adapter.heap();
        let (dma_bytes, dma_huge_bytes) = (heap.usage().0, heap.huge());
        Ok(Report {
            model: model::of(identity.device),
            tested: Tested::of(identity.device),
            dma_bytes,
            dma_huge_bytes,
            virtual_function: super::bring_up::is_virtual_function(identity.device),
            identity,
            firmware: adapter.firmware_version(),
            psid: adapter.psid().to_owned(),
            mac: adapter.mac(),
            mtu: adapter.mtu(),
            max_mtu: adapter.max_mtu(),
            link_up,
            vectors: adapter.platform().vectors(),
            firmware_pages: adapter.firmware_pages(),
            commands: adapter.commands_executed(),
            why_not: offload.why_not(),
            offload,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.mac;
        let kind = if self.virtual_function { "virtual function" } else { "physical function" };
        writeln!(f, "function  {} ({kind})", self.identity)?;
        let name = self.model.map_or("unknown to this driver", |model| model.name);
        writeln!(f, "device    {name}; {}", self.tested)?;
        writeln!(f, "firmware  {}, PSID {}", self.firmware, if self.psid.is_empty() { "none" } else { &self.psid })?;
        writeln!(
            f,
            "port      {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}, MTU {} of {}, link {}",
            self.mtu,
            self.max_mtu,
            if self.link_up { "up" } else { "down" }
        )?;
        writeln!(
            f,
            "resources {} vectors, {} firmware pages, {} commands",
            self.vectors, self.firmware_pages, self.commands
        )?;
        let huge = match (self.dma_huge_bytes, self.dma_bytes) {
            (0, _) => "none".to_owned(),
            (huge, all) if huge == all => "all".to_owned(),
            (huge, _) => format!("{} MiB", huge >> 20),
        };
        writeln!(f, "memory    {} MiB for DMA, {huge} of it on huge pages", self.dma_bytes >> 20)?;
        if self.why_not.is_empty() {
            let caps = &self.offload;
            let digest = if caps.crc_rx { "hardware" } else { "software" };
            return write!(
                f,
                "offload   possible: {} queues of {} entries, {} pieces per tag, data digest in {digest}",
                caps.max_queues(),
                caps.max_queue_size(),
                caps.max_sgl_entries()
            );
        }
        f.write_str("offload   not possible:")?;
        self.why_not.iter().try_for_each(|reason| write!(f, "\n          {reason}"))
    }
}
