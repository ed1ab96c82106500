//! Placement and digests under loss and reordering, next to what is possible.

mod edge;
pub mod measure;
pub mod model;
