//! A ConnectX in software.
