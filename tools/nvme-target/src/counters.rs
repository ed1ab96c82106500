//! What the target did, in numbers.

/// Totals since the target was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames handed in by `receive`.
    pub frames_received: u64,
    /// Frames of those that were dropped because too many waited.
    pub frames_dropped: u64,
    /// Frames sent.
    pub frames_sent: u64,
    /// Connections accepted.
    pub connections: u64,
    /// PDUs received whole.
    pub pdus_received: u64,
    /// PDUs begun to be sent.
    pub pdus_sent: u64,
    /// C2HData PDUs of those.
    pub c2h_data_sent: u64,
    /// R2T PDUs of those.
    pub r2t_sent: u64,
    /// Commands received.
    pub commands: u64,
    /// Commands answered with an error status.
    pub command_errors: u64,
    /// Read commands answered with success.
    pub reads: u64,
    /// Write commands answered with success.
    pub writes: u64,
    /// Payload bytes sent for reads.
    pub bytes_read: u64,
    /// Payload bytes received for writes.
    pub bytes_written: u64,
    /// Header digests of the host that fitted.
    pub header_digests_ok: u64,
    /// Data digests of the host that fitted.
    pub data_digests_ok: u64,
    /// Data digests of the host that did not fit.
    pub data_digests_bad: u64,
    /// C2HTermReq sent.
    pub terminations_sent: u64,
    /// H2CTermReq received.
    pub terminations_received: u64,
    /// Faults of the script that happened.
    pub faults: u64,
    /// Connection errors that were forgotten because nobody fetched them.
    pub errors_lost: u64,
}
