//! What a queue counts.

use super::ReasonKind;
use crate::observe::counter::counters;

counters! {
    /// Counts since the queue was made.
    pub struct Counters {
        /// PDUs whose header was good.
        pub pdus_received: Pdus,
        /// PDUs handed out whole.
        pub pdus_sent: Pdus,
        /// Commands submitted, those of the queue's own (Connect) included.
        pub submitted: Commands,
        /// Commands completed.
        pub completed: Commands,
        /// Commands completed with another status than success, those included that were outstanding when the queue failed.
        pub completed_with_error: Commands,
        /// Commands given up by the caller.
        pub cancelled: Commands,
        /// Payload of completed reads that was in place already.
        pub bytes_placed: Bytes,
        /// Payload of completed reads that software copied.
        pub bytes_copied: Bytes,
        /// Data into the queue's own memory (Identify pages).
        pub bytes_control: Bytes,
        /// Data of cancelled commands.
        pub bytes_discarded: Bytes,
        /// Bytes of the stream that came after the queue had failed; ignored.
        pub bytes_after_failure: Bytes,
        /// Data digests (one for each PDU) that the device vouched for.
        pub digests_hardware: Digests,
        /// Data digests (one for each PDU) that software checked.
        pub digests_software: Digests,
        /// Data digests that software checked and that did not match.
        pub digest_errors: Digests,
        /// Resync questions of the device (does a PDU begin at this sequence number?).
        pub resync_asked: Questions,
        /// Resync questions answered with yes.
        pub resync_confirmed: Questions,
        /// Resync questions that turned out wrong; the device goes on searching.
        pub resync_refuted: Questions,
        /// Resync questions that a newer one replaced before the stream came to the place.
        pub resync_replaced: Questions,
        /// Resync questions on a queue that has failed; ignored.
        pub resync_ignored: Questions,
        /// Failures of the queue (at most one each), by what ended it.
        pub failed: Queues by ReasonKind,
    }
}
