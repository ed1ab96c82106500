//! Tail loss probe (RFC 8985 §7): one segment sent when the last acknowledgments are overdue.
//!
//! Losses are found by what arrives after them. The last segments of a request have nothing after them; without a probe only
//! the retransmission timeout, hundreds of round trips later, would find them. The probe is new data if there is any, else
//! the last segment once more: its acknowledgment shows the holes before it, or that there were none.

use super::super::seq::Position;

/// The probe that is out, if one is.
#[derive(Clone, Debug, Default)]
pub(super) struct Tlp {
    /// TLP.end_seq: SND.NXT when it was sent.
    end: Option<Position>,
    /// TLP.is_retrans: it was sent before.
    again: bool,
}

impl Tlp {
    /// §7.3: one probe at a time.
    pub(super) fn is_out(&self) -> bool {
        self.end.is_some()
    }

    /// A probe was sent; everything sent ends at `nxt` now.
    pub(super) fn on_sent(&mut self, nxt: Position, again: bool) {
        *self = Tlp { end: Some(nxt), again };
    }

    /// A timeout takes over.
    pub(super) fn on_timeout(&mut self) {
        self.end = None;
    }

    /// §7.4.2: `ack` is acknowledged, the duplicate that the peer reports is `dsack`; `bare`: a duplicate acknowledgment
    /// without blocks. True if the probe has mended a loss that nobody else would have noticed: congestion control must.
    pub(super) fn on_ack(&mut self, ack: Position, dsack: Option<(Position, Position)>, bare: bool) -> bool {
        let Some(end) = self.end.filter(|end| ack >= *end) else { return false };
        if !self.again || dsack.is_some_and(|(_, dsack)| dsack == end) || (ack == end && bare) {
            // New data arrived; or (case 1, case 2) both copies of the old did.
            self.end = None;
            return false;
        }
        // Case 3: something after the probe is acknowledged and no second copy was reported.
        if ack > end {
            self.end = None;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | each case of RFC 8985 7.4.2 | `what_an_acknowledgment_says_of_the_probe` |
    use super::*;

    #[test]
    fn what_an_acknowledgment_says_of_the_probe() {
        let end = Position::initial(5000);
        let dsack = Some((end.back(1000), end));
        let other = Some((end.back(3000), end.back(2000)));
        // Sent before, acknowledged up to, reported twice, bare duplicate; then: still out, a loss was mended.
        for (again, ack, dsack, bare, out, mended) in [
            (false, end.back(1), None, false, true, false),
            (false, end, None, false, false, false),
            (true, end, None, false, true, false),
            (true, end, dsack, false, false, false),
            (true, end, other, false, true, false),
            (true, end, None, true, false, false),
            (true, end + 1, None, false, false, true),
            (true, end + 1, dsack, false, false, false),
        ] {
            let mut tlp = Tlp::default();
            tlp.on_sent(end, again);
            assert_eq!(tlp.on_ack(ack, dsack, bare), mended);
            assert_eq!(tlp.is_out(), out);
        }
    }
}
