//! What is not known about the hardware's offload, as switches.
//!
//! Two kinds of questions end up here: what `nvme-tcp-offload.md` §12 lists as unknown, and what two sources tell
//! differently (§6.2 and §6.3: the ASPLOS'21 paper, the netdev 0x15 and 0x16 talks, comments in the drivers). The default
//! of each is what the reference favours; software must be right under all of them, in any combination.
//!
//! | question | source | switch |
//! |---|---|---|
//! | what follows a hole inside a PDU | talk and paper differ (§6.2) | [`HoleRule`] |
//! | the packet with the first header behind a hole | paper: may be unplaced (§6.2) | [`HeaderPacket`] |
//! | a retransmission that ends behind the expected byte | not told | [`Overlap`] |
//! | where the search looks | talk and paper differ (§6.3) | [`SearchRule`] |
//! | what it takes for a header | §12 item 2 | [`Pattern`], [`Behaviour::longest_guess`] |
//! | whether it looks at packets that come late | §6.2 says that they bypass; the published ceilings follow only if it does | [`Behaviour::search_late`] |
//! | a header cut by the end of a packet while searching | §12 item 2 | [`Behaviour::keep_partial_header`] |
//! | how often a request is repeated, when it is given up | §6.3 item 7 | [`Repeat`], [`Behaviour::request_limit`] |
//! | which byte of the header a request names | code and documentation differ (§6.3 item 5) | [`ResyncByte`] |
//! | which confirmation counts | inferred (§6.3 item 4) | [`ConfirmRule`] |
//! | where placing begins again | "PDU or packet boundary" (§6.3 item 4) | [`ResumeRule`] |
//! | the first digest flag after a resync | driver comment (§6.3 item 6) | [`FirstFlag`] |
//! | which packets of a PDU with a hole lose the digest flag | §5.1, not told | [`Unverified`] |
//! | the digest flag of packets without data | §12 item 1 | [`Behaviour::flag_without_data`] |
//! | a C2HData header that contradicts itself | §12 item 3 | [`Inconsistent`] |
//! | DATAO that does not continue the command's data | §12 item 3 | [`DataOffset`] |
//! | free key, tag outside the table, more data than the tag holds | §6.4, §12 item 3 | [`Reaction`] |
//! | when a UMR takes effect | §6.4: the mapping should win against the network | [`Behaviour::umr_packets`], [`Behaviour::umr_time`] |
//! | `hlen` with VLAN stripping | §5.1, §12 item 4 | [`VlanHlen`] |
//! | the offload's half of a CQE without flags | §5, §12 item 10 | [`FirstHalf`] |
//!
//! What is placed of a packet that could have more than one run placed is [`WhichRun`](super::WhichRun).
//!
//! Not modelled, so without a switch: a digest of the wrong PDU after a duplicate with other bytes (the checksum is
//! all that tells them apart); PDA other than 0 (PDO of each PDU says where its data begins); GET_PSV; tunnels, FCS
//! scattering.

use std::num::NonZeroU32;
use std::time::Duration;

/// What happens to the rest of a PDU after a hole in its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HoleRule {
    /// It is placed (netdev 0x16, ConnectX-7).
    #[default]
    Continue,
    /// It is left in the ring; placing begins again with the next header (ASPLOS'21).
    Stop,
}

/// What happens to the packet in which the first header behind a hole is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderPacket {
    /// It is placed like any other.
    #[default]
    Placed,
    /// All of it is left in the ring, without digest flag; the header counts (ASPLOS'21).
    Ring,
}

/// What happens to a packet that begins before the expected byte and ends behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// It bypasses the context like every retransmission; to the context its new bytes are lost.
    #[default]
    Bypass,
    /// Its new bytes are processed as if they were the packet, without digest flag.
    NewTail,
}

/// Where in a packet the search looks for a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SearchRule {
    /// At every byte (ASPLOS'21: a magic pattern in the stream).
    #[default]
    Anywhere,
    /// At the first byte of the TCP payload only (netdev 0x16).
    StartOfPacket,
}

/// What the search takes for a PDU header, and what a header that is followed without confirmation must be. Each
/// includes the ones before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pattern {
    /// A type that a controller sends, the HLEN of that type, a PLEN that holds the header: 8 bytes. Five in 65536
    /// places of random data pass the first two.
    TypeAndLength,
    /// Also the PLEN that the type must have, for C2HData the one that PDO, DATAL and digests add up to: up to 24 bytes.
    #[default]
    Lengths,
    /// Also the header digest, where one is negotiated: up to 28 bytes.
    HeaderDigest,
}

/// When a request for confirmation is made again while headers are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repeat {
    /// Never: one request per guess.
    #[default]
    Once,
    /// With every header; the new request is the one that counts.
    EveryHeader,
    /// With every n-th header behind the guess.
    EveryN(NonZeroU32),
}

/// Which byte of the guessed header a request names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResyncByte {
    /// The first (what every version of the driver compares with).
    #[default]
    First,
    /// The last of its 24 (what the documentation file says). Software that compares with the first never confirms, so
    /// the offload stays silent after the first lost header.
    Last,
}

/// Which confirmations count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfirmRule {
    /// That of the last request.
    #[default]
    Remembered,
    /// That of any header which was followed since the guess, of the last [`TRACKED_HEADERS`].
    Tracked,
}

/// Headers that [`ConfirmRule::Tracked`] remembers.
pub const TRACKED_HEADERS: usize = 64;

/// Where placing begins again after a confirmation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResumeRule {
    /// With the first PDU whose header is complete after the confirmation.
    #[default]
    NextPdu,
    /// With the next packet, in the middle of a PDU if it must be; that PDU's digest stays unverified.
    NextPacket,
}

