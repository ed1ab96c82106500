//! An NVMe/TCP target over smoltcp.
