//! What a connection counts.

use crate::observe::counter::counters;

counters! {
    /// Counters of one connection. Each starts at 0 and only grows.
    pub struct Counters {
        /// Segments given to `on_segment`.
        pub segments_in: Segments,
        /// Segments given out by `poll_tx`.
        pub segments_out: Segments,
        /// Bytes accepted in order.
        pub bytes_in: Bytes,
        /// Bytes sent for the first time.
        pub bytes_out: Bytes,

        /// Segments sent again, for whatever reason.
        pub retransmitted_segments: Segments,
        /// Bytes sent again.
        pub retransmitted_bytes: Bytes,
        /// Fast recoveries begun: by a loss that RACK found, or without SACK by the third duplicate acknowledgment.
        pub fast_retransmits: Times,
        /// Segments taken as lost, by RACK or by the retransmission timer. With SACK only.
        pub lost_segments: Segments,
        /// Tail loss probes sent (RFC 8985 §7).
        pub tail_loss_probes: Segments,
        /// Tail loss probes that mended a loss (RFC 8985 §7.4).
        pub probes_mended: Segments,
        /// Rescue retransmissions (RFC 6675 §4, NextSeg rule 4).
        pub rescues: Segments,
        /// Recoveries and timeouts that were undone because nothing had been lost (RFC 3522, RFC 3708).
        pub spurious_recoveries: Times,
        /// Duplicates that the peer reported (D-SACK, RFC 2883).
        pub dsacks_in: Segments,
        /// Duplicates reported to the peer.
        pub dsacks_out: Segments,
        /// Options of the peer's SYN outside what the RFCs or this driver take, and used as the nearest value that is inside: a
        /// window scale above 14, a segment size below 88 bytes.
        pub clamped_options: Segments,
        /// SACK blocks of what was never sent, or that end before they begin: ignored.
        pub bad_sack_blocks: Blocks,
        /// Timeouts at which the peer had thrown away what it had selectively acknowledged (RFC 2018 §8).
        pub sack_reneges: Times,
        /// Expiries of the retransmission timer.
        pub timeouts: Times,
        /// Duplicate acknowledgments received (RFC 5681 §2).
        pub duplicate_acks_in: Segments,
        /// Probes of a closed window sent.
        pub window_probes: Segments,
        /// Keepalive probes sent.
        pub keepalive_probes: Segments,
        /// Segments without data sent to acknowledge, challenge or open the window.
        pub pure_acks_out: Segments,
        /// Round-trip times measured.
        pub rtt_samples: Times,

        /// Segments kept out of order.
        pub out_of_order: Segments,
        /// Segments of which no byte was new.
        pub duplicate_segments: Segments,
        /// Segments cut at the front, because part of them had been received.
        pub trimmed_front: Segments,
        /// Segments cut at the back, because they went beyond the window or the FIN.
        pub trimmed_back: Segments,

        /// Dropped: not in the window (RFC 9293 §3.10.7.4).
        pub dropped_out_of_window: Segments,
        /// Dropped: no more payloads may be held.
        pub dropped_no_room: Segments,
        /// Dropped: timestamp older than one seen (RFC 7323 §5, PAWS).
        pub dropped_paws: Segments,
        /// Dropped: timestamps were agreed on and the segment has none (RFC 7323 §3.2).
        pub dropped_no_timestamp: Segments,
        /// Dropped: acknowledges what was not sent, or what is too old (RFC 5961 §5.2).
        pub dropped_bad_ack: Segments,
        /// Dropped: no ACK flag where one is due.
        pub dropped_no_ack: Segments,
        /// Dropped: SYN on a connection that is synchronized (RFC 5961 §4.2).
        pub dropped_syn: Segments,
        /// Dropped: RST whose sequence number is not exactly the next (RFC 5961 §3.2).
        pub dropped_rst: Segments,
        /// Dropped: payload where none is taken: with a SYN or after a FIN.
        pub dropped_unexpected: Segments,
        /// Dropped: the connection is closed.
        pub dropped_closed: Segments,
        /// A FIN that contradicts an earlier one, or data received beyond it: ignored.
        pub bad_fin: Segments,
        /// Challenge acknowledgments due (RFC 5961 §7).
        pub challenge_acks: Segments,
        /// Challenge acknowledgments not sent because there were too many in a second.
        pub challenge_acks_suppressed: Segments,
    }
}
