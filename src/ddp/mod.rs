//! The NVMe/TCP receive offload.
