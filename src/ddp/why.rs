//! Why software did what the device might have done: why a connection has no offload, why a read's payload was copied, why a
//! data digest was computed.
//!
//! Every queue without an offload has one [`WhyNoOffload`], every copied byte and every digest that software computed has one
//! [`Why`]. Each has a name for programs, which never changes, and two sentences for people: what happened, and what to do.
//!
//! # What can be known
//!
//! Whether a read was bound is the driver's own doing, so these reasons are exact. Of a bound read the device says what it
//! placed, never why it placed no more. The rest is told apart by what software sees, in this order:
//!
//! ```text
//! tag                       pinned, not bound            what setup answered
//! how the packet came       behind later bytes           late-packet: the device passes retransmissions through
//!                           its first completion refused refused-completion
//!                           it came before, not kept     not-kept
//!                           without the queue's flow tag not-steered: the offload context never saw it
//! the packet                another run was placed       second-run
//! the stream before it      a PDU header came late       framing-lost, until the device asks; from the place that it
//!                                                        asks about on resync-pending; both until something is placed
//!                           a hole in this PDU           hole, up to the packet with the next PDU header
//! the read                  placed, but later            binding-late (an inference)
//!                           none of these                not-told
//! ```

/// Declares an enum whose variants have a name and two sentences.
macro_rules! reasons {
    (
        $(#[$meta:meta])* pub enum $type:ident {
            $($(#[$doc:meta])* $variant:ident = $name:literal, $sentence:literal, $advice:literal;)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type { $($(#[$doc])* $variant,)+ }

        impl $type {
            /// All of them.
            pub const ALL: [$type; [$($name),+].len()] = [$($type::$variant),+];

            /// The name for programs and counters: kebab-case, never changed.
            pub const fn name(self) -> &'static str {
                match self { $($type::$variant => $name,)+ }
            }

            /// What to do about it.
            pub const fn advice(self) -> &'static str {
                match self { $($type::$variant => $advice,)+ }
            }
        }

        impl crate::observe::counter::Reason for $type {
            fn all() -> &'static [$type] {
                &$type::ALL
            }
            fn index(self) -> usize {
                self as usize
            }
            fn name(self) -> &'static str {
                $type::name(self)
            }
        }

        /// What happened, as a sentence without a full stop.
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $($type::$variant => $sentence,)+ })
            }
        }
    };
}

reasons! {
    /// Why a connection has no offload.
    pub enum WhyNoOffload {
        /// Policy.
        PolicyOff = "policy-off",
            "the offload is switched off",
            "use --offload prefer, or require to fail where it is not possible";
        /// Nobody asked.
        NotAsked = "not-asked",
            "nobody has asked for the offload of this queue yet",
            "add the queue to the offload after it has become ready";
        /// A capability is missing.
        NotCapable = "not-capable",
            "the function cannot offload NVMe/TCP",
            "see which capability is missing; it takes a ConnectX-7 or later with firmware that enables the offload";
        /// The function has failed.
        FunctionFailed = "function-failed",
            "the function has failed",
            "see the error; a reset of the function brings it back";
        /// The device failed again and again with it.
        GivenUp = "given-up",
            "the offload was given up because the device failed again and again with it",
            "see the error; reset the function to try again, and report the card and its firmware";
        /// Not at a PDU boundary.
        NotReady = "not-ready",
            "the queue was not ready, or had requests outstanding",
            "add the queue to the offload when it is ready and before its first request";
        /// CPDA is too great.
        Alignment = "alignment-not-possible",
            "the controller asks for a PDU data alignment (CPDA) that the offload context cannot hold",
            "configure the controller for CPDA 0";
        /// More tags than the table has.
        TagsAboveTable = "tags-above-table",
            "the queue has more command identifiers than a tag buffer table has entries",
            "use a smaller queue size";
        /// No queue id.
        QueueLimit = "queue-limit",
            "all offload queue numbers are in use",
            "use fewer queues, or close some";
        /// No steering rule is free.
        SteeringFull = "steering-full",
            "no entry of the steering table is free",
            "open the shard for more connections";
        /// Steering refused the rule.
        SteeringRefused = "steering-refused",
            "the connection could not be steered to its offload context",
            "see the error: the firmware's status and syndrome say why";
        /// Firmware refused the tag buffer table.
        TableRefused = "tag-table-refused",
            "firmware did not create the tag buffer table",
            "see the status: with a resource error use fewer or smaller queues";
        /// Firmware refused the control ring.
        ControlRingRefused = "control-ring-refused",
            "firmware did not create the control ring",
            "see the status: with a resource error use fewer queues";
        /// Firmware refused the TIR.
        TirRefused = "tir-refused",
            "firmware did not create the TIR with the offload context",
            "see the status: with a resource error use fewer queues";
        /// Firmware refused the tags' memory keys.
        KeysRefused = "memory-keys-refused",
            "firmware did not create a memory key for every tag",
            "see the status: with a resource error use a smaller queue size or fewer queues";
        /// The device refused the offload context.
        ContextRefused = "context-refused",
            "the device did not take the offload context",
            "see the error: the control ring's syndrome says why";
        /// The device did not answer.
        TimedOut = "timed-out",
            "the device did not take the offload context in time",
            "look at the health of the function";
    }
}