/// The digest flag of the first packet that is processed after a confirmation. Wrong or not, it is the first flag after
/// the resync, so software that doubts one set flag doubts the right one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirstFlag {
    /// As the digests are. The packet belongs to a PDU that was not verified, so it is mostly unset.
    #[default]
    Right,
    /// Set, whatever the digests are: the case that the driver's comment warns of.
    WronglySet,
}

/// Which packets of a PDU with a hole go without the digest flag. All of these keep the PDU from being taken for verified:
/// the bytes that were missing never come with the flag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unverified {
    /// Only those that bring what was missing: they bypass the context (§5.1: the flag is cleared by a wrong digest and
    /// in packets that the device skipped).
    #[default]
    LatePacket,
    /// Also the one in which the digest ends, so the PDU that begins in it is not verified either.
    DigestPacket,
    /// Also every other behind the hole.
    EveryPacket,
}

/// A C2HData header whose PLEN, PDO, DATAL and digests contradict each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inconsistent {
    /// The framing is lost.
    #[default]
    LoseFraming,
    /// PLEN is followed, nothing of the PDU is placed, its digest is not verified.
    Deliver,
}

/// What DATAO may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataOffset {
    /// Anything: the data goes where the header says.
    #[default]
    AsSaid,
    /// Zero, or where the last data of the command ended; other data stays in the ring.
    Contiguous,
}

/// What a tag that cannot be used leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reaction {
    /// The data of this packet stays in the ring (§6.4: "some IO may not be offloaded"). The next packet asks the tag
    /// again, so data of a PDU may be placed from the middle on.
    #[default]
    Ring,
    /// The rest of the PDU's data stays in the ring, whatever becomes of the tag.
    RestOfPdu,
    /// The packet is completed with an error, and its receive queue goes to the error state.
    ErrorCqe,
    /// Nothing of the packet is placed and the context stops until progress parameters are written anew.
    ContextError,
}

/// What `hlen` counts when a VLAN tag is stripped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VlanHlen {
    /// Bytes as they lie in the receive buffer.
    #[default]
    AsStored,
    /// Bytes as they were on the wire, tag included.
    AsOnWire,
}

/// Fields of the offload's half of a CQE that no flag makes valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirstHalf {
    /// Zero.
    #[default]
    Zero,
    /// Noise, the same in every run.
    Noise,
}

/// All switches of the offload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Behaviour {
    /// The rest of a PDU behind a hole.
    pub hole: HoleRule,
    /// The packet with the first header behind a hole.
    pub header_packet: HeaderPacket,
    /// Packets that are old in part.
    pub overlap: Overlap,
    /// Where the search looks.
    pub search: SearchRule,
    /// What it looks for.
    pub pattern: Pattern,
    /// Largest PLEN that a header may have to be taken for one by the search, bytes. Without a limit one wrong guess
    /// would be followed for up to 4 GiB.
    pub longest_guess: u32,
    /// The search also looks at packets before the expected byte, which otherwise bypass it. What it finds there counts if the
    /// PDU is not over yet. A lost header is then found as soon as it is sent again, one round trip later, where else a PDU
    /// has to pass: with PDUs of many packets that is sooner.
    pub search_late: bool,
    /// A header cut by the end of a packet is recognised when the next packet follows in sequence.
    pub keep_partial_header: bool,
    /// Repetition of requests.
    pub repeat: Repeat,
    /// The guess is dropped, and the search begins again, with the packet that is this many packets behind the request;
    /// `None`: never.
    pub request_limit: Option<NonZeroU32>,
    /// The byte that a request names.
    pub resync_byte: ResyncByte,
    /// Confirmations that count.
    pub confirm: ConfirmRule,
    /// Where placing begins again.
    pub resume: ResumeRule,
    /// The first digest flag after a resync.
    pub first_flag: FirstFlag,
    /// Packets without digest flag in a PDU that was not verified.
    pub unverified: Unverified,
    /// Packets without a byte of data or data digest have the digest flag.
    pub flag_without_data: bool,
    /// C2HData headers that contradict themselves.
    pub inconsistent: Inconsistent,
    /// Values of DATAO.
    pub data_offset: DataOffset,
    /// A tag whose key is free, or whose binding is not effective yet.
    pub free_key: Reaction,
    /// A tag outside the table, or an entry that was never filled.
    pub unknown_tag: Reaction,
    /// More data than the tag's entry or its key has room for.
    pub overflow: Reaction,
    /// A binding takes effect after this many packets of offloaded connections.
    pub umr_packets: u32,
    /// A binding takes effect after this much simulated time.
    pub umr_time: Duration,
    /// `hlen` with VLAN stripping.
    pub vlan_hlen: VlanHlen,
    /// Invalid fields of a CQE.
    pub first_half: FirstHalf,
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            hole: HoleRule::default(),
            header_packet: HeaderPacket::default(),
            overlap: Overlap::default(),
            search: SearchRule::default(),
            pattern: Pattern::default(),
            longest_guess: 1 << 24,
            search_late: false,
            keep_partial_header: false,
            repeat: Repeat::default(),
            request_limit: None,
            resync_byte: ResyncByte::default(),
            confirm: ConfirmRule::default(),
            resume: ResumeRule::default(),
            first_flag: FirstFlag::default(),
            unverified: Unverified::default(),
            flag_without_data: true,
            inconsistent: Inconsistent::default(),
            data_offset: DataOffset::default(),
            free_key: Reaction::default(),
            unknown_tag: Reaction::default(),
            overflow: Reaction::default(),
            umr_packets: 0,
            umr_time: Duration::ZERO,
            vlan_hlen: VlanHlen::default(),
            first_half: FirstHalf::default(),
        }
    }
}
