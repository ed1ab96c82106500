//! What a connection counts.

/// Counters of one connection. Each starts at 0 and only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Segments given to `on_segment`.
    pub segments_in: u64,
    /// Segments given out by `poll_tx`.
    pub segments_out: u64,
    /// Bytes accepted in order.
    pub bytes_in: u64,
    /// Bytes sent for the first time.
    pub bytes_out: u64,

    /// Segments sent again, for whatever reason.
    pub retransmitted_segments: u64,
    /// Bytes sent again.
    pub retransmitted_bytes: u64,
    /// Fast recoveries begun: by a loss that RACK found, or without SACK by the third duplicate acknowledgment.
    pub fast_retransmits: u64,
    /// Segments taken as lost, by RACK or by the retransmission timer. With SACK only.
    pub lost_segments: u64,
    /// Tail loss probes sent (RFC 8985 §7).
    pub tail_loss_probes: u64,
    /// Tail loss probes that mended a loss (RFC 8985 §7.4).
    pub probes_mended: u64,
    /// Rescue retransmissions (RFC 6675 §4, NextSeg rule 4).
    pub rescues: u64,
    /// Recoveries and timeouts that were undone because nothing had been lost (RFC 3522, RFC 3708).
    pub spurious_recoveries: u64,
    /// Duplicates that the peer reported (D-SACK, RFC 2883).
    pub dsacks_in: u64,
    /// Duplicates reported to the peer.
    pub dsacks_out: u64,
    /// SACK blocks of what was never sent, or that end before they begin: ignored.
    pub bad_sack_blocks: u64,
    /// Timeouts at which the peer had thrown away what it had selectively acknowledged (RFC 2018 §8).
    pub sack_reneges: u64,
    /// Expiries of the retransmission timer.
    pub timeouts: u64,
    /// Duplicate acknowledgments received (RFC 5681 §2).
    pub duplicate_acks_in: u64,
    /// Probes of a closed window sent.
    pub window_probes: u64,
    /// Keepalive probes sent.
    pub keepalive_probes: u64,
    /// Segments without data sent to acknowledge, challenge or open the window.
    pub pure_acks_out: u64,
    /// Round-trip times measured.
    pub rtt_samples: u64,

    /// Segments kept out of order.
    pub out_of_order: u64,
    /// Segments of which no byte was new.
    pub duplicate_segments: u64,
    /// Segments cut at the front, because part of them had been received.
    pub trimmed_front: u64,
    /// Segments cut at the back, because they went beyond the window or the FIN.
    pub trimmed_back: u64,

    /// Dropped: not in the window (RFC 9293 §3.10.7.4).
    pub dropped_out_of_window: u64,
    /// Dropped: no more payloads may be held.
    pub dropped_no_room: u64,
    /// Dropped: timestamp older than one seen (RFC 7323 §5, PAWS).
    pub dropped_paws: u64,
    /// Dropped: timestamps were agreed on and the segment has none (RFC 7323 §3.2).
    pub dropped_no_timestamp: u64,
    /// Dropped: acknowledges what was not sent, or what is too old (RFC 5961 §5.2).
    pub dropped_bad_ack: u64,
    /// Dropped: no ACK flag where one is due.
    pub dropped_no_ack: u64,
    /// Dropped: SYN on a connection that is synchronized (RFC 5961 §4.2).
    pub dropped_syn: u64,
    /// Dropped: RST whose sequence number is not exactly the next (RFC 5961 §3.2).
    pub dropped_rst: u64,
    /// Dropped: payload where none is taken: with a SYN, after a FIN, or on a closed connection.
    pub dropped_unexpected: u64,
    /// A FIN that contradicts an earlier one, or data received beyond it: ignored.
    pub bad_fin: u64,
    /// Challenge acknowledgments due (RFC 5961 §7).
    pub challenge_acks: u64,
    /// Challenge acknowledgments not sent because there were too many in a second.
    pub challenge_acks_suppressed: u64,
}
