//! The contract between the layer-5 protocol (L5P) and the driver, in both directions, under the names of the kernel's
//! `ulp_ddp` interface (patch series v30, `nvme-tcp-offload.md` §10), so that people who know the series feel at home.
//!
//! | here | `ulp_ddp_dev_ops` | |
//! |---|---|---|
//! | [`Offload::limits`] | `limits` | what the device can do |
//! | [`Offload::sk_add`] | `sk_add` | offload a connection |
//! | [`Offload::sk_del`] | `sk_del` | stop |
//! | [`Offload::setup`] | `setup` | bind a read's buffer to its tag, before the command is sent |
//! | [`Offload::teardown`] | `teardown` | unbind; the buffer comes back with `ddp_teardown_done` |
//! | [`Offload::resync`] | `resync` | yes, a PDU header begins at this sequence number |
//!
//! | here | `ulp_ddp_ulp_ops` | |
//! |---|---|---|
//! | [`OffloadEvents::resync_request`] | `resync_request` | does a PDU header begin at this sequence number? |
//! | [`OffloadEvents::ddp_teardown_done`] | `ddp_teardown_done` | the device has forgotten the buffer |
//!
//! The driver never calls up: its `poll` returns [`Event`]s, and the owner loop calls the L5P's methods with them
//! ([`OffloadEvents::on_event`]).

use super::tags::{NotPinned, Released, TagError};
use super::why::Why;
use crate::dma::IoBuf;
use crate::queue::ErrorCompletion;

/// What the device can do (`nvme-tcp-offload.md` §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Device-contiguous pieces of one read's buffer.
    pub max_ddp_sgl_len: u16,
    /// Tags of one queue.
    pub max_queue_size: u32,
    /// Queues.
    pub max_queues: u16,
    /// Reads of fewer bytes are not offloaded; 0 for none.
    pub io_threshold: u32,
    /// Together with TLS: no hardware can.
    pub tls: bool,
    /// CIDs beyond `0 .. queue_size - 1`: no hardware can, so a CID carries no generation bits.
    pub full_ccid_range: bool,
}

/// What was negotiated for a connection (`ICResp`), and where its packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// PDU data alignment that the controller asks of the host (CPDA): dwords, 0-based, at most 31.
    pub cpda: u8,
    /// PDU headers carry digests.
    pub header_digest: bool,
    /// PDUs carry data digests.
    pub data_digest: bool,
    /// Tags of the queue: CIDs run from 0 to `queue_size - 1`.
    pub queue_size: u32,
    /// RQT with the one receive queue that the connection's packets go to; what `affinity_hint` chooses in Linux.
    pub rqtn: u32,
}

/// What became of a read's buffer. The driver holds it either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// The device will place payload into it.
    Offloaded,
    /// Payload will arrive in the receive ring and be copied.
    NotOffloaded(Why),
}

/// How a buffer comes back.
#[derive(Debug)]
#[must_use = "a buffer may come back at once"]
pub enum Teardown {
    /// Later, with [`Event::TeardownDone`]: the device may still write it.
    Pending,
    /// At once: the device never knew of it.
    Done(Released),
}

/// What the driver has to say to the L5P.
#[derive(Debug)]
#[must_use = "somebody waits for this"]
pub enum Event {
    /// The device has forgotten a buffer.
    TeardownDone(Released),
    /// The queue's control ring failed. Nothing can be bound or unbound any more: remove the queue; the buffers come back
    /// with it.
    Failed(ErrorCompletion),
}

/// The driver, as the L5P sees it.
pub trait Offload {
    /// What a connection is to the driver: its addresses, and where its stream stands.
    type Socket;
    /// Why a connection could not be offloaded. It goes on un-offloaded.
    type AddError;
    /// What came of a removal: buffers, and what went wrong.
    type Removed;

    /// What the device can do.
    fn limits(&self) -> Limits;

    /// Offloads a connection. Returns the queue's number, which is also the flow tag of its packets. On failure nothing is
    /// left behind.
    fn sk_add(&mut self, socket: &Self::Socket, config: &Config) -> Result<u32, Self::AddError>;

    /// Stops offloading a connection; `None` if there is no such queue.
    fn sk_del(&mut self, queue: u32) -> Option<Self::Removed>;

