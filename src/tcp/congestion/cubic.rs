//! CUBIC (RFC 9438): the window as a function of the time since it was reduced.
//!
//! ```text
//!    W(t) = C (t - K)³ + W_max          C = 0.4 segments/s³, β = 0.7, K = ∛((W_max - cwnd) / C)
//!
//!   W_max ┤· · · · · ·╭────────╮· ·     concave up to where it was when the loss came, flat there, then convex
//!         │       ╭───╯   K    ╰─╯
//!    cwnd ┤───────╯
//! ```
//!
//! On short paths the function is slower than NewReno would be; there the window follows NewReno's line (§4.3). In a data
//! centre that is nearly always.
//!
//! Integers only (bytes, milliseconds), so that every machine computes the same: floating-point cube roots differ.

use std::time::Duration;

/// Fractions of a byte in which NewReno's line is kept: it rises by less than a byte per acknowledgment.
const FRACTION: u32 = 10;

/// State of CUBIC, RFC 9438 §4.1.2. Windows in bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Cubic {
    /// Start of congestion avoidance, moved on by every time in which the window was not used.
    epoch: Option<Duration>,
    /// Since when the window is not used.
    paused: Option<Duration>,
    /// W_max, where the plateau is.
    w_max: u32,
    /// cwnd_prior: from there on NewReno's line is as steep as NewReno (§4.3).
    prior: u32,
    /// K, in milliseconds.
    k: u64,
    /// W_est, NewReno's line, in `1 << FRACTION` of a byte.
    estimate: u64,
    /// What is left of the last increases, in bytes times the window.
    remainder: u64,
    /// §4.8: the next congestion avoidance follows a timeout.
    after_timeout: bool,
}

impl Cubic {
    /// §4.6, §4.7: something was lost with this window.
    pub(super) fn on_congestion(&mut self, window: u32) {
        self.prior = window;
        // §4.7, fast convergence: who has less than at the last loss has to share; (1 + β) / 2.
        self.w_max = if window < self.w_max { (u64::from(window) * 17 / 20) as u32 } else { window };
        (self.epoch, self.paused, self.after_timeout) = (None, None, false);
    }

    /// §4.8.
    pub(super) fn on_timeout(&mut self) {
        (self.epoch, self.paused, self.after_timeout) = (None, None, true);
    }

    /// §5.8: time in which the window is not used does not count.
    pub(super) fn pause(&mut self, now: Duration) {
        if self.epoch.is_some() {
            self.paused.get_or_insert(now);
        }
    }

    /// `acked` new bytes in congestion avoidance; returns the window from now on.
    pub(super) fn grow(&mut self, now: Duration, rtt: Duration, window: u32, mss: u32, acked: u32) -> u32 {
        let mut epoch = self.epoch.unwrap_or_else(|| self.begin(now, window, mss));
        if let Some(since) = self.paused.take() {
            epoch += now.saturating_sub(since);
        }
        self.epoch = Some(epoch);
        let t = now.saturating_sub(epoch);

        // §4.3 (figure 4): α is 3 (1 - β) / (1 + β) = 9/17 until the old window is reached again, then 1.
        let wide = u64::from(window);
        let reno = (u64::from(acked) * u64::from(mss)) << FRACTION;
        let reno = if self.estimate >= u64::from(self.prior) << FRACTION { reno } else { reno / 17 * 9 };
        self.estimate += reno / wide;
        let estimate = (self.estimate >> FRACTION).min(1 << 30) as u32;
        if self.curve(t, mss) < estimate {
            return window.max(estimate);
        }
        // §4.2: where the curve is a round trip later, but not more than half as much again. §4.4, §4.5.
        let target = u64::from(self.curve(t + rtt, mss)).clamp(wide, wide + wide / 2);
        self.remainder += (target - wide) * u64::from(acked);
        let increase = self.remainder / wide;
        self.remainder %= wide;
        window.saturating_add(increase.min(u64::from(acked)) as u32)
    }

    /// §4.2: congestion avoidance begins.
    fn begin(&mut self, now: Duration, window: u32, mss: u32) -> Duration {
        if self.after_timeout || window >= self.w_max {
            // §4.8, and the same where no loss set W_max: the plateau is here.
            (self.w_max, self.k) = (window, 0);
        } else {
            // In milliseconds: the cube root of (W_max - cwnd) / (0.4 mss) s³. Below 2^62.
            self.k = cube_root(u64::from(self.w_max - window) * 2_500_000_000 / u64::from(mss.max(1)));
        }
        (self.estimate, self.remainder, self.after_timeout) = (u64::from(window) << FRACTION, 0, false);
        now
    }

    /// §4.2 (1), in bytes.
    fn curve(&self, t: Duration, mss: u32) -> u32 {
        let t = u64::try_from(t.as_millis()).unwrap_or(u64::MAX);
        // Beyond 2^19 ms the cube alone is more than the largest window.
        let distance = t.abs_diff(self.k).min(1 << 19);
        let cube = distance.pow(3) / 2500 * u64::from(mss) / 1_000_000;
        let cube = cube.min(1 << 30) as u32;
        if t < self.k { self.w_max.saturating_sub(cube) } else { self.w_max.saturating_add(cube) }
    }
}

