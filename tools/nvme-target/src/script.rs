//! The script: how the target lays out its PDUs, and what it does wrong on purpose.
//!
//! A host has to accept every layout that the specification allows and to survive every one that it does not. The default
//! script is a plain, well-behaved target; each field makes it less kind. Everything random is drawn from [`Script::seed`].

use std::time::Duration;

/// How the target behaves on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Seed of every random choice below.
    pub seed: u64,
    /// Payload bytes of one C2HData PDU; a command whose data are longer gets several.
    pub c2h_data: Size,
    /// Bytes that one R2T asks for; a write whose data are longer gets several.
    pub r2t: Size,
    /// R2Ts of one command that may be open at once, 1 to 256 (0 counts as 1). The host's MAXR2T limits it further.
    pub r2t_outstanding: u32,
    /// Which command is answered next.
    pub order: Order,
    /// Holds answers back until several commands wait, so that `order` has something to choose from.
    pub gather: Option<Gather>,
    /// How a successful read ends.
    pub success: Success,
    /// Padding between header and payload of C2HData PDUs beyond what the host's HPDA asks for, in units of that alignment
    /// (4 × (HPDA + 1) bytes). PDO is one byte: what does not fit is left out.
    pub extra_padding: u8,
    /// Where TCP segments begin and end.
    pub segmentation: Segmentation,
    /// What goes wrong, and when. Each entry happens once.
    pub faults: Vec<Fault>,
}

/// Size of the pieces that data are cut into, bytes.
///
/// Pieces are multiples of 4 bytes (at least 4), except for the last one of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Size {
    /// One piece.
    #[default]
    Whole,
    /// Pieces of this size.
    AtMost(u32),
    /// Each piece of a random size.
    Between {
        /// Smallest.
        min: u32,
        /// Largest.
        max: u32,
    },
}

/// Which of the waiting commands of a queue is answered next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The oldest, until it is done.
    #[default]
    InOrder,
    /// A random one, until it is done: completions out of order.
    Shuffled,
    /// A random one for every PDU: C2HData PDUs of several commands interleave.
    Interleaved,
}

/// When answers that are held back go out: as soon as one of the two is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// Commands of the queue that wait for an answer.
    pub commands: usize,
    /// Time since the first of them arrived.
    pub wait: Duration,
}

/// How a successful read ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Success {
    /// SUCCESS flag in the last C2HData PDU where the specification allows it (the host disabled SQ flow control in Connect),
    /// else a response capsule.
    #[default]
    WhenAllowed,
    /// Always the SUCCESS flag, whatever the host asked for.
    Flag,
    /// Always a response capsule.
    Capsule,
    /// Either, at random, where the flag is allowed.
    Random,
}

/// Where TCP segments begin and end. A TCP fills segments without knowing of PDUs; the other forms cut what it sends into
/// more segments, as a segmentation offload would, and so hold for retransmissions too (see `wire`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Segmentation {
    /// As full as they get.
    #[default]
    Full,
    /// Every PDU starts a segment of its own: no segment holds bytes of two PDUs.
    AlignPdus,
    /// Cut at random, with pieces of `min` to `max` payload bytes.
    Random {
        /// Smallest piece (but for the end of what was to be sent).
        min: u16,
        /// Largest piece.
        max: u16,
    },
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// On which connection.
    pub on: On,
    /// At which PDU.
    pub at: At,
    /// What.
    pub kind: Kind,
}

/// The connection that a [`Fault`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// The n-th that the target accepted, from 0. The only way to reach ICResp and the answer to Connect.
    Connection(u64),
    /// The one that carries this queue (0 is the admin queue), from the answer to Connect on.
    Queue(u16),
}

/// The PDU that a [`Fault`] is for: the n-th, from 0, of its kind that the connection sends. A fault that does not apply to
/// that PDU (a digest that was not negotiated) does not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Of any kind; ICResp is number 0.
    Pdu(u64),
    /// C2HData.
    Data(u64),
    /// Response capsule (CapsuleResp).
    Response(u64),
    /// R2T.
    R2t(u64),
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Another PDU type.
    Type(u8),
    /// Other flags.
    Flags(u8),
    /// Another HLEN.
    HeaderLength(u8),
    /// Another PDO.
    DataOffset(u8),
    /// Another PLEN; the bytes that follow are those of the true length.
    PduLength(u32),
    /// Another CCCID (C2HData, R2T) or CID (response capsule).
    CommandId(u16),
    /// Another DATAO (C2HData) or R2TO (R2T).
    Offset(u32),
    /// Another DATAL (C2HData) or R2TL (R2T), PLEN as before.
    Length(u32),
    /// So many bytes more than the command asked for: DATAL and PLEN agree with what is sent. C2HData only.
    ExtraData(u32),
    /// A header digest that does not fit.
    HeaderDigest,
    /// A data digest that does not fit.
    DataDigest,
    /// One bit of the payload flipped after its digest was computed. C2HData only.
    Payload,
    /// The PDU is left out.
    Drop,
    /// A C2HTermReq with this FES and FEI in place of the PDU, then the end of the connection.
    Terminate {
        /// Fatal Error Status.
        fes: u16,
        /// Fatal Error Information.
        fei: u32,
    },
    /// FIN after so many bytes of the PDU.
    Close {
        /// Bytes that still go out.
        after: u32,
    },
    /// RST once the host has acknowledged so many bytes of the PDU.
    Reset {
        /// Bytes that arrive before.
        after: u32,
    },
    /// Nothing more after so many bytes of the PDU, while the connection stays up.
    Stall {
        /// Bytes that still go out.
        after: u32,
    },
}
