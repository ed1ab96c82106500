//! What a shard is to be.

use crate::ddp::policy::Threshold;
use std::net::Ipv4Addr;

/// What to do about the offload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffloadPolicy {
    /// Use it where possible.
    #[default]
    Prefer,
    /// Fail where it is not possible: a read that would be copied for any reason but its size is refused
    /// ([`Refused::NotBound`](super::Refused::NotBound)).
    Require,
    /// Do not use it: no queue is offloaded.
    Off,
}

/// Shards of one function: each has its own of as many ranges of local ports.
pub const MAX_SHARDS: u32 = 8;

/// How a shard is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address of this end.
    pub ip: Ipv4Addr,
    /// Leading bits of the address that neighbours share.
    pub prefix_len: u8,
    /// Where packets for others go.
    pub gateway: Option<Ipv4Addr>,
    /// TCP connections at most. As many again may be closing: they hold no receive buffers, but their send buffers.
    pub max_connections: u32,
    /// log2 of the receive queue's work requests, at most 15. One poll takes [`RECEIVE_BUDGET`](super::RECEIVE_BUDGET)
    /// packets, so the queue must hold what arrives between two polls and what the budget leaves behind; what it does not
    /// hold the device drops, and TCP asks again.
    pub log_rx: u32,
    /// log2 of the send queue's 64-byte blocks, 5 to 15.
    pub log_tx: u32,
    /// Receive buffers that each connection may hold beyond those posted to the device: out-of-order packets.
    pub rx_payloads_per_connection: u32,
    /// TCP receive window of each connection, bytes.
    pub rx_window: u32,
    /// TCP send buffer of each connection, bytes.
    pub tx_buffer: u32,
    /// Secret from which initial sequence numbers and ports are derived; random bytes in production.
    pub secret: [u8; 16],
    /// What to do about the offload.
    pub offload: OffloadPolicy,
    /// The first local port to be taken, 49152 or more; `None` for one that depends on the secret. A shard that follows
    /// another one goes on where that one stopped ([`Retired::next_port`](super::Retired::next_port)): the peer may not have
    /// noticed yet that the old connections are gone.
    pub first_port: Option<u16>,
    /// Which reads are bound, by size.
    pub offload_threshold: Threshold,
    /// Events that are kept ([`Shard::event_log`](super::Shard::event_log)); about 100 bytes each.
    pub events: u32,
    /// log2 of the 64-byte blocks of each offloaded connection's control ring, 5 to 15; `None` for what suits the queue's
    /// depth ([`Capacity::log_ring`](crate::ddp::create::Capacity::log_ring)). Reads that find it full wait a little for the
    /// device, and are not offloaded then.
    pub log_control_ring: Option<u32>,
}

impl Config {
    /// A shard for one controller with a few queues.
    pub fn new(ip: Ipv4Addr, secret: [u8; 16]) -> Config {
        Config {
            ip,
            prefix_len: 24,
            gateway: None,
            max_connections: 16,
            log_rx: 11,
            log_tx: 11,
            rx_payloads_per_connection: 256,
            rx_window: 512 << 10,
            tx_buffer: 256 << 10,
            secret,
            offload: OffloadPolicy::Prefer,
            first_port: None,
            offload_threshold: Threshold::Fixed(0),
            events: 1024,
            log_control_ring: None,
        }
    }

    /// Receive buffers of the pool; `None` if no queue can have so many work requests or no number says so many. The
    /// queue can always be filled: connections hold no more than their share.
    pub(super) fn receive_buffers(&self) -> Option<u32> {
        let posted = 1u32.checked_shl(self.log_rx).filter(|_| self.log_rx <= 15)?;
        self.max_connections.checked_mul(self.rx_payloads_per_connection)?.checked_add(posted)
    }
}
