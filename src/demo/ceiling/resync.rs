//! How long the device is without framing: from the packet that reveals a lost header to the first byte placed again.

use super::measure::Measured;

/// A distribution of packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    sorted: Vec<u32>,
}

/// Bounds of the histogram: packets up to and including.
pub const BOUNDS: [u32; 9] = [16, 32, 64, 96, 128, 256, 512, 1024, u32::MAX];

impl Distribution {
    /// Of these.
    pub fn new(mut packets: Vec<u32>) -> Distribution {
        packets.sort_unstable();
        Distribution { sorted: packets }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// The least value that this share of all does not exceed; 0 without any.
    pub fn quantile(&self, share: f64) -> u32 {
        let rank = (share * self.len() as f64).ceil() as usize;
        self.sorted.get(rank.clamp(1, self.len().max(1)) - 1).copied().unwrap_or(0)
    }

    /// Numbers up to each of [`BOUNDS`].
    pub fn histogram(&self) -> [usize; BOUNDS.len()] {
        let up_to = BOUNDS.map(|bound| self.sorted.partition_point(|packets| *packets <= bound));
        std::array::from_fn(|i| up_to[i] - if i == 0 { 0 } else { up_to[i - 1] })
    }
}

/// What is told of the episodes of one or more points.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Packets to the first placed byte.
    pub packets: Distribution,
    /// Requests for confirmation.
    pub requests: u64,
    /// Most requests in one episode: one more for each guess that another loss made worthless.
    pub most_requests: u32,
    /// Requests that were made while another was outstanding.
    pub overlapping: u64,
    /// Requests that were not confirmed in the poll that was given their header.
    pub late: u64,
}

impl Summary {
    /// Of these points.
    pub fn of<'a>(measured: impl IntoIterator<Item = &'a Measured>) -> Summary {
        let (mut packets, mut requests, mut most, mut overlapping, mut late) = (Vec::new(), 0, 0, 0, 0);
        for measured in measured {
            for episode in &measured.episodes {
                packets.push(episode.packets);
                requests += u64::from(episode.requests);
                overlapping += u64::from(episode.overlapping);
                most = most.max(episode.requests);
            }
            late += measured.late_confirmations;
        }
        Summary { packets: Distribution::new(packets), requests, most_requests: most, overlapping, late }
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | quantiles and histogram are those of the sorted list, from nothing to a thousand | `quantiles_and_histogram` |
    use super::*;

    #[test]
    fn quantiles_and_histogram() {
        let none = Distribution::new(Vec::new());
        assert_eq!((none.quantile(0.5), none.histogram(), none.is_empty()), (0, [0; 9], true));
        let all = Distribution::new((1..=1000).rev().collect());
        assert_eq!([0.0, 0.5, 0.9, 0.99, 1.0].map(|share| all.quantile(share)), [1, 500, 900, 990, 1000]);
        assert_eq!(all.histogram(), [16, 16, 32, 32, 32, 128, 256, 488, 0]);
        assert_eq!(Distribution::new(vec![7]).quantile(0.5), 7);
    }
}
