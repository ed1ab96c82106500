//! Placement and digests under loss and reordering, next to what is possible: `docs/loss.md` and `docs/loss.svg`.
//!
//! ```text
//!   grid ── points ──► measure (driver, virtual NIC, target, lossy wire) ──► rows ──► table (Markdown), plot (SVG)
//!                └───► model (packets and rules, nothing else) ──────────────┘
//! ```
//!
//! Two things that know nothing of each other have to agree: what driver and device do, and what a few lines about packets
//! say is possible. `published` has the numbers that others found, which the model gives back.

mod edge;
pub mod grid;
pub mod measure;
pub mod model;
pub mod plot;
pub mod published;
pub mod resync;
pub mod table;
