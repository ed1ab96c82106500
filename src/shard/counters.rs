//! What a shard counts, beside what its layers do.

use super::error::DisconnectKind;
use crate::ddp::stats::Stats;
use crate::ddp::why::WhyNoOffload;
use crate::net::Counters as InterfaceCounters;
use crate::nvme::queue::Counters as QueueCounters;
use crate::observe::counter::{counters, gauges};
use crate::queue::Rejections;
use crate::tcp::Counters as TcpCounters;
use std::ops::AddAssign;

counters! {
    /// What a shard has counted.
    pub struct Counters {
        /// Packets received.
        pub packets_rx: Packets,
        /// Packets sent.
        pub packets_tx: Packets,
        /// Completions that were not believed; their packets are lost and TCP asks again. Which, say the receive queue's and
        /// the offload's own counters.
        pub bad_completions: Entries,
        /// Packets whose checksum the device found wrong, or did not check.
        pub bad_checksums: Packets,
        /// Segments for no connection.
        pub no_connection: Segments,
        /// Segments for no connection that were answered with a reset because the connection had been ours.
        pub resets: Segments,
        /// Segments for a connection that had been ours which got no reset: too many in a second, or the send ring was full.
        pub resets_suppressed: Segments,
        /// Packets whose placed payload belongs to another connection than their headers say; dropped.
        pub foreign_placements: Packets,
        /// Packets of a connection without the device's offload whose data digests it vouches for; not believed.
        pub foreign_digest_marks: Packets,
        /// Resync questions in packets of another connection than the queue that asks; ignored.
        pub foreign_resyncs: Questions,
        /// Segments that came out of order for a connection that closes, which keeps no payload; dropped.
        pub closing_dropped: Segments,
        /// Bytes that came in order for a connection that closes; acknowledged and thrown away.
        pub closing_discarded: Bytes,
        /// Connections that were closing and were forgotten early, because others began to close and there were too many.
        pub closing_evicted: Connections,
        /// Errors of completion, send and receive queues: completions with an error and events that name a queue.
        pub queue_errors: Events,
        /// Completion queues that failed, the control rings' included.
        pub cq_errors: Events,
        /// Events that name a queue which is not the shard's.
        pub unknown_queue_events: Events,
        /// Work requests swept out of a send or receive queue that was in the error state.
        pub flushed: Entries,
        /// Completions dropped unread when a send or receive queue was taken back to work.
        pub discarded: Entries,
        /// Send and receive queues that were taken back to work after an error.
        pub recoveries: Times,
        /// Connections that were taken off the offload because the receive queue kept failing.
        pub fallbacks: Connections,
        /// Frames that could not be built or posted: lost as on a wire.
        pub not_sent: Packets,
        /// Times that the device was asked for an interrupt at the next packet.
        pub armed: Times,
        /// Such interrupts that were announced.
        pub completion_events: Events,
        /// Events of the function that nothing is done about.
        pub other_events: Events,
        /// The port went down.
        pub port_down: Events,
        /// Connections begun.
        pub connections_opened: Connections,
        /// Connections that ended, by what ended them.
        pub connections_ended: Connections by DisconnectKind,
        /// Connections that were to be offloaded and were not.
        pub offload_refused: Connections by WhyNoOffload,
        /// Reads that failed because the device wrote into their buffer what does not belong there, or may still write it.
        pub suspect_reads: Requests,
        /// Buffers that stayed with the device because it did not say that it has forgotten them.
        pub quarantined: Buffers,
        /// Doorbell registers written by send and control queues.
        pub doorbells: Doorbells,
    }
}

/// Everything that a shard counts. Those of TCP, NVMe and the offload are sums over its connections, the ended ones
/// included: none ever goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The shard itself.
    pub shard: Counters,
    /// Completions of the receive queue that were not believed.
    pub receive_queue: Rejections,
    /// Completions of the send queue that were not believed.
    pub send_queue: Rejections,
    /// Ethernet, ARP and IP.
    pub interface: InterfaceCounters,
    /// TCP.
    pub tcp: TcpCounters,
    /// NVMe/TCP, of I/O queues.
    pub nvme: QueueCounters,
    /// NVMe/TCP, of admin queues.
    pub admin: QueueCounters,
    /// The offload.
    pub offload: Stats,
}

impl AddAssign<&Totals> for Totals {
    fn add_assign(&mut self, other: &Totals) {
        // Taken apart, so that a new one is not forgotten.
        let Totals { shard, receive_queue, send_queue, interface, tcp, nvme, admin, offload } = other;
        self.shard += shard;
        self.receive_queue += receive_queue;
        self.send_queue += send_queue;
        self.interface += interface;
        self.tcp += tcp;
        self.nvme += nvme;
        self.admin += admin;
        self.offload += offload;
    }
}

gauges! {
    /// What a shard has at the moment.
    pub struct Gauges {
        /// Connections.
        pub connections: Connections,
        /// Connections that close: their peers have not confirmed, or TIME-WAIT is not over.
        pub closing: Connections,
        /// Connections with an offload queue.
        pub offloaded: Connections,
        /// Requests under way.
        pub requests: Requests,
        /// Answered requests that wait for the device to forget their buffers.
        pub draining: Requests,
        /// Receive buffers that the device may write.
        pub rx_posted: Buffers,
        /// Receive buffers that frames hold: packets that wait for others before them.
        pub rx_held: Buffers,
        /// Offload queues that could not be removed and whose buffers stay with the device until it is reset.
        pub quarantines: Queues,
        /// 1 if the shard takes no more connections because the function or one of its queues has failed for good.
        pub broken: Times,
    }
}

gauges! {
    /// What a connection has at the moment.
    pub struct ConnectionGauges {
        /// Requests under way.
        pub requests: Requests,
        /// Answered requests that wait for the device to forget their buffers.
        pub draining: Requests,
        /// Tags that the device knows: bound, or not forgotten yet.
        pub tags_known: Tags,
    }
}