    /// Takes the buffer of a read for its tag (CID), and lets the device place into it if it can. To be called before the
    /// command is sent. Nothing is told to the device before the next flush.
    fn setup(&mut self, queue: u32, tag: u16, buffer: IoBuf) -> Result<Setup, SetupError>;

    /// Asks for the buffer of a tag back.
    fn teardown(&mut self, queue: u32, tag: u16) -> Result<Teardown, TeardownError>;

    /// Confirms that a PDU header begins at `sequence`, as the device guessed. False if there is no such queue.
    fn resync(&mut self, queue: u32, sequence: u32) -> bool;
}

/// A buffer that was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is no such queue.
    #[error("no offload queue {queue}")]
    NoSuchQueue {
        /// The number.
        queue: u32,
        /// The buffer, for the caller to keep.
        buffer: IoBuf,
    },
    /// The tag cannot take it.
    #[error(transparent)]
    NotPinned(#[from] NotPinned),
}

/// A buffer that was not asked back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TeardownError {
    /// There is no such queue.
    #[error("no offload queue {0}")]
    NoSuchQueue(u32),
    /// The tag has none.
    #[error(transparent)]
    Tag(#[from] TagError),
}

/// The L5P, as the owner loop sees it.
pub trait OffloadEvents {
    /// The device lost the PDU framing and guesses that a PDU header begins at `sequence` of the TCP stream. See
    /// [`ResyncWord`] for how to answer.
    fn resync_request(&mut self, sequence: u32);

    /// The device does not use the buffer any more: the command may complete, its tag may be used again.
    fn ddp_teardown_done(&mut self, released: Released);

    /// The queue's offload failed. It must be removed; the connection goes on un-offloaded.
    fn offload_failed(&mut self, error: ErrorCompletion);

    /// Passes an event on to the method that it is for.
    fn on_event(&mut self, event: Event) {
        match event {
            Event::TeardownDone(released) => self.ddp_teardown_done(released),
            Event::Failed(error) => self.offload_failed(error),
        }
    }
}

/// The L5P's side of a resync: the device's open question, and when to say yes (`nvme-tcp-offload.md` §8.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResyncWord {
    asked: Option<u32>,
}

impl ResyncWord {
    /// The device asks. A newer question replaces an older one: the device has given that one up.
    pub fn request(&mut self, sequence: u32) {
        self.asked = Some(sequence);
    }

    /// Compares the open question with a PDU header that begins at `sequence`; to be called for every PDU of the stream,
    /// in order. True once if the device guessed right: call [`Offload::resync`]. A wrong guess is never answered; it is
    /// forgotten as soon as the stream has passed it.
    #[inline]
    pub fn check(&mut self, sequence: u32) -> bool {
        let Some(asked) = self.asked else { return false };
        // Serial arithmetic: the stream has not come to the place asked about.
        if (sequence.wrapping_sub(asked) as i32) < 0 {
            return false;
        }
        self.asked = None;
        sequence == asked
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | a right guess is confirmed once, a wrong one never, in any part of the sequence space | `only_a_true_header_is_confirmed` |
    //! | a newer question replaces an older one | `the_newest_question_counts` |
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn only_a_true_header_is_confirmed(
            start in any::<u32>(), lengths in prop::collection::vec(8u32..100_000, 1..20), guess in 0u32..1_000_000,
        ) {
            let headers: Vec<u32> = lengths
                .iter()
                .scan(start, |at, len| Some(std::mem::replace(at, at.wrapping_add(*len))))
                .collect();
            for question in [start.wrapping_add(guess), headers[guess as usize % headers.len()]] {
                let mut word = ResyncWord::default();
                word.request(question);
                let confirmed: Vec<u32> = headers.iter().copied().filter(|h| word.check(*h)).collect();
                let expected: Vec<u32> = headers.iter().copied().filter(|h| *h == question).collect();
                prop_assert_eq!(confirmed, expected);
            }
        }
    }

    #[test]
    fn the_newest_question_counts() {
        let mut word = ResyncWord::default();
        assert!(!word.check(7), "nothing was asked");
        word.request(100);
        word.request(200);
        assert!(!word.check(100));
        assert!(word.check(200));
        assert!(!word.check(200), "confirmed once");
    }
}
