//! What the driver will pin, and map, for a number of queues.

use std::fmt;

/// Pages of 4 KiB that firmware asks for at bring-up: what a ConnectX-4 was recorded to ask for (6 and 12,868). Another card's
/// firmware tells only when it runs.
const FIRMWARE_BYTES: u64 = 12_874 * 4096;
/// Receive buffers of a shard as it is set up for a session (`shard::Config::new`): those of its queue, and those that its
/// connections may hold.
const RECEIVE_BUFFERS: u64 = 2048 + 16 * 256;
/// Bytes of a receive buffer beyond the IP packet, at most.
const FRAMING: u64 = 256;
/// Rings, contexts, send buffers.
const RINGS: u64 = 4 << 20;
/// Memory is taken in arenas that double, from the first size to the second (`dma::DmaHeap`).
const ARENAS: (u64, u64) = (4 << 20, 256 << 20);

/// How the driver is going to be used; the options have the names that `cxddp demo` gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct Shape {
    /// I/O queues that the driver will have.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=65535))]
    pub queues: u32,
    /// Requests in flight on each queue.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65535))]
    pub queue_size: u32,
    /// Bytes of one request.
    #[arg(long, value_name = "BYTES", default_value = "128KiB", value_parser = io_size)]
    pub io_size: u32,
    /// Largest IP packet.
    #[arg(long, value_name = "BYTES", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(68..=10240))]
    pub mtu: u32,
}

fn io_size(text: &str) -> Result<u32, String> {
    let bytes = u32::try_from(cxddp_manual::bytes(text)?).ok().filter(|bytes| (1..=1 << 30).contains(bytes));
    bytes.ok_or_else(|| "allowed is 1 to 1GiB".into())
}

/// What that takes: an upper bound, which the driver stays below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    shape: Shape,
    bytes: u64,
}

impl Need {
    /// Of a shape.
    pub fn of(shape: Shape) -> Need {
        let buffers = u64::from(shape.queues) * u64::from(shape.queue_size) * u64::from(shape.io_size);
        let receive = RECEIVE_BUFFERS * (u64::from(shape.mtu) + FRAMING);
        let used = FIRMWARE_BYTES + receive + RINGS + buffers;
        // The last arena is as large as all before it, up to the largest; all but its beginning may be unused.
        let bytes = used + used.min(ARENAS.1) + ARENAS.0;
        Need { shape, bytes }
    }

    /// Bytes that are pinned.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Mappings that are made: one for each arena.
    pub fn mappings(&self) -> u64 {
        let (mut total, mut count) = (0u64, 0);
        while total < self.bytes {
            total += total.clamp(ARENAS.0, ARENAS.1);
            count += 1;
        }
        count
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { queues, queue_size, io_size, mtu } = self.shape;
        let bytes = super::size(self.bytes);
        write!(f, "up to {bytes} ({queues} queues, {queue_size} requests of {io_size} bytes each, MTU {mtu}, firmware)")
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the bound holds for what `cxddp demo` was seen to take, without a real card's firmware | `the_bound_holds` |
    use super::*;

    /// Options of `cxddp demo`, bytes in its arenas, arenas: printed by the heap when it grew, on the in-process device.
    const SEEN: [(u32, u32, u32, u32, u64, u64); 7] = [
        (2, 32, 128 << 10, 1500, 29_360_128, 3),
        (1, 1, 4 << 10, 1500, 14_680_064, 2),
        (8, 32, 128 << 10, 1500, 58_720_256, 4),
        (2, 128, 128 << 10, 1500, 58_720_256, 4),
        (2, 32, 128 << 10, 9000, 121_634_816, 3),
        (2, 64, 512 << 10, 9000, 243_269_632, 4),
        (4, 32, 512 << 10, 1500, 117_440_512, 5),
    ];

    #[test]
    fn the_bound_holds() {
        for (queues, queue_size, io_size, mtu, bytes, mappings) in SEEN {
            let need = Need::of(Shape { queues, queue_size, io_size, mtu });
            assert!(need.bytes() - 2 * FIRMWARE_BYTES >= bytes, "{need}: {bytes}");
            assert!(need.bytes() < bytes + 3 * FIRMWARE_BYTES, "{need} is far above {bytes}");
            assert!((mappings..32).contains(&need.mappings()), "{need}");
        }
    }
}