reasons! {
    /// Why software copied payload of a read, or computed a data digest.
    pub enum Why {
        /// The queue is not offloaded; see [`WhyNoOffload`].
        QueueNotOffloaded = "queue-not-offloaded",
            "the read's queue is not offloaded",
            "see the reason of the queue";
        /// Below the threshold.
        BelowThreshold = "below-threshold",
            "the read is smaller than the offload threshold: binding would cost more than copying",
            "read more at a time, or lower --offload-threshold";
        /// The adaptive threshold wanted to know what copying costs.
        Probe = "threshold-probe",
            "the adaptive threshold let this read be copied, to measure what copying costs",
            "nothing; a fixed --offload-threshold does without probes";
        /// Too many pieces.
        ScatterListTooLong = "scatter-list-too-long",
            "the buffer has more device-contiguous pieces than a tag's memory key holds",
            "read into fewer, larger pieces";
        /// Too many bytes.
        BufferTooLong = "buffer-too-long",
            "the buffer is longer than a memory key entry can say",
            "read less than 2 GiB at a time";
        /// No room for the binding.
        ControlRingFull = "control-ring-full",
            "the control ring had no room until the device completed earlier work",
            "use a smaller queue size, or fewer pieces per buffer";
        /// Unbinds go first.
        Draining = "draining",
            "the control ring was full, and tags that wait to be unbound go first",
            "use a smaller queue size, or fewer pieces per buffer";
        /// The control ring failed.
        ControlRingFailed = "control-ring-failed",
            "the control ring of the queue is in error",
            "the queue is removed and its connection ends; see the error";
        /// Behind later bytes.
        LatePacket = "late-packet",
            "the packet came behind later ones (sent again, or overtaken): the device passes it through",
            "look for loss and reordering on the path";
        /// The first completion was not believed.
        RefusedCompletion = "refused-completion",
            "what the device said of the packet could not be true: it was dropped and sent again, and copied then",
            "see the counters of refused completions; a device that lies needs another firmware";
        /// Came before, and was not kept.
        NotKept = "not-kept",
            "the packet had come before, out of order, and there was no room to keep it: it was sent again, and copied then",
            "allow the connection more receive buffers (rx_payloads_per_connection); look for loss on the path";
        /// Not through the rule.
        NotSteered = "not-steered",
            "the packet came without the queue's flow tag: the offload context never saw it",
            "a few are normal while a queue is added or removed; else look at steering";
        /// The device searches a PDU header.
        FramingLost = "framing-lost",
            "a PDU header was lost, and the device was searching the stream for another",
            "look for loss and reordering on the path; larger PDUs have fewer headers to lose";
        /// The device waits for the confirmation of a header.
        ResyncPending = "resync-pending",
            "the device had found what may be a PDU header, and waited to be told so and for the PDU after it",
            "look for loss and reordering on the path";
        /// A hole in the PDU.
        Hole = "hole",
            "bytes of the same PDU were lost before, and the device left what followed in the receive buffer",
            "look for loss and reordering on the path; smaller PDUs lose less";
        /// Another run of the packet was placed.
        SecondRun = "second-run",
            "the device places one run of each packet, and it was another one",
            "a target that starts each PDU in a packet of its own leaves nothing to copy; larger PDUs leave less";
        /// The binding took effect too late.
        BindingLate = "binding-late",
            "nothing of the read had been placed before, and later bytes were: most likely the data came before the binding \
             took effect",
            "bind earlier, or read more at a time";
        /// Placed elsewhere.
        Misplaced = "misplaced",
            "the device placed the bytes elsewhere than the PDU says; they were moved, and the read fails",
            "do not use the offload of this device";
        /// The device does not check digests.
        DigestNotOffloaded = "digest-not-offloaded",
            "the device does not check data digests (nvmeotcp_cap.crc_rx)",
            "update the firmware, or do without data digests";
        /// The first mark after a resync.
        DigestAfterResync = "digest-after-resync",
            "the device's first word for digests after a resync cannot be relied on",
            "look for loss and reordering on the path";
        /// The digest was wrong.
        DigestMismatch = "digest-mismatch",
            "the digest does not match the data: the read fails",
            "look for a host, a path or a target that damages data";
        /// Nobody knows.
        NotTold = "not-told",
            "the device did not do it, and does not say why",
            "if it is much, look at a capture (--pcap) for what the device saw";
    }
}

impl Why {
    /// True if the read was never bound: the reason is the driver's own, and known before the command was sent.
    pub const fn is_unbound(self) -> bool {
        (self as usize) < Why::LatePacket as usize
    }

    /// True if the read could have been bound and was meant to be: neither policy nor size forbade it.
    pub const fn is_failure(self) -> bool {
        self.is_unbound() && !matches!(self, Why::QueueNotOffloaded | Why::BelowThreshold | Why::Probe)
    }

