//! `cxddp`: the demonstration, and tools that need the driver.
fn main() {}
