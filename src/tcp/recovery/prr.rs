//! Proportional rate reduction (RFC 9937, which obsoletes RFC 6937): what may be sent during fast recovery, acknowledgment by acknowledgment.
//!
//! By the end of recovery as many bytes are in flight as the threshold says, without first falling silent for half a round
//! trip (as halving at once would) and without a burst at the end. When losses alone have brought the flight below the
//! threshold, as much is sent as is delivered (PRR-CRB), and one segment more for each acknowledgment that shows progress
//! and no further loss (PRR-SSRB).

/// State of one fast recovery; bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prr {
    /// prr_delivered: what the peer received in this recovery.
    delivered: u64,
    /// prr_out: what was sent in it.
    out: u64,
    /// RecoverFS: what was in flight when it began and had not arrived. (RFC 6937 counted what was reported before as well,
    /// and so ended with a burst.)
    flight: u64,
    /// sndcnt: what may be sent now.
    quota: u32,
}

impl Prr {
    pub(super) fn new(flight: u32) -> Prr {
        Prr { delivered: 0, out: 0, flight: u64::from(flight.max(1)), quota: 0 }
    }

    /// What may be sent now.
    pub(super) fn quota(&self) -> u32 {
        self.quota
    }

    /// RFC 9937 §6.2. `delivered` more bytes arrived at the peer (DeliveredData); `pipe` are in flight; `threshold` is the
    /// aim; `safe`: SND.UNA moved and nothing more is lost (SafeACK).
    pub(super) fn on_ack(&mut self, delivered: u32, pipe: u32, threshold: u32, mss: u32, safe: bool) {
        self.delivered += u64::from(delivered);
        let quota = if pipe > threshold {
            (self.delivered * u64::from(threshold)).div_ceil(self.flight).saturating_sub(self.out)
        } else {
            let more = if safe { u64::from(mss) } else { 0 };
            let limit = self.delivered.saturating_sub(self.out).max(u64::from(delivered)) + more;
            u64::from(threshold - pipe).min(limit)
        };
        // RFC 5681 §3.2 step 2: the first retransmission does not wait for anything.
        let least = if self.out == 0 { u64::from(mss) } else { 0 };
        self.quota = quota.max(least).min(1 << 30) as u32;
    }

    /// `len` bytes were sent, new or again.
    pub(super) fn on_sent(&mut self, len: u32) {
        self.out += u64::from(len);
        self.quota = self.quota.saturating_sub(len);
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | one loss in twenty: every second acknowledgment sends, and the threshold is met at the end (RFC 9937 6.2) | `the_reduction_is_proportional` |
    //! | a flight below the threshold grows by a segment per sign of progress, and stays without (PRR-SSRB, PRR-CRB) | `heavy_loss_is_filled_up_slowly` |
    //! | the first retransmission always goes | `the_first_goes_at_once` |
    use super::*;

    const MSS: u32 = 1000;

    #[test]
    fn the_reduction_is_proportional() {
        // Twenty in flight, the first is lost; threshold ten. Nineteen acknowledgments follow.
        let (mut prr, mut pipe) = (Prr::new(20 * MSS), 19 * MSS);
        let mut sent = Vec::new();
        for i in 0..19 {
            pipe -= MSS;
            prr.on_ack(MSS, pipe, 10 * MSS, MSS, false);
            let n = prr.quota() / MSS;
            assert!(n <= 1, "no burst");
            if n == 1 {
                prr.on_sent(MSS);
                pipe += MSS;
                sent.push(i);
            }
        }
        assert_eq!(pipe, 10 * MSS);
        assert!(sent.windows(2).all(|pair| pair[1] - pair[0] <= 3), "never silent for long: {sent:?}");
    }

    #[test]
    fn heavy_loss_is_filled_up_slowly() {
        // Of twenty, fifteen are lost; threshold ten, so the flight is five below already.
        for (safe, expected) in [(true, [2, 2, 2, 2, 2, 1]), (false, [1; 6])] {
            let (mut prr, mut pipe) = (Prr::new(20 * MSS), 5 * MSS);
            let quotas = expected.map(|_| {
                pipe -= MSS;
                prr.on_ack(MSS, pipe, 10 * MSS, MSS, safe);
                let quota = prr.quota();
                pipe += quota;
                prr.on_sent(quota);
                quota / MSS
            });
            assert_eq!(quotas, expected);
            assert_eq!(pipe, if safe { 10 } else { 5 } * MSS);
        }
    }

    #[test]
    fn the_first_goes_at_once() {
        let mut prr = Prr::new(20 * MSS);
        prr.on_ack(0, 19 * MSS, 10 * MSS, MSS, false);
        assert_eq!(prr.quota(), MSS);
        prr.on_sent(MSS);
        prr.on_ack(0, 19 * MSS, 10 * MSS, MSS, false);
        assert_eq!(prr.quota(), 0);
    }
}
