//! What a session is to be.

use crate::adapter;
use crate::nvme::controller::ControllerConfig;
use crate::shard;
use std::net::SocketAddrV4;
use std::time::Duration;

/// How a session is set up, and how long it tries to recover. Timeouts have the names and the defaults that Linux's NVMe-oF
/// hosts give them.
#[derive(Clone, Debug)]
pub struct Config {
    /// How the function is brought up.
    pub adapter: adapter::Config,
    /// The shard on it, and what to do about the offload.
    pub shard: shard::Config,
    /// Where the controller is.
    pub target: SocketAddrV4,
    /// What is wanted of it; `io_queues` of it are connected.
    pub controller: ControllerConfig,
    /// Outstanding commands of each I/O queue.
    pub depth: u16,
    /// Between two attempts to recover. The first comes at once.
    pub reconnect_delay: Backoff,
    /// How long recovery is tried (`ctrl_loss_tmo`): then every request ends in an error. Zero: the first loss is the end.
    pub ctrl_loss_timeout: Duration,
    /// How often a request is begun at most, the first time included: one that fails each time, or whose connection is lost
    /// each time, may be the reason.
    pub max_attempts: u32,
}

/// How long to wait before the next attempt: twice as long each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first attempt that failed.
    pub first: Duration,
    /// At most.
    pub most: Duration,
}

impl Backoff {
    /// The wait after `failed` attempts, at least 1.
    pub(super) fn after(self, failed: u32) -> Duration {
        let factor = 1u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.most)
    }
}

impl Config {
    /// A session of `controller.io_queues` queues with 32 commands each, which tries to recover for ten minutes.
    pub fn new(shard: shard::Config, target: SocketAddrV4, controller: ControllerConfig) -> Config {
        Config {
            adapter: adapter::Config::default(),
            shard,
            target,
            controller,
            depth: 32,
            reconnect_delay: Backoff { first: Duration::from_secs(1), most: Duration::from_secs(10) },
            ctrl_loss_timeout: Duration::from_secs(600),
            max_attempts: 6,
        }
    }

    /// Requests that the session takes at a time.
    pub(super) fn capacity(&self) -> usize {
        usize::from(self.controller.io_queues) * usize::from(self.depth)
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | waits double up to their limit, however many attempts fail | `waits_double_up_to_the_limit` |
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit() {
        let backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(10) };
        let waits: Vec<_> = (1..=6).map(|failed| backoff.after(failed).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.after(u32::MAX), backoff.most);
    }
}
