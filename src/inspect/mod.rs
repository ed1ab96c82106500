//! A function as an engineer wants to see it: everything that can be read of it, as bytes with the names of their tables.
//!
//! ```text
//!   nobody drives it: `take` brings it up to be asked            a driver runs: `Server` on a unix socket, threads of its own
//!          │                                                                    │ asks               ▲
//!          │                                                                    ▼                    │ answer
//!          └──► questions (commands), registers, PCI ◄─────── `Desk`, between two polls of the owner loop
//!                         │
//!                         ▼
//!               `Dump`: sections ─► items: layout name + bytes            a file, the socket, `cxddp-regdump`: all the same
//! ```
//!
//! Nothing is decoded here: whoever shows a dump goes by the layout tables of `hw-regs` and `firmware-iface`, so a dump that
//! was saved shows more once these know more.
//!
//! Everything is bounded: entries per ring, rings, objects of a kind, bytes of an answer. What was left out is counted in the
//! dump. The owner loop never waits for a dump: it posts a few commands, reads a few registers, and goes on.

mod client;
mod desk;
mod dump;
mod frame;
mod idle;
mod questions;
mod registers;
mod rings;
mod server;

pub use client::{Client, ClientError};
pub use desk::Desk;
pub use dump::{Bad, Dump, FORMAT, Hex, Item, SectionDump, SectionName, Source, VERSION};
pub use frame::{MAX_ANSWER, MAX_REQUEST, PROTOCOL};
pub use idle::{COMMANDS, take};
pub use server::{Server, ServerError};