    /// True if the same read may well be bound a little later.
    pub const fn passes(self) -> bool {
        matches!(self, Why::ControlRingFull | Why::Draining)
    }
}

/// Reasons of which one read remembers the bytes.
pub const REMEMBERED: usize = 4;

/// Why one read was copied in part or whole: bytes by reason, of the first [`REMEMBERED`] reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Reasons {
    bytes: [u32; REMEMBERED],
    which: [Option<Why>; REMEMBERED],
    /// All reasons, one bit each.
    seen: u32,
    /// Copied before anything of the read was placed, the device following the stream: what that means shows in the end.
    early: u32,
}

const _: () = assert!(Why::ALL.len() <= u32::BITS as usize, "one bit for each");

impl Reasons {
    /// Notes copied bytes. True if the reason is new to the read.
    pub(crate) fn add(&mut self, why: Why, bytes: u32) -> bool {
        let slots = self.which.iter_mut().zip(&mut self.bytes);
        if let Some((slot, sum)) = slots.into_iter().find(|(slot, _)| slot.is_none_or(|known| known == why)) {
            *slot = Some(why);
            *sum += bytes;
        }
        let bit = 1 << why as u32;
        let new = self.seen & bit == 0;
        self.seen |= bit;
        new
    }

    /// Notes bytes whose reason is open until the read is done.
    pub(crate) fn add_early(&mut self, bytes: u32) {
        self.early += bytes;
    }

    /// Takes the bytes whose reason is open, with the reason, now that it is known how much was `placed`.
    pub(crate) fn settle(&mut self, placed: u32) -> Option<(Why, u32)> {
        let bytes = std::mem::take(&mut self.early);
        let why = if placed != 0 { Why::BindingLate } else { Why::NotTold };
        (bytes != 0).then_some((why, bytes))
    }

    /// The first [`REMEMBERED`] reasons, with the bytes that were copied because of each. Empty if nothing was copied.
    pub fn iter(&self) -> impl Iterator<Item = (Why, u32)> + '_ {
        self.which.iter().zip(self.bytes).filter_map(|(why, bytes)| Some(((*why)?, bytes)))
    }

    /// All reasons.
    pub fn all(&self) -> impl Iterator<Item = Why> + '_ {
        Why::ALL.into_iter().filter(|why| self.seen & 1 << *why as u32 != 0)
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.seen == 0
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | every reason has a kebab-case name of its own, a sentence and advice | `every_reason_can_be_told` |
    //! | a read's reasons add up, and one is new once | `reasons_add_up` |
    //! | bytes before the first placed one are settled when the read is done | `early_bytes_are_settled` |
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_can_be_told() {
        let reads = Why::ALL.map(|why| (why.name(), why.to_string(), why.advice()));
        let queues = WhyNoOffload::ALL.map(|why| (why.name(), why.to_string(), why.advice()));
        for all in [&reads[..], &queues[..]] {
            let names: HashSet<_> = all.iter().map(|(name, ..)| *name).collect();
            assert_eq!(names.len(), all.len());
            for (name, sentence, advice) in all {
                assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-') && name.len() < 24, "{name}");
                for text in [sentence.as_str(), advice] {
                    assert!(text.len() > 10 && !text.ends_with('.') && !text.contains('\n') && !text.contains("  "));
                }
            }
        }
        for (index, why) in Why::ALL.iter().enumerate() {
            assert_eq!(*why as usize, index);
        }
        assert!(Why::ControlRingFailed.is_unbound() && !Why::LatePacket.is_unbound() && !Why::NotTold.is_unbound());
        assert!(Why::Draining.is_failure() && Why::Draining.passes() && !Why::ScatterListTooLong.passes());
        assert!(!Why::BelowThreshold.is_failure() && !Why::QueueNotOffloaded.is_failure());
    }

    #[test]
    fn reasons_add_up() {
        let mut reasons = Reasons::default();
        assert!(reasons.is_empty());
        assert!(reasons.add(Why::LatePacket, 10) && reasons.add(Why::Hole, 20) && !reasons.add(Why::LatePacket, 5));
        assert_eq!(reasons.iter().collect::<Vec<_>>(), [(Why::LatePacket, 15), (Why::Hole, 20)]);
        for why in [Why::SecondRun, Why::NotTold, Why::Misplaced, Why::FramingLost] {
            assert!(reasons.add(why, 1));
        }
        assert_eq!(
            reasons.iter().map(|(_, bytes)| bytes).sum::<u32>(),
            37,
            "bytes of the fifth and sixth are forgotten"
        );
        assert!(!reasons.add(Why::FramingLost, 1), "but not that they were");
        assert_eq!(reasons.all().count(), 6);
    }

    #[test]
    fn early_bytes_are_settled() {
        for (placed, why) in [(0, Why::NotTold), (1, Why::BindingLate)] {
            let mut reasons = Reasons::default();
            assert_eq!(reasons.settle(placed), None);
            reasons.add_early(7);
            reasons.add_early(3);
            assert!(reasons.is_empty());
            assert_eq!((reasons.settle(placed), reasons.settle(placed)), (Some((why, 10)), None));
        }
    }
}
