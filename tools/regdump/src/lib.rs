//! Shows everything that can be read of a ConnectX function, by the names of the programmer's reference.
//!
//! ```text
//!   idle function ─┐                                        ┌─► text    for people, 100 columns
//!   running driver ┼─► Dump (connectx_ddp::inspect) ─► apart ┼─► json    for programs, docs/regdump.md
//!   file ──────────┘      names of layouts + bytes          └─► diff    fields that changed
//!   traces ─► trace: show, or aligned and compared
//! ```
//!
//! Everything but PCI configuration space goes by the layout tables of `hw-regs` and `firmware-iface`. A bit that no field
//! names is shown if it is set; a structure that cannot be taken apart is shown as bytes. What is shown may be anything: a
//! device that lies, a file that somebody edited.

pub mod apart;
pub mod diff;
pub mod entries;
pub mod hex;
pub mod json;
pub mod meaning;
pub mod pci;
pub mod text;
pub mod trace;
