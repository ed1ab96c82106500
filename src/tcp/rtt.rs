//! Round-trip time and the retransmission timeout (RFC 6298).

use std::time::Duration;

/// RFC 6298 (2.1): the timeout before the first measurement.
const INITIAL: Duration = Duration::from_secs(1);
/// RFC 6298 (5.7): the timeout for data after a SYN had to be sent again.
const AFTER_LOST_SYN: Duration = Duration::from_secs(3);
/// RFC 6298 (2.5): a maximum is allowed if it is at least 60 s.
const MAXIMUM: Duration = Duration::from_secs(60);
/// RFC 6298 (2): G, the granularity of the clock; timestamps tick in milliseconds.
const GRANULARITY: Duration = Duration::from_millis(1);

/// SRTT, RTTVAR and RTO of a connection.
#[derive(Clone, Debug)]
pub(super) struct RttEstimator {
    smoothed: Option<Duration>,
    variance: Duration,
    /// Without back-off.
    timeout: Duration,
    /// Doublings since the last measurement.
    backoff: u32,
    minimum: Duration,
}

impl RttEstimator {
    pub(super) fn new(minimum: Duration) -> RttEstimator {
        RttEstimator { smoothed: None, variance: Duration::ZERO, timeout: INITIAL, backoff: 0, minimum }
    }

    /// SRTT, once measured.
    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// RTO, with back-off.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout.saturating_mul(1 << self.backoff.min(16)).min(MAXIMUM)
    }

    /// Doublings of the RTO since the last measurement.
    pub(super) fn backoff(&self) -> u32 {
        self.backoff
    }

    /// Takes a measurement; `expected` is how many one round trip brings (RFC 7323 appendix G), at least 1.
    pub(super) fn sample(&mut self, rtt: Duration, expected: u32) {
        match self.smoothed {
            // RFC 6298 (2.2).
            None => {
                self.smoothed = Some(rtt);
                self.variance = rtt / 2;
            }
            // RFC 6298 (2.3), with the gains of RFC 7323 appendix G: alpha = 1/8 and beta = 1/4 are meant for one
            // measurement per round trip.
            Some(smoothed) => {
                let expected = expected.clamp(1, 1 << 16);
                let (alpha, beta) = (8 * expected, 4 * expected);
                let deviation = smoothed.abs_diff(rtt);
                self.variance = self.variance - self.variance / beta + deviation / beta;
                self.smoothed = Some(smoothed - smoothed / alpha + rtt / alpha);
            }
        }
        // RFC 6298 (2.2), (2.3): RTO = SRTT + max(G, K * RTTVAR), K = 4.
        let smoothed = self.smoothed.unwrap_or(rtt);
        self.timeout = (smoothed + GRANULARITY.max(self.variance * 4)).clamp(self.minimum, MAXIMUM);
        self.backoff = 0;
    }

    /// RFC 6298 (5.5): back off.
    pub(super) fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(16);
    }

    /// RFC 6298 (5.7): the SYN was lost, so the first data gets a longer timeout.
    pub(super) fn lost_syn(&mut self) {
        if self.smoothed.is_none() {
            self.timeout = self.timeout.max(AFTER_LOST_SYN);
            self.backoff = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the timeout starts at 1 s and is SRTT + 4 RTTVAR from the first measurement on (RFC 6298 2.1, 2.2) | `the_first_measurement_sets_srtt_and_half_of_it_as_variance` |
    //! | later measurements move SRTT by 1/8 and RTTVAR by 1/4 (2.3) | `later_measurements_are_smoothed` |
    //! | many measurements per round trip weigh less each (RFC 7323 G) | `many_measurements_per_round_trip_weigh_less` |
    //! | each expiry doubles the timeout up to 60 s; a measurement ends that (2.5, 5.5) | `back_off_doubles_until_sixty_seconds` |
    //! | the timeout never falls below the configured minimum (2.4) | `the_minimum_holds` |
    //! | after a lost SYN the data timeout is 3 s (5.7) | `a_lost_syn_makes_the_first_data_timeout_three_seconds` |
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_measurement_sets_srtt_and_half_of_it_as_variance() {
        let mut rtt = RttEstimator::new(MS);
        assert_eq!(rtt.timeout(), Duration::from_secs(1));
        rtt.sample(100 * MS, 1);
        assert_eq!(rtt.smoothed(), Some(100 * MS));
        assert_eq!(rtt.timeout(), 300 * MS);
    }

    #[test]
    fn later_measurements_are_smoothed() {
        let mut rtt = RttEstimator::new(MS);
        rtt.sample(80 * MS, 1);
        rtt.sample(160 * MS, 1);
        assert_eq!(rtt.smoothed(), Some(90 * MS));
        // RTTVAR = 3/4 * 40 + 1/4 * 80 = 50
        assert_eq!(rtt.timeout(), 290 * MS);
    }

    #[test]
    fn many_measurements_per_round_trip_weigh_less() {
        let mut rtt = RttEstimator::new(MS);
        rtt.sample(80 * MS, 1);
        rtt.sample(160 * MS, 10);
        assert_eq!(rtt.smoothed(), Some(81 * MS));
    }

    #[test]
    fn back_off_doubles_until_sixty_seconds() {
        let mut rtt = RttEstimator::new(MS);
        rtt.sample(100 * MS, 1);
        let mut seen = Vec::new();
        for _ in 0..100 {
            rtt.back_off();
            seen.push(rtt.timeout());
        }
        assert_eq!(seen[..3], [600 * MS, 1200 * MS, 2400 * MS]);
        assert_eq!(seen.last(), Some(&Duration::from_secs(60)));
        rtt.sample(100 * MS, 1);
        assert!(rtt.timeout() < 300 * MS);
    }

    #[test]
    fn the_minimum_holds() {
        let mut rtt = RttEstimator::new(200 * MS);
        rtt.sample(Duration::ZERO, 1);
        assert_eq!(rtt.timeout(), 200 * MS);
    }

    #[test]
    fn a_lost_syn_makes_the_first_data_timeout_three_seconds() {
        let mut rtt = RttEstimator::new(MS);
        rtt.back_off();
        rtt.lost_syn();
        assert_eq!(rtt.timeout(), Duration::from_secs(3));
    }
}
