//! Counters, captures.