/// The largest integer whose cube is not above `n`.
fn cube_root(n: u64) -> u64 {
    let mut root = 0u64;
    for bit in (0..=21).rev() {
        let larger = root | 1 << bit;
        if larger.checked_pow(3).is_some_and(|cube| cube <= n) {
            root = larger;
        }
    }
    root
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the integer cube root is the floor of the real one | `cube_root_is_the_floor` |
    //! | after K the window is back where the loss was, and the way there is concave, then convex (RFC 9438 4.2) | `after_k_the_window_is_back` |
    //! | on a short path it grows as NewReno: 9/17 segments, later one, per round trip (4.3) | `short_paths_follow_newreno` |
    //! | a second loss at a lower window gives room (4.7) | `fast_convergence` |
    //! | never more than half as much again per round trip (4.2) | `growth_is_bounded` |
    //! | a pause does not count (5.8) | `a_pause_does_not_count` |
    //! | after a timeout the plateau is where avoidance begins (4.8) | `after_a_timeout_the_plateau_is_here` |
    use super::*;
    use proptest::prelude::*;

    const MSS: u32 = 1000;
    const MS: Duration = Duration::from_millis(1);

    proptest! {
        #[test]
        fn cube_root_is_the_floor(n in any::<u64>(), shift in 0u32..64) {
            let n = n >> shift;
            let root = u128::from(cube_root(n));
            prop_assert!(root.pow(3) <= u128::from(n) && (root + 1).pow(3) > u128::from(n));
        }

        #[test]
        fn growth_is_bounded(
            loss in 2u32..100_000, mss in 88u32..9000, rtt in 0u64..500, acks in proptest::collection::vec((1u32..30, 0u64..2000), 1..100),
        ) {
            let mut cubic = Cubic::default();
            cubic.on_congestion(loss * mss);
            let (mut window, mut now) = ((loss * mss / 10 * 7).max(2 * mss), Duration::ZERO);
            for (segments, later) in acks {
                now += MS * later as u32;
                let grown = cubic.grow(now, MS * rtt as u32, window, mss, segments * mss);
                prop_assert!(grown >= window);
                prop_assert!(grown - window <= segments * mss, "by more than what was acknowledged");
                window = grown.min(1 << 30);
            }
        }
    }

    /// The window after every second, with one acknowledgment of each segment, at this round-trip time.
    fn run(cubic: &mut Cubic, mut window: u32, rtt: Duration, seconds: u32) -> Vec<u32> {
        let mut now = Duration::ZERO;
        let mut seen = Vec::new();
        for second in 1..=seconds {
            while now < Duration::from_secs(u64::from(second)) {
                for _ in 0..window / MSS {
                    window = cubic.grow(now, rtt, window, MSS, MSS);
                }
                now += rtt;
            }
            seen.push(window / MSS);
        }
        seen
    }

    #[test]
    fn after_k_the_window_is_back() {
        let mut cubic = Cubic::default();
        cubic.on_congestion(1000 * MSS);
        // K = cbrt(300 / 0.4) = 9.086 s
        let seen = run(&mut cubic, 700 * MSS, MS * 100, 18);
        assert_eq!(cubic.k, 9085);
        assert!((seen[8] as i32 - 1000).abs() <= 1, "{seen:?}");
        assert!(seen[0] - 700 > 80 && seen[8] - seen[7] <= 3, "concave: {seen:?}");
        assert!(seen[17] - seen[16] > 80, "convex: {seen:?}");
    }

    #[test]
    fn short_paths_follow_newreno() {
        let mut cubic = Cubic::default();
        cubic.on_congestion(100 * MSS);
        let seen = run(&mut cubic, 70 * MSS, MS, 1);
        // 30 segments at 9/17 per millisecond take 57 ms, the other 943 ms bring one each.
        assert!((seen[0] as i32 - 1043).abs() < 10, "{seen:?}");
    }

    #[test]
    fn fast_convergence() {
        let mut cubic = Cubic::default();
        cubic.on_congestion(1000 * MSS);
        assert_eq!(cubic.w_max, 1000 * MSS);
        cubic.on_congestion(800 * MSS);
        assert_eq!((cubic.w_max, cubic.prior), (680 * MSS, 800 * MSS));
        cubic.on_congestion(900 * MSS);
        assert_eq!(cubic.w_max, 900 * MSS);
    }

    #[test]
    fn a_pause_does_not_count() {
        let mut cubic = Cubic::default();
        cubic.on_congestion(1000 * MSS);
        let before = *run(&mut cubic, 700 * MSS, MS * 100, 1).last().unwrap();
        let hour = Duration::from_secs(3600);
        cubic.pause(Duration::from_secs(1));
        cubic.pause(Duration::from_secs(2));
        let after = cubic.grow(hour, MS * 100, before * MSS, MSS, MSS);
        assert!(after - before * MSS < MSS, "{before} {after}");
    }

    #[test]
    fn after_a_timeout_the_plateau_is_here() {
        let mut cubic = Cubic::default();
        cubic.on_congestion(1000 * MSS);
        cubic.on_timeout();
        cubic.grow(Duration::ZERO, MS, 500 * MSS, MSS, MSS);
        assert_eq!((cubic.w_max, cubic.k), (500 * MSS, 0));
    }
}
