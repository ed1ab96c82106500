//! What a connection is told when it is made.

use std::time::Duration;

use super::congestion::CongestionControl;

/// Keepalive (RFC 9293 §3.8.4): probes on a connection on which nothing is outstanding and nothing comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe. The RFC wants 2 hours by default (MUST-28); the storage protocol has its own
    /// keep-alive above, so this is off unless asked for.
    pub idle: Duration,
    /// Between probes.
    pub interval: Duration,
    /// Probes without an answer after which the connection is given up.
    pub probes: u32,
}

/// Parameters of a connection.
#[derive(Clone, Debug)]
pub struct Config {
    /// Payload bytes of the largest segment without options that our MTU takes: MTU - 40 for IPv4 (RFC 6691). Announced
    /// to the peer.
    pub mss: u16,
    /// Receive budget in bytes: what may be ready and not yet taken with `recv`. The largest window. Small segments may
    /// exceed it by an eighth, because the window field counts in units and must not shrink.
    pub receive_bytes: u32,
    /// Receive budget in payloads, each of which may own a receive buffer, however few bytes it has. The window stays
    /// below what that many full segments hold.
    pub receive_payloads: u32,
    /// Bytes of the send ring.
    pub send_bytes: u32,
    /// Initial sequence number: [`IsnSecret::initial_sequence`](super::IsnSecret::initial_sequence).
    pub initial_sequence: u32,
    /// Offset of the timestamp clock: [`IsnSecret::timestamp_offset`](super::IsnSecret::timestamp_offset).
    pub timestamp_offset: u32,
    /// Offer timestamps (RFC 7323).
    pub timestamps: bool,
    /// Offer selective acknowledgments (RFC 2018). If the peer does too, losses are found and mended as RFC 8985 and RFC
    /// 6675 say; otherwise one per round trip (RFC 6582).
    pub sack: bool,
    /// How the congestion window grows and shrinks.
    pub congestion: CongestionControl,
    /// How long the peer may hold back an acknowledgment while only one segment is outstanding, before a tail loss probe is
    /// sent (RFC 8985 §7.2, TLP.max_ack_delay). The RFC suggests 200 ms, which is the retransmission timeout; 40 ms is what
    /// common stacks begin with. If the peer waits longer, one segment is sent for nothing.
    pub peer_ack_delay: Duration,
    /// How long an acknowledgment may wait for company; RFC 9293 §3.8.6.3 (MUST-40) allows less than 500 ms.
    pub ack_delay: Duration,
    /// Lower bound of the retransmission timeout. RFC 6298 (2.4) says 1 s; 200 ms is what servers in data centres use, and
    /// stays above the delayed acknowledgments of common stacks.
    pub min_rto: Duration,
    /// How long the handshake may take.
    pub connect_timeout: Duration,
    /// How long the peer may fail to acknowledge data, answer window probes or finish closing (RFC 9293 §3.8.3, R2).
    pub user_timeout: Duration,
    /// Maximum segment lifetime: TIME-WAIT lasts twice as long (RFC 9293 §3.4.2).
    pub msl: Duration,
    /// Keepalive, if any.
    pub keepalive: Option<Keepalive>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            mss: 1460,
            receive_bytes: 1 << 20,
            receive_payloads: 1024,
            send_bytes: 1 << 20,
            initial_sequence: 0,
            timestamp_offset: 0,
            timestamps: true,
            sack: true,
            congestion: CongestionControl::Cubic,
            peer_ack_delay: Duration::from_millis(40),
            ack_delay: Duration::from_millis(10),
            min_rto: Duration::from_millis(200),
            connect_timeout: Duration::from_secs(10),
            user_timeout: Duration::from_secs(30),
            msl: Duration::from_secs(30),
            keepalive: None,
        }
    }
}

/// A parameter that no connection can work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value}, allowed is {min} to {max}")]
pub struct ConfigError {
    /// The field of [`Config`].
    pub name: &'static str,
    /// What it is; durations in milliseconds.
    pub value: u64,
    /// Least.
    pub min: u64,
    /// Most.
    pub max: u64,
}

/// The largest window that window scaling can name, 65535 << 14 (RFC 7323 §2.3), in whole MiB.
const MAX_WINDOW: u64 = (1 << 30) - (1 << 20);

impl Config {
    /// Checks every bound.
    pub fn check(&self) -> Result<(), ConfigError> {
        let within = |name, value, min, max| match (min..=max).contains(&value) {
            true => Ok(()),
            false => Err(ConfigError { name, value, min, max }),
        };
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let day = millis(Duration::from_secs(86400));
        // RFC 791: every host takes 576 bytes, so a segment of 88 bytes with 40 bytes of options still carries data.
        within("mss", u64::from(self.mss), 88, u64::from(u16::MAX))?;
        within("receive_bytes", u64::from(self.receive_bytes), 1, MAX_WINDOW)?;
        within("receive_payloads", u64::from(self.receive_payloads), 2, 1 << 20)?;
        within("send_bytes", u64::from(self.send_bytes), 1, MAX_WINDOW)?;
        within("ack_delay", millis(self.ack_delay), 0, 499)?;
        within("peer_ack_delay", millis(self.peer_ack_delay), 0, 60_000)?;
        within("min_rto", millis(self.min_rto), 1, 60_000)?;
        within("connect_timeout", millis(self.connect_timeout), 1, day)?;
        within("user_timeout", millis(self.user_timeout), 1, day)?;
        within("msl", millis(self.msl), 0, day)?;
        if let Some(keepalive) = self.keepalive {
            within("keepalive.idle", millis(keepalive.idle), 1, day)?;
            within("keepalive.interval", millis(keepalive.interval), 1, day)?;
            within("keepalive.probes", u64::from(keepalive.probes), 1, 1000)?;
        }
        Ok(())
    }

    /// The shift that makes the receive budget fit the 16 bits of the window field (RFC 7323 §2.2).
    pub(super) fn window_shift(&self) -> u8 {
        (0..14).find(|shift| self.receive_bytes >> shift <= u32::from(u16::MAX)).unwrap_or(14)
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the default is allowed; each bad value is refused by its name | `a_bad_value_is_refused_by_its_name` |
    //! | the shift is the least that fits | `the_shift_is_the_least_that_fits` |
    use super::*;

    #[test]
    fn a_bad_value_is_refused_by_its_name() {
        assert_eq!(Config::default().check(), Ok(()));
        type Change = fn(&mut Config);
        let changes: [(&str, Change); 8] = [
            ("mss", |c| c.mss = 87),
            ("receive_bytes", |c| c.receive_bytes = 1 << 30),
            ("receive_payloads", |c| c.receive_payloads = 1),
            ("send_bytes", |c| c.send_bytes = 0),
            ("ack_delay", |c| c.ack_delay = Duration::from_millis(500)),
            ("peer_ack_delay", |c| c.peer_ack_delay = Duration::from_secs(61)),
            ("min_rto", |c| c.min_rto = Duration::ZERO),
            ("user_timeout", |c| c.user_timeout = Duration::MAX),
        ];
        for (name, change) in changes {
            let mut config = Config::default();
            change(&mut config);
            assert_eq!(config.check().unwrap_err().name, name);
        }
    }

    #[test]
    fn the_shift_is_the_least_that_fits() {
        let shift = |receive_bytes| Config { receive_bytes, ..Config::default() }.window_shift();
        assert_eq!([shift(1), shift(65535), shift(65536), shift(1 << 20)], [0, 0, 1, 5]);
        assert_eq!(shift(MAX_WINDOW as u32), 14);
    }
}
