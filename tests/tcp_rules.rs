//! One test per rule of the RFCs, each named for it, in the style of packetdrill.
//!
//! | area | module |
//! |---|---|
//! | opening: SYN, options, refusal, simultaneous open, passive open | `opening` |
//! | receiving: order, window, acknowledgments, SACK, what comes back | `receiving` |
//! | sending: window, segments, probes, retransmission, congestion | `sending` |
//! | recovering: SACK received, RACK, TLP, what is sent again and how fast, what is undone | `recovering` |
//! | closing: FIN in every state, TIME-WAIT, abort, deadlines, keepalive | `closing` |
//! | attacks and accidents: RST, SYN, ACK checks, PAWS, bad FIN | `hostile` |

mod tcp_support;

#[path = "tcp_rules/closing.rs"]
mod closing;
#[path = "tcp_rules/hostile.rs"]
mod hostile;
#[path = "tcp_rules/opening.rs"]
mod opening;
#[path = "tcp_rules/receiving.rs"]
mod receiving;
#[path = "tcp_rules/recovering.rs"]
mod recovering;
#[path = "tcp_support/script.rs"]
mod script;
#[path = "tcp_rules/sending.rs"]
mod sending;
