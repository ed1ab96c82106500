//! The bodies of the fuzz targets, compiled once for all of them.

#[path = "../../tests/fuzz_support/mod.rs"]
pub mod fuzz_support;
