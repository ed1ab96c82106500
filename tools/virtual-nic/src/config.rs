//! How a virtual function is built.

use crate::capabilities::Capabilities;
use crate::offload::{Behaviour, WhichRun};
use std::time::Duration;

/// A virtual function. [`Default`] is a ConnectX-7 Ethernet physical function with the NVMe/TCP offload, link up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// PCI device id (`mlx5-numbers.md`).
    pub device_id: u16,
    /// Permanent address of the vport.
    pub mac: [u8; 6],
    /// Firmware version: major, minor, subminor.
    pub firmware: (u16, u16, u16),
    /// Board id (PSID), padded with zeros.
    pub psid: [u8; 16],
    /// Interrupt vectors (MSI-X table size).
    pub vectors: u16,
    /// Bytes of BAR0; a power of two of at least 128 KiB.
    pub bar_size: u64,
    /// Capability groups.
    pub capabilities: Capabilities,
    /// Firmware's demand for memory.
    pub pages: PageDemand,
    /// Largest hardware MTU of the port: bytes of a frame with VLAN tag and FCS (`mlx5-bringup.md` §5).
    pub max_mtu: u16,
    /// Hardware MTU after a reset.
    pub initial_mtu: u16,
    /// A cable is plugged in.
    pub cable: bool,
    /// Simulated time from a reset until the initialization segment says that the function is ready.
    pub boot_time: Duration,
    /// Simulated time from a command doorbell to its answer. Zero answers before the doorbell write returns; anything
    /// else needs [`VirtualNic::advance`](crate::VirtualNic::advance).
    pub command_latency: Duration,
    /// Up to this much more, different for every command and repeatable for a seed: answers then overtake each other.
    pub command_jitter: Duration,
    /// Simulated time from a send queue's doorbell until the device looks at the queue. Zero looks before the doorbell write
    /// returns; anything else needs [`VirtualNic::advance`](crate::VirtualNic::advance).
    pub doorbell_latency: Duration,
    /// Seed of all that looks random.
    pub seed: u64,
    /// Behaviour that is not known, or that a test wants otherwise.
    pub switches: Switches,
}

/// Device ids of virtual functions (`mlx5-numbers.md`): drivers tell by nothing else.
const VIRTUAL_FUNCTIONS: [u16; 8] = [0x1012, 0x1014, 0x1016, 0x1018, 0x101a, 0x101c, 0x101e, 0xa2d3];

impl Config {
    /// True if it is no virtual function.
    pub fn is_physical(&self) -> bool {
        !VIRTUAL_FUNCTIONS.contains(&self.device_id)
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            device_id: 0x1021,
            mac: [0x02, 0x00, 0x00, 0xc7, 0x00, 0x01],
            firmware: (28, 39, 1002),
            psid: *b"VNIC000000001\0\0\0",
            vectors: 64,
            bar_size: 32 << 20,
            capabilities: Capabilities::default(),
            pages: PageDemand::default(),
            max_mtu: 10240,
            initial_mtu: 1522,
            cable: true,
            boot_time: Duration::ZERO,
            command_latency: Duration::ZERO,
            command_jitter: Duration::ZERO,
            doorbell_latency: Duration::ZERO,
            seed: 0,
            switches: Switches::default(),
        }
    }
}

/// How many 4 KiB pages firmware asks for, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageDemand {
    /// Before capabilities can be read.
    pub boot: u32,
    /// Before INIT_HCA.
    pub init: u32,
    /// Function number that QUERY_PAGES answers with, to be repeated by MANAGE_PAGES.
    pub function_id: u16,
    /// Objects that one page holds once the function runs; zero: objects need no pages.
    pub objects_per_page: u32,
    /// Pages for objects that are part of the init pages.
    pub reserve: u32,
    /// Firmware asks for this many more (page request event) when fewer than half as many are free.
    pub batch: u32,
}

impl Default for PageDemand {
    /// A small card: a real one asks for tens of thousands of init pages.
    fn default() -> Self {
        PageDemand { boot: 6, init: 256, function_id: 0, objects_per_page: 128, reserve: 32, batch: 32 }
    }
}

/// What is not known about the hardware, as switches, each with the setting that the reference favours as default.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Switches {
    /// Firmware writes to each page it is given, and refuses one that it cannot reach. Off for the replay of a trace
    /// whose pages exist nowhere.
    pub touch_pages: bool,
    /// Firmware takes a page at address 0, as rdma-core's VFIO driver gives it one. Off: refused, as Linux says of firmware
    /// (`mlx5-bringup.md` §1).
    pub take_page_zero: bool,
    /// An arm doorbell of a CQ is ignored if its sequence number is that of an arm which already led to an event
    /// (`mlx5-bringup.md` §8.1). Off: every arm counts.
    pub strict_arm_sequence: bool,
    /// The registers with the command queue's address read as they were written. Off: as zero.
    pub queue_address_reads_back: bool,
    /// Answers carry valid signatures, as with `cmdif_checksum`. Off: the signature bytes stay as the host sent them,
    /// which is what recorded traffic of a ConnectX-4 shows.
    pub sign_answers: bool,
    /// The function offers receive queues whose work requests hold many packets (striding RQs), as a ConnectX does. Off: a
    /// driver uses cyclic queues.
    pub striding_rq: bool,
    /// The function offers compressed receive completions, as a ConnectX does.
    pub cqe_compression: bool,
    /// Which run of a packet the offload places when several could be.
    pub which_run: WhichRun,
    /// What the offload does when packets are missing, headers odd or tags unusable.
    pub offload: Behaviour,
}

impl Default for Switches {
    fn default() -> Self {
        Switches {
            touch_pages: true,
            take_page_zero: false,
            strict_arm_sequence: true,
            queue_address_reads_back: true,
            sign_answers: true,
            striding_rq: false,
            cqe_compression: false,
            which_run: WhichRun::default(),
            offload: Behaviour::default(),
        }
    }
}
